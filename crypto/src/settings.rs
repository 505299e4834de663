//! Settings: what an owner keeps about a thread, sealed to the owner's own devices.
//! Owns: the key, derived from the one the participants tags are made with, and the sealed form: always of one length.
//! Never: computes a primitive; HKDF (RFC 5869) is a kept library's, the sealed form is `fixed`.

use std::fmt;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::HashType;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use crate::chance::Chance;
use crate::fixed;
use crate::participants::ParticipantsKey;

/// The key is uniformly random: it is expanded, not extracted (RFC 5869 §3.3). No tag's input begins like this.
const INFO: &[u8] = b"whimbrel thread settings 1\0";

/// The key of an account's thread settings, shared by its devices only.
#[derive(Clone)]
pub struct SettingsKey(Zeroizing<Vec<u8>>);

impl ParticipantsKey {
    /// The sibling key for thread settings.
    pub fn settings_key(&self) -> SettingsKey {
        let key = RustCrypto::default().hkdf_expand(HashType::Sha2_256, &*self.secret_bytes(), INFO, 32);
        #[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8160 bytes")]
        let key = key.expect("32 bytes are not too many");
        SettingsKey(Zeroizing::new(key.as_slice().to_vec()))
    }
}

impl SettingsKey {
    /// Seals the settings of a thread; nothing when they are too long.
    pub fn seal(&self, thread: &ThreadId, content: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
        fixed::seal(&self.0, limits::THREAD_SETTINGS_BYTES_MAX, thread.as_bytes(), content, chance)
    }

    /// Opens them; nothing when they are another thread's, another owner's, or changed.
    pub fn open(&self, thread: &ThreadId, sealed: &[u8]) -> Option<Vec<u8>> {
        fixed::open(&self.0, thread.as_bytes(), sealed)
    }
}

impl fmt::Debug for SettingsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsKey(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    #[test]
    fn settings_open_for_their_owner_and_thread_only_and_show_no_length() {
        let mut chance = Chance::from_seed(Seed::from_bytes([1; 32]));
        let key = ParticipantsKey::from_bytes([5; 32]).settings_key();
        let (one, two) = (ThreadId::from_bytes([1; 32]), ThreadId::from_bytes([2; 32]));
        let sealed = key.seal(&one, b"a label", &mut chance).unwrap();
        assert_eq!(sealed.len(), limits::THREAD_SETTINGS_BYTES_MAX);
        assert_eq!(key.seal(&one, b"", &mut chance).unwrap().len(), sealed.len());
        assert_eq!(key.open(&one, &sealed).as_deref(), Some(b"a label".as_slice()));
        assert_eq!(key.open(&two, &sealed), None);
        assert_eq!(ParticipantsKey::from_bytes([6; 32]).settings_key().open(&one, &sealed), None);
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        assert_eq!(key.open(&one, &changed), None);
        assert_eq!(key.open(&one, &sealed[..11]), None);
        assert_eq!(key.seal(&one, &[0; limits::THREAD_SETTINGS_BYTES_MAX - 29], &mut chance), None);
        assert_eq!(format!("{key:?}"), "SettingsKey(…)");
    }
}
