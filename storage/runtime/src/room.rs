//! Room: how large a store may grow, and what it leaves free on its disk.
//! Owns: the refusal of growth before the disk refuses it, the warning before that.
//! Never: frees space; whoever is refused trims, exports or tells people.
//!
//! A full disk breaks an engine for good until a restart, and a restart needs space itself. So part of the disk is kept
//! free: inside it, a batch may not grow the store: it removes as much as it adds, or moves what is there (a trim, with the
//! cursors it relies on). In its last quarter all are refused. A store at its own bound takes only such batches, too: what
//! is held can still be fetched. An engine that is a log grows by them all the same (sled, by nine tenths in the end: a
//! test's figure), so a quarter above the bound it takes only what brings nothing new, and there is an end to that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use whimbrel_storage::{Growth, StorageError};

use crate::dir::failed;
use crate::kind::EngineKind;

/// The size at which a store on sled should be exported into a fresh one, or moved to another engine: beyond it sled's
/// memory, disk and opening time grow faster than the store.
pub const SLED_WARN_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The size at which a relay's store on sled takes nothing more unless its operator says otherwise: a million retained
/// messages, measured. From here on a start after a kill takes a minute and more.
pub const SLED_MAX_BYTES: u64 = 3 * 1024 * 1024 * 1024;
/// How much above its bound a store may come by what removes as much as it adds: one part in so many.
const SHARE_ABOVE: u64 = 4;
/// After how many bytes written the size is looked at again: a look costs a system call or two.
const LOOK_EVERY_BYTES: u64 = 1024 * 1024;
/// The same for a store at its bound: a log takes more than is written, and that may not go unseen for a mebibyte.
const LOOK_EVERY_BYTES_FULL: u64 = 64 * 1024;

/// What fjall needs free at least to write out its memory tables and to compact: a write that fails there stops the store.
/// Five memory tables of 8 MiB, and a compaction of the first level into the second.
const FJALL_RESERVE_MIN: u64 = 128 * 1024 * 1024;

/// How much of the disk the store leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Share of the whole disk, in percent; on fjall at least 128 MiB. Zero turns the reserve off.
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

/// How large the database may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SizeBounds {
    /// From here on it is warned of. Absent: [`SLED_WARN_BYTES`] on sled; never on fjall, which has no such knee.
    pub warn_bytes: Option<u64>,
    /// From here on only batches that do not grow the store are taken, and a quarter above it only those that add no row
    /// and make none larger. Absent: the disk is the bound.
    pub max_bytes: Option<u64>,
}

impl Reserve {
    /// Whether a batch may be written to the disk that holds `path`.
    ///
    /// # Errors
    /// The disk does not tell.
    fn admits(&self, path: &Path, kind: EngineKind, grows: bool) -> io::Result<bool> {
        if self.percent == 0 {
            return Ok(true);
        }
        let disk = fs4::statvfs(path)?;
        Ok(self.admits_at(kind, disk.available_space(), disk.total_space(), grows))
    }

    fn admits_at(&self, kind: EngineKind, available: u64, total: u64, grows: bool) -> bool {
        let share = (total / 100).saturating_mul(self.percent.into()).min(self.bytes_max);
        match (kind, grows) {
            (EngineKind::Sled, true) => available >= share,
            (EngineKind::Sled, false) => available >= share / 4,
            (EngineKind::Fjall, true) => available >= share.max(FJALL_RESERVE_MIN),
            // Deletions take the same way through memory tables and compaction, and are small.
            (EngineKind::Fjall, false) => available >= (share / 4).max(FJALL_RESERVE_MIN / 2),
        }
    }
}

/// The room of one open store.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    kind: EngineKind,
    reserve: Reserve,
    warn_bytes: Option<u64>,
    max_bytes: Option<u64>,
    /// Bytes written since the size was looked at.
    written: AtomicU64,
    /// The size when it was last looked at; zero until then.
    size: AtomicU64,
    warned: AtomicBool,
}

