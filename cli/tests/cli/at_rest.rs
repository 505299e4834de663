//! What lies on the disk of somebody whose store is sealed, and who can open it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;

use super::daemon::Daemon;
use super::secrets::in_files;
use super::stage::{Ended, Person, Relay, copy_folder};

const PASSPHRASE: &str = "seven herons at the weir";

/// Two people on a relay; the first one's store is sealed from the beginning.
struct Scene {
    temp: tempfile::TempDir,
    _relay: Relay,
    alice: Person,
    bob: Person,
    file: PathBuf,
}

fn scene(sealed: bool) -> Scene {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("weir.example", &temp.path().join("relay"));
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    let file = temp.path().join("passphrase");
    fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    let mut args = vec!["init", "--name", "alice", "--relay", &relay.link];
    let path = file.display().to_string();
    if sealed {
        args.extend(["--passphrase-file", &path]);
    }
    let made = alice.run(&args);
    assert_eq!(made.code, 0, "{made:?}");
    bob.init("bobolink", &relay);
    Scene { temp, _relay: relay, alice, bob, file }
}

impl Scene {
    /// A command of Alice's that is told the passphrase.
    fn alice(&self, args: &[&str]) -> Ended {
        let file = self.file.display().to_string();
        self.alice.run(&[&["--json", "--passphrase-file", &file], args].concat())
    }

    fn befriend(&self) {
        let invite = self.alice(&["invite", "new"]);
        assert_eq!(invite.code, 0, "{invite:?}");
        let link = invite.values()[0]["link"].as_str().unwrap().to_owned();
        let joined = self.bob.run_with(&["join", "-"], link.as_bytes());
        assert_eq!(joined.code, 0, "{joined:?}");
    }

    /// Bob writes, Alice reads and answers.
    fn talk(&self, said: &str, answer: &str) {
        self.bob.json(&["send", "alice", said]);
        let mut heard = self.alice(&["inbox"]);
        for _ in 0..super::stage::ROUNDS_MAX {
            if !heard.values().is_empty() {
                break;
            }
            heard = self.alice(&["inbox"]);
        }
        assert_eq!(heard.values()[0]["text"], said, "{heard:?}");
        let sent = self.alice(&["send", "bobolink", answer]);
        assert_eq!(sent.code, 0, "{sent:?}");
        assert_eq!(self.bob.hears()["text"], answer);
    }

    fn home(&self) -> PathBuf {
        self.alice.home.join("data")
    }

    /// The accounts, as bytes.
    fn accounts(&self) -> Vec<Vec<u8>> {
        let own = |ended: Ended| ended.values()[0]["account"].as_str().unwrap().to_owned();
        let ids = [own(self.alice(&["id", "show"])), own(self.bob.run(&["--json", "id", "show"]))];
        ids.iter()
            .map(|id| (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect())
            .collect()
    }

    fn unlock(&self) -> Ended {
        self.alice(&["unlock"])
    }
}

#[test]
fn t46_no_text_name_or_account_is_in_any_file_of_a_sealed_home() {
    let scene = scene(true);
    scene.befriend();
    let (said, answer) = ("the third lock is dry", "then walk by the tow path");
    scene.talk(said, answer);
    let mut hidden: Vec<Vec<u8>> =
        [said, answer, "alice", "bobolink", "weir.example", PASSPHRASE].map(Vec::from).into();
    hidden.extend(scene.accounts());
    for what in &hidden {
        assert_eq!(in_files(&scene.home(), what), Vec::<String>::new(), "{:?}", String::from_utf8_lossy(what));
    }
    // The search finds what is there: Bob's store is not sealed.
    let bob = scene.bob.home.join("data");
    for what in hidden.iter().filter(|what| **what != PASSPHRASE.as_bytes()) {
        assert!(!in_files(&bob, what).is_empty(), "{:?}", String::from_utf8_lossy(what));
    }
    let log = scene.alice(&["log", "bobolink"]);
    let texts: Vec<_> = log.values().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, [said, answer]);
}

