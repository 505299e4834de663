//! What a relay does, as its users and peers see it.

use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::federation::{Forward, ForwardBody, ForwardItem, Introduction, PeerClaim, PeerHello};
use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::id::{BlobId, Epoch, InviteToken, ParticipantsTag, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::reception::{Heartbeat, Refused};
use whimbrel_protocol::thread::{
    Class, Envelope, FetchBlob, ListThreads, OpenThread, Opening, Participant, Submit, TagThread,
};
use whimbrel_protocol::user::{ClaimKeyPackages, LookUp, NewInvite, RelayHint, StockKeyPackages, Who};

use super::*;
use crate::config::Registration;

mod crowd;
mod federation;
mod held;
mod hub;
mod ids;
mod people;
mod publics;
mod rates;
mod requests;
mod revoked;
mod siblings;
mod signals;
mod tree;
mod wake;
mod watch;

const THREAD: ThreadId = ThreadId::from_bytes([77; 32]);
const LOG: LogRef = LogRef::Thread(THREAD);
const TOKEN: InviteToken = InviteToken::from_bytes([5; 16]);

fn refusal(heard: &[Frame]) -> Option<RefusalCode> {
    heard.iter().find_map(|frame| match frame {
        Frame::Refused(Refused { code, .. }) => Some(*code),
        _ => None,
    })
}

fn bodies(entries: &[Entry]) -> Vec<Vec<u8>> {
    let body = |entry: &Entry| match &entry.body {
        EntryBody::Envelope(_, envelope) => envelope.body.clone(),
        other => panic!("no envelope: {other:?}"),
    };
    entries.iter().map(body).collect()
}

fn envelope(body: &[u8]) -> Envelope {
    Envelope { thread: THREAD, epoch: Epoch::new(1), class: Class::Message, body: body.to_vec() }
}

impl World {
    fn submit(&mut self, who: usize, body: &[u8]) -> Submit {
        let _ = who;
        Submit { request: self.request(), envelope: envelope(body), heard: None }
    }

    fn look_up(&mut self, who: usize, whom: Who, hint: Option<RelayHint>) -> Vec<Frame> {
        let request = self.request();
        self.ask(who, LookUp { request, who: whom, hint })
    }

    fn invite(&mut self, who: usize) {
        let request = self.request();
        let expires = Wall::from_millis(self.now.wall.as_millis() + 1_000_000_000);
        let heard = self.ask(who, NewInvite { request, token: TOKEN.hash(), uses: 2, expires });
        assert!(matches!(heard[..], [Frame::Done(_)]), "{heard:?}");
        let request = self.request();
        let heard = self.ask(
            who,
            StockKeyPackages { request, one_time: vec![vec![1; 2_700].into()], last_resort: None, replaces: false },
        );
        assert!(matches!(&heard[..], [Frame::Stocked(stocked)] if stocked.left == 1), "{heard:?}");
    }

    fn claim(&mut self, who: usize, owner: usize, at: usize, token: Option<InviteToken>) -> Vec<Frame> {
        let (request, account) = (self.request(), self.devices[owner].id().account);
        self.ask(who, ClaimKeyPackages { request, account, domain: domain(at), token })
    }

    fn open_frame(&mut self, people: &[(usize, usize)]) -> OpenThread {
        let participant = |(who, at): &(usize, usize)| {
            let DeviceId { account, index } = self.devices[*who].id();
            Participant { account, domain: domain(*at), devices: vec![index] }
        };
        let mut participants: Vec<Participant> = people.iter().map(participant).collect();
        participants.sort_by_key(|participant| participant.account);
        let (welcome, tree) = (vec![3; 12_000], vec![4; 20_000]);
        let opening = Opening { thread: THREAD, epoch: Epoch::new(1), participants, welcome, tree, founding: None };
        OpenThread { request: self.request(), opening, tag: ParticipantsTag::from_bytes([9; 32]), info: None }
    }

    fn acknowledge(&mut self, who: usize, log: LogRef, upto: u64) {
        let logs = vec![AckedLog { log, upto: Sequence::new(upto) }];
        assert!(self.ask(who, Acknowledge { logs }).is_empty());
    }

    /// Alice invites, Bob claims and opens a thread with her.
    fn befriend(&mut self, (alice, at): (usize, usize), (bob, from): (usize, usize)) {
        self.invite(alice);
        let heard = self.claim(bob, alice, at, Some(TOKEN));
        assert!(matches!(&heard[..], [Frame::ClaimedKeyPackages(claimed)] if claimed.packages.len() == 1), "{heard:?}");
        let open = self.open_frame(&[(alice, at), (bob, from)]);
        self.devices[alice].inbox.clear();
        let heard = self.ask(bob, open);
        assert!(matches!(&heard[..], [Frame::Stored(stored)] if stored.sequence == Sequence::ZERO), "{heard:?}");
    }
}

fn hello(from: usize, to: usize, introduction: Option<Introduction>) -> PeerHello {
    PeerHello { version: VERSION, domain: domain(from), to: domain(to), introduction }
}

/// Alice and Bob, friends, each at the relay of that number.
fn friends(alice_at: usize, bob_at: usize) -> (World, usize, usize) {
    let mut world = World::new(2);
    let (alice, bob) = (world.join("alice", alice_at), world.join("bob", bob_at));
    world.befriend((alice, alice_at), (bob, bob_at));
    (world, alice, bob)
}

/// A driver makes and moves one for each frame.
#[test]
fn the_work_on_a_frame_takes_little_room() {
    let world = World::new(1);
    let (relay, now) = (world.relay(0), world.now);
    let bytes = size_of_val(&relay.handle(now, LinkId::new(1), Heartbeat::default().into()));
    assert!(bytes <= 3_072, "{bytes} bytes");
}

#[test]
fn an_account_is_registered_and_found() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let bob = world.join("bob", 0);
    for who in
        [Who::Address("alice@a.example".parse().unwrap()), Who::Account(world.devices[alice].id().account, domain(0))]
    {
        let heard = world.look_up(bob, who, None);
        let [Frame::LookedUp(found)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(found.address.to_string(), "alice@a.example");
        assert_eq!(found.log, world.devices[alice].log.bytes());
    }
    let heard = world.look_up(bob, Who::Address("nobody@a.example".parse().unwrap()), None);
    assert_eq!(refusal(&heard), Some(RefusalCode::NotFound));
}

#[test]
fn only_the_device_itself_is_admitted() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let mallory = world.person("mallory");
    // An account nobody registered, a proof for another connection, another's certificate: one answer.
    let link = world.link(mallory, 0);
    let hello = world.hello_frame(mallory, link);
    let unknown = world.ask(mallory, hello);
    let link = world.link(mallory, 0);
    let hello = world.hello_frame(alice, link);
    let stolen = world.ask(mallory, hello);
    let link = world.link(alice, 0);
    let mut hello = world.hello_frame(alice, link);
    hello.proof = world.hello_frame(alice, LinkId::new(link.get() + 1)).proof;
    let forwarded = world.ask(alice, hello);
    for heard in [&unknown, &stolen, &forwarded] {
        assert_eq!(heard, &unknown);
        assert_eq!(refusal(heard), Some(RefusalCode::NotAuthenticated));
    }
    assert_eq!(world.devices[mallory].link, None, "a refused link is closed");
    // A log that does not prove itself, and one that is another's.
    let link = world.link(mallory, 0);
    let mut register = world.register_frame(mallory, link);
    register.log[20] ^= 1;
    assert_eq!(refusal(&world.ask(mallory, register)), Some(RefusalCode::NotAuthenticated));
    let link = world.link(mallory, 0);
    let mut register = world.register_frame(mallory, link);
    register.log = world.devices[alice].log.bytes();
    assert_eq!(refusal(&world.ask(mallory, register)), Some(RefusalCode::NotAuthenticated));
    // Before admission nothing is served.
    world.link(mallory, 0);
    let request = world.request();
    let heard =
        world.ask(mallory, LookUp { request, who: Who::Address("alice@a.example".parse().unwrap()), hint: None });
    assert_eq!(refusal(&heard), Some(RefusalCode::Unexpected));
}

