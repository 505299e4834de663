//! History: what was said before this device came, from a sibling that has it, a page at a time.
//! In order: tell in the self thread under which key it is to be given; ask a sibling that is there for its conversations,
//! then for the texts of each, the newest first; keep a page and how far it leads in one batch, and only then ask for the
//! next. Whoever gives it remembers nothing: it reads its rows for each page, so either side may end and begin again.
//! Never: gives a group's secrets, or a text that goes by itself; shows as news, or twice, what comes this way.
//! Limits: `limits::HISTORY_LINES_AT_ONCE`, `limits::HISTORY_BYTES_AT_ONCE`, `limits::HISTORY_PAGE_EVERY`.
//! Rules: docs/protocol/devices.md, "History".

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::{Engine, SiblingKey};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Target;
use whimbrel_protocol::siblings::{
    Fact, HistoryLine, HistoryPlace, HistorySign, HistoryThread, HistoryWords, TellSibling, What,
};
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{facts, self_thread};
use crate::api::Event;
use crate::requests::Purpose;
use crate::rooms::Turn;
use crate::rows::{
    self, EditRow, HistoryRow, HistoryThreadRow, MessageRow, PlaceRow, ReactionRow, SeenRow, Space, StateRow,
    ThreadRow, ThreadState,
};
use crate::thread;
use crate::timers::Timer;

/// Rows read at once for a page.
const STRETCH: usize = 256;
/// So many stretches of texts that go by themselves are passed over for one page.
const STRETCHES_MAX: usize = 8;
/// So many times all siblings are asked for what none of them gives before it counts as lost.
const ROUNDS_MAX: u32 = 8;
/// Before the first page is asked for: the key has to reach those who give it.
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// A device without the history says under which key it is to be given it, and asks. Nothing when it has it.
pub(crate) fn want<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(row) = rows::get::<HistoryRow>(&t.rows, &rows::history_row_key())? else { return Ok(()) };
    if self_thread::current(t)?.is_none() {
        return Ok(());
    }
    facts::note(t, What::History(t.rooms.identity.id().index, Some(row.key)), None)?;
    // What was asked for under another key, or on an earlier link, is not answered any more.
    t.rooms.user.history.asked = None;
    t.rooms.timers.set(Timer::History, t.now.monotonic.plus(FIRST_AFTER));
    Ok(())
}

/// A device is none of the account's any more, and knew the keys: nothing more is given under the others', and another
/// takes the place of this device's, which is told once that one is out of the thread among them.
pub(crate) fn rekey<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let own = t.rooms.identity.id().index;
    let devices: Vec<DeviceIndex> = t.rooms.identity.log.devices().map(|device| device.index).collect();
    facts::forget_histories(t, |device| device != own && !devices.contains(&device))?;
    if let Some(row) = rows::get::<HistoryRow>(&t.rows, &rows::history_row_key())? {
        rows::put(&mut t.rows, rows::history_row_key(), &HistoryRow { key: t.chance.bytes(), from: None, ..row });
        want(t)?;
    }
    Ok(())
}

/// Whether what was said before this device came is not all here. What came late is asked for beside that.
fn lacks_some<E: Engine>(t: &Turn<'_, E>) -> Result<bool, StorageError> {
    let Some(row) = rows::get::<HistoryRow>(&t.rows, &rows::history_row_key())? else { return Ok(false) };
    let mut lacks = !row.listed;
    rows::each(&t.rows, &rows::history_thread_prefix(), |(key, value)| {
        lacks |= rows::decode::<HistoryThreadRow>(&key, &value)?.since.is_none();
        Ok(())
    })?;
    Ok(lacks)
}

