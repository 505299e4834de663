//! Friends: an owner's list, as rows: friends, requests both ways, and whom the owner keeps away.
//! Owns: the conditions of the commands about them, and what consent is.
//! Limits: `limits::FRIENDS_MAX`, `limits::FRIENDS_ASKING_MAX`, `limits::FRIEND_REQUESTS_PER_DAY`.
//! Rules: docs/protocol/friendship.md.

use whimbrel_protocol::friendship::{Act, Friend, Standing};
use whimbrel_protocol::id::{AccountId, Domain, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::accounts::{known_account, owner_row};
use super::rows::{self, FriendRow, InviteRow, LogRow, OwnerRow, space};
use super::{Decided, Fault, threads};
use crate::store::command::Befriended;
use crate::store::command::people::{Befriend, Block, Decline, LetSee};
use crate::store::{Conflict, LogId, Outcome};

const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;

/// Whether `owner` lets this account, at its home, reach it.
pub(super) fn consents(
    reads: &dyn Reads,
    owner: AccountId,
    other: AccountId,
    domain: &Domain,
) -> Result<bool, StorageError> {
    let row = row(reads, owner, other)?;
    Ok(row.is_some_and(|row| row.standing == Standing::Friends && row.domain == *domain))
}

/// How an owner stands with another account.
pub(super) fn row(reads: &dyn Reads, owner: AccountId, other: AccountId) -> Result<Option<FriendRow>, StorageError> {
    rows::get(reads, &rows::friend(owner, other))
}

/// Whether `owner` keeps this account away.
pub(super) fn blocks(reads: &dyn Reads, owner: AccountId, other: AccountId) -> Result<bool, StorageError> {
    Ok(row(reads, owner, other)?.is_some_and(|row| row.standing == Standing::Blocked))
}

/// Makes the other a friend in the owner's list, by the owner's own act or invite.
pub(super) fn make(
    rows: &mut Overlay<'_>,
    owner: AccountId,
    other: AccountId,
    domain: &Domain,
    at: Wall,
) -> Result<(), Fault> {
    match row(rows, owner, other)? {
        Some(known) if known.standing == Standing::Friends && known.domain == *domain => Ok(()),
        known => {
            let (sees, said) = known.map_or((true, Wall::default()), |known| (known.sees, known.said));
            let made = FriendRow { sees, said, ..FriendRow::new(domain.clone(), Standing::Friends, at) };
            change(rows, owner, other, Some(made))
        }
    }
}

/// Writes a row of a list, or takes it away, and keeps the counts.
pub(super) fn change(
    rows: &mut Overlay<'_>,
    owner: AccountId,
    other: AccountId,
    new: Option<FriendRow>,
) -> Result<(), Fault> {
    let key = rows::friend(owner, other);
    let old: Option<FriendRow> = rows::get(rows, &key)?;
    if old == new {
        return Ok(());
    }
    let asks = |row: &Option<FriendRow>| u32::from(row.as_ref().is_some_and(|row| row.standing == Standing::Asking));
    let mut counts = owner_row(rows, owner)?;
    counts.friends = (counts.friends + u32::from(new.is_some())).saturating_sub(u32::from(old.is_some()));
    counts.asking = (counts.asking + asks(&new)).saturating_sub(asks(&old));
    if old.is_none() && counts.friends as usize > limits::FRIENDS_MAX {
        return Err(Conflict::TooMany("people in one list").into());
    }
    match &new {
        Some(row) => rows::put(rows, key, row),
        None => rows.delete(key),
    }
    rows::put(rows, rows::of_account(space::OWNER, owner), &counts);
    Ok(())
}

/// Whether an owner has parted with somebody since they made an invite: it is nothing to them any more.
pub(super) fn is_too_old(
    reads: &dyn Reads,
    owner: AccountId,
    other: AccountId,
    number: u64,
) -> Result<bool, StorageError> {
    let upto: Option<u64> = rows::get(reads, &rows::parted(owner, other))?;
    Ok(upto.is_some_and(|upto| number <= upto))
}

/// An owner parts with somebody: the invites that are open now are for others. Gives where the owner's inbox ends, which is
/// what came before.
fn part(rows: &mut Overlay<'_>, owner: AccountId, other: AccountId) -> Result<Sequence, Fault> {
    let account = known_account(rows, owner)?.ok_or(Conflict::NotFound)?;
    let log_key = rows::log(account.inbox);
    let log: LogRow = rows::get(rows, &log_key)?.ok_or_else(|| rows::damaged(&log_key, "an inbox is missing"))?;
    let mut counts = owner_row(rows, owner)?;
    let key = rows::parted(owner, other);
    if counts.invites == 0 {
        return Ok(log.head);
    }
    if rows::get::<u64>(rows, &key)?.is_none() {
        if counts.parted as usize >= limits::FRIENDS_MAX {
            forget_parted(rows, owner, &mut counts)?;
        }
        counts.parted += 1;
    }
    rows::put(rows, key, &counts.made);
    rows::put(rows, rows::of_account(space::OWNER, owner), &counts);
    Ok(log.head)
}

/// An invite of an owner is used up or taken back. With the last one goes who may not use it.
pub(super) fn invite_gone(rows: &mut Overlay<'_>, owner: AccountId) -> Result<(), Fault> {
    let mut counts = owner_row(rows, owner)?;
    counts.invites = counts.invites.saturating_sub(1);
    if counts.invites == 0 && counts.parted > 0 {
        let parted = rows::scan(rows, &rows::of_account(space::PARTED, owner), limits::FRIENDS_MAX)?;
        parted.into_iter().for_each(|(key, _)| rows.delete(key));
        counts.parted = 0;
    }
    rows::put(rows, rows::of_account(space::OWNER, owner), &counts);
    Ok(())
}

/// Makes room: rows that no open invite is older than go; if none does, all go, and the open invites with them.
fn forget_parted(rows: &mut Overlay<'_>, owner: AccountId, counts: &mut OwnerRow) -> Result<(), Fault> {
    let invites = rows::of_account(space::INVITE, owner);
    let open = rows::scan(rows, &invites, limits::INVITES_MAX)?;
    let mut oldest = u64::MAX;
    for (key, value) in &open {
        oldest = oldest.min(rows::read::<InviteRow>(key, value)?.number);
    }
    let mut gone = 0;
    let parted = rows::scan(rows, &rows::of_account(space::PARTED, owner), limits::FRIENDS_MAX)?;
    for (key, value) in &parted {
        if rows::read::<u64>(key, value)? < oldest {
            rows.delete(key.clone());
            gone += 1;
        }
    }
    if gone == 0 {
        parted.into_iter().chain(open).for_each(|(key, _)| rows.delete(key));
        (gone, counts.invites) = (counts.parted, 0);
    }
    counts.parted = counts.parted.saturating_sub(gone);
    Ok(())
}

pub(super) fn befriend(rows: &mut Overlay<'_>, command: &Befriend) -> Decided {
    let Befriend { by, by_domain, to, to_domain, local, .. } = command;
    if by == to || (by_domain != local && to_domain != local) {
        return Err(Conflict::Malformed.into());
    }
    let standing = if by_domain == local { author_side(rows, command)? } else { None };
    let parted = match command.act {
        Act::Remove if by_domain == local => Some(part(rows, *by, *to)?),
        _ => None,
    };
    let (other, inbox) = if to_domain == local { other_side(rows, command)? } else { (None, None) };
    // Requests that crossed: the author's list learns it here, when both live here.
    if by_domain == local && to_domain == local && other == Some(Standing::Friends) && command.act != Act::Remove {
        make(rows, *by, *to, to_domain, command.at)?;
        return Ok(Outcome::Befriended(Befriended { standing: Some(Standing::Friends), other, inbox, parted }));
    }
    Ok(Outcome::Befriended(Befriended { standing, other, inbox, parted }))
}

/// What a word does to its author's own list.
fn author_side(rows: &mut Overlay<'_>, command: &Befriend) -> Result<Option<Standing>, Fault> {
    let Befriend { by, to, to_domain, act, at, .. } = command;
    known_account(rows, *by)?.ok_or(Conflict::NotFound)?;
    let known = row(rows, *by, *to)?;
    let standing = known.as_ref().map(|row| row.standing);
    match (act, standing) {
        (Act::Request, None) => {
            let mut counts = owner_row(rows, *by)?;
            let day = at.as_millis() / DAY_MILLIS;
            let (last, so_far) = counts.asked;
            // A clock that was set back opens no new day.
            counts.asked = if day > last { (day, 1) } else { (last, so_far + 1) };
            if counts.asked.1 > limits::FRIEND_REQUESTS_PER_DAY {
                return Err(Conflict::TooFast.into());
            }
            rows::put(rows, rows::of_account(space::OWNER, *by), &counts);
            change(rows, *by, *to, Some(FriendRow::new(to_domain.clone(), Standing::Asked, *at)))?;
            Ok(Some(Standing::Asked))
        }
        (Act::Request, Some(Standing::Blocked)) => Err(Conflict::Differs.into()),
        (Act::Request | Act::Accept, Some(Standing::Asking)) => {
            make(rows, *by, *to, to_domain, *at)?;
            Ok(Some(Standing::Friends))
        }
        // Said again, because the answer was lost.
        (Act::Request, standing) | (Act::Accept, standing @ Some(Standing::Friends)) => Ok(standing),
        (Act::Accept, _) => Err(Conflict::NotFound.into()),
        (Act::Remove, Some(Standing::Blocked) | None) => Ok(standing),
        (Act::Remove, standing) if planted::active(Bug::KeepRemoved) => Ok(standing),
        (Act::Remove, _) => {
            change(rows, *by, *to, None)?;
            Ok(None)
        }
    }
}

/// What a word does to the list of whoever it is for. Somebody who is not here, somebody who keeps the author away, and
/// somebody who has no room for it look alike: never a refusal.
fn other_side(rows: &mut Overlay<'_>, command: &Befriend) -> Result<(Option<Standing>, Option<LogId>), Fault> {
    let Befriend { by, by_domain, to, act, said, word, at, bounds, .. } = command;
    let Some(account) = known_account(rows, *to)? else { return Ok((None, None)) };
    let known = row(rows, *to, *by)?;
    let standing = known.as_ref().map(|row| row.standing);
    let new = match (act, standing) {
        (_, Some(Standing::Blocked)) => return Ok((None, None)),
        // One that was on its way since before they became friends.
        (Act::Request, Some(Standing::Friends)) if known.as_ref().is_some_and(|known| *said <= known.said) => {
            return Ok((standing, None));
        }
        // Whoever asks again has ended it on its side.
        (Act::Request, None | Some(Standing::Friends)) => {
            if !may_ask(rows, *to, known.is_none())? {
                return Ok((None, None));
            }
            let asking = FriendRow::new(by_domain.clone(), Standing::Asking, *at);
            Some(FriendRow { word: Some(word.clone()), said: *said, ..asking })
        }
        (Act::Request | Act::Accept, Some(Standing::Asked)) => {
            Some(FriendRow { said: *said, ..FriendRow::new(by_domain.clone(), Standing::Friends, *at) })
        }
        (Act::Remove, Some(Standing::Friends | Standing::Asking)) => None,
        _ => return Ok((standing, None)),
    };
    let body = EntryBody::Friendship(word.clone());
    let told = threads::takes(rows, &account, &body, *bounds)?;
    // What its owner would never hear of is not agreed to; what has ended has ended, heard of or not. Whose request it was
    // is known to be there: an acceptance may be told that there is no room, and is said again.
    match (told, act) {
        (false, Act::Request) => return Ok((None, None)),
        (false, Act::Accept) => return Err(Conflict::Full.into()),
        _ => {}
    }
    let standing = new.as_ref().map(|row| row.standing);
    change(rows, *to, *by, new)?;
    if !told || planted::active(Bug::SwallowWord) {
        return Ok((standing, None));
    }
    threads::notify(rows, &account, body, *bounds, *at)?;
    Ok((standing, Some(account.inbox)))
}

/// Whether an owner's list has room for one more request; `new`: and for one more row.
fn may_ask(reads: &dyn Reads, owner: AccountId, new: bool) -> Result<bool, Fault> {
    let counts = owner_row(reads, owner)?;
    let rows_max = if new { limits::FRIENDS_MAX } else { usize::MAX };
    Ok((counts.asking as usize) < limits::FRIENDS_ASKING_MAX && (counts.friends as usize) < rows_max)
}

pub(super) fn decline(rows: &mut Overlay<'_>, command: &Decline) -> Decided {
    let Decline { owner, other } = command;
    let asking = |row: &FriendRow| row.standing == Standing::Asking;
    if let Some(other) = other {
        if row(rows, *owner, *other)?.as_ref().is_some_and(asking) {
            change(rows, *owner, *other, None)?;
        }
        return Ok(Outcome::Done);
    }
    let prefix = rows::of_account(space::FRIEND, *owner);
    for (key, value) in rows::scan(rows, &prefix, limits::FRIENDS_MAX)? {
        if asking(&rows::read(&key, &value)?) {
            change(rows, *owner, AccountId::from_bytes(rows::rest(&key, prefix.len())?), None)?;
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn block(rows: &mut Overlay<'_>, command: &Block) -> Decided {
    let Block { owner, other, domain, blocked, at } = command;
    known_account(rows, *owner)?.ok_or(Conflict::NotFound)?;
    if owner == other {
        return Err(Conflict::Malformed.into());
    }
    let was = blocks(rows, *owner, *other)?;
    let parted = blocked.then(|| part(rows, *owner, *other)).transpose()?;
    if *blocked && !was {
        change(rows, *owner, *other, Some(FriendRow::new(domain.clone(), Standing::Blocked, *at)))?;
    } else if !*blocked && was {
        change(rows, *owner, *other, None)?;
    }
    let standing = blocked.then_some(Standing::Blocked);
    Ok(Outcome::Befriended(Befriended { standing, other: None, inbox: None, parted }))
}

pub(super) fn let_see(rows: &mut Overlay<'_>, command: &LetSee) -> Decided {
    let LetSee { owner, other, allowed } = command;
    let known = row(rows, *owner, *other)?.filter(|row| row.standing == Standing::Friends);
    let known = known.ok_or(Conflict::NotFound)?;
    change(rows, *owner, *other, Some(FriendRow { sees: *allowed, ..known }))?;
    Ok(Outcome::Done)
}

/// An owner's list, by account.
///
/// # Errors
/// See [`super::account`].
pub fn friends(
    reads: &dyn Reads,
    owner: AccountId,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Friend>, StorageError> {
    let prefix = rows::of_account(space::FRIEND, owner);
    let from = after.map_or_else(|| prefix.clone(), |after| rows::after(&rows::friend(owner, after)));
    let found = reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)?;
    let friend = |(key, value): whimbrel_storage::Row| {
        let account = AccountId::from_bytes(rows::rest(&key, prefix.len())?);
        let FriendRow { domain, standing, sees, since, word, .. } = rows::read(&key, &value)?;
        Ok(Friend { account, domain, standing, sees, since, word })
    };
    found.into_iter().map(friend).collect()
}

/// How an owner's list stands with somebody, whether they may see, and where they live.
///
/// # Errors
/// See [`super::account`].
pub fn standing(
    reads: &dyn Reads,
    owner: AccountId,
    other: AccountId,
) -> Result<Option<(Standing, bool, Domain)>, StorageError> {
    Ok(row(reads, owner, other)?.map(|row| (row.standing, row.sees, row.domain)))
}
