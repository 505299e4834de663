#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use whimbrel_storage::contract::{self, Fixture};
use whimbrel_storage::{
    Batch, Engine, KEY_END, Kv, MemoryEngine, MemoryKv, Op, Order, OrderedKv, Reads, StorageError, Totals,
};

use super::*;
use crate::chance::Seed;

/// Shapes like those of real rows, over keys that random batches make.
const SHAPES: Shapes = &[&[
    KeyShape { prefix: &[1], head: 1, seen: 1, grows: true },
    KeyShape { prefix: &[0xff], head: 0, seen: 1, grows: false },
    KeyShape { prefix: b"h", head: 2, seen: 2, grows: true },
    KeyShape { prefix: b"mt", head: 2, seen: 1, grows: false },
]];

fn key() -> SealKey {
    SealKey::from_bytes([3; 32])
}

fn chance(n: u8) -> Chance {
    Chance::from_seed(Seed::from_bytes([n; 32]))
}

fn open(disk: &MemoryEngine, n: u8) -> Result<SealedKv<MemoryKv>, StorageError> {
    let below = Kv::open(disk.clone(), None).unwrap();
    SealedKv::open(below, &key(), SHAPES, chance(n), Check::Everything)
}

#[derive(Default)]
struct Sealed {
    disk: MemoryEngine,
    opens: u8,
}

impl Fixture for Sealed {
    type Store = SealedKv<MemoryKv>;

    fn fresh(&mut self) -> Self::Store {
        self.disk = MemoryEngine::new();
        self.opens = 0;
        open(&self.disk, 0).unwrap()
    }

    fn restart(&mut self, store: Self::Store) -> Result<Self::Store, StorageError> {
        store.sync().unwrap();
        drop(store);
        self.disk.crash(0);
        self.opens += 1;
        open(&self.disk, self.opens)
    }

    fn raw<'s>(&self, store: &'s Self::Store) -> &'s dyn Engine {
        store.below().engine()
    }

    fn verify(&self, store: &Self::Store) -> Result<Totals, StorageError> {
        store.check(Check::Everything)?;
        store.below().verify()?;
        Ok(Totals { rows: store.rows(), sum: 0 })
    }
}

#[test]
fn a_sealed_store_is_an_ordered_store() {
    contract::check_mapping(&mut Sealed::default());
}

#[test]
fn a_sealed_store_answers_like_a_map_whatever_the_batches() {
    contract::check_against_model(&mut Sealed::default(), 256);
}

fn store() -> (MemoryEngine, SealedKv<MemoryKv>) {
    let disk = MemoryEngine::new();
    let store = open(&disk, 0).unwrap();
    (disk, store)
}

fn put(store: &SealedKv<MemoryKv>, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value.to_vec());
    store.apply(&batch).unwrap();
}

/// The stored row of a key.
fn stored(store: &SealedKv<MemoryKv>, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let stored = store.keys.stored(key);
    let value = store.below().get(&stored).unwrap().unwrap();
    (stored, value)
}

/// Changes rows below as somebody who knows how the store works, but not the key, would: in batches with all that
/// belongs to them.
fn tamper(disk: &MemoryEngine, ops: Vec<Op>) {
    let below = Kv::open(disk.clone(), None).unwrap();
    let mut batch = Batch::new();
    for op in ops {
        match op {
            Op::Put { key, value } => batch.put(key, value),
            Op::Delete { key } => batch.delete(key),
        }
    }
    below.apply(&batch).unwrap();
}

fn is_altered<T: std::fmt::Debug>(result: Result<T, StorageError>, why: &str) {
    assert!(matches!(result, Err(StorageError::Altered { .. })), "{why}: {result:?}");
}

