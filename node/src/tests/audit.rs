//! What a node makes of the trees that relays show: seen in them, not seen, another tree for others, and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use whimbrel_crypto::transparency::{self, leaf, salt};
use whimbrel_crypto::{Engine, KeyPair, RelayIdentity, UnverifiedLog, tree};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, DeviceIndex, Domain, LogHash, ThreadId, TreeHash};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::transparency::{FetchTreeHead, Head, Inclusion, SignedHead, Step, TreeHead};
use whimbrel_storage::{Kv, OrderedKv, Overlay};

use super::siblings::two_devices;
use super::world::{ALICE, BOB, CAROL, Crash, Relay, World, friends, relay_identity};
use crate::api::{Command, Event};
use crate::rows;
use crate::views::{self, LogProof};

/// The trees of a relay, and what it does with them.
#[derive(Default)]
pub(super) struct Trees {
    leaves: BTreeMap<Domain, Vec<(AccountId, u64, LogHash)>>,
    /// Who is shown another tree than the others.
    another_for: BTreeSet<usize>,
    /// Whose entries do not get into it.
    leaves_out: BTreeSet<AccountId>,
    /// How many of the newest leaves it does not show, and whom.
    hides: BTreeMap<usize, u64>,
    /// Since when it shows whoever asks the head of then.
    stands_still: Option<Wall>,
}

#[derive(Default)]
struct Nodes(BTreeMap<(u8, u64), TreeHash>, u64);

impl tree::Nodes for Nodes {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, Infallible> {
        Ok(self.0[&(level, index)])
    }
}

impl Nodes {
    fn push(&mut self, leaf: TreeHash) {
        for (level, index, hash) in tree::grown(self, self.1, leaf).unwrap() {
            self.0.insert((level, index), hash);
        }
        self.1 += 1;
    }
}

impl<E: Engine> World<E> {
    fn show_trees(&mut self) {
        self.relay.trees = Some(Trees::default());
        self.advance(limits::RELAY_BACKOFF_MAX * 2);
    }

    fn trees(&mut self) -> &mut Trees {
        self.relay.trees.as_mut().unwrap()
    }

    /// What a relay does with every log it has, and with whoever asks.
    pub(super) fn show_tree(&mut self, who: usize, words: &FetchTreeHead) {
        let accounts = self
            .relay
            .accounts
            .iter()
            .filter(|(_, row)| row.address.as_ref().is_some_and(|address| address.domain == words.domain));
        let heads: Vec<_> = accounts
            .map(|(account, row)| (*account, UnverifiedLog(row.log.clone()).verify().unwrap().head()))
            .collect();
        let Some(trees) = self.relay.trees.as_mut() else { return };
        let left_out = trees.leaves_out.clone();
        let leaves = trees.leaves.entry(words.domain.clone()).or_default();
        for (account, (seq, hash)) in heads {
            if !left_out.contains(&account) && !leaves.contains(&(account, seq, hash)) {
                leaves.push((account, seq, hash));
            }
        }
        let another = trees.another_for.contains(&who);
        let at = trees.stands_still.unwrap_or(self.now.wall);
        let mut nodes = Nodes::default();
        // What the trees of different people differ in is nobody's.
        nodes.push(tree::leaf(if another { b"two" } else { b"one" }));
        for (account, seq, hash) in leaves.iter() {
            nodes.push(leaf(&salt(&salt_of(account)), account, *seq, hash));
        }
        let size = nodes.1 - trees.hides.get(&who).copied().unwrap_or(0);
        let step = |old: &u64| Step {
            root: tree::root(&nodes, (*old).min(size)).unwrap(),
            proof: tree::consistency(&nodes, *old, size).unwrap(),
        };
        let steps = words.from.iter().map(step).collect();
        let newest = |wanted: AccountId| leaves.iter().rposition(|(account, ..)| *account == wanted);
        let entry = words.account.and_then(newest).and_then(|place| {
            let ((account, seq, hash), index) = (leaves[place], place as u64 + 1);
            let path = tree::inclusion(&nodes, index, size).unwrap()?;
            Some(Box::new(Inclusion { index, salt: salt(&salt_of(&account)), seq, hash, path }))
        });
        let head = Head { size, root: tree::root(&nodes, size).unwrap(), at };
        let head = Box::new(transparency::sign(&relay_identity(&words.domain), &head));
        self.say_to(who, TreeHead { request: words.request, head, steps, entry });
    }

