//! Clock: the one place of the node runtime that reads a clock.
//! Owns: the moment the process began. Never: decides what time means; the core does.

use std::time::{Instant, SystemTime};

use whimbrel_protocol::time::{Monotonic, Now, Wall};

/// Tells the time, in both readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic reading begins now.
    #[expect(clippy::disallowed_methods, reason = "the runtime's clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_start(self.start.elapsed()), wall: wall() }
    }
}

/// What the wall clock says. One set before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "the runtime's clock")]
pub(crate) fn wall() -> Wall {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}
