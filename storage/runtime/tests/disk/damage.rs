//! Damage to synced data: whatever an engine makes of it, a wrong or missing row is never taken for the truth.
//!
//! Each case is a copy of a good store with one thing broken, read by a child, since an engine may panic. No engine can keep
//! what is gone; the verdict counts cases in which the child noticed nothing and read something else than was written.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whimbrel_storage::{Batch, OrderedKv, Reads, StorageError};
use whimbrel_storage_runtime::{DiskKv, EngineKind};

use crate::child::{lines_of, on, open_released, probing, say, spawn};

const ROWS: u64 = 600;

fn key(i: u64) -> Vec<u8> {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec()
}

fn value(i: u64) -> Vec<u8> {
    i.to_be_bytes().repeat(if i.is_multiple_of(50) { 2_000 } else { 60 })
}

/// How a store was left.
#[derive(Clone, Copy, Debug)]
enum Left {
    Dropped,
    Closed,
    /// Closed, opened and closed: sled has a snapshot, and does not look at what lies before it when it opens.
    ClosedTwice,
}

const SLED: EngineKind = EngineKind::Sled;
const ALL: [Left; 3] = [Left::Dropped, Left::Closed, Left::ClosedTwice];

/// A store with `ROWS` rows, written in many batches.
fn good_store(engine: EngineKind, left: Left) -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open_released(dir.path(), &on(engine)).unwrap();
    for i in 0..ROWS {
        let mut batch = Batch::new();
        batch.put(key(i), value(i));
        batch.put(b"head".to_vec(), i.to_be_bytes().to_vec());
        store.apply(&batch).unwrap();
        if i % 10 == 9 {
            store.sync().unwrap();
        }
    }
    match left {
        Left::Dropped => drop(store),
        Left::Closed => store.close().unwrap(),
        Left::ClosedTwice => {
            store.close().unwrap();
            open_released(dir.path(), &on(engine)).unwrap().close().unwrap();
        }
    }
    dir
}

/// The child: opens, verifies, reads all, and tells how it went; or dies of sled's panic.
pub(crate) fn read_and_tell(engine: EngineKind, dir: &Path) {
    let store = match DiskKv::open(dir, on(engine)) {
        Ok(store) => store,
        Err(error) => return say(&format!("error at open: {error}")),
    };
    // An open that found nothing wrong must stand for all reads that follow.
    let mut damaged = false;
    for i in 0..ROWS {
        match store.get(&key(i)) {
            Ok(Some(read)) if read == value(i) => {}
            Ok(Some(_)) => return say("wrong value"),
            Ok(None) => return say("row silently gone"),
            Err(_) => damaged = true,
        }
    }
    say(if damaged { "error at read" } else { "all as written" });
}

fn copy_of(good: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_folder(good, copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&file.path(), &to);
        } else {
            fs::copy(file.path(), &to).unwrap();
        }
    }
}

/// The file that holds what was written last.
fn log_of(engine: EngineKind, dir: &Path) -> PathBuf {
    match engine {
        EngineKind::Sled => dir.join("db"),
        EngineKind::Fjall => {
            let names = fs::read_dir(dir.join("fjall")).unwrap().map(|entry| entry.unwrap().path());
            names.filter(|path| path.extension().is_some_and(|ending| ending == "jnl")).max().unwrap()
        }
    }
}

