//! What sled makes of our rows on the disk.

use std::fs;

use tempfile::TempDir;
use whimbrel_storage::{Batch, KEY_BYTES_MAX, OrderedKv};
use whimbrel_storage_runtime::{Options, SledKv};

/// sled writes pages beyond a quarter segment to files of their own and never syncs those; a row bound that kept only
/// single values below it would not do, since a page holds many rows.
#[test]
fn no_page_outgrows_its_segment_whatever_the_rows() {
    let dir = TempDir::new().unwrap();
    let store = SledKv::open(dir.path(), Options::default()).unwrap();
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
