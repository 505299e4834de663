//! Rejoin: a group went on by a commit that this device cannot apply, for only members' keys show what is wrong with it.
//! In order: tell the owner who made it, follow every commit from this device's epoch to the newest by what everybody can check,
//! hold the GroupInfo that came with the newest to that, replace our own leaf from without, and go on where the group is.
//! Never: believes a GroupInfo that the commits do not lead to, or applies the commit after all.
//! Limits: `limits::REJOINS_MAX`, `limits::REJOINS_PER_DAY`. Rules: docs/protocol/hub.md 29 to 32.

use std::collections::BTreeSet;

use whimbrel_crypto::{Context, Engine, EngineError, receipt, warrant};
use whimbrel_protocol::hub::{Accepted, Commit, FIRST_TERM, FetchCommit, SignedReceipt};
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::PolicyChange;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::Participant;
use whimbrel_storage::StorageError;

use super::{commit, group, receive, witness};
use crate::api::{CommandError, Event, Reply};
use crate::requests::Purpose;
use crate::rooms::Turn;
use crate::rows::{self, ChangeRow, ThreadRow, ThreadState};
use crate::thread::{self, Followed};
use crate::timers::Timer;

/// What became of a commit that is to be followed.
enum Step {
    /// It was.
    Taken,
    /// Something about it is not known yet.
    Waits,
    /// It is none to follow, and why.
    Refused(&'static str),
    /// It took this device out.
    Out,
}

/// The hub took a commit that this device cannot apply. Every minute it comes again until the group is where this device is.
pub(crate) fn begin<E: Engine>(
    t: &mut Turn<'_, E>,
    row: &ThreadRow,
    accepted: &Accepted,
    change: Option<&ChangeRow>,
) -> Result<(), StorageError> {
    let id = accepted.commit.thread;
    let under_way = |purpose: &Purpose| matches!(purpose, Purpose::Follow(of, _) if *of == id);
    if change.is_some_and(|change| change.rejoins.is_some()) || t.rooms.requests.any(under_way) {
        return Ok(());
    }
    let known = t.rooms.threads.followed.remove(&id).is_some();
    let others: Vec<ThreadId> = t.rooms.threads.followed.keys().copied().collect();
    for other in others {
        // What went on some other way makes room.
        if stuck(t, other)?.is_none() {
            t.rooms.threads.followed.remove(&other);
        }
    }
    if t.rooms.threads.followed.len() >= limits::REJOINS_MAX {
        return Ok(());
    }
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let public = match t.engine.public(&mut cx, &own, id) {
        Ok(public) => public,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return commit::pass_over(t, accepted, &error.to_string()),
    };
    let participants = row.participants.clone();
    let mut followed = Followed { public, participants, last: accepted.commit.hash(), info: Vec::new() };
    match follow(t, row, &mut followed, accepted)? {
        Step::Taken => {}
        Step::Waits => return Ok(()),
        Step::Refused(why) => return commit::pass_over(t, accepted, why),
        Step::Out => return commit::left(t, row.clone(), accepted),
    }
    if !known && !t.rooms.threads.passed_over.contains_key(&id) {
        commit::pass_over(t, accepted, "a change that cannot be applied; it is followed in public")?;
        t.event(Event::ChangeBroken { thread: id, author: accepted.author });
    }
    t.rooms.threads.passed_over.insert(id, row.epoch);
    ask(t, id, followed);
    Ok(())
}

/// Asks for the next commit, if there is one.
fn ask<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, followed: Followed) {
    let epoch = followed.public.epoch();
    t.rooms.threads.followed.insert(thread, followed);
    t.ask(Purpose::Follow(thread, epoch), |request| FetchCommit { request, thread, epoch });
}

