//! Signals: who is writing, told to whoever is there, and kept by nobody.

use std::time::Duration;

use whimbrel_crypto::{Engine, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::signal::{Doing, Signal};
use whimbrel_protocol::user::Who;
use whimbrel_storage::{Order, Reads as _};

use super::world::{ALICE, BOB, World, friends};
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
