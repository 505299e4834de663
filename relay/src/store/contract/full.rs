//! The contract, as far as a full log of more than two is concerned: what goes, and who hears of it.
//! Owns: the cases. Never: knows a backend.

use super::hub::{DAVE, group, submit, thread, with_dave, words};
use super::*;

fn inbox(person: u8) -> LogId {
    LogId::from_bytes([person; 16])
}

/// What somebody was told went from a full log before devices of that domain had it.
fn told(store: &impl Store, person: u8) -> Vec<(Domain, Vec<EnvelopeId>)> {
    let page = wait(store.log_page(inbox(person), Sequence::ZERO, 999, usize::MAX)).unwrap();
    let notice = |entry: whimbrel_protocol::push::Entry| match entry.body {
        EntryBody::Undelivered(words) => {
            assert_eq!(words.code, RefusalCode::Full);
            Some((words.domain, words.envelopes))
        }
        _ => None,
    };
    page.entries.into_iter().filter_map(notice).collect()
}

fn said(author: u8, n: u8) -> Command {
    append_of(author, Origin::Local, envelope(1, &[n]), bounds(), 2_000)
}

fn ids(bodies: &[u8]) -> Vec<EnvelopeId> {
    bodies.iter().map(|body| EnvelopeId::of(&[*body])).collect()
}

/// Alice, Bob and Dave here.
fn three_here() -> Vec<(u8, Domain)> {
    vec![(ALICE, here()), (BOB, here()), (DAVE, here())]
}

pub(super) fn what_leaves_a_full_log_before_a_device_here_had_it_is_told(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![open(1, ALICE, &three_here())]);
    done(&store, vec![said(ALICE, 1), said(BOB, 2), said(ALICE, 3), said(BOB, 4)]);
    // Dave is away; the others have it all, and that does not help him.
    done(&store, vec![trim(1, &[(ALICE, 4), (BOB, 4)])]);
    let Ok(Outcome::Appended(appended)) = run(&store, said(ALICE, 5)) else { panic!("no append") };
    assert_eq!((appended.sequence.get(), appended.inboxes), (5, vec![inbox(ALICE)]));
    let Ok(Outcome::Appended(appended)) = run(&store, said(ALICE, 6)) else { panic!("no append") };
    assert_eq!(appended.inboxes, [inbox(BOB)], "it was Bob's");
    for _ in ["before a crash", "after it"] {
        assert_eq!(page(&store, log(1), 0, 9), [3, 4, 5, 6]);
        assert_eq!(told(&store, ALICE), [(here(), ids(&[1]))]);
        assert_eq!(told(&store, BOB), [(here(), ids(&[2]))]);
        assert_eq!(told(&store, DAVE), [], "he wrote nothing");
        store = fixture.restart(store);
    }
    // Whoever never empties their inbox stops nobody: what finds no room there, their own device tells in the end.
    let mut untold = 0;
    for n in 7..20 {
        let Ok(Outcome::Appended(appended)) = run(&store, said(ALICE, n)) else { panic!("{n} is stopped") };
        untold += appended.untold;
    }
    assert_eq!(page(&store, log(1), 0, 9), [16, 17, 18, 19]);
    let gone = ids(&(1..16).collect::<Vec<_>>());
    let news: Vec<EnvelopeId> =
        [ALICE, BOB].into_iter().flat_map(|author| told(&store, author)).flat_map(|(_, envelopes)| envelopes).collect();
    assert!(news.len() >= 4 && news.len() < gone.len(), "as many as an inbox has room for: {}", news.len());
    assert!(news.iter().all(|id| gone.contains(id)), "none is told of that is there");
    assert_eq!(news.len() as u64 + untold, gone.len() as u64, "what nobody was told of is counted");
}

/// From where on a page leaves nothing out, and its first entry.
fn whole(store: &impl Store, log: LogId, after: u64) -> (u64, Option<u64>) {
    let page = wait(store.log_page(log, Sequence::new(after), 9, usize::MAX)).unwrap();
    (page.whole_after.get(), page.entries.first().map(|entry| entry.sequence.get()))
}

