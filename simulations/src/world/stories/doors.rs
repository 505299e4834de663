//! Stories of a relay with several push addresses: whoever comes in at another than theirs is told where to go, and goes.

use sha2::{Digest, Sha256};

use super::*;

/// Where an account belongs, by the page: the address with the greatest SHA-256 of account id and address.
fn belongs(world: &World, who: ProcessNo, push: &[String]) -> u16 {
    let account = world.node(who).unwrap().account;
    let weight = |address: &str| <[u8; 32]>::from(Sha256::digest([account.as_bytes(), address.as_bytes()].concat()));
    let (chosen, _) =
        push.iter().zip(0..).map(|(address, door)| (door, weight(address))).max_by_key(|(_, w)| *w).unwrap();
    chosen
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
