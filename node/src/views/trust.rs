//! Trust: what is known of people's keys, of their logs in their relays' trees, and of those relays. Reads alone.

use whimbrel_crypto::receipt::Contradiction;
use whimbrel_crypto::transparency::{self, Evidence};
use whimbrel_crypto::{SafetyNumber, UnverifiedLog};
use whimbrel_protocol::id::{AccountId, Address, DeviceIndex, Domain, LogHash, PublicKey, RelayId, ThreadId};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Reads, StorageError};

use crate::identity::{Identity, LoadError};
use crate::rows::{self, AccountRow, AuditRow, ContactRow, Space, TreeRow};

/// How sure the owner can be that nobody stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Nothing was compared: their keys are as relays, or an invite, told them first.
    Unverified,
    /// The owner compared the safety number, and it still holds.
    Verified,
    /// The owner compared it, and the identity key is another since.
    Changed,
}

impl Trust {
    pub(super) fn of(row: &ContactRow) -> Self {
        match row.verified {
            None => Self::Unverified,
            Some(_) if row.key_changed() => Self::Changed,
            Some(_) => Self::Verified,
        }
    }
}

/// Somebody's keys, by their verified log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Whose.
    pub account: AccountId,
    /// Where they are found, by their relay's word.
    pub address: Address,
    /// What both can compare.
    pub number: SafetyNumber,
    /// Whether the owner did.
    pub trust: Trust,
    /// Every identity key they have had, oldest first.
    pub history: Vec<KeyPeriod>,
    /// Their devices: index and label.
    pub devices: Vec<(DeviceIndex, String)>,
    /// Whether their relay shows everybody this log of theirs.
    pub log: LogProof,
    /// Whether their relay shows different people different logs.
    pub two_faces: bool,
}

/// An identity key that somebody has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPeriod {
    /// The key.
    pub key: PublicKey,
    /// Since when, by their clock.
    pub since: Wall,
    /// When the owner compared it with them, by the clock here.
    pub compared: Option<Wall>,
}

/// Whether an account log as it is known here is in its relay's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogProof {
    /// The relay has not shown it yet.
    Pending,
    /// It is, in a tree of so many entries.
    Found(u64),
    /// The relay was asked often enough, and does not show it.
    Unproved,
}

impl LogProof {
    fn of(reads: &dyn Reads, account: &AccountId, head: (u64, LogHash)) -> Result<Self, StorageError> {
        let row: Option<AuditRow> = rows::get(reads, &rows::audit_key(account))?;
        Ok(match row.filter(|row| (row.seq, row.hash) == head) {
            Some(AuditRow { found: Some(size), .. }) => Self::Found(size),
            Some(AuditRow { missing: true, .. }) => Self::Unproved,
            _ => Self::Pending,
        })
    }
}

/// What a relay has shown of its tree of account logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTree {
    /// The domain it serves.
    pub domain: Domain,
    /// Which relay.
    pub relay: RelayId,
    /// How many entries its newest head here has.
    pub size: u64,
    /// Two heads of it that cannot both be of one tree: anybody can check them.
    pub evidence: Option<Evidence>,
    /// It does not show that what it told others is the beginning of what it tells us.
    pub withheld: bool,
}

/// Every relay whose tree was looked at, by domain.
///
/// # Errors
/// The rows cannot be read.
pub fn relays(reads: &dyn Reads) -> Result<Vec<RelayTree>, StorageError> {
    let mut found = Vec::new();
    rows::each(reads, &rows::space(Space::Tree), |(key, value)| {
        let TreeRow { relay, head, evidence, silent, .. } = rows::decode(&key, &value)?;
        let domain = rows::tree_domain(&key).ok_or_else(|| rows::damaged(&key, "no domain"))?;
        let size = transparency::verify(&head).map_err(|error| rows::damaged(&key, error))?.size();
        found.push(RelayTree { domain, relay, size, evidence, withheld: silent });
        Ok(())
    })?;
    Ok(found)
}

/// What proves that the hub of a thread signed two orders of its commits, by thread: anybody can check it.
///
/// # Errors
/// The rows cannot be read.
pub fn contradictions(reads: &dyn Reads) -> Result<Vec<(ThreadId, Contradiction)>, StorageError> {
    let mut found = Vec::new();
    rows::each(reads, &rows::space(Space::Contradiction), |(key, value)| {
        let proof: Contradiction = rows::decode(&key, &value)?;
        found.push((proof.thread(), proof));
        Ok(())
    })?;
    Ok(found)
}

/// Whether the own account's log is in its relay's tree.
///
/// # Errors
/// There is no account, or the store could not be read.
pub fn own_log(reads: &dyn Reads) -> Result<LogProof, LoadError> {
    let identity = Identity::load(reads)?;
    Ok(LogProof::of(reads, &identity.account(), identity.log.head())?)
}

/// Somebody's account log as it is known here, as it is sent: anybody can check it.
///
/// # Errors
/// The rows cannot be read.
pub fn log_of(reads: &dyn Reads, account: &AccountId) -> Result<Option<Vec<u8>>, StorageError> {
    Ok(crate::contacts::known(reads, account)?.map(|person| person.log.bytes()))
}

/// When the relay was last seen to show, as the own account log, what is none; by this device's clock, to a day.
///
/// # Errors
/// The store could not be read.
pub fn own_log_forged(reads: &dyn Reads) -> Result<Option<Wall>, StorageError> {
    rows::get(reads, &rows::single_key(rows::Single::Forged))
}

/// Somebody's keys, if they are known here.
///
/// # Errors
/// The rows cannot be read.
pub fn keys(reads: &dyn Reads, account: &AccountId) -> Result<Option<Keys>, StorageError> {
    let Some(person) = crate::contacts::known(reads, account)? else { return Ok(None) };
    let Some(row) = rows::get::<ContactRow>(reads, &rows::contact_key(account))? else { return Ok(None) };
    let key = rows::account_key();
    let own: AccountRow = rows::get(reads, &key)?.ok_or_else(|| rows::damaged(&key, "there is no account"))?;
    let own = UnverifiedLog(own.log).verify().map_err(|error| rows::damaged(&key, error))?;
    let mut history = Vec::new();
    for (_, hlc, key) in person.log.identities() {
        let compared = rows::get(reads, &rows::compared_key(account, &key))?;
        history.push(KeyPeriod { key, since: Wall::from_millis(hlc.millis), compared });
    }
    Ok(Some(Keys {
        account: *account,
        address: person.address.clone(),
        number: SafetyNumber::of(&own, &person.log),
        trust: Trust::of(&row),
        history,
        devices: person.log.devices().map(|device| (device.index, device.label.clone())).collect(),
        log: LogProof::of(reads, account, person.log.head())?,
        two_faces: rows::get::<TreeRow>(reads, &rows::tree_key(&person.address.domain))?
            .is_some_and(|tree| tree.evidence.is_some()),
    }))
}
