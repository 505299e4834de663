//! Contract: what every engine must do, run on each of them.
//! Owns: the rules as tests. A rule that only one engine keeps is no rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

use crate::engine::{
    Commit, Context, Engine, EngineError, Invitee, Joined, KeyPackageFault, Opened, Own, ROWS, Sealed,
};
use crate::{Chance, KeyPair, Seed};

#[macro_use]
mod each_hub;
mod branch;
mod judged;
#[cfg(feature = "stand-in")]
mod lengths;
mod policy;
mod public;
mod rejoin;
mod signals;
mod struck;
mod used;
use branch::members_hold_one_authenticator_and_another_branch_of_the_same_length_another;
use signals::signals_open_for_whoever_is_in_the_epoch_and_under_their_authors_name_alone;
use used::a_join_tells_whether_it_used_a_package_up;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

const DAY: u64 = 86_400_000;

/// Rows in memory.
#[derive(Clone, Default, PartialEq, Eq)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Disk {
    fn apply(&mut self, changes: Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

impl Reads for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let rows = self.0.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            Order::Ascending => rows.take(limit).collect(),
            Order::Descending => rows.rev().take(limit).collect(),
        })
    }
}

/// One person's device, with an engine of its own.
pub(crate) struct Person {
    pub(crate) id: DeviceId,
    pub(crate) device: KeyPair,
    disk: Disk,
    engine: Box<dyn Engine>,
    chance: Chance,
    now: Now,
    make: fn() -> Box<dyn Engine>,
    /// Forgets its engine before every call.
    restarts: bool,
}

impl Person {
    pub(crate) fn new(number: u8, make: fn() -> Box<dyn Engine>) -> Self {
        Self {
            id: DeviceId { account: AccountId::from_bytes([number; 32]), index: DeviceIndex::new(u32::from(number)) },
            device: KeyPair::from_seed_bytes([number; 32]),
            disk: Disk::default(),
            engine: make(),
            chance: Chance::from_seed(Seed::from_bytes([number; 32])),
            now: Now { monotonic: Monotonic::default(), wall: Wall::from_millis(20_000 * DAY) },
            make,
            restarts: false,
        }
    }

    /// One call; what it changed is applied only if it succeeded, and must be nothing if it failed.
    pub(crate) fn call<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Engine, &mut Context<'_, '_>, &Own<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (result, changes) = self.dry(work);
        match &result {
            Ok(_) => self.disk.apply(changes),
            Err(_) => assert!(changes.is_empty(), "a failed call left a trace"),
        }
        result
    }

    /// One call whose changes are not applied, as if the step were rolled back.
    fn dry<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Engine, &mut Context<'_, '_>, &Own<'_>) -> Result<T, EngineError>,
    ) -> (Result<T, EngineError>, Changes) {
        if self.restarts {
            self.engine = (self.make)();
        }
        let mut rows = Overlay::new(&self.disk);
        let mut cx = Context { rows: &mut rows, chance: &mut self.chance, now: self.now };
        let own = Own { id: self.id, device: &self.device };
        let result = work(self.engine.as_mut(), &mut cx, &own);
        let changes = rows.into_changes();
        assert!(changes.keys().all(|key| key[0] == ROWS), "a row outside the engine's space");
        (result, changes)
    }

    pub(crate) fn invitee(&mut self) -> Invitee {
        let key_package = self.call(|engine, cx, own| engine.key_package(cx, own, false)).unwrap();
        Invitee { id: self.id, device_key: self.device.public(), key_package }
    }

    pub(crate) fn join(&mut self, welcome: &[u8], tree: &[u8]) -> Result<Joined, EngineError> {
        self.call(|engine, cx, own| engine.join(cx, own, welcome, tree))
    }

    pub(crate) fn seal(&mut self, content: &str) -> Sealed {
        self.call(|engine, cx, own| engine.seal(cx, own, THREAD, content.as_bytes())).unwrap()
    }

    fn open(&mut self, body: &[u8]) -> Result<Opened, EngineError> {
        self.call(|engine, cx, own| engine.open(cx, own, THREAD, body))
    }

    pub(crate) fn reads(&mut self, body: &[u8]) -> String {
        String::from_utf8(self.open(body).unwrap().content).unwrap()
    }

    pub(crate) fn members(&mut self) -> Result<Vec<(DeviceId, PublicKey)>, EngineError> {
        self.call(|engine, cx, _| engine.members(cx, THREAD))
    }

    pub(crate) fn epoch(&mut self) -> u64 {
        self.call(|engine, cx, _| engine.epoch(cx, THREAD)).unwrap().get()
    }

    pub(crate) fn update(&mut self) -> Commit {
        self.call(|engine, cx, own| engine.update(cx, own, THREAD)).unwrap()
    }

    pub(crate) fn add(&mut self, invitees: &[Invitee]) -> Commit {
        self.call(|engine, cx, own| engine.add(cx, own, THREAD, invitees)).unwrap()
    }

    pub(crate) fn remove(&mut self, device: DeviceId) -> Commit {
        self.call(|engine, cx, own| engine.remove(cx, own, THREAD, &[device])).unwrap()
    }

    pub(crate) fn merge_own(&mut self) -> Result<Epoch, EngineError> {
        self.call(|engine, cx, own| engine.merge_own(cx, own, THREAD))
    }

    pub(crate) fn apply(&mut self, commit: &[u8]) -> Result<Epoch, EngineError> {
        self.call(|engine, cx, own| engine.apply(cx, own, THREAD, commit)).map(|applied| applied.epoch)
    }

    /// Everything durable, for comparing runs.
    fn rows(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.disk.0
    }
}

