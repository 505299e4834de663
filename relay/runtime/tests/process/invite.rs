//! Invitations to register: made, listed and taken back while the relay runs and while it does not.

use whimbrel_protocol::id::InviteToken;

use super::*;

fn place() -> Place {
    let place = Place::new("a.example");
    place.edit("registration = \"open\"", "registration = \"invite\"");
    place
}

fn invite(place: &Place, args: &[&str]) -> Output {
    relay(&[&["invite"], args, &["--json", "--config", &place.config()]].concat())
}

fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn open(place: &Place) -> Vec<Value> {
    told(&invite(place, &["list"]))["invites"].as_array().unwrap().clone()
}

/// What becomes of somebody who registers with this token.
async fn register(running: &Running, byte: u8, name: &str, token: Option<InviteToken>) -> Frame {
    let person = Person::new(byte);
    let mut link = person.connect(&running.link).await;
    let Frame::Register(mut words) = person.register(&link, name) else { panic!() };
    words.invite = token;
    ask(&mut link, &words.into()).await
}

fn refused(frame: &Frame) -> bool {
    matches!(frame, Frame::Refused(refused) if refused.code == RefusalCode::RegistrationClosed)
}

#[tokio::test]
async fn whoever_has_the_operators_token_may_register_as_often_as_it_says() {
    let place = place();
    // While no relay runs, by the store itself.
    let made = told(&invite(&place, &["new", "--uses", "2", "--expires", "1h"]));
    let token: InviteToken = made["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(made["hash"], token.hash().to_string());
    let left = (made["expires_ms"].as_u64().unwrap() - present().as_millis()) / 60_000;
    assert!((59..=70).contains(&left), "{left} minutes");
    assert_eq!(open(&place).len(), 1);

    let running = place.start();
    assert!(refused(&register(&running, 1, "alice", None).await));
    assert!(refused(&register(&running, 1, "alice", Some(InviteToken::from_bytes([1; 16]))).await));
    let answer = register(&running, 1, "alice", Some(token)).await;
    assert!(matches!(answer, Frame::Registered(_)), "{answer:?}");
    // While it runs, through it.
    let listed = open(&place);
    assert_eq!((listed.len(), &listed[0]["left"]), (1, &Value::from(1)));
    let answer = register(&running, 2, "bob", Some(token)).await;
    assert!(matches!(answer, Frame::Registered(_)), "{answer:?}");
    assert!(refused(&register(&running, 3, "carol", Some(token)).await));
    assert_eq!(open(&place), Vec::<Value>::new());

    let made = told(&invite(&place, &["new"]));
    let token: InviteToken = made["token"].as_str().unwrap().parse().unwrap();
    told(&invite(&place, &["revoke", &token.to_string()]));
    assert!(refused(&register(&running, 3, "carol", Some(token)).await));
    let (exit, code, _) = error_of(&invite(&place, &["revoke", &token.to_string()]));
    assert_eq!((exit, code.as_str()), (Some(3), "no_invite"));
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(!said.contains(&token.to_string()), "{said}");

    // What was made while it ran is there when it does not, and the other way round.
    let made = told(&invite(&place, &["new"]));
    let hash = made["hash"].as_str().unwrap();
    told(&invite(&place, &["revoke", hash]));
    assert_eq!(open(&place), Vec::<Value>::new());
}

#[test]
fn a_token_that_is_none_and_an_invitation_for_nobody_are_usage_errors() {
    let place = place();
    for args in [
        &["revoke", "nonsense"][..],
        &["new", "--uses", "0"],
        &["new", "--expires", "never"],
        &["new", "--uses", "1001"],
    ] {
        let (exit, code, _) = error_of(&invite(&place, args));
        assert_eq!((exit, code.as_str()), (Some(2), "usage"), "{args:?}");
    }
    // Printed for people: the token alone.
    let made = relay(&["invite", "new", "--config", &place.config()]);
    let token = String::from_utf8(made.stdout).unwrap();
    assert_eq!(token.trim().parse::<InviteToken>().unwrap().to_string(), token.trim());
}
