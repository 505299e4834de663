//! Stories of devices that were revoked and that nobody of their account takes out of a thread: somebody else who is in it does.
#![cfg(feature = "planted")]

use super::super::circle_stories::{people, people_with};
use super::commits::together;
use super::*;
use crate::judge::verdict::Violation;
use crate::planted::{Bug, with};

/// How many devices have a leaf, as somebody has it.
fn leaves(world: &World, who: ProcessNo, thread: ThreadId) -> usize {
    let reads = world.node(who).and_then(NodeProcess::reads).unwrap();
    views::leaves(reads, &thread).unwrap().len()
}

/// Somebody takes a device off their account, and is gone before any thread is changed.
fn revoked_by_somebody_who_goes(world: &mut World, owner: ProcessNo, phone: ProcessNo) {
    with(Bug::RevokedStays, || {
        world.revoke_device(phone);
        world.kill(owner);
    });
}

#[test]
fn t46_whoever_is_there_takes_a_revoked_device_out_within_a_minute_on_one_relay_or_two() {
    for (seed, crypto, two) in
        [(1, Crypto::Standin, false), (2, Crypto::Standin, true), (3, Crypto::Real, false), (4, Crypto::Real, true)]
    {
        let (mut world, people, _) = people_with(seed, 3, crypto);
        let [alice, bob, carol] = people[..] else { panic!("three people") };
        let other = if two { bob } else { carol };
        let phone = world.link_device(alice);
        world.say(alice, other, "before");
        world.run_until_quiet();
        let thread = world.thread_between(alice, other).unwrap();
        assert_eq!(leaves(&world, other, thread), 3, "{seed}");
        revoked_by_somebody_who_goes(&mut world, alice, phone);
        world.run_for(secs(60));
        assert_eq!(leaves(&world, other, thread), 2, "{seed}");
        world.say(other, alice, "without it");
        world.start(alice);
        world.run_until_quiet();
        assert_eq!(leaves(&world, alice, thread), 2, "{seed}");
        well(world);
    }
}

#[test]
fn t46_a_member_takes_a_revoked_device_out_of_a_group_whose_admin_is_away() {
    for (seed, crypto) in [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)] {
        let (mut world, people, _) = people_with(seed, 4, crypto);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let phone = world.link_device(bob);
        let (_, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.run_until_quiet();
        assert_eq!(leaves(&world, carol, thread), 5, "{seed}");
        world.kill(alice);
        revoked_by_somebody_who_goes(&mut world, bob, phone);
        world.run_for(secs(60));
        assert_eq!((leaves(&world, carol, thread), leaves(&world, dave, thread)), (4, 4), "{seed}");
        for one in [alice, bob] {
            world.start(one);
        }
        world.run_until_quiet();
        together(&world, thread, &people);
        well(world);
    }
}

#[test]
fn t37_a_hub_and_members_who_do_not_read_a_warrant_are_found() {
    let found = with(Bug::WarrantUnread, || {
        let (mut world, people, _) = people(1, 4);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (_, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.turn_member(bob, MemberTrick::ForeignRemoval, 1.0);
        for n in 0..8 {
            world.write_to_circle(bob, thread, format!("and out {n}"));
            world.run_until_quiet();
        }
        world.close().0.examples
    });
    // Whom he took out is told nothing any more, and nobody who may say so said that they are out.
    assert!(found.iter().any(|one| matches!(one, Violation::Lost { .. })), "{found:?}");
}
