//! Group: who is in it and who may do what, changed by its admins: from the command to a commit its hub has decided on.
//! In order: look newcomers up and claim their KeyPackages (`open`), stage the commit, keep it before it is sent, hand it in
//! until the hub says that it holds or lost. It takes effect with its entry in the thread's log and no sooner (`commit`).
//! Never: more than one change of a group at a time; merges what the hub has not decided.
//! Rules: docs/protocol/hub.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_crypto::{Change, Context, Engine, EngineError, Invitee, warrant};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, Newcomers, SubmitCommit, Warrant};
use whimbrel_protocol::id::{AccountId, DeviceId, Epoch, MessageId, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::policy::{Policy, PolicyChange};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::Class;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Reads as _, StorageError};

use super::{commit, facts, open, pass, send, siblings, strays};
use crate::api::{CommandError, Reply, Ticket};
use crate::contacts;
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ChangeRow, InviteeRow, ThreadRow, ThreadState, TitleRow};
use crate::thread::{self, Aim, Guest};
use crate::timers::Timer;

/// Makes a group. `None`: the answer comes later.
pub(crate) fn create<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    title: String,
    people: &[AccountId],
) -> Result<Option<Reply>, Halt> {
    check_title(&title)?;
    let own = t.rooms.identity.account();
    let people: BTreeSet<AccountId> = people.iter().filter(|account| **account != own).copied().collect();
    begin(t, ticket, Aim::Group(title), people).map(|()| None)
}

fn check_title(title: &str) -> Result<(), CommandError> {
    let max = limits::TITLE_BYTES_MAX;
    if title.len() > max { Err(CommandError::TooLong { what: "a title", max }) } else { Ok(()) }
}

/// Takes people into a group. `None`: the answer comes later.
pub(crate) fn add<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    id: ThreadId,
    people: &[AccountId],
) -> Result<Option<Reply>, Halt> {
    let row = changeable(t, id, Deed::ADDS)?;
    let is_in = |account: &AccountId| row.participants.iter().any(|one| one.account == *account);
    let people: BTreeSet<AccountId> = people.iter().filter(|account| !is_in(account)).copied().collect();
    if people.is_empty() {
        return Ok(Some(Reply::Done));
    }
    begin(t, ticket, Aim::Add(id), people).map(|()| None)
}

/// Everybody is looked up, and a KeyPackage of each device claimed.
fn begin<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, aim: Aim, people: BTreeSet<AccountId>) -> Result<(), Halt> {
    if people.is_empty() || people.len() > limits::COMMIT_ADDS_MAX {
        let max = limits::COMMIT_ADDS_MAX;
        return Err(CommandError::State(format!("a group takes in 1 to {max} others at once")).into());
    }
    let guests = open::guests(&t.rows, people)?;
    open::begin(t, Some(ticket), aim, guests)
}

/// What a change needs leave for, and what is said to whoever has none.
type Leave = (fn(&Policy, &AccountId) -> bool, &'static str);

/// A group in which this account may do this, and that this device does not change already.
fn changeable<E: Engine>(t: &Turn<'_, E>, id: ThreadId, (may, why): Leave) -> Result<ThreadRow, Halt> {
    let row = ready(t, id)?;
    if row.policy().is_some_and(|policy| may(&policy, &t.rooms.identity.account())) {
        Ok(row)
    } else {
        Err(CommandError::State(why.to_owned()).into())
    }
}

/// A group in which a commit can be made.
fn ready<E: Engine>(t: &Turn<'_, E>, id: ThreadId) -> Result<ThreadRow, Halt> {
    let row = open(t, id)?;
    if is_busy(t, id)? {
        return Err(CommandError::State("another change of this group is under way".to_owned()).into());
    }
    Ok(row)
}

/// A group that this device is in.
fn open<E: Engine>(t: &Turn<'_, E>, id: ThreadId) -> Result<ThreadRow, Halt> {
    let row = thread::get(&t.rows, &id)?.ok_or(CommandError::Unknown)?;
    if !row.is_group() {
        return Err(CommandError::State("this conversation is of these people and no others".to_owned()).into());
    }
    if row.state == ThreadState::Left {
        return Err(CommandError::State("you are not in this group any more".to_owned()).into());
    }
    if row.state != ThreadState::Open {
        return Err(CommandError::State("this group cannot be changed yet".to_owned()).into());
    }
    Ok(row)
}

/// KeyPackages of all newcomers are here.
pub(crate) fn claimed<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Option<Ticket>,
    id: ThreadId,
    guests: BTreeMap<AccountId, Guest>,
) -> Result<Option<Reply>, Halt> {
    let row = changeable(t, id, Deed::ADDS)?;
    let is_in = |account: &AccountId| row.participants.iter().any(|one| one.account == *account);
    let guests: BTreeMap<_, _> = guests.into_iter().filter(|(account, _)| !is_in(account)).collect();
    let invitees = open::invitees(&guests, &t.rooms.identity.account())?;
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    for invitee in &invitees {
        t.engine.check_key_package(&mut cx, invitee).map_err(open::untrusted)?;
    }
    for guest in guests.values().filter_map(|guest| guest.person.as_ref()) {
        t.keep(guest, false)?;
    }
    stage(t, id, &row, Deed { invitees, ..Deed::default() })?;
    t.rooms.threads.changes.extend(ticket.map(|ticket| (id, ticket)));
    Ok(None)
}

