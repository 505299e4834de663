//! Handle: a running node, as its owner holds it.
//! Owns: starting in order, commands and events, ending so that the store can be opened again at once.
//! Never: knows what a command means.
//! Limits: `limits::NODE_COMMANDS_MAX`, `limits::NODE_EVENTS_MAX`.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, Semaphore, broadcast, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use whimbrel_crypto::{KeyPair, MlsEngine};
use whimbrel_node::api::{Command, CommandError, Config, Event, Reply, Status};
use whimbrel_node::identity::{self, LoadError};
use whimbrel_node::{Node, OpenError};
use whimbrel_protocol::limits;
use whimbrel_storage::{OrderedKv, StorageError};
use whimbrel_transport::{BindError, Endpoint, Identity, IdentityError};

use crate::clock::{self, Clock};
use crate::direct::{self, DirectError, DirectOptions};
use crate::driver::{self, Core, Exits, Life};
use crate::entrance::{Entrance, entrance};
use crate::home::{self, RelayProblem, Transport, Ways};
use crate::outlet::outlet;
use crate::store::{Access, NodeStore, OpenStoreError, open_store, seed};

/// Where a node's rows are.
#[derive(Clone)]
pub enum StoreAt {
    /// In the store of this home folder; closed when the node shuts down.
    Home(PathBuf, Access),
    /// Open already; closed when the node shuts down.
    Open(Arc<NodeStore>),
    /// Somebody else's, who closes it.
    Lent(Arc<dyn OrderedKv>),
}

