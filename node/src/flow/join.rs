//! Join: from an invitation in the inbox log to a thread that can be used.
//! In order: keep the invitation, fetch Welcome and tree, look everybody up, join, hold every leaf against its
//! account's log, keep the thread, open what came before, tell the relay the tag.
//! Never: shows or uses a thread one leaf of which is not proved; lets the relay drop what may have to be fetched again.
//! Limits: `limits::JOININGS_MAX`, `limits::INVITATION_BODIES_MAX`. Rules: docs/protocol/thread.md, hold.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::{Context, Engine, EngineError, Joined, key_package};
use whimbrel_protocol::id::{AccountId, Address, BlobId, DeviceId, Domain, Epoch, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::push::Invitation;
use whimbrel_protocol::thread::{FetchBlob, Founding, Participant, TagThread};
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::user::{LookUp, Who};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::{befriend, dropped, facts, history, pass, receive, siblings, strangers};
use crate::api::{CommandError, Event};
use crate::contacts::{self, Distrust, Person};
use crate::friendship;
use crate::reception::backoff;
use crate::requests::{Asker, Purpose};
use crate::rooms::Turn;
use crate::rows::{self, InvitationRow, Space, ThreadRow, ThreadState};
use crate::thread::{self, Joining};
use crate::timers::Timer;

/// An invitation came: it is kept before anything else, so that a crash loses nothing. It is not acknowledged before
/// what it names is here, for with the acknowledgement the relay lets that go.
pub(crate) fn invited<E: Engine>(
    t: &mut Turn<'_, E>,
    place: Sequence,
    invitation: Invitation,
) -> Result<(), StorageError> {
    let (thread, welcome) = (invitation.thread, invitation.welcome);
    let own = t.rooms.identity.id();
    let mine = |one: &Participant| one.account == own.account && one.devices.contains(&own.index);
    if !invitation.participants.iter().any(mine) {
        // For a sibling: the inbox is the account's.
        return Ok(());
    }
    let known = thread::get(&t.rows, &thread)?.is_some_and(|row| match row.state {
        ThreadState::Refused | ThreadState::Left => false,
        // A sibling came in; this device is there already.
        _ if invitation.inviter.account == own.account => true,
        // Taken out and in again: the first of it is still to come with the thread's log.
        _ => row.founding.is_none() || invitation.epoch <= row.epoch,
    });
    if known || t.rooms.threads.invitations.contains_key(&welcome) {
        return Ok(());
    }
    let threads = t.rooms.threads.known.saturating_add(t.rooms.threads.invitations.len());
    if threads >= limits::ACCOUNT_THREADS_MAX {
        let reason = "too many threads".to_owned();
        t.event(Event::InvitationRefused { thread, reason });
        return Ok(());
    }
    let inviter = invitation.inviter.account;
    let row = InvitationRow { invitation, unfetched: Some(place), kept: false };
    rows::put(&mut t.rows, rows::invitation_key(&welcome), &row);
    t.rooms.threads.invitations.insert(welcome, 0);
    t.rooms.threads.unfetched.insert((place, welcome));
    if !contacts::is_contact(&t.rows, &inviter)? && friendship::parted_since(&t.rows, &inviter, place)? {
        return refuse(t, welcome, "from somebody who is no contact any more");
    }
    expected(t, welcome).map(drop)
}

/// Whether an invitation that waits is from somebody who may come. Otherwise our relay should not have let it through: it is
/// refused, and nothing it names is fetched or opened.
fn expected<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId) -> Result<bool, StorageError> {
    let row = rows::get::<InvitationRow>(&t.rows, &rows::invitation_key(&welcome))?;
    let expected = match row {
        Some(row) => strangers::may_come(t, &row.invitation)?,
        None => false,
    };
    if !expected {
        refuse(t, welcome, "from somebody whom nobody here let come")?;
    }
    Ok(expected)
}

