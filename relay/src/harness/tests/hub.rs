//! Groups whose members change, across relays: what is still taken of whoever was taken out.

use whimbrel_crypto::receipt;
use whimbrel_protocol::hub::{Commit, FIRST_TERM, FetchCommit, SignedReceipt, SubmitCommit};
use whimbrel_protocol::thread::Founding;

use super::*;

/// Relays have found each other again by then, and no device's link has ended by its silence.
const RECONNECTED: Duration = Duration::from_secs(40);

/// Alice's group at site 0, of Bob there and Carol at site 1; and its id.
fn group(world: &mut World, [alice, bob, carol]: [usize; 3]) -> ThreadId {
    for (friend, at) in [(bob, 0), (carol, 1)] {
        world.invite(friend);
        let heard = world.claim(alice, friend, at, Some(TOKEN));
        assert!(matches!(&heard[..], [Frame::ClaimedKeyPackages(_)]), "{heard:?}");
    }
    let founding =
        Founding { creator: world.devices[alice].id().account, hub: relay_id(0), nonce: [3; 32], fixed: false };
    let mut open = world.open_frame(&[(alice, 0), (bob, 0), (carol, 1)]);
    (open.opening.thread, open.opening.founding) = (founding.thread(), Some(Box::new(founding)));
    let heard = world.ask(alice, open);
    assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
    world.pass(Duration::from_secs(3));
    founding.thread()
}

impl World {
    fn say_in(&mut self, who: usize, thread: ThreadId, epoch: u64, body: &[u8]) -> Vec<Frame> {
        let envelope = Envelope { thread, epoch: Epoch::new(epoch), ..envelope(body) };
        let request = self.request();
        self.ask(who, Submit { request, envelope, heard: None })
    }

    fn take_out(&mut self, who: usize, thread: ThreadId, epoch: u64, out: &[usize]) -> Vec<Frame> {
        let mut removed: Vec<DeviceId> = out.iter().map(|one| self.devices[*one].id()).collect();
        removed.sort();
        let (epoch, bytes) = (Epoch::new(epoch), b"out".to_vec());
        let commit = Commit { thread, term: FIRST_TERM, epoch, bytes, added: Vec::new(), removed };
        let request = self.request();
        self.ask(who, SubmitCommit { request, commit, newcomers: None })
    }
}

/// The bodies of a thread that were pushed.
fn said(heard: &[Frame], thread: ThreadId) -> Vec<Vec<u8>> {
    let runs = heard.iter().filter_map(|frame| match frame {
        Frame::Push(push) if push.log == LogRef::Thread(thread) => Some(&push.entries),
        _ => None,
    });
    let body = |entry: &Entry| match &entry.body {
        EntryBody::Envelope(_, envelope) => Some(envelope.body.clone()),
        _ => None,
    };
    runs.flatten().filter_map(body).collect()
}

#[test]
fn whoever_was_taken_out_hands_nothing_in_any_more_at_their_own_relay_whichever_it_is() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    assert!(matches!(world.say_in(bob, thread, 1, b"bob before")[0], Frame::Stored(_)));
    let heard = world.take_out(alice, thread, 1, &[bob, carol]);
    assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{heard:?}");
    world.pass(Duration::from_secs(3));
    for site in 0..2 {
        for out in [bob, carol] {
            // Sealed with the leaf they had: they may not have fetched the change.
            assert_eq!(refusal(&world.say_in(out, thread, 1, b"after")), Some(RefusalCode::Removed), "{out}");
        }
        world.crash(site, true);
        world.start(site);
        for (who, at) in people.iter().zip([0, 0, 1]) {
            world.leave(*who);
            world.come_back(*who, at);
        }
    }
    // Handed in again because its answer was lost, what was taken before stays taken.
    assert!(matches!(world.say_in(bob, thread, 1, b"bob before")[0], Frame::Stored(_)));
    let heard = world.say_in(alice, thread, 2, b"among us");
    assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
}

