//! Wrap: a data key sealed with a passphrase, as it is kept beside the store.
//! Owns: the format of the key file, the cost of a guess, the bounds of what is read.
//! Never: a file; whoever keeps the bytes writes them whole.
//! Source: Argon2id (RFC 9106), XChaCha20-Poly1305. Rules: docs/protocol/at-rest.md.
//!
//! `magic (16) | memory in KiB (4) | passes (4) | lanes (4) | salt (16) | id of the data key (16) | nonce (24) |
//! AEAD(data key) (48)`, integers little-endian; everything before the nonce is associated data.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use super::keys::KEY_ID_BYTES;
use super::{KeyId, SealKey};
use crate::chance::Chance;

const MAGIC: &[u8; 16] = b"whimbrel key 01\n";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 16 + 12 + SALT_BYTES + KEY_ID_BYTES;

/// Length of a wrapped key.
pub const WRAPPED_BYTES: usize = HEADER_BYTES + NONCE_BYTES + 48;

/// A passphrase. Wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes what somebody typed or a file holds.
    ///
    /// # Errors
    /// [`PassphraseError`]: it is empty or over its bound.
    pub fn new(bytes: Vec<u8>) -> Result<Self, PassphraseError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=limits::PASSPHRASE_BYTES_MAX => Ok(Self(bytes)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// What is no passphrase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Nothing in it.
    #[error("the passphrase is empty")]
    Empty,
    /// Over [`limits::PASSPHRASE_BYTES_MAX`].
    #[error("a passphrase has at most {} bytes", limits::PASSPHRASE_BYTES_MAX)]
    TooLong,
}

/// What one guess costs (RFC 9106 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// The second choice of RFC 9106 §4, for machines that have other things to do with their memory.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// Why a wrapped key does not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The passphrase is another, or the file was changed: nobody can tell which.
    #[error("this passphrase does not open it")]
    Refused,
    /// It is no wrapped key, or is cut short.
    #[error("this is no key file")]
    Malformed,
    /// A newer version made it.
    #[error("the key file is of a newer version")]
    Newer,
    /// It asks for more memory or time than is ever given.
    #[error("the key file asks for a cost beyond all bounds")]
    Cost,
}

/// Seals a data key with a passphrase. Takes as long as `cost` says.
///
/// # Errors
/// [`UnwrapError::Cost`]: the cost is beyond the bounds, or below what Argon2 takes.
pub fn wrap(
    key: &SealKey,
    passphrase: &Passphrase,
    cost: Cost,
    chance: &mut Chance,
) -> Result<[u8; WRAPPED_BYTES], UnwrapError> {
    let mut header = Vec::with_capacity(WRAPPED_BYTES);
    header.extend_from_slice(MAGIC);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    let salt: [u8; SALT_BYTES] = chance.bytes();
    header.extend_from_slice(&salt);
    header.extend_from_slice(key.id().as_bytes());
    let cipher = stretched(passphrase, cost, &salt)?;
    let nonce: [u8; NONCE_BYTES] = chance.bytes();
    let secret = key.secret_bytes();
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: &secret[..], aad: &header });
    let sealed = sealed.map_err(|_| UnwrapError::Malformed)?;
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&sealed);
    header.try_into().map_err(|_| UnwrapError::Malformed)
}

/// Opens what [`wrap`] made. Takes as long as the cost in it says.
///
/// # Errors
/// As [`UnwrapError`] says.
pub fn unwrap(wrapped: &[u8], passphrase: &Passphrase) -> Result<SealKey, UnwrapError> {
    let (header, rest) = header_of(wrapped)?;
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(UnwrapError::Malformed)
    };
    let cost = Cost { memory_kib: number(16)?, passes: number(20)?, lanes: number(24)? };
    let salt = header.get(28..28 + SALT_BYTES).ok_or(UnwrapError::Malformed)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(UnwrapError::Malformed)?;
    let cipher = stretched(passphrase, cost, salt)?;
    let opened = cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: header });
    let opened = Zeroizing::new(opened.map_err(|_| UnwrapError::Refused)?);
    Ok(SealKey::from_bytes(opened.as_slice().try_into().map_err(|_| UnwrapError::Malformed)?))
}

