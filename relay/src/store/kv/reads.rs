//! Reads: what the store's queries answer, from ordered rows.
//! Owns: paging and its bounds. Never: changes a row.

use whimbrel_protocol::federation::ForwardBody;
use whimbrel_protocol::hub::{Arrivals, Newcomers};
use whimbrel_protocol::id::{
    AccountId, BlobId, DeviceId, Domain, Name, ParticipantsTag, Sequence, ThreadId, TokenHash,
};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{Entry, EntryBody, Invitation};
use whimbrel_protocol::thread::{ListingPlace, Opening, ThreadRow};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, Row, StorageError};

use super::rows::{self, CommitRow, CursorRow, EntryRow, InviteRow, LogRow, OutgoingRow, OwnRow, StockRow, space};
use crate::store::{Account, DeviceLog, Listing, LogId, LogPage, MailboxId, Outbound, OutboundKey, Pin};

/// Entries read from the rows at once: a page of largest envelopes stays below 5 MiB whatever its bound, one of largest
/// commits at 32 MiB.
const STEP: usize = 16;

/// An account that lives here.
///
/// # Errors
/// As for every read: a damaged row, or the engine failed.
pub fn account(reads: &dyn Reads, account: AccountId) -> Result<Option<Account>, StorageError> {
    super::accounts::known_account(reads, account)
}

/// The account behind a name.
///
/// # Errors
/// See [`account`].
pub fn account_by_name(reads: &dyn Reads, name: &Name) -> Result<Option<AccountId>, StorageError> {
    rows::get(reads, &rows::name(name))
}

/// An account's log, as signed.
///
/// # Errors
/// See [`account`].
pub fn account_log(reads: &dyn Reads, account: AccountId) -> Result<Option<Vec<u8>>, StorageError> {
    reads.get(&rows::of_account(space::ACCOUNT_LOG, account))
}

/// The invites of an account that can be used at this time.
///
/// # Errors
/// See [`account`].
pub fn live_invites(reads: &dyn Reads, owner: AccountId, at: Wall) -> Result<Vec<TokenHash>, StorageError> {
    let prefix = rows::of_account(space::INVITE, owner);
    let mut live = Vec::new();
    for (key, value) in rows::scan(reads, &prefix, limits::INVITES_MAX)? {
        if rows::read::<InviteRow>(&key, &value)?.is_live(at) {
            live.push(TokenHash::from_bytes(rows::rest(&key, prefix.len())?));
        }
    }
    Ok(live)
}

/// One-time KeyPackages left of a device.
///
/// # Errors
/// See [`account`].
pub fn package_count(reads: &dyn Reads, device: DeviceId) -> Result<u32, StorageError> {
    let row: StockRow = rows::get(reads, &rows::of_device(space::STOCK, device))?.unwrap_or_default();
    Ok(row.left())
}

/// Whether an invitation that waits in an account's inbox names a large body. The newest are looked at first: what is asked
/// for came lately. No inbox holds more than its bound, which is what coming back without a cursor would read.
///
/// # Errors
/// See [`account`].
pub fn names(reads: &dyn Reads, account: AccountId, blob: BlobId) -> Result<bool, StorageError> {
    let Some(account) = super::accounts::known_account(reads, account)? else { return Ok(false) };
    let from = rows::of_log(space::ENTRY, account.inbox, Sequence::ZERO);
    let mut end = rows::after(&rows::of_log(space::ENTRY, account.inbox, Sequence::new(u64::MAX)));
    loop {
        let found = reads.scan(&from, &end, Order::Descending, STEP)?;
        for (key, value) in &found {
            if let EntryBody::Invitation(invitation) = rows::read::<EntryRow>(key, value)?.body
                && [invitation.welcome, invitation.tree].contains(&blob)
            {
                return Ok(true);
            }
        }
        match found.into_iter().nth(STEP - 1) {
            Some((oldest, _)) => end = oldest,
            None => return Ok(false),
        }
    }
}

/// A large body.
///
/// # Errors
/// See [`account`].
pub fn blob(reads: &dyn Reads, blob: BlobId) -> Result<Option<Vec<u8>>, StorageError> {
    reads.get(&rows::blob(blob))
}

