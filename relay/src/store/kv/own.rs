//! Own: what an account keeps here beside its threads and friends: card, invites, settings, its log's growth, where its
//! devices are woken; what is given out of it all; and its end.
//! Owns: the conditions of the commands about them.
//! Limits: `limits::REGISTRATION_INVITES_MAX`, `limits::WAKE_CHALLENGE_AGE_MAX`, `limits::PURGE_ROWS_MAX`.
//! Rules: docs/protocol/user.md, wake.md.

use whimbrel_protocol::id::{AccountId, DeviceId, Sequence, TokenHash};
use whimbrel_protocol::limits;
use whimbrel_protocol::reception::Stamp;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{ExportedRow, OpenInvite};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

use super::accounts::{known_account, owner_row};
use super::rows::{self, Challenge, CursorRow, Home, InviteRow, LogRow, Member, OwnRow, ProfileRow, WakeRow, space};
use super::{Decided, Fault, blobs, friends, schema, tree};
use crate::store::command::people::{
    ConfirmWake, Entrance, ExtendLog, KeepStamp, NewRegistration, SetProfile, SetThread, SetWake,
};
use crate::store::{Account, Conflict, Epochs, ExportPage, LogId, MailboxId, Outcome, Wake};

/// Lets an account in that is not here, or does not.
pub(super) fn enter(rows: &mut Overlay<'_>, entrance: Entrance, at: Wall) -> Result<(), Fault> {
    match entrance {
        Entrance::Open => Ok(()),
        Entrance::Closed => Err(Conflict::Closed.into()),
        Entrance::Invited(token) => {
            let key = rows::registration(token);
            let mut invite: InviteRow = rows::get(rows, &key)?.ok_or(Conflict::Closed)?;
            if !invite.is_live(at) {
                return Err(Conflict::Closed.into());
            }
            if planted::active(Bug::TokenUncounted) {
                return Ok(());
            }
            invite.left -= 1;
            if invite.left > 0 {
                rows::put(rows, key, &invite);
            } else {
                rows.delete(key);
            }
            Ok(())
        }
    }
}

pub(super) fn new_registration(rows: &mut Overlay<'_>, command: &NewRegistration) -> Decided {
    let NewRegistration { token, uses, expires, at } = *command;
    let key = rows::registration(token);
    let row = InviteRow { left: uses, expires, number: 0 };
    match rows::get::<InviteRow>(rows, &key)? {
        Some(known) if known == row => return Ok(Outcome::Done),
        Some(_) => return Err(Conflict::Differs.into()),
        None => {}
    }
    let mut open = 0;
    for (old, value) in rows::scan(rows, &[space::REGISTRATION], limits::REGISTRATION_INVITES_MAX)? {
        if rows::read::<InviteRow>(&old, &value)?.expires <= at {
            rows.delete(old);
        } else {
            open += 1;
        }
    }
    if open >= limits::REGISTRATION_INVITES_MAX {
        return Err(Conflict::TooMany("open invitations to register").into());
    }
    rows::put(rows, key, &row);
    Ok(Outcome::Done)
}

pub(super) fn revoke_registration(rows: &mut Overlay<'_>, token: TokenHash) -> Decided {
    let key = rows::registration(token);
    rows.get(&key)?.ok_or(Conflict::NotFound)?;
    rows.delete(key);
    Ok(Outcome::Done)
}

pub(super) fn revoke_invite(rows: &mut Overlay<'_>, owner: AccountId, token: TokenHash) -> Decided {
    let key = rows::invite(owner, token);
    rows.get(&key)?.ok_or(Conflict::NotFound)?;
    rows.delete(key);
    friends::invite_gone(rows, owner)?;
    Ok(Outcome::Done)
}

pub(super) fn set_profile(rows: &mut Overlay<'_>, command: &SetProfile) -> Decided {
    let SetProfile { owner, revision, card } = command;
    known_account(rows, *owner)?.ok_or(Conflict::NotFound)?;
    let key = rows::of_account(space::PROFILE, *owner);
    let row = ProfileRow { revision: *revision, card: card.clone() };
    match rows::get::<ProfileRow>(rows, &key)? {
        Some(known) if known == row => Ok(Outcome::Done),
        Some(known) if known.revision >= *revision => Err(Conflict::Differs.into()),
        Some(_) if planted::active(Bug::CardKept) => Ok(Outcome::Done),
        _ => {
            rows::put(rows, key, &row);
            Ok(Outcome::Done)
        }
    }
}

