//! Signal: where what is kept by nobody may go.
//! Owns: the question. Never: changes a row. Rules: docs/protocol/signal.md.

use std::collections::BTreeSet;

use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Domain, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::LogRef;
use whimbrel_storage::{Reads, StorageError};

use super::accounts::known_account;
use super::hub::members;
use super::rows::{self, Home, LogRow, Member, ThreadMeta};
use super::{friends, own, threads};
use crate::store::command::Origin;
use crate::store::{Hearers, LogId};

/// Where a signal of a device may go: nowhere, unless the device is in the thread in its present epoch, lives where it came
/// from, and may say something there; and, of an own user, unless whoever hears it may see that they are there.
///
/// # Errors
/// See [`super::account`].
pub fn hearers(
    reads: &dyn Reads,
    thread: ThreadId,
    (by, epoch): (DeviceId, Epoch),
    origin: &Origin,
) -> Result<Option<Hearers>, StorageError> {
    let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? else { return Ok(None) };
    let Some(member) = rows::get::<Member>(reads, &rows::member(meta.log, by))? else { return Ok(None) };
    let there = epoch == meta.epoch && member.epochs.contain(epoch) && threads::speaks(origin, &member.home);
    if !there {
        return Ok(None);
    }
    for reader in meta.gate.iter().filter(|reader| **reader != by.account) {
        if friends::row(reads, *reader, by.account)?.is_none_or(|row| row.standing != Standing::Friends) {
            return Ok(None);
        }
    }
    if *origin != Origin::Local {
        return Ok(Some(Hearers { log: meta.log, epoch, peers: Vec::new() }));
    }
    if own::hidden(reads, by.account)? {
        return Ok(None);
    }
    if meta.people == 2 {
        // Whoever went out of it hears nothing, and has no say.
        let there = members(reads, meta.log)?.into_iter().filter(|(_, member)| member.epochs.contain(epoch));
        let others: BTreeSet<_> = there.map(|(device, _)| device.account).collect();
        for other in others.into_iter().filter(|other| *other != by.account) {
            if friends::row(reads, by.account, other)?.is_none_or(|row| row.standing != Standing::Friends || !row.sees)
            {
                return Ok(None);
            }
        }
    }
    Ok(Some(Hearers { log: meta.log, epoch, peers: meta.others }))
}

/// The threads in which these devices of an account have a leaf, those in which something was said last, and where what its relay
/// says to whoever is there may go.
///
/// # Errors
/// See [`super::account`].
pub fn surroundings(
    reads: &dyn Reads,
    account: AccountId,
    devices: &[DeviceIndex],
    limit: usize,
) -> Result<Vec<(ThreadId, Hearers)>, StorageError> {
    let mut newest = BTreeSet::new();
    let Some(known) = known_account(reads, account)? else { return Ok(Vec::new()) };
    for device in known.devices.iter().filter(|device| devices.contains(&device.index)) {
        let prefix = rows::cursors(device.mailbox);
        let device = DeviceId { account, index: device.index };
        for (key, _) in rows::scan(reads, &prefix, limits::ACCOUNT_THREADS_MAX)? {
            let id = LogId::from_bytes(rows::rest(&key, prefix.len())?);
            let member: Option<Member> = rows::get(reads, &rows::member(id, device))?;
            let log: Option<LogRow> = rows::get(reads, &rows::log(id))?;
            if let (Some(LogRow { which: LogRef::Thread(thread), updated, .. }), Some(None)) =
                (log, member.map(|member| member.epochs.last))
            {
                newest.insert((updated, thread));
            }
        }
    }
    let mut found = Vec::new();
    for (_, thread) in newest.into_iter().rev().take(limit) {
        if let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? {
            found.push((thread, Hearers { log: meta.log, epoch: meta.epoch, peers: meta.others }));
        }
    }
    Ok(found)
}

/// Where what a peer says in a thread about an account of its own may go: nowhere, unless it has a leaf there.
///
/// # Errors
/// See [`super::account`].
pub fn surrounding_of(
    reads: &dyn Reads,
    thread: ThreadId,
    account: AccountId,
    peer: &Domain,
) -> Result<Option<Hearers>, StorageError> {
    let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? else { return Ok(None) };
    let prefix = [rows::members(meta.log), account.as_bytes().to_vec()].concat();
    for (key, value) in rows::scan(reads, &prefix, limits::THREAD_DEVICES_MAX)? {
        let member: Member = rows::read(&key, &value)?;
        if member.epochs.contain(meta.epoch) && matches!(&member.home, Home::Peer(domain) if domain == peer) {
            return Ok(Some(Hearers { log: meta.log, epoch: meta.epoch, peers: Vec::new() }));
        }
    }
    Ok(None)
}
