//! Opening and closing: one holder, the mark of a clean close, bad snapshots, the side file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whimbrel_storage::{
    Batch, KEY_END, Order, OrderedKv, Page, Reads, Schema, Step, StorageError, tail_from_bytes, tail_to_bytes,
};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options, ProbeCommand, Reserve, SizeBounds};

use crate::child::{follow, on, open_released, probing, spawn};

fn open(engine: EngineKind, dir: &Path) -> Result<DiskKv, StorageError> {
    open_released(dir, &on(engine))
}

const SLED: EngineKind = EngineKind::Sled;

fn put(store: &DiskKv, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(key.into(), value.into());
    store.apply(&batch).unwrap();
    store.sync().unwrap();
}

fn files(dir: &Path, begin: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(begin)).collect()
}

/// A closed store with one row, and on sled a snapshot: it writes those at an open, of what it found.
fn closed_store(engine: EngineKind) -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(engine, dir.path()).unwrap();
    put(&store, "name", "Alice");
    store.close().unwrap();
    open(engine, dir.path()).unwrap().close().unwrap();
    dir
}

#[test]
fn second_open_is_refused_while_the_first_lives() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let store = open(engine, dir.path()).unwrap();
        assert!(matches!(DiskKv::open(dir.path(), on(engine)), Err(StorageError::InUse)));
        assert!(matches!(DiskKv::open(dir.path(), probing(engine)), Err(StorageError::InUse)));
        put(&store, "name", "Bob");
        drop(store);
        assert_eq!(open(engine, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Bob".to_vec()));
    }
}

#[test]
fn store_held_by_another_process_is_in_use_until_that_is_killed() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let mut holder = spawn("hold", engine, dir.path());
        assert_eq!(follow(&mut holder).recv().unwrap(), "open");
        assert!(matches!(DiskKv::open(dir.path(), on(engine)), Err(StorageError::InUse)));
        assert!(matches!(DiskKv::open(dir.path(), probing(engine)), Err(StorageError::InUse)));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(open_released(dir.path(), &probing(engine)).is_ok());
    }
}

#[test]
fn only_an_unclean_store_is_opened_on_trial() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let absent = ProbeCommand { program: dir.path().join("no such program"), args: vec![] };
        let options = || Options { probe: Some(absent.clone()), ..on(engine) };
        open_released(dir.path(), &options()).unwrap().close().unwrap();
        drop(open(engine, dir.path()).unwrap());
        let opened = open_released(dir.path(), &options()).map(drop);
        assert!(matches!(opened, Err(StorageError::Engine(_))), "{opened:?}");
        assert!(open_released(dir.path(), &probing(engine)).is_ok());
    }
}

