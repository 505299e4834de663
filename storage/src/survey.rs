//! Survey: what a full reading of a store found.
//! Owns: the counts by space, the damage by name, the verdict. Never: reads a row (`kv`).
//! Limits: [`DAMAGES_NAMED_MAX`].

use std::collections::BTreeMap;

use crate::{StorageError, Totals};

/// How many damaged rows are named; all are counted.
const DAMAGES_NAMED_MAX: usize = 64;

/// Rows whose keys begin with the same byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceCount {
    /// How many that read as they were written.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// One place where the store is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte of the caller's key; zero for the store's own rows.
    pub space: u8,
    /// The stored key, in hexadecimal.
    pub key: String,
    /// What does not fit.
    pub what: String,
}

/// What [`Kv::survey`](crate::Kv::survey) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The newest batch.
    pub newest_batch: u64,
    /// By the first byte of the caller's keys.
    pub spaces: BTreeMap<u8, SpaceCount>,
    /// The first of the damages.
    pub damages: Vec<Damage>,
    /// How many there are.
    pub damage_count: u64,
    /// Rows and checksums as found, of the rows whose own checksum is right.
    pub found: Totals,
    /// The same as the batches counted them.
    pub counted: Totals,
    /// Pieces of large values: found, and as the rows that are cut say.
    pub pieces: (u64, u64),
}

impl Survey {
    pub(crate) fn of(newest_batch: u64, counted: Totals) -> Self {
        Self { newest_batch, counted, ..Self::default() }
    }

    pub(crate) fn count(&mut self, key: &[u8], value_len: usize) {
        let space = self.spaces.entry(key.first().copied().unwrap_or(0)).or_default();
        space.rows = space.rows.saturating_add(1);
        let bytes = u64::try_from(key.len().saturating_add(value_len)).unwrap_or(u64::MAX);
        space.bytes = space.bytes.saturating_add(bytes);
    }

    pub(crate) fn note(&mut self, space: u8, stored_key: &[u8], what: &str) {
        self.damage_count = self.damage_count.saturating_add(1);
        if self.damages.len() < DAMAGES_NAMED_MAX {
            let key = stored_key.iter().map(|byte| format!("{byte:02x}")).collect();
            self.damages.push(Damage { space, key, what: what.to_owned() });
        }
    }

    /// Whether everything is as the batches left it.
    pub fn is_whole(&self) -> bool {
        self.damage_count == 0 && self.found == self.counted && self.pieces.0 == self.pieces.1
    }

    /// How rows and pieces differ from what the batches counted, if they do.
    pub fn difference(&self) -> Option<String> {
        (self.found != self.counted || self.pieces.0 != self.pieces.1).then(|| {
            format!(
                "{} rows with sum {:x} and {} pieces, where the batches left {} with sum {:x} and {}",
                self.found.rows, self.found.sum, self.pieces.0, self.counted.rows, self.counted.sum, self.pieces.1
            )
        })
    }

    /// The totals, or the first thing that is wrong.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn verdict(&self) -> Result<Totals, StorageError> {
        if let Some(Damage { space, what, .. }) = self.damages.first() {
            return Err(StorageError::Damaged { space: *space, what: what.clone() });
        }
        match self.difference() {
            Some(what) => Err(StorageError::Damaged { space: 0, what }),
            None => Ok(self.found),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use crate::{Batch, Kv, MemoryEngine, OrderedKv};

    fn store() -> (MemoryEngine, Vec<Vec<u8>>) {
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        let keys: Vec<Vec<u8>> =
            (0..600_u16).map(|n| vec![u8::try_from(n % 3).unwrap() + 1, (n >> 8) as u8, n as u8]).collect();
        for key in &keys {
            let mut batch = Batch::new();
            batch.put(key.clone(), vec![7; if key.last() == Some(&9) { 9_000 } else { 20 }]);
            store.apply(&batch).unwrap();
        }
        (disk, keys)
    }

    #[test]
    fn survey_counts_every_space_and_finds_a_whole_store_whole() {
        let (disk, keys) = store();
        let survey = Kv::open(disk, None).unwrap().survey().unwrap();
        assert!(survey.is_whole());
        assert_eq!(survey.spaces.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(survey.spaces.values().map(|space| space.rows).sum::<u64>(), keys.len() as u64);
        assert_eq!(survey.newest_batch, 600);
    }

    #[test]
    fn survey_names_every_damaged_row_and_reads_on() {
        let (disk, keys) = store();
        for key in [&keys[10], &keys[300]] {
            let stored = [&[1], key.as_slice()].concat();
            disk.tamper(|rows| *rows.get_mut(&stored).unwrap().last_mut().unwrap() ^= 1);
        }
        disk.tamper(|rows| rows.remove(&[&[1], keys[20].as_slice()].concat()));
        let survey = Kv::open(disk, None).unwrap().survey().unwrap();
        assert_eq!(survey.damage_count, 2);
        assert!(survey.damages.iter().any(|damage| damage.space == keys[10][0] && damage.key.starts_with("01")));
        assert!(survey.difference().is_some() && survey.verdict().is_err() && !survey.is_whole());
        assert_eq!(survey.spaces.values().map(|space| space.rows).sum::<u64>(), 597);
    }
}
