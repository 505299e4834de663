//! Opening and closing: one holder, the mark of a clean close, bad snapshots, the side file.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whimbrel_storage::{Batch, KEY_END, Order, OrderedKv, Reads, StorageError, tail_to_bytes};
use whimbrel_storage_runtime::{Options, ProbeCommand, Reserve, SledKv};

use crate::child::{follow, probing, spawn};

fn open(dir: &Path) -> Result<SledKv, StorageError> {
    SledKv::open(dir, Options::default())
}

fn put(store: &SledKv, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(key.into(), value.into());
    store.apply(&batch).unwrap();
    store.sync().unwrap();
}

fn files(dir: &Path, begin: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(begin)).collect()
}

/// A closed store with one row, and a snapshot: sled writes those at an open, of what it found.
fn closed_store() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    put(&store, "name", "Alice");
    store.close().unwrap();
    open(dir.path()).unwrap().close().unwrap();
    dir
}

#[test]
fn second_open_is_refused_while_the_first_lives() {
    let dir = closed_store();
    let store = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::InUse)));
    assert!(matches!(SledKv::open(dir.path(), probing()), Err(StorageError::InUse)));
    put(&store, "name", "Bob");
    drop(store);
    assert_eq!(open(dir.path()).unwrap().get(b"name").unwrap(), Some(b"Bob".to_vec()));
}

#[test]
fn store_held_by_another_process_is_in_use_until_that_is_killed() {
    let dir = closed_store();
    let mut holder = spawn("hold", dir.path());
    assert_eq!(follow(&mut holder).recv().unwrap(), "open");
    assert!(matches!(open(dir.path()), Err(StorageError::InUse)));
    assert!(matches!(SledKv::open(dir.path(), probing()), Err(StorageError::InUse)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(SledKv::open(dir.path(), probing()).is_ok());
}

#[test]
fn only_an_unclean_store_is_opened_on_trial() {
    let dir = closed_store();
    let absent = ProbeCommand { program: dir.path().join("no such program"), args: vec![] };
    let options = || Options { probe: Some(absent.clone()), ..Options::default() };
    SledKv::open(dir.path(), options()).unwrap().close().unwrap();
    drop(open(dir.path()).unwrap());
    let opened = SledKv::open(dir.path(), options()).map(drop);
    assert!(matches!(opened, Err(StorageError::Engine(_))), "{opened:?}");
    assert!(SledKv::open(dir.path(), probing()).is_ok());
}

#[test]
fn bad_snapshot_is_set_aside_and_nothing_is_lost() {
    for (options, clean) in [(Options::default(), true), (Options::default(), false), (probing(), false)] {
        let dir = closed_store();
        if !clean {
            fs::remove_file(dir.path().join("clean")).unwrap();
        }
        let snapshots = files(dir.path(), "snap.");
        let mut bytes = fs::read(&snapshots[0]).unwrap();
        bytes[3] ^= 0x40;
        fs::write(&snapshots[0], bytes).unwrap();
        let store = SledKv::open(dir.path(), options).unwrap();
        assert_eq!(store.get(b"name").unwrap(), Some(b"Alice".to_vec()));
        assert_eq!(files(dir.path(), "set-aside.snap.").len(), 1);
        store.close().unwrap();
        assert_eq!(open(dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    }
}

#[test]
fn snapshot_that_was_being_written_is_not_taken_for_whole() {
    let dir = closed_store();
    let snapshots = files(dir.path(), "snap.");
    let unfinished = format!("{}.generating", snapshots[0].display());
    fs::write(&unfinished, b"half a snapsh").unwrap();
    assert_eq!(open(dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    assert!(!Path::new(&unfinished).exists());
}

#[test]
fn store_older_than_its_side_file_does_not_open() {
    let dir = closed_store();
    let before = dir.path().join("before");
    fs::create_dir(&before).unwrap();
    for path in [files(dir.path(), "db"), files(dir.path(), "snap.")].concat() {
        fs::copy(&path, before.join(path.file_name().unwrap())).unwrap();
    }
    let store = open(dir.path()).unwrap();
    put(&store, "name", "Bob");
    store.close().unwrap();
    files(dir.path(), "snap.").iter().for_each(|path| fs::remove_file(path).unwrap());
    for path in files(&before, "") {
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    // The mark of the close is of the newer database, and would say so first.
    assert!(matches!(open(dir.path()), Err(StorageError::DoesNotOpen { .. })));
    fs::remove_file(dir.path().join("clean")).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::LostTail { .. })));
}

#[test]
fn missing_database_is_no_new_store() {
    let dir = closed_store();
    for path in [files(dir.path(), "db"), files(dir.path(), "snap."), files(dir.path(), "clean")].concat() {
        fs::remove_file(path).unwrap();
    }
    assert!(matches!(open(dir.path()), Err(StorageError::LostTail { .. })));
}

#[test]
fn side_file_follows_each_sync() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 1..=5 {
        put(&store, "n", &n.to_string());
        assert_eq!(fs::read(dir.path().join("tail")).unwrap(), tail_to_bytes(n));
    }
    let stats = store.stats();
    assert_eq!((stats.batches, stats.syncs), (5, 5));
    assert!(stats.bytes > 0);
}

#[test]
fn store_inside_its_reserve_refuses_and_goes_on_reading() {
    let dir = closed_store();
    let reserve = Reserve { percent: 200, bytes_max: u64::MAX };
    let store = SledKv::open(dir.path(), Options { reserve, ..Options::default() }).unwrap();
    let mut batch = Batch::new();
    batch.put(b"name".to_vec(), b"Bob".to_vec());
    assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
    assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
    assert_eq!(store.get(b"name").unwrap(), Some(b"Alice".to_vec()));
    store.close().unwrap();
}

#[test]
fn export_opens_as_a_store_with_the_same_rows() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let mut batch = Batch::new();
    for i in 0..1_000_u32 {
        batch.put(i.to_be_bytes().to_vec(), vec![7; (i * 13 % 9_000) as usize]);
    }
    store.apply(&batch).unwrap();
    let into = TempDir::new().unwrap();
    assert_eq!(store.export(into.path()).unwrap().rows, 1_000);
    let all = |store: &SledKv| store.scan(&[], &KEY_END, Order::Ascending, usize::MAX).unwrap();
    assert!(all(&open(into.path()).unwrap()) == all(&store));
    assert!(store.export(into.path()).is_err(), "an export overwrites nothing");
}
