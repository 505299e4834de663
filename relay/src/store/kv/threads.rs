//! Threads: openings, envelopes, tags and touches, as rows.
//! Owns: the conditions of the commands about them, the full log, the outbound rows written with an entry.
//! Limits: the command's `LogBounds`, `limits::PUSH_OUT_ENTRIES_MAX`, `limits::LOG_IDS_REMEMBERED`, `limits::PEER_QUEUE_ROWS_MAX`,
//! `limits::ACCOUNT_THREADS_MAX`. Rules: docs/protocol/thread.md.

use std::collections::BTreeSet;
use std::sync::Arc;

use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::hub::FIRST_TERM;
use whimbrel_protocol::id::{DeviceId, Domain, EnvelopeId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, Invitation, LogRef};
use whimbrel_protocol::thread::{Class, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Overlay, Reads, StorageError};

use super::accounts::{known_account, owner_row};
use super::friends::{self, consents};
use super::rows::{self, CursorRow, EntryRow, FriendRow, Home, LogRow, Member, OwnRow, ThreadMeta, Total, space};
use super::trim::Pushed;
use super::{Decided, Fault, Recent, blobs, hub, public, trim};
use crate::store::command::{Append, Appended, LogBounds, OpenThread, Opened, Origin, TagThread, TouchThreads};
use crate::store::{Account, Conflict, Epochs, LogId, Outcome};

/// Of a full log one in so many entries goes at once.
const PUSH_OUT_SHARE: u64 = 128;

pub(super) fn open(rows: &mut Overlay<'_>, open: &OpenThread) -> Decided {
    let opening = &open.opening;
    let thread_key = rows::thread(opening.thread);
    let others: BTreeSet<Domain> =
        opening.participants.iter().map(|p| &p.domain).filter(|domain| **domain != open.local).cloned().collect();
    if let Some(known) = rows::get::<ThreadMeta>(rows, &thread_key)? {
        if known.fingerprint != open.fingerprint {
            return Err(Conflict::Differs.into());
        }
        let peers = Vec::new();
        return Ok(Outcome::Opened(Opened { log: known.log, readers: Vec::new(), inboxes: Vec::new(), peers }));
    }
    if let Some(tag) = open.tag
        && let Some(thread) = rows::get(rows, &rows::tag(open.creator.account, tag))?
    {
        return Ok(Outcome::Exists(thread));
    }
    let locals = conditions(rows, open)?;

    let epochs = Epochs::since(opening.epoch);
    let meta = ThreadMeta {
        log: open.log,
        epoch: opening.epoch,
        fingerprint: open.fingerprint,
        people: u32::try_from(opening.participants.len()).unwrap_or(u32::MAX),
        others: others.into_iter().collect(),
        gate: match opening.participants.len() {
            2 if opening.founding.as_deref().is_none_or(|founding| founding.fixed) => {
                locals.iter().map(|(local, _)| local.account).collect()
            }
            _ => Vec::new(),
        },
        hub: match &open.origin {
            Origin::Local => None,
            Origin::Peer(domain) => Some(domain.clone()),
        },
        founding: opening.founding.as_deref().copied(),
        term: FIRST_TERM,
        former: Vec::new(),
        last: None,
        first: opening.epoch,
        parted: None,
        aware: Vec::new(),
        public: open.public.as_deref().map(|saved| public::begin(rows, open.log, opening.epoch, saved)),
    };
    rows::put(rows, thread_key, &meta);
    rows::put(rows, rows::log(open.log), &LogRow::new(LogRef::Thread(opening.thread), open.at));
    let mut readers = Vec::new();
    for participant in &opening.participants {
        let account = locals.iter().find(|(local, _)| local.account == participant.account).map(|(_, account)| account);
        for index in &participant.devices {
            let id = DeviceId { account: participant.account, index: *index };
            let home = match account.and_then(|account| account.device(*index)) {
                Some(device) => Home::Here(device.mailbox),
                None => Home::Peer(participant.domain.clone()),
            };
            if let Home::Here(mailbox) = home {
                rows::put(rows, rows::cursor(mailbox, open.log), &CursorRow::new(Sequence::ZERO, epochs));
                readers.push((id, mailbox));
            }
            rows::put(rows, rows::member(open.log, id), &Member::new(epochs, home));
        }
    }
    let invitation = Invitation {
        thread: opening.thread,
        epoch: opening.epoch,
        inviter: open.creator,
        participants: opening.participants.clone(),
        welcome: open.welcome,
        tree: open.tree,
        founding: opening.founding.as_deref().copied(),
    };
    let mut inboxes = Vec::new();
    for (participant, account) in &locals {
        let creator = participant.account == open.creator.account;
        own_row(rows, open, participant, creator)?;
        // The creating device needs no Welcome; its siblings in the group do.
        if !creator || participant.devices.len() > 1 {
            notify(rows, account, EntryBody::Invitation(invitation.clone()), open.bounds, open.at)?;
            inboxes.push(account.inbox);
        }
    }
    let peers = if open.origin == Origin::Local { meta.others } else { Vec::new() };
    for peer in &peers {
        enqueue(rows, peer, open.log, Sequence::ZERO, canonical::encode(&invitation))?;
        blobs::name(rows, &invitation)?;
    }
    for (blob, bytes) in [(open.welcome, &opening.welcome), (open.tree, &opening.tree)] {
        blobs::keep(rows, blob, bytes)?;
    }
    Ok(Outcome::Opened(Opened { log: open.log, readers, inboxes, peers }))
}

