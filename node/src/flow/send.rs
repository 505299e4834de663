//! Send: a text from its author to the relay's disk or to all other devices'.
//! In order: seal once, keep (text, group state, envelope in one batch), direct links first when they stand for
//! everybody, then the relay; the row goes when the relay has it or all others answered.
//! Rules: docs/protocol/thread.md, "Submission"; direct.md, "Race".

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_crypto::{Context, Engine};
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{AccountId, DeviceId, Domain, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::push::Undelivered;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Class, Envelope, Submit};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{about, audit, commit, direct, facts, open, receipts, receive, resend, stamp, witness};
use crate::api::{CommandError, Draft, Event, Reply};
use crate::direct::Answers;
use crate::outbox::{self, Lane, Phase, Waiting};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{
    self, EnvelopeRow, MessageRow, OutboxRow, PlaceRow, RefusedRow, SaidRow, SeenRow, Space, StateRow, ThreadRow,
    ThreadState,
};
use crate::thread;
use crate::timers::Timer;

/// Refuses what no thread takes.
pub(crate) fn check<E>(t: &Turn<'_, E>, text: &str) -> Result<(), CommandError> {
    if text.is_empty() || text.len() > limits::TEXT_BYTES_MAX {
        return Err(CommandError::Text { found: text.len(), max: limits::TEXT_BYTES_MAX });
    }
    let queued = usize::try_from(t.rooms.outbox.queued).unwrap_or(usize::MAX);
    if queued >= limits::OUTBOX_MAX { Err(CommandError::OutboxFull(queued)) } else { Ok(()) }
}

/// Refuses what cannot be written into a thread as it stands.
pub(crate) fn writable(row: &ThreadRow) -> Result<(), CommandError> {
    match row.state {
        // Few enough to be moved in one batch, should the relay know another thread of these people.
        ThreadState::Opening if row.queued >= limits::AUTHOR_WINDOW as u64 => {
            Err(CommandError::OutboxFull(limits::AUTHOR_WINDOW))
        }
        ThreadState::Open if row.leaving => Err(CommandError::State("you asked to leave this group".to_owned())),
        ThreadState::Opening | ThreadState::Open => Ok(()),
        ThreadState::Halted => {
            let why = "this device's store is an old copy; it cannot write into this thread any more";
            Err(CommandError::State(why.to_owned()))
        }
        ThreadState::Refused => Err(CommandError::Unknown),
        ThreadState::Left => Err(CommandError::State("you are not in this group any more".to_owned())),
        ThreadState::Failed(code) => Err(CommandError::Refused(code)),
    }
}

/// Takes a text into its thread; durable, in order, and on its way when the step is.
pub(crate) fn text<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, text: String) -> Result<Reply, Halt> {
    draft(t, thread, Draft { text, ..Draft::default() })
}

/// The same, with whom it names and what it replies to.
pub(crate) fn draft<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, draft: Draft) -> Result<Reply, Halt> {
    check(t, &draft.text)?;
    if draft.mentions.len() > limits::MENTIONS_MAX {
        return Err(CommandError::TooLong { what: "the list of who is named", max: limits::MENTIONS_MAX }.into());
    }
    let (thread, mut row) =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.ok_or(CommandError::Unknown)?;
    writable(&row)?;
    let message = MessageId::from_bytes(t.chance.bytes());
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let Draft { text, reply, mentions } = draft;
    let lasts_ms = row.timer.map(|timer| timer.lasts_ms).filter(|lasts_ms| *lasts_ms > 0);
    let content = Content { reply, mentions, lasts_ms, ..Content::new(message, hlc, Body::Text(text)) };
    compose(t, thread, &mut row, content)?;
    audit::tell(t, thread, &mut row)?;
    witness::tell(t, thread, &mut row)?;
    thread::put(&mut t.rows, &thread, &row);
    t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_add(1);
    t.event(Event::State { thread, message, state: crate::api::State::Queued });
    t.rooms.signals.spoke(&thread);
    pump(t, thread)?;
    direct::offer_with_traffic(t, thread)?;
    Ok(Reply::Queued { thread, message })
}

