//! Receive: an entry of a log, or an envelope of a direct link, from the wire to the eye.
//! In order: drop what was seen, open, keep (text, dedup, group state, place in one batch), show, acknowledge.
//! A failed opening leaves no trace but its record. Rules: docs/protocol/push.md, hold.md, message.md.

use std::collections::BTreeSet;

use whimbrel_crypto::{Context, Engine, EngineError, Opened};
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::id::{DeviceId, EnvelopeId, Epoch, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Target};
use whimbrel_protocol::push::{EntryBody, LogRef, Push};
use whimbrel_protocol::thread::Envelope;
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::commit::Course;
use super::{
    about, ahead, audit, befriend, commit, connect, direct, dropped, facts, herald, join, pass, picture, read,
    receipts, repair, resend, send, witness,
};
use crate::api::{Event, Message, Path};
use crate::contacts;
use crate::friendship;
use crate::push;
use crate::rooms::Turn;
use crate::rows::{
    self, EnvelopeRow, MessageRow, ParkedRow, ParkedTotals, PlaceRow, SeenRow, Single, StateRow, ThreadRow,
    ThreadState, UnreadableRow,
};
use crate::thread;
use crate::timers::Timer;

/// What became of an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Opened and kept.
    Taken,
    /// Here already.
    Seen,
    /// Of a thread this device is not in (yet).
    Stranger,
    /// Of an epoch this device has not reached: a change is still to come.
    Ahead,
    /// Could not be opened, for this reason; nothing was changed.
    Unreadable(&'static str),
    /// Sealed by this very device, which does not know it: the store is an old copy.
    UnknownOwn,
}

/// A run of entries. The place moves with what is durable; what lies before it is only acknowledged again.
pub(crate) fn pushed<E: Engine>(t: &mut Turn<'_, E>, run: Push) -> Result<(), StorageError> {
    let place = push::place(&t.rows, run.log)?;
    if run.after > place && !planted::active(Bug::MovePastGap) {
        if t.rooms.reception.admitted().is_none() {
            // An old copy is behind, too. Whether this store is one is asked already; then it is seen to.
            t.rooms.reception.gap |= !t.rooms.push.stalled.contains(&run.log);
            return Ok(());
        }
        // Entries between are missing. The relay pushes without gaps on a link, so only a new link mends it.
        if !t.rooms.push.stalled.contains(&run.log) {
            connect::abandon(t, "the relay left out entries")?;
        }
        return Ok(());
    }
    if let Some(gone) = run.gone {
        dropped::heard(t, run.log, gone, place)?;
    }
    let mut upto = place.max(run.upto);
    let count = run.entries.len();
    for entry in run.entries {
        if entry.sequence <= place {
            continue;
        }
        if !take_entry(t, run.log, entry.sequence, entry.body)? {
            upto = Sequence::new(entry.sequence.get().saturating_sub(1)).max(place);
            t.rooms.push.stalled.insert(run.log);
            break;
        }
    }
    if upto > place {
        push::set_place(&mut t.rows, run.log, upto);
    }
    // Never beyond what this link pushed: the relay would not take it.
    let mut here = upto.min(run.upto);
    if run.log == LogRef::Inbox {
        t.rooms.hold.withhold(here);
        here = here.min(t.rooms.threads.settled());
    }
    gather(t, run.log, here, count);
    join::begin_all(t)
}

/// What an invitation named is here, or not wanted any more.
pub(crate) fn settled<E: Engine>(t: &mut Turn<'_, E>) {
    let upto = t.rooms.hold.withheld().min(t.rooms.threads.settled());
    if upto > Sequence::ZERO {
        gather(t, LogRef::Inbox, upto, 0);
    }
}

fn gather<E: Engine>(t: &mut Turn<'_, E>, log: LogRef, upto: Sequence, entries: usize) {
    if t.rooms.hold.note(log, upto, entries) {
        acknowledge(t);
    } else if !t.rooms.timers.is_set(Timer::Acknowledge) {
        t.rooms.timers.set(Timer::Acknowledge, t.now.monotonic.plus(limits::ACK_DELAY));
    }
}

