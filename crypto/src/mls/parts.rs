//! Parts: one large value in many small rows, of which only the changed are written.
//! Owns: where a value is cut, and the rows of its parts. Never: knows what the value is.
//!
//! The library rewrites all message secrets of a thread with every message: 30 KiB where a hundred members spoke, more
//! where messages are missing, though a few hundred bytes changed. So the value is cut where its own bytes say so
//! (content-defined chunking, as in Muthitacharoen et al., "A Low-bandwidth Network File System", 2001, §3.1; the
//! rolling sum as in Xia et al., "FastCDC", 2016): bytes put in or taken out move no cut but those next to them. Parts
//! are rows named by their hash, and the value is a row of those names.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use whimbrel_protocol::id::ThreadId;

use super::codec::CodecError;
use super::rows::{self, Piece};
use super::store::{Failure, RowsFailed, Store};

/// Shortest part, in bytes, save the last.
const PART_MIN: usize = 128;
/// Longest part, in bytes.
const PART_MAX: usize = 1_024;
/// A place is a cut with a chance of one in 2 to this power: parts have about 128 + 256 bytes, and a change of a few
/// bytes writes two or three.
const CUT_BITS: u32 = 8;
/// Bytes of a part's name.
const NAME: usize = 16;

/// Reads a value written by [`write`].
pub(super) fn read(store: &Store<'_>, thread: ThreadId, piece: Piece) -> Result<Option<Vec<u8>>, RowsFailed> {
    let Some(names) = store.get(&rows::piece(thread, piece))? else {
        return Ok(None);
    };
    let mut value = Vec::new();
    for name in names.chunks_exact(NAME) {
        let part = store.get(&rows::piece_of(thread, Piece::Part, name))?;
        let missing = || Failure::Codec(CodecError("a part is missing".to_owned()));
        value.extend(store.noted(part.ok_or_else(missing))?);
    }
    Ok(Some(value))
}

/// Writes a value: its names, and those parts the value before it did not have. Parts no longer named are deleted.
pub(super) fn write(store: &Store<'_>, thread: ThreadId, piece: Piece, value: &[u8]) -> Result<(), RowsFailed> {
    let before = store.get(&rows::piece(thread, piece))?.unwrap_or_default();
    let before: BTreeSet<&[u8]> = before.chunks_exact(NAME).collect();
    let mut names = Vec::new();
    let mut named = BTreeSet::new();
    for part in cut(value) {
        let hash = Sha256::digest(part);
        let name: [u8; NAME] = std::array::from_fn(|at| hash.get(at).copied().unwrap_or_default());
        names.extend_from_slice(&name);
        if named.insert(name) && !before.contains(&name[..]) {
            store.put(rows::piece_of(thread, Piece::Part, &name), part.to_vec());
        }
    }
    for name in before {
        if !named.iter().any(|kept| kept == name) {
            store.delete(rows::piece_of(thread, Piece::Part, name));
        }
    }
    store.put(rows::piece(thread, piece), names);
    Ok(())
}

fn cut(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut sum = 0_u64;
        let end = rest.iter().take(PART_MAX).enumerate().find_map(|(at, byte)| {
            sum = (sum << 1).wrapping_add(gear(*byte));
            (at + 1 >= PART_MIN && sum >> (64 - CUT_BITS) == 0).then_some(at + 1)
        });
        let (part, after) = rest.split_at(end.unwrap_or(PART_MAX.min(rest.len())));
        rest = after;
        Some(part)
    })
}

/// A fixed number for each byte with evenly spread bits (the finalizer of SplitMix64, Steele et al., 2014).
const fn gear(byte: u8) -> u64 {
    let mut z = (byte as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use whimbrel_storage::{Order, Reads, Row, StorageError};

    use super::*;
    use crate::{Chance, Seed};

    const THREAD: ThreadId = ThreadId::from_bytes([1; 32]);

    #[derive(Default)]
    struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Reads for Disk {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(&self, _: &[u8], _: &[u8], _: Order, _: usize) -> Result<Vec<Row>, StorageError> {
            Ok(Vec::new())
        }
    }

    /// Writes a value, reads it back, and tells how many bytes the batch had.
    fn written(disk: &mut Disk, value: &[u8]) -> usize {
        let store = Store::new(&*disk, Some(THREAD), super::super::config(0));
        write(&store, THREAD, Piece::MessageSecrets, value).unwrap();
        assert_eq!(read(&store, THREAD, Piece::MessageSecrets).unwrap().unwrap(), value);
        let mut bytes = 0;
        for (key, value) in store.into_changes() {
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => drop(disk.0.insert(key, value)),
                None => drop(disk.0.remove(&key)),
            }
        }
        bytes
    }

    #[test]
    fn a_small_change_writes_little_and_leaves_nothing_behind() {
        let mut chance = Chance::from_seed(Seed::from_bytes([1; 32]));
        let mut value = vec![0; 40_000];
        chance.fill(&mut value);
        let mut disk = Disk::default();
        assert!(written(&mut disk, &value) > 40_000);
        for _ in 0..50 {
            let at = chance.below(value.len() as u64) as usize;
            let new: [u8; 40] = chance.bytes();
            value.splice(at..at, new);
            let gone = chance.below(value.len() as u64 - 40) as usize;
            value.drain(gone..gone + 40);
            let bytes = written(&mut disk, &value);
            assert!(bytes < 8_000, "{bytes}");
        }
        let mut fresh = Disk::default();
        written(&mut fresh, &value);
        assert!(disk.0 == fresh.0, "what is kept depends on the way there");
    }

    #[test]
    fn runs_of_one_byte_are_kept_once() {
        let mut disk = Disk::default();
        let bytes = written(&mut disk, &[0xf6; 100_000]);
        assert!(bytes < 5_000, "{bytes}");
    }
}