/// Entries of a log after a place.
///
/// # Errors
/// See [`account`].
pub fn log_page(
    reads: &dyn Reads,
    log: LogId,
    after: Sequence,
    limit: usize,
    bytes_max: usize,
) -> Result<LogPage, StorageError> {
    let Some(row) = rows::get::<LogRow>(reads, &rows::log(log))? else {
        return Ok(LogPage { entries: Vec::new(), whole_after: after, upto: after, head: Sequence::ZERO });
    };
    let whole_after = after.max(row.trimmed);
    let mut page = LogPage { entries: Vec::new(), whole_after, upto: whole_after, head: row.head };
    let end = rows::after(&rows::of_log(space::ENTRY, log, Sequence::new(u64::MAX)));
    let (mut bytes, mut full) = (0, after >= row.head);
    while !full && page.entries.len() < limit {
        let from = rows::of_log(space::ENTRY, log, page.upto.next());
        let step = STEP.min(limit - page.entries.len());
        let found = reads.scan(&from, &end, Order::Ascending, step)?;
        full = found.len() < step;
        for (key, value) in found {
            let sequence = rows::sequence_of(&key)?;
            bytes += value.len();
            // Places follow each other: what is left out was trimmed since the log's row was read.
            let trimmed = sequence > page.upto.next();
            if (trimmed || bytes > bytes_max) && !page.entries.is_empty() {
                full = true;
                break;
            }
            if trimmed {
                page.whole_after = Sequence::new(sequence.get().saturating_sub(1));
            }
            page.entries.push(Entry { sequence, body: rows::read::<EntryRow>(&key, &value)?.body });
            page.upto = sequence;
        }
    }
    // The rows may have grown between the two reads.
    page.head = page.head.max(page.upto);
    Ok(page)
}

/// The logs a device reads, by log id.
///
/// # Errors
/// See [`account`].
pub fn device_logs(
    reads: &dyn Reads,
    mailbox: MailboxId,
    after: Option<LogId>,
    limit: usize,
) -> Result<Vec<DeviceLog>, StorageError> {
    let prefix = rows::cursors(mailbox);
    let from = after.map_or_else(|| prefix.clone(), |log| rows::after(&rows::cursor(mailbox, log)));
    let found = reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)?;
    let join = |(key, value): Row| {
        let log = LogId::from_bytes(rows::rest(&key, prefix.len())?);
        let cursor: CursorRow = rows::read(&key, &value)?;
        let log_key = rows::log(log);
        let row: LogRow = rows::get(reads, &log_key)?.ok_or_else(|| rows::damaged(&log_key, "a log is missing"))?;
        let CursorRow { upto: cursor, epochs, end, start } = cursor;
        Ok(DeviceLog { log, which: row.which, cursor, start, epochs, head: row.head, end })
    };
    found.into_iter().map(join).collect()
}

/// An owner's threads by updated time, newest first.
///
/// # Errors
/// See [`account`].
pub fn thread_rows(
    reads: &dyn Reads,
    owner: AccountId,
    mailbox: MailboxId,
    after: Option<ListingPlace>,
    limit: usize,
) -> Result<Listing, StorageError> {
    let mut places = Vec::new();
    let prefix = rows::of_account(space::ROW, owner);
    for (key, value) in rows::scan(reads, &prefix, limits::ACCOUNT_THREADS_MAX)? {
        let row: OwnRow = rows::read(&key, &value)?;
        let log_key = rows::log(row.log);
        let log: LogRow = rows::get(reads, &log_key)?.ok_or_else(|| rows::damaged(&log_key, "a log is missing"))?;
        let thread = ThreadId::from_bytes(rows::rest(&key, prefix.len())?);
        let place = ListingPlace { updated: log.updated.max(row.touched), thread };
        if after.is_none_or(|after| place < after) {
            places.push((place, row, log));
        }
    }
    places.sort_by_key(|(place, ..)| std::cmp::Reverse(*place));
    let more = places.len() > limit;
    places.truncate(limit);
    let join = |(place, row, log): (ListingPlace, OwnRow, LogRow)| {
        let unread = unread(reads, mailbox, row.log, &log)?;
        Ok(ThreadRow { place, head: log.head, unread, tag: row.tag, settings: row.settings })
    };
    let rows = places.into_iter().map(join).collect::<Result<_, StorageError>>()?;
    Ok(Listing { rows, more })
}