/// Seals a content under its id and clock, counted and with its parents, and keeps it: history, dedup, outbox.
fn compose<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    content: Content,
) -> Result<(), Halt> {
    let Content { message, hlc, .. } = content;
    let counter = Some(row.counter.saturating_add(1));
    let parents: Vec<_> = row.heads.iter().filter(|head| **head != message).copied().collect();
    let content = Content { parents, counter, ..content };
    seal(t, thread, row, &content, resend::class(&content.body), Some(message), None)?;
    resend::said(t, thread, row, &content)?;
    row.counter = row.counter.saturating_add(1);
    row.queued = row.queued.saturating_add(1);
    row.updated = t.now.wall;
    let author = t.rooms.identity.id();
    let place = PlaceRow { hlc, message, author };
    let arrival = thread::arrive(&mut t.rows)?;
    rows::put(&mut t.rows, rows::message_key(&message, &author), &SeenRow { thread, hlc, arrival, counter });
    let text = match content.body {
        Body::Text(text) => text,
        body => return Ok(about::apply(t, (thread, row.epoch), place, body)?),
    };
    thread::note_head(&mut row.heads, message, &content.parents);
    row.last = row.last.max(Some(place));
    let Content { reply, mentions, lasts_ms, .. } = content;
    let line = MessageRow {
        received: t.now.wall,
        path: None,
        text,
        counter,
        state: Some(StateRow::Queued),
        refused: Vec::new(),
        missed: Vec::new(),
        missed_for: None,
        reply,
        mentions,
        lasts_ms,
    };
    rows::put(&mut t.rows, rows::history_key(&thread, &place), &line);
    if let Some(lasts_ms) = lasts_ms {
        about::lasts(t, thread, place, lasts_ms);
    }
    Ok(())
}

/// Seals a content and queues the envelope. The caller writes the thread's row.
pub(crate) fn seal<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    content: &Content,
    class: Class,
    message: Option<MessageId>,
    until: Option<Wall>,
) -> Result<(), Halt> {
    stamp::check(t)?;
    if !t.rooms.identity.is_listed() {
        return Err(CommandError::Refused(RefusalCode::Revoked).into());
    }
    if content.counter.is_some() {
        inhabited(t, row)?;
    }
    t.rooms.reception.sealed = true;
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let sealed = t.engine.seal(&mut cx, &own, thread, &encode_words(content))?;
    let envelope = Envelope { thread, epoch: sealed.epoch, class, body: sealed.body };
    let seen = EnvelopeRow { own: true, at: t.now.wall, message };
    rows::put(&mut t.rows, rows::envelope_key(&envelope.id()), &seen);
    if let Some(mark) = t.engine.mark(&envelope.body) {
        t.rows.put(rows::mark_key(&mark), Vec::new());
    }
    if !(planted::active(Bug::ReuseOrder) && row.queued > 0) {
        row.sealed = row.sealed.saturating_add(1);
    }
    let waiting = OutboxRow { envelope, message, until };
    rows::put(&mut t.rows, rows::outbox_key(&thread, row.sealed), &waiting);
    t.rooms.outbox.lanes.entry(thread).or_default();
    Ok(())
}

/// What is said between two is for whom it is said to: where none of their devices has a leaf any more, whoever has one was
/// taken off their account.
fn inhabited<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> Result<(), Halt> {
    if thread::is_deserted(&t.rows, &t.rooms.identity.account(), row)? {
        let why = "somebody in it has none of the devices they had: write to them anew, without a reply";
        return Err(CommandError::State(why.to_owned()).into());
    }
    Ok(())
}

/// Drives a thread's envelopes as far as the links that stand allow.
pub(crate) fn pump<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    if row.state != ThreadState::Open {
        return Ok(());
    }
    // Out of the map while it is driven; a failure on the way ends the node.
    let Some(mut lane) = t.rooms.outbox.lanes.remove(&thread) else { return Ok(()) };
    while drive(t, thread, &row, &mut lane)? {}
    match lane.race_end() {
        Some(at) => t.rooms.timers.set(Timer::Race(thread), at),
        None => t.rooms.timers.clear(Timer::Race(thread)),
    }
    if !lane.is_idle() {
        t.rooms.outbox.lanes.insert(thread, lane);
    }
    Ok(())
}

