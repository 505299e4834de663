//! Stories of relays that say of changes what is not so: old ones come again, some are kept from somebody, somebody is brought
//! back, and what a thread is said to be is what it was.

use std::collections::BTreeSet;

use whimbrel_node::api::Command;
use whimbrel_node::views::{Friendship, Page, Standing};
use whimbrel_protocol::id::{DeviceId, DeviceIndex};
use whimbrel_protocol::user::Who;

use super::super::circle_stories::people_with;
use super::commits::together;
use super::roles::agreed;
use super::*;
use crate::world::people::Asked;

const WORLDS: [(u64, Crypto); 3] = [(1, Crypto::Standin), (2, Crypto::Standin), (3, Crypto::Real)];

/// A thread as somebody's device has it: its standing and epoch, and entries that could not be opened.
fn stands(world: &World, who: ProcessNo, thread: ThreadId) -> (Standing, u64, u64) {
    let view = views::thread(world.node(who).unwrap().reads().unwrap(), &thread).unwrap().unwrap();
    (view.standing, view.epoch.get(), view.unreadable)
}

/// Threads that somebody's device has, those it was ever in among them.
fn threads(world: &World, who: ProcessNo) -> usize {
    views::threads(world.node(who).unwrap().reads().unwrap()).unwrap().len()
}

fn turn_all(world: &mut World, relays: [ProcessNo; 2], tricks: &[RelayTrick]) -> Vec<usize> {
    let each = relays.iter().flat_map(|relay| tricks.iter().map(move |trick| (*relay, *trick)));
    each.map(|(relay, trick)| world.turn_relay(relay, trick, 1.0)).collect()
}

#[test]
fn t15_invitations_commits_and_entries_that_relays_put_into_their_logs_again_change_nothing() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 5, crypto);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        let turned = turn_all(&mut world, relays, &[RelayTrick::Replay, RelayTrick::Repeat]);
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.say_in_circle(carol, thread, "to four");
        world.add_to_circle(circle, thread, &[erin]);
        world.run_until_quiet();
        world.renew_in_circle(circle, thread, bob);
        world.run_until_quiet();
        world.remove_from_circle(circle, thread, carol);
        world.run_until_quiet();
        // Whoever is out is invited elsewhere, and to what she was invited to before; whoever is in is, too.
        world.make_circle(alice, &[carol, dave]);
        let had: Vec<_> = people.iter().map(|one| threads(&world, *one)).collect();
        people.iter().for_each(|one| world.crash(*one));
        world.run_for(secs(120));
        world.say_in_circle(erin, thread, "without her");
        world.run_until_quiet();
        for relay in relays {
            let again = world.mischief(relay).unwrap().again;
            assert!(again > 4, "{seed}: {again} came again at {relay}");
        }
        // Three changes, each once: whoever was taken out stays out, and nobody had anything to refuse.
        let (epoch, members, _) = agreed(&world, thread, &[alice, bob, dave, erin]);
        assert_eq!((epoch, members), (4, [alice, bob, dave, erin].into()), "{seed}");
        assert_eq!(stands(&world, carol, thread).0, Standing::Left, "{seed}");
        for one in [alice, bob, dave, erin] {
            assert_eq!(stands(&world, one, thread), (Standing::Open, 4, 0), "{seed}: {one}");
        }
        assert_eq!(people.iter().map(|one| threads(&world, *one)).collect::<Vec<_>>(), had, "{seed}");
        turned.into_iter().for_each(|fault| world.mend(fault));
        assert_eq!(world.shown_to(dave), ["to four", "without her"], "{seed}");
        assert_eq!((world.shown_to(carol).len(), world.shown_to(erin).len()), (0, 0), "{seed}");
        well(world);
    }
}

