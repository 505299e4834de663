//! Store: the port everything durable goes through, in the words of the domain.
//! Owns: the port and what its reads answer. The commands are in [`command`].
//! Never: a key, a row, a transaction or an iterator in its signatures; a backend on SQL implements [`Store`] itself,
//! backends of ordered keys implement [`Disk`] and share the mapping in [`kv`].
//! Rules: docs/protocol/storage.md.

pub mod command;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod disk;
pub mod kv;

use std::future::Future;

use minicbor::{Decode, Encode};
use whimbrel_protocol::federation::ForwardBody;
use whimbrel_protocol::friendship::{Friend, Standing};
use whimbrel_protocol::hub::Accepted;
use whimbrel_protocol::id::{
    AccountId, BlobId, DeviceId, DeviceIndex, Domain, Epoch, LogHash, Name, ParticipantsTag, PublicKey, RelayId,
    Sequence, ThreadId, TokenHash, TreeHash,
};
use whimbrel_protocol::push::{Entry, LogRef};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{ListingPlace, ThreadRow};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::transparency::{Inclusion, Step};
use whimbrel_protocol::user::{ExportedRow, OpenInvite};
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::StorageError;

pub use self::command::{Command, Conflict, Outcome};
pub use self::disk::{Disk, InlineDisk, InlineStore, KvStore};

macro_rules! chosen {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] #[cbor(with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// Wraps 16 random bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, "{}({a:02x}{b:02x}{c:02x}{d:02x}…)", stringify!($name))
            }
        }
    };
}

chosen!(
    /// A log of this relay: chosen at random when the thread or account reaches it, so that nothing that comes back
    /// under an old name ever sees what was there before.
    LogId
);
chosen!(
    /// What a device's cursors hang on: chosen at random when the device becomes known here.
    MailboxId
);

/// Why the store did not do what it was told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The command's own conditions do not hold. Nothing of it was written.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// No space left; nothing was written. Later, or with less, it may go.
    #[error("the store is full")]
    Full,
    /// The backend failed. Whether anything was written is not known until it is opened again.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => Self::Full,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// An account that lives here.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Account {
    /// Its name at this relay.
    #[n(0)]
    pub name: Name,
    /// Sequence of the newest entry of its log.
    #[n(1)]
    pub log_seq: u64,
    /// Hash of that entry.
    #[n(2)]
    pub log_hash: LogHash,
    /// Its devices, ascending.
    #[n(3)]
    pub devices: Vec<AccountDevice>,
    /// Its inbox log.
    #[n(4)]
    pub inbox: LogId,
}

impl Account {
    /// One of its devices.
    pub fn device(&self, index: DeviceIndex) -> Option<&AccountDevice> {
        self.devices.iter().find(|device| device.index == index)
    }
}

/// A device of an account that lives here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct AccountDevice {
    /// Its place in the account log.
    #[n(0)]
    pub index: DeviceIndex,
    /// Signs for it.
    #[n(1)]
    pub device_key: PublicKey,
    /// Its certificate's key.
    #[n(2)]
    pub transport_key: PublicKey,
    /// Where its cursors hang.
    #[n(3)]
    pub mailbox: MailboxId,
}

/// A run of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPage {
    /// The entries after the place asked for, ascending, with what decides whom each is for.
    pub entries: Vec<Entry>,
    /// The place asked for, or beyond it where entries are gone: nothing is left out after it.
    pub whole_after: Sequence,
    /// Where the page ends: the last entry's place, or the place asked for, or beyond it where entries are gone.
    pub upto: Sequence,
    /// The newest entry of the log when the page was read.
    pub head: Sequence,
}

/// One log a device reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceLog {
    /// The log.
    pub log: LogId,
    /// What the device calls it.
    pub which: LogRef,
    /// What the device has, as far as it was written.
    pub cursor: Sequence,
    /// Nothing between `cursor` and this is for the device.
    pub start: Sequence,
    /// The epochs the device has a leaf in.
    pub epochs: Epochs,
    /// The newest entry of the log.
    pub head: Sequence,
    /// Nothing beyond is for the device: it has no leaf any more.
    pub end: Option<Sequence>,
}

