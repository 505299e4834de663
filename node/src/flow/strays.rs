//! Strays: leaves of others that their account's log names no more, and those of members who said that they go.
//! In order: find them, leave them to their own account and, in a group, to its admins, whose devices take them out at once;
//! should nobody have, after a while that chance decides, this device does, with the log or the word that shows it.
//! Never: takes out anybody else; as somebody who is no admin, the last device of an admin, or of anybody where people are fixed.
//! Limits: `limits::STRAYS_WAIT`, `limits::STRAYS_SPREAD`. Rules: docs/protocol/hub.md 38.

use std::time::Duration;

use whimbrel_crypto::Engine;
use whimbrel_protocol::hub::Warrant;
use whimbrel_protocol::id::{AccountId, DeviceId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Reads as _, StorageError};

use super::siblings;
use crate::contacts;
use crate::rooms::Turn;
use crate::rows::{self, Space, ThreadRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Leaves of others in a thread that are off their account, as far as is known here, ascending.
fn strays<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> Result<Vec<DeviceId>, StorageError> {
    let own = t.rooms.identity.account();
    let mut strays = Vec::new();
    if row.state != ThreadState::Open || row.founding.is_none() {
        return Ok(strays);
    }
    for leaf in thread::leaves(row).filter(|leaf| leaf.account != own) {
        // Whoever has no row was revoked, or is not known yet.
        if t.rows.get(&rows::device_key(&leaf))?.is_none()
            && contacts::known(&t.rows, &leaf.account)?.is_some_and(|person| person.log.former(leaf.index).is_some())
        {
            strays.push(leaf);
        }
    }
    strays.sort_unstable();
    Ok(strays)
}

/// Who goes, of one account, by what a member who is no admin can show: those who are off it, or all of somebody who leaves.
fn of_one(row: &ThreadRow, strays: &[DeviceId]) -> Vec<DeviceId> {
    let policy = row.policy();
    let member = |account: &AccountId| policy.as_ref().is_some_and(|policy| !policy.is_admin(account));
    let may = |account: &AccountId| {
        let stays = thread::leaves(row).any(|leaf| leaf.account == *account && !strays.contains(&leaf));
        // Nobody seals there any more where people are fixed; and a group's admins are in it.
        stays || member(account)
    };
    if let Some(first) = strays.iter().map(|device| device.account).find(may) {
        return strays.iter().filter(|device| device.account == first).copied().collect();
    }
    let has_leaf = |by: &DeviceId| thread::leaves(row).any(|leaf| leaf == *by);
    let leaver = row.going.iter().map(|words| words.by).filter(has_leaf).map(|by| by.account).find(member);
    thread::leaves(row).filter(|leaf| Some(leaf.account) == leaver).collect()
}

/// Whether any are there that this device takes out, now or after a while.
pub(crate) fn any<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> Result<bool, StorageError> {
    let strays = strays(t, row)?;
    Ok(if rules(t, row) { !strays.is_empty() } else { !of_one(row, &strays).is_empty() })
}

/// Whether this account is an admin of a group.
fn rules<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> bool {
    row.is_admin(&t.rooms.identity.account())
}

/// Those that this device takes out now. Of those that it leaves to others for a while it is reminded.
pub(crate) fn due<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    row: &ThreadRow,
) -> Result<Vec<DeviceId>, StorageError> {
    let strays = strays(t, row)?;
    if rules(t, row) {
        return Ok(strays);
    }
    let due = of_one(row, &strays);
    let open = row.state == ThreadState::Open && row.founding.is_some() && !row.leaving;
    if due.is_empty() || !open || planted::active(Bug::RevokedStays) {
        t.rooms.threads.strays.remove(&id);
        t.rooms.timers.clear(Timer::Strays(id));
        return Ok(Vec::new());
    }
    if t.rooms.threads.strays.contains(&id) {
        // A hub that takes none must not keep this account's own devices in its other threads.
        let under_way = t.rooms.threads.strays.intersection(&t.rooms.threads.changing).count();
        return Ok(if under_way < limits::STRAY_CHANGES_MAX { due } else { Vec::new() });
    }
    if !t.rooms.timers.is_set(Timer::Strays(id)) {
        // All who are there hear of it at once, and one is enough.
        let spread = limits::STRAYS_SPREAD.as_millis() as u64;
        let wait = limits::STRAYS_WAIT + Duration::from_millis(t.chance.below(spread.saturating_add(1)));
        t.rooms.timers.set(Timer::Strays(id), t.now.monotonic.plus(wait));
    }
    Ok(Vec::new())
}

/// Others had their time.
pub(crate) fn overdue<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) {
    t.rooms.threads.strays.insert(id);
    siblings::look(t, id);
}

/// What has to come with a commit of this account that takes these out.
pub(crate) fn warrant<E: Engine>(
    t: &Turn<'_, E>,
    row: &ThreadRow,
    removed: &[DeviceId],
) -> Result<Option<Warrant>, StorageError> {
    let own = t.rooms.identity.account();
    let other = removed.iter().map(|device| device.account).find(|account| *account != own);
    let Some(account) = other.filter(|_| !rules(t, row)) else { return Ok(None) };
    let log = contacts::known(&t.rows, &account)?.map(|person| person.log);
    let off = |device: &DeviceId| log.as_ref().is_some_and(|log| log.former(device.index).is_some());
    let revoked = removed.iter().filter(|device| device.account == account).all(off);
    let word = row.going.iter().find(|words| words.by.account == account).filter(|_| !revoked);
    Ok(match word {
        Some(word) => Some(Warrant::Leaves(word.clone())),
        None => log.map(|log| Warrant::Revoked(log.bytes().into())),
    })
}

/// A contact's log goes on, and takes devices off their account: threads in which one has a leaf are looked at.
pub(crate) fn revoked<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    let mut found = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        let there = row.participants.iter().any(|one| one.account == *account);
        if there && any(t, &row)? {
            found.extend(rows::id_in_key(&key).map(ThreadId::from_bytes));
        }
        Ok(())
    })?;
    found.into_iter().for_each(|id| siblings::look(t, id));
    Ok(())
}
