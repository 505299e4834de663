//! Wire: what relays told devices, held against itself.
//! Owns: which entry stood at which place of which log, as devices were shown it.
//! Never: decodes a seal, or asks a relay. A relay that is hostile by design is not heard from then on.
//!
//! An honest relay pushes what is durable and nothing else. So a place once shown keeps its entry whatever crashed
//! (P7), and no envelope stands at two places of a log: its author's second attempt is answered, not appended (P2).

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::hub::Accepted;
use whimbrel_protocol::id::{AccountId, BlobId, DeviceId, DeviceIndex, EnvelopeId, Epoch, Sequence, ThreadId};
use whimbrel_protocol::push::{EntryBody, LogRef, Push};
use whimbrel_protocol::thread::Envelope;

use super::verdict::Violation;
use crate::engine::Time;
use crate::net::ProcessNo;

/// A log of a relay: a thread's is one for all its readers, an inbox is its owner's.
type Log = (ProcessNo, LogRef, Option<ProcessNo>);

/// What was shown of one log.
#[derive(Debug, Default)]
struct Shown {
    at: BTreeMap<Sequence, [u8; 32]>,
    envelopes: BTreeMap<[u8; 32], Sequence>,
}

/// What was shown of all logs.
#[derive(Debug, Default)]
pub(super) struct Wire {
    logs: BTreeMap<Log, Shown>,
    /// Who handed in what, and when it first arrived.
    submitted: BTreeMap<EnvelopeId, (ProcessNo, Time)>,
    /// Of devices of a relay's users that were taken out of a thread: the last epoch for them, and when their relay was first
    /// seen to know.
    parted: BTreeMap<(ThreadId, DeviceId), (Epoch, Time)>,
    hostile: BTreeSet<ProcessNo>,
}

impl Wire {
    /// From now on a relay's word proves nothing.
    pub(super) fn hostile(&mut self, relay: ProcessNo) {
        self.hostile.insert(relay);
        self.logs.retain(|(of, _, _), _| *of != relay);
    }

    /// Whether a relay's word proves nothing.
    pub(super) fn is_hostile(&self, relay: ProcessNo) -> bool {
        self.hostile.contains(&relay)
    }

    /// A device handed an envelope in.
    pub(super) fn submitted(&mut self, from: ProcessNo, envelope: &Envelope, at: Time) {
        self.submitted.entry(envelope.id()).or_insert((from, at));
    }

    /// Who handed an envelope in, if anybody did, and when.
    pub(super) fn author(&self, envelope: &Envelope) -> Option<(ProcessNo, Time)> {
        self.submitted.get(&envelope.id()).copied()
    }

    /// A device's relay was seen to know that it is taken out of a thread.
    pub(super) fn parted(&mut self, thread: ThreadId, who: DeviceId, last: Epoch, at: Time) {
        let known = self.parted.entry((thread, who)).or_insert((last, at));
        if known.0 < last {
            *known = (last, at);
        }
    }

    /// The devices of a thread that are known to be taken out of it, and the last epoch for each.
    pub(super) fn ended(&self, thread: &ThreadId) -> impl Iterator<Item = (DeviceId, Epoch)> + '_ {
        let thread = *thread;
        let first = DeviceId { account: AccountId::from_bytes([0; 32]), index: DeviceIndex::FIRST };
        let of = self.parted.range((thread, first)..).take_while(move |((of, _), _)| *of == thread);
        of.map(|((_, device), (last, _))| (*device, *last))
    }

    /// Whether an envelope was handed in by a device whose relay was seen, before it came, to know that it is out.
    pub(super) fn is_parted(&self, who: DeviceId, envelope: &Envelope, at: Time) -> bool {
        let known = self.parted.get(&(envelope.thread, who));
        known.is_some_and(|(last, since)| envelope.epoch <= *last && at > *since)
    }

    /// A run arrived at a device.
    pub(super) fn pushed(&mut self, to: ProcessNo, relay: ProcessNo, run: &Push) -> Vec<Violation> {
        let mut found = Vec::new();
        let owner = matches!(run.log, LogRef::Inbox).then_some(to);
        let shown = self.logs.entry((relay, run.log, owner)).or_default();
        for entry in &run.entries {
            let (id, envelope) = match &entry.body {
                EntryBody::Envelope(_, envelope) => (*envelope.id().as_bytes(), true),
                EntryBody::Invitation(invitation) => (*invitation.welcome.as_bytes(), false),
                EntryBody::Undelivered(undelivered) => match undelivered.envelopes.first() {
                    Some(first) => (*first.as_bytes(), false),
                    None => (*undelivered.thread.as_bytes(), false),
                },
                EntryBody::Friendship(word) => (*BlobId::of(&word.content).as_bytes(), false),
                EntryBody::Commit(accepted) => (*commit_id(accepted).as_bytes(), true),
            };
            if *shown.at.entry(entry.sequence).or_insert(id) != id {
                found.push(Violation::Rewritten { relay, to, sequence: entry.sequence.get() });
            }
            if envelope && *shown.envelopes.entry(id).or_insert(entry.sequence) != entry.sequence {
                found.push(Violation::AppendedTwice { relay, to, sequence: entry.sequence.get() });
            }
        }
        found
    }
}

/// What a commit is told apart by: a hub that does not read it takes the same bytes for two epochs.
fn commit_id(accepted: &Accepted) -> BlobId {
    let hash = accepted.commit.hash();
    BlobId::of(&[&hash.as_bytes()[..], &accepted.commit.epoch.get().to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_protocol::push::Entry;
    use whimbrel_protocol::thread::Class;

    fn run(sequence: u64, body: u8) -> Push {
        let author = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };
        let thread = ThreadId::from_bytes([2; 32]);
        let envelope = Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: vec![body] };
        let entry = Entry { sequence: Sequence::new(sequence), body: EntryBody::Envelope(author, envelope) };
        let (after, upto) = (Sequence::new(sequence - 1), Sequence::new(sequence));
        Push { log: LogRef::Thread(thread), after, upto, entries: vec![entry], gone: None }
    }

    #[test]
    fn an_honest_log_keeps_its_places_and_has_each_envelope_once() {
        let mut wire = Wire::default();
        let mut found = |to, sequence, body| wire.pushed(to, 0, &run(sequence, body));
        assert_eq!(found(5, 1, 1), []);
        assert_eq!(found(6, 1, 1), []);
        assert_eq!(found(5, 2, 2), []);
        assert_eq!(found(6, 2, 3), [Violation::Rewritten { relay: 0, to: 6, sequence: 2 }]);
        assert_eq!(found(5, 3, 1), [Violation::AppendedTwice { relay: 0, to: 5, sequence: 3 }]);
        wire.hostile(0);
        assert!(wire.is_hostile(0) && wire.logs.is_empty());
    }
}
