//! The ledger: what people said, and what was shown to whom. The reference model of a run.
//! Owns: the account of every text from the moment its author's node answered for it to the last screen; who was
//! introduced to whom; every violation found.
//! Never: asks a node or a relay what it thinks; it hears what people hear, and what arrives at their devices.
//!
//! It checks promises P1 (what was acknowledged is shown, or its author is told), P2 (never twice, never under another
//! author, text, thread or place than its author gave it), P3 (its author is an entitled device), P5 (nobody gets into
//! a thread or a list of contacts whom its owner did not meet) and P7 (what was acknowledged or shown is still there
//! after a crash) of docs/threat-model.md.
//!
//! While nobody is hostile ([`Conduct`]) it asks for more: every entry can be opened, every opening is taken, no thread
//! halts, and what one person says to another overtakes nothing on its way through the relays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::api::{Event, Message, Path};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, MessageId, ThreadId};
use whimbrel_protocol::push::{EntryBody, Push};
use whimbrel_protocol::time::Hlc;

use super::canary::Canaries;
use super::wire::Wire;
use crate::engine::{Seed, Time};
use crate::net::ProcessNo;

/// Violations kept in full; more are only counted.
const VIOLATIONS_KEPT: usize = 32;

/// The number of something a person said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SaidNo(usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// Handed to the node; no answer yet. It may be shown all the same: an answer can be lost in a crash.
    Asked,
    /// The node answered that it is on its disk: it owes.
    Owed,
    /// The author was told that it will not arrive.
    Failed,
}

#[derive(Debug)]
struct Said {
    author: ProcessNo,
    to: Vec<ProcessNo>,
    text: String,
    at: Time,
    word: Word,
    message: Option<MessageId>,
    hlc: Option<Hlc>,
    shown: BTreeMap<ProcessNo, Time>,
}

/// How the parties of a run behave by design: what an honest world never shows, a hostile one may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Conduct {
    /// A relay or a member turns on the others.
    pub hostile: bool,
    /// Disks fill up, and relays refuse for want of room.
    pub scarce: bool,
}

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
    /// P2: relays are handed a person's words in the order they were said.
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
    /// P8.
    #[error("P8: the run panicked: {what}")]
    Panicked {
        /// Its words.
        what: String,
    },
    /// P12.
    #[error("P12: the same seed gave another run")]
    Differs,
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

/// The account of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    said: Vec<Said>,
    by_message: BTreeMap<MessageId, usize>,
    /// What was asked for and has no message id yet, by author and text.
    unnamed: BTreeMap<(ProcessNo, String), BTreeSet<usize>>,
    threads: BTreeMap<ThreadId, BTreeSet<ProcessNo>>,
    accounts: BTreeMap<AccountId, ProcessNo>,
    owed: usize,
    times: BTreeMap<Path, Times>,
    /// What must be found in each process's history from now on.
    kept: BTreeMap<ProcessNo, BTreeSet<usize>>,
    /// What was shown, in the order it was, by process.
    screens: BTreeMap<ProcessNo, Vec<usize>>,
    duplicates: u64,
    misattributed: u64,
    vanished: u64,
    unreadable: u64,
    violations: Vec<Violation>,
    /// Who was introduced to whom, both ways.
    acquainted: BTreeSet<(ProcessNo, ProcessNo)>,
    /// The newest words that came by relays, by reader and author.
    newest: BTreeMap<(ProcessNo, ProcessNo), usize>,
    /// Where each device lives.
    homes: BTreeMap<ProcessNo, ProcessNo>,
    wire: Wire,
    canaries: Canaries,
    conduct: Conduct,
    /// Everything that was found, counted; the first of them are kept.
    found: u64,
    /// Test only: the screen that the judge does not look at.
    #[cfg(test)]
    pub(crate) blind: Option<u64>,
}

impl Ledger {
    /// Nothing said; the run of this seed.
    pub fn of(seed: Seed) -> Self {
        Self { canaries: Canaries::of(seed), ..Self::default() }
    }

    /// The mark every text of the run must carry.
    pub const fn canaries(&self) -> &Canaries {
        &self.canaries
    }

