//! Kv: the ordered store over any engine.
//! Owns: the writing and reading of rows in their format, the numbering of batches, the running totals, and the refusal
//! of every call after the engine failed.
//! Never: how rows look as bytes (`row`), what is proved at open (`witness`).

use std::collections::BTreeMap;
use std::sync::{OnceLock, RwLock, RwLockReadGuard};

use crate::planted::{self, Bug};
use crate::row::{Body, Space, Stored, damaged, decode, piece_count, piece_key};
use crate::survey::Survey;
use crate::witness;
use crate::{
    BATCH_BYTES_MAX, Batch, Engine, Growth, KEY_BYTES_MAX, Op, Order, OrderedKv, PIECE_BYTES_MAX, Reads, Row,
    StorageError, VALUE_BYTES_MAX,
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

#[derive(Clone, Copy, Debug)]
struct State {
    /// The newest batch.
    n: u64,
    totals: Totals,
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
        Ok(Self { engine, state: RwLock::new(State { n, totals }), failed: OnceLock::new() })
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
        let mut survey = Survey::of(state.n, state.totals);
        let mut pieces = 0_u64;
        self.each_page(Space::User, &mut survey, |survey, stored_key, bytes| {
            let row = self.checked(&state, stored_key, bytes)?;
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

    /// Decodes a row and refuses one from a batch that never was: what a torn batch behind the newest witness leaves.
    fn checked(&self, state: &State, stored_key: &[u8], bytes: Vec<u8>) -> Result<Stored, StorageError> {
        let row = decode(stored_key, bytes)?;
        if row.n > state.n {
            return Err(damaged(stored_key, &format!("of batch {}, and {} is the newest", row.n, state.n)));
        }
        Ok(row)
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
        state: &State,
        n: u64,
        (user_key, value): (&[u8], Option<&[u8]>),
        totals: &mut Totals,
        ops: &mut Vec<Op>,
    ) -> Result<i64, StorageError> {
        let stored_key = Space::User.key(user_key);
        let (mut pieces_before, mut bytes_before) = (0, 0);
        let old = self.noted(self.engine.get(&stored_key))?;
        let existed = old.is_some();
        if let Some(bytes) = old {
            let row = self.checked(state, &stored_key, bytes)?;
            totals.remove(row.checksum);
            let value_len = match &row.body {
                Body::Head { len } => {
                    pieces_before = piece_count(*len);
                    *len
                }
                Body::Whole(value) | Body::Piece(value) => value.len(),
            };
            bytes_before = row_bytes(user_key, value_len);
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
                let body = if value.len() > PIECE_BYTES_MAX {
                    for (index, piece) in (0..).zip(value.chunks(PIECE_BYTES_MAX)) {
                        let key = piece_key(user_key, index);
                        let (bytes, _) = Body::Piece(piece.to_vec()).encode(&key, n);
                        ops.push(Op::Put { key, value: bytes });
                    }
                    pieces_now = piece_count(value.len());
                    Body::Head { len: value.len() }
                } else {
                    Body::Whole(value.to_vec())
                };
                let (bytes, checksum) = body.encode(&stored_key, n);
                totals.add(checksum);
                ops.push(Op::Put { key: stored_key, value: bytes });
            }
        }
        ops.extend((pieces_now..pieces_before).map(|index| Op::Delete { key: piece_key(user_key, index) }));
        Ok(growth)
    }
}

impl<E: Engine> Reads for Kv<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let state = self.read()?;
        let stored_key = Space::User.key(key);
        let Some(bytes) = self.noted(self.engine.get(&stored_key))? else {
            return Ok(None);
        };
        let row = self.checked(&state, &stored_key, bytes)?;
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
            let row = self.checked(&state, &stored_key, bytes)?;
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
        let mut totals = state.totals;
        let mut ops = Vec::with_capacity(changes.len() + 2);
        let mut growth = Growth::default();
        for (&key, &value) in &changes {
            growth.count(self.change(&state, n, (key, value), &mut totals, &mut ops)?);
        }
        // The store's own rows of a batch take the place of older ones, and are not the caller's to answer for.
        witness::record(n, &changes, totals, &mut ops);
        self.noted(self.engine.admit(written_bytes(&ops), growth))?;
        self.noted(self.engine.apply(ops))?;
        *state = State { n, totals };
        Ok(())
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
fn last_changes(batch: &Batch) -> Result<BTreeMap<&[u8], Option<&[u8]>>, StorageError> {
    let mut bytes = 0_usize;
    let mut changes = BTreeMap::new();
    for op in batch.ops() {
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
        changes.insert(key, value);
    }
    Ok(changes)
}
