//! Figures: what this process counts beside its core.
//! Owns: counters of wake-ups by outcome, the times from an envelope's arrival to its being durable. Never: a label that
//! names anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Upper bounds of the classes of times, in microseconds: from what a fast disk needs to what a person takes for broken.
/// A last class has none.
pub(crate) const TIMES: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// Times, in classes.
#[derive(Debug, Default)]
pub(crate) struct Times {
    classes: [AtomicU64; TIMES.len() + 1],
    sum: AtomicU64,
}

impl Times {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = TIMES.iter().position(|bound| micros <= *bound).unwrap_or(TIMES.len());
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many there were in each class, and their sum in microseconds.
    pub(crate) fn counts(&self) -> ([u64; TIMES.len() + 1], u64) {
        (self.classes.each_ref().map(|counter| counter.load(Ordering::Relaxed)), self.sum.load(Ordering::Relaxed))
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    wakes: [AtomicU64; Woken::ALL.len()],
    submits: Times,
}

impl Figures {
    /// Times from an envelope's arrival to the answer that it is durable.
    pub(crate) const fn submits(&self) -> &Times {
        &self.submits
    }

    /// An envelope was durable so long after it arrived.
    pub(crate) fn submitted(&self, time: Duration) {
        self.submits.add(time);
    }

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

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_class_whose_bound_it_does_not_exceed() {
        let figures = Figures::default();
        for micros in [0, 500, 501, 10_000_000, 10_000_001, u64::MAX / 4] {
            figures.submitted(Duration::from_micros(micros));
        }
        let (classes, sum) = figures.submits().counts();
        let mut expected = [0; TIMES.len() + 1];
        [expected[0], expected[1], expected[12], expected[13]] = [2, 1, 1, 2];
        assert_eq!(classes, expected);
        assert_eq!(sum, 1_001 + 20_000_001 + u64::MAX / 4);
    }
}
