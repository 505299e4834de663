//! What the engines make of our rows, on the disk and in memory.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use whimbrel_storage::{Batch, KEY_BYTES_MAX, Op, OrderedKv, Reads, StorageError};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options, SizeBounds};

use crate::child::{lines_of, on, say, spawn};

/// sled writes pages beyond a quarter segment to files of their own and never syncs those; a row bound that kept only
/// single values below it would not do, since a page holds many rows.
#[test]
fn no_page_outgrows_its_segment_whatever_the_rows() {
    let dir = TempDir::new().unwrap();
    let store = DiskKv::open(dir.path(), Options::default()).unwrap();
    let blobs = || fs::read_dir(dir.path().join("blobs")).unwrap().count();
    let apply = |key: Vec<u8>, value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(key, value);
        store.apply(&batch).unwrap();
    };
    for round in 0..3_u8 {
        for i in 0..8 {
            apply(vec![b'l', i], vec![round; 4 << 20 >> i]);
        }
        assert_eq!(blobs(), 0, "after large values");
        for i in 0..300_u16 {
            // Neighbours of the largest size that stays in one row, in an order that splits pages anywhere.
            apply([b"m".as_slice(), &(i.wrapping_mul(40_503)).to_be_bytes()].concat(), vec![round; 4_096]);
        }
        assert_eq!(blobs(), 0, "after full rows");
        for i in 0..2_000_u16 {
            let mut key = vec![b'n'; KEY_BYTES_MAX];
            key[..2].copy_from_slice(&i.wrapping_mul(40_503).to_be_bytes());
            apply(key, vec![round; 100]);
        }
        assert_eq!(blobs(), 0, "after long keys");
        store.sync().unwrap();
    }
    store.verify().unwrap();
    store.close().unwrap();
    assert_eq!(blobs(), 0, "after the close");
}

const FILL_BYTES: usize = 320 * 1024 * 1024;
/// Cache 64 MiB, memory tables 40 MiB and a batch, table writers and readers, and what a test program is itself.
#[cfg(target_os = "linux")]
const FJALL_RSS_MAX_KIB: u64 = 230 * 1024;

/// The child: writes far more than may stay in memory, and tells the most that did.
pub(crate) fn fill_and_tell_memory(engine: EngineKind, dir: &Path) {
    let store = DiskKv::open(dir, on(engine)).unwrap();
    for n in 0..FILL_BYTES / 4_000 / 20 {
        let mut batch = Batch::new();
        for row in 0..20_usize {
            let key = (n * 20 + row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            batch.put(key.to_be_bytes().to_vec(), vec![n as u8; 4_000]);
        }
        store.apply(&batch).unwrap();
        if n % 8 == 0 {
            store.sync().unwrap();
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    say(peak.trim().trim_end_matches(" kB"));
}

#[test]
#[cfg(target_os = "linux")]
fn fjall_holds_no_more_rows_in_memory_than_its_tables_may() {
    let dir = TempDir::new().unwrap();
    let told = lines_of(spawn("fill", EngineKind::Fjall, dir.path()));
    let peak: u64 = told.last().unwrap().parse().unwrap();
    assert!(peak < FJALL_RSS_MAX_KIB, "{peak} KiB");
    assert!(peak > 10 * 1024, "{peak} KiB cannot be right");
}

/// A batch that brings as much as it takes away is taken at the bound; on a log it is written all the same.
#[test]
fn a_store_at_its_bound_that_replaces_rows_grows_only_so_far() {
    const MAX: u64 = 6 * 1024 * 1024;
    const ROWS: u64 = 64;
    /// What sled had set apart when the size was last looked at, and what was written since.
    const SLACK: u64 = 2 * 1024 * 1024;
    let dir = TempDir::new().unwrap();
    let size = SizeBounds { max_bytes: Some(MAX), ..SizeBounds::default() };
    let store = DiskKv::open(dir.path(), Options { size, ..Options::default() }).unwrap();
    let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
    let next_rows = |next: u64| {
        let mut batch = Batch::new();
        (next..next + ROWS).for_each(|n| batch.put(key(n), n.to_be_bytes().repeat(50)));
        batch
    };
    let (mut oldest, mut next) = (0, 0);
    loop {
        match store.apply(&next_rows(next)) {
            Ok(()) => next += ROWS,
            Err(StorageError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        store.sync().unwrap();
    }
    assert!(store.size_on_disk().unwrap() < MAX + SLACK);
    // Twenty times all that it holds, unless it is refused before.
    for _ in 0..20 * next / ROWS {
        let mut batch = next_rows(next);
        (oldest..oldest + ROWS).for_each(|n| batch.delete(key(n)));
        match store.apply(&batch) {
            Ok(()) => (oldest, next) = (oldest + ROWS, next + ROWS),
            Err(StorageError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        store.sync().unwrap();
    }
    assert!(store.size_on_disk().unwrap() < MAX + MAX / 4 + SLACK, "{}", store.size_on_disk().unwrap());
    // What is there is still there, can be changed in its place, and can go.
    assert_eq!(store.get(&key(oldest)).unwrap(), Some(oldest.to_be_bytes().repeat(50)));
    let mut batch = Batch::new();
    batch.put(key(next - 1), vec![1; 410]);
    (oldest..next - 1).for_each(|n| batch.delete(key(n)));
    store.apply(&batch).unwrap();
    store.sync().unwrap();
    store.verify().unwrap();
    assert_eq!(store.get(&key(next - 1)).unwrap(), Some(vec![1; 410]));
}

/// A copy is what gives space back on sled: it must not take more than a store that never held anything else.
#[test]
fn a_copy_takes_no_more_than_the_rows_took_alone() {
    const GROUPS: u64 = 200;
    const LOGS: u64 = 50;
    let dir = TempDir::new().unwrap();
    let store = DiskKv::open(dir.path(), Options::default()).unwrap();
    let log = |of: u64| of.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    // As a relay holds messages: an entry, its id and the head of its log, many to a sync.
    let group = |n: u64, spaces: [u8; 3]| {
        let mut batch = Batch::new();
        for message in n * 125..(n + 1) * 125 {
            let (log, place) = (log(message % LOGS), (message / LOGS).to_be_bytes());
            let key = |space: u8| [[space].as_slice(), &log, &log, &place].concat();
            batch.put(key(spaces[0]), vec![message as u8; 420]);
            batch.put(key(spaces[1]), vec![message as u8; 32]);
            batch.put([[spaces[2]].as_slice(), &log, &log].concat(), vec![message as u8; 60]);
        }
        batch
    };
    for n in 0..GROUPS {
        store.apply(&group(n, [12, 13, 11])).unwrap();
        store.sync().unwrap();
    }
    let alone = store.size_on_disk().unwrap();
    for n in 0..GROUPS {
        store.apply(&group(n, [22, 23, 21])).unwrap();
        store.sync().unwrap();
    }
    for n in 0..GROUPS {
        let mut trim = Batch::new();
        for op in group(n, [22, 23, 21]).ops() {
            let Op::Put { key, .. } = op else { panic!("{op:?}") };
            trim.delete(key.clone());
        }
        store.apply(&trim).unwrap();
        store.sync().unwrap();
    }
    let copy = TempDir::new().unwrap();
    let into = copy.path().join("copy");
    store.export(&into).unwrap();
    let copied: u64 = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(copied * 5 <= alone * 6, "{copied} bytes, and {alone} alone");
}
