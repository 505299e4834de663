//! Views: what a display reads from the node's store, past the core.
//! Owns: the read side of account, contacts, threads, history and outbox. Reads see applied batches.
//! Never: writes; shows a key.

mod agreement;
mod dropped;
mod group;
mod trust;

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex, Epoch, MessageId, Name, PublicKey, ThreadId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Target;
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::siblings::{Fact, What};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::Card;
use whimbrel_storage::{Order, Reads, Row, StorageError};

pub use self::agreement::{Membership, authenticator, memberships};
pub use self::group::{GroupLink, group_links, picture};
pub use self::trust::{
    KeyPeriod, Keys, LogProof, RelayTree, Trust, contradictions, keys, log_of, own_log, own_log_forged, relays,
};
use crate::api::{Message, State};
use crate::identity::{Identity, LoadError};
use crate::rows::{
    self, CardRow, ContactRow, CountRow, EditRow, ExtensionRow, FriendRow, HistoryRow, MessageRow, OutboxRow, PlaceRow,
    ReactionRow, Relationship, SaidRow, SeenRow, SettingsRow, Space, ThreadRow, ThreadState,
};
use crate::{friendship, thread};

/// The own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub account: AccountId,
    /// This device.
    pub device: DeviceId,
    /// The name wished for or had.
    pub name: Name,
    /// Where it is found, once registered.
    pub address: Option<Address>,
    /// Whether it was handed to its relay and the answer is not known: it may be registered.
    pub registering: bool,
    /// The home relay.
    pub relay: RelayLink,
    /// The public half of the transport key.
    pub transport: PublicKey,
    /// The public identity key.
    pub identity: PublicKey,
    /// Whether this device can sign the account's log.
    pub full: bool,
    /// Whether the account's log names this device.
    pub listed: bool,
    /// Whether the relay has not taken this device in yet: the account is being recovered, or the device being linked.
    pub joining: bool,
    /// Whether it was linked, and what it was granted is worth nothing if the relay never hears of it.
    pub linking: bool,
    /// Whether a longer account log is still to be handed to the relay, or its answer to come.
    pub extending: bool,
}

/// A device of the own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its place in the account's log.
    pub index: DeviceIndex,
    /// What its owner calls it.
    pub label: String,
    /// Whether it is this one.
    pub this: bool,
    /// In how many of this device's conversations it is.
    pub threads: usize,
    /// Of how many that it could be in.
    pub of: usize,
    /// Whether it is still to be given what was said before it came, by its own word; absent: it said nothing.
    pub wants_history: Option<bool>,
}

/// Somebody who can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub account: AccountId,
    /// Where they are found, by their relay's word.
    pub address: Address,
    /// Whether the owner compared keys with them.
    pub trust: Trust,
}

/// Whether a thread can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Made here; the relay does not have it yet. Messages queue.
    Opening,
    /// In use.
    Open,
    /// This store is an old copy: nothing is sent.
    Halted,
    /// The relay refused our opening.
    Failed,
    /// Of a group: not in it any more.
    Left,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The thread to write to.
    pub thread: ThreadId,
    /// The others.
    pub people: Vec<AccountId>,
    /// Of a group: who made it.
    pub founder: Option<AccountId>,
    /// Of a group: who may do what.
    pub policy: Option<Policy>,
    /// What a group is called.
    pub title: Option<String>,
    /// How often it has changed: everybody in it comes to the same.
    pub epoch: Epoch,
    /// Whether it can be written to.
    pub standing: Standing,
    /// The newest message.
    pub last: Option<Message>,
    /// Messages of others that are not marked read.
    pub unread: u64,
    /// When something last happened in it.
    pub updated: Wall,
    /// Entries that could not be opened.
    pub unreadable: u64,
    /// Contents that others said and that are not here.
    pub missing: u64,
    /// Entries that the relay let go before this device had them and that `missing` does not show: so many at most were
    /// for this device.
    pub dropped: u64,
    /// How long texts last that are written now; absent: for ever.
    pub lasts: Option<Duration>,
}

