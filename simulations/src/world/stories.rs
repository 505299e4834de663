//! A story for each kind of fault, named after the row of the threat table it shows.

mod apart;
mod cards;
#[allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod commits;
mod copies;
#[allow(clippy::indexing_slicing, reason = "tests")]
mod crowd;
mod devices;
mod doors;
mod full;
mod late;
mod lies;
#[allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod links;
mod load;
mod names;
#[allow(clippy::indexing_slicing, reason = "tests")]
mod order;
mod polled;
mod rates;
#[allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod relays_lie;
#[allow(clippy::indexing_slicing, reason = "tests")]
mod retained;
#[allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod roles;
mod services;
mod strangers;
#[allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod strays;
mod tokens;
#[allow(clippy::panic, reason = "tests")]
mod uninvited;

use whimbrel_protocol::limits;

use super::*;
use crate::faults::{Kind, MemberTrick, RelayTrick};

const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;

fn seeds() -> impl Iterator<Item = World> {
    (1..=6_u64).map(|seed| World::new(Seed::from(seed)))
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The end of a story: everything heals, and every promise must have held.
pub(super) fn well(mut world: World) -> Verdict {
    world.heal_all();
    world.run_until_quiet();
    let verdict = world.close().0;
    assert_eq!(verdict.violations, 0, "{:?}", verdict.examples);
    verdict
}

/// They say so many things to each other, a moment apart.
fn chat(world: &mut World, alice: ProcessNo, bob: ProcessNo, rounds: u32) {
    for round in 0..rounds {
        world.say(alice, bob, &format!("ping {} {round}", world.now().nanos()));
        world.say(bob, alice, &format!("pong {} {round}", world.now().nanos()));
        world.run_for(Duration::from_millis(300));
    }
}

#[test]
fn t56_a_relay_that_dies_between_apply_and_answer_loses_nothing_and_repeats_nothing() {
    for keep in [Keep::Nothing, Keep::Everything, Keep::Torn] {
        for groups in 1..=6 {
            let mut world = World::new(Seed::from(u64::from(groups)));
            let (alice, bob, relay) = world.two_friends_on_one_relay();
            let fault = world.crash_when_applied(relay, groups, keep);
            chat(&mut world, alice, bob, 3);
            world.run_for(secs(2));
            world.mend(fault);
            let verdict = well(world);
            assert_eq!((verdict.sent, verdict.shown), (6, 6), "{keep:?} after {groups} groups");
        }
    }
}

#[test]
fn t56_a_relay_that_dies_between_sync_and_answer_or_between_two_awaits_loses_and_repeats_nothing() {
    for n in 1..=8 {
        let mut world = World::new(Seed::from(u64::from(n)));
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let first = world.crash_when_synced(relay, n);
        chat(&mut world, alice, bob, 2);
        world.run_for(secs(2));
        world.mend(first);
        let (target, keep) = (world.target(relay), Keep::Drawn);
        let second = world.inflict(Kind::Crash { target, point: crate::faults::Point::Polled(3 * n), keep });
        chat(&mut world, alice, bob, 2);
        world.run_for(secs(2));
        world.mend(second);
        let verdict = well(world);
        assert_eq!((verdict.sent, verdict.shown), (8, 8));
    }
}

#[test]
fn t56_a_node_that_dies_at_any_persist_point_loses_nothing_and_repeats_nothing() {
    for n in 1..=6 {
        for applied in [true, false] {
            let mut world = World::new(Seed::from(u64::from(n)));
            let (alice, bob, _) = world.two_friends_on_one_relay();
            let fault = match applied {
                true => world.crash_when_applied(bob, n, Keep::Torn),
                false => world.crash_when_synced(bob, n),
            };
            for round in 0..6 {
                world.say(alice, bob, &format!("{round}"));
                world.run_for(Duration::from_millis(400));
            }
            world.mend(fault);
            let verdict = well(world);
            assert_eq!((verdict.sent, verdict.shown), (6, 6), "at {n}, applied {applied}");
        }
    }
}

#[test]
fn t54_a_path_that_works_one_way_only_is_given_up_and_found_again() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        for (from, to) in [(a, b), (b, a), (alice, a), (a, alice)] {
            let cut = world.cut_one_way(from, to);
            world.say(alice, bob, &format!("while nothing goes from {from} to {to}"));
            world.run_for(secs(40));
            world.mend(cut);
            world.run_until_quiet();
        }
        assert_eq!(world.shown_to(bob).len(), 4);
        well(world);
    }
}

