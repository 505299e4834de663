//! Entries of an epoch that nothing leads to, and a relay that keeps to itself what leads to one.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::hub::{Accepted, Committed};
use whimbrel_protocol::id::{Epoch, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Class, Envelope};
use whimbrel_protocol::time::Hlc;

use super::groups::group;
use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, World};
use crate::api::{Command, Event, Reply};
use crate::rows::{self, Space};
use crate::views::Standing;

const DAVE: usize = 3;

/// What nobody sealed, of an epoch that the thread is not in.
fn invented(thread: ThreadId, epoch: u64, n: u64) -> Envelope {
    let body = [b"never".repeat(40), n.to_be_bytes().to_vec()].concat();
    Envelope { thread, epoch: Epoch::new(epoch), class: Class::Message, body }
}

fn parked(world: &World<StandInEngine>, who: usize) -> usize {
    let mut count = 0;
    rows::each(world.store(who), &rows::space(Space::Parked), |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count
}

fn unreadable(world: &World<StandInEngine>, who: usize) -> usize {
    world.events(who, |event| matches!(event, Event::Unreadable { .. }))
}

/// A commit of a thread as the relay has it, and the same as if it were of another epoch.
fn commit_of(world: &World<StandInEngine>, thread: ThreadId, epoch: u64) -> Accepted {
    let log = &world.relay.threads[&thread].1;
    let newest = log.iter().rev().find_map(|body| match body {
        EntryBody::Commit(accepted) => Some(accepted.clone()),
        _ => None,
    });
    let mut accepted = newest.unwrap();
    accepted.commit.epoch = Epoch::new(epoch);
    accepted
}

#[test]
fn an_entry_of_an_epoch_that_nothing_leads_to_holds_up_a_group_for_a_minute_at_most() {
    for epoch in [2, 1_000, u64::MAX] {
        let (mut world, thread) = group();
        let author = world.id(CAROL);
        world.inject(thread, author, invented(thread, epoch, 0));
        for (who, text) in [(ALICE, "one"), (CAROL, "two")] {
            world.say(who, thread, text);
            world.advance(Duration::from_secs(1));
        }
        assert_eq!(world.history(BOB, thread), [""; 0], "{epoch}: the change may be on its way");
        world.advance(Duration::from_secs(60));
        assert_eq!(world.history(BOB, thread), ["one", "two"], "{epoch}");
        // From then on nothing waits for it, nor for the next, nor for a change of such an epoch.
        world.inject(thread, author, invented(thread, epoch, 1));
        world.say(CAROL, thread, "three");
        assert_eq!(world.history(BOB, thread), ["one", "two", "three"], "{epoch}");
        assert_eq!((parked(&world, BOB), unreadable(&world, BOB)), (2, 0), "{epoch}");
        // The group changes, and what comes by a direct link is taken.
        assert_eq!(world.ask(ALICE, Command::RenewKeys { thread }), Ok(Reply::Done));
        world.say(ALICE, thread, "four");
        world.advance(Duration::from_secs(60));
        assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 3)), "{epoch}");
        assert_eq!(world.history(BOB, thread), ["one", "two", "three", "four"], "{epoch}");
        // After a start it may be on its way again.
        world.crash_now(BOB);
        world.advance(Duration::from_secs(60));
        let people = world.people(&[DAVE]);
        assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
        world.say(CAROL, thread, "five");
        world.advance(Duration::from_secs(60));
        for who in [ALICE, BOB, CAROL] {
            assert_eq!(world.stands(who, thread), Some((Standing::Open, 3, 4)), "{epoch}: {who}");
            assert_eq!(world.history(who, thread).last().map(String::as_str), Some("five"), "{epoch}: {who}");
        }
    }
}

