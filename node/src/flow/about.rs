//! About: what is said about messages that are there, or may come yet: edits, texts taken back, signs beside them, how long
//! texts last.
//! In order: one function applies them, whoever said them and in whatever order they come, so that every device and every
//! restart comes to the same: the latest by its author's clock, then id, then device holds.
//! Never: lets anybody change another's text, or a text of another thread. Rules: docs/protocol/message.md, "Changes".

use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{Epoch, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Reaction, Target};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{resend, send};
use crate::api::{CommandError, Event, Reply};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, EditRow, PlaceRow, ReactionRow, SeenRow, ThreadRow, TimerRow, VanishRow};
use crate::thread;
use crate::timers::Timer;

/// The longest the node sleeps on texts that go by themselves: what a clock did meanwhile shows then.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Another text in place of one of the owner's.
pub(crate) fn edit<E: Engine>(t: &mut Turn<'_, E>, of: Target, text: String) -> Result<Reply, Halt> {
    send::check(t, &text)?;
    let (thread, row) = own_text(t, &of)?;
    say(t, thread, row, Body::Edit(of, text))
}

/// Takes a text of the owner's back.
pub(crate) fn unsend<E: Engine>(t: &mut Turn<'_, E>, of: Target) -> Result<Reply, Halt> {
    let (thread, row) = own_text(t, &of)?;
    say(t, thread, row, Body::Unsend(of))
}

/// Puts a sign beside a message, or takes it away.
pub(crate) fn react<E: Engine>(t: &mut Turn<'_, E>, to: Target, sign: String, stands: bool) -> Result<Reply, Halt> {
    if sign.is_empty() || sign.len() > limits::REACTION_BYTES_MAX {
        return Err(CommandError::TooLong { what: "a sign", max: limits::REACTION_BYTES_MAX }.into());
    }
    let (thread, row) = text(t, &to)?;
    say(t, thread, row, Body::React(Reaction { to, sign, stands }))
}

/// Says how long texts of a thread last from now on.
pub(crate) fn set_timer<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, lasts: Duration) -> Result<Reply, Halt> {
    let (thread, row) =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.ok_or(CommandError::Unknown)?;
    if lasts > limits::LASTS_MAX {
        return Err(CommandError::State("a text lasts a year at most, or for ever".to_owned()).into());
    }
    if row.is_group() && !row.is_admin(&t.rooms.identity.account()) {
        return Err(CommandError::State("only an admin of a group decides that".to_owned()).into());
    }
    say(t, thread, row, Body::Timer(lasts.as_millis() as u64))
}

/// A text that is here, in a thread that can be written to.
fn text<E: Engine>(t: &Turn<'_, E>, of: &Target) -> Result<(ThreadId, ThreadRow), Halt> {
    let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&of.message, &of.author))?;
    let seen = seen.ok_or(CommandError::Unknown)?;
    let place = PlaceRow { hlc: seen.hlc, message: of.message, author: of.author };
    let there = t.rows.get(&rows::history_key(&seen.thread, &place))?.is_some();
    let gone = t.rows.get(&rows::unsent_key(&seen.thread, of))?.is_some();
    let row = thread::get(&t.rows, &seen.thread)?.filter(|_| there && !gone).ok_or(CommandError::Unknown)?;
    Ok((seen.thread, row))
}

fn own_text<E: Engine>(t: &Turn<'_, E>, of: &Target) -> Result<(ThreadId, ThreadRow), Halt> {
    let planted = planted::active(Bug::EditOfAnother) || planted::active(Bug::UnsendOfAnother);
    if of.author.account != t.rooms.identity.account() && !planted {
        return Err(CommandError::State("it is not your message".to_owned()).into());
    }
    text(t, of)
}

