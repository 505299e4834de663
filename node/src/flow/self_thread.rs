//! Self thread: the one thread that the account's own devices have among themselves, and that no display lists.
//! In order: whoever notices that there is none claims a KeyPackage of each sibling and opens it, under the tag of its owner
//! alone, of which the relay lets one thread be; devices that come and go are `siblings`' to see to, as everywhere.
//! Never: takes anybody else in; uses up siblings' KeyPackages as often as it likes.
//! Limits: `limits::SELF_THREAD_RETRY_MIN`. Rules: docs/protocol/devices.md, "The self thread".

use std::collections::BTreeSet;

use tracing::debug;
use whimbrel_crypto::{Context, Engine, Invitee};
use whimbrel_protocol::id::{DeviceId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::thread::Opening;
use whimbrel_protocol::user::{ClaimKeyPackages, ClaimedPackage};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{open, siblings};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, OpeningRow, ThreadRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// The thread that is in use: of several the one with most of the devices, and of those the first.
pub(crate) fn current<E: Engine>(t: &Turn<'_, E>) -> Result<Option<(ThreadId, ThreadRow)>, StorageError> {
    let own = t.rooms.identity.account();
    let mut best: Option<(usize, ThreadId, ThreadRow)> = None;
    for id in thread::by_tag(&t.rows, &t.rooms.identity.participants.tag(&[own]))? {
        let Some(row) = thread::get(&t.rows, &id)? else { continue };
        if row.state != ThreadState::Open || !row.is_self(&own) {
            continue;
        }
        let devices = thread::leaves(&row).filter(|leaf| t.rooms.identity.log.device(leaf.index).is_some()).count();
        if best.as_ref().is_none_or(|(most, ..)| devices > *most) {
            best = Some((devices, id, row));
        }
    }
    Ok(best.map(|(_, id, row)| (id, row)))
}

/// Whether all with a leaf are the account's by its log: whoever was revoked is told nothing more.
pub(crate) fn is_clean<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> bool {
    thread::leaves(row).all(|leaf| t.rooms.identity.log.device(leaf.index).is_some())
}

/// Sees to it that there is one with all devices in it, as far as one step goes.
pub(crate) fn see_to<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let own = t.rooms.identity.account();
    let alone = t.rooms.identity.log.devices().count() < 2;
    if alone || !t.rooms.identity.is_listed() || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let mut leaves = BTreeSet::new();
    for id in thread::by_tag(&t.rows, &t.rooms.identity.participants.tag(&[own]))? {
        match thread::get(&t.rows, &id)? {
            Some(row) if row.state == ThreadState::Open && row.is_self(&own) => leaves.extend(thread::leaves(&row)),
            // It is on its way, or cannot be written in by this device any more: the relay lets no other take its place.
            _ => return Ok(()),
        }
    }
    if leaves.is_empty() {
        let invited = |row: &rows::InvitationRow| {
            row.invitation.inviter.account == own && row.invitation.participants.iter().all(|one| one.account == own)
        };
        let mut waits = false;
        rows::each(&t.rows, &rows::space(rows::Space::Invitation), |(key, value)| {
            waits |= invited(&rows::decode(&key, &value)?);
            Ok(())
        })?;
        if waits {
            return Ok(());
        }
    }
    let missing = missing(t, &leaves)?;
    match (leaves.is_empty(), missing.is_empty()) {
        (_, false) => claim(t),
        (true, true) => make(t),
        (false, true) if !t.rooms.threads.unready.is_empty() => Ok(()),
        (false, true) => {
            t.rooms.user.self_attempts = 0;
            t.rooms.timers.clear(Timer::SelfThread);
            Ok(())
        }
    }
}

/// Devices without a leaf and without a KeyPackage here.
fn missing<E: Engine>(t: &Turn<'_, E>, leaves: &BTreeSet<DeviceId>) -> Result<Vec<DeviceId>, StorageError> {
    let own = t.rooms.identity.id();
    let mut missing = Vec::new();
    for index in t.rooms.identity.log.devices().map(|device| device.index) {
        let device = DeviceId { account: own.account, index };
        let prefix = rows::package_prefix(&device);
        let here = || t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1);
        if device != own && !leaves.contains(&device) && here()?.is_empty() {
            missing.push(device);
        }
    }
    Ok(missing)
}

