//! What relays must never have (P4): looked for in their memory, files, figures and log lines while they run.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use minicbor::Decoder;
use minicbor::data::Type;
use whimbrel_crypto::seal::wrap::Passphrase;
use whimbrel_crypto::{KeyPair, RecoveryPhrase};
use whimbrel_node::identity::transport_key;
use whimbrel_node_runtime::{NodeStore, StoreOptions, open_store, unlock};
use whimbrel_protocol::id::ThreadId;
use whimbrel_storage::{Order, Reads as _};

use super::stage::{Person, Relay};

/// Bytes read at once; what is looked for may lie across two reads.
const PIECE: usize = 1 << 20;
/// Shorter than any secret of a group; what is shorter says nothing when it is found.
const SECRET_BYTES_MIN: usize = 16;

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    let (first, others) = what.split_first().expect("something to look for");
    let mut rest = bytes;
    while rest.skip_until(*first).expect("bytes can be read") > 0 {
        if rest.starts_with(others) {
            return true;
        }
    }
    false
}

/// Looks for many things at once: hundreds of keys in all of a process's memory. What is that long has, wherever it
/// begins, a whole word at a place that is a multiple of eight, so only words there are looked up.
struct Search<'w> {
    wanted: &'w [Vec<u8>],
    /// Every word that something wanted may show at such a place, which that is, and where in it the word begins; sorted.
    words: Vec<(u64, usize, usize)>,
    /// Whether a word that begins with these two bytes is among them.
    may_be: Vec<bool>,
}

const WORD: usize = size_of::<u64>();

impl<'w> Search<'w> {
    fn new(wanted: &'w [Vec<u8>]) -> Self {
        let mut words = Vec::new();
        for (n, what) in wanted.iter().enumerate() {
            assert!(what.len() >= SECRET_BYTES_MIN, "{what:?} is too short");
            let word = |from: usize| u64::from_le_bytes(what[from..from + WORD].try_into().unwrap());
            words.extend((0..WORD).map(|from| (word(from), n, from)));
        }
        words.sort_unstable();
        let mut may_be = vec![false; 1 << 16];
        words.iter().for_each(|(word, ..)| may_be[usize::from(*word as u16)] = true);
        Self { wanted, words, may_be }
    }

    /// Which of them are in these bytes, by their places in the list.
    fn found_in(&self, bytes: &[u8], found: &mut BTreeSet<usize>) {
        for (at, word) in bytes.chunks_exact(WORD).enumerate() {
            if !self.may_be[usize::from(u16::from_le_bytes([word[0], word[1]]))] {
                continue;
            }
            let word = u64::from_le_bytes(word.try_into().unwrap());
            let first = self.words.partition_point(|(other, ..)| *other < word);
            for (_, n, from) in self.words[first..].iter().take_while(|(other, ..)| *other == word) {
                let rest = (at * WORD).checked_sub(*from).map_or(&[][..], |start| &bytes[start..]);
                if rest.starts_with(&self.wanted[*n]) {
                    found.insert(*n);
                }
            }
        }
    }

    /// Which of them a process has anywhere it can read.
    fn found_in_memory(&self, process: u32) -> BTreeSet<usize> {
        let longest = self.wanted.iter().map(Vec::len).max().expect("something to look for");
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let maps = BufReader::new(File::open(format!("/proc/{process}/maps")).unwrap());
        let mut piece = vec![0; PIECE + longest];
        let mut found = BTreeSet::new();
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
                self.found_in(&piece[..read], &mut found);
                at += PIECE as u64;
            }
        }
        found
    }

    /// Which of them the files below a folder have.
    fn found_in_files(&self, folder: &Path) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        each_file(folder, &mut |_, bytes| self.found_in(bytes, &mut found));
        found
    }
}

/// Every file below a folder.
fn each_file(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            each_file(&path, look);
        } else if kind.is_file() {
            look(&path, &std::fs::read(&path).unwrap());
        }
    }
}