#[test]
fn t54_a_path_that_flaps_faster_than_a_link_notices_costs_time_and_no_link() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let broken = world.net.counts.broken;
        world.flap(alice, relay, Duration::from_millis(900), Duration::from_millis(1_500));
        chat(&mut world, alice, bob, 20);
        world.run_for(secs(20));
        assert!(world.struck.flaps > 3 && world.net.counts.lost_in_outages > 0);
        assert_eq!(world.net.counts.broken, broken, "a link broke that should have stood");
        assert_eq!(well(world).shown, 40);
    }
}

#[test]
fn t54_a_path_that_flaps_slower_than_a_link_notices_loses_nothing() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        world.flap(a, b, secs(11), secs(9));
        world.flap(alice, a, secs(12), secs(13));
        for _ in 0..6 {
            chat(&mut world, alice, bob, 2);
            world.run_for(secs(12));
        }
        assert_eq!(well(world).shown, 24);
    }
}

#[test]
fn a_request_whose_link_breaks_between_any_two_awaits_is_neither_lost_nor_done_twice() {
    for n in 1..=12 {
        let mut world = World::new(Seed::from(u64::from(n)));
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        for relay in [a, b] {
            let target = world.target(relay);
            world.inflict(Kind::Break { target, point: crate::faults::Point::Polled(n) });
        }
        chat(&mut world, alice, bob, 3);
        assert_eq!(well(world).shown, 6, "after {n} polls");
    }
}

#[test]
fn t59_a_full_relay_disk_acknowledges_nothing_and_takes_up_service_when_space_returns() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let full = world.fill_disk(relay);
        world.say(alice, bob, "into the full disk");
        world.run_for(secs(30));
        assert!(world.shown_to(bob).is_empty());
        world.mend(full);
        world.run_for(secs(120));
        assert_eq!(world.shown_to(bob), ["into the full disk"]);
        well(world);
    }
}

#[test]
fn t59_a_full_node_disk_takes_nothing_and_goes_on_when_space_returns() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        let full = world.fill_disk(bob);
        world.say(alice, bob, "no room for this");
        world.run_for(secs(20));
        assert!(world.shown_to(bob).is_empty() && world.struck.disk_stops > 0);
        world.mend(full);
        world.run_for(secs(120));
        assert_eq!(world.shown_to(bob), ["no room for this"]);
        well(world);
    }
}

#[test]
fn t59_a_stalled_disk_delays_and_a_failed_sync_stops_the_process() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let stalled = world.stall_disk(relay);
        world.say(alice, bob, "after the stall");
        world.run_for(secs(10));
        assert!(world.shown_to(bob).is_empty());
        world.mend(stalled);
        world.run_for(secs(60));
        assert_eq!(world.shown_to(bob), ["after the stall"]);
        let failing = world.fail_sync(relay);
        world.say(alice, bob, "after the failed sync");
        world.run_for(secs(60));
        assert_eq!(world.struck.disk_stops, 1);
        assert_eq!(world.shown_to(bob), ["after the stall", "after the failed sync"]);
        world.mend(failing);
        world.fail_sync(bob);
        world.say(alice, bob, "after the other failed sync");
        world.run_for(secs(60));
        assert_eq!((world.struck.disk_stops, world.shown_to(bob).len()), (2, 3));
        well(world);
    }
}

#[test]
fn t60_clocks_a_year_off_or_jumping_an_hour_decide_nothing() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        for (who, ahead) in [(alice, YEAR_MS), (bob, -YEAR_MS), (a, YEAR_MS), (b, -YEAR_MS), (alice, -3_600_000)] {
            let lie = world.set_clock(who, ahead, 500);
            chat(&mut world, alice, bob, 2);
            world.crash(who);
            world.run_for(secs(3));
            chat(&mut world, alice, bob, 2);
            world.run_for(secs(30));
            world.mend(lie);
            chat(&mut world, alice, bob, 1);
        }
        world.run_until_quiet();
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (25, 25));
        well(world);
    }
}

#[test]
fn t60_people_whose_clocks_are_a_year_apart_can_meet_once_they_are_right() {
    for mut world in seeds() {
        let relay = world.test_relay("a.example").unwrap();
        world.lively = false;
        let (alice, bob) = (world.test_node(relay).unwrap(), world.test_node(relay).unwrap());
        let lie = world.set_clock(bob, YEAR_MS, 0);
        world.run_for(secs(10));
        world.introduce(alice, bob);
        world.run_for(secs(60));
        world.mend(lie);
        world.run_for(secs(120));
        assert!(world.can_write(alice, bob) && world.can_write(bob, alice), "they never met");
        world.say(alice, bob, "hello");
        world.run_until_quiet();
        assert_eq!(world.shown_to(bob), ["hello"]);
        well(world);
    }
}

