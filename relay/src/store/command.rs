//! Commands: what the store can be told to do, each whole or not at all, each carrying its own conditions.
//! Owns: the commands, their outcomes and conflicts.
//! Never: decides one (`kv`); a condition that must hold when the write happens is here and nowhere else.
//! Rules: docs/protocol/storage.md, "Commands".

pub mod hub;
pub mod people;

use std::sync::Arc;
use std::time::Duration;

use minicbor::bytes::ByteVec;
use sha2::{Digest, Sha256};
use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{
    AccountId, BlobId, DeviceId, DeviceIndex, Domain, EnvelopeId, InviteToken, LogHash, Name, ParticipantsTag,
    PublicKey, Sequence, ThreadId, TokenHash,
};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Envelope, Opening};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::ClaimedPackage;
use whimbrel_protocol::{RefusalCode as Code, limits};

use super::{AccountDevice, LogId, MailboxId, OutboundKey, Pin};

/// One change of the store.
#[derive(Clone, Debug)]
pub enum Command {
    /// Takes an account in. Conditions: the entrance lets it; the name is free; the account is unknown. What is there
    /// already, name and log alike, is registered again without change.
    Register(Register),
    /// Stocks KeyPackages. Conditions: the device is known; no more than the bound are there afterwards.
    StockKeyPackages(StockKeyPackages),
    /// Hands out one KeyPackage of each of the owner's devices. Condition: the owner consents to the requester, or
    /// the token is an invite of the owner with uses left, which is then used and gives consent.
    ClaimKeyPackages(ClaimKeyPackages),
    /// Lets somebody reach a local account. Condition: the account is known.
    GiveConsent(GiveConsent),
    /// Makes an invite known. Conditions: the owner is known; not too many are open; the token is new or the same.
    NewInvite(NewInvite),
    /// Opens a thread. Conditions: the creator is a participant of the origin's domain and has no thread with this
    /// tag; every local participant is known and consents to the creator; the thread is new or identical.
    OpenThread(Box<OpenThread>),
    /// Appends an envelope to its thread. Conditions: the author is a member device of the origin's domain at this
    /// epoch; the epoch is the thread's; the log has room. An envelope met before keeps its place.
    Append(Append),
    /// Changes who is in a group. Conditions, at its hub: the author is a member device of the origin's domain at this
    /// epoch; term and epoch are the group's; whom it takes away is in it, whom it takes in is not, lives here and consents
    /// to the author, or lives elsewhere; there are not too many. At another relay: the hub says so, and the epoch is the
    /// one reached here. A commit met before changes nothing.
    Commit(Box<hub::Commit>),
    /// Sets an owner's tag. Condition: the owner has the thread. The first thread of a tag stays its thread.
    TagThread(TagThread),
    /// Moves cursors: as a maximum, never beyond the head.
    MoveCursors(Vec<CursorMove>),
    /// Moves threads up in their owner's listing: as a maximum.
    TouchThreads(TouchThreads),
    /// A peer answered for these rows: they go, and so does what nobody waits for any more. A row that was refused for
    /// good goes together with a notice to its author, in the author's inbox. Condition, row by row: the inbox has room;
    /// otherwise the row stays.
    Forwarded(Forwarded),
    /// Remembers who a peer is. Conditions: the operator says so; or nothing else is remembered, the account on whose
    /// word it is done is known and has not done so too often, not too many peers are known by links, and an
    /// introduction's invite is live. The invite is not used up.
    PinPeer(PinPeer),
    /// Moves cursors of one log and drops what every reader has.
    Trim(Trim),
    /// Drops what has waited too long in a log, whoever still lacks it, within the bound of one command. Local authors
    /// are told in their inboxes. Condition: those have room; otherwise nothing goes.
    Expire(people::Expire),
    /// Lets somebody register. Conditions: not too many are open; the token is new or the same.
    NewRegistration(people::NewRegistration),
    /// Takes an invitation to register back.
    RevokeRegistration(TokenHash),
    /// Takes an account's invite back.
    RevokeInvite(AccountId, TokenHash),
    /// One account's word to another, on the side of whoever lives here, or both. Conditions: for a request, the day's
    /// share and the rows of both lists; for an acceptance, a request to accept. The other side of an account that is
    /// not here, or keeps the author away, changes nothing and looks the same.
    Befriend(people::Befriend),
    /// Takes requests from the owner's list.
    Decline(people::Decline),
    /// Keeps somebody away, or no longer. Conditions: the owner is known; the list has room.
    Block(people::Block),
    /// Whether the account is shown to be there at all. Condition: it is known.
    SetVisible(AccountId, bool),
    /// What a friend may see. Condition: it is one.
    LetSee(people::LetSee),
    /// Keeps a card. Conditions: the owner is known; no card of a higher revision, or another of the same, is there.
    SetProfile(people::SetProfile),
    /// Keeps the owner's settings of a thread. Condition: the owner has the thread.
    SetThread(people::SetThread),
    /// Continues an account's log: a device comes or goes. Condition: the log here ends where the new one goes on.
    ExtendLog(people::ExtendLog),
    /// Keeps how far a device's store has come. Conditions: the device is known; the stamp follows the one that is here, or
    /// one that this relay has lost.
    KeepStamp(people::KeepStamp),
    /// Names where a device is woken; until it is confirmed, nothing goes there. Condition: the device is known.
    SetWake(people::SetWake),
    /// The device has the challenge. Condition: it is the one sent, and not too old.
    ConfirmWake(people::ConfirmWake),
    /// Ends an account: from now on it is unknown here, and its name is given to nobody else. Its rows go with
    /// [`Command::Purge`].
    DeleteAccount(AccountId),
    /// Takes rows of a deleted account away, within the bound of one command.
    Purge(AccountId),
}