pub(crate) const THREAD: ThreadId = ThreadId::from_bytes([0x77; 32]);

fn people(make: fn() -> Box<dyn Engine>, count: u8, restarts: bool) -> Vec<Person> {
    (1..=count)
        .map(|number| {
            let mut person = Person::new(number, make);
            person.restarts = restarts;
            person
        })
        .collect()
}

/// A thread of so many people, made by the first.
fn thread(make: fn() -> Box<dyn Engine>, count: u8, restarts: bool) -> Vec<Person> {
    let mut people = people(make, count, restarts);
    let (first, others) = people.split_first_mut().unwrap();
    let invitees: Vec<_> = others.iter_mut().map(Person::invitee).collect();
    let created = first.call(|engine, cx, own| engine.create(cx, own, THREAD, &invitees)).unwrap();
    assert_eq!(created.epoch, Epoch::new(1));
    for person in others {
        let joined = person.join(&created.welcome, &created.tree).unwrap();
        assert_eq!((joined.thread, joined.epoch), (THREAD, Epoch::new(1)));
        assert_eq!(joined.members.len(), usize::from(count));
    }
    people
}

fn two(make: fn() -> Box<dyn Engine>) -> (Person, Person) {
    let [alice, bob] = thread(make, 2, false).try_into().ok().unwrap();
    (alice, bob)
}

fn everybody_hears_everybody(make: fn() -> Box<dyn Engine>, count: u8, restarts: bool) {
    let mut people = thread(make, count, restarts);
    for round in 0..2 {
        for author in 0..people.len() {
            let sealed = people[author].seal(&format!("{round} from {author}"));
            let id = people[author].id;
            for reader in (0..people.len()).filter(|reader| *reader != author) {
                let opened = people[reader].open(&sealed.body).unwrap();
                assert_eq!(opened.content, format!("{round} from {author}").into_bytes());
                assert_eq!((opened.author, opened.epoch), (id, sealed.epoch));
            }
        }
    }
    let expected: Vec<_> = people.iter().map(|person| (person.id, person.device.public())).collect();
    for person in &mut people {
        let mut members = person.members().unwrap();
        members.sort();
        assert_eq!(members, expected);
    }
}

fn messages_open_in_any_order_within_the_window(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let sealed: Vec<_> = (0..40).map(|n| alice.seal(&n.to_string())).collect();
    for n in (0..40).rev() {
        assert_eq!(bob.reads(&sealed[n].body), n.to_string());
    }
}

