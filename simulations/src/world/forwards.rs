//! Forwards: what a hostile relay makes of what its core forwards to another relay.
//! Owns: the items of one link as each side sees them: what is put in, left out, moved, kept back and misnumbered, and
//! what its own core hears of the answers.
//! Never: writes off what it left out. Its core hears no answer for that, takes the link for dead and sends it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use whimbrel_protocol::federation::{Forward, ForwardBody, ForwardItem, ForwardRefusal, Forwarded};
use whimbrel_protocol::id::{DeviceId, ThreadId};
use whimbrel_protocol::limits;

use super::hostile::flipped;
use crate::engine::Stream;
use crate::faults::RelayTrick;

/// Items of a link kept to be forwarded again.
const REMEMBERED: usize = 8;

/// What to do to one frame.
pub(super) struct Tricks<'t> {
    /// Each, and to how much.
    pub(super) shares: &'t BTreeMap<RelayTrick, f64>,
    /// What chance says.
    pub(super) stream: &'t mut Stream,
    /// Who wrote into a thread, as far as it passed here.
    pub(super) speakers: &'t BTreeMap<ThreadId, BTreeSet<DeviceId>>,
    /// Frames and items something was done to.
    pub(super) done: &'t mut u64,
}

impl Tricks<'_> {
    fn does(&mut self, trick: RelayTrick) -> bool {
        let share = self.shares.get(&trick).copied().unwrap_or(0.0);
        let does = self.stream.happens(share);
        *self.done += u64::from(does);
        does
    }
}

/// One link to another relay. Its numbers follow each other for the other side, whatever was done to the items.
#[derive(Debug)]
pub(super) struct Forwards {
    /// Items up to here passed before anything was done on this link: both sides have the same number for them.
    base: u64,
    /// The newest number the other relay was given.
    newest: u64,
    /// By the other relay's number, of what it has not answered: the core's number, or none of what was put in.
    on_the_way: BTreeMap<u64, Option<u64>>,
    /// By the core's number: answers that wait for those before them.
    answered: BTreeMap<u64, Option<ForwardRefusal>>,
    /// Up to here, by its own numbers, the core can be told of answers.
    complete: u64,
    /// Up to here it was.
    told: u64,
    /// Up to here, by the other relay's numbers, it has answered.
    heard: u64,
    held: Vec<ForwardItem>,
    bodies: VecDeque<ForwardBody>,
}

impl Forwards {
    /// A link on which the core's next number is this one.
    pub(super) fn new(first: u64) -> Self {
        let base = first.saturating_sub(1);
        let (on_the_way, answered, told) = (BTreeMap::new(), BTreeMap::new(), 0);
        let (heard, held, bodies) = (0, Vec::new(), VecDeque::new());
        Self { base, newest: base, on_the_way, answered, complete: base, told, heard, held, bodies }
    }

    /// What leaves instead of a frame; nothing when all of it was left out or kept back.
    pub(super) fn outgoing(&mut self, words: Forward, tricks: &mut Tricks<'_>) -> Option<Forward> {
        // What its core has not heard it has.
        let answered = self.heard.max(words.answered.min(self.base));
        let mut genuine = words.items;
        if !self.held.is_empty() {
            genuine.splice(0..0, std::mem::take(&mut self.held));
            for n in (1..genuine.len()).rev() {
                genuine.swap(n, tricks.stream.below(n as u64 + 1) as usize);
            }
        } else if genuine.len() <= limits::FORWARD_ITEMS_MAX / 4 && tricks.does(RelayTrick::Reorder) {
            self.held = genuine;
            return None;
        }
        if tricks.does(RelayTrick::Misnumber) {
            self.newest += 1;
        }
        let mut items = Vec::new();
        let (mut left, unanswered) = (genuine.len(), self.on_the_way.len());
        for ForwardItem { number, body } in genuine {
            left -= 1;
            let has_room =
                |items: &Vec<_>, more: usize| items.len() + left + more + unanswered < limits::FORWARD_ITEMS_MAX;
            if let ForwardBody::Envelope(author, envelope) = &body
                && let Some(others) = tricks.speakers.get(&envelope.thread)
                && let Some(victim) = others.iter().copied().find(|other| other != author)
                && has_room(&items, 1)
                && tricks.does(RelayTrick::Impersonate)
            {
                items.push(self.item(None, ForwardBody::Envelope(victim, flipped(envelope))));
            }
            let again = tricks.does(RelayTrick::Repeat).then(|| body.clone());
            if tricks.does(RelayTrick::Replay) {
                let before = tricks.stream.pick(self.bodies.make_contiguous()).cloned();
                items.extend(before.filter(|_| has_room(&items, 1)).map(|body| self.item(None, body)));
            }
            self.bodies.push_back(body.clone());
            self.bodies.drain(..self.bodies.len().saturating_sub(REMEMBERED));
            if !tricks.does(RelayTrick::Drop) {
                items.push(self.item(Some(number), body));
            }
            items.extend(again.filter(|_| has_room(&items, 0)).map(|body| self.item(None, body)));
        }
        (!items.is_empty()).then_some(Forward { items, answered })
    }