/// A message of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The message.
    pub message: Message,
    /// How far it has come; absent for others'.
    pub state: Option<State>,
    /// What others' devices say of it; absent for others', and in a thread too large for that.
    pub receipts: Option<Receipts>,
    /// Whether its author put another text in its place.
    pub edited: bool,
    /// Whose signs stand beside it, by account: of each the first few by their clocks.
    pub reactions: Vec<(AccountId, String)>,
    /// How long it is there to be read, by its author's word.
    pub lasts: Option<Duration>,
    /// How many contents of its author's device are missing just before it.
    pub missing_before: u64,
    /// How many entries the relay let go that belong just before it, at most: those that no counter shows.
    pub dropped_before: u64,
}

/// How many devices said to have a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// Have it.
    pub delivered: u32,
    /// Their owner read it.
    pub read: u32,
    /// For so many it was.
    pub of: u32,
}

/// A place in a history: the order people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The author's clock.
    pub hlc: Hlc,
    /// Which message.
    pub message: MessageId,
    /// Whose.
    pub author: DeviceId,
}

impl Place {
    /// Where a message stands.
    pub const fn of(message: &Message) -> Self {
        Self { hlc: message.hlc, message: message.message, author: message.author }
    }

    const fn row(self) -> PlaceRow {
        PlaceRow { hlc: self.hlc, message: self.message, author: self.author }
    }
}

/// Which part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The first messages.
    Oldest,
    /// The last messages.
    Newest,
    /// Those just before a place.
    Before(Place),
    /// Those just after a place.
    After(Place),
}

/// The own account.
///
/// # Errors
/// There is none, or the store could not be read.
pub fn account(reads: &dyn Reads) -> Result<Account, LoadError> {
    let identity = Identity::load(reads)?;
    Ok(Account {
        account: identity.account(),
        device: identity.id(),
        name: identity.name().clone(),
        address: identity.address().cloned(),
        registering: reads.get(&rows::single_key(rows::Single::Registering))?.is_some(),
        relay: identity.relay(),
        transport: identity.transport.public(),
        identity: identity.log.identity_key(),
        full: identity.identity_key().is_some(),
        listed: identity.is_listed(),
        joining: reads.get(&rows::single_key(rows::Single::Extension))?.is_some_and(|row| {
            let row: Result<ExtensionRow, _> = rows::decode(&rows::single_key(rows::Single::Extension), &row);
            row.is_ok_and(|row| row.first)
        }) || reads.get(&rows::single_key(rows::Single::Joining))?.is_some(),
        linking: reads.get(&rows::single_key(rows::Single::Joining))?.is_some(),
        extending: reads.get(&rows::single_key(rows::Single::Extension))?.is_some(),
    })
}

/// Every device of the own account, and how far it has come into the conversations that this one is in.
///
/// # Errors
/// There is no account, or the store could not be read.
pub fn devices(reads: &dyn Reads) -> Result<Vec<OwnDevice>, LoadError> {
    let identity = Identity::load(reads)?;
    let mut devices: Vec<OwnDevice> = identity
        .log
        .devices()
        .map(|device| OwnDevice {
            index: device.index,
            label: device.label.clone(),
            this: device.index == identity.id().index,
            threads: 0,
            of: 0,
            wants_history: None,
        })
        .collect();
    for device in &mut devices {
        let fact: Option<Fact> = rows::get(reads, &rows::history_fact_key(device.index))?;
        if let Some(What::History(_, key)) = fact.map(|fact| fact.what) {
            device.wants_history = Some(key.is_some());
        }
    }
    rows::each(reads, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        if row.state == ThreadState::Open && row.founding.is_some() && !row.is_self(&identity.account()) {
            for device in &mut devices {
                let id = DeviceId { account: identity.account(), index: device.index };
                device.of += 1;
                device.threads += usize::from(thread::leaves(&row).any(|leaf| leaf == id));
            }
        }
        Ok(())
    })?;
    Ok(devices)
}

/// How far a device is with what was said before it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Conversations that are here.
    pub conversations: u64,
    /// Of how many; nothing: not known yet.
    pub of: Option<u64>,
    /// Texts that came.
    pub texts: u64,
}

