//! Direct path: an envelope from node to node, without a relay.
//! The link's peer identity is the device's transport key, which only one account's log can name; there is no hello.
//! Rules: docs/protocol/direct.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::EnvelopeId;
use crate::refusal::RefusalCode;
use crate::thread::Envelope;

/// An envelope for the node at the other end.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct DirectEnvelope {
    /// The envelope.
    #[n(0)]
    pub envelope: Envelope,
}

/// The other node has it on its disk.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct DirectStored {
    /// Which envelope.
    #[n(0)]
    pub envelope: EnvelopeId,
}

/// The other node does not take it; the relay copy goes its way.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct DirectRefused {
    /// Which envelope.
    #[n(0)]
    pub envelope: EnvelopeId,
    /// Why.
    #[n(1)]
    pub code: RefusalCode,
}

impl Words for DirectStored {}
impl Words for DirectRefused {}

impl Words for DirectEnvelope {
    fn check(&self) -> Result<(), Bound> {
        self.envelope.check()
    }
}