/// Follows kept invitations, a bounded number at once.
pub(crate) fn begin_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let idle = |welcome: &&BlobId| {
        !t.rooms.threads.joining.contains_key(*welcome) && !t.rooms.timers.is_set(Timer::Invitation(**welcome))
    };
    let room = limits::JOININGS_MAX.saturating_sub(t.rooms.threads.joining.len());
    let next: Vec<BlobId> = t.rooms.threads.invitations.keys().filter(idle).take(room).copied().collect();
    for welcome in next {
        // One that was begun may have come to its end, and made others begin.
        let threads = &t.rooms.threads;
        if threads.joining.len() < limits::JOININGS_MAX && !threads.joining.contains_key(&welcome) {
            begin(t, welcome)?;
        }
    }
    Ok(())
}

fn begin<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId) -> Result<(), StorageError> {
    let Some(row) = rows::get::<InvitationRow>(&t.rows, &rows::invitation_key(&welcome))? else {
        t.rooms.threads.invitations.remove(&welcome);
        return Ok(());
    };
    let InvitationRow { invitation, kept, .. } = row;
    match turn_of(t, &invitation)? {
        Turning::Now => {}
        // What it names is had first, so that the relay need not keep it until then.
        Turning::Later if !kept => {}
        Turning::Later => {
            t.rooms.timers.set(Timer::Invitation(welcome), t.now.monotonic.plus(limits::RETRY_DELAY));
            return Ok(());
        }
        Turning::Never => return forget(t, &welcome).map(drop),
    }
    if invitation.founding.is_some_and(|founding| founding.thread() != invitation.thread) {
        return refuse(t, welcome, "the group's id is not what it is said to be made from");
    }
    if befriend::is_blocked(&t.rows, &invitation.inviter.account)? {
        // Our relay should not have let it through.
        return refuse(t, welcome, "from somebody who is kept away");
    }
    let own = t.rooms.identity.account();
    let mut before = t.rooms.threads.begun.remove(&welcome);
    let mut people = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let mut asked = Vec::new();
    for one in invitation.participants.iter().filter(|one| one.account != own) {
        let names_all = |person: &Person| {
            person.address.domain == one.domain && one.devices.iter().all(|index| person.log.named(*index).is_some())
        };
        let had = before.as_mut().and_then(|before| before.people.remove(&one.account));
        let known = contacts::known(&t.rows, &one.account)?.filter(names_all).or(had.filter(names_all));
        match known {
            Some(person) => drop(people.insert(one.account, person)),
            None => {
                unknown.insert(one.account);
                asked.push((one.account, one.domain.clone()));
            }
        }
    }
    let mut blobs = BTreeSet::from([invitation.welcome, invitation.tree]);
    let looked_up = unknown.clone();
    let mut joining = Joining { invitation, welcome: None, tree: None, unknown, looked_up, people };
    if kept {
        let [welcome_key, tree_key] = rows::fetched_keys(&welcome);
        (joining.welcome, joining.tree) = (t.rows.get(&welcome_key)?, t.rows.get(&tree_key)?);
        blobs.clear();
    } else if let Some(before) = before {
        (joining.welcome, joining.tree) = (before.welcome, before.tree);
        let Joining { invitation, welcome, tree, .. } = &joining;
        blobs.retain(|blob| *blob != invitation.welcome || welcome.is_none());
        blobs.retain(|blob| *blob != invitation.tree || tree.is_none());
    }
    t.rooms.threads.joining.insert(welcome, joining);
    for blob in blobs {
        let purpose = Purpose::Blob(welcome, blob);
        if !t.rooms.requests.any(|asked| *asked == purpose) {
            t.ask(purpose, |request| FetchBlob { request, blob });
        }
    }
    asked.into_iter().for_each(|(account, domain)| look_up(t, welcome, account, domain));
    complete(t, welcome)?;
    // The last of it may have come when nothing was under way.
    keep(t, welcome)
}

fn look_up<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId, account: AccountId, domain: Domain) {
    let (who, purpose) = (Who::Account(account, domain), Purpose::LookUp(Asker::Joining(welcome), account));
    // Asked when it was followed before: the answer is still to come.
    if !t.rooms.requests.any(|asked| *asked == purpose) {
        t.ask(purpose, |request| LookUp { request, who, hint: None });
    }
}