#[test]
fn t14_whoever_is_out_is_brought_back_by_no_relay_and_nobody_follows_what_it_makes_up() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 5, crypto);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        let turned = turn_all(&mut world, relays, &[RelayTrick::ReAdd, RelayTrick::Replay]);
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        world.add_to_circle(circle, thread, &[erin]);
        world.run_until_quiet();
        world.remove_from_circle(circle, thread, erin);
        world.run_until_quiet();
        for (n, one) in [bob, carol].into_iter().enumerate() {
            world.say_in_circle(one, thread, &format!("without her {n}"));
            world.run_for(secs(70));
            world.renew_in_circle(circle, thread, one);
            world.run_for(secs(70));
        }
        // Her old invitation comes with one of another group, and what it names is handed out again.
        world.make_circle(alice, &[erin, dave]);
        world.write_to_circle(erin, thread, "am I back?".to_owned());
        world.run_for(secs(120));
        let staying = [alice, bob, carol, dave];
        assert_eq!(agreed(&world, thread, &staying).0, 5, "{seed}");
        assert_eq!(agreed(&world, thread, &staying).1, staying.into(), "{seed}");
        assert_eq!(together(&world, thread, &staying), 5, "{seed}");
        assert_eq!(stands(&world, erin, thread).0, Standing::Left, "{seed}");
        for relay in relays {
            let changes = &world.mischief(relay).unwrap().changes;
            assert!(changes.made_up > 1, "{seed}: {changes:?}");
        }
        let handed = relays.map(|relay| world.mischief(relay).unwrap().changes.handed_again);
        assert!(handed.iter().sum::<u64>() > 0, "{seed}: no old Welcome was handed out");
        // Those to whom the hub said so have its word for two commits of one epoch; the other relay's word is nobody's.
        let caught = |who| !views::contradictions(world.node(who).unwrap().reads().unwrap()).unwrap().is_empty();
        assert_eq!(staying.map(caught), [true, false, true, false], "{seed}");
        assert_eq!(world.shown_to(alice), ["without her 0", "without her 1"], "{seed}");
        assert_eq!(world.shown_to(dave), ["without her 0", "without her 1"], "{seed}");
        assert!(world.shown_to(erin).is_empty(), "{seed}: {:?}", world.shown_to(erin));
        turned.into_iter().for_each(|fault| world.mend(fault));
        well(world);
    }
}

#[test]
fn t07_by_a_groupinfo_that_is_over_nobody_rejoins_and_by_the_genuine_one_everybody_does() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 4, crypto);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        let turned = turn_all(&mut world, relays, &[RelayTrick::OldInfo]);
        world.renew_in_circle(circle, thread, alice);
        world.run_until_quiet();
        let handed_in = |world: &World| {
            let by = |one: &ProcessNo| {
                let of = |relay: &ProcessNo| world.mischief(*relay).unwrap().changes.handed_in.get(one).copied();
                relays.iter().filter_map(of).sum::<u64>()
            };
            [alice, carol, dave].iter().map(by).collect::<Vec<_>>()
        };
        let before = handed_in(&world);
        // A commit that nobody can apply: they are to come from without, by what the relays say that the group is.
        let mistags = world.turn_member(bob, MemberTrick::MistagCommit, 1.0);
        world.renew_in_circle(circle, thread, bob);
        world.run_for(secs(5));
        world.mend(mistags);
        world.run_for(secs(300));
        for one in [alice, carol, dave] {
            let (standing, epoch, unreadable) = stands(&world, one, thread);
            assert_eq!((standing, epoch), (Standing::Open, 2), "{seed}: {one}");
            // Its owner is told of the commit, and of what was shown for where it leads to.
            assert!(unreadable > 0, "{seed}: {one}");
        }
        // Nothing is handed in by what they were shown.
        assert_eq!(handed_in(&world), before, "{seed}");
        let stale = relays.map(|relay| world.mischief(relay).unwrap().changes.stale);
        assert!(stale.iter().all(|told| *told > 2), "{seed}: {stale:?}");
        // They talk where they are.
        world.write_to_circle(carol, thread, "where we were".to_owned());
        world.run_for(secs(60));
        assert_eq!(world.shown_to(alice), ["where we were"], "{seed}");
        assert_eq!(world.shown_to(dave), ["where we were"], "{seed}");
        turned.into_iter().for_each(|fault| world.mend(fault));
        world.run_for(secs(600));
        let epoch = together(&world, thread, &people);
        assert!(epoch >= 2 + 1 + 4, "{seed}: {epoch}");
        world.say_in_circle(dave, thread, "where we are");
        world.run_until_quiet();
        for one in [alice, bob, carol] {
            assert_eq!(world.shown_to(one).last(), Some(&"where we are"), "{seed}: {one}");
        }
        well(world);
    }
}

