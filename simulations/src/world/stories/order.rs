//! Stories of what comes to one relay before it comes to another, and of requests that are dropped where they stand.

use super::*;

/// Relays `a`, `b` and `c`, each with two people; the first, of `a`, knows them all and has made a group of them.
fn three_relays(seed: u64) -> (World, [ProcessNo; 3], [ProcessNo; 6], (usize, ThreadId)) {
    let mut world = World::new(Seed::from(seed));
    world.lively = false;
    let relays = ["a.example", "b.example", "c.example"].map(|domain| world.test_relay(domain).unwrap());
    let people = [0, 1, 2, 0, 1, 2].map(|home: usize| world.test_node(relays[home]).unwrap());
    for other in &people[1..] {
        world.befriend(people[0], *other);
    }
    let (circle, thread) = world.make_circle(people[0], &people[1..5]);
    world.run_until_quiet();
    (world, relays, people, (circle, thread))
}

fn epoch(world: &World, who: ProcessNo, thread: &ThreadId) -> u64 {
    let reads = world.node(who).unwrap().reads().unwrap();
    views::thread(reads, thread).unwrap().unwrap().epoch.get()
}

#[test]
fn a_commit_that_one_relay_has_long_before_another_orders_what_is_said_at_both() {
    for (slow, quick) in [(1, 2), (2, 1)] {
        let (mut world, relays, people, (circle, thread)) = three_relays(11);
        // One of each: the first two of those at `b` and `c`.
        let (behind, ahead) = (people[slow], people[quick]);
        let path = world.slow_path(relays[0], relays[slow], secs(8));
        world.renew_in_circle(circle, thread, ahead);
        world.run_for(secs(3));
        assert_eq!((epoch(&world, ahead, &thread), epoch(&world, behind, &thread)), (2, 1), "{slow}");
        // Said in an epoch that the slow one's relay has not heard of, on a way that is quick.
        world.say_in_circle(ahead, thread, "ahead");
        world.say_in_circle(behind, thread, "behind");
        world.run_for(secs(2));
        assert!(world.shown_to(ahead).contains(&"behind") && !world.shown_to(behind).contains(&"ahead"), "{slow}");
        world.run_until_quiet();
        assert_eq!(epoch(&world, behind, &thread), 2);
        assert!(world.shown_to(behind).contains(&"ahead"), "{slow}");
        world.mend(path);
        world.run_until_quiet();
        well(world);
    }
}

#[test]
fn commits_that_reach_three_relays_in_another_order_each_leave_all_members_in_one_epoch() {
    for seed in 1..=4 {
        let (mut world, relays, people, (circle, thread)) = three_relays(seed);
        let [alice, bob, carol, dave, erin, frank] = people;
        for round in 0..3 {
            // Another way is slow each time, and in the last both are: by more than an answer takes.
            let [one, other] = [[0, 6], [6, 0], [12, 4]][round];
            let paths = [(1, one), (2, other)].map(|(to, by)| {
                let by = Duration::from_millis(50) + secs(by);
                world.slow_path(relays[0], relays[to], by)
            });
            for who in [bob, carol, erin] {
                world.renew_in_circle(circle, thread, who);
            }
            if round == 1 {
                world.add_to_circle(circle, thread, &[frank]);
            }
            world.run_for(secs(1));
            for who in [dave, alice] {
                world.say_in_circle(who, thread, &format!("in round {round}"));
            }
            world.run_for(secs(20));
            paths.into_iter().for_each(|path| world.mend(path));
            world.run_for(secs(10));
        }
        world.run_until_quiet();
        let epochs: Vec<_> = people.iter().map(|who| epoch(&world, *who, &thread)).collect();
        assert!(epochs.iter().all(|one| *one == epochs[0] && *one > 8), "seed {seed}: {epochs:?}");
        world.say_in_circle(erin, thread, "at last");
        world.run_until_quiet();
        for who in [alice, bob, carol, dave, frank] {
            assert!(world.shown_to(who).contains(&"at last"), "seed {seed}: process {who}");
        }
        well(world);
    }
}

#[test]
fn a_request_that_is_dropped_between_any_two_awaits_while_its_relay_lives_on_loses_and_repeats_nothing() {
    let mut cancelled = 0;
    for polls in 1..=12 {
        let mut world = World::new(Seed::from(22));
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        world.run_until_quiet();
        world.cancel_when_polled(relay, polls);
        for n in 0..6 {
            let (who, to) = if n % 2 == 0 { (alice, bob) } else { (bob, alice) };
            world.say(who, to, &format!("words {n}"));
        }
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["words 0", "words 2", "words 4"], "{polls} polls");
        cancelled += world.struck.cancels;
        well(world);
    }
    assert!(cancelled >= 10, "{cancelled} of 12");
}
