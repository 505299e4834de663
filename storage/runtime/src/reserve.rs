//! The free-space reserve: refusing writes before the disk refuses them.
//! Owns: the decision. Never: freeing space; whoever is refused trims, exports or tells people.
//!
//! A full disk breaks sled for good until a restart, and a restart needs space itself. So part of the disk is kept free:
//! inside it, a batch must also delete something (a trim, with the cursors it relies on); in its last quarter all are refused.

use std::io;
use std::path::Path;

/// How much of the disk the store leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Share of the whole disk, in percent. Zero turns the reserve off.
    pub percent: u8,
    /// The most the share may come to, in bytes.
    pub bytes_max: u64,
}

impl Default for Reserve {
    /// Ten percent of the disk, at most 4 GiB: more than a whole store of the size at which to leave sled.
    fn default() -> Self {
        Self { percent: 10, bytes_max: 4 * 1024 * 1024 * 1024 }
    }
}

impl Reserve {
    /// Whether a batch may be written to the disk that holds `path`.
    ///
    /// # Errors
    /// The disk does not tell.
    pub(crate) fn admits(&self, path: &Path, deletes: bool) -> io::Result<bool> {
        if self.percent == 0 {
            return Ok(true);
        }
        let disk = fs4::statvfs(path)?;
        Ok(self.admits_at(disk.available_space(), disk.total_space(), deletes))
    }

    fn admits_at(&self, available: u64, total: u64, deletes: bool) -> bool {
        let reserve = (total / 100).saturating_mul(self.percent.into()).min(self.bytes_max);
        available >= if deletes { reserve / 4 } else { reserve }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_lets_trims_through_and_keeps_its_last_quarter() {
        let reserve = Reserve { percent: 10, bytes_max: u64::MAX };
        let admitted = |available| [false, true].map(|deletes| reserve.admits_at(available, 1_000, deletes));
        assert_eq!(admitted(100), [true, true]);
        assert_eq!(admitted(99), [false, true]);
        assert_eq!(admitted(25), [false, true]);
        assert_eq!(admitted(24), [false, false]);
    }

    #[test]
    fn reserve_is_bounded_on_a_large_disk() {
        let reserve = Reserve { percent: 10, bytes_max: 50 };
        assert!(reserve.admits_at(50, 1_000_000, false));
        assert!(!reserve.admits_at(49, 1_000_000, false));
    }
}
