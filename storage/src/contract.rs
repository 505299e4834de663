//! The contract of an ordered store, as tests that every engine runs over itself.
//! Owns: the rules of `Reads` and `OrderedKv` in checkable form. Never: ships; behind the feature `contract`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a broken rule panics with what it found")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{
    BATCH_BYTES_MAX, Batch, Engine, KEY_BYTES_MAX, KEY_END, Op, Order, OrderedKv, PIECE_BYTES_MAX, Reads, Row,
    StorageError, Totals, VALUE_BYTES_MAX,
};

/// An engine under test.
pub trait Fixture {
    /// The store over it.
    type Store: OrderedKv;

    /// A new, empty store; older ones of this fixture are closed.
    fn fresh(&mut self) -> Self::Store;

    /// Syncs and closes the store and opens it again.
    ///
    /// # Errors
    /// The store does not open.
    fn restart(&mut self, store: Self::Store) -> Result<Self::Store, StorageError>;

    /// The engine below the row format, to damage rows.
    fn raw<'s>(&self, store: &'s Self::Store) -> &'s dyn Engine;

    /// Compares the rows with the running totals.
    ///
    /// # Errors
    /// They differ.
    fn verify(&self, store: &Self::Store) -> Result<Totals, StorageError>;
}

/// Runs every rule.
pub fn check<F: Fixture>(fixture: &mut F) {
    check_mapping(fixture);
    large_values_read_back_and_leave_no_pieces(fixture);
    oversize_is_refused_with_nothing_written(fixture);
    damaged_rows_are_named_and_never_read(fixture);
}

/// Runs the rules of a mapping that say nothing of how it is kept: those for what stands above another store.
pub fn check_mapping<F: Fixture>(fixture: &mut F) {
    batch_is_seen_whole_and_its_later_change_wins(&fixture.fresh());
    scans_are_ordered_bounded_and_limited(&fixture.fresh());
    paging_by_last_key_sees_every_row_once(&fixture.fresh());
    empty_keys_and_values_are_rows(fixture);
    store_rows_never_show(&fixture.fresh());
    restart_keeps_what_was_synced(fixture);
}

/// Random batches, restarts between them, against a map; `cases` runs.
pub fn check_against_model<F: Fixture>(fixture: &mut F, cases: u32) {
    let key = prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..4);
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..4 * PIECE_BYTES_MAX).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let change = (key.clone(), prop::option::weighted(0.7, value));
    let step = (prop::collection::vec(change, 0..12), prop::bool::weighted(0.1));
    let plan = (prop::collection::vec(step, 1..12), key.clone(), key, 0..20_usize);
    let cell = std::cell::RefCell::new(fixture);
    // The plan that failed is printed whole; a file of seeds would be one more thing to keep.
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&plan, |(steps, from, to, limit)| {
        let fixture = &mut *cell.borrow_mut();
        let mut store = fixture.fresh();
        let mut model = BTreeMap::new();
        for (changes, restart) in steps {
            let mut batch = Batch::new();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        batch.put(key.clone(), value.clone());
                        model.insert(key, value);
                    }
                    None => {
                        batch.delete(key.clone());
                        model.remove(&key);
                    }
                }
            }
            store.apply(&batch).unwrap();
            if restart {
                store = fixture.restart(store).unwrap();
            }
        }
        prop_assert_eq!(all(&store), model.clone().into_iter().collect::<Vec<Row>>());
        prop_assert_eq!(fixture.verify(&store).unwrap().rows, model.len() as u64);
        for key in [&from, &to] {
            prop_assert_eq!(&store.get(key).unwrap(), &model.get(key).cloned());
        }
        let wanted = |(key, _): &Row| *key >= from && *key < to;
        let forth: Vec<Row> = model.clone().into_iter().filter(wanted).take(limit).collect();
        let back: Vec<Row> = model.into_iter().rev().filter(wanted).take(limit).collect();
        prop_assert_eq!(store.scan(&from, &to, Order::Ascending, limit).unwrap(), forth);
        prop_assert_eq!(store.scan(&from, &to, Order::Descending, limit).unwrap(), back);
        Ok(())
    });
    run.unwrap();
}

fn batch_is_seen_whole_and_its_later_change_wins(store: &impl OrderedKv) {
    let mut batch = Batch::new();
    batch.put(b"a".to_vec(), b"1".to_vec());
    batch.put(b"a".to_vec(), b"2".to_vec());
    batch.put(b"b".to_vec(), b"1".to_vec());
    batch.delete(b"b".to_vec());
    batch.delete(b"c".to_vec());
    batch.put(b"c".to_vec(), b"3".to_vec());
    store.apply(&batch).unwrap();
    assert_eq!(all(store), [(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"3".to_vec())]);
    store.apply(&Batch::new()).unwrap();
    let mut batch = Batch::new();
    batch.delete(b"a".to_vec());
    batch.delete(b"never there".to_vec());
    store.apply(&batch).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"c").unwrap(), Some(b"3".to_vec()));
}