fn a_message_far_behind_is_too_distant(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let first = alice.seal("first");
    let second = alice.seal("second");
    for _ in 2..limits::RATCHET_OUT_OF_ORDER {
        alice.seal("skipped");
    }
    let last = alice.seal("last");
    bob.open(&last.body).unwrap();
    assert!(matches!(bob.open(&first.body), Err(EngineError::TooDistant)));
    assert_eq!(bob.reads(&second.body), "second");
}

fn a_message_opens_once(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let sealed = alice.seal("once");
    bob.open(&sealed.body).unwrap();
    assert!(matches!(bob.open(&sealed.body), Err(EngineError::AlreadyOpened)));
    assert!(matches!(alice.open(&sealed.body), Err(EngineError::AlreadyOpened)));
    let before = alice.seal("before");
    bob.open(&alice.seal("after").body).unwrap();
    bob.open(&before.body).unwrap();
    assert!(matches!(bob.open(&before.body), Err(EngineError::AlreadyOpened)));
}

fn a_damaged_copy_does_not_stop_the_genuine_one(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let sealed = alice.seal("genuine");
    for at in 0..sealed.body.len() {
        let mut damaged = sealed.body.clone();
        damaged[at] ^= 1 << (at % 8);
        let refused = bob.open(&damaged).unwrap_err();
        assert!(!matches!(refused, EngineError::Library(_)), "byte {at}: {refused}");
    }
    for len in 0..sealed.body.len() {
        assert!(bob.open(&sealed.body[..len]).is_err());
    }
    assert!(bob.open(&[&sealed.body[..], &[0]].concat()).is_err());
    assert_eq!(bob.reads(&sealed.body), "genuine");
}

/// Whatever is damaged of an own content: if it is still taken for our own, its mark is that of the genuine one.
fn a_damaged_copy_of_ones_own_has_the_mark_of_the_genuine_one(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let (sealed, another) = (alice.seal("mine"), alice.seal("mine"));
    let mark = alice.engine.mark(&sealed.body);
    assert!(mark.is_none() || mark != alice.engine.mark(&another.body));
    let mut taken_for_own = 0;
    for at in 0..sealed.body.len() {
        let mut damaged = sealed.body.clone();
        damaged[at] ^= 1 << (at % 8);
        if matches!(alice.open(&damaged), Err(EngineError::AlreadyOpened)) {
            taken_for_own += 1;
            assert!(mark.is_some() && alice.engine.mark(&damaged) == mark, "byte {at}");
        }
    }
    assert_eq!(taken_for_own > 0, mark.is_some(), "damage behind the sample shows only to who opens it");
    for len in 0..sealed.body.len() {
        assert!(len > 64 || alice.engine.mark(&sealed.body[..len]).is_none());
    }
    assert_eq!(bob.reads(&sealed.body), "mine");
}

fn a_dropped_overlay_undoes_the_call(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let sealed = alice.seal("again");
    let (opened, _) = bob.dry(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body));
    assert_eq!(opened.unwrap().content, b"again");
    assert_eq!(bob.reads(&sealed.body), "again");
    let (update, _) = alice.dry(|engine, cx, own| engine.update(cx, own, THREAD));
    update.unwrap();
    assert!(matches!(alice.merge_own(), Err(EngineError::NotPending)));
    let commit = bob.update();
    let (applied, _) = alice.dry(|engine, cx, own| engine.apply(cx, own, THREAD, &commit.commit));
    applied.unwrap();
    assert_eq!(alice.epoch(), 1);
    assert_eq!(alice.apply(&commit.commit).unwrap(), Epoch::new(2));
}