pub(super) fn set_visible(rows: &mut Overlay<'_>, owner: AccountId, visible: bool) -> Decided {
    known_account(rows, owner)?.ok_or(Conflict::NotFound)?;
    let mut counts = owner_row(rows, owner)?;
    counts.hidden = !visible;
    rows::put(rows, rows::of_account(space::OWNER, owner), &counts);
    Ok(Outcome::Done)
}

pub(super) fn set_thread(rows: &mut Overlay<'_>, command: &SetThread) -> Decided {
    let key = rows::row(command.owner, command.thread);
    let mut row: OwnRow = rows::get(rows, &key)?.ok_or(Conflict::NotFound)?;
    if planted::active(Bug::SettingsLost) {
        return Ok(Outcome::Done);
    }
    row.settings = Some(command.settings.clone());
    rows::put(rows, key, &row);
    Ok(Outcome::Done)
}

pub(super) fn extend_log(rows: &mut Overlay<'_>, command: &ExtendLog) -> Decided {
    let key = rows::of_account(space::ACCOUNT, command.account);
    let mut account: Account = rows::get(rows, &key)?.ok_or(Conflict::NotFound)?;
    let head = (account.log_seq, account.log_hash);
    if head == command.head {
        return Ok(Outcome::Done);
    }
    if head != command.from {
        return Err(Conflict::Differs.into());
    }
    let devices = command.devices.iter().map(|device| match account.device(device.index) {
        Some(known) => crate::store::AccountDevice { mailbox: known.mailbox, ..*device },
        None => *device,
    });
    let devices: Vec<_> = devices.collect();
    for gone in account.devices.iter().filter(|known| !devices.iter().any(|device| device.index == known.index)) {
        drop_device(rows, DeviceId { account: command.account, index: gone.index }, gone.mailbox, usize::MAX)?;
    }
    for new in devices.iter().filter(|device| account.device(device.index).is_none()) {
        let id = DeviceId { account: command.account, index: new.index };
        let member = Member::new(Epochs::ALL, Home::Here(new.mailbox));
        rows::put(rows, rows::member(account.inbox, id), &member);
        // What waits there was said to those who were there.
        let log: Option<LogRow> = rows::get(rows, &rows::log(account.inbox))?;
        let head = log.map_or(Sequence::ZERO, |log| log.head);
        let cursor = CursorRow { start: head, ..CursorRow::new(Sequence::ZERO, Epochs::ALL) };
        rows::put(rows, rows::cursor(new.mailbox, account.inbox), &cursor);
    }
    account.devices = devices;
    (account.log_seq, account.log_hash) = command.head;
    rows::put(rows, key, &account);
    rows.put(rows::of_account(space::ACCOUNT_LOG, command.account), command.log.clone());
    tree::grow(rows, command.account, account.inbox, command.head)?;
    Ok(Outcome::Done)
}

pub(super) fn keep_stamp(rows: &mut Overlay<'_>, command: &KeepStamp) -> Decided {
    let KeepStamp { device, after, stamp } = *command;
    let account = known_account(rows, device.account)?.ok_or(Conflict::NotFound)?;
    account.device(device.index).ok_or(Conflict::NotFound)?;
    let key = rows::of_device(space::STAMP, device);
    let known: Option<Stamp> = match rows::get(rows, &key) {
        // Nobody could mend it, and the device must come in: its next stamp makes the row whole.
        Err(StorageError::Damaged { .. }) => None,
        other => other?,
    };
    if known == Some(stamp) {
        // Said again, because the answer was lost.
        return Ok(Outcome::Done);
    }
    if after.is_some_and(|after| after.number >= stamp.number) {
        return Err(Conflict::Malformed.into());
    }
    // A relay that has less than the device lost it with its own store: the device knows better.
    let follows =
        known.is_none() || known == after || known.map(|known| known.number) < after.map(|after| after.number);
    if !follows {
        return Err(Conflict::OldCopy.into());
    }
    rows::put(rows, key, &stamp);
    Ok(Outcome::Done)
}

