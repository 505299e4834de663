//! Row 1 with real nodes: whoever belongs at another push address of the relay than the one they were given goes there.

use super::stage::{Person, Relay};

/// How often the relay has sent somebody on.
fn sent_on(relay: &Relay) -> usize {
    let log = std::fs::read_to_string(relay.config.with_file_name("relay.log")).unwrap();
    log.lines().filter(|line| line.contains("belongs at another push address")).count()
}

/// A relay with two push addresses listed so; `public` is its own and `other`.
fn doors(dir: &std::path::Path, other: &str, push: impl Fn(&str, &str) -> [String; 2]) -> Relay {
    let mut relay = Relay::init("a.example", dir);
    let own = relay.link.split_once("at=").unwrap().1.split('#').next().unwrap().to_owned();
    let [first, second] = push(&own, other);
    relay.set(&format!("public = [\"{own}\"]"), &format!("public = [\"{own}\", \"{other}\"]"));
    relay.set(
        "# push = [\"push1.relay.example:4433\", \"push2.relay.example:4434\"]",
        &format!("push = [\"{first}\", \"{second}\"]"),
    );
    relay.run();
    relay
}

/// How often the relay served somebody who could not be served where they belong.
fn stayed(relay: &Relay) -> usize {
    let log = std::fs::read_to_string(relay.config.with_file_name("relay.log")).unwrap();
    log.lines().filter(|line| line.contains("could not be served at its push address")).count()
}

#[test]
fn row_1_nobody_is_kept_out_by_a_push_address_that_leads_nowhere_or_by_two_in_each_others_place() {
    let temp = tempfile::tempdir().unwrap();
    let port = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = port();
    // By a name, the relay cannot see that they are crossed.
    let named = |at: &str| at.replace("127.0.0.1", "localhost");
    for case in ["crossed", "lost"] {
        let push = |own: &str, other: &str| match case {
            "crossed" => [named(other), named(own)],
            _ => [own.to_owned(), format!("127.0.0.1:{nowhere}")],
        };
        let relay = doors(&temp.path().join(case).join("relay"), &format!("127.0.0.1:{}", port()), push);
        let person = |name: &str| Person::new(temp.path().join(case).join(name));
        let alice = person("alice");
        alice.init("alice", &relay);
        let mut met = 0;
        // Where somebody belongs is chance: one who cannot be served there is met soon.
        while stayed(&relay) == 0 || met < 2 {
            assert!(met < 40, "{case}: nobody belongs elsewhere");
            let guest = person(&format!("guest{met}"));
            alice.invites(&guest, &format!("guest{met}"));
            let hello = format!("hello from {met}");
            assert_eq!(guest.json(&["send", "alice", &hello])[0]["state"], "stored", "{case}");
            assert_eq!(alice.hears()["text"], hello.as_str());
            met += 1;
        }
    }
}

#[test]
fn row_1_people_who_are_told_to_go_to_another_address_of_their_relay_go_there_and_are_served() {
    let temp = tempfile::tempdir().unwrap();
    let mut relay = Relay::init("a.example", &temp.path().join("relay"));
    let own = relay.link.split_once("at=").unwrap().1.split('#').next().unwrap().to_owned();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let push = [own.clone(), format!("127.0.0.1:{port}")];
    let listed = format!("[\"{}\", \"{}\"]", push[0], push[1]);
    relay.set(&format!("public = [\"{own}\"]"), &format!("public = {listed}"));
    relay.set("# push = [\"push1.relay.example:4433\", \"push2.relay.example:4434\"]", &format!("push = {listed}"));
    relay.set("level = \"info\"", "level = \"debug\"");
    relay.run();
    let alice = Person::new(temp.path().join("alice"));
    alice.init("alice", &relay);
    let (mut here, mut there) = (0, 0);
    // Where somebody belongs is chance: one at each is met soon.
    while here == 0 || there == 0 {
        let n = here + there;
        assert!(n < 40, "{here} here, {there} there");
        let guest = Person::new(temp.path().join(format!("guest{n}")));
        alice.invites(&guest, &format!("guest{n}"));
        let (before, hello) = (sent_on(&relay), format!("hello from {n}"));
        assert_eq!(guest.json(&["send", "alice", &hello])[0]["state"], "stored");
        match sent_on(&relay) - before {
            0 => here += 1,
            times => {
                // Not in circles.
                assert_eq!(times, 1);
                there += 1;
            }
        }
        assert_eq!(alice.hears()["text"], hello.as_str());
        assert_eq!(alice.json(&["send", &format!("guest{n}"), "and back"])[0]["state"], "stored");
        assert_eq!(guest.hears()["text"], "and back");
    }
}
