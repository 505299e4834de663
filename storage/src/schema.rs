//! Schema: which version of a caller's rows a store holds, and the way to them from an older one.
//! Owns: the version row, the running of the steps. Never: what a step changes; whoever owns the rows says it.
//!
//! A step runs page by page. Each page is one batch, and the same batch keeps the place at which the next one begins: a
//! migration that was interrupted goes on where it stood, and none of its pages happens twice.

use crate::{Batch, KEY_END, Order, OrderedKv, Reads, StorageError};

/// The key of the version row; no caller has rows in space zero.
pub const SCHEMA_KEY: &[u8] = &[0];

/// Whose rows, in which version, and how older ones become it.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Whose: "relay" or "node".
    pub name: &'static str,
    /// What the program writes. The first version is 1.
    pub version: u32,
    /// One for every older version that can still be read, from each to the next.
    pub steps: &'static [Step],
}

/// From one version to the next.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The version it begins with; it ends with the one after.
    pub from: u32,
    /// Changes rows from the given place on: the page's batch and the place of the next page. It must not depend on
    /// anything but the rows, and never touch [`SCHEMA_KEY`].
    pub page: fn(&dyn Reads, &[u8]) -> Result<Page, StorageError>,
}

/// What one page of a step changes.
#[derive(Debug, Default)]
pub struct Page {
    /// The changes.
    pub batch: Batch,
    /// Where the next page begins; absent when this is the last.
    pub next: Option<Vec<u8>>,
}

/// The version row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    name: String,
    version: u32,
    /// Where the step away from `version` stands, once it has begun.
    place: Option<Vec<u8>>,
}

/// Makes the rows be of the version that `schema` names. A new store is marked with it. Answers the version that was
/// found.
///
/// A store that has rows and no version row is of version 1: those were written before the row existed.
///
/// # Errors
/// [`StorageError::TooNew`] and [`StorageError::WrongRows`]: nothing was touched. [`StorageError::DoesNotOpen`]: there
/// is no step from that version any more. What the store reports.
pub fn bring_up(kv: &impl OrderedKv, schema: &Schema) -> Result<u32, StorageError> {
    let mut at = of(kv, schema)?;
    let found = at.version;
    while at.version < schema.version {
        let step = step_from(at.version, schema)?;
        let Page { mut batch, next } = (step.page)(kv, at.place.as_deref().unwrap_or_default())?;
        at.place = next;
        if at.place.is_none() {
            at.version += 1;
            tracing::info!(version = at.version, "the store's rows were brought up");
        }
        batch.put(SCHEMA_KEY.to_vec(), encode(&at));
        kv.apply(&batch)?;
        kv.sync()?;
    }
    if kv.get(SCHEMA_KEY)?.is_none() {
        let mut batch = Batch::new();
        batch.put(SCHEMA_KEY.to_vec(), encode(&at));
        kv.apply(&batch)?;
        kv.sync()?;
    }
    Ok(found)
}

/// Which version the rows have, as [`bring_up`] would find it, and whether it would take them. Changes nothing.
///
/// # Errors
/// As for [`bring_up`].
pub fn look_at(rows: &dyn Reads, schema: &Schema) -> Result<u32, StorageError> {
    let found = of(rows, schema)?.version;
    (found..schema.version).try_for_each(|version| step_from(version, schema).map(drop))?;
    Ok(found)
}

fn of(rows: &dyn Reads, schema: &Schema) -> Result<Version, StorageError> {
    let at = match rows.get(SCHEMA_KEY)? {
        Some(bytes) => decode(&bytes)?,
        None => {
            let new = rows.scan(&[], &KEY_END, Order::Ascending, 1)?.is_empty();
            let version = if new { schema.version } else { 1 };
            Version { name: schema.name.to_owned(), version, place: None }
        }
    };
    if at.name != schema.name {
        return Err(StorageError::WrongRows { found: at.name, asked: schema.name });
    }
    if at.version > schema.version {
        return Err(StorageError::TooNew { found: at.version, known: schema.version });
    }
    Ok(at)
}

fn step_from(version: u32, schema: &Schema) -> Result<&'static Step, StorageError> {
    schema.steps.iter().find(|step| step.from == version).ok_or_else(|| {
        let what = format!("its rows have version {version}, from which this program knows no way on");
        StorageError::DoesNotOpen { what }
    })
}

