//! SledKv: a store on disk, from open to close.
//! Owns: the order of steps at open and close, the side file after each sync, the counters.
//! Never: rows (`whimbrel_storage::Kv`), sled's calls (`engine`).

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use whimbrel_storage::{Batch, Copied, Kv, Order, OrderedKv, Reads, Row, StorageError, Totals, copy};

use crate::dir::{Dir, Left, failed, wait_until_released};
use crate::engine::SledEngine;
use crate::keep::{self, Kept};
use crate::probe::ProbeCommand;
use crate::reserve::Reserve;
use crate::tail::Tail;

/// The size at which a store should be exported into a fresh one, or moved to another engine: beyond it sled's memory,
/// disk and opening time grow faster than the store.
pub const SIZE_WARN_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bound of sled's page cache, in bytes. Resident memory is more: page tables are not counted.
    pub cache_bytes: u64,
    /// What to leave free on the disk.
    pub reserve: Reserve,
    /// How to try an open in a child process first; without it, a store that makes sled panic takes the process down.
    pub probe: Option<ProbeCommand>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, reserve: Reserve::default(), probe: None }
    }
}

/// What a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Batches applied.
    pub batches: u64,
    /// Syncs that returned.
    pub syncs: u64,
    /// Bytes of keys and values handed to the engine, the store's own rows included.
    pub bytes: u64,
}

/// An ordered store in a folder of its own.
///
/// After an error that is sticky ([`StorageError::is_sticky`]) every call fails: stop answering, end the process or drop the
/// store, and open it again, which checks what is left.
#[derive(Debug)]
pub struct SledKv {
    // Dropped in this order: the engine before the lock.
    kv: Kv<SledEngine>,
    tail: Mutex<Tail>,
    dir: Dir,
}

impl SledKv {
    /// Opens the store in the folder `path`, or creates it.
    ///
    /// A store that was closed is compared with the checksum of its database file first. One that was not closed is copied
    /// first, and put back byte for byte when it does not open; then opened on trial by a child process, if `options` say
    /// how. When sled fails
    /// on it, its snapshots are set aside, since they only shorten the way to what the log holds; when that helps, every row
    /// is read and compared with the totals before the store is handed out.
    ///
    /// # Errors
    /// [`StorageError::InUse`]: another process, or another handle of this one, has it open.
    /// [`StorageError::DoesNotOpen`], [`StorageError::LostTail`], [`StorageError::Damaged`]: restore it from a backup.
    /// [`StorageError::Engine`]: the disk or the trial failed; nothing is said about the store.
    pub fn open(path: &Path, options: Options) -> Result<Self, StorageError> {
        let dir = Dir::lock(path)?;
        keep::recover(path)?;
        let left = dir.take_mark()?;
        let tail = Tail::open(&dir.tail()).map_err(failed("open the side file"))?;
        if left == Left::New && tail.newest().is_some_and(|n| n > 0) {
            return Err(StorageError::LostTail { what: "the database file is missing".to_owned() });
        }
        let kept = if left == Left::Unclean { Some(Kept::make(path)?) } else { None };
        let opened = Self::open_engine(&dir, path, left, &options, tail.newest());
        let kv = match (opened, kept) {
            (Ok(kv), Some(kept)) => kept.forget().map(|()| kv)?,
            (Ok(kv), None) => kv,
            (Err(error), kept) => {
                // The engine is gone with the error; its threads may hold the file a moment longer.
                wait_until_released(path)?;
                if let Some(kept) = kept {
                    kept.put_back()?;
                }
                return Err(error);
            }
        };
        let store = Self { kv, tail: Mutex::new(tail), dir };
        if store.size_on_disk()? > SIZE_WARN_BYTES {
            tracing::warn!("the store has outgrown its engine: export it into a fresh one, or move to another engine");
        }
        Ok(store)
    }

