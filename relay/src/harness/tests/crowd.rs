//! Crowds: T50 and T55 at the size the threat table names, in virtual time. What a socket costs is for the tests of the
//! process; here it is what the core keeps, whom it lets in, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{AccountId, PublicKey};
use whimbrel_protocol::presence::Goodbye;

use super::*;
use crate::rate::{Rate, Rates};
use crate::store::Store as _;
use crate::store::command::GiveConsent;

/// T50: strangers, from a hundred networks, who say nothing.
#[test]
fn t50_ten_thousand_links_that_say_nothing_end_in_time_and_keep_nobody_out() {
    const CROWD: u64 = 10_000;
    let (mut world, alice, bob) = friends(0, 0);
    let stranger = |n: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        LinkPeer::Node {
            transport: PublicKey::from_bytes(key),
            exporter: [9; 32],
            source: 1_000 + n / 100,
            door: None,
            counted: false,
        }
    };
    let links: Vec<LinkId> = (0..CROWD).map(|n| world.new_link(0, End::Test, stranger(n))).collect();
    world.run();
    assert!(links.iter().all(|link| world.lives(0, *link)), "nobody is turned away for their number");
    let heard = |world: &mut World, n: u8| {
        world.devices[bob].inbox.clear();
        let submit = world.submit(alice, &[n]);
        assert!(world.ask(alice, submit).iter().any(|frame| matches!(frame, Frame::Stored(_))));
        world.devices[bob].inbox.iter().filter(|frame| matches!(frame, Frame::Push(_))).count()
    };
    assert_eq!(heard(&mut world, 1), 1, "those who are in are served as before");
    // A tenth of them says something that only somebody who is in may say.
    for link in links.iter().step_by(10) {
        world.hand(0, *link, &Frame::from(Goodbye {}));
    }
    world.run();
    assert!(links.iter().step_by(10).all(|link| !world.lives(0, *link)), "they are out at once");
    let carol = world.join("carol", 0);
    world.pass(limits::AUTHENTICATION_TIME_MAX);
    assert!(links.iter().all(|link| !world.lives(0, *link)), "the others when their time is up");
    assert_eq!(heard(&mut world, 2), 1);
    assert!(world.devices[carol].link.is_some());
    // From one network only as many come in as its rate lets.
    let one = |n: u64| match stranger(n) {
        LinkPeer::Node { transport, exporter, .. } => {
            LinkPeer::Node { transport, exporter, source: 5_000, door: None, counted: false }
        }
        other => other,
    };
    let links: Vec<LinkId> = (0..CROWD).map(|n| world.new_link(0, End::Test, one(n))).collect();
    world.run();
    let standing = links.iter().filter(|link| world.lives(0, **link)).count();
    assert_eq!(standing, Rates::default().arrivals.burst as usize);
}

/// T55: so many sessions come back within ten seconds of the relay's start, each with twenty friends there.
fn return_of(crowd: usize) {
    const FRIENDS: usize = 20;
    // Links a second that the configuration takes from this network: fewer than come.
    let rate = u32::try_from(crowd * 3 / 50).unwrap();
    let mut config = Config::new(domain(0), relay_id(0));
    config.rates = Rates::UNBOUNDED;
    let mut world = World::with(vec![config]);
    let people: Vec<usize> = (0..crowd).map(|n| world.join(&format!("c{n}"), 0)).collect();
    let accounts: Vec<AccountId> = people.iter().map(|who| world.devices[*who].id().account).collect();
    let at = world.now.wall;
    for (n, owner) in accounts.iter().enumerate() {
        let around = (1..=FRIENDS / 2).flat_map(|step| [(n + step) % crowd, (n + crowd - step) % crowd]);
        let give = |other: usize| GiveConsent { owner: *owner, other: accounts[other], domain: domain(0), at };
        let commands = around.map(|other| Command::GiveConsent(give(other))).collect();
        world.store(0, |relay| async move { relay.ports().store().commit_all(commands).await.unwrap() });
    }
    world.crash(0, true);
    world.sites[0].config.rates.arrivals = Rate::new(rate * 60, rate / 10);
    world.start(0);

    let begin = world.now.monotonic;
    let spread = Duration::from_secs(10);
    let count = u32::try_from(crowd).unwrap();
    let mut coming: BTreeSet<(Monotonic, usize)> =
        (0..count).zip(&people).map(|(n, who)| (begin.plus(spread * n / count), *who)).collect();
    let (mut admitted, mut told, mut tries) = (BTreeMap::new(), 0, 0);
    while let Some((at, who)) = coming.pop_first() {
        world.pass(at.since(world.now.monotonic));
        tries += 1;
        let heard = world.come_back(who, 0);
        told += heard.iter().filter(|frame| matches!(frame, Frame::HeartbeatAnswer(_))).count();
        let refused = heard.iter().find_map(|frame| match frame {
            Frame::Refused(refused) => Some((refused.code, refused.retry_after_ms)),
            _ => None,
        });
        match refused {
            None => drop(admitted.insert(who, world.now.monotonic.since(begin))),
            // Tried again after what was named, and up to as long again and a second, as nodes do.
            Some((RefusalCode::TooFast, Some(after))) => {
                let jitter = (who as u64 * 7_919) % (u64::from(after) + 1_000);
                let again = Duration::from_millis(u64::from(after) + jitter);
                coming.insert((world.now.monotonic.plus(again), who));
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    let mut times: Vec<Duration> = admitted.into_values().collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    println!("{crowd} came back in {tries} tries, 99 of 100 within {p99:?}, the last after {:?}", times.last());
    assert!(tries > crowd, "the rate was met");
    assert_eq!((times.len(), told), (crowd, 0), "nobody is told of others but by a heartbeat");
    assert!(p99 < Duration::from_secs(60));
    // One frame each, and each friend once: not everybody of everybody.
    let mut statuses = 0;
    for round in 0..2 {
        for who in &people {
            let heard = world.ask(*who, Heartbeat::default());
            let answers = heard.iter().filter_map(|frame| match frame {
                Frame::HeartbeatAnswer(answer) => Some(answer.statuses.len()),
                _ => None,
            });
            let answers: Vec<usize> = answers.collect();
            assert_eq!(answers.len(), 1);
            statuses += answers[0];
        }
        assert_eq!(statuses, crowd * FRIENDS, "{round}");
    }
}

#[test]
fn t55_a_thousand_sessions_that_return_within_ten_seconds_are_let_in_at_the_rate_and_told_of_friends_once() {
    return_of(1_000);
}

#[test]
#[ignore = "the full size takes minutes: cargo test --workspace --all-features --lib -- --ignored t55 --nocapture"]
fn t55_fifty_thousand_sessions_that_return_within_ten_seconds_are_let_in_at_the_rate_and_told_of_friends_once() {
    return_of(50_000);
}