/// The files below a folder that have these bytes.
pub(crate) fn in_files(folder: &Path, what: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    each_file(folder, &mut |path, bytes| {
        if holds(bytes, what) {
            found.push(path.display().to_string());
        }
    });
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

/// What one person's store has that nobody else may: what each is, and its bytes.
type Secrets = Vec<(String, Vec<u8>)>;

/// The secret keys in a person's store: identity, device, transport and participants, as the row of the account has them
/// behind one another.
fn keys_of(store: &NodeStore) -> Secrets {
    const BEFORE: [u8; 2] = [0x58, 32];
    let transport = *transport_key(store).unwrap().secret_bytes();
    let rows = store.scan(&[], &[u8::MAX; 64], Order::Ascending, usize::MAX).unwrap();
    let held = |row: &Vec<u8>| row.windows(transport.len()).position(|window| window == transport);
    let (row, at) = rows.iter().find_map(|(_, row)| Some((row, held(row)?))).expect("the row of the account");
    let key = |(number, name): (u8, &str)| {
        let from = at + 35 * usize::from(number) - 35 * 6;
        assert_eq!(row[from - 3..from], [number, BEFORE[0], BEFORE[1]], "another layout of that row");
        (format!("{name} key"), row[from..from + 32].to_vec())
    };
    [(4, "identity"), (5, "device"), (6, "transport"), (7, "participants")].map(key).to_vec()
}

/// All bytes below a name that stands for a secret in what the MLS library stores, which writes some as byte strings,
/// some as lists of small numbers.
fn secrets_in(decoder: &mut Decoder<'_>, name: &str, secret: bool, found: &mut Secrets) {
    match decoder.datatype().unwrap() {
        Type::Map | Type::MapIndef => {
            let mut left = decoder.map().unwrap();
            while more(decoder, &mut left) {
                let key = if decoder.datatype().unwrap() == Type::String { decoder.str().unwrap() } else { "" };
                if key.is_empty() {
                    decoder.skip().unwrap();
                }
                let ends = ["secret", "_secret", "_psk", "membership_key"].iter().any(|end| key.ends_with(end));
                let opens = ends || key.starts_with("private_");
                secrets_in(decoder, if opens && !secret { key } else { name }, secret || opens, found);
            }
        }
        Type::Array | Type::ArrayIndef => {
            let mut left = decoder.array().unwrap();
            let mut numbers = Vec::new();
            while more(decoder, &mut left) {
                if decoder.datatype().unwrap() == Type::U8 {
                    numbers.push(decoder.u8().unwrap());
                } else {
                    secrets_in(decoder, name, secret, found);
                }
            }
            note(secret, name, numbers, found);
        }
        Type::Bytes => note(secret, name, decoder.bytes().unwrap().to_vec(), found),
        _ => decoder.skip().unwrap(),
    }
}

fn note(secret: bool, name: &str, bytes: Vec<u8>, found: &mut Secrets) {
    if secret && bytes.len() >= SECRET_BYTES_MIN {
        found.push((name.to_owned(), bytes));
    }
}

/// Whether a list or map goes on; `left` is how many there are still, if that was said.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
        None if decoder.datatype().unwrap() == Type::Break => {
            decoder.skip().unwrap();
            false
        }
        None => true,
    }
}

/// What a person's groups are sealed with: private keys of leaves and of key packages, secrets of epochs and ratchets.
/// Where they stand: crypto/src/mls/rows.rs; the message secrets of a thread are cut in parts, crypto/src/mls/parts.rs.
fn group_secrets_of(store: &NodeStore) -> Secrets {
    const PIECE_AT: usize = 2 + ThreadId::LEN;
    const PART_NAME_BYTES: usize = 16;
    let mut found = Vec::new();
    for (key, row) in store.scan(b"m", b"n", Order::Ascending, usize::MAX).unwrap() {
        let row = match (key[1], key.get(PIECE_AT)) {
            // Key packages, leaf key pairs, a thread's epoch secrets and key pairs, the secrets of a past epoch.
            (b'k' | b'e', _) | (b't', Some(b'e' | b'k')) | (b'p', Some(b's')) => row,
            (b't', Some(b'm')) => {
                let part = |name: &[u8]| store.get(&[&key[..PIECE_AT], b"a", name].concat()).unwrap().expect("a part");
                row.chunks_exact(PART_NAME_BYTES).flat_map(part).collect()
            }
            _ => continue,
        };
        let before = found.len();
        secrets_in(&mut Decoder::new(&row), "", false, &mut found);
        assert!(found.len() > before, "no secret in {key:?}: another layout of that row");
    }
    found
}

