//! Ahead: entries of a thread of an epoch that this device has not reached, and whether they hold up what is behind them.
//! In order: what is behind waits while the relay is asked for the change between, which it has if the entry is genuine; when
//! it was asked in vain often enough, what is behind is opened as far as it can be, and the entry goes on waiting by itself.
//! Never: opens anything that is ahead, or lets pass what waits for the proof of a change that is here.
//! Limits: `limits::AHEAD_ASKED_MAX`, `limits::AHEAD_ENTRIES_MAX`. Rules: docs/protocol/message.md 11, hub.md 15.

use whimbrel_crypto::Engine;
use whimbrel_protocol::hub::Accepted;
use whimbrel_protocol::id::{EnvelopeId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_storage::{Order, Reads, StorageError};

use super::receive;
use crate::rooms::Turn;
use crate::rows::{self, ParkedRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Whether an entry that cannot be opened yet lets pass what is behind it: nothing that the relay has leads to its epoch.
pub(crate) fn lets_pass<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    entry: &ParkedRow,
) -> Result<bool, StorageError> {
    let epoch = match (&entry.envelope, &entry.change) {
        (Some(envelope), _) => envelope.epoch,
        (None, Some(change)) => change.commit.epoch,
        (None, None) => return Ok(false),
    };
    let row = thread::get(&t.rows, thread)?.filter(|row| row.state != ThreadState::Left);
    let asked = |here| t.rooms.threads.waits.get(thread).is_some_and(|(of, tries)| *of == here && is_in_vain(*tries));
    Ok(row.is_some_and(|row| row.founding.is_some() && epoch > row.epoch && asked(row.epoch)))
}

const fn is_in_vain(tries: u32) -> bool {
    tries >= limits::AHEAD_ASKED_MAX
}

/// Whether a commit that was asked for is none of an epoch to come: that would only be asked about again, at once.
pub(crate) fn leads_on<E: Engine>(t: &Turn<'_, E>, thread: ThreadId, given: &Accepted) -> Result<bool, StorageError> {
    Ok(thread::get(&t.rows, &thread)?.is_none_or(|row| given.commit.epoch <= row.epoch))
}

/// Puts an entry aside that lets pass what is behind it. There is room for so many of a thread: what is invented costs
/// whoever invents it nothing. Whoever wrote what is genuine beyond that says it again until it is told to be here.
pub(crate) fn put_aside<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    entry: ParkedRow,
) -> Result<bool, StorageError> {
    let prefix = rows::parked_prefix(&thread);
    let most = limits::AHEAD_ENTRIES_MAX;
    t.rooms.threads.aside.insert(thread);
    if !t.rooms.timers.is_set(Timer::Unpark(thread)) {
        // Nothing else waits, or the answer about that is on its way.
        receive::wait_for_change(t, thread)?;
    }
    if t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, most)?.len() < most {
        return receive::park(t, thread, entry);
    }
    give_up(t, thread, &entry).map(|()| true)
}

/// An entry is told as one that cannot be opened.
pub(crate) fn give_up<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, entry: &ParkedRow) -> Result<(), StorageError> {
    let of_change = |entry: &ParkedRow| entry.change.as_ref().map(|change| *change.commit.hash().as_bytes());
    let envelope = entry.envelope.as_ref().map(|envelope| envelope.id());
    let Some(id) = envelope.or_else(|| of_change(entry).map(EnvelopeId::from_bytes)) else { return Ok(()) };
    receive::unreadable(t, thread, id, "of an epoch that no change of the thread leads to")
}

/// The thread has come to another epoch by its log: what was put aside may be of it, and comes before what is behind.
pub(crate) fn look_again<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if t.rooms.threads.aside.remove(&thread) && t.rooms.threads.unparking.insert(thread) {
        t.rooms.timers.set(Timer::Unpark(thread), t.now.monotonic);
    }
    Ok(())
}
