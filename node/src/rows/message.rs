//! Rows of messages: what was said, where it stands, which envelopes brought it, how far it is.
//! Owns: their form. Never: when they are written; `flow/` knows.

use super::*;

/// Whose envelope was seen, and when.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct EnvelopeRow {
    #[n(0)]
    pub(crate) own: bool,
    #[n(1)]
    pub(crate) at: Wall,
    /// The message in it, when it carries one.
    #[n(2)]
    pub(crate) message: Option<MessageId>,
}

/// A message of the history; clock, id and author are in its key.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct MessageRow {
    #[n(0)]
    pub(crate) received: Wall,
    /// Absent for our own.
    #[n(1)]
    pub(crate) path: Option<PathRow>,
    #[n(2)]
    pub(crate) text: String,
    #[n(3)]
    pub(crate) counter: Option<u64>,
    /// Present for our own.
    #[n(4)]
    pub(crate) state: Option<StateRow>,
    /// The relays that will not have it, by our relay's word.
    #[n(5)]
    pub(crate) refused: Vec<RefusedRow>,
    /// Who never said to have it within the time for that.
    #[n(6)]
    #[cbor(default)]
    pub(crate) missed: Vec<AccountId>,
    /// What it replies to.
    #[n(7)]
    pub(crate) reply: Option<Target>,
    /// Who is named in it.
    #[n(8)]
    #[cbor(default)]
    pub(crate) mentions: Vec<AccountId>,
    /// How long it is there to be read, by its author's word.
    #[n(9)]
    pub(crate) lasts_ms: Option<u64>,
    /// Why they missed it, when our relay told; none: the time was over.
    #[n(10)]
    pub(crate) missed_for: Option<RefusalCode>,
}

/// How long texts of a thread are there to be read, and whose word that is: the latest holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TimerRow {
    /// Zero: for ever.
    #[n(0)]
    pub(crate) lasts_ms: u64,
    #[n(1)]
    pub(crate) at: PlaceRow,
}

/// Nobody who lives there has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RefusedRow {
    #[n(0)]
    pub(crate) domain: Domain,
    #[n(1)]
    pub(crate) code: RefusalCode,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum PathRow {
    #[n(0)]
    Relay,
    #[n(1)]
    Federation,
    #[n(2)]
    Direct,
}

impl From<Path> for PathRow {
    fn from(path: Path) -> Self {
        match path {
            Path::Relay => Self::Relay,
            Path::Federation => Self::Federation,
            Path::Direct => Self::Direct,
        }
    }
}

impl From<PathRow> for Path {
    fn from(path: PathRow) -> Self {
        match path {
            PathRow::Relay => Self::Relay,
            PathRow::Federation => Self::Federation,
            PathRow::Direct => Self::Direct,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum StateRow {
    #[n(0)]
    Queued,
    #[n(1)]
    Stored,
    #[n(2)]
    Delivered,
    #[n(3)]
    Failed(#[n(0)] RefusalCode),
}

impl From<StateRow> for State {
    fn from(state: StateRow) -> Self {
        match state {
            StateRow::Queued => Self::Queued,
            StateRow::Stored => Self::Stored,
            StateRow::Delivered => Self::Delivered,
            StateRow::Failed(code) => Self::Failed(code),
        }
    }
}

/// A place in the history: sorts as people see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PlaceRow {
    #[n(0)]
    pub(crate) hlc: Hlc,
    #[n(1)]
    pub(crate) message: MessageId,
    #[n(2)]
    pub(crate) author: DeviceId,
}

/// When a message came to this device, or was written on it: its number among all of them, from 1. Nothing anybody
/// signs is in it, so a message that comes late is new here, whatever its author's clock said.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Arrival(#[n(0)] pub(super) u64);

impl Arrival {
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a message id of an author stands.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SeenRow {
    #[n(0)]
    pub(crate) thread: ThreadId,
    #[n(1)]
    pub(crate) hlc: Hlc,
    #[n(2)]
    pub(crate) arrival: Arrival,
    /// Its author's number for it.
    #[n(3)]
    pub(crate) counter: Option<u64>,
}
