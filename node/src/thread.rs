//! Thread: what a device knows of its conversations.
//! Owns: the thread rows, the threads of the same people, parents and the device's clock, threads being made and
//! being joined.
//! Never: seals or opens (`flow/send`, `flow/receive`). Rules: docs/protocol/thread.md, message.md.
//! Limits: `limits::PARENTS_MAX`, `limits::JOININGS_MAX`, `limits::COMMANDS_WAITING_MAX`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_crypto::{Chance, PublicGroup};
use whimbrel_protocol::id::{
    AccountId, BlobId, CommitHash, DeviceId, DeviceIndex, Domain, Epoch, MessageId, ParticipantsTag, RelayId, Sequence,
    ThreadId,
};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::limits;
use whimbrel_protocol::push::Invitation;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Founding, Participant};
use whimbrel_protocol::time::{Hlc, Monotonic, Wall};
use whimbrel_protocol::user::ClaimedPackage;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::api::{State, Ticket};
use crate::contacts::Person;
use crate::rows::{self, Arrival, MessageRow, Single, StateRow, ThreadRow, ThreadState};

/// A thread being made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct JobId(u64);

/// What a thread is made for.
#[derive(Debug)]
pub(crate) enum Aim {
    /// To take up an invite.
    Invite(Box<Invite>),
    /// To send a first message.
    Text(String),
    /// To make a group of this title.
    Group(String),
    /// To take people into this group.
    Add(ThreadId),
}

/// One of the others of a thread being made.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) domain: Domain,
    pub(crate) person: Option<Person>,
    pub(crate) packages: Option<Vec<ClaimedPackage>>,
}

/// A thread being made: nothing of it is stored, and it ends with the link.
#[derive(Debug)]
pub(crate) struct Job {
    /// Who waits for it; nobody: it is of this device's own accord.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) aim: Aim,
    pub(crate) guests: BTreeMap<AccountId, Guest>,
    pub(crate) since: Monotonic,
    /// Whom the relay is to be asked about again: it was asked faster than it answers.
    pub(crate) slowed: BTreeSet<AccountId>,
    /// How long it wants to be left alone between two of them.
    pub(crate) pace: Duration,
}

impl Job {
    /// The group it takes people into.
    pub(crate) const fn adds_to(&self) -> Option<ThreadId> {
        match self.aim {
            Aim::Add(group) => Some(group),
            Aim::Invite(_) | Aim::Text(_) | Aim::Group(_) => None,
        }
    }
}

/// A thread being joined: the invitation is stored; what was fetched for it is when joining has to wait for more.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) invitation: Invitation,
    pub(crate) welcome: Option<Vec<u8>>,
    pub(crate) tree: Option<Vec<u8>>,
    /// Accounts whose logs are still to come.
    pub(crate) unknown: BTreeSet<AccountId>,
    /// Accounts whose logs were asked for now; those of the others in `people` are from before.
    pub(crate) looked_up: BTreeSet<AccountId>,
    pub(crate) people: BTreeMap<AccountId, Person>,
}

