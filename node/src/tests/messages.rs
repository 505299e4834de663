//! Texts: order, dedup, acknowledgement, outbox, read marks.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{EnvelopeId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{Entry, EntryBody, LogRef, Push, Undelivered};
use whimbrel_protocol::refusal::RefusalCode;

use super::siblings::two_devices;
use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, CommandError, Event, Path, Reply, State};
use crate::views::{self, Page, Place};

#[test]
fn messages_are_shown_once_and_in_order() {
    let (mut world, thread) = friends();
    let texts: Vec<String> = (0..20).map(|n| format!("number {n}")).collect();
    for (n, text) in texts.iter().enumerate() {
        world.say(if n % 2 == 0 { ALICE } else { BOB }, thread, text);
        world.advance(Duration::from_millis(3));
    }
    for who in [ALICE, BOB] {
        assert_eq!(world.history(who, thread), texts);
        assert_eq!(world.shown(who).len(), 10);
    }
}

#[test]
fn the_path_tells_whether_two_relays_were_needed() {
    for (domains, path) in [(["a.example", "a.example"], Path::Relay), (["a.example", "b.example"], Path::Federation)] {
        let mut world = world(&domains);
        let thread = world.befriend(BOB, ALICE);
        world.say(ALICE, thread, "hello");
        assert_eq!(world.people[BOB].shown[0].path, Some(path));
    }
}

#[test]
fn a_text_must_not_be_empty_or_too_long() {
    let (mut world, thread) = friends();
    for text in [String::new(), "x".repeat(limits::TEXT_BYTES_MAX + 1)] {
        let found = text.len();
        let refused = world.ask(ALICE, Command::Send { thread, text }).unwrap_err();
        assert_eq!(refused, CommandError::Text { found, max: limits::TEXT_BYTES_MAX });
    }
    world.say(ALICE, thread, &"x".repeat(limits::TEXT_BYTES_MAX));
    assert_eq!(world.shown(BOB)[0].len(), limits::TEXT_BYTES_MAX);
}

#[test]
fn an_entry_pushed_again_is_dropped_and_acknowledged_again() {
    let (mut world, thread) = friends();
    world.say(BOB, thread, "once");
    world.advance(Duration::from_secs(1));
    let account = world.people[ALICE].account;
    let cursors = std::mem::take(&mut world.relay.accounts.get_mut(&account).unwrap().cursors);
    assert_eq!(cursors.len(), 2, "inbox and thread");
    world.lose_home(ALICE);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.shown(ALICE), ["once"]);
    // What Alice's device said of it meanwhile is in the log, too.
    let again = &world.relay.accounts[&account].cursors;
    assert!(again.len() == 2 && cursors.iter().all(|(log, cursor)| again[log] >= *cursor), "{again:?}");
}

#[test]
fn nothing_is_acknowledged_that_this_link_has_not_pushed() {
    let (mut world, thread) = friends();
    for text in ["one", "two", "three"] {
        world.say(BOB, thread, text);
    }
    world.relay.mute.insert("Push");
    world.lose_home(ALICE);
    world.advance(Duration::from_secs(5));
    let log = LogRef::Thread(thread);
    let body = world.relay.threads[&thread].1[0].clone();
    let row = world.relay.accounts.get_mut(&world.people[ALICE].account).unwrap();
    row.pushed.insert(log, Sequence::new(1));
    // All three are durable here; the relay lost its cursor and begins anew, one by one.
    let entries = vec![Entry { sequence: Sequence::new(1), body }];
    world.say_to(ALICE, Push { log, after: Sequence::ZERO, upto: Sequence::new(1), entries, gone: None });
    world.relay.heard.clear();
    world.advance(limits::ACK_DELAY);
    let acknowledged = world.relay.heard.iter().any(|(_, frame)| matches!(frame, Frame::Acknowledge(_)));
    assert!(acknowledged, "and what it pushes is");
    assert_eq!(world.shown(ALICE), ["one", "two", "three"]);
}

#[test]
fn acknowledgements_wait_for_company() {
    let (mut world, thread) = friends();
    world.advance(Duration::from_secs(1));
    let acks = |world: &super::world::World<_>| {
        let heard: &Vec<(usize, Frame)> = &world.relay.heard;
        heard.iter().filter(|(who, frame)| *who == BOB && matches!(frame, Frame::Acknowledge(_))).count()
    };
    let before = acks(&world);
    for n in 0..10 {
        world.say(ALICE, thread, &n.to_string());
    }
    assert_eq!(acks(&world), before);
    world.advance(limits::ACK_DELAY);
    assert_eq!(acks(&world), before + 1);
    for n in 0..limits::ACK_ENTRIES {
        world.say(ALICE, thread, &n.to_string());
    }
    assert_eq!(acks(&world), before + 2, "many do not wait");
}

