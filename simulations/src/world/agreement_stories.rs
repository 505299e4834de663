//! Stories of devices that are not where the others of their thread are: the judge finds each (P6).

use super::circle_stories::people;
use super::stories::{secs, well};
use super::*;
use crate::judge::verdict::Violation;

#[test]
fn a_second_device_that_is_behind_in_a_thread_of_two_is_found() {
    let mut world = World::new(Seed::from(3));
    let (alice, bob, _) = world.two_friends_on_one_relay();
    let tablet = world.link_device(bob);
    world.run_until_quiet();
    world.disconnect(tablet);
    // Alice's new device changes the thread, and the tablet does not hear of it.
    let laptop = world.link_device(alice);
    world.run_for(secs(60));
    let found = world.close().0.examples;
    let apart = |one: &Violation, who| matches!(one, Violation::Apart { of, .. } if *of == who);
    assert!(found.iter().any(|one| apart(one, tablet)), "{found:?}");
    assert!(![alice, bob, laptop].iter().any(|who| found.iter().any(|one| apart(one, *who))), "{found:?}");
}

#[test]
fn whoever_is_behind_for_more_than_three_minutes_once_all_has_healed_is_found_and_whoever_is_not_is_counted() {
    let (mut world, people, _) = people(4, 4);
    let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
    let (circle, thread) = world.make_circle(alice, &[bob, carol]);
    world.run_until_quiet();
    world.disconnect(carol);
    world.add_to_circle(circle, thread, &[dave]);
    world.run_for(secs(60));
    world.heal_all();
    world.await_all(secs(300));
    assert!(!world.is_scattered());
    let took = world.converged();
    assert!(took >= secs(1) && took <= secs(60), "{took:?}");
    // Nothing stays counted of before, and nobody is to be behind as long as this.
    world.disconnect(carol);
    world.renew_in_circle(circle, thread, bob);
    world.run_for(secs(10));
    world.await_all(secs(175));
    assert!(world.converged() > secs(60) && world.converged() <= secs(180));
    world.await_all(secs(10));
    let (verdict, account) = world.close();
    let lagged = |one: &Violation| matches!(one, Violation::Lagged { of, seconds: 181, .. } if *of == carol);
    assert!(verdict.examples.iter().any(lagged), "{:?}", verdict.examples);
    assert!(account.converged > secs(180), "{:?}", account.converged);
}

/// A group in which two commits meet, and nothing is said after it.
#[cfg(feature = "planted")]
fn race(crypto: Crypto) -> World {
    let mut world = World::new(Seed::from(5));
    (world.lively, world.crypto) = (false, crypto);
    let relay = world.test_relay("a.example").unwrap();
    let people: Vec<_> = (0..4).map(|_| world.test_node(relay).unwrap()).collect();
    people[1..].iter().for_each(|other| world.befriend(people[0], *other));
    let (circle, thread) = world.make_circle(people[0], &people[1..]);
    world.run_until_quiet();
    people[..2].iter().for_each(|one| world.renew_in_circle(circle, thread, *one));
    world.run_until_quiet();
    world
}

/// Everybody whose number of the epoch, or whose members, are not those of the first.
#[cfg(feature = "planted")]
fn elsewhere(world: &World) -> usize {
    let of = |who: &ProcessNo| {
        let found = views::memberships(world.node(*who).unwrap().reads().unwrap()).unwrap();
        let circle = found.into_iter().find(|one| one.leaves.len() == 4).unwrap();
        (circle.epoch, circle.leaves)
    };
    world.nodes.iter().filter(|who| of(who) != of(&world.nodes[0])).count()
}

#[cfg(feature = "planted")]
#[test]
fn another_branch_of_the_same_length_is_found_by_authenticators_alone() {
    use crate::planted::{Bug, with};

    well(race(Crypto::Standin));
    // And where it is real, it is so before anything is said that could not be opened.
    for (bug, crypto) in [(Bug::FollowLoser, Crypto::Standin), (Bug::MergeLost, Crypto::Real)] {
        let world = with(bug, || race(crypto));
        assert_eq!(elsewhere(&world), 0, "by numbers and members nothing is wrong");
        let found = world.close().0.examples;
        assert!(!found.is_empty() && found.iter().all(|one| matches!(one, Violation::Branched { .. })), "{found:?}");
    }
}
