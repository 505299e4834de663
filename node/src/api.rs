//! What goes into the node core and what comes out.
//! Owns: the types of both. Never: decides anything.
//!
//! One input gives one [`Step`]. The driver applies the step's batch before the next input, may sync several at
//! once, and releases each step's outputs, in order, only when its batch is durable.

mod event;

use std::time::Duration;

use whimbrel_crypto::{LinkingCode, RecoveryHash, RecoveryPhrase};
use whimbrel_protocol::Frame;
use whimbrel_protocol::friendship::{Friend, Standing};
use whimbrel_protocol::id::{
    AccountId, Address, DeviceId, DeviceIndex, Domain, InviteToken, LinkId, MessageId, PublicKey, RelayId, ThreadId,
    TokenHash,
};
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_protocol::limits::CLOCK_AHEAD_MAX;
use whimbrel_protocol::message::{Declined, Target};
use whimbrel_protocol::policy::{Policy, PolicyChange};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::signal::Doing;
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::{Card, ExportedRow, OpenInvite, Who};
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::Batch;

pub use self::event::Event;

/// Choices of the device's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Hand every envelope to the relay even when the direct path answered for all devices.
    pub always_relay_copy: bool,
    /// Never offer, dial or accept direct links.
    pub never_direct: bool,
    /// Tell the authors of what is marked as read that it was, in threads without a setting of their own.
    pub read_receipts: bool,
    /// The relay's invitation to register, where it asks for one.
    pub registration: Option<InviteToken>,
}

/// Pairs a command with its answer; chosen by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Who is at the other end of an authenticated link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The home relay, with the TLS exporter ([`whimbrel_protocol::EXPORTER_LABEL`]) of this connection.
    Relay {
        /// 32 exported bytes.
        exporter: [u8; 32],
    },
    /// A node, known by its transport key (its libp2p peer id).
    Node {
        /// The key.
        transport: PublicKey,
    },
}

