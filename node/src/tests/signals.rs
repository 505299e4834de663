//! Signals: who is writing, told to whoever is there, and kept by nobody.

use std::time::Duration;

use whimbrel_crypto::{Engine, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::signal::{Doing, Signal};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::Who;
use whimbrel_storage::{Order, Reads as _};

use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, CommandError, Event, Reply};

impl<E: Engine> World<E> {
    /// What the relay does with a signal: whoever else of the thread is there hears it, now or never.
    pub(super) fn pass_signal(&mut self, who: usize, signal: &Signal) {
        assert_eq!(signal.by, self.id(who));
        let there = self.relay.threads.get(&signal.thread).map(|(opening, _)| opening.participants.clone());
        let there = there.unwrap_or_default();
        for other in (0..self.people.len()).filter(|other| *other != who) {
            let account = self.people[other].account;
            if self.people[other].home.is_some() && there.iter().any(|one| one.account == account) {
                self.say_to(other, signal.clone());
            }
        }
    }

    fn doing(&mut self, who: usize, thread: ThreadId, what: Doing) {
        assert_eq!(self.ask(who, Command::Signal { thread, what }), Ok(Reply::Done));
    }

    fn signals(&self, who: usize) -> Vec<Signal> {
        let of = |(by, frame): &(usize, Frame)| match frame {
            Frame::Signal(signal) if *by == who => Some(signal.clone()),
            _ => None,
        };
        self.relay.heard.iter().filter_map(of).collect()
    }

    fn seen(&self, who: usize) -> Vec<(AccountId, Doing)> {
        let of = |event: &Event| match event {
            Event::Doing { who, what, .. } => Some((*who, *what)),
            _ => None,
        };
        self.people[who].events.iter().filter_map(of).collect()
    }
}

#[test]
fn who_is_writing_is_told_to_whoever_is_there_and_leaves_no_row_and_no_gap() {
    let (mut world, thread) = friends();
    let alice = world.people[ALICE].account;
    let rows =
        |world: &World<StandInEngine>, who| world.store(who).scan(&[], &[255; 40], Order::Ascending, 100_000).unwrap();
    let before = (rows(&world, ALICE), rows(&world, BOB));
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.seen(BOB), [(alice, Doing::Writing)]);
    // Said again at once it is not said again; later it is.
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.signals(ALICE).len(), 1);
    world.advance(limits::SIGNAL_EVERY);
    world.doing(ALICE, thread, Doing::Writing);
    world.doing(ALICE, thread, Doing::Nothing);
    assert_eq!(world.seen(BOB)[1..], [(alice, Doing::Writing), (alice, Doing::Nothing)]);
    assert!((rows(&world, ALICE), rows(&world, BOB)) == before, "a signal left a row");
    assert_eq!(world.seen(ALICE), []);
    // Bob's relay is away: it is said to nobody, and nothing is missing later.
    world.relay_gone_for(BOB);
    world.advance(limits::SIGNAL_EVERY);
    world.doing(ALICE, thread, Doing::Writing);
    world.say(ALICE, thread, "hello");
    world.relay_back_for(BOB);
    assert_eq!(world.shown(BOB).last(), Some(&"hello"));
    assert_eq!(world.seen(BOB).len(), 3);
    assert_eq!(world.events(BOB, |event| matches!(event, Event::Missing { .. })), 0);
}