pub(super) fn set_wake(rows: &mut Overlay<'_>, command: &SetWake) -> Decided {
    let SetWake { device, endpoint, at } = command;
    let account = known_account(rows, device.account)?.ok_or(Conflict::NotFound)?;
    account.device(device.index).ok_or(Conflict::NotFound)?;
    let key = rows::of_device(space::WAKE, *device);
    let Some((endpoint, code)) = endpoint else {
        rows.delete(key);
        return Ok(Outcome::Done);
    };
    let mut row: WakeRow = rows::get(rows, &key)?.unwrap_or_default();
    row.asked = Some(Challenge { endpoint: endpoint.clone(), code: *code, at: *at });
    if planted::active(Bug::WakeUnchallenged) {
        row.live = Some(endpoint.clone());
    }
    rows::put(rows, key, &row);
    Ok(Outcome::Done)
}

pub(super) fn confirm_wake(rows: &mut Overlay<'_>, command: &ConfirmWake) -> Decided {
    let key = rows::of_device(space::WAKE, command.device);
    let mut row: WakeRow = rows::get(rows, &key)?.ok_or(Conflict::NotFound)?;
    let asked = row.asked.take().ok_or(Conflict::NotFound)?;
    let age = command.at.as_millis().saturating_sub(asked.at.as_millis());
    if asked.code != command.code || u128::from(age) > limits::WAKE_CHALLENGE_AGE_MAX.as_millis() {
        return Err(Conflict::NotFound.into());
    }
    row.live = Some(asked.endpoint);
    rows::put(rows, key, &row);
    Ok(Outcome::Done)
}

pub(super) fn delete_account(rows: &mut Overlay<'_>, account: AccountId) -> Decided {
    let key = rows::of_account(space::ACCOUNT, account);
    let Some(row) = rows.get(&key)? else {
        // Said again, because the answer was lost.
        let going = rows.get(&rows::of_account(space::PURGE, account))?.is_some();
        return if going { Ok(Outcome::Done) } else { Err(Conflict::NotFound.into()) };
    };
    // The name stays, so that nobody takes it up and is taken for this account.
    rows.delete(key);
    rows.delete(rows::of_account(space::ACCOUNT_LOG, account));
    // Its leaves stay, since a tree only grows; without the salt, which goes with the account, they tell nothing.
    rows.delete(rows::of_account(space::LEAF, account));
    rows.put(rows::of_account(space::PURGE, account), row);
    Ok(Outcome::Done)
}

/// Rows by account that go with it, one space after the other.
const OWNED: [u8; 5] = [space::INVITE, space::PARTED, space::ROW, space::TAG, space::PROFILE];

pub(super) fn purge(rows: &mut Overlay<'_>, account: AccountId) -> Decided {
    let key = rows::of_account(space::PURGE, account);
    let Some(was) = rows::get::<Account>(rows, &key)? else { return Ok(Outcome::Purged { more: false }) };
    let mut room = limits::PURGE_ROWS_MAX;
    for device in &was.devices {
        let id = DeviceId { account, index: device.index };
        room = drop_device(rows, id, device.mailbox, room)?;
    }
    let prefix = rows::of_account(space::FRIEND, account);
    for (row_key, _) in rows::scan(rows, &prefix, room)? {
        let other = AccountId::from_bytes(rows::rest(&row_key, prefix.len())?);
        friends::change(rows, account, other, None)?;
        if friends::row(rows, other, account)?.is_some() && !friends::blocks(rows, other, account)? {
            friends::change(rows, other, account, None)?;
        }
        room -= 1;
    }
    for space in OWNED {
        if planted::active(Bug::DeletionLeavesRows) && space == space::ROW {
            continue;
        }
        room = drop_rows(rows, &rows::of_account(space, account), room)?;
    }
    let dropped = blobs::drop_inbox(rows, was.inbox, (Sequence::ZERO, Sequence::new(u64::MAX)), room)?;
    room = if dropped.more { 0 } else { room - dropped.entries };
    let log_key = rows::log(was.inbox);
    if let (Some(mut log), Some((place, last))) = (rows::get::<LogRow>(rows, &log_key)?, dropped.last) {
        (log.trimmed, log.trimmed_total) = (place, last.total);
        rows::put(rows, log_key, &log);
    }
    for space in [space::TAIL, space::MEMBER] {
        room = drop_rows(rows, &[&[space], was.inbox.as_bytes().as_slice()].concat(), room)?;
    }
    if room == 0 {
        return Ok(Outcome::Purged { more: true });
    }
    rows.delete(rows::log(was.inbox));
    rows.delete(rows::of_account(space::OWNER, account));
    rows.delete(key);
    Ok(Outcome::Purged { more: false })
}

