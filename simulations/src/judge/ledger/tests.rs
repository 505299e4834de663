use super::*;
use whimbrel_protocol::time::Wall;

const ALICE: ProcessNo = 1;
const BOB: ProcessNo = 2;
const CAROL: ProcessNo = 3;
/// The relays of the three.
const A: ProcessNo = 11;
const B: ProcessNo = 12;
const C: ProcessNo = 13;

fn account(process: ProcessNo) -> AccountId {
    AccountId::from_bytes([process as u8; 32])
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::of(Seed::from(1));
    for process in [ALICE, BOB] {
        ledger.account(account(process), process);
    }
    ledger.thread(ThreadId::from_bytes([9; 32]), BTreeSet::from([ALICE, BOB]), ALICE);
    ledger
}

fn message(id: u8, text: &str, millis: u64) -> Message {
    Message {
        thread: ThreadId::from_bytes([9; 32]),
        message: MessageId::from_bytes([id; 16]),
        author: DeviceId { account: account(ALICE), index: DeviceIndex::FIRST },
        hlc: Hlc { millis, count: 0 },
        received: Wall::default(),
        path: Some(Path::Relay),
        text: text.to_owned(),
        reply: None,
        mentions: Vec::new(),
        unsent: false,
        hidden: false,
    }
}

fn say(ledger: &mut Ledger, id: u8, text: &str) {
    let said = ledger.ask(ALICE, vec![BOB], text.to_owned(), Time::ZERO);
    ledger.queued(said, MessageId::from_bytes([id; 16]));
}

#[test]
fn what_is_shown_once_to_whom_it_was_said_is_well() {
    let mut ledger = ledger();
    say(&mut ledger, 1, "hello");
    assert_eq!(ledger.owed(), 1);
    ledger.shown(BOB, &message(1, "hello", 1), Time::from_nanos(5_000_000));
    assert_eq!((ledger.owed(), ledger.screen(BOB)), (0, vec!["hello"]));
    let verdict = ledger.close(&[]);
    assert_eq!((verdict.sent, verdict.shown, verdict.lost, verdict.violations), (1, 1, 0, 0));
    assert!((verdict.times[&Path::Relay].quantile_ms(0.5) - 5.0).abs() < 1e-9);
}

#[test]
fn what_its_author_takes_back_before_it_came_need_not_come_and_may() {
    for comes in [false, true] {
        let mut ledger = ledger();
        say(&mut ledger, 1, "hello");
        ledger.takes_back(&MessageId::from_bytes([1; 16]));
        assert_eq!(ledger.owed(), 0);
        if comes {
            let place = Message { unsent: true, ..message(1, "", 1) };
            ledger.shown(BOB, &place, Time::ZERO);
        }
        say(&mut ledger, 2, "you there?");
        assert_eq!((ledger.owed(), ledger.close(&[]).lost), (1, 1), "{comes}: the next one must");
    }
}

