//! The node's store under load, as the node's driver uses it: a batch for every input, applied before the next; several
//! batches a sync; what they say leaves after it.
//! Owns: batches of a node's shape, what must be there afterwards.
//!
//! Lines: `a INPUT`: everything up to this input has left. `full`, `again`, `end`, `failed WHY`.

use std::path::Path;
use std::time::Duration;

use whimbrel_crypto::SealKey;
use whimbrel_node_runtime::{Access, CreateError, NodeStore, OpenStoreError, create, open_store};
use whimbrel_protocol::id::RelayId;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_storage::{Batch, KEY_END, Order, OrderedKv, Reads, StorageError};
use whimbrel_storage_runtime::{EngineKind, Options};

use crate::Target;
use crate::chance::Chance;
use crate::child::{Found, Load, probe, say};

const GROUPS: u64 = 4;
/// Inputs whose rows are kept.
const KEPT: u64 = 1_500;
/// Rows of the outbox that are there at once.
const OUTBOX: u64 = 8;

/// Behind the node's own rows of the same space, which are shorter.
fn key(space: u8, number: u64) -> Vec<u8> {
    [&[space], [0xee; 64].as_slice(), &number.to_be_bytes()].concat()
}

fn text(input: u64, len_of: &Chance) -> Vec<u8> {
    let mut chance = len_of.clone();
    let len = if chance.percent(5) { 30_000 } else { 100 + chance.below(300) };
    [input.to_be_bytes().to_vec(), chance.bytes(usize::try_from(len).unwrap())].concat()
}

fn chance_of(input: u64) -> Chance {
    Chance::of(&[input, 77])
}

/// The group's state after an input: some 14 KiB, as of a group of a few dozen leaves.
fn state(input: u64) -> Vec<u8> {
    [input.to_be_bytes().to_vec(), Chance::of(&[input, 78]).bytes(14_000)].concat()
}

/// One received message: text, dedup row, group state, place, and an outbox row that comes and one that goes.
fn batch_of(input: u64, heavy: bool) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(b'h', input), text(input, &chance_of(input)));
    batch.put(key(b'e', input), input.to_be_bytes().to_vec());
    batch.put(key(b'm', input % GROUPS), state(input));
    batch.put(key(b'p', 0), input.to_be_bytes().to_vec());
    batch.put(key(b'o', input), vec![1; 40]);
    if heavy {
        batch.put(key(b'v', input), Chance::of(&[input, 79]).bytes(64_000));
    }
    if input > OUTBOX {
        batch.delete(key(b'o', input - OUTBOX));
    }
    // A store that is to fill deletes nothing else: what deletes is let through when it is nearly full.
    if input > KEPT && !heavy {
        batch.delete(key(b'h', input - KEPT));
        batch.delete(key(b'e', input - KEPT));
    }
    batch
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn newest(store: &NodeStore) -> Result<u64, StorageError> {
    Ok(store.get(&key(b'p', 0))?.map_or(0, |bytes| number(&bytes)))
}

/// How this target's store is opened.
fn access(target: Target, options: Options) -> Access {
    let key = (target == Target::SealedNode).then(|| SealKey::from_bytes([0x5e; 32]));
    Access { options, key }
}