/// How far this device is with what was said before it came; nothing: it has all of it.
///
/// # Errors
/// The store could not be read.
pub fn history(reads: &dyn Reads) -> Result<Option<History>, StorageError> {
    let row: Option<HistoryRow> = rows::get(reads, &rows::history_row_key())?;
    Ok(row.map(|row| History {
        conversations: row.done,
        of: Some(row.threads).filter(|_| row.listed),
        texts: row.texts,
    }))
}

/// Every device with a leaf in a thread; none when it is not known here.
///
/// # Errors
/// The store could not be read.
pub fn leaves(reads: &dyn Reads, id: &ThreadId) -> Result<Vec<DeviceId>, StorageError> {
    let row: Option<ThreadRow> = rows::get(reads, &rows::thread_key(id))?;
    Ok(row.iter().flat_map(thread::leaves).collect())
}

/// Everybody who can be written to, by account.
///
/// # Errors
/// The store could not be read.
pub fn contacts(reads: &dyn Reads) -> Result<Vec<Contact>, StorageError> {
    let mut found = Vec::new();
    rows::each(reads, &rows::space(Space::Contact), |(key, value)| {
        let row: ContactRow = rows::decode(&key, &value)?;
        if let (true, Some(id)) = (row.contact, rows::id_in_key(&key)) {
            let trust = Trust::of(&row);
            found.push(Contact { account: AccountId::from_bytes(id), address: row.address, trust });
        }
        Ok(())
    })?;
    Ok(found)
}

/// How things stand with somebody, by words that were proved here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Friendship {
    /// Nothing is agreed.
    None,
    /// We asked.
    Asked,
    /// They asked.
    Asking,
    /// Both agreed.
    Friends,
    /// We keep them away.
    Blocked,
}

/// Somebody who said something to us about friendship, or whom we did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Friend {
    /// Who.
    pub account: AccountId,
    /// Where they are found.
    pub address: Address,
    /// How things stand.
    pub friendship: Friendship,
    /// What they wrote to their request.
    pub note: Option<String>,
    /// Since when it is so.
    pub since: Wall,
}

/// What the owner keeps of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the owner calls it.
    pub label: Option<String>,
    /// Nobody is woken for it before.
    pub muted_until: Wall,
    /// Whether it is put away.
    pub archived: bool,
    /// Whether it comes first.
    pub pinned: bool,
    /// Whether the relay has them.
    pub kept: bool,
    /// Whether authors are told what was read here; absent: as everywhere.
    pub read_receipts: Option<bool>,
}

/// Everybody a word about friendship passed with, by account.
///
/// # Errors
/// The store could not be read.
pub fn friends(reads: &dyn Reads) -> Result<Vec<Friend>, StorageError> {
    let mut found = Vec::new();
    rows::each(reads, &rows::space(Space::Friend), |(key, value)| {
        let row: FriendRow = rows::decode(&key, &value)?;
        let friendship = match row.standing {
            Relationship::None => Friendship::None,
            Relationship::Asked => Friendship::Asked,
            Relationship::Asking => Friendship::Asking,
            Relationship::Friends => Friendship::Friends,
            Relationship::Blocked => Friendship::Blocked,
        };
        if let Some(id) = rows::id_in_key(&key) {
            let FriendRow { address, note, since, .. } = row;
            found.push(Friend { account: AccountId::from_bytes(id), address, friendship, note, since });
        }
        Ok(())
    })?;
    Ok(found)
}

/// An account's card, the newest that was proved here.
///
/// # Errors
/// The store could not be read.
pub fn card(reads: &dyn Reads, account: &AccountId) -> Result<Option<Card>, StorageError> {
    let row: Option<CardRow> = rows::get(reads, &rows::card_key(account))?;
    Ok(row.map(|CardRow { revision, display, about }| Card { account: *account, revision, display, about }))
}

/// The owner's settings of a conversation.
///
/// # Errors
/// The store could not be read.
pub fn settings(reads: &dyn Reads, thread: &ThreadId) -> Result<Settings, StorageError> {
    let Some(own) = own_account(reads)? else { return Ok(Settings::default()) };
    let thread = thread::canonical(reads, &own, thread)?.map_or(*thread, |(thread, _)| thread);
    let row: Option<SettingsRow> = rows::get(reads, &rows::settings_key(&thread))?;
    let SettingsRow { label, muted_until, archived, pinned, kept, read_receipts, .. } = row.unwrap_or_default();
    Ok(Settings { label, muted_until, archived, pinned, kept, read_receipts })
}