#[test]
fn the_outbox_survives_a_restart_in_order_and_sends_the_same_bytes() {
    let (mut world, thread) = friends();
    world.relay.mute.insert("Submit");
    let texts: Vec<String> = (0..5).map(|n| format!("number {n}")).collect();
    for text in &texts {
        world.say(ALICE, thread, text);
    }
    let sent: Vec<_> = world.submits(ALICE).into_iter().cloned().collect();
    assert_eq!(sent.len(), 5);
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 5);
    world.crash_now(ALICE);
    world.relay.mute.clear();
    world.relay.heard.clear();
    world.advance(Duration::from_secs(5));
    assert_eq!(world.shown(BOB), texts);
    assert_eq!(world.submits(ALICE).into_iter().cloned().collect::<Vec<_>>(), sent);
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

#[test]
fn no_more_than_a_window_is_unacknowledged() {
    let (mut world, thread) = friends();
    world.relay_gone();
    let count = limits::AUTHOR_WINDOW + 10;
    for n in 0..count {
        world.say(ALICE, thread, &n.to_string());
    }
    world.relay.mute.insert("Submit");
    world.relay.up = true;
    world.advance(Duration::from_secs(9));
    let mut ids: Vec<_> = world.submits(ALICE).iter().map(|envelope| envelope.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), limits::AUTHOR_WINDOW);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.shown(BOB).len(), count);
    assert_eq!(world.history(BOB, thread), world.history(ALICE, thread));
}

#[test]
fn a_link_is_not_flooded_by_many_threads() {
    let mut world = world(&["a.example", "a.example", "a.example", "a.example"]);
    let threads = [BOB, super::world::CAROL, 3].map(|who| world.befriend(who, ALICE));
    world.relay_gone();
    for n in 0..limits::AUTHOR_WINDOW {
        for thread in threads {
            world.say(ALICE, thread, &n.to_string());
        }
    }
    world.relay.mute.insert("Submit");
    world.relay.up = true;
    world.advance(Duration::from_secs(9));
    let mut ids: Vec<_> = world.submits(ALICE).iter().map(|envelope| envelope.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), limits::SUBMITS_MAX);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    for who in 1..4 {
        assert_eq!(world.shown(who).len(), limits::AUTHOR_WINDOW);
    }
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

#[test]
fn a_refusal_for_now_is_tried_again_and_one_for_good_is_told() {
    let (mut world, thread) = friends();
    world.relay.refuse.insert("Submit", (RefusalCode::Full, Some(2_000)));
    let message = world.say(ALICE, thread, "first");
    assert_eq!(world.state(ALICE, message), Some(State::Queued));
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(3));
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    world.relay.refuse.insert("Submit", (RefusalCode::TooLarge, None));
    let message = world.say(ALICE, thread, "second");
    assert_eq!(world.state(ALICE, message), Some(State::Failed(RefusalCode::TooLarge)));
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

/// The relay says that another one will not have something.
fn tell_undelivered(world: &mut World<StandInEngine>, who: usize, words: Undelivered) {
    let account = world.people[who].account;
    world.relay.accounts.get_mut(&account).unwrap().inbox.push(EntryBody::Undelivered(words));
    world.push_all();
    world.settle();
}

#[test]
fn what_another_relay_refused_is_failed_and_stays_so() {
    let mut world = world(&["a.example", "b.example"]);
    let thread = world.befriend(BOB, ALICE);
    let (message, other) = (world.say(ALICE, thread, "lost"), world.say(ALICE, thread, "arrived"));
    let envelopes = vec![world.submits(ALICE)[0].id(), EnvelopeId::from_bytes([9; 32])];
    let (domain, code) = ("b.example".parse().unwrap(), RefusalCode::NotFound);
    let words = Undelivered { thread, domain, code, envelopes };
    for _ in ["once", "told again"] {
        tell_undelivered(&mut world, ALICE, words.clone());
        for _ in ["before a restart", "after it"] {
            assert_eq!(world.state(ALICE, message), Some(State::Failed(code)));
            assert_eq!(world.state(ALICE, other), Some(State::Stored));
            world.crash_now(ALICE);
            world.settle();
        }
    }
    let failed = Event::State { thread, message, state: State::Failed(code) };
    assert_eq!(world.events(ALICE, |event| *event == failed), 1, "told once");
    let line = views::messages(world.store(ALICE), &thread, Page::Oldest, 1).unwrap().remove(0);
    assert_eq!((line.message.text.as_str(), line.state), ("lost", Some(State::Failed(code))));
}

