//! Rows about what hubs say of the commits they took. Owns: their types and keys. Never: decides what to write.

use minicbor::{Decode, Encode};
use whimbrel_protocol::hub::SignedReceipt;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::time::Wall;

use super::{Space, key};

/// Receipts of a thread's newest commits.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ReceiptsRow {
    /// As they came, verified, ascending by epoch; one of each.
    #[n(0)]
    pub(crate) kept: Vec<SignedReceipt>,
}

/// Threads that changed, the newest last, each with a number that only grows.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RecentRow {
    /// The newest number.
    #[n(0)]
    pub(crate) next: u64,
    #[n(1)]
    pub(crate) threads: Vec<(ThreadId, u64)>,
}

/// Up to which number a conversation was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ReceiptsToldRow {
    #[n(0)]
    pub(crate) up_to: u64,
    #[n(1)]
    pub(crate) at: Wall,
}

pub(crate) fn receipts_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Receipts, &[thread.as_bytes()])
}

pub(crate) fn recent_key() -> Vec<u8> {
    key(Space::Recent, &[])
}

pub(crate) fn receipts_told_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::ReceiptsTold, &[thread.as_bytes()])
}

/// What proves that a thread's hub signed two orders of its commits: [`whimbrel_crypto::receipt::Contradiction`].
pub(crate) fn contradiction_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Contradiction, &[thread.as_bytes()])
}
