//! Poll: a link over HTTPS, for devices whose network lets no UDP through.
//! The words that open one; what goes over it are the frames of any link. Rules: docs/protocol/poll.md.

use minicbor::{Decode, Encode};

use crate::frame::Words;
use crate::id::{PublicKey, Signature};

/// A challenge, in bytes: when it is over, 16 random bytes, and the relay's mark on both.
pub const CHALLENGE_BYTES: usize = 56;

/// What a relay hands to whoever wants to open a link. To others than the relay it has no parts.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Challenge {
    /// Holds for a minute.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub challenge: [u8; CHALLENGE_BYTES],
}

/// Opens a link.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OpenLink {
    /// What the relay handed out.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub challenge: [u8; CHALLENGE_BYTES],
    /// What the certificate of another link would carry.
    #[n(1)]
    pub transport: PublicKey,
    /// The transport key's signature over what takes the exporter's place.
    #[n(2)]
    pub proof: Signature,
}

/// The link stands.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OpenedLink {
    /// Whoever has it has the link: random, and told to nobody else.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub link: [u8; 16],
}

impl Words for Challenge {}

impl Words for OpenLink {}

impl Words for OpenedLink {}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::frame::{decode_words, encode_words};

    /// T52, for words that are no frames.
    #[test]
    fn what_is_cut_lengthened_or_changed_is_refused_or_something_else() {
        let words = OpenLink {
            challenge: [7; CHALLENGE_BYTES],
            transport: PublicKey::from_bytes([8; 32]),
            proof: Signature::from_bytes([9; 64]),
        };
        let bytes = encode_words(&words);
        assert_eq!(decode_words::<OpenLink>(&bytes).unwrap(), words);
        for end in 0..bytes.len() {
            assert!(decode_words::<OpenLink>(&bytes[..end]).is_err(), "{end}");
        }
        assert!(decode_words::<OpenLink>(&[&bytes[..], b"\x00"].concat()).is_err());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert_ne!(decode_words::<OpenLink>(&changed).ok().as_ref(), Some(&words), "{at} {bit}");
            }
        }
    }
}
