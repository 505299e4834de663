//! Stories of what a relay does with what it has had for weeks: it delivers it again, or it took it and has it no more.

use whimbrel_node::api::State;
use whimbrel_node::views::{self, Page};

use super::*;

const DAY: u64 = 24 * 3_600;

#[test]
fn t01_what_a_relay_delivers_again_after_29_days_is_shown_once() {
    for mut world in seeds().take(3) {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let turned = world.turn_relay(relay, RelayTrick::Replay, 1.0);
        chat(&mut world, alice, bob, 6);
        world.run_for(secs(30));
        let before = world.mischief(relay).unwrap().done;
        // Nobody is there for a month, and all that is not on their disks is forgotten.
        [alice, bob].into_iter().for_each(|who| world.kill(who));
        world.run_for(secs(29 * DAY));
        [alice, bob].into_iter().for_each(|who| world.start(who));
        world.run_for(limits::RELAY_BACKOFF_MAX + secs(30));
        // With each new word comes one of those of then.
        chat(&mut world, alice, bob, 6);
        world.run_for(secs(60));
        assert!(world.mischief(relay).unwrap().done > before + 6, "nothing came again");
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (12, 12));
        world.mend(turned);
        assert_eq!(well(world).shown, 24);
    }
}

#[test]
fn t04_what_a_home_relay_took_and_lost_is_said_again_and_shown_once() {
    for mut world in seeds() {
        let (alice, bob, _, home) = world.two_friends_on_two_relays();
        chat(&mut world, alice, bob, 1);
        world.run_for(secs(30));
        let turned = world.turn_relay(home, RelayTrick::Hide, 1.0);
        world.say(alice, bob, "lost on the last step");
        world.run_for(secs(30));
        assert!(world.mischief(home).unwrap().hidden > 0, "nothing was lost");
        assert_eq!(world.shown_to(bob).len(), 1);
        world.mend(turned);
        // By herself: Bob has nothing that would show him a gap.
        world.run_for(limits::RESEND_AFTER_MIN + secs(600));
        assert_eq!(world.shown_to(bob).last(), Some(&"lost on the last step"));
        assert_eq!(well(world).shown, 3);
    }
}

#[test]
fn t04_what_a_home_relay_loses_each_time_is_said_not_to_be_delivered_when_it_is_too_old_and_not_before() {
    let mut world = World::new(Seed::from(4));
    let (alice, bob, _, home) = world.two_friends_on_two_relays();
    chat(&mut world, alice, bob, 1);
    world.run_for(secs(30));
    let turned = world.turn_relay(home, RelayTrick::Hide, 1.0);
    world.say(alice, bob, "never to be seen");
    world.run_for(secs(60));
    let failed = |world: &World| {
        let reads = world.node(alice).unwrap().reads().unwrap();
        let (_, thread) = world.person_of(alice).unwrap().threads[0];
        let lines = views::messages(reads, &thread, Page::Oldest, 10).unwrap();
        lines.iter().any(|line| matches!(line.state, Some(State::Failed(_))))
    };
    // They are there for two days, until the tries are more than a day apart: of a longer absence no more counts than was
    // planned, so that a day may be missing at the end. Then both look in once a day, for two minutes.
    world.run_for(secs(2 * DAY));
    assert!(!failed(&world));
    let tried = world.mischief(home).unwrap().hidden;
    let days = limits::MESSAGE_AGE_MAX.as_secs() / DAY;
    for day in 3..=days + 2 {
        [alice, bob].into_iter().for_each(|who| world.kill(who));
        world.run_for(secs(DAY - 120));
        [alice, bob].into_iter().for_each(|who| world.start(who));
        world.run_for(secs(120));
        if day != days + 1 {
            assert_eq!(failed(&world), day > days, "on day {day}");
        }
    }
    // Though each try became due while her device was off.
    let hidden = world.mischief(home).unwrap().hidden;
    assert!(tried > 3 && hidden > tried + 2, "{tried}, {hidden}: it was not said again");
    world.mend(turned);
    assert_eq!(world.shown_to(bob).len(), 1);
    let verdict = well(world);
    assert_eq!(verdict.failed, 1);
}
