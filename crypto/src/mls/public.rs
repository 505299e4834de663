//! Public: the library's public group, as the hub of a thread keeps it (RFC 9420 §12.4.2, what needs no secret).
//! Owns: which proposals a commit may have, and that it changes nobody's device; the same that members hold it to (`mls`).
//! Never: has a secret, draws chance, reads a clock that matters (leaf dates say "always", `leaf`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::bytes::ByteVec;
use openmls::ciphersuite::signable::Verifiable;
use openmls::ciphersuite::signature::OpenMlsSignaturePublicKey;
use openmls::group::{ProposalStore, PublicProcessMessageError, StagedCommit};
use openmls::prelude::tls_codec::{Deserialize, Serialize, Size, VLByteSlice, VLBytes};
use openmls::prelude::{
    ContentType, Extension, GroupContext, LeafNode, LeafNodeIndex, MlsMessageBodyIn, ProcessedMessageContent,
    ProtocolMessage, PublicGroup as Library, RatchetTreeIn, Sender,
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::public_storage::PublicStorageProvider;
use openmls_traits::storage::{CURRENT_VERSION, traits};
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;

use super::accept::{acceptable, replaced};
use super::chance::Crypto;
use super::codec::{self, CodecError};
use super::errors::{library, malformed};
use super::{SUITE, errors, group_id, leaf, message, path, policy};
use crate::engine::EngineError;
use crate::public::{Leaf, Proved, PublicEngine, PublicGroup};
use crate::{Chance, Seed};

/// Public states by MLS.
#[derive(Clone)]
pub struct MlsPublic {
    /// See `MlsEngine`: nothing is drawn from its generator.
    primitives: Arc<RustCrypto>,
}

impl MlsPublic {
    /// An engine; it keeps nothing.
    pub fn new() -> Self {
        Self { primitives: Arc::new(RustCrypto::default()) }
    }
}

impl Default for MlsPublic {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MlsPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MlsPublic")
    }
}

impl PublicEngine for MlsPublic {
    fn found(&self, thread: ThreadId, bytes: &[u8], info: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        let info = match message(info)? {
            MlsMessageBodyIn::GroupInfo(info) => info,
            _ => return Err(EngineError::Malformed),
        };
        let tree = RatchetTreeIn::tls_deserialize_exact(bytes).map_err(malformed)?;
        let ours = info.group_id() == &group_id(thread) && info.ciphersuite() == SUITE;
        if !ours {
            return Err(EngineError::Untrusted);
        }
        policy::read(info.group_context().extensions())?;
        if places(&tree, bytes.len())? > limits::PUBLIC_TREE_PLACES_MAX {
            return Err(EngineError::TooLarge("places of a tree"));
        }
        let pieces = Pieces::default();
        let (group, _) = Library::from_external(&crypto(&self.primitives), &pieces, tree, info, ProposalStore::new())
            .map_err(errors::founding)?;
        let leaves = group.members().all(|member| group.leaf(member.index).is_some_and(fits));
        if !leaves || !group.treesync().full_parents().all(|(_, parent)| path::is_sealable(parent)) {
            return Err(EngineError::Untrusted);
        }
        Ok(Box::new(State { primitives: Arc::clone(&self.primitives), group, pieces, proved: None }))
    }

    fn restore(&self, thread: ThreadId, saved: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        let saved: BTreeMap<u8, ByteVec> = minicbor::decode(saved).map_err(library)?;
        let pieces = Pieces(RefCell::new(saved.into_iter().map(|(piece, bytes)| (piece, bytes.into())).collect()));
        let group = Library::load(&pieces, &group_id(thread)).map_err(library)?;
        let group = group.filter(|group| group.group_id() == &group_id(thread));
        let group = group.ok_or_else(|| library("no public state"))?;
        // It is in the group now, and as large as that.
        pieces.0.borrow_mut().remove(&TREE);
        Ok(Box::new(State { primitives: Arc::clone(&self.primitives), group, pieces, proved: None }))
    }
}

/// The library wants a source of chance with its cryptography; nothing is drawn where nothing is made.
fn crypto(primitives: &RustCrypto) -> Crypto<'_> {
    Crypto::new(primitives, SUITE, Chance::from_seed(Seed::from_bytes([0; 32])))
}

