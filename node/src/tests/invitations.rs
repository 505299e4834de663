//! What an invitation names: acknowledged once it is here, kept while an account log is missing, gone with the joining.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::friendship::Act;
use whimbrel_protocol::id::{AccountId, BlobId, DeviceIndex, Epoch, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, Invitation, LogRef};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::Participant;
use whimbrel_protocol::user::Who;

use super::people::{key_of, word};
use super::world::{ALICE, BOB, CAROL, World, world};
use crate::api::{Command, Event, Reply};
use crate::rows::{self, Space};
use crate::views;

/// How far Alice has acknowledged her inbox.
fn acknowledged(world: &World<StandInEngine>) -> u64 {
    let row = &world.relay.accounts[&world.people[ALICE].account];
    row.cursors.get(&LogRef::Inbox).copied().unwrap_or(Sequence::ZERO).get()
}

/// How many bodies lie in her store.
fn kept(world: &World<StandInEngine>) -> usize {
    let mut count = 0;
    rows::each(world.store(ALICE), &rows::space(Space::Fetched), |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count
}

fn joined(world: &World<StandInEngine>) -> usize {
    world.events(ALICE, |event| matches!(event, Event::ThreadOpened { .. }))
}

fn opened_by(world: &mut World<StandInEngine>, who: usize) -> ThreadId {
    let invite = world.invite(ALICE);
    match world.ask(who, Command::AcceptInvite(invite)).unwrap() {
        Reply::Contact { thread, .. } => thread,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invitation_is_acknowledged_once_what_it_names_is_here() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.relay.mute.insert("FetchBlob");
    opened_by(&mut world, BOB);
    opened_by(&mut world, CAROL);
    for _ in ["before a crash", "after it"] {
        world.advance(Duration::from_secs(30));
        assert_eq!((acknowledged(&world), kept(&world)), (0, 0));
        world.crash_now(ALICE);
    }
    world.relay.mute.clear();
    world.advance(Duration::from_secs(120));
    assert_eq!((joined(&world), acknowledged(&world), kept(&world)), (2, 2, 0));
}

#[test]
fn what_an_invitation_names_is_kept_while_an_account_log_is_missing() {
    let mut world = world(&["a.example", "a.example"]);
    world.relay.mute.insert("Push");
    let thread = opened_by(&mut world, BOB);
    world.say(BOB, thread, "hello");
    world.relay.mute.clear();
    world.relay.mute.insert("LookUp");
    world.push_all();
    world.advance(Duration::from_secs(1));
    assert_eq!((joined(&world), acknowledged(&world), kept(&world)), (0, 1, 2));
    // The relay need not have it any more.
    world.relay.blobs.clear();
    world.advance(Duration::from_secs(60));
    world.crash_now(ALICE);
    world.relay.mute.clear();
    world.advance(Duration::from_secs(120));
    assert_eq!((joined(&world), kept(&world)), (1, 0));
    assert_eq!(world.shown(ALICE), ["hello"]);
}

#[test]
fn what_came_for_an_invitation_is_not_asked_for_again_when_the_rest_is_refused() {
    for (refused, had, times) in [("FetchBlob", "LookUp", 1), ("LookUp", "FetchBlob", 2)] {
        let mut world = world(&["a.example", "a.example"]);
        world.relay.mute.insert("Push");
        opened_by(&mut world, BOB);
        world.relay.refuse.insert(refused, (RefusalCode::TooFast, Some(1_000)));
        world.relay.mute.clear();
        let asked = |world: &World<StandInEngine>, name| {
            world.relay.heard.iter().filter(|(who, frame)| *who == ALICE && frame.name() == name).count()
        };
        let before = asked(&world, had);
        world.push_all();
        world.advance(Duration::from_secs(120));
        assert_eq!(joined(&world), 0, "{refused}");
        assert_eq!(asked(&world, had) - before, times, "{had}: each is a request less for what is still to come");
        world.relay.refuse.clear();
        world.advance(Duration::from_secs(90));
        assert_eq!((joined(&world), asked(&world, had) - before), (1, times), "{refused}");
    }
}

#[test]
fn beyond_its_bound_a_node_keeps_no_bodies_and_lets_the_relay_keep_them() {
    let mut world = world(&["a.example"]);
    let many = limits::INVITATION_BODIES_MAX as u8 + 4;
    // So many may come whom she knows nothing of.
    let holds = Duration::from_secs(3_600);
    world.ask(ALICE, Command::NewInvite { uses: many.into(), holds, group: None }).unwrap();
    world.relay.mute.insert("LookUp");
    let alice = world.people[ALICE].account;
    for n in 0..many {
        let (welcome, tree, stranger) = (vec![n; 100], vec![n; 200], AccountId::from_bytes([n; 32]));
        let invitation = Invitation {
            thread: ThreadId::from_bytes([n; 32]),
            epoch: Epoch::new(1),
            inviter: whimbrel_protocol::id::DeviceId { account: stranger, index: DeviceIndex::FIRST },
            participants: [alice, stranger]
                .map(|account| Participant {
                    account,
                    domain: "a.example".parse().unwrap(),
                    devices: vec![DeviceIndex::FIRST],
                })
                .into(),
            welcome: BlobId::of(&welcome),
            tree: BlobId::of(&tree),
            founding: None,
        };
        for bytes in [welcome, tree] {
            world.relay.blobs.insert(BlobId::of(&bytes), bytes);
        }
        world.relay.accounts.get_mut(&alice).unwrap().inbox.push(EntryBody::Invitation(invitation));
    }
    world.push_all();
    // Long enough for each to have its turn.
    world.advance(Duration::from_secs(600));
    let first_without = limits::INVITATION_BODIES_MAX as u64;
    assert_eq!(kept(&world), 2 * limits::INVITATION_BODIES_MAX);
    assert!(acknowledged(&world) <= first_without, "{}", acknowledged(&world));
    world.crash_now(ALICE);
    world.advance(Duration::from_secs(600));
    assert_eq!(kept(&world), 2 * limits::INVITATION_BODIES_MAX);
    // Once it is known that nobody is who they seem, nothing is left of it.
    world.relay.mute.clear();
    world.relay.refuse.insert("LookUp", (RefusalCode::NotFound, None));
    world.advance(Duration::from_secs(1_200));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. })), usize::from(many));
    assert_eq!((acknowledged(&world), kept(&world)), (many.into(), 0));
}

