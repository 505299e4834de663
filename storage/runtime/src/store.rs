//! DiskKv: a store on disk, from open to close.
//! Owns: the order of steps at open and close, the side file after each sync, the counters.
//! Never: rows (`whimbrel_storage::Kv`), an engine's calls (`engine`).

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use whimbrel_storage::{
    Batch, Copied, Kv, Order, OrderedKv, Reads, Row, Schema, Seen, StorageError, Survey, Totals, bring_up,
    compare_page, copy_page,
};

use crate::clock;
use crate::dir::{Aside, Dir, Left, failed, wait_until_released};
use crate::engine::DiskEngine;
use crate::keep::{self, Kept};
use crate::kind::EngineKind;
use crate::probe::ProbeCommand;
use crate::room::{Reserve, Room, SizeBounds};
use crate::tail::Tail;

/// How long an export stands back when somebody waits for its page to end. A lock goes to whoever asks first after it was
/// let go of, and the export would ask at once: batches would wait for its end.
const GIVE_WAY: Duration = Duration::from_millis(1);

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which engine.
    pub engine: EngineKind,
    /// Bound of the engine's page cache, in bytes. Resident memory is more: page tables (sled) and memory tables (fjall)
    /// are not counted.
    pub cache_bytes: u64,
    /// What to leave free on the disk.
    pub reserve: Reserve,
    /// How large it may grow.
    pub size: SizeBounds,
    /// Whose rows, in which version. Absent: nothing is asked of the rows.
    pub schema: Option<&'static Schema>,
    /// Opens a store with rows missing, too: to look, not to serve. Such a store is [discarded](DiskKv::discard), which
    /// leaves it as it was.
    pub tolerate: bool,
    /// How to try an open in a child process first; without it, a store that makes its engine panic takes the process
    /// down.
    pub probe: Option<ProbeCommand>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineKind::default(),
            cache_bytes: 64 * 1024 * 1024,
            reserve: Reserve::default(),
            size: SizeBounds::default(),
            schema: None,
            tolerate: false,
            probe: None,
        }
    }
}

/// What a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Batches applied.
    pub batches: u64,
    /// Syncs that returned.
    pub syncs: u64,
    /// Bytes of keys and values handed to the engine, the store's own rows included.
    pub bytes: u64,
}

/// An ordered store in a folder of its own.
///
/// After an error that is sticky ([`StorageError::is_sticky`]) every call fails: stop answering, end the process or drop the
/// store, and open it again, which checks what is left.
#[derive(Debug)]
pub struct DiskKv {
    // Dropped in this order: the engine before the lock.
    kv: Kv<DiskEngine>,
    tail: Mutex<Tail>,
    /// Gets every batch as well, while an export runs.
    mirror: Mutex<Option<Mirror>>,
    /// How many wait for the mirror, which an export works on.
    waiting: AtomicUsize,
    /// The files as they were before a tolerant open.
    kept: Option<Kept>,
    /// What a tolerant open set aside.
    aside: Vec<Aside>,
    /// How it was found at open.
    left: Left,
    kind: EngineKind,
    reserve: Reserve,
    dir: Dir,
}

/// Another store that is becoming, or is, a copy of this one.
#[derive(Debug)]
struct Mirror {
    store: Box<DiskKv>,
    /// Whether it holds everything.
    complete: bool,
    /// Why it fell behind.
    failed: Option<StorageError>,
}