/// A thread's state, and the commit that was proved last, by its hash.
struct State {
    primitives: Arc<RustCrypto>,
    group: Library,
    pieces: Pieces,
    proved: Option<([u8; 32], Judged)>,
}

/// What a commit was found to be.
struct Judged {
    proved: Proved,
    staged: Box<StagedCommit>,
    /// Where its author sits in the next epoch, with which key, and the tag that the next epoch begins with.
    place: LeafNodeIndex,
    key: PublicKey,
    tag: Vec<u8>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

impl State {
    fn judge(&self, commit: &[u8]) -> Result<Judged, EngineError> {
        let message = match message(commit)? {
            MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message),
            _ => return Err(EngineError::Malformed),
        };
        if message.group_id() != self.group.group_id() || message.content_type() != ContentType::Commit {
            return Err(EngineError::Malformed);
        }
        let (ours, theirs) = (self.epoch(), Epoch::new(message.epoch().as_u64()));
        if ours != theirs {
            return Err(EngineError::WrongEpoch { ours, theirs });
        }
        let processed = self.group.process_message(&crypto(&self.primitives), message).map_err(refused)?;
        let sender = processed.sender().clone();
        let staged = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => staged,
            _ => return Err(EngineError::Untrusted),
        };
        let (place, rejoins) = match sender {
            Sender::Member(place) => (place, false),
            Sender::NewMemberCommit => (self.group.ext_commit_sender_index(&staged).map_err(library)?, true),
            _ => return Err(EngineError::Untrusted),
        };
        let committer = if rejoins {
            let before = self.at(replaced(&staged)?)?;
            let own = staged.update_path_leaf_node().and_then(named);
            own.filter(|own| *own == before).ok_or(EngineError::Untrusted)?
        } else {
            acceptable(&staged)?;
            self.at(place)?
        };
        let shown = path::shown(commit, staged.update_path_leaf_node(), !rejoins)?;
        // A device's key is what its account log says: no commit changes it. And whoever commits next seals to these keys.
        if let Some(renewed) = staged.update_path_leaf_node()
            && (named(renewed) != Some(committer)
                || !fits(renewed)
                || !shown.keys.iter().all(|key| path::is_key(key.as_slice())))
        {
            return Err(EngineError::Untrusted);
        }
        let mut members: BTreeMap<DeviceId, PublicKey> = self.members()?.into_iter().collect();
        let mut removed = Vec::new();
        // Who replaces its own leaf is there before and after.
        for proposal in staged.remove_proposals().filter(|_| !rejoins) {
            let (device, _) = self.at(proposal.remove_proposal().removed())?;
            members.remove(&device);
            removed.push(device);
        }
        let mut added = Vec::new();
        for proposal in staged.add_proposals() {
            let new = proposal.add_proposal().key_package().leaf_node();
            let leaf = named(new).filter(|_| fits(new)).ok_or(EngineError::Untrusted)?;
            // No device has two leaves.
            if members.insert(leaf.0, leaf.1).is_some() {
                return Err(EngineError::Untrusted);
            }
            added.push(leaf);
        }
        if members.len() > limits::THREAD_DEVICES_MAX {
            return Err(EngineError::Untrusted);
        }
        removed.sort_unstable();
        added.sort_unstable();
        let sets = policy::set(staged.queued_proposals().map(|queued| queued.proposal()))?;
        let proved = Proved { committer: committer.0, added, removed, rejoins, policy: self.policy()?, sets };
        Ok(Judged { proved, staged, place, key: committer.1, tag: shown.tag })
    }

    /// Whether a GroupInfo is of this context and tag, well signed with the key that sits where it says.
    fn vouched(
        &self,
        info: &[u8],
        context: &GroupContext,
        tag: &[u8],
        signer: impl FnOnce(LeafNodeIndex) -> Option<PublicKey>,
    ) -> Result<(), EngineError> {
        let info = match message(info)? {
            MlsMessageBodyIn::GroupInfo(info) => info,
            _ => return Err(EngineError::Malformed),
        };
        let sealable = |one: &Extension| match one {
            Extension::ExternalPub(key) => path::is_key(key.external_pub().as_slice()),
            _ => false,
        };
        let extensions = info.extensions();
        let complete = extensions.iter().next().is_some_and(sealable) && extensions.iter().count() == 1;
        if info.group_context() != context || !complete {
            return Err(EngineError::Untrusted);
        }
        // What is signed ends in the tag and the signer's place (RFC 9420 §12.4.3), of which the library shows neither.
        let signed = info.unsigned_payload().map_err(library)?;
        let (rest, place) = signed.split_last_chunk::<4>().ok_or(EngineError::Malformed)?;
        let mut expected = context.tls_serialize_detached().map_err(library)?;
        expected.extend(extensions.tls_serialize_detached().map_err(library)?);
        expected.extend(VLByteSlice(tag).tls_serialize_detached().map_err(library)?);
        if rest != expected {
            return Err(EngineError::Untrusted);
        }
        let key = signer(LeafNodeIndex::new(u32::from_be_bytes(*place))).ok_or(EngineError::Untrusted)?;
        let key = OpenMlsSignaturePublicKey::new(key.as_bytes().as_slice().into(), SUITE.signature_algorithm());
        let key = key.map_err(library)?;
        info.verify_no_out(&crypto(&self.primitives), &key).map_err(|_| EngineError::BadSignature)
    }

    fn at(&self, place: LeafNodeIndex) -> Result<Leaf, EngineError> {
        self.group.leaf(place).and_then(named).ok_or(EngineError::Untrusted)
    }
}

