//! Store: the MLS library's storage trait, on rows of a scratch overlay.
//! Owns: one call's scratch, which pieces the library sees, and what it may not write.
//! Never: keeps a signature key (devices sign for themselves), a configuration (ours is constant), or anything the
//! library writes when the call fails: the scratch is dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use openmls::group::MlsGroupState;
use openmls::prelude::MlsGroupJoinConfig;
use openmls_traits::storage::{CURRENT_VERSION, Entity, Key, StorageProvider, traits};
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

use super::codec::{self, CodecError};
use super::rows::{self, Piece};
use super::{parts, past};

/// Key packages that no clock can make this device forget: a full stock, one that was asked for before it, and as many
/// made under a clock that lied. By a year ahead, say, every package given out has long run out.
const KEY_PACKAGES_KEPT: usize = 4 * limits::KEY_PACKAGES_MAX;

/// What the library is told when rows fail; the caller finds the cause in [`Store::failure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rows failed")]
pub(super) struct RowsFailed;

/// Why rows failed.
#[derive(Debug)]
pub(super) enum Failure {
    Rows(StorageError),
    Codec(CodecError),
    /// The library asked for a thread before it was known; a defect.
    NoThread,
}

/// Which state of the thread the library sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The present epoch. A staged commit is not seen: sealing and opening go on while it waits for the hub.
    Live,
    /// While a commit is staged: what the library writes as the group's state goes to a row of its own.
    Staging,
    /// While the staged commit is merged: that row is what the library reads.
    Merging,
    /// One past epoch is there besides the present; its secrets alone are written.
    Past(u64),
}

/// Rows as one call sees and changes them.
pub(super) struct Store<'r> {
    rows: RefCell<Overlay<'r>>,
    thread: Cell<Option<ThreadId>>,
    view: RefCell<View>,
    failure: RefCell<Option<Failure>>,
    config: MlsGroupJoinConfig,
}

/// Rows of one thread read at once; past epochs are the most, and far fewer.
const SCAN_MAX: usize = 65_536;

type Done = Result<(), RowsFailed>;
type Found<T> = Result<Option<T>, RowsFailed>;

impl<'r> Store<'r> {
    pub(super) fn new(below: &'r dyn Reads, thread: Option<ThreadId>, config: MlsGroupJoinConfig) -> Self {
        Self {
            rows: RefCell::new(Overlay::new(below)),
            thread: Cell::new(thread),
            view: RefCell::new(View::Live),
            failure: RefCell::new(None),
            config,
        }
    }

    pub(super) fn set_thread(&self, thread: ThreadId) {
        self.thread.set(Some(thread));
    }

    pub(super) fn set_view(&self, view: View) {
        self.view.replace(view);
    }

