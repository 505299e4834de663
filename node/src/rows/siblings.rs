//! Rows about what an account's devices hold together, and of a history on its way to a new one. Owns: their types and
//! keys; a fact lies as it is told. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, PublicKey, ThreadId};
use whimbrel_protocol::siblings::{HistoryPlace, What};
use whimbrel_protocol::time::Hlc;

use super::{PlaceRow, Space, device_bytes, key};

/// A device that lacks some of the history, and how far it is with it.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HistoryRow {
    /// Under which it is given.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) key: [u8; 32],
    /// Who gives it; absent: to be found.
    #[n(1)]
    pub(crate) from: Option<DeviceIndex>,
    /// Whether it is known which conversations there are.
    #[n(2)]
    pub(crate) listed: bool,
    /// Conversations on the list.
    #[n(3)]
    pub(crate) threads: u64,
    /// Of these, the ones that are here.
    #[n(4)]
    pub(crate) done: u64,
    /// Texts that came.
    #[n(5)]
    pub(crate) texts: u64,
}

/// A conversation whose history is still to come.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HistoryThreadRow {
    #[n(0)]
    pub(crate) thread: ThreadId,
    /// Everything from here on is here.
    #[n(1)]
    pub(crate) before: Option<PlaceRow>,
    /// What was said earlier is here, or is asked for apart.
    #[n(2)]
    pub(crate) since: Option<Hlc>,
}

impl From<HistoryPlace> for PlaceRow {
    fn from(HistoryPlace { hlc, message, author }: HistoryPlace) -> Self {
        Self { hlc, message, author }
    }
}

impl From<PlaceRow> for HistoryPlace {
    fn from(PlaceRow { hlc, message, author }: PlaceRow) -> Self {
        Self { hlc, message, author }
    }
}

/// Where a fact lies: there is one about each thing.
pub(crate) fn fact_key(what: &What) -> Vec<u8> {
    match what {
        What::Contact(account, _) => contact_fact_key(account),
        What::Blocked(account, ..) => key(Space::Fact, &[&[1], account.as_bytes()]),
        What::Verified(account, _) => verified_fact_key(account),
        What::Title(thread, _) => title_fact_key(thread),
        What::Read(thread, author, _) => read_fact_key(thread, author),
        What::Settings(thread, _) => key(Space::Fact, &[&[5], thread.as_bytes()]),
        What::Identity(handover) => identity_fact_key(&handover.old, &handover.new),
        What::History(device, _) => history_fact_key(*device),
        What::Picture(thread, _) => key(Space::Fact, &[&[9], thread.as_bytes()]),
        What::Late(thread, ..) => key(Space::Fact, &[&[8], thread.as_bytes()]),
    }
}

pub(crate) fn contact_fact_key(account: &AccountId) -> Vec<u8> {
    key(Space::Fact, &[&[0], account.as_bytes()])
}

pub(crate) fn verified_fact_key(account: &AccountId) -> Vec<u8> {
    key(Space::Fact, &[&[2], account.as_bytes()])
}

pub(crate) fn title_fact_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Fact, &[&[3], thread.as_bytes()])
}

pub(crate) fn read_fact_key(thread: &ThreadId, author: &DeviceId) -> Vec<u8> {
    key(Space::Fact, &[&[4], thread.as_bytes(), &device_bytes(author)])
}

pub(crate) fn identity_fact_key(old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    key(Space::Fact, &[&[6], old.as_bytes(), new.as_bytes()])
}

/// Facts that may go when there are too many: without one a text is news a second time, or is asked for later.
pub(crate) fn passing_facts() -> [Vec<u8>; 2] {
    [key(Space::Fact, &[&[8]]), key(Space::Fact, &[&[4]])]
}

/// Whether a fact is one of these.
pub(crate) fn is_passing(fact: &[u8]) -> bool {
    passing_facts().iter().any(|prefix| fact.starts_with(prefix))
}

pub(crate) fn history_fact_key(device: DeviceIndex) -> Vec<u8> {
    key(Space::Fact, &[&[7], &device.get().to_be_bytes()])
}

/// Of all devices.
pub(crate) fn history_facts() -> Vec<u8> {
    key(Space::Fact, &[&[7]])
}

/// The one row of a device that has no history yet.
pub(crate) fn history_row_key() -> Vec<u8> {
    key(Space::Transfer, &[&[0]])
}

pub(crate) fn history_thread_prefix() -> Vec<u8> {
    key(Space::Transfer, &[&[1]])
}

/// Conversations in the order they are asked for.
pub(crate) fn history_thread_key(number: u64) -> Vec<u8> {
    key(Space::Transfer, &[&[1], &number.to_be_bytes()])
}