fn scans_are_ordered_bounded_and_limited(store: &impl OrderedKv) {
    let mut batch = Batch::new();
    for key in ["b", "a", "ab", "c", "aa"] {
        batch.put(key.into(), key.into());
    }
    store.apply(&batch).unwrap();
    let keys = |from: &str, to: &str, order, limit| -> Vec<String> {
        let rows = store.scan(from.as_bytes(), to.as_bytes(), order, limit).unwrap();
        rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    };
    assert_eq!(keys("", "z", Order::Ascending, 99), ["a", "aa", "ab", "b", "c"]);
    assert_eq!(keys("", "z", Order::Descending, 99), ["c", "b", "ab", "aa", "a"]);
    assert_eq!(keys("a", "b", Order::Ascending, 99), ["a", "aa", "ab"], "from is in, to is out");
    assert_eq!(keys("a", "b", Order::Descending, 99), ["ab", "aa", "a"]);
    assert_eq!(keys("aaa", "bb", Order::Ascending, 1), ["ab"]);
    assert_eq!(keys("aaa", "bb", Order::Descending, 1), ["b"]);
    assert!(keys("a", "c", Order::Ascending, 0).is_empty());
    assert!(keys("b", "b", Order::Ascending, 9).is_empty());
    assert!(keys("c", "a", Order::Descending, 9).is_empty(), "a range the wrong way round is empty");
    assert!(keys("", "", Order::Ascending, 9).is_empty());
}

fn paging_by_last_key_sees_every_row_once(store: &impl OrderedKv) {
    let mut batch = Batch::new();
    for i in 0..500_u16 {
        batch.put(i.to_be_bytes().to_vec(), i.to_le_bytes().to_vec());
    }
    store.apply(&batch).unwrap();
    for page in [1, 7, 100, 500, 501] {
        let mut seen = Vec::new();
        let mut from = Vec::new();
        loop {
            let rows = store.scan(&from, &KEY_END, Order::Ascending, page).unwrap();
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            seen.extend(rows);
        }
        assert_eq!(seen, all(store), "pages of {page}");
    }
}

fn empty_keys_and_values_are_rows<F: Fixture>(fixture: &mut F) {
    let store = fixture.fresh();
    let mut batch = Batch::new();
    batch.put(vec![], b"nameless".to_vec());
    batch.put(b"silent".to_vec(), vec![]);
    store.apply(&batch).unwrap();
    let store = fixture.restart(store).unwrap();
    assert_eq!(store.get(&[]).unwrap(), Some(b"nameless".to_vec()));
    assert_eq!(store.get(b"silent").unwrap(), Some(vec![]));
    assert_eq!(all(&store).len(), 2);
    let mut batch = Batch::new();
    batch.delete(vec![]);
    store.apply(&batch).unwrap();
    assert_eq!(store.get(&[]).unwrap(), None);
}

fn store_rows_never_show(store: &impl OrderedKv) {
    let longest = vec![0xff; KEY_BYTES_MAX];
    let mut batch = Batch::new();
    for first in 0..=u8::MAX {
        batch.put(vec![first], vec![first; 2 * PIECE_BYTES_MAX]);
    }
    batch.put(longest.clone(), b"last".to_vec());
    store.apply(&batch).unwrap();
    let rows = all(store);
    assert_eq!(rows.len(), 257);
    assert!(rows.iter().take(256).zip(0..=u8::MAX).all(|((key, _), first)| *key == [first]));
    assert_eq!(rows[256].0, longest);
}

