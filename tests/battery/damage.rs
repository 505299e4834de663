//! Damage: synced data is cut or a bit of it flipped. No engine can keep what is gone; what counts is that no loss is
//! silent, and that the way back from a copy works.

use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_storage_runtime::EngineKind;

use crate::chance::Chance;
use crate::child::{Load, Place, start_load, verify};
use crate::{Plan, Verdict};

/// Rounds over copies of one store.
const EPISODE: u64 = 10;
/// Operations of each sender before and after the backup.
const BEFORE: u64 = 60;
const AFTER: u64 = 20;

/// A store, what it acknowledged, and a backup taken on the way.
struct Good {
    place: Place,
    backup: PathBuf,
    backup_ledger: String,
}

pub(crate) fn run(plan: Plan) -> Verdict {
    let (mut found, mut harmless, mut silent, mut restored) = (0, 0, 0, 0);
    let first = plan.from - plan.from % EPISODE;
    let end = plan.from + plan.rounds;
    let mut good = None;
    for round in first..end {
        if round % EPISODE == 0 {
            good = Some(build(plan, round));
        }
        if round < plan.from {
            continue;
        }
        let Some(good) = &mut good else { continue };
        let mut chance = Chance::of(&[plan.seed, round, 4]);
        let dir = good.place.beside("damaged");
        let _none_yet = fs::remove_dir_all(&dir);
        copy_folder(&good.place.dir(), &dir);
        let what = break_one(plan.engine, &dir.join("store"), &mut chance);
        let mut left = verify(plan, &dir, &good.place.ledger, false, &good.place);
        if left.error.as_deref().is_some_and(|error| error.starts_with("died")) {
            // It died while it read. The next start must know better, or nobody is told anything.
            let again = verify(plan, &dir, &good.place.ledger, false, &good.place);
            if again.error.as_deref().is_none_or(|error| error.starts_with("died")) {
                left.error = None;
                left.lost += 1;
                left.notes.push(format!("the reader dies again and again: {:?}", again.error));
            }
        }
        match (&left.error, left.named, left.lost) {
            (None, _, 1..) => {
                silent += 1;
                eprintln!(
                    "round {round}: {what}: {:?}\n  again: tests/crash --target {:?} --store {} --mode damage --seed {} --from \
                     {round} --rounds 1",
                    left.notes,
                    plan.target,
                    plan.engine.name(),
                    plan.seed,
                );
            }
            (Some(_), ..) | (None, 1.., _) => found += 1,
            // It hit what nothing stands on.
            (None, 0, 0) => harmless += 1,
        }
        // The way back: the backup in the store's place.
        fs::remove_dir_all(&dir).unwrap();
        copy_folder(&good.backup, &dir);
        let back = verify(plan, &dir, &good.backup_ledger, true, &good.place);
        if back.error.is_none() && back.lost + back.torn + back.named == 0 {
            restored += 1;
        } else {
            eprintln!("round {round}: the backup does not restore: {:?} {:?}", back.error, back.notes);
        }
    }
    let rounds = plan.rounds;
    Verdict {
        counts: vec![
            ("rounds", rounds),
            ("found", found),
            ("silent", silent),
            ("harmless", harmless),
            ("restored", restored),
        ],
        kept: silent == 0 && restored == rounds && found > 0,
        seconds: 0,
    }
}

fn build(plan: Plan, round: u64) -> Good {
    let mut place = Place::new();
    let ended = write(plan, round, BEFORE, None, &mut place);
    assert!(ended, "a good store was not written: {}", place.ledger);
    let backup = place.beside("backup");
    copy_folder(&place.dir(), &backup);
    let backup_ledger = place.ledger.clone();
    // Every other store was killed when it was damaged, the others were closed.
    if (round / EPISODE).is_multiple_of(2) {
        assert!(write(plan, round + 1, AFTER, None, &mut place), "a good store was not written: {}", place.ledger);
    } else {
        write(plan, round + 1, 0, Some(150), &mut place);
    }
    Good { place, backup, backup_ledger }
}

/// Writes to a store; whether it was closed in the end.
fn write(plan: Plan, round: u64, operations: u64, kill_after: Option<usize>, place: &mut Place) -> bool {
    let load = Load { operations, ..Load::new(plan, &place.dir(), round) };
    let mut running = start_load(&load, &[], place);
    let mut lines = Vec::new();
    while let Some(line) = running.next() {
        lines.push(line);
        if kill_after == Some(lines.len()) {
            running.kill();
        }
    }
    let ended = running.end(|line| lines.push(line));
    for line in lines {
        place.ledger.push_str(&line);
        place.ledger.push('\n');
    }
    ended.success()
}

/// Breaks one thing in a store and says what.
fn break_one(engine: EngineKind, store: &Path, chance: &mut Chance) -> String {
    let files = files_of(engine, store);
    let is_log = |file: &&PathBuf| file.extension().is_some_and(|ending| ending == "jnl") || file.ends_with("db");
    let log = files.iter().filter(is_log).max().unwrap();
    // Mostly where the data is: the newest log, then everything else by chance.
    let file =
        if chance.percent(50) { log } else { &files[usize::try_from(chance.below(files.len() as u64)).unwrap()] };
    let mut bytes = fs::read(file).unwrap();
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let name = file.strip_prefix(store).unwrap().display().to_string();
    if len == 0 {
        fs::remove_file(file).unwrap();
        return format!("{name} was empty and is gone");
    }
    let what = if chance.percent(30) {
        let cut = 1 + usize::try_from(chance.below(len as u64).min(chance.next() % 20_000)).unwrap();
        bytes.truncate(len - cut);
        format!("{name}: the last {cut} of {len} bytes cut")
    } else {
        let (at, bit) = (usize::try_from(chance.below(len as u64)).unwrap(), chance.below(8));
        bytes[at] ^= 1 << bit;
        format!("{name}: bit {bit} of byte {at} of {len} flipped")
    };
    fs::write(file, bytes).unwrap();
    what
}

/// The engine's files in which a store's rows lie, sorted.
fn files_of(engine: EngineKind, store: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![store.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if !["lock", "tail", "clean", "making"].contains(&name.as_str()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{engine}: nothing to break");
    found
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
