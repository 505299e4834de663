//! What a relay shows of its tree over the account logs.

use whimbrel_crypto::transparency::{self, Evidence, Succession, VerifiedHead};
use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::transparency::{FetchTreeHead, TreeHead};
use whimbrel_protocol::user::ExtendLog;

use super::*;

impl World {
    fn tree(&mut self, who: usize, at: usize, account: Option<usize>, from: &[u64]) -> (VerifiedHead, TreeHead) {
        let account = account.map(|account| self.devices[account].id().account);
        let request = self.request();
        let heard = self.ask(who, FetchTreeHead { request, domain: domain(at), account, from: from.to_vec() });
        let [Frame::TreeHead(head)] = &heard[..] else { panic!("{heard:?}") };
        let verified = transparency::verify(&head.head).unwrap();
        assert_eq!((verified.relay(), verified.domain()), (relay_id(at), &domain(at)));
        (verified, head.clone())
    }

    /// The person's log gets another entry, and the relay takes it.
    fn rename(&mut self, who: usize, label: &str) {
        let device = &mut self.devices[who];
        let (account, (after, hash)) = (device.log.account(), device.log.head());
        device.log.rename_device(&device.identity, DeviceIndex::FIRST, label, Hlc::default()).unwrap();
        let entries = device.log.tail(after);
        let request = self.request();
        let heard = self.ask(who, ExtendLog { request, account, after, hash, entries });
        assert!(matches!(heard[..], [Frame::Done(_)]), "{heard:?}");
    }
}

#[test]
fn every_log_is_in_the_tree_from_the_answer_on_and_every_head_goes_on_from_those_before() {
    let mut world = World::new(1);
    let alice = world.join("alice", 0);
    let account = world.devices[alice].id().account;
    let (first, shown) = world.tree(alice, 0, Some(alice), &[]);
    let entry = shown.entry.unwrap();
    assert_eq!((first.size(), entry.seq, entry.hash), (1, 1, world.devices[alice].log.head().1));
    first.holds(&account, &entry).unwrap();

    let bob = world.join("bob", 0);
    for label in ["one", "two", "three"] {
        world.rename(alice, label);
    }
    let (head, shown) = world.tree(bob, 0, Some(alice), &[1, 2, 3, 5]);
    assert_eq!(head.size(), 5);
    assert_eq!(head.after(&first, Some(&shown.steps[0])), Ok(Succession::Grown));
    assert_eq!(shown.steps[3].proof, [], "from the present size there is nothing to prove");
    let entry = shown.entry.unwrap();
    assert_eq!((entry.seq, entry.hash), world.devices[alice].log.head(), "the newest entry, and no other");
    head.holds(&account, &entry).unwrap();
    assert!(head.holds(&world.devices[bob].id().account, &entry).is_err());

    // What was shown outlives a crash right after it.
    world.crash(0, false);
    world.start(0);
    world.come_back(bob, 0);
    let (again, _) = world.tree(bob, 0, None, &[]);
    assert_eq!((again.size(), again.root()), (head.size(), head.root()));
    world.come_back(alice, 0);
    world.rename(alice, "four");
    let (later, shown) = world.tree(bob, 0, None, &[5]);
    assert_eq!(later.after(&head, Some(&shown.steps[0])), Ok(Succession::Grown));
    assert_eq!(shown.entry, None, "nobody was asked for");
}

#[test]
fn an_account_that_is_not_there_or_was_deleted_has_no_entry_to_show() {
    let mut world = World::new(1);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 0));
    let account = world.devices[bob].id().account;
    let request = world.request();
    world.ask(bob, whimbrel_protocol::user::DeleteAccount { request, account });
    let (head, shown) = world.tree(alice, 0, Some(bob), &[]);
    assert_eq!((shown.entry, head.size()), (None, 2), "what was in the tree stays in it");
    let request = world.request();
    let account = Some(AccountId::from_bytes([9; 32]));
    let heard = world.ask(alice, FetchTreeHead { request, domain: domain(0), account, from: vec![u64::MAX] });
    assert!(matches!(&heard[..], [Frame::TreeHead(head)] if head.entry.is_none() && head.steps[0].proof.is_empty()));
}

#[test]
fn the_tree_of_another_relay_is_asked_for_there_and_a_peer_is_shown_ours_alone() {
    let mut world = World::new(2);
    let (alice, bob) = (world.join("alice", 0), world.join("bob", 1));
    let (head, shown) = world.tree(alice, 1, Some(bob), &[]);
    let entry = shown.entry.unwrap();
    head.holds(&world.devices[bob].id().account, &entry).unwrap();

    let link = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.run();
    let ask = |domain| FetchTreeHead { request: RequestId::new(7), domain, account: None, from: vec![] };
    world.hand(0, link, &hello(1, 0, None).into());
    world.run();
    world.heard.clear();
    world.hand(0, link, &ask(domain(1)).into());
    world.hand(0, link, &ask(domain(0)).into());
    world.run();
    let [Frame::Refused(refused), Frame::TreeHead(shown)] = &world.heard[..] else { panic!("{:?}", world.heard) };
    assert_eq!(refused.code, RefusalCode::NotFound);
    assert_eq!(transparency::verify(&shown.head).unwrap().relay(), relay_id(0));
}

#[test]
fn a_relay_of_an_older_version_that_knows_nothing_of_trees_is_not_parted_with() {
    let mut world = World::new(2);
    let alice = world.join("alice", 0);
    world.tree(alice, 1, None, &[]);
    let dialled = |((at, link), end): (&(usize, LinkId), &End)| match end {
        End::Relay(1, _) if *at == 0 => Some(*link),
        _ => None,
    };
    let link = world.ends.iter().find_map(dialled).unwrap();
    let refused = |code| Frame::Refused(Refused { request: None, code, retry_after_ms: None });
    world.hand(0, link, &refused(RefusalCode::UnknownKind));
    world.run();
    assert!(world.lives(0, link));
    world.hand(0, link, &refused(RefusalCode::Malformed));
    world.run();
    assert!(!world.lives(0, link));
}

#[test]
fn a_relay_with_two_faces_gives_itself_away_by_two_heads() {
    // One identity over two stores: what each shows is whole.
    let (mut one, mut other) = (World::new(1), World::new(1));
    let alice = one.join("alice", 0);
    let (head, shown) = one.tree(alice, 0, Some(alice), &[]);
    head.holds(&one.devices[alice].id().account, &shown.entry.unwrap()).unwrap();
    other.person("alice");
    let bob = other.join("bob", 0);
    other.join("carol", 0);
    let (later, shown) = other.tree(bob, 0, Some(bob), &[head.size()]);
    later.holds(&other.devices[bob].id().account, &shown.entry.unwrap()).unwrap();
    let step = shown.steps.into_iter().next().unwrap();
    assert_eq!(later.after(&head, Some(&step)), Ok(Succession::TwoFaces));
    let evidence = Evidence { earlier: head.signed().clone(), later: later.signed().clone(), step };
    assert_eq!(evidence.verify().unwrap(), (relay_id(0), domain(0)), "whoever is shown it can tell");
}
