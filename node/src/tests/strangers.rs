//! Strangers whom the relay lets through: refused by the node itself, before anything of theirs is fetched or opened.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{InviteToken, ThreadId};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::user::Who;

use super::world::{ALICE, BOB, CAROL, World, world};
use crate::api::{Command, CommandError, Event, Reply};
use crate::views;

const DAVE: usize = 3;

/// An invite of Alice's that she never made, and a relay that takes whoever comes by it for her friend.
fn lets_through(world: &mut World<StandInEngine>, stranger: usize) -> Invite {
    let (alice, stranger) = (world.people[ALICE].account, world.people[stranger].account);
    let row = world.relay.accounts.get_mut(&alice).unwrap();
    row.friends.insert(stranger);
    let (address, relay) = (row.address.clone().unwrap(), super::world::relay_link("a.example"));
    let token = InviteToken::from_bytes([32; 16]);
    Invite { address, endpoint: relay.endpoint, relay: relay.relay, account: alice, token, pass: None }
}

/// Somebody opens a thread with Alice by it, and writes.
fn opens(world: &mut World<StandInEngine>, stranger: usize) -> ThreadId {
    let invite = lets_through(world, stranger);
    let reply = world.ask(stranger, Command::AcceptInvite(invite)).unwrap();
    let Reply::Contact { thread, .. } = reply else { panic!("{reply:?}") };
    world.say(stranger, thread, "you do not know me");
    world.advance(Duration::from_secs(60));
    thread
}

/// Invitations Alice refused, and contacts she has.
fn stands(world: &World<StandInEngine>) -> (usize, usize) {
    let refused = world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. }));
    (refused, views::contacts(world.store(ALICE)).unwrap().len())
}

/// Requests for Welcomes, trees and account logs that Alice made.
fn asked(world: &World<StandInEngine>) -> usize {
    let asks = |frame: &Frame| matches!(frame, Frame::FetchBlob(_) | Frame::LookUp(_));
    world.relay.heard.iter().filter(|(who, frame)| *who == ALICE && asks(frame)).count()
}

#[test]
fn t32_a_thread_or_group_that_a_stranger_opens_past_the_relay_is_refused_unopened_and_nothing_of_it_is_shown() {
    let mut world = world(&["a.example"; 4]);
    let thread = world.befriend(BOB, ALICE);
    world.befriend(ALICE, DAVE);
    world.advance(Duration::from_secs(10));
    let (known, before) = (views::threads(world.store(ALICE)).unwrap().len(), asked(&world));
    let opened = |event: &Event| matches!(event, Event::ThreadOpened { .. } | Event::ContactAdded { .. });
    let news = world.events(ALICE, opened);
    // A thread of two, and a group: to whoever opens them they are there.
    let strange = opens(&mut world, CAROL);
    let people = world.people(&[ALICE]);
    let Ok(Reply::Group { thread: group }) =
        world.ask(CAROL, Command::CreateGroup { title: "Win a prize".to_owned(), people })
    else {
        panic!("no group")
    };
    world.say(CAROL, group, "click here");
    world.listen(ALICE);
    world.link(CAROL, ALICE);
    for _ in ["at once", "after a start"] {
        world.advance(Duration::from_secs(120));
        assert_eq!(stands(&world), (2, 2));
        assert_eq!((world.events(ALICE, opened), world.shown(ALICE).len()), (news, 0));
        assert_eq!(views::threads(world.store(ALICE)).unwrap().len(), known);
        assert!(!world.is_linked(CAROL, ALICE));
        world.crash_now(ALICE);
    }
    assert_eq!(asked(&world), before, "nothing of it was fetched, and nobody was asked who that is");
    for thread in [strange, group] {
        let refused = world.ask(ALICE, Command::Send { thread, text: "who?".to_owned() });
        assert_eq!(refused, Err(CommandError::Unknown));
        assert!(world.history(ALICE, thread).is_empty());
    }
    // Whoever may write to her still does.
    world.say(BOB, thread, "hello");
    assert_eq!(world.shown(ALICE), ["hello"]);
}

