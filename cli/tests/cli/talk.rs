//! Two people talk: every command, as text and as JSON, each in a process of its own.

use std::process::Stdio;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::stage::{Pair, Person, Relay};

#[test]
fn two_people_talk_after_four_commands() {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("a.example", &temp.path().join("relay"));
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));

    let init = alice.run(&["init", "--name", "alice", "--relay", &relay.link]);
    assert_eq!(init.code, 0, "{init:?}");
    assert!(init.out.contains("alice@a.example"), "{init:?}");
    assert!(init.out.contains(" 24 "), "all 24 words are shown: {init:?}");

    let invite = alice.run(&["invite", "new"]);
    assert_eq!(invite.out.lines().count(), 1, "the link alone is data: {invite:?}");
    assert!(invite.out.starts_with("whimbrel:alice@a.example?at="), "{invite:?}");

    let join = bob.run_with(&["--json", "init", "--name", "bob", "--invite", "-"], invite.out.as_bytes());
    assert_eq!(join.code, 0, "{join:?}");
    let values = join.values();
    let [made] = values.as_slice() else { panic!("one object: {join:?}") };
    assert_eq!((made["v"].as_u64(), made["address"].as_str()), (Some(1), Some("bob@a.example")));
    assert_eq!(made["recovery"].as_array().map(Vec::len), Some(24));
    assert_eq!(made["contact"]["contact"], "alice@a.example");

    let sent = bob.run(&["send", "alice", "hello"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.out.starts_with("stored "), "{sent:?}");

    let inbox = alice.run(&["inbox"]);
    assert_eq!(inbox.code, 0, "{inbox:?}");
    assert!(inbox.out.starts_with("bob@a.example\n  hello  ("), "{inbox:?}");
    assert!(inbox.out.contains(", relay)"), "{inbox:?}");
}

