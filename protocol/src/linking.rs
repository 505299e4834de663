//! Linking: how a device that is to come meets one that speaks for the account, at their relay.
//! The relay passes sealed words from one to the other and keeps nothing. Rules: docs/protocol/devices.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{AccountId, DeviceIndex, MeetingId, Name, PublicKey, RequestId, Signature};
use crate::limits;

/// First frame of a device that is to come: it waits at the relay for another to join it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OfferLinking {
    /// Pairs the answer: [`crate::reception::Done`].
    #[n(0)]
    pub request: RequestId,
    /// Where they meet; follows from the code that the device shows.
    #[n(1)]
    pub meeting: MeetingId,
}

/// A device of an account joins one that waits.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct JoinLinking {
    /// Pairs the answer: [`crate::reception::Done`].
    #[n(0)]
    pub request: RequestId,
    /// Where.
    #[n(1)]
    pub meeting: MeetingId,
}

/// Words of one to the other.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LinkingWords {
    /// Where they met.
    #[n(0)]
    pub meeting: MeetingId,
    /// Sealed.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for LinkingWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkingWords").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// One of them is gone, or has had enough: nothing more comes of it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LinkingOver {
    /// Where they met.
    #[n(0)]
    pub meeting: MeetingId,
}

impl Words for OfferLinking {}
impl Words for JoinLinking {}
impl Words for LinkingOver {}

impl Words for LinkingWords {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("linking words", self.bytes.len(), limits::LINKING_WORDS_BYTES_MAX)
    }
}

/// What they say inside the seal, in this order.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum LinkingMessage {
    /// To the newcomer: whose device it is to be, and which.
    #[n(0)]
    Offer(#[n(0)] AccountId, #[n(1)] DeviceIndex),
    /// From the newcomer: who it is.
    #[n(1)]
    Keys(#[n(0)] NewDevice),
    /// To the newcomer: what it takes to be one of the account's.
    #[n(2)]
    Grant(#[n(0)] Box<Grant>),
    /// From the newcomer: KeyPackages for the threads it is to be taken into.
    #[n(3)]
    Packages(#[n(0)] Packages),
    /// To the newcomer: the relay has it in the account's log.
    #[n(4)]
    Added,
}

/// A device that is to come.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct NewDevice {
    /// Signs for it.
    #[n(0)]
    pub device_key: PublicKey,
    /// Its certificate's key.
    #[n(1)]
    pub transport_key: PublicKey,
    /// That key's word, as in an account log.
    #[n(2)]
    pub proof: Signature,
    /// What it is called.
    #[n(3)]
    pub label: String,
}

/// What makes a device one of an account's. Never outside the seal.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// The account's log, with the newcomer in it.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Vec<u8>,
    /// Signs that log; absent for a limited device.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub identity_key: Option<[u8; 32]>,
    /// Makes the tags and seals the settings of threads.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub participants_key: [u8; 32],
    /// The account's name at its relay.
    #[n(3)]
    pub name: Name,
    /// How many KeyPackages are asked for.
    #[n(4)]
    pub packages: u32,
}

impl Drop for Grant {
    fn drop(&mut self) {
        // Best effort: copies the codec made are the allocator's.
        if let Some(key) = &mut self.identity_key {
            *key = [0; 32];
        }
        self.participants_key = [0; 32];
        // Or it would be nothing that anybody could notice, and left out.
        std::hint::black_box((&self.identity_key, &self.participants_key));
    }
}

/// Some KeyPackages.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Packages {
    /// The packages.
    #[n(0)]
    pub packages: Vec<ByteVec>,
    /// Whether these are the last.
    #[n(1)]
    pub last: bool,
}

// What is granted is nobody's to read in a log.
impl std::fmt::Debug for LinkingMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Offer(..) => "Offer",
            Self::Keys(_) => "Keys",
            Self::Grant(_) => "Grant(…)",
            Self::Packages(_) => "Packages",
            Self::Added => "Added",
        })
    }
}

impl Words for LinkingMessage {
    fn check(&self) -> Result<(), Bound> {
        match self {
            Self::Offer(..) | Self::Added => Ok(()),
            Self::Keys(keys) => Bound::bytes("label", keys.label.len(), limits::DEVICE_LABEL_BYTES_MAX),
            Self::Grant(grant) => {
                Bound::items("key packages", grant.packages as usize, limits::LINKING_PACKAGES_MAX)?;
                Bound::bytes("account log", grant.log.len(), limits::ACCOUNT_LOG_BYTES_MAX)
            }
            Self::Packages(some) => {
                Bound::items("key packages", some.packages.len(), limits::LINKING_PACKAGES_AT_ONCE)?;
                let largest = some.packages.iter().map(|package| package.len()).max();
                Bound::bytes("key package", largest.unwrap_or(0), limits::KEY_PACKAGE_BYTES_MAX)
            }
        }
    }
}