/// When an invitation to a group is followed.
enum Turning {
    Now,
    Later,
    Never,
}

/// Whoever was taken out and in again while away follows one invitation after the other, each once the thread's log has come
/// to where the leaf before it ends: what was said between is for them, and for that leaf alone.
fn turn_of<E: Engine>(t: &Turn<'_, E>, invitation: &Invitation) -> Result<Turning, StorageError> {
    if invitation.founding.is_none() {
        return Ok(Turning::Now);
    }
    if let Some(row) = thread::get(&t.rows, &invitation.thread)?
        && !matches!(row.state, ThreadState::Refused | ThreadState::Left)
    {
        return Ok(if invitation.epoch <= row.epoch { Turning::Never } else { Turning::Later });
    }
    let mut earlier = false;
    rows::each(&t.rows, &rows::space(Space::Invitation), |(key, value)| {
        let other = rows::decode::<InvitationRow>(&key, &value)?.invitation;
        earlier |= other.thread == invitation.thread && other.epoch < invitation.epoch;
        Ok(())
    })?;
    Ok(if earlier { Turning::Later } else { Turning::Now })
}

/// A large body came; its hash must be the one asked for.
pub(crate) fn fetched<E: Engine>(
    t: &mut Turn<'_, E>,
    welcome: BlobId,
    blob: BlobId,
    bytes: Vec<u8>,
) -> Result<(), StorageError> {
    if BlobId::of(&bytes) != blob {
        return failed(t, welcome, Some(limits::RETRY_DELAY), "the relay sent another body than asked for");
    }
    let Some(joining) = t.rooms.threads.followed(&welcome) else { return Ok(()) };
    if blob == joining.invitation.tree {
        joining.tree = Some(bytes.clone());
    }
    if blob == joining.invitation.welcome {
        joining.welcome = Some(bytes);
    }
    complete(t, welcome)?;
    keep(t, welcome)
}

/// Keeps what an invitation names while joining waits for somebody's account log: their relay may be away for long, and
/// ours must not have to keep the inbox for it. Without room for it here, it has to.
fn keep<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId) -> Result<(), StorageError> {
    let threads = &mut t.rooms.threads;
    let Some(Joining { welcome: Some(bytes), tree: Some(tree), .. }) = threads.joining.get(&welcome) else {
        return Ok(());
    };
    let key = rows::invitation_key(&welcome);
    let Some(mut row) = rows::get::<InvitationRow>(&t.rows, &key)? else { return Ok(()) };
    if row.kept || threads.kept >= limits::INVITATION_BODIES_MAX {
        return Ok(());
    }
    let [welcome_key, tree_key] = rows::fetched_keys(&welcome);
    t.rows.put(welcome_key, bytes.clone());
    t.rows.put(tree_key, tree.clone());
    threads.kept += 1;
    row.kept = true;
    let place = row.unfetched.take();
    rows::put(&mut t.rows, key, &row);
    settle(t, welcome, place);
    Ok(())
}

/// The relay need not keep what this invitation names.
fn settle<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId, place: Option<Sequence>) {
    if place.is_some_and(|place| t.rooms.threads.unfetched.remove(&(place, welcome))) {
        receive::settled(t);
    }
}

/// A log came; it must prove the account.
pub(crate) fn looked_up<E: Engine>(
    t: &mut Turn<'_, E>,
    welcome: BlobId,
    account: AccountId,
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    let Some(joining) = t.rooms.threads.followed(&welcome) else { return Ok(()) };
    let domain = joining.invitation.participants.iter().find(|one| one.account == account).map(|one| &one.domain);
    let Some(domain) = domain else { return Ok(()) };
    match contacts::judge(&t.rows, account, domain, address, log)? {
        Ok(person) => {
            joining.people.insert(account, person);
            joining.unknown.remove(&account);
            complete(t, welcome)
        }
        Err(Distrust(why)) => refuse(t, welcome, &why),
    }
}

