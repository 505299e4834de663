//! Seal: an ordered store whose rows nobody reads, changes or takes back without the data key.
//! Owns: the sealed form of rows and keys, the sums by which an old row is known, the order of what is read.
//! Never: where the data key comes from (`wrap`), a disk, a clock; chance is handed in.
//! Rules: docs/protocol/at-rest.md. Decision: docs/adr/0027-rows-are-sealed-above-the-store.md.
//!
//! It stands above [`OrderedKv`] and is one: whatever checks, copies or mends the store below needs no key.

mod keys;
mod scan;
#[cfg(test)]
mod tests;
pub mod wrap;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_storage::{
    Batch, KEY_BYTES_MAX, KEY_END, Op, Order, OrderedKv, Reads, Row, Schema, StorageError, VALUE_BYTES_MAX,
};
use zeroize::Zeroizing;

pub use self::keys::{KeyId, KeyShape, SealKey, Shapes};
use self::keys::{Keys, Mark};
use self::scan::Heads;
use crate::chance::Chance;

/// What the store below says of itself: a program that knows no seals refuses it.
pub const SEALED_SCHEMA: Schema = Schema { name: "sealed rows", version: 1, steps: &[] };

/// The most that sealing adds to a value: nonce, tag, and the row's key with its length.
pub const SEAL_BYTES_MAX: usize = keys::NONCE_BYTES + keys::TAG_BYTES + 2 + KEY_BYTES_MAX;

/// The longest value of a sealed store, in bytes.
pub const SEALED_VALUE_BYTES_MAX: usize = VALUE_BYTES_MAX - SEAL_BYTES_MAX;

/// Where the sums are. The caller's own keys of space zero are longer once they are sealed.
const SUMS_KEY: &[u8] = &[0, b's'];

/// Rows read at once while the sums are checked.
const CHECK_PAGE: usize = 512;

/// How much is read when a sealed store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// What does not grow with the messages: keys, groups, people. An old row among these is found.
    Guarded,
    /// Every row: after an end that was not clean, and when somebody asks.
    Everything,
}

/// A sealed store over another.
pub struct SealedKv<K> {
    below: K,
    keys: Keys,
    /// Held while a batch is applied.
    state: Mutex<State>,
    heads: Mutex<Heads>,
}

struct State {
    sums: Sums,
    chance: Chance,
}

/// What the batches left, in numbers that only the key's holder can make.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    /// Rows that do not grow with the messages.
    guarded: Sum,
    /// The others.
    growing: Sum,
}

/// A sum over the marks of rows, modulo 2^256: whatever order they came in (Clarke et al., "Incremental Multiset Hash
/// Functions", ASIACRYPT 2003, §5, with a secret key).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    marks: [u8; 32],
}

impl Sum {
    fn add(&mut self, mark: &Mark) {
        self.rows = self.rows.wrapping_add(1);
        let mut carry = 0_u16;
        for (byte, other) in self.marks.iter_mut().zip(mark) {
            carry += u16::from(*byte) + u16::from(*other);
            let [low, high] = carry.to_le_bytes();
            *byte = low;
            carry = u16::from(high);
        }
    }

    fn take(&mut self, mark: &Mark) {
        self.rows = self.rows.wrapping_sub(1);
        let mut borrow = 0_i16;
        for (byte, other) in self.marks.iter_mut().zip(mark) {
            let left = i16::from(*byte) - i16::from(*other) - borrow;
            borrow = i16::from(left < 0);
            let [low, _] = left.to_le_bytes();
            *byte = low;
        }
    }
}

impl Sums {
    fn of(&mut self, grows: bool) -> &mut Sum {
        if grows { &mut self.growing } else { &mut self.guarded }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        for sum in [&self.guarded, &self.growing] {
            bytes.extend_from_slice(&sum.rows.to_le_bytes());
            bytes.extend_from_slice(&sum.marks);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (guarded, growing) = bytes.split_first_chunk::<40>()?;
        let sum = |bytes: &[u8; 40]| {
            let (rows, marks) = bytes.split_first_chunk::<8>()?;
            Some(Sum { rows: u64::from_le_bytes(*rows), marks: marks.try_into().ok()? })
        };
        Some(Self { guarded: sum(guarded)?, growing: sum(growing.try_into().ok()?)? })
    }
}

impl<K: OrderedKv> SealedKv<K> {
    /// Opens the sealed store in `below`, new or kept, and checks as much of it as `check` says.
    ///
    /// `shapes` say how keys are built and must stay as they were; `chance` gives the nonces and must never have been
    /// used before, whatever became of the store.
    ///
    /// # Errors
    /// [`StorageError::Altered`]: the key is another, or somebody changed a row, took one away, or put back an old one.
    /// [`StorageError::Damaged`]: the disk lost a row of those that are guarded.
    /// What the store below reports.
    pub fn open(below: K, key: &SealKey, shapes: Shapes, chance: Chance, check: Check) -> Result<Self, StorageError> {
        let keys = Keys::of(key, shapes);
        let sums = match below.get(SUMS_KEY)? {
            Some(sealed) => {
                let (_, opened) = keys.open(SUMS_KEY, &sealed)?;
                Sums::decode(&opened).ok_or_else(|| altered(SUMS_KEY, "no sums"))?
            }
            None => Sums::default(),
        };
        let state = Mutex::new(State { sums, chance });
        let sealed = Self { below, keys, state, heads: Mutex::default() };
        sealed.check(Check::Guarded)?;
        if check == Check::Everything {
            match sealed.check(check) {
                // A text that the disk lost is named when it is read, and must not keep everything else from its owner.
                Err(StorageError::Damaged { what, .. }) => {
                    tracing::error!(what, "a row is damaged; whether others are as they were left cannot be told");
                }
                other => other?,
            }
        }
        Ok(sealed)
    }

