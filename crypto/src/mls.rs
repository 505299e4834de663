//! MLS: the engine for real threads, on the kept library (RFC 9420) and the hybrid suite.
//! Owns: the order of steps of each engine call; what the library needs stands in the files below `mls/`.
//! Never: computes a primitive, reads a clock that matters, draws chance of its own, keeps state outside the rows.
//! Limits: `limits::THREAD_DEVICES_MAX`, `limits::COMMIT_ADDS_MAX`, `limits::RATCHET_OUT_OF_ORDER`,
//! `limits::RATCHET_FORWARD`, `limits::PAST_EPOCHS_MAX`. Rules: docs/protocol/message.md.
//!
//! Three departures from how the library is commonly used, each for a reason:
//! - A staged commit lies in a row beside the group, not in its state: with it inside, the library refuses to seal,
//!   and a hub that is down would silence the thread.
//! - The live group keeps no past epoch; each is set aside in rows of its own (`past`).
//! - Leaf dates say "always", and the library's check of them is harmless; ours are judged apart (`leaf`).

mod accept;
mod cache;
mod chance;
mod codec;
mod errors;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod interop;
mod leaf;
mod mark;
mod parts;
mod past;
mod path;
mod policy;
mod public;
mod rejoin;
mod rows;
mod stage;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod vectors;

#[cfg(test)]
pub(crate) use chance::spoilt;
#[cfg(test)]
pub(crate) use leaf::of_before;
pub use public::MlsPublic;
#[cfg(test)]
pub(crate) use rejoin::forged;
pub(crate) use rows::KEY_PACKAGES;
pub use rows::KEY_SHAPES;

use std::collections::{BTreeMap, BTreeSet};

use openmls::group::{
    GroupId, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProcessedWelcome,
};
use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::{
    ContentType, KeyPackage, LeafNodeIndex, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, OpenMlsProvider,
    ProcessedMessageContent, ProtocolMessage, RatchetTreeIn, Sender, SenderRatchetConfiguration,
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::types::Ciphersuite;
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::Reads;
use zeroize::Zeroizing;

use self::accept::{acceptable, keeps_devices, replaced};
use self::cache::{Cache, Stamp};
use self::chance::{Crypto, DeviceSigner};
use self::errors::{library, malformed};
use self::rows::Piece;
use self::stage::{check_adds, group_info, stage, tree};
use self::store::{Failure, RowsFailed, Store, View};
use crate::engine::{
    Applied, Authenticator, Change, Commit, Context, Created, Engine, EngineError, Invitee, Joined, Opened, Own,
    SealMark, Sealed,
};
use crate::public::{PublicEngine, PublicGroup};
use crate::signal::SignalKey;
use crate::{padding, signal};

/// ML-KEM-768 with X25519 (X-Wing), AES-128-GCM, SHA-256, ed25519: code point 0x004F of the working group's draft,
/// provisional. docs/adr tells why.
const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;

/// Group encryption by MLS.
pub struct MlsEngine {
    suite: Ciphersuite,
    /// The library seeds a generator from the operating system when this is made, and offers no other way; nothing is
    /// ever drawn from it, for `Crypto` stands before it.
    primitives: RustCrypto,
    cache: Cache,
}

impl MlsEngine {
    /// An engine with nothing loaded.
    pub fn new() -> Self {
        Self::of(SUITE)
    }

    fn of(suite: Ciphersuite) -> Self {
        Self { suite, primitives: RustCrypto::default(), cache: Cache::default() }
    }
}

impl Default for MlsEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MlsEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MlsEngine")
    }
}

/// What the library is given for one call.
struct Provider<'r> {
    crypto: Crypto<'r>,
    store: Store<'r>,
}

impl<'r> OpenMlsProvider for Provider<'r> {
    type CryptoProvider = Crypto<'r>;
    type RandProvider = Crypto<'r>;
    type StorageProvider = Store<'r>;