/// Messages after the larger of cursor and trim point.
fn unread(reads: &dyn Reads, mailbox: MailboxId, id: LogId, log: &LogRow) -> Result<u64, StorageError> {
    if planted::active(Bug::UnreadStays) {
        return Ok(log.total.messages);
    }
    let cursor: Option<CursorRow> = rows::get(reads, &rows::cursor(mailbox, id))?;
    let seen = match cursor {
        Some(cursor) if cursor.reached() >= log.head => log.total.messages,
        Some(cursor) if cursor.reached() > log.trimmed => {
            let entry: Option<EntryRow> = rows::get(reads, &rows::of_log(space::ENTRY, id, cursor.reached()))?;
            entry.map_or(log.trimmed_total.messages, |entry| entry.total.messages)
        }
        _ => log.trimmed_total.messages,
    };
    Ok(log.total.messages.saturating_sub(seen))
}

/// Of the logs after one of them, those whose oldest entry was written before a time; and the last one looked at, if
/// there are more.
///
/// # Errors
/// See [`account`].
pub fn stale_logs(
    reads: &dyn Reads,
    before: Wall,
    after: Option<LogId>,
    limit: usize,
) -> Result<(Vec<LogId>, Option<LogId>), StorageError> {
    let prefix = [space::LOG];
    let from = after.map_or_else(|| prefix.to_vec(), |log| rows::after(&rows::log(log)));
    let (mut stale, mut last) = (Vec::new(), None);
    let found = reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)?;
    let more = found.len() == limit;
    for (key, value) in found {
        let id = LogId::from_bytes(rows::rest(&key, prefix.len())?);
        last = Some(id);
        let log: LogRow = rows::read(&key, &value)?;
        let oldest = rows::of_log(space::ENTRY, id, log.trimmed.next());
        if log.entries() > 0 && rows::get::<EntryRow>(reads, &oldest)?.is_some_and(|entry| entry.at < before) {
            stale.push(id);
        }
    }
    Ok((stale, last.filter(|_| more)))
}

/// An owner's thread by participants tag.
///
/// # Errors
/// See [`account`].
pub fn thread_by_tag(
    reads: &dyn Reads,
    owner: AccountId,
    tag: ParticipantsTag,
) -> Result<Option<ThreadId>, StorageError> {
    rows::get(reads, &rows::tag(owner, tag))
}

/// Rows that wait for a peer, by key.
///
/// # Errors
/// See [`account`].
pub fn outbound(
    reads: &dyn Reads,
    peer: &Domain,
    after: Option<OutboundKey>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<Outbound>, StorageError> {
    let prefix = rows::of_peer(space::OUTBOUND, peer);
    let from = after.map_or_else(|| prefix.clone(), |key| rows::after(&rows::outbound(peer, key.log, key.sequence)));
    let (mut page, mut bytes) = (Vec::new(), 0);
    for (key, value) in reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)? {
        let named: [u8; 24] = rows::rest(&key, prefix.len())?;
        let (log, _) = named.split_at(16);
        let log = LogId::from_bytes(log.try_into().map_err(|_| rows::damaged(&key, "no log"))?);
        let sequence = rows::sequence_of(&key)?;
        let body = match (value.is_empty(), sequence) {
            (true, _) => entry(reads, log, sequence)?,
            (false, Sequence::ZERO) => opening(reads, &key, &value)?,
            (false, _) => commit(reads, log, (&key, &value))?,
        };
        bytes += match &body {
            Some(ForwardBody::Opening(_, opening)) => opening.welcome.len() + opening.tree.len(),
            Some(ForwardBody::Envelope(_, envelope)) => envelope.body.len(),
            Some(ForwardBody::Commit(accepted, arrivals)) => {
                let bodies = arrivals.as_ref().map(|arrivals| &arrivals.newcomers);
                accepted.commit.bytes.len() + bodies.map_or(0, |bodies| bodies.welcome.len() + bodies.tree.len())
            }
            None => 0,
        };
        if bytes > bytes_max && !page.is_empty() {
            break;
        }
        page.push(Outbound { key: OutboundKey { log, sequence }, body });
    }
    Ok(page)
}

