//! What an account's devices hold together when one of them lies, is an old copy, or comes while others are away.

use std::time::Duration;

use whimbrel_crypto::{Chance, KeyPair, Seed, SiblingKey, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{DeviceIndex, MessageId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::{Fact, Handover, What};
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::user::Who;

use super::hostile::seal_as;
use super::siblings::two_devices;
use super::world::{ALICE, BOB, CAROL, World, world};
use crate::api::{Command, CommandError, Event, Reply, State};
use crate::rows;
use crate::views::{self, Page, Trust};

/// A device says facts to its siblings that nothing happened for.
fn say_facts(world: &mut World<StandInEngine>, who: usize, facts: Vec<Fact>) {
    let author = world.id(who);
    let selves = world.relay.selves[&author.account];
    let content = Content::new(MessageId::from_bytes([1; 16]), Hlc { millis: 5, count: 0 }, Body::Facts(facts));
    let envelope = seal_as(world, who, selves, &[&encode_words(&content)]).remove(0);
    world.kill(who);
    world.inject(selves, author, envelope);
    world.advance(Duration::from_secs(1));
}

fn identity_of(world: &World<StandInEngine>, who: usize) -> KeyPair {
    let row: rows::AccountRow = rows::get(world.store(who), &rows::account_key()).unwrap().unwrap();
    KeyPair::from_seed_bytes(row.identity_key.unwrap())
}

#[test]
fn a_sibling_that_lies_takes_no_key_away_and_has_no_last_word() {
    let (mut world, _, phone) = two_devices();
    let (held, other) = (identity_of(&world, ALICE), KeyPair::from_seed_bytes([7; 32]));
    let context = [held.public().as_bytes().as_slice(), other.public().as_bytes()].concat();
    let mut chance = Chance::from_seed(Seed::from_bytes([77; 32]));
    let sealed = SiblingKey::of_identity(&held).seal(&context, &[7; 32], &mut chance).unwrap();
    let (own, by) = (world.id(ALICE).index, world.id(phone).index);
    let bob = world.people[BOB].account;
    let at = |millis| Hlc { millis, count: u32::MAX };
    let handover = Handover { old: held.public(), new: other.public(), sealed };
    let address = world.relay.accounts[&bob].address.clone().unwrap();
    let facts = vec![
        Fact { at: at(9), by, what: What::Identity(handover.clone()) },
        Fact { at: at(9), by, what: What::Identity(Handover { sealed: vec![1; 60], ..handover }) },
        Fact { at: at(u64::MAX), by, what: What::Blocked(bob, address, true) },
        Fact { at: at(9), by: own, what: What::History(own, Some([9; 32])) },
    ];
    say_facts(&mut world, phone, facts);
    assert!(world.full(ALICE), "it can still sign the account's log");
    let devices = views::devices(world.store(ALICE)).unwrap();
    assert!(devices.iter().all(|one| one.wants_history != Some(true)), "{devices:?}");
    let friends = views::friends(world.store(ALICE)).unwrap();
    assert!(friends.iter().all(|one| one.friendship != views::Friendship::Blocked));
    assert_eq!(world.ask(ALICE, Command::RevokeDevice(by)), Ok(Reply::Done));
}

#[test]
fn two_new_devices_that_find_only_each_other_wait_for_one_that_has_the_history() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    for n in 0..3 {
        world.say(BOB, thread, &format!("before {n}"));
    }
    let [phone, laptop] = [(); 2].map(|()| {
        let ticket = world.begin_linking(ALICE, false);
        assert_eq!(world.answer(ALICE, ticket), Some(Ok(Reply::Done)));
        world.run_newcomer().unwrap()
    });
    world.relay_gone_for(ALICE);
    world.advance(Duration::from_secs(600));
    for new in [phone, laptop] {
        assert!(
            views::history(world.store(new)).unwrap().is_some(),
            "device {new} takes what the other has for all there is"
        );
    }
    world.relay_back_for(ALICE);
    world.advance(limits::HISTORY_RETRY_MAX * 2);
    for new in [phone, laptop] {
        assert_eq!(world.history(new, thread), ["before 0", "before 1", "before 2"], "device {new}");
        assert!(views::history(world.store(new)).unwrap().is_none());
    }
}

#[test]
fn a_fact_that_the_relay_refuses_for_good_is_told_once_more() {
    let (mut world, _, phone) = two_devices();
    let bob = world.people[BOB].account;
    world.relay.refuse.insert("Submit", (RefusalCode::StaleEpoch, None));
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    world.advance(Duration::from_secs(10));
    assert_eq!(world.trust(phone, BOB), Some(Trust::Unverified));
    world.relay.refuse.clear();
    world.advance(limits::SELF_THREAD_RETRY_MIN * 2);
    assert_eq!(world.trust(phone, BOB), Some(Trust::Verified));
}

#[test]
fn whom_the_owner_parts_with_on_one_device_is_no_friend_on_the_other_and_invites_it_to_nothing() {
    let mut world = world(&["a.example"; 3]);
    world.befriend(BOB, ALICE);
    let phone = world.link_device(ALICE, false);
    let (alice, bob, carol) = (world.people[ALICE].account, world.people[BOB].account, world.people[CAROL].account);
    let who = Who::Account(alice, "a.example".parse().unwrap());
    world.ask(CAROL, Command::Befriend { who, note: None }).unwrap();
    world.ask(phone, Command::AcceptFriend(carol)).unwrap();
    world.advance(Duration::from_secs(10));
    let contacts = |world: &World<StandInEngine>, who| {
        views::contacts(world.store(who)).unwrap().into_iter().map(|one| one.account).collect::<Vec<_>>()
    };
    assert_eq!(contacts(&world, ALICE).len(), 2);
    for other in [bob, carol] {
        let audited = rows::audit_key(&other);
        assert!(rows::get::<rows::AuditRow>(world.store(phone), &audited).unwrap().is_some(), "looked up in the tree");
    }
    // An invitation of Bob's that no device has followed yet.
    world.relay_gone_for(phone);
    world.relay.mute.insert("FetchBlob");
    let created = world.ask(BOB, Command::CreateGroup { title: "the boat".to_owned(), people: vec![alice] }).unwrap();
    let Reply::Group { thread: group } = created else { panic!("{created:?}") };
    world.advance(Duration::from_secs(10));
    for other in [bob, carol] {
        world.ask(ALICE, Command::RemoveFriend(other)).unwrap();
    }
    world.relay.mute.clear();
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(120));
    for device in [ALICE, phone] {
        assert_eq!(contacts(&world, device), [], "device {device}");
        let friends = views::friends(world.store(device)).unwrap();
        assert!(friends.iter().all(|one| one.friendship == views::Friendship::None), "device {device}: {friends:?}");
        assert!(views::thread(world.store(device), &group).unwrap().is_none(), "device {device} is in it");
    }
    let removals = |frame: &Frame| matches!(frame, Frame::Befriend(_));
    let said = |world: &World<StandInEngine>| {
        world.relay.heard.iter().filter(|(by, frame)| *by == phone && removals(frame)).count()
    };
    let before = said(&world);
    // They are friends again, and the device that was only told of the parting does not say it again.
    world.befriend(BOB, ALICE);
    world.crash_now(phone);
    world.advance(Duration::from_secs(120));
    assert_eq!(said(&world), before);
    assert_eq!((contacts(&world, ALICE), contacts(&world, phone)), (vec![bob], vec![bob]));
}

