//! What a relay keeps of what waits. Owns: the keys, their bounds, what they make of a relay's configuration.
//! Never: more than an operator may say.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_protocol::limits;
use whimbrel_relay::Config;

use super::Span;

/// Least and most entries of a log.
const ENTRIES: RangeInclusive<u64> = 1..=limits::LOG_ENTRIES_MAX;
/// Least and most bytes: as for operators, there is room for a few of the largest envelopes.
const BYTES: RangeInclusive<u64> = 1 << 20..=limits::LOG_BYTES_MAX;
/// How long anything is held.
const HOLD: RangeInclusive<Duration> = limits::HOLD_AGE_MIN..=limits::HOLD_AGE_MAX;

/// What a relay keeps in a log, and for how long; absent: as relays do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keeps {
    /// Entries of one log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Bytes of one log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long what nobody fetches is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
}

impl Keeps {
    /// Whether nothing is said.
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The key at fault, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.entries.is_some_and(|entries| !ENTRIES.contains(&entries)) {
            return Err(("entries", "a log has one entry to 10000"));
        }
        if self.bytes.is_some_and(|bytes| !BYTES.contains(&bytes)) {
            return Err(("bytes", "a log has 1048576 bytes to 67108864"));
        }
        if self.hold.is_some_and(|hold| !HOLD.contains(&hold.0)) {
            return Err(("hold", "what waits is held for 10 s to 30 d"));
        }
        Ok(())
    }

    /// What it makes of a relay's configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        let bounds = &mut config.log_bounds;
        bounds.entries_max = self.entries.unwrap_or(bounds.entries_max);
        bounds.bytes_max = self.bytes.unwrap_or(bounds.bytes_max);
        config.hold_age = self.hold.map_or(config.hold_age, |hold| hold.0);
    }
}
