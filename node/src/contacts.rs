//! Contacts: who people are, by proof.
//! Owns: the longest verified account log of everybody we share a thread with, their devices' keys, and who of them
//! is a contact. Never: believes a relay about more than an address.
//! Rules: docs/protocol/identity.md, user.md.

use whimbrel_crypto::{AccountLog, Relation, UnverifiedLog};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, Domain, PublicKey};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::rows::{self, ContactRow, DeviceRow, Space};

/// An account as proved by its log, and where its relay says it is found.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) address: Address,
    pub(crate) log: AccountLog,
}

/// What a relay said does not prove what it must; why, for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distrust(pub(crate) String);

/// The person as known here.
pub(crate) fn known(reads: &dyn Reads, account: &AccountId) -> Result<Option<Person>, StorageError> {
    let key = rows::contact_key(account);
    let Some(row) = rows::get::<ContactRow>(reads, &key)? else { return Ok(None) };
    let log = UnverifiedLog(row.log).verify().map_err(|error| rows::damaged(&key, error))?;
    Ok(Some(Person { address: row.address, log }))
}

/// Whether there is consent between us.
pub(crate) fn is_contact(reads: &dyn Reads, account: &AccountId) -> Result<bool, StorageError> {
    Ok(rows::get::<ContactRow>(reads, &rows::contact_key(account))?.is_some_and(|row| row.contact))
}

/// The keys of a device, from its verified log.
pub(crate) fn device(reads: &dyn Reads, device: &DeviceId) -> Result<Option<DeviceRow>, StorageError> {
    rows::get(reads, &rows::device_key(device))
}

/// The device behind a transport key.
pub(crate) fn by_transport(reads: &dyn Reads, transport: &PublicKey) -> Result<Option<DeviceId>, StorageError> {
    rows::get(reads, &rows::transport_key(transport))
}

/// Judges what a relay answered to a look-up: the log must prove the very account asked for, and must not go back
/// behind or part from the one known here.
pub(crate) fn judge(
    reads: &dyn Reads,
    account: AccountId,
    domain: &Domain,
    address: Address,
    log: Vec<u8>,
) -> Result<Result<Person, Distrust>, StorageError> {
    let log = match UnverifiedLog(log).verify() {
        Ok(log) => log,
        Err(error) => return Ok(Err(Distrust(format!("account log: {error}")))),
    };
    if log.account() != account {
        return Ok(Err(Distrust("the account log is another account's".to_owned())));
    }
    if address.domain != *domain {
        return Ok(Err(Distrust("the address is of another domain".to_owned())));
    }
    let Some(before) = known(reads, &account)? else { return Ok(Ok(Person { address, log })) };
    Ok(match log.relation(&before.log) {
        Relation::Same | Relation::Longer | Relation::Settled => Ok(Person { address, log }),
        Relation::Shorter | Relation::Superseded => Ok(Person { address, log: before.log }),
        Relation::Fork => Err(Distrust("the account log contradicts the one known here".to_owned())),
    })
}

/// Keeps a person: log, devices, and consent when there is some. Consent given before stays, and so does what the owner
/// compared. A device or transport key the log has taken back is known no more.
pub(crate) fn keep(rows: &mut Overlay<'_>, person: &Person, contact: bool) -> Result<(), StorageError> {
    let account = person.log.account();
    let before = rows::get::<ContactRow>(rows, &rows::contact_key(&account))?;
    let contact = contact || before.as_ref().is_some_and(|row| row.contact);
    let verified = before.and_then(|row| row.verified);
    forget_devices(rows, person)?;
    for device in person.log.devices() {
        let id = DeviceId { account, index: device.index };
        let row = DeviceRow { device_key: device.device_key, transport_key: device.transport_key };
        rows::put(rows, rows::device_key(&id), &row);
        // A verified log names no transport key without that key's word. Whoever lets two accounts have it is found under
        // the first: nobody takes a key over.
        let key = rows::transport_key(&device.transport_key);
        if rows::get::<DeviceId>(rows, &key)?.is_none() {
            rows::put(rows, key, &id);
        }
    }
    let identity = Some(person.log.identity_key());
    let row = ContactRow { address: person.address.clone(), log: person.log.bytes(), contact, verified, identity };
    rows::put(rows, rows::contact_key(&account), &row);
    Ok(())
}

/// Takes out what an earlier log named and this one does not.
fn forget_devices(rows: &mut Overlay<'_>, person: &Person) -> Result<(), StorageError> {
    let account = person.log.account();
    let Some(before) = known(rows, &account)? else { return Ok(()) };
    for device in before.log.devices() {
        let id = DeviceId { account, index: device.index };
        let now = person.log.device(device.index);
        if now.is_none() {
            rows.delete(rows::device_key(&id));
        }
        let key = rows::transport_key(&device.transport_key);
        let replaced = now.is_none_or(|now| now.transport_key != device.transport_key);
        if replaced && rows::get::<DeviceId>(rows, &key)? == Some(id) {
            rows.delete(key);
        }
    }
    Ok(())
}

/// The owner compared the safety number with somebody, or takes that back; gives the identity key that is verified from now
/// on, if any. Nothing: they are not known here.
pub(crate) fn verify(
    rows: &mut Overlay<'_>,
    account: &AccountId,
    verified: bool,
    at: Wall,
) -> Result<Option<Option<PublicKey>>, StorageError> {
    let Some(person) = known(rows, account)? else { return Ok(None) };
    let key = rows::contact_key(account);
    let identity = Some(person.log.identity_key());
    let verified = identity.filter(|_| verified);
    if let Some(row) = rows::get::<ContactRow>(rows, &key)? {
        let compared = rows::compared_key(account, &person.log.identity_key());
        match verified {
            Some(_) => rows::put(rows, compared, &at),
            None => rows.delete(compared),
        }
        rows::put(rows, key, &ContactRow { verified, identity, ..row });
    }
    Ok(Some(verified))
}

/// Whether another account is known here by an address.
pub(crate) fn other_at(reads: &dyn Reads, address: &Address, account: &AccountId) -> Result<bool, StorageError> {
    let mut other = false;
    rows::each(reads, &rows::space(Space::Contact), |(key, value)| {
        let row: ContactRow = rows::decode(&key, &value)?;
        other |= row.address == *address && key != rows::contact_key(account);
        Ok(())
    })?;
    Ok(other)
}

/// Takes consent back.
pub(crate) fn not_a_contact(rows: &mut Overlay<'_>, account: &AccountId) -> Result<(), StorageError> {
    let key = rows::contact_key(account);
    if let Some(row) = rows::get::<ContactRow>(rows, &key)? {
        rows::put(rows, key, &ContactRow { contact: false, ..row });
    }
    Ok(())
}