#[test]
fn entries_of_epochs_that_nothing_leads_to_hold_up_no_group_for_longer_than_a_minute() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 5, crypto);
        let [alice, bob, carol, dave, erin] = people[..] else { panic!("five people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol, dave]);
        let turned = turn_all(&mut world, relays, &[RelayTrick::FarAhead]);
        let mut said = Vec::new();
        for (round, one) in [alice, bob, carol, dave].into_iter().enumerate() {
            let text = format!("in round {round}");
            world.write_to_circle(one, thread, text.clone());
            said.push((one, text));
            world.run_for(secs(70));
            for reader in people[..4].iter().filter(|reader| **reader != one) {
                let all = said.iter().filter(|(by, _)| by != reader).count();
                assert_eq!(world.shown_to(*reader).len(), all, "{seed}: {reader} in round {round}");
            }
            world.renew_in_circle(circle, thread, one);
            world.run_for(secs(70));
        }
        world.add_to_circle(circle, thread, &[erin]);
        world.run_for(secs(120));
        assert_eq!(together(&world, thread, &people), 6, "{seed}");
        for relay in relays {
            let invented = world.mischief(relay).unwrap().invented;
            assert!(invented > 8, "{seed}: {invented} entries were made up at {relay}");
        }
        turned.into_iter().for_each(|fault| world.mend(fault));
        world.say_in_circle(erin, thread, "all of us");
        world.run_until_quiet();
        assert!([alice, bob, carol, dave].iter().all(|one| world.shown_to(*one).contains(&"all of us")), "{seed}");
        well(world);
    }
}

/// A group of four, and whichever relay keeps changes from one of them: the hub from somebody of its own, or another from its.
fn kept_from(
    seed: u64,
    crypto: Crypto,
    by_hub: bool,
) -> (World, Vec<ProcessNo>, (ProcessNo, ProcessNo), (usize, ThreadId)) {
    let (mut world, people, [hub, other]) = people_with(seed, 5, crypto);
    let (circle, thread) = world.make_circle(people[0], &people[1..4]);
    let (relay, victim) = if by_hub { (hub, people[2]) } else { (other, people[3]) };
    world.say_in_circle(people[1], thread, "before");
    world.run_until_quiet();
    (world, people, (relay, victim), (circle, thread))
}

#[test]
fn t06_whoever_every_change_is_kept_from_asks_for_them_and_has_all_that_was_said_once_they_are_given() {
    for (seed, crypto) in WORLDS {
        for by_hub in [true, false] {
            let (mut world, people, (relay, victim), (circle, thread)) = kept_from(seed, crypto, by_hub);
            let (alice, bob, erin) = (people[0], people[1], people[4]);
            let others: Vec<_> = people.iter().copied().filter(|one| *one != victim).collect();
            let turned = world.turn_relay(relay, RelayTrick::Withhold, 1.0);
            world.meddles_with(relay, victim);
            world.renew_in_circle(circle, thread, bob);
            world.run_for(secs(5));
            world.add_to_circle(circle, thread, &[erin]);
            world.run_for(secs(5));
            world.write_to_circle(alice, thread, "two epochs on".to_owned());
            world.write_to_circle(victim, thread, "from behind".to_owned());
            world.run_for(secs(300));
            // It is where it was, shows nothing of what is ahead, and asks again and again.
            assert_eq!(stands(&world, victim, thread), (Standing::Open, 1, 0), "{seed}");
            assert_eq!(world.shown_to(victim), ["before"], "{seed}");
            let changes = &world.mischief(relay).unwrap().changes;
            assert!(changes.missed.get(&victim).is_some_and(|times| *times >= 3), "{seed}: {changes:?}");
            assert!(changes.withheld.get(&victim).is_some_and(|times| *times >= 3), "{seed}: {changes:?}");
            assert_eq!(changes.withheld.len(), 1, "{seed}: from others, too");
            // The others are not held up, and hear it out of the epoch it is in.
            assert_eq!(agreed(&world, thread, &others).0, 3, "{seed}");
            assert!(world.shown_to(alice).contains(&"from behind"), "{seed}");
            // Its owner is told, once, and nobody else.
            let told = |who: ProcessNo| world.ledger.told_missing(who);
            let all: Vec<usize> = people.iter().map(|one| told(*one)).collect();
            let wanted: Vec<usize> = people.iter().map(|one| usize::from(*one == victim)).collect();
            assert_eq!(all, wanted, "{seed}");
            world.mend(turned);
            world.run_for(secs(130));
            assert_eq!(world.shown_to(victim), ["before", "two epochs on"], "{seed}");
            assert_eq!(together(&world, thread, &people), 3, "{seed}");
            well(world);
        }
    }
}

