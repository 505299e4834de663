//! Engine: raw rows on a disk, by whichever engine the store is on.
//! Owns: the choice, made once at open; the refusal of growth when there is no room; the counters.
//! Never: a call of an engine (`on_sled`, `on_fjall`).

#[cfg(target_os = "linux")]
mod durable;
mod journal;
mod on_fjall;
mod on_sled;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_storage::{Engine, Growth, Op, Order, Row, StorageError};

use crate::kind::EngineKind;
use crate::room::Room;
use on_fjall::FjallEngine;
use on_sled::SledEngine;

/// An engine below [`Kv`](whimbrel_storage::Kv).
#[derive(Debug)]
pub struct DiskEngine {
    on: On,
    room: Room,
    pub(crate) batches: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

#[derive(Debug)]
enum On {
    Sled(SledEngine),
    Fjall(FjallEngine),
}

impl DiskEngine {
    /// Opens or creates the database in the folder `path`.
    pub(crate) fn open(kind: EngineKind, path: &Path, cache_bytes: u64, room: Room) -> Result<Self, StorageError> {
        let on = match kind {
            EngineKind::Sled => On::Sled(SledEngine::open(path, cache_bytes)?),
            EngineKind::Fjall => On::Fjall(FjallEngine::open(path, cache_bytes)?),
        };
        let zero = AtomicU64::default;
        Ok(Self { on, room, batches: zero(), syncs: zero(), bytes: zero() })
    }

    /// Whether it would refuse to grow.
    pub(crate) fn is_full(&self) -> Result<bool, StorageError> {
        self.room.is_full(self.size_on_disk()?)
    }

    /// Bytes of the database on the disk.
    pub(crate) fn size_on_disk(&self) -> Result<u64, StorageError> {
        match &self.on {
            On::Sled(sled) => sled.size_on_disk(),
            On::Fjall(fjall) => fjall.size_on_disk(),
        }
    }
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match &self.on {
            On::Sled(sled) => sled.get(key),
            On::Fjall(fjall) => fjall.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        match &self.on {
            On::Sled(sled) => sled.scan(from, to, order, limit),
            On::Fjall(fjall) => fjall.scan(from, to, order, limit),
        }
    }

    fn admit(&self, written: u64, growth: Growth) -> Result<(), StorageError> {
        self.room.admit(written, growth, || self.size_on_disk())?;
        self.bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        match &self.on {
            On::Sled(sled) => sled.apply(ops),
            On::Fjall(fjall) => fjall.apply(ops),
        }?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        match &self.on {
            On::Sled(sled) => sled.sync(),
            On::Fjall(fjall) => fjall.sync(),
        }?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
