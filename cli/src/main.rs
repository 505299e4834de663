//! The binary `whimbrel`: everything is in the library, where tests reach it.

// Tests of the whole workspace are built with every feature; whatever is shipped is built for release.
const _: () = assert!(
    cfg!(debug_assertions) || !whimbrel_storage::planted::PLANTABLE,
    "a release build of a shipped program has no bugs on purpose: leave the feature `planted` out"
);

fn main() -> std::process::ExitCode {
    whimbrel_cli::main()
}
