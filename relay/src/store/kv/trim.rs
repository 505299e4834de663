//! Trim: cursors move, peers answer, and what every reader has goes.
//! Owns: cursor rows, the deletion of entries and outbound rows, and the notice to the author of what somebody never got.
//! Never: drops an entry that a local device or a peer still waits for, but for what is too old and what a full log (`threads`)
//! pushes out; its author is told of that where their inbox has room.
//! Limits: `limits::TRIM_ENTRIES_MAX`, `limits::PUSH_OUT_ENTRIES_MAX`. Rules: docs/protocol/hold.md, thread.md.

use std::collections::BTreeSet;

use whimbrel_protocol::id::{AccountId, DeviceId, Domain, EnvelopeId, Epoch, Sequence, ThreadId};
use whimbrel_protocol::push::{EntryBody, Invitation, LogRef, Undelivered};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{RefusalCode, limits};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::accounts::known_account;
use super::hub::{MEMBERS_MAX, members};
use super::rows::{self, CommitRow, CursorRow, EntryRow, Home, LogRow, Member, OutgoingRow, OwnRow, ThreadMeta, space};
use super::{Decided, Fault, blobs, threads};
use crate::store::command::people::Expire;
use crate::store::command::{CursorMove, Forwarded, LogBounds, Trim};
use crate::store::{Conflict, Epochs, LogId, MailboxId, OutboundKey, Outcome};

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
    Ok(log.trimmed < everybody_has)
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
            && !cursor.is_done()
        {
            least = least.min(cursor.reached());
            most = most.max(cursor.reached());
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
    let thread: Option<ThreadMeta> = rows::get(reads, &rows::thread(thread))?;
    Ok(thread.map(|thread| [thread.others, thread.former].concat()).unwrap_or_default())
}

/// Drops entries up to a place that exists, of an inbox perhaps fewer ([`blobs::drop_inbox`]); the caller writes the
/// log's row.
pub(super) fn drop_upto(
    rows: &mut Overlay<'_>,
    id: LogId,
    log: &mut LogRow,
    upto: Sequence,
) -> Result<(), StorageError> {
    if log.which == LogRef::Inbox {
        let dropped = blobs::drop_inbox(rows, id, (log.trimmed, upto), usize::MAX)?;
        let (place, last) = dropped
            .last
            .filter(|(place, _)| dropped.more || *place == upto)
            .ok_or_else(|| rows::damaged(&rows::log(id), "an entry of an inbox is missing"))?;
        log.trimmed = place;
        log.trimmed_total = last.total;
        return Ok(());
    }
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
    let Forwarded { peer, rows: taken, refused, unknown, at, bounds } = command;
    let mut logs = BTreeSet::new();
    for row in taken {
        if drop_outbound(rows, peer, *row)?.is_some() {
            logs.insert(row.log);
        }
    }
    let (mut kept, mut never) = (Vec::new(), Vec::new());
    for row in unknown {
        match has_third_relay(rows, row.log)? {
            true => kept.push(*row),
            false => never.push((*row, RefusalCode::NotFound)),
        }
    }
    let mut notices = Notices::default();
    for (row, code) in refused.iter().chain(&never) {
        let key = rows::outbound(peer, row.log, row.sequence);
        if let Some(value) = rows.get(&key)?
            && let Some(lost) = lost(rows, *row, (&key, &value))?
        {
            notices.add(peer, *code, *row, lost);
        }
    }
    let mut inboxes = Vec::new();
    for notice in notices.0 {
        match notify_author(rows, notice.author.account, &notice.body, *bounds, *at)? {
            Told::NoRoom => {
                kept.extend(notice.rows);
                continue;
            }
            Told::In(inbox) => inboxes.push(inbox),
            Told::Nobody => {}
        }
        if notice.body.envelopes.is_empty() {
            forget_tag(rows, peer, &notice)?;
        }
        for row in notice.rows {
            drop_outbound(rows, peer, row)?;
            logs.insert(row.log);
        }
    }
    for id in logs {
        if let Some(mut log) = rows::get::<LogRow>(rows, &rows::log(id))? {
            trim_log(rows, id, &mut log)?;
        }
    }
    Ok(Outcome::Forwarded { inboxes, kept })
}

/// Whether a peer may hear of a thread from another relay than this one.
fn has_third_relay(reads: &dyn Reads, id: LogId) -> Result<bool, StorageError> {
    let Some(log) = rows::get::<LogRow>(reads, &rows::log(id))? else { return Ok(false) };
    let LogRef::Thread(thread) = log.which else { return Ok(false) };
    let thread: Option<ThreadMeta> = rows::get(reads, &rows::thread(thread))?;
    Ok(thread.is_some_and(|thread| thread.others.len() > 1))
}