#[test]
fn bad_snapshot_is_set_aside_and_nothing_is_lost() {
    for (options, clean) in [(Options::default(), true), (Options::default(), false), (probing(SLED), false)] {
        let dir = closed_store(SLED);
        if !clean {
            fs::remove_file(dir.path().join("clean")).unwrap();
        }
        let snapshots = files(dir.path(), "snap.");
        let mut bytes = fs::read(&snapshots[0]).unwrap();
        bytes[3] ^= 0x40;
        fs::write(&snapshots[0], bytes).unwrap();
        let store = open_released(dir.path(), &options).unwrap();
        assert_eq!(store.get(b"name").unwrap(), Some(b"Alice".to_vec()));
        assert_eq!(files(dir.path(), "set-aside.snap.").len(), 1);
        store.close().unwrap();
        assert_eq!(open(SLED, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    }
}

#[test]
fn snapshot_that_was_being_written_is_not_taken_for_whole() {
    let dir = closed_store(SLED);
    let snapshots = files(dir.path(), "snap.");
    let unfinished = format!("{}.generating", snapshots[0].display());
    fs::write(&unfinished, b"half a snapsh").unwrap();
    assert_eq!(open(SLED, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    assert!(!Path::new(&unfinished).exists());
}

#[test]
fn store_older_than_its_side_file_does_not_open() {
    let dir = closed_store(SLED);
    let before = dir.path().join("before");
    fs::create_dir(&before).unwrap();
    for path in [files(dir.path(), "db"), files(dir.path(), "snap.")].concat() {
        fs::copy(&path, before.join(path.file_name().unwrap())).unwrap();
    }
    let store = open(SLED, dir.path()).unwrap();
    put(&store, "name", "Bob");
    store.close().unwrap();
    files(dir.path(), "snap.").iter().for_each(|path| fs::remove_file(path).unwrap());
    for path in files(&before, "") {
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    // The mark of the close is of the newer database, and would say so first.
    assert!(matches!(open(SLED, dir.path()), Err(StorageError::DoesNotOpen { .. })));
    fs::remove_file(dir.path().join("clean")).unwrap();
    assert!(matches!(open(SLED, dir.path()), Err(StorageError::LostTail { .. })));
}

#[test]
fn missing_database_is_no_new_store() {
    let dir = closed_store(SLED);
    for path in [files(dir.path(), "db"), files(dir.path(), "snap."), files(dir.path(), "clean")].concat() {
        fs::remove_file(path).unwrap();
    }
    assert!(matches!(open(SLED, dir.path()), Err(StorageError::LostTail { .. })));
}

#[test]
fn side_file_follows_each_sync() {
    for engine in EngineKind::ALL {
        let dir = TempDir::new().unwrap();
        let store = open(engine, dir.path()).unwrap();
        for n in 1..=5 {
            put(&store, "n", &n.to_string());
            assert_eq!(fs::read(dir.path().join("tail")).unwrap(), tail_to_bytes(n));
        }
        let stats = store.stats();
        assert_eq!((stats.batches, stats.syncs), (5, 5));
        assert!(stats.bytes > 0);
    }
}

#[test]
fn store_inside_its_reserve_refuses_and_goes_on_reading() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let reserve = Reserve { percent: 200, bytes_max: u64::MAX };
        let store = open_released(dir.path(), &Options { reserve, ..on(engine) }).unwrap();
        let mut batch = Batch::new();
        batch.put(b"friend".to_vec(), b"Bob".to_vec());
        assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
        assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
        assert_eq!(store.get(b"name").unwrap(), Some(b"Alice".to_vec()));
        store.close().unwrap();
    }
}

#[test]
fn export_opens_as_a_store_with_the_same_rows() {
    for engine in EngineKind::ALL {
        let dir = TempDir::new().unwrap();
        let store = open(engine, dir.path()).unwrap();
        let mut batch = Batch::new();
        for i in 0..1_000_u32 {
            batch.put(i.to_be_bytes().to_vec(), vec![7; (i * 13 % 9_000) as usize]);
        }
        store.apply(&batch).unwrap();
        let into = TempDir::new().unwrap();
        assert_eq!(store.export(into.path()).unwrap().rows, 1_000);
        let all = |store: &DiskKv| store.scan(&[], &KEY_END, Order::Ascending, usize::MAX).unwrap();
        assert!(all(&open(engine, into.path()).unwrap()) == all(&store));
        assert!(store.export(into.path()).is_err(), "an export overwrites nothing");
    }
}

#[test]
fn missing_journals_are_no_new_store() {
    let dir = closed_store(EngineKind::Fjall);
    let home = dir.path().join("fjall");
    fs::remove_file(dir.path().join("clean")).unwrap();
    for journal in files(&home, "").iter().filter(|path| path.extension().is_some_and(|ending| ending == "jnl")) {
        fs::remove_file(journal).unwrap();
    }
    assert!(matches!(open(EngineKind::Fjall, dir.path()), Err(StorageError::LostTail { .. })));
    fs::remove_dir_all(&home).unwrap();
    assert!(matches!(open(EngineKind::Fjall, dir.path()), Err(StorageError::LostTail { .. })));
}

#[test]
fn another_engine_is_refused_and_touches_nothing() {
    for (made, asked) in [(EngineKind::Sled, EngineKind::Fjall), (EngineKind::Fjall, EngineKind::Sled)] {
        let dir = closed_store(made);
        let listing = || {
            let mut found: Vec<_> = files(dir.path(), "")
                .into_iter()
                .map(|path| (path.clone(), fs::metadata(path).unwrap().len()))
                .collect();
            found.sort();
            found
        };
        let before = listing();
        let opened = open(asked, dir.path()).map(drop);
        assert!(matches!(opened, Err(StorageError::WrongEngine { .. })), "{opened:?}");
        assert_eq!(listing(), before);
        assert_eq!(open(made, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    }
}

#[test]
fn store_whose_making_was_interrupted_is_made_anew() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        // As a crash leaves it between the first file and the first sync: whatever lies there was told to nobody.
        for path in files(dir.path(), "tail").into_iter().chain(files(dir.path(), "clean")) {
            fs::remove_file(path).unwrap();
        }
        fs::write(dir.path().join("making"), b"").unwrap();
        let store = open(engine, dir.path()).unwrap();
        assert_eq!(store.get(b"name").unwrap(), None);
        put(&store, "name", "Bob");
        store.close().unwrap();
        assert!(!dir.path().join("making").exists());
        assert_eq!(open(engine, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Bob".to_vec()));
    }
}

/// The store with a bound that is just what it has.
fn at_its_size(engine: EngineKind, dir: &Path) -> DiskKv {
    let store = open(engine, dir).unwrap();
    let max_bytes = Some(store.size_on_disk().unwrap());
    store.close().unwrap();
    let size = SizeBounds { max_bytes, ..SizeBounds::default() };
    open_released(dir, &Options { size, ..on(engine) }).unwrap()
}

#[test]
fn store_far_beyond_its_size_takes_only_what_brings_nothing_new() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let size = SizeBounds { max_bytes: Some(1), ..SizeBounds::default() };
        let store = open_released(dir.path(), &Options { size, ..on(engine) }).unwrap();
        let mut drain = Batch::new();
        drain.put(b"more".to_vec(), b"rows".to_vec());
        drain.delete(b"name".to_vec());
        assert!(matches!(store.apply(&drain), Err(StorageError::Full)), "{engine}");
        put(&store, "name", "Alice, and a few bytes");
        let mut delete = Batch::new();
        delete.delete(b"name".to_vec());
        store.apply(&delete).unwrap();
        store.sync().unwrap();
        assert_eq!((store.get(b"name").unwrap(), store.get(b"more").unwrap()), (None, None), "{engine}");
        store.close().unwrap();
    }
}

#[test]
fn store_at_its_size_refuses_growth_and_still_takes_what_deletes() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let store = at_its_size(engine, dir.path());
        let mut grow = Batch::new();
        grow.put(b"more".to_vec(), b"rows".to_vec());
        assert!(matches!(store.apply(&grow), Err(StorageError::Full)));
        let mut drain = grow.clone();
        drain.delete(b"name".to_vec());
        store.apply(&drain).unwrap();
        store.sync().unwrap();
        assert_eq!((store.get(b"name").unwrap(), store.get(b"more").unwrap()), (None, Some(b"rows".to_vec())));
        store.close().unwrap();
    }
}

#[test]
fn store_at_its_size_refuses_a_batch_that_deletes_less_than_it_adds_and_takes_what_moves_in_place() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let store = open(engine, dir.path()).unwrap();
        for old in ["old1", "old2"] {
            put(&store, old, &"x".repeat(9_000));
        }
        store.close().unwrap();
        let store = at_its_size(engine, dir.path());
        let apply = |added: usize, deleted: &str| {
            let mut batch = Batch::new();
            batch.put(b"new".to_vec(), vec![1; added]);
            batch.delete(deleted.into());
            store.apply(&batch)
        };
        assert!(matches!(apply(300, "name"), Err(StorageError::Full)), "{engine}: a deletion let growth through");
        assert!(matches!(apply(300, "nobody"), Err(StorageError::Full)), "{engine}: the deletion of nothing, too");
        assert!(matches!(apply(10_000, "old1"), Err(StorageError::Full)), "{engine}: large values count whole");
        apply(8_000, "old1").unwrap();
        // A cursor that counts up, a few bytes longer; not a row that swells.
        put(&store, "name", "Alice, and a few bytes");
        let mut swollen = Batch::new();
        swollen.put(b"name".to_vec(), vec![b'a'; 300]);
        assert!(matches!(store.apply(&swollen), Err(StorageError::Full)), "{engine}");
        let mut shrink = Batch::new();
        shrink.delete(b"old2".to_vec());
        store.apply(&shrink).unwrap();
        assert_eq!((store.get(b"old2").unwrap(), store.get(b"name").unwrap().unwrap().len()), (None, 22));
        store.verify().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn rows_of_a_newer_version_or_of_another_program_are_refused_unchanged() {
    const OLD: Schema = Schema { name: "relay", version: 1, steps: &[] };
    const NEW: Schema =
        Schema { name: "relay", version: 2, steps: &[Step { from: 1, page: |_, _| Ok(Page::default()) }] };
    const NODE: Schema = Schema { name: "node", version: 1, steps: &[] };
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        let with = |schema| open_released(dir.path(), &Options { schema: Some(schema), ..on(engine) });
        with(&OLD).unwrap().close().unwrap();
        with(&NEW).unwrap().close().unwrap();
        assert!(matches!(with(&OLD), Err(StorageError::TooNew { found: 2, known: 1 })));
        assert!(matches!(with(&NODE), Err(StorageError::WrongRows { .. })));
        with(&NEW).unwrap().close().unwrap();
    }
}

