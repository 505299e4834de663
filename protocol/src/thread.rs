//! Thread store: envelopes on their way into a thread's log, and the owner's rows.
//! Rules: docs/protocol/thread.md.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::frame::{Bound, Words};
use crate::id::{
    AccountId, BlobId, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, ParticipantsTag, RelayId, RequestId, Sequence,
    ThreadId,
};
use crate::limits;
use crate::time::Wall;

/// What relays may know of an envelope's purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Class {
    /// Something to show: counts as unread, wakes a phone.
    #[n(0)]
    Message,
    /// Between devices: candidates, receipts.
    #[n(1)]
    Control,
}

/// A sealed message as relays see it: the same bytes on every path.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Envelope {
    /// The thread it belongs to.
    #[n(0)]
    pub thread: ThreadId,
    /// The epoch it was sealed in.
    #[n(1)]
    pub epoch: Epoch,
    /// Its class.
    #[n(2)]
    pub class: Class,
    /// The MLS PrivateMessage (RFC 9420 §6.3).
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

impl Envelope {
    /// The envelope's id.
    pub fn id(&self) -> EnvelopeId {
        EnvelopeId::of(&self.body)
    }

    pub(crate) fn check(&self) -> Result<(), Bound> {
        Bound::bytes("envelope", self.body.len(), limits::ENVELOPE_BODY_BYTES_MAX)
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("thread", &self.thread)
            .field("epoch", &self.epoch)
            .field("class", &self.class)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// One account in a thread, with the devices that have a leaf.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Participant {
    /// Who.
    #[n(0)]
    pub account: AccountId,
    /// The account's home relay.
    #[n(1)]
    pub domain: Domain,
    /// Its devices in the group, ascending.
    #[n(2)]
    pub devices: Vec<DeviceIndex>,
}

impl Participant {
    /// Its devices, by name.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.devices.iter().map(|index| DeviceId { account: self.account, index: *index })
    }
}

/// The cipher suite threads are made with: it is part of what a thread's id is the hash of.
const SUITE: u16 = 0x004f;

/// What a thread's id is the hash of: nobody can make another of the same id, and whoever has this can check who made the
/// thread, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Founding {
    /// Who made it.
    #[n(0)]
    pub creator: AccountId,
    /// The creator's home relay.
    #[n(1)]
    pub hub: RelayId,
    /// Chosen at random.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// A conversation of these people and no others: each of them may change their own devices in it, and nobody anything
    /// else. Otherwise it is a group, and the creator is its admin.
    #[n(3)]
    #[cbor(default)]
    pub fixed: bool,
}

impl Founding {
    /// The thread's id. Of two threads that differ in nothing but whether their people are fixed, the ids differ.
    pub fn thread(&self) -> ThreadId {
        let kind: &[u8] = if self.fixed { b"fixed" } else { b"" };
        let hash = Sha256::new()
            .chain_update(b"whimbrel thread 1\0")
            .chain_update(self.creator.as_bytes())
            .chain_update(self.hub.as_bytes())
            .chain_update(SUITE.to_be_bytes())
            .chain_update(self.nonce)
            .chain_update(kind);
        ThreadId::from_bytes(hash.finalize().into())
    }
}

/// Opens a thread: the group exists at the creator, the others are told by their Welcome (row 6, first message).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OpenThread {
    /// Pairs the answer: [`Stored`], or [`ThreadExists`].
    #[n(0)]
    pub request: RequestId,
    /// The group as created.
    #[n(1)]
    pub opening: Opening,
    /// The creator's tag for exactly these people.
    #[n(2)]
    pub tag: ParticipantsTag,
    /// The GroupInfo of the epoch the Welcome leads to (RFC 9420 §12.4.3), without the tree: a thread that changes needs it,
    /// for its hub judges changes by its public state. At most [`limits::GROUP_INFO_BYTES_MAX`].
    #[n(3)]
    pub info: Option<ByteVec>,
}

/// A new thread, as every relay of its participants is told.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opening {
    /// The thread.
    #[n(0)]
    pub thread: ThreadId,
    /// The epoch the Welcome leads to.
    #[n(1)]
    pub epoch: Epoch,
    /// Everybody, the creator included, ascending by account.
    #[n(2)]
    pub participants: Vec<Participant>,
    /// The MLS Welcome for all added devices (RFC 9420 §12.4.3.1), without the tree.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub welcome: Vec<u8>,
    /// The ratchet tree (RFC 9420 §12.4.3.3).
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub tree: Vec<u8>,
    /// Of a group, whose members may change ([`crate::hub`]). Absent: these people and no others.
    #[n(5)]
    pub founding: Option<Box<Founding>>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("thread", &self.thread)
            .field("epoch", &self.epoch)
            .field("participants", &self.participants)
            .field("welcome_bytes", &self.welcome.len())
            .field("tree_bytes", &self.tree.len())
            .finish()
    }
}

