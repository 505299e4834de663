//! Pass: links into groups, on both sides: whoever comes by one of ours is taken in, and we ask to be by another's.
//! In order: a link is made, signed and kept; whoever holds it takes up its invite, then asks in the thread with its maker; the
//! device that made it takes them in by a commit like any other, one after the other, or says why not.
//! Never: takes in whom the link does not hold for, or by a link that this device did not make; asks anybody but its maker.
//! Rules: docs/protocol/invite.md. Limits: `limits::PASSES_MAX`, `limits::ASKS_MAX`, `limits::BARRED_MAX`,
//! `limits::ASK_ATTEMPTS_MAX`, `limits::WISHES_MAX`.

use std::collections::BTreeSet;

use whimbrel_crypto::{AccountLog, Engine, pass};
use whimbrel_protocol::id::{AccountId, DeviceIndex, InviteToken, ThreadId, TokenHash};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Declined};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Overlay, StorageError};

use super::group::Taking;
use super::{befriend, group, open, send};
use crate::api::{CommandError, Event};
use crate::contacts;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, AskRow, PassRow, Space, ThreadState, WishRow};
use crate::thread::{self, Aim};
use crate::timers::Timer;

impl PassRow {
    /// Whether somebody may still be taken in by it.
    fn holds_for(&self, by: &AccountId, now: Wall) -> bool {
        self.uses > 0 && now < self.until && !self.barred.contains(by)
    }
}

/// Makes an invite lead into a group, and keeps that it does.
pub(crate) fn make<E: Engine>(
    t: &mut Turn<'_, E>,
    invite: Invite,
    (group, until, uses): (ThreadId, Wall, u32),
) -> Result<Invite, Halt> {
    if thread::get(&t.rows, &group)?.is_none_or(|row| !row.is_group()) {
        return Err(CommandError::Unknown.into());
    }
    if group::takes_in(t, &group)? == Taking::Never {
        let why = "only who takes people into this group makes links into it";
        return Err(CommandError::State(why.to_owned()).into());
    }
    let now = t.now.wall;
    let over = passes(t)?.into_iter().filter(|(_, row)| row.until <= now);
    let over: Vec<TokenHash> = over.map(|(token, _)| token).collect();
    over.iter().for_each(|token| t.rows.delete(rows::pass_key(token)));
    if passes(t)?.len() >= limits::PASSES_MAX {
        let max = limits::PASSES_MAX;
        return Err(CommandError::State(format!("a device has at most {max} links into groups")).into());
    }
    let row = PassRow { group, until, uses, barred: Vec::new() };
    rows::put(&mut t.rows, rows::pass_key(&invite.token.hash()), &row);
    let own = &t.rooms.identity;
    Ok(pass::sign((&own.device, own.id().index), invite, group, until))
}

/// A link is none any more; whoever asked by it and is not in yet will not be.
pub(crate) fn unmake(rows: &mut Overlay<'_>, token: &TokenHash) {
    rows.delete(rows::pass_key(token));
}

/// The links that this device made.
fn passes<E: Engine>(t: &Turn<'_, E>) -> Result<Vec<(TokenHash, PassRow)>, StorageError> {
    let mut all = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Pass), |(key, value)| {
        if let Some(token) = rows::id_in_key(&key) {
            all.push((TokenHash::from_bytes(token), rows::decode(&key, &value)?));
        }
        Ok(())
    })?;
    Ok(all)
}