/// Checks who opens and who is reached; gives the local participants.
fn conditions<'o>(reads: &dyn Reads, open: &'o OpenThread) -> Result<Vec<(&'o Participant, Account)>, Fault> {
    let creator_domain = match &open.origin {
        Origin::Local => &open.local,
        Origin::Peer(domain) => domain,
    };
    let participants = &open.opening.participants;
    let creator = participants.iter().find(|participant| participant.account == open.creator.account);
    let speaks =
        |creator: &Participant| creator.domain == *creator_domain && creator.devices.contains(&open.creator.index);
    if !creator.is_some_and(speaks) {
        return Err(Conflict::Malformed.into());
    }
    let mut locals = Vec::new();
    for participant in participants.iter().filter(|participant| participant.domain == open.local) {
        // Unknown accounts, unknown devices and strangers look alike.
        let account = known_account(reads, participant.account)?.ok_or(Conflict::NoConsent)?;
        let known = participant.devices.iter().all(|index| account.device(*index).is_some());
        let willing = participant.account == open.creator.account
            || consents(reads, participant.account, open.creator.account, creator_domain)?
            || planted::active(Bug::IgnoreConsent);
        if !known || !willing {
            return Err(Conflict::NoConsent.into());
        }
        if owner_row(reads, participant.account)?.threads as usize >= limits::ACCOUNT_THREADS_MAX {
            return Err(Conflict::Full.into());
        }
        locals.push((participant, account));
    }
    if locals.is_empty() { Err(Conflict::Malformed.into()) } else { Ok(locals) }
}

fn own_row(rows: &mut Overlay<'_>, open: &OpenThread, participant: &Participant, creator: bool) -> Result<(), Fault> {
    let tag = open.tag.filter(|_| creator);
    let row = OwnRow { tag, touched: open.at, log: open.log, settings: None };
    let lost = planted::active(Bug::RowLost) && participant.account.as_bytes().last().is_some_and(|one| *one % 2 == 0);
    if !lost {
        rows::put(rows, rows::row(participant.account, open.opening.thread), &row);
    }
    if let Some(tag) = tag {
        rows::put(rows, rows::tag(participant.account, tag), &open.opening.thread);
    }
    let mut owner = owner_row(rows, participant.account)?;
    owner.threads += 1;
    rows::put(rows, rows::of_account(space::OWNER, participant.account), &owner);
    Ok(())
}

/// Whether an account's inbox has room for this.
pub(super) fn takes(
    reads: &dyn Reads,
    account: &Account,
    body: &EntryBody,
    bounds: LogBounds,
) -> Result<bool, StorageError> {
    Ok(fits(&inbox(reads, account)?, size(body), bounds))
}

fn inbox(reads: &dyn Reads, account: &Account) -> Result<LogRow, StorageError> {
    let key = rows::log(account.inbox);
    rows::get(reads, &key)?.ok_or_else(|| rows::damaged(&key, "an inbox is missing"))
}

