//! Time as the cores see it: two readings handed in, never read.
//! Owns: the reading types and the hybrid logical clock's arithmetic.
//! Never: asks an operating system for the time.

use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::limits;

/// Time since the process's own beginning: for deadlines. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// Wraps the time since the beginning.
    pub const fn from_start(since: Duration) -> Self {
        Self(since)
    }

    /// Time since the beginning.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// A later moment.
    #[must_use]
    pub const fn plus(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01 UTC by this machine's clock, which may lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Wall(#[n(0)] u64);

impl Wall {
    /// Wraps milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }
}

/// What time it is, in both readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Monotonic,
    /// For what people see, and for expiry that outlives a restart.
    pub wall: Wall,
}

/// A hybrid logical clock reading (Kulkarni et al., "Logical Physical Clocks", 2014): wall time that never
/// contradicts causality.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Hlc {
    /// Milliseconds since 1970.
    #[n(0)]
    pub millis: u64,
    /// Orders readings within one millisecond.
    #[n(1)]
    pub count: u32,
}

impl Hlc {
    /// The next reading of a clock that stands at `self`, for something that happens now.
    #[must_use]
    pub fn tick(self, wall: Wall) -> Self {
        if wall.as_millis() > self.millis {
            Self { millis: wall.as_millis(), count: 0 }
        } else if self.count == u32::MAX {
            Self { millis: self.millis.saturating_add(1), count: 0 }
        } else {
            Self { millis: self.millis, count: self.count + 1 }
        }
    }

    /// Moves the clock to a reading received from elsewhere, unless that lies more than
    /// [`limits::CLOCK_AHEAD_MAX`] ahead of our own wall clock: a liar must not drag us along.
    #[must_use]
    pub fn witness(self, other: Self, wall: Wall) -> Self {
        let horizon = wall.as_millis().saturating_add(limits::CLOCK_AHEAD_MAX.as_millis() as u64);
        if other.millis > horizon { self } else { self.max(other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_still_orders() {
        let wall = Wall::from_millis(5);
        let first = Hlc::default().tick(wall);
        let second = first.tick(wall);
        let third = second.tick(Wall::from_millis(1));
        assert!(first < second && second < third);
    }

    #[test]
    fn a_reading_far_ahead_does_not_move_our_clock() {
        let ours = Hlc { millis: 1_000, count: 0 };
        let wall = Wall::from_millis(1_000);
        assert_eq!(ours.witness(Hlc { millis: u64::MAX, count: 7 }, wall), ours);
        let near = Hlc { millis: 100_000, count: 1 };
        assert_eq!(ours.witness(near, wall), near);
    }

    #[test]
    fn the_last_count_of_a_millisecond_carries_over() {
        let full = Hlc { millis: 9, count: u32::MAX };
        assert_eq!(full.tick(Wall::from_millis(9)), Hlc { millis: 10, count: 0 });
    }
}
