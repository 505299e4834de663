//! Kv: the ordered store over any engine.
//! Owns: the writing and reading of rows in their format, the numbering of batches, the running totals, and the refusal
//! of every call after the engine failed.
//! Never: how rows look as bytes (`row`), what is proved at open (`witness`), what is remembered of rows (`written`).

use std::collections::BTreeMap;
use std::sync::{OnceLock, RwLock, RwLockReadGuard};

use crate::planted::{self, Bug};
use crate::row::{Body, Space, Stored, damaged, decode, encode_whole, piece_count, piece_key};
use crate::survey::Survey;
use crate::witness;
use crate::written::{Header, Written};
use crate::{
    BATCH_BYTES_MAX, Batch, Engine, KEY_BYTES_MAX, Op, Order, OrderedKv, PIECE_BYTES_MAX, Reads, Row, StorageError,
    VALUE_BYTES_MAX,
};

/// Rows read at once while verifying.
const VERIFY_PAGE: usize = 256;
/// How much longer a row may become in its place without counting as growth: a few integers in it take more bytes as
/// they count up. What moves a cursor adds no row and holds nothing more.
const IN_PLACE_BYTES_MAX: i64 = 32;

/// What the store holds, counted along with every batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many rows there are.
    pub rows: u64,
    /// The sum of the checksums of all rows, wrapping.
    pub sum: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, checksum: u32) {
        self.rows = self.rows.saturating_add(1);
        self.sum = self.sum.wrapping_add(u64::from(checksum));
    }

    fn remove(&mut self, checksum: u32) {
        self.rows = self.rows.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(checksum));
    }
}

/// An ordered store in the house's row format over one engine.
///
/// Batches are numbered from one. Each leaves a witness in the store: its number, the count and hash of its keys, and the
/// totals behind it; [`Kv::open`] checks the witnesses against the rows.
#[derive(Debug)]
pub struct Kv<E> {
    engine: E,
    state: RwLock<State>,
    failed: OnceLock<StorageError>,
}

#[derive(Debug)]
struct State {
    /// The newest batch.
    n: u64,
    totals: Totals,
    written: Written,
}

/// What a batch does to one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'b> {
    /// Its new value; none: it is removed.
    pub(crate) value: Option<&'b [u8]>,
    /// Whether the batch says that there is no such row.
    is_new: bool,
}

impl<E: Engine> Kv<E> {
    /// Opens the store in `engine`, new or kept, and checks that its newest batches are there and whole.
    ///
    /// `tail` is the batch number that was kept outside the store ([`tail_to_bytes`](crate::tail_to_bytes)), if any.
    ///
    /// # Errors
    /// [`StorageError::LostTail`] when a batch is torn, a witness is missing, or the store is older than `tail`;
    /// [`StorageError::Damaged`] when a witness is damaged or the rows have another format; what the engine reports.
    pub fn open(engine: E, tail: Option<u64>) -> Result<Self, StorageError> {
        let (n, totals) = witness::recover(&engine)?;
        if let Some(tail) = tail
            && n < tail
        {
            tracing::error!(newest = n, synced = tail, "the store lost its newest batches");
            return Err(StorageError::LostTail { what: format!("the newest batch is {n}, and {tail} was synced") });
        }
        tracing::debug!(batch = n, rows = totals.rows, "store opened");
        Ok(Self {
            engine,
            state: RwLock::new(State { n, totals, written: Written::default() }),
            failed: OnceLock::new(),
        })
    }

    /// The number of the newest batch applied; zero in a new store.
    ///
    /// # Errors
    /// The store failed before.
    pub fn newest_batch(&self) -> Result<u64, StorageError> {
        Ok(self.read()?.n)
    }

    /// Rows and checksum as counted along with the batches.
    ///
    /// # Errors
    /// The store failed before.
    pub fn totals(&self) -> Result<Totals, StorageError> {
        Ok(self.read()?.totals)
    }

    /// The engine below.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Refuses every later call: for what fails beside the engine and is as bad. Answers the error to pass on.
    pub fn stop(&self, error: StorageError) -> StorageError {
        if self.failed.set(error.clone()).is_ok() {
            tracing::error!(%error, "the store takes nothing more");
        }
        error
    }

