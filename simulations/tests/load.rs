//! `whimbrel-sim load` hands over to the load generator beside it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_whimbrel-sim");

#[test]
fn load_is_handed_over_with_its_arguments_and_its_exit_code() {
    let generator = Path::new(PROGRAM).with_file_name("whimbrel-load");
    assert!(generator.is_file(), "{} is built by `cargo test --workspace`", generator.display());
    let output = Command::new(PROGRAM).args(["load", "R99", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("possible values: R1"));
    let output = Command::new(PROGRAM).args(["load", "--help"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("--no-floor"));
}

#[test]
fn a_missing_load_generator_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("whimbrel-sim");
    std::fs::copy(PROGRAM, &alone).unwrap();
    let output = Command::new(&alone).args(["load", "R2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("whimbrel-load is not there"), "{told}");
}
