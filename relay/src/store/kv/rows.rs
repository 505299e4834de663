//! Rows: the key spaces of a relay's ordered store, their keys and values.
//! Owns: the one-byte spaces (a number is never used again for something else), key forms, typed get and put.
//! Never: decides anything.
//!
//! Integers in keys are big-endian, so that they sort; a text ends with a zero byte, which none contains.

use minicbor::{Decode, Encode};
use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::hub::{Accepted, Receipt};
use whimbrel_protocol::id::{
    AccountId, BlobId, CommitHash, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, LogHash, Name, ParticipantsTag,
    Sequence, ThreadId, TokenHash,
};
use whimbrel_protocol::push::{EntryBody, Invitation, LogRef};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{Founding, ThreadSettings};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

use crate::store::{Epochs, LogId, MailboxId};

pub(super) mod space {
    /// name -> account id.
    pub(crate) const NAME: u8 = 1;
    /// account -> [`crate::store::Account`].
    pub(crate) const ACCOUNT: u8 = 2;
    /// account -> the account log, as signed.
    pub(crate) const ACCOUNT_LOG: u8 = 3;
    /// account -> [`super::OwnerRow`].
    pub(crate) const OWNER: u8 = 4;
    /// device -> [`super::StockRow`].
    pub(crate) const STOCK: u8 = 5;
    /// device, number -> a one-time KeyPackage.
    pub(crate) const PACKAGE: u8 = 6;
    /// device -> the last-resort KeyPackage.
    pub(crate) const LAST_RESORT: u8 = 7;
    /// owner, other -> the other's home domain. Of version 1; now [`FRIEND`].
    pub(crate) const CONSENT: u8 = 8;
    /// owner, token hash -> [`super::InviteRow`].
    pub(crate) const INVITE: u8 = 9;
    /// thread -> [`super::ThreadMeta`].
    pub(crate) const THREAD: u8 = 10;
    /// log -> [`super::LogRow`].
    pub(crate) const LOG: u8 = 11;
    /// log, sequence -> [`super::EntryRow`].
    pub(crate) const ENTRY: u8 = 12;
    /// log, sequence -> envelope id, of the newest entries, trimmed or not.
    pub(crate) const TAIL: u8 = 13;
    /// log, device -> [`super::Member`].
    pub(crate) const MEMBER: u8 = 14;
    /// mailbox, log -> [`super::CursorRow`].
    pub(crate) const CURSOR: u8 = 15;
    /// owner, thread -> [`super::OwnRow`].
    pub(crate) const ROW: u8 = 16;
    /// owner, participants tag -> thread.
    pub(crate) const TAG: u8 = 17;
    /// blob -> its bytes.
    pub(crate) const BLOB: u8 = 18;
    /// peer, log, sequence -> nothing; for an opening, which has sequence zero, the invitation that names its blobs; for a
    /// commit [`super::OutgoingRow`].
    pub(crate) const OUTBOUND: u8 = 19;
    /// peer -> how many outbound rows wait.
    pub(crate) const WAITING: u8 = 20;
    /// peer -> [`crate::store::Pin`].
    pub(crate) const PIN: u8 = 21;
    /// One row: how many peers are pinned by people's links.
    pub(crate) const LINKED: u8 = 22;
    /// owner, other -> [`super::FriendRow`].
    pub(crate) const FRIEND: u8 = 23;
    /// account -> [`super::ProfileRow`].
    pub(crate) const PROFILE: u8 = 24;
    /// token hash -> [`super::InviteRow`]: who may register.
    pub(crate) const REGISTRATION: u8 = 25;
    /// device -> [`super::WakeRow`].
    pub(crate) const WAKE: u8 = 26;
    /// account -> [`crate::store::Account`]: deleted, with rows left.
    pub(crate) const PURGE: u8 = 27;
    /// blob -> how many rows name it. A blob without this row was left unnamed by version 2, and stays.
    pub(crate) const NAMED: u8 = 28;
    /// log, epoch -> [`super::CommitRow`]: the commit that ended it.
    pub(crate) const COMMIT: u8 = 29;
    /// log, epoch -> [`super::EpochRow`]: when it ended, for as long as its commit is there.
    pub(crate) const EPOCH: u8 = 30;
    /// log -> [`super::PublicRow`]: a thread's public state in some epoch, at its hub.
    pub(crate) const PUBLIC: u8 = 42;
    /// owner, other -> the newest invite that is nothing to the other any more, for the owner has parted with them since.
    pub(crate) const PARTED: u8 = 36;
    /// level, index -> the hash of a node of the tree over the account logs. Never changed.
    pub(crate) const TREE_NODE: u8 = 46;
    /// One row: how many leaves that tree has.
    pub(crate) const TREE_SIZE: u8 = 47;
    /// account -> [`super::LeafRow`]: its newest leaf.
    pub(crate) const LEAF: u8 = 48;
    /// device -> [`whimbrel_protocol::reception::Stamp`]: how far its store has come.
    pub(crate) const STAMP: u8 = 49;
}