#[test]
fn t01_a_replaying_relay_shows_nothing_twice() {
    for trick in [RelayTrick::Replay, RelayTrick::Repeat] {
        for mut world in seeds() {
            let (alice, bob, relay) = world.two_friends_on_one_relay();
            world.turn_relay(relay, trick, 0.7);
            chat(&mut world, alice, bob, 6);
            world.crash(bob);
            world.run_for(secs(5));
            chat(&mut world, alice, bob, 4);
            world.run_until_quiet();
            assert_eq!(world.shown_to(bob).len(), 10, "{trick:?}");
            assert!(world.mischief(relay).unwrap().done > 3);
            well(world);
        }
    }
}

#[test]
fn t02_a_reordering_relay_loses_nothing_and_history_stands_in_the_order_of_its_authors() {
    for trick in [RelayTrick::Reorder, RelayTrick::Fork, RelayTrick::Delay] {
        for mut world in seeds() {
            let (alice, bob, relay) = world.two_friends_on_one_relay();
            let turned = world.turn_relay(relay, trick, 0.6);
            chat(&mut world, alice, bob, 10);
            world.run_for(secs(20));
            world.mend(turned);
            world.run_until_quiet();
            assert_eq!(world.shown_to(bob).len(), 10, "{trick:?}");
            well(world);
        }
    }
}

#[test]
fn t03_a_relay_that_leaves_out_pushes_is_found_by_the_next_one_or_at_reconnect() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let turned = world.turn_relay(relay, RelayTrick::Drop, 0.4);
        chat(&mut world, alice, bob, 10);
        world.mend(turned);
        world.run_until_quiet();
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (10, 10));
        well(world);
    }
}

#[test]
fn t04_a_relay_that_leaves_out_repeats_moves_or_misnumbers_what_it_forwards_loses_nothing_and_shows_nothing_twice() {
    for trick in [RelayTrick::Drop, RelayTrick::Repeat, RelayTrick::Replay, RelayTrick::Reorder, RelayTrick::Misnumber]
    {
        for mut world in seeds() {
            let (alice, bob, relay, _) = world.two_friends_on_two_relays();
            let turned = world.turn_relay(relay, trick, 0.5);
            chat(&mut world, alice, bob, 20);
            world.run_for(secs(30));
            world.mend(turned);
            world.run_until_quiet();
            assert!(world.mischief(relay).unwrap().done > 3, "{trick:?}");
            assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (20, 20), "{trick:?}");
            well(world);
        }
    }
}

#[test]
fn bytes_that_are_no_frame_end_the_link_they_come_on_and_nothing_else() {
    for relay_garbles in [true, false] {
        for mut world in seeds() {
            let (alice, bob, relay, _) = world.two_friends_on_two_relays();
            let (carol, dave) = {
                let other = world.test_relay("c.example").unwrap();
                (world.test_node(other).unwrap(), world.test_node(other).unwrap())
            };
            world.befriend(carol, dave);
            let turned = match relay_garbles {
                true => world.turn_relay(relay, RelayTrick::Garble, 0.1),
                false => world.turn_member(alice, MemberTrick::Garble, 0.1),
            };
            chat(&mut world, alice, bob, 20);
            chat(&mut world, carol, dave, 4);
            world.run_for(secs(30));
            world.mend(turned);
            world.run_until_quiet();
            assert!(world.struck.malformed > 0);
            assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (20, 20));
            assert_eq!((world.shown_to(carol).len(), world.shown_to(dave).len()), (4, 4));
            well(world);
        }
    }
}

/// Entries that a relay hides are not missed in the log: it numbers them as if there were none. Their authors' counters
/// show it, and what nobody said to have is said again.
#[test]
fn t03_what_a_relay_hides_is_missed_asked_for_and_given_again() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        let turned = world.turn_relay(relay, RelayTrick::Hide, 0.5);
        chat(&mut world, alice, bob, 10);
        world.run_for(secs(5));
        assert!(world.mischief(relay).unwrap().hidden > 0);
        world.mend(turned);
        world.run_for(secs(900));
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (10, 10));
        well(world);
    }
}

