//! Crashes at every persist point, with and without the last batch.

use std::time::Duration;

use proptest::prelude::*;
use whimbrel_crypto::{Engine, MlsEngine, StandInEngine};

use super::world::{ALICE, BOB, Crash, World, world};
use crate::api::{Command, Reply, State};
use crate::views::{self, Page};

/// Says a text; when the process that was asked died before it was durable, says it again, as a person would.
fn insist<E: Engine>(world: &mut World<E>, who: usize, thread: whimbrel_protocol::id::ThreadId, text: &str) {
    for _ in 0..3 {
        world.command(who, Command::Send { thread, text: text.to_owned() });
        if world.history(who, thread).iter().any(|line| line == text) {
            return;
        }
    }
    panic!("{text} could not be said");
}

fn conversation<E: Engine>(engine: fn() -> E, direct: bool, victim: usize, after: usize, kind: Crash) -> bool {
    let mut world = World::new(&["a.example", "a.example"], engine);
    let thread = world.befriend(BOB, ALICE);
    if direct {
        world.link(ALICE, BOB);
        world.settle();
    }
    world.people[victim].crash = Some((after, kind));
    for n in 0..3 {
        insist(&mut world, ALICE, thread, &format!("from alice {n}"));
        world.advance(Duration::from_millis(50));
        insist(&mut world, BOB, thread, &format!("from bob {n}"));
        world.advance(Duration::from_millis(200));
    }
    world.advance(Duration::from_secs(120));
    let crashed = world.people[victim].crash.is_none();
    let expected: Vec<String> = (0..3).flat_map(|n| [format!("from alice {n}"), format!("from bob {n}")]).collect();
    for who in [ALICE, BOB] {
        assert_eq!(world.history(who, thread), expected, "{who} after {after} {kind:?}");
        let mut shown: Vec<_> = world.people[who].shown.iter().map(|message| message.message).collect();
        let count = shown.len();
        shown.sort();
        shown.dedup();
        assert_eq!(shown.len(), count, "shown twice: {who} after {after} {kind:?}");
        assert_eq!(views::outbox_len(world.store(who)).unwrap(), 0, "{who} after {after} {kind:?}");
        // Each was told by the other, whatever died between.
        for line in views::messages(world.store(who), &thread, Page::Oldest, 100).unwrap() {
            let delivered = line.state.is_none_or(|state| state == State::Delivered);
            assert!(delivered, "{who} after {after} {kind:?}: {:?}", line.receipts);
        }
    }
    crashed
}

#[test]
fn a_conversation_survives_a_crash_at_every_persist_point() {
    for direct in [false, true] {
        for victim in [ALICE, BOB] {
            for kind in [Crash::Lost, Crash::Kept] {
                let mut after = 0;
                while conversation(StandInEngine::new, direct, victim, after, kind) {
                    after += 1;
                    // The rest of the two minutes are heartbeats.
                    if after > 60 {
                        break;
                    }
                }
                assert!(after > 15, "only {after} persist points");
            }
        }
    }
}

#[test]
fn a_conversation_with_real_encryption_survives_crashes() {
    for (after, kind) in [(2, Crash::Lost), (3, Crash::Kept), (5, Crash::Lost), (6, Crash::Kept), (9, Crash::Lost)] {
        conversation(MlsEngine::new, false, BOB, after, kind);
        conversation(MlsEngine::new, true, ALICE, after, kind);
    }
}

fn first_contact(victim: usize, after: usize, kind: Crash) -> bool {
    let mut world = world(&["a.example", "b.example"]);
    world.people[victim].crash = Some((after, kind));
    let mut thread = None;
    for _ in 0..6 {
        let holds = Duration::from_secs(600);
        let ticket = world.command(ALICE, Command::NewInvite { uses: 1, holds, group: None });
        world.advance(Duration::from_secs(5));
        let Some(Ok(crate::api::Reply::Invite(invite))) = world.answer(ALICE, ticket) else { continue };
        world.command(BOB, Command::AcceptInvite(invite));
        world.advance(Duration::from_secs(15));
        thread = views::find_thread(world.store(BOB), &[world.people[ALICE].account]).unwrap();
        if thread.is_some() {
            break;
        }
    }
    let thread = thread.expect("a thread");
    insist(&mut world, BOB, thread, "hello");
    world.advance(Duration::from_secs(90));
    insist(&mut world, ALICE, thread, "hello back");
    world.advance(Duration::from_secs(90));
    for who in [ALICE, BOB] {
        assert_eq!(world.history(who, thread), ["hello", "hello back"], "{who} after {after} {kind:?}");
        assert_eq!(views::contacts(world.store(who)).unwrap().len(), 1, "{who} after {after} {kind:?}");
        assert_eq!(views::threads(world.store(who)).unwrap().len(), 1, "{who} after {after} {kind:?}");
    }
    world.people[victim].crash.is_none()
}

#[test]
fn a_first_contact_survives_a_crash_at_every_persist_point() {
    for victim in [ALICE, BOB] {
        for kind in [Crash::Lost, Crash::Kept] {
            let mut after = 0;
            while after < 30 && first_contact(victim, after, kind) {
                after += 1;
            }
            assert!(after > 8, "only {after} persist points");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_both_see_every_message_once(
        script in proptest::collection::vec((0u8..10, 0usize..2, 0u16..2_000), 1..60)
    ) {
        let mut world = World::new(&["a.example", "a.example"], StandInEngine::new);
        let thread = world.befriend(BOB, ALICE);
        let mut said = Vec::new();
        for (n, (choice, who, number)) in script.into_iter().enumerate() {
            match choice {
                0..=3 => {
                    let text = format!("{who} {n}");
                    let ticket = world.command(who, Command::Send { thread, text: text.clone() });
                    if let Some(Ok(Reply::Queued { .. })) = world.answer(who, ticket) {
                        said.push(text);
                    }
                }
                4 => {
                    let kind = if number % 2 == 0 { Crash::Lost } else { Crash::Kept };
                    world.people[who].crash = Some((usize::from(number % 5), kind));
                }
                5 => world.lose_home(who),
                6 => world.link(ALICE, BOB),
                7 => world.direct_flows = !world.direct_flows,
                8 => {
                    world.relay.up = !world.relay.up;
                    if !world.relay.up {
                        world.relay_gone();
                    }
                }
                _ => world.advance(Duration::from_millis(number.into())),
            }
        }
        world.people.iter_mut().for_each(|person| person.crash = None);
        world.direct_flows = true;
        world.relay_back();
        world.advance(Duration::from_secs(120));
        let history = world.history(ALICE, thread);
        prop_assert_eq!(&history, &world.history(BOB, thread));
        for text in &said {
            prop_assert_eq!(history.iter().filter(|line| *line == text).count(), 1, "{}", text);
        }
        let mut once = history.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), history.len());
        for who in [ALICE, BOB] {
            prop_assert_eq!(views::outbox_len(world.store(who)).unwrap(), 0);
            prop_assert_eq!(world.events(who, |event| matches!(event, crate::api::Event::Unreadable { .. })), 0);
            let mut shown: Vec<_> = world.people[who].shown.iter().map(|message| message.message).collect();
            let count = shown.len();
            shown.sort();
            shown.dedup();
            prop_assert_eq!(shown.len(), count, "shown twice");
        }
    }
}
