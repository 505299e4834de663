//! Rows about links into groups. Owns: their types and keys. Never: decides what to write.
//! Limits: `limits::PASSES_MAX`, `limits::ASKS_MAX`, `limits::BARRED_MAX`, `limits::WISHES_MAX`.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, DeviceIndex, InviteToken, ThreadId, TokenHash};
use whimbrel_protocol::time::Wall;

use super::{Space, key};

/// A link into a group that this device made. Its token is in the link alone.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PassRow {
    #[n(0)]
    pub(crate) group: ThreadId,
    /// Until when.
    #[n(1)]
    pub(crate) until: Wall,
    /// How many more it takes in.
    #[n(2)]
    pub(crate) uses: u32,
    /// Who was taken out of the group since.
    #[n(3)]
    pub(crate) barred: Vec<AccountId>,
}

/// Somebody who came by one of our links.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct AskRow {
    #[n(0)]
    pub(crate) token: TokenHash,
    /// How often it was tried to take them in.
    #[n(1)]
    pub(crate) attempts: u32,
}

/// A link into a group that this device came by.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct WishRow {
    /// Whose it is, and of which of their devices.
    #[n(0)]
    pub(crate) by: AccountId,
    #[n(1)]
    pub(crate) device: DeviceIndex,
    #[n(2)]
    pub(crate) token: InviteToken,
    /// Until when.
    #[n(3)]
    pub(crate) until: Wall,
    /// Whether they were asked.
    #[n(4)]
    pub(crate) asked: bool,
}

pub(crate) fn pass_key(token: &TokenHash) -> Vec<u8> {
    key(Space::Pass, &[token.as_bytes()])
}

pub(crate) fn ask_key(group: &ThreadId, by: &AccountId) -> Vec<u8> {
    key(Space::Ask, &[group.as_bytes(), by.as_bytes()])
}

/// Which group somebody came into by a link, and who.
pub(crate) fn asked_by(ask: &[u8]) -> Option<(ThreadId, AccountId)> {
    let group = ask.get(1..1 + ThreadId::LEN)?.try_into().ok()?;
    let by = ask.get(1 + ThreadId::LEN..)?.try_into().ok()?;
    Some((ThreadId::from_bytes(group), AccountId::from_bytes(by)))
}

pub(crate) fn wish_key(group: &ThreadId) -> Vec<u8> {
    key(Space::Wish, &[group.as_bytes()])
}
