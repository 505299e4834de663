//! The direct path, alone and beside the relay.

use std::time::Duration;

use whimbrel_crypto::{AccountLog, Chance, KeyPair, RecoveryPhrase, Seed, TransportProof};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::DeviceIndex;
use whimbrel_protocol::limits;
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::user::Who;
use whimbrel_storage::{OrderedKv, Overlay};

use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, Event, Input, Path, Peer, State};
use crate::{contacts, identity};

type Engine = whimbrel_crypto::StandInEngine;

/// Alice and Bob, linked by what they told each other inside the seal.
fn linked() -> (World<Engine>, whimbrel_protocol::id::ThreadId) {
    let (mut world, thread) = friends();
    world.listen(ALICE);
    world.listen(BOB);
    world.ask(ALICE, Command::OfferDirect { thread }).unwrap();
    assert!(world.is_linked(ALICE, BOB));
    world.relay.heard.clear();
    (world, thread)
}

fn message_submits(world: &World<Engine>, who: usize) -> usize {
    world.submits(who).iter().filter(|envelope| envelope.class == Class::Message).count()
}

#[test]
fn addresses_offered_inside_the_seal_lead_to_one_link_dialled_by_the_lower_key() {
    for offers in [ALICE, BOB] {
        let (mut world, thread) = friends();
        world.listen(ALICE);
        world.listen(BOB);
        world.ask(offers, Command::OfferDirect { thread }).unwrap();
        let lower = if world.people[ALICE].transport < world.people[BOB].transport { ALICE } else { BOB };
        assert_eq!(world.people[lower].dials.len(), 1);
        assert!(world.people[1 - lower].dials.is_empty());
        assert_eq!(world.people[ALICE].direct.len(), 1);
        for who in [ALICE, BOB] {
            assert_eq!(world.events(who, |event| matches!(event, Event::DirectUp(_))), 1);
        }
    }
}

#[test]
fn when_all_answer_in_time_the_relay_gets_no_copy_but_a_touch() {
    let (mut world, thread) = linked();
    let message = world.say(ALICE, thread, "just us");
    assert_eq!(world.shown(BOB), ["just us"]);
    assert_eq!(world.people[BOB].shown[0].path, Some(Path::Direct));
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    world.advance(Duration::from_secs(30));
    assert_eq!(message_submits(&world, ALICE), 0);
    for who in [ALICE, BOB] {
        let account = world.people[who].account;
        assert_eq!(world.relay.accounts[&account].touches, [thread]);
    }
}

#[test]
fn when_no_answer_comes_in_the_window_the_relay_copy_goes_its_way() {
    let (mut world, thread) = linked();
    world.direct_answers(false);
    let message = world.say(ALICE, thread, "lost on the way");
    assert_eq!(message_submits(&world, ALICE), 0);
    world.advance(limits::DIRECT_RACE - Duration::from_millis(1));
    assert_eq!(message_submits(&world, ALICE), 0);
    world.advance(Duration::from_millis(1));
    assert_eq!(message_submits(&world, ALICE), 1);
    assert_eq!(world.shown(BOB), ["lost on the way"]);
    assert_eq!(world.state(ALICE, message), Some(State::Stored));
}