fn entry(reads: &dyn Reads, log: LogId, sequence: Sequence) -> Result<Option<ForwardBody>, StorageError> {
    let row: Option<EntryRow> = rows::get(reads, &rows::of_log(space::ENTRY, log, sequence))?;
    Ok(match row.map(|row| row.body) {
        Some(EntryBody::Envelope(author, envelope)) => Some(ForwardBody::Envelope(author, envelope)),
        Some(
            EntryBody::Invitation(_) | EntryBody::Undelivered(_) | EntryBody::Friendship(_) | EntryBody::Commit(_),
        )
        | None => None,
    })
}

fn opening(reads: &dyn Reads, key: &[u8], value: &[u8]) -> Result<Option<ForwardBody>, StorageError> {
    let Invitation { thread, epoch, inviter, participants, welcome, tree, founding } = rows::read(key, value)?;
    let bytes = |id| blob(reads, id)?.ok_or_else(|| rows::damaged(key, "a blob of an opening is missing"));
    let opening = Opening {
        thread,
        epoch,
        participants,
        welcome: bytes(welcome)?,
        tree: bytes(tree)?,
        founding: founding.map(Box::new),
    };
    Ok(Some(ForwardBody::Opening(inviter, opening)))
}

/// From where commits are kept, whatever became of the log's entry. Nothing when it is forgotten there too.
fn commit(reads: &dyn Reads, log: LogId, (key, value): (&[u8], &[u8])) -> Result<Option<ForwardBody>, StorageError> {
    let OutgoingRow { epoch, invitation } = rows::read(key, value)?;
    let Some(row) = rows::get::<CommitRow>(reads, &rows::of_epoch(space::COMMIT, log, epoch))? else { return Ok(None) };
    let bytes = |id| blob(reads, id)?.ok_or_else(|| rows::damaged(key, "a blob of a commit is missing"));
    let arrivals = match invitation {
        Some(Invitation { participants, welcome, tree, founding: Some(founding), .. }) => {
            let newcomers = Newcomers { welcome: bytes(welcome)?, tree: bytes(tree)? };
            Some(Box::new(Arrivals { participants, founding, newcomers }))
        }
        _ => None,
    };
    Ok(Some(ForwardBody::Commit(row.accepted, arrivals)))
}

/// Peers with waiting rows, by domain.
///
/// # Errors
/// See [`account`].
pub fn waiting_peers(reads: &dyn Reads, after: Option<&Domain>, limit: usize) -> Result<Vec<Domain>, StorageError> {
    peers(reads, space::WAITING, after, limit)?.into_iter().map(|(key, _)| domain_of(&key)).collect()
}

/// Who peers must be, by domain.
///
/// # Errors
/// See [`account`].
pub fn pins(reads: &dyn Reads, after: Option<&Domain>, limit: usize) -> Result<Vec<(Domain, Pin)>, StorageError> {
    let pin = |(key, value): Row| Ok((domain_of(&key)?, rows::read(&key, &value)?));
    peers(reads, space::PIN, after, limit)?.into_iter().map(pin).collect()
}

fn peers(reads: &dyn Reads, space: u8, after: Option<&Domain>, limit: usize) -> Result<Vec<Row>, StorageError> {
    let from = after.map_or_else(|| vec![space], |peer| rows::after(&rows::of_peer(space, peer)));
    reads.scan(&from, &rows::end(&[space]), Order::Ascending, limit)
}

fn domain_of(key: &[u8]) -> Result<Domain, StorageError> {
    let text = key.get(1..key.len().saturating_sub(1)).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| rows::damaged(key, "no domain"))
}
