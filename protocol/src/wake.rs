//! Wake-ups: where a device that is away can be told that something waits (Web Push, RFC 8030; UnifiedPush).
//! A wake-up says nothing else. Rules: docs/protocol/wake.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::RequestId;
use crate::limits;

/// Where a device's wake-ups go, and the keys they are sealed to (RFC 8291 §2).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct WakeEndpoint {
    /// An `https:` address of the push service.
    #[n(0)]
    pub url: String,
    /// The device's P-256 key, uncompressed (65 bytes).
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// The authentication secret.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub auth: [u8; 16],
}

/// Names the endpoint of the asking device. The relay sends a challenge there; until it comes back nothing else goes.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SetWake {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The endpoint; absent: no wake-ups any more.
    #[n(1)]
    pub endpoint: Option<WakeEndpoint>,
}

/// The challenge, as it came by the push service.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ConfirmWake {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// What the challenge said.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub code: [u8; 16],
}

impl WakeEndpoint {
    /// Checks its bounds.
    ///
    /// # Errors
    /// The first bound broken.
    pub fn check(&self) -> Result<(), Bound> {
        Bound::bytes("wake address", self.url.len(), limits::WAKE_URL_BYTES_MAX)?;
        Bound::bytes("wake key", self.key.len(), limits::WAKE_KEY_BYTES)
    }
}

impl Words for ConfirmWake {}

impl Words for SetWake {
    fn check(&self) -> Result<(), Bound> {
        self.endpoint.as_ref().map_or(Ok(()), WakeEndpoint::check)
    }
}