    fn storage(&self) -> &Store<'r> {
        &self.store
    }

    fn crypto(&self) -> &Crypto<'r> {
        &self.crypto
    }

    fn rand(&self) -> &Crypto<'r> {
        &self.crypto
    }
}

impl Provider<'_> {
    /// The rows' own error if they failed, else `otherwise`.
    fn failure_or(&self, otherwise: EngineError) -> EngineError {
        match self.store.failure() {
            Some(Failure::Rows(error)) => EngineError::Rows(error),
            Some(Failure::Codec(error)) => library(error),
            Some(Failure::NoThread) => EngineError::Library("thread not known yet".to_owned()),
            None => otherwise,
        }
    }

    fn failed(&self, error: impl std::fmt::Display) -> EngineError {
        self.failure_or(library(error))
    }

    fn rows<T>(&self, result: Result<T, RowsFailed>) -> Result<T, EngineError> {
        result.map_err(|error| self.failed(error))
    }

    fn load(&self, thread: ThreadId) -> Result<MlsGroup, EngineError> {
        let group = self.rows(MlsGroup::load(&self.store, &group_id(thread)))?;
        group.ok_or(EngineError::UnknownThread)
    }
}

/// Changes of rows, as an overlay gives them.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A call on one thread: scratch rows, and the group as it stands.
struct Call<'r> {
    provider: Provider<'r>,
    thread: ThreadId,
    now: Wall,
}

impl MlsEngine {
    fn provider<'r>(&'r self, below: &'r dyn Reads, thread: Option<ThreadId>, chance: crate::Chance) -> Provider<'r> {
        Provider {
            crypto: Crypto::new(&self.primitives, self.suite, chance),
            store: Store::new(below, thread, config(0)),
        }
    }

    /// Runs `work` on a thread's present state: all it changed is kept, or nothing.
    fn on_thread<T>(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
        work: impl FnOnce(&Call<'_>, &mut MlsGroup) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let stamp = stamp(cx.rows, thread)?.ok_or(EngineError::UnknownThread)?;
        let cached = self.cache.take(thread, &stamp);
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, Some(thread), chance);
        let (mut group, size) = match cached {
            Some((group, size)) => (group, Some(size)),
            None => (provider.load(thread)?, None),
        };
        let call = Call { provider, thread, now: cx.now.wall };
        // On an error the group is dropped with the scratch: it may have moved ahead of the rows.
        let value = work(&call, &mut group)?;
        let (stamp, changes) = stamped(thread, stamp, call.provider);
        cx.rows.absorb(changes);
        self.cache.put(thread, stamp, group, size);
        Ok(value)
    }

    /// Opens a message of an epoch that was set aside. The live group takes no part and does not change.
    fn open_past(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
        epoch: u64,
        message: ProtocolMessage,
    ) -> Result<Opened, EngineError> {
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, Some(thread), chance);
        provider.store.set_view(View::Past(epoch));
        let mut group = provider.load(thread)?;
        let opened = open(&provider, &mut group, message)?;
        let changes = provider.store.into_changes();
        cx.rows.absorb(changes);
        Ok(opened)
    }
}

impl Call<'_> {
    fn active(&self, group: &MlsGroup) -> Result<(), EngineError> {
        if group.is_active() { Ok(()) } else { Err(EngineError::NotMember) }
    }

    /// The hash of the staged commit, if there is one.
    fn pending(&self) -> Result<Option<Vec<u8>>, EngineError> {
        self.provider.rows(self.provider.store.get(&rows::piece(self.thread, Piece::PendingCommitHash)))
    }

    fn forget_pending(&self) {
        self.provider.store.delete(rows::piece(self.thread, Piece::PendingCommit));
        self.provider.store.delete(rows::piece(self.thread, Piece::PendingCommitHash));
        self.provider.store.delete(rows::piece(self.thread, Piece::Rejoin));
    }

    fn check_adds(&self, group: &MlsGroup, adds: &[Invitee]) -> Result<Vec<KeyPackage>, EngineError> {
        let mut present: BTreeSet<_> = members(group)?.into_iter().map(|(id, _)| id).collect();
        check_adds(&self.provider, &mut present, adds, self.now)
    }

    fn leaves_of(
        &self,
        group: &MlsGroup,
        own: &Own<'_>,
        devices: &[DeviceId],
    ) -> Result<Vec<LeafNodeIndex>, EngineError> {
        let leaves: BTreeMap<_, _> =
            group.members().filter_map(|member| Some((leaf::member(&member)?.0, member.index))).collect();
        let devices: BTreeSet<_> = devices.iter().collect();
        if devices.contains(&own.id) {
            return Err(EngineError::Untrusted);
        }
        devices.into_iter().map(|device| leaves.get(device).copied().ok_or(EngineError::NotMember)).collect()
    }

    fn set_aside(&self, group: &MlsGroup) -> Result<(), EngineError> {
        self.provider.rows(past::set_aside(&self.provider.store, self.thread, group, self.now))
    }
}