/// Goes one commit further, if it is what its receipt names, does what is said of it, and by somebody who may.
fn follow<E: Engine>(
    t: &mut Turn<'_, E>,
    row: &ThreadRow,
    followed: &mut Followed,
    accepted: &Accepted,
) -> Result<Step, StorageError> {
    let commit = &accepted.commit;
    let strangers = commit::unproved(t, commit)?;
    if !strangers.is_empty() {
        for (account, domain) in strangers {
            commit::look_up(t, commit.thread, account, domain)?;
        }
        return Ok(Step::Waits);
    }
    let due = warrant::due(commit, &followed.public.members().unwrap_or_default());
    let proved = match followed.public.prove(&commit.bytes) {
        Ok(proved) => proved,
        Err(error) => {
            tracing::warn!(%error, "a commit shows by what everybody can check that it is none");
            return Ok(Step::Refused("a change that shows in public to be none"));
        }
    };
    let mut added: Vec<_> = commit.added_devices().collect();
    added.sort_unstable();
    let said = added.iter().eq(proved.added.iter().map(|(device, _)| device)) && proved.removed == commit.removed;
    let participants = commit::after(&followed.participants, commit);
    let (held, sets) = (proved.policy.as_ref(), proved.sets.as_ref());
    let may = commit::may(row, proved.committer.account, (commit, &due), (held, sets), &participants);
    if !said || proved.committer != accepted.author || !may {
        return Ok(Step::Refused("a change by somebody who may not make it, or another than is said"));
    }
    if followed.public.follow(&commit.bytes).is_err() {
        return Ok(Step::Refused("a change that shows in public to be none"));
    }
    if commit.removed.contains(&t.rooms.identity.id()) {
        return Ok(Step::Out);
    }
    followed.participants = participants;
    (followed.last, followed.info) = (commit.hash(), commit.info.clone());
    Ok(Step::Taken)
}

/// The next commit came.
pub(crate) fn fetched<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    epoch: Epoch,
    accepted: &Accepted,
) -> Result<(), StorageError> {
    let Some(mut followed) = t.rooms.threads.followed.remove(&id) else { return Ok(()) };
    let Some(row) = stuck(t, id)? else { return Ok(()) };
    let (commit, words) = (&accepted.commit, &accepted.receipt.words);
    let next = (commit.thread, commit.epoch) == (id, epoch) && followed.public.epoch() == epoch;
    let named = (words.thread, words.term, words.epoch, words.commit) == (id, commit.term, epoch, commit.hash());
    let chained = words.previous == Some(followed.last);
    let hub = row.founding.is_some_and(|founding| receipt::verify(&accepted.receipt, founding.hub).is_ok());
    if !(next && named && chained && hub) {
        return commit::pass_over(t, accepted, "a change without its hub's receipt");
    }
    match follow(t, &row, &mut followed, accepted)? {
        Step::Taken => ask(t, id, followed),
        Step::Waits => {}
        Step::Refused(why) => commit::pass_over(t, accepted, why)?,
        Step::Out => commit::left(t, row, accepted)?,
    }
    Ok(())
}

/// The thread, if it is still where a commit could not be applied.
fn stuck<E: Engine>(t: &Turn<'_, E>, id: ThreadId) -> Result<Option<ThreadRow>, StorageError> {
    let row = thread::get(&t.rows, &id)?;
    Ok(row.filter(|row| row.state == ThreadState::Open && t.rooms.threads.passed_over.get(&id) == Some(&row.epoch)))
}

