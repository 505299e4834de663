//! Rows of the threats that a node stands by itself: a hub or relay that lies, and members that go beyond what is theirs.

use std::time::Duration;

use whimbrel_crypto::{
    Chance, Context, Engine as _, Invitee, KeyPair, Seed, StandInEngine, TransportProof, UnverifiedLog,
};
use whimbrel_protocol::Frame;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::hub::{Commit, FIRST_TERM, Newcomers, SubmitCommit};
use whimbrel_protocol::id::{DeviceId, Epoch, MessageId, RequestId, Sequence, Signature, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::push::{Entry, EntryBody, LogRef, Push};
use whimbrel_protocol::thread::{Class, Envelope, Participant};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::{OwnLog, Who};
use whimbrel_storage::Overlay;

use super::groups::group;
use super::hostile::seal_as;
use super::siblings::two_devices;
use super::world::{ALICE, BOB, CAROL, World, friends, world};
use crate::api::{Command, CommandError, Event, Input, Reply};
use crate::identity::Identity;
use crate::views::{self, Standing};

const DAVE: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A commit made with a member's own state, as a program of their own making could: takes these in, or out.
fn commit_as(
    world: &mut World<StandInEngine>,
    who: usize,
    thread: ThreadId,
    add: &[usize],
    remove: &[usize],
) -> SubmitCommit {
    let mut invitees = Vec::new();
    for one in add {
        let row = world.relay.accounts.get_mut(&world.people[*one].account).unwrap();
        let key_package = row.packages.pop_front().unwrap();
        let log = UnverifiedLog(row.log.clone()).verify().unwrap();
        let device_key = log.devices().next().unwrap().device_key;
        invitees.push(Invitee { id: world.id(*one), device_key, key_package });
    }
    let removed: Vec<DeviceId> = remove.iter().map(|one| world.id(*one)).collect();
    let domain = "a.example".parse().unwrap();
    let mut added: Vec<Participant> = invitees
        .iter()
        .map(|one| Participant { account: one.id.account, domain: Clone::clone(&domain), devices: vec![one.id.index] })
        .collect();
    added.sort_by_key(|one| one.account);
    let identity = Identity::load(world.store(who)).unwrap();
    let mut chance = Chance::from_seed(Seed::from_bytes([78; 32]));
    let now = world.now;
    let mut rows = Overlay::new(world.store(who));
    let mut cx = Context { rows: &mut rows, chance: &mut chance, now };
    let staged = match remove.is_empty() {
        true => StandInEngine::new().add(&mut cx, &identity.own(), thread, &invitees).unwrap(),
        false => StandInEngine::new().remove(&mut cx, &identity.own(), thread, &removed).unwrap(),
    };
    let epoch = Epoch::new(world.stands(who, thread).unwrap().1);
    let newcomers = staged.welcome.map(|welcome| Newcomers { welcome, tree: staged.tree });
    let (bytes, info) = (staged.commit, staged.info);
    let commit = Commit { thread, term: FIRST_TERM, epoch, bytes, added, removed, info, warrant: None };
    SubmitCommit { request: RequestId::new(u64::MAX), commit: Box::new(commit), newcomers }
}

#[test]
fn t14_t37_a_hub_that_takes_a_members_commit_over_the_others_changes_nobodys_group() {
    for (add, remove) in [(vec![DAVE], vec![]), (vec![], vec![CAROL]), (vec![], vec![ALICE])] {
        let (mut world, thread) = group();
        let words = commit_as(&mut world, BOB, thread, &add, &remove);
        world.submit_commit(BOB, words);
        world.settle();
        world.advance(Duration::from_secs(60));
        for who in [ALICE, BOB, CAROL] {
            assert_eq!(world.stands(who, thread), Some((Standing::Open, 1, 3)), "{add:?} {remove:?}: {who}");
        }
        assert_eq!(world.stands(DAVE, thread), None, "an invitation into it is followed by nobody");
        assert!(matches!(
            world.ask(DAVE, Command::Send { thread, text: "in?".to_owned() }),
            Err(CommandError::Unknown)
        ));
        world.say(ALICE, thread, "as before");
        world.say(CAROL, thread, "all of us");
        assert_eq!(world.history(BOB, thread), ["as before", "all of us"]);
        assert_eq!(world.history(ALICE, thread).len(), 2);
    }
}

#[test]
fn t14_somebody_who_was_taken_out_is_not_brought_back_by_a_replay() {
    let (mut world, thread) = group();
    let (bob, device) = (world.people[BOB].account, world.id(BOB));
    let people = world.people(&[BOB]);
    assert_eq!(world.ask(ALICE, Command::RemoveMembers { thread, people }), Ok(Reply::Done));
    // The hub hands him all there is, and his old invitation again.
    world.relay.spans.remove(&(thread, device));
    let row = world.relay.accounts.get_mut(&bob).unwrap();
    let old: Vec<EntryBody> = row.inbox.clone();
    row.inbox.extend(old);
    world.push_all();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.stands(BOB, thread).unwrap().0, Standing::Left);
    world.say(CAROL, thread, "without him");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.history(BOB, thread), [""; 0]);
    assert!(world.ask(BOB, Command::Send { thread, text: "in?".to_owned() }).is_err());
}