impl Engine for MlsEngine {
    fn key_package(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        last_resort: bool,
    ) -> Result<Vec<u8>, EngineError> {
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, None, chance);
        let package = leaf::make_key_package(&provider, own, last_resort, cx.now.wall)?;
        let changes = provider.store.into_changes();
        cx.rows.absorb(changes);
        Ok(package)
    }

    fn check_key_package(&mut self, cx: &mut Context<'_, '_>, invitee: &Invitee) -> Result<(), EngineError> {
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, None, chance);
        leaf::check_key_package(provider.crypto(), invitee, cx.now.wall).map(drop)
    }

    fn create(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        invitees: &[Invitee],
    ) -> Result<Created, EngineError> {
        if stamp(cx.rows, thread)?.is_some() {
            return Err(EngineError::Untrusted);
        }
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, Some(thread), chance);
        let packages = check_adds(&provider, &mut BTreeSet::from([own.id]), invitees, cx.now.wall)?;
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(self.suite)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .sender_ratchet_configuration(ratchet())
            .max_past_epochs(0)
            .use_ratchet_tree_extension(false)
            .capabilities(leaf::capabilities(self.suite))
            .lifetime(leaf::always())
            .build();
        let mut group = MlsGroup::new_with_group_id(
            &provider,
            &DeviceSigner(own.device),
            &config,
            group_id(thread),
            leaf::credential(own)?,
        )
        .map_err(|error| provider.failed(error))?;
        let staged = stage(&provider, own, &mut group, (packages, Vec::new(), None))?;
        group.merge_pending_commit(&provider).map_err(|error| provider.failed(error))?;
        let created = Created {
            epoch: epoch(&group),
            welcome: staged.welcome.unwrap_or_default(),
            tree: tree(&group)?,
            info: group_info(&provider, own, &group)?,
        };
        let (stamp, changes) = stamped(thread, Stamp::default(), provider);
        cx.rows.absorb(changes);
        self.cache.put(thread, stamp, group, None);
        Ok(created)
    }

    fn join(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        welcome: &[u8],
        tree: &[u8],
    ) -> Result<Joined, EngineError> {
        let welcome = match message(welcome)? {
            MlsMessageBodyIn::Welcome(welcome) => welcome,
            _ => return Err(EngineError::Malformed),
        };
        let tree = RatchetTreeIn::tls_deserialize_exact(tree).map_err(malformed)?;
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, None, chance);
        let refused = |error| provider.failure_or(errors::welcome(error));
        let processed = ProcessedWelcome::new_from_welcome(&provider, &config(0), welcome).map_err(refused)?;
        let thread = thread_id(processed.unverified_group_info().group_id())?;
        provider.store.set_thread(thread);
        let before = stamp(cx.rows, thread)?;
        if before.is_some() {
            // Removed and invited again: what is left of the first time makes room. Past epochs stay.
            if provider.load(thread)?.is_active() {
                return Err(EngineError::Untrusted);
            }
            provider.rows(provider.store.delete_all(&rows::thread(thread)))?;
        }
        let staged = openmls::group::JoinBuilder::new(&provider, processed)
            .with_ratchet_tree(tree)
            .skip_lifetime_validation()
            .build()
            .map_err(refused)?;
        let inviter = staged.welcome_sender().map_err(library)?;
        let inviter = leaf::device(inviter.credential()).ok_or(EngineError::Untrusted)?;
        let group = staged.into_group(&provider).map_err(refused)?;
        let members = members(&group)?;
        let ours = (own.id, own.device.public());
        let leaf = group.own_leaf_index();
        let own_leaf = group.members().find(|member| member.index == leaf).as_ref().and_then(leaf::member);
        if own_leaf != Some(ours) || group.ciphersuite() != self.suite || members.len() > limits::THREAD_DEVICES_MAX {
            return Err(EngineError::Untrusted);
        }
        policy::read(group.extensions())?;
        let joined = Joined { thread, epoch: epoch(&group), members, inviter };
        provider.rows(past::forget_from(&provider.store, thread, joined.epoch.get()))?;
        let (stamp, changes) = stamped(thread, before.unwrap_or_default(), provider);
        cx.rows.absorb(changes);
        self.cache.put(thread, stamp, group, None);
        Ok(joined)
    }

    fn seal(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        content: &[u8],
    ) -> Result<Sealed, EngineError> {
        let padded = padding::ciphertext_len(content.len()).ok_or(EngineError::TooLarge("content"))?;
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            let provider = &call.provider;
            provider.rows(group.set_configuration(&provider.store, &config(padded)))?;
            let sealed = group
                .create_message(provider, &DeviceSigner(own.device), content)
                .map_err(|error| provider.failed(error))?;
            Ok(Sealed { epoch: epoch(group), body: bytes(&sealed)? })
        })
    }

    fn open(
        &mut self,
        cx: &mut Context<'_, '_>,
        _: &Own<'_>,
        thread: ThreadId,
        body: &[u8],
    ) -> Result<Opened, EngineError> {
        let message = match message(body)? {
            MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::PrivateMessage(message),
            _ => return Err(EngineError::Malformed),
        };
        if message.group_id() != &group_id(thread) || message.content_type() != ContentType::Application {
            return Err(EngineError::Malformed);
        }
        let theirs = Epoch::new(message.epoch().as_u64());
        // A remembered epoch is told by its row, before any group is loaded.
        if cx.rows.get(&rows::past_index(thread, theirs.get()))?.is_some() {
            return self.open_past(cx, thread, theirs.get(), message);
        }
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            let ours = epoch(group);
            if ours != theirs {
                return Err(EngineError::WrongEpoch { ours, theirs });
            }
            open(&call.provider, group, message)
        })
    }

    fn mark(&self, body: &[u8]) -> Option<SealMark> {
        mark::of(body)
    }

    fn members(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
    ) -> Result<Vec<(DeviceId, PublicKey)>, EngineError> {
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            members(group)
        })
    }

    fn epoch(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Epoch, EngineError> {
        self.on_thread(cx, thread, |_, group| Ok(epoch(group)))
    }

    fn authenticator(&self, rows: &dyn Reads, thread: ThreadId) -> Result<Authenticator, EngineError> {
        stamp(rows, thread)?.ok_or(EngineError::UnknownThread)?;
        // Nothing is drawn where nothing is made.
        let nothing = crate::Chance::from_seed(crate::Seed::from_bytes([0; 32]));
        let call = Call { provider: self.provider(rows, Some(thread), nothing), thread, now: Wall::default() };
        let group = call.provider.load(thread)?;
        call.active(&group)?;
        group.epoch_authenticator().as_slice().try_into().map_err(|_| library("an authenticator of a wrong length"))
    }

    fn signal_key(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<SignalKey, EngineError> {
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            let key = group.export_secret(call.provider.crypto(), signal::LABEL, thread.as_bytes(), 32);
            let key = Zeroizing::new(key.map_err(library)?);
            let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| library("a secret of a wrong length"))?;
            Ok(SignalKey::new((thread, epoch(group)), key, members(group)?))
        })
    }

    fn policy(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Option<Policy>, EngineError> {
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            policy::read(group.extensions())
        })
    }

    fn change(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        change: Change<'_>,
    ) -> Result<Commit, EngineError> {
        self.stage(cx, own, thread, change)
    }

    fn public(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
    ) -> Result<Box<dyn PublicGroup>, EngineError> {
        let (tree, info) = self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            Ok((tree(group)?, group_info(&call.provider, own, group)?))
        })?;
        MlsPublic::new().found(thread, &tree, &info)
    }

    fn rejoin(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        public: &dyn PublicGroup,
        info: &[u8],
    ) -> Result<Commit, EngineError> {
        rejoin::stage(self, cx, own, thread, public, info)
    }

    fn merge_own(&mut self, cx: &mut Context<'_, '_>, _: &Own<'_>, thread: ThreadId) -> Result<Epoch, EngineError> {
        self.on_thread(cx, thread, |call, group| {
            if call.pending()?.is_none() {
                return Err(EngineError::NotPending);
            }
            if let Some(epoch) = rejoin::merged(call, group)? {
                return Ok(epoch);
            }
            call.set_aside(group)?;
            let provider = &call.provider;
            provider.store.set_view(View::Merging);
            *group = provider.load(thread)?;
            group.merge_pending_commit(provider).map_err(|error| provider.failed(error))?;
            call.forget_pending();
            Ok(epoch(group))
        })
    }

    fn discard_own(&mut self, cx: &mut Context<'_, '_>, _: &Own<'_>, thread: ThreadId) -> Result<(), EngineError> {
        self.on_thread(cx, thread, |call, _| {
            if call.pending()?.is_some() {
                call.forget_pending();
            }
            Ok(())
        })
    }

    fn apply(
        &mut self,
        cx: &mut Context<'_, '_>,
        _: &Own<'_>,
        thread: ThreadId,
        commit: &[u8],
    ) -> Result<Applied, EngineError> {
        let hash = Sha256::digest(commit);
        let message = match message(commit)? {
            MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message),
            _ => return Err(EngineError::Malformed),
        };
        if message.group_id() != &group_id(thread) || message.content_type() != ContentType::Commit {
            return Err(EngineError::Malformed);
        }
        let theirs = Epoch::new(message.epoch().as_u64());
        self.on_thread(cx, thread, |call, group| {
            call.active(group)?;
            let ours = epoch(group);
            if ours != theirs {
                return Err(EngineError::WrongEpoch { ours, theirs });
            }
            let pending = call.pending()?;
            if pending.as_deref() == Some(hash.as_slice()) {
                return Err(EngineError::OwnCommit);
            }
            let before: BTreeMap<_, _> = members(group)?.into_iter().collect();
            let places: BTreeMap<_, _> = group.members().map(|one| (one.index, one.credential)).collect();
            let provider = &call.provider;
            let processed = group
                .process_message(provider, message)
                .map_err(|error| provider.failure_or(errors::processing(error)))?;
            let rejoins = match processed.sender() {
                Sender::Member(_) => false,
                Sender::NewMemberCommit => true,
                _ => return Err(EngineError::Untrusted),
            };
            let committer = leaf::device(processed.credential()).ok_or(EngineError::Untrusted)?;
            let staged = match processed.into_content() {
                ProcessedMessageContent::StagedCommitMessage(staged) => staged,
                _ => return Err(EngineError::Untrusted),
            };
            if rejoins {
                if places.get(&replaced(&staged)?).and_then(leaf::device) != Some(committer) {
                    return Err(EngineError::Untrusted);
                }
            } else {
                acceptable(&staged)?;
            }
            let sets = policy::set(staged.queued_proposals().map(|queued| queued.proposal()))?;
            call.set_aside(group)?;
            group.merge_staged_commit(provider, *staged).map_err(|error| provider.failed(error))?;
            if group.is_active() {
                keeps_devices(&before, &members(group)?)?;
            }
            if pending.is_some() {
                call.forget_pending();
            }
            Ok(Applied { epoch: epoch(group), committer, sets })
        })
    }

    fn prune(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId, before: Wall) -> Result<usize, EngineError> {
        let chance = cx.chance.fork("mls");
        let provider = self.provider(&*cx.rows, Some(thread), chance);
        let forgotten = provider.rows(past::forget(&provider.store, thread, before))?;
        let changes = provider.store.into_changes();
        cx.rows.absorb(changes);
        Ok(forgotten)
    }
}

