//! The contract, as far as other relays are concerned: who they are, and what they will not have.
//! Owns: the cases. Never: knows a backend.

use super::*;

pub(super) fn refused(thread: u8, rows: &[(u64, RefusalCode)], bounds: LogBounds) -> Command {
    let row = |(n, code): &(u64, RefusalCode)| (OutboundKey { log: log(thread), sequence: Sequence::new(*n) }, *code);
    let refused = rows.iter().map(row).collect();
    Command::Forwarded(Forwarded {
        peer: there(),
        rows: Vec::new(),
        refused,
        unknown: Vec::new(),
        at: at(3_000),
        bounds,
    })
}

fn inbox(person: u8) -> LogId {
    LogId::from_bytes([person; 16])
}

/// What somebody was told is not delivered.
fn undelivered(store: &impl Store, person: u8) -> Vec<(u8, RefusalCode, Vec<EnvelopeId>)> {
    let page = wait(store.log_page(inbox(person), Sequence::ZERO, 99, usize::MAX)).unwrap();
    let notice = |entry: whimbrel_protocol::push::Entry| match entry.body {
        EntryBody::Undelivered(words) => {
            assert_eq!(words.domain, there());
            Some((words.thread.as_bytes()[0], words.code, words.envelopes))
        }
        _ => None,
    };
    page.entries.into_iter().filter_map(notice).collect()
}

fn waiting(store: &impl Store) -> Vec<u64> {
    let rows = wait(store.outbound(there(), None, 99, usize::MAX)).unwrap();
    rows.iter().map(|row| row.key.sequence.get()).collect()
}

pub(super) fn what_a_peer_refuses_goes_with_a_notice_to_its_author(fixture: &mut impl Fixture) {
    let mut store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all()), append(1, ALICE, b"one"), append(1, ALICE, b"two")]);
    done(&store, vec![append(1, BOB, b"three"), append(1, ALICE, b"four")]);
    done(&store, vec![taken(vec![OutboundKey { log: log(1), sequence: Sequence::ZERO }])]);
    let gone = RefusalCode::NotFound;
    let news = run(&store, refused(1, &[(1, gone), (2, gone), (3, gone)], LogBounds::default()));
    assert_eq!(news, Ok(Outcome::Forwarded { inboxes: vec![inbox(ALICE), inbox(BOB)], kept: Vec::new() }));
    let ids = |bodies: &[&[u8]]| bodies.iter().map(|body| EnvelopeId::of(body)).collect::<Vec<_>>();
    for _ in ["before a crash", "after it"] {
        assert_eq!(undelivered(&store, ALICE), [(1, gone, ids(&[b"one", b"two"]))]);
        assert_eq!(undelivered(&store, BOB), [(1, gone, ids(&[b"three"]))]);
        assert_eq!(waiting(&store), [4]);
        store = fixture.restart(store);
    }
    // The same answer again says nothing anew, and without room for a notice the row stays.
    let nothing = Ok(Outcome::Forwarded { inboxes: Vec::new(), kept: Vec::new() });
    assert_eq!(run(&store, refused(1, &[(1, gone), (2, gone)], LogBounds::default())), nothing);
    let tight = LogBounds { entries_max: 1, bytes_max: 1 << 20 };
    let kept = vec![OutboundKey { log: log(1), sequence: Sequence::new(4) }];
    assert_eq!(run(&store, refused(1, &[(4, gone)], tight)), Ok(Outcome::Forwarded { inboxes: Vec::new(), kept }));
    assert_eq!(waiting(&store), [4]);
    assert_eq!(undelivered(&store, ALICE).len(), 1);
    done(&store, vec![refused(1, &[(4, gone)], LogBounds::default())]);
    assert!(waiting(&store).is_empty());
    assert!(wait(store.waiting_peers(None, 9)).unwrap().is_empty());
}

