//! The command line: run a scenario, check it, list what there is; soak, replay, shrink; judge the judge.
//! Owns: arguments, what is printed, exit codes: 0 well, 1 a promise was broken, 2 the scenario or the call is wrong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::clock::Stopwatch;
use crate::engine::Seed;
use crate::faults::Plan;
use crate::judge::Seen;
use crate::ran::Ran;
use crate::scenario::{Crypto, SEED_MAX, Scenario};
use crate::shrink::shrink;
use crate::soak::{self, Case, Orders};
use crate::summary::Summary;

/// Every promise held.
pub const WELL: u8 = 0;
/// A promise was broken.
pub const BROKEN: u8 = 1;
/// The scenario or the call is wrong.
pub const USAGE: u8 = 2;

/// Where scenarios are when nobody says: in the repository, whose top is where most commands are given.
const SCENARIOS: &str = "simulations/scenarios";
/// So many broken promises of one world of a soak are told in words; the rest are counted.
const WORDS_MAX: usize = 8;

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
    /// Runs worlds drawn from seeds, under faults, until so much time has passed in them.
    Soak(Soak),
    /// Runs one world of a soak again, and prints what was broken in it.
    Replay(Replay),
    /// Finds the fewest faults with which a seed still breaks a promise, and prints them as a scenario.
    Shrink {
        /// The world to look for.
        #[command(flatten)]
        case: CaseArgs,
        /// Runs it may take.
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Runs each twice and compares, for what a single run does not show.
        #[arg(long)]
        twice: bool,
        /// Writes the whole scenario to this file, for `whimbrel-sim run`.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Plants one bug after the other and soaks until the judge finds each.
    Planted(Planted),
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
        /// The folder they are in, from where this is run.
        #[arg(default_value = SCENARIOS)]
        folder: PathBuf,
    },
    /// Measures a real relay under load; its own arguments: `whimbrel-sim load --help`.
    #[command(disable_help_flag = true)]
    Load {
        /// As `whimbrel-load` takes them: a row, and what to do with it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ROW")]
        args: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The scenario.
    file: PathBuf,
    /// What everything is drawn from, instead of the scenario's seed.
    #[arg(long, value_parser = seed())]
    seed: Option<u64>,
    /// Overrides a key, like `--set network.loss=0.01`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Plants a bug; a build with the feature `planted` only.
    #[arg(long)]
    bug: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes `summary.json`, without the time the run took, and `scenario.toml`, as it was run, to this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CaseArgs {
    /// The seed, as a soak printed it.
    #[arg(value_parser = seed())]
    seed: u64,
    /// How threads are sealed: `standin` or `real`.
    #[arg(long, default_value = "standin", value_parser = crypto)]
    crypto: Crypto,
    /// Plants a bug; a build with the feature `planted` only.
    #[arg(long)]
    bug: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Soak {
    /// Cluster-hours to run: virtual hours of whole worlds of 3 relays and 30 nodes or more.
    #[arg(long, value_parser = hours, allow_negative_numbers = true)]
    hours: f64,
    /// The first seed; each world takes the next.
    #[arg(long, default_value_t = 1, value_parser = seed())]
    seed: u64,
    /// How threads are sealed: `standin` or `real`.
    #[arg(long, default_value = "standin", value_parser = crypto)]
    crypto: Crypto,
    /// Stops when so many seeds have broken a promise.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    violations: u32,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Replay {
    /// The world to run.
    #[command(flatten)]
    case: CaseArgs,
    /// Prints the world and its faults as a scenario instead of running it.
    #[arg(long)]
    show: bool,
    /// Runs it twice and compares.
    #[arg(long, conflicts_with = "show")]
    twice: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Planted {
    /// The cluster-hours each bug may survive.
    #[arg(long, default_value_t = 500.0, value_parser = hours, allow_negative_numbers = true)]
    hours_max: f64,
    /// This bug alone; may be given more than once.
    #[arg(long)]
    bug: Vec<String>,
    /// The first seed for each.
    #[arg(long, default_value_t = 1, value_parser = seed())]
    seed: u64,
    /// How threads are sealed: `standin` or `real`.
    #[arg(long, default_value = "standin", value_parser = crypto)]
    crypto: Crypto,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn crypto(text: &str) -> Result<Crypto, String> {
    match text {
        "standin" => Ok(Crypto::Standin),
        "real" => Ok(Crypto::Real),
        _ => Err("standin or real".to_owned()),
    }
}

/// Seeds that a scenario's file can hold: TOML has no larger numbers.
fn seed() -> impl clap::builder::IntoResettable<clap::builder::ValueParser> {
    clap::value_parser!(u64).range(0..=SEED_MAX)
}

/// A soak of no time at all would find nothing, and look well.
fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours > 0.0);
    hours.ok_or_else(|| "a number of hours is more than zero".to_owned())
}

/// Runs something with a bug planted, if one is named; `arguments` is how the call began.
#[cfg(feature = "planted")]
fn with_bug<T>(name: Option<&str>, _arguments: &str, run: impl FnOnce() -> T) -> anyhow::Result<T> {
    match name {
        None => Ok(run()),
        Some(name) => Ok(crate::planted::with(bug(name)?, run)),
    }
}

#[cfg(not(feature = "planted"))]
fn with_bug<T>(name: Option<&str>, arguments: &str, run: impl FnOnce() -> T) -> anyhow::Result<T> {
    match name {
        None => Ok(run()),
        Some(name) => anyhow::bail!(without_bugs(&format!("{arguments} --bug {name}"))),
    }
}

#[cfg(feature = "planted")]
fn bug(name: &str) -> anyhow::Result<crate::planted::Bug> {
    use crate::planted::{named, names};
    named(name).with_context(|| format!("{name} is no planted bug; there are {}", names()))
}

impl Args {
    /// Does what was asked. Returns the exit code.
    ///
    /// # Errors
    /// The scenario or a file is at fault: exit code [`USAGE`].
    pub fn act(self) -> anyhow::Result<u8> {
        match self.verb {
            Verb::Run(run) => run.act(),
            Verb::Soak(soak) => soak.act(),
            Verb::Replay(replay) => replay.act(),
            Verb::Shrink { case, runs, twice, out } => case.shrink(runs, twice, out.as_deref()),
            Verb::Planted(planted) => planted.act(),
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
            Verb::Load { args } => load(&args),
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
        let file = self.file.display();
        let (ran, command) = with_bug(self.bug.as_deref(), &format!("run {file}"), || {
            let ran = Ran::of(&scenario, Seed::from(seed), &scenario.plan());
            ran.map(|ran| {
                let command = ran.again(&self.command(seed));
                (ran, command)
            })
        })??;
        if let Some(account) = &ran.account {
            // The name alone: where the file lies on this machine is nobody's business and no part of the result.
            let file = self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy();
            let mut seen = Seen { real: scenario.sim.crypto == Crypto::Real, ..Seen::default() };
            seen.saw(&scenario.plan(), &account.struck(), ran.lines);
            let summary = Summary::of((&file, seed), &ran.verdict, account, seen, watch.seconds());
            if let Some(folder) = &self.out {
                write_out(folder, &summary, &scenario)?;
            }
            say(&if self.json { serde_json::to_string(&summary)? + "\n" } else { summary.for_people() })?;
        }
        broke(&ran, usize::MAX, &command);
        Ok(if ran.broke() { BROKEN } else { WELL })
    }

    /// The command that runs the same world.
    fn command(&self, seed: u64) -> String {
        // Quoted as shells read it; a quote inside ends the quoted part, stands escaped, and begins another.
        let quoted = |set: &String| format!(" --set '{}'", set.replace('\'', r"'\''"));
        let sets: String = self.sets.iter().map(quoted).collect();
        format!("whimbrel-sim run {} --seed {seed}{sets}", self.file.display())
    }
}

impl CaseArgs {
    const fn case(&self) -> Case {
        Case { seed: self.seed, crypto: self.crypto }
    }

    /// Runs something, with this case's bug planted if it has one.
    fn with_bug<T>(&self, run: impl FnOnce() -> T) -> anyhow::Result<T> {
        with_bug(self.bug.as_deref(), &format!("replay {}", self.seed), run)
    }

    fn shrink(&self, runs_max: u32, twice: bool, out: Option<&Path>) -> anyhow::Result<u8> {
        let case = self.case();
        let scenario = case.scenario()?;
        let plan = case.plan(&scenario);
        let run = |plan: &Plan| match twice {
            true => case.run_twice_under(&scenario, plan),
            false => case.run_under(&scenario, plan),
        };
        let first = self.with_bug(|| run(&plan))?;
        let Some(violation) = first.verdict.examples.first().filter(|_| first.broke()) else {
            let twice = if twice { ", run twice" } else { "; what only two runs show takes --twice" };
            say(&format!("seed {} breaks nothing{twice}\n", case.seed))?;
            return Ok(WELL);
        };
        complain(&format!("{} faults; {violation}", plan.faults.len()));
        let (small, runs) = self.with_bug(|| {
            shrink(&plan, runs_max, |part| {
                // Another promise that happens to break is another failure: what is left is to show the first one.
                let broke = run(part).like(violation).is_some();
                if broke {
                    complain(&format!("{} faults still break it", part.faults.len()));
                }
                broke
            })
        })?;
        let (last, again) = self.with_bug(|| {
            let last = run(&small);
            let again = out.map(|file| last.again(&format!("whimbrel-sim run {}", file.display())));
            (last, again)
        })?;
        if let Some(violation) = last.like(violation) {
            complain(&format!("{} faults after {runs} runs: {violation}", small.faults.len()));
        }
        if runs >= runs_max {
            complain(&format!("the search ended after {runs} runs: a smaller list may break it, too (--runs)"));
        }
        let whole = Scenario { fault: small.faults.clone(), ..scenario };
        if let Some(file) = out {
            std::fs::write(file, toml::to_string(&whole)?)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        again.into_iter().for_each(|command| complain(&format!("replay with: {command}")));
        say(&toml::to_string(&small)?)?;
        Ok(BROKEN)
    }
}

/// What broke, so many with their words, and the command that shows it.
fn broke(ran: &Ran, words_max: usize, command: &str) {
    for violation in ran.verdict.examples.iter().take(words_max) {
        complain(&violation.to_string());
    }
    if ran.broke() {
        complain(&format!("{} broken promises; replay with: {command}", ran.verdict.violations));
    }
}

impl Soak {
    fn act(self) -> anyhow::Result<u8> {
        let Self { hours, seed, crypto, violations, json } = self;
        let orders = Orders { hours, seed, crypto, broken_max: violations as usize, sample: true };
        let sum = soak::soak(orders, |case, ran, sum| {
            broke(ran, WORDS_MAX, &case.command(ran));
            if sum.runs.is_multiple_of(20) {
                complain(&format!(
                    "{:.1} of {hours} cluster-hours, {:.0} a core-hour, {} broken promises",
                    sum.cluster_hours, sum.cluster_hours_per_core_hour, sum.violations
                ));
            }
        })?;
        say(&if json { serde_json::to_string(&sum)? + "\n" } else { sum.for_people() })?;
        Ok(if sum.violations == 0 { WELL } else { BROKEN })
    }
}

impl Replay {
    fn act(self) -> anyhow::Result<u8> {
        let case = self.case.case();
        let scenario = case.scenario()?;
        let plan = case.plan(&scenario);
        if self.show {
            say(&toml::to_string(&Scenario { fault: plan.faults, ..scenario })?)?;
            return Ok(WELL);
        }
        let watch = Stopwatch::start();
        let (ran, command) = self.case.with_bug(|| {
            let ran = match self.twice {
                true => case.run_twice_under(&scenario, &plan),
                false => case.run_under(&scenario, &plan),
            };
            let command = case.command(&ran);
            (ran, command)
        })?;
        if let Some(account) = &ran.account {
            let mut seen = Seen { real: case.crypto == Crypto::Real, replayed: self.twice, ..Seen::default() };
            seen.saw(&plan, &account.struck(), ran.lines);
            let summary = Summary::of(("soak", case.seed), &ran.verdict, account, seen, watch.seconds());
            say(&if self.json { serde_json::to_string(&summary)? + "\n" } else { summary.for_people() })?;
        }
        broke(&ran, usize::MAX, &command);
        Ok(if ran.broke() { BROKEN } else { WELL })
    }
}

#[cfg(not(feature = "planted"))]
fn without_bugs(arguments: &str) -> String {
    format!(
        "this build has no bugs on purpose; run: cargo run --release -p whimbrel-sim --features planted -- {arguments}"
    )
}

#[cfg(not(feature = "planted"))]
impl Planted {
    fn act(self) -> anyhow::Result<u8> {
        anyhow::bail!(without_bugs("planted --json"))
    }
}

#[cfg(feature = "planted")]
impl Planted {
    fn act(self) -> anyhow::Result<u8> {
        use crate::planted::{Bug, run};
        let mut bugs = self.bug.iter().map(|name| bug(name)).collect::<anyhow::Result<Vec<_>>>()?;
        if bugs.is_empty() {
            bugs = Bug::ALL.to_vec();
        }
        let planted = run(&bugs, self.hours_max, self.seed, self.crypto, |fate| {
            let found = fate.by.as_ref().map_or("survived".to_owned(), |(what, replay)| format!("{what} ({replay})"));
            complain(&format!("{}: {:.2} cluster-hours, {:.1} s: {found}", fate.bug, fate.cluster_hours, fate.wall_s));
        })?;
        let text = if self.json {
            serde_json::to_string(&planted)? + "\n"
        } else {
            format!("planted {}, caught {}\n", planted.planted, planted.caught)
        };
        say(&text)?;
        Ok(if planted.caught == planted.planted { WELL } else { BROKEN })
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
    if !folder.is_dir() {
        let folder = folder.display();
        anyhow::bail!("there is no folder {folder} here: run this at the top of the repository, or name a folder");
    }
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

/// Hands over to the load generator, a program of its own: sockets and clocks have no place in the simulator's.
fn load(args: &[OsString]) -> anyhow::Result<u8> {
    let program = std::env::current_exe().context("cannot find the running program")?.with_file_name("whimbrel-load");
    let missing = || format!("{} is not there; build it with `cargo build --release`", program.display());
    let status = Command::new(&program).args(args).status().with_context(missing)?;
    // Ended by a signal, it has measured nothing.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(USAGE))
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
