//! Devices off their account, and members who go, in threads: who is told, and who may take them out.

use whimbrel_crypto::warrant;
use whimbrel_protocol::hub::{Commit, FetchCommit, Warrant};
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::user::{ExtendLog, LogGrown};

use super::hub::{group, thread};
use super::*;

impl World {
    /// An account's first device takes this one off it.
    fn revoke(&mut self, by: usize, gone: usize) {
        let index = self.devices[gone].index;
        let device = &mut self.devices[by];
        let identity = KeyPair::from_seed_bytes(*device.identity.secret_bytes());
        let (after, hash) = device.log.head();
        device.log.revoke_device(&identity, index, Hlc::default()).unwrap();
        let (account, entries) = (device.log.account(), device.log.tail(after));
        let request = self.request();
        let heard = self.ask(by, ExtendLog { request, account, after, hash, entries });
        assert!(matches!(heard[0], Frame::Done(_)), "{heard:?}");
    }

    /// What a device was told of account logs.
    fn grown(&mut self, who: usize) -> Vec<LogGrown> {
        self.run();
        let inbox = std::mem::take(&mut self.devices[who].inbox);
        inbox
            .into_iter()
            .filter_map(|frame| if let Frame::LogGrown(words) = frame { Some(words) } else { None })
            .collect()
    }

    /// Somebody's log as it would be without the device they have.
    fn without(&self, who: usize) -> AccountLog {
        let device = &self.devices[who];
        let mut log = device.log.clone();
        log.revoke_device(&device.identity, device.index, Hlc::default()).unwrap();
        log
    }

    /// Somebody's word that they leave a group.
    fn parting_word(&self, who: usize, thread: ThreadId, epoch: u64) -> Signed {
        warrant::leave(&self.devices[who].key, self.devices[who].id(), thread, Epoch::new(epoch))
    }

    /// A commit that takes these out, with somebody's word that they leave.
    fn with_word(&self, by: usize, thread: ThreadId, epoch: u64, out: &[usize], word: Signed) -> Commit {
        Commit { warrant: Some(Warrant::Leaves(word)), ..self.taking_out(by, thread, epoch, out) }
    }

    /// A commit that takes these out, with an account's log.
    fn with_log(&self, by: usize, thread: ThreadId, out: &[usize], log: &AccountLog) -> Commit {
        Commit { warrant: Some(Warrant::Revoked(log.bytes().into())), ..self.taking_out(by, thread, 1, out) }
    }
}

fn is_taken(heard: &[Frame]) -> bool {
    heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_)))
}

#[test]
fn whoever_is_in_a_thread_and_there_is_told_that_devices_were_revoked_at_both_relays_and_nobody_else() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let dave = world.join("dave", 0);
    let thread = group(&mut world, people);
    for who in [alice, bob, carol, dave] {
        world.grown(who);
    }
    // A device that comes is nobody's to take out, nor is one that goes and has no leaf.
    let [phone, tablet] = [(); 2].map(|()| world.sibling(alice, 0));
    world.devices[phone].log = world.devices[tablet].log.clone();
    world.revoke(phone, tablet);
    world.pass(Duration::from_secs(1));
    assert_eq!((world.grown(bob), world.grown(carol)), (Vec::new(), Vec::new()));
    let before = world.sites[1].running.as_ref().unwrap().disk.commands();
    world.revoke(phone, alice);
    let (account, (seq, hash)) = (world.devices[phone].id().account, world.devices[phone].log.head());
    let told = [LogGrown { thread, account, seq, hash }];
    assert_eq!(world.grown(bob), told);
    assert_eq!(world.grown(carol), told);
    assert!(world.grown(dave).is_empty() && world.grown(phone).is_empty());
    assert_eq!(world.sites[1].running.as_ref().unwrap().disk.commands(), before, "kept by nobody");
}

#[test]
fn a_relay_speaks_of_the_logs_of_its_own_users_alone_and_in_threads_they_are_in() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let dave = world.join("dave", 1);
    let thread = group(&mut world, people);
    world.grown(bob);
    let peer = world.come_in_as_relay(0, relay_id(1), domain(1));
    world.hand(0, peer, &hello(1, 0, None).into());
    world.run();
    for (who, heard) in [(alice, 0), (dave, 0), (carol, 1)] {
        let (account, (seq, hash)) = (world.devices[who].id().account, world.devices[who].log.head());
        world.hand(0, peer, &Frame::from(LogGrown { thread, account, seq, hash }));
        assert_eq!(world.grown(bob).len(), heard, "{who}");
    }
    // A device says nothing of the kind.
    let (account, (seq, hash)) = (world.devices[alice].id().account, world.devices[alice].log.head());
    world.say(alice, LogGrown { thread, account, seq, hash });
    assert!(world.grown(bob).is_empty());
}

