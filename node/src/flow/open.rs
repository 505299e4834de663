//! Open: from an invite, or a set of people, to a thread the relay has on its disk.
//! In order: look everybody up, verify their logs, claim a KeyPackage of each device, make the group, keep it with
//! the opening in one batch, hand the opening in until the relay has it.
//! Nothing is kept before the group is made: until then a lost link ends the attempt.
//! Rules: docs/protocol/thread.md, "Opening"; user.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_crypto::{Context, Engine, EngineError, Invitee};
use whimbrel_protocol::id::{AccountId, Address, DeviceId, Domain, ThreadId};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::limits;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{OpenThread, Opening};
use whimbrel_protocol::user::{ClaimKeyPackages, ClaimedPackage, LookUp, Who};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Reads, StorageError};

use super::{befriend, facts, group, history, pass, send, settings, siblings, strangers};
use crate::api::{CommandError, Event, Reply, Ticket};
use crate::contacts::{self, Distrust, Person};
use crate::requests::{Asker, Purpose};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, OpeningRow, ThreadState};
use crate::thread::{self, Aim, Guest, Job, JobId};
use crate::timers::Timer;

/// Takes up an invite. `None`: the answer comes later.
pub(crate) fn accept<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, invite: Invite) -> Result<Option<Reply>, Halt> {
    if invite.account == t.rooms.identity.account() {
        return Err(CommandError::OwnInvite.into());
    }
    if befriend::is_blocked(&t.rows, &invite.account)? {
        return Err(CommandError::State("they are blocked; unblock them first".to_owned()).into());
    }
    pass::check_room(t, &invite)?;
    if let Some(thread) = met(t, invite.account)? {
        if let Some(waiting) = t.rooms.threads.openings.get_mut(&thread) {
            if waiting.len() >= limits::COMMANDS_WAITING_MAX {
                return Err(CommandError::State("too many commands wait for this already".to_owned()).into());
            }
            waiting.push(ticket);
            return Ok(None);
        }
        // Whoever invites anew may have come back with none of the devices that are in it: they are looked up first.
        if t.rooms.reception.admitted().is_none() {
            if let Some(person) = contacts::known(&t.rows, &invite.account)? {
                pass::check(&person.log, &invite)?;
            }
            pass::wish(t, &invite)?;
            return Ok(Some(contact_reply(&t.rows, invite.account, thread)?.ok_or(CommandError::Unknown)?));
        }
    }
    let domain = invite.address.domain.clone();
    let guests = BTreeMap::from([(invite.account, Guest { domain, person: None, packages: None })]);
    begin(t, Some(ticket), Aim::Invite(Box::new(invite)), guests)?;
    Ok(None)
}

/// Sends to exactly these people. `None`: the answer comes later, with the thread.
pub(crate) fn send_to<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    people: &[AccountId],
    text: String,
) -> Result<Option<Reply>, Halt> {
    send::check(t, &text)?;
    let own = t.rooms.identity.account();
    let people: BTreeSet<AccountId> = people.iter().filter(|account| **account != own).copied().collect();
    if let Some(thread) = existing(t, people.iter().copied())? {
        return send::text(t, thread, text).map(Some);
    }
    if people.is_empty() || people.len() > limits::COMMIT_ADDS_MAX {
        let max = limits::COMMIT_ADDS_MAX;
        return Err(CommandError::State(format!("a new thread takes 1 to {max} others")).into());
    }
    let guests = guests(&t.rows, people)?;
    begin(t, Some(ticket), Aim::Text(text), guests)?;
    Ok(None)
}

/// Contacts who are to be looked up.
pub(super) fn guests(
    reads: &dyn Reads,
    people: impl IntoIterator<Item = AccountId>,
) -> Result<BTreeMap<AccountId, Guest>, Halt> {
    let mut guests = BTreeMap::new();
    for account in people {
        let known = contacts::known(reads, &account)?.ok_or(CommandError::Unknown)?;
        if !contacts::is_contact(reads, &account)? {
            return Err(CommandError::Unknown.into());
        }
        guests.insert(account, Guest { domain: known.address.domain, person: None, packages: None });
    }
    Ok(guests)
}

