//! Roles: who may do what in a group, and that everybody holds everybody to it.

use std::time::Duration;

use whimbrel_crypto::{Chance, Change, Context, Engine as _, Seed, StandInEngine};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, SubmitCommit};
use whimbrel_protocol::id::{DeviceId, Epoch, RequestId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::policy::{Policy, PolicyChange, Who};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::thread::Class;
use whimbrel_storage::{Overlay, Reads as _};

use super::groups::group;
use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, World};
use crate::api::{Command, CommandError, Event, Reply};
use crate::identity::Identity;
use crate::rows::{self, ThreadRow};
use crate::thread;
use crate::views::{self, Standing};

const DAVE: usize = 3;

fn set(world: &mut World<StandInEngine>, who: usize, thread: ThreadId, change: PolicyChange) -> Reply {
    let answer = world.ask(who, Command::SetPolicy { thread, change });
    world.advance(Duration::from_secs(1));
    answer.unwrap()
}

/// Makes them admins of the group.
fn promote(world: &mut World<StandInEngine>, by: usize, thread: ThreadId, who: &[usize]) -> Reply {
    let mut admins = world.people(who);
    admins.sort_unstable();
    set(world, by, thread, PolicyChange { admins, ..PolicyChange::default() })
}

fn demote(world: &mut World<StandInEngine>, by: usize, thread: ThreadId, who: &[usize]) -> Reply {
    let members = world.people(who);
    set(world, by, thread, PolicyChange { members, ..PolicyChange::default() })
}

fn policy(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Policy {
    views::thread(world.store(who), &thread).unwrap().unwrap().policy.unwrap()
}

fn title(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Option<String> {
    views::thread(world.store(who), &thread).unwrap().unwrap().title
}

/// Hands in a commit of this person's own making: the hub of this world judges nothing.
fn hand_in(
    world: &mut World<StandInEngine>,
    who: usize,
    thread: ThreadId,
    removes: &[DeviceId],
    policy: Option<&Policy>,
) {
    let identity = Identity::load(world.store(who)).unwrap();
    let row: ThreadRow = thread::get(world.store(who), &thread).unwrap().unwrap();
    let mut chance = Chance::from_seed(Seed::from_bytes([66; 32]));
    let now = world.now;
    let mut rows = Overlay::new(world.store(who));
    let mut cx = Context { rows: &mut rows, chance: &mut chance, now };
    let change = Change { removes, policy, ..Change::default() };
    let made = StandInEngine::new().change(&mut cx, &identity.own(), thread, change).unwrap();
    let (epoch, removed) = (row.epoch, removes.to_vec());
    let commit = Commit {
        thread,
        term: FIRST_TERM,
        epoch,
        bytes: made.commit,
        added: Vec::new(),
        removed,
        info: made.info,
        warrant: None,
    };
    world
        .submit_commit(who, SubmitCommit { request: RequestId::new(9_000), commit: Box::new(commit), newcomers: None });
    world.advance(Duration::from_secs(2));
}

#[test]
fn an_admin_more_takes_people_in_and_out_and_is_told_of_by_everybody() {
    let (mut world, thread) = group();
    world.befriend(DAVE, BOB);
    promote(&mut world, ALICE, thread, &[BOB]);
    for who in [ALICE, BOB, CAROL] {
        let mut both = world.people(&[ALICE, BOB]);
        both.sort_unstable();
        assert_eq!(policy(&world, who, thread).admins, both, "{who}");
        assert_eq!(world.events(who, |event| matches!(event, Event::PolicyChanged { .. })), 1, "{who}");
    }
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(BOB, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(policy(&world, DAVE, thread), policy(&world, ALICE, thread), "a newcomer has it from the welcome");
    // He may say what it is called, so he told the newcomer.
    assert_eq!(title(&world, DAVE, thread).as_deref(), Some("Sailing"));
    let people = world.people(&[ALICE]);
    assert_eq!(world.ask(BOB, Command::RemoveMembers { thread, people }), Ok(Reply::Done), "the one who made it, too");
    world.advance(Duration::from_secs(1));
    assert_eq!(world.stands(ALICE, thread).unwrap().0, Standing::Left);
    for who in [BOB, CAROL, DAVE] {
        assert_eq!(policy(&world, who, thread).admins, world.people(&[BOB]), "who is out is no admin");
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 4, 3)));
    }
    world.say(CAROL, thread, "and on");
    assert_eq!((world.shown(BOB), world.shown(DAVE)), (vec!["and on"], vec!["and on"]));
}