/// Opens an application message with whatever secrets `group` was loaded with.
fn open(provider: &Provider<'_>, group: &mut MlsGroup, message: ProtocolMessage) -> Result<Opened, EngineError> {
    let processed =
        group.process_message(provider, message).map_err(|error| provider.failure_or(errors::processing(error)))?;
    let author = leaf::device(processed.credential()).ok_or(EngineError::Untrusted)?;
    let epoch = Epoch::new(processed.epoch().as_u64());
    match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(message) => {
            Ok(Opened { epoch, author, content: message.into_bytes() })
        }
        // Nobody can open what it sealed itself: the secret went with the sealing.
        ProcessedMessageContent::OwnPrivateMessage => Err(EngineError::AlreadyOpened),
        _ => Err(EngineError::Malformed),
    }
}

/// Every leaf's device and key; a leaf that names none, or names one twice, makes the group none of ours.
fn members(group: &MlsGroup) -> Result<Vec<(DeviceId, PublicKey)>, EngineError> {
    let members: Option<Vec<_>> = group.members().map(|member| leaf::member(&member)).collect();
    let members = members.ok_or(EngineError::Untrusted)?;
    let distinct: BTreeSet<_> = members.iter().map(|(id, _)| id).collect();
    if distinct.len() == members.len() { Ok(members) } else { Err(EngineError::Untrusted) }
}

