//! User service: who is `name@domain`, and the KeyPackages and invites of an account.
//! Rules: docs/protocol/user.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{
    AccountId, Address, DeviceIndex, Domain, InviteToken, LogHash, Name, PublicKey, RelayId, RequestId, Signature,
    ThreadId, TokenHash,
};
use crate::limits;
use crate::signed::Signed;
use crate::time::Wall;

/// Whom a look-up asks for.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Who {
    /// By address.
    #[n(0)]
    Address(#[n(0)] Address),
    /// By account, at a home relay.
    #[n(1)]
    Account(#[n(0)] AccountId, #[n(1)] Domain),
}

impl Who {
    /// The relay that knows.
    pub const fn domain(&self) -> &Domain {
        match self {
            Self::Address(address) => &address.domain,
            Self::Account(_, domain) => domain,
        }
    }
}

/// A relay the asker was told of by an invite link: lets its own relay pin it before first contact.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RelayHint {
    /// The domain it serves.
    #[n(0)]
    pub domain: Domain,
    /// `host:port` of its QUIC socket.
    #[n(1)]
    pub endpoint: String,
    /// The identity it must show.
    #[n(2)]
    pub relay: RelayId,
    /// The invite's token, with which the asker's relay introduces itself there; needs a look-up by account.
    #[n(3)]
    pub token: Option<InviteToken>,
}

/// Asks for an account log. A relay passes the question on to the other domain's relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LookUp {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whom.
    #[n(1)]
    pub who: Who,
    /// How to reach that domain, from an invite link.
    #[n(2)]
    pub hint: Option<RelayHint>,
}

/// What a relay says about an account. The log proves itself; the name is the relay's word.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LookedUp {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// Where the account is found.
    #[n(1)]
    pub address: Address,
    /// The account log, as signed.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Vec<u8>,
}

/// Stocks KeyPackages of the asking device (RFC 9420 §10): others start threads with it while it is away.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct StockKeyPackages {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Each handed out once.
    #[n(1)]
    pub one_time: Vec<ByteVec>,
    /// Handed out when no other is left; replaces the former one.
    #[n(2)]
    pub last_resort: Option<ByteVec>,
    /// The one-time KeyPackages that are there go: they are too old, or a clock that was wrong made them.
    #[n(3)]
    pub replaces: bool,
}

/// How many one-time KeyPackages of the device the relay has now.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Stocked {
    /// The request answered; absent when the relay says it unasked (after a claim, on admission).
    #[n(0)]
    pub request: Option<RequestId>,
    /// One-time KeyPackages left.
    #[n(1)]
    pub left: u32,
}

/// Claims one KeyPackage of every device of an account.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ClaimKeyPackages {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whose.
    #[n(1)]
    pub account: AccountId,
    /// Where that account lives.
    #[n(2)]
    pub domain: Domain,
    /// The owner's invite, when there is no consent yet. Using it gives consent both ways.
    #[n(3)]
    pub token: Option<InviteToken>,
}

/// One device's KeyPackage.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ClaimedPackage {
    /// The device it belongs to.
    #[n(0)]
    pub device: DeviceIndex,
    /// The KeyPackage, as MLS encodes it.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub package: Vec<u8>,
}

/// The KeyPackages claimed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ClaimedKeyPackages {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// One of each device that has any.
    #[n(1)]
    pub packages: Vec<ClaimedPackage>,
}

/// Makes an invite known: whoever shows its token has the account's consent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct NewInvite {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Hash of the token; the relay never sees the token before it is used.
    #[n(1)]
    pub token: TokenHash,
    /// How often it may be used.
    #[n(2)]
    pub uses: u32,
    /// Until when, by the relay's clock.
    #[n(3)]
    pub expires: Wall,
}

/// Asks for the owner's open invites.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ListInvites {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
}

/// An open invite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OpenInvite {
    /// Hash of its token.
    #[n(0)]
    pub token: TokenHash,
    /// How often it may still be used.
    #[n(1)]
    pub left: u32,
    /// Until when, by the relay's clock.
    #[n(2)]
    pub expires: Wall,
}

/// Every open invite of the owner.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct InvitePage {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The invites, ascending by token hash.
    #[n(1)]
    pub invites: Vec<OpenInvite>,
}

/// Takes an invite back. What was done with it stays.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RevokeInvite {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Hash of its token.
    #[n(1)]
    pub token: TokenHash,
}

/// Context of the signature over a [`Card`].
pub const CARD_CONTEXT: &str = "whimbrel profile 1";

/// The content of a signed profile card: what an account says of itself. Relays can read it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Card {
    /// Whose.
    #[n(0)]
    pub account: AccountId,
    /// Of two cards the one with the higher revision holds.
    #[n(1)]
    pub revision: u64,
    /// What the person wants to be called.
    #[n(2)]
    pub display: String,
    /// A line about themselves.
    #[n(3)]
    pub about: Option<String>,
}

/// Puts the owner's card where friends find it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SetProfile {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Its revision, as the card says.
    #[n(1)]
    pub revision: u64,
    /// A [`Card`].
    #[n(2)]
    pub card: Signed,
}

/// Asks for a friend's card. A relay passes the question on to the other account's relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FetchProfile {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whose.
    #[n(1)]
    pub account: AccountId,
    /// Where that account lives.
    #[n(2)]
    pub domain: Domain,
}

/// A relay asks for a card in the name of one of its own users.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PeerProfile {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whose card.
    #[n(1)]
    pub owner: AccountId,
    /// Who asks.
    #[n(2)]
    pub requester: AccountId,
}