#[test]
fn t15_an_old_welcome_commit_or_invitation_that_comes_again_changes_nothing() {
    let (mut world, thread) = group();
    let people = world.people(&[DAVE]);
    assert_eq!(world.ask(ALICE, Command::AddMembers { thread, people }), Ok(Reply::Done));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.ask(BOB, Command::RenewKeys { thread }), Ok(Reply::Done));
    let before: Vec<_> = [ALICE, BOB, CAROL, DAVE].map(|who| world.stands(who, thread)).into();
    let opened: Vec<_> = [ALICE, BOB, CAROL, DAVE]
        .map(|who| world.events(who, |event| matches!(event, Event::ThreadOpened { .. })))
        .into();
    for who in [ALICE, BOB, CAROL, DAVE] {
        let row = world.relay.accounts.get_mut(&world.people[who].account).unwrap();
        let old: Vec<EntryBody> = row.inbox.clone();
        row.inbox.extend(old);
    }
    let log = &mut world.relay.threads.get_mut(&thread).unwrap().1;
    let commits: Vec<EntryBody> = log.iter().filter(|body| matches!(body, EntryBody::Commit(_))).cloned().collect();
    assert_eq!(commits.len(), 2);
    log.extend(commits);
    world.push_all();
    world.advance(Duration::from_secs(120));
    for (place, who) in [ALICE, BOB, CAROL, DAVE].into_iter().enumerate() {
        assert_eq!(world.stands(who, thread), before[place], "{who}");
        let now = world.events(who, |event| matches!(event, Event::ThreadOpened { .. }));
        assert_eq!(now, opened[place], "{who}");
    }
    world.say(DAVE, thread, "as before");
    for who in [ALICE, BOB, CAROL] {
        assert_eq!(world.history(who, thread).last().map(String::as_str), Some("as before"), "{who}");
    }
}

#[test]
fn t06_whoever_the_hub_keeps_commits_from_is_taken_out_all_the_same() {
    let (mut world, thread) = group();
    let bob = world.people[BOB].account;
    world.relay.hide_commits_from.insert(bob);
    world.relay.mute.insert("FetchCommit");
    let people = world.people(&[BOB]);
    assert_eq!(world.ask(ALICE, Command::RemoveMembers { thread, people }), Ok(Reply::Done));
    world.say(ALICE, thread, "without him");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 1, 3)), "nobody has told him");
    assert_eq!(world.history(BOB, thread), [""; 0], "and he reads nothing");
    // What he says is of an epoch that is over, and he is no member of the next.
    let hlc = Hlc::default().tick(world.now.wall);
    let words = Content::new(MessageId::from_bytes([6; 16]), hlc, Body::Text("still in".to_owned()));
    let late = seal_as(&mut world, BOB, thread, &[&encode_words(&words)]).remove(0);
    let author = world.id(BOB);
    world.inject(thread, author, late);
    for who in [ALICE, CAROL] {
        assert_eq!(world.stands(who, thread), Some((Standing::Open, 2, 2)), "{who}");
        assert!(!world.history(who, thread).contains(&"still in".to_owned()));
    }
}

