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
    let back = stage.recover(&found, &stage.words, &["--label", "new phone", "--keep-others"]);
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
    bob.json(&["contact", "verify", "alice", "--yes"]);
    bob.json(&["send", "alice", "welcome back"]);
    assert_eq!(found.hears()["text"], "welcome back");
}

/// A device that waits to be approved: it has shown its code.
#[derive(Debug)]
struct Waiting {
    child: std::process::Child,
    code: String,
    rest: std::io::BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn begin(who: &Person, relay: &str, label: &str) -> Self {
        use std::io::BufRead as _;
        let mut command =
            who.command(&["--json", "--timeout", "60s", "device", "link", "--relay", relay, "--label", label]);
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut rest = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        let shown: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("no code: {line:?}")
        });
        Self { child, code: shown["code"].as_str().unwrap().to_owned(), rest }
    }

    /// How it ended, and the last line it said.
    fn end(mut self) -> (i32, String, String) {
        use std::io::Read as _;
        let mut out = String::new();
        self.rest.read_to_string(&mut out).unwrap();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), out, err)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until somebody has read exactly this as the newest of a chat.
fn reads(person: &Person, chat: &str, text: &str) {
    let mut last = Vec::new();
    for _ in 0..ROUNDS_MAX {
        person.json(&["inbox"]);
        let ended = person.run(&["--json", "log", chat]);
        if ended.code == 0 {
            last = ended.values();
            if last.iter().rev().find_map(|line| line["text"].as_str()) == Some(text) {
                return;
            }
        }
    }
    panic!("never read {text:?}: {last:?}");
}

#[test]
fn t08_recovering_takes_the_devices_of_before_off_the_account() {
    let stage = Stage::new();
    let found = Person::new(stage.pair.temp.path().join("found"));
    let back = stage.recover(&found, &stage.words, &[]);
    assert_eq!(back.code, 0, "{back:?}");
    let refused = stage.pair.alice.run(&["--json", "inbox"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("revoked")), "{refused:?}");
    assert_eq!(found.json(&["device", "list"]).len(), 1);
}

#[test]
fn a_second_device_is_linked_by_a_code_and_is_in_every_chat_until_it_is_revoked() {
    let stage = Stage::new();
    let (alice, bob, relay) = (&stage.pair.alice, &stage.pair.bob, &stage.pair.relay.link);
    alice.json(&["group", "new", "Sailing", "bob"]);
    alice.json(&["send", "sailing", "before"]);
    reads(bob, "sailing", "before");
    let phone = Person::new(stage.pair.temp.path().join("phone"));
    let waiting = Waiting::begin(&phone, relay, "phone");
    for wrong in ["nonsense", "00000-00000-00000-00000-00000-0000"] {
        let refused = alice.run(&["--json", "device", "approve", wrong]);
        assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("bad_code")), "{refused:?}");
    }
    let approved = alice.run_with(&["--json", "device", "approve", "-"], waiting.code.as_bytes());
    assert_eq!(approved.code, 0, "{approved:?}");
    let devices = approved.values();
    assert_eq!((devices.len(), devices[1]["label"].as_str()), (2, Some("phone")), "{devices:?}");
    assert_eq!((devices[1]["chats"].as_u64(), devices[1]["of"].as_u64()), (Some(2), Some(2)), "{devices:?}");
    let code = waiting.code.clone();
    let (ended, out, err) = waiting.end();
    assert_eq!(ended, 0, "{out} {err}");
    // Both commands stayed until it had what was said before.
    let log = phone.json(&["log", "sailing"]);
    assert!(log.iter().any(|line| line["text"] == "before"), "{log:?}");
    assert!(phone.json(&["device", "list"])[1]["history"].is_null());
    let again = alice.run_with(&["--json", "device", "approve", "-"], code.as_bytes());
    assert_eq!(again.code, 3, "a code is good for once: {again:?}");

    // What others say reaches both, and what one of them says reaches the other.
    bob.json(&["inbox"]);
    bob.json(&["send", "alice", "to both"]);
    for one in [alice, &phone] {
        reads(one, "bob", "to both");
    }
    phone.json(&["send", "bob", "from the phone"]);
    for one in [alice, bob] {
        reads(one, if std::ptr::eq(one, bob) { "alice" } else { "bob" }, "from the phone");
    }
    bob.json(&["send", "sailing", "to the group"]);
    for one in [alice, &phone] {
        reads(one, "sailing", "to the group");
    }
    let before = phone.json(&["log", "sailing"]).iter().filter(|line| line["text"] == "before").count();
    assert_eq!(before, 1, "shown once");

    // Revoked: served no more at once, and out of every chat by a sibling's hand.
    alice.json(&["device", "revoke", "phone"]);
    let refused = phone.run(&["--json", "inbox"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("revoked")), "{refused:?}");
    for _ in 0..ROUNDS_MAX {
        alice.json(&["inbox"]);
        bob.json(&["inbox"]);
        if bob.json(&["group", "show", "sailing"])[0]["epoch"].as_u64() == Some(3) {
            break;
        }
    }
    assert_eq!(bob.json(&["group", "show", "sailing"])[0]["epoch"].as_u64(), Some(3), "in, and out");
    bob.json(&["send", "alice", "to the laptop"]);
    reads(alice, "bob", "to the laptop");
}

