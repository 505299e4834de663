//! Stage: a commit of our own, from what it is to do to the bytes that leave.
//! Owns: building it beside the live group, which goes on until the hub took it; the GroupInfo and the trees that go with it.
//! Never: merges it (`Engine::merge_own` does).

use std::collections::BTreeSet;

use openmls::group::{MlsGroup, StagedCommit};
use openmls::prelude::tls_codec::Serialize;
use openmls::prelude::{KeyPackage, LeafNodeIndex, LeafNodeParameters, OpenMlsProvider};
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::time::Wall;

use super::chance::DeviceSigner;
use super::errors::library;
use super::rows::{self, Piece};
use super::store::View;
use super::{MlsEngine, Provider, bytes, leaf, policy};
use crate::engine::{Change, Commit, Context, EngineError, Invitee, KeyPackageFault, Own};

impl MlsEngine {
    /// Stages a commit beside the live group.
    pub(super) fn stage(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        change: Change<'_>,
    ) -> Result<Commit, EngineError> {
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            if call.pending()?.is_some() {
                return Err(EngineError::Pending);
            }
            let packages = call.check_adds(group, change.adds)?;
            let leaves = call.leaves_of(group, own, change.removes)?;
            policy::check(group, &change, &packages)?;
            let provider = &call.provider;
            provider.store.set_view(View::Staging);
            let staged = stage(provider, own, group, (packages, leaves, change.policy))?;
            let pending = group.pending_commit().ok_or_else(|| library("the staged commit is gone"))?;
            let commit = Commit {
                epoch: Epoch::new(pending.epoch().as_u64()),
                tree: staged_tree(provider, group, pending)?,
                commit: staged.commit,
                welcome: staged.welcome,
                info: staged.info,
            };
            let key = rows::piece(thread, Piece::PendingCommitHash);
            provider.store.put(key, Sha256::digest(&commit.commit).to_vec());
            // The group in memory forgets the commit; the row keeps it.
            provider.store.set_view(View::Live);
            provider.rows(group.clear_pending_commit(&provider.store))?;
            Ok(commit)
        })
    }
}

/// A commit as it leaves.
pub(super) struct Staged {
    pub(super) commit: Vec<u8>,
    pub(super) welcome: Option<Vec<u8>>,
    pub(super) info: Vec<u8>,
}

/// Builds a commit with a path and stages it in `group`.
pub(super) fn stage(
    provider: &Provider<'_>,
    own: &Own<'_>,
    group: &mut MlsGroup,
    (adds, removes, policy): (Vec<KeyPackage>, Vec<LeafNodeIndex>, Option<&Policy>),
) -> Result<Staged, EngineError> {
    let shown = leaf::capabilities(provider.crypto.suite());
    let mut builder = group.commit_builder().propose_adds(adds).propose_removals(removes);
    if let Some(policy) = policy {
        let extensions = policy::extensions(policy)?;
        builder = builder.propose_group_context_extensions(extensions).map_err(|error| provider.failed(error))?;
    }
    let bundle = builder
        // A leaf of an earlier version shows what this one can.
        .leaf_node_parameters(LeafNodeParameters::builder().with_capabilities(shown).build())
        // The committer heals with every commit.
        .force_self_update(true)
        .load_psks(&provider.store)
        .map_err(|error| provider.failed(error))?
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), &DeviceSigner(own.device), |_| true)
        .map_err(|error| provider.failed(error))?
        .stage_commit(provider)
        .map_err(|error| provider.failed(error))?;
    let (commit, welcome, info) = bundle.into_messages();
    let info = bytes(&info.ok_or_else(|| library("no GroupInfo"))?)?;
    Ok(Staged { commit: bytes(&commit)?, welcome: welcome.as_ref().map(bytes).transpose()?, info })
}

/// What the present epoch is, signed, for whoever has its tree.
pub(super) fn group_info(provider: &Provider<'_>, own: &Own<'_>, group: &MlsGroup) -> Result<Vec<u8>, EngineError> {
    let info = group.export_group_info(provider.crypto(), &DeviceSigner(own.device), false);
    bytes(&info.map_err(|error| provider.failed(error))?)
}

pub(super) fn tree(group: &MlsGroup) -> Result<Vec<u8>, EngineError> {
    group.export_ratchet_tree().tls_serialize_detached().map_err(library)
}

/// The ratchet tree of the epoch a staged commit leads to.
fn staged_tree(provider: &Provider<'_>, group: &MlsGroup, staged: &StagedCommit) -> Result<Vec<u8>, EngineError> {
    let tree = staged.export_ratchet_tree(provider.crypto(), group.export_ratchet_tree()).map_err(library)?;
    tree.ok_or_else(|| library("no tree"))?.tls_serialize_detached().map_err(library)
}

pub(super) fn check_adds(
    provider: &Provider<'_>,
    present: &mut BTreeSet<DeviceId>,
    adds: &[Invitee],
    now: Wall,
) -> Result<Vec<KeyPackage>, EngineError> {
    if adds.len() > limits::COMMIT_ADDS_MAX {
        return Err(EngineError::TooLarge("additions of one commit"));
    }
    if present.len() + adds.len() > limits::THREAD_DEVICES_MAX {
        return Err(EngineError::TooLarge("devices of a thread"));
    }
    adds.iter()
        .map(|invitee| {
            if !present.insert(invitee.id) {
                return Err(EngineError::KeyPackage { device: invitee.id, fault: KeyPackageFault::Duplicate });
            }
            leaf::check_key_package(provider.crypto(), invitee, now)
        })
        .collect()
}
