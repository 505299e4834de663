//! The verdict: what a run came to.
//! Owns: the words for every broken promise, the sums of a run, the times from send to show.
//! Never: decides whether a promise is broken (`ledger`, `wire`, `canary`).

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_node::api::Path;

use crate::net::ProcessNo;

/// Something that must never happen, or did not happen that must.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// P1.
    #[error("P1: message {message} of process {author} was not shown to process {to}, and nobody was told")]
    Lost {
        /// Its number among everything said.
        message: usize,
        /// Who wrote it.
        author: ProcessNo,
        /// Who did not see it.
        to: ProcessNo,
    },
    /// P1: what a full log lost is told to its author, and to whoever lacks it.
    #[error(
        "P1: message {message} went from a full log before process {to} had it, and nothing shows process {to} that it is missing"
    )]
    LossHidden {
        /// Its number among everything said.
        message: usize,
        /// Who lacks it.
        to: ProcessNo,
    },
    /// P1: *delivered* means that it stands there.
    #[error("P1: process {author} was told that message {message} is on a device that has not shown it")]
    FalseReceipt {
        /// Its number among everything said.
        message: usize,
        /// Who was told so.
        author: ProcessNo,
    },
    /// P2, when all was whole again.
    #[error("P2: message {message} looks different to process {of} than to others")]
    Diverged {
        /// Its number among everything said.
        message: usize,
        /// Whose screen differs.
        of: ProcessNo,
    },
    /// P2.
    #[error("P2: message {message} was shown twice to process {to}")]
    Duplicate {
        /// Its number among everything said.
        message: usize,
        /// Who saw it twice.
        to: ProcessNo,
    },
    /// P2.
    #[error("P2: process {to} was shown something that {what}")]
    Misattributed {
        /// Who saw it.
        to: ProcessNo,
        /// What is wrong with it.
        what: &'static str,
    },
    /// P2: people read in the order of the authors' clocks.
    #[error("P2: message {later} of process {author} stands before its earlier message {earlier}")]
    Order {
        /// Who wrote both.
        author: ProcessNo,
        /// Said first.
        earlier: usize,
        /// Said later.
        later: usize,
    },
    /// P2: relays are handed a person's words in a thread in the order they were said.
    #[error("P2: message {earlier} of process {author} reached process {to} by relays after the later {later}")]
    Overtaken {
        /// Who wrote both.
        author: ProcessNo,
        /// Who saw them.
        to: ProcessNo,
        /// Said first, shown last.
        earlier: usize,
        /// Said last, shown first.
        later: usize,
    },
    /// P2.
    #[error("P2: the relay {relay} showed process {to} at place {sequence} an envelope that has a place already")]
    AppendedTwice {
        /// Whose log.
        relay: ProcessNo,
        /// Who was shown it.
        to: ProcessNo,
        /// The second place.
        sequence: u64,
    },
    /// P3.
    #[error("P3: process {to} was shown a message of a device that nobody added")]
    Unentitled {
        /// Who saw it.
        to: ProcessNo,
    },
    /// P3.
    #[error(
        "P3: the relay of process {by} took what it handed in to a thread it is out of, and process {to} was given it"
    )]
    Outsider {
        /// Who was given it.
        to: ProcessNo,
        /// Who is out, by what their relay had shown by then.
        by: ProcessNo,
    },
    /// P4.
    #[error("P4: the text of a message is in {place} of the relay {relay}")]
    Leaked {
        /// Whose.
        relay: ProcessNo,
        /// Where.
        place: &'static str,
    },
    /// P4.
    #[error("P4: the text of a message is in a log line of {target}")]
    Logged {
        /// The module that wrote it.
        target: String,
    },
    /// P5.
    #[error("P5: process {of} was brought together with an account that its owner never met")]
    Intruder {
        /// Whose node believed it.
        of: ProcessNo,
    },
    /// P10.
    #[error("P10: process {to} was told that somebody is there who never agreed to be seen by its owner")]
    Seen {
        /// Who was told.
        to: ProcessNo,
    },
    /// P10.
    #[error("P10: the relay of process {to} let through what process {by} handed in after it was kept away")]
    Unwanted {
        /// Who had ended it, and was told so.
        to: ProcessNo,
        /// Who is kept away.
        by: ProcessNo,
    },
    /// P10, when all was whole again.
    #[error("P10: process {of} was never told that whoever it kept away or hid from is")]
    Unended {
        /// Whose owner waits.
        of: ProcessNo,
    },
    /// Its owner was told that the account is deleted (docs/protocol/user.md 12).
    #[error("P10: the relay {relay} keeps {rows} rows about process {of}, whose account it said is deleted")]
    Remains {
        /// Who keeps them.
        relay: ProcessNo,
        /// Whose account it was.
        of: ProcessNo,
        /// How many.
        rows: u64,
    },
    /// Its owner asked for what is kept (docs/protocol/user.md 11), when all was whole again.
    #[error("P10: process {of} asked for what its relay keeps of it and was not given it to the end")]
    Ungiven {
        /// Who asked.
        of: ProcessNo,
    },
    /// The same.
    #[error(
        "P10: what process {of} was given lacks {missing} rows its relay keeps of it, and has {beyond} it should not"
    )]
    Misgiven {
        /// Who asked.
        of: ProcessNo,
        /// Rows that are kept and were not given as they are.
        missing: usize,
        /// Rows that were given and are not kept of them, or were given twice.
        beyond: usize,
    },
    /// A device that cannot be reached there.
    #[error("the relay {relay} woke an endpoint that nobody named")]
    WokeNobody {
        /// Which relay.
        relay: ProcessNo,
    },
    /// Whoever names somebody else's endpoint would have them woken.
    #[error("the relay {relay} woke process {of} at an endpoint that nobody showed to be its own")]
    WokeUnshown {
        /// Which relay.
        relay: ProcessNo,
        /// Who named the endpoint.
        of: ProcessNo,
    },
    /// At most once in 30 s.
    #[error("the relay {relay} woke process {of} twice within 30 s")]
    WokeOften {
        /// Which relay.
        relay: ProcessNo,
        /// Whom.
        of: ProcessNo,
    },
    /// What somebody keeps quiet wakes nobody.
    #[error("process {of} was woken for a thread that its owner keeps quiet")]
    WokeForQuiet {
        /// Who.
        of: ProcessNo,
    },
    /// Something waited.
    #[error("a message waited for process {of}, and its relay did not wake it")]
    Unwoken {
        /// Who.
        of: ProcessNo,
    },
    /// When all was whole again.
    #[error("process {of} asked for the list of its threads and was not given it")]
    Unlisted {
        /// Who.
        of: ProcessNo,
    },
    /// When all was whole again.
    #[error("the relay of process {of} has no row of a thread it is in")]
    RowMissing {
        /// Who.
        of: ProcessNo,
    },
    /// When all was whole again, and everything was acknowledged.
    #[error("the relay of process {of} counts {unread} messages as unread that the device has")]
    StillUnread {
        /// Who.
        of: ProcessNo,
        /// So many.
        unread: u64,
    },
    /// When all was whole again.
    #[error("the relay of process {of} keeps no settings of a thread whose settings it was given")]
    SettingsMissing {
        /// Who.
        of: ProcessNo,
    },
    /// P9: no hour sees more than ten.
    #[error("P9: process {to} was handed more keys of process {of} than an hour allows")]
    TooManyKeys {
        /// Who was.
        to: ProcessNo,
        /// Whose.
        of: ProcessNo,
    },
    /// P3, of the relay: whoever goes out of a group is given the commit that says so as the last.
    #[error("P3: process {to} was pushed what was said in a group after it was out of it")]
    PushedOn {
        /// Who.
        to: ProcessNo,
    },
    /// When all was whole again.
    #[error(
        "process {who} is served at another push address than the one its account belongs to, and did not try that"
    )]
    AtAnotherDoor {
        /// Who.
        who: ProcessNo,
    },
    /// P3: a card is signed by a device of its account.
    #[error("P3: process {to} was shown a card of process {of} that its owner never put up")]
    StrangeCard {
        /// Who.
        to: ProcessNo,
        /// Whose.
        of: ProcessNo,
    },
    /// P7: what its owner was answered for is there.
    #[error("P7: process {to} was shown a card of process {of} that is older than the one its owner was answered for")]
    StaleCard {
        /// Who.
        to: ProcessNo,
        /// Whose.
        of: ProcessNo,
    },
    /// When all was whole again.
    #[error("process {to} looked at the card of process {of}, which is up, and was not shown it")]
    UnshownCard {
        /// Who.
        to: ProcessNo,
        /// Whose.
        of: ProcessNo,
    },
    /// When all was whole again.
    #[error("process {who} has a good token of its relay's operator, and has no account there")]
    KeptOut {
        /// Who.
        who: ProcessNo,
    },
    /// When all was whole again.
    #[error("the relay {relay} let process {who} in without a token that lets anybody in")]
    CameUninvited {
        /// Whose account it is.
        relay: ProcessNo,
        /// Who.
        who: ProcessNo,
    },
    /// When all was whole again.
    #[error("the relay {relay} let {came} accounts in by a token for {uses}")]
    TokenOverused {
        /// Which.
        relay: ProcessNo,
        /// So many it was for.
        uses: u32,
        /// So many came.
        came: u32,
    },
    /// When all was whole again: a use was taken of it and no account was there for it.
    #[error("the relay {relay} turned somebody away with a token for {uses} accounts by which {came} came in")]
    TokenShort {
        /// Which.
        relay: ProcessNo,
        /// So many it was for.
        uses: u32,
        /// So many came.
        came: u32,
    },
    /// When all was whole again: the other may go on believing in a friendship for ever.
    #[error("P10: process {to} never heard that process {by} ended their friendship")]
    Untold {
        /// Who ought to.
        to: ProcessNo,
        /// Who ended it, and was told so.
        by: ProcessNo,
    },
    /// When all was whole again.
    #[error("P10: process {to} was not told that process {of} is there, who lets it")]
    Unseen {
        /// Who ought to be.
        to: ProcessNo,
        /// Who is there.
        of: ProcessNo,
    },
    /// A relay shows somebody long after the last word from them.
    #[error("P10: process {to} is shown that process {of} is there, of whom their relay has heard nothing for minutes")]
    StillSeen {
        /// Who is shown it.
        to: ProcessNo,
        /// Who is away.
        of: ProcessNo,
    },
    /// P10: whoever is dialled sees the address of who dials.
    #[error("P10: the node of process {by} dialled process {to}, against its owner's will")]
    Dialled {
        /// Whose.
        by: ProcessNo,
        /// Whom.
        to: ProcessNo,
    },
    /// P5: every relay of a drawn world shows everybody one tree.
    #[error("P5: the node of process {of} found an honest relay to show different people different account logs")]
    TwoFaces {
        /// Whose.
        of: ProcessNo,
    },
    /// P6: no hub of a drawn world signs two orders.
    #[error("P6: the node of process {of} found that the hub of a group signed two orders of its commits")]
    TwoOrders {
        /// Whose.
        of: ProcessNo,
    },
    /// P6: a hub that turned on its users signed two orders.
    #[error("P6: the node of process {of} was told of two commits for one epoch, both signed, and has no proof of it")]
    Unproved {
        /// Whose.
        of: ProcessNo,
    },
    /// P7.
    #[error("P7: the relay {relay} showed process {to} another entry at place {sequence} than before")]
    Rewritten {
        /// Whose log.
        relay: ProcessNo,
        /// Who was shown it.
        to: ProcessNo,
        /// The place.
        sequence: u64,
    },
    /// P7: a store that went back is an old copy, and none was made.
    #[error("P7: a thread of process {of} halted: its node takes its store for an old copy")]
    Halted {
        /// Whose.
        of: ProcessNo,
    },
    /// P7: so does a whole store.
    #[error("P7: the relay of process {of} takes its store for an old copy")]
    Outdated {
        /// Whose.
        of: ProcessNo,
    },
    /// P6.
    #[error(
        "P6: process {of} is in a thread by the node of process {from}, and not at the same epoch with the same members"
    )]
    Apart {
        /// Who.
        of: ProcessNo,
        /// Who is in it, too.
        from: ProcessNo,
    },
    /// P6: once all has healed, three minutes are enough ([`crate::judge::CONVERGE_MAX`]).
    #[error("P6: process {of} was not where process {from} is in a thread for {seconds} s after all had healed")]
    Lagged {
        /// Who.
        of: ProcessNo,
        /// Who is in it, too.
        from: ProcessNo,
        /// So long so far.
        seconds: u64,
    },
    /// P6: the same number and the same members are not yet the same epoch.
    #[error("P6: processes {of} and {from} are at one epoch of a thread with one another, by different commits")]
    Branched {
        /// Who.
        of: ProcessNo,
        /// Who is in it, too.
        from: ProcessNo,
    },
    /// P6, when all was whole again: to stand at one epoch for ever is not to converge.
    #[error(
        "P6: the node of process {of}, which runs, never said what became of a change of a group, or could not make one when all had healed"
    )]
    Unchanged {
        /// Whose node.
        of: ProcessNo,
    },
    /// P6.
    #[error("P6: the node of the admin {admin} said that process {of} is out of a group, and it is in it")]
    StillIn {
        /// Who.
        of: ProcessNo,
        /// Whose group.
        admin: ProcessNo,
    },
    /// P5.
    #[error("P5: by the node of process {by}, process {of} is an admin of a group, and no admin made them one")]
    Usurped {
        /// Who is one.
        of: ProcessNo,
        /// Whose node says so.
        by: ProcessNo,
    },
    /// P6.
    #[error(
        "P6: processes {of} and {from} are in one epoch of a group, and their nodes differ in who may do what in it"
    )]
    RuledApart {
        /// Who.
        of: ProcessNo,
        /// And who.
        from: ProcessNo,
    },
    /// P1, and nobody was hostile.
    #[error("P1: process {of} could not open an entry ({reason}), and nobody is hostile")]
    Unopened {
        /// Whose node.
        of: ProcessNo,
        /// Its words.
        reason: String,
    },
    /// P1, and nobody was hostile.
    #[error("P1: process {of} refused an invitation ({reason}), and nobody is hostile")]
    Uninvited {
        /// Whose node.
        of: ProcessNo,
        /// Its words.
        reason: String,
    },
    /// P1, and there was no reason.
    #[error("P1: message {message} of process {author} was given up, and nobody is hostile or out of room")]
    GivenUp {
        /// Its number among everything said.
        message: usize,
        /// Who wrote it.
        author: ProcessNo,
    },
    /// P1, and there was no reason.
    #[error("P1: the node of process {author} did not take message {message}, and nobody is hostile or out of room")]
    Declined {
        /// Its number among everything said.
        message: usize,
        /// Who wrote it.
        author: ProcessNo,
    },
    /// P1: an author who hears neither yes nor no.
    #[error("P1: the node of process {author} never said what became of message {message}")]
    Unanswered {
        /// Its number among everything said.
        message: usize,
        /// Who wrote it.
        author: ProcessNo,
    },
    /// P2: history stands in the order of its authors' clocks.
    #[error("P2: the history of process {of} is out of order")]
    Unsorted {
        /// Whose.
        of: ProcessNo,
    },
    /// P8.
    #[error("P8: the run panicked: {what}")]
    Panicked {
        /// Its words.
        what: String,
    },
    /// P12.
    #[error("P12: the same seed gave another run")]
    Differs,
    /// P1, of the devices of one person.
    #[error("P1: message {message} is on one device of somebody, and never came to the other, process {of}")]
    Missed {
        /// Its number among everything said.
        message: usize,
        /// Where it is missing.
        of: ProcessNo,
    },
    /// P1, of the devices of one person, when all was whole again.
    #[error(
        "P1: process {of} is still on its way to an account's threads, or off it, or to what was said before it came"
    )]
    Unfinished {
        /// The device.
        of: ProcessNo,
    },
    /// P11, likewise.
    #[error("P11: process {of} does not hold the same contacts, blocks and titles as the other device of its owner")]
    Unlike {
        /// The device.
        of: ProcessNo,
    },
    /// P3, of a device that was taken off its account.
    #[error("P3: message {message} was shown on process {of}, which was off its account when it was said")]
    ReadOn {
        /// Its number among everything said.
        message: usize,
        /// Where it was shown.
        of: ProcessNo,
    },
    /// P3, likewise, when all was whole again.
    #[error("P3: process {of} is off its account, and in a thread on process {at} all the same")]
    Stays {
        /// The device.
        of: ProcessNo,
        /// Where it is held to be in.
        at: ProcessNo,
    },
    /// P7.
    #[error("P7: message {message} was on the screen of process {of}, and is not in its history any more")]
    Vanished {
        /// Its number among everything said.
        message: usize,
        /// Who had it.
        of: ProcessNo,
    },
    /// Two people who want to talk cannot.
    #[error("process {accepter} never got to take up the invite of process {inviter}")]
    Unmet {
        /// Who invited.
        inviter: ProcessNo,
        /// Who was invited.
        accepter: ProcessNo,
    },
    /// A process could not go on, and not because of a fault of this world.
    #[error("process {process} stopped: {why}")]
    Stopped {
        /// Which.
        process: ProcessNo,
        /// Its words.
        why: String,
    },
}

