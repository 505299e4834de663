//! Clock: the one place of this crate that reads one.

use std::time::{Duration, Instant, SystemTime};

use whimbrel_protocol::time::{Monotonic, Now, Wall};

/// Counts from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a runtime reads the clock, and here only")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both readings.
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_start(self.start.elapsed()), wall: wall() }
    }

    /// Sleeps until a moment of this clock.
    pub(crate) async fn sleep_until(&self, moment: Monotonic) {
        tokio::time::sleep_until((self.start + moment.since_start()).into()).await;
    }
}

/// What the machine's clock says; 1970 when it says something before that.
#[expect(clippy::disallowed_methods, reason = "a runtime reads the clock, and here only")]
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Wall::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