#[test]
fn a_name_is_given_once_and_a_closed_relay_takes_nobody() {
    let mut world = World::new(1);
    world.join("alice", 0);
    let other = world.person("alice");
    let link = world.link(other, 0);
    let register = world.register_frame(other, link);
    assert_eq!(refusal(&world.ask(other, register)), Some(RefusalCode::NameTaken));
    world.devices[other].name = "alice2".to_owned();
    let register = world.register_frame(other, link);
    assert!(matches!(world.ask(other, register)[..], [Frame::Registered(_)]), "another name on the same link");
    let mut config = Config::new(domain(0), relay_id(0));
    config.registration = Registration::Closed;
    let mut world = World::with(vec![config]);
    let alice = world.person("alice");
    let link = world.link(alice, 0);
    let register = world.register_frame(alice, link);
    assert_eq!(refusal(&world.ask(alice, register)), Some(RefusalCode::RegistrationClosed));
}

#[test]
fn a_registration_whose_answer_got_lost_is_answered_again_also_by_a_relay_that_closed() {
    let mut world = World::new(1);
    let alice = world.person("alice");
    for closed in [false, true] {
        let link = world.link(alice, 0);
        let register = world.register_frame(alice, link);
        world.say(alice, register);
        world.turn();
        world.turn();
        world.leave(alice);
        world.run();
        if closed {
            world.crash(0, true);
            world.sites[0].config.registration = Registration::Closed;
            world.start(0);
        }
        let link = world.link(alice, 0);
        let register = world.register_frame(alice, link);
        let heard = world.ask(alice, register);
        assert!(
            matches!(&heard[..], [Frame::Registered(words)] if words.address.name.as_str() == "alice"),
            "{heard:?}"
        );
        world.leave(alice);
        world.run();
    }
    let bob = world.person("bob");
    let link = world.link(bob, 0);
    let register = world.register_frame(bob, link);
    assert_eq!(refusal(&world.ask(bob, register)), Some(RefusalCode::RegistrationClosed));
}

