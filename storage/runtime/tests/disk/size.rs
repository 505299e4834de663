//! What the engines make of our rows, on the disk and in memory.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use whimbrel_storage::{Batch, KEY_BYTES_MAX, OrderedKv, StorageError};
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

/// What the relay at its bound goes on taking: a batch that brings as much as it takes away. Its rows need no more room
/// than before, but on a log it is written all the same.
fn replace_rows_at_the_bound(engine: EngineKind) {
    const MAX: u64 = 48 * 1024 * 1024;
    const ROWS: u64 = 64;
    let dir = TempDir::new().unwrap();
    let size = SizeBounds { max_bytes: Some(MAX), ..SizeBounds::default() };
    let store = DiskKv::open(dir.path(), Options { size, ..on(engine) }).unwrap();
    let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
    let (mut oldest, mut next) = (0, 0);
    let put = |batch: &mut Batch, next: &mut u64| {
        for _ in 0..ROWS {
            batch.put(key(*next), next.to_be_bytes().repeat(50));
            *next += 1;
        }
    };
    loop {
        let mut batch = Batch::new();
        put(&mut batch, &mut next);
        match store.apply(&batch) {
            Ok(()) => store.sync().unwrap(),
            Err(StorageError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    next -= ROWS;
    let full = store.size_on_disk().unwrap();
    let (rows, mut most) = (next, full);
    let mut sizes = Vec::new();
    for round in 0..10 * rows / ROWS {
        let mut batch = Batch::new();
        (oldest..oldest + ROWS).for_each(|n| batch.delete(key(n)));
        oldest += ROWS;
        put(&mut batch, &mut next);
        store.apply(&batch).unwrap();
        store.sync().unwrap();
        most = most.max(store.size_on_disk().unwrap());
        if round % (rows / ROWS) == 0 {
            sizes.push(store.size_on_disk().unwrap());
        }
    }
    eprintln!("{engine:?}: full {full}, most {most}, {sizes:?}");
}

#[test]
fn a_store_at_its_bound_that_replaces_rows_grows_only_so_far() {
    for engine in [EngineKind::Sled, EngineKind::Fjall] {
        replace_rows_at_the_bound(engine);
    }
}
