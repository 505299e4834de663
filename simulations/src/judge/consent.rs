//! Consent: who let whom reach and see them, and whether relays kept to it.
//! Owns: friendships that were made and that one of the two ended, people who hide, and what relays told devices of
//! who is there. Never: asks a relay; it hears what people did, when they were told that it is done, and what arrives at
//! their devices.
//!
//! From the moment its owner was told that it is done, a removal, a block or a hiding holds (P10): nothing the other hands
//! in later reaches the owner's device, and once what was under way is over, nobody is shown whom they may not see. In a
//! world that is whole again everybody comes to be shown exactly those who let them, and to hear that they were removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::presence::Status;

use super::verdict::Violation;
use crate::engine::Time;
use crate::net::ProcessNo;

/// How somebody ends that a friend reaches or sees them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum How {
    /// They are no friends any more, and the other is told.
    Remove,
    /// The other is kept away, and is not told.
    Block,
    /// They stay friends, and the other is not shown when the owner is there.
    Hide,
}

/// What was under way when it was done may still arrive for so long: a frame on a link that is about to fail, from the
/// relay of both.
const LAG_HERE: Duration = Duration::from_secs(30);
/// The same of another relay: what it was told holds for a minute after their link is lost, and that is noticed late; it is
/// told ten seconds after the change at most.
const LAG_THERE: Duration = Duration::from_secs(180);

/// Nothing came from somebody for so long: their relay takes them for gone after a minute, tells it with the next heartbeat,
/// and what it told may be on a link that is about to fail.
const SILENT_HERE: Duration = Duration::from_secs(180);
/// The same of another relay, which tells it on, or is lost itself.
const SILENT_THERE: Duration = Duration::from_secs(360);

#[derive(Clone, Copy, Debug)]
struct End {
    how: How,
    /// When its owner was told that it is done.
    done: Option<Time>,
}

/// Who let whom.
#[derive(Debug, Default)]
pub(super) struct Consent {
    /// Both ways.
    friends: BTreeSet<(ProcessNo, ProcessNo)>,
    /// By owner and other.
    ended: BTreeMap<(ProcessNo, ProcessNo), End>,
    /// Those who hide from everybody or are about to; since when it is done.
    hidden: BTreeMap<ProcessNo, Option<Time>>,
    /// Those who asked to be seen again and were not told yet that they are.
    emerging: BTreeSet<ProcessNo>,
    /// Whom each device was told on its present link to be there.
    there: BTreeSet<(ProcessNo, ProcessNo)>,
    /// On which link each device was last told.
    links: BTreeMap<ProcessNo, LinkId>,
    /// To whom the word arrived that somebody removed them.
    heard: BTreeSet<(ProcessNo, ProcessNo)>,
    /// When anything last came to their relay from a device of somebody.
    came: BTreeMap<ProcessNo, Time>,
    /// How often each device was told that somebody is there.
    #[cfg(test)]
    pub(super) times: BTreeMap<(ProcessNo, ProcessNo), u32>,
}

impl Consent {
    /// Two people agreed to reach and see each other.
    pub(super) fn friends(&mut self, one: ProcessNo, other: ProcessNo) {
        self.friends.extend([(one, other), (other, one)]);
    }

    /// Somebody is about to end it.
    pub(super) fn ends(&mut self, owner: ProcessNo, other: ProcessNo, how: How) {
        self.ended.entry((owner, other)).or_insert(End { how, done: None });
    }

    /// They were told that it is done.
    pub(super) fn ended(&mut self, owner: ProcessNo, other: ProcessNo, at: Time) {
        if let Some(end) = self.ended.get_mut(&(owner, other)) {
            end.done.get_or_insert(at);
        }
    }

    /// Somebody is about to hide from everybody, or to be seen again.
    pub(super) fn hides(&mut self, who: ProcessNo, hidden: bool) {
        match hidden {
            true => drop(self.hidden.entry(who).or_default()),
            false => drop(self.emerging.insert(who)),
        }
    }

    /// They were told that it is done.
    pub(super) fn hid(&mut self, who: ProcessNo, hidden: bool, at: Time) {
        if hidden {
            self.hidden.entry(who).or_default().get_or_insert(at);
        } else {
            self.hidden.remove(&who);
            self.emerging.remove(&who);
        }
    }

    /// Whether somebody keeps another away.
    pub(super) fn blocks(&self, owner: ProcessNo, other: ProcessNo) -> bool {
        self.ended.get(&(owner, other)).is_some_and(|end| end.how == How::Block)
    }

    /// Whether nobody ended anything.
    pub(super) fn is_whole(&self) -> bool {
        self.ended.is_empty()
    }

    /// Whether one of two people ended that the other reaches them: what is said between them may come to nothing.
    pub(super) fn is_over(&self, one: ProcessNo, other: ProcessNo) -> bool {
        let over = |pair| self.ended.get(&pair).is_some_and(|end| end.how != How::Hide);
        over((one, other)) || over((other, one))
    }

