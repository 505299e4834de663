//! Stories of people with more than one device.

use whimbrel_node::api::Command;
use whimbrel_node::views::{self, Page};
use whimbrel_protocol::id::{DeviceIndex, ThreadId};
use whimbrel_protocol::limits;

use super::*;
use crate::faults::{Fault, Keep, Kind, Point, Target};
use crate::judge::ledger::How;
#[cfg(feature = "planted")]
use crate::judge::verdict::Violation;
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use crate::world::people::Asked;

fn chat_among(world: &mut World, alice: ProcessNo, phone: ProcessNo, bob: ProcessNo, round: u32) {
    world.say(alice, bob, &format!("from the first {round}"));
    world.say_from(phone, bob, &format!("from the second {round}"));
    world.say(bob, alice, &format!("to both {round}"));
    world.run_for(Duration::from_millis(500));
}

#[test]
fn a_second_device_has_what_was_said_before_and_everything_since_on_one_relay_or_two() {
    for seed in 1..=3 {
        for two in [false, true] {
            let mut world = World::new(Seed::from(seed));
            let (alice, bob) = if two {
                let (alice, bob, _, _) = world.two_friends_on_two_relays();
                (alice, bob)
            } else {
                let (alice, bob, _) = world.two_friends_on_one_relay();
                (alice, bob)
            };
            chat(&mut world, alice, bob, 3);
            let phone = world.link_device(alice);
            (0..4).for_each(|round| chat_among(&mut world, alice, phone, bob, round));
            world.run_until_quiet();
            assert_eq!(world.shown_to(bob).len(), 3 + 8);
            assert_eq!(well(world).sent, 6 + 12);
        }
    }
}

#[test]
fn a_device_that_dies_at_any_moment_of_coming_in_comes_in_all_the_same() {
    let mut died = 0;
    for n in 1..=8 {
        for point in [Point::Applied(n), Point::Synced(n)] {
            for keep in [Keep::Nothing, Keep::Drawn] {
                let mut world = World::new(Seed::from(u64::from(n)));
                let (alice, bob, _) = world.two_friends_on_one_relay();
                chat(&mut world, alice, bob, 2);
                let number = world.second(alice).unwrap();
                let target = Target::Second(0);
                let device = world.seconds.get(number).map(|second| second.device);
                assert_eq!(world.process(&target), device);
                assert_eq!(world.target(device.unwrap()), target);
                let dies = Fault {
                    at: world.now().since(Time::ZERO),
                    lasts: secs(5),
                    kind: Kind::Crash { target, point, keep },
                };
                world.plan(dies);
                world.add_device(alice);
                world.run_for(secs(120));
                let linked = world.linked_seconds();
                let [phone] = linked[..] else { unreachable!("{point:?} {keep:?} {:?}", world.seconds) };
                chat_among(&mut world, alice, phone, bob, 1);
                world.run_until_quiet();
                assert_eq!(world.shown_to(bob).len(), 2 + 2, "{point:?} {keep:?}");
                died += world.struck.crashes;
                well(world);
            }
        }
    }
    assert!(died > 16, "of 32 devices {died} died on their way");
}

#[test]
fn two_devices_that_die_and_are_cut_off_come_to_the_same() {
    for seed in 1..=4 {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _) = world.two_friends_on_one_relay();
        let phone = world.link_device(alice);
        for round in 0..4 {
            let who = if round % 2 == 0 { alice } else { phone };
            world.disconnect(who);
            world.say(bob, alice, &format!("while one is away {round}"));
            world.run_for(secs(5));
            world.crash(if round % 2 == 0 { phone } else { alice });
            world.run_for(secs(5));
            world.reconnect(who);
            world.run_until_quiet();
            chat_among(&mut world, alice, phone, bob, round);
        }
        well(world);
    }
}

#[test]
fn what_was_said_by_somebody_who_had_not_heard_of_a_device_comes_to_it_all_the_same() {
    for seed in 1..=3 {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _) = world.two_friends_on_one_relay();
        world.disconnect(bob);
        world.say(bob, alice, "before he heard");
        let phone = world.link_device(alice);
        world.reconnect(bob);
        world.run_until_quiet();
        assert_eq!(world.shown_to(alice), ["before he heard"]);
        chat_among(&mut world, alice, phone, bob, 0);
        well(world);
    }
}