/// A group that went on by a commit that this device cannot apply, followed by what everybody can check.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Its public state where it is by now.
    pub(crate) public: Box<dyn PublicGroup>,
    /// Who is in it there.
    pub(crate) participants: Vec<Participant>,
    /// The commit that led there, and the GroupInfo that came with it.
    pub(crate) last: CommitHash,
    pub(crate) info: Vec<u8>,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    last_job: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) joining: BTreeMap<BlobId, Joining>,
    /// What came for those that are followed again later; at most `limits::JOININGS_MAX`.
    pub(crate) begun: BTreeMap<BlobId, Joining>,
    /// Invitations that are stored, by their Welcome, and how often following one failed in a row.
    pub(crate) invitations: BTreeMap<BlobId, u32>,
    /// Of those, the ones whose Welcome and tree are at the relay alone, by their place in the inbox.
    pub(crate) unfetched: BTreeSet<(Sequence, BlobId)>,
    /// And the ones whose Welcome and tree are kept here.
    pub(crate) kept: usize,
    /// Openings the relay does not have yet, and who waits for it.
    pub(crate) openings: BTreeMap<ThreadId, Vec<Ticket>>,
    /// Threads with parked entries still to be opened: what comes meanwhile queues behind.
    pub(crate) unparking: BTreeSet<ThreadId>,
    /// Those with parked entries of epochs that the relay had nothing for when it was asked: nothing waits behind these.
    pub(crate) aside: BTreeSet<ThreadId>,
    /// Epochs whose commit came in a form that does not count: it is asked for until it comes in another, or is over.
    pub(crate) passed_over: BTreeMap<ThreadId, Epoch>,
    /// Of groups where something else must come first: the epoch they wait in, and how often in a row it did not come.
    pub(crate) waits: BTreeMap<ThreadId, (Epoch, u32)>,
    /// Of groups whose change the relay does not hand over: the epoch they wait in, and how often it was asked for.
    pub(crate) missing: BTreeMap<ThreadId, (Epoch, u32)>,
    /// Groups that went on by a commit that this device cannot apply, as far as it has followed them; at most
    /// `limits::REJOINS_MAX`.
    pub(crate) followed: BTreeMap<ThreadId, Followed>,
    /// Who came by a link of ours, and when they may be taken in.
    pub(crate) asks: BTreeMap<(ThreadId, AccountId), Monotonic>,
    /// Groups that this device came to by a link, and is not in.
    pub(crate) wishes: BTreeSet<ThreadId>,
    /// Groups of whose commits some may have gone with what the relay let go of their log.
    pub(crate) behind: BTreeSet<ThreadId>,
    /// Threads with a row.
    pub(crate) known: usize,
    /// Threads whose tag the relay does not know yet.
    pub(crate) untagged: BTreeSet<ThreadId>,
    /// Threads with settings the relay does not keep yet.
    pub(crate) unkept: BTreeSet<ThreadId>,
    /// The relay has said which settings it keeps, since the node began.
    pub(crate) listed: bool,
    /// A sibling has changed some while they were being listed.
    pub(crate) list_again: bool,
    /// Groups with a change of ours that is not decided.
    pub(crate) changing: BTreeSet<ThreadId>,
    /// Threads in which receipts are owed that have not left.
    pub(crate) owing: BTreeSet<ThreadId>,
    /// Those in which something was due to be said again while there was no link to say it on.
    pub(crate) unsaid: BTreeSet<ThreadId>,
    /// When members were last given what they missed.
    pub(crate) answered: BTreeMap<(ThreadId, DeviceId), Monotonic>,
    /// Who waits for a change of a group.
    pub(crate) changes: BTreeMap<ThreadId, Ticket>,
    /// Threads whose leaves of this account are not the devices of its log, the newest last.
    pub(crate) siblings: Vec<ThreadId>,
    /// Of those, the ones into which a device could not be taken: no KeyPackage of it is here, or none is valid now.
    pub(crate) unready: BTreeSet<ThreadId>,
    /// Those in which others had their time to take out who is off their account.
    pub(crate) strays: BTreeSet<ThreadId>,
}

impl Threads {
    /// A thread that is being joined, or will be again: an answer may come when another part of it was refused.
    pub(crate) fn followed(&mut self, welcome: &BlobId) -> Option<&mut Joining> {
        self.joining.get_mut(welcome).or_else(|| self.begun.get_mut(welcome))
    }

    /// How far the inbox may be acknowledged: the relay drops what an acknowledged invitation names.
    pub(crate) fn settled(&self) -> Sequence {
        let first = self.unfetched.first().map(|(place, _)| place.get().saturating_sub(1));
        Sequence::new(first.unwrap_or(u64::MAX))
    }

    pub(crate) fn begin_job(&mut self, job: Job) -> JobId {
        self.last_job = self.last_job.saturating_add(1);
        let id = JobId(self.last_job);
        self.jobs.insert(id, job);
        id
    }
}

/// The thread's row.
pub(crate) fn get(reads: &dyn Reads, thread: &ThreadId) -> Result<Option<ThreadRow>, StorageError> {
    rows::get(reads, &rows::thread_key(thread))
}

/// Writes the thread's row.
pub(crate) fn put(rows: &mut Overlay<'_>, thread: &ThreadId, row: &ThreadRow) {
    rows::put(rows, rows::thread_key(thread), row);
}