/// Whether people can be written to without the relay.
pub(crate) fn existing<E: Engine>(
    t: &Turn<'_, E>,
    people: impl IntoIterator<Item = AccountId>,
) -> Result<Option<ThreadId>, StorageError> {
    let mut everybody: Vec<AccountId> = people.into_iter().collect();
    if everybody.is_empty() {
        // The thread of our own devices is none that anybody writes in.
        return Ok(None);
    }
    everybody.push(t.rooms.identity.account());
    let tag = t.rooms.identity.participants.tag(&everybody);
    thread::writable(&t.rows, &t.rooms.identity.account(), &tag)
}

/// The thread with a contact. With somebody else, such as one the owner has parted with, one is begun anew by an invite: that
/// tells them, too, that it may be.
pub(crate) fn met<E: Engine>(t: &Turn<'_, E>, account: AccountId) -> Result<Option<ThreadId>, StorageError> {
    if contacts::is_contact(&t.rows, &account)? { existing(t, [account]) } else { Ok(None) }
}

fn contact_reply(reads: &dyn Reads, account: AccountId, thread: ThreadId) -> Result<Option<Reply>, StorageError> {
    let known = contacts::known(reads, &account)?;
    Ok(known.map(|person| Reply::Contact { account, address: person.address, thread }))
}

/// Looks everybody up. Without a ticket, for what this device does of its own accord.
pub(crate) fn begin<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Option<Ticket>,
    aim: Aim,
    mut guests: BTreeMap<AccountId, Guest>,
) -> Result<(), Halt> {
    // What is said from the first word on is for all devices of its author.
    let own = &t.rooms.identity;
    if !matches!(aim, Aim::Add(_))
        && own.log.devices().count() > 1
        && let Some(address) = own.address().cloned()
    {
        let (domain, log) = (address.domain.clone(), own.log.clone());
        guests.insert(own.account(), Guest { domain, person: Some(Person { address, log }), packages: None });
    }
    let job = Job { ticket, aim, guests, since: t.now.monotonic, slowed: BTreeSet::new(), pace: Duration::ZERO };
    if t.rooms.threads.jobs.len() >= limits::COMMANDS_WAITING_MAX {
        return Err(CommandError::State("too many threads are being made already".to_owned()).into());
    }
    let home = t.rooms.identity.relay().domain;
    let hint = match &job.aim {
        Aim::Invite(invite) if invite.address.domain != home => Some(invite.hint()),
        _ => None,
    };
    let unknown = job.guests.iter().filter(|(_, guest)| guest.person.is_none());
    let who: Vec<(AccountId, Domain)> = unknown.map(|(id, guest)| (*id, guest.domain.clone())).collect();
    let id = t.rooms.threads.begin_job(job);
    for (account, domain) in who {
        let (who, hint) = (Who::Account(account, domain), hint.clone());
        t.ask(Purpose::LookUp(Asker::Job(id), account), |request| LookUp { request, who, hint });
    }
    Ok(())
}

/// A log came: once all are verified, KeyPackages are claimed.
pub(crate) fn looked_up<E: Engine>(
    t: &mut Turn<'_, E>,
    id: JobId,
    account: AccountId,
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    let Some(guest) = t.rooms.threads.jobs.get_mut(&id).and_then(|job| job.guests.get_mut(&account)) else {
        return Ok(());
    };
    match contacts::judge(&t.rows, account, &guest.domain, address, log)? {
        Ok(person) => guest.person = Some(person),
        Err(Distrust(why)) => {
            fail(t, id, CommandError::Untrusted(why));
            return Ok(());
        }
    }
    let Some(job) = t.rooms.threads.jobs.get(&id) else { return Ok(()) };
    if job.guests.values().any(|guest| guest.person.is_none()) {
        return Ok(());
    }
    if let Aim::Invite(invite) = &job.aim {
        let (ticket, invite) = (job.ticket, invite.clone());
        let inviter = invite.account;
        let person = job.guests.get(&inviter).and_then(|guest| guest.person.clone());
        if let Some(Err(error)) = person.as_ref().map(|person| pass::check(&person.log, &invite)) {
            fail(t, id, error);
            return Ok(());
        }
        if let Some(person) = person
            && t.rows.get(&rows::contact_key(&inviter))?.is_some()
        {
            t.keep(&person, false)?;
        }
        if let Some(thread) = met(t, inviter)? {
            t.rooms.threads.jobs.remove(&id);
            let reply = contact_reply(&t.rows, inviter, thread)?;
            pass::wish(t, &invite)?;
            t.answer_any(ticket, reply.ok_or(CommandError::Unknown));
            return Ok(());
        }
    }
    let Some(job) = t.rooms.threads.jobs.get(&id) else { return Ok(()) };
    let (token, inviter) = match &job.aim {
        Aim::Invite(invite) => (Some(invite.token), Some(invite.account)),
        Aim::Text(_) | Aim::Group(_) | Aim::Add(_) => (None, None),
    };
    let who: Vec<(AccountId, Domain)> = job.guests.iter().map(|(id, guest)| (*id, guest.domain.clone())).collect();
    let own = t.rooms.identity.account();
    if let Some(inviter) = inviter {
        strangers::taken_up(t, &inviter)?;
    }
    for (account, domain) in who {
        let token = token.filter(|_| account != own);
        t.ask(Purpose::Claim(id, account), |request| ClaimKeyPackages { request, account, domain, token });
    }
    Ok(())
}