#[test]
fn a_device_that_is_taken_off_reads_nothing_more_and_is_in_no_thread() {
    for seed in 1..=3 {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _, _) = world.two_friends_on_two_relays();
        let phone = world.link_device(alice);
        chat_among(&mut world, alice, phone, bob, 0);
        world.run_until_quiet();
        world.revoke_device(phone);
        world.run_until_quiet();
        world.seconds_are_out();
        chat(&mut world, alice, bob, 3);
        well(world);
    }
}

/// Devices of somebody that have a leaf in any of the threads that somebody's device is in.
fn places(world: &World, of: ProcessNo, at: ProcessNo) -> BTreeSet<DeviceIndex> {
    let of = world.node(of).unwrap().account;
    let found = views::memberships(world.node(at).unwrap().reads().unwrap()).unwrap();
    let leaves = found.into_iter().flat_map(|thread| thread.leaves);
    leaves.filter(|leaf| leaf.account == of).map(|leaf| leaf.index).collect()
}

/// All that a device shows, of every thread.
fn everything(world: &World, device: ProcessNo) -> Vec<String> {
    let reads = world.node(device).unwrap().reads().unwrap();
    let threads = views::threads(reads).unwrap().into_iter();
    let lines = threads.flat_map(|one| views::messages(reads, &one.thread, Page::Oldest, 1_000).unwrap());
    lines.map(|line| line.message.text).collect()
}

/// Somebody writes to a group from a second device.
fn write_to_circle_from(world: &mut World, device: ProcessNo, circle: ThreadId, text: &str) {
    let owner = world.owner_of(device).unwrap();
    let said = world.ledger.ask_circle(owner, circle, text.to_owned(), world.now());
    world.ledger.from_second(said);
    world.command(device, Command::Send { thread: circle, text: text.to_owned() }, Asked::SendFrom(said));
}

#[test]
fn t46_a_revoked_device_that_goes_on_is_out_of_every_thread_within_a_minute_and_neither_reads_nor_is_read() {
    for seed in 1..=3 {
        for hides in [false, true] {
            let mut world = World::new(Seed::from(seed));
            let (alice, bob, a, _) = world.two_friends_on_two_relays();
            let carol = world.test_node(a).unwrap();
            world.befriend(alice, carol);
            let phone = world.link_device(alice);
            let (_, circle) = world.make_circle(alice, &[bob, carol]);
            chat_among(&mut world, alice, phone, bob, 0);
            world.say_in_circle(carol, circle, "to all");
            world.run_until_quiet();
            let both = [DeviceIndex::FIRST, DeviceIndex::new(DeviceIndex::FIRST.get() + 1)];
            for one in [alice, bob, carol] {
                assert_eq!(places(&world, alice, one), both.into(), "{seed} {hides}: {one}");
            }
            // Whoever has it keeps it from its relay, from which it would hear that it is none any more, and writes on.
            world.cut(phone, a);
            world.revoke_device(phone);
            write_to_circle_from(&mut world, phone, circle, "stolen, to all");
            world.say_from(phone, bob, "stolen, to Bob");
            if !hides {
                world.heal(phone, a);
            }
            world.run_for(secs(60));
            for one in [alice, bob, carol] {
                assert_eq!(places(&world, alice, one), [DeviceIndex::FIRST].into(), "{seed} {hides}: {one}");
            }
            if hides {
                // It does not know to this hour.
                assert_eq!(places(&world, alice, phone), both.into(), "{seed}");
                write_to_circle_from(&mut world, phone, circle, "stolen, to all again");
            }
            world.seconds_are_out();
            world.say(bob, alice, "to one device");
            world.say(alice, bob, "from one device");
            world.say_in_circle(bob, circle, "to all but one");
            world.run_for(secs(120));
            world.heal(phone, a);
            world.run_for(limits::RELAY_BACKOFF_MAX + secs(60));
            let stolen = |one: ProcessNo| everything(&world, one).into_iter().find(|text| text.starts_with("stolen"));
            assert_eq!([alice, bob, carol].map(stolen), [None, None, None], "{seed} {hides}");
            let read = everything(&world, phone);
            assert!(!read.iter().any(|text| text.contains(" one")), "{seed} {hides}: it reads on: {read:?}");
            let heard = everything(&world, carol);
            assert!(heard.iter().any(|text| text == "to all but one"), "{seed} {hides}: others are held up: {heard:?}");
            well(world);
        }
    }
}

