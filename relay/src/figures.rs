//! Figures: what a relay counts while it works, for whoever runs it.
//! Owns: counters since the start. Never: reads a clock, names anybody, decides anything.

use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_protocol::RefusalCode;

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    accepted: AtomicU64,
    untold: AtomicU64,
    refused: [AtomicU64; RefusalCode::ALL.len()],
}

/// What was counted since the start.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Counts {
    /// Envelopes taken into logs here, own users' and peers'.
    pub accepted: u64,
    /// Envelopes that full logs let go before a device here had them, and of which their author here was told nothing, for
    /// the inbox was full, too (docs/protocol/thread.md 9).
    pub untold: u64,
    /// Entries handed to links of devices.
    pub pushed: u64,
    /// Rows that peer relays took.
    pub forwarded: u64,
    /// Refusals told, by code; codes without a name are not among them.
    pub refused: Vec<(RefusalCode, u64)>,
}

impl Figures {
    /// An envelope was taken into its log.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A full log let envelopes go, and a full inbox has no room for the word of it.
    pub(crate) fn untold(&self, count: u64) {
        self.untold.fetch_add(count, Ordering::Relaxed);
    }

    /// Somebody is told why not.
    pub(crate) fn refused(&self, code: RefusalCode) {
        let place = RefusalCode::ALL.iter().position(|known| *known == code);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self, pushed: u64, forwarded: u64) -> Counts {
        let refused = RefusalCode::ALL.iter().zip(&self.refused);
        Counts {
            accepted: self.accepted.load(Ordering::Relaxed),
            untold: self.untold.load(Ordering::Relaxed),
            pushed,
            forwarded,
            refused: refused.map(|(code, count)| (*code, count.load(Ordering::Relaxed))).collect(),
        }
    }
}
