//! Passes: links into groups, from whoever makes one to whoever comes by it.

use std::time::Duration;

use whimbrel_crypto::{KeyPair, StandInEngine, pass};
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{DeviceIndex, InviteToken, MessageId, ThreadId};
use whimbrel_protocol::invite::{Invite, Pass};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Declined};
use whimbrel_protocol::policy::{PolicyChange, Who};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user;

use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, World, world};
use crate::api::{Command, CommandError, Event, Reply};
use crate::views::{self, Standing};

const DAVE: usize = 3;

const HOUR: Duration = Duration::from_secs(3_600);

/// A group of Alice's with Bob in it, and who that is; Carol and Dave know nobody.
fn group() -> (World<StandInEngine>, ThreadId) {
    let mut world = world(&["a.example"; 4]);
    world.befriend(BOB, ALICE);
    let people = world.people(&[BOB]);
    let made = world.ask(ALICE, Command::CreateGroup { title: "Sailing".to_owned(), people }).unwrap();
    let Reply::Group { thread } = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(1));
    (world, thread)
}

fn link(world: &mut World<StandInEngine>, who: usize, group: ThreadId, uses: u32) -> Invite {
    match world.ask(who, Command::NewInvite { uses, holds: HOUR, group: Some(group) }).unwrap() {
        Reply::Invite(invite) => invite,
        other => panic!("{other:?}"),
    }
}

/// Follows a link, and gives what comes of it time.
fn follow(world: &mut World<StandInEngine>, who: usize, link: &Invite) {
    let answer = world.ask(who, Command::AcceptInvite(link.clone()));
    assert!(matches!(answer, Ok(Reply::Contact { .. })), "{answer:?}");
    world.advance(Duration::from_secs(3));
}

fn is_in(world: &World<StandInEngine>, who: usize, group: ThreadId) -> bool {
    world.stands(who, group).is_some_and(|(standing, ..)| standing == Standing::Open)
}

/// Why this person was declined, each time.
fn declined(world: &World<StandInEngine>, who: usize) -> Vec<Declined> {
    let told = |event: &Event| if let Event::JoinDeclined { why, .. } = event { Some(*why) } else { None };
    world.people[who].events.iter().filter_map(told).collect()
}

#[test]
fn whoever_comes_by_a_link_is_in_the_group_a_stranger_as_much_as_a_contact() {
    let (mut world, group) = group();
    world.befriend(DAVE, ALICE);
    let link = link(&mut world, ALICE, group, 2);
    assert_eq!(link.to_string().parse(), Ok(link.clone()), "as it is passed on");
    for who in [CAROL, DAVE] {
        follow(&mut world, who, &link);
        assert!(is_in(&world, who, group), "{who}");
    }
    assert_eq!(world.stands(BOB, group), Some((Standing::Open, 3, 4)));
    world.say(BOB, group, "welcome aboard");
    world.advance(Duration::from_secs(1));
    for who in [CAROL, DAVE] {
        assert_eq!(world.history(who, group), ["welcome aboard"]);
        let title = views::thread(world.store(who), &group).unwrap().unwrap().title;
        assert_eq!(title.as_deref(), Some("Sailing"), "and they know what it is called");
    }
}

#[test]
fn a_link_takes_in_as_many_as_it_says_and_shows_how_many_are_left() {
    let (mut world, group) = group();
    world.befriend(DAVE, ALICE);
    let link = link(&mut world, ALICE, group, 1);
    let left = |world: &World<StandInEngine>| views::group_links(world.store(ALICE)).unwrap()[0].left;
    assert_eq!(left(&world), 1);
    follow(&mut world, CAROL, &link);
    assert_eq!(left(&world), 0);
    // He needs none of the invite's uses to be her contact, and is not taken in all the same.
    follow(&mut world, DAVE, &link);
    assert!(is_in(&world, CAROL, group) && !is_in(&world, DAVE, group));
    assert_eq!(declined(&world, DAVE), [Declined::Link]);
}