/// KeyPackages came: once all are here, the thread is made.
pub(crate) fn claimed<E: Engine>(
    t: &mut Turn<'_, E>,
    id: JobId,
    account: AccountId,
    packages: Vec<ClaimedPackage>,
) -> Result<(), StorageError> {
    let Some(job) = t.rooms.threads.jobs.get_mut(&id) else { return Ok(()) };
    if let Some(guest) = job.guests.get_mut(&account) {
        guest.packages = Some(packages);
    }
    if job.guests.values().any(|guest| guest.packages.is_none()) {
        return Ok(());
    }
    let Some(job) = t.rooms.threads.jobs.remove(&id) else { return Ok(()) };
    let (ticket, adds_to) = (job.ticket, job.adds_to());
    match make(t, job) {
        Ok(Some(reply)) => t.answer_any(ticket, Ok(reply)),
        Ok(None) => {}
        Err(Halt::Command(error)) => {
            t.answer_any(ticket, Err(error));
            adds_to.into_iter().for_each(|group| pass::settled(t, group));
        }
        Err(Halt::Broken(error)) => return Err(error),
    }
    Ok(())
}

/// Makes the group and keeps it with its opening.
fn make<E: Engine>(t: &mut Turn<'_, E>, job: Job) -> Result<Option<Reply>, Halt> {
    let Job { ticket, aim, guests, .. } = job;
    let creator = t.rooms.identity.account();
    let others = || guests.keys().copied().filter(|account| *account != creator);
    // Somebody's thread with the same people may have come meanwhile.
    let aim = match aim {
        Aim::Add(thread) => return group::claimed(t, ticket, thread, guests),
        Aim::Text(text) => match existing(t, others())? {
            Some(thread) => return send::text(t, thread, text).map(Some),
            None => Aim::Text(text),
        },
        Aim::Invite(invite) => match met(t, invite.account)? {
            Some(thread) => {
                pass::wish(t, &invite)?;
                return Ok(contact_reply(&t.rows, invite.account, thread)?);
            }
            None => Aim::Invite(invite),
        },
        Aim::Group(title) => Aim::Group(title),
    };
    if t.rooms.threads.known >= limits::ACCOUNT_THREADS_MAX {
        let max = limits::ACCOUNT_THREADS_MAX;
        return Err(CommandError::State(format!("an account has at most {max} threads")).into());
    }
    let invitees = invitees(&guests, &creator)?;
    let own = t.rooms.identity.own();
    let home = t.rooms.identity.relay();
    let group = matches!(aim, Aim::Group(_));
    let founding = thread::found(creator, home.relay, !group, t.chance);
    let thread = founding.thread();
    let mut cx = Context { rows: &mut t.rows, chance: &mut *t.chance, now: t.now };
    for invitee in &invitees {
        t.engine.check_key_package(&mut cx, invitee).map_err(untrusted)?;
    }
    let created = t.engine.create(&mut cx, &own, thread, &invitees).map_err(untrusted)?;
    let domain_of = |account: &AccountId| {
        if *account == creator {
            Some(home.domain.clone())
        } else {
            guests.get(account).map(|guest| guest.domain.clone())
        }
    };
    let devices = invitees.iter().map(|invitee| invitee.id).chain([own.id]);
    let participants = thread::participants(devices, domain_of)
        .ok_or_else(|| CommandError::State("a device of somebody else's account".to_owned()))?;
    let everybody: Vec<AccountId> = participants.iter().map(|one| one.account).collect();
    let tag = match group {
        true => t.rooms.identity.participants.group_tag(&thread),
        false => t.rooms.identity.participants.tag(&everybody),
    };
    // Where threads of these people are deserted, the relay knows one of them by the tag, and would name it.
    let known = match thread::by_tag(&t.rows, &tag)?.is_empty() {
        true => tag,
        false => t.rooms.identity.participants.group_tag(&thread),
    };
    let info = Some(created.info.into());
    let opening = Opening {
        thread,
        epoch: created.epoch,
        participants: participants.clone(),
        welcome: created.welcome,
        tree: created.tree,
        founding: Some(Box::new(founding)),
    };
    let mut inviter = None;
    for (account, guest) in &guests {
        let Some(person) = guest.person.as_ref().filter(|_| *account != creator) else { continue };
        let by_invite = matches!(aim, Aim::Invite(_));
        if by_invite && !contacts::is_contact(&t.rows, account)? {
            strangers::comes(t, account)?;
            inviter = Some(*account);
        }
        t.keep(person, by_invite)?;
    }
    let mut row = thread::fresh(participants, created.epoch, ThreadState::Opening, tag, t.now.wall);
    row.founding = Some(founding);
    if let Aim::Group(title) = &aim {
        group::entitle(t, thread, &mut row, title.clone())?;
    }
    thread::put(&mut t.rows, &thread, &row);
    thread::tag_in(&mut t.rows, &tag, thread)?;
    rows::put(&mut t.rows, rows::opening_key(&thread), &OpeningRow { opening, tag: known, inviter, info });
    t.rooms.threads.known = t.rooms.threads.known.saturating_add(1);
    if let Aim::Invite(invite) = &aim {
        pass::wish(t, invite)?;
    }
    let waiting = if matches!(aim, Aim::Invite(_)) { ticket.into_iter().collect() } else { Vec::new() };
    t.rooms.threads.openings.insert(thread, waiting);
    submit(t, thread)?;
    match aim {
        Aim::Invite(_) | Aim::Add(_) => Ok(None),
        Aim::Text(text) => send::text(t, thread, text).map(Some),
        Aim::Group(_) => Ok(Some(Reply::Group { thread })),
    }
}