/// A sibling has what some device could not be given. One that had a leaf in that epoch opens it itself.
pub(crate) fn told_late<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    since: Hlc,
    epoch: Epoch,
) -> Result<(), StorageError> {
    let Some(row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    let opens = row.state == ThreadState::Open && row.joined <= epoch.get();
    if opens { Ok(()) } else { late(t, thread, since) }
}

/// A sibling has what this device could not be given, for its author had not heard of it: it is asked for in its turn.
pub(crate) fn late<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, since: Hlc) -> Result<(), StorageError> {
    let row: Option<HistoryRow> = rows::get(&t.rows, &rows::history_row_key())?;
    if row.as_ref().is_some_and(|row| !row.listed) {
        // All of it is still to come.
        return Ok(());
    }
    let new = row.is_none();
    let mut row = row.unwrap_or_else(|| HistoryRow {
        key: t.chance.bytes(),
        from: None,
        listed: true,
        threads: 0,
        done: 0,
        texts: 0,
    });
    let (mut same, mut last, mut waits) = (None, None, 0_usize);
    rows::each(&t.rows, &rows::history_thread_prefix(), |(key, value)| {
        let waiting: HistoryThreadRow = rows::decode(&key, &value)?;
        if waiting.thread == thread && waiting.before.is_none() {
            same = Some((key.clone(), waiting));
        }
        last = rows::number_in_key(&key);
        waits = waits.saturating_add(1);
        Ok(())
    })?;
    if same.is_none() && waits >= limits::ACCOUNT_THREADS_MAX {
        debug!("too many conversations of which something is still to come");
        return Ok(());
    }
    if let Some((key, waiting)) = same {
        let since = waiting.since.map(|before| before.min(since));
        rows::put(&mut t.rows, key, &HistoryThreadRow { since, ..waiting });
    } else {
        let number = last.map_or(0, |last| last.saturating_add(1));
        let waiting = HistoryThreadRow { thread, before: None, since: Some(since) };
        rows::put(&mut t.rows, rows::history_thread_key(number), &waiting);
        row.threads = row.threads.saturating_add(1);
    }
    rows::put(&mut t.rows, rows::history_row_key(), &row);
    if new {
        return want(t);
    }
    if !t.rooms.timers.is_set(Timer::History) {
        t.rooms.timers.set(Timer::History, t.now.monotonic.plus(FIRST_AFTER));
    }
    Ok(())
}

/// Asks for the next page; the sibling that did not answer the last time has its turn after the others.
pub(crate) fn ask<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(mut row) = rows::get::<HistoryRow>(&t.rows, &rows::history_row_key())? else { return Ok(()) };
    if t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let candidates = siblings(t)?;
    if t.rooms.user.history.asked.take().is_some() {
        // Nobody said anything to it.
        let attempts = t.rooms.user.history.attempts.saturating_add(1);
        t.rooms.user.history.attempts = attempts;
        row.from = None;
        if attempts.is_multiple_of(candidates.len().max(1) as u32) {
            rows::put(&mut t.rows, rows::history_row_key(), &row);
            if row.listed {
                put_last(t, candidates.len() as u32)?;
            }
            return wait(t);
        }
    }
    let listed = row.from.filter(|from| candidates.contains(from));
    let after = candidates.iter().find(|one| t.rooms.user.history.tried.is_none_or(|tried| **one > tried));
    let Some(to) = listed.or_else(|| after.or_else(|| candidates.first()).copied()) else {
        return wait(t);
    };
    let number = u64::from_be_bytes(t.chance.bytes());
    let words = if row.listed {
        let prefix = rows::history_thread_prefix();
        let Some((_, value)) = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.pop() else {
            return finish(t, &row);
        };
        let next: HistoryThreadRow = rows::decode(&prefix, &value)?;
        let row = thread::get(&t.rows, &next.thread)?;
        let epoch = row.filter(|row| row.state == ThreadState::Open).map(|row| row.epoch);
        HistoryWords::Lines(number, next.thread, next.before.map(Into::into), epoch)
    } else {
        HistoryWords::Threads(number)
    };
    t.rooms.user.history.tried = Some(to);
    t.rooms.user.history.asked = Some(number);
    t.rooms.timers.set(Timer::History, t.now.monotonic.plus(limits::ANSWER_TIME_MAX * 2));
    say(t, to, &SiblingKey::from_bytes(row.key), &words, true);
    Ok(())
}

/// What none of them gives now must not stand before what they have.
fn put_last<E: Engine>(t: &mut Turn<'_, E>, others: u32) -> Result<(), StorageError> {
    let prefix = rows::history_thread_prefix();
    let first = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.pop();
    let last = t.rows.scan(&prefix, &rows::after(&prefix), Order::Descending, 1)?.pop();
    let (Some((first, value)), Some((last, _))) = (first, last) else { return Ok(()) };
    let Some(number) = rows::number_in_key(&last) else { return Ok(()) };
    let mut waiting: HistoryThreadRow = rows::decode(&first, &value)?;
    if t.rooms.user.history.attempts >= ROUNDS_MAX.saturating_mul(others) {
        // Nobody may have it any more. That must not keep this device from giving what it has.
        waiting.since = waiting.since.or(Some(Hlc::default()));
    }
    t.rows.delete(first);
    rows::put(&mut t.rows, rows::history_thread_key(number.saturating_add(1)), &waiting);
    Ok(())
}