/// One pass over the window. Says whether room was made in it.
fn drive<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    lane: &mut Lane,
) -> Result<bool, StorageError> {
    lane.load(&t.rows, &thread)?;
    let held_back = t.rooms.timers.is_set(Timer::Lane(thread));
    let mut room_made = false;
    // The relay gets envelopes in order: one that must wait holds back those behind it.
    let mut behind = held_back;
    let mut orders: Vec<u64> = lane.window.keys().copied().collect();
    if planted::active(Bug::SendBackwards) {
        orders.reverse();
    }
    for order in orders {
        let Some(waiting) = lane.window.get(&order).copied() else { continue };
        let untried = matches!(waiting.phase, Phase::New | Phase::Ready);
        if untried && waiting.until.is_some_and(|until| t.now.wall > until) {
            t.rows.delete(rows::outbox_key(&thread, order));
            lane.window.remove(&order);
            room_made = true;
            continue;
        }
        if planted::active(Bug::TrustRace)
            && let (Phase::Racing(at), Some(message)) = (waiting.phase, waiting.message)
            && at <= t.now.monotonic
        {
            t.rows.delete(rows::outbox_key(&thread, order));
            lane.window.remove(&order);
            t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_sub(1);
            set_state(t, message, StateRow::Delivered)?;
            continue;
        }
        let mut phase = match waiting.phase {
            Phase::New => first_path(t, thread, row, order, &waiting)?,
            Phase::Racing(at) if at <= t.now.monotonic => Phase::Ready,
            phase => phase,
        };
        if phase == Phase::Ready && !behind && lane.has_pace() && submit(t, thread, order)? {
            phase = Phase::Submitted;
        }
        behind |= phase != Phase::Submitted;
        if let Some(waiting) = lane.window.get_mut(&order) {
            waiting.phase = phase;
        }
    }
    Ok(room_made)
}

/// The direct path when it leads to everybody, the relay otherwise.
fn first_path<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    order: u64,
    waiting: &Waiting,
) -> Result<Phase, StorageError> {
    let own = t.rooms.identity.id();
    let others: BTreeSet<DeviceId> = thread::leaves(row).filter(|leaf| *leaf != own).collect();
    let links: Option<Vec<_>> = others.iter().map(|leaf| t.rooms.direct.link(leaf)).collect();
    let small = others.len() < limits::DIRECT_LEAVES_MAX && !others.is_empty();
    // A store that has not been told to be none yet may be an old copy, and the relay is who knows.
    let may = small && t.rooms.reception.proved;
    let (Class::Message, true, Some(links)) = (waiting.class, may, links) else { return Ok(Phase::Ready) };
    let Some(outbox) = outbox::row(&t.rows, &thread, order)? else { return Ok(Phase::Ready) };
    let answers = Answers { thread, message: waiting.message, missing: others };
    if !t.rooms.direct.await_answers(waiting.envelope, answers) {
        return Ok(Phase::Ready);
    }
    for link in links {
        t.send(link, DirectEnvelope { envelope: outbox.envelope.clone() });
    }
    let copy_anyway = t.config.always_relay_copy;
    Ok(if copy_anyway { Phase::Ready } else { Phase::Racing(t.now.monotonic.plus(limits::DIRECT_RACE)) })
}

/// Hands an envelope to the relay, if it serves us.
fn submit<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, order: u64) -> Result<bool, StorageError> {
    if t.rooms.reception.admitted().is_none() {
        return Ok(false);
    }
    if t.rooms.requests.submits() >= limits::SUBMITS_MAX {
        t.rooms.outbox.starved.insert(thread);
        return Ok(false);
    }
    let Some(row) = outbox::row(&t.rows, &thread, order)? else { return Ok(false) };
    let heard = t.rooms.requests.heard();
    Ok(t.ask(Purpose::Submit(thread, order), |request| Submit { request, envelope: row.envelope, heard }))
}

/// The relay has it on its disk.
pub(crate) fn stored<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, order: u64) -> Result<(), StorageError> {
    if let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread) {
        lane.speed_up();
    }
    finish(t, thread, order, StateRow::Stored)?;
    feed(t)
}

/// Answers made room on the link: threads that wait for it go on.
fn feed<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    while t.rooms.requests.submits() < limits::SUBMITS_MAX {
        let Some(thread) = t.rooms.outbox.starved.pop_first() else { break };
        pump(t, thread)?;
    }
    Ok(())
}