/// Takes away what hangs on one device, up to so many rows; gives how many more may go.
fn drop_device(
    rows: &mut Overlay<'_>,
    device: DeviceId,
    mailbox: MailboxId,
    room: usize,
) -> Result<usize, StorageError> {
    let mut room = room;
    let prefix = rows::cursors(mailbox);
    for (key, _) in rows::scan(rows, &prefix, room)? {
        let log = LogId::from_bytes(rows::rest(&key, prefix.len())?);
        rows.delete(rows::member(log, device));
        rows.delete(key);
        room -= 1;
    }
    room = drop_rows(rows, &rows::of_device(space::PACKAGE, device), room)?;
    if room > 0 {
        for space in [space::STOCK, space::LAST_RESORT, space::WAKE, space::STAMP] {
            rows.delete(rows::of_device(space, device));
        }
    }
    Ok(room)
}

fn drop_rows(rows: &mut Overlay<'_>, prefix: &[u8], room: usize) -> Result<usize, StorageError> {
    let found = rows::scan(rows, prefix, room)?;
    let left = room - found.len();
    found.into_iter().for_each(|(key, _)| rows.delete(key));
    Ok(left)
}

/// Whether an account is not shown to be there.
///
/// # Errors
/// See [`super::account`].
pub fn hidden(reads: &dyn Reads, owner: AccountId) -> Result<bool, StorageError> {
    Ok(owner_row(reads, owner)?.hidden)
}

/// The open invites of an account, by token hash.
///
/// # Errors
/// See [`super::account`].
pub fn invites(reads: &dyn Reads, owner: AccountId) -> Result<Vec<OpenInvite>, StorageError> {
    let prefix = rows::of_account(space::INVITE, owner);
    rows::scan(reads, &prefix, limits::INVITES_MAX)?.into_iter().map(|row| open_invite(row, prefix.len())).collect()
}

/// The open invitations to register, by token hash, after one of them.
///
/// # Errors
/// See [`super::account`].
pub fn registrations(
    reads: &dyn Reads,
    after: Option<TokenHash>,
    limit: usize,
) -> Result<Vec<OpenInvite>, StorageError> {
    let prefix = [space::REGISTRATION];
    let from = after.map_or_else(|| prefix.to_vec(), |after| rows::after(&rows::registration(after)));
    let found = reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)?;
    found.into_iter().map(|row| open_invite(row, prefix.len())).collect()
}

fn open_invite((key, value): Row, prefix: usize) -> Result<OpenInvite, StorageError> {
    let InviteRow { left, expires, .. } = rows::read(&key, &value)?;
    Ok(OpenInvite { token: TokenHash::from_bytes(rows::rest(&key, prefix)?), left, expires })
}

/// An account's card.
///
/// # Errors
/// See [`super::account`].
pub fn profile(reads: &dyn Reads, owner: AccountId) -> Result<Option<Signed>, StorageError> {
    let row: Option<ProfileRow> = rows::get(reads, &rows::of_account(space::PROFILE, owner))?;
    Ok(row.map(|row| row.card))
}

/// Where a device is woken.
///
/// # Errors
/// See [`super::account`].
pub fn wake(reads: &dyn Reads, device: DeviceId) -> Result<Wake, StorageError> {
    let row: WakeRow = rows::get(reads, &rows::of_device(space::WAKE, device))?.unwrap_or_default();
    Ok(Wake { live: row.live, asked: row.asked.is_some() })
}

