//! The clock of this binary; the one place that reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use whimbrel_protocol::time::Wall;

/// For deadlines and latencies.
#[expect(clippy::disallowed_methods, reason = "a binary reads the clock, and here only")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For what people see.
#[expect(clippy::disallowed_methods, reason = "a binary reads the clock, and here only")]
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment as programs read it (RFC 3339 §5.6).
pub(crate) fn rfc3339(wall: Wall) -> String {
    // The last second of the year 9999: beyond it the format has no form.
    let seconds = wall.as_secs().min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// Reads a moment, or a duration before `now`.
pub(crate) fn parse_since(text: &str, now: Wall) -> Option<Wall> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).ok()?;
        return Some(Wall::from_millis(now.as_millis().saturating_sub(ago)));
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment = humantime::parse_rfc3339_weak(&whole).ok()?;
    let since = moment.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Wall::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back() {
        let wall = Wall::from_millis(1_785_499_205_000);
        assert_eq!(rfc3339(wall), "2026-07-31T12:00:05Z");
        assert_eq!(parse_since("2026-07-31T12:00:05Z", Wall::default()), Some(wall));
        assert_eq!(parse_since("2026-07-31", Wall::default()), Some(Wall::from_millis(1_785_456_000_000)));
        assert_eq!(parse_since("5s", wall), Some(Wall::from_millis(1_785_499_200_000)));
        assert_eq!(parse_since("yesterday", wall), None);
    }

    #[test]
    fn a_clock_beyond_every_calendar_is_shown_as_its_end() {
        assert_eq!(rfc3339(Wall::from_millis(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
