//! The sled engine: raw rows in one tree, made durable by our own sync.
//! Owns: sled's settings, the sync after its flush, the mapping of its errors.
//! Never: two trees, transactions, or sled's word that a flush is durable.
//!
//! sled 0.34.7 writes its log back with `sync_file_range`, which survives no power loss. So after every `flush` the database
//! file is synced through a handle of our own, and only then is anything durable.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use whimbrel_storage::{Engine, Op, Order, Row, StorageError};

use crate::dir::{database, failed, sync_folder, wait_until_released};
use crate::reserve::Reserve;

/// sled, as a raw engine below [`Kv`](whimbrel_storage::Kv).
#[derive(Debug)]
pub struct SledEngine {
    db: sled::Db,
    /// Our own handle on the file that sled writes.
    file: File,
    path: PathBuf,
    reserve: Reserve,
    /// Blob files already synced.
    blobs: Mutex<BTreeSet<OsString>>,
    pub(crate) batches: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl SledEngine {
    /// Opens or creates the database in the folder `path`.
    pub(crate) fn open(path: &Path, cache_bytes: u64, reserve: Reserve) -> Result<Self, StorageError> {
        wait_until_released(path)?;
        let db = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(cache_bytes)
            // Space is given back by the flushing thread alone; without it the file only grows.
            .flush_every_ms(Some(500))
            .use_compression(false)
            .open()
            .map_err(does_not_open)?;
        let file = OpenOptions::new().read(true).write(true).open(database(path));
        let file = file.map_err(failed("open the database file"))?;
        // sled syncs neither its settings nor the names of its files.
        let settings = OpenOptions::new().read(true).write(true).open(path.join("conf"));
        let synced = settings
            .and_then(|settings| settings.sync_all())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(path))
            .and_then(|()| path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_folder));
        synced.map_err(failed("sync the new files"))?;
        Ok(Self {
            db,
            file,
            path: path.to_owned(),
            reserve,
            blobs: Mutex::default(),
            batches: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Bytes of the database on the disk.
    pub(crate) fn size_on_disk(&self) -> Result<u64, StorageError> {
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
        let deletes = ops.iter().any(|op| matches!(op, Op::Delete { .. }));
        if !self.reserve.admits(&self.path, deletes).map_err(failed("ask for free space"))? {
            return Err(StorageError::Full);
        }
        let (mut batch, mut bytes) = (sled::Batch::default(), 0_usize);
        for op in ops {
            match op {
                Op::Put { key, value } => {
                    bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                    batch.insert(key, value);
                }
                Op::Delete { key } => {
                    bytes = bytes.saturating_add(key.len());
                    batch.remove(key);
                }
            }
        }
        self.db.apply_batch(batch).map_err(stopped)?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush().map_err(stopped)?;
        self.sync_blobs().and_then(|()| self.file.sync_data()).map_err(failed("sync the database"))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// An error while running: whatever it is, sled is not to be asked again before it was opened anew.
fn stopped(error: sled::Error) -> StorageError {
    StorageError::Engine(match error {
        sled::Error::Corruption { at, .. } => {
            format!("a damaged page at {at:?}; restore the store from a backup")
        }
        error => error.to_string(),
    })
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
        error => stopped(error),
    }
}
