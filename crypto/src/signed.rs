//! Signed words: a device's signature over bytes that others pass on.
//! Owns: making and checking one. Never: knows what the bytes say; each kind has a context of its own.

use whimbrel_protocol::id::{DeviceId, PublicKey};
use whimbrel_protocol::signed::Signed;

use crate::account_log::AccountLog;
use crate::keys::{self, KeyPair, SignatureError};

/// Signs content as a device.
pub fn sign(device: &KeyPair, by: DeviceId, context: &str, content: Vec<u8>) -> Signed {
    let signature = device.sign(context, &content);
    Signed { by, content, signature }
}

/// Checks words against the key of the device they name.
///
/// # Errors
/// The signature is not valid for this key and context.
pub fn verify(key: &PublicKey, context: &str, words: &Signed) -> Result<(), SignatureError> {
    keys::verify(key, context, &words.content, &words.signature)
}

/// Checks words against their author's account log.
///
/// # Errors
/// The log is not the author's, has no such device, or the signature is not valid.
pub fn verify_in(log: &AccountLog, context: &str, words: &Signed) -> Result<(), SignatureError> {
    let device = log.device(words.by.index).filter(|_| log.account() == words.by.account).ok_or(SignatureError)?;
    verify(&device.device_key, context, words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::{AccountId, DeviceIndex};

    use super::*;

    #[test]
    fn words_hold_for_their_device_context_and_bytes_only() {
        let (device, other) = (KeyPair::from_seed_bytes([1; 32]), KeyPair::from_seed_bytes([2; 32]));
        let by = DeviceId { account: AccountId::from_bytes([3; 32]), index: DeviceIndex::FIRST };
        let words = sign(&device, by, "one", b"content".to_vec());
        verify(&device.public(), "one", &words).unwrap();
        let changed = Signed { content: b"contend".to_vec(), ..words.clone() };
        for (key, context, words) in [(&other, "one", &words), (&device, "two", &words), (&device, "one", &changed)] {
            assert_eq!(verify(&key.public(), context, words), Err(SignatureError));
        }
    }
}
