//! Rows: what is measured, one file for each row of the budgets.
//! Owns: which rows there are, what each needs, the relay that is measured.

mod admission;
mod group;
mod hold;
mod idle;
mod kill;
mod latency;
mod overload;
mod pairs;
mod presence;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;
use whimbrel_protocol::invite::RelayLink;

use crate::figure::Figure;
use crate::machine::{Machine, Process};
use crate::relay::{Orders, Relay};

/// A row of the budgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Row {
    /// Memory of an idle connection.
    R1,
    /// A message between two.
    R2,
    /// A group, all online.
    R3,
    /// A group, ten online.
    R4,
    /// Holding for those away, and handing out.
    R5,
    /// Presence.
    R6,
    /// Killed under load.
    R7,
    /// Coming in.
    R8,
    /// Latency of a message between two.
    R9,
    /// Ten times the rated messages: a row of the threat model. Not in `all`, for its ten minutes.
    T66,
    /// All that can be measured.
    #[value(name = "all")]
    All,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Row {
    pub(crate) const MEASURED: &[Self] =
        &[Self::R1, Self::R2, Self::R3, Self::R4, Self::R5, Self::R6, Self::R7, Self::R8, Self::R9];

    /// Whether it says anything on this stage.
    pub(crate) fn fits(self, stage: &Stage) -> bool {
        // What memory holds is gone with the process, and a relay that is not ours is not to be killed.
        match self {
            Self::R7 => stage.store != "memory" && stage.running.is_none(),
            // Another's rate is not known.
            Self::T66 => stage.running.is_none(),
            _ => true,
        }
    }
}

/// What all rows have at hand.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) machine: Machine,
    /// A relay that runs already.
    pub(crate) running: Option<(RelayLink, Process)>,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) store: String,
    pub(crate) time: Duration,
    pub(crate) connections: usize,
    pub(crate) people: usize,
    pub(crate) members: usize,
    pub(crate) pairs: usize,
    pub(crate) messages: Option<u64>,
    pub(crate) floor: bool,
}

/// The relay that is measured.
#[derive(Debug)]
pub(crate) enum Measured {
    /// Ours, in a folder that goes with it.
    Own { relay: Relay, folder: TempDir },
    /// Somebody's.
    Other { link: RelayLink, process: Process },
}

impl Stage {
    /// An empty folder that goes when it is dropped.
    pub(crate) fn fresh_folder(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("whimbrel-load-").tempdir_in(&self.folder)?)
    }

    /// A relay that runs, with room for so many links and so many entries in a log, and no rates.
    pub(crate) fn relay(&self, connections: usize, log_entries: usize) -> anyhow::Result<Measured> {
        self.start(connections, log_entries, false)
    }

    /// The same with the rate of messages that it ships with.
    pub(crate) fn rated_relay(&self, connections: usize, log_entries: usize) -> anyhow::Result<Measured> {
        self.start(connections, log_entries, true)
    }

    fn start(&self, connections: usize, log_entries: usize, rated: bool) -> anyhow::Result<Measured> {
        if let Some((link, process)) = &self.running {
            return Ok(Measured::Other { link: link.clone(), process: *process });
        }
        let folder = self.fresh_folder()?;
        let orders =
            Orders { program: self.program.clone(), store: self.store.clone(), connections, log_entries, rated };
        let mut relay = Relay::init(&folder.path().join("relay"), &orders)?;
        relay.start(&self.machine)?;
        Ok(Measured::Own { relay, folder })
    }
}

impl Measured {
    pub(crate) fn link(&self) -> &RelayLink {
        match self {
            Self::Own { relay, .. } => &relay.link,
            Self::Other { link, .. } => link,
        }
    }

    pub(crate) fn process(&self) -> anyhow::Result<Process> {
        match self {
            Self::Own { relay, .. } => relay.process(),
            Self::Other { process, .. } => Ok(*process),
        }
    }

    /// Ends and starts it again, if it is ours and keeps something: what came before leaves nothing in its memory.
    pub(crate) fn restart(&mut self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Own { relay, .. } if stage.store != "memory" => {
                relay.stop().and_then(|()| relay.start(&stage.machine))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a copy that it makes of its store, if it is ours.
    pub(crate) fn export_bytes(&self) -> anyhow::Result<Option<u64>> {
        match self {
            Self::Own { relay, .. } => relay.export_bytes().map(Some),
            Self::Other { .. } => Ok(None),
        }
    }

    /// Bytes of its store on the disk, if it is ours.
    pub(crate) fn store_bytes(&self) -> anyhow::Result<Option<u64>> {
        match self {
            Self::Own { relay, .. } => relay.store_bytes().map(Some),
            Self::Other { .. } => Ok(None),
        }
    }

    /// The folder its disk is measured in.
    pub(crate) fn folder<'s>(&'s self, stage: &'s Stage) -> &'s Path {
        match self {
            Self::Own { folder, .. } => folder.path(),
            Self::Other { .. } => &stage.folder,
        }
    }

    /// Ends it in order, if it is ours; everything it has in its folder goes.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Own { mut relay, .. } => relay.stop(),
            Self::Other { .. } => Ok(()),
        }
    }
}

/// Measures one row.
pub(crate) async fn measure(row: Row, stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    ensure!(row.fits(stage), "{row} says nothing over {}, or with somebody else's relay", stage.store);
    let figures = match row {
        Row::R1 => idle::measure(stage).await?,
        Row::R2 => pairs::measure(stage).await?,
        Row::R3 => group::all_there(stage).await?,
        Row::R4 => group::few_there(stage).await?,
        Row::R6 => presence::measure(stage).await?,
        Row::R5 => hold::measure(stage).await?,
        Row::R7 => kill::measure(stage).await?,
        Row::R8 => admission::measure(stage).await?,
        Row::R9 => latency::measure(stage).await?,
        Row::T66 => overload::measure(stage).await?,
        Row::All => Vec::new(),
    };
    Ok(figures.into_iter().map(|figure| figure.with("cores", stage.machine.cores)).collect())
}

/// For 100,000 of what was counted.
pub(crate) fn per_100k(total: f64, count: u64) -> f64 {
    total / count.max(1) as f64 * 100_000.0
}
