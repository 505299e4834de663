//! `whimbrel-sim`: the command line of the simulator.

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use whimbrel_sim::cli::{Args, USAGE, complain};

fn main() -> ExitCode {
    // Logs only when asked for by RUST_LOG: they are for whoever looks into one run.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match Args::parse().act() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(USAGE)
        }
    }
}