#[test]
fn what_a_relay_took_before_it_heard_of_the_change_reaches_everybody_and_nothing_after_it_does() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    // The hub is away, so Carol's relay takes her word and cannot pass it on; then the hub takes her out.
    world.crash(0, true);
    assert!(matches!(world.say_in(carol, thread, 1, b"on its way")[0], Frame::Stored(_)));
    world.start(0);
    world.come_back(alice, 0);
    world.come_back(bob, 0);
    let mut heard = world.take_out(alice, thread, 1, &[carol]);
    assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{heard:?}");
    assert_eq!(said(&heard, thread), [[0_u8; 0]; 0]);
    world.devices[bob].inbox.clear();
    world.pass(RECONNECTED);
    heard.extend(std::mem::take(&mut world.devices[alice].inbox));
    assert_eq!(said(&heard, thread), [b"on its way"]);
    assert_eq!(said(&world.devices[bob].inbox, thread), [b"on its way"]);
    assert_eq!(refusal(&world.say_in(carol, thread, 1, b"too late")), Some(RefusalCode::Removed));
    world.pass(RECONNECTED);
    assert_eq!(said(&world.devices[bob].inbox, thread), [b"on its way"]);
}

#[test]
fn t37_who_is_not_the_admin_takes_nobody_out_and_the_epoch_goes_on_for_the_admins_own_change() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    for (by, out) in [(bob, alice), (bob, carol), (carol, bob), (carol, alice)] {
        assert_eq!(refusal(&world.take_out(by, thread, 1, &[out])), Some(RefusalCode::Malformed), "{by} {out}");
        world.pass(Duration::from_secs(3));
    }
    for out in people {
        let heard = world.say_in(out, thread, 1, &[out as u8]);
        assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
    }
    let heard = world.take_out(alice, thread, 1, &[carol]);
    assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{heard:?}");
}

/// The receipts a device was pushed or answered.
fn receipts(heard: &[Frame]) -> Vec<SignedReceipt> {
    let mut found = Vec::new();
    for frame in heard {
        match frame {
            Frame::CommitTaken(words) => found.push((*words.receipt).clone()),
            Frame::CommitLost(words) => found.push((*words.won.receipt).clone()),
            Frame::Committed(words) => found.push((*words.accepted.receipt).clone()),
            Frame::Push(push) => found.extend(push.entries.iter().filter_map(|entry| match &entry.body {
                EntryBody::Commit(accepted) => Some((*accepted.receipt).clone()),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

#[test]
fn everybody_gets_the_same_receipt_of_a_commit_signed_by_the_hub_whichever_way_they_hear_of_it() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    world.devices[carol].inbox.clear();
    let mut heard = world.take_out(alice, thread, 1, &[bob]);
    // Handed in again because the answer was lost; and another one, too late, by way of the other relay.
    heard.extend(world.take_out(alice, thread, 1, &[bob]));
    world.pass(Duration::from_secs(3));
    world.crash(0, true);
    world.start(0);
    world.come_back(alice, 0);
    world.pass(RECONNECTED);
    heard.extend(std::mem::take(&mut world.devices[carol].inbox));
    let commit = Commit {
        thread,
        term: FIRST_TERM,
        epoch: Epoch::new(1),
        bytes: b"another".to_vec(),
        added: Vec::new(),
        removed: Vec::new(),
    };
    let request = world.request();
    heard.extend(world.ask(carol, SubmitCommit { request, commit, newcomers: None }));
    world.pass(Duration::from_secs(3));
    heard.extend(std::mem::take(&mut world.devices[carol].inbox));
    for who in [alice, carol] {
        let request = world.request();
        heard.extend(world.ask(who, FetchCommit { request, thread, epoch: Epoch::new(1) }));
    }
    let found = receipts(&heard);
    assert!(found.len() >= 6, "two answers, a push, a loss, and two asked for: {}", found.len());
    for signed in &found {
        assert_eq!(receipt::verify(signed, relay_id(0)), Ok(()));
        assert_eq!(signed, &found[0]);
    }
}