#[test]
fn each_broken_promise_is_found() {
    let verdict = |act: &dyn Fn(&mut Ledger)| {
        let mut ledger = ledger();
        say(&mut ledger, 1, "hello");
        act(&mut ledger);
        ledger.close(&[])
    };
    let shown = |ledger: &mut Ledger, message: &Message| ledger.shown(BOB, message, Time::ZERO);
    assert_eq!(verdict(&|_| ()).lost, 1);
    assert_eq!(verdict(&|ledger| (0..3).for_each(|_| shown(ledger, &message(1, "hello", 1)))).duplicates, 2);
    for wrong in [
        message(1, "hullo", 1),
        message(2, "hullo", 1),
        Message { author: DeviceId { account: account(BOB), ..message(1, "", 0).author }, ..message(1, "hello", 1) },
        Message { author: DeviceId { account: account(3), ..message(1, "", 0).author }, ..message(1, "hello", 1) },
    ] {
        assert_eq!(verdict(&|ledger| shown(ledger, &wrong)).misattributed, 1);
    }
    assert_eq!(verdict(&|ledger| ledger.shown(3, &message(1, "hello", 1), Time::ZERO)).misattributed, 1);
    let reordered = verdict(&|ledger| {
        say(ledger, 2, "there");
        shown(ledger, &message(2, "there", 1));
        shown(ledger, &message(1, "hello", 2));
    });
    let overtaken = Violation::Overtaken { author: ALICE, to: BOB, earlier: 0, later: 1 };
    assert_eq!(reordered.examples, [overtaken, Violation::Order { author: ALICE, earlier: 0, later: 1 }]);
    let device = DeviceId { index: DeviceIndex::new(1), ..message(1, "", 0).author };
    let unadded = verdict(&|ledger| shown(ledger, &Message { author: device, ..message(1, "hello", 1) }));
    assert!(unadded.examples.contains(&Violation::Unentitled { to: BOB }));
    let contact = |who| Event::ThreadOpened { thread: ThreadId::from_bytes([9; 32]), people: vec![account(who)] };
    let strange = verdict(&|ledger| {
        ledger.introduced(ALICE, BOB);
        ledger.told(BOB, &contact(ALICE));
        ledger.told(BOB, &contact(3));
    });
    assert_eq!(strange.examples.iter().filter(|one| **one == Violation::Intruder { of: BOB }).count(), 1);
}

#[test]
fn a_history_must_have_all_that_was_shown_once_and_may_have_what_a_crash_kept_silent() {
    let mut ledger = ledger();
    say(&mut ledger, 1, "one");
    say(&mut ledger, 2, "two");
    ledger.shown(BOB, &message(1, "one", 1), Time::ZERO);
    ledger.history(BOB, &[message(1, "one", 1), message(2, "two", 2)], Some(Time::ZERO));
    assert_eq!((ledger.owed(), ledger.screen(BOB)), (0, vec!["one", "two"]));
    ledger.history(ALICE, &[message(1, "one", 1), message(2, "two", 2)], Some(Time::ZERO));
    ledger.history(BOB, &[message(1, "one", 1), message(1, "one", 1)], None);
    let verdict = ledger.close(&[]);
    assert_eq!((verdict.duplicates, verdict.violations), (1, 2));
    assert!(verdict.examples.contains(&Violation::Vanished { message: 1, of: BOB }));
}

#[test]
fn a_message_whose_answer_was_lost_may_be_shown_and_is_not_owed() {
    let mut ledger = ledger();
    ledger.ask(ALICE, vec![BOB], "hello".to_owned(), Time::ZERO);
    ledger.shown(BOB, &message(1, "hello", 1), Time::ZERO);
    let verdict = ledger.close(&[]);
    assert_eq!((verdict.sent, verdict.unconfirmed, verdict.violations), (0, 1, 0));
}

#[test]
fn a_message_whose_author_was_told_is_not_lost() {
    // Where nobody is out of room and nobody hostile, there is no reason to give up: that is a violation.
    for (scarce, violations) in [(true, 0), (false, 1)] {
        let mut ledger = ledger();
        if scarce {
            ledger.conduct(BOB, Conduct::Scarce);
        }
        say(&mut ledger, 1, "hello");
        ledger.failed(&MessageId::from_bytes([1; 16]), RefusalCode::Full);
        assert_eq!(ledger.owed(), 0);
        let verdict = ledger.close(&[]);
        assert_eq!((verdict.lost, verdict.failed, verdict.violations), (0, 1, violations));
    }
}

#[test]
fn only_a_thread_that_two_people_opened_at_once_may_show_their_words_out_of_order() {
    for (openers, violations) in [(&[ALICE][..], 2), (&[ALICE, BOB], 0)] {
        let mut ledger = ledger();
        openers.iter().for_each(|opener| ledger.opens(*opener, &[ALICE, BOB]));
        say(&mut ledger, 1, "one");
        say(&mut ledger, 2, "two");
        ledger.shown(BOB, &message(2, "two", 2), Time::ZERO);
        ledger.shown(BOB, &message(1, "one", 9), Time::ZERO);
        assert_eq!(ledger.close(&[]).violations, violations);
    }
}

