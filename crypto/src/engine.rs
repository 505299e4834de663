//! Engine: what the house asks of group encryption, whoever does it.
//! Owns: the trait, its words and its errors; the sealed content's padding stands beside it (`padding`).
//! Never: knows a library; `mls` does, and `stand_in` for simulations. Judges no content: whether a member may do
//! what its commit does is policy, asked elsewhere.
//! Rules: docs/protocol/message.md; RFC 9420.
//!
//! Promises every engine keeps, and the contract tests hold it to:
//! - A failed call leaves no trace, in rows or in memory. A damaged copy of a message that comes first does not stop
//!   the genuine one.
//! - State is in the rows alone. An overlay that is dropped undoes the call; an engine made anew continues.
//! - All chance comes from [`Context::chance`], all time from [`Context::now`].

use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::time::Now;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::chance::Chance;
use crate::keys::KeyPair;
use crate::public::PublicGroup;
use crate::signal::SignalKey;

/// First byte of every row an engine keeps.
pub const ROWS: u8 = b'm';

/// What a call may read and write.
pub struct Context<'a, 'b> {
    /// The rows: read through, and changed only when the call succeeds.
    pub rows: &'a mut Overlay<'b>,
    /// Where randomness comes from.
    pub chance: &'a mut Chance,
    /// What time it is.
    pub now: Now,
}

/// The device that calls.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Its name; the MLS credential is this, encoded.
    pub id: DeviceId,
    /// Its device key; it signs the leaf and every message.
    pub device: &'a KeyPair,
}

/// A device to be taken into a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// Whose device the relay says the key package is.
    pub id: DeviceId,
    /// Its device key, from the verified account log.
    pub device_key: PublicKey,
    /// The key package, as fetched.
    pub key_package: Vec<u8>,
}

/// A thread was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its first epoch with everybody in it.
    pub epoch: Epoch,
    /// For every invitee, without the tree.
    pub welcome: Vec<u8>,
    /// The ratchet tree the welcome needs, fetched apart.
    pub tree: Vec<u8>,
    /// The GroupInfo (RFC 9420 §12.4.3) without the tree: with that, the hub has the thread's public state.
    pub info: Vec<u8>,
}

/// A thread was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Which thread.
    pub thread: ThreadId,
    /// The epoch it was joined in; older messages do not open.
    pub epoch: Epoch,
    /// Who is in it, by leaf. The caller checks each key against its account log.
    pub members: Vec<(DeviceId, PublicKey)>,
    /// Who made the Welcome, by the key of their leaf: whoever says that another took this device in says what is not so.
    pub inviter: DeviceId,
}

/// A content was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// For the members of this epoch.
    pub epoch: Epoch,
    /// What travels.
    pub body: Vec<u8>,
}

/// What a commit of our own is to do; whatever it does, it renews our keys. Nothing: it does that alone, and what was stolen
/// before is worth nothing after.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Devices that get a leaf, at most `limits::COMMIT_ADDS_MAX`.
    pub adds: &'a [Invitee],
    /// Devices that lose it, our own not among them.
    pub removes: &'a [DeviceId],
    /// The policy from then on.
    pub policy: Option<&'a Policy>,
}

/// What can be told of a sealed body without opening it, and only of that one: see [`Engine::mark`].
pub type SealMark = [u8; 32];

/// What everybody in one epoch of a thread holds, on one branch of it, and nobody else: see [`Engine::authenticator`].
pub type Authenticator = [u8; 32];

/// A body was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The epoch it was sealed in.
    pub epoch: Epoch,
    /// Who signed it.
    pub author: DeviceId,
    /// What was sealed.
    pub content: Vec<u8>,
}

/// A commit was staged. It takes effect by [`Engine::merge_own`], once the hub took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The epoch it leads to.
    pub epoch: Epoch,
    /// For the present members.
    pub commit: Vec<u8>,
    /// For the added, without the tree.
    pub welcome: Option<Vec<u8>>,
    /// The ratchet tree of the new epoch.
    pub tree: Vec<u8>,
    /// The GroupInfo of the new epoch (RFC 9420 §12.4.3) without the tree, for whoever cannot apply this commit.
    pub info: Vec<u8>,
}

/// Another member's commit was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The epoch it leads to.
    pub epoch: Epoch,
    /// Who signed it.
    pub committer: DeviceId,
    /// The policy of the epoch it leads to, if it sets another.
    pub sets: Option<Policy>,
}

/// What is wrong with a key package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPackageFault {
    /// Not a key package, or its signatures do not hold.
    Malformed,
    /// Of another protocol version or suite: its keys are none of the suite's, or its leaf has what no leaf of ours has.
    Suite,
    /// Its credential names another device.
    Credential,
    /// Its leaf key is not the device's key.
    DeviceKey,
    /// Not valid yet, no longer, or for too long.
    Lifetime,
    /// The device's leaf is in the thread, or the package comes twice.
    Duplicate,
}