/// Puts something in an account's inbox.
pub(super) fn notify(
    rows: &mut Overlay<'_>,
    account: &Account,
    body: EntryBody,
    bounds: LogBounds,
    at: Wall,
) -> Result<(), Fault> {
    let mut log = inbox(rows, account)?;
    if !fits(&log, size(&body), bounds) {
        return Err(Conflict::Full.into());
    }
    if let EntryBody::Invitation(invitation) = &body {
        blobs::name(rows, invitation)?;
    }
    push(rows, account.inbox, &mut log, body, at);
    rows::put(rows, rows::log(account.inbox), &log);
    Ok(())
}

pub(super) fn append(rows: &mut Overlay<'_>, append: &Append, recent: &mut Recent) -> Decided {
    let envelope = &append.envelope;
    let mut thread: ThreadMeta = rows::get(rows, &rows::thread(envelope.thread))?.ok_or(Conflict::NotMember)?;
    let member: Option<Member> = rows::get(rows, &rows::member(thread.log, append.author))?;
    if let (Origin::Peer(_), true) = (&append.origin, thread.founding.is_some()) {
        if envelope.epoch > thread.epoch {
            // Whether the author is in it shows with the commit.
            return Err(Conflict::EpochAhead.into());
        }
        if envelope.epoch < thread.first {
            // Of before the group came here: for nobody here.
            let (log, peers, inboxes) = (thread.log, Vec::new(), Vec::new());
            return Ok(Outcome::Appended(Appended {
                log,
                sequence: Sequence::ZERO,
                new: false,
                peers,
                inboxes,
                untold: 0,
            }));
        }
    }
    let member = member.ok_or(Conflict::NotMember)?;
    if !speaks(&append.origin, &member.home) {
        return Err(Conflict::NotMember.into());
    }
    if let Some(sequence) = recent.find(rows, thread.log, append.id)? {
        let (peers, inboxes) = (Vec::new(), Vec::new());
        return Ok(Outcome::Appended(Appended { log: thread.log, sequence, new: false, peers, inboxes, untold: 0 }));
    }
    has_leaf(append, &thread, &member)?;
    is_timely(rows, append, &thread, &member)?;
    for reader in thread.gate.iter().filter(|reader| **reader != append.author.account) {
        let row = friends::row(rows, *reader, append.author.account)?;
        let kept_away = planted::active(Bug::IgnoreBlock);
        let may =
            |row: FriendRow| row.standing == Standing::Friends || (kept_away && row.standing == Standing::Blocked);
        if !row.is_some_and(may) {
            return Err(Conflict::NoConsent.into());
        }
    }
    let log_key = rows::log(thread.log);
    let mut log: LogRow = rows::get(rows, &log_key)?.ok_or_else(|| rows::damaged(&log_key, "a log is missing"))?;
    let body = EntryBody::Envelope(append.author, Arc::unwrap_or_clone(Arc::clone(envelope)));
    let Pushed { inboxes, untold } = make_room(rows, &mut log, &thread, size(&body), append)?;
    let sequence = push(rows, thread.log, &mut log, body, append.at);
    rows::put(rows, log_key, &log);

    rows.put(rows::of_log(space::TAIL, thread.log, sequence), append.id.as_bytes().to_vec());
    let dropped = match sequence.get().checked_sub(limits::LOG_IDS_REMEMBERED as u64) {
        Some(old) if old > 0 => {
            let key = rows::of_log(space::TAIL, thread.log, Sequence::new(old));
            let id = rows.get(&key)?.map(|value| rows::tail_id(&key, &value)).transpose()?;
            rows.delete(key);
            id
        }
        _ => None,
    };
    if let Origin::Peer(relay) = &append.origin
        && thread.learns(relay, envelope.epoch)
    {
        rows::put(rows, rows::thread(envelope.thread), &thread);
    }
    let peers = if append.origin == Origin::Local { thread.others } else { Vec::new() };
    for peer in &peers {
        enqueue(rows, peer, thread.log, sequence, Vec::new())?;
    }
    recent.add(thread.log, append.id, sequence, dropped);
    Ok(Outcome::Appended(Appended { log: thread.log, sequence, new: true, peers, inboxes, untold }))
}

