//! Friends, presence, cards, invites, chats, own data: the commands about people, against real relays.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::daemon::Daemon;
use super::stage::{Pair, Person, ROUNDS_MAX, Relay};

/// Two people on two relays that know each other, and nothing else.
struct Strangers {
    _relays: [Relay; 2],
    alice: Person,
    bob: Person,
    _temp: tempfile::TempDir,
}

impl Strangers {
    fn new() -> Self {
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
        Self { _relays: [a, b], alice, bob, _temp: temp }
    }
}

/// Asks until something comes, as between relays it takes a moment.
fn until(person: &Person, args: &[&str], wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..ROUNDS_MAX {
        let values = person.json(args);
        if wanted(&values) {
            return values;
        }
    }
    panic!("{args:?}: never came");
}

#[test]
fn strangers_on_two_relays_become_friends_and_talk_without_an_invite() {
    let Strangers { alice, bob, .. } = &Strangers::new();
    let asked = &alice.json(&["request", "send", "bob@b.example", "--note", "It's \u{1b}[31mme"])[0];
    assert_eq!((asked["standing"].as_str(), asked["address"].as_str()), (Some("asked"), Some("bob@b.example")));
    assert_eq!(alice.json(&["request", "send", "bob@b.example"])[0]["standing"], "asked", "again does no harm");
    let requests = until(bob, &["request", "list"], |list| list.iter().any(|one| one["verified"] == true));
    assert_eq!(
        (requests[0]["standing"].as_str(), requests[0]["address"].as_str()),
        (Some("asking"), Some("alice@a.example"))
    );
    let text = bob.run(&["request", "list"]).out;
    assert!(text.contains("alice@a.example") && !text.contains('\u{1b}'), "{text:?}");
    assert!(bob.run(&["inbox"]).err.contains("request list"), "the inbox says that somebody asks");
    let early = bob.run(&["--json", "send", "alice", "hi"]);
    assert_eq!(early.code, 3, "not before the acceptance: {early:?}");
    assert_eq!(bob.json(&["request", "accept", "alice"])[0]["standing"], "friends");
    assert_eq!(bob.json(&["request", "accept", "alice"]).len(), 1);
    bob.json(&["send", "alice", "no invite"]);
    assert_eq!(alice.hears()["text"], "no invite");
    alice.json(&["send", "bob", "none needed"]);
    assert_eq!(bob.hears()["text"], "none needed");
    assert!(alice.json(&["request", "list"]).is_empty());
    let all = alice.json(&["contact", "list", "--all"]);
    assert_eq!((all[0]["standing"].as_str(), all[0]["verified"].as_bool()), (Some("friends"), Some(true)));

    let removed = alice.json(&["contact", "remove", "bob"]);
    assert_eq!(removed[0]["standing"], "none");
    assert!(alice.json(&["contact", "list"]).is_empty());
    until(bob, &["contact", "list"], <[Value]>::is_empty);
}

#[test]
fn requests_are_declined_and_people_kept_away_without_a_word_to_them() {
    let pair = Pair::new();
    let [carol, dave] = ["carol", "dave"].map(|name| Person::new(pair.temp.path().join(name)));
    for (person, name) in [(&carol, "carol"), (&dave, "dave")] {
        person.init(name, &pair.relay);
        person.json(&["request", "send", "alice@a.example"]);
    }
    assert_eq!(pair.alice.json(&["request", "list"]).len(), 2);
    assert_eq!(pair.alice.json(&["request", "decline", "carol"])[0]["type"], "done");
    assert_eq!(pair.alice.json(&["request", "list"]).len(), 1);
    pair.alice.json(&["request", "decline", "--all"]);
    assert!(pair.alice.json(&["request", "list"]).is_empty());
    let gone = pair.alice.run(&["--json", "request", "accept", "carol"]);
    assert_eq!((gone.code, gone.error()["code"].as_str()), (3, Some("not_found")), "{gone:?}");

    assert_eq!(pair.alice.json(&["contact", "block", "carol@a.example"])[0]["standing"], "blocked");
    carol.json(&["request", "send", "alice@a.example"]);
    assert!(pair.alice.json(&["request", "list"]).is_empty());
    let blocked = pair.alice.json(&["contact", "list", "--blocked"]);
    assert_eq!((blocked.len(), blocked[0]["address"].as_str()), (1, Some("carol@a.example")));
    assert_eq!(pair.alice.json(&["contact", "unblock", "carol@a.example"])[0]["standing"], "none");
    assert!(pair.alice.json(&["contact", "list", "--blocked"]).is_empty());
    for (args, code) in [
        (&["--json", "request", "send", "nobody@a.example"][..], 3),
        (&["--json", "request", "send", "alice@a.example"], 2),
        (&["--json", "request", "send", "bob@a.example", "--note", &"x".repeat(201)], 7),
        (&["--json", "request", "decline"], 2),
    ] {
        let ended = pair.alice.run(args);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
    }
}

