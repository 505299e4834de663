//! Groups whose members change: handing in, losing, merging, waiting, crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_crypto::{Engine, StandInEngine, receipt};
use whimbrel_protocol::Frame;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::hub::{
    Accepted, CommitLost, CommitTaken, Committed, FIRST_TERM, FetchCommit, Receipt, SignedReceipt, SubmitCommit,
};
use whimbrel_protocol::id::{AccountId, BlobId, DeviceId, DeviceIndex, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Target;
use whimbrel_protocol::push::{EntryBody, Invitation};
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::Participant;
use whimbrel_protocol::user::Who;

use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, Crash, World, relay_identity, world};
use crate::api::{Command, CommandError, Event, Input, Reply};
use crate::rows::{self, SaidRow};
use crate::views::{self, Standing};

const DAVE: usize = 3;

/// The hub's half of the small relay.
impl<E: Engine> World<E> {
    pub(super) fn submit_commit(&mut self, who: usize, words: SubmitCommit) {
        let author = self.id(who);
        let SubmitCommit { request, commit, newcomers } = words;
        let commit = *commit;
        let (opening, log) = self.relay.threads.get_mut(&commit.thread).unwrap();
        let commits = log.iter().filter_map(|body| if let EntryBody::Commit(one) = body { Some(one) } else { None });
        let held: Vec<Accepted> = commits.cloned().collect();
        if let Some(won) = held.iter().find(|one| one.commit.epoch == commit.epoch) {
            let (receipt, won) = (won.receipt.clone(), won.clone());
            return match won.commit == commit {
                true => self.say_to(who, CommitTaken { request, receipt }),
                false => self.say_to(who, CommitLost { request, won: Box::new(won) }),
            };
        }
        let epochs: BTreeSet<Epoch> = held.iter().map(|one| one.commit.epoch).collect();
        assert_eq!(commit.epoch.get(), opening.epoch.get() + epochs.len() as u64, "of an epoch to come");
        let previous = held.last().map(|one| one.commit.hash());
        let (thread, epoch, term) = (commit.thread, commit.epoch, FIRST_TERM);
        let receipt = Receipt { thread, term, epoch, commit: commit.hash(), previous, at: self.now.wall };
        let receipt = signed(receipt);
        for out in &commit.removed {
            let first = self.relay.spans.get(&(thread, *out)).map_or(Epoch::new(0), |(first, _)| *first);
            self.relay.spans.insert((thread, *out), (first, Some(epoch)));
        }
        for one in &mut opening.participants {
            let is_out =
                |index: &DeviceIndex| commit.removed.contains(&DeviceId { account: one.account, index: *index });
            one.devices.retain(|index| !is_out(index));
        }
        opening.participants.retain(|one| !one.devices.is_empty());
        for new in &commit.added {
            match opening.participants.iter_mut().find(|one| one.account == new.account) {
                Some(one) => {
                    one.devices.extend(&new.devices);
                    one.devices.sort();
                }
                None => opening.participants.push(new.clone()),
            }
        }
        opening.participants.sort_by_key(|one| one.account);
        let (participants, founding): (Vec<Participant>, _) =
            (opening.participants.clone(), opening.founding.as_deref().copied());
        log.push(EntryBody::Commit(Accepted { author, commit: commit.clone(), receipt: receipt.clone() }));
        if let Some(bodies) = newcomers {
            let (welcome, tree) = (BlobId::of(&bodies.welcome), BlobId::of(&bodies.tree));
            self.relay.blobs.insert(welcome, bodies.welcome);
            self.relay.blobs.insert(tree, bodies.tree);
            let first = Epoch::new(epoch.get() + 1);
            for one in &commit.added {
                let words = Invitation {
                    thread,
                    epoch: first,
                    inviter: author,
                    participants: participants.clone(),
                    welcome,
                    tree,
                    founding,
                };
                for device in one.ids() {
                    self.relay.spans.insert((thread, device), (first, None));
                }
                self.relay.accounts.get_mut(&one.account).unwrap().inbox.push(EntryBody::Invitation(words));
            }
        }
        self.say_to(who, CommitTaken { request, receipt });
        self.push_all();
    }

