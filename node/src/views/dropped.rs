//! What a relay let go of a conversation, as it is shown. Owns: where it stands. Never: counts what counters show already.

use whimbrel_protocol::id::ThreadId;
use whimbrel_storage::{Order, Reads, StorageError};

use crate::rows::{self, DroppedRow};

/// How many entries of a thread's log are gone that counters do not show.
pub(super) fn left(reads: &dyn Reads, thread: &ThreadId) -> Result<u64, StorageError> {
    Ok(rows::get::<DroppedRow>(reads, &rows::dropped_key(thread))?.map_or(0, |mark| mark.left()))
}

/// The same, with the key of the message before which they are missing; nothing when none came since.
pub(super) fn mark(reads: &dyn Reads, thread: &ThreadId) -> Result<Option<(Vec<u8>, u64)>, StorageError> {
    let Some(mark) = rows::get::<DroppedRow>(reads, &rows::dropped_key(thread))? else { return Ok(None) };
    let prefix = rows::history_prefix(thread);
    let from = match &mark.after {
        Some(place) => {
            let mut key = rows::history_key(thread, place);
            key.push(0);
            key
        }
        None => prefix.clone(),
    };
    let next = reads.scan(&from, &rows::after(&prefix), Order::Ascending, 1)?.into_iter().next();
    Ok(next.map(|(key, _)| (key, mark.left())).filter(|(_, left)| *left > 0))
}
