//! Public: the public state of the threads this relay is the hub of, as rows: one state, and the commits since.
//! Owns: when it is written anew, what a commit is held to, what a judge reads.
//! Never: knows what is in a saved state; who judges does (`crate::publics`).
//! Limits: `limits::PUBLIC_STATE_COMMITS_MAX`, `limits::PUBLIC_STATE_BYTES_MAX`. Rules: docs/protocol/hub.md.

use std::collections::BTreeMap;

use whimbrel_crypto::warrant;
use whimbrel_protocol::hub::Warrant;
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::thread::{Founding, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{limits, policy};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::accounts::known_account;
use super::rows::{self, CommitRow, Member, PublicMark, PublicRow, ThreadMeta, space};
use super::{Fault, threads};
use crate::store::command::Origin;
use crate::store::command::hub::{Commit, Proof};
use crate::store::{Account, Conflict, LogId, PublicState};

/// A thread is opened here: its public state is written with it.
pub(super) fn begin(rows: &mut Overlay<'_>, log: LogId, epoch: Epoch, saved: &[u8]) -> PublicMark {
    rows::put(rows, rows::public(log), &PublicRow { epoch, saved: saved.to_vec() });
    PublicMark { epoch, bytes: 0 }
}

/// A commit of so many bytes holds. The state before it is written with it, if it was due.
pub(super) fn advance(
    rows: &mut Overlay<'_>,
    meta: &ThreadMeta,
    mark: PublicMark,
    (bytes, proof): (usize, &Proof),
) -> PublicMark {
    let mark = match proof {
        Proof::Holds(_, Some(saved)) => begin(rows, meta.log, meta.epoch, saved),
        Proof::Holds(..) | Proof::Fails | Proof::Absent => mark,
    };
    PublicMark { bytes: mark.bytes.saturating_add(bytes as u64), ..mark }
}

/// Holds what is said of a commit to what it does, which it gives.
pub(super) fn hold<'p>(
    command: &Commit,
    meta: &ThreadMeta,
    proof: &'p Proof,
) -> Result<&'p [(DeviceId, PublicKey)], Fault> {
    let proved = match proof {
        Proof::Holds(proved, _) => proved,
        _ if planted::active(Bug::BelieveCommits) || planted::active(Bug::AcceptStaleCommit) => return Ok(&[]),
        // It was of another epoch a moment ago.
        Proof::Absent if meta.public.is_some() => return Err(Conflict::StaleEpoch.into()),
        Proof::Absent | Proof::Fails => return Err(Conflict::Unproved.into()),
    };
    let words = &command.commit;
    let mut said: Vec<DeviceId> = words.added_devices().collect();
    said.sort_unstable();
    let added = proved.added.iter().map(|(device, _)| device);
    let same = proved.committer == command.author && added.eq(&said) && proved.removed == words.removed;
    if same || planted::active(Bug::BelieveCommits) { Ok(&proved.added) } else { Err(Conflict::Unproved.into()) }
}

/// Whether the author may do what the commit does, by the policy of the epoch it is made in, and it leads to one that can be:
/// the rule by which every member holds it, too.
pub(super) fn permitted(
    reads: &dyn Reads,
    command: &Commit,
    founding: &Founding,
    proof: &Proof,
    (before, after): (&BTreeMap<DeviceId, Member>, &[Participant]),
) -> Result<(), Fault> {
    if !is_of_this_leaf(command, before) {
        return Err(Conflict::Malformed.into());
    }
    let mut due = command.shown.due.clone();
    if matches!(command.commit.warrant, Some(Warrant::Revoked(_))) && !planted::active(Bug::WarrantUnread) {
        for device in &command.shown.due {
            // Whoever held an identity key once can sign a log of their own; what this relay's user did it knows.
            if known_account(reads, device.account)?.is_some_and(|account| account.device(device.index).is_some()) {
                due.remove(device);
            }
        }
    }
    let (held, sets) = match proof {
        Proof::Holds(proved, _) => (proved.policy.as_ref(), proved.sets.as_ref()),
        Proof::Fails | Proof::Absent => (None, None),
    };
    // Those whose devices are forgotten here and have a leaf are members to all the others.
    let members = after.iter().map(|one| one.account).chain(command.shown.after.iter().copied()).collect();
    let may = policy::permits(founding, held, &command.author.account, &command.commit, sets, &members, &due);
    if may || planted::active(Bug::AnybodyRules) { Ok(()) } else { Err(Conflict::Malformed.into()) }
}