    fn log_of(&self, who: usize, of: usize) -> LogProof {
        views::keys(self.store(who), &self.people[of].account).unwrap().unwrap().log
    }

    fn caught(&self, who: usize) -> bool {
        let relays = views::relays(self.store(who)).unwrap();
        relays.iter().any(|relay| {
            let proved = relay.evidence.as_ref().map(|evidence| evidence.verify().unwrap());
            proved.is_some_and(|(id, domain)| id == relay_identity(&domain).id() && domain == relay.domain)
        })
    }

    /// Somebody's node is made to tell a thread of a head as that of its own relay.
    fn tells_of(&mut self, who: usize, thread: ThreadId, home: &str, head: SignedHead) {
        self.kill(who);
        let relay = transparency::verify(&head).unwrap().relay();
        let kv = Kv::open(self.people[who].disk.clone(), None).unwrap();
        let row = rows::TreeRow { relay, head, told: vec![], evidence: None, silent: false };
        let mut overlay = Overlay::new(&kv);
        rows::put(&mut overlay, rows::tree_key(&home.parse().unwrap()), &row);
        overlay.delete(rows::tree_told_key(&thread));
        kv.apply(&overlay.into_batch()).unwrap();
        kv.sync().unwrap();
        drop(kv);
        self.open(who);
        self.settle();
        self.say(who, thread, "look");
    }

    fn rename(&mut self, who: usize, label: &str) {
        self.ask(who, Command::RenameDevice { index: DeviceIndex::FIRST, label: label.to_owned() }).unwrap();
    }
}

fn salt_of(account: &AccountId) -> [u8; 16] {
    *account.as_bytes().first_chunk().unwrap()
}

fn two_faces(event: &Event) -> bool {
    matches!(event, Event::TwoFaces { .. })
}

#[test]
fn ones_own_log_and_a_contacts_are_seen_in_their_relays_trees_and_again_when_they_grow() {
    let mut world = World::new(&["a.example", "b.example"], whimbrel_crypto::StandInEngine::new);
    world.show_trees();
    world.befriend(BOB, ALICE);
    for who in [ALICE, BOB] {
        assert_eq!(views::own_log(world.store(who)).unwrap(), LogProof::Found(2), "{who}");
        assert_eq!(world.log_of(who, 1 - who), LogProof::Found(2));
    }
    world.rename(ALICE, "desk");
    assert_eq!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Found(3), "looked at as soon as it has grown");
    assert_eq!(world.log_of(BOB, ALICE), LogProof::Found(3), "whoever hears of it looks, too");
    assert_eq!(world.events(ALICE, two_faces) + world.events(BOB, two_faces), 0);
}

#[test]
fn t09_a_relay_with_two_faces_is_caught_by_friends_who_tell_each_other_what_they_were_shown() {
    for grows in [false, true] {
        let relay = Relay { trees: Some(Trees { another_for: [BOB].into(), ..Trees::default() }), ..Relay::default() };
        let mut world = World::around(relay, &["a.example", "a.example"], whimbrel_crypto::StandInEngine::new);
        let thread = world.befriend(BOB, ALICE);
        world.settle();
        assert_eq!((world.caught(ALICE), world.caught(BOB)), (false, false), "to each of them it is whole");
        if grows {
            // The two were shown trees of different sizes: only the relay can say how they belong together.
            world.rename(ALICE, "desk");
        }
        world.say(ALICE, thread, "hello");
        assert!(world.caught(BOB), "grows {grows}");
        assert_eq!((world.events(BOB, two_faces), world.shown(BOB)), (1, vec!["hello"]));
        world.advance(Duration::from_secs(2 * 3_600));
        world.say(BOB, thread, "be careful");
        assert!(world.caught(ALICE), "by what Bob goes on telling");
        assert_eq!(world.events(ALICE, two_faces), 1);
        let keys = views::keys(world.store(BOB), &world.people[ALICE].account).unwrap().unwrap();
        assert!(keys.two_faces);
        // It stays known, and is told once.
        world.crash_now(BOB);
        world.advance(Duration::from_secs(3 * 3_600));
        assert!(world.caught(BOB));
        assert_eq!(world.events(BOB, two_faces), 1);
    }
}