/// Takes a row for a peer away, if it is there: gives what it held.
fn drop_outbound(rows: &mut Overlay<'_>, peer: &Domain, row: OutboundKey) -> Result<Option<Vec<u8>>, StorageError> {
    let key = rows::outbound(peer, row.log, row.sequence);
    let value = rows.get(&key)?;
    if let Some(value) = &value {
        if let Some(invitation) = rows::invitation(&key, value)? {
            blobs::unname(rows, &invitation)?;
        }
        rows.delete(key);
        let key = rows::of_peer(space::WAITING, peer);
        let waiting: u64 = rows::get(rows, &key)?.unwrap_or(0);
        match waiting.saturating_sub(1) {
            0 => rows.delete(key),
            left => rows::put(rows, key, &left),
        }
    }
    Ok(value)
}

/// What a peer will not have.
struct Lost {
    author: DeviceId,
    thread: ThreadId,
    /// Nothing: the opening.
    envelope: Option<EnvelopeId>,
    /// Whether everybody but its creator would have been there.
    only_there: Option<Domain>,
}

/// What an outbound row stands for; nothing when its entry is gone.
fn lost(reads: &dyn Reads, row: OutboundKey, (key, value): (&[u8], &[u8])) -> Result<Option<Lost>, StorageError> {
    if !value.is_empty() && row.sequence > Sequence::ZERO {
        // Nobody misses a word for it; that its peer will not have it is for the operator to see.
        let outgoing: OutgoingRow = rows::read(key, value)?;
        let commit = rows::get::<CommitRow>(reads, &rows::of_epoch(space::COMMIT, row.log, outgoing.epoch))?;
        return Ok(commit.map(|row| Lost {
            author: row.accepted.author,
            thread: row.accepted.commit.thread,
            envelope: Some(EnvelopeId::of(&row.accepted.commit.bytes)),
            only_there: None,
        }));
    }
    if !value.is_empty() {
        let Invitation { thread, inviter: author, participants, .. } = rows::read(key, value)?;
        let mut others = participants.into_iter().filter(|one| one.account != author.account).map(|one| one.domain);
        let only_there = others.next().filter(|first| others.all(|other| other == *first));
        return Ok(Some(Lost { author, thread, envelope: None, only_there }));
    }
    let entry: Option<EntryRow> = rows::get(reads, &rows::of_log(space::ENTRY, row.log, row.sequence))?;
    Ok(match entry.map(|entry| entry.body) {
        Some(EntryBody::Envelope(author, envelope)) => {
            Some(Lost { author, thread: envelope.thread, envelope: Some(envelope.id()), only_there: None })
        }
        _ => None,
    })
}

/// A notice to an author, with the rows that go when it is written.
struct Notice {
    author: DeviceId,
    body: Undelivered,
    rows: Vec<OutboundKey>,
    only_there: Option<Domain>,
}

/// Notices under way: what one author lost in one thread for one reason is one notice.
#[derive(Default)]
struct Notices(Vec<Notice>);

impl Notices {
    fn add(&mut self, peer: &Domain, code: RefusalCode, row: OutboundKey, lost: Lost) {
        let Lost { author, thread, envelope, only_there } = lost;
        let same = |notice: &&mut Notice| {
            let Undelivered { thread: of, domain, code: why, envelopes } = &notice.body;
            let room = !envelopes.is_empty() && envelopes.len() < limits::UNDELIVERED_MAX;
            notice.author == author && *of == thread && *domain == *peer && *why == code && room
        };
        match (envelope, self.0.iter_mut().find(same)) {
            (Some(envelope), Some(notice)) => {
                notice.body.envelopes.push(envelope);
                notice.rows.push(row);
            }
            (envelope, _) => {
                let envelopes = envelope.into_iter().collect();
                let body = Undelivered { thread, domain: peer.clone(), code, envelopes };
                self.0.push(Notice { author, body, rows: vec![row], only_there });
            }
        }
    }
}

/// What became of a notice.
enum Told {
    In(LogId),
    /// The author does not live here.
    Nobody,
    NoRoom,
}

fn notify_author(
    rows: &mut Overlay<'_>,
    author: AccountId,
    body: &Undelivered,
    bounds: LogBounds,
    at: Wall,
) -> Result<Told, StorageError> {
    let Some(account) = known_account(rows, author)? else { return Ok(Told::Nobody) };
    match threads::notify(rows, &account, EntryBody::Undelivered(body.clone()), bounds, at) {
        Ok(()) => Ok(Told::In(account.inbox)),
        Err(Fault::Conflict(_)) => Ok(Told::NoRoom),
        Err(Fault::Storage(error)) => Err(error),
    }
}