/// Something could not be had; for now, or for good.
pub(crate) fn failed<E: Engine>(
    t: &mut Turn<'_, E>,
    welcome: BlobId,
    again: Option<Duration>,
    why: &str,
) -> Result<(), StorageError> {
    let Some(delay) = again else { return refuse(t, welcome, why) };
    if let Some(joining) = t.rooms.threads.joining.remove(&welcome)
        && let Some(attempts) = t.rooms.threads.invitations.get_mut(&welcome)
    {
        debug!(why, "an invitation is followed again later");
        let wait = backoff(*attempts, t.chance).max(delay);
        *attempts = attempts.saturating_add(1);
        // What came is not asked for again: a relay that serves few requests would be asked for more each time.
        if t.rooms.threads.begun.len() < limits::JOININGS_MAX {
            t.rooms.threads.begun.insert(welcome, joining);
        }
        t.rooms.timers.set(Timer::Invitation(welcome), t.now.monotonic.plus(wait));
    }
    begin_all(t)
}

/// An account is no contact any more: what it invited us to before is not joined, or it would be one again.
pub(crate) fn part<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    let waiting: Vec<BlobId> = t.rooms.threads.invitations.keys().copied().collect();
    for welcome in waiting {
        let row = rows::get::<InvitationRow>(&t.rows, &rows::invitation_key(&welcome))?;
        if row.is_some_and(|row| row.invitation.inviter.account == *account) {
            refuse(t, welcome, "from somebody who is no contact any more")?;
        }
    }
    // Nor is a thread made with them that is being made: an invite of theirs that is taken up, or a group.
    let with = |job: &thread::Job| job.guests.contains_key(account);
    let jobs: Vec<_> = t.rooms.threads.jobs.iter().filter(|(_, job)| with(job)).map(|(id, _)| *id).collect();
    for id in jobs {
        if let Some(job) = t.rooms.threads.jobs.remove(&id) {
            let why = "somebody it is for is no contact any more".to_owned();
            t.answer_any(job.ticket, Err(CommandError::State(why)));
        }
    }
    Ok(())
}

