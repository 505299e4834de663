//! Receipts: what this device has of others', and what others have of ours.
//! In order: a content and the receipt owed for it become durable in one batch; what is owed in a thread gathers for a
//! drawn time and leaves as one content; what comes back is noted with what was said.
//! Never: gives one for what is not counted, for what does not stand here, or to anybody who is not in the thread; in a
//! thread too large for them. Rules: docs/protocol/message.md, "Receipts".

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{AccountId, DeviceId, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, DeviceReceipt};
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Order, Reads, StorageError};

use super::{resend, send};
use crate::api::Event;
use crate::contacts;
use crate::rooms::{Halt, Turn};
use crate::rows::{
    self, MessageRow, OwedRow, PlaceRow, SaidRow, SeenRow, SettingsRow, StateRow, ThreadRow, ThreadState,
};
use crate::thread;
use crate::timers::Timer;

/// An unsent receipt is worth nothing after this: its author has sealed the content again, and gets another.
const HOLDS: Duration = Duration::from_secs(24 * 3_600);

/// A content of somebody's stands here when this step is durable: they are told.
pub(crate) fn owe<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    author: DeviceId,
    message: MessageId,
    read: bool,
) -> Result<(), StorageError> {
    if !gives(t, row, &author)? {
        return Ok(());
    }
    let key = rows::owed_key(&thread, &message);
    let before: OwedRow = rows::get(&t.rows, &key)?.unwrap_or_default();
    let after = OwedRow { delivered: true, read: before.read || read };
    if after != before {
        rows::put(&mut t.rows, key, &after);
    }
    t.rooms.threads.owing.insert(thread);
    schedule(t, thread);
    Ok(())
}

/// Whether an author hears in this thread that their contents came.
fn gives<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow, author: &DeviceId) -> Result<bool, StorageError> {
    let own = t.rooms.identity.id();
    let open = matches!(row.state, ThreadState::Open | ThreadState::Opening);
    if !open || *author == own || thread::leaves(row).count() > limits::RECEIPT_LEAVES_MAX {
        return Ok(false);
    }
    if thread::leaves(row).all(|leaf| leaf != *author) {
        return Ok(false);
    }
    consents(t, row)
}

/// Between two it is a matter of consent, as everything is; in a group, of its members.
fn consents<E: Engine>(t: &Turn<'_, E>, row: &ThreadRow) -> Result<bool, StorageError> {
    let own = t.rooms.identity.account();
    match row.participants.as_slice() {
        [one, other] => {
            let other = if one.account == own { other } else { one };
            contacts::is_contact(&t.rows, &other.account)
        }
        _ => Ok(true),
    }
}

/// Whether the owner lets others know what they read: in this thread, or else at all.
pub(crate) fn tells_read<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId) -> Result<bool, StorageError> {
    let settings: Option<SettingsRow> = rows::get(&t.rows, &rows::settings_key(thread))?;
    Ok(settings.and_then(|row| row.read_receipts).unwrap_or(t.config.read_receipts))
}

fn schedule<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) {
    if !t.rooms.timers.is_set(Timer::Receipts(thread)) {
        let spread = limits::RECEIPT_DELAY_MAX.saturating_sub(limits::RECEIPT_DELAY_MIN).as_millis() as u64;
        let delay = limits::RECEIPT_DELAY_MIN + Duration::from_millis(t.chance.below(spread.saturating_add(1)));
        t.rooms.timers.set(Timer::Receipts(thread), t.now.monotonic.plus(delay));
    }
}

/// The relay is there: what is owed gathers and leaves.
pub(crate) fn resume<E: Engine>(t: &mut Turn<'_, E>) {
    let threads: Vec<ThreadId> = t.rooms.threads.owing.iter().copied().collect();
    threads.into_iter().for_each(|thread| schedule(t, thread));
}

/// What is owed in a thread leaves.
pub(crate) fn leave<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let row = thread::get(&t.rows, &thread)?;
    let waits = row.as_ref().is_some_and(|row| row.state == ThreadState::Opening);
    if waits || t.rooms.reception.admitted().is_none() {
        // Not sealed before it can leave: by then there may be more to say, and the epoch may be another.
        return Ok(());
    }
    let prefix = rows::owed_prefix(&thread);
    let owed = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::RECEIPT_MESSAGES_MAX)?;
    let (mut delivered, mut read) = (Vec::new(), Vec::new());
    let more = owed.len() == limits::RECEIPT_MESSAGES_MAX;
    for (key, value) in owed {
        let what: OwedRow = rows::decode(&key, &value)?;
        let message = rows::owed_message(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
        if what.read {
            read.push(message)
        } else {
            delivered.push(message)
        }
        t.rows.delete(key);
    }
    let consents = match &row {
        Some(row) => consents(t, row)?,
        None => false,
    };
    if let Some(mut row) = row.filter(|row| consents && row.state == ThreadState::Open) {
        for (read, messages) in [(false, delivered), (true, read)] {
            if !messages.is_empty() {
                say(t, thread, &mut row, DeviceReceipt { read, messages })?;
            }
        }
        thread::put(&mut t.rows, &thread, &row);
    }
    if more {
        schedule(t, thread);
    } else {
        t.rooms.threads.owing.remove(&thread);
    }
    send::pump(t, thread)
}

