//! What a relay writes into its log: at `info` nobody and no place, at `debug` one line a request.

use whimbrel_protocol::wake::{SetWake, WakeEndpoint};

use super::*;

/// Comings, requests, refusals, a wake-up that leads nowhere, a frame that is none; gives the log and who was there.
async fn lines(level: &str) -> (String, Vec<Person>) {
    let place = Place::new("a.example");
    place.edit("level = \"info\"", &format!("level = \"{level}\""));
    let running = place.start();
    let people = vec![Person::new(1), Person::new(2)];
    let mut alice = come_in(&people[0], &running.link, "alice").await;
    come_in(&people[1], &running.link, "robert").await;
    let who = Who::Address("robert@a.example".parse().unwrap());
    let answer = ask(&mut alice, &LookUp { request: RequestId::new(2), who, hint: None }.into()).await;
    assert!(matches!(answer, Frame::LookedUp(_)), "{answer:?}");
    let who = Who::Address("nobody@a.example".parse().unwrap());
    let answer = ask(&mut alice, &LookUp { request: RequestId::new(3), who, hint: None }.into()).await;
    assert!(matches!(answer, Frame::Refused(_)), "{answer:?}");
    let key = [vec![4], vec![1; 64]].concat();
    let endpoint = WakeEndpoint { url: "https://127.0.0.1:9/push-secret".to_owned(), key, auth: [1; 16] };
    let answer = ask(&mut alice, &SetWake { request: RequestId::new(4), endpoint: Some(endpoint) }.into()).await;
    assert!(matches!(answer, Frame::Done(_)), "{answer:?}");
    // A stranger, and a device that sends what only relays send.
    let stranger = Person::new(3);
    let mut link = stranger.connect(&running.link).await;
    let hello = stranger.hello(&link);
    ask(&mut link, &hello).await;
    alice.sender.send(&Frame::from(CaughtUp {})).unwrap();
    while alice.receiver.next().await.is_ok() {}
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    (said, people)
}

#[tokio::test]
async fn at_info_the_log_names_nobody_and_no_place() {
    let (said, people) = lines("info").await;
    assert!(said.contains("an account was registered"), "{said}");
    let mut secrets: Vec<String> =
        ["alice", "robert", "nobody", "push-secret", "127.0.0.1", "[::1]"].map(str::to_owned).into();
    for person in &people {
        // As ids are written when they are cut short, too.
        secrets.push(person.id().account.to_string()[..8].to_owned());
        secrets.push(person.transport.public().to_string()[..8].to_owned());
        secrets.push(person.device.public().to_string()[..8].to_owned());
    }
    assert!(!said.contains("link{") && !said.contains("request{"), "nothing ties lines together: {said}");
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} in\n{said}");
    }
}

#[tokio::test]
async fn at_debug_each_request_has_a_line_with_its_kind_its_code_and_its_time() {
    let (said, _) = lines("debug").await;
    let of = |kind: &str| {
        let line = |line: &&str| line.contains(&format!("kind=\"{kind}\"")) && line.contains("micros=");
        said.lines().filter(line).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("Register").len(), 2, "{said}");
    assert_eq!(of("Hello").len(), 3, "{said}");
    let look_ups = of("LookUp");
    assert_eq!(look_ups.len(), 2, "{said}");
    assert!(look_ups[0].contains("code=\"-\"") && look_ups[1].contains("code=\"NotFound\""), "{look_ups:?}");
    assert!(of("Hello").iter().any(|line| line.contains("code=\"NotAuthenticated\"")), "{said}");
    // What the core says while it serves a request says of which, and on which link.
    let registered: Vec<&str> = said.lines().filter(|line| line.contains("an account was registered")).collect();
    let span = |line: &&str| line.split_once("request{kind=\"Register\"}: ").map(|(before, _)| before.to_owned());
    let spans: Vec<String> = registered.iter().filter_map(span).collect();
    assert_eq!(spans.len(), 2, "{registered:?}");
    let link = |span: &String| span.split_once("link{link=").map(|(_, rest)| rest.to_owned());
    let links: std::collections::BTreeSet<String> = spans.iter().filter_map(link).collect();
    assert_eq!(links.len(), 2, "a link each: {spans:?}");
    // One line a request all the same: of a link its spans, of a request what it was and what came of it.
    for line in said.lines().filter(|line| line.contains("micros=")) {
        assert!(line.contains("link{link=") && !line.contains("request{"), "{line}");
    }
    assert!(of("CaughtUp")[0].contains("code=\"Unexpected\""), "{said}");
}
