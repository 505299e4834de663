//! Direct: links from node to node.
//! Owns: which devices have one, whom we dial, whose answers an envelope still needs, when addresses were offered.
//! Never: opens an envelope; dials what is not a contact's own fresh, sealed candidate.
//! Limits: `limits::DIRECT_LINKS_MAX`, `limits::DIRECT_ANSWERS_MAX`, `limits::CANDIDATE_AGE_MAX`,
//! `limits::CANDIDATE_EVERY`.
//! Rules: docs/protocol/direct.md.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{AccountId, DeviceId, EnvelopeId, LinkId, MessageId, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Candidates;
use whimbrel_protocol::time::{Monotonic, Wall};

/// Who must still answer for an envelope.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) thread: ThreadId,
    pub(crate) message: Option<MessageId>,
    pub(crate) missing: BTreeSet<DeviceId>,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    links: BTreeMap<LinkId, DeviceId>,
    by_device: BTreeMap<DeviceId, LinkId>,
    pub(crate) dialing: BTreeSet<PublicKey>,
    pub(crate) answers: BTreeMap<EnvelopeId, Answers>,
    offered: BTreeMap<DeviceId, Monotonic>,
    /// Our own addresses.
    pub(crate) listening: Vec<String>,
}

impl Direct {
    /// A link to a device stands; gives the one it takes the place of.
    pub(crate) fn up(&mut self, link: LinkId, device: DeviceId) -> Option<LinkId> {
        let old = self.by_device.insert(device, link);
        if let Some(old) = old {
            self.links.remove(&old);
        }
        self.links.insert(link, device);
        old
    }

    /// A link is gone; gives the device that has none any more.
    pub(crate) fn down(&mut self, link: LinkId) -> Option<DeviceId> {
        let device = self.links.remove(&link)?;
        self.by_device.remove(&device);
        Some(device)
    }

    pub(crate) fn device(&self, link: LinkId) -> Option<DeviceId> {
        self.links.get(&link).copied()
    }

    pub(crate) fn link(&self, device: &DeviceId) -> Option<LinkId> {
        self.by_device.get(device).copied()
    }

    /// The devices of an account that have a link, and which.
    pub(crate) fn links_of(&self, account: &AccountId) -> Vec<(DeviceId, LinkId)> {
        let of = |(device, _): &(&DeviceId, &LinkId)| device.account == *account;
        self.by_device.iter().filter(of).map(|(device, link)| (*device, *link)).collect()
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.by_device.keys().copied()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.links.len().saturating_add(self.dialing.len()) >= limits::DIRECT_LINKS_MAX
    }

    /// Takes note of an envelope about to be sent directly. False: too many are unanswered, and it is not to be sent
    /// that way; none of those that wait gives up its place.
    #[must_use]
    pub(crate) fn await_answers(&mut self, envelope: EnvelopeId, answers: Answers) -> bool {
        let room = self.answers.len() < limits::DIRECT_ANSWERS_MAX || self.answers.contains_key(&envelope);
        if room {
            self.answers.insert(envelope, answers);
        }
        room
    }

    /// A device answered; gives what was awaited when it was the last.
    pub(crate) fn answered(&mut self, envelope: &EnvelopeId, device: &DeviceId) -> Option<Answers> {
        let answers = self.answers.get_mut(envelope)?;
        answers.missing.remove(device);
        if answers.missing.is_empty() { self.answers.remove(envelope) } else { None }
    }

    /// Whether a device may be offered our addresses again.
    pub(crate) fn may_offer(&self, device: &DeviceId, now: Monotonic) -> bool {
        self.offered.get(device).is_none_or(|at| now.since(*at) >= limits::CANDIDATE_EVERY)
    }

    pub(crate) fn note_offer(&mut self, device: DeviceId, now: Monotonic) {
        self.offered.retain(|_, at| now.since(*at) < limits::CANDIDATE_EVERY);
        self.offered.insert(device, now);
    }
}

/// Whether candidates are young enough to dial, by our own clock, which may be off either way.
pub(crate) fn is_fresh(candidates: &Candidates, wall: Wall) -> bool {
    let age = candidates.at.as_millis().abs_diff(wall.as_millis());
    age <= limits::CANDIDATE_AGE_MAX.as_millis() as u64
}

/// The addresses to offer, within their bounds.
pub(crate) fn offer(listening: &[String], at: Wall, answer: bool) -> Candidates {
    let fits = |address: &&String| address.len() <= limits::CANDIDATE_ADDRESS_BYTES_MAX;
    let addresses = listening.iter().filter(fits).take(limits::CANDIDATE_ADDRESSES_MAX).cloned().collect();
    Candidates { addresses, at, answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_too_many_goes_another_way_and_takes_nobody_s_place() {
        let mut direct = Direct::default();
        let id = |n: usize| EnvelopeId::of(&n.to_be_bytes());
        let answers = || Answers { thread: ThreadId::from_bytes([1; 32]), message: None, missing: BTreeSet::new() };
        assert!((0..limits::DIRECT_ANSWERS_MAX).all(|n| direct.await_answers(id(n), answers())));
        assert!(!direct.await_answers(id(limits::DIRECT_ANSWERS_MAX), answers()));
        assert!((0..limits::DIRECT_ANSWERS_MAX).all(|n| direct.answers.contains_key(&id(n))));
        assert!(direct.await_answers(id(7), answers()), "the same again is not one more");
        direct.answers.remove(&id(0));
        assert!(direct.await_answers(id(limits::DIRECT_ANSWERS_MAX), answers()));
    }

    #[test]
    fn candidates_are_dialled_within_a_minute_of_our_clock_either_way() {
        let at = |millis| Candidates { addresses: Vec::new(), at: Wall::from_millis(millis), answer: false };
        let now = Wall::from_millis(1_000_000);
        for (millis, fresh) in [(940_000, true), (939_999, false), (1_060_000, true), (1_060_001, false), (0, false)] {
            assert_eq!(is_fresh(&at(millis), now), fresh, "{millis}");
        }
        assert!(!is_fresh(&at(u64::MAX), now));
    }
}