#[test]
fn a_link_that_is_over_or_taken_back_leads_nowhere() {
    let (mut world, group) = group();
    for who in [CAROL, DAVE] {
        world.befriend(who, ALICE);
    }
    let (first, second) = (link(&mut world, ALICE, group, 9), link(&mut world, ALICE, group, 9));
    assert_eq!(world.ask(ALICE, Command::RevokeInvite(first.token.hash())), Ok(Reply::Done));
    follow(&mut world, CAROL, &first);
    world.advance(HOUR);
    follow(&mut world, DAVE, &second);
    for who in [CAROL, DAVE] {
        assert!(!is_in(&world, who, group));
        assert_eq!(declined(&world, who), [Declined::Link], "{who}");
    }
}

#[test]
fn a_link_into_a_group_is_by_the_word_of_a_device_of_its_maker_alone() {
    let (mut world, group) = group();
    let genuine = link(&mut world, ALICE, group, 9);
    let Some(pass) = genuine.pass.clone() else { panic!("no pass") };
    let other = ThreadId::from_bytes([9; 32]);
    let forged = pass::sign((&KeyPair::from_seed_bytes([5; 32]), pass.device), genuine.clone(), group, pass.until);
    let changed = [
        Invite { pass: Some(Pass { group: other, ..pass.clone() }), ..genuine.clone() },
        Invite { pass: Some(Pass { device: DeviceIndex::new(7), ..pass.clone() }), ..genuine.clone() },
        Invite { pass: Some(Pass { until: for_ever(), ..pass }), ..genuine.clone() },
        Invite { token: InviteToken::from_bytes([8; 16]), ..genuine.clone() },
        forged,
    ];
    for link in changed {
        let answer = world.ask(CAROL, Command::AcceptInvite(link));
        assert!(matches!(answer, Err(CommandError::Untrusted(_))), "{answer:?}");
    }
    assert_eq!(views::contacts(world.store(CAROL)).unwrap().len(), 0, "nothing came of them");
    follow(&mut world, CAROL, &genuine);
    assert!(is_in(&world, CAROL, group));
    // And of somebody whom she knows it is asked as well, without the relay, too.
    let elsewhere = Invite { pass: genuine.pass.clone().map(|pass| Pass { group: other, ..pass }), ..genuine };
    for reach in [true, false] {
        if !reach {
            world.relay_gone();
        }
        let answer = world.ask(CAROL, Command::AcceptInvite(elsewhere.clone()));
        assert!(matches!(answer, Err(CommandError::Untrusted(_))), "{answer:?}");
    }
}

fn for_ever() -> Wall {
    Wall::from_millis(u64::MAX)
}

#[test]
fn nobody_makes_a_link_who_may_take_nobody_in_nor_into_what_is_no_group() {
    let (mut world, group) = group();
    let pair = world.befriend(CAROL, ALICE);
    let ask = |world: &mut World<StandInEngine>, who, group| {
        world.ask(who, Command::NewInvite { uses: 1, holds: HOUR, group: Some(group) })
    };
    assert!(matches!(ask(&mut world, BOB, group), Err(CommandError::State(_))), "he is no admin");
    assert_eq!(ask(&mut world, CAROL, group), Err(CommandError::Unknown));
    assert_eq!(ask(&mut world, ALICE, pair), Err(CommandError::Unknown));
    assert_eq!(views::group_links(world.store(BOB)).unwrap(), []);
    // Where every member takes people in, he does, and by a link.
    let change = PolicyChange { adds: Some(Who::Members), ..PolicyChange::default() };
    world.ask(ALICE, Command::SetPolicy { thread: group, change }).unwrap();
    world.advance(Duration::from_secs(1));
    let his = link(&mut world, BOB, group, 1);
    follow(&mut world, DAVE, &his);
    assert!(is_in(&world, DAVE, group));
}