#[test]
fn a_relay_that_turns_to_another_tree_is_caught_by_whoever_it_did_it_to() {
    let (mut world, _) = friends();
    world.show_trees();
    world.trees().another_for.insert(BOB);
    world.advance(limits::AUDIT_EVERY * 2);
    assert!(world.caught(BOB), "by the hour's look");
    assert!(!world.caught(ALICE));
}

#[test]
fn t10_a_log_that_is_not_in_the_tree_is_told_of_once_and_only_after_it_was_asked_for_often_enough() {
    let (mut world, _) = friends();
    let alice = world.people[ALICE].account;
    world.relay.trees = Some(Trees { leaves_out: [alice].into(), ..Trees::default() });
    world.advance(Duration::from_secs(5));
    let unproved = |event: &Event| matches!(event, Event::LogUnproved { .. });
    assert_eq!(world.events(BOB, unproved), 0, "not at the first look");
    world.advance(Duration::from_secs(3 * 3_600));
    assert_eq!((world.events(BOB, unproved), world.log_of(BOB, ALICE)), (1, LogProof::Unproved));
    assert_eq!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Unproved);
    assert_eq!(world.events(ALICE, unproved), 1, "though it is looked for every hour");
    world.trees().leaves_out.clear();
    world.advance(Duration::from_secs(3 * 3_600));
    assert!(matches!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Found(_)));
}

#[test]
fn a_tree_that_shrinks_proves_nothing_and_what_was_shown_before_stays() {
    let mut world = World::new(&["a.example"; 3], whimbrel_crypto::StandInEngine::new);
    world.show_trees();
    world.befriend(BOB, ALICE);
    let size = |world: &World<_>, who| views::relays(world.store(who)).unwrap()[0].size;
    let before = size(&world, ALICE);
    assert_eq!(before, 4);
    world.trees().hides.insert(ALICE, 1);
    world.advance(Duration::from_secs(3 * 3_600));
    assert_eq!((size(&world, ALICE), world.caught(ALICE)), (before, false));
    world.trees().hides.clear();
    world.advance(Duration::from_secs(2 * 3_600));
    assert!(matches!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Found(_)), "it was a bad hour");
}

#[test]
fn a_head_of_long_ago_shows_nothing() {
    let (mut world, _) = friends();
    world.show_trees();
    world.advance(limits::AUDIT_EVERY * 2);
    let (size, then) = (views::relays(world.store(ALICE)).unwrap()[0].size, world.now.wall);
    world.trees().stands_still = Some(then);
    world.advance(limits::TREE_HEAD_AGE_MAX - limits::AUDIT_EVERY * 2);
    let alice = world.people[ALICE].account;
    let unproved = move |event: &Event| matches!(event, Event::LogUnproved { account } if *account == alice);
    assert_eq!(world.events(ALICE, unproved), 0, "it may be the newest");
    world.rename(BOB, "desk");
    world.advance(limits::AUDIT_EVERY * 6);
    assert_eq!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Unproved);
    assert_eq!(
        (world.events(ALICE, unproved), views::relays(world.store(ALICE)).unwrap()[0].size),
        (1, size + 1),
        "Bob's new entry came before"
    );
}

#[test]
fn a_head_that_a_friend_was_shown_and_nobody_else_is_shown_is_told_of_as_withheld() {
    let (mut world, thread) = friends();
    world.show_trees();
    let withheld = |event: &Event| matches!(event, Event::TreeWithheld { .. });
    // Alice is shown what Bob is not: the relay hides her newest entry from him.
    world.trees().hides.insert(BOB, 1);
    world.rename(ALICE, "desk");
    world.say(ALICE, thread, "hello");
    assert_eq!(world.events(BOB, withheld), 0, "his relay may be slow");
    world.advance(Duration::from_secs(3 * 3_600));
    assert_eq!((world.events(BOB, withheld), world.caught(BOB)), (1, false));
    assert!(views::relays(world.store(BOB)).unwrap()[0].withheld);
}

