//! Rejoining: a group that went on by a commit which its members cannot apply, and whoever lies about where it is.
//! Owns: the rules of `flow/rejoin`, with a hub that takes whatever it is handed.

use std::time::Duration;

use whimbrel_crypto::StandInEngine;
use whimbrel_protocol::Frame;
use whimbrel_protocol::hub::SubmitCommit;
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::push::EntryBody;

use super::groups::group;
use super::world::{ALICE, BOB, CAROL, World};
use crate::api::{Command, Event, Reply};
use crate::views::Standing;

const MINUTES: Duration = Duration::from_secs(300);

/// Bob's renewal of his keys, as the hub gets it: with a tag that only members can check, and that is wrong.
fn mistagged(world: &mut World<StandInEngine>, thread: ThreadId) -> SubmitCommit {
    world.relay.mute.insert("SubmitCommit");
    world.command(BOB, Command::RenewKeys { thread });
    world.settle();
    world.relay.mute.remove("SubmitCommit");
    let handed_in = world.relay.heard.iter().rev().find_map(|(who, frame)| match frame {
        Frame::SubmitCommit(words) if *who == BOB => Some(words.clone()),
        _ => None,
    });
    let mut words: SubmitCommit = handed_in.unwrap();
    *words.commit.bytes.last_mut().unwrap() ^= 1;
    words
}

fn submitted(world: &World<StandInEngine>, who: usize) -> usize {
    world.relay.heard.iter().filter(|(one, frame)| *one == who && matches!(frame, Frame::SubmitCommit(_))).count()
}

fn back(world: &World<StandInEngine>, who: usize) -> usize {
    world.events(who, |event| matches!(event, Event::Rejoined { .. }))
}

#[test]
fn t34_whoever_cannot_apply_a_commit_is_told_whose_it_is_and_goes_on_and_the_group_changes_again() {
    for crash in [None, Some(ALICE), Some(CAROL)] {
        let (mut world, thread) = group();
        world.say(ALICE, thread, "before");
        let words = mistagged(&mut world, thread);
        world.submit_commit(BOB, words);
        if let Some(who) = crash {
            world.crash_now(who);
        }
        world.say(CAROL, thread, "meanwhile");
        world.advance(MINUTES);
        let stands: Vec<_> = [ALICE, BOB, CAROL].map(|who| world.stands(who, thread)).into();
        assert!(stands.iter().all(|one| *one == Some((Standing::Open, 5, 3))), "{crash:?}: {stands:?}");
        let author = world.id(BOB);
        let told = move |event: &Event| matches!(event, Event::ChangeBroken { author: of, .. } if *of == author);
        for who in [ALICE, CAROL] {
            assert!(world.events(who, told) >= 1 && back(&world, who) == 1, "{crash:?}: {who}");
        }
        // It changes on, and all that is said reaches everybody.
        assert_eq!(world.ask(ALICE, Command::RenewKeys { thread }), Ok(Reply::Done));
        for who in [ALICE, BOB, CAROL] {
            world.say(who, thread, &format!("after {who}"));
        }
        world.advance(MINUTES);
        for who in [ALICE, BOB, CAROL] {
            assert_eq!(world.stands(who, thread), Some((Standing::Open, 6, 3)), "{crash:?}: {who}");
            let mut lines = world.history(who, thread);
            lines.sort();
            assert_eq!(lines, ["after 0", "after 1", "after 2", "before", "meanwhile"], "{crash:?}: {who}");
        }
    }
}

#[test]
fn t07_a_groupinfo_that_the_commits_do_not_lead_to_moves_nobody_and_nothing_is_sent_by_it() {
    let (mut world, thread) = group();
    assert_eq!(world.ask(ALICE, Command::RenewKeys { thread }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    let old = world.relay.threads[&thread].1.iter().find_map(|body| match body {
        EntryBody::Commit(one) => Some(one.commit.info.clone()),
        _ => None,
    });
    let mut words = mistagged(&mut world, thread);
    let genuine = std::mem::replace(&mut words.commit.info, old.unwrap());
    let before = [ALICE, CAROL].map(|who| submitted(&world, who));
    world.submit_commit(BOB, words);
    world.advance(MINUTES);
    for who in [ALICE, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 3)), "{who}");
        let refused = |event: &Event| matches!(event, Event::Unreadable { reason, .. } if reason.contains("lead to"));
        assert!(world.events(who, refused) >= 1 && back(&world, who) == 0, "{who}");
    }
    assert_eq!([ALICE, CAROL].map(|who| submitted(&world, who)), before, "nobody handed anything in");
    world.say(ALICE, thread, "where we are");
    assert_eq!(world.history(CAROL, thread), ["where we are"]);
    // The genuine one is shown after all.
    for body in &mut world.relay.threads.get_mut(&thread).unwrap().1 {
        match body {
            EntryBody::Commit(one) if one.commit.epoch.get() == 2 => one.commit.info.clone_from(&genuine),
            _ => {}
        }
    }
    world.advance(MINUTES);
    for who in [ALICE, CAROL] {
        assert_eq!((world.stands(who, thread), back(&world, who)), (Some((Standing::Open, 6, 3)), 1), "{who}");
    }
}