/// See [`Command::Register`].
#[derive(Clone, Debug)]
pub struct Register {
    /// The name wished for.
    pub name: Name,
    /// Whose log it is; verified by whoever made this command.
    pub account: AccountId,
    /// The log, as signed.
    pub log: Vec<u8>,
    /// Its newest entry.
    pub head: (u64, LogHash),
    /// Its devices, ascending, each with a mailbox chosen for it.
    pub devices: Vec<AccountDevice>,
    /// Chosen for its inbox.
    pub inbox: LogId,
    /// Whether it may come in when it is not here.
    pub entrance: people::Entrance,
    /// The present, for an invitation's expiry.
    pub at: Wall,
}

/// See [`Command::StockKeyPackages`].
#[derive(Clone, Debug)]
pub struct StockKeyPackages {
    /// Whose they are.
    pub device: DeviceId,
    /// Each handed out once.
    pub one_time: Vec<ByteVec>,
    /// Handed out when no other is left.
    pub last_resort: Option<ByteVec>,
    /// The one-time KeyPackages that are there go.
    pub replaces: bool,
}

/// See [`Command::ClaimKeyPackages`].
#[derive(Clone, Debug)]
pub struct ClaimKeyPackages {
    /// Whose KeyPackages.
    pub owner: AccountId,
    /// Who asks.
    pub requester: AccountId,
    /// Where the requester lives: consent holds for an account at its home, no other relay can borrow it.
    pub requester_domain: Domain,
    /// The owner's invite.
    pub token: Option<InviteToken>,
    /// The device that asks, of the owner itself: it needs none of its own, and no consent.
    pub own: Option<DeviceIndex>,
    /// The domain served here.
    pub local: Domain,
    /// The present, for expiry.
    pub at: Wall,
}

/// See [`Command::GiveConsent`].
#[derive(Clone, Debug)]
pub struct GiveConsent {
    /// Who may be reached.
    pub owner: AccountId,
    /// By whom.
    pub other: AccountId,
    /// Where the other lives.
    pub domain: Domain,
    /// The present.
    pub at: Wall,
}

/// See [`Command::NewInvite`].
#[derive(Clone, Debug)]
pub struct NewInvite {
    /// Who invites.
    pub owner: AccountId,
    /// Hash of the token.
    pub token: TokenHash,
    /// How often it may be used.
    pub uses: u32,
    /// Until when.
    pub expires: Wall,
    /// The present: expired invites make room.
    pub at: Wall,
}