/// Why a call did nothing. Each says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Not a body, commit, welcome or tree. Drop it; the sender, or whoever carried it, is at fault.
    #[error("malformed")]
    Malformed,
    /// This device has no such thread. Join it, or drop what came.
    #[error("unknown thread")]
    UnknownThread,
    /// This device, or the one named, is not a member (any more).
    #[error("not a member")]
    NotMember,
    /// Of another epoch. Ahead of ours: park it until the commits between have come. Behind: its secrets are gone, ask
    /// the author to seal again.
    #[error("of epoch {theirs:?}, ours is {ours:?}")]
    WrongEpoch {
        /// Where this device is.
        ours: Epoch,
        /// Where the other was.
        theirs: Epoch,
    },
    /// This very message was opened before, or it is this device's own. Drop it.
    #[error("opened before")]
    AlreadyOpened,
    /// Too many messages of the author lie between. Ask for those between, or for a resend.
    #[error("too distant from the messages seen")]
    TooDistant,
    /// Damaged or forged: no genuine message looks like this. Drop it and wait for the genuine copy.
    #[error("not authentic")]
    BadSignature,
    /// Authentic, but by a member that may not do this, or for a purpose it does not serve.
    #[error("not acceptable")]
    Untrusted,
    /// It is the very commit this device staged. Merge it ([`Engine::merge_own`]).
    #[error("the commit staged here")]
    OwnCommit,
    /// The welcome is for none of this device's key packages, or for one used up.
    #[error("no key package for this welcome")]
    NoKeyPackage,
    /// A key package is refused. Leave that device out, or fetch another.
    #[error("key package of {device} refused: {fault:?}")]
    KeyPackage {
        /// Whose.
        device: DeviceId,
        /// Why.
        fault: KeyPackageFault,
    },
    /// A device in the thread, or one to be added, is of a version that knows of no policy. Its next commit, or next key package,
    /// is of this one.
    #[error("{0} is of a version without roles")]
    Outdated(DeviceId),
    /// A commit of our own is staged; merge or discard it first.
    #[error("a commit is pending")]
    Pending,
    /// There is no staged commit to merge.
    #[error("no commit is pending")]
    NotPending,
    /// More than fits: content, members or additions of one commit.
    #[error("{0} over its bound")]
    TooLarge(&'static str),
    /// The rows could not be read.
    #[error(transparent)]
    Rows(#[from] StorageError),
    /// The library failed where it should not; a defect to report. Without secrets.
    #[error("encryption library: {0}")]
    Library(String),
}

/// Group encryption (RFC 9420) as the house needs it.
pub trait Engine: Send {
    /// A fresh key package, its secrets stored. A last-resort one may be used by many welcomes; others once.
    ///
    /// # Errors
    /// Rows or library only.
    fn key_package(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        last_resort: bool,
    ) -> Result<Vec<u8>, EngineError>;

    /// Checks a key package: well signed, of our suite, for this very device and key, and within its lifetime.
    ///
    /// # Errors
    /// [`EngineError::KeyPackage`].
    fn check_key_package(&mut self, cx: &mut Context<'_, '_>, invitee: &Invitee) -> Result<(), EngineError>;

    /// Makes a thread of `own` and the invitees in one commit, already merged: epoch 1. At most
    /// `limits::COMMIT_ADDS_MAX` invitees.
    ///
    /// # Errors
    /// A key package is refused; [`EngineError::TooLarge`]; [`EngineError::Untrusted`] if the thread exists.
    fn create(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        invitees: &[Invitee],
    ) -> Result<Created, EngineError>;

    /// Joins by a welcome and the tree that goes with it.
    ///
    /// # Errors
    /// [`EngineError::NoKeyPackage`], [`EngineError::Malformed`], [`EngineError::BadSignature`],
    /// [`EngineError::Untrusted`] if this device is in the thread already.
    fn join(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        welcome: &[u8],
        tree: &[u8],
    ) -> Result<Joined, EngineError>;

    /// Seals a content for the thread's present epoch, padded so that the body's length tells only a bucket of
    /// `limits::PADDING_BUCKETS`.
    ///
    /// # Errors
    /// [`EngineError::TooLarge`], membership. A staged commit of our own is no obstacle.
    fn seal(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        content: &[u8],
    ) -> Result<Sealed, EngineError>;

    /// Opens a body of the present or a remembered epoch.
    ///
    /// # Errors
    /// Any of those for a received message.
    fn open(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        body: &[u8],
    ) -> Result<Opened, EngineError>;

    /// By what the library knows a body as its own sealer's, whatever became of the rest on the way: a damaged copy that
    /// still passes for our own has the mark of the genuine one. Absent: not a sealed content, or of an engine that opens
    /// its own.
    fn mark(&self, body: &[u8]) -> Option<SealMark>;

    /// The members of the present epoch, by leaf.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`].
    fn members(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
    ) -> Result<Vec<(DeviceId, PublicKey)>, EngineError>;

    /// The present epoch.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`].
    fn epoch(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Epoch, EngineError>;

    /// The authenticator of the present epoch (RFC 9420 §8.7), of 32 bytes. Two devices have the same if they are in the same
    /// epoch by the same commits; two epochs of one number, by different commits, have different ones. It opens nothing and
    /// tells nothing of any key: members may say it aloud. Reads alone; it loads the whole thread, so it is for
    /// comparisons now and then.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`]; membership.
    fn authenticator(&self, rows: &dyn Reads, thread: ThreadId) -> Result<Authenticator, EngineError>;

    /// The key of the present epoch's signals, and who is in the thread: 68 bytes a member, to be kept at hand.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`]; membership.
    fn signal_key(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<SignalKey, EngineError>;

    /// The policy of the present epoch, if the group has been given one.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`]; membership; [`EngineError::Untrusted`]: none of ours.
    fn policy(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Option<Policy>, EngineError>;

    /// Stages a commit.
    ///
    /// # Errors
    /// A key package is refused; [`EngineError::NotMember`] if one to go is not in the thread; [`EngineError::Untrusted`] if it is
    /// our own; [`EngineError::Outdated`]; [`EngineError::Pending`]; membership; [`EngineError::TooLarge`].
    fn change(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        change: Change<'_>,
    ) -> Result<Commit, EngineError>;

    /// Stages a commit that adds devices, and does nothing else.
    ///
    /// # Errors
    /// As [`Engine::change`].
    fn add(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        invitees: &[Invitee],
    ) -> Result<Commit, EngineError> {
        self.change(cx, own, thread, Change { adds: invitees, ..Change::default() })
    }

    /// Stages a commit that removes devices, and does nothing else.
    ///
    /// # Errors
    /// As [`Engine::change`].
    fn remove(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        devices: &[DeviceId],
    ) -> Result<Commit, EngineError> {
        self.change(cx, own, thread, Change { removes: devices, ..Change::default() })
    }

    /// Stages a commit that changes nothing but our keys.
    ///
    /// # Errors
    /// As [`Engine::change`].
    fn update(&mut self, cx: &mut Context<'_, '_>, own: &Own<'_>, thread: ThreadId) -> Result<Commit, EngineError> {
        self.change(cx, own, thread, Change::default())
    }

    /// The public state of the present epoch, to follow commits that this device cannot apply.
    ///
    /// # Errors
    /// [`EngineError::UnknownThread`]; membership.
    fn public(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
    ) -> Result<Box<dyn PublicGroup>, EngineError>;

    /// Stages an external commit (RFC 9420 §12.4.3.2) that puts a new leaf of this device in the place of its old one, in the
    /// epoch to which `public` was followed from this device's own, by a GroupInfo of that epoch. Nothing is sealed in that
    /// epoch, and the present one goes on until [`Engine::merge_own`].
    ///
    /// # Errors
    /// As [`PublicGroup::offered`]; [`EngineError::NotMember`] if this device has no leaf there; [`EngineError::Pending`].
    fn rejoin(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        public: &dyn PublicGroup,
        info: &[u8],
    ) -> Result<Commit, EngineError>;

    /// Merges the staged commit: the hub took it. The outgoing epoch's secrets are set aside for late messages.
    ///
    /// # Errors
    /// [`EngineError::NotPending`].
    fn merge_own(&mut self, cx: &mut Context<'_, '_>, own: &Own<'_>, thread: ThreadId) -> Result<Epoch, EngineError>;

    /// Forgets the staged commit, if any: another won.
    ///
    /// # Errors
    /// Rows or library only; membership.
    fn discard_own(&mut self, cx: &mut Context<'_, '_>, own: &Own<'_>, thread: ThreadId) -> Result<(), EngineError>;

    /// Applies another member's commit and merges it; a staged commit of our own is forgotten, for it lost. One by which a
    /// member replaces its own leaf from without is such a commit; no other external one is.
    ///
    /// # Errors
    /// [`EngineError::WrongEpoch`]; [`EngineError::OwnCommit`]; authenticity. A commit that removes this device is no
    /// error: afterwards the thread answers [`EngineError::NotMember`], and remembered epochs still open.
    fn apply(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        commit: &[u8],
    ) -> Result<Applied, EngineError>;

    /// Forgets epochs that ended before `before`, and those beyond the newest `limits` allow. Returns how many.
    ///
    /// # Errors
    /// Rows only.
    fn prune(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
        before: whimbrel_protocol::time::Wall,
    ) -> Result<usize, EngineError>;
}
