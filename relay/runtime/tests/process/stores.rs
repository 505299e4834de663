//! The store as a whole, by the program's commands: read, copied, moved.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use whimbrel_protocol::reception::Heartbeat;
use whimbrel_protocol::{Frame, RefusalCode};
use whimbrel_relay::store::kv::SCHEMA;
use whimbrel_storage::{Batch, OrderedKv, Reads, tail_from_bytes};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options};

use super::{PROGRAM, Person, Place, ask, come_in, error_of, greet, relay};

impl Place {
    fn try_it(&self, args: &[&str]) -> std::process::Output {
        let config = self.config();
        relay(&[args, &["--json", "--config", &config]].concat())
    }

    fn ask(&self, args: &[&str]) -> Value {
        let output = self.try_it(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, args: &[&str]) -> (Option<i32>, String) {
        let config = self.config();
        let (exit, code, _) = error_of(&relay(&[args, &["--json", "--config", &config]].concat()));
        (exit, code)
    }

    fn stop(running: super::Running) {
        running.signal("TERM");
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
    }

    /// Puts rows into the store, by another process than a relay.
    pub(super) fn fill(&self, rows: u32, bytes: usize) {
        let options = || Options { engine: EngineKind::found_in(&self.store()).unwrap(), ..Options::default() };
        let store = DiskKv::open(&self.store(), options()).unwrap();
        for row in 0..rows {
            let mut batch = Batch::new();
            // In the space of large bodies.
            batch.put([&[18], [7; 28].as_slice(), &row.to_be_bytes()].concat(), vec![row as u8; bytes]);
            store.apply(&batch).unwrap();
        }
        store.close().unwrap();
    }

    fn store(&self) -> std::path::PathBuf {
        self.dir.join("data/store")
    }
}

async fn with_alice() -> (Place, Person) {
    let (place, alice) = (Place::new("a.example"), Person::new(1));
    let running = place.start();
    come_in(&alice, &running.link, "alice").await;
    Place::stop(running);
    (place, alice)
}

#[tokio::test]
async fn a_whole_store_is_told_space_by_space_and_a_damaged_one_is_told_and_kept() {
    let (place, _alice) = with_alice().await;
    let report = place.ask(&["check", "--store"]);
    let store = &report["store"];
    assert_eq!((store["whole"].as_bool(), store["engine"].as_str()), (Some(true), Some("sled")));
    let rows = |space: &str| {
        let spaces = store["spaces"].as_array().unwrap();
        spaces.iter().find(|found| found["space"] == space).map(|found| found["rows"].as_u64().unwrap())
    };
    assert_eq!((rows("accounts"), rows("names"), rows("version")), (Some(1), Some(1), Some(1)));

    // A row behind the counters' back, as a writer with a bug would leave it: each row is as written, and they do not fit.
    let kv = DiskKv::open(&place.store(), Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.delete([&[1], b"alice".as_slice()].concat());
    kv.apply(&batch).unwrap();
    kv.close().unwrap();
    let output = relay(&["check", "--store", "--json", "--config", &place.config()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["store"]["problem_count"].as_u64()), (Some(1), Some(1)));
    assert!(report["store"]["problems"][0].as_str().unwrap().starts_with("accounts"), "{report}");

    // And one bit of what the closed store holds.
    let database = place.store().join("db");
    let mut bytes = fs::read(&database).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last / 2] ^= 1;
    fs::write(&database, &bytes).unwrap();
    for command in [&["check", "--store"][..], &["check"]] {
        assert_eq!(place.refused(command), (Some(1), "store_damaged".to_owned()), "{command:?}");
    }
    assert_eq!(relay(&["run", "--config", &place.config()]).status.code(), Some(1));
    assert!(fs::read(&database).unwrap() == bytes, "the damaged store was touched");
}

/// Every file below a folder, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(contents(&entry.path())),
            false => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found
}