    pub(super) fn fetch_commit(&mut self, who: usize, words: &FetchCommit) {
        let FetchCommit { request, thread, epoch } = *words;
        let log = &self.relay.threads[&thread].1;
        let found = log.iter().find_map(|body| match body {
            EntryBody::Commit(one) if one.commit.epoch == epoch => Some(one.clone()),
            _ => None,
        });
        match found {
            Some(accepted) => self.say_to(who, Committed { request, accepted: Box::new(accepted) }),
            None => {
                let (request, code) = (Some(request), RefusalCode::NotFound);
                self.say_to(who, Refused { request, code, retry_after_ms: None });
            }
        }
    }

    pub(super) fn people(&self, who: &[usize]) -> Vec<AccountId> {
        who.iter().map(|one| self.people[*one].account).collect()
    }

    /// How a group stands on somebody's device: epoch, and how many are in it.
    pub(super) fn stands(&self, who: usize, thread: ThreadId) -> Option<(Standing, u64, usize)> {
        let view = views::thread(self.store(who), &thread).unwrap()?;
        Some((view.standing, view.epoch.get(), view.people.len() + 1))
    }
}

/// What the hub of every group here signs.
pub(super) fn signed(words: Receipt) -> Box<SignedReceipt> {
    Box::new(receipt::sign(&relay_identity(&"a.example".parse().unwrap()), words))
}

/// Alice knows everybody; Alice, Bob and Carol are in a group.
pub(super) fn group() -> (World<StandInEngine>, ThreadId) {
    let mut world = world(&["a.example"; 4]);
    for other in [BOB, CAROL, DAVE] {
        world.befriend(other, ALICE);
    }
    let people = world.people(&[BOB, CAROL]);
    let made = world.ask(ALICE, Command::CreateGroup { title: "Sailing".to_owned(), people }).unwrap();
    let Reply::Group { thread } = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(1));
    (world, thread)
}

#[test]
fn a_group_is_made_all_the_same_when_the_relay_takes_its_requests_slowly() {
    let (mut world, _) = group();
    let people = world.people(&[BOB, CAROL]);
    for slow in ["LookUp", "ClaimKeyPackages"] {
        let before = world.relay.heard.iter().filter(|(_, frame)| frame.name() == slow).count();
        world.relay.refuse.insert(slow, (RefusalCode::TooFast, Some(1_000)));
        let made = world.command(ALICE, Command::CreateGroup { title: slow.to_owned(), people: people.clone() });
        world.advance(Duration::from_secs(30));
        assert_eq!(world.answer(ALICE, made), None, "{slow}");
        // One after the other, at the pace the relay named: all at once would only be refused again.
        let asked = world.relay.heard.iter().filter(|(_, frame)| frame.name() == slow).count();
        assert!(asked - before <= 2 + 30, "{slow}: {asked} after {before}");
        world.relay.refuse.clear();
        world.advance(Duration::from_secs(5));
        assert!(matches!(world.answer(ALICE, made), Some(Ok(Reply::Group { .. }))), "{slow}");
    }
    // Nor is it given up because a relay has too much to do to answer in time: the answer is taken when it comes.
    world.relay.mute.insert("ClaimKeyPackages");
    let made = world.command(ALICE, Command::CreateGroup { title: "late".to_owned(), people: people.clone() });
    world.advance(3 * limits::ANSWER_TIME_MAX);
    assert_eq!(world.answer(ALICE, made), None);
    world.relay.mute.clear();
    let asked = world.relay.heard.iter().rev().filter(|(_, frame)| frame.name() == "ClaimKeyPackages").take(2);
    let asked: Vec<_> = asked.cloned().collect();
    for (who, frame) in asked {
        world.serve(who, frame);
    }
    world.settle();
    assert!(matches!(world.answer(ALICE, made), Some(Ok(Reply::Group { .. }))));
    // It does not wait for ever, and what one person waits for is theirs to say again.
    world.relay.refuse.insert("ClaimKeyPackages", (RefusalCode::TooFast, Some(1_000)));
    let made = world.command(ALICE, Command::CreateGroup { title: "never".to_owned(), people: people.clone() });
    world.advance(2 * limits::GATHERING_TIME_MAX);
    assert!(matches!(world.answer(ALICE, made), Some(Err(CommandError::TooFast { .. }))));
    let told = world.ask(ALICE, Command::SendTo { people, text: "now?".to_owned() });
    assert!(matches!(told, Err(CommandError::TooFast { .. })), "{told:?}");
}