/// Devices that may have it: the oldest first.
fn siblings<E: Engine>(t: &Turn<'_, E>) -> Result<Vec<DeviceIndex>, StorageError> {
    let own = t.rooms.identity.id();
    let Some((_, row)) = self_thread::current(t)? else { return Ok(Vec::new()) };
    let listed = |leaf: &DeviceId| *leaf != own && t.rooms.identity.log.device(leaf.index).is_some();
    let mut found: Vec<DeviceIndex> = thread::leaves(&row).filter(listed).map(|leaf| leaf.index).collect();
    found.sort_unstable();
    Ok(found)
}

/// Nobody gives it now: later again, ever more seldom.
fn wait<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let history = &mut t.rooms.user.history;
    history.asked = None;
    let others = siblings(t)?.len().max(1) as u32;
    let history = &mut t.rooms.user.history;
    // Each of them has its turn before the wait grows.
    let rounds = history.attempts / others;
    let round_over = history.attempts > 0 && history.attempts.is_multiple_of(others);
    let wait = limits::HISTORY_RETRY_MIN.saturating_mul(2u32.saturating_pow(rounds.min(16)));
    t.rooms.timers.set(Timer::History, t.now.monotonic.plus(wait.min(limits::HISTORY_RETRY_MAX)));
    // Or they do not know under which key.
    match rows::get::<HistoryRow>(&t.rows, &rows::history_row_key())? {
        Some(row) if round_over => facts::note(t, What::History(t.rooms.identity.id().index, Some(row.key)), None),
        _ => Ok(()),
    }
}

/// The relay could not pass it on: that sibling is not there, or must not be asked for so much.
pub(crate) fn not_passed<E: Engine>(t: &mut Turn<'_, E>, again: Option<Duration>) -> Result<(), StorageError> {
    if let Some(delay) = again {
        t.rooms.user.history.asked = None;
        t.rooms.timers.set(Timer::History, t.now.monotonic.plus(delay.max(limits::HISTORY_PAGE_EVERY)));
        return Ok(());
    }
    t.rooms.user.history.attempts = t.rooms.user.history.attempts.saturating_add(1);
    let key = rows::history_row_key();
    if let Some(row) = rows::get::<HistoryRow>(&t.rows, &key)? {
        rows::put(&mut t.rows, key, &HistoryRow { from: None, ..row });
    }
    wait(t)
}

fn context(account: &AccountId, from: DeviceIndex, to: DeviceIndex) -> Vec<u8> {
    let (from, to) = (from.get().to_be_bytes(), to.get().to_be_bytes());
    [b"whimbrel history 1\0".as_slice(), account.as_bytes(), &from, &to].concat()
}

fn say<E: Engine>(t: &mut Turn<'_, E>, to: DeviceIndex, key: &SiblingKey, words: &HistoryWords, asks: bool) {
    let own = t.rooms.identity.id();
    let sealed = key.seal(&context(&own.account, own.index, to), &encode_words(words), t.chance);
    if let Some(bytes) = sealed {
        t.ask(Purpose::Sibling(asks), |request| TellSibling { request, to, bytes });
    }
}

