//! What devices say they have, what is said again, and what its author is told.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, DeviceReceipt};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::Hlc;

use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, Event, Reply, SettingsChange, State};
use crate::views::{self, Receipts};

fn receipts(world: &World<StandInEngine>, who: usize, message: MessageId) -> Receipts {
    views::message_receipts(world.store(who), &message).unwrap().unwrap()
}

fn said_by(world: &World<StandInEngine>, who: usize) -> usize {
    world.submits(who).iter().filter(|envelope| envelope.class == Class::Control).count()
}

/// Alice, Bob and Carol in one thread.
fn three() -> (World<StandInEngine>, ThreadId) {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    world.befriend(CAROL, BOB);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let Ok(Reply::Queued { thread, .. }) = world.ask(ALICE, Command::SendTo { people, text: "all".to_owned() }) else {
        panic!("no thread");
    };
    world.advance(Duration::from_secs(10));
    (world, thread)
}

#[test]
fn a_message_is_delivered_when_the_other_device_says_so_and_many_take_one_word() {
    let (mut world, thread) = friends();
    let messages: Vec<_> = (0..10).map(|n| world.say(ALICE, thread, &n.to_string())).collect();
    for message in &messages {
        assert_eq!(world.state(ALICE, *message), Some(State::Stored));
    }
    world.advance(limits::RECEIPT_DELAY_MIN / 2);
    assert_eq!(said_by(&world, BOB), 0, "when it leaves tells nothing of when they came");
    world.advance(limits::RECEIPT_DELAY_MAX);
    assert_eq!(said_by(&world, BOB), 1);
    for message in messages {
        assert_eq!(world.state(ALICE, message), Some(State::Delivered));
        assert_eq!(receipts(&world, ALICE, message), Receipts { delivered: 1, read: 0, of: 1 });
    }
    // Nothing is owed any more: neither a receipt for a receipt, nor a message said again.
    world.relay.heard.clear();
    world.advance(limits::RESEND_AFTER_MIN * 2);
    assert!(world.submits(ALICE).is_empty() && world.submits(BOB).is_empty());
}

#[test]
fn in_a_thread_of_three_each_speaks_for_itself() {
    let (mut world, thread) = three();
    world.people[CAROL].online = false;
    world.lose_home(CAROL);
    let message = world.say(ALICE, thread, "who is there?");
    world.advance(Duration::from_secs(10));
    assert_eq!(receipts(&world, ALICE, message), Receipts { delivered: 1, read: 0, of: 2 });
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    world.people[CAROL].online = true;
    world.advance(limits::RELAY_BACKOFF_MAX + Duration::from_secs(10));
    assert_eq!(receipts(&world, ALICE, message), Receipts { delivered: 2, read: 0, of: 2 });
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Receipt { of: 2, .. })), 4);
}

/// T04: the relay acknowledges, and then loses the envelope.
#[test]
fn t04_what_a_relay_took_and_lost_is_said_again_under_its_id_and_shown_once() {
    let (mut world, thread) = friends();
    world.people[BOB].online = false;
    world.lose_home(BOB);
    let message = world.say(ALICE, thread, "do not lose this");
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    world.relay.threads.get_mut(&thread).unwrap().1.pop();
    world.people[BOB].online = true;
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert!(world.shown(BOB).is_empty());
    world.advance(limits::RESEND_AFTER_MIN + Duration::from_secs(10));
    assert_eq!(world.shown(BOB), ["do not lose this"]);
    assert_eq!(world.people[BOB].shown[0].message, message);
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    world.advance(limits::RESEND_AFTER_MIN * 20);
    assert_eq!((world.shown(BOB).len(), world.history(ALICE, thread).len()), (1, 1));
}

