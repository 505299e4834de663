//! From nothing to a thread.

use std::time::Duration;

use whimbrel_crypto::{MlsEngine, StandInEngine};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{Frame, limits};

use super::world::{ALICE, BOB, CAROL, Relay, World, friends, world};
use crate::api::{Command, CommandError, Event, Reply, State};
use crate::views::{self, Page, Standing};

#[test]
fn a_device_registers_once_and_stocks_key_packages() {
    let mut world = world(&["a.example"]);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Registered { .. })), 1);
    assert_eq!(world.events(ALICE, |event| *event == Event::RelayUp), 1);
    let row = &world.relay.accounts[&world.people[ALICE].account];
    assert_eq!(row.packages.len(), 32);
    assert!(row.last_resort.is_some());
    world.crash_now(ALICE);
    world.settle();
    let registers = world.relay.heard.iter().filter(|(_, frame)| matches!(frame, Frame::Register(_))).count();
    assert_eq!(registers, 1);
    assert_eq!(world.relay.accounts[&world.people[ALICE].account].packages.len(), 32);
}

#[test]
fn key_packages_are_made_again_when_few_are_left() {
    let mut world = world(&["a.example"]);
    let account = world.people[ALICE].account;
    world.relay.accounts.get_mut(&account).unwrap().packages.truncate(15);
    world.say_to(ALICE, whimbrel_protocol::user::Stocked { request: None, left: 15 });
    world.settle();
    assert_eq!(world.relay.accounts[&account].packages.len(), 32);
    world.say_to(ALICE, whimbrel_protocol::user::Stocked { request: None, left: 16 });
    world.settle();
    assert_eq!(world.relay.accounts[&account].packages.len(), 32);
}

#[test]
fn t13_when_none_was_left_the_last_resort_is_made_anew_and_whoever_was_handed_the_former_is_still_joined() {
    let mut world = world(&["a.example", "a.example"]);
    let account = world.people[BOB].account;
    let former = world.relay.accounts[&account].last_resort.clone().unwrap();
    let last_resort = |world: &World<_>| world.relay.accounts[&account].last_resort.clone().unwrap();
    // Some are left: it stays.
    world.relay.accounts.get_mut(&account).unwrap().packages.truncate(3);
    world.say_to(BOB, whimbrel_protocol::user::Stocked { request: None, left: 3 });
    world.settle();
    assert_eq!(last_resort(&world), former);
    // None is left: the last resort may have gone out.
    world.relay.accounts.get_mut(&account).unwrap().packages.clear();
    world.say_to(BOB, whimbrel_protocol::user::Stocked { request: None, left: 0 });
    world.settle();
    assert_ne!(last_resort(&world), former);
    assert_eq!(world.relay.accounts[&account].packages.len(), 32);
    // The relay goes on with the former one, as a hostile one would: the conversation starts all the same.
    let row = world.relay.accounts.get_mut(&account).unwrap();
    row.packages.clear();
    row.last_resort = Some(former);
    let thread = world.befriend(ALICE, BOB);
    world.say(ALICE, thread, "by the last resort");
    assert_eq!(world.shown(BOB), ["by the last resort"]);
}

#[test]
fn a_stock_made_by_a_clock_that_was_wrong_is_replaced_once_the_clock_is_right() {
    let day = 24 * 3_600_000;
    // Ahead by a year, or behind by one; and by half a day, which everybody who is handed one allows for.
    for (wrong, replaced) in [(365 * day, true), (-365 * day, true), (day / 2, false)] {
        let mut world = world(&["a.example", "a.example"]);
        let account = world.people[BOB].account;
        let packages = |world: &World<_>| world.relay.accounts[&account].packages.clone();
        let right = world.now.wall.as_millis();
        world.now.wall = Wall::from_millis(right.saturating_add_signed(wrong));
        world.relay.accounts.get_mut(&account).unwrap().packages.clear();
        world.say_to(BOB, whimbrel_protocol::user::Stocked { request: None, left: 0 });
        world.settle();
        let made = packages(&world);
        world.now.wall = Wall::from_millis(right);
        world.advance(2 * limits::HEARTBEAT_EVERY);
        let kept = packages(&world).iter().filter(|package| made.contains(package)).count();
        assert_eq!((packages(&world).len(), kept), (32, if replaced { 0 } else { 32 }), "wrong by {wrong} ms");
        let thread = world.befriend(ALICE, BOB);
        world.say(ALICE, thread, "by a package that holds");
        assert_eq!(world.shown(BOB), ["by a package that holds"]);
    }
}

