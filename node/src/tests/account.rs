//! The own account log: growing it, losing answers, crashes at every persist point, and who hears of it.

use std::time::Duration;

use whimbrel_crypto::{Chance, Engine, RecoveryPhrase, Relation, Seed, StandInEngine, UnverifiedLog};
use whimbrel_protocol::id::{DeviceId, DeviceIndex, Sequence};
use whimbrel_protocol::reception::{Done, Refused};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::user::{ExtendLog, OwnLog};
use whimbrel_storage::{Kv, MemoryEngine, OrderedKv as _};

use super::world::{ALICE, BOB, Crash, World, friends, relay_link, world};
use crate::api::{Command, CommandError, Event, Reply};
use crate::identity::{self, Recovery};
use crate::views::{self, Trust};

impl<E: Engine> World<E> {
    /// What a relay does with entries of an account's log, whoever brings them.
    pub(super) fn extend_log(&mut self, who: usize, words: &ExtendLog) {
        let row = self.relay.accounts.get_mut(&words.account).unwrap();
        let known = UnverifiedLog(row.log.clone()).verify().unwrap();
        let request = words.request;
        if known.hash_at(words.after) == Some(words.hash) && known.tail(words.after) == words.entries {
            return self.say_to(who, Done { request });
        }
        if known.head() != (words.after, words.hash) {
            let log = row.log.clone();
            self.say_to(who, OwnLog { log });
            return self
                .say_to(who, Refused { request: Some(request), code: RefusalCode::Exists, retry_after_ms: None });
        }
        let after = known.extended(&words.entries).unwrap();
        row.log = after.bytes();
        let log = row.log.clone();
        // What was put into the inbox before a device came is not for it.
        let inbox = Sequence::new(row.inbox.len() as u64);
        for index in after.devices().map(|device| device.index).filter(|index| known.device(*index).is_none()) {
            let device = DeviceId { account: words.account, index };
            self.mailbox(device).not_for_it = inbox;
        }
        self.say_to(who, Done { request });
        let siblings = |other: &usize| *other != who && self.people[*other].account == words.account;
        for other in (0..self.people.len()).filter(siblings).collect::<Vec<_>>() {
            self.say_to(other, OwnLog { log: log.clone() });
        }
    }

    fn log_here(&self, who: usize) -> whimbrel_crypto::AccountLog {
        let row: crate::rows::AccountRow =
            crate::rows::get(self.store(who), &crate::rows::account_key()).unwrap().unwrap();
        UnverifiedLog(row.log).verify().unwrap()
    }

    pub(super) fn log_there(&self, who: usize) -> whimbrel_crypto::AccountLog {
        UnverifiedLog(self.relay.accounts[&self.people[who].account].log.clone()).verify().unwrap()
    }
}

/// The words that the world's Alice was made with: the stream her identity was made from gives them again.
fn words_of(who: usize) -> RecoveryPhrase {
    let mut chance = Chance::from_seed(Seed::from_bytes([100 + who as u8; 32]));
    RecoveryPhrase::generate(&mut chance.fork("identity"))
}

fn fresh(byte: u8) -> RecoveryPhrase {
    RecoveryPhrase::generate(&mut Chance::from_seed(Seed::from_bytes([byte; 32])))
}

/// Another identity key by the words of the rotation before; those of 7 are the first.
pub(super) fn rotation_from(before: u8, next: u8) -> Command {
    let words = if before == 7 { words_of(ALICE) } else { fresh(before) };
    Command::RotateIdentity { words, next: fresh(next).recovery_hash() }
}

fn rotate(next: u8) -> Command {
    Command::RotateIdentity { words: words_of(ALICE), next: fresh(next).recovery_hash() }
}

#[test]
fn a_change_of_the_account_holds_when_the_relay_has_it_and_once() {
    let mut world = world(&["a.example"]);
    let before = world.log_here(ALICE);
    let wrong = Command::RotateIdentity { words: fresh(7), next: fresh(8).recovery_hash() };
    assert!(matches!(world.ask(ALICE, wrong), Err(CommandError::Untrusted(_))));
    world.relay.mute.insert("ExtendLog");
    let ticket = world.command(ALICE, rotate(8));
    assert_eq!(world.answer(ALICE, ticket), None, "not before the relay says so");
    assert_eq!(world.log_here(ALICE), before);
    let rename = Command::RenameDevice { index: DeviceIndex::FIRST, label: "mine".to_owned() };
    assert!(matches!(world.ask(ALICE, rename.clone()), Err(CommandError::State(_))), "one at a time");
    world.relay.mute.clear();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.answer(ALICE, ticket), Some(Ok(Reply::Done)));
    assert_eq!(world.log_here(ALICE).relation(&before), Relation::Longer);
    assert_eq!(world.log_here(ALICE), world.log_there(ALICE));
    world.ask(ALICE, rename).unwrap();
    assert_eq!(world.log_there(ALICE).device(DeviceIndex::FIRST).unwrap().label, "mine");
    assert!(views::account(world.store(ALICE)).unwrap().full, "the new key is here");
}

