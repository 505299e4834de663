//! Signed words: what a device says and others pass on. The signature is over the exact bytes, so relays carry them as
//! they are; whoever is to believe them checks the device in the account's log.
//! Rules: docs/protocol/friendship.md, user.md.

use minicbor::{Decode, Encode};

use crate::id::{DeviceId, Signature};

/// Bytes and who stands behind them.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    /// Whose device key signed.
    #[n(0)]
    pub by: DeviceId,
    /// The content, in deterministic form.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub content: Vec<u8>,
    /// Over the content, in the context of its kind.
    #[n(2)]
    pub signature: Signature,
}

impl Signed {
    /// About how many bytes it takes.
    pub fn len(&self) -> usize {
        self.content.len() + DeviceId::BYTES_ABOUT + Signature::LEN
    }

    /// Whether nothing was signed.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}