    /// Reads the stored rows and compares them with what the batches left. Batches wait until it is done.
    ///
    /// # Errors
    /// [`StorageError::Altered`]; what the store below reports.
    pub fn check(&self, check: Check) -> Result<(), StorageError> {
        let state = self.state();
        let mut found = Sums::default();
        for (from, to) in self.ranges(check) {
            let mut from = from;
            loop {
                let page = self.below.scan(&from, &to, Order::Ascending, CHECK_PAGE)?;
                let full = page.len() == CHECK_PAGE;
                for (stored, sealed) in page {
                    if stored != SUMS_KEY && stored != whimbrel_storage::SCHEMA_KEY {
                        let mark = self.keys.mark(&stored, &sealed)?;
                        if check == Check::Everything {
                            // The sums tell which rows there are; only opening one tells that all of it is as it was.
                            let _row = self.keys.open(&stored, &sealed)?;
                        }
                        found.of(self.keys.grows(&stored)).add(&mark);
                    }
                    from = stored;
                }
                from.push(0);
                if !full {
                    break;
                }
            }
        }
        let what = "a row was changed, is missing, or is an old one";
        if found.guarded != state.sums.guarded {
            return Err(altered(SUMS_KEY, what));
        }
        if check == Check::Everything && found.growing != state.sums.growing {
            return Err(altered(SUMS_KEY, what));
        }
        Ok(())
    }

    /// How many rows there are, as the batches counted them.
    pub fn rows(&self) -> u64 {
        let sums = self.state().sums;
        sums.guarded.rows.saturating_add(sums.growing.rows)
    }

    /// The store below.
    pub fn below(&self) -> &K {
        &self.below
    }

    /// The store below, to close it.
    pub fn into_below(self) -> K {
        self.below
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the sums as they were: they are set only after the batch was applied.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stretches of stored keys to read: between the spaces that grow, or all.
    fn ranges(&self, check: Check) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut from = Vec::new();
        let mut ranges = Vec::new();
        if check == Check::Guarded {
            for space in self.keys.growing_spaces() {
                ranges.push((std::mem::take(&mut from), vec![space]));
                from = match space.checked_add(1) {
                    Some(next) => vec![next],
                    None => return ranges,
                };
            }
        }
        ranges.push((from, KEY_END.to_vec()));
        ranges
    }

    /// Reads one row by the key the caller knows it by.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let stored = self.keys.stored(key);
        let Some(sealed) = self.below.get(&stored)? else { return Ok(None) };
        let (found, value) = self.keys.open(&stored, &sealed)?;
        if found != key {
            return Err(altered(key, "another row's"));
        }
        Ok(Some(value))
    }
}

impl<K: OrderedKv> Reads for SealedKv<K> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.read(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        scan::scan(&self.below, &self.keys, &self.heads, (from, to), order, limit)
    }
}

impl<K: OrderedKv> OrderedKv for SealedKv<K> {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        let mut changes: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for op in batch.ops() {
            let (key, value): (&[u8], Option<&[u8]>) = match op {
                Op::Put { key, value } => (key, Some(value)),
                Op::Delete { key } => (key, None),
            };
            for (what, len, max) in
                [("a key", key.len(), KEY_BYTES_MAX), ("a value", value.map_or(0, <[u8]>::len), SEALED_VALUE_BYTES_MAX)]
            {
                if len > max {
                    return Err(StorageError::TooLarge { what, max });
                }
            }
            changes.insert(key, value);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let State { sums, chance } = &mut *state;
        let (mut next, mut sealed_batch) = (*sums, Batch::new());
        let (mut new_heads, mut gone) = (Vec::new(), Vec::new());
        for (key, value) in changes {
            let stored = self.keys.stored(key);
            let sum = next.of(self.keys.grows(&stored));
            if let Some(old) = self.below.get(&stored)? {
                sum.take(&self.keys.mark(&stored, &old)?);
            }
            match value {
                Some(value) => {
                    let sealed = self.keys.seal(&stored, key, value, chance);
                    sum.add(&self.keys.mark(&stored, &sealed)?);
                    sealed_batch.put(stored, sealed);
                    new_heads.push(key);
                }
                None => {
                    sealed_batch.delete(stored);
                    gone.push(key);
                }
            }
        }
        sealed_batch.put(SUMS_KEY.to_vec(), self.keys.seal(SUMS_KEY, &[], &Zeroizing::new(next.encode()), chance));
        self.below.apply(&sealed_batch)?;
        *sums = next;
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.forget(&self.keys, &gone);
        heads.add(&self.keys, &new_heads);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.below.sync()
    }
}

impl<K> std::fmt::Debug for SealedKv<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedKv(…)")
    }
}

fn altered(key: &[u8], what: &str) -> StorageError {
    StorageError::Altered { space: key.first().copied().unwrap_or(0), what: what.to_owned() }
}