/// A device is taken off its account, and its relay serves it on and keeps from it that it is out. What it shows in the end,
/// and what the others show.
fn served_on(seed: u64) -> (Vec<String>, Vec<Vec<String>>) {
    let mut world = World::new(Seed::from(seed));
    let (alice, bob, a, _) = world.two_friends_on_two_relays();
    let carol = world.test_node(a).unwrap();
    world.befriend(alice, carol);
    let serves = world.turn_relay(a, RelayTrick::ServeRevoked, 1.0);
    let phone = world.link_device(alice);
    let (_, circle) = world.make_circle(alice, &[bob, carol]);
    chat_among(&mut world, alice, phone, bob, 0);
    world.say_in_circle(carol, circle, "to all");
    world.run_until_quiet();
    world.serves_on(a, phone);
    let keeps = world.turn_relay(a, RelayTrick::Withhold, 1.0);
    world.meddles_with(a, phone);
    world.revoke_device(phone);
    world.run_for(secs(60));
    world.seconds_are_out();
    write_to_circle_from(&mut world, phone, circle, "stolen, to all");
    world.say(bob, alice, "to one device");
    world.say(alice, bob, "from one device");
    world.say_in_circle(bob, circle, "to all but one");
    world.say_in_circle(carol, circle, "and all but one");
    world.run_for(secs(120));
    let serving = &world.mischief(a).unwrap().serving;
    assert!(serving.kept > 0, "{seed}: its relay's core knows that it is revoked");
    assert!(serving.handed_to > 2 && serving.handed_on > 0, "{seed}: it is not served on: {serving:?}");
    let shown = (everything(&world, phone), [alice, bob, carol].map(|one| everything(&world, one)).into());
    world.mend(serves);
    world.mend(keeps);
    shown
}

#[test]
fn t46_a_revoked_device_that_its_relay_serves_on_neither_reads_nor_is_read_once_it_is_out() {
    for seed in 1..=3 {
        let (read, others) = served_on(seed);
        assert!(read.iter().any(|text| text == "to all"), "{seed}: it is in no thread: {read:?}");
        assert!(!read.iter().any(|text| text.contains(" one")), "{seed}: it reads on: {read:?}");
        for shown in others {
            assert!(!shown.iter().any(|text| text.starts_with("stolen")), "{seed}: it is heard: {shown:?}");
            assert!(shown.iter().any(|text| text == "and all but one"), "{seed}: others are held up: {shown:?}");
        }
    }
}

#[cfg(feature = "planted")]
#[test]
fn t46_a_revoked_device_that_nobody_takes_out_of_its_threads_reads_on_by_a_relay_that_serves_it() {
    let (read, _) = crate::planted::with(crate::planted::Bug::RevokedStays, || served_on(1));
    assert!(read.iter().any(|text| text == "to all but one"), "{read:?}");
}

#[test]
fn whoever_is_taken_in_beside_a_device_that_was_revoked_meanwhile_reads_what_is_said() {
    for seed in 1..=4 {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, a, b) = world.two_friends_on_two_relays();
        let phone = world.link_device(bob);
        chat(&mut world, alice, bob, 1);
        world.run_until_quiet();
        world.cut(a, b);
        world.revoke_device(phone);
        let other = world.link_device(alice);
        world.run_for(secs(60));
        world.heal(a, b);
        world.run_until_quiet();
        chat_among(&mut world, alice, other, bob, 0);
        world.run_until_quiet();
        well(world);
    }
}

/// Texts of the conversation with somebody, in the order in which a device shows them.
fn shown_with(world: &World, device: ProcessNo, other: ProcessNo) -> Vec<String> {
    let other = world.node(other).unwrap().account;
    let reads = world.node(device).unwrap().reads().unwrap();
    let thread = views::find_thread(reads, &[other]).unwrap().unwrap();
    let lines = views::messages(reads, &thread, Page::Oldest, 1_000).unwrap();
    lines.into_iter().map(|line| line.message.text).collect()
}

