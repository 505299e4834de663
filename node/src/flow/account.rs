//! Account: the own account log grows, by this device's hand or a sibling's; and what it says is told to everybody.
//! In order: make the entries, keep them before anybody hears of them, hand them in until the relay has them, take them
//! for true, then say in every thread how far the log goes. What a sibling did comes from the relay and proves itself.
//! Never: goes back behind a log that was taken for true, or between two that contradict each other; keeps recovery words.
//! Rules: docs/protocol/identity.md, user.md.

use std::time::Duration;

use tracing::{info, warn};
use whimbrel_crypto::{AccountLog, Engine, KeyPair, LogError, RecoveryHash, RecoveryPhrase, Relation, UnverifiedLog};
use whimbrel_protocol::id::{DeviceIndex, LinkId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Body;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::ExtendLog;
use whimbrel_storage::{Order, Reads, StorageError};

use super::{audit, connect, facts, group, history, link, send, siblings};
use crate::api::{CommandError, Event, Reply, Ticket};
use crate::reception::Home;
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ExtensionRow, Single, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Puts another identity key in the place of this one, by the recovery words; `next` are the words from then on.
pub(crate) fn rotate<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    words: &RecoveryPhrase,
    next: RecoveryHash,
) -> Result<(), Halt> {
    let identity = KeyPair::generate(&mut t.chance.fork("identity"));
    let key = *identity.secret_bytes();
    grow(t, ticket, Some(key), |log, hlc| log.rotate_identity(&words.key_pair(), &identity, next, hlc))
}

/// Other recovery words in the place of these.
pub(crate) fn set_recovery<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    words: &RecoveryPhrase,
    next: RecoveryHash,
) -> Result<(), Halt> {
    grow(t, ticket, None, |log, hlc| log.set_recovery(&words.key_pair(), next, hlc))
}

/// Takes a device off the account.
pub(crate) fn revoke<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, index: DeviceIndex) -> Result<(), Halt> {
    if index == t.rooms.identity.id().index {
        let why = "a device does not revoke itself: do it from another one, or delete the account";
        return Err(CommandError::State(why.to_owned()).into());
    }
    let key = signer(t)?;
    grow(t, ticket, None, |log, hlc| log.revoke_device(&key, index, hlc))
}

/// Calls a device something else.
pub(crate) fn rename<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    index: DeviceIndex,
    label: &str,
) -> Result<(), Halt> {
    let key = signer(t)?;
    grow(t, ticket, None, |log, hlc| log.rename_device(&key, index, label, hlc))
}

/// What signs the account log.
pub(crate) fn signer<E: Engine>(t: &Turn<'_, E>) -> Result<KeyPair, CommandError> {
    let why = "this device does not hold the account's identity key: do it from one that does";
    t.rooms.identity.identity_key().ok_or_else(|| CommandError::State(why.to_owned()))
}

/// Makes an entry and keeps it. The answer comes once the relay has it.
fn grow<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    identity_key: Option<[u8; 32]>,
    entry: impl FnOnce(&mut AccountLog, Hlc) -> Result<(), LogError>,
) -> Result<(), Halt> {
    if extension(t)?.is_some() {
        return Err(CommandError::State("another change of the account is under way".to_owned()).into());
    }
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let mut log = t.rooms.identity.log.clone();
    let (after, _) = log.head();
    entry(&mut log, hlc).map_err(|error| match error {
        LogError::Recovery { .. } => CommandError::Untrusted("these are not the account's recovery words".to_owned()),
        LogError::NoDevice { .. } => CommandError::Unknown,
        LogError::Label { .. } => {
            CommandError::TooLong { what: "a device's name", max: limits::DEVICE_LABEL_BYTES_MAX }
        }
        other => CommandError::State(other.to_string()),
    })?;
    let row = ExtensionRow { log: log.bytes(), identity_key, first: false, after };
    rows::put(&mut t.rows, rows::single_key(Single::Extension), &row);
    t.rooms.user.extending = Some(ticket);
    submit(t)?;
    Ok(())
}

pub(crate) fn extension<E: Engine>(t: &Turn<'_, E>) -> Result<Option<ExtensionRow>, StorageError> {
    rows::get(&t.rows, &rows::single_key(Single::Extension))
}

fn log_of(row: &ExtensionRow) -> Result<AccountLog, StorageError> {
    let key = rows::single_key(Single::Extension);
    UnverifiedLog(row.log.clone()).verify().map_err(|error| rows::damaged(&key, error))
}

fn frame(row: &ExtensionRow, request: whimbrel_protocol::id::RequestId) -> Result<ExtendLog, StorageError> {
    let log = log_of(row)?;
    let key = rows::single_key(Single::Extension);
    let hash = log.hash_at(row.after).ok_or_else(|| rows::damaged(&key, "it follows no entry of its own"))?;
    Ok(ExtendLog { request, account: log.account(), after: row.after, hash, entries: log.tail(row.after) })
}