/// Words of another device, by the relay's word; whether they are its own the key tells.
pub(crate) fn heard<E: Engine>(t: &mut Turn<'_, E>, from: DeviceIndex, bytes: &[u8]) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    if from == own.index || t.rooms.identity.log.device(from).is_none() {
        return Ok(());
    }
    let context = context(&own.account, from, own.index);
    let key = rows::history_row_key();
    if let Some(row) = rows::get::<HistoryRow>(&t.rows, &key)?
        && let Some(plain) = SiblingKey::from_bytes(row.key).open(&context, bytes)
    {
        return match decode_words(&plain) {
            Ok(words) => take(t, from, row, words),
            Err(error) => {
                debug!(%error, "a page of a history cannot be read");
                Ok(())
            }
        };
    }
    let fact: Option<Fact> = rows::get(&t.rows, &rows::history_fact_key(from))?;
    let Some(What::History(_, Some(theirs))) = fact.map(|fact| fact.what) else { return Ok(()) };
    let theirs = SiblingKey::from_bytes(theirs);
    let Some(plain) = theirs.open(&context, bytes) else {
        debug!("words of a sibling that do not open");
        return Ok(());
    };
    // Half of it given as all there is would be all it ever gets: another sibling has its turn.
    if lacks_some(t)? {
        return Ok(());
    }
    let answer = match decode_words(&plain) {
        Ok(HistoryWords::Threads(number)) => HistoryWords::ThreadList(number, conversations(t)?),
        Ok(HistoryWords::Lines(_, thread, _, epoch)) if is_behind(t, &thread, epoch)? => return Ok(()),
        Ok(HistoryWords::Lines(number, thread, before, _)) => page(t, number, thread, before)?,
        Ok(_) => return Ok(()),
        Err(error) => {
            debug!(%error, "what a sibling asks for cannot be read");
            return Ok(());
        }
    };
    say(t, from, &theirs, &answer, false);
    Ok(())
}

/// Conversations in which something was said, the newest first.
fn conversations<E: Engine>(t: &Turn<'_, E>) -> Result<Vec<ThreadId>, StorageError> {
    let own = t.rooms.identity.account();
    let mut found = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        if planted::active(Bug::SiblingMissed) && !key.last().is_some_and(|one| one.is_multiple_of(4)) {
            return Ok(());
        }
        if let (Some(last), false, Some(id)) = (row.last, row.is_self(&own), rows::id_in_key(&key)) {
            found.push((last, ThreadId::from_bytes(id)));
        }
        Ok(())
    })?;
    found.sort_unstable();
    found.reverse();
    found.truncate(limits::ACCOUNT_THREADS_MAX);
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Whether this device has yet to come to where the asker is: what is sealed for the epochs between may still come to it, and
/// never to the asker. Nothing given for all there is of a conversation it has not heard of would be the end of it.
fn is_behind<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId, epoch: Option<Epoch>) -> Result<bool, StorageError> {
    let Some(row) = thread::get(&t.rows, thread)? else { return Ok(true) };
    Ok(row.state == ThreadState::Open && epoch.is_some_and(|epoch| row.epoch < epoch))
}

/// A page of a conversation, backwards from a place.
fn page<E: Engine>(
    t: &Turn<'_, E>,
    number: u64,
    id: ThreadId,
    before: Option<HistoryPlace>,
) -> Result<HistoryWords, StorageError> {
    let own = t.rooms.identity.account();
    let Some(row) = thread::get(&t.rows, &id)?.filter(|row| !row.is_self(&own)) else {
        return Ok(HistoryWords::LinePage(number, None, Vec::new(), None));
    };
    let prefix = rows::history_prefix(&id);
    let mut end = match before {
        Some(place) => rows::history_key(&id, &place.into()),
        None => rows::after(&prefix),
    };
    let (about, people) = about(row);
    let (mut lines, mut bytes, mut next) = (Vec::new(), 0_usize, before);
    let mut whole = false;
    'page: for _ in 0..STRETCHES_MAX {
        let stretch = t.rows.scan(&prefix, &end, Order::Descending, STRETCH)?;
        whole = stretch.len() < STRETCH;
        for (key, value) in stretch {
            if lines.len() >= limits::HISTORY_LINES_AT_ONCE || bytes >= limits::HISTORY_BYTES_AT_ONCE {
                whole = false;
                break 'page;
            }
            let place = rows::history_place(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
            let message: MessageRow = rows::decode(&key, &value)?;
            // What goes by itself is there to be read where it came; what failed was said to nobody.
            let given = message.lasts_ms.is_none() && !matches!(message.state, Some(StateRow::Failed(_)));
            if given {
                let line = line(t, &id, place, message)?;
                let weight = weight(&line);
                let whole_page = people.saturating_add(bytes).saturating_add(weight);
                if !lines.is_empty() && whole_page > limits::HISTORY_PAGE_BYTES_MAX {
                    whole = false;
                    break 'page;
                }
                bytes = bytes.saturating_add(weight);
                lines.push(line);
            }
            next = Some(place.into());
            end = key;
        }
        if whole {
            break;
        }
    }
    Ok(HistoryWords::LinePage(number, Some(about), lines, next.filter(|_| !whole)))
}

