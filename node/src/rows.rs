//! Rows: what a node keeps, where, and how its keys sort.
//! Owns: every row space of the node's store, the key encodings and the row types. The engine's rows lie in the same
//! store below [`whimbrel_crypto::engine::ROWS`]; a test holds the spaces apart.
//! Never: decides what to write. Rules: docs/protocol/storage.md.

mod account;
mod audit;
mod dropped;
mod group;
mod message;
mod pass;
mod people;
mod policy;
mod said;
mod shapes;
mod siblings;
mod space;
mod told;
mod witness;

use minicbor::{Decode, Encode};
use whimbrel_protocol::canonical;
use whimbrel_protocol::hub::Accepted;
use whimbrel_protocol::id::{
    AccountId, Address, BlobId, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, MessageId, Name, ParticipantsTag,
    PublicKey, RelayId, Sequence, ThreadId,
};
use whimbrel_protocol::message::Target;
use whimbrel_protocol::push::{Invitation, LogRef};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{Envelope, Founding, Participant};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_storage::{Order, Overlay, Reads, Row, Schema, StorageError};

pub(crate) use self::account::{
    ExtensionRow, HeraldRow, StampRow, StockedRow, herald_key, package_device, package_key, package_number,
    package_prefix, stamp_key,
};
pub(crate) use self::audit::{
    AuditRow, TreeRow, TreeToldRow, audit_key, compared_key, tree_domain, tree_key, tree_told_key,
};
pub(crate) use self::dropped::{DroppedRow, dropped_key, dropped_prefix, thread_of_dropped};
pub(crate) use self::group::{ChangeRow, InviteeRow, OpeningRow, PictureRow, TitleRow, change_key, picture_key};
pub(crate) use self::message::{Arrival, EnvelopeRow, MessageRow, PlaceRow, RefusedRow, SeenRow, StateRow, TimerRow};
pub(crate) use self::pass::{AskRow, PassRow, WishRow, ask_key, asked_by, pass_key, wish_key};
pub(crate) use self::people::{
    CardRow, FriendRow, Relationship, SettingsRow, WordRow, card_key, friend_key, settings_key, word_key,
};
pub(crate) use self::policy::PolicyRow;
pub(crate) use self::said::{
    AwaitedRow, OwedRow, ResendRow, SaidRow, awaited_key, awaited_prefix, mark_key, owed_key, owed_message,
    owed_prefix, resend_key, resend_prefix, said_key, thread_of_resend,
};
pub use self::shapes::KEY_SHAPES;
pub(crate) use self::siblings::{
    HistoryRow, HistoryThreadRow, contact_fact_key, fact_key, history_fact_key, history_facts, history_row_key,
    history_thread_key, history_thread_prefix, identity_fact_key, is_passing, passing_facts, read_fact_key,
    title_fact_key, verified_fact_key,
};
#[cfg(test)]
pub(crate) use self::space::SPACES;
pub(crate) use self::space::Space;
pub(crate) use self::told::{
    CountRow, EditRow, GapRow, ReactionRow, Told, VanishRow, blank, count, count_key, count_prefix, edit_key,
    gap_device, gap_key, gap_prefix, gaps, reaction_key, reaction_of, reaction_prefix, told_of, unsent_key, vanish_due,
    vanish_key, vanish_prefix,
};
pub(crate) use self::witness::{
    ReceiptsRow, ReceiptsToldRow, RecentRow, contradiction_key, receipts_key, receipts_told_key, recent_key,
};
use crate::api::{Path, State};

/// Which version of the rows this program reads and writes. A change of a row's meaning raises it and adds its step.
pub const SCHEMA: Schema = Schema { name: "node", version: 1, steps: &[] };

/// Second byte of a key in [`Space::Single`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Single {
    /// The device's hybrid clock: [`Hlc`].
    Clock = b'c',
    /// When the last-resort KeyPackage was made: [`Wall`].
    LastResort = b'r',
    /// By the clocks of then, when the oldest and the newest of the present stock were made: [`StockedRow`].
    Stocked = b's',
    /// There until the relay is known to have the first stock: empty.
    Unstocked = b'u',
    /// How much is parked: [`ParkedTotals`].
    Parked = b'k',
    /// The newest [`Arrival`].
    Arrival = b'n',
    /// There while the account was handed to its relay and the answer is not known: empty.
    Registering = b'g',
    /// There while the relay was asked to delete the account and the answer is not known: empty.
    Deleting = b'x',
    /// There once the relay deleted the account: empty.
    Deleted = b'd',
    /// A change of the account log that the relay is not known to have: [`ExtensionRow`].
    Extension = b'e',
    /// There until the relay lets a device in that was linked: empty.
    Joining = b'j',
    /// There while a change of the account log is said in every thread: the last [`ThreadId`] done, or nothing.
    Heralding = b'h',
    /// There while everything the account's devices hold together is told: the key of the last fact told, or nothing.
    Telling = b't',
    /// There once the relay said that this store is an old copy: empty.
    Outdated = b'o',
    /// When the owner was last told that the relay shows a log of the own account that is none: [`Wall`].
    Forged = b'f',
    /// How many whom the owner knows nothing of may come by invites, [`u64`]; not there where this device cannot know.
    Strangers = b'i',
}