/// Acknowledges everything gathered. The step's outputs leave when its batch is durable, and all before it are.
pub(crate) fn acknowledge<E: Engine>(t: &mut Turn<'_, E>) {
    t.rooms.timers.clear(Timer::Acknowledge);
    if let Some(link) = t.rooms.reception.admitted()
        && let Some(frame) = t.rooms.hold.take()
    {
        t.send(link, frame);
    }
}

/// One entry. Says whether the place may move past it.
fn take_entry<E: Engine>(
    t: &mut Turn<'_, E>,
    log: LogRef,
    place: Sequence,
    body: EntryBody,
) -> Result<bool, StorageError> {
    match (log, body) {
        (LogRef::Inbox, EntryBody::Invitation(invitation)) => join::invited(t, place, invitation).map(|()| true),
        (LogRef::Inbox, EntryBody::Undelivered(words)) => send::undelivered(t, words).map(|()| true),
        (LogRef::Inbox, EntryBody::Friendship(word)) => befriend::heard(t, word).map(|()| true),
        (LogRef::Thread(thread), EntryBody::Envelope(submitter, envelope)) => {
            if envelope.thread != thread {
                unreadable(t, thread, envelope.id(), "of another thread")?;
                return Ok(true);
            }
            take_logged(t, submitter, envelope)
        }
        (LogRef::Inbox, EntryBody::Envelope(_, envelope)) => {
            unreadable(t, envelope.thread, envelope.id(), "in the wrong log").map(|()| true)
        }
        (LogRef::Thread(thread), EntryBody::Invitation(invitation)) => {
            unreadable(t, thread, EnvelopeId::from_bytes(*invitation.welcome.as_bytes()), "in the wrong log")
                .map(|()| true)
        }
        (LogRef::Thread(thread), EntryBody::Commit(accepted)) if accepted.commit.thread == thread => {
            let change = ParkedRow { submitter: accepted.author, envelope: None, change: Some(accepted) };
            if t.rooms.threads.unparking.contains(&thread) {
                return park(t, thread, change);
            }
            if ahead::lets_pass(t, &thread, &change)? {
                return ahead::put_aside(t, thread, change);
            }
            if let Some(accepted) = &change.change
                && commit::take(t, accepted)? == Course::Done
            {
                commit::look_after(t, &accepted.commit)?;
                ahead::look_again(t, thread)?;
                return Ok(true);
            }
            hold_back(t, thread)?;
            park(t, thread, change)
        }
        (_, EntryBody::Commit(accepted)) => {
            let id = EnvelopeId::from_bytes(*accepted.commit.hash().as_bytes());
            unreadable(t, accepted.commit.thread, id, "in the wrong log").map(|()| true)
        }
        // It names nothing that could be opened.
        (LogRef::Thread(_), EntryBody::Undelivered(_) | EntryBody::Friendship(_)) => Ok(true),
    }
}

fn take_logged<E: Engine>(t: &mut Turn<'_, E>, submitter: DeviceId, envelope: Envelope) -> Result<bool, StorageError> {
    let (thread, id) = (envelope.thread, envelope.id());
    if t.rooms.threads.unparking.contains(&thread) {
        return park(t, thread, ParkedRow { submitter, envelope: Some(envelope), change: None });
    }
    match open(t, &envelope, Some(submitter), None)? {
        Fate::Taken => {}
        Fate::Seen => {
            // Our own come back to us: then the relay has them, whether or not its answer arrived.
            let order = t.rooms.outbox.lanes.get(&thread).and_then(|lane| lane.find(&id));
            if let Some(order) = order {
                send::finish(t, thread, order, StateRow::Stored)?;
            }
            own_late(t, &envelope, &id)?;
            owe_again(t, thread, submitter, &id)?;
        }
        Fate::Stranger => return park(t, thread, ParkedRow { submitter, envelope: Some(envelope), change: None }),
        Fate::Ahead => {
            let entry = ParkedRow { submitter, envelope: Some(envelope), change: None };
            if ahead::lets_pass(t, &thread, &entry)? {
                return ahead::put_aside(t, thread, entry);
            }
            wait_for_change(t, thread)?;
            hold_back(t, thread)?;
            return park(t, thread, entry);
        }
        Fate::Unreadable(reason) => unreadable(t, thread, id, reason)?,
        Fate::UnknownOwn => halt(t, thread, id)?,
    }
    Ok(true)
}

