//! Rows about what a relay let go of a thread's log before this device had it. Owns: their type and keys. Never: decides
//! what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{DeviceId, ThreadId};
use whimbrel_protocol::time::Wall;

use super::{PlaceRow, Space, key};

/// What of a thread's log is gone and not shown by counters yet.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct DroppedRow {
    /// So many entries, whoever they were for.
    #[n(0)]
    pub(crate) entries: u64,
    /// When it was last told.
    #[n(1)]
    pub(crate) at: Wall,
    /// The newest message that was here when it was last told.
    #[n(2)]
    pub(crate) after: Option<PlaceRow>,
    /// Whose contents may be among them: devices of which nothing counted came since that shows it.
    #[n(3)]
    pub(crate) unheard: Vec<DeviceId>,
    /// Contents that counters show to be missing since.
    #[n(4)]
    pub(crate) counted: u64,
    /// Somebody's counters were not known yet: theirs do not show what was before the first that comes.
    #[n(5)]
    pub(crate) blind: bool,
}

impl DroppedRow {
    /// How many entries counters do not show.
    pub(crate) const fn left(&self) -> u64 {
        self.entries.saturating_sub(self.counted)
    }
}

/// Of all [`DroppedRow`]s.
pub(crate) fn dropped_prefix() -> Vec<u8> {
    key(Space::Count, &[&[3]])
}

/// Of which thread a [`DroppedRow`] is.
pub(crate) fn thread_of_dropped(key: &[u8]) -> Option<ThreadId> {
    let id = key.strip_prefix(dropped_prefix().as_slice())?;
    id.try_into().ok().map(ThreadId::from_bytes)
}

/// Of [`DroppedRow`].
pub(crate) fn dropped_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Count, &[&[3], thread.as_bytes()])
}