#[test]
fn a_link_is_worth_what_its_maker_may_do_when_somebody_comes_by_it() {
    let (mut world, group) = group();
    let promote = PolicyChange { admins: world.people(&[BOB]), ..PolicyChange::default() };
    world.ask(ALICE, Command::SetPolicy { thread: group, change: promote }).unwrap();
    world.advance(Duration::from_secs(1));
    let his = link(&mut world, BOB, group, 9);
    let demote = PolicyChange { members: world.people(&[BOB]), ..PolicyChange::default() };
    world.ask(ALICE, Command::SetPolicy { thread: group, change: demote }).unwrap();
    world.advance(Duration::from_secs(1));
    follow(&mut world, CAROL, &his);
    assert!(!is_in(&world, CAROL, group));
    assert_eq!(declined(&world, CAROL), [Declined::Leave]);
}

#[test]
fn whoever_was_taken_out_does_not_come_back_by_a_link_of_before_and_whoever_left_does() {
    let (mut world, group) = group();
    let before = link(&mut world, ALICE, group, 9);
    for who in [CAROL, DAVE] {
        follow(&mut world, who, &before);
    }
    let people = world.people(&[CAROL]);
    world.ask(ALICE, Command::RemoveMembers { thread: group, people }).unwrap();
    world.ask(DAVE, Command::LeaveGroup { thread: group }).unwrap();
    world.advance(Duration::from_secs(3));
    for who in [CAROL, DAVE] {
        assert_eq!(world.stands(who, group).unwrap().0, Standing::Left, "{who}");
        follow(&mut world, who, &before);
    }
    assert!(!is_in(&world, CAROL, group) && is_in(&world, DAVE, group));
    assert_eq!((declined(&world, CAROL), declined(&world, DAVE)), (vec![Declined::Link], vec![]));
    let after = link(&mut world, ALICE, group, 9);
    follow(&mut world, CAROL, &after);
    assert!(is_in(&world, CAROL, group), "one that is made for her again is one");
}

#[test]
fn who_comes_by_a_link_while_its_maker_is_away_or_dies_is_taken_in_once_they_are_there() {
    let (mut world, group) = group();
    let link = link(&mut world, ALICE, group, 9);
    world.kill(ALICE);
    follow(&mut world, CAROL, &link);
    assert!(!is_in(&world, CAROL, group));
    // She dies at every step of it.
    world.open(ALICE);
    for _ in 0..12 {
        world.advance(Duration::from_millis(40));
        world.kill(ALICE);
        world.open(ALICE);
    }
    world.advance(limits::LINK_IDLE_MAX);
    assert_eq!(world.stands(CAROL, group), Some((Standing::Open, 2, 3)));
    // And so does whoever comes.
    world.command(DAVE, Command::AcceptInvite(link.clone()));
    for _ in 0..6 {
        world.kill(DAVE);
        world.open(DAVE);
        world.advance(Duration::from_millis(40));
    }
    world.advance(limits::LINK_IDLE_MAX);
    // What was answered, or kept, goes on after a start; what died before that is done again by hand.
    if views::contacts(world.store(DAVE)).unwrap().is_empty() {
        follow(&mut world, DAVE, &link);
    }
    assert_eq!(world.stands(DAVE, group), Some((Standing::Open, 3, 4)));
}

#[test]
fn somebody_whose_devices_left_no_keys_waits_and_stops_nobody_and_is_told_in_the_end() {
    let (mut world, group) = group();
    for who in [CAROL, DAVE] {
        world.befriend(who, ALICE);
    }
    let link = link(&mut world, ALICE, group, 9);
    let carol = world.people[CAROL].account;
    let row = world.relay.accounts.get_mut(&carol).unwrap();
    let (packages, last_resort) = (std::mem::take(&mut row.packages), row.last_resort.take());
    follow(&mut world, CAROL, &link);
    follow(&mut world, DAVE, &link);
    assert!(!is_in(&world, CAROL, group) && is_in(&world, DAVE, group));
    world.advance(limits::LINK_IDLE_MAX * limits::ASK_ATTEMPTS_MAX);
    assert_eq!(declined(&world, CAROL), [Declined::Failed]);
    // There are some again, and she comes again.
    let row = world.relay.accounts.get_mut(&carol).unwrap();
    (row.packages, row.last_resort) = (packages, last_resort);
    let link = self::link(&mut world, ALICE, group, 9);
    follow(&mut world, CAROL, &link);
    assert!(is_in(&world, CAROL, group));
}

