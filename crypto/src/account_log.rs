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
const IDENTITY_CONTEXT: &str = "whimbrel identity key 1";

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
    /// The entry's signature is not that of the key this kind of entry needs: the identity key, or the recovery key.
    #[error("account log entry {seq} is not signed by the key it must be signed by")]
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
    /// The recovery key it shows is not the one the log committed to, or it commits to that one again.
    #[error("account log entry {seq} is not by the recovery key the account committed to")]
    Recovery {
        /// The place in the log.
        seq: u64,
    },
    /// It is about a device that the account does not have.
    #[error("account log entry {seq} is about no device of the account")]
    NoDevice {
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
    /// They part: two entries stand for one number (or the accounts differ), and the recovery key has not said which is
    /// the owner's. Show it.
    Fork,
    /// They part, and after that the recovery key, which both committed to before, has signed in this one alone: a thief
    /// of a device may have written the other. Take this one, and show it.
    Settled,
    /// They part, and the recovery key has signed in the other alone: keep that.
    Superseded,
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

    /// The word as it came from elsewhere. A log takes it in only if it holds.
    pub const fn received(key: PublicKey, proof: Signature) -> Self {
        Self { key, proof }
    }

    /// The word, to be sent.
    pub const fn signature(&self) -> Signature {
        self.proof
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

    /// Whose it says it is: cheaper than to check it, and no more than that.
    pub fn claims(&self) -> Option<AccountId> {
        let first = entry::split(&self.0).ok()?.into_iter().next()?;
        Some(AccountId::from_bytes(*entry::hash(&first).as_bytes()))
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
    former: BTreeMap<DeviceIndex, Device>,
    /// The smallest index that no device ever had.
    next: DeviceIndex,
    /// Every key that ever was the identity key: where and when it was named.
    identities: Vec<(u64, Hlc, PublicKey)>,
    /// Every key the log ever named.
    keys: BTreeSet<PublicKey>,
    entries: Vec<Entry>,
}

/// One entry, as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hash: LogHash,
    bytes: Vec<u8>,
    /// The recovery key signed it.
    by_recovery: bool,
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

    /// Gives a device another transport key, in an entry signed by `identity`. Nothing changes on error.
    ///
    /// # Errors
    /// `identity` is not this account's key, there is no such device, or the entry would break a rule of the log.
    pub fn update_device(
        &mut self,
        identity: &KeyPair,
        index: DeviceIndex,
        transport: TransportProof,
        hlc: Hlc,
    ) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let operation = Operation::UpdateDevice { index, transport: transport.key, proof: transport.proof };
        self.append(entry::sign(identity, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Takes a device off the account, in an entry signed by `identity`. Nothing changes on error.
    ///
    /// # Errors
    /// `identity` is not this account's key, there is no such device, or the log is full.
    pub fn revoke_device(&mut self, identity: &KeyPair, index: DeviceIndex, hlc: Hlc) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let operation = Operation::RevokeDevice { index };
        self.append(entry::sign(identity, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Calls a device something else, in an entry signed by `identity`. Nothing changes on error.
    ///
    /// # Errors
    /// `identity` is not this account's key, there is no such device, the label does not fit, or the log is full.
    pub fn rename_device(
        &mut self,
        identity: &KeyPair,
        index: DeviceIndex,
        label: &str,
        hlc: Hlc,
    ) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let operation = Operation::RenameDevice { index, label: label.to_owned() };
        self.append(entry::sign(identity, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Puts another identity key in the place of this one, and another recovery key in the place of the one that signs
    /// for it. Nothing changes on error.
    ///
    /// # Errors
    /// `recovery` is not the key the account committed to, or the entry would break a rule of the log.
    pub fn rotate_identity(
        &mut self,
        recovery: &KeyPair,
        identity: &KeyPair,
        next: RecoveryHash,
        hlc: Hlc,
    ) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let proof = identity.sign(IDENTITY_CONTEXT, &entry::identity_words(&self.account, &prev));
        let (revealed, identity) = (recovery.public(), identity.public());
        let operation = Operation::RotateIdentity { revealed, identity, proof, recovery: *next.as_bytes() };
        self.append(entry::sign(recovery, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Puts another recovery key in the place of this one, in an entry it signs. Nothing changes on error.
    ///
    /// # Errors
    /// `recovery` is not the key the account committed to, or the log is full.
    pub fn set_recovery(&mut self, recovery: &KeyPair, next: RecoveryHash, hlc: Hlc) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let operation = Operation::SetRecovery { revealed: recovery.public(), recovery: *next.as_bytes() };
        self.append(entry::sign(recovery, &Body { seq: head + 1, prev: Some(prev), hlc, operation }))
    }

    /// Whose log it is: SHA-256 of the whole first entry as sent.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// The key that signs the log.
    pub const fn identity_key(&self) -> PublicKey {
        self.identity
    }

    /// Every identity key the account has had, oldest first: the entry that named it, its author's clock, the key.
    pub fn identities(&self) -> impl Iterator<Item = (u64, Hlc, PublicKey)> + '_ {
        self.identities.iter().copied()
    }

    /// What the recovery key's public half hashes to.
    pub const fn recovery_hash(&self) -> RecoveryHash {
        self.recovery
    }

    /// One device.
    pub fn device(&self, index: DeviceIndex) -> Option<&Device> {
        self.devices.get(&index)
    }

    /// A device that was revoked, by its index: those are never used again.
    pub fn former(&self, index: DeviceIndex) -> Option<&Device> {
        self.former.get(&index)
    }

    /// A device that is, or was, the account's.
    pub fn named(&self, index: DeviceIndex) -> Option<&Device> {
        self.device(index).or_else(|| self.former(index))
    }

    /// Every device, by index.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// The smallest index a new device can have: those of revoked devices are never used again.
    pub const fn next_index(&self) -> DeviceIndex {
        self.next
    }

    /// Number and hash of the newest entry.
    pub fn head(&self) -> (u64, LogHash) {
        let seq = self.entries.len().saturating_sub(1) as u64;
        // A verified log has at least its genesis.
        (seq, self.entries.last().map_or(LogHash::from_bytes([0; 32]), |entry| entry.hash))
    }

    /// The hash of the entry at this place.
    pub fn hash_at(&self, seq: u64) -> Option<LogHash> {
        usize::try_from(seq).ok().and_then(|seq| self.entries.get(seq)).map(|entry| entry.hash)
    }

    /// The entries after a place, as they are sent.
    pub fn tail(&self, after: u64) -> Vec<u8> {
        let from = usize::try_from(after).unwrap_or(usize::MAX).saturating_add(1);
        let tail = self.entries.get(from..).unwrap_or_default();
        entry::join(tail.iter().map(|entry| entry.bytes.as_slice()))
    }

    /// This log with these entries after it, each verified.
    ///
    /// # Errors
    /// The first thing that is wrong with them, or that there are none.
    pub fn extended(&self, tail: &[u8]) -> Result<Self, LogError> {
        if tail.len() > limits::ACCOUNT_LOG_BYTES_MAX {
            return Err(LogError::TooLong);
        }
        let mut log = self.clone();
        let entries = entry::split(tail)?;
        if entries.is_empty() {
            return Err(LogError::Malformed { seq: self.head().0 + 1 });
        }
        entries.into_iter().try_for_each(|entry| log.append(entry))?;
        Ok(log)
    }

    /// Whether the log ever named this key, for whatever it was.
    pub fn has_named(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// The log as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        entry::join(self.entries.iter().map(|entry| entry.bytes.as_slice()))
    }

    /// What this log is to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        let pairs = self.entries.iter().zip(&other.entries);
        let common = pairs.take_while(|(mine, theirs)| mine.hash == theirs.hash).count();
        // What the recovery key says after two logs part is by the key that both committed to, or by one it put in its place.
        let settles = |log: &Self| log.entries.iter().skip(common).any(|entry| entry.by_recovery);
        match (common == self.entries.len(), common == other.entries.len()) {
            (true, true) => Relation::Same,
            (false, true) => Relation::Longer,
            (true, false) => Relation::Shorter,
            (false, false) if common == 0 => Relation::Fork,
            (false, false) => match (settles(self), settles(other)) {
                (true, false) => Relation::Settled,
                (false, true) => Relation::Superseded,
                _ => Relation::Fork,
            },
        }
    }

    /// Whether this log is `other` with more entries after it.
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
            former: BTreeMap::new(),
            next: DeviceIndex::FIRST,
            identities: vec![(0, body.hlc, identity)],
            keys: BTreeSet::from([identity]),
            entries: vec![Entry { hash, bytes: entry, by_recovery: false }],
        })
    }

    /// Verifies one more entry and takes it in; every check comes before the first change.
    fn append(&mut self, entry: Vec<u8>) -> Result<(), LogError> {
        let (head, prev) = self.head();
        let seq = head + 1;
        // The array header of the whole is at most 5 bytes, and each entry's own header too.
        let bytes: usize = self.entries.iter().map(|entry| entry.bytes.len() + 5).sum::<usize>() + entry.len() + 10;
        if self.entries.len() >= limits::ACCOUNT_LOG_ENTRIES_MAX || bytes > limits::ACCOUNT_LOG_BYTES_MAX {
            return Err(LogError::TooLong);
        }
        let (body, signed) = entry::open(&entry, seq)?;
        let by_recovery = match &body.operation {
            Operation::RotateIdentity { revealed, recovery, .. } | Operation::SetRecovery { revealed, recovery } => {
                self.check_recovery(revealed, recovery, seq)?;
                signed.verify(revealed, seq)?;
                true
            }
            _ => {
                signed.verify(&self.identity, seq)?;
                false
            }
        };
        if body.seq != seq || body.prev != Some(prev) {
            return Err(LogError::Chain { seq });
        }
        match body.operation {
            Operation::Genesis { .. } => return Err(LogError::Genesis { seq }),
            Operation::AddDevice { index, device, transport, label, proof } => {
                let device = Device { index, device_key: device, transport_key: transport, label };
                self.take_device(seq, device, TransportProof { key: transport, proof })?;
            }
            Operation::UpdateDevice { index, transport, proof } => {
                self.take_transport(seq, index, TransportProof { key: transport, proof })?;
            }
            Operation::RevokeDevice { index } => {
                let gone = self.devices.remove(&index).ok_or(LogError::NoDevice { seq })?;
                self.former.insert(index, gone);
            }
            Operation::RenameDevice { index, label } => {
                check_label(&label, seq)?;
                self.devices.get_mut(&index).ok_or(LogError::NoDevice { seq })?.label = label;
            }
            Operation::RotateIdentity { revealed, identity, proof, recovery } => {
                self.check_fresh(&identity, seq)?;
                let words = entry::identity_words(&self.account, &prev);
                keys::verify(&identity, IDENTITY_CONTEXT, &words, &proof).map_err(|_| LogError::Signature { seq })?;
                (self.identity, self.recovery) = (identity, RecoveryHash::from_bytes(recovery));
                self.identities.push((seq, body.hlc, identity));
                self.keys.extend([identity, revealed]);
            }
            Operation::SetRecovery { revealed, recovery } => {
                self.recovery = RecoveryHash::from_bytes(recovery);
                self.keys.insert(revealed);
            }
        }
        self.entries.push(Entry { hash: entry::hash(&entry), bytes: entry, by_recovery });
        Ok(())
    }

    /// The recovery key must be the one that was committed to, and is good for this once.
    fn check_recovery(&self, revealed: &PublicKey, next: &[u8; 32], seq: u64) -> Result<(), LogError> {
        if RecoveryHash::of(revealed) != self.recovery || *next == *self.recovery.as_bytes() {
            return Err(LogError::Recovery { seq });
        }
        self.check_fresh(revealed, seq)
    }

    /// No key does two jobs, or one job twice.
    fn check_fresh(&self, key: &PublicKey, seq: u64) -> Result<(), LogError> {
        let fresh = keys::is_acceptable(key) && !self.keys.contains(key);
        if fresh { Ok(()) } else { Err(LogError::Key { seq }) }
    }

    fn take_transport(&mut self, seq: u64, index: DeviceIndex, transport: TransportProof) -> Result<(), LogError> {
        let device = self.devices.get(&index).ok_or(LogError::NoDevice { seq })?;
        self.check_fresh(&transport.key, seq)?;
        transport.verify(&self.account, index, &device.device_key, seq)?;
        self.keys.insert(transport.key);
        if let Some(device) = self.devices.get_mut(&index) {
            device.transport_key = transport.key;
        }
        Ok(())
    }

    fn take_device(&mut self, seq: u64, device: Device, transport: TransportProof) -> Result<(), LogError> {
        // The first is 0; later ones may leave some out.
        let in_order =
            device.index >= self.next && (self.next > DeviceIndex::FIRST || device.index == DeviceIndex::FIRST);
        let next = device.index.get().checked_add(1).filter(|_| in_order).ok_or(LogError::Index { seq })?;
        if self.devices.len() >= limits::ACCOUNT_DEVICES_MAX {
            return Err(LogError::Devices { seq });
        }
        check_label(&device.label, seq)?;
        if device.device_key == device.transport_key {
            return Err(LogError::Key { seq });
        }
        self.check_fresh(&device.device_key, seq)?;
        self.check_fresh(&device.transport_key, seq)?;
        transport.verify(&self.account, device.index, &device.device_key, seq)?;
        self.keys.extend([device.device_key, device.transport_key]);
        self.next = DeviceIndex::new(next);
        self.devices.insert(device.index, device);
        Ok(())
    }
}

fn check_label(label: &str, seq: u64) -> Result<(), LogError> {
    let fits = label.len() <= limits::DEVICE_LABEL_BYTES_MAX && !label.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(LogError::Label { seq }) }
}

#[cfg(test)]
mod tests;
