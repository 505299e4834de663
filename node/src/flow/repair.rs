//! Repair: contents that are missing, by their authors' counters.
//! In order: every counted content is noted; a gap that stays open is shown, and asked for in the thread, ever more
//! seldom; its author seals what is missing again, under its id, or says that it is no more.
//! Never: gives anybody what was said before they came; answers a member as often as it likes. Rules:
//! docs/protocol/message.md, "Gaps".

use tracing::debug;
use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{DeviceId, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Repair};
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::{Order, Reads, StorageError};

use super::resend::{self, Again};
use super::{dropped, send};
use crate::api::Event;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, CountRow, GapRow, SaidRow, ThreadRow, ThreadState};
use crate::thread;
use crate::timers::Timer;

/// Devices asked about at one time.
const GAPS_MAX: usize = 64;

/// A counted content of another device is here.
pub(crate) fn note<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &ThreadRow,
    (author, hlc): (DeviceId, Hlc),
    counter: u64,
) -> Result<(), StorageError> {
    let known = rows::count(&t.rows, &thread, &author)?;
    // Who came later does not know what was said before; there the first that is seen is the first.
    let begins = if row.joined <= 1 { 0 } else { counter.saturating_sub(1) };
    let newcomers = known.is_none() && row.joined > 1;
    let mut count = known.unwrap_or(CountRow { upto: begins, ..CountRow::default() });
    let missing = count.missing();
    let far = counter.saturating_sub(count.upto) > u64::from(limits::RATCHET_FORWARD);
    if far || !count.note(counter) {
        return Ok(());
    }
    if count.beyond.len() > limits::COUNTER_STRETCHES_MAX {
        count.give_up();
    }
    rows::put(&mut t.rows, rows::count_key(&thread, &author), &count);
    // The first that is seen of a device says nothing of what it said before.
    if !newcomers {
        dropped::counted(t, thread, (author, hlc), count.missing().saturating_sub(missing))?;
    }
    let key = rows::gap_key(&thread, &author);
    let asked = t.rows.get(&key)?.is_some();
    match (count.beyond.is_empty(), asked) {
        (true, true) => t.rows.delete(key),
        (false, false) => {
            rows::put(&mut t.rows, key, &GapRow::default());
            t.rooms.timers.set(Timer::Repair(thread), t.now.monotonic.plus(limits::REPAIR_AFTER));
        }
        _ => {}
    }
    Ok(())
}

/// What is missing in a thread and has not come another way is asked for.
pub(crate) fn due<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    let prefix = rows::gap_prefix(Some(&thread));
    let found = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, GAPS_MAX)?;
    // What is parked may be what is missing.
    let may = row.state == ThreadState::Open
        && t.rooms.reception.admitted().is_some()
        && !t.rooms.threads.unparking.contains(&thread);
    let (mut wait, mut said) = (None, false);
    for (key, value) in found {
        let (_, author) = rows::gap_device(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
        let mut gap: GapRow = rows::decode(&key, &value)?;
        let count = rows::count(&t.rows, &thread, &author)?.unwrap_or_default();
        let member = thread::leaves(&row).any(|leaf| leaf == author);
        if gap.attempts >= limits::REPAIR_ATTEMPTS_MAX || count.beyond.is_empty() || !member {
            t.rows.delete(key);
            continue;
        }
        if may {
            said = true;
            ask(t, thread, &mut row, author, &count)?;
            if gap.attempts == 0 {
                let shown_in = thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?
                    .map_or(thread, |(thread, _)| thread);
                t.event(Event::Missing { thread: shown_in, author, count: count.missing() });
            }
            gap.attempts = gap.attempts.saturating_add(1);
            rows::put(&mut t.rows, key, &gap);
        }
        let next = limits::REPAIR_AFTER.saturating_mul(2u32.saturating_pow(gap.attempts));
        wait = Some(wait.map_or(next, |before: std::time::Duration| before.min(next)));
    }
    if let Some(wait) = wait {
        t.rooms.timers.set(Timer::Repair(thread), t.now.monotonic.plus(wait));
    }
    if said {
        thread::put(&mut t.rows, &thread, &row);
        send::pump(t, thread)?;
    }
    Ok(())
}

fn ask<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    author: DeviceId,
    count: &CountRow,
) -> Result<(), StorageError> {
    let counters = rows::gaps(count).flat_map(|(first, last)| first..=last).take(limits::REPAIR_COUNTERS_MAX);
    let body = Body::Repair(Repair { author, counters: counters.collect() });
    let content = Content::new(MessageId::from_bytes(t.chance.bytes()), thread::tick(&mut t.rows, t.now.wall)?, body);
    uncounted(t, thread, row, &content)
}

fn uncounted<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    row: &mut ThreadRow,
    content: &Content,
) -> Result<(), StorageError> {
    match send::seal(t, thread, row, content, Class::Control, None, None) {
        Ok(()) => Ok(()),
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            debug!(%error, "nothing asked or answered");
            Ok(())
        }
    }
}

/// Somebody misses contents. Who wrote them gives them again: to all, since nothing in a thread is for one alone.
pub(crate) fn asked<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    by: DeviceId,
    repair: &Repair,
) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    // As with what is sealed again: never on top of what waits, nor while nothing can leave.
    let may = row.queued == 0 && t.rooms.reception.admitted().is_some() && repair.counters.is_sorted_by(|a, b| a < b);
    if repair.author != t.rooms.identity.id() || row.state != ThreadState::Open || !may {
        return Ok(());
    }
    let answered = &mut t.rooms.threads.answered;
    let now = t.now.monotonic;
    answered.retain(|_, at| now.since(*at) < limits::REPAIR_ANSWER_EVERY);
    if answered.contains_key(&(thread, by)) || answered.len() >= limits::REPAIR_ANSWERED_MAX {
        return Ok(());
    }
    answered.insert((thread, by), now);
    for counter in &repair.counters {
        let Some(said) = rows::get::<SaidRow>(&t.rows, &rows::said_key(&thread, *counter))? else { continue };
        if resend::say_again(t, thread, &mut row, said.message)? == Again::Never {
            let gone = Content { counter: Some(*counter), ..Content::new(said.message, said.hlc, Body::Gone) };
            uncounted(t, thread, &mut row, &gone)?;
        }
    }
    thread::put(&mut t.rows, &thread, &row);
    send::pump(t, thread)
}
