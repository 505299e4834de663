//! Kv: the ordered rows of this process's store: on its disk, or, to measure and to try things, in memory alone.
//! Owns: which of the two it is. Never: keeps anything in memory unless the configuration says so by name.

use whimbrel_storage::{Batch, MemoryKv, Order, OrderedKv, Reads, Row, StorageError};
use whimbrel_storage_runtime::DiskKv;

/// Where a relay's rows are.
#[derive(Debug)]
pub enum RelayKv {
    /// In the data folder.
    Disk(Box<DiskKv>),
    /// Gone when the process ends: a sync costs nothing and keeps nothing.
    Memory(MemoryKv),
}

impl RelayKv {
    /// The store on the disk, if there is one.
    pub fn disk(&self) -> Option<&DiskKv> {
        match self {
            Self::Disk(kv) => Some(kv),
            Self::Memory(_) => None,
        }
    }

    /// Syncs and closes the store.
    ///
    /// # Errors
    /// The store failed before or cannot be synced.
    pub fn close(self) -> Result<(), StorageError> {
        match self {
            Self::Disk(store) => store.close(),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Reads for RelayKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self {
            Self::Disk(kv) => kv.get(key),
            Self::Memory(kv) => kv.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        match self {
            Self::Disk(kv) => kv.scan(from, to, order, limit),
            Self::Memory(kv) => kv.scan(from, to, order, limit),
        }
    }
}

impl OrderedKv for RelayKv {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        match self {
            Self::Disk(kv) => kv.apply(batch),
            Self::Memory(kv) => kv.apply(batch),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        match self {
            Self::Disk(kv) => kv.sync(),
            Self::Memory(kv) => kv.sync(),
        }
    }
}
