//! KeyPackages: whether a join used one up.
//! Owns: telling that by the engine's rows, so that an engine need not say more of a join than it does.
//! Never: reads a secret. Rules: docs/protocol/user.md.

use std::collections::BTreeMap;

use crate::mls;
#[cfg(feature = "stand-in")]
use crate::stand_in;

/// Whether what [`crate::Engine::join`] changed, by key and `None` where a row went, used a one-time KeyPackage up
/// (RFC 9420 §10). If not, the device was taken in by its last-resort one: whoever else was handed that has sealed to the
/// same leaf key, which is of this thread alone only after a commit of the device (RFC 9420 §7.5).
pub fn is_used_up(changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> bool {
    let is_package = |key: &[u8]| {
        #[cfg(feature = "stand-in")]
        if key.starts_with(&stand_in::KEY_PACKAGES) {
            return true;
        }
        key.starts_with(&mls::KEY_PACKAGES)
    };
    changes.iter().any(|(key, value)| value.is_none() && is_package(key))
}
