//! Hold: what of each log is durable here and not yet acknowledged.
//! Owns: the acknowledgements gathered for the present link. Never: acknowledges beyond what was pushed on it; sends
//! before the step that wrote the entries is durable (its outputs leave only then).
//! Limits: `limits::ACK_DELAY`, `limits::ACK_ENTRIES`, `limits::ACK_LOGS_MAX`. Rules: docs/protocol/hold.md.

use std::collections::BTreeMap;

use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::id::Sequence;
use whimbrel_protocol::limits;
use whimbrel_protocol::push::LogRef;

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    due: BTreeMap<LogRef, Sequence>,
    entries: usize,
    /// How far the inbox could be acknowledged on this link, were it not for an invitation.
    withheld: Sequence,
}

impl Hold {
    /// Notes that a log is durable up to here. Says whether to acknowledge at once.
    pub(crate) fn note(&mut self, log: LogRef, upto: Sequence, entries: usize) -> bool {
        let place = self.due.entry(log).or_insert(upto);
        *place = upto.max(*place);
        self.entries = self.entries.saturating_add(entries);
        self.entries >= limits::ACK_ENTRIES || self.due.len() >= limits::ACK_LOGS_MAX
    }

    /// Everything gathered, as one frame.
    pub(crate) fn take(&mut self) -> Option<Acknowledge> {
        self.entries = 0;
        let due = std::mem::take(&mut self.due);
        let logs: Vec<_> = due.into_iter().map(|(log, upto)| AckedLog { log, upto }).collect();
        (!logs.is_empty()).then_some(Acknowledge { logs })
    }

    /// The link is gone: the next one pushes again from the relay's cursors.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Notes how far the inbox is durable here, pushed on this link.
    pub(crate) fn withhold(&mut self, upto: Sequence) {
        self.withheld = upto.max(self.withheld);
    }

    /// How far that was.
    pub(crate) const fn withheld(&self) -> Sequence {
        self.withheld
    }
}
