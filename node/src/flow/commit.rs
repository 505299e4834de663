//! Commit: a change of a group that holds, from the thread's log to this device's group.
//! In order: hold it against the epoch it is for, look newcomers up, apply it on trial, check who made it, that it does what
//! was announced and that every new leaf is the device it says it is; only then it counts. What comes after it waits.
//! Never: applies out of order, or merges our own before it came back; seals for a leaf that is not proved.
//! Rules: docs/protocol/hub.md.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_crypto::{AccountLog, Context, Engine, EngineError, warrant};
use whimbrel_protocol::hub::{Accepted, Commit, FetchCommit};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, Domain, EnvelopeId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::{self, Policy};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{Founding, Participant};
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::user::{LookUp, Who};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads as _, StorageError};

use super::{account, facts, group, join, pass, picture, receive, rejoin, send, witness};
use crate::api::{CommandError, Event, Reply};
use crate::contacts::{self, Distrust};
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ChangeRow, ThreadRow, ThreadState, TitleRow};
use crate::thread;
use crate::timers::Timer;

/// What became of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Course {
    /// Done with: it counts, counted already, or never will.
    Done,
    /// Something is missing: it and what follows wait.
    Waits,
}

/// A commit came with a thread's log, or was asked for.
pub(crate) fn take<E: Engine>(t: &mut Turn<'_, E>, accepted: &Accepted) -> Result<Course, StorageError> {
    let commit = &accepted.commit;
    let id = commit.thread;
    let Some(row) = thread::get(&t.rows, &id)? else { return Ok(Course::Waits) };
    match row.state {
        ThreadState::Open | ThreadState::Halted | ThreadState::Opening => {}
        // Of a later leaf of ours: its invitation comes another way.
        ThreadState::Left if commit.epoch > row.epoch => return Ok(Course::Waits),
        ThreadState::Left | ThreadState::Refused | ThreadState::Failed(_) => return Ok(Course::Done),
    }
    if row.founding.is_none() || row.state == ThreadState::Halted {
        return Ok(Course::Done);
    }
    let said = (accepted.receipt.words.term, accepted.receipt.words.epoch, accepted.receipt.words.commit);
    let names = said == (commit.term, commit.epoch, commit.hash());
    if commit.epoch < row.epoch {
        // Here already; or another one for an epoch that has ended.
        if names {
            witness::note(t, id, &row, &accepted.receipt)?;
        }
        return Ok(Course::Done);
    }
    if commit.epoch > row.epoch {
        tracing::debug!(ours = ?row.epoch, theirs = ?commit.epoch, "a commit between is missing");
        miss(t, id, row.epoch);
        return Ok(Course::Waits);
    }
    if !names {
        return pass_over(t, accepted, "not the commit its receipt names").map(|()| Course::Done);
    }
    if !witness::note(t, id, &row, &accepted.receipt)? {
        return pass_over(t, accepted, "a change without its hub's receipt").map(|()| Course::Done);
    }
    let change: Option<ChangeRow> = rows::get(&t.rows, &rows::change_key(&id))?;
    if change.as_ref().is_some_and(|change| change.hash == commit.hash()) {
        return ours(t, row, accepted).map(|()| Course::Done);
    }
    let strangers = unproved(t, commit)?;
    if !strangers.is_empty() {
        tracing::debug!(strangers = strangers.len(), "a commit waits for account logs");
        for (account, domain) in strangers {
            look_up(t, id, account, domain)?;
        }
        return Ok(Course::Waits);
    }
    theirs(t, row, accepted, change).map(|()| Course::Done)
}

/// A commit between is missing from the log: the relay keeps it apart.
pub(crate) fn miss<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, epoch: Epoch) {
    if !t.rooms.requests.any(|purpose| *purpose == Purpose::Commit(thread)) {
        t.ask(Purpose::Commit(thread), |request| FetchCommit { request, thread, epoch });
    }
}

/// Entries of a group's log are gone, commits perhaps among them: the relay keeps these apart, and is asked for the next one
/// until there is none.
pub(crate) fn may_be_behind<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, row: &ThreadRow) {
    if row.state == ThreadState::Open && row.founding.is_some() {
        t.rooms.threads.behind.insert(thread);
        miss(t, thread, row.epoch);
    }
}

