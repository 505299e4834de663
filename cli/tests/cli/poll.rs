//! A network that lets no UDP through: the same commands over HTTPS, with real processes end to end.

use rustix::process::Signal;

use super::daemon::Daemon;
use super::stage::{Person, ROUNDS_MAX, Relay};

/// A relay whose UDP port leads nowhere: it listens on another one. Over TCP it is where it says.
fn relay_without_udp(dir: &std::path::Path) -> Relay {
    let mut relay = Relay::init("a.example", dir);
    let (_, at) = relay.link.split_once("at=").unwrap();
    let endpoint = at.split('#').next().unwrap().to_owned();
    relay.set(&format!("public = [\"{endpoint}\"]"), "public = [\"127.0.0.1:0\"]");
    relay.set("# https = [\"[::]:4433\"]", &format!("https = [\"{endpoint}\"]"));
    relay.run();
    relay
}

fn choose(person: &Person, transport: &str) {
    let folder = person.home.join("config/whimbrel");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), format!("transport = \"{transport}\"\n")).unwrap();
}

#[test]
fn row_7_people_whose_network_lets_no_udp_through_meet_send_and_receive_over_https() {
    let temp = tempfile::tempdir().unwrap();
    let mut relay = relay_without_udp(&temp.path().join("relay"));
    let (alice, bob) = (Person::new(temp.path().join("alice")), Person::new(temp.path().join("bob")));
    // By itself, and by choice.
    choose(&bob, "https");
    alice.init("alice", &relay);
    alice.invites(&bob, "bob");
    let long = "x".repeat(60_000);
    for text in ["hello", long.as_str()] {
        let sent = bob.run_with(&["--json", "send", "alice", "-"], text.as_bytes());
        assert_eq!((sent.code, sent.values()[0]["state"].as_str()), (0, Some("stored")), "{sent:?}");
        assert_eq!(alice.hears()["text"], text);
    }
    // One who stays is pushed what comes, and goes on when the relay was away.
    let daemon = Daemon::run(&bob);
    for text in ["to the daemon", "after the relay was away"] {
        assert_eq!(alice.json(&["send", "bob", text])[0]["state"], "stored");
        let heard = (0..ROUNDS_MAX).any(|_| bob.json(&["inbox"]).iter().any(|line| line["text"] == text));
        assert!(heard, "{text} did not come");
        relay.stop();
        relay.run();
    }
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
}

#[test]
fn who_wants_quic_alone_is_told_that_the_relay_is_out_of_reach_and_a_choice_that_is_none_is_a_mistake() {
    let temp = tempfile::tempdir().unwrap();
    let relay = relay_without_udp(&temp.path().join("relay"));
    let alice = Person::new(temp.path().join("alice"));
    choose(&alice, "quic");
    let ended = alice.run(&["--json", "init", "--name", "alice", "--relay", &relay.link]);
    assert_eq!((ended.code, ended.error()["code"].as_str()), (6, Some("relay_unreachable")), "{ended:?}");
    choose(&alice, "carrier pigeon");
    let ended = alice.run(&["--json", "status"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("carrier pigeon") && ended.err.contains("https"), "{ended:?}");
}
