//! Settings: what the owner keeps of a thread, from the command to the relay that keeps it for all devices.
//! In order: keep it here, seal it under the key the owner's devices share, hand it in until the relay has it.
//! Never: tells a relay more than until when nobody is woken. Rules: docs/protocol/thread.md.

use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_protocol::thread::{SetThread, ThreadSettings};
use whimbrel_storage::StorageError;

use crate::api::{CommandError, Reply, SettingsChange};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, SettingsRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Changes one setting of a conversation.
pub(crate) fn change<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, change: SettingsChange) -> Result<Reply, Halt> {
    let (thread, _) = thread::canonical(&t.rows, &id)?.ok_or(CommandError::Unknown)?;
    let key = rows::settings_key(&thread);
    let mut row: SettingsRow = rows::get(&t.rows, &key)?.unwrap_or_default();
    match change {
        SettingsChange::Label(Some(label)) if label.len() > limits::THREAD_LABEL_BYTES_MAX => {
            return Err(CommandError::TooLong { what: "a label", max: limits::THREAD_LABEL_BYTES_MAX }.into());
        }
        SettingsChange::Label(label) => row.label = label.filter(|label| !label.is_empty()),
        SettingsChange::MutedUntil(until) => row.muted_until = until,
        SettingsChange::Archived(archived) => row.archived = archived,
        SettingsChange::Pinned(pinned) => row.pinned = pinned,
        SettingsChange::ReadReceipts(tells) => row.read_receipts = tells,
    }
    (row.changes, row.kept) = (row.changes.saturating_add(1), false);
    rows::put(&mut t.rows, key, &row);
    t.rooms.threads.unkept.insert(thread);
    hand_in(t, thread)?;
    Ok(Reply::Done)
}

/// Hands in everything the relay does not keep.
pub(crate) fn hand_in_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: Vec<ThreadId> = t.rooms.threads.unkept.iter().copied().collect();
    threads.into_iter().try_for_each(|thread| hand_in(t, thread))
}

/// Hands in one thread's settings, unless they are on their way, must wait, or the relay does not have the thread.
pub(crate) fn hand_in<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    let under_way = t.rooms.requests.any(|purpose| matches!(purpose, Purpose::Settings(one, _) if *one == id));
    let waits = under_way || t.rooms.timers.is_set(Timer::Settings(id));
    if waits || t.rooms.reception.admitted().is_none() || !t.rooms.threads.unkept.contains(&id) {
        return Ok(());
    }
    let there =
        thread::get(&t.rows, &id)?.is_some_and(|row| matches!(row.state, ThreadState::Open | ThreadState::Halted));
    let row: Option<SettingsRow> = rows::get(&t.rows, &rows::settings_key(&id))?;
    let Some(row) = row.filter(|_| there) else { return Ok(()) };
    let content = canonical::encode(&SettingsRow { kept: true, ..row.clone() });
    let sealed = t.rooms.identity.participants.settings_key().seal(&id, &content, t.chance);
    let Some(sealed) = sealed else {
        debug!("settings do not fit and stay here");
        return given_up(t, id);
    };
    let settings = ThreadSettings { sealed, quiet_until: row.muted_until };
    t.ask(Purpose::Settings(id, row.changes), |request| SetThread { request, thread: id, settings });
    Ok(())
}

/// The relay keeps them, as they were after so many changes.
pub(crate) fn kept<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, changes: u64) -> Result<(), StorageError> {
    let key = rows::settings_key(&thread);
    match rows::get::<SettingsRow>(&t.rows, &key)? {
        Some(row) if row.changes == changes => {
            rows::put(&mut t.rows, key, &SettingsRow { kept: true, ..row });
            t.rooms.threads.unkept.remove(&thread);
            Ok(())
        }
        _ => hand_in(t, thread),
    }
}

/// The relay does not keep them; for now, or for good.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    again: Option<Duration>,
) -> Result<(), StorageError> {
    match again {
        Some(delay) => {
            t.rooms.timers.set(Timer::Settings(thread), t.now.monotonic.plus(delay));
            Ok(())
        }
        None => given_up(t, thread),
    }
}

/// They stay on this device alone, until they change again.
fn given_up<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let key = rows::settings_key(&thread);
    if let Some(row) = rows::get::<SettingsRow>(&t.rows, &key)? {
        rows::put(&mut t.rows, key, &SettingsRow { kept: true, ..row });
    }
    t.rooms.threads.unkept.remove(&thread);
    Ok(())
}
