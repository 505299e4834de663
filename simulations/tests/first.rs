//! The scenario every change is run against, as people run it: through the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/first.toml");

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-sim")).args(args).output().expect("the binary runs")
}

fn run(seed: &str, out: &Path) -> (serde_json::Value, Vec<u8>) {
    let output = sim(&["run", SCENARIO, "--seed", seed, "--json", "--out", out.to_str().unwrap()]);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{complaints}");
    (serde_json::from_slice(&output.stdout).unwrap(), std::fs::read(out.join("summary.json")).unwrap())
}

#[test]
fn two_processes_agree_on_everything_and_another_seed_differs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, one_bytes) = run("7", &folder.path().join("one"));
    let (two, two_bytes) = run("7", &folder.path().join("two"));
    let (other, _) = run("8", &folder.path().join("other"));
    assert_eq!(one_bytes, two_bytes);
    assert_eq!(one["trace_hash"], two["trace_hash"]);
    assert_ne!(one["trace_hash"], other["trace_hash"]);
    for summary in [&one, &other] {
        assert_eq!((summary["lost"].as_u64(), summary["duplicates"].as_u64()), (Some(0), Some(0)));
        assert!(summary["sent"].as_u64().unwrap() > 500);
        assert_eq!(summary["sent"], summary["shown"]);
        assert_eq!(summary["relay_crashes"].as_u64(), Some(1));
        assert!(summary["wall_s"].as_f64().unwrap() > 0.0);
        for path in ["relay", "federation", "direct"] {
            assert!(summary["paths"][path]["shown"].as_u64().unwrap() > 0, "nothing went by the {path} path");
        }
    }
    assert!(!String::from_utf8(one_bytes).unwrap().contains("wall_s"));
}

#[test]
fn real_cryptography_reproduces_too() {
    let hash = || {
        let sets = ["--set", "sim.crypto=real", "--set", "sim.duration=100 s", "--set", "fault=[]"];
        let output = sim(&[&["run", SCENARIO, "--seed", "3", "--json"][..], &sets].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["lost"].as_u64(), Some(0));
        summary["trace_hash"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(), hash());
}

#[test]
fn a_broken_promise_has_its_exit_code_and_prints_the_one_command_that_repeats_it() {
    // Nobody reaches anybody: the people who are to meet do not.
    let sets = ["--set", "network.core=20 s", "--set", "sim.settle=1 s", "--set", "fault=[]"];
    let output = sim(&[&["run", SCENARIO, "--seed", "3"][..], &sets].concat());
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("never got to take up the invite"), "{complaint}");
    let command = format!("whimbrel-sim run {SCENARIO} --seed 3 --set 'network.core=20 s' --set 'sim.settle=1 s'");
    assert!(complaint.contains(&format!("replay with: {command}")), "{complaint}");
}

#[test]
fn a_wrong_scenario_is_refused_with_its_line_and_the_usage_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let text = std::fs::read_to_string(SCENARIO).unwrap();
    std::fs::write(&file, text.replacen("settle =", "setle =", 1)).unwrap();
    for verb in ["run", "check"] {
        let output = sim(&[verb, file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("wrong.toml, line 7: unknown field `setle`"), "{complaint}");
    }
    let output = sim(&["check", SCENARIO, "--set", "network.losss=0.1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--set network.losss: unknown field `losss`"));
    assert_eq!(sim(&["check", SCENARIO]).status.code(), Some(0));
    assert_eq!(sim(&["check", "no-such-file.toml"]).status.code(), Some(2));
}

#[test]
fn scenarios_are_listed_with_what_they_are_about() {
    let output = sim(&["list", concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("first.toml  two federated relays"));
}