#[test]
fn nothing_of_a_row_is_in_the_store_below_but_what_orders_it() {
    let (disk, store) = store();
    put(&store, b"hAA\x00\x01author", b"the heron stands");
    put(&store, b"cALICE", b"alice");
    put(&store, b"mtBBptail", b"secret of a group");
    let bytes: Vec<u8> = disk.tamper(|rows| {
        let pairs = rows.iter().flat_map(|(key, value)| [key.clone(), value.clone()]);
        pairs.flatten().collect()
    });
    for hidden in ["the heron", "alice", "ALICE", "author", "secret", "hAA", "tail", "BB"] {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden} shows");
    }
    assert_eq!(store.get(b"cALICE").unwrap().unwrap(), b"alice");
}

#[test]
fn the_same_row_looks_different_each_time_it_is_written() {
    let (_, store) = store();
    put(&store, b"c1", b"same");
    let (_, first) = stored(&store, b"c1");
    put(&store, b"c1", b"same");
    assert_ne!(stored(&store, b"c1").1, first);
}

#[test]
fn another_key_opens_nothing() {
    let (disk, store) = store();
    put(&store, b"c1", b"x");
    drop(store);
    let below = Kv::open(disk, None).unwrap();
    let opened = SealedKv::open(below, &SealKey::from_bytes([4; 32]), SHAPES, chance(1), Check::Guarded);
    is_altered(opened, "another key");
}

#[test]
fn a_changed_cut_or_swapped_row_is_told_to_whoever_reads_it() {
    let (disk, store) = store();
    put(&store, b"c1", b"one");
    put(&store, b"c2", b"two");
    let ((first, one), (second, two)) = (stored(&store, b"c1"), stored(&store, b"c2"));
    let mut changed = one.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut inside = one.clone();
    inside[26] ^= 1;
    let swap = vec![Op::Put { key: first.clone(), value: two }, Op::Put { key: second, value: one.clone() }];
    for (ops, why) in [
        (vec![Op::Put { key: first.clone(), value: inside }], "changed inside"),
        (vec![Op::Put { key: first.clone(), value: changed }], "changed"),
        (vec![Op::Put { key: first.clone(), value: one[..one.len() - 1].to_vec() }], "cut"),
        (vec![Op::Put { key: first.clone(), value: Vec::new() }], "emptied"),
        (swap, "swapped"),
    ] {
        tamper(&disk, ops);
        // The store that was open meanwhile sees it as well as one that is opened again.
        let below = Kv::open(disk.clone(), None).unwrap();
        let keys = Keys::of(&key(), SHAPES);
        let open = SealedKv {
            below,
            keys,
            state: Mutex::new(State { sums: Sums::default(), chance: chance(9) }),
            heads: Mutex::default(),
        };
        is_altered(open.get(b"c1"), why);
        is_altered(open.scan(b"c", b"d", Order::Ascending, 9), why);
        is_altered(self::open(&disk, 9), why);
    }
}

#[test]
fn a_row_that_was_put_back_or_taken_away_is_found_when_the_store_is_opened() {
    for space in [b"c1".as_slice(), b"mtBBp", b"hAA\x00\x01author"] {
        let (disk, store) = store();
        put(&store, space, b"old");
        let (at, old) = stored(&store, space);
        put(&store, space, b"new");
        let (_, new) = stored(&store, space);
        drop(store);
        for (op, why) in [
            (Op::Put { key: at.clone(), value: old.clone() }, "an old row is back"),
            (Op::Delete { key: at.clone() }, "a row is gone"),
        ] {
            tamper(&disk, vec![op]);
            is_altered(open(&disk, 1), why);
            tamper(&disk, vec![Op::Put { key: at.clone(), value: new.clone() }]);
        }
        let whole = open(&disk, 2).unwrap();
        assert_eq!(whole.get(space).unwrap().unwrap(), b"new");
        // A deleted row that comes back.
        let mut batch = Batch::new();
        batch.delete(space.to_vec());
        whole.apply(&batch).unwrap();
        drop(whole);
        tamper(&disk, vec![Op::Put { key: at, value: new }]);
        is_altered(open(&disk, 3), "a deleted row is back");
    }
}