/// An own text came back with the log behind a change that it was not sealed for: a sibling may lack it.
fn own_late<E: Engine>(t: &mut Turn<'_, E>, envelope: &Envelope, id: &EnvelopeId) -> Result<(), StorageError> {
    let own: Option<EnvelopeRow> = rows::get(&t.rows, &rows::envelope_key(id))?;
    let message = own.filter(|row| row.own).and_then(|row| row.message);
    let (Some(message), Some(row)) = (message, thread::get(&t.rows, &envelope.thread)?) else { return Ok(()) };
    let of = match resend::content(t, &envelope.thread, message)?.map(|content| content.body) {
        Some(Body::Edit(of, _) | Body::Unsend(of)) => of,
        Some(Body::React(reaction)) => reaction.to,
        _ => Target { message, author: t.rooms.identity.id() },
    };
    facts::note_late(t, &envelope.thread, &row, envelope.epoch, (Hlc::default(), Some(of)))
}

/// What was here already came once more: its author may not have heard that it is.
fn owe_again<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    submitter: DeviceId,
    envelope: &EnvelopeId,
) -> Result<(), StorageError> {
    let seen = rows::get::<EnvelopeRow>(&t.rows, &rows::envelope_key(envelope))?.filter(|row| !row.own);
    let Some(message) = seen.and_then(|row| row.message) else { return Ok(()) };
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    receipts::owe(t, thread, &row, submitter, message, false)
}

/// What comes in a thread waits behind what waits in it already.
fn hold_back<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if thread::get(&t.rows, &thread)?.is_some_and(|row| row.state != ThreadState::Left) {
        t.rooms.threads.unparking.insert(thread);
    }
    Ok(())
}

/// An envelope of an epoch ahead came in a thread this device is in: the change between is asked for.
pub(crate) fn wait_for_change<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if let Some(row) = thread::get(&t.rows, &thread)?
        && row.state != ThreadState::Left
    {
        commit::miss(t, thread, row.epoch);
    }
    Ok(())
}

/// Opens an envelope and keeps what was in it. `path`: known for direct links, otherwise told by who handed it in.
pub(crate) fn open<E: Engine>(
    t: &mut Turn<'_, E>,
    envelope: &Envelope,
    submitter: Option<DeviceId>,
    path: Option<Path>,
) -> Result<Fate, StorageError> {
    let id = envelope.id();
    if t.rows.get(&rows::envelope_key(&id))?.is_some() {
        return Ok(Fate::Seen);
    }
    let Some(row) = thread::get(&t.rows, &envelope.thread)? else { return Ok(Fate::Stranger) };
    match row.state {
        ThreadState::Open | ThreadState::Opening | ThreadState::Left
            if row.founding.is_some() && envelope.epoch > row.epoch =>
        {
            return Ok(Fate::Ahead);
        }
        // Whoever wrote it had not heard that the leaf it was for was being taken out, and that leaf's keys are gone.
        ThreadState::Open if envelope.epoch.get() < row.joined => {
            tracing::debug!(
                epoch = envelope.epoch.get(),
                joined = row.joined,
                "sealed for an earlier leaf of this device"
            );
            // On a direct link "taken" would say that it is kept; refused there, it goes by the relay.
            return Ok(if path == Some(Path::Direct) { Fate::Stranger } else { Fate::Taken });
        }
        ThreadState::Open | ThreadState::Opening | ThreadState::Halted | ThreadState::Left => {}
        ThreadState::Refused | ThreadState::Failed(_) => return Ok(Fate::Unreadable("of a thread we are not in")),
    }
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let opened = match t.engine.open(&mut cx, &own, envelope.thread, &envelope.body) {
        Ok(opened) => opened,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return unopened(t, submitter, &error, &envelope.body),
    };
    if opened.author == t.rooms.identity.id() {
        return Ok(Fate::UnknownOwn);
    }
    if !planted::active(Bug::ForgetDedup) {
        rows::put(&mut t.rows, rows::envelope_key(&id), &EnvelopeRow { own: false, at: t.now.wall, message: None });
    }
    let path = path.unwrap_or_else(|| {
        // The relay's word on who handed it in is good enough to tell by which way it came.
        let home = t.rooms.identity.relay().domain;
        let from = submitter.as_ref().unwrap_or(&opened.author);
        if thread::domain_of(&row, &from.account) == Some(&home) { Path::Relay } else { Path::Federation }
    });
    take_content(t, envelope, row, opened, path)
}