    /// Reads every row and compares what is there with the running totals: the one check that finds a row which is gone
    /// without a trace. Batches wait until it is done.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] names the first damaged or missing row, or tells how far the totals are off.
    pub fn verify(&self) -> Result<Totals, StorageError> {
        self.survey()?.verdict()
    }

    /// As [`Kv::verify`], but goes on after damage, and counts what there is by the first byte of the keys.
    ///
    /// # Errors
    /// The engine failed, or the store before.
    pub fn survey(&self) -> Result<Survey, StorageError> {
        let state = self.read()?;
        let newest = state.n;
        let mut survey = Survey::of(newest, state.totals);
        let mut pieces = 0_u64;
        self.each_page(Space::User, &mut survey, |survey, stored_key, bytes| {
            let row = checked(newest, stored_key, bytes)?;
            if let Body::Head { len } = row.body {
                pieces = pieces.saturating_add(u64::from(piece_count(len)));
            }
            let (user_key, checksum) = (stored_key.get(1..).unwrap_or_default(), row.checksum);
            let value = self.value_of(stored_key, user_key, row)?;
            survey.found.add(checksum);
            survey.count(user_key, value.len());
            Ok(())
        })?;
        let mut pieces_found = 0_u64;
        self.each_page(Space::Piece, &mut survey, |_, _, _| {
            pieces_found = pieces_found.saturating_add(1);
            Ok(())
        })?;
        survey.pieces = (pieces_found, pieces);
        Ok(survey)
    }

