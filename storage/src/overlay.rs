//! Overlay: reads that see changes which are not applied yet.
//! Owns: the pending changes of one step, until they become its batch or are dropped without a trace.

use std::collections::BTreeMap;

use crate::{Batch, Order, Reads, Row, StorageError};

/// Changes on top of a store. Reads see them; the store does not, until [`Overlay::into_batch`] is applied.
pub struct Overlay<'a> {
    below: &'a dyn Reads,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    /// Nothing changed yet.
    pub fn new(below: &'a dyn Reads) -> Self {
        Self { below, changes: BTreeMap::new() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// Takes over the changes of an overlay that was made on top of this one.
    pub fn absorb(&mut self, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        self.changes.extend(changes);
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
        for (key, value) in self.changes {
            match value {
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
