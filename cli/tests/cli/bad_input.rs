//! Bad input: a clear error with a hint, the documented exit code, nothing lost, nothing half written.

use std::process::Stdio;

use super::stage::{Pair, Person, Relay, first_line};

fn alone() -> (tempfile::TempDir, Person) {
    let temp = tempfile::tempdir().unwrap();
    let person = Person::new(temp.path().join("person"));
    (temp, person)
}

#[test]
fn wrong_usage_is_two_and_says_so_in_json_too() {
    let (_temp, person) = alone();
    assert_eq!(person.run(&[]).code, 2);
    assert_eq!(person.run(&["sned"]).code, 2);
    let ended = person.run(&["sned", "--json"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    assert_eq!(ended.error()["code"], "usage");
    assert_eq!(person.run(&["help", "nothing"]).code, 2);
    let codes = person.run(&["help", "exit-codes"]);
    assert_eq!(codes.code, 0);
    assert!(codes.out.contains("130"), "{codes:?}");
}

#[test]
fn without_an_identity_every_command_points_to_init() {
    let (_temp, person) = alone();
    for args in
        [&["status"][..], &["inbox"], &["send", "bob", "hi"], &["log", "bob"], &["invite", "new"], &["daemon", "run"]]
    {
        let ended = person.run(args);
        assert_eq!(ended.code, 4, "{args:?}: {ended:?}");
        assert!(ended.err.contains("whimbrel init"), "{args:?}: {ended:?}");
    }
    assert!(!person.home.join("data").exists(), "a question leaves no folder behind");
}

#[test]
fn an_unknown_recipient_is_not_found_and_an_ambiguous_one_lists_its_candidates() {
    let pair = Pair::new();
    let ended = pair.alice.run(&["--json", "send", "zoe", "hi"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.error()["code"], "not_found");
    assert!(ended.error()["hint"].as_str().unwrap().contains("contact list"));

    let bobby = Person::new(pair.temp.path().join("bobby"));
    pair.alice.invites(&bobby, "bobby");
    assert_eq!(pair.alice.json(&["contact", "list"]).len(), 2);
    let ended = pair.alice.run(&["--json", "send", "bo", "hi"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let error = ended.error();
    assert_eq!(error["code"], "ambiguous");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("bob@a.example") && message.contains("bobby@a.example"), "{message}");
}

#[test]
fn closed_or_empty_standard_input_is_no_message() {
    let pair = Pair::new();
    for args in [&["--json", "send", "bob", "-"][..], &["--json", "send", "bob"]] {
        let ended = pair.alice.run(args);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert_eq!(ended.error()["code"], "empty");
        let mut closed = pair.alice.command(args);
        closed.stdin(Stdio::null());
        assert_eq!(closed.output().unwrap().status.code(), Some(2));
    }
    assert_eq!(pair.alice.json(&["status"])[0]["queued"], 0);
}

#[test]
fn an_oversize_text_is_refused_and_nothing_of_it_kept() {
    let pair = Pair::new();
    let text = "x".repeat(65_537);
    for input in [text.as_bytes(), "x".repeat(1_000_000).as_bytes()] {
        let ended = pair.alice.run_with(&["--json", "send", "bob", "-"], input);
        assert_eq!(ended.code, 7, "{}", ended.err);
        assert_eq!(ended.error()["code"], "too_large");
    }
    assert_eq!(pair.alice.run(&["send", "bob", &text]).code, 7);
    assert!(pair.alice.json(&["log", "bob"]).is_empty());
    // The largest that fits does.
    let ended = pair.alice.run_with(&["send", "bob", "-"], "y".repeat(65_536).as_bytes());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(pair.bob.json(&["inbox"])[0]["text"].as_str().map(str::len), Some(65_536));
}

#[test]
fn a_message_for_an_unreachable_relay_is_queued_and_sent_by_a_later_command() {
    let mut pair = Pair::new();
    assert_eq!(pair.alice.json(&["contact", "list"]).len(), 1);
    pair.relay.stop();
    let ended = pair.alice.run(&["--json", "--timeout", "30s", "send", "bob", "later"]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(ended.values()[0]["state"], "queued");
    assert!(ended.error()["hint"].as_str().unwrap().contains("queued"), "{ended:?}");
    let waited = pair.alice.run(&["--json", "--timeout", "2s", "send", "bob", "--wait", "stored", "waited for"]);
    assert_eq!(waited.code, 8, "{waited:?}");
    assert_eq!(waited.error()["code"], "wait_timed_out");
    // A text form says the same.
    let inbox = pair.alice.run(&["--timeout", "2s", "inbox"]);
    assert_eq!(inbox.code, 6, "{inbox:?}");

    pair.relay.run();
    pair.alice.json(&["send", "bob", "now"]);
    let texts: Vec<_> = pair.bob.json(&["inbox"]).iter().map(|line| line["text"].clone()).collect();
    assert_eq!(texts, ["later", "waited for", "now"]);
}

#[test]
fn a_relay_with_another_key_is_not_trusted_and_nothing_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("a.example", &temp.path().join("relay"));
    let person = Person::new(temp.path().join("person"));
    let (address, _) = relay.link.split_once('#').unwrap();
    let wrong = format!("{address}#{}", "ab".repeat(32));
    let ended = person.run(&["--json", "init", "--name", "alice", "--relay", &wrong]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!((ended.error()["code"].as_str(), ended.out.as_str()), (Some("relay_untrusted"), ""));
    // The right link works at once: nothing is in the way.
    person.init("alice", &relay);
}

#[test]
fn an_unreachable_relay_at_the_start_leaves_nothing_behind() {
    let (_temp, person) = alone();
    let link = format!("whimbrel-relay:a.example?at=127.0.0.1:9#{}", "ab".repeat(32));
    let ended = person.run(&["--json", "init", "--name", "alice", "--relay", &link]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(ended.out, "", "no words of an identity that is not");
    assert!(!person.home.join("data/store").exists());
}

#[test]
fn a_relay_that_says_nothing_leaves_nothing_behind_however_short_the_wait() {
    let (_temp, person) = alone();
    // It takes every packet and answers none.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = format!("whimbrel-relay:a.example?at={}#{}", silent.local_addr().unwrap(), "ab".repeat(32));
    for timeout in ["1ms", "300ms"] {
        let ended = person.run(&["--json", "--timeout", timeout, "init", "--name", "alice", "--relay", &link]);
        assert_eq!(ended.code, 6, "{ended:?}");
        assert_eq!(ended.out, "", "no words of an identity that is not");
        assert!(!person.home.join("data/store").exists());
    }
}

#[test]
fn a_taken_name_is_said_and_another_one_works() {
    let pair = Pair::new();
    let carol = Person::new(pair.temp.path().join("carol"));
    let ended = carol.run(&["--json", "init", "--name", "bob", "--relay", &pair.relay.link]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(ended.error()["code"], "name_taken");
    carol.init("carol", &pair.relay);
    let again = carol.run(&["--json", "init", "--name", "carol", "--relay", &pair.relay.link]);
    assert_eq!(again.code, 4, "{again:?}");
    assert_eq!(again.error()["code"], "exists");
}

#[test]
fn links_and_names_that_are_none_are_found_before_anything_is_made() {
    let (_temp, person) = alone();
    let good = format!("whimbrel-relay:a.example?at=127.0.0.1:9#{}", "ab".repeat(32));
    for args in [
        &["init", "--name", "alice", "--relay", "a.example"][..],
        &["init", "--name", "Alice!", "--relay", &good],
        &["init", "--name", "alice", "--invite", "whimbrel:nonsense"],
        &["init", "--name", "alice"],
        &["init", "--name", "alice", "--relay", &good, "--registration", "no token"],
        &["init", "--name", "alice", "--invite", "-", "--registration", "-"],
    ] {
        let ended = person.run(args);
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
    }
    let empty = person.run(&["--json", "init", "--name", "alice", "--invite", "-"]);
    assert_eq!((empty.code, empty.error()["code"].as_str()), (2, Some("empty")));
    assert!(!person.home.join("data").exists());
}

#[test]
fn a_used_invite_gives_no_consent() {
    let pair = Pair::new();
    let invite = pair.alice.run(&["invite", "new"]).out;
    let carol = Person::new(pair.temp.path().join("carol"));
    let first = carol.run_with(&["init", "--name", "carol", "--invite", "-"], invite.as_bytes());
    assert_eq!(first.code, 0, "{first:?}");
    let dave = Person::new(pair.temp.path().join("dave"));
    let second = dave.run_with(&["--json", "init", "--name", "dave", "--invite", "-"], invite.as_bytes());
    assert_eq!((second.code, second.error()["code"].as_str()), (4, Some("no_consent")), "{second:?}");
    assert_eq!(second.values()[0]["address"], "dave@a.example", "the identity is made all the same");
}

#[test]
fn a_store_in_use_is_locked_and_a_damaged_one_is_said_to_be() {
    let pair = Pair::new();
    pair.alice.json(&["contact", "list"]);
    pair.alice.json(&["send", "bob", "hello"]);
    // A command that stays, and has the store once it prints.
    let mut follow = pair.alice.command(&["log", "bob", "-f"]);
    let mut follow = follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    first_line(&mut follow);
    let locked = pair.alice.run(&["--json", "status"]);
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(locked.code, 4, "{locked:?}");
    assert!(locked.error()["hint"].as_str().unwrap().contains("daemon run"), "{locked:?}");

    let db = pair.alice.home.join("data/store/db");
    let length = std::fs::metadata(&db).unwrap().len();
    std::fs::write(&db, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    let ended = pair.alice.run(&["--json", "status"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let error = ended.error();
    assert_eq!(error["code"], "store_damaged", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("copy"), "{error}");
}

#[test]
fn a_mistake_in_the_configuration_has_a_line_and_a_key() {
    let (_temp, person) = alone();
    let dir = person.home.join("config/whimbrel");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config.toml"), "profile = \"work\"\ntimout = \"3s\"\n").unwrap();
    let ended = person.run(&["status"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    for word in ["config.toml", "line 2", "timout", "timeout"] {
        assert!(ended.err.contains(word), "{word} is missing: {ended:?}");
    }
    let json = person.run(&["--json", "status"]);
    assert_eq!(json.error()["code"], "config");
}
