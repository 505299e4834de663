//! Peers and relays that do not play by the rules.

use std::time::Duration;

use proptest::prelude::*;
use whimbrel_crypto::{Chance, Context, Engine, KeyPair, Own, Seed, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::codec;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{LinkId, MessageId, Sequence, ThreadId};
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::push::{LogRef, Push};
use whimbrel_protocol::thread::{Class, Envelope};
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::{MemoryEngine, Overlay};

use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, CommandError, Event, Input, Peer, State, Ticket};
use crate::views::{self, Standing};

fn unreadable(world: &World<StandInEngine>, who: usize) -> usize {
    world.events(who, |event| matches!(event, Event::Unreadable { .. }))
}

#[test]
fn a_damaged_copy_that_comes_first_does_not_stop_the_genuine_one() {
    let (mut world, thread) = friends();
    world.relay.mute.insert("Submit");
    world.say(ALICE, thread, "genuine");
    let envelope = world.submits(ALICE)[0].clone();
    let author = world.id(ALICE);
    for place in [0, envelope.body.len() / 2, envelope.body.len() - 1] {
        let mut damaged = envelope.clone();
        damaged.body[place] ^= 1;
        world.inject(thread, author, damaged);
    }
    assert_eq!(unreadable(&world, BOB), 3);
    assert_eq!(world.events(BOB, |event| matches!(event, Event::ThreadHalted { .. })), 0);
    world.inject(thread, author, envelope.clone());
    assert_eq!(world.shown(BOB), ["genuine"]);
    assert_eq!(views::thread(world.store(BOB), &thread).unwrap().unwrap().unreadable, 3);
    // The same again, under another sequence.
    world.inject(thread, author, envelope);
    assert_eq!((world.shown(BOB).len(), unreadable(&world, BOB)), (1, 3));
    // The place moved past all of it: nothing comes again.
    world.advance(Duration::from_secs(1));
    let account = world.people[BOB].account;
    assert_eq!(world.relay.accounts[&account].cursors[&LogRef::Thread(thread)], Sequence::new(5));
}

#[test]
fn a_damaged_copy_on_a_direct_link_is_refused_without_a_trace() {
    let (mut world, thread) = friends();
    world.relay.mute.insert("Submit");
    world.say(ALICE, thread, "genuine");
    let envelope = world.submits(ALICE)[0].clone();
    world.link(ALICE, BOB);
    world.settle();
    let link = *world.people[BOB].direct.keys().next().unwrap();
    let mut damaged = envelope.clone();
    damaged.body[9] ^= 1;
    world.input(BOB, Input::Frame { link, frame: Frame::DirectEnvelope(DirectEnvelope { envelope: damaged }) });
    world.settle();
    assert_eq!(unreadable(&world, BOB), 0);
    world.input(BOB, Input::Frame { link, frame: Frame::DirectEnvelope(DirectEnvelope { envelope }) });
    world.settle();
    assert_eq!(world.shown(BOB), ["genuine"]);
}

#[test]
fn t11_a_welcome_made_in_somebodys_name_is_refused_and_told() {
    let (mut world, _) = friends();
    // A relay makes a group in Bob's name, with a key of its own in his leaf.
    let account = world.people[ALICE].account;
    let package = world.relay.accounts.get_mut(&account).unwrap().packages.pop_front().unwrap();
    let forged = KeyPair::from_seed_bytes([66; 32]);
    let mut chance = Chance::from_seed(Seed::from_bytes([66; 32]));
    let disk = MemoryEngine::new();
    let store = whimbrel_storage::Kv::open(disk, None).unwrap();
    let mut rows = Overlay::new(&store);
    let mut cx = Context { rows: &mut rows, chance: &mut chance, now: world.now };
    let thread = ThreadId::from_bytes([6; 32]);
    let device_key = *views_device_key(&world, ALICE);
    let invitee = whimbrel_crypto::Invitee { id: world.id(ALICE), device_key, key_package: package };
    let own = Own { id: world.id(BOB), device: &forged };
    let created = StandInEngine::new().create(&mut cx, &own, thread, &[invitee]).unwrap();
    let mut participants = world.relay.threads.values().next().unwrap().0.participants.clone();
    participants.sort_by_key(|one| one.account);
    let opening = whimbrel_protocol::thread::Opening {
        thread,
        epoch: created.epoch,
        participants,
        welcome: created.welcome,
        tree: created.tree,
        founding: None,
    };
    let bob = world.id(BOB);
    world.take_opening(bob, opening);
    world.settle();
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. })), 1);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::ThreadOpened { .. })), 1);
    assert_eq!(views::threads(world.store(ALICE)).unwrap().len(), 1);
    assert_eq!(world.ask(ALICE, Command::Send { thread, text: "x".to_owned() }).unwrap_err(), CommandError::Unknown);
}

