//! Row 1 through real processes: a relay with several push addresses, and devices that are told where to go.

use std::net::UdpSocket;

use sha2::{Digest, Sha256};
use whimbrel_protocol::reception::Admitted;

use super::*;

/// Two ports of loopback that are free.
fn two_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

/// Where an account belongs, by the page: the address with the greatest SHA-256 of account id and address.
fn belongs(person: &Person, push: &[String]) -> usize {
    let account = person.id().account;
    let weight = |at: &usize| Sha256::digest([account.as_bytes(), push[*at].as_bytes()].concat());
    (0..push.len()).max_by_key(weight).unwrap()
}

async fn hello(person: &Person, link: &mut Link) -> Admitted {
    let hello = person.hello(link);
    match ask(link, &hello).await {
        Frame::Admitted(admitted) => admitted,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn row_1_a_device_that_comes_in_at_another_push_address_is_told_where_to_go_and_served_there_alone() {
    let place = Place::new("a.example");
    let push: Vec<String> = two_ports().map(|port| format!("127.0.0.1:{port}")).into();
    let listed = format!("[\"{}\", \"{}\"]", push[0], push[1]);
    place.edit("public = [\"127.0.0.1:0\"]", &format!("public = {listed}"));
    place.edit("# push = [\"push1.relay.example:4433\", \"push2.relay.example:4434\"]", &format!("push = {listed}"));
    let running = place.start();
    let at = |door: usize| RelayLink { endpoint: push[door].clone(), ..running.link.clone() };
    let mut here = [0; 2];
    for byte in 1..=30 {
        let person = Person::new(byte);
        let home = belongs(&person, &push);
        let mut link = person.connect(&at(1 - home)).await;
        let register = person.register(&link, &format!("p{byte}"));
        assert!(matches!(ask(&mut link, &register).await, Frame::Registered(_)));
        assert_eq!(hello(&person, &mut link).await.push_address.as_ref(), Some(&push[home]));
        // With that the link ends: it is served nothing there.
        assert!(matches!(link.receiver.next().await, Err(ReceiveError::Closed(_))));
        let mut link = person.connect(&at(home)).await;
        assert_eq!(hello(&person, &mut link).await.push_address, None);
        link.receiver.authenticated();
        while link.receiver.next().await.unwrap() != Frame::from(CaughtUp {}) {}
        here[home] += 1;
    }
    assert!(here.iter().all(|count| *count > 0), "{here:?}");
}

#[test]
fn a_mistake_in_push_addresses_is_told_with_its_line() {
    let place = Place::new("a.example");
    place.edit("# push = [\"push1.relay.example:4433\", \"push2.relay.example:4434\"]", "push = [\"here\", \"p.a:1\"]");
    let (exit, code, error) = error_of(&relay(&["check", "--json", "--config", &place.config()]));
    assert_eq!((exit, code.as_str()), (Some(2), "config"));
    let text = std::fs::read_to_string(place.config()).unwrap();
    let line = text.lines().position(|line| line.starts_with("push = ")).unwrap() + 1;
    let mistakes = error["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes.iter().all(|mistake| mistake["line"] == line), "{mistakes:?}");
}