/// A row for a thread that begins here.
pub(crate) fn fresh(
    participants: Vec<Participant>,
    epoch: Epoch,
    state: ThreadState,
    tag: ParticipantsTag,
    now: Wall,
) -> ThreadRow {
    ThreadRow {
        participants,
        epoch,
        state,
        counter: 0,
        sealed: 0,
        queued: 0,
        heads: Vec::new(),
        last: None,
        unread: 0,
        read: Arrival::default(),
        tag,
        tagged: false,
        updated: now,
        unreadable: 0,
        founding: None,
        title: None,
        leaving: false,
        leavers: Vec::new(),
        going: Vec::new(),
        grown: 0,
        timer: None,
        joined: 0,
        shared: false,
        policies: Vec::new(),
    }
}

/// Every device with a leaf.
pub(crate) fn leaves(row: &ThreadRow) -> impl Iterator<Item = DeviceId> + '_ {
    row.participants
        .iter()
        .flat_map(|one| one.devices.iter().map(|index| DeviceId { account: one.account, index: *index }))
}

/// How far a message of ours has come, with what other relays refused and who never said to have it. What reached every device
/// by the direct path is delivered, whatever a relay says.
pub(crate) fn state(line: &MessageRow, thread: Option<&ThreadRow>, own: &AccountId) -> Option<State> {
    let state = line.state?;
    let late = matches!(state, StateRow::Queued | StateRow::Stored) && !line.missed.is_empty();
    let refused = line.refused.first().filter(|_| state != StateRow::Delivered).map(|first| first.code);
    let Some(code) = refused.or(late.then(|| line.missed_for.unwrap_or(RefusalCode::Expired))) else {
        return Some(state.into());
    };
    let others = thread.iter().flat_map(|row| &row.participants).filter(|one| one.account != *own);
    let lacks = |one: &&Participant| {
        (late && line.missed.contains(&one.account))
            || (refused.is_some() && line.refused.iter().any(|refused| refused.domain == one.domain))
    };
    let (missing, have): (Vec<&Participant>, Vec<&Participant>) = others.partition(lacks);
    Some(match have.is_empty() {
        true => State::Failed(code),
        false => State::Partial { code, missing: missing.iter().map(|one| one.account).collect() },
    })
}

/// Where a member's home is.
pub(crate) fn domain_of<'r>(row: &'r ThreadRow, account: &AccountId) -> Option<&'r Domain> {
    row.participants.iter().find(|one| one.account == *account).map(|one| &one.domain)
}

/// The members by account, from devices and homes.
pub(crate) fn participants(
    devices: impl IntoIterator<Item = DeviceId>,
    domain_of: impl Fn(&AccountId) -> Option<Domain>,
) -> Option<Vec<Participant>> {
    let mut by_account: BTreeMap<AccountId, BTreeSet<DeviceIndex>> = BTreeMap::new();
    for device in devices {
        by_account.entry(device.account).or_default().insert(device.index);
    }
    by_account
        .into_iter()
        .map(|(account, devices)| {
            domain_of(&account).map(|domain| Participant { account, domain, devices: devices.into_iter().collect() })
        })
        .collect()
}

/// The threads of exactly these people, the one to write to first.
pub(crate) fn by_tag(reads: &dyn Reads, tag: &ParticipantsTag) -> Result<Vec<ThreadId>, StorageError> {
    Ok(rows::get(reads, &rows::tag_key(tag))?.unwrap_or_default())
}

/// The one of them to write to: of those where everybody still has a device, the first. Somebody who came back with none of
/// the devices they had is in none of the threads of before.
pub(crate) fn writable(
    reads: &dyn Reads,
    own: &AccountId,
    tag: &ParticipantsTag,
) -> Result<Option<ThreadId>, StorageError> {
    for thread in by_tag(reads, tag)? {
        if let Some(row) = get(reads, &thread)?
            && !is_deserted(reads, own, &row)?
        {
            return Ok(Some(thread));
        }
    }
    Ok(None)
}

