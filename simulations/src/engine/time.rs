//! Virtual time: nanoseconds since the world began.

use std::time::Duration;

use whimbrel_protocol::time::Monotonic;

/// A moment of virtual time. 64 bits of nanoseconds last 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// Wraps nanoseconds since the beginning.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// A later moment.
    #[must_use]
    pub const fn plus(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(nanos(delay)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same moment on the clock of a process that started at `start`.
    pub const fn monotonic(self, start: Self) -> Monotonic {
        Monotonic::from_start(self.since(start))
    }

    /// The moment a process that started at `start` means by `deadline`.
    pub const fn of_monotonic(start: Self, deadline: Monotonic) -> Self {
        start.plus(deadline.since_start())
    }
}

/// A duration in whole nanoseconds, at most 584 years.
pub const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}