/// A commit of the log is done with. If the thread is where it was, what came was not what holds: the relay is asked, and
/// again every minute.
pub(crate) fn look_after<E: Engine>(t: &mut Turn<'_, E>, commit: &Commit) -> Result<(), StorageError> {
    if stands(t, &commit.thread, commit.epoch)? {
        t.rooms.threads.passed_over.insert(commit.thread, commit.epoch);
        miss(t, commit.thread, commit.epoch);
    }
    Ok(())
}

/// The relay takes nothing of this device in a group any more, for it has no leaf there, and the change that took it has not
/// come: whoever is out is pushed nothing by which that would show. It is asked for like one that was passed over.
pub(crate) fn may_be_out<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if let Some(row) = thread::get(&t.rows, &thread)?
        && stands(t, &thread, row.epoch)?
    {
        t.rooms.threads.passed_over.insert(thread, row.epoch);
        miss(t, thread, row.epoch);
    }
    Ok(())
}

/// Whether a group is open, and where it was.
fn stands<E: Engine>(t: &Turn<'_, E>, thread: &ThreadId, epoch: Epoch) -> Result<bool, StorageError> {
    let row = thread::get(&t.rows, thread)?;
    Ok(row.is_some_and(|row| row.state == ThreadState::Open && row.founding.is_some() && row.epoch == epoch))
}

/// A minute is over: what was passed over may be had now.
pub(crate) fn ask_again<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    if t.rooms.threads.behind.contains(&thread)
        && let Some(row) = thread::get(&t.rows, &thread)?
    {
        may_be_behind(t, thread, &row);
    }
    let Some(epoch) = t.rooms.threads.passed_over.get(&thread).copied() else { return Ok(()) };
    if stands(t, &thread, epoch)? {
        miss(t, thread, epoch);
    } else {
        t.rooms.threads.passed_over.remove(&thread);
    }
    Ok(())
}

/// What was missing came, or is not to be had.
pub(crate) fn fetched<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    accepted: Option<&Accepted>,
) -> Result<(), StorageError> {
    let epoch = |t: &Turn<'_, E>| thread::get(&t.rows, &thread).map(|row| row.map(|row| row.epoch));
    let before = epoch(t)?;
    let course = match accepted.filter(|accepted| accepted.commit.thread == thread) {
        Some(accepted) => take(t, accepted)?,
        None => {
            not_handed_over(t, thread)?;
            Course::Done
        }
    };
    match course {
        Course::Done if epoch(t)? != before => {
            t.rooms.threads.passed_over.remove(&thread);
            receive::unpark(t, thread)?;
            if t.rooms.threads.behind.contains(&thread)
                && let Some(row) = thread::get(&t.rows, &thread)?
            {
                may_be_behind(t, thread, &row);
            }
            Ok(())
        }
        // The same would come at once.
        Course::Done => retry(t, thread),
        Course::Waits => Ok(()),
    }
}

/// What a group waits for did not come: it is asked for again, soon at first, for most of what fails was lost on the way, and
/// then ever more seldom, each minute in the end.
fn retry<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let Some(epoch) = thread::get(&t.rows, &thread)?.map(|row| row.epoch) else { return Ok(()) };
    let (waits_in, tries) = t.rooms.threads.waits.entry(thread).or_insert((epoch, 0));
    if *waits_in != epoch {
        (*waits_in, *tries) = (epoch, 0);
    }
    let delay = limits::RETRY_DELAY.saturating_mul(2u32.saturating_pow(*tries)).min(limits::LINK_IDLE_MAX);
    *tries = tries.saturating_add(1);
    t.rooms.timers.set_by(Timer::Unpark(thread), t.now.monotonic.plus(delay));
    Ok(())
}

/// The relay does not hand over the change that a group went on by: something of a later epoch is here, and waits for it. The
/// owner is told once, after so many times.
fn not_handed_over<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let Some(epoch) = thread::get(&t.rows, &thread)?.map(|row| row.epoch) else { return Ok(()) };
    let parked = rows::parked_prefix(&thread);
    if t.rows.scan(&parked, &rows::after(&parked), Order::Ascending, 1)?.is_empty() {
        return Ok(());
    }
    let (of, times) = t.rooms.threads.missing.entry(thread).or_insert((epoch, 0));
    if *of != epoch {
        (*of, *times) = (epoch, 0);
    }
    *times = times.saturating_add(1);
    if *times == limits::MISSING_TOLD_AFTER {
        t.event(Event::ChangesMissing { thread });
    }
    Ok(())
}

