//! A store that is put back from a copy: found, told of, and silent; and stores that are none, whatever crashes.

use std::time::Duration;

use whimbrel_crypto::Engine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::limits;
use whimbrel_protocol::reception::{Done, KeepStamp, Refused};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_storage::MemoryEngine;

use super::world::{ALICE, BOB, Crash, World, friends};
use crate::api::{Command, CommandError, Event};

impl<E: Engine> World<E> {
    /// What a relay does with the stamp of a device.
    pub(super) fn keep_stamp(&mut self, who: usize, words: &KeepStamp) {
        let request = words.request;
        let device = crate::views::account(self.store(who)).unwrap().device;
        let known = self.relay.stamps.get(&device).copied();
        let lost = known.map(|known| known.number) < words.after.map(|after| after.number);
        if known != Some(words.stamp) && known.is_some() && known != words.after && !lost {
            let code = RefusalCode::OldCopy;
            return self.say_to(who, Refused { request: Some(request), code, retry_after_ms: None });
        }
        self.relay.stamps.insert(device, words.stamp);
        if !self.relay.stamps_unanswered {
            self.say_behind(who, Done { request });
        }
    }

    /// The disk as it was on another day takes the place of the present one.
    pub(super) fn put_back(&mut self, who: usize, disk: MemoryEngine) {
        self.kill(who);
        self.people[who].disk = disk;
        self.open(who);
        self.settle();
    }

    pub(super) fn said(&self, who: usize) -> usize {
        let sealed = |frame: &Frame| matches!(frame, Frame::Submit(_) | Frame::OpenThread(_) | Frame::SubmitCommit(_));
        self.relay.heard.iter().filter(|(by, frame)| *by == who && sealed(frame)).count()
    }
}

pub(super) fn outdated(event: &Event) -> bool {
    matches!(event, Event::StoreOutdated)
}

#[test]
fn a_store_put_back_from_a_copy_is_found_and_says_nothing_any_more() {
    for direct in [false, true] {
        let (mut world, thread) = friends();
        if direct {
            world.listen(ALICE);
            world.listen(BOB);
            world.say(ALICE, thread, "where are you");
            world.advance(Duration::from_secs(20));
            assert!(world.is_linked(ALICE, BOB));
        }
        let copy = world.people[ALICE].disk.copied();
        world.say(ALICE, thread, "after the copy");
        // Within a heartbeat the relay knows that the store has gone on, by whatever way it did.
        world.advance(limits::HEARTBEAT_EVERY);
        let (said, shown) = (world.said(ALICE), world.shown(BOB).len());
        // What waits for her is for the newer store: of the copy's place the relay knows nothing.
        world.kill(ALICE);
        world.say(BOB, thread, "for the newer one");
        world.put_back(ALICE, copy);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.events(ALICE, outdated), 1, "direct {direct}");
        let refused = world.ask(ALICE, Command::Send { thread, text: "again".to_owned() });
        assert_eq!(refused, Err(CommandError::Refused(RefusalCode::OldCopy)));
        world.advance(Duration::from_secs(3_600));
        assert_eq!((world.said(ALICE), world.shown(BOB).len()), (said, shown), "direct {direct}");
        // It stays so, and is told again by the next process.
        world.crash_now(ALICE);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.events(ALICE, outdated), 2);
        assert_eq!(world.said(ALICE), said);
        assert!(matches!(world.ask(ALICE, Command::RenewKeys { thread }), Err(CommandError::Refused(_))));
    }
}

#[test]
fn what_was_written_into_an_old_copy_before_it_is_known_to_be_one_never_leaves() {
    let (mut world, thread) = friends();
    let copy = world.people[ALICE].disk.copied();
    world.say(ALICE, thread, "after the copy");
    world.advance(limits::HEARTBEAT_EVERY);
    let said = world.said(ALICE);
    world.relay.up = false;
    world.lose_home(ALICE);
    world.put_back(ALICE, copy);
    world.ask(ALICE, Command::Send { thread, text: "by the same key".to_owned() }).unwrap();
    // Even where Bob could be reached without a relay.
    world.link(ALICE, BOB);
    world.advance(Duration::from_secs(60));
    world.relay_back();
    world.advance(Duration::from_secs(600));
    assert_eq!((world.events(ALICE, outdated), world.said(ALICE)), (1, said));
    assert_eq!(world.shown(BOB), ["after the copy"]);
}

