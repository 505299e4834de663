//! Groups whose members change: five people at two relays, each command a process of its own.

use rustix::process::Signal;
use serde_json::Value;

use super::daemon::Daemon;
use super::stage::{Person, ROUNDS_MAX, Relay};

/// Alice, Carol and Erin at a.example, Bob and Dave at b.example; all know Alice.
struct Stage {
    a: Relay,
    b: Relay,
    people: Vec<Person>,
    _temp: tempfile::TempDir,
}

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

impl Stage {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut a = Relay::init("a.example", &temp.path().join("relay-a"));
        let mut b = Relay::init("b.example", &temp.path().join("relay-b"));
        a.pin("b.example", &b);
        b.pin("a.example", &a);
        a.run();
        b.run();
        let people: Vec<_> = NAMES.iter().map(|name| Person::new(temp.path().join(name))).collect();
        for (n, name) in NAMES.iter().enumerate() {
            people[n].init(name, if n % 2 == 0 { &a } else { &b });
        }
        for other in &people[1..] {
            let invite = people[0].run(&["invite", "new"]);
            let ended = other.run_with(&["join", "-"], invite.out.as_bytes());
            assert_eq!(ended.code, 0, "{ended:?}");
        }
        Self { a, b, people, _temp: temp }
    }

    fn alice(&self) -> &Person {
        &self.people[0]
    }
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["text"].as_str()).collect()
}

/// Asks until it is as wanted: what another relay has to forward takes its time.
fn until(person: &Person, args: &[&str], wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    for _ in 0..ROUNDS_MAX {
        // It fetches what waits, and leaves it unread.
        person.json(&["inbox", "--peek"]);
        let mut all = vec!["--json"];
        all.extend(args);
        let ended = person.run(&all);
        if ended.code == 0 {
            last = ended.values();
            if wanted(&last) {
                return last;
            }
        }
    }
    panic!("{args:?} never came to what was wanted: {last:?}");
}

fn members(group: &[Value]) -> usize {
    group[0]["members"].as_array().map_or(0, Vec::len)
}

/// Waits until somebody has read exactly this as the newest in a group.
fn reads(person: &Person, group: &str, text: &str) {
    until(person, &["log", group], |lines| texts(lines).last() == Some(&text));
}

#[test]
fn five_people_at_two_relays_come_and_go_and_talk_while_the_hub_dies() {
    let mut stage = Stage::new();
    let [_, bob, carol, dave, erin] = &stage.people[..] else { panic!("five people") };
    let made = stage.alice().json(&["group", "new", "Sailing", "bob", "carol"]);
    assert_eq!((members(&made), made[0]["title"].as_str()), (3, Some("Sailing")));
    until(bob, &["group", "show", "sailing"], |group| members(group) == 3);
    until(carol, &["group", "show", "sailing"], |group| members(group) == 3);
    bob.json(&["send", "sailing", "to three"]);
    reads(carol, "sailing", "to three");

    let added = stage.alice().json(&["group", "add", "sailing", "dave", "erin"]);
    assert_eq!((members(&added), added[0]["epoch"].as_u64()), (5, Some(2)));
    until(dave, &["group", "show", "sailing"], |group| members(group) == 5);
    until(erin, &["group", "show", "sailing"], |group| members(group) == 5);
    until(bob, &["group", "show", "sailing"], |group| members(group) == 5);

    // The hub dies: who lives elsewhere writes on, and it comes when the hub is back.
    stage.a.stop();
    dave.json(&["send", "sailing", "while the hub is down"]);
    reads(bob, "sailing", "while the hub is down");
    stage.a.run();
    for person in [carol, erin] {
        reads(person, "sailing", "while the hub is down");
    }

    let removed = stage.alice().json(&["group", "remove", "sailing", "carol", "bob"]);
    assert_eq!(members(&removed), 3);
    for person in [bob, carol] {
        until(person, &["group", "show", "sailing"], |group| group[0]["standing"] == "left");
        let refused = person.run(&["--json", "send", "sailing", "am I in?"]);
        assert_ne!(refused.code, 0, "{refused:?}");
    }
    until(dave, &["group", "show", "sailing"], |group| members(group) == 3);
    dave.json(&["send", "sailing", "to those who are left"]);
    reads(erin, "sailing", "to those who are left");
    for person in [bob, carol] {
        person.json(&["inbox"]);
        let seen = person.json(&["log", "sailing"]);
        assert!(!texts(&seen).contains(&"to those who are left"), "{seen:?}");
        assert!(texts(&seen).contains(&"while the hub is down"), "{seen:?}");
    }
    let refused = dave.run(&["--json", "group", "add", "sailing", "alice"]);
    assert_ne!(refused.code, 0, "who is no admin changes nobody: {refused:?}");

    erin.json(&["group", "leave", "sailing"]);
    until(stage.alice(), &["group", "show", "sailing"], |group| members(group) == 2);
    until(erin, &["group", "show", "sailing"], |group| group[0]["standing"] == "left");
    stage.b.stop();
}

