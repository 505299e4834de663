#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use tempfile::TempDir;
use whimbrel_protocol::id::{AccountId, LogHash};
use whimbrel_protocol::time::Wall;
use whimbrel_relay::store::command::Register;
use whimbrel_relay::store::command::people::Entrance;
use whimbrel_relay::store::contract::{self, Fixture, wait};
use whimbrel_relay::store::{KvStore, LogId, Store};
use whimbrel_storage::{Batch, MemoryEngine, MemoryKv, Order, Row};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options};

use super::*;

/// A store in a folder of its own, behind the writer.
struct OnDisk {
    engine: EngineKind,
    dir: TempDir,
    writers: Vec<Writer<DiskKv>>,
}

impl OnDisk {
    fn new(engine: EngineKind) -> Self {
        Self { engine, dir: TempDir::new().unwrap(), writers: Vec::new() }
    }

    fn open(&mut self) -> KvStore<ThreadDisk<DiskKv>> {
        let options = Options { engine: self.engine, ..Options::default() };
        let (disk, writer) = ThreadDisk::start(DiskKv::open(self.dir.path(), options).unwrap()).unwrap();
        self.writers.push(writer);
        KvStore::new(disk)
    }
}

impl Fixture for OnDisk {
    type Store = KvStore<ThreadDisk<DiskKv>>;

    fn fresh(&mut self) -> Self::Store {
        self.dir = TempDir::new().unwrap();
        self.open()
    }

    fn restart(&mut self, store: Self::Store) -> Self::Store {
        drop(store);
        // Dropped, not closed: what was not synced may be gone.
        drop(self.writers.pop().unwrap().end().unwrap());
        self.open()
    }
}

#[test]
fn sled_behind_the_writer_keeps_the_contract_of_a_store() {
    contract::check(&mut OnDisk::new(EngineKind::Sled));
}

#[test]
fn fjall_behind_the_writer_keeps_the_contract_of_a_store() {
    contract::check(&mut OnDisk::new(EngineKind::Fjall));
}

/// Rows in memory whose syncs can be held up and counted, and made to fail.
struct Gate {
    kv: MemoryKv,
    state: Mutex<GateState>,
    changed: Condvar,
    batches: AtomicUsize,
    fails: AtomicBool,
}

#[derive(Default)]
struct GateState {
    /// Syncs begun.
    begun: usize,
    /// Syncs that may end.
    allowed: usize,
}

impl Gate {
    fn new() -> Self {
        Self {
            kv: MemoryKv::open(MemoryEngine::new(), None).unwrap(),
            state: Mutex::default(),
            changed: Condvar::new(),
            batches: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        }
    }

    fn allow(&self, syncs: usize) {
        self.state.lock().unwrap().allowed = syncs;
        self.changed.notify_all();
    }

    fn wait_until_begun(&self, syncs: usize) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.begun < syncs).unwrap());
    }
}

impl Reads for Gate {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.kv.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.kv.scan(from, to, order, limit)
    }
}

impl OrderedKv for Gate {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.kv.apply(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        state.begun += 1;
        let own = state.begun;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.allowed < own).unwrap());
        if self.fails.load(Ordering::Relaxed) {
            return Err(StorageError::Engine("no more".to_owned()));
        }
        self.kv.sync()
    }
}

fn register(person: u8, name: &str) -> Command {
    Command::Register(Register {
        name: name.parse().unwrap(),
        account: AccountId::from_bytes([person; 32]),
        log: vec![person; 100],
        head: (1, LogHash::from_bytes([person; 32])),
        devices: Vec::new(),
        inbox: LogId::from_bytes([person; 16]),
        entrance: Entrance::Open,
        at: Wall::default(),
    })
}

