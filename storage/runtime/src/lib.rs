//! Ordered rows on a disk: the embedded engines sled and fjall, and what it takes to trust them.
//! Owns: files, their syncing, the lock, trial opens, the free-space reserve and the size guard.
//! Never: the row format (`whimbrel-storage`), domain rows, the committer thread (`relay/runtime`, `node/runtime`).
//! Rules: docs/protocol/storage.md.
//!
//! One thread commits: it gathers commands, calls `apply` once for a group, `sync` once, and answers afterwards; any
//! thread reads. sled has been reported to lock up under many writing threads, and batches of single commands defeat
//! the group commit. The committing process should abort on panic, be restarted by a supervisor, and call
//! [`DiskKv::close`] when it is told to stop: an unclean end costs a trial open.

mod clock;
mod dir;
mod engine;
mod keep;
mod kind;
mod probe;
mod room;
mod store;
mod tail;

pub use engine::DiskEngine;
pub use kind::{EngineKind, UnknownEngine};
pub use probe::{ProbeCommand, open_probe};
pub use room::{Reserve, SLED_MAX_BYTES, SLED_WARN_BYTES, SizeBounds};
pub use store::{DiskKv, Options, SyncStats};