/// Somebody we have a thread with came by a link of ours.
pub(crate) fn asked<E: Engine>(
    t: &mut Turn<'_, E>,
    (pair, by): (ThreadId, AccountId),
    group: ThreadId,
    device: DeviceIndex,
    token: InviteToken,
) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    // Another device of ours made it, and has the say.
    if device != own.index || by == own.account {
        return Ok(());
    }
    let between_two =
        |row: rows::ThreadRow| row.founding.is_some_and(|founding| founding.fixed) && row.participants.len() == 2;
    if !thread::get(&t.rows, &pair)?.is_some_and(between_two)
        || !contacts::is_contact(&t.rows, &by)?
        || befriend::is_blocked(&t.rows, &by)?
    {
        tracing::debug!("somebody asks for a group who is to say nothing here");
        return Ok(());
    }
    if thread::get(&t.rows, &group)?.is_some_and(|row| row.participants.iter().any(|one| one.account == by)) {
        return Ok(());
    }
    let token = token.hash();
    let row: Option<PassRow> = rows::get(&t.rows, &rows::pass_key(&token))?;
    if !row.is_some_and(|row| row.group == group && row.holds_for(&by, t.now.wall)) {
        return answer(t, by, group, Declined::Link);
    }
    let asks = &t.rooms.threads.asks;
    if !asks.contains_key(&(group, by)) && asks.len() >= limits::ASKS_MAX {
        return answer(t, by, group, Declined::Failed);
    }
    let key = rows::ask_key(&group, &by);
    // Said again it changes nothing; by another link it may be the one that holds.
    let same = rows::get::<AskRow>(&t.rows, &key)?.is_some_and(|ask| ask.token == token);
    if !same {
        rows::put(&mut t.rows, key, &AskRow { token, attempts: 0 });
        t.rooms.threads.asks.insert((group, by), t.now.monotonic);
    }
    t.rooms.timers.set(Timer::Asks, t.now.monotonic);
    Ok(())
}

/// Takes in whoever came by a link of ours: one at a time of each group, for the KeyPackages of one may not be to be had.
pub(crate) fn serve<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let groups: BTreeSet<ThreadId> = t.rooms.threads.asks.keys().map(|(group, _)| *group).collect();
    for group in groups {
        let row = thread::get(&t.rows, &group)?;
        let members: BTreeSet<AccountId> =
            row.iter().flat_map(|row| &row.participants).map(|one| one.account).collect();
        let asks = t.rooms.threads.asks.range((group, AccountId::from_bytes([0; 32]))..);
        let asks: Vec<_> = asks.take_while(|((of, _), _)| *of == group).map(|((_, by), at)| (*by, *at)).collect();
        let (are_in, wait): (Vec<_>, Vec<_>) = asks.into_iter().partition(|(by, _)| members.contains(by));
        for (by, _) in are_in {
            use_up(t, group, by)?;
        }
        let mut taking = group::takes_in(t, &group)?;
        for (by, at) in wait {
            match taking {
                Taking::Never => decline(t, group, by, Declined::Leave)?,
                // Looked at again then, or when what is under way is settled.
                _ if at > t.now.monotonic => {}
                Taking::Later => {}
                Taking::Now => {
                    if take_in(t, group, by)? {
                        taking = Taking::Later;
                    }
                }
            }
        }
    }
    if let Some(at) = t.rooms.threads.asks.values().filter(|at| **at > t.now.monotonic).min() {
        t.rooms.timers.set(Timer::Asks, *at);
    }
    Ok(())
}

/// Begins to take somebody in; tells whether the group is being changed by it.
fn take_in<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId, by: AccountId) -> Result<bool, StorageError> {
    let key = rows::ask_key(&group, &by);
    let Some(mut ask) = rows::get::<AskRow>(&t.rows, &key)? else {
        t.rooms.threads.asks.remove(&(group, by));
        return Ok(false);
    };
    let row: Option<PassRow> = rows::get(&t.rows, &rows::pass_key(&ask.token))?;
    // It held when they came; what has waited since may be our own doing.
    if !row.is_some_and(|row| row.uses > 0 && !row.barred.contains(&by)) {
        return decline(t, group, by, Declined::Link).map(|()| false);
    }
    if ask.attempts >= limits::ASK_ATTEMPTS_MAX {
        return decline(t, group, by, Declined::Failed).map(|()| false);
    }
    let delay = limits::RETRY_DELAY.saturating_mul(2u32.saturating_pow(ask.attempts)).min(limits::LINK_IDLE_MAX);
    ask.attempts = ask.attempts.saturating_add(1);
    rows::put(&mut t.rows, key, &ask);
    t.rooms.threads.asks.insert((group, by), t.now.monotonic.plus(delay));
    let guests = match open::guests(&t.rows, [by]) {
        Ok(guests) => guests,
        Err(Halt::Broken(error)) => return Err(error),
        Err(Halt::Command(_)) => {
            // No contact any more.
            forget(t, group, by);
            return Ok(false);
        }
    };
    match open::begin(t, None, Aim::Add(group), guests) {
        Ok(()) => Ok(true),
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            tracing::debug!(%error, "somebody who came by a link is taken in later");
            Ok(false)
        }
    }
}

