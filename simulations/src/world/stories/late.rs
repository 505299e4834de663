//! Stories of a message that waits for a month, and of accounts that end.

use super::*;
use crate::judge::verdict::Violation;

const DAY: u64 = 24 * 3_600;

/// Two friends of one relay, one of whom is away for so long at the end. That is not counted as time of the world.
fn away(days: u64) -> Verdict {
    let mut world = World::new(Seed::from(5));
    world.two_friends_on_one_relay();
    world.run_for(secs(60));
    world.late.absence = Some(secs(days * DAY));
    world.run_scenario(Duration::ZERO, secs(1_800));
    let (verdict, account) = world.close();
    assert!(account.virtual_time < secs(DAY), "{:?}", account.virtual_time);
    verdict
}

/// One of two friends of one relay ends their account at the end.
fn ends(seed: u64) -> Verdict {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, _) = world.two_friends_on_one_relay();
    chat(&mut world, alice, bob, 2);
    world.run_for(secs(60));
    world.late.leavers = vec![alice];
    world.run_scenario(Duration::ZERO, secs(1_800));
    world.close().0
}

#[test]
fn what_waits_for_nearly_a_month_is_shown() {
    let verdict = away(29);
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    // One each when the world has settled, and the one that waited.
    assert_eq!((verdict.shown, verdict.failed), (3, 0));
}

#[test]
fn what_waits_for_longer_goes_and_its_author_is_told() {
    let verdict = away(31);
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    assert_eq!((verdict.shown, verdict.failed), (2, 1));
}

#[test]
fn whoever_is_away_for_a_month_stays_away_whatever_their_habit() {
    let mut world = World::new(Seed::from(5));
    let (_, bob, _) = world.two_friends_on_one_relay();
    world.run_for(secs(60));
    world.late.absence = Some(secs(29 * DAY));
    // Bob would be back within the hour.
    world.engine.after(secs(3_600), Event::Return { who: bob });
    world.run_scenario(Duration::ZERO, secs(1_800));
    let (verdict, account) = world.close();
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    // An hour of tries at a relay that is not there would be seventy.
    assert!(account.net.dials_failed < 20, "{:?}", account.net);
}

#[test]
fn an_account_that_ends_leaves_nothing_at_its_relay_whether_or_not_that_crashes_meanwhile() {
    for seed in 1..=6 {
        let verdict = ends(seed);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_that_lets_go_too_early_or_without_a_word_or_keeps_too_much_is_found() {
    use crate::planted::{Bug, with};

    let early = with(Bug::ExpiryEarly, || away(29)).examples;
    assert!(early.iter().any(|one| matches!(one, Violation::GivenUp { .. })), "{early:?}");
    let silent = with(Bug::ExpirySilent, || away(31)).examples;
    assert!(silent.iter().any(|one| matches!(one, Violation::Lost { .. })), "{silent:?}");
    let kept = with(Bug::DeletionLeavesRows, || ends(1)).examples;
    assert!(kept.iter().any(|one| matches!(one, Violation::Remains { .. })), "{kept:?}");
}
