//! Timers: everything the node waits for by the clock, in one table.
//! Owns: which timers there are and when each is due. Never: what happens then; `flow/` decides.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{AccountId, BlobId, RequestId, ThreadId};
use whimbrel_protocol::time::Monotonic;

use crate::friendship::WordId;
use crate::thread::JobId;

/// One thing to come back for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// Try to reach the home relay.
    Connect,
    /// The relay has not admitted us, or the runtime has not connected, in time.
    Greeting,
    /// Say that we are here.
    Heartbeat,
    /// Acknowledge what was gathered.
    Acknowledge,
    /// A request stays unanswered.
    Answer(RequestId),
    /// The direct path had its time for the oldest envelope of a thread.
    Race(ThreadId),
    /// A refused envelope may be tried again.
    Lane(ThreadId),
    /// A refused opening may be tried again.
    Opening(ThreadId),
    /// An invitation that could not be followed may be tried again.
    Invitation(BlobId),
    /// Those the relay was asked about too fast may be asked about again.
    Gather(JobId),
    /// More of what was parked is to be opened.
    Unpark(ThreadId),
    /// A tag that could not be set may be tried again.
    Tag(ThreadId),
    /// KeyPackages that could not be stocked may be tried again.
    Stock,
    /// A word that could not be proved may be tried again.
    Word(WordId),
    /// Settings that the relay did not keep may be tried again.
    Settings(ThreadId),
    /// A change that is not decided may be handed in again.
    Change(ThreadId),
    /// A change of the account log may be handed in again.
    Extend,
    /// More threads are to be told of it.
    Heralding,
    /// More threads are to be changed for devices of our own.
    Siblings,
    /// Somebody else had their time to take out of a thread who is off their account.
    Strays(ThreadId),
    /// Devices of our own that could not be taken into a thread are tried again.
    Unready,
    /// The thread of our own devices may be tried for again.
    SelfThread,
    /// More of what our devices hold together is to be told.
    Telling,
    /// More of the history may be asked for.
    History,
    /// A linking took too long.
    Linking,
    /// Somebody's longer account log may be asked for again.
    Herald(AccountId),
    /// The receipts owed in a thread may leave.
    Receipts(ThreadId),
    /// What was said in a thread and not everybody has said to have may be sealed again.
    Resend(ThreadId),
    /// What is missing in a thread may be asked for.
    Repair(ThreadId),
    /// The time of the first text that goes by itself is over.
    Vanish,
    /// A relay is to be asked for its tree.
    Audit,
    /// Whoever came by a link of ours may be taken in.
    Asks,
    /// More of what waits to leave, and never will, is to be told of.
    Unsaid,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Monotonic>,
    due: BTreeSet<(Monotonic, Timer)>,
}

impl Timers {
    /// Sets a timer, whatever it was set to before.
    pub(crate) fn set(&mut self, timer: Timer, at: Monotonic) {
        self.clear(timer);
        self.at.insert(timer, at);
        self.due.insert((at, timer));
    }

    /// Sets a timer, unless it is due sooner.
    pub(crate) fn set_by(&mut self, timer: Timer, at: Monotonic) {
        if self.at.get(&timer).is_none_or(|due| *due > at) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.due.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out every timer that is due, in order. Timers set while these are served wait for the next call.
    pub(crate) fn take_due(&mut self, now: Monotonic) -> Vec<Timer> {
        let mut due = Vec::new();
        while let Some((at, timer)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, timer));
            self.at.remove(&timer);
            due.push(timer);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_set_again_is_due_once_at_its_last_time() {
        let at = |secs| Monotonic::from_start(Duration::from_secs(secs));
        let mut timers = Timers::default();
        timers.set(Timer::Heartbeat, at(1));
        timers.set(Timer::Heartbeat, at(3));
        timers.set(Timer::Connect, at(2));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.take_due(at(3)), [Timer::Connect, Timer::Heartbeat]);
        assert_eq!(timers.next(), None);
        assert!(!timers.is_set(Timer::Heartbeat));
    }
}