/// What one person has that no relay may have.
fn secrets_of(person: &Person) -> Secrets {
    let store = open_store(&person.home.join("data"), StoreOptions::default()).unwrap();
    let secrets = keys_of(&store).into_iter().chain(group_secrets_of(&store)).collect();
    store.close().unwrap();
    secrets
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
    let (of_alice, of_bob) = (secrets_of(&alice), secrets_of(&bob));
    std::fs::write(folder("passphrase"), format!("{passphrase}\n")).unwrap();
    let file = folder("passphrase").display().to_string();
    alice.json(&["--passphrase-file", &file, "passphrase", "set"]);
    alice.json(&["--passphrase-file", &file, "chat", "list"]);

    let phrase = words.join(" ");
    let recovery = *RecoveryPhrase::parse(&phrase).unwrap().key_pair().secret_bytes();
    let sealed = Passphrase::new(passphrase.as_bytes().to_vec()).unwrap();
    let sealed = *unlock(&alice.home.join("data"), &sealed).unwrap().secret_bytes();
    let named = |whose: &str, secrets: &Secrets| -> Secrets {
        secrets.iter().map(|(what, bytes)| (format!("{whose}'s {what}"), bytes.clone())).collect()
    };
    let keys = [
        named("Alice", &of_alice),
        named("Bob", &of_bob),
        vec![("the key of Alice's words".to_owned(), recovery.to_vec())],
        vec![("the key of Alice's sealed store".to_owned(), sealed.to_vec())],
    ]
    .concat();
    for kind in ["private_key", "private_init_key", "private_encryption_key", "init_secret", "membership_key", "secret"]
    {
        assert!(of_alice.iter().chain(&of_bob).any(|(what, _)| what == kind), "no {kind} to look for");
    }
    let told = [read, waiting, title, label, passphrase, &phrase];
    // Texts as they are; keys as bytes and as text.
    let mut secrets: Secrets = told.iter().map(|text| (format!("{text:?}"), text.as_bytes().to_vec())).collect();
    for (what, key) in keys {
        secrets.push((
            format!("{what}, written"),
            key.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
        ));
        secrets.push((what, key));
    }
    let wanted: Vec<Vec<u8>> = secrets.iter().map(|(_, bytes)| bytes.clone()).collect();
    for (relay, name, address, own) in [(&a, "a", &metrics[0], &of_alice), (&b, "b", &metrics[1], &of_bob)] {
        // The search finds what is there: the public half of a device's key, whose secret half it looks for as well.
        let device: [u8; 32] = own.iter().find(|(what, _)| what == "device key").unwrap().1[..].try_into().unwrap();
        let public = KeyPair::from_seed_bytes(device).public().as_bytes().to_vec();
        let with_public = [wanted.clone(), vec![public]].concat();
        let public = BTreeSet::from([wanted.len()]);
        let say = |found: &BTreeSet<usize>| -> Vec<String> {
            found.iter().map(|n| secrets.get(*n).map_or("a public key", |(what, _)| what).to_owned()).collect()
        };
        let search = Search::new(&with_public);
        let memory = search.found_in_memory(relay.process());
        assert_eq!(memory, public, "in the memory of {name}: {:?}", say(&memory));
        let files = search.found_in_files(&folder(name));
        assert_eq!(files, public, "in the files of {name}: {:?}", say(&files));
        let (page, mut shown) = (figures(address), BTreeSet::new());
        search.found_in(&page, &mut shown);
        assert_eq!(shown, BTreeSet::new(), "in the figures of {name}: {:?}", say(&shown));
        let log = std::fs::read_to_string(folder(name).join("relay.log")).unwrap();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was written at its fullest");
    }
    // What is looked for is what people have.
    assert!(!in_files(&folder("bob"), read.as_bytes()).is_empty());
    for (what, key) in of_bob.iter().filter(|(what, _)| what.ends_with(" key")) {
        assert!(!in_files(&folder("bob"), key).is_empty(), "Bob has no {what}");
    }

    a.stop();
    assert_eq!(bob.json(&["send", "alice", queued])[0]["state"], "stored");
    let on_its_way = [queued.as_bytes().to_vec()];
    let search = Search::new(&on_its_way);
    assert_eq!(search.found_in_memory(b.process()), BTreeSet::new(), "the relay that has it to send has {queued:?}");
    assert_eq!(search.found_in_files(&folder("b")), BTreeSet::new(), "the relay that has it to send has {queued:?}");
    assert!(!in_files(&folder("bob"), queued.as_bytes()).is_empty());
}