fn say<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    receipt: DeviceReceipt,
) -> Result<(), StorageError> {
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let content = Content::new(MessageId::from_bytes(t.chance.bytes()), hlc, Body::Receipt(receipt));
    let until = Wall::from_millis(t.now.wall.as_millis().saturating_add(HOLDS.as_millis() as u64));
    match send::seal(t, thread, row, &content, Class::Control, None, Some(until)) {
        Ok(()) => Ok(()),
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            debug!(%error, "no receipt given");
            Ok(())
        }
    }
}

/// A device says what it has of ours. Of anybody else's, of what was never for it, or of what is not known here, it may
/// say what it likes.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    by: DeviceId,
    receipt: &DeviceReceipt,
) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    for message in &receipt.messages {
        let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(message, &own))?;
        let Some(counter) = seen.filter(|seen| seen.thread == thread).and_then(|seen| seen.counter) else { continue };
        let key = rows::said_key(&thread, counter);
        let Some(mut said) = rows::get::<SaidRow>(&t.rows, &key)? else { continue };
        let bit = said.bit(&by);
        let before = (said.delivered, said.read);
        said.delivered |= bit;
        said.read |= if receipt.read { bit } else { 0 };
        if (said.delivered, said.read) == before {
            continue;
        }
        rows::put(&mut t.rows, key, &said);
        if said.delivered != before.0 {
            resend::answered(t, thread)?;
        }
        note(t, thread, counter, &said)?;
    }
    Ok(())
}

/// Every device it is for has it, by their own word on direct links.
pub(crate) fn everybody<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, counter: u64) -> Result<(), StorageError> {
    let key = rows::said_key(&thread, counter);
    t.rows.delete(rows::awaited_key(&thread, counter));
    let Some(mut said) = rows::get::<SaidRow>(&t.rows, &key)? else { return Ok(()) };
    // Of those who left meanwhile nobody knows.
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    let there = thread::leaves(&row).fold(said.delivered, |bits, leaf| bits | said.bit(&leaf));
    if said.delivered != there {
        said.delivered = there;
        rows::put(&mut t.rows, key, &said);
    }
    Ok(())
}

/// Whose word on a content is still awaited: those it was for who are in the thread to this day.
pub(crate) fn missing(said: &SaidRow, row: &ThreadRow) -> Vec<DeviceId> {
    let silent = said.all() & !said.delivered;
    said.devices(silent).filter(|device| thread::leaves(row).any(|leaf| leaf == *device)).collect()
}

/// Who, but for the owner, has not said on any device to have a content: who reads it on one has it.
pub(crate) fn silent(said: &SaidRow, row: &ThreadRow, own: &AccountId) -> BTreeSet<AccountId> {
    let have: BTreeSet<AccountId> = said.devices(said.delivered).map(|device| device.account).collect();
    let missing = missing(said, row).into_iter().map(|device| device.account);
    missing.filter(|account| account != own && !have.contains(account)).collect()
}

/// More devices than before have a content of ours.
fn note<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, counter: u64, said: &SaidRow) -> Result<(), StorageError> {
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    let missing = missing(said, &row);
    let author = t.rooms.identity.id();
    let key = rows::history_key(&thread, &PlaceRow { hlc: said.hlc, message: said.message, author });
    if let Some(mut line) = rows::get::<MessageRow>(&t.rows, &key)?
        && !line.missed.is_empty()
    {
        // Given up too early: they have it after all.
        let silent = silent(said, &row, &author.account);
        line.missed.retain(|account| silent.contains(account));
        rows::put(&mut t.rows, key, &line);
    }
    let shown_in =
        thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?.map_or(thread, |(thread, _)| thread);
    t.event(Event::Receipt {
        thread: shown_in,
        message: said.message,
        delivered: said.delivered.count_ones(),
        read: said.read.count_ones(),
        of: said.to.len() as u32,
    });
    if missing.is_empty() {
        t.rows.delete(rows::awaited_key(&thread, counter));
        send::set_state(t, said.message, StateRow::Delivered)?;
    }
    Ok(())
}