/// Joins once everything is here.
fn complete<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId) -> Result<(), StorageError> {
    let Some(joining) = t.rooms.threads.joining.get(&welcome) else { return Ok(()) };
    if joining.welcome.is_none() || joining.tree.is_none() || !joining.unknown.is_empty() {
        return Ok(());
    }
    match turn_of(t, &joining.invitation)? {
        Turning::Now => {}
        Turning::Later => {
            keep(t, welcome)?;
            t.rooms.threads.joining.remove(&welcome);
            t.rooms.timers.set(Timer::Invitation(welcome), t.now.monotonic.plus(limits::RETRY_DELAY));
            return Ok(());
        }
        Turning::Never => return forget(t, &welcome).map(drop),
    }
    // Others may have come meanwhile by what was left.
    if !expected(t, welcome)? {
        return Ok(());
    }
    let Some(mut joining) = t.rooms.threads.joining.remove(&welcome) else { return Ok(()) };
    // On top of the turn's changes, and dropped without a trace unless every leaf is proved.
    let mut trial = Overlay::new(&t.rows);
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut trial, chance: &mut *t.chance, now: t.now };
    let (bytes, tree) = (joining.welcome.as_deref().unwrap_or_default(), joining.tree.as_deref().unwrap_or_default());
    let joined = match t.engine.join(&mut cx, &own, bytes, tree) {
        Ok(joined) => joined,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return refuse(t, welcome, &error.to_string()),
    };
    let policy = match t.engine.policy(&mut cx, joined.thread) {
        Ok(policy) => policy,
        Err(EngineError::Rows(error)) => return Err(error),
        Err(error) => return refuse(t, welcome, &error.to_string()),
    };
    let trial = trial.into_changes();
    let used_up = key_package::is_used_up(&trial);
    let behind = behind(&joining, &joined);
    if !behind.is_empty() {
        joining.unknown.extend(behind.keys());
        joining.looked_up.extend(behind.keys());
        t.rooms.threads.joining.insert(welcome, joining);
        behind.into_iter().for_each(|(account, domain)| look_up(t, welcome, account, domain));
        return Ok(());
    }
    if let Err(why) = prove(t, &joining, &joined, policy.as_ref()) {
        return refuse(t, welcome, why);
    }
    let Joining { invitation, people, .. } = joining;
    let thread = invitation.thread;
    let domains: BTreeMap<AccountId, Domain> =
        invitation.participants.into_iter().map(|one| (one.account, one.domain)).collect();
    let members = joined.members.iter().map(|(device, _)| *device);
    let Some(participants) = thread::participants(members, |account| domains.get(account).cloned()) else {
        return refuse(t, welcome, "the members are not the ones announced");
    };
    let everybody: Vec<AccountId> = domains.into_keys().collect();
    let tag = match invitation.founding {
        Some(founding) if !founding.fixed => t.rooms.identity.participants.group_tag(&thread),
        _ => t.rooms.identity.participants.tag(&everybody),
    };
    let Some(first) = thread::tag_in(&mut t.rows, &tag, thread)? else {
        return refuse(t, welcome, "too many threads of the same people");
    };
    t.rows.absorb(trial);
    let mut row = thread::fresh(participants, joined.epoch, ThreadState::Open, tag, t.now.wall);
    // Of two threads that crossed, the relay is told about the one to write to.
    row.tagged = !first;
    row.founding = invitation.founding;
    row.hold_policy(policy);
    // A thread without a founding has no hub that would take the commit.
    row.shared = !used_up && row.founding.is_some();
    match thread::get(&t.rows, &thread)? {
        // In it once before: what was said then stays.
        Some(before) if before.state == ThreadState::Left => {
            // By counters, which begin anew, it would not go away.
            t.rows.delete(rows::dropped_key(&thread));
            let ThreadRow { participants, epoch, state, tag, tagged, updated, founding, shared, policies, .. } = row;
            row = ThreadRow {
                participants,
                epoch,
                state,
                tag,
                tagged,
                updated,
                founding,
                shared,
                policies,
                leavers: Vec::new(),
                going: Vec::new(),
                leaving: false,
                ..before
            };
        }
        Some(_) => {}
        None => t.rooms.threads.known = t.rooms.threads.known.saturating_add(1),
    }
    row.joined = row.epoch.get();
    if row.epoch > Epoch::new(1) {
        // A newcomer misses nothing of what was said before, whatever it knew once.
        row.grown = row.epoch.get();
        for prefix in [rows::count_prefix(&thread), rows::gap_prefix(Some(&thread))] {
            let known = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::THREAD_DEVICES_MAX)?;
            known.into_iter().for_each(|(key, _)| t.rows.delete(key));
        }
    }
    thread::put(&mut t.rows, &thread, &row);
    forget(t, &welcome)?;
    if first {
        t.rooms.threads.untagged.insert(thread);
    }
    // What a sibling takes this device into is between people who consented.
    let own = t.rooms.identity.account();
    let pair = invitation.founding.is_some_and(|founding| founding.fixed) && people.len() == 1;
    let consenting = match people.keys().next() {
        // Unless the owner parted with them on the sibling since.
        Some(other) if pair && invitation.inviter.account == own && !facts::is_parted(&t.rows, other)? => *other,
        _ => invitation.inviter.account,
    };
    keep_people(t, &people, consenting)?;
    if row.is_self(&t.rooms.identity.account()) {
        facts::tell_all(t)?;
        history::want(t)?;
        tag_all(t)?;
        receive::unpark(t, thread)?;
        return begin_all(t);
    }
    siblings::look(t, thread);
    facts::joined_now(t, &thread)?;
    if invitation.inviter.account == t.rooms.identity.account() {
        // What was said between the history that was given and this device's leaf. From the beginning: a text by a clock that
        // is behind stands anywhere.
        history::late(t, thread, Hlc::default())?;
    }
    t.event(Event::ThreadOpened { thread, people: people.into_keys().collect() });
    pass::came_in(t, &thread);
    pass::ask(t)?;
    dropped::joined(t, thread, &row)?;
    tag_all(t)?;
    receive::unpark(t, thread)?;
    begin_all(t)
}

