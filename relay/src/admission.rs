//! Admission: what every room may know of who came in.
//! Owns: nothing but the words; who is admitted on which link is `reception`'s to say.

use whimbrel_protocol::id::{DeviceId, Domain, RelayId};

use crate::store::{LogId, MailboxId};

/// A device that was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Admission {
    pub(crate) device: DeviceId,
    pub(crate) mailbox: MailboxId,
    pub(crate) inbox: LogId,
}

/// What TLS proved about a relay that came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stranger {
    pub(crate) relay: RelayId,
    pub(crate) domain: Domain,
    pub(crate) exporter: [u8; 32],
}