#[tokio::test]
async fn a_check_of_a_killed_relays_store_tells_all_of_it_and_changes_no_byte() {
    for engine in ["sled", "fjall"] {
        let (place, alice) = (Place::new("a.example"), Person::new(1));
        place.edit("url = \"sled:\"", &format!("url = \"{engine}:\""));
        let running = place.start();
        come_in(&alice, &running.link, "alice").await;
        running.kill();
        let before = contents(&place.store());
        for _ in 0..2 {
            let report = place.ask(&["check", "--store"]);
            assert_eq!(
                (report["store"]["whole"].as_bool(), report["store"]["version"].as_u64()),
                (Some(true), Some(SCHEMA.version.into()))
            );
            let after = contents(&place.store());
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{engine}");
            assert!(before == after, "{engine}: bytes were changed");
        }
        let running = place.start();
        greet(&alice, &mut alice.connect(&running.link).await).await;
    }
}

#[tokio::test]
async fn a_check_compares_the_store_with_the_engine_and_the_version_that_are_asked_for() {
    let (place, alice) = with_alice().await;
    place.edit("url = \"sled:\"", "url = \"fjall:\"");
    for command in [&["check", "--store"][..], &["check"]] {
        assert_eq!(place.refused(command), (Some(2), "store_engine".to_owned()), "{command:?}");
    }
    place.edit("url = \"fjall:\"", "url = \"sled:\"");
    let version_row = |value: Option<&[u8]>| {
        let kv = DiskKv::open(&place.store(), Options::default()).unwrap();
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(vec![0], value.to_vec()),
            None => batch.delete(vec![0]),
        }
        kv.apply(&batch).unwrap();
        kv.close().unwrap();
    };
    for (row, code) in [(b"\xff\0\0\0\x05relay\0".as_slice(), "store_version"), (b"\x01\0\0\0\x04node\0", "store_rows")]
    {
        version_row(Some(row));
        for command in [&["check", "--store"][..], &["check"], &["run"]] {
            assert_eq!(place.refused(command), (Some(2), code.to_owned()), "{command:?}");
        }
    }
    // Rows from before there was a version row: to look at them brings nothing up; a start does.
    version_row(None);
    let has_version = || DiskKv::open(&place.store(), Options::default()).unwrap().get(&[0]).unwrap().is_some();
    place.ask(&["check"]);
    assert_eq!(place.ask(&["check", "--store"])["store"]["version"], 1);
    assert!(!has_version(), "a check brought rows up");
    let running = place.start();
    greet(&alice, &mut alice.connect(&running.link).await).await;
    Place::stop(running);
    assert!(has_version());
}

#[tokio::test]
async fn a_store_in_memory_is_no_store_to_check_copy_or_move() {
    let (place, _alice) = with_alice().await;
    place.edit("url = \"sled:\"", "url = \"memory:\"");
    let before = contents(&place.store());
    let into = place.dir.join("backup");
    for command in [
        &["check", "--store"][..],
        &["export", "--in-place"],
        &["export", "--into", into.to_str().unwrap()],
        &["migrate", "--to", "fjall:"],
    ] {
        assert_eq!(place.refused(command), (Some(2), "store_in_memory".to_owned()), "{command:?}");
    }
    assert_eq!(place.ask(&["check"])["store_bytes"], Value::Null);
    assert!(before == contents(&place.store()) && !into.exists());
}

#[tokio::test]
async fn a_store_moves_to_another_engine_and_back_and_the_wrong_url_is_told() {
    let (place, alice) = with_alice().await;
    for (from, to) in [("sled", "fjall"), ("fjall", "sled")] {
        let moved = place.ask(&["migrate", "--to", &format!("{to}:")]);
        assert!(moved["copied"]["rows"].as_u64().unwrap() > 5, "{moved}");
        assert!(Path::new(moved["old_store"].as_str().unwrap()).is_dir());
        assert_eq!(place.refused(&["run"]), (Some(2), "store_engine".to_owned()));
        place.edit(&format!("url = \"{from}:\""), &format!("url = \"{to}:\""));
        assert_eq!(place.ask(&["check", "--store"])["store"]["engine"], to);
        let running = place.start();
        greet(&alice, &mut alice.connect(&running.link).await).await;
        Place::stop(running);
        // Asked again, there is nothing to do.
        assert_eq!(place.ask(&["migrate", "--to", &format!("{to}:")])["copied"], Value::Null);
    }
}

