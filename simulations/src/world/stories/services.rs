//! Stories of what people rely on beyond their messages: wake-ups, the list of their threads, leaving, and rates.

use super::*;

/// Two friends, on one relay or on two; both can be woken, and a third names an endpoint that is not theirs.
fn phones(seed: u64, relays: u32) -> (World, ProcessNo, ProcessNo, ProcessNo) {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, home) = match relays {
        1 => world.two_friends_on_one_relay(),
        _ => {
            let (alice, bob, _, home) = world.two_friends_on_two_relays();
            (alice, bob, home)
        }
    };
    let carol = world.test_node(home).unwrap();
    world.befriend(alice, carol);
    world.add_phone(Duration::ZERO, alice, false);
    world.add_phone(Duration::ZERO, bob, false);
    world.add_phone(Duration::ZERO, carol, true);
    (world, alice, bob, carol)
}

/// Bob and Carol come and go while Alice writes to them, and the relay of both dies; at last some are called.
fn comes_and_goes(seed: u64, relays: u32) -> (Verdict, u64) {
    let (mut world, alice, bob, carol) = phones(seed, relays);
    let home = world.node(bob).unwrap().home;
    world.run_for(secs(10));
    // In the middle of naming where they are woken, at one place or another.
    if seed.is_multiple_of(2) {
        world.crash(home);
    }
    world.run_for(secs(60));
    for round in 0..6 {
        [bob, carol].into_iter().for_each(|who| world.disconnect(who));
        // Long enough for the relay to see that they left.
        world.run_for(secs(40));
        for word in 0..3 {
            world.say(alice, bob, &format!("{round} {word}"));
            world.say(alice, carol, &format!("{round} {word} too"));
            world.run_for(secs(3));
        }
        if round == 3 {
            world.crash(home);
        }
        [bob, carol].into_iter().for_each(|who| world.reconnect(who));
        world.run_for(secs(70));
    }
    world.run_scenario(Duration::ZERO, secs(600));
    let wakes = world.struck.wakes;
    (world.close().0, wakes)
}

#[test]
fn row_12_whoever_is_away_is_woken_where_they_showed_to_be_never_too_often_whatever_crashes() {
    for (seed, relays) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1), (6, 2)] {
        let (verdict, wakes) = comes_and_goes(seed, relays);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        assert!((3..=12).contains(&wakes), "{seed}: {wakes}");
    }
}

#[test]
fn row_4_a_list_of_threads_keeps_rows_settings_and_what_was_read_over_a_crash() {
    // One in two of those who are called keeps the thread quiet, and for one in two their relay dies meanwhile.
    for seed in 1..=8 {
        let (mut world, alice, bob, _) = phones(seed, 1);
        chat(&mut world, alice, bob, 3);
        world.run_for(secs(60));
        world.run_scenario(Duration::ZERO, secs(600));
        let verdict = world.close().0;
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
    }
}

/// The admin takes somebody out who is there, and the others go on talking. After each step something may strike: it is
/// handed the relay, the four, and which step it was.
fn taken_out(seed: u64, mut strike: impl FnMut(&mut World, ProcessNo, [ProcessNo; 4], u64)) -> Verdict {
    let mut world = World::new(Seed::from(seed));
    world.lively = false;
    let relay = world.test_relay("a.example").unwrap();
    let four @ [alice, bob, carol, dave] = std::array::from_fn(|_| world.test_node(relay).unwrap());
    [bob, carol, dave].into_iter().for_each(|other| world.befriend(alice, other));
    let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
    for step in 0..5 {
        match step {
            0 => world.say_in_circle(bob, thread, "all four"),
            1 => world.remove_from_circle(circle, thread, dave),
            2 => world.say_in_circle(bob, thread, "three"),
            3 => world.add_to_circle(circle, thread, &[dave]),
            _ => world.say_in_circle(carol, thread, "four again"),
        }
        strike(&mut world, relay, four, step);
        world.run_until_quiet();
    }
    world.heal_all();
    world.close().0
}

#[test]
fn row_9_whoever_is_taken_out_while_they_are_there_is_pushed_nothing_more_until_they_come_back() {
    let verdict = taken_out(3, |_, _, _, _| ());
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    assert_eq!((verdict.sent, verdict.shown), (3, 3 + 2 + 3));
}

#[test]
fn row_9_so_it_is_when_the_relay_or_one_of_them_dies_or_loses_the_network_in_the_middle_of_it() {
    for seed in 1..=12 {
        let verdict = taken_out(seed, |world, relay, [alice, bob, carol, dave], step| {
            // From before the relay has it until everybody does.
            world.run_for(Duration::from_millis(seed * 17 + step * 5));
            let turn = usize::try_from((seed + step) % 6).unwrap();
            let whom = [relay, alice, dave, relay, bob, carol].into_iter().nth(turn).unwrap();
            if seed % 3 == 0 && whom != relay {
                world.disconnect(whom);
                world.run_for(secs(20));
                world.reconnect(whom);
            } else {
                world.crash(whom);
            }
        });
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        // The last is not for Dave where Carol has not heard that he is in again.
        assert!(verdict.sent == 3 && (7..=8).contains(&verdict.shown), "{seed}: {}", verdict.shown);
    }
}

/// Alice opens a group with Bob for every set of the others there is, and comes in anew before each.
fn claims() -> (Verdict, u64) {
    let mut world = World::new(Seed::from(4));
    world.lively = false;
    let relay = world.test_relay("a.example").unwrap();
    let alice = world.test_node(relay).unwrap();
    let others: Vec<_> = (0..5).map(|_| world.test_node(relay).unwrap()).collect();
    others.iter().for_each(|other| world.befriend(alice, *other));
    let (bob, rest) = others.split_first().unwrap();
    for set in 1..16_u32 {
        world.break_all(alice);
        world.run_for(secs(5));
        let people = rest.iter().enumerate().filter(|(n, _)| set & 1 << n != 0).map(|(_, one)| *one);
        let people: Vec<_> = people.chain([*bob]).collect();
        world.say_to(alice, &people, &format!("set {set}"));
        world.run_for(secs(5));
    }
    world.heal_all();
    world.run_until_quiet();
    let verdict = world.close().0;
    let declined = verdict.declined;
    (verdict, declined)
}

#[test]
fn row_1_whoever_comes_in_anew_is_handed_no_more_of_anybodys_keys_than_an_hour_allows() {
    let (verdict, declined) = claims();
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    assert_eq!(declined, 15 - 10);
}

#[cfg(feature = "planted")]
#[test]
fn services_that_do_not_keep_their_word_are_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    type Finds = fn(&Violation) -> bool;
    let story = |run: fn() -> Verdict, bug: Bug, finds: Finds| {
        let found = with(bug, run).examples;
        assert!(found.iter().any(finds), "{}: {found:?}", bug.name());
    };
    let calls = || comes_and_goes(1, 1).0;
    story(calls, Bug::WakeOften, |one| matches!(one, Violation::WokeOften { .. }));
    story(calls, Bug::WakeUnchallenged, |one| matches!(one, Violation::WokeUnshown { .. }));
    story(calls, Bug::WakeNever, |one| matches!(one, Violation::Unwoken { .. }));
    story(calls, Bug::LeaveLingers, |one| matches!(one, Violation::Unwoken { .. }));
    story(calls, Bug::UnreadStays, |one| matches!(one, Violation::StillUnread { .. }));
    story(|| taken_out(3, |_, _, _, _| ()), Bug::EndLate, |one| matches!(one, Violation::PushedOn { .. }));
    story(|| claims().0, Bug::RatesAnew, |one| matches!(one, Violation::TooManyKeys { .. }));
}