/// How to run a node.
#[derive(Clone)]
pub struct Options {
    /// Where its rows are; an account was made there.
    pub store: StoreAt,
    /// Its owner's choices.
    pub config: Config,
    /// Its direct links; [`Config::never_direct`] turns them off whatever this says.
    pub direct: DirectOptions,
    /// What carries the link to its home relay.
    pub transport: Transport,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// What is in the store is no node.
    #[error(transparent)]
    Node(#[from] OpenError),
    /// The account's keys could not be read.
    #[error(transparent)]
    Account(#[from] LoadError),
    /// The system gave no chance.
    #[error("no entropy: {0}")]
    Entropy(getrandom::Error),
    /// TLS does not take the transport key; not expected.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No socket for the home relay.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No direct links.
    #[error(transparent)]
    Direct(#[from] DirectError),
    /// No thread for the core.
    #[error("no thread: {0}")]
    Thread(io::Error),
}

/// The node no longer runs.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// It was shut down.
    #[error("the node has been shut down")]
    Stopped,
    /// Its store failed; nothing was sent or shown since. Open it again: opening checks what is left.
    #[error("the node stopped because its store failed: {0}")]
    Store(StorageError),
    /// Its core ended by a fault of its own.
    #[error("the node stopped by a fault of its own")]
    Crashed,
}

/// Why a command has no good answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandFailure {
    /// The node does not do it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The node no longer runs. Whether the command was still done is not known.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Why no event came.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The reader was too slow; so many events are gone for it. What they told of is in the store. The next call goes
    /// on with the oldest event that is left.
    #[error("{missed} events were missed")]
    Lagged {
        /// How many.
        missed: u64,
    },
    /// No more will come.
    #[error(transparent)]
    Ended(#[from] RuntimeError),
}

/// Starts nodes.
#[derive(Clone, Copy, Debug)]
pub struct NodeRuntime;

/// A running node. Dropping it ends the node soon; [`NodeHandle::shutdown`] waits for the end.
pub struct NodeHandle {
    entrance: Entrance,
    commands: Arc<Semaphore>,
    events: broadcast::WeakSender<Event>,
    /// Subscribed before the core took its first input.
    first_events: std::sync::Mutex<Option<broadcast::Receiver<Event>>>,
    life: watch::Receiver<Life>,
    problem: watch::Receiver<Option<RelayProblem>>,
    reads: Arc<dyn OrderedKv>,
    own: Option<Arc<NodeStore>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Events, as they become durable.
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    life: watch::Receiver<Life>,
}

impl NodeRuntime {
    /// Opens the store and runs the node in it, on tasks of the current tokio runtime and a thread of its own.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing runs then, and the store is closed.
    pub async fn start(options: Options) -> Result<NodeHandle, StartError> {
        let Options { store, config, direct, transport } = options;
        let clock = Clock::start();
        let direct = if config.never_direct { DirectOptions::Off } else { direct };
        let opened = spawn_blocking(move || open(store, config, clock)).await;
        let (rows, own, key, core) = opened.map_err(|error| StartError::Thread(io::Error::other(error)))??;
        let started = launch(core, clock, (rows, own.clone()), (key, transport), &direct);
        if let (Err(_), Some(own)) = (&started, own) {
            // Nothing holds it open: whoever mends the cause can start again at once.
            if let Ok(Err(error)) = spawn_blocking(move || own.close()).await {
                tracing::warn!(%error, "the store was not closed cleanly");
            }
        }
        started
    }
}

type Opened = (Arc<dyn OrderedKv>, Option<Arc<NodeStore>>, KeyPair, Node<MlsEngine>);

fn open(store: StoreAt, config: Config, clock: Clock) -> Result<Opened, StartError> {
    let own = match &store {
        StoreAt::Home(home, access) => Some(Arc::new(open_store(home, access.clone())?)),
        StoreAt::Open(store) => Some(Arc::clone(store)),
        StoreAt::Lent(_) => None,
    };
    let rows: Arc<dyn OrderedKv> = match (&own, store) {
        (None, StoreAt::Lent(rows)) => rows,
        (Some(own), _) => Arc::clone(own) as Arc<dyn OrderedKv>,
        (None, _) => return Err(LoadError::NoAccount.into()),
    };
    let transport = identity::transport_key(&*rows)?;
    let seed = seed().map_err(StartError::Entropy)?;
    let node = Node::open(MlsEngine::new(), config, seed, clock.now(), &*rows)?;
    Ok((rows, own, transport, node))
}

/// Starts the tasks and the core's thread.
pub(crate) fn launch(
    core: impl Core,
    clock: Clock,
    (rows, own): (Arc<dyn OrderedKv>, Option<Arc<NodeStore>>),
    (key, transport): (KeyPair, Transport),
    direct: &DirectOptions,
) -> Result<NodeHandle, StartError> {
    let (entrance, inlet) = entrance();
    let endpoint = Endpoint::bind_dialler(Identity::node(&key)?, clock::wall)?;
    let mut tasks = Vec::new();
    let direct = match direct {
        DirectOptions::Off => None,
        DirectOptions::Listen { at, allow_loopback } => {
            let (outlet, words) = outlet();
            tasks.push(direct::start(&key, (at, *allow_loopback), clock, entrance.clone(), words)?);
            Some(outlet)
        }
    };
    let (home, words) = outlet();
    let (problem_sender, problem) = watch::channel(None);
    let ways = Ways { endpoint, key: Arc::new(key), transport };
    tasks.push(tokio::spawn(home::run(ways, words, entrance.clone(), problem_sender)));
    let (events, first_events) = broadcast::channel(limits::NODE_EVENTS_MAX);
    let weak_events = events.downgrade();
    let exits = Exits { home, direct, events };
    let (life_sender, life) = watch::channel(Life::Running);
    let store = Arc::clone(&rows);
    std::thread::Builder::new()
        .name("whimbrel-core".to_owned())
        .spawn(move || driver::run(core, clock, store, inlet, exits, &life_sender))
        .map_err(StartError::Thread)?;
    Ok(NodeHandle {
        entrance,
        commands: Arc::new(Semaphore::new(limits::NODE_COMMANDS_MAX)),
        events: weak_events,
        first_events: std::sync::Mutex::new(Some(first_events)),
        life,
        problem,
        reads: rows,
        own,
        tasks: Mutex::new(tasks),
    })
}

impl NodeHandle {
    /// Has the node do something; waits for its answer. Dropping the future does not undo the command.
    ///
    /// # Errors
    /// As [`CommandFailure`] says.
    pub async fn command(&self, command: Command) -> Result<Reply, CommandFailure> {
        let (answer, answered) = oneshot::channel();
        let Ok(permit) = Arc::clone(&self.commands).acquire_owned().await else {
            return Err(self.ended().await.into());
        };
        if self.entrance.command(command, answer, permit).await.is_err() {
            return Err(self.ended().await.into());
        }
        match answered.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self.ended().await.into()),
        }
    }