#[tokio::test]
async fn a_migration_that_is_killed_twice_goes_on_and_moves_everything() {
    let (place, alice) = with_alice().await;
    place.fill(1_200, 80_000);
    let next = place.dir.join("data/store.new");
    let copied = || fs::read(next.join("tail")).ok().and_then(|tail| tail_from_bytes(&tail)).unwrap_or(0);
    for (from, to) in [("sled:", "fjall:"), ("fjall:", "sled:")] {
        let mut reached = 0;
        for further in [3, 4] {
            let mut child = std::process::Command::new(PROGRAM)
                .args(["migrate", "--to", to, "--json", "--config", &place.config()])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            while copied() < reached + further {
                assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(copied() > reached, "it began anew");
            reached = copied();
            // The source serves all the while.
            assert_eq!(EngineKind::found_in(&place.store()).map(EngineKind::url), Some(from));
        }
        let output = relay(&["migrate", "--to", to, "--json", "--config", &place.config()]);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("going on"), "{output:?}");
        let moved: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(moved["copied"]["rows"].as_u64().unwrap() > 1_200, "{moved}");
        place.edit(&format!("url = \"{from}\""), &format!("url = \"{to}\""));
        // The large bodies are nobody's, and counted by nobody.
        assert_eq!(place.ask(&["check", "--store"])["store"]["whole"], true);
        let running = place.start();
        greet(&alice, &mut alice.connect(&running.link).await).await;
        Place::stop(running);
    }
}

