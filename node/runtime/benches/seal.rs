//! What sealing costs a node's store: the batch of a received message, reading it back, and opening the store, sealed and
//! not, on either engine. `cargo bench -p whimbrel-node-runtime --bench seal`
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a benchmark")]

use std::path::Path;
use std::time::{Duration, Instant};

use whimbrel_crypto::SealKey;
use whimbrel_node_runtime::{Access, EngineKind, NodeStore, StoreOptions, create, open_store};
use whimbrel_protocol::id::RelayId;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_storage::{Batch, Order, OrderedKv, Reads};

const BATCHES: u64 = 4_000;
/// Messages that share a sync.
const GROUP: u64 = 16;
const THREADS: u64 = 8;

fn key(space: &[u8], thread: u64, rest: &[u8]) -> Vec<u8> {
    let mut id = [0x5a; 32];
    id[..8].copy_from_slice(&thread.to_be_bytes());
    [space, &id, rest].concat()
}

/// Text, dedup row, place, the thread's row, a group's secrets.
fn batch(n: u64) -> Batch {
    let (thread, mut batch) = (n % THREADS, Batch::new());
    let place = [&n.to_be_bytes()[..], &[0; 4], &[7; 16], &[9; 36]].concat();
    batch.put(key(b"h", thread, &place), vec![b't'; 300]);
    batch.put(key(b"e", n, &[]), vec![1; 24]);
    batch.put(key(b"i", n, &[3; 20]), vec![1; 60]);
    batch.put(key(b"p", thread, &[]), n.to_be_bytes().to_vec());
    batch.put(key(b"t", thread, &[]), vec![2; 400]);
    batch.put(key(b"mt", thread, b"m"), vec![5; 3_000]);
    batch
}

fn access(engine: EngineKind, sealed: bool) -> Access {
    let key = sealed.then(|| SealKey::from_bytes([8; 32]));
    Access { options: StoreOptions { engine, ..StoreOptions::default() }, key }
}

/// This process's time on a processor.
fn processor() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap(), u32::try_from(now.tv_nsec).unwrap())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration, Duration) {
    let (wall, cpu) = (Instant::now(), processor());
    let done = work();
    (done, wall.elapsed(), processor() - cpu)
}

fn open(home: &Path, engine: EngineKind, sealed: bool) -> NodeStore {
    open_store(home, access(engine, sealed)).unwrap()
}

fn measure(engine: EngineKind, sealed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let relay = RelayLink {
        domain: "a.example".parse().unwrap(),
        endpoint: "127.0.0.1:1".to_owned(),
        relay: RelayId::from_bytes([1; 32]),
    };
    create(home, "alice".parse().unwrap(), relay, "laptop", access(engine, sealed)).unwrap();
    let store = open(home, engine, sealed);
    let ((), wall, cpu) = timed(|| {
        for n in 0..BATCHES {
            store.apply(&batch(n)).unwrap();
            if n % GROUP == GROUP - 1 {
                store.sync().unwrap();
            }
        }
    });
    let each = |time: Duration, of: u64| time.as_secs_f64() * 1e6 / f64::from(u32::try_from(of).unwrap());
    let (rows, _, read) = timed(|| {
        let mut rows = 0;
        for thread in 0..THREADS {
            let from = key(b"h", thread, &[]);
            let to = key(b"h", thread, &[0xff]);
            rows += store.scan(&from, &to, Order::Ascending, usize::MAX).unwrap().len();
        }
        rows
    });
    store.close().unwrap();
    let (store, opened, _) = timed(|| open(home, engine, sealed));
    let (checked, check, _) = timed(|| store.check());
    store.close().unwrap();
    println!(
        "{:5} {:8} batch {:7.1} us wall {:7.1} us cpu | read {:5.2} us cpu a row ({rows}) | open {:6.1} ms | check {}",
        engine.name(),
        if sealed { "sealed" } else { "plain" },
        each(wall, BATCHES),
        each(cpu, BATCHES),
        each(read, u64::try_from(rows).unwrap()),
        opened.as_secs_f64() * 1e3,
        checked.map_or("-".to_owned(), |rows| format!("{:.1} ms ({rows} rows)", check.as_secs_f64() * 1e3)),
    );
}

fn main() {
    for _ in 0..3 {
        for engine in EngineKind::ALL {
            for sealed in [false, true] {
                measure(engine, sealed);
            }
        }
    }
}
