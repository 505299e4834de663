//! Leaves that came of a last-resort KeyPackage: renewed once, whatever happens meanwhile, and no others are.

use std::time::Duration;

use whimbrel_crypto::{Engine, MlsEngine, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_protocol::refusal::RefusalCode;

use super::world::{ALICE, BOB, CAROL, Crash, World, world};
use crate::api::{Command, Reply};
use crate::views::Standing;

impl<E: Engine> World<E> {
    /// Their one-time keys are gone: the next who asks is handed the last resort.
    fn run_out(&mut self, who: usize) {
        let account = self.people[who].account;
        self.relay.accounts.get_mut(&account).unwrap().packages.clear();
    }

    /// Commits of a thread by somebody that change nobody, and by anybody.
    fn renewals(&self, who: usize, thread: ThreadId) -> (usize, usize) {
        let log = &self.relay.threads[&thread].1;
        let commits = log.iter().filter_map(|body| match body {
            whimbrel_protocol::push::EntryBody::Commit(one) => Some(one),
            _ => None,
        });
        let own = |one: &&whimbrel_protocol::hub::Accepted| {
            one.author == self.id(who) && one.commit.added.is_empty() && one.commit.removed.is_empty()
        };
        (commits.clone().filter(own).count(), commits.count())
    }

    fn handed_in(&self, who: usize) -> usize {
        let heard = self.relay.heard.iter();
        heard.filter(|(by, frame)| *by == who && matches!(frame, Frame::SubmitCommit(_))).count()
    }

    fn both_hear(&mut self, thread: ThreadId, text: &str) {
        for (who, other) in [(ALICE, BOB), (BOB, ALICE)] {
            self.say(who, thread, &format!("{who}: {text}"));
            self.advance(Duration::from_secs(1));
            assert_eq!(self.history(other, thread).last(), Some(&format!("{who}: {text}")));
        }
    }
}

fn renewed_once<E: Engine>(engine: fn() -> E) {
    let mut world = World::new(&["a.example"; 3], engine);
    // By a key of its own: nothing is renewed.
    let fresh = world.befriend(CAROL, BOB);
    world.advance(Duration::from_secs(120));
    assert_eq!(world.renewals(BOB, fresh), (0, 0));
    world.run_out(BOB);
    let thread = world.befriend(ALICE, BOB);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.renewals(BOB, thread), (1, 1), "by its own first commit");
    for who in [ALICE, BOB] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 2)), "{who}");
    }
    world.both_hear(thread, "in the epoch after");
    // Never again: not with another link, after a start, or in another thread of the same two.
    world.crash_now(BOB);
    world.advance(Duration::from_secs(120));
    assert_eq!((world.renewals(BOB, thread), world.renewals(BOB, fresh)), ((1, 1), (0, 0)));
    world.both_hear(thread, "after a start");
}

#[test]
fn t13_a_device_taken_in_by_its_last_resort_key_renews_its_leaf_by_one_commit() {
    renewed_once(StandInEngine::new);
    renewed_once(MlsEngine::new);
}

fn crashed(after: usize, kind: Crash) -> bool {
    let mut world = world(&["a.example", "a.example"]);
    world.run_out(BOB);
    let invite = world.invite(BOB);
    world.people[BOB].crash = Some((after, kind));
    let Ok(Reply::Contact { thread, .. }) = world.ask(ALICE, Command::AcceptInvite(invite)) else {
        panic!("no thread")
    };
    world.advance(Duration::from_secs(120));
    assert_eq!(world.renewals(BOB, thread), (1, 1), "after {after} {kind:?}");
    world.both_hear(thread, "in the same epoch");
    world.people[BOB].crash.is_none()
}

#[test]
fn t13_the_renewal_is_neither_forgotten_nor_made_twice_by_a_crash_at_any_persist_point() {
    for kind in [Crash::Lost, Crash::Kept] {
        let mut after = 0;
        while after < 40 && crashed(after, kind) {
            after += 1;
        }
        assert!(after > 6, "only {after} persist points");
    }
}

#[test]
fn t13_of_many_in_a_group_by_their_last_resort_each_renews_its_leaf_once() {
    let mut world = world(&["a.example"; 4]);
    let others: Vec<usize> = (1..4).collect();
    for other in &others {
        world.befriend(*other, ALICE);
    }
    others.iter().for_each(|other| world.run_out(*other));
    // All of them come in before the hub hears any: each of them makes its own for the same epoch.
    world.relay.mute.insert("SubmitCommit");
    let people = world.people(&others);
    let made = world.ask(ALICE, Command::CreateGroup { title: "Sailing".to_owned(), people }).unwrap();
    let Reply::Group { thread } = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(1));
    world.relay.mute.clear();
    let (mut held, mut since) = (0, limits::SIBLINGS_AGAIN);
    for _ in 0..8 * limits::SIBLINGS_AGAIN.as_secs() {
        world.advance(Duration::from_secs(1));
        since += Duration::from_secs(1);
        let now = world.renewals(ALICE, thread).1;
        if now > held {
            // Whoever lost waits, and does not make it anew with each commit of another.
            assert!(now == held + 1 && since >= limits::SIBLINGS_AGAIN, "{now} after {held} and {since:?}");
            (held, since) = (now, Duration::ZERO);
        }
    }
    for who in others.iter().copied() {
        assert_eq!(world.renewals(who, thread), (1, others.len()), "{who}");
    }
    for who in 0..4 {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 1 + others.len() as u64, 4)), "{who}");
    }
}

#[test]
fn t13_a_renewal_that_the_hub_refuses_for_good_is_not_repeated() {
    let mut world = world(&["a.example"; 3]);
    world.befriend(BOB, ALICE);
    world.run_out(BOB);
    world.relay.mute.insert("SubmitCommit");
    let people = world.people(&[BOB]);
    let made = world.ask(ALICE, Command::CreateGroup { title: "Sailing".to_owned(), people }).unwrap();
    let Reply::Group { thread } = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(1));
    assert_eq!(world.handed_in(BOB), 1);
    world.relay.mute.clear();
    world.relay.refuse.insert("SubmitCommit", (RefusalCode::Malformed, None));
    world.crash_now(BOB);
    world.advance(Duration::from_secs(600));
    let before = world.handed_in(BOB);
    world.crash_now(BOB);
    world.advance(Duration::from_secs(600));
    assert_eq!(world.handed_in(BOB), before, "refused for good");
    world.relay.refuse.clear();
    world.both_hear(thread, "with the leaf that it came with");
    // The owner may renew it all the same.
    assert_eq!(world.ask(BOB, Command::RenewKeys { thread }), Ok(Reply::Done));
    assert_eq!(world.renewals(BOB, thread), (1, 1));
}