/// Somebody who came by a link is in the group.
fn use_up<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId, by: AccountId) -> Result<(), StorageError> {
    if let Some(ask) = rows::get::<AskRow>(&t.rows, &rows::ask_key(&group, &by))? {
        let key = rows::pass_key(&ask.token);
        if let Some(mut row) = rows::get::<PassRow>(&t.rows, &key)? {
            row.uses = row.uses.saturating_sub(1);
            rows::put(&mut t.rows, key, &row);
        }
    }
    forget(t, group, by);
    Ok(())
}

fn forget<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId, by: AccountId) {
    t.rows.delete(rows::ask_key(&group, &by));
    t.rooms.threads.asks.remove(&(group, by));
}

fn decline<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId, by: AccountId, why: Declined) -> Result<(), StorageError> {
    forget(t, group, by);
    answer(t, by, group, why)
}

/// Says why not, where the two talk.
fn answer<E: Engine>(t: &mut Turn<'_, E>, to: AccountId, group: ThreadId, why: Declined) -> Result<(), StorageError> {
    match open::met(t, to)? {
        Some(pair) => say(t, pair, Body::Declined(group, why)).map(drop),
        None => Ok(()),
    }
}

/// Says something in the thread with somebody; tells whether it will be sent.
fn say<E: Engine>(t: &mut Turn<'_, E>, pair: ThreadId, body: Body) -> Result<bool, StorageError> {
    let Some(mut row) = thread::get(&t.rows, &pair)?.filter(|row| row.state == ThreadState::Open) else {
        return Ok(false);
    };
    match group::say(t, pair, &mut row, body) {
        Ok(()) => {}
        Err(Halt::Broken(error)) => return Err(error),
        Err(Halt::Command(error)) => {
            tracing::warn!(%error, "what is to be said about a link cannot be");
            return Ok(false);
        }
    }
    thread::put(&mut t.rows, &pair, &row);
    send::pump(t, pair).map(|()| true)
}

/// Something about a group is settled: whoever waits to be taken in may be now.
pub(crate) fn settled<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId) {
    let from = (group, AccountId::from_bytes([0; 32]));
    if t.rooms.threads.asks.range(from..).next().is_some_and(|((of, _), _)| *of == group) {
        t.rooms.timers.set(Timer::Asks, t.now.monotonic);
    }
}

/// People were taken out of a group who did not ask to be: the links of before lead them in no more.
pub(crate) fn bar<E: Engine>(t: &mut Turn<'_, E>, group: ThreadId, people: &[AccountId]) -> Result<(), StorageError> {
    if people.is_empty() {
        return Ok(());
    }
    for (token, mut row) in passes(t)?.into_iter().filter(|(_, row)| row.group == group) {
        row.barred.extend(people);
        match row.barred.len() > limits::BARRED_MAX {
            true => t.rows.delete(rows::pass_key(&token)),
            false => rows::put(&mut t.rows, rows::pass_key(&token), &row),
        }
    }
    Ok(())
}

