//! Children: this program again, to write until it dies, or to read what is left.
//! Owns: how they are started, what is said over the pipe, the folder of a round.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use whimbrel_storage_runtime::{EngineKind, Options, ProbeCommand, Reserve};

use crate::{Plan, Target, node, person, relay};

/// A child that says nothing for so long is stuck: longer than any open on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a writing child is to do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) engine: EngineKind,
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    pub(crate) round: u64,
    /// Operations of each sender, then a clean end; zero: until it is killed.
    pub(crate) operations: u64,
    pub(crate) reserve_percent: u8,
    /// Large values, to fill a disk.
    pub(crate) heavy: bool,
}

impl Load {
    pub(crate) fn new(plan: Plan, dir: &Path, round: u64) -> Self {
        let Plan { target, engine, seed, .. } = plan;
        let dir = dir.to_owned();
        Self { target, engine, dir, seed, round, operations: 0, reserve_percent: 10, heavy: false }
    }

    fn args(&self) -> Vec<String> {
        let target = format!("{:?}", self.target);
        let numbers = [self.seed, self.round, self.operations, self.reserve_percent.into(), self.heavy.into()]
            .map(|n| n.to_string());
        let mut args = vec!["load".to_owned(), target, self.engine.url().to_owned(), self.dir.display().to_string()];
        args.extend(numbers);
        args
    }

    fn parse(args: &[String]) -> Self {
        let number = |at: usize| args[at].parse::<u64>().unwrap();
        Self {
            target: target_of(&args[0]),
            engine: args[1].parse().unwrap(),
            dir: PathBuf::from(&args[2]),
            seed: number(3),
            round: number(4),
            operations: number(5),
            reserve_percent: u8::try_from(number(6)).unwrap(),
            heavy: number(7) == 1,
        }
    }

    /// How the child opens the store. Below the preload there is no trial in another process: the model ends with one.
    pub(crate) fn options(&self) -> Options {
        let percent = self.reserve_percent;
        let probe = if std::env::var_os("POWER_ROOT").is_some() { None } else { Some(probe()) };
        Options { engine: self.engine, reserve: Reserve { percent, ..Reserve::default() }, probe, ..Options::default() }
    }
}

fn target_of(word: &str) -> Target {
    match word {
        "Relay" => Target::Relay,
        "Person" => Target::Person,
        "SealedNode" => Target::SealedNode,
        _ => Target::Node,
    }
}

/// The trial open by this program.
pub(crate) fn probe() -> ProbeCommand {
    ProbeCommand { program: std::env::current_exe().unwrap(), args: vec![OsString::from("store-probe")] }
}

/// Where a child begins.
pub(crate) fn main(args: Vec<String>) {
    match args[0].as_str() {
        "load" => {
            let load = Load::parse(&args[1..]);
            match load.target {
                Target::Relay => relay::load(&load),
                Target::Node | Target::SealedNode => node::load(&load),
                Target::Person => person::load(&load),
            }
        }
        "verify" => {
            let (engine, dir) = (args[2].parse().unwrap(), PathBuf::from(&args[3]));
            let ledger = fs::read_to_string(&args[4]).unwrap();
            let found = match target_of(&args[1]) {
                Target::Relay => relay::verify(engine, &dir, &ledger, args[5] == "close"),
                target @ (Target::Node | Target::SealedNode) => {
                    node::verify(target, engine, &dir, &ledger, args[5] == "close")
                }
                Target::Person => person::verify(engine, &dir, &ledger),
            };
            say(&serde_json::json!({
                "error": found.error, "lost": found.lost, "torn": found.torn, "named": found.named, "notes": found.notes,
            }).to_string());
        }
        other => panic!("no such child: {other}"),
    }
}

/// Says a line to the parent, at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write: a line is there whole or not at all.
    let said = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    if said.is_err() {
        std::process::exit(0);
    }
}

/// What is left of a store.
#[derive(Default, Debug)]
pub(crate) struct Found {
    /// Why it does not open.
    pub(crate) error: Option<String>,
    /// What was acknowledged and is not there, or is something else.
    pub(crate) lost: u64,
    /// What is there in part.
    pub(crate) torn: u64,
    /// What was acknowledged and answers an error.
    pub(crate) named: u64,
    /// The first few of all of them.
    pub(crate) notes: Vec<String>,
}

impl Found {
    pub(crate) fn lost(&mut self, note: String) {
        self.lost += 1;
        self.note(note);
    }

    pub(crate) fn torn(&mut self, note: String) {
        self.torn += 1;
        self.note(note);
    }

    pub(crate) fn named(&mut self, note: String) {
        self.named += 1;
        self.note(note);
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < 8 {
            self.notes.push(note);
        }
    }
}

/// The folder of one database and what was acknowledged of it.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) ledger: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: TempDir::with_prefix("whimbrel-crash.").unwrap(), ledger: String::new() };
        fs::create_dir(place.dir()).unwrap();
        place
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keeps the folder for whoever looks into it.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        fs::write(self.beside("ledger"), &self.ledger).unwrap();
        self.folder.path().to_owned()
    }
}

/// A child that runs, and the lines it says.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// Starts this program again; `environment` is added.
pub(crate) fn start(args: &[String], environment: &[(&str, OsString)], noise: &Path) -> Running {
    let noise = fs::OpenOptions::new().create(true).append(true).open(noise).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("child")
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(noise)
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _parent_gone = sender.send(line);
        }
    });
    Running { child, lines }
}

/// Starts a writing child.
pub(crate) fn start_load(load: &Load, environment: &[(&str, OsString)], place: &Place) -> Running {
    start(&load.args(), environment, &place.beside("noise"))
}

impl Running {
    /// The next line; none when the child has ended, or was ended because it was stuck.
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.kill();
                Some("error stuck".to_owned())
            }
        }
    }

    /// What it says within so long, and nothing later.
    pub(crate) fn within(&mut self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            said.push(line);
        }
        said
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// All lines to the end, and how it ended.
    pub(crate) fn end(mut self, mut each: impl FnMut(String)) -> ExitStatus {
        while let Some(line) = self.next() {
            each(line);
        }
        self.child.wait().unwrap()
    }
}

/// Has a child read what is left. A child that dies of it says so in `error`.
pub(crate) fn verify(plan: Plan, dir: &Path, ledger: &str, close: bool, place: &Place) -> Found {
    let file = place.beside("ledger");
    fs::write(&file, ledger).unwrap();
    let args = [
        "verify".to_owned(),
        format!("{:?}", plan.target),
        plan.engine.url().to_owned(),
        dir.display().to_string(),
        file.display().to_string(),
        if close { "close" } else { "drop" }.to_owned(),
    ];
    let mut last = None;
    let status = start(&args, &[], &place.beside("noise")).end(|line| last = Some(line));
    let Some(said) = last.and_then(|line| serde_json::from_str::<Value>(&line).ok()) else {
        return Found { error: Some(format!("died: {status}")), ..Found::default() };
    };
    Found {
        error: said["error"].as_str().map(str::to_owned),
        lost: said["lost"].as_u64().unwrap(),
        torn: said["torn"].as_u64().unwrap(),
        named: said["named"].as_u64().unwrap(),
        notes: said["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned()).collect(),
    }
}