/// Newcomers whose account log does not prove their devices yet. One that was revoked since is followed into the epochs in
/// which it was there: what is said in those is for whoever was away, too. Who writes there is another question.
pub(crate) fn unproved<E: Engine>(t: &Turn<'_, E>, commit: &Commit) -> Result<Vec<(AccountId, Domain)>, StorageError> {
    let own = t.rooms.identity.account();
    let mut unproved = Vec::new();
    for one in &commit.added {
        let log = match one.account == own {
            true => Some(t.rooms.identity.log.clone()),
            false => contacts::known(&t.rows, &one.account)?.map(|person| person.log),
        };
        let proves = |log: AccountLog| one.devices.iter().all(|index| log.named(*index).is_some());
        if !log.is_some_and(proves) {
            unproved.push((one.account, one.domain.clone()));
        }
    }
    Ok(unproved)
}

pub(crate) fn look_up<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    account: AccountId,
    domain: Domain,
) -> Result<(), StorageError> {
    let same = |purpose: &Purpose| matches!(purpose, Purpose::Newcomer(_, of, _) if *of == account);
    if t.rooms.requests.any(same) {
        // The answer is for the thread that asked; this one looks again.
        return retry(t, thread);
    }
    let who = Who::Account(account, domain.clone());
    t.ask(Purpose::Newcomer(thread, account, domain), |request| LookUp { request, who, hint: None });
    Ok(())
}

/// A newcomer's log came; it must prove the account.
pub(crate) fn looked_up<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    (account, domain): (AccountId, Domain),
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    if account == t.rooms.identity.account() {
        // A sibling that this device has not heard of yet.
        let before = t.rooms.identity.log.head();
        account::shown(t, log)?;
        return match t.rooms.identity.log.head() == before {
            true => retry(t, thread),
            false => receive::unpark_all(t),
        };
    }
    match contacts::judge(&t.rows, account, &domain, address, log)? {
        Ok(person) => {
            let before = contacts::known(&t.rows, &account)?.map(|known| known.log.head());
            t.keep(&person, false)?;
            if before == Some(person.log.head()) {
                // The same would come at once.
                return retry(t, thread);
            }
            // Another thread may wait for the same.
            receive::unpark_all(t)
        }
        Err(Distrust(why)) => {
            tracing::warn!(why, "a relay does not prove a newcomer of a group; it is asked again");
            retry(t, thread)
        }
    }
}

/// Whom a look-up was for is not known yet.
///
/// A relay that cannot be reached may be back at once, and until then nothing of the group is shown here.
pub(crate) fn not_looked_up<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, again: Option<Duration>) {
    let delay = again.map_or(limits::LINK_IDLE_MAX, |again| again.max(limits::RETRY_DELAY));
    t.rooms.timers.set(Timer::Unpark(thread), t.now.monotonic.plus(delay));
}

/// Our own commit came back: now it counts.
pub(crate) fn ours<E: Engine>(
    t: &mut Turn<'_, E>,
    mut row: ThreadRow,
    accepted: &Accepted,
) -> Result<(), StorageError> {
    let id = accepted.commit.thread;
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let epoch = match t.engine.merge_own(&mut cx, &own, id) {
        Ok(epoch) => epoch,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return halt(t, row, id, &error.to_string()),
    };
    t.rows.delete(rows::change_key(&id));
    t.rooms.threads.changing.remove(&id);
    row.participants = after(&row.participants, &accepted.commit);
    row.epoch = epoch;
    t.rooms.threads.strays.remove(&id);
    t.rooms.signals.forget(&id);
    // Every commit gives its author's leaf another key.
    row.shared = false;
    grow(&mut row, &accepted.commit);
    let added = !accepted.commit.added.is_empty();
    settle(t, &mut row, accepted)?;
    if row.is_self(&t.rooms.identity.account()) {
        thread::put(&mut t.rows, &id, &row);
        if added { facts::tell_all(t)? } else { facts::resume(t)? }
    } else if added {
        welcome(t, id, &mut row)?;
    }
    thread::put(&mut t.rows, &id, &row);
    group::done(t, id, Ok(Reply::Done));
    group::tend(t, id)?;
    send::pump(t, id)
}