    /// Why the library was told that rows failed, if it was.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.borrow_mut().take()
    }

    pub(super) fn into_changes(self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        self.rows.into_inner().into_changes()
    }

    pub(super) fn get(&self, key: &[u8]) -> Found<Vec<u8>> {
        let found = self.rows.borrow().get(key);
        self.noted(found.map_err(Failure::Rows))
    }

    pub(super) fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.borrow_mut().put(key, value);
    }

    pub(super) fn delete(&self, key: Vec<u8>) {
        self.rows.borrow_mut().delete(key);
    }

    pub(super) fn scan(&self, (from, to): &(Vec<u8>, Vec<u8>)) -> Result<Vec<Row>, RowsFailed> {
        let found = self.rows.borrow().scan(from, to, Order::Ascending, SCAN_MAX);
        self.noted(found.map_err(Failure::Rows))
    }

    pub(super) fn delete_all(&self, range: &(Vec<u8>, Vec<u8>)) -> Done {
        let found = self.scan(range)?;
        found.into_iter().for_each(|(key, _)| self.delete(key));
        Ok(())
    }

    /// Notes when a key package just written runs out, and deletes those that have, as of `now`; the newest
    /// [`KEY_PACKAGES_KEPT`] stay whatever the clock says, for a clock that lies must not cost a Welcome.
    pub(super) fn expire_key_packages(
        &self,
        reference: &impl Key<CURRENT_VERSION>,
        until: u64,
        now: u64,
    ) -> Result<(), RowsFailed> {
        self.put(rows::key_package_end(until, &self.hashed(reference)?), Vec::new());
        let ended = self.scan(&rows::key_package_ends(now))?;
        if ended.is_empty() {
            return Ok(());
        }
        let all = self.scan(&rows::key_package_ends(u64::MAX))?.len();
        for (end, _) in ended.into_iter().take(all.saturating_sub(KEY_PACKAGES_KEPT)) {
            if let Some(hash) = end.last_chunk::<32>() {
                self.delete(rows::key_package(hash));
            }
            self.delete(end);
        }
        Ok(())
    }

    /// Keeps the cause of a failure for whoever called the library.
    pub(super) fn noted<T>(&self, result: Result<T, Failure>) -> Result<T, RowsFailed> {
        result.map_err(|failure| {
            self.failure.replace(Some(failure));
            RowsFailed
        })
    }

    fn thread(&self) -> Result<ThreadId, RowsFailed> {
        self.noted(self.thread.get().ok_or(Failure::NoThread))
    }

    fn encode(&self, value: &impl serde::Serialize) -> Result<Vec<u8>, RowsFailed> {
        self.noted(codec::encode(value).map_err(Failure::Codec))
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, RowsFailed> {
        self.noted(codec::decode(bytes).map_err(Failure::Codec))
    }

    fn piece(&self, piece: Piece) -> Result<Vec<u8>, RowsFailed> {
        Ok(rows::piece(self.thread()?, piece))
    }

    fn write(&self, piece: Piece, value: &impl Entity<CURRENT_VERSION>) -> Done {
        self.put(self.piece(piece)?, self.encode(value)?);
        Ok(())
    }

    fn read<T: Entity<CURRENT_VERSION>>(&self, piece: Piece) -> Found<T> {
        self.read_row(&self.piece(piece)?)
    }

    fn read_row<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Found<T> {
        self.get(key)?.map(|bytes| self.decode(&bytes)).transpose()
    }

    fn remove(&self, piece: Piece) -> Done {
        self.delete(self.piece(piece)?);
        Ok(())
    }

    /// Keys of the library may be longer than a row key may be: a hybrid public key has 1,216 bytes.
    fn hashed(&self, key: &impl Key<CURRENT_VERSION>) -> Result<[u8; 32], RowsFailed> {
        Ok(Sha256::digest(self.encode(key)?).into())
    }

    fn epoch_pairs(&self, epoch: &impl Key<CURRENT_VERSION>, leaf: u32) -> Result<Vec<u8>, RowsFailed> {
        let which = [&self.hashed(epoch)?[..8], &leaf.to_be_bytes()].concat();
        Ok(rows::piece_of(self.thread()?, Piece::KeyPairs, &which))
    }

    fn proposal(&self, reference: &impl Key<CURRENT_VERSION>) -> Result<Vec<u8>, RowsFailed> {
        Ok(rows::piece_of(self.thread()?, Piece::Proposal, &self.hashed(reference)?))
    }

    fn proposals<R: Entity<CURRENT_VERSION>, P: Entity<CURRENT_VERSION>>(&self) -> Result<Vec<(R, P)>, RowsFailed> {
        let found = self.scan(&rows::pieces(self.thread()?, Piece::Proposal))?;
        found
            .iter()
            .map(|(_, value)| {
                let (reference, proposal): (Vec<u8>, Vec<u8>) = self.decode(value)?;
                Ok((self.decode(&reference)?, self.decode(&proposal)?))
            })
            .collect()
    }

    fn message_secrets_row(&self) -> Found<Vec<u8>> {
        let live = parts::read(self, self.thread()?, Piece::MessageSecrets)?;
        let View::Past(epoch) = *self.view.borrow() else {
            return Ok(live);
        };
        let thread = self.thread()?;
        let (Some(live), Some(past), Some(index)) =
            (live, self.get(&rows::past_secrets(thread, epoch))?, self.get(&rows::past_index(thread, epoch))?)
        else {
            return Ok(None);
        };
        let missing = || Failure::Codec(CodecError("no member list".to_owned()));
        let hash = self.noted(index.last_chunk::<32>().ok_or_else(missing))?;
        let leaves = self.get(&rows::past_leaves(thread, hash))?;
        let leaves = self.noted(leaves.ok_or_else(missing))?;
        self.noted(codec::with_past(&live, epoch, &past, &leaves).map_err(Failure::Codec)).map(Some)
    }
}

