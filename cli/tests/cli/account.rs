//! The own account: other keys, other words, recovery on an empty device, devices that go. Each command is a process.

use serde_json::Value;

use super::stage::{Ended, Pair, Person, ROUNDS_MAX};

/// The words of the run that made or renewed them.
fn words(lines: &[Value]) -> String {
    let shown = lines.iter().find_map(|line| line["recovery"].as_array()).expect("recovery words");
    shown.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// A relay, Alice with her words, and Bob who compared keys with her.
struct Stage {
    pair: Pair,
    words: String,
}

impl Stage {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let relay = super::stage::Relay::start("a.example", &temp.path().join("relay"));
        let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
        let made = alice.json(&["init", "--name", "alice", "--relay", &relay.link]);
        alice.invites(&bob, "bob");
        bob.json(&["contact", "verify", "alice", "--yes"]);
        alice.json(&["send", "bob", "hello"]);
        assert_eq!(bob.hears()["text"], "hello");
        Self { words: words(&made), pair: Pair { relay, alice, bob, temp } }
    }

    fn recover(&self, who: &Person, words: &str, more: &[&str]) -> Ended {
        let mut args = vec!["--json", "id", "recover", "--name", "alice", "--relay", &self.pair.relay.link];
        args.extend(more);
        who.run_with(&args, words.as_bytes())
    }
}

/// Bob asks until Alice's key is another to him: word of it comes inside the conversation.
fn until_changed(bob: &Person) {
    for _ in 0..ROUNDS_MAX {
        bob.json(&["inbox"]);
        if bob.json(&["contact", "show", "alice"])[0]["trust"] == "changed" {
            return;
        }
    }
    panic!("Bob never heard of it");
}

#[test]
fn t09_a_rotated_key_is_told_inside_the_conversation_and_stops_what_was_compared() {
    let stage = Stage::new();
    let (alice, bob) = (&stage.pair.alice, &stage.pair.bob);
    let wrong = alice.run_with(&["--json", "id", "rotate"], "abandon ".repeat(23).as_bytes());
    assert_eq!((wrong.code, wrong.error()["code"].as_str()), (2, Some("bad_words")), "{wrong:?}");
    let others = format!("{} art", "abandon ".repeat(23).trim());
    let foreign = alice.run_with(&["--json", "id", "rotate"], others.as_bytes());
    assert_eq!(foreign.code, 5, "words that are not hers: {foreign:?}");

    let rotated = alice.run_with(&["--json", "id", "rotate"], stage.words.as_bytes());
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let next = words(&rotated.values());
    let again = alice.run_with(&["--json", "id", "rotate"], stage.words.as_bytes());
    assert_eq!(again.code, 5, "words are good for once: {again:?}");
    let renewed = alice.run_with(&["--json", "id", "recovery"], next.as_bytes());
    assert_eq!(renewed.code, 0, "{renewed:?}");

    until_changed(bob);
    let refused = bob.run(&["--json", "send", "alice", "is it you?"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (5, Some("key_changed")), "{refused:?}");
    bob.json(&["contact", "verify", "alice", "--yes"]);
    bob.json(&["send", "alice", "it is you"]);
    assert_eq!(alice.hears()["text"], "it is you");
}

#[test]
fn t08_an_account_comes_back_by_its_words_and_the_lost_device_is_served_no_more() {
    let stage = Stage::new();
    let (alice, bob) = (&stage.pair.alice, &stage.pair.bob);
    let found = Person::new(stage.pair.temp.path().join("found"));
    let others = format!("{} art", "abandon ".repeat(23).trim());
    let foreign = stage.recover(&found, &others, &[]);
    assert_eq!(foreign.code, 4, "{foreign:?}");
    let back = stage.recover(&found, &stage.words, &["--label", "new phone"]);
    assert_eq!(back.code, 0, "{back:?}");
    let twice = stage.recover(&found, &stage.words, &[]);
    assert_eq!(twice.code, 4, "this profile is somebody already: {twice:?}");

    // Both are hers, until she says otherwise; the lost one cannot, for it has the key of before.
    let listed = alice.json(&["device", "list"]);
    assert_eq!(listed.len(), 2, "{listed:?}");
    let stale = alice.run(&["--json", "device", "revoke", "1"]);
    assert_ne!(stale.code, 0, "{stale:?}");
    found.json(&["device", "rename", "0", "lost phone"]);
    let own = found.run(&["--json", "device", "revoke", "new phone"]);
    assert_ne!(own.code, 0, "{own:?}");
    found.json(&["device", "revoke", "lost phone"]);
    let devices = found.json(&["device", "list"]);
    assert_eq!((devices.len(), devices[0]["label"].as_str()), (1, Some("new phone")), "{devices:?}");
    for args in [&["--json", "invite", "new"][..], &["--json", "inbox"]] {
        let refused = alice.run(args);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("revoked")), "{refused:?}");
    }

    // Bob meets her anew; what he writes goes to the device she has.
    let invite = found.run(&["invite", "new"]);
    assert_eq!(invite.code, 0, "{invite:?}");
    let met = bob.run_with(&["--json", "join", "-"], invite.out.as_bytes());
    assert_eq!(met.code, 0, "{met:?}");
}