#[test]
fn t11_what_is_handed_in_under_anothers_name_is_never_shown_under_it() {
    let (mut world, thread) = group();
    world.say(CAROL, thread, "mine");
    let (carol, alice) = (world.id(CAROL), world.id(ALICE));
    let content = {
        let hlc = whimbrel_protocol::time::Hlc::default().tick(world.now.wall);
        let body = whimbrel_protocol::message::Body::Text("not hers".to_owned());
        let message = whimbrel_protocol::id::MessageId::from_bytes([5; 16]);
        whimbrel_protocol::frame::encode_words(&whimbrel_protocol::message::Content::new(message, hlc, body))
    };
    let envelope = seal_as(&mut world, CAROL, thread, &[&content]).remove(0);
    world.kill(CAROL);
    world.inject(thread, alice, envelope);
    world.advance(Duration::from_secs(5));
    let told: Vec<_> = world.people[BOB].shown.iter().map(|message| (message.author, message.text.as_str())).collect();
    assert!(told.iter().all(|(author, _)| *author == carol), "{told:?}");
    assert!(told.iter().any(|(_, text)| *text == "mine"), "{told:?}");
}

#[test]
fn t12_a_key_package_that_is_handed_out_twice_is_told_to_its_owner() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let invites = [world.invite(ALICE), world.invite(ALICE)];
    let alice = world.people[ALICE].account;
    let packages = &mut world.relay.accounts.get_mut(&alice).unwrap().packages;
    let first = packages.front().unwrap().clone();
    packages.push_front(first);
    for (who, invite) in [BOB, CAROL].into_iter().zip(invites) {
        let reply = world.ask(who, Command::AcceptInvite(invite)).unwrap();
        assert!(matches!(reply, Reply::Contact { .. }), "they cannot know");
        world.advance(Duration::from_secs(5));
    }
    let events = |wanted: fn(&Event) -> bool| world.events(ALICE, wanted);
    assert_eq!(events(|event| matches!(event, Event::ThreadOpened { .. })), 1, "it is good for one");
    assert_eq!(events(|event| matches!(event, Event::InvitationRefused { .. })), 1, "and she hears of the other");
}

#[test]
fn t36_of_two_who_commit_at_the_same_moment_one_wins_and_the_other_follows_each_time() {
    const ROUNDS: u64 = 100;
    let (mut world, thread) = group();
    for round in 0..ROUNDS {
        world.relay.mute.insert("SubmitCommit");
        let tickets = [ALICE, BOB].map(|who| (who, world.command(who, Command::RenewKeys { thread })));
        world.relay.mute.clear();
        world.advance(limits::ANSWER_TIME_MAX * 2 + limits::COMMIT_WAIT * 2);
        for (who, ticket) in tickets {
            assert_eq!(world.answer(who, ticket), Some(Ok(Reply::Done)), "{round}: {who}");
        }
        for who in [ALICE, BOB, CAROL] {
            // Both hold, one after the other, and no third.
            assert_eq!(world.stands(who, thread), Some((Standing::Open, 1 + 2 * (round + 1), 3)), "{round}: {who}");
        }
    }
    world.say(CAROL, thread, "still one group");
    assert_eq!(world.history(ALICE, thread).last().map(String::as_str), Some("still one group"));
}