// `GroupId` arguments are not looked at: a store serves one thread, which is known before the library asks.
impl StorageProvider<CURRENT_VERSION> for Store<'_> {
    type Error = RowsFailed;

    fn write_mls_join_config<G: traits::GroupId<CURRENT_VERSION>, C: traits::MlsGroupJoinConfig<CURRENT_VERSION>>(
        &self,
        _: &G,
        _: &C,
    ) -> Done {
        Ok(())
    }

    fn append_own_leaf_node<G: traits::GroupId<CURRENT_VERSION>, L: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &G,
        leaf: &L,
    ) -> Done {
        let mut leaves: Vec<Vec<u8>> = self.read_row(&self.piece(Piece::LeafNodes)?)?.unwrap_or_default();
        leaves.push(self.encode(leaf)?);
        self.put(self.piece(Piece::LeafNodes)?, self.encode(&leaves)?);
        Ok(())
    }

    fn queue_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        P: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        reference: &R,
        proposal: &P,
    ) -> Done {
        let value = (self.encode(reference)?, self.encode(proposal)?);
        self.put(self.proposal(reference)?, self.encode(&value)?);
        Ok(())
    }

    fn write_tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Done {
        self.write(Piece::Tree, tree)
    }

    fn write_interim_transcript_hash<
        G: traits::GroupId<CURRENT_VERSION>,
        H: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        hash: &H,
    ) -> Done {
        self.write(Piece::InterimTranscriptHash, hash)
    }

    fn write_context<G: traits::GroupId<CURRENT_VERSION>, C: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &G,
        context: &C,
    ) -> Done {
        self.write(Piece::Context, context)
    }

    fn write_confirmation_tag<G: traits::GroupId<CURRENT_VERSION>, T: traits::ConfirmationTag<CURRENT_VERSION>>(
        &self,
        _: &G,
        tag: &T,
    ) -> Done {
        self.write(Piece::ConfirmationTag, tag)
    }

    fn write_group_state<S: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        _: &G,
        state: &S,
    ) -> Done {
        let piece = if *self.view.borrow() == View::Staging { Piece::PendingCommit } else { Piece::State };
        self.write(piece, state)
    }

    fn write_message_secrets<G: traits::GroupId<CURRENT_VERSION>, M: traits::MessageSecrets<CURRENT_VERSION>>(
        &self,
        _: &G,
        secrets: &M,
    ) -> Done {
        let bytes = self.encode(secrets)?;
        if let View::Past(epoch) = *self.view.borrow() {
            let past = self.noted(codec::past_of(&bytes).map_err(Failure::Codec))?.to_vec();
            self.put(rows::past_secrets(self.thread()?, epoch), past);
            return Ok(());
        }
        let bytes = self.noted(codec::without_clock(bytes).map_err(Failure::Codec))?;
        parts::write(self, self.thread()?, Piece::MessageSecrets, &bytes)
    }

    fn write_resumption_psk_store<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ResumptionPskStore<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        store: &R,
    ) -> Done {
        self.write(Piece::ResumptionSecrets, store)
    }

    fn write_own_leaf_index<G: traits::GroupId<CURRENT_VERSION>, L: traits::LeafNodeIndex<CURRENT_VERSION>>(
        &self,
        _: &G,
        index: &L,
    ) -> Done {
        self.write(Piece::LeafIndex, index)
    }

    fn write_group_epoch_secrets<G: traits::GroupId<CURRENT_VERSION>, S: traits::GroupEpochSecrets<CURRENT_VERSION>>(
        &self,
        _: &G,
        secrets: &S,
    ) -> Done {
        self.write(Piece::EpochSecrets, secrets)
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        S: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &K,
        _: &S,
    ) -> Done {
        Ok(())
    }

    fn write_encryption_key_pair<K: traits::EncryptionKey<CURRENT_VERSION>, P: traits::HpkeKeyPair<CURRENT_VERSION>>(
        &self,
        key: &K,
        pair: &P,
    ) -> Done {
        self.put(rows::leaf_key_pair(&self.hashed(key)?), self.encode(pair)?);
        Ok(())
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        P: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
        pairs: &[P],
    ) -> Done {
        self.put(self.epoch_pairs(epoch, leaf)?, self.encode(&pairs)?);
        Ok(())
    }

    fn write_key_package<R: traits::HashReference<CURRENT_VERSION>, P: traits::KeyPackage<CURRENT_VERSION>>(
        &self,
        reference: &R,
        package: &P,
    ) -> Done {
        self.put(rows::key_package(&self.hashed(reference)?), self.encode(package)?);
        Ok(())
    }

    fn write_psk<I: traits::PskId<CURRENT_VERSION>, P: traits::PskBundle<CURRENT_VERSION>>(
        &self,
        _: &I,
        _: &P,
    ) -> Done {
        Ok(())
    }

    fn mls_group_join_config<G: traits::GroupId<CURRENT_VERSION>, C: traits::MlsGroupJoinConfig<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<C> {
        // The trait's type is the library's own; a round trip names it.
        self.decode(&self.encode(&self.config)?).map(Some)
    }

    fn own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>, L: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<L>, RowsFailed> {
        let leaves: Vec<Vec<u8>> = self.read_row(&self.piece(Piece::LeafNodes)?)?.unwrap_or_default();
        leaves.iter().map(|leaf| self.decode(leaf)).collect()
    }

    fn queued_proposal_refs<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<R>, RowsFailed> {
        let found = self.scan(&rows::pieces(self.thread()?, Piece::Proposal))?;
        found
            .iter()
            .map(|(_, value)| {
                let (reference, _): (Vec<u8>, Vec<u8>) = self.decode(value)?;
                self.decode(&reference)
            })
            .collect()
    }

    fn queued_proposals<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        P: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
    ) -> Result<Vec<(R, P)>, RowsFailed> {
        self.proposals()
    }

    fn tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(&self, _: &G) -> Found<T> {
        self.read(Piece::Tree)
    }

    fn group_context<G: traits::GroupId<CURRENT_VERSION>, C: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<C> {
        self.read(Piece::Context)
    }

    fn interim_transcript_hash<
        G: traits::GroupId<CURRENT_VERSION>,
        H: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
    ) -> Found<H> {
        self.read(Piece::InterimTranscriptHash)
    }

    fn confirmation_tag<G: traits::GroupId<CURRENT_VERSION>, T: traits::ConfirmationTag<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<T> {
        self.read(Piece::ConfirmationTag)
    }

    fn group_state<S: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<S> {
        match *self.view.borrow() {
            View::Merging => self.read(Piece::PendingCommit),
            // A removed device still opens what was sealed before.
            View::Past(_) => self.decode(&self.encode(&MlsGroupState::Operational)?).map(Some),
            View::Live | View::Staging => self.read(Piece::State),
        }
    }

    fn message_secrets<G: traits::GroupId<CURRENT_VERSION>, M: traits::MessageSecrets<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<M> {
        self.message_secrets_row()?.map(|bytes| self.decode(&bytes)).transpose()
    }

    fn resumption_psk_store<G: traits::GroupId<CURRENT_VERSION>, R: traits::ResumptionPskStore<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<R> {
        self.read(Piece::ResumptionSecrets)
    }

    fn own_leaf_index<G: traits::GroupId<CURRENT_VERSION>, L: traits::LeafNodeIndex<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<L> {
        let View::Past(epoch) = *self.view.borrow() else {
            return self.read(Piece::LeafIndex);
        };
        let index = self.get(&rows::past_index(self.thread()?, epoch))?;
        match index.as_deref().and_then(past::own_leaf) {
            Some(leaf) => self.decode(&self.encode(&leaf)?).map(Some),
            None => Ok(None),
        }
    }

    fn group_epoch_secrets<G: traits::GroupId<CURRENT_VERSION>, S: traits::GroupEpochSecrets<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Found<S> {
        self.read(Piece::EpochSecrets)
    }

    fn signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        S: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &K,
    ) -> Found<S> {
        Ok(None)
    }

    fn encryption_key_pair<P: traits::HpkeKeyPair<CURRENT_VERSION>, K: traits::EncryptionKey<CURRENT_VERSION>>(
        &self,
        key: &K,
    ) -> Found<P> {
        self.read_row(&rows::leaf_key_pair(&self.hashed(key)?))
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        P: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<Vec<P>, RowsFailed> {
        Ok(self.read_row(&self.epoch_pairs(epoch, leaf)?)?.unwrap_or_default())
    }

    fn key_package<R: traits::HashReference<CURRENT_VERSION>, P: traits::KeyPackage<CURRENT_VERSION>>(
        &self,
        reference: &R,
    ) -> Found<P> {
        self.read_row(&rows::key_package(&self.hashed(reference)?))
    }

    fn psk<P: traits::PskBundle<CURRENT_VERSION>, I: traits::PskId<CURRENT_VERSION>>(&self, _: &I) -> Found<P> {
        Ok(None)
    }

    fn remove_proposal<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
        reference: &R,
    ) -> Done {
        self.delete(self.proposal(reference)?);
        Ok(())
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        // Written in no call of ours, so there is mostly nothing to remove.
        if self.get(&self.piece(Piece::LeafNodes)?)?.is_some() { self.remove(Piece::LeafNodes) } else { Ok(()) }
    }

    fn delete_group_config<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        Ok(())
    }

    fn delete_tree<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::Tree)
    }

    fn delete_confirmation_tag<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::ConfirmationTag)
    }

    fn delete_group_state<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::State)
    }

    fn delete_context<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::Context)
    }

    fn delete_interim_transcript_hash<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::InterimTranscriptHash)
    }

    fn delete_message_secrets<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.delete_all(&rows::pieces(self.thread()?, Piece::Part))?;
        self.remove(Piece::MessageSecrets)
    }

    fn delete_all_resumption_psk_secrets<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::ResumptionSecrets)
    }

    fn delete_own_leaf_index<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::LeafIndex)
    }

    fn delete_group_epoch_secrets<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Done {
        self.remove(Piece::EpochSecrets)
    }

    fn clear_proposal_queue<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Done {
        self.delete_all(&rows::pieces(self.thread()?, Piece::Proposal))
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<CURRENT_VERSION>>(&self, _: &K) -> Done {
        Ok(())
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<CURRENT_VERSION>>(&self, key: &K) -> Done {
        self.delete(rows::leaf_key_pair(&self.hashed(key)?));
        Ok(())
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<CURRENT_VERSION>, E: traits::EpochKey<CURRENT_VERSION>>(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
    ) -> Done {
        self.delete(self.epoch_pairs(epoch, leaf)?);
        Ok(())
    }

    fn delete_key_package<R: traits::HashReference<CURRENT_VERSION>>(&self, reference: &R) -> Done {
        self.delete(rows::key_package(&self.hashed(reference)?));
        Ok(())
    }

    fn delete_psk<I: traits::PskId<CURRENT_VERSION>>(&self, _: &I) -> Done {
        Ok(())
    }
}
