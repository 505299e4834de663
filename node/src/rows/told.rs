//! Rows about messages that are there: what was said about them, which are missing, which go by themselves. Owns: their
//! types and keys. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, DeviceId, MessageId, ThreadId};
use whimbrel_protocol::message::Target;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Overlay, Reads, StorageError};

use super::{MessageRow, PlaceRow, SeenRow, Space, device_bytes, device_of, get, history_key, key, message_key, put};

/// The newest text in place of a message's own.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct EditRow {
    /// When, by whom, under which id: the latest holds.
    #[n(0)]
    pub(crate) at: PlaceRow,
    #[n(1)]
    pub(crate) text: String,
}

/// An account's sign beside a message.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ReactionRow {
    /// When, by whom, under which id: the latest holds.
    #[n(0)]
    pub(crate) at: PlaceRow,
    #[n(1)]
    pub(crate) stands: bool,
}

/// Which of a device's counted contents are here.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct CountRow {
    /// All up to this one, but those that are lost.
    #[n(0)]
    pub(crate) upto: u64,
    /// And these stretches, first and last, ascending, with a gap before each.
    #[n(1)]
    pub(crate) beyond: Vec<(u64, u64)>,
    /// Gaps before `upto` that are not asked for any more.
    #[n(2)]
    pub(crate) lost: u64,
}

impl CountRow {
    /// How many contents are missing.
    pub(crate) fn missing(&self) -> u64 {
        gaps(self).map(|(first, last)| last - first + 1).sum::<u64>().saturating_add(self.lost)
    }
}

/// The gaps of a device's counters, first and last, ascending.
pub(crate) fn gaps(row: &CountRow) -> impl Iterator<Item = (u64, u64)> + '_ {
    let ends = std::iter::once(row.upto).chain(row.beyond.iter().map(|(_, last)| *last));
    ends.zip(&row.beyond).map(|(end, (first, _))| (end.saturating_add(1), first.saturating_sub(1)))
}

/// A gap that is to be filled.
#[derive(Clone, Copy, Default, Encode, Decode)]
#[cbor(map)]
pub(crate) struct GapRow {
    /// How often it was asked for.
    #[n(0)]
    pub(crate) attempts: u32,
}

/// A text that goes by itself.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct VanishRow {
    #[n(0)]
    pub(crate) thread: ThreadId,
    #[n(1)]
    pub(crate) place: PlaceRow,
}

/// What is told about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Edit,
    Unsent,
    Reaction,
}

/// What a row of the space tells, and of which message.
pub(crate) fn told_of(key: &[u8]) -> Option<(Told, ThreadId, Target)> {
    let told = match key.get(1)? {
        0 => Told::Edit,
        1 => Told::Unsent,
        2 => Told::Reaction,
        _ => return None,
    };
    let (thread, rest) = key.get(2..)?.split_first_chunk::<{ ThreadId::LEN }>()?;
    let (message, rest) = rest.split_first_chunk::<16>()?;
    let author = device_of(rest.get(..36)?)?;
    Some((told, ThreadId::from_bytes(*thread), Target { message: MessageId::from_bytes(*message), author }))
}

fn about(kind: u8, thread: &ThreadId, of: &Target) -> Vec<u8> {
    key(Space::Told, &[&[kind], thread.as_bytes(), of.message.as_bytes(), &device_bytes(&of.author)])
}

pub(crate) fn edit_key(thread: &ThreadId, of: &Target) -> Vec<u8> {
    about(0, thread, of)
}

pub(crate) fn unsent_key(thread: &ThreadId, of: &Target) -> Vec<u8> {
    about(1, thread, of)
}

/// The text of a message that was taken back goes; its place stays.
pub(crate) fn blank(rows: &mut Overlay<'_>, thread: &ThreadId, of: &Target) -> Result<(), StorageError> {
    let Some(seen) = get::<SeenRow>(rows, &message_key(&of.message, &of.author))? else { return Ok(()) };
    let key = history_key(thread, &PlaceRow { hlc: seen.hlc, message: of.message, author: of.author });
    if let Some(line) = get::<MessageRow>(rows, &key)? {
        put(rows, key, &MessageRow { text: String::new(), reply: None, mentions: Vec::new(), ..line });
    }
    Ok(())
}

pub(crate) fn reaction_prefix(thread: &ThreadId, to: &Target) -> Vec<u8> {
    about(2, thread, to)
}

pub(crate) fn reaction_key(thread: &ThreadId, to: &Target, by: &AccountId, sign: &str) -> Vec<u8> {
    let mut key = reaction_prefix(thread, to);
    key.extend_from_slice(by.as_bytes());
    key.extend_from_slice(sign.as_bytes());
    key
}