fn the_other_epoch_is_named(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let commit = alice.update();
    alice.merge_own().unwrap();
    let ahead = alice.seal("ahead");
    match bob.open(&ahead.body) {
        Err(EngineError::WrongEpoch { ours, theirs }) => {
            assert_eq!((ours, theirs), (Epoch::new(1), Epoch::new(2)));
        }
        other => panic!("{other:?}"),
    }
    bob.apply(&commit.commit).unwrap();
    assert_eq!(bob.reads(&ahead.body), "ahead");
    assert!(matches!(bob.apply(&commit.commit), Err(EngineError::WrongEpoch { .. })));
    // A commit that comes before the one it follows.
    let second = alice.update();
    alice.merge_own().unwrap();
    let third = alice.update();
    alice.merge_own().unwrap();
    assert!(matches!(bob.apply(&third.commit), Err(EngineError::WrongEpoch { .. })));
    bob.apply(&second.commit).unwrap();
    bob.apply(&third.commit).unwrap();
}

fn late_messages_of_past_epochs_open_once(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let mut late = Vec::new();
    for epoch in 1..=4 {
        late.push((alice.seal(&format!("a{epoch}")), alice.seal(&format!("b{epoch}"))));
        let commit = alice.update();
        alice.merge_own().unwrap();
        bob.apply(&commit.commit).unwrap();
    }
    for (epoch, (first, second)) in late.iter().enumerate() {
        let opened = bob.open(&second.body).unwrap();
        assert_eq!(opened.epoch, Epoch::new(epoch as u64 + 1));
        assert_eq!(opened.author, alice.id);
        let mut damaged = first.body.clone();
        *damaged.last_mut().unwrap() ^= 1;
        bob.open(&damaged).unwrap_err();
        assert_eq!(bob.reads(&first.body), format!("a{}", epoch + 1));
        assert!(matches!(bob.open(&first.body), Err(EngineError::AlreadyOpened)));
        assert!(matches!(bob.open(&second.body), Err(EngineError::AlreadyOpened)));
    }
    // The live epoch is as it was.
    assert_eq!(bob.reads(&alice.seal("now").body), "now");
    assert_eq!(alice.reads(&bob.seal("reply").body), "reply");
}

fn past_epochs_are_forgotten_by_time(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let mut late = Vec::new();
    for day in 1..=3 {
        late.push(alice.seal("late"));
        let commit = alice.update();
        alice.merge_own().unwrap();
        bob.now.wall = Wall::from_millis((20_000 + day) * DAY);
        bob.apply(&commit.commit).unwrap();
    }
    let rows = bob.rows().len();
    let before = Wall::from_millis(20_003 * DAY);
    assert_eq!(bob.call(|engine, cx, _| engine.prune(cx, THREAD, before)).unwrap(), 2);
    assert!(bob.rows().len() < rows);
    assert!(matches!(bob.open(&late[0].body), Err(EngineError::WrongEpoch { .. })));
    assert_eq!(bob.reads(&late[2].body), "late");
}

