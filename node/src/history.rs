//! History: how far this device is with what was said before it came.
//! Owns: the page that is asked for, and of whom. What is here already is in rows. Never: asks (`flow/history`).

use whimbrel_protocol::id::DeviceIndex;

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    /// The number of the page that is asked for.
    pub(crate) asked: Option<u64>,
    /// The sibling that was asked last.
    pub(crate) tried: Option<DeviceIndex>,
    /// How often in a row nobody answered.
    pub(crate) attempts: u32,
}