/// T04, when nothing helps.
#[test]
fn t04_what_nobody_ever_said_to_have_is_not_delivered_within_the_time_for_that() {
    let (mut world, thread) = friends();
    world.kill(BOB);
    let message = world.say(ALICE, thread, "hello?");
    world.relay_gone();
    world.advance(limits::MESSAGE_AGE_MAX - Duration::from_secs(600));
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    // A clock that jumps makes nothing older than it is.
    world.now.wall = whimbrel_protocol::time::Wall::from_millis(world.now.wall.as_millis() + 400 * 86_400_000);
    world.advance(Duration::from_secs(300));
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    world.advance(Duration::from_secs(600));
    assert_eq!(world.state(ALICE, message), Some(State::Failed(RefusalCode::Expired)));
    // It comes to light after all.
    world.open(BOB);
    world.relay_back();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.shown(BOB), ["hello?"]);
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
}

/// The tries come a week apart by then, and the author does not wait for the next.
#[test]
fn t04_the_author_is_told_when_the_time_is_over_and_not_with_the_next_try() {
    for restarts in [false, true] {
        let (mut world, thread) = friends();
        world.kill(BOB);
        let message = world.say(ALICE, thread, "hello?");
        world.advance(limits::MESSAGE_AGE_MAX - Duration::from_secs(600));
        assert_eq!(world.state(ALICE, message), Some(State::Stored));
        if restarts {
            world.crash_now(ALICE);
            world.settle();
        }
        // A clock that jumps makes nothing older than it is.
        world.now.wall = whimbrel_protocol::time::Wall::from_millis(world.now.wall.as_millis() + 400 * 86_400_000);
        world.advance(Duration::from_secs(300));
        assert_eq!(world.state(ALICE, message), Some(State::Stored), "restarts: {restarts}");
        world.advance(Duration::from_secs(600));
        assert_eq!(world.state(ALICE, message), Some(State::Failed(RefusalCode::Expired)), "restarts: {restarts}");
    }
}

/// A device that is on for a moment now and then is never on when the next try is due.
#[test]
fn t04_what_became_due_while_a_device_was_off_is_said_again_as_soon_as_its_relay_lets_it_in() {
    let (mut world, thread) = friends();
    world.kill(BOB);
    world.say(ALICE, thread, "hello?");
    world.advance(Duration::from_secs(12 * 3_600));
    let said = world.submits(ALICE).len();
    assert!(said > 4, "{said}: the tries are not far apart yet");
    world.kill(ALICE);
    let days = Duration::from_secs(3 * 24 * 3_600);
    world.now.monotonic = world.now.monotonic.plus(days);
    world.now.wall = whimbrel_protocol::time::Wall::from_millis(world.now.wall.as_millis() + days.as_millis() as u64);
    world.open(ALICE);
    world.advance(Duration::from_secs(30));
    assert_eq!(world.submits(ALICE).len(), said + 1);
    // Once, not with each link.
    world.lose_home(ALICE);
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert_eq!(world.submits(ALICE).len(), said + 1);
}

/// What she writes before the relay lets her in goes first, and what was due not a week later.
#[test]
fn t04_what_became_due_while_a_device_was_off_is_said_again_soon_even_if_its_owner_writes_before_the_relay_lets_it_in()
{
    let (mut world, thread) = friends();
    world.kill(BOB);
    world.say(ALICE, thread, "hello?");
    world.advance(Duration::from_secs(12 * 3_600));
    let said = world.submits(ALICE).len();
    world.kill(ALICE);
    let days = Duration::from_secs(3 * 24 * 3_600);
    world.now.monotonic = world.now.monotonic.plus(days);
    world.now.wall = whimbrel_protocol::time::Wall::from_millis(world.now.wall.as_millis() + days.as_millis() as u64);
    world.relay_gone_for(ALICE);
    world.open(ALICE);
    world.say(ALICE, thread, "are you there?");
    world.relay_back_for(ALICE);
    world.advance(limits::RESEND_AFTER_MIN + Duration::from_secs(60));
    let ids: std::collections::BTreeSet<_> = world.submits(ALICE)[said..].iter().map(|one| one.id()).collect();
    assert_eq!(ids.len(), 3, "what she wrote, and both again");
}