fn stamp(rows: &dyn Reads, thread: ThreadId) -> Result<Option<Stamp>, EngineError> {
    let found = rows.get(&rows::piece(thread, Piece::Stamp))?;
    found.map(|bytes| Stamp::try_from(bytes.as_slice()).map_err(|_| library("stamp of a wrong length"))).transpose()
}

/// A call's changes, with the stamp of what they lead to among them.
fn stamped(thread: ThreadId, before: Stamp, provider: Provider<'_>) -> (Stamp, Changes) {
    let mut changes = provider.store.into_changes();
    if changes.is_empty() {
        return (before, changes);
    }
    let mut hash = Sha256::new().chain_update(before);
    for (key, value) in &changes {
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update(value.as_ref().map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
        hash.update(value.as_deref().unwrap_or_default());
    }
    let stamp: Stamp = hash.finalize().into();
    changes.insert(rows::piece(thread, Piece::Stamp), Some(stamp.to_vec()));
    (stamp, changes)
}

fn config(padded: usize) -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        // Handshakes are read by the hub; what travels in the thread is always encrypted.
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .padding_size(padded)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(ratchet())
        .build()
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(limits::RATCHET_OUT_OF_ORDER, limits::RATCHET_FORWARD)
}

fn group_id(thread: ThreadId) -> GroupId {
    GroupId::from_slice(thread.as_bytes())
}

fn thread_id(group: &GroupId) -> Result<ThreadId, EngineError> {
    ThreadId::try_from(group.as_slice()).map_err(malformed)
}

fn epoch(group: &MlsGroup) -> Epoch {
    Epoch::new(group.epoch().as_u64())
}

fn message(bytes: &[u8]) -> Result<MlsMessageBodyIn, EngineError> {
    // Of the codec's two readers, the one that takes a stream: the other asserts, in debug builds, on a vector cut short.
    MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract).map_err(malformed)
}

fn bytes(message: &MlsMessageOut) -> Result<Vec<u8>, EngineError> {
    message.tls_serialize_detached().map_err(library)
}