/// The relay refused it; for now, or for good.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    order: u64,
    code: RefusalCode,
    retry_after: Option<Duration>,
) -> Result<(), StorageError> {
    match retry_after {
        Some(_) if code == RefusalCode::TooFast && planted::active(Bug::DropSlowed) => {
            finish(t, thread, order, StateRow::Stored)?;
        }
        Some(delay) => {
            again(t, thread, order);
            if code == RefusalCode::TooFast
                && let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread)
            {
                lane.slow_down();
            }
            t.rooms.timers.set(Timer::Lane(thread), t.now.monotonic.plus(delay));
        }
        // Whoever is in again says it with the new leaf.
        None if matches!(code, RefusalCode::StaleEpoch | RefusalCode::Removed) && seal_again(t, thread, order)? => {
            pump(t, thread)?;
        }
        // The commit that made it old is here, and waits for what proves it: it is sealed again after that.
        None if code == RefusalCode::StaleEpoch && receive::waits(t, &thread)? => {
            again(t, thread, order);
            t.rooms.timers.set(Timer::Lane(thread), t.now.monotonic.plus(limits::LINK_IDLE_MAX));
        }
        None => {
            finish(t, thread, order, StateRow::Failed(code))?;
            facts::untold(t, &thread)?;
            if code == RefusalCode::Removed {
                commit::may_be_out(t, thread)?;
            }
        }
    }
    feed(t)
}

/// This device was taken off its account: what waits to leave never will, and its author is told so, a slice at a time.
pub(crate) fn unsaid<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rooms.identity.is_listed() {
        return Ok(());
    }
    t.rooms.outbox.lanes.clear();
    let space = rows::space(Space::Outbox);
    let page = t.rows.scan(&space, &rows::after(&space), Order::Ascending, limits::OUTBOX_SLICE)?;
    if page.len() == limits::OUTBOX_SLICE {
        t.rooms.timers.set(Timer::Unsaid, t.now.monotonic);
    }
    for (key, value) in page {
        let OutboxRow { envelope, message, .. } = rows::decode(&key, &value)?;
        t.rows.delete(key);
        let Some(message) = message else { continue };
        if let Some(mut row) = thread::get(&t.rows, &envelope.thread)? {
            row.queued = row.queued.saturating_sub(1);
            thread::put(&mut t.rows, &envelope.thread, &row);
        }
        t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_sub(1);
        set_state(t, message, StateRow::Failed(RefusalCode::Revoked))?;
    }
    Ok(())
}

/// Sealed too long ago: the same message goes out in the thread's present epoch, under its id, clock and counter. Says
/// whether there is a later epoch to seal it in.
fn seal_again<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, order: u64) -> Result<bool, StorageError> {
    let Some(old) = outbox::row(&t.rows, &thread, order)? else { return Ok(false) };
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(false) };
    let Some(message) = old.message.filter(|_| row.epoch > old.envelope.epoch) else { return Ok(false) };
    let Some(content) = resend::content(t, &thread, message)? else { return Ok(false) };
    if resend::is_not_for_newcomers(t, &thread, &row, &content)? {
        return Ok(false);
    }
    match seal(t, thread, &mut row, &content, old.envelope.class, Some(message), old.until) {
        Ok(()) => {}
        Err(Halt::Command(_)) => return Ok(false),
        Err(Halt::Broken(error)) => return Err(error),
    }
    thread::put(&mut t.rows, &thread, &row);
    t.rows.delete(rows::outbox_key(&thread, order));
    if let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread) {
        lane.window.remove(&order);
    }
    Ok(true)
}

/// No answer came in time, and the link stands: the same bytes are handed in again.
pub(crate) fn unanswered<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, order: u64) -> Result<(), StorageError> {
    again(t, thread, order);
    pump(t, thread)
}

fn again<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, order: u64) {
    if let Some(waiting) = t.rooms.outbox.lanes.get_mut(&thread).and_then(|lane| lane.window.get_mut(&order))
        && waiting.phase == Phase::Submitted
    {
        waiting.phase = Phase::Ready;
    }
}

/// Every thread that has something waiting.
pub(crate) fn pump_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: Vec<ThreadId> = t.rooms.outbox.lanes.keys().copied().collect();
    threads.into_iter().try_for_each(|thread| pump(t, thread))
}