#[test]
fn t16_a_corrupted_copy_that_comes_first_does_not_spoil_the_genuine_one() {
    for mut world in seeds() {
        let (alice, bob, relay) = world.two_friends_on_one_relay();
        world.turn_relay(relay, RelayTrick::Corrupt, 1.0);
        chat(&mut world, alice, bob, 6);
        world.run_until_quiet();
        assert!(world.mischief(relay).unwrap().done > 0);
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (6, 6));
        well(world);
    }
}

/// MLS knows a device's own ciphertext by its sender data and opens it no further, so a corrupted copy looks like words of
/// one's own that one does not know, which are the sign of a store that is an old copy (docs/protocol/message.md 12). It is
/// told apart by its mark. The stand-in opens its own.
#[test]
fn t16_a_corrupted_copy_of_ones_own_words_does_not_end_ones_writing_in_the_thread() {
    let mut world = World::new(Seed::from(1));
    world.crypto = Crypto::Real;
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    let turned = world.turn_relay(relay, RelayTrick::Corrupt, 1.0);
    world.say(alice, bob, "hello");
    world.run_until_quiet();
    world.mend(turned);
    world.say(alice, bob, "still there?");
    world.run_until_quiet();
    assert_eq!(world.shown_to(bob), ["hello", "still there?"]);
    assert_eq!(well(world).declined, 0);
}

#[test]
fn t35_a_member_that_replays_corrupts_or_makes_up_envelopes_shows_nothing_twice_and_spoils_nothing() {
    for trick in [MemberTrick::Replay, MemberTrick::Garbage, MemberTrick::Corrupt] {
        for mut world in seeds() {
            let (alice, bob, _, _) = world.two_friends_on_two_relays();
            world.turn_member(alice, trick, 1.0);
            chat(&mut world, alice, bob, 5);
            world.run_until_quiet();
            assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (5, 5), "{trick:?}");
            well(world);
        }
    }
}

#[test]
fn t38_a_member_that_claims_extreme_times_does_not_disturb_the_order_of_honest_messages() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        let turned = world.turn_member(alice, MemberTrick::Clocks, 1.0);
        chat(&mut world, alice, bob, 3);
        world.mend(turned);
        chat(&mut world, alice, bob, 3);
        world.run_until_quiet();
        assert_eq!((world.shown_to(alice).len(), world.shown_to(bob).len()), (6, 6));
        well(world);
    }
}

/// Everybody gets to know everybody; two relays.
fn circle(world: &mut World, count: usize) -> Vec<ProcessNo> {
    world.lively = false;
    let relays = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
    let people: Vec<_> = relays.iter().cycle().take(count).map(|relay| world.test_node(*relay).unwrap()).collect();
    for (n, one) in people.iter().enumerate() {
        people.iter().skip(n + 1).for_each(|other| world.befriend(*one, *other));
    }
    people
}

#[test]
fn a_group_across_relays_sees_everything_everybody_says() {
    for mut world in seeds().take(3) {
        let people = circle(&mut world, 5);
        for (n, who) in people.iter().enumerate() {
            let others: Vec<_> = people.iter().copied().filter(|other| other != who).collect();
            world.say_to(*who, &others, &format!("from {n}"));
            world.run_for(secs(20));
        }
        for who in &people {
            assert_eq!(world.shown_to(*who).len(), 4);
        }
        well(world);
    }
}

#[test]
fn two_people_who_open_the_same_group_at_once_end_up_in_one_conversation() {
    for mut world in seeds().take(3) {
        let people = circle(&mut world, 3);
        let [alice, bob, carol] = people.as_slice() else { unreachable!() };
        world.write_to(*alice, &people, "alice opens".to_owned());
        world.write_to(*bob, &people, "bob opens".to_owned());
        world.run_until_quiet();
        for (who, others) in [(alice, [*bob, *carol]), (bob, [*alice, *carol]), (carol, [*alice, *bob])] {
            world.say_to(*who, &others, &format!("and {who}"));
        }
        world.run_until_quiet();
        for (who, seen) in [(alice, 3), (bob, 3), (carol, 4)] {
            assert_eq!(world.shown_to(*who).len(), seen, "{:?}", world.shown_to(*who));
        }
        well(world);
    }
}

