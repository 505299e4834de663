//! A backup, from the terminal that makes it to the one that takes it back.

use std::fs;
use std::path::{Path, PathBuf};

use super::secrets::in_files;
use super::stage::{Ended, Pair, Person, copy_folder};

/// What is said in a backup's scene, and by whom.
const SAID: [(&str, &str); 3] =
    [("alice", "low water at noon"), ("bob", "then the ford is dry"), ("alice", "bring boots")];

struct Scene {
    pair: Pair,
    file: String,
    passphrase: String,
}

fn scene() -> Scene {
    let pair = Pair::new();
    // Nothing was said yet.
    copy_folder(&pair.alice.home.join("data"), &pair.temp.path().join("before/data"));
    for (who, text) in SAID {
        let (from, to, name) =
            if who == "alice" { (&pair.alice, &pair.bob, "bob") } else { (&pair.bob, &pair.alice, "alice") };
        from.json(&["send", name, text]);
        assert_eq!(to.hears()["text"], text);
    }
    pair.alice.json(&["chat", "label", "bob", "ferryman"]);
    let passphrase = pair.temp.path().join("passphrase");
    fs::write(&passphrase, "wet boots\n").unwrap();
    let (file, passphrase) =
        (pair.temp.path().join("alice.age").display().to_string(), passphrase.display().to_string());
    Scene { pair, file, passphrase }
}

impl Scene {
    fn backup(&self, who: &Person, what: &str, file: &str) -> Ended {
        who.run(&["--json", "backup", what, file, "--backup-passphrase-file", &self.passphrase])
    }

    fn texts(&self, who: &Person) -> Vec<String> {
        who.json(&["log", "bob"]).iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn text_that_a_profile_lost_comes_back_from_a_backup_and_what_is_there_stays() {
    let scene = scene();
    let made = scene.backup(&scene.pair.alice, "create", &scene.file);
    assert_eq!(made.code, 0, "{made:?}");
    let summary = &made.values()[0];
    assert_eq!((summary["contacts"].as_u64(), summary["messages"].as_u64()), (Some(1), Some(3)), "{summary}");
    // A file is not written over.
    assert_eq!(scene.backup(&scene.pair.alice, "create", &scene.file).code, 2);
    for (_, text) in SAID {
        assert!(
            in_files(Path::new(&scene.pair.temp.path().join("alice.age")).parent().unwrap(), text.as_bytes())
                .iter()
                .all(|found| !found.ends_with("alice.age"))
        );
    }
    let checked = scene.backup(&scene.pair.bob, "check", &scene.file);
    assert_eq!(checked.values()[0]["account"], summary["account"], "anybody with the passphrase can read it");
    let before = scene.texts(&scene.pair.alice);
    let back = scene.backup(&scene.pair.alice, "restore", &scene.file);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(scene.texts(&scene.pair.alice), before, "what is there stays, once");
    let lost = Person::new(scene.pair.temp.path().join("before"));
    let back = scene.backup(&lost, "restore", &scene.file);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(scene.texts(&lost), before);
}

#[test]
fn t62_a_backup_that_is_cut_altered_or_another_accounts_changes_nothing() {
    let scene = scene();
    let (alice, bob) = (&scene.pair.alice, &scene.pair.bob);
    assert_eq!(scene.backup(alice, "create", &scene.file).code, 0);
    let whole = fs::read(&scene.file).unwrap();
    let bad = scene.pair.temp.path().join("bad.age").display().to_string();
    let log = |who: &Person, name: &str| who.json(&["log", name]);
    let before = (log(alice, "bob"), log(bob, "alice"));
    let refused = |who: &Person, bytes: &[u8], exit: i32, code: &str| {
        fs::write(&bad, bytes).unwrap();
        let ended = scene.backup(who, "restore", &bad);
        assert_eq!((ended.code, ended.error()["code"].as_str()), (exit, Some(code)), "{ended:?}");
    };
    let mut altered = whole.clone();
    let last = altered.len() - 20;
    altered[last] ^= 1;
    refused(alice, &altered, 5, "backup_altered");
    refused(alice, &whole[..whole.len() - 100], 5, "backup_altered");
    refused(alice, b"no backup at all", 5, "backup_altered");
    let newer = String::from_utf8_lossy(&whole[..21]).replace("v1", "v2");
    refused(alice, &[newer.as_bytes(), &whole[21..]].concat(), 2, "backup_newer");
    refused(bob, &whole, 2, "other_account");
    fs::write(&scene.passphrase, "dry boots").unwrap();
    refused(alice, &whole, 4, "wrong_passphrase");
    assert_eq!((log(alice, "bob"), log(bob, "alice")), before);
}

/// The format is not ours alone. `tests/backup/open.py` is another implementation of it from end to end; `tests/run` installs
/// what it needs and names the interpreter.
#[test]
fn t62_a_backup_opens_with_an_independent_implementation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = std::env::var_os("WHIMBREL_PYTHON").map_or(root.join("target/python/bin/python"), PathBuf::from);
    assert!(python.exists(), "no interpreter with pyrage and cbor2: tests/run makes one, or WHIMBREL_PYTHON names it");
    let scene = scene();
    assert_eq!(scene.backup(&scene.pair.alice, "create", &scene.file).code, 0);
    let script = root.join("tests/backup/open.py");
    let opened =
        std::process::Command::new(python).arg(script).args([&scene.file, &scene.passphrase]).output().unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let opened: serde_json::Value = serde_json::from_slice(&opened.stdout).unwrap();
    let texts: Vec<_> = opened["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert_eq!(texts, SAID.map(|(_, text)| text));
    assert_eq!(opened["account"], scene.pair.alice.json(&["id", "show"])[0]["account"]);
    assert_eq!((opened["contacts"].as_u64(), opened["labels"][0].as_str()), (Some(1), Some("ferryman")));
}
