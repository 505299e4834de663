//! The table by itself: who is told of whom, when, and what that ends with.

use super::*;

fn domain(name: &str) -> Domain {
    name.parse().unwrap_or_else(|_| unreachable!("a domain"))
}

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

fn here(sees: bool) -> Option<Known> {
    Some(Known { domain: domain("a.example"), sees })
}

fn there() -> Option<Known> {
    Some(Known { domain: domain("b.example"), sees: true })
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_start(Duration::from_secs(seconds))
}

fn link(n: u8) -> LinkId {
    LinkId::new(u64::from(n))
}

/// Comes in on the link of its number, with these friends.
fn come(table: &mut Table, now: u64, who: u8, friends: &[(u8, Option<Known>)]) {
    table.attach(at(now), link(who), account(who));
    let known = friends.iter().filter_map(|(other, known)| Some((account(*other), known.clone()?)));
    table.listed(link(who), known);
    table.show(link(who), false);
}

fn two() -> Table {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(2, here(true))]);
    come(&mut table, 0, 2, &[(1, here(true))]);
    table
}

fn news(table: &mut Table, who: u8) -> Vec<(u8, bool)> {
    let (_, statuses) = table.statuses(link(who), 0);
    statuses.iter().map(|status| (status.account.as_bytes().first().copied().unwrap_or(0), status.online)).collect()
}

#[test]
fn friends_are_told_what_changed_and_nothing_twice() {
    let mut table = two();
    assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![(2, true)], vec![(1, true)]));
    assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![], vec![]));
    assert_eq!(table.statuses(link(1), 1), (1, Vec::new()));
    table.leave(link(2), true);
    assert_eq!(news(&mut table, 1), [(2, false)]);
}

#[test]
fn silence_ends_after_a_minute_and_a_goodbye_at_once() {
    let mut table = two();
    news(&mut table, 1);
    table.heard(at(30), link(2));
    table.leave(link(2), false);
    assert_eq!(table.next_wake(), Some(at(90)));
    table.due(at(89));
    assert_eq!(news(&mut table, 1), []);
    table.due(at(90));
    assert_eq!(news(&mut table, 1), [(2, false)]);
    // Back within the minute: nobody sees that it was away.
    come(&mut table, 100, 2, &[(1, here(true))]);
    assert_eq!(news(&mut table, 1), [(2, true)]);
    table.leave(link(2), false);
    come(&mut table, 110, 2, &[(1, here(true))]);
    table.due(at(160));
    assert_eq!(news(&mut table, 1), []);
}

#[test]
fn whoever_may_not_see_sees_what_they_would_see_of_nobody() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(2, here(false)), (3, here(true))]);
    come(&mut table, 0, 2, &[(1, here(true))]);
    come(&mut table, 0, 3, &[(1, here(true))]);
    come(&mut table, 0, 4, &[(1, here(true))]);
    assert_eq!((news(&mut table, 2), news(&mut table, 3), news(&mut table, 4)), (vec![], vec![(1, true)], vec![]));
    table.set_visible(account(1), false);
    assert_eq!((news(&mut table, 2), news(&mut table, 3)), (vec![], vec![(1, false)]));
    table.set_visible(account(1), true);
    table.changed(account(1), account(3), here(false));
    table.changed(account(1), account(2), here(true));
    assert_eq!((news(&mut table, 2), news(&mut table, 3)), (vec![(1, true)], vec![]));
    table.changed(account(1), account(2), None);
    assert_eq!(news(&mut table, 2), [(1, false)]);
}

#[test]
fn a_change_during_the_reading_of_a_list_wins() {
    let mut table = two();
    table.attach(at(0), link(3), account(3));
    table.changed(account(3), account(1), None);
    table.listed(link(3), [(account(1), Known { domain: domain("a.example"), sees: true })].into_iter());
    table.changed(account(1), account(3), here(true));
    table.show(link(3), false);
    assert_eq!(news(&mut table, 1), [(2, true)]);
}

#[test]
fn a_removal_or_a_choice_during_the_reading_of_a_list_wins_also_when_a_second_device_comes_in_meanwhile() {
    let mut table = two();
    news(&mut table, 1);
    let known = || [(account(1), Known { domain: domain("a.example"), sees: true })].into_iter();
    table.changed(account(1), account(3), here(true));
    table.attach(at(0), link(3), account(3));
    table.changed(account(3), account(1), None);
    table.attach(at(0), link(4), account(3));
    table.listed(link(3), known());
    table.show(link(3), false);
    assert_eq!(news(&mut table, 1), []);
    // What was read of it is older than what was chosen since.
    for (read, chosen, seen) in [(false, false, vec![]), (true, true, vec![(5, true)])] {
        table.attach(at(0), link(5), account(5));
        table.changed(account(1), account(5), here(true));
        table.set_visible(account(5), chosen);
        table.listed(link(5), known());
        table.show(link(5), read);
        assert_eq!(news(&mut table, 1), seen);
        table.leave(link(5), true);
        news(&mut table, 1);
    }
}