fn members_come_and_go(make: fn() -> Box<dyn Engine>, restarts: bool) {
    let mut people = thread(make, 3, restarts);
    let mut dave = Person::new(9, make);
    let invitee = dave.invitee();
    let early = people[1].seal("before Dave");
    let added = people[0].add(&[invitee]);
    assert_eq!(added.epoch, Epoch::new(2));
    people[0].merge_own().unwrap();
    people[1].apply(&added.commit).unwrap();
    people[2].apply(&added.commit).unwrap();
    let joined = dave.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    assert_eq!((joined.epoch, joined.members.len()), (Epoch::new(2), 4));
    assert!(dave.open(&early.body).is_err());
    let hello = dave.seal("hello");
    for person in &mut people {
        assert_eq!(person.reads(&hello.body), "hello");
    }

    let late = people[0].seal("late for Carol");
    let later = dave.seal("later for Carol");
    let own_before = people[2].seal("from Carol, before");
    let carol = people[2].id;
    let removed = people[1].remove(carol);
    assert!(removed.welcome.is_none());
    people[1].merge_own().unwrap();
    people[0].apply(&removed.commit).unwrap();
    dave.apply(&removed.commit).unwrap();
    let secret = people[0].seal("without Carol");
    people[2].open(&secret.body).unwrap_err();
    people[2].apply(&removed.commit).unwrap();
    assert!(matches!(people[2].members(), Err(EngineError::NotMember)));
    assert!(matches!(people[2].open(&secret.body), Err(EngineError::NotMember)));
    let sealed = people[2].call(|engine, cx, own| engine.seal(cx, own, THREAD, b"still here?"));
    assert!(matches!(sealed, Err(EngineError::NotMember)));
    assert_eq!(people[2].reads(&late.body), "late for Carol");
    assert_eq!(people[1].reads(&secret.body), "without Carol");
    assert_eq!(dave.reads(&secret.body), "without Carol");

    // Invited again, the same device comes back, on whatever leaf is free: another device took its old one.
    let mut erin = Person::new(10, make);
    let invitee = erin.invitee();
    let added = people[0].add(&[invitee]);
    people[0].merge_own().unwrap();
    people[1].apply(&added.commit).unwrap();
    dave.apply(&added.commit).unwrap();
    let invitee = people[2].invitee();
    let added = people[0].add(&[invitee]);
    people[0].merge_own().unwrap();
    people[1].apply(&added.commit).unwrap();
    dave.apply(&added.commit).unwrap();
    people[2].join(&added.welcome.unwrap(), &added.tree).unwrap();
    let back = people[2].seal("back");
    assert_eq!(people[1].reads(&back.body), "back");
    assert_eq!(dave.reads(&back.body), "back");
    // What was sealed before the removal still opens, whoever sat on which leaf then.
    assert_eq!(people[2].reads(&later.body), "later for Carol");
    assert!(matches!(people[2].open(&own_before.body), Err(EngineError::AlreadyOpened)));
}

fn a_staged_commit_waits_without_stopping_messages(make: fn() -> Box<dyn Engine>, restarts: bool) {
    let [mut alice, mut bob] = thread(make, 2, restarts).try_into().ok().unwrap();
    let commit = alice.update();
    assert_eq!(commit.epoch, Epoch::new(2));
    assert_eq!(alice.epoch(), 1);
    assert_eq!(bob.reads(&alice.seal("meanwhile").body), "meanwhile");
    assert_eq!(alice.reads(&bob.seal("indeed").body), "indeed");
    let again = alice.call(|engine, cx, own| engine.update(cx, own, THREAD));
    assert!(matches!(again, Err(EngineError::Pending)));
    assert!(matches!(alice.apply(&commit.commit), Err(EngineError::OwnCommit)));
    let late = bob.seal("late");
    alice.merge_own().unwrap();
    bob.apply(&commit.commit).unwrap();
    assert_eq!(alice.reads(&late.body), "late");
    assert_eq!(bob.reads(&alice.seal("after").body), "after");
}

fn the_loser_of_a_race_forgets_its_commit(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let lost = alice.update();
    let won = bob.update();
    bob.merge_own().unwrap();
    alice.apply(&won.commit).unwrap();
    assert!(matches!(alice.merge_own(), Err(EngineError::NotPending)));
    assert!(matches!(bob.apply(&lost.commit), Err(EngineError::WrongEpoch { .. })));
    assert_eq!(bob.reads(&alice.seal("same epoch").body), "same epoch");
    alice.update();
    alice.call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    assert!(matches!(alice.merge_own(), Err(EngineError::NotPending)));
    alice.call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    alice.update();
    alice.merge_own().unwrap();
}

fn a_damaged_commit_or_welcome_does_not_stop_the_genuine_one(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let mut carol = Person::new(3, make);
    let invitee = carol.invitee();
    let commit = alice.add(&[invitee]);
    let welcome = commit.welcome.unwrap();
    let damaged = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    for at in (0..commit.commit.len()).step_by(97) {
        bob.apply(&damaged(&commit.commit, at)).unwrap_err();
    }
    for at in (0..welcome.len()).step_by(97) {
        carol.join(&damaged(&welcome, at), &commit.tree).unwrap_err();
    }
    for at in (0..commit.tree.len()).step_by(97) {
        carol.join(&welcome, &damaged(&commit.tree, at)).unwrap_err();
    }
    alice.merge_own().unwrap();
    bob.apply(&commit.commit).unwrap();
    carol.join(&welcome, &commit.tree).unwrap();
    assert_eq!(carol.reads(&bob.seal("welcome").body), "welcome");
    assert!(matches!(carol.join(&welcome, &commit.tree), Err(EngineError::NoKeyPackage)));
}

