//! Child: a process that is measured, from its first line to its end.
//! Owns: waiting for both, always with a bound. Never: leaves one behind that it started, or ends one that it did not.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{Machine, Process};

/// How long one may take to end by itself: a large store is closed with a checksum of its whole file.
const END_TIME_MAX: Duration = Duration::from_secs(60);

/// A process that runs on the measured core.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts it. Its standard input is a tether: it closes when this process is gone.
    pub(crate) fn start(machine: &Machine, command: &mut std::process::Command) -> anyhow::Result<Self> {
        let mut child = machine.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let output = child.stdout.take().context("no output")?;
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line it prints.
    pub(crate) fn line(&self, wait_max: Duration) -> anyhow::Result<String> {
        self.lines.recv_timeout(wait_max).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => anyhow::anyhow!("it said nothing in time"),
            mpsc::RecvTimeoutError::Disconnected => anyhow::anyhow!("it ended"),
        })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::TERM).context("the process takes no signal")?;
        self.ended()?;
        Ok(())
    }

    /// Ends it without any warning to it.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        // Its output closes when it ends, and the lines end with the output.
        loop {
            match self.lines.recv_timeout(END_TIME_MAX) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(mpsc::RecvTimeoutError::Timeout) => anyhow::bail!("the process did not end in time"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Does nothing where it has ended.
        let _gone_already = self.child.kill().and_then(|()| self.child.wait());
    }
}