/// Whether the word of this origin counts for somebody who lives there.
pub(super) fn speaks(origin: &Origin, home: &Home) -> bool {
    match (origin, home) {
        (Origin::Local, Home::Here(_)) => true,
        (Origin::Peer(domain), Home::Peer(home)) => domain == home || planted::active(Bug::PeerSpeaksForAll),
        (Origin::Peer(_), Home::Here(_)) => planted::active(Bug::PeerSpeaksForAll),
        _ => false,
    }
}

/// Whether its author's relay took an envelope before it had the commit that took the author's leaf. Of its own users a relay
/// knows; a peer is believed as long as nothing it forwarded before shows that it knew.
fn has_leaf(append: &Append, thread: &ThreadMeta, member: &Member) -> Result<(), Fault> {
    let epoch = append.envelope.epoch;
    let lost = match &append.origin {
        Origin::Local => member.epochs.last.or(member.epochs.lost(epoch)).is_some(),
        Origin::Peer(relay) => member.epochs.lost(epoch).is_some_and(|last| thread.was_aware(relay, last)),
    };
    if lost && !planted::active(Bug::IgnoreLeaf) { Err(Conflict::Removed.into()) } else { Ok(()) }
}

/// Whether an envelope is of an epoch its author had a leaf in and that its readers can still open.
fn is_timely(reads: &dyn Reads, append: &Append, thread: &ThreadMeta, member: &Member) -> Result<(), Fault> {
    let epoch = append.envelope.epoch;
    if epoch > thread.epoch && thread.founding.is_some() {
        return Err(Conflict::EpochAhead.into());
    }
    let behind = thread.epoch.get().saturating_sub(epoch.get());
    let open = match &append.origin {
        _ if epoch == thread.epoch => true,
        // What its author was told is stored is not refused for having been on its way.
        Origin::Peer(_) => thread.founding.is_some(),
        Origin::Local => {
            behind <= limits::PAST_EPOCHS_MAX as u64 && hub::is_recent(reads, thread.log, epoch, append.at)?
        }
    };
    if open && epoch <= thread.epoch && member.epochs.contain(epoch) {
        Ok(())
    } else {
        Err(Conflict::StaleEpoch.into())
    }
}

/// Between two, the oldest mail stays and the author is told; in a larger thread one who is away must not stop the
/// others, so the oldest goes, and the author of what a peer or a device here still waited for is told. Gives who
/// was told.
///
/// Who waits is asked of every member, so more goes at once than is needed: less than a hundredth of the log.
fn make_room(
    rows: &mut Overlay<'_>,
    log: &mut LogRow,
    thread: &ThreadMeta,
    bytes: u64,
    append: &Append,
) -> Result<Pushed, Fault> {
    let (id, bounds, at) = (thread.log, append.bounds, append.at);
    let told = trim::PushOut { local: &append.local, peers: &thread.others, bounds, at };
    let mut all = Pushed::default();
    while !fits(log, bytes, bounds) {
        let pushed = match thread.people <= 2 || log.trimmed >= log.head {
            true => None,
            false => {
                let step = (log.entries() / PUSH_OUT_SHARE).clamp(1, limits::PUSH_OUT_ENTRIES_MAX);
                let upto = Sequence::new(log.trimmed.get().saturating_add(step));
                // Nothing is told of what stays.
                let mut trial = Overlay::new(rows);
                let pushed = trim::push_out(&mut trial, id, log, upto, told)?;
                let trial = trial.into_changes();
                if pushed.is_some() {
                    rows.absorb(trial);
                }
                pushed
            }
        };
        match pushed {
            Some(pushed) => all.add(pushed),
            None if fits(log, bytes, room_for(&append.origin, bounds)) => break,
            None => return Err(Conflict::Full.into()),
        }
    }
    Ok(all)
}

/// What a log may hold for an envelope of this origin that nothing may go for. More for what a peer forwards: if it had to
/// wait for what waits for that very peer, two full relays would refuse each other for as long as both hold. What own users
/// hand in never fills more than the bound, so one of the two has room for all that the other's have.
fn room_for(origin: &Origin, bounds: LogBounds) -> LogBounds {
    match origin {
        Origin::Local => bounds,
        Origin::Peer(_) => forwarded(bounds),
    }
}