/// Counts of what an account owns.
#[derive(Clone, Copy, Default, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct OwnerRow {
    #[n(0)]
    pub(super) threads: u32,
    #[n(1)]
    pub(super) invites: u32,
    /// Peers pinned on the account's word.
    #[n(2)]
    pub(super) peers: u32,
    /// Rows of the account's list.
    #[n(3)]
    #[cbor(default)]
    pub(super) friends: u32,
    /// Of those, requests to the account.
    #[n(4)]
    #[cbor(default)]
    pub(super) asking: u32,
    /// The last day on which the account made requests, and how many.
    #[n(5)]
    #[cbor(default)]
    pub(super) asked: (u64, u32),
    /// The account is not shown to be there.
    #[n(6)]
    #[cbor(default)]
    pub(super) hidden: bool,
    /// How many invites the account has made.
    #[n(7)]
    #[cbor(default)]
    pub(super) made: u64,
    /// Rows of people who may not use the account's earlier invites.
    #[n(8)]
    #[cbor(default)]
    pub(super) parted: u32,
}

/// How an owner stands with another account.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct FriendRow {
    #[n(0)]
    pub(super) domain: Domain,
    #[n(1)]
    pub(super) standing: Standing,
    /// Whether the other may see when the owner is there.
    #[n(2)]
    pub(super) sees: bool,
    #[n(3)]
    pub(super) since: Wall,
    /// While the other asks: its request.
    #[n(4)]
    pub(super) word: Option<Signed>,
    /// When the other's newest word was said, by its clock.
    #[n(5)]
    #[cbor(default)]
    pub(super) said: Wall,
}

impl FriendRow {
    pub(super) const fn new(domain: Domain, standing: Standing, since: Wall) -> Self {
        Self { domain, standing, sees: true, since, word: None, said: Wall::from_millis(0) }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct ProfileRow {
    #[n(0)]
    pub(super) revision: u64,
    #[n(1)]
    pub(super) card: Signed,
}

/// An account's newest leaf in the tree over the account logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct LeafRow {
    #[n(0)]
    pub(super) index: u64,
    #[n(1)]
    pub(super) seq: u64,
    #[n(2)]
    pub(super) hash: LogHash,
}

/// Where a device is woken, and where it asked to be.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct WakeRow {
    #[n(0)]
    pub(super) live: Option<WakeEndpoint>,
    #[n(1)]
    pub(super) asked: Option<Challenge>,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Challenge {
    #[n(0)]
    pub(super) endpoint: WakeEndpoint,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) code: [u8; 16],
    #[n(2)]
    pub(super) at: Wall,
}

/// Which numbers of one-time KeyPackages are there: `first <= number < next`.
#[derive(Clone, Copy, Default, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct StockRow {
    #[n(0)]
    pub(super) first: u64,
    #[n(1)]
    pub(super) next: u64,
}