#[test]
fn store_that_is_written_to_is_exported_as_it_is_at_the_end() {
    for engine in EngineKind::ALL {
        let (dir, into) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let store = open(engine, dir.path()).unwrap();
        let row = |n: u32, value: u8| {
            let mut batch = Batch::new();
            batch.put(n.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec(), vec![value; 5_000]);
            batch.delete((n + 1).wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec());
            store.apply(&batch).unwrap();
        };
        (0..2_000).for_each(|n| row(n * 2, 1));
        let done = std::sync::atomic::AtomicBool::new(false);
        let copied = std::thread::scope(|scope| {
            // Rows before and behind the place of the copy change, come and go while it is made.
            scope.spawn(|| {
                let mut n = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    n = (n + 7) % 4_000;
                    row(n, 2);
                }
            });
            let copied = store.mirror(into.path(), engine);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            copied
        });
        assert!(copied.unwrap().rows > 1_000);
        row(9, 3);
        let mirror = store.take_mirror().unwrap();
        let all = |store: &DiskKv| store.scan(&[], &KEY_END, Order::Ascending, usize::MAX).unwrap();
        assert!(all(&mirror) == all(&store), "{engine}");
        mirror.verify().unwrap();
        mirror.close().unwrap();
        assert!(store.take_mirror().is_none());
    }
}