/// Earlier leaves of a device whose entries it has not fetched: beyond, it is handed some that it cannot open.
pub const GAPS: usize = 4;

/// From the first epoch with a leaf to the last; `last` is absent while the leaf is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Epochs {
    /// The first.
    #[n(0)]
    pub first: Epoch,
    /// The last.
    #[n(1)]
    pub last: Option<Epoch>,
    /// The last epoch of an earlier leaf and the first of the next one, newest last: those between are not for the device.
    #[n(2)]
    #[cbor(default)]
    pub gaps: [Option<(Epoch, Epoch)>; GAPS],
}

impl Epochs {
    /// Every epoch there is.
    pub const ALL: Self = Self::since(Epoch::new(0));

    /// From this one on.
    pub const fn since(first: Epoch) -> Self {
        Self { first, last: None, gaps: [None; GAPS] }
    }

    /// The same device with another leaf, from this epoch on.
    #[must_use]
    pub fn again(&self, first: Epoch) -> Self {
        let Some(last) = self.last else { return *self };
        let mut gaps = self.gaps;
        gaps.rotate_left(1);
        if let Some(newest) = gaps.last_mut() {
            *newest = Some((last, first));
        }
        Self { first: self.first, last: None, gaps }
    }

    /// The first epoch of the newest leaf.
    pub fn newest(&self) -> Epoch {
        self.gaps.last().copied().flatten().map_or(self.first, |(_, first)| first)
    }

    /// The last epoch of the leaf that an entry of this epoch was sealed with, if the device has that leaf no more.
    pub fn lost(&self, epoch: Epoch) -> Option<Epoch> {
        let ends = self.gaps.iter().flatten().map(|(last, _)| *last).chain(self.last);
        ends.filter(|last| epoch <= *last).min()
    }

    /// Whether an entry of this epoch is for the device.
    pub fn contain(&self, epoch: Epoch) -> bool {
        let between = self.gaps.iter().flatten().any(|(last, first)| *last < epoch && epoch < *first);
        self.first <= epoch && self.last.is_none_or(|last| epoch <= last) && !between
    }
}

/// Where what nobody keeps may go: to those who are in a thread and there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hearers {
    /// The log whose readers are there, or not.
    pub log: LogId,
    /// The epoch they have a leaf in.
    pub epoch: Epoch,
    /// The other relays of the thread; none for what came from one of them.
    pub peers: Vec<Domain>,
}

/// What a hub judges a commit by: the public state of an epoch, and how the thread came from there to the present one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicState {
    /// The thread's epoch.
    pub epoch: Epoch,
    /// The epoch the commits begin at.
    pub from: Epoch,
    /// The state of that epoch, saved; absent where the caller has it.
    pub saved: Option<Vec<u8>>,
    /// From there to the present.
    pub commits: Vec<Vec<u8>>,
    /// Whether the present state is to be written with the next commit.
    pub due: bool,
}

/// A page of an owner's threads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Newest first.
    pub rows: Vec<ThreadRow>,
    /// Whether more follow.
    pub more: bool,
}

/// Names a row that waits for a peer relay. The opening of a thread has sequence zero, so it goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OutboundKey {
    /// The thread's log here.
    pub log: LogId,
    /// The entry's place in it.
    pub sequence: Sequence,
}

/// A row that waits for a peer relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// Its name.
    pub key: OutboundKey,
    /// What is to be forwarded; absent when the log's bound has pushed the entry out meanwhile.
    pub body: Option<ForwardBody>,
}

/// Where a device is woken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wake {
    /// Where, once confirmed.
    pub live: Option<WakeEndpoint>,
    /// Whether a challenge waits for its answer.
    pub asked: bool,
}