#[test]
fn t01_what_a_relay_delivers_again_at_once_after_a_start_and_after_29_days_is_shown_once_and_acknowledged_again() {
    let (mut world, thread) = friends();
    world.say(ALICE, thread, "once");
    let (author, envelope) = (world.id(ALICE), world.submits(ALICE)[0].clone());
    let account = world.people[BOB].account;
    let unread = |world: &World<StandInEngine>| views::unread(world.store(BOB), &thread).unwrap();
    assert_eq!((world.shown(BOB), unread(&world)), (vec!["once"], 1));
    for wait in ["at once", "after a start", "after 29 days", "and once more"] {
        match wait {
            "after a start" => {
                world.crash_now(BOB);
                world.settle();
            }
            "after 29 days" => {
                // Nobody calls for a month; then there is time to forget what is old enough.
                (0..2).for_each(|who| world.kill(who));
                world.now.monotonic = world.now.monotonic.plus(DAY * 29);
                world.now.wall = Wall::from_millis(world.now.wall.as_millis() + DAY.as_millis() as u64 * 29);
                (0..2).for_each(|who| world.open(who));
                world.advance(Duration::from_secs(3_600));
            }
            _ => {}
        }
        world.inject(thread, author, envelope.clone());
        world.advance(Duration::from_secs(10));
        assert_eq!((world.history(BOB, thread), unread(&world)), (vec!["once".to_owned()], 1), "{wait}");
        assert_eq!(world.events(BOB, |event| matches!(event, Event::Shown(_))), 1, "{wait}");
        assert_eq!(world.events(BOB, |event| matches!(event, Event::Unreadable { .. })), 0, "{wait}");
        assert_eq!(world.stands(BOB, thread), Some((Standing::Open, 1, 2)), "{wait}");
        let places = world.relay.threads[&thread].1.len() as u64;
        assert_eq!(world.relay.accounts[&account].cursors[&LogRef::Thread(thread)].get(), places, "{wait}");
    }
    // And the thread goes on.
    world.say(ALICE, thread, "and on");
    assert_eq!(world.history(BOB, thread), ["once", "and on"]);
}

#[test]
fn t32_whatever_a_stranger_sends_past_the_relay_is_refused_by_the_node_unopened() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let thread = world.befriend(ALICE, BOB);
    world.say(ALICE, thread, "friends");
    world.listen(ALICE);
    let threads = views::threads(world.store(ALICE)).unwrap().len();
    // By a dial: no link, so no message, offer or call either.
    world.link(CAROL, ALICE);
    world.settle();
    assert!(!world.is_linked(CAROL, ALICE));
    // By a word on a link that somebody else has for good reason: into a thread nobody here knows, and into one they do.
    world.link(BOB, ALICE);
    world.settle();
    let link = *world.people[ALICE].direct.keys().next().unwrap();
    let unknown = ThreadId::from_bytes([32; 32]);
    let envelope =
        |thread| Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: b"open me".repeat(20) };
    for thread in [unknown, thread] {
        let frame = Frame::DirectEnvelope(DirectEnvelope { envelope: envelope(thread) });
        world.input(ALICE, Input::Frame { link, frame });
        world.settle();
    }
    // By a relay that lets it through: as of a thread it is in, and one it is not in.
    let carol = world.id(CAROL);
    world.inject(thread, carol, envelope(thread));
    let alice = world.id(ALICE);
    world.mailbox(alice).pushed.insert(LogRef::Thread(unknown), Sequence::new(1));
    world.say_to(
        ALICE,
        Push {
            log: LogRef::Thread(unknown),
            after: Sequence::ZERO,
            upto: Sequence::new(1),
            entries: vec![Entry { sequence: Sequence::new(1), body: EntryBody::Envelope(carol, envelope(unknown)) }],
            gone: None,
        },
    );
    world.settle();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.history(ALICE, thread), ["friends"]);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Shown(_))), 0);
    assert_eq!(views::threads(world.store(ALICE)).unwrap().len(), threads);
    assert_eq!(world.stands(ALICE, unknown), None);
    // What came past the relay left no trace; of what the relay let through, its owner is told once each.
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::Unreadable { .. })), 1);
    // Nor is a stranger let in whom a common friend brought into a group: by their key Alice knows them now.
    world.befriend(CAROL, BOB);
    let people = vec![world.people[ALICE].account, world.people[CAROL].account];
    world.ask(BOB, Command::SendTo { people, text: "all of you".to_owned() }).unwrap();
    world.link(CAROL, ALICE);
    world.settle();
    assert!(!world.is_linked(CAROL, ALICE));
    // Nobody stops for it.
    world.say(BOB, thread, "still");
    assert_eq!(world.shown(ALICE), ["all of you", "still"]);
}

