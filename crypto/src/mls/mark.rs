//! Mark: how a device knows its own sealed contents again, damaged or not.
//! Owns: which bytes of a PrivateMessage (RFC 9420 §6.3) decide that it is taken for our own. Never: opens anything.
//!
//! A reader opens the sender data first, under a key made from the first bytes of the ciphertext; if the leaf in it is
//! our own, the library stops there. So epoch, sender data and that sample are what a copy must share with the genuine one
//! to be taken for ours, and two genuine ones share them only by the collision of a nonce and a whole sample.

use sha2::{Digest, Sha256};

use crate::engine::SealMark;

const MLS_10: u16 = 1;
const PRIVATE_MESSAGE: u16 = 2;
/// `KDF.Nh` of our suites: the sample of the ciphertext (RFC 9420 §6.3.2).
const SAMPLE: usize = 32;

/// The mark of a sealed content.
pub(super) fn of(body: &[u8]) -> Option<SealMark> {
    let mut rest = Cut(body);
    (rest.number()? == MLS_10 && rest.number()? == PRIVATE_MESSAGE).then_some(())?;
    rest.vector()?;
    let epoch = rest.take(8)?;
    rest.take(1)?;
    rest.vector()?;
    let sender_data = rest.vector()?;
    let ciphertext = rest.vector()?;
    let sample = ciphertext.get(..SAMPLE.min(ciphertext.len()))?;
    Some(Sha256::new().chain_update(epoch).chain_update(sender_data).chain_update(sample).finalize().into())
}

/// What is left of the bytes.
struct Cut<'b>(&'b [u8]);

impl<'b> Cut<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A vector with a length of one, two or four bytes (RFC 9420 §2.1.2).
    fn vector(&mut self) -> Option<&'b [u8]> {
        let first = *self.0.first()?;
        let bytes = match first >> 6 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        let len = self.take(bytes)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        self.take(len & !(0b11 << (8 * bytes - 2)))
    }
}