impl DiskKv {
    /// Opens the store in the folder `path`, or creates it.
    ///
    /// A store that was closed is compared with the checksum of its database files first. One that was not closed is
    /// copied first, and put back byte for byte when it does not open; then opened and read by a child process, if
    /// `options` say how; then read whole and compared with the totals. When sled fails on it, its snapshots are set
    /// aside, since they only shorten the way to what the log holds. Rows that are damaged and named do not keep the store
    /// from opening, since whoever reads one is told; rows that are missing do.
    ///
    /// # Errors
    /// [`StorageError::InUse`]: another process, or another handle of this one, has it open.
    /// [`StorageError::WrongEngine`], [`StorageError::WrongRows`], [`StorageError::TooNew`]: it is another store than was
    /// asked for.
    /// [`StorageError::DoesNotOpen`], [`StorageError::LostTail`], [`StorageError::Damaged`]: restore it from a backup.
    /// [`StorageError::Engine`]: the disk or the trial failed; nothing is said about the store.
    pub fn open(path: &Path, options: Options) -> Result<Self, StorageError> {
        let kind = options.engine;
        let dir = Dir::lock(kind, path)?;
        keep::recover(kind, path)?;
        let left = dir.take_mark()?;
        let tail = Tail::open(&dir.tail()).map_err(failed("open the side file"))?;
        if left == Left::New {
            if tail.newest().is_some_and(|n| n > 0) {
                return Err(StorageError::LostTail { what: "the database is missing".to_owned() });
            }
            dir.begin_making()?;
        }
        let kept = if left == Left::Unclean { Some(Kept::make(kind, path)?) } else { None };
        let mut aside = Vec::new();
        let opened = Self::open_engine(&dir, path, (left, tail.newest()), &options, &mut aside);
        let kv = match opened {
            Ok(kv) => kv,
            Err(error) => {
                // The engine is gone with the error; its threads may hold their files a moment longer.
                wait_until_released(kind, path)?;
                match kept {
                    Some(kept) => kept.put_back().and_then(|()| dir.forget_snapshots(aside))?,
                    None => dir.put_snapshots_back(aside)?,
                }
                return Err(error);
            }
        };
        let kept = match kept {
            Some(kept) if !options.tolerate => kept.forget().map(|()| None)?,
            kept => kept,
        };
        if !aside.is_empty() && !options.tolerate {
            dir.bound_snapshots_aside()?;
        }
        if left == Left::New {
            dir.end_making()?;
        }
        let (tail, mirror, reserve) = (Mutex::new(tail), Mutex::default(), options.reserve);
        let waiting = AtomicUsize::new(0);
        let store = Self { kv, tail, mirror, waiting, kept, aside, left, kind, reserve, dir };
        if let Some(schema) = options.schema
            && let Err(error) = bring_up(&store, schema)
        {
            // Nothing was touched, or each page of it is durable: the store is closed as it is.
            store.close()?;
            return Err(error);
        }
        Ok(store)
    }

    /// Opens the engine and checks what it holds.
    fn open_engine(
        dir: &Dir,
        path: &Path,
        (left, tail): (Left, Option<u64>),
        options: &Options,
        aside: &mut Vec<Aside>,
    ) -> Result<Kv<DiskEngine>, StorageError> {
        dir.remove_unfinished_snapshots()?;
        if left == Left::Unclean
            && let Some(probe) = &options.probe
        {
            without_bad_snapshot(dir, aside, || probe.run(path))?;
        }
        let room = || Room::new(path, options.engine, options.reserve, options.size);
        let engine =
            without_bad_snapshot(dir, aside, || DiskEngine::open(options.engine, path, options.cache_bytes, room()))?;
        let kv = Kv::open(engine, tail)?;
        if left == Left::Unclean || !aside.is_empty() {
            let missing = refuse_what_is_missing(&kv.survey()?);
            if !options.tolerate {
                missing?;
            }
        }
        if left == Left::Unclean {
            tracing::info!(newest_batch = kv.newest_batch()?, "opened a store that was not closed");
        }
        Ok(kv)
    }

    /// Syncs and closes the store, so that the next open needs no trial. Dropping it instead loses nothing that was synced.
    ///
    /// # Errors
    /// The store failed before or cannot be synced; the next open then treats it as left unclean.
    pub fn close(self) -> Result<(), StorageError> {
        self.sync()?;
        let Self { kv, tail, mirror, kept, kind, dir, .. } = self;
        tail.into_inner().unwrap_or_else(PoisonError::into_inner).sync().map_err(failed("sync the side file"))?;
        drop(mirror);
        drop(kv);
        wait_until_released(kind, dir.path())?;
        if let Some(kept) = kept {
            kept.forget()?;
        }
        dir.set_mark()
    }

    /// Whether the store was new or had been closed when this handle opened it: otherwise it was read whole.
    pub fn was_left_clean(&self) -> bool {
        self.left != Left::Unclean
    }

    /// Whether the store was closed by whoever had it open last, when this handle opened it with [`Options::tolerate`].
    pub fn was_closed(&self) -> bool {
        self.kept.is_none()
    }

