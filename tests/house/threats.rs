//! The rows of docs/threat-model.md that are said to pass, against the names of the tests.
//! Owns: what counts as a test of a row at a level, by the folder it is in. Never: judges whether the test is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::root;

/// Row and level, `("t29", 'S')`.
type Claim = (String, char);

/// A level, by where a test is: what runs real processes, sockets and disks; the simulator; vectors and other
/// implementations; bytes that are struck; and everything else is a unit.
fn level(path: &str, row: &str) -> char {
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    if below(&[
        "relay/runtime/tests/",
        "cli/tests/",
        "tests/",
        "transport/",
        "node/runtime/tests/",
        "storage/runtime/tests/",
    ]) {
        'Y'
    } else if path.starts_with("simulations/") {
        'S'
    } else if path.contains("interop") || path.contains("vectors") {
        'V'
    } else if row == "t52" || path.contains("struck") {
        'F'
    } else {
        'U'
    }
}

/// The name of the function a line begins, if it begins one.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    name.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// Whether the function at this line of a file is a test that every run of the tests runs: by its own attributes, or by its
/// name on a line of a list that a macro makes tests of, as the contract of the engines does.
fn is_run(lines: &[&str], at: usize, name: &str) -> bool {
    let above = lines[..at].iter().rev().map(|line| line.trim_start());
    let attributes: Vec<_> = above.take_while(|line| line.starts_with("#[") || line.starts_with("///")).collect();
    let has = |prefix: &str| attributes.iter().any(|line| line.starts_with(prefix));
    let listed = || lines.iter().any(|line| line.trim().strip_suffix(',') == Some(name));
    !has("#[ignore") && (has("#[test]") || has("#[tokio::test") || listed())
}

/// The functions of a file that are tests named after rows, `t14_t37_...` after two.
fn rows(source: &str) -> BTreeSet<String> {
    let lines: Vec<_> = source.lines().collect();
    let mut found = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line).filter(|name| is_run(&lines, at, name)) else { continue };
        let is_row = |part: &&str| {
            part.len() == 3 && part.starts_with('t') && part[1..].bytes().all(|byte| byte.is_ascii_digit())
        };
        found.extend(name.split('_').take_while(is_row).map(str::to_owned));
    }
    found
}

fn walk(dir: &Path, found: &mut BTreeMap<Claim, BTreeSet<String>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            // What names tests here is no test of a row.
            if name != "target" && name != "house" && !name.starts_with('.') {
                walk(&path, found);
            }
        } else if name.ends_with(".rs") {
            let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            for row in rows(&std::fs::read_to_string(&path).unwrap()) {
                let level = level(&place, &row);
                found.entry((row, level)).or_default().insert(place.clone());
            }
        }
    }
}

/// What the page says: rows `| T29 | S Y | ... |`.
fn claimed() -> BTreeSet<Claim> {
    let page = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let mut claims = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", row, levels, ..] = cells[..] else { continue };
        if row.len() != 3 || !row.starts_with('T') || !row[1..].bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for level in levels.split_whitespace() {
            let [level] = level.chars().collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!("USYVF".contains(level), "{line}");
            assert!(claims.insert((row.to_lowercase(), level)), "{line}: twice");
        }
    }
    claims
}

#[test]
fn every_row_that_is_said_to_pass_has_a_test_of_its_name_at_that_level_and_every_such_test_a_row() {
    let claimed = claimed();
    let mut found = BTreeMap::new();
    walk(&root(), &mut found);
    assert!(claimed.len() > 50, "the table is not where it is looked for: {claimed:?}");
    let untested: Vec<_> = claimed.iter().filter(|claim| !found.contains_key(*claim)).collect();
    assert!(untested.is_empty(), "said to pass, without a test of that name: {untested:?}");
    let unsaid: BTreeMap<_, _> = found.iter().filter(|(claim, _)| !claimed.contains(*claim)).collect();
    assert!(unsaid.is_empty(), "tests of rows and levels that docs/threat-model.md does not name: {unsaid:?}");
}

#[test]
fn names_and_places_are_read_as_they_are_meant() {
    let all = |source: &str| rows(source).into_iter().collect::<Vec<_>>();
    let tests =
        "#[test]\nfn t14_t37_a_hub() {}\n    #[tokio::test(flavor = \"multi_thread\")]\n    async fn t29_many() {}\n";
    assert_eq!(all(tests), ["t14", "t29", "t37"]);
    assert_eq!(all("#[test]\nfn t5_no() {}\n#[test]\nfn total() {}"), [""; 0]);
    // What no run of the tests runs.
    for source in [
        "fn t14_helper() {}",
        "#[test]\nfn other() {}\n\nfn t14_helper() {}",
        "#[test]\n// fn t14_once() {}\nfn other() {}",
        "#[test]\n#[ignore = \"long\"]\nfn t14_long() {}",
        "#[ignore]\n#[tokio::test]\nasync fn t14_long() {}",
        "#[test]\nfn other() { let _ = \"fn t14_text() {}\"; }",
        "#[cfg(test)]\nfn t14_helper() {}",
    ] {
        assert_eq!(all(source), [""; 0], "{source}");
    }
    assert_eq!(all("fn t14_one(make: Make) {\n}\ntests! {\n    t14_one,\n}"), ["t14"]);
    assert_eq!(level("relay/runtime/tests/process/wake.rs", "t17"), 'Y');
    assert_eq!(level("simulations/src/world/stories.rs", "t01"), 'S');
    assert_eq!(level("crypto/src/contract/struck.rs", "t52"), 'F');
    assert_eq!(level("crypto/src/contract/struck.rs", "t34"), 'F');
    assert_eq!(level("crypto/src/contract/public.rs", "t34"), 'U');
}
