//! User service: who is `name@domain`, and the KeyPackages and invites of an account.
//! Rules: docs/protocol/user.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{AccountId, Address, DeviceIndex, Domain, InviteToken, RelayId, RequestId, TokenHash};
use crate::limits;
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