#[test]
fn a_request_to_a_relay_that_is_away_says_so_and_works_later() {
    let mut pair = Pair::new();
    let carol = Person::new(pair.temp.path().join("carol"));
    carol.init("carol", &pair.relay);
    pair.relay.stop();
    let ended = carol.run(&["--json", "request", "send", "alice@a.example"]);
    assert_eq!((ended.code, ended.error()["code"].as_str()), (6, Some("relay_unreachable")), "{ended:?}");
    pair.relay.run();
    carol.json(&["request", "send", "alice@a.example"]);
    assert_eq!(pair.alice.json(&["request", "list"]).len(), 1);
}

#[test]
fn who_is_there_is_seen_by_those_who_may_and_goodbye_is_at_once() {
    let pair = Pair::new();
    let online = |wanted: bool| {
        let seen = until(&pair.bob, &["presence"], |list| list[0]["online"] == wanted);
        assert_eq!(seen[0]["contact"], "alice@a.example");
    };
    pair.alice.json(&["contact", "list"]);
    online(false);
    let daemon = Daemon::run(&pair.alice);
    online(true);
    pair.alice.json(&["presence", "set", "invisible"]);
    online(false);
    pair.alice.json(&["presence", "set", "visible"]);
    online(true);
    pair.alice.json(&["contact", "let-see", "bob", "off"]);
    online(false);
    pair.alice.json(&["contact", "let-see", "bob", "on"]);
    online(true);
    assert_eq!(daemon.stop(rustix::process::Signal::TERM), Some(0));
    online(false);
}

#[test]
fn invites_are_listed_and_taken_back_by_id_or_link() {
    let pair = Pair::new();
    let made: Vec<Value> = (0..3).map(|_| pair.alice.json(&["invite", "new", "--uses", "2"]).remove(0)).collect();
    let listed = pair.alice.json(&["invite", "list"]);
    assert_eq!((listed.len(), listed[0]["left"].as_u64()), (3, Some(2)));
    let id = made[0]["id"].as_str().unwrap();
    pair.alice.json(&["invite", "revoke", &id[..12]]);
    let link = made[1]["link"].as_str().unwrap();
    let revoked = pair.alice.run_with(&["invite", "revoke", "-"], link.as_bytes());
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let left = pair.alice.json(&["invite", "list"]);
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, made[2]["id"].as_str()));
    let carol = Person::new(pair.temp.path().join("carol"));
    carol.init("carol", &pair.relay);
    assert_ne!(carol.run_with(&["join", "-"], link.as_bytes()).code, 0);
    let unknown = pair.alice.run(&["--json", "invite", "revoke", &"0".repeat(64)]);
    assert_eq!((unknown.code, unknown.error()["code"].as_str()), (3, Some("not_found")));
    assert_eq!(pair.alice.run(&["invite", "revoke", "abc"]).code, 2);
}

