//! The sled engine: raw rows in one tree, made durable by our own sync.
//! Owns: sled's settings, the sync after its flush, the mapping of its errors.
//! Never: two trees, transactions, or sled's word that a flush is durable.
//!
//! sled 0.34.7 writes its log back with `sync_file_range`, which survives no power loss; `durable` makes a sync of it. After
//! every `flush` the database file is synced through a handle of our own as well, and only then is anything durable.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use whimbrel_storage::{Engine, Op, Order, Row, StorageError};

use crate::dir::{failed, sync_folder, wait_until_released};
use crate::kind::EngineKind;

/// sled, as a raw engine below [`Kv`](whimbrel_storage::Kv).
#[derive(Debug)]
pub(super) struct SledEngine {
    db: sled::Db,
    /// Our own handle on the file that sled writes.
    file: File,
    path: PathBuf,
    /// Blob files already synced.
    blobs: Mutex<BTreeSet<OsString>>,
    /// Whether something was applied since the last sync.
    applied: AtomicBool,
}

impl SledEngine {
    /// Opens or creates the database in the folder `path`.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StorageError> {
        wait_until_released(EngineKind::Sled, path)?;
        let db = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(cache_bytes)
            // Space is given back by the flushing thread alone; without it the file only grows.
            .flush_every_ms(Some(500))
            .use_compression(false)
            .open()
            .map_err(does_not_open)?;
        let file = OpenOptions::new().read(true).write(true).open(EngineKind::Sled.database(path));
        let file = file.map_err(failed("open the database file"))?;
        // sled syncs neither its settings nor the names of its files.
        let settings = OpenOptions::new().read(true).write(true).open(path.join("conf"));
        let synced = settings
            .and_then(|settings| settings.sync_all())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(path))
            .and_then(|()| path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_folder));
        synced.map_err(failed("sync the new files"))?;
        Ok(Self { db, file, path: path.to_owned(), blobs: Mutex::default(), applied: AtomicBool::new(false) })
    }

    /// Bytes of the database on the disk.
    pub(super) fn size_on_disk(&self) -> Result<u64, StorageError> {
        self.db.size_on_disk().map_err(stopped)
    }

    /// Syncs files that sled made for pages beyond a quarter segment; it never does. The bounds of rows keep pages below
    /// that, so this is a second line and usually reads an empty folder.
    fn sync_blobs(&self) -> io::Result<()> {
        let folder = self.path.join("blobs");
        let mut synced = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = BTreeSet::new();
        let mut any_new = false;
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if !synced.contains(&name) {
                match OpenOptions::new().write(true).open(folder.join(&name)) {
                    Ok(blob) => blob.sync_all()?,
                    // Replaced by a newer page meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                any_new = true;
            }
            there.insert(name);
        }
        if any_new {
            sync_folder(&folder)?;
            tracing::warn!(blobs = there.len(), "sled holds pages in files of their own");
        }
        *synced = there;
        Ok(())
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.db.get(key).map_err(stopped)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let range = self.db.range(from..to);
        let row = |found: sled::Result<(sled::IVec, sled::IVec)>| match found {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(stopped(error)),
        };
        match order {
            Order::Ascending => range.take(limit).map(row).collect(),
            Order::Descending => range.rev().take(limit).map(row).collect(),
        }
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                Op::Put { key, value } => batch.insert(key, value),
                Op::Delete { key } => batch.remove(key),
            }
        }
        self.applied.store(true, Ordering::Relaxed);
        self.db.apply_batch(batch).map_err(stopped)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush().map_err(stopped)?;
        let applied = self.applied.swap(false, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        if applied && super::durable::calls() == 0 {
            return Err(StorageError::Engine(
                "this program was linked so that sled's writes are not synced".to_owned(),
            ));
        }
        #[cfg(not(target_os = "linux"))]
        let _sled_itself_syncs_here = applied;
        self.sync_blobs().and_then(|()| self.file.sync_data()).map_err(failed("sync the database"))
    }
}

/// An error while running: whatever it is, sled is not to be asked again before it was opened anew.
fn stopped(error: sled::Error) -> StorageError {
    match error {
        sled::Error::Corruption { at, .. } => StorageError::DoesNotOpen { what: format!("a damaged page at {at:?}") },
        error => StorageError::Engine(error.to_string()),
    }
}

/// An error at open.
fn does_not_open(error: sled::Error) -> StorageError {
    match error {
        // Seen only in this text: sled gives a failed lock no kind of its own.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => StorageError::InUse,
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => {
            StorageError::DoesNotOpen { what: error.to_string() }
        }
        // A read past the end of a file that was cut.
        sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StorageError::DoesNotOpen { what: error.to_string() }
        }
        // Opening writes, too; nothing is lost by it.
        sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => StorageError::Full,
        error => stopped(error),
    }
}
