//! Signal: who is writing now, and that the owner is.
//! Owns: the keys at hand, the newest number of each author, what was said last. In memory alone; a new life knows nothing.
//! Never: a row, a receipt, a second try. Limits: `limits::SIGNAL_*`. Rules: docs/protocol/signal.md.

use std::collections::BTreeMap;

use whimbrel_crypto::SignalKey;
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::signal::Doing;
use whimbrel_protocol::time::{Monotonic, Wall};

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    keys: BTreeMap<ThreadId, SignalKey>,
    /// The newest of each device in each thread.
    heard: BTreeMap<(ThreadId, DeviceId), Heard>,
    /// What was said in which thread, and when.
    said: BTreeMap<ThreadId, (Doing, Monotonic)>,
    number: u64,
}

/// A signal that was told.
#[derive(Clone, Copy, Debug)]
struct Heard {
    number: u64,
    what: Doing,
    at: Monotonic,
}

impl Signals {
    /// The thread has another epoch: its key is worth nothing any more.
    pub(crate) fn forget(&mut self, thread: &ThreadId) {
        self.keys.remove(thread);
    }

    /// The key of a thread's epoch, if it is at hand.
    pub(crate) fn key(&self, thread: &ThreadId, epoch: Epoch) -> Option<&SignalKey> {
        self.keys.get(thread).filter(|key| key.epoch() == epoch)
    }

    /// The key that is at hand, of whatever epoch.
    pub(crate) fn any_key(&self, thread: &ThreadId) -> Option<&SignalKey> {
        self.keys.get(thread)
    }

    /// Keeps a key at hand; for too many another goes.
    pub(crate) fn keep(&mut self, thread: ThreadId, key: SignalKey) {
        if self.keys.len() >= limits::SIGNAL_KEYS_MAX && !self.keys.contains_key(&thread) {
            self.keys.pop_first();
        }
        self.keys.insert(thread, key);
    }

    /// Whether what the owner does is to be said now: that they write only a while after it was last said, that they stopped
    /// only where they wrote, as far as is known.
    pub(crate) fn is_due(&mut self, now: Monotonic, thread: ThreadId, what: Doing) -> bool {
        self.said.retain(|_, (_, at)| now.since(*at) < limits::SIGNAL_LASTS);
        let last = self.said.get(&thread).copied();
        let due = match (what, last) {
            (_, None) => self.said.len() < limits::SIGNAL_AUTHORS_MAX,
            (Doing::Writing, Some((_, at))) => now.since(at) >= limits::SIGNAL_EVERY,
            (Doing::Nothing, Some((said, _))) => said == Doing::Writing,
        };
        if due {
            // The pace of the one is not quickened by the other.
            let at = last.filter(|_| what == Doing::Nothing).map_or(now, |(_, at)| at);
            self.said.insert(thread, (what, at));
        }
        due
    }

    /// A message of the owner's went into a thread: that says all.
    pub(crate) fn spoke(&mut self, thread: &ThreadId) {
        self.said.remove(thread);
    }

    /// The number of the next signal: greater than any of this life, and than those of lives before if the clock went on.
    pub(crate) fn number(&mut self, now: Wall) -> u64 {
        self.number = now.as_millis().max(self.number.saturating_add(1));
        self.number
    }

    /// Whether a number of a device is greater than all that came before; it is remembered then. For too many devices those of
    /// another are forgotten, whose last may then come once more. The same again in less than a second is no news.
    pub(crate) fn is_news(
        &mut self,
        now: Monotonic,
        (thread, by): (ThreadId, DeviceId),
        (number, what): (u64, Doing),
    ) -> bool {
        let last = self.heard.get(&(thread, by));
        if last.is_some_and(|last| last.number >= number) {
            return false;
        }
        let again = last.is_some_and(|last| last.what == what && now.since(last.at) < limits::SIGNAL_HEARD_EVERY);
        let at = last.filter(|_| again).map_or(now, |last| last.at);
        if self.heard.len() >= limits::SIGNAL_AUTHORS_MAX && last.is_none() {
            self.heard.pop_first();
        }
        self.heard.insert((thread, by), Heard { number, what, at });
        !again
    }
}
