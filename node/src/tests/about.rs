//! What is said about messages, what is missing, what goes by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Reaction, Target};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::thread::Envelope;
use whimbrel_protocol::time::Hlc;

use super::hostile::seal_as;
use super::world::{ALICE, BOB, World, friends, world};
use crate::api::{Command, CommandError, Draft, Event, Reply};
use crate::views::{self, Line, Page};

fn lines(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Vec<Line> {
    views::messages(world.store(who), &thread, Page::Oldest, 1_000).unwrap()
}

/// What somebody sees: text, whether edited, whether taken back, signs.
fn seen(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Vec<(String, bool, bool, usize)> {
    let line = |line: Line| (line.message.text, line.edited, line.message.unsent, line.reactions.len());
    lines(world, who, thread).into_iter().map(line).collect()
}

fn by(world: &World<StandInEngine>, who: usize, message: MessageId) -> Target {
    Target { message, author: world.id(who) }
}

#[test]
fn a_reply_names_what_it_is_to_and_whom_it_means() {
    let (mut world, thread) = friends();
    let question = world.say(ALICE, thread, "tea?");
    let of = by(&world, ALICE, question);
    let draft = Draft { text: "yes".to_owned(), reply: Some(of), mentions: vec![world.people[ALICE].account] };
    world.ask(BOB, Command::Say { thread, draft }).unwrap();
    for who in [ALICE, BOB] {
        let line = lines(&world, who, thread).remove(1);
        assert_eq!((line.message.reply, line.message.mentions.len()), (Some(of), 1), "{who}");
    }
    let (text, mentions) = ("x".to_owned(), vec![world.people[ALICE].account; limits::MENTIONS_MAX + 1]);
    let refused = world.ask(BOB, Command::Say { thread, draft: Draft { text, reply: None, mentions } });
    assert!(matches!(refused, Err(CommandError::TooLong { .. })));
}

#[test]
fn edits_signs_and_what_is_taken_back_look_the_same_everywhere_and_after_a_restart() {
    let (mut world, thread) = friends();
    let first = world.say(ALICE, thread, "helo");
    let second = world.say(ALICE, thread, "and this");
    let (first, second) = (by(&world, ALICE, first), by(&world, ALICE, second));
    world.ask(ALICE, Command::Edit { of: first, text: "hello".to_owned() }).unwrap();
    world.ask(BOB, Command::React { to: first, sign: "+".to_owned(), stands: true }).unwrap();
    world.ask(BOB, Command::React { to: first, sign: "-".to_owned(), stands: true }).unwrap();
    world.ask(BOB, Command::React { to: first, sign: "-".to_owned(), stands: false }).unwrap();
    world.ask(ALICE, Command::Unsend { of: second }).unwrap();
    let expected = [("hello".to_owned(), true, false, 1), (String::new(), false, true, 0)];
    for who in [ALICE, BOB] {
        assert_eq!(seen(&world, who, thread), expected, "{who}");
        world.crash_now(who);
        world.advance(Duration::from_secs(5));
        assert_eq!(seen(&world, who, thread), expected, "{who} after a restart");
    }
    assert_eq!(world.events(BOB, |event| matches!(event, Event::Changed { .. })), 5);
    // What was taken back is not edited any more, and is nothing to put a sign beside.
    assert!(world.ask(ALICE, Command::Edit { of: second, text: "again".to_owned() }).is_err());
    assert!(world.ask(BOB, Command::React { to: second, sign: "+".to_owned(), stands: true }).is_err());
    world.advance(Duration::from_secs(20));
    assert_eq!(views::outbox_len(world.store(ALICE)).unwrap(), 0);
}

#[test]
fn nobody_edits_or_takes_back_what_another_said() {
    let (mut world, thread) = friends();
    let message = world.say(ALICE, thread, "my words");
    let of = by(&world, ALICE, message);
    for command in [Command::Edit { of, text: "yours".to_owned() }, Command::Unsend { of }] {
        assert!(matches!(world.ask(BOB, command), Err(CommandError::State(_))));
    }
    // And not by a node that does not ask.
    let hlc = Hlc { millis: u64::MAX, count: u32::MAX };
    let content = |n: u8, body| {
        let id = MessageId::from_bytes([40 + n; 16]);
        encode_words(&Content { counter: Some(n.into()), ..Content::new(id, hlc, body) })
    };
    let contents = [content(1, Body::Edit(of, "his".to_owned())), content(2, Body::Unsend(of))];
    let author = world.id(BOB);
    for envelope in seal_as(&mut world, BOB, thread, &[&contents[0], &contents[1]]) {
        world.inject(thread, author, envelope);
    }
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Unreadable { .. })), 0);
    assert_eq!(seen(&world, ALICE, thread), [("my words".to_owned(), false, false, 0)]);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Changed { .. })), 0);
}