#[test]
fn store_opened_to_look_at_is_left_as_it_was() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        fs::remove_file(dir.path().join("clean")).unwrap();
        let log = if engine == SLED { "db" } else { "fjall" };
        let bytes = |path: &Path| if path.is_dir() { files(path, "").len() } else { fs::read(path).unwrap().len() };
        let before = bytes(&dir.path().join(log));
        let store = open_released(dir.path(), &Options { tolerate: true, ..on(engine) }).unwrap();
        assert!(store.survey().unwrap().is_whole());
        store.discard().unwrap();
        assert_eq!(bytes(&dir.path().join(log)), before);
        assert!(!dir.path().join("clean").exists());
        assert_eq!(open(engine, dir.path()).unwrap().get(b"name").unwrap(), Some(b"Alice".to_vec()));
    }
}

/// Every file below a folder, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in files(dir, "") {
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    found
}

/// Breaks the store's snapshot, as sled finds it at the next open; says whether there was one.
fn break_snapshot(dir: &Path) -> bool {
    let snapshots = files(dir, "snap.");
    for path in &snapshots {
        let mut bytes = fs::read(path).unwrap();
        bytes[3] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
    !snapshots.is_empty()
}

#[test]
fn unclosed_store_opened_to_look_at_is_byte_for_byte_as_it_was_even_with_a_bad_snapshot() {
    for (engine, bad) in [(SLED, false), (SLED, true), (EngineKind::Fjall, false)] {
        let dir = closed_store(engine);
        let store = open(engine, dir.path()).unwrap();
        put(&store, "friend", "Bob");
        drop(store);
        // sled's threads may write on for a moment after the handle is gone; who opens it waits for them.
        drop(open_released(dir.path(), &Options { tolerate: true, ..on(engine) }).map(DiskKv::discard));
        assert!(!bad || break_snapshot(dir.path()));
        for look in 0..3 {
            let before = contents(dir.path());
            let store = open_released(dir.path(), &Options { tolerate: true, ..probing(engine) }).unwrap();
            assert!(!store.was_closed() && store.survey().unwrap().is_whole());
            store.discard().unwrap();
            let after = contents(dir.path());
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{engine} look {look}");
            assert!(before == after, "{engine}, bad snapshot {bad}, look {look}");
        }
        assert_eq!(open(engine, dir.path()).unwrap().get(b"friend").unwrap(), Some(b"Bob".to_vec()));
    }
}

#[test]
fn starts_that_fail_again_and_again_leave_nothing_behind() {
    let dir = closed_store(SLED);
    let store = open(SLED, dir.path()).unwrap();
    put(&store, "friend", "Bob");
    drop(store);
    // Without its snapshot it opens, and lacks what was synced last.
    fs::write(dir.path().join("tail"), tail_to_bytes(1_000)).unwrap();
    assert!(break_snapshot(dir.path()));
    let before = contents(dir.path());
    for start in 0..5 {
        let opened = open_released(dir.path(), &probing(SLED)).map(drop);
        assert!(matches!(opened, Err(StorageError::LostTail { .. })), "{opened:?}");
        let after = contents(dir.path());
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "start {start}");
        assert!(before == after, "start {start}");
    }
}