/// Seals a counted content that is no text, and applies it here.
fn say<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, mut row: ThreadRow, body: Body) -> Result<Reply, Halt> {
    send::writable(&row)?;
    let queued = usize::try_from(t.rooms.outbox.queued).unwrap_or(usize::MAX);
    if queued >= limits::OUTBOX_MAX {
        return Err(CommandError::OutboxFull(queued).into());
    }
    let message = MessageId::from_bytes(t.chance.bytes());
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let (counter, parents) = (Some(row.counter.saturating_add(1)), row.heads.clone());
    let content = Content { counter, parents, ..Content::new(message, hlc, body) };
    send::seal(t, thread, &mut row, &content, resend::class(&content.body), Some(message), None)?;
    resend::said(t, thread, &row, &content)?;
    row.counter = row.counter.saturating_add(1);
    row.queued = row.queued.saturating_add(1);
    row.updated = t.now.wall;
    thread::put(&mut t.rows, &thread, &row);
    t.rooms.outbox.queued = t.rooms.outbox.queued.saturating_add(1);
    let (author, arrival) = (t.rooms.identity.id(), thread::arrive(&mut t.rows)?);
    rows::put(&mut t.rows, rows::message_key(&message, &author), &SeenRow { thread, hlc, arrival, counter });
    apply(t, (thread, row.epoch), PlaceRow { hlc, message, author }, content.body)?;
    send::pump(t, thread)?;
    Ok(Reply::Queued { thread, message })
}

/// Something said about messages in an epoch of a thread holds from this step on, if its author might say it then and nobody
/// said later.
pub(crate) fn apply<E: Engine>(
    t: &mut Turn<'_, E>,
    (thread, epoch): (ThreadId, Epoch),
    at: PlaceRow,
    body: Body,
) -> Result<(), StorageError> {
    match body {
        Body::Edit(of, text) => {
            let own = of.author.account == at.author.account || planted::active(Bug::EditOfAnother);
            let key = rows::edit_key(&thread, &of);
            let before: Option<EditRow> = rows::get(&t.rows, &key)?;
            let gone = t.rows.get(&rows::unsent_key(&thread, &of))?.is_some();
            let late = before.is_some_and(|before| before.at >= at);
            let over = is_over(t, &thread, &of)?;
            if !own || gone || over || text.is_empty() || late {
                debug!(own, gone, "an edit changes nothing");
                return Ok(());
            }
            forget_edit(t, &thread, &of)?;
            rows::put(&mut t.rows, key, &EditRow { at, text });
            tell(t, thread, of)
        }
        Body::Unsend(of) => {
            if of.author.account != at.author.account && !planted::active(Bug::UnsendOfAnother) {
                debug!("what another said is not taken back");
                return Ok(());
            }
            t.rows.put(rows::unsent_key(&thread, &of), Vec::new());
            forget_edit(t, &thread, &of)?;
            rows::blank(&mut t.rows, &thread, &of)?;
            tell(t, thread, of)
        }
        Body::React(Reaction { to, sign, stands }) => {
            let key = rows::reaction_key(&thread, &to, &at.author.account, &sign);
            let before: Option<ReactionRow> = rows::get(&t.rows, &key)?;
            if sign.is_empty() || before.is_some_and(|before| before.at >= at) {
                return Ok(());
            }
            rows::put(&mut t.rows, key, &ReactionRow { at, stands });
            tell(t, thread, to)
        }
        Body::Timer(lasts_ms) => {
            let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
            let may = !row.is_group() || row.policy_in(epoch).is_some_and(|policy| policy.is_admin(&at.author.account));
            let later = row.timer.is_none_or(|before| before.at < at);
            if may && later && u128::from(lasts_ms) <= limits::LASTS_MAX.as_millis() {
                row.timer = Some(TimerRow { lasts_ms, at });
                thread::put(&mut t.rows, &thread, &row);
                let shown_in = thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?
                    .map_or(thread, |(thread, _)| thread);
                t.event(Event::TimerChanged { thread: shown_in, lasts: Duration::from_millis(lasts_ms) });
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The text that stood in place of a message's goes, and with it what this device would say again of it.
fn forget_edit<E: Engine>(t: &mut Turn<'_, E>, thread: &ThreadId, of: &Target) -> Result<(), StorageError> {
    let key = rows::edit_key(thread, of);
    let Some(EditRow { at, .. }) = rows::get(&t.rows, &key)? else { return Ok(()) };
    t.rows.delete(key);
    if at.author == t.rooms.identity.id() {
        resend::say_no_more(t, thread, &at)?;
    }
    Ok(())
}

/// Whether a text that was here went by itself. One that has not come yet may still come.
fn is_over<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId, of: &Target) -> Result<bool, StorageError> {
    let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&of.message, &of.author))?;
    let Some(seen) = seen.filter(|seen| seen.thread == *thread) else { return Ok(false) };
    let place = PlaceRow { hlc: seen.hlc, message: of.message, author: of.author };
    Ok(t.rows.get(&rows::history_key(thread, &place))?.is_none())
}

/// The owner is told of a message that looks different now, if it is here.
fn tell<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, of: Target) -> Result<(), StorageError> {
    let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&of.message, &of.author))?;
    if seen.is_some_and(|seen| seen.thread == thread) {
        let thread =
            thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
        t.event(Event::Changed { thread, message: of.message, author: of.author });
    }
    Ok(())
}

