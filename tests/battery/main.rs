//! The crash battery: real stores, broken on purpose, and counted.
//! Owns: the command line, the verdict. `tests/crash` builds and starts it.
//! Modes: `kill` (SIGKILL under load), `power` (what was not synced is lost: power.c), `damage` (synced data cut or
//! flipped), `full` (a small file system), `stall` and `read-only` (a disk that does not take writes for ten seconds, or at
//! all: disk.c). Targets: `relay` (its store behind the writer's thread), `node` (its store,
//! many batches a sync, outputs after it), `sealed-node` (the same, sealed), `person` (a whole node on a whole relay, which loses its power or is killed while it
//! converses).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test program: whatever is not as expected ends it"
)]

mod chance;
mod child;
mod crash;
mod damage;
mod full;
mod node;
mod person;
mod relay;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use whimbrel_storage_runtime::{EngineKind, open_probe};

use crate::trouble::Trouble;

#[derive(Parser, Debug)]
#[command(name = "crash", about = "Breaks stores and counts what is lost")]
struct Cli {
    /// Whose store.
    #[arg(long)]
    target: Target,
    /// On which engine.
    #[arg(long, value_parser = |text: &str| format!("{text}:").parse::<EngineKind>())]
    store: EngineKind,
    /// How it is broken.
    #[arg(long)]
    mode: Mode,
    /// How often.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Makes the choices: which operations, when it breaks, what survives.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first round: to repeat one of a longer run.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One object on the standard output instead of a line.
    #[arg(long)]
    json: bool,
    /// The preload of `power`, which `tests/crash` builds.
    #[arg(long, env = "WHIMBREL_POWER", hide = true)]
    power: Option<PathBuf>,
    /// The preload of `stall` and `read-only`, which `tests/crash` builds.
    #[arg(long, env = "WHIMBREL_DISK", hide = true)]
    disk: Option<PathBuf>,
    /// Where the small file system of `full` is; `tests/crash` mounts it.
    #[arg(long, env = "WHIMBREL_SMALL_DISK", hide = true)]
    small_disk: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Target {
    Relay,
    Node,
    /// A node whose store is sealed.
    SealedNode,
    Person,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Mode {
    Kill,
    Power,
    Damage,
    Full,
    Stall,
    ReadOnly,
}

/// What is broken, and by whose choice.
#[derive(Clone, Copy, Debug)]
struct Plan {
    target: Target,
    engine: EngineKind,
    rounds: u64,
    from: u64,
    seed: u64,
}

/// Counts by name, and whether they are as promised.
struct Verdict {
    counts: Vec<(&'static str, u64)>,
    kept: bool,
    seconds: u64,
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().and_then(|word| word.into_string().ok()).as_deref() {
        Some("store-probe") => return ExitCode::from(open_probe(&PathBuf::from(args.next().unwrap()))),
        Some("relay") => {
            let args = std::iter::once("whimbrel-relay".into()).chain(args);
            return whimbrel_relay_runtime::cli::main_within(&["relay".into()], args);
        }
        Some("child") => {
            child::main(args.map(|arg| arg.into_string().unwrap()).collect());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let cli = Cli::parse();
    let plan = Plan { target: cli.target, engine: cli.store, rounds: cli.rounds, from: cli.from, seed: cli.seed };
    let begun = Instant::now();
    let power = || cli.power.clone().expect("start it by tests/crash: it builds the preload");
    let disk = || cli.disk.clone().expect("start it by tests/crash: it builds the preload");
    let mut verdict = match cli.mode {
        Mode::Kill if cli.target == Target::Person => person::run(plan, None),
        Mode::Power if cli.target == Target::Person => person::run(plan, Some(&power())),
        _ if cli.target == Target::Person => {
            eprintln!(
                "error: for a person there are kill and power; the other modes are for the stores of relay and node"
            );
            return ExitCode::from(2);
        }
        Mode::Kill => crash::run(plan, None),
        Mode::Power => crash::run(plan, Some(&power())),
        Mode::Damage => damage::run(plan),
        Mode::Stall => trouble::run(plan, Trouble::Stall, &disk()),
        Mode::ReadOnly => trouble::run(plan, Trouble::ReadOnly, &disk()),
        Mode::Full => full::run(plan, &cli.small_disk.expect("start it by tests/crash: it mounts a small disk")),
    };
    verdict.seconds = begun.elapsed().as_secs();
    report(cli.mode, plan, &verdict, cli.json);
    if verdict.kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(mode: Mode, plan: Plan, verdict: &Verdict, json: bool) {
    let mode = mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let target = plan.target.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    if json {
        let mut object = json!({
            "v": 1, "target": target, "store": plan.engine.name(), "mode": mode, "seed": plan.seed, "kept": verdict.kept,
        });
        for (name, count) in &verdict.counts {
            object[*name] = Value::from(*count);
        }
        object["seconds"] = verdict.seconds.into();
        println!("{object}");
    } else {
        let counts: Vec<String> = verdict.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("{target} on {}, {mode}: {} ({} s)", plan.engine.name(), counts.join(", "), verdict.seconds);
    }
}