#[test]
fn relays_that_no_operator_listed_get_to_know_each_other_by_an_invite_and_remember_it_after_a_crash() {
    for mut world in seeds() {
        world.lively = false;
        let unlisted = |domain: &str| crate::scenario::Relay {
            listed: false,
            ..crate::scenario::Relay::with_defaults(domain.parse().unwrap())
        };
        let [a, b] = ["a.example", "b.example"].map(|domain| world.add_relay(&unlisted(domain)).unwrap());
        let (alice, bob) = (world.test_node(a).unwrap(), world.test_node(b).unwrap());
        world.befriend(alice, bob);
        chat(&mut world, alice, bob, 2);
        world.crash(a);
        world.crash(b);
        world.run_for(secs(5));
        chat(&mut world, alice, bob, 2);
        assert_eq!(well(world).shown, 8);
    }
}

#[test]
fn t53_what_is_said_in_a_group_before_its_opening_reached_every_relay_waits_for_it() {
    let mut overtaken = 0;
    for millis in (10..400).step_by(10) {
        let mut world = World::new(Seed::from(millis));
        world.lively = false;
        let [a, b, c] = ["a.example", "b.example", "c.example"].map(|domain| world.test_relay(domain).unwrap());
        let [alice, bob, carol] = [a, b, c].map(|relay| world.test_node(relay).unwrap());
        for (one, other) in [(alice, bob), (alice, carol), (bob, carol)] {
            world.befriend(one, other);
        }
        world.run_until_quiet();
        // Alice's relay loses Carol's somewhere between asking for her keys and handing her the opening.
        world.write_to(alice, &[alice, bob, carol], "alice opens".to_owned());
        world.run_for(Duration::from_millis(millis));
        world.cut(a, c);
        world.run_for(secs(20));
        let seen = |world: &World, who| world.shown_to(who).contains(&"alice opens");
        if !seen(&world, bob) || seen(&world, carol) {
            continue;
        }
        overtaken += 1;
        world.say_to(bob, &[alice, carol], "bob answers");
        world.run_for(secs(60));
        world.heal(a, c);
        world.run_for(secs(600));
        assert!(seen(&world, carol) && world.shown_to(carol).contains(&"bob answers"));
        well(world);
    }
    assert!(overtaken > 0, "the opening was never overtaken");
}

#[test]
fn people_become_friends_by_request_whatever_crashes_or_parts_meanwhile() {
    for (mut world, n) in seeds().zip(0_u32..) {
        world.lively = false;
        let [a, b] = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
        let [alice, bob, carol] = [a, b, b].map(|relay| world.test_node(relay).unwrap());
        world.request(alice, bob);
        world.request(bob, carol);
        // Both ask: the requests cross.
        world.request(carol, alice);
        world.request(alice, carol);
        for step in 0..8 {
            world.run_for(Duration::from_millis(400 + u64::from(n) * 130));
            match step % 4 {
                0 => world.crash(a),
                1 => world.cut(a, b),
                2 => world.crash(b),
                _ => world.heal(a, b),
            }
        }
        world.heal(a, b);
        world.run_for(secs(120));
        for (one, other) in [(alice, bob), (bob, carol), (carol, alice)] {
            assert!(world.can_write(one, other) && world.can_write(other, one), "{one} and {other} are no friends");
        }
        well(world);
    }
}

#[test]
fn t18_friends_are_seen_as_they_are_and_presence_decides_no_delivery() {
    for mut world in seeds() {
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        let eve = world.test_node(a).unwrap();
        world.run_for(secs(60));
        assert_eq!((world.seen(alice, bob), world.seen(bob, alice)), (Some(true), Some(true)));
        assert_eq!((world.seen(eve, alice), world.seen(eve, bob)), (None, None));
        // Bob's relay is apart: it is not known of him any more that he is there, and what is said reaches him later.
        world.cut(a, b);
        world.run_for(secs(180));
        assert_eq!(world.seen(alice, bob), Some(false));
        world.say(alice, bob, "to somebody who is not seen");
        world.heal(a, b);
        world.run_for(secs(180));
        assert_eq!((world.seen(alice, bob), world.seen(bob, alice)), (Some(true), Some(true)));
        // Gone without a word: seen for a minute, then not, and written to all the same.
        world.disconnect(bob);
        world.run_for(secs(150));
        assert_eq!(world.seen(alice, bob), Some(false));
        world.say(alice, bob, "to somebody who is away");
        world.reconnect(bob);
        // The longest his node may wait before it tries again, and what presence takes to come round.
        world.run_for(limits::RELAY_BACKOFF_MAX + secs(30));
        assert_eq!(world.seen(alice, bob), Some(true));
        assert_eq!(well(world).shown, 2);
    }
}
