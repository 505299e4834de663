//! `whimbrel-load`: what a relay costs, beside what the bare libraries cost.
//! Owns: starting the one and the others as processes of their own, synthetic people, the figures.
//! Never: reaches into a relay. It is the shipped program, told by its configuration, measured from outside.
//! Map: `cli` (arguments, exit codes), `rows` (one file for each row), `crowd` (people), `child`, `relay`, `bare` and `engine` (the
//! processes measured), `machine` (cores, what the system counts), `figure` (what is printed).
//! Rules: docs/research/load.md. `whimbrel-sim load` starts this program.

mod bare;
mod child;
mod cli;
mod clock;
mod crowd;
mod engine;
mod figure;
mod machine;
mod relay;
mod rows;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match cli::run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            cli::complain(&format!("{error:#}"));
            ExitCode::from(cli::USAGE)
        }
    }
}
