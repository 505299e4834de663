//! Siblings: the account's devices in each of its threads are the ones its log names.
//! In order: find the threads where they are not, those with somebody who was revoked before all others, the newest first, and
//! change so many of them at once; whoever was revoked goes before anybody comes. Every device of the account sees to it, and
//! the hub takes the first. Leaves of others that are off their account are `strays`.
//! A leaf that came of a last-resort KeyPackage is renewed in the same way, after all that.
//! What cannot be done for want of a KeyPackage, or by a clock that says that it is not valid, is tried again.
//! Never: takes in a device that the log does not name, or that handed over no KeyPackage.
//! Limits: `limits::SIBLING_CHANGES_MAX`, `limits::CHANGES_MAX`, `limits::SIBLINGS_AGAIN`. Rules: docs/protocol/devices.md.

use std::collections::BTreeSet;

use whimbrel_crypto::{Engine, Invitee};
use whimbrel_protocol::id::{DeviceId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::group::{self, Deed};
use super::{self_thread, strays};
use crate::identity::Identity;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ChangeRow, Space, ThreadRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Who of the account's devices has a leaf and should have none, and the other way round.
fn differ(identity: &Identity, row: &ThreadRow) -> (Vec<DeviceId>, Vec<DeviceId>) {
    let account = identity.account();
    let leaves: BTreeSet<DeviceId> = thread::leaves(row).filter(|leaf| leaf.account == account).collect();
    let listed: BTreeSet<DeviceId> =
        identity.log.devices().map(|device| DeviceId { account, index: device.index }).collect();
    (leaves.difference(&listed).copied().collect(), listed.difference(&leaves).copied().collect())
}

/// The log changed, or the relay is there again: every thread is looked at.
pub(crate) fn begin<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let mut found = Vec::new();
    let identity = &t.rooms.identity;
    rows::each(&t.rows, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        if row.founding.is_none() || row.state != ThreadState::Open {
            return Ok(());
        }
        let (gone, missing) = differ(identity, &row);
        let goes = !gone.is_empty() || strays::any(t, &row)?;
        if (goes || !missing.is_empty() || row.shared)
            && let Some(id) = rows::id_in_key(&key)
        {
            found.push((goes, row.updated, ThreadId::from_bytes(id)));
        }
        Ok(())
    })?;
    found.sort_unstable();
    t.rooms.threads.siblings = found.into_iter().map(|(.., id)| id).collect();
    pump(t)?;
    self_thread::see_to(t)
}

/// Changes the next threads, as many at once as may be.
pub(crate) fn pump<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    // One that its relay will not have now waits by itself: it must hold up nobody's removal elsewhere.
    while at_work(t) < limits::SIBLING_CHANGES_MAX && t.rooms.threads.changing.len() < limits::CHANGES_MAX {
        // What comes first stands last.
        let Some(id) = t.rooms.threads.siblings.pop() else { break };
        group::tend(t, id)?;
    }
    if t.rooms.threads.siblings.is_empty() {
        t.rooms.timers.clear(Timer::Siblings);
    }
    Ok(())
}

/// A thread can be changed from now on: it may have been made before somebody heard of a device, or had its KeyPackage.
pub(crate) fn look<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) {
    if !t.rooms.threads.siblings.contains(&id) {
        t.rooms.threads.siblings.push(id);
    }
    t.rooms.timers.set(Timer::Siblings, t.now.monotonic);
}

/// Tries again where a device could not be taken in. Where that is still so, KeyPackages are claimed.
pub(crate) fn again<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let unready = std::mem::take(&mut t.rooms.threads.unready);
    t.rooms.threads.siblings.retain(|id| !unready.contains(id));
    t.rooms.threads.siblings.extend(unready);
    pump(t)?;
    if t.rooms.threads.unready.is_empty() { Ok(()) } else { self_thread::claim(t) }
}

pub(crate) fn put_off<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) {
    t.rooms.threads.unready.insert(id);
    if !t.rooms.timers.is_set(Timer::Unready) {
        t.rooms.timers.set(Timer::Unready, t.now.monotonic.plus(limits::SIBLINGS_AGAIN));
    }
}

fn at_work<E: Engine>(t: &Turn<'_, E>) -> usize {
    let timers = &t.rooms.timers;
    t.rooms.threads.changing.iter().filter(|id| !timers.is_set(Timer::Change(**id))).count()
}

/// Does what is due in one thread, unless it is changed already.
pub(crate) fn tend<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    let Some(row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    let busy = rows::get::<ChangeRow>(&t.rows, &rows::change_key(&id))?.is_some();
    if busy || row.founding.is_none() || row.state != ThreadState::Open || row.leaving {
        return Ok(());
    }
    let (mut gone, missing) = differ(&t.rooms.identity, &row);
    if planted::active(Bug::RevokedStays) {
        gone.clear();
    }
    if planted::active(Bug::SiblingMissed) && !id.as_bytes().last().is_some_and(|one| one.is_multiple_of(4)) {
        return Ok(());
    }
    // A device that was revoked itself changes nothing any more.
    if gone.contains(&t.rooms.identity.id()) {
        return Ok(());
    }
    let mut invitees = Vec::new();
    let mut used = Vec::new();
    if gone.is_empty() {
        let wanted = missing.len();
        for device in missing {
            let Some(key) = t.rooms.identity.log.device(device.index).map(|device| device.device_key) else { continue };
            let prefix = rows::package_prefix(&device);
            // The newest: one that was claimed because another is over must not wait behind it.
            if let Some((row, key_package)) = t.rows.scan(&prefix, &rows::after(&prefix), Order::Descending, 1)?.pop() {
                invitees.push(Invitee { id: device, device_key: key, key_package });
                used.push(row);
            }
        }
        if invitees.len() < wanted {
            put_off(t, id);
        }
        if invitees.is_empty() {
            return Ok(());
        }
    }
    match group::stage(t, id, &row, Deed { invitees, devices: gone, ..Deed::default() }) {
        // From now on they are in the change's own row.
        Ok(()) => used.into_iter().for_each(|row| t.rows.delete(row)),
        Err(Halt::Broken(error)) => return Err(error),
        Err(Halt::Command(error)) => {
            tracing::warn!(%error, "a thread's devices cannot be made the account's for now");
            put_off(t, id);
        }
    }
    Ok(())
}