/// The log of somebody's account with one more device in it, in an entry that is right but for who signed it.
fn with_another_device(world: &World<StandInEngine>, of: usize, signer: &KeyPair) -> Vec<u8> {
    let (known, mut log) = (world.log_there(of), world.log_there(of));
    let owner = Identity::load(world.store(of)).unwrap().identity_key().unwrap();
    let [device, transport] = [31, 32].map(|byte| KeyPair::from_seed_bytes([byte; 32]));
    let (index, hlc) = (log.next_index(), Hlc::default().tick(world.now.wall));
    let proof = TransportProof::make(&transport, log.account(), index, &device.public());
    log.add_device(&owner, index, device.public(), proof, "another", hlc).unwrap();
    // One entry: a map of a body and its signature, which comes last.
    let tail = log.tail(known.head().0);
    let mut decoder = minicbor::Decoder::new(&tail);
    assert_eq!(decoder.array().unwrap(), Some(1));
    let entry = decoder.bytes().unwrap();
    let mut decoder = minicbor::Decoder::new(entry);
    assert_eq!((decoder.map().unwrap(), decoder.u8().unwrap()), (Some(2), 0));
    let signature = signer.sign("whimbrel account log entry 1", decoder.bytes().unwrap());
    let mut bytes = log.bytes();
    let place = bytes.len() - Signature::LEN;
    bytes[place..].copy_from_slice(signature.as_bytes());
    bytes
}

#[test]
fn t08_a_device_that_a_relay_signed_for_is_believed_by_no_contact_and_by_no_device_of_its_owner() {
    let (mut world, thread, phone) = two_devices();
    let alice = world.people[ALICE].account;
    let genuine = world.log_there(ALICE).bytes();
    let invite = world.invite(ALICE);
    let forged = with_another_device(&world, ALICE, &KeyPair::from_seed_bytes([66; 32]));
    let devices = |world: &World<StandInEngine>, by: usize| {
        views::keys(world.store(by), &alice).unwrap().map(|keys| keys.devices.len())
    };
    let shows = |world: &mut World<StandInEngine>, log: &[u8]| {
        world.relay.accounts.get_mut(&alice).unwrap().log = log.to_vec();
    };
    let look = Command::Befriend { who: Who::Account(alice, "a.example".parse().unwrap()), note: None };
    // Whoever knows her, and whoever comes to know her.
    shows(&mut world, &forged);
    let answers = [world.ask(BOB, look.clone()), world.ask(CAROL, Command::AcceptInvite(invite.clone()))];
    assert!(answers.iter().all(|one| matches!(one, Err(CommandError::Untrusted(_)))), "{answers:?}");
    assert_eq!((devices(&world, BOB), devices(&world, CAROL)), (Some(2), None));
    // Her own devices, whatever their relay says that their account is.
    let changes = |event: &Event| matches!(event, Event::AccountChanged { .. });
    let before = [ALICE, phone].map(|who| world.events(who, changes));
    for who in [ALICE, phone] {
        world.say_to(who, OwnLog { log: forged.clone() });
    }
    world.settle();
    assert_eq!([ALICE, phone].map(|who| world.events(who, changes)), before);
    for who in [ALICE, phone] {
        assert_eq!(views::devices(world.store(who)).unwrap().len(), 2, "{who}");
    }
    // Nothing that is said is sealed to it.
    shows(&mut world, &genuine);
    world.say(BOB, thread, "to both");
    world.advance(Duration::from_secs(10));
    assert_eq!(views::leaves(world.store(BOB), &thread).unwrap().len(), 3);
    assert_eq!(
        (world.history(ALICE, thread), world.history(phone, thread)),
        (vec!["to both".to_owned()], vec!["to both".to_owned()])
    );
    assert!(matches!(world.ask(CAROL, Command::AcceptInvite(invite)), Ok(Reply::Contact { .. })));
    // It was the signature: what her own key signed is believed.
    let owner = Identity::load(world.store(ALICE)).unwrap().identity_key().unwrap();
    let owned = with_another_device(&world, ALICE, &owner);
    shows(&mut world, &owned);
    world.ask(BOB, look).unwrap();
    assert_eq!(devices(&world, BOB), Some(3));
}

