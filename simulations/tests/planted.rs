//! Bugs on purpose: that they cannot reach a shipped program, and that the judge finds them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().other_options(vec!["--offline".to_owned()]).exec().unwrap()
}

#[test]
fn only_the_simulators_own_feature_which_is_no_default_plants_bugs() {
    let metadata = metadata();
    let mut with_feature = BTreeSet::new();
    for package in &metadata.packages {
        for (feature, enables) in &package.features {
            let plants = feature == "planted" || enables.iter().any(|enabled| enabled.contains("planted"));
            if plants {
                with_feature.insert((package.name.to_string(), feature.clone()));
            }
        }
        let default = package.features.get("default").map(Vec::as_slice).unwrap_or_default();
        assert!(default.is_empty(), "{} has default features: do any of them plant bugs?", package.name);
        for dependency in &package.dependencies {
            let asks = dependency.features.iter().any(|feature| feature == "planted");
            assert!(!asks, "{} asks for the planted bugs of {}", package.name, dependency.name);
            let shipped = package.name.as_str() != "whimbrel-sim" && package.name.as_str() != "whimbrel-tests";
            let sim = dependency.name == "whimbrel-sim" && dependency.kind == DependencyKind::Normal;
            assert!(!(shipped && sim), "{} is built on the simulator", package.name);
        }
    }
    let expected = [("whimbrel-sim", "planted"), ("whimbrel-storage", "planted")];
    assert_eq!(with_feature, expected.map(|(package, feature)| (package.to_owned(), feature.to_owned())).into());
}

#[test]
fn a_release_build_of_a_shipped_program_in_which_bugs_can_be_planted_does_not_compile() {
    let assertion = "const _: () = assert!(\n    cfg!(debug_assertions) || !whimbrel_storage::planted::PLANTABLE,";
    let mut shipped = BTreeSet::new();
    for package in &metadata().packages {
        // Those are a researcher's, and run no node or relay of anybody.
        if ["whimbrel-sim", "whimbrel-load"].contains(&package.name.as_str()) {
            continue;
        }
        for program in package.targets.iter().filter(|target| target.is_bin()) {
            let main = std::fs::read_to_string(&program.src_path).unwrap();
            assert!(main.contains(assertion), "{} lacks the assertion", program.src_path);
            shipped.insert(program.name.clone());
        }
    }
    assert_eq!(shipped, ["whimbrel", "whimbrel-relay"].map(str::to_owned).into());
    assert_eq!(whimbrel_storage::planted::PLANTABLE, cfg!(feature = "planted"));
}

#[cfg(feature = "planted")]
mod caught {
    use whimbrel_sim::planted::{named, run};
    use whimbrel_sim::scenario::Crypto;

    /// Two of all, one of a node and one of a relay, as a part of every test run; the rest by command.
    #[test]
    fn a_node_that_loses_what_it_parked_and_a_relay_that_trims_eagerly_are_caught() {
        let bugs = ["lose-parked", "trim-eagerly"].map(|name| named(name).unwrap());
        // From a seed whose worlds are small: those of the first take six minutes in a debug build.
        let planted = run(&bugs, 20.0, 13, Crypto::Standin, |_| ()).unwrap();
        assert_eq!((planted.planted, planted.caught), (2, 2), "{:?}", planted.survivors);
    }

    #[test]
    fn a_bug_is_out_again_when_its_run_is_over() {
        let bug = named("trim-eagerly").unwrap();
        whimbrel_sim::planted::with(bug, || assert!(whimbrel_storage::planted::active(bug)));
        assert!(!whimbrel_storage::planted::active(bug));
    }
}
