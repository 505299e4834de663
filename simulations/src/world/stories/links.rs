//! Stories of links into groups: whoever comes by one is in, whatever dies and whoever is away meanwhile.

use super::super::circle_stories::people_with;
use super::roles::agreed;
use super::*;

#[test]
fn a_stranger_of_another_relay_comes_by_a_link_whose_maker_is_away_and_dies_and_is_in_and_reads_from_then_on() {
    for seed in 1..=4 {
        let crypto = if seed == 4 { Crypto::Real } else { Crypto::Standin };
        let (mut world, people, relays) = people_with(seed, 3, crypto);
        let [alice, bob, carol] = people[..] else { panic!("three people") };
        let stranger = world.test_node(relays[1]).unwrap();
        world.run_until_quiet();
        let (circle, thread) = world.make_circle(alice, &[bob, carol]);
        world.say_in_circle(bob, thread, "before");
        world.run_until_quiet();
        world.disconnect(stranger);
        world.give_link(circle, thread, alice, stranger);
        world.answered_within(alice);
        world.kill(alice);
        world.reconnect(stranger);
        world.run_for(Duration::from_secs(40));
        for _ in 0..3 {
            // Each time a little further.
            world.start(alice);
            world.run_for(Duration::from_millis(700));
            world.kill(alice);
        }
        world.start(alice);
        world.kill(relays[0]);
        world.run_for(Duration::from_secs(5));
        world.start(relays[0]);
        world.run_until_quiet();
        let (_, members, _) = agreed(&world, thread, &[alice, bob, carol, stranger]);
        assert_eq!(members, [alice, bob, carol, stranger].into(), "{seed}");
        world.say_in_circle(stranger, thread, "hello from far away");
        world.run_until_quiet();
        for one in [alice, bob, carol] {
            assert!(world.shown_to(one).contains(&"hello from far away"), "{seed}");
        }
        assert!(!world.shown_to(stranger).contains(&"before"), "{seed}");
        well(world);
    }
}