fn views_device_key(world: &World<StandInEngine>, who: usize) -> Box<whimbrel_protocol::id::PublicKey> {
    let log = &world.relay.accounts[&world.people[who].account].log;
    let log = whimbrel_crypto::UnverifiedLog(log.clone()).verify().unwrap();
    Box::new(log.devices().next().unwrap().device_key)
}

#[test]
fn t10_a_log_of_another_account_than_the_invite_names_is_not_trusted() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let invite = world.invite(ALICE);
    let (alice, carol) = (world.people[ALICE].account, world.people[CAROL].account);
    let other = world.relay.accounts[&carol].log.clone();
    world.relay.accounts.get_mut(&alice).unwrap().log = other;
    let refused = world.ask(BOB, Command::AcceptInvite(invite)).unwrap_err();
    assert!(matches!(refused, CommandError::Untrusted(_)), "{refused:?}");
    assert!(views::contacts(world.store(BOB)).unwrap().is_empty());
}

#[test]
fn t12_a_key_package_of_another_device_is_not_trusted() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let invite = world.invite(ALICE);
    let (alice, carol) = (world.people[ALICE].account, world.people[CAROL].account);
    let packages = world.relay.accounts[&carol].packages.clone();
    world.relay.accounts.get_mut(&alice).unwrap().packages = packages;
    let refused = world.ask(BOB, Command::AcceptInvite(invite)).unwrap_err();
    assert!(matches!(refused, CommandError::Untrusted(_)), "{refused:?}");
}

