//! What a peer forwards on one link: numbers that follow each other, answers in the same order.
//! Owns: the next number expected, answers that wait for an earlier one, the threads of which an item was refused for now.
//! Never: more than a link's window: whoever goes beyond it is out of step.

use std::collections::BTreeMap;

use whimbrel_protocol::federation::{Forward, ForwardRefusal, Forwarded};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;

use crate::refusal::Refusal;

#[derive(Debug)]
pub(super) struct Inbound {
    next: u64,
    answered: u64,
    /// By first number: last number, refusals.
    done: BTreeMap<u64, (u64, Vec<ForwardRefusal>)>,
    /// By thread: the newest item that was refused for now, and why. What the peer had sent behind it before it heard
    /// would overtake it.
    waiting: BTreeMap<ThreadId, (u64, Refusal)>,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { next: 1, answered: 0, done: BTreeMap::new(), waiting: BTreeMap::new() }
    }
}

impl Inbound {
    /// First and last number of a frame that is in step; within a frame the decoder has checked the order. Threads whose
    /// refusal the peer had heard when it sent this wait no longer: it begins with the refused item again.
    pub(super) fn accept(&mut self, words: &Forward) -> Option<(u64, u64)> {
        let (first, last) = (words.items.first()?.number, words.items.last()?.number);
        let unanswered = last.checked_sub(words.answered)?;
        if first != self.next || words.answered > self.answered || unanswered > limits::FORWARD_ITEMS_MAX as u64 {
            return None;
        }
        self.next = last.checked_add(1)?;
        self.waiting.retain(|_, (number, _)| *number > words.answered);
        Some((first, last))
    }

    /// Why nothing may be taken of a thread with this frame: an earlier item of it was refused, and the peer did not know.
    pub(super) fn waits(&self, thread: ThreadId) -> Option<Refusal> {
        self.waiting.get(&thread).map(|(_, refusal)| *refusal)
    }

    /// An item of a thread is refused for now.
    pub(super) fn wait(&mut self, thread: ThreadId, number: u64, refusal: Refusal) {
        let newest = self.waiting.entry(thread).or_insert((number, refusal));
        newest.0 = newest.0.max(number);
    }

    /// The answers that can go now, in order: "up to" speaks for everything before it.
    pub(super) fn settle(&mut self, (first, last): (u64, u64), refused: Vec<ForwardRefusal>) -> Vec<Forwarded> {
        self.done.insert(first, (last, refused));
        let mut answers = Vec::new();
        while let Some(entry) = self.done.first_entry() {
            if *entry.key() != self.answered + 1 {
                break;
            }
            let (upto, refused) = entry.remove();
            self.answered = upto;
            answers.push(Forwarded { upto, refused });
        }
        answers
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::federation::{ForwardBody, ForwardItem};
    use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Epoch, ThreadId};
    use whimbrel_protocol::thread::{Class, Envelope};

    use super::*;

    fn frame(numbers: std::ops::RangeInclusive<u64>) -> Forward {
        let author = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };
        let thread = ThreadId::from_bytes([2; 32]);
        let envelope = Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: vec![3] };
        let item = |number| ForwardItem { number, body: ForwardBody::Envelope(author, envelope.clone()) };
        Forward { items: numbers.map(item).collect(), answered: 0 }
    }

    #[test]
    fn numbers_follow_each_other_without_a_gap() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.accept(&frame(1..=3)), Some((1, 3)));
        assert_eq!(inbound.accept(&frame(5..=5)), None);
        assert_eq!(inbound.accept(&frame(3..=4)), None);
        assert_eq!(inbound.accept(&frame(4..=4)), Some((4, 4)));
        assert_eq!(inbound.accept(&Forward { items: Vec::new(), answered: 0 }), None);
    }

    #[test]
    fn an_answer_waits_for_those_before_it() {
        let mut inbound = Inbound::default();
        let (a, b) = (inbound.accept(&frame(1..=2)).unwrap(), inbound.accept(&frame(3..=3)).unwrap());
        assert_eq!(inbound.settle(b, Vec::new()), []);
        let upto: Vec<u64> = inbound.settle(a, Vec::new()).iter().map(|answer| answer.upto).collect();
        assert_eq!(upto, [2, 3]);
    }

    #[test]
    fn a_thread_waits_until_the_peer_has_heard_that_an_item_of_it_must() {
        let (mut inbound, thread) = (Inbound::default(), ThreadId::from_bytes([2; 32]));
        let refusal = Refusal::later(whimbrel_protocol::RefusalCode::TooFast, limits::PEER_BACKOFF_MIN);
        let first = inbound.accept(&frame(1..=2)).unwrap();
        inbound.wait(thread, 1, refusal);
        inbound.wait(thread, 2, refusal);
        inbound.settle(first, Vec::new());
        // Sent before it heard, and when it had heard of the first only.
        assert!(inbound.accept(&frame(3..=3)).is_some());
        assert_eq!(inbound.waits(thread), Some(refusal));
        assert!(inbound.accept(&Forward { answered: 1, ..frame(4..=4) }).is_some());
        assert_eq!(inbound.waits(thread), Some(refusal));
        assert!(inbound.accept(&Forward { answered: 2, ..frame(5..=5) }).is_some());
        assert_eq!(inbound.waits(thread), None);
    }

    #[test]
    fn a_peer_that_heard_what_was_not_said_or_goes_beyond_the_window_is_out_of_step() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.accept(&Forward { answered: 1, ..frame(1..=1) }), None);
        let window = limits::FORWARD_ITEMS_MAX as u64;
        assert!(inbound.accept(&frame(1..=window)).is_some());
        assert_eq!(inbound.accept(&frame(window + 1..=window + 1)), None);
    }
}
