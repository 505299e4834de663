//! Public: what the hub of a thread asks of group encryption: its public state, which shows what a commit does.
//! Owns: the traits and their words. Never: knows a library (`mls` does, and `stand_in` for simulations), or a secret;
//! judges no policy: who may do what a commit does is asked elsewhere.
//! Rules: docs/protocol/hub.md; RFC 9420 §12.4.
//!
//! Promises every engine keeps, and the contract tests hold it to:
//! - A commit that is refused changes nothing, and the next one is judged as if it had not come.
//! - A state made from [`PublicGroup::save`] judges as the one that was saved.
//! - Nothing depends on a clock or on chance.
//!
//! What public state cannot show: whether the confirmation tag and the membership tag are right, and whether the secrets
//! of a commit's path open (RFC 9420 §6.1, §6.2, §7.6). Only members have the keys to see that.

use std::fmt::Debug;

use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::policy::Policy;

use crate::engine::EngineError;

/// A leaf: whose device it is, and the key it signs with.
pub type Leaf = (DeviceId, PublicKey);

/// What a commit does, shown by its signature and the public state before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who signed it.
    pub committer: DeviceId,
    /// Who gets a leaf, ascending.
    pub added: Vec<Leaf>,
    /// Who loses it, ascending.
    pub removed: Vec<DeviceId>,
    /// It is no member's but an external commit (RFC 9420 §12.4.3.2) by which the committer puts a new leaf of its own in
    /// the place of its old one, and does nothing else.
    pub rejoins: bool,
    /// The policy of the epoch it is made in, if the group has been given one: whether the committer may do this is held to it.
    pub policy: Option<Policy>,
    /// The policy of the epoch it leads to, if it sets another.
    pub sets: Option<Policy>,
}

/// The public state of one thread in one epoch.
pub trait PublicGroup: Debug + Send {
    /// The epoch.
    fn epoch(&self) -> Epoch;

    /// Its members, ascending.
    ///
    /// # Errors
    /// [`EngineError::Untrusted`]: a leaf names no device, or two name one.
    fn members(&self) -> Result<Vec<Leaf>, EngineError>;

    /// The policy of this epoch, if the group has been given one.
    ///
    /// # Errors
    /// [`EngineError::Untrusted`]: none of ours.
    fn policy(&self) -> Result<Option<Policy>, EngineError>;

    /// Judges a commit for this epoch: authentic, of a member, and nothing in it but leaves that come, go and renew their
    /// keys, and a policy; or of a member that replaces its own leaf from without ([`Proved::rejoins`]). The last one that was proved is remembered, so that [`PublicGroup::follow`] need not judge it again.
    ///
    /// # Errors
    /// [`EngineError::Malformed`], [`EngineError::WrongEpoch`], [`EngineError::BadSignature`], [`EngineError::Untrusted`].
    fn prove(&mut self, commit: &[u8]) -> Result<Proved, EngineError>;

    /// Whether a GroupInfo, without the tree, is one of the epoch that the commit proved last leads to, signed by who made
    /// that commit: with it, whoever has followed the commits can make an external commit there.
    ///
    /// # Errors
    /// As [`PublicGroup::offered`]; [`EngineError::Untrusted`] if none was proved since the last was followed.
    fn offered_next(&self, info: &[u8]) -> Result<(), EngineError>;

    /// Whether a GroupInfo, without the tree, is one of this epoch on this branch, signed by a member.
    ///
    /// # Errors
    /// [`EngineError::Malformed`]; [`EngineError::BadSignature`]; [`EngineError::Untrusted`]: of another epoch or branch, or
    /// without the one extension it must have, the key that external commits are sealed to.
    fn offered(&self, info: &[u8]) -> Result<(), EngineError>;

    /// The ratchet tree of this epoch (RFC 9420 §12.4.3.3).
    ///
    /// # Errors
    /// [`EngineError::Library`].
    fn tree(&self) -> Result<Vec<u8>, EngineError>;

    /// Moves on by a commit that holds.
    ///
    /// # Errors
    /// As [`PublicGroup::prove`]; the state stays where it is.
    fn follow(&mut self, commit: &[u8]) -> Result<(), EngineError>;

    /// The state as bytes, for [`PublicEngine::restore`]. What was proved and not followed is not in them.
    ///
    /// # Errors
    /// [`EngineError::Library`].
    fn save(&self) -> Result<Vec<u8>, EngineError>;
}

/// Who makes public states.
pub trait PublicEngine: Send + Sync {
    /// The state of a thread that is opened: the tree, and the GroupInfo that a member signed over it (RFC 9420 §12.4.3),
    /// as [`crate::Created`] gives them.
    ///
    /// # Errors
    /// [`EngineError::Malformed`], [`EngineError::BadSignature`] if they do not fit each other, [`EngineError::Untrusted`] if
    /// they are of another thread or suite.
    fn found(&self, thread: ThreadId, tree: &[u8], info: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError>;

    /// A state that was saved.
    ///
    /// # Errors
    /// [`EngineError::Library`]: not what [`PublicGroup::save`] gave.
    fn restore(&self, thread: ThreadId, saved: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError>;
}