#[test]
fn t08_whoever_is_shown_as_their_own_account_what_is_none_of_theirs_is_told_and_not_with_each_answer() {
    let (mut world, thread, phone) = two_devices();
    let genuine = world.log_there(ALICE).bytes();
    let forged = with_another_device(&world, ALICE, &KeyPair::from_seed_bytes([66; 32]));
    let nothing =
        [b"no log at all".to_vec(), genuine[..genuine.len() - 1].to_vec(), world.log_there(BOB).bytes(), forged];
    let told = |event: &Event| matches!(event, Event::OwnLogForged { .. });
    for who in [ALICE, phone] {
        assert_eq!(views::own_log_forged(world.store(who)).unwrap(), None, "{who}");
        for log in nothing.iter().cycle().take(40) {
            world.say_to(who, OwnLog { log: log.clone() });
            world.settle();
        }
        assert_eq!(world.events(who, told), 1, "{who}");
        assert_eq!(views::own_log_forged(world.store(who)).unwrap(), Some(world.now.wall), "{who}");
    }
    // Nor after each start.
    world.crash_now(ALICE);
    world.advance(Duration::from_secs(3_600));
    world.say_to(ALICE, OwnLog { log: nothing[0].clone() });
    world.settle();
    assert_eq!(world.events(ALICE, told), 1);
    // Whoever goes on with it is told of again a day later, whatever kind it is.
    for (day, log) in (2..).zip(&nothing) {
        world.advance(DAY);
        world.say_to(ALICE, OwnLog { log: log.clone() });
        world.settle();
        assert_eq!(world.events(ALICE, told), day);
        assert_eq!(views::own_log_forged(world.store(ALICE)).unwrap(), Some(world.now.wall));
    }
    // A log that is theirs is no news, and what is theirs is as it was.
    world.advance(DAY);
    world.say_to(ALICE, OwnLog { log: genuine });
    world.settle();
    assert_eq!(world.events(ALICE, told), 5);
    assert_eq!(views::devices(world.store(ALICE)).unwrap().len(), 2);
    world.say(BOB, thread, "to both");
    world.advance(Duration::from_secs(10));
    assert_eq!((world.shown(ALICE), world.shown(phone)), (vec!["to both"], vec!["to both"]));
}

#[test]
fn t35_what_a_member_hands_in_again_or_seals_again_is_shown_once_and_never_as_anothers() {
    let (mut world, thread) = group();
    let (alice, carol) = (world.id(ALICE), world.id(CAROL));
    let content = |n: u8, text: &str| {
        let hlc = Hlc::default().tick(Wall::from_millis(world.now.wall.as_millis() + u64::from(n)));
        encode_words(&Content::new(MessageId::from_bytes([n; 16]), hlc, Body::Text(text.to_owned())))
    };
    let (once, later) = (content(1, "once"), content(2, "later"));
    // The same signed words under two generations, as whoever has the group's secrets can seal them.
    let genuine = seal_as(&mut world, ALICE, thread, &[&once, &once, &later]);
    let hers = seal_as(&mut world, CAROL, thread, &[&later, &later]);
    world.kill(ALICE);
    world.kill(CAROL);
    let shown = |world: &World<StandInEngine>, by: DeviceId| {
        let shown = world.people[BOB].shown.iter().filter(|message| message.author == by);
        shown.map(|message| message.text.clone()).collect::<Vec<_>>()
    };
    for round in 0..2 {
        for submitter in [alice, carol, alice] {
            for envelope in &genuine[..2] {
                world.inject(thread, submitter, envelope.clone());
            }
        }
        assert_eq!((shown(&world, alice), shown(&world, carol)), (vec!["once".to_owned()], Vec::new()), "{round}");
        // What was seen is known after a start, too.
        world.crash_now(BOB);
        world.advance(Duration::from_secs(60));
    }
    // Whoever is faster with another's words under their id says them in their own name, once, and is in nobody's way.
    for envelope in &hers {
        world.inject(thread, alice, envelope.clone());
        world.inject(thread, carol, envelope.clone());
    }
    world.inject(thread, alice, genuine[2].clone());
    world.advance(Duration::from_secs(10));
    assert_eq!(shown(&world, alice), ["once", "later"]);
    assert_eq!(shown(&world, carol), ["later"]);
    assert_eq!(world.history(BOB, thread).len(), 3);
    assert_eq!(views::thread(world.store(BOB), &thread).unwrap().unwrap().unread, 3);
}
