//! Batch witnesses: what every batch writes about itself, and what opening a store proves with it.
//! Owns: the ring of witnesses, the listings of keys, the format row.
//! Never: the caller's values; a damaged row is named when it is read.
//!
//! A batch is torn when some of its rows are there and others are not. Engines promise that this never happens, and one of
//! them breaks the promise when its file is damaged. So each batch writes, with its rows, a witness in a ring of
//! [`RING`]: how many keys it had, their hash, and the totals behind it; and the newest [`LISTINGS`] batches also keep the
//! list of their keys. Opening checks that no witness of the ring is missing and that the rows of the listed batches
//! are there, each with the number of the batch that wrote it last.

use std::collections::{BTreeMap, BTreeSet};

use crate::row::{Body, Space, Stored, damaged, decode};
use crate::{Engine, Op, Order, PIECE_BYTES_MAX, StorageError, Totals};

/// How many witnesses are kept.
const RING: u64 = 1_024;
/// How many batches keep the list of their keys.
const LISTINGS: u64 = 16;
/// The longest list in stored rows: 64 KiB, the keys of some 1,500 changes. What a larger batch changed beyond them is
/// counted and hashed only.
const LISTING_PIECES_MAX: usize = 16;
/// Names the row format; a later one changes the digit.
const FORMAT: &[u8] = b"whimbrel rows 1";

/// Adds the witness of batch `n` to its own changes.
pub(crate) fn record(n: u64, changes: &BTreeMap<&[u8], Option<&[u8]>>, totals: Totals, ops: &mut Vec<Op>) {
    if n == 1 {
        ops.push(put(Space::Format.key(&[]), Body::Whole(FORMAT.to_vec()), 0));
    }
    let listing = listing_of(changes);
    let mut pieces = 0_u16;
    for piece in listing.chunks(PIECE_BYTES_MAX) {
        ops.push(put(listing_key(n, pieces), Body::Piece(piece.to_vec()), n));
        pieces = pieces.saturating_add(1);
    }
    let keys = changes.iter().map(|(key, value)| (*key, value.is_some()));
    let witness = Witness { count: len_u32(changes.len()), hash: hash_of(keys), totals, pieces };
    ops.push(put(witness_key(n), Body::Whole(witness.encode()), n));
}

/// Reads what the batches left and checks it; answers the newest number and the totals behind it.
pub(crate) fn recover<E: Engine>(engine: &E) -> Result<(u64, Totals), StorageError> {
    check_format(engine)?;
    let ring = read_ring(engine)?;
    let newest = ring.keys().next_back().copied().unwrap_or(0);
    if let Some(&oldest) = ring.keys().next() {
        // A ring without a hole: the numbers follow each other, back to the first batch or all the way round.
        let len = u64::try_from(ring.len()).unwrap_or(u64::MAX);
        if len != newest.min(RING) || newest - oldest != len - 1 {
            return Err(lost(format!("{len} witnesses from {oldest} to {newest}")));
        }
    }
    if newest == 0 && !engine.scan(&Space::User.key(&[]), &Space::User.end(), Order::Ascending, 1)?.is_empty() {
        return Err(lost("there are rows and no witness of any batch".to_owned()));
    }
    check_listings(engine, &ring, newest)?;
    Ok((newest, ring.get(&newest).map_or_else(Totals::default, |witness| witness.totals)))
}

fn check_format<E: Engine>(engine: &E) -> Result<(), StorageError> {
    let key = Space::Format.key(&[]);
    match engine.get(&key)? {
        Some(bytes) => match decode(&key, bytes)?.body {
            Body::Whole(format) if format == FORMAT => Ok(()),
            _ => Err(damaged(&key, "rows of another format; written by a newer version?")),
        },
        None if engine.scan(&[], &[0xff], Order::Ascending, 1)?.is_empty() => Ok(()),
        None => Err(damaged(&key, "the format row is missing")),
    }
}

fn read_ring<E: Engine>(engine: &E) -> Result<BTreeMap<u64, Witness>, StorageError> {
    let limit = usize::try_from(RING).unwrap_or(usize::MAX).saturating_add(1);
    let mut ring = BTreeMap::new();
    for (key, bytes) in engine.scan(&Space::Witness.key(&[]), &Space::Witness.end(), Order::Ascending, limit)? {
        let Stored { n, body: Body::Whole(body), .. } = decode(&key, bytes)? else {
            return Err(damaged(&key, "no witness"));
        };
        let witness = Witness::decode(&body).filter(|_| key == witness_key(n));
        ring.insert(n, witness.ok_or_else(|| damaged(&key, "no witness"))?);
    }
    Ok(ring)
}

