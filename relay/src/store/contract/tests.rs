//! What a read waits for, on a disk that syncs when it is asked to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use whimbrel_storage::{MemoryKv, Reads, StorageError};

use super::*;
use crate::store::kv::{Committer, Unsynced};
use crate::store::{Disk, KvStore};

/// Applies at once, syncs when asked with nothing to write, and counts how often that was.
struct Lazy {
    kv: Arc<MemoryKv>,
    committer: Mutex<Committer<Arc<MemoryKv>>>,
    waits: AtomicUsize,
}

impl Disk for Lazy {
    async fn commit(&self, commands: Vec<Command>) -> Result<Vec<Result<Outcome, Conflict>>, StoreError> {
        let mut committer = self.committer.lock().unwrap();
        if commands.is_empty() {
            self.waits.fetch_add(1, Ordering::Relaxed);
            committer.sync()?;
        }
        committer.apply(&commands)
    }

    fn unsynced(&self) -> Arc<Unsynced> {
        self.committer.lock().unwrap().unsynced()
    }

    async fn read<T, Q>(&self, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    {
        Ok(query(self.kv.as_ref())?)
    }
}

fn lazy() -> KvStore<Lazy> {
    let kv = Arc::new(MemoryKv::in_memory().unwrap());
    let committer = Mutex::new(Committer::new(Arc::clone(&kv)));
    KvStore::new(Lazy { kv, committer, waits: AtomicUsize::new(0) })
}

#[test]
fn a_read_waits_for_the_sync_of_what_it_shows_and_of_nothing_else() {
    let store = lazy();
    let waited = || store.disk().waits.swap(0, Ordering::Relaxed);
    let inbox_of = |person: u8| LogId::from_bytes([person; 16]);
    done(&store, friends());
    done(&store, vec![open(1, ALICE, &all()), open(2, ALICE, &two()), append(1, ALICE, b"one")]);

    // Bob was invited, the first thread has an entry, and it is to be forwarded: none of it is synced.
    assert_eq!((page(&store, inbox_of(BOB), 0, 9).len(), waited()), (2, 1));
    done(&store, vec![append(1, ALICE, b"two")]);
    assert_eq!((page(&store, log(1), 0, 9), waited()), (vec![1, 2], 1));
    done(&store, vec![append(1, ALICE, b"three")]);
    assert_eq!((wait(store.outbound(there(), None, 9, usize::MAX)).unwrap().len(), waited()), (4, 1));

    // Everything is synced now.
    assert_eq!((page(&store, log(1), 0, 9), waited()), (vec![1, 2, 3], 0));

    // Another log's entry is not: these have nothing to do with it.
    done(&store, vec![append(2, ALICE, b"other")]);
    assert_eq!((page(&store, log(1), 0, 9), waited()), (vec![1, 2, 3], 0));
    assert_eq!((page(&store, inbox_of(BOB), 0, 9).len(), waited()), (2, 0));
    assert_eq!((wait(store.outbound(there(), None, 9, usize::MAX)).unwrap().len(), waited()), (4, 0));
    // Nothing is shown of it, so nothing is waited for.
    assert_eq!((page(&store, log(2), 1, 9), waited()), (vec![], 0));
    assert_eq!((page(&store, log(2), 0, 9), waited()), (vec![1], 1));
}

#[test]
fn a_notice_in_an_inbox_is_read_once_it_is_synced() {
    let store = lazy();
    let waited = || store.disk().waits.swap(0, Ordering::Relaxed);
    let inbox = LogId::from_bytes([ALICE; 16]);
    done(&store, friends());
    done(&store, vec![open(1, ALICE, &all()), append(1, ALICE, b"one")]);
    let before = page(&store, inbox, 0, 9).len();
    wait(store.disk().commit(Vec::new())).unwrap();
    waited();
    // Another relay will not have it: its author is told so, at a place that nothing else may have after a crash.
    done(&store, vec![peers::refused(1, &[(1, RefusalCode::NoConsent)], LogBounds::default())]);
    assert_eq!((page(&store, inbox, 0, 9).len(), waited()), (before + 1, 1));
    assert_eq!((page(&store, inbox, 0, 9).len(), waited()), (before + 1, 0));
}
