//! Durable: what sled calls when it has written to its log, made to keep what sled takes it to mean.
//! Owns: the one symbol `sync_file_range` of every program this crate is in; sled is its only caller.
//! Never: anything else of the system's.
//!
//! sled 0.34.7 takes a stretch of its log for stable once `sync_file_range` returns, and from then on gives segments
//! away whose rows were written anew in that stretch. That call survives no power loss. A sync of ours after `flush`
//! comes too late for it: between two of them a segment with rows that were synced long ago may be overwritten, while
//! the stretch that has them anew is not on the disk yet. A power loss then takes both. So the call itself is a sync.

use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, c_uint, off64_t};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often it was called: never, while sled writes, would mean that sled calls another.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

#[expect(unsafe_code, reason = "sled offers no other way to have its writes synced before it counts on them")]
mod symbol {
    use super::{AtomicU64, CALLS, Ordering, c_int, c_uint, off64_t};

    /// Takes the place of the C library's function in the programs this crate is linked into.
    #[unsafe(no_mangle)]
    extern "C" fn sync_file_range(fd: c_int, _offset: off64_t, _len: off64_t, _flags: c_uint) -> c_int {
        let calls: &AtomicU64 = &CALLS;
        calls.fetch_add(1, Ordering::Relaxed);
        // SAFETY: takes no pointer; a wrong descriptor is answered with an error.
        unsafe { libc::fdatasync(fd) }
    }
}
