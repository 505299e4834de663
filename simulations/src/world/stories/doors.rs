//! Stories of a relay with several push addresses: whoever comes in at another than theirs is told where to go, and goes.

use super::*;
use crate::world::doors;

/// Where an account belongs.
fn belongs(world: &World, who: ProcessNo, push: &[String]) -> u16 {
    doors::belongs(push, world.node(who).unwrap().account).unwrap()
}

/// Two friends whose relay starts again with three push addresses, the first its own.
fn with_doors(world: &mut World) -> (ProcessNo, ProcessNo, ProcessNo, Vec<String>) {
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    let push: Vec<String> = ["a", "p1.a", "p2.a"].map(|host| format!("{host}.example:4433")).into();
    let Some(Process::Relay(process)) = world.processes.get_mut(relay as usize) else { unreachable!() };
    process.push.clone_from(&push);
    world.crash(relay);
    (alice, bob, relay, push)
}

#[test]
fn row_1_whoever_comes_in_at_another_address_than_theirs_goes_there_whatever_crashes_or_breaks_meanwhile() {
    let mut gone = 0;
    for (mut world, n) in seeds().zip(0_u32..) {
        let (alice, bob, relay, push) = with_doors(&mut world);
        world.say(alice, bob, "while it starts");
        world.say(bob, alice, "while it starts");
        // In the middle of being sent on, at one place or another.
        world.run_for(Duration::from_millis(1_000 + u64::from(n) * 35));
        match n % 3 {
            0 => world.crash(relay),
            1 => world.crash(alice),
            _ => world.cut(alice, relay),
        }
        world.run_for(secs(20));
        world.heal_all();
        world.run_for(secs(120));
        for who in [alice, bob] {
            let (door, dialled) = (belongs(&world, who, &push), world.doors.dialled_by(who));
            // They begin at the address they were given, and end where they belong.
            assert_eq!((dialled.first(), dialled.last()), (Some(&0), Some(&door)), "{n}: {dialled:?}");
            // Sent on once each time: never in circles.
            assert!(dialled.windows(2).all(|two| two.contains(&0)), "{n}: {dialled:?}");
            gone += u32::from(door != 0);
        }
        chat(&mut world, alice, bob, 3);
        assert_eq!(well(world).shown, 8, "{n}");
    }
    assert!((1..12).contains(&gone), "{gone} of 12 belong elsewhere");
}

/// Six people whose relay has four push addresses in all its one life.
fn stays(seed: u64) -> (Verdict, u64) {
    six(seed, 4, "")
}

/// Six people whose relay has other push addresses after each of its restarts.
fn moves(seed: u64) -> (Verdict, u64) {
    let restarts: String = (1..=5)
        .map(|n| {
            format!("[[fault]]\nkind = \"restart\"\nat = \"{} s\"\ntarget = \"a.example\"\nlasts = \"2 s\"\n", n * 30)
        })
        .collect();
    six(seed, 1, &restarts)
}

fn six(seed: u64, least: u16, faults: &str) -> (Verdict, u64) {
    let text = format!(
        "[sim]\nduration = \"3 min\"\n[[relay]]\ndomain = \"a.example\"\npush = {{ addresses = 4, live = [{least}, 4] }}\n\
         [[population]]\nrelay = \"a.example\"\ncount = 6\n[workload]\nevery = \"4 s\"\n{faults}"
    );
    let scenario = crate::scenario::Scenario::read("story", &text, &[]).unwrap();
    let outcome = World::run(&scenario, Seed::from(seed), &scenario.plan()).unwrap();
    (outcome.verdict, outcome.account.faults.sent_elsewhere)
}

#[test]
fn row_1_whoever_is_sent_elsewhere_again_and_again_loses_nothing_and_ends_where_they_belong() {
    let mut sent = 0;
    for seed in 1..=6 {
        let (verdict, elsewhere) = moves(seed);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        sent += elsewhere;
    }
    assert!(sent > 30, "{sent}");
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_that_sends_nobody_to_their_address_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let other = |one: &Violation| matches!(one, Violation::AtAnotherDoor { .. });
    let seen = |verdict: &Verdict| verdict.examples.iter().any(other);
    let moved = with(Bug::NeverElsewhere, || (1..=3).map(|seed| moves(seed).0).collect::<Vec<_>>());
    assert!(moved.iter().any(seen), "nobody saw it");
    // Whoever has one link only, to the address they were given, was never sent anywhere.
    let stayed = with(Bug::NeverElsewhere, || (1..=3).map(|seed| stays(seed).0).collect::<Vec<_>>());
    assert!(stayed.iter().all(seen), "{:?}", stayed.iter().map(seen).collect::<Vec<_>>());
    for (verdict, elsewhere) in (1..=3).map(stays) {
        assert!(verdict.violations == 0 && elsewhere > 0, "{elsewhere}: {:?}", verdict.examples);
    }
}