pub(super) fn a_page_says_from_where_on_it_leaves_nothing_out(fixture: &mut impl Fixture) {
    let mut store = with_dave(fixture);
    done(&store, vec![open(1, ALICE, &three_here())]);
    for n in 1..=6 {
        done(&store, vec![said(ALICE, n)]);
    }
    for _ in ["before a crash", "after it"] {
        assert_eq!(
            [0, 1, 2, 5].map(|after| whole(&store, log(1), after)),
            [(2, Some(3)), (2, Some(3)), (2, Some(3)), (5, Some(6))]
        );
        assert_eq!((whole(&store, log(1), 6), whole(&store, log(9), 4)), ((6, None), (4, None)), "at its end; of none");
        store = fixture.restart(store);
    }
    // Nobody waits for anything: all of it went, and there is nothing to show it by.
    done(&store, vec![trim(1, &[(ALICE, 6), (BOB, 6), (DAVE, 6)])]);
    assert_eq!(whole(&store, log(1), 4), (6, None));
}

pub(super) fn an_author_elsewhere_and_a_device_that_had_it_cost_no_notice(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all())]);
    let carols = |n: u8| append_of(CAROL, Origin::Peer(there()), envelope(1, &[n]), bounds(), 2_000);
    done(&store, vec![carols(1), said(ALICE, 2), said(ALICE, 3), said(BOB, 4)]);
    done(&store, vec![taken((0..=4).map(|n| OutboundKey { log: log(1), sequence: Sequence::new(n) }).collect())]);
    // Bob has the first two; Alice has acknowledged nothing, and lacks nothing of her own.
    done(&store, vec![trim(1, &[(BOB, 2)])]);
    let quiet = |n: u8| {
        let Ok(Outcome::Appended(appended)) = run(&store, carols(n)) else { panic!("no append") };
        appended.inboxes
    };
    assert_eq!(quiet(5), [], "Carol lives elsewhere: her own relay and her own device have the say");
    assert_eq!(quiet(6), [], "Bob had it, and it is Alice's own");
    assert_eq!(quiet(7), [inbox(ALICE)]);
    assert_eq!(quiet(8), [inbox(BOB)], "Alice never said that she has it");
    assert_eq!((told(&store, ALICE), told(&store, BOB)), (vec![(here(), ids(&[3]))], vec![(here(), ids(&[4]))]));
}

pub(super) fn a_log_full_of_what_waits_for_a_peer_takes_what_that_peer_forwards(fixture: &mut impl Fixture) {
    let mut store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &across())]);
    let carols = |n: u8| append_of(CAROL, Origin::Peer(there()), envelope(1, &[n]), bounds(), 2_000);
    done(&store, (1..=4).map(|n| said(ALICE, n)).collect());
    assert_eq!(run(&store, said(ALICE, 5)), Err(Conflict::Full));
    // Carol's relay may be as full of what waits for this one: neither would go on if both refused.
    done(&store, (11..=14).map(carols).collect());
    for _ in ["before a crash", "after it"] {
        assert_eq!(page(&store, log(1), 0, 9), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(run(&store, carols(15)), Err(Conflict::Full), "twice the bound is a bound");
        assert_eq!(run(&store, said(ALICE, 5)), Err(Conflict::Full), "none of it is for users of this relay");
        store = fixture.restart(store);
    }
    done(&store, vec![taken((0..=4).map(|n| OutboundKey { log: log(1), sequence: Sequence::new(n) }).collect())]);
    done(&store, vec![trim(1, &[(ALICE, 8)]), said(ALICE, 5), carols(15)]);
    assert_eq!(page(&store, log(1), 0, 9), [9, 10]);
    // By bytes, too.
    let bytes = LogBounds { entries_max: 100, bytes_max: 2_000 };
    let large = |n: u8| append_of(CAROL, Origin::Peer(there()), envelope(1, &[n; 1_000]), bytes, 3_000);
    done(&store, vec![large(1), large(2), large(3)]);
    assert_eq!(run(&store, large(4)), Err(Conflict::Full));
}

