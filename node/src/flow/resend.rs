//! Resend: what was stored and that somebody has not said to have, until they do or its time is over.
//! In order: what is said is awaited in the step that says it; a timer for each thread, slower each time nobody answers;
//! the oldest are sealed again under their ids, and their author is told of those whose time is over.
//! Never: seals for newcomers what was said before them; believes a clock that jumps. Rules: docs/protocol/message.md,
//! "Receipts".

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::id::{MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Target};
use whimbrel_protocol::thread::Class;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{receipts, send};
use crate::api::State;
use crate::rooms::{Halt, Turn};
use crate::rows::{
    self, AwaitedRow, MessageRow, PlaceRow, ResendRow, SaidRow, SeenRow, StateRow, ThreadRow, ThreadState,
};
use crate::thread;
use crate::timers::Timer;

/// Awaited contents looked at in one step.
const STRETCH: usize = 64;

/// An own content that is counted goes out: what it takes to say it again, and whose word is awaited.
pub(crate) fn said<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    content: &Content,
) -> Result<(), StorageError> {
    let Some(counter) = content.counter else { return Ok(()) };
    let own = t.rooms.identity.id();
    let mut to: Vec<_> = thread::leaves(row).filter(|leaf| *leaf != own).collect();
    if to.len() >= limits::RECEIPT_LEAVES_MAX {
        to.clear();
    }
    to.sort();
    let Content { message, hlc, body, .. } = content;
    let body = match body {
        Body::Text(_) => None,
        _ => Some(encode_words(&Content::new(*message, *hlc, body.clone()))),
    };
    let awaited = !to.is_empty();
    let said = SaidRow {
        message: *message,
        hlc: *hlc,
        epoch: row.epoch,
        to,
        delivered: 0,
        read: 0,
        waits: body.is_some(),
        body,
    };
    rows::put(&mut t.rows, rows::said_key(&thread, counter), &said);
    if awaited {
        let key = rows::resend_key(&thread);
        let resend = match rows::get::<ResendRow>(&t.rows, &key)? {
            Some(resend) => resend,
            None => {
                let resend = ResendRow { attempts: 0, at: t.now.wall, passed_ms: 0 };
                rows::put(&mut t.rows, key, &resend);
                t.rooms.timers.set(Timer::Resend(thread), t.now.monotonic.plus(resend.interval()));
                resend
            }
        };
        let elapsed = resend.elapsed(t.now.wall, resend.planned(&t.rows, &thread)?);
        let since_ms = resend.passed_ms.saturating_add(elapsed.as_millis() as u64);
        rows::put(&mut t.rows, rows::awaited_key(&thread, counter), &AwaitedRow { message: *message, since_ms });
    }
    Ok(())
}

/// A content of ours, as it was said.
pub(crate) fn content<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    message: MessageId,
) -> Result<Option<Content>, StorageError> {
    let author = t.rooms.identity.id();
    let Some(seen) = rows::get::<SeenRow>(&t.rows, &rows::message_key(&message, &author))? else { return Ok(None) };
    if seen.thread != *thread {
        return Ok(None);
    }
    if let Some(counter) = seen.counter {
        let key = rows::said_key(thread, counter);
        let said: Option<SaidRow> = rows::get(&t.rows, &key)?;
        if let Some(body) = said.and_then(|said| said.body) {
            let content: Content = decode_words(&body).map_err(|error| rows::damaged(&key, error))?;
            return Ok(Some(Content { counter: Some(counter), ..content }));
        }
    }
    let key = rows::history_key(thread, &PlaceRow { hlc: seen.hlc, message, author });
    let Some(line) = rows::get::<MessageRow>(&t.rows, &key)? else { return Ok(None) };
    let MessageRow { text, counter, reply, mentions, lasts_ms, .. } = line;
    let gone = t.rows.get(&rows::unsent_key(thread, &Target { message, author }))?.is_some();
    let body = if gone { Body::Gone } else { Body::Text(text) };
    Ok(Some(Content { counter, reply, mentions, lasts_ms, ..Content::new(message, seen.hlc, body) }))
}

/// What a content of ours said is not to be said again: whoever misses it is told that it is no more.
pub(crate) fn say_no_more<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: &ThreadId,
    at: &PlaceRow,
) -> Result<(), StorageError> {
    let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&at.message, &at.author))?;
    let Some(counter) = seen.and_then(|seen| seen.counter) else { return Ok(()) };
    let key = rows::said_key(thread, counter);
    if let Some(said) = rows::get::<SaidRow>(&t.rows, &key)? {
        let gone = Content { counter: Some(counter), ..Content::new(at.message, at.hlc, Body::Gone) };
        rows::put(&mut t.rows, key, &SaidRow { body: Some(encode_words(&gone)), ..said });
    }
    Ok(())
}