#[tokio::test]
async fn an_export_that_the_relays_stop_ends_midway_leaves_no_copy_and_a_second_one_succeeds() {
    let (place, alice) = with_alice().await;
    place.fill(1_200, 80_000);
    let into = place.dir.join("backup");
    let copied = || fs::read(into.join("tail")).ok().and_then(|tail| tail_from_bytes(&tail)).unwrap_or(0);
    let running = place.start();
    let mut export = std::process::Command::new(PROGRAM)
        .args(["export", "--into", into.to_str().unwrap(), "--json", "--config", &place.config()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while copied() < 3 {
        assert!(export.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::yield_now();
    }
    Place::stop(running);
    assert_eq!(export.wait().unwrap().code(), Some(1));
    assert!(!into.exists(), "half a copy was left");
    assert_eq!(place.ask(&["check", "--store"])["store"]["whole"], true);
    assert!(place.ask(&["export", "--into", into.to_str().unwrap()])["copied"]["rows"].as_u64().unwrap() > 1_200);
    fs::remove_dir_all(place.store()).unwrap();
    fs::rename(&into, place.store()).unwrap();
    let running = place.start();
    greet(&alice, &mut alice.connect(&running.link).await).await;
}

#[tokio::test]
async fn a_relay_that_serves_is_exported_and_the_copy_is_a_store() {
    let (place, alice) = with_alice().await;
    let running = place.start();
    let into = place.dir.join("backup");
    let exported = place.ask(&["export", "--into", into.to_str().unwrap()]);
    assert!(exported["copied"]["rows"].as_u64().unwrap() > 5, "{exported}");
    // It serves on, and what comes later is not in the copy.
    come_in(&Person::new(2), &running.link, "bob").await;
    assert_eq!(place.refused(&["export", "--into", into.to_str().unwrap()]), (Some(2), "exists".to_owned()));
    Place::stop(running);
    // The backup in the place of the store.
    fs::remove_dir_all(place.store()).unwrap();
    fs::rename(&into, place.store()).unwrap();
    let running = place.start();
    greet(&alice, &mut alice.connect(&running.link).await).await;
    // Bob's name is free again.
    come_in(&Person::new(3), &running.link, "bob").await;
}

#[tokio::test]
async fn an_export_in_place_gives_space_back_and_loses_nothing_said_meanwhile() {
    let (place, alice) = with_alice().await;
    place.fill(300, 80_000);
    place.fill(300, 10);
    let size = || fs::metadata(place.store().join("db")).unwrap().len();
    let before = size();
    // Not under a relay that serves, however often it is asked.
    let running = place.start();
    for _ in 0..2 {
        let refused = place.try_it(&["export", "--in-place"]);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    }
    let bob = Person::new(2);
    come_in(&bob, &running.link, "bob").await;
    Place::stop(running);
    for _ in 0..2 {
        let exported = place.ask(&["export", "--in-place"]);
        assert!(exported["copied"]["rows"].as_u64().unwrap() > 5);
        assert_eq!(place.ask(&["check", "--store"])["store"]["whole"], true);
    }
    assert!(size() < before / 4, "{} of {before} bytes", size());
    assert!(["store.new", "store.old"].iter().all(|left| !place.dir.join("data").join(left).exists()));
    let running = place.start();
    for person in [&alice, &bob] {
        greet(person, &mut person.connect(&running.link).await).await;
    }
    Place::stop(running);
    // Nor among the relay's own files, which the next exchange would take away.
    let inside = place.dir.join("data/store/backup");
    assert_eq!(place.try_it(&["export", "--into", inside.to_str().unwrap()]).status.code(), Some(2));
    assert!(!inside.exists());
}

#[tokio::test]
async fn an_exchange_that_was_interrupted_anywhere_is_brought_to_its_end() {
    let (place, alice) = with_alice().await;
    let data = place.dir.join("data");
    let next = data.join("store.new");
    for interrupted in 0..3 {
        let copy = place.dir.join("copy");
        let exported = place.ask(&["export", "--into", copy.to_str().unwrap()]);
        assert!(exported["copied"]["rows"].as_u64().unwrap() > 5);
        fs::rename(&copy, &next).unwrap();
        fs::write(data.join("store.exchange"), "drop").unwrap();
        if interrupted > 0 {
            fs::rename(place.store(), data.join("store.old")).unwrap();
        }
        if interrupted > 1 {
            fs::rename(&next, place.store()).unwrap();
        }
        let running = place.start();
        greet(&alice, &mut alice.connect(&running.link).await).await;
        Place::stop(running);
        assert!(!data.join("store.exchange").exists() && !data.join("store.old").exists());
    }
}

#[tokio::test]
async fn a_store_at_its_bound_refuses_newcomers_clearly_and_serves_those_who_are_there() {
    let (place, alice) = with_alice().await;
    place.fill(1_800, 80_000);
    place.edit("# max = \"3 GiB\"", "max = \"128 MiB\"");
    let running = place.start();
    let bob = Person::new(2);
    let mut link = bob.connect(&running.link).await;
    let register = bob.register(&link, "bob");
    let Frame::Refused(refused) = ask(&mut link, &register).await else { panic!("taken in") };
    assert_eq!(refused.code, RefusalCode::Full);
    assert!(refused.retry_after_ms.is_some_and(|after| after > 0));
    let mut link = alice.connect(&running.link).await;
    greet(&alice, &mut link).await;
    assert!(matches!(ask(&mut link, &Heartbeat::default().into()).await, Frame::HeartbeatAnswer(_)));
    Place::stop(running);
    // With room again, at once.
    place.edit("max = \"128 MiB\"", "max = \"10 GiB\"");
    let running = place.start();
    come_in(&bob, &running.link, "bob").await;
}
