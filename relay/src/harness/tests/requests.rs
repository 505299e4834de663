//! Friend requests by the thousand (T29): what whoever asks is answered, what the target has of it, and how often it is
//! woken.

use whimbrel_protocol::friendship::{Act, Befriend, Decline, Standing};
use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::wake::{ConfirmWake, SetWake};

use super::wake::endpoint;
use super::*;
use crate::WakeWord;

/// Requests of one account.
const ASKED: u64 = 10_000;
/// Accounts that ask one target.
const ACCOUNTS: usize = 1_000;

/// Somebody who is away and can be woken.
fn target(world: &mut World) -> usize {
    let who = world.join("target", 0);
    let request = world.request();
    world.ask(who, SetWake { request, endpoint: Some(endpoint()) });
    let orders = world.woken(0);
    let [WakeOrder { word: WakeWord::Challenge(code), .. }] = orders[..] else { panic!("{orders:?}") };
    assert!(matches!(world.ask(who, ConfirmWake { request, code })[..], [Frame::Done(_)]));
    world.leave(who);
    who
}

/// A request of somebody, answered: under one number, so that answers can be compared as they are on the wire.
fn asks(world: &mut World, (who, at): (usize, usize), to: AccountId, act: Act) -> Vec<Vec<u8>> {
    let word = world.word_of(who, at, to, act);
    let heard = world.ask(who, Befriend { request: RequestId::new(7), domain: domain(0), word });
    heard.iter().map(|frame| codec::encode(frame).unwrap()).collect()
}

#[test]
fn t29_ten_thousand_requests_of_one_account_are_a_days_share_and_one_wake_up() {
    let mut world = World::new(1);
    let target = target(&mut world);
    let to = world.account(target);
    let eve = world.join("eve", 0);
    let (mut taken, mut refused) = (0, 0);
    for n in 0..ASKED {
        // The target, one and the same, between people who were never heard of.
        let other =
            if n % 3 == 0 { to } else { AccountId::from_bytes([[n as u8; 16], [1; 16]].concat().try_into().unwrap()) };
        // Who says the same again is answered as before and uses nothing up: each takes its request back first.
        let act = if n % 6 < 3 { Act::Request } else { Act::Remove };
        let word = world.word_of(eve, 0, other, act);
        if world.devices[eve].link.is_none() {
            world.come_back(eve, 0);
        }
        let heard = world.ask(eve, Befriend { request: RequestId::new(7), domain: domain(0), word });
        match &heard[..] {
            [Frame::Done(_) | Frame::Parted(_)] => taken += 1,
            [Frame::Refused(answer)] => {
                assert_eq!(answer.code, RefusalCode::TooFast);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        if n % 100 == 99 {
            world.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(taken + refused, ASKED);
    assert!(refused > ASKED / 3, "{taken} taken, {refused} refused");
    assert_eq!(world.woken(0).len(), 1);
    world.come_back(target, 0);
    let asking = world.friends_of(target);
    assert!(asking.len() <= 1, "{asking:?}");
}

/// A thousand accounts at the target's relay, or at another, ask in a little more than an hour.
fn a_thousand_ask(at: usize) {
    let mut world = World::new(2);
    let target = target(&mut world);
    let (to, nobody) = (world.account(target), AccountId::from_bytes([9; 32]));
    let mut strangers = Vec::new();
    for n in 0..ACCOUNTS {
        let stranger = (world.join(&format!("s{n}"), at), at);
        strangers.push(stranger.0);
        let (answer, of_nobody) =
            (asks(&mut world, stranger, to, Act::Request), asks(&mut world, stranger, nobody, Act::Request));
        assert_eq!(answer, of_nobody, "{n}: whether there was room, or anybody at all, is not told");
        assert!(
            answer.len() == 1 && answer[0] == codec::encode(&Frame::from(Done { request: RequestId::new(7) })).unwrap()
        );
        world.leave(stranger.0);
        world.pass(Duration::from_secs(4));
    }
    let orders = world.woken(0);
    assert!(matches!(&orders[..], [WakeOrder { word: WakeWord::Something, .. }]), "{} wake-ups", orders.len());
    // The target comes, once: so many wait, and the inbox has a word of each of these and of nobody else.
    let heard = world.come_back(target, 0);
    assert_eq!(entries(&heard, LogRef::Inbox, Sequence::ZERO).len(), limits::FRIENDS_ASKING_MAX);
    let asking = world.friends_of(target);
    assert_eq!(asking.len(), limits::FRIENDS_ASKING_MAX);
    assert!(asking.iter().all(|friend| friend.standing == Standing::Asking), "{asking:?}");
    // One command clears all.
    let request = world.request();
    assert!(matches!(world.ask(target, Decline { request, account: None })[..], [Frame::Done(_)]));
    assert_eq!(world.friends_of(target), []);
    assert_eq!(world.woken(0), []);
    // Of those who had no room one asks again: it is put down now, and the target, who is away, is woken for it.
    world.pass(limits::WAKE_EVERY);
    world.leave(target);
    let late = *strangers.last().unwrap();
    world.come_back(late, at);
    asks(&mut world, (late, at), to, Act::Request);
    assert_eq!(world.woken(0).len(), 1);
    world.come_back(target, 0);
    assert_eq!(world.friends_of(target).len(), 1);
}

#[test]
fn t29_a_thousand_accounts_of_one_relay_are_fifty_that_wait_and_one_wake_up() {
    a_thousand_ask(0);
}

#[test]
fn t29_a_thousand_accounts_of_another_relay_are_fifty_that_wait_and_one_wake_up() {
    a_thousand_ask(1);
}