    fn item(&mut self, genuine: Option<u64>, body: ForwardBody) -> ForwardItem {
        self.newest += 1;
        self.on_the_way.insert(self.newest, genuine);
        ForwardItem { number: self.newest, body }
    }

    /// What the core hears of an answer: nothing of what was put in, and nothing behind what was left out. None when
    /// that is nothing new.
    pub(super) fn incoming(&mut self, words: &Forwarded) -> Option<Forwarded> {
        self.heard = self.heard.max(words.upto);
        let later = self.on_the_way.split_off(&words.upto.saturating_add(1));
        let mut refusals: BTreeMap<u64, _> = words.refused.iter().map(|refusal| (refusal.number, *refusal)).collect();
        for (number, genuine) in std::mem::replace(&mut self.on_the_way, later) {
            let refusal = refusals.remove(&number);
            if let Some(genuine) = genuine {
                self.answered.insert(genuine, refusal.map(|refusal| ForwardRefusal { number: genuine, ..refusal }));
            }
        }
        // What is left of them is of items from before, or of what was put in.
        let mut refused: Vec<_> = refusals.into_values().filter(|refusal| refusal.number <= self.base).collect();
        while let Some(refusal) = self.answered.remove(&(self.complete + 1)) {
            self.complete += 1;
            refused.extend(refusal);
        }
        let upto = if words.upto < self.base { words.upto } else { self.complete };
        let news = upto > self.told;
        self.told = self.told.max(upto);
        news.then_some(Forwarded { upto, refused })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::RefusalCode;
    use whimbrel_protocol::frame::Words;
    use whimbrel_protocol::id::{AccountId, DeviceIndex, Epoch};
    use whimbrel_protocol::thread::{Class, Envelope};

    use super::*;
    use crate::engine::{Entity, Seed};

    fn words(numbers: std::ops::RangeInclusive<u64>) -> Forward {
        let author = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };
        let thread = ThreadId::from_bytes([2; 32]);
        let envelope = |n| Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: vec![n as u8, 0] };
        let item = |number| ForwardItem { number, body: ForwardBody::Envelope(author, envelope(number)) };
        Forward { items: numbers.map(item).collect(), answered: 0 }
    }

    /// A link on which these tricks are played on everything.
    struct Link(Forwards, BTreeMap<RelayTrick, f64>, Stream);

    impl Link {
        fn new(first: u64, tricks: &[(RelayTrick, f64)]) -> Self {
            let stream = Seed::from(1).stream(Entity::World, "forwards");
            Self(Forwards::new(first), tricks.iter().copied().collect(), stream)
        }

        /// Each item's number as the other relay sees it, and as the core does, by its body.
        fn sends(&mut self, numbers: std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
            let (speakers, mut done) = (BTreeMap::new(), 0);
            let mut tricks = Tricks { shares: &self.1, stream: &mut self.2, speakers: &speakers, done: &mut done };
            let Some(forward) = self.0.outgoing(words(numbers), &mut tricks) else { return Vec::new() };
            forward.check().unwrap();
            let of = |item: &ForwardItem| match &item.body {
                ForwardBody::Envelope(_, envelope) => (item.number, u64::from(*envelope.body.first().unwrap())),
                ForwardBody::Opening(..) | ForwardBody::Commit(..) => unreachable!("none was sent"),
            };
            forward.items.iter().map(of).collect()
        }

        fn hears(&mut self, upto: u64, refused: &[u64]) -> Option<(u64, Vec<u64>)> {
            let refusal =
                |number: &u64| ForwardRefusal { number: *number, code: RefusalCode::Full, retry_after_ms: None };
            let heard = self.0.incoming(&Forwarded { upto, refused: refused.iter().map(refusal).collect() })?;
            Some((heard.upto, heard.refused.iter().map(|refusal| refusal.number).collect()))
        }
    }

    #[test]
    fn a_link_without_tricks_is_as_it_is_from_wherever_it_is_looked_at() {
        let mut link = Link::new(5, &[]);
        assert_eq!(link.sends(5..=6), [(5, 5), (6, 6)]);
        assert_eq!(link.hears(3, &[2]), Some((3, vec![2])));
        assert_eq!(link.hears(6, &[4, 6]), Some((6, vec![4, 6])));
    }

    #[test]
    fn what_is_put_in_is_answered_and_the_core_hears_nothing_of_it() {
        let mut link = Link::new(1, &[(RelayTrick::Repeat, 1.0)]);
        assert_eq!(link.sends(1..=2), [(1, 1), (2, 1), (3, 2), (4, 2)]);
        assert_eq!(link.hears(1, &[]), Some((1, vec![])));
        assert_eq!(link.hears(2, &[2]), None);
        assert_eq!(link.hears(4, &[3, 4]), Some((2, vec![2])));
        let mut link = Link::new(1, &[(RelayTrick::Replay, 1.0)]);
        assert_eq!(link.sends(1..=1), [(1, 1)], "there is nothing to forward again yet");
        assert_eq!(link.sends(2..=2), [(2, 1), (3, 2)]);
    }

    #[test]
    fn what_is_left_out_is_never_answered_nor_is_what_lies_behind_it() {
        let mut link = Link::new(1, &[]);
        link.sends(1..=1);
        link.1 = BTreeMap::from([(RelayTrick::Drop, 1.0)]);
        assert_eq!(link.sends(2..=2), []);
        link.1.clear();
        assert_eq!(link.sends(3..=3), [(2, 3)], "the other relay sees no gap");
        assert_eq!(link.hears(1, &[]), Some((1, vec![])));
        assert_eq!(link.hears(2, &[]), None, "the core goes on waiting for its second");
    }

    #[test]
    fn what_is_moved_is_answered_in_the_cores_order() {
        let mut link = Link::new(1, &[(RelayTrick::Reorder, 1.0)]);
        assert_eq!(link.sends(1..=3), [], "it is kept back for the next");
        let moved = link.sends(4..=6);
        let numbers: Vec<_> = moved.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        let bodies: BTreeSet<_> = moved.iter().map(|(_, body)| *body).collect();
        assert!(bodies == (1..=6).collect() && !moved.iter().is_sorted_by_key(|(_, body)| body));
        let refused = moved.iter().find(|(_, body)| *body == 6).unwrap().0;
        assert_eq!(link.hears(6, &[refused]), Some((6, vec![6])));
    }

    #[test]
    fn a_misnumbered_frame_leaves_a_gap_for_the_other_relay_to_see() {
        let mut link = Link::new(1, &[]);
        link.sends(1..=1);
        link.1 = BTreeMap::from([(RelayTrick::Misnumber, 1.0)]);
        assert_eq!(link.sends(2..=3), [(3, 2), (4, 3)]);
    }

    #[test]
    fn no_frame_grows_over_its_bound() {
        let mut link = Link::new(1, &[(RelayTrick::Repeat, 1.0), (RelayTrick::Replay, 1.0)]);
        let most = limits::FORWARD_ITEMS_MAX as u64;
        assert_eq!(link.sends(1..=most).len() as u64, most);
        assert_eq!(link.hears(most, &[]), Some((most, vec![])));
    }
}