#[test]
fn an_account_that_was_changed_elsewhere_is_learnt_and_the_own_change_is_not_done() {
    let mut world = world(&["a.example"]);
    let mut elsewhere = world.log_there(ALICE);
    let identity = whimbrel_crypto::KeyPair::generate(&mut Chance::from_seed(Seed::from_bytes([44; 32])));
    let hlc = whimbrel_protocol::time::Hlc::default().tick(world.now.wall);
    elsewhere.rotate_identity(&words_of(ALICE).key_pair(), &identity, fresh(9).recovery_hash(), hlc).unwrap();
    world.relay.accounts.get_mut(&world.people[ALICE].account).unwrap().log = elsewhere.bytes();
    let rename = Command::RenameDevice { index: DeviceIndex::FIRST, label: "mine".to_owned() };
    assert!(matches!(world.ask(ALICE, rename), Err(CommandError::State(_))));
    assert_eq!(world.log_here(ALICE), elsewhere);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::AccountChanged { rotated: true, .. })), 1);
    assert!(!views::account(world.store(ALICE)).unwrap().full, "it does not hold that key");
}

#[test]
fn t09_a_contact_hears_of_another_key_inside_the_seal_and_a_relay_that_hides_it_is_told_of() {
    for hides in [false, true] {
        let (mut world, _) = friends();
        let alice = world.people[ALICE].account;
        world.ask(BOB, Command::Verify { account: alice, verified: true }).unwrap();
        let old = world.log_there(ALICE).bytes();
        world.relay_gone_for(BOB);
        world.ask(ALICE, rotate(8)).unwrap();
        if hides {
            world.relay.accounts.get_mut(&alice).unwrap().log = old;
        }
        world.relay_back_for(BOB);
        world.advance(Duration::from_secs(3_600));
        let trust = views::contacts(world.store(BOB)).unwrap()[0].trust;
        assert_eq!(trust, if hides { Trust::Verified } else { Trust::Changed });
        let told = |wanted: fn(&Event) -> bool| world.events(BOB, wanted);
        assert_eq!(told(|event| matches!(event, Event::KeyChanged { .. })), usize::from(!hides));
        assert_eq!(told(|event| matches!(event, Event::LogWithheld { .. })), usize::from(hides));
    }
}

fn rotation(after: usize, kind: Crash) -> bool {
    let (mut world, thread) = friends();
    world.people[ALICE].crash = Some((after, kind));
    let mut done = false;
    for _ in 0..4 {
        let ticket = world.command(ALICE, rotate(8));
        world.advance(Duration::from_secs(60));
        // The words are good for once: refused the second time, it was done the first.
        done |= matches!(world.answer(ALICE, ticket), Some(Ok(_) | Err(CommandError::Untrusted(_))));
        if done {
            break;
        }
    }
    world.advance(Duration::from_secs(120));
    let case = format!("after {after} {kind:?}");
    assert!(done, "{case}");
    assert_eq!(world.log_here(ALICE), world.log_there(ALICE), "{case}");
    assert_eq!(world.log_here(ALICE).identities().count(), 2, "once: {case}");
    assert!(views::account(world.store(ALICE)).unwrap().full, "the key is not lost: {case}");
    assert_eq!(world.log_here(ALICE).recovery_hash(), fresh(8).recovery_hash(), "{case}");
    let known = views::keys(world.store(BOB), &world.people[ALICE].account).unwrap().unwrap();
    assert_eq!(known.history.len(), 2, "told: {case}");
    world.say(BOB, thread, "still here");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.shown(ALICE).last(), Some(&"still here"), "{case}");
    world.people[ALICE].crash.is_none()
}

#[test]
fn a_rotation_survives_a_crash_at_every_persist_point() {
    for kind in [Crash::Lost, Crash::Kept] {
        let mut after = 0;
        while after < 30 && rotation(after, kind) {
            after += 1;
        }
        assert!(after > 5, "only {after} persist points");
    }
}

fn recovery(after: usize, kind: Crash) -> bool {
    let mut world: World<StandInEngine> = world(&["a.example"]);
    let own = views::account(world.store(ALICE)).unwrap();
    world.kill(ALICE);
    let words = words_of(ALICE);
    let recovery = Recovery {
        address: own.address.unwrap(),
        relay: relay_link("a.example"),
        log: world.log_there(ALICE),
        words: &words,
        next: fresh(8).recovery_hash(),
        label: "new",
        revoke_others: true,
    };
    let mut chance = Chance::from_seed(Seed::from_bytes([77; 32]));
    let (batch, account) = identity::recover(recovery, &mut chance, world.now).unwrap();
    assert_eq!(account, own.account);
    let disk = MemoryEngine::new();
    let store = Kv::open(disk.clone(), None).unwrap();
    store.apply(&batch).unwrap();
    store.sync().unwrap();
    let person = &mut world.people[ALICE];
    (person.disk, person.store) = (disk, Some(store));
    person.crash = Some((after, kind));
    world.open(ALICE);
    world.advance(Duration::from_secs(120));
    let case = format!("after {after} {kind:?}");
    let there = world.log_there(ALICE);
    assert_eq!(there.devices().map(|device| device.label.as_str()).collect::<Vec<_>>(), ["new"], "{case}");
    assert_eq!(world.log_here(ALICE), there, "{case}");
    let own = views::account(world.store(ALICE)).unwrap();
    assert!(own.full && !own.joining && own.listed, "{case}");
    let Reply::Status(status) = world.ask(ALICE, Command::Status).unwrap() else { panic!("a status") };
    assert!(status.relay_admitted, "{case}");
    world.people[ALICE].crash.is_none()
}

#[test]
fn a_recovery_survives_a_crash_at_every_persist_point() {
    for kind in [Crash::Lost, Crash::Kept] {
        let mut after = 0;
        while after < 20 && recovery(after, kind) {
            after += 1;
        }
        assert!(after > 3, "only {after} persist points");
    }
}
