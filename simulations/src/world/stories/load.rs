//! Stories of a relay that is asked for more than it is rated for.

use super::*;

/// What one account may hand in, by its relay's configuration: a second, and at once (docs/protocol/reception.md 14).
const RATED: u64 = 20;
const AT_ONCE: u64 = 1_000;
/// The longest that one of the others' messages may take, in a world whose links carry it in a tenth of that.
const SOON: Duration = Duration::from_secs(2);

/// When each of so many words of two people who keep to their rate was shown, from the moment it was said.
fn beside(world: &mut World, carol: ProcessNo, dave: ProcessNo, text: &str) -> Duration {
    let (said, before) = (world.now(), world.shown_to(dave).len());
    world.say(carol, dave, text);
    while world.shown_to(dave).len() == before {
        assert!(world.now() < said.plus(secs(60)), "{text} is not heard within 60 s");
        world.run_for(Duration::from_millis(10));
    }
    world.now().since(said)
}

/// Alice writes ten times as much as she may for so long, and Carol now and then.
fn overload(time: Duration) {
    let mut world = World::new(Seed::from(66));
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    let (carol, dave) = (world.test_node(relay).unwrap(), world.test_node(relay).unwrap());
    world.befriend(carol, dave);
    let quiet = beside(&mut world, carol, dave, "before");
    let (begun, mut said, mut slowest) = (world.now(), 0_u64, Duration::ZERO);
    while world.now().since(begun) < time {
        // What is due by now, at ten times the rate.
        let due = world.now().since(begun).as_millis() as u64 * RATED * 10 / 1_000;
        while said < due {
            world.say(alice, bob, &format!("{said}"));
            said += 1;
        }
        if said.is_multiple_of(400) {
            slowest = slowest.max(beside(&mut world, carol, dave, &format!("beside {said}")));
        }
        world.run_for(Duration::from_millis(50));
    }
    let passed = world.shown_to(bob).len() as u64;
    let allowed = AT_ONCE + RATED * (world.now().since(begun).as_secs() + 1);
    assert!(passed <= allowed && passed * 2 > allowed, "{passed} of {said} are through, {allowed} may be");
    assert!(slowest < SOON, "{slowest:?} beside it, {quiet:?} before");
    // Once she writes no more whoever keeps to their rate is heard as before, and all that was taken comes, at her rate.
    let after = beside(&mut world, carol, dave, "after");
    assert!(after < SOON, "{after:?}");
    world.run_for(secs(said / RATED + 120));
    assert_eq!(world.shown_to(bob).len() as u64, said);
    println!(
        "{said} at ten times the rate: {passed} through in time; beside it {slowest:?}, before {quiet:?}, after {after:?}"
    );
    let verdict = well(world);
    assert_eq!((verdict.lost, verdict.failed), (0, 0));
}

/// Until what may be handed in at once is used up three times over.
#[test]
fn t66_ten_times_the_rated_messages_are_shed_lose_nothing_accepted_and_slow_nobody_else() {
    overload(secs(15));
}

#[test]
#[ignore = "the full ten minutes take as long: cargo test --workspace --all-features --lib --release -- --ignored --nocapture t66"]
fn t66_ten_minutes_of_ten_times_the_rated_messages_are_shed_as_well() {
    overload(secs(600));
}
