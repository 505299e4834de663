//! Journal: our own look at fjall's newest journal.
//! Owns: the cutting of a torn end that fjall does not cut itself, a handle of our own for the errors of its syncs.
//! Never: writes a batch; cuts a journal that fjall can read.
//!
//! A journal is a run of batches: start (1, count of 4 bytes, number of 8), items (2, kind, compression, keyspace of 8, key
//! length of 2, value lengths of 4 and 4, key, value) or clearings (4, keyspace of 8), end (3, xxh3 over the items' bytes,
//! "FJL" and 3), integers little-endian. Behind the last one lie zeros.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";
/// Tag, kind, compression, keyspace.
const ITEM_FIXED_BYTES: usize = 11;
const CLEAR_BYTES: usize = 9;

/// Cuts the newest journal behind its last whole batch, if anything is behind it; tells whether it was.
///
/// fjall cuts off what ends in the middle, and refuses a journal in which a whole stretch has the wrong checksum. After a
/// power loss the end may be just that: of what was not synced, some pages are there and some are not. Whether anything
/// synced was cut is for whoever knows the newest synced batch.
pub(super) fn cut_torn_end(home: &Path) -> io::Result<bool> {
    let Some((_, path)) = newest(home)? else { return Ok(false) };
    let bytes = fs::read(&path)?;
    let whole = whole_bytes(&bytes);
    if bytes.iter().skip(whole).all(|byte| *byte == 0) {
        return Ok(false);
    }
    tracing::warn!(whole, "the newest journal has a torn end, which is cut off");
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
    file.sync_all()?;
    Ok(true)
}

/// The length of the whole batches at the beginning.
fn whole_bytes(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(len) = bytes.get(whole..).and_then(batch_bytes) {
        whole += len;
    }
    whole
}

/// The length of the batch with which the bytes begin, if it is whole.
fn batch_bytes(bytes: &[u8]) -> Option<usize> {
    let (START, rest) = take::<1>(bytes).map(|([tag], rest)| (tag, rest))? else { return None };
    let (count, rest) = take::<4>(rest)?;
    let (_, mut rest) = take::<8>(rest)?;
    let mut sum = Xxh3::new();
    for _ in 0..u32::from_le_bytes(count) {
        let len = item_bytes(rest)?;
        let (item, behind) = rest.split_at_checked(len)?;
        sum.update(item);
        rest = behind;
    }
    let (END, rest) = take::<1>(rest).map(|([tag], rest)| (tag, rest))? else { return None };
    let (expected, rest) = take::<8>(rest)?;
    let rest = rest.strip_prefix(MAGIC)?;
    (sum.digest() == u64::from_le_bytes(expected)).then(|| bytes.len() - rest.len())
}

fn item_bytes(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        CLEAR => Some(CLEAR_BYTES),
        ITEM => {
            let (key, rest) = take::<2>(bytes.get(ITEM_FIXED_BYTES..)?)?;
            let (_, rest) = take::<4>(rest)?;
            let (value, _) = take::<4>(rest)?;
            let value = usize::try_from(u32::from_le_bytes(value)).ok()?;
            Some(ITEM_FIXED_BYTES + 10 + usize::from(u16::from_le_bytes(key)) + value)
        }
        _ => None,
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest))
}

/// The journal with the greatest number.
fn newest(home: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let mut found = None;
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found = found.max(Some((number, path)));
        }
    }
    Ok(found)
}

/// A handle of our own on the journal that is written to.
///
/// The system tells of a failed sync once for every handle, and fjall has one for all its threads: when one of those that
/// write tables is told, the next sync of a batch is told that all is well.
#[derive(Debug)]
pub(super) struct OwnHandle {
    home: PathBuf,
    number: u64,
    file: File,
}

impl OwnHandle {
    pub(super) fn open(home: &Path) -> io::Result<Self> {
        let (number, path) = newest(home)?.ok_or_else(|| io::Error::other("there is no journal"))?;
        Ok(Self { home: home.to_owned(), number, file: File::open(path)? })
    }

    /// Learns whether a sync failed since the last call, and moves on when there is a newer journal.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        loop {
            let next = self.number + 1;
            match File::open(self.home.join(format!("{next}.jnl"))) {
                Ok(file) => {
                    file.sync_data()?;
                    (self.number, self.file) = (next, file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A journal with ten batches, and where each ends.
    fn journal() -> (tempfile::TempDir, PathBuf, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let mut ends = Vec::new();
        {
            let db = Database::builder(dir.path()).open().unwrap();
            let rows = db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
            let path = newest(dir.path()).unwrap().unwrap().1;
            for n in 0..10_u8 {
                let mut batch = db.batch();
                batch.insert(&rows, [n], vec![n + 1; 4_500]);
                batch.remove(&rows, [n, n]);
                batch.commit().unwrap();
                db.persist(PersistMode::SyncAll).unwrap();
                ends.push(whole_bytes(&fs::read(&path).unwrap()));
            }
        }
        let path = newest(dir.path()).unwrap().unwrap().1;
        (dir, path, ends)
    }

    #[test]
    fn a_journal_is_read_as_fjall_writes_it() {
        let (dir, _, ends) = journal();
        assert!(ends[0] > 4_500 && ends.is_sorted_by(|a, b| b - a > 4_500), "{ends:?}");
        assert!(!cut_torn_end(dir.path()).unwrap(), "nothing is torn");
    }

    #[test]
    fn a_page_that_is_missing_in_the_last_batch_is_cut_with_it_and_fjall_opens() {
        let (dir, path, ends) = journal();
        let mut bytes = fs::read(&path).unwrap();
        // The middle of the last value: every length in the batch is right.
        bytes[ends[8] + 500..ends[8] + 1_500].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert!(Database::builder(dir.path()).open().is_err(), "fjall cuts it itself now; this can go");
        assert!(cut_torn_end(dir.path()).unwrap());
        let db = Database::builder(dir.path()).open().unwrap();
        let rows = db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
        assert_eq!((rows.get([8]).unwrap().unwrap().len(), rows.get([9]).unwrap()), (4_500, None));
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let (_dir, path, ends) = journal();
        let bytes = fs::read(path).unwrap();
        for end in 0..ends[0] + 40 {
            assert!(whole_bytes(&bytes[..end]) <= end);
        }
        for at in 0..60 {
            let mut odd = bytes[..ends[1]].to_vec();
            odd[at] ^= 0xff;
            whole_bytes(&odd);
        }
    }
}
