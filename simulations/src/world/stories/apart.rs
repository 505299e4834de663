//! Stories of people who part or hide, and of relays that do not keep to it.

use super::*;
use crate::judge::ledger::How;
use crate::scenario::Population;

/// Two friends on one relay, or on one each.
fn two(world: &mut World, relays: u32) -> (ProcessNo, ProcessNo) {
    match relays {
        1 => {
            let (alice, bob, _) = world.two_friends_on_one_relay();
            (alice, bob)
        }
        _ => {
            let (alice, bob, ..) = world.two_friends_on_two_relays();
            (alice, bob)
        }
    }
}

/// The end of a story whose people may not see each other any more: what everybody comes to know is judged, too.
fn settled(mut world: World) -> Verdict {
    world.run_scenario(Duration::ZERO, secs(1_800));
    let verdict = world.close().0;
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    verdict
}

/// Both are there and see each other.
fn seen(world: &mut World, alice: ProcessNo, bob: ProcessNo) {
    world.run_for(secs(60));
    assert_eq!((world.seen(alice, bob), world.seen(bob, alice)), (Some(true), Some(true)));
}

/// Alice is away for ten minutes, without a goodbye, while Bob stays.
fn away(seed: u64, relays: u32) -> (Verdict, bool) {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob) = two(&mut world, relays);
    seen(&mut world, alice, bob);
    world.disconnect(alice);
    world.run_for(secs(600));
    let shown = world.is_shown(bob, alice);
    world.reconnect(alice);
    world.run_for(secs(60));
    (world.close().0, shown)
}