#[test]
fn a_card_is_shown_to_contacts_alone() {
    let pair = Pair::new();
    pair.alice.json(&["contact", "list"]);
    let none = pair.bob.run(&["--json", "profile", "show", "alice"]);
    assert_eq!(none.code, 3, "{none:?}");
    pair.alice.json(&["profile", "set", "--name", "Alice A.", "--about", "birds"]);
    let card = &pair.bob.json(&["profile", "show", "alice"])[0];
    assert_eq!((card["display"].as_str(), card["about"].as_str()), (Some("Alice A."), Some("birds")));
    pair.alice.json(&["profile", "set", "--about", ""]);
    let card = &pair.bob.json(&["profile", "show", "alice"])[0];
    assert_eq!((card["display"].as_str(), card["about"].is_null()), (Some("Alice A."), true));
    assert_eq!(pair.alice.json(&["profile", "show"])[0]["display"], "Alice A.");
    assert!(pair.alice.run(&["profile", "show"]).out.starts_with("name     Alice A.\n"));
    let long = pair.alice.run(&["--json", "profile", "set", "--name", &"x".repeat(300)]);
    assert_eq!((long.code, long.error()["code"].as_str()), (7, Some("too_large")));
    assert_eq!(pair.alice.run(&["profile", "set"]).code, 2);
}