#[test]
fn who_is_taken_in_again_is_what_everybody_is_who_was_taken_in() {
    let (mut world, thread) = group();
    promote(&mut world, ALICE, thread, &[BOB, CAROL]);
    for command in [
        Command::RemoveMembers { thread, people: world.people(&[BOB]) },
        Command::AddMembers { thread, people: world.people(&[BOB]) },
    ] {
        assert_eq!(world.ask(ALICE, command), Ok(Reply::Done));
        world.advance(Duration::from_secs(1));
    }
    let mut both = world.people(&[ALICE, CAROL]);
    both.sort_unstable();
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(policy(&world, who, thread).admins, both, "{who}");
    }
    let people = world.people(&[CAROL]);
    let refused = world.ask(BOB, Command::RemoveMembers { thread, people });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
}

#[test]
fn a_group_keeps_an_admin_whoever_leaves_or_is_made_a_member() {
    let (mut world, thread) = group();
    let members = world.people(&[ALICE]);
    let change = PolicyChange { members, ..PolicyChange::default() };
    let refused = world.ask(ALICE, Command::SetPolicy { thread, change });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
    let stranger = PolicyChange { admins: world.people(&[DAVE]), ..PolicyChange::default() };
    let refused = world.ask(ALICE, Command::SetPolicy { thread, change: stranger });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
    assert!(matches!(world.ask(ALICE, Command::LeaveGroup { thread }), Err(CommandError::State(_))));
    promote(&mut world, ALICE, thread, &[BOB]);
    assert_eq!(world.ask(ALICE, Command::LeaveGroup { thread }), Ok(Reply::Done));
    // Bob would be the last of them.
    world.advance(Duration::from_secs(2));
    assert_eq!(world.stands(ALICE, thread).unwrap().0, Standing::Left);
    assert_eq!(policy(&world, CAROL, thread).admins, world.people(&[BOB]));
    assert!(matches!(world.ask(BOB, Command::LeaveGroup { thread }), Err(CommandError::State(_))));
}

#[test]
fn of_two_admins_who_leave_at_once_one_stays_and_is_told() {
    let (mut world, thread) = group();
    promote(&mut world, ALICE, thread, &[BOB]);
    world.relay.mute.insert("Submit");
    for who in [ALICE, BOB] {
        assert_eq!(world.ask(who, Command::LeaveGroup { thread }), Ok(Reply::Done));
    }
    world.relay.mute.clear();
    world.advance(limits::ANSWER_TIME_MAX * 2 + Duration::from_secs(10));
    let standing = |world: &World<StandInEngine>, who| world.stands(who, thread).unwrap().0;
    let stays: Vec<usize> = [ALICE, BOB].into_iter().filter(|who| standing(&world, *who) == Standing::Open).collect();
    let [stays] = stays[..] else { panic!("{stays:?} of two") };
    assert_eq!(world.events(stays, |event| matches!(event, Event::LeaveRefused { .. })), 1);
    assert_eq!(policy(&world, CAROL, thread).admins, world.people(&[stays]));
    // And goes on as if they had not asked, with another admin beside them, too, or as none.
    world.say(stays, thread, "here still");
    assert_eq!(world.shown(CAROL), ["here still"]);
    promote(&mut world, stays, thread, &[CAROL]);
    demote(&mut world, CAROL, thread, &[stays]);
    world.advance(limits::STRAYS_WAIT + limits::STRAYS_SPREAD);
    assert_eq!(
        (standing(&world, stays), policy(&world, stays, thread).admins),
        (Standing::Open, world.people(&[CAROL]))
    );
}