/// Something happened outside.
#[derive(Debug)]
pub enum Input {
    /// An authenticated link stands.
    LinkUp {
        /// Its number, never used again in this process.
        link: LinkId,
        /// Who is there.
        peer: Peer,
    },
    /// A link is gone.
    LinkLost {
        /// Which.
        link: LinkId,
    },
    /// The home relay could not be reached (the answer to [`Output::Connect`] when no link came of it).
    ConnectFailed {
        /// For people: never contains content or keys.
        reason: String,
    },
    /// None of the addresses of an [`Output::Dial`] led to that node.
    DialFailed {
        /// Whom we meant.
        transport: PublicKey,
    },
    /// A frame came in.
    Frame {
        /// On which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// A frame could not be read; the link goes on.
    Malformed {
        /// On which link.
        link: LinkId,
    },
    /// The owner wants something.
    Command {
        /// Pairs the answer.
        ticket: Ticket,
        /// What.
        command: Command,
    },
    /// The node's own direct addresses (multiaddresses without peer id) are now these.
    Listening {
        /// All of them.
        addresses: Vec<String>,
    },
    /// The time [`crate::api`] asked for by `poll_timeout` has come.
    Timeout,
    /// The process ends in order: nothing comes after this.
    Leave,
}

/// What an owner can ask for. Each is answered exactly once by [`Output::Answer`].
#[derive(Clone, Debug)]
pub enum Command {
    /// Makes an invite and makes it known to the home relay.
    NewInvite {
        /// How often it may be used.
        uses: u32,
        /// How long it holds.
        holds: Duration,
        /// The group that whoever uses it is taken into by this device, as long as its owner may take people in.
        group: Option<ThreadId>,
    },
    /// Takes up an invite: looks the inviter up, claims KeyPackages, opens the thread, and asks to be taken into the group it
    /// leads into. Answered when the home relay has the opening on its disk; that this device is in the group is told by
    /// [`Event::ThreadOpened`], that it will not be by [`Event::JoinDeclined`].
    AcceptInvite(Invite),
    /// Sends a text into a thread. Answered with [`Reply::Queued`] once durable here; the rest of the trip is told
    /// by [`Event::State`].
    Send {
        /// The thread.
        thread: ThreadId,
        /// The text, at most [`whimbrel_protocol::limits::TEXT_BYTES_MAX`].
        text: String,
    },
    /// The same, with what it replies to and whom it names.
    Say {
        /// The thread.
        thread: ThreadId,
        /// What is said.
        draft: Draft,
    },
    /// Puts another text in place of one of the owner's. Answered with [`Reply::Queued`], as are the next three.
    Edit {
        /// Which.
        of: Target,
        /// The new text.
        text: String,
    },
    /// Takes a text of the owner's back: its place stays, its text goes from every device that hears of it.
    Unsend {
        /// Which.
        of: Target,
    },
    /// Puts a sign beside a message, or takes it away.
    React {
        /// Which.
        to: Target,
        /// The sign, at most [`whimbrel_protocol::limits::REACTION_BYTES_MAX`].
        sign: String,
        /// Whether it stands from now on.
        stands: bool,
    },
    /// Says how long texts of a thread last from now on; in a group, an admin does.
    SetTimer {
        /// The thread.
        thread: ThreadId,
        /// How long, at most [`whimbrel_protocol::limits::LASTS_MAX`]; zero: for ever.
        lasts: Duration,
    },
    /// Sends a text to exactly these people: in the thread that exists, or in a new one (row 6, first message).
    SendTo {
        /// The others; contacts only.
        people: Vec<AccountId>,
        /// The text.
        text: String,
    },
    /// Makes a group of these people, contacts only, whose members may change. Answered with [`Reply::Group`] once durable
    /// here.
    CreateGroup {
        /// What it is called, at most [`whimbrel_protocol::limits::TITLE_BYTES_MAX`]; empty: nothing.
        title: String,
        /// The others.
        people: Vec<AccountId>,
    },
    /// Takes contacts into a group, if its policy lets us. Answered when it holds.
    AddMembers {
        /// The group.
        thread: ThreadId,
        /// Whom.
        people: Vec<AccountId>,
    },
    /// Takes people out of a group of which we are an admin. Answered when it holds.
    RemoveMembers {
        /// The group.
        thread: ThreadId,
        /// Whom.
        people: Vec<AccountId>,
    },
    /// Says who may do what in a group of which we are an admin. Answered when it holds.
    SetPolicy {
        /// The group.
        thread: ThreadId,
        /// What is to become of its policy.
        change: PolicyChange,
    },
    /// Gives a group another picture, if its policy lets us say what it is called. Answered once durable here.
    SetPicture {
        /// The group.
        thread: ThreadId,
        /// A png, jpeg or webp of at most [`whimbrel_protocol::limits::PICTURE_BYTES_MAX`]; absent: none.
        picture: Option<Vec<u8>>,
    },
    /// Says what a group is called from now on, if its policy lets us. Answered once durable here.
    RenameGroup {
        /// The group.
        thread: ThreadId,
        /// What it is called, 1 to [`whimbrel_protocol::limits::TITLE_BYTES_MAX`] bytes.
        title: String,
    },
    /// Renews this device's keys in a group: what was stolen of it before is worth nothing after. Answered when it holds.
    RenewKeys {
        /// The group.
        thread: ThreadId,
    },
    /// Asks a group's admins to be taken out. Answered once durable here; [`Event::GroupLeft`] tells when it holds.
    LeaveGroup {
        /// The group.
        thread: ThreadId,
    },
    /// Everything up to this message of the thread is read.
    MarkRead {
        /// The thread.
        thread: ThreadId,
        /// The newest message read.
        upto: MessageId,
    },
    /// Offers direct addresses to every device of the thread now, without waiting for traffic.
    OfferDirect {
        /// The thread.
        thread: ThreadId,
    },
    /// Says in a thread what the owner is doing, to whoever is there: it is said at most every
    /// [`whimbrel_protocol::limits::SIGNAL_EVERY`], kept by nobody, and holds for
    /// [`whimbrel_protocol::limits::SIGNAL_LASTS`]. Answered at once, whether or not anybody hears it.
    Signal {
        /// The thread.
        thread: ThreadId,
        /// What.
        what: Doing,
    },
    /// Says how things are.
    Status,
    /// Asks somebody to be friends; says yes to somebody who asked that already.
    Befriend {
        /// Whom: by address, or by account where that is known.
        who: Who,
        /// A line to them; relays can read it.
        note: Option<String>,
    },
    /// Says yes to a request that is here and was proved.
    AcceptFriend(AccountId),
    /// Ends a friendship, or takes a request of one's own back.
    RemoveFriend(AccountId),
    /// Takes a request off the list without an answer; absent: all of them.
    DeclineFriend(Option<AccountId>),
    /// Keeps somebody away, or no longer. They are not told.
    Block {
        /// Whom.
        who: Who,
        /// Whether they are kept away from now on.
        blocked: bool,
    },
    /// Whether a friend may see when the owner is there.
    LetSee {
        /// Which friend.
        account: AccountId,
        /// Whether.
        allowed: bool,
    },
    /// The owner compared the safety number with somebody, or takes that back. Kept here alone.
    Verify {
        /// With whom.
        account: AccountId,
        /// Whether it was the same.
        verified: bool,
    },
    /// Lists how the relay holds that things stand with others.
    Friends,
    /// Says which friends are there, by the relay's word.
    Presence,
    /// Whether the account is shown to be there to anybody at all.
    SetVisible(bool),
    /// Lists the open invites.
    Invites,
    /// Takes an invite back.
    RevokeInvite(TokenHash),
    /// Puts up what friends are shown of the owner.
    SetProfile {
        /// What the person wants to be called.
        display: String,
        /// A line about themselves.
        about: Option<String>,
    },
    /// Fetches somebody's card: the own, or a contact's.
    Profile(AccountId),
    /// Changes the owner's own settings of a thread. Durable here when answered; the relay keeps them for the owner's
    /// devices as soon as it is there, sealed.
    SetThread {
        /// The thread.
        thread: ThreadId,
        /// What is changed.
        change: SettingsChange,
    },
    /// Fetches a part of what the relay keeps of the owner.
    Export {
        /// Where the part before ended; empty: from the beginning.
        after: Vec<u8>,
    },
    /// Deletes the account at its relay. What is here stays.
    DeleteAccount,
    /// Puts another identity key in the place of this one. Answered when the relay has it.
    RotateIdentity {
        /// The account's recovery words.
        words: RecoveryPhrase,
        /// What the words from then on commit to; their owner has written them down.
        next: RecoveryHash,
    },
    /// Other recovery words in the place of these. Answered when the relay has it.
    SetRecovery {
        /// The account's recovery words.
        words: RecoveryPhrase,
        /// What the words from then on commit to; their owner has written them down.
        next: RecoveryHash,
    },
    /// Makes the device that shows this code one of the account's. Answered when the relay has it.
    ApproveDevice {
        /// What it shows.
        code: LinkingCode,
        /// Whether it gets no say in the account: it can neither link nor revoke.
        limited: bool,
    },
    /// Takes a device off the account. Answered when the relay has it; from then on it is served no more.
    RevokeDevice(DeviceIndex),
    /// Calls a device something else. Answered when the relay has it.
    RenameDevice {
        /// Which.
        index: DeviceIndex,
        /// What, at most [`whimbrel_protocol::limits::DEVICE_LABEL_BYTES_MAX`].
        label: String,
    },
    /// Where the relay wakes this device; absent: nowhere any more.
    SetWake(Option<WakeEndpoint>),
    /// Confirms that with what came there.
    ConfirmWake([u8; 16]),
}

/// A change of one setting of a thread.
#[derive(Clone, PartialEq, Eq)]
pub enum SettingsChange {
    /// What the owner calls it; absent: nothing of its own.
    Label(Option<String>),
    /// Nobody is woken for it before.
    MutedUntil(Wall),
    /// Whether it is put away.
    Archived(bool),
    /// Whether it comes first.
    Pinned(bool),
    /// Whether the authors of what is marked as read are told; absent: as everywhere.
    ReadReceipts(Option<bool>),
}

impl std::fmt::Debug for SettingsChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Label(_) => "Label",
            Self::MutedUntil(_) => "MutedUntil",
            Self::Archived(_) => "Archived",
            Self::Pinned(_) => "Pinned",
            Self::ReadReceipts(_) => "ReadReceipts",
        })
    }
}