/// On whose word something is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// An own user's device, authenticated on its link.
    Local,
    /// A peer relay, for its own users.
    Peer(Domain),
}

/// See [`Command::OpenThread`].
#[derive(Clone, Debug)]
pub struct OpenThread {
    /// The group as created.
    pub opening: Arc<Opening>,
    /// The device that created it.
    pub creator: DeviceId,
    /// On whose word.
    pub origin: Origin,
    /// The creator's tag, when the creator lives here.
    pub tag: Option<ParticipantsTag>,
    /// The domain served here.
    pub local: Domain,
    /// Chosen for the thread's log.
    pub log: LogId,
    /// The present.
    pub at: Wall,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
    /// What makes two openings the same.
    pub fingerprint: [u8; 32],
    /// Hash of the Welcome.
    pub welcome: BlobId,
    /// Hash of the tree.
    pub tree: BlobId,
    /// The thread's public state, saved, where this relay is its hub.
    pub public: Option<Vec<u8>>,
}

/// What a relay adds to an opening.
#[derive(Clone, Debug)]
pub struct Here {
    /// The domain it serves.
    pub local: Domain,
    /// Chosen for the thread's log.
    pub log: LogId,
    /// The present.
    pub at: Wall,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
}

impl OpenThread {
    /// The command; its hashes are computed here, so that the store's only writer need not.
    pub fn new(
        opening: Opening,
        creator: DeviceId,
        origin: Origin,
        tag: Option<ParticipantsTag>,
        Here { local, log, at, bounds }: Here,
        public: Option<Vec<u8>>,
    ) -> Self {
        let (welcome, tree) = (BlobId::of(&opening.welcome), BlobId::of(&opening.tree));
        let fingerprint = Sha256::new()
            .chain_update(canonical::encode(&(opening.thread, opening.epoch, &opening.participants)))
            .chain_update(welcome.as_bytes())
            .chain_update(tree.as_bytes())
            .chain_update(canonical::encode(&creator))
            .finalize()
            .into();
        let opening = Arc::new(opening);
        Self { opening, creator, origin, tag, local, log, at, bounds, fingerprint, welcome, tree, public }
    }
}

/// How much one log may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// Entries.
    pub entries_max: u64,
    /// Bytes.
    pub bytes_max: u64,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { entries_max: limits::LOG_ENTRIES_MAX, bytes_max: limits::LOG_BYTES_MAX }
    }
}

/// See [`Command::Append`].
#[derive(Clone, Debug)]
pub struct Append {
    /// The envelope.
    pub envelope: Arc<Envelope>,
    /// Its id, computed by whoever made this command.
    pub id: EnvelopeId,
    /// The device that handed it in.
    pub author: DeviceId,
    /// On whose word.
    pub origin: Origin,
    /// The domain served here.
    pub local: Domain,
    /// The present.
    pub at: Wall,
    /// The log's bounds.
    pub bounds: LogBounds,
}

/// See [`Command::TagThread`].
#[derive(Clone, Debug)]
pub struct TagThread {
    /// Whose row.
    pub owner: AccountId,
    /// Which thread.
    pub thread: ThreadId,
    /// The tag.
    pub tag: ParticipantsTag,
}

/// One cursor and how far its device has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorMove {
    /// Whose cursor.
    pub mailbox: MailboxId,
    /// Over which log.
    pub log: LogId,
    /// Everything up to here is at the device.
    pub upto: Sequence,
}

/// See [`Command::TouchThreads`].
#[derive(Clone, Debug)]
pub struct TouchThreads {
    /// Whose rows.
    pub owner: AccountId,
    /// Which threads; those the owner does not have are passed over.
    pub threads: Vec<ThreadId>,
    /// When.
    pub at: Wall,
}

/// See [`Command::Forwarded`].
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// The peer that answered.
    pub peer: Domain,
    /// What it has.
    pub rows: Vec<OutboundKey>,
    /// What it will never take, and why.
    pub refused: Vec<(OutboundKey, RefusalCode)>,
    /// What is of a thread it does not know. A third relay of the thread may still tell it; where there is none, it will
    /// never take that either.
    pub unknown: Vec<OutboundKey>,
    /// The present.
    pub at: Wall,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
}

