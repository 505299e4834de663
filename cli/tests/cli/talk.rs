//! Two people talk: every command, as text and as JSON, each in a process of its own.

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