fn inject(world: &mut World<StandInEngine>, who: usize, thread: ThreadId, content: &Content) {
    let envelope = seal_as(world, who, thread, &[&encode_words(content)]).remove(0);
    let author = world.id(who);
    world.inject(thread, author, envelope);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Order is a function of what was signed, and of nothing else.
    #[test]
    fn whatever_order_contents_come_in_they_come_to_the_same(
        order in Just((0..9usize).collect::<Vec<_>>()).prop_shuffle(),
        clocks in proptest::collection::vec(0u64..4, 9),
    ) {
        let come = |order: &[usize]| {
            let (mut world, thread) = friends();
            let id = |n: usize| MessageId::from_bytes([n as u8 + 1; 16]);
            let of = by(&world, BOB, id(0));
            let text = |text: &str| Body::Text(text.to_owned());
            let edit = |text: &str| Body::Edit(of, text.to_owned());
            let react = |stands| Body::React(Reaction { to: of, sign: "+".to_owned(), stands });
            let bodies = [text("one"), text("two"), edit("a"), edit("b"), react(true), react(false), react(true),
                edit("c"), if clocks[8] == 0 { Body::Unsend(of) } else { text("three") }];
            let contents: Vec<Vec<u8>> = bodies.into_iter().enumerate().map(|(n, body)| {
                let hlc = Hlc { millis: 10 + clocks[n], count: 0 };
                encode_words(&Content { counter: Some(n as u64 + 1), ..Content::new(id(n), hlc, body) })
            }).collect();
            let views: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
            let envelopes: Vec<Envelope> = seal_as(&mut world, BOB, thread, &views);
            let author = world.id(BOB);
            for n in order {
                world.inject(thread, author, envelopes[*n].clone());
            }
            let there: Vec<_> = lines(&world, ALICE, thread).into_iter()
                .map(|line| (line.message.message, line.message.text, line.edited, line.message.unsent, line.reactions))
                .collect();
            world.crash_now(ALICE);
            let again = lines(&world, ALICE, thread).len();
            (there, again, views::thread(world.store(ALICE), &thread).unwrap().unwrap().missing)
        };
        let straight = come(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        prop_assert_eq!(straight.2, 0);
        prop_assert_eq!(come(&order), straight);
    }
}

/// T03: the relay leaves out some of what somebody said.
#[test]
fn t03_what_a_relay_left_out_is_shown_to_be_missing_asked_for_and_given_again() {
    let (mut world, thread) = friends();
    world.people[BOB].online = false;
    world.lose_home(BOB);
    for text in ["one", "two", "three", "four"] {
        world.say(ALICE, thread, text);
    }
    let log = &mut world.relay.threads.get_mut(&thread).unwrap().1;
    let (dropped, kept) = (log[1].clone(), log[0].clone());
    (log[1], log[2]) = (kept.clone(), kept);
    assert!(matches!(dropped, EntryBody::Envelope(..)));
    world.people[BOB].online = true;
    world.relay.mute.insert("Submit");
    world.advance(Duration::from_secs(65));
    let view = |world: &World<StandInEngine>| views::thread(world.store(BOB), &thread).unwrap().unwrap().missing;
    assert_eq!((world.shown(BOB), view(&world)), (vec!["one", "four"], 2));
    let marks: Vec<u64> = lines(&world, BOB, thread).iter().map(|line| line.missing_before).collect();
    assert_eq!(marks, [0, 2]);
    assert_eq!(world.events(BOB, |event| matches!(event, Event::Missing { count: 2, .. })), 1);
    world.relay.mute.clear();
    world.crash_now(BOB);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.history(BOB, thread), ["one", "two", "three", "four"]);
    assert_eq!((world.shown(BOB).len(), view(&world)), (4, 0));
    assert_eq!(world.history(ALICE, thread).len(), 4);
}