#[test]
fn a_chat_is_labelled_muted_pinned_and_put_away() {
    let mut pair = Pair::new();
    pair.alice.json(&["contact", "list"]);
    let chat = &pair.alice.json(&["chat", "label", "bob", "the team"])[0];
    assert_eq!((chat["label"].as_str(), chat["kept"].as_bool()), (Some("the team"), Some(true)), "{chat}");
    assert!(pair.alice.json(&["chat", "mute", "bob", "--for", "8h"])[0]["muted_until"].is_string());
    pair.alice.json(&["chat", "archive", "bob"]);
    pair.relay.stop();
    let pinned = &pair.alice.json(&["--timeout", "2s", "chat", "pin", "bob"])[0];
    assert_eq!((pinned["pinned"].as_bool(), pinned["kept"].as_bool()), (Some(true), Some(false)));
    pair.relay.run();
    let text = pair.alice.run(&["chat", "list"]).out;
    for word in ["bob@a.example", "the team", "pinned", "archived", "muted until"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    for undo in [&["chat", "unmute", "bob"][..], &["chat", "label", "bob"], &["chat", "unarchive", "bob"]] {
        pair.alice.json(undo);
    }
    let chat = &pair.alice.json(&["chat", "unpin", "bob"])[0];
    assert_eq!((chat["kept"].as_bool(), chat["pinned"].as_bool()), (Some(true), Some(false)), "{chat}");
    assert!(chat["label"].is_null() && chat["muted_until"].is_null() && chat["archived"] == false, "{chat}");
}

#[test]
fn everything_the_relay_keeps_is_written_to_a_file_for_its_owner() {
    let pair = Pair::new();
    pair.alice.json(&["profile", "set", "--name", "Alice"]);
    let daemon = Daemon::run(&pair.alice);
    let file = pair.temp.path().join("export.jsonl");
    let path = file.to_str().unwrap();
    let done = &pair.alice.json(&["account", "export", path])[0];
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(done["rows"].as_u64(), Some(text.lines().count() as u64));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 3 && rows.iter().all(|row| row["type"] == "row" && row["value"].is_string()), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(pair.alice.run(&["account", "export", path]).code, 2, "a file that exists is left alone");
    drop(daemon);
}

#[test]
fn an_account_is_deleted_by_its_name_said_again_and_its_history_stays() {
    let pair = Pair::new();
    pair.bob.json(&["send", "alice", "kept"]);
    pair.alice.json(&["inbox"]);
    let wrong = pair.alice.run(&["--json", "account", "delete", "--yes-delete", "bob"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert_eq!(pair.alice.run(&["account", "delete"]).code, 2);
    pair.alice.json(&["account", "delete", "--yes-delete", "alice"]);
    let after = pair.alice.run(&["--json", "invite", "new"]);
    assert_eq!((after.code, after.error()["code"].as_str()), (4, Some("deleted")), "{after:?}");
    assert_eq!(pair.alice.json(&["log", "bob"])[0]["text"], "kept");
    let carol = Person::new(pair.temp.path().join("carol"));
    let taken = carol.run(&["--json", "init", "--name", "alice", "--relay", &pair.relay.link]);
    assert_ne!(taken.code, 0, "nobody gets the name again: {taken:?}");
}

#[test]
fn wake_ups_are_named_as_browsers_print_them() {
    let pair = Pair::new();
    let key = format!("B{}", "A".repeat(86));
    let auth = "AAAAAAAAAAAAAAAAAAAAAA";
    let url = "https://push.example/subscription";
    let set = pair.alice.json(&["wake", "set", url, "--key", &key, "--auth", auth]);
    assert_eq!(set[0]["type"], "done");
    let wrong = pair.alice.run(&["--json", "wake", "confirm", auth]);
    assert_ne!(wrong.code, 0, "that is not the code: {wrong:?}");
    pair.alice.json(&["wake", "off"]);
    for args in [
        &["wake", "set", "http://push.example/", "--key", &key, "--auth", auth][..],
        &["wake", "set", url, "--key", "AAAA", "--auth", auth],
        &["wake", "set", url, "--key", &key, "--auth", "!"],
        &["wake", "confirm", "short"],
    ] {
        assert_eq!(pair.alice.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_relay_that_needs_no_invitation_to_register_takes_one_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("a.example", &temp.path().join("relay"));
    let alice = Person::new(temp.path().join("alice"));
    let args = ["--json", "init", "--name", "alice", "--relay", &relay.link, "--registration", "-"];
    let made = alice.run_with(&args, "ab".repeat(16).as_bytes());
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn people_compare_keys_by_number_and_a_number_that_differs_verifies_nobody() {
    let pair = Pair::new();
    let keys = |person: &Person, who: &str| person.json(&["contact", "verify", who]).remove(0);
    let (here, there) = (keys(&pair.alice, "bob"), keys(&pair.bob, "alice"));
    let number = here["number"].as_str().unwrap().to_owned();
    assert_eq!(here["number"], there["number"], "one number at both ends");
    assert_eq!(number.replace(' ', "").len(), 60);
    assert_eq!((here["type"].as_str(), here["trust"].as_str()), (Some("keys"), Some("unverified")));
    let mut other = number.clone();
    other.replace_range(..1, if number.starts_with('1') { "2" } else { "1" });
    let differs = pair.alice.run(&["--json", "contact", "verify", "bob", "--number", &other]);
    assert_eq!((differs.code, differs.error()["code"].as_str()), (5, Some("number_differs")), "{differs:?}");
    assert_eq!(pair.alice.json(&["contact", "list"])[0]["trust"], "unverified");
    let piped =
        pair.alice.run_with(&["--json", "contact", "verify", "bob", "--number", "-"], format!("{number}\n").as_bytes());
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(pair.alice.json(&["contact", "list"])[0]["trust"], "verified");
    assert!(pair.alice.run(&["contact", "list"]).out.contains("verified"));
    assert_eq!(pair.bob.json(&["contact", "verify", "alice", "--yes"])[0]["trust"], "verified");
    assert_eq!(pair.bob.json(&["contact", "verify", "alice", "--undo"])[0]["trust"], "unverified");
    let shown = pair.alice.run(&["contact", "verify", "bob", "--qr"]).out;
    assert!(shown.contains('\u{2580}') || shown.contains('\u{2588}'), "{shown}");
    assert!(pair.alice.run(&["contact", "show", "bob"]).out.contains("device   0"));
    for (args, code) in [
        (&["--json", "contact", "verify", "nobody"][..], 3),
        (&["--json", "contact", "verify", "bob", "--yes", "--undo"], 2),
    ] {
        let ended = pair.alice.run(args);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
    }
}