#[test]
fn whoever_is_away_without_a_word_is_shown_no_more() {
    for relays in [1, 2] {
        let (verdict, shown) = away(1, relays);
        assert!(verdict.violations == 0 && !shown, "{relays}: {:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_that_shows_whoever_died_for_ever_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    for relays in [1, 2] {
        let found = with(Bug::DeadStay, || away(1, relays)).0.examples;
        assert!(found.iter().any(|one| matches!(one, Violation::StillSeen { .. })), "{relays}: {found:?}");
    }
}

#[test]
fn t33_whoever_is_removed_or_blocked_reaches_nobody_and_sees_nobody_whatever_crashes_or_parts_meanwhile() {
    for relays in [1, 2] {
        for how in [How::Remove, How::Block] {
            for (mut world, n) in seeds().zip(0_u32..) {
                let (alice, bob) = two(&mut world, relays);
                seen(&mut world, alice, bob);
                world.say(bob, alice, "before");
                world.run_for(secs(10));
                world.lively = true;
                world.part_after(Duration::ZERO, alice, bob, how);
                world.run_for(Duration::from_millis(u64::from(n) * 40));
                let homes = [alice, bob].map(|who| world.node(who).unwrap().home);
                match n % 3 {
                    0 => world.crash(homes[0]),
                    1 => world.crash(homes[1]),
                    _ => world.cut(homes[0], homes[1]),
                }
                world.run_for(secs(30));
                if relays == 2 {
                    world.heal(homes[0], homes[1]);
                }
                world.run_for(secs(240));
                assert!(!world.is_shown(bob, alice) && !world.is_shown(alice, bob), "{how:?} {relays} {n}");
                if how == How::Block {
                    // Nobody told him: he goes on writing, and is told that it fails.
                    world.say(bob, alice, "after");
                    world.run_for(secs(60));
                }
                assert_eq!(world.shown_to(alice), ["before"], "{how:?} {relays} {n}");
                // He writes once more when all is well again.
                assert_eq!(settled(world).failed, 2 * u64::from(how == How::Block));
            }
        }
    }
}

#[test]
fn whoever_hides_is_seen_by_nobody_also_after_a_crash_of_the_relay_until_they_show_themselves_again() {
    for relays in [1, 2] {
        for mut world in seeds().take(3) {
            let (alice, bob) = two(&mut world, relays);
            seen(&mut world, alice, bob);
            world.lively = true;
            world.hide_after(Duration::ZERO, alice, true);
            // Where the link between the relays is down just then, what was told before holds for a minute.
            world.run_for(secs(150));
            assert!(world.is_shown(alice, bob) && !world.is_shown(bob, alice));
            let home = world.node(alice).unwrap().home;
            world.crash(home);
            world.run_for(secs(240));
            assert!(!world.is_shown(bob, alice));
            // Who is not seen is written to all the same.
            world.say(bob, alice, "are you there?");
            world.run_for(secs(60));
            assert_eq!(world.shown_to(alice), ["are you there?"]);
            world.hide_after(Duration::ZERO, alice, false);
            world.run_for(secs(120));
            assert!(world.is_shown(bob, alice));
            settled(world);
        }
    }
}

#[test]
fn a_friend_who_may_not_see_is_shown_nobody_and_reaches_them_as_before() {
    for mut world in seeds().take(3) {
        let (alice, bob) = two(&mut world, 2);
        seen(&mut world, alice, bob);
        world.lively = true;
        world.part_after(Duration::ZERO, alice, bob, How::Hide);
        world.run_for(secs(150));
        assert!(world.is_shown(alice, bob) && !world.is_shown(bob, alice));
        chat(&mut world, alice, bob, 2);
        // And once more each, when the world has settled.
        assert_eq!(settled(world).shown, 6);
    }
}

#[test]
fn whoever_was_offline_at_the_last_moment_is_waited_for_and_whoever_stays_away_is_missed() {
    let mut world = World::new(Seed::from(27_000_046));
    let (alice, bob) = two(&mut world, 1);
    seen(&mut world, alice, bob);
    world.disconnect(alice);
    world.run_for(secs(90));
    assert_eq!(world.seen(bob, alice), Some(false));
    world.await_presence();
    assert!(!world.ledger.is_settled(), "she is not there");
    world.reconnect(alice);
    world.await_presence();
    assert!(world.ledger.is_settled());
    assert_eq!(world.seen(bob, alice), Some(true));
}

/// Two friends talk, of whom one wants direct links and the other none.
fn half_direct(seed: u64) -> Verdict {
    let mut world = World::new(Seed::from(seed));
    world.lively = false;
    world.test_relay("a.example").unwrap();
    let mut join = |direct| {
        let population = Population { direct, ..Population::with_defaults("a.example".parse().unwrap()) };
        world.add_node(&population).unwrap()
    };
    let (alice, bob) = (join(true), join(false));
    world.befriend(alice, bob);
    chat(&mut world, alice, bob, 3);
    world.run_until_quiet();
    world.close().0
}

#[test]
fn nobody_is_dialled_by_whoever_wants_no_direct_links() {
    for seed in 1..=8 {
        let verdict = half_direct(seed);
        assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_node_that_dials_against_its_owners_will_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    // Of two, the one with the lesser key dials.
    let found = |seed| with(Bug::DialAnybody, || half_direct(seed)).examples;
    assert!((1..=8).flat_map(found).any(|one| matches!(one, Violation::Dialled { .. })));
}

/// With a bug in the relay the same stories break the promise that is theirs.
#[cfg(feature = "planted")]
#[test]
#[allow(clippy::indexing_slicing, reason = "a test")]
fn a_relay_that_does_not_keep_to_consent_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};
    use Violation::{Seen, Unseen, Untold, Unwanted};

    let broken = |bug, how: Option<How>, relays| {
        with(bug, || {
            let mut world = World::new(Seed::from(3));
            let (alice, bob) = two(&mut world, relays);
            world.run_for(secs(60));
            let thread = world.person_mut(bob).unwrap().threads[0].1;
            world.lively = true;
            match how {
                Some(how) => world.part_after(Duration::ZERO, alice, bob, how),
                None => world.hide_after(Duration::ZERO, alice, true),
            }
            world.run_for(secs(60));
            let homes = [alice, bob].map(|who| world.node(who).unwrap().home);
            world.crash(homes[0]);
            world.run_for(secs(240));
            if how.is_some_and(|how| how != How::Hide) {
                world.write(bob, vec![alice], thread, "after".to_owned());
            }
            world.run_scenario(Duration::ZERO, secs(1_800));
            world.close().0.examples
        })
    };
    let found = |bug, how, relays, is: fn(&Violation) -> bool| {
        let examples = broken(bug, how, relays);
        assert!(examples.iter().any(is), "{} {how:?} {relays}: {examples:?}", bug.name());
    };
    found(Bug::IgnoreBlock, Some(How::Block), 1, |one| matches!(one, Unwanted { .. }));
    found(Bug::KeepRemoved, Some(How::Remove), 1, |one| matches!(one, Unwanted { .. }));
    found(Bug::ShowHidden, None, 1, |one| matches!(one, Seen { .. }));
    found(Bug::ShowHidden, None, 2, |one| matches!(one, Seen { .. }));
    found(Bug::ShowToAll, Some(How::Block), 1, |one| matches!(one, Seen { .. }));
    found(Bug::ForgetHidden, None, 2, |one| matches!(one, Seen { .. }));
    found(Bug::TellPeersOnce, Some(How::Hide), 2, |one| matches!(one, Unseen { .. }));
    found(Bug::SwallowWord, Some(How::Remove), 2, |one| matches!(one, Untold { .. }));
}
