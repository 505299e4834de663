//! Receipts: what a hub signs of the commits it takes, and what follows from two of them.
//! Owns: making and checking one, and the proof that a hub gave two orders of one group's commits.
//! Never: keeps a receipt, or knows which commits there were.
//!
//! The certificates are held to each other and to the relay's id, not to a date. A receipt's time is the hub's to choose and
//! never goes back, so that a clock that was a year ahead once would make every later receipt worth nothing and stop the group;
//! and whoever stole an online key that has run out would choose a time at which it held.
//! Rules: docs/protocol/hub.md.

use minicbor::{Decode, Encode};
use whimbrel_protocol::canonical;
use whimbrel_protocol::hub::{RECEIPT_CONTEXT, Receipt, SignedReceipt};
use whimbrel_protocol::id::{RelayId, ThreadId};

use crate::certificate::{self, CertificateError, RelayIdentity};
use crate::keys;

/// Why a receipt is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The certificates are no relay's.
    #[error("commit receipt: {0}")]
    Certificate(#[from] CertificateError),
    /// They are another relay's than the group's hub.
    #[error("commit receipt of another relay")]
    Relay,
    /// The signature is not that relay's.
    #[error("commit receipt signature not valid")]
    Signature,
    /// Two receipts that may both be of one order of commits.
    #[error("the receipts do not contradict each other")]
    Agree,
}

/// Two receipts of one hub that cannot both be of one order of commits: for anybody to check.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Contradiction {
    /// The one that was here first.
    #[n(0)]
    pub one: SignedReceipt,
    /// The one that speaks against it.
    #[n(1)]
    pub other: SignedReceipt,
}

/// Signs a receipt as a hub.
pub fn sign(identity: &RelayIdentity, words: Receipt) -> SignedReceipt {
    let signature = identity.online_key().sign(RECEIPT_CONTEXT, &canonical::encode(&words));
    SignedReceipt { words, signature, chain: identity.chain().into_iter().map(Into::into).collect() }
}

/// Which relay signed a receipt.
///
/// # Errors
/// The certificates are no relay's, or the signature is not of the relay they name.
pub fn signer(signed: &SignedReceipt) -> Result<RelayId, ReceiptError> {
    let chain: Vec<&[u8]> = signed.chain.iter().map(|der| der.as_slice()).collect();
    let relay = certificate::verify_undated_chain(&chain)?;
    let words = canonical::encode(&signed.words);
    keys::verify(&relay.key, RECEIPT_CONTEXT, &words, &signed.signature).map_err(|_| ReceiptError::Signature)?;
    Ok(relay.id)
}

/// Checks that a receipt is the word of this hub.
///
/// # Errors
/// It is malformed, or not signed by that relay.
pub fn verify(signed: &SignedReceipt, hub: RelayId) -> Result<(), ReceiptError> {
    if signer(signed)? == hub { Ok(()) } else { Err(ReceiptError::Relay) }
}

impl Contradiction {
    /// Which group it is about.
    pub const fn thread(&self) -> ThreadId {
        self.one.words.thread
    }