#[test]
fn both_paths_together_show_a_message_once() {
    let (mut world, thread) = linked();
    world.people[ALICE].config.always_relay_copy = true;
    world.crash_now(ALICE);
    world.settle();
    world.ask(ALICE, Command::OfferDirect { thread }).unwrap();
    world.listen(ALICE);
    world.ask(ALICE, Command::OfferDirect { thread }).unwrap();
    assert!(world.is_linked(ALICE, BOB));
    world.relay.heard.clear();
    let message = world.say(ALICE, thread, "twice sent");
    world.advance(Duration::from_secs(1));
    assert_eq!(message_submits(&world, ALICE), 1);
    assert_eq!(world.shown(BOB), ["twice sent"]);
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
    assert_eq!(crate::views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

#[test]
fn t33_the_direct_link_to_somebody_who_is_removed_or_blocked_ends_at_once_and_does_not_come_back() {
    for block in [false, true] {
        let (mut world, thread) = linked();
        let bob = world.people[BOB].account;
        let domain = world.relay.accounts[&bob].address.clone().unwrap().domain;
        let command = match block {
            true => Command::Block { who: Who::Account(bob, domain), blocked: true },
            false => Command::RemoveFriend(bob),
        };
        world.ask(ALICE, command).unwrap();
        assert!(!world.is_linked(ALICE, BOB), "{block}");
        // Whoever dials again, and whatever addresses are told, finds nobody.
        world.link(BOB, ALICE);
        world.settle();
        assert!(!world.is_linked(ALICE, BOB), "{block}");
        world.ask(BOB, Command::OfferDirect { thread }).unwrap();
        assert!(!world.is_linked(ALICE, BOB), "{block}");
    }
}

#[test]
fn a_broken_direct_link_sends_what_waits_to_the_relay_at_once() {
    let (mut world, thread) = linked();
    world.direct_answers(false);
    world.say(ALICE, thread, "on its way");
    let link = *world.people[ALICE].direct.keys().next().unwrap();
    world.people[ALICE].direct.clear();
    world.people[BOB].direct.clear();
    world.input(ALICE, Input::LinkLost { link });
    world.settle();
    assert_eq!(world.shown(BOB), ["on its way"]);
}

#[test]
fn a_direct_link_carries_what_the_relay_cannot() {
    let (mut world, thread) = linked();
    world.relay_gone();
    let message = world.say(ALICE, thread, "without a relay");
    assert_eq!(world.shown(BOB), ["without a relay"]);
    assert_eq!(world.state(ALICE, message), Some(State::Delivered));
}

#[test]
fn what_was_queued_goes_by_a_direct_link_that_comes_up() {
    let (mut world, thread) = friends();
    world.relay_gone();
    world.say(ALICE, thread, "first");
    world.say(ALICE, thread, "second");
    world.link(ALICE, BOB);
    world.settle();
    assert_eq!(world.shown(BOB), ["first", "second"]);
}

#[test]
fn a_thread_of_three_needs_all_others_linked() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    world.befriend(CAROL, BOB);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    world.ask(ALICE, Command::SendTo { people: people.clone(), text: "hello".to_owned() }).unwrap();
    world.link(ALICE, BOB);
    world.settle();
    world.relay.heard.clear();
    world.ask(ALICE, Command::SendTo { people: people.clone(), text: "by relay".to_owned() }).unwrap();
    assert_eq!(message_submits(&world, ALICE), 1);
    world.link(ALICE, CAROL);
    world.settle();
    world.ask(ALICE, Command::SendTo { people, text: "direct".to_owned() }).unwrap();
    assert_eq!(message_submits(&world, ALICE), 1);
    for who in [BOB, CAROL] {
        assert_eq!(world.shown(who), ["hello", "by relay", "direct"]);
    }
}

#[test]
fn the_relay_gets_envelopes_in_order_though_an_earlier_one_still_races() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let send = |text: &str| Command::SendTo { people: people.clone(), text: text.to_owned() };
    let (hello, one, two) = (send("hello"), send("one"), send("two"));
    world.ask(ALICE, hello).unwrap();
    world.link(ALICE, BOB);
    world.link(ALICE, CAROL);
    world.settle();
    world.relay.heard.clear();
    world.direct_answers(false);
    world.ask(ALICE, one).unwrap();
    let Some(Frame::DirectEnvelope(words)) = world.direct_lost.pop() else { panic!() };
    // Carol answers and leaves; Bob's answer is still awaited.
    let carol = world.people[ALICE].direct.iter().find(|(_, (who, _))| *who == CAROL).map(|(link, _)| *link).unwrap();
    let stored = whimbrel_protocol::direct::DirectStored { envelope: words.envelope.id() };
    world.input(ALICE, Input::Frame { link: carol, frame: stored.into() });
    world.people[ALICE].direct.remove(&carol);
    world.people[CAROL].direct.clear();
    world.input(ALICE, Input::LinkLost { link: carol });
    world.ask(ALICE, two).unwrap();
    assert_eq!(message_submits(&world, ALICE), 0);
    world.advance(limits::DIRECT_RACE);
    assert_eq!(message_submits(&world, ALICE), 2);
    assert_eq!(world.submits(ALICE)[0].id(), words.envelope.id());
    assert_eq!(world.shown(BOB), ["hello", "one", "two"]);
}

#[test]
fn fellow_members_who_are_no_contacts_are_not_let_in() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    world.ask(ALICE, Command::SendTo { people, text: "hello".to_owned() }).unwrap();
    world.link(BOB, CAROL);
    world.settle();
    assert!(!world.is_linked(BOB, CAROL));
}

