//! Chance for MLS: the kept cryptography, with every random byte drawn from the one [`Chance`] that was handed in.
//! Owns: the crypto provider the MLS library is given, and the way around two entropy sources of its own.
//! Never: computes a primitive; each is a kept library's.
//!
//! The library's provider draws from the operating system in two places: its own generator (replaced here), and a new
//! one inside every HPKE encryption (RFC 9180), made by an associated function that takes no argument. The second is
//! handed over through a thread-local slot, filled right before the call and emptied by it.
//!
//! The library encrypts a path's secrets on several threads at once. What each encryption draws follows from what it
//! encrypts and a secret of the call, never from whose turn it is.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hpke_rs::{Hpke, Mode};
use hpke_rs_crypto::error::Error as HpkeCryptoError;
use hpke_rs_crypto::types::{AeadAlgorithm, KdfAlgorithm, KemAlgorithm};
use hpke_rs_crypto::{HpkeCrypto, HpkeTestRng};
use hpke_rs_rust_crypto::HpkeRustCrypto;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext, HpkeConfig,
    HpkeKdfType, HpkeKemType, HpkeKeyPair, KemOutput, SignatureScheme,
};
use rand_chacha::rand_core::{TryCryptoRng, TryRng};
use whimbrel_protocol::id::{PublicKey, Signature};
use x_wing::{Encapsulate, TryKeyInit};
use zeroize::{Zeroize, Zeroizing};

use crate::chance::Chance;
use crate::keys::{self, KeyPair};

/// The library's fixed-length secret, as its traits name it.
type SecretBytes = openmls::prelude::tls_codec::SecretVLBytes;

/// The crypto and randomness provider of one call.
pub(super) struct Crypto<'a> {
    primitives: &'a RustCrypto,
    suite: Ciphersuite,
    chance: Mutex<Chance>,
    /// What the chance of every HPKE operation is derived from, with its inputs.
    hpke: Zeroizing<[u8; 32]>,
    #[cfg(test)]
    spoilt: Mutex<spoilt::Next>,
}

impl<'a> Crypto<'a> {
    pub(super) fn new(primitives: &'a RustCrypto, suite: Ciphersuite, mut chance: Chance) -> Self {
        let hpke = Zeroizing::new(chance.fork("hpke").bytes());
        Self {
            primitives,
            suite,
            chance: Mutex::new(chance),
            hpke,
            #[cfg(test)]
            spoilt: Mutex::new(spoilt::of_this_thread()),
        }
    }

