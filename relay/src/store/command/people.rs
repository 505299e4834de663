//! Commands about an account and the people it knows: friendship, profile, invitations, wake-ups, its end.
//! Owns: their words. Never: decides one (`kv::friends`, `kv::own`).

use whimbrel_protocol::friendship::Act;
use whimbrel_protocol::id::{AccountId, DeviceId, Domain, LogHash, ThreadId, TokenHash};
use whimbrel_protocol::reception::Stamp;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::ThreadSettings;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::wake::WakeEndpoint;

use super::LogBounds;
use crate::store::{AccountDevice, LogId};

/// Whether an account may come in that is not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    /// Anybody may.
    Open,
    /// With the invitation of this hash, of which one use is taken.
    Invited(TokenHash),
    /// Nobody.
    Closed,
}

/// See [`super::Command::NewRegistration`].
#[derive(Clone, Debug)]
pub struct NewRegistration {
    /// Hash of the token.
    pub token: TokenHash,
    /// How often it may be used.
    pub uses: u32,
    /// Until when.
    pub expires: Wall,
    /// The present: expired ones make room.
    pub at: Wall,
}

/// See [`super::Command::Befriend`].
#[derive(Clone, Debug)]
pub struct Befriend {
    /// Who says it.
    pub by: AccountId,
    /// Where they live.
    pub by_domain: Domain,
    /// To whom.
    pub to: AccountId,
    /// Where they live.
    pub to_domain: Domain,
    /// What.
    pub act: Act,
    /// When it was said, by its author's clock.
    pub said: Wall,
    /// As it was signed.
    pub word: Signed,
    /// The domain served here.
    pub local: Domain,
    /// The present.
    pub at: Wall,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
}

/// See [`super::Command::Decline`].
#[derive(Clone, Copy, Debug)]
pub struct Decline {
    /// Whose list.
    pub owner: AccountId,
    /// Whose request; absent: all.
    pub other: Option<AccountId>,
}

/// See [`super::Command::Block`].
#[derive(Clone, Debug)]
pub struct Block {
    /// Whose list.
    pub owner: AccountId,
    /// Whom.
    pub other: AccountId,
    /// Where the other lives.
    pub domain: Domain,
    /// Whether they are kept away from now on.
    pub blocked: bool,
    /// The present.
    pub at: Wall,
}

/// See [`super::Command::LetSee`].
#[derive(Clone, Copy, Debug)]
pub struct LetSee {
    /// Whose list.
    pub owner: AccountId,
    /// Which friend.
    pub other: AccountId,
    /// Whether it may see.
    pub allowed: bool,
}

/// See [`super::Command::SetProfile`].
#[derive(Clone, Debug)]
pub struct SetProfile {
    /// Whose.
    pub owner: AccountId,
    /// Its revision.
    pub revision: u64,
    /// As it was signed.
    pub card: Signed,
}

/// See [`super::Command::SetThread`].
#[derive(Clone, Debug)]
pub struct SetThread {
    /// Whose row.
    pub owner: AccountId,
    /// Which thread.
    pub thread: ThreadId,
    /// The settings.
    pub settings: ThreadSettings,
}

/// See [`super::Command::ExtendLog`].
#[derive(Clone, Debug)]
pub struct ExtendLog {
    /// Whose log; verified by whoever made this command to extend the one that ends at `from`.
    pub account: AccountId,
    /// The newest entry it continues.
    pub from: (u64, LogHash),
    /// The whole log, as signed.
    pub log: Vec<u8>,
    /// Its newest entry.
    pub head: (u64, LogHash),
    /// Its devices, ascending; a new one with a mailbox chosen for it. Of those that are here the mailbox stays.
    pub devices: Vec<AccountDevice>,
}

/// See [`super::Command::KeepStamp`].
#[derive(Clone, Copy, Debug)]
pub struct KeepStamp {
    /// Whose.
    pub device: DeviceId,
    /// The one before, as the device has it.
    pub after: Option<Stamp>,
    /// The new one.
    pub stamp: Stamp,
}

/// See [`super::Command::SetWake`].
#[derive(Clone, Debug)]
pub struct SetWake {
    /// Whose.
    pub device: DeviceId,
    /// Where, and the code of the challenge sent there; absent: nowhere any more.
    pub endpoint: Option<(WakeEndpoint, [u8; 16])>,
    /// The present.
    pub at: Wall,
}

/// See [`super::Command::ConfirmWake`].
#[derive(Clone, Copy, Debug)]
pub struct ConfirmWake {
    /// Whose.
    pub device: DeviceId,
    /// What came back.
    pub code: [u8; 16],
    /// The present.
    pub at: Wall,
}

/// See [`super::Command::Expire`].
#[derive(Clone, Debug)]
pub struct Expire {
    /// Which log.
    pub log: LogId,
    /// What was written before is too old.
    pub before: Wall,
    /// The domain served here: it is the one that gives up.
    pub local: Domain,
    /// The present.
    pub at: Wall,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
}