/// Whether a word that somebody leaves is of the leaf they have: they may have left before and come back.
fn is_of_this_leaf(command: &Commit, before: &BTreeMap<DeviceId, Member>) -> bool {
    let Some(Warrant::Leaves(words)) = &command.commit.warrant else { return true };
    let said = warrant::left(words).map(|leave| leave.epoch);
    before.get(&words.by).is_some_and(|member| said.is_some_and(|said| member.epochs.newest() <= said))
}

/// When its author went on from without, this time too, if it is a commit of that kind: nobody may spend a thread's epochs so.
pub(super) fn rejoined(command: &Commit, proof: &Proof, member: &Member) -> Result<Option<Vec<Wall>>, Fault> {
    if !matches!(proof, Proof::Holds(proved, _) if proved.rejoins) {
        return Ok(None);
    }
    // A clock that was ahead once counts what it dated for a day at most, too.
    let of_today =
        |at: &&Wall| command.at.as_millis().abs_diff(at.as_millis()) < limits::REJOINS_DAY.as_millis() as u64;
    let mut rejoined: Vec<Wall> = member.rejoined.iter().filter(of_today).copied().collect();
    if rejoined.len() >= limits::REJOINS_PER_DAY {
        return Err(Conflict::RejoinedTooOften.into());
    }
    rejoined.push(command.at);
    Ok(Some(rejoined))
}

/// Of accounts that are here the hub knows the keys: a leaf with another key is one that no member takes.
pub(super) fn hold_keys(
    account: &Account,
    newcomer: &Participant,
    added: &[(DeviceId, PublicKey)],
) -> Result<(), Fault> {
    let is_its_own = |device: DeviceId| {
        let known = account.device(device.index).map(|known| known.device_key);
        added.iter().any(|(added, key)| *added == device && Some(*key) == known)
    };
    let believed = planted::active(Bug::BelieveCommits) || planted::active(Bug::AcceptStaleCommit);
    if believed || newcomer.ids().all(is_its_own) { Ok(()) } else { Err(Conflict::Unproved.into()) }
}

/// What a hub judges a commit by: see [`crate::store::Store::public_state`].
///
/// # Errors
/// See [`super::account`].
pub fn public_state(
    reads: &dyn Reads,
    author: DeviceId,
    origin: &Origin,
    (thread, epoch): (ThreadId, Epoch),
    have: Option<Epoch>,
) -> Result<Option<PublicState>, StorageError> {
    let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? else { return Ok(None) };
    let (Some(mark), true) = (meta.public, meta.epoch == epoch) else { return Ok(None) };
    let member: Option<Member> = rows::get(reads, &rows::member(meta.log, author))?;
    let may = |member: &Member| threads::speaks(origin, &member.home) && member.epochs.contain(epoch);
    if !member.as_ref().is_some_and(may) {
        return Ok(None);
    }
    let have = have.filter(|have| (mark.epoch..=epoch).contains(have));
    let (from, saved) = match have {
        Some(have) => (have, None),
        None => {
            let key = rows::public(meta.log);
            let row: Option<PublicRow> = rows::get(reads, &key)?;
            let row = row.ok_or_else(|| rows::damaged(&key, "a public state is missing"))?;
            (row.epoch, Some(row.saved))
        }
    };
    let since = usize::try_from(epoch.get().saturating_sub(from.get())).unwrap_or(usize::MAX);
    let (start, end) = (rows::of_epoch(space::COMMIT, meta.log, from), rows::of_epoch(space::COMMIT, meta.log, epoch));
    let found = if since == 0 { Vec::new() } else { reads.scan(&start, &end, Order::Ascending, since)? };
    if found.len() != since {
        return Err(rows::damaged(&start, "a commit since the public state is missing"));
    }
    let commit = |(key, value): (Vec<u8>, Vec<u8>)| Ok(rows::read::<CommitRow>(&key, &value)?.accepted.commit.bytes);
    let commits: Result<Vec<_>, StorageError> = found.into_iter().map(commit).collect();
    let behind = epoch.get().saturating_sub(mark.epoch.get());
    let due = behind >= u64::from(limits::PUBLIC_STATE_COMMITS_MAX) || mark.bytes >= limits::PUBLIC_STATE_BYTES_MAX;
    Ok(Some(PublicState { epoch, from, saved, commits: commits?, due }))
}