#[test]
fn entries_that_come_before_the_welcome_wait_for_it() {
    let mut world = world(&["a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.relay.mute.insert("FetchBlob");
    let crate::api::Reply::Contact { thread, .. } = world.ask(BOB, Command::AcceptInvite(invite)).unwrap() else {
        panic!()
    };
    world.say(BOB, thread, "first");
    world.say(BOB, thread, "second");
    assert!(world.shown(ALICE).is_empty());
    world.crash_now(ALICE);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.shown(ALICE), ["first", "second"]);
    assert_eq!(unreadable(&world, ALICE), 0);
}

#[test]
fn more_entries_than_fit_a_batch_are_opened_in_order_whatever_interrupts() {
    let mut world = world(&["a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.relay.mute.insert("FetchBlob");
    let crate::api::Reply::Contact { thread, .. } = world.ask(BOB, Command::AcceptInvite(invite)).unwrap() else {
        panic!()
    };
    let texts: Vec<String> = (0..700).map(|n| n.to_string()).collect();
    for text in &texts {
        world.say(BOB, thread, text);
        world.advance(Duration::from_millis(1));
    }
    world.relay.mute.clear();
    world.people[ALICE].crash = Some((8, super::world::Crash::Kept));
    world.advance(Duration::from_secs(120));
    assert!(world.people[ALICE].crash.is_none());
    assert_eq!(world.history(ALICE, thread), texts);
    assert_eq!(unreadable(&world, ALICE), 0);
}

#[test]
fn an_own_entry_that_is_not_known_stops_the_thread() {
    old_copy(World::new(&["a.example", "a.example"], StandInEngine::new));
}

#[test]
fn an_own_entry_that_is_not_known_stops_the_thread_with_real_encryption() {
    old_copy(World::new(&["a.example", "a.example"], whimbrel_crypto::MlsEngine::new));
}

fn old_copy<E: Engine>(mut world: World<E>) {
    let thread = world.befriend(BOB, ALICE);
    // Alice's store is copied, she writes on, and the copy is put back.
    world.advance(Duration::from_secs(1));
    let copy = world.people[ALICE].disk.tamper(|rows| rows.clone());
    world.say(ALICE, thread, "after the copy");
    world.kill(ALICE);
    world.people[ALICE].disk.tamper(|rows| *rows = copy);
    world.open(ALICE);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.events(ALICE, |event| *event == Event::ThreadHalted { thread }), 1);
    let refused = world.ask(ALICE, Command::Send { thread, text: "again".to_owned() }).unwrap_err();
    assert!(matches!(refused, CommandError::State(_)));
    assert_eq!(views::thread(world.store(ALICE), &thread).unwrap().unwrap().standing, Standing::Halted);
    // What others write is still shown.
    world.say(BOB, thread, "are you there?");
    assert_eq!(world.shown(ALICE).last(), Some(&"are you there?"));
}

#[test]
fn a_gap_in_a_log_is_mended_by_a_new_link() {
    let (mut world, thread) = friends();
    world.say(ALICE, thread, "one");
    world.advance(Duration::from_secs(1));
    let first = world.people[BOB].home;
    let gap = Push {
        log: LogRef::Thread(thread),
        after: Sequence::new(5),
        upto: Sequence::new(6),
        entries: Vec::new(),
        gone: None,
    };
    world.say_to(BOB, gap);
    world.advance(Duration::from_secs(5));
    assert_ne!(world.people[BOB].home, first);
    world.say(ALICE, thread, "two");
    assert_eq!(world.shown(BOB), ["one", "two"]);
}

#[test]
fn a_message_from_the_far_future_does_not_move_our_clock() {
    let (mut world, thread) = friends();
    let far = Hlc { millis: u64::MAX - 1, count: 3 };
    let body = Body::Text("from tomorrow".to_owned());
    let content = Content { counter: Some(1), ..Content::new(MessageId::from_bytes([1; 16]), far, body) };
    let envelope = seal_as(&mut world, ALICE, thread, &[&encode_words(&content)]).remove(0);
    let author = world.id(ALICE);
    world.kill(ALICE);
    world.inject(thread, author, envelope);
    assert_eq!(world.shown(BOB), ["from tomorrow"]);
    let shown = world.people[BOB].shown[0].clone();
    assert_eq!((shown.hlc, shown.shown_at()), (far, shown.received));
    world.advance(Duration::from_millis(1));
    let message = world.say(BOB, thread, "today");
    assert_eq!(world.state(BOB, message), Some(State::Stored));
    assert_eq!(world.history(BOB, thread), ["today", "from tomorrow"]);
}

#[test]
fn a_message_sealed_again_under_its_id_is_shown_once() {
    let (mut world, thread) = friends();
    let content = encode_words(&Content {
        counter: Some(1),
        ..Content::new(MessageId::from_bytes([1; 16]), Hlc { millis: 5, count: 0 }, Body::Text("once".to_owned()))
    });
    let author = world.id(ALICE);
    let envelopes = seal_as(&mut world, ALICE, thread, &[&content, &content]);
    assert_ne!(envelopes[0].id(), envelopes[1].id());
    world.kill(ALICE);
    for envelope in envelopes {
        world.inject(thread, author, envelope);
    }
    assert_eq!(world.shown(BOB), ["once"]);
    assert_eq!(world.history(BOB, thread), ["once"]);
    assert_eq!(unreadable(&world, BOB), 0);
}

#[test]
fn authentic_nonsense_is_recorded_and_not_shown() {
    let (mut world, thread) = friends();
    let envelope = seal_as(&mut world, ALICE, thread, &[b"\xff\xff"]).remove(0);
    let author = world.id(ALICE);
    world.kill(ALICE);
    world.inject(thread, author, envelope);
    assert!(world.shown(BOB).is_empty());
    assert_eq!(unreadable(&world, BOB), 1);
}

/// Seals with a person's own state, as a program of their own making could.
pub(super) fn seal_as(
    world: &mut World<StandInEngine>,
    who: usize,
    thread: ThreadId,
    contents: &[&[u8]],
) -> Vec<Envelope> {
    let identity = crate::identity::Identity::load(world.store(who)).unwrap();
    let mut chance = Chance::from_seed(Seed::from_bytes([77; 32]));
    let now = world.now;
    let mut rows = Overlay::new(world.store(who));
    let mut cx = Context { rows: &mut rows, chance: &mut chance, now };
    let mut seal = |content: &&[u8]| {
        let sealed = StandInEngine::new().seal(&mut cx, &identity.own(), thread, content).unwrap();
        Envelope { thread, epoch: sealed.epoch, class: Class::Message, body: sealed.body }
    };
    contents.iter().map(&mut seal).collect()
}

fn some_thread() -> ThreadId {
    ThreadId::from_bytes([3; 32])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_and_no_input_makes_a_node_panic(
        script in proptest::collection::vec((any::<u8>(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..64)), 1..40)
    ) {
        let (mut world, thread) = friends();
        let direct = LinkId::new(900);
        let transport = world.people[ALICE].transport;
        world.input(BOB, Input::LinkUp { link: direct, peer: Peer::Node { transport } });
        for (choice, number, bytes) in script {
            let home = world.people[BOB].home.map_or(LinkId::new(901), |(link, _)| link);
            let link = if choice & 1 == 0 { home } else { direct };
            let input = match choice >> 1 {
                0..=79 => {
                    // A frame of any kind around what the world was saying, or around noise.
                    let (kind, _) = Frame::KINDS[usize::from(number) % Frame::KINDS.len()];
                    let said = world.relay.said.iter().rev().chain(world.relay.heard.iter().rev().map(|(_, frame)| frame));
                    let heard = said.filter(|frame| frame.kind() == kind).nth(usize::from(number >> 8) % 4);
                    let body = match heard {
                        Some(frame) => {
                            let mut whole = codec::encode(frame).unwrap();
                            if let (Some(byte), Some(flip)) = (bytes.first(), bytes.get(1)) {
                                let at = usize::from(*byte) * whole.len() / 256;
                                if choice & 2 == 0 { whole[at] ^= flip & 1; }
                            }
                            whole.split_off(codec::HEADER_BYTES)
                        }
                        None => bytes,
                    };
                    match (codec::Header { kind, length: body.len() }).decode(&body) {
                        Ok(frame) => Input::Frame { link, frame },
                        Err(_) => Input::Malformed { link },
                    }
                }
                80..=89 => Input::Frame { link, frame: Frame::Unknown(number) },
                90..=95 => Input::LinkLost { link },
                96..=99 => Input::Timeout,
                100..=104 => Input::ConnectFailed { reason: "x".to_owned() },
                105..=109 => Input::DialFailed { transport },
                110..=114 => Input::Listening { addresses: vec![String::from_utf8_lossy(&bytes).into_owned(); 12] },
                _ => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let thread = if number & 1 == 0 { thread } else { some_thread() };
                    Input::Command { ticket: Ticket(1_000_000 + u64::from(number)), command: Command::Send { thread, text } }
                }
            };
            world.people[BOB].answers.clear();
            world.people[BOB].crash = None;
            world.input(BOB, input);
            world.relay.heard.truncate(200);
        }
    }
}
