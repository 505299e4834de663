//! Federation: what relays say to each other. A relay speaks only for its own domain.
//! Rules: docs/protocol/federation.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::hub::{Accepted, Arrivals};
use crate::id::{AccountId, DeviceId, Domain, InviteToken, RequestId, ThreadId};
use crate::limits;
use crate::refusal::RefusalCode;
use crate::thread::{Envelope, Opening};

/// First frame of each side. The identity behind it is the one TLS proved.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PeerHello {
    /// Newest version the relay speaks.
    #[n(0)]
    pub version: u16,
    /// The domain it speaks for.
    #[n(1)]
    pub domain: Domain,
    /// The domain it believes to have reached.
    #[n(2)]
    pub to: Domain,
    /// Why the other should let it in, though it may not know it.
    #[n(3)]
    pub introduction: Option<Introduction>,
}

/// Proof that a live invite of the greeted relay led here. It uses nothing up: the invite is used when KeyPackages are
/// claimed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Introduction {
    /// Who made the invite: an account of the relay greeted.
    #[n(0)]
    pub owner: AccountId,
    /// `host:port` where the introduced relay is reached in its turn.
    #[n(1)]
    pub endpoint: String,
    /// HMAC-SHA-256 under the invite's token hash: over both relays, the endpoint and this connection.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub proof: [u8; 32],
}

/// What is forwarded.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ForwardBody {
    /// A thread with members at the other relay was opened by this device.
    #[n(0)]
    Opening(#[n(0)] DeviceId, #[n(1)] Opening),
    /// An envelope of a thread, handed in by this device.
    #[n(1)]
    Envelope(#[n(0)] DeviceId, #[n(1)] Envelope),
    /// A change of a group that this relay, its hub, took; with what the other relay's newcomers join with, if there are
    /// any.
    #[n(2)]
    Commit(#[n(0)] Accepted, #[n(1)] Option<Box<Arrivals>>),
}

impl ForwardBody {
    /// The thread it is of.
    pub fn thread(&self) -> ThreadId {
        match self {
            Self::Opening(_, opening) => opening.thread,
            Self::Envelope(_, envelope) => envelope.thread,
            Self::Commit(accepted, _) => accepted.commit.thread,
        }
    }
}

/// One item on its way.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ForwardItem {
    /// This link's own number of the item, from 1, without gaps.
    #[n(0)]
    pub number: u64,
    /// What it is.
    #[n(1)]
    pub body: ForwardBody,
}

/// Items for the other relay, in order within each thread.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Forward {
    /// The items, ascending without gaps.
    #[n(0)]
    pub items: Vec<ForwardItem>,
    /// The newest *Forwarded* its sender has taken in on this link, 0 before the first: a thread of which an item behind
    /// it was refused for now is not sent on with this frame unless from that item.
    #[n(1)]
    pub answered: u64,
}

/// One item the other relay will not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ForwardRefusal {
    /// Which.
    #[n(0)]
    pub number: u64,
    /// Why.
    #[n(1)]
    pub code: RefusalCode,
    /// When to try again, in milliseconds; absent: never.
    #[n(2)]
    pub retry_after_ms: Option<u32>,
}

/// The other relay has these on its disk, or will not take them.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Forwarded {
    /// Every item up to here is answered.
    #[n(0)]
    pub upto: u64,
    /// Those among them that were refused.
    #[n(1)]
    pub refused: Vec<ForwardRefusal>,
}

/// [`crate::user::ClaimKeyPackages`], passed on by the asker's relay.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PeerClaim {
    /// Pairs the answer, [`crate::user::ClaimedKeyPackages`].
    #[n(0)]
    pub request: RequestId,
    /// Whose KeyPackages.
    #[n(1)]
    pub account: AccountId,
    /// Who asks: an account of the asking relay.
    #[n(2)]
    pub requester: AccountId,
    /// The owner's invite.
    #[n(3)]
    pub token: Option<InviteToken>,
}

impl Words for PeerHello {
    fn check(&self) -> Result<(), Bound> {
        let endpoint = self.introduction.as_ref().map_or(0, |introduction| introduction.endpoint.len());
        Bound::bytes("endpoint", endpoint, limits::ENDPOINT_BYTES_MAX)
    }
}

impl Words for PeerClaim {}

impl Words for Forward {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("items", self.items.len(), limits::FORWARD_ITEMS_MAX)?;
        let numbers = self.items.iter().map(|item| item.number);
        let gapless = numbers.clone().zip(numbers.skip(1)).all(|(a, b)| a.checked_add(1) == Some(b));
        if !gapless || self.items.first().is_some_and(|first| first.number <= self.answered) {
            return Err(Bound::order("items"));
        }
        self.items.iter().try_for_each(|item| match &item.body {
            ForwardBody::Opening(_, opening) => opening.check(),
            ForwardBody::Envelope(_, envelope) => envelope.check(),
            ForwardBody::Commit(accepted, arrivals) => {
                accepted.check()?;
                arrivals.as_ref().map_or(Ok(()), |arrivals| arrivals.check())
            }
        })
    }
}

impl Words for Forwarded {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("refusals", self.refused.len(), limits::FORWARD_ITEMS_MAX)
    }
}