#[test]
fn a_silent_stranger_and_a_silent_device_lose_their_links() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let mallory = world.person("mallory");
    world.link(mallory, 0);
    world.pass(limits::AUTHENTICATION_TIME_MAX);
    assert_eq!(world.devices[mallory].link, None);
    for _ in 0..8 {
        world.pass(limits::HEARTBEAT_EVERY);
        let heard = world.ask(alice, Heartbeat::default());
        assert!(matches!(&heard[..], [Frame::HeartbeatAnswer(answer)] if answer.wall == world.now.wall), "{heard:?}");
    }
    world.pass(limits::LINK_IDLE_MAX);
    assert_eq!(world.devices[alice].link, None);
}

#[test]
fn the_newest_link_of_a_device_is_its_link() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let (_, old) = world.devices[alice].link.unwrap();
    let heard = world.come_back(alice, 0);
    assert!(matches!(heard[1], Frame::Admitted(_)) || matches!(heard[0], Frame::Admitted(_)), "{heard:?}");
    assert!(!world.lives(0, old));
}

/// The whole first contact and a message, with both people at the relays of these numbers.
fn first_contact(alice_at: usize, bob_at: usize) {
    let (mut world, alice, bob) = friends(alice_at, bob_at);
    // Alice hears that a KeyPackage went, and of the thread, at once.
    let heard = std::mem::take(&mut world.devices[alice].inbox);
    let invited = entries(&heard, LogRef::Inbox, Sequence::ZERO);
    let EntryBody::Invitation(invitation) = &invited[0].body else { panic!("{invited:?}") };
    assert_eq!((invited.len(), invitation.inviter), (1, world.devices[bob].id()));
    for (blob, bytes) in [(invitation.welcome, vec![3; 12_000]), (invitation.tree, vec![4; 20_000])] {
        let request = world.request();
        let heard = world.ask(alice, FetchBlob { request, blob });
        assert!(matches!(&heard[..], [Frame::Blob(blob)] if blob.bytes == bytes));
    }
    let request = world.request();
    let blob = BlobId::from_bytes([0; 32]);
    assert_eq!(refusal(&world.ask(alice, FetchBlob { request, blob })), Some(RefusalCode::NotFound));
    // Nobody else is given them, knowing what they are called or not; nor is whoever made them.
    let eve = world.join("eve", alice_at);
    for blob in [invitation.welcome, invitation.tree, blob] {
        for who in [eve, bob] {
            let request = world.request();
            assert_eq!(refusal(&world.ask(who, FetchBlob { request, blob })), Some(RefusalCode::NotFound));
        }
    }
    let request = world.request();
    let tag = ParticipantsTag::from_bytes([8; 32]);
    assert!(matches!(world.ask(alice, TagThread { request, thread: THREAD, tag })[..], [Frame::Done(_)]));
    world.acknowledge(alice, LogRef::Inbox, 1);

    // Both ways, each seeing everything once and in order.
    let (mut to_alice, mut to_bob) = (Vec::new(), Vec::new());
    for n in 0..20_u8 {
        let (who, other) = if n % 3 == 0 { (alice, bob) } else { (bob, alice) };
        world.devices[other].inbox.clear();
        let submit = world.submit(who, &[n; 50]);
        let own = world.ask(who, submit);
        assert!(
            matches!(&own[0], Frame::Stored(stored) if stored.sequence == Sequence::new(u64::from(n) + 1)),
            "{own:?}"
        );
        let theirs = std::mem::take(&mut world.devices[other].inbox);
        let (mine, yours) = if who == alice { (own, theirs) } else { (theirs, own) };
        to_alice.extend(mine);
        to_bob.extend(yours);
    }
    let expected: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 50]).collect();
    assert_eq!(bodies(&entries(&to_alice, LOG, Sequence::ZERO)), expected);
    assert_eq!(bodies(&entries(&to_bob, LOG, Sequence::ZERO)), expected);

    let list = |world: &mut World| {
        let request = world.request();
        let heard = world.ask(alice, ListThreads { request, after: None, limit: 10 });
        let [Frame::ThreadPage(page)] = &heard[..] else { panic!("{heard:?}") };
        (page.rows[0].unread, page.rows[0].head.get(), page.rows[0].tag)
    };
    assert_eq!(list(&mut world), (20, 20, Some(tag)));
    world.acknowledge(alice, LOG, 15);
    world.acknowledge(alice, LOG, 99);
    world.pass(limits::CURSOR_WRITE_DELAY);
    assert_eq!(list(&mut world), (5, 20, Some(tag)), "nobody has acknowledged what was not pushed");
    // What was acknowledged does not come again.
    world.leave(alice);
    let heard = world.come_back(alice, alice_at);
    assert_eq!(bodies(&entries(&heard, LOG, Sequence::new(15))), expected[15..]);
    assert!(entries(&heard, LogRef::Inbox, Sequence::new(1)).is_empty());
    assert!(matches!(heard.last(), Some(Frame::CaughtUp(_))));
}