/// One of every device that offered a KeyPackage, each in its account's verified log.
pub(crate) fn invitees(guests: &BTreeMap<AccountId, Guest>, own: &AccountId) -> Result<Vec<Invitee>, CommandError> {
    let mut invitees = Vec::new();
    let mut seen = BTreeSet::new();
    for (account, guest) in guests {
        let before = invitees.len();
        for claimed in guest.packages.iter().flatten() {
            let mut device = guest.person.as_ref().and_then(|person| person.log.device(claimed.device));
            if planted::active(Bug::TrustDevices) {
                device = device.or(guest.person.as_ref().and_then(|person| person.log.devices().next()));
            }
            let Some(device) = device else {
                return Err(CommandError::Untrusted(
                    "a KeyPackage of a device that is not in its account log".to_owned(),
                ));
            };
            let id = DeviceId { account: *account, index: claimed.device };
            if !seen.insert(id) {
                return Err(CommandError::Untrusted("two KeyPackages of one device".to_owned()));
            }
            invitees.push(Invitee { id, device_key: device.device_key, key_package: claimed.package.clone() });
        }
        // A sibling that left none comes in later.
        if invitees.len() == before && account != own {
            return Err(CommandError::State("none of the other's devices has left a KeyPackage".to_owned()));
        }
    }
    if invitees.len() > limits::COMMIT_ADDS_MAX {
        return Err(CommandError::State("too many devices for one new thread".to_owned()));
    }
    Ok(invitees)
}

pub(crate) fn untrusted(error: EngineError) -> Halt {
    match error {
        EngineError::Rows(error) => Halt::Broken(error),
        other => Halt::Command(CommandError::Untrusted(other.to_string())),
    }
}

/// Whether an attempt waits so much longer for a relay that is asked more at once than it takes: one for many people does.
pub(crate) fn is_patient<E: Engine>(t: &Turn<'_, E>, id: JobId, longer: Duration) -> bool {
    t.rooms.threads.jobs.get(&id).is_some_and(|job| {
        let many = matches!(job.aim, Aim::Group(_) | Aim::Add(_));
        many && t.now.monotonic.since(job.since) + longer <= limits::GATHERING_TIME_MAX
    })
}

