//! Stories of links that do not last: calls over HTTPS that are lost, and addresses that change. And of exports.

use super::*;
use crate::scenario::{Population, Share};

/// Two friends of one relay, the first on a network that lets no UDP through; so many calls are lost, and as many answers.
fn polled(seed: u64, lost: f64) -> (World, ProcessNo, ProcessNo, ProcessNo) {
    let mut world = World::new(Seed::from(seed));
    world.lively = false;
    let relay = world.test_relay("a.example").unwrap();
    let population = Population::with_defaults("a.example".parse().unwrap());
    let alice = world.add_node(&Population { poll: Share(1.0), ..population.clone() }).unwrap();
    let bob = world.add_node(&population).unwrap();
    world.befriend(alice, bob);
    world.polls.lost = lost;
    (world, alice, bob, relay)
}

/// They talk while calls are lost, then all is well and there is time for every call to be made again.
fn talks(seed: u64, lost: f64, relay_dies: bool) -> Verdict {
    let (mut world, alice, bob, relay) = polled(seed, lost);
    for round in 0..4 {
        chat(&mut world, alice, bob, 3);
        if relay_dies && round == 1 {
            world.crash(relay);
        }
        world.run_for(secs(20));
    }
    assert!(world.net.counts.calls_lost > 0 || lost == 0.0, "no call was lost");
    world.polls.lost = 0.0;
    world.run_for(secs(300));
    world.heal_all();
    world.run_until_quiet();
    world.close().0
}

#[test]
fn what_is_said_over_https_is_shown_once_whatever_calls_and_answers_are_lost() {
    for seed in 1..=6 {
        for (lost, relay_dies) in [(0.0, false), (0.2, false), (0.1, true)] {
            let verdict = talks(seed, lost, relay_dies);
            assert_eq!(verdict.violations, 0, "{seed} {lost}: {:?}", verdict.examples);
            assert_eq!((verdict.sent, verdict.shown), (24, 24), "{seed} {lost}");
        }
    }
}

#[test]
fn a_call_that_is_seen_to_be_lost_costs_a_repetition_and_no_link() {
    let (mut world, alice, bob, _) = polled(1, 0.0);
    let links = world.net.counts.links;
    (world.polls.lost, world.polls.silent) = (1.0, 0.0);
    world.say(alice, bob, "hello");
    world.run_for(secs(1));
    world.polls.lost = 0.0;
    world.run_for(secs(120));
    assert_eq!(world.shown_to(bob), ["hello"]);
    assert!(world.net.counts.calls_lost > 0);
    assert_eq!(world.net.counts.links, links);
    well(world);
}

#[test]
fn where_answers_that_are_long_in_coming_are_swallowed_news_come_with_the_next_heartbeat_and_no_link_is_lost() {
    let (mut world, alice, bob, _) = polled(1, 0.0);
    world.polls.forgets = Some(secs(1));
    world.run_for(secs(60));
    let (links, mut longest) = (world.net.counts.links, Duration::ZERO);
    for n in 1..=12 {
        world.say(bob, alice, &format!("{n}"));
        let said = world.now();
        while world.shown_to(alice).len() < n && world.now() < said.plus(secs(60)) {
            world.run_for(Duration::from_millis(100));
        }
        assert_eq!(world.shown_to(alice).len(), n);
        // A call that carries something does not wait: with a heartbeat each ten seconds that is a short poll.
        let took = world.now().since(said);
        assert!(took <= limits::HEARTBEAT_EVERY + secs(1), "{n}: {took:?}");
        longest = longest.max(took);
        world.run_for(secs(7));
    }
    assert!(longest > secs(2), "nothing was swallowed");
    assert_eq!(world.net.counts.links, links);
    well(world);
}

#[test]
fn whoever_comes_in_from_a_new_address_while_the_old_link_is_believed_in_misses_nothing() {
    for seed in 1..=6 {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _) = world.two_friends_on_one_relay();
        roams(&mut world, alice, bob);
        let verdict = well(world);
        assert_eq!((verdict.sent, verdict.shown), (24, 24));
    }
}

fn roams(world: &mut World, alice: ProcessNo, bob: ProcessNo) {
    for _ in 0..4 {
        let target = world.target(bob);
        world.inflict(Kind::Roam { target });
        chat(world, alice, bob, 3);
        world.run_for(secs(15));
    }
}

fn exports(seed: u64) -> Verdict {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    // More rows than one part of an export has.
    let carol = world.test_node(relay).unwrap();
    world.befriend(alice, carol);
    world.make_circle(alice, &[bob, carol]);
    let friends = crate::scenario::Friends { exports: Share(1.0), ..crate::scenario::Friends::default() };
    chat(&mut world, alice, bob, 2);
    world.run_for(secs(60));
    world.exporters(&[alice, bob], &friends);
    world.run_scenario(Duration::ZERO, secs(1_800));
    world.close().0
}

#[test]
fn whoever_asks_is_given_what_their_relay_keeps_of_them_whether_or_not_it_crashes_meanwhile() {
    for seed in 1..=6 {
        let verdict = exports(seed);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn exports_with_gaps_are_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let parted = with(Bug::ExportSkips, || exports(1)).examples;
    assert!(parted.iter().any(|one| matches!(one, Violation::Misgiven { .. })), "{parted:?}");
}