#[test]
fn any_member_takes_out_a_device_that_the_log_with_the_commit_revokes_and_no_other() {
    for fixed in [false, true] {
        let mut world = World::new(2);
        let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
        let [alice, bob, carol] = people;
        let thread = thread(&mut world, people, fixed);
        // None; one that is forged; one in which the device is not revoked; another's; one for another device, too.
        let carols = world.without(carol);
        let stays = world.devices[carol].log.clone();
        let bobs = world.without(bob);
        let bare = world.taking_out(bob, thread, 1, &[carol]);
        let mut torn = world.with_log(bob, thread, &[carol], &carols);
        if let Some(Warrant::Revoked(log)) = &mut torn.warrant {
            let last = log.len() - 1;
            log[last] ^= 1;
        }
        let refused = [
            bare,
            torn,
            world.with_log(bob, thread, &[carol], &stays),
            world.with_log(bob, thread, &[carol], &bobs),
            world.with_log(bob, thread, &[alice, carol], &carols),
        ];
        for (number, commit) in refused.into_iter().enumerate() {
            assert_eq!(refusal(&world.hand_in(bob, commit)), Some(RefusalCode::Malformed), "{fixed} {number}");
            world.pass(Duration::from_secs(3));
        }
        let commit = world.with_log(bob, thread, &[carol], &carols);
        let heard = world.hand_in(bob, commit);
        assert!(is_taken(&heard), "{fixed} {heard:?}");
        world.pass(Duration::from_secs(3));
        // Whoever was away hears it with its warrant.
        world.devices[alice].inbox.clear();
        let request = world.request();
        let heard = world.ask(alice, FetchCommit { request, thread, epoch: Epoch::new(1) });
        let with = |frame: &Frame| matches!(frame, Frame::Committed(words) if words.accepted.commit.warrant.is_some());
        assert!(heard.iter().any(with), "{heard:?}");
    }
}

#[test]
fn a_member_at_another_relay_takes_one_out_too_and_an_admin_goes_by_no_warrant() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    let (alices, bobs) = (world.without(alice), world.without(bob));
    // The only admin's last leaf: the group would have none.
    let commit = world.with_log(carol, thread, &[alice], &alices);
    assert_eq!(refusal(&world.hand_in(carol, commit)), Some(RefusalCode::Malformed));
    world.pass(Duration::from_secs(3));
    // A log of his that his own relay has not seen is nobody's word: whoever held his identity key once could sign it.
    let commit = world.with_log(carol, thread, &[bob], &bobs);
    assert_eq!(refusal(&world.hand_in(carol, commit)), Some(RefusalCode::Malformed));
    world.pass(Duration::from_secs(3));
    let other = world.sibling(bob, 0);
    world.revoke(other, bob);
    let log = world.devices[other].log.clone();
    let commit = world.with_log(carol, thread, &[bob], &log);
    let heard = world.hand_in(carol, commit);
    assert!(is_taken(&heard), "{heard:?}");
}

#[test]
fn a_group_changes_on_when_its_only_admin_has_lost_every_device_they_had_in_it() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    let other = world.sibling(alice, 0);
    world.revoke(other, alice);
    for (epoch, who) in [(1, bob), (2, carol)] {
        let renewal = world.taking_out(who, thread, epoch, &[]);
        let heard = world.hand_in(who, renewal);
        assert!(is_taken(&heard), "{who}: {heard:?}");
        world.pass(Duration::from_secs(3));
    }
}

#[test]
fn any_member_takes_out_who_says_that_they_go_and_nobody_by_a_word_that_is_not_theirs_or_of_another_group() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    let elsewhere = ThreadId::from_bytes([9; 32]);
    for (word, out) in [
        (world.parting_word(bob, thread, 1), carol),
        (world.parting_word(carol, elsewhere, 1), carol),
        (world.parting_word(carol, thread, 2), carol),
        (Signed { by: world.devices[carol].id(), ..world.parting_word(bob, thread, 1) }, carol),
        // Each admin is a member.
        (world.parting_word(alice, thread, 1), alice),
    ] {
        let commit = world.with_word(bob, thread, 1, &[out], word);
        assert_eq!(refusal(&world.hand_in(bob, commit)), Some(RefusalCode::Malformed));
        world.pass(Duration::from_secs(3));
    }
    let commit = world.with_word(bob, thread, 1, &[carol], world.parting_word(carol, thread, 1));
    let heard = world.hand_in(bob, commit);
    assert!(is_taken(&heard), "{heard:?}");
    world.pass(Duration::from_secs(3));
    let heard = world.say_in(carol, thread, 2, b"and back");
    assert!(heard.iter().any(|frame| matches!(frame, Frame::Refused(_))), "{heard:?}");
}