#[test]
fn snapshots_set_aside_are_bounded_and_the_first_and_the_newest_stay() {
    let dir = closed_store(SLED);
    let aside = || files(dir.path(), "set-aside.").into_iter().collect::<BTreeSet<_>>();
    let mut first = None;
    for start in 0..6 {
        let store = open(SLED, dir.path()).unwrap();
        put(&store, "n", &"x".repeat(start));
        store.close().unwrap();
        fs::remove_file(dir.path().join("clean")).unwrap();
        assert!(break_snapshot(dir.path()));
        let broken = fs::read(&files(dir.path(), "snap.")[0]).unwrap();
        // A start that is killed between setting it aside and serving: the next one finds both.
        let name = files(dir.path(), "snap.")[0].file_name().unwrap().to_string_lossy().into_owned();
        fs::write(dir.path().join(format!("set-aside.{name}.corrupt-1")), &broken).unwrap();
        let store = open_released(dir.path(), &probing(SLED)).unwrap();
        assert_eq!(store.get(b"name").unwrap(), Some(b"Alice".to_vec()));
        store.close().unwrap();
        let kept = aside();
        assert!(kept.len() <= 2, "{kept:?}");
        let first = first.get_or_insert_with(|| kept.first().cloned().unwrap());
        assert!(kept.contains(first), "the first one is gone: {kept:?}");
        assert!(kept.iter().any(|path| fs::read(path).unwrap() == broken), "the newest one is gone: {kept:?}");
    }
}

#[test]
fn store_whose_making_was_interrupted_is_not_found() {
    for engine in EngineKind::ALL {
        let dir = closed_store(engine);
        assert_eq!(EngineKind::found_in(dir.path()), Some(engine));
        fs::write(dir.path().join("making"), b"").unwrap();
        assert_eq!(EngineKind::found_in(dir.path()), None);
    }
}

/// The child: copies the store beside its folder into one beside it, until it is killed.
pub(crate) fn export_until_killed(engine: EngineKind, dir: &Path) {
    let store = open(engine, &dir.join("store")).unwrap();
    store.export(&dir.join("copy")).unwrap();
}

#[test]
fn copy_whose_maker_was_killed_does_not_open_as_a_store_and_its_source_does() {
    for engine in EngineKind::ALL {
        let dir = TempDir::new().unwrap();
        let (from, into) = (dir.path().join("store"), dir.path().join("copy"));
        let store = open(engine, &from).unwrap();
        for n in 0..250_u8 {
            let mut batch = Batch::new();
            batch.put(vec![n], vec![n; 200_000]);
            store.apply(&batch).unwrap();
        }
        store.close().unwrap();
        let mut child = spawn("export", engine, dir.path());
        let copied = || fs::read(into.join("tail")).ok().and_then(|tail| tail_from_bytes(&tail)).unwrap_or(0);
        while copied() < 2 {
            assert!(child.try_wait().unwrap().is_none(), "{engine}: it ended before it was killed");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(EngineKind::found_in(&into), None);
        let opened = open(engine, &into).map(drop);
        assert!(matches!(opened, Err(StorageError::LostTail { .. })), "{engine}: {opened:?}");
        assert_eq!(open(engine, &from).unwrap().verify().unwrap().rows, 250);
    }
}
