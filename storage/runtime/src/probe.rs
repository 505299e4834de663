//! The trial open: a child process opens a doubtful store first.
//! Owns: the child's half and the reading of how it ended. Never: what is done about it (`store`).
//!
//! An engine may panic while it opens or reads damaged files, and a process that aborts on panic cannot catch that. A
//! store that was not closed cleanly is therefore opened and read whole by a child first, whose end tells whether it can
//! be.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use whimbrel_storage::{Kv, StorageError};

use crate::clock;
use crate::engine::DiskEngine;
use crate::kind::EngineKind;
use crate::room::{Reserve, Room, SizeBounds};

const OPENS: u8 = 0;
const FAILED: u8 = 1;
// Two is what command lines answer to arguments they do not know.
const DOES_NOT_OPEN: u8 = 3;
const IN_USE: u8 = 4;
const FULL: u8 = 5;
/// How long a trial may take however small the store is, on a busy machine. sled has been seen to hang over
/// damaged files.
const TIME_MIN: Duration = Duration::from_secs(120);
/// And how slow the disk may be: it is read once, by pages.
const BYTES_PER_SEC_MIN: u64 = 4 * 1024 * 1024;
/// Between two looks whether it has ended.
const POLL: Duration = Duration::from_millis(5);
/// How much of what the child said is repeated, in characters.
const LAST_WORDS_MAX: usize = 200;
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

/// The child's half: opens, reads and closes the store in `dir`, and answers the code to exit with.
///
/// It takes no lock of the house's: the parent holds it. The engine's own keeps it off a store in use.
pub fn open_probe(dir: &Path) -> u8 {
    let cache_bytes = 16 * 1024 * 1024;
    let kind = EngineKind::found_in(dir).unwrap_or_default();
    let room = Room::new(dir, kind, Reserve::default(), SizeBounds::default());
    let opened = DiskEngine::open(kind, dir, cache_bytes, room).and_then(|engine| Kv::open(engine, None));
    let error = match opened.and_then(|kv| kv.survey()) {
        // Damage that has a name will be named to the parent when it opens the store itself.
        Ok(_) | Err(StorageError::Damaged { .. } | StorageError::LostTail { .. }) => return OPENS,
        Err(error) => error,
    };
    // The child's only voice beside its code; the parent repeats it.
    eprintln!("{error}");
    match error {
        StorageError::DoesNotOpen { .. } => DOES_NOT_OPEN,
        StorageError::InUse => IN_USE,
        StorageError::Full => FULL,
        _ => FAILED,
    }
}

impl ProbeCommand {
    /// Runs the child to its end. [`StorageError::DoesNotOpen`] is said of the store, any other error of the trial.
    pub(crate) fn run(&self, dir: &Path) -> Result<(), StorageError> {
        let bytes = size_of(dir).unwrap_or(u64::MAX);
        self.run_within(dir, TIME_MIN + Duration::from_secs(bytes / BYTES_PER_SEC_MIN))
    }

    fn run_within(&self, dir: &Path, limit: Duration) -> Result<(), StorageError> {
        let failed = |error| StorageError::Engine(format!("the trial open did not start: {error}"));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // Read beside it: a child that has much to say must not wait for us.
        let said = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let _what_there_was = stderr.read_to_end(&mut said);
                said
            })
        });
        let begun = clock::now();
        let ended = loop {
            if let Some(ended) = child.try_wait().map_err(failed)? {
                break ended;
            }
            if clock::now().duration_since(begun) > limit {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                let what = format!("the trial open did not end within {} s", limit.as_secs());
                return Err(StorageError::DoesNotOpen { what });
            }
            clock::pause(POLL);
        };
        let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
        verdict(ended, &last_words(&said))
    }
}

/// Bytes of the engine's files.
fn size_of(dir: &Path) -> io::Result<u64> {
    let kind = EngineKind::found_in(dir).unwrap_or_default();
    let sizes = kind.files(dir)?.into_iter().map(|file| Ok(fs::metadata(dir.join(file))?.len()));
    sizes.sum()
}

/// The last line a child said, short enough for one line of ours.
fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    last.chars().filter(|c| !c.is_control()).take(LAST_WORDS_MAX).collect()
}

fn verdict(ended: ExitStatus, said: &str) -> Result<(), StorageError> {
    let code = ended.code();
    if code == Some(OPENS.into()) {
        Ok(())
    } else if code == Some(IN_USE.into()) {
        Err(StorageError::InUse)
    } else if code == Some(FULL.into()) {
        Err(StorageError::Full)
    } else if code == Some(DOES_NOT_OPEN.into()) || code == Some(PANICKED) || crashed(ended) {
        Err(StorageError::DoesNotOpen { what: format!("the trial open ended with {ended}: {said}") })
    } else {
        Err(StorageError::Engine(format!("the trial open ended with {ended} and says nothing about the store: {said}")))
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
    fn a_trial_without_an_end_is_ended_and_speaks_against_the_store() {
        let args = ["-c", "exec sleep 600"].map(OsString::from).to_vec();
        let probe = ProbeCommand { program: "sh".into(), args };
        let ended = probe.run_within(Path::new("."), Duration::from_millis(50));
        assert!(matches!(ended, Err(StorageError::DoesNotOpen { .. })), "{ended:?}");
    }

    #[test]
    fn what_the_child_said_last_is_repeated_in_one_line() {
        assert_eq!(last_words(b"one\n\x1b[31mtwo\n\n"), "[31mtwo");
        assert_eq!(last_words(b""), "it said nothing");
        assert_eq!(last_words("x".repeat(1_000).as_bytes()).len(), LAST_WORDS_MAX);
    }

    #[test]
    fn only_a_crash_or_a_plain_no_speaks_against_the_store() {
        let exit = |code: i32| verdict(ExitStatus::from_raw(code << 8), "");
        let signal = |signal: i32| verdict(ExitStatus::from_raw(signal), "");
        assert!(exit(0).is_ok());
        assert!(matches!(exit(4), Err(StorageError::InUse)));
        assert!(matches!(exit(5), Err(StorageError::Full)));
        for bad in [exit(3), exit(101), signal(6), signal(11)] {
            assert!(matches!(bad, Err(StorageError::DoesNotOpen { .. })));
        }
        for other in [exit(1), exit(2), signal(9), signal(15)] {
            assert!(matches!(other, Err(StorageError::Engine(_))));
        }
    }
}