#[test]
fn a_tree_with_an_entry_that_contradicts_the_log_is_told_of_once_the_log_was_looked_for() {
    let (mut world, _) = friends();
    let (alice, domain) = (world.people[ALICE].account, "a.example".parse::<Domain>().unwrap());
    let mut trees = Trees { leaves_out: [alice].into(), ..Trees::default() };
    let seq = 1;
    trees.leaves.insert(domain, vec![(alice, seq, LogHash::from_bytes([7; 32]))]);
    world.relay.trees = Some(trees);
    let forked = |event: &Event| matches!(event, Event::LogForked { .. } | Event::AccountForked);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.events(BOB, forked) + world.events(ALICE, forked), 0, "it may be a recovery");
    world.advance(Duration::from_secs(12 * 3_600));
    assert_eq!((world.events(BOB, forked), world.events(ALICE, forked)), (1, 1));
}

/// Whom the relay shows a device that the owner did not add, it shows an entry of the tree that the owner's devices know
/// nothing of.
#[test]
fn t08_an_entry_that_no_device_of_the_account_made_is_told_of_on_each_of_them() {
    let (mut world, _, phone) = two_devices();
    let (alice, domain) = (world.people[ALICE].account, "a.example".parse::<Domain>().unwrap());
    let (seq, _) = world.log_there(ALICE).head();
    let mut trees = Trees { leaves_out: [alice].into(), ..Trees::default() };
    trees.leaves.insert(domain, vec![(alice, seq + 1, LogHash::from_bytes([7; 32]))]);
    world.relay.trees = Some(trees);
    let alarms = move |event: &Event| match event {
        Event::AccountForked => true,
        Event::LogWithheld { account } | Event::LogUnproved { account } => *account == alice,
        _ => false,
    };
    let before = [ALICE, phone].map(|who| world.events(who, alarms));
    world.advance(Duration::from_secs(12 * 3_600));
    for (who, before) in [ALICE, phone].into_iter().zip(before) {
        assert!(world.events(who, alarms) > before, "device {who} was told nothing");
        assert_eq!(views::devices(world.store(who)).unwrap().len(), 2);
    }
}

#[test]
fn a_crash_at_any_step_of_looking_loses_nothing_of_what_is_to_be_looked_at() {
    for kind in [Crash::Lost, Crash::Kept] {
        for after in 0..12 {
            let relay =
                Relay { trees: Some(Trees { another_for: [BOB].into(), ..Trees::default() }), ..Relay::default() };
            let mut world = World::around(relay, &["a.example", "a.example"], whimbrel_crypto::StandInEngine::new);
            let thread = world.befriend(BOB, ALICE);
            world.people[BOB].crash = Some((after, kind));
            world.rename(ALICE, "desk");
            world.say(ALICE, thread, "hello");
            world.advance(Duration::from_secs(2 * 3_600));
            assert!(world.caught(BOB), "after {after}, {kind:?}");
            assert_eq!(world.history(BOB, thread), ["hello"], "after {after}, {kind:?}");
        }
    }
}

/// What a relay of some other key signs for a domain.
fn forged(domain: &str, now: Wall) -> SignedHead {
    let key = |n| KeyPair::from_seed_bytes([n; 32]);
    let forger = RelayIdentity::create(&key(66), &key(67), &domain.parse().unwrap(), now).unwrap();
    transparency::sign(&forger, &Head { size: 3, root: TreeHash::from_bytes([6; 32]), at: now })
}

#[test]
fn what_a_member_tells_of_a_relay_pins_nobody_and_gives_no_relay_away() {
    // In the name of their own relay, of ours, and of one that we have nothing to do with yet.
    for framed in ["b.example", "a.example", "c.example"] {
        let mut world = World::new(&["a.example", "b.example", "c.example"], whimbrel_crypto::StandInEngine::new);
        world.show_trees();
        let thread = world.befriend(BOB, ALICE);
        world.advance(limits::AUDIT_EVERY * 2);
        world.tells_of(BOB, thread, "b.example", forged(framed, world.now.wall));
        world.advance(limits::AUDIT_EVERY * 2);
        assert_eq!(world.shown(ALICE), ["look"], "{framed}");
        world.befriend(CAROL, ALICE);
        world.advance(limits::AUDIT_EVERY * 2);
        assert_eq!(world.events(ALICE, two_faces), 0, "{framed}");
        assert_eq!(world.log_of(ALICE, CAROL), LogProof::Found(2), "{framed}");
        let relays = views::relays(world.store(ALICE)).unwrap();
        let as_they_are = |one: &views::RelayTree| one.relay == relay_identity(&one.domain).id() && !one.withheld;
        assert!(relays.iter().all(as_they_are), "{framed}: {relays:?}");
    }
}

