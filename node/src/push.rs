//! Push: how far each log of the relay is durable here.
//! Owns: the place of every log; only a contiguous prefix counts. Never: opens an entry.
//! Rules: docs/protocol/push.md.

use std::collections::BTreeSet;

use whimbrel_protocol::id::Sequence;
use whimbrel_protocol::push::LogRef;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::rows;

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Push {
    /// Logs that stand still because nothing more can be parked; what is pushed of them comes again on a later link.
    pub(crate) stalled: BTreeSet<LogRef>,
    /// The relay said that nothing waits there any more, and the owner has not been told: what was taken in is still followed up.
    pub(crate) caught_up: bool,
    /// Where the round of forgetting old envelope ids stands.
    pub(crate) forgotten_upto: Option<Vec<u8>>,
}

/// How far a log is durable here.
pub(crate) fn place(reads: &dyn Reads, log: LogRef) -> Result<Sequence, StorageError> {
    Ok(rows::get(reads, &rows::place_key(log))?.unwrap_or_default())
}

/// Moves a log's place.
pub(crate) fn set_place(rows: &mut Overlay<'_>, log: LogRef, place: Sequence) {
    rows::put(rows, rows::place_key(log), &place);
}
