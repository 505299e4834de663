//! Figures: what this process counts beside its core.
//! Owns: counters of wake-ups by outcome. Never: a label that names anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// What came of a wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// The push service took it.
    Sent,
    /// The push service does not know the device any more.
    Ended,
    /// It led where this relay does not go, or had no key.
    Refused,
    /// Not reached in time, or not taken.
    Failed,
    /// Too many waited.
    Dropped,
}

impl Woken {
    /// Each with its label.
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Sent, "sent"),
        (Self::Ended, "ended"),
        (Self::Refused, "refused"),
        (Self::Failed, "failed"),
        (Self::Dropped, "dropped"),
    ];
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    wakes: [AtomicU64; Woken::ALL.len()],
}

impl Figures {
    /// Wake-ups of which this came.
    pub(crate) fn wakes(&self, outcome: Woken) -> u64 {
        self.wakes.get(outcome as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Counts a wake-up.
    pub(crate) fn woken(&self, outcome: Woken) {
        if let Some(counter) = self.wakes.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