#[test]
fn a_signal_that_comes_again_or_of_another_or_from_somebody_who_is_kept_away_shows_nothing() {
    let (mut world, thread) = friends();
    world.doing(ALICE, thread, Doing::Writing);
    let [signal] = &world.signals(ALICE)[..] else { panic!("one") };
    let signal = signal.clone();
    assert_eq!(world.seen(BOB).len(), 1);
    let shown = |world: &mut World<StandInEngine>, signal: Signal| {
        world.say_to(BOB, signal);
        world.settle();
        world.seen(BOB).len()
    };
    assert_eq!(shown(&mut world, signal.clone()), 1, "again");
    let as_bob = Signal { by: world.id(BOB), ..signal.clone() };
    assert_eq!(shown(&mut world, as_bob), 1, "as Bob's own");
    assert_eq!(shown(&mut world, Signal { epoch: Epoch::new(9), ..signal.clone() }), 1, "of an epoch there is not");
    assert_eq!(shown(&mut world, Signal { thread: ThreadId::from_bytes([9; 32]), ..signal.clone() }), 1, "elsewhere");
    let mut changed = signal.clone();
    changed.sealed[60] ^= 1;
    assert_eq!(shown(&mut world, changed), 1, "changed");
    let who = Who::Account(signal.by.account, "a.example".parse().unwrap());
    world.ask(BOB, Command::Block { who: who.clone(), blocked: true }).unwrap();
    world.advance(limits::SIGNAL_EVERY);
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.seen(BOB).len(), 1, "of somebody who is kept away");
    world.ask(BOB, Command::Block { who, blocked: false }).unwrap();
    // A new life of Bob's knows of none; Alice's next one is greater than any before.
    world.crash_now(BOB);
    world.open(BOB);
    world.settle();
    world.advance(limits::SIGNAL_EVERY + Duration::from_secs(60));
    let before = world.seen(BOB).len();
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.seen(BOB).len(), before + 1);
    assert_eq!(shown(&mut world, signal), before + 1, "an older one after a newer one");
}

#[test]
fn nothing_is_said_into_a_thread_that_is_not_there_or_while_the_relay_is_out_of_reach() {
    let (mut world, thread) = friends();
    let nowhere = ThreadId::from_bytes([9; 32]);
    let asked = world.ask(ALICE, Command::Signal { thread: nowhere, what: Doing::Writing });
    assert_eq!(asked, Err(CommandError::Unknown));
    world.relay_gone();
    world.doing(ALICE, thread, Doing::Writing);
    world.relay_back();
    world.settle();
    assert_eq!(world.signals(ALICE).len(), 0, "it waited");
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.signals(ALICE).len(), 1, "what nobody heard does not count as said");
}

#[test]
fn whoever_is_out_of_a_group_is_not_shown_to_write_there_whatever_the_relay_passes_on() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(ALICE, BOB);
    world.befriend(ALICE, CAROL);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let created = world.ask(ALICE, Command::CreateGroup { title: "the boat".to_owned(), people }).unwrap();
    let Reply::Group { thread } = created else { panic!("{created:?}") };
    world.advance(Duration::from_secs(10));
    world.doing(CAROL, thread, Doing::Writing);
    assert_eq!(world.seen(BOB).len(), 1);
    // One that the relay keeps back, and hands on when its author is gone.
    world.relay.mute.insert("Signal");
    world.advance(limits::SIGNAL_EVERY);
    world.doing(CAROL, thread, Doing::Writing);
    world.relay.mute.remove("Signal");
    let kept = world.signals(CAROL).pop().unwrap();
    let carol = world.people[CAROL].account;
    world.ask(ALICE, Command::RemoveMembers { thread, people: vec![carol] }).unwrap();
    world.advance(Duration::from_secs(10));
    world.say_to(BOB, kept);
    world.settle();
    assert_eq!(world.seen(BOB).len(), 1);
    // Those who are left go on in the epoch that there is now.
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.seen(BOB).len(), 2);
}

#[test]
fn however_often_somebody_is_said_to_write_it_is_said_and_told_at_a_pace() {
    let (mut world, thread) = friends();
    for _ in 0..10 {
        world.doing(ALICE, thread, Doing::Writing);
        world.doing(ALICE, thread, Doing::Nothing);
    }
    assert_eq!(world.signals(ALICE).len(), 2, "once that she writes, once that she stopped");
    world.say(ALICE, thread, "hello");
    world.doing(ALICE, thread, Doing::Writing);
    assert_eq!(world.signals(ALICE).len(), 3, "after a message it begins anew");
    // A program of somebody's own may say more, and is heard no oftener.
    let before = world.seen(BOB).len();
    for _ in 0..10 {
        world.crash_now(ALICE);
        world.open(ALICE);
        world.settle();
        world.now.wall = Wall::from_millis(world.now.wall.as_millis() + 1);
        world.doing(ALICE, thread, Doing::Writing);
    }
    assert_eq!(world.seen(BOB).len(), before, "ten more in no time");
}