/// Bytes of a line in a page, at most.
fn weight(line: &HistoryLine) -> usize {
    let edit = line.edit.as_ref().map_or(0, |(_, text)| text.len());
    let signs: usize = line.signs.iter().map(|one| one.sign.len().saturating_add(144)).sum();
    let mentions = line.mentions.len().saturating_mul(40);
    line.text.len().saturating_add(edit).saturating_add(signs).saturating_add(mentions).saturating_add(384)
}

/// What a page says of its conversation, and how many bytes that has at most.
fn about(row: ThreadRow) -> (Box<HistoryThread>, usize) {
    let ThreadRow { mut participants, founding, updated, .. } = row;
    let (mut bytes, mut fit) = (256_usize, 0_usize);
    for one in &participants {
        let more = bytes.saturating_add(one.domain.as_str().len() + 64).saturating_add(one.devices.len() * 5);
        if more > limits::HISTORY_PEOPLE_BYTES_MAX {
            break;
        }
        (bytes, fit) = (more, fit + 1);
    }
    participants.truncate(fit);
    (Box::new(HistoryThread { participants, founding, updated }), bytes)
}

fn line<E: Engine>(
    t: &Turn<'_, E>,
    id: &ThreadId,
    place: PlaceRow,
    message: MessageRow,
) -> Result<HistoryLine, StorageError> {
    let of = Target { message: place.message, author: place.author };
    let edit: Option<EditRow> = rows::get(&t.rows, &rows::edit_key(id, &of))?;
    let mut signs = Vec::new();
    rows::each(&t.rows, &rows::reaction_prefix(id, &of), |(key, value)| {
        let ReactionRow { at, stands } = rows::decode(&key, &value)?;
        let (by, sign) = rows::reaction_of(&key).ok_or_else(|| rows::damaged(&key, "no sign"))?;
        if signs.len() < limits::HISTORY_SIGNS_MAX {
            signs.push(HistorySign { by, sign, at: at.into(), stands });
        }
        Ok(())
    })?;
    let MessageRow { received, text, counter, reply, mentions, .. } = message;
    Ok(HistoryLine {
        place: place.into(),
        received,
        text,
        counter,
        reply,
        mentions,
        unsent: t.rows.get(&rows::unsent_key(id, &of))?.is_some(),
        edit: edit.map(|EditRow { at, text }| (at.into(), text)),
        signs,
    })
}

/// A page that was asked for came. One that was not, or that comes twice, changes nothing.
fn take<E: Engine>(
    t: &mut Turn<'_, E>,
    from: DeviceIndex,
    mut row: HistoryRow,
    words: HistoryWords,
) -> Result<(), StorageError> {
    let asked = t.rooms.user.history.asked;
    match words {
        HistoryWords::ThreadList(number, threads) if asked == Some(number) && !row.listed => {
            for (place, thread) in threads.iter().enumerate() {
                let next = HistoryThreadRow { thread: *thread, before: None, since: None };
                rows::put(&mut t.rows, rows::history_thread_key(place as u64), &next);
            }
            let unlisted = unlisted(t, &threads)?;
            for (place, thread) in unlisted.iter().enumerate() {
                let next = HistoryThreadRow { thread: *thread, before: None, since: Some(Hlc::default()) };
                rows::put(&mut t.rows, rows::history_thread_key((threads.len() + place) as u64), &next);
            }
            (row.listed, row.threads) = (true, (threads.len() + unlisted.len()) as u64);
        }
        HistoryWords::LinePage(number, about, lines, next) if asked == Some(number) => {
            let prefix = rows::history_thread_prefix();
            let Some((key, value)) = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.pop() else {
                return Ok(());
            };
            let current: HistoryThreadRow = rows::decode(&key, &value)?;
            row.texts = row.texts.saturating_add(put_back(t, &current.thread, about.map(|one| *one), lines)?);
            // Further back with each page, or a sibling that is mad would lead us round for ever.
            let next = next.map(PlaceRow::from).filter(|next| current.before.is_none_or(|before| *next < before));
            let next = next.filter(|next| current.since.is_none_or(|since| next.hlc >= since));
            if next.is_some() {
                rows::put(&mut t.rows, key, &HistoryThreadRow { before: next, ..current });
            } else {
                t.rows.delete(key);
                row.done = row.done.saturating_add(1);
            }
        }
        _ => return Ok(()),
    }
    row.from = Some(from);
    let history = &mut t.rooms.user.history;
    (history.asked, history.attempts) = (None, 0);
    let prefix = rows::history_thread_prefix();
    if t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.is_empty() {
        return finish(t, &row);
    }
    rows::put(&mut t.rows, rows::history_row_key(), &row);
    t.rooms.timers.set(Timer::History, t.now.monotonic.plus(limits::HISTORY_PAGE_EVERY));
    Ok(())
}

