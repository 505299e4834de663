//! The same seed gives the same run: in two processes, whatever goes wrong in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/storm.toml");
/// A seed whose world has groups whose members change, and is small.
const DRAWN: &str = "8";

fn run(program: &Path, seed: &str, sets: &[&str]) -> serde_json::Value {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args = ["run", STORM, "--seed", seed, "--json"].into_iter().chain(sets);
    let output = Command::new(program).args(args).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Without what is a different reading each time.
fn comparable(mut summary: serde_json::Value) -> serde_json::Value {
    summary.as_object_mut().unwrap().remove("wall_s");
    summary
}

#[test]
fn p12_two_processes_agree_under_every_kind_of_fault() {
    let program = Path::new(env!("CARGO_BIN_EXE_whimbrel-sim"));
    let one = comparable(run(program, "5", &[]));
    assert_eq!(one, comparable(run(program, "5", &[])));
    assert_ne!(one["trace_hash"], run(program, "6", &[])["trace_hash"]);
    assert!(one["crashes"].as_u64().unwrap() > 5 && one["partitions"].as_u64() == Some(2), "{one}");
}

#[test]
fn p12_two_processes_agree_on_a_world_that_is_drawn_and_on_groups_that_change_in_it() {
    let replay = |crypto: &str| {
        let args = ["replay", DRAWN, "--crypto", crypto, "--json"];
        let output = Command::new(env!("CARGO_BIN_EXE_whimbrel-sim")).args(args).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        comparable(serde_json::from_slice(&output.stdout).unwrap())
    };
    for crypto in ["standin", "real"] {
        let one = replay(crypto);
        assert!(one["struck"]["circles"].as_u64().unwrap() > 0, "{one}");
        assert_eq!(one, replay(crypto));
    }
}

#[test]
fn p12_two_processes_agree_with_real_cryptography_under_every_kind_of_fault() {
    let program = Path::new(env!("CARGO_BIN_EXE_whimbrel-sim"));
    let sets = ["sim.crypto=real", "friends.random=0", "workload.every=40 s"];
    let summary = || comparable(run(program, "5", &sets));
    assert_eq!(summary(), summary());
}