/// Where an account is found, contact or fellow member.
///
/// # Errors
/// The store could not be read.
pub fn address(reads: &dyn Reads, account: &AccountId) -> Result<Option<Address>, StorageError> {
    Ok(rows::get::<ContactRow>(reads, &rows::contact_key(account))?.map(|row| row.address))
}

/// Every conversation, newest first. Two threads of exactly the same people are one.
///
/// # Errors
/// The store could not be read.
pub fn threads(reads: &dyn Reads) -> Result<Vec<Thread>, StorageError> {
    let own = own_account(reads)?;
    let mut by_tag: BTreeMap<_, Vec<(ThreadId, ThreadRow)>> = BTreeMap::new();
    rows::each(reads, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        let hidden = row.state == ThreadState::Refused || own.is_some_and(|own| row.is_self(&own));
        if let (false, Some(id)) = (hidden, rows::id_in_key(&key)) {
            by_tag.entry(row.tag).or_default().push((ThreadId::from_bytes(id), row));
        }
        Ok(())
    })?;
    let mut threads = by_tag.into_values().filter_map(|same| joined(reads, own, &same).transpose());
    let mut threads = threads.by_ref().collect::<Result<Vec<_>, _>>()?;
    threads.sort_by_key(|thread| (std::cmp::Reverse(thread.updated), thread.thread));
    Ok(threads)
}

/// One conversation, by any of its threads.
///
/// # Errors
/// The store could not be read.
pub fn thread(reads: &dyn Reads, thread: &ThreadId) -> Result<Option<Thread>, StorageError> {
    let own = own_account(reads)?;
    let mut same = Vec::new();
    for id in aliases(reads, thread)? {
        if let Some(row) = rows::get::<ThreadRow>(reads, &rows::thread_key(&id))? {
            same.push((id, row));
        }
    }
    joined(reads, own, &same)
}

/// The thread of exactly these people, oneself not counted, if there is one.
///
/// # Errors
/// There is no account, or the store could not be read.
pub fn find_thread(reads: &dyn Reads, people: &[AccountId]) -> Result<Option<ThreadId>, LoadError> {
    let identity = Identity::load(reads)?;
    let mut everybody = people.to_vec();
    everybody.push(identity.account());
    let tag = identity.participants.tag(&everybody);
    let same: Option<Vec<ThreadId>> = rows::get(reads, &rows::tag_key(&tag))?;
    Ok(same.and_then(|same| same.first().copied()))
}

