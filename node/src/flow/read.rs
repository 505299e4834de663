//! Read: what was read on one device of the account is news on none.
//! In order: which of an author's contents were read here, as stretches of its counters, told as a fact; and what siblings
//! read, off the list of what is new here, now or when it comes.
//! Never: counts as read what was missing or new where it was read; tells an author a second time.
//! Limits: `limits::READ_STRETCHES_MAX`. Rules: docs/protocol/devices.md, "The self thread".

use std::collections::BTreeMap;

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{DeviceId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::siblings::{Fact, What};
use whimbrel_storage::StorageError;

use super::facts;
use crate::api::Event;
use crate::rooms::Turn;
use crate::rows::{self, PlaceRow, SeenRow};
use crate::thread;

/// Texts were read here: siblings are told which, by their authors' counters. Between two that were read lie none that are
/// missing or not read, or these are two stretches.
pub(crate) fn note<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: &ThreadId,
    read: &[PlaceRow],
    unread: &[PlaceRow],
) -> Result<(), StorageError> {
    if facts::is_alone(t) {
        return Ok(());
    }
    let mut by_author: BTreeMap<DeviceId, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for place in read {
        if let Some(counter) = counter(t, place)? {
            by_author.entry(place.author).or_default().0.push(counter);
        }
    }
    for place in unread {
        if let Some((_, apart)) = by_author.get_mut(&place.author)
            && let Some(counter) = counter(t, place)?
        {
            apart.push(counter);
        }
    }
    for (author, (mut counters, apart)) in by_author {
        counters.sort_unstable();
        let count = rows::count(&t.rows, thread, &author)?.unwrap_or_default();
        let gaps: Vec<(u64, u64)> = rows::gaps(&count).collect();
        let parted = |from: u64, to: u64| {
            let inside = |counter: &u64| (from..=to).contains(counter);
            apart.iter().any(inside) || gaps.iter().any(|(first, last)| *first <= to && *last >= from)
        };
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for counter in counters {
            match stretches.last_mut() {
                Some((_, last)) if !parted(*last, counter) => *last = counter,
                _ => stretches.push((counter, counter)),
            }
        }
        let known: Option<Fact> = rows::get(&t.rows, &rows::read_fact_key(thread, &author))?;
        let stretches = match known.map(|fact| fact.what) {
            Some(What::Read(_, _, known)) => union(&known, &stretches),
            _ => union(&[], &stretches),
        };
        facts::note(t, What::Read(*thread, author, stretches), None)?;
    }
    Ok(())
}

fn counter<E: Engine>(t: &Turn<'_, E>, place: &PlaceRow) -> Result<Option<u64>, StorageError> {
    let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&place.message, &place.author))?;
    Ok(seen.and_then(|seen| seen.counter))
}

/// Whether a sibling says that a content was read there.
pub(crate) fn is_read<E: Engine>(
    t: &Turn<'_, E>,
    thread: &ThreadId,
    author: &DeviceId,
    counter: Option<u64>,
) -> Result<bool, StorageError> {
    let Some(counter) = counter else { return Ok(false) };
    let fact: Option<Fact> = rows::get(&t.rows, &rows::read_fact_key(thread, author))?;
    Ok(match fact.map(|fact| fact.what) {
        Some(What::Read(_, _, stretches)) => stretches.iter().any(|(first, last)| (*first..=*last).contains(&counter)),
        _ => false,
    })
}

/// What was read on a sibling is news no more here. Nobody is told a second time that it was read.
pub(crate) fn mark<E: Engine>(
    t: &mut Turn<'_, E>,
    id: &ThreadId,
    author: &DeviceId,
    stretches: &[(u64, u64)],
) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, id)? else { return Ok(()) };
    let from = rows::unread_key(id, row.read.next());
    let end = rows::after(&rows::unread_prefix(id));
    let (mut read, mut unread) = (Vec::new(), 0_u64);
    rows::each_between(&t.rows, &from, &end, |(key, value)| {
        let place: PlaceRow = rows::decode(&key, &value)?;
        let counter = if place.author == *author { counter(t, &place)? } else { None };
        let is_read = |counter: u64| stretches.iter().any(|(first, last)| (*first..=*last).contains(&counter));
        match counter.is_some_and(is_read) {
            true => read.push(key),
            false => unread = unread.saturating_add(1),
        }
        Ok(())
    })?;
    if read.is_empty() {
        return Ok(());
    }
    read.into_iter().for_each(|key| t.rows.delete(key));
    row.unread = unread;
    thread::put(&mut t.rows, id, &row);
    let shown_in = thread::canonical(&t.rows, &t.rooms.identity.account(), id)?.map_or(*id, |(thread, _)| thread);
    t.event(Event::ReadElsewhere { thread: shown_in });
    Ok(())
}

/// Stretches of both, ascending and apart; of too many the latest.
pub(crate) fn union(one: &[(u64, u64)], other: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = one.iter().chain(other).copied().filter(|(first, last)| first <= last).collect();
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    let over = joined.len().saturating_sub(limits::READ_STRETCHES_MAX);
    joined.drain(..over);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_on_two_devices_was_read() {
        assert_eq!(union(&[(1, 3), (9, 9)], &[(4, 5), (7, 7)]), [(1, 5), (7, 7), (9, 9)]);
        assert_eq!(union(&[(1, 9)], &[(3, 4)]), [(1, 9)]);
        assert_eq!(union(&[], &[(5, 4)]), []);
        assert_eq!(union(&[(u64::MAX, u64::MAX)], &[(1, u64::MAX)]), [(1, u64::MAX)]);
        let many: Vec<(u64, u64)> = (0..40).map(|n| (n * 3, n * 3)).collect();
        let kept = union(&many, &many);
        assert_eq!((kept.len(), kept.last()), (limits::READ_STRETCHES_MAX, Some(&(117, 117))));
    }
}