/// The relay takes no more about somebody just now: they wait, and those who are known by then stay so. False: the attempt is
/// given up.
pub(crate) fn slowed<E: Engine>(t: &mut Turn<'_, E>, id: JobId, account: AccountId, after: Duration) -> bool {
    let now = t.now.monotonic;
    if !is_patient(t, id, after) {
        return false;
    }
    let Some(job) = t.rooms.threads.jobs.get_mut(&id) else { return false };
    job.slowed.insert(account);
    job.pace = after;
    if !t.rooms.timers.is_set(Timer::Gather(id)) {
        t.rooms.timers.set(Timer::Gather(id), now.plus(after));
    }
    true
}

/// Asks again about one of those the relay took nothing about, and about the next one after the time it named: all at once
/// would only be refused again.
pub(crate) fn gather<E: Engine>(t: &mut Turn<'_, E>, id: JobId) {
    let Some(job) = t.rooms.threads.jobs.get_mut(&id) else { return };
    let Some(account) = job.slowed.pop_first() else { return };
    if !job.slowed.is_empty() {
        t.rooms.timers.set(Timer::Gather(id), t.now.monotonic.plus(job.pace));
    }
    let Some(guest) = job.guests.get(&account) else { return };
    let domain = guest.domain.clone();
    if guest.person.is_some() {
        t.ask(Purpose::Claim(id, account), |request| ClaimKeyPackages { request, account, domain, token: None });
    } else {
        let who = Who::Account(account, domain);
        t.ask(Purpose::LookUp(Asker::Job(id), account), |request| LookUp { request, who, hint: None });
    }
}

/// An attempt came to nothing: nothing of it was kept.
pub(crate) fn fail<E: Engine>(t: &mut Turn<'_, E>, id: JobId, error: CommandError) {
    if let Some(job) = t.rooms.threads.jobs.remove(&id) {
        let adds_to = job.adds_to();
        t.answer_any(job.ticket, Err(error));
        // Others may wait to be taken in there.
        adds_to.into_iter().for_each(|group| pass::settled(t, group));
    }
}

/// Hands in every opening the relay does not have.
pub(crate) fn submit_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let threads: Vec<ThreadId> = t.rooms.threads.openings.keys().copied().collect();
    threads.into_iter().try_for_each(|thread| submit(t, thread))
}

/// Hands in one opening, unless it is on its way or must wait.
pub(crate) fn submit<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let under_way = t.rooms.requests.any(|purpose| *purpose == Purpose::Opening(thread));
    if under_way || t.rooms.timers.is_set(Timer::Opening(thread)) || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    if let Some(row) = rows::get::<OpeningRow>(&t.rows, &rows::opening_key(&thread))? {
        let OpeningRow { opening, tag, info, .. } = row;
        t.ask(Purpose::Opening(thread), |request| OpenThread { request, opening, tag, info });
    }
    Ok(())
}

/// The relay has the opening on its disk.
pub(crate) fn opened<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<(), StorageError> {
    let Some((inviter, waiting)) = settle(t, thread)? else { return Ok(()) };
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    row.state = ThreadState::Open;
    row.tagged = true;
    thread::put(&mut t.rows, &thread, &row);
    let own = t.rooms.identity.account();
    let people: Vec<AccountId> = row.participants.iter().map(|one| one.account).filter(|one| *one != own).collect();
    if let Some(account) = inviter
        && let Some(person) = contacts::known(&t.rows, &account)?
    {
        befriend::met_by_invite(t, &account)?;
        t.event(Event::ContactAdded { account, address: person.address });
        facts::note_contact(t, &account, None)?;
    }
    if row.is_self(&own) {
        facts::tell_all(t)?;
        history::want(t)?;
        return siblings::begin(t);
    }
    siblings::look(t, thread);
    t.event(Event::ThreadOpened { thread, people: people.clone() });
    pass::ask(t)?;
    pass::settled(t, thread);
    answer_all(t, waiting, people.first().copied(), thread)?;
    settings::hand_in(t, thread)?;
    send::pump(t, thread)
}