    /// Some party of this run behaves so, beside what is known already.
    pub const fn conduct(&mut self, conduct: Conduct) {
        self.conduct.hostile |= conduct.hostile;
        self.conduct.scarce |= conduct.scarce;
    }

    /// From now on what this relay says proves nothing about it.
    pub fn hostile_relay(&mut self, relay: ProcessNo) {
        self.wire.hostile(relay);
    }

    /// Two people are to get to know each other.
    pub fn introduced(&mut self, one: ProcessNo, other: ProcessNo) {
        self.acquainted.extend([(one, other), (other, one)]);
    }

    /// Whether two people were introduced to each other.
    pub fn knows(&self, one: ProcessNo, other: ProcessNo) -> bool {
        self.acquainted.contains(&(one, other))
    }

    /// Where a device lives.
    pub fn lives(&mut self, device: ProcessNo, relay: ProcessNo) {
        self.homes.insert(device, relay);
    }

    /// A frame arrived.
    pub fn arrived(&mut self, from: ProcessNo, to: ProcessNo, frame: &Frame) {
        match frame {
            Frame::Push(run) if self.homes.get(&to) == Some(&from) => self.pushed(to, from, run),
            Frame::Submit(words) if self.homes.get(&from) == Some(&to) => self.wire.submitted(from, &words.envelope),
            // Whoever opens a thread has held every device in it against its account's log.
            Frame::OpenThread(words)
                if self.homes.get(&from) == Some(&to)
                    && !words.opening.devices().all(|device| self.exists(&device)) =>
            {
                self.violate(Violation::Intruder { of: from });
            }
            _ => {}
        }
    }

    fn pushed(&mut self, to: ProcessNo, relay: ProcessNo, run: &Push) {
        if self.wire.is_hostile(relay) {
            return;
        }
        self.wire.pushed(to, relay, run).into_iter().for_each(|violation| self.violate(violation));
        for entry in &run.entries {
            match &entry.body {
                EntryBody::Envelope(submitter, envelope) => {
                    let by = self.process_of(&submitter.account);
                    // A hostile home may say of its own users what it likes.
                    let home = by.and_then(|by| self.homes.get(&by));
                    let word = home.is_none_or(|home| !self.wire.is_hostile(*home));
                    if word && (by.is_none() || self.wire.author(envelope) != by) {
                        self.misattribute(to, "its relay says another handed in than did");
                    }
                }
                EntryBody::Invitation(invitation) => self.met(to, &invitation.inviter.account),
            }
        }
    }

    /// Every account of this world has the one device it was made with.
    fn exists(&self, device: &DeviceId) -> bool {
        device.index == DeviceIndex::FIRST && self.accounts.contains_key(&device.account)
    }

    /// The search for plain text found some.
    pub fn leaked(&mut self, relay: ProcessNo, place: &'static str) {
        self.violate(Violation::Leaked { relay, place });
    }

    /// A node tells its owner something. Messages shown, and commands answered, have calls of their own.
    pub fn told(&mut self, on: ProcessNo, event: &Event) {
        let honest = !self.conduct.hostile;
        match event {
            Event::ThreadOpened { people, .. } => people.iter().for_each(|account| self.met(on, account)),
            Event::ContactAdded { account, .. } => self.met(on, account),
            Event::ThreadHalted { .. } if honest => self.violate(Violation::Halted { of: on }),
            Event::InvitationRefused { reason, .. } if honest => {
                self.violate(Violation::Uninvited { of: on, reason: reason.clone() });
            }
            Event::Unreadable { reason, .. } => {
                self.unreadable += 1;
                if honest {
                    self.violate(Violation::Unopened { of: on, reason: reason.clone() });
                }
            }
            _ => {}
        }
    }

    fn met(&mut self, on: ProcessNo, account: &AccountId) {
        let known = self.process_of(account).is_some_and(|other| self.acquainted.contains(&(on, other)));
        if !known {
            self.violate(Violation::Intruder { of: on });
        }
    }

    /// Whose account it is.
    pub fn account(&mut self, account: AccountId, process: ProcessNo) {
        self.accounts.insert(account, process);
    }