/// Whether a leaf is as ours are: others must be able to seal to its key, and nothing of it may grow.
fn fits(leaf: &LeafNode) -> bool {
    path::is_sealable(leaf) && leaf::is_capable(leaf.capabilities(), SUITE) && leaf.extensions().iter().next().is_none()
}

/// Places of a tree of so many bytes, blank ones too: those are a byte each beside the nodes (RFC 9420 §12.4.3.3), and a
/// tree of blanks would be made out in full before its hash is looked at.
fn places(tree: &RatchetTreeIn, bytes: usize) -> Result<usize, EngineError> {
    let (mut nodes, mut taken) = (0, 0);
    for node in tree.nodes() {
        nodes += 1;
        taken += 1 + node.tls_serialized_len();
    }
    // The length in front has four bytes at most (§2.1.2).
    let blank = bytes.checked_sub(taken).ok_or(EngineError::Malformed)?;
    Ok(nodes + blank.saturating_sub(4))
}

/// Whose leaf it is, and its key.
fn named(node: &LeafNode) -> Option<Leaf> {
    let key = PublicKey::try_from(node.signature_key().as_slice()).ok()?;
    leaf::device(node.credential()).map(|device| (device, key))
}

impl PublicGroup for State {
    fn epoch(&self) -> Epoch {
        Epoch::new(self.group.group_context().epoch().as_u64())
    }

    fn members(&self) -> Result<Vec<Leaf>, EngineError> {
        let members: Option<BTreeMap<_, _>> = self.group.members().map(|member| leaf::member(&member)).collect();
        let members = members.filter(|members| members.len() == self.group.members().count());
        Ok(members.ok_or(EngineError::Untrusted)?.into_iter().collect())
    }

    fn policy(&self) -> Result<Option<Policy>, EngineError> {
        policy::read(self.group.group_context().extensions())
    }

    fn prove(&mut self, commit: &[u8]) -> Result<Proved, EngineError> {
        let judged = self.judge(commit)?;
        let proved = judged.proved.clone();
        self.proved = Some((Sha256::digest(commit).into(), judged));
        Ok(proved)
    }

    fn offered_next(&self, info: &[u8]) -> Result<(), EngineError> {
        let (_, judged) = self.proved.as_ref().ok_or(EngineError::Untrusted)?;
        let author = |place| (place == judged.place).then_some(judged.key);
        self.vouched(info, judged.staged.group_context(), &judged.tag, author)
    }

    fn offered(&self, info: &[u8]) -> Result<(), EngineError> {
        let tag = self.group.confirmation_tag().tls_serialize_detached().map_err(library)?;
        let tag = VLBytes::tls_deserialize_exact(&tag).map_err(library)?;
        let member = |place| self.at(place).ok().map(|(_, key)| key);
        self.vouched(info, self.group.group_context(), tag.as_slice(), member)
    }

    fn tree(&self) -> Result<Vec<u8>, EngineError> {
        self.group.export_ratchet_tree().tls_serialize_detached().map_err(library)
    }