    /// Opens the engine and checks what it holds.
    fn open_engine(
        dir: &Dir,
        path: &Path,
        left: Left,
        options: &Options,
        tail: Option<u64>,
    ) -> Result<Kv<SledEngine>, StorageError> {
        dir.remove_unfinished_snapshots()?;
        let mut rebuilt = false;
        if left == Left::Unclean
            && let Some(probe) = &options.probe
        {
            ((), rebuilt) = without_bad_snapshot(dir, || probe.run(path))?;
        }
        let opened = without_bad_snapshot(dir, || SledEngine::open(path, options.cache_bytes, options.reserve))?;
        let (engine, rebuilt) = (opened.0, opened.1 || rebuilt);
        let kv = Kv::open(engine, tail)?;
        if rebuilt {
            kv.verify()?;
        }
        if left == Left::Unclean {
            tracing::info!(newest_batch = kv.newest_batch()?, "opened a store that was not closed");
        }
        Ok(kv)
    }

    /// Syncs and closes the store, so that the next open needs no trial. Dropping it instead loses nothing that was synced.
    ///
    /// # Errors
    /// The store failed before or cannot be synced; the next open then treats it as left unclean.
    pub fn close(self) -> Result<(), StorageError> {
        self.sync()?;
        let Self { kv, tail, dir } = self;
        tail.into_inner().unwrap_or_else(PoisonError::into_inner).sync().map_err(failed("sync the side file"))?;
        drop(kv);
        wait_until_released(dir.path())?;
        dir.set_mark()
    }

    /// Copies every row into a new store in the folder `into`, closes it, and answers what it holds: the backup, and the way
    /// to get space back, since sled gives none. Every row is verified first. Nobody may apply batches meanwhile.
    ///
    /// # Errors
    /// As for [`SledKv::verify`], [`copy`] and [`SledKv::open`].
    pub fn export(&self, into: &Path) -> Result<Copied, StorageError> {
        self.verify()?;
        let fresh = Self::open(into, Options::default())?;
        let copied = copy(&self.kv, &fresh)?;
        fresh.close()?;
        Ok(copied)
    }

    /// Reads every row and compares with the totals that the batches left.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when a row is damaged or missing.
    pub fn verify(&self) -> Result<Totals, StorageError> {
        self.kv.verify()
    }

    /// The number of the newest batch applied.
    ///
    /// # Errors
    /// The store failed before.
    pub fn newest_batch(&self) -> Result<u64, StorageError> {
        self.kv.newest_batch()
    }

    /// Bytes of the database on the disk; compare [`SIZE_WARN_BYTES`].
    ///
    /// # Errors
    /// The disk does not tell.
    pub fn size_on_disk(&self) -> Result<u64, StorageError> {
        self.kv.engine().size_on_disk()
    }

    /// What the store did since it was opened.
    pub fn stats(&self) -> SyncStats {
        let engine = self.kv.engine();
        SyncStats {
            batches: engine.batches.load(Ordering::Relaxed),
            syncs: engine.syncs.load(Ordering::Relaxed),
            bytes: engine.bytes.load(Ordering::Relaxed),
        }
    }

    /// The store below the files: rows in their format over the raw engine.
    pub fn kv(&self) -> &Kv<SledEngine> {
        &self.kv
    }
}

impl Reads for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.kv.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.kv.scan(from, to, order, limit)
    }
}

impl OrderedKv for SledKv {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.kv.apply(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        // Read before: batches that are applied during the sync may not be part of it.
        let n = self.kv.newest_batch()?;
        self.kv.sync()?;
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.record(n).map_err(|error| self.kv.stop(failed("write the side file")(error)))
    }
}

/// Does `attempt`; when the store does not open, once more without its snapshots. Answers whether that was needed.
fn without_bad_snapshot<T>(
    dir: &Dir,
    mut attempt: impl FnMut() -> Result<T, StorageError>,
) -> Result<(T, bool), StorageError> {
    let error = match attempt() {
        Err(error @ StorageError::DoesNotOpen { .. }) => error,
        other => return other.map(|opened| (opened, false)),
    };
    let moves = dir.set_snapshots_aside()?;
    if moves.is_empty() {
        return Err(error);
    }
    match attempt() {
        Ok(opened) => Ok((opened, true)),
        Err(second) => {
            dir.put_snapshots_back(moves)?;
            Err(second)
        }
    }
}
