//! A slice of the load generator, with few people for a short time: that it measures and loses nothing, never how fast.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_whimbrel-load");

fn load(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The figures of a run that must go well.
fn figures(args: &[&str]) -> Vec<Value> {
    let relay = Path::new(PROGRAM).with_file_name("whimbrel-relay");
    assert!(relay.is_file(), "{} is built by `cargo test --workspace`", relay.display());
    let output = load(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

#[test]
fn messages_between_pairs_all_arrive_and_are_measured_beside_their_floor() {
    let figures = figures(&["R2", "--seconds", "2", "--pairs", "4", "--json"]);
    assert_eq!(figures.len(), 1);
    let figure = &figures[0];
    assert_eq!(
        (&figure["id"], &figure["unit"], &figure["store"], &figure["lost"]),
        (&"R2".into(), &"CPU s/100k".into(), &"sled".into(), &0.into())
    );
    for key in ["value", "floor", "ratio_to_floor", "budget", "p50_ms", "p99_ms", "messages", "rss_bytes"] {
        assert!(is_positive(&figure[key]), "{key} is {}", figure[key]);
    }
    assert!(figure["p50_ms"].as_f64() <= figure["p99_ms"].as_f64());
    assert!(figure["within"].is_boolean());
    assert_eq!(figure["pairs"], 4);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_handed_out_after_it() {
    let figures = figures(&["R7", "--messages", "500", "--no-floor", "--json"]);
    assert_eq!(figures.len(), 1);
    assert_eq!((&figures[0]["id"], &figures[0]["lost"]), (&"R7".into(), &0.into()));
    assert!(figures[0]["messages"].as_u64() >= Some(500));
    assert!(figures[0]["delivered"].as_u64() >= figures[0]["messages"].as_u64());
}

#[test]
fn a_message_to_a_group_reaches_all_who_are_there_and_takes_one_place_of_the_log() {
    // More than an opening brings: the others come with commits.
    for (row, online) in [("R3", 220), ("R4", 10)] {
        let figures = figures(&[row, "--members", "221", "--seconds", "2", "--store", "memory", "--json"]);
        assert_eq!(figures.len(), 2, "{row}");
        for (figure, in_flight) in figures.iter().zip([1, 16]) {
            assert_eq!((&figure["members"], &figure["online"]), (&221.into(), &online.into()));
            assert_eq!((&figure["in_flight"], &figure["lost"]), (&in_flight.into(), &0.into()));
            assert_eq!(figure["appends_per_message"], 1.0, "{row}");
            for key in ["value", "floor", "messages", "p50_ms"] {
                assert!(is_positive(&figure[key]), "{row}: {key} is {}", figure[key]);
            }
        }
    }
}

#[test]
fn every_change_of_presence_is_seen_by_every_friend() {
    let args = ["R6", "--seconds", "1", "--people", "64", "--store", "memory", "--no-floor", "--json"];
    let figures = figures(&args);
    let ids: Vec<_> = figures.iter().map(|figure| figure["id"].as_str().unwrap_or_default()).collect();
    assert_eq!(ids, ["R6.share", "R6.sparse", "R6.change"]);
    assert!(figures[0]["heartbeats"].as_u64() > figures[1]["heartbeats"].as_u64());
    assert!(figures[1]["heartbeats"].as_u64() >= Some(64));
    assert_eq!((&figures[2]["changes"], &figures[2]["lost"]), (&100.into(), &0.into()));
}

#[test]
fn a_missing_relay_is_told_by_name() {
    let output = load(&["R2", "--relay-bin", "/nonexistent/whimbrel-relay", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("/nonexistent/whimbrel-relay") && told.contains("cargo build"), "{told}");
}

#[test]
fn what_memory_holds_is_not_expected_back_after_a_kill() {
    let relay = ["--relay-bin", PROGRAM];
    let output = load(&["R7", "--store", "memory", relay[0], relay[1]]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("memory"));
}
