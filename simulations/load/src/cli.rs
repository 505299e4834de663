//! The command line: which row, over which store, how long; and the parts that this program plays as its own child.
//! Owns: arguments, what is printed, exit codes: 0 measured, 1 something acknowledged was lost, 2 a row was not measured.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use whimbrel_protocol::invite::RelayLink;

use crate::engine::{self, Writes};
use crate::figure::{Figure, table};
use crate::machine::{self, Machine, Process};
use crate::rows::{Row, Stage};
use crate::{bare, rows};

/// Measured, and nothing was lost.
pub(crate) const WELL: u8 = 0;
/// Something that was acknowledged did not arrive.
pub(crate) const BROKEN: u8 = 1;
/// Something was not measured: the call is wrong, or something is missing.
pub(crate) const USAGE: u8 = 2;

/// Measures a relay over real sockets, beside the bare libraries.
///
/// The relay runs as a process of its own, pinned to one core, with its limits lifted by its configuration; synthetic
/// people on the other cores do real TLS, real authentication and real frames. What each figure means:
/// docs/research/load.md.
#[derive(Clone, Debug, Parser)]
#[command(name = "whimbrel-load", version)]
pub(crate) struct Args {
    /// Which row of the budgets: R1 to R9, or `all` of them that can be measured; or T66, ten times the rated messages.
    row: Row,
    /// The relay's engine.
    #[arg(long, default_value = "sled")]
    store: String,
    /// How long rows that are measured for a time are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measures a relay that runs already, by its link (`whimbrel-relay link`), instead of starting one.
    #[arg(long, value_name = "LINK", requires = "pid")]
    relay: Option<RelayLink>,
    /// The process of that relay, on this machine.
    #[arg(long, requires = "relay")]
    pid: Option<u32>,
    /// The relay to start; else `whimbrel-relay` beside this program.
    #[arg(long, value_name = "FILE", conflicts_with = "relay")]
    relay_bin: Option<PathBuf>,
    /// Where stores are made, on the disk that is to be measured; else the folder for temporary files.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// R1: idle connections.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// R6: accounts that are there.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(64..=60_000))]
    people: u32,
    /// R3, R4: people of the group.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(11..=1_000))]
    members: u32,
    /// R2, R9: pairs that talk.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    pairs: u32,
    /// R5, R7: messages held; else 100,000 and 1,000,000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    messages: Option<u64>,
    /// Leaves the bare libraries out.
    #[arg(long)]
    no_floor: bool,
    /// Prints one JSON object a figure.
    #[arg(long)]
    json: bool,
}

/// The parts of a child; nobody but this program asks for them.
#[derive(Debug, Parser)]
enum Part {
    #[command(name = "serve-bare")]
    Serve,
    #[command(name = "write-bare")]
    Write {
        #[arg(long)]
        store: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        messages: u64,
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        group: u64,
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        logs: u64,
        #[arg(long)]
        value_bytes: usize,
        #[arg(long)]
        keep: u64,
    },
    #[command(name = "open-bare")]
    Open {
        #[arg(long)]
        store: String,
        #[arg(long)]
        dir: PathBuf,
    },
}

const PARTS: [&str; 3] = ["serve-bare", "write-bare", "open-bare"];

/// Does what was asked. Gives the exit code.
pub(crate) fn run(args: &[OsString]) -> anyhow::Result<u8> {
    let first = args.get(1).and_then(|first| first.to_str()).unwrap_or_default();
    if PARTS.contains(&first) { Part::parse_from(args).play() } else { Args::parse_from(args).act() }
}

impl Part {
    fn play(self) -> anyhow::Result<u8> {
        match self {
            Self::Serve => runtime()?.block_on(bare::serve())?,
            Self::Write { store, dir, messages, group, logs, value_bytes, keep } => {
                engine::write(&store, &dir, Writes { messages, group, logs, value_bytes, keep })?;
            }
            Self::Open { store, dir } => engine::open(&store, &dir)?,
        }
        Ok(WELL)
    }
}

/// One thread: what is measured by it must not move between cores.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

impl Args {
    fn act(self) -> anyhow::Result<u8> {
        let rows: &[Row] = if self.row == Row::All { Row::MEASURED } else { &[self.row] };
        let stage = self.stage()?;
        let (mut figures, mut missing) = (Vec::new(), false);
        for row in rows {
            if self.row == Row::All && !row.fits(&stage) {
                complain(&format!("{row} says nothing over {}; left out", stage.store));
                continue;
            }
            let found = runtime()?.block_on(async {
                tokio::select! {
                    found = rows::measure(*row, &stage) => Some(found),
                    // Whatever runs is ended as it is dropped.
                    () = interrupted() => None,
                }
            });
            let found = match found.context("interrupted")? {
                // What the other rows measured is not lost with this one.
                Err(error) if self.row == Row::All => {
                    complain(&format!("{row} was not measured: {error:#}"));
                    missing = true;
                    continue;
                }
                found => found?,
            };
            if self.json {
                for figure in &found {
                    say(&(serde_json::to_string(figure)? + "\n"))?;
                }
            }
            figures.extend(found);
        }
        if !self.json {
            say(&table(&figures))?;
            say(&details(&figures))?;
        }
        let lost: u64 = figures.iter().map(|figure| figure.lost).sum();
        Ok(match (lost, missing) {
            (0, false) => WELL,
            (0, true) => USAGE,
            _ => BROKEN,
        })
    }

    fn stage(&self) -> anyhow::Result<Stage> {
        let folder = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        if machine::is_in_memory(&folder) {
            complain(&format!("{} is in memory: a sync costs nothing there; name a disk with --dir", folder.display()));
        }
        let machine = Machine::divide()?;
        if machine.cores == 1 {
            complain("this machine has one core: the relay and the people share it");
        }
        let running = self.relay.clone().zip(self.pid.map(Process));
        let program = match (&self.relay_bin, &running) {
            (_, Some(_)) => PathBuf::new(),
            (Some(program), None) => program.clone(),
            (None, None) => beside("whimbrel-relay")?,
        };
        ensure!(
            running.is_some() || program.is_file(),
            "there is no relay at {}; build it with `cargo build --release`, or name it with --relay-bin",
            program.display()
        );
        Ok(Stage {
            machine,
            running,
            program,
            folder,
            store: self.store.trim_end_matches(':').to_owned(),
            time: Duration::from_secs(self.seconds),
            connections: self.connections as usize,
            people: self.people as usize,
            members: self.members as usize,
            pairs: self.pairs as usize,
            messages: self.messages,
            floor: !self.no_floor,
        })
    }
}

/// A program that was built together with this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe().context("cannot find the running program")?.with_file_name(name))
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Then the system ends this process by its own means.
        _ => std::future::pending().await,
    }
}

/// What else was counted, a line a figure.
fn details(figures: &[Figure]) -> String {
    let line = |figure: &Figure| {
        let more = figure.more.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ");
        format!("{}: {more}\n", figure.id)
    };
    figures.iter().filter(|figure| !figure.more.is_empty()).map(line).collect()
}

pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("the output is closed")
}

/// Tells people something. A closed error output is no reason to stop.
pub(crate) fn complain(text: &str) {
    let _closed = writeln!(std::io::stderr(), "whimbrel-load: {text}");
}
