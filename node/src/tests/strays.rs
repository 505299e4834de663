//! Devices of others that are off their account: who takes them out, when, and by what.

use std::time::Duration;

use whimbrel_crypto::{AccountLog, Chance, Change, Context, Engine as _, Seed, StandInEngine, UnverifiedLog};
use whimbrel_protocol::Frame;
use whimbrel_protocol::hub::{Commit, FIRST_TERM, SubmitCommit, Warrant};
use whimbrel_protocol::id::{LogHash, RequestId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::user::LogGrown;
use whimbrel_storage::Overlay;

use super::groups::group;
use super::siblings::two_devices;
use super::world::{ALICE, BOB, CAROL, World};
use crate::api::{Command, Event, Reply};
use crate::identity::Identity;
use crate::thread;
use crate::views;

const LONG_ENOUGH: Duration = limits::STRAYS_WAIT.saturating_add(limits::STRAYS_SPREAD);

impl World<StandInEngine> {
    /// How many leaves a thread has, as somebody has it.
    fn leaves_of(&self, who: usize, thread: ThreadId) -> usize {
        views::leaves(self.store(who), &thread).unwrap().len()
    }

    /// An account's log as its relay has it.
    fn shown_log(&self, who: usize) -> AccountLog {
        UnverifiedLog(self.relay.accounts[&self.people[who].account].log.clone()).verify().unwrap()
    }

    /// Takes a device off its account, and its owner's other one away before that has changed a thread.
    fn revoke_and_go(&mut self, owner: usize, device: usize) {
        self.relay.refuse.insert("SubmitCommit", (RefusalCode::Busy, Some(600_000)));
        let index = self.people[device].index;
        assert_eq!(self.ask(owner, Command::RevokeDevice(index)), Ok(Reply::Done));
        self.relay_gone_for(owner);
        self.relay.refuse.clear();
    }

    /// What the relay says to whoever is there.
    fn tell_grown(&mut self, who: usize, of: usize, thread: ThreadId) {
        let (seq, hash) = self.shown_log(of).head();
        let account = self.people[of].account;
        self.say_to(who, LogGrown { thread, account, seq, hash });
        self.settle();
    }

    /// Hands in a commit by which the phone goes, with this log: the hub of this world judges nothing.
    fn hand_in_with(&mut self, who: usize, thread: ThreadId, out: usize, log: Option<&AccountLog>) {
        let identity = Identity::load(self.store(who)).unwrap();
        let row = thread::get(self.store(who), &thread).unwrap().unwrap();
        let removed = vec![self.id(out)];
        let mut chance = Chance::from_seed(Seed::from_bytes([66; 32]));
        let now = self.now;
        let mut rows = Overlay::new(self.store(who));
        let mut cx = Context { rows: &mut rows, chance: &mut chance, now };
        let change = Change { removes: &removed, ..Change::default() };
        let made = StandInEngine::new().change(&mut cx, &identity.own(), thread, change).unwrap();
        let commit = Commit {
            thread,
            term: FIRST_TERM,
            epoch: row.epoch,
            bytes: made.commit,
            added: Vec::new(),
            removed,
            info: made.info,
            warrant: log.map(|log| Warrant::Revoked(log.bytes().into())),
        };
        self.submit_commit(
            who,
            SubmitCommit { request: RequestId::new(9_000), commit: Box::new(commit), newcomers: None },
        );
        self.advance(Duration::from_secs(2));
    }
}

/// Carol's group of Alice, who has two devices, and Bob.
fn carols_group() -> (World<StandInEngine>, ThreadId, usize) {
    let (mut world, _, phone) = two_devices();
    world.befriend(CAROL, ALICE);
    world.befriend(CAROL, BOB);
    let people = world.people(&[ALICE, BOB]);
    let made = world.ask(CAROL, Command::CreateGroup { title: "Sailing".to_owned(), people });
    let Ok(Reply::Group { thread }) = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(60));
    (world, thread, phone)
}