/// A card.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Profile {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// A [`Card`].
    #[n(1)]
    pub card: Signed,
}

/// Asks for everything the relay keeps of the owner.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ExportOwn {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Where the part before ended; empty: from the beginning.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub after: Vec<u8>,
}

/// A part of what the relay keeps of the owner.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exported {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// Rows, in a stable order.
    #[n(1)]
    pub rows: Vec<ExportedRow>,
    /// Where this part ended; absent: there is no more.
    #[n(2)]
    pub next: Option<ByteVec>,
}

impl std::fmt::Debug for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exported").field("request", &self.request).field("rows", &self.rows.len()).finish()
    }
}

/// One row as the relay keeps it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExportedRow {
    /// What it is about.
    #[n(0)]
    pub kind: String,
    /// Its key, without what every row of the account begins with.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// Its value: CBOR, unless the kind is one of bytes.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

impl std::fmt::Debug for ExportedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportedRow").field("kind", &self.kind).field("bytes", &self.value.len()).finish()
    }
}

/// Deletes the account here, and everything of it. The name is given to nobody else.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct DeleteAccount {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The account, said again so that no slip deletes one.
    #[n(1)]
    pub account: AccountId,
}

/// Adds entries to an account's log. The log proves itself: whoever hands them in says nothing by it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ExtendLog {
    /// Pairs the answer: [`crate::reception::Done`].
    #[n(0)]
    pub request: RequestId,
    /// Whose log.
    #[n(1)]
    pub account: AccountId,
    /// The place of the entry they follow.
    #[n(2)]
    pub after: u64,
    /// Its hash.
    #[n(3)]
    pub hash: LogHash,
    /// The entries, as in an account log.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub entries: Vec<u8>,
}

/// The account's own log, to a device of its that has an older one, or had it changed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OwnLog {
    /// The log, as signed.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Vec<u8>,
}

/// That devices of somebody in a thread were revoked: said by their relay to whoever is in it and there, and kept by nobody.
/// It proves nothing: who has less of the log looks it up.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LogGrown {
    /// In which thread.
    #[n(0)]
    pub thread: ThreadId,
    /// Whose log goes on.
    #[n(1)]
    pub account: AccountId,
    /// The number of its newest entry.
    #[n(2)]
    pub seq: u64,
    /// And its hash.
    #[n(3)]
    pub hash: LogHash,
}

/// Asks for an account's log before there is a device of it here: whoever holds its recovery key may have it.
/// Answered with [`LookedUp`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Recover {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The account's name here.
    #[n(1)]
    pub name: Name,
    /// The recovery key its log commits to.
    #[n(2)]
    pub key: PublicKey,
    /// That key's signature over this connection's TLS exporter.
    #[n(3)]
    pub proof: Signature,
}

impl Words for ListInvites {}
impl Words for Recover {}

impl Words for ExtendLog {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("account log entries", self.entries.len(), limits::ACCOUNT_LOG_TAIL_BYTES_MAX)
    }
}

impl Words for LogGrown {}

impl Words for OwnLog {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("account log", self.log.len(), limits::ACCOUNT_LOG_BYTES_MAX)
    }
}
impl Words for RevokeInvite {}
impl Words for FetchProfile {}
impl Words for PeerProfile {}
impl Words for DeleteAccount {}

impl Words for InvitePage {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("invites", self.invites.len(), limits::INVITES_MAX)
    }
}

impl Words for Card {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("display name", self.display.len(), limits::DISPLAY_BYTES_MAX)?;
        Bound::bytes("about", self.about.as_deref().map_or(0, str::len), limits::NOTE_BYTES_MAX)
    }
}

impl Words for SetProfile {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("card", self.card.content.len(), limits::CARD_BYTES_MAX)
    }
}

impl Words for Profile {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("card", self.card.content.len(), limits::CARD_BYTES_MAX)
    }
}

impl Words for ExportOwn {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("place", self.after.len(), limits::EXPORT_PLACE_BYTES_MAX)
    }
}

impl Words for Exported {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("rows", self.rows.len(), limits::EXPORT_ROWS_MAX)?;
        Bound::bytes("place", self.next.as_ref().map_or(0, |next| next.len()), limits::EXPORT_PLACE_BYTES_MAX)
    }
}

impl Words for Stocked {}
impl Words for ClaimKeyPackages {}

impl Words for LookUp {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("endpoint", self.hint.as_ref().map_or(0, |hint| hint.endpoint.len()), limits::ENDPOINT_BYTES_MAX)
    }
}

impl Words for LookedUp {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("account log", self.log.len(), limits::ACCOUNT_LOG_BYTES_MAX)
    }
}

impl Words for StockKeyPackages {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("key packages", self.one_time.len(), limits::KEY_PACKAGES_MAX)?;
        let largest = self.one_time.iter().chain(&self.last_resort).map(|package| package.len()).max();
        Bound::bytes("key package", largest.unwrap_or(0), limits::KEY_PACKAGE_BYTES_MAX)
    }
}

impl Words for ClaimedKeyPackages {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("key packages", self.packages.len(), limits::ACCOUNT_DEVICES_MAX)?;
        let largest = self.packages.iter().map(|claimed| claimed.package.len()).max();
        Bound::bytes("key package", largest.unwrap_or(0), limits::KEY_PACKAGE_BYTES_MAX)
    }
}

impl Words for NewInvite {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("uses", self.uses as usize, limits::INVITE_USES_MAX as usize)
    }
}
