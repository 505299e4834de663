//! Groups whose members change, across relays: what is still taken of whoever was taken out.

use whimbrel_crypto::{PublicEngine, StandInPublic, receipt};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, FetchCommit, SignedReceipt, SubmitCommit};
use whimbrel_protocol::policy::{self, Policy};
use whimbrel_protocol::thread::Founding;

use super::*;

/// Relays have found each other again by then, and no device's link has ended by its silence.
const RECONNECTED: Duration = Duration::from_secs(40);

/// Alice's group at site 0, of Bob there and Carol at site 1; and its id.
pub(super) fn group(world: &mut World, people: [usize; 3]) -> ThreadId {
    thread(world, people, false)
}

pub(super) fn thread(world: &mut World, [alice, bob, carol]: [usize; 3], fixed: bool) -> ThreadId {
    for (friend, at) in [(bob, 0), (carol, 1)] {
        world.invite(friend);
        let heard = world.claim(alice, friend, at, Some(TOKEN));
        assert!(matches!(&heard[..], [Frame::ClaimedKeyPackages(_)]), "{heard:?}");
    }
    let founding = Founding { creator: world.devices[alice].id().account, hub: relay_id(0), nonce: [3; 32], fixed };
    let open = world.founded(founding, &[(alice, 0), (bob, 0), (carol, 1)]);
    let (tree, info) = (open.opening.tree.clone(), open.info.clone().unwrap());
    let heard = world.ask(alice, open);
    assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
    world.pass(Duration::from_secs(3));
    let thread = founding.thread();
    let public = StandInPublic::new().found(thread, &tree, &info).unwrap();
    world.publics.insert((thread, 1), public.save().unwrap());
    thread
}

/// A commit as its author would hand it in, which takes nobody in.
fn made((thread, epoch): (ThreadId, u64), (bytes, info): (Vec<u8>, Vec<u8>), removed: Vec<DeviceId>) -> Commit {
    let (term, epoch, added) = (FIRST_TERM, Epoch::new(epoch), Vec::new());
    Commit { thread, term, epoch, bytes, added, removed, info, warrant: None }
}

impl World {
    pub(super) fn say_in(&mut self, who: usize, thread: ThreadId, epoch: u64, body: &[u8]) -> Vec<Frame> {
        let envelope = Envelope { thread, epoch: Epoch::new(epoch), ..envelope(body) };
        let request = self.request();
        self.ask(who, Submit { request, envelope, heard: None })
    }

    /// An opening of such a thread, with the public state that its hub needs.
    fn founded(&mut self, founding: Founding, people: &[(usize, usize)]) -> OpenThread {
        let mut open = self.open_frame(people);
        let leaf = |(who, _): &(usize, usize)| (self.devices[*who].id(), self.devices[*who].key.public());
        let leaves: Vec<_> = people.iter().map(leaf).collect();
        let (tree, info) = StandInPublic::forge_opening(founding.thread(), &leaves);
        (open.opening.thread, open.opening.founding) = (founding.thread(), Some(Box::new(founding)));
        (open.opening.tree, open.info) = (tree, Some(info.into()));
        open
    }

    /// A commit by which these go, as its author would make it and say.
    pub(super) fn taking_out(&self, who: usize, thread: ThreadId, epoch: u64, out: &[usize]) -> Commit {
        let mut removed: Vec<DeviceId> = out.iter().map(|one| self.devices[*one].id()).collect();
        removed.sort();
        let public = &self.publics[&(thread, epoch)];
        let (bytes, info) = StandInPublic::forge_commit(public, self.devices[who].id(), &[], &removed, None).unwrap();
        made((thread, epoch), (bytes, info), removed)
    }

    /// A commit by which these are the admins, and these go.
    fn ruling(&self, who: usize, thread: ThreadId, epoch: u64, admins: &[usize], out: &[usize]) -> Commit {
        let mut admins: Vec<_> = admins.iter().map(|one| self.devices[*one].id().account).collect();
        admins.sort();
        let policy = Policy { admins, adds: policy::Who::Admins, renames: policy::Who::Admins };
        let removed: Vec<DeviceId> = out.iter().map(|one| self.devices[*one].id()).collect();
        let (public, by) = (&self.publics[&(thread, epoch)], self.devices[who].id());
        let (bytes, info) = StandInPublic::forge_commit(public, by, &[], &removed, Some(&policy)).unwrap();
        made((thread, epoch), (bytes, info), removed)
    }