#[test]
fn a_list_that_was_read_for_a_device_that_is_gone_is_not_taken_for_the_next() {
    let mut table = two();
    news(&mut table, 1);
    table.changed(account(1), account(3), here(true));
    table.attach(at(0), link(3), account(3));
    // Read by now, and on its way here.
    let known = Known { domain: domain("a.example"), sees: true };
    table.leave(link(3), false);
    table.changed(account(3), account(1), here(false));
    table.attach(at(1), link(4), account(3));
    table.listed(link(3), [(account(1), known.clone())].into_iter());
    table.show(link(3), false);
    assert_eq!(news(&mut table, 1), []);
    table.listed(link(4), [(account(1), Known { sees: false, ..known })].into_iter());
    table.show(link(4), false);
    assert_eq!(news(&mut table, 1), []);
}

#[test]
fn a_device_that_is_told_of_somebody_while_its_list_is_read_is_told_of_everybody_after() {
    let mut table = two();
    come(&mut table, 0, 4, &[(3, here(true))]);
    table.changed(account(1), account(3), here(true));
    table.attach(at(0), link(3), account(3));
    table.changed(account(3), account(1), here(true));
    assert_eq!(news(&mut table, 3), [(1, true)]);
    let known = Known { domain: domain("a.example"), sees: true };
    table.listed(link(3), [(account(4), known)].into_iter());
    table.show(link(3), false);
    assert_eq!(news(&mut table, 3), [(4, true)]);
}

#[test]
fn a_peer_is_told_of_its_users_friends_only_and_of_changes_only() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(2, here(true)), (8, there())]);
    come(&mut table, 0, 2, &[(1, here(true))]);
    let b = domain("b.example");
    assert_eq!((table.due(at(9)), table.due(at(10))), (vec![], vec![b.clone()]));
    let shown = |online, to: &[u8]| Shown {
        status: Status { account: account(1), online },
        to: to.iter().map(|n| account(*n)).collect(),
    };
    assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes: vec![shown(true, &[8])] }]);
    assert_eq!(table.for_peer(&b), []);
    table.peer_up(&b);
    assert_eq!(table.due(at(10)), std::slice::from_ref(&b));
    assert_eq!(table.for_peer(&b), [PeerPresence { fresh: true, changes: vec![shown(true, &[8])] }]);
    table.changed(account(1), account(9), there());
    table.changed(account(1), account(8), None);
    table.due(at(30));
    let changes = vec![shown(true, &[9]), shown(false, &[8])];
    assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes }]);
    table.leave(link(1), true);
    assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes: vec![shown(false, &[9])] }]);
}

#[test]
fn a_peer_whose_link_was_lost_is_reached_again_for_those_who_are_there_and_ever_more_seldom() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(8, there())]);
    let b = domain("b.example");
    table.due(at(10));
    table.for_peer(&b);
    table.line_lost(at(20), &b);
    let mut tries = Vec::new();
    while tries.len() < 12 {
        let next = table.next_wake().unwrap_or_default();
        table.heard(next, link(1));
        if !table.due(next).is_empty() {
            assert!(table.is_anybody_shown(&b));
            tries.push(next.since_start().as_secs());
        }
    }
    let waits: Vec<u64> = tries.windows(2).filter_map(|two| Some(two.get(1)? - two.first()?)).collect();
    assert!(waits.starts_with(&[10, 20, 40]) && waits.ends_with(&[limits::PRESENCE_REACH_MAX.as_secs()]), "{waits:?}");
    table.peer_up(&b);
    let now = table.next_wake().unwrap_or_default();
    assert_eq!(table.due(now), std::slice::from_ref(&b));
    let frames = table.for_peer(&b);
    assert!(matches!(&frames[..], [frame] if frame.fresh && frame.changes.len() == 1), "{frames:?}");
    // Nobody is there any more: nobody is called for that.
    table.leave(link(1), true);
    assert!(!table.is_anybody_shown(&b));
    assert_eq!(table.for_peer(&b), []);
}

