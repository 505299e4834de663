//! Copying a store into another: export, restore, and the way from one engine to the next.
//! Owns: the paged copy and its proof. Never: where the other store lies.
//!
//! An embedded engine may not give deleted space back; a copy into a fresh store does, and is the one repair there is.

use crate::{Batch, KEY_END, Order, OrderedKv, Reads, StorageError};

/// Rows read at once: of the largest values, 256 MiB.
const PAGE_ROWS: usize = 32;
/// Bytes after which a batch of the copy ends.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

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
    let mut batch = Batch::new();
    let mut batch_bytes = 0_usize;
    let original = walk(from, |key, value| {
        batch_bytes = batch_bytes.saturating_add(key.len()).saturating_add(value.len());
        batch.put(key, value);
        if batch_bytes >= PAGE_BYTES {
            into.apply(&std::mem::take(&mut batch))?;
            batch_bytes = 0;
        }
        Ok(())
    })?;
    into.apply(&batch)?;
    into.sync()?;
    let copied = walk(into, |_, _| Ok(()))?;
    if copied != original {
        return Err(StorageError::Engine(format!("the copy reads back as {copied:?}, not {original:?}")));
    }
    Ok(copied)
}

fn walk(
    store: &impl Reads,
    mut visit: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), StorageError>,
) -> Result<Copied, StorageError> {
    let mut seen = Copied::default();
    let mut hasher = crc32fast::Hasher::new();
    let mut from = Vec::new();
    loop {
        let page = store.scan(&from, &KEY_END, Order::Ascending, PAGE_ROWS)?;
        let Some((last, _)) = page.last() else { break };
        from.clone_from(last);
        from.push(0);
        for (key, value) in page {
            for part in [&key, &value] {
                hasher.update(&len_u64(part).to_le_bytes());
                hasher.update(part);
                seen.bytes = seen.bytes.saturating_add(len_u64(part));
            }
            seen.rows = seen.rows.saturating_add(1);
            visit(key, value)?;
        }
    }
    seen.checksum = hasher.finalize();
    Ok(seen)
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
    fn copy_of_nothing_is_empty() {
        let (from, into) = (MemoryKv::in_memory().unwrap(), MemoryKv::in_memory().unwrap());
        assert_eq!(copy(&from, &into).unwrap(), Copied::default());
    }
}