/// Whether a link leads where it says by the word of whoever it is by.
///
/// # Errors
/// It does not.
pub(crate) fn check(log: &AccountLog, invite: &Invite) -> Result<(), CommandError> {
    let error =
        || CommandError::Untrusted("a device of theirs did not sign that this link leads into a group".to_owned());
    pass::verify(log, invite).map_err(|_| error())
}

/// Whether one more group may be waited for. Those that are being looked up count.
///
/// # Errors
/// It may not.
pub(crate) fn check_room<E: Engine>(t: &mut Turn<'_, E>, invite: &Invite) -> Result<(), Halt> {
    let Some(pass) = &invite.pass else { return Ok(()) };
    for group in t.rooms.threads.wishes.clone() {
        let row: Option<WishRow> = rows::get(&t.rows, &rows::wish_key(&group))?;
        if row.is_none_or(|row| row.until <= t.now.wall) {
            unwish(t, &group);
        }
    }
    let threads = &t.rooms.threads;
    let begun = threads.jobs.values().filter(|job| matches!(&job.aim, Aim::Invite(invite) if invite.pass.is_some()));
    if !threads.wishes.contains(&pass.group) && threads.wishes.len() + begun.count() >= limits::WISHES_MAX {
        let max = limits::WISHES_MAX;
        return Err(CommandError::State(format!("{max} groups are waited for already")).into());
    }
    Ok(())
}

/// A link is followed: its maker is to be asked, as soon as there is a thread with them.
pub(crate) fn wish<E: Engine>(t: &mut Turn<'_, E>, invite: &Invite) -> Result<(), StorageError> {
    let Some(pass) = &invite.pass else { return Ok(()) };
    if thread::get(&t.rows, &pass.group)?.is_some_and(|row| row.state == ThreadState::Open) {
        return Ok(());
    }
    let (by, device, token, until) = (invite.account, pass.device, invite.token, pass.until);
    rows::put(&mut t.rows, rows::wish_key(&pass.group), &WishRow { by, device, token, until, asked: false });
    t.rooms.threads.wishes.insert(pass.group);
    ask(t)
}

fn unwish<E: Engine>(t: &mut Turn<'_, E>, group: &ThreadId) {
    t.rows.delete(rows::wish_key(group));
    t.rooms.threads.wishes.remove(group);
}

/// Asks whoever was not asked yet and can be.
pub(crate) fn ask<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    for group in t.rooms.threads.wishes.clone() {
        let key = rows::wish_key(&group);
        let Some(row) = rows::get::<WishRow>(&t.rows, &key)?.filter(|row| !row.asked) else { continue };
        let Some(pair) = open::met(t, row.by)? else { continue };
        if say(t, pair, Body::Ask(group, row.device, row.token))? {
            rows::put(&mut t.rows, key, &WishRow { asked: true, ..row });
        }
    }
    Ok(())
}

/// Somebody will not be met after all: what was to be asked of them is not.
pub(crate) fn not_met<E: Engine>(t: &mut Turn<'_, E>, by: &AccountId) -> Result<(), StorageError> {
    for group in t.rooms.threads.wishes.clone() {
        let row: Option<WishRow> = rows::get(&t.rows, &rows::wish_key(&group))?;
        if row.is_none_or(|row| row.by == *by && !row.asked) {
            unwish(t, &group);
        }
    }
    Ok(())
}

/// This device is in a group.
pub(crate) fn came_in<E: Engine>(t: &mut Turn<'_, E>, group: &ThreadId) {
    if t.rooms.threads.wishes.contains(group) {
        unwish(t, group);
    }
}

/// Whoever was asked takes us in not.
pub(crate) fn declined<E: Engine>(
    t: &mut Turn<'_, E>,
    by: AccountId,
    group: ThreadId,
    why: Declined,
) -> Result<(), StorageError> {
    let row: Option<WishRow> = rows::get(&t.rows, &rows::wish_key(&group))?;
    if row.is_some_and(|row| row.by == by) {
        unwish(t, &group);
        t.event(Event::JoinDeclined { group, by, why });
    }
    Ok(())
}