/// The local devices that read a log and can be woken for it, by device, after one of them.
///
/// # Errors
/// See [`super::account`].
pub fn sleepers(
    reads: &dyn Reads,
    log: LogId,
    at: Wall,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<(DeviceId, MailboxId)>, StorageError> {
    let Some(LogRow { which, .. }) = rows::get(reads, &rows::log(log))? else { return Ok(Vec::new()) };
    let prefix = rows::members(log);
    let mut from = after.map_or_else(|| prefix.clone(), |after| rows::after(&rows::member(log, after)));
    let mut found = Vec::new();
    while found.len() < limit {
        let page = reads.scan(&from, &rows::end(&prefix), Order::Ascending, limit)?;
        let Some((last, _)) = page.last() else { break };
        from = rows::after(last);
        for (key, value) in page {
            let Home::Here(mailbox) = rows::read::<Member>(&key, &value)?.home else { continue };
            let device = rows::device_of(&key, prefix.len())?;
            let wakes = wake(reads, device)?.live.is_some();
            if wakes && !is_quiet(reads, device.account, which, at)? && found.len() < limit {
                found.push((device, mailbox));
            }
        }
    }
    Ok(found)
}

fn is_quiet(
    reads: &dyn Reads,
    owner: AccountId,
    which: whimbrel_protocol::push::LogRef,
    at: Wall,
) -> Result<bool, StorageError> {
    let whimbrel_protocol::push::LogRef::Thread(thread) = which else { return Ok(false) };
    let row: Option<OwnRow> = rows::get(reads, &rows::row(owner, thread))?;
    Ok(row.and_then(|row| row.settings).is_some_and(|settings| settings.quiet_until > at))
}

/// Spaces given out to the account they are about, and what follows the account in their keys.
const EXPORTED: [u8; 12] = [
    space::ACCOUNT,
    space::ACCOUNT_LOG,
    space::OWNER,
    space::INVITE,
    space::ROW,
    space::TAG,
    space::FRIEND,
    space::PARTED,
    space::PROFILE,
    space::WAKE,
    space::LEAF,
    space::STAMP,
];

/// Everything kept of an account, after a place: one space after the other, then the entries of its inbox.
///
/// # Errors
/// See [`super::account`].
pub fn export(reads: &dyn Reads, account: AccountId, after: &[u8], limit: usize) -> Result<ExportPage, StorageError> {
    let mut page = ExportPage { rows: Vec::new(), next: None };
    let Some(known) = known_account(reads, account)? else { return Ok(page) };
    let inbox = [&[space::ENTRY], known.inbox.as_bytes().as_slice()].concat();
    let prefixes = EXPORTED.iter().map(|space| rows::of_account(*space, account)).chain([inbox]);
    for (number, prefix) in prefixes.enumerate() {
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let (first, rest) = after.split_first().map_or((0, after), |(first, rest)| (*first, rest));
        if number < first {
            continue;
        }
        let mut from = prefix.clone();
        if number == first && !after.is_empty() {
            from = rows::after(&[&prefix, rest].concat());
        }
        let room = limit.saturating_sub(page.rows.len());
        for (key, value) in reads.scan(&from, &rows::end(&prefix), Order::Ascending, room)? {
            let rest = key.get(prefix.len()..).unwrap_or_default().to_vec();
            page.next = Some([&[number], rest.as_slice()].concat());
            let kind = schema::space_name(key.first().copied().unwrap_or(0)).to_owned();
            page.rows.push(ExportedRow { kind, key: rest, value });
        }
        if page.rows.len() >= limit {
            break;
        }
    }
    if page.rows.len() < limit {
        page.next = None;
    }
    if planted::active(Bug::ExportSkips) && !after.is_empty() && !page.rows.is_empty() {
        page.rows.remove(0);
    }
    Ok(page)
}

/// Deleted accounts with rows left.
///
/// # Errors
/// See [`super::account`].
pub fn to_purge(reads: &dyn Reads, limit: usize) -> Result<Vec<AccountId>, StorageError> {
    let found = rows::scan(reads, &[space::PURGE], limit)?;
    found.into_iter().map(|(key, _)| Ok(AccountId::from_bytes(rows::rest(&key, 1)?))).collect()
}
