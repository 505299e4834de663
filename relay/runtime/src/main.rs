//! The binary `whimbrel-relay`.

use std::process::ExitCode;

// Tests of the whole workspace are built with every feature; whatever is shipped is built for release.
const _: () = assert!(
    cfg!(debug_assertions) || !whimbrel_storage::planted::PLANTABLE,
    "a release build of a shipped program has no bugs on purpose: leave the feature `planted` out"
);

fn main() -> ExitCode {
    whimbrel_relay_runtime::cli::main(std::env::args_os())
}