impl StockRow {
    pub(super) fn left(self) -> u32 {
        u32::try_from(self.next.saturating_sub(self.first)).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct InviteRow {
    #[n(0)]
    pub(super) left: u32,
    #[n(1)]
    pub(super) expires: Wall,
    /// Of an account's: the how manieth it was.
    #[n(2)]
    #[cbor(default)]
    pub(super) number: u64,
}

impl InviteRow {
    pub(super) fn is_live(&self, at: Wall) -> bool {
        self.left > 0 && self.expires > at
    }
}

/// What holds for a thread at this relay.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct ThreadMeta {
    #[n(0)]
    pub(super) log: LogId,
    #[n(1)]
    pub(super) epoch: Epoch,
    /// What makes two openings the same.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) fingerprint: [u8; 32],
    /// How many accounts there are.
    #[n(3)]
    pub(super) people: u32,
    /// The other relays with participants, ascending.
    #[n(4)]
    pub(super) others: Vec<Domain>,
    /// Between two: those who live here. Whoever writes needs the other's consent.
    #[n(5)]
    #[cbor(default)]
    pub(super) gate: Vec<AccountId>,
    /// The relay that orders the commits; absent: this one.
    #[n(6)]
    pub(super) hub: Option<Domain>,
    /// Of a group. Absent: these people and no others.
    #[n(7)]
    pub(super) founding: Option<Founding>,
    #[n(8)]
    #[cbor(default)]
    pub(super) term: u64,
    /// Relays without a member, for which something may still wait.
    #[n(9)]
    #[cbor(default)]
    pub(super) former: Vec<Domain>,
    /// The newest commit.
    #[n(10)]
    pub(super) last: Option<Receipt>,
    /// The first epoch anybody here had a leaf in.
    #[n(11)]
    #[cbor(default)]
    pub(super) first: Epoch,
    /// The last epoch of whoever was taken out latest.
    #[n(12)]
    pub(super) parted: Option<Epoch>,
    /// Relays that forwarded something sealed after an epoch in which somebody was taken out: what they forward from then on
    /// they took when they knew of it.
    #[n(13)]
    #[cbor(default)]
    pub(super) aware: Vec<(Domain, Epoch)>,
    /// At the hub: where the public state that is written stands. The commits from there on are kept. Absent at other relays,
    /// and of a thread that was opened without: nobody can judge its changes, and it has none.
    #[n(14)]
    pub(super) public: Option<PublicMark>,
}

/// How far behind a written public state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct PublicMark {
    /// The epoch it is of.
    #[n(0)]
    pub(super) epoch: Epoch,
    /// Bytes of the commits since.
    #[n(1)]
    pub(super) bytes: u64,
}

/// A public state, as the engine saved it.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct PublicRow {
    #[n(0)]
    pub(super) epoch: Epoch,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) saved: Vec<u8>,
}

impl ThreadMeta {
    /// Whether a relay that forwards now had the commit that ended this epoch when it took what it forwards. It forwards in the
    /// order in which it took, and takes nothing of an epoch it has not reached.
    pub(super) fn was_aware(&self, relay: &Domain, ended: Epoch) -> bool {
        self.aware.iter().any(|(domain, epoch)| domain == relay && *epoch > ended)
    }

    /// A relay forwarded something of this epoch. Says whether that is news: once for each time somebody was taken out.
    pub(super) fn learns(&mut self, relay: &Domain, epoch: Epoch) -> bool {
        if self.parted.is_none_or(|parted| epoch <= parted || self.was_aware(relay, parted)) {
            return false;
        }
        match self.aware.iter_mut().find(|(domain, _)| domain == relay) {
            Some((_, known)) => *known = epoch,
            None => self.aware.push((relay.clone(), epoch)),
        }
        true
    }
}

/// A commit that holds, kept whether or not everybody has its entry.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct CommitRow {
    #[n(0)]
    pub(super) accepted: Accepted,
}

/// The end of an epoch, in few bytes.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct EpochRow {
    /// By this relay's clock.
    #[n(0)]
    pub(super) ended: Wall,
    #[n(1)]
    pub(super) commit: CommitHash,
}

