//! Blobs: Welcomes and trees, kept once each under their hash, for as long as a row names them.
//! Owns: the bodies, and how many rows name each. What names two of them is an invitation: in an inbox, or in the row
//! that waits for a peer with the opening, or with a commit that has newcomers there. Whoever writes or drops one says so here, in the same command.
//! Never: decides how long such a row stays (`trim`, `own`).
//! Limits: `limits::TRIM_INVITATIONS_MAX`. Rules: docs/protocol/thread.md, "Opening".

use whimbrel_protocol::id::{BlobId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, Invitation};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::rows::{self, EntryRow, space};
use crate::store::LogId;

/// A row that names an invitation's bodies was written.
pub(super) fn name(rows: &mut Overlay<'_>, invitation: &Invitation) -> Result<(), StorageError> {
    for blob in [invitation.welcome, invitation.tree] {
        let key = rows::named(blob);
        let count: u64 = rows::get(rows, &key)?.unwrap_or(0);
        rows::put(rows, key, &(count + 1));
    }
    Ok(())
}

/// Such a row is gone; with the last, so are its bodies.
pub(super) fn unname(rows: &mut Overlay<'_>, invitation: &Invitation) -> Result<(), StorageError> {
    for blob in [invitation.welcome, invitation.tree] {
        let key = rows::named(blob);
        match rows::get::<u64>(rows, &key)? {
            None | Some(0) => return Err(rows::damaged(&key, "a body is named, and not counted")),
            Some(1) => {
                rows.delete(key);
                rows.delete(rows::blob(blob));
            }
            Some(count) => rows::put(rows, key, &(count - 1)),
        }
    }
    Ok(())
}

/// Keeps a body that a row of this very command names; what nobody will ask for is not kept.
pub(super) fn keep(rows: &mut Overlay<'_>, blob: BlobId, bytes: &[u8]) -> Result<(), StorageError> {
    let key = rows::blob(blob);
    if rows.get(&rows::named(blob))?.is_some() && rows.get(&key)?.is_none() {
        rows.put(key, bytes.to_vec());
    }
    Ok(())
}

/// Drops entries of an inbox after a place, up to another and at most `limit`, with what they name. Bodies are large:
/// after [`limits::TRIM_INVITATIONS_MAX`] invitations it stops as well. Gives the last one dropped.
pub(super) fn drop_inbox(
    rows: &mut Overlay<'_>,
    inbox: LogId,
    (after, upto): (Sequence, Sequence),
    limit: usize,
) -> Result<Dropped, StorageError> {
    let from = rows::of_log(space::ENTRY, inbox, after.next());
    let end = rows::after(&rows::of_log(space::ENTRY, inbox, upto));
    let mut dropped = Dropped { entries: 0, last: None, more: false };
    let mut invitations = 0;
    let found = rows.scan(&from, &end, Order::Ascending, limit)?;
    dropped.more = found.len() == limit;
    for (key, value) in found {
        let entry: EntryRow = rows::read(&key, &value)?;
        if let EntryBody::Invitation(invitation) = &entry.body {
            if invitations == limits::TRIM_INVITATIONS_MAX {
                dropped.more = true;
                break;
            }
            invitations += 1;
            unname(rows, invitation)?;
        }
        dropped.entries += 1;
        dropped.last = Some((rows::sequence_of(&key)?, entry));
        rows.delete(key);
    }
    Ok(dropped)
}

/// What [`drop_inbox`] did.
pub(super) struct Dropped {
    pub(super) entries: usize,
    pub(super) last: Option<(Sequence, EntryRow)>,
    /// Whether it stopped before the end.
    pub(super) more: bool,
}
