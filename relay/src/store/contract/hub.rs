//! The contract, as far as groups change: one commit for each epoch, and whom each entry is for.
//! Owns: the cases. Never: knows a backend.

use std::collections::BTreeSet;

use whimbrel_crypto::{KeyPair, Proved, RelayIdentity, receipt, warrant};
use whimbrel_protocol::hub::{self, Accepted, Arrivals, FIRST_TERM, Newcomers, Receipt};
use whimbrel_protocol::id::CommitHash;
use whimbrel_protocol::thread::Founding;

use super::super::command::hub::{Bodies, Commit, Committed, How, Proof, Reader, Shown};
use super::super::{DeviceLog, Epochs};
use super::*;

pub(super) const DAVE: u8 = 4;
const ERIN: u8 = 5;

/// The hub of every group here. Any relay signs what it takes as the hub.
pub(super) fn hub() -> Arc<RelayIdentity> {
    let key = |n| KeyPair::from_seed_bytes([n; 32]);
    Arc::new(RelayIdentity::create(&key(7), &key(107), &here(), at(1_000)).unwrap())
}

fn founding(nonce: u8) -> Founding {
    Founding { creator: account(ALICE), hub: hub().id(), nonce: [nonce; 32], fixed: false }
}

pub(super) fn thread(nonce: u8) -> ThreadId {
    founding(nonce).thread()
}

/// A group of these, made by Alice.
pub(super) fn group(nonce: u8, people: &[(u8, Domain)], origin: Origin) -> Command {
    let here = Here { local: here(), log: log(nonce), at: at(1_000), bounds: LogBounds::default() };
    let opening =
        Opening { thread: thread(nonce), founding: Some(Box::new(founding(nonce))), ..opening(nonce, people) };
    let tag = (origin == Origin::Local).then(|| ParticipantsTag::from_bytes([nonce; 32]));
    let public = (origin == Origin::Local).then(|| vec![nonce; 5_000]);
    Command::OpenThread(Box::new(OpenThread::new(opening, device(ALICE), origin, tag, here, public)))
}

fn people(people: &[(u8, Domain)]) -> Vec<Participant> {
    let one = |(person, domain): &(u8, Domain)| Participant {
        account: account(*person),
        domain: domain.clone(),
        devices: vec![DeviceIndex::FIRST],
    };
    people.iter().map(one).collect()
}

pub(super) fn words(nonce: u8, epoch: u64, bytes: &[u8], added: &[(u8, Domain)], removed: &[u8]) -> hub::Commit {
    hub::Commit {
        thread: thread(nonce),
        term: FIRST_TERM,
        epoch: Epoch::new(epoch),
        bytes: bytes.to_vec(),
        added: people(added),
        removed: removed.iter().map(|person| device(*person)).collect(),
        info: vec![5; 500],
        warrant: None,
    }
}

pub(super) fn command(author: u8, origin: Origin, words: hub::Commit, how: How) -> Command {
    Command::Commit(Box::new(Commit {
        author: device(author),
        origin,
        hash: words.hash(),
        commit: Arc::new(words),
        shown: Shown::default(),
        how,
        local: here(),
        log: log(90),
        at: at(5_000),
        sure: true,
        bounds: LogBounds::default(),
    }))
}

/// Handed in by a user of this relay.
pub(super) fn submit(author: u8, words: hub::Commit) -> Command {
    let bodies = || Bodies::of(Newcomers { welcome: vec![3; 500], tree: vec![4; 500] });
    let how = How::Submitted((!words.added.is_empty()).then(bodies), hub(), proof(author, &words));
    command(author, Origin::Local, words, how)
}

/// A commit that does what is said of it.
pub(super) fn proof(author: u8, words: &hub::Commit) -> Proof {
    let added = words.added.iter().flat_map(|one| one.ids().map(|device| (device, device_key(device))));
    let removed = words.removed.clone();
    let (committer, added) = (device(author), added.collect());
    let proved = Proved { committer, added, removed, rejoins: false, policy: None, sets: None };
    Proof::Holds(Box::new(proved), None)
}

/// The key under which everybody's device is registered here.
fn device_key(of: DeviceId) -> PublicKey {
    PublicKey::from_bytes([2 * of.account.as_bytes().first().unwrap(); 32])
}