    /// How things are.
    ///
    /// # Errors
    /// As [`CommandFailure`] says.
    pub async fn status(&self) -> Result<Status, CommandFailure> {
        match self.command(Command::Status).await? {
            Reply::Status(status) => Ok(status),
            other => Err(CommandError::State(format!("the answer to a status is {other:?}")).into()),
        }
    }

    /// The first call: every event since the start. Later calls: every event from now on.
    pub fn events(&self) -> Events {
        let first = self.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = first.or_else(|| self.events.upgrade().map(|events| events.subscribe()));
        // Without a sender the core has ended, and so has the channel.
        Events { receiver: receiver.unwrap_or_else(|| broadcast::channel(1).1), life: self.life.clone() }
    }

    /// The node's rows, for `whimbrel_node::views`. To be read only: the core does not notice changes.
    pub fn reads(&self) -> Arc<dyn OrderedKv> {
        Arc::clone(&self.reads)
    }

    /// Why the home relay is not there, if it was tried since it last was.
    pub fn relay_problem(&self) -> Option<RelayProblem> {
        self.problem.borrow().clone()
    }

    /// Commands that wait for their answer.
    pub fn commands_waiting(&self) -> usize {
        limits::NODE_COMMANDS_MAX.saturating_sub(self.commands.available_permits())
    }

    /// Waits until the node has ended, however it did.
    pub async fn ended(&self) -> RuntimeError {
        ended(self.life.clone()).await
    }

    /// Finishes what was handed over, syncs, says goodbye to peers, and closes the store: when this returns, it can be
    /// opened again. A second call waits for the first.
    ///
    /// # Errors
    /// The node had failed before, or the store could not be closed cleanly.
    pub async fn shutdown(&self) -> Result<(), RuntimeError> {
        let mut tasks = self.tasks.lock().await;
        let _ended_already = self.entrance.shutdown();
        let end = self.ended().await;
        for task in tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the node failed");
            }
        }
        let closed = match &self.own {
            Some(own) => {
                let own = Arc::clone(own);
                spawn_blocking(move || own.close()).await.unwrap_or(Ok(()))
            }
            None => Ok(()),
        };
        match end {
            RuntimeError::Stopped => closed.map_err(RuntimeError::Store),
            other => Err(other),
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        let _ended_already = self.entrance.shutdown();
    }
}

impl Events {
    /// The next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`EventsError`] says.
    pub async fn next(&mut self) -> Result<Event, EventsError> {
        match self.receiver.recv().await {
            Ok(event) => Ok(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(EventsError::Lagged { missed }),
            Err(broadcast::error::RecvError::Closed) => Err(ended(self.life.clone()).await.into()),
        }
    }
}

async fn ended(mut life: watch::Receiver<Life>) -> RuntimeError {
    match life.wait_for(|life| !matches!(life, Life::Running)).await.as_deref() {
        Ok(Life::Poisoned(error)) => RuntimeError::Store(error.clone()),
        Ok(Life::Ended) => RuntimeError::Stopped,
        // The thread is gone without a last word: it panicked.
        Ok(Life::Running) | Err(_) => RuntimeError::Crashed,
    }
}