fn unopened<E: Engine>(
    t: &Turn<'_, E>,
    submitter: Option<DeviceId>,
    error: &EngineError,
    body: &[u8],
) -> Result<Fate, StorageError> {
    Ok(match error {
        // The engine says so of what this device sealed itself, too. We know every envelope we sealed, unless the
        // store is a copy from before: a damaged copy of one still has its mark.
        EngineError::AlreadyOpened if submitter == Some(t.rooms.identity.id()) => {
            let mark = t.engine.mark(body).map(|mark| rows::mark_key(&mark));
            match mark.map(|key| t.rows.get(&key)).transpose()?.flatten() {
                Some(_) => Fate::Unreadable("a damaged copy of our own"),
                None => Fate::UnknownOwn,
            }
        }
        // Not the envelope we know, or we would not have asked: its author used a key twice.
        EngineError::AlreadyOpened => Fate::Unreadable("sealed with a key that was used before"),
        EngineError::UnknownThread | EngineError::NotMember => Fate::Unreadable("of a thread we are not in"),
        EngineError::WrongEpoch { .. } => Fate::Unreadable("of another epoch"),
        EngineError::TooDistant => Fate::Unreadable("too distant from the messages seen"),
        EngineError::Malformed => Fate::Unreadable("malformed"),
        EngineError::BadSignature => Fate::Unreadable("not authentic"),
        EngineError::Untrusted => Fate::Unreadable("not acceptable"),
        _ => Fate::Unreadable("not opened"),
    })
}

/// Whether a word of an epoch that is over is by a device that was taken out since, and comes by its own relay all the same: that
/// takes nothing of it once it has the commit, and what it took before lies before the commit in its log. By another relay it
/// can be on its way still.
fn is_out<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow, author: &DeviceId, epoch: Epoch) -> Result<bool, StorageError> {
    if epoch >= row.epoch || row.state != ThreadState::Open || thread::leaves(row).any(|leaf| leaf == *author) {
        return Ok(false);
    }
    let home = t.rooms.identity.relay().domain;
    Ok(match thread::domain_of(row, &author.account) {
        Some(domain) => *domain == home,
        None => contacts::known(&t.rows, &author.account)?.is_some_and(|person| person.address.domain == home),
    })
}