/// Whose sign it is, and which.
pub(crate) fn reaction_of(key: &[u8]) -> Option<(AccountId, String)> {
    let (by, sign) = key.get(2 + ThreadId::LEN + 16 + 36..)?.split_first_chunk::<32>()?;
    Some((AccountId::from_bytes(*by), String::from_utf8(sign.to_vec()).ok()?))
}

pub(crate) fn count_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::Count, &[&[0], thread.as_bytes()])
}

pub(crate) fn count_key(thread: &ThreadId, device: &DeviceId) -> Vec<u8> {
    key(Space::Count, &[&[0], thread.as_bytes(), &device_bytes(device)])
}

pub(crate) fn gap_prefix(thread: Option<&ThreadId>) -> Vec<u8> {
    key(Space::Count, &[&[1], thread.map(|thread| &thread.as_bytes()[..]).unwrap_or_default()])
}

pub(crate) fn gap_key(thread: &ThreadId, device: &DeviceId) -> Vec<u8> {
    key(Space::Count, &[&[1], thread.as_bytes(), &device_bytes(device)])
}

/// The thread and device of a gap.
pub(crate) fn gap_device(key: &[u8]) -> Option<(ThreadId, DeviceId)> {
    let (thread, device) = key.get(2..)?.split_first_chunk::<{ ThreadId::LEN }>()?;
    Some((ThreadId::from_bytes(*thread), device_of(device)?))
}

pub(crate) fn vanish_prefix() -> Vec<u8> {
    key(Space::Count, &[&[2]])
}

pub(crate) fn vanish_key(due: Wall, row: &VanishRow) -> Vec<u8> {
    let author = device_bytes(&row.place.author);
    let parts: [&[u8]; 5] =
        [&[2], &due.as_millis().to_be_bytes(), row.thread.as_bytes(), row.place.message.as_bytes(), &author];
    key(Space::Count, &parts)
}

/// When a text goes.
pub(crate) fn vanish_due(key: &[u8]) -> Option<Wall> {
    key.get(2..)?.first_chunk::<8>().map(|due| Wall::from_millis(u64::from_be_bytes(*due)))
}

/// Which counters a device's row says are here.
impl CountRow {
    /// Notes one more. Says whether it is new here.
    pub(crate) fn note(&mut self, counter: u64) -> bool {
        let inside = self.beyond.iter().any(|(first, last)| (*first..=*last).contains(&counter));
        if counter <= self.upto || inside {
            return false;
        }
        let place = self.beyond.partition_point(|(first, _)| *first < counter);
        self.beyond.insert(place, (counter, counter));
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.beyond.len());
        for (first, last) in self.beyond.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if end.saturating_add(1) == first => *end = last,
                _ => joined.push((first, last)),
            }
        }
        self.beyond = joined;
        self.settle();
        true
    }

    /// Gives the oldest gap up.
    pub(crate) fn give_up(&mut self) {
        if let Some((first, _)) = self.beyond.first() {
            self.lost = self.lost.saturating_add(first.saturating_sub(self.upto).saturating_sub(1));
            self.upto = first.saturating_sub(1);
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some((first, last)) = self.beyond.first().copied()
            && first == self.upto.saturating_add(1)
        {
            self.upto = last;
            self.beyond.remove(0);
        }
    }
}

/// The row of a device's counters.
pub(crate) fn count(reads: &dyn Reads, thread: &ThreadId, device: &DeviceId) -> Result<Option<CountRow>, StorageError> {
    super::get(reads, &count_key(thread, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_come_in_any_order_leave_the_gaps_between_them() {
        let mut row = CountRow::default();
        for counter in [1, 5, 6, 3, 9] {
            assert!(row.note(counter) && !row.note(counter));
        }
        assert_eq!((row.upto, gaps(&row).collect::<Vec<_>>()), (1, vec![(2, 2), (4, 4), (7, 8)]));
        assert_eq!(row.missing(), 4);
        assert!(row.note(2));
        assert_eq!((row.upto, row.missing()), (3, 3));
        row.give_up();
        assert_eq!((row.upto, row.missing(), gaps(&row).collect::<Vec<_>>()), (6, 3, vec![(7, 8)]));
        assert!(row.note(8) && row.note(7));
        assert_eq!(row, CountRow { upto: 9, beyond: Vec::new(), lost: 1 });
        assert!(row.note(u64::MAX));
        assert_eq!(gaps(&row).collect::<Vec<_>>(), [(10, u64::MAX - 1)]);
    }
}