#[test]
fn of_two_copies_that_both_go_on_the_second_to_come_is_the_old_one() {
    let (mut world, thread) = friends();
    world.advance(limits::HEARTBEAT_EVERY);
    let (copy, other) = (world.people[ALICE].disk.copied(), world.people[ALICE].disk.copied());
    world.put_back(ALICE, copy);
    world.say(ALICE, thread, "from the first");
    assert_eq!(world.events(ALICE, outdated), 0, "nobody went on meanwhile: it is the store");
    world.put_back(ALICE, other);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.events(ALICE, outdated), 1);
}

#[test]
fn no_crash_and_no_lost_answer_makes_a_store_look_like_an_old_copy() {
    for kind in [Crash::Lost, Crash::Kept] {
        for after in 0..30 {
            let (mut world, thread) = friends();
            world.people[ALICE].crash = Some((after, kind));
            for n in 0..3 {
                let text = format!("{n}");
                world.command(ALICE, Command::Send { thread, text });
                world.advance(Duration::from_secs(15));
                world.lose_home(ALICE);
                world.advance(limits::RELAY_BACKOFF_MAX);
            }
            world.relay.mute.insert("KeepStamp");
            world.crash_now(ALICE);
            world.advance(Duration::from_secs(60));
            world.relay.mute.clear();
            world.advance(limits::RELAY_BACKOFF_MAX * 2);
            world.say(ALICE, thread, "whole");
            assert_eq!(world.events(ALICE, outdated), 0, "after {after}, {kind:?}");
            assert_eq!(world.shown(BOB).last(), Some(&"whole"), "after {after}, {kind:?}");
        }
    }
}

#[test]
fn a_stamp_that_is_kept_and_whose_answer_is_lost_is_said_again_and_then_followed() {
    let (mut world, thread) = friends();
    let alice = world.id(ALICE);
    let before = world.relay.stamps[&alice];
    world.relay.stamps_unanswered = true;
    world.crash_now(ALICE);
    world.advance(Duration::from_secs(60));
    let kept = world.relay.stamps[&alice];
    assert_eq!(kept.number, before.number + 1);
    for _ in 0..3 {
        world.crash_now(ALICE);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.relay.stamps[&alice], kept, "the same one until it is known to be kept");
    }
    world.relay.stamps_unanswered = false;
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    world.say(ALICE, thread, "whole");
    world.advance(limits::HEARTBEAT_EVERY * 2);
    assert_eq!((world.events(ALICE, outdated), world.shown(BOB)), (0, vec!["whole"]));
    assert!(world.relay.stamps[&alice].number > kept.number);
}

#[test]
fn a_device_for_which_so_much_waits_that_the_answer_takes_long_comes_in_by_the_first_link() {
    let (mut world, thread) = friends();
    world.relay.backlog = Some(Vec::new());
    world.crash_now(ALICE);
    world.command(ALICE, Command::Send { thread, text: "hello".to_owned() });
    world.advance(Duration::from_secs(120));
    assert_eq!(world.shown(BOB), Vec::<&str>::new());
    let (caught_up, kept) = {
        let mut waits = world.relay.backlog.take().unwrap().into_iter();
        (waits.next().unwrap(), waits.next().unwrap())
    };
    assert!(
        matches!((&caught_up, &kept), ((ALICE, Frame::CaughtUp(_)), (ALICE, Frame::Done(_)))),
        "no other link was tried"
    );
    world.say_to(ALICE, caught_up.1);
    world.advance(limits::ANSWER_TIME_MAX / 2);
    world.say_to(ALICE, kept.1);
    world.settle();
    assert_eq!(world.shown(BOB), ["hello"]);
}

#[test]
fn a_relay_that_lost_its_own_store_does_not_make_an_old_copy_of_the_device_s() {
    let (mut world, thread) = friends();
    let before = world.relay.stamps.clone();
    for n in 0..3 {
        world.say(ALICE, thread, &format!("{n}"));
        world.advance(limits::HEARTBEAT_EVERY);
    }
    let alice = world.id(ALICE);
    assert!(world.relay.stamps[&alice].number > before[&alice].number + 1);
    for lost in [before, Default::default()] {
        world.relay.stamps = lost;
        world.crash_now(ALICE);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.events(ALICE, outdated), 0);
    }
    world.say(ALICE, thread, "whole");
    assert_eq!(world.shown(BOB).last(), Some(&"whole"));
}

#[test]
fn nothing_leaves_before_the_relay_has_kept_how_far_the_store_has_come() {
    let (mut world, thread) = friends();
    world.relay.mute.insert("KeepStamp");
    world.crash_now(ALICE);
    world.settle();
    let said = world.said(ALICE);
    world.command(ALICE, Command::Send { thread, text: "hello".to_owned() });
    world.advance(Duration::from_secs(5));
    assert_eq!(world.said(ALICE), said);
    world.relay.mute.clear();
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    assert_eq!(world.shown(BOB), ["hello"]);
}
