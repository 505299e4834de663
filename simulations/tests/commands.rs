//! Calls that are wrong, and commands that are printed to be given again: through the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-sim")).args(args).output().expect("the binary runs")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_soak_of_nothing_is_a_wrong_call_and_no_green_one() {
    for (args, what) in [
        (&["soak", "--hours", "nan"][..], "more than zero"),
        (&["soak", "--hours", "-1"], "more than zero"),
        (&["soak", "--hours", "0"], "more than zero"),
        (&["soak", "--hours", "inf"], "more than zero"),
        (&["soak", "--hours", "1", "--violations", "0"], "'--violations <VIOLATIONS>'"),
        (&["planted", "--hours-max", "nan"], "more than zero"),
        (&["planted", "--hours-max", "0"], "more than zero"),
        (&["shrink", "5", "--runs", "0"], "'--runs <RUNS>'"),
    ] {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(complaint(&output).contains(what), "{args:?}: {}", complaint(&output));
    }
}

#[test]
fn a_seed_that_no_file_can_hold_is_refused_wherever_one_is_taken() {
    let (most, beyond) = ("9223372036854775807", "9223372036854775808");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/first.toml");
    for args in [
        &["run", scenario, "--seed", beyond][..],
        &["soak", "--hours", "1", "--seed", beyond],
        &["replay", beyond],
        &["shrink", beyond],
        &["planted", "--seed", beyond],
    ] {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(complaint(&output).contains(&format!("{beyond} is not in 0..={most}")), "{}", complaint(&output));
    }
    let shown = sim(&["replay", most, "--show"]);
    assert_eq!(shown.status.code(), Some(0), "{}", complaint(&shown));
    assert!(String::from_utf8(shown.stdout).unwrap().contains(&format!("seed = {most}\n")));
    for wrong in ["-1", "soon", "1.5", beyond] {
        let output = sim(&["check", scenario, "--set", &format!("sim.seed={wrong}")]);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("--set sim.seed: {wrong} is no seed: a whole number from 0 to {most}");
        assert!(complaint(&output).contains(&expected), "{}", complaint(&output));
    }
}

#[test]
fn a_list_of_scenarios_elsewhere_says_where_to_ask_for_one() {
    let elsewhere = tempfile::tempdir().unwrap();
    let list = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel-sim"));
        command.arg("list").args(args).current_dir(elsewhere.path()).output().unwrap()
    };
    let output = list(&[]);
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "there is no folder simulations/scenarios here: run this at the top of the repository, or name a folder";
    assert!(complaint(&output).contains(expected), "{}", complaint(&output));
    let output = list(&[concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("first.toml  two federated relays"));
}

#[test]
fn a_run_done_twice_comes_to_what_it_comes_to_once() {
    let summary = |args: &[&str]| {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        let mut summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(summary.as_object_mut().unwrap().remove("wall_s").is_some());
        let promises = summary.as_object_mut().unwrap().remove("promises").unwrap();
        let checked =
            |id: &str| promises.as_array().unwrap().iter().any(|one| one["id"] == id && one["checked"] == true);
        assert!(checked("P1") && checked("P4") && promises.as_array().unwrap().len() == 12);
        (summary, checked("P12"))
    };
    let (once, twice) = (summary(&["replay", "5", "--json"]), summary(&["replay", "5", "--twice", "--json"]));
    assert_eq!((&once.0, once.1, twice.1), (&twice.0, false, true));
    assert_eq!(sim(&["replay", "5", "--twice", "--show"]).status.code(), Some(2));
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;

    /// The arguments of the last command that was printed to be given again.
    fn replay(complaint: &str) -> Vec<String> {
        let (_, command) = complaint.rsplit_once("replay with: whimbrel-sim ").expect("a command");
        command.lines().next().unwrap().split(' ').map(str::to_owned).collect()
    }

    /// The first broken promise that was told, without its numbers.
    fn promise(complaint: &str) -> String {
        let told = complaint.lines().find_map(|line| line.split_once("whimbrel-sim: ").map(|(_, what)| what));
        told.unwrap().chars().filter(|c| !c.is_ascii_digit()).collect()
    }

    #[test]
    fn the_command_a_planted_bug_prints_shows_it_again_and_so_does_what_is_left_of_it_as_a_file() {
        // Which worlds show it moves with all that draws them: the first of ten that does.
        let shown = |seed: &String| {
            let output = sim(&["replay", seed, "--bug", "lose-parked"]);
            (output.status.code() == Some(1)).then(|| (seed.clone(), output))
        };
        let seeds: Vec<String> = (12..22_u64).map(|seed| seed.to_string()).collect();
        let (seed, first) = seeds.iter().find_map(shown).expect("one of ten worlds shows it");
        let command = replay(&complaint(&first));
        assert_eq!(command.join(" "), format!("replay {seed} --crypto standin --bug lose-parked"));
        let again = sim(&command.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((again.status.code(), complaint(&again)), (Some(1), complaint(&first)));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.toml");
        let file = file.to_str().unwrap();
        let shrunk = sim(&["shrink", &seed, "--bug", "lose-parked", "--runs", "6", "--out", file]);
        assert_eq!(shrunk.status.code(), Some(1), "{}", complaint(&shrunk));
        let command = replay(&complaint(&shrunk));
        assert_eq!(command, ["run", file, "--bug", "lose-parked"]);
        let small = sim(&command.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(small.status.code(), Some(1), "{}", complaint(&small));
        let kind = promise(&complaint(&first));
        assert!(complaint(&small).lines().any(|line| promise(line) == kind), "{kind}: {}", complaint(&small));
        let shown_again = format!("replay with: whimbrel-sim run {file} --seed {seed} --bug lose-parked");
        assert!(complaint(&small).contains(&shown_again));
        assert_eq!(sim(&["run", file]).status.code(), Some(0), "without the bug nothing is broken");
    }

    #[test]
    fn a_bug_that_nobody_knows_is_refused_with_those_there_are() {
        let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/first.toml");
        for args in [&["run", scenario, "--bug", "lose-it"][..], &["replay", "1", "--bug", "lose-it"]] {
            let output = sim(args);
            assert_eq!(output.status.code(), Some(2));
            let expected = "lose-it is no planted bug; there are skip-flush, answer-early";
            assert!(complaint(&output).contains(expected), "{}", complaint(&output));
        }
    }
}
