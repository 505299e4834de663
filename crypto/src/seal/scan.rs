//! Scan: sealed rows in the order of the keys the caller knows.
//! Owns: the way through stored rows whose order is another. Never: writes.
//!
//! Rows of one head lie together in their order, but for those that differ in their hidden tails alone: these are
//! gathered and sorted. Heads lie in the order of their pseudonyms, so a scan over several of them needs to know which
//! there are: they are gathered once for each first byte that is scanned so, and kept up with every batch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use whimbrel_storage::{Order, OrderedKv, Row, StorageError};

use super::keys::Keys;

/// Stored rows read at once.
const PAGE: usize = 256;

/// The heads of keys, by their first byte: gathered once somebody scanned over them.
#[derive(Default)]
pub(super) struct Heads(BTreeMap<Option<u8>, BTreeSet<Vec<u8>>>);

impl Heads {
    /// Takes away those of rows that are gone, where a head is one row's alone; one that many may share stays: nothing is
    /// found below it.
    pub(super) fn forget(&mut self, keys: &Keys, gone: &[&[u8]]) {
        for key in gone {
            let parts = keys.parts(key);
            if !parts.whole
                && let Some(known) = self.0.get_mut(&key.first().copied())
            {
                known.remove(parts.head);
            }
        }
    }

    /// Adds those of new rows.
    pub(super) fn add(&mut self, keys: &Keys, new: &[&[u8]]) {
        for key in new {
            if let Some(known) = self.0.get_mut(&key.first().copied()) {
                let head = keys.parts(key).head;
                if !known.contains(head) {
                    known.insert(head.to_vec());
                }
            }
        }
    }
}

/// At most `limit` rows of a range that is not empty.
pub(super) fn scan(
    below: &impl OrderedKv,
    keys: &Keys,
    heads: &Mutex<Heads>,
    (from, to): (&[u8], &[u8]),
    order: Order,
    limit: usize,
) -> Result<Vec<Row>, StorageError> {
    let mut found = Vec::new();
    let range = Range { below, keys, from, to, order, limit };
    let parts = keys.parts(from);
    if parts.whole && (to.starts_with(parts.head) || is_next(parts.head, to)) {
        range.in_head(parts.head, &mut found)?;
        return Ok(found);
    }
    // The key without a first byte comes before all others.
    let first = from.first().copied();
    let mut spaces: Vec<Option<u8>> = (first.unwrap_or(0)..=to.first().copied().unwrap_or(0)).map(Some).collect();
    if to.len() == 1 {
        // Nothing that begins with this byte is smaller.
        spaces.pop();
    }
    if first.is_none() {
        spaces.insert(0, None);
    }
    let next = |index: usize| match order {
        Order::Ascending => spaces.get(index),
        Order::Descending => spaces.len().checked_sub(index + 1).and_then(|index| spaces.get(index)),
    };
    for space in (0..spaces.len()).filter_map(next) {
        if found.len() >= limit {
            break;
        }
        let known = range.heads_of(*space, heads)?;
        let mut visit = |head: &Vec<u8>| -> Result<bool, StorageError> {
            range.in_head(head, &mut found)?;
            Ok(found.len() < limit)
        };
        match order {
            Order::Ascending => {
                for head in &known {
                    if !visit(head)? {
                        break;
                    }
                }
            }
            Order::Descending => {
                for head in known.iter().rev() {
                    if !visit(head)? {
                        break;
                    }
                }
            }
        }
    }
    Ok(found)
}

struct Range<'r, K> {
    below: &'r K,
    keys: &'r Keys,
    from: &'r [u8],
    to: &'r [u8],
    order: Order,
    limit: usize,
}