/// There is no commit after those that were followed: this device goes on from there. Another refusal is for now, and in a
/// minute all begins anew.
pub(crate) fn at_head<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, code: RefusalCode) -> Result<(), StorageError> {
    let Some(row) = stuck(t, id)?.filter(|_| code == RefusalCode::NotFound) else {
        t.rooms.threads.followed.remove(&id);
        return Ok(());
    };
    let Some(followed) = t.rooms.threads.followed.remove(&id) else { return Ok(()) };
    let Ok(members) = followed.public.members() else { return Ok(()) };
    if let Err(why) = commit::prove(t, &row, &followed.participants, &members)? {
        tracing::warn!(why, "a group cannot be followed");
        return Ok(());
    }
    drop_change(t, id)?;
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let staged = match t.engine.rejoin(&mut cx, &own, id, followed.public.as_ref(), &followed.info) {
        Ok(staged) => staged,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => {
            let reason = format!("what a group is said to be is not what its changes lead to: {error}");
            t.event(Event::Unreadable { thread: id, reason });
            return Ok(());
        }
    };
    let commit = Commit {
        thread: id,
        term: FIRST_TERM,
        epoch: followed.public.epoch(),
        bytes: staged.commit,
        added: Vec::new(),
        removed: Vec::new(),
        info: staged.info,
        warrant: None,
    };
    let change = ChangeRow {
        hash: commit.hash(),
        commit,
        newcomers: None,
        invitees: Vec::new(),
        leaving: Vec::new(),
        revoked: Vec::new(),
        rejoins: Some(followed.participants.clone()),
        policy: PolicyChange::default(),
    };
    rows::put(&mut t.rows, rows::change_key(&id), &change);
    t.rooms.threads.changing.insert(id);
    t.rooms.timers.clear(Timer::Change(id));
    // Should another win, it is gone on from here.
    t.rooms.threads.followed.insert(id, followed);
    group::submit(t, id)
}

/// A change of ours that was under way was made in an epoch that the group has left.
fn drop_change<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    let Some(change) = rows::get::<ChangeRow>(&t.rows, &rows::change_key(&id))? else { return Ok(()) };
    let result = match change.is_renewal() || change.rejoins.is_some() {
        true => Ok(Reply::Done),
        false => Err(CommandError::State("the group went on by a broken change; try it again".to_owned())),
    };
    group::discard(t, id)?;
    group::done(t, id, result);
    Ok(())
}

/// The hub decided on a commit of ours: if it is one from without, it counts now, or another does and it is made anew on that.
/// Whether it was one.
///
/// Such a commit does not wait for its entry in the log: nothing that lies before it there opens at this device.
pub(crate) fn decided<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    epoch: Epoch,
    receipt: &SignedReceipt,
) -> Result<bool, StorageError> {
    let change = rows::get::<ChangeRow>(&t.rows, &rows::change_key(&id))?;
    let Some(change) = change.filter(|change| change.commit.epoch == epoch) else { return Ok(false) };
    let (Some(participants), Some(mut row)) = (change.rejoins, thread::get(&t.rows, &id)?) else { return Ok(false) };
    let words = &receipt.words;
    let hub = row.founding.is_some_and(|founding| receipt::verify(receipt, founding.hub).is_ok());
    if !hub || (words.thread, words.epoch) != (id, epoch) {
        // Handed in again in a while: the hub's own word is still to come.
        t.rooms.timers.set(Timer::Change(id), t.now.monotonic.plus(limits::COMMIT_WAIT));
        return Ok(true);
    }
    if words.commit != change.hash {
        drop_change(t, id)?;
        match t.rooms.threads.followed.remove(&id) {
            Some(followed) => ask(t, id, followed),
            None => commit::miss(t, id, row.epoch),
        }
        return Ok(true);
    }
    let author = t.rooms.identity.id();
    let accepted = Accepted { author, commit: change.commit, receipt: Box::new(receipt.clone()) };
    t.rooms.threads.followed.remove(&id);
    t.rooms.threads.passed_over.remove(&id);
    let accounts = |of: &[Participant]| of.iter().map(|one| one.account).collect::<BTreeSet<_>>();
    let (before, after) = (accounts(&row.participants), accounts(&participants));
    row.participants = participants;
    commit::ours(t, row, &accepted)?;
    witness::answered(t, id, receipt)?;
    if before != after {
        let added = after.difference(&before).copied().collect();
        t.event(Event::MembersChanged { thread: id, added, removed: before.difference(&after).copied().collect() });
    }
    t.event(Event::Rejoined { thread: id });
    receive::unpark(t, id)?;
    Ok(true)
}
