//! What a node makes of the receipts of hubs: one order, two of them, and words that are no hub's.

use std::time::Duration;

use whimbrel_crypto::{Chance, Context, Engine as _, Seed, StandInEngine, receipt};
use whimbrel_protocol::Frame;
use whimbrel_protocol::hub::{Accepted, Commit, CommitTaken, FIRST_TERM, Receipt, SignedReceipt, SubmitCommit};
use whimbrel_protocol::id::{CommitHash, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Kv, OrderedKv, Overlay};

use super::groups::{group, signed};
use super::world::{ALICE, BOB, CAROL, World, relay_identity};
use crate::api::{Command, Event, Reply};
use crate::identity::Identity;
use crate::rows;
use crate::views::{self, Standing};

const DAVE: usize = 3;

/// A renewal made with a member's own state and not kept there, and what the hub would sign of it.
fn renewal_of(world: &mut World<StandInEngine>, who: usize, thread: ThreadId) -> Accepted {
    let identity = Identity::load(world.store(who)).unwrap();
    let epoch = Epoch::new(world.stands(who, thread).unwrap().1);
    let mut chance = Chance::from_seed(Seed::from_bytes([79; 32]));
    let now = world.now;
    let mut rows = Overlay::new(world.store(who));
    let mut cx = Context { rows: &mut rows, chance: &mut chance, now };
    let bytes = StandInEngine::new().update(&mut cx, &identity.own(), thread).unwrap().commit;
    let commit = Commit {
        thread,
        term: FIRST_TERM,
        epoch,
        bytes,
        added: Vec::new(),
        removed: Vec::new(),
        info: Vec::new(),
        warrant: None,
    };
    let receipt = Receipt { thread, term: FIRST_TERM, epoch, commit: commit.hash(), previous: None, at: now.wall };
    Accepted { author: identity.id(), commit, receipt: signed(receipt) }
}

/// Whether what is kept proves to anybody that this hub signed two orders.
fn proves(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> bool {
    let found = views::contradictions(world.store(who)).unwrap();
    let hub = relay_identity(&"a.example".parse().unwrap()).id();
    found.iter().any(|(of, proof)| *of == thread && proof.verify() == Ok(hub))
}

fn told(world: &World<StandInEngine>, who: usize) -> usize {
    world.events(who, |event| matches!(event, Event::HubContradicts { .. }))
}

/// The conversation of two.
fn between(world: &World<StandInEngine>, one: usize, other: usize) -> ThreadId {
    let threads = views::threads(world.store(one)).unwrap();
    let other = world.people[other].account;
    threads.iter().find(|thread| thread.founder.is_none() && thread.people == [other]).unwrap().thread
}

fn log<'w>(world: &'w mut World<StandInEngine>, thread: &ThreadId) -> &'w mut Vec<EntryBody> {
    &mut world.relay.threads.get_mut(thread).unwrap().1
}

/// The hub shows Carol's renewal to Bob and Carol, and one of Bob's making to Alice, who was away.
fn forked() -> (World<StandInEngine>, ThreadId) {
    let (mut world, thread) = group();
    let other = renewal_of(&mut world, BOB, thread);
    world.kill(ALICE);
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    let place = log(&mut world, &thread).iter().position(|body| matches!(body, EntryBody::Commit(_))).unwrap();
    log(&mut world, &thread)[place] = EntryBody::Commit(other);
    world.open(ALICE);
    world.settle();
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 3)), "{who}");
    }
    assert_eq!([ALICE, BOB, CAROL].map(|who| told(&world, who)), [0; 3]);
    (world, thread)
}

#[test]
fn t05_a_hub_that_shows_two_orders_is_proved_by_both_sides_once_they_talk_and_the_proof_stays() {
    let (mut world, thread) = forked();
    let with_bob = between(&world, ALICE, BOB);
    world.say(ALICE, with_bob, "how are you");
    world.advance(Duration::from_secs(1));
    for who in [ALICE, BOB] {
        assert!(proves(&world, who, thread), "{who}");
        assert_eq!(told(&world, who), 1, "{who}");
    }
    assert!(!proves(&world, CAROL, thread), "she has talked with nobody");
    // She hears from somebody of the other branch, and from then on it is proved to everybody, for good and once.
    let with_carol = between(&world, ALICE, CAROL);
    world.advance(limits::RECEIPTS_TOLD_EVERY);
    world.say(ALICE, with_carol, "and you");
    world.advance(Duration::from_secs(1));
    world.advance(limits::RECEIPTS_TOLD_EVERY * 2);
    world.say(BOB, with_bob, "fine");
    world.advance(Duration::from_secs(1));
    for who in [ALICE, BOB, CAROL] {
        world.kill(who);
        world.open(who);
        world.settle();
        assert!(proves(&world, who, thread), "{who}");
        assert_eq!(told(&world, who), 1, "{who}");
    }
}

#[test]
fn t05_a_proof_convinces_somebody_of_the_same_branch_and_somebody_who_keeps_neither_receipt() {
    for keeps in [true, false] {
        let (mut world, thread) = forked();
        let with_bob = between(&world, ALICE, BOB);
        world.say(ALICE, with_bob, "how are you");
        world.advance(Duration::from_secs(1));
        // Carol holds what Bob holds: by the newest receipt alone she could not tell.
        let invite = world.invite(CAROL);
        let Ok(Reply::Contact { thread: with_carol, .. }) = world.ask(BOB, Command::AcceptInvite(invite)) else {
            panic!("no contact")
        };
        world.advance(Duration::from_secs(1));
        if !keeps {
            // As if there had been many commits since.
            world.kill(CAROL);
            let kv = Kv::open(world.people[CAROL].disk.clone(), None).unwrap();
            let mut overlay = Overlay::new(&kv);
            overlay.delete(rows::receipts_key(&thread));
            kv.apply(&overlay.into_batch()).unwrap();
            kv.sync().unwrap();
            drop(kv);
            world.open(CAROL);
            world.settle();
        }
        world.say(BOB, with_carol, "look");
        world.advance(Duration::from_secs(1));
        assert!(proves(&world, CAROL, thread), "{keeps}");
    }
}