    /// The process of an account.
    pub fn process_of(&self, account: &AccountId) -> Option<ProcessNo> {
        self.accounts.get(account).copied()
    }

    /// These people talk in this thread, as one of them was told.
    pub fn thread(&mut self, thread: ThreadId, people: BTreeSet<ProcessNo>, told: ProcessNo) {
        if *self.threads.entry(thread).or_insert_with(|| people.clone()) != people {
            self.misattribute(told, "is a thread of other people");
        }
    }

    /// Somebody hands a text to their node.
    pub fn ask(&mut self, author: ProcessNo, to: Vec<ProcessNo>, text: String, at: Time) -> SaidNo {
        let number = self.said.len();
        self.unnamed.entry((author, text.clone())).or_default().insert(number);
        let (word, message, hlc, shown) = (Word::Asked, None, None, BTreeMap::new());
        self.said.push(Said { author, to, text, at, word, message, hlc, shown });
        SaidNo(number)
    }

    /// The node answered that the text is on its disk: from here on it is owed.
    pub fn queued(&mut self, SaidNo(number): SaidNo, message: MessageId) {
        let Some(said) = self.said.get_mut(number) else { return };
        if said.word == Word::Asked {
            said.word = Word::Owed;
            self.owed += said.to.iter().filter(|to| !said.shown.contains_key(to)).count();
        }
        let author = said.author;
        self.kept.entry(author).or_default().insert(number);
        match said.message {
            Some(known) if known != message => self.misattribute(author, "has another id than its author was given"),
            Some(_) => {}
            None => self.name(number, message),
        }
    }

    /// The node did not take the text.
    pub fn declined(&mut self, SaidNo(number): SaidNo) {
        if let Some(said) = self.said.get_mut(number)
            && said.word == Word::Asked
        {
            said.word = Word::Failed;
        }
    }

    /// The author was told that a message failed.
    pub fn failed(&mut self, message: &MessageId) {
        let said = self.by_message.get(message).and_then(|number| self.said.get_mut(*number));
        if let Some(said) = said
            && said.word == Word::Owed
        {
            said.word = Word::Failed;
            self.owed -= said.to.iter().filter(|to| !said.shown.contains_key(to)).count();
            let author = said.author;
            if self.conduct == Conduct::default()
                && let Some(number) = self.by_message.get(message).copied()
            {
                self.violate(Violation::GivenUp { message: number, author });
            }
        }
    }