#[test]
fn a_receipt_that_was_lost_is_given_again_when_the_message_comes_again() {
    let (mut world, thread) = friends();
    world.say(BOB, thread, "first");
    world.advance(Duration::from_secs(10));
    let message = world.say(ALICE, thread, "once");
    let log = world.relay.threads[&thread].1.len();
    world.people[ALICE].online = false;
    world.lose_home(ALICE);
    world.advance(Duration::from_secs(10));
    // Bob's word is in the log, and the relay loses it before Alice is back.
    assert_eq!(world.relay.threads[&thread].1.len(), log + 1);
    let entries = &mut world.relay.threads.get_mut(&thread).unwrap().1;
    entries[log] = entries[0].clone();
    world.people[ALICE].online = true;
    world.advance(limits::RESEND_AFTER_MIN + limits::RELAY_BACKOFF_MAX);
    world.advance(Duration::from_secs(10));
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    assert_eq!(world.shown(BOB), ["once"]);
}

#[test]
fn what_somebody_read_is_told_only_when_they_wish_it() {
    let (mut world, thread) = friends();
    let read = |world: &mut World<StandInEngine>, text: &str| {
        let message = world.say(ALICE, thread, text);
        world.ask(BOB, Command::MarkRead { thread, upto: message }).unwrap();
        world.advance(Duration::from_secs(10));
        receipts(world, ALICE, message)
    };
    let (silent, told) = (Receipts { delivered: 1, read: 0, of: 1 }, Receipts { delivered: 1, read: 1, of: 1 });
    assert_eq!(read(&mut world, "unasked"), silent);
    let set = |tells| Command::SetThread { thread, change: SettingsChange::ReadReceipts(tells) };
    world.ask(BOB, set(Some(true))).unwrap();
    assert_eq!(read(&mut world, "in this chat"), told);
    world.ask(BOB, set(None)).unwrap();
    assert_eq!(read(&mut world, "no more"), silent);
    world.people[BOB].config.read_receipts = true;
    world.crash_now(BOB);
    world.advance(Duration::from_secs(5));
    assert_eq!(read(&mut world, "everywhere"), told);
    world.ask(BOB, set(Some(false))).unwrap();
    assert_eq!(read(&mut world, "but here"), silent);
}

#[test]
fn a_message_that_was_delivered_before_it_was_read_is_told_to_be_read_later() {
    let (mut world, thread) = friends();
    world.people[BOB].config.read_receipts = true;
    world.crash_now(BOB);
    world.advance(Duration::from_secs(5));
    let message = world.say(ALICE, thread, "hello");
    world.advance(Duration::from_secs(10));
    assert_eq!(receipts(&world, ALICE, message).read, 0);
    world.ask(BOB, Command::MarkRead { thread, upto: message }).unwrap();
    world.crash_now(BOB);
    world.advance(Duration::from_secs(20));
    assert_eq!(receipts(&world, ALICE, message), Receipts { delivered: 1, read: 1, of: 1 });
}

#[test]
fn a_word_about_what_was_not_for_its_author_or_is_not_known_changes_nothing() {
    let (mut world, thread) = three();
    let pair = views::find_thread(world.store(ALICE), &[world.people[BOB].account]).unwrap().unwrap();
    world.people[BOB].online = false;
    world.lose_home(BOB);
    let message = world.say(ALICE, pair, "for Bob alone");
    let body = Body::Receipt(DeviceReceipt { read: true, messages: vec![message, MessageId::from_bytes([7; 16])] });
    let content = Content::new(MessageId::from_bytes([8; 16]), Hlc { millis: 1, count: 0 }, body);
    let envelope = seal_as(&mut world, CAROL, thread, &[&encode_words(&content)]).remove(0);
    let carol = world.id(CAROL);
    world.inject(thread, carol, envelope);
    world.advance(Duration::from_secs(10));
    assert_eq!(receipts(&world, ALICE, message), Receipts { delivered: 0, read: 0, of: 1 });
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
}

#[test]
fn nobody_who_is_no_contact_any_more_is_told_what_came() {
    let (mut world, thread) = friends();
    world.say(ALICE, thread, "still friends?");
    assert_eq!(world.shown(BOB), ["still friends?"]);
    let account = world.people[ALICE].account;
    world.ask(BOB, Command::RemoveFriend(account)).unwrap();
    world.advance(Duration::from_secs(15));
    assert_eq!(said_by(&world, BOB), 0);
}