    pub(super) fn hand_in(&mut self, who: usize, commit: Commit) -> Vec<Frame> {
        let request = self.request();
        let (thread, epoch, bytes) = (commit.thread, commit.epoch.get(), commit.bytes.clone());
        let heard = self.ask(who, SubmitCommit { request, commit: Box::new(commit), newcomers: None });
        if heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))) {
            let mut public = StandInPublic::new().restore(thread, &self.publics[&(thread, epoch)]).unwrap();
            public.follow(&bytes).unwrap();
            self.publics.insert((thread, epoch + 1), public.save().unwrap());
        }
        heard
    }

    fn take_out(&mut self, who: usize, thread: ThreadId, epoch: u64, out: &[usize]) -> Vec<Frame> {
        let commit = self.taking_out(who, thread, epoch, out);
        self.hand_in(who, commit)
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

#[test]
fn t37_a_hub_holds_each_commit_to_the_policy_of_its_epoch_after_a_start_too() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    let is_taken = |heard: &[Frame]| heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_)));
    // Nobody makes themselves an admin, or leaves the group with one who is not in it.
    for (by, admins, out) in
        [(bob, &[alice, bob][..], &[][..]), (carol, &[carol], &[alice]), (alice, &[alice, bob], &[bob])]
    {
        let commit = world.ruling(by, thread, 1, admins, out);
        assert_eq!(refusal(&world.hand_in(by, commit)), Some(RefusalCode::Malformed), "{by} {admins:?}");
        world.pass(Duration::from_secs(3));
    }
    let commit = world.ruling(alice, thread, 1, &[alice, bob], &[]);
    assert!(is_taken(&world.hand_in(alice, commit)));
    // From what is on the disk, too.
    world.crash(0, true);
    world.start(0);
    for (who, at) in people.iter().zip([0, 0, 1]) {
        world.leave(*who);
        world.come_back(*who, at);
    }
    world.pass(Duration::from_secs(3));
    // He is one of them now, and takes out whoever made the group, who is none of them from then on.
    assert_eq!(refusal(&world.take_out(bob, thread, 2, &[alice])), Some(RefusalCode::Malformed), "an admin still");
    let commit = world.ruling(bob, thread, 2, &[bob, carol], &[alice]);
    assert!(is_taken(&world.hand_in(bob, commit)));
    world.pass(Duration::from_secs(3));
    let commit = world.ruling(carol, thread, 3, &[carol], &[]);
    let heard = world.hand_in(carol, commit);
    assert!(is_taken(&heard), "at another relay: {heard:?}");
    world.pass(Duration::from_secs(3));
    assert_eq!(refusal(&world.take_out(bob, thread, 4, &[carol])), Some(RefusalCode::Malformed), "no more");
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
        info: Vec::new(),
        warrant: None,
    };
    let request = world.request();
    heard.extend(world.ask(carol, SubmitCommit { request, commit: Box::new(commit), newcomers: None }));
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

/// A member's commits that nobody could follow, and what they are, for this epoch.
fn bad_commits(
    world: &World,
    (thread, epoch): (ThreadId, u64),
    [alice, bob, carol]: [usize; 3],
) -> Vec<(usize, Commit)> {
    let renewal = |who| world.taking_out(who, thread, epoch, &[]);
    let mut bad = Vec::new();
    for who in [alice, bob, carol] {
        let genuine = renewal(who);
        let mut corrupt = genuine.clone();
        corrupt.bytes[20] ^= 1;
        let mut cut = genuine.clone();
        cut.bytes.pop();
        let garbage = Commit { bytes: vec![7; 2_000], ..genuine.clone() };
        let empty = Commit { bytes: Vec::new(), ..genuine.clone() };
        let bare = Commit { info: Vec::new(), ..genuine.clone() };
        let other = Commit { bytes: renewal(if who == bob { carol } else { bob }).bytes, ..genuine };
        bad.extend([corrupt, cut, garbage, empty, bare, other].map(|commit| (who, commit)));
        if epoch > 1 {
            let stale = world.taking_out(who, thread, epoch - 1, &[]);
            bad.push((who, Commit { epoch: Epoch::new(epoch), ..stale }));
        }
    }
    // What it does is not said; what is said it does not do.
    let unsaid = |who, out| Commit { removed: Vec::new(), ..world.taking_out(who, thread, epoch, &[out]) };
    let undone = Commit { bytes: renewal(alice).bytes, ..world.taking_out(alice, thread, epoch, &[bob]) };
    let another = Commit { removed: vec![world.devices[carol].id()], ..world.taking_out(alice, thread, epoch, &[bob]) };
    bad.extend([(bob, unsaid(bob, alice)), (carol, unsaid(carol, bob)), (alice, unsaid(alice, carol))]);
    bad.extend([(alice, undone), (alice, another)]);
    bad
}