#[test]
fn a_change_counts_at_its_author_when_it_comes_with_the_log_and_no_sooner() {
    let (mut world, thread) = group();
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 1, 3)));
    assert_eq!(views::thread(world.store(BOB), &thread).unwrap().unwrap().title.as_deref(), Some("Sailing"));
    world.relay.mute.insert("Push");
    let people = world.people(&[DAVE]);
    let ticket = world.command(ALICE, Command::AddMembers { thread, people });
    world.advance(Duration::from_secs(3));
    let taken = world.relay.said.iter().any(|frame| matches!(frame, Frame::CommitTaken(_)));
    assert_eq!((taken, world.answer(ALICE, ticket)), (true, None));
    assert_eq!(world.stands(ALICE, thread), Some((Standing::Open, 1, 3)));
    // What it says meanwhile is of the epoch it is in.
    world.say(ALICE, thread, "before");
    assert_eq!(world.submits(ALICE).last().unwrap().epoch, Epoch::new(1));
    world.relay.mute.clear();
    world.push_all();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.answer(ALICE, ticket), Some(Ok(Reply::Done)));
    for who in [ALICE, BOB, CAROL, DAVE] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 4)), "{who}");
    }
    world.say(DAVE, thread, "hello");
    assert_eq!((world.shown(BOB), world.shown(DAVE)), (vec!["before", "hello"], vec![]));
    assert_eq!(views::thread(world.store(DAVE), &thread).unwrap().unwrap().title.as_deref(), Some("Sailing"));
}

#[test]
fn whoever_loses_the_race_makes_its_change_anew() {
    let (mut world, thread) = group();
    world.relay.mute.insert("SubmitCommit");
    let people = world.people(&[DAVE]);
    let add = world.command(ALICE, Command::AddMembers { thread, people });
    world.relay.mute.clear();
    let renewed = world.ask(BOB, Command::RenewKeys { thread });
    assert_eq!(renewed, Ok(Reply::Done));
    world.advance(limits::ANSWER_TIME_MAX + limits::COMMIT_WAIT);
    assert_eq!(world.answer(ALICE, add), Some(Ok(Reply::Done)));
    for who in [ALICE, BOB, CAROL, DAVE] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 3, 4)), "{who}");
    }
    world.say(DAVE, thread, "in");
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.shown(who), ["in"]);
    }
}