/// Takes people out of a group. `None`: the answer comes later.
pub(crate) fn remove<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    id: ThreadId,
    people: &[AccountId],
) -> Result<Option<Reply>, Halt> {
    let row = changeable(t, id, Deed::REMOVES)?;
    if people.contains(&t.rooms.identity.account()) {
        return Err(CommandError::Oneself.into());
    }
    let is_in = |account: &&AccountId| row.participants.iter().any(|one| one.account == **account);
    let people: Vec<AccountId> = people.iter().filter(is_in).copied().collect();
    if people.is_empty() {
        return Ok(Some(Reply::Done));
    }
    if planted::active(Bug::RemovalDropped) {
        return Ok(Some(Reply::Done));
    }
    stage(t, id, &row, Deed { people, ..Deed::default() })?;
    t.rooms.threads.changes.insert(id, ticket);
    Ok(None)
}

/// Changes who may do what in a group. `None`: the answer comes later.
pub(crate) fn set_policy<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    id: ThreadId,
    policy: PolicyChange,
) -> Result<Option<Reply>, Halt> {
    let row = changeable(t, id, Deed::RULES)?;
    let Some(before) = row.policy() else { return Err(CommandError::Unknown.into()) };
    let is_in = |account: &AccountId| row.participants.iter().any(|one| one.account == *account);
    if !policy.admins.iter().all(is_in) {
        return Err(CommandError::State("only who is in a group can be its admin".to_owned()).into());
    }
    let after = policy.of(&before);
    if after.admins.is_empty() {
        return Err(CommandError::State("a group needs an admin: make somebody else one first".to_owned()).into());
    }
    let max = limits::ADMINS_MAX;
    if after.admins.len() > max {
        return Err(CommandError::State(format!("a group has {max} admins at most")).into());
    }
    if after == before {
        return Ok(Some(Reply::Done));
    }
    stage(t, id, &row, Deed { policy, ..Deed::default() })?;
    t.rooms.threads.changes.insert(id, ticket);
    Ok(None)
}

/// Gives a group another title.
pub(crate) fn rename<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, title: String) -> Result<Reply, Halt> {
    check_title(&title)?;
    if title.is_empty() {
        return Err(CommandError::State("a title has at least one letter".to_owned()).into());
    }
    let mut row = sayable(t, id)?;
    entitle(t, id, &mut row, title)?;
    thread::put(&mut t.rows, &id, &row);
    send::pump(t, id)?;
    Ok(Reply::Done)
}

/// A group whose title and picture this account may say.
pub(crate) fn sayable<E: Engine>(t: &Turn<'_, E>, id: ThreadId) -> Result<ThreadRow, Halt> {
    let row = open(t, id)?;
    match row.policy().is_some_and(|policy| policy.may_rename(&t.rooms.identity.account())) {
        true => Ok(row),
        false => Err(CommandError::State("only an admin of this group says what it is called".to_owned()).into()),
    }
}

/// Renews this device's keys in a group: what was stolen of it before is worth nothing after. `None`: the answer comes later.
pub(crate) fn renew<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, id: ThreadId) -> Result<Option<Reply>, Halt> {
    let row = ready(t, id)?;
    stage(t, id, &row, Deed::default())?;
    t.rooms.threads.changes.insert(id, ticket);
    Ok(None)
}