/// A commit on its way to a peer.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct OutgoingRow {
    /// The epoch it ended: its name among the commits that are kept.
    #[n(0)]
    pub(super) epoch: Epoch,
    /// For the peer's newcomers, if there are any.
    #[n(1)]
    pub(super) invitation: Option<Invitation>,
}

/// A log's head and trim point. What is held is a subtraction of the two.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct LogRow {
    #[n(0)]
    pub(super) which: LogRef,
    #[n(1)]
    pub(super) head: Sequence,
    #[n(2)]
    pub(super) updated: Wall,
    /// Cumulative, trimmed entries included.
    #[n(3)]
    pub(super) total: Total,
    /// Everything up to here is gone.
    #[n(4)]
    pub(super) trimmed: Sequence,
    /// The totals at the trim point.
    #[n(5)]
    pub(super) trimmed_total: Total,
}

/// Cumulative counts up to an entry.
#[derive(Clone, Copy, Default, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Total {
    #[n(0)]
    pub(super) bytes: u64,
    #[n(1)]
    pub(super) messages: u64,
}

impl LogRow {
    pub(super) const fn new(which: LogRef, updated: Wall) -> Self {
        let zero = Total { bytes: 0, messages: 0 };
        Self { which, head: Sequence::ZERO, updated, total: zero, trimmed: Sequence::ZERO, trimmed_total: zero }
    }

    pub(super) fn entries(&self) -> u64 {
        self.head.get().saturating_sub(self.trimmed.get())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.total.bytes.saturating_sub(self.trimmed_total.bytes)
    }
}

#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct EntryRow {
    /// The log's totals with this entry.
    #[n(0)]
    pub(super) total: Total,
    #[n(1)]
    pub(super) body: EntryBody,
    /// When it was written.
    #[n(2)]
    #[cbor(default)]
    pub(super) at: Wall,
}

/// A device with a leaf, or a reader of an inbox.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Member {
    #[n(0)]
    pub(super) epochs: Epochs,
    #[n(1)]
    pub(super) home: Home,
    /// When it went on from without, here at the hub: the newest `limits::REJOINS_PER_DAY`, in order.
    #[n(2)]
    #[cbor(default)]
    pub(super) rejoined: Vec<Wall>,
}

