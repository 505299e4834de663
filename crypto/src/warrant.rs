//! Warrant: what comes with a commit and shows to everybody that devices are to go, whoever takes them out.
//! Owns: reading it. Never: knows who may do what without one (`protocol::policy`), or asks what else is known of an account:
//! a hub and every member hold a commit to its warrant alone, so all of them come to the same.
//! Rules: docs/protocol/hub.md 38.

use std::collections::BTreeSet;

use whimbrel_protocol::hub::{Commit, Warrant};
use whimbrel_protocol::id::DeviceId;
use whimbrel_storage::planted::{self, Bug};

use crate::account_log::UnverifiedLog;

/// Those of the devices a commit takes out that are to go by what comes with it. A warrant that does not hold is for none.
pub fn due(commit: &Commit) -> BTreeSet<DeviceId> {
    let Some(Warrant::Revoked(log)) = &commit.warrant else { return BTreeSet::new() };
    if planted::active(Bug::WarrantUnread) {
        return commit.removed.iter().copied().collect();
    }
    let Ok(log) = UnverifiedLog(log.to_vec()).verify() else { return BTreeSet::new() };
    let gone = |device: &&DeviceId| device.account == log.account() && log.former(device.index).is_some();
    commit.removed.iter().filter(gone).copied().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::hub::FIRST_TERM;
    use whimbrel_protocol::id::{AccountId, DeviceIndex, Epoch, ThreadId};
    use whimbrel_protocol::time::Hlc;

    use super::*;
    use crate::account_log::{AccountLog, TransportProof};
    use crate::keys::KeyPair;
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
        let of = |log: Vec<u8>| due(&commit(all.clone(), Some(log))).into_iter().collect::<Vec<_>>();
        assert_eq!(of(log.bytes()), [device(alice, 1)]);
        assert_eq!(of(others.bytes()), [device(bob, 1)]);
        assert!(due(&commit(all.clone(), None)).is_empty());
        // Of what is not taken out nothing is said.
        assert!(due(&commit(vec![device(alice, 0)], Some(log.bytes()))).is_empty());
    }

    #[test]
    fn a_log_that_does_not_prove_itself_is_a_warrant_for_nobody() {
        let (log, alice) = account(1);
        let gone = vec![DeviceId { account: alice, index: DeviceIndex::new(1) }];
        let bytes = log.bytes();
        assert_eq!(due(&commit(gone.clone(), Some(bytes.clone()))).len(), 1);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
            }
            assert!(due(&commit(gone.clone(), Some(other))).is_empty(), "{at}");
        }
        for len in 0..bytes.len() {
            let short = bytes.get(..len).map(<[u8]>::to_vec);
            assert!(due(&commit(gone.clone(), short)).is_empty(), "{len}");
        }
    }
}