/// Whether a content of ours was stored before the last newcomers came: it is not for them.
pub(crate) fn is_not_for_newcomers<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    row: &ThreadRow,
    content: &Content,
) -> Result<bool, StorageError> {
    let Some(counter) = content.counter else { return Ok(false) };
    let said: Option<SaidRow> = rows::get(&t.rows, &rows::said_key(thread, counter))?;
    let place = PlaceRow { hlc: content.hlc, message: content.message, author: t.rooms.identity.id() };
    let line: Option<MessageRow> = rows::get(&t.rows, &rows::history_key(thread, &place))?;
    let queued = line.is_some_and(|line| line.state == Some(StateRow::Queued));
    Ok(said.is_some_and(|said| !queued && !said.waits && said.epoch.get() < row.grown))
}

/// A relay has a content of ours that is no text: whoever comes from now on is not to have it.
pub(crate) fn stored<E: Engine>(t: &mut Turn<'_, E>, thread: &ThreadId, counter: u64) -> Result<(), StorageError> {
    let key = rows::said_key(thread, counter);
    if let Some(said) = rows::get::<SaidRow>(&t.rows, &key)?.filter(|said| said.waits) {
        rows::put(&mut t.rows, key, &SaidRow { waits: false, ..said });
    }
    Ok(())
}

/// Somebody said to have more than before: they are there, and what else they miss need not wait for long.
pub(crate) fn answered<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let key = rows::resend_key(&thread);
    let Some(mut resend) = rows::get::<ResendRow>(&t.rows, &key)? else { return Ok(()) };
    if resend.attempts > 0 {
        pass(t, &thread, &mut resend)?;
        resend.attempts = 0;
        rows::put(&mut t.rows, key, &resend);
        let wait = resend.planned(&t.rows, &thread)?;
        t.rooms.timers.set(Timer::Resend(thread), t.now.monotonic.plus(wait));
    }
    Ok(())
}

fn pass<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId, resend: &mut ResendRow) -> Result<(), StorageError> {
    let elapsed = resend.elapsed(t.now.wall, resend.planned(&t.rows, thread)?);
    resend.passed_ms = resend.passed_ms.saturating_add(elapsed.as_millis() as u64);
    resend.at = t.now.wall;
    Ok(())
}

/// It is time to see to what is awaited in a thread.
pub(crate) fn due<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if planted::active(Bug::ExpirySilent) {
        return Ok(());
    }
    let key = rows::resend_key(&thread);
    let Some(mut resend) = rows::get::<ResendRow>(&t.rows, &key)? else { return Ok(()) };
    pass(t, &thread, &mut resend)?;
    let prefix = rows::awaited_prefix(&thread);
    let awaited = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, STRETCH)?;
    let whole = awaited.len() == STRETCH;
    let row = thread::get(&t.rows, &thread)?;
    let lives = row.as_ref().is_some_and(|row| matches!(row.state, ThreadState::Open | ThreadState::Opening));
    let (Some(mut row), true, false) = (row, lives, awaited.is_empty()) else {
        awaited.iter().for_each(|(key, _)| t.rows.delete(key.clone()));
        if awaited.len() < STRETCH {
            t.rows.delete(key);
        } else {
            rows::put(&mut t.rows, key, &resend);
            t.rooms.timers.set(Timer::Resend(thread), t.now.monotonic.plus(limits::RETRY_DELAY));
        }
        return Ok(());
    };
    // What waits in the outbox goes first; and nothing is said again where nothing can be said.
    let admitted = t.rooms.reception.admitted().is_some();
    let hindered = admitted && row.queued > 0;
    let may = row.state == ThreadState::Open && admitted && !hindered;
    let (mut again, mut over) = (0, false);
    for (key, value) in awaited {
        let waiting: AwaitedRow = rows::decode(&key, &value)?;
        let age = resend.passed_ms.saturating_sub(waiting.since_ms);
        if u128::from(age) >= limits::MESSAGE_AGE_MAX.as_millis() {
            over = true;
            t.rows.delete(key);
            expire(t, thread, &row, waiting.message)?;
        } else if may && again < limits::RESEND_MESSAGES_MAX {
            match say_again(t, thread, &mut row, waiting.message)? {
                Again::Said => again += 1,
                Again::NotNow => {}
                Again::Never => t.rows.delete(key),
            }
        }
    }
    if again > 0 || over {
        thread::put(&mut t.rows, &thread, &row);
    }
    // Whoever cannot say anything now does so as soon as they can, and not with the next try.
    if t.rooms.reception.admitted().is_none() {
        t.rooms.threads.unsaid.insert(thread);
    }
    if may {
        resend.attempts = resend.attempts.saturating_add(1);
    }
    let planned = resend.planned(&t.rows, &thread)?;
    rows::put(&mut t.rows, key, &resend);
    let wait = match row.state {
        // More may be over than one look takes.
        _ if over && whole => limits::RETRY_DELAY,
        // What is in the way is leaving: that takes no time like the one to the next try.
        ThreadState::Open if hindered => planned.min(limits::RESEND_AFTER_MIN),
        _ => planned,
    };
    t.rooms.timers.set(Timer::Resend(thread), t.now.monotonic.plus(wait));
    send::pump(t, thread)
}