    /// Ends what [`Options::tolerate`] began without a trace: a store that was not closed is put back byte for byte, one
    /// that was counts as left unclean, so that the next open reads it whole.
    ///
    /// # Errors
    /// The files cannot be put back; the next open does it.
    pub fn discard(self) -> Result<(), StorageError> {
        let Self { kv, kept, aside, kind, dir, .. } = self;
        drop(kv);
        wait_until_released(kind, dir.path())?;
        match kept {
            Some(kept) => kept.put_back().and_then(|()| dir.forget_snapshots(aside)),
            None => Ok(()),
        }
    }

    /// Copies every row into a new store in the folder `into`, closes it, and answers what it holds: the backup, and the way
    /// to get space back, since sled gives none. Batches may be applied meanwhile: the copy is the store as it is when this
    /// returns.
    ///
    /// # Errors
    /// What either store reports; `into` is then of no use and does not open. [`StorageError::Engine`]: `into` holds rows already, another
    /// export runs, or the copy does not read back as the original.
    pub fn export(&self, into: &Path) -> Result<Copied, StorageError> {
        let copied = self.mirror(into, self.kind)?;
        if let Some(mirror) = self.take_mirror() {
            mirror.close()?;
        }
        Ok(copied)
    }

    /// As [`DiskKv::export`], into a store on any engine that then goes on getting every batch, until it is
    /// [taken](DiskKv::take_mirror). It is synced when it is closed.
    ///
    /// # Errors
    /// As for [`DiskKv::export`].
    pub fn mirror(&self, into: &Path, engine: EngineKind) -> Result<Copied, StorageError> {
        let store = Self::open(into, Options { engine, reserve: self.reserve, ..Options::default() })?;
        if store.newest_batch()? > 0 {
            store.close()?;
            return Err(StorageError::Engine("the store to copy into is not empty".to_owned()));
        }
        // What is there of a copy when the process ends meanwhile would pass for a whole store with fewer rows.
        store.dir.begin_making()?;
        {
            let mut mirror = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
            if mirror.is_some() {
                return Err(StorageError::Engine("the store is being exported already".to_owned()));
            }
            *mirror = Some(Mirror { store: Box::new(store), complete: false, failed: None });
        }
        let copied = self.fill_mirror();
        if copied.is_err() {
            self.end_export();
        }
        copied
    }

