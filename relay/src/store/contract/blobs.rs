//! The contract, as far as Welcomes and trees are concerned: they are there as long as somebody is to fetch them.
//! Owns: the cases. Never: knows a backend.

use whimbrel_protocol::id::BlobId;

use super::*;
use crate::store::command::people::Expire;

fn inbox(person: u8) -> LogId {
    LogId::from_bytes([person; 16])
}

/// Whether a thread's Welcome is there, and the tree that all threads of these checks share.
fn kept(store: &impl Store, thread: u8) -> (bool, bool) {
    let opening = opening(thread, &two());
    let there = |bytes: &[u8]| match wait(store.blob(BlobId::of(bytes))).unwrap() {
        Some(kept) => kept == bytes,
        None => false,
    };
    (there(&opening.welcome), there(&opening.tree))
}

/// Whether an invitation that waits for somebody names a thread's Welcome, and the tree.
fn told(store: &impl Store, person: u8, thread: u8) -> (bool, bool) {
    let opening = opening(thread, &two());
    let named = |bytes: &[u8]| wait(store.names(account(person), BlobId::of(bytes))).unwrap();
    (named(&opening.welcome), named(&opening.tree))
}

fn read_inbox(person: u8, upto: u64) -> Command {
    Command::Trim(Trim { log: inbox(person), cursors: vec![(mailbox(person), Sequence::new(upto))] })
}

fn opening_taken(thread: u8) -> Command {
    taken(vec![OutboundKey { log: log(thread), sequence: Sequence::ZERO }])
}

/// Which bodies are there, of the threads of the script.
pub(super) fn picture(store: &impl Store) -> String {
    [1, 2, 21].iter().map(|thread| format!("{:?}", kept(store, *thread))).collect()
}

pub(super) fn bodies_go_with_the_last_row_that_names_them(fixture: &mut impl Fixture) {
    let mut store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all()), open(2, ALICE, &two())]);
    // They are told to Bob alone: Alice made them, and nobody else has an invitation.
    assert_eq!((told(&store, BOB, 1), told(&store, BOB, 2)), ((true, true), (true, true)));
    assert_eq!((told(&store, ALICE, 1), told(&store, 99, 1)), ((false, false), (false, false)));
    assert!(!told(&store, BOB, 3).0, "of another thread's Welcome nothing is said");
    // Bob's inbox names both Welcomes, the row for the other relay the first; the tree is named by all three.
    for (command, first, second) in [
        (read_inbox(BOB, 1), (true, true), (true, true)),
        (opening_taken(1), (false, true), (true, true)),
        (opening_taken(1), (false, true), (true, true)),
        (read_inbox(BOB, 2), (false, false), (false, false)),
        (read_inbox(BOB, 2), (false, false), (false, false)),
    ] {
        done(&store, vec![command]);
        store = fixture.restart(store);
        assert_eq!((kept(&store, 1), kept(&store, 2)), (first, second));
        assert!(!told(&store, BOB, 1).0, "acknowledged, whatever still waits for the other relay");
        assert_eq!(told(&store, BOB, 2), second, "as long as its entry is there");
    }
    // The same bodies come again, and are there again.
    done(&store, vec![open(3, ALICE, &two()), open_again(4, 3)]);
    assert_eq!(kept(&store, 3), (true, true));
    done(&store, vec![read_inbox(BOB, 3)]);
    assert_eq!(kept(&store, 3), (true, true), "the fourth thread has the Welcome of the third");
    done(&store, vec![read_inbox(BOB, 4)]);
    assert_eq!(kept(&store, 3), (false, false));
    // Refused for good by the only relay that was to have it.
    done(&store, vec![open(5, ALICE, &across())]);
    assert_eq!(kept(&store, 5), (true, true));
    done(&store, vec![peers::refused(5, &[(0, RefusalCode::NoConsent)], LogBounds::default())]);
    assert_eq!(kept(&store, 5), (false, false));
    // Nobody else is in it: nobody will ask for its bodies.
    done(&store, vec![open(6, ALICE, &[(ALICE, here())])]);
    assert_eq!(kept(&store, 6), (false, false));
    // All in one group, a reader among them who is faster than the other relay.
    let outcomes = run_all(&store, vec![open(7, ALICE, &all()), read_inbox(BOB, 5), opening_taken(7)]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(kept(&store, 7), (false, false));
}

/// A thread with the Welcome of another.
fn open_again(thread: u8, of: u8) -> Command {
    let opening = Opening { welcome: vec![of; 9_000], ..opening(thread, &two()) };
    let here = Here { local: here(), log: log(thread), at: at(1_000), bounds: LogBounds::default() };
    Command::OpenThread(Box::new(OpenThread::new(opening, device(ALICE), Origin::Local, None, here, None)))
}

