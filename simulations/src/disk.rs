//! Disks: what is applied, what is synced, and what a crash leaves of it.
//! Owns: the relay's disk port over the in-memory engine, the node's store, the delays of both.
//! Never: decides a command (the relay core's committer does), or answers before a sync.
//!
//! The order is the real one. Relay: one writer takes all calls that wait, applies them (one event), syncs once, and
//! only then answers (a second event, so that a crash can fall between); calls that come meanwhile wait for the next
//! group. Node: the core's thread takes what waits, applies step by step, syncs, and only then lets outputs leave.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use whimbrel_crypto::{Chance, Check, SealKey, SealedKv};
use whimbrel_relay::store::command::{Command, Conflict, Outcome};
use whimbrel_relay::store::kv::{Committer, Unsynced};
use whimbrel_relay::store::{Disk, StoreError};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Batch, Kv, MemoryEngine, Op, Order, OrderedKv, Reads, Row, StorageError};

use crate::engine::Stream;
use crate::faults::Keep;
use crate::judge::canary::Canaries;
use crate::scenario;

/// What a process is told whose disk fails to sync.
const SYNC_FAILED: &str = "the disk failed to sync";

/// The rows of a disk: those in memory, unless there is no room for more.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    rows: MemoryEngine,
    full: Arc<AtomicBool>,
    /// What no row must ever hold.
    watch: Option<Arc<Watch>>,
}

/// Looks at every row that is written, for as long as it lasts: most are gone again before anybody could look later.
#[derive(Debug)]
struct Watch {
    canaries: Canaries,
    sang: AtomicBool,
}

/// The house's store over such a disk.
pub type SimKv = Kv<Medium>;

impl whimbrel_storage::Engine for Medium {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.rows.scan(from, to, order, limit)
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
        if let Some(watch) = &self.watch
            && ops.iter().any(|op| match op {
                Op::Put { key, value } => watch.canaries.sings_in(key) || watch.canaries.sings_in(value),
                Op::Delete { key } => watch.canaries.sings_in(key),
            })
        {
            watch.sang.store(true, Ordering::Relaxed);
        }
        if self.full.load(Ordering::Relaxed) { Err(StorageError::Full) } else { self.rows.apply(ops) }
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.rows.sync()
    }
}

/// What survives a process: the rows, and the batch number kept beside them.
#[derive(Debug)]
pub struct Platter {
    medium: Medium,
    /// So many times as long as usual.
    slow: u32,
    /// It answers nothing.
    stalled: bool,
    /// A sync failed in this life: the process above must not go on.
    failing: bool,
    tail: Option<u64>,
    speed: scenario::Disk,
    stream: Stream,
}

/// What a crash took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Torn {
    /// Batches applied and not synced that are gone.
    pub lost: u64,
    /// Batches applied and not synced that turned out to be on the disk.
    pub kept: u64,
}

impl Platter {
    /// An empty disk.
    pub fn new(speed: scenario::Disk, stream: Stream) -> Self {
        let medium = Medium::default();
        Self { medium, slow: 1, stalled: false, failing: false, tail: None, speed, stream }
    }

    /// Opens the rows, checking that what was synced is there.
    ///
    /// # Errors
    /// The rows are not what was synced: a defect of the store.
    pub fn open(&self) -> Result<SimKv, StorageError> {
        Kv::open(self.medium.clone(), self.tail)
    }

    /// What a copy of the disk holds that is made now.
    #[cfg(test)]
    pub fn copied(&self) -> (MemoryEngine, Option<u64>) {
        (self.medium.rows.copied(), self.tail)
    }

    /// The copy takes the place of what is there. Every [`SimKv`] over it must be gone.
    #[cfg(test)]
    pub fn put_back(&mut self, (rows, tail): (MemoryEngine, Option<u64>)) {
        (self.medium.rows, self.tail) = (rows, tail);
    }

    /// Takes back what was not synced, except for what is to be kept. Every [`SimKv`] over it must be gone.
    ///
    /// The engines below the house's store write a batch whole or not at all. A batch that was being written is
    /// therefore gone with everything behind it; which one it was is what [`Keep`] says.
    pub fn crash(&mut self, keep: Keep) -> Torn {
        let unsynced = self.medium.rows.unsynced() as u64;
        let kept = match keep {
            Keep::Drawn => self.stream.below(unsynced + 1),
            Keep::Nothing => 0,
            Keep::Everything => unsynced,
            Keep::Torn => self.stream.below(unsynced.max(1)),
        };
        self.medium.rows.crash(kept as usize);
        self.failing = false;
        Torn { lost: unsynced - kept, kept }
    }