#[test]
fn what_was_printed_is_read_and_what_was_peeked_at_is_not() {
    let pair = Pair::new();
    pair.bob.json(&["send", "alice", "one"]);
    pair.bob.json(&["send", "alice", "two"]);
    for round in ["peeked", "read"] {
        let args: &[&str] = if round == "peeked" { &["inbox", "--peek"] } else { &["inbox"] };
        let texts: Vec<_> = pair.alice.json(args).iter().map(|line| line["text"].clone()).collect();
        assert_eq!(texts, ["one", "two"], "{round}");
    }
    assert!(pair.alice.json(&["inbox"]).is_empty());
    let again = pair.alice.run(&["inbox"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
}

#[test]
fn a_message_that_comes_late_is_in_the_inbox_though_its_clock_is_earlier() {
    let mut pair = Pair::new();
    let carol = Person::new(pair.temp.path().join("carol"));
    pair.alice.invites(&carol, "carol");
    let together = pair.alice.json(&["send", "bob,carol", "hello"]);
    let thread = together[0]["thread"].as_str().unwrap().to_owned();
    for person in [&pair.bob, &carol] {
        assert_eq!(person.json(&["inbox"])[0]["text"], "hello");
    }
    // Bob writes while the relay is away; Carol writes later, and is read first.
    pair.relay.stop();
    let queued = pair.bob.run(&["--json", "send", &thread, "written first"]);
    assert_eq!(queued.code, 6, "{queued:?}");
    pair.relay.run();
    carol.json(&["send", &thread, "written later"]);
    let texts = |lines: Vec<serde_json::Value>| lines.iter().map(|line| line["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(pair.alice.json(&["inbox"])), ["written later"]);
    pair.bob.json(&["send", &thread, "now"]);
    assert_eq!(texts(pair.alice.json(&["inbox"])), ["written first", "now"]);
    assert_eq!(texts(pair.alice.json(&["log", &thread])), ["hello", "written first", "written later", "now"]);
    assert!(pair.alice.json(&["inbox"]).is_empty());
}

#[test]
fn a_text_comes_from_an_argument_or_from_standard_input() {
    let pair = Pair::new();
    for (args, input) in [
        (&["send", "alice", "argument"][..], &b""[..]),
        (&["send", "alice", "-"], b"dash\n"),
        (&["send", "alice"], b"two\nlines\n"),
    ] {
        let sent = pair.bob.run_with(args, input);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let texts: Vec<_> = pair.alice.json(&["inbox"]).iter().map(|line| line["text"].clone()).collect();
    assert_eq!(texts, ["argument", "dash", "two\nlines"]);
}

#[test]
fn both_sides_of_a_talk_are_in_the_log() {
    let pair = Pair::new();
    pair.bob.json(&["send", "alice", "question"]);
    pair.alice.json(&["inbox"]);
    pair.alice.json(&["send", "bob", "answer"]);
    let log = pair.alice.json(&["log", "bob"]);
    let lines: Vec<_> =
        log.iter().map(|line| (line["from"].as_str().unwrap(), line["text"].as_str().unwrap())).collect();
    assert_eq!(lines, [("bob@a.example", "question"), ("me", "answer")]);
    assert_eq!(log[0]["path"], "relay");
    assert_eq!(pair.alice.json(&["log", "bob", "-n", "1"]).len(), 1);
    assert_eq!(pair.alice.json(&["log", "bob", "--since", "1h"]).len(), 2);
    assert!(pair.alice.json(&["log", "bob", "--since", "2999-01-01"]).is_empty());
}

#[test]
fn a_thread_is_written_to_by_the_head_of_its_id_or_by_its_people() {
    let pair = Pair::new();
    let sent = pair.bob.json(&["send", "alice@a.example", "first"]);
    let thread = sent[0]["thread"].as_str().unwrap().to_owned();
    let again = pair.bob.json(&["send", &thread[..8], "second"]);
    assert_eq!(again[0]["thread"], sent[0]["thread"]);
}

#[test]
fn status_contacts_and_identity_say_how_things_are() {
    let pair = Pair::new();
    pair.bob.json(&["send", "alice", "hello"]);
    pair.alice.json(&["inbox", "--peek"]);
    let status = &pair.alice.json(&["status"])[0];
    assert_eq!(status["address"], "alice@a.example");
    assert_eq!((status["daemon"].as_bool(), status["relay"]["connected"].as_bool()), (Some(false), Some(true)));
    assert_eq!((status["queued"].as_u64(), status["unread"].as_u64()), (Some(0), Some(1)));
    assert_eq!(status["contacts"][0]["address"], "bob@a.example");
    assert_eq!(status["contacts"][0]["path"], "relay");
    let contacts = pair.alice.json(&["contact", "list"]);
    assert_eq!((contacts.len(), contacts[0]["unread"].as_u64()), (1, Some(1)));
    let me = &pair.alice.json(&["id", "show"])[0];
    assert_eq!(me["account"].as_str().map(str::len), Some(64));
    let text = pair.alice.run(&["status"]);
    assert!(text.out.contains("address  alice@a.example") && text.out.contains("unread   1"), "{text:?}");
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let pair = Pair::new();
    let hostile = "\u{1b}]52;c;aGk=\u{7}\u{202e}evil\u{200b}\nbob@a.example: pay me";
    pair.bob.json(&["send", "alice", hostile]);
    let shown = pair.alice.run(&["inbox", "--peek"]).out;
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}']), "{shown:?}");
    assert!(!shown.contains("\nbob@a.example: pay me"), "a second line poses as a message: {shown:?}");
    let json = pair.alice.run(&["--json", "inbox"]);
    assert!(!json.out.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}']), "{json:?}");
    assert_eq!(json.values()[0]["text"], hostile, "programs get what was written");
}

#[test]
fn people_on_two_relays_meet_and_talk() {
    let temp = tempfile::tempdir().unwrap();
    let mut a = Relay::init("a.example", &temp.path().join("relay-a"));
    let mut b = Relay::init("b.example", &temp.path().join("relay-b"));
    a.pin("b.example", &b);
    b.pin("a.example", &a);
    a.run();
    b.run();
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    alice.init("alice", &a);
    let invite = alice.run(&["invite", "new"]);
    let args = ["init", "--name", "bob", "--relay", &b.link, "--invite", "-"];
    let join = bob.run_with(&args, invite.out.as_bytes());
    assert_eq!(join.code, 0, "{join:?}");
    bob.json(&["send", "alice", "across"]);
    let inbox = alice.json(&["inbox"]);
    assert_eq!((inbox[0]["from"].as_str(), inbox[0]["path"].as_str()), (Some("bob@b.example"), Some("federation")));
}

#[test]
fn an_invite_alone_joins_two_relays_that_list_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let mut a = Relay::start("a.example", &temp.path().join("relay-a"));
    let mut b = Relay::start("b.example", &temp.path().join("relay-b"));
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    alice.init("alice", &a);
    bob.init("bob", &b);
    let invite = alice.run(&["invite", "new"]);
    let join = bob.run_with(&["--json", "join", "-"], invite.out.as_bytes());
    assert_eq!(join.code, 0, "{join:?}");
    assert_eq!(join.values()[0]["contact"], "alice@a.example");
    for round in ["first", "after both relays restarted"] {
        for (from, name, to) in [(&bob, "alice", &alice), (&alice, "bob", &bob)] {
            // Whoever is written to may have to meet the thread before it can answer.
            let text = format!("{round}, to {name}");
            from.json(&["send", name, &text]);
            let heard = to.hears();
            assert_eq!(
                (heard["text"].as_str(), heard["path"].as_str()),
                (Some(text.as_str()), Some("federation")),
                "{heard}"
            );
        }
        for relay in [&mut a, &mut b] {
            relay.stop();
        }
        for relay in [&mut a, &mut b] {
            relay.run();
        }
    }
}

#[test]
fn a_message_that_another_relay_will_not_have_is_failed_in_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let mut a = Relay::init("a.example", &temp.path().join("relay-a"));
    let mut b = Relay::init("b.example", &temp.path().join("relay-b"));
    a.pin("b.example", &b);
    b.pin("a.example", &a);
    a.run();
    b.run();
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    alice.init("alice", &a);
    bob.init("bob", &b);
    let invite = alice.run(&["invite", "new"]);
    assert_eq!(bob.run_with(&["join", "-"], invite.out.as_bytes()).code, 0);
    bob.json(&["send", "alice", "hello"]);
    assert_eq!(alice.hears()["text"], "hello");
    // Bob's relay comes back with nothing of what it knew.
    b.stop();
    std::fs::remove_dir_all(b.config.parent().unwrap().join("data/store")).unwrap();
    b.run();
    assert_eq!(alice.json(&["send", "bob", "lost"])[0]["state"], "stored");
    let mut rounds = 0..super::stage::ROUNDS_MAX;
    let lost = loop {
        alice.json(&["inbox"]);
        let last = alice.json(&["log", "bob"]).pop().unwrap();
        if last["state"] == "failed" {
            break last;
        }
        rounds.next().unwrap_or_else(|| panic!("never told: {last}"));
    };
    assert_eq!((lost["text"].as_str(), lost["reason"].as_str()), (Some("lost"), Some("not found")));
    a.stop();
    a.run();
    let text = alice.run(&["log", "bob", "-n", "1"]).out;
    assert!(text.starts_with("me: lost  (") && text.contains(", failed: not found)"), "{text}");
}

#[test]
fn a_used_up_invite_introduces_no_relay() {
    let temp = tempfile::tempdir().unwrap();
    let a = Relay::start("a.example", &temp.path().join("relay-a"));
    let b = Relay::start("b.example", &temp.path().join("relay-b"));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Person::new(temp.path().join(name)));
    alice.init("alice", &a);
    let invite = alice.run(&["invite", "new"]);
    let used = bob.run_with(&["init", "--name", "bob", "--invite", "-"], invite.out.as_bytes());
    assert_eq!(used.code, 0, "{used:?}");
    carol.init("carol", &b);
    let join = carol.run_with(&["--json", "join", "-"], invite.out.as_bytes());
    assert_eq!(join.code, 5, "{join:?}");
    assert_eq!(join.error()["code"], "relay_untrusted");
}

#[test]
fn an_invite_can_be_accepted_by_who_has_an_identity() {
    let pair = Pair::new();
    let carol = Person::new(pair.temp.path().join("carol"));
    carol.init("carol", &pair.relay);
    let invite = pair.alice.run(&["invite", "new", "--uses", "2", "--expires", "2h"]);
    let join = carol.run_with(&["--json", "join", "-"], invite.out.as_bytes());
    assert_eq!(join.code, 0, "{join:?}");
    assert_eq!(join.values()[0]["contact"], "alice@a.example");
    // The same by the command that an interrupted `init` would have been.
    let again = Person::new(pair.temp.path().join("dave"));
    again.init("dave", &pair.relay);
    let join = again.run_with(&["init", "--name", "dave", "--invite", "-"], invite.out.as_bytes());
    assert_eq!(join.code, 0, "{join:?}");
}

#[test]
fn what_was_said_is_answered_changed_signed_and_taken_back() {
    let pair = Pair::new();
    let sent = pair.bob.json(&["send", "alice", "helo"]);
    let id = sent[0]["message"].as_str().unwrap().get(..8).unwrap().to_owned();
    assert_eq!(pair.alice.json(&["inbox"])[0]["text"], "helo");
    let shown = pair.alice.run(&["log", "bob", "--ids"]);
    assert!(shown.out.starts_with(&format!("{id}  bob")), "{shown:?}");

    for args in [
        &["edit", "alice", &id, "hello"][..],
        &["send", "alice", "tea?", "--mention", "alice"],
        &["chat", "timer", "alice", "1h"],
    ] {
        assert_eq!(pair.bob.run(args).code, 0, "{args:?}");
    }
    for args in [&["react", "bob", &id, "\u{1f44d}"][..], &["send", "bob", "yes", "--reply", &id]] {
        assert_eq!(pair.alice.run(args).code, 0, "{args:?}");
    }
    pair.bob.json(&["inbox"]);
    for (person, other) in [(&pair.alice, "bob"), (&pair.bob, "alice")] {
        let lines = person.json(&["log", other]);
        let texts: Vec<_> = lines.iter().map(|line| line["text"].clone()).collect();
        assert_eq!(texts, ["hello", "tea?", "yes"], "{other}");
        assert_eq!((&lines[0]["edited"], &lines[0]["reactions"][0]["sign"]), (&true.into(), &"\u{1f44d}".into()));
        assert_eq!(lines[1]["mentions"].as_array().map(Vec::len), Some(1));
        assert_eq!(lines[2]["reply"], sent[0]["message"]);
        assert_eq!(lines[2]["lasts_ms"], 3_600_000);
    }

    // What is another's is not changed, and what is taken back is gone from both.
    let refused = pair.alice.run(&["edit", "bob", &id, "mine"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(pair.bob.run(&["unsend", "alice", &id]).code, 0);
    pair.alice.json(&["inbox"]);
    for (person, other) in [(&pair.alice, "bob"), (&pair.bob, "alice")] {
        let line = person.json(&["log", other]).remove(0);
        assert_eq!((&line["text"], &line["unsent"]), (&"".into(), &true.into()), "{other}");
    }
    let unknown = pair.bob.run(&["react", "alice", "00000000", "+"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
}

#[test]
fn the_other_device_says_that_a_message_is_there_and_that_it_was_read() {
    let pair = Pair::new();
    assert_eq!(pair.alice.run(&["chat", "receipts", "bob", "on"]).code, 0);
    let daemon = Daemon::run(&pair.alice);
    let sent = pair.bob.run(&["--json", "--timeout", "60s", "send", "alice", "hello", "--wait", "delivered"]);
    assert_eq!((sent.code, &sent.values()[0]["state"]), (0, &"delivered".into()), "{sent:?}");
    let args = ["--json", "--timeout", "60s", "send", "alice", "well?", "--wait", "read"];
    let waits = pair.bob.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut read = 0;
    while read < 2 {
        read += pair.alice.json(&["inbox"]).len();
    }
    let ended = waits.wait_with_output().unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &sent["state"]), (Some(0), &"read".into()), "{sent}");
    let line = pair.bob.json(&["log", "alice"]).remove(1);
    assert_eq!(line["receipts"], serde_json::json!({ "delivered": 1, "read": 1, "of": 1 }), "{line}");
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
}