/// What a log may hold of what another relay forwards.
pub(super) fn forwarded(bounds: LogBounds) -> LogBounds {
    LogBounds {
        entries_max: bounds.entries_max.saturating_mul(limits::LOG_FORWARDED_SHARE),
        bytes_max: bounds.bytes_max.saturating_mul(limits::LOG_FORWARDED_SHARE),
    }
}

fn fits(log: &LogRow, bytes: u64, bounds: LogBounds) -> bool {
    log.entries() < bounds.entries_max && log.bytes().saturating_add(bytes) <= bounds.bytes_max
}

/// What an entry counts against its log's bound: its body, and a little for its rows.
fn size(body: &EntryBody) -> u64 {
    const ROWS: usize = 128;
    let bytes = match body {
        EntryBody::Envelope(_, envelope) => envelope.body.len(),
        EntryBody::Invitation(invitation) => invitation.participants.len() * 64,
        EntryBody::Undelivered(undelivered) => undelivered.envelopes.len() * EnvelopeId::LEN,
        EntryBody::Friendship(word) => word.len(),
        // Kept outside of the bound: without it nobody can go on.
        EntryBody::Commit(_) => 0,
    };
    (bytes + ROWS) as u64
}

pub(super) fn push(rows: &mut Overlay<'_>, id: LogId, log: &mut LogRow, body: EntryBody, at: Wall) -> Sequence {
    let message = match &body {
        EntryBody::Envelope(_, envelope) => envelope.class == Class::Message,
        EntryBody::Invitation(_) | EntryBody::Undelivered(_) | EntryBody::Friendship(_) | EntryBody::Commit(_) => false,
    };
    log.head = log.head.next();
    log.updated = log.updated.max(at);
    log.total =
        Total { bytes: log.total.bytes.saturating_add(size(&body)), messages: log.total.messages + u64::from(message) };
    rows::put(rows, rows::of_log(space::ENTRY, id, log.head), &EntryRow { total: log.total, body, at });
    log.head
}

/// Writes a row for a peer: what is written with it is not forgotten for it.
pub(super) fn enqueue(
    rows: &mut Overlay<'_>,
    peer: &Domain,
    log: LogId,
    sequence: Sequence,
    value: Vec<u8>,
) -> Result<(), Fault> {
    let key = rows::of_peer(space::WAITING, peer);
    let waiting: u64 = rows::get(rows, &key)?.unwrap_or(0);
    if waiting >= limits::PEER_QUEUE_ROWS_MAX {
        return Err(Conflict::Full.into());
    }
    if planted::active(Bug::ForgetForward) && waiting > 0 {
        return Ok(());
    }
    rows::put(rows, key, &(waiting + 1));
    rows.put(rows::outbound(peer, log, sequence), value);
    Ok(())
}

pub(super) fn tag(rows: &mut Overlay<'_>, command: &TagThread) -> Decided {
    let row_key = rows::row(command.owner, command.thread);
    let mut row: OwnRow = rows::get(rows, &row_key)?.ok_or(Conflict::NotFound)?;
    if row.tag == Some(command.tag) {
        return Ok(Outcome::Done);
    }
    let tag_key = rows::tag(command.owner, command.tag);
    if rows::get::<whimbrel_protocol::id::ThreadId>(rows, &tag_key)?.is_none() {
        rows::put(rows, tag_key, &command.thread);
    }
    if let Some(old) = row.tag {
        let old_key = rows::tag(command.owner, old);
        if rows::get(rows, &old_key)? == Some(command.thread) {
            rows.delete(old_key);
        }
    }
    row.tag = Some(command.tag);
    rows::put(rows, row_key, &row);
    Ok(Outcome::Done)
}

pub(super) fn touch(rows: &mut Overlay<'_>, command: &TouchThreads) -> Decided {
    for thread in &command.threads {
        let key = rows::row(command.owner, *thread);
        if let Some(mut row) = rows::get::<OwnRow>(rows, &key)?
            && row.touched < command.at
        {
            row.touched = command.at;
            rows::put(rows, key, &row);
        }
    }
    Ok(Outcome::Done)
}