/// See [`Command::PinPeer`].
#[derive(Clone, Debug)]
pub struct PinPeer {
    /// Which peer.
    pub peer: Domain,
    /// Who it is, and on whose word.
    pub pin: Pin,
    /// The invite that an introduction was made with.
    pub invite: Option<TokenHash>,
    /// The present, for the invite's expiry.
    pub at: Wall,
}

/// See [`Command::Trim`].
#[derive(Clone, Debug)]
pub struct Trim {
    /// Which log.
    pub log: LogId,
    /// Cursors to move first: the trim relies on them, so they are written with it.
    pub cursors: Vec<(MailboxId, Sequence)>,
}

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing more to say.
    Done,
    /// To [`Command::StockKeyPackages`]: how many are there now.
    Stocked {
        /// One-time KeyPackages.
        left: u32,
    },
    /// To [`Command::ClaimKeyPackages`].
    Claimed {
        /// One of each device that has any.
        packages: Vec<ClaimedPackage>,
        /// What each of the owner's devices has left.
        left: Vec<(DeviceIndex, u32)>,
    },
    /// To [`Command::OpenThread`].
    Opened(Opened),
    /// To [`Command::OpenThread`]: the creator has a thread of exactly these people.
    Exists(ThreadId),
    /// To [`Command::Append`].
    Appended(Appended),
    /// To [`Command::Commit`]: it holds.
    Committed(Box<hub::Committed>),
    /// To [`Command::Commit`]: another one ended that epoch.
    Lost(Box<hub::Won>),
    /// To [`Command::Commit`]: the hub is the relay of this domain. Nothing was done.
    Elsewhere(Domain),
    /// To [`Command::Forwarded`].
    Forwarded {
        /// The inboxes that got a notice.
        inboxes: Vec<LogId>,
        /// Refused rows that stay, because there was no room for a notice.
        kept: Vec<OutboundKey>,
    },
    /// To [`Command::Trim`].
    Trimmed {
        /// Everything up to here is gone.
        upto: Sequence,
        /// Whether more could go than one command takes.
        more: bool,
    },
    /// To [`Command::Expire`].
    Expired {
        /// Entries dropped.
        entries: u64,
        /// The inboxes that got a notice.
        inboxes: Vec<LogId>,
    },
    /// To [`Command::Befriend`].
    Befriended(Befriended),
    /// To [`Command::Purge`].
    Purged {
        /// Whether more is left.
        more: bool,
    },
}

/// What a word about friendship did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Befriended {
    /// How the author's list, if it is here, stands with the other now.
    pub standing: Option<Standing>,
    /// The same of the other's list with the author.
    pub other: Option<Standing>,
    /// The other's inbox, if it got the word.
    pub inbox: Option<LogId>,
    /// Where the author's inbox ended when it parted with the other, if that was the word.
    pub parted: Option<Sequence>,
}

/// An opened thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its log here.
    pub log: LogId,
    /// The cursors made for local devices; none when the thread was open already.
    pub readers: Vec<(DeviceId, MailboxId)>,
    /// The inboxes that got an entry.
    pub inboxes: Vec<LogId>,
    /// The peers a row was written for.
    pub peers: Vec<Domain>,
}

/// An envelope in its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The log.
    pub log: LogId,
    /// Its place.
    pub sequence: Sequence,
    /// False when it was there before.
    pub new: bool,
    /// The peers a row was written for.
    pub peers: Vec<Domain>,
    /// The inboxes that got a notice: to make room, what a peer still waited for had to go.
    pub inboxes: Vec<LogId>,
    /// Of how many envelopes that went nobody here was told, for their author's inbox has no room.
    pub untold: u64,
}

