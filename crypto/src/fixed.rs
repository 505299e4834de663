//! Fixed: what is sealed so that its length tells nothing: always as many bytes.
//! Owns: the sealed form of settings and signals. Never: computes a primitive; ChaCha20-Poly1305 (RFC 8439) is a kept
//! library's, the nonce is of the chance handed in.

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::AeadType;
use zeroize::Zeroizing;

use crate::chance::Chance;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Seals a content into `bytes` bytes; nothing when it is too long for that. What is sealed: the length of the content, the
/// content, and zeros.
pub(crate) fn seal(key: &[u8], bytes: usize, about: &[u8], content: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
    let plain_bytes = bytes.checked_sub(NONCE_BYTES + TAG_BYTES)?;
    let length = u16::try_from(content.len()).ok().filter(|_| content.len() + 2 <= plain_bytes)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(plain_bytes));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(content);
    plain.resize(plain_bytes, 0);
    let nonce: [u8; NONCE_BYTES] = chance.bytes();
    let sealed = RustCrypto::default().aead_encrypt(AeadType::ChaCha20Poly1305, key, &plain, &nonce, about);
    sealed.ok().map(|sealed| [nonce.as_slice(), &sealed].concat())
}

/// Opens it; nothing when it is of another key, about something else, or changed.
pub(crate) fn open(key: &[u8], about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let plain = RustCrypto::default().aead_decrypt(AeadType::ChaCha20Poly1305, key, sealed, nonce, about).ok()?;
    let (length, rest) = plain.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length))).map(<[u8]>::to_vec)
}
