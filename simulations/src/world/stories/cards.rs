//! Stories of cards: what people are called, put up from either device, and shown to their friends.

use super::*;

/// Alice, who has two devices, puts cards up while relays die, and Bob looks all the time.
fn cards(seed: u64, lies: bool) -> (Verdict, u64) {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, a, b) = world.two_friends_on_two_relays();
    let second = world.link_device(alice);
    world.add_card_owner(alice);
    let tricked = lies.then(|| world.turn_relay(a, RelayTrick::Impersonate, 0.5));
    for round in 0..6 {
        let by = if round % 2 == 0 { alice } else { second };
        world.put_card_up(by, alice);
        world.run_for(Duration::from_millis(20 + seed * 13));
        match (seed + round) % 3 {
            0 => world.crash(a),
            1 => world.crash(b),
            _ => world.crash(by),
        }
        for _ in 0..3 {
            world.run_for(secs(4));
            world.look_at_card(bob, alice);
            world.look_at_card(second, alice);
        }
    }
    tricked.into_iter().for_each(|fault| world.mend(fault));
    world.run_scenario(Duration::ZERO, secs(600));
    let shown = world.struck.cards;
    (world.close().0, shown)
}

#[test]
fn row_2_whoever_looks_at_a_card_is_shown_the_newest_whatever_dies_and_never_one_that_nobody_signed() {
    let mut all = 0;
    for seed in 1..=6 {
        let (verdict, shown) = cards(seed, seed % 2 == 0);
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        all += shown;
    }
    assert!(all > 60, "{all}");
}

#[cfg(feature = "planted")]
#[test]
fn a_card_that_is_not_kept_and_one_that_is_not_proved_are_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let kept = with(Bug::CardKept, || cards(1, false)).0.examples;
    assert!(
        kept.iter().any(|one| matches!(one, Violation::StaleCard { .. } | Violation::UnshownCard { .. })),
        "{kept:?}"
    );
    let forged = with(Bug::CardUnproved, || cards(2, true)).0.examples;
    assert!(forged.iter().any(|one| matches!(one, Violation::StrangeCard { .. })), "{forged:?}");
}