/// Which data key is wrapped here: for whoever may have it from elsewhere. Nothing proves it before it is opened.
///
/// # Errors
/// [`UnwrapError::Malformed`], [`UnwrapError::Newer`].
pub fn id_of(wrapped: &[u8]) -> Result<KeyId, UnwrapError> {
    let (header, _) = header_of(wrapped)?;
    header.last_chunk().map(|id| KeyId::from_bytes(*id)).ok_or(UnwrapError::Malformed)
}

fn header_of(wrapped: &[u8]) -> Result<(&[u8], &[u8]), UnwrapError> {
    let Some((magic, _)) = wrapped.split_first_chunk::<16>() else { return Err(UnwrapError::Malformed) };
    if magic != MAGIC {
        // Digits and the line end may differ in a later version.
        let ours = magic.starts_with(b"whimbrel key ");
        return Err(if ours { UnwrapError::Newer } else { UnwrapError::Malformed });
    }
    match wrapped.split_at_checked(HEADER_BYTES) {
        Some(parts) if wrapped.len() == WRAPPED_BYTES => Ok(parts),
        _ => Err(UnwrapError::Malformed),
    }
}

fn stretched(passphrase: &Passphrase, cost: Cost, salt: &[u8]) -> Result<XChaCha20Poly1305, UnwrapError> {
    let Cost { memory_kib, passes, lanes } = cost;
    if memory_kib > limits::KDF_MEMORY_KIB_MAX || passes > limits::KDF_PASSES_MAX || lanes > limits::KDF_LANES_MAX {
        return Err(UnwrapError::Cost);
    }
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| UnwrapError::Cost)?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(&passphrase.0, salt, &mut key[..]).map_err(|_| UnwrapError::Cost)?;
    Ok(XChaCha20Poly1305::new(Key::from_slice(&key[..])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn chance() -> Chance {
        Chance::from_seed(Seed::from_bytes([9; 32]))
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.into()).unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_with_its_passphrase_and_with_no_other() {
        let key = SealKey::generate(&mut chance());
        let wrapped = wrap(&key, &passphrase("correct horse"), CHEAP, &mut chance()).unwrap();
        assert_eq!(id_of(&wrapped).unwrap(), key.id());
        assert_eq!(unwrap(&wrapped, &passphrase("correct horse")).unwrap().secret_bytes(), key.secret_bytes());
        for wrong in ["correct horse ", "Correct horse", "x"] {
            assert_eq!(unwrap(&wrapped, &passphrase(wrong)).unwrap_err(), UnwrapError::Refused);
        }
    }

    #[test]
    fn whatever_is_done_to_a_wrapped_key_it_is_refused_and_costs_no_more_than_the_bounds() {
        let key = SealKey::generate(&mut chance());
        let wrapped = wrap(&key, &passphrase("p"), CHEAP, &mut chance()).unwrap();
        for at in 0..wrapped.len() {
            let mut bad = wrapped;
            bad[at] ^= 1;
            assert!(unwrap(&bad, &passphrase("p")).is_err(), "byte {at}");
            assert_eq!(unwrap(&wrapped[..at], &passphrase("p")).unwrap_err(), UnwrapError::Malformed);
        }
        for (at, number) in [(16, limits::KDF_MEMORY_KIB_MAX + 1), (20, u32::MAX), (24, u32::MAX), (16, 0), (20, 0)] {
            let mut bad = wrapped;
            bad[at..at + 4].copy_from_slice(&number.to_le_bytes());
            assert_eq!(unwrap(&bad, &passphrase("p")).unwrap_err(), UnwrapError::Cost);
        }
        let mut newer = wrapped;
        newer[14] = b'2';
        assert_eq!(unwrap(&newer, &passphrase("p")).unwrap_err(), UnwrapError::Newer);
    }

    #[test]
    fn no_passphrase_is_empty_or_without_end_and_none_is_shown() {
        assert_eq!(Passphrase::new(Vec::new()).unwrap_err(), PassphraseError::Empty);
        assert_eq!(Passphrase::new(vec![7; limits::PASSPHRASE_BYTES_MAX + 1]).unwrap_err(), PassphraseError::TooLong);
        assert_eq!(format!("{:?} {:?}", passphrase("heron"), SealKey::from_bytes([7; 32])), "Passphrase(…) SealKey(…)");
    }
}
