//! How long a relay holds what nobody fetches, when its operator chose less than usual.

use whimbrel_protocol::push::Gone;

use super::people::waiting;
use super::*;
use crate::config::ConfigError;

/// Alice is away from a relay that holds for so long, and Bob, who has all there is, says something to her.
fn held_for(age: Duration) -> World {
    let mut config = Config::new(domain(0), relay_id(0));
    config.hold_age = age;
    let mut world = World::with(vec![config]);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    world.befriend((alice, 0), (bob, 0));
    world.leave(alice);
    world.leave(bob);
    // Long enough for the two clocks to be seen to agree.
    world.pass(age.max(limits::SWEEP_CLOCK_SURE) + limits::SWEEP_EVERY * 2);
    world.come_back(bob, 0);
    let submit = world.submit(bob, b"never read");
    world.ask(bob, submit);
    world.pass(Duration::from_secs(2));
    world
}

fn held(world: &mut World) -> usize {
    world.store(0, |relay| async move { waiting(&relay).await })
}

#[test]
fn mail_is_held_for_as_long_as_the_operator_chose() {
    for age in [limits::HOLD_AGE_MIN, Duration::from_secs(3_600), Duration::from_secs(48 * 3_600)] {
        let mut world = held_for(age);
        world.pass(age.saturating_sub(Duration::from_secs(3)));
        assert_eq!(held(&mut world), 1, "{age:?}: not yet");
        world.pass(limits::SWEEP_EVERY.min(age) + Duration::from_secs(3));
        assert_eq!(held(&mut world), 0, "{age:?}");
    }
}

#[test]
fn what_is_held_for_a_short_time_goes_no_sooner_by_a_clock_that_jumps() {
    // A jump that a long time tolerates, and one that none does.
    for (age, jump) in [(80, 100), (3_600, 600), (3_600, 365 * 24 * 3_600)] {
        let age = Duration::from_secs(age);
        let mut world = held_for(age);
        world.now.wall = Wall::from_millis(world.now.wall.as_millis() + jump * 1_000);
        world.pass(age.saturating_sub(Duration::from_secs(5)));
        assert_eq!(held(&mut world), 1, "{age:?}: not yet");
        world.pass(limits::SWEEP_EVERY * 3);
        assert_eq!(held(&mut world), 0, "{age:?}: the clocks have agreed for as long again");
    }
}

/// What runs of the thread's log say is gone.
fn gone(heard: &[Frame]) -> Vec<(u64, u64)> {
    let run = |frame: &Frame| match frame {
        Frame::Push(run) if run.log == LOG => run.gone.map(|Gone { after, upto }| (after.get(), upto.get())),
        _ => None,
    };
    heard.iter().filter_map(run).collect()
}

#[test]
fn whoever_comes_back_is_told_what_went_until_they_say_that_they_are_beyond() {
    let (alice, age) = (0, limits::HOLD_AGE_MIN);
    let mut world = held_for(age);
    world.pass(age + limits::SWEEP_EVERY);
    assert_eq!(held(&mut world), 0);
    for _ in ["whose answer was lost", "who comes again", "after the relay's crash"] {
        let heard = world.come_back(alice, 0);
        assert_eq!(gone(&heard), [(0, 1)]);
        world.leave(alice);
        world.crash(0, true);
        world.start(0);
    }
    world.come_back(alice, 0);
    world.acknowledge(alice, LOG, 1);
    world.pass(limits::CURSOR_WRITE_DELAY);
    world.leave(alice);
    let heard = world.come_back(alice, 0);
    assert_eq!(gone(&heard), [], "said once, and answered");
}

#[test]
fn a_time_to_hold_that_no_file_can_say_is_refused_by_the_core_too() {
    for age in [Duration::ZERO, limits::HOLD_AGE_MIN / 2, limits::HOLD_AGE_MAX * 2] {
        let mut config = Config::new(domain(0), relay_id(0));
        config.hold_age = age;
        assert_eq!(config.check(), Err(ConfigError::HoldAge(age)));
    }
}
