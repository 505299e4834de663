//! What a home relay may do to its own users, with real processes: the rows of the threat table that a person sees.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::stage::{Pair, Person, Relay};

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            // The socket of whoever ran here is nobody's any more.
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn texts(lines: &[serde_json::Value]) -> Vec<String> {
    lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

/// The relay goes back to a store in which Bob has acknowledged nothing, and delivers everything again: at once to a
/// device that is there, and after a restart, twice.
#[test]
fn t01_what_a_relay_delivers_again_is_shown_once_and_acknowledged_again() {
    let mut pair = Pair::new();
    let said = ["one", "two", "three"];
    for text in said {
        assert_eq!(pair.alice.json(&["send", "bob", text])[0]["state"], "stored");
    }
    let data = pair.relay.config.with_file_name("data");
    let kept = pair.temp.path().join("kept");
    pair.relay.stop();
    copy(&data, &kept);
    pair.relay.run();
    assert_eq!(texts(&pair.bob.json(&["inbox"])), said);
    for round in 0..2 {
        pair.relay.stop();
        std::fs::remove_dir_all(&data).unwrap();
        copy(&kept, &data);
        pair.relay.run();
        assert!(pair.bob.json(&["inbox"]).is_empty(), "{round}");
        assert_eq!(texts(&pair.bob.json(&["log", "alice"])), said, "{round}");
        // It was acknowledged again: a relay that is asked honestly has nothing left to hand out, and goes on.
        pair.relay.stop();
        pair.relay.run();
        assert!(pair.bob.json(&["inbox"]).is_empty(), "{round}");
    }
    pair.alice.json(&["send", "bob", "four"]);
    assert_eq!(texts(&pair.bob.json(&["inbox"])), ["four"]);
    pair.bob.json(&["send", "alice", "and back"]);
    assert_eq!(pair.alice.hears()["text"], "and back");
}

/// The relay says to have a message, and goes back to a store without it. Nobody says to have it, so it is said again,
/// two minutes after it was stored; and this time it arrives, once.
#[test]
fn t04_what_a_relay_said_to_have_and_lost_is_said_again_and_shown_once() {
    let mut pair = Pair::new();
    pair.bob.json(&["send", "alice", "before"]);
    assert_eq!(pair.alice.hears()["text"], "before");
    let data = pair.relay.config.with_file_name("data");
    let kept = pair.temp.path().join("kept");
    pair.relay.stop();
    copy(&data, &kept);
    pair.relay.run();
    let alice = Daemon::run(&pair.alice);
    assert_eq!(pair.alice.json(&["send", "bob", "do not lose this"])[0]["state"], "stored");
    pair.relay.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    pair.relay.run();
    let bob = Daemon::run(&pair.bob);
    assert!(pair.bob.json(&["inbox"]).is_empty(), "the relay has lost it");
    let mut follows = pair
        .bob
        .command(&["--json", "log", "alice", "--follow"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let (say, heard) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
    // A bound for a failing test alone.
    let found = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(300)).ok())
        .any(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["text"] == "do not lose this");
    let _ = follows.kill();
    let _ = follows.wait();
    assert!(found, "it was never said again");
    let delivered = pair.alice.json(&["log", "bob"]).last().unwrap()["state"].clone();
    assert!(delivered == "delivered" || delivered == "stored", "{delivered}");
    for daemon in [alice, bob] {
        daemon.stop(Signal::TERM);
    }
    let log = texts(&pair.bob.json(&["log", "alice"]));
    assert_eq!(log, ["before", "do not lose this"]);
}

/// So many people come by one invite while Bob is away that only the last resort is left for the others.
#[test]
fn t13_when_every_one_time_key_was_handed_out_conversations_start_all_the_same_and_the_stock_is_filled_again() {
    let temp = tempfile::tempdir().unwrap();
    let relay = Relay::start("a.example", &temp.path().join("relay"));
    let bob = Person::new(temp.path().join("bob"));
    bob.init("bob", &relay);
    assert_eq!(bob.json(&["status"])[0]["key_packages"], 32);
    let people = 34_u64;
    let invite = bob.run(&["invite", "new", "--uses", &people.to_string()]);
    assert_eq!(invite.code, 0, "{invite:?}");
    for n in 0..people {
        let guest = Person::new(temp.path().join(format!("guest{n}")));
        let ended = guest.run_with(&["init", "--name", &format!("guest{n}"), "--invite", "-"], invite.out.as_bytes());
        assert_eq!(ended.code, 0, "{n}: {ended:?}");
        assert_eq!(guest.json(&["send", "bob", &format!("hello from {n}")])[0]["state"], "stored");
    }
    let heard = bob.json(&["inbox"]);
    let heard: std::collections::BTreeSet<String> = texts(&heard).into_iter().collect();
    assert_eq!(heard, (0..people).map(|n| format!("hello from {n}")).collect());
    assert_eq!(bob.json(&["status"])[0]["key_packages"], 32);
    for n in [0, 32, 33] {
        bob.json(&["send", &format!("guest{n}"), "hello yourself"]);
        let guest = Person::new(temp.path().join(format!("guest{n}")));
        assert_eq!(guest.hears()["text"], "hello yourself", "{n}");
    }
}

/// A relay that asks to come back later is asked again by the command itself, as long as there is time.
#[test]
fn t66_a_command_that_came_too_fast_waits_as_long_as_it_was_told_and_says_so_when_there_is_no_time() {
    let temp = tempfile::tempdir().unwrap();
    let mut relay = Relay::init("a.example", &temp.path().join("relay"));
    relay.set("requests = { rate = \"600/min\", burst = 600 }", "requests = { rate = \"30/min\", burst = 8 }");
    relay.run();
    let alice = Person::new(temp.path().join("alice"));
    alice.init("alice", &relay);
    let mut hasty = None;
    for _ in 0..30 {
        let ended = alice.run(&["--json", "--timeout", "1s", "invite", "list"]);
        if ended.code != 0 {
            hasty = Some(ended);
            break;
        }
    }
    let hasty = hasty.expect("the rate was met");
    assert_eq!((hasty.code, hasty.error()["code"].as_str()), (7, Some("too_fast")), "{hasty:?}");
    let patient = alice.run(&["--json", "--timeout", "60s", "invite", "list"]);
    assert_eq!(patient.code, 0, "{patient:?}");
}

/// The relay goes back to a store in which nobody has Bob's name, and lets somebody else have it.
#[test]
fn t10_a_name_that_a_relay_gives_to_another_leads_nobody_to_them_who_knows_its_owner_or_has_an_invite_of_theirs() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("relay");
    let mut relay = Relay::start("a.example", &dir);
    let person = |name: &str| Person::new(temp.path().join(name));
    let (alice, bob, carol, mallory) = (person("alice"), person("bob"), person("carol"), person("mallory"));
    alice.init("alice", &relay);
    let (data, kept) = (relay.config.with_file_name("data"), temp.path().join("kept"));
    relay.stop();
    copy(&data, &kept);
    relay.run();
    alice.invites(&bob, "bob");
    alice.json(&["send", "bob", "hello"]);
    assert_eq!(bob.hears()["text"], "hello");
    let account = |person: &Person| person.json(&["id", "show"])[0]["account"].clone();
    let known =
        |by: &Person| by.json(&["contact", "list"]).iter().map(|one| one["account"].clone()).collect::<Vec<_>>();
    assert_eq!(known(&alice), [account(&bob)]);
    let invite = bob.run(&["invite", "new"]).out;
    relay.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    relay.run();
    mallory.init("bob", &relay);
    carol.init("carol", &relay);
    assert_ne!(account(&mallory), account(&bob));
    // Whoever knows him is not led to the other by his name, and what they say is not for the other.
    let asked = alice.run(&["--json", "request", "send", "bob@a.example"]);
    assert_eq!((asked.code, asked.error()["code"].as_str()), (3, Some("not_found")), "{asked:?}");
    alice.run(&["send", "bob", "is it you?"]);
    assert!(mallory.json(&["request", "list"]).is_empty() && mallory.json(&["inbox"]).is_empty());
    assert_eq!(known(&alice), [account(&bob)]);
    // Whoever has an invite of his is led to nobody.
    let led = carol.run_with(&["--json", "join", "-"], invite.as_bytes());
    assert_eq!((led.code, led.error()["code"].as_str()), (3, Some("not_found")), "{led:?}");
    assert!(known(&carol).is_empty() && mallory.json(&["contact", "list"]).is_empty());
    // Whoever has but the name is, and is told that nobody but the relay says so.
    let asked = carol.json(&["request", "send", "bob@a.example"]);
    assert_eq!(asked[0]["standing"], "asked");
    assert!(mallory.run(&["request", "list"]).out.contains("carol@a.example"));
    let shown = carol.run(&["contact", "show", "bob@a.example"]);
    assert!(shown.code == 0 && shown.out.contains("not verified"), "{shown:?}");
}