/// Keeps an opened content. What is authentic but makes no sense is recorded; its keys are used up all the same.
fn take_content<E: Engine>(
    t: &mut Turn<'_, E>,
    envelope: &Envelope,
    mut row: ThreadRow,
    opened: Opened,
    path: Path,
) -> Result<Fate, StorageError> {
    let (thread, id, epoch) = (envelope.thread, envelope.id(), envelope.epoch);
    if path != Path::Direct && is_out(t, &row, &opened.author, epoch)? {
        return unreadable(t, thread, id, "said by a device that was out already").map(|()| Fate::Taken);
    }
    let content = match decode_words::<Content>(&opened.content) {
        Ok(content) => content,
        Err(_) => return unreadable(t, thread, id, "authentic, but of no known shape").map(|()| Fate::Taken),
    };
    if planted::active(Bug::TrustClock)
        && content.hlc.millis.abs_diff(t.now.wall.as_millis()) > limits::CLOCK_AHEAD_MAX.as_millis() as u64
    {
        return Ok(Fate::Taken);
    }
    thread::witness(&mut t.rows, content.hlc, t.now.wall)?;
    let author = opened.author;
    match &content.body {
        Body::Candidates(candidates) => {
            return direct::candidates(t, thread, author, candidates).map(|()| Fate::Taken);
        }
        Body::Title(text) => {
            return commit::titled(t, thread, (author.account, epoch), (text.clone(), content.hlc))
                .map(|()| Fate::Taken);
        }
        Body::Picture(bytes) => {
            return picture::heard(t, thread, (author.account, epoch), (bytes.clone(), content.hlc))
                .map(|()| Fate::Taken);
        }
        Body::LogHead(seq, hash) => {
            return herald::heard(t, thread, author.account, (*seq, *hash)).map(|()| Fate::Taken);
        }
        Body::TreeHead(head) => return audit::heard(t, author.account, head).map(|()| Fate::Taken),
        Body::Receipts(receipts) => {
            return witness::heard(t, thread, author.account, receipts).map(|()| Fate::Taken);
        }
        Body::Leave(words) => return commit::leaving(t, thread, author, words.as_deref()).map(|()| Fate::Taken),
        Body::Ask(group, device, token) => {
            return pass::asked(t, (thread, author.account), *group, *device, *token).map(|()| Fate::Taken);
        }
        Body::Declined(group, why) => return pass::declined(t, author.account, *group, *why).map(|()| Fate::Taken),
        Body::Receipt(receipt) => return receipts::heard(t, thread, author, receipt).map(|()| Fate::Taken),
        Body::Repair(repair) => return repair::asked(t, thread, author, repair).map(|()| Fate::Taken),
        Body::Facts(facts) => return facts::heard(t, thread, author, facts.clone()).map(|()| Fate::Taken),
        Body::Text(text) if text.is_empty() => {
            return unreadable(t, thread, id, "authentic, but empty").map(|()| Fate::Taken);
        }
        Body::Text(_) | Body::Edit(..) | Body::Unsend(_) | Body::React(_) | Body::Timer(_) | Body::Gone => {}
    }
    let Content { message, hlc, parents, counter, body, reply, mentions, lasts_ms } = content;
    let key = rows::message_key(&message, &author);
    if !planted::active(Bug::ForgetDedup) {
        // With the message in it: should the same bytes come again, their author may not have heard that they are here.
        let seen = EnvelopeRow { own: false, at: t.now.wall, message: (body != Body::Gone).then_some(message) };
        rows::put(&mut t.rows, rows::envelope_key(&id), &seen);
    }
    // On a direct link the answer says as much, and sooner. What is no more owes nothing.
    if path != Path::Direct && body != Body::Gone {
        receipts::owe(t, thread, &row, author, message, false)?;
    }
    if let Some(counter) = counter {
        repair::note(t, thread, &row, (author, hlc), counter)?;
    }
    if t.rows.get(&key)?.is_some() {
        // Sealed again by its author, or replayed by a member: shown once.
        return Ok(Fate::Taken);
    }
    let mut text = match body {
        Body::Text(text) => text,
        body => {
            let arrival = thread::arrive(&mut t.rows)?;
            rows::put(&mut t.rows, key, &SeenRow { thread, hlc, arrival, counter });
            let of = match &body {
                Body::Edit(of, _) | Body::Unsend(of) => Some(*of),
                Body::React(reaction) => Some(reaction.to),
                _ => None,
            };
            if of.is_some() {
                facts::note_late(t, &thread, &row, epoch, (hlc, of))?;
            }
            return about::apply(t, (thread, epoch), PlaceRow { hlc, message, author }, body).map(|()| Fate::Taken);
        }
    };
    // Taken back before it came: its place is all that is shown.
    let unsent = t.rows.get(&rows::unsent_key(&thread, &Target { message, author }))?.is_some();
    if unsent {
        text.clear();
    }
    if planted::active(Bug::ReceiptEarly)
        && path != Path::Direct
        && message.as_bytes().first().is_some_and(|one| *one < 8)
    {
        return Ok(Fate::Taken);
    }
    let hlc = match planted::active(Bug::OrderByArrival) {
        true => Hlc { millis: t.now.wall.as_millis(), count: 0 },
        false => hlc,
    };
    let place = PlaceRow { hlc, message, author };
    let line = MessageRow {
        received: t.now.wall,
        path: Some(path.into()),
        text,
        counter,
        state: None,
        refused: Vec::new(),
        missed: Vec::new(),
        missed_for: None,
        reply: reply.filter(|_| !unsent),
        mentions: if unsent { Vec::new() } else { mentions },
        lasts_ms: lasts_ms.filter(|lasts_ms| u128::from(*lasts_ms) <= limits::LASTS_MAX.as_millis()),
    };
    let arrival = thread::arrive(&mut t.rows)?;
    rows::put(&mut t.rows, key, &SeenRow { thread, hlc, arrival, counter });
    rows::put(&mut t.rows, rows::history_key(&thread, &place), &line);
    thread::note_head(&mut row.heads, message, &parents);
    row.last = row.last.max(Some(place));
    row.updated = t.now.wall;
    if let Some(lasts_ms) = line.lasts_ms {
        about::lasts(t, thread, place, lasts_ms);
    }
    // A sibling device's message is not news to its owner, nor is what was read on one, and that of somebody they keep away
    // is to be none.
    let own = author.account == t.rooms.identity.account();
    let hidden = friendship::hides(&t.rows, &author.account, &thread)?;
    let news = !own && !hidden && !read::is_read(t, &thread, &author, counter)?;
    if news {
        rows::put(&mut t.rows, rows::unread_key(&thread, arrival), &place);
        row.unread = row.unread.saturating_add(1);
    }
    thread::put(&mut t.rows, &thread, &row);
    facts::note_late(t, &thread, &row, epoch, (hlc, None))?;
    if path == Path::Direct {
        t.rooms.reception.touch(thread);
    }
    let shown_in =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
    // Its author may have changed it already: that came first.
    let edit: Option<rows::EditRow> = rows::get(&t.rows, &rows::edit_key(&thread, &Target { message, author }))?;
    let text = edit.filter(|_| !unsent).map_or(line.text, |edit| edit.text);
    t.event(Event::Shown(Message {
        thread: shown_in,
        message,
        author,
        hlc,
        received: t.now.wall,
        path: Some(path),
        text,
        reply: line.reply,
        mentions: line.mentions,
        unsent,
        hidden,
    }));
    Ok(Fate::Taken)
}