#[test]
fn t61_of_ten_devices_two_that_were_away_for_29_days_catch_up_on_everything_in_order() {
    const DAYS_AWAY: u32 = 29;
    const WAKINGS: u32 = 8;
    let mut world = World::new(Seed::from(61));
    world.lively = false;
    let (alice, bob, relay) = world.two_friends_on_one_relay();
    chat(&mut world, alice, bob, 2);
    let others: Vec<_> = (1..limits::ACCOUNT_DEVICES_MAX).map(|_| world.link_device(alice)).collect();
    let listed = views::devices(world.node(alice).unwrap().reads().unwrap()).unwrap();
    assert_eq!(listed.len(), 10);
    world.run_until_quiet();
    let (here, away) = others.split_at(others.len() - 2);
    away.iter().for_each(|device| world.stop(*device));
    let gone = world.now();
    let mut said = shown_with(&world, alice, bob);
    for (waking, writer) in (0..WAKINGS).zip(here.iter().cycle()) {
        chat_among(&mut world, alice, *writer, bob, waking);
        said.extend(["from the first", "from the second", "to both"].map(|text| format!("{text} {waking}")));
        world.run_for(secs(60));
        // Everybody sleeps, or there would be a month of heartbeats.
        let sleepers: Vec<_> = here.iter().copied().chain([alice, bob]).collect();
        sleepers.iter().for_each(|who| world.stop(*who));
        world.run_for(secs(u64::from(DAYS_AWAY) * 24 * 3_600) / WAKINGS);
        sleepers.iter().for_each(|who| world.start(*who));
        world.run_for(secs(60));
    }
    let absence = world.now().since(gone);
    assert!(absence > secs(u64::from(DAYS_AWAY) * 24 * 3_600) && absence < limits::HOLD_AGE_MAX, "{absence:?}");
    away.iter().for_each(|device| world.start(*device));
    world.run_until_quiet();
    for device in [alice].iter().chain(&others) {
        assert_eq!(shown_with(&world, *device, bob), said, "device {device}");
    }
    assert!(world.is_running(relay));
    well(world);
}

#[test]
fn t61_a_device_that_was_away_for_100_days_and_taken_off_meanwhile_is_told_and_one_that_is_linked_in_its_place_has_it_all()
 {
    const DAY: u64 = 24 * 3_600;
    let mut world = World::new(Seed::from(61));
    world.lively = false;
    let (alice, bob, _) = world.two_friends_on_one_relay();
    let [laptop, tablet] = [(); 2].map(|()| world.link_device(alice));
    chat(&mut world, alice, bob, 2);
    world.run_until_quiet();
    let before = shown_with(&world, tablet, bob).len();
    world.stop(tablet);
    let gone = world.now();
    for part in 0..5_u32 {
        chat_among(&mut world, alice, laptop, bob, part);
        // Its owner has not used it for two months.
        if part == 3 {
            world.revoke_device(tablet);
        }
        world.run_until_quiet();
        [alice, laptop, bob].iter().for_each(|who| world.stop(*who));
        world.run_for(secs(20 * DAY));
        [alice, laptop, bob].iter().for_each(|who| world.start(*who));
        world.run_for(secs(60));
    }
    assert!(world.now().since(gone) > secs(100 * DAY));
    world.start(tablet);
    world.run_for(secs(120));
    let own = views::account(world.node(tablet).unwrap().reads().unwrap()).unwrap();
    assert!(!own.listed, "it knows that it is off the account");
    assert_eq!(shown_with(&world, tablet, bob).len(), before, "and is given nothing more");
    let anew = world.link_device(alice);
    world.run_until_quiet();
    assert_eq!(shown_with(&world, alice, bob).len(), before + 5 * 3);
    for device in [laptop, anew] {
        assert_eq!(shown_with(&world, device, bob), shown_with(&world, alice, bob), "device {device}");
    }
    world.say_from(anew, bob, "from the new one");
    world.run_until_quiet();
    assert!(world.shown_to(bob).contains(&"from the new one"));
    well(world);
}

#[test]
fn drawn_worlds_of_second_devices_keep_every_promise() {
    for seed in 1..=3_u64 {
        let text = include_str!("../../../scenarios/devices.toml");
        let scenario = crate::scenario::Scenario::read("devices.toml", text, &[]).unwrap();
        let mut world = World::with_plan(&scenario, Seed::from(seed), &scenario.plan()).unwrap();
        world.run_scenario(scenario.sim.duration.0, scenario.sim.settle.0);
        let seconds = world.seconds.len();
        assert!(world.now() < Time::ZERO.plus(secs(3_000)), "seed {seed}: they never came to the same");
        let verdict = world.close().0;
        assert_eq!(verdict.violations, 0, "seed {seed}: {:?}", verdict.examples);
        assert!(seconds > 1 && verdict.sent > 50, "seed {seed}: {seconds} devices, {} texts", verdict.sent);
    }
}

