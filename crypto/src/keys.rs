//! Keys: ed25519 key pairs and signatures that say what they are for.
//! Owns: making, holding and wiping secret keys; strict verification.
//! Never: decides whose key it is (`account_log`, `certificate`).
//! Source: RFC 8032 (ed25519); strict verification as in "Taming the many EdDSAs" (Chalkias et al., 2020) §3.

mod valid;

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use whimbrel_protocol::id::{PublicKey, Signature};
use zeroize::Zeroizing;

use crate::chance::Chance;
use valid::Seal;

/// The signature does not stand for these bytes under this key and context, or the key is no acceptable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature not valid")]
pub struct SignatureError;

/// An ed25519 key pair. The secret half is wiped when dropped and never printed.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// A fresh key pair.
    pub fn generate(chance: &mut Chance) -> Self {
        let seed = Zeroizing::new(chance.bytes::<32>());
        Self(SigningKey::from_bytes(&seed))
    }

    /// The key pair of a 32-byte secret (RFC 8032 §5.1.5).
    pub fn from_seed_bytes(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// The secret, for storing it sealed.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` for one use, named by `context`: a signature made for one use never passes for another.
    /// What is signed is the context, a zero byte, then the bytes; so a context holds no zero byte.
    pub fn sign(&self, context: &str, bytes: &[u8]) -> Signature {
        self.sign_bare(&in_context(context, bytes))
    }

    /// Signs for formats that bring their own separation: X.509 and MLS.
    pub(crate) fn sign_bare(&self, bytes: &[u8]) -> Signature {
        Signature::from_bytes(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public())
    }
}

/// Checks a signature of [`KeyPair::sign`], strictly: no small-order key or nonce, no second form of a signature.
///
/// # Errors
/// The signature is not valid; no reason is given.
pub fn verify(key: &PublicKey, context: &str, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    verify_bare(key, &in_context(context, bytes), signature)
}

/// Checks a signature of [`KeyPair::sign_bare`], as strictly. One that was found valid is not computed again for a while.
pub(crate) fn verify_bare(key: &PublicKey, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    let seal = Seal::of(key, bytes, signature);
    if seal.is_known() {
        return Ok(());
    }
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| SignatureError)?;
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.verify_strict(bytes, &signature).map_err(|_| SignatureError)?;
    seal.remember();
    Ok(())
}

/// Whether a key can verify anything: a point on the curve, and not of small order (whoever publishes one of those
/// has signatures that pass for many messages).
pub(crate) fn is_acceptable(key: &PublicKey) -> bool {
    VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak())
}