/// The own account and the keys of this device. The store's encryption at rest covers it; nothing else may show it.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct AccountRow {
    #[n(0)]
    pub(crate) device: DeviceId,
    #[n(1)]
    pub(crate) name: Name,
    #[n(2)]
    pub(crate) relay: RelayRow,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) log: Vec<u8>,
    /// Signs the account log; a limited device has none, nor one whose sibling took another since.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) identity_key: Option<[u8; 32]>,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) device_key: [u8; 32],
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) transport_key: [u8; 32],
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) participants_key: [u8; 32],
    /// Once registered.
    #[n(8)]
    pub(crate) address: Option<Address>,
}

/// A relay link, as a row.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RelayRow {
    #[n(0)]
    pub(crate) domain: whimbrel_protocol::id::Domain,
    #[n(1)]
    pub(crate) endpoint: String,
    #[n(2)]
    pub(crate) relay: RelayId,
}

/// Somebody we share a thread with.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ContactRow {
    /// Where they are found, by their relay's word.
    #[n(0)]
    pub(crate) address: Address,
    /// The longest verified log.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) log: Vec<u8>,
    /// Whether there is consent between us; others are fellow members only.
    #[n(2)]
    pub(crate) contact: bool,
    /// The identity key the owner compared with them.
    #[n(3)]
    pub(crate) verified: Option<PublicKey>,
    /// The identity key of the log.
    #[n(4)]
    pub(crate) identity: Option<PublicKey>,
}

impl ContactRow {
    /// Whether the key the owner compared is no longer theirs.
    pub(crate) fn key_changed(&self) -> bool {
        self.verified.is_some_and(|verified| self.identity.is_some_and(|now| now != verified))
    }
}

/// A device by its verified account log.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct DeviceRow {
    #[n(0)]
    pub(crate) device_key: PublicKey,
    #[n(1)]
    pub(crate) transport_key: PublicKey,
}

/// An entry whose time has not come: an envelope, or a change of the thread.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ParkedRow {
    #[n(0)]
    pub(crate) submitter: DeviceId,
    #[n(1)]
    pub(crate) envelope: Option<Envelope>,
    #[n(2)]
    pub(crate) change: Option<Accepted>,
}

impl ParkedRow {
    /// What it counts against the bound of all parked.
    pub(crate) fn bytes(&self) -> u64 {
        let envelope = self.envelope.as_ref().map_or(0, |envelope| envelope.body.len());
        let change = self.change.as_ref().map_or(0, |change| change.commit.bytes.len());
        (envelope + change) as u64
    }
}

/// Sum of all parked rows.
#[derive(Clone, Copy, Default, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ParkedTotals {
    #[n(0)]
    pub(crate) entries: u64,
    #[n(1)]
    pub(crate) bytes: u64,
    /// Number of the next parked row.
    #[n(2)]
    pub(crate) next: u64,
}

/// A sealed envelope on its way: the very bytes that are sent, however often.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct OutboxRow {
    #[n(0)]
    pub(crate) envelope: Envelope,
    /// What it carries, with the author's clock; absent for what nobody is shown.
    #[n(1)]
    pub(crate) message: Option<MessageId>,
    /// Worth nothing afterwards; absent: for as long as it takes.
    #[n(2)]
    pub(crate) until: Option<Wall>,
}

/// How a thread stands here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum ThreadState {
    /// Made here; the relay does not have the opening yet.
    #[n(0)]
    Opening,
    /// In use.
    #[n(1)]
    Open,
    /// This store is an old copy: no sending.
    #[n(2)]
    Halted,
    /// What came with the invitation was not proof: we are not in it.
    #[n(3)]
    Refused,
    /// The relay refused our opening.
    #[n(4)]
    Failed(#[n(0)] RefusalCode),
    /// This device was taken out of the group.
    #[n(5)]
    Left,
}