/// Alice, whose phone is away while Carol opens a thread of the two, to which the phone is invited; and Carol.
fn invited_while_away(seed: u64) -> (World, [ProcessNo; 3]) {
    let mut world = World::new(Seed::from(seed));
    let (alice, _, relay) = world.two_friends_on_one_relay();
    let phone = world.link_device(alice);
    let carol = world.test_node(relay).unwrap();
    world.run_until_quiet();
    world.disconnect(phone);
    world.befriend(alice, carol);
    world.run_for(secs(10));
    (world, [alice, phone, carol])
}

/// Whether a device has, or had, a place in a thread with somebody.
fn is_in(world: &World, device: ProcessNo, with: ProcessNo) -> bool {
    let with = world.node(with).unwrap().account;
    let found = views::memberships(world.node(device).unwrap().reads().unwrap()).unwrap();
    found.iter().any(|at| at.leaves.iter().any(|leaf| leaf.account == with))
}

#[test]
fn a_thread_that_is_over_when_a_second_device_comes_to_its_invitation_need_not_be_on_both() {
    for seed in 1..=3 {
        let (mut world, [alice, phone, carol]) = invited_while_away(seed);
        world.lively = true;
        world.part_after(Duration::ZERO, carol, alice, How::Remove);
        world.run_for(secs(30));
        world.reconnect(phone);
        world.run_until_quiet();
        assert!(is_in(&world, alice, carol) && !is_in(&world, phone, carol), "{seed}");
        well(world);
        // Where nobody ended it, it is on both.
        let (mut world, [alice, phone, carol]) = invited_while_away(seed);
        world.reconnect(phone);
        world.run_until_quiet();
        assert!(is_in(&world, alice, carol) && is_in(&world, phone, carol), "{seed}");
        well(world);
    }
}

#[cfg(feature = "planted")]
#[test]
fn the_judge_sees_a_thread_that_is_on_one_device_alone_though_nobody_ended_it() {
    let found = (1..=8).any(|seed| {
        let unlike = planted::with(Bug::SiblingMissed, || {
            let mut world = World::new(Seed::from(seed));
            let (alice, ..) = world.two_friends_on_one_relay();
            let phone = world.second(alice).unwrap();
            world.device(phone);
            world.run_for(secs(120));
            world.heal_all();
            world.run_until_quiet();
            world.close().0.examples
        });
        unlike.iter().any(|one| matches!(one, Violation::Unlike { .. }))
    });
    assert!(found);
}

/// A story that the judge must not be content with.
#[cfg(feature = "planted")]
fn broken(bug: Bug, story: impl Fn(&mut World)) -> bool {
    (1..=8).any(|seed| {
        let run = || {
            let mut world = World::new(Seed::from(seed));
            story(&mut world);
            world.heal_all();
            world.run_until_quiet();
            world.close().0.violations
        };
        assert_eq!(run(), 0, "without the bug");
        planted::with(bug, run) > 0
    })
}

#[cfg(feature = "planted")]
#[test]
fn the_judge_sees_a_device_that_is_left_out_and_one_that_stays() {
    let missed = broken(Bug::SiblingMissed, |world| {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        let phone = world.second(alice).unwrap();
        world.device(phone);
        world.run_for(secs(120));
        chat(world, alice, bob, 2);
    });
    assert!(missed);
    let stays = broken(Bug::RevokedStays, |world| {
        let (alice, _, _) = world.two_friends_on_one_relay();
        let phone = world.link_device(alice);
        world.revoke_device(phone);
        world.run_until_quiet();
    });
    assert!(stays);
    let forgotten = broken(Bug::FactForgotten, |world| {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        world.link_device(alice);
        chat(world, alice, bob, 1);
        world.lively = true;
        world.part_after(Duration::ZERO, alice, bob, How::Block);
        world.run_until_quiet();
    });
    assert!(forgotten);
}

#[cfg(feature = "planted")]
#[test]
fn the_admin_takes_a_revoked_device_out_should_nobody_of_its_account() {
    let mut world = World::new(Seed::from(1));
    let (alice, bob, _) = world.two_friends_on_one_relay();
    let phone = world.link_device(bob);
    let (_, circle) = world.make_circle(alice, &[bob]);
    let leaves = |world: &World, who| {
        let reads = world.node(who).and_then(NodeProcess::reads).unwrap();
        whimbrel_node::views::leaves(reads, &circle).unwrap().len()
    };
    assert_eq!(leaves(&world, alice), 3);
    planted::with(Bug::RevokedStays, || {
        world.revoke_device(phone);
        world.run_until_quiet();
    });
    assert_eq!((leaves(&world, alice), leaves(&world, bob)), (2, 2));
}