#[test]
fn where_members_take_people_in_they_do_and_an_admin_says_what_it_is_called() {
    let (mut world, thread) = group();
    world.befriend(DAVE, BOB);
    let people = world.people(&[DAVE]);
    let refused = world.ask(BOB, Command::AddMembers { thread, people: people.clone() });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
    set(&mut world, ALICE, thread, PolicyChange { adds: Some(Who::Members), ..PolicyChange::default() });
    assert_eq!(world.ask(BOB, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(2));
    assert_eq!(world.stands(DAVE, thread), Some((Standing::Open, 3, 4)));
    // Bob may not say it, so Alice's device does.
    assert_eq!(title(&world, DAVE, thread).as_deref(), Some("Sailing"));
    let refused = world.ask(BOB, Command::RenameGroup { thread, title: "Rowing".to_owned() });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
    set(&mut world, ALICE, thread, PolicyChange { renames: Some(Who::Members), ..PolicyChange::default() });
    assert_eq!(world.ask(DAVE, Command::RenameGroup { thread, title: "Rowing".to_owned() }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    for who in [ALICE, BOB, CAROL, DAVE] {
        assert_eq!(title(&world, who, thread).as_deref(), Some("Rowing"), "{who}");
    }
    assert_eq!(world.events(CAROL, |event| matches!(event, Event::TitleChanged { .. })), 2, "as it was made, and now");
    let people = world.people(&[CAROL]);
    let refused = world.ask(BOB, Command::RemoveMembers { thread, people });
    assert!(matches!(refused, Err(CommandError::State(_))), "{refused:?}");
}

#[test]
fn t36_two_admins_who_change_the_group_at_the_same_moment_both_come_about() {
    const ROUNDS: u64 = 50;
    let (mut world, thread) = group();
    world.befriend(DAVE, BOB);
    promote(&mut world, ALICE, thread, &[BOB]);
    for round in 0..ROUNDS {
        // One takes Dave in, or out; the other changes who says what it is called.
        let people = world.people(&[DAVE]);
        let first = match round % 2 {
            0 => Command::AddMembers { thread, people },
            _ => Command::RemoveMembers { thread, people },
        };
        let renames = Some(if round % 2 == 0 { Who::Members } else { Who::Admins });
        let second = Command::SetPolicy { thread, change: PolicyChange { renames, ..PolicyChange::default() } };
        let (one, other) = if round % 4 < 2 { (ALICE, BOB) } else { (BOB, ALICE) };
        world.relay.mute.insert("SubmitCommit");
        let tickets = [(one, world.command(one, first)), (other, world.command(other, second))];
        world.relay.mute.clear();
        world.advance(limits::ANSWER_TIME_MAX * 2 + limits::COMMIT_WAIT * 2);
        for (who, ticket) in tickets {
            assert_eq!(world.answer(who, ticket), Some(Ok(Reply::Done)), "{round}: {who}");
        }
        let members = if round % 2 == 0 { 4 } else { 3 };
        for who in [ALICE, BOB, CAROL] {
            // Both hold, one after the other, and no third.
            assert_eq!(
                world.stands(who, thread),
                Some((Standing::Open, 2 + 2 * (round + 1), members)),
                "{round}: {who}"
            );
            assert_eq!(Some(policy(&world, who, thread).renames), renames, "{round}: {who}");
        }
    }
}

#[test]
fn t37_who_loses_the_race_against_their_own_demotion_changes_nothing() {
    let (mut world, thread) = group();
    promote(&mut world, ALICE, thread, &[BOB]);
    world.relay.mute.insert("SubmitCommit");
    let people = world.people(&[CAROL]);
    let removal = world.command(BOB, Command::RemoveMembers { thread, people });
    world.relay.mute.clear();
    demote(&mut world, ALICE, thread, &[BOB]);
    world.advance(limits::ANSWER_TIME_MAX + limits::COMMIT_WAIT);
    assert!(matches!(world.answer(BOB, removal), Some(Err(CommandError::State(_)))));
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 3, 3)), "{who}");
        assert_eq!(policy(&world, who, thread).admins, world.people(&[ALICE]), "{who}");
    }
}

#[test]
fn t37_who_takes_somebody_out_before_they_are_demoted_has_done_so() {
    let (mut world, thread) = group();
    promote(&mut world, ALICE, thread, &[BOB]);
    let members = world.people(&[BOB]);
    world.relay.mute.insert("SubmitCommit");
    let change = PolicyChange { members, ..PolicyChange::default() };
    let demotion = world.command(ALICE, Command::SetPolicy { thread, change });
    world.relay.mute.clear();
    let people = world.people(&[CAROL]);
    assert_eq!(world.ask(BOB, Command::RemoveMembers { thread, people }), Ok(Reply::Done));
    world.advance(limits::ANSWER_TIME_MAX + limits::COMMIT_WAIT);
    assert_eq!(world.answer(ALICE, demotion), Some(Ok(Reply::Done)));
    assert_eq!(world.stands(CAROL, thread).unwrap().0, Standing::Left);
    for who in [ALICE, BOB] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 4, 2)), "{who}");
        assert_eq!(policy(&world, who, thread).admins, world.people(&[ALICE]), "{who}");
    }
}

