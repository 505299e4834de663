//! The trial open: a child process opens a doubtful store first.
//! Owns: the child's half and the reading of how it ended. Never: what is done about it (`store`).
//!
//! sled may panic while it opens damaged files, and a process that aborts on panic cannot catch that. A store that was not
//! closed cleanly is therefore opened by a child first, whose end tells whether it can be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use whimbrel_storage::{Kv, StorageError};

use crate::engine::SledEngine;
use crate::reserve::Reserve;

const OPENS: u8 = 0;
const FAILED: u8 = 1;
// Two is what command lines answer to arguments they do not know.
const DOES_NOT_OPEN: u8 = 3;
const IN_USE: u8 = 4;
/// A panic of a Rust program that unwinds.
const PANICKED: i32 = 101;
/// SIGILL, SIGABRT, SIGBUS, SIGSEGV: it died of itself and was not stopped by somebody.
const CRASH_SIGNALS: [i32; 4] = [4, 6, 7, 11];

/// How to start the child. The store's folder is added as the last argument.
#[derive(Clone, Debug)]
pub struct ProbeCommand {
    /// The program, usually the running one itself.
    pub program: PathBuf,
    /// What makes it call [`open_probe`] and exit with its answer.
    pub args: Vec<OsString>,
}

/// The child's half: opens and closes the store in `dir`, and answers the code to exit with.
///
/// It takes no lock of the house's: the parent holds it. sled's own keeps it off a store in use.
pub fn open_probe(dir: &Path) -> u8 {
    let cache_bytes = 16 * 1024 * 1024;
    match SledEngine::open(dir, cache_bytes, Reserve::default()) {
        Ok(engine) => match Kv::open(engine, None) {
            Err(StorageError::DoesNotOpen { .. }) => DOES_NOT_OPEN,
            // Damage that has a name will be named to the parent when it opens the store itself.
            Ok(_) | Err(_) => OPENS,
        },
        Err(StorageError::DoesNotOpen { .. }) => DOES_NOT_OPEN,
        Err(StorageError::InUse) => IN_USE,
        Err(_) => FAILED,
    }
}

impl ProbeCommand {
    /// Runs the child to its end. [`StorageError::DoesNotOpen`] is said of the store, any other error of the trial.
    pub(crate) fn run(&self, dir: &Path) -> Result<(), StorageError> {
        let ended = Command::new(&self.program)
            .args(&self.args)
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| StorageError::Engine(format!("the trial open did not start: {error}")))?;
        verdict(ended)
    }
}

fn verdict(ended: ExitStatus) -> Result<(), StorageError> {
    let code = ended.code();
    if code == Some(OPENS.into()) {
        Ok(())
    } else if code == Some(IN_USE.into()) {
        Err(StorageError::InUse)
    } else if code == Some(DOES_NOT_OPEN.into()) || code == Some(PANICKED) || crashed(ended) {
        Err(StorageError::DoesNotOpen { what: format!("the trial open ended with {ended}") })
    } else {
        Err(StorageError::Engine(format!("the trial open ended with {ended} and says nothing about the store")))
    }
}

#[cfg(unix)]
fn crashed(ended: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    ended.signal().is_some_and(|signal| CRASH_SIGNALS.contains(&signal))
}

#[cfg(not(unix))]
fn crashed(ended: ExitStatus) -> bool {
    // A crash shows as a negative status code; those of programs are small and positive.
    ended.code().is_some_and(|code| code < 0 || CRASH_SIGNALS.contains(&(code - 128)))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_a_crash_or_a_plain_no_speaks_against_the_store() {
        let exit = |code: i32| verdict(ExitStatus::from_raw(code << 8));
        let signal = |signal: i32| verdict(ExitStatus::from_raw(signal));
        assert!(exit(0).is_ok());
        assert!(matches!(exit(4), Err(StorageError::InUse)));
        for bad in [exit(3), exit(101), signal(6), signal(11)] {
            assert!(matches!(bad, Err(StorageError::DoesNotOpen { .. })));
        }
        for other in [exit(1), exit(2), signal(9), signal(15)] {
            assert!(matches!(other, Err(StorageError::Engine(_))));
        }
    }
}
