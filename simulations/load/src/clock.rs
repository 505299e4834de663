//! Clock: the one place of this crate that reads one.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use whimbrel_protocol::time::Wall;

/// Time since this process first asked.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time")]
pub(crate) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// What the machine's clock says, to judge certificates by.
#[expect(clippy::disallowed_methods, reason = "a runtime reads the clock, and here only")]
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Wall::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