#[test]
fn two_people_meet_and_talk_on_one_relay() {
    first_contact(0, 0);
}

#[test]
fn two_people_meet_and_talk_across_two_relays() {
    first_contact(0, 1);
}

#[test]
fn a_relay_is_found_by_an_invite_link_and_remembered() {
    // Bob's relay does not know Alice's; Alice's knows Bob's.
    let mut configs = vec![Config::new(domain(0), relay_id(0)), Config::new(domain(1), relay_id(1))];
    configs[0].peers = vec![address(1)];
    let mut world = World::with(configs);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 1));
    let alice = Who::Account(world.devices[alice].id().account, domain(0));
    let hint = |relay| Some(RelayHint { domain: domain(0), endpoint: address(0).endpoint, relay, token: None });
    assert_eq!(refusal(&world.look_up(bob, alice.clone(), None)), Some(RefusalCode::PeerUntrusted));
    // A link with a wrong fingerprint leads nowhere, and leaves no pin behind.
    let heard = world.look_up(bob, alice.clone(), hint(relay_id(2)));
    assert_eq!(refusal(&heard), Some(RefusalCode::PeerUnreachable));
    world.pass(Duration::from_secs(2));
    let heard = world.look_up(bob, alice.clone(), hint(relay_id(0)));
    assert!(matches!(heard[..], [Frame::LookedUp(_)]), "{heard:?}");
    // From now on nothing else passes for that domain, also after a crash.
    for _ in 0..2 {
        let heard = world.look_up(bob, alice.clone(), hint(relay_id(2)));
        assert_eq!(refusal(&heard), Some(RefusalCode::PeerUntrusted));
        let heard = world.look_up(bob, alice.clone(), None);
        assert!(matches!(heard[..], [Frame::LookedUp(_)]), "{heard:?}");
        world.crash(1, false);
        world.start(1);
        world.come_back(bob, 1);
    }
}

