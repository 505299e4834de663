//! `kill -9` between and during batches: nothing acknowledged is lost, nothing is torn.

use std::path::Path;

use tempfile::TempDir;
use whimbrel_storage::{Batch, OrderedKv, Reads};
use whimbrel_storage_runtime::{DiskKv, EngineKind};

use crate::child::{follow, on, open_released, probing, say, spawn};

fn entry_key(i: u64) -> Vec<u8> {
    [b"entry".as_slice(), &i.to_be_bytes()].concat()
}

fn entry(i: u64) -> Vec<u8> {
    let len = if i.is_multiple_of(20) { 30_000 } else { 300 };
    vec![u8::try_from(i % 251).unwrap(); len]
}

fn head(store: &DiskKv) -> u64 {
    store.get(b"head").unwrap().map_or(0, |head| u64::from_be_bytes(head.try_into().unwrap()))
}

/// The child: appends entries, several batches a sync, and says what is durable.
pub(crate) fn write_until_killed(engine: EngineKind, dir: &Path) {
    let store = open_released(dir, &on(engine)).unwrap();
    let mut i = head(&store);
    loop {
        for _ in 0..1 + i % 3 {
            i += 1;
            let mut batch = Batch::new();
            batch.put(entry_key(i), entry(i));
            batch.put(b"head".to_vec(), i.to_be_bytes().to_vec());
            batch.delete(entry_key(i.saturating_sub(500)));
            store.apply(&batch).unwrap();
        }
        store.sync().unwrap();
        say(&i.to_string());
    }
}

#[test]
fn killed_store_opens_with_everything_acknowledged_and_no_torn_batch() {
    EngineKind::ALL.into_iter().for_each(kill_and_open);
}

fn kill_and_open(engine: EngineKind) {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for acks in [1, 40, 3, 150, 17, 400, 9] {
        let mut writer = spawn("write", engine, dir.path());
        let lines = follow(&mut writer);
        for _ in 0..acks {
            acknowledged = lines.recv().unwrap().parse().unwrap();
        }
        writer.kill().unwrap();
        // What it said before it died counts, heard or not.
        acknowledged = lines.iter().last().map_or(acknowledged, |line| line.parse().unwrap());
        writer.wait().unwrap();

        let store = open_released(dir.path(), &probing(engine)).unwrap();
        let head = head(&store);
        assert!(head >= acknowledged, "{acknowledged} was acknowledged, {head} is the newest");
        for i in 1..=head {
            let kept = i + 500 > head;
            assert!(store.get(&entry_key(i)).unwrap() == kept.then(|| entry(i)), "entry {i} of {head}");
        }
        assert_eq!(store.get(&entry_key(head + 1)).unwrap(), None);
        assert_eq!(store.newest_batch().unwrap(), head);
        store.verify().unwrap();
        // Every other time the next writer finds it as a kill left it, with our open on top.
        if acks % 2 == 0 {
            store.close().unwrap();
        }
    }
}