#[test]
fn a_device_that_is_an_old_copy_tells_its_siblings_nothing_and_asks_them_for_nothing() {
    let (mut world, thread, phone) = two_devices();
    let bob = world.people[BOB].account;
    world.advance(limits::HEARTBEAT_EVERY);
    let copy = world.people[phone].disk.copied();
    world.ask(phone, Command::Verify { account: bob, verified: true }).unwrap();
    world.say(phone, thread, "after the copy");
    world.advance(limits::HEARTBEAT_EVERY);
    assert_eq!(world.trust(ALICE, BOB), Some(Trust::Verified));
    world.kill(phone);
    world.ask(ALICE, Command::Verify { account: bob, verified: false }).unwrap();
    world.say(BOB, thread, "for the newer one");
    let told = |world: &World<StandInEngine>| {
        let words = |frame: &Frame| matches!(frame, Frame::TellSibling(_));
        let asked = world.relay.heard.iter().filter(|(by, frame)| *by == phone && words(frame)).count();
        (world.said(phone), asked)
    };
    let before = told(&world);
    world.put_back(phone, copy);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.events(phone, super::stamp::outdated), 1);
    let sealed = |world: &World<StandInEngine>| {
        let mut count = 0;
        rows::each(world.store(phone), &rows::space(rows::Space::Outbox), |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        count
    };
    let waiting = sealed(&world);
    // What it writes down for itself alone it may; nothing of it is sealed.
    drop(world.ask(phone, Command::Verify { account: bob, verified: true }));
    world.advance(Duration::from_secs(3_600));
    world.crash_now(phone);
    world.advance(Duration::from_secs(3_600));
    assert_eq!((told(&world), sealed(&world)), (before, waiting));
    assert_eq!(world.trust(ALICE, BOB), Some(Trust::Unverified));
}