/// Asks to be taken out: by the group's admins, or, should none be there, by whoever is. Nothing more is sent; what comes until
/// then is shown.
pub(crate) fn leave<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<Reply, Halt> {
    let mut row = thread::get(&t.rows, &id)?.ok_or(CommandError::Unknown)?;
    let Some(policy) = row.policy() else {
        return Err(CommandError::State("a conversation of these people alone cannot be left".to_owned()).into());
    };
    if row.state == ThreadState::Left {
        return Ok(Reply::Done);
    }
    // Whoever asked already asks again, by this device: the one that did may be gone, or its word was not taken.
    let own = t.rooms.identity.account();
    let stays = |admin: &AccountId| *admin != own && !row.leavers.contains(admin);
    if policy.is_admin(&own) && !policy.admins.iter().any(stays) && row.participants.len() > 1 {
        let why = "a group needs an admin: make somebody else one, or take the others out first";
        return Err(CommandError::State(why.to_owned()).into());
    }
    if row.participants.len() <= 1 {
        row.state = ThreadState::Left;
        thread::put(&mut t.rows, &id, &row);
        return Ok(Reply::Done);
    }
    let own = t.rooms.identity.own();
    let words = warrant::leave(own.device, own.id, id, row.epoch);
    say(t, id, &mut row, Body::Leave(Some(Box::new(words))))?;
    row.leaving = true;
    thread::put(&mut t.rows, &id, &row);
    send::pump(t, id)?;
    Ok(Reply::Done)
}

/// Says something to the devices of a group that is no text. The caller writes the row.
pub(crate) fn say<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &mut ThreadRow, body: Body) -> Result<(), Halt> {
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    let message = MessageId::from_bytes(t.chance.bytes());
    let content = Content::new(message, hlc, body);
    send::seal(t, id, row, &content, Class::Control, None, None)
}

/// Gives a group of ours its title. The caller writes the row.
pub(crate) fn entitle<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    row: &mut ThreadRow,
    title: String,
) -> Result<(), Halt> {
    if title.is_empty() {
        return Ok(());
    }
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    row.title = Some(TitleRow { text: title.clone(), hlc });
    facts::note(t, What::Title(id, title.clone()), Some(hlc))?;
    say(t, id, row, Body::Title(title))
}

/// Newcomers do not know what was said before them: who may say the title says it again. The caller writes the row.
pub(crate) fn say_title<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &mut ThreadRow) -> Result<(), Halt> {
    match row.title.clone() {
        Some(title) => say(t, id, row, Body::Title(title.text)),
        None => Ok(()),
    }
}

/// What a change does.
#[derive(Default)]
pub(crate) struct Deed {
    /// Whom it takes in.
    pub(crate) invitees: Vec<Invitee>,
    /// Whom it takes out, with all their devices.
    pub(crate) people: Vec<AccountId>,
    /// Single devices that it takes out.
    pub(crate) devices: Vec<DeviceId>,
    /// What it makes of the policy.
    pub(crate) policy: PolicyChange,
    /// By whose word that they leave.
    pub(crate) word: Option<Signed>,
}

impl Deed {
    const ADDS: Leave = (Policy::may_add, "only an admin of this group takes people in");
    const REMOVES: Leave = (Policy::is_admin, "only an admin of a group takes people out");
    const RULES: Leave = (Policy::is_admin, "only an admin of a group says who may do what");

    /// Why an account may not do it by this policy, if it may not.
    fn refused(&self, policy: &Policy, by: &AccountId) -> Option<&'static str> {
        let others = self.invitees.iter().any(|one| one.id.account != *by);
        let out = !self.people.is_empty() || self.devices.iter().any(|device| device.account != *by);
        let asked = [(others, Self::ADDS), (out, Self::REMOVES), (!self.policy.is_nothing(), Self::RULES)];
        asked.into_iter().find(|(asked, (may, _))| *asked && !may(policy, by)).map(|(_, (_, why))| why)
    }

    fn is_nothing(&self) -> bool {
        self.invitees.is_empty() && self.people.is_empty() && self.devices.is_empty() && self.policy.is_nothing()
    }

    /// The policy that a group has after it, if it is another than before: whoever is not in it any more is no admin.
    fn sets(&self, row: &ThreadRow, removed: &[DeviceId]) -> Result<Option<Policy>, CommandError> {
        let Some(before) = row.policy() else { return Ok(None) };
        let stay = thread::leaves(row).filter(|leaf| removed.binary_search(leaf).is_err());
        let members: BTreeSet<AccountId> =
            stay.map(|leaf| leaf.account).chain(self.invitees.iter().map(|one| one.id.account)).collect();
        let mut after = self.policy.of(&before);
        after.admins.retain(|admin| members.contains(admin));
        if after.admins.is_empty() {
            return Err(CommandError::State("a group needs an admin".to_owned()));
        }
        Ok((after != before).then_some(after))
    }
}

