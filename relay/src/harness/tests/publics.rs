//! How large a public state may be: a tree before anything of it is made out, and what is written (docs/protocol/hub.md 25,
//! 26).

use std::sync::atomic::{AtomicUsize, Ordering};

use whimbrel_crypto::{EngineError, Proved, PublicGroup, StandInPublic};
use whimbrel_protocol::hub::{Commit, FIRST_TERM};
use whimbrel_protocol::id::{AccountId, PublicKey};
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::thread::Founding;

use super::*;
use crate::publics::{Publics, founded};
use crate::refusal::Refusal;
use crate::store::PublicState;
use crate::store::command::hub::Proof;

/// The stand-in's states, each of which says that it takes so many bytes; and how many openings were looked into.
struct Heavy {
    bytes: usize,
    looked: AtomicUsize,
}

#[derive(Debug)]
struct HeavyGroup(Box<dyn PublicGroup>, usize);

impl PublicEngine for Heavy {
    fn found(&self, thread: ThreadId, tree: &[u8], info: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(HeavyGroup(StandInPublic::new().found(thread, tree, info)?, self.bytes)))
    }

    fn restore(&self, thread: ThreadId, saved: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        Ok(Box::new(HeavyGroup(StandInPublic::new().restore(thread, saved)?, self.bytes)))
    }
}

impl PublicGroup for HeavyGroup {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }

    fn members(&self) -> Result<Vec<(DeviceId, PublicKey)>, EngineError> {
        self.0.members()
    }

    fn policy(&self) -> Result<Option<Policy>, EngineError> {
        self.0.policy()
    }

    fn prove(&mut self, commit: &[u8]) -> Result<Proved, EngineError> {
        self.0.prove(commit)
    }

    fn follow(&mut self, commit: &[u8]) -> Result<(), EngineError> {
        self.0.follow(commit)
    }

    fn offered_next(&self, info: &[u8]) -> Result<(), EngineError> {
        self.0.offered_next(info)
    }

    fn offered(&self, info: &[u8]) -> Result<(), EngineError> {
        self.0.offered(info)
    }

    fn tree(&self) -> Result<Vec<u8>, EngineError> {
        self.0.tree()
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        Ok(vec![0; self.1])
    }
}

fn heavy(bytes: usize) -> Heavy {
    Heavy { bytes, looked: AtomicUsize::new(0) }
}

fn device(number: u8) -> DeviceId {
    DeviceId { account: AccountId::from_bytes([number; 32]), index: DeviceIndex::FIRST }
}

/// An opening of two, and the GroupInfo to it.
fn opening() -> (Opening, Vec<u8>) {
    let founding = Founding { creator: device(1).account, hub: relay_id(0), nonce: [3; 32], fixed: false };
    let thread = founding.thread();
    let leaf = |number| (device(number), KeyPair::from_seed_bytes([number; 32]).public());
    let (tree, info) = StandInPublic::forge_opening(thread, &[leaf(1), leaf(2)]);
    let participant = |number| {
        let DeviceId { account, index } = device(number);
        Participant { account, domain: domain(0), devices: vec![index] }
    };
    let participants = vec![participant(1), participant(2)];
    let (epoch, founding) = (Epoch::new(1), Some(Box::new(founding)));
    (Opening { thread, epoch, participants, welcome: vec![3; 9], tree, founding }, info)
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
    result.unwrap_err().code
}

#[test]
fn t52_a_tree_of_more_bytes_than_its_devices_may_have_is_not_looked_into() {
    let (genuine, info) = opening();
    for (over, looks) in [(0, 1), (1, 0)] {
        let engine = heavy(9);
        let mut opening = genuine.clone();
        opening.tree.resize(2 * limits::PUBLIC_TREE_BYTES_PER_DEVICE + over, 0);
        assert_eq!(code(founded(&engine, &opening, Some(&info))), RefusalCode::Unproved, "it is wrong all the same");
        assert_eq!(engine.looked.load(Ordering::Relaxed), looks, "{over} over");
    }
    assert!(founded(&heavy(9), &genuine, Some(&info)).unwrap().is_some());
}

#[test]
fn t52_an_opening_whose_state_is_too_large_to_be_written_is_refused() {
    let (opening, info) = opening();
    let most = limits::PUBLIC_SAVED_BYTES_MAX;
    assert_eq!(founded(&heavy(most), &opening, Some(&info)).unwrap().map(|saved| saved.len()), Some(most));
    assert_eq!(code(founded(&heavy(most + 1), &opening, Some(&info))), RefusalCode::Unproved);
}

#[test]
fn t52_a_commit_that_makes_a_state_due_which_is_too_large_fails_and_one_before_it_is_due_holds() {
    let (opening, info) = opening();
    let saved = StandInPublic::new().found(opening.thread, &opening.tree, &info).unwrap().save().unwrap();
    let (bytes, info) = StandInPublic::forge_commit(&saved, device(1), &[], &[device(2)], None).unwrap();
    let (thread, epoch) = (opening.thread, opening.epoch);
    let removed = vec![device(2)];
    let commit = Commit { thread, term: FIRST_TERM, epoch, bytes, added: Vec::new(), removed, info, warrant: None };
    for (over, due, holds) in [(0, true, true), (1, true, false), (1, false, true)] {
        let engine = heavy(limits::PUBLIC_SAVED_BYTES_MAX + over);
        let state = PublicState { epoch, from: epoch, saved: Some(saved.clone()), commits: Vec::new(), due };
        let (proof, _) = Publics::default().judge(&engine, &commit, state).unwrap().unwrap();
        match proof {
            Proof::Holds(proved, written) => {
                assert!(holds, "{over} over, due: {due}");
                assert_eq!((proved.committer, proved.removed), (device(1), vec![device(2)]));
                assert_eq!(written.is_some(), due);
            }
            other => assert!(matches!(other, Proof::Fails) && !holds, "{over} over, due: {due}: {other:?}"),
        }
    }
}