impl Room {
    pub(crate) fn new(path: &Path, kind: EngineKind, reserve: Reserve, bounds: SizeBounds) -> Self {
        let default = match kind {
            EngineKind::Sled => Some(SLED_WARN_BYTES),
            EngineKind::Fjall => None,
        };
        Self {
            path: path.to_owned(),
            kind,
            reserve,
            warn_bytes: bounds.warn_bytes.or(default),
            max_bytes: bounds.max_bytes,
            // The first batch looks.
            written: AtomicU64::new(LOOK_EVERY_BYTES),
            size: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// Whether what grows the store would be refused, at this size.
    ///
    /// # Errors
    /// The disk does not tell.
    pub(crate) fn is_full(&self, size: u64) -> Result<bool, StorageError> {
        let admits = self.reserve.admits(&self.path, self.kind, true).map_err(failed("ask for free space"))?;
        Ok(!admits || self.max_bytes.is_some_and(|max| size >= max))
    }

    /// Whether a batch of so many bytes may be written. Only the one writer calls it.
    ///
    /// # Errors
    /// [`StorageError::Full`]: it may not. Neither disk nor engine tells how much there is.
    pub(crate) fn admit(
        &self,
        bytes: u64,
        growth: Growth,
        size: impl FnOnce() -> Result<u64, StorageError>,
    ) -> Result<(), StorageError> {
        if !self.reserve.admits(&self.path, self.kind, growth.net > 0).map_err(failed("ask for free space"))? {
            return Err(StorageError::Full);
        }
        if self.warn_bytes.is_none() && self.max_bytes.is_none() {
            return Ok(());
        }
        let full = self.max_bytes.is_some_and(|max| self.size.load(Ordering::Relaxed) >= max);
        let look_every = if full { LOOK_EVERY_BYTES_FULL } else { LOOK_EVERY_BYTES };
        if self.written.fetch_add(bytes, Ordering::Relaxed) >= look_every {
            self.written.store(0, Ordering::Relaxed);
            self.size.store(size()?, Ordering::Relaxed);
        }
        let now = self.size.load(Ordering::Relaxed);
        if self.warn_bytes.is_some_and(|warn| now > warn) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(bytes = now, "the store has outgrown its engine: export it, or move to another engine");
        }
        let beyond = |max: u64| {
            now >= max && (growth.net > 0 || growth.added > 0 && now >= max.saturating_add(max / SHARE_ABOVE))
        };
        if self.max_bytes.is_some_and(beyond) {
            // A store that was trimmed may have become smaller: the next batch looks again.
            self.written.store(LOOK_EVERY_BYTES, Ordering::Relaxed);
            return Err(StorageError::Full);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MORE: Growth = Growth { added: 9, net: 1 };
    const SAME: Growth = Growth { added: 9, net: 0 };
    const LESS: Growth = Growth { added: 0, net: -9 };

    #[test]
    fn reserve_lets_trims_through_and_keeps_its_last_quarter() {
        let reserve = Reserve { percent: 10, bytes_max: u64::MAX };
        let admits =
            |kind, available, total| [true, false].map(|grows| reserve.admits_at(kind, available, total, grows));
        let admitted = |available| admits(EngineKind::Sled, available, 1_000);
        assert_eq!(admitted(100), [true, true]);
        assert_eq!(admitted(99), [false, true]);
        assert_eq!(admitted(25), [false, true]);
        assert_eq!(admitted(24), [false, false]);
        let admitted = |available| admits(EngineKind::Fjall, available, 1_000);
        assert_eq!(admitted(FJALL_RESERVE_MIN), [true, true]);
        assert_eq!(admitted(FJALL_RESERVE_MIN - 1), [false, true]);
        assert_eq!(admitted(FJALL_RESERVE_MIN / 2 - 1), [false, false]);
        let large = 10_000 * FJALL_RESERVE_MIN;
        assert_eq!(admits(EngineKind::Fjall, large / 10 - 100, large), [false, true]);
    }

    #[test]
    fn full_is_told_without_a_batch() {
        let bounds = SizeBounds { warn_bytes: None, max_bytes: Some(100) };
        let dir = std::env::temp_dir();
        let room = |percent| {
            let reserve = Reserve { percent, bytes_max: u64::MAX };
            Room::new(&dir, EngineKind::Sled, reserve, bounds)
        };
        assert!(!room(0).is_full(99).unwrap());
        assert!(room(0).is_full(100).unwrap());
        // No disk is wholly free.
        assert!(room(100).is_full(0).unwrap());
    }

    #[test]
    fn reserve_is_bounded_on_a_large_disk() {
        let reserve = Reserve { percent: 10, bytes_max: 50 };
        assert!(reserve.admits_at(EngineKind::Sled, 50, 1_000_000, true));
        assert!(!reserve.admits_at(EngineKind::Sled, 49, 1_000_000, true));
    }

    #[test]
    fn store_at_its_bound_takes_only_what_does_not_grow_it_until_it_is_smaller() {
        let bounds = SizeBounds { warn_bytes: Some(50), max_bytes: Some(100) };
        let reserve = Reserve { percent: 0, bytes_max: 0 };
        let room = Room::new(Path::new("."), EngineKind::Fjall, reserve, bounds);
        assert!(room.admit(1, MORE, || Ok(10)).is_ok());
        // Not looked at again before a mebibyte was written.
        assert!(room.admit(LOOK_EVERY_BYTES, MORE, || Ok(500)).is_ok());
        assert!(!room.warned.load(Ordering::Relaxed));
        assert!(matches!(room.admit(1, MORE, || Ok(100)), Err(StorageError::Full)));
        assert!(room.warned.load(Ordering::Relaxed));
        assert!(room.admit(1, SAME, || Ok(100)).is_ok());
        assert!(matches!(room.admit(1, MORE, || Ok(100)), Err(StorageError::Full)));
        assert!(room.admit(1, MORE, || Ok(99)).is_ok());
    }

    #[test]
    fn store_at_its_bound_is_looked_at_sooner() {
        let bounds = SizeBounds { warn_bytes: None, max_bytes: Some(100) };
        let reserve = Reserve { percent: 0, bytes_max: 0 };
        let looks = |size| {
            let room = Room::new(Path::new("."), EngineKind::Sled, reserve, bounds);
            room.admit(0, SAME, || Ok(size)).unwrap();
            let mut looked = false;
            for bytes in [LOOK_EVERY_BYTES_FULL, 1] {
                room.admit(bytes, SAME, || {
                    looked = true;
                    Ok(size)
                })
                .unwrap();
            }
            looked
        };
        assert!(!looks(99));
        assert!(looks(100));
    }

    #[test]
    fn a_store_a_quarter_above_its_bound_takes_only_what_brings_nothing_new() {
        let bounds = SizeBounds { warn_bytes: None, max_bytes: Some(100) };
        let reserve = Reserve { percent: 0, bytes_max: 0 };
        let admitted = |size, growth| {
            Room::new(Path::new("."), EngineKind::Sled, reserve, bounds).admit(1, growth, || Ok(size)).is_ok()
        };
        let all = |size| [MORE, SAME, LESS].map(|growth| admitted(size, growth));
        assert_eq!(all(99), [true, true, true]);
        assert_eq!(all(100), [false, true, true]);
        assert_eq!(all(124), [false, true, true]);
        assert_eq!(all(125), [false, false, true]);
        assert_eq!(all(u64::MAX), [false, false, true]);
    }
}