fn large_values_read_back_and_leave_no_pieces<F: Fixture>(fixture: &mut F) {
    let mut store = fixture.fresh();
    // Neighbours whose keys continue each other must not touch each other's pieces.
    let (one, two) = (b"k".to_vec(), b"k\0\0".to_vec());
    let value = |len: usize| (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>();
    let sizes = [
        PIECE_BYTES_MAX - 1,
        PIECE_BYTES_MAX,
        PIECE_BYTES_MAX + 1,
        64 * 1024,
        VALUE_BYTES_MAX,
        5 * PIECE_BYTES_MAX,
        0,
        3 * PIECE_BYTES_MAX,
    ];
    let mut batch = Batch::new();
    batch.put(two.clone(), value(2 * PIECE_BYTES_MAX));
    store.apply(&batch).unwrap();
    for size in sizes {
        let mut batch = Batch::new();
        batch.put(one.clone(), value(size));
        store.apply(&batch).unwrap();
        store = fixture.restart(store).unwrap();
        assert!(store.get(&one).unwrap() == Some(value(size)), "value of {size} bytes by get");
        let rows = store.scan(&one, &two, Order::Ascending, 2).unwrap();
        assert!(rows == [(one.clone(), value(size))], "value of {size} bytes by scan");
        let pieces = 2 + if size > PIECE_BYTES_MAX { size.div_ceil(PIECE_BYTES_MAX) } else { 0 };
        assert_eq!(pieces_in(fixture.raw(&store)), pieces, "pieces after a value of {size} bytes");
    }
    let mut batch = Batch::new();
    batch.delete(one.clone());
    store.apply(&batch).unwrap();
    assert_eq!(pieces_in(fixture.raw(&store)), 2, "pieces after the delete");
    assert!(store.get(&two).unwrap() == Some(value(2 * PIECE_BYTES_MAX)), "the neighbour is whole");
}

fn oversize_is_refused_with_nothing_written<F: Fixture>(fixture: &mut F) {
    let store = fixture.fresh();
    let refused = |batch: &Batch, name: &str| match store.apply(batch) {
        Err(StorageError::TooLarge { what, .. }) => assert_eq!(what, name),
        other => assert!(other.is_err(), "{name} was taken"),
    };
    let with = |key: Vec<u8>, value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(b"fits".to_vec(), b"as well".to_vec());
        batch.put(key, value);
        batch
    };
    refused(&with(b"k".to_vec(), vec![0; VALUE_BYTES_MAX + 1]), "a value");
    refused(&with(vec![0; KEY_BYTES_MAX + 1], vec![]), "a key");
    let mut batch = Batch::new();
    for i in 0..=u8::try_from(BATCH_BYTES_MAX / VALUE_BYTES_MAX).unwrap() {
        batch.put(vec![i], vec![0; VALUE_BYTES_MAX]);
    }
    refused(&batch, "a batch");
    assert!(all(&store).is_empty());
    store.apply(&with(vec![0; KEY_BYTES_MAX], b"fits".to_vec())).unwrap();
    assert_eq!(all(&store).len(), 2, "a refusal does not stop the store");
}

fn restart_keeps_what_was_synced<F: Fixture>(fixture: &mut F) {
    let mut store = fixture.fresh();
    for round in 0..5_u8 {
        for i in 0..20 {
            let mut batch = Batch::new();
            batch.put(vec![round, i], vec![i; 300]);
            batch.put(b"head".to_vec(), vec![round, i]);
            store.apply(&batch).unwrap();
        }
        store.sync().unwrap();
        store.sync().unwrap();
        store = fixture.restart(store).unwrap();
        assert_eq!(all(&store).len(), 20 * (usize::from(round) + 1) + 1);
        assert_eq!(store.get(b"head").unwrap(), Some(vec![round, 19]));
    }
}

fn damaged_rows_are_named_and_never_read<F: Fixture>(fixture: &mut F) {
    let store = fixture.fresh();
    let mut batch = Batch::new();
    batch.put(b"small".to_vec(), b"value".to_vec());
    batch.put(b"large".to_vec(), vec![7; 3 * PIECE_BYTES_MAX]);
    batch.put(b"whole".to_vec(), b"fine".to_vec());
    store.apply(&batch).unwrap();
    let raw = fixture.raw(&store);
    let named = |key: &[u8], space: u8, why: &str| {
        let read = store.get(key);
        assert!(matches!(read, Err(StorageError::Damaged { space: s, .. }) if s == space), "{why}: {read:?}");
        assert!(store.scan(key, &KEY_END, Order::Ascending, 1).is_err(), "{why}, by scan");
    };
    for (stored, at_every, user, space) in [
        (b"\x01small".as_slice(), 1, b"small".as_slice(), b's'),
        (b"\x01large", 1, b"large", b'l'),
        (b"\x02large\0\x01", 97, b"large", b'l'),
    ] {
        let good = raw.get(stored).unwrap().unwrap();
        for at in (0..good.len()).step_by(at_every) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            raw.apply(vec![Op::Put { key: stored.to_vec(), value: bad }]).unwrap();
            named(user, space, "a flipped bit");
        }
        raw.apply(vec![Op::Put { key: stored.to_vec(), value: vec![] }]).unwrap();
        named(user, space, "an emptied row");
        raw.apply(vec![Op::Put { key: stored.to_vec(), value: good }]).unwrap();
    }
    raw.apply(vec![Op::Delete { key: b"\x02large\0\x02".to_vec() }]).unwrap();
    named(b"large", b'l', "a missing piece");
    assert_eq!(store.get(b"small").unwrap(), Some(b"value".to_vec()), "mended rows read again");
    assert_eq!(store.get(b"whole").unwrap(), Some(b"fine".to_vec()), "damage elsewhere stops no other row");
}

fn all(store: &impl Reads) -> Vec<Row> {
    store.scan(&[], &KEY_END, Order::Ascending, usize::MAX).unwrap()
}

fn pieces_in(raw: &dyn Engine) -> usize {
    raw.scan(&[2], &[3], Order::Ascending, usize::MAX).unwrap().len()
}
