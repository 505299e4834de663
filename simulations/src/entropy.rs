//! Entropy: what anything below asks of the system while a world runs.
//! Owns: that it is nothing. Cores draw from the seed alone, but the standard library keys its hash maps by the system's
//! entropy, and the MLS library lets the order of one of them decide the order of a commit's removals: of two runs with
//! one seed, the two commits would differ.
//! Never: touches what is asked outside of a world: everything else in this process gets real entropy.

use std::cell::Cell;

use whimbrel_storage::planted::{self, Bug};

/// Worlds are deep: a frame in a frame of a relay's futures, and a commit of a thousand leaves.
const STACK: usize = 32 * 1024 * 1024;

thread_local! {
    static WITHOUT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a world in a thread of its own, whose hash maps are keyed the same each time. The bug that is planted in this
/// thread is planted there, too.
pub(crate) fn without<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let bug = Bug::ALL.iter().copied().find(|bug| planted::active(*bug));
    let world = move || {
        WITHOUT.set(true);
        match bug {
            None => run(),
            #[cfg(feature = "planted")]
            Some(bug) => crate::planted::with(bug, run),
            #[cfg(not(feature = "planted"))]
            Some(_) => run(),
        }
    };
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, world);
        #[expect(clippy::expect_used, reason = "a world that cannot be run has no outcome")]
        let ended = running.expect("a thread for the world").join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// In the place of the C library's `getrandom`, by which the standard library asks. Only Linux has it; elsewhere two runs
/// can differ in the order of removals.
#[cfg(target_os = "linux")]
mod system {
    use std::ffi::{c_uint, c_void};

    #[expect(unsafe_code, reason = "the one way to what a hash map is keyed by")]
    #[unsafe(no_mangle)]
    extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
        if super::WITHOUT.try_with(std::cell::Cell::get).unwrap_or(false) {
            // SAFETY: whoever calls `getrandom` owns `len` bytes at `buffer`.
            unsafe { buffer.write_bytes(0, len) };
            return isize::try_from(len).unwrap_or(isize::MAX);
        }
        // SAFETY: the arguments are handed on as they came, to the system call they are for.
        let given = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        isize::try_from(given).unwrap_or(-1)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "their order is what is looked at")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn order() -> Vec<u32> {
        (0..64).collect::<HashSet<u32>>().into_iter().collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn hash_maps_have_one_order_in_every_world_and_any_outside() {
        let first = without(order);
        assert!((0..8).all(|_| without(order) == first));
        let outside: HashSet<Vec<u32>> = (0..8).map(|_| order()).collect();
        assert!(outside.len() > 1, "eight maps of one order by accident");
    }
}
