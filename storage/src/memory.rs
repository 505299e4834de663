//! The in-memory engine: a disk that forgets on demand.
//! Owns: rows in a map, and what of them a crash would keep.
//! Never: chance; which unsynced batches survive is the caller's choice.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Engine, Kv, Op, Order, Row, StorageError};

/// An ordered store in memory.
pub type MemoryKv = Kv<MemoryEngine>;

impl MemoryKv {
    /// An empty store on a disk of its own.
    ///
    /// # Errors
    /// None in practice: an empty disk opens.
    pub fn in_memory() -> Result<Self, StorageError> {
        Self::open(MemoryEngine::new(), None)
    }
}

/// Ordered rows in memory, shared by all clones of the handle.
///
/// It models a disk below a process: reads see every applied batch; [`MemoryEngine::crash`] takes back what was not
/// synced. A simulated process is dropped and built again over the same handle:
///
/// ```
/// use whimbrel_storage::{Batch, Kv, MemoryEngine, OrderedKv, Reads};
///
/// # fn main() -> Result<(), whimbrel_storage::StorageError> {
/// let disk = MemoryEngine::new();
/// let store = Kv::open(disk.clone(), None)?;
/// let mut batch = Batch::new();
/// batch.put(b"name".to_vec(), b"Alice".to_vec());
/// store.apply(&batch)?;
/// drop(store);
/// disk.crash(0);
/// assert_eq!(Kv::open(disk, None)?.get(b"name")?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
}

/// A key and the value it had before a batch.
type Before = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Default)]
struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For each unsynced batch, oldest first: the rows as they were before it.
    undo: VecDeque<Vec<Before>>,
    /// What the next calls of `apply` and `sync` answer instead of working.
    fail_apply: Option<StorageError>,
    fail_sync: Option<StorageError>,
}

impl MemoryEngine {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// What somebody gets who copies the disk now, unsynced batches included: a disk of its own.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::new();
        copy.disk().rows = self.disk().rows.clone();
        copy
    }

    /// How many batches a crash could take back.
    pub fn unsynced(&self) -> usize {
        self.disk().undo.len()
    }

    /// Takes back all unsynced batches but the oldest `keep`, which turn out to have reached the disk.
    ///
    /// Drop every [`Kv`] over this disk first: it would go on counting from where it was.
    pub fn crash(&self, keep: usize) {
        let mut disk = self.disk();
        while disk.undo.len() > keep {
            for (key, before) in disk.undo.pop_back().unwrap_or_default() {
                match before {
                    Some(value) => disk.rows.insert(key, value),
                    None => disk.rows.remove(&key),
                };
            }
        }
        disk.undo.clear();
        disk.fail_apply = None;
        disk.fail_sync = None;
    }

    /// Makes the next apply fail with `error` and write nothing.
    pub fn fail_next_apply(&self, error: StorageError) {
        self.disk().fail_apply = Some(error);
    }

    /// Makes the next sync fail with `error` and make nothing durable.
    pub fn fail_next_sync(&self, error: StorageError) {
        self.disk().fail_sync = Some(error);
    }

    /// Changes the stored rows behind the store's back, as damage would.
    pub fn tamper<T>(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        change(&mut self.disk().rows)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A panic elsewhere while the lock was held leaves whole rows: each change below is one map call.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk().rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let disk = self.disk();
        let range = disk.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let row = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => range.take(limit).map(row).collect(),
            Order::Descending => range.rev().take(limit).map(row).collect(),
        })
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if let Some(error) = disk.fail_apply.take() {
            return Err(error);
        }
        let mut undo = Vec::with_capacity(ops.len());
        for op in ops {
            undo.push(match op {
                Op::Put { key, value } => (key.clone(), disk.rows.insert(key, value)),
                Op::Delete { key } => {
                    let before = disk.rows.remove(&key);
                    (key, before)
                }
            });
        }
        disk.undo.push_back(undo);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if let Some(error) = disk.fail_sync.take() {
            return Err(error);
        }
        disk.undo.clear();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::contract::{self, Fixture};
    use crate::{Batch, OrderedKv, Reads, Totals};

    #[derive(Default)]
    struct Memory {
        disk: MemoryEngine,
    }

    impl Fixture for Memory {
        type Store = MemoryKv;

        fn fresh(&mut self) -> MemoryKv {
            self.disk = MemoryEngine::new();
            Kv::open(self.disk.clone(), None).unwrap()
        }

        fn restart(&mut self, store: MemoryKv) -> Result<MemoryKv, StorageError> {
            let tail = store.newest_batch().unwrap();
            store.sync().unwrap();
            drop(store);
            self.disk.crash(0);
            Kv::open(self.disk.clone(), Some(tail))
        }

        fn raw<'s>(&self, store: &'s MemoryKv) -> &'s dyn Engine {
            store.engine()
        }

        fn verify(&self, store: &MemoryKv) -> Result<Totals, StorageError> {
            store.verify()
        }
    }

    #[test]
    fn memory_keeps_the_contract() {
        contract::check(&mut Memory::default());
    }

    #[test]
    fn memory_answers_like_a_map_whatever_the_batches() {
        contract::check_against_model(&mut Memory::default(), 256);
    }

    fn put(store: &MemoryKv, n: u8) {
        let mut batch = Batch::new();
        batch.put(vec![n], vec![n]);
        store.apply(&batch).unwrap();
    }

    #[test]
    fn crash_keeps_what_was_synced_and_the_chosen_prefix_of_the_rest() {
        for keep in 0..=3_u8 {
            let disk = MemoryEngine::new();
            let store = Kv::open(disk.clone(), None).unwrap();
            put(&store, 0);
            store.sync().unwrap();
            for n in 1..=3 {
                put(&store, n);
            }
            assert_eq!(disk.unsynced(), 3);
            drop(store);
            disk.crash(keep.into());
            let store = Kv::open(disk, Some(1)).unwrap();
            assert_eq!(store.newest_batch().unwrap(), u64::from(keep) + 1);
            store.verify().unwrap();
            for n in 0..=3 {
                assert_eq!(store.get(&[n]).unwrap().is_some(), n <= keep, "batch {n} of {keep} kept");
            }
        }
    }

    #[test]
    fn store_below_its_tail_witness_does_not_open() {
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        put(&store, 1);
        store.sync().unwrap();
        put(&store, 2);
        drop(store);
        disk.crash(0);
        assert!(Kv::open(disk.clone(), Some(1)).is_ok());
        assert!(matches!(Kv::open(disk, Some(2)), Err(StorageError::LostTail { .. })));
    }

    #[test]
    fn failed_sync_stops_the_store_until_it_is_opened_again() {
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        put(&store, 1);
        disk.fail_next_sync(StorageError::Engine("no disk".to_owned()));
        assert!(store.sync().is_err());
        assert!(matches!(store.sync(), Err(StorageError::Engine(_))));
        assert!(matches!(store.get(&[1]), Err(StorageError::Engine(_))));
        drop(store);
        disk.crash(1);
        assert_eq!(Kv::open(disk, None).unwrap().get(&[1]).unwrap(), Some(vec![1]));
    }

    #[test]
    fn full_disk_refuses_the_batch_and_nothing_else() {
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        disk.fail_next_apply(StorageError::Full);
        let mut batch = Batch::new();
        batch.put(vec![1], vec![1]);
        assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
        assert_eq!(store.newest_batch().unwrap(), 0);
        put(&store, 2);
        assert_eq!((store.get(&[1]).unwrap(), store.get(&[2]).unwrap()), (None, Some(vec![2])));
        store.verify().unwrap();
    }
}