    /// Shows `visit` every stored row of a space; what it, or the engine, finds damaged is noted.
    fn each_page(
        &self,
        space: Space,
        survey: &mut Survey,
        mut visit: impl FnMut(&mut Survey, &[u8], Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (mut from, to) = (space.key(&[]), space.end());
        loop {
            let page = match self.noted(self.engine.scan(&from, &to, Order::Ascending, VERIFY_PAGE)) {
                Ok(page) => page,
                // Where the damage ends nobody knows: what follows it begins with another byte.
                Err(StorageError::Damaged { what, .. }) => {
                    survey.note(
                        from.get(1).copied().unwrap_or(0),
                        &from,
                        &format!("cannot be read from here on: {what}"),
                    );
                    let Some(next) = from.get(1).copied().unwrap_or(0).checked_add(1) else { return Ok(()) };
                    from = space.key(&[next]);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let full = page.len() == VERIFY_PAGE;
            for (stored_key, bytes) in page {
                match visit(survey, &stored_key, bytes) {
                    Ok(()) => {}
                    Err(StorageError::Damaged { space, what }) => survey.note(space, &stored_key, &what),
                    Err(error) => return Err(error),
                }
                from = stored_key;
            }
            from.push(0);
            if !full {
                return Ok(());
            }
        }
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>, StorageError> {
        self.refuse_after_failure()?;
        self.state.read().map_err(|_| StorageError::Engine("a thread died while it applied a batch".to_owned()))
    }

    fn refuse_after_failure(&self) -> Result<(), StorageError> {
        match self.failed.get() {
            Some(error) => Err(StorageError::Engine(format!("stopped after an earlier error: {error}"))),
            None => Ok(()),
        }
    }

    /// Remembers a sticky error of the engine.
    fn noted<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &result
            && error.is_sticky()
        {
            let _already_failed = self.failed.set(error.clone());
        }
        result
    }

    /// The whole value of a row, its pieces joined.
    fn value_of(&self, stored_key: &[u8], user_key: &[u8], row: Stored) -> Result<Vec<u8>, StorageError> {
        let len = match row.body {
            Body::Whole(value) => return Ok(value),
            Body::Piece(_) => return Err(damaged(stored_key, "a piece where a row belongs")),
            Body::Head { len } if len > VALUE_BYTES_MAX => {
                return Err(damaged(stored_key, "length over the bound"));
            }
            Body::Head { len } => len,
        };
        let mut value = Vec::with_capacity(len);
        for index in 0..piece_count(len) {
            let key = piece_key(user_key, index);
            let bytes = self.noted(self.engine.get(&key))?.ok_or_else(|| damaged(&key, "a piece is missing"))?;
            match decode(&key, bytes)? {
                Stored { n, body: Body::Piece(piece), .. } if n == row.n => value.extend_from_slice(&piece),
                _ => return Err(damaged(&key, "a piece of another batch")),
            }
        }
        if value.len() == len { Ok(value) } else { Err(damaged(stored_key, "pieces of another length")) }
    }

    /// Adds to `ops` what setting or removing one row takes; `totals` follow. Answers how many bytes more there are.
    fn change(
        &self,
        n: u64,
        (user_key, change): (&[u8], Change<'_>),
        (totals, written): (&mut Totals, &mut Written),
        ops: &mut Vec<Op>,
    ) -> Result<i64, StorageError> {
        let value = change.value;
        let stored_key = Space::User.key(user_key);
        let (mut pieces_before, mut bytes_before) = (0, 0);
        let old = if change.is_new { None } else { self.header_of(n, user_key, &stored_key, written)? };
        let existed = old.is_some();
        if let Some(Header { checksum, len }) = old {
            totals.remove(checksum);
            if len > PIECE_BYTES_MAX {
                pieces_before = piece_count(len);
            }
            bytes_before = row_bytes(user_key, len);
        }
        let growth = match value.map_or(0, |value| row_bytes(user_key, value.len())) - bytes_before {
            grown if existed && value.is_some() && (0..=IN_PLACE_BYTES_MAX).contains(&grown) => 0,
            growth => growth,
        };
        let mut pieces_now = 0;
        match value {
            None if existed => ops.push(Op::Delete { key: stored_key }),
            None => {}
            Some(value) => {
                let (bytes, checksum) = if value.len() > PIECE_BYTES_MAX {
                    for (index, piece) in (0..).zip(value.chunks(PIECE_BYTES_MAX)) {
                        let key = piece_key(user_key, index);
                        let (bytes, _) = Body::Piece(piece.to_vec()).encode(&key, n);
                        ops.push(Op::Put { key, value: bytes });
                    }
                    pieces_now = piece_count(value.len());
                    Body::Head { len: value.len() }.encode(&stored_key, n)
                } else {
                    encode_whole(&stored_key, n, value)
                };
                totals.add(checksum);
                if self.engine.reads_are_dear() {
                    written.remember(user_key, Header { checksum, len: value.len() });
                }
                ops.push(Op::Put { key: stored_key, value: bytes });
            }
        }
        ops.extend((pieces_now..pieces_before).map(|index| Op::Delete { key: piece_key(user_key, index) }));
        Ok(growth)
    }

    /// What batch `n` finds of a row: as it was written, or as the engine has it.
    fn header_of(
        &self,
        n: u64,
        user_key: &[u8],
        stored_key: &[u8],
        written: &mut Written,
    ) -> Result<Option<Header>, StorageError> {
        if let Some(header) = written.take(user_key) {
            return Ok(Some(header));
        }
        let Some(bytes) = self.noted(self.engine.get(stored_key))? else {
            return Ok(None);
        };
        let row = checked(n - 1, stored_key, bytes)?;
        let len = match &row.body {
            Body::Head { len } => *len,
            Body::Whole(value) | Body::Piece(value) => value.len(),
        };
        Ok(Some(Header { checksum: row.checksum, len }))
    }

    /// Makes the changes of batch `n` and gives the totals behind it. What is remembered is ahead of the engine if this
    /// fails.
    fn write(&self, n: u64, changes: &BTreeMap<&[u8], Change<'_>>, state: &mut State) -> Result<Totals, StorageError> {
        let mut totals = state.totals;
        let mut ops = Vec::with_capacity(changes.len() + 2);
        let mut growth = 0_i64;
        for (&key, &change) in changes {
            let known = (&mut totals, &mut state.written);
            growth = growth.saturating_add(self.change(n, (key, change), known, &mut ops)?);
        }
        // The store's own rows of a batch take the place of older ones, and are not the caller's to answer for.
        witness::record(n, changes, totals, &mut ops);
        self.noted(self.engine.admit(written_bytes(&ops), growth))?;
        self.noted(self.engine.apply(ops))?;
        Ok(totals)
    }
}

/// Decodes a row and refuses one from a batch that never was: what a torn batch behind the newest witness leaves.
fn checked(newest: u64, stored_key: &[u8], bytes: Vec<u8>) -> Result<Stored, StorageError> {
    let row = decode(stored_key, bytes)?;
    if row.n > newest {
        return Err(damaged(stored_key, &format!("of batch {}, and {newest} is the newest", row.n)));
    }
    Ok(row)
}

impl<E: Engine> Reads for Kv<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let state = self.read()?;
        let stored_key = Space::User.key(key);
        let Some(bytes) = self.noted(self.engine.get(&stored_key))? else {
            return Ok(None);
        };
        let row = checked(state.n, &stored_key, bytes)?;
        self.value_of(&stored_key, key, row).map(Some)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let state = self.read()?;
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self.noted(self.engine.scan(&Space::User.key(from), &Space::User.key(to), order, limit))?;
        let mut rows = Vec::with_capacity(stored.len());
        for (stored_key, bytes) in stored {
            let row = checked(state.n, &stored_key, bytes)?;
            let key = stored_key.get(1..).unwrap_or_default().to_vec();
            let value = self.value_of(&stored_key, &key, row)?;
            rows.push((key, value));
        }
        Ok(rows)
    }
}

impl<E: Engine> OrderedKv for Kv<E> {
    /// An empty batch does nothing and has no number.
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.refuse_after_failure()?;
        let changes = last_changes(batch)?;
        if changes.is_empty() {
            return Ok(());
        }
        let Ok(mut state) = self.state.write() else {
            return Err(StorageError::Engine("a thread died while it applied a batch".to_owned()));
        };
        let n = state.n.checked_add(1).ok_or_else(|| StorageError::Engine("batch numbers ran out".to_owned()))?;
        match self.write(n, &changes, &mut state) {
            Ok(totals) => {
                (state.n, state.totals) = (n, totals);
                Ok(())
            }
            Err(error) => {
                state.written.forget();
                Err(error)
            }
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.refuse_after_failure()?;
        if planted::active(Bug::SkipFlush) {
            return Ok(());
        }
        self.noted(self.engine.sync())
    }
}

/// What a row counts when a batch is asked whether it grows the store.
fn row_bytes(user_key: &[u8], value_len: usize) -> i64 {
    i64::try_from(user_key.len().saturating_add(value_len)).unwrap_or(i64::MAX)
}

/// What an engine is given to write.
fn written_bytes(ops: &[Op]) -> u64 {
    let bytes = ops.iter().map(|op| match op {
        Op::Put { key, value } => key.len().saturating_add(value.len()),
        Op::Delete { key } => key.len(),
    });
    u64::try_from(bytes.fold(0, usize::saturating_add)).unwrap_or(u64::MAX)
}

/// What a batch comes to, one change a key, in the order of keys; checked against the bounds.
fn last_changes(batch: &Batch) -> Result<BTreeMap<&[u8], Change<'_>>, StorageError> {
    let mut bytes = 0_usize;
    let mut changes = BTreeMap::new();
    for (op, is_new) in batch.claims() {
        let (key, value): (&[u8], Option<&[u8]>) = match op {
            Op::Put { key, value } => (key, Some(value)),
            Op::Delete { key } => (key, None),
        };
        let value_len = value.map_or(0, <[u8]>::len);
        bytes = bytes.saturating_add(key.len()).saturating_add(value_len);
        for (what, len, max) in [
            ("a key", key.len(), KEY_BYTES_MAX),
            ("a value", value_len, VALUE_BYTES_MAX),
            ("a batch", bytes, BATCH_BYTES_MAX),
        ] {
            if len > max {
                return Err(StorageError::TooLarge { what, max });
            }
        }
        let first = changes.insert(key, Change { value, is_new });
        // What is new to the store is so whatever the batch does with it next.
        if let (Some(Change { is_new: true, .. }), Some(change)) = (first, changes.get_mut(key)) {
            change.is_new = true;
        }
    }
    Ok(changes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::MemoryEngine;

    /// A disk whose reads are counted, and dear.
    #[derive(Debug, Default)]
    struct Dear {
        disk: MemoryEngine,
        reads: std::sync::atomic::AtomicU32,
    }

    impl Engine for Dear {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.disk.get(key)
        }

        fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
            self.disk.scan(from, to, order, limit)
        }

        fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError> {
            self.disk.apply(ops)
        }

        fn sync(&self) -> Result<(), StorageError> {
            self.disk.sync()
        }
    }