/// At most `limit` messages of a conversation, in the order people see them: author's clock, then id.
///
/// # Errors
/// The store could not be read.
pub fn messages(reads: &dyn Reads, thread: &ThreadId, page: Page, limit: usize) -> Result<Vec<Line>, StorageError> {
    let same = aliases(reads, thread)?;
    let shown = same.first().copied().unwrap_or(*thread);
    let own = own_account(reads)?;
    let mut lines = Vec::new();
    let order = match page {
        Page::Oldest | Page::After(_) => Order::Ascending,
        Page::Newest | Page::Before(_) => Order::Descending,
    };
    for id in same {
        let prefix = rows::history_prefix(&id);
        let (mut from, mut to) = (prefix.clone(), rows::after(&prefix));
        match page {
            Page::Before(place) => to = rows::history_key(&id, &place.row()),
            Page::After(place) => {
                from = rows::history_key(&id, &place.row());
                from.push(0);
            }
            Page::Oldest | Page::Newest => {}
        }
        let thread: Option<ThreadRow> = rows::get(reads, &rows::thread_key(&id))?;
        let dropped = dropped::mark(reads, &id)?;
        for row in reads.scan(&from, &to, order, limit)? {
            let gone = dropped.as_ref().filter(|(key, _)| *key == row.0).map_or(0, |(_, left)| *left);
            let counter = rows::decode::<MessageRow>(&row.0, &row.1)?.counter;
            let mut line = line(shown, row, own.map(|own| (own, thread.as_ref())))?;
            look(reads, &id, &mut line.message)?;
            line.dropped_before = gone;
            if let (Some(counter), Some(_)) = (counter, &line.state) {
                line.receipts = receipts(reads, &id, counter)?;
            }
            adorn(reads, &id, counter, &mut line)?;
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| Place::of(&line.message));
    match order {
        Order::Ascending => lines.truncate(limit),
        Order::Descending => drop(lines.drain(..lines.len().saturating_sub(limit))),
    }
    Ok(lines)
}

/// How far a message has come; absent when it is not known, or not our own.
///
/// # Errors
/// The store could not be read.
pub fn message_state(reads: &dyn Reads, message: &MessageId) -> Result<Option<State>, StorageError> {
    let Some(own) = own_device(reads)? else { return Ok(None) };
    let Some(seen) = rows::get::<SeenRow>(reads, &rows::message_key(message, &own))? else { return Ok(None) };
    let place = PlaceRow { hlc: seen.hlc, message: *message, author: own };
    let row: Option<MessageRow> = rows::get(reads, &rows::history_key(&seen.thread, &place))?;
    let thread: Option<ThreadRow> = rows::get(reads, &rows::thread_key(&seen.thread))?;
    Ok(row.and_then(|row| thread::state(&row, thread.as_ref(), &own.account)))
}

/// The first `limit` messages of others in a conversation that are not marked read, in the order they came here. Marking
/// one read marks those before it: so whoever shows them in this order never marks what was not shown.
///
/// # Errors
/// The store could not be read.
pub fn unread_messages(reads: &dyn Reads, id: &ThreadId, limit: usize) -> Result<Vec<Message>, StorageError> {
    let same = aliases(reads, id)?;
    let shown = same.first().copied().unwrap_or(*id);
    let mut places = Vec::new();
    for thread in same {
        let Some(row) = rows::get::<ThreadRow>(reads, &rows::thread_key(&thread))? else { continue };
        let from = rows::unread_key(&thread, row.read.next());
        for (key, value) in reads.scan(&from, &rows::after(&rows::unread_prefix(&thread)), Order::Ascending, limit)? {
            let arrival = rows::unread_arrival(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
            places.push((arrival, thread, rows::decode::<PlaceRow>(&key, &value)?));
        }
    }
    places.sort();
    places.truncate(limit);
    let message = |(_, thread, place)| {
        let key = rows::history_key(&thread, &place);
        let value = reads.get(&key)?.ok_or_else(|| rows::damaged(&key, "an unread message is missing"))?;
        let mut message = line(shown, (key, value), None)?.message;
        look(reads, &thread, &mut message)?;
        Ok(message)
    };
    places.into_iter().map(message).collect()
}

/// Others' messages of a conversation that are not marked read.
///
/// # Errors
/// The store could not be read.
pub fn unread(reads: &dyn Reads, id: &ThreadId) -> Result<u64, StorageError> {
    Ok(thread(reads, id)?.map_or(0, |thread| thread.unread))
}

/// Whether a message of a device is here.
///
/// # Errors
/// The store could not be read.
pub fn is_here(reads: &dyn Reads, message: &MessageId, author: &DeviceId) -> Result<bool, StorageError> {
    Ok(reads.get(&rows::message_key(message, author))?.is_some())
}

/// Whether something said here waits in the outbox; what is not known does not.
///
/// # Errors
/// The store could not be read.
pub fn is_queued(reads: &dyn Reads, message: &MessageId) -> Result<bool, StorageError> {
    let Some(own) = own_device(reads)? else { return Ok(false) };
    let Some(seen) = rows::get::<SeenRow>(reads, &rows::message_key(message, &own))? else { return Ok(false) };
    let (from, mut to) = (rows::outbox_key(&seen.thread, 0), rows::outbox_key(&seen.thread, u64::MAX));
    to.push(0);
    let mut queued = false;
    rows::each_between(reads, &from, &to, |(key, value)| {
        queued |= rows::decode::<OutboxRow>(&key, &value)?.message == Some(*message);
        Ok(())
    })?;
    Ok(queued)
}

/// Own messages that are neither stored at the relay nor at all other devices.
///
/// # Errors
/// The store could not be read.
pub fn outbox_len(reads: &dyn Reads) -> Result<u64, StorageError> {
    let mut queued = 0u64;
    rows::each(reads, &rows::space(Space::Thread), |(key, value)| {
        queued = queued.saturating_add(rows::decode::<ThreadRow>(&key, &value)?.queued);
        Ok(())
    })?;
    Ok(queued)
}

/// All threads of the people of `thread`, the one to write to first, those whose opening failed last.
pub(crate) fn aliases(reads: &dyn Reads, thread: &ThreadId) -> Result<Vec<ThreadId>, StorageError> {
    let Some(row) = rows::get::<ThreadRow>(reads, &rows::thread_key(thread))? else { return Ok(Vec::new()) };
    let mut same: Vec<ThreadId> = rows::get(reads, &rows::tag_key(&row.tag))?.unwrap_or_default();
    rows::each(reads, &rows::failed_prefix(&row.tag), |(key, _)| {
        let id = key.last_chunk::<32>().ok_or_else(|| rows::damaged(&key, "key"))?;
        same.push(ThreadId::from_bytes(*id));
        Ok(())
    })?;
    Ok(if same.contains(thread) { same } else { vec![*thread] })
}

fn own_device(reads: &dyn Reads) -> Result<Option<DeviceId>, StorageError> {
    Ok(rows::get::<rows::AccountRow>(reads, &rows::account_key())?.map(|row| row.device))
}

fn own_account(reads: &dyn Reads) -> Result<Option<AccountId>, StorageError> {
    Ok(own_device(reads)?.map(|device| device.account))
}

const fn standing(row: &ThreadRow) -> Option<Standing> {
    match row.state {
        ThreadState::Opening => Some(Standing::Opening),
        ThreadState::Open => Some(Standing::Open),
        ThreadState::Halted => Some(Standing::Halted),
        ThreadState::Failed(_) => Some(Standing::Failed),
        ThreadState::Left => Some(Standing::Left),
        ThreadState::Refused => None,
    }
}

/// Threads of the same people, ascending, as one conversation. Threads whose opening failed count only when no
/// other stands.
fn joined(
    reads: &dyn Reads,
    own: Option<AccountId>,
    same: &[(ThreadId, ThreadRow)],
) -> Result<Option<Thread>, StorageError> {
    let stands = |row: &ThreadRow| !matches!(row.state, ThreadState::Failed(_) | ThreadState::Refused);
    let any = same.iter().any(|(_, row)| stands(row));
    let same: Vec<&(ThreadId, ThreadRow)> = same.iter().filter(|(_, row)| stands(row) || !any).collect();
    let Some((id, head)) = same.first() else { return Ok(None) };
    let Some(standing) = standing(head) else { return Ok(None) };
    let last = same.iter().filter_map(|(thread, row)| row.last.map(|place| (place, *thread))).max();
    let last = match last {
        Some((place, thread)) => {
            let key = rows::history_key(&thread, &place);
            let found = reads.get(&key)?.map(|value| line(*id, (key, value), None)).transpose()?;
            let mut message = found.map(|line| line.message);
            if let Some(message) = &mut message {
                look(reads, &thread, message)?;
            }
            message
        }
        None => None,
    };
    let (mut missing, mut dropped) = (0u64, 0u64);
    for (thread, _) in &same {
        dropped = dropped.saturating_add(dropped::left(reads, thread)?);
        rows::each(reads, &rows::count_prefix(thread), |(key, value)| {
            missing = missing.saturating_add(rows::decode::<CountRow>(&key, &value)?.missing());
            Ok(())
        })?;
    }
    Ok(Some(Thread {
        thread: *id,
        people: head.participants.iter().map(|one| one.account).filter(|one| Some(*one) != own).collect(),
        founder: head.founding.filter(|founding| !founding.fixed).map(|founding| founding.creator),
        policy: head.policy(),
        epoch: head.epoch,
        title: head.title.as_ref().map(|title| title.text.clone()),
        standing,
        last,
        unread: same.iter().map(|(_, row)| row.unread).sum(),
        updated: same.iter().map(|(_, row)| row.updated).max().unwrap_or_default(),
        unreadable: same.iter().map(|(_, row)| row.unreadable).sum(),
        missing,
        dropped,
        lasts: head.timer.map(|timer| Duration::from_millis(timer.lasts_ms)).filter(|lasts| !lasts.is_zero()),
    }))
}

/// `of`: whose display it is and the row of the thread the message lies in; without it no state is told.
fn line(
    thread: ThreadId,
    (key, value): Row,
    of: Option<(AccountId, Option<&ThreadRow>)>,
) -> Result<Line, StorageError> {
    let place = rows::history_place(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
    let row: MessageRow = rows::decode(&key, &value)?;
    let state = of.and_then(|(own, thread)| thread::state(&row, thread, &own));
    let message = Message {
        thread,
        message: place.message,
        author: place.author,
        hlc: place.hlc,
        received: row.received,
        path: row.path.map(Into::into),
        unsent: row.text.is_empty(),
        text: row.text,
        reply: row.reply,
        mentions: row.mentions,
        hidden: false,
    };
    let lasts = row.lasts_ms.map(Duration::from_millis);
    Ok(Line {
        message,
        state,
        receipts: None,
        edited: false,
        reactions: Vec::new(),
        lasts,
        missing_before: 0,
        dropped_before: 0,
    })
}

/// The text as it stands now, and whether the owner keeps its author away now. Says whether the text is another than was said.
fn look(reads: &dyn Reads, thread: &ThreadId, message: &mut Message) -> Result<bool, StorageError> {
    message.hidden = friendship::hides(reads, &message.author.account, thread)?;
    let of = Target { message: message.message, author: message.author };
    let edit: Option<EditRow> = rows::get(reads, &rows::edit_key(thread, &of))?;
    let edit = edit.filter(|_| !message.unsent);
    let edited = edit.is_some();
    if let Some(edit) = edit {
        message.text = edit.text;
    }
    Ok(edited)
}

/// What stands beside a message, and what is missing before it.
fn adorn(reads: &dyn Reads, thread: &ThreadId, counter: Option<u64>, line: &mut Line) -> Result<(), StorageError> {
    let of = Target { message: line.message.message, author: line.message.author };
    line.edited = !line.message.unsent && reads.get(&rows::edit_key(thread, &of))?.is_some();
    let mut signs: BTreeMap<AccountId, Vec<(PlaceRow, String)>> = BTreeMap::new();
    rows::each(reads, &rows::reaction_prefix(thread, &of), |(key, value)| {
        let row: ReactionRow = rows::decode(&key, &value)?;
        let (by, sign) = rows::reaction_of(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
        if row.stands {
            signs.entry(by).or_default().push((row.at, sign));
        }
        Ok(())
    })?;
    for (by, mut of) in signs {
        if friendship::hides(reads, &by, thread)? {
            continue;
        }
        of.sort();
        line.reactions.extend(of.into_iter().take(limits::REACTIONS_SHOWN_MAX).map(|(_, sign)| (by, sign)));
    }
    if let (Some(counter), None) = (counter, &line.state) {
        let count = rows::count(reads, thread, &line.message.author)?.unwrap_or_default();
        let before = rows::gaps(&count).find(|(_, last)| last.saturating_add(1) == counter);
        line.missing_before = before.map_or(0, |(first, last)| last - first + 1);
    }
    Ok(())
}

fn receipts(reads: &dyn Reads, thread: &ThreadId, counter: u64) -> Result<Option<Receipts>, StorageError> {
    let said: Option<SaidRow> = rows::get(reads, &rows::said_key(thread, counter))?;
    let said = said.filter(|said| !said.to.is_empty());
    Ok(said.map(|said| Receipts {
        delivered: said.delivered.count_ones(),
        read: said.read.count_ones(),
        of: said.to.len() as u32,
    }))
}

/// What others' devices say of a message of ours; absent when it is not known, not our own, or of a thread too large.
///
/// # Errors
/// The store could not be read.
pub fn message_receipts(reads: &dyn Reads, message: &MessageId) -> Result<Option<Receipts>, StorageError> {
    let Some(own) = own_device(reads)? else { return Ok(None) };
    let Some(seen) = rows::get::<SeenRow>(reads, &rows::message_key(message, &own))? else { return Ok(None) };
    seen.counter.map_or(Ok(None), |counter| receipts(reads, &seen.thread, counter))
}