/// The good answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Command::NewInvite`].
    Invite(Invite),
    /// To [`Command::AcceptInvite`].
    Contact {
        /// Who.
        account: AccountId,
        /// Where they are found.
        address: Address,
        /// The thread with them.
        thread: ThreadId,
    },
    /// To [`Command::Send`] and [`Command::SendTo`].
    Queued {
        /// The thread it goes into.
        thread: ThreadId,
        /// Its id.
        message: MessageId,
    },
    /// To [`Command::CreateGroup`].
    Group {
        /// The group.
        thread: ThreadId,
    },
    /// Nothing to say but that it is done.
    Done,
    /// To [`Command::Status`].
    Status(Status),
    /// To [`Command::Befriend`], [`Command::AcceptFriend`] and [`Command::Block`].
    Friend {
        /// Who.
        account: AccountId,
        /// Where they are found.
        address: Address,
        /// How things stand now.
        standing: Option<Standing>,
    },
    /// To [`Command::Friends`]: the relay's list; what of it can be proved is in [`crate::views::friends`].
    Friends(Vec<Friend>),
    /// To [`Command::Presence`]: who is there.
    Presence(Vec<AccountId>),
    /// To [`Command::Invites`].
    Invites(Vec<OpenInvite>),
    /// To [`Command::Profile`].
    Profile(Card),
    /// To [`Command::Export`].
    Exported {
        /// A part of the rows.
        rows: Vec<ExportedRow>,
        /// Where it ended; absent: there is no more.
        next: Option<Vec<u8>>,
    },
}

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The own address, once registered.
    pub address: Option<Address>,
    /// The own device.
    pub device: DeviceId,
    /// The home relay.
    pub relay: RelayLink,
    /// Whether the link to it stands and we are admitted.
    pub relay_admitted: bool,
    /// Messages not yet stored at the relay or at all other devices.
    pub queued: usize,
    /// Devices with a direct link.
    pub direct: Vec<DeviceId>,
    /// One-time KeyPackages of this device that are left at its relay, by its last word; absent: it said none yet.
    pub key_packages: Option<u32>,
}