    fn store() -> Kv<Dear> {
        Kv::open(Dear::default(), None).unwrap()
    }

    /// How many rows are read to apply this.
    fn reads_of(store: &Kv<Dear>, change: impl FnOnce(&mut Batch)) -> u32 {
        let mut batch = Batch::new();
        change(&mut batch);
        let before = store.engine().reads.load(std::sync::atomic::Ordering::Relaxed);
        store.apply(&batch).unwrap();
        store.engine().reads.load(std::sync::atomic::Ordering::Relaxed) - before
    }

    #[test]
    fn what_is_new_or_was_just_written_is_not_read_and_the_totals_are_right() {
        let store = store();
        let large = vec![7; 3 * PIECE_BYTES_MAX];
        assert_eq!(reads_of(&store, |batch| batch.put(b"head".to_vec(), vec![1])), 1);
        let entry = |batch: &mut Batch| {
            batch.put_new(b"entry".to_vec(), vec![2; 300]);
            batch.put_new(b"large".to_vec(), large.clone());
            batch.put(b"head".to_vec(), vec![2]);
        };
        assert_eq!(reads_of(&store, entry), 0);
        assert_eq!(store.verify().unwrap().rows, 3);
        assert_eq!(reads_of(&store, |batch| batch.put(b"large".to_vec(), vec![1; PIECE_BYTES_MAX + 1])), 0);
        assert_eq!(store.survey().unwrap().pieces, (2, 2));
        let gone = |batch: &mut Batch| {
            batch.delete(b"entry".to_vec());
            batch.delete(b"large".to_vec());
        };
        assert_eq!(reads_of(&store, gone), 0);
        assert_eq!(store.verify().unwrap().rows, 1);
        assert_eq!(store.survey().unwrap().pieces, (0, 0));
        assert_eq!(reads_of(&store, |batch| batch.delete(b"entry".to_vec())), 1, "nothing is remembered of it");
        assert_eq!(store.verify().unwrap().rows, 1);
    }

