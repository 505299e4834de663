//! Hold: how a device says what it has on its own disk.
//! Rules: docs/protocol/hold.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::Sequence;
use crate::limits;
use crate::push::LogRef;

/// One log's contiguous prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct AckedLog {
    /// Which log.
    #[n(0)]
    pub log: LogRef,
    /// Everything up to here is durable at the device.
    #[n(1)]
    pub upto: Sequence,
}

/// Moves the device's cursors. Anything beyond what was pushed to this device changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Acknowledge {
    /// The logs, each at most once.
    #[n(0)]
    pub logs: Vec<AckedLog>,
}

impl Words for Acknowledge {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("logs", self.logs.len(), limits::ACK_LOGS_MAX)
    }
}
