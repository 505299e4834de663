//! What relays must never have (P4): looked for in their memory, files, figures and log lines while they run.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use whimbrel_crypto::RecoveryPhrase;
use whimbrel_node::identity::transport_key;
use whimbrel_node_runtime::{StoreOptions, open_store};
use whimbrel_storage::{Order, Reads as _};

use super::stage::{Person, Relay};

/// Bytes read at once; what is looked for may lie across two reads.
const PIECE: usize = 1 << 20;

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    // By the library's search for a byte: all of a process's memory is looked through.
    let (first, others) = what.split_first().expect("something to look for");
    let mut rest = bytes;
    while rest.skip_until(*first).expect("bytes can be read") > 0 {
        if rest.starts_with(others) {
            return true;
        }
    }
    false
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

/// The figures of a relay, as they are asked for.
fn figures(address: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    assert!(holds(&page, b"whimbrel_"), "no figures");
    page
}

/// The secret keys in a person's store: identity, device, transport and participants, as the row of the account has them
/// behind one another.
fn keys_of(person: &Person) -> Vec<Vec<u8>> {
    const BEFORE: [u8; 2] = [0x58, 32];
    let store = open_store(&person.home.join("data"), StoreOptions::default()).unwrap();
    let transport = *transport_key(&store).unwrap().secret_bytes();
    let rows = store.scan(&[], &[u8::MAX; 64], Order::Ascending, usize::MAX).unwrap();
    let held = |row: &Vec<u8>| row.windows(transport.len()).position(|window| window == transport);
    let (row, at) = rows.iter().find_map(|(_, row)| Some((row, held(row)?))).expect("the row of the account");
    let key = |number: u8| {
        let from = at + 35 * usize::from(number) - 35 * 6;
        assert_eq!(row[from - 3..from], [number, BEFORE[0], BEFORE[1]], "another layout of that row");
        row[from..from + 32].to_vec()
    };
    let keys = [4, 5, 6, 7].map(key).to_vec();
    store.close().unwrap();
    keys
}

#[test]
fn t17_no_relay_has_a_text_title_label_passphrase_recovery_words_or_key_in_memory_store_queue_log_or_figures() {
    let temp = tempfile::tempdir().unwrap();
    let folder = |name: &str| temp.path().join(name);
    let (mut a, mut b) = (Relay::init("a.example", &folder("a")), Relay::init("b.example", &folder("b")));
    let mut metrics = Vec::new();
    for relay in [&mut a, &mut b] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        metrics.push(format!("127.0.0.1:{port}"));
        relay.set("# metrics = \"127.0.0.1:9464\"", &format!("metrics = \"127.0.0.1:{port}\""));
        relay.set("level = \"info\"", "level = \"trace\"");
        relay.run();
    }
    let (alice, bob) = (Person::new(folder("alice")), Person::new(folder("bob")));
    let made = alice.json(&["init", "--name", "alice", "--relay", &a.link]);
    let words = made.iter().find_map(|line| line["recovery"].as_array()).expect("recovery words");
    let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
    bob.init("bob", &b);
    let invite = alice.run(&["invite", "new"]);
    let joined = bob.run_with(&["join", "-"], invite.out.as_bytes());
    assert_eq!(joined.code, 0, "{joined:?}");

    // Read by some, waiting for others, and, the other relay being away, on its way between relays.
    let (read, waiting, queued) =
        ("the heron stands at the third lock", "no stone knows the tide table", "a kestrel waits above the weir");
    bob.json(&["send", "alice", read]);
    assert_eq!(alice.hears()["text"], read);
    bob.json(&["send", "alice", waiting]);
    let (title, label, passphrase) = ("Regatta of the curlews", "ferryman of the south bank", "seven herons on a gate");
    alice.json(&["group", "new", title, "bob"]);
    alice.json(&["chat", "label", "bob", label]);
    std::fs::write(folder("passphrase"), format!("{passphrase}\n")).unwrap();
    let file = folder("passphrase").display().to_string();
    alice.json(&["--passphrase-file", &file, "passphrase", "set"]);
    alice.json(&["--passphrase-file", &file, "chat", "list"]);
    let phrase = words.join(" ");
    let told = [read, waiting, title, label, passphrase, &phrase];
    // Bob's keys as his store has them, and the key that Alice's words stand for; as bytes, and as text.
    let recovery = RecoveryPhrase::parse(&phrase).unwrap().key_pair().secret_bytes().to_vec();
    let keys: Vec<Vec<u8>> = keys_of(&bob).into_iter().chain([recovery]).collect();
    let written = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    let keys: Vec<Vec<u8>> = keys.iter().map(|key| written(key)).chain(keys.iter().cloned()).collect();

    for (relay, name, address) in [(&a, "a", &metrics[0]), (&b, "b", &metrics[1])] {
        let page = figures(address);
        for text in told {
            assert!(!in_memory(relay.process(), text.as_bytes()), "{name} has {text:?} in its memory");
            assert_eq!(in_files(&folder(name), text.as_bytes()), Vec::<String>::new());
            assert!(!holds(&page, text.as_bytes()), "{name} has {text:?} in its figures");
        }
    }
    for (relay, name, address) in [(&a, "a", &metrics[0]), (&b, "b", &metrics[1])] {
        let page = figures(address);
        for (n, key) in keys.iter().enumerate() {
            assert!(!in_memory(relay.process(), key), "{name} has key {n} in its memory");
            assert_eq!(in_files(&folder(name), key), Vec::<String>::new(), "key {n}");
            assert!(!holds(&page, key), "{name} has key {n} in its figures");
        }
    }
    for key in &keys[5..9] {
        assert!(!in_files(&folder("bob"), key).is_empty(), "what is looked for is what Bob has");
    }
    // The search finds what is there: the author's own history, and what a relay may know.
    assert!(!in_files(&folder("bob"), read.as_bytes()).is_empty());
    assert!(in_memory(a.process(), b"a.example"));
    let log = std::fs::read_to_string(folder("a").join("relay.log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was written at its fullest");

    a.stop();
    assert_eq!(bob.json(&["send", "alice", queued])[0]["state"], "stored");
    assert!(!in_memory(b.process(), queued.as_bytes()), "{queued:?} is in the memory of the relay that has it to send");
    assert_eq!(in_files(&folder("b"), queued.as_bytes()), Vec::<String>::new());
    assert!(!in_files(&folder("bob"), queued.as_bytes()).is_empty());
}
