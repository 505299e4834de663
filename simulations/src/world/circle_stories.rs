//! Stories of groups whose members change.

use super::stories::{secs, well};
use super::*;

/// Relays `a` and `b`, and so many people, who all know the first; they live at each relay in turn.
pub(super) fn people(seed: u64, count: usize) -> (World, Vec<ProcessNo>, [ProcessNo; 2]) {
    people_with(seed, count, Crypto::Standin)
}

/// The same, whose threads are sealed so.
pub(super) fn people_with(seed: u64, count: usize, crypto: Crypto) -> (World, Vec<ProcessNo>, [ProcessNo; 2]) {
    let mut world = World::new(Seed::from(seed));
    (world.lively, world.crypto) = (false, crypto);
    let relays = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
    let people: Vec<_> = (0..count).map(|n| world.test_node(relays[n % 2]).unwrap()).collect();
    for other in &people[1..] {
        world.befriend(people[0], *other);
    }
    (world, people, relays)
}

#[test]
fn who_is_taken_in_reads_from_then_on_and_who_is_taken_out_no_longer() {
    for seed in 1..=3 {
        let (mut world, people, _) = people(seed, 5);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol]);
        world.say_in_circle(bob, thread, "to three");
        world.run_until_quiet();
        world.add_to_circle(circle, thread, &[dave, erin]);
        world.run_until_quiet();
        world.say_in_circle(alice, thread, "to five");
        world.run_until_quiet();
        world.say_in_circle(dave, thread, "from a newcomer");
        world.run_until_quiet();
        world.remove_from_circle(circle, thread, bob);
        world.run_until_quiet();
        world.say_in_circle(erin, thread, "to four");
        world.run_until_quiet();
        assert_eq!(world.shown_to(carol), ["to three", "to five", "from a newcomer", "to four"]);
        assert_eq!(world.shown_to(bob), ["to five", "from a newcomer"]);
        assert_eq!(world.shown_to(dave), ["to five", "to four"]);
        // And in again: what was said meanwhile stays unknown to him.
        world.add_to_circle(circle, thread, &[bob]);
        world.run_until_quiet();
        world.say_in_circle(carol, thread, "to five again");
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["to five", "from a newcomer", "to five again"]);
        let verdict = well(world);
        assert_eq!(verdict.sent, 5);
    }
}

#[test]
fn of_two_commits_at_once_one_holds_and_the_other_is_made_anew() {
    for seed in 1..=4 {
        let (mut world, people, _) = people(seed, 5);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.add_to_circle(circle, thread, &[erin]);
        for one in [bob, carol, dave] {
            world.renew_in_circle(circle, thread, one);
        }
        world.run_until_quiet();
        world.say_in_circle(bob, thread, "to everybody");
        world.run_until_quiet();
        for one in [alice, carol, dave, erin] {
            assert_eq!(world.shown_to(one), ["to everybody"], "process {one}");
        }
        let reads = world.node(alice).unwrap().reads().unwrap();
        let epoch = views::thread(reads, &thread).unwrap().unwrap().epoch;
        assert_eq!(epoch.get(), 5, "four commits, each its epoch");
        well(world);
    }
}

#[test]
fn whoever_leaves_is_taken_out_within_a_minute_by_a_member_or_by_the_admin_whoever_is_there() {
    for (seed, crypto) in [(7, Crypto::Standin), (8, Crypto::Standin), (9, Crypto::Real)] {
        for nobody in [false, true] {
            let (mut world, people, _) = people_with(seed, 4, crypto);
            let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
            let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
            let away = if nobody { vec![alice, carol, dave] } else { vec![alice] };
            away.iter().for_each(|one| world.disconnect(*one));
            world.leave_circle(circle, thread, bob);
            world.run_for(secs(60));
            assert_eq!(world.ledger.circle(&thread, carol).contains(&bob), nobody);
            away.iter().for_each(|one| world.reconnect(*one));
            world.run_for(secs(120));
            for one in [alice, carol, dave] {
                assert!(!world.ledger.circle(&thread, one).contains(&bob), "process {one}");
            }
            assert!(world.ledger.circle(&thread, bob).is_empty());
            well(world);
        }
    }
}

#[test]
fn changes_go_on_where_relays_and_nodes_die_and_are_cut_off() {
    for seed in 1..=6 {
        let (mut world, people, [a, b]) = people(seed, 6);
        let (circle, thread) = world.make_circle(people[0], &people[1..4]);
        let hub = [a, b][usize::from(world.node(people[0]).unwrap().home == b)];
        let away = if hub == a { b } else { a };
        for (round, out) in [(0, people[1]), (1, people[2])] {
            world.cut(a, b);
            world.add_to_circle(circle, thread, &[people[4 + round]]);
            world.say_in_circle(people[3], thread, &format!("while relays are apart {round}"));
            world.run_for(secs(5));
            world.crash(hub);
            world.run_for(secs(20));
            world.heal(a, b);
            world.crash(people[0]);
            world.crash(away);
            world.run_for(secs(60));
            // KeyPackages of whoever lives elsewhere could not be had while relays were apart.
            world.add_to_circle(circle, thread, &[people[4 + round]]);
            world.run_for(secs(30));
            world.remove_from_circle(circle, thread, out);
            world.say_in_circle(people[3], thread, &format!("in the meantime {round}"));
            world.run_for(secs(2));
            world.crash(people[3]);
            world.run_for(secs(120));
        }
        world.say_in_circle(people[4], thread, "at last");
        world.run_until_quiet();
        assert!(world.shown_to(people[5]).contains(&"at last"));
        assert!(!world.shown_to(people[1]).contains(&"at last"));
        well(world);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_removal_that_is_answered_and_never_comes_about_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let found = with(Bug::RemovalDropped, || {
        let (mut world, people, _) = people(1, 4);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.remove_from_circle(circle, thread, bob);
        world.run_until_quiet();
        world.close().0.examples
    });
    assert!(found.iter().any(|one| matches!(one, Violation::StillIn { .. })), "{found:?}");
}

#[test]
fn whoever_is_not_where_the_admin_of_a_group_is_is_found() {
    use crate::judge::verdict::Violation;

    let (mut world, people, _) = people(2, 4);
    let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
    let (circle, thread) = world.make_circle(alice, &[bob, carol]);
    world.run_until_quiet();
    world.disconnect(carol);
    world.add_to_circle(circle, thread, &[dave]);
    world.run_for(secs(60));
    let found = world.close().0.examples;
    let of_carol = |one: &Violation| matches!(one, Violation::Apart { of, from } if (*of, *from) == (carol, alice));
    assert!(found.iter().any(of_carol), "{found:?}");
}

#[cfg(feature = "planted")]
#[test]
fn a_hub_that_signs_two_orders_is_found_by_those_it_lied_to() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let story = |seed| {
        let (mut world, people, _) = people(seed, 4);
        let (circle, thread) = world.make_circle(people[0], &people[1..]);
        for one in &people {
            world.renew_in_circle(circle, thread, *one);
        }
        world.run_until_quiet();
        world.close().0.examples
    };
    for seed in 1..=3 {
        let found = with(Bug::TwoOrders, || story(seed));
        assert!(found.iter().any(|one| matches!(one, Violation::TwoOrders { .. })), "{found:?}");
        assert_eq!(story(seed), []);
    }
}