#[test]
fn t32_a_relay_lets_in_no_more_strangers_than_there_are_uses_of_invites() {
    let mut world = world(&["a.example"; 4]);
    let invite = world.invite(ALICE);
    // The relay's word is all there is on who came by it.
    opens(&mut world, CAROL);
    assert_eq!(stands(&world), (0, 1));
    world.crash_now(ALICE);
    opens(&mut world, DAVE);
    assert_eq!(stands(&world), (1, 1));
    // Whoever was meant is one too many, and comes by another.
    let thread = match world.ask(BOB, Command::AcceptInvite(invite)) {
        Ok(Reply::Contact { thread, .. }) => thread,
        other => panic!("{other:?}"),
    };
    world.advance(Duration::from_secs(60));
    assert_eq!(stands(&world), (2, 1));
    assert_eq!(world.stands(ALICE, thread), None);
    let holds = Duration::from_secs(3_600);
    world.ask(ALICE, Command::NewInvite { uses: 2, holds, group: None }).unwrap();
    let people = world.people(&[ALICE]);
    for who in [BOB, DAVE] {
        let title = format!("{who}");
        world.ask(who, Command::CreateGroup { title, people: people.clone() }).unwrap();
    }
    world.advance(Duration::from_secs(60));
    assert_eq!(stands(&world), (2, 3));
}

#[test]
fn two_strangers_at_once_are_no_more_than_one_after_the_other() {
    let mut world = world(&["a.example"; 4]);
    world.invite(ALICE);
    world.relay.mute.insert("FetchBlob");
    opens(&mut world, CAROL);
    opens(&mut world, DAVE);
    assert_eq!(stands(&world), (0, 0));
    world.relay.mute.clear();
    world.advance(Duration::from_secs(120));
    assert_eq!(stands(&world), (1, 1));
}

#[test]
fn whoever_the_owner_asked_or_said_yes_to_comes_before_the_word_that_they_agreed() {
    let mut world = world(&["a.example"; 3]);
    let who = |who: usize| Who::Account(world.people[who].account, "a.example".parse().unwrap());
    let (alice, bob) = (who(ALICE), who(BOB));
    // She asked Bob; that he agreed is kept from her. Carol asked her; that her yes was taken is.
    world.ask(ALICE, Command::Befriend { who: bob, note: None }).unwrap();
    world.ask(CAROL, Command::Befriend { who: alice, note: None }).unwrap();
    world.relay.mute.insert("Befriend");
    let carol = world.people[CAROL].account;
    world.command(ALICE, Command::AcceptFriend(carol));
    world.relay.mute.clear();
    assert_eq!(stands(&world), (0, 0));
    for one in [BOB, CAROL] {
        opens(&mut world, one);
    }
    assert_eq!(stands(&world), (0, 2));
    assert_eq!(world.shown(ALICE), ["you do not know me"; 2]);
}

#[test]
fn whose_invite_was_taken_up_in_vain_may_come_all_the_same() {
    let mut world = world(&["a.example"; 3]);
    // At Bob's relay her claim made friends of the two; she heard nothing of it and starts anew.
    let invite = world.invite(BOB);
    world.relay.mute.insert("ClaimKeyPackages");
    world.command(ALICE, Command::AcceptInvite(invite));
    world.crash_now(ALICE);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(10));
    opens(&mut world, BOB);
    assert_eq!(stands(&world), (0, 1));
    opens(&mut world, CAROL);
    assert_eq!(stands(&world), (1, 1));
}

#[test]
fn what_another_device_of_the_account_may_have_agreed_to_is_the_relays_word() {
    let mut world = world(&["a.example"; 3]);
    let phone = world.link_device(ALICE, false);
    // The phone's invite is known to the phone and to the relay.
    let invite = world.invite(phone);
    world.ask(BOB, Command::AcceptInvite(invite)).unwrap();
    world.advance(Duration::from_secs(60));
    assert_eq!(stands(&world), (0, 1));
}