#[test]
fn a_change_of_an_epoch_that_nothing_leads_to_holds_up_nothing_for_good_either() {
    let (mut world, thread) = group();
    assert_eq!(world.ask(ALICE, Command::RenewKeys { thread }), Ok(Reply::Done));
    let invented = EntryBody::Commit(commit_of(&world, thread, 1_000));
    for text in ["one", "two"] {
        world.relay.threads.get_mut(&thread).unwrap().1.push(invented.clone());
        world.push_all();
        world.settle();
        world.say(CAROL, thread, text);
        world.advance(Duration::from_secs(60));
    }
    assert_eq!(world.history(BOB, thread), ["one", "two"]);
    // It is what the relay answers with when it is asked for what is between, too.
    let asked = |world: &World<StandInEngine>| {
        world.relay.heard.iter().filter(|(who, frame)| *who == BOB && frame.name() == "FetchCommit").count()
    };
    world.crash_now(BOB);
    world.relay.mute.insert("FetchCommit");
    let before = asked(&world);
    for _ in 0..6 {
        for _ in 0..10 {
            answer_with(&mut world, &invented);
        }
        world.advance(Duration::from_secs(10));
    }
    assert!(asked(&world) - before < 10, "{} times, each at once", asked(&world) - before);
    world.say(CAROL, thread, "three");
    assert_eq!(world.history(BOB, thread), ["one", "two", "three"]);
}

/// Answers the newest request of Bob's for a commit with this one.
fn answer_with(world: &mut World<StandInEngine>, body: &EntryBody) {
    let newest = world.relay.heard.iter().rev().find_map(|(who, frame)| match frame {
        whimbrel_protocol::Frame::FetchCommit(words) if *who == BOB => Some(words.request),
        _ => None,
    });
    let (Some(request), EntryBody::Commit(accepted)) = (newest, body.clone()) else { return };
    world.say_to(BOB, Committed { request, accepted: Box::new(accepted) });
    world.settle();
}

#[test]
fn what_is_genuine_and_ahead_is_shown_once_the_change_is_given_and_what_is_behind_it_before() {
    let (mut world, thread) = group();
    let hlc = Hlc::default().tick(world.now.wall);
    let late = Content::new(MessageId::from_bytes([9; 16]), hlc, Body::Text("from before".to_owned()));
    let late = seal_as(&mut world, CAROL, thread, &[&encode_words(&late)]).remove(0);
    let author = world.id(CAROL);
    world.kill(CAROL);
    let bob = world.people[BOB].account;
    world.relay.hide_commits_from.insert(bob);
    world.relay.refuse.insert("FetchCommit", (RefusalCode::NotFound, None));
    assert_eq!(world.ask(ALICE, Command::RenewKeys { thread }), Ok(Reply::Done));
    for text in ["ahead", "and more"] {
        world.say(ALICE, thread, text);
    }
    world.inject(thread, author, late);
    world.advance(Duration::from_secs(300));
    assert_eq!(world.history(BOB, thread), ["from before"]);
    assert!(parked(&world, BOB) >= 2, "and what Alice said again");
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(70));
    assert_eq!(world.shown(BOB), ["from before", "ahead", "and more"]);
    assert_eq!((parked(&world, BOB), unreadable(&world, BOB)), (0, 0));
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 3)));
}

#[test]
fn of_what_is_invented_a_bounded_number_waits_and_no_other_thread_is_without_room_for_it() {
    let (mut world, thread) = group();
    let author = world.id(CAROL);
    let many = 3 * limits::PUSH_ENTRIES_MAX as u64;
    for round in 0..2 {
        let log = &mut world.relay.threads.get_mut(&thread).unwrap().1;
        log.extend((0..many).map(|n| EntryBody::Envelope(author, invented(thread, 1_000, round * many + n))));
        world.push_all();
        world.settle();
        world.say(CAROL, thread, &format!("behind {round}"));
        world.advance(Duration::from_secs(60));
        assert_eq!(parked(&world, BOB), limits::AHEAD_ENTRIES_MAX, "{round}");
        assert_eq!(unreadable(&world, BOB) as u64, (round + 1) * many - limits::AHEAD_ENTRIES_MAX as u64, "{round}");
    }
    assert_eq!(world.history(BOB, thread), ["behind 0", "behind 1"]);
}
