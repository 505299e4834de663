#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use tempfile::TempDir;
use whimbrel_protocol::id::{
    AccountId, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, LogHash, PublicKey, Sequence, ThreadId,
};
use whimbrel_protocol::thread::{Class, Envelope, Opening, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_relay::store::command::people::Entrance;
use whimbrel_relay::store::command::{
    Append, CursorMove, GiveConsent, Here, LogBounds, OpenThread, Origin, Register, Trim, account_device,
};
use whimbrel_relay::store::contract::{self, Fixture, wait};
use whimbrel_relay::store::{KvStore, LogId, MailboxId, Store};
use whimbrel_storage::{Batch, MemoryEngine, MemoryKv, Order, Row};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options, SizeBounds};

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

fn at_home() -> Domain {
    "a.example".parse().unwrap()
}

fn account(person: u8) -> AccountId {
    AccountId::from_bytes([person; 32])
}

/// Alice (1) and Bob (2), who has let her write to him, and their thread.
fn two_people_and_their_thread() -> Vec<Command> {
    let here = || Here { local: at_home(), log: LogId::from_bytes([9; 16]), at: Wall::default(), bounds: BOUNDS };
    let mut commands = Vec::new();
    for person in [1, 2] {
        let mut registered = register(person, &format!("name{person}"));
        if let Command::Register(register) = &mut registered {
            let key = |n: u8| PublicKey::from_bytes([person * 2 + n; 32]);
            let mailbox = MailboxId::from_bytes([person; 16]);
            register.devices = vec![account_device(DeviceIndex::FIRST, key(0), key(1), mailbox)];
        }
        commands.push(registered);
    }
    commands.push(Command::GiveConsent(GiveConsent {
        owner: account(2),
        other: account(1),
        domain: at_home(),
        at: Wall::default(),
    }));
    let participant =
        |person| Participant { account: account(person), domain: at_home(), devices: vec![DeviceIndex::FIRST] };
    let opening = Opening {
        thread: ThreadId::from_bytes([9; 32]),
        epoch: Epoch::new(1),
        participants: vec![participant(1), participant(2)],
        welcome: vec![1; 100],
        tree: vec![2; 100],
        founding: None,
    };
    let alice = DeviceId { account: account(1), index: DeviceIndex::FIRST };
    commands.push(Command::OpenThread(Box::new(OpenThread::new(opening, alice, Origin::Local, None, here(), None))));
    commands
}

const BOUNDS: LogBounds = LogBounds { entries_max: 100_000, bytes_max: 1 << 30 };

fn say(number: u64) -> Command {
    let body = [number.to_be_bytes().as_slice(), &[7; 300]].concat();
    let (id, thread) = (EnvelopeId::of(&body), ThreadId::from_bytes([9; 32]));
    let envelope = Arc::new(Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body });
    let author = DeviceId { account: account(1), index: DeviceIndex::FIRST };
    let (origin, at) = (Origin::Local, Wall::default());
    Command::Append(Append { envelope, id, author, origin, local: at_home(), at, bounds: BOUNDS })
}

#[test]
fn a_busy_thread_is_refused_at_the_stores_bound_and_still_read_acknowledged_and_trimmed() {
    let remembered = u64::try_from(limits::LOG_IDS_REMEMBERED).unwrap();
    for engine in EngineKind::ALL {
        let dir = TempDir::new().unwrap();
        let open = |max_bytes| {
            let size = SizeBounds { max_bytes, ..SizeBounds::default() };
            let kv = DiskKv::open(dir.path(), Options { engine, size, ..Options::default() }).unwrap();
            let (disk, writer) = ThreadDisk::start(kv).unwrap();
            (KvStore::new(disk), writer)
        };
        let (store, writer) = open(None);
        assert!(wait(store.commit_all(two_people_and_their_thread())).unwrap().iter().all(Result::is_ok));
        // From here on every append takes the oldest remembered id away.
        for first in (0..remembered + 10).step_by(200) {
            let said = wait(store.commit_all((first..first + 200).map(say).collect())).unwrap();
            assert!(said.iter().all(Result::is_ok), "{said:?}");
        }
        drop(store);
        writer.end().unwrap().close().unwrap();

        let (store, writer) = open(Some(1));
        for number in 1_000_000..1_000_010 {
            assert!(matches!(wait(store.commit(say(number))), Err(StoreError::Full)), "{engine}: taken at its bound");
        }
        let (log, upto) = (LogId::from_bytes([9; 16]), Sequence::new(1_000));
        let page = wait(store.log_page(log, Sequence::ZERO, 10, usize::MAX)).unwrap();
        assert_eq!(page.entries.len(), 10);
        let mailbox = |person| MailboxId::from_bytes([person; 16]);
        wait(store.commit(Command::MoveCursors(vec![CursorMove { mailbox: mailbox(1), log, upto }]))).unwrap();
        let trim = Command::Trim(Trim { log, cursors: vec![(mailbox(2), upto)] });
        assert!(matches!(wait(store.commit(trim)), Ok(Outcome::Trimmed { upto, .. }) if upto > Sequence::ZERO));
        assert!(matches!(wait(store.commit(say(2_000_000))), Err(StoreError::Full)));
        drop(store);
        writer.end().unwrap().close().unwrap();
    }
}
