//! What a rate bounds before anybody is let in, and of what devices send by themselves.

use whimbrel_protocol::user::{ExtendLog, Recover};

use super::*;
use crate::rate::{Rate, Rates};

fn world(rates: Rates) -> World {
    let mut config = Config::new(domain(0), relay_id(0));
    config.rates = rates;
    World::with(vec![config])
}

fn refused(heard: &[Frame]) -> Option<(RefusalCode, Option<u32>)> {
    heard.iter().find_map(|frame| match frame {
        Frame::Refused(refused) => Some((refused.code, refused.retry_after_ms)),
        _ => None,
    })
}

#[test]
fn registrations_take_of_the_share_of_their_network_before_a_log_is_looked_at() {
    let mut world = world(Rates { arrivals: Rate::new(60, 5), ..Rates::default() });
    // A link and a registration.
    world.join("alice", 0);
    let bob = world.person("alice");
    let link = world.link(bob, 0);
    for n in 0..2 {
        let words = world.register_frame(bob, link);
        assert_eq!(refused(&world.ask(bob, words)), Some((RefusalCode::NameTaken, None)), "{n}");
    }
    let forged = |world: &mut World| {
        let words = world.register_frame(bob, link);
        Register { log: vec![0xff; 9], ..words }
    };
    let words = forged(&mut world);
    assert_eq!(refused(&world.ask(bob, words)), Some((RefusalCode::TooFast, Some(1_000))), "not looked at");
    assert!(world.lives(0, link), "it may wait and ask again");
    world.pass(Duration::from_secs(1));
    let words = forged(&mut world);
    assert_eq!(refused(&world.ask(bob, words)), Some((RefusalCode::NotAuthenticated, None)));
    // Another network has its own share.
    let (transport, exporter) = (world.devices[bob].transport.public(), [9; 32]);
    let link =
        world.new_link(0, End::Test, LinkPeer::Node { transport, exporter, source: 9, door: None, counted: false });
    assert!(world.lives(0, link));
}

#[test]
fn whoever_comes_back_by_the_recovery_key_takes_of_the_same_share() {
    let mut world = world(Rates { arrivals: Rate::new(60, 3), ..Rates::default() });
    let alice = world.join("alice", 0);
    let device = &world.devices[alice];
    let (key, account, (after, hash)) = (device.key.public(), device.log.account(), device.log.head());
    let proof = link::prove(&device.key, &[0; 32]);
    let recover = |request| -> Frame { Recover { request, name: "alice".parse().unwrap(), key, proof }.into() };
    let extend = |request| -> Frame { ExtendLog { request, account, after, hash, entries: vec![0xff; 9] }.into() };
    let ask = |world: &mut World, frame: &dyn Fn(RequestId) -> Frame| {
        world.leave(alice);
        let link = world.link(alice, 0);
        let request = world.request();
        let heard = world.ask(alice, frame(request));
        assert!(!world.lives(0, link), "a refusal here ends the link");
        refused(&heard).expect("refused").0
    };
    // The third token is the link's; each second brings one, and a link with a request takes two.
    for frame in [&recover as &dyn Fn(RequestId) -> Frame, &extend] {
        assert_eq!(ask(&mut world, frame), RefusalCode::TooFast);
        world.pass(Duration::from_secs(2));
        assert_ne!(ask(&mut world, frame), RefusalCode::TooFast);
        world.pass(Duration::from_secs(1));
    }
}

#[test]
fn relays_that_come_in_take_of_the_share_of_their_network() {
    let mut world = world(Rates { arrivals: Rate::new(60, 2), ..Rates::default() });
    let come = |world: &mut World| {
        world.heard.clear();
        let link = world.come_in_as_relay(0, relay_id(1), domain(1));
        world.run();
        (world.lives(0, link), refused(&world.heard))
    };
    assert_eq!([come(&mut world), come(&mut world)], [(true, None); 2]);
    assert_eq!(come(&mut world), (false, Some((RefusalCode::TooFast, Some(1_000)))));
    let alice = world.join("alice", 0);
    assert!(world.devices[alice].link.is_some(), "a node from elsewhere comes in");
    world.pass(Duration::from_secs(1));
    assert_eq!(come(&mut world), (true, None));
}

/// Commands that the relay gave its store.
fn commands(world: &World) -> u64 {
    world.sites[0].running.as_ref().unwrap().disk.commands()
}

fn touching(threads: usize) -> Heartbeat {
    let thread = |n: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        ThreadId::from_bytes(id)
    };
    Heartbeat { touches: (0..threads).map(thread).collect(), statuses: 0 }
}