#[test]
fn a_crash_at_any_input_of_a_change_leaves_one_change() {
    for kind in [Crash::Lost, Crash::Kept] {
        for inputs in 0..12 {
            for who in [ALICE, BOB, DAVE] {
                let (mut world, thread) = group();
                let people = world.people(&[DAVE]);
                world.people[who].crash = Some((inputs, kind));
                world.command(ALICE, Command::AddMembers { thread, people: people.clone() });
                world.advance(Duration::from_secs(90));
                world.people[who].crash = None;
                // A command that died with its node is given again; one that did not is done already.
                let again = world.command(ALICE, Command::AddMembers { thread, people });
                world.advance(Duration::from_secs(90));
                assert!(world.answer(ALICE, again).is_some(), "{kind:?} after {inputs} at {who}");
                world.say(BOB, thread, "to all");
                world.advance(Duration::from_secs(60));
                for one in [ALICE, BOB, CAROL, DAVE] {
                    let (standing, epoch, members) = world.stands(one, thread).unwrap();
                    assert_eq!((standing, epoch, members), (Standing::Open, 2, 4), "{kind:?} after {inputs} at {who}");
                    assert_eq!(world.history(one, thread), ["to all"], "{kind:?} after {inputs} at {who}");
                }
            }
        }
    }
}

#[test]
fn what_comes_behind_a_change_waits_on_disk_until_its_newcomers_are_proved() {
    let (mut world, thread) = group();
    world.relay.mute.insert("LookUp");
    // Alice knows Dave's log: only the others have to ask.
    let people = world.people(&[DAVE]);
    let log = world.relay.accounts[&people[0]].log.clone();
    assert!(!log.is_empty());
    let add = world.command(ALICE, Command::AddMembers { thread, people: people.clone() });
    world.advance(Duration::from_secs(1));
    world.relay.mute.clear();
    world.advance(limits::GATHERING_TIME_MAX + limits::ANSWER_TIME_MAX);
    if world.answer(ALICE, add).is_none_or(|answer| answer.is_err()) {
        assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    }
    world.relay.mute.insert("LookUp");
    world.say(ALICE, thread, "behind");
    world.kill(BOB);
    world.open(BOB);
    world.relay.mute.clear();
    world.advance(limits::LINK_IDLE_MAX * 3);
    for who in [BOB, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 4)));
        assert_eq!(world.history(who, thread), ["behind"]);
    }
}

#[test]
fn t06_a_commit_that_the_log_leaves_out_is_asked_for() {
    let (mut world, thread) = group();
    world.relay.hide_commits_from.insert(world.people[BOB].account);
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    // The title is said again in the next epoch, which he has not reached: he asks.
    world.say(ALICE, thread, "of the next epoch");
    world.advance(Duration::from_secs(1));
    let asked = |(who, frame): &(usize, Frame)| *who == BOB && matches!(frame, Frame::FetchCommit(_));
    assert!(world.relay.heard.iter().any(asked));
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 4)));
    assert_eq!(world.shown(BOB), ["of the next epoch"]);
}

#[test]
fn a_commit_that_is_not_to_be_had_is_asked_for_soon_and_then_ever_more_seldom_up_to_every_minute() {
    let (mut world, thread) = group();
    world.relay.hide_commits_from.insert(world.people[BOB].account);
    world.relay.refuse.insert("FetchCommit", (RefusalCode::NotFound, None));
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.say(ALICE, thread, "of the next epoch");
    let asked = |world: &World<StandInEngine>| {
        let by_bob = |(who, frame): &&(usize, Frame)| *who == BOB && matches!(frame, Frame::FetchCommit(_));
        world.relay.heard.iter().filter(by_bob).count()
    };
    world.advance(Duration::from_secs(1));
    assert_eq!(asked(&world), 1);
    for (times, wait) in (2..).zip([5, 10, 20, 40, 60, 60]) {
        world.advance(Duration::from_secs(wait - 2));
        assert_eq!(asked(&world), times - 1, "before {wait} s");
        world.advance(Duration::from_secs(2));
        assert_eq!(asked(&world), times, "after {wait} s");
    }
    world.relay.refuse.clear();
    world.advance(limits::LINK_IDLE_MAX);
    assert_eq!(world.shown(BOB), ["of the next epoch"]);
}

