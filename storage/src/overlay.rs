//! Overlay: reads that see changes which are not applied yet.
//! Owns: the pending changes of one step, until they become its batch or are dropped without a trace.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Batch, Order, Reads, Row, StorageError};

/// Changes on top of a store. Reads see them; the store does not, until [`Overlay::into_batch`] is applied.
pub struct Overlay<'a> {
    below: &'a dyn Reads,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Of those, the rows that the store does not have.
    new: BTreeSet<Vec<u8>>,
}

/// The changes of an overlay, for the one it was made on top of ([`Overlay::take_over`]).
#[derive(Debug, Default)]
pub struct Pending {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    new: BTreeSet<Vec<u8>>,
}

impl<'a> Overlay<'a> {
    /// Nothing changed yet.
    pub fn new(below: &'a dyn Reads) -> Self {
        Self { below, changes: BTreeMap::new(), new: BTreeSet::new() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Sets `key`, which has no value here, to `value` ([`Batch::put_new`]).
    pub fn put_new(&mut self, key: Vec<u8>, value: Vec<u8>) {
        debug_assert!(!matches!(self.get(&key), Ok(Some(_))), "a row said to be new is there");
        // What this very step removed may still be in the store.
        if self.changes.insert(key.clone(), Some(value)).is_none() {
            self.new.insert(key);
        }
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.new.remove(&key);
        self.changes.insert(key, None);
    }

    /// Takes over the changes of an overlay that was made on top of this one.
    pub fn absorb(&mut self, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        self.take_over(Pending { changes, new: BTreeSet::new() });
    }

    /// As [`Overlay::absorb`], with what was said about new rows.
    pub fn take_over(&mut self, Pending { changes, mut new }: Pending) {
        for (key, value) in changes {
            // With nothing of it here, it is as new to the store as it was to this overlay.
            if let Some(new) = new.take(&key)
                && !self.changes.contains_key(&key)
            {
                self.new.insert(new);
            }
            if value.is_none() {
                self.new.remove(&key);
            }
            self.changes.insert(key, value);
        }
    }

    /// The changes, for [`Overlay::take_over`].
    pub fn into_pending(self) -> Pending {
        Pending { changes: self.changes, new: self.new }
    }

    /// The changes by key: `None` is a removal.
    pub fn into_changes(self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        self.changes
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes as one batch, in key order.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        let mut new = self.new.into_iter().peekable();
        for (key, value) in self.changes {
            let is_new = new.next_if_eq(&key).is_some();
            match value {
                Some(value) if is_new => batch.put_new(key, value),
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }
}

impl Reads for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let changed: BTreeMap<_, _> =
            self.changes.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to))).collect();
        // A removal above hides at most one row below, so this many rows are enough.
        let removed = changed.values().filter(|value| value.is_none()).count();
        let below = self.below.scan(from, to, order, limit.saturating_add(removed))?;
        let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            below.into_iter().map(|(key, value)| (key, Some(value))).collect();
        merged.extend(changed.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        let present = merged.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
        Ok(match order {
            Order::Ascending => present.take(limit).collect(),
            Order::Descending => present.rev().take(limit).collect(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{MemoryEngine, MemoryKv, Op, OrderedKv};

    /// The keys that a batch says are new.
    fn said_new(batch: &Batch) -> Vec<&[u8]> {
        let new = batch.claims().filter(|(_, new)| *new);
        new.map(|(op, _)| match op {
            Op::Put { key, .. } | Op::Delete { key } => key.as_slice(),
        })
        .collect()
    }

    #[test]
    fn what_is_new_stays_so_through_overlays_and_what_was_removed_before_is_not() {
        let store = MemoryKv::open(MemoryEngine::new(), None).unwrap();
        let mut batch = Batch::new();
        batch.put(b"kept".to_vec(), vec![1]);
        store.apply(&batch).unwrap();
        let mut group = Overlay::new(&store);
        let mut rows = Overlay::new(&group);
        for key in [b"a", b"b", b"c"] {
            rows.put_new(key.to_vec(), vec![1]);
        }
        rows.put(b"a".to_vec(), vec![2]);
        rows.delete(b"b".to_vec());
        rows.delete(b"kept".to_vec());
        let pending = rows.into_pending();
        group.take_over(pending);
        let mut rows = Overlay::new(&group);
        rows.put_new(b"kept".to_vec(), vec![3]);
        rows.put_new(b"d".to_vec(), vec![3]);
        rows.put(b"c".to_vec(), vec![3]);
        let pending = rows.into_pending();
        group.take_over(pending);
        let batch = group.into_batch();
        assert_eq!(said_new(&batch), [b"a", b"c", b"d"]);
        let mut both = Batch::new();
        both.put(b"first".to_vec(), vec![]);
        both.extend(batch);
        assert_eq!(said_new(&both), [b"a", b"c", b"d"]);
        store.apply(&both).unwrap();
        assert_eq!(store.verify().unwrap().rows, 5);
    }
}