/// Stages a commit and keeps it before anybody hears of it.
pub(crate) fn stage<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &ThreadRow, deed: Deed) -> Result<(), Halt> {
    let own = t.rooms.identity.own();
    let goes = |leaf: &DeviceId| deed.people.contains(&leaf.account) || deed.devices.contains(leaf);
    let leaves = thread::leaves(row).filter(goes);
    let removed: Vec<DeviceId> = leaves.collect::<BTreeSet<_>>().into_iter().collect();
    let sets = deed.sets(row, &removed)?;
    let Deed { invitees, people: leaving, devices: revoked, policy, word } = deed;
    let mut domains = BTreeMap::new();
    for invitee in &invitees {
        let domain = match invitee.id.account == own.id.account {
            true => t.rooms.identity.relay().domain,
            false => contacts::known(&t.rows, &invitee.id.account)?.ok_or(CommandError::Unknown)?.address.domain,
        };
        domains.insert(invitee.id.account, domain);
    }
    let added = thread::participants(invitees.iter().map(|one| one.id), |account| domains.get(account).cloned())
        .ok_or(CommandError::Unknown)?;
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    let staged =
        t.engine.change(&mut cx, &own, id, Change { adds: &invitees, removes: &removed, policy: sets.as_ref() })?;
    if staged.commit.len() > limits::COMMIT_BYTES_MAX {
        return Err(EngineError::TooLarge("a commit").into());
    }
    let newcomers = staged.welcome.map(|welcome| Newcomers { welcome, tree: staged.tree });
    let (bytes, info) = (staged.commit, staged.info);
    let warrant = match word {
        Some(word) => Some(Warrant::Leaves(word)),
        None => strays::warrant(t, row, &removed)?,
    };
    let commit = Commit { thread: id, term: FIRST_TERM, epoch: row.epoch, bytes, added, removed, info, warrant };
    let keep = |invitee: Invitee| InviteeRow {
        device: invitee.id,
        device_key: invitee.device_key,
        key_package: invitee.key_package,
    };
    let hash = commit.hash();
    let invitees = invitees.into_iter().map(keep).collect();
    let row = ChangeRow { commit, newcomers, hash, invitees, leaving, revoked, rejoins: None, policy };
    rows::put(&mut t.rows, rows::change_key(&id), &row);
    t.rooms.threads.changing.insert(id);
    t.rooms.timers.clear(Timer::Change(id));
    submit(t, id)?;
    Ok(())
}

/// Another commit won: what is left to be done of ours is made anew on what holds now.
pub(crate) fn again<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    row: &ThreadRow,
    change: ChangeRow,
) -> Result<(), StorageError> {
    t.rows.delete(rows::change_key(&id));
    t.rooms.threads.changing.remove(&id);
    let renewal = change.is_renewal();
    if renewal && row.shared && !t.rooms.threads.changes.contains_key(&id) {
        // Of our own accord, and where many came so, each would make it anew with every commit of another.
        done(t, id, Ok(Reply::Done));
        siblings::put_off(t, id);
        return Ok(());
    }
    if change.commit.warrant.is_some() {
        // Who else is to go now may be other devices than then.
        done(t, id, Ok(Reply::Done));
        return tend(t, id);
    }
    let leaves: BTreeSet<DeviceId> = thread::leaves(row).collect();
    let invitees: Vec<Invitee> = change
        .invitees
        .into_iter()
        .filter(|one| !leaves.contains(&one.device) && is_listed(t, &one.device, &one.device_key))
        .map(|one| Invitee { id: one.device, device_key: one.device_key, key_package: one.key_package })
        .collect();
    let is_in = |account: &AccountId| leaves.iter().any(|leaf| leaf.account == *account);
    let people: Vec<AccountId> = change.leaving.into_iter().filter(is_in).collect();
    let devices: Vec<DeviceId> = change.revoked.into_iter().filter(|device| leaves.contains(device)).collect();
    let held = row.policy();
    let policy = change.policy;
    let done_already = held.as_ref().is_none_or(|held| policy.of(held) == *held);
    let policy = if done_already { PolicyChange::default() } else { policy };
    let deed = Deed { invitees, people, devices, policy, word: None };
    if deed.is_nothing() && !renewal {
        done(t, id, Ok(Reply::Done));
        return freshen(t, id, row);
    }
    // Whoever won may have said that this account does no more of the kind.
    if let Some(why) = held.and_then(|held| deed.refused(&held, &t.rooms.identity.account())) {
        done(t, id, Err(CommandError::State(why.to_owned())));
        return tend(t, id);
    }
    match stage(t, id, row, deed) {
        Ok(()) => Ok(()),
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            done(t, id, Err(error));
            Ok(())
        }
    }
}

