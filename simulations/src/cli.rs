//! The command line: run a scenario, check it, list what there is.
//! Owns: arguments, what is printed, exit codes: 0 well, 1 a promise was broken, 2 the scenario or the call is wrong.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::clock::Stopwatch;
use crate::engine::Seed;
use crate::scenario::Scenario;
use crate::summary::Summary;
use crate::world::World;

/// Every promise held.
pub const WELL: u8 = 0;
/// A promise was broken.
pub const BROKEN: u8 = 1;
/// The scenario or the call is wrong.
pub const USAGE: u8 = 2;

/// Where scenarios are when nobody says.
const SCENARIOS: &str = "simulations/scenarios";

/// Runs Whimbrel's nodes and relays under virtual time.
#[derive(Debug, Parser)]
#[command(name = "whimbrel-sim", version)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario and judges it.
    Run(Run),
    /// Checks a scenario without running it.
    Check {
        /// The scenario.
        file: PathBuf,
        /// Overrides a key, like `--set network.loss=0.01`.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Lists scenarios.
    List {
        /// The folder they are in.
        #[arg(default_value = SCENARIOS)]
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The scenario.
    file: PathBuf,
    /// What everything is drawn from, instead of the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Overrides a key, like `--set network.loss=0.01`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes `summary.json`, without the time the run took, and `scenario.toml`, as it was run, to this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Args {
    /// Does what was asked. Returns the exit code.
    ///
    /// # Errors
    /// The scenario or a file is at fault: exit code [`USAGE`].
    pub fn act(self) -> anyhow::Result<u8> {
        match self.verb {
            Verb::Run(run) => run.act(),
            Verb::Check { file, sets } => {
                let scenario = read(&file, &sets)?;
                say(&format!(
                    "{}: well formed; {} relays, {} nodes\n",
                    file.display(),
                    scenario.relay.len(),
                    scenario.nodes()
                ))?;
                Ok(WELL)
            }
            Verb::List { folder } => list(&folder),
        }
    }
}

impl Run {
    fn act(self) -> anyhow::Result<u8> {
        let mut scenario = read(&self.file, &self.sets)?;
        if let Some(seed) = self.seed {
            scenario.sim.seed = seed;
        }
        let seed = scenario.sim.seed;
        let watch = Stopwatch::start();
        let mut world = World::from_scenario(&scenario, Seed::from(seed))?;
        world.run_scenario(scenario.sim.duration.0, scenario.sim.settle.0);
        let (verdict, account) = world.close();
        // The name alone: where the file lies on this machine is nobody's business and no part of the result.
        let file = self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy();
        let summary = Summary::of(&file, seed, &verdict, &account, watch.seconds());
        if let Some(folder) = &self.out {
            write_out(folder, &summary, &scenario)?;
        }
        let text = if self.json { serde_json::to_string(&summary)? + "\n" } else { summary.for_people() };
        say(&text)?;
        if verdict.violations == 0 {
            return Ok(WELL);
        }
        for violation in &verdict.examples {
            complain(&violation.to_string());
        }
        complain(&format!("{} broken promises; replay with: {}", verdict.violations, self.replay(seed)));
        Ok(BROKEN)
    }

    /// The one command that does the same again.
    fn replay(&self, seed: u64) -> String {
        // Quoted as shells read it; a quote inside ends the quoted part, stands escaped, and begins another.
        let quoted = |set: &String| format!(" --set '{}'", set.replace('\'', r"'\''"));
        let sets: String = self.sets.iter().map(quoted).collect();
        format!("whimbrel-sim run {} --seed {seed}{sets}", self.file.display())
    }
}

fn read(file: &Path, sets: &[String]) -> anyhow::Result<Scenario> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    Ok(Scenario::read(&name, &text, sets)?)
}

fn write_out(folder: &Path, summary: &Summary, scenario: &Scenario) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    write("summary.json", serde_json::to_string_pretty(&summary.reproducible())? + "\n")?;
    write("scenario.toml", toml::to_string(scenario)?)
}

fn list(folder: &Path) -> anyhow::Result<u8> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for file in files {
        let about = match read(&file, &[]) {
            Ok(scenario) => scenario.sim.about,
            Err(error) => format!("does not read: {error}"),
        };
        say(&format!("{}  {about}\n", file.display()))?;
    }
    Ok(WELL)
}

fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("the output is closed")
}

/// Tells people something went wrong. A closed error output is no reason to stop.
pub fn complain(text: &str) {
    use std::io::Write as _;
    let _closed = writeln!(std::io::stderr(), "whimbrel-sim: {text}");
}