/// `version (4, little-endian) | length of the name (1) | name | 1 and the place, or 0`.
fn encode(version: &Version) -> Vec<u8> {
    let mut bytes = version.version.to_le_bytes().to_vec();
    bytes.push(u8::try_from(version.name.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(version.name.as_bytes());
    match &version.place {
        Some(place) => {
            bytes.push(1);
            bytes.extend_from_slice(place);
        }
        None => bytes.push(0),
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Version, StorageError> {
    let parse = || {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let place = match rest.split_first()? {
            (0, []) => None,
            (1, place) => Some(place.to_vec()),
            _ => return None,
        };
        Some(Version { name, version: u32::from_le_bytes(*version), place })
    };
    parse().ok_or_else(|| StorageError::Damaged { space: 0, what: "the version row cannot be read".to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Kv, MemoryEngine, MemoryKv};

    const FIRST: Schema = Schema { name: "test", version: 1, steps: &[] };
    const THIRD: Schema = Schema { name: "test", version: 3, steps: &[ONE_TO_TWO, TWO_TO_THREE] };

    /// Appends a byte to every value, ten rows a page: done twice to a row, it would show.
    const ONE_TO_TWO: Step = Step { from: 1, page: |reads, from| append(reads, from, b'2') };
    const TWO_TO_THREE: Step = Step { from: 2, page: |reads, from| append(reads, from, b'3') };

    fn append(reads: &dyn Reads, from: &[u8], byte: u8) -> Result<Page, StorageError> {
        let from = if from.is_empty() { &[1] } else { from };
        let rows = reads.scan(from, &KEY_END, Order::Ascending, 10)?;
        let next = rows.last().filter(|_| rows.len() == 10).map(|(key, _)| [key.as_slice(), &[0]].concat());
        let mut batch = Batch::new();
        for (key, mut value) in rows {
            value.push(byte);
            batch.put(key, value);
        }
        Ok(Page { batch, next })
    }

    fn with_rows(disk: &MemoryEngine) -> MemoryKv {
        let store = Kv::open(disk.clone(), None).unwrap();
        let mut batch = Batch::new();
        for n in 1..=55 {
            batch.put(vec![n], vec![b'1']);
        }
        store.apply(&batch).unwrap();
        store.sync().unwrap();
        store
    }

    fn values(store: &MemoryKv) -> Vec<Vec<u8>> {
        store.scan(&[1], &KEY_END, Order::Ascending, 100).unwrap().into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn new_store_is_marked_and_opens_again() {
        let store = MemoryKv::in_memory().unwrap();
        assert_eq!(bring_up(&store, &THIRD).unwrap(), 3);
        assert_eq!(bring_up(&store, &THIRD).unwrap(), 3);
        assert!(matches!(bring_up(&store, &FIRST), Err(StorageError::TooNew { found: 3, known: 1 })));
        let other = Schema { name: "other", ..THIRD };
        assert!(matches!(bring_up(&store, &other), Err(StorageError::WrongRows { .. })));
    }

    #[test]
    fn older_rows_become_the_version_asked_for_each_once() {
        let store = with_rows(&MemoryEngine::new());
        assert_eq!(bring_up(&store, &THIRD).unwrap(), 1);
        assert_eq!(values(&store), vec![b"123".to_vec(); 55]);
        assert_eq!(bring_up(&store, &THIRD).unwrap(), 3);
        assert_eq!(values(&store), vec![b"123".to_vec(); 55]);
    }

    #[test]
    fn interrupted_migration_goes_on_where_it_stood() {
        // Six pages a step: a crash after each of them, and none makes a difference.
        for survive in 1..12 {
            let disk = MemoryEngine::new();
            let mut store = with_rows(&disk);
            for _ in 0..survive {
                disk.fail_next_sync(StorageError::Engine("crash".to_owned()));
                bring_up(&store, &THIRD).unwrap_err();
                drop(store);
                // The page was on the disk when the process ended, and nobody had been told.
                disk.crash(1);
                store = Kv::open(disk.clone(), None).unwrap();
            }
            assert!(matches!(bring_up(&store, &FIRST), Ok(1) | Err(StorageError::TooNew { .. })));
            bring_up(&store, &THIRD).unwrap();
            assert_eq!(values(&store), vec![b"123".to_vec(); 55], "after {survive} crashes");
        }
    }

    #[test]
    fn version_without_a_way_on_is_refused_untouched() {
        let store = with_rows(&MemoryEngine::new());
        let fourth = Schema { name: "test", version: 4, steps: &[TWO_TO_THREE] };
        assert!(matches!(bring_up(&store, &fourth), Err(StorageError::DoesNotOpen { .. })));
        assert!(matches!(look_at(&store, &fourth), Err(StorageError::DoesNotOpen { .. })));
        assert_eq!(values(&store), vec![b"1".to_vec(); 55]);
    }

    #[test]
    fn a_look_tells_the_version_and_changes_nothing() {
        let store = with_rows(&MemoryEngine::new());
        let before = store.newest_batch().unwrap();
        assert_eq!(look_at(&store, &THIRD).unwrap(), 1);
        assert_eq!((store.newest_batch().unwrap(), store.get(SCHEMA_KEY).unwrap()), (before, None));
        bring_up(&store, &THIRD).unwrap();
        assert_eq!(look_at(&store, &THIRD).unwrap(), 3);
        assert!(matches!(look_at(&store, &FIRST), Err(StorageError::TooNew { found: 3, known: 1 })));
        let other = Schema { name: "other", ..THIRD };
        assert!(matches!(look_at(&store, &other), Err(StorageError::WrongRows { .. })));
    }
}