#[test]
fn strangers_are_not_let_in() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.link(CAROL, ALICE);
    world.settle();
    assert!(!world.is_linked(CAROL, ALICE));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::DirectUp(_))), 0);
    let link = world.fresh_link();
    let transport = whimbrel_protocol::id::PublicKey::from_bytes([5; 32]);
    world.input(ALICE, Input::LinkUp { link, peer: Peer::Node { transport } });
    world.settle();
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::DirectUp(_))), 0);
}

#[test]
fn nobody_takes_over_the_transport_key_of_somebody_else() {
    let (mut world, thread) = friends();
    // Mallory, a contact of Alice's, got Bob's own key to stand for her device; without its word no log verifies.
    let key = identity::transport_key(world.store(BOB)).unwrap();
    let identity = KeyPair::from_seed_bytes([66; 32]);
    let mut chance = Chance::from_seed(Seed::from_bytes([66; 32]));
    let recovery = RecoveryPhrase::generate(&mut chance).recovery_hash();
    let mut log = AccountLog::genesis(&identity, recovery, Hlc::default(), &mut chance);
    let device = KeyPair::from_seed_bytes([67; 32]).public();
    let proof = TransportProof::make(&key, log.account(), DeviceIndex::FIRST, &device);
    log.add_device(&identity, DeviceIndex::FIRST, device, proof, "x", Hlc::default()).unwrap();
    let mallory = log.account();
    let mut rows = Overlay::new(world.store(ALICE));
    let person = contacts::Person { address: "mallory@a.example".parse().unwrap(), log };
    contacts::keep(&mut rows, &person, true).unwrap();
    let batch = rows.into_batch();
    world.store(ALICE).apply(&batch).unwrap();
    world.link(BOB, ALICE);
    world.settle();
    assert!(world.is_linked(BOB, ALICE));
    let bob = world.id(BOB);
    assert_eq!(world.events(ALICE, |event| *event == Event::DirectUp(bob)), 1);
    let of_mallory = |event: &Event| matches!(event, Event::DirectUp(device) if device.account == mallory);
    assert_eq!(world.events(ALICE, of_mallory), 0);
    let message = world.say(ALICE, thread, "to Bob");
    assert_eq!((world.shown(BOB), world.state(ALICE, message)), (vec!["to Bob"], Some(State::Delivered)));
    world.say(BOB, thread, "from Bob");
    assert_eq!((world.people[ALICE].shown[0].author, world.people[ALICE].shown[0].path), (bob, Some(Path::Direct)));
}

#[test]
fn never_direct_offers_dials_and_accepts_nothing() {
    let (mut world, thread) = friends();
    world.people[ALICE].config.never_direct = true;
    world.crash_now(ALICE);
    world.settle();
    world.listen(ALICE);
    world.listen(BOB);
    world.say(ALICE, thread, "by relay only");
    world.ask(BOB, Command::OfferDirect { thread }).unwrap();
    world.link(BOB, ALICE);
    world.settle();
    assert!(world.people[ALICE].dials.is_empty() && !world.is_linked(ALICE, BOB));
    assert!(world.submits(ALICE).iter().all(|envelope| envelope.class == Class::Message));
}

#[test]
fn old_candidates_are_not_dialled() {
    let (mut world, thread) = friends();
    world.listen(ALICE);
    world.listen(BOB);
    let lower = if world.people[ALICE].transport < world.people[BOB].transport { ALICE } else { BOB };
    // They wait at the relay while the one who would dial is away.
    world.people[lower].online = false;
    world.lose_home(lower);
    world.settle();
    world.ask(1 - lower, Command::OfferDirect { thread }).unwrap();
    world.advance(limits::CANDIDATE_AGE_MAX + Duration::from_secs(1));
    world.people[lower].online = true;
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert!(world.people[lower].dials.is_empty());
}

#[test]
fn traffic_offers_addresses_at_most_once_a_minute() {
    let (mut world, thread) = friends();
    world.dialable = false;
    world.listen(ALICE);
    for n in 0..20 {
        world.say(ALICE, thread, &n.to_string());
        world.advance(Duration::from_secs(1));
    }
    let offers = |world: &World<Engine>| world.submits(ALICE).iter().filter(|one| one.class == Class::Control).count();
    assert_eq!(offers(&world), 1);
    world.advance(limits::CANDIDATE_EVERY);
    world.say(ALICE, thread, "again");
    assert_eq!(offers(&world), 2);
    assert!(world.relay.heard.iter().any(|(who, frame)| *who == ALICE && matches!(frame, Frame::Heartbeat(_))));
}
