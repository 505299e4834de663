//! Hub: changes of a group, in the order its hub gives them.
//! Rules: docs/protocol/hub.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{CommitHash, DeviceId, Epoch, RequestId, Signature, ThreadId};
use crate::limits;
use crate::signed::Signed;
use crate::thread::{Founding, Participant};
use crate::time::Wall;

/// Context of the signature over a [`Receipt`].
pub const RECEIPT_CONTEXT: &str = "whimbrel commit receipt 1";

/// Context of the signature over a [`Leave`].
pub const LEAVE_CONTEXT: &str = "whimbrel leave 1";

/// The term of a hub that has never moved.
pub const FIRST_TERM: u64 = 1;

/// One change of a group, made in `epoch` and leading to the next.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// The group.
    #[n(0)]
    pub thread: ThreadId,
    /// Which hub's it is: grows when the group's hub moves.
    #[n(1)]
    pub term: u64,
    /// The epoch it ends.
    #[n(2)]
    pub epoch: Epoch,
    /// The MLS PublicMessage (RFC 9420 §6.2).
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Devices that get a leaf, ascending by account. What the MLS commit says is what holds; relays go by this.
    #[n(4)]
    pub added: Vec<Participant>,
    /// Devices that lose their leaf, ascending.
    #[n(5)]
    pub removed: Vec<DeviceId>,
    /// The GroupInfo of the epoch it leads to (RFC 9420 §12.4.3), without the tree: whoever cannot apply it goes on by that.
    /// Empty of those that were kept before commits had one: nobody goes on by them.
    #[n(6)]
    #[cbor(with = "minicbor::bytes", default)]
    pub info: Vec<u8>,
    /// Why its author takes out devices of somebody else, if that is for no admin to decide.
    #[n(7)]
    pub warrant: Option<Warrant>,
}

/// What shows to everybody that devices are to go, so that any member may take them out.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Warrant {
    /// The log of their account, in which they are revoked. Nothing in it is believed.
    #[n(0)]
    Revoked(#[n(0)] ByteVec),
    /// That member's own word that they go: [`Leave`] of one of their devices, in [`LEAVE_CONTEXT`]. It is not believed.
    #[n(1)]
    Leaves(#[n(0)] Signed),
}

/// What somebody says who goes. It holds for the leaf that the device had then, and not for one it has later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Leave {
    /// Which group.
    #[n(0)]
    pub thread: ThreadId,
    /// The epoch it is said in.
    #[n(1)]
    pub epoch: Epoch,
}

impl Warrant {
    /// About how many bytes it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::Revoked(log) => log.len(),
            Self::Leaves(words) => words.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), Bound> {
        match self {
            Self::Revoked(log) => Bound::bytes("account log", log.len(), limits::ACCOUNT_LOG_BYTES_MAX),
            Self::Leaves(words) => Bound::bytes("leave", words.content.len(), limits::LEAVE_BYTES_MAX),
        }
    }
}

impl std::fmt::Debug for Warrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Revoked(log) => f.debug_tuple("Revoked").field(&log.len()).finish(),
            Self::Leaves(words) => f.debug_tuple("Leaves").field(&words.by).finish(),
        }
    }
}

impl Commit {
    /// What the commit is known by.
    pub fn hash(&self) -> CommitHash {
        CommitHash::of(&self.bytes)
    }

    /// Every device that gets a leaf.
    pub fn added_devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.added.iter().flat_map(Participant::ids)
    }

    pub(crate) fn check(&self) -> Result<(), Bound> {
        Bound::bytes("commit", self.bytes.len(), limits::COMMIT_BYTES_MAX)?;
        Bound::bytes("GroupInfo", self.info.len(), limits::GROUP_INFO_BYTES_MAX)?;
        Bound::items("devices added", self.added_devices().count(), limits::COMMIT_ADDS_MAX)?;
        Bound::items("devices removed", self.removed.len(), limits::THREAD_DEVICES_MAX)?;
        self.warrant.as_ref().map_or(Ok(()), Warrant::check)?;
        crate::thread::ascending(&self.added)?;
        if self.removed.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(Bound::order("devices removed")) }
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit")
            .field("thread", &self.thread)
            .field("epoch", &self.epoch)
            .field("added", &self.added.len())
            .field("removed", &self.removed.len())
            .field("bytes", &self.bytes.len())
            .field("warrant", &self.warrant)
            .finish()
    }
}

/// What the added devices join with. The hub gives it to nobody before the commit is accepted.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Newcomers {
    /// The MLS Welcome for all of them (RFC 9420 §12.4.3.1), without the tree.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub welcome: Vec<u8>,
    /// The ratchet tree of the epoch the commit leads to (RFC 9420 §12.4.3.3).
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub tree: Vec<u8>,
}

impl std::fmt::Debug for Newcomers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomers").field("welcome", &self.welcome.len()).field("tree", &self.tree.len()).finish()
    }
}

/// The hub's word that a commit holds: there is one for each term and epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// The group.
    #[n(0)]
    pub thread: ThreadId,
    /// The hub's term.
    #[n(1)]
    pub term: u64,
    /// The epoch that ended.
    #[n(2)]
    pub epoch: Epoch,
    /// The commit that ended it.
    #[n(3)]
    pub commit: CommitHash,
    /// The commit before, if there was one.
    #[n(4)]
    pub previous: Option<CommitHash>,
    /// When, by the hub's clock; never before the one of the commit before.
    #[n(5)]
    pub at: Wall,
}