/// Why a command was not done. Nothing of it remains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The thread or person is not known to this node.
    #[error("not known here")]
    Unknown,
    /// The text is empty or over its bound.
    #[error("a text has 1 to {max} bytes, this one has {found}")]
    Text {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too much is waiting in the outbox. Try again once some of it is delivered.
    #[error("{0} messages wait in the outbox already")]
    OutboxFull(usize),
    /// The home relay is out of reach and this cannot be done without it.
    #[error("the home relay is unreachable: {0}")]
    Unreachable(String),
    /// A relay refused.
    #[error("refused by the relay: {0}")]
    Refused(RefusalCode),
    /// A relay was asked too often and said when it may be asked again; nothing of it was done.
    #[error("refused by the relay: too many requests; it takes more in {} s", after.as_secs_f64())]
    TooFast {
        /// The time it named.
        after: Duration,
    },
    /// What a relay answered does not prove what it must: wrong account, forged log, bad KeyPackage.
    #[error("not trusted: {0}")]
    Untrusted(String),
    /// The device is not registered yet.
    #[error("this device is not registered at a relay yet")]
    NotRegistered,
    /// The invite is our own.
    #[error("this is your own invite")]
    OwnInvite,
    /// It is about the owner themselves, where somebody else is meant.
    #[error("this is you")]
    Oneself,
    /// Something is longer than it may be.
    #[error("{what} is too long: at most {max} fit")]
    TooLong {
        /// What.
        what: &'static str,
        /// Bytes allowed, or characters of a note.
        max: usize,
    },
    /// The node's own state does not allow it; says what.
    #[error("{0}")]
    State(String),
}