/// An envelope need not be sent any more: its row goes, its message's state is told.
pub(crate) fn finish<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    order: u64,
    outcome: StateRow,
) -> Result<(), StorageError> {
    let Some(lane) = t.rooms.outbox.lanes.get_mut(&thread) else { return Ok(()) };
    let Some(waiting) = lane.window.remove(&order) else { return Ok(()) };
    t.rows.delete(rows::outbox_key(&thread, order));
    if let Some(message) = waiting.message {
        if let Some(mut row) = thread::get(&t.rows, &thread)? {
            row.queued = row.queued.saturating_sub(1);
            thread::put(&mut t.rows, &thread, &row);
        }
        t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_sub(1);
        set_state(t, message, outcome)?;
    }
    pump(t, thread)
}

/// Tells how far a message of ours has come; never a step back.
pub(crate) fn set_state<E: Engine>(
    t: &mut Turn<'_, E>,
    message: MessageId,
    state: StateRow,
) -> Result<(), StorageError> {
    let rank = |state: StateRow| match state {
        StateRow::Queued => 0,
        StateRow::Failed(_) => 1,
        StateRow::Stored => 2,
        StateRow::Delivered => 3,
    };
    let author = t.rooms.identity.id();
    let seen = rows::get::<SeenRow>(&t.rows, &rows::message_key(&message, &author))?;
    let Some(seen) = seen else { return Ok(()) };
    if let (StateRow::Delivered, Some(counter)) = (state, seen.counter) {
        receipts::everybody(t, seen.thread, counter)?;
    }
    // What was sealed again and refused was stored once: it goes on being awaited.
    let give_up = |t: &mut Turn<'_, E>| {
        if let (StateRow::Failed(_), Some(counter)) = (state, seen.counter) {
            t.rows.delete(rows::awaited_key(&seen.thread, counter));
        }
    };
    let key = rows::history_key(&seen.thread, &PlaceRow { hlc: seen.hlc, message, author });
    let Some(line) = rows::get::<MessageRow>(&t.rows, &key)? else {
        // No text: nothing of it stands in the history, and its author wants to know all the same.
        give_up(t);
        if let (StateRow::Stored | StateRow::Delivered, Some(counter)) = (state, seen.counter) {
            resend::stored(t, &seen.thread, counter)?;
        }
        let thread = thread::canonical(&t.rows, &t.rooms.identity.account(), &seen.thread)?
            .map_or(seen.thread, |(thread, _)| thread);
        t.event(Event::State { thread, message, state: state.into() });
        return Ok(());
    };
    if line.state.is_some_and(|before| rank(before) >= rank(state)) {
        return Ok(());
    }
    give_up(t);
    let line = MessageRow { state: Some(state), ..line };
    rows::put(&mut t.rows, key, &line);
    tell_state(t, seen.thread, message, &line)
}

pub(crate) fn tell_state<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    message: MessageId,
    line: &MessageRow,
) -> Result<(), StorageError> {
    let row = thread::get(&t.rows, &thread)?;
    let state = thread::state(line, row.as_ref(), &t.rooms.identity.account());
    let thread = thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
    if let Some(state) = state {
        t.event(Event::State { thread, message, state });
    }
    Ok(())
}

/// Another relay will not have what was handed in here, by our relay's word: whoever lives there does not get it.
pub(crate) fn undelivered<E: Engine>(t: &mut Turn<'_, E>, words: Undelivered) -> Result<(), StorageError> {
    let Undelivered { thread, domain, code, envelopes } = words;
    if envelopes.is_empty() {
        return open::refused_there(t, thread, &domain, code);
    }
    let author = t.rooms.identity.id();
    for envelope in envelopes {
        let sealed = rows::get::<EnvelopeRow>(&t.rows, &rows::envelope_key(&envelope))?.filter(|row| row.own);
        // Another device's of this account, or nothing that was to be shown.
        let Some(message) = sealed.and_then(|row| row.message) else { continue };
        let seen = rows::get::<SeenRow>(&t.rows, &rows::message_key(&message, &author))?;
        let Some(seen) = seen.filter(|seen| seen.thread == thread) else { continue };
        let key = rows::history_key(&thread, &PlaceRow { hlc: seen.hlc, message, author });
        let Some(mut line) = rows::get::<MessageRow>(&t.rows, &key)? else { continue };
        if line.refused.iter().any(|refused| refused.domain == domain) {
            continue;
        }
        // Of its own users a relay says that some lack it, not that nobody has it: those who have said to have it do.
        if let Some(silent) = silent_here(t, &thread, &domain, seen.counter)? {
            if silent.iter().any(|one| !line.missed.contains(one)) {
                line.missed = line.missed.iter().copied().chain(silent).collect::<BTreeSet<_>>().into_iter().collect();
                line.missed_for = Some(code);
                rows::put(&mut t.rows, key, &line);
                tell_state(t, thread, message, &line)?;
            }
            continue;
        }
        line.refused.push(RefusedRow { domain: domain.clone(), code });
        rows::put(&mut t.rows, key, &line);
        tell_state(t, thread, message, &line)?;
    }
    Ok(())
}

