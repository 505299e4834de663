//! Account log: the signed, hash-chained history that says who a person is and which devices speak for them.
//! Owns: the entry format, its verification, the rule that tells a longer log from a fork.
//! Never: fetches or stores a log; trusts a byte of one before [`UnverifiedLog::verify`].
//! Limits: `limits::ACCOUNT_LOG_ENTRIES_MAX`, `limits::ACCOUNT_LOG_BYTES_MAX`, `limits::ACCOUNT_DEVICES_MAX`.
//! Rules: docs/protocol/identity.md.
//!
//! An entry on the wire is a map of the body's bytes and the signature over exactly those bytes; nothing is ever
//! verified over a re-encoding. The account id is the hash of the whole first entry, so it names one identity key, one
//! recovery commitment and one nonce for ever.

mod entry;

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{AccountId, DeviceIndex, LogHash, PublicKey, Signature};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Hlc;

use self::entry::{Body, Operation};
use crate::chance::Chance;
use crate::keys::{self, KeyPair};
use crate::recovery::RecoveryHash;

const TRANSPORT_CONTEXT: &str = "whimbrel transport key 1";

/// Why a log, or an entry for it, is refused. All are the author's fault and final, except [`LogError::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// More bytes or entries than a log may have.
    #[error("account log over its bound")]
    TooLong,
    /// Not an array of entries, or entry `seq` is not encoded as the format says.
    #[error("account log malformed at entry {seq}")]
    Malformed {
        /// The place in the log, from 0.
        seq: u64,
    },
    /// The entry is well formed, but of a kind this version does not know. A newer version may take it.
    #[error("account log entry {seq} is of an unknown kind")]
    Unknown {
        /// The place in the log.
        seq: u64,
    },
    /// The entry's signature is not the identity key's.
    #[error("account log entry {seq} is not signed by the identity key")]
    Signature {
        /// The place in the log.
        seq: u64,
    },
    /// The entry's number or the hash of its predecessor does not fit.
    #[error("account log entry {seq} does not follow its predecessor")]
    Chain {
        /// The place in the log.
        seq: u64,
    },
    /// The first entry is not a genesis, or a later one is.
    #[error("account log has its genesis in the wrong place, entry {seq}")]
    Genesis {
        /// The place in the log.
        seq: u64,
    },
    /// Device indices start from 0 and only grow.
    #[error("account log entry {seq} uses a device index out of order")]
    Index {
        /// The place in the log.
        seq: u64,
    },
    /// One key for two jobs or two devices, or a key that no signature should be checked with.
    #[error("account log entry {seq} names a key that may not be used")]
    Key {
        /// The place in the log.
        seq: u64,
    },
    /// The transport key has not agreed to be this device's: it may be another person's.
    #[error("account log entry {seq} names a transport key without that key's word")]
    Transport {
        /// The place in the log.
        seq: u64,
    },
    /// Too long a label, or control characters in it.
    #[error("account log entry {seq} has a bad label")]
    Label {
        /// The place in the log.
        seq: u64,
    },
    /// More devices than an account may have.
    #[error("account log entry {seq} adds a device too many")]
    Devices {
        /// The place in the log.
        seq: u64,
    },
}

/// A device as its account's log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its place among the account's devices.
    pub index: DeviceIndex,
    /// Signs for the device: MLS leaves, link proofs, envelopes.
    pub device_key: PublicKey,
    /// Its TLS certificate and PeerId; good for nothing else.
    pub transport_key: PublicKey,
    /// What the owner calls it, at most `limits::DEVICE_LABEL_BYTES_MAX` bytes without control characters.
    pub label: String,
}

/// What one log is to another of the same account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Entry for entry the same.
    Same,
    /// The other is a beginning of this one: take this one.
    Longer,
    /// This one is a beginning of the other: keep the other.
    Shorter,
    /// They part: two entries stand for one number (or the accounts differ). Show it; only the recovery key settles it.
    Fork,
}

/// A transport key's own word that it is a device's. Whoever signs a log can write any key into it; without this, a log
/// could name somebody else's, and who is at the other end of a direct link would be anybody's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportProof {
    key: PublicKey,
    proof: Signature,
}