/// Checks the rows of the listed batches, newest first: the newest batch that names a key must have written its row.
fn check_listings<E: Engine>(engine: &E, ring: &BTreeMap<u64, Witness>, newest: u64) -> Result<(), StorageError> {
    let mut named_later = BTreeSet::new();
    // Once a batch has more keys than its list, any row that an older one names may be its work.
    let mut unlisted_since = None;
    for (&n, witness) in ring.range(newest.saturating_sub(LISTINGS - 1)..).rev() {
        let torn = |what: &str| lost(format!("batch {n} is torn: {what}"));
        let listing = read_listing(engine, n, witness.pieces)?.ok_or_else(|| torn("its list of keys is not whole"))?;
        let Some(keys) = parse_listing(&listing) else {
            return Err(torn("its list of keys cannot be read"));
        };
        let complete = len_u32(keys.len()) == witness.count;
        if complete && hash_of(keys.iter().map(|(key, put)| (key.as_slice(), *put))) != witness.hash {
            return Err(torn("its keys have another hash"));
        }
        for (key, put) in keys {
            let stored_key = Space::User.key(&key);
            if !named_later.insert(key) {
                continue;
            }
            let written_by = match engine.get(&stored_key)? {
                None => None,
                Some(bytes) => match decode(&stored_key, bytes) {
                    Ok(row) => Some(row.n),
                    Err(_) => continue, // Damage, not tearing: named when it is read.
                },
            };
            let fits = match written_by {
                Some(by) if by == n => put,
                None if !put => true,
                None => unlisted_since.is_some(),
                Some(by) => unlisted_since.is_some_and(|last| by > n && by <= last),
            };
            if !fits {
                return Err(torn("a row is not as it left it"));
            }
        }
        if !complete {
            unlisted_since = unlisted_since.or(Some(n));
        }
    }
    let behind = engine.scan(&Space::Listing.key(&[]), &Space::Listing.end(), Order::Ascending, usize::MAX)?;
    for (key, bytes) in behind {
        let n = decode(&key, bytes)?.n;
        if n > newest {
            return Err(lost(format!("batch {n} left its list of keys and no witness")));
        }
    }
    Ok(())
}

fn read_listing<E: Engine>(engine: &E, n: u64, pieces: u16) -> Result<Option<Vec<u8>>, StorageError> {
    let mut listing = Vec::new();
    for piece in 0..pieces {
        let key = listing_key(n, piece);
        let Some(bytes) = engine.get(&key)? else {
            return Ok(None);
        };
        match decode(&key, bytes)? {
            Stored { n: by, body: Body::Piece(bytes), .. } if by == n => listing.extend_from_slice(&bytes),
            _ => return Ok(None),
        }
    }
    Ok(Some(listing))
}

/// One batch, as it described itself.
#[derive(Debug)]
struct Witness {
    count: u32,
    hash: u32,
    totals: Totals,
    /// Stored rows of its list of keys.
    pieces: u16,
}

impl Witness {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(26);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        bytes.extend_from_slice(&self.totals.rows.to_le_bytes());
        bytes.extend_from_slice(&self.totals.sum.to_le_bytes());
        bytes.extend_from_slice(&self.pieces.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (rows, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        Some(Self {
            count: u32::from_le_bytes(*count),
            hash: u32::from_le_bytes(*hash),
            totals: Totals { rows: u64::from_le_bytes(*rows), sum: u64::from_le_bytes(*sum) },
            pieces: u16::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// As many keys as fit, each as `put (1) | length (2) | key`.
fn listing_of(changes: &BTreeMap<&[u8], Option<&[u8]>>) -> Vec<u8> {
    let mut listing = Vec::new();
    for (key, value) in changes {
        if listing.len() + 3 + key.len() > LISTING_PIECES_MAX * PIECE_BYTES_MAX {
            break;
        }
        push_key(&mut listing, key, value.is_some());
    }
    listing
}

fn parse_listing(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, bool)>> {
    let mut keys = Vec::new();
    while let Some(([put, l0, l1], rest)) = bytes.split_first_chunk() {
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*l0, *l1])))?;
        keys.push((key.to_vec(), *put == 1));
        bytes = rest;
    }
    bytes.is_empty().then_some(keys)
}

fn push_key(out: &mut Vec<u8>, key: &[u8], put: bool) {
    out.push(u8::from(put));
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(key);
}

fn hash_of<'a>(keys: impl Iterator<Item = (&'a [u8], bool)>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut entry = Vec::new();
    for (key, put) in keys {
        entry.clear();
        push_key(&mut entry, key, put);
        hasher.update(&entry);
    }
    hasher.finalize()
}

fn witness_key(n: u64) -> Vec<u8> {
    Space::Witness.key(&u16::try_from(n % RING).unwrap_or(0).to_be_bytes())
}

