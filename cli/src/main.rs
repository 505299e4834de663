//! The binary `whimbrel`: everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    whimbrel_cli::main()
}
