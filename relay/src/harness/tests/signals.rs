//! Signals: passed on to whoever is there and may hear them, from memory, without a word to anybody else.

use whimbrel_protocol::friendship::{Act, LetSee};
use whimbrel_protocol::presence::SetVisible;
use whimbrel_protocol::signal::Signal;

use super::*;
use crate::rate::Rate;

impl World {
    fn signal(&mut self, who: usize) -> Vec<Frame> {
        let by = self.devices[who].id();
        self.ask(who, Signal { thread: THREAD, by, epoch: Epoch::new(1), sealed: vec![7; limits::SIGNAL_BYTES] })
    }

    fn signals(&mut self, who: usize) -> usize {
        self.run();
        let inbox = std::mem::take(&mut self.devices[who].inbox);
        inbox.iter().filter(|frame| matches!(frame, Frame::Signal(_))).count()
    }

    /// Signals of one that another hears; whoever says one hears nothing, whatever becomes of it.
    fn hears(&mut self, who: usize, of: usize) -> usize {
        self.signals(who);
        let answered = self.signal(of);
        assert!(answered.is_empty(), "{answered:?}");
        self.signals(who)
    }
}

fn commands(world: &World, at: usize) -> u64 {
    world.sites[at].running.as_ref().unwrap().disk.commands()
}

/// Alice and Bob, friends who are there, each at the relay of that number, in the thread they have.
fn talking(at: [usize; 2]) -> (World, usize, usize) {
    let (mut world, alice, bob) = friends(at[0], at[1]);
    for (who, at) in [(alice, at[0]), (bob, at[1])] {
        world.leave(who);
        world.run();
        world.come_back(who, at);
    }
    world.pass(limits::HEARTBEAT_EVERY);
    (world, alice, bob)
}

#[test]
fn a_signal_reaches_whoever_is_there_at_both_relays_and_is_written_nowhere() {
    for at in [[0, 0], [0, 1]] {
        let (mut world, alice, bob) = talking(at);
        let phone = world.sibling(bob, at[1]);
        let before = [commands(&world, 0), commands(&world, 1)];
        assert_eq!(world.hears(bob, alice), 1, "{at:?}");
        assert_eq!(world.hears(alice, bob), 1, "{at:?}");
        assert_eq!(world.signals(phone), 0, "a device that is not in the thread");
        assert_eq!([commands(&world, 0), commands(&world, 1)], before);
        // Who is away hears none, and none waits.
        world.leave(bob);
        world.run();
        assert!(world.signal(alice).is_empty());
        world.run();
        world.come_back(bob, at[1]);
        assert_eq!(world.signals(bob), 0);
    }
}

#[test]
fn a_signal_goes_nowhere_that_its_author_or_its_reader_does_not_want_it_to_and_nobody_can_tell() {
    for at in [[0, 0], [0, 1]] {
        let (mut world, alice, bob) = talking(at);
        let (request, bobs) = (world.request(), world.devices[bob].id().account);
        assert!(matches!(world.ask(alice, SetVisible { request, visible: false })[..], [Frame::Done(_)]));
        assert_eq!(world.hears(bob, alice), 0, "hidden");
        let request = world.request();
        assert!(matches!(world.ask(alice, SetVisible { request, visible: true })[..], [Frame::Done(_)]));
        assert_eq!(world.hears(bob, alice), 1);
        let request = world.request();
        assert!(matches!(world.ask(alice, LetSee { request, account: bobs, allowed: false })[..], [Frame::Done(_)]));
        assert_eq!(world.hears(bob, alice), 0, "not let see");
        assert_eq!(world.hears(alice, bob), 1, "that is one's own wish alone");
        let request = world.request();
        assert!(matches!(world.ask(alice, LetSee { request, account: bobs, allowed: true })[..], [Frame::Done(_)]));
        assert_eq!(world.hears(bob, alice), 1);
        let blocked = world.tell((bob, at[1]), Act::Remove, (alice, at[0]));
        assert!(matches!(blocked[..], [Frame::Parted(_)]), "{blocked:?}");
        world.run();
        assert_eq!(world.hears(bob, alice), 0, "parted");
    }
}

#[test]
fn a_signal_in_anothers_name_of_another_epoch_or_from_outside_the_thread_goes_nowhere() {
    let (mut world, alice, bob) = talking([0, 1]);
    let mallory = world.join("mallory", 0);
    let by = world.devices[alice].id();
    let signal = Signal { thread: THREAD, by, epoch: Epoch::new(1), sealed: vec![7; limits::SIGNAL_BYTES] };
    let heard = |world: &mut World, who: usize, signal: Signal| {
        world.signals(bob);
        assert!(world.ask(who, signal).is_empty());
        world.signals(bob)
    };
    assert_eq!(heard(&mut world, alice, signal.clone()), 1);
    assert_eq!(heard(&mut world, mallory, signal.clone()), 0, "in Alice's name");
    let own = Signal { by: world.devices[mallory].id(), ..signal.clone() };
    assert_eq!(heard(&mut world, mallory, own), 0, "from outside");
    assert_eq!(heard(&mut world, alice, Signal { epoch: Epoch::new(2), ..signal.clone() }), 0);
    assert_eq!(heard(&mut world, alice, Signal { thread: ThreadId::from_bytes([8; 32]), ..signal.clone() }), 0);
    // A relay speaks for its own users alone.
    let link = world.come_in_as_relay(1, relay_id(0), domain(0));
    let hello: Frame = hello(0, 1, None).into();
    world.hand(1, link, &hello);
    world.run();
    let of_bob = Signal { by: world.devices[bob].id(), ..signal.clone() };
    world.signals(bob);
    world.hand(1, link, &of_bob.into());
    assert_eq!(world.signals(bob), 0, "a peer in the name of one of ours");
    world.hand(1, link, &signal.into());
    assert_eq!(world.signals(bob), 1, "and for one of its own");
}

#[test]
fn signals_cost_their_author_what_messages_cost() {
    let mut config = Config::new(domain(0), relay_id(0));
    config.rates.messages = Rate::new(60, 3);
    let mut world = World::with(vec![config]);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.befriend((alice, 0), (bob, 0));
    world.signals(bob);
    for _ in 0..20 {
        assert!(world.signal(alice).is_empty());
    }
    assert_eq!(world.signals(bob), 3);
    world.pass(std::time::Duration::from_secs(1));
    assert_eq!(world.hears(bob, alice), 1);
}
