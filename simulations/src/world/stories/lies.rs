//! Stories of relays that lie about who is there, of keys that run out, and of strangers.

use whimbrel_node::views;
use whimbrel_protocol::id::{DeviceId, DeviceIndex};
use whimbrel_relay::store::kv;

use super::*;
use crate::scenario::Population;

#[test]
fn t18_whoever_is_shown_as_a_lying_relay_likes_is_told_everything_all_the_same() {
    let mut wrong = 0;
    for (seed, direct) in [(1, false), (2, true), (3, false), (4, true), (5, false), (6, true)] {
        let mut world = World::new(Seed::from(seed));
        world.lively = false;
        let relay = world.test_relay("a.example").unwrap();
        let population = Population { direct, ..Population::with_defaults("a.example".parse().unwrap()) };
        let people: Vec<_> = (0..3).map(|_| world.add_node(&population).unwrap()).collect();
        let [alice, bob, carol] = people[..] else { unreachable!() };
        world.befriend(alice, bob);
        world.befriend(alice, carol);
        let lies = world.turn_relay(relay, RelayTrick::LiePresence, 0.7);
        // Carol hides: her relay may show her all the same.
        world.hide_after(Duration::ZERO, carol, true);
        for round in 0..6 {
            if round % 2 == 0 {
                world.disconnect(bob);
            }
            world.run_for(secs(70));
            let there = round % 2 == 1;
            wrong += u32::from(world.seen(alice, bob) == Some(!there));
            world.say(alice, bob, &format!("{round}: are you there?"));
            world.say(alice, carol, &format!("{round}: and you?"));
            world.run_for(secs(5));
            // Carol is there, whatever is said of her; Bob has it when he is.
            assert_eq!(world.shown_to(carol).len(), round + 1, "{seed} {round}");
            assert_eq!(world.shown_to(bob).len() == round + 1, there, "{seed} {round}");
            world.reconnect(bob);
        }
        assert!(world.mischief(relay).unwrap().done > 10);
        world.mend(lies);
        world.run_for(limits::RELAY_BACKOFF_MAX + secs(30));
        assert_eq!((world.shown_to(bob).len(), world.shown_to(carol).len()), (6, 6), "{seed}");
        well(world);
    }
    assert!(wrong > 5, "{wrong}: nobody was lied to");
}

/// One-time keys of somebody's device that their relay has left.
fn left(world: &World, relay: ProcessNo, who: ProcessNo) -> u32 {
    let device = DeviceId { account: world.node(who).unwrap().account, index: DeviceIndex::FIRST };
    let Some(Process::Relay(process)) = world.processes.get(relay as usize) else { unreachable!() };
    kv::package_count(process.reads().unwrap(), device).unwrap()
}

/// The epochs of the threads somebody is in.
fn epochs(world: &World, who: ProcessNo) -> Vec<u64> {
    let reads = world.node(who).unwrap().reads().unwrap();
    views::threads(reads).unwrap().iter().map(|thread| thread.epoch.get()).collect()
}

#[test]
fn t13_once_every_key_was_handed_out_conversations_start_by_the_last_resort() {
    let mut world = World::new(Seed::from(13));
    world.lively = false;
    let relay = world.test_relay("a.example").unwrap();
    let alice = world.test_node(relay).unwrap();
    let others: Vec<_> = (0..6).map(|_| world.test_node(relay).unwrap()).collect();
    others.iter().for_each(|other| world.befriend(alice, *other));
    for (n, one) in others.iter().enumerate() {
        others.iter().skip(n + 1).for_each(|other| world.befriend(*one, *other));
    }
    world.run_until_quiet();
    // She is away, so that nothing is filled up, and everybody opens every group with her there is, as far as they may.
    world.disconnect(alice);
    let (mut said, before) = (0, left(&world, relay, alice));
    for opener in &others {
        let rest: Vec<_> = others.iter().copied().filter(|one| one != opener).collect();
        for set in 1..32_u32 {
            let people = rest.iter().enumerate().filter(|(n, _)| set & 1 << n != 0).map(|(_, one)| *one);
            let people: Vec<_> = people.chain([alice]).collect();
            world.say_to(*opener, &people, &format!("{opener} {set}"));
            said += 1;
        }
    }
    assert!(left(&world, relay, alice) == 0, "keys are left");
    world.reconnect(alice);
    world.run_until_quiet();
    assert!(left(&world, relay, alice) > 16, "nothing was filled up");
    let shown = world.shown_to(alice).len() as u64;
    let groups = world.person_of(alice).unwrap().groups.len();
    let renewed = epochs(&world, alice).iter().filter(|epoch| **epoch == 2).count();
    let most = epochs(&world, alice).into_iter().max();
    let verdict = well(world);
    assert!(groups > before as usize, "{groups} groups by {before} keys");
    // In each that she came into by the last resort, and in no other, she has given her leaf a key of that thread alone.
    assert_eq!((renewed, most), (groups - before as usize, Some(2)), "{groups} groups by {before} keys");
    assert_eq!(shown, said - verdict.declined);
}

/// Eve opens threads with whoever she never met each time she writes to her friend.
fn intrudes(seed: u64) -> Verdict {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    let (eve, mallory) = (world.test_node(relay).unwrap(), world.test_node(relay).unwrap());
    world.befriend(eve, mallory);
    let turned = world.turn_member(eve, MemberTrick::Stranger, 1.0);
    chat(&mut world, alice, bob, 2);
    chat(&mut world, eve, mallory, 4);
    world.run_for(secs(30));
    world.mend(turned);
    world.heal_all();
    world.run_until_quiet();
    assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (2, 2));
    world.close().0
}

#[test]
fn t32_whoever_never_met_somebody_opens_no_thread_with_them() {
    for seed in 1..=6 {
        let verdict = intrudes(seed);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn t32_a_relay_that_lets_strangers_open_threads_is_found() {
    use crate::planted::{Bug, with};

    let found = with(Bug::IgnoreConsent, || intrudes(1));
    assert!(found.violations > 0);
}