/// Told by the hub at the other relay.
fn told(author: u8, words: hub::Commit, everybody: Option<&[(u8, Domain)]>) -> Command {
    told_by(hub().id(), author, words, everybody)
}

/// With a receipt that this relay signed.
fn told_by(signer: RelayId, author: u8, words: hub::Commit, everybody: Option<&[(u8, Domain)]>) -> Command {
    let receipt = Receipt {
        thread: words.thread,
        term: words.term,
        epoch: words.epoch,
        commit: words.hash(),
        previous: None,
        at: at(4_000),
    };
    let nonce = if words.thread == thread(1) { 1 } else { 2 };
    let arrivals = everybody.map(|everybody| {
        let newcomers = Newcomers { welcome: vec![3; 500], tree: vec![4; 500] };
        Bodies::told(Arrivals { participants: people(everybody), founding: founding(nonce), newcomers })
    });
    command(author, Origin::Peer(there()), words, How::Told(Box::new(receipt::sign(&hub(), receipt)), signer, arrivals))
}

pub(super) fn committed(outcome: Result<Outcome, Conflict>) -> Committed {
    match outcome {
        Ok(Outcome::Committed(committed)) => *committed,
        other => panic!("no commit: {other:?}"),
    }
}

/// The same at a relay that keeps little in a log.
fn bounded(commit: Command, bounds: LogBounds) -> Command {
    let Command::Commit(commit) = commit else { panic!("no commit") };
    Command::Commit(Box::new(Commit { bounds, ..*commit }))
}

fn text(nonce: u8, epoch: u64, author: u8, origin: Origin, body: &[u8]) -> Command {
    let envelope = Envelope { thread: thread(nonce), epoch: Epoch::new(epoch), ..envelope(0, body) };
    append_of(author, origin, envelope, LogBounds::default(), 6_000)
}

fn reads(store: &impl Store, person: u8, nonce: u8) -> Option<DeviceLog> {
    let logs = wait(store.device_logs(mailbox(person), None, 99)).unwrap();
    logs.into_iter().find(|log| log.which == LogRef::Thread(thread(nonce)))
}

fn invitations(store: &impl Store, person: u8) -> Vec<(ThreadId, u64, usize)> {
    let inbox = LogId::from_bytes([person; 16]);
    let page = wait(store.log_page(inbox, Sequence::ZERO, 99, usize::MAX)).unwrap();
    let invitation = |entry: whimbrel_protocol::push::Entry| match entry.body {
        EntryBody::Invitation(words) => Some((words.thread, words.epoch.get(), words.participants.len())),
        _ => None,
    };
    page.entries.into_iter().filter_map(invitation).collect()
}

pub(super) fn with_dave<F: Fixture>(fixture: &mut F) -> F::Store {
    let store = three_friends(fixture);
    done(&store, vec![register(DAVE, "dave"), consent(DAVE, ALICE, here())]);
    store
}

/// A group that changes, for the checks of crashes and of rows.
pub(super) fn script_of_groups() -> Vec<Command> {
    vec![
        group(7, &all(), Origin::Local),
        text(7, 1, ALICE, Origin::Local, b"one"),
        submit(ALICE, words(7, 1, b"c1", &[], &[BOB])),
        text(7, 2, ALICE, Origin::Local, b"two"),
        submit(ALICE, words(7, 2, b"c2", &[(BOB, here())], &[CAROL])),
    ]
}

