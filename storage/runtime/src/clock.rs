//! The monotonic clock; the one place of this crate that reads it.

use std::time::{Duration, Instant};

/// Now, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "a runtime reads the clock, and here only")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits a moment between two looks at something that tells nobody when it changes.
#[expect(clippy::disallowed_methods, reason = "a file lock held by a thread of sled cannot be awaited with a bound")]
pub(crate) fn pause(moment: Duration) {
    std::thread::sleep(moment);
}
