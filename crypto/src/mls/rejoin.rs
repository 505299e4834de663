//! Rejoin: going on in a thread of which a commit could not be applied, by an external commit (RFC 9420 §12.4.3.2).
//! Owns: making it, and keeping what it leads to beside the live group until it holds.
//! Never: takes the word of a GroupInfo for what the thread is; who calls has followed the commits (`public`).
//! Rules: docs/protocol/hub.md 29 to 32.
//!
//! There is no resumption secret of the last good epoch in it, though RFC 9420 §8.6 has such: the library's builder starts
//! from an empty store of them, and a member that came in a later epoch could not follow a commit that asks for it.

use minicbor::bytes::ByteVec;
use openmls::group::MlsGroup;
use openmls::prelude::tls_codec::Deserialize;
use openmls::prelude::{LeafNodeParameters, MlsMessageBodyIn, OpenMlsProvider, RatchetTreeIn};
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_storage::{Order, Reads, Row, StorageError};

use super::chance::DeviceSigner;
use super::errors::{library, malformed};
use super::rows::{self, Piece};
use super::{Call, MlsEngine, Provider, bytes, config, leaf, members, message};
use crate::engine::{Commit, Context, EngineError, Own};
use crate::public::PublicGroup;

/// No rows: what an external commit leads to is made from nothing.
struct Nothing;

impl Reads for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: Order, _: usize) -> Result<Vec<Row>, StorageError> {
        Ok(Vec::new())
    }
}

/// Makes the commit, and with it the rows of the group it leads to; into rows of their own, for the live group goes on.
fn made(
    provider: &Provider<'_>,
    own: &Own<'_>,
    tree: RatchetTreeIn,
    info: &[u8],
) -> Result<(Commit, MlsGroup), EngineError> {
    let info = match message(info)? {
        MlsMessageBodyIn::GroupInfo(info) => info,
        _ => return Err(EngineError::Malformed),
    };
    let shown = leaf::capabilities(provider.crypto.suite());
    let (group, bundle) = MlsGroup::external_commit_builder()
        .with_ratchet_tree(tree)
        .with_config(config(0))
        .skip_lifetime_validation()
        .build_group(provider, info, leaf::credential(own)?)
        .map_err(|error| provider.failed(error))?
        .leaf_node_parameters(LeafNodeParameters::builder().with_capabilities(shown).build())
        .load_psks(provider.storage())
        .map_err(|error| provider.failed(error))?
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), &DeviceSigner(own.device), |_| true)
        .map_err(|error| provider.failed(error))?
        .finalize(provider)
        .map_err(|error| provider.failed(error))?;
    let tree = super::tree(&group)?;
    let epoch = super::epoch(&group);
    let (commit, _, info) = bundle.into_messages();
    let info = bytes(&info.ok_or_else(|| library("no GroupInfo"))?)?;
    Ok((Commit { epoch, commit: bytes(&commit)?, welcome: None, tree, info }, group))
}

/// Stages a commit by which this device goes on in the epoch that `public` is in.
pub(super) fn stage(
    engine: &mut MlsEngine,
    cx: &mut Context<'_, '_>,
    own: &Own<'_>,
    thread: ThreadId,
    public: &dyn PublicGroup,
    info: &[u8],
) -> Result<Commit, EngineError> {
    public.offered(info)?;
    let ours = (own.id, own.device.public());
    if !public.members()?.contains(&ours) {
        return Err(EngineError::NotMember);
    }
    let tree = RatchetTreeIn::tls_deserialize_exact(public.tree()?).map_err(malformed)?;
    let chance = cx.chance.fork("rejoin");
    let provider = engine.provider(&Nothing, Some(thread), chance);
    let (commit, group) = made(&provider, own, tree, info)?;
    if members(&group)?.len() != public.members()?.len() {
        return Err(EngineError::NotMember);
    }
    let kept: Vec<(ByteVec, ByteVec)> = provider
        .store
        .into_changes()
        .into_iter()
        .filter_map(|(key, value)| Some((key.into(), value?.into())))
        .collect();
    let kept = minicbor::to_vec(kept).map_err(library)?;
    engine.on_thread(cx, thread, |call, group| {
        call.active(group)?;
        if call.pending()?.is_some() {
            return Err(EngineError::Pending);
        }
        let store = &call.provider.store;
        store.put(rows::piece(thread, Piece::PendingCommitHash), Sha256::digest(&commit.commit).to_vec());
        store.put(rows::piece(thread, Piece::Rejoin), kept);
        Ok(commit)
    })
}

/// Goes over to what an external commit of ours led to, if that is what is staged. The epoch that is left is remembered.
pub(super) fn merged(call: &Call<'_>, group: &mut MlsGroup) -> Result<Option<Epoch>, EngineError> {
    let provider = &call.provider;
    let Some(kept) = provider.rows(provider.store.get(&rows::piece(call.thread, Piece::Rejoin)))? else {
        return Ok(None);
    };
    let kept: Vec<(ByteVec, ByteVec)> = minicbor::decode(&kept).map_err(library)?;
    call.set_aside(group)?;
    provider.rows(provider.store.delete_all(&rows::thread(call.thread)))?;
    kept.into_iter().for_each(|(key, value)| provider.store.put(key.into(), value.into()));
    *group = provider.load(call.thread)?;
    Ok(Some(super::epoch(group)))
}

/// Commits and words that no engine of ours makes, for tests of those that judge them.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
pub(crate) mod forged {
    use openmls::prelude::tls_codec::{Serialize, VLByteSlice};
    use openmls_traits::signatures::Signer;

    use super::*;

    /// An external commit by whoever says that it is `own`, and by nothing else.
    pub(crate) fn from_without(own: &Own<'_>, thread: ThreadId, public: &dyn PublicGroup, info: &[u8]) -> Commit {
        let engine = MlsEngine::new();
        let chance = crate::Chance::from_seed(crate::Seed::from_bytes([9; 32]));
        let provider = engine.provider(&Nothing, Some(thread), chance);
        let tree = RatchetTreeIn::tls_deserialize_exact(public.tree().unwrap()).unwrap();
        made(&provider, own, tree, info).unwrap().0
    }

    /// A commit without a membership tag to look at, and its GroupInfo, with another confirmation tag in both.
    pub(crate) fn retagged(own: &Own<'_>, commit: &Commit) -> (Vec<u8>, Vec<u8>) {
        // A confirmation tag, and a membership tag behind it, each with a byte of length in front.
        let (mut bytes, mut info) = (commit.commit.clone(), commit.info.clone());
        let at = bytes.len() - 33 - 32;
        let tag = bytes[at..at + 32].to_vec();
        bytes[at] ^= 1;
        // Four bytes of head, what is signed, and a signature of 64 bytes with two of length.
        let place = info.windows(32).position(|window| window == tag).unwrap();
        info[place] ^= 1;
        let signed = info[4..info.len() - 66].to_vec();
        let mut words = VLByteSlice(b"MLS 1.0 GroupInfoTBS").tls_serialize_detached().unwrap();
        words.extend(VLByteSlice(&signed).tls_serialize_detached().unwrap());
        let signature = DeviceSigner(own.device).sign(&words).unwrap();
        info.truncate(4 + signed.len());
        info.extend(VLByteSlice(&signature).tls_serialize_detached().unwrap());
        (bytes, info)
    }
}