    /// Checks that the two give a hub away, and which relay that is.
    ///
    /// # Errors
    /// They do not: one is no receipt, they are of two relays, or both may be of one order.
    pub fn verify(&self) -> Result<RelayId, ReceiptError> {
        let hub = signer(&self.one)?;
        verify(&self.other, hub)?;
        if self.one.words.contradicts(&self.other.words) { Ok(hub) } else { Err(ReceiptError::Agree) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::hub::FIRST_TERM;
    use whimbrel_protocol::id::{CommitHash, Epoch};
    use whimbrel_protocol::time::Wall;

    use super::*;
    use crate::keys::KeyPair;

    fn identity(relay: u8) -> RelayIdentity {
        let key = |n| KeyPair::from_seed_bytes([n; 32]);
        let domain = format!("r{relay}.example").parse().unwrap();
        RelayIdentity::create(&key(relay), &key(relay + 100), &domain, Wall::from_millis(1_700_000_000_000)).unwrap()
    }

    fn words(epoch: u64, commit: u8, previous: Option<u8>) -> Receipt {
        let hash = |n: u8| CommitHash::of(&[n]);
        Receipt {
            thread: ThreadId::from_bytes([9; 32]),
            term: FIRST_TERM,
            epoch: Epoch::new(epoch),
            commit: hash(commit),
            previous: previous.map(hash),
            at: Wall::from_millis(1_700_000_000_000),
        }
    }

    #[test]
    fn a_receipt_is_its_hubs_and_says_what_was_signed() {
        let signed = sign(&identity(1), words(5, 1, Some(0)));
        assert_eq!(verify(&signed, identity(1).id()), Ok(()));
        assert_eq!(verify(&signed, identity(2).id()), Err(ReceiptError::Relay));
        let good = signed.words;
        for changed in [
            Receipt { thread: ThreadId::from_bytes([8; 32]), ..good },
            Receipt { term: 2, ..good },
            Receipt { epoch: Epoch::new(6), ..good },
            Receipt { commit: CommitHash::of(b"other"), ..good },
            Receipt { previous: None, ..good },
            Receipt { at: Wall::from_millis(1), ..good },
        ] {
            let forged = SignedReceipt { words: changed, ..signed.clone() };
            assert_eq!(verify(&forged, identity(1).id()), Err(ReceiptError::Signature), "{changed:?}");
        }
        let chain = sign(&identity(2), good).chain;
        let passed_off = SignedReceipt { chain, ..signed.clone() };
        assert_eq!(verify(&passed_off, identity(2).id()), Err(ReceiptError::Signature));
        let cut = SignedReceipt { chain: signed.chain.iter().take(1).cloned().collect(), ..signed };
        let length = ReceiptError::Certificate(CertificateError::Length { found: 1 });
        assert_eq!(verify(&cut, identity(1).id()), Err(length));
    }

    #[test]
    fn a_receipt_of_a_clock_that_is_years_wrong_holds_all_the_same() {
        for at in [0, 1_900_000_000_000] {
            let signed = sign(&identity(1), Receipt { at: Wall::from_millis(at), ..words(5, 1, None) });
            assert_eq!(verify(&signed, identity(1).id()), Ok(()), "{at}");
        }
    }

    #[test]
    fn two_commits_for_one_epoch_give_their_hub_away_and_so_does_another_one_before() {
        let proof = |one: (u8, Receipt), other: (u8, Receipt)| Contradiction {
            one: sign(&identity(one.0), one.1),
            other: sign(&identity(other.0), other.1),
        };
        let hub = identity(1).id();
        let (held, after) = (words(5, 1, Some(0)), words(6, 2, Some(1)));
        for other in [words(5, 7, Some(0)), words(5, 7, None), words(6, 2, Some(7)), words(4, 7, None)] {
            assert_eq!(proof((1, held), (1, other)).verify(), Ok(hub), "{other:?}");
            assert_eq!(proof((1, other), (1, held)).verify(), Ok(hub), "{other:?}");
            assert_eq!(proof((1, held), (2, other)).verify(), Err(ReceiptError::Relay), "another relay's word");
        }
        // The same commit at another time, the next one, one further on, and one of another term or group.
        for other in [
            Receipt { at: Wall::from_millis(5), ..held },
            after,
            words(7, 3, Some(9)),
            Receipt { term: 2, ..words(5, 7, None) },
            Receipt { thread: ThreadId::from_bytes([1; 32]), ..words(5, 7, None) },
        ] {
            assert_eq!(proof((1, held), (1, other)).verify(), Err(ReceiptError::Agree), "{other:?}");
        }
        let mut forged = proof((1, held), (1, words(5, 7, None)));
        forged.other.words.commit = CommitHash::of(b"another");
        assert_eq!(forged.verify(), Err(ReceiptError::Signature));
    }
}