fn a_key_package_is_for_one_device_and_one_use(make: fn() -> Box<dyn Engine>) {
    let mut people = people(make, 3, false);
    let good = people[1].invitee();
    let mut check = |invitee: Invitee| people[0].call(|engine, cx, _| engine.check_key_package(cx, &invitee));
    check(good.clone()).unwrap();
    let fault = |result: Result<(), EngineError>| match result {
        Err(EngineError::KeyPackage { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    let other = DeviceId { index: DeviceIndex::new(77), ..good.id };
    assert_eq!(fault(check(Invitee { id: other, ..good.clone() })), KeyPackageFault::Credential);
    let stranger = KeyPair::from_seed_bytes([99; 32]).public();
    assert_eq!(fault(check(Invitee { device_key: stranger, ..good.clone() })), KeyPackageFault::DeviceKey);
    for at in (0..good.key_package.len()).step_by(13) {
        let mut key_package = good.key_package.clone();
        key_package[at] ^= 1;
        fault(check(Invitee { key_package, ..good.clone() }));
    }
    assert_eq!(fault(check(Invitee { key_package: Vec::new(), ..good.clone() })), KeyPackageFault::Malformed);

    for (days, fine) in [(0, true), (85, true), (87, false)] {
        people[0].now.wall = Wall::from_millis((20_000 + days) * DAY);
        let checked = people[0].call(|engine, cx, _| engine.check_key_package(cx, &good));
        assert_eq!(checked.is_ok(), fine, "after {days} days");
    }
    people[0].now.wall = Wall::from_millis(19_997 * DAY);
    let early = people[0].call(|engine, cx, _| engine.check_key_package(cx, &good));
    assert!(matches!(early, Err(EngineError::KeyPackage { fault: KeyPackageFault::Lifetime, .. })));
    people[0].now.wall = Wall::from_millis(20_000 * DAY);

    let twice = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &[good.clone(), good.clone()]));
    assert!(matches!(twice, Err(EngineError::KeyPackage { fault: KeyPackageFault::Duplicate, .. })));
    let created =
        people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, std::slice::from_ref(&good))).unwrap();
    // The welcome is Bob's alone, and good once.
    assert!(matches!(people[2].join(&created.welcome, &created.tree), Err(EngineError::NoKeyPackage)));
    people[1].join(&created.welcome, &created.tree).unwrap();
    assert!(matches!(people[1].join(&created.welcome, &created.tree), Err(EngineError::NoKeyPackage)));
    let present = people[0].call(|engine, cx, own| engine.add(cx, own, THREAD, std::slice::from_ref(&good)));
    assert!(matches!(present, Err(EngineError::KeyPackage { fault: KeyPackageFault::Duplicate, .. })));
}

fn a_last_resort_key_package_serves_more_than_one_thread(make: fn() -> Box<dyn Engine>) {
    let mut people = people(make, 3, false);
    let key_package = people[2].call(|engine, cx, own| engine.key_package(cx, own, true)).unwrap();
    let carol = Invitee { id: people[2].id, device_key: people[2].device.public(), key_package };
    for (maker, byte) in [(0, 1), (1, 2)] {
        let thread = ThreadId::from_bytes([byte; 32]);
        let created =
            people[maker].call(|engine, cx, own| engine.create(cx, own, thread, std::slice::from_ref(&carol))).unwrap();
        assert_eq!(people[2].join(&created.welcome, &created.tree).unwrap().thread, thread);
        let sealed = people[maker].call(|engine, cx, own| engine.seal(cx, own, thread, b"hello")).unwrap();
        let opened = people[2].call(|engine, cx, own| engine.open(cx, own, thread, &sealed.body)).unwrap();
        assert_eq!(opened.content, b"hello");
    }
}

