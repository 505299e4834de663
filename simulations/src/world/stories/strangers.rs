//! Stories of strangers in numbers: who ask one person, and who open links and say nothing.

use whimbrel_node::api::Command;
use whimbrel_node::views::{self, Friendship};
use whimbrel_protocol::user::Who;

use super::*;
use crate::world::people::Asked;

/// Somebody asks somebody to be friends; nobody says yes.
fn asks(world: &mut World, who: ProcessNo, target: ProcessNo) {
    world.ledger.introduced(who, target);
    let of = world.node(target).unwrap();
    let (account, home) = (of.account, of.home);
    let domain = world.relays().find(|relay| relay.no == home).unwrap().domain.clone();
    world.command(
        who,
        Command::Befriend { who: Who::Account(account, domain), note: Some("me?".to_owned()) },
        Asked::About,
    );
}

/// How many requests somebody's device shows.
fn asking(world: &World, who: ProcessNo) -> usize {
    let friends = views::friends(world.node(who).unwrap().reads().unwrap()).unwrap();
    friends.iter().filter(|friend| friend.friendship == Friendship::Asking).count()
}

#[test]
fn t29_whoever_is_asked_by_many_and_by_one_again_and_again_is_shown_fifty_at_most_whatever_crashes_or_parts_meanwhile()
{
    for seed in 1..=3 {
        let mut world = World::new(Seed::from(seed));
        let (target, friend, here, there) = world.two_friends_on_two_relays();
        let strangers: Vec<_> = (0..limits::FRIENDS_ASKING_MAX + 8)
            .map(|n| world.test_node(if n % 3 == 0 { there } else { here }).unwrap())
            .collect();
        world.run_for(secs(30));
        let (eve, others) = strangers.split_first().unwrap();
        world.disconnect(target);
        for (n, stranger) in others.iter().enumerate() {
            asks(&mut world, *stranger, target);
            asks(&mut world, *eve, target);
            world.run_for(Duration::from_millis(700));
            // Before all have asked, while they do, and once there is no room.
            match n {
                15 => world.crash(here),
                30 => world.crash(there),
                33 => world.cut(here, there),
                45 => world.heal(here, there),
                50 => world.crash(target),
                _ => {}
            }
        }
        // Who was refused because a relay was away asks again.
        world.run_for(secs(120));
        for stranger in others {
            asks(&mut world, *stranger, target);
            world.run_for(Duration::from_millis(100));
        }
        world.run_for(secs(60));
        world.reconnect(target);
        world.run_for(limits::RELAY_BACKOFF_MAX + secs(30));
        assert_eq!(asking(&world, target), limits::FRIENDS_ASKING_MAX, "{seed}");
        world.command(target, Command::DeclineFriend(None), Asked::About);
        world.answered_within(target);
        assert_eq!(asking(&world, target), 0, "{seed}");
        // Who is a friend was in nobody's way, nor is anybody in theirs.
        chat(&mut world, target, friend, 3);
        assert_eq!(well(world).shown, 6, "{seed}");
    }
}

/// Links of one process that no node of its will speak on: it does not run.
fn silent(world: &mut World, from: ProcessNo, relay: ProcessNo, count: usize) -> Vec<whimbrel_protocol::id::LinkId> {
    (0..count).map(|_| world.net.dial(&mut world.engine, from, relay)).collect()
}

#[test]
fn t50_ten_thousand_links_that_never_say_a_word_end_in_time_and_keep_nobody_out() {
    let mut world = World::new(Seed::from(50));
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    chat(&mut world, alice, bob, 10);
    world.run_until_quiet();
    // From twenty networks, none of which brings more than may come from one at once.
    let attackers: Vec<_> = (0..20).map(|_| world.test_node(relay).unwrap()).collect();
    world.run_for(secs(10));
    let (mut links, before) = (Vec::new(), world.net.counts.links);
    for attacker in &attackers {
        world.kill(*attacker);
        links.extend(silent(&mut world, *attacker, relay, 500));
    }
    world.run_for(secs(2));
    assert_eq!((links.len(), world.net.counts.links - before), (10_000, 10_000), "they do not stand");
    // Whoever is in talks on.
    chat(&mut world, alice, bob, 3);
    assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (13, 13));
    let stand = |world: &World| links.iter().filter(|link| world.net.ends(**link).is_some()).count();
    assert_eq!(stand(&world), 10_000, "they were ended before their time");
    let late = world.test_node(relay).unwrap();
    world.run_for(limits::AUTHENTICATION_TIME_MAX - secs(1));
    assert_eq!(stand(&world), 0, "links that were never proved still stand");
    // And whoever comes is let in.
    world.befriend(alice, late);
    chat(&mut world, alice, late, 1);
    well(world);
}