pub(super) fn a_refused_opening_lets_its_creator_open_another(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    let tag = Some(ParticipantsTag::from_bytes([9; 32]));
    let open = |thread, people: &[(u8, Domain)]| open_of(thread, ALICE, Origin::Local, tag, people);
    done(&store, vec![open(1, &across())]);
    assert_eq!(run(&store, open(2, &across())), Ok(Outcome::Exists(ThreadId::from_bytes([1; 32]))));
    done(&store, vec![refused(1, &[(0, RefusalCode::NoConsent)], LogBounds::default())]);
    assert_eq!(undelivered(&store, ALICE), [(1, RefusalCode::NoConsent, Vec::new())]);
    assert!(matches!(run(&store, open(2, &across())), Ok(Outcome::Opened(_))));
    // With others in it who have it, it stays their thread.
    let tag = Some(ParticipantsTag::from_bytes([8; 32]));
    let open = |thread| open_of(thread, ALICE, Origin::Local, tag, &all());
    done(&store, vec![open(3), refused(3, &[(0, RefusalCode::NoConsent)], LogBounds::default())]);
    assert_eq!(run(&store, open(4)), Ok(Outcome::Exists(ThreadId::from_bytes([3; 32]))));
}

pub(super) fn what_leaves_a_full_log_before_a_peer_had_it_is_told(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all())]);
    let append = |n: u8| append_of(ALICE, Origin::Local, envelope(1, &[n]), bounds(), 2_000);
    done(&store, (1..=4).map(append).collect());
    // Bob has it all.
    done(&store, vec![trim(1, &[(BOB, 4)])]);
    let Ok(Outcome::Appended(appended)) = run(&store, append(5)) else { panic!("no append") };
    assert_eq!(appended.inboxes, [inbox(ALICE)]);
    assert_eq!(undelivered(&store, ALICE), [(1, RefusalCode::Full, vec![EnvelopeId::of(&[1])])]);
    assert_eq!(waiting(&store), [0, 2, 3, 4, 5]);
    // Once her inbox has no room for the news, nothing more is pushed out.
    for n in 6..=8 {
        done(&store, vec![append(n), trim(1, &[(BOB, u64::from(n))])]);
    }
    assert_eq!(run(&store, append(9)), Err(Conflict::Full));
    assert_eq!(waiting(&store), [0, 5, 6, 7, 8]);
}

pub(super) fn a_pin_never_changes(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    let pin = |relay: u8| pin_peer(&there(), relay, "127.0.0.1:1", PinnedBy::Hint(account(ALICE)), None);
    assert_eq!(run(&store, pin(1)), Err(Conflict::NoConsent), "nobody's word");
    done(&store, vec![register(ALICE, "alice")]);
    let outcomes = run_all(&store, vec![pin(1), pin(2), pin(1)]);
    assert_eq!(outcomes, [Ok(Outcome::Done), Err(Conflict::Differs), Ok(Outcome::Done)]);
    let store = fixture.restart(store);
    let pins = wait(store.pins(None, 9)).unwrap();
    assert_eq!((pins.len(), pins[0].1.relay), (1, RelayId::from_bytes([1; 32])));
    assert!(wait(store.pins(Some(there()), 9)).unwrap().is_empty());
}

fn pin_peer(peer: &Domain, relay: u8, endpoint: &str, by: PinnedBy, invite: Option<u8>) -> Command {
    let pin = Pin { relay: RelayId::from_bytes([relay; 32]), endpoint: endpoint.to_owned(), by };
    let invite = invite.map(|byte| InviteToken::from_bytes([byte; 16]).hash());
    Command::PinPeer(PinPeer { peer: peer.clone(), pin, invite, at: at(1_000) })
}