/// One thread.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ThreadRow {
    /// Everybody with a leaf, ourselves included, ascending by account.
    #[n(0)]
    pub(crate) participants: Vec<Participant>,
    #[n(1)]
    pub(crate) epoch: Epoch,
    #[n(2)]
    pub(crate) state: ThreadState,
    /// Own messages so far.
    #[n(3)]
    pub(crate) counter: u64,
    /// Own envelopes so far: the outbox order of the newest.
    #[n(4)]
    pub(crate) sealed: u64,
    /// Own messages still in the outbox.
    #[n(5)]
    pub(crate) queued: u64,
    /// Messages no later one names as parent: the parents of the next.
    #[n(6)]
    pub(crate) heads: Vec<MessageId>,
    /// The newest message.
    #[n(7)]
    pub(crate) last: Option<PlaceRow>,
    /// Others' messages after the read mark.
    #[n(8)]
    pub(crate) unread: u64,
    /// Everything that came up to here is read.
    #[n(9)]
    pub(crate) read: Arrival,
    #[n(10)]
    pub(crate) tag: ParticipantsTag,
    /// Whether our relay knows the tag.
    #[n(11)]
    pub(crate) tagged: bool,
    /// When something last happened in it.
    #[n(12)]
    pub(crate) updated: Wall,
    /// Entries that could not be opened.
    #[n(13)]
    pub(crate) unreadable: u64,
    /// Of a group: where its id comes from.
    #[n(14)]
    pub(crate) founding: Option<Founding>,
    /// What the group is called.
    #[n(15)]
    pub(crate) title: Option<TitleRow>,
    /// Whether the owner asked to be taken out.
    #[n(16)]
    #[cbor(default)]
    pub(crate) leaving: bool,
    /// Members who asked to be taken out.
    #[n(17)]
    #[cbor(default)]
    pub(crate) leavers: Vec<AccountId>,
    /// The epoch that the last newcomers came with: what was said before is not for them.
    #[n(18)]
    #[cbor(default)]
    pub(crate) grown: u64,
    /// How long texts are there to be read.
    #[n(19)]
    pub(crate) timer: Option<TimerRow>,
    /// The epoch this device's present leaf came with: what was sealed in earlier ones was for another of its leaves.
    #[n(20)]
    #[cbor(default)]
    pub(crate) joined: u64,
    /// Whether this device's leaf came of its last-resort KeyPackage, which others were handed too, and no commit of its
    /// own has renewed it since.
    #[n(21)]
    #[cbor(default)]
    pub(crate) shared: bool,
    /// Of a group that has been given policies: the newest, in order.
    #[n(22)]
    #[cbor(default)]
    pub(crate) policies: Vec<PolicyRow>,
    /// The words of those who asked to be taken out, by which any member can do it; one for each at most.
    #[n(23)]
    #[cbor(default)]
    pub(crate) going: Vec<Signed>,
}

impl ThreadRow {
    /// Whether its members may change, by its admins' hand; otherwise it is of these people and no others.
    pub(crate) fn is_group(&self) -> bool {
        self.founding.is_some_and(|founding| !founding.fixed)
    }

    /// Whether it is of this account's own devices, and can be of nobody else's.
    pub(crate) fn is_self(&self, account: &AccountId) -> bool {
        self.founding.is_some_and(|founding| founding.fixed && founding.creator == *account)
            && self.participants.iter().all(|one| one.account == *account)
    }
}

/// An entry that could not be opened: kept out of sight, never content.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct UnreadableRow {
    #[n(0)]
    pub(crate) envelope: EnvelopeId,
    #[n(1)]
    pub(crate) at: Wall,
    #[n(2)]
    pub(crate) reason: String,
}

/// A thread we were added to and have not joined yet.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct InvitationRow {
    #[n(0)]
    pub(crate) invitation: Invitation,
    /// Its place in the inbox, while the relay must keep what it names.
    #[n(1)]
    pub(crate) unfetched: Option<Sequence>,
    /// Whether what it names is kept here, in [`Space::Fetched`].
    #[n(2)]
    #[cbor(default)]
    pub(crate) kept: bool,
}