#[test]
fn t05_whoever_was_told_that_their_commit_holds_proves_it_when_another_comes() {
    let (mut world, thread) = group();
    world.relay.mute.insert("SubmitCommit");
    let ticket = world.command(BOB, Command::RenewKeys { thread });
    world.settle();
    world.relay.mute.clear();
    let handed_in = world.relay.heard.iter().rev().find_map(|(who, frame)| match frame {
        Frame::SubmitCommit(words) if *who == BOB => Some(words.clone()),
        _ => None,
    });
    let SubmitCommit { request, commit, .. } = handed_in.unwrap();
    let Commit { term, epoch, .. } = *commit;
    let receipt = Receipt { thread, term, epoch, commit: commit.hash(), previous: None, at: world.now.wall };
    world.say_to(BOB, CommitTaken { request, receipt: signed(receipt) });
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert!(proves(&world, BOB, thread));
    assert!(!proves(&world, CAROL, thread) && !proves(&world, ALICE, thread));
    // The group goes on with what is in its log.
    world.advance(limits::COMMIT_WAIT * 3);
    assert_eq!(world.answer(BOB, ticket), Some(Ok(Reply::Done)));
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 3, 3)), "{who}");
    }
}

#[test]
fn t05_a_commit_counts_with_its_hubs_receipt_alone_and_is_followed_once_that_comes() {
    type Wrong = fn(&Accepted) -> Box<SignedReceipt>;
    let wrongs: [Wrong; 3] = [
        |genuine| Box::new(receipt::sign(&relay_identity(&"b.example".parse().unwrap()), genuine.receipt.words)),
        |genuine| {
            let words = Receipt { at: Wall::from_millis(1), ..genuine.receipt.words };
            Box::new(SignedReceipt { words, ..(*genuine.receipt).clone() })
        },
        |genuine| signed(Receipt { commit: CommitHash::of(b"another"), ..genuine.receipt.words }),
    ];
    for (case, wrong) in wrongs.into_iter().enumerate() {
        let (mut world, thread) = group();
        let genuine = renewal_of(&mut world, CAROL, thread);
        world.kill(ALICE);
        let place = log(&mut world, &thread).len();
        let shown = Accepted { receipt: wrong(&genuine), ..genuine.clone() };
        log(&mut world, &thread).push(EntryBody::Commit(shown));
        world.push_all();
        world.advance(Duration::from_secs(1));
        assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 1, 3)), "{case}");
        assert_eq!(told(&world, BOB), 0, "what the hub did not sign gives nobody away");
        // Alice is shown the genuine one.
        log(&mut world, &thread)[place] = EntryBody::Commit(genuine);
        world.open(ALICE);
        world.settle();
        world.advance(limits::RELAY_BACKOFF_MAX * 2);
        assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 3)), "{case}: he asks every minute");
        assert_eq!(world.stands(ALICE, thread), Some((Standing::Open, 2, 3)), "{case}");
        world.say(ALICE, thread, "after it");
        world.advance(Duration::from_secs(1));
        assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 3)), "{case}");
        assert_eq!(world.history(BOB, thread), ["after it"], "{case}");
    }
}

#[test]
fn t06_receipts_of_later_epochs_take_no_room_from_those_that_come_before_them() {
    let (mut world, thread) = group();
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 2, 3)));
    let old = log(&mut world, &thread).iter().rev().find_map(|entry| match entry {
        EntryBody::Commit(accepted) => Some(accepted.clone()),
        _ => None,
    });
    let old = old.unwrap();
    for n in 0..=limits::RECEIPTS_KEPT_MAX as u64 {
        let words =
            Receipt { epoch: Epoch::new(10 + n), commit: CommitHash::of(&n.to_be_bytes()), ..old.receipt.words };
        log(&mut world, &thread).push(EntryBody::Commit(Accepted { receipt: signed(words), ..old.clone() }));
    }
    world.push_all();
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 3, 3)));
}

#[test]
fn receipts_are_told_to_those_in_the_same_group_at_most_once_an_hour_and_only_when_there_is_something_new() {
    let (mut world, thread) = group();
    let (with_bob, with_dave) = (between(&world, ALICE, BOB), between(&world, ALICE, DAVE));
    let said = |world: &mut World<StandInEngine>, to: ThreadId| {
        let count = |world: &World<StandInEngine>| world.submits(ALICE).iter().filter(|one| one.thread == to).count();
        let before = count(world);
        world.say(ALICE, to, "a text");
        world.advance(Duration::from_secs(1));
        count(world) - before
    };
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(said(&mut world, with_dave), 1, "he is not in the group");
    assert_eq!(said(&mut world, with_bob), 2, "the text and the receipt");
    assert_eq!(world.ask(CAROL, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(said(&mut world, with_bob), 1, "told a moment ago");
    world.advance(limits::RECEIPTS_TOLD_EVERY);
    assert_eq!(said(&mut world, with_bob), 2);
    world.advance(limits::RECEIPTS_TOLD_EVERY);
    assert_eq!(said(&mut world, with_bob), 1, "nothing changed since");
    assert_eq!([ALICE, BOB, CAROL].map(|who| told(&world, who)), [0; 3]);
}
