//! Entry: the bytes of one line of an account log.
//! Owns: body and envelope encoding (deterministic CBOR, RFC 8949 §4.2), the signature's context, the entry's hash.
//! Never: judges what an entry says; that is the log's part.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{AccountId, DeviceIndex, LogHash, PublicKey, Signature};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Hlc;

use super::LogError;
use crate::keys::{self, KeyPair};

const CONTEXT: &str = "whimbrel account log entry 1";

/// What the signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Body {
    /// Place in the log, from 0.
    #[n(0)]
    pub(super) seq: u64,
    /// Hash of the entry before; none for the first.
    #[n(1)]
    pub(super) prev: Option<LogHash>,
    /// When, by the author's clock: shown, never judged.
    #[n(2)]
    pub(super) hlc: Hlc,
    /// What happened.
    #[n(3)]
    pub(super) operation: Operation,
}

/// What an entry does. Numbers 5 and 6 are kept for the later kinds that say where the account lives: set the relay,
/// move.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Operation {
    #[n(0)]
    #[cbor(map)]
    Genesis {
        #[n(0)]
        identity: PublicKey,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        recovery: [u8; 32],
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        nonce: [u8; 16],
    },
    #[n(1)]
    #[cbor(map)]
    AddDevice {
        #[n(0)]
        index: DeviceIndex,
        #[n(1)]
        device: PublicKey,
        #[n(2)]
        transport: PublicKey,
        #[n(3)]
        label: String,
        /// The transport key's signature over [`transport_words`].
        #[n(4)]
        proof: Signature,
    },
    /// A device has another transport key from here on.
    #[n(2)]
    #[cbor(map)]
    UpdateDevice {
        #[n(0)]
        index: DeviceIndex,
        #[n(1)]
        transport: PublicKey,
        /// The new transport key's signature over [`transport_words`].
        #[n(2)]
        proof: Signature,
    },
    /// A device speaks for the account no more.
    #[n(3)]
    #[cbor(map)]
    RevokeDevice {
        #[n(0)]
        index: DeviceIndex,
    },
    /// Another key signs the log from here on. Signed by the recovery key.
    #[n(4)]
    #[cbor(map)]
    RotateIdentity {
        /// The recovery key the log committed to.
        #[n(0)]
        revealed: PublicKey,
        #[n(1)]
        identity: PublicKey,
        /// The new identity key's signature over [`identity_words`].
        #[n(2)]
        proof: Signature,
        /// What the next recovery key hashes to; the revealed one has done its work.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        recovery: [u8; 32],
    },
    /// Another recovery key. Signed by the one before.
    #[n(7)]
    #[cbor(map)]
    SetRecovery {
        /// The recovery key the log committed to.
        #[n(0)]
        revealed: PublicKey,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        recovery: [u8; 32],
    },
    /// A device is called something else.
    #[n(8)]
    #[cbor(map)]
    RenameDevice {
        #[n(0)]
        index: DeviceIndex,
        #[n(1)]
        label: String,
    },
}

/// What an identity key says of itself: whose it is from now on, and after which entry.
pub(super) fn identity_words(account: &AccountId, prev: &LogHash) -> Vec<u8> {
    canonical::encode(&(account, prev))
}

/// What a transport key says of itself: the device, and whose.
pub(super) fn transport_words(account: &AccountId, index: DeviceIndex, device: &PublicKey) -> Vec<u8> {
    canonical::encode(&(account, index, device))
}

/// Body and signature, as sent.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Envelope<'a> {
    #[n(0)]
    #[cbor(with = "minicbor::bytes", borrow = "'a")]
    body: &'a [u8],
    #[n(1)]
    signature: Signature,
}

/// An entry's signature and what it must cover.
pub(super) struct Signed<'a>(Envelope<'a>);

impl Signed<'_> {
    pub(super) fn verify(&self, key: &PublicKey, seq: u64) -> Result<(), LogError> {
        keys::verify(key, CONTEXT, self.0.body, &self.0.signature).map_err(|_| LogError::Signature { seq })
    }
}

/// Encodes and signs an entry.
pub(super) fn sign(identity: &KeyPair, body: &Body) -> Vec<u8> {
    sign_body(identity, &canonical::encode(body))
}

/// Signs a body that is encoded already.
pub(super) fn sign_body(identity: &KeyPair, body: &[u8]) -> Vec<u8> {
    canonical::encode(&Envelope { body, signature: identity.sign(CONTEXT, body) })
}

/// Decodes an entry, without believing it. `seq` is only for the error.
pub(super) fn open(entry: &[u8], seq: u64) -> Result<(Body, Signed<'_>), LogError> {
    let malformed = |error: minicbor::decode::Error| {
        if error.is_unknown_variant() { LogError::Unknown { seq } } else { LogError::Malformed { seq } }
    };
    let envelope: Envelope<'_> = minicbor::decode(entry).map_err(malformed)?;
    let body: Body = minicbor::decode(envelope.body).map_err(malformed)?;
    // One entry has one encoding: bytes outside the signature would otherwise change the entry's hash, and with it
    // the account's id, without anybody's consent. In the body, under the signature, unknown keys of later versions
    // are skipped; elsewhere there is no room for any.
    if canonical::encode(&envelope) != entry || canonical::check(envelope.body).is_err() {
        return Err(LogError::Malformed { seq });
    }
    Ok((body, Signed(envelope)))
}

/// The hash that the next entry, or the account's id, is made of.
pub(super) fn hash(entry: &[u8]) -> LogHash {
    LogHash::from_bytes(Sha256::digest(entry).into())
}

/// Cuts a log into entries: one array of byte strings, nothing after it.
pub(super) fn split(log: &[u8]) -> Result<Vec<Vec<u8>>, LogError> {
    let mut decoder = minicbor::Decoder::new(log);
    let count = decoder.array().ok().flatten().ok_or(LogError::Malformed { seq: 0 })?;
    let bound = limits::ACCOUNT_LOG_ENTRIES_MAX as u64;
    if count > bound {
        return Err(LogError::TooLong);
    }
    let entries = (0..count)
        .map(|seq| decoder.bytes().map(<[u8]>::to_vec).map_err(|_| LogError::Malformed { seq }))
        .collect::<Result<Vec<_>, _>>()?;
    if join(entries.iter().map(Vec::as_slice)) != log {
        return Err(LogError::Malformed { seq: count });
    }
    Ok(entries)
}

/// The inverse of [`split`].
pub(super) fn join<'a>(entries: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    infallible(encoder.array(entries.len() as u64).map(drop));
    for entry in entries {
        infallible(encoder.bytes(entry).map(drop));
    }
    encoder.into_writer()
}

/// Writing to memory cannot fail, and none of these types refuses to be written.
fn infallible(result: Result<(), minicbor::encode::Error<std::convert::Infallible>>) {
    assert!(result.is_ok(), "encoding to memory failed");
}