    /// A message appears on a screen, as something new.
    pub fn shown(&mut self, on: ProcessNo, message: &Message, at: Time) {
        #[cfg(test)]
        if let Some(left) = &mut self.blind {
            *left = left.wrapping_sub(1);
            if *left == 0 {
                return;
            }
        }
        let Some(number) = self.recognise(on, message) else { return };
        let Some(said) = self.said.get(number) else { return };
        if said.shown.contains_key(&on) {
            self.duplicates += 1;
            return self.violate(Violation::Duplicate { message: number, to: on });
        }
        let (micros, author) = (at.since(said.at).as_micros(), said.author);
        self.appear(number, on, at);
        // A direct link may be faster than what went before it by relays; relays keep the order of their users. Unless
        // one was out of room for the first and had some for the second.
        if matches!(message.path, Some(Path::Relay | Path::Federation)) && self.conduct == Conduct::default() {
            let newest = self.newest.entry((on, author)).or_insert(number);
            let later = *newest;
            *newest = later.max(number);
            if later > number {
                self.violate(Violation::Overtaken { author, to: on, earlier: number, later });
            }
        }
        if let Some(path) = message.path {
            self.times.entry(path).or_default().micros.push(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }

    /// What a person finds in the history of all their conversations: everything that appeared before must be there,
    /// once. After a start (`started`), what did not appear before does now: the node died when it had the message on
    /// its disk and had not said so. At any other time it is no excuse for a node that kept silent.
    pub fn history(&mut self, on: ProcessNo, messages: &[Message], started: Option<Time>) {
        let mut there = BTreeSet::new();
        for message in messages {
            let Some(number) = self.recognise(on, message) else { continue };
            if !there.insert(number) {
                self.duplicates += 1;
                self.violate(Violation::Duplicate { message: number, to: on });
            } else if let Some(at) = started
                && self.said.get(number).is_some_and(|said| !said.shown.contains_key(&on))
            {
                self.appear(number, on, at);
            }
        }
        let kept = self.kept.get(&on);
        let vanished: Vec<_> = kept.into_iter().flat_map(|kept| kept.difference(&there)).copied().collect();
        for message in vanished {
            self.vanished += 1;
            self.violate(Violation::Vanished { message, of: on });
        }
    }

    /// Which of all that was said this is; nothing, and a violation, when nobody said it so.
    fn recognise(&mut self, on: ProcessNo, message: &Message) -> Option<usize> {
        let Some(author) = self.process_of(&message.author.account) else {
            self.misattribute(on, "has an author who does not exist");
            return None;
        };
        let strange = |people: &BTreeSet<ProcessNo>| !people.contains(&author);
        if !self.exists(&message.author) || self.threads.get(&message.thread).is_some_and(strange) {
            self.violate(Violation::Unentitled { to: on });
            return None;
        }
        let number = self.by_message.get(&message.message).copied().or_else(|| {
            let unnamed = self.unnamed.get(&(author, message.text.clone()))?;
            unnamed.first().copied().inspect(|number| self.name(*number, message.message))
        });
        let Some((number, said)) = number.and_then(|number| Some((number, self.said.get_mut(number)?))) else {
            self.misattribute(on, "nobody said");
            return None;
        };
        let people: BTreeSet<_> = said.to.iter().copied().chain([said.author]).collect();
        let wrong = if said.author != author {
            Some("somebody else said")
        } else if said.text != message.text {
            Some("was said differently")
        } else if !people.contains(&on) {
            Some("was not meant for it")
        } else if self.threads.get(&message.thread).is_some_and(|of| *of != people) {
            Some("was said in another thread")
        } else if *said.hlc.get_or_insert(message.hlc) != message.hlc {
            Some("stands in another place for others")
        } else {
            None
        };
        wrong.map(|what| self.misattribute(on, what)).is_none().then_some(number)
    }

    fn appear(&mut self, number: usize, on: ProcessNo, at: Time) {
        let Some(said) = self.said.get_mut(number) else { return };
        said.shown.insert(on, at);
        self.kept.entry(on).or_default().insert(number);
        // One's own words on one's own screen owe nothing.
        if on != said.author {
            self.owed -= usize::from(said.word == Word::Owed);
            self.screens.entry(on).or_default().push(number);
        }
    }

    /// A process could not go on.
    pub fn stopped(&mut self, process: ProcessNo, why: String) {
        self.violate(Violation::Stopped { process, why });
    }

    /// Messages owed to somebody who has not seen them.
    pub const fn owed(&self) -> usize {
        self.owed
    }

    /// What was shown to a person, in the order it was.
    pub fn screen(&self, of: ProcessNo) -> Vec<&str> {
        let numbers = self.screens.get(&of).into_iter().flatten();
        numbers.filter_map(|number| self.said.get(*number)).map(|said| said.text.as_str()).collect()
    }

    /// Send-to-show times by path.
    pub const fn times(&self) -> &BTreeMap<Path, Times> {
        &self.times
    }

    /// Closes the account: what is still owed now is lost.
    pub fn close(mut self, unmet: &[(ProcessNo, ProcessNo)]) -> Verdict {
        let (mut lost, mut shown, mut unconfirmed, mut slowest) = (0, 0, 0, Duration::ZERO);
        let mut found = Vec::new();
        for (number, said) in self.said.iter().enumerate() {
            for to in &said.to {
                match (said.shown.get(to), said.word) {
                    (Some(_), Word::Asked) => unconfirmed += 1,
                    (Some(at), _) => {
                        shown += 1;
                        slowest = slowest.max(at.since(said.at));
                    }
                    (None, Word::Owed) => {
                        lost += 1;
                        found.push(Violation::Lost { message: number, author: said.author, to: *to });
                    }
                    (None, _) => {}
                }
            }
        }
        // What one person said to the same people must stand in the order it was said.
        let mut newest: BTreeMap<(ProcessNo, &[ProcessNo]), (Hlc, usize)> = BTreeMap::new();
        for (number, said) in self.said.iter().enumerate() {
            let Some(hlc) = said.hlc else { continue };
            let before = newest.insert((said.author, &said.to), (hlc, number));
            if let Some((_, earlier)) = before.filter(|(before, _)| *before >= hlc) {
                found.push(Violation::Order { author: said.author, earlier, later: number });
            }
        }
        found.extend(
            unmet.iter().map(|(inviter, accepter)| Violation::Unmet { inviter: *inviter, accepter: *accepter }),
        );
        found.into_iter().for_each(|violation| self.violate(violation));
        let sent = self.said.iter().filter(|said| said.message.is_some() && said.word != Word::Asked).count() as u64;
        Verdict {
            sent,
            shown,
            lost,
            duplicates: self.duplicates,
            misattributed: self.misattributed,
            failed: self.said.iter().filter(|said| said.word == Word::Failed && said.message.is_some()).count() as u64,
            declined: self.said.iter().filter(|said| said.word == Word::Failed && said.message.is_none()).count()
                as u64,
            unconfirmed,
            unreadable: self.unreadable,
            slowest,
            violations: self.found,
            examples: self.violations,
            times: self.times,
        }
    }

    fn name(&mut self, number: usize, message: MessageId) {
        let Some(said) = self.said.get_mut(number) else { return };
        said.message = Some(message);
        self.by_message.insert(message, number);
        let key = (said.author, said.text.clone());
        if let Some(unnamed) = self.unnamed.get_mut(&key) {
            unnamed.remove(&number);
            if unnamed.is_empty() {
                self.unnamed.remove(&key);
            }
        }
    }

    fn misattribute(&mut self, to: ProcessNo, what: &'static str) {
        self.misattributed += 1;
        self.violate(Violation::Misattributed { to, what });
    }

    fn violate(&mut self, violation: Violation) {
        self.found += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(violation);
        }
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

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use whimbrel_protocol::time::Wall;

    const ALICE: ProcessNo = 1;
    const BOB: ProcessNo = 2;

    fn account(process: ProcessNo) -> AccountId {
        AccountId::from_bytes([process as u8; 32])
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::of(Seed::from(1));
        for process in [ALICE, BOB] {
            ledger.account(account(process), process);
        }
        ledger.thread(ThreadId::from_bytes([9; 32]), BTreeSet::from([ALICE, BOB]), ALICE);
        ledger
    }

    fn message(id: u8, text: &str, millis: u64) -> Message {
        Message {
            thread: ThreadId::from_bytes([9; 32]),
            message: MessageId::from_bytes([id; 16]),
            author: DeviceId { account: account(ALICE), index: DeviceIndex::FIRST },
            hlc: Hlc { millis, count: 0 },
            received: Wall::default(),
            path: Some(Path::Relay),
            text: text.to_owned(),
        }
    }

    fn say(ledger: &mut Ledger, id: u8, text: &str) {
        let said = ledger.ask(ALICE, vec![BOB], text.to_owned(), Time::ZERO);
        ledger.queued(said, MessageId::from_bytes([id; 16]));
    }

    #[test]
    fn what_is_shown_once_to_whom_it_was_said_is_well() {
        let mut ledger = ledger();
        say(&mut ledger, 1, "hello");
        assert_eq!(ledger.owed(), 1);
        ledger.shown(BOB, &message(1, "hello", 1), Time::from_nanos(5_000_000));
        assert_eq!((ledger.owed(), ledger.screen(BOB)), (0, vec!["hello"]));
        let verdict = ledger.close(&[]);
        assert_eq!((verdict.sent, verdict.shown, verdict.lost, verdict.violations), (1, 1, 0, 0));
        assert!((verdict.times[&Path::Relay].quantile_ms(0.5) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn each_broken_promise_is_found() {
        let verdict = |act: &dyn Fn(&mut Ledger)| {
            let mut ledger = ledger();
            say(&mut ledger, 1, "hello");
            act(&mut ledger);
            ledger.close(&[])
        };
        let shown = |ledger: &mut Ledger, message: &Message| ledger.shown(BOB, message, Time::ZERO);
        assert_eq!(verdict(&|_| ()).lost, 1);
        assert_eq!(verdict(&|ledger| (0..3).for_each(|_| shown(ledger, &message(1, "hello", 1)))).duplicates, 2);
        for wrong in [
            message(1, "hullo", 1),
            message(2, "hullo", 1),
            Message {
                author: DeviceId { account: account(BOB), ..message(1, "", 0).author },
                ..message(1, "hello", 1)
            },
            Message { author: DeviceId { account: account(3), ..message(1, "", 0).author }, ..message(1, "hello", 1) },
        ] {
            assert_eq!(verdict(&|ledger| shown(ledger, &wrong)).misattributed, 1);
        }
        assert_eq!(verdict(&|ledger| ledger.shown(3, &message(1, "hello", 1), Time::ZERO)).misattributed, 1);
        let reordered = verdict(&|ledger| {
            say(ledger, 2, "there");
            shown(ledger, &message(2, "there", 1));
            shown(ledger, &message(1, "hello", 2));
        });
        let overtaken = Violation::Overtaken { author: ALICE, to: BOB, earlier: 0, later: 1 };
        assert_eq!(reordered.examples, [overtaken, Violation::Order { author: ALICE, earlier: 0, later: 1 }]);
        let device = DeviceId { index: DeviceIndex::new(1), ..message(1, "", 0).author };
        let unadded = verdict(&|ledger| shown(ledger, &Message { author: device, ..message(1, "hello", 1) }));
        assert!(unadded.examples.contains(&Violation::Unentitled { to: BOB }));
        let contact = |who| Event::ThreadOpened { thread: ThreadId::from_bytes([9; 32]), people: vec![account(who)] };
        let strange = verdict(&|ledger| {
            ledger.introduced(ALICE, BOB);
            ledger.told(BOB, &contact(ALICE));
            ledger.told(BOB, &contact(3));
        });
        assert_eq!(strange.examples.iter().filter(|one| **one == Violation::Intruder { of: BOB }).count(), 1);
    }

    #[test]
    fn a_history_must_have_all_that_was_shown_once_and_may_have_what_a_crash_kept_silent() {
        let mut ledger = ledger();
        say(&mut ledger, 1, "one");
        say(&mut ledger, 2, "two");
        ledger.shown(BOB, &message(1, "one", 1), Time::ZERO);
        ledger.history(BOB, &[message(1, "one", 1), message(2, "two", 2)], Some(Time::ZERO));
        assert_eq!((ledger.owed(), ledger.screen(BOB)), (0, vec!["one", "two"]));
        ledger.history(ALICE, &[message(1, "one", 1), message(2, "two", 2)], Some(Time::ZERO));
        ledger.history(BOB, &[message(1, "one", 1), message(1, "one", 1)], None);
        let verdict = ledger.close(&[]);
        assert_eq!((verdict.duplicates, verdict.violations), (1, 2));
        assert!(verdict.examples.contains(&Violation::Vanished { message: 1, of: BOB }));
    }

    #[test]
    fn a_message_whose_answer_was_lost_may_be_shown_and_is_not_owed() {
        let mut ledger = ledger();
        ledger.ask(ALICE, vec![BOB], "hello".to_owned(), Time::ZERO);
        ledger.shown(BOB, &message(1, "hello", 1), Time::ZERO);
        let verdict = ledger.close(&[]);
        assert_eq!((verdict.sent, verdict.unconfirmed, verdict.violations), (0, 1, 0));
    }

    #[test]
    fn a_message_whose_author_was_told_is_not_lost() {
        // Where nobody is out of room and nobody hostile, there is no reason to give up: that is a violation.
        for (scarce, violations) in [(true, 0), (false, 1)] {
            let mut ledger = ledger();
            ledger.conduct(Conduct { hostile: false, scarce });
            say(&mut ledger, 1, "hello");
            ledger.failed(&MessageId::from_bytes([1; 16]));
            assert_eq!(ledger.owed(), 0);
            let verdict = ledger.close(&[]);
            assert_eq!((verdict.lost, verdict.failed, verdict.violations), (0, 1, violations));
        }
    }
}
