//! What a relay let go before a device had it: told by the relay, shown, and not shown twice.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{Sequence, ThreadId};
use whimbrel_protocol::push::{Gone, LogRef, Push};

use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, Event, Reply};
use crate::views::{self, Page};

/// How many entries it was told are gone, each time.
fn told(world: &World<StandInEngine>, who: usize) -> Vec<(Option<ThreadId>, u64)> {
    let of = |event: &Event| match event {
        Event::Dropped { thread, entries } => Some((*thread, *entries)),
        _ => None,
    };
    world.people[who].events.iter().filter_map(of).collect()
}

/// What is missing in a thread, as its list shows it: by counters, and by the relay's word alone.
fn missing(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> (u64, u64) {
    let thread = views::thread(world.store(who), &thread).unwrap().unwrap();
    (thread.missing, thread.dropped)
}

/// The texts with what is missing just before each, in the same way.
fn marks(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Vec<(String, u64, u64)> {
    let lines = views::messages(world.store(who), &thread, Page::Oldest, 1_000).unwrap();
    lines.into_iter().map(|line| (line.message.text, line.missing_before, line.dropped_before)).collect()
}

fn away(world: &mut World<StandInEngine>, who: usize) {
    world.people[who].online = false;
    world.lose_home(who);
    world.settle();
}

fn back(world: &mut World<StandInEngine>, who: usize) {
    world.people[who].online = true;
    // Too soon for what nobody said to have to be said again.
    world.advance(Duration::from_secs(20));
}

/// All that is in a thread's log is let go.
fn let_go(world: &mut World<StandInEngine>, thread: ThreadId) -> u64 {
    let head = world.relay.threads[&thread].1.len() as u64;
    world.relay.trimmed.insert(LogRef::Thread(thread), Sequence::new(head));
    head
}

/// Texts with nothing missing before them but what is said here.
fn plain(lines: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    lines.iter().map(|(text, missing, dropped)| ((*text).to_owned(), *missing, *dropped)).collect()
}

#[test]
fn t03_what_a_relay_let_go_is_told_once_shown_over_crashes_and_left_to_counters_once_they_show_it() {
    let (mut world, thread) = friends();
    away(&mut world, BOB);
    for text in ["one", "two", "three"] {
        world.say(ALICE, thread, text);
    }
    assert_eq!(let_go(&mut world, thread), 3);
    // Nothing comes again yet, by whatever way.
    world.relay.mute.insert("Submit");
    back(&mut world, BOB);
    assert_eq!(told(&world, BOB), [(Some(thread), 3)]);
    assert_eq!((missing(&world, BOB, thread), marks(&world, BOB, thread)), ((0, 3), vec![]), "no counter shows it");
    // The relay never heard that Bob is beyond, and says it again; his store knows.
    let account = world.people[BOB].account;
    for _ in ["a lost word", "another"] {
        world.crash_now(BOB);
        world.relay.accounts.get_mut(&account).unwrap().cursors.remove(&LogRef::Thread(thread));
        back(&mut world, BOB);
        assert_eq!(told(&world, BOB).len(), 1, "said once");
        assert_eq!(missing(&world, BOB, thread), (0, 3));
    }
    // Alice writes on: her counter shows that three are missing, and nothing says so a second time.
    world.relay.mute.clear();
    world.relay.refuse.clear();
    away(&mut world, BOB);
    world.say(ALICE, thread, "four");
    world.relay.mute.insert("Submit");
    back(&mut world, BOB);
    assert_eq!((missing(&world, BOB, thread), marks(&world, BOB, thread)), ((3, 0), plain(&[("four", 3, 0)])));
    assert_eq!(world.events(BOB, |event| matches!(event, Event::Missing { count: 3, .. })), 1, "and asked for");
    world.relay.mute.clear();
    world.advance(Duration::from_secs(120));
    assert_eq!(world.history(BOB, thread), ["one", "two", "three", "four"], "by the repair there is");
    assert_eq!((missing(&world, BOB, thread), told(&world, BOB).len()), ((0, 0), 1));
}

#[test]
fn what_went_stands_before_what_followed_until_everybody_whose_it_may_be_was_heard() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    for (one, other) in [(BOB, ALICE), (CAROL, ALICE), (CAROL, BOB)] {
        world.befriend(one, other);
    }
    let people = vec![world.people[ALICE].account, world.people[CAROL].account];
    let Ok(Reply::Queued { thread, .. }) = world.ask(BOB, Command::SendTo { people, text: "all".to_owned() }) else {
        panic!("no thread");
    };
    world.advance(Duration::from_secs(10));
    away(&mut world, BOB);
    world.say(ALICE, thread, "one");
    world.say(CAROL, thread, "two");
    world.advance(Duration::from_secs(10));
    let before = world.relay.accounts[&world.people[BOB].account].cursors[&LogRef::Thread(thread)].get();
    let went = let_go(&mut world, thread) - before;
    assert!(went > 2, "their receipts, too: {went}");
    world.say(ALICE, thread, "three");
    world.relay.mute.insert("Submit");
    back(&mut world, BOB);
    // One of Alice's is known to be missing. Of Carol nothing is known.
    let shown = plain(&[("all", 0, 0), ("three", 1, went - 1)]);
    assert_eq!((missing(&world, BOB, thread), marks(&world, BOB, thread)), ((1, went - 1), shown.clone()));
    world.crash_now(BOB);
    assert_eq!(marks(&world, BOB, thread), shown, "it stands in the store");
    world.relay.mute.clear();
    away(&mut world, BOB);
    world.say(CAROL, thread, "four");
    world.relay.mute.insert("Submit");
    back(&mut world, BOB);
    let shown = plain(&[("all", 0, 0), ("three", 1, 0), ("four", 1, 0)]);
    assert_eq!((missing(&world, BOB, thread), marks(&world, BOB, thread)), ((2, 0), shown), "both were heard");
}

#[test]
fn nothing_that_a_device_has_is_gone_for_it_whatever_its_relay_says() {
    let (mut world, thread) = friends();
    for text in ["one", "two"] {
        world.say(ALICE, thread, text);
    }
    world.advance(Duration::from_secs(5));
    let log = LogRef::Thread(thread);
    let place = world.relay.accounts[&world.people[BOB].account].cursors[&log];
    let run =
        |after, gone, upto| Push { log, after, upto, entries: Vec::new(), gone: Some(Gone { after, upto: gone }) };
    world.say_to(BOB, run(Sequence::ZERO, place, place));
    world.settle();
    assert_eq!((told(&world, BOB), missing(&world, BOB, thread)), (vec![], (0, 0)));
    // Partly it has it.
    let beyond = Sequence::new(place.get() + 2);
    world.say_to(BOB, run(Sequence::ZERO, beyond, beyond));
    world.settle();
    assert_eq!((told(&world, BOB), missing(&world, BOB, thread)), (vec![(Some(thread), 2)], (0, 2)));
}

#[test]
fn what_went_before_an_invitation_was_followed_is_told_once_it_was_and_left_to_counters_as_ever() {
    let mut world = world(&["a.example", "a.example"]);
    world.befriend(ALICE, BOB);
    let people = vec![world.people[BOB].account];
    away(&mut world, BOB);
    let created = world.ask(ALICE, Command::CreateGroup { title: String::new(), people }).unwrap();
    let Reply::Group { thread } = created else { panic!("{created:?}") };
    world.advance(Duration::from_secs(5));
    for text in ["one", "two"] {
        world.say(ALICE, thread, text);
    }
    let went = let_go(&mut world, thread);
    world.say(ALICE, thread, "three");
    world.relay.mute.insert("FetchBlob");
    back(&mut world, BOB);
    assert_eq!((told(&world, BOB), world.history(BOB, thread).len()), (vec![], 0), "of no thread that is known");
    world.crash_now(BOB);
    world.relay.mute.clear();
    world.relay.mute.insert("Submit");
    back(&mut world, BOB);
    world.advance(Duration::from_secs(60));
    let opened = |event: &Event| matches!(event, Event::ThreadOpened { .. });
    let dropped = |event: &Event| matches!(event, Event::Dropped { .. });
    let place = |what: &dyn Fn(&Event) -> bool| world.people[BOB].events.iter().position(what);
    assert_eq!(told(&world, BOB), [(Some(thread), went)], "once");
    assert!(place(&opened) < place(&dropped), "of a thread that is known by then");
    assert_eq!(marks(&world, BOB, thread), plain(&[("three", 2, went - 2)]));
}

#[test]
fn what_went_from_an_inbox_is_told_and_is_of_no_thread() {
    let (mut world, thread) = friends();
    world.advance(Duration::from_secs(5));
    let log = LogRef::Inbox;
    let after = world.relay.accounts[&world.people[BOB].account].cursors.get(&log).copied().unwrap_or_default();
    let upto = Sequence::new(after.get() + 4);
    world.say_to(BOB, Push { log, after, upto, entries: Vec::new(), gone: Some(Gone { after, upto }) });
    world.settle();
    assert_eq!((told(&world, BOB), missing(&world, BOB, thread)), (vec![(None, 4)], (0, 0)));
}

/// Nothing of an epoch after the one that ended it comes to whoever is out.
#[test]
fn t06_whoever_was_taken_out_by_changes_that_went_from_the_log_hears_of_them_all_the_same_over_a_crash() {
    for crash in [false, true] {
        let mut world = world(&["a.example"; 3]);
        world.befriend(ALICE, BOB);
        world.befriend(ALICE, CAROL);
        let people = vec![world.people[BOB].account, world.people[CAROL].account];
        let created = world.ask(ALICE, Command::CreateGroup { title: String::new(), people }).unwrap();
        let Reply::Group { thread } = created else { panic!("{created:?}") };
        world.advance(Duration::from_secs(10));
        away(&mut world, BOB);
        // Three changes, of which the last takes him out.
        for _ in 0..2 {
            world.ask(ALICE, Command::RenewKeys { thread }).unwrap();
        }
        let bob = world.people[BOB].account;
        world.ask(ALICE, Command::RemoveMembers { thread, people: vec![bob] }).unwrap();
        world.advance(Duration::from_secs(10));
        let_go(&mut world, thread);
        if crash {
            world.relay.mute.insert("FetchCommit");
        }
        back(&mut world, BOB);
        if crash {
            assert_eq!(world.events(BOB, |event| matches!(event, Event::GroupLeft { .. })), 0);
            world.crash_now(BOB);
            world.relay.mute.remove("FetchCommit");
            world.advance(Duration::from_secs(20));
        }
        assert_eq!(world.events(BOB, |event| matches!(event, Event::GroupLeft { .. })), 1, "crash: {crash}");
        let asked = |world: &World<StandInEngine>| {
            world.relay.heard.iter().filter(|(_, frame)| matches!(frame, Frame::FetchCommit(_))).count()
        };
        let before = asked(&world);
        world.advance(Duration::from_secs(600));
        assert_eq!(asked(&world), before, "all there is was had");
    }
}