#[test]
fn t37_members_follow_no_change_that_its_author_may_not_make_whatever_their_hub_took() {
    type Case = fn(&World<StandInEngine>) -> (Vec<DeviceId>, Option<Policy>);
    let cases: [(&str, Case); 4] = [
        ("makes himself an admin", |world| (Vec::new(), Some(of(world, &[ALICE, BOB])))),
        ("makes himself the admin and takes the other out", |world| (vec![world.id(ALICE)], Some(of(world, &[BOB])))),
        ("takes somebody out", |world| (vec![world.id(CAROL)], None)),
        ("lets everybody take people in", |world| {
            (Vec::new(), Some(Policy { adds: Who::Members, ..of(world, &[ALICE]) }))
        }),
    ];
    for (what, case) in cases {
        let (mut world, thread) = group();
        let (removes, wanted) = case(&world);
        hand_in(&mut world, BOB, thread, &removes, wanted.as_ref());
        for who in [ALICE, CAROL] {
            assert_eq!(world.stands(who, thread), Some((Standing::Open, 1, 3)), "{what}: {who}");
            assert_eq!(policy(&world, who, thread), of(&world, &[ALICE]), "{what}: {who}");
            assert!(world.events(who, |event| matches!(event, Event::Unreadable { .. })) > 0, "{what}: {who}");
        }
    }
    // And an admin's that would leave a group with an admin who is not in it.
    let (mut world, thread) = group();
    promote(&mut world, ALICE, thread, &[BOB]);
    let gone = [world.id(BOB)];
    hand_in(&mut world, ALICE, thread, &gone, None);
    for who in [BOB, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 3)), "{who}");
    }
}

fn of(world: &World<StandInEngine>, admins: &[usize]) -> Policy {
    let mut admins = world.people(admins);
    admins.sort_unstable();
    Policy { admins, adds: Who::Admins, renames: Who::Admins }
}

#[test]
fn t14_who_is_said_to_have_been_taken_in_by_another_than_made_the_welcome_does_not_come() {
    let (mut world, thread) = group();
    world.befriend(DAVE, BOB);
    promote(&mut world, ALICE, thread, &[BOB]);
    set(&mut world, ALICE, thread, PolicyChange { adds: Some(Who::Members), ..PolicyChange::default() });
    world.kill(DAVE);
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(BOB, Command::AddMembers { thread, people }), Ok(Reply::Done));
    // Carol may take people in, too, and is not who did.
    let (account, carol) = (world.people[DAVE].account, world.id(CAROL));
    for body in &mut world.relay.accounts.get_mut(&account).unwrap().inbox {
        if let EntryBody::Invitation(words) = body {
            words.inviter = carol;
        }
    }
    world.open(DAVE);
    world.advance(Duration::from_secs(30));
    assert_eq!(world.stands(DAVE, thread), None);
    assert_eq!(world.events(DAVE, |event| matches!(event, Event::InvitationRefused { .. })), 1);
}

#[test]
fn t37_what_is_said_counts_by_the_policy_of_the_epoch_it_was_said_in() {
    let (mut world, thread) = group();
    let said = |world: &mut World<StandInEngine>, text: &str| {
        let hlc = whimbrel_protocol::time::Hlc { millis: world.now.wall.as_millis() + 1, ..Default::default() };
        let id = whimbrel_protocol::id::MessageId::from_bytes([text.len() as u8; 16]);
        let content = whimbrel_protocol::canonical::encode(&Content::new(id, hlc, Body::Title(text.to_owned())));
        let mut envelope = seal_as(world, BOB, thread, &[&content]).remove(0);
        envelope.class = Class::Control;
        envelope
    };
    // As a member, as an admin, and as a member again; all of it comes at the end.
    let early = said(&mut world, "too early");
    promote(&mut world, ALICE, thread, &[BOB]);
    world.advance(Duration::from_secs(5));
    let good = said(&mut world, "as an admin");
    demote(&mut world, ALICE, thread, &[BOB]);
    world.advance(Duration::from_secs(5));
    let late = said(&mut world, "far too late for it");
    let author = world.id(BOB);
    for (envelope, expected) in [(early, "Sailing"), (late, "Sailing"), (good, "as an admin")] {
        assert!(envelope.epoch > Epoch::new(0));
        world.inject(thread, author, envelope);
        world.advance(Duration::from_secs(1));
        for who in [ALICE, CAROL] {
            assert_eq!(title(&world, who, thread).as_deref(), Some(expected), "{who}");
        }
    }
}

