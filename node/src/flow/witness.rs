//! Witness: a hub is held to one order of a group's commits.
//! In order: take its receipt of a commit, hold it against those kept here; tell people who are in the same groups which
//! receipts are here, and hold theirs against ours. A hub that signed two orders is found, and what proves it is kept.
//! Never: believes a receipt that the group's hub did not sign; keeps one of an epoch that this device has not reached on a
//! member's word; decides what holds (`flow/commit`).
//! Limits: `limits::RECEIPTS_KEPT_MAX`, `limits::RECEIPTS_RECENT_MAX`, `limits::RECEIPTS_TOLD_AT_ONCE`,
//! `limits::RECEIPTS_TOLD_EVERY`. Rules: docs/protocol/hub.md.

use tracing::{debug, warn};
use whimbrel_crypto::Engine;
use whimbrel_crypto::receipt::{self, Contradiction};
use whimbrel_protocol::hub::SignedReceipt;
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Body;
use whimbrel_protocol::thread::Founding;
use whimbrel_storage::{Reads, StorageError};

use super::{group, send};
use crate::api::Event;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ReceiptsRow, ReceiptsToldRow, RecentRow, ThreadRow, ThreadState};
use crate::thread;

/// A receipt came with a commit, or as an answer. Says whether it is the word of the thread's hub about an epoch that has been
/// here; the newest are kept.
pub(crate) fn note<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    row: &ThreadRow,
    signed: &SignedReceipt,
) -> Result<bool, StorageError> {
    let Some(founding) = row.founding else { return Ok(false) };
    let key = rows::receipts_key(&id);
    let mut kept = rows::get::<ReceiptsRow>(&t.rows, &key)?.unwrap_or_default().kept;
    if kept.contains(signed) {
        return Ok(true);
    }
    let epoch = signed.words.epoch;
    // Of what is to come none is kept: it would take the room of those that come before it.
    if signed.words.thread != id || epoch > row.epoch {
        return Ok(false);
    }
    if let Err(error) = receipt::verify(signed, founding.hub) {
        warn!(%error, "what comes with a commit is not its hub's receipt");
        return Ok(false);
    }
    hold_against(t, id, &kept, signed)?;
    if kept.iter().all(|other| other.words.epoch != epoch) {
        let place = kept.partition_point(|other| other.words.epoch < epoch);
        kept.insert(place, signed.clone());
        kept.drain(..kept.len().saturating_sub(limits::RECEIPTS_KEPT_MAX));
        rows::put(&mut t.rows, key, &ReceiptsRow { kept });
    }
    Ok(true)
}

/// The hub says which commit it took, to whoever handed one in.
pub(crate) fn answered<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    signed: &SignedReceipt,
) -> Result<(), StorageError> {
    match thread::get(&t.rows, &id)? {
        Some(row) => note(t, id, &row, signed).map(drop),
        None => Ok(()),
    }
}

/// The thread changed: it is among those that others are told of next.
pub(crate) fn remember<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    let key = rows::recent_key();
    let mut row: RecentRow = rows::get(&t.rows, &key)?.unwrap_or_default();
    row.threads.retain(|(thread, _)| *thread != id);
    row.next = row.next.saturating_add(1);
    row.threads.push((id, row.next));
    row.threads.drain(..row.threads.len().saturating_sub(limits::RECEIPTS_RECENT_MAX));
    rows::put(&mut t.rows, key, &row);
    Ok(())
}

/// Gives what proves that the hub signed two orders, if this receipt does and nothing did before.
fn hold_against<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    others: &[SignedReceipt],
    signed: &SignedReceipt,
) -> Result<Option<Contradiction>, StorageError> {
    let Some(one) = others.iter().find(|other| other.words.contradicts(&signed.words)) else { return Ok(None) };
    let key = rows::contradiction_key(&id);
    if t.rows.get(&key)?.is_some() {
        return Ok(None);
    }
    let proof = Contradiction { one: one.clone(), other: signed.clone() };
    let relay = match proof.verify() {
        Ok(relay) => relay,
        Err(error) => {
            debug!(%error, "two receipts prove nothing");
            return Ok(None);
        }
    };
    warn!(%relay, "the hub of a group shows its members different changes");
    rows::put(&mut t.rows, key, &proof);
    remember(t, id)?;
    t.event(Event::HubContradicts { thread: id, relay });
    Ok(Some(proof))
}

