//! What a peer forwards on one link: numbers that follow each other, answers in the same order.
//! Owns: the next number expected, answers that wait for an earlier one.
//! Never: more than a link's window: the peer stops at it, and the runtime at `limits::LINK_REQUESTS_MAX` frames.

use std::collections::BTreeMap;

use whimbrel_protocol::federation::{Forward, ForwardRefusal, Forwarded};

#[derive(Debug)]
pub(super) struct Inbound {
    next: u64,
    answered: u64,
    /// By first number: last number, refusals.
    done: BTreeMap<u64, (u64, Vec<ForwardRefusal>)>,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { next: 1, answered: 0, done: BTreeMap::new() }
    }
}

impl Inbound {
    /// First and last number of a frame that is in step; within a frame the decoder has checked the order.
    pub(super) fn accept(&mut self, words: &Forward) -> Option<(u64, u64)> {
        let (first, last) = (words.items.first()?.number, words.items.last()?.number);
        if first != self.next {
            return None;
        }
        self.next = last.checked_add(1)?;
        Some((first, last))
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
        Forward { items: numbers.map(item).collect() }
    }

    #[test]
    fn numbers_follow_each_other_without_a_gap() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.accept(&frame(1..=3)), Some((1, 3)));
        assert_eq!(inbound.accept(&frame(5..=5)), None);
        assert_eq!(inbound.accept(&frame(3..=4)), None);
        assert_eq!(inbound.accept(&frame(4..=4)), Some((4, 4)));
        assert_eq!(inbound.accept(&Forward { items: Vec::new() }), None);
    }

    #[test]
    fn an_answer_waits_for_those_before_it() {
        let mut inbound = Inbound::default();
        let (a, b) = (inbound.accept(&frame(1..=2)).unwrap(), inbound.accept(&frame(3..=3)).unwrap());
        assert_eq!(inbound.settle(b, Vec::new()), []);
        let upto: Vec<u64> = inbound.settle(a, Vec::new()).iter().map(|answer| answer.upto).collect();
        assert_eq!(upto, [2, 3]);
    }
}