/// The tree over the account logs at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeView {
    /// How many leaves it has.
    pub size: u64,
    /// Their root.
    pub root: TreeHash,
    /// How each earlier tree asked for is part of it.
    pub steps: Vec<Step>,
    /// The newest entry of the account asked for.
    pub entry: Option<Inclusion>,
}

/// A part of what a relay keeps of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportPage {
    /// Rows, in a stable order.
    pub rows: Vec<ExportedRow>,
    /// Where this part ended; absent: there is no more.
    pub next: Option<Vec<u8>>,
}

/// On whose word a peer is who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum PinnedBy {
    /// The operator's, in the configuration. Kept when the entry is gone: the domain is then not talked to, and nobody
    /// else is let in under its name.
    #[n(0)]
    Operator,
    /// This own user's, who followed an invite link there.
    #[n(1)]
    Hint(#[n(0)] AccountId),
    /// This own user's, whose invite led the peer here.
    #[n(2)]
    Introduction(#[n(0)] AccountId),
}

/// Who a peer relay must be, as first learnt.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Pin {
    /// The identity it must show.
    #[n(0)]
    pub relay: RelayId,
    /// `host:port` of its QUIC socket.
    #[n(1)]
    pub endpoint: String,
    /// On whose word.
    #[n(2)]
    pub by: PinnedBy,
}

