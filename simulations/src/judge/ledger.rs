//! The ledger: what people said, and what was shown to whom. The reference model of a run.
//! Owns: the account of every text from the moment its author's node answered for it to the last screen; who was
//! introduced to whom; every violation found (`verdict` has their words).
//! Never: asks a node or a relay what it thinks; it hears what people hear, and what arrives at their devices.
//!
//! It checks promises P1 (what was acknowledged is shown, or its author is told), P2 (never twice, never under another
//! author, text, thread or place than its author gave it), P3 (its author is an entitled device), P5 (nobody gets into
//! a thread or a list of contacts whom its owner did not meet), P7 (what was acknowledged or shown is still there
//! after a crash) and P10 (nobody reaches or sees whom they may not, `consent`) of docs/threat-model.md.
//!
//! Among people whom nobody hostile serves or sits with ([`Conduct`]) it asks for more: every entry can be opened, every opening is taken, no thread
//! halts, and what one person says in a thread overtakes nothing on its way through the relays.

mod arrived;
mod circles;
mod close;
mod dropped;
mod kept;
mod orders;
mod pushed;
mod services;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::api::{Event, Message, Path};
use whimbrel_protocol::frame::decode_words;
use whimbrel_protocol::friendship::{Act, FriendshipWord};
use whimbrel_protocol::id::{AccountId, CommitHash, DeviceId, DeviceIndex, LinkId, MessageId, ThreadId};
use whimbrel_protocol::presence::Status;
use whimbrel_protocol::push::{EntryBody, Push};
use whimbrel_protocol::time::Hlc;
use whimbrel_protocol::{Frame, RefusalCode};

use self::dropped::Dropped;
use self::orders::Orders;
use self::twins::Twins;
use super::canary::Canaries;
use super::circle::Circles;
use super::consent::Consent;
use super::excuse::Excuses;
use super::services::Services;
use super::verdict::{Times, Verdict, Violation};
use super::wire::Wire;
use crate::engine::{Seed, Time};
use crate::net::ProcessNo;

pub use super::consent::How;
pub use super::excuse::Conduct;

/// Violations kept in full; more are only counted.
const VIOLATIONS_KEPT: usize = 32;

/// Who is in a thread.
#[derive(Clone, Debug, Default)]
pub struct Company {
    /// Who made it, by its members.
    pub founder: Option<ProcessNo>,
    /// Everybody who is in it by the word of anybody's device.
    pub people: BTreeSet<ProcessNo>,
}

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
    /// Of whom its author was told that they do not get it, or to whom it need not come any more.
    given_up: BTreeSet<ProcessNo>,
    /// In a group that changes.
    circle: Option<ThreadId>,
    /// Waits for longer than a relay holds it: its author is told so.
    outlives: bool,
    /// What its author put in its place.
    edits: BTreeSet<String>,
    /// Its author took it back.
    taken_back: bool,
    /// It was said from its author's second device.
    second: bool,
}