#[test]
fn what_was_taken_back_meanwhile_is_missing_no_more_and_not_shown() {
    let (mut world, thread) = friends();
    world.people[BOB].online = false;
    world.lose_home(BOB);
    let lost = world.say(ALICE, thread, "never mind");
    let of = by(&world, ALICE, lost);
    world.ask(ALICE, Command::Unsend { of }).unwrap();
    world.say(ALICE, thread, "hello");
    let log = &mut world.relay.threads.get_mut(&thread).unwrap().1;
    log[0] = log[1].clone();
    world.people[BOB].online = true;
    world.advance(Duration::from_secs(120));
    assert_eq!(world.shown(BOB), ["hello"]);
    assert_eq!(views::thread(world.store(BOB), &thread).unwrap().unwrap().missing, 0);
}

#[test]
fn a_member_that_asks_again_and_again_is_answered_seldom() {
    let (mut world, thread) = friends();
    for n in 0..10 {
        world.say(ALICE, thread, &n.to_string());
    }
    world.advance(Duration::from_secs(10));
    world.relay.heard.clear();
    for n in 0..20u8 {
        let repair = whimbrel_protocol::message::Repair { author: world.id(ALICE), counters: (1..=10).collect() };
        let content = Content::new(MessageId::from_bytes([n; 16]), Hlc::default(), Body::Repair(repair));
        let content = encode_words(&content);
        let envelope = seal_as(&mut world, BOB, thread, &[content.as_slice(); 20]).remove(usize::from(n));
        let author = world.id(BOB);
        world.inject(thread, author, envelope);
    }
    world.settle();
    assert_eq!(world.submits(ALICE).len(), 10);
    assert_eq!(world.shown(BOB).len(), 10);
}

#[test]
fn texts_go_by_themselves_once_a_timer_is_set_and_are_not_shown_again() {
    let (mut world, thread) = friends();
    world.say(BOB, thread, "stays");
    world.ask(ALICE, Command::SetTimer { thread, lasts: Duration::from_secs(60) }).unwrap();
    let lasts = views::thread(world.store(BOB), &thread).unwrap().unwrap().lasts;
    assert_eq!(lasts, Some(Duration::from_secs(60)));
    world.say(BOB, thread, "goes");
    let envelope = world.submits(BOB).last().cloned().cloned().unwrap();
    world.advance(Duration::from_secs(59));
    assert_eq!(world.history(ALICE, thread).len(), 2);
    assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 2);
    world.advance(Duration::from_secs(2));
    for who in [ALICE, BOB] {
        assert_eq!(world.history(who, thread), ["stays"], "{who}");
    }
    assert_eq!(views::unread(world.store(ALICE), &thread).unwrap(), 1);
    assert_eq!(views::unread_messages(world.store(ALICE), &thread, 10).unwrap().len(), 1);
    let author = world.id(BOB);
    world.inject(thread, author, envelope);
    assert_eq!(world.history(ALICE, thread), ["stays"]);
    world.ask(BOB, Command::SetTimer { thread, lasts: Duration::ZERO }).unwrap();
    world.say(ALICE, thread, "stays, too");
    world.kill(ALICE);
    world.advance(Duration::from_secs(400));
    world.open(ALICE);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.history(ALICE, thread), ["stays", "stays, too"]);
    let long = Command::SetTimer { thread, lasts: limits::LASTS_MAX + Duration::from_secs(1) };
    assert!(world.ask(ALICE, long).is_err());
}

#[test]
fn in_a_group_its_admin_alone_says_how_long_texts_last() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    world.befriend(BOB, ALICE);
    world.befriend(2, ALICE);
    let people = vec![world.people[BOB].account, world.people[2].account];
    let made = world.ask(ALICE, Command::CreateGroup { title: "tea".to_owned(), people });
    let Ok(Reply::Group { thread }) = made else { panic!("{made:?}") };
    world.advance(Duration::from_secs(5));
    assert!(world.ask(BOB, Command::SetTimer { thread, lasts: Duration::from_secs(60) }).is_err());
    let hlc = Hlc { millis: 1, count: 0 };
    let content = Content::new(MessageId::from_bytes([9; 16]), hlc, Body::Timer(60_000));
    inject(&mut world, BOB, thread, &Content { counter: Some(1), ..content });
    let lasts = |world: &World<StandInEngine>, who| views::thread(world.store(who), &thread).unwrap().unwrap().lasts;
    assert_eq!(lasts(&world, ALICE), None);
    world.ask(ALICE, Command::SetTimer { thread, lasts: Duration::from_secs(60) }).unwrap();
    world.advance(Duration::from_secs(5));
    assert_eq!((0..3).map(|who| lasts(&world, who)).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(lasts(&world, BOB), Some(Duration::from_secs(60)));
}