    /// Whether a crash could take anything back.
    pub fn unsynced(&self) -> bool {
        self.medium.rows.unsynced() > 0
    }

    /// From now on everything takes so many times as long.
    pub fn slow(&mut self, times: u32) {
        self.slow = times.max(1);
    }

    /// From now on it answers nothing, or answers again.
    pub const fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Whether it answers nothing.
    pub const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// From now on there is no room for more, or there is again.
    pub fn fill(&self, full: bool) {
        self.medium.full.store(full, Ordering::Relaxed);
    }

    /// Lets the next sync fail. The process above has to stop; what was not synced may be gone.
    pub fn fail_sync(&mut self) {
        self.failing = true;
        self.medium.rows.fail_next_sync(StorageError::Engine(SYNC_FAILED.to_owned()));
    }

    /// Whether a process that stops now, with these words, does so because of its disk.
    pub fn is_at_fault(&self, why: &str) -> bool {
        let full = self.medium.full.load(Ordering::Relaxed) && why.contains(&StorageError::Full.to_string());
        full || self.failing && why.contains(SYNC_FAILED)
    }

    /// From now on every row that is written is looked at for this mark. To be called before the first opening.
    pub fn watch(&mut self, canaries: Canaries) {
        self.medium.watch = Some(Arc::new(Watch { canaries, sang: AtomicBool::new(false) }));
    }

    /// Whether the mark was in any row that was ever written.
    pub fn sang(&self) -> bool {
        self.medium.watch.as_ref().is_some_and(|watch| watch.sang.load(Ordering::Relaxed))
    }

    /// A sync ended: from now on the newest batch must be found at every opening.
    fn synced(&mut self, kv: &SimKv) -> Result<(), StorageError> {
        self.tail = Some(kv.newest_batch()?);
        Ok(())
    }

    fn apply_delay(&mut self) -> Duration {
        self.slow * self.stream.between(self.speed.apply.least, self.speed.apply.most)
    }

    fn sync_delay(&mut self) -> Duration {
        self.slow * self.stream.between(self.speed.sync.least, self.speed.sync.most)
    }
}

/// The store of one life of a node.
#[derive(Debug)]
pub struct NodeStore {
    kv: NodeKv,
}

/// Sealed as a device's store is on a disk, or not.
#[derive(Debug)]
enum NodeKv {
    Plain(SimKv),
    Sealed(Box<SealedKv<SimKv>>),
}

/// What a node's store is sealed with, and the chance of one life for it.
#[derive(Debug)]
pub struct Seal {
    /// The same in every life.
    pub key: SealKey,
    /// Another in each.
    pub chance: Chance,
}

impl NodeStore {
    /// Opens what the disk holds. A sealed store is read whole: whatever a crash left, its sums are right.
    ///
    /// # Errors
    /// See [`Platter::open`].
    pub fn open(platter: &Platter, seal: Option<Seal>) -> Result<Self, StorageError> {
        let kv = platter.open()?;
        let kv = match seal {
            None => NodeKv::Plain(kv),
            Some(Seal { key, chance }) => {
                let shapes = whimbrel_node::KEY_SHAPES;
                NodeKv::Sealed(Box::new(SealedKv::open(kv, &key, shapes, chance, Check::Everything)?))
            }
        };
        Ok(Self { kv })
    }

    fn kv(&self) -> &dyn OrderedKv {
        match &self.kv {
            NodeKv::Plain(kv) => kv,
            NodeKv::Sealed(kv) => &**kv,
        }
    }

    /// The rows, synced or not.
    pub fn reads(&self) -> &dyn Reads {
        match &self.kv {
            NodeKv::Plain(kv) => kv,
            NodeKv::Sealed(kv) => &**kv,
        }
    }

