//! Signal: what is said to those who are there, and kept by nobody: somebody is writing.
//! Never stored, repeated, acknowledged or waited for. Rules: docs/protocol/signal.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{DeviceId, Epoch, ThreadId};
use crate::limits;

/// A signal on its way, as relays see it: the same from a node, between relays, and to a node.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signal {
    /// In which thread.
    #[n(0)]
    pub thread: ThreadId,
    /// Whose. Relays check it; members go by the signature inside.
    #[n(1)]
    pub by: DeviceId,
    /// The epoch whose key it is sealed with.
    #[n(2)]
    pub epoch: Epoch,
    /// [`limits::SIGNAL_BYTES`] bytes.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

/// What a signal says: the content of [`crate::signed::Signed`] words inside the seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Said {
    /// In which thread: no relay carries it into another.
    #[n(0)]
    pub thread: ThreadId,
    /// In which epoch.
    #[n(1)]
    pub epoch: Epoch,
    /// One more than the author's last in this life of its node, beginning with the wall clock in milliseconds: what is no
    /// greater than one that came is passed over.
    #[n(2)]
    pub number: u64,
    /// What.
    #[n(3)]
    pub what: Doing,
}

/// What somebody is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Doing {
    /// No longer anything.
    #[n(0)]
    Nothing,
    /// Writing.
    #[n(1)]
    Writing,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").field("thread", &self.thread).field("by", &self.by).finish_non_exhaustive()
    }
}

impl Words for Signal {
    fn check(&self) -> Result<(), Bound> {
        match self.sealed.len() {
            limits::SIGNAL_BYTES => Ok(()),
            found => Err(Bound::Length { what: "signal", found, wanted: limits::SIGNAL_BYTES }),
        }
    }
}
