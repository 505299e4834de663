//! Outbox: sealed envelopes until they are stored at the relay or at all other devices.
//! Owns: per thread, the window of rows on their way and how far each is. The rows are the truth; the window is
//! loaded from them, in order, and forgotten with the process.
//! Never: seals again: what is sent is the row's bytes, however often.
//! Limits: `limits::AUTHOR_WINDOW`, `limits::SUBMITS_MAX`, `limits::OUTBOX_MAX`. Rules: docs/protocol/thread.md, "Submission".

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{EnvelopeId, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::{Monotonic, Wall};
use whimbrel_storage::{Order, Reads, StorageError};

use crate::rows::{self, OutboxRow};

/// How far an envelope is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No path tried.
    New,
    /// With the other devices, by direct links; the relay gets no copy before this moment.
    Racing(Monotonic),
    /// To be handed to the relay when it is there.
    Ready,
    /// Handed to the relay on the present link.
    Submitted,
}

/// An envelope on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) envelope: EnvelopeId,
    pub(crate) message: Option<MessageId>,
    pub(crate) class: Class,
    pub(crate) until: Option<Wall>,
    pub(crate) phase: Phase,
}

/// One thread's envelopes, in order.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) window: BTreeMap<u64, Waiting>,
    /// Rows up to here were loaded.
    loaded: u64,
    /// So many may be under way at once, since the relay said that they came too fast; none: as many as the window has.
    pace: Option<usize>,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) lanes: BTreeMap<ThreadId, Lane>,
    /// Threads that wait for others' envelopes to be answered for.
    pub(crate) starved: BTreeSet<ThreadId>,
    /// Messages waiting, in all threads.
    pub(crate) queued: u64,
}

impl Lane {
    /// Fills the window from the rows.
    pub(crate) fn load(&mut self, reads: &dyn Reads, thread: &ThreadId) -> Result<(), StorageError> {
        let room = limits::AUTHOR_WINDOW.saturating_sub(self.window.len());
        if room == 0 {
            return Ok(());
        }
        let from = rows::outbox_key(thread, self.loaded.saturating_add(1));
        let mut to = rows::outbox_key(thread, u64::MAX);
        to.push(0);
        for (key, value) in reads.scan(&from, &to, Order::Ascending, room)? {
            let row: OutboxRow = rows::decode(&key, &value)?;
            let order = rows::number_in_key(&key).ok_or_else(|| rows::damaged(&key, "key"))?;
            let waiting = Waiting {
                envelope: row.envelope.id(),
                message: row.message,
                class: row.envelope.class,
                until: row.until,
                phase: Phase::New,
            };
            self.window.insert(order, waiting);
            self.loaded = order;
        }
        Ok(())
    }

    /// Whether one more may be under way.
    pub(crate) fn has_pace(&self) -> bool {
        let under_way = || self.window.values().filter(|waiting| waiting.phase == Phase::Submitted).count();
        self.pace.is_none_or(|pace| under_way() < pace)
    }

    /// The relay said that they come too fast: the next goes alone. All of them again would all be refused but the first.
    pub(crate) fn slow_down(&mut self) {
        self.pace = Some(1);
    }

    /// The relay took one: twice as many may go, until that is all there can be.
    pub(crate) fn speed_up(&mut self) {
        self.pace = self.pace.map(|pace| 2 * pace).filter(|pace| *pace < limits::AUTHOR_WINDOW);
    }

    /// The order of an envelope in the window.
    pub(crate) fn find(&self, envelope: &EnvelopeId) -> Option<u64> {
        self.window.iter().find(|(_, waiting)| waiting.envelope == *envelope).map(|(order, _)| *order)
    }

    /// When the oldest race ends.
    pub(crate) fn race_end(&self) -> Option<Monotonic> {
        self.window
            .values()
            .filter_map(|waiting| if let Phase::Racing(at) = waiting.phase { Some(at) } else { None })
            .min()
    }

    /// Puts every envelope of one phase into another.
    pub(crate) fn rephase(&mut self, change: impl Fn(&Waiting) -> Option<Phase>) {
        for waiting in self.window.values_mut() {
            if let Some(phase) = change(waiting) {
                waiting.phase = phase;
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.window.is_empty()
    }
}

/// The row of an envelope on its way.
pub(crate) fn row(reads: &dyn Reads, thread: &ThreadId, order: u64) -> Result<Option<OutboxRow>, StorageError> {
    rows::get(reads, &rows::outbox_key(thread, order))
}