/// Whether a device's account names it, with that key, as far as is known here: it may be revoked since it was invited.
fn is_listed<E: Engine>(t: &Turn<'_, E>, device: &DeviceId, key: &PublicKey) -> bool {
    let own = &t.rooms.identity;
    if device.account == own.account() {
        return own.log.device(device.index).is_some_and(|one| one.device_key == *key);
    }
    matches!(contacts::device(&t.rows, device), Ok(Some(row)) if row.device_key == *key)
}

/// Answers whoever waits for a change.
pub(crate) fn done<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, result: Result<Reply, CommandError>) {
    t.rooms.timers.clear(Timer::Change(id));
    if !t.rooms.threads.siblings.is_empty() {
        t.rooms.timers.set(Timer::Siblings, t.now.monotonic);
    }
    if let Some(ticket) = t.rooms.threads.changes.remove(&id) {
        t.answer(ticket, result);
    }
    pass::settled(t, id);
}

/// Somebody asks to be taken out, or something of ours is settled: an admin's device does what is due.
pub(crate) fn tend<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    siblings::tend(t, id)?;
    let Some(row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    let own = t.rooms.identity.account();
    let devices = strays::due(t, id, &row)?;
    // Who asks to go is an admin's to take out: by their word, one at a time, so that the hub knows an old one.
    let asked = || row.leavers.iter().copied().filter(|leaver| *leaver != own && row.is_admin(&own));
    let word = row.going.iter().find(|words| asked().any(|leaver| leaver == words.by.account)).cloned();
    let people: Vec<AccountId> = match &word {
        Some(word) => vec![word.by.account],
        None => asked().collect(),
    };
    // Apart, for what comes with the one says nothing of the others.
    let devices = if word.is_some() { Vec::new() } else { devices };
    let nothing = people.is_empty() && devices.is_empty();
    // What is under way is settled first, and then this is looked at again.
    if nothing || row.founding.is_none() || row.state != ThreadState::Open || is_busy(t, id)? {
        return freshen(t, id, &row);
    }
    match stage(t, id, &row, Deed { people, devices, word, ..Deed::default() }) {
        Ok(()) | Err(Halt::Command(_)) => Ok(()),
        Err(Halt::Broken(error)) => Err(error),
    }
}

/// Gives the leaf of this device a key of this thread alone, if it came of the last-resort KeyPackage, unless something of
/// ours is under way: each commit does it.
fn freshen<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &ThreadRow) -> Result<(), StorageError> {
    let own = t.rooms.identity.id();
    let revoked = t.rooms.identity.log.device(own.index).is_none();
    if !row.shared || row.state != ThreadState::Open || row.leaving || revoked || is_busy(t, id)? {
        return Ok(());
    }
    match stage(t, id, row, Deed::default()) {
        Ok(()) => Ok(()),
        Err(Halt::Command(error)) => {
            tracing::warn!(%error, "this device's leaf cannot be renewed for now");
            Ok(())
        }
        Err(Halt::Broken(error)) => Err(error),
    }
}

/// Whether this device may take others into a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taking {
    /// It may.
    Now,
    /// Once what is under way is settled.
    Later,
    /// It is in no such group, or its owner may not.
    Never,
}

/// Whether others can be taken into a group, now.
pub(crate) fn takes_in<E: Engine>(t: &Turn<'_, E>, id: &ThreadId) -> Result<Taking, StorageError> {
    let Some(row) = thread::get(&t.rows, id)? else { return Ok(Taking::Never) };
    let may = row.policy().is_some_and(|policy| policy.may_add(&t.rooms.identity.account()));
    Ok(match row.state {
        _ if !may || row.leaving => Taking::Never,
        ThreadState::Open if is_busy(t, *id)? => Taking::Later,
        ThreadState::Open => Taking::Now,
        ThreadState::Opening | ThreadState::Halted => Taking::Later,
        ThreadState::Left | ThreadState::Refused | ThreadState::Failed(_) => Taking::Never,
    })
}

