//! Presence: who is there. Kept in memory alone, told in the answers to heartbeats, and only what changed.
//! Never decides a delivery. Rules: docs/protocol/presence.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{AccountId, RequestId};
use crate::limits;

/// Whether a friend is there, as far as they let it be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// Who.
    #[n(0)]
    pub account: AccountId,
    /// Whether a device of theirs is connected.
    #[n(1)]
    pub online: bool,
}

/// The device leaves: offline at once, not after a minute.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Goodbye {}

/// Whether the account is shown to anybody at all, all its devices; kept until told otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SetVisible {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whether.
    #[n(1)]
    pub visible: bool,
}

/// A relay tells another which of its users are there, and to whom they show it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct PeerPresence {
    /// Everything said on this link before is void: what follows is all there is.
    #[n(0)]
    pub fresh: bool,
    /// What changed.
    #[n(1)]
    pub changes: Vec<Shown>,
}

/// Whether one user is there, to some users of the other relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Shown {
    /// Who, and whether they are there.
    #[n(0)]
    pub status: Status,
    /// To whom, ascending.
    #[n(1)]
    pub to: Vec<AccountId>,
}

impl Words for Goodbye {}
impl Words for SetVisible {}

impl Words for PeerPresence {
    fn check(&self) -> Result<(), Bound> {
        let accounts = self.changes.iter().map(|shown| 1 + shown.to.len()).sum();
        Bound::items("accounts", accounts, limits::PRESENCE_ACCOUNTS_MAX)
    }
}