/// Hands the change in, unless it is on its way or must wait.
pub(crate) fn submit<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let under_way = t.rooms.requests.any(|purpose| *purpose == Purpose::Extend);
    if under_way || t.rooms.timers.is_set(Timer::Extend) || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let Some(row) = extension(t)? else { return Ok(()) };
    let mut words = frame(&row, whimbrel_protocol::id::RequestId::new(0))?;
    t.ask(Purpose::Extend, |request| {
        words.request = request;
        words
    });
    Ok(())
}

/// Whether this device is let in only with a change that it brings along; then that goes first.
pub(crate) fn submit_first<E: Engine>(
    t: &mut Turn<'_, E>,
    link: LinkId,
    exporter: [u8; 32],
) -> Result<bool, StorageError> {
    let Some(row) = extension(t)?.filter(|row| row.first) else { return Ok(false) };
    let mut words = frame(&row, whimbrel_protocol::id::RequestId::new(0))?;
    t.rooms.reception.home = Home::Registering { link, exporter };
    t.ask_on(link, Purpose::Extend, |_, request| {
        words.request = request;
        words
    });
    Ok(true)
}

/// The relay has it: it is true from now on.
pub(crate) fn extended<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(row) = extension(t)? else { return Ok(()) };
    let log = log_of(&row)?;
    settle(t, Ok(Reply::Done));
    link::decided(t, true)?;
    let longer = log.relation(&t.rooms.identity.log);
    if matches!(longer, Relation::Longer | Relation::Same | Relation::Settled) {
        take(t, log, row.identity_key)?;
    }
    if let Home::Registering { link, exporter } = t.rooms.reception.home {
        connect::hello(t, link, &exporter);
        return Ok(());
    }
    begin_heralding(t)
}

/// The relay will not have it; for now, or for good.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    code: RefusalCode,
    error: CommandError,
    again: Option<Duration>,
) -> Result<(), StorageError> {
    let Some(row) = extension(t)? else { return Ok(()) };
    if let Some(delay) = again {
        if row.first {
            return connect::abandon(t, "the relay does not take the account's change yet");
        }
        t.rooms.timers.set(Timer::Extend, t.now.monotonic.plus(delay));
        return Ok(());
    }
    if row.first {
        // Nothing here is of use without it: the next one begins anew.
        settle(t, Err(error));
        t.rows.delete(rows::account_key());
        connect::abandon(t, "the relay refused what makes this device the account's")?;
        at_an_end(t, code);
        t.event(Event::RegistrationRefused(code));
        return Ok(());
    }
    let error = match code {
        RefusalCode::Exists => {
            let why = "the account was changed from another device meanwhile; nothing of this was done: run it again";
            CommandError::State(why.to_owned())
        }
        _ => error,
    };
    settle(t, Err(error));
    link::decided(t, false)
}

/// The change is decided: its row goes, and whoever waits is answered.
fn settle<E: Engine>(t: &mut Turn<'_, E>, result: Result<Reply, CommandError>) {
    t.rows.delete(rows::single_key(Single::Extension));
    t.rooms.timers.clear(Timer::Extend);
    if let Some(ticket) = t.rooms.user.extending.take() {
        t.answer(ticket, result);
    }
}

/// The relay shows the account's own log.
pub(crate) fn shown<E: Engine>(t: &mut Turn<'_, E>, bytes: Vec<u8>) -> Result<(), StorageError> {
    let log = match UnverifiedLog(bytes).verify() {
        Ok(log) if log.account() == t.rooms.identity.account() => log,
        Ok(_) => return forged(t, "another account's"),
        Err(error) => return forged(t, &error.to_string()),
    };
    match log.relation(&t.rooms.identity.log) {
        Relation::Same | Relation::Shorter | Relation::Superseded => return Ok(()),
        Relation::Fork => {
            warn!("the relay shows a log of our account that contradicts the one here");
            t.event(Event::AccountForked);
            return Ok(());
        }
        Relation::Longer | Relation::Settled => {}
    }
    // The answer to a change of ours may be what is missing.
    let pending = extension(t)?;
    let ours = match &pending {
        Some(row) => matches!(log.relation(&log_of(row)?), Relation::Same | Relation::Longer).then_some(row.clone()),
        None => None,
    };
    let key = ours.as_ref().and_then(|row| row.identity_key);
    if ours.is_some() {
        settle(t, Ok(Reply::Done));
        link::decided(t, true)?;
        begin_heralding(t)?;
    }
    take(t, log, key)
}

/// The relay shows, as the account's own log, what is none. It may do so with each of its answers: the owner is told now and
/// then, and when it was shown last is kept as often.
fn forged<E: Engine>(t: &mut Turn<'_, E>, why: &str) -> Result<(), StorageError> {
    warn!(why, "the relay shows as our own an account log that is none");
    let key = rows::single_key(Single::Forged);
    let told: Option<Wall> = rows::get(&t.rows, &key)?;
    let since = |told: Wall| t.now.wall.as_millis().saturating_sub(told.as_millis());
    if told.is_none_or(|told| u128::from(since(told)) >= limits::FORGED_LOG_TOLD_EVERY.as_millis()) {
        rows::put(&mut t.rows, key, &t.now.wall);
        t.event(Event::OwnLogForged { why: why.to_owned() });
    }
    Ok(())
}

