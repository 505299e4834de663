//! Rows about people and what the owner keeps of threads. Owns: their types and keys. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, Address, Sequence, ThreadId};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;

use super::{Space, key};

/// How things stand with another account, as this device can prove it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum Relationship {
    /// Nothing is agreed; the row remembers how new the last words were.
    #[n(0)]
    None,
    /// We asked.
    #[n(1)]
    Asked,
    /// They asked.
    #[n(2)]
    Asking,
    /// Both agreed.
    #[n(3)]
    Friends,
    /// We keep them away.
    #[n(4)]
    Blocked,
}

/// What was said between us and another account.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct FriendRow {
    /// As their newest word, or their relay, said.
    #[n(0)]
    pub(crate) address: Address,
    #[n(1)]
    pub(crate) standing: Relationship,
    /// When their newest word was said, by their clock: older ones change nothing.
    #[n(2)]
    pub(crate) heard: Wall,
    /// When our newest word was said, by our clock.
    #[n(3)]
    pub(crate) said: Wall,
    /// What they wrote to their request.
    #[n(4)]
    pub(crate) note: Option<String>,
    #[n(5)]
    pub(crate) since: Wall,
    /// The owner parted with them: where the inbox log ended when our relay had it; its end while that is not known. What
    /// they invited us to before is not followed.
    #[n(6)]
    pub(crate) parted: Option<Sequence>,
}

/// A word about friendship that is not proved yet.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct WordRow {
    #[n(0)]
    pub(crate) word: Signed,
}

/// A profile card, as proved. One with a lower revision never replaces it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct CardRow {
    #[n(0)]
    pub(crate) revision: u64,
    #[n(1)]
    pub(crate) display: String,
    #[n(2)]
    pub(crate) about: Option<String>,
}

/// The owner's own settings of a thread.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SettingsRow {
    #[n(0)]
    pub(crate) label: Option<String>,
    #[n(1)]
    pub(crate) muted_until: Wall,
    #[n(2)]
    pub(crate) archived: bool,
    #[n(3)]
    pub(crate) pinned: bool,
    /// How often they were changed.
    #[n(4)]
    pub(crate) changes: u64,
    /// Whether the relay has these.
    #[n(5)]
    pub(crate) kept: bool,
    /// Whether authors are told what was read; absent: as everywhere.
    #[n(6)]
    pub(crate) read_receipts: Option<bool>,
}

pub(crate) fn friend_key(account: &AccountId) -> Vec<u8> {
    key(Space::Friend, &[account.as_bytes()])
}

pub(crate) fn word_key(hash: &[u8; 32]) -> Vec<u8> {
    key(Space::Word, &[hash])
}

pub(crate) fn card_key(account: &AccountId) -> Vec<u8> {
    key(Space::Card, &[account.as_bytes()])
}

pub(crate) fn settings_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Settings, &[thread.as_bytes()])
}
