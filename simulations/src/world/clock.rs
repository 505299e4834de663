//! A process's clocks: what it is told of the time.
//! Owns: how far the calendar lies, how fast both clocks run. Never: lets the monotonic one go back within a life.

use std::time::Duration;

use whimbrel_protocol::time::{Monotonic, Now, Wall};

use super::EPOCH_MILLIS;
use crate::engine::Time;
use crate::engine::time::nanos;

/// The two clocks of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Since when what is below holds.
    since: Time,
    /// What the monotonic clock showed then.
    ran: Duration,
    /// By how much the calendar was ahead then, in nanoseconds.
    ahead: i128,
    drift_ppm: i32,
    /// How wrong it is when nobody touches it: milliseconds ahead, parts in a million too fast.
    habit: (i64, i32),
}

impl Clock {
    /// Right, and at zero.
    pub(super) const fn new() -> Self {
        Self::of((0, 0))
    }

    /// At zero, as far ahead and as much too fast as it is by habit.
    pub(super) const fn of(habit: (i64, i32)) -> Self {
        let (ahead_ms, drift_ppm) = habit;
        Self { since: Time::ZERO, ran: Duration::ZERO, ahead: ahead_ms as i128 * 1_000_000, drift_ppm, habit }
    }

    /// From now on it is as wrong as by habit.
    pub(super) fn let_go(&mut self, at: Time) {
        let (ahead_ms, drift_ppm) = self.habit;
        self.set(at, ahead_ms, drift_ppm);
    }

    /// A new life begins: the monotonic clock starts at zero, the calendar goes on as wrong as it was.
    pub(super) fn restart(&mut self, at: Time) {
        self.ahead += self.drifted(at);
        (self.since, self.ran) = (at, Duration::ZERO);
    }

    /// From now on it is ahead by so much and runs at another speed.
    pub(super) fn set(&mut self, at: Time, ahead_ms: i64, drift_ppm: i32) {
        self.ran = self.monotonic(at).since_start();
        self.since = at;
        self.ahead = i128::from(ahead_ms) * 1_000_000;
        self.drift_ppm = drift_ppm;
    }

    /// What it gained since it was set.
    fn drifted(&self, at: Time) -> i128 {
        i128::from(nanos(at.since(self.since))) * i128::from(self.drift_ppm) / 1_000_000
    }

    fn monotonic(&self, at: Time) -> Monotonic {
        let ran = i128::from(nanos(at.since(self.since))) + self.drifted(at);
        Monotonic::from_start(self.ran + Duration::from_nanos(u64::try_from(ran).unwrap_or(0)))
    }

    /// What both clocks show.
    pub(super) fn now(&self, at: Time) -> Now {
        let wall = i128::from(EPOCH_MILLIS) + (i128::from(at.nanos()) + self.ahead + self.drifted(at)) / 1_000_000;
        Now { monotonic: self.monotonic(at), wall: Wall::from_millis(u64::try_from(wall).unwrap_or(0)) }
    }

    /// When the monotonic clock shows this, if nobody sets it before; never too early.
    pub(super) fn when(&self, deadline: Monotonic) -> Time {
        let left = i128::from(nanos(deadline.since_start().saturating_sub(self.ran)));
        let pace = 1_000_000 + i128::from(self.drift_ppm);
        let real = if self.drift_ppm == 0 { left } else { (left * 1_000_000 + pace - 1) / pace };
        self.since.plus(Duration::from_nanos(u64::try_from(real).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_calendar_jumps_and_the_monotonic_clock_never_goes_back() {
        let mut clock = Clock::new();
        clock.restart(at(10));
        clock.set(at(20), -3_600_000, 500);
        let now = clock.now(at(20));
        assert_eq!(now.monotonic, Monotonic::from_start(10 * SECOND));
        assert_eq!(now.wall.as_millis(), EPOCH_MILLIS + 20_000 - 3_600_000);
        clock.set(at(1_020), 0, 0);
        assert_eq!(clock.now(at(1_020)).monotonic, Monotonic::from_start(1_010 * SECOND + SECOND / 2));
        assert_eq!(clock.now(at(1_020)).wall.as_millis(), EPOCH_MILLIS + 1_020_000);
    }

    #[test]
    fn a_clock_that_nobody_touches_is_as_wrong_as_by_habit() {
        let mut clock = Clock::of((-20_000, 100));
        assert_eq!(clock.now(at(0)).wall.as_millis(), EPOCH_MILLIS - 20_000);
        assert_eq!(clock.now(at(10_000)).wall.as_millis(), EPOCH_MILLIS + 10_000_000 - 20_000 + 1_000);
        clock.set(at(10_000), 3_600_000, 0);
        assert_eq!(clock.now(at(10_001)).wall.as_millis(), EPOCH_MILLIS + 10_001_000 + 3_600_000);
        clock.let_go(at(10_001));
        assert_eq!(clock.now(at(20_001)).wall.as_millis(), EPOCH_MILLIS + 20_001_000 - 20_000 + 1_000);
        assert_eq!(clock.now(at(20_001)).monotonic, Monotonic::from_start(Duration::from_secs(20_003)));
    }

    #[test]
    fn a_deadline_is_never_found_early() {
        for ppm in [-500, -3, 0, 3, 500, 100_000] {
            let mut clock = Clock::new();
            clock.set(at(5), 0, ppm);
            for millis in [5_001, 6_003, 77_777, 3_600_000] {
                let deadline = Monotonic::from_start(Duration::from_millis(millis));
                let when = clock.when(deadline);
                let shown = clock.now(when).monotonic;
                assert!(shown >= deadline && shown.since(deadline) < Duration::from_nanos(3), "{ppm} ppm, {millis}");
            }
        }
    }
}