/// The only other relay of a thread will not have it: the creator may open another with these people.
fn forget_tag(rows: &mut Overlay<'_>, peer: &Domain, notice: &Notice) -> Result<(), StorageError> {
    let owner = notice.author.account;
    let key = rows::row(owner, notice.body.thread);
    if notice.only_there.as_ref() == Some(peer)
        && let Some(mut row) = rows::get::<OwnRow>(rows, &key)?
        && let Some(tag) = row.tag.take()
    {
        rows.delete(rows::tag(owner, tag));
        rows::put(rows, key, &row);
    }
    Ok(())
}

/// Drops what was written before a time, whoever still lacks it.
pub(super) fn expire(rows: &mut Overlay<'_>, command: &Expire) -> Decided {
    let Expire { log: id, before, local, at, bounds } = command;
    let nothing = || Ok(Outcome::Expired { entries: 0, inboxes: Vec::new() });
    let key = rows::log(*id);
    let Some(log) = rows::get::<LogRow>(rows, &key)? else { return nothing() };
    // What everybody has goes without a word.
    let had = all_have(rows, *id, &log)?;
    let first = log.trimmed.next();
    let from = rows::of_log(space::ENTRY, *id, first);
    let end = rows::after(&rows::of_log(space::ENTRY, *id, Sequence::new(u64::MAX)));
    let (mut upto, mut notices) = (log.trimmed, Notices::default());
    for (entry_key, value) in rows.scan(&from, &end, Order::Ascending, limits::TRIM_ENTRIES_MAX as usize)? {
        let entry: EntryRow = rows::read(&entry_key, &value)?;
        if entry.at >= *before {
            break;
        }
        upto = rows::sequence_of(&entry_key)?;
        let told = upto > had && !planted::active(Bug::ExpirySilent);
        if let (EntryBody::Envelope(author, envelope), true) = (&entry.body, told) {
            let (thread, envelope) = (envelope.thread, Some(envelope.id()));
            let lost = Lost { author: *author, thread, envelope, only_there: None };
            notices.add(local, RefusalCode::Expired, OutboundKey { log: *id, sequence: upto }, lost);
        }
    }
    if upto == log.trimmed {
        return nothing();
    }
    let peers = peers_of(rows, &log)?;
    // An opening is older than any entry: a peer that still waits for it does so for too long.
    let opening = OutboundKey { log: *id, sequence: Sequence::ZERO };
    for peer in &peers {
        let key = rows::outbound(peer, *id, Sequence::ZERO);
        if let Some(value) = rows.get(&key)?
            && let Some(lost) = lost(rows, opening, (&key, &value))?
        {
            notices.add(peer, RefusalCode::Expired, opening, lost);
        }
    }
    let mut inboxes = Vec::new();
    for notice in notices.0 {
        match notify_author(rows, notice.author.account, &notice.body, *bounds, *at)? {
            Told::NoRoom => return Err(Conflict::Full.into()),
            Told::In(inbox) => inboxes.push(inbox),
            Told::Nobody => {}
        }
        if notice.body.envelopes.is_empty() {
            forget_tag(rows, &notice.body.domain, &notice)?;
            drop_outbound(rows, &notice.body.domain, opening)?;
        }
    }
    for peer in peers {
        let from = rows::outbound(&peer, *id, first);
        let end = rows::after(&rows::outbound(&peer, *id, upto));
        for (row_key, value) in rows.scan(&from, &end, Order::Ascending, limits::TRIM_ENTRIES_MAX as usize)? {
            if !value.is_empty() {
                // A commit is kept for longer, and without it the peer cannot go on.
                continue;
            }
            drop_outbound(rows, &peer, OutboundKey { log: *id, sequence: rows::sequence_of(&row_key)? })?;
        }
    }
    // A notice may have grown this very log, if it is the author's inbox.
    let mut log: LogRow = rows::get(rows, &key)?.ok_or_else(|| rows::damaged(&key, "a log is missing"))?;
    let before = log.trimmed;
    drop_upto(rows, *id, &mut log, upto)?;
    let entries = log.trimmed.get() - before.get();
    rows::put(rows, key, &log);
    Ok(Outcome::Expired { entries, inboxes })
}

/// A device here and what of a log is for it.
struct Reader {
    device: DeviceId,
    epochs: Epochs,
    cursor: CursorRow,
}

impl Reader {
    /// Whether an entry is for it and it has not said to have it. What it said lately may not be written yet
    /// (`limits::CURSOR_WRITE_DELAY`): then it counts as missing, which tells an author too much, never too little.
    fn lacks(&self, place: Sequence, author: DeviceId, epoch: Epoch) -> bool {
        let waits = self.cursor.reached() < place && self.cursor.end.is_none_or(|end| place <= end);
        waits && self.device != author && self.epochs.contain(epoch)
    }
}