#[test]
fn heads_that_are_told_while_the_tree_is_asked_for_wait_for_the_next_question() {
    let mut world = World::new(&["a.example"; 2], whimbrel_crypto::StandInEngine::new);
    world.show_trees();
    let thread = world.befriend(BOB, ALICE);
    for n in 0..3 * limits::AUDIT_ATTEMPTS_MAX {
        world.rename(BOB, &format!("{n}"));
        world.advance(limits::AUDIT_PAUSE * 2);
    }
    let shown = world.relay.said.iter().filter_map(|frame| match frame {
        Frame::TreeHead(words) => Some((transparency::verify(&words.head).unwrap().size(), (*words.head).clone())),
        _ => None,
    });
    let heads: BTreeMap<u64, SignedHead> = shown.collect();
    let newest = *heads.keys().next_back().unwrap();
    let mut older = heads.into_iter().filter(|(size, _)| *size < newest).map(|(_, head)| head);
    let questions = |world: &World<_>| -> Vec<FetchTreeHead> {
        let asked = world.relay.heard.iter().filter(|(who, _)| *who == ALICE);
        asked
            .filter_map(|(_, frame)| if let Frame::FetchTreeHead(words) = frame { Some(words.clone()) } else { None })
            .collect()
    };
    world.relay.mute.insert("FetchTreeHead");
    for n in 0..=limits::AUDIT_ATTEMPTS_MAX {
        let before = questions(&world).len();
        world.tells_of(BOB, thread, "a.example", older.next().unwrap());
        world.advance(limits::AUDIT_PAUSE);
        let asked = questions(&world);
        assert_eq!(asked.len(), before + 1, "{n}");
        // Another one is told before the answer comes.
        world.tells_of(BOB, thread, "a.example", older.next().unwrap());
        world.show_tree(ALICE, asked.last().unwrap());
        world.settle();
    }
    world.relay.mute.clear();
    world.advance(limits::AUDIT_EVERY * 2);
    let alarms = |event: &Event| matches!(event, Event::TreeWithheld { .. } | Event::LogUnproved { .. });
    assert_eq!((world.events(ALICE, alarms), world.events(ALICE, two_faces)), (0, 0));
    assert!(matches!(views::own_log(world.store(ALICE)).unwrap(), LogProof::Found(_)));
}

#[test]
fn of_two_contacts_of_one_relay_the_one_who_is_left_out_is_told_of_and_nobody_else() {
    let mut world = World::new(&["a.example"; 3], whimbrel_crypto::StandInEngine::new);
    world.show_trees();
    world.befriend(BOB, ALICE);
    world.befriend(CAROL, ALICE);
    let bob = world.people[BOB].account;
    world.trees().leaves_out.insert(bob);
    for who in [BOB, CAROL] {
        world.rename(who, "desk");
    }
    world.advance(Duration::from_secs(3 * 3_600));
    let unproved: Vec<_> = world.people[ALICE]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::LogUnproved { account } => Some(*account),
            _ => None,
        })
        .collect();
    assert_eq!(unproved, [bob]);
    assert!(matches!(world.log_of(ALICE, CAROL), LogProof::Found(_)));
}

#[test]
fn a_relay_that_cannot_be_asked_is_not_said_to_hide_anything() {
    let (mut world, _) = friends();
    let busy = (whimbrel_protocol::refusal::RefusalCode::PeerUnreachable, Some(1_000));
    world.relay.refuse.insert("FetchTreeHead", busy);
    world.relay.trees = Some(Trees::default());
    world.advance(Duration::from_secs(12 * 3_600));
    let told = |event: &Event| matches!(event, Event::LogUnproved { .. } | Event::TreeWithheld { .. });
    assert_eq!(world.events(ALICE, told) + world.events(BOB, told), 0);
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(3_600));
    assert!(matches!(world.log_of(BOB, ALICE), LogProof::Found(_)));
}
