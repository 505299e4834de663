//! Names of things: every id of the house is a type of its own.
//! Owns: the id types, their text forms, the rules for names and domains.
//! Never: makes an id from chance or keys; whoever has those hands the bytes in.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not hexadecimal, or not of the right length.
    #[error("expected {expected} hexadecimal characters")]
    Hex {
        /// How many characters the id has.
        expected: usize,
    },
    /// Not a name: 1 to 32 of `a-z 0-9 . _ -`, starting with a letter or a digit.
    #[error("a name has 1 to 32 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")]
    Name,
    /// Not a domain: dot-separated labels of `a-z 0-9 -`, at most 253 characters.
    #[error("a domain has dot-separated labels of a-z, 0-9 and '-', at most 253 characters")]
    Domain,
    /// Not `name@domain`.
    #[error("an address looks like name@domain")]
    Address,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let wrong = IdError::Hex { expected: 2 * N };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(wrong);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong.clone())?;
        // `from_str_radix` alone would take a sign.
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong.clone())?;
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] #[cbor(with = "minicbor::bytes")] [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps bytes that are known to be such an id.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                hex(self.0.get(..4).unwrap_or_default(), f)?;
                write!(f, "…)")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Hex { expected: 2 * $len })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A person: SHA-256 of the whole first entry of the account log.
    AccountId, 32
);
id!(
    /// A relay: SHA-256 of its offline certificate (DER).
    RelayId, 32
);
id!(
    /// A conversation: the id of its MLS group.
    ThreadId, 32
);
id!(
    /// An envelope: SHA-256 of its sealed body, the same on every path.
    EnvelopeId, 32
);
id!(
    /// A message: 128 random bits chosen by its author, inside the sealed content.
    MessageId, 16
);
id!(
    /// A large body (Welcome, ratchet tree) kept once by a relay: SHA-256 of its bytes.
    BlobId, 32
);
id!(
    /// SHA-256 of an entry of an account log.
    LogHash, 32
);
id!(
    /// A change of a group: SHA-256 of the MLS commit.
    CommitHash, 32
);
id!(
    /// A node of a relay's tree of account logs: SHA-256, of RFC 9162's shape.
    TreeHash, 32
);
id!(
    /// What a relay hides an account in its tree with: told with the account's proofs and nowhere else.
    TreeSalt, 16
);
id!(
    /// Keyed hash over the account ids of a thread's members; the key stays with the owner's devices.
    ParticipantsTag, 32
);
id!(
    /// Proof that a person was invited: 128 random bits.
    InviteToken, 16
);
id!(
    /// SHA-256 of an [`InviteToken`]: what a relay keeps instead of the token.
    TokenHash, 32
);
id!(
    /// Where two devices meet to be linked: follows from a code that both know.
    MeetingId, 16
);
id!(
    /// An ed25519 public key (RFC 8032).
    PublicKey, 32
);
id!(
    /// An ed25519 signature (RFC 8032).
    Signature, 64
);

impl EnvelopeId {
    /// The id of a sealed body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl CommitHash {
    /// The hash of a commit.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl BlobId {
    /// The id of a large body.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl InviteToken {
    /// What a relay keeps of the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }
}

/// The place of a device in its account's log: 0 for the first, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct DeviceIndex(#[n(0)] u32);

impl DeviceIndex {
    /// The device that Genesis's author adds first.
    pub const FIRST: Self = Self(0);

    /// Wraps an index read from an account log.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The bare index.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// One device of one account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct DeviceId {
    /// Whose device it is.
    #[n(0)]
    pub account: AccountId,
    /// Which of the account's devices.
    #[n(1)]
    pub index: DeviceIndex,
}

impl DeviceId {
    /// About how many bytes one takes on the wire.
    pub const BYTES_ABOUT: usize = 48;
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.index.0)
    }
}

/// An epoch of an MLS group (RFC 9420 §8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Epoch(#[n(0)] u64);

impl Epoch {
    /// Wraps an epoch number.
    pub const fn new(epoch: u64) -> Self {
        Self(epoch)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The place of an entry in one log at one relay: from 1, without gaps. No sequence crosses a relay link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Sequence(#[n(0)] u64);

impl Sequence {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// Wraps a sequence number.
    pub const fn new(sequence: u64) -> Self {
        Self(sequence)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next place.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Pairs an answer with its request on one link; chosen by whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct RequestId(#[n(0)] u64);

impl RequestId {
    /// Wraps a request number.
    pub const fn new(request: u64) -> Self {
        Self(request)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// An authenticated connection of this process; never on the wire, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(u64);

impl LinkId {
    /// Wraps a link number handed out by a runtime.
    pub const fn new(link: u64) -> Self {
        Self(link)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $error:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) { Ok(Self(text.to_owned())) } else { Err($error) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                d.str()?.parse().map_err(|error: IdError| minicbor::decode::Error::message(error))
            }
        }
    };
}

text!(
    /// What a person is called at a relay; unique there. Lower-case ASCII until the full name profile stands.
    Name, IdError::Name, |text| {
        (1..=limits::NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    }
);
text!(
    /// The domain a relay serves, in lower case (RFC 1035 §2.3.1, digits allowed first by RFC 1123 §2.1).
    Domain, IdError::Domain, |text| {
        (1..=limits::DOMAIN_BYTES_MAX).contains(&text.len())
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    }
);

/// Where a person is found: `name@domain`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The person's name there.
    #[n(0)]
    pub name: Name,
    /// The home relay's domain.
    #[n(1)]
    pub domain: Domain,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}

impl FromStr for Address {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, domain) = text.split_once('@').ok_or(IdError::Address)?;
        Ok(Self { name: name.parse()?, domain: domain.parse()? })
    }
}

impl TryFrom<String> for Address {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = AccountId::from_bytes([0xa7; 32]);
        assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
    }

    #[test]
    fn an_id_of_the_wrong_length_or_alphabet_is_refused() {
        assert!("abcd".parse::<MessageId>().is_err());
        assert!("+f".repeat(16).parse::<MessageId>().is_err());
        assert!("zz".repeat(16).parse::<MessageId>().is_err());
    }

    #[test]
    fn debug_output_shows_only_the_head_of_an_id() {
        assert_eq!(format!("{:?}", AccountId::from_bytes([0xa7; 32])), "AccountId(a7a7a7a7…)");
    }

    #[test]
    fn names_and_domains_follow_their_profile() {
        assert!("alice@a.example".parse::<Address>().is_ok());
        for wrong in
            ["Alice@a.example", "@a.example", "alice@", "alice", "al ice@a", "alice@-a.example", "a@b..c", ".a@b"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong} was taken");
        }
    }
}
