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

    /// Somebody with a good token has no account in the end.
    pub fn kept_out(&mut self, who: ProcessNo) {
        self.violate(Violation::KeptOut { who });
    }

    /// Somebody has an account, and came with no token that lets anybody in.
    pub fn came_uninvited(&mut self, relay: ProcessNo, who: ProcessNo) {
        self.violate(Violation::CameUninvited { relay, who });
    }

    /// Somebody was shown a card that its owner never put up.
    pub fn strange_card(&mut self, to: ProcessNo, of: ProcessNo) {
        self.violate(Violation::StrangeCard { to, of });
    }

    /// Somebody was shown an older card than the one its owner was answered for when they looked.
    pub fn stale_card(&mut self, to: ProcessNo, of: ProcessNo) {
        self.violate(Violation::StaleCard { to, of });
    }

    /// Somebody who may look was not shown the card of somebody.
    pub fn unshown_card(&mut self, to: ProcessNo, of: ProcessNo) {
        self.violate(Violation::UnshownCard { to, of });
    }

    /// Somebody is served at another push address than their account's, and never tried that.
    pub fn at_another_door(&mut self, who: ProcessNo) {
        self.violate(Violation::AtAnotherDoor { who });
    }

    /// More came in by a token than it lets in.
    pub fn came_too_many(&mut self, relay: ProcessNo, uses: u32, came: u32) {
        self.violate(Violation::TokenOverused { relay, uses, came });
    }

    /// Somebody was turned away with a token that would have let in more than it did.
    pub fn turned_away(&mut self, relay: ProcessNo, uses: u32, came: u32) {
        self.violate(Violation::TokenShort { relay, uses, came });
    }
}