#[test]
fn an_ask_that_nobody_gave_a_link_for_takes_nobody_in() {
    let (mut world, group) = group();
    let with_dave = world.befriend(DAVE, ALICE);
    let link = link(&mut world, ALICE, group, 9);
    let ask = |token| {
        let hlc = Hlc { millis: 9_000, count: 0 };
        encode_words(&Content::new(MessageId::from_bytes([1; 16]), hlc, Body::Ask(group, DeviceIndex::FIRST, token)))
    };
    let dave = world.id(DAVE);
    let guess = seal_as(&mut world, DAVE, with_dave, &[&ask(InviteToken::from_bytes([7; 16]))]).remove(0);
    world.inject(with_dave, dave, guess);
    world.advance(Duration::from_secs(3));
    assert!(!is_in(&world, DAVE, group));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::MembersChanged { .. })), 0);
    // Somebody who is kept away is not heard, whatever they have.
    let who = user::Who::Account(dave.account, "a.example".parse().unwrap());
    world.ask(ALICE, Command::Block { who, blocked: true }).unwrap();
    let genuine = seal_as(&mut world, DAVE, with_dave, &[&ask(link.token)]).remove(0);
    world.inject(with_dave, dave, genuine);
    world.advance(Duration::from_secs(3));
    assert!(!is_in(&world, DAVE, group));
    assert_eq!(views::group_links(world.store(ALICE)).unwrap()[0].left, 9);
}

#[test]
fn an_opening_that_is_refused_leaves_no_wish_behind() {
    let (mut world, group) = group();
    let link = link(&mut world, ALICE, group, 9);
    world.relay.refuse.insert("OpenThread", (RefusalCode::NoConsent, None));
    let answer = world.ask(CAROL, Command::AcceptInvite(link));
    assert_eq!(answer, Err(CommandError::Refused(RefusalCode::NoConsent)));
    world.relay.refuse.clear();
    world.befriend(CAROL, ALICE);
    world.advance(Duration::from_secs(3));
    assert!(!is_in(&world, CAROL, group), "what came to nothing is not asked for later");
}

#[test]
fn so_many_groups_are_waited_for_and_not_one_more() {
    let (mut world, group) = group();
    world.befriend(CAROL, ALICE);
    let genuine = link(&mut world, ALICE, group, 9);
    let Some(pass) = genuine.pass.clone() else { panic!("no pass") };
    let identity = crate::identity::Identity::load(world.store(ALICE)).unwrap();
    world.kill(ALICE);
    let mut into = |n: u8| {
        let other = ThreadId::from_bytes([n; 32]);
        let link = pass::sign((&identity.device, pass.device), genuine.clone(), other, pass.until);
        world.ask(CAROL, Command::AcceptInvite(link))
    };
    for n in 0..limits::WISHES_MAX {
        assert!(matches!(into(u8::try_from(n).unwrap()), Ok(Reply::Contact { .. })), "{n}");
    }
    assert!(matches!(into(200), Err(CommandError::State(_))));
    assert!(matches!(into(0), Ok(Reply::Contact { .. })), "one that is waited for may be followed again");
    // Those whose time is over make room.
    world.advance(HOUR);
    world.open(ALICE);
    world.advance(limits::LINK_IDLE_MAX);
    let later = link(&mut world, ALICE, group, 1);
    follow(&mut world, CAROL, &later);
    assert!(is_in(&world, CAROL, group));
}
