//! Signed words: what a device says and others pass on. The signature is over the exact bytes, so relays carry them as
//! they are; whoever is to believe them checks the device in the account's log.
//! Rules: docs/protocol/friendship.md, user.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::Bound;
use crate::id::{DeviceId, Signature};
use crate::limits;

/// A relay's certificates, as they go with what it signed: one of its online key and one that vouches for that.
pub(crate) fn chain(chain: &[ByteVec]) -> Result<(), Bound> {
    Bound::items("certificates", chain.len(), 2)?;
    let longest = chain.iter().map(|certificate| certificate.len()).max().unwrap_or(0);
    Bound::bytes("certificate", longest, limits::CERTIFICATE_BYTES_MAX)
}

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