#[test]
fn t06_whoever_is_kept_from_hearing_that_they_are_out_is_out_all_the_same() {
    for (seed, crypto) in WORLDS {
        for by_hub in [true, false] {
            let (mut world, people, (relay, victim), (circle, thread)) = kept_from(seed, crypto, by_hub);
            let (alice, bob) = (people[0], people[1]);
            let others: Vec<_> = people[..4].iter().copied().filter(|one| *one != victim).collect();
            let turned = world.turn_relay(relay, RelayTrick::Withhold, 1.0);
            world.meddles_with(relay, victim);
            world.remove_from_circle(circle, thread, victim);
            world.run_for(secs(5));
            world.write_to_circle(bob, thread, "without them".to_owned());
            world.run_for(secs(5));
            world.write_to_circle(victim, thread, "still in?".to_owned());
            world.run_for(secs(120));
            assert_eq!(stands(&world, victim, thread).0, Standing::Open, "{seed}: nobody has told it");
            assert_eq!(world.shown_to(victim), ["before"], "{seed}: what is said after is not for it");
            let (epoch, members, _) = agreed(&world, thread, &others);
            assert_eq!((epoch, members), (2, others.iter().copied().collect()), "{seed}");
            assert_eq!(world.shown_to(alice), ["before", "without them"], "{seed}: what it says is for nobody");
            world.mend(turned);
            world.run_for(secs(130));
            assert_eq!(stands(&world, victim, thread).0, Standing::Left, "{seed}: it is told at last");
            well(world);
        }
    }
}

/// Whoever said it, by what somebody's device shows in a thread, with what they said.
fn said(world: &World, on: ProcessNo, thread: ThreadId) -> BTreeSet<(ProcessNo, String)> {
    let lines = views::messages(world.node(on).unwrap().reads().unwrap(), &thread, Page::Oldest, 100).unwrap();
    let by = |account| world.ledger.process_of(account).unwrap();
    lines.iter().map(|line| (by(&line.message.author.account), line.message.text.clone())).collect()
}

/// How somebody's device has it that things stand with somebody.
fn friendship(world: &World, by: ProcessNo, of: ProcessNo) -> Option<Friendship> {
    let of = world.node(of).unwrap().account;
    let friends = views::friends(world.node(by).unwrap().reads().unwrap()).unwrap();
    friends.into_iter().find(|friend| friend.account == of).map(|friend| friend.friendship)
}

#[test]
fn t11_what_a_relay_says_in_somebodys_name_is_nobodys_word() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 4, crypto);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let turned = turn_all(&mut world, relays, &[RelayTrick::SpeakFor, RelayTrick::Impersonate]);
        // What they say to each other about being friends is told with that they end it.
        world.request(bob, carol);
        world.request(carol, dave);
        world.run_for(secs(120));
        for (one, other) in [(bob, carol), (carol, dave)] {
            assert!(world.can_write(one, other) && world.can_write(other, one), "{seed}: {one} and {other} parted");
        }
        for (one, other) in [(bob, carol), (carol, bob), (carol, dave), (dave, carol)] {
            assert_eq!(friendship(&world, one, other), Some(Friendship::Friends), "{seed}: {other} to {one}");
        }
        let (_, thread) = world.make_circle(alice, &[bob, carol, dave]);
        let mut all = BTreeSet::new();
        for round in 0..3 {
            for one in &people {
                let text = format!("{one} says {round}");
                world.say_in_circle(*one, thread, &text);
                all.insert((*one, text));
                world.run_until_quiet();
            }
        }
        for relay in relays {
            let mischief = world.mischief(relay).unwrap();
            assert!(mischief.spoken_for > 4 && mischief.done > 8, "{seed}: {} {}", mischief.spoken_for, mischief.done);
        }
        for one in &people {
            assert_eq!(said(&world, *one, thread), all, "{seed}: {one}");
        }
        turned.into_iter().for_each(|fault| world.mend(fault));
        well(world);
    }
}