impl Member {
    pub(super) const fn new(epochs: Epochs, home: Home) -> Self {
        Self { epochs, home, rejoined: Vec::new() }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Home {
    /// Here: with a cursor.
    #[n(0)]
    Here(#[n(0)] MailboxId),
    /// At this peer.
    #[n(1)]
    Peer(#[n(0)] Domain),
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct CursorRow {
    #[n(0)]
    pub(super) upto: Sequence,
    #[n(1)]
    pub(super) epochs: Epochs,
    /// Of a device without a leaf: the commit that took it. Nothing beyond is for it.
    #[n(2)]
    pub(super) end: Option<Sequence>,
    /// Of a device that came later: nothing between `upto` and this is for it.
    #[n(3)]
    #[cbor(default)]
    pub(super) start: Sequence,
}

impl CursorRow {
    pub(super) const fn new(upto: Sequence, epochs: Epochs) -> Self {
        Self { upto, epochs, end: None, start: Sequence::ZERO }
    }

    /// Up to where nothing waits for the device.
    pub(super) fn reached(&self) -> Sequence {
        self.upto.max(self.start)
    }

    /// Whether the device has all there will ever be for it.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.upto >= end)
    }
}

/// The owner's own view of a thread.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct OwnRow {
    #[n(0)]
    pub(super) tag: Option<ParticipantsTag>,
    /// When it last moved without an entry here.
    #[n(1)]
    pub(super) touched: Wall,
    #[n(2)]
    pub(super) log: LogId,
    #[n(3)]
    pub(super) settings: Option<ThreadSettings>,
}

fn key(space: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(space);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn name(name: &Name) -> Vec<u8> {
    key(space::NAME, &[name.as_str().as_bytes()])
}

pub(super) fn of_account(space: u8, account: AccountId) -> Vec<u8> {
    key(space, &[account.as_bytes()])
}

pub(super) fn of_device(space: u8, device: DeviceId) -> Vec<u8> {
    key(space, &[device.account.as_bytes(), &device.index.get().to_be_bytes()])
}

pub(super) fn package(device: DeviceId, number: u64) -> Vec<u8> {
    key(space::PACKAGE, &[device.account.as_bytes(), &device.index.get().to_be_bytes(), &number.to_be_bytes()])
}

pub(super) fn tree_node(level: u8, index: u64) -> Vec<u8> {
    key(space::TREE_NODE, &[&[level], &index.to_be_bytes()])
}

pub(super) fn friend(owner: AccountId, other: AccountId) -> Vec<u8> {
    key(space::FRIEND, &[owner.as_bytes(), other.as_bytes()])
}

pub(super) fn parted(owner: AccountId, other: AccountId) -> Vec<u8> {
    key(space::PARTED, &[owner.as_bytes(), other.as_bytes()])
}

pub(super) fn registration(token: TokenHash) -> Vec<u8> {
    key(space::REGISTRATION, &[token.as_bytes()])
}

pub(super) fn invite(owner: AccountId, token: TokenHash) -> Vec<u8> {
    key(space::INVITE, &[owner.as_bytes(), token.as_bytes()])
}

pub(super) fn thread(thread: ThreadId) -> Vec<u8> {
    key(space::THREAD, &[thread.as_bytes()])
}

pub(super) fn log(log: LogId) -> Vec<u8> {
    key(space::LOG, &[log.as_bytes()])
}

pub(super) fn public(log: LogId) -> Vec<u8> {
    key(space::PUBLIC, &[log.as_bytes()])
}

pub(super) fn of_log(space: u8, log: LogId, sequence: Sequence) -> Vec<u8> {
    key(space, &[log.as_bytes(), &sequence.get().to_be_bytes()])
}

/// Of which log a row shows something to whoever reads it: an entry, or what goes to a peer.
pub(super) fn log_shown_by(key: &[u8]) -> Option<LogId> {
    let log = match key.split_first()? {
        (&space::ENTRY, rest) => rest.first_chunk(),
        (&space::OUTBOUND, rest) => rest.split_last_chunk::<8>()?.0.last_chunk(),
        _ => None,
    };
    log.copied().map(LogId::from_bytes)
}

pub(super) fn epochs(space: u8, log: LogId) -> Vec<u8> {
    key(space, &[log.as_bytes()])
}

pub(super) fn of_epoch(space: u8, log: LogId, epoch: Epoch) -> Vec<u8> {
    key(space, &[log.as_bytes(), &epoch.get().to_be_bytes()])
}

pub(super) fn members(log: LogId) -> Vec<u8> {
    key(space::MEMBER, &[log.as_bytes()])
}

pub(super) fn member(log: LogId, device: DeviceId) -> Vec<u8> {
    key(space::MEMBER, &[log.as_bytes(), device.account.as_bytes(), &device.index.get().to_be_bytes()])
}

pub(super) fn cursors(mailbox: MailboxId) -> Vec<u8> {
    key(space::CURSOR, &[mailbox.as_bytes()])
}

pub(super) fn cursor(mailbox: MailboxId, log: LogId) -> Vec<u8> {
    key(space::CURSOR, &[mailbox.as_bytes(), log.as_bytes()])
}

pub(super) fn row(owner: AccountId, thread: ThreadId) -> Vec<u8> {
    key(space::ROW, &[owner.as_bytes(), thread.as_bytes()])
}

pub(super) fn tag(owner: AccountId, tag: ParticipantsTag) -> Vec<u8> {
    key(space::TAG, &[owner.as_bytes(), tag.as_bytes()])
}

pub(super) fn blob(blob: BlobId) -> Vec<u8> {
    key(space::BLOB, &[blob.as_bytes()])
}

pub(super) fn named(blob: BlobId) -> Vec<u8> {
    key(space::NAMED, &[blob.as_bytes()])
}

pub(super) fn of_peer(space: u8, peer: &Domain) -> Vec<u8> {
    key(space, &[peer.as_str().as_bytes(), &[0]])
}

pub(super) fn outbound_of_log(peer: &Domain, log: LogId) -> Vec<u8> {
    key(space::OUTBOUND, &[peer.as_str().as_bytes(), &[0], log.as_bytes()])
}

pub(super) fn outbound(peer: &Domain, log: LogId, sequence: Sequence) -> Vec<u8> {
    let number = sequence.get().to_be_bytes();
    key(space::OUTBOUND, &[peer.as_str().as_bytes(), &[0], log.as_bytes(), &number])
}

/// The first key behind all keys with this prefix.
pub(super) fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

/// The first key behind this one.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut after = key.to_vec();
    after.push(0);
    after
}

/// What a key holds behind its prefix.
pub(super) fn rest<const N: usize>(key: &[u8], prefix: usize) -> Result<[u8; N], StorageError> {
    key.get(prefix..).and_then(|rest| rest.try_into().ok()).ok_or_else(|| damaged(key, "a key of another length"))
}

/// The device at the end of a member's key.
pub(super) fn device_of(key: &[u8], prefix: usize) -> Result<DeviceId, StorageError> {
    let named: [u8; 36] = rest(key, prefix)?;
    let (account, index) = named.split_at(32);
    let account = AccountId::try_from(account).map_err(|_| damaged(key, "no account"))?;
    let index = index.try_into().map(u32::from_be_bytes).map_err(|_| damaged(key, "no device"))?;
    Ok(DeviceId { account, index: DeviceIndex::new(index) })
}

pub(super) fn damaged(key: &[u8], what: &str) -> StorageError {
    StorageError::Damaged { space: key.first().copied().unwrap_or(0), what: what.to_owned() }
}

pub(super) fn read<T: for<'b> Decode<'b, ()>>(key: &[u8], bytes: &[u8]) -> Result<T, StorageError> {
    // Written by `put`; the store has checked that the bytes are the ones written.
    minicbor::decode(bytes).map_err(|error| damaged(key, &error.to_string()))
}

pub(super) fn get<T: for<'b> Decode<'b, ()>>(reads: &dyn Reads, key: &[u8]) -> Result<Option<T>, StorageError> {
    reads.get(key)?.map(|bytes| read(key, &bytes)).transpose()
}

pub(super) fn put<T: Encode<()>>(rows: &mut Overlay<'_>, key: Vec<u8>, value: &T) {
    rows.put(key, canonical::encode(value));
}

/// Every row with this prefix, up to `limit`.
pub(super) fn scan(reads: &dyn Reads, prefix: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
    reads.scan(prefix, &end(prefix), Order::Ascending, limit)
}

/// The envelope id in a tail row.
pub(super) fn tail_id(key: &[u8], value: &[u8]) -> Result<EnvelopeId, StorageError> {
    EnvelopeId::try_from(value).map_err(|_| damaged(key, "no envelope id"))
}

/// What an entry or a row for a peer names bodies with, if it does.
pub(super) fn invitation(key: &[u8], value: &[u8]) -> Result<Option<Invitation>, StorageError> {
    match key.first().copied() {
        Some(space::ENTRY) => Ok(match read::<EntryRow>(key, value)?.body {
            EntryBody::Invitation(invitation) => Some(invitation),
            EntryBody::Envelope(..) | EntryBody::Undelivered(_) | EntryBody::Friendship(_) | EntryBody::Commit(_) => {
                None
            }
        }),
        _ if value.is_empty() => Ok(None),
        // An opening stands before a log's first entry; a commit has its entry's number.
        _ if sequence_of(key)? == Sequence::ZERO => read(key, value).map(Some),
        _ => Ok(read::<OutgoingRow>(key, value)?.invitation),
    }
}

/// The sequence at the end of an entry's, tail's or outbound row's key.
pub(super) fn sequence_of(key: &[u8]) -> Result<Sequence, StorageError> {
    rest(key, key.len().saturating_sub(8)).map(|bytes| Sequence::new(u64::from_be_bytes(bytes)))
}
