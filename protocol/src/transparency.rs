//! Transparency: one tree over the account logs of a relay, so that it cannot show one log to some and another to others
//! without two of them finding out.
//! Rules: docs/protocol/transparency.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{AccountId, Domain, LogHash, RequestId, Signature, TreeHash, TreeSalt};
use crate::limits;
use crate::time::Wall;

/// Context of the signature over a [`Head`].
pub const HEAD_CONTEXT: &str = "whimbrel tree head 1";

/// What a relay signs: its whole tree at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Head {
    /// How many leaves.
    #[n(0)]
    pub size: u64,
    /// The root over them.
    #[n(1)]
    pub root: TreeHash,
    /// When it was signed, by the relay's clock.
    #[n(2)]
    pub at: Wall,
}

/// A head that whoever has it can show to others.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SignedHead {
    /// A [`Head`].
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub head: Vec<u8>,
    /// The online key's signature over it.
    #[n(1)]
    pub signature: Signature,
    /// The certificate of that key, and the offline certificate that vouches for it and names the relay (DER).
    #[n(2)]
    pub chain: Vec<ByteVec>,
}

/// Asks a relay for the newest head of its tree. A relay passes the question on to the other domain's relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FetchTreeHead {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whose tree.
    #[n(1)]
    pub domain: Domain,
    /// Whose newest entry is to be shown in it.
    #[n(2)]
    pub account: Option<AccountId>,
    /// Sizes of earlier heads that the present one is to be led to from.
    #[n(3)]
    pub from: Vec<u64>,
}

/// The newest head, and what was asked of it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TreeHead {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The head.
    #[n(1)]
    pub head: Box<SignedHead>,
    /// From each size asked for, in that order.
    #[n(2)]
    pub steps: Vec<Step>,
    /// The account's newest entry; absent when none was asked for, or there is no such account.
    #[n(3)]
    pub entry: Option<Box<Inclusion>>,
}

/// How an earlier tree is part of the present one.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Step {
    /// The root of the earlier tree, as the relay has it: by this it is held to one answer, whatever others were shown.
    #[n(0)]
    pub root: TreeHash,
    /// RFC 9162 §2.1.4.1. Empty when the earlier tree is not smaller.
    #[n(1)]
    pub proof: Vec<TreeHash>,
}

/// An account's newest entry in the tree.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Inclusion {
    /// Its leaf's place.
    #[n(0)]
    pub index: u64,
    /// What hides the account in the tree.
    #[n(1)]
    pub salt: TreeSalt,
    /// The place of the newest entry in the account's log.
    #[n(2)]
    pub seq: u64,
    /// Its hash.
    #[n(3)]
    pub hash: LogHash,
    /// RFC 9162 §2.1.3.1.
    #[n(4)]
    pub path: Vec<TreeHash>,
}

impl Words for Head {}

impl Words for SignedHead {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("tree head", self.head.len(), limits::TREE_HEAD_BYTES_MAX)?;
        crate::signed::chain(&self.chain)
    }
}

impl Words for FetchTreeHead {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("earlier heads", self.from.len(), limits::TREE_STEPS_MAX)
    }
}

impl Words for TreeHead {
    fn check(&self) -> Result<(), Bound> {
        self.head.check()?;
        Bound::items("earlier heads", self.steps.len(), limits::TREE_STEPS_MAX)?;
        let steps = self.steps.iter().map(|step| step.proof.len());
        let longest = steps.chain(self.entry.iter().map(|entry| entry.path.len())).max().unwrap_or(0);
        Bound::items("proof", longest, limits::TREE_PROOF_MAX)
    }
}