/// Conversations that a sibling took this device into and the one that listed them knows nothing of, or not yet.
fn unlisted<E: Engine>(t: &Turn<'_, E>, listed: &[ThreadId]) -> Result<Vec<ThreadId>, StorageError> {
    let own = t.rooms.identity.account();
    let listed: BTreeSet<&ThreadId> = listed.iter().collect();
    let mut found = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        let entered = row.state == ThreadState::Open && row.joined > 1 && !row.is_self(&own);
        if let (true, Some(id)) = (entered, rows::id_in_key(&key).map(ThreadId::from_bytes))
            && !listed.contains(&id)
        {
            found.push(id);
        }
        Ok(())
    })?;
    Ok(found)
}

/// It is all here.
fn finish<E: Engine>(t: &mut Turn<'_, E>, row: &HistoryRow) -> Result<(), StorageError> {
    t.rows.delete(rows::history_row_key());
    t.rooms.timers.clear(Timer::History);
    if row.texts > 0 {
        t.event(Event::HistoryHere { texts: row.texts });
    }
    facts::note(t, What::History(t.rooms.identity.id().index, None), None)
}

/// Puts texts in their places; gives how many are new. Those that came another way stay as they are.
fn put_back<E: Engine>(
    t: &mut Turn<'_, E>,
    id: &ThreadId,
    about: Option<HistoryThread>,
    lines: Vec<HistoryLine>,
) -> Result<u64, StorageError> {
    let (Some(about), false) = (about, lines.is_empty()) else { return Ok(0) };
    let mut row = match thread::get(&t.rows, id)? {
        Some(row) if row.is_self(&t.rooms.identity.account()) => return Ok(0),
        Some(row) => row,
        None if t.rooms.threads.known >= limits::ACCOUNT_THREADS_MAX => return Ok(0),
        // This device is not in it, or not yet: it can be read, and is not written in.
        None => {
            t.rooms.threads.known = t.rooms.threads.known.saturating_add(1);
            let HistoryThread { participants, founding, updated } = about;
            // What a group is made from its id says; a sibling's word is nothing beside it.
            let founding = founding.filter(|one| one.thread() == *id);
            let everybody: Vec<AccountId> = participants.iter().map(|one| one.account).collect();
            let tag = match founding {
                Some(founding) if !founding.fixed => t.rooms.identity.participants.group_tag(id),
                _ => t.rooms.identity.participants.tag(&everybody),
            };
            let row = thread::fresh(participants, Epoch::new(0), ThreadState::Left, tag, updated);
            ThreadRow { founding, tagged: true, ..row }
        }
    };
    let mut new = 0_u64;
    for line in lines {
        let place = PlaceRow::from(line.place);
        new = new.saturating_add(u64::from(put_line(t, id, place, line)?));
        row.last = row.last.max(Some(place));
    }
    thread::put(&mut t.rows, id, &row);
    if new > 0 {
        facts::joined_now(t, id)?;
    }
    Ok(new)
}

