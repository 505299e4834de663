//! Stories of relays that let everybody ask for little in a time: all of it comes later, and nothing is lost.

use whimbrel_relay::{Rate, Rates};

use super::*;

/// From its next start on, which is now, a relay holds everybody to these.
fn hold_to(world: &mut World, relay: ProcessNo, rates: Rates) {
    let Some(Process::Relay(process)) = world.processes.get_mut(relay as usize) else { unreachable!() };
    process.rates = rates;
    world.crash(relay);
}

/// Two friends on two relays say forty things each at once, while their relays hold everybody to these rates; the relay of
/// one may die in the middle.
fn much_at_once(seed: u64, rates: Rates) -> (Verdict, u64) {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, a, b) = world.two_friends_on_two_relays();
    [a, b].into_iter().for_each(|relay| hold_to(&mut world, relay, rates));
    world.run_for(secs(30));
    for n in 0..40 {
        world.say(alice, bob, &format!("ping {n}"));
        world.say(bob, alice, &format!("pong {n}"));
    }
    world.run_for(secs(seed * 7));
    match seed % 3 {
        0 => world.crash(a),
        1 => world.crash(bob),
        _ => {
            world.cut(a, b);
            world.run_for(secs(30));
            world.heal(a, b);
        }
    }
    world.run_scenario(Duration::ZERO, secs(1_800));
    let refused = world.struck.refused_by_rate;
    (world.close().0, refused)
}

/// Much tighter than any relay is, all of it.
const TIGHT: Rates = Rates {
    messages: Rate::new(30, 3),
    requests: Rate::new(12, 3),
    arrivals: Rate::new(6, 2),
    peer_items: Rate::new(60, 4),
    peer_requests: Rate::new(24, 6),
    peer_friend_requests: Rate::hourly(60, 1),
    claims: Rate::hourly(8, 2),
    signs: Rate::new(240, 32),
    touches: Rate::new(6, 1),
};

#[test]
fn row_1_what_is_refused_because_it_came_too_fast_comes_later_and_once() {
    let usual = Rates::default();
    for (seed, rates) in [
        (1, Rates { messages: TIGHT.messages, ..usual }),
        (2, Rates { requests: TIGHT.requests, arrivals: TIGHT.arrivals, ..usual }),
        (3, Rates { peer_items: TIGHT.peer_items, ..usual }),
        (4, Rates { peer_requests: TIGHT.peer_requests, ..usual }),
        (5, Rates { signs: TIGHT.signs, ..usual }),
        (6, TIGHT),
        (7, TIGHT),
        (8, TIGHT),
    ] {
        let (verdict, refused) = much_at_once(seed, rates);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        assert_eq!((verdict.failed, verdict.declined), (0, 0), "{seed}");
        // Those whom nothing slowed have shown nothing here.
        let slowed = [1, 3, 6, 7, 8].contains(&seed);
        assert!(refused > 0 || !slowed, "{seed}: nobody was too fast");
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_node_that_gives_up_what_came_too_fast_is_found() {
    use crate::planted::{Bug, with};

    let rates = Rates { messages: TIGHT.messages, ..Rates::default() };
    let found = with(Bug::DropSlowed, || much_at_once(1, rates)).0;
    assert!(found.violations > 0, "nothing was missed");
}