impl TransportProof {
    /// The word of this transport key for one device of one account.
    pub fn make(transport: &KeyPair, account: AccountId, index: DeviceIndex, device: &PublicKey) -> Self {
        let proof = transport.sign(TRANSPORT_CONTEXT, &entry::transport_words(&account, index, device));
        Self { key: transport.public(), proof }
    }

    fn verify(&self, account: &AccountId, index: DeviceIndex, device: &PublicKey, seq: u64) -> Result<(), LogError> {
        let words = entry::transport_words(account, index, device);
        keys::verify(&self.key, TRANSPORT_CONTEXT, &words, &self.proof).map_err(|_| LogError::Transport { seq })
    }
}

/// A log as it was sent: nothing in it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedLog(pub Vec<u8>);

impl UnverifiedLog {
    /// Checks every entry: form, number, chain, signature, keys.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<AccountLog, LogError> {
        self.read().inspect_err(|error| tracing::debug!(%error, "an account log is refused"))
    }

    fn read(&self) -> Result<AccountLog, LogError> {
        if self.0.len() > limits::ACCOUNT_LOG_BYTES_MAX {
            return Err(LogError::TooLong);
        }
        let entries = entry::split(&self.0)?;
        let mut entries = entries.into_iter();
        let first = entries.next().ok_or(LogError::Malformed { seq: 0 })?;
        let mut log = AccountLog::begin(first)?;
        for entry in entries {
            log.append(entry)?;
        }
        Ok(log)
    }
}

/// A verified account log. Grows by whole entries; never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLog {
    account: AccountId,
    identity: PublicKey,
    recovery: RecoveryHash,
    devices: BTreeMap<DeviceIndex, Device>,
    /// Every key the log ever named.
    keys: BTreeSet<PublicKey>,
    entries: Vec<(LogHash, Vec<u8>)>,
}

impl AccountLog {
    /// Starts an account: its first entry, signed by its identity key, committing to its recovery key.
    ///
    /// # Panics
    /// Never for a key pair of this house: its public key is acceptable and the entry is within every bound.
    pub fn genesis(identity: &KeyPair, recovery: RecoveryHash, hlc: Hlc, chance: &mut Chance) -> Self {
        let operation =
            Operation::Genesis { identity: identity.public(), recovery: *recovery.as_bytes(), nonce: chance.bytes() };
        let entry = entry::sign(identity, &Body { seq: 0, prev: None, hlc, operation });
        #[expect(clippy::expect_used, reason = "an entry just made by the rules it is checked by")]
        Self::begin(entry).expect("a genesis made here verifies")
    }

    /// Adds a device, in an entry signed by `identity`. Nothing changes on error.
    ///
    /// # Errors
    /// `identity` is not this account's key, or the entry would break a rule of the log.
    pub fn add_device(
        &mut self,
        identity: &KeyPair,
        index: DeviceIndex,
        device: PublicKey,
        transport: TransportProof,
        label: &str,
        hlc: Hlc,
    ) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let TransportProof { key: transport, proof } = transport;
        let operation = Operation::AddDevice { index, device, transport, label: label.to_owned(), proof };
        self.append(entry::sign(identity, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Whose log it is: SHA-256 of the whole first entry as sent.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// The key that signs the log.
    pub const fn identity_key(&self) -> PublicKey {
        self.identity
    }

    /// What the recovery key's public half hashes to.
    pub const fn recovery_hash(&self) -> RecoveryHash {
        self.recovery
    }

    /// One device.
    pub fn device(&self, index: DeviceIndex) -> Option<&Device> {
        self.devices.get(&index)
    }

    /// Every device, by index.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// The smallest index a new device can have.
    pub fn next_index(&self) -> DeviceIndex {
        self.devices
            .keys()
            .next_back()
            .map_or(DeviceIndex::FIRST, |last| DeviceIndex::new(last.get().saturating_add(1)))
    }

    /// Number and hash of the newest entry.
    pub fn head(&self) -> (u64, LogHash) {
        let seq = self.entries.len().saturating_sub(1) as u64;
        // A verified log has at least its genesis.
        (seq, self.entries.last().map_or(LogHash::from_bytes([0; 32]), |(hash, _)| *hash))
    }

    /// The log as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        entry::join(self.entries.iter().map(|(_, bytes)| bytes.as_slice()))
    }

    /// What this log is to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        let common = self.entries.iter().zip(&other.entries).all(|((mine, _), (theirs, _))| mine == theirs);
        match self.entries.len().cmp(&other.entries.len()) {
            _ if !common => Relation::Fork,
            std::cmp::Ordering::Equal => Relation::Same,
            std::cmp::Ordering::Greater => Relation::Longer,
            std::cmp::Ordering::Less => Relation::Shorter,
        }
    }

