//! Lengths: what a thread sends is as long by the stand-in as by the real engine.

use whimbrel_protocol::policy::{Policy, Who};

use super::*;
use crate::engine::Change;

/// Lengths of everything a thread of so many people sends over a while.
fn lengths(make: fn() -> Box<dyn Engine>, count: u8) -> Vec<(&'static str, usize)> {
    let mut people = people(make, count + 2, false);
    let invitees: Vec<_> = people[1..].iter_mut().map(Person::invitee).collect();
    let (now, later) = invitees.split_at(usize::from(count) - 1);
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, now)).unwrap();
    people[1].join(&created.welcome, &created.tree).unwrap();
    let mut lengths = vec![
        ("key package", invitees[0].key_package.len()),
        ("welcome", created.welcome.len()),
        ("tree", created.tree.len()),
        ("info", created.info.len()),
        ("message", people[0].seal("hello").body.len()),
    ];
    let mut lengths_of_info = Vec::new();
    let mut note = |what, commit: &Commit| {
        lengths.extend([(what, commit.commit.len()), ("its tree", commit.tree.len())]);
        lengths.extend(commit.welcome.as_ref().map(|welcome| ("its welcome", welcome.len())));
    };
    for committer in [0, 1, 0, 1] {
        let commit = people[committer].update();
        note("update", &commit);
        people[committer].merge_own().unwrap();
        people[1 - committer].apply(&commit.commit).unwrap();
    }
    for adds in [&later[..1], later] {
        note("addition", &people[0].add(adds));
        people[0].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    }
    let last = now[now.len() - 1].id;
    note("removal", &people[0].remove(last));
    people[0].merge_own().unwrap();
    note("update after it", &people[0].update());
    people[0].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    for admins in [1, 5] {
        let mut admins: Vec<_> = (0..admins).map(|n| AccountId::from_bytes([n; 32])).collect();
        admins.sort_unstable();
        let policy = Policy { admins, adds: Who::Admins, renames: Who::Members };
        let change = Change { policy: Some(&policy), ..Change::default() };
        let ruling = people[0].call(|engine, cx, own| engine.change(cx, own, THREAD, change)).unwrap();
        note("a policy", &ruling);
        lengths_of_info.push(("info with a policy", ruling.info.len()));
        people[0].call(|engine, cx, own| engine.discard_own(cx, own, THREAD)).unwrap();
    }
    lengths.extend(lengths_of_info);
    lengths
}

#[test]
fn the_stand_in_sends_as_many_bytes_as_the_real_engine() {
    for count in [2, 3, 4, 5, 7, 8, 9, 16, 33] {
        let real = lengths(|| Box::new(crate::MlsEngine::new()), count);
        let stand_in = lengths(|| Box::new(crate::StandInEngine::new()), count);
        assert_eq!(real.len(), stand_in.len());
        for ((what, real), (_, stand_in)) in real.into_iter().zip(stand_in) {
            // Lengths of lengths and of parent hashes are not followed to the byte.
            let allowed = if matches!(what, "key package" | "message") { 0 } else { 40 + real / 100 };
            assert!(real.abs_diff(stand_in) <= allowed, "{what} at {count}: {real} and {stand_in}");
        }
    }
}
