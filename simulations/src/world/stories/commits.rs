//! Stories of members who hand in commits that nobody can follow, and of hubs that tell whose commit lost that it holds: the
//! others stay together, go on talking and, but for what no hub can see, changing, and have a proof of the hub's.

use super::super::circle_stories::people_with;
use super::*;

/// The epoch all of these are in, by the same commits.
pub(super) fn together(world: &World, thread: ThreadId, who: &[ProcessNo]) -> u64 {
    let at = |one: &ProcessNo| {
        let node = world.node(*one).unwrap();
        let found = views::memberships(node.reads().unwrap()).unwrap().into_iter().find(|at| at.thread == thread);
        let at = found.unwrap();
        (at.epoch.get(), at.standing, at.leaves, node.authenticator(thread).unwrap())
    };
    let places: Vec<_> = who.iter().map(at).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    places[0].0
}

/// A group of four, one of whom plays a trick on the others; what the epoch is then, and how many commits it made up.
fn played(seed: u64, crypto: Crypto, trick: MemberTrick) -> (u64, u64) {
    let (mut world, people, _) = people_with(seed, 4, crypto);
    let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
    let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
    let turned = world.turn_member(bob, trick, 1.0);
    world.renew_in_circle(circle, thread, bob);
    world.run_until_quiet();
    world.write_to_circle(bob, thread, "with a change beside it".to_owned());
    world.run_until_quiet();
    world.mend(turned);
    for one in [carol, dave] {
        world.renew_in_circle(circle, thread, one);
    }
    world.run_for(secs(180));
    for (one, text) in [(alice, "from the admin"), (bob, "from him"), (carol, "from one"), (dave, "from another")] {
        // What waits for a change is not answered, and what is said is.
        world.write_to_circle(one, thread, text.to_owned());
    }
    world.run_until_quiet();
    assert_eq!(world.shown_to(alice).len(), 4, "{trick:?}");
    assert_eq!(world.shown_to(carol).len(), 4, "{trick:?}");
    assert_eq!(world.shown_to(dave).len(), 4, "{trick:?}");
    let epoch = together(&world, thread, &people);
    let made_up = world.node(bob).unwrap().member.as_ref().unwrap().committed;
    well(world);
    (epoch, made_up)
}

/// His own renewal holds, and two others'; what he made of commits none of them was stopped by.
const ALL_OF_THEM: u64 = 4;

#[test]
fn t34_a_member_who_hands_in_an_old_commit_as_new_stops_nothing() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)] {
        let (epoch, made_up) = played(seed, crypto, MemberTrick::StaleCommit);
        assert!(epoch == ALL_OF_THEM && made_up > 0, "{epoch} {made_up}");
    }
}

#[test]
fn t34_a_member_whose_commit_nobody_can_read_stops_nothing() {
    for seed in 1..=8 {
        let crypto = if seed > 6 { Crypto::Real } else { Crypto::Standin };
        let (epoch, made_up) = played(seed, crypto, MemberTrick::CorruptCommit);
        assert!(epoch == ALL_OF_THEM && made_up > 0, "{seed} {epoch} {made_up}");
    }
}

#[test]
fn t34_a_member_who_takes_somebody_out_stops_nothing_whether_he_says_so_or_not() {
    for seed in 1..=8 {
        let crypto = if seed == 8 { Crypto::Real } else { Crypto::Standin };
        let (epoch, made_up) = played(seed, crypto, MemberTrick::ForeignRemoval);
        assert!(epoch == ALL_OF_THEM && made_up > 0, "{seed} {epoch} {made_up}");
    }
}

/// The commit that nobody could apply, and one from without for each of the four: whose program is their own in what leaves it
/// is stopped like the others. What renewals were under way meanwhile may have gone with it.
const ALL_REJOINED: u64 = 1 + 1 + 4;

#[test]
fn t34_a_member_whose_commit_has_a_tag_that_only_members_can_check_stops_nothing_for_long() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)] {
        let (epoch, made_up) = played(seed, crypto, MemberTrick::MistagCommit);
        assert!(epoch >= ALL_REJOINED && made_up > 0, "{epoch} {made_up}");
    }
}

/// With a hub that takes what it cannot prove the group goes on talking, and can change no more.
#[cfg(feature = "planted")]
#[test]
fn a_hub_that_stops_a_group_by_a_commit_it_did_not_prove_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    for trick in [MemberTrick::StaleCommit, MemberTrick::CorruptCommit, MemberTrick::ForeignRemoval] {
        let examples = with(Bug::BelieveCommits, || {
            let (mut world, people, _) = people_with(1, 4, Crypto::Standin);
            let (circle, thread) = world.make_circle(people[0], &people[1..]);
            world.turn_member(people[1], trick, 1.0);
            world.renew_in_circle(circle, thread, people[1]);
            world.run_until_quiet();
            world.write_to_circle(people[1], thread, "with a change beside it".to_owned());
            world.run_until_quiet();
            world.run_scenario(secs(60), secs(1_200));
            world.close().0.examples
        });
        let stopped = |one: &Violation| matches!(one, Violation::Unchanged { of } if *of != 1);
        assert!(examples.iter().any(stopped), "{trick:?} {examples:?}");
    }
}

#[test]
fn t05_a_hub_that_signs_two_commits_of_one_epoch_is_proved_to_whom_it_lied_to_and_to_whom_they_talk_with() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Standin), (4, Crypto::Real)] {
        let (mut world, people, [hub, _]) = people_with(seed, 4, crypto);
        let (circle, thread) = world.make_circle(people[0], &people[1..]);
        let turned = world.turn_relay(hub, RelayTrick::TwoOrders, 1.0);
        people.iter().for_each(|one| world.renew_in_circle(circle, thread, *one));
        world.run_until_quiet();
        let lies = world.mischief(hub).unwrap().orders.told;
        assert!(lies > 0);
        world.mend(turned);
        let has = |world: &World, who| {
            let reads = world.node(who).unwrap().reads().unwrap();
            !views::contradictions(reads).unwrap().is_empty()
        };
        assert!(people.iter().any(|who| has(&world, *who)), "nobody it lied to has found out");
        // In conversations of two with the one who made the group it goes on to everybody.
        for _ in 0..3 {
            world.run_for(limits::RECEIPTS_TOLD_EVERY);
            for one in &people[1..] {
                world.say(people[0], *one, &format!("to {one} {}", world.now().nanos()));
                world.say(*one, people[0], &format!("back {one} {}", world.now().nanos()));
            }
            world.run_until_quiet();
        }
        assert!(people.iter().all(|who| has(&world, *who)), "seed {seed}");
        // Its log had one order, and all of them followed it.
        assert!(together(&world, thread, &people) > 4);
        world.say_in_circle(people[1], thread, "as ever");
        world.run_until_quiet();
        assert_eq!(world.shown_to(people[2]).last(), Some(&"as ever"));
        well(world);
    }
}
