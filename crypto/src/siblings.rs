//! Siblings: what one device of an account seals for another, beyond the seal of their own thread.
//! Owns: the key of a history on its way, the key under which a rotated identity key is handed on, and the sealed form.
//! Never: computes a primitive; HKDF (RFC 5869) and ChaCha20-Poly1305 (RFC 8439) are a kept library's.
//! Rules: docs/protocol/devices.md.

use std::fmt;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::{AeadType, HashType};
use zeroize::Zeroizing;

use crate::chance::Chance;
use crate::keys::KeyPair;

const NONCE_BYTES: usize = 12;
/// The seed of a key pair is uniformly random: it is expanded, not extracted (RFC 5869 §3.3).
const HANDOVER: &[u8] = b"whimbrel identity handover 1\0";

/// A key that devices of one account share.
#[derive(Clone, PartialEq, Eq)]
pub struct SiblingKey(Zeroizing<[u8; 32]>);

impl SiblingKey {
    /// A fresh key.
    pub fn generate(chance: &mut Chance) -> Self {
        Self(Zeroizing::new(chance.bytes()))
    }

    /// Wraps the bytes of a stored key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret, for storing it and for telling it inside a seal.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The key that whoever holds an identity key has, and nobody else: what follows that key is handed on under it.
    pub fn of_identity(identity: &KeyPair) -> Self {
        let key = RustCrypto::default().hkdf_expand(HashType::Sha2_256, &*identity.secret_bytes(), HANDOVER, 32);
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8160 bytes")]
        let key = key.expect("32 bytes are not too many");
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.iter_mut().zip(key.as_slice()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// Seals words; whoever opens them names the same context. Nothing: they are too long for the library.
    pub fn seal(&self, context: &[u8], plain: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = chance.bytes();
        let library = RustCrypto::default();
        let sealed = library.aead_encrypt(AeadType::ChaCha20Poly1305, &*self.0, plain, &nonce, context);
        sealed.ok().map(|sealed| [nonce.as_slice(), &sealed].concat())
    }

    /// Opens them; nothing when they are of another key or context, or changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let library = RustCrypto::default();
        let plain = library.aead_decrypt(AeadType::ChaCha20Poly1305, &*self.0, sealed, nonce, context).ok()?;
        Some(Zeroizing::new(plain))
    }
}

impl fmt::Debug for SiblingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiblingKey(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    fn chance(byte: u8) -> Chance {
        Chance::from_seed(Seed::from_bytes([byte; 32]))
    }

    #[test]
    fn words_open_under_their_key_and_context_only_and_unchanged() {
        let mut chance = chance(1);
        let key = SiblingKey::generate(&mut chance);
        let sealed = key.seal(b"to two", b"a page", &mut chance).unwrap();
        assert_eq!(key.open(b"to two", &sealed).unwrap().as_slice(), b"a page");
        assert!(key.open(b"to three", &sealed).is_none());
        assert!(SiblingKey::generate(&mut chance).open(b"to two", &sealed).is_none());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(key.open(b"to two", &changed).is_none());
        }
        assert!(key.open(b"to two", &[]).is_none());
        assert_ne!(sealed, key.seal(b"to two", b"a page", &mut chance).unwrap(), "sealed anew each time");
    }

    #[test]
    fn an_identity_key_gives_one_key_and_another_gives_another() {
        let (one, other) = (KeyPair::generate(&mut chance(2)), KeyPair::generate(&mut chance(3)));
        let same = KeyPair::from_seed_bytes(*one.secret_bytes());
        assert_eq!(SiblingKey::of_identity(&one), SiblingKey::of_identity(&same));
        assert_ne!(SiblingKey::of_identity(&one), SiblingKey::of_identity(&other));
        assert_ne!(*SiblingKey::of_identity(&one).secret_bytes(), *one.secret_bytes());
    }
}