#[test]
fn a_peer_must_show_its_pinned_identity_and_its_own_domain() {
    let mut world = World::new(2);
    let hello = |from: usize, to: usize| hello(from, to, None);
    for (relay, certified, said) in [
        (relay_id(2), domain(1), hello(1, 0)),
        (relay_id(1), domain(1), hello(2, 0)),
        (relay_id(1), domain(1), hello(1, 2)),
        (relay_id(2), domain(2), hello(2, 0)),
    ] {
        let link = world.come_in_as_relay(0, relay, certified);
        world.heard.clear();
        world.hand(0, link, &said.into());
        world.run();
        assert_eq!(refusal(&world.heard), Some(RefusalCode::PeerUntrusted));
        assert!(!world.lives(0, link));
    }
    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.heard.clear();
    world.hand(0, link, &hello(1, 0).into());
    world.run();
    assert_eq!(world.heard, [Frame::PeerHello(hello(0, 1))]);
}

#[test]
fn a_peer_speaks_for_its_own_users_only() {
    let (mut world, alice, bob) = friends(0, 0);
    let carol = world.join("carol", 1);
    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.hand(0, link, &hello(1, 0, None).into());
    world.run();
    let mut number = 0;
    let mut forward = |world: &mut World, bodies: Vec<ForwardBody>| {
        let items = bodies.into_iter().map(|body| {
            number += 1;
            ForwardItem { number, body }
        });
        let frame = Forward { items: items.collect(), answered: 0 };
        world.heard.clear();
        world.hand(0, link, &frame.into());
        world.run();
        let Frame::Forwarded(answer) = &world.heard[0] else { panic!("{:?}", world.heard) };
        answer.refused.iter().map(|refusal| refusal.code).collect::<Vec<_>>()
    };
    let ids = [world.devices[alice].id(), world.devices[bob].id(), world.devices[carol].id()];
    let [_, bob_id, carol_id] = ids;
    // Not in Bob's name, not into a thread Carol is not in.
    let forged =
        vec![ForwardBody::Envelope(bob_id, envelope(b"forged")), ForwardBody::Envelope(carol_id, envelope(b"forged"))];
    assert_eq!(forward(&mut world, forged), [RefusalCode::NotFound, RefusalCode::NotFound]);
    // A stranger and somebody who is not here look alike.
    let open = |world: &mut World, other: DeviceId, thread: u8| {
        let mut opening = world.open_frame(&[(alice, 0), (carol, 1)]).opening;
        opening.thread = ThreadId::from_bytes([thread; 32]);
        for participant in &mut opening.participants {
            if participant.domain == domain(0) {
                participant.account = other.account;
            }
        }
        opening.participants.sort_by_key(|participant| participant.account);
        opening
    };
    let nobody = DeviceId { account: whimbrel_protocol::id::AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };
    let bodies = vec![
        ForwardBody::Opening(carol_id, open(&mut world, bob_id, 1)),
        ForwardBody::Opening(carol_id, open(&mut world, nobody, 2)),
    ];
    assert_eq!(forward(&mut world, bodies), [RefusalCode::NoConsent, RefusalCode::NoConsent]);
    // Numbers out of step end the link.
    let items = vec![ForwardItem { number: 50, body: ForwardBody::Envelope(carol_id, envelope(b"x")) }];
    world.hand(0, link, &Forward { items, answered: 0 }.into());
    world.run();
    assert!(!world.lives(0, link));
}

