//! Children of the tests: this test binary started again, to be killed, to crash, or to try a store.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use whimbrel_storage::StorageError;
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options, ProbeCommand, open_probe};

use crate::{damage, kill, open, size};

const ROLE: &str = "WHIMBREL_TEST_ROLE";
const ENGINE: &str = "WHIMBREL_TEST_ENGINE";
/// Longer than any child needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options for an engine.
pub(crate) fn on(engine: EngineKind) -> Options {
    Options { engine, ..Options::default() }
}

/// Starts this binary as `role` over the store in `dir`.
pub(crate) fn spawn(role: &str, engine: EngineKind, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child::entry", "--exact", "--nocapture"])
        .arg(dir)
        .env(ROLE, role)
        .env(ENGINE, engine.url())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The trial open by this binary.
pub(crate) fn probe() -> ProbeCommand {
    let args = ["child::entry", "--exact"].map(OsString::from).to_vec();
    ProbeCommand { program: std::env::current_exe().unwrap(), args }
}

/// Options with the trial open.
pub(crate) fn probing(engine: EngineKind) -> Options {
    Options { probe: Some(probe()), ..on(engine) }
}

/// Opens a store that this process has just let go of: a child that another test was spawning at that moment holds its
/// lock until it has become another program.
pub(crate) fn open_released(dir: &Path, options: &Options) -> Result<DiskKv, StorageError> {
    loop {
        match DiskKv::open(dir, options.clone()) {
            Err(StorageError::InUse) => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// The lines that a child says to its parent, until it ends; it is killed when it takes forever.
pub(crate) fn lines_of(mut child: Child) -> Vec<String> {
    let lines = follow(&mut child);
    let mut said = Vec::new();
    let silent = loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => said.push(line),
            Err(end) => break end == mpsc::RecvTimeoutError::Timeout,
        }
    };
    if silent {
        child.kill().unwrap();
        said.push("took forever".to_owned());
    }
    child.wait().unwrap();
    said
}

/// The lines of a child as they come.
pub(crate) fn follow(child: &mut Child) -> mpsc::Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some(said) = line.split_once("says ").map(|(_, said)| said.to_owned()) {
                let _parent_gone = sender.send(said);
            }
        }
    });
    lines
}

/// Says something to the parent.
pub(crate) fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "says {what}").unwrap();
    out.flush().unwrap();
}

/// Where a child begins; in an ordinary run of the tests it does nothing.
#[test]
fn entry() {
    let dir = PathBuf::from(std::env::args_os().next_back().unwrap_or_default());
    if !dir.is_absolute() || !dir.is_dir() {
        return;
    }
    let engine = || std::env::var(ENGINE).unwrap().parse().unwrap();
    match std::env::var(ROLE).as_deref() {
        Ok("write") => kill::write_until_killed(engine(), &dir),
        Ok("fill") => size::fill_and_tell_memory(engine(), &dir),
        Ok("export") => open::export_until_killed(engine(), &dir),
        Ok("read") => damage::read_and_tell(engine(), &dir),
        Ok("hold") => {
            let _store = DiskKv::open(&dir, on(engine())).unwrap();
            say("open");
            // Until the parent ends it.
            loop {
                std::thread::park();
            }
        }
        _ => std::process::exit(open_probe(&dir).into()),
    }
}
