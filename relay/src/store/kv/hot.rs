//! Hot rows: what every message asks for (its thread, its author's membership, the head of its log), kept at hand.
//! Owns: copies of those rows as the engine has them, and their bound. The writer that owns this is the only one who
//! changes rows, so a copy is good until its own next batch.
//! Never: outlives a batch that was not applied ([`Hot::forget`]); a row that is not there.
//! Limits: `limits::HOT_BYTES_CACHED`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::limits;
use whimbrel_storage::{Batch, Op, Order, Reads, Row, StorageError};

use super::rows::space;

/// A larger row is read from the engine each time: a thread across very many relays has one.
const LARGEST: usize = limits::HOT_BYTES_CACHED / 64;

/// The spaces of rows that are read with every message.
const SPACES: [u8; 4] = [space::THREAD, space::MEMBER, space::LOG, space::FRIEND];

fn is_hot(key: &[u8]) -> bool {
    key.first().is_some_and(|space| SPACES.contains(space))
}

/// Rows in two generations: what is used moves to the young one; when that is full, the old one goes.
#[derive(Debug, Default)]
struct Generations {
    young: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes put into the young one since it was empty, at least those that are in it.
    bytes: usize,
    old: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Generations {
    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let bytes = key.len() + value.len();
        if bytes > LARGEST {
            return;
        }
        if self.bytes + bytes > limits::HOT_BYTES_CACHED / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.young.insert(key, value);
    }

    fn has(&self, key: &[u8]) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    fn remove(&mut self, key: &[u8]) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// The rows at hand.
#[derive(Debug, Default)]
pub(super) struct Hot {
    rows: Mutex<Generations>,
}

impl Hot {
    fn rows(&self) -> MutexGuard<'_, Generations> {
        // One thread at a time comes here; the lock only lets it read through a shared reference.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the engine has, by way of the rows at hand.
    pub(super) fn over<'h>(&'h self, reads: &'h dyn Reads) -> impl Reads + 'h {
        Over { hot: self, reads }
    }

    /// A batch was applied.
    pub(super) fn applied(&self, batch: &Batch) {
        let mut rows = self.rows();
        for op in batch.ops() {
            match op {
                Op::Put { key, value } if is_hot(key) && rows.has(key) => {
                    rows.remove(key);
                    rows.put(key.clone(), value.clone());
                }
                Op::Delete { key } if is_hot(key) => rows.remove(key),
                _ => {}
            }
        }
    }

    /// Drops everything: what is in the engine may be something else.
    pub(super) fn forget(&self) {
        *self.rows() = Generations::default();
    }
}

struct Over<'h> {
    hot: &'h Hot,
    reads: &'h dyn Reads,
}

impl Reads for Over<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        if !is_hot(key) {
            return self.reads.get(key);
        }
        if let Some(value) = self.hot.rows().get(key) {
            return Ok(Some(value));
        }
        let found = self.reads.get(key)?;
        if let Some(value) = &found {
            self.hot.rows().put(key.to_vec(), value.clone());
        }
        Ok(found)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.reads.scan(from, to, order, limit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_storage::{MemoryKv, OrderedKv};

    use super::*;

    fn key(space: u8, n: u32) -> Vec<u8> {
        [&[space][..], &n.to_be_bytes()].concat()
    }

    /// Applies to the engine, and tells the rows at hand if they are to know.
    fn put(kv: &MemoryKv, hot: Option<&Hot>, changes: &[(Vec<u8>, Option<&[u8]>)]) {
        let mut batch = Batch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key.clone(), value.to_vec()),
                None => batch.delete(key.clone()),
            }
        }
        kv.apply(&batch).unwrap();
        if let Some(hot) = hot {
            hot.applied(&batch);
        }
    }

    #[test]
    fn a_row_is_as_the_last_batch_left_it() {
        let (kv, hot) = (MemoryKv::in_memory().unwrap(), Hot::default());
        let (log, entry) = (key(space::LOG, 1), key(space::ENTRY, 1));
        let get = |key: &[u8]| hot.over(&kv).get(key).unwrap();
        assert_eq!(get(&log), None);
        put(&kv, Some(&hot), &[(log.clone(), Some(b"one")), (entry.clone(), Some(b"one"))]);
        assert_eq!((get(&log), get(&entry)), (Some(b"one".to_vec()), Some(b"one".to_vec())));
        put(&kv, Some(&hot), &[(log.clone(), Some(b"two")), (entry.clone(), Some(b"two"))]);
        assert_eq!((get(&log), get(&entry)), (Some(b"two".to_vec()), Some(b"two".to_vec())));
        put(&kv, Some(&hot), &[(log.clone(), None)]);
        assert_eq!(get(&log), None);
        put(&kv, Some(&hot), &[(log.clone(), Some(b"three"))]);
        assert_eq!(get(&log), Some(b"three".to_vec()));
    }

    #[test]
    fn a_hot_row_is_read_from_the_engine_once_and_again_when_all_was_forgotten() {
        let (kv, hot) = (MemoryKv::in_memory().unwrap(), Hot::default());
        let (log, entry) = (key(space::LOG, 1), key(space::ENTRY, 1));
        let get = |key: &[u8]| hot.over(&kv).get(key).unwrap();
        put(&kv, None, &[(log.clone(), Some(b"one")), (entry.clone(), Some(b"one"))]);
        assert_eq!((get(&log), get(&entry)), (Some(b"one".to_vec()), Some(b"one".to_vec())));
        // Behind its back, as no writer does.
        put(&kv, None, &[(log.clone(), Some(b"two")), (entry.clone(), Some(b"two"))]);
        assert_eq!((get(&log), get(&entry)), (Some(b"one".to_vec()), Some(b"two".to_vec())));
        hot.forget();
        assert_eq!(get(&log), Some(b"two".to_vec()));
    }

    #[test]
    fn what_is_used_stays_and_the_bytes_are_bounded() {
        let (kv, hot) = (MemoryKv::in_memory().unwrap(), Hot::default());
        let value = vec![7; LARGEST / 2];
        let rows = u32::try_from(4 * limits::HOT_BYTES_CACHED / value.len()).unwrap();
        put(&kv, None, &[(key(space::LOG, 0), Some(b"used"))]);
        for n in 1..rows {
            put(&kv, None, &[(key(space::LOG, n), Some(&value))]);
            let over = hot.over(&kv);
            assert_eq!(over.get(&key(space::LOG, n)).unwrap().as_ref(), Some(&value));
            assert_eq!(over.get(&key(space::LOG, 0)).unwrap(), Some(b"used".to_vec()));
            let rows = hot.rows();
            let bytes = rows.young.iter().chain(&rows.old).map(|(key, value)| key.len() + value.len()).sum::<usize>();
            assert!(bytes <= limits::HOT_BYTES_CACHED, "{bytes}");
            assert!(rows.has(&key(space::LOG, 0)) && rows.has(&key(space::LOG, n)));
        }
        assert!(!hot.rows().has(&key(space::LOG, 1)));
        put(&kv, None, &[(key(space::LOG, 1), Some(&vec![7; LARGEST + 1]))]);
        assert_eq!(hot.over(&kv).get(&key(space::LOG, 1)).unwrap().map(|value| value.len()), Some(LARGEST + 1));
        assert!(!hot.rows().has(&key(space::LOG, 1)), "too large to be kept");
    }
}
