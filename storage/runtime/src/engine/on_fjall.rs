//! The fjall engine: raw rows in one keyspace of fjall 3, made durable by its journal's fsync.
//! Owns: fjall's settings, the bound of its memory tables, the mapping of its errors.
//! Never: a second keyspace, a transaction, or fjall's own wait for a flush that may not come.
//!
//! What its source says (3.1.13), on which this rests. A batch is one run of the journal between a start and an end with
//! a checksum; at open, a run that ends in the middle is cut off with all behind it (`journal` cuts the one with a wrong
//! checksum). `persist(SyncAll)` flushes the journal's
//! buffer and calls fsync on it; a sealed journal was synced before the next began; tables, versions and their folders
//! are synced before they count. `max_write_buffer_size` is stored and read nowhere, so the bound is the keyspace's
//! `max_memtable_size` with at most [`SEALED_MAX`] tables waiting to be written: see [`MEMTABLE_BYTES`].

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fjall::{Database, Error, Guard, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use whimbrel_storage::{Engine, Op, Order, Row, StorageError, damaged};

use super::journal::{self, OwnHandle};
use crate::clock;
use crate::dir::{failed, sync_folder, wait_until_released};
use crate::kind::EngineKind;

/// The one keyspace.
const ROWS: &str = "rows";
/// When a memory table is sealed and written to disk. With one active and [`SEALED_MAX`] sealed ones, and a fourth that
/// may be sealed while a batch is applied, fjall holds 8 * 5 = 40 MiB of rows at most, and one batch more: below the
/// page cache's default, where fjall's own default is 5 * 64 MiB. Smaller tables mean more compaction.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Sealed memory tables with which another batch is taken. fjall itself waits at four, without an end when its writing
/// threads have failed; so it must never come to that.
const SEALED_MAX: usize = 2;
/// How long writing threads may take to make room: some 24 MiB.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether they have.
const FLUSH_POLL: Duration = Duration::from_millis(2);
/// One flushes while the other compacts.
const WORKERS: usize = 2;
/// The least fjall takes: sealed journals beyond it are written out.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;

/// fjall, as a raw engine below [`Kv`](whimbrel_storage::Kv).
pub(super) struct FjallEngine {
    // Dropped in this order: the keyspace holds the database's lock.
    rows: Keyspace,
    db: Database,
    journal: Mutex<OwnHandle>,
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallEngine").finish_non_exhaustive()
    }
}

impl FjallEngine {
    /// Opens or creates the database in the folder `path`.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StorageError> {
        wait_until_released(EngineKind::Fjall, path)?;
        let home = EngineKind::Fjall.home(path);
        let open = || {
            Database::builder(&home)
                .cache_size(cache_bytes)
                .worker_threads(WORKERS)
                .max_journaling_size(JOURNALS_BYTES)
                // Every batch is followed by a sync, several by one: none needs a write call of its own.
                .manual_journal_persist(true)
                .open()
        };
        let opened = match open() {
            Err(Error::JournalRecovery(_)) if journal::cut_torn_end(&home).map_err(failed("cut a torn journal"))? => {
                wait_until_released(EngineKind::Fjall, path)?;
                open()
            }
            opened => opened,
        };
        let db = opened.map_err(does_not_open)?;
        let options =
            || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES).manual_journal_persist(true);
        let rows = db.keyspace(ROWS, options).map_err(does_not_open)?;
        // fjall syncs the folders it fills, and not always the folder they lie in.
        let folders = [rows.path().parent(), Some(home.as_path()), Some(path), path.parent()];
        for folder in folders.into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()) {
            sync_folder(folder).map_err(failed("sync the new files"))?;
        }
        let journal = OwnHandle::open(&home).map_err(failed("open the journal"))?;
        Ok(Self { rows, db, journal: Mutex::new(journal) })
    }

    /// Bytes of the database on the disk. A journal counts with its length, which fjall sets to 64 MiB beforehand.
    pub(super) fn size_on_disk(&self) -> Result<u64, StorageError> {
        self.db.disk_space().map_err(stopped)
    }

    /// Waits until few enough memory tables wait to be written.
    fn wait_for_flushes(&self) -> Result<(), StorageError> {
        let mut begun = None;
        while self.rows.sealed_memtable_count() > SEALED_MAX {
            // Says whether a writing thread has failed: nothing would ever be flushed then.
            self.db.persist(PersistMode::Buffer).map_err(stopped)?;
            let now = clock::now();
            if now.duration_since(*begun.get_or_insert(now)) > FLUSH_TIME_MAX {
                return Err(StorageError::Engine("memory tables were not written in time".to_owned()));
            }
            clock::pause(FLUSH_POLL);
        }
        Ok(())
    }
}

impl Engine for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let found = self.rows.get(key).map_err(|error| unreadable(error, key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let row = |guard: Guard| match guard.into_inner() {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(unreadable(error, from)),
        };
        let range = self.rows.range(from..to);
        match order {
            Order::Ascending => range.take(limit).map(row).collect(),
            Order::Descending => range.rev().take(limit).map(row).collect(),
        }
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        self.wait_for_flushes()?;
        let mut batch = self.db.batch();
        for op in ops {
            match op {
                Op::Put { key, value } => batch.insert(&self.rows, key, value),
                Op::Delete { key } => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(stopped)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.persist(PersistMode::SyncAll).map_err(stopped)?;
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).sync().map_err(failed("sync the journal"))
    }
}

/// An error while writing: whatever it is, fjall is not to be asked again before it was opened anew.
fn stopped(error: Error) -> StorageError {
    StorageError::Engine(error.to_string())
}

/// An error while reading: damage has the place of the read, everything else stops the store.
fn unreadable(error: Error, key: &[u8]) -> StorageError {
    if is_damage(&error) { damaged(key, &error.to_string()) } else { stopped(error) }
}

/// An error at open.
fn does_not_open(error: Error) -> StorageError {
    match error {
        Error::Locked => StorageError::InUse,
        // Opening writes, too; nothing is lost by it.
        Error::Io(error) | Error::Storage(LsmError::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
            StorageError::Full
        }
        error if is_damage(&error) => StorageError::DoesNotOpen { what: error.to_string() },
        error => stopped(error),
    }
}

fn is_damage(error: &Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => {
            matches!(error.kind(), UnexpectedEof | InvalidData | NotFound)
        }
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => true,
        _ => false,
    }
}