/// Whether somebody in it has no device left that could read it, by their account's log.
pub(crate) fn is_deserted(reads: &dyn Reads, own: &AccountId, row: &ThreadRow) -> Result<bool, StorageError> {
    // A group lives by its admins' hand.
    if row.is_group() {
        return Ok(false);
    }
    for other in row.participants.iter().filter(|one| one.account != *own) {
        let known = reads.get(&rows::contact_key(&other.account))?.is_some();
        let mut reachable = !known;
        for device in other.ids() {
            reachable = reachable || reads.get(&rows::device_key(&device))?.is_some();
        }
        if !reachable {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds a thread to those of its people. Of two that crossed, the smaller id is the thread from then on; says
/// whether that is this one. Refuses one too many.
pub(crate) fn tag_in(
    rows: &mut Overlay<'_>,
    tag: &ParticipantsTag,
    thread: ThreadId,
) -> Result<Option<bool>, StorageError> {
    let mut same = by_tag(rows, tag)?;
    if !same.contains(&thread) {
        if same.len() >= limits::THREAD_ALIASES_MAX {
            return Ok(None);
        }
        same.push(thread);
        same.sort();
        rows::put(rows, rows::tag_key(tag), &same);
    }
    Ok(Some(same.first() == Some(&thread)))
}

/// Takes a thread whose opening failed out of those of its people. What was said in it stays in their conversation.
pub(crate) fn tag_out(rows: &mut Overlay<'_>, tag: &ParticipantsTag, thread: &ThreadId) -> Result<(), StorageError> {
    if get(rows, thread)?.is_some_and(|row| row.last.is_some()) {
        rows.put(rows::failed_key(tag, thread), Vec::new());
    }
    let mut same = by_tag(rows, tag)?;
    same.retain(|one| one != thread);
    if same.is_empty() {
        rows.delete(rows::tag_key(tag));
    } else {
        rows::put(rows, rows::tag_key(tag), &same);
    }
    Ok(())
}

/// The thread that messages for `thread` go to.
pub(crate) fn canonical(
    reads: &dyn Reads,
    own: &AccountId,
    thread: &ThreadId,
) -> Result<Option<(ThreadId, ThreadRow)>, StorageError> {
    let Some(row) = get(reads, thread)? else { return Ok(None) };
    match writable(reads, own, &row.tag)? {
        Some(first) if first != *thread => Ok(get(reads, &first)?.map(|row| (first, row))),
        _ => Ok(Some((*thread, row))),
    }
}

/// Where the id of a thread made now comes from.
pub(crate) fn found(creator: AccountId, hub: RelayId, fixed: bool, chance: &mut Chance) -> Founding {
    let mut nonce: [u8; 32] = chance.bytes();
    if planted::active(Bug::OwnChance) {
        let somewhere = Box::new(0_u8);
        nonce = [0; 32];
        nonce.iter_mut().zip(std::ptr::from_ref(&*somewhere).addr().to_be_bytes()).for_each(|(to, byte)| *to = byte);
    }
    Founding { creator, hub, nonce, fixed }
}

/// Notes a message: whoever names parents makes them no heads any more.
pub(crate) fn note_head(heads: &mut Vec<MessageId>, message: MessageId, parents: &[MessageId]) {
    heads.retain(|head| !parents.contains(head) && *head != message);
    heads.push(message);
    let over = heads.len().saturating_sub(limits::PARENTS_MAX);
    heads.drain(..over);
}

/// The number of a message that came, or was written, now.
pub(crate) fn arrive(rows: &mut Overlay<'_>) -> Result<Arrival, StorageError> {
    let key = rows::single_key(Single::Arrival);
    let arrival = rows::get::<Arrival>(rows, &key)?.unwrap_or_default().next();
    rows::put(rows, key, &arrival);
    Ok(arrival)
}

/// The device's clock, moved on for something that happens now.
pub(crate) fn tick(rows: &mut Overlay<'_>, wall: Wall) -> Result<Hlc, StorageError> {
    let key = rows::single_key(Single::Clock);
    let hlc = rows::get::<Hlc>(rows, &key)?.unwrap_or_default().tick(wall);
    rows::put(rows, key, &hlc);
    Ok(hlc)
}

/// The device's clock, moved to a reading of somebody else's unless that lies.
pub(crate) fn witness(rows: &mut Overlay<'_>, other: Hlc, wall: Wall) -> Result<(), StorageError> {
    let key = rows::single_key(Single::Clock);
    let before = rows::get::<Hlc>(rows, &key)?.unwrap_or_default();
    let after = before.witness(other, wall);
    if after != before {
        rows::put(rows, key, &after);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_named_as_parent_is_none_any_more() {
        let id = |byte| MessageId::from_bytes([byte; 16]);
        let mut heads = vec![id(1), id(2)];
        note_head(&mut heads, id(3), &[id(1)]);
        assert_eq!(heads, [id(2), id(3)]);
        for byte in 4..20 {
            note_head(&mut heads, id(byte), &[]);
        }
        assert_eq!(heads.len(), limits::PARENTS_MAX);
        assert_eq!(heads.last(), Some(&id(19)));
    }
}