/// Asks for a KeyPackage of each sibling, unless it was done lately.
pub(crate) fn claim<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if !t.rooms.identity.is_listed() || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    if t.rooms.timers.is_set(Timer::SelfThread) || t.rooms.requests.any(|purpose| *purpose == Purpose::OwnClaim) {
        return Ok(());
    }
    let attempts = t.rooms.user.self_attempts;
    t.rooms.user.self_attempts = attempts.saturating_add(1);
    let wait = limits::SELF_THREAD_RETRY_MIN.saturating_mul(4u32.saturating_pow(attempts.min(16)));
    t.rooms.timers.set(Timer::SelfThread, t.now.monotonic.plus(wait.min(limits::SELF_THREAD_RETRY_MAX)));
    let (account, domain) = (t.rooms.identity.account(), t.rooms.identity.relay().domain);
    t.ask(Purpose::OwnClaim, |request| ClaimKeyPackages { request, account, domain, token: None });
    Ok(())
}

/// KeyPackages of siblings came: they are kept like those that are handed over when a device is linked.
pub(crate) fn claimed<E: Engine>(t: &mut Turn<'_, E>, packages: Vec<ClaimedPackage>) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    for one in packages {
        let device = DeviceId { account: own.account, index: one.device };
        let Some(listed) = t.rooms.identity.log.device(one.device).filter(|_| device != own) else { continue };
        let invitee = Invitee { id: device, device_key: listed.device_key, key_package: one.package };
        let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
        match t.engine.check_key_package(&mut cx, &invitee) {
            Ok(()) => {}
            Err(whimbrel_crypto::EngineError::Rows(error)) => return Err(error),
            Err(error) => {
                debug!(%error, "a sibling's KeyPackage is of no use");
                continue;
            }
        }
        let prefix = rows::package_prefix(&device);
        let last = t.rows.scan(&prefix, &rows::after(&prefix), Order::Descending, 1)?.pop();
        let number = last.and_then(|(key, _)| rows::package_number(&key)).map_or(0, |number| number.saturating_add(1));
        if number as usize <= limits::LINKING_PACKAGES_MAX {
            t.rows.put(rows::package_key(&device, number), invitee.key_package);
        }
    }
    let tag = t.rooms.identity.participants.tag(&[own.account]);
    // Whoever left none meanwhile comes in later.
    if thread::by_tag(&t.rows, &tag)?.is_empty() { make(t) } else { siblings::begin(t) }
}

/// Makes the group of those who left a KeyPackage, and keeps it with its opening.
fn make<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    let (mut invitees, mut used) = (Vec::new(), Vec::new());
    let devices: Vec<_> = t.rooms.identity.log.devices().map(|device| (device.index, device.device_key)).collect();
    for (index, device_key) in devices {
        let id = DeviceId { account: own.account, index };
        let prefix = rows::package_prefix(&id);
        let found = t.rows.scan(&prefix, &rows::after(&prefix), Order::Descending, 1)?.pop();
        if let Some((row, key_package)) = found.filter(|_| id != own) {
            invitees.push(Invitee { id, device_key, key_package });
            used.push(row);
        }
    }
    if invitees.is_empty() || t.rooms.threads.known >= limits::ACCOUNT_THREADS_MAX {
        return Ok(());
    }
    match create(t, &invitees) {
        Ok(thread) => {
            used.into_iter().for_each(|row| t.rows.delete(row));
            open::submit(t, thread)
        }
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            tracing::warn!(%error, "the account's devices get no thread of their own");
            // Whichever of them it was, it may be valid when a clock is right again; until then newer ones are claimed.
            claim(t)
        }
    }
}

fn create<E: Engine>(t: &mut Turn<'_, E>, invitees: &[Invitee]) -> Result<ThreadId, Halt> {
    let own = t.rooms.identity.own();
    let home = t.rooms.identity.relay();
    let founding = thread::found(own.id.account, home.relay, true, t.chance);
    let thread = founding.thread();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let created = t.engine.create(&mut cx, &own, thread, invitees).map_err(open::untrusted)?;
    let devices = invitees.iter().map(|invitee| invitee.id).chain([own.id]);
    let participants = thread::participants(devices, |_| Some(home.domain.clone())).unwrap_or_default();
    let tag = t.rooms.identity.participants.tag(&[own.id.account]);
    let info = Some(created.info.into());
    let opening = Opening {
        thread,
        epoch: created.epoch,
        participants: participants.clone(),
        welcome: created.welcome,
        tree: created.tree,
        founding: Some(Box::new(founding)),
    };
    let mut row = thread::fresh(participants, created.epoch, ThreadState::Opening, tag, t.now.wall);
    row.founding = Some(founding);
    thread::put(&mut t.rows, &thread, &row);
    thread::tag_in(&mut t.rows, &tag, thread)?;
    rows::put(&mut t.rows, rows::opening_key(&thread), &OpeningRow { opening, tag, inviter: None, info });
    t.rooms.threads.known = t.rooms.threads.known.saturating_add(1);
    t.rooms.threads.openings.insert(thread, Vec::new());
    Ok(thread)
}