#[test]
fn t46_a_sealed_store_does_not_open_without_its_passphrase() {
    let scene = scene(true);
    let locked = scene.alice.run(&["--json", "id", "show"]);
    assert_eq!((locked.code, locked.error()["code"].as_str()), (4, Some("locked")), "{locked:?}");
    let wrong = scene.temp.path().join("wrong");
    for (text, code, name) in [("seven herons", 4, "wrong_passphrase"), ("", 2, "usage")] {
        fs::write(&wrong, text).unwrap();
        let refused = scene.alice.run(&["--json", "--passphrase-file", wrong.to_str().unwrap(), "id", "show"]);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (code, Some(name)), "{refused:?}");
    }
    assert_eq!(scene.alice(&["id", "show"]).code, 0);
    // What was stolen is a copy of the folder, and the thief has no more than that.
    let copy = Person::new(scene.temp.path().join("thief"));
    copy_folder(&scene.home(), &copy.home.join("data"));
    assert_eq!(copy.run(&["--json", "inbox"]).code, 4);
    fs::remove_file(copy.home.join("data/key")).unwrap();
    assert_ne!(copy.run(&["--json", "inbox"]).code, 0);
}

#[test]
fn a_store_is_sealed_later_and_its_passphrase_changed() {
    let scene = scene(false);
    scene.befriend();
    let (said, answer) = ("the mill is let", "to whom?");
    scene.talk(said, answer);
    assert!(!in_files(&scene.home(), said.as_bytes()).is_empty(), "it is not sealed yet");
    let unasked = scene.alice.run(&["--json", "passphrase", "set"]);
    assert_eq!((unasked.code, unasked.error()["code"].as_str()), (4, Some("no_terminal")), "{unasked:?}");
    let sealed = scene.alice(&["passphrase", "set"]);
    assert_eq!(sealed.code, 0, "{sealed:?}");
    assert!(sealed.values()[0]["rows"].as_u64().unwrap() > 10);
    for what in [said, answer, "bobolink"] {
        assert_eq!(in_files(&scene.home(), what.as_bytes()), Vec::<String>::new(), "{what}");
    }
    let again = scene.alice(&["passphrase", "set"]);
    assert_eq!((again.code, again.error()["code"].as_str()), (2, Some("sealed")), "{again:?}");
    let log = scene.alice(&["log", "bobolink"]);
    assert_eq!(log.values().len(), 2, "{log:?}");
    let checked = scene.alice(&["passphrase", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");

    let new = scene.temp.path().join("new");
    fs::write(&new, "another weir").unwrap();
    let new = new.display().to_string();
    let changed = scene.alice(&["passphrase", "change", "--new-passphrase-file", &new]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let old = scene.alice(&["id", "show"]);
    assert_eq!((old.code, old.error()["code"].as_str()), (4, Some("wrong_passphrase")), "{old:?}");
    assert_eq!(scene.alice.run(&["--passphrase-file", &new, "id", "show"]).code, 0);
}

#[test]
fn an_unlocked_store_opens_until_it_is_locked_and_lock_ends_the_daemon() {
    let scene = scene(true);
    let unlocked = scene.unlock();
    if unlocked.code != 0 {
        // Some containers are not let near the kernel's key store: then that is said, and the file still opens it.
        assert_eq!(unlocked.error()["code"], "keyring", "{unlocked:?}");
        assert_eq!(scene.alice(&["id", "show"]).code, 0);
        return;
    }
    assert_eq!(scene.alice.run(&["id", "show"]).code, 0);
    let daemon = Daemon::run(&scene.alice);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let locked = scene.alice.run(&["--json", "lock"]);
    assert_eq!(locked.code, 0, "{locked:?}");
    assert_eq!(daemon.ended(), Some(0), "it closed its store in order");
    let refused = scene.alice.run(&["--json", "id", "show"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("locked")), "{refused:?}");
    // Nothing to forget is no mistake.
    assert_eq!(scene.alice.run(&["lock"]).code, 0);
}

#[test]
fn a_key_file_that_was_cut_or_changed_is_told_of_and_opens_nothing() {
    let scene = scene(true);
    let key = scene.home().join("key");
    let whole = fs::read(&key).unwrap();
    for len in [0, 10, whole.len() - 1] {
        fs::write(&key, &whole[..len]).unwrap();
        let refused = scene.alice(&["id", "show"]);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (1, Some("key_file")), "{refused:?}");
    }
    fs::write(&key, &whole).unwrap();
    assert_eq!(scene.alice(&["id", "show"]).code, 0);
}
