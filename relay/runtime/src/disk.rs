//! Disk: the store's one writer, a thread of its own.
//! Owns: the queue to it, the gathering of waiting commands into one batch and one sync, the end of the store.
//! Never: decides a command (`whimbrel_relay::store::kv`). Answers before the sync; refusals wait for it too, since they
//! tell of state that a crash could still take back.
//! The watch over it ends the process when a commit hangs: nothing else could, since whoever waits waits for the disk.
//! Limits: `limits::COMMIT_TIME_MAX`, `limits::COMMITS_WAITING_MAX`, `limits::GROUP_COMMANDS_MAX`, `limits::GROUP_BYTES_MAX`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use whimbrel_protocol::limits;
use whimbrel_relay::store::kv::{Committer, Unsynced};
use whimbrel_relay::store::{Command, Conflict, Disk, Outcome, StoreError};
use whimbrel_storage::{OrderedKv, Reads, StorageError};

use crate::RelayKv;

/// From here on a commit is told to take long: the disk stalls, and everybody waits for it.
const COMMIT_SLOW: Duration = Duration::from_secs(5);

type Decided = Result<Vec<Result<Outcome, Conflict>>, StoreError>;

struct Call {
    commands: Vec<Command>,
    answer: oneshot::Sender<Decided>,
}

impl Call {
    fn bytes(&self) -> usize {
        self.commands.iter().map(Command::bytes).sum()
    }
}

/// The core's disk: commands go to the writer, queries are answered at once on the caller's thread. A query costs
/// about what handing it to another thread would.
#[derive(Debug)]
pub struct ThreadDisk<K> {
    kv: Arc<K>,
    calls: mpsc::Sender<Call>,
    failure: watch::Sender<Option<String>>,
    unsynced: Arc<Unsynced>,
}

/// The disk of a real relay.
pub type RelayDisk = ThreadDisk<RelayKv>;

/// The writer's thread; ends when its [`ThreadDisk`] is dropped, or with the store's first failure.
#[derive(Debug)]
pub struct Writer<K> {
    kv: Arc<K>,
    thread: JoinHandle<()>,
    failure: watch::Receiver<Option<String>>,
    progress: Arc<Progress>,
}

/// How many groups the writer has begun and ended: it is at work while they differ.
#[derive(Debug, Default)]
struct Progress {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Progress {
    /// The number of the group under way.
    fn under_way(&self) -> Option<u64> {
        // The end first: a group that ends in between is then taken for one under way, and not seen at the next look.
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (begun > ended).then_some(begun)
    }
}

/// Looks at the writer from time to time.
#[derive(Debug)]
struct Watch {
    progress: Arc<Progress>,
    seen: Option<u64>,
}

impl Watch {
    /// Whether the group under way is the one that was under way at the look before.
    fn hangs(&mut self) -> bool {
        let seen = self.progress.under_way();
        let hangs = seen.is_some() && seen == self.seen;
        self.seen = seen;
        hangs
    }
}

/// A thread that tells when a commit takes longer than [`COMMIT_SLOW`], and ends the process when one takes longer than
/// [`limits::COMMIT_TIME_MAX`]; each at the latest after twice that. It ends with its handle.
#[derive(Debug)]
pub(crate) struct Guard {
    _over: blocking::Sender<()>,
}

impl<K: OrderedKv + 'static> ThreadDisk<K> {
    /// Starts the writer of this store; there must be no other.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(kv: K) -> io::Result<(Self, Writer<K>)> {
        let kv = Arc::new(kv);
        let (calls, waiting) = mpsc::channel(limits::COMMITS_WAITING_MAX);
        let (failure, failed) = watch::channel(None);
        let committer = Committer::new(kv.clone());
        let (fails, unsynced) = (failure.clone(), committer.unsynced());
        let progress = Arc::new(Progress::default());
        let work = progress.clone();
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            if let Err(error) = write(committer, waiting, &work) {
                fails.send_replace(Some(error.to_string()));
            }
        })?;
        Ok((Self { kv: kv.clone(), calls, failure, unsynced }, Writer { kv, thread, failure: failed, progress }))
    }
}

impl<K: OrderedKv + 'static> Disk for ThreadDisk<K> {
    async fn commit(&self, commands: Vec<Command>) -> Decided {
        let (answer, decided) = oneshot::channel();
        let stopped = || StoreError::Failed("the store has stopped".to_owned());
        self.calls.send(Call { commands, answer }).await.map_err(|_| stopped())?;
        decided.await.map_err(|_| stopped())?
    }

    fn unsynced(&self) -> Arc<Unsynced> {
        Arc::clone(&self.unsynced)
    }

    async fn read<T, Q>(&self, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    {
        query(self.kv.as_ref()).map_err(|error| {
            if error.is_sticky() {
                self.failure.send_replace(Some(error.to_string()));
            }
            error.into()
        })
    }
}

impl<K> Writer<K> {
    /// The store, for reading and copying; [`Writer::end`] needs it back.
    pub(crate) fn kv(&self) -> Arc<K> {
        Arc::clone(&self.kv)
    }

