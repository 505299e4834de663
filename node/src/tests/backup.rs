//! What goes into a backup, what never does, and how it comes back.

use std::time::Duration;

use whimbrel_protocol::message::Target;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{KEY_END, MemoryKv, Order, OrderedKv, Reads};

use super::world::{ALICE, BOB, World, friends};
use crate::api::{Command, State};
use crate::backup::{self, Backup, ReadError};
use crate::rows;
use crate::views::{self, Page};

/// A store with the account of another and nothing else.
fn emptied(of: &MemoryKv) -> MemoryKv {
    let store = MemoryKv::in_memory().unwrap();
    let mut batch = whimbrel_storage::Batch::new();
    batch.put(rows::account_key(), of.get(&rows::account_key()).unwrap().unwrap());
    store.apply(&batch).unwrap();
    store
}

fn restore(backup: &Backup, store: &MemoryKv) {
    let mut from = Some(0);
    while let Some(at) = from {
        let (batch, next) = backup.restore(store, at).unwrap();
        store.apply(&batch).unwrap();
        from = next;
    }
}

pub(super) fn everything(store: &MemoryKv) -> Vec<whimbrel_storage::Row> {
    store.scan(&[], &KEY_END, Order::Ascending, usize::MAX).unwrap()
}

#[test]
fn text_people_and_settings_come_back_and_nobody_is_written_to_with_old_keys() {
    let (mut world, thread) = friends();
    for n in 0..400 {
        world.say(if n % 2 == 0 { ALICE } else { BOB }, thread, &format!("number {n}"));
    }
    let before = world.history(ALICE, thread);
    let bytes = backup::create(world.store(ALICE), Wall::from_millis(7)).unwrap();
    let backup = Backup::read(&bytes).unwrap();
    let summary = backup.summary();
    assert_eq!((summary.account, summary.made), (world.people[ALICE].account, Wall::from_millis(7)));
    assert_eq!((summary.contacts, summary.threads, summary.messages), (1, 1, 400));
    let store = emptied(world.store(ALICE));
    restore(&backup, &store);
    let lines = views::messages(&store, &thread, Page::Oldest, 1_000).unwrap();
    assert_eq!(lines.iter().map(|line| line.message.text.clone()).collect::<Vec<_>>(), before);
    assert_eq!(views::contacts(&store).unwrap(), views::contacts(world.store(ALICE)).unwrap());
    let found = views::thread(&store, &thread).unwrap().unwrap();
    assert_eq!((found.standing, found.unread), (views::Standing::Left, 0));
    // Again, and from the middle, as after an interruption: nothing doubles.
    let once = everything(&store);
    restore(&backup, &store);
    let (batch, _) = backup.restore(&store, 100).unwrap();
    store.apply(&batch).unwrap();
    assert_eq!(everything(&store), once);
}

#[test]
fn no_secret_of_a_group_and_no_key_of_the_device_is_in_a_backup() {
    let (mut world, thread) = friends();
    world.say(ALICE, thread, "hello");
    let store = world.store(ALICE);
    let bytes = backup::create(store, Wall::default()).unwrap();
    let engine = [whimbrel_crypto::engine::ROWS];
    let secrets = store.scan(&engine, &rows::after(&engine), Order::Ascending, usize::MAX).unwrap();
    assert!(secrets.len() > 2);
    for (_, value) in secrets.iter().filter(|(_, value)| value.len() >= 16) {
        assert!(!bytes.windows(value.len()).any(|window| window == value), "a row of the engine");
    }
    let own: rows::AccountRow = rows::get(store, &rows::account_key()).unwrap().unwrap();
    let holds = |key: &[u8; 32]| bytes.windows(32).any(|window| window == key);
    assert!(!holds(&own.device_key) && !holds(&own.transport_key));
    assert!(holds(&own.identity_key.unwrap()), "what signs for the account is");
}

#[test]
fn what_was_said_about_texts_comes_back_and_those_that_go_by_themselves_are_not_kept() {
    let (mut world, thread) = friends();
    let author = world.id(ALICE);
    let of = |world: &mut World<_>, text: &str| Target { message: world.say(ALICE, thread, text), author };
    let (edited, taken_back) = (of(&mut world, "helo"), of(&mut world, "not this"));
    world.ask(ALICE, Command::Edit { of: edited, text: "hello".to_owned() }).unwrap();
    world.ask(ALICE, Command::Unsend { of: taken_back }).unwrap();
    world.ask(BOB, Command::React { to: edited, sign: "+".to_owned(), stands: true }).unwrap();
    world.ask(ALICE, Command::SetTimer { thread, lasts: Duration::from_secs(3_600) }).unwrap();
    let timed = of(&mut world, "gone in an hour");
    world.ask(ALICE, Command::Edit { of: timed, text: "edited, and gone in an hour".to_owned() }).unwrap();
    let bytes = backup::create(world.store(ALICE), Wall::default()).unwrap();
    for gone in ["not this", "gone in an hour"] {
        assert!(!bytes.windows(gone.len()).any(|window| window == gone.as_bytes()), "{gone}");
    }
    let store = emptied(world.store(ALICE));
    restore(&Backup::read(&bytes).unwrap(), &store);
    let seen = |line: views::Line| (line.message.text, line.edited, line.message.unsent, line.reactions.len());
    let lines: Vec<_> = views::messages(&store, &thread, Page::Oldest, 10).unwrap().into_iter().map(seen).collect();
    assert_eq!(lines, [("hello".to_owned(), true, false, 1), (String::new(), false, true, 0)]);
}

#[test]
fn what_waited_to_leave_is_told_as_failed_after_a_restore() {
    let (mut world, thread) = friends();
    world.relay_gone();
    let queued = world.ask(ALICE, Command::Send { thread, text: "later".to_owned() });
    assert!(queued.is_ok());
    let bytes = backup::create(world.store(ALICE), Wall::default()).unwrap();
    let store = emptied(world.store(ALICE));
    restore(&Backup::read(&bytes).unwrap(), &store);
    let lines = views::messages(&store, &thread, Page::Oldest, 10).unwrap();
    assert!(matches!(lines.last().unwrap().state, Some(State::Failed(_))), "{lines:?}");
}

#[test]
fn t62_records_that_are_cut_added_to_or_newer_are_refused() {
    let (mut world, thread) = friends();
    world.say(ALICE, thread, "hello");
    let bytes = backup::create(world.store(ALICE), Wall::default()).unwrap();
    assert!(Backup::read(&bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(Backup::read(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(Backup::read(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Backup::read(&[&bytes[..], &bytes[..]].concat()).is_err());
    // The version is the first value of the first map: [0, [{0: 1, …
    let at = bytes.windows(3).position(|window| window == [0xa4, 0, 1] || window == [0xa3, 0, 1]).unwrap() + 2;
    let mut newer = bytes.to_vec();
    newer[at] = 2;
    assert_eq!(Backup::read(&newer).err(), Some(ReadError::Newer { found: 2 }));
}