    #[test]
    fn what_was_remembered_of_a_refused_batch_is_forgotten() {
        let store = store();
        reads_of(&store, |batch| batch.put(b"head".to_vec(), vec![1]));
        store.engine().disk.fail_next_apply(StorageError::Full);
        let mut batch = Batch::new();
        batch.put(b"head".to_vec(), vec![2; 9]);
        assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
        assert_eq!(reads_of(&store, |batch| batch.put(b"head".to_vec(), vec![3])), 1);
        store.verify().unwrap();
    }

    #[test]
    fn a_row_wrongly_said_to_be_new_is_found_by_a_full_check() {
        let store = store();
        reads_of(&store, |batch| batch.put(b"head".to_vec(), vec![1]));
        store.verify().unwrap();
        reads_of(&store, |batch| batch.put_new(b"head".to_vec(), vec![2]));
        let survey = store.survey().unwrap();
        assert!(!survey.is_whole() && survey.difference().is_some(), "{survey:?}");
        assert!(matches!(store.verify(), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn a_new_row_stays_new_whatever_the_same_batch_does_with_it_next() {
        let store = store();
        let twice = |batch: &mut Batch| {
            batch.put_new(b"a".to_vec(), vec![1]);
            batch.put(b"a".to_vec(), vec![2]);
            batch.put_new(b"b".to_vec(), vec![1]);
            batch.delete(b"b".to_vec());
        };
        assert_eq!(reads_of(&store, twice), 0);
        assert_eq!(store.verify().unwrap().rows, 1);
        assert_eq!(store.get(b"a").unwrap(), Some(vec![2]));
    }
}