#[test]
fn a_change_of_policy_survives_a_crash_at_any_input() {
    for inputs in 0..10 {
        for who in [ALICE, BOB] {
            let (mut world, thread) = group();
            world.people[who].crash = Some((inputs, super::world::Crash::Kept));
            let change = PolicyChange { admins: world.people(&[BOB]), ..PolicyChange::default() };
            world.command(ALICE, Command::SetPolicy { thread, change: change.clone() });
            world.advance(Duration::from_secs(90));
            world.people[who].crash = None;
            let again = world.command(ALICE, Command::SetPolicy { thread, change });
            world.advance(Duration::from_secs(90));
            assert!(world.answer(ALICE, again).is_some(), "after {inputs} at {who}");
            for one in [ALICE, BOB, CAROL] {
                assert_eq!(policy(&world, one, thread), of(&world, &[ALICE, BOB]), "after {inputs} at {who}");
                assert_eq!(world.stands(one, thread), Some((Standing::Open, 2, 3)), "after {inputs} at {who}");
            }
            let key = rows::change_key(&thread);
            assert!(world.store(ALICE).get(&key).unwrap().is_none(), "nothing is left of it");
        }
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nof a boat";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0of another";

fn picture(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Option<Vec<u8>> {
    views::picture(world.store(who), &thread).unwrap()
}

#[test]
fn whoever_says_the_title_gives_the_picture_and_newcomers_see_it_too() {
    let (mut world, thread) = group();
    let set = |picture: &[u8]| Command::SetPicture { thread, picture: Some(picture.to_vec()) };
    assert!(matches!(world.ask(BOB, set(JPEG)), Err(CommandError::State(_))), "he is no admin");
    assert!(matches!(world.ask(ALICE, set(b"<svg/>")), Err(CommandError::State(_))), "it is no picture");
    let max = limits::PICTURE_BYTES_MAX;
    let long = [PNG, &vec![0; max]].concat();
    assert_eq!(world.ask(ALICE, set(&long)), Err(CommandError::TooLong { what: "a picture", max }));
    assert_eq!(world.ask(ALICE, set(PNG)), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    for who in [ALICE, BOB, CAROL, DAVE] {
        assert_eq!(picture(&world, who, thread).as_deref(), Some(PNG), "{who}");
    }
    let told = |event: &Event| matches!(event, Event::PictureChanged { .. });
    assert_eq!((world.events(BOB, told), world.events(DAVE, told)), (1, 1), "who heard it before is not told again");
    assert_eq!(title(&world, DAVE, thread).as_deref(), Some("Sailing"));
    assert_eq!(world.ask(ALICE, Command::SetPicture { thread, picture: None }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    for who in [ALICE, BOB, CAROL, DAVE] {
        assert_eq!(picture(&world, who, thread), None, "{who}");
    }
}

#[test]
fn a_picture_by_somebody_who_may_give_none_or_that_is_none_or_older_is_not_kept() {
    let (mut world, thread) = group();
    let set = Command::SetPicture { thread, picture: Some(PNG.to_vec()) };
    assert_eq!(world.ask(ALICE, set), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    let said = |id: u8, millis, bytes: &[u8]| {
        let hlc = whimbrel_protocol::time::Hlc { millis, count: 0 };
        let id = whimbrel_protocol::id::MessageId::from_bytes([id; 16]);
        whimbrel_protocol::canonical::encode(&Content::new(id, hlc, Body::Picture(Some(bytes.to_vec()))))
    };
    let late = world.now.wall.as_millis() + 1_000;
    for (who, content) in
        [(BOB, said(1, late, JPEG)), (ALICE, said(2, late, b"MZ a program")), (ALICE, said(3, 1, JPEG))]
    {
        let by = world.id(who);
        let envelope = seal_as(&mut world, who, thread, &[&content]).remove(0);
        world.inject(thread, by, envelope);
        world.advance(Duration::from_secs(1));
        assert_eq!(picture(&world, CAROL, thread).as_deref(), Some(PNG), "{who}");
    }
}