#[test]
fn whoever_is_taken_out_is_told_and_writes_no_more() {
    let (mut world, thread) = group();
    let people = world.people(&[BOB]);
    assert_eq!(world.ask(ALICE, Command::RemoveMembers { thread, people: people.clone() }), Ok(Reply::Done));
    assert_eq!(world.stands(BOB, thread).unwrap().0, Standing::Left);
    assert_eq!(world.events(BOB, |event| matches!(event, Event::GroupLeft { .. })), 1);
    assert!(world.ask(BOB, Command::Send { thread, text: "in?".to_owned() }).is_err());
    world.say(CAROL, thread, "without him");
    assert_eq!(world.history(BOB, thread), [""; 0]);
    // And in again.
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    world.say(BOB, thread, "back");
    assert_eq!(world.history(CAROL, thread), ["without him", "back"]);
    assert_eq!(world.history(BOB, thread), ["back"]);
}

#[test]
fn what_was_sealed_for_an_earlier_leaf_is_passed_over_when_it_comes_after_the_device_is_in_again() {
    let (mut world, thread) = group();
    let late = seal_as(&mut world, CAROL, thread, &[b"sealed before she heard"]).remove(0);
    let people = world.people(&[BOB]);
    assert_eq!(world.ask(ALICE, Command::RemoveMembers { thread, people: people.clone() }), Ok(Reply::Done));
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    // On a direct link it is not taken: "taken" would be "delivered" to its author.
    world.link(ALICE, BOB);
    world.settle();
    let link = *world.people[BOB].direct.keys().next().unwrap();
    world.direct_flows = false;
    world.input(BOB, Input::Frame { link, frame: Frame::DirectEnvelope(DirectEnvelope { envelope: late.clone() }) });
    world.settle();
    assert!(matches!(world.direct_lost[..], [Frame::DirectRefused(_)]), "{:?}", world.direct_lost);
    let carol = world.id(CAROL);
    let bob = world.id(BOB);
    world.relay.spans.remove(&(thread, bob));
    world.relay.threads.get_mut(&thread).unwrap().1.push(EntryBody::Envelope(carol, late));
    world.push_all();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.events(BOB, |event| matches!(event, Event::Unreadable { .. })), 0);
    world.say(ALICE, thread, "and now");
    assert_eq!(world.history(BOB, thread), ["and now"]);
}

#[test]
fn only_the_admin_changes_who_is_in_it_and_takes_out_who_asks_for_it() {
    let (mut world, thread) = group();
    let people = world.people(&[ALICE]);
    for command in [Command::AddMembers { thread, people: people.clone() }, Command::RemoveMembers { thread, people }] {
        assert!(matches!(world.ask(BOB, command), Err(CommandError::State(_))));
    }
    assert!(matches!(world.ask(ALICE, Command::LeaveGroup { thread }), Err(CommandError::State(_))));
    assert_eq!(world.ask(BOB, Command::LeaveGroup { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.stands(BOB, thread).unwrap().0, Standing::Left);
    for who in [ALICE, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 2)));
    }
}

/// What Carol sealed in the first epoch is refused now, and goes out in the second.
fn carol_seals_again_when_refused(world: &mut World<StandInEngine>, code: RefusalCode) {
    world.relay.mute.clear();
    world.relay.refuse.insert("Submit", (code, None));
    world.lose_home(CAROL);
    world.advance(Duration::from_secs(10));
    let sealed: Vec<u64> = world.submits(CAROL).iter().map(|envelope| envelope.epoch.get()).collect();
    assert!(sealed.contains(&1) && sealed.last() == Some(&2), "{sealed:?}");
}

#[test]
fn a_message_sealed_too_long_ago_is_sealed_again_under_its_id() {
    let (mut world, thread) = group();
    world.relay.mute.insert("Submit");
    let message = world.say(CAROL, thread, "late");
    assert_eq!(world.ask(BOB, Command::RenewKeys { thread }), Ok(Reply::Done));
    carol_seals_again_when_refused(&mut world, RefusalCode::StaleEpoch);
    // Of the present epoch already: nothing would come of a third time.
    assert!(matches!(world.state(CAROL, message), Some(crate::api::State::Failed(RefusalCode::StaleEpoch))));
}