/// Records what could not be opened. The place moves on; the owner is told.
pub(crate) fn unreadable<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    envelope: EnvelopeId,
    reason: &str,
) -> Result<(), StorageError> {
    if let Some(mut row) = thread::get(&t.rows, &thread)? {
        if row.unreadable < limits::UNREADABLE_RECORDS_MAX {
            let record = UnreadableRow { envelope, at: t.now.wall, reason: reason.to_owned() };
            rows::put(&mut t.rows, rows::unreadable_key(&thread, row.unreadable), &record);
        }
        row.unreadable = row.unreadable.saturating_add(1);
        thread::put(&mut t.rows, &thread, &row);
    }
    t.event(Event::Unreadable { thread, reason: reason.to_owned() });
    Ok(())
}

/// The store is an old copy: keys it holds were used since. Nothing more is sealed in this thread.
fn halt<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, envelope: EnvelopeId) -> Result<(), StorageError> {
    unreadable(t, thread, envelope, "sealed by this device, which does not know it")?;
    if let Some(mut row) = thread::get(&t.rows, &thread)?
        && row.state != ThreadState::Halted
    {
        row.state = ThreadState::Halted;
        thread::put(&mut t.rows, &thread, &row);
        t.event(Event::ThreadHalted { thread });
    }
    Ok(())
}

/// Keeps an entry until its time has come. Says whether there was room.
pub(crate) fn park<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, row: ParkedRow) -> Result<bool, StorageError> {
    let key = rows::single_key(Single::Parked);
    let mut totals: ParkedTotals = rows::get(&t.rows, &key)?.unwrap_or_default();
    let bytes = row.bytes();
    if totals.entries >= limits::PARKED_ENTRIES_MAX || totals.bytes.saturating_add(bytes) > limits::PARKED_BYTES_MAX {
        return Ok(false);
    }
    if planted::active(Bug::LoseParked) || row.change.is_some() && planted::active(Bug::ForgetCommit) {
        return Ok(true);
    }
    rows::put(&mut t.rows, rows::parked_key(&thread, totals.next), &row);
    totals.entries = totals.entries.saturating_add(1);
    totals.bytes = totals.bytes.saturating_add(bytes);
    totals.next = totals.next.saturating_add(1);
    rows::put(&mut t.rows, key, &totals);
    Ok(true)
}

/// Whether something of a thread is here and cannot be opened yet.
pub(crate) fn waits<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId) -> Result<bool, StorageError> {
    let prefix = rows::parked_prefix(thread);
    Ok(!t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.is_empty())
}

