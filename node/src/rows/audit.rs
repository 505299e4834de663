//! Rows about what relays show of their trees. Owns: their types and keys. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_crypto::transparency::Evidence;
use whimbrel_protocol::id::{AccountId, Domain, LogHash, PublicKey, RelayId, ThreadId};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::transparency::SignedHead;

use super::{Space, key};

/// What a relay has shown of its tree.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TreeRow {
    /// Which relay that is: the first one that signed a head for the domain.
    #[n(0)]
    pub(crate) relay: RelayId,
    /// The newest head; it goes on from all before it.
    #[n(1)]
    pub(crate) head: SignedHead,
    /// Heads that friends were shown and that are to be held against it, the oldest first.
    #[n(2)]
    pub(crate) told: Vec<SignedHead>,
    /// Two heads of it that cannot both be of one tree.
    #[n(3)]
    pub(crate) evidence: Option<Evidence>,
    /// It does not show how what it signed belongs together.
    #[n(4)]
    pub(crate) silent: bool,
}

/// Whether somebody's log, as it is known here, is in their relay's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct AuditRow {
    /// The newest entry known here.
    #[n(0)]
    pub(crate) seq: u64,
    #[n(1)]
    pub(crate) hash: LogHash,
    /// The size of the tree in which it was found; absent: not found yet.
    #[n(2)]
    pub(crate) found: Option<u64>,
    /// The relay was asked for it often enough.
    #[n(3)]
    pub(crate) missing: bool,
}

/// Up to where a thread was told of the own relay's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TreeToldRow {
    #[n(0)]
    pub(crate) size: u64,
    #[n(1)]
    pub(crate) at: Wall,
}

pub(crate) fn tree_key(domain: &Domain) -> Vec<u8> {
    key(Space::Tree, &[domain.as_str().as_bytes()])
}

pub(crate) fn audit_key(account: &AccountId) -> Vec<u8> {
    key(Space::Audit, &[account.as_bytes()])
}

pub(crate) fn tree_told_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::TreeTold, &[thread.as_bytes()])
}

/// When the owner compared an identity key with somebody: [`Wall`].
pub(crate) fn compared_key(account: &AccountId, identity: &PublicKey) -> Vec<u8> {
    key(Space::Compared, &[account.as_bytes(), identity.as_bytes()])
}

/// Whose relay's tree a row is about.
pub(crate) fn tree_domain(key: &[u8]) -> Option<Domain> {
    std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()
}