#[test]
fn words_stand_in_the_order_they_were_said_in_each_group_and_not_across_groups() {
    let group = ThreadId::from_bytes([7; 32]);
    for (second_in_group, violations) in [(true, 0), (false, 1)] {
        let mut ledger = ledger();
        ledger.in_circle(group, ALICE, [ALICE, BOB].into());
        ledger.in_circle(group, BOB, [ALICE, BOB].into());
        say(&mut ledger, 1, "one");
        let mut second = message(2, "two", 2);
        if second_in_group {
            let said = ledger.ask_circle(ALICE, group, "two".to_owned(), Time::ZERO);
            ledger.queued(said, second.message);
            second.thread = group;
        } else {
            say(&mut ledger, 2, "two");
        }
        // The first was sealed after the second: its thread took that long to come about.
        ledger.shown(BOB, &message(1, "one", 9), Time::ZERO);
        ledger.shown(BOB, &second, Time::ZERO);
        assert_eq!(ledger.close(&[]).violations, violations);
    }
}

#[test]
fn a_text_that_somebody_sees_whom_it_is_not_owed_to_is_still_owed_to_the_others() {
    let group = ThreadId::from_bytes([7; 32]);
    let mut ledger = ledger();
    ledger.conduct(ALICE, Conduct::Untimely);
    ledger.in_circle(group, ALICE, [ALICE, BOB, CAROL].into());
    ledger.in_circle(group, ALICE, [ALICE, BOB].into());
    let said = ledger.ask_circle(ALICE, group, "one".to_owned(), Time::ZERO);
    let shown = Message { thread: group, ..message(1, "one", 1) };
    ledger.queued(said, shown.message);
    ledger.shown(CAROL, &shown, Time::ZERO);
    assert_eq!(ledger.owed(), 1);
    ledger.shown(BOB, &shown, Time::ZERO);
    assert_eq!((ledger.owed(), ledger.close(&[]).violations), (0, 0));
}

#[test]
fn what_a_hostile_relay_may_have_swallowed_of_somebody_who_is_out_of_the_group_is_owed_no_longer() {
    let group = ThreadId::from_bytes([7; 32]);
    for (hostile, out, owed) in [(false, false, 1), (false, true, 1), (true, false, 1), (true, true, 0)] {
        let mut ledger = ledger();
        ledger.in_circle(group, ALICE, [ALICE, BOB].into());
        let said = ledger.ask_circle(ALICE, group, "one".to_owned(), Time::ZERO);
        ledger.queued(said, message(1, "one", 1).message);
        if hostile {
            ledger.conduct(ALICE, Conduct::Hostile);
        }
        if out {
            ledger.out(&group, ALICE);
        }
        assert_eq!(ledger.close(&[]).lost, owed, "hostile {hostile}, out {out}");
    }
}

/// What was found in a run in which Alice said one thing to Bob and then this happened.
fn found(act: impl FnOnce(&mut Ledger)) -> Vec<Violation> {
    let mut ledger = ledger();
    ledger.introduced(ALICE, BOB);
    say(&mut ledger, 1, "hello");
    ledger.shown(BOB, &message(1, "hello", 1), Time::ZERO);
    act(&mut ledger);
    ledger.close(&[]).examples
}

#[test]
fn an_author_hears_what_became_of_a_text() {
    let ask = |ledger: &mut Ledger| ledger.ask(ALICE, vec![BOB], "more".to_owned(), Time::ZERO);
    let given_up = found(|ledger| {
        say(ledger, 2, "more");
        ledger.failed(&MessageId::from_bytes([2; 16]), RefusalCode::Full);
    });
    assert_eq!(given_up, [Violation::GivenUp { message: 1, author: ALICE }]);
    let silent = found(|ledger| {
        let said = ask(ledger);
        ledger.unanswered(said);
    });
    assert_eq!(silent, [Violation::Unanswered { message: 1, author: ALICE }]);
    let declined = |excused| {
        found(|ledger| {
            let said = ask(ledger);
            ledger.declined(said, excused);
        })
    };
    assert_eq!(declined(false), [Violation::Declined { message: 1, author: ALICE }]);
    assert_eq!(declined(true), []);
}