fn opened(dir: &Path, access: &Access) -> Result<NodeStore, String> {
    match open_store(dir, access.clone()) {
        Err(OpenStoreError::Absent(_)) => {}
        other => return other.map_err(|error| error.to_string()),
    }
    let relay = RelayLink {
        domain: "a.example".parse().unwrap(),
        endpoint: "127.0.0.1:1".to_owned(),
        relay: RelayId::from_bytes([1; 32]),
    };
    match create(dir, "alice".parse().unwrap(), relay, "laptop", access.clone()) {
        Ok(_) | Err(CreateError::Exists(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    open_store(dir, access.clone()).map_err(|error| error.to_string())
}

/// The child's load.
pub(crate) fn load(load: &Load) {
    let store = match opened(&load.dir, &access(load.target, load.options())) {
        Ok(store) => store,
        Err(error) => return say(&format!("error {error}")),
    };
    say("ready");
    let failed = |error: StorageError| -> ! {
        say(&format!("failed {error}"));
        std::process::exit(3);
    };
    let mut chance = Chance::of(&[load.seed, load.round, 3]);
    let mut input = newest(&store).unwrap();
    let (mut done, mut full) = (0, false);
    while load.operations == 0 || done < load.operations {
        for _ in 0..=chance.below(16) {
            loop {
                match store.apply(&batch_of(input + 1, load.heavy)) {
                    Ok(()) => break,
                    Err(StorageError::Full) => {
                        full = true;
                        say("full");
                        if let Err(error) = newest(&store) {
                            failed(error);
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Err(error) => failed(error),
                }
            }
            if std::mem::take(&mut full) {
                say("again");
            }
            input += 1;
            done += 1;
        }
        if let Err(error) = store.sync() {
            failed(error);
        }
        say(&format!("a {input}"));
    }
    store.close().unwrap();
    say("end");
}

/// The child's reading of what is left.
pub(crate) fn verify(target: Target, engine: EngineKind, dir: &Path, lines: &str, close: bool) -> Found {
    let mut found = Found::default();
    let acknowledged =
        lines.lines().filter_map(|line| line.strip_prefix("a ")).map(|n| n.parse::<u64>().unwrap()).max();
    let options = Options { engine, probe: Some(probe()), ..Options::default() };
    let store = match open_store(dir, access(target, options)) {
        Ok(store) => store,
        // It ended before its account was made, and nothing was said.
        Err(OpenStoreError::Absent(_)) if acknowledged.is_none() => return found,
        Err(error) => return Found { error: Some(error.to_string()), ..found },
    };
    match compare(&store, acknowledged.unwrap_or(0), &mut found) {
        Ok(()) => {}
        Err(error) => found.named(error.to_string()),
    }
    let ended = if close { store.close() } else { Ok(()) };
    if let Err(error) = ended {
        found.named(format!("close: {error}"));
    }
    found
}

fn compare(store: &NodeStore, acknowledged: u64, found: &mut Found) -> Result<(), StorageError> {
    let newest = newest(store)?;
    if newest < acknowledged {
        found.lost += acknowledged - newest;
        found.notes.push(format!("input {newest} is the newest, {acknowledged} was told of"));
    }
    let heavy = store.get(&key(b'v', newest))?.is_some();
    let oldest = if heavy { 1 } else { newest.saturating_sub(KEPT) + 1 };
    for input in oldest..=newest {
        // Text and dedup row together or not at all.
        for (space, expected) in [(b'h', text(input, &chance_of(input))), (b'e', input.to_be_bytes().to_vec())] {
            match store.get(&key(space, input)) {
                Ok(Some(value)) if value == expected => {}
                Ok(_) if input <= acknowledged => found.lost(format!("{} of input {input}", char::from(space))),
                Ok(_) => found.torn(format!("{} of input {input}", char::from(space))),
                Err(StorageError::Damaged { what, .. }) => found.named(format!("input {input}: {what}")),
                Err(error) => return Err(error),
            }
        }
    }
    for group in 0..GROUPS.min(newest) {
        // The newest input of this group.
        let input = newest - (newest + GROUPS - group) % GROUPS;
        match store.get(&key(b'm', group)) {
            Ok(Some(value)) if value == state(input) => {}
            Ok(_) if input == 0 => {}
            Ok(_) => found.torn(format!("the state of group {group} is not that of input {input}")),
            Err(StorageError::Damaged { what, .. }) => found.named(format!("group {group}: {what}")),
            Err(error) => return Err(error),
        }
    }
    let rows = store.scan(&key(b'o', 0), &key(b'o', u64::MAX), Order::Ascending, 100)?;
    if rows.len() as u64 != newest.min(OUTBOX) {
        found.torn(format!("{} rows in the outbox", rows.len()));
    }
    // Every row is read once: one that is damaged is named.
    let mut from = Vec::new();
    loop {
        let page = store.scan(&from, &KEY_END, Order::Ascending, 256)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
    }
}