fn readers_here(reads: &dyn Reads, id: LogId) -> Result<Vec<Reader>, StorageError> {
    let mut readers = Vec::new();
    for (device, member) in members(reads, id)? {
        if let Home::Here(mailbox) = member.home
            && let Some(cursor) = rows::get::<CursorRow>(reads, &rows::cursor(mailbox, id))?
        {
            readers.push(Reader { device, epochs: member.epochs, cursor });
        }
    }
    Ok(readers)
}

/// Who is told when a full log drops its oldest entries, and by what bounds.
#[derive(Clone, Copy)]
pub(super) struct PushOut<'a> {
    /// The domain served here.
    pub(super) local: &'a Domain,
    /// The other relays of the thread.
    pub(super) peers: &'a [Domain],
    /// Bounds of an inbox.
    pub(super) bounds: LogBounds,
    /// The present.
    pub(super) at: Wall,
}

/// What went of a full log, and who was told.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// The inboxes that got a notice.
    pub(super) inboxes: Vec<LogId>,
    /// Envelopes that devices here lacked and of which their author's inbox had no room to say so.
    pub(super) untold: u64,
}

impl Pushed {
    /// More went.
    pub(super) fn add(&mut self, more: Self) {
        self.inboxes.extend(more.inboxes);
        self.untold += more.untold;
    }
}

/// Drops the oldest entries of a log to make room, at most `limits::PUSH_OUT_ENTRIES_MAX` of them; a local author is told
/// of each that a peer or another device here still waited for. Gives who was told, or nothing when an inbox
/// has no room for what a peer waited for: then nothing may be dropped. What devices here alone lack goes without a word
/// then, or one who empties no inbox could stop a group.
pub(super) fn push_out(
    rows: &mut Overlay<'_>,
    id: LogId,
    log: &mut LogRow,
    upto: Sequence,
    PushOut { local, peers, bounds, at }: PushOut<'_>,
) -> Result<Option<Pushed>, StorageError> {
    let mut notices = Notices::default();
    let first = log.trimmed.next();
    for peer in peers {
        let from = rows::outbound(peer, id, first);
        let end = rows::after(&rows::outbound(peer, id, upto));
        for (key, value) in rows.scan(&from, &end, Order::Ascending, limits::PUSH_OUT_ENTRIES_MAX as usize)? {
            let row = OutboundKey { log: id, sequence: rows::sequence_of(&key)? };
            if !value.is_empty() {
                // A commit is kept elsewhere, and goes out all the same.
                continue;
            }
            match lost(rows, row, (&key, &value))? {
                Some(_) if planted::active(Bug::TrimSilent) => drop(drop_outbound(rows, peer, row)?),
                Some(lost) => notices.add(peer, RefusalCode::Full, row, lost),
                None => {}
            }
        }
    }
    let readers = readers_here(rows, id)?;
    let (from, end) = (rows::of_log(space::ENTRY, id, first), rows::after(&rows::of_log(space::ENTRY, id, upto)));
    for (key, value) in rows.scan(&from, &end, Order::Ascending, limits::PUSH_OUT_ENTRIES_MAX as usize)? {
        let sequence = rows::sequence_of(&key)?;
        if let EntryBody::Envelope(author, envelope) = rows::read::<EntryRow>(&key, &value)?.body
            && readers.iter().any(|reader| reader.lacks(sequence, author, envelope.epoch))
            && !planted::active(Bug::TrimSilent)
        {
            let lost = Lost { author, thread: envelope.thread, envelope: Some(envelope.id()), only_there: None };
            notices.add(local, RefusalCode::Full, OutboundKey { log: id, sequence }, lost);
        }
    }
    let mut pushed = Pushed::default();
    for notice in notices.0 {
        match notify_author(rows, notice.author.account, &notice.body, bounds, at)? {
            // Its author's own node says what nobody said to have, where receipts are kept (message 20).
            Told::NoRoom if notice.body.domain == *local => pushed.untold += notice.body.envelopes.len() as u64,
            Told::NoRoom => return Ok(None),
            Told::In(inbox) if pushed.inboxes.contains(&inbox) => {}
            Told::In(inbox) => pushed.inboxes.push(inbox),
            Told::Nobody => {}
        }
        for row in notice.rows {
            // Of this relay itself there is none.
            drop_outbound(rows, &notice.body.domain, row)?;
        }
    }
    drop_upto(rows, id, log, upto)?;
    Ok(Some(pushed))
}