#[test]
fn touches_beyond_the_rate_are_not_noted_and_those_of_honest_heartbeats_always() {
    let (mut world, alice, _) = friends(0, 0);
    let counted = commands(&world);
    for _ in 0..30 {
        let heard = world.ask(alice, touching(limits::TOUCHES_MAX));
        assert!(matches!(heard[..], [Frame::HeartbeatAnswer(_)]), "answered all the same: {heard:?}");
    }
    let burst = u64::from(Rates::default().touches.burst) / limits::TOUCHES_MAX as u64;
    assert_eq!(commands(&world) - counted, burst);
    // As many as a device may name, with each heartbeat that is due, for ten minutes.
    world.pass(limits::HEARTBEAT_EVERY);
    let counted = commands(&world);
    for _ in 0..60 {
        world.ask(alice, touching(limits::TOUCHES_MAX));
        world.pass(limits::HEARTBEAT_EVERY);
    }
    assert_eq!(commands(&world) - counted, 60);
}

#[test]
fn a_flood_of_heartbeats_or_acknowledgements_ends_its_link_until_there_is_room_again() {
    let (mut world, alice, bob) = friends(0, 0);
    let signs = Rates::default().signs;
    let acknowledge = |logs: usize| {
        let acked = AckedLog { log: LogRef::Inbox, upto: Sequence::ZERO };
        Acknowledge { logs: vec![acked; logs] }
    };
    // Honest beyond doubt: an acknowledgement for each of a thousand entries, and heartbeats between.
    for _ in 0..1_000 {
        assert!(world.ask(alice, acknowledge(1)).is_empty());
    }
    for _ in 0..100 {
        assert!(matches!(world.ask(alice, Heartbeat::default())[..], [Frame::HeartbeatAnswer(_)]));
    }
    world.pass(Duration::from_secs(10));
    let (mut frames, most) = (0, signs.burst / limits::HEARTBEAT_TOKENS);
    let refusal = loop {
        let heard = world.ask(alice, Heartbeat::default());
        match refused(&heard) {
            None => frames += 1,
            Some(refusal) => break refusal,
        }
    };
    assert_eq!((frames, refusal.0), (most, RefusalCode::TooFast));
    assert_eq!(world.devices[alice].link, None);
    // Whoever comes back at once with as much is out again; another account is as it was.
    world.come_back(alice, 0);
    assert_eq!(refused(&world.ask(alice, acknowledge(limits::ACK_LOGS_MAX))).map(|(code, _)| code), Some(refusal.0));
    assert!(matches!(world.ask(bob, Heartbeat::default())[..], [Frame::HeartbeatAnswer(_)]));
    world.pass(Duration::from_millis(refusal.1.unwrap().into()));
    world.come_back(alice, 0);
    assert!(matches!(world.ask(alice, Heartbeat::default())[..], [Frame::HeartbeatAnswer(_)]));
}

#[test]
fn a_flood_of_heartbeats_of_a_peer_ends_its_link_and_leaves_it_its_requests() {
    let mut world = World::new(2);
    let burst = Rates::default().peer_requests.burst;
    let greeted = |world: &mut World| {
        let link = world.come_in_as_relay(0, relay_id(1), domain(1));
        world.hand(0, link, &hello(1, 0, None).into());
        world.run();
        link
    };
    let link = greeted(&mut world);
    for n in 0..burst {
        world.heard.clear();
        world.hand(0, link, &Heartbeat::default().into());
        world.run();
        assert!(matches!(world.heard[..], [Frame::HeartbeatAnswer(_)]), "{n}: {:?}", world.heard);
    }
    world.heard.clear();
    world.hand(0, link, &Heartbeat::default().into());
    world.run();
    assert_eq!(refused(&world.heard).map(|(code, _)| code), Some(RefusalCode::TooFast));
    assert!(!world.lives(0, link));
    // What it asks for has a share of its own.
    let link = greeted(&mut world);
    world.heard.clear();
    let (request, who) = (world.request(), Who::Address("nobody@a.example".parse().unwrap()));
    world.hand(0, link, &LookUp { request, who, hint: None }.into());
    world.run();
    assert_eq!(refused(&world.heard), Some((RefusalCode::NotFound, None)));
}

#[test]
fn t13_claims_that_are_refused_take_nothing_of_those_that_are_answered_and_tell_no_one_from_nobody() {
    let mut world = world(Rates::default());
    let (alice, eve) = (world.join("alice", 0), world.join("eve", 0));
    let nobody = world.person("nobody");
    for owner in [alice, nobody] {
        let codes: Vec<_> = (0..12).map(|_| refusal(&world.claim(eve, owner, 0, None))).collect();
        assert_eq!(codes, [Some(RefusalCode::NoConsent); 12]);
    }
    world.make_friends((eve, 0), (alice, 0));
    let claims = |world: &mut World| (0..11).map(|_| refusal(&world.claim(eve, alice, 0, None))).collect::<Vec<_>>();
    let codes = claims(&mut world);
    assert_eq!((&codes[..10], codes[10]), (&[None; 10][..], Some(RefusalCode::TooFast)));
    world.pass(Duration::from_secs(3_600));
    world.come_back(eve, 0);
    assert_eq!(claims(&mut world), codes, "as many in the next hour");
}