#[test]
fn t11_whoever_asks_somebody_to_be_friends_is_told_by_no_relay_that_they_said_yes() {
    for (seed, crypto) in WORLDS {
        let mut world = World::new(Seed::from(seed));
        (world.lively, world.crypto) = (false, crypto);
        let [home, other] = ["a.example", "b.example"].map(|domain| world.test_relay(domain).unwrap());
        let [alice, bob, carol] = [home, other, home].map(|relay| world.test_node(relay).unwrap());
        let turned = world.turn_relay(home, RelayTrick::ForgeAccept, 1.0);
        world.run_for(secs(10));
        // One who lives elsewhere, and one whose relay is the same.
        for one in [bob, carol] {
            world.ledger.introduced(alice, one);
            looks_up(&mut world, alice, one);
        }
        world.crash(alice);
        world.run_for(secs(200));
        assert_eq!(world.mischief(home).unwrap().forged.told, 4, "{seed}: nobody was told anything");
        for one in [bob, carol] {
            assert_eq!(friendship(&world, alice, one), Some(Friendship::Asked), "{seed}: {one}");
            assert_eq!(friendship(&world, one, alice), Some(Friendship::Asking), "{seed}: {one}");
        }
        let contacts = |world: &World| views::contacts(world.node(alice).unwrap().reads().unwrap()).unwrap().len();
        assert_eq!(contacts(&world), 0, "{seed}");
        // Their own word is in nobody's way, though it is of a time before the one that was made up.
        let account = world.node(alice).unwrap().account;
        for one in [bob, carol] {
            world.command(one, Command::AcceptFriend(account), Asked::About);
        }
        world.run_for(secs(120));
        for one in [bob, carol] {
            assert_eq!(friendship(&world, alice, one), Some(Friendship::Friends), "{seed}: {one}");
        }
        assert_eq!(contacts(&world), 2, "{seed}");
        world.mend(turned);
        well(world);
    }
}

/// Devices with a place in any of somebody's threads.
fn leaves(world: &World, who: ProcessNo) -> BTreeSet<DeviceId> {
    let found = views::memberships(world.node(who).unwrap().reads().unwrap()).unwrap();
    found.into_iter().flat_map(|at| at.leaves).collect()
}

#[test]
fn t08_a_device_that_a_relay_has_keys_of_and_no_account_log_names_gets_into_no_thread() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, relays) = people_with(seed, 4, crypto);
        let [alice, bob, carol, dave] = people[..] else { panic!("four people") };
        let (circle, thread) = world.make_circle(alice, &[bob, carol]);
        let turned = turn_all(&mut world, relays, &[RelayTrick::AddDevice]);
        // Nobody takes anybody in by keys of which some are a stranger's; a device of one's own needs nobody's word.
        world.introduce(bob, carol);
        world.add_to_circle(circle, thread, &[dave]);
        let phone = world.link_device(bob);
        world.run_for(secs(120));
        assert!(!world.can_write(bob, carol), "{seed}: they met by a claim with a stranger in it");
        assert_eq!(world.ledger.circle(&thread, alice), [alice, bob, carol].into(), "{seed}");
        for relay in relays {
            assert!(world.mischief(relay).unwrap().done > 1, "{seed}: {relay} handed out nothing");
        }
        for one in [alice, bob, carol] {
            world.say_in_circle(one, thread, &format!("{one} goes on"));
        }
        world.say_from(phone, alice, "from the phone");
        world.run_for(secs(10));
        assert_eq!((world.shown_to(alice).len(), world.shown_to(carol).len()), (3, 2), "{seed}");
        turned.into_iter().for_each(|fault| world.mend(fault));
        world.add_to_circle(circle, thread, &[dave]);
        world.run_for(secs(180));
        assert!(world.can_write(bob, carol) && world.can_write(carol, bob), "{seed}: they never met");
        assert_eq!(world.ledger.circle(&thread, dave), people.iter().copied().collect(), "{seed}");
        let first = |who| DeviceId { account: world.node(who).unwrap().account, index: DeviceIndex::FIRST };
        let of_phone = DeviceId { index: DeviceIndex::new(DeviceIndex::FIRST.get() + 1), ..first(bob) };
        let genuine: BTreeSet<_> = people.iter().map(|one| first(*one)).chain([of_phone]).collect();
        let all: BTreeSet<_> = people.iter().chain([&phone]).flat_map(|one| leaves(&world, *one)).collect();
        assert_eq!(all, genuine, "{seed}");
        well(world);
    }
}

