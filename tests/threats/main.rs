//! Threats to stores, by their numbers: a short slice of the crash battery under the name of each. `tests/crash` runs as
//! many rounds as one has time for; a failure prints what to run again.
//! T59's real relay on a stalled and on a read-only disk is among the tests of its process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const TARGETS: [&str; 2] = ["relay", "node"];
/// A sealed store stands above a node's: what breaks the one must break neither.
const SEALED: &str = "sealed-node";
const STORES: [&str; 2] = ["sled", "fjall"];

/// Runs the battery and gives its counts.
fn battery(target: &str, store: &str, mode: &str, rounds: u64) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rounds_text = rounds.to_string();
    let args = ["--target", target, "--store", store, "--mode", mode, "--rounds", &rounds_text, "--json"];
    let output = Command::new(root.join("tests/crash")).args(args).current_dir(&root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let noise = String::from_utf8_lossy(&output.stderr);
    println!("{}", said.trim());
    let Ok(counts) = serde_json::from_str::<Value>(said.trim()) else {
        panic!("tests/crash {}: {} {said}{noise}", args.join(" "), output.status)
    };
    assert_eq!(counts["rounds"], rounds, "{counts}");
    assert!(output.status.success() && counts["kept"] == true, "{counts}\n{noise}");
    counts
}

fn zero(counts: &Value, names: &[&str]) {
    for name in names {
        assert_eq!(counts[name], 0, "{name}: {counts}");
    }
}

fn on_every_store(targets: &[&str], mode: &str, rounds: u64, none: &[&str]) {
    for target in targets {
        for store in STORES {
            zero(&battery(target, store, mode, rounds), none);
        }
    }
}

#[test]
fn t56_a_killed_relay_or_node_opens_without_help_and_has_all_it_acknowledged_whole() {
    on_every_store(&TARGETS, "kill", 6, &["lost", "torn", "unopened"]);
    on_every_store(&[SEALED], "kill", 4, &["lost", "torn", "unopened"]);
    on_every_store(&["person"], "kill", 5, &["lost", "torn", "unopened"]);
}

#[test]
fn t57_power_loss_and_failed_syncs_take_nothing_acknowledged() {
    // Most of the first power cuts come while files are being made, before anything was acknowledged.
    on_every_store(&TARGETS, "power", 20, &["lost", "torn", "unopened"]);
    on_every_store(&[SEALED], "power", 8, &["lost", "torn", "unopened"]);
    on_every_store(&["person"], "power", 5, &["lost", "torn", "unopened"]);
}

#[test]
fn t58_cut_and_flipped_bytes_are_found_and_named_and_the_backup_restores() {
    for target in TARGETS.into_iter().chain([SEALED]) {
        for store in STORES {
            let counts = battery(target, store, "damage", 6);
            zero(&counts, &["silent"]);
            assert_eq!(counts["restored"], 6, "{counts}");
        }
    }
}

/// Needs the right to mount a small file system; where there is none, this fails and says so.
#[test]
fn t59_a_full_disk_refuses_clearly_loses_nothing_and_serves_again() {
    on_every_store(&["relay"], "full", 2, &["lost", "torn", "unopened"]);
}

#[test]
fn t59_a_disk_that_stalls_ten_seconds_delays_acknowledgements_and_takes_none_back() {
    on_every_store(&TARGETS, "stall", 1, &["unbacked", "lost", "torn", "unopened"]);
}

#[test]
fn t59_a_disk_that_becomes_read_only_stops_the_store_and_takes_nothing_acknowledged() {
    on_every_store(&TARGETS, "read-only", 2, &["unbacked", "lost", "torn", "unopened"]);
}
