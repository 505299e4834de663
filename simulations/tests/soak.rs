//! The soak, its replay and its shrinking, as people run them: through the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-sim")).args(args).output().expect("the binary runs")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        unreachable!("no JSON: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

#[test]
fn a_soak_prints_its_figures_and_the_promises_it_does_not_check() {
    for (crypto, hours) in [("standin", "1"), ("real", "0.2")] {
        let output = sim(&["soak", "--hours", hours, "--crypto", crypto, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let sum = json(&output);
        for key in ["cluster_hours", "delivered", "crashes", "events", "wall_s", "core_hours"] {
            assert!(sum[key].as_f64().unwrap() > 0.0, "{key}: {sum}");
        }
        // A single world may be spared these.
        assert!(sum["torn_writes"].is_u64() && sum["partitions"].is_u64());
        assert_eq!((sum["violations"].as_u64(), sum["examples"].as_array().unwrap().len()), (Some(0), 0), "{sum}");
        let promises = sum["promises"].as_array().unwrap();
        assert_eq!(promises.len(), 12);
        let unchecked = |id: &str| promises.iter().any(|one| one["id"] == id && one["checked"] == false);
        let happened = |what: &str| sum["struck"][what].as_u64().unwrap() > 0;
        assert!(!unchecked("P6"));
        assert_eq!(unchecked("P10"), !happened("partings") && !happened("hidings"));
        assert!(unchecked("P8") && unchecked("P9") && !unchecked("P1") && !unchecked("P4") && !unchecked("P12"));
    }
}

#[test]
fn a_seed_replays_to_the_same_trace_in_another_process_and_its_world_can_be_kept_as_a_file() {
    let hash = |args: &[&str]| {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        json(&output)["trace_hash"].as_str().unwrap().to_owned()
    };
    let replayed = hash(&["replay", "5", "--json"]);
    assert_eq!(replayed, hash(&["replay", "5", "--json"]));
    assert_ne!(replayed, hash(&["replay", "6", "--json"]));
    let shown = sim(&["replay", "5", "--show"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("five.toml");
    std::fs::write(&file, &shown.stdout).unwrap();
    assert_eq!(replayed, hash(&["run", file.to_str().unwrap(), "--json"]));
}

#[test]
fn a_seed_that_breaks_nothing_has_nothing_to_shrink() {
    let output = sim(&["shrink", "5"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(0) && said.starts_with("seed 5 breaks nothing;") && said.contains("--twice"));
}

#[test]
fn what_a_soak_found_once_stays_mended() {
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds")).unwrap() {
        let file = file.unwrap().path();
        let output = sim(&["run", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
}
