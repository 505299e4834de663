//! What the runtime's tests share: scripted cores, a store whose sync waits for the test, time limits for awaiting.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel_crypto::KeyPair;
use whimbrel_node::api::{Input, Step};
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_protocol::thread::{Class, Envelope};
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_storage::{Batch, Kv, MemoryEngine, MemoryKv, Order, OrderedKv, Reads, Row, StorageError};

use crate::direct::DirectOptions;
use crate::driver::Core;
use crate::handle::{NodeHandle, launch};
use crate::home::Transport;

/// Generous: reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits what must happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("{what}: did not happen"),
    }
}

pub(crate) fn key(byte: u8) -> KeyPair {
    KeyPair::from_seed_bytes([byte; 32])
}

/// An envelope whose id depends on `number`.
pub(crate) fn envelope(number: u64, bytes: usize) -> DirectEnvelope {
    let (thread, epoch) = (ThreadId::from_bytes([1; 32]), Epoch::new(1));
    let mut body = number.to_be_bytes().to_vec();
    body.resize(bytes.max(8), 0);
    DirectEnvelope { envelope: Envelope { thread, epoch, class: Class::Message, body } }
}

/// A core made of a closure.
pub(crate) struct Scripted<F> {
    pub(crate) script: F,
    /// Asks for a timeout once, at this moment.
    pub(crate) timeout: Option<Monotonic>,
}

impl<F: FnMut(Input, &dyn Reads, &mut Step) + Send + 'static> Core for Scripted<F> {
    fn handle(&mut self, _: Now, input: Input, reads: &dyn Reads, step: &mut Step) {
        if matches!(input, Input::Timeout) {
            self.timeout = None;
        }
        (self.script)(input, reads, step);
    }

    fn poll_timeout(&self) -> Option<Monotonic> {
        self.timeout
    }
}

pub(crate) fn scripted<F: FnMut(Input, &dyn Reads, &mut Step) + Send + 'static>(script: F) -> Scripted<F> {
    Scripted { script, timeout: None }
}

/// Runs a scripted core over a store.
pub(crate) fn run(
    core: impl Core,
    store: Arc<dyn OrderedKv>,
    transport: &KeyPair,
    direct: &DirectOptions,
) -> NodeHandle {
    launch(core, crate::clock::Clock::start(), (store, None), (transport.clone(), Transport::Quic), direct).unwrap()
}

/// A store in memory whose syncs wait until the test lets them.
pub(crate) struct Gate {
    kv: MemoryKv,
    started: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

/// The test's side of a [`Gate`].
pub(crate) struct Keeper {
    pub(crate) disk: MemoryEngine,
    started: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

pub(crate) fn gate() -> (Arc<Gate>, Keeper) {
    let disk = MemoryEngine::new();
    let (started_in, started) = mpsc::channel();
    let (go_on, go_on_out) = mpsc::channel();
    let kv = Kv::open(disk.clone(), None).unwrap();
    (Arc::new(Gate { kv, started: started_in, go_on: Mutex::new(go_on_out) }), Keeper { disk, started, go_on })
}

impl Keeper {
    /// Waits for a sync to begin.
    pub(crate) fn sync_began(&self) {
        self.started.recv_timeout(PATIENCE).unwrap();
    }

    /// Lets one sync, begun or not, go on.
    pub(crate) fn let_go(&self) {
        self.go_on.send(()).unwrap();
    }

    /// How many more syncs have begun.
    pub(crate) fn syncs(&self) -> usize {
        self.started.try_iter().count()
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
        self.kv.apply(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        // Once the test has gone away nobody holds anything back.
        let _gone = self.started.send(());
        let _gone = self.go_on.lock().unwrap().recv();
        self.kv.sync()
    }
}