/// Hands in an envelope for its thread.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Submit {
    /// Pairs the answer: [`Stored`].
    #[n(0)]
    pub request: RequestId,
    /// The envelope.
    #[n(1)]
    pub envelope: Envelope,
    /// The newest *Submit* of this link whose refusal for now its sender has heard. Of a thread with one that it has not
    /// heard nothing is taken: what was under way behind it would overtake.
    #[n(2)]
    pub heard: Option<RequestId>,
}

/// The relay has it on disk.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Stored {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// Its place in this relay's log of the thread; zero for an opening.
    #[n(1)]
    pub sequence: Sequence,
}

/// The creator has a thread of exactly these people already.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ThreadExists {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// That thread.
    #[n(1)]
    pub thread: ThreadId,
}

/// Sets the owner's tag of a thread somebody else opened.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TagThread {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The thread.
    #[n(1)]
    pub thread: ThreadId,
    /// The owner's tag for exactly these people.
    #[n(2)]
    pub tag: ParticipantsTag,
}

/// A place in the listing by updated time, newest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ListingPlace {
    /// When the thread last changed, by the relay's clock.
    #[n(0)]
    pub updated: Wall,
    /// Which thread.
    #[n(1)]
    pub thread: ThreadId,
}

/// Asks for the owner's threads, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ListThreads {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The last place of the page before; absent: from the newest.
    #[n(1)]
    pub after: Option<ListingPlace>,
    /// How many, at most [`limits::THREAD_PAGE_MAX`].
    #[n(2)]
    pub limit: u16,
}

/// One row of the thread table, joined with the thread's head.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ThreadRow {
    /// Where it stands in the listing.
    #[n(0)]
    pub place: ListingPlace,
    /// Newest entry of the thread's log here.
    #[n(1)]
    pub head: Sequence,
    /// Messages the asking device has not acknowledged; an estimate, good for badges.
    #[n(2)]
    pub unread: u64,
    /// The owner's tag, once set.
    #[n(3)]
    pub tag: Option<ParticipantsTag>,
    /// The owner's own settings, once set.
    #[n(4)]
    pub settings: Option<ThreadSettings>,
}

/// What an owner keeps about a thread for all devices.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ThreadSettings {
    /// Label, mute, archive, pin: sealed to the owner's devices.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Nobody is woken for this thread before; the one part a relay can read.
    #[n(1)]
    pub quiet_until: Wall,
}

/// Keeps settings of a thread; those kept before are gone.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SetThread {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The thread.
    #[n(1)]
    pub thread: ThreadId,
    /// The settings.
    #[n(2)]
    pub settings: ThreadSettings,
}

/// A page of the listing.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ThreadPage {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The rows, newest first.
    #[n(1)]
    pub rows: Vec<ThreadRow>,
    /// Whether more follow.
    #[n(2)]
    pub more: bool,
}

/// Asks for a large body named by an entry.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FetchBlob {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Which.
    #[n(1)]
    pub blob: BlobId,
}

/// A large body.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Blob {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// Its bytes; their hash is the id asked for.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("request", &self.request).field("bytes", &self.bytes.len()).finish()
    }
}

impl Opening {
    /// Every device of the thread.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.participants.iter().flat_map(Participant::ids)
    }

    pub(crate) fn check(&self) -> Result<(), Bound> {
        roster(&self.participants)
    }
}

/// Everybody in a thread: few enough, and each once.
pub(crate) fn roster(participants: &[Participant]) -> Result<(), Bound> {
    let devices = participants.iter().map(|participant| participant.devices.len()).sum();
    Bound::items("devices of a thread", devices, limits::THREAD_DEVICES_MAX)?;
    ascending(participants)
}

/// Accounts and their devices, each ascending, nobody without a device.
pub(crate) fn ascending(participants: &[Participant]) -> Result<(), Bound> {
    let ascending = participants.is_sorted_by(|a, b| a.account < b.account)
        && participants.iter().all(|p| !p.devices.is_empty() && p.devices.is_sorted_by(|a, b| a < b));
    if ascending { Ok(()) } else { Err(Bound::order("participants")) }
}

impl Words for Stored {}
impl Words for ThreadExists {}
impl Words for TagThread {}
impl Words for FetchBlob {}
impl Words for Blob {}

impl Words for OpenThread {
    fn check(&self) -> Result<(), Bound> {
        let info = self.info.as_ref().map_or(0, |info| info.len());
        Bound::bytes("group info", info, limits::GROUP_INFO_BYTES_MAX)?;
        self.opening.check()
    }
}

impl Words for Submit {
    fn check(&self) -> Result<(), Bound> {
        self.envelope.check()
    }
}

impl Words for ListThreads {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("limit", usize::from(self.limit), limits::THREAD_PAGE_MAX)
    }
}

impl Words for ThreadPage {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("rows", self.rows.len(), limits::THREAD_PAGE_MAX)?;
        self.rows.iter().filter_map(|row| row.settings.as_ref()).try_for_each(settings)
    }
}

impl Words for SetThread {
    fn check(&self) -> Result<(), Bound> {
        settings(&self.settings)
    }
}

fn settings(settings: &ThreadSettings) -> Result<(), Bound> {
    Bound::bytes("thread settings", settings.sealed.len(), limits::THREAD_SETTINGS_BYTES_MAX)
}