impl Said {
    /// Whether a screen may show it so: as it was said, or as its author changed it.
    fn may_read(&self, message: &Message) -> bool {
        match message.unsent {
            true => self.taken_back && message.text.is_empty(),
            false => self.text == message.text || self.edits.contains(&message.text),
        }
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
    /// Processes whose disk was put back from a copy, and whether they have found out.
    copied: BTreeMap<ProcessNo, bool>,
    /// Who was told that whose relay hides what they did to their account.
    withheld: BTreeSet<(ProcessNo, ProcessNo)>,
    /// How often somebody was told that their relay does not hand over a change of a group.
    missing: BTreeMap<ProcessNo, usize>,
    /// Who was introduced to whom, both ways.
    acquainted: BTreeSet<(ProcessNo, ProcessNo)>,
    /// Who was last told of whom that they are there.
    seen: BTreeMap<(ProcessNo, ProcessNo), bool>,
    /// Who opened a thread for exactly these people. Two openers may have two threads, shown as one: each has logs of
    /// its own, and what one says in the first may come after what is said in the second.
    openers: BTreeMap<BTreeSet<ProcessNo>, BTreeSet<ProcessNo>>,
    /// The newest words that came by relays, by reader, author and thread.
    newest: BTreeMap<(ProcessNo, ProcessNo, ThreadId), usize>,
    consent: Consent,
    excuses: Excuses,
    wire: Wire,
    circles: Circles,
    canaries: Canaries,
    twins: Twins,
    orders: Orders,
    dropped: Dropped,
    services: Services,
    /// Commits that were handed in.
    handed_in: BTreeSet<CommitHash>,
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

    /// From now on a party of this run behaves so.
    pub fn conduct(&mut self, party: ProcessNo, conduct: Conduct) {
        self.excuses.add(party, conduct);
    }

    /// From now on what this relay says proves nothing about it.
    pub fn hostile_relay(&mut self, relay: ProcessNo) {
        self.excuses.add(relay, Conduct::Hostile);
        self.wire.hostile(relay);
    }

    /// Two people are to get to know each other.
    pub fn introduced(&mut self, one: ProcessNo, other: ProcessNo) {
        self.acquainted.extend([(one, other), (other, one)]);
    }

    /// Somebody writes to exactly these people, whether or not there is a thread of them.
    pub fn opens(&mut self, opener: ProcessNo, people: &[ProcessNo]) {
        self.openers.entry(people.iter().copied().collect()).or_default().insert(opener);
    }

    /// Whether a message is of people who may have two threads.
    fn crossed(&self, said: &Said) -> bool {
        let people = || said.to.iter().copied().chain([said.author]).collect::<BTreeSet<_>>();
        !self.openers.is_empty() && self.openers.get(&people()).is_some_and(|openers| openers.len() > 1)
    }

    /// A text is to wait for longer than relays hold what waits.
    pub fn outlives(&mut self, SaidNo(number): SaidNo) {
        if let Some(said) = self.said.get_mut(number) {
            said.outlives = true;
        }
    }

    /// Whether somebody keeps another away.
    pub fn blocks(&self, owner: ProcessNo, other: ProcessNo) -> bool {
        self.consent.blocks(owner, other)
    }

    /// Whether nobody hostile is, or serves, a party.
    pub fn is_honest(&self, party: ProcessNo) -> bool {
        !self.excuses.among([party], Conduct::Hostile)
    }

    /// Whether nothing is known against a party: it is not hostile, out of room, or far off in time.
    pub fn is_sound(&self, party: ProcessNo) -> bool {
        let none = |conduct| !self.excuses.among([party], conduct);
        [Conduct::Hostile, Conduct::Scarce, Conduct::Untimely].into_iter().all(none)
    }

    /// Whether two people were introduced to each other.
    pub fn knows(&self, one: ProcessNo, other: ProcessNo) -> bool {
        self.acquainted.contains(&(one, other))
    }

    /// Where a device lives.
    pub fn lives(&mut self, device: ProcessNo, relay: ProcessNo) {
        self.excuses.lives(device, relay);
    }

    /// Two people agreed to reach and see each other, and were told so.
    pub fn friends(&mut self, one: ProcessNo, other: ProcessNo) {
        self.consent.friends(one, other);
    }

    /// Somebody is about to end that a friend reaches or sees them; whatever is said between the two may come to nothing.
    pub fn ends(&mut self, owner: ProcessNo, other: ProcessNo, how: How) {
        self.consent.ends(owner, other, how);
    }

    /// They were told that it is done.
    pub fn ended(&mut self, owner: ProcessNo, other: ProcessNo, at: Time) {
        self.consent.ended(owner, other, at);
    }

    /// Somebody is about to hide from everybody, or to be seen again.
    pub fn hides(&mut self, who: ProcessNo, hidden: bool) {
        self.consent.hides(who, hidden);
    }

    /// They were told that it is done.
    pub fn hid(&mut self, who: ProcessNo, hidden: bool, at: Time) {
        self.consent.hid(who, hidden, at);
    }

    /// A device is told on this link who is there.
    pub fn told_on(&mut self, device: ProcessNo, link: LinkId) {
        self.consent.told_on(device, link);
    }

    /// Whether a device was told, on its present link, that somebody is there.
    pub fn is_shown(&self, by: ProcessNo, of: ProcessNo) -> bool {
        self.consent.is_shown(by, of)
    }

    /// Whether everybody is shown those who let them, and heard who ended it. For a world that is whole, with everybody
    /// there.
    pub fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// There was time enough for that.
    pub fn settle(&mut self) {
        if let Some(violation) = self.unsettled() {
            self.violate(violation);
        }
    }

    fn unsettled(&self) -> Option<Violation> {
        self.consent.unsettled(|one, other| self.excuses.among([one, other], Conduct::Hostile))
    }

    /// Every account of this world has the device it was made with, and some a second one.
    fn exists(&self, device: &DeviceId) -> bool {
        (device.index == DeviceIndex::FIRST || self.twins.is_one(device)) && self.accounts.contains_key(&device.account)
    }

    /// Whether anybody may take it into a thread.
    fn takes_part(&self, device: &DeviceId) -> bool {
        self.exists(device) && !self.twins.is_out(device)
    }

    /// The search for plain text found some.
    pub fn leaked(&mut self, relay: ProcessNo, place: &'static str) {
        self.violate(Violation::Leaked { relay, place });
    }

    /// The disk of a process was put back from a copy.
    #[cfg(test)]
    pub fn put_back(&mut self, on: ProcessNo) {
        self.copied.insert(on, false);
    }

    /// Whether somebody was told that somebody's relay hides what that one did to their account.
    #[cfg(test)]
    pub fn knows_of_hiding(&self, on: ProcessNo, of: ProcessNo) -> bool {
        self.withheld.contains(&(on, of))
    }

    /// How often somebody was told that their relay does not hand over a change of a group.
    #[cfg(test)]
    pub fn told_missing(&self, on: ProcessNo) -> usize {
        self.missing.get(&on).copied().unwrap_or_default()
    }

    /// Whether such a process has found out.
    #[cfg(test)]
    pub fn knows_to_be_old(&self, on: ProcessNo) -> bool {
        self.copied.get(&on).copied().unwrap_or(false)
    }

    /// A node tells its owner something. Messages shown, and commands answered, have calls of their own.
    pub fn told(&mut self, on: ProcessNo, event: &Event) {
        match event {
            Event::ThreadOpened { people, .. } => people.iter().for_each(|account| self.met(on, account)),
            Event::MembersChanged { thread, added, removed } => {
                for one in added {
                    if self.process_of(one) != Some(on) {
                        self.met(on, one);
                    }
                }
                let processes = |of: &[AccountId]| of.iter().filter_map(|one| self.process_of(one)).collect::<Vec<_>>();
                let (added, removed) = (processes(added), processes(removed));
                self.circles.changed(thread, on, added, removed);
            }
            Event::GroupLeft { thread } => self.circles.left(thread, on),
            Event::ChangesMissing { .. } => *self.missing.entry(on).or_default() += 1,
            Event::ContactAdded { account, .. }
            | Event::FriendRequest { account, .. }
            | Event::FriendAccepted { account, .. } => self.met(on, account),
            // A hostile home may say of anybody that they are there; it decides nothing.
            Event::Presence { account, online } => {
                if let Some(other) = self.process_of(account) {
                    self.seen.insert((on, other), *online);
                }
                let home = self.excuses.home(on);
                let known = self.process_of(account).is_some_and(|other| self.acquainted.contains(&(on, other)));
                if !known && !home.is_some_and(|home| self.wire.is_hostile(home)) {
                    self.violate(Violation::Seen { to: on });
                }
            }
            Event::LogWithheld { account } => {
                self.withheld.extend(self.process_of(account).map(|of| (on, of)));
            }
            Event::TwoFaces { .. } => self.violate(Violation::TwoFaces { of: on }),
            Event::HubContradicts { thread, relay } => self.contradicts(on, *thread, *relay),
            Event::StoreOutdated => match self.copied.get_mut(&on) {
                Some(found) => *found = true,
                None => self.violate(Violation::Outdated { of: on }),
            },
            Event::ThreadHalted { thread } if !self.excused(on, thread) => self.violate(Violation::Halted { of: on }),
            Event::InvitationRefused { thread, reason } if !self.excused(on, thread) => {
                self.violate(Violation::Uninvited { of: on, reason: reason.clone() });
            }
            Event::Receipt { message, delivered, .. } => self.receipted(on, message, *delivered),
            Event::Unreadable { thread, reason } => {
                self.unreadable += 1;
                if !self.excused(on, thread) {
                    self.violate(Violation::Unopened { of: on, reason: reason.clone() });
                }
            }
            _ => {}
        }
    }

    /// Whether somebody hostile can be to blame for what goes wrong with a thread on this device. Of a thread that nobody
    /// was told of it is not known who is in it.
    fn excused(&self, on: ProcessNo, thread: &ThreadId) -> bool {
        match self.threads.get(thread) {
            None if self.circles.is_circle(thread) => self.excused_in_circle(on, thread),
            // One of the two ended it: an invitation of before is not taken up any more.
            Some(people) if people.len() == 2 && people.iter().any(|one| self.consent.is_over(on, *one)) => true,
            Some(people) => self.excuses.among(people.iter().copied().chain([on]), Conduct::Hostile),
            // The opener's node may have died before it could say so, and the two may have ended it since.
            None => self.consent.is_over_with_somebody(on) || self.excuses.anywhere(Conduct::Hostile),
        }
    }

    /// Whether somebody on a message's way can be to blame for its end, or for its being late; or it was said between two
    /// of whom one keeps the other away.
    fn hindered(&self, number: usize) -> bool {
        self.said.get(number).is_some_and(|said| {
            if said.outlives {
                return true;
            }
            let people = || said.to.iter().copied().chain([said.author]);
            if matches!(*said.to, [to] if self.consent.is_over(said.author, to)) {
                return true;
            }
            // Its author, who may be no member any more, is told.
            if said.circle.is_some_and(|thread| self.untimely(&thread)) {
                return true;
            }
            [Conduct::Hostile, Conduct::Scarce].into_iter().any(|conduct| self.excuses.among(people(), conduct))
        })
    }

    /// Whether the full log of somebody's relay on a message's way can be to blame for that its author was told this.
    fn crowded(&self, number: usize, code: RefusalCode) -> bool {
        let people = self.said.get(number).into_iter().flat_map(|said| said.to.iter().copied().chain([said.author]));
        code == RefusalCode::Full && self.excuses.among(people, Conduct::Short)
    }

    /// Whether it is known which of all that was said has this id.
    pub fn is_named(&self, message: &MessageId) -> bool {
        self.by_message.contains_key(message)
    }

    /// An author is about to put another text in place of a message.
    pub fn edits(&mut self, message: &MessageId, text: String) {
        if let Some(said) = self.by_message.get(message).and_then(|number| self.said.get_mut(*number)) {
            said.edits.insert(text);
        }
    }

    /// An author is about to take a message back. Whoever was not shown it by then need not be any more: if it has not left,
    /// or is said again, it goes as one that is no more.
    pub fn takes_back(&mut self, message: &MessageId) {
        let Some(said) = self.by_message.get(message).and_then(|number| self.said.get_mut(*number)) else { return };
        said.taken_back = true;
        for to in &said.to {
            if !said.shown.contains_key(to) && said.given_up.insert(*to) {
                self.owed -= usize::from(said.word == Word::Owed);
            }
        }
    }

    /// When all was whole again, a message looks different on two screens.
    pub fn diverged(&mut self, message: &MessageId, of: ProcessNo) {
        let Some(number) = self.by_message.get(message).copied() else { return };
        if !self.hindered(number) {
            self.violate(Violation::Diverged { message: number, of });
        }
    }

    /// Whether more devices are said to have a message than have it, as far as the account knows.
    pub fn is_beyond(&self, message: &MessageId, delivered: u32) -> bool {
        let number = self.by_message.get(message).copied();
        let said = number.and_then(|number| Some((number, self.said.get(number)?)));
        said.is_some_and(|(number, said)| {
            let have = said.shown.keys().filter(|by| **by != said.author).count();
            let everybody: Vec<_> = said.to.iter().copied().chain([said.author]).collect();
            delivered as usize > have + self.twins.holders(number, &everybody)
        })
    }

    /// An author is told how many devices have a message: so many have shown it, for it stood there before they said so.
    fn receipted(&mut self, on: ProcessNo, message: &MessageId, delivered: u32) {
        let number = self.by_message.get(message).copied();
        let Some((number, said)) = number.and_then(|number| Some((number, self.said.get(number)?))) else { return };
        let people = said.to.iter().copied().chain([on]);
        let beyond = self.is_beyond(message, delivered);
        if (beyond || said.author != on) && !self.excuses.among(people, Conduct::Hostile) {
            self.violate(Violation::FalseReceipt { message: number, author: on });
        }
    }

    fn met(&mut self, on: ProcessNo, account: &AccountId) {
        let known = self.process_of(account).is_some_and(|other| self.acquainted.contains(&(on, other)));
        if !known {
            self.violate(Violation::Intruder { of: on });
        }
    }

    /// Whether somebody was last told that somebody is there; nothing: never of them.
    pub fn seen(&self, by: ProcessNo, of: ProcessNo) -> Option<bool> {
        self.seen.get(&(by, of)).copied()
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
        let (word, message, hlc) = (Word::Asked, None, None);
        let (shown, given_up) = (BTreeMap::new(), BTreeSet::new());
        self.said.push(Said {
            author,
            to,
            text,
            at,
            word,
            message,
            hlc,
            shown,
            given_up,
            circle: None,
            outlives: false,
            edits: BTreeSet::new(),
            taken_back: false,
            second: false,
        });
        SaidNo(number)
    }

    /// What was said in a group that changes is for whom its author takes to be in it now that their node has taken it.
    fn address(&mut self, number: usize) {
        let Some(said) = self.said.get_mut(number) else { return };
        let Some(thread) = said.circle else { return };
        let (author, ever) = (said.author, self.circles.ever(&thread));
        // The opening of a group may not have been told yet.
        let view = self.circles.view(&thread, author);
        said.to = view.iter().copied().filter(|one| *one != author).collect();
        said.given_up = said.to.iter().copied().filter(|one| self.circles.is_out(&thread, *one)).collect();
        let strange: Vec<_> = said.shown.keys().filter(|on| **on != author && !view.contains(on)).copied().collect();
        if !(self.untimely(&thread) && strange.iter().all(|on| ever.contains(on))) {
            strange.into_iter().for_each(|on| self.misattribute(on, "was not meant for it"));
        }
    }

    /// The node answered that the text is on its disk: from here on it is owed.
    pub fn queued(&mut self, SaidNo(number): SaidNo, message: MessageId) {
        let Some(said) = self.said.get_mut(number) else { return };
        if said.word == Word::Asked {
            said.word = Word::Owed;
            self.address(number);
            let Some(said) = self.said.get(number) else { return };
            let owed = |to: &&ProcessNo| !said.shown.contains_key(to) && !said.given_up.contains(to);
            self.owed += said.to.iter().filter(owed).count();
        }
        let Some(said) = self.said.get(number) else { return };
        let author = said.author;
        self.kept.entry(author).or_default().insert(number);
        match said.message {
            Some(known) if known != message => self.misattribute(author, "has another id than its author was given"),
            Some(_) => {}
            None => self.name(number, message),
        }
    }

    /// The node did not take the text. `excused`: because of something that a node cannot help.
    pub fn declined(&mut self, SaidNo(number): SaidNo, excused: bool) {
        if let Some(said) = self.said.get_mut(number)
            && said.word == Word::Asked
        {
            said.word = Word::Failed;
            let author = said.author;
            let out = said.circle.is_some_and(|thread| self.circles.is_out(&thread, author));
            if !excused && !out && !self.hindered(number) {
                self.violate(Violation::Declined { message: number, author });
            }
        }
    }

    /// The run is over, and the author's node, which runs, has said nothing of the text.
    pub fn unanswered(&mut self, SaidNo(number): SaidNo) {
        if let Some(author) = self.said.get(number).map(|said| said.author) {
            self.violate(Violation::Unanswered { message: number, author });
        }
    }

    /// The author was told that a message failed, and why. Of nobody it is known yet that they have it.
    pub fn failed(&mut self, message: &MessageId, code: RefusalCode) {
        if let (Some(number), RefusalCode::Full) = (self.by_message.get(message).copied(), code) {
            self.dropped.lose(number, self.said.get(number).into_iter().flat_map(|said| said.to.clone()));
        }
        let said = self.by_message.get(message).and_then(|number| self.said.get_mut(*number));
        if let Some(said) = said
            && said.word == Word::Owed
        {
            said.word = Word::Failed;
            let owed = |to: &&ProcessNo| !said.shown.contains_key(to) && !said.given_up.contains(to);
            self.owed -= said.to.iter().filter(owed).count();
            let author = said.author;
            let out = said.circle.is_some_and(|thread| self.circles.is_out(&thread, author));
            let number = self.by_message.get(message).copied();
            let blamed = |number: &usize| out || self.hindered(*number) || self.crowded(*number, code);
            if let Some(number) = number.filter(|number| !blamed(number)) {
                self.violate(Violation::GivenUp { message: number, author });
            }
        }
    }

    /// The author was told of some that they do not get a message, and why. The others are still owed it.
    pub fn failed_for(&mut self, message: &MessageId, missing: &[AccountId], code: RefusalCode) {
        let missing: BTreeSet<_> = missing.iter().filter_map(|account| self.process_of(account)).collect();
        let Some(number) = self.by_message.get(message).copied() else { return };
        if code == RefusalCode::Full {
            self.dropped.lose(number, missing.iter().copied());
        }
        let Some(said) = self.said.get_mut(number) else { return };
        if said.word != Word::Owed {
            return;
        }
        let fresh: BTreeSet<_> = missing.difference(&said.given_up).copied().collect();
        self.owed -= said.to.iter().filter(|to| fresh.contains(to) && !said.shown.contains_key(to)).count();
        said.given_up.extend(&fresh);
        let author = said.author;
        if !fresh.is_empty() && !self.hindered(number) && !self.crowded(number, code) {
            self.violate(Violation::GivenUp { message: number, author });
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
        if let ([to], true) = (said.to.as_slice(), on != said.author)
            && self.consent.is_kept_away(*to, said.author, said.at)
        {
            let by = said.author;
            self.violate(Violation::Unwanted { to: on, by });
        }
        let Some(said) = self.said.get(number) else { return };
        let (micros, author, crossed) = (at.since(said.at).as_micros(), said.author, self.crossed(said));
        self.appear(number, on, at);
        // A direct link may be faster than what went before it by relays; relays keep the order of their users. Unless
        // one was out of room for the first and had some for the second.
        let relayed = matches!(message.path, Some(Path::Relay | Path::Federation));
        let second = self.twins.is_one(&message.author);
        let again = self.dropped.is_lost(number, on) || self.waited_for_room(number, at);
        if relayed && !second && !crossed && !again && !self.hindered(number) {
            let newest = self.newest.entry((on, author, message.thread)).or_insert(number);
            let later = *newest;
            *newest = later.max(number);
            if later > number && !self.may_come_again(number, on) {
                self.violate(Violation::Overtaken { author, to: on, earlier: number, later });
            }
        }
        if let Some(path) = message.path {
            self.times.entry(path).or_default().add(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }

    /// What a person finds in the history of all their conversations: everything that appeared before must be there,
    /// once. After a start (`started`), what did not appear before does now: the node died when it had the message on
    /// its disk and had not said so. At any other time it is no excuse for a node that kept silent.
    pub fn history(&mut self, on: ProcessNo, messages: &[Message], started: Option<Time>) {
        let mut there = BTreeSet::new();
        let sorted = |pair: &[Message]| match pair {
            [one, next] => one.thread != next.thread || one.hlc <= next.hlc,
            _ => true,
        };
        if !messages.windows(2).all(sorted) {
            self.violate(Violation::Unsorted { of: on });
        }
        for message in messages {
            let Some(number) = self.recognise(on, message) else { continue };
            if !there.insert(number) {
                self.duplicates += 1;
                self.violate(Violation::Duplicate { message: number, to: on });
                continue;
            }
            // Its node died before it answered, and has it all the same: its author sees it and counts on it.
            if self.said.get(number).is_some_and(|said| said.author == on && said.word == Word::Asked) {
                self.queued(SaidNo(number), message.message);
            }
            if let Some(at) = started
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
        let mut people: BTreeSet<_> = said.to.iter().copied().chain([said.author]).collect();
        let ever = said.circle.map(|thread| self.circles.ever(&thread)).unwrap_or_default();
        if self.excuses.among(ever.iter().copied(), Conduct::Untimely) {
            people.extend(ever);
        }
        let wrong = if said.author != author {
            Some("somebody else said")
        } else if !said.may_read(message) {
            Some("was said differently")
        } else if !people.contains(&on) {
            Some("was not meant for it")
        } else if said.circle.is_some_and(|thread| thread != message.thread)
            || said.circle.is_none() && self.circles.is_circle(&message.thread)
            || self.threads.get(&message.thread).is_some_and(|of| *of != people)
        {
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
            // Where clocks lied, somebody may see it whom it was not counted for.
            let counted = said.to.contains(&on) && !said.given_up.contains(&on);
            self.owed -= usize::from(said.word == Word::Owed && counted);
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

    /// Whether a message is still owed to somebody. Whoever ended it with its author, or the author with them, is owed
    /// nothing: their device does not take it, or their relay.
    fn owes(&self, said: &Said, to: ProcessNo) -> bool {
        let over = said.to.len() == 1 && self.consent.is_over(said.author, to);
        !over && !said.given_up.contains(&to) && !said.shown.contains_key(&to) && !self.swallowed(said, to)
    }

    /// Whether anything is.
    pub fn owes_anybody(&self) -> bool {
        let owes = |said: &Said| said.word == Word::Owed && said.to.iter().any(|to| self.owes(said, *to));
        self.owed > 0 && (self.consent.is_whole() || self.said.iter().any(owes))
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
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests;