#[test]
fn the_link_to_a_peer_is_used_for_as_long_as_it_was_told_of_somebody() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(8, there())]);
    let b = domain("b.example");
    assert_eq!(table.beats(at(1_000)), [] as [Domain; 0], "it was told of nobody");
    table.due(at(1_000));
    table.for_peer(&b);
    let every = limits::PEER_BEAT_EVERY.as_secs();
    assert_eq!(table.beats(at(999 + every)), [] as [Domain; 0]);
    for round in 1..=3 {
        table.heard(at(1_000 + round * every), link(1));
        assert_eq!(table.beats(at(1_000 + round * every)), std::slice::from_ref(&b));
        assert_eq!(table.beats(at(1_000 + round * every)), [] as [Domain; 0], "once");
    }
    table.leave(link(1), true);
    table.due(at(1_100));
    table.for_peer(&b);
    assert_eq!(table.beats(at(9_000)), [] as [Domain; 0], "nobody is there any more");
}

#[test]
fn what_a_peer_told_holds_a_minute_after_it_is_gone() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(8, there())]);
    come(&mut table, 0, 2, &[]);
    let b = domain("b.example");
    let shown = |online| Shown { status: Status { account: account(8), online }, to: vec![account(1), account(2)] };
    table.peer_in(link(90));
    table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
    assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![(8, true)], vec![]));
    table.peer_lost(at(5), link(90), &b);
    table.due(at(64));
    assert_eq!(news(&mut table, 1), []);
    table.due(at(65));
    assert_eq!(news(&mut table, 1), [(8, false)]);
    // It speaks for its own users: one of ours is looked up among ours.
    let ours = Shown { status: Status { account: account(2), online: true }, to: vec![account(1)] };
    table.peer_in(link(91));
    table.told(link(91), &b, PeerPresence { fresh: true, changes: vec![ours] });
    assert_eq!(news(&mut table, 1), []);
    // What is looked into when its link is gone already would never be void.
    table.peer_lost(at(70), link(91), &b);
    table.told(link(91), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
    assert_eq!(news(&mut table, 1), []);
}

#[test]
fn a_link_that_another_took_the_place_of_tells_nothing_and_takes_nothing_with_it() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(8, there())]);
    let b = domain("b.example");
    let shown = |online| Shown { status: Status { account: account(8), online }, to: vec![account(1)] };
    table.peer_in(link(90));
    table.peer_in(link(91));
    table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
    table.told(link(91), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
    assert_eq!(news(&mut table, 1), [(8, true)]);
    table.told(link(90), &b, PeerPresence { fresh: false, changes: vec![shown(false)] });
    table.peer_lost(at(5), link(90), &b);
    table.due(at(70));
    assert_eq!(news(&mut table, 1), []);
    table.peer_lost(at(70), link(91), &b);
    table.due(at(130));
    assert_eq!(news(&mut table, 1), [(8, false)]);
}

#[test]
fn the_first_that_a_peer_is_told_on_a_link_is_fresh_however_late_there_is_something_to_tell() {
    let mut table = Table::new(domain("a.example"));
    let b = domain("b.example");
    table.peer_up(&b);
    assert_eq!(table.due(at(0)), []);
    come(&mut table, 0, 1, &[(8, there())]);
    table.due(at(10));
    assert!(matches!(&table.for_peer(&b)[..], [frame] if frame.fresh));
}

#[test]
fn what_comes_late_on_a_link_that_a_peer_gave_up_voids_nothing_also_where_it_begins_anew() {
    let mut table = Table::new(domain("a.example"));
    come(&mut table, 0, 1, &[(7, there()), (8, there())]);
    let b = domain("b.example");
    let shown = |who, online| Shown { status: Status { account: account(who), online }, to: vec![account(1)] };
    // The numbers of links say nothing of their order.
    table.peer_in(link(91));
    table.peer_in(link(90));
    table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(8, true)] });
    assert_eq!(news(&mut table, 1), [(8, true)]);
    table.told(link(91), &b, PeerPresence { fresh: true, changes: vec![shown(7, true)] });
    assert_eq!(news(&mut table, 1), []);
    table.told(link(90), &b, PeerPresence { fresh: false, changes: vec![shown(7, true)] });
    assert_eq!(news(&mut table, 1), [(7, true)]);
    table.peer_lost(at(5), link(91), &b);
    table.due(at(100));
    assert_eq!(news(&mut table, 1), []);
    // The same link may begin anew, as one does whose queue was full.
    table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(8, true)] });
    assert_eq!(news(&mut table, 1), [(7, false)]);
    table.peer_lost(at(100), link(90), &b);
    table.due(at(160));
    assert_eq!(news(&mut table, 1), [(8, false)]);
}
