//! Warrant: what comes with a commit and shows to everybody that devices are to go, whoever takes them out.
//! Owns: reading it. Never: knows who may do what without one (`protocol::policy`), or asks what else is known of an account:
//! a hub and every member hold a commit to its warrant alone, so all of them come to the same.
//! Rules: docs/protocol/hub.md 38.

use std::collections::BTreeSet;

use whimbrel_protocol::canonical;
use whimbrel_protocol::hub::{Commit, LEAVE_CONTEXT, Leave, Warrant};
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::signed::Signed;
use whimbrel_storage::planted::{self, Bug};

use crate::account_log::UnverifiedLog;
use crate::keys::KeyPair;
use crate::public::Leaf;
use crate::signed;

/// A device's word that its owner leaves a group.
pub fn leave(device: &KeyPair, by: DeviceId, thread: ThreadId, epoch: Epoch) -> Signed {
    signed::sign(device, by, LEAVE_CONTEXT, canonical::encode(&Leave { thread, epoch }))
}

/// Whether a device with this key said that its owner leaves this group.
pub fn leaves(words: &Signed, key: &PublicKey, thread: ThreadId) -> bool {
    left(words).is_some_and(|leave| leave.thread == thread) && signed::verify(key, LEAVE_CONTEXT, words).is_ok()
}

/// What somebody said who leaves, if it is a word of the kind. Whose it is [`due`] and [`leaves`] check.
pub fn left(words: &Signed) -> Option<Leave> {
    let leave: Leave = minicbor::decode(&words.content).ok()?;
    (canonical::encode(&leave) == words.content).then_some(leave)
}