#[test]
fn what_only_hostile_parties_may_cause_is_a_violation_among_honest_ones() {
    let thread = ThreadId::from_bytes([9; 32]);
    let reason = || "for no reason".to_owned();
    let told = [
        (Event::ThreadHalted { thread }, Violation::Halted { of: BOB }),
        (Event::InvitationRefused { thread, reason: reason() }, Violation::Uninvited { of: BOB, reason: reason() }),
    ];
    for (event, violation) in told {
        assert_eq!(found(|ledger| ledger.told(BOB, &event)), [violation]);
        // Bob is told of it, and Alice is the other in the thread.
        for (party, excused) in [(ALICE, true), (BOB, true), (A, true), (B, true), (CAROL, false), (C, false)] {
            let hostile = found(|ledger| {
                [(ALICE, A), (BOB, B), (CAROL, C)].into_iter().for_each(|(one, home)| ledger.lives(one, home));
                ledger.conduct(party, Conduct::Hostile);
                ledger.told(BOB, &event);
            });
            assert_eq!(hostile.is_empty(), excused, "{party}");
        }
    }
}

#[test]
fn a_history_out_of_the_order_of_its_clocks_a_stop_and_a_leak_are_found() {
    let unsorted = found(|ledger| {
        say(ledger, 2, "more");
        ledger.shown(BOB, &message(2, "more", 2), Time::ZERO);
        ledger.history(BOB, &[message(2, "more", 2), message(1, "hello", 1)], None);
    });
    assert_eq!(unsorted, [Violation::Unsorted { of: BOB }]);
    let stopped = found(|ledger| ledger.stopped(BOB, "why".to_owned()));
    assert_eq!(stopped, [Violation::Stopped { process: BOB, why: "why".to_owned() }]);
    let leaked = found(|ledger| ledger.leaked(7, "a row"));
    assert_eq!(leaked, [Violation::Leaked { relay: 7, place: "a row" }]);
}

#[test]
fn only_those_of_whom_the_author_was_told_are_not_owed_a_message() {
    let mut ledger = Ledger::of(Seed::from(1));
    ledger.conduct(BOB, Conduct::Scarce);
    [ALICE, BOB, CAROL].into_iter().for_each(|process| ledger.account(account(process), process));
    let said = ledger.ask(ALICE, vec![BOB, CAROL], "hello".to_owned(), Time::ZERO);
    ledger.queued(said, MessageId::from_bytes([1; 16]));
    ledger.failed_for(&MessageId::from_bytes([1; 16]), &[account(CAROL)], RefusalCode::Full);
    ledger.failed_for(&MessageId::from_bytes([1; 16]), &[account(CAROL)], RefusalCode::Full);
    assert_eq!(ledger.owed(), 1);
    let verdict = ledger.close(&[]);
    assert_eq!((verdict.lost, verdict.examples), (1, vec![Violation::Lost { message: 0, author: ALICE, to: BOB }]));
}

/// Alice of a relay, Bob and Carol of others, in a thread; Bob's relay keeps little. What Alice said at these seconds.
fn three(home: ProcessNo, short: bool, said: &[u64]) -> (Ledger, ThreadId) {
    let (mut ledger, thread) = (Ledger::of(Seed::from(1)), ThreadId::from_bytes([8; 32]));
    for (process, home) in [(ALICE, home), (BOB, B), (CAROL, C)] {
        ledger.account(account(process), process);
        ledger.lives(process, home);
    }
    if short {
        ledger.conduct(B, Conduct::Short);
    }
    ledger.thread(thread, BTreeSet::from([ALICE, BOB, CAROL]), ALICE);
    for (n, second) in (1..).zip(said) {
        let said = ledger.ask(ALICE, vec![BOB, CAROL], format!("{n}"), at(*second));
        ledger.queued(said, MessageId::from_bytes([n; 16]));
    }
    (ledger, thread)
}

fn at(second: u64) -> Time {
    Time::ZERO.plus(Duration::from_secs(second))
}