    /// The one suite there is for the library.
    pub(super) const fn suite(&self) -> Ciphersuite {
        self.suite
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        // Nothing panics while it is held, and a half-drawn stream is as random as any.
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// HPKE with chance for these inputs. The same inputs in one call draw the same, and are encrypted to the same bytes.
    fn hpke(&self, config: &HpkeConfig, inputs: &[&[u8]]) -> Result<Hpke<Handed>, CryptoError> {
        let kem = match config.0 {
            HpkeKemType::XWingKemDraft6 => KemAlgorithm::XWingDraft06,
            #[cfg(test)]
            HpkeKemType::DhKem25519 => KemAlgorithm::DhKem25519,
            _ => return Err(CryptoError::UnsupportedCiphersuite),
        };
        let kdf = match config.1 {
            HpkeKdfType::HkdfSha256 => KdfAlgorithm::HkdfSha256,
            _ => return Err(CryptoError::UnsupportedCiphersuite),
        };
        let aead = match config.2 {
            HpkeAeadType::AesGcm128 => AeadAlgorithm::Aes128Gcm,
            #[cfg(test)]
            HpkeAeadType::ChaCha20Poly1305 => AeadAlgorithm::ChaCha20Poly1305,
            _ => return Err(CryptoError::UnsupportedCiphersuite),
        };
        let chance = Chance::for_inputs(&self.hpke, inputs);
        HANDED.with(|slot| slot.replace(Some(chance)));
        let hpke = Hpke::new(Mode::Base, kem, kdf, aead);
        HANDED.with(|slot| slot.take());
        Ok(hpke)
    }
}

impl OpenMlsRand for Crypto<'_> {
    type Error = Infallible;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Infallible> {
        Ok(self.chance().bytes())
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Infallible> {
        let mut bytes = vec![0; len];
        self.chance().fill(&mut bytes);
        Ok(bytes)
    }
}

impl OpenMlsCrypto for Crypto<'_> {
    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        if suite == self.suite { Ok(()) } else { Err(CryptoError::UnsupportedCiphersuite) }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![self.suite]
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.primitives.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.primitives.hmac(hash, key, message)
    }

    fn hkdf_expand(&self, hash: HashType, prk: &[u8], info: &[u8], len: usize) -> Result<SecretBytes, CryptoError> {
        self.primitives.hkdf_expand(hash, prk, info, len)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.primitives.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.primitives.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        sealed: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.primitives.aead_decrypt(alg, key, sealed, nonce, aad)
    }

    fn signature_key_gen(&self, _: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        // Device keys are made in `keys`, and only there.
        Err(CryptoError::UnsupportedSignatureScheme)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        if alg != SignatureScheme::ED25519 {
            return Err(CryptoError::UnsupportedSignatureScheme);
        }
        // Strictly, as everywhere in the house; the library's own check takes keys of small order.
        let key = PublicKey::try_from(key).map_err(|_| CryptoError::InvalidSignature)?;
        let signature = Signature::try_from(signature).map_err(|_| CryptoError::InvalidSignature)?;
        keys::verify_bare(&key, data, &signature).map_err(|_| CryptoError::InvalidSignature)
    }

    fn sign(&self, _: SignatureScheme, _: &[u8], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        // Signing goes through `DeviceSigner`, so that no secret key passes through here.
        Err(CryptoError::UnsupportedSignatureScheme)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let (kem_output, ciphertext) = self
            .hpke(&config, &[b"seal", key, info, aad, plain])?
            .seal(&key.into(), info, aad, plain, None, None, None)
            .map_err(|_| CryptoError::HpkeEncryptionError)?;
        Ok(HpkeCiphertext { kem_output: kem_output.into(), ciphertext: ciphertext.into() })
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.hpke(&config, &[])?
            .open(input.kem_output.as_slice(), &key.into(), info, aad, input.ciphertext.as_slice(), None, None, None)
            .map_err(|_| CryptoError::HpkeDecryptionError)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        len: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        let (kem_output, sender) = self
            .hpke(&config, &[b"export", key, info, context])?
            .setup_sender(&key.into(), info, None, None, None)
            .map_err(|_| CryptoError::SenderSetupError)?;
        let exported = sender.export(context, len).map_err(|_| CryptoError::ExporterError)?;
        Ok((kem_output, exported.into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        len: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        let receiver = self
            .hpke(&config, &[])?
            .setup_receiver(enc, &key.into(), info, None, None, None)
            .map_err(|_| CryptoError::ReceiverSetupError)?;
        Ok(receiver.export(context, len).map_err(|_| CryptoError::ExporterError)?.into())
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        let pair = self.hpke(&config, &[])?.derive_key_pair(ikm).map_err(|_| CryptoError::CryptoLibraryError)?;
        let (private, public) = pair.into_keys();
        let public = public.as_slice().to_vec();
        #[cfg(test)]
        let public = spoilt::instead_of(&self.spoilt, public);
        Ok(HpkeKeyPair { private: private.as_slice().into(), public })
    }
}

/// A member with a program of its own, in tests: one of the keys it derives is not what it says.
#[cfg(test)]
pub(crate) mod spoilt {
    use std::cell::RefCell;
    use std::sync::{Mutex, PoisonError};

    /// How many keys come before it, and what stands in its place.
    pub(super) type Next = Option<(usize, Vec<u8>)>;

    thread_local! {
        static OF_THIS_THREAD: RefCell<Next> = const { RefCell::new(None) };
    }

    /// Calls an engine with another key in place of the one that it derives after so many others.
    pub(crate) fn with<T>(before: usize, key: &[u8], call: impl FnOnce() -> T) -> T {
        OF_THIS_THREAD.set(Some((before, key.to_vec())));
        let done = call();
        OF_THIS_THREAD.set(None);
        done
    }

    /// The library derives on several threads for the one that calls.
    pub(super) fn of_this_thread() -> Next {
        OF_THIS_THREAD.with_borrow(Clone::clone)
    }

    pub(super) fn instead_of(next: &Mutex<Next>, public: Vec<u8>) -> Vec<u8> {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        match next.take() {
            None => public,
            Some((0, key)) => key,
            Some((before, key)) => {
                *next = Some((before - 1, key));
                public
            }
        }
    }
}

/// The device key as the MLS library asks for signatures. RFC 9420 §5.1.2 labels what is signed.
pub(super) struct DeviceSigner<'a>(pub(super) &'a KeyPair);

impl Signer for DeviceSigner<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign_bare(payload).as_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