pub(super) fn what_a_peer_forwards_finds_room_where_nothing_may_go_for_it(fixture: &mut impl Fixture) {
    let store = three_friends(fixture);
    done(&store, vec![open(1, ALICE, &all())]);
    let carols = |n: u8| append_of(CAROL, Origin::Peer(there()), envelope(1, &[n]), bounds(), 2_000);
    // Alice's inbox has no room for the news that what waits for Carol's relay is gone.
    for n in 1..=8 {
        done(&store, vec![said(ALICE, n), trim(1, &[(BOB, u64::from(n))])]);
    }
    assert_eq!(run(&store, said(ALICE, 9)), Err(Conflict::Full));
    let before = told(&store, ALICE);
    done(&store, (11..=14).map(carols).collect());
    assert_eq!(run(&store, carols(15)), Err(Conflict::Full));
    assert_eq!(page(&store, log(1), 0, 9), [5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(
        (told(&store, ALICE), told(&store, BOB)),
        (before, Vec::new()),
        "nothing went, and nobody is told of it"
    );
    let waits = wait(store.outbound(there(), None, 99, usize::MAX)).unwrap();
    assert_eq!(waits.iter().map(|row| row.key.sequence.get()).collect::<Vec<_>>(), [0, 5, 6, 7, 8]);
}

pub(super) fn what_was_not_for_a_device_is_not_missed_by_it(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    let said = |epoch: u64, n: u8| {
        let envelope = Envelope { thread: thread(1), epoch: Epoch::new(epoch), ..envelope(1, &[n]) };
        append_of(ALICE, Origin::Local, envelope, bounds(), 5_000)
    };
    done(&store, vec![group(1, &all(), Origin::Local), said(1, 1)]);
    // Dave for Bob; one envelope of before the change was under way.
    done(&store, vec![submit(ALICE, words(1, 1, b"c1", &[(DAVE, here())], &[BOB])), said(1, 3), said(2, 4)]);
    done(&store, vec![taken((0..=4).map(|n| OutboundKey { log: log(1), sequence: Sequence::new(n) }).collect())]);
    for (n, expected) in [(5, vec![1]), (6, vec![1]), (7, vec![1]), (8, vec![1, 4])] {
        done(&store, vec![said(2, n)]);
        let of_here: Vec<EnvelopeId> =
            told(&store, ALICE).into_iter().filter(|(domain, _)| *domain == here()).flat_map(|(_, ids)| ids).collect();
        assert_eq!(of_here, ids(&expected), "after {n}: the first was Bob's to have, the fourth is Dave's");
    }
}

pub(super) fn a_long_log_drops_a_step_at_once_and_stays_within_its_bounds(fixture: &mut impl Fixture) {
    let store = with_dave(fixture);
    done(&store, vec![open(1, ALICE, &three_here())]);
    let long = LogBounds { entries_max: 640, bytes_max: 1 << 30 };
    let said = |n: u32, bounds| append_of(ALICE, Origin::Local, envelope(1, &n.to_be_bytes()), bounds, 2_000);
    let held = || page(&store, log(1), 0, 9_999);
    for outcome in run_all(&store, (1..=640).map(|n| said(n, long)).collect()) {
        outcome.unwrap();
    }
    assert_eq!((held().len(), told(&store, ALICE).len()), (640, 0));
    done(&store, vec![said(641, long)]);
    let first: Vec<EnvelopeId> = (1..=5_u32).map(|n| EnvelopeId::of(&n.to_be_bytes())).collect();
    assert_eq!((held()[0], held().len()), (6, 636), "one in 128 goes at once");
    assert_eq!(told(&store, ALICE), [(here(), first)], "and one notice names them");
    for n in 642..=645 {
        done(&store, vec![said(n, long)]);
    }
    assert_eq!((held()[0], held().len(), told(&store, ALICE).len()), (6, 640, 1), "then there is room for as many");
    // By bytes, as many go as the new one needs, and none beyond the step that makes the room.
    let bytes = LogBounds { entries_max: 9_999, bytes_max: 640 * 132 };
    let large = append_of(ALICE, Origin::Local, envelope(1, &[9; 1_000]), bytes, 2_000);
    done(&store, vec![large]);
    let kept = held();
    assert_eq!((kept[0], kept.len()), (15, 632), "1,128 bytes are nine entries: a step of five and one of four");
    let news: usize = told(&store, ALICE).into_iter().map(|(_, envelopes)| envelopes.len()).sum();
    assert_eq!(news, 14, "each that went is told of, once");
}