/// Devices of somebody that are on their account, as far as somebody else knows.
fn known(world: &World, by: ProcessNo, of: ProcessNo) -> usize {
    let of = world.node(of).unwrap().account;
    views::keys(world.node(by).unwrap().reads().unwrap(), &of).unwrap().unwrap().devices.len()
}

/// Somebody asks again to be friends of somebody they know: their node looks the account up.
fn looks_up(world: &mut World, who: ProcessNo, of: ProcessNo) {
    let node = world.node(of).unwrap();
    let (account, home) = (node.account, node.home);
    let domain = world.relays().find(|relay| relay.no == home).unwrap().domain.clone();
    world.command(who, Command::Befriend { who: Who::Account(account, domain), note: None }, Asked::About);
    world.run_for(secs(10));
}

#[test]
fn t09_a_relay_that_hides_a_revocation_is_told_of_within_the_hour_and_whoever_knows_of_it_never_goes_back() {
    for (seed, crypto) in WORLDS {
        let (mut world, people, [home, hiding]) = people_with(seed, 3, crypto);
        let [alice, bob, carol] = people[..] else { panic!("three people") };
        let phone = world.link_device(bob);
        world.say_from(phone, alice, "from the phone");
        let turned = turn_all(&mut world, [home, hiding], &[RelayTrick::OldLog]);
        // The log with the phone passes; what comes after it is hidden.
        world.befriend(bob, carol);
        world.say(alice, bob, "to both");
        world.run_until_quiet();
        assert_eq!((known(&world, alice, bob), known(&world, carol, bob)), (2, 2), "{seed}");
        world.revoke_device(phone);
        world.say(bob, alice, "I lost my phone");
        world.say(bob, carol, "I lost my phone");
        world.run_for(secs(3_500));
        let cut = [home, hiding].map(|relay| world.mischief(relay).unwrap().changes.cut_short);
        assert!(cut[0] + cut[1] > 4, "{seed}: {cut:?}");
        for one in [alice, carol] {
            assert!(world.ledger.knows_of_hiding(one, bob), "{seed}: {one} was told nothing");
            assert_eq!(known(&world, one, bob), 2, "{seed}: {one}");
        }
        // By their own word it is out of their conversations all the same.
        world.seconds_are_out();
        turned.into_iter().for_each(|fault| world.mend(fault));
        world.say(bob, alice, "do you see it now?");
        looks_up(&mut world, alice, bob);
        assert_eq!(known(&world, alice, bob), 1, "{seed}");
        // Her own relay shows her the old one again, and she keeps the longer.
        let again = world.turn_relay(home, RelayTrick::OldLog, 1.0);
        world.meddles_with(home, alice);
        let shown = |world: &World| world.mischief(home).unwrap().changes.cut_short;
        let before = shown(&world);
        looks_up(&mut world, alice, bob);
        assert!(shown(&world) > before, "{seed}: she was not shown it");
        assert_eq!(known(&world, alice, bob), 1, "{seed}");
        world.mend(again);
        well(world);
    }
}