/// By which way an envelope came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Path {
    /// Through the one relay both use.
    Relay,
    /// Across two relays.
    Federation,
    /// From node to node.
    Direct,
}

/// How far a message of ours has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Durable here only.
    Queued,
    /// On the home relay's disk.
    Stored,
    /// On the disk of every other device of the thread, by their own word.
    Delivered,
    /// Given up, or not taken by any relay of the others: nobody else has it, and why.
    Failed(RefusalCode),
    /// On the home relay's disk, and refused for good by the relay of some of the others.
    Partial {
        /// Why.
        code: RefusalCode,
        /// Who does not have it.
        missing: Vec<AccountId>,
    },
}

/// A message as people see it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its thread.
    pub thread: ThreadId,
    /// Its id.
    pub message: MessageId,
    /// Who wrote it.
    pub author: DeviceId,
    /// The author's clock: orders messages.
    pub hlc: Hlc,
    /// When it came here.
    pub received: Wall,
    /// Which way it came; absent for our own.
    pub path: Option<Path>,
    /// The text, as last edited; empty when it was taken back.
    pub text: String,
    /// What it replies to; that need not be here.
    pub reply: Option<Target>,
    /// Who is named in it.
    pub mentions: Vec<AccountId>,
    /// Whether its author took it back.
    pub unsent: bool,
    /// Whether the owner keeps its author away: in a group of others too, a display shows that it is there, and what it says
    /// when the owner asks for it.
    pub hidden: bool,
}

/// A text to be said.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// The text, at most [`whimbrel_protocol::limits::TEXT_BYTES_MAX`].
    pub text: String,
    /// What it replies to.
    pub reply: Option<Target>,
    /// Who is named in it, and ought to notice.
    pub mentions: Vec<AccountId>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

impl Message {
    /// The time to show beside it: the author's, or the time of arrival when the author's lies too far ahead of that
    /// ([`whimbrel_protocol::limits::CLOCK_AHEAD_MAX`]). Its place is by `hlc` all the same.
    pub fn shown_at(&self) -> Wall {
        let horizon = self.received.as_millis().saturating_add(CLOCK_AHEAD_MAX.as_millis() as u64);
        if self.hlc.millis > horizon { self.received } else { Wall::from_millis(self.hlc.millis) }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("thread", &self.thread).field("message", &self.message).finish_non_exhaustive()
    }
}

/// Something to be done outside.
#[derive(Debug)]
pub enum Output {
    /// Sends a frame.
    Send {
        /// On which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// Ends a link.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Connects to the home relay; answered by [`Input::LinkUp`] or [`Input::ConnectFailed`].
    Connect {
        /// Where it is and who it must be.
        relay: RelayLink,
    },
    /// Dials a node; answered by [`Input::LinkUp`] or [`Input::DialFailed`].
    Dial {
        /// Who it must be.
        transport: PublicKey,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// Answers a command.
    Answer {
        /// Which.
        ticket: Ticket,
        /// How it went.
        result: Result<Reply, CommandError>,
    },
    /// Tells the owner.
    Event(Event),
    /// The store could not be read; nothing of this input was done, and nothing will be any more. The driver opens
    /// the store and the node anew.
    Broken {
        /// What the store said.
        reason: String,
    },
}

/// What one input did: a batch to make durable, and outputs that leave only after it.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes of the node's store, applied whole before the next input.
    pub batch: Batch,
    /// In the order they happen.
    pub outputs: Vec<Output>,
}