/// Whether this device changes a group already.
fn is_busy<E: Engine>(t: &Turn<'_, E>, id: ThreadId) -> Result<bool, StorageError> {
    let adding = t.rooms.threads.jobs.values().any(|job| matches!(job.aim, Aim::Add(of) if of == id));
    Ok(adding || t.rows.get(&rows::change_key(&id))?.is_some())
}

/// Hands in every change that is not decided.
pub(crate) fn submit_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: Vec<ThreadId> = t.rooms.threads.changing.iter().copied().collect();
    threads.into_iter().try_for_each(|thread| submit(t, thread))
}

/// Hands in one change, unless it is on its way or must wait.
pub(crate) fn submit<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    if t.rooms.timers.is_set(Timer::Change(id)) || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    match rows::get::<ChangeRow>(&t.rows, &rows::change_key(&id))? {
        Some(ChangeRow { commit, newcomers, .. }) => {
            let purpose = Purpose::Change(id, commit.epoch);
            if !t.rooms.requests.any(|under_way| *under_way == purpose) {
                t.ask(purpose, |request| SubmitCommit { request, commit: Box::new(commit), newcomers });
            }
        }
        None => drop(t.rooms.threads.changing.remove(&id)),
    }
    Ok(())
}

/// Whether a change made in this epoch is still to be decided. One that lost may be made anew before its answer comes.
fn is_open<E: Engine>(t: &Turn<'_, E>, id: ThreadId, epoch: Epoch) -> Result<bool, StorageError> {
    let change: Option<ChangeRow> = rows::get(&t.rows, &rows::change_key(&id))?;
    Ok(change.is_some_and(|change| change.commit.epoch == epoch))
}

/// The hub has decided, for us or for another: what holds comes with the thread's log. Should it not, it is asked again.
pub(crate) fn decided<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, epoch: Epoch) -> Result<(), StorageError> {
    if is_open(t, id, epoch)? {
        t.rooms.timers.set(Timer::Change(id), t.now.monotonic.plus(limits::COMMIT_WAIT));
    }
    Ok(())
}

/// The hub will not have it; for now, or for good.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    (id, epoch): (ThreadId, Epoch),
    code: RefusalCode,
    again: Option<Duration>,
) -> Result<(), StorageError> {
    if !is_open(t, id, epoch)? {
        return Ok(());
    }
    match again {
        Some(delay) => {
            t.rooms.timers.set(Timer::Change(id), t.now.monotonic.plus(delay));
            // Of a hub that is out of reach the others know nothing; the own relay's haste is everybody's.
            let wait = if code == RefusalCode::PeerUnreachable { Duration::ZERO } else { delay };
            t.rooms.timers.set(Timer::Siblings, t.now.monotonic.plus(wait));
            Ok(())
        }
        None => give_up(t, id, CommandError::Refused(code)),
    }
}

/// Nothing comes of a change of ours.
pub(crate) fn give_up<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, error: CommandError) -> Result<(), StorageError> {
    let change: Option<ChangeRow> = rows::get(&t.rows, &rows::change_key(&id))?;
    if change.as_ref().is_some_and(ChangeRow::is_renewal)
        && let Some(mut row) = thread::get(&t.rows, &id)?
        && row.shared
    {
        // A hub that will not have it now will not have it with the next link either.
        row.shared = false;
        thread::put(&mut t.rows, &id, &row);
    }
    if let Some(Warrant::Leaves(words)) = change.as_ref().and_then(|change| change.commit.warrant.as_ref()) {
        commit::unsay(t, id, words)?;
    }
    let outdated = |change: ChangeRow| change.invitees.iter().any(|one| !is_listed(t, &one.device, &one.device_key));
    if change.is_some_and(outdated) {
        // The others it was for are still to be taken in.
        siblings::look(t, id);
    }
    discard(t, id)?;
    done(t, id, Err(error));
    Ok(())
}

/// A change of ours is no more, here and in the engine; whoever asked for it is still to be told.
pub(crate) fn discard<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId) -> Result<(), StorageError> {
    t.rows.delete(rows::change_key(&id));
    t.rooms.threads.changing.remove(&id);
    let own = t.rooms.identity.own();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    match t.engine.discard_own(&mut cx, &own, id) {
        Err(EngineError::Rows(error)) => Err(error),
        _ => Ok(()),
    }
}