/// Its bytes up to the last that says something.
fn log_len(engine: EngineKind, dir: &Path) -> usize {
    let bytes = fs::read(log_of(engine, dir)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// What a child said of a copy of the database after `change`, and the copy.
fn told_and_left(engine: EngineKind, good: &TempDir, change: impl FnOnce(&mut Vec<u8>)) -> (String, TempDir) {
    let copy = copy_of(good.path());
    let database = log_of(engine, copy.path());
    let mut bytes = fs::read(&database).unwrap();
    change(&mut bytes);
    fs::write(&database, bytes).unwrap();
    let told = lines_of(spawn("read", engine, copy.path())).pop().unwrap_or_else(|| "panic".to_owned());
    (told, copy)
}

fn told_after(engine: EngineKind, good: &TempDir, change: impl FnOnce(&mut Vec<u8>)) -> String {
    told_and_left(engine, good, change).0
}

fn is_silent(told: &str) -> bool {
    ["wrong value", "row silently gone"].contains(&told)
}

#[test]
fn undamaged_copies_read_as_written() {
    for engine in EngineKind::ALL {
        for left in ALL {
            assert_eq!(told_after(engine, &good_store(engine, left), |_| {}), "all as written");
        }
    }
}

#[test]
fn cut_file_is_never_taken_for_whole() {
    for (engine, left) in EngineKind::ALL.into_iter().flat_map(|engine| ALL.map(|left| (engine, left))) {
        let good = good_store(engine, left);
        let len = log_len(engine, good.path());
        // The end of sled's file is not the end of its log: it fills segments in any order and pads the last.
        let mut noticed = 0;
        for cut in [1, 4_096, 100_000, 524_288, len / 3, len / 2, len - 10] {
            let told = told_after(engine, &good, |bytes| bytes.truncate(len.saturating_sub(cut)));
            assert!(!is_silent(&told), "{engine} {cut} of {len} bytes cut, left {left:?}: {told}");
            noticed += usize::from(told != "all as written");
        }
        assert!(noticed >= 3, "{engine}: half the file cannot be gone without a word");
    }
}

#[test]
fn flipped_bytes_are_never_read_as_values() {
    for (engine, left) in EngineKind::ALL.into_iter().flat_map(|engine| ALL.map(|left| (engine, left))) {
        let good = good_store(engine, left);
        let len = log_len(engine, good.path());
        let mut noticed = 0;
        for case in 0..12 {
            let at = len * case / 12 + 131 * case;
            let told = told_after(engine, &good, |bytes| bytes[at.min(len - 1)] ^= 0x20);
            assert!(!is_silent(&told), "{engine} byte {at} of {len}, left {left:?}: {told}");
            noticed += usize::from(told != "all as written");
        }
        assert!(noticed > 0, "{engine}: no flip hit anything; the offsets test nothing");
    }
}

#[test]
fn damage_on_which_sled_panics_is_an_error_at_the_next_start() {
    let good = good_store(SLED, Left::ClosedTwice);
    let len = usize::try_from(fs::metadata(good.path().join("db")).unwrap().len()).unwrap();
    for case in 0..150 {
        let at = len * case / 150 + 7 * case;
        // Without its mark the store counts as left unclean, and nothing but a trial stands between it and the panic.
        fs::remove_file(good.path().join("clean")).ok();
        let (told, copy) = told_and_left(SLED, &good, |bytes| bytes[at.min(len - 1)] ^= 0x20);
        if told == "panic" {
            // The process that panicked left no mark of a clean close: this open is tried by a child first.
            let opened = open_released(copy.path(), &probing(SLED)).map(drop);
            assert!(
                matches!(opened, Err(StorageError::DoesNotOpen { .. } | StorageError::LostTail { .. })),
                "byte {at} of {len}: {opened:?}"
            );
            return;
        }
    }
    panic!("no flip made sled panic; if it no longer does, this test and the trial open can go");
}

fn engine_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name == "db" || name == "conf" || name.starts_with("snap."))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_store_that_does_not_open_is_left_as_it_was() {
    for left in ALL {
        let good = good_store(SLED, left);
        let len = usize::try_from(fs::metadata(good.path().join("db")).unwrap().len()).unwrap();
        let mut refused = 0;
        for case in 0..24 {
            let dir = TempDir::new().unwrap();
            for entry in fs::read_dir(good.path()).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
                }
            }
            let database = dir.path().join("db");
            let mut bytes = fs::read(&database).unwrap();
            bytes[(len * case / 24 + 37 * case).min(len - 1)] ^= 1 << (case % 8);
            fs::write(&database, bytes).unwrap();
            let before = engine_files(dir.path());
            for attempt in 0..2 {
                let Err(error) = open_released(dir.path(), &probing(SLED)) else { break };
                let typed = matches!(
                    error,
                    StorageError::DoesNotOpen { .. } | StorageError::LostTail { .. } | StorageError::Damaged { .. }
                );
                assert!(typed, "{left:?}, case {case}: {error}");
                assert!(before == engine_files(dir.path()), "{left:?}, case {case}, attempt {attempt}: {error}");
                refused += 1;
            }
        }
        assert!(refused > 0, "{left:?}: no flip hit anything");
    }
}
