//! Safety number: what two people compare to know that nobody stands between them.
//! Owns: the digits and the scannable form, made of both accounts and the identity keys they have now.
//! Never: says whom it was compared with; that is the owner's word, kept by the node.
//! Rules: docs/protocol/identity.md. Source of the shape: the numeric fingerprints of libsignal (60 digits, both sides in
//! one number); here it is one hash over both, so that there is nothing to stretch.

use std::fmt;

use sha2::{Digest, Sha512};
use whimbrel_protocol::id::{AccountId, PublicKey};

use crate::account_log::AccountLog;

/// How many digits there are, in groups of [`GROUP`].
pub const DIGITS: usize = 60;
/// Digits read out together.
pub const GROUP: usize = 5;

const CONTEXT: &[u8] = b"whimbrel safety number 1\0";
/// What a scanned one begins with.
const SCANNED: &str = "whimbrel-safety:1:";

/// One number for two people. It changes when the identity key of one of them does, and with nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SafetyNumber([u8; 64]);

impl SafetyNumber {
    /// The number of two accounts, whichever comes first.
    pub fn of(one: &AccountLog, other: &AccountLog) -> Self {
        Self::of_keys((one.account(), one.identity_key()), (other.account(), other.identity_key()))
    }

    fn of_keys(one: (AccountId, PublicKey), other: (AccountId, PublicKey)) -> Self {
        let (first, second) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        let mut hash = Sha512::new().chain_update(CONTEXT);
        for (account, identity) in [first, second] {
            hash = hash.chain_update(account.as_bytes()).chain_update(identity.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// The digits, without spaces: twelve numbers below 100,000, each made of 5 bytes of the hash.
    pub fn digits(&self) -> String {
        let groups = self.0.chunks_exact(GROUP).take(DIGITS / GROUP);
        groups
            .map(|bytes| format!("{:05}", bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) % 100_000))
            .collect()
    }

    /// What a picture of it holds.
    pub fn scannable(&self) -> String {
        format!("{SCANNED}{}", self.digits())
    }

    /// Whether somebody typed, pasted or scanned this very number: digits with any white space or dashes between them,
    /// or the scannable form. The number is no secret: it is read out.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.trim();
        let text = text.strip_prefix(SCANNED).unwrap_or(text);
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        digits == self.digits()
    }
}

/// Groups of five with a space between: as people read it out.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        let groups: Vec<_> = (0..DIGITS / GROUP).filter_map(|n| digits.get(n * GROUP..(n + 1) * GROUP)).collect();
        f.write_str(&groups.join(" "))
    }
}

impl fmt::Debug for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafetyNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(account: u8, identity: u8) -> (AccountId, PublicKey) {
        (AccountId::from_bytes([account; 32]), PublicKey::from_bytes([identity; 32]))
    }

    #[test]
    fn both_sides_see_one_number_of_sixty_digits() {
        let number = SafetyNumber::of_keys(side(1, 10), side(2, 20));
        assert_eq!(number, SafetyNumber::of_keys(side(2, 20), side(1, 10)));
        let digits = number.digits();
        assert!(digits.len() == DIGITS && digits.bytes().all(|c| c.is_ascii_digit()));
        assert_eq!(number.to_string().split(' ').count(), DIGITS / GROUP);
        assert_eq!(number.to_string().replace(' ', ""), digits);
    }

    #[test]
    fn another_key_or_another_account_is_another_number() {
        let number = SafetyNumber::of_keys(side(1, 10), side(2, 20));
        for (one, other) in [
            (side(1, 11), side(2, 20)),
            (side(1, 10), side(2, 21)),
            (side(1, 10), side(3, 20)),
            (side(1, 20), side(2, 10)),
        ] {
            assert_ne!(number.digits(), SafetyNumber::of_keys(one, other).digits());
        }
    }

    #[test]
    fn it_is_known_again_as_typed_pasted_or_scanned_and_nothing_else_is() {
        let number = SafetyNumber::of_keys(side(1, 10), side(2, 20));
        for same in [number.digits(), format!("  {number}\n"), number.to_string().replace(' ', "-"), number.scannable()]
        {
            assert!(number.matches(&same), "{same}");
        }
        let mut wrong = number.digits();
        let last = if wrong.ends_with('0') { "1" } else { "0" };
        wrong.replace_range(DIGITS - 1.., last);
        for other in [wrong, number.digits()[..55].to_owned(), format!("{}0", number.digits()), String::new()] {
            assert!(!number.matches(&other), "{other}");
        }
    }

    #[test]
    fn the_number_is_the_one_of_the_written_rules() {
        // SHA-512 of the context and both sides, worked out apart from this code.
        assert_eq!(
            SafetyNumber::of_keys(side(1, 10), side(2, 20)).to_string(),
            "24717 12661 56250 94975 65485 92611 19789 01829 46037 84565 30954 73959"
        );
    }
}