pub(super) fn bodies_go_with_an_account_and_with_what_waited_too_long(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &two()), open(2, BOB, &two())]);
    done(&store, vec![Command::DeleteAccount(account(BOB)), Command::Purge(account(BOB))]);
    assert_eq!((kept(&store, 1), kept(&store, 2)), ((false, true), (true, true)));
    let expire = |before| {
        let (local, bounds) = (here(), LogBounds::default());
        Command::Expire(Expire { log: inbox(ALICE), before: at(before), local, at: at(9_500), bounds })
    };
    assert_eq!(run(&store, expire(1_000)), Ok(Outcome::Expired { entries: 0, inboxes: Vec::new() }));
    assert_eq!(kept(&store, 2), (true, true));
    assert_eq!(run(&store, expire(1_001)), Ok(Outcome::Expired { entries: 1, inboxes: Vec::new() }));
    let store = fixture.restart(store);
    assert_eq!(kept(&store, 2), (false, false));
}

pub(super) fn an_opening_that_waited_too_long_goes_with_its_bodies_and_its_creator_is_told(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &across()), append(1, ALICE, b"one")]);
    let expire = |before| {
        let (local, bounds) = (here(), LogBounds::default());
        Command::Expire(Expire { log: log(1), before: at(before), local, at: at(9_500), bounds })
    };
    done(&store, vec![expire(2_000)]);
    assert_eq!(kept(&store, 1), (true, true), "nothing has waited for so long");
    let Ok(Outcome::Expired { entries: 1, .. }) = run(&store, expire(2_001)) else { panic!("not expired") };
    let store = fixture.restart(store);
    assert_eq!(kept(&store, 1), (false, false));
    assert!(wait(store.outbound(there(), None, 9, usize::MAX)).unwrap().is_empty());
    assert!(wait(store.waiting_peers(None, 9)).unwrap().is_empty());
    let told = wait(store.log_page(inbox(ALICE), Sequence::ZERO, 9, usize::MAX)).unwrap();
    let opening = told.entries.iter().find_map(|entry| match &entry.body {
        EntryBody::Undelivered(words) if words.envelopes.is_empty() => Some((words.code, words.domain.clone())),
        _ => None,
    });
    assert_eq!(opening, Some((RefusalCode::Expired, there())));
    // With the only other relay out of it, she may open another with these people.
    let tag = Some(ParticipantsTag::from_bytes([1; 32]));
    assert!(matches!(run(&store, open_of(2, ALICE, Origin::Local, tag, &across())), Ok(Outcome::Opened(_))));
}

pub(super) fn bodies_of_many_pieces_are_kept_whole_and_go_whole<F: Fixture>(fixture: &mut F) {
    let large = |seed: u8, len: usize| -> Vec<u8> { (0..len).map(|n| (n / 251 + n % 251) as u8 ^ seed).collect() };
    let (welcome, tree) = (large(1, 1_000_003), large(2, 3_000_001));
    let opening = Opening { welcome: welcome.clone(), tree: tree.clone(), ..opening(1, &all()) };
    let here = Here { local: here(), log: log(1), at: at(1_000), bounds: LogBounds::default() };
    let store = three_friends(fixture);
    let open = OpenThread::new(opening.clone(), device(ALICE), Origin::Local, None, here, None);
    done(&store, vec![Command::OpenThread(Box::new(open))]);
    let store = fixture.restart(store);
    let kept = |store: &F::Store, bytes: &[u8]| wait(store.blob(BlobId::of(bytes))).unwrap();
    assert!(kept(&store, &welcome) == Some(welcome.clone()) && kept(&store, &tree) == Some(tree.clone()));
    let rows = wait(store.outbound(there(), None, 9, usize::MAX)).unwrap();
    assert!(rows[0].body == Some(ForwardBody::Opening(device(ALICE), opening)), "forwarded whole");
    done(&store, vec![opening_taken(1), read_inbox(BOB, 1)]);
    let store = fixture.restart(store);
    assert!(kept(&store, &welcome).is_none() && kept(&store, &tree).is_none());
}

pub(super) fn a_trim_takes_a_bounded_number_of_bodies(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let (max, many) = (limits::TRIM_INVITATIONS_MAX as u64, limits::TRIM_INVITATIONS_MAX as u8 + 3);
    done(&store, (1..=many).map(|thread| open(thread, ALICE, &two())).collect());
    assert!((1..=many).all(|thread| told(&store, BOB, thread).0), "the oldest and the newest of many");
    assert!(!told(&store, BOB, many + 1).0);
    let read = read_inbox(BOB, many.into());
    assert_eq!(run(&store, read.clone()), Ok(Outcome::Trimmed { upto: Sequence::new(max), more: true }));
    assert_eq!((kept(&store, many - 3), kept(&store, many - 2)), ((false, true), (true, true)));
    assert_eq!(run(&store, read), Ok(Outcome::Trimmed { upto: Sequence::new(many.into()), more: false }));
    assert_eq!(kept(&store, many), (false, false));

    done(&store, (101..=100 + many).map(|thread| open(thread, ALICE, &two())).collect());
    done(&store, vec![Command::DeleteAccount(account(BOB))]);
    assert_eq!(run(&store, Command::Purge(account(BOB))), Ok(Outcome::Purged { more: true }));
    assert_eq!(kept(&store, 100 + many), (true, true));
    assert_eq!(run(&store, Command::Purge(account(BOB))), Ok(Outcome::Purged { more: false }));
    assert_eq!(kept(&store, 100 + many), (false, false));
}