fn listing_key(n: u64, piece: u16) -> Vec<u8> {
    let mut key = Space::Listing.key(&[u8::try_from(n % LISTINGS).unwrap_or(0)]);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

fn put(key: Vec<u8>, body: Body, n: u64) -> Op {
    let (value, _) = body.encode(&key, n);
    Op::Put { key, value }
}

fn lost(what: String) -> StorageError {
    StorageError::LostTail { what }
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Batch, Kv, MemoryEngine, OrderedKv};

    /// A disk after `batches`, each with keys from `keys` of its number.
    fn disk_after(batches: u64, keys: impl Fn(u64) -> Vec<Vec<u8>>) -> MemoryEngine {
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        for n in 1..=batches {
            let mut batch = Batch::new();
            for key in keys(n) {
                batch.put(key, n.to_be_bytes().to_vec());
            }
            store.apply(&batch).unwrap();
        }
        store.sync().unwrap();
        disk
    }

    fn entry_and_head(n: u64) -> Vec<Vec<u8>> {
        vec![[b"entry".as_slice(), &n.to_be_bytes()].concat(), b"head".to_vec()]
    }

    fn assert_lost(disk: &MemoryEngine, why: &str) {
        let opened = Kv::open(disk.clone(), None).map(drop);
        assert!(matches!(opened, Err(StorageError::LostTail { .. })), "{why}: {opened:?}");
    }

    #[test]
    fn store_opens_at_its_newest_batch_however_often_the_ring_went_round() {
        for batches in [0, 1, 15, 16, 17, 1_023, 1_024, 1_025, 2_500] {
            let store = Kv::open(disk_after(batches, entry_and_head), Some(batches)).unwrap();
            assert_eq!(store.newest_batch().unwrap(), batches);
            assert_eq!(store.verify().unwrap().rows, if batches == 0 { 0 } else { batches + 1 });
        }
    }

    #[test]
    fn torn_batch_is_found_at_open() {
        for missing in 0..2 {
            let disk = disk_after(40, entry_and_head);
            let lost = entry_and_head(40).remove(missing);
            disk.tamper(|rows| rows.remove(&Space::User.key(&lost))).unwrap();
            assert_lost(&disk, "a row of the newest batch is gone");
        }
        let older = disk_after(39, entry_and_head);
        let disk = disk_after(40, entry_and_head);
        let head = Space::User.key(b"head");
        let stale = older.tamper(|rows| rows.get(&head).cloned()).unwrap();
        disk.tamper(|rows| rows.insert(head, stale));
        assert_lost(&disk, "a row of the newest batch is as the batch before left it");
    }

    #[test]
    fn row_that_a_batch_deleted_does_not_come_back_unseen() {
        let disk = disk_after(3, entry_and_head);
        let key = Space::User.key(b"head");
        let before = disk.tamper(|rows| rows.get(&key).cloned()).unwrap();
        let store = Kv::open(disk.clone(), None).unwrap();
        let mut batch = Batch::new();
        batch.delete(b"head".to_vec());
        store.apply(&batch).unwrap();
        drop(store);
        assert!(Kv::open(disk.clone(), None).is_ok());
        disk.tamper(|rows| rows.insert(key, before));
        assert_lost(&disk, "a deleted row is back");
    }

    #[test]
    fn missing_witness_or_list_is_found_at_open() {
        for n in [1, 20, 39, 40] {
            let disk = disk_after(40, entry_and_head);
            disk.tamper(|rows| rows.remove(&witness_key(n))).unwrap();
            assert_lost(&disk, "a witness is gone");
        }
        let disk = disk_after(40, entry_and_head);
        disk.tamper(|rows| rows.remove(&listing_key(33, 0))).unwrap();
        assert_lost(&disk, "a list of keys is gone");
        let disk = disk_after(40, entry_and_head);
        disk.tamper(|rows| rows.retain(|key, _| key.first() != Some(&(Space::Witness as u8))));
        assert_lost(&disk, "all witnesses are gone");
    }

    #[test]
    fn batch_with_more_keys_than_its_list_holds_opens_and_hides_no_torn_newer_one() {
        let keys = |n: u64| {
            let many = if n == 5 { 3_000_u64 } else { 2 };
            (0..many).map(|i| [[7; 40].as_slice(), &i.to_be_bytes()].concat()).collect()
        };
        for batches in [5, 6, 12] {
            let disk = disk_after(batches, keys);
            Kv::open(disk.clone(), Some(batches)).unwrap().verify().unwrap();
            let lost = keys(batches).remove(1);
            disk.tamper(|rows| rows.remove(&Space::User.key(&lost))).unwrap();
            assert_lost(&disk, "a row of the newest batch is gone");
        }
    }

    #[test]
    fn vanished_old_row_is_found_by_verify() {
        let disk = disk_after(40, entry_and_head);
        let lost = entry_and_head(3).remove(0);
        disk.tamper(|rows| rows.remove(&Space::User.key(&lost))).unwrap();
        let store = Kv::open(disk, None).unwrap();
        assert!(matches!(store.verify(), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn rows_of_another_format_are_refused() {
        let disk = disk_after(1, entry_and_head);
        let key = Space::Format.key(&[]);
        let (newer, _) = Body::Whole(b"whimbrel rows 2".to_vec()).encode(&key, 0);
        disk.tamper(|rows| rows.insert(key, newer));
        assert!(matches!(Kv::open(disk, None), Err(StorageError::Damaged { .. })));
    }
}