#[test]
fn a_device_whose_clock_lies_keeps_the_stock_that_a_right_one_made() {
    let mut world = world(&["a.example", "a.example"]);
    let account = world.people[BOB].account;
    let packages = |world: &World<_>| Vec::from(world.relay.accounts[&account].packages.clone());
    let made = packages(&world);
    let right = world.now.wall;
    world.relay.manners.wall = Some(right);
    world.now.wall = Wall::from_millis(right.as_millis() + 365 * 24 * 3_600_000);
    world.advance(2 * limits::HEARTBEAT_EVERY);
    assert_eq!(packages(&world), made, "older than 60 days, by a clock that the relay does not share");
    // Nor does it fill up what is handed out meanwhile, and it does once the clock is right.
    world.relay.accounts.get_mut(&account).unwrap().packages.truncate(3);
    world.say_to(BOB, whimbrel_protocol::user::Stocked { request: None, left: 3 });
    world.settle();
    assert_eq!(packages(&world), made[..3]);
    world.relay.manners.wall = None;
    world.now.wall = right;
    world.advance(2 * limits::HEARTBEAT_EVERY);
    assert_eq!((packages(&world).len(), &packages(&world)[..3]), (32, &made[..3]));
}

#[test]
fn the_first_stock_reaches_the_relay_though_the_first_of_it_was_lost_and_the_clock_lies() {
    let mut relay = Relay::default();
    relay.mute.insert("StockKeyPackages");
    let mut world = World::around(relay, &["a.example"], whimbrel_crypto::StandInEngine::new);
    let account = world.people[ALICE].account;
    world.relay.manners.wall = Some(world.now.wall);
    world.now.wall = Wall::from_millis(world.now.wall.as_millis() + 365 * 24 * 3_600_000);
    world.crash_now(ALICE);
    assert_eq!(world.relay.accounts[&account].packages.len(), 0);
    world.relay.mute.clear();
    world.crash_now(ALICE);
    world.settle();
    // Nobody with another clock takes them; with none at all, nobody could try.
    assert_eq!(world.relay.accounts[&account].packages.len(), 32);
}

#[test]
fn a_refused_registration_is_told_and_not_repeated() {
    let mut relay = Relay::default();
    relay.refuse.insert("Register", (RefusalCode::NameTaken, None));
    let mut world = World::around(relay, &["a.example"], whimbrel_crypto::StandInEngine::new);
    world.advance(Duration::from_secs(600));
    assert_eq!(world.events(ALICE, |event| *event == Event::RegistrationRefused(RefusalCode::NameTaken)), 1);
    assert_eq!(world.relay.heard.len(), 1);
    let holds = Duration::from_secs(60);
    let refused = world.ask(ALICE, Command::NewInvite { uses: 1, holds, group: None }).unwrap_err();
    assert_eq!(refused, CommandError::Refused(RefusalCode::NameTaken));
}

fn invite_to_thread<E: whimbrel_crypto::Engine>(mut world: World<E>) {
    let thread = world.befriend(BOB, ALICE);
    for (who, other) in [(ALICE, BOB), (BOB, ALICE)] {
        let account = world.people[other].account;
        let contacts = views::contacts(world.store(who)).unwrap();
        assert_eq!(contacts.len(), 1);
        assert_eq!(contacts[0].account, account);
        let threads = views::threads(world.store(who)).unwrap();
        assert_eq!(threads.len(), 1);
        assert_eq!((threads[0].thread, threads[0].people.as_slice()), (thread, [account].as_slice()));
        assert_eq!(threads[0].standing, Standing::Open);
        assert_eq!(views::find_thread(world.store(who), &[account]).unwrap(), Some(thread));
        assert_eq!(world.events(who, |event| matches!(event, Event::ContactAdded { .. })), 1);
        assert_eq!(world.events(who, |event| matches!(event, Event::ThreadOpened { .. })), 1);
    }
    world.say(ALICE, thread, "hello");
    world.say(BOB, thread, "hello yourself");
    assert_eq!(world.shown(BOB), ["hello"]);
    assert_eq!(world.shown(ALICE), ["hello yourself"]);
    let tagged = world.relay.heard.iter().any(|(who, frame)| *who == ALICE && matches!(frame, Frame::TagThread(_)));
    assert!(tagged, "the joiner tells its relay the tag");
}

