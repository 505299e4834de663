//! Remembers which signatures were found valid, so that the same bytes are not held to the curve again and again: a
//! contact's log is read from the store at every message, a relay's certificates at every look at its tree.
//! Owns: a bounded set of digests for each thread of the process. Never: a verdict on what was not verified in full, and
//! no memory of what was refused.
//! Whether a signature is valid is decided by key, bytes and signature alone, so what is remembered cannot grow wrong.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{PublicKey, Signature};
use whimbrel_protocol::limits;

thread_local! {
    static VALID: RefCell<Valid> = RefCell::default();
}

/// What stands for one valid signature: key and signature have one length each, so no two triples run into each other.
pub(super) struct Seal([u8; 32]);

impl Seal {
    pub(super) fn of(key: &PublicKey, bytes: &[u8], signature: &Signature) -> Self {
        let digest = Sha256::new().chain_update(key.as_bytes()).chain_update(signature.as_bytes()).chain_update(bytes);
        Self(digest.finalize().into())
    }

    /// Whether it was found valid in this thread, and is still remembered.
    pub(super) fn is_known(&self) -> bool {
        VALID.with_borrow(|valid| valid.known.contains(&self.0))
    }

    /// Remembers that it was found valid.
    pub(super) fn remember(self) {
        VALID.with_borrow_mut(|valid| valid.add(self.0, limits::SIGNATURES_REMEMBERED));
    }
}

/// The digests, and the order in which they came: the oldest goes first.
#[derive(Default)]
struct Valid {
    known: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Valid {
    fn add(&mut self, digest: [u8; 32], most: usize) {
        if !self.known.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_no_more_than_its_bound_and_forgets_the_oldest() {
        let mut valid = Valid::default();
        for n in 0..9 {
            valid.add([n; 32], 4);
            valid.add([n; 32], 4);
        }
        assert_eq!((valid.known.len(), valid.order.len()), (4, 4));
        assert!(!valid.known.contains(&[4; 32]));
        assert!((5..9).all(|n| valid.known.contains(&[n; 32])));
    }
}