#[test]
fn without_consent_a_stranger_and_nobody_look_alike() {
    let mut world = World::new(2);
    let (alice, bob, carol) = (world.join("alice", 0), world.join("bob", 0), world.join("carol", 1));
    world.invite(alice);
    let wrong = InviteToken::from_bytes([6; 16]);
    let nobody = world.person("nobody");
    for asker in [bob, carol] {
        let stranger = refusal(&world.claim(asker, alice, 0, None));
        let guessed = refusal(&world.claim(asker, alice, 0, Some(wrong)));
        let missing = refusal(&world.claim(asker, nobody, 0, Some(TOKEN)));
        assert_eq!([stranger, guessed, missing], [Some(RefusalCode::NoConsent); 3]);
    }
    let open = world.open_frame(&[(alice, 0), (bob, 0)]);
    assert_eq!(refusal(&world.ask(bob, open)), Some(RefusalCode::NoConsent));
    let open = world.open_frame(&[(nobody, 0), (bob, 0)]);
    assert_eq!(refusal(&world.ask(bob, open)), Some(RefusalCode::NoConsent));
}

#[test]
fn what_waits_for_a_device_that_is_away_comes_once_and_in_order() {
    for bob_at in [0, 1] {
        let (mut world, alice, bob) = friends(0, bob_at);
        world.leave(alice);
        for n in 0..300_u16 {
            let submit = world.submit(bob, &n.to_be_bytes());
            world.say(bob, submit);
        }
        world.run();
        let heard = world.come_back(alice, 0);
        let expected: Vec<Vec<u8>> = (0..300_u16).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(bodies(&entries(&heard, LOG, Sequence::ZERO)), expected);
        let kinds: Vec<&str> = heard.iter().map(Frame::name).collect();
        assert_eq!(&kinds[..3], ["Admitted", "Stocked", "Push"]);
        assert_eq!(kinds.last(), Some(&"CaughtUp"));
        // The inbox comes first.
        assert!(matches!(&heard[2], Frame::Push(push) if push.log == LogRef::Inbox));
    }
}

#[test]
fn submissions_are_appended_in_the_order_they_arrived() {
    let (mut world, alice, bob) = friends(0, 0);
    world.devices[alice].inbox.clear();
    for n in 0..64_u8 {
        let submit = world.submit(bob, &[n]);
        world.say(bob, submit);
    }
    world.run();
    let expected: Vec<Vec<u8>> = (0..64_u8).map(|n| vec![n]).collect();
    assert_eq!(bodies(&entries(&world.devices[alice].inbox, LOG, Sequence::ZERO)), expected);
}

#[test]
fn an_envelope_submitted_again_keeps_its_place() {
    let (mut world, _, bob) = friends(0, 1);
    let places = |heard: &[Frame]| match &heard[0] {
        Frame::Stored(stored) => stored.sequence.get(),
        other => panic!("{other:?}"),
    };
    let first = world.submit(bob, b"one");
    assert_eq!(places(&world.ask(bob, first)), 1);
    let second = world.submit(bob, b"two");
    assert_eq!(places(&world.ask(bob, second)), 2);
    let again = world.submit(bob, b"one");
    let heard = world.ask(bob, again);
    assert_eq!((places(&heard), heard.len()), (1, 1));
    world.crash(1, false);
    world.start(1);
    world.come_back(bob, 1);
    let again = world.submit(bob, b"two");
    assert_eq!(places(&world.ask(bob, again)), 2);
}

/// Everything Bob was told is stored reaches Alice, whatever moment a relay dies in.
#[test]
fn no_crash_loses_what_was_answered() {
    for (bob_at, dying) in [(0, 0), (1, 1), (1, 0)] {
        for turns in 0..24 {
            for reached_the_disk in [false, true] {
                let (mut world, alice, bob) = friends(0, bob_at);
                world.leave(alice);
                world.devices[bob].inbox.clear();
                for n in 0..5_u8 {
                    let submit = world.submit(bob, &[n]);
                    world.say(bob, submit);
                }
                for _ in 0..turns {
                    world.turn();
                }
                let stored: Vec<u64> = world.devices[bob]
                    .inbox
                    .iter()
                    .filter_map(|frame| match frame {
                        Frame::Stored(stored) => Some(stored.sequence.get()),
                        _ => None,
                    })
                    .collect();
                world.crash(dying, reached_the_disk);
                world.start(dying);
                // Bob's node sends again what it has no answer for.
                if world.devices[bob].link.is_none() {
                    world.come_back(bob, bob_at);
                }
                for n in 0..5_u8 {
                    if !stored.contains(&(u64::from(n) + 1)) {
                        let submit = world.submit(bob, &[n]);
                        world.say(bob, submit);
                    }
                }
                world.pass(Duration::from_secs(5));
                let heard = world.come_back(alice, 0);
                let said = bodies(&entries(&heard, LOG, Sequence::ZERO));
                let expected: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n]).collect();
                assert_eq!(said, expected, "{dying} died after {turns} turns, on the disk: {reached_the_disk}");
                assert_eq!(world.relay(bob_at).forwards_dropped(), 0);
            }
        }
    }
}