    /// Copies page by page. A page and the batches around it exclude each other; a row that a batch changed before its
    /// page comes is copied as it is then, and one that changes later is changed in both.
    fn fill_mirror(&self) -> Result<Copied, StorageError> {
        let mut place = Vec::new();
        while let Some(next) = self.with_mirror(|into| copy_page(&self.kv, into, &place))? {
            place = next;
            self.with_mirror(OrderedKv::sync)?;
            self.give_way();
        }
        let (mut seen, mut place) = (Seen::default(), Vec::new());
        while let Some(next) = self.with_mirror(|into| compare_page(&self.kv, into, &place, &mut seen))? {
            place = next;
            self.give_way();
        }
        self.with_mirror(|into| {
            into.sync()?;
            let (rows, copied) = (self.kv.totals()?.rows, into.kv.totals()?.rows);
            if rows == copied {
                return Ok(());
            }
            Err(StorageError::Engine(format!("the copy has {copied} rows, and the store {rows}")))
        })?;
        match &mut *self.mirror.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(mirror) => {
                mirror.store.dir.end_making()?;
                mirror.complete = true;
            }
            None => return Err(StorageError::Engine("the export was ended".to_owned())),
        }
        Ok(seen.counted())
    }

    /// The mirror, for everybody but the export that fills it.
    fn lock_mirror(&self) -> MutexGuard<'_, Option<Mirror>> {
        match self.mirror.try_lock() {
            Ok(mirror) => mirror,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let mirror = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                mirror
            }
        }
    }

    /// Lets whoever waits for the mirror have it, between two pages.
    fn give_way(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            clock::pause(GIVE_WAY);
        }
    }

    /// Does something with the mirror, between two batches.
    fn with_mirror<T>(&self, work: impl FnOnce(&DiskKv) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match &*self.mirror.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Mirror { failed: Some(error), .. }) => Err(error.clone()),
            Some(mirror) => work(&mirror.store),
            None => Err(StorageError::Engine("the export was ended".to_owned())),
        }
    }

    /// The mirror, if there is one that holds what this store holds. It gets no more batches.
    pub fn take_mirror(&self) -> Option<DiskKv> {
        let mirror = self.lock_mirror().take()?;
        (mirror.complete && mirror.failed.is_none()).then_some(*mirror.store)
    }

    /// Ends an export that is not complete; whoever waits for it is told.
    pub fn end_export(&self) {
        let mut mirror = self.lock_mirror();
        if mirror.as_ref().is_some_and(|mirror| !mirror.complete || mirror.failed.is_some()) {
            *mirror = None;
        }
    }

    /// Reads every row and compares with the totals that the batches left.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when a row is damaged or missing.
    pub fn verify(&self) -> Result<Totals, StorageError> {
        self.kv.verify()
    }

    /// As [`DiskKv::verify`], but goes on after damage and counts.
    ///
    /// # Errors
    /// The engine failed, or the store before.
    pub fn survey(&self) -> Result<Survey, StorageError> {
        self.kv.survey()
    }

    /// Which engine the store is on.
    pub fn engine(&self) -> EngineKind {
        self.kind
    }

    /// The number of the newest batch applied.
    ///
    /// # Errors
    /// The store failed before.
    pub fn newest_batch(&self) -> Result<u64, StorageError> {
        self.kv.newest_batch()
    }

    /// Bytes of the database on the disk; compare [`crate::SLED_WARN_BYTES`].
    ///
    /// # Errors
    /// The disk does not tell.
    pub fn size_on_disk(&self) -> Result<u64, StorageError> {
        self.kv.engine().size_on_disk()
    }

    /// Whether the store would refuse to grow now: its bound is reached, or the disk's reserve.
    ///
    /// # Errors
    /// The disk does not tell.
    pub fn is_full(&self) -> Result<bool, StorageError> {
        self.kv.engine().is_full()
    }

    /// What the store did since it was opened.
    pub fn stats(&self) -> SyncStats {
        let engine = self.kv.engine();
        SyncStats {
            batches: engine.batches.load(Ordering::Relaxed),
            syncs: engine.syncs.load(Ordering::Relaxed),
            bytes: engine.bytes.load(Ordering::Relaxed),
        }
    }

    /// The store below the files: rows in their format over the raw engine.
    pub fn kv(&self) -> &Kv<DiskEngine> {
        &self.kv
    }
}

/// Damage that has a name is told to whoever reads the row; a row that is gone would be told to nobody.
fn refuse_what_is_missing(survey: &Survey) -> Result<(), StorageError> {
    let Some(what) = survey.difference() else { return Ok(()) };
    if survey.found.rows.saturating_add(survey.damage_count) != survey.counted.rows {
        return Err(StorageError::Damaged { space: 0, what });
    }
    for damage in &survey.damages {
        tracing::error!(space = damage.space, key = damage.key, what = damage.what, "a damaged row");
    }
    Ok(())
}

impl Reads for DiskKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.kv.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.kv.scan(from, to, order, limit)
    }
}

impl OrderedKv for DiskKv {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        let mut mirror = self.lock_mirror();
        self.kv.apply(batch)?;
        if let Some(Mirror { store, failed, .. }) = &mut *mirror
            && failed.is_none()
            && let Err(error) = store.apply(batch)
        {
            // The export fails, and the store goes on.
            *failed = Some(error);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        // Read before: batches that are applied during the sync may not be part of it.
        let n = self.kv.newest_batch()?;
        self.kv.sync()?;
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.record(n).map_err(|error| self.kv.stop(failed("write the side file")(error)))
    }
}

/// Does `attempt`; when the store does not open, once more without its snapshots, which `aside` has then.
fn without_bad_snapshot<T>(
    dir: &Dir,
    aside: &mut Vec<Aside>,
    mut attempt: impl FnMut() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let error = match attempt() {
        Err(error @ StorageError::DoesNotOpen { .. }) => error,
        other => return other,
    };
    let moves = dir.set_snapshots_aside()?;
    if moves.is_empty() {
        return Err(error);
    }
    match attempt() {
        Ok(opened) => {
            aside.extend(moves);
            Ok(opened)
        }
        Err(second) => {
            dir.put_snapshots_back(moves)?;
            Err(second)
        }
    }
}
