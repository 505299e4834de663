//! What relays must never have (P4): looked for in their memory, files and log lines while they run.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::stage::{Person, Relay};

/// Bytes read at once; what is looked for may lie across two reads.
const PIECE: usize = 1 << 20;

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Whether a process has these bytes anywhere it can read.
fn in_memory(process: u32, what: &[u8]) -> bool {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = BufReader::new(File::open(format!("/proc/{process}/maps")).unwrap());
    let mut piece = vec![0; PIECE + what.len()];
    for line in maps.lines() {
        let line = line.unwrap();
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        // The kernel's own pages cannot be read, and have nothing of ours.
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let bound = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (bound(from), bound(to));
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(piece.len());
            // A page that was given back meanwhile.
            let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
            if holds(&piece[..read], what) {
                return true;
            }
            at += PIECE as u64;
        }
    }
    false
}

/// The files below a folder that have these bytes.
pub(crate) fn in_files(folder: &Path, what: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(in_files(&path, what));
        } else if kind.is_file() && holds(&std::fs::read(&path).unwrap(), what) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn t17_no_relay_has_a_text_in_memory_store_or_log() {
    let temp = tempfile::tempdir().unwrap();
    let folder = |name: &str| temp.path().join(name);
    let (mut a, mut b) = (Relay::init("a.example", &folder("a")), Relay::init("b.example", &folder("b")));
    for relay in [&mut a, &mut b] {
        relay.set("level = \"info\"", "level = \"trace\"");
        relay.run();
    }
    let (alice, bob) = (Person::new(folder("alice")), Person::new(folder("bob")));
    alice.init("alice", &a);
    bob.init("bob", &b);
    let invite = alice.run(&["invite", "new"]);
    let joined = bob.run_with(&["join", "-"], invite.out.as_bytes());
    assert_eq!(joined.code, 0, "{joined:?}");

    // Read by some and waiting for others, so that both the way and the hold are looked at.
    let (read, waiting) = ("the heron stands at the third lock", "no stone knows the tide table");
    bob.json(&["send", "alice", read]);
    assert_eq!(alice.hears()["text"], read);
    bob.json(&["send", "alice", waiting]);

    for text in [read, waiting] {
        for (relay, name) in [(&a, "a"), (&b, "b")] {
            assert!(!in_memory(relay.process(), text.as_bytes()), "{name} has {text:?} in its memory");
            assert_eq!(in_files(&folder(name), text.as_bytes()), Vec::<String>::new());
        }
    }
    // The search finds what is there: the author's own history, and what a relay may know.
    assert!(!in_files(&folder("bob"), read.as_bytes()).is_empty());
    assert!(in_memory(a.process(), b"a.example"));
    let log = std::fs::read_to_string(folder("a").join("relay.log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was written at its fullest");
}