fn a_thread_of_one_device_grows_later(make: fn() -> Box<dyn Engine>) {
    let mut people = people(make, 2, false);
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &[])).unwrap();
    assert_eq!((created.epoch, created.welcome.len()), (Epoch::new(1), 0));
    people[0].seal("note to self");
    let again = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &[]));
    assert!(matches!(again, Err(EngineError::Untrusted)));
    let invitee = people[1].invitee();
    let commit = people[0].add(&[invitee]);
    people[0].merge_own().unwrap();
    people[1].join(&commit.welcome.unwrap(), &commit.tree).unwrap();
    let sealed = people[0].seal("hello");
    assert_eq!(people[1].reads(&sealed.body), "hello");
}

fn nobody_is_removed_who_is_not_there_and_nobody_removes_itself(make: fn() -> Box<dyn Engine>) {
    let (mut alice, bob) = two(make);
    let stranger = DeviceId { index: DeviceIndex::new(7), ..bob.id };
    let mut remove = |device| alice.call(|engine, cx, own| engine.remove(cx, own, THREAD, &[device]));
    assert!(matches!(remove(stranger), Err(EngineError::NotMember)));
    let own = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::new(1) };
    assert!(matches!(remove(own), Err(EngineError::Untrusted)));
}

fn what_belongs_elsewhere_is_refused(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let elsewhere = ThreadId::from_bytes([5; 32]);
    let sealed = alice.seal("here");
    let opened = bob.call(|engine, cx, own| engine.open(cx, own, elsewhere, &sealed.body));
    assert!(matches!(opened, Err(EngineError::Malformed | EngineError::UnknownThread)));
    let epoch = bob.call(|engine, cx, _| engine.epoch(cx, elsewhere));
    assert!(matches!(epoch, Err(EngineError::UnknownThread)));
    let commit = alice.update();
    assert!(matches!(bob.open(&commit.commit), Err(EngineError::Malformed)));
    assert!(matches!(bob.apply(&sealed.body), Err(EngineError::Malformed)));
    let too_much = vec![0; limits::ENVELOPE_BODY_BYTES_MAX];
    let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &too_much));
    assert!(matches!(sealed, Err(EngineError::TooLarge(_))));
}

fn a_body_tells_only_its_bucket(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    for (content, body) in [
        (0, 288),
        (126, 288),
        (127, 1_024),
        (800, 1_024),
        (900, 4_096),
        (3_900, 4_096),
        (4_000, 8_192),
        (20_000, 20_480),
        (crate::padding::CONTENT_BYTES_MAX, 258_048),
    ] {
        let sealed = alice.seal(&"x".repeat(content));
        assert_eq!(sealed.body.len(), body, "{content} bytes");
        assert_eq!(bob.open(&sealed.body).unwrap().content.len(), content);
    }
}

fn what_is_kept_does_not_grow_with_use(make: fn() -> Box<dyn Engine>) {
    let (mut alice, mut bob) = two(make);
    let mut round = |staged: bool| {
        if staged {
            alice.update();
            alice.call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
        }
        let commit = alice.update();
        alice.merge_own().unwrap();
        bob.apply(&commit.commit).unwrap();
        bob.open(&alice.seal("hello").body).unwrap();
        for person in [&mut alice, &mut bob] {
            person.call(|engine, cx, _| engine.prune(cx, THREAD, Wall::from_millis(u64::MAX))).unwrap();
        }
        [&alice, &bob].map(|person| person.rows().values().map(Vec::len).sum::<usize>())
    };
    let first = round(false);
    for _ in 0..5 {
        let now = round(true);
        // A few dozen bytes an epoch are the library's resumption secrets, of which it keeps 32.
        assert!(now.iter().zip(first).all(|(now, first)| *now < first + 1_024), "{first:?}, then {now:?}");
    }
}