fn key(space: Space, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(space as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The smallest key greater than all that begin with `prefix`.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    whimbrel_storage::KEY_END.to_vec()
}

fn device_bytes(device: &DeviceId) -> [u8; 36] {
    let mut bytes = [0; 36];
    let (account, index) = bytes.split_at_mut(32);
    account.copy_from_slice(device.account.as_bytes());
    index.copy_from_slice(&device.index.get().to_be_bytes());
    bytes
}

fn hlc_bytes(hlc: Hlc) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (millis, count) = bytes.split_at_mut(8);
    millis.copy_from_slice(&hlc.millis.to_be_bytes());
    count.copy_from_slice(&hlc.count.to_be_bytes());
    bytes
}

pub(crate) fn account_key() -> Vec<u8> {
    key(Space::Account, &[])
}

pub(crate) fn single_key(single: Single) -> Vec<u8> {
    key(Space::Single, &[&[single as u8]])
}

pub(crate) fn contact_key(account: &AccountId) -> Vec<u8> {
    key(Space::Contact, &[account.as_bytes()])
}

pub(crate) fn device_key(device: &DeviceId) -> Vec<u8> {
    key(Space::Device, &[&device_bytes(device)])
}

pub(crate) fn transport_key(transport: &PublicKey) -> Vec<u8> {
    key(Space::Transport, &[transport.as_bytes()])
}

pub(crate) fn envelope_key(envelope: &EnvelopeId) -> Vec<u8> {
    key(Space::Envelope, &[envelope.as_bytes()])
}

pub(crate) fn tag_key(tag: &ParticipantsTag) -> Vec<u8> {
    key(Space::Tag, &[tag.as_bytes()])
}

pub(crate) fn failed_key(tag: &ParticipantsTag, thread: &ThreadId) -> Vec<u8> {
    key(Space::Failed, &[tag.as_bytes(), thread.as_bytes()])
}

pub(crate) fn failed_prefix(tag: &ParticipantsTag) -> Vec<u8> {
    key(Space::Failed, &[tag.as_bytes()])
}

pub(crate) fn thread_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Thread, &[thread.as_bytes()])
}

pub(crate) fn opening_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Opening, &[thread.as_bytes()])
}

pub(crate) fn invitation_key(welcome: &BlobId) -> Vec<u8> {
    key(Space::Invitation, &[welcome.as_bytes()])
}

/// The Welcome's and the tree's.
pub(crate) fn fetched_keys(welcome: &BlobId) -> [Vec<u8>; 2] {
    [0, 1].map(|which| key(Space::Fetched, &[welcome.as_bytes(), &[which]]))
}

pub(crate) fn place_key(log: LogRef) -> Vec<u8> {
    match log {
        LogRef::Inbox => key(Space::Place, &[&[0]]),
        LogRef::Thread(thread) => key(Space::Place, &[&[1], thread.as_bytes()]),
    }
}

pub(crate) fn outbox_key(thread: &ThreadId, order: u64) -> Vec<u8> {
    key(Space::Outbox, &[thread.as_bytes(), &order.to_be_bytes()])
}

pub(crate) fn parked_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::Parked, &[thread.as_bytes()])
}

pub(crate) fn parked_key(thread: &ThreadId, number: u64) -> Vec<u8> {
    key(Space::Parked, &[thread.as_bytes(), &number.to_be_bytes()])
}

pub(crate) fn unreadable_key(thread: &ThreadId, number: u64) -> Vec<u8> {
    key(Space::Unreadable, &[thread.as_bytes(), &number.to_be_bytes()])
}

pub(crate) fn history_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::History, &[thread.as_bytes()])
}

pub(crate) fn history_key(thread: &ThreadId, place: &PlaceRow) -> Vec<u8> {
    let author = device_bytes(&place.author);
    key(Space::History, &[thread.as_bytes(), &hlc_bytes(place.hlc), place.message.as_bytes(), &author])
}

/// The place a history key stands for.
pub(crate) fn history_place(key: &[u8]) -> Option<PlaceRow> {
    let rest = key.get(1 + ThreadId::LEN..)?;
    let (millis, rest) = rest.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (message, rest) = rest.split_first_chunk::<16>()?;
    Some(PlaceRow {
        hlc: Hlc { millis: u64::from_be_bytes(*millis), count: u32::from_be_bytes(*count) },
        message: MessageId::from_bytes(*message),
        author: device_of(rest)?,
    })
}

pub(crate) fn unread_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::Unread, &[thread.as_bytes()])
}

pub(crate) fn unread_key(thread: &ThreadId, arrival: Arrival) -> Vec<u8> {
    key(Space::Unread, &[thread.as_bytes(), &arrival.0.to_be_bytes()])
}