impl<K: OrderedKv> Range<'_, K> {
    /// The heads in the range whose keys begin with this byte.
    fn heads_of(&self, space: Option<u8>, heads: &Mutex<Heads>) -> Result<Vec<Vec<u8>>, StorageError> {
        let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match heads.0.entry(space) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.gather(space)?),
        };
        // The range may begin within a head.
        let first = self.keys.parts(self.from).head.to_vec();
        let first = if first.first().copied() == space { first } else { Vec::new() };
        let range = known.range::<[u8], _>((Bound::Included(first.as_slice()), Bound::Excluded(self.to)));
        Ok(range.cloned().collect())
    }

    /// Reads every row of a space for its head.
    fn gather(&self, space: Option<u8>) -> Result<BTreeSet<Vec<u8>>, StorageError> {
        let mut known = BTreeSet::new();
        let first = space.unwrap_or(0);
        let (mut from, to) = (vec![first], end_of(&[first]));
        loop {
            let page = self.below.scan(&from, &to, Order::Ascending, PAGE)?;
            let full = page.len() == PAGE;
            for (stored, sealed) in page {
                // Rows of the store's own and of this one's have short keys.
                if stored.len() > 2 {
                    let (key, _) = self.keys.open(&stored, &sealed)?;
                    if key.first().copied() == space {
                        known.insert(self.keys.parts(&key).head.to_vec());
                    }
                }
                from = stored;
            }
            from.push(0);
            if !full {
                return Ok(known);
            }
        }
    }

    /// Adds the rows below one head, to the limit.
    fn in_head(&self, head: &[u8], found: &mut Vec<Row>) -> Result<(), StorageError> {
        let begin = self.keys.stored_head(&self.keys.parts(head));
        let bound = |key: &[u8]| {
            let parts = self.keys.parts(key);
            (parts.head == head).then(|| ([&begin, parts.seen].concat(), !parts.tail.is_empty()))
        };
        let mut from = bound(self.from).map_or_else(|| begin.clone(), |(from, _)| from);
        let mut to = match bound(self.to) {
            // Rows that differ in the tail alone may lie on either side.
            Some((to, true)) => end_of(&to),
            Some((to, false)) => to,
            None => end_of(&begin),
        };
        // The row that is nothing but its head, in a range that ends there.
        if from >= to {
            return Ok(());
        }
        let mut group = Group { of: Vec::new(), rows: BTreeMap::new() };
        loop {
            let room = self.limit.saturating_sub(found.len()).saturating_add(1).min(PAGE);
            let page = self.below.scan(&from, &to, self.order, room)?;
            let full = page.len() == room;
            for (stored, sealed) in page {
                let (key, value) = self.keys.open(&stored, &sealed)?;
                let seen = self.keys.parts(&key).seen;
                if group.of != seen {
                    group.flush(self, found);
                    if found.len() >= self.limit {
                        return Ok(());
                    }
                    group.of = seen.to_vec();
                }
                group.rows.insert(key, value);
                match self.order {
                    Order::Ascending => from = [stored.as_slice(), &[0]].concat(),
                    Order::Descending => to = stored,
                }
            }
            if !full || from >= to {
                group.flush(self, found);
                return Ok(());
            }
        }
    }
}

/// Rows whose order among themselves does not show.
struct Group {
    of: Vec<u8>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Group {
    fn flush<K>(&mut self, range: &Range<'_, K>, found: &mut Vec<Row>) {
        let rows = std::mem::take(&mut self.rows).into_iter();
        let fitting = rows.filter(|(key, _)| key.as_slice() >= range.from && key.as_slice() < range.to);
        let room = range.limit.saturating_sub(found.len());
        match range.order {
            Order::Ascending => found.extend(fitting.take(room)),
            Order::Descending => found.extend(fitting.rev().take(room)),
        }
    }
}

/// Whether `to` is the smallest key behind all that begin with `head`.
fn is_next(head: &[u8], to: &[u8]) -> bool {
    end_of(head) == to
}

/// The smallest key behind all that begin with `prefix`; behind every key when there is none.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    whimbrel_storage::KEY_END.to_vec()
}
