//! Stage: a relay process and people's folders, gone when the test ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_whimbrel");
/// Longer than any step takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// More questions than it takes for anything to have come from another relay: each is a process that talks to its own.
pub(crate) const ROUNDS_MAX: usize = 500;

/// What is told of a process whose test fails: so many of the last lines it wrote.
const LAST_LINES: usize = 40;

/// The last lines of a text.
fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Tells what a process wrote last, if anything.
fn tell(whose: &str, text: &str) {
    let lines = last_lines(text);
    if !lines.is_empty() {
        eprintln!("--- the last lines of {whose}\n{lines}\n---");
    }
}

/// A relay that runs.
pub(crate) struct Relay {
    pub(crate) link: String,
    pub(crate) config: PathBuf,
    child: Option<Child>,
}

impl Relay {
    /// Makes a relay that does not run yet.
    pub(crate) fn init(domain: &str, dir: &Path) -> Self {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = format!("127.0.0.1:{port}");
        let made = Command::new(PROGRAM)
            .args(["relay", "init", domain, "--json", "--listen", &endpoint, "--public", &endpoint, "--dir"])
            .arg(dir)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Self { link: text("link"), config: text("config").into(), child: None }
    }

    pub(crate) fn start(domain: &str, dir: &Path) -> Self {
        let mut relay = Self::init(domain, dir);
        relay.run();
        relay
    }

    /// Writes another relay into this one's configuration.
    pub(crate) fn pin(&self, domain: &str, other: &Self) {
        let config = std::fs::read_to_string(&self.config).unwrap();
        let peer = format!("[peers]\n\"{domain}\" = \"{}\"\n", other.link);
        std::fs::write(&self.config, config.replacen("[peers]\n", &peer, 1)).unwrap();
    }

    /// Changes a line of its configuration.
    pub(crate) fn set(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(&self.config).unwrap();
        assert!(config.contains(from), "{from}");
        std::fs::write(&self.config, config.replacen(from, to, 1)).unwrap();
    }

    /// The process that runs.
    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Where its standard error goes.
    fn log(&self) -> PathBuf {
        self.config.with_file_name("relay.log")
    }

    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["relay", "--tethered", "run", "--json", "--config"])
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        first_line(&mut child);
        self.child = Some(child);
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read(self.log())
        {
            tell(&self.link, &String::from_utf8_lossy(&log));
        }
    }
}

/// Waits for a process to say its first word.
pub(crate) fn first_line(child: &mut Child) -> String {
    let out = child.stdout.take().unwrap();
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(out);
        let mut line = String::new();
        let _ = lines.read_line(&mut line);
        let _ = sender.send(line);
        // Read on, or the process would find nobody to write to.
        let _ = lines.read_to_string(&mut String::new());
    });
    let line = line.recv_timeout(PATIENCE).expect("the process says that it is ready");
    assert!(!line.is_empty(), "the process ended before it was ready");
    line
}

/// One person's folder.
pub(crate) struct Person {
    pub(crate) home: PathBuf,
    /// The last lines of what this person's commands wrote to the standard error.
    said: Mutex<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Person {
    pub(crate) fn new(home: PathBuf) -> Self {
        Self { home, said: Mutex::default() }
    }

    /// A command of this person, with nothing of the tester's own environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("HOME", &self.home).env("WHIMBREL_HOME", self.home.join("data"));
        command.env("XDG_CONFIG_HOME", self.home.join("config")).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, b"")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that does not want it closes its end.
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let ended = Ended { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) };
        if !ended.err.is_empty() {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            *said = last_lines(&format!("{said}\n$ whimbrel {}\n{}", args.join(" "), ended.err));
        }
        ended
    }

    /// Where the standard error of a daemon of this person goes.
    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// Runs a command that must work, and reads its lines as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(args);
        let ended = self.run(&all);
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.values()
    }

    /// The next message of the inbox: between relays it comes when the other one has forwarded it.
    pub(crate) fn hears(&self) -> Value {
        let mut rounds = 0..ROUNDS_MAX;
        loop {
            if let Some(first) = self.json(&["inbox"]).into_iter().next() {
                return first;
            }
            rounds.next().expect("something comes");
        }
    }

    pub(crate) fn init(&self, name: &str, relay: &Relay) {
        let ended = self.run(&["init", "--name", name, "--relay", &relay.link]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Somebody new comes in by an invite of this person.
    pub(crate) fn invites(&self, guest: &Self, name: &str) {
        let invite = self.run(&["invite", "new"]);
        assert_eq!(invite.code, 0, "{invite:?}");
        let ended = guest.run_with(&["init", "--name", name, "--invite", "-"], invite.out.as_bytes());
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let whose = self.home.display();
            tell(&format!("commands in {whose}"), self.said.get_mut().unwrap_or_else(PoisonError::into_inner));
            if let Ok(log) = std::fs::read(self.daemon_log()) {
                tell(&format!("the daemon in {whose}"), &String::from_utf8_lossy(&log));
            }
        }
    }
}

impl Ended {
    pub(crate) fn values(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The error on standard error, as `--json` gives it.
    pub(crate) fn error(&self) -> Value {
        let line = self.err.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON error in {self:?}"));
        assert_eq!(value["v"], 1);
        value["error"].clone()
    }
}

/// A relay and two people who know each other.
pub(crate) struct Pair {
    pub(crate) relay: Relay,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    pub(crate) temp: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let relay = Relay::start("a.example", &temp.path().join("relay"));
        let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
        alice.init("alice", &relay);
        alice.invites(&bob, "bob");
        Self { relay, alice, bob, temp }
    }
}

/// A copy of a profile's folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
