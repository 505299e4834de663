//! Admission: what every room may know of a device that came in.
//! Owns: nothing but the words; who is admitted on which link is `reception`'s to say.

use whimbrel_protocol::id::DeviceId;

use crate::store::{LogId, MailboxId};

/// A device that was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Admission {
    pub(crate) device: DeviceId,
    pub(crate) mailbox: MailboxId,
    pub(crate) inbox: LogId,
}
