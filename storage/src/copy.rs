//! Copying a store into another: export, restore, and the way from one engine to the next.
//! Owns: the paged copy and its proof. Never: where the other store lies.
//!
//! An embedded engine may not give deleted space back; a copy into a fresh store does, and is the one repair there is.

use crate::{Batch, KEY_END, Order, OrderedKv, Reads, Row, StorageError};

/// Rows read at once: of the largest values, 256 MiB.
const PAGE_ROWS: usize = 32;
/// Bytes after which a batch of the copy ends. sled writes a page of its tree several times while it fills, and uses the
/// room of what is out of date again only after a sync: with batches of 4 MiB a copy took 1.4 times the store that it was
/// made of, with these 0.8 times, in less time.
const PAGE_BYTES: usize = 256 * 1024;

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Checksum over all keys and values in order.
    pub checksum: u32,
}

/// Copies every row of `from` into `into`, syncs it, reads the copy back and compares.
///
/// `into` must be empty, and nobody may change `from` meanwhile.
///
/// # Errors
/// What either store reports, and [`StorageError::Engine`] when the copy does not read back as the original.
pub fn copy(from: &impl Reads, into: &impl OrderedKv) -> Result<Copied, StorageError> {
    if !into.scan(&[], &KEY_END, Order::Ascending, 1)?.is_empty() {
        return Err(StorageError::Engine("the store to copy into is not empty".to_owned()));
    }
    copy_on(from, into)
}

/// As [`copy`], and goes on where an earlier copy into the same store was interrupted.
///
/// Nobody may have changed `from` since; what was copied before is compared as well.
///
/// # Errors
/// As for [`copy`].
pub fn copy_on(from: &impl Reads, into: &impl OrderedKv) -> Result<Copied, StorageError> {
    let mut place = match into.scan(&[], &KEY_END, Order::Descending, 1)?.pop() {
        Some((last, _)) => after(last),
        None => Vec::new(),
    };
    while let Some(next) = copy_page(from, into, &place)? {
        place = next;
        // One batch after the other, so that an interruption costs no more than one.
        into.sync()?;
    }
    let original = walk(from)?;
    let copied = walk(into)?;
    if copied != original {
        return Err(StorageError::Engine(format!("the copy reads back as {copied:?}, not {original:?}")));
    }
    Ok(copied)
}

/// Copies a few rows from `place` on, in one batch; answers the next place, or nothing when there are no more. It syncs
/// nothing.
///
/// # Errors
/// What either store reports.
pub fn copy_page(from: &impl Reads, into: &impl OrderedKv, place: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
    let (mut batch, mut bytes, mut place) = (Batch::new(), 0, place.to_vec());
    while bytes < PAGE_BYTES {
        let page = from.scan(&place, &KEY_END, Order::Ascending, PAGE_ROWS)?;
        let Some((last, _)) = page.last() else { break };
        place = after(last.clone());
        for (key, value) in page {
            bytes += key.len() + value.len();
            batch.put(key, value);
        }
    }
    if batch.is_empty() {
        return Ok(None);
    }
    into.apply(&batch)?;
    Ok(Some(place))
}

/// Counts a page of `left`, and says whether `right` has the same rows there. Answers the next place, or nothing when
/// there are no more.
///
/// # Errors
/// What either store reports, and [`StorageError::Engine`] when they differ.
pub fn compare_page(
    left: &impl Reads,
    right: &impl Reads,
    place: &[u8],
    seen: &mut Seen,
) -> Result<Option<Vec<u8>>, StorageError> {
    let page = left.scan(place, &KEY_END, Order::Ascending, PAGE_ROWS)?;
    if right.scan(place, &KEY_END, Order::Ascending, PAGE_ROWS)? != page {
        return Err(StorageError::Engine("the copy does not read back as the original".to_owned()));
    }
    Ok(seen.add(&page))
}

/// A running count of rows in order.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    counted: Copied,
    hasher: crc32fast::Hasher,
}