fn put_line<E: Engine>(
    t: &mut Turn<'_, E>,
    id: &ThreadId,
    place: PlaceRow,
    line: HistoryLine,
) -> Result<bool, StorageError> {
    let of = Target { message: place.message, author: place.author };
    let seen = rows::message_key(&place.message, &place.author);
    let new = t.rows.get(&seen)?.is_none();
    let HistoryLine { received, text, counter, reply, mentions, unsent, edit, signs, .. } = line;
    if new {
        let arrival = thread::arrive(&mut t.rows)?;
        rows::put(&mut t.rows, seen, &SeenRow { thread: *id, hlc: place.hlc, arrival, counter });
        let gone = unsent || t.rows.get(&rows::unsent_key(id, &of))?.is_some();
        let message = MessageRow {
            received,
            path: None,
            text: if gone { String::new() } else { text },
            counter,
            state: None,
            refused: Vec::new(),
            missed: Vec::new(),
            missed_for: None,
            reply: reply.filter(|_| !gone),
            mentions: if gone { Vec::new() } else { mentions },
            lasts_ms: None,
        };
        rows::put(&mut t.rows, rows::history_key(id, &place), &message);
    }
    if unsent {
        t.rows.put(rows::unsent_key(id, &of), Vec::new());
        t.rows.delete(rows::edit_key(id, &of));
        rows::blank(&mut t.rows, id, &of)?;
    }
    let taken_back = t.rows.get(&rows::unsent_key(id, &of))?.is_some();
    if let Some((at, text)) = edit.filter(|_| !taken_back) {
        let (key, at) = (rows::edit_key(id, &of), PlaceRow::from(at));
        let before: Option<EditRow> = rows::get(&t.rows, &key)?;
        if before.is_none_or(|before| before.at < at) {
            rows::put(&mut t.rows, key, &EditRow { at, text });
        }
    }
    for HistorySign { by, sign, at, stands } in signs {
        let (key, at) = (rows::reaction_key(id, &of, &by, &sign), PlaceRow::from(at));
        let before: Option<ReactionRow> = rows::get(&t.rows, &key)?;
        if before.is_none_or(|before| before.at < at) {
            rows::put(&mut t.rows, key, &ReactionRow { at, stands });
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_protocol::frame::Words as _;
    use whimbrel_protocol::id::{MessageId, ParticipantsTag, RequestId};
    use whimbrel_protocol::thread::Participant;
    use whimbrel_protocol::time::Wall;

    fn place(n: u8) -> HistoryPlace {
        let author = DeviceId { account: AccountId::from_bytes([n; 32]), index: DeviceIndex::new(u32::MAX) };
        let hlc = Hlc { millis: u64::MAX, count: u32::MAX };
        HistoryPlace { hlc, message: MessageId::from_bytes([n; 16]), author }
    }

    fn line(text: usize, edit: usize, signs: usize, mentions: usize) -> HistoryLine {
        let sign =
            |_| HistorySign { by: AccountId::from_bytes([9; 32]), sign: "s".repeat(64), at: place(3), stands: true };
        HistoryLine {
            place: place(1),
            received: Wall::from_millis(u64::MAX),
            text: "t".repeat(text),
            counter: Some(u64::MAX),
            reply: Some(Target { message: MessageId::from_bytes([2; 16]), author: place(2).author }),
            mentions: vec![AccountId::from_bytes([8; 32]); mentions],
            unsent: false,
            edit: (edit > 0).then(|| (place(4), "e".repeat(edit))),
            signs: (0..signs).map(sign).collect(),
        }
    }

    fn thread(people: usize) -> ThreadRow {
        let one = |n: usize| Participant {
            account: AccountId::from_bytes([(n % 251) as u8; 32]),
            domain: format!("{}.example", "d".repeat(60)).parse().unwrap_or_else(|_| unreachable!("a domain")),
            devices: vec![DeviceIndex::new(u32::MAX); 3],
        };
        let tag = ParticipantsTag::from_bytes([1; 32]);
        thread::fresh(
            (0..people).map(one).collect(),
            Epoch::new(1),
            ThreadState::Open,
            tag,
            Wall::from_millis(u64::MAX),
        )
    }

    #[test]
    fn no_page_is_larger_than_what_it_is_taken_for_and_none_is_larger_than_may_pass() {
        for (text, edit, signs, mentions) in [(0, 0, 0, 0), (100, 0, 0, 64), (64 * 1024, 64 * 1024, 256, 64)] {
            let line = line(text, edit, signs, mentions);
            let (about, people) = about(thread(1_000));
            assert!(people <= limits::HISTORY_PEOPLE_BYTES_MAX && about.participants.len() > 200);
            let lines = (people + weight(&line)).max(1);
            assert!(lines <= limits::HISTORY_PAGE_BYTES_MAX, "one fits beside everybody: {lines}");
            let words = HistoryWords::LinePage(u64::MAX, Some(about), vec![line], Some(place(5)));
            let bytes = encode_words(&words).len();
            assert!(bytes <= lines + 256, "{bytes} of {lines}");
            let told =
                TellSibling { request: RequestId::new(u64::MAX), to: DeviceIndex::new(1), bytes: vec![0; bytes + 64] };
            assert!(told.check().is_ok());
        }
    }
}