#[test]
fn t34_a_commit_that_is_not_what_it_is_said_to_be_is_refused_to_its_author_and_the_group_changes_on() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let [alice, bob, carol] = people;
    let thread = group(&mut world, people);
    for epoch in 1..=3 {
        for (who, commit) in bad_commits(&world, (thread, epoch), people) {
            let heard = world.hand_in(who, commit.clone());
            assert_eq!(refusal(&heard), Some(RefusalCode::Unproved), "{who} {epoch} {:?} {heard:?}", commit.removed);
        }
        world.pass(Duration::from_secs(3));
        for who in people {
            let heard = std::mem::take(&mut world.devices[who].inbox);
            assert!(receipts(&heard).is_empty(), "a commit that was refused is told");
        }
        // What was proved before is not kept: the hub makes it again from its disk.
        if epoch == 2 {
            world.crash(0, true);
            world.start(0);
            world.come_back(alice, 0);
            world.come_back(bob, 0);
            world.pass(RECONNECTED);
        }
        let author = [alice, bob, carol][epoch as usize - 1];
        let genuine = world.taking_out(author, thread, epoch, &[]);
        let heard = world.hand_in(author, genuine);
        assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{epoch} {heard:?}");
        world.pass(Duration::from_secs(3));
        people.iter().for_each(|who| world.devices[*who].inbox.clear());
    }
    let heard = world.take_out(alice, thread, 4, &[carol]);
    assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{heard:?}");
}

#[test]
fn t34_a_hub_takes_a_commit_from_without_for_its_authors_own_leaf_alone_and_three_a_day() {
    let mut world = World::new(2);
    let [alice, bob, carol] = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let thread = group(&mut world, [alice, bob, carol]);
    let rejoin = |world: &World, who: usize, place: usize, epoch: u64| {
        let public = &world.publics[&(thread, epoch)];
        let (who, place) = (world.devices[who].id(), world.devices[place].id());
        let (bytes, info) = StandInPublic::forge_rejoin(public, who, place).unwrap();
        let (added, removed) = (Vec::new(), Vec::new());
        Commit { thread, term: FIRST_TERM, epoch: Epoch::new(epoch), bytes, added, removed, info, warrant: None }
    };
    let taken = |heard: &[Frame]| heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_)));
    // Another's leaf; another's name; no GroupInfo, and that of the epoch that is over.
    let good = rejoin(&world, bob, bob, 1);
    let bad = [
        (bob, rejoin(&world, bob, alice, 1)),
        (alice, rejoin(&world, alice, bob, 1)),
        (alice, good.clone()),
        (bob, Commit { info: Vec::new(), ..good.clone() }),
        (bob, Commit { info: rejoin(&world, alice, alice, 1).info, ..good.clone() }),
    ];
    for (number, (who, commit)) in bad.into_iter().enumerate() {
        assert_eq!(refusal(&world.hand_in(who, commit)), Some(RefusalCode::Unproved), "{number}");
    }
    let mut epoch = 1;
    for round in 0..limits::REJOINS_PER_DAY {
        let commit = rejoin(&world, bob, bob, epoch);
        assert!(taken(&world.hand_in(bob, commit)), "{round}");
        epoch += 1;
    }
    // One more is one too many, for this device; the thread goes on, and so may another.
    let more = rejoin(&world, bob, bob, epoch);
    assert_eq!(refusal(&world.hand_in(bob, more)), Some(RefusalCode::RejoinedTooOften));
    let other = rejoin(&world, alice, alice, epoch);
    assert!(taken(&world.hand_in(alice, other)));
    let plain = world.taking_out(bob, thread, epoch + 1, &[]);
    assert!(taken(&world.hand_in(bob, plain)));
    world.pass(limits::REJOINS_DAY);
    world.come_back(bob, 0);
    world.pass(RECONNECTED);
    let next_day = rejoin(&world, bob, bob, epoch + 2);
    assert!(taken(&world.hand_in(bob, next_day)));
}