fn in_context(context: &str, bytes: &[u8]) -> Vec<u8> {
    debug_assert!(!context.as_bytes().contains(&0), "a context holds no zero byte");
    let mut signed = Vec::with_capacity(context.len() + 1 + bytes.len());
    signed.extend_from_slice(context.as_bytes());
    signed.push(0);
    signed.extend_from_slice(bytes);
    signed
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn signatures_agree_with_the_standard() {
        // RFC 8032 §7.1, tests 1 to 3: secret, public, message, signature.
        let vectors: [(&str, &str, &[u8], &str); 3] = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &[],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                 5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                 18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (secret, public, message, signature) in vectors {
            let pair = KeyPair::from_seed_bytes(unhex(secret));
            let signature = Signature::from_bytes(unhex(signature));
            assert_eq!(pair.public(), PublicKey::from_bytes(unhex(public)));
            assert_eq!(pair.sign_bare(message), signature);
            verify_bare(&pair.public(), message, &signature).unwrap();
        }
    }

    #[test]
    fn a_signature_for_one_use_does_not_pass_for_another() {
        let pair = KeyPair::from_seed_bytes([1; 32]);
        let signature = pair.sign("one use", b"bytes");
        verify(&pair.public(), "one use", b"bytes", &signature).unwrap();
        assert_eq!(verify(&pair.public(), "another use", b"bytes", &signature), Err(SignatureError));
        assert_eq!(verify(&pair.public(), "one use", b"byte", &signature), Err(SignatureError));
        assert!(verify_bare(&pair.public(), b"bytes", &signature).is_err());
    }

    #[test]
    fn what_was_found_valid_says_nothing_of_other_bytes_keys_or_signatures() {
        let (pair, message) = (KeyPair::from_seed_bytes([1; 32]), *b"bytes");
        let signature = pair.sign_bare(&message);
        for _ in 0..2 {
            verify_bare(&pair.public(), &message, &signature).unwrap();
        }
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * 32 {
            let key = PublicKey::from_bytes(flipped(pair.public().as_bytes(), bit).try_into().unwrap());
            assert!(verify_bare(&key, &message, &signature).is_err(), "key, bit {bit}");
        }
        for bit in 0..8 * 64 {
            let signature = Signature::from_bytes(flipped(signature.as_bytes(), bit).try_into().unwrap());
            assert!(verify_bare(&pair.public(), &message, &signature).is_err(), "signature, bit {bit}");
        }
        for bit in 0..8 * message.len() {
            assert!(verify_bare(&pair.public(), &flipped(&message, bit), &signature).is_err(), "bytes, bit {bit}");
        }
        assert!(verify_bare(&pair.public(), b"byte", &signature).is_err());
        verify_bare(&pair.public(), &message, &signature).unwrap();
    }

    #[test]
    fn keys_of_small_order_verify_nothing() {
        // "Taming the many EdDSAs", table 1: the eight-torsion points in canonical form.
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        ] {
            let key = PublicKey::from_bytes(unhex(point));
            assert!(!is_acceptable(&key));
            // With R of small order and s = 0 the lax equation holds for many messages.
            for nonce in [[0; 32], *key.as_bytes()] {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&nonce);
                for message in 0..16_u8 {
                    assert!(verify_bare(&key, &[message], &Signature::from_bytes(signature)).is_err());
                }
            }
        }
    }

    #[test]
    fn edge_cases_on_which_implementations_differ_are_decided_strictly() {
        // Facts of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020, eprint 2020/1244), from the vectors that
        // go with it (novifinancial/ed25519-speccheck, cases.json): message, key, signature; what we say of it.
        const SMALL: &str = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa";
        const MIXED: &str = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
        const MIXED_BOTH: &str = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d";
        const LARGE_S: &str = "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623";
        let vectors: [(&str, &str, &str, &str, bool); 10] = [
            (
                "s is zero, key and nonce are of small order",
                "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
                SMALL,
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a\
                 0000000000000000000000000000000000000000000000000000000000000000",
                false,
            ),
            (
                "the key is of small order",
                "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
                SMALL,
                "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43\
                 a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
                false,
            ),
            (
                "the nonce is of small order",
                "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
                MIXED,
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa\
                 8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
                false,
            ),
            (
                "key and nonce are of mixed order, and the equation holds without the cofactor: the one that passes",
                "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
                MIXED_BOTH,
                "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f\
                 87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
                true,
            ),
            (
                "it holds with the cofactor alone",
                "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
                MIXED_BOTH,
                "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512\
                 5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
                false,
            ),
            (
                "with the cofactor alone, and only when the scalar is not reduced before",
                "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
                MIXED_BOTH,
                "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7\
                 e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
                false,
            ),
            (
                "s is over the group order",
                "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
                LARGE_S,
                "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e\
                 547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
                false,
            ),
            (
                "s is far over it: its highest bits are set",
                "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
                LARGE_S,
                "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942\
                 7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
                false,
            ),
            (
                "the nonce is of small order in a second form, hashed as it is",
                "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
                MIXED,
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\
                 454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
                false,
            ),
            (
                "the nonce is of small order in a second form, hashed in the first",
                "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
                MIXED,
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\
                 084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
                false,
            ),
        ];
        for (what, message, key, signature, passes) in vectors {
            let (key, message) = (PublicKey::from_bytes(unhex(key)), unhex::<32>(message));
            let verified = verify_bare(&key, &message, &Signature::from_bytes(unhex(signature)));
            assert_eq!(verified.is_ok(), passes, "{what}");
        }
    }

    #[test]
    fn the_second_form_of_a_signature_is_refused() {
        let pair = KeyPair::from_seed_bytes([1; 32]);
        let mut bytes = *pair.sign_bare(b"x").as_bytes();
        // s + L, the group order (RFC 8032 §5.1.7 wants s below L).
        let order: [u8; 32] = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0_u16;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(verify_bare(&pair.public(), b"x", &Signature::from_bytes(bytes)).is_err());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let pair = KeyPair::from_seed_bytes([1; 32]);
        assert_eq!(format!("{pair:?}"), format!("KeyPair({:?})", pair.public()));
    }
}