impl Seen {
    /// Counts a page; answers the place behind it.
    fn add(&mut self, page: &[Row]) -> Option<Vec<u8>> {
        for (key, value) in page {
            for part in [key, value] {
                self.hasher.update(&len_u64(part).to_le_bytes());
                self.hasher.update(part);
                self.counted.bytes = self.counted.bytes.saturating_add(len_u64(part));
            }
            self.counted.rows = self.counted.rows.saturating_add(1);
        }
        page.last().map(|(last, _)| after(last.clone()))
    }

    /// What was counted.
    pub fn counted(self) -> Copied {
        Copied { checksum: self.hasher.finalize(), ..self.counted }
    }
}

fn walk(store: &impl Reads) -> Result<Copied, StorageError> {
    let (mut seen, mut place) = (Seen::default(), Vec::new());
    while let Some(next) = seen.add(&store.scan(&place, &KEY_END, Order::Ascending, PAGE_ROWS)?) {
        place = next;
    }
    Ok(seen.counted())
}

/// The first key behind this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn len_u64(part: &[u8]) -> u64 {
    u64::try_from(part.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::MemoryKv;

    #[test]
    fn copy_holds_every_row_and_refuses_a_store_in_use() {
        let (from, into) = (MemoryKv::in_memory().unwrap(), MemoryKv::in_memory().unwrap());
        let mut batch = Batch::new();
        for i in 0..100_u8 {
            batch.put(vec![i], vec![i; usize::from(i) * 100]);
        }
        batch.put(vec![0xff; crate::KEY_BYTES_MAX], b"last".to_vec());
        batch.put(vec![], b"first".to_vec());
        from.apply(&batch).unwrap();
        assert_eq!(copy(&from, &into).unwrap().rows, 102);
        assert_eq!(into.get(&[99]).unwrap(), from.get(&[99]).unwrap());
        assert_eq!(into.get(&[0xff; crate::KEY_BYTES_MAX]).unwrap().unwrap(), b"last");
        into.verify().unwrap();
        assert!(matches!(copy(&from, &into), Err(StorageError::Engine(_))));
    }

    #[test]
    fn copy_that_was_interrupted_twice_goes_on_and_compares_everything() {
        use crate::{Kv, MemoryEngine};
        let from = MemoryKv::in_memory().unwrap();
        for i in 0..200_u8 {
            let mut batch = Batch::new();
            batch.put(vec![i], vec![i; 150_000]);
            from.apply(&batch).unwrap();
        }
        let disk = MemoryEngine::new();
        for interrupted in [true, true, false] {
            let into = Kv::open(disk.clone(), None).unwrap();
            if interrupted {
                // One page more becomes durable before the end.
                let before = into.totals().unwrap().rows;
                let place = into
                    .scan(&[], &KEY_END, Order::Descending, 1)
                    .unwrap()
                    .pop()
                    .map_or(Vec::new(), |(key, _)| after(key));
                copy_page(&from, &into, &place).unwrap().unwrap();
                into.sync().unwrap();
                assert!(into.totals().unwrap().rows > before && into.totals().unwrap().rows < 200);
                disk.fail_next_sync(StorageError::Engine("the end".to_owned()));
                assert!(copy_on(&from, &into).is_err());
                drop(into);
                disk.crash(0);
            } else {
                assert_eq!(copy_on(&from, &into).unwrap().rows, 200);
            }
        }
        // A copy that went on over changed rows is found out.
        let into = Kv::open(disk, None).unwrap();
        let mut batch = Batch::new();
        batch.put(vec![3], b"changed".to_vec());
        from.apply(&batch).unwrap();
        assert!(matches!(copy_on(&from, &into), Err(StorageError::Engine(_))));
    }

    #[test]
    fn copy_of_nothing_is_empty() {
        let (from, into) = (MemoryKv::in_memory().unwrap(), MemoryKv::in_memory().unwrap());
        assert_eq!(copy(&from, &into).unwrap(), Copied::default());
    }
}