pub(super) fn the_first_commit_of_an_epoch_holds(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local)]);
    let outcomes = run_all(
        &store,
        vec![
            submit(ALICE, words(1, 1, b"first", &[(DAVE, here())], &[])),
            {
                let words = words(1, 1, b"second", &[], &[]);
                let how = How::Submitted(None, hub(), proof(CAROL, &words));
                command(CAROL, Origin::Peer(there()), words, how)
            },
            submit(ALICE, words(1, 2, b"third", &[], &[BOB])),
        ],
    );
    let [first, second, third] = outcomes.try_into().unwrap();
    let (first, third) = (committed(first), committed(third));
    assert_eq!(third.receipt.words.previous, Some(CommitHash::of(b"first")));
    let Ok(Outcome::Lost(won)) = second else { panic!("{second:?}") };
    assert_eq!((won.commit.bytes.as_slice(), &won.receipt), (b"first".as_slice(), &first.receipt));
    assert_eq!(first.change.unwrap().peers, [there()]);
    // Handed in again, it is answered like the first time, after a crash too, and changes nothing.
    for _ in ["before a crash", "after it"] {
        let again = committed(run(&store, submit(ALICE, words(1, 1, b"first", &[(DAVE, here())], &[]))));
        assert_eq!((&again.receipt, again.change), (&first.receipt, None));
        assert_eq!(page(&store, log(1), 0, 9), [1, 2]);
        store = fixture.restart(store);
    }
    let none = |person: u8, epoch| wait(store.commit_of(device(person), thread(1), Epoch::new(epoch))).unwrap();
    let bytes = |found: Option<Accepted>| found.map(|accepted| accepted.commit.bytes);
    assert_eq!(bytes(none(BOB, 1)), Some(b"first".to_vec()));
    assert_eq!(bytes(none(DAVE, 1)), None, "it had no leaf then");
    assert_eq!(bytes(none(DAVE, 2)), Some(b"third".to_vec()));
}

pub(super) fn a_welcome_leaves_with_the_commit_that_holds_alone(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local)]);
    done(&store, vec![submit(BOB, words(1, 1, b"update", &[], &[]))]);
    let late = run(&store, submit(ALICE, words(1, 1, b"too late", &[(DAVE, here())], &[])));
    assert!(matches!(late, Ok(Outcome::Lost(_))), "{late:?}");
    assert_eq!((invitations(&store, DAVE), reads(&store, DAVE, 1)), (vec![], None));
    let change = committed(run(&store, submit(ALICE, words(1, 2, b"in time", &[(DAVE, here())], &[])))).change.unwrap();
    assert_eq!(invitations(&store, DAVE), [(thread(1), 3, 4)]);
    let (start, epochs) = (change.sequence, Epochs::since(Epoch::new(3)));
    assert_eq!(change.readers, [Reader { mailbox: mailbox(DAVE), cursor: Sequence::ZERO, start, epochs }]);
    assert_eq!(reads(&store, DAVE, 1).unwrap().start, change.sequence);
}

pub(super) fn a_commit_says_what_can_be(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local), open(2, ALICE, &two())]);
    let refused = |words| run(&store, submit(ALICE, words)).unwrap_err();
    assert_eq!(refused(words(1, 1, b"x", &[(BOB, here())], &[])), Conflict::Malformed, "in it already");
    assert_eq!(refused(words(1, 1, b"x", &[], &[DAVE])), Conflict::Malformed, "not in it");
    assert_eq!(refused(words(1, 1, b"x", &[], &[ALICE])), Conflict::Malformed, "its author");
    assert_eq!(refused(words(1, 1, b"x", &[(9, here())], &[])), Conflict::NoConsent, "nobody here");
    assert_eq!(refused(words(1, 2, b"x", &[], &[])), Conflict::StaleEpoch, "an epoch to come");
    assert_eq!(refused(hub::Commit { term: 2, ..words(1, 1, b"x", &[], &[]) }), Conflict::StaleEpoch);
    let taken_out = words(1, 1, b"x", &[], &[BOB]);
    let bodies = Bodies::of(Newcomers { welcome: vec![1], tree: vec![2] });
    let how = How::Submitted(Some(bodies), hub(), proof(ALICE, &taken_out));
    let welcomed = command(ALICE, Origin::Local, taken_out, how);
    assert_eq!(run(&store, welcomed).unwrap_err(), Conflict::Malformed, "a Welcome for nobody");
    assert_eq!(run(&store, submit(DAVE, words(1, 1, b"x", &[], &[]))).unwrap_err(), Conflict::NotMember);
    let how = How::Submitted(None, hub(), Proof::Absent);
    let for_bob = command(BOB, Origin::Peer(there()), words(1, 1, b"x", &[], &[]), how);
    assert_eq!(run(&store, for_bob).unwrap_err(), Conflict::NotMember, "another relay's word for a user of this one");
    let fixed = hub::Commit { thread: ThreadId::from_bytes([2; 32]), ..words(1, 1, b"x", &[], &[]) };
    assert_eq!(run(&store, submit(ALICE, fixed)).unwrap_err(), Conflict::Malformed, "these people and no others");
    assert_eq!(page(&store, log(1), 0, 9), [0_u64; 0]);
}