fn dropped(thread: ThreadId, entries: u64) -> Event {
    Event::Dropped { thread: Some(thread), entries }
}

#[test]
fn what_a_full_log_lost_of_an_author_elsewhere_is_let_pass_only_where_its_reader_is_shown_a_loss() {
    for (home, short, told, lost) in [(A, true, true, 0), (A, true, false, 1), (A, false, true, 1), (B, true, true, 1)]
    {
        let (mut ledger, thread) = three(home, short, &[0]);
        if told {
            ledger.told_of_loss(BOB, &dropped(thread, 3), at(0));
        }
        // Carol's relay keeps as much as any.
        assert_eq!(ledger.close(&[]).lost, 1 + lost, "{home} {short} {told}");
    }
}

#[test]
fn a_loss_of_which_its_relay_could_not_tell_the_author_is_let_pass_as_often_as_it_says_so() {
    // Of two that Bob never got, and both of which he was told of.
    for (relay, untold, lost) in [(B, 0, 2), (B, 1, 1), (B, 2, 0), (A, 2, 2)] {
        let (mut ledger, thread) = three(B, true, &[0, 10]);
        ledger.told_of_loss(BOB, &dropped(thread, 2), at(20));
        ledger.untold(relay, untold);
        assert_eq!(ledger.close(&[]).lost, 2 + lost, "{relay} {untold}");
    }
}

#[test]
fn a_loss_that_somebody_was_told_of_excuses_as_many_texts_as_were_told_of_and_none_that_was_said_later() {
    // Of three that Bob never got, told of so many at these seconds.
    for (told, lost) in [
        (&[(30, 3)][..], 0),
        (&[(30, 2)], 1),
        (&[(30, 1), (31, 1)], 1),
        (&[(5, 9)], 2),
        (&[(5, 1), (15, 1)], 1),
        (&[(5, 9), (30, 1)], 0),
    ] {
        let (mut ledger, thread) = three(A, true, &[0, 10, 20]);
        told.iter().for_each(|(second, entries)| ledger.told_of_loss(BOB, &dropped(thread, *entries), at(*second)));
        assert_eq!(ledger.close(&[]).lost, 3 + lost, "{told:?}");
    }
    // What died before it was told is seen in the end.
    for (shown, lost) in [(2, 1), (3, 0)] {
        let (mut ledger, thread) = three(A, true, &[0, 10, 20]);
        ledger.told_of_loss(BOB, &dropped(thread, 2), at(15));
        ledger.shows_loss(BOB, thread, shown, at(40));
        assert_eq!(ledger.close(&[]).lost, 3 + lost, "{shown}");
    }
}

#[test]
fn whoever_never_got_what_a_full_log_let_go_is_shown_as_much_and_by_then() {
    let hidden = |told: &dyn Fn(&mut Ledger, ThreadId)| {
        let (mut ledger, thread) = three(B, true, &[0, 10]);
        for id in [1, 2] {
            ledger.failed_for(&MessageId::from_bytes([id; 16]), &[account(BOB)], RefusalCode::Full);
        }
        told(&mut ledger, thread);
        ledger.losses_are_shown();
        let found = ledger.close(&[]).examples;
        found.iter().filter(|one| matches!(one, Violation::LossHidden { .. })).count()
    };
    let device = DeviceId { account: account(ALICE), index: DeviceIndex::FIRST };
    let missing = |thread, count| Event::Missing { thread, author: device, count };
    assert_eq!(hidden(&|_, _| ()), 2);
    assert_eq!(hidden(&|ledger, thread| ledger.told_of_loss(BOB, &dropped(thread, 1), at(30))), 1);
    assert_eq!(hidden(&|ledger, thread| ledger.told_of_loss(BOB, &dropped(thread, 9), at(5))), 1);
    assert_eq!(hidden(&|ledger, thread| ledger.told_of_loss(BOB, &missing(thread, 1), at(30))), 1);
    assert_eq!(hidden(&|ledger, thread| ledger.told_of_loss(BOB, &missing(thread, 2), at(30))), 0);
    let both = |ledger: &mut Ledger, thread| {
        ledger.told_of_loss(BOB, &missing(thread, 1), at(30));
        ledger.told_of_loss(BOB, &dropped(thread, 1), at(30));
    };
    assert_eq!(hidden(&both), 0);
}