/// Opens what waited, in the order it came, a stretch at a time so that no batch grows beyond its bound, up to what must
/// wait on; then lets logs move that stood still.
pub(crate) fn unpark<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let prefix = rows::parked_prefix(&thread);
    let stretch = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::PUSH_ENTRIES_MAX)?;
    let key = rows::single_key(Single::Parked);
    let mut totals: ParkedTotals = rows::get(&t.rows, &key)?.unwrap_or_default();
    let (mut bytes, mut more, mut waits) = (0, stretch.len() == limits::PUSH_ENTRIES_MAX, false);
    let (mut aside, before) = (0, thread::get(&t.rows, &thread)?.map(|row| row.epoch));
    for (parked_key, value) in stretch {
        if bytes >= limits::PUSH_BYTES_MAX {
            more = true;
            break;
        }
        let row: ParkedRow = rows::decode(&parked_key, &value)?;
        if !take_parked(t, thread, &row)? {
            if !ahead::lets_pass(t, &thread, &row)? {
                waits = true;
                break;
            }
            aside += 1;
            if aside <= limits::AHEAD_ENTRIES_MAX {
                continue;
            }
            ahead::give_up(t, thread, &row)?;
        }
        bytes = bytes.saturating_add(value.len());
        totals.entries = totals.entries.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(row.bytes());
        t.rows.delete(parked_key);
    }
    if bytes > 0 {
        rows::put(&mut t.rows, key, &totals);
    }
    // What was put aside may be of the epoch that what was behind it led to.
    more |= aside > 0 && thread::get(&t.rows, &thread)?.map(|row| row.epoch) != before;
    if waits || more {
        t.rooms.threads.unparking.insert(thread);
        if !waits {
            t.rooms.timers.set(Timer::Unpark(thread), t.now.monotonic);
        }
        return Ok(());
    }
    t.rooms.threads.unparking.remove(&thread);
    if aside > 0 {
        t.rooms.threads.aside.insert(thread);
    } else {
        t.rooms.threads.aside.remove(&thread);
    }
    if t.rooms.timers.is_set(Timer::Lane(thread)) {
        // What was sealed before it may be sealed again now.
        t.rooms.timers.set(Timer::Lane(thread), t.now.monotonic);
    }
    if !t.rooms.push.stalled.is_empty() && (aside == 0 || bytes > 0) {
        connect::abandon(t, "there is room again for what waits at the relay")?;
    }
    Ok(())
}

/// One entry that waited. Says whether it is done with.
fn take_parked<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, row: &ParkedRow) -> Result<bool, StorageError> {
    if let Some(change) = &row.change {
        return Ok(commit::take(t, change)? == Course::Done);
    }
    let Some(envelope) = &row.envelope else { return Ok(true) };
    let id = envelope.id();
    match open(t, envelope, Some(row.submitter), None)? {
        Fate::Taken => {}
        Fate::Seen => owe_again(t, thread, row.submitter, &id)?,
        Fate::Ahead => {
            wait_for_change(t, thread)?;
            return Ok(false);
        }
        Fate::Stranger => unreadable(t, thread, id, "of a thread we are not in")?,
        Fate::Unreadable(reason) => unreadable(t, thread, id, reason)?,
        Fate::UnknownOwn => halt(t, thread, id)?,
    }
    Ok(true)
}

/// The relay is there again: what waits for its answers may go on.
pub(crate) fn unpark_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: BTreeSet<ThreadId> = t.rooms.threads.unparking.union(&t.rooms.threads.aside).copied().collect();
    threads.into_iter().try_for_each(|thread| unpark(t, thread))
}

/// Forgets the ids of others' envelopes that nobody sends again: relays hold for 30 days. Goes round the rows a
/// stretch at a time.
pub(crate) fn forget_old<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    const STRETCH: usize = 4_096;
    let space = rows::space(rows::Space::Envelope);
    let from = t.rooms.push.forgotten_upto.take().unwrap_or_else(|| space.clone());
    let stretch = t.rows.scan(&from, &rows::after(&space), Order::Ascending, STRETCH)?;
    if stretch.len() == STRETCH {
        t.rooms.push.forgotten_upto = stretch.last().map(|(key, _)| key.clone());
    }
    let age_max = limits::ENVELOPE_IDS_AGE_MAX.as_millis() as u64;
    for (key, value) in stretch {
        let row: EnvelopeRow = rows::decode(&key, &value)?;
        if !row.own && t.now.wall.as_millis().saturating_sub(row.at.as_millis()) > age_max {
            t.rows.delete(key);
        }
    }
    Ok(())
}