/// If a domain is our own and receipts are kept: who of its users has not said on any device to have a content of ours. None
/// where that tells nothing: of two, then, the other does not get it.
///
/// The relay speaks where one device lacks it, be it one of ours, and its owner may read it on another.
fn silent_here<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    domain: &Domain,
    counter: Option<u64>,
) -> Result<Option<BTreeSet<AccountId>>, StorageError> {
    let Some((row, counter)) = thread::get(&t.rows, thread)?.zip(counter) else { return Ok(None) };
    let own = t.rooms.identity.account();
    if thread::domain_of(&row, &own) != Some(domain) {
        return Ok(None);
    }
    let said = rows::get::<SaidRow>(&t.rows, &rows::said_key(thread, counter))?.filter(|said| !said.to.is_empty());
    let Some(said) = said else { return Ok(None) };
    let mut silent = receipts::silent(&said, &row, &own);
    silent.retain(|one| thread::domain_of(&row, one) == Some(domain));
    let of_two = row.participants.len() <= 2;
    Ok((!of_two || silent.is_empty()).then_some(silent))
}

/// Empties a thread that will never be: its messages go into `to` under the same ids, or fail when there is none.
pub(crate) fn divert<E: Engine>(
    t: &mut Turn<'_, E>,
    from: ThreadId,
    to: Result<ThreadId, RefusalCode>,
) -> Result<(), StorageError> {
    let mut lane = t.rooms.outbox.lanes.remove(&from).unwrap_or_default();
    t.rooms.timers.clear(Timer::Race(from));
    loop {
        lane.load(&t.rows, &from)?;
        if lane.is_idle() {
            break;
        }
        for (order, waiting) in std::mem::take(&mut lane.window) {
            t.rows.delete(rows::outbox_key(&from, order));
            let Some(message) = waiting.message else { continue };
            match to {
                Ok(to) => move_message(t, from, to, message)?,
                Err(code) => {
                    t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_sub(1);
                    set_state(t, message, StateRow::Failed(code))?;
                }
            }
        }
    }
    if let Some(mut row) = thread::get(&t.rows, &from)? {
        row.queued = 0;
        thread::put(&mut t.rows, &from, &row);
    }
    match to {
        Ok(to) => pump(t, to),
        Err(_) => Ok(()),
    }
}

fn move_message<E: Engine>(
    t: &mut Turn<'_, E>,
    from: ThreadId,
    to: ThreadId,
    message: MessageId,
) -> Result<(), StorageError> {
    let author = t.rooms.identity.id();
    let seen = rows::get::<SeenRow>(&t.rows, &rows::message_key(&message, &author))?;
    let (Some(seen), Some(mut row)) = (seen, thread::get(&t.rows, &to)?) else { return Ok(()) };
    let Some(content) = resend::content(t, &from, message)? else { return Ok(()) };
    match compose(t, to, &mut row, content) {
        Ok(()) => {
            t.rows.delete(rows::history_key(&from, &PlaceRow { hlc: seen.hlc, message, author }));
            if let Some(counter) = seen.counter {
                t.rows.delete(rows::said_key(&from, counter));
                t.rows.delete(rows::awaited_key(&from, counter));
            }
            // What was applied may have changed the row, too.
            let timer = thread::get(&t.rows, &to)?.and_then(|row| row.timer);
            row.timer = timer.or(row.timer);
            thread::put(&mut t.rows, &to, &row);
            Ok(())
        }
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(_)) => {
            t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_sub(1);
            set_state(t, message, StateRow::Failed(RefusalCode::Exists))
        }
    }
}
