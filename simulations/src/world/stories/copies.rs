//! Stories of disks that are put back as they were on another day, and of relays that show two trees.

use super::*;
use crate::judge::verdict::Violation;

/// What must never be seen, whatever was put back.
fn shown_wrong(verdict: &Verdict) -> bool {
    let wrong = |one: &Violation| matches!(one, Violation::Duplicate { .. } | Violation::Misattributed { .. });
    verdict.examples.iter().any(wrong)
}

#[test]
fn a_node_whose_disk_is_put_back_finds_out_before_anybody_is_sent_a_word_by_old_keys() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        chat(&mut world, alice, bob, 3);
        world.run_for(secs(30));
        let copy = world.copy_disk(alice);
        chat(&mut world, alice, bob, 3);
        world.run_for(secs(30));
        world.put_disk_back(alice, copy);
        let before = world.shown_to(bob).len();
        world.say(alice, bob, "by keys that were used");
        world.run_for(secs(120));
        assert!(world.ledger.knows_to_be_old(alice));
        assert_eq!(world.shown_to(bob).len(), before);
        // Bob goes on undisturbed.
        world.say(bob, alice, "are you there?");
        world.run_for(secs(60));
        assert!(!shown_wrong(&world.close().0));
    }
}

#[test]
fn a_node_whose_disk_is_put_back_as_it_was_goes_on() {
    for mut world in seeds() {
        let (alice, bob, _) = world.two_friends_on_one_relay();
        chat(&mut world, alice, bob, 3);
        world.run_for(secs(60));
        world.disconnect(alice);
        let copy = world.copy_disk(alice);
        world.put_disk_back(alice, copy);
        world.reconnect(alice);
        world.say(alice, bob, "hello again");
        world.run_until_quiet();
        assert!(!world.ledger.knows_to_be_old(alice));
        assert!(world.shown_to(bob).contains(&"hello again"));
        well(world);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_with_two_faces_is_found_by_friends_and_a_stamp_that_is_not_written_by_the_judge() {
    use crate::planted::{Bug, with};

    let story = |seed| {
        let mut world = World::new(Seed::from(seed));
        let (alice, bob, _) = world.two_friends_on_one_relay();
        chat(&mut world, alice, bob, 4);
        world.run_for(secs(60));
        world.crash(alice);
        world.run_for(secs(60));
        world.say(alice, bob, "hello");
        world.run_until_quiet();
        world.close().0.examples
    };
    // Which face somebody is shown is a matter of their account: of some seeds the two differ.
    let found = |examples: &[Violation]| examples.iter().any(|one| matches!(one, Violation::TwoFaces { .. }));
    let caught = (1..=8).filter(|seed| found(&with(Bug::TwoFaces, || story(*seed)))).count();
    assert!((1..8).contains(&caught), "{caught}");
    assert!((1..=8).all(|seed| !found(&story(seed))));
    let old = with(Bug::StampUnwritten, || story(1));
    assert!(old.iter().any(|one| matches!(one, Violation::Outdated { .. })), "{old:?}");
}