#[test]
fn t46_the_other_of_two_people_takes_a_revoked_device_out_should_nobody_of_its_account() {
    let (mut world, thread, phone) = two_devices();
    world.revoke_and_go(ALICE, phone);
    world.tell_grown(BOB, ALICE, thread);
    // It is left to her own devices for a while.
    world.advance(limits::STRAYS_WAIT - Duration::from_millis(1));
    assert_eq!(world.leaves_of(BOB, thread), 3);
    world.advance(LONG_ENOUGH);
    assert_eq!(world.leaves_of(BOB, thread), 2);
    // She follows it, and has nothing left to do; they go on.
    world.relay_back_for(ALICE);
    assert_eq!(world.leaves_of(ALICE, thread), 2);
    let epochs = [ALICE, BOB].map(|who| thread::get(world.store(who), &thread).unwrap().unwrap().epoch);
    assert_eq!(epochs[0], epochs[1]);
    world.say(BOB, thread, "and on");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.history(ALICE, thread), ["and on"]);
    assert_eq!(world.history(phone, thread), Vec::<String>::new());
}

#[test]
fn a_device_of_its_account_is_faster_and_nobody_else_commits() {
    let (mut world, thread, phone) = two_devices();
    let index = world.people[phone].index;
    world.ask(ALICE, Command::RevokeDevice(index)).unwrap();
    world.tell_grown(BOB, ALICE, thread);
    world.advance(LONG_ENOUGH);
    assert_eq!(world.leaves_of(BOB, thread), 2);
    let commits = world.relay.threads[&thread].1.iter();
    let commits = commits.filter(|body| matches!(body, whimbrel_protocol::push::EntryBody::Commit(_))).count();
    assert_eq!(commits, 2, "one that took it in, one that took it out");
}

#[test]
fn a_member_who_is_no_admin_takes_a_revoked_device_out_while_the_admin_is_away() {
    let (mut world, thread, phone) = carols_group();
    assert_eq!(world.leaves_of(BOB, thread), 4);
    world.relay_gone_for(CAROL);
    world.revoke_and_go(ALICE, phone);
    world.tell_grown(BOB, ALICE, thread);
    world.advance(LONG_ENOUGH);
    assert_eq!(world.leaves_of(BOB, thread), 3);
    for who in [ALICE, CAROL] {
        world.relay_back_for(who);
        assert_eq!(world.leaves_of(who, thread), 3);
    }
}

#[test]
fn a_member_who_is_no_admin_takes_out_who_leaves_while_the_admin_is_away() {
    for away in [true, false] {
        let (mut world, thread) = group();
        if away {
            world.relay_gone_for(ALICE);
        }
        world.ask(CAROL, Command::LeaveGroup { thread }).unwrap();
        world.advance(limits::STRAYS_WAIT - Duration::from_millis(1));
        assert_eq!(world.leaves_of(BOB, thread), if away { 3 } else { 2 });
        world.advance(LONG_ENOUGH);
        assert_eq!(world.leaves_of(BOB, thread), 2);
        if away {
            world.relay_back_for(ALICE);
        }
        let views = [ALICE, BOB].map(|who| (world.leaves_of(who, thread), world.stands(who, thread)));
        assert_eq!(views[0], views[1]);
        assert_eq!(world.events(CAROL, |event| matches!(event, Event::GroupLeft { .. })), 1);
        assert!(views[0].1.unwrap().1 == 2, "one commit, not two: {views:?}");
    }
}

#[test]
fn who_asked_to_go_by_one_device_can_ask_again_by_another_and_goes_by_that() {
    let (mut world, thread, phone) = carols_group();
    world.relay_gone_for(CAROL);
    let by = |world: &World<StandInEngine>| {
        let row = thread::get(world.store(BOB), &thread).unwrap().unwrap();
        row.going.iter().map(|words| words.by).collect::<Vec<_>>()
    };
    for who in [phone, ALICE] {
        assert_eq!(world.ask(who, Command::LeaveGroup { thread }), Ok(Reply::Done));
        world.advance(Duration::from_secs(2));
        assert_eq!(by(&world), [world.id(who)]);
    }
    world.advance(LONG_ENOUGH);
    assert_eq!(world.leaves_of(BOB, thread), 2);
    world.relay_back_for(CAROL);
    assert_eq!(world.leaves_of(CAROL, thread), 2);
}