/// Those of the devices a commit takes out that are to go by what comes with it, where these have a leaf before it. A warrant
/// that does not hold is for none.
///
/// Of a word that somebody leaves this does not show whether their device has had its leaf since: the hub knows.
pub fn due(commit: &Commit, leaves: &[Leaf]) -> BTreeSet<DeviceId> {
    let Some(warrant) = &commit.warrant else { return BTreeSet::new() };
    if planted::active(Bug::WarrantUnread) {
        return commit.removed.iter().copied().collect();
    }
    match warrant {
        Warrant::Revoked(log) => {
            let log = UnverifiedLog(log.to_vec());
            let of_one = |account| commit.removed.iter().any(|device| device.account == account);
            let log = log.claims().filter(|account| of_one(*account)).and_then(|_| log.verify().ok());
            let Some(log) = log else { return BTreeSet::new() };
            let gone = |device: &&DeviceId| {
                let former = log.former(device.index).filter(|_| device.account == log.account());
                former.is_some_and(|former| leaves.contains(&(**device, former.device_key)))
            };
            commit.removed.iter().filter(gone).copied().collect()
        }
        Warrant::Leaves(words) => {
            let key = leaves.iter().find(|(device, _)| *device == words.by).map(|(_, key)| key);
            let said = key.is_some_and(|key| self::leaves(words, key, commit.thread));
            let in_time = left(words).is_some_and(|leave| leave.epoch <= commit.epoch);
            // Whoever goes goes whole.
            let theirs = |device: &DeviceId| device.account == words.by.account;
            let whole = leaves.iter().all(|(device, _)| !theirs(device) || commit.removed.contains(device));
            let holds = said && in_time && whole;
            commit.removed.iter().filter(|device| holds && theirs(device)).copied().collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use whimbrel_protocol::hub::FIRST_TERM;
    use whimbrel_protocol::id::{AccountId, DeviceIndex};
    use whimbrel_protocol::time::Hlc;

    use super::*;
    use crate::account_log::{AccountLog, TransportProof};
    use crate::recovery::RecoveryPhrase;
    use crate::{Chance, Seed};

    /// The log of an account with two devices, the second of which is revoked.
    fn account(seed: u8) -> (AccountLog, AccountId) {
        let mut chance = Chance::from_seed(Seed::from_bytes([seed; 32]));
        let identity = KeyPair::generate(&mut chance);
        let recovery = RecoveryPhrase::generate(&mut chance).recovery_hash();
        let mut log = AccountLog::genesis(&identity, recovery, Hlc::default(), &mut chance);
        for index in [0, 1].map(DeviceIndex::new) {
            let (device, transport) = (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
            let proof = TransportProof::make(&transport, log.account(), index, &device.public());
            log.add_device(&identity, index, device.public(), proof, "device", Hlc::default()).unwrap();
        }
        log.revoke_device(&identity, DeviceIndex::new(1), Hlc::default()).unwrap();
        let account = log.account();
        (log, account)
    }

    fn commit(removed: Vec<DeviceId>, log: Option<Vec<u8>>) -> Commit {
        Commit {
            thread: ThreadId::from_bytes([1; 32]),
            term: FIRST_TERM,
            epoch: Epoch::new(1),
            bytes: Vec::new(),
            added: Vec::new(),
            removed,
            info: Vec::new(),
            warrant: log.map(|log| Warrant::Revoked(log.into())),
        }
    }

    #[test]
    fn a_log_is_a_warrant_for_the_devices_it_revokes_and_for_no_others() {
        let ((log, alice), (others, bob)) = (account(1), account(2));
        let device = |account, index| DeviceId { account, index: DeviceIndex::new(index) };
        let all = vec![device(alice, 0), device(alice, 1), device(alice, 2), device(bob, 1)];
        let leaf = |log: &AccountLog, account, index: u32| {
            let named = log.named(DeviceIndex::new(index)).map(|named| named.device_key);
            (device(account, index), named.unwrap_or(log.identity_key()))
        };
        let leaves: Vec<_> = (0..3).map(|index| leaf(&log, alice, index)).chain([leaf(&others, bob, 1)]).collect();
        let of = |log: Vec<u8>| due(&commit(all.clone(), Some(log)), &leaves).into_iter().collect::<Vec<_>>();
        assert_eq!(of(log.bytes()), [device(alice, 1)]);
        assert_eq!(of(others.bytes()), [device(bob, 1)]);
        assert!(due(&commit(all.clone(), None), &leaves).is_empty());
        // Of what is not taken out nothing is said.
        assert!(due(&commit(vec![device(alice, 0)], Some(log.bytes())), &leaves).is_empty());
        // Whoever has the identity key names what they like: not the leaf there is.
        let strange = [(device(alice, 1), others.identity_key())];
        assert!(due(&commit(vec![device(alice, 1)], Some(log.bytes())), &strange).is_empty());
    }

    #[test]
    fn a_log_that_does_not_prove_itself_is_a_warrant_for_nobody() {
        let (log, alice) = account(1);
        let gone = vec![DeviceId { account: alice, index: DeviceIndex::new(1) }];
        let bytes = log.bytes();
        let leaves: Vec<Leaf> =
            gone.iter().map(|device| (*device, log.former(device.index).unwrap().device_key)).collect();
        assert_eq!(due(&commit(gone.clone(), Some(bytes.clone())), &leaves).len(), 1);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
            }
            assert!(due(&commit(gone.clone(), Some(other)), &leaves).is_empty(), "{at}");
        }
        for len in 0..bytes.len() {
            let short = bytes.get(..len).map(<[u8]>::to_vec);
            assert!(due(&commit(gone.clone(), short), &leaves).is_empty(), "{len}");
        }
    }

    #[test]
    fn a_word_that_somebody_leaves_is_one_for_all_their_devices_in_that_group_and_for_nobody_else() {
        let [one, two, other] = [1, 2, 3].map(|seed| KeyPair::from_seed_bytes([seed; 32]));
        let (alice, bob) = (AccountId::from_bytes([7; 32]), AccountId::from_bytes([8; 32]));
        let device = |account, index| DeviceId { account, index: DeviceIndex::new(index) };
        let leaves =
            [(device(alice, 0), one.public()), (device(alice, 1), two.public()), (device(bob, 0), other.public())];
        let both = vec![device(alice, 0), device(alice, 1)];
        let thread = ThreadId::from_bytes([1; 32]);
        let with = |removed: &[DeviceId], words: Signed| {
            let commit = Commit { warrant: Some(Warrant::Leaves(words)), ..commit(removed.to_vec(), None) };
            due(&commit, &leaves).into_iter().collect::<Vec<_>>()
        };
        let good = leave(&one, device(alice, 0), thread, Epoch::new(1));
        assert_eq!(with(&both, good.clone()), both);
        assert_eq!(with(&[&both[..], &[device(bob, 0)]].concat(), good.clone()), both, "and not who stays");
        assert!(with(&both[..1], good.clone()).is_empty(), "half of them");
        for bad in [
            leave(&one, device(alice, 0), ThreadId::from_bytes([2; 32]), Epoch::new(1)),
            leave(&one, device(alice, 0), thread, Epoch::new(2)),
            leave(&other, device(alice, 0), thread, Epoch::new(1)),
            leave(&other, device(bob, 0), thread, Epoch::new(1)),
            leave(&one, device(alice, 2), thread, Epoch::new(1)),
            Signed { content: [good.content.clone(), vec![0]].concat(), ..good.clone() },
            signed::sign(&one, device(alice, 0), "another", good.content.clone()),
        ] {
            assert!(with(&both, bad.clone()).is_empty(), "{bad:?}");
        }
    }
}