/// A log that is longer than the one here, and proved.
fn take<E: Engine>(t: &mut Turn<'_, E>, log: AccountLog, key: Option<[u8; 32]>) -> Result<(), StorageError> {
    let before = &t.rooms.identity.log;
    let indices = |log: &AccountLog| log.devices().map(|device| device.index).collect::<Vec<_>>();
    let (old, new) = (indices(before), indices(&log));
    let added: Vec<DeviceIndex> = new.iter().filter(|index| !old.contains(index)).copied().collect();
    let revoked: Vec<DeviceIndex> = old.iter().filter(|index| !new.contains(index)).copied().collect();
    let rotated = before.identity_key() != log.identity_key();
    let held = t.rooms.identity.identity_key();
    t.rooms.identity.adopt(&mut t.rows, log, key);
    if let (Some(held), Some(key)) = (held, key) {
        facts::hand_over(t, &held, key)?;
    }
    facts::take_identity(t)?;
    if t.rooms.reception.admitted().is_some() {
        audit::begin(t);
    }
    if !added.is_empty() || !revoked.is_empty() || rotated {
        info!(added = added.len(), revoked = revoked.len(), rotated, "the account's log is longer");
        // Whoever did it may share no thread with those who have to know.
        let matters = rotated || !revoked.is_empty();
        if !revoked.is_empty() {
            link::forget_former(t)?;
            if t.rooms.identity.is_listed() {
                history::rekey(t)?;
            }
        }
        t.event(Event::AccountChanged { added, revoked, rotated });
        if matters && t.rooms.identity.is_listed() {
            begin_heralding(t)?;
        }
    }
    if !t.rooms.identity.is_listed() {
        connect::abandon(t, "this device was taken off its account")?;
        at_an_end(t, RefusalCode::Revoked);
        t.event(Event::DeviceRevoked);
        return Ok(());
    }
    siblings::begin(t)
}

/// There is nothing to connect for: this device is none of the account's, or not yet.
pub(crate) fn at_an_end<E: Engine>(t: &mut Turn<'_, E>, code: RefusalCode) {
    t.rooms.timers.clear(Timer::Connect);
    t.rooms.reception.home = Home::Rejected(code);
    if code == RefusalCode::Revoked {
        t.rooms.timers.set(Timer::Unsaid, t.now.monotonic);
    }
    for (ticket, _) in std::mem::take(&mut t.rooms.reception.waiting) {
        t.answer(ticket, Err(CommandError::Refused(code)));
    }
}

/// From now on every thread is told how far the log goes.
fn begin_heralding<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let none: Option<ThreadId> = None;
    rows::put(&mut t.rows, rows::single_key(Single::Heralding), &none);
    t.rooms.timers.set(Timer::Heralding, t.now.monotonic);
    Ok(())
}

/// Goes on with it where a crash, or an absence of the relay, left off.
pub(crate) fn resume_heralding<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rows.get(&rows::single_key(Single::Heralding))?.is_some() {
        t.rooms.timers.set(Timer::Heralding, t.now.monotonic);
    }
    Ok(())
}

/// Says it in some more threads. People who are in several of them hear it in each: who is in none hears it when they are
/// looked up.
pub(crate) fn herald<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let key = rows::single_key(Single::Heralding);
    let Some(done) = rows::get::<Option<ThreadId>>(&t.rows, &key)? else { return Ok(()) };
    let space = rows::space(rows::Space::Thread);
    let mut from = done.map_or_else(|| space.clone(), |thread| rows::thread_key(&thread));
    if done.is_some() {
        from.push(0);
    }
    let page = t.rows.scan(&from, &rows::after(&space), Order::Ascending, limits::HERALDED_AT_ONCE)?;
    let more = page.len() == limits::HERALDED_AT_ONCE;
    let (seq, hash) = t.rooms.identity.log.head();
    let mut last = done;
    for (thread_key, value) in page {
        let Some(id) = rows::id_in_key(&thread_key).map(ThreadId::from_bytes) else { continue };
        last = Some(id);
        let mut row: rows::ThreadRow = rows::decode(&thread_key, &value)?;
        if row.state != ThreadState::Open {
            continue;
        }
        match group::say(t, id, &mut row, Body::LogHead(seq, hash)) {
            Ok(()) => {
                thread::put(&mut t.rows, &id, &row);
                send::pump(t, id)?;
            }
            Err(Halt::Broken(error)) => return Err(error),
            // A full outbox, or a group this device is not in: they hear of it otherwise.
            Err(Halt::Command(error)) => tracing::debug!(%error, "a thread is not told of the account's change"),
        }
    }
    if more {
        rows::put(&mut t.rows, key, &last);
        t.rooms.timers.set(Timer::Heralding, t.now.monotonic);
    } else {
        t.rows.delete(key);
    }
    Ok(())
}
