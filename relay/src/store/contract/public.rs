//! The contract, as far as a hub keeps the public state of threads: what a commit is held to, and what a judge is given.
//! Owns: the cases. Never: knows a backend, or an engine.

use whimbrel_crypto::Proved;
use whimbrel_protocol::hub as words_of;

use super::super::PublicState;
use super::super::command::hub::{How, Proof};
use super::hub::{command, committed, group, hub, proof, thread, with_dave, words};
use super::*;

const DAVE: u8 = 4;

fn with(author: u8, words: words_of::Commit, proof: Proof) -> Command {
    let bodies = || {
        let newcomers = words_of::Newcomers { welcome: vec![3; 500], tree: vec![4; 500] };
        super::super::command::hub::Bodies::of(newcomers)
    };
    let how = How::Submitted((!words.added.is_empty()).then(bodies), hub(), proof);
    command(author, Origin::Local, words, how)
}

fn held(author: u8, words: &words_of::Commit) -> Proved {
    match proof(author, words) {
        Proof::Holds(proved, _) => *proved,
        _ => panic!("a proof that holds"),
    }
}

pub(super) fn a_commit_does_what_is_said_of_it(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local)]);
    let said = words(1, 1, b"x", &[(DAVE, here())], &[BOB]);
    let truth = held(ALICE, &said);
    let (dave, key) = truth.added[0];
    let lies = [
        ("another's", Proved { committer: device(CAROL), ..truth.clone() }),
        ("nobody comes", Proved { added: Vec::new(), ..truth.clone() }),
        ("somebody else comes", Proved { added: vec![(device(9), key)], ..truth.clone() }),
        ("one more comes", Proved { added: vec![(dave, key), (device(9), key)], ..truth.clone() }),
        (
            "with a key that is not the device's",
            Proved { added: vec![(dave, PublicKey::from_bytes([77; 32]))], ..truth.clone() },
        ),
        ("nobody goes", Proved { removed: Vec::new(), ..truth.clone() }),
        ("somebody else goes", Proved { removed: vec![device(CAROL)], ..truth.clone() }),
        ("one more goes", Proved { removed: vec![device(BOB), device(CAROL)], ..truth.clone() }),
    ];
    for (what, proved) in lies {
        let refused = run(&store, with(ALICE, said.clone(), Proof::Holds(Box::new(proved), None)));
        assert_eq!(refused.unwrap_err(), Conflict::Unproved, "{what}");
    }
    assert_eq!(run(&store, with(ALICE, said.clone(), Proof::Fails)).unwrap_err(), Conflict::Unproved);
    assert_eq!(run(&store, with(ALICE, said.clone(), Proof::Absent)).unwrap_err(), Conflict::StaleEpoch);
    assert_eq!(page(&store, log(1), 0, 9), [0_u64; 0]);
    committed(run(&store, with(ALICE, said, Proof::Holds(Box::new(truth), None))));
    assert_eq!(page(&store, log(1), 0, 9), [1]);
}

/// What Alice's group's hub would judge this one's commit by.
fn ask(store: &impl Store, person: u8, epoch: u64, have: Option<u64>) -> Option<PublicState> {
    let at = (thread(1), Epoch::new(epoch));
    wait(store.public_state(device(person), Origin::Local, at, have.map(Epoch::new))).unwrap()
}

pub(super) fn a_public_state_is_written_anew_and_the_commits_since_are_kept(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local)]);
    let first = ask(&store, ALICE, 1, None).unwrap();
    assert_eq!((first.from.get(), first.saved.as_deref(), first.due), (1, Some(&[1; 5_000][..]), false));
    assert!(first.commits.is_empty());
    // Who cannot hand it in here, and what is not for the present epoch, is judged by nothing.
    assert_eq!(ask(&store, CAROL, 1, None), None);
    assert_eq!(ask(&store, DAVE, 1, None), None);
    assert_eq!((ask(&store, ALICE, 0, None), ask(&store, ALICE, 2, None)), (None, None));
    let bytes = |epoch: u64| format!("commit {epoch}").into_bytes();
    let last = u64::from(limits::PUBLIC_STATE_COMMITS_MAX) + 1;
    for epoch in 1..last {
        let state = ask(&store, ALICE, epoch, None).unwrap();
        assert_eq!((state.epoch.get(), state.commits.len() as u64, state.due), (epoch, epoch - 1, false));
        let said = words(1, epoch, &bytes(epoch), &[], &[]);
        committed(run(&store, with(ALICE, said.clone(), proof(ALICE, &said))));
    }
    store = fixture.restart(store);
    let state = ask(&store, ALICE, last, None).unwrap();
    assert!(state.due && state.saved == first.saved);
    assert_eq!(state.commits, (1..last).map(bytes).collect::<Vec<_>>());
    // From a state that the asker has, the rest.
    let rest = ask(&store, ALICE, last, Some(last - 2)).unwrap();
    assert_eq!((rest.from.get(), rest.saved), (last - 2, None));
    assert_eq!(rest.commits, [bytes(last - 2), bytes(last - 1)]);
    let said = words(1, last, &bytes(last), &[], &[]);
    let Proof::Holds(proved, _) = proof(ALICE, &said) else { panic!("a proof that holds") };
    committed(run(&store, with(ALICE, said, Proof::Holds(proved, Some(vec![8; 6_000])))));
    store = fixture.restart(store);
    let state = ask(&store, ALICE, last + 1, None).unwrap();
    assert_eq!((state.from.get(), state.saved, state.due), (last, Some(vec![8; 6_000]), false));
    assert_eq!(state.commits, [bytes(last)]);
    // From before it, there may be nothing to go by any more: the written one is given.
    assert_eq!(ask(&store, ALICE, last + 1, Some(3)).unwrap().from.get(), last);
    // However old: without them the state that is written leads nowhere. Those before it go.
    let said = words(1, last + 1, b"much later", &[], &[]);
    let Command::Commit(mut late) = with(ALICE, said.clone(), proof(ALICE, &said)) else { panic!("a commit") };
    late.at = at(5_000 + 2 * u64::try_from(limits::COMMIT_AGE_MAX.as_millis()).unwrap());
    committed(run(&store, Command::Commit(late)));
    store = fixture.restart(store);
    let state = ask(&store, ALICE, last + 2, None).unwrap();
    assert_eq!(state.commits, [bytes(last), b"much later".to_vec()]);
    let kept = |epoch| wait(store.commit_of(device(ALICE), thread(1), Epoch::new(epoch))).unwrap();
    assert!(kept(1).is_none() && kept(last - 1).is_none() && kept(last).is_some());
}