#[test]
fn in_a_group_it_is_told_who_does_not_have_a_message() {
    let mut world = world(&["a.example", "a.example", "c.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let reply = world.ask(ALICE, Command::SendTo { people, text: "hello".to_owned() }).unwrap();
    let Reply::Queued { thread, message } = reply else { panic!("{reply:?}") };
    let envelopes = vec![world.submits(ALICE)[0].id()];
    let (domain, code) = ("c.example".parse().unwrap(), RefusalCode::NoConsent);
    tell_undelivered(&mut world, ALICE, Undelivered { thread, domain, code, envelopes: envelopes.clone() });
    let missing = vec![world.people[CAROL].account];
    assert_eq!(world.state(ALICE, message), Some(State::Partial { code, missing }));
    // Bob's copy went his way; when no relay has it, nobody has it.
    assert_eq!(world.shown(BOB), ["hello"]);
    let domain = "a.example".parse().unwrap();
    tell_undelivered(&mut world, ALICE, Undelivered { thread, domain, code, envelopes });
    assert_eq!(world.state(ALICE, message), Some(State::Failed(code)));
}

#[test]
fn what_the_own_relay_gave_up_is_missing_to_whom_has_not_said_to_have_it() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let Ok(Reply::Queued { thread, .. }) = world.ask(ALICE, Command::SendTo { people, text: "first".to_owned() })
    else {
        panic!("not sent")
    };
    world.relay_gone_for(CAROL);
    let reply = world.ask(ALICE, Command::Send { thread, text: "while she is away".to_owned() }).unwrap();
    let Reply::Queued { message, .. } = reply else { panic!("{reply:?}") };
    let envelopes = vec![world.submits(ALICE).last().unwrap().id()];
    // Long enough for Bob to say that he has it.
    world.advance(Duration::from_secs(60));
    assert_eq!(world.shown(BOB).last(), Some(&"while she is away"));
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
    let (domain, code) = ("a.example".parse().unwrap(), RefusalCode::Full);
    let words = Undelivered { thread, domain, code, envelopes };
    for _ in ["once", "told again"] {
        tell_undelivered(&mut world, ALICE, words.clone());
        let missing = vec![world.people[CAROL].account];
        assert_eq!(world.state(ALICE, message), Some(State::Partial { code, missing }));
    }
    // She is given it all the same, and says so.
    world.relay_back_for(CAROL);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.shown(CAROL).last(), Some(&"while she is away"));
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    tell_undelivered(&mut world, ALICE, words);
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
}

#[test]
fn what_the_own_relay_gave_up_for_a_device_that_is_away_has_not_failed_for_who_has_it_on_another() {
    for (owner, writer) in [(ALICE, ALICE), (ALICE, BOB)] {
        let (mut world, thread, phone) = two_devices();
        world.relay_gone_for(phone);
        let message = world.say(writer, thread, "on one of two");
        let envelopes = vec![world.submits(writer).last().unwrap().id()];
        world.advance(Duration::from_secs(60));
        assert_eq!(world.state(writer, message), Some(State::Stored));
        let (domain, code): (whimbrel_protocol::id::Domain, _) = ("a.example".parse().unwrap(), RefusalCode::Expired);
        let words = Undelivered { thread, domain, code, envelopes };
        tell_undelivered(&mut world, writer, words.clone());
        assert_eq!(world.state(writer, message), Some(State::Stored), "{writer}");
        assert_eq!(world.events(writer, |event| matches!(event, Event::State { state: State::Failed(_), .. })), 0);
        // Where nobody has it, it has.
        world.relay_gone_for(owner);
        let other = if writer == ALICE { BOB } else { ALICE };
        world.relay_gone_for(other);
        world.relay_back_for(writer);
        let message = world.say(writer, thread, "on none");
        let envelopes = vec![world.submits(writer).last().unwrap().id()];
        tell_undelivered(&mut world, writer, Undelivered { envelopes, ..words });
        assert_eq!(world.state(writer, message), Some(State::Failed(code)), "{writer}");
    }
}

#[test]
fn a_thread_the_other_relay_will_not_have_is_at_its_end_and_another_can_be_made() {
    let mut world = world(&["a.example", "b.example"]);
    let thread = world.befriend(BOB, ALICE);
    let (domain, code) = ("a.example".parse().unwrap(), RefusalCode::NoConsent);
    tell_undelivered(&mut world, BOB, Undelivered { thread, domain, code, envelopes: Vec::new() });
    let people = vec![world.people[ALICE].account];
    let refused = Event::ThreadRefused { thread, people: people.clone(), code };
    assert_eq!(world.events(BOB, |event| *event == refused), 1);
    let ended = world.ask(BOB, Command::Send { thread, text: "anybody?".to_owned() }).unwrap_err();
    assert_eq!(ended, CommandError::Refused(code));
    let reply = world.ask(BOB, Command::SendTo { people, text: "anew".to_owned() }).unwrap();
    assert!(matches!(reply, Reply::Queued { thread: new, .. } if new != thread), "{reply:?}");
    assert_eq!(world.shown(ALICE), ["anew"]);
}