/// Another device's commit.
fn theirs<E: Engine>(
    t: &mut Turn<'_, E>,
    mut row: ThreadRow,
    accepted: &Accepted,
    change: Option<ChangeRow>,
) -> Result<(), StorageError> {
    let commit = &accepted.commit;
    let id = commit.thread;
    let own = t.rooms.identity.own();
    let participants = after(&row.participants, commit);
    // On top of the turn's changes, and dropped without a trace unless it is what it must be.
    let mut trial = Overlay::new(&t.rows);
    let mut cx = Context { rows: &mut trial, chance: &mut *t.chance, now: t.now };
    let due = match commit.warrant.is_some().then(|| t.engine.members(&mut cx, id)).transpose() {
        Ok(leaves) => warrant::due(commit, &leaves.unwrap_or_default()),
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return pass_over(t, accepted, &error.to_string()),
    };
    let applied = match t.engine.apply(&mut cx, &own, id, &commit.bytes) {
        Ok(applied) => applied,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(EngineError::BadSignature) => return rejoin::begin(t, &row, accepted, change.as_ref()),
        Err(error) => return pass_over(t, accepted, &format!("a change that cannot be followed: {error}")),
    };
    let members = match t.engine.members(&mut cx, id) {
        Ok(members) => Some(members),
        Err(EngineError::NotMember) => None,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return pass_over(t, accepted, &error.to_string()),
    };
    let trial = trial.into_changes();
    if change.is_some() && planted::active(Bug::MergeLost) {
        return ours(t, row, accepted);
    }
    if !may(&row, applied.committer.account, (commit, &due), (row.given_policy(), applied.sets.as_ref()), &participants)
    {
        return pass_over(t, accepted, "a change by somebody who may not make it");
    }
    if let Some(members) = &members
        && let Err(why) = prove(t, &row, &participants, members)?
    {
        return pass_over(t, accepted, why);
    }
    if members.is_none() && !commit.removed.contains(&t.rooms.identity.id()) {
        return pass_over(t, accepted, "the members are not the ones announced");
    }
    t.rows.absorb(trial);
    if members.is_none() {
        return left(t, row, accepted);
    }
    (row.participants, row.epoch) = (participants, applied.epoch);
    t.rooms.threads.strays.remove(&id);
    t.rooms.signals.forget(&id);
    grow(&mut row, commit);
    settle(t, &mut row, accepted)?;
    if !commit.added.is_empty() && row.policy().is_some_and(|policy| !policy.may_rename(&applied.committer.account)) {
        // Who took them in cannot tell them what the group is called.
        welcome(t, id, &mut row)?;
    }
    thread::put(&mut t.rows, &id, &row);
    if row.is_self(&t.rooms.identity.account()) {
        facts::resume(t)?;
    }
    match change {
        Some(change) => group::again(t, id, &row, change)?,
        None => group::tend(t, id)?,
    }
    send::pump(t, id)
}

/// Whether somebody may make a commit that leads to these members, by the policy of the epoch it is made in, if it sets that
/// other one. The hub asks the same; this device does not take its word for the answer.
pub(crate) fn may(
    row: &ThreadRow,
    by: AccountId,
    (commit, due): (&Commit, &BTreeSet<DeviceId>),
    (held, sets): (Option<&Policy>, Option<&Policy>),
    after: &[Participant],
) -> bool {
    let members = after.iter().map(|one| one.account).collect();
    let may = |founding: Founding| policy::permits(&founding, held, &by, commit, sets, &members, due);
    planted::active(Bug::AnybodyRules) || row.founding.is_some_and(may)
}

/// Newcomers are told what the group is called and shows, if this account says that. The caller writes the row.
fn welcome<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &mut ThreadRow) -> Result<(), StorageError> {
    let own = t.rooms.identity.account();
    if row.leaving || !row.policy().is_some_and(|policy| policy.may_rename(&own)) {
        return Ok(());
    }
    match group::say_title(t, id, row).and_then(|()| picture::say_again(t, id, row)) {
        Ok(()) | Err(Halt::Command(_)) => Ok(()),
        Err(Halt::Broken(error)) => Err(error),
    }
}

/// What was said before newcomers came is not for them.
const fn grow(row: &mut ThreadRow, commit: &Commit) {
    if !commit.added.is_empty() {
        row.grown = row.epoch.get();
    }
}

/// Who is in the group once a commit counts, as announced.
pub(crate) fn after(before: &[Participant], commit: &Commit) -> Vec<Participant> {
    let devices = before.iter().flat_map(Participant::ids).filter(|device| !commit.removed.contains(device));
    let devices: BTreeSet<DeviceId> = devices.chain(commit.added_devices()).collect();
    let home = |account: &AccountId| {
        let of =
            |people: &[Participant]| people.iter().find(|one| one.account == *account).map(|one| one.domain.clone());
        of(before).or_else(|| of(&commit.added))
    };
    thread::participants(devices, home).unwrap_or_default()
}

