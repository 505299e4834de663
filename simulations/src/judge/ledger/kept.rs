//! The account's pages on what relays keep of people: what is left of accounts that ended, and what people are given of it.
//! Owns: nothing; the ledger does.

use super::*;

impl Ledger {
    /// Somebody was never told that their account is deleted.
    pub fn unended(&mut self, of: ProcessNo) {
        self.violate(Violation::Unended { of });
    }

    /// A relay said that an account is deleted, and kept something about it.
    pub fn remains(&mut self, relay: ProcessNo, of: ProcessNo, rows: u64) {
        self.violate(Violation::Remains { relay, of, rows });
    }

    /// Somebody asked for what is kept of them and was not given it.
    pub fn ungiven(&mut self, of: ProcessNo) {
        self.violate(Violation::Ungiven { of });
    }

    /// Somebody was given something else than what is kept of them.
    pub fn misgiven(&mut self, of: ProcessNo, missing: usize, beyond: usize) {
        self.violate(Violation::Misgiven { of, missing, beyond });
    }
}