pub(super) fn who_reads_an_entry_is_decided_by_its_epoch(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local), text(1, 1, ALICE, Origin::Local, b"one")]);
    done(&store, vec![submit(ALICE, words(1, 1, b"c1", &[(DAVE, here())], &[BOB]))]);
    done(&store, vec![text(1, 2, ALICE, Origin::Local, b"two")]);
    // Sealed before the change, by members whose texts were under way.
    done(&store, vec![text(1, 1, ALICE, Origin::Local, b"late"), text(1, 1, CAROL, Origin::Peer(there()), b"later")]);
    let refused = |command| run(&store, command).unwrap_err();
    assert_eq!(refused(text(1, 1, BOB, Origin::Local, b"gone")), Conflict::Removed);
    assert_eq!(refused(text(1, 2, BOB, Origin::Local, b"gone")), Conflict::Removed);
    assert_eq!(refused(text(1, 1, DAVE, Origin::Local, b"early")), Conflict::StaleEpoch);
    assert_eq!(refused(text(1, 3, ALICE, Origin::Local, b"ahead")), Conflict::EpochAhead);
    assert_eq!(refused(text(1, 3, CAROL, Origin::Peer(there()), b"ahead")), Conflict::EpochAhead);
    // What a peer offers behind it waits with it, or the two would change places; nobody else waits for that.
    let behind = vec![
        text(1, 3, CAROL, Origin::Peer(there()), b"ahead"),
        text(1, 2, CAROL, Origin::Peer(there()), b"behind"),
        text(1, 2, ALICE, Origin::Local, b"two"),
    ];
    let outcomes = run_all(&store, behind);
    assert_eq!(outcomes[..2], [Err(Conflict::EpochAhead), Err(Conflict::EpochAhead)]);
    assert!(outcomes[2].is_ok(), "{outcomes:?}");
    let week = 8 * 24 * 3_600 * 1_000;
    let old = Envelope { thread: thread(1), ..envelope(0, b"old") };
    let old = append_of(ALICE, Origin::Local, old, LogBounds::default(), week);
    assert_eq!(refused(old), Conflict::StaleEpoch, "of an epoch that ended a week ago");

    store = fixture.restart(store);
    let bob = reads(&store, BOB, 1).unwrap();
    assert_eq!((bob.cursor.get(), bob.end.map(Sequence::get)), (0, Some(2)));
    assert!(bob.epochs.contain(Epoch::new(1)) && !bob.epochs.contain(Epoch::new(2)));
    let dave = reads(&store, DAVE, 1).unwrap();
    assert_eq!((dave.cursor.get(), dave.start.get(), dave.end), (0, 2, None));
    assert!(!dave.epochs.contain(Epoch::new(1)) && dave.epochs.contain(Epoch::new(2)));

    // Bob has what was for him: he keeps nothing from going any more.
    let cursors = [(ALICE, 5), (DAVE, 5), (BOB, 1)];
    done(&store, vec![taken((0..=5).map(|n| OutboundKey { log: log(1), sequence: Sequence::new(n) }).collect())]);
    assert_eq!(run(&store, trim(1, &cursors)), Ok(Outcome::Trimmed { upto: Sequence::new(1), more: false }));
    assert_eq!(run(&store, trim(1, &[(BOB, 2)])), Ok(Outcome::Trimmed { upto: Sequence::new(5), more: false }));

    // And in again: what lies between is not for him.
    done(&store, vec![submit(ALICE, words(1, 2, b"c2", &[(BOB, here())], &[]))]);
    let bob = reads(&store, BOB, 1).unwrap();
    assert_eq!((bob.cursor.get(), bob.start.get(), bob.end), (2, 6, None));
    assert!(bob.epochs.contain(Epoch::new(3)) && !bob.epochs.contain(Epoch::new(2)));
}

