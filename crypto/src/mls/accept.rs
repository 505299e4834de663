//! Accept: what a commit of another may do, at a member and at the hub alike.
//! Owns: which proposals it may have, and that it changes nobody's device. Never: judges policy, or a signature.

use std::collections::BTreeMap;

use openmls::group::StagedCommit;
use openmls::prelude::{LeafNodeIndex, Proposal};
use whimbrel_protocol::id::{DeviceId, PublicKey};
use whimbrel_protocol::limits;

use super::{leaf, policy};
use crate::engine::EngineError;

/// Only what this engine serves: members come, go and renew their keys, and the policy changes.
pub(super) fn acceptable(staged: &StagedCommit) -> Result<(), EngineError> {
    let served = |proposal: &Proposal| match proposal {
        Proposal::Add(add) => {
            let package = add.key_package();
            leaf::device(package.leaf_node().credential()).is_some() && package.life_time() == &leaf::always()
        }
        Proposal::Remove(_) | Proposal::Update(_) => true,
        Proposal::GroupContextExtensions(_) => true,
        _ => false,
    };
    policy::set(staged.queued_proposals().map(|queued| queued.proposal()))?;
    if staged.queued_proposals().all(|queued| served(queued.proposal())) { Ok(()) } else { Err(EngineError::Untrusted) }
}

/// A device's key is what its account log says: no commit changes it, and no device has two leaves.
pub(super) fn keeps_devices(
    before: &BTreeMap<DeviceId, PublicKey>,
    after: &[(DeviceId, PublicKey)],
) -> Result<(), EngineError> {
    let kept = after.iter().all(|(id, key)| before.get(id).is_none_or(|known| known == key));
    if kept && after.len() <= limits::THREAD_DEVICES_MAX { Ok(()) } else { Err(EngineError::Untrusted) }
}

/// Whose leaf an external commit puts its own in the place of.
///
/// # Errors
/// [`EngineError::Untrusted`]: it does more than that, or less.
pub(super) fn replaced(staged: &StagedCommit) -> Result<LeafNodeIndex, EngineError> {
    let mut inits = 0;
    let mut removed = Vec::new();
    for queued in staged.queued_proposals() {
        match queued.proposal() {
            Proposal::ExternalInit(_) => inits += 1,
            Proposal::Remove(remove) => removed.push(remove.removed()),
            _ => return Err(EngineError::Untrusted),
        }
    }
    match removed[..] {
        [place] if inits == 1 => Ok(place),
        _ => Err(EngineError::Untrusted),
    }
}