#[test]
fn a_log_that_keeps_little_excuses_that_it_was_full_and_nothing_else() {
    for (short, code, violations) in [
        (true, RefusalCode::Full, 0),
        (true, RefusalCode::TooFast, 1),
        (true, RefusalCode::Expired, 1),
        (false, RefusalCode::Full, 1),
    ] {
        let (mut ledger, _) = three(A, short, &[0]);
        ledger.failed(&MessageId::from_bytes([1; 16]), code);
        assert_eq!(ledger.close(&[]).violations, violations, "{short} {code:?}");
        let (mut ledger, _) = three(A, short, &[0]);
        ledger.failed_for(&MessageId::from_bytes([1; 16]), &[account(BOB), account(CAROL)], code);
        assert_eq!(ledger.close(&[]).violations, violations, "{short} {code:?}");
    }
    let (mut ledger, _) = three(A, true, &[]);
    let said = ledger.ask(ALICE, vec![BOB], "more".to_owned(), at(0));
    ledger.declined(said, false);
    assert_eq!(ledger.close(&[]).examples, [Violation::Declined { message: 0, author: ALICE }]);
    let (mut ledger, _) = three(A, true, &[0]);
    ledger.diverged(&MessageId::from_bytes([1; 16]), BOB);
    assert!(ledger.close(&[]).examples.contains(&Violation::Diverged { message: 0, of: BOB }));
}

#[test]
fn only_what_a_full_log_let_go_may_come_after_what_was_said_later() {
    // Whether its author was told, and when the reader was, of how many, at a relay that keeps little or not.
    for (lost, told, short, violations) in [
        (false, None, true, 1),
        (true, None, true, 0),
        (false, Some((3, 1)), true, 0),
        (false, Some((3, 0)), true, 1),
        (false, Some((3, 1)), false, 1),
    ] {
        let (mut ledger, thread) = three(A, short, &[0, 1]);
        if lost {
            ledger.failed_for(&MessageId::from_bytes([1; 16]), &[account(BOB)], RefusalCode::Full);
        }
        if let Some((second, entries)) = told {
            ledger.told_of_loss(BOB, &dropped(thread, entries), at(second));
        }
        for (on, ids) in [(BOB, [2, 1]), (CAROL, [1, 2])] {
            for id in ids {
                ledger.shown(on, &Message { thread, ..message(id, &format!("{id}"), id.into()) }, at(5));
            }
        }
        assert_eq!(ledger.close(&[]).violations, violations, "{lost} {told:?} {short}");
    }
}

#[test]
fn only_what_waited_for_room_between_two_may_come_after_what_was_said_later() {
    // At a relay that keeps little or not, shown so many seconds later, to so many.
    for (home, second, to, violations) in
        [(B, 90, vec![BOB], 0), (B, 50, vec![BOB], 1), (A, 90, vec![BOB], 1), (B, 90, vec![BOB, CAROL], 1)]
    {
        let (mut ledger, _) = three(home, true, &[]);
        let thread = ThreadId::from_bytes([9; 32]);
        ledger.thread(thread, to.iter().copied().chain([ALICE]).collect(), ALICE);
        for n in [1, 2] {
            let said = ledger.ask(ALICE, to.clone(), format!("{n}"), at(n.into()));
            ledger.queued(said, MessageId::from_bytes([n; 16]));
        }
        for id in [2, 1] {
            ledger.shown(BOB, &Message { thread, ..message(id, &format!("{id}"), id.into()) }, at(second));
        }
        let overtaken = Violation::Overtaken { author: ALICE, to: BOB, earlier: 0, later: 1 };
        let found = ledger.close(&[]).examples.into_iter().filter(|one| *one == overtaken).count();
        assert_eq!(found, violations, "{home} {second} {to:?}");
    }
}