/// Who is an admin of a group, by what somebody is shown.
fn admins(group: &[Value]) -> Vec<String> {
    let members = group[0]["members"].as_array().into_iter().flatten();
    let mut names: Vec<_> = members.filter(|one| one["admin"] == true).map(|one| one["name"].to_string()).collect();
    names.sort();
    names.iter().map(|name| name.trim_matches('"').split('@').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_group_goes_on_with_another_admin_when_the_one_who_made_it_leaves() {
    let mut stage = Stage::new();
    let [alice, bob, carol, ..] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Hiking", "bob", "carol"]);
    for person in [bob, carol] {
        until(person, &["group", "show", "hiking"], |group| members(group) == 3);
    }
    let refused = alice.run(&["--json", "group", "leave", "hiking"]);
    assert_ne!(refused.code, 0, "its only admin: {refused:?}");
    let refused = bob.run(&["--json", "group", "role", "hiking", "admin", "bob"]);
    assert_ne!(refused.code, 0, "nobody makes themselves one: {refused:?}");
    let made = alice.json(&["group", "role", "hiking", "admin", "bob"]);
    assert_eq!((admins(&made), made[0]["adds"].as_str()), (vec!["alice".to_owned(), "bob".to_owned()], Some("admins")));
    until(carol, &["group", "show", "hiking"], |group| admins(group).len() == 2);
    until(bob, &["group", "show", "hiking"], |group| admins(group).len() == 2);

    // At another relay than the hub's, he says what everybody may do, and what it is called.
    let ruled = bob.json(&["group", "policy", "hiking", "--rename", "members"]);
    assert_eq!((ruled[0]["adds"].as_str(), ruled[0]["renames"].as_str()), (Some("admins"), Some("members")));
    let shown = bob.run(&["group", "policy", "hiking"]).out;
    assert!(shown.contains("everybody says what it is called") && !shown.contains("everybody takes"), "{shown}");
    until(carol, &["group", "show", "hiking"], |group| group[0]["renames"] == "members");
    carol.json(&["group", "rename", "hiking", "Climbing"]);
    until(bob, &["group", "show", "climbing"], |group| group[0]["title"] == "Climbing");

    until(alice, &["group", "show", "climbing"], |group| members(group) == 3);
    alice.json(&["group", "leave", "climbing"]);
    until(bob, &["group", "show", "climbing"], |group| members(group) == 2);
    until(alice, &["group", "show", "climbing"], |group| group[0]["standing"] == "left");
    // To Carol, who is no friend of his, he is known by his account.
    until(carol, &["group", "show", "climbing"], |group| members(group) == 2 && admins(group).len() == 1);
    carol.json(&["send", "climbing", "we are two"]);
    reads(bob, "climbing", "we are two");
    let refused = bob.run(&["--json", "group", "role", "climbing", "member", "bob"]);
    assert_ne!(refused.code, 0, "the last of them: {refused:?}");
    stage.b.stop();
}

#[test]
fn whoever_leaves_while_the_admin_is_away_is_taken_out_by_another_member_whose_device_runs() {
    let stage = Stage::new();
    let [alice, bob, carol, ..] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Rowing", "bob", "carol"]);
    for person in [bob, carol] {
        until(person, &["group", "show", "rowing"], |group| members(group) == 3);
    }
    // From here on Alice runs nothing.
    let daemon = Daemon::run(carol);
    bob.json(&["group", "leave", "rowing"]);
    until(bob, &["group", "show", "rowing"], |group| group[0]["standing"] == "left");
    until(carol, &["group", "show", "rowing"], |group| members(group) == 2);
    carol.json(&["send", "rowing", "we are two"]);
    assert_eq!(daemon.stop(Signal::INT), Some(0));
    reads(alice, "rowing", "we are two");
    assert_eq!(members(&alice.json(&["group", "show", "rowing"])), 2);
    let texts_of_bob = bob.json(&["log", "rowing"]);
    assert!(!texts(&texts_of_bob).contains(&"we are two"), "{texts_of_bob:?}");
}

#[test]
fn whoever_comes_by_a_link_is_in_the_group_a_stranger_of_another_relay_too() {
    let stage = Stage::new();
    let [alice, bob, carol, dave, _] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Chess", "carol"]);
    let refused = carol.run(&["--json", "group", "link", "chess"]);
    assert_ne!(refused.code, 0, "she takes nobody in: {refused:?}");
    let link = alice.run(&["group", "link", "chess", "--uses", "2"]);
    assert_eq!(link.code, 0, "{link:?}");
    let listed = alice.run(&["invite", "list"]).out;
    assert!(listed.contains("uses left: 2") && listed.contains("into Chess"), "{listed}");
    // Alice is not there: he is told what will come of it, and is in once she is.
    let asked = bob.run_with(&["--timeout", "2s", "join", "-"], link.out.as_bytes());
    assert!(asked.code == 0 && asked.out.contains("asked to be taken into the group"), "{asked:?}");
    let daemon = Daemon::run(alice);
    until(bob, &["group", "show", "chess"], |group| members(group) == 3);
    // Who knows nobody comes by it, too, in one command.
    let stranger = Person::new(stage._temp.path().join("frank"));
    stranger.init("frank", &stage.b);
    let joined = stranger.run_with(&["--json", "join", "-"], link.out.as_bytes());
    assert_eq!(joined.code, 0, "{joined:?}");
    assert_eq!(members(&joined.values()[1..]), 4, "{joined:?}");
    assert_eq!(joined.values()[1]["title"], "Chess");
    stranger.json(&["send", "chess", "your move"]);
    reads(carol, "chess", "your move");
    reads(bob, "chess", "your move");
    // Two have come by it.
    let late = dave.run_with(&["--json", "join", "-"], link.out.as_bytes());
    assert!(late.code == 2 && late.err.contains("declined"), "{late:?}");
    let forged = link.out.trim().replace(",0,", ",1,");
    let refused = dave.run_with(&["--json", "join", "-"], forged.as_bytes());
    assert!(refused.code == 5 && refused.err.contains("untrusted"), "{refused:?}");
    drop(daemon);
}

#[test]
fn a_picture_that_is_given_to_a_group_is_the_same_on_the_other_side_and_for_newcomers() {
    let stage = Stage::new();
    let [alice, bob, carol, ..] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Garden", "bob"]);
    let folder = stage._temp.path();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let picture = [&b"\x89PNG\r\n\x1a\n"[..], &[7; 9_000]].concat();
    std::fs::write(file("garden.png"), &picture).unwrap();
    std::fs::write(file("notes.txt"), "no picture").unwrap();
    std::fs::write(file("huge.png"), [&picture[..], &[0; 32 * 1024]].concat()).unwrap();
    for bad in ["notes.txt", "huge.png", "missing.png"] {
        let refused = alice.run(&["--json", "group", "picture", "garden", &file(bad)]);
        assert!(refused.code == 2 || refused.code == 7, "{bad}: {refused:?}");
    }
    let shown = alice.json(&["group", "picture", "garden", &file("garden.png")]);
    assert_eq!(shown[0]["picture"]["format"], "png");
    alice.json(&["group", "add", "garden", "carol"]);
    for (person, name) in [(bob, "bob.png"), (carol, "carol.png")] {
        until(person, &["group", "show", "garden"], |group| group[0]["picture"]["bytes"] == picture.len());
        person.json(&["group", "picture", "garden", "--save", &file(name)]);
        assert_eq!(std::fs::read(file(name)).unwrap(), picture, "{name}");
        let again = person.run(&["--json", "group", "picture", "garden", "--save", &file(name)]);
        assert_eq!(again.code, 2, "it exists: {again:?}");
    }
    alice.json(&["group", "picture", "garden", "--remove"]);
    until(bob, &["group", "show", "garden"], |group| group[0]["picture"].is_null());
    assert_eq!(bob.run(&["--json", "group", "picture", "garden", "--save", &file("none.png")]).code, 3);
}

#[test]
fn what_somebody_blocked_says_in_a_group_is_hidden_until_it_is_asked_for() {
    let stage = Stage::new();
    let [alice, _, carol, _, erin] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Rowing", "carol", "erin"]);
    for person in [carol, erin] {
        until(person, &["group", "show", "rowing"], |group| members(group) == 3);
    }
    erin.json(&["contact", "block", "carol@a.example"]);
    carol.json(&["send", "rowing", "unheard"]);
    let log = until(erin, &["log", "rowing"], |lines| !lines.is_empty());
    assert_eq!((log[0]["text"].as_str(), log[0]["hidden"].as_str()), (Some(""), Some("blocked")));
    assert!(erin.json(&["inbox"]).is_empty(), "it is never unread");
    let shown = erin.run(&["log", "rowing"]).out;
    assert!(shown.contains("(hidden: blocked)") && !shown.contains("unheard"), "{shown}");
    assert_eq!(texts(&erin.json(&["log", "rowing", "--blocked"])), ["unheard"]);
    // The others read it as ever, and so does whoever unblocks.
    reads(alice, "rowing", "unheard");
    erin.json(&["contact", "unblock", "carol@a.example"]);
    assert_eq!(texts(&erin.json(&["log", "rowing"])), ["unheard"]);
}

#[test]
fn of_two_commits_from_two_relays_at_once_one_holds_and_both_are_done() {
    let stage = Stage::new();
    let [alice, bob, carol, dave, _] = &stage.people[..] else { panic!("five people") };
    alice.json(&["group", "new", "Race", "bob", "carol"]);
    until(bob, &["group", "show", "race"], |group| members(group) == 3);
    until(carol, &["group", "show", "race"], |group| members(group) == 3);
    let daemons = [Daemon::run(alice), Daemon::run(bob), Daemon::run(carol)];
    for round in 1..=3_u64 {
        let ended: Vec<_> = std::thread::scope(|scope| {
            let all = [alice, bob, carol].map(|one| scope.spawn(|| one.run(&["--json", "group", "rekey", "race"])));
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for one in ended {
            assert_eq!(one.code, 0, "{one:?}");
        }
        for person in [alice, bob, carol] {
            until(person, &["group", "show", "race"], |group| group[0]["epoch"].as_u64() == Some(1 + 3 * round));
        }
    }
    drop(daemons);
    alice.json(&["group", "add", "race", "dave"]);
    // What Bob says before he has heard of it would be of the epoch before, and not for Dave.
    for person in [bob, dave] {
        until(person, &["group", "show", "race"], |group| members(group) == 4);
    }
    bob.json(&["send", "race", "after the race"]);
    for person in [alice, carol, dave] {
        reads(person, "race", "after the race");
    }
}
