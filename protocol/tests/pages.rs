//! The pages of docs/protocol and the code say the same numbers.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use whimbrel_protocol::Frame;
use whimbrel_protocol::refusal::RefusalCode;

fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/protocol");
    std::fs::read_to_string(docs.join(name)).unwrap()
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024 * 1024) { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

#[test]
fn every_kind_stands_in_the_table_with_its_number_and_size() {
    let page = page("frames.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.ends_with(".md) |")).collect();
    for (number, name) in Frame::KINDS {
        let found = rows.iter().any(|row| {
            row.starts_with(&format!("| {number} | {name} |"))
                && row.contains(&format!("| {} |", size(Frame::body_bytes_max(*number))))
        });
        assert!(found, "frames.md does not list {number} {name} {}", size(Frame::body_bytes_max(*number)));
    }
    assert_eq!(rows.len(), Frame::KINDS.len(), "frames.md lists a kind that is not there");
}

#[test]
fn every_refusal_stands_in_the_table_with_its_number() {
    let page = page("frames.md");
    for code in RefusalCode::ALL {
        let row = format!("| {} | {code:?} |", code.number());
        assert!(page.lines().any(|line| line.starts_with(&row)), "frames.md does not list {row}");
    }
}

#[test]
fn every_page_numbers_its_clauses_without_gaps() {
    let mut pages = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        // The index has none.
        let Some(name) = name.strip_suffix(".md").filter(|name| *name != "README") else { continue };
        pages += 1;
        let page = page(&format!("{name}.md"));
        let numbers: Vec<usize> = page.lines().filter_map(|line| line.split_once(". ")?.0.parse().ok()).collect();
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{name}.md");
        assert!(!numbers.is_empty(), "{name}.md has no clauses");
    }
    assert!(pages > 20, "{pages} pages");
}