thread_local! {
    static HANDED: RefCell<Option<Chance>> = const { RefCell::new(None) };
}

/// The kept HPKE cryptography with handed-in chance.
#[derive(Debug)]
struct Handed;

/// What [`Handed`] draws from; nothing, in operations that need no chance.
struct HandedChance(Option<Chance>);

impl HpkeCrypto for Handed {
    type HpkePrng = HandedChance;

    fn name() -> String {
        HpkeRustCrypto::name()
    }

    fn supports_kdf(alg: KdfAlgorithm) -> Result<(), HpkeCryptoError> {
        HpkeRustCrypto::supports_kdf(alg)
    }

    fn supports_kem(alg: KemAlgorithm) -> Result<(), HpkeCryptoError> {
        let classical = cfg!(test) && alg == KemAlgorithm::DhKem25519;
        if alg == KemAlgorithm::XWingDraft06 || classical { Ok(()) } else { Err(HpkeCryptoError::UnknownKemAlgorithm) }
    }

    fn supports_aead(alg: AeadAlgorithm) -> Result<(), HpkeCryptoError> {
        HpkeRustCrypto::supports_aead(alg)
    }

    fn prng() -> HandedChance {
        HandedChance(HANDED.with(|slot| slot.take()))
    }

    fn kdf_extract(alg: KdfAlgorithm, salt: &[u8], ikm: &[u8]) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::kdf_extract(alg, salt, ikm)
    }

    fn kdf_expand(alg: KdfAlgorithm, prk: &[u8], info: &[u8], len: usize) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::kdf_expand(alg, prk, info, len)
    }

    fn dh(alg: KemAlgorithm, pk: &[u8], sk: &[u8]) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::dh(alg, pk, sk)
    }

    fn secret_to_public(alg: KemAlgorithm, sk: &[u8]) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::secret_to_public(alg, sk)
    }

    fn kem_key_gen(alg: KemAlgorithm, chance: &mut HandedChance) -> Result<(Vec<u8>, Vec<u8>), HpkeCryptoError> {
        let seed = zeroize::Zeroizing::new(chance.draw::<32>());
        HpkeRustCrypto::kem_key_gen_derand(alg, &seed[..])
    }

    fn kem_key_gen_derand(alg: KemAlgorithm, seed: &[u8]) -> Result<(Vec<u8>, Vec<u8>), HpkeCryptoError> {
        HpkeRustCrypto::kem_key_gen_derand(alg, seed)
    }

    fn kem_encaps(
        alg: KemAlgorithm,
        pk_r: &[u8],
        chance: &mut HandedChance,
    ) -> Result<(Vec<u8>, Vec<u8>), HpkeCryptoError> {
        // The one operation that must be asked of the KEM itself: the layer between takes only its own generator.
        Self::supports_kem(alg)?;
        let key = x_wing::EncapsulationKey::new_from_slice(pk_r).map_err(|_| HpkeCryptoError::KemInvalidPublicKey)?;
        let (ciphertext, shared) = key.encapsulate_with_rng(chance);
        Ok((shared.as_slice().to_vec(), ciphertext.as_slice().to_vec()))
    }

    fn kem_decaps(alg: KemAlgorithm, ct: &[u8], sk_r: &[u8]) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::kem_decaps(alg, ct, sk_r)
    }

    fn dh_validate_sk(alg: KemAlgorithm, sk: &[u8]) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::dh_validate_sk(alg, sk)
    }

    fn aead_seal(
        alg: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        msg: &[u8],
    ) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::aead_seal(alg, key, nonce, aad, msg)
    }

    fn aead_open(
        alg: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        msg: &[u8],
    ) -> Result<Vec<u8>, HpkeCryptoError> {
        HpkeRustCrypto::aead_open(alg, key, nonce, aad, msg)
    }
}

impl HandedChance {
    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        // Weak randomness would be silent; this is not.
        #[expect(clippy::expect_used, reason = "an invariant of this file")]
        self.0.as_mut().expect("chance was handed over before it was drawn").fill(bytes);
    }
}

impl TryRng for HandedChance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.draw()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.draw()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for HandedChance {}

impl HpkeTestRng for HandedChance {
    type Error = fmt::Error;

    fn try_fill_test_bytes(&mut self, bytes: &mut [u8]) -> Result<(), fmt::Error> {
        self.fill(bytes);
        Ok(())
    }

    fn seed(&mut self, _: &[u8]) {}
}

impl Zeroize for HandedChance {
    fn zeroize(&mut self) {
        self.0 = None;
    }
}
