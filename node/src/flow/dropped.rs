//! Dropped: what the relay let go of a log before this device had it, by the relay's word.
//! In order: noted in the batch that moves the log's place past it, so once; shown until counters show all that there is
//! to it. What they show is asked for by `repair`; nothing else can be.
//! Commits are kept apart from the log, and are asked for one by one: nothing of a later epoch need come to whoever was taken out.
//! Never: believes that more is gone than lies beyond this device's own place. Rules: docs/protocol/message.md, "Gaps".

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{DeviceId, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{Gone, LogRef};
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::{Order, Reads as _, StorageError};

use super::commit;
use crate::api::Event;
use crate::rooms::Turn;
use crate::rows::{self, DroppedRow, ThreadRow};
use crate::thread;

/// A run says what went before it; `place`: what this device has of the log.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    log: LogRef,
    gone: Gone,
    place: Sequence,
) -> Result<(), StorageError> {
    let entries = gone.upto.get().saturating_sub(gone.after.max(place).get());
    let LogRef::Thread(thread) = log else {
        if entries > 0 {
            t.event(Event::Dropped { thread: None, entries });
        }
        return Ok(());
    };
    if entries == 0 {
        return Ok(());
    }
    let key = rows::dropped_key(&thread);
    let known: Option<DroppedRow> = rows::get(&t.rows, &key)?;
    let mut mark = known.unwrap_or_default();
    mark.entries = mark.entries.saturating_add(entries);
    mark.at = t.now.wall;
    // An invitation to it may be on its way here still: then it is shown once that was followed.
    let Some(row) = thread::get(&t.rows, &thread)? else {
        rows::put(&mut t.rows, key, &mark);
        return Ok(());
    };
    tell(t, (thread, &row), mark, entries)
}

/// An invitation was followed: what went of its log before is told now. `row` is written.
pub(crate) fn joined<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, row: &ThreadRow) -> Result<(), StorageError> {
    let Some(mark) = rows::get::<DroppedRow>(&t.rows, &rows::dropped_key(&thread))? else { return Ok(()) };
    let entries = mark.left();
    tell(t, (thread, row), mark, entries)
}

fn tell<E: Engine>(
    t: &mut Turn<'_, E>,
    (thread, row): (ThreadId, &ThreadRow),
    mut mark: DroppedRow,
    entries: u64,
) -> Result<(), StorageError> {
    mark.after = row.last;
    // Whoever is out by now says no more that could show it.
    mark.unheard = thread::leaves(row).filter(|leaf| *leaf != t.rooms.identity.id()).collect();
    for leaf in &mark.unheard {
        mark.blind |= row.joined > 1 && rows::count(&t.rows, &thread, leaf)?.is_none();
    }
    rows::put(&mut t.rows, rows::dropped_key(&thread), &mark);
    let shown_in =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
    t.event(Event::Dropped { thread: Some(shown_in), entries });
    commit::may_be_behind(t, thread, row);
    Ok(())
}

/// The relay lets the device in: what it asked for because of what went may not have been answered.
pub(crate) fn resume<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let prefix = rows::dropped_prefix();
    let marks = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::ACCOUNT_THREADS_MAX)?;
    for (key, _) in marks {
        let Some(thread) = rows::thread_of_dropped(&key) else { continue };
        if let Some(row) = thread::get(&t.rows, &thread)? {
            commit::may_be_behind(t, thread, &row);
        }
    }
    Ok(())
}

/// A counted content of a device came, written at `hlc`; so many more of its contents are known to be missing now.
pub(crate) fn counted<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    (author, hlc): (DeviceId, Hlc),
    missing: u64,
) -> Result<(), StorageError> {
    let key = rows::dropped_key(&thread);
    let Some(mut mark) = rows::get::<DroppedRow>(&t.rows, &key)? else { return Ok(()) };
    // One that leaves no gap and was written before may be the first of several that are said again.
    if missing == 0 && hlc.millis < mark.at.as_millis() {
        return Ok(());
    }
    let waited = mark.unheard.len();
    mark.counted = mark.counted.saturating_add(missing);
    mark.unheard.retain(|device| *device != author);
    let all_heard = waited > 0 && mark.unheard.is_empty() && !mark.blind;
    match all_heard || mark.left() == 0 {
        true => t.rows.delete(key),
        false => rows::put(&mut t.rows, key, &mark),
    }
    Ok(())
}