/// Who has a leaf that was not announced, and that their log, as it was known here before, does not give up: the relay that
/// wrote the invitation may have heard of a revocation that this device has not. They are looked up, once for each time the
/// invitation is followed, before anything is held against the group.
fn behind(joining: &Joining, joined: &Joined) -> BTreeMap<AccountId, Domain> {
    let mut behind = BTreeMap::new();
    for one in joining.invitation.participants.iter().filter(|one| !joining.looked_up.contains(&one.account)) {
        let Some(person) = joining.people.get(&one.account) else { continue };
        let leaves = joined.members.iter().map(|(leaf, _)| leaf).filter(|leaf| leaf.account == one.account);
        let mut beyond = leaves.filter(|leaf| !one.devices.contains(&leaf.index));
        if beyond.any(|leaf| person.log.former(leaf.index).is_none()) {
            behind.insert(one.account, one.domain.clone());
        }
    }
    behind
}

/// Whether the group is the one announced and every leaf the device it says it is.
fn prove<E: Engine>(
    t: &Turn<'_, E>,
    joining: &Joining,
    joined: &Joined,
    policy: Option<&Policy>,
) -> Result<(), &'static str> {
    let Joining { invitation, people, .. } = joining;
    if joined.thread != invitation.thread || joined.epoch != invitation.epoch {
        return Err("the Welcome is for another thread or epoch than announced");
    }
    let identity = &t.rooms.identity;
    let log_of = |account: &AccountId| match *account == identity.account() {
        true => Some(&identity.log),
        false => people.get(account).map(|person| &person.log),
    };
    let mut leaves = BTreeSet::new();
    for (device, key) in &joined.members {
        let log = log_of(&device.account);
        // One that was revoked has its leaf until somebody takes it out.
        let proved = log.and_then(|log| log.named(device.index));
        if proved.is_none_or(|proved| proved.device_key != *key) && !planted::active(Bug::TrustDevices) {
            return Err("a leaf does not match its account's log");
        }
        if !leaves.insert(*device) {
            return Err("a device has two leaves");
        }
    }
    let announced: BTreeSet<DeviceId> = invitation.participants.iter().flat_map(|one| one.ids()).collect();
    // A relay forgets a device with its revocation; the group does when somebody takes its leaf out.
    let forgotten = |leaf: &DeviceId| {
        let told = invitation.participants.iter().any(|one| one.account == leaf.account);
        told && log_of(&leaf.account).is_some_and(|log| log.former(leaf.index).is_some())
    };
    if !announced.is_subset(&leaves) || !leaves.difference(&announced).all(forgotten) {
        return Err("the members are not the ones announced");
    }
    let home = identity.relay().domain;
    let own = invitation.participants.iter().find(|one| one.account == identity.account());
    if own.is_none_or(|own| own.domain != home) || !leaves.contains(&identity.id()) {
        return Err("this device is not among the members");
    }
    let sibling = invitation.inviter.account == identity.account();
    let inviter = &invitation.inviter.account;
    let may = |founding: &Founding| match policy {
        Some(policy) => policy.may_add(inviter),
        None => founding.creator == *inviter,
    };
    if invitation.founding.is_some_and(|founding| founding.fixed && policy.is_some() || !may(&founding)) && !sibling {
        return Err("taken in by somebody who may not do that");
    }
    if !leaves.contains(&invitation.inviter) || invitation.inviter == identity.id() {
        return Err("the inviter is not among the members");
    }
    if joined.inviter != invitation.inviter {
        return Err("taken in by another than is said");
    }
    let inviter = log_of(&invitation.inviter.account).and_then(|log| log.device(invitation.inviter.index));
    if inviter.is_none() && !planted::active(Bug::TrustDevices) {
        return Err("the inviter was revoked");
    }
    Ok(())
}