/// Whether the members are the ones announced, and every new leaf the device it says it is.
pub(crate) fn prove<E: Engine>(
    t: &Turn<'_, E>,
    row: &ThreadRow,
    participants: &[Participant],
    members: &[(DeviceId, PublicKey)],
) -> Result<Result<(), &'static str>, StorageError> {
    let before: BTreeSet<DeviceId> = thread::leaves(row).collect();
    let announced: BTreeSet<DeviceId> = participants.iter().flat_map(Participant::ids).collect();
    if announced != members.iter().map(|(device, _)| *device).collect() {
        return Ok(Err("the members are not the ones announced"));
    }
    for (device, key) in members.iter().filter(|(device, _)| !before.contains(device)) {
        let log = match device.account == t.rooms.identity.account() {
            true => Some(t.rooms.identity.log.clone()),
            false => contacts::known(&t.rows, &device.account)?.map(|person| person.log),
        };
        let named = |log: &AccountLog| log.device(device.index).or(log.former(device.index)).map(|one| one.device_key);
        let proved = log.as_ref().and_then(named).is_some_and(|named| named == *key);
        if !proved && !planted::active(Bug::TrustDevices) {
            return Ok(Err("a leaf does not match its account's log"));
        }
    }
    Ok(Ok(()))
}

/// The owner is told who came and went.
fn settle<E: Engine>(t: &mut Turn<'_, E>, row: &mut ThreadRow, accepted: &Accepted) -> Result<(), StorageError> {
    row.updated = t.now.wall;
    witness::remember(t, accepted.commit.thread)?;
    if row.is_self(&t.rooms.identity.account()) {
        return Ok(());
    }
    let asked_to = row.leavers.clone();
    row.leavers.retain(|account| row.participants.iter().any(|one| one.account == *account));
    row.going.retain(|words| row.leavers.contains(&words.by.account));
    hold_policy(t, row, accepted)?;
    let Commit { thread, added, removed, .. } = &accepted.commit;
    let added: Vec<AccountId> = added.iter().map(|one| one.account).collect();
    let gone: BTreeSet<AccountId> = removed.iter().map(|device| device.account).collect();
    let removed: Vec<AccountId> =
        gone.into_iter().filter(|account| row.participants.iter().all(|one| one.account != *account)).collect();
    // By a warrant nobody decided that they are out.
    let decided = accepted.commit.warrant.is_none();
    let taken_out: Vec<AccountId> =
        removed.iter().filter(|account| decided && !asked_to.contains(account)).copied().collect();
    pass::bar(t, *thread, &taken_out)?;
    pass::settled(t, *thread);
    t.event(Event::MembersChanged { thread: *thread, added, removed });
    Ok(())
}

/// The policy of the epoch that begins holds from now on. The owner is told of another one, and that they stay if nobody is left
/// who could take them out.
fn hold_policy<E: Engine>(t: &mut Turn<'_, E>, row: &mut ThreadRow, accepted: &Accepted) -> Result<(), StorageError> {
    let (thread, by) = (accepted.commit.thread, accepted.author.account);
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let policy = match t.engine.policy(&mut cx, thread) {
        Ok(policy) => policy,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => {
            tracing::error!(%error, "a group's policy cannot be read");
            return Ok(());
        }
    };
    if row.hold_policy(policy)
        && let Some(policy) = row.policy()
    {
        t.event(Event::PolicyChanged { thread, by, policy });
    }
    let own = t.rooms.identity.account();
    if let Some([last]) = row.policy().as_ref().map(|policy| policy.admins.as_slice())
        && row.participants.len() > 1
    {
        // They stay, and are told so; what they asked for is over, with everybody.
        let last = *last;
        row.leavers.retain(|account| *account != last);
        row.going.retain(|words| words.by.account != last);
    }
    let alone = row.policy().is_some_and(|policy| policy.admins == [own]) && row.participants.len() > 1;
    if row.leaving && alone {
        row.leaving = false;
        t.event(Event::LeaveRefused { thread });
    }
    Ok(())
}