    /// Whether somebody ended it with anybody, or anybody with them.
    pub(super) fn is_over_with_somebody(&self, one: ProcessNo) -> bool {
        self.ended.iter().any(|((owner, other), end)| end.how != How::Hide && (*owner == one || *other == one))
    }

    /// Whether `by` may not reach `owner` any more with what begins at that time.
    pub(super) fn is_kept_away(&self, owner: ProcessNo, by: ProcessNo, at: Time) -> bool {
        let end = self.ended.get(&(owner, by)).filter(|end| end.how != How::Hide);
        end.and_then(|end| end.done).is_some_and(|done| at > done)
    }

    /// The word arrived that somebody removed whom they were friends with.
    pub(super) fn removed(&mut self, by: ProcessNo, to: ProcessNo) {
        self.heard.insert((by, to));
    }

    /// A relay told a device who came and went. `here`: whether somebody lives at that relay. Gives those it must not have
    /// shown.
    pub(super) fn told(
        &mut self,
        to: ProcessNo,
        statuses: &[(ProcessNo, Status)],
        at: Time,
        here: impl Fn(ProcessNo) -> bool,
    ) -> Vec<ProcessNo> {
        let mut wrong = Vec::new();
        for (of, Status { online, .. }) in statuses {
            if !online {
                self.there.remove(&(to, *of));
                continue;
            }
            self.there.insert((to, *of));
            #[cfg(test)]
            self.times.entry((to, *of)).and_modify(|times| *times += 1).or_insert(1);
            let lag = if here(*of) { LAG_HERE } else { LAG_THERE };
            let over = |done: Option<Time>| done.is_some_and(|done| at > done.plus(lag));
            let ended = self.ended.get(&(*of, to)).is_some_and(|end| over(end.done));
            let hides = !self.emerging.contains(of) && self.hidden.get(of).is_some_and(|since| over(*since));
            if ended || hides {
                wrong.push(*of);
            }
        }
        wrong
    }

    /// Something came to their relay from a device of somebody.
    pub(super) fn comes(&mut self, from: ProcessNo, at: Time) {
        self.came.insert(from, at);
    }

    /// Whom a device, which hears from its relay now, is still shown to be there though nothing came from them for longer
    /// than that may take. `here`: whether somebody lives at that relay.
    pub(super) fn dead(&self, to: ProcessNo, at: Time, here: impl Fn(ProcessNo) -> bool) -> Vec<ProcessNo> {
        let shown = self.there.range((to, ProcessNo::MIN)..=(to, ProcessNo::MAX)).map(|(_, of)| *of);
        let is_dead = |of: &ProcessNo| {
            let silent = if here(*of) { SILENT_HERE } else { SILENT_THERE };
            self.came.get(of).is_some_and(|came| at > came.plus(silent))
        };
        shown.filter(is_dead).collect()
    }

    /// A device is told on this link: what was told on another is void.
    pub(super) fn told_on(&mut self, device: ProcessNo, link: LinkId) {
        if self.links.insert(device, link) == Some(link) {
            return;
        }
        self.there = self.there.iter().copied().filter(|(to, _)| *to != device).collect();
    }

    /// Whether a device was told, on its present link, that somebody is there.
    pub(super) fn is_shown(&self, by: ProcessNo, of: ProcessNo) -> bool {
        self.there.contains(&(by, of))
    }