#[test]
fn an_invitation_from_before_a_block_makes_no_contact_after_it_is_lifted() {
    let mut world = world(&["a.example", "a.example"]);
    world.relay.mute.insert("Push");
    opened_by(&mut world, BOB);
    let bob = Who::Account(world.people[BOB].account, "a.example".parse().unwrap());
    // He asks, too, from before the block: his word is not her consent.
    let at = world.now.wall.as_millis();
    let request = word(&world, (BOB, ALICE), Act::Request, at, &key_of(&world, BOB));
    world.relay.accounts.get_mut(&world.people[ALICE].account).unwrap().inbox.insert(0, EntryBody::Friendship(request));
    for blocked in [true, false] {
        world.ask(ALICE, Command::Block { who: bob.clone(), blocked }).unwrap();
    }
    world.relay.mute.clear();
    world.push_all();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. })), 1);
    assert_eq!((joined(&world), views::contacts(world.store(ALICE)).unwrap().len()), (0, 0));
}

#[test]
fn an_invitation_from_before_a_removal_makes_no_contact_again_and_one_from_after_it_does() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, BOB);
    let (alice, bob) = (world.people[ALICE].account, world.people[BOB].account);
    let is_contact = |world: &World<StandInEngine>| {
        views::contacts(world.store(ALICE)).unwrap().iter().any(|contact| contact.account == bob)
    };
    assert!(is_contact(&world));
    world.relay.mute.insert("Push");
    let people = vec![alice, world.people[CAROL].account];
    world.ask(BOB, Command::CreateGroup { title: "Sailing".to_owned(), people }).unwrap();
    world.ask(ALICE, Command::RemoveFriend(bob)).unwrap();
    world.relay.mute.clear();
    world.push_all();
    world.advance(Duration::from_secs(30));
    for _ in ["before a crash", "after it"] {
        assert_eq!(world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. })), 1);
        assert!(!is_contact(&world));
        world.crash_now(ALICE);
        world.advance(Duration::from_secs(30));
    }
    // What she lets them do now is another matter.
    opened_by(&mut world, BOB);
    world.ask(BOB, Command::CreateGroup { title: "Rowing".to_owned(), people: vec![alice] }).unwrap();
    world.advance(Duration::from_secs(30));
    assert!(is_contact(&world));
}

/// Bob is away while Alice takes him into a group that Carol's phone, which he knows, has a leaf in. His relay does not name
/// the phone in the invitation. Gives how often it was refused, how often he asked for Carol's log, and what he was shown.
fn taken_in_beside_a_device_that_is_not_named(revoked: bool) -> (usize, usize, Vec<String>) {
    let mut world = world(&["a.example"; 3]);
    for (one, other) in [(BOB, ALICE), (CAROL, ALICE), (BOB, CAROL)] {
        world.befriend(one, other);
    }
    let phone = world.link_device(CAROL, false);
    let people = world.people(&[CAROL]);
    let made = world.ask(ALICE, Command::CreateGroup { title: "Sailing".to_owned(), people });
    let Ok(Reply::Group { thread }) = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(10));
    world.relay_gone_for(BOB);
    let people = world.people(&[BOB]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(10));
    let (bob, carol, index) = (world.people[BOB].account, world.people[CAROL].account, world.people[phone].index);
    if revoked {
        assert_eq!(world.ask(CAROL, Command::RevokeDevice(index)), Ok(Reply::Done));
        world.advance(Duration::from_secs(10));
    }
    let Some(EntryBody::Invitation(words)) = world.relay.accounts.get_mut(&bob).unwrap().inbox.last_mut() else {
        panic!("no invitation")
    };
    let of_carol = words.participants.iter_mut().find(|one| one.account == carol).unwrap();
    assert_eq!((words.thread, of_carol.devices.as_slice()), (thread, [DeviceIndex::FIRST, index].as_slice()));
    of_carol.devices.pop();
    world.say(ALICE, thread, "hello");
    world.relay.heard.clear();
    world.relay_back_for(BOB);
    world.advance(Duration::from_secs(120));
    let refused = world.events(BOB, |event| matches!(event, Event::InvitationRefused { .. }));
    let asks = |who: &Who| matches!(who, Who::Account(account, _) if *account == carol);
    let heard = world.relay.heard.iter();
    let asked = heard.filter(|(who, frame)| *who == BOB && matches!(frame, Frame::LookUp(words) if asks(&words.who)));
    (refused, asked.count(), world.shown(BOB).into_iter().map(str::to_owned).collect())
}

#[test]
fn whoever_was_away_is_taken_in_beside_a_device_whose_revocation_only_the_relay_has_heard_of() {
    let (refused, asked, shown) = taken_in_beside_a_device_that_is_not_named(true);
    assert_eq!((refused, shown), (0, vec!["hello".to_owned()]));
    assert!(asked > 0);
}

#[test]
fn a_leaf_that_was_not_announced_and_that_no_log_gives_up_is_refused_once_the_log_was_asked_for() {
    assert_eq!(taken_in_beside_a_device_that_is_not_named(false), (1, 1, Vec::new()));
}
