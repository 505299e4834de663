//! Ordered rows on a disk: the embedded engine sled, and what it takes to trust it.
//! Owns: files, their syncing, the lock, trial opens, the free-space reserve.
//! Never: the row format (`whimbrel-storage`), domain rows, the committer thread (`relay/runtime`, `node/runtime`).
//! Rules: docs/protocol/storage.md.
//!
//! One thread commits: it gathers commands, calls `apply` once for a group, `sync` once, and answers afterwards; any
//! thread reads. sled has been reported to lock up under many writing threads, and batches of single commands defeat
//! the group commit. The committing process should abort on panic, be restarted by a supervisor, and call
//! [`SledKv::close`] when it is told to stop: an unclean end costs a trial open.

mod clock;
mod dir;
mod engine;
mod keep;
mod probe;
mod reserve;
mod store;
mod tail;

pub use engine::SledEngine;
pub use probe::{ProbeCommand, open_probe};
pub use reserve::Reserve;
pub use store::{Options, SIZE_WARN_BYTES, SledKv, SyncStats};
