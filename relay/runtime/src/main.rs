//! The binary `whimbrel-relay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    whimbrel_relay_runtime::cli::main(std::env::args_os())
}