pub(super) fn what_is_taken_of_a_former_member_is_decided_by_what_its_relay_knew(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    let before = || text(1, 1, BOB, Origin::Local, b"before");
    done(&store, vec![group(1, &all(), Origin::Local), before()]);
    done(&store, vec![submit(ALICE, words(1, 1, b"c1", &[(DAVE, here())], &[BOB, CAROL]))]);
    for _ in ["before a crash", "after it"] {
        // The answer was lost, and the envelope is there: it stays.
        assert_eq!(placed(run(&store, before())), (1, false));
        assert_eq!(run(&store, text(1, 1, BOB, Origin::Local, b"after")).unwrap_err(), Conflict::Removed);
        store = fixture.restart(store);
    }
    // What another relay took before it had the commit is taken however late it comes, until that relay is seen to have it.
    assert_eq!(placed(run(&store, text(1, 1, CAROL, Origin::Peer(there()), b"on its way"))), (3, true));
    done(&store, vec![submit(ALICE, words(1, 2, b"c2", &[(ERIN, there())], &[]))]);
    assert_eq!(placed(run(&store, text(1, 3, ERIN, Origin::Peer(there()), b"they know"))), (5, true));
    for _ in ["before a crash", "after it"] {
        assert_eq!(run(&store, text(1, 1, CAROL, Origin::Peer(there()), b"too late")).unwrap_err(), Conflict::Removed);
        assert_eq!(placed(run(&store, text(1, 1, CAROL, Origin::Peer(there()), b"on its way"))), (3, false));
        store = fixture.restart(store);
    }
    // In again, what is sealed with the new leaf is taken, and with the old one is not.
    done(&store, vec![submit(ALICE, words(1, 3, b"c3", &[(BOB, here())], &[]))]);
    assert_eq!(placed(run(&store, text(1, 4, BOB, Origin::Local, b"again"))), (7, true));
    assert_eq!(run(&store, text(1, 1, BOB, Origin::Local, b"of before")).unwrap_err(), Conflict::Removed);
}

pub(super) fn t15_a_word_that_somebody_leaves_holds_for_the_leaf_they_had_then(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local)]);
    // Shown to be signed by one who has a leaf; said in this epoch.
    let leaves = |said: u64, epoch: u64, bytes: &[u8]| {
        let key = KeyPair::from_seed_bytes([BOB; 32]);
        let word = warrant::leave(&key, device(BOB), thread(1), Epoch::new(said));
        let words = hub::Commit { warrant: Some(hub::Warrant::Leaves(word)), ..words(1, epoch, bytes, &[], &[BOB]) };
        let Command::Commit(mut command) = submit(CAROL, words) else { unreachable!("a commit") };
        command.origin = Origin::Peer(there());
        command.shown.due = BTreeSet::from([device(BOB)]);
        Command::Commit(command)
    };
    done(&store, vec![leaves(1, 1, b"c1")]);
    done(&store, vec![submit(ALICE, words(1, 2, b"c2", &[(BOB, here())], &[]))]);
    for _ in ["before a crash", "after it"] {
        for said in [1, 2] {
            assert_eq!(run(&store, leaves(said, 3, b"c3")).unwrap_err(), Conflict::Malformed, "{said}");
        }
        store = fixture.restart(store);
    }
    done(&store, vec![leaves(3, 3, b"c3")]);
}

pub(super) fn whoever_comes_back_still_gets_what_waited(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    done(&store, vec![group(1, &all(), Origin::Local), text(1, 1, ALICE, Origin::Local, b"one")]);
    done(&store, vec![submit(ALICE, words(1, 1, b"c1", &[], &[BOB]))]);
    done(&store, vec![text(1, 2, ALICE, Origin::Local, b"not for bob")]);
    done(&store, vec![submit(ALICE, words(1, 2, b"c2", &[(BOB, here())], &[]))]);
    let bob = reads(&store, BOB, 1).unwrap();
    assert_eq!((bob.cursor.get(), bob.start.get(), bob.end), (0, 0, None));
    let for_him: Vec<u64> = (1..=4).filter(|epoch| bob.epochs.contain(Epoch::new(*epoch))).collect();
    assert_eq!(for_him, [1, 3, 4]);
}