/// The arrival an unread key stands for.
pub(crate) fn unread_arrival(key: &[u8]) -> Option<Arrival> {
    number_in_key(key).map(Arrival)
}

pub(crate) fn message_prefix(message: &MessageId) -> Vec<u8> {
    key(Space::Message, &[message.as_bytes()])
}

pub(crate) fn message_key(message: &MessageId, author: &DeviceId) -> Vec<u8> {
    key(Space::Message, &[message.as_bytes(), &device_bytes(author)])
}

pub(crate) fn device_of(bytes: &[u8]) -> Option<DeviceId> {
    let (account, index) = bytes.split_first_chunk::<32>()?;
    let index = u32::from_be_bytes(index.try_into().ok()?);
    Some(DeviceId { account: AccountId::from_bytes(*account), index: DeviceIndex::new(index) })
}

/// The first id in a key of the spaces that begin with a thread or account.
pub(crate) fn id_in_key(key: &[u8]) -> Option<[u8; 32]> {
    key.get(1..)?.first_chunk::<32>().copied()
}

/// The eight-byte number at a key's end.
pub(crate) fn number_in_key(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// What a key that was written here cannot look like.
pub(crate) fn damaged(key: &[u8], what: impl ToString) -> StorageError {
    StorageError::Damaged { space: key.first().copied().unwrap_or(0), what: what.to_string() }
}

/// Reads a row.
pub(crate) fn get<T: for<'b> Decode<'b, ()>>(reads: &dyn Reads, key: &[u8]) -> Result<Option<T>, StorageError> {
    reads.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// Reads the value of a row.
pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(key: &[u8], value: &[u8]) -> Result<T, StorageError> {
    minicbor::decode(value).map_err(|error| damaged(key, error))
}

/// The bytes of a row's value.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    canonical::encode(value)
}

/// Writes a row.
pub(crate) fn put<T: Encode<()>>(rows: &mut Overlay<'_>, key: Vec<u8>, value: &T) {
    rows.put(key, encode(value));
}

/// Rows of one page when a whole space is walked.
const PAGE: usize = 512;

/// Walks every row below a prefix in key order, a page at a time.
pub(crate) fn each(
    reads: &dyn Reads,
    prefix: &[u8],
    visit: impl FnMut(Row) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    each_between(reads, prefix, &after(prefix), visit)
}

/// Walks every row of a range in key order, a page at a time.
pub(crate) fn each_between(
    reads: &dyn Reads,
    from: &[u8],
    end: &[u8],
    mut visit: impl FnMut(Row) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut from = from.to_vec();
    loop {
        let page = reads.scan(&from, end, Order::Ascending, PAGE)?;
        let more = page.len() == PAGE;
        if let Some((last, _)) = page.last() {
            from = last.clone();
            from.push(0);
        }
        page.into_iter().try_for_each(&mut visit)?;
        if !more {
            return Ok(());
        }
    }
}

/// The prefix of a whole space.
pub(crate) fn space(space: Space) -> Vec<u8> {
    key(space, &[])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_spaces_share_a_byte_and_none_is_the_engine_s() {
        let bytes: BTreeSet<u8> = SPACES.iter().map(|space| *space as u8).collect();
        assert_eq!(bytes.len(), SPACES.len());
        assert!(!bytes.contains(&whimbrel_crypto::engine::ROWS));
    }

    #[test]
    fn history_keys_sort_as_people_see_messages_and_read_back() {
        let thread = ThreadId::from_bytes([7; 32]);
        let author = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::new(2) };
        let place = |millis, count, id| PlaceRow {
            hlc: Hlc { millis, count },
            message: MessageId::from_bytes([id; 16]),
            author,
        };
        let places = [place(1, 0, 9), place(1, 1, 0), place(256, 0, 1), place(256, 0, 2)];
        let keys: Vec<_> = places.iter().map(|place| history_key(&thread, place)).collect();
        assert!(keys.is_sorted());
        for (key, place) in keys.iter().zip(&places) {
            assert_eq!(history_place(key), Some(*place));
            assert!(*key > history_prefix(&thread) && *key < after(&history_prefix(&thread)));
        }
    }

    #[test]
    fn the_end_of_a_prefix_lies_behind_all_that_begin_with_it() {
        assert_eq!(after(&[1, 2]), [1, 3]);
        assert_eq!(after(&[1, 255, 255]), [2]);
        assert!(after(&[255]).as_slice() > [255, 255].as_slice());
    }
}
