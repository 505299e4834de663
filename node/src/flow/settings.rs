//! Settings: what the owner keeps of a thread, from the command to the relay that keeps it for all devices.
//! In order: keep it here, seal it under the key the owner's devices share, hand it in until the relay has it. And back:
//! once in each life of the node it takes what the relay keeps, which another device or an earlier store may have said.
//! Never: tells a relay more than until when nobody is woken. Rules: docs/protocol/thread.md.

use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::thread::{ListThreads, ListingPlace, SetThread, ThreadPage, ThreadSettings};
use whimbrel_storage::StorageError;

use super::facts;
use crate::api::{CommandError, Reply, SettingsChange};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, SettingsRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Changes one setting of a conversation.
pub(crate) fn change<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, change: SettingsChange) -> Result<Reply, Halt> {
    let (thread, _) = thread::canonical(&t.rows, &t.rooms.identity.account(), &id)?.ok_or(CommandError::Unknown)?;
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
    // What the relay keeps comes first: changes are counted on from there.
    let waits = under_way || t.rooms.timers.is_set(Timer::Settings(id)) || !t.rooms.threads.listed;
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
            facts::note(t, What::Settings(thread, changes), None)
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

/// Pages of the owner's threads at most: a relay that says of every page that more follow does not lead us on for ever.
const PAGES_MAX: usize = limits::ACCOUNT_THREADS_MAX.div_ceil(limits::THREAD_PAGE_MAX);

/// Asks what the relay keeps, unless it has answered since the node began and no other device changes it.
pub(crate) fn fetch_all<E: Engine>(t: &mut Turn<'_, E>) {
    t.rooms.threads.list_again = false;
    if !t.rooms.threads.listed || !facts::is_alone(t) {
        fetch(t, None, 1);
    }
}

/// A sibling says that the relay keeps others than are here: it is asked again.
pub(crate) fn changed_elsewhere<E: Engine>(
    t: &mut Turn<'_, E>,
    id: &ThreadId,
    changes: u64,
) -> Result<(), StorageError> {
    let own: Option<SettingsRow> = rows::get(&t.rows, &rows::settings_key(id))?;
    let under_way = t.rooms.requests.any(|purpose| matches!(purpose, Purpose::Listing(_)));
    if own.is_none_or(|own| own.changes < changes) {
        match under_way {
            // Its page may be past already.
            true => t.rooms.threads.list_again = true,
            false => fetch(t, None, 1),
        }
    }
    Ok(())
}

fn fetch<E: Engine>(t: &mut Turn<'_, E>, after: Option<ListingPlace>, pages: usize) {
    let limit = limits::THREAD_PAGE_MAX as u16;
    t.ask(Purpose::Listing(pages), |request| ListThreads { request, after, limit });
}

/// A page of the owner's threads.
pub(crate) fn fetched<E: Engine>(t: &mut Turn<'_, E>, pages: usize, page: ThreadPage) -> Result<(), StorageError> {
    for row in &page.rows {
        if let Some(settings) = &row.settings {
            take_back(t, row.place.thread, settings)?;
        }
    }
    match page.rows.last().filter(|_| page.more && pages < PAGES_MAX) {
        Some(last) => {
            fetch(t, Some(last.place), pages + 1);
            Ok(())
        }
        None => all_fetched(t),
    }
}

/// There is no more to know, or the relay does not say it: what is here is handed in.
pub(crate) fn all_fetched<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    t.rooms.threads.listed = true;
    if std::mem::take(&mut t.rooms.threads.list_again) {
        fetch(t, None, 1);
    }
    hand_in_all(t)
}

/// What the relay keeps of one thread. It holds here unless it is older, or was changed here and is not handed in yet.
fn take_back<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, settings: &ThreadSettings) -> Result<(), StorageError> {
    let opened = t.rooms.identity.participants.settings_key().open(&id, &settings.sealed);
    let Some(row) = opened.and_then(|content| canonical::decode::<SettingsRow>(&content).ok()) else {
        debug!("settings that the relay keeps are none of ours");
        return Ok(());
    };
    let key = rows::settings_key(&id);
    match rows::get::<SettingsRow>(&t.rows, &key)? {
        // The owner's last word. It counts on from there, so that no device takes what it replaces for newer.
        Some(own) if !own.kept => {
            let changes = own.changes.max(row.changes.saturating_add(1));
            if changes > own.changes {
                rows::put(&mut t.rows, key, &SettingsRow { changes, ..own });
            }
        }
        Some(own) if own.changes > row.changes => {}
        _ => rows::put(&mut t.rows, key, &SettingsRow { kept: true, ..row }),
    }
    Ok(())
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