/// What every durable backend does. Commands are durable when their future is ready, refusals included: they tell of
/// state that a crash could otherwise still take back.
///
/// Whatever order `commit` and `commit_all` are first polled in is the order the store decides in.
pub trait Store: Send + Sync + 'static {
    /// Decides one command and makes it durable.
    fn commit(&self, command: Command) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Decides commands in order, each seeing those before it, in one durable group; a conflict of one does not stop
    /// the others.
    fn commit_all(
        &self,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<Vec<Result<Outcome, Conflict>>, StoreError>> + Send;

    /// An account that lives here.
    fn account(&self, account: AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send;

    /// The account behind a name.
    fn account_by_name(&self, name: Name) -> impl Future<Output = Result<Option<AccountId>, StoreError>> + Send;

    /// The invites of an account that can be used at this time.
    fn live_invites(
        &self,
        owner: AccountId,
        at: Wall,
    ) -> impl Future<Output = Result<Vec<TokenHash>, StoreError>> + Send;

    /// An account's log, as signed.
    fn account_log(&self, account: AccountId) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// One-time KeyPackages left of a device.
    fn package_count(&self, device: DeviceId) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Whether an invitation that waits in an account's inbox names a large body.
    fn names(&self, account: AccountId, blob: BlobId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// A large body.
    fn blob(&self, blob: BlobId) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// The commit that ended an epoch of a thread, for a device that had a leaf in it.
    fn commit_of(
        &self,
        device: DeviceId,
        thread: ThreadId,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Option<Accepted>, StoreError>> + Send;

    /// What this relay, as the hub of a thread, judges a commit by: absent unless the author may hand it in here, and it is for
    /// the thread's epoch. `have` is an epoch whose public state the caller has.
    fn public_state(
        &self,
        author: DeviceId,
        origin: command::Origin,
        commit: (ThreadId, Epoch),
        have: Option<Epoch>,
    ) -> impl Future<Output = Result<Option<PublicState>, StoreError>> + Send;

    /// Entries of a log after a place: at most `limit` and, from the second on, at most `bytes_max` of them.
    fn log_page(
        &self,
        log: LogId,
        after: Sequence,
        limit: usize,
        bytes_max: usize,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;

    /// The logs a device reads, by log id, after one of them.
    fn device_logs(
        &self,
        mailbox: MailboxId,
        after: Option<LogId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeviceLog>, StoreError>> + Send;

    /// An owner's threads by updated time, newest first, joined with their heads; `mailbox` is the asking device's.
    fn thread_rows(
        &self,
        owner: AccountId,
        mailbox: MailboxId,
        after: Option<ListingPlace>,
        limit: usize,
    ) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// An owner's thread by participants tag.
    fn thread_by_tag(
        &self,
        owner: AccountId,
        tag: ParticipantsTag,
    ) -> impl Future<Output = Result<Option<ThreadId>, StoreError>> + Send;

    /// Rows that wait for a peer, by key, after one of them; bounded like [`Store::log_page`].
    fn outbound(
        &self,
        peer: Domain,
        after: Option<OutboundKey>,
        limit: usize,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<Outbound>, StoreError>> + Send;

    /// Peers with waiting rows, by domain, after one of them.
    fn waiting_peers(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Domain>, StoreError>> + Send;

    /// The open invites of an account, by token hash.
    fn invites(&self, owner: AccountId) -> impl Future<Output = Result<Vec<OpenInvite>, StoreError>> + Send;

    /// The open invitations to register, by token hash, after one of them.
    fn registrations(
        &self,
        after: Option<TokenHash>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OpenInvite>, StoreError>> + Send;

    /// An owner's list, by account, after one of them.
    fn friends(
        &self,
        owner: AccountId,
        after: Option<AccountId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Friend>, StoreError>> + Send;

    /// How an owner's list stands with somebody, whether they may see, and where they live.
    fn standing(
        &self,
        owner: AccountId,
        other: AccountId,
    ) -> impl Future<Output = Result<Option<(Standing, bool, Domain)>, StoreError>> + Send;

    /// Whether an account is not shown to be there.
    fn hidden(&self, owner: AccountId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// An account's card.
    fn profile(&self, owner: AccountId) -> impl Future<Output = Result<Option<Signed>, StoreError>> + Send;

    /// Where a signal of a device may go, sealed in an epoch and come from there; nothing: nowhere.
    fn hearers(
        &self,
        thread: ThreadId,
        signal: (DeviceId, Epoch),
        origin: command::Origin,
    ) -> impl Future<Output = Result<Option<Hearers>, StoreError>> + Send;

    /// The threads in which these devices of an account have a leaf, so many, those in which something was said last, and where
    /// what its relay says to whoever is there may go.
    fn surroundings(
        &self,
        account: AccountId,
        devices: Vec<DeviceIndex>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(ThreadId, Hearers)>, StoreError>> + Send;

    /// Where what a peer says in a thread of an account of its own may go; nothing: it has none there.
    fn surrounding_of(
        &self,
        thread: ThreadId,
        account: AccountId,
        peer: Domain,
    ) -> impl Future<Output = Result<Option<Hearers>, StoreError>> + Send;

    /// Where a device is woken.
    fn wake(&self, device: DeviceId) -> impl Future<Output = Result<Wake, StoreError>> + Send;

    /// The local devices that read a log and can be woken for it at this time, by device, after one of them.
    fn sleepers(
        &self,
        log: LogId,
        at: Wall,
        after: Option<DeviceId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(DeviceId, MailboxId)>, StoreError>> + Send;

    /// Everything kept of an account, after a place.
    fn export(
        &self,
        account: AccountId,
        after: Vec<u8>,
        limit: usize,
    ) -> impl Future<Output = Result<ExportPage, StoreError>> + Send;

    /// Of the logs after one of them, at most `limit`, those whose oldest entry was written before this time; and the
    /// last one looked at, if there are more.
    fn stale_logs(
        &self,
        before: Wall,
        after: Option<LogId>,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<LogId>, Option<LogId>), StoreError>> + Send;

    /// The tree over the account logs, with an account's newest entry and how trees of these sizes are part of it, as it is
    /// shown to `asker`.
    fn tree(
        &self,
        account: Option<AccountId>,
        from: Vec<u64>,
        asker: Option<AccountId>,
    ) -> impl Future<Output = Result<TreeView, StoreError>> + Send;

    /// Deleted accounts with rows left.
    fn to_purge(&self, limit: usize) -> impl Future<Output = Result<Vec<AccountId>, StoreError>> + Send;

    /// Who peers must be, as far as it was ever learnt, by domain, after one of them.
    fn pins(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Domain, Pin)>, StoreError>> + Send;
}