pub(super) fn an_introduction_needs_a_live_invite_and_leaves_it_as_it_was(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    let introduce = |owner, relay, endpoint, invite| {
        pin_peer(&there(), relay, endpoint, PinnedBy::Introduction(account(owner)), invite)
    };
    done(&store, vec![register(ALICE, "alice"), register(BOB, "bob"), stock(ALICE, &[], Some(9))]);
    done(&store, vec![invite(ALICE, 5, 1, 2_000), invite(ALICE, 6, 1, 1_000)]);
    assert_eq!(wait(store.live_invites(account(ALICE), at(1_000))).unwrap().len(), 1);
    for (owner, token) in [(ALICE, None), (ALICE, Some(6)), (ALICE, Some(7)), (BOB, Some(5)), (CAROL, Some(5))] {
        assert_eq!(run(&store, introduce(owner, 1, "b:1", token)), Err(Conflict::NoConsent), "{owner} {token:?}");
    }
    done(&store, vec![introduce(ALICE, 1, "b:1", Some(5))]);
    // Another identity never takes its place; the same may have moved.
    assert_eq!(run(&store, introduce(ALICE, 2, "b:1", Some(5))), Err(Conflict::Differs));
    done(&store, vec![introduce(ALICE, 1, "b:2", Some(5))]);
    let store = fixture.restart(store);
    let known = wait(store.pins(None, 9)).unwrap();
    assert_eq!((known.len(), known[0].1.endpoint.as_str()), (1, "b:2"));
    assert_eq!(known[0].1.by, PinnedBy::Introduction(account(ALICE)));
    // The invite's one use is still there, and once it is gone it introduces nobody.
    assert!(run(&store, claim(ALICE, CAROL, there(), Some(5))).is_ok());
    assert_eq!(run(&store, introduce(ALICE, 1, "b:3", Some(5))), Err(Conflict::NoConsent));
    assert!(wait(store.live_invites(account(ALICE), at(1_000))).unwrap().is_empty());
}

pub(super) fn links_pin_a_bounded_number_of_peers_and_the_operator_any(fixture: &mut impl Fixture) {
    let store = fixture.fresh();
    done(&store, vec![register(ALICE, "alice"), register(BOB, "bob"), invite(BOB, 5, 1, 2_000)]);
    let peer = |n: usize| -> Domain { format!("peer{n}.example").parse().unwrap() };
    let hint = |n, person| pin_peer(&peer(n), 1, "b:1", PinnedBy::Hint(account(person)), None);
    let most = limits::PEERS_PER_ACCOUNT_MAX;
    let outcomes = run_all(&store, (0..=most).map(|n| hint(n, ALICE)).collect());
    assert!(outcomes[..most].iter().all(Result::is_ok));
    assert!(matches!(outcomes[most], Err(Conflict::TooMany(_))), "{:?}", outcomes[most]);
    // What is known already costs nothing; another account has room of its own.
    done(&store, vec![hint(0, ALICE), hint(most, BOB)]);
    done(&store, vec![pin_peer(&peer(99), 1, "b:1", PinnedBy::Introduction(account(BOB)), Some(5))]);
    // The operator's word replaces any other, and is not replaced.
    let operator = |relay| pin_peer(&peer(0), relay, "c:1", PinnedBy::Operator, None);
    done(&store, vec![operator(7)]);
    assert_eq!(run(&store, hint(0, BOB)), Err(Conflict::Differs));
    let pins = wait(store.pins(None, 999)).unwrap();
    let first = pins.iter().find(|(domain, _)| *domain == peer(0)).unwrap();
    assert_eq!((first.1.relay, first.1.by), (RelayId::from_bytes([7; 32]), PinnedBy::Operator));
    // All accounts together have a bound, too.
    let everybody = limits::PEERS_BY_LINK_MAX / most + 2;
    let mut last = Ok(Outcome::Done);
    for person in 10..10 + u8::try_from(everybody).unwrap() {
        done(&store, vec![register(person, &format!("person{person}"))]);
        let fill = (0..most).map(|n| hint(usize::from(person) * 1_000 + n, person)).collect();
        last = run_all(&store, fill).pop().unwrap();
    }
    assert_eq!(last, Err(Conflict::TooMany("peers known by links")));
    assert_eq!(run(&store, pin_peer(&peer(1), 1, "b:1", PinnedBy::Operator, None)), Ok(Outcome::Done));
}