/// Why a command was not done. Nothing of it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Another account has the name.
    #[error("the name is taken")]
    NameTaken,
    /// The account is here with another name or log.
    #[error("the account is registered otherwise")]
    AccountExists,
    /// No such account, device or thread, or not the asker's.
    #[error("not found")]
    NotFound,
    /// Neither consent nor a usable invite; or no such account: the two look alike.
    #[error("no consent")]
    NoConsent,
    /// The token or thread is there with another content.
    #[error("exists with another content")]
    Differs,
    /// The author is no member of the thread, or the origin may not speak for it; or there is no such thread.
    #[error("not a member")]
    NotMember,
    /// Not the thread's epoch.
    #[error("epoch not current")]
    StaleEpoch,
    /// What is said of a commit is not what it does, or the thread's public state does not bear it out.
    #[error("not borne out by the public state")]
    Unproved,
    /// One more commit from without than a device may make in a day.
    #[error("rejoined too often")]
    RejoinedTooOften,
    /// The author's device has no leaf in the thread any more, and its relay knew when it took this.
    #[error("no longer in the thread")]
    Removed,
    /// An epoch that the thread has not reached here.
    #[error("epoch not reached yet")]
    EpochAhead,
    /// The command contradicts itself.
    #[error("malformed")]
    Malformed,
    /// A log, or the queue for a peer, is at its bound.
    #[error("full")]
    Full,
    /// More than a day's share.
    #[error("too many for one day")]
    TooFast,
    /// Nobody registers here, or not with this invitation.
    #[error("no registration")]
    Closed,
    /// A bound on how many there may be.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A newer stamp of the device, or another as new, is here.
    #[error("the device's store is an old copy")]
    OldCopy,
    /// A row that is needed cannot be read. Other rows can.
    #[error("unreadable: {0}")]
    Unreadable(String),
}

impl Conflict {
    /// What a peer is told, and when to try again.
    pub const fn refusal(&self) -> (RefusalCode, Option<Duration>) {
        match self {
            Self::NameTaken => (Code::NameTaken, None),
            Self::AccountExists | Self::Differs => (Code::Exists, None),
            Self::NotFound | Self::NotMember => (Code::NotFound, None),
            Self::NoConsent => (Code::NoConsent, None),
            Self::StaleEpoch => (Code::StaleEpoch, None),
            Self::Unproved => (Code::Unproved, None),
            Self::RejoinedTooOften => (Code::RejoinedTooOften, Some(limits::REJOIN_RETRY_AFTER)),
            Self::Removed => (Code::Removed, None),
            Self::EpochAhead => (Code::EpochAhead, Some(limits::EPOCH_AHEAD_RETRY_AFTER)),
            Self::Malformed => (Code::Malformed, None),
            Self::Full => (Code::Full, Some(limits::FULL_RETRY_AFTER)),
            Self::TooMany(_) => (Code::TooLarge, None),
            Self::TooFast => (Code::TooFast, Some(limits::FRIEND_REQUESTS_RETRY_AFTER)),
            Self::Closed => (Code::RegistrationClosed, None),
            Self::OldCopy => (Code::OldCopy, None),
            Self::Unreadable(_) => (Code::Internal, Some(limits::FULL_RETRY_AFTER)),
        }
    }
}

impl Command {
    /// About how many bytes the command writes: groups are cut by it.
    pub fn bytes(&self) -> usize {
        const ROWS: usize = 1_024;
        ROWS + match self {
            Self::Register(register) => register.log.len(),
            Self::StockKeyPackages(stock) => stock.one_time.iter().chain(&stock.last_resort).map(|p| p.len()).sum(),
            Self::OpenThread(open) => {
                // A member, a cursor, a row and an inbox entry that names everybody, for each device.
                let devices = open.opening.devices().count();
                let accounts = open.opening.participants.len();
                let public = open.public.as_ref().map_or(0, Vec::len);
                let bodies = open.opening.welcome.len() + open.opening.tree.len();
                bodies + public + devices * 256 + accounts * (devices * 64 + 512)
            }
            Self::Append(append) => append.envelope.body.len(),
            Self::Commit(commit) => commit.bytes(),
            Self::ExtendLog(extend) => extend.log.len(),
            _ => 0,
        }
    }
}

/// A device's keys, as a verified log names them, with the mailbox chosen for it.
pub const fn account_device(
    index: DeviceIndex,
    device_key: PublicKey,
    transport_key: PublicKey,
    mailbox: MailboxId,
) -> AccountDevice {
    AccountDevice { index, device_key, transport_key, mailbox }
}