#[test]
fn what_somebody_who_is_kept_away_says_in_a_group_is_unread_on_no_device() {
    let mut world = world(&["a.example"; 3]);
    world.befriend(BOB, ALICE);
    world.befriend(BOB, CAROL);
    let people = vec![world.people[ALICE].account, world.people[CAROL].account];
    let created = world.ask(BOB, Command::CreateGroup { title: "the boat".to_owned(), people }).unwrap();
    let Reply::Group { thread: group } = created else { panic!("{created:?}") };
    world.advance(Duration::from_secs(10));
    let carol = world.people[CAROL].account;
    let who = Who::Account(carol, "a.example".parse().unwrap());
    world.ask(ALICE, Command::Block { who, blocked: true }).unwrap();
    world.say(CAROL, group, "before the phone");
    let phone = world.link_device(ALICE, false);
    world.say(CAROL, group, "to both");
    world.say(BOB, group, "and this is news");
    world.advance(Duration::from_secs(10));
    for device in [ALICE, phone] {
        let lines = views::messages(world.store(device), &group, Page::Oldest, 10).unwrap();
        let hidden: Vec<_> = lines.iter().map(|one| one.message.hidden).collect();
        assert_eq!(hidden, [true, true, false], "device {device}");
        assert_eq!(world.unread(device, group), 1, "device {device}");
    }
    world.read_all(phone, group);
    world.advance(Duration::from_secs(10));
    assert_eq!((world.unread(ALICE, group), world.unread(phone, group)), (0, 0));
}

#[test]
fn whoever_was_away_while_a_device_came_and_went_follows_both() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    world.relay_gone_for(BOB);
    let phone = world.link_device(ALICE, false);
    world.say(phone, thread, "from the phone");
    let index = world.people[phone].index;
    assert_eq!(world.ask(ALICE, Command::RevokeDevice(index)), Ok(Reply::Done));
    world.advance(Duration::from_secs(30));
    world.say(ALICE, thread, "after it");
    world.relay_back_for(BOB);
    world.advance(Duration::from_secs(120));
    assert_eq!(world.shown(BOB), ["from the phone", "after it"]);
    world.say(BOB, thread, "I am here");
    assert_eq!(world.shown(ALICE).last(), Some(&"I am here"));
}

#[test]
fn whoever_was_away_follows_through_epochs_of_which_no_device_of_somebody_is_left() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    world.relay_gone_for(BOB);
    let phone = world.link_device(ALICE, false);
    world.say(phone, thread, "from the phone");
    assert_eq!(world.ask(phone, Command::RevokeDevice(DeviceIndex::FIRST)), Ok(Reply::Done));
    world.advance(Duration::from_secs(30));
    let tablet = world.link_device(phone, false);
    world.advance(Duration::from_secs(30));
    let index = world.people[phone].index;
    assert_eq!(world.ask(tablet, Command::RevokeDevice(index)), Ok(Reply::Done));
    world.advance(Duration::from_secs(30));
    world.say(tablet, thread, "from the tablet");
    world.relay_back_for(BOB);
    world.advance(Duration::from_secs(120));
    assert_eq!(world.shown(BOB), ["from the phone", "from the tablet"]);
    world.say(BOB, thread, "I am here");
    assert_eq!(world.shown(tablet).last(), Some(&"I am here"));
}

#[test]
fn what_waits_on_a_device_that_is_taken_off_its_account_fails_and_nothing_more_can_be_said_from_it() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    let phone = world.link_device(ALICE, false);
    world.advance(Duration::from_secs(30));
    world.relay_gone_for(phone);
    for number in 0..limits::OUTBOX_SLICE + 3 {
        world.say(phone, thread, &format!("on the way {number}"));
    }
    assert_eq!(world.ask(ALICE, Command::RevokeDevice(world.people[phone].index)), Ok(Reply::Done));
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(30));
    let failed = |event: &Event| matches!(event, Event::State { state: State::Failed(RefusalCode::Revoked), .. });
    assert_eq!(world.events(phone, failed), limits::OUTBOX_SLICE + 3);
    assert_eq!(views::outbox_len(world.store(phone)).unwrap(), 0);
    let more = world.ask(phone, Command::Send { thread, text: "and more".to_owned() });
    assert_eq!(more, Err(CommandError::Refused(RefusalCode::Revoked)));
    assert!(world.shown(BOB).is_empty());
}

#[test]
fn what_was_sealed_before_a_commit_that_waits_for_its_proof_waits_with_it() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    world.relay_gone_for(BOB);
    world.say(BOB, thread, "before I heard");
    world.link_device(ALICE, false);
    world.advance(Duration::from_secs(30));
    world.relay.refuse.insert("LookUp", (RefusalCode::PeerUnreachable, Some(1_000)));
    world.relay.refuse.insert("Submit", (RefusalCode::StaleEpoch, None));
    world.relay_back_for(BOB);
    world.advance(Duration::from_secs(30));
    assert_eq!((world.shown(ALICE).len(), views::outbox_len(world.store(BOB)).unwrap()), (0, 1));
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(120));
    assert_eq!(world.shown(ALICE), ["before I heard"]);
}
