//! Relay: the shipped program, in a folder and a process of its own, told by its configuration alone.
//! Owns: making the folder, the configuration's changes, starts, stops and kills.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use whimbrel_protocol::invite::RelayLink;

use crate::child::Running;
use crate::machine::{self, Machine, Process};

/// How long a relay may take to stand; a million messages after a kill take minutes on a busy machine.
const READY_TIME_MAX: Duration = Duration::from_secs(600);
/// How much of a relay's log a failure quotes.
const LOG_TAIL_BYTES: usize = 2_000;
const DOMAIN: &str = "load.example";

/// What the relay is to be.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) program: PathBuf,
    /// What goes into `[store] url`, without the colon.
    pub(crate) store: String,
    /// Links at once.
    pub(crate) connections: usize,
    /// Entries of one log.
    pub(crate) log_entries: usize,
    /// Whether messages have the rate that the relay ships with, and not none.
    pub(crate) rated: bool,
}

/// One relay: its folder, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Relay {
    program: PathBuf,
    folder: PathBuf,
    pub(crate) link: RelayLink,
    running: Option<Running>,
}

/// What `init --json` prints.
#[derive(Deserialize)]
struct Made {
    link: String,
}

impl Relay {
    /// Makes a relay's folder and lifts in its configuration whatever would stop honest load.
    pub(crate) fn init(folder: &Path, orders: &Orders) -> anyhow::Result<Self> {
        let program = &orders.program;
        // Its link names its port, so the port must be known before it runs; this one was free a moment ago.
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let endpoint = format!("127.0.0.1:{port}");
        let output = Command::new(program)
            .args(["init", DOMAIN, "--json", "--listen", &endpoint, "--public", &endpoint, "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} does not start", program.display()))?;
        ensure!(output.status.success(), "no relay can be made: {}", String::from_utf8_lossy(&output.stderr));
        let made: Made = serde_json::from_slice(&output.stdout).context("`init --json` says something else")?;
        let link = made.link.parse().context("`init --json` gives no link")?;
        let relay = Self { program: program.clone(), folder: folder.to_owned(), link, running: None };
        relay.configure(orders).context("the relay's configuration")?;
        Ok(relay)
    }

    fn configure(&self, orders: &Orders) -> anyhow::Result<()> {
        let text = fs::read_to_string(self.config())?;
        let (url, connections) = (format!("\"{}:\"", orders.store), orders.connections.to_string());
        let log_entries = orders.log_entries.to_string();
        // As it ships: the template has that line as a comment.
        let messages: &[(&str, &str)] = if orders.rated { &[] } else { &[("messages", "\"unbounded\"")] };
        let lifted: [&[(&str, &str)]; 2] = [
            &[
                ("url", url.as_str()),
                ("connections", &connections),
                ("log_entries", &log_entries),
                ("log_bytes", "\"64 GiB\""),
                ("requests", "\"unbounded\""),
                ("arrivals", "\"unbounded\""),
                ("claims", "\"unbounded\""),
                ("signs", "\"unbounded\""),
                ("touches", "\"unbounded\""),
                ("level", "\"warn\""),
            ],
            messages,
        ];
        let changed = with_keys(&text, &lifted.concat())?;
        Ok(fs::write(self.config(), changed)?)
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) fn start(&mut self, machine: &Machine) -> anyhow::Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--json", "--config"]).arg(self.config()).stderr(log);
        let running = Running::start(machine, &mut command)?;
        match running.line(READY_TIME_MAX) {
            Ok(_) => self.running = Some(running),
            Err(error) => bail!("the relay does not run: {error:#}: {}", self.log_tail()),
        }
        Ok(())
    }

    pub(crate) fn process(&self) -> anyhow::Result<Process> {
        Ok(self.running.as_ref().context("the relay does not run")?.process())
    }

    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.running.take().map_or(Ok(()), Running::stop)
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.running.take().map_or(Ok(()), Running::kill)
    }

    /// Has the running relay copy its store into a fresh one; gives the bytes of that.
    pub(crate) fn export_bytes(&self) -> anyhow::Result<u64> {
        let copy = self.folder.join("copy");
        let mut command = Command::new(&self.program);
        command.args(["export", "--json", "--config"]).arg(self.config()).arg("--into").arg(&copy).stdin(Stdio::null());
        let output = command.output().context("no export can be started")?;
        ensure!(output.status.success(), "no export: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = machine::folder_bytes(&copy)?;
        fs::remove_dir_all(&copy)?;
        Ok(bytes)
    }

    /// Bytes of its store on the disk.
    pub(crate) fn store_bytes(&self) -> anyhow::Result<u64> {
        let store = self.folder.join("data").join("store");
        if store.exists() { Ok(machine::folder_bytes(&store)?) } else { Ok(0) }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("relay.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("relay.log")
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }
}

/// The configuration with other values for these keys. `init` writes each key once, at the start of a line.
fn with_keys(text: &str, keys: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in keys {
        let start = format!("{key} = ");
        let line = lines.iter_mut().find(|line| line.starts_with(&start));
        *line.with_context(|| format!("`init` writes no {key}"))? = format!("{start}{value}");
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_another_value_and_nothing_else_changes() {
        let text = "[store]\n# url = \"not this\"\nurl = \"sled:\"\ncache = \"64 MiB\"\n";
        let changed = with_keys(text, &[("url", "\"memory:\"")]).unwrap();
        assert_eq!(changed, "[store]\n# url = \"not this\"\nurl = \"memory:\"\ncache = \"64 MiB\"\n");
        assert!(with_keys(text, &[("level", "1")]).unwrap_err().to_string().contains("level"));
    }
}