/// The relay let the device in: what became due before is looked at now.
pub(crate) fn admitted<E: Engine>(t: &mut Turn<'_, E>) {
    for thread in std::mem::take(&mut t.rooms.threads.unsaid) {
        t.rooms.timers.set(Timer::Resend(thread), t.now.monotonic);
    }
}

/// What came of saying something again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// It is on its way. The caller writes the thread's row.
    Said,
    /// There are newcomers, whom it is not for.
    NotNow,
    /// It failed for good, or is no more.
    Never,
}

/// Seals a content of ours in the present epoch, under its id, clock and counter.
pub(crate) fn say_again<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    message: MessageId,
) -> Result<Again, StorageError> {
    let Some(content) = content(t, &thread, message)? else { return Ok(Again::Never) };
    let said: Option<SaidRow> = match content.counter {
        Some(counter) => rows::get(&t.rows, &rows::said_key(&thread, counter))?,
        None => None,
    };
    let Some(said) = said else { return Ok(Again::Never) };
    // Nobody answers for what is no more; who asks for it is told so.
    if content.body == Body::Gone {
        return Ok(Again::Never);
    }
    if said.epoch.get() < row.grown {
        return Ok(Again::NotNow);
    }
    let author = t.rooms.identity.id();
    let key = rows::history_key(&thread, &PlaceRow { hlc: said.hlc, message, author });
    let line: Option<MessageRow> = rows::get(&t.rows, &key)?;
    let state = line.and_then(|line| thread::state(&line, Some(&*row), &author.account));
    if matches!(state, Some(State::Failed(_))) {
        return Ok(Again::Never);
    }
    match send::seal(t, thread, row, &content, class(&content.body), Some(message), None) {
        Ok(()) => {}
        Err(Halt::Broken(error)) => return Err(error),
        Err(Halt::Command(error)) => {
            debug!(%error, "not sealed again");
            return Ok(Again::NotNow);
        }
    }
    row.queued = row.queued.saturating_add(1);
    t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_add(1);
    Ok(Again::Said)
}

/// What relays see of it: a text is a message, all else is about one.
pub(crate) const fn class(body: &Body) -> Class {
    match body {
        Body::Text(_) => Class::Message,
        _ => Class::Control,
    }
}

/// The time for everybody to say that they have it is over: its author is told who did not.
fn expire<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    message: MessageId,
) -> Result<(), StorageError> {
    let author = t.rooms.identity.id();
    let Some(seen) = rows::get::<SeenRow>(&t.rows, &rows::message_key(&message, &author))? else { return Ok(()) };
    let Some(counter) = seen.counter else { return Ok(()) };
    let Some(said) = rows::get::<SaidRow>(&t.rows, &rows::said_key(&thread, counter))? else { return Ok(()) };
    let missed = receipts::silent(&said, row, &author.account);
    let key = rows::history_key(&thread, &PlaceRow { hlc: seen.hlc, message, author });
    let Some(mut line) = rows::get::<MessageRow>(&t.rows, &key)? else { return Ok(()) };
    if missed.is_empty() {
        return Ok(());
    }
    line.missed = missed.into_iter().collect();
    line.missed_for = None;
    rows::put(&mut t.rows, key, &line);
    send::tell_state(t, thread, message, &line)
}