    /// Applies a batch. Reads see it; a crash may take it back.
    ///
    /// # Errors
    /// The store failed.
    pub fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.kv().apply(batch)
    }

    /// How long the sync of what was applied will take.
    pub fn sync_delay(&self, platter: &mut Platter) -> Duration {
        platter.apply_delay() + platter.sync_delay()
    }

    /// The sync is done.
    ///
    /// # Errors
    /// The store failed.
    pub fn sync(&self, platter: &mut Platter) -> Result<(), StorageError> {
        self.kv().sync()?;
        platter.synced(match &self.kv {
            NodeKv::Plain(kv) => kv,
            NodeKv::Sealed(kv) => kv.below(),
        })
    }
}

type Answer = Result<Vec<Result<Outcome, Conflict>>, StoreError>;

/// One call on its way: the future waits, the writer answers.
#[derive(Debug)]
struct Call {
    commands: Vec<Command>,
    slot: Arc<Mutex<Slot<Answer>>>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    fn fill(slot: &Mutex<Self>, value: T) {
        let mut slot = lock(slot);
        slot.value = Some(value);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    async fn wait(slot: Arc<Mutex<Self>>) -> T {
        poll_fn(|cx| {
            let mut slot = lock(&slot);
            match slot.value.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Nothing here is left half done by a panic: each change under a lock is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the writer does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Idle,
    /// An event will make it apply what waits.
    Gathering,
    /// Applied; an event will make it sync and answer.
    Syncing,
}

struct Desk {
    waiting: VecDeque<Call>,
    applied: Vec<(Call, Answer)>,
    writer: Writer,
    committer: Committer<Arc<SimKv>>,
    /// Readers that wait for the disk, in the order they asked.
    readers: VecDeque<Arc<Mutex<Slot<()>>>>,
    /// Draws which reads miss the cache.
    stream: Stream,
    /// Test only: answers without a sync.
    #[cfg(test)]
    early: bool,
}

impl Desk {
    fn sync(&mut self, kv: &SimKv, platter: &mut Platter) -> Result<(), StoreError> {
        self.committer.sync()?;
        Ok(platter.synced(kv)?)
    }
}

/// The disk port of one life of a relay: the core asks, the world moves it on.
#[derive(Clone)]
pub struct RelayDisk {
    kv: Arc<SimKv>,
    desk: Arc<Mutex<Desk>>,
    cached: f64,
}

/// What the world is to schedule for a relay's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// [`RelayDisk::apply`], after so long.
    Apply(Duration),
    /// [`RelayDisk::answer_read`], after so long.
    Read(Duration),
}

impl RelayDisk {
    /// Opens what the disk holds.
    ///
    /// # Errors
    /// See [`Platter::open`].
    pub fn open(platter: &Platter, stream: Stream) -> Result<Self, StorageError> {
        let kv = Arc::new(platter.open()?);
        let desk = Desk {
            waiting: VecDeque::new(),
            applied: Vec::new(),
            writer: Writer::Idle,
            committer: Committer::new(Arc::clone(&kv)),
            readers: VecDeque::new(),
            stream,
            #[cfg(test)]
            early: false,
        };
        Ok(Self { kv, desk: Arc::new(Mutex::new(desk)), cached: platter.speed.cached.0 })
    }

    /// The rows, synced or not: for judges.
    pub fn reads(&self) -> &dyn Reads {
        self.kv.as_ref()
    }

    /// What came to wait since the last call. To be asked after every poll of the relay's futures.
    pub fn due(&self, platter: &mut Platter, reads_scheduled: &mut usize) -> Vec<Due> {
        let mut desk = lock(&self.desk);
        let mut due = Vec::new();
        if desk.writer == Writer::Idle && !desk.waiting.is_empty() {
            desk.writer = Writer::Gathering;
            due.push(Due::Apply(platter.apply_delay()));
        }
        while *reads_scheduled < desk.readers.len() {
            *reads_scheduled += 1;
            due.push(Due::Read(platter.apply_delay()));
        }
        due
    }

    /// The writer applies everything that waits. [`RelayDisk::sync`] is to follow after the time returned.
    pub fn apply(&self, platter: &mut Platter) -> Duration {
        let mut desk = lock(&self.desk);
        while let Some(call) = desk.waiting.pop_front() {
            let answer = desk.committer.apply(&call.commands);
            if planted::active(Bug::AnswerEarly) {
                Slot::fill(&call.slot, answer);
                continue;
            }
            desk.applied.push((call, answer));
        }
        desk.writer = Writer::Syncing;
        platter.sync_delay()
    }

    /// The sync is done: everything applied is durable and answered.
    ///
    /// # Errors
    /// The disk failed: nobody is answered, and the process must not go on.
    pub fn sync(&self, platter: &mut Platter) -> Result<(), String> {
        let mut desk = lock(&self.desk);
        #[cfg(test)]
        let synced = if desk.early { Ok(()) } else { desk.sync(&self.kv, platter) };
        #[cfg(not(test))]
        let synced = desk.sync(&self.kv, platter);
        synced.map_err(|error| error.to_string())?;
        desk.writer = Writer::Idle;
        for (call, answer) in std::mem::take(&mut desk.applied) {
            Slot::fill(&call.slot, answer);
        }
        Ok(())
    }

    /// Plants a bug: from now on the writer answers without having synced.
    #[cfg(test)]
    pub(crate) fn answer_early(&self) {
        lock(&self.desk).early = true;
    }

    /// The disk has found what the reader that waits longest asked for.
    pub fn answer_read(&self, reads_scheduled: &mut usize) {
        let reader = lock(&self.desk).readers.pop_front();
        *reads_scheduled = reads_scheduled.saturating_sub(1);
        if let Some(reader) = reader {
            Slot::fill(&reader, ());
        }
    }
}

impl Disk for RelayDisk {
    async fn commit(&self, commands: Vec<Command>) -> Answer {
        let slot = Arc::new(Mutex::new(Slot { value: None, waker: None }));
        lock(&self.desk).waiting.push_back(Call { commands, slot: Arc::clone(&slot) });
        Slot::wait(slot).await
    }

    fn unsynced(&self) -> Arc<Unsynced> {
        lock(&self.desk).committer.unsynced()
    }

    async fn read<T, Q>(&self, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    {
        let waits = {
            let mut desk = lock(&self.desk);
            let hit = desk.stream.happens(self.cached);
            (!hit).then(|| {
                let slot = Arc::new(Mutex::new(Slot { value: None, waker: None }));
                desk.readers.push_back(Arc::clone(&slot));
                slot
            })
        };
        if let Some(slot) = waits {
            Slot::wait(slot).await;
        }
        Ok(query(self.kv.as_ref())?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::engine::{Entity, Seed};
    use crate::executor::Executor;
    use whimbrel_protocol::id::{AccountId, Domain};
    use whimbrel_protocol::time::Wall;
    use whimbrel_relay::store::command::GiveConsent;
    use whimbrel_relay::store::{KvStore, Store};

    fn platter(seed: u64) -> Platter {
        Platter::new(scenario::Disk::default(), Seed::from(seed).stream(Entity::World, "disk"))
    }

    fn open(platter: &Platter) -> RelayDisk {
        RelayDisk::open(platter, Seed::from(1).stream(Entity::World, "reads")).unwrap()
    }

    #[test]
    fn a_node_crash_loses_unsynced_batches_from_the_newest_on_and_no_other() {
        let mut outcomes = [0; 4];
        for seed in 0..40 {
            let mut platter = platter(seed);
            let store = NodeStore::open(&platter, None).unwrap();
            for n in 0..5_u8 {
                let mut batch = Batch::new();
                batch.put(vec![n], vec![n]);
                store.apply(&batch).unwrap();
                if n == 1 {
                    store.sync(&mut platter).unwrap();
                }
            }
            drop(store);
            let torn = platter.crash(Keep::Drawn);
            assert_eq!(torn.lost + torn.kept, 3);
            *outcomes.get_mut(torn.lost as usize).unwrap() += 1;
            let store = NodeStore::open(&platter, None).unwrap();
            let there: Vec<_> = (0..5_u8).map(|n| store.reads().get(&[n]).unwrap().is_some()).collect();
            assert!(there.iter().zip(0..).all(|(there, n)| *there == (n < 2 + torn.kept)), "{there:?} with {torn:?}");
        }
        assert!(outcomes.iter().all(|times| *times > 0), "every outcome comes up: {outcomes:?}");
    }

    /// The half of the newest batch that is there is found by what the store itself keeps: no process starts from it.
    #[test]
    fn half_a_batch_is_refused_when_either_store_opens() {
        for (n, half) in [b"one of two", b"two of two"].into_iter().enumerate() {
            let platter = platter(n as u64);
            let store = NodeStore::open(&platter, None).unwrap();
            let mut batch = Batch::new();
            [b"one of two", b"two of two"].into_iter().for_each(|key| batch.put(key.to_vec(), b"whole".to_vec()));
            store.apply(&batch).unwrap();
            drop(store);
            assert!(NodeStore::open(&platter, None).is_ok() && platter.open().is_ok());
            let rows =
                whimbrel_storage::Engine::scan(&platter.medium, &[], &[0xff; 64], Order::Ascending, 1_000).unwrap();
            let (key, _) = rows.into_iter().find(|(key, _)| key.ends_with(half)).unwrap();
            whimbrel_storage::Engine::apply(&platter.medium, vec![Op::Delete { key }]).unwrap();
            let torn = |error| matches!(error, StorageError::LostTail { .. });
            assert!(NodeStore::open(&platter, None).is_err_and(torn));
            let reads = Seed::from(1).stream(Entity::World, "reads");
            assert!(RelayDisk::open(&platter, reads).is_err_and(torn));
        }
    }

    /// A command that any store takes: no account is there, so it conflicts, which must be as durable as a success.
    fn command() -> Command {
        let (owner, other) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
        let domain: Domain = "b.example".parse().unwrap();
        Command::GiveConsent(GiveConsent { owner, other, domain, at: Wall::default() })
    }

    #[test]
    fn a_relay_is_answered_only_after_the_sync_and_calls_share_it() {
        let mut platter = platter(1);
        let disk = open(&platter);
        let store = Arc::new(KvStore::new(disk.clone()));
        let mut executor = Executor::new();
        for n in 0..3 {
            let store = Arc::clone(&store);
            executor.spawn(Box::pin(async move {
                let _conflict = store.commit(command()).await;
                n
            }));
        }
        let mut reads = 0;
        assert!(executor.poll_ready(None).is_empty());
        assert!(matches!(disk.due(&mut platter, &mut reads).as_slice(), [Due::Apply(_)]));
        assert!(disk.due(&mut platter, &mut reads).is_empty(), "one group at a time");
        disk.apply(&mut platter);
        assert!(!executor.has_ready(), "applied is not answered");
        disk.sync(&mut platter).unwrap();
        assert_eq!(executor.poll_ready(None), [0, 1, 2]);
        assert!(disk.due(&mut platter, &mut reads).is_empty());
    }

    #[test]
    fn p4_a_mark_in_any_row_is_noticed_though_the_row_is_gone_again() {
        let canaries = Canaries::of(Seed::from(1));
        let mut platter = platter(1);
        platter.watch(canaries.clone());
        let store = NodeStore::open(&platter, None).unwrap();
        let write = |value: Option<String>| {
            let mut batch = Batch::new();
            match value {
                Some(value) => batch.put(vec![1], value.into_bytes()),
                None => batch.delete(vec![1]),
            };
            store.apply(&batch).unwrap();
        };
        write(Some("sealed".to_owned()));
        assert!(!platter.sang());
        write(Some(format!("in plain words: {}", canaries.mark())));
        write(None);
        assert!(platter.sang());
    }

    #[test]
    fn only_what_the_disk_did_excuses_a_process_that_stops() {
        let mut platter = platter(1);
        assert!(!platter.is_at_fault(SYNC_FAILED));
        platter.fill(true);
        assert!(platter.is_at_fault(&StorageError::Full.to_string()) && !platter.is_at_fault("a row is damaged"));
        platter.fill(false);
        platter.fail_sync();
        assert!(platter.is_at_fault(SYNC_FAILED) && !platter.is_at_fault(&StorageError::Full.to_string()));
    }

    #[test]
    fn a_read_that_misses_the_cache_waits_for_the_disk() {
        let mut platter = platter(1);
        platter.speed.cached = scenario::Share(0.0);
        let disk = open(&platter);
        let store = Arc::new(KvStore::new(disk.clone()));
        let mut executor = Executor::new();
        executor.spawn(Box::pin(async move { store.waiting_peers(None, 1).await.unwrap().len() }));
        assert!(executor.poll_ready(None).is_empty());
        let mut reads = 0;
        assert!(matches!(disk.due(&mut platter, &mut reads).as_slice(), [Due::Read(_)]));
        disk.answer_read(&mut reads);
        assert_eq!((executor.poll_ready(None), reads), (vec![0], 0));
    }
}