/// Whoever opened a thread with us had consent, by our relay's word; the others are fellow members.
fn keep_people<E: Engine>(
    t: &mut Turn<'_, E>,
    people: &BTreeMap<AccountId, Person>,
    inviter: AccountId,
) -> Result<(), StorageError> {
    for (account, person) in people {
        let new = *account == inviter && !contacts::is_contact(&t.rows, account)?;
        if new {
            strangers::comes(t, account)?;
        }
        t.keep(person, *account == inviter)?;
        if new {
            befriend::met_by_invite(t, account)?;
            t.event(Event::ContactAdded { account: *account, address: person.address.clone() });
            facts::note_contact(t, account, None)?;
        }
    }
    Ok(())
}

/// An invitation has come to its end; gives it, if it was there.
fn forget<E: Engine>(t: &mut Turn<'_, E>, welcome: &BlobId) -> Result<Option<Invitation>, StorageError> {
    let key = rows::invitation_key(welcome);
    let row: Option<InvitationRow> = rows::get(&t.rows, &key)?;
    t.rooms.threads.invitations.remove(welcome);
    t.rooms.threads.joining.remove(welcome);
    t.rooms.threads.begun.remove(welcome);
    t.rooms.timers.clear(Timer::Invitation(*welcome));
    let Some(InvitationRow { invitation, unfetched, kept }) = row else { return Ok(None) };
    t.rows.delete(key);
    if kept {
        rows::fetched_keys(welcome).into_iter().for_each(|key| t.rows.delete(key));
        t.rooms.threads.kept = t.rooms.threads.kept.saturating_sub(1);
    }
    settle(t, *welcome, unfetched);
    Ok(Some(invitation))
}

/// What came with the invitation is no proof: it is gone, and the owner is told. Unless another invitation to the
/// thread is open, its entries are recorded as unreadable from now on.
fn refuse<E: Engine>(t: &mut Turn<'_, E>, welcome: BlobId, why: &str) -> Result<(), StorageError> {
    let Some(invitation) = forget(t, &welcome)? else { return Ok(()) };
    let thread = invitation.thread;
    t.event(Event::InvitationRefused { thread, reason: why.to_owned() });
    let mut another = false;
    rows::each(&t.rows, &rows::space(Space::Invitation), |(key, value)| {
        another |= rows::decode::<InvitationRow>(&key, &value)?.invitation.thread == thread;
        Ok(())
    })?;
    if !another && thread::get(&t.rows, &thread)?.is_none() {
        let nobody = whimbrel_protocol::id::ParticipantsTag::from_bytes([0; 32]);
        let mut row = thread::fresh(Vec::new(), invitation.epoch, ThreadState::Refused, nobody, t.now.wall);
        row.tagged = true;
        thread::put(&mut t.rows, &thread, &row);
        t.rooms.threads.known = t.rooms.threads.known.saturating_add(1);
        receive::unpark(t, thread)?;
    }
    begin_all(t)
}

/// Tells the relay the tags it does not know.
pub(crate) fn tag_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: Vec<ThreadId> = t.rooms.threads.untagged.iter().copied().collect();
    for thread in threads {
        let under_way = t.rooms.requests.any(|purpose| *purpose == Purpose::Tag(thread));
        if under_way || t.rooms.timers.is_set(Timer::Tag(thread)) {
            continue;
        }
        if let Some(row) = thread::get(&t.rows, &thread)? {
            t.ask(Purpose::Tag(thread), |request| TagThread { request, thread, tag: row.tag });
        }
    }
    Ok(())
}

/// The relay knows the tag, or will never take it.
pub(crate) fn tagged<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    t.rooms.threads.untagged.remove(&thread);
    if let Some(mut row) = thread::get(&t.rows, &thread)? {
        row.tagged = true;
        thread::put(&mut t.rows, &thread, &row);
    }
    Ok(())
}
