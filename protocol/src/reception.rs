//! Reception: how a device comes in, and the words every service answers with.
//! Rules: docs/protocol/reception.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{Address, DeviceId, Domain, InviteToken, LogHash, Name, RequestId, Signature, ThreadId};
use crate::limits;
use crate::presence::Status;
use crate::refusal::RefusalCode;
use crate::time::Wall;

/// First frame of a device that the relay knows: binds the account to this connection.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Newest version the node speaks.
    #[n(0)]
    pub version: u16,
    /// Who is there.
    #[n(1)]
    pub device: DeviceId,
    /// Sequence of the newest account-log entry the node knows of its own account.
    #[n(2)]
    pub log_seq: u64,
    /// Hash of that entry.
    #[n(3)]
    pub log_hash: LogHash,
    /// The device key's signature over this connection's TLS exporter.
    #[n(4)]
    pub proof: Signature,
    /// It was sent to another push address just now and was not served there: it asks to be served here.
    #[n(5)]
    pub stays: bool,
}

/// The relay knows the device; from here on it serves requests and pushes entries.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Admitted {
    /// The version both speak from here on.
    #[n(0)]
    pub version: u16,
    /// The domain the relay serves.
    #[n(1)]
    pub domain: Domain,
    /// Where this device is to connect instead; absent: stay.
    #[n(2)]
    pub push_address: Option<String>,
    /// The relay's wall clock.
    #[n(3)]
    pub wall: Wall,
}

/// First frame of a device that has no account here yet.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Register {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The name wished for.
    #[n(1)]
    pub name: Name,
    /// The account log, as signed.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Vec<u8>,
    /// Which device of that log is talking.
    #[n(3)]
    pub device: DeviceId,
    /// The device key's signature over this connection's TLS exporter.
    #[n(4)]
    pub proof: Signature,
    /// The relay's invitation to register, where it asks for one.
    #[n(5)]
    pub invite: Option<InviteToken>,
}

/// The account lives here now. The device goes on with [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Registered {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// Where the account is found from now on.
    #[n(1)]
    pub address: Address,
}

/// The request is not done, and why. Without `request`: the connection is refused and will close.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// The request answered.
    #[n(0)]
    pub request: Option<RequestId>,
    /// Why.
    #[n(1)]
    pub code: RefusalCode,
    /// When to try again, in milliseconds; absent: never unchanged.
    #[n(2)]
    pub retry_after_ms: Option<u32>,
}

/// The request is done and has no other answer.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Done {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
}

/// "I am here", each [`limits::HEARTBEAT_EVERY`]; keeps the connection alive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Heartbeat {
    /// Threads in which the device sent or showed something over the direct path alone since the last heartbeat:
    /// their listing position moves though the relay holds no copy.
    #[n(0)]
    pub touches: Vec<ThreadId>,
    /// The version of the statuses the device has; zero: none. The answer tells what changed since.
    #[n(1)]
    pub statuses: u64,
}

/// The relay is here too.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct HeartbeatAnswer {
    /// The relay's wall clock.
    #[n(0)]
    pub wall: Wall,
    /// The version of the statuses the device has with these. It holds for this link alone.
    #[n(1)]
    pub version: u64,
    /// Friends who came or went since the version named; with the first answer on a link, those who are there.
    #[n(2)]
    pub statuses: Vec<Status>,
}

/// How far a device's store has come. The relay keeps the newest: a store that shows an older one is an old copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Stamp {
    /// Greater with each.
    #[n(0)]
    pub number: u64,
    /// Drawn anew for each: two copies of one store go on with different ones.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub token: [u8; 16],
}

/// Has the relay keep a stamp in the place of the one it has. Answered with [`Done`], or refused with *OldCopy*.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct KeepStamp {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The one before, as the device has it; absent: there was none.
    #[n(1)]
    pub after: Option<Stamp>,
    /// The new one.
    #[n(2)]
    pub stamp: Stamp,
}

impl Words for KeepStamp {}
impl Words for Hello {}
impl Words for Registered {}
impl Words for Refused {}
impl Words for Done {}

impl Words for Admitted {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("push address", self.push_address.as_deref().map_or(0, str::len), limits::PUSH_ADDRESS_BYTES_MAX)
    }
}

impl Words for Register {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("account log", self.log.len(), limits::UNAUTHENTICATED_BYTES_MAX - 1_024)
    }
}

impl Words for HeartbeatAnswer {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("statuses", self.statuses.len(), limits::PRESENCE_STATUSES_MAX)
    }
}

impl Words for Heartbeat {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("touches", self.touches.len(), limits::TOUCHES_MAX)
    }
}