    /// Whether this log is `other` with more entries after it: then, and only then, it takes `other`'s place.
    pub fn extends(&self, other: &Self) -> bool {
        self.relation(other) == Relation::Longer
    }

    fn begin(entry: Vec<u8>) -> Result<Self, LogError> {
        let (body, signed) = entry::open(&entry, 0)?;
        let Operation::Genesis { identity, recovery, .. } = body.operation else {
            return Err(LogError::Genesis { seq: 0 });
        };
        if body.seq != 0 || body.prev.is_some() {
            return Err(LogError::Chain { seq: 0 });
        }
        if !keys::is_acceptable(&identity) {
            return Err(LogError::Key { seq: 0 });
        }
        signed.verify(&identity, 0)?;
        let hash = entry::hash(&entry);
        Ok(Self {
            account: AccountId::from_bytes(*hash.as_bytes()),
            identity,
            recovery: RecoveryHash::from_bytes(recovery),
            devices: BTreeMap::new(),
            keys: BTreeSet::from([identity]),
            entries: vec![(hash, entry)],
        })
    }

    /// Verifies one more entry and takes it in; every check comes before the first change.
    fn append(&mut self, entry: Vec<u8>) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let seq = head + 1;
        // The array header of the whole is at most 5 bytes, and each entry's own header too.
        let bytes: usize = self.entries.iter().map(|(_, bytes)| bytes.len() + 5).sum::<usize>() + entry.len() + 10;
        if self.entries.len() >= limits::ACCOUNT_LOG_ENTRIES_MAX || bytes > limits::ACCOUNT_LOG_BYTES_MAX {
            return Err(LogError::TooLong);
        }
        let (body, signed) = entry::open(&entry, seq)?;
        signed.verify(&self.identity, seq)?;
        if body.seq != seq || body.prev != Some(prev) {
            return Err(LogError::Chain { seq });
        }
        match body.operation {
            Operation::Genesis { .. } => return Err(LogError::Genesis { seq }),
            Operation::AddDevice { index, device, transport, label, proof } => {
                let device = Device { index, device_key: device, transport_key: transport, label };
                self.take_device(seq, device, TransportProof { key: transport, proof })?;
            }
        }
        self.entries.push((entry::hash(&entry), entry));
        Ok(())
    }

    fn take_device(&mut self, seq: u64, device: Device, transport: TransportProof) -> Result<(), LogError> {
        let in_order = match self.devices.keys().next_back() {
            None => device.index == DeviceIndex::FIRST,
            Some(last) => device.index > *last,
        };
        if !in_order {
            return Err(LogError::Index { seq });
        }
        if self.devices.len() >= limits::ACCOUNT_DEVICES_MAX {
            return Err(LogError::Devices { seq });
        }
        if device.label.len() > limits::DEVICE_LABEL_BYTES_MAX || device.label.chars().any(char::is_control) {
            return Err(LogError::Label { seq });
        }
        let fresh = |key| keys::is_acceptable(key) && !self.keys.contains(key);
        if device.device_key == device.transport_key || !fresh(&device.device_key) || !fresh(&device.transport_key) {
            return Err(LogError::Key { seq });
        }
        transport.verify(&self.account, device.index, &device.device_key, seq)?;
        self.keys.extend([device.device_key, device.transport_key]);
        self.devices.insert(device.index, device);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