#[test]
fn a_sign_that_no_relay_has_yet_is_sealed_again_for_whoever_came_meanwhile() {
    let (mut world, thread) = group();
    let to = Target { message: world.say(ALICE, thread, "shall we?"), author: world.id(ALICE) };
    let react = |sign: &str| Command::React { to, sign: sign.to_owned(), stands: true };
    // One that is stored is not for those who come later; of one that is not, nobody has said so.
    assert!(matches!(world.ask(CAROL, react("?")), Ok(Reply::Queued { .. })));
    world.advance(Duration::from_secs(1));
    let waits = |counter| {
        rows::get::<SaidRow>(world.store(CAROL), &rows::said_key(&thread, counter)).unwrap().map(|said| said.waits)
    };
    assert_eq!([waits(1), waits(2)], [Some(false), None]);
    world.relay.mute.insert("Submit");
    assert!(matches!(world.ask(CAROL, react("!")), Ok(Reply::Queued { .. })));
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    carol_seals_again_when_refused(&mut world, RefusalCode::StaleEpoch);
}

#[test]
fn whoever_was_taken_out_before_they_heard_of_it_is_told_that_what_they_said_failed_and_why() {
    let (mut world, thread) = group();
    world.relay.refuse.insert("Submit", (RefusalCode::Removed, None));
    let message = world.say(CAROL, thread, "still here?");
    world.advance(Duration::from_secs(10));
    assert!(matches!(world.state(CAROL, message), Some(crate::api::State::Failed(RefusalCode::Removed))));
    // It is not handed in over and over.
    assert_eq!(world.submits(CAROL).len(), 1);
}

#[test]
fn whoever_is_in_again_says_with_the_new_leaf_what_was_refused_of_the_old_one() {
    let (mut world, thread) = group();
    world.relay.mute.insert("Submit");
    let message = world.say(CAROL, thread, "late");
    assert_eq!(world.ask(BOB, Command::RenewKeys { thread }), Ok(Reply::Done));
    carol_seals_again_when_refused(&mut world, RefusalCode::Removed);
    assert!(matches!(world.state(CAROL, message), Some(crate::api::State::Failed(RefusalCode::Removed))));
}

#[test]
fn what_somebody_who_is_blocked_says_in_a_group_is_hidden_from_whoever_blocked_them_alone() {
    let (mut world, thread) = group();
    let bob = Who::Account(world.people[BOB].account, "a.example".parse().unwrap());
    let block = |world: &mut World<StandInEngine>, blocked| {
        world.ask(ALICE, Command::Block { who: bob.clone(), blocked }).unwrap();
    };
    let lines = |world: &World<StandInEngine>, who| {
        let lines = views::messages(world.store(who), &thread, views::Page::Oldest, 9).unwrap();
        lines.into_iter().map(|line| (line.message.text, line.message.hidden)).collect::<Vec<_>>()
    };
    let said = |hidden| [("psst".to_owned(), hidden), ("hello".to_owned(), false)];
    block(&mut world, true);
    let message = world.say(BOB, thread, "psst");
    world.advance(Duration::from_secs(1));
    world.say(CAROL, thread, "hello");
    world.advance(Duration::from_secs(60));
    assert_eq!((lines(&world, ALICE), lines(&world, CAROL)), (said(true).into(), said(false).into()));
    // What is hidden is no news; and for whoever said it nothing is otherwise than before.
    assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 1);
    assert!(matches!(world.state(BOB, message), Some(crate::api::State::Delivered)), "{:?}", world.state(BOB, message));
    world.crash_now(ALICE);
    world.advance(Duration::from_secs(1));
    assert_eq!(lines(&world, ALICE), said(true));
    block(&mut world, false);
    assert_eq!(lines(&world, ALICE), said(false));
}
