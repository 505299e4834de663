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
    let link = world.new_link(0, End::Test, LinkPeer::Node { transport, exporter, source: 9 });
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
