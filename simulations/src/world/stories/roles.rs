//! Stories of groups with several admins: whoever acts at the same moment, and whoever is one no longer.

use std::collections::BTreeSet;

use super::super::circle_stories::{people, people_with};
use super::*;

/// Who is in a group, and its admins, in which epoch: the same at all of these.
pub(super) fn agreed(
    world: &World,
    thread: ThreadId,
    who: &[ProcessNo],
) -> (u64, BTreeSet<ProcessNo>, BTreeSet<ProcessNo>) {
    let at = |one: &ProcessNo| {
        let node = world.node(*one).unwrap();
        let view = views::thread(node.reads().unwrap(), &thread).unwrap().unwrap();
        let people =
            view.people.iter().chain([&node.account]).map(|one| world.ledger.process_of(one).unwrap()).collect();
        let admins = view.policy.unwrap().admins.iter().map(|one| world.ledger.process_of(one).unwrap()).collect();
        (view.epoch.get(), people, admins)
    };
    let places: Vec<(u64, BTreeSet<ProcessNo>, BTreeSet<ProcessNo>)> = who.iter().map(at).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    places[0].clone()
}

#[test]
fn t36_two_admins_who_change_a_group_at_the_same_moment_a_thousand_times_both_come_about_each_time() {
    const ROUNDS: u64 = 1_000;
    let (mut world, people, _) = people(1, 4);
    let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
    let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
    world.change_role(alice, circle, thread, bob);
    world.run_until_quiet();
    let mut epoch = agreed(&world, thread, &people).0;
    for round in 0..ROUNDS {
        // One makes Carol an admin, or a member again; the other renews. Who is first at the hub differs by the link.
        world.change_role(if round % 2 == 0 { alice } else { bob }, circle, thread, carol);
        world.renew_in_circle(circle, thread, if round % 2 == 0 { bob } else { alice });
        world.run_until_quiet();
        let (now, members, admins) = agreed(&world, thread, &people);
        // Each holds, one after the other, and none is made twice.
        assert_eq!(now, epoch + 2, "{round}");
        assert_eq!(members.len(), 4, "{round}");
        assert_eq!(admins.contains(&carol), round % 2 == 0, "{round}");
        epoch = now;
    }
    well(world);
}

#[test]
fn t36_admins_at_two_relays_take_people_in_and_out_at_the_same_moment_and_all_of_it_comes_about() {
    for seed in 1..=6 {
        let crypto = if seed == 6 { Crypto::Real } else { Crypto::Standin };
        let (mut world, people, _) = people_with(seed, 6, crypto);
        let [alice, bob, carol, dave, erin, frank] = people[..] else { panic!("six people") };
        world.befriend(bob, frank);
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.change_role(alice, circle, thread, bob);
        world.run_until_quiet();
        world.add_by(alice, circle, thread, &[erin]);
        world.add_by(bob, circle, thread, &[frank]);
        world.run_until_quiet();
        world.remove_by(alice, circle, thread, carol);
        world.remove_by(bob, circle, thread, dave);
        world.run_until_quiet();
        world.say_in_circle(frank, thread, "to who is left");
        world.run_until_quiet();
        let (epoch, members, admins) = agreed(&world, thread, &[alice, bob, erin, frank]);
        assert_eq!((epoch, members), (6, [alice, bob, erin, frank].into()), "{seed}");
        assert_eq!(admins, [alice, bob].into(), "{seed}");
        assert_eq!(world.shown_to(erin), ["to who is left"], "{seed}");
        assert_eq!((world.shown_to(carol).len(), world.shown_to(dave).len()), (0, 0), "{seed}");
        well(world);
    }
}

#[test]
fn an_admin_takes_in_a_friend_whose_relay_has_nobody_in_the_group_and_does_not_know_where_the_admin_lives() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Real)] {
        let mut world = World::new(Seed::from(seed));
        (world.lively, world.crypto) = (false, crypto);
        let relays = ["a.example", "b.example", "c.example"].map(|domain| world.test_relay(domain).unwrap());
        let [alice, bob, carol] = relays.map(|relay| world.test_node(relay).unwrap());
        let dave = world.test_node(relays[0]).unwrap();
        for (one, other) in [(alice, bob), (alice, dave), (bob, carol)] {
            world.befriend(one, other);
        }
        let (circle, thread) = world.make_circle(alice, &[bob, dave]);
        world.change_role(alice, circle, thread, bob);
        world.run_until_quiet();
        // Carol knows Bob alone, and hears from the hub, at a third relay, that he took her in.
        world.add_by(bob, circle, thread, &[carol]);
        world.run_until_quiet();
        assert_eq!(agreed(&world, thread, &[alice, bob, carol, dave]).1.len(), 4, "{seed}");
        world.say_in_circle(carol, thread, "and here I am");
        world.run_until_quiet();
        assert_eq!(world.shown_to(alice), ["and here I am"], "{seed}");
        well(world);
    }
}

#[test]
fn t37_of_a_demotion_and_what_the_demoted_does_at_the_same_moment_all_have_one_verdict() {
    let mut verdicts = BTreeSet::new();
    for seed in 1..=12 {
        let (mut world, people, _) = people(seed, 5);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        world.befriend(bob, erin);
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.change_role(alice, circle, thread, bob);
        world.run_until_quiet();
        // Alice lives at the hub: now and then what Bob does is under way before.
        world.remove_by(bob, circle, thread, carol);
        world.run_for(Duration::from_millis(seed % 4 * 20));
        world.change_role(alice, circle, thread, bob);
        world.run_until_quiet();
        let (_, members, admins) = agreed(&world, thread, &[alice, bob, dave]);
        assert_eq!(admins, [alice].into(), "{seed}");
        verdicts.insert(members.contains(&carol));
        // Whatever came first, he takes nobody in or out from now on.
        world.add_by(bob, circle, thread, &[erin]);
        world.remove_by(bob, circle, thread, dave);
        world.run_until_quiet();
        assert_eq!(agreed(&world, thread, &[alice, bob, dave]).1, members, "{seed}");
        well(world);
    }
    assert_eq!(verdicts, [false, true].into(), "both came first at some time");
}

#[test]
fn t37_a_member_who_makes_himself_an_admin_is_one_to_nobody() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)] {
        let (mut world, people, _) = people_with(seed, 4, crypto);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        let turned = world.turn_member(bob, MemberTrick::Usurp, 1.0);
        for n in 0..4 {
            world.write_to_circle(bob, thread, format!("and I rule {n}"));
            world.run_until_quiet();
        }
        world.mend(turned);
        let made_up = world.node(bob).unwrap().member.as_ref().unwrap().committed;
        assert!(made_up >= 4, "{made_up}");
        world.renew_in_circle(circle, thread, carol);
        world.run_until_quiet();
        assert_eq!(agreed(&world, thread, &people), (2, people.iter().copied().collect(), [alice].into()), "{seed}");
        well(world);
    }
}

#[cfg(feature = "planted")]
#[test]
fn t37_a_hub_and_members_who_let_anybody_rule_are_found() {
    use crate::judge::verdict::Violation;

    let found = crate::planted::with(crate::planted::Bug::AnybodyRules, || {
        let (mut world, people, _) = people(1, 4);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (_, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.turn_member(bob, MemberTrick::Usurp, 1.0);
        world.write_to_circle(bob, thread, "and I rule".to_owned());
        world.run_until_quiet();
        world.close().0.examples
    });
    assert!(found.iter().any(|one| matches!(one, Violation::Usurped { .. })), "{found:?}");
}
