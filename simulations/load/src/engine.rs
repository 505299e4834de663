//! Engine: the storage engine alone, in a process of its own, writing what a relay writes for the same messages.
//! Owns: the rows of a message (entry, head, remembered id; a trimmed entry's removal), one batch and one sync a group.
//! Never: a checksum, a witness, a condition: this is the floor. What they cost is the difference.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use whimbrel_crypto::{Chance, Seed};

use crate::child::Running;
use crate::cli::say;
use crate::machine::{Machine, Process};

/// The relay's own default.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How long the writing may take.
const TIME_MAX: Duration = Duration::from_secs(1_800);

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writes {
    pub(crate) messages: u64,
    /// Messages of one batch and one sync.
    pub(crate) group: u64,
    /// Logs they go to, in turn.
    pub(crate) logs: u64,
    /// Bytes of an entry's value.
    pub(crate) value_bytes: usize,
    /// Entries a log keeps; older ones are removed as new ones come.
    pub(crate) keep: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Wrote {
    pub(crate) cpu_s: f64,
    pub(crate) messages: u64,
}

type Change = (Vec<u8>, Option<Vec<u8>>);

/// An engine, as little as can be around it.
enum Raw {
    Sled { db: sled::Db, file: File },
    Fjall { db: fjall::Database, rows: fjall::Keyspace },
    Memory(BTreeMap<Vec<u8>, Vec<u8>>),
}

impl Raw {
    fn open(store: &str, folder: &Path) -> anyhow::Result<Self> {
        match store {
            "sled" => {
                let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(Some(500));
                let db = config.open()?;
                let file = File::options().read(true).write(true).open(folder.join("db"))?;
                Ok(Self::Sled { db, file })
            }
            "fjall" => {
                let db = fjall::Database::builder(folder).cache_size(CACHE_BYTES).open()?;
                let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
                Ok(Self::Fjall { db, rows })
            }
            "memory" => Ok(Self::Memory(BTreeMap::new())),
            other => bail!("no floor is known for the store {other}"),
        }
    }

    fn write(&mut self, changes: Vec<Change>) -> anyhow::Result<()> {
        match self {
            Self::Sled { db, file } => {
                let mut batch = sled::Batch::default();
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.insert(key, value),
                        None => batch.remove(key),
                    }
                }
                db.apply_batch(batch)?;
                db.flush()?;
                // sled's own flush does not reach the disk (docs/protocol/storage.md).
                file.sync_data()?;
            }
            Self::Fjall { db, rows } => {
                let mut batch = db.batch().durability(Some(fjall::PersistMode::SyncData));
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.insert(rows, key, value),
                        None => batch.remove(rows, key),
                    }
                }
                batch.commit()?;
            }
            Self::Memory(rows) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => rows.insert(key, value),
                        None => rows.remove(&key),
                    };
                }
            }
        }
        Ok(())
    }
}

/// The child's part: opens, writes, says what it took, and waits for its end.
pub(crate) fn write(store: &str, folder: &Path, writes: Writes) -> anyhow::Result<()> {
    let own = Process(std::process::id());
    let mut raw = Raw::open(store, folder)?;
    let mut chance = Chance::from_seed(Seed::from_bytes([7; 32]));
    let before = own.cpu_s()?;
    let mut written = 0;
    while written < writes.messages {
        let until = written.saturating_add(writes.group).min(writes.messages);
        let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for number in written..until {
            let (log, sequence) = (number % writes.logs, number / writes.logs + 1);
            let mut value = vec![0; writes.value_bytes];
            chance.fill(&mut value);
            changes.insert(key(b'e', log, Some(sequence)), Some(value));
            changes.insert(key(b'l', log, None), Some(chance.bytes::<40>().to_vec()));
            changes.insert(key(b't', log, Some(sequence)), Some(chance.bytes::<32>().to_vec()));
            if let Some(old) = sequence.checked_sub(writes.keep).filter(|old| *old > 0) {
                changes.insert(key(b'e', log, Some(old)), None);
            }
        }
        raw.write(changes.into_iter().collect())?;
        written = until;
    }
    let wrote = Wrote { cpu_s: own.cpu_s()? - before, messages: written };
    say(&(serde_json::to_string(&wrote)? + "\n"))?;
    // Whoever asked ends this process, with a kill where a kill is what is measured.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// A row's key as long as the relay's: a space, the 16 bytes of a log's random id, a sequence.
fn key(space: u8, log: u64, sequence: Option<u64>) -> Vec<u8> {
    // Spread like random ids are: an odd factor only changes the order of the numbers.
    let spread = log.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut key = vec![space];
    key.extend_from_slice(&spread);
    key.extend_from_slice(&spread);
    key.extend(sequence.into_iter().flat_map(u64::to_be_bytes));
    key
}

/// The child's part: opens what a killed writer left.
pub(crate) fn open(store: &str, folder: &Path) -> anyhow::Result<()> {
    let own = Process(std::process::id());
    let _raw = Raw::open(store, folder)?;
    let wrote = Wrote { cpu_s: own.cpu_s()?, messages: 0 };
    say(&(serde_json::to_string(&wrote)? + "\n"))?;
    std::process::exit(0);
}

fn child(machine: &Machine, command: &mut Command) -> anyhow::Result<(Running, Wrote)> {
    let running = Running::start(machine, command)?;
    let line = running.line(TIME_MAX)?;
    let wrote = serde_json::from_str(&line).with_context(|| format!("the bare engine says {line}"))?;
    Ok((running, wrote))
}

/// Seconds of processor time for each 100,000 messages, of the engine alone.
pub(crate) fn floor(machine: &Machine, store: &str, folder: &Path, writes: Writes) -> anyhow::Result<f64> {
    let (running, wrote) = child(machine, &mut writer(store, folder, writes)?)?;
    running.kill()?;
    Ok(wrote.cpu_s / wrote.messages.max(1) as f64 * 100_000.0)
}

/// Seconds of processor time to open what a killed process wrote, of the engine alone.
pub(crate) fn floor_of_opening(machine: &Machine, store: &str, folder: &Path, writes: Writes) -> anyhow::Result<f64> {
    let (running, _) = child(machine, &mut writer(store, folder, writes)?)?;
    running.kill()?;
    let mut command = Command::new(std::env::current_exe()?);
    let (_running, opened) = child(machine, command.args(["open-bare", "--store", store, "--dir"]).arg(folder))?;
    Ok(opened.cpu_s)
}

fn writer(store: &str, folder: &Path, writes: Writes) -> anyhow::Result<Command> {
    let Writes { messages, group, logs, value_bytes, keep } = writes;
    let mut command = Command::new(std::env::current_exe().context("cannot find the running program")?);
    command.args(["write-bare", "--store", store, "--dir"]).arg(folder);
    for (name, value) in
        [("--messages", messages), ("--group", group), ("--logs", logs), ("--value-bytes", value_bytes as u64)]
    {
        command.arg(name).arg(value.to_string());
    }
    command.arg("--keep").arg(keep.to_string());
    Ok(command)
}