    /// In a world that is whole, with everybody there: what is not as it must come to be. `spared`: pairs of whom somebody
    /// hostile is, or serves, one.
    pub(super) fn unsettled(&self, spared: impl Fn(ProcessNo, ProcessNo) -> bool) -> Option<Violation> {
        let begun = |hidden: &Option<Time>| hidden.is_none();
        if let Some((who, _)) = self.hidden.iter().find(|(who, hidden)| begun(hidden) && !spared(**who, **who)) {
            return Some(Violation::Unended { of: *who });
        }
        if let Some(who) = self.emerging.iter().find(|who| !spared(**who, **who)) {
            return Some(Violation::Unended { of: *who });
        }
        let ended = self.ended.iter().filter(|((owner, other), _)| !spared(*owner, *other));
        for ((owner, other), end) in ended {
            if end.done.is_none() {
                return Some(Violation::Unended { of: *owner });
            }
            if end.how == How::Remove && !self.heard.contains(&(*owner, *other)) {
                return Some(Violation::Untold { to: *other, by: *owner });
            }
        }
        let friends = self.friends.iter().filter(|(viewer, of)| !spared(*viewer, *of));
        for (viewer, of) in friends {
            // A removal ends it for both, a block for whoever is kept away and for the owner, who has no friend any more.
            let hides = self.hidden.contains_key(of) || self.ended.contains_key(&(*of, *viewer));
            let may = !hides && !self.is_over(*viewer, *of);
            let told = self.there.contains(&(*viewer, *of));
            if may != told {
                return Some(if may {
                    Violation::Unseen { to: *viewer, of: *of }
                } else {
                    Violation::Seen { to: *viewer }
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_protocol::id::AccountId;

    use super::*;

    const ALICE: ProcessNo = 1;
    const BOB: ProcessNo = 2;
    const NOBODY: [ProcessNo; 0] = [];

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    fn told(consent: &mut Consent, online: bool, seconds: u64, here: bool) -> Vec<ProcessNo> {
        let status = Status { account: AccountId::from_bytes([1; 32]), online };
        consent.told(BOB, &[(ALICE, status)], at(seconds), |_| here)
    }

    fn friends() -> Consent {
        let mut consent = Consent::default();
        consent.friends(ALICE, BOB);
        told(&mut consent, true, 1, true);
        consent.there.insert((ALICE, BOB));
        assert_eq!(consent.unsettled(|_, _| false), None);
        consent
    }

    #[test]
    fn whoever_may_not_see_is_shown_nothing_once_what_was_under_way_is_over() {
        for how in [How::Remove, How::Block, How::Hide] {
            let mut consent = friends();
            consent.ends(ALICE, BOB, how);
            assert_eq!(told(&mut consent, true, 500, true), NOBODY);
            consent.ended(ALICE, BOB, at(1_000));
            for (seconds, here, wrong) in [(1_030, true, 0), (1_031, true, 1), (1_180, false, 0), (1_181, false, 1)] {
                assert_eq!(told(&mut consent, true, seconds, here).len(), wrong, "{how:?} {seconds}");
            }
            assert_eq!(told(&mut consent, false, 2_000, true), NOBODY);
        }
        let mut consent = friends();
        consent.hides(ALICE, true);
        consent.hid(ALICE, true, at(10));
        assert_eq!(told(&mut consent, true, 41, true), [ALICE]);
        consent.hides(ALICE, false);
        assert_eq!(told(&mut consent, true, 42, true), NOBODY);
    }

    #[test]
    fn whoever_is_silent_for_longer_than_it_takes_to_tell_is_shown_no_more() {
        for (here, longest) in [(true, 180), (false, 360)] {
            let mut consent = friends();
            let dead = |consent: &Consent, seconds| consent.dead(BOB, at(seconds), |_| here);
            assert_eq!(dead(&consent, 9_999), NOBODY, "who never was there is not silent");
            consent.comes(ALICE, at(100));
            assert_eq!(dead(&consent, 100 + longest), NOBODY);
            assert_eq!(dead(&consent, 101 + longest), [ALICE]);
            consent.comes(ALICE, at(200));
            assert_eq!(dead(&consent, 101 + longest), NOBODY);
            told(&mut consent, false, 300, here);
            assert_eq!(dead(&consent, 9_999), NOBODY);
        }
    }

    #[test]
    fn a_removal_and_a_block_keep_away_what_begins_after_them_and_nothing_else_does() {
        for (how, away) in [(How::Remove, true), (How::Block, true), (How::Hide, false)] {
            let mut consent = friends();
            consent.ends(ALICE, BOB, how);
            assert!(!consent.is_kept_away(ALICE, BOB, at(9)) && consent.is_over(BOB, ALICE) == away);
            consent.ended(ALICE, BOB, at(5));
            assert!(!consent.is_kept_away(ALICE, BOB, at(5)) && !consent.is_kept_away(BOB, ALICE, at(9)));
            assert_eq!(consent.is_kept_away(ALICE, BOB, at(6)), away);
        }
    }

    #[test]
    fn a_whole_world_shows_exactly_those_who_let_it_be_seen_and_tells_of_removals() {
        let mut consent = friends();
        consent.told_on(BOB, LinkId::new(7));
        assert_eq!(consent.unsettled(|_, _| false), Some(Violation::Unseen { to: BOB, of: ALICE }));
        assert_eq!(consent.unsettled(|_, _| true), None);
        consent.hides(ALICE, true);
        assert_eq!(consent.unsettled(|_, _| false), Some(Violation::Unended { of: ALICE }));
        consent.hid(ALICE, true, at(2));
        assert_eq!(consent.unsettled(|_, _| false), None);
        told(&mut consent, true, 3, true);
        assert_eq!(consent.unsettled(|_, _| false), Some(Violation::Seen { to: BOB }));
        let mut consent = friends();
        consent.ends(ALICE, BOB, How::Remove);
        consent.ended(ALICE, BOB, at(5));
        assert_eq!(consent.unsettled(|_, _| false), Some(Violation::Untold { to: BOB, by: ALICE }));
        consent.removed(ALICE, BOB);
        assert_eq!(consent.unsettled(|_, _| false), Some(Violation::Seen { to: ALICE }));
    }
}