#[test]
fn an_invite_leads_to_a_thread_that_both_can_use() {
    invite_to_thread(world(&["a.example", "b.example"]));
}

#[test]
fn an_invite_leads_to_a_thread_with_real_encryption() {
    invite_to_thread(World::new(&["a.example", "a.example"], MlsEngine::new));
}

#[test]
fn an_invite_used_up_is_refused_and_leaves_nothing() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.ask(BOB, Command::AcceptInvite(invite.clone())).unwrap();
    let refused = world.ask(CAROL, Command::AcceptInvite(invite)).unwrap_err();
    assert_eq!(refused, CommandError::Refused(RefusalCode::NoConsent));
    assert!(views::contacts(world.store(CAROL)).unwrap().is_empty());
    assert!(views::threads(world.store(CAROL)).unwrap().is_empty());
}

#[test]
fn an_invite_of_a_contact_leads_to_the_thread_that_exists() {
    let (mut world, thread) = friends();
    let invite = world.invite(ALICE);
    let reply = world.ask(BOB, Command::AcceptInvite(invite)).unwrap();
    assert!(matches!(reply, Reply::Contact { thread: found, .. } if found == thread));
    let own = world.invite(BOB);
    assert_eq!(world.ask(BOB, Command::AcceptInvite(own)).unwrap_err(), CommandError::OwnInvite);
}

#[test]
fn what_needs_the_relay_fails_while_it_is_away_and_sending_does_not() {
    let (mut world, thread) = friends();
    world.relay_gone();
    let holds = Duration::from_secs(60);
    let refused = world.ask(ALICE, Command::NewInvite { uses: 1, holds, group: None }).unwrap_err();
    assert!(matches!(refused, CommandError::Unreachable(_)));
    let message = world.say(ALICE, thread, "later");
    assert_eq!(world.state(ALICE, message), Some(crate::api::State::Queued));
    world.relay_back();
    assert_eq!(world.shown(BOB), ["later"]);
    assert_eq!(world.state(ALICE, message), Some(crate::api::State::Delivered));
}

#[test]
fn a_command_that_waits_for_an_answer_fails_with_the_link() {
    let (mut world, _) = friends();
    world.relay.mute.insert("NewInvite");
    let holds = Duration::from_secs(60);
    let first = world.command(ALICE, Command::NewInvite { uses: 1, holds, group: None });
    assert_eq!(world.answer(ALICE, first), None);
    world.lose_home(ALICE);
    world.settle();
    assert!(matches!(world.answer(ALICE, first), Some(Err(CommandError::Unreachable(_)))));
    world.advance(Duration::from_secs(5));
    let second = world.command(ALICE, Command::NewInvite { uses: 1, holds, group: None });
    world.advance(Duration::from_secs(11));
    assert!(matches!(world.answer(ALICE, second), Some(Err(CommandError::Unreachable(_)))));
}

