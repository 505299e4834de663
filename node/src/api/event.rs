//! What a node tells its owner without being asked.

use super::*;

/// Something the owner may want to know. Released only when durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The account lives at its relay now.
    Registered {
        /// Where it is found.
        address: Address,
    },
    /// The relay does not take the account.
    RegistrationRefused(RefusalCode),
    /// The home relay admitted this device.
    RelayUp,
    /// The home relay is out of reach, and why.
    RelayDown(String),
    /// Everything that waited at the relay is here.
    CaughtUp,
    /// Somebody new can be written to.
    ContactAdded {
        /// Who.
        account: AccountId,
        /// Where they are found, by their relay's word.
        address: Address,
    },
    /// Somebody whose safety number the owner compared has another identity key since: they recovered their account, or
    /// somebody is in their place.
    KeyChanged {
        /// Who.
        account: AccountId,
        /// Where they are found, by their relay's word.
        address: Address,
    },
    /// The own account log is longer: by this device's hand, or a sibling's. Whoever did none of it has a thief among
    /// their devices.
    AccountChanged {
        /// Devices that came.
        added: Vec<DeviceIndex>,
        /// Devices that went.
        revoked: Vec<DeviceIndex>,
        /// Whether another identity key stands for the account.
        rotated: bool,
    },
    /// The relay shows a log of the own account that contradicts the one here: two devices changed it, or a thief did.
    AccountForked,
    /// The relay shows, as the own account log, one that proves nothing or is another account's: nothing of it counts. Told once a
    /// day while it does; when it was last is kept ([`crate::views::own_log_forged`]).
    OwnLogForged {
        /// What it is instead.
        why: String,
    },
    /// This device is none of its account's any more.
    DeviceRevoked,
    /// Somebody's relay goes on hiding what they did to their account, by their own word: a revoked device, or a key.
    LogWithheld {
        /// Whose.
        account: AccountId,
    },
    /// A thread was opened with us or by us.
    ThreadOpened {
        /// Which.
        thread: ThreadId,
        /// The others.
        people: Vec<AccountId>,
    },
    /// Who is in a group changed.
    MembersChanged {
        /// Which.
        thread: ThreadId,
        /// Who came.
        added: Vec<AccountId>,
        /// Who went.
        removed: Vec<AccountId>,
    },
    /// Somebody is writing, or no longer, by their own word. Without another word it is over after
    /// [`whimbrel_protocol::limits::SIGNAL_LASTS`], and with a message of theirs at once.
    Doing {
        /// In which thread.
        thread: ThreadId,
        /// Who.
        who: AccountId,
        /// What.
        what: Doing,
    },
    /// Somebody said who may do what in a group from now on.
    PolicyChanged {
        /// Which.
        thread: ThreadId,
        /// Who.
        by: AccountId,
        /// What holds.
        policy: Policy,
    },
    /// A group is called something else now.
    TitleChanged {
        /// Which.
        thread: ThreadId,
        /// What it is called.
        title: String,
    },
    /// The owner asked to be taken out of a group and is now its only admin, for the others left first: they are in it as
    /// before.
    LeaveRefused {
        /// Which.
        thread: ThreadId,
    },
    /// This device is not in a group any more. What was shown stays.
    GroupLeft {
        /// Which.
        thread: ThreadId,
    },
    /// This device's store is an old copy: a newer one was at the relay. Nothing is sent from it any more; what is here can be
    /// read and backed up, and the account goes on with another device.
    StoreOutdated,
    /// A relay shows different people different account logs. What proves it is kept ([`crate::views::relays`]).
    TwoFaces {
        /// The domain it serves.
        domain: Domain,
        /// Which relay.
        relay: RelayId,
    },
    /// The hub of a thread signed two orders of its commits: some in it were shown other changes than others. What proves it is
    /// kept ([`crate::views::contradictions`]).
    HubContradicts {
        /// Which thread.
        thread: ThreadId,
        /// Which relay.
        relay: RelayId,
    },
    /// A relay does not show that what it told others is the beginning of what it tells us.
    TreeWithheld {
        /// The domain it serves.
        domain: Domain,
    },
    /// Somebody's account log, as it was shown here, is not in their relay's tree.
    LogUnproved {
        /// Whose.
        account: AccountId,
    },
    /// Somebody's relay keeps a log of theirs that contradicts the one known here.
    LogForked {
        /// Whose.
        account: AccountId,
    },
    /// A message is here to be shown; never twice.
    Shown(Message),
    /// A message of ours has come further.
    State {
        /// The thread.
        thread: ThreadId,
        /// Which message.
        message: MessageId,
        /// How far.
        state: State,
    },
    /// Messages of others were read on another device of the owner: they are news here no more.
    ReadElsewhere {
        /// The thread.
        thread: ThreadId,
    },
    /// What was said before this device came is here, as another device of the owner has it.
    HistoryHere {
        /// How many texts came.
        texts: u64,
    },
    /// More devices than before said to have a message of ours, or that it was read.
    Receipt {
        /// The thread.
        thread: ThreadId,
        /// Which message.
        message: MessageId,
        /// How many devices have it.
        delivered: u32,
        /// On how many it was read.
        read: u32,
        /// For how many it was.
        of: u32,
    },
    /// A message that is here looks different now: edited, taken back, another sign beside it, or gone.
    Changed {
        /// The thread.
        thread: ThreadId,
        /// Which message.
        message: MessageId,
        /// Who wrote it.
        author: DeviceId,
    },
    /// Contents of somebody's device are missing, and were asked for.
    Missing {
        /// The thread.
        thread: ThreadId,
        /// Whose.
        author: DeviceId,
        /// How many.
        count: u64,
    },
    /// The relay let entries of a log go before this device had them: the log was full, or they had waited too long. What
    /// of them was for this device is missing, as far as nobody says it again.
    Dropped {
        /// The thread; absent: the account's inbox.
        thread: Option<ThreadId>,
        /// So many entries, whoever they were for.
        entries: u64,
    },
    /// Texts of a thread last so long from now on; zero: for ever.
    TimerChanged {
        /// The thread.
        thread: ThreadId,
        /// How long.
        lasts: Duration,
    },
    /// A direct link to a device stands.
    DirectUp(DeviceId),
    /// The direct link to a device is gone.
    DirectDown(DeviceId),
    /// Somebody added us to a thread, and what came with it does not prove what it must. We are not in that thread.
    InvitationRefused {
        /// The thread.
        thread: ThreadId,
        /// Why, for logs: never content.
        reason: String,
    },
    /// A group has another picture, or none any more.
    PictureChanged {
        /// The group.
        thread: ThreadId,
    },
    /// Whoever made a link that was followed does not take this device's owner into the group it leads into.
    JoinDeclined {
        /// The group.
        group: ThreadId,
        /// Whose link it is.
        by: AccountId,
        /// Why.
        why: Declined,
    },
    /// Nothing is sent into this thread any more: the store of this device is an old copy, and its keys were used since; or
    /// a change of its own holds that it has lost. What arrives is still shown.
    ThreadHalted {
        /// Which.
        thread: ThreadId,
    },
    /// A change of a group that its hub took cannot be applied here: its author's program is at fault, or was made so. This
    /// device goes on past it by itself. The group's admins decide what becomes of the author.
    ChangeBroken {
        /// The thread.
        thread: ThreadId,
        /// Who made it.
        author: DeviceId,
    },
    /// A group has gone on by a change that this device's relay does not hand over, however often it is asked: what is said since is
    /// shown when it comes. Said once for each change.
    ChangesMissing {
        /// The thread.
        thread: ThreadId,
    },
    /// This device is in a group again that went on by a change which it could not apply. What was said in between by those
    /// who could is asked for.
    Rejoined {
        /// The thread.
        thread: ThreadId,
    },
    /// The relay of these people will not have the thread: they are not in it. Without anybody else it is at its end.
    ThreadRefused {
        /// Which.
        thread: ThreadId,
        /// Who is not in it.
        people: Vec<AccountId>,
        /// Why.
        code: RefusalCode,
    },
    /// Somebody asks to be friends: their word, proved.
    FriendRequest {
        /// Who.
        account: AccountId,
        /// Where they are found.
        address: Address,
        /// What they wrote to it.
        note: Option<String>,
        /// How many wait for an answer now, this one among them. An owner is notified of one that waits alone; of the
        /// others the list is shown, and how long it is.
        waiting: usize,
    },
    /// Both agreed to be friends.
    FriendAccepted {
        /// Who.
        account: AccountId,
        /// Where they are found.
        address: Address,
    },
    /// Somebody ended a friendship, or took a request back.
    FriendRemoved {
        /// Who.
        account: AccountId,
    },
    /// A word about friendship in somebody's name that does not prove what it must, or answers nothing. Nothing was done.
    FriendRefused {
        /// In whose name.
        account: AccountId,
        /// Why, for logs: never content.
        reason: String,
    },
    /// A friend came or went, by the relay's word.
    Presence {
        /// Who.
        account: AccountId,
        /// Whether they are there.
        online: bool,
    },
    /// The relay deleted the account, as its owner asked; also told when a node is opened that has none any more.
    AccountDeleted,
    /// An entry could not be opened; it is kept out of sight and counted.
    Unreadable {
        /// Its thread.
        thread: ThreadId,
        /// Why, for logs: never content.
        reason: String,
    },
}