/// This device has no leaf any more. What was shown stays; what waits to be sent is nobody's to open.
pub(crate) fn left<E: Engine>(
    t: &mut Turn<'_, E>,
    mut row: ThreadRow,
    accepted: &Accepted,
) -> Result<(), StorageError> {
    let id = accepted.commit.thread;
    row.state = ThreadState::Left;
    row.updated = t.now.wall;
    thread::put(&mut t.rows, &id, &row);
    t.rows.delete(rows::change_key(&id));
    t.rooms.threads.changing.remove(&id);
    group::done(t, id, Err(CommandError::State("you are not in this group any more".to_owned())));
    send::divert(t, id, Err(RefusalCode::NotFound))?;
    if !row.is_self(&t.rooms.identity.account()) {
        t.event(Event::GroupLeft { thread: id });
    }
    join::begin_all(t)
}

/// The hub took a change that this device cannot follow, or that it must not: it does not count here. The device stays with
/// those who hold it so, too; what a damaged copy of a good one said comes again.
pub(crate) fn pass_over<E: Engine>(t: &mut Turn<'_, E>, accepted: &Accepted, why: &str) -> Result<(), StorageError> {
    let id = EnvelopeId::from_bytes(*accepted.commit.hash().as_bytes());
    receive::unreadable(t, accepted.commit.thread, id, why)
}

/// Our own commit holds and cannot be merged: the group goes on without this device, which seals nothing more in it.
fn halt<E: Engine>(t: &mut Turn<'_, E>, mut row: ThreadRow, id: ThreadId, why: &str) -> Result<(), StorageError> {
    row.state = ThreadState::Halted;
    thread::put(&mut t.rows, &id, &row);
    if rows::get::<ChangeRow>(&t.rows, &rows::change_key(&id))?.is_some() {
        group::give_up(t, id, CommandError::State(why.to_owned()))?;
    }
    t.event(Event::Unreadable { thread: id, reason: why.to_owned() });
    t.event(Event::ThreadHalted { thread: id });
    Ok(())
}

/// A member asks to be taken out, with a word of the device that says it. A device that is off its account says nothing.
pub(crate) fn leaving<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    author: DeviceId,
    words: Option<&Signed>,
) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    let is_in = row.participants.iter().any(|one| one.account == author.account);
    if row.founding.is_none() || !is_in {
        return Ok(());
    }
    if author.account == t.rooms.identity.account() {
        // A sibling's word: what this device does there is over, too.
        row.leaving = row.state == ThreadState::Open;
        thread::put(&mut t.rows, &id, &row);
        return Ok(());
    }
    let Some(device) = contacts::device(&t.rows, &author)? else { return Ok(()) };
    if row.policy().is_some_and(|policy| policy.admins == [author.account]) {
        // The other admins left first: they stay, and were told so.
        return Ok(());
    }
    if !row.leavers.contains(&author.account) {
        row.leavers.push(author.account);
    }
    if let Some(words) = words.filter(|words| words.by == author && warrant::leaves(words, &device.device_key, id)) {
        // The device that said the one before may be gone.
        row.going.retain(|before| before.by.account != author.account);
        row.going.push(words.clone());
    }
    thread::put(&mut t.rows, &id, &row);
    group::tend(t, id)
}

/// The hub does not take a word by which somebody leaves: they have come back since, or the device that said it has no leaf.
pub(crate) fn unsay<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, words: &Signed) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    if row.going.contains(words) {
        row.going.retain(|said| said != words);
        row.leavers.retain(|account| *account != words.by.account);
        thread::put(&mut t.rows, &id, &row);
    }
    Ok(())
}

/// A member says what the group is called. It counts if they might say it in the epoch they said it in.
pub(crate) fn titled<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    (author, epoch): (AccountId, Epoch),
    (text, hlc): (String, Hlc),
) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    let may = row.policy_in(epoch).is_some_and(|policy| policy.may_rename(&author));
    let newer = row.title.as_ref().is_none_or(|title| title.hlc < hlc);
    if may && newer && text.len() <= limits::TITLE_BYTES_MAX {
        let same = row.title.as_ref().is_some_and(|title| title.text == text);
        row.title = Some(TitleRow { text: text.clone(), hlc });
        thread::put(&mut t.rows, &id, &row);
        if !same {
            t.event(Event::TitleChanged { thread: id, title: text.clone() });
        }
        // A sibling that came into the group later has not heard it.
        facts::note(t, What::Title(id, text), Some(hlc))?;
    }
    Ok(())
}

/// A sibling says what the admin said before this device came.
pub(crate) fn entitled<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, title: TitleRow) -> Result<(), StorageError> {
    let Some(mut row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    if row.is_group() && row.title.as_ref().is_none_or(|known| known.hlc < title.hlc) {
        row.title = Some(title);
        thread::put(&mut t.rows, &id, &row);
    }
    Ok(())
}
