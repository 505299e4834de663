//! A data folder that is put back as it was on another day: found, silent, and whole again by the commands it names.

use super::stage::{Pair, Person, Relay, copy_folder};

/// The copy of a person's folder takes the place of the present one.
fn put_back(person: &Person, copy: &Person) {
    std::fs::remove_dir_all(&person.home).unwrap();
    copy_folder(&copy.home, &person.home);
}

#[test]
fn a_folder_put_back_from_a_copy_sends_nothing_and_says_what_makes_it_whole() {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("a.example", &temp.path().join("relay"));
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    let made = alice.json(&["init", "--name", "alice", "--relay", &relay.link]);
    let words = made.iter().find_map(|line| line["recovery"].as_array()).unwrap();
    let words = words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ");
    alice.invites(&bob, "bob");
    alice.json(&["send", "bob", "before the copy"]);
    assert_eq!(bob.hears()["text"], "before the copy");

    let copy = Person::new(temp.path().join("copy"));
    copy_folder(&alice.home, &copy.home);
    // A copy that nobody went on from is the folder.
    put_back(&alice, &copy);
    alice.json(&["send", "bob", "from the copy"]);
    assert_eq!(bob.hears()["text"], "from the copy");
    // Another one that is left behind is not.
    put_back(&alice, &copy);
    for args in [&["--json", "send", "bob", "by keys that were used"][..], &["--json", "inbox"]] {
        let refused = alice.run(args);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("old_copy")), "{refused:?}");
    }
    let said = alice.run(&["send", "bob", "once more"]);
    assert!(said.err.contains("backup create") && said.err.contains("id recover"), "{said:?}");
    let status = alice.run(&["status"]);
    assert!(status.out.contains("old copy"), "{status:?}");
    assert!(alice.run(&["log", "bob"]).out.contains("before the copy"), "what is here can be read");

    // What it names makes it whole.
    let (file, passphrase) = (temp.path().join("backup"), temp.path().join("passphrase"));
    std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    let (file, passphrase) = (file.to_str().unwrap(), passphrase.to_str().unwrap());
    let sealed = ["--backup-passphrase-file", passphrase];
    let kept = alice.run(&[&["backup", "create", file][..], &sealed].concat());
    assert_eq!(kept.code, 0, "{kept:?}");
    let anew = Person::new(temp.path().join("anew"));
    let recover = ["--json", "id", "recover", "--name", "alice", "--relay", &relay.link];
    let back = anew.run_with(&recover, words.as_bytes());
    assert_eq!(back.code, 0, "{back:?}");
    let restored = anew.run(&[&["backup", "restore", file][..], &sealed].concat());
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(anew.run(&["log", "bob"]).out.contains("before the copy"));
    let met = bob.run_with(&["--json", "join", "-"], anew.run(&["invite", "new"]).out.as_bytes());
    assert_eq!(met.code, 0, "{met:?}");
    anew.json(&["send", "bob", "here I am again"]);
    assert_eq!(bob.hears()["text"], "here I am again");
    let gone = alice.run(&["--json", "inbox"]);
    assert_eq!(gone.code, 4, "{gone:?}");
}

#[test]
fn a_log_is_seen_in_the_relays_tree_and_the_history_of_keys_is_shown() {
    let Pair { alice, bob, .. } = &Pair::new();
    alice.json(&["send", "bob", "hello"]);
    assert_eq!(bob.hears()["text"], "hello");
    let found = |person: &Person| {
        (0..super::stage::ROUNDS_MAX).any(|_| {
            person.json(&["inbox"]);
            person.json(&["status"])[0]["relay"]["log"] == "found"
        })
    };
    assert!(found(alice) && found(bob));
    let status = &alice.json(&["status"])[0];
    assert_eq!(status["two_faces"].as_array().map(Vec::len), Some(0), "{status}");
    assert!(status["relay"]["entries"].as_u64() >= Some(2), "{status}");
    assert!(alice.run(&["status"]).out.contains("is in the relay's tree"));
    let shown = &bob.json(&["contact", "show", "alice"])[0];
    assert_eq!((shown["log"].as_str(), shown["relay_two_faces"].as_bool()), (Some("found"), Some(false)), "{shown}");

    let history = bob.json(&["contact", "history", "alice"]);
    assert_eq!((history.len(), history[0]["current"].as_bool()), (1, Some(true)), "{history:?}");
    assert!(history[0]["verified_at"].is_null());
    bob.json(&["contact", "verify", "alice", "--yes"]);
    let history = bob.json(&["contact", "history", "alice"]);
    assert!(history[0]["verified_at"].is_string(), "{history:?}");
    assert!(bob.run(&["contact", "history", "alice"]).out.contains("theirs now"));
    bob.json(&["contact", "verify", "alice", "--undo"]);
    assert!(bob.json(&["contact", "history", "alice"])[0]["verified_at"].is_null());
    let nobody = bob.run(&["--json", "contact", "history", "carol"]);
    assert_ne!(nobody.code, 0, "{nobody:?}");
}

/// Asks for the status until it is as wanted: what a relay shows of its tree comes a moment after it is reached.
fn until_status(person: &Person, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    for _ in 0..super::stage::ROUNDS_MAX {
        person.json(&["inbox"]);
        let status = person.json(&["status"]).remove(0);
        if wanted(&status) {
            return status;
        }
    }
    panic!("the status never came to be so");
}

#[test]
fn t09_a_relay_that_shows_another_tree_than_before_is_caught_and_stops_what_was_not_compared() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, copy) = (temp.path().join("relay"), temp.path().join("relay-copy"));
    let mut relay = Relay::start("a.example", &dir);
    let person = |name: &str| Person::new(temp.path().join(name));
    let (alice, bob, carol, dave) = (person("alice"), person("bob"), person("carol"), person("dave"));
    alice.init("alice", &relay);
    alice.invites(&bob, "bob");
    alice.json(&["send", "bob", "hello"]);
    assert_eq!(bob.hears()["text"], "hello");
    let entries = |status: &serde_json::Value| status["relay"]["entries"].as_u64();
    until_status(&alice, |status| entries(status) == Some(2));
    relay.stop();
    copy_folder(&dir, &copy);
    relay.run();
    carol.init("carol", &relay);
    until_status(&bob, |status| status["relay"]["log"] == "found");
    // A head with Carol in it was signed and seen; then the relay is one that never had her, and has Dave.
    until_status(&alice, |status| entries(status) == Some(3));
    relay.stop();
    std::fs::remove_dir_all(&dir).unwrap();
    copy_folder(&copy, &dir);
    relay.run();
    dave.init("dave", &relay);
    let status = until_status(&alice, |status| status["two_faces"].as_array().is_some_and(|caught| !caught.is_empty()));
    assert_eq!(status["two_faces"][0], "a.example");
    assert!(alice.run(&["status"]).out.contains("TWO FACES"));
    assert_eq!(alice.json(&["contact", "show", "bob"])[0]["relay_two_faces"], true);
    let refused = alice.run(&["--json", "send", "bob", "is it you?"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (5, Some("relay_two_faces")), "{refused:?}");
    alice.json(&["contact", "verify", "bob", "--yes"]);
    let sent = alice.run(&["send", "bob", "it is you"]);
    assert!(sent.code == 0 && sent.err.contains("different account logs"), "{sent:?}");
    assert_eq!(bob.hears()["text"], "it is you");
}