#[test]
fn an_opening_is_handed_in_until_the_relay_has_it() {
    let mut world = world(&["a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.relay.mute.insert("OpenThread");
    let ticket = world.command(BOB, Command::AcceptInvite(invite));
    world.crash_now(BOB);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.answer(BOB, ticket), None, "the process that was asked is gone");
    let thread = views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap().unwrap();
    world.say(BOB, thread, "found you");
    assert_eq!(world.shown(ALICE), ["found you"]);
}

#[test]
fn a_refused_opening_takes_everything_back() {
    let mut world = world(&["a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.relay.refuse.insert("OpenThread", (RefusalCode::NoConsent, None));
    let refused = world.ask(BOB, Command::AcceptInvite(invite)).unwrap_err();
    assert_eq!(refused, CommandError::Refused(RefusalCode::NoConsent));
    assert!(views::contacts(world.store(BOB)).unwrap().is_empty());
    assert_eq!(views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap(), None);
    assert_eq!(views::threads(world.store(BOB)).unwrap()[0].standing, Standing::Failed);
    // A new invite leads to a new thread, and the failed one is out of sight.
    world.relay.refuse.clear();
    let thread = world.befriend(BOB, ALICE);
    let threads = views::threads(world.store(BOB)).unwrap();
    assert_eq!((threads.len(), threads[0].thread, threads[0].standing), (1, thread, Standing::Open));
}

#[test]
fn words_of_an_opening_that_failed_stay_in_the_history_of_the_conversation() {
    let mut world = world(&["a.example", "a.example"]);
    let texts = |world: &World<StandInEngine>, thread: &ThreadId| -> Vec<(String, bool)> {
        let lines = views::messages(world.store(BOB), thread, Page::Oldest, 9).unwrap();
        lines.into_iter().map(|line| (line.message.text, matches!(line.state, Some(State::Failed(_))))).collect()
    };
    let mut failed = Vec::new();
    for text in ["one", "two"] {
        let invite = world.invite(ALICE);
        world.relay.mute.insert("OpenThread");
        world.command(BOB, Command::AcceptInvite(invite));
        let thread = views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap().unwrap();
        world.say(BOB, thread, text);
        world.relay.mute.clear();
        world.relay.refuse.insert("OpenThread", (RefusalCode::NoConsent, None));
        world.advance(Duration::from_secs(30));
        world.relay.refuse.clear();
        failed.push(thread);
    }
    let lost = [("one".to_owned(), true), ("two".to_owned(), true)];
    for thread in &failed {
        assert_eq!(texts(&world, thread), lost, "of two that failed");
    }
    let threads = views::threads(world.store(BOB)).unwrap();
    assert_eq!((threads.len(), threads[0].standing), (1, Standing::Failed));
    let thread = world.befriend(BOB, ALICE);
    world.say(BOB, thread, "three");
    let all: Vec<_> = lost.into_iter().chain([("three".to_owned(), false)]).collect();
    for id in failed.iter().chain([&thread]) {
        assert_eq!(texts(&world, id), all);
    }
    assert_eq!(views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap(), Some(thread));
    assert_eq!(world.shown(ALICE), ["three"]);
}

#[test]
fn when_the_relay_knows_another_thread_of_the_same_people_the_messages_go_there() {
    let mut world = world(&["a.example", "a.example"]);
    let (to_alice, to_bob) = (world.invite(ALICE), world.invite(BOB));
    world.relay.mute.insert("OpenThread");
    world.command(BOB, Command::AcceptInvite(to_alice));
    world.command(ALICE, Command::AcceptInvite(to_bob));
    let theirs = views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap().unwrap();
    let ours = views::find_thread(world.store(ALICE), &[world.people[BOB].account]).unwrap().unwrap();
    for text in ["one", "two"] {
        world.say(ALICE, ours, text);
    }
    // Bob's opening comes through; the answer to Alice's is that this thread exists.
    let opened = world.relay.heard.iter().find_map(|(who, frame)| match frame {
        Frame::OpenThread(words) if *who == BOB => Some(words.opening.clone()),
        _ => None,
    });
    let bob = world.id(BOB);
    world.take_opening(bob, opened.unwrap());
    world.settle();
    let request = world.relay.heard.iter().rev().find_map(|(who, frame)| match frame {
        Frame::OpenThread(words) if *who == ALICE => Some(words.request),
        _ => None,
    });
    let exists = whimbrel_protocol::thread::ThreadExists { request: request.unwrap(), thread: theirs };
    world.say_to(ALICE, exists);
    world.settle();
    world.relay.mute.clear();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.history(ALICE, theirs), ["one", "two"]);
    assert_eq!(world.shown(BOB), ["one", "two"]);
    assert_eq!(views::threads(world.store(ALICE)).unwrap().len(), 1);
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

#[test]
fn a_first_message_to_three_makes_a_thread_and_the_next_finds_it() {
    let mut world = world(&["a.example", "a.example", "b.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let people = vec![world.people[BOB].account, world.people[CAROL].account];
    let ask = |text: &str| Command::SendTo { people: people.clone(), text: text.to_owned() };
    let (one, two) = (ask("all of you"), ask("again"));
    let Reply::Queued { thread, .. } = world.ask(ALICE, one).unwrap() else { panic!() };
    let Reply::Queued { thread: same, .. } = world.ask(ALICE, two).unwrap() else { panic!() };
    assert_eq!(thread, same);
    for who in [BOB, CAROL] {
        assert_eq!(world.shown(who), ["all of you", "again"]);
        assert_eq!(views::threads(world.store(who)).unwrap().len(), 2);
        // A fellow member is no contact.
        assert_eq!(views::contacts(world.store(who)).unwrap().len(), 1);
    }
    let stranger = Command::SendTo { people: vec![world.people[CAROL].account], text: "hi".to_owned() };
    assert_eq!(world.ask(BOB, stranger).unwrap_err(), CommandError::Unknown);
}

#[test]
fn two_first_messages_that_cross_become_one_conversation() {
    let mut world = world(&["a.example", "a.example"]);
    let (to_alice, to_bob) = (world.invite(ALICE), world.invite(BOB));
    world.relay.mute.insert("OpenThread");
    world.command(BOB, Command::AcceptInvite(to_alice));
    world.command(ALICE, Command::AcceptInvite(to_bob));
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    let threads: Vec<_> = [ALICE, BOB].map(|who| views::threads(world.store(who)).unwrap()).into();
    assert_eq!((threads[0].len(), threads[1].len()), (1, 1));
    assert_eq!(threads[0][0].thread, threads[1][0].thread);
    assert_eq!(world.relay.threads.len(), 2);
    let larger = *world.relay.threads.keys().next_back().unwrap();
    let smaller = *world.relay.threads.keys().next().unwrap();
    assert_eq!(threads[0][0].thread, smaller);
    // Whoever still writes into the other is led to the one.
    world.say(ALICE, larger, "one");
    world.say(BOB, smaller, "two");
    for who in [ALICE, BOB] {
        assert_eq!(world.history(who, larger), ["one", "two"]);
        assert_eq!(world.history(who, smaller), ["one", "two"]);
    }
}

#[test]
fn everything_is_here_once_a_held_invitation_is_followed_up_and_its_thread_read() {
    let mut world = world(&["a.example", "a.example"]);
    let invite = world.invite(ALICE);
    world.kill(ALICE);
    let Reply::Contact { thread, .. } = world.ask(BOB, Command::AcceptInvite(invite)).unwrap() else { panic!() };
    world.say(BOB, thread, "while you were away");
    world.settle();
    let before = world.people[ALICE].events.len();
    world.open(ALICE);
    world.settle();
    let events = &world.people[ALICE].events[before..];
    let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let caught_up = place(&|event| *event == Event::CaughtUp);
    assert!(place(&|event| matches!(event, Event::ThreadOpened { .. })) < caught_up);
    assert!(place(&|event| matches!(event, Event::Shown(_))) < caught_up);
    assert_eq!(events.iter().filter(|event| **event == Event::CaughtUp).count(), 1);
}

#[test]
fn an_account_whose_registration_was_not_answered_is_registered_again_under_the_same_name() {
    let relay = Relay { mute: ["Register"].into(), ..Relay::default() };
    let mut world = World::around(relay, &["a.example"], StandInEngine::new);
    let registering = |world: &World<StandInEngine>| {
        let account = views::account(world.store(ALICE)).unwrap();
        (account.address.is_some(), account.registering)
    };
    assert_eq!(registering(&world), (false, true), "handed in, and not answered");
    // The link breaks, and the process dies: it is not forgotten that the relay may have it.
    world.lose_home(ALICE);
    world.settle();
    world.crash_now(ALICE);
    world.settle();
    assert_eq!(registering(&world), (false, true));
    world.relay.mute.clear();
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert_eq!(registering(&world), (true, false));
}

#[test]
fn an_account_that_was_refused_is_known_not_to_be_registered() {
    let mut relay = Relay::default();
    relay.refuse.insert("Register", (RefusalCode::NameTaken, None));
    let world = World::around(relay, &["a.example"], StandInEngine::new);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::RegistrationRefused(_))), 1);
    assert!(!views::account(world.store(ALICE)).unwrap().registering);
}
