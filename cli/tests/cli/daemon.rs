//! With a daemon: the same commands, the same output, through its socket.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::stage::{Pair, Person, first_line};

/// A daemon that runs.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn run(person: &Person) -> Self {
        let mut child = person
            .command(&["--json", "daemon", "run"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(person.daemon_log()).unwrap())
            .spawn()
            .unwrap();
        let ready: serde_json::Value = serde_json::from_str(&first_line(&mut child)).unwrap();
        assert_eq!((ready["v"].as_u64(), ready["type"].as_str()), (Some(1), Some("ready")));
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    pub(crate) fn stop(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_behave_alike_with_and_without_a_daemon() {
    let pair = Pair::new();
    let daemon = Daemon::run(&pair.alice);
    let socket = pair.alice.home.join("data/daemon.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let status = &pair.alice.json(&["status"])[0];
    assert_eq!(status["daemon"], true);
    let with = pair.alice.json(&["contact", "list"]);
    pair.alice.json(&["send", "bob", "by the daemon"]);
    assert_eq!(pair.bob.json(&["inbox"])[0]["text"], "by the daemon");
    pair.bob.json(&["send", "alice", "to the daemon"]);
    let second = pair.alice.run(&["--json", "daemon", "run"]);
    assert_eq!((second.code, second.error()["code"].as_str()), (4, Some("in_use")), "{second:?}");
    let unknown = pair.alice.run(&["--json", "send", "zoe", "hi"]);
    assert_eq!((unknown.code, unknown.error()["code"].as_str()), (3, Some("not_found")), "{unknown:?}");
    let peeked = loop {
        // The daemon gets it when the relay pushes it.
        let peeked = pair.alice.json(&["inbox", "--peek"]);
        if !peeked.is_empty() {
            break peeked;
        }
    };

    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    assert!(!socket.exists(), "the socket goes with the daemon");
    assert_eq!(pair.alice.json(&["status"])[0]["daemon"], false);
    assert_eq!(pair.alice.json(&["contact", "list"])[0]["address"], with[0]["address"]);
    assert_eq!(pair.alice.json(&["inbox"]), peeked, "the same message, printed the same way");
    let invite = pair.alice.run(&["invite", "new"]);
    assert_eq!(invite.code, 0);
}

#[test]
fn a_killed_daemon_is_in_nobody_s_way() {
    let pair = Pair::new();
    let daemon = Daemon::run(&pair.alice);
    assert_eq!(daemon.stop(Signal::KILL), None);
    assert!(pair.alice.home.join("data/daemon.sock").exists(), "it had no time to clear up");
    pair.alice.json(&["send", "bob", "without it"]);
    let daemon = Daemon::run(&pair.alice);
    assert_eq!(pair.alice.json(&["status"])[0]["daemon"], true);
    assert_eq!(daemon.stop(Signal::INT), Some(0));
}

/// A command that goes on printing, and its next line.
fn following(who: &Person, command: &[&str]) -> (Child, impl FnMut() -> serde_json::Value + use<>) {
    let mut child = who.command(&[&["--json"], command].concat());
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, move || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap())
}

#[test]
fn a_log_is_followed_as_messages_come() {
    let pair = Pair::new();
    let daemon = Daemon::run(&pair.alice);
    pair.alice.json(&["send", "bob", "first"]);
    let (mut follow, mut next) = following(&pair.alice, &["log", "bob", "-f"]);
    assert_eq!(next()["text"], "first");
    pair.bob.json(&["send", "alice", "second"]);
    assert_eq!(next()["text"], "second");
    pair.alice.json(&["send", "bob", "third"]);
    assert_eq!(next()["text"], "third");
    let pid = Pid::from_raw(i32::try_from(follow.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(follow.wait().unwrap().code(), Some(130));
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
}

#[test]
fn who_is_writing_is_seen_by_whoever_follows_the_chat_and_asked_for_it() {
    let pair = Pair::new();
    let daemons = [Daemon::run(&pair.alice), Daemon::run(&pair.bob)];
    pair.alice.json(&["send", "bob", "first"]);
    let (mut follow, mut next) = following(&pair.alice, &["log", "bob", "-f", "--typing"]);
    assert_eq!(next()["text"], "first");
    let said = pair.bob.json(&["typing", "alice"]);
    assert_eq!(said[0]["done"], "said to whoever is there");
    let line = next();
    assert_eq!((&line["typing"], &line["lasts_ms"]), (&serde_json::json!(true), &serde_json::json!(10_000)), "{line}");
    assert!(line["from"].as_str().unwrap().starts_with("bob"), "{line}");
    pair.bob.json(&["typing", "alice", "--stop"]);
    assert_eq!(next()["typing"], false);
    pair.bob.json(&["send", "alice", "second"]);
    assert_eq!(next()["text"], "second");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let bad = pair.alice.run(&["log", "bob", "--typing"]);
    assert_eq!(bad.code, 2, "without --follow there is nobody to be seen writing");
    for daemon in daemons {
        assert_eq!(daemon.stop(Signal::TERM), Some(0));
    }
}
