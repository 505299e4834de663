//! World-style tests: stories of Alice and Bob, and of judges that must not be fooled.

use super::*;
use crate::judge::verdict::Violation;
use crate::scenario::{Burst, Scenario, Share};

fn seeds() -> impl Iterator<Item = World> {
    (1..=5_u64).map(|seed| World::new(Seed::from(seed)))
}

/// The verdict of a story that is over.
fn judged(mut world: World) -> Verdict {
    world.heal_all();
    world.run_until_quiet();
    world.close().0
}

#[test]
fn held_message_survives_a_relay_crash() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        world.disconnect(bob);
        world.say(alice, bob, "hello");
        world.crash(relay);
        world.reconnect(bob);
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["hello"]);
        assert_eq!(judged(world).violations, 0);
    }
}

#[test]
fn messages_cross_two_relays_both_ways_and_wait_out_a_partition() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        world.say(alice, bob, "hello");
        world.say(bob, alice, "hello yourself");
        world.run_until_quiet();
        world.cut(a, b);
        world.say(alice, bob, "still there?");
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.shown_to(bob), ["hello"]);
        world.heal(a, b);
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["hello", "still there?"]);
        assert_eq!(world.shown_to(alice), ["hello yourself"]);
        assert_eq!(judged(world).violations, 0);
    }
}

#[test]
fn of_a_burst_of_texts_those_are_owed_that_the_node_took_before_it_died() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        world.workload.burst = Some(Burst { share: Share(1.0), texts: [100, 100] });
        let burst = |world: &mut World| {
            world.lively = true;
            world.speak(alice);
            world.lively = false;
        };
        burst(&mut world);
        world.run_for(Duration::from_secs(5));
        world.crash_when_applied(alice, 1, Keep::Nothing);
        burst(&mut world);
        assert!(!world.is_running(alice));
        let verdict = judged(world);
        assert_eq!((verdict.sent, verdict.shown, verdict.violations), (100, 100, 0), "{bob}: {:?}", verdict.examples);
    }
}

#[test]
fn a_text_written_offline_leaves_when_the_network_is_back_even_after_a_crash() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        world.disconnect(alice);
        world.say(alice, bob, "from the tunnel");
        world.crash(alice);
        world.run_for(Duration::from_secs(5));
        world.reconnect(alice);
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["from the tunnel"]);
        assert_eq!(judged(world).violations, 0);
    }
}

#[test]
fn a_relay_that_crashes_while_two_people_talk_loses_nothing_and_repeats_nothing() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        for round in 0..20 {
            world.say(alice, bob, &format!("{round}"));
            world.say(bob, alice, &format!("{round}"));
            world.run_for(Duration::from_millis(7 * round));
            if round % 5 == 0 {
                world.crash(if round % 2 == 0 { a } else { b });
            }
            if round % 7 == 3 {
                world.crash(bob);
                world.run_for(Duration::from_secs(3));
            }
        }
        let verdict = judged(world);
        assert_eq!((verdict.sent, verdict.shown), (40, 40));
        assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    }
}

/// What a scenario comes to with these overrides.
fn first(seed: u64, sets: &[&str]) -> (Verdict, Account) {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let scenario = Scenario::read("first.toml", include_str!("../../scenarios/first.toml"), &sets).unwrap();
    let mut world = World::from_scenario(&scenario, Seed::from(seed)).unwrap();
    world.run_scenario(scenario.sim.duration.0, scenario.sim.settle.0);
    world.close()
}

#[test]
fn the_first_scenario_loses_and_repeats_nothing_whatever_the_seed() {
    for seed in 1..=4 {
        let (verdict, account) = first(seed, &[]);
        assert_eq!(verdict.violations, 0, "seed {seed}: {:?}", verdict.examples);
        assert!(verdict.sent > 500 && verdict.sent == verdict.shown);
        assert_eq!(account.faults.relay_crashes, 1);
    }
}

#[test]
fn slow_disks_and_many_kills_cost_time_and_no_message() {
    let slow = "={ sync = ['50 ms', '400 ms'] }";
    let restless = ".churn={ share = 1.0, online = '15 s', away = '4 s', kill = 0.9 }";
    let sets: Vec<_> = ["relay.0.disk", "relay.1.disk", "population.0.disk", "population.1.disk"]
        .map(|disk| format!("{disk}{slow}"))
        .into_iter()
        .chain(["population.0", "population.1"].map(|population| format!("{population}{restless}")))
        .collect();
    let others = ["relay.0.disk.cached=0.3", "relay.1.disk.cached=0.3", "network.loss=0.03", "sim.duration=200 s"];
    let sets: Vec<_> = sets.iter().map(String::as_str).chain(others).collect();
    for seed in 1..=2 {
        let (verdict, account) = first(seed, &sets);
        assert_eq!(verdict.violations, 0, "seed {seed}: {:?}", verdict.examples);
        assert!(account.faults.batches_lost > 0, "no crash fell between apply and sync");
    }
}

#[test]
fn a_showing_the_judge_misses_is_found_lost() {
    let mut world = World::new(Seed::from(1));
    let (alice, bob, _) = world.two_friends_on_one_relay();
    for text in ["one", "two", "three"] {
        world.say(alice, bob, text);
    }
    world.ledger.blind = Some(2);
    let verdict = judged(world);
    // Its receipt is for something that, as far as the judge saw, was never shown.
    let found = verdict.examples.as_slice();
    assert!(matches!(found, [Violation::FalseReceipt { .. }, Violation::Lost { .. }]), "{found:?}");
    assert_eq!((verdict.lost, verdict.violations), (1, 2));
}

#[test]
fn a_relay_disk_that_answers_before_it_synced_is_found_out() {
    let found = (1..=20_u64).any(|seed| {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        world.answer_early(relay);
        world.disconnect(bob);
        for text in ["one", "two", "three", "four"] {
            world.say(alice, bob, text);
            world.run_for(Duration::from_secs(1));
        }
        world.crash(relay);
        judged(world).lost > 0
    });
    assert!(found, "no seed of twenty showed the loss");
}

#[test]
fn a_node_that_answers_before_its_disk_is_found_out() {
    let found = (1..=20_u64).any(|seed| {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _) = world.two_friends_on_one_relay();
        world.disconnect(alice);
        world.release_early(alice);
        // Its answer comes at once, and it dies in the same millisecond.
        world.say(alice, bob, "hello");
        world.crash(alice);
        let verdict = judged(world);
        verdict.lost > 0 && verdict.examples.iter().any(|one| matches!(one, Violation::Vanished { .. }))
    });
    assert!(found, "no seed of twenty showed the loss");
}