impl Receipt {
    /// Whether two receipts cannot both be of a hub that gives one order of commits: it took two for one epoch, or says of a
    /// commit that another came before it than the one it took there.
    pub fn contradicts(&self, other: &Self) -> bool {
        let follows = |one: &Self, next: &Self| {
            one.epoch.get().checked_add(1) == Some(next.epoch.get())
                && next.previous.is_some_and(|previous| previous != one.commit)
        };
        let two = self.epoch == other.epoch && self.commit != other.commit;
        (self.thread, self.term) == (other.thread, other.term) && (two || follows(self, other) || follows(other, self))
    }
}

/// A receipt that whoever has it can show to others.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SignedReceipt {
    /// What is signed: its deterministic form ([`crate::canonical`]).
    #[n(0)]
    pub words: Receipt,
    /// The hub's online key's signature over it.
    #[n(1)]
    pub signature: Signature,
    /// The certificate of that key, and the offline certificate that vouches for it and names the relay (DER).
    #[n(2)]
    pub chain: Vec<ByteVec>,
}

impl SignedReceipt {
    /// About how many bytes it takes.
    pub fn len(&self) -> usize {
        160 + Signature::LEN + self.chain.iter().map(|certificate| certificate.len()).sum::<usize>()
    }

    /// Never: there are always words.
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// A commit that holds, with whose it is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Accepted {
    /// The device that made it.
    #[n(0)]
    pub author: DeviceId,
    /// The commit.
    #[n(1)]
    pub commit: Commit,
    /// The hub's word on it.
    #[n(2)]
    pub receipt: Box<SignedReceipt>,
}

impl Accepted {
    pub(crate) fn check(&self) -> Result<(), Bound> {
        self.receipt.check()?;
        self.commit.check()
    }
}

/// Tells the relay of newcomers what it has to know of a group it may not know yet.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Arrivals {
    /// Everybody in the group once the commit holds, ascending by account.
    #[n(0)]
    pub participants: Vec<Participant>,
    /// Where the group's id comes from.
    #[n(1)]
    pub founding: Founding,
    /// What the added devices join with.
    #[n(2)]
    pub newcomers: Newcomers,
}

impl Arrivals {
    pub(crate) fn check(&self) -> Result<(), Bound> {
        crate::thread::roster(&self.participants)
    }
}

/// Hands in a commit.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SubmitCommit {
    /// Pairs the answer: [`CommitTaken`] or [`CommitLost`].
    #[n(0)]
    pub request: RequestId,
    /// The commit.
    #[n(1)]
    pub commit: Box<Commit>,
    /// Present when it adds somebody.
    #[n(2)]
    pub newcomers: Option<Newcomers>,
}

/// [`SubmitCommit`], passed on to the hub by the author's relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PeerCommit {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The device that made it: of an account of the asking relay.
    #[n(1)]
    pub author: DeviceId,
    /// The commit.
    #[n(2)]
    pub commit: Box<Commit>,
    /// Present when it adds somebody.
    #[n(3)]
    pub newcomers: Option<Newcomers>,
}

/// The hub has it on disk: it holds. It takes effect at a member with its entry in the thread's log.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct CommitTaken {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The hub's word on it.
    #[n(1)]
    pub receipt: Box<SignedReceipt>,
}

/// Another commit holds for that epoch; it comes, or came, with the thread's log.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct CommitLost {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The commit that won.
    #[n(1)]
    pub won: Box<Accepted>,
}

/// Asks for the commit that ended an epoch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FetchCommit {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Of which group.
    #[n(1)]
    pub thread: ThreadId,
    /// Which epoch.
    #[n(2)]
    pub epoch: Epoch,
}

/// The commit that ended an epoch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Committed {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The commit.
    #[n(1)]
    pub accepted: Box<Accepted>,
}

impl Words for SubmitCommit {
    fn check(&self) -> Result<(), Bound> {
        self.commit.check()
    }
}

impl Words for PeerCommit {
    fn check(&self) -> Result<(), Bound> {
        self.commit.check()
    }
}

impl Words for CommitLost {
    fn check(&self) -> Result<(), Bound> {
        self.won.check()
    }
}

impl Words for Committed {
    fn check(&self) -> Result<(), Bound> {
        self.accepted.check()
    }
}

impl Words for CommitTaken {
    fn check(&self) -> Result<(), Bound> {
        self.receipt.check()
    }
}

impl Words for SignedReceipt {
    fn check(&self) -> Result<(), Bound> {
        crate::signed::chain(&self.chain)
    }
}
impl Words for FetchCommit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_was_kept_before_it_came_with_a_group_info_is_read_as_one_without() {
        let commit = Commit {
            thread: ThreadId::from_bytes([1; 32]),
            term: 1,
            epoch: Epoch::new(2),
            bytes: vec![3],
            added: Vec::new(),
            removed: Vec::new(),
            info: Vec::new(),
            warrant: None,
        };
        let bytes = crate::canonical::encode(&commit);
        // Without the last of seven, which is empty.
        let six = bytes.strip_prefix(&[0xa7]).and_then(|rest| rest.strip_suffix(&[6, 0x40]));
        let kept = [&[0xa6], six.unwrap_or_default()].concat();
        assert_eq!(minicbor::decode::<Commit>(&kept).ok(), Some(commit));
    }
}