#[test]
fn what_one_device_knows_the_others_know_and_a_rotated_key_reaches_the_full_ones() {
    let stage = Stage::new();
    let (alice, bob, relay) = (&stage.pair.alice, &stage.pair.bob, &stage.pair.relay.link);
    alice.json(&["contact", "verify", "bob", "--yes"]);
    let link = |name: &str, limited: bool| {
        let device = Person::new(stage.pair.temp.path().join(name));
        let waiting = Waiting::begin(&device, relay, name);
        let approve: &[&str] = if limited { &["approve", "--limited", "-"] } else { &["approve", "-"] };
        let args: Vec<&str> = ["--json", "device"].into_iter().chain(approve.iter().copied()).collect();
        let approved = alice.run_with(&args, waiting.code.as_bytes());
        assert_eq!(approved.code, 0, "{approved:?}");
        let (ended, out, err) = waiting.end();
        assert_eq!(ended, 0, "{out} {err}");
        device
    };
    let phone = link("phone", false);
    let tablet = link("tablet", true);
    for device in [&phone, &tablet] {
        let contacts = device.json(&["contact", "list"]);
        assert_eq!((contacts.len(), contacts[0]["trust"].as_str()), (1, Some("verified")), "{contacts:?}");
    }
    // Read on one, read on the other, and only what was.
    bob.json(&["inbox"]);
    bob.json(&["send", "alice", "one"]);
    reads(alice, "bob", "one");
    let mut status = Value::Null;
    for _ in 0..ROUNDS_MAX {
        alice.json(&["status"]);
        let log = phone.json(&["log", "bob"]);
        status = phone.json(&["status"])[0].clone();
        if status["unread"].as_u64() == Some(0) && log.iter().any(|line| line["text"] == "one") {
            break;
        }
    }
    assert_eq!(status["unread"].as_u64(), Some(0), "{status}");
    assert_eq!(phone.json(&["inbox"]), Vec::<Value>::new());

    let rotated = alice.run_with(&["--json", "id", "rotate"], stage.words.as_bytes());
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let full = |device: &Person| {
        let devices = device.json(&["device", "list"]);
        devices.iter().find(|one| one["this"] == true).unwrap()["full"].as_bool()
    };
    for _ in 0..ROUNDS_MAX {
        alice.json(&["status"]);
        if full(&phone) == Some(true) {
            break;
        }
    }
    assert_eq!((full(&phone), full(&tablet)), (Some(true), Some(false)));
    phone.json(&["device", "rename", "tablet", "old tablet"]);
}

#[test]
fn t08_a_device_that_is_not_approved_or_limited_gets_no_say() {
    let stage = Stage::new();
    let (alice, relay) = (&stage.pair.alice, &stage.pair.relay.link);
    let tablet = Person::new(stage.pair.temp.path().join("tablet"));
    let waiting = Waiting::begin(&tablet, relay, "tablet");
    // Of the right form, and nobody's.
    let strange = Waiting::begin(&Person::new(stage.pair.temp.path().join("other")), relay, "other");
    let approved = alice.run_with(&["--json", "device", "approve", "--limited", "-"], waiting.code.as_bytes());
    assert_eq!(approved.code, 0, "{approved:?}");
    assert_eq!(waiting.end().0, 0);
    for args in [&["device", "revoke", "0"][..], &["device", "rename", "tablet", "mine"]] {
        let mut all = vec!["--json"];
        all.extend(args);
        let refused = tablet.run(&all);
        assert_ne!(refused.code, 0, "{refused:?}");
    }
    let refused = tablet.run_with(&["--json", "device", "approve", "-"], strange.code.as_bytes());
    assert_ne!(refused.code, 0, "a limited device links nobody: {refused:?}");
    assert_eq!(alice.json(&["device", "list"]).len(), 2);
    drop(strange);
}