#[test]
fn what_does_not_grow_is_checked_at_every_opening_and_the_rest_when_asked() {
    let (disk, store) = store();
    for n in 0..=255 {
        put(&store, &[b'h', 7, 7, 0, n], b"text");
    }
    put(&store, b"c1", b"x");
    let (at, _) = stored(&store, &[b'h', 7, 7, 0, 9]);
    drop(store);
    tamper(&disk, vec![Op::Delete { key: at }]);
    let guarded = |n| {
        let below = Kv::open(disk.clone(), None).unwrap();
        SealedKv::open(below, &key(), SHAPES, chance(n), Check::Guarded)
    };
    is_altered(guarded(1).unwrap().check(Check::Everything), "a text is gone");
    let (at, _) = stored(&guarded(2).unwrap(), b"c1");
    tamper(&disk, vec![Op::Delete { key: at }]);
    is_altered(guarded(3), "a contact is gone");
}

#[test]
fn missing_sums_are_found() {
    let (disk, store) = store();
    put(&store, b"c1", b"x");
    drop(store);
    tamper(&disk, vec![Op::Delete { key: SUMS_KEY.to_vec() }]);
    is_altered(open(&disk, 1), "no sums");
}

#[test]
fn rows_that_differ_in_hidden_tails_come_in_their_own_order_whatever_the_limit() {
    let (_, store) = store();
    let mut batch = Batch::new();
    let mut keys = Vec::new();
    for seen in 0..3 {
        for author in 0..40_u8 {
            keys.push(vec![b'h', 1, 2, 0, seen, author, 5]);
        }
    }
    keys.iter().for_each(|key| batch.put(key.clone(), key.clone()));
    store.apply(&batch).unwrap();
    for limit in [1, 7, 39, 40, 41, 119, 120, 121] {
        let (mut seen, mut from) = (Vec::new(), b"h".to_vec());
        while let Some((last, _)) = store.scan(&from, b"i", Order::Ascending, limit).unwrap().last() {
            seen.extend(store.scan(&from, b"i", Order::Ascending, limit).unwrap().into_iter().map(|(key, _)| key));
            from = [last.as_slice(), &[0]].concat();
        }
        assert_eq!(seen, keys, "pages of {limit}");
        let (mut seen, mut to) = (Vec::new(), vec![b'h', 1, 3]);
        loop {
            let page = store.scan(&[b'h', 1, 2], &to, Order::Descending, limit).unwrap();
            let Some((last, _)) = page.last() else { break };
            to = last.clone();
            seen.extend(page.into_iter().map(|(key, _)| key));
        }
        seen.reverse();
        assert_eq!(seen, keys, "pages of {limit}, backwards");
    }
}

#[test]
fn a_refused_batch_leaves_sums_and_rows_as_they_were() {
    let (disk, store) = store();
    put(&store, b"c1", b"x");
    disk.fail_next_apply(StorageError::Full);
    let mut batch = Batch::new();
    batch.put(b"c2".to_vec(), b"y".to_vec());
    assert!(matches!(store.apply(&batch), Err(StorageError::Full)));
    let mut large = Batch::new();
    large.put(b"c3".to_vec(), vec![0; SEALED_VALUE_BYTES_MAX + 1]);
    assert!(matches!(store.apply(&large), Err(StorageError::TooLarge { .. })));
    let mut fits = Batch::new();
    fits.put(vec![b'c'; KEY_BYTES_MAX], vec![0; SEALED_VALUE_BYTES_MAX]);
    store.apply(&fits).unwrap();
    store.check(Check::Everything).unwrap();
    assert_eq!(store.scan(&[], &KEY_END, Order::Ascending, 9).unwrap().len(), 2);
}

#[test]
fn batches_that_a_crash_took_back_leave_a_store_that_opens() {
    for keep in 0..=3 {
        let (disk, store) = store();
        put(&store, b"c0", b"kept");
        store.sync().unwrap();
        for n in 0..3 {
            put(&store, b"c1", &[n]);
        }
        drop(store);
        disk.crash(keep);
        let store = open(&disk, 1).unwrap();
        assert_eq!(store.get(b"c1").unwrap(), keep.checked_sub(1).map(|n| vec![u8::try_from(n).unwrap()]));
    }
}