#[test]
fn a_peer_that_is_down_gets_everything_later() {
    let (mut world, alice, bob) = friends(0, 1);
    world.crash(0, false);
    for n in 0..200_u8 {
        let submit = world.submit(bob, &[n]);
        let heard = world.ask(bob, submit);
        assert!(matches!(heard[0], Frame::Stored(_)), "Bob's relay does not wait for Alice's: {heard:?}");
    }
    let asked = world.look_up(bob, Who::Address("alice@a.example".parse().unwrap()), None);
    assert_eq!(refusal(&asked), Some(RefusalCode::PeerUnreachable));
    world.pass(Duration::from_secs(600));
    world.start(0);
    world.pass(limits::PEER_BACKOFF_MAX);
    let heard = world.come_back(alice, 0);
    let expected: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n]).collect();
    assert_eq!(bodies(&entries(&heard, LOG, Sequence::ZERO)), expected);
    // Nothing is left, so nothing keeps the link open or wakes the relay but its looks for what waited too long.
    world.leave(alice);
    world.leave(bob);
    world.pass(limits::LINK_IDLE_MAX.saturating_mul(3));
    world.pass(limits::LINK_IDLE_MAX.saturating_mul(3));
    let sweep = world.relay(1).poll_timeout().unwrap();
    world.pass(sweep.since(world.now.monotonic));
    assert_eq!(world.relay(1).poll_timeout(), Some(sweep.plus(limits::SWEEP_EVERY)));
}

#[test]
fn a_slow_link_falls_back_to_its_cursor() {
    let mut world = World::new(1);
    world.set_room(0, 6);
    world.crash(0, false);
    world.start(0);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.befriend((alice, 0), (bob, 0));
    let mut heard = std::mem::take(&mut world.devices[alice].inbox);
    world.devices[alice].slow = true;
    for n in 0..100_u8 {
        let submit = world.submit(bob, &[n]);
        let answer = world.ask(bob, submit);
        assert!(matches!(answer[0], Frame::Stored(_)), "Bob does not wait for Alice");
    }
    // An answer that finds no room waits, and is not lost.
    let request = world.request();
    world.say(alice, ListThreads { request, after: None, limit: 10 });
    world.run();
    world.devices[alice].slow = false;
    world.run();
    heard.extend(std::mem::take(&mut world.devices[alice].inbox));
    let expected: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n]).collect();
    assert_eq!(bodies(&entries(&heard, LOG, Sequence::ZERO)), expected);
    let pushes = heard.iter().filter(|frame| matches!(frame, Frame::Push(push) if push.log == LOG)).count();
    assert!(pushes < 20, "{pushes} pushes: what did not fit was read from the log, many at once");
    assert!(heard.iter().any(|frame| matches!(frame, Frame::ThreadPage(_))));
    assert!(world.devices[alice].link.is_some());
}

#[test]
fn who_comes_in_with_little_room_is_told_when_it_caught_up() {
    let mut world = World::new(1);
    world.set_room(0, 3);
    world.crash(0, false);
    world.start(0);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.befriend((alice, 0), (bob, 0));
    world.leave(alice);
    for n in 0..700_u16 {
        let submit = world.submit(bob, &n.to_be_bytes());
        world.ask(bob, submit);
    }
    world.link(alice, 0);
    world.devices[alice].slow = true;
    let hello = world.hello_frame(alice, world.devices[alice].link.unwrap().1);
    assert!(world.ask(alice, hello).is_empty());
    world.devices[alice].slow = false;
    world.run();
    let heard = std::mem::take(&mut world.devices[alice].inbox);
    assert_eq!(entries(&heard, LOG, Sequence::ZERO).len(), 700);
    assert_eq!(heard.iter().filter(|frame| matches!(frame, Frame::CaughtUp(_))).count(), 1);
    assert!(matches!(heard.last(), Some(Frame::CaughtUp(_))));
}