#[test]
fn t34_a_conversation_of_fixed_people_is_as_hard_to_stop() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let thread = thread(&mut world, people, true);
    for (epoch, who) in (1..).zip(people) {
        let genuine = world.taking_out(who, thread, epoch, &[]);
        let mut corrupt = genuine.clone();
        corrupt.bytes[20] ^= 1;
        // Not said, or else the rule for such threads refuses it.
        let other = people[epoch as usize % 3];
        let unsaid = Commit { removed: Vec::new(), ..world.taking_out(who, thread, epoch, &[other]) };
        for bad in [corrupt, unsaid] {
            assert_eq!(refusal(&world.hand_in(who, bad)), Some(RefusalCode::Unproved));
        }
        let heard = world.hand_in(who, genuine);
        assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{epoch} {heard:?}");
        world.pass(Duration::from_secs(3));
    }
}

#[test]
fn a_group_goes_on_over_many_changes_and_deaths_of_its_hub() {
    let mut world = World::new(2);
    let people = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 1)];
    let thread = group(&mut world, people);
    for epoch in 1..=u64::from(limits::PUBLIC_STATE_COMMITS_MAX) * 2 + 3 {
        if epoch % 13 == 0 {
            world.crash(0, true);
            world.start(0);
            world.come_back(people[0], 0);
            world.come_back(people[1], 0);
        }
        let author = people[(epoch % 2) as usize];
        let mut bad = world.taking_out(author, thread, epoch, &[]);
        bad.bytes[9] ^= 1;
        assert_eq!(refusal(&world.hand_in(author, bad)), Some(RefusalCode::Unproved));
        let good = world.taking_out(author, thread, epoch, &[]);
        let heard = world.hand_in(author, good);
        assert!(heard.iter().any(|frame| matches!(frame, Frame::CommitTaken(_))), "{epoch} {heard:?}");
    }
}

#[test]
fn an_opening_without_a_public_state_that_fits_it_is_refused_and_the_thread_is_not_there() {
    let mut world = World::new(1);
    let [alice, bob, carol] = [world.join("alice", 0), world.join("bob", 0), world.join("carol", 0)];
    world.invite(bob);
    world.claim(alice, bob, 0, Some(TOKEN));
    for fixed in [false, true] {
        let creator = world.devices[alice].id().account;
        let founding = Founding { creator, hub: relay_id(0), nonce: [5; 32], fixed };
        let pair = [(alice, 0), (bob, 0)];
        let good = world.founded(founding, &pair);
        let strangers = world.founded(founding, &[(alice, 0), (carol, 0)]);
        let more = world.founded(founding, &[(alice, 0), (bob, 0), (carol, 0)]);
        let elsewhere = world.founded(Founding { nonce: [6; 32], ..founding }, &pair);
        let with = |tree: &OpenThread, info: &OpenThread| {
            let mut open = good.clone();
            (open.opening.tree, open.info) = (tree.opening.tree.clone(), info.info.clone());
            open
        };
        let none = OpenThread { info: None, ..good.clone() };
        let mut later = good.clone();
        later.opening.epoch = Epoch::new(2);
        let mut garbage = good.clone();
        garbage.info = Some(vec![1; 40].into());
        let bad = [
            ("no state", none),
            ("of other people", with(&strangers, &strangers)),
            ("of more people", with(&more, &more)),
            ("another's tree", with(&strangers, &good)),
            ("another's word", with(&good, &strangers)),
            ("of another thread", with(&elsewhere, &elsewhere)),
            ("of another epoch", later),
            ("garbage", garbage),
        ];
        for (what, open) in bad {
            let request = world.request();
            let heard = world.ask(alice, OpenThread { request, ..open });
            assert_eq!(refusal(&heard), Some(RefusalCode::Unproved), "{what}");
        }
        let request = world.request();
        let heard =
            world.ask(alice, OpenThread { request, tag: ParticipantsTag::from_bytes([fixed as u8; 32]), ..good });
        assert!(matches!(heard[0], Frame::Stored(_)), "{heard:?}");
    }
}
