//! Trim: cursors move, peers answer, and what every reader has goes.
//! Owns: cursor rows, the deletion of entries and outbound rows.
//! Never: drops an entry that a local device or a peer still waits for; the bound of a full log does that (`threads`).
//! Limits: `limits::TRIM_ENTRIES_MAX`. Rules: docs/protocol/hold.md.

use std::collections::BTreeSet;

use whimbrel_protocol::id::{Domain, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::LogRef;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Overlay, Reads, StorageError};

use super::Decided;
use super::rows::{self, CursorRow, EntryRow, Home, LogRow, Member, ThreadMeta, space};
use crate::store::command::{CursorMove, Forwarded, Trim};
use crate::store::{LogId, MailboxId, Outcome};

/// Members read at once: of a thread, at most a thousand.
const MEMBERS_MAX: usize = limits::THREAD_DEVICES_MAX;

pub(super) fn move_cursors(rows: &mut Overlay<'_>, moves: &[CursorMove]) -> Decided {
    for CursorMove { mailbox, log, upto } in moves {
        if let Some(head) = rows::get::<LogRow>(rows, &rows::log(*log))?.map(|log| log.head) {
            move_cursor(rows, *mailbox, *log, (*upto).min(head))?;
        }
    }
    Ok(Outcome::Done)
}

fn move_cursor(rows: &mut Overlay<'_>, mailbox: MailboxId, log: LogId, upto: Sequence) -> Result<(), StorageError> {
    let key = rows::cursor(mailbox, log);
    if let Some(mut cursor) = rows::get::<CursorRow>(rows, &key)?
        && cursor.upto < upto
    {
        cursor.upto = upto;
        rows::put(rows, key, &cursor);
    }
    Ok(())
}

pub(super) fn trim(rows: &mut Overlay<'_>, command: &Trim) -> Decided {
    let key = rows::log(command.log);
    let Some(mut log) = rows::get::<LogRow>(rows, &key)? else {
        return Ok(Outcome::Trimmed { upto: Sequence::ZERO, more: false });
    };
    for (mailbox, upto) in &command.cursors {
        move_cursor(rows, *mailbox, command.log, (*upto).min(log.head))?;
    }
    let more = trim_log(rows, command.log, &mut log)?;
    Ok(Outcome::Trimmed { upto: log.trimmed, more })
}

/// Drops what every reader has, within the bound of one command; tells whether more could go.
fn trim_log(rows: &mut Overlay<'_>, id: LogId, log: &mut LogRow) -> Result<bool, StorageError> {
    let everybody_has = all_have(rows, id, log)?;
    if everybody_has <= log.trimmed {
        return Ok(false);
    }
    let upto = everybody_has.min(Sequence::new(log.trimmed.get().saturating_add(limits::TRIM_ENTRIES_MAX)));
    drop_upto(rows, id, log, upto)?;
    rows::put(rows, rows::log(id), log);
    Ok(upto < everybody_has)
}

/// The last place that every local device has, and that no peer waits for or before.
fn all_have(reads: &dyn Reads, id: LogId, log: &LogRow) -> Result<Sequence, StorageError> {
    let mut least = log.head;
    let mut most = Sequence::ZERO;
    for (key, value) in rows::scan(reads, &rows::members(id), MEMBERS_MAX)? {
        if least <= log.trimmed {
            return Ok(least);
        }
        if let Home::Here(mailbox) = rows::read::<Member>(&key, &value)?.home
            && let Some(cursor) = rows::get::<CursorRow>(reads, &rows::cursor(mailbox, id))?
        {
            least = least.min(cursor.upto);
            most = most.max(cursor.upto);
        }
    }
    if planted::active(Bug::TrimEagerly) {
        least = most;
    }
    for peer in peers_of(reads, log)? {
        if let Some((key, _)) = rows::scan(reads, &rows::outbound_of_log(&peer, id), 1)?.into_iter().next() {
            let waits_for = rows::sequence_of(&key)?;
            least = least.min(Sequence::new(waits_for.get().saturating_sub(1)));
        }
    }
    Ok(least)
}

fn peers_of(reads: &dyn Reads, log: &LogRow) -> Result<Vec<Domain>, StorageError> {
    let LogRef::Thread(thread) = log.which else { return Ok(Vec::new()) };
    Ok(rows::get::<ThreadMeta>(reads, &rows::thread(thread))?.map(|thread| thread.others).unwrap_or_default())
}

/// Drops entries up to a place that exists; the caller writes the log's row.
pub(super) fn drop_upto(
    rows: &mut Overlay<'_>,
    id: LogId,
    log: &mut LogRow,
    upto: Sequence,
) -> Result<(), StorageError> {
    let last_key = rows::of_log(space::ENTRY, id, upto);
    let last: EntryRow =
        rows::get(rows, &last_key)?.ok_or_else(|| rows::damaged(&last_key, "an entry of a log is missing"))?;
    let mut place = log.trimmed;
    while place < upto {
        place = place.next();
        rows.delete(rows::of_log(space::ENTRY, id, place));
    }
    log.trimmed = upto;
    log.trimmed_total = last.total;
    Ok(())
}

pub(super) fn forwarded(rows: &mut Overlay<'_>, command: &Forwarded) -> Decided {
    let mut logs = BTreeSet::new();
    let mut gone = 0;
    for row in &command.rows {
        let key = rows::outbound(&command.peer, row.log, row.sequence);
        if rows.get(&key)?.is_some() {
            rows.delete(key);
            logs.insert(row.log);
            gone += 1;
        }
    }
    if gone > 0 {
        let key = rows::of_peer(space::WAITING, &command.peer);
        let waiting: u64 = rows::get(rows, &key)?.unwrap_or(0);
        match waiting.saturating_sub(gone) {
            0 => rows.delete(key),
            left => rows::put(rows, key, &left),
        }
    }
    for id in logs {
        if let Some(mut log) = rows::get::<LogRow>(rows, &rows::log(id))? {
            trim_log(rows, id, &mut log)?;
        }
    }
    Ok(Outcome::Done)
}