/// Everything that leaves a small thread's devices, and everything they keep.
fn a_whole_life(make: fn() -> Box<dyn Engine>) -> (Vec<Vec<u8>>, Vec<Disk>) {
    let mut people = people(make, 5, false);
    let mut out = Vec::new();
    let invitees: Vec<_> = people[1..].iter_mut().map(Person::invitee).collect();
    out.extend(invitees.iter().map(|invitee| invitee.key_package.clone()));
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, &invitees)).unwrap();
    for person in &mut people[1..] {
        person.join(&created.welcome, &created.tree).unwrap();
    }
    out.extend([created.welcome, created.tree]);
    for committer in [2, 4] {
        let sealed = people[committer].seal("said");
        let gone = people[1].id;
        let commit = if committer == 2 { people[committer].update() } else { people[committer].remove(gone) };
        people[committer].merge_own().unwrap();
        for other in (0..5).filter(|other| *other != committer) {
            people[other].open(&sealed.body).unwrap();
            people[other].apply(&commit.commit).unwrap();
        }
        out.extend([sealed.body, commit.commit, commit.tree]);
    }
    (out, people.into_iter().map(|person| person.disk).collect())
}

fn the_same_seed_gives_the_same_bytes(make: fn() -> Box<dyn Engine>) {
    let (first, kept) = a_whole_life(make);
    // More than once: the MLS library works on several threads, whose turns differ when the machine is busy.
    for _ in 0..4 {
        let (second, kept_again) = a_whole_life(make);
        assert!(first == second, "what leaves differs");
        assert!(kept == kept_again, "what is kept differs");
    }
}

macro_rules! contract {
    ($engine:ident, $make:expr) => {
        mod $engine {
            use super::*;

            fn make() -> Box<dyn Engine> {
                Box::new($make)
            }

            contract!(@run
                messages_open_in_any_order_within_the_window,
                a_message_far_behind_is_too_distant,
                a_message_opens_once,
                a_damaged_copy_does_not_stop_the_genuine_one,
                a_damaged_copy_of_ones_own_has_the_mark_of_the_genuine_one,
                a_dropped_overlay_undoes_the_call,
                the_other_epoch_is_named,
                late_messages_of_past_epochs_open_once,
                past_epochs_are_forgotten_by_time,
                the_loser_of_a_race_forgets_its_commit,
                members_hold_one_authenticator_and_another_branch_of_the_same_length_another,
                signals_open_for_whoever_is_in_the_epoch_and_under_their_authors_name_alone,
                a_damaged_commit_or_welcome_does_not_stop_the_genuine_one,
                a_key_package_is_for_one_device_and_one_use,
                a_join_tells_whether_it_used_a_package_up,
                a_last_resort_key_package_serves_more_than_one_thread,
                a_thread_of_one_device_grows_later,
                nobody_is_removed_who_is_not_there_and_nobody_removes_itself,
                what_belongs_elsewhere_is_refused,
                what_is_kept_does_not_grow_with_use,
                a_body_tells_only_its_bucket,
                the_same_seed_gives_the_same_bytes,
            );

            #[test]
            fn two_and_five_people_hear_each_other() {
                everybody_hears_everybody(make, 2, false);
                everybody_hears_everybody(make, 5, false);
            }

            #[test]
            fn an_engine_made_anew_before_every_call_continues() {
                everybody_hears_everybody(make, 3, true);
                members_come_and_go(make, true);
                a_staged_commit_waits_without_stopping_messages(make, true);
            }

            #[test]
            fn members_come_and_go_in_threads() {
                members_come_and_go(make, false);
            }

            #[test]
            fn a_staged_commit_is_no_obstacle() {
                a_staged_commit_waits_without_stopping_messages(make, false);
            }
        }
    };
    (@run $($rule:ident,)*) => {
        $(
            #[test]
            fn $rule() {
                super::$rule(make);
            }
        )*
    };
}

contract!(mls, crate::MlsEngine::new());
#[cfg(feature = "stand-in")]
contract!(stand_in, crate::StandInEngine::new());