/// The relay knows another thread of exactly these people: what was to go into ours goes there.
pub(crate) fn exists<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, other: ThreadId) -> Result<(), StorageError> {
    if other == thread {
        return opened(t, thread);
    }
    let usable = |state| matches!(state, ThreadState::Open | ThreadState::Opening);
    let same_people = match (thread::get(&t.rows, &thread)?, thread::get(&t.rows, &other)?) {
        (Some(ours), Some(theirs)) => ours.tag == theirs.tag && usable(theirs.state),
        _ => false,
    };
    if !same_people {
        return refused(t, thread, RefusalCode::Exists, None);
    }
    let Some((_, waiting)) = settle(t, thread)? else { return Ok(()) };
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    row.state = ThreadState::Failed(RefusalCode::Exists);
    thread::put(&mut t.rows, &thread, &row);
    thread::tag_out(&mut t.rows, &row.tag, &thread)?;
    send::divert(t, thread, Ok(other))?;
    pass::ask(t)?;
    let own = t.rooms.identity.account();
    let account = row.participants.iter().map(|one| one.account).find(|one| *one != own);
    answer_all(t, waiting, account, other)
}

/// The relay refused the opening; for now, or for good.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    code: RefusalCode,
    again: Option<Duration>,
) -> Result<(), StorageError> {
    if let Some(delay) = again {
        t.rooms.timers.set(Timer::Opening(thread), t.now.monotonic.plus(delay));
        return Ok(());
    }
    let Some((inviter, waiting)) = settle(t, thread)? else { return Ok(()) };
    if let Some(mut row) = thread::get(&t.rows, &thread)? {
        row.state = ThreadState::Failed(code);
        thread::put(&mut t.rows, &thread, &row);
        thread::tag_out(&mut t.rows, &row.tag, &thread)?;
    }
    if let Some(account) = inviter {
        pass::not_met(t, &account)?;
        contacts::not_a_contact(&mut t.rows, &account)?;
        // They may be friends at the relay all the same.
        strangers::taken_up(t, &account)?;
        facts::note_contact(t, &account, None)?;
    }
    send::divert(t, thread, Err(code))?;
    for ticket in waiting {
        t.answer(ticket, Err(CommandError::Refused(code)));
    }
    Ok(())
}

/// Our relay has the opening, and the relay of some of the others will not take it: those are not in the thread. When they
/// are all of the others, it is at its end, and a new one can be opened.
pub(crate) fn refused_there<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    domain: &Domain,
    code: RefusalCode,
) -> Result<(), StorageError> {
    if t.rooms.threads.openings.contains_key(&thread) {
        // The answer that our relay has it got lost.
        opened(t, thread)?;
    }
    let Some(mut row) = thread::get(&t.rows, &thread)? else { return Ok(()) };
    if row.state != ThreadState::Open {
        return Ok(());
    }
    let own = t.rooms.identity.account();
    let others = row.participants.iter().filter(|one| one.account != own);
    let (there, elsewhere): (Vec<_>, Vec<_>) = others.partition(|one| one.domain == *domain);
    let people: Vec<AccountId> = there.iter().map(|one| one.account).collect();
    let alone = elsewhere.is_empty();
    if people.is_empty() {
        return Ok(());
    }
    t.event(Event::ThreadRefused { thread, people, code });
    if alone {
        row.state = ThreadState::Failed(code);
        thread::put(&mut t.rows, &thread, &row);
        thread::tag_out(&mut t.rows, &row.tag, &thread)?;
        send::divert(t, thread, Err(code))?;
    }
    Ok(())
}

/// Whose invite led to an opening, and who waits for it.
type Settled = (Option<AccountId>, Vec<Ticket>);

/// The opening is answered: its row goes.
fn settle<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<Option<Settled>, StorageError> {
    let key = rows::opening_key(&thread);
    let Some(row) = rows::get::<OpeningRow>(&t.rows, &key)? else { return Ok(None) };
    t.rows.delete(key);
    let waiting = t.rooms.threads.openings.remove(&thread).unwrap_or_default();
    Ok(Some((row.inviter, waiting)))
}

fn answer_all<E: Engine>(
    t: &mut Turn<'_, E>,
    waiting: Vec<Ticket>,
    account: Option<AccountId>,
    thread: ThreadId,
) -> Result<(), StorageError> {
    for ticket in waiting {
        let reply = match account {
            Some(account) => contact_reply(&t.rows, account, thread)?,
            None => None,
        };
        t.answer(ticket, reply.ok_or(CommandError::Unknown));
    }
    Ok(())
}
