//! Licences, bans and sources by `deny.toml`, without a network: what `cargo deny check` would say of them.

use serde::Deserialize;
use spdx::{Expression, LicenseReq};

use super::{metadata, root};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

fn deny() -> Deny {
    toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed: Vec<LicenseReq> = deny().licenses.allow.iter().map(|text| parse_one(text)).collect();
    for package in &metadata().packages {
        let licence = package.license.as_ref().unwrap_or_else(|| panic!("{} names no licence", package.name));
        let licence = Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        assert!(licence.evaluate(|wanted| allowed.contains(wanted)), "{} is under {licence}", package.name);
    }
}

#[test]
fn the_licence_check_refuses_what_is_not_allowed() {
    let allowed: Vec<LicenseReq> = deny().licenses.allow.iter().map(|text| parse_one(text)).collect();
    let passes = |text| Expression::parse(text).unwrap().evaluate(|wanted| allowed.contains(wanted));
    assert!(passes("MIT OR GPL-3.0-only"));
    assert!(!passes("GPL-3.0-only"));
    assert!(!passes("MIT AND AGPL-3.0-only"));
}

fn parse_one(text: &str) -> LicenseReq {
    let expression = Expression::parse(text).unwrap();
    let requirements: Vec<_> = expression.requirements().map(|found| found.req.clone()).collect();
    assert_eq!(requirements.len(), 1, "{text} is not one licence");
    requirements[0].clone()
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    for banned in deny().bans.deny {
        let found = metadata().packages.iter().any(|package| package.name.as_str() == banned.name);
        assert!(!found, "{} is banned: {}", banned.name, banned.reason);
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let sources = deny().sources;
    assert_eq!((sources.unknown_registry.as_str(), sources.unknown_git.as_str()), ("deny", "deny"));
    for package in &metadata().packages {
        let Some(source) = &package.source else { continue };
        assert!(source.is_crates_io(), "{} comes from {source}", package.name);
    }
}
