//! T66: ten times the rated messages. What is shed says when to come back, what was accepted arrives, and then all is as before.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_protocol::id::Epoch;
use whimbrel_protocol::push::{Entry, EntryBody};
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::thread::{Class, Envelope, Submit};
use whimbrel_protocol::user::ListInvites;

use super::services::{Client, LOG, THREAD, friends_here};
use super::*;

/// Envelopes at once, and a minute after that, of one account.
const BURST: usize = 60;
const RATE: usize = 120;
/// Handed in without waiting for what came of those before: as many as ten minutes' worth of the rate, and at once.
const FLOOD: usize = 10 * RATE;
/// What is under way at once: less than a relay serves of one link.
const RUN: usize = 50;

/// What came of an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Stored,
    /// With the time after which it passes.
    Shed(Duration),
}

fn envelope(request: u64, heard: Option<RequestId>) -> Submit {
    let body = request.to_be_bytes().to_vec();
    let envelope = Envelope { thread: THREAD, epoch: Epoch::new(1), class: Class::Message, body };
    Submit { request: RequestId::new(request), envelope, heard }
}

/// Hands in so many and gives what came of each, in order.
async fn flood(client: &mut Client, from: u64, count: usize, heard: Option<RequestId>) -> Vec<Came> {
    for n in 0..count {
        client.link.sender.send(&envelope(from + n as u64, heard).into()).unwrap();
    }
    // A refusal does not wait for the disk, as what is stored does.
    let mut came = BTreeMap::new();
    while came.len() < count {
        let (request, what) = match client.link.receiver.next().await.unwrap() {
            Frame::Stored(stored) => (stored.request, Came::Stored),
            Frame::Refused(Refused { request: Some(request), code: RefusalCode::TooFast, retry_after_ms }) => {
                let wait = retry_after_ms.expect("what is shed says when to come back");
                (request, Came::Shed(Duration::from_millis(wait.into())))
            }
            frame @ Frame::Push(_) => {
                client.heard.push(frame);
                continue;
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(came.insert(request, what), None, "answered once");
    }
    came.into_values().collect()
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    let number = |entry: &Entry| match &entry.body {
        EntryBody::Envelope(_, envelope) => Some(u64::from_be_bytes(envelope.body[..].try_into().unwrap())),
        _ => None,
    };
    entries.iter().filter_map(number).collect()
}

#[tokio::test]
async fn t66_ten_times_the_rated_messages_are_shed_with_a_time_nothing_accepted_is_lost_and_then_it_serves_as_before() {
    let place = Place::new("a.example");
    let usual = "messages = { rate = \"1200/min\", burst = 1000 }";
    place.edit(usual, &format!("messages = {{ rate = \"{RATE}/min\", burst = {BURST} }}"));
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let mut carol = Client::join(3, &running.link, "carol").await;
    let (mut accepted, mut longest, mut newest) = (Vec::new(), Duration::ZERO, None);
    for run in 0..FLOOD / RUN {
        let from = 1_000 + (run * RUN) as u64;
        let came = flood(&mut alice, from, RUN, newest).await;
        // Within what is under way the newest go: none is taken behind one that was shed.
        let taken = came.iter().take_while(|came| **came == Came::Stored).count();
        assert!(came[taken..].iter().all(|came| *came != Came::Stored), "{came:?}");
        accepted.extend((0..taken as u64).map(|n| from + n));
        let shed = |came: &Came| match came {
            Came::Shed(wait) => Some(*wait),
            Came::Stored => None,
        };
        longest = longest.max(came.iter().filter_map(shed).max().unwrap_or_default());
        // She has heard of all of it by now.
        newest = (taken < RUN).then(|| RequestId::new(from + RUN as u64 - 1));
        // Another's requests are served meanwhile.
        let answer = carol.ask(ListInvites { request: RequestId::new(5_000 + run as u64) }).await;
        assert!(matches!(answer, Frame::InvitePage(_)), "{answer:?}");
    }
    let refused = FLOOD - accepted.len();
    println!("{FLOOD} handed in: {} accepted, {refused} shed, the longest time named {longest:?}", accepted.len());
    assert!(accepted.len() >= BURST && refused > 0, "{} accepted", accepted.len());
    // A token of the rate is due after this; nobody is sent away for longer.
    assert!(longest > Duration::ZERO && longest <= Duration::from_secs(60).div_f64(RATE as f64) * 2, "{longest:?}");

    // She comes back after the time that was named, and is heard by the same process.
    let mut wait = longest;
    let mut numbers_left = 8_000..8_020;
    loop {
        let number = numbers_left.next().expect("whoever waits as told is heard");
        tokio::time::sleep(wait).await;
        match flood(&mut alice, number, 1, newest).await[..] {
            [Came::Shed(again)] => (wait, newest) = (again, Some(RequestId::new(number))),
            _ => break accepted.push(number),
        }
    }

    // The relay goes: what it accepted is there again, each once and in order, for whoever was away all the time.
    assert_eq!(numbers(&bob.entries(LOG, accepted.len()).await), accepted);
    running.kill();
    let again = place.start();
    bob.come_back(&again.link).await;
    assert_eq!(numbers(&bob.entries(LOG, accepted.len()).await), accepted);
    // And then it is as before: a burst of it is taken whole.
    alice.come_back(&again.link).await;
    let came = flood(&mut alice, 9_000, BURST, None).await;
    assert!(came.iter().all(|came| *came == Came::Stored), "{came:?}");
    let all = bob.entries(LOG, accepted.len() + BURST).await;
    assert_eq!(numbers(&all)[accepted.len()..], (0..BURST as u64).map(|n| 9_000 + n).collect::<Vec<_>>());
}