/// Somebody we talk with says which receipts they hold.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    here: ThreadId,
    author: AccountId,
    receipts: &[SignedReceipt],
) -> Result<(), StorageError> {
    for (place, signed) in receipts.iter().enumerate() {
        let id = signed.words.thread;
        let Some(row) = thread::get(&t.rows, &id)? else { continue };
        let kept = rows::get::<ReceiptsRow>(&t.rows, &rows::receipts_key(&id))?.unwrap_or_default().kept;
        // With what proves it somebody tells of both, and neither need be here.
        let told = receipts.iter().take(place).filter(|other| other.words.thread == id).cloned();
        let others: Vec<SignedReceipt> = kept.into_iter().chain(told).collect();
        let suspect = others.iter().any(|other| other.words.contradicts(&signed.words));
        let is_hubs = |founding: Founding| receipt::verify(signed, founding.hub).is_ok();
        if !suspect || !row.founding.is_some_and(is_hubs) {
            continue;
        }
        if hold_against(t, id, &others, signed)?.is_some()
            && author != t.rooms.identity.account()
            && let Some(mut row) = thread::get(&t.rows, &here)?
            && is_told(&row)
            && let Some(proof) = receipts_for(t, &id, &row)?
        {
            // They hold one of them alone, as far as is known here.
            say(t, here, &mut row, proof)?;
            thread::put(&mut t.rows, &here, &row);
            send::pump(t, here)?;
        }
    }
    Ok(())
}

/// Something is said in a conversation: with it go the newest receipts of threads that everybody here is in, too. In the
/// thread itself they would find nothing: whoever was given another commit cannot read what is said after it.
pub(crate) fn tell<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &mut ThreadRow) -> Result<(), StorageError> {
    if !is_told(row) {
        return Ok(());
    }
    let key = rows::receipts_told_key(&id);
    let told: Option<ReceiptsToldRow> = rows::get(&t.rows, &key)?;
    let passed = told.map_or(u64::MAX, |told| t.now.wall.as_millis().abs_diff(told.at.as_millis()));
    if u128::from(passed) < limits::RECEIPTS_TOLD_EVERY.as_millis() {
        return Ok(());
    }
    let before = told.map_or(0, |told| told.up_to);
    let recent: RecentRow = rows::get(&t.rows, &rows::recent_key())?.unwrap_or_default();
    let (mut receipts, mut up_to) = (Vec::new(), before);
    for (thread, number) in recent.threads.into_iter().filter(|(_, number)| *number > before) {
        let known = if thread == id { None } else { receipts_for(t, &thread, row)? };
        if receipts.len() + known.as_ref().map_or(0, Vec::len) > limits::RECEIPTS_TOLD_AT_ONCE {
            break;
        }
        receipts.extend(known.unwrap_or_default());
        up_to = number;
    }
    if receipts.is_empty() {
        return Ok(());
    }
    if say(t, id, row, receipts)? {
        rows::put(&mut t.rows, key, &ReceiptsToldRow { up_to, at: t.now.wall });
    }
    Ok(())
}

/// Whether receipts are told in a conversation: its people stay the same, and they are not many.
fn is_told(row: &ThreadRow) -> bool {
    let among_the_same = row.founding.is_some_and(|founding| founding.fixed);
    among_the_same && row.state == ThreadState::Open && thread::leaves(row).count() <= limits::RECEIPT_LEAVES_MAX
}

/// What everybody in `row` may be told of another thread: they are all in it.
fn receipts_for<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    row: &ThreadRow,
) -> Result<Option<Vec<SignedReceipt>>, StorageError> {
    let Some(other) = thread::get(&t.rows, thread)? else { return Ok(None) };
    let is_in = |account: &AccountId| other.participants.iter().any(|one| one.account == *account);
    if !row.participants.iter().all(|one| is_in(&one.account)) {
        return Ok(None);
    }
    if let Some(Contradiction { one, other }) = rows::get(&t.rows, &rows::contradiction_key(thread))? {
        return Ok(Some(vec![one, other]));
    }
    let kept = rows::get::<ReceiptsRow>(&t.rows, &rows::receipts_key(thread))?;
    Ok(kept.and_then(|row| row.kept.into_iter().next_back()).map(|newest| vec![newest]))
}

fn say<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    row: &mut ThreadRow,
    receipts: Vec<SignedReceipt>,
) -> Result<bool, StorageError> {
    match group::say(t, id, row, Body::Receipts(receipts)) {
        Ok(()) => Ok(true),
        Err(Halt::Broken(error)) => Err(error),
        // What else is said goes all the same.
        Err(Halt::Command(error)) => {
            debug!(%error, "a conversation is not told of commit receipts");
            Ok(false)
        }
    }
}
