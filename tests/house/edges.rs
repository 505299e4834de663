//! Which crate may know which, and what must never be below a core.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::{metadata, root};

/// Each crate of the house and the crates of the house it may use.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("whimbrel-protocol", &[][..]),
        ("whimbrel-storage", &[]),
        ("whimbrel-storage-runtime", &["whimbrel-storage"]),
        ("whimbrel-crypto", &["whimbrel-protocol", "whimbrel-storage"]),
        ("whimbrel-transport", &["whimbrel-protocol", "whimbrel-crypto"]),
        ("whimbrel-node", &["whimbrel-protocol", "whimbrel-storage", "whimbrel-crypto"]),
        ("whimbrel-relay", &["whimbrel-protocol", "whimbrel-storage", "whimbrel-crypto"]),
        (
            "whimbrel-node-runtime",
            &[
                "whimbrel-protocol",
                "whimbrel-storage",
                "whimbrel-storage-runtime",
                "whimbrel-crypto",
                "whimbrel-transport",
                "whimbrel-node",
            ],
        ),
        (
            "whimbrel-relay-runtime",
            &[
                "whimbrel-protocol",
                "whimbrel-storage",
                "whimbrel-storage-runtime",
                "whimbrel-crypto",
                "whimbrel-transport",
                "whimbrel-relay",
            ],
        ),
        (
            "whimbrel-cli",
            &[
                "whimbrel-protocol",
                "whimbrel-storage",
                "whimbrel-storage-runtime",
                "whimbrel-crypto",
                "whimbrel-node",
                "whimbrel-node-runtime",
                "whimbrel-relay-runtime",
            ],
        ),
        (
            "whimbrel-sim",
            &["whimbrel-protocol", "whimbrel-storage", "whimbrel-crypto", "whimbrel-node", "whimbrel-relay"],
        ),
        // It measures relays from outside, as processes: it knows their words, their TLS, and nothing of what is in them. It
        // has rows in memory, to make a group with.
        ("whimbrel-load", &["whimbrel-protocol", "whimbrel-storage", "whimbrel-crypto", "whimbrel-transport"]),
        ("whimbrel-tests", &[]),
    ])
}

/// What makes something a runtime: none of it may be below a core or the simulator.
const RUNTIME_PACKAGES: &[&str] = &[
    "tokio",
    "quinn",
    "quinn-proto",
    "rustls",
    "libp2p",
    "libp2p-core",
    "sled",
    "fjall",
    "redb",
    "rusqlite",
    "tokio-postgres",
    "async-nats",
    "axum",
    "hyper",
    "mio",
    "async-io",
    "socket2",
    "futures-timer",
];

#[test]
fn crates_know_only_the_crates_below_them() {
    let allowed = allowed();
    let workspace: BTreeSet<&str> = metadata().workspace_packages().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(workspace, allowed.keys().copied().collect(), "a crate of the house has no rule");
    for package in metadata().workspace_packages() {
        let may = allowed[package.name.as_str()];
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let own = name == package.name.as_str();
            let test_only = dependency.kind == cargo_metadata::DependencyKind::Development;
            if workspace.contains(name) && !own && !test_only {
                assert!(may.contains(&name), "{} must not use {name}", package.name);
            }
        }
    }
}

#[test]
fn no_runtime_is_below_a_core() {
    for core in
        ["whimbrel-protocol", "whimbrel-storage", "whimbrel-crypto", "whimbrel-node", "whimbrel-relay", "whimbrel-sim"]
    {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "-e", "normal", "--prefix", "none", "--format", "{p}", "--locked", "--offline", "-p", core])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        let below: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(below.contains(core), "cargo tree did not list {core}");
        for package in RUNTIME_PACKAGES {
            assert!(!below.contains(package), "{package} is below {core}");
        }
    }
}

#[test]
fn cores_read_no_clock_and_no_chance() {
    let forbidden = [
        "Instant::now",
        "SystemTime::now",
        "thread_rng",
        "OsRng",
        "getrandom",
        "HashMap",
        "HashSet",
        "std::thread",
        "std::fs",
        "std::net",
    ];
    for core in ["protocol/src", "storage/src", "crypto/src", "node/src", "relay/src"] {
        for (path, text) in super::rooms::sources(&root().join(core)) {
            // What only tests compile may wait and read files.
            let of_tests = ["tests", "tests.rs", "contract.rs", "harness", "harness.rs"];
            if path.components().any(|part| of_tests.iter().any(|name| part.as_os_str() == *name)) {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in forbidden {
                    assert!(!code.contains(word), "{}:{}: {word} in a core", path.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn only_simulations_and_tests_name_the_stand_in_engine() {
    for shipped in ["node/runtime", "relay", "cli", "transport", "storage"] {
        for (path, text) in super::rooms::sources(&root().join(shipped)) {
            // A relay's harness is compiled for tests alone, and plays the members.
            if path.components().any(|part| ["harness", "harness.rs"].iter().any(|name| part.as_os_str() == *name)) {
                continue;
            }
            assert!(!text.contains("StandIn") && !text.contains("stand_in"), "{} names it", path.display());
        }
    }
    for package in metadata().workspace_packages() {
        let asks = package.dependencies.iter().any(|dependency| {
            dependency.kind != cargo_metadata::DependencyKind::Development
                && dependency.features.iter().any(|feature| feature == "stand-in")
        });
        assert!(!asks || package.name.as_str() == "whimbrel-sim", "{} asks for it", package.name);
    }
}
