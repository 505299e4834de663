//! Stories of logs that are full: what goes, who is told, and that nobody who keeps up loses anything.

use super::*;
use crate::scenario::{Keeps, Relay};

/// Alice, Bob and Carol, of one relay that keeps so few entries of a log, who have a thread.
fn three(seed: u64, entries: u64) -> (World, [ProcessNo; 3]) {
    let mut world = World::new(Seed::from(seed));
    world.lively = false;
    let log = Keeps { entries: Some(entries), ..Keeps::default() };
    let relay = Relay { log, ..Relay::with_defaults("a.example".parse().unwrap()) };
    let relay = world.add_relay(&relay).unwrap();
    let [alice, bob, carol] = [(); 3].map(|()| world.test_node(relay).unwrap());
    for (one, other) in [(alice, bob), (alice, carol), (bob, carol)] {
        world.befriend(one, other);
    }
    world.say_to(alice, &[bob, carol], "first");
    world.run_until_quiet();
    (world, [alice, bob, carol])
}

/// Carol is away while one thing is said by Alice and many are by Bob, more than fit beside it; then she is back, and has
/// what waited for her.
fn away(seed: u64) -> (World, ProcessNo) {
    let (mut world, [alice, bob, carol]) = three(seed, 16);
    world.disconnect(carol);
    world.run_for(secs(30));
    world.say_to(alice, &[bob, carol], "and then");
    world.run_for(secs(10));
    for n in 0..40 {
        world.say_to(bob, &[alice, carol], &format!("{n}"));
        world.run_for(Duration::from_millis(200));
    }
    world.run_for(secs(10));
    world.reconnect(carol);
    for _ in 0..60 {
        if world.shown_to(carol).len() > 1 {
            break;
        }
        world.run_for(secs(1));
    }
    (world, carol)
}

#[test]
fn t04_what_a_full_log_lets_go_is_told_to_its_author_and_to_whoever_comes_back_and_comes_again() {
    for seed in 1..=4 {
        let (world, carol) = away(seed);
        let shown = world.shown_to(carol).len() as u64;
        assert!((2..18).contains(&shown), "{shown}: sixteen entries at most, and the first");
        let (verdict, account) = world.close();
        assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
        let (lost, faults) = (42 - shown, account.faults);
        assert!(faults.dropped >= lost, "{lost}, and receipts: {faults:?}");
        assert!(faults.losses_told >= lost, "{lost}: {faults:?}");
        // Their authors say it again: no more is lost for good.
        let (mut world, carol) = away(seed);
        world.run_until_quiet();
        assert_eq!(world.shown_to(carol).len(), 42);
        well(world);
    }
}

#[test]
fn nobody_who_is_there_loses_anything_to_a_log_that_keeps_little() {
    for seed in 1..=4 {
        let (mut world, [alice, bob, carol]) = three(seed, 8);
        for n in 0..60 {
            let (one, others) = if n % 2 == 0 { (alice, [bob, carol]) } else { (bob, [alice, carol]) };
            world.say_to(one, &others, &format!("{n}"));
        }
        world.run_until_quiet();
        assert_eq!([alice, bob, carol].map(|who| world.shown_to(who).len()), [30, 31, 61]);
        let (verdict, account) = world.close();
        assert_eq!((verdict.violations, account.faults.dropped), (0, 0), "{:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_that_tells_nobody_or_half_of_them_what_a_full_log_lost_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let silent = with(Bug::TrimSilent, || away(1).0.close()).0.examples;
    assert!(silent.iter().any(|one| matches!(one, Violation::Lost { .. })), "{silent:?}");
    let half = with(Bug::GoneUntold, || away(1).0.close()).0.examples;
    assert!(half.iter().any(|one| matches!(one, Violation::LossHidden { .. })), "{half:?}");
}