    /// Why the store has failed, once it has.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Resolves when the store has failed, with why: the process must end and be started again.
    pub async fn failed(&mut self) -> String {
        match self.failure.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // All senders are gone: the writer ended without a failure.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Watches over the writer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn guard(&self) -> io::Result<Guard> {
        let watch = || Watch { progress: self.progress.clone(), seen: None };
        let (mut slow, mut watch) = (watch(), watch());
        let (over, ended) = blocking::channel();
        let looks = (limits::COMMIT_TIME_MAX.as_secs() / COMMIT_SLOW.as_secs()).max(1);
        std::thread::Builder::new().name("store watch".to_owned()).spawn(move || {
            let (mut look, mut told) = (0_u64, false);
            while ended.recv_timeout(COMMIT_SLOW) == Err(blocking::RecvTimeoutError::Timeout) {
                look += 1;
                let stalls = slow.hangs();
                if stalls && !told {
                    tracing::warn!("the disk stalls: a commit takes longer than {COMMIT_SLOW:?}, and everybody waits");
                } else if told && !stalls {
                    tracing::warn!("the disk takes commits again");
                }
                told = stalls;
                if look.is_multiple_of(looks) && watch.hangs() {
                    let seconds = limits::COMMIT_TIME_MAX.as_secs();
                    tracing::error!(seconds, "a commit does not come back from the disk; the process ends");
                    // The writer cannot be interrupted, and an orderly end would wait for it.
                    std::process::abort();
                }
            }
        })?;
        Ok(Guard { _over: over })
    }

    /// Waits for the writer to end, once its [`ThreadDisk`] is dropped, and gives the store back.
    ///
    /// # Errors
    /// The store failed.
    pub fn end(self) -> Result<K, StorageError> {
        let Self { kv, thread, failure, .. } = self;
        if thread.join().is_err() {
            return Err(StorageError::Engine("the writer died".to_owned()));
        }
        if let Some(why) = failure.borrow().clone() {
            return Err(StorageError::Engine(why));
        }
        Arc::try_unwrap(kv).map_err(|_| StorageError::Engine("somebody still reads the store".to_owned()))
    }
}

/// Commands that are decided together, and how many of them are whose.
struct Group {
    commands: Vec<Command>,
    bytes: usize,
    askers: Vec<(usize, oneshot::Sender<Decided>)>,
}

impl Group {
    /// Everything that waits now and fits into one batch with the first call; the call that did not is carried over.
    fn gather(first: Call, waiting: &mut mpsc::Receiver<Call>, carried: &mut Option<Call>) -> Self {
        let mut group = Self { bytes: first.bytes(), commands: Vec::new(), askers: Vec::new() };
        group.take(first);
        while group.commands.len() < limits::GROUP_COMMANDS_MAX
            && let Ok(call) = waiting.try_recv()
        {
            group.bytes = group.bytes.saturating_add(call.bytes());
            if group.bytes > limits::GROUP_BYTES_MAX {
                *carried = Some(call);
                break;
            }
            group.take(call);
        }
        group
    }

    fn take(&mut self, mut call: Call) {
        self.askers.push((call.commands.len(), call.answer));
        self.commands.append(&mut call.commands);
    }

    /// One answer per call, all in one batch; or, when that does not fit on the disk, call by call, since one that
    /// frees space may pass where others may not.
    fn decide<K: OrderedKv>(&self, committer: &mut Committer<Arc<K>>) -> Result<Vec<Decided>, StoreError> {
        match committer.apply(&self.commands) {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                Ok(self.askers.iter().map(|(count, _)| Ok(outcomes.by_ref().take(*count).collect())).collect())
            }
            Err(StoreError::Full) if self.askers.len() == 1 => Ok(vec![Err(StoreError::Full)]),
            Err(StoreError::Full) => {
                let mut rest = self.commands.as_slice();
                let each = self.askers.iter().map(|(count, _)| {
                    let (own, others) = rest.split_at(*count);
                    rest = others;
                    match committer.apply(own) {
                        Err(StoreError::Full) => Ok(Err(StoreError::Full)),
                        outcome => outcome.map(Ok),
                    }
                });
                each.collect()
            }
            Err(error) => Err(error),
        }
    }

    /// Decides, applies, syncs, and only then answers.
    fn commit<K: OrderedKv>(self, committer: &mut Committer<Arc<K>>) -> Result<(), StoreError> {
        let decided = self.decide(committer).and_then(|decided| committer.sync().map(|()| decided));
        match decided {
            Ok(decided) => {
                for ((_, asker), decided) in self.askers.into_iter().zip(decided) {
                    answer(asker, decided);
                }
                Ok(())
            }
            Err(error) => {
                for (_, asker) in self.askers {
                    answer(asker, Err(error.clone()));
                }
                Err(error)
            }
        }
    }
}

fn answer(asker: oneshot::Sender<Decided>, decided: Decided) {
    // Whoever asked may be gone; the command is done all the same.
    let _asker_gone = asker.send(decided);
}

/// Serves calls until all senders are gone, or the store fails.
fn write<K: OrderedKv>(
    mut committer: Committer<Arc<K>>,
    mut waiting: mpsc::Receiver<Call>,
    progress: &Progress,
) -> Result<(), StoreError> {
    let mut carried = None;
    while let Some(first) = carried.take().or_else(|| waiting.blocking_recv()) {
        progress.begun.fetch_add(1, Ordering::SeqCst);
        // Whoever has a command for this very group gets to hand it in: where links and store share a core they would
        // wait for it one after the other, and with a core to spare this costs nothing.
        std::thread::yield_now();
        // On failure the receiver is dropped: whoever waits, or comes later, is told that the store has stopped.
        let committed = Group::gather(first, &mut waiting, &mut carried).commit(&mut committer);
        progress.ended.fetch_add(1, Ordering::SeqCst);
        committed?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