#[test]
fn a_silent_relay_is_left_and_reached_again() {
    let (mut world, thread) = friends();
    for kind in ["Heartbeat", "Submit"] {
        world.relay.mute.insert(kind);
    }
    world.say(ALICE, thread, "anybody there?");
    let first = world.people[ALICE].home;
    world.advance(Duration::from_secs(60));
    assert_ne!(world.people[ALICE].home, first);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.shown(BOB), ["anybody there?"]);
}

#[test]
fn read_marks_count_what_lies_after_them() {
    let (mut world, thread) = friends();
    for n in 0..5 {
        world.say(ALICE, thread, &n.to_string());
        world.advance(Duration::from_millis(2));
    }
    assert_eq!(views::unread(world.store(BOB), &thread).unwrap(), 5);
    let upto = world.people[BOB].shown[2].message;
    world.ask(BOB, Command::MarkRead { thread, upto }).unwrap();
    assert_eq!(views::unread(world.store(BOB), &thread).unwrap(), 2);
    let earlier = world.people[BOB].shown[0].message;
    world.ask(BOB, Command::MarkRead { thread, upto: earlier }).unwrap();
    assert_eq!(views::unread(world.store(BOB), &thread).unwrap(), 2, "never back");
}

#[test]
fn what_comes_late_with_an_earlier_clock_is_unread_and_keeps_its_place_in_the_history() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    world.ask(ALICE, Command::SendTo { people, text: "hello".to_owned() }).unwrap();
    let thread = world.people[BOB].shown[0].thread;
    // Bob writes while he is cut off; Carol writes later and is read first.
    world.people[BOB].online = false;
    world.lose_home(BOB);
    world.settle();
    world.say(BOB, thread, "written first");
    world.advance(Duration::from_secs(30));
    world.say(CAROL, thread, "written later");
    let upto = world.people[ALICE].shown.last().unwrap().message;
    world.ask(ALICE, Command::MarkRead { thread, upto }).unwrap();
    assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 0);
    world.people[BOB].online = true;
    world.advance(limits::RELAY_BACKOFF_MAX);
    for _ in ["before a restart", "after it"] {
        assert_eq!(world.history(ALICE, thread), ["hello", "written first", "written later"]);
        assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 1);
        let unread = views::unread_messages(world.store(ALICE), &thread, 10).unwrap();
        assert_eq!(unread.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["written first"]);
        world.crash_now(ALICE);
        world.settle();
    }
    let upto = views::unread_messages(world.store(ALICE), &thread, 10).unwrap()[0].message;
    world.ask(ALICE, Command::MarkRead { thread, upto }).unwrap();
    assert!(views::unread_messages(world.store(ALICE), &thread, 10).unwrap().is_empty());
    assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 0);
}

#[test]
fn unread_messages_come_in_the_order_they_arrived_a_page_at_a_time() {
    let (mut world, thread) = friends();
    for n in 0..5 {
        world.say(ALICE, thread, &n.to_string());
    }
    world.say(BOB, thread, "mine");
    let page = |world: &super::world::World<_>| {
        let page = views::unread_messages(world.store(BOB), &thread, 3).unwrap();
        page.into_iter().map(|message| (message.text, message.message)).collect::<Vec<_>>()
    };
    let first = page(&world);
    assert_eq!(first.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    world.ask(BOB, Command::MarkRead { thread, upto: first[2].1 }).unwrap();
    assert_eq!(page(&world).iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["3", "4"]);
    assert_eq!(views::unread(world.store(BOB), &thread).unwrap(), 2);
}

#[test]
fn history_is_paged_both_ways() {
    let (mut world, thread) = friends();
    for n in 0..7 {
        world.say(ALICE, thread, &n.to_string());
        world.advance(Duration::from_millis(2));
    }
    let page = |page, limit| {
        let lines = views::messages(world.store(BOB), &thread, page, limit).unwrap();
        lines.into_iter().map(|line| (line.message.text.clone(), Place::of(&line.message))).collect::<Vec<_>>()
    };
    let texts = |page: &[(String, Place)]| page.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    let newest = page(Page::Newest, 3);
    assert_eq!(texts(&newest), ["4", "5", "6"]);
    let before = page(Page::Before(newest[0].1), 3);
    assert_eq!(texts(&before), ["1", "2", "3"]);
    assert_eq!(texts(&page(Page::After(before[2].1), 2)), ["4", "5"]);
    assert_eq!(texts(&page(Page::Oldest, 2)), ["0", "1"]);
}