#[test]
fn acknowledged_entries_leave_the_disk_and_a_crash_of_cursors_only_redelivers() {
    let (mut world, alice, bob) = friends(0, 0);
    for n in 0..10_u8 {
        let submit = world.submit(bob, &[n]);
        world.ask(bob, submit);
    }
    world.acknowledge(alice, LOG, 10);
    world.crash(0, false);
    world.start(0);
    let heard = world.come_back(alice, 0);
    assert_eq!(entries(&heard, LOG, Sequence::ZERO).len(), 10, "the cursor was in memory: delivered again");
    world.come_back(bob, 0);
    world.acknowledge(alice, LOG, 10);
    world.acknowledge(bob, LOG, 10);
    world.pass(limits::CURSOR_WRITE_DELAY);
    world.crash(0, false);
    world.start(0);
    let heard = world.come_back(alice, 0);
    assert!(entries(&heard, LOG, Sequence::new(10)).is_empty());
    let store = &world.sites[0].running.as_ref().unwrap().disk.kv;
    let entries_left = store.scan(&[12], &[13], whimbrel_storage::Order::Ascending, 99).unwrap().len();
    assert_eq!(entries_left, 1, "the invitation in Alice's inbox is all that is left");
}

#[test]
fn a_cursor_counts_before_it_is_written() {
    let (mut world, alice, bob) = friends(0, 0);
    let submit = world.submit(bob, b"one");
    world.ask(bob, submit);
    world.acknowledge(alice, LOG, 1);
    let heard = world.come_back(alice, 0);
    assert!(entries(&heard, LOG, Sequence::new(1)).is_empty());
    // Nothing else is lost with it, and a clean stop writes it.
    let (relay, now) = (world.relay(0), world.now);
    world.spawn(0, |_| async move { relay.flush(now).await.unwrap() });
    world.run();
    world.crash(0, false);
    world.start(0);
    let heard = world.come_back(alice, 0);
    assert!(entries(&heard, LOG, Sequence::new(1)).is_empty());
}

#[test]
fn a_broken_link_between_relays_costs_no_message() {
    for turns in 0..16 {
        let (mut world, alice, bob) = friends(0, 1);
        let mut heard = std::mem::take(&mut world.devices[alice].inbox);
        for n in 0..5_u8 {
            let submit = world.submit(bob, &[n]);
            world.say(bob, submit);
        }
        for _ in 0..turns {
            world.turn();
        }
        let between: Vec<_> =
            world.ends.iter().filter(|(_, end)| matches!(end, End::Relay(..))).map(|(at, _)| *at).collect();
        between.into_iter().for_each(|(at, link)| world.cut(at, link));
        world.pass(Duration::from_secs(5));
        heard.extend(std::mem::take(&mut world.devices[alice].inbox));
        let expected: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n]).collect();
        assert_eq!(bodies(&entries(&heard, LOG, Sequence::ZERO)), expected, "cut after {turns} turns");
    }
}

#[test]
fn a_thread_of_these_people_is_opened_once() {
    let (mut world, alice, bob) = friends(0, 0);
    let open = world.open_frame(&[(alice, 0), (bob, 0)]);
    assert!(matches!(world.ask(bob, open)[..], [Frame::Stored(_)]), "the same again is the same");
    let mut open = world.open_frame(&[(alice, 0), (bob, 0)]);
    open.opening.thread = ThreadId::from_bytes([78; 32]);
    assert!(matches!(&world.ask(bob, open)[..], [Frame::ThreadExists(exists)] if exists.thread == THREAD));
}

#[test]
fn malformed_and_unknown_frames_are_answered() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    assert_eq!(refusal(&world.ask(alice, Frame::Unknown(999))), Some(RefusalCode::UnknownKind));
    assert!(world.devices[alice].link.is_some(), "a newer node is not thrown out");
    let (at, link) = world.devices[alice].link.unwrap();
    world.devices[alice].inbox.clear();
    world.relay(at).malformed(world.now, link);
    world.run();
    assert_eq!(refusal(&world.devices[alice].inbox), Some(RefusalCode::Malformed));
    assert_eq!(world.devices[alice].link, None);
}
