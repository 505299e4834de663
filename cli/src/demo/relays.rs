//! Relays: two relay processes on loopback.
//! Owns: their folders, starting them, killing them, and that none outlives the demo.
//!
//! Each child is this very program (`whimbrel relay`), so that the demo needs nothing else installed. Its standard input is a
//! tether: when this process ends, however it does, the pipe closes and the child ends too.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use whimbrel_protocol::invite::RelayLink;

use crate::failure::Failure;

/// How long a relay may take to stand, the trial open of a killed store included.
const READY_TIME_MAX: Duration = Duration::from_secs(15);
/// How long a relay may take to end by itself.
const END_TIME_MAX: Duration = Duration::from_secs(8);
/// How much of a relay's log a failure quotes.
const LOG_TAIL_BYTES: usize = 2_000;

/// One relay: its folder, and its process while it runs.
pub(crate) struct Relay {
    pub(crate) domain: &'static str,
    dir: PathBuf,
    pub(crate) link: RelayLink,
    child: Option<Child>,
}

/// What `relay init --json` prints.
#[derive(Deserialize)]
struct Made {
    link: String,
}

impl Relay {
    /// Makes a relay's folder: identity, configuration, a port that was free a moment ago.
    pub(crate) async fn init(domain: &'static str, dir: PathBuf) -> Result<Self, Failure> {
        let endpoint = format!("127.0.0.1:{}", free_port().map_err(|error| broken(domain, "find a port", &error))?);
        let output = program(domain)?
            .args(["init", domain, "--json", "--listen", &endpoint, "--public", &endpoint, "--dir"])
            .arg(&dir)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| broken(domain, "start", &error))?;
        if !output.status.success() {
            return Err(broken(domain, "be made", &String::from_utf8_lossy(&output.stderr)));
        }
        let made: Made =
            serde_json::from_slice(&output.stdout).map_err(|error| broken(domain, "say its link", &error))?;
        let link = made.link.parse().map_err(|error| broken(domain, "say its link", &error))?;
        Ok(Self { domain, dir, link, child: None })
    }

    /// Writes another relay into this one's configuration.
    pub(crate) fn pin(&self, other: &Self) -> Result<(), Failure> {
        let path = self.config();
        let add = |path: &Path| {
            let text = std::fs::read_to_string(path)?;
            let peer = format!("[peers]\n\"{}\" = \"{}\"\n", other.domain, other.link);
            std::fs::write(path, text.replacen("[peers]\n", &peer, 1))
        };
        add(&path).map_err(|error| broken(self.domain, "learn of its peer", &error))
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) async fn start(&mut self) -> Result<u32, Failure> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|error| broken(self.domain, "open its log", &error))?;
        let mut child = program(self.domain)?
            .args(["--tethered", "run", "--json", "--config"])
            .arg(self.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken(self.domain, "start", &error))?;
        let pid = child.id().unwrap_or_default();
        let output = child.stdout.take();
        self.child = Some(child);
        let ready = async {
            let Some(output) = output else { return false };
            let mut lines = BufReader::new(output).lines();
            matches!(lines.next_line().await, Ok(Some(_)))
        };
        match timeout(READY_TIME_MAX, ready).await {
            Ok(true) => Ok(pid),
            Ok(false) => Err(broken(self.domain, "start", &self.log_tail())),
            Err(_) => Err(broken(self.domain, "be ready in time", &self.log_tail())),
        }
    }

    /// Ends the process without any warning to it.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().await.map_err(|error| broken(self.domain, "be killed", &error))
    }

    /// Asks the process to end, and waits until it has; one that does not is killed. True: it ended by itself, in order.
    pub(crate) async fn stop(&mut self) -> Result<bool, Failure> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        // Held until the process has ended: waiting would close it, and the tether tell it to end a second time.
        let _tether = child.stdin.take();
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && kill_process(pid, Signal::TERM).is_ok()
            && let Ok(Ok(status)) = timeout(END_TIME_MAX, child.wait()).await
        {
            return Ok(status.success());
        }
        child.kill().await.map_err(|error| broken(self.domain, "be killed", &error))?;
        Ok(false)
    }

    /// The end of what the process wrote to its log, for a failure's text.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }

    fn config(&self) -> PathBuf {
        self.dir.join("relay.toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("relay.log")
    }
}

fn program(domain: &str) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(|error| broken(domain, "find this program", &error))?;
    let mut command = Command::new(program);
    command.arg("relay");
    Ok(command)
}

/// A UDP port nobody uses: the relays' links name their ports, so these must be known before either runs.
fn free_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn broken(domain: &str, what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("relay {domain} could not {what}: {why}"))
}
