//! One word, one file name; every file says what it owns.

use std::path::{Path, PathBuf};

use super::root;

/// Every Rust source below a folder, with its text.
pub(crate) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source below {}", folder.display());
    found
}

#[test]
fn each_service_has_its_file_on_every_side() {
    for (row, files) in [
        (
            "reception",
            [
                "protocol/src/reception.rs",
                "node/src/reception.rs",
                "relay/src/reception.rs",
                "docs/protocol/reception.md",
            ],
        ),
        ("user service", ["protocol/src/user.rs", "node/src/user.rs", "relay/src/user.rs", "docs/protocol/user.md"]),
        (
            "thread store",
            ["protocol/src/thread.rs", "node/src/thread.rs", "relay/src/thread.rs", "docs/protocol/thread.md"],
        ),
        ("push", ["protocol/src/push.rs", "node/src/push.rs", "relay/src/push.rs", "docs/protocol/push.md"]),
        ("hold", ["protocol/src/hold.rs", "node/src/hold.rs", "relay/src/hold.rs", "docs/protocol/hold.md"]),
        (
            "federation",
            [
                "protocol/src/federation.rs",
                "relay/src/federation.rs",
                "relay/src/flow/federate.rs",
                "docs/protocol/federation.md",
            ],
        ),
        (
            "direct path",
            ["protocol/src/direct.rs", "node/src/direct.rs", "node/runtime/src/direct.rs", "docs/protocol/direct.md"],
        ),
    ] {
        for file in files {
            let path = root().join(file);
            let folder = path.with_extension("").join("mod.rs");
            assert!(path.is_file() || folder.is_file(), "{row}: {file} is missing");
        }
    }
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for folder in [
        "protocol/src",
        "storage/src",
        "storage/runtime/src",
        "crypto/src",
        "transport/src",
        "node/src",
        "node/runtime/src",
        "relay/src",
        "relay/runtime/src",
        "cli/src",
        "simulations/src",
        "simulations/load/src",
    ] {
        for (path, text) in sources(&root().join(folder)) {
            let test_file = path.file_name().is_some_and(|name| name == "tests.rs");
            assert!(test_file || text.starts_with("//! "), "{} has no head", path.display());
        }
    }
}

#[test]
fn no_room_imports_a_sibling_room() {
    let rooms = ["reception", "user", "thread", "push", "hold", "federation"];
    for core in ["node/src", "relay/src"] {
        for room in rooms {
            let file = root().join(core).join(format!("{room}.rs"));
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for sibling in rooms.iter().filter(|sibling| **sibling != room) {
                let import = format!("crate::{sibling}::");
                assert!(!code.contains(&import), "{} imports its sibling {sibling}", file.display());
            }
        }
    }
}

#[test]
fn no_file_is_a_house_of_its_own() {
    for folder in ["protocol/src", "storage", "crypto/src", "transport/src", "node", "relay", "cli/src", "simulations"]
    {
        for (path, text) in sources(&root().join(folder)) {
            assert!(text.lines().count() <= 800, "{} has over 800 lines", path.display());
        }
    }
}

#[test]
fn every_page_that_the_sources_name_is_there() {
    for folder in ["protocol", "storage", "crypto", "transport", "node", "relay", "cli", "simulations", "tests"] {
        for (path, text) in sources(&root().join(folder)) {
            for page in text.split("docs/").skip(1) {
                let end = page.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c))).unwrap_or(page.len());
                let page = page[..end].trim_end_matches('.');
                let named = page.is_empty() || root().join("docs").join(page).exists();
                assert!(named || page.ends_with('X'), "{} names docs/{page}", path.display());
            }
        }
    }
}
