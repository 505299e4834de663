//! Participants: the tag by which an owner finds the thread of exactly these people again.
//! Owns: the key and the keyed hash. Never: a plain hash of account ids, which a relay could reverse (it knows its
//! users). Source: HMAC (RFC 2104) with SHA-256.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use whimbrel_protocol::id::{AccountId, ParticipantsTag, ThreadId};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::chance::Chance;

/// The key of an account's participants tags, shared by its devices only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ParticipantsKey([u8; 32]);

impl ParticipantsKey {
    /// A fresh key.
    pub fn generate(chance: &mut Chance) -> Self {
        Self(chance.bytes())
    }

    /// Wraps the bytes of a stored key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret, for storing it sealed.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// The tag of a set of people; order and repetition do not matter.
    pub fn tag(&self, accounts: &[AccountId]) -> ParticipantsTag {
        let accounts: BTreeSet<_> = accounts.iter().collect();
        self.mac(b"whimbrel participants 1\0", accounts.into_iter().map(|account| account.as_bytes().as_slice()))
    }

    /// The tag of a group: its members change, and it is found again by itself.
    pub fn group_tag(&self, thread: &ThreadId) -> ParticipantsTag {
        self.mac(b"whimbrel group 1\0", [thread.as_bytes().as_slice()])
    }

    fn mac<'b>(&self, context: &[u8], parts: impl IntoIterator<Item = &'b [u8]>) -> ParticipantsTag {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(context);
        parts.into_iter().for_each(|part| mac.update(part));
        ParticipantsTag::from_bytes(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for ParticipantsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParticipantsKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(byte: u8) -> AccountId {
        AccountId::from_bytes([byte; 32])
    }

    #[test]
    fn a_tag_names_a_set_of_people_whatever_their_order() {
        let key = ParticipantsKey::from_bytes([5; 32]);
        let tag = key.tag(&[account(1), account(2)]);
        assert_eq!(key.tag(&[account(2), account(1), account(2)]), tag);
        assert_ne!(key.tag(&[account(1), account(2), account(3)]), tag);
    }

    #[test]
    fn another_owner_has_another_tag() {
        let people = [account(1), account(2)];
        assert_ne!(
            ParticipantsKey::from_bytes([5; 32]).tag(&people),
            ParticipantsKey::from_bytes([6; 32]).tag(&people)
        );
    }
}