/// A text that came, or was written, lasts so long.
pub(crate) fn lasts<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, place: PlaceRow, lasts_ms: u64) {
    let due = Wall::from_millis(t.now.wall.as_millis().saturating_add(lasts_ms));
    let row = VanishRow { thread, place };
    rows::put(&mut t.rows, rows::vanish_key(due, &row), &row);
    // The first of all is looked for anew.
    t.rooms.timers.set(Timer::Vanish, t.now.monotonic);
}

/// Removes the texts whose time is over, a stretch at a time.
pub(crate) fn vanish<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let prefix = rows::vanish_prefix();
    let found = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::VANISH_STEP_MAX)?;
    let whole = found.len() == limits::VANISH_STEP_MAX;
    for (key, value) in found {
        let due = rows::vanish_due(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
        if due > t.now.wall {
            let wait = Duration::from_millis(due.as_millis().saturating_sub(t.now.wall.as_millis()));
            t.rooms.timers.set(Timer::Vanish, t.now.monotonic.plus(wait.min(LOOK_EVERY)));
            return Ok(());
        }
        remove(t, rows::decode(&key, &value)?)?;
        t.rows.delete(key);
    }
    if whole {
        t.rooms.timers.set(Timer::Vanish, t.now.monotonic);
    }
    Ok(())
}

/// A text goes, with all that was said about it. That it was here stays known: it is not shown again.
fn remove<E: Engine>(t: &mut Turn<'_, E>, row: VanishRow) -> Result<(), StorageError> {
    let VanishRow { thread, place } = row;
    let of = Target { message: place.message, author: place.author };
    t.rows.delete(rows::history_key(&thread, &place));
    forget_edit(t, &thread, &of)?;
    let prefix = rows::reaction_prefix(&thread, &of);
    let signs = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::VANISH_STEP_MAX)?;
    signs.into_iter().for_each(|(key, _)| t.rows.delete(key));
    if let Some(seen) = rows::get::<SeenRow>(&t.rows, &rows::message_key(&of.message, &of.author))?
        && let Some(mut line) = thread::get(&t.rows, &thread)?
    {
        let unread = rows::unread_key(&thread, seen.arrival);
        if t.rows.get(&unread)?.is_some() {
            t.rows.delete(unread);
            if seen.arrival > line.read {
                line.unread = line.unread.saturating_sub(1);
                thread::put(&mut t.rows, &thread, &line);
            }
        }
    }
    let shown_in =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
    t.event(Event::Changed { thread: shown_in, message: of.message, author: of.author });
    Ok(())
}
