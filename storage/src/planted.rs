//! Planted bugs: defects on purpose, by which the simulator's judge is itself judged.
//! Owns: their names and the one that is planted. Every core looks here, for this crate is below all of them.
//! Never: in a shipped program, whose release build asserts that it is not [`PLANTABLE`]. Without the feature `planted`,
//! which only the simulator's feature of that name turns on, nothing can be planted, [`active`] is a constant, and what
//! it guards is not compiled.

/// Whether bugs can be planted in this build.
pub const PLANTABLE: bool = cfg!(feature = "planted");

macro_rules! bugs {
    ($($(#[$about:meta])* $bug:ident = $name:literal,)+) => {
        /// A defect on purpose.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Bug {
            $($(#[$about])* $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// What people call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name),+
                }
            }
        }
    };
}

bugs! {
    /// A sync returns without having made anything durable.
    SkipFlush = "skip-flush",
    /// A relay answers what is applied and not synced.
    AnswerEarly = "answer-early",
    /// A relay pushes and forwards what it read before it was synced.
    ReadUnsynced = "read-unsynced",
    /// What a node decides leaves before it is durable.
    ReleaseEarly = "release-early",
    /// A node acknowledges its place in a log before the place is durable.
    AcknowledgeEarly = "acknowledge-early",
    /// A node keeps no row of the envelopes it opened.
    ForgetDedup = "forget-dedup",
    /// A node keeps the place of a log and forgets what did not fit its thread yet.
    LoseParked = "lose-parked",
    /// A node moves its place over entries it was not given.
    MovePastGap = "move-past-gap",
    /// A node gives two envelopes the same place in its outbox.
    ReuseOrder = "reuse-order",
    /// A node hands its newest envelopes in first.
    SendBackwards = "send-backwards",
    /// A node takes the end of the race for the answer of the direct path.
    TrustRace = "trust-race",
    /// A node drops a message whose clock is far from its own.
    TrustClock = "trust-clock",
    /// A node takes the relay's word for the devices of an account.
    TrustDevices = "trust-devices",
    /// A relay begins one entry after the cursor when a device comes back.
    SkipOnResume = "skip-on-resume",
    /// A relay takes what it pushed for what the device acknowledged.
    CursorAtPush = "cursor-at-push",
    /// A node goes on behind a call over HTTPS that never arrived, and its relay lets it.
    PollCursorSkips = "poll-cursor-skips",
    /// A relay lets go what one reader has, not what all have.
    TrimEagerly = "trim-eagerly",
    /// A relay forgets the row for a peer when others wait for the same peer.
    ForgetForward = "forget-forward",
    /// A relay does not remember which envelopes it has.
    AcceptTwice = "accept-twice",
    /// A relay gives a new log the number of another.
    ReuseLog = "reuse-log",
    /// A relay hands a one-time KeyPackage out twice.
    PackageTwice = "package-twice",
    /// A relay lets a peer speak for users of others.
    PeerSpeaksForAll = "peer-speaks-for-all",
    /// A relay opens threads with people who did not agree.
    IgnoreConsent = "ignore-consent",
    /// A relay lets the words of somebody who is kept away into a thread of two.
    IgnoreBlock = "ignore-block",
    /// A relay keeps a friend in the list of an owner who removed them.
    KeepRemoved = "keep-removed",
    /// A relay shows people who hide.
    ShowHidden = "show-hidden",
    /// A relay shows somebody to whoever has them in a list, whether or not they let themselves be seen.
    ShowToAll = "show-to-all",
    /// A relay remembers who hides in memory alone.
    ForgetHidden = "forget-hidden",
    /// A relay does not tell a peer anew who is there when the link to it comes back.
    TellPeersOnce = "tell-peers-once",
    /// A relay changes a list by somebody's word and does not pass the word on to the owner.
    SwallowWord = "swallow-word",
    /// A relay answers a word about friendship before it is durable.
    AnswerWordEarly = "answer-word-early",
    /// A relay writes into its log what it was handed.
    LogText = "log-text",
    /// A node draws the ids of threads from where its memory lies.
    OwnChance = "own-chance",
    /// A node keeps its history by when messages came, not by what their authors signed.
    OrderByArrival = "order-by-arrival",
    /// A hub takes a commit for an epoch that is over.
    AcceptStaleCommit = "accept-stale-commit",
    /// A hub takes a commit for what its author says that it is.
    BelieveCommits = "believe-commits",
    /// A hub gives newcomers the Welcome of a commit that lost.
    WelcomeEarly = "welcome-early",
    /// A node merges its own commit where another's won.
    MergeLost = "merge-lost",
    /// A member follows its own commit where another's won, as to which commits led here, and reads with the keys of the other:
    /// it is on another branch of the same length. Of the stand-in alone: in MLS the keys come from the branch.
    FollowLoser = "follow-loser",
    /// A node keeps the place of a log and forgets a commit that has to wait.
    ForgetCommit = "forget-commit",
    /// A node says that somebody is out of a group, and hands nothing in.
    RemovalDropped = "removal-dropped",
    /// A relay takes what a device that has no leaf any more hands in.
    IgnoreLeaf = "ignore-leaf",
    /// A relay lets a device that has no leaf any more read on.
    ReadOn = "read-on",
    /// A relay forgets some of the rows of an account that was deleted.
    DeletionLeavesRows = "deletion-leaves-rows",
    /// A relay that is asked for the next part of an account's data begins one row late.
    ExportSkips = "export-skips",
    /// A relay that a device comes in at again forgets the device's new link with the old one.
    TakeOverForgets = "take-over-forgets",
    /// A relay lets go of what waits in half the time it promised.
    ExpiryEarly = "expiry-early",
    /// What waited too long goes at the relay, which tells nobody, and no node says again what nobody says to have.
    ExpirySilent = "expiry-silent",
    /// What a full log drops goes without a word to its author, and whoever lacks it is not told what is gone.
    TrimSilent = "trim-silent",
    /// A relay does not tell a device that comes back what is gone of a log.
    GoneUntold = "gone-untold",
    /// A relay never takes anybody for gone because they are silent.
    DeadStay = "dead-stay",
    /// A node says to have a message whose text it did not keep.
    ReceiptEarly = "receipt-early",
    /// A node lets a member edit what another said.
    EditOfAnother = "edit-of-another",
    /// A node lets a member take back what another said.
    UnsendOfAnother = "unsend-of-another",
    /// A node leaves a device of its own account out of some threads, and has nothing to give it of them.
    SiblingMissed = "sibling-missed",
    /// A node leaves a device that was taken off its account in its threads.
    RevokedStays = "revoked-stays",
    /// A node does not take over who a device of its own account says is a contact, or kept away.
    FactForgotten = "fact-forgotten",
    /// A relay shows some of those who ask another tree of account logs.
    TwoFaces = "two-faces",
    /// A node tells its relay how far its store has come, and does not write down what it told.
    StampUnwritten = "stamp-unwritten",
    /// A hub tells everybody who hands a commit in that theirs holds, and signs that.
    TwoOrders = "two-orders",
    /// A relay wakes a device for all that is written, however short ago it did.
    WakeOften = "wake-often",
    /// A relay wakes a device at an endpoint that nobody has shown to be the device's.
    WakeUnchallenged = "wake-unchallenged",
    /// A relay wakes nobody.
    WakeNever = "wake-never",
    /// A relay takes a device whose link has ended for one that is there.
    LeaveLingers = "leave-lingers",
    /// A relay pushes to a device that went out of a group what comes after, until the device's link ends.
    EndLate = "end-late",
    /// A relay gives an account all its rates anew with each link.
    RatesAnew = "rates-anew",
    /// A node takes for said what its relay refused because it came too fast.
    DropSlowed = "drop-slowed",
    /// A node shows a card that nobody signed.
    CardUnproved = "card-unproved",
    /// A relay answers for a card and keeps the one before.
    CardKept = "card-kept",
    /// A relay with several push addresses sends nobody to theirs.
    NeverElsewhere = "never-elsewhere",
    /// A relay lets accounts in by a token and counts none of them.
    TokenUncounted = "token-uncounted",
    /// A relay that is asked again by an account it has takes another use of its token.
    TokenCountedTwice = "token-counted-twice",
    /// A relay says to keep the settings of a thread, and keeps none.
    SettingsLost = "settings-lost",
    /// A relay counts what a device has read as unread.
    UnreadStays = "unread-stays",
    /// A relay makes no row of a thread for some of those in it.
    RowLost = "row-lost",
    /// A node dials whoever says where they are, whatever its owner wants and whoever they are.
    DialAnybody = "dial-anybody",
    /// A hub, and every member, lets anybody do in a group what only its admins may.
    AnybodyRules = "anybody-rules",
    /// A hub, and every member, takes a warrant for what it is said to be, whatever is in it.
    WarrantUnread = "warrant-unread",
}

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        // Of the thread, not of the process: a world lives on one thread, and tests run side by side.
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in everything this thread runs, or none. Returns the one that was planted.
    pub fn plant(bug: Option<Bug>) -> Option<Bug> {
        PLANTED.replace(bug)
    }

    /// Whether this bug is planted here.
    pub fn active(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(feature = "planted"))]
mod switch {
    use super::Bug;

    /// Whether this bug is planted here: without the feature, never.
    #[inline(always)]
    pub const fn active(_: Bug) -> bool {
        false
    }
}

pub use switch::*;
