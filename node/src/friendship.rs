//! Friendship: how things stand with other accounts, by words that were proved.
//! Owns: one row for each account that said something or was told something, words that wait for their proof, and what
//! a word changes. Never: believes a relay about a word; `flow/befriend` proves each against its author's account log.
//! Limits: `limits::FRIENDS_MAX`, `limits::FRIEND_PAGE_MAX`, `limits::NOTE_CHARS_MAX`.
//! Rules: docs/protocol/friendship.md.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use whimbrel_protocol::friendship::Act;
use whimbrel_protocol::id::{AccountId, Address, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::rows::{self, FriendRow, Relationship, Space, ThreadRow};

/// A word that waits for its proof: the hash of all of it, so that a forged one stands in no genuine one's way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WordId([u8; 32]);

impl WordId {
    pub(crate) fn of(word: &Signed) -> Self {
        let hash = Sha256::new().chain_update(word.signature.as_bytes()).chain_update(&word.content);
        Self(hash.finalize().into())
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Friendship {
    /// Words that wait for their proof, and how often it could not be had in a row.
    pub(crate) waiting: BTreeMap<WordId, u32>,
    /// Those whose author is being looked up on the present link.
    pub(crate) asked: BTreeSet<WordId>,
}

impl Friendship {
    /// The waiting word that was tried in vain most often.
    pub(crate) fn most_tried(&self) -> Option<WordId> {
        self.waiting.iter().max_by_key(|(_, attempts)| **attempts).map(|(id, _)| *id)
    }
}

/// What a proved word comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Nothing that anybody needs to hear.
    None,
    /// They ask.
    Requested,
    /// Both agreed.
    Agreed,
    /// They ended it.
    Ended,
    /// They accept what nobody here asked.
    Unasked,
}

/// A place in the inbox log behind all: where it ended when the owner parted with somebody, until our relay says so.
pub(crate) const NOT_KNOWN: Sequence = Sequence::new(u64::MAX);

/// How things stand after a word of theirs. The same as their relay and ours decide, from the same words.
pub(crate) const fn after(act: Act, before: Relationship) -> (Relationship, Effect) {
    use Relationship as R;
    match (act, before) {
        (_, R::Blocked) => (R::Blocked, Effect::None),
        (Act::Request | Act::Accept, R::Asked) => (R::Friends, Effect::Agreed),
        // Whoever asks again has ended it on its side.
        (Act::Request, _) => (R::Asking, Effect::Requested),
        (Act::Accept, R::Friends) => (R::Friends, Effect::None),
        (Act::Accept, other) => (other, Effect::Unasked),
        (Act::Remove, R::Friends | R::Asking) => (R::None, Effect::Ended),
        (Act::Remove, other) => (other, Effect::None),
    }
}

/// The row of an account.
pub(crate) fn get(reads: &dyn Reads, account: &AccountId) -> Result<Option<FriendRow>, StorageError> {
    rows::get(reads, &rows::friend_key(account))
}

/// Writes the row of an account.
pub(crate) fn put(rows: &mut Overlay<'_>, account: &AccountId, row: &FriendRow) {
    rows::put(rows, rows::friend_key(account), row);
}

/// A row for an account that nothing was said to or by.
pub(crate) fn fresh(address: Address, standing: Relationship, now: Wall) -> FriendRow {
    FriendRow { address, standing, heard: Wall::default(), said: Wall::default(), note: None, since: now, parted: None }
}

/// How many ask the owner and have no answer.
pub(crate) fn asking(reads: &dyn Reads) -> Result<usize, StorageError> {
    let mut count = 0usize;
    rows::each(reads, &rows::space(Space::Friend), |(key, value)| {
        let row: FriendRow = rows::decode(&key, &value)?;
        count = count.saturating_add(usize::from(row.standing == Relationship::Asking));
        Ok(())
    })?;
    Ok(count)
}

/// Whether there may be one row more. Rows that only remember how new the last word was, and from where on somebody may
/// invite again, make room; those whose parting the relay may not know stay.
pub(crate) fn make_room(rows: &mut Overlay<'_>) -> Result<bool, StorageError> {
    let (mut count, mut empty) = (0usize, Vec::new());
    rows::each(rows, &rows::space(Space::Friend), |(key, value)| {
        count = count.saturating_add(1);
        let row: FriendRow = rows::decode(&key, &value)?;
        if row.standing == Relationship::None && row.parted != Some(NOT_KNOWN) {
            empty.push(key);
        }
        Ok(())
    })?;
    if count < limits::FRIENDS_MAX {
        return Ok(true);
    }
    let made = !empty.is_empty();
    empty.into_iter().for_each(|key| rows.delete(key));
    Ok(made)
}

/// Whether an invitation from somebody lies in the inbox log before the place at which the owner parted with them.
pub(crate) fn parted_since(reads: &dyn Reads, account: &AccountId, place: Sequence) -> Result<bool, StorageError> {
    // That they ask since is their word, not the owner's.
    let over = |row: &FriendRow| matches!(row.standing, Relationship::None | Relationship::Asking);
    let row = get(reads, account)?.filter(over);
    Ok(row.and_then(|row| row.parted).is_some_and(|parted| place <= parted))
}

/// Whether what an account says in a thread is hidden from the owner, who keeps it away: where others are, too. A thread of
/// the two is opened by whoever wants to see it.
pub(crate) fn hides(reads: &dyn Reads, account: &AccountId, thread: &ThreadId) -> Result<bool, StorageError> {
    if !get(reads, account)?.is_some_and(|row| row.standing == Relationship::Blocked) {
        return Ok(false);
    }
    let row: Option<ThreadRow> = rows::get(reads, &rows::thread_key(thread))?;
    let shared = |row: ThreadRow| row.participants.len() > 2 || row.founding.is_some_and(|founding| !founding.fixed);
    Ok(row.is_some_and(shared))
}

/// Whether a note fits.
pub(crate) fn fits(note: &str) -> bool {
    note.len() <= limits::NOTE_BYTES_MAX && note.chars().count() <= limits::NOTE_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_a_friend_by_the_other_s_word_alone() {
        use Relationship as R;
        for before in [R::None, R::Asking, R::Blocked] {
            for act in [Act::Request, Act::Accept, Act::Remove] {
                let (after, effect) = after(act, before);
                assert!(after != R::Friends && effect != Effect::Agreed, "{act:?} on {before:?}");
            }
        }
        assert_eq!(after(Act::Accept, R::Asked), (R::Friends, Effect::Agreed));
        assert_eq!(after(Act::Request, R::Asked), (R::Friends, Effect::Agreed));
        assert_eq!(after(Act::Accept, R::None), (R::None, Effect::Unasked));
    }
}