    fn follow(&mut self, commit: &[u8]) -> Result<(), EngineError> {
        let hash: [u8; 32] = Sha256::digest(commit).into();
        let staged = match self.proved.take() {
            Some((known, judged)) if known == hash => judged.staged,
            _ => self.judge(commit)?.staged,
        };
        self.group.merge_commit(&self.pieces, *staged).map_err(library)
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        let mut pieces: BTreeMap<u8, ByteVec> =
            self.pieces.0.borrow().iter().map(|(piece, bytes)| (*piece, bytes.clone().into())).collect();
        pieces.insert(TREE, codec::encode(self.group.treesync()).map_err(library)?.into());
        minicbor::to_vec(&pieces).map_err(library)
    }
}

fn refused(error: PublicProcessMessageError) -> EngineError {
    match error {
        PublicProcessMessageError::ValidationError(error) => errors::validation(error),
        PublicProcessMessageError::InvalidCommit(error) => errors::commit(error),
        PublicProcessMessageError::LibraryError(error) => library(error),
        PublicProcessMessageError::IncompatibleWireFormat => EngineError::Malformed,
        _ => EngineError::Untrusted,
    }
}

const TREE: u8 = 0;
const CONTEXT: u8 = 1;
const INTERIM: u8 = 2;
const CONFIRMATION: u8 = 3;

/// What the library keeps of one group. It writes all of it with each commit; the tree, which is nearly all, is taken from
/// the group itself when the state is saved, and is here only while one is loaded.
#[derive(Default)]
struct Pieces(RefCell<BTreeMap<u8, Vec<u8>>>);

type Done = Result<(), CodecError>;
type Found<T> = Result<Option<T>, CodecError>;

impl Pieces {
    fn write(&self, piece: u8, value: &impl serde::Serialize) -> Done {
        self.0.borrow_mut().insert(piece, codec::encode(value)?);
        Ok(())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, piece: u8) -> Found<T> {
        self.0.borrow().get(&piece).map(|bytes| codec::decode(bytes)).transpose()
    }

    fn remove(&self, piece: u8) -> Done {
        self.0.borrow_mut().remove(&piece);
        Ok(())
    }
}

// `GroupId` arguments are not looked at: the pieces are of one group. Proposals travel in commits alone.
impl PublicStorageProvider<CURRENT_VERSION> for Pieces {
    type PublicError = CodecError;

    fn write_tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(
        &self,
        _: &G,
        _: &T,
    ) -> Done {
        Ok(())
    }

    fn write_interim_transcript_hash<
        G: traits::GroupId<CURRENT_VERSION>,
        H: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        hash: &H,
    ) -> Done {
        self.write(INTERIM, hash)
    }

    fn write_context<G: traits::GroupId<CURRENT_VERSION>, C: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &G,
        context: &C,
    ) -> Done {
        self.write(CONTEXT, context)
    }

    fn write_confirmation_tag<G: traits::GroupId<CURRENT_VERSION>, T: traits::ConfirmationTag<CURRENT_VERSION>>(
        &self,
        _: &G,
        tag: &T,
    ) -> Done {
        self.write(CONFIRMATION, tag)
    }

    fn queue_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        P: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        _: &R,
        _: &P,
    ) -> Done {
        Err(CodecError("a proposal by itself".to_owned()))
    }

    fn queued_proposals<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        P: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
    ) -> Result<Vec<(R, P)>, CodecError> {
        Ok(Vec::new())
    }

    fn tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(&self, _: &G) -> Found<T> {
        self.read(TREE)
    }

    fn group_context<G: traits::GroupId<CURRENT_VERSION>, C: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<C> {
        self.read(CONTEXT)
    }

    fn interim_transcript_hash<
        G: traits::GroupId<CURRENT_VERSION>,
        H: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
    ) -> Found<H> {
        self.read(INTERIM)
    }

    fn confirmation_tag<G: traits::GroupId<CURRENT_VERSION>, T: traits::ConfirmationTag<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<T> {
        self.read(CONFIRMATION)
    }

    fn delete_tree<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(TREE)
    }

    fn delete_confirmation_tag<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(CONFIRMATION)
    }

    fn delete_context<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(CONTEXT)
    }

    fn delete_interim_transcript_hash<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(INTERIM)
    }

    fn remove_proposal<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
        _: &R,
    ) -> Done {
        Ok(())
    }

    fn clear_proposal_queue<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Done {
        Ok(())
    }
}