#[test]
fn who_comes_back_is_not_taken_out_by_the_word_by_which_they_left() {
    let (mut world, thread) = group();
    world.relay_gone_for(ALICE);
    world.ask(CAROL, Command::LeaveGroup { thread }).unwrap();
    world.advance(LONG_ENOUGH);
    world.relay_back_for(ALICE);
    let people = world.people(&[CAROL]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(2));
    world.kill(BOB);
    world.open(BOB);
    world.settle();
    world.advance(LONG_ENOUGH * 2);
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.leaves_of(who, thread), 3, "{who}");
    }
}

#[test]
fn what_a_node_was_to_take_out_it_takes_out_after_a_start_too() {
    let (mut world, thread, phone) = two_devices();
    world.revoke_and_go(ALICE, phone);
    world.tell_grown(BOB, ALICE, thread);
    world.kill(BOB);
    world.open(BOB);
    world.settle();
    world.advance(LONG_ENOUGH);
    assert_eq!(world.leaves_of(BOB, thread), 2);
}

#[test]
fn a_relays_word_that_a_log_goes_on_is_looked_up_once_a_minute_and_believed_by_nobody() {
    let (mut world, thread, _) = two_devices();
    let account = world.people[ALICE].account;
    let asked = |world: &World<StandInEngine>| {
        world.relay.heard.iter().filter(|(who, frame)| *who == BOB && matches!(frame, Frame::LookUp(_))).count()
    };
    let (seq, hash) = world.shown_log(ALICE).head();
    let before = asked(&world);
    world.say_to(BOB, LogGrown { thread, account, seq, hash });
    world.settle();
    assert_eq!(asked(&world), before, "known already");
    let (seq, hash) = (u64::MAX, LogHash::from_bytes([9; 32]));
    for _ in 0..3 {
        world.say_to(BOB, LogGrown { thread, account, seq, hash });
    }
    world.say_to(BOB, LogGrown { thread, account: world.people[CAROL].account, seq, hash });
    world.settle();
    for _ in 0..5 {
        world.advance(Duration::from_secs(5));
        world.say_to(BOB, LogGrown { thread, account, seq, hash });
        world.settle();
    }
    assert_eq!(asked(&world) - before, 1, "once a minute");
    world.advance(limits::HINT_AGAIN);
    world.say_to(BOB, LogGrown { thread, account, seq, hash });
    world.settle();
    world.advance(Duration::from_secs(3_600));
    assert_eq!(asked(&world) - before, 2);
    assert_eq!(world.events(BOB, |event| matches!(event, Event::LogWithheld { .. })), 0);
    assert_eq!(world.leaves_of(BOB, thread), 3);
}

#[test]
fn t37_a_commit_that_takes_out_another_is_followed_with_a_log_that_shows_why_and_not_otherwise() {
    let revoked = |world: &World<StandInEngine>, phone: usize| {
        let mut log = world.shown_log(ALICE);
        let identity = Identity::load(world.store(ALICE)).unwrap();
        log.revoke_device(&identity.identity_key().unwrap(), world.people[phone].index, Default::default()).unwrap();
        log
    };
    for kind in 0..4 {
        let (mut world, thread, phone) = two_devices();
        let good = revoked(&world, phone);
        let log = match kind {
            0 => Some(good),
            1 => None,
            2 => Some(world.shown_log(ALICE)),
            _ => Some(world.shown_log(BOB)),
        };
        let before = thread::get(world.store(ALICE), &thread).unwrap().unwrap().epoch;
        world.hand_in_with(BOB, thread, phone, log.as_ref());
        // By her own log it is her device, so she takes it in again.
        let after = thread::get(world.store(ALICE), &thread).unwrap().unwrap().epoch;
        assert_eq!(after > before, kind == 0, "{kind}");
        let told = world.events(ALICE, |event| matches!(event, Event::Unreadable { .. }));
        assert_eq!(told == 0, kind == 0, "{kind}");
    }
}