/// Times of one path from send to show.
#[derive(Clone, Debug, Default)]
pub struct Times {
    micros: Vec<u64>,
}

impl Times {
    /// One more, in microseconds.
    pub(super) fn add(&mut self, micros: u64) {
        self.micros.push(micros);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// The time that a share of all does not exceed, in milliseconds (nearest rank); zero of none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize - 1;
        sorted.get(rank).map_or(0.0, |micros| *micros as f64 / 1_000.0)
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Messages their author's node answered for.
    pub sent: u64,
    /// Of these, showings to people entitled to them; one for each.
    pub shown: u64,
    /// Of these, showings that never happened without anybody being told.
    pub lost: u64,
    /// Showings too many.
    pub duplicates: u64,
    /// Showings of what nobody said, or not so.
    pub misattributed: u64,
    /// Messages whose author was told that they failed.
    pub failed: u64,
    /// Texts that a node did not take.
    pub declined: u64,
    /// Showings of messages whose author never heard that they were taken: the node crashed between.
    pub unconfirmed: u64,
    /// From send to show, at worst.
    pub slowest: Duration,
    /// Entries that a node could not open and kept out of sight. What they carried is lost, or came another way.
    pub unreadable: u64,
    /// Everything that must not be, counted.
    pub violations: u64,
    /// The first of them.
    pub examples: Vec<Violation>,
    /// Send-to-show times by path.
    pub times: BTreeMap<Path, Times>,
}

impl Verdict {
    /// Of a run that came to nothing but this.
    pub fn of(violation: Violation) -> Self {
        let mut verdict = Self::default();
        verdict.add(violation);
        verdict
    }

    /// Adds what was found outside the world.
    pub fn add(&mut self, violation: Violation) {
        self.violations += 1;
        self.examples.push(violation);
    }
}