pub(super) fn another_relay_follows_its_hub(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    // The hub is elsewhere: Carol's relay.
    done(&store, vec![consent(DAVE, CAROL, there())]);
    let opened = group(1, &[(ALICE, there()), (BOB, here())], Origin::Peer(there()));
    done(&store, vec![consent(BOB, ALICE, there()), opened]);
    let elsewhere = run(&store, submit(BOB, words(1, 1, b"mine", &[], &[])));
    assert_eq!(elsewhere, Ok(Outcome::Elsewhere(there())));
    let c2 = || told(ALICE, words(1, 2, b"c2", &[], &[BOB]), None);
    assert_eq!(run(&store, c2()).unwrap_err(), Conflict::EpochAhead, "the one before is still to come");
    let strange = told_by(RelayId::from_bytes([8; 32]), ALICE, words(1, 1, b"c1", &[(CAROL, there())], &[]), None);
    assert_eq!(run(&store, strange).unwrap_err(), Conflict::NotMember, "the receipt is not its hub's");
    let c1 = || told(ALICE, words(1, 1, b"c1", &[(CAROL, there())], &[]), None);
    let change = committed(run(&store, c1())).change.unwrap();
    assert_eq!((change.peers.len(), change.sequence.get()), (0, 1), "what a hub tells is not told on");
    for _ in ["before a crash", "after it"] {
        assert_eq!(committed(run(&store, c1())).change, None);
        store = fixture.restart(store);
    }
    let other = told(ALICE, words(1, 1, b"another", &[], &[]), None);
    assert_eq!(run(&store, other).unwrap_err(), Conflict::Differs, "two commits for one epoch");
    assert_eq!(committed(run(&store, c2())).change.unwrap().gone, [mailbox(BOB)]);

    // A group comes here with its first member, and what was sealed before is for nobody here.
    let everybody = [(ALICE, there()), (CAROL, there()), (DAVE, here())];
    let strange = RelayId::from_bytes([8; 32]);
    let begins = told_by(strange, CAROL, words(2, 5, b"c5", &[(DAVE, here())], &[]), Some(&everybody));
    assert_eq!(run(&store, begins).unwrap_err(), Conflict::NotMember, "nor here");
    let c5 = || told(CAROL, words(2, 5, b"c5", &[(DAVE, here())], &[]), Some(&everybody));
    let change = committed(run(&store, c5())).change.unwrap();
    assert_eq!((change.log, change.untold), (log(90), 0));
    assert_eq!(invitations(&store, DAVE), [(thread(2), 6, 3)]);
    let before = run(&store, text(2, 5, CAROL, Origin::Peer(there()), b"before"));
    assert_eq!(placed(before), (0, false));
    assert_eq!(placed(run(&store, text(2, 6, CAROL, Origin::Peer(there()), b"after"))), (2, true));
}

pub(super) fn a_hub_names_none_of_this_relays_own_users_who_are_not_in_the_group(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    // Dave is a friend of Alice's, who lives here and knows of no such group.
    let everybody = [(ALICE, here()), (CAROL, there()), (DAVE, here())];
    let begins = told(ALICE, words(2, 5, b"c5", &[(DAVE, here())], &[]), Some(&everybody));
    assert_eq!(committed(run(&store, begins)).change.unwrap().untold, 1);
    assert_eq!(invitations(&store, DAVE), []);
}

pub(super) fn an_inbox_that_is_full_takes_the_invitation_to_what_a_hub_decided(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    let tight = LogBounds { entries_max: 2, bytes_max: 1 << 20 };
    done(
        &store,
        vec![consent(DAVE, ALICE, there()), group(1, &[(ALICE, there()), (DAVE, here())], Origin::Peer(there()))],
    );
    let inbox = LogId::from_bytes([DAVE; 16]);
    let held = |store: &_| page(store, inbox, 0, 9).len();
    // Taken out and in again, and away all the while: nobody says it to him a second time.
    let turns = (1..=4).map(|turn| {
        let (out, back) = (2 * turn - 1, 2 * turn);
        let gone = bounded(told(ALICE, words(1, out, b"out", &[], &[DAVE]), None), tight);
        let everybody = [(ALICE, there()), (DAVE, here())];
        let again = bounded(told(ALICE, words(1, back, b"in", &[(DAVE, here())], &[]), Some(&everybody)), tight);
        [gone, again]
    });
    let untold: Vec<usize> = turns
        .map(|[gone, again]| {
            done(&store, vec![gone]);
            committed(run(&store, again)).change.unwrap().untold
        })
        .collect();
    assert_eq!((untold, held(&store)), (vec![0, 0, 0, 1], 4), "twice the bound is a bound");
    store = fixture.restart(store);
    assert_eq!(held(&store), 4);
}