/// The first poll; whether it is not done at once.
fn begin(future: &mut (impl Future + Unpin)) -> bool {
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

fn gated() -> (KvStore<ThreadDisk<Gate>>, Writer<Gate>) {
    let (disk, writer) = ThreadDisk::start(Gate::new()).unwrap();
    (KvStore::new(disk), writer)
}

#[tokio::test]
async fn commands_that_wait_together_share_a_batch_and_a_sync_and_keep_their_order() {
    let (store, writer) = gated();
    let people = 100;
    // The first is held up in its sync; all others wait behind it. Every second asks for a name that is taken.
    let mut commits: Vec<_> =
        (0..people).map(|person| Box::pin(store.commit(register(person, &format!("name{}", person / 2))))).collect();
    for commit in &mut commits {
        assert!(begin(commit));
    }
    writer.kv.allow(usize::MAX);
    for (person, commit) in commits.into_iter().enumerate() {
        assert_eq!(commit.await.is_ok(), person % 2 == 0, "{person}");
    }
    assert!(writer.kv.state.lock().unwrap().begun <= 3);
    assert!(writer.kv.batches.load(Ordering::Relaxed) <= 3);
}

#[test]
fn nothing_is_answered_before_its_sync_refusals_included() {
    let (store, writer) = gated();
    for (turn, person) in [(1, 1), (2, 2)] {
        let mut commit = Box::pin(store.commit(register(person, "name")));
        begin(&mut commit);
        writer.kv.wait_until_begun(turn);
        // The writer stands in the sync: whatever it was going to say early, it has said.
        assert!(begin(&mut commit), "answered before the sync");
        writer.kv.allow(turn);
        let outcome = wait(commit);
        match person {
            1 => assert!(outcome.is_ok()),
            _ => assert!(matches!(outcome, Err(StoreError::Conflict(Conflict::NameTaken)))),
        }
    }
}

#[test]
fn a_commit_hangs_when_it_is_under_way_at_two_looks_in_a_row_and_one_that_goes_on_does_not() {
    let (store, writer) = gated();
    let mut watch = Watch { progress: writer.progress.clone(), seen: None };
    assert!(!watch.hangs() && !watch.hangs(), "nothing to do is no hanging");
    for turn in 1..=3 {
        let person = u8::try_from(turn).unwrap();
        let mut commit = Box::pin(store.commit(register(person, &format!("name{turn}"))));
        begin(&mut commit);
        writer.kv.wait_until_begun(turn);
        assert!(!watch.hangs(), "another one than at the look before");
        if turn == 3 {
            assert!(watch.hangs() && watch.hangs());
        }
        writer.kv.allow(turn);
        assert!(wait(commit).is_ok());
    }
    // The answer leaves before the writer has counted the end; once it begins anew it has.
    let mut commit = Box::pin(store.commit(register(9, "name9")));
    begin(&mut commit);
    writer.kv.wait_until_begun(4);
    assert!(!watch.hangs());
    writer.kv.allow(4);
    assert!(wait(commit).is_ok());
}

#[tokio::test]
async fn after_a_failure_everybody_is_told_and_nothing_more_is_written() {
    let (store, mut writer) = gated();
    writer.kv.fails.store(true, Ordering::Relaxed);
    let mut commits: Vec<_> =
        (0..10).map(|person| Box::pin(store.commit(register(person, &format!("name{person}"))))).collect();
    for commit in &mut commits {
        assert!(begin(commit));
    }
    writer.kv.allow(usize::MAX);
    for commit in commits {
        assert!(matches!(commit.await, Err(StoreError::Failed(_))));
    }
    assert!(writer.failed().await.contains("no more"));
    assert!(matches!(store.commit(register(99, "late")).await, Err(StoreError::Failed(_))));
    drop(store);
    assert!(writer.end().is_err());
}

#[test]
fn a_command_whose_asker_went_away_is_done_all_the_same() {
    let (store, writer) = gated();
    writer.kv.allow(usize::MAX);
    let mut commit = Box::pin(store.commit(register(1, "name")));
    begin(&mut commit);
    drop(commit);
    // In order behind it, and so refused by it.
    assert!(matches!(wait(store.commit(register(2, "name"))), Err(StoreError::Conflict(Conflict::NameTaken))));
}

#[test]
fn without_room_a_call_is_refused_alone_and_nothing_stops() {
    let engine = MemoryEngine::new();
    let kv = MemoryKv::open(engine.clone(), None).unwrap();
    let (disk, writer) = ThreadDisk::start(kv).unwrap();
    let store = KvStore::new(disk);
    engine.fail_next_apply(StorageError::Full);
    assert!(matches!(wait(store.commit(register(1, "name"))), Err(StoreError::Full)));
    assert!(wait(store.commit(register(1, "name"))).is_ok());
    drop(store);
    writer.end().unwrap();
}
