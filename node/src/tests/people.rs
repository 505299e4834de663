//! Friendship, presence, cards, settings, and what a relay keeps of its owner.

use std::time::Duration;

use whimbrel_crypto::{KeyPair, ParticipantsKey, StandInEngine, signed};
use whimbrel_protocol::Frame;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::friendship::{Act, FRIENDSHIP_CONTEXT, FriendshipWord, Standing};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, InviteToken, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::Status;
use whimbrel_protocol::push::{EntryBody, Undelivered};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::ThreadSettings;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{CARD_CONTEXT, Card, Who};
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::{Batch, OrderedKv as _};

use super::world::{ALICE, BOB, CAROL, Relay, World, friends, world};
use crate::api::{Command, CommandError, Event, Input, Reply, SettingsChange, State};
use crate::rows::{self, AccountRow};
use crate::views::{self, Friendship};

type Net = World<StandInEngine>;

fn who(world: &Net, person: usize) -> Who {
    Who::Address(views::account(world.store(person)).unwrap().address.unwrap())
}

fn request(world: &mut Net, from: usize, to: usize) -> Result<Reply, CommandError> {
    let who = who(world, to);
    world.ask(from, Command::Befriend { who, note: Some("hello".to_owned()) })
}

fn standing(reply: Result<Reply, CommandError>) -> Option<Standing> {
    match reply.unwrap() {
        Reply::Friend { standing, .. } => standing,
        other => panic!("{other:?}"),
    }
}

fn known(world: &Net, of: usize, other: usize) -> Option<Friendship> {
    let account = world.people[other].account;
    let friends = views::friends(world.store(of)).unwrap();
    friends.into_iter().find(|friend| friend.account == account).map(|friend| friend.friendship)
}

fn is_contact(world: &Net, of: usize, other: usize) -> bool {
    let account = world.people[other].account;
    views::contacts(world.store(of)).unwrap().iter().any(|contact| contact.account == account)
}

pub(super) fn key_of(world: &Net, person: usize) -> KeyPair {
    let row: AccountRow = rows::get(world.store(person), &rows::account_key()).unwrap().unwrap();
    KeyPair::from_seed_bytes(row.device_key)
}

/// A word of `by` to `to`, signed with a key.
pub(super) fn word(world: &Net, (by, to): (usize, usize), act: Act, at: u64, key: &KeyPair) -> Signed {
    let by = views::account(world.store(by)).unwrap();
    let (device, address) = (DeviceId { account: by.account, index: DeviceIndex::FIRST }, by.address.unwrap());
    let to = world.people[to].account;
    let word = FriendshipWord { by: device, address, to, act, at: Wall::from_millis(at), note: None };
    signed::sign(key, device, FRIENDSHIP_CONTEXT, encode_words(&word))
}

fn slip(world: &mut Net, to: usize, word: Signed) {
    let account = world.people[to].account;
    world.slip(account, word);
    world.settle();
}

fn refused(world: &Net, person: usize) -> usize {
    world.events(person, |event| matches!(event, Event::FriendRefused { .. }))
}

#[test]
fn who_asks_and_who_accepts_can_write_without_an_invite() {
    let mut world = world(&["a.example", "b.example"]);
    assert_eq!(standing(request(&mut world, ALICE, BOB)), Some(Standing::Asked));
    let asked = world.people[BOB].events.iter().find_map(|event| match event {
        Event::FriendRequest { address, note, .. } => Some((address.to_string(), note.clone())),
        _ => None,
    });
    assert_eq!(asked, Some(("alice@a.example".to_owned(), Some("hello".to_owned()))));
    assert!(!is_contact(&world, BOB, ALICE) && !is_contact(&world, ALICE, BOB));
    // Again does no harm.
    assert_eq!(standing(request(&mut world, ALICE, BOB)), Some(Standing::Asked));
    let alice = world.people[ALICE].account;
    assert_eq!(standing(world.ask(BOB, Command::AcceptFriend(alice))), Some(Standing::Friends));
    assert_eq!(standing(world.ask(BOB, Command::AcceptFriend(alice))), Some(Standing::Friends));
    for (one, other) in [(ALICE, BOB), (BOB, ALICE)] {
        assert!(is_contact(&world, one, other));
        assert_eq!(known(&world, one, other), Some(Friendship::Friends));
        assert_eq!(world.events(one, |event| matches!(event, Event::ContactAdded { .. })), 1);
    }
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::FriendAccepted { .. })), 1);
    world.ask(BOB, Command::SendTo { people: vec![alice], text: "no invite".to_owned() }).unwrap();
    assert_eq!(world.shown(ALICE), ["no invite"]);
    // And no longer.
    let bob = world.people[BOB].account;
    assert_eq!(standing(world.ask(ALICE, Command::RemoveFriend(bob))), None);
    assert!(!is_contact(&world, ALICE, BOB) && !is_contact(&world, BOB, ALICE));
    assert_eq!(world.events(BOB, |event| matches!(event, Event::FriendRemoved { .. })), 1);
}

#[test]
fn requests_that_cross_are_an_agreement() {
    let mut world = world(&["a.example", "a.example"]);
    let (alice, bob) = (who(&world, ALICE), who(&world, BOB));
    for (from, who) in [(ALICE, bob), (BOB, alice)] {
        // Neither has heard of the other's.
        world.relay.mute.insert("Push");
        world.ask(from, Command::Befriend { who, note: None }).unwrap();
    }
    world.relay.mute.clear();
    world.push_all();
    world.settle();
    assert!(is_contact(&world, ALICE, BOB) && is_contact(&world, BOB, ALICE));
}

#[test]
fn an_invite_answers_the_request_between_the_two() {
    let mut world = world(&["a.example", "a.example"]);
    request(&mut world, ALICE, BOB).unwrap();
    world.befriend(BOB, ALICE);
    assert_eq!(
        (known(&world, ALICE, BOB), known(&world, BOB, ALICE)),
        (Some(Friendship::Friends), Some(Friendship::Friends))
    );
    let who = who(&world, BOB);
    world.ask(ALICE, Command::Block { who, blocked: true }).unwrap();
    let invite = world.invite(BOB);
    assert!(matches!(world.ask(ALICE, Command::AcceptInvite(invite)), Err(CommandError::State(_))));
}

#[test]
fn t11_a_word_that_its_author_did_not_sign_changes_nothing() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    request(&mut world, ALICE, BOB).unwrap();
    let at = world.now.wall.as_millis() + 1;
    let (relay, carol) = (KeyPair::from_seed_bytes([66; 32]), key_of(&world, CAROL));
    for (count, key) in [relay, carol].into_iter().enumerate() {
        let forged = word(&world, (BOB, ALICE), Act::Accept, at, &key);
        slip(&mut world, ALICE, forged);
        assert_eq!(refused(&world, ALICE), count + 1);
    }
    // Bob's own word, to somebody else; and with another name on it.
    let bob = key_of(&world, BOB);
    let other = word(&world, (BOB, CAROL), Act::Accept, at, &bob);
    slip(&mut world, ALICE, other);
    let mut renamed = word(&world, (BOB, ALICE), Act::Accept, at, &bob);
    let mut read: FriendshipWord = whimbrel_protocol::frame::decode_words(&renamed.content).unwrap();
    read.address = "mallory@a.example".parse().unwrap();
    renamed = signed::sign(&bob, renamed.by, FRIENDSHIP_CONTEXT, encode_words(&read));
    slip(&mut world, ALICE, renamed);
    assert_eq!(refused(&world, ALICE), 4);
    assert_eq!(known(&world, ALICE, BOB), Some(Friendship::Asked));
    assert!(!is_contact(&world, ALICE, BOB));
    // A forged one is in no genuine one's way.
    let genuine = word(&world, (BOB, ALICE), Act::Accept, at, &bob);
    slip(&mut world, ALICE, genuine);
    assert!(is_contact(&world, ALICE, BOB));
}

#[test]
fn an_acceptance_of_nothing_is_refused_and_an_old_word_said_again_is_none() {
    let mut world = world(&["a.example", "a.example"]);
    let (bob, start) = (key_of(&world, BOB), world.now.wall.as_millis());
    let unasked = word(&world, (BOB, ALICE), Act::Accept, start, &bob);
    slip(&mut world, ALICE, unasked);
    assert_eq!((refused(&world, ALICE), known(&world, ALICE, BOB)), (1, None));
    let asks = word(&world, (BOB, ALICE), Act::Request, start + 10, &bob);
    let takes_back = word(&world, (BOB, ALICE), Act::Remove, start + 20, &bob);
    for word in [asks.clone(), takes_back, asks] {
        slip(&mut world, ALICE, word);
    }
    assert_eq!(known(&world, ALICE, BOB), Some(Friendship::None));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::FriendRequest { .. })), 1);
    // Later words that come first win, too.
    let (later, earlier) = (
        word(&world, (BOB, ALICE), Act::Request, start + 40, &bob),
        word(&world, (BOB, ALICE), Act::Remove, start + 30, &bob),
    );
    slip(&mut world, ALICE, later);
    slip(&mut world, ALICE, earlier);
    assert_eq!(known(&world, ALICE, BOB), Some(Friendship::Asking));
}

#[test]
fn a_word_whose_author_cannot_be_looked_up_waits_and_outlives_a_crash() {
    let mut world = world(&["a.example", "a.example"]);
    world.relay.refuse.insert("LookUp", (RefusalCode::PeerUnreachable, None));
    let word = word(&world, (BOB, ALICE), Act::Request, 5, &key_of(&world, BOB));
    slip(&mut world, ALICE, word);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::FriendRequest { .. })), 0);
    world.crash_now(ALICE);
    world.settle();
    world.relay.refuse.clear();
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::FriendRequest { .. })), 1);
    // Declined before it was proved, it never shows.
    world.ask(ALICE, Command::DeclineFriend(None)).unwrap();
    world.relay.refuse.insert("LookUp", (RefusalCode::PeerUnreachable, None));
    let again = self::word(&world, (BOB, ALICE), Act::Request, 6, &key_of(&world, BOB));
    slip(&mut world, ALICE, again);
    world.ask(ALICE, Command::DeclineFriend(Some(world.people[BOB].account))).unwrap();
    world.relay.refuse.clear();
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert_eq!(known(&world, ALICE, BOB), Some(Friendship::None));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::FriendRequest { .. })), 1);
    // For good it is refused.
    world.relay.refuse.insert("LookUp", (RefusalCode::NotFound, None));
    let word = self::word(&world, (BOB, ALICE), Act::Request, 7, &key_of(&world, BOB));
    slip(&mut world, ALICE, word);
    assert_eq!((refused(&world, ALICE), known(&world, ALICE, BOB)), (1, Some(Friendship::None)));
}

#[test]
fn words_that_nobody_can_prove_stand_in_nobody_s_way() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let (bob, carol) = (key_of(&world, BOB), key_of(&world, CAROL));
    world.relay.refuse.insert("LookUp", (RefusalCode::PeerUnreachable, None));
    for at in 0..limits::FRIEND_PAGE_MAX as u64 + 10 {
        let act = if at % 2 == 0 { Act::Request } else { Act::Remove };
        let word = word(&world, (BOB, ALICE), act, 10 + at, &bob);
        slip(&mut world, ALICE, word);
    }
    assert_eq!(refused(&world, ALICE), 10, "the oldest made room");
    let genuine = word(&world, (CAROL, ALICE), Act::Request, 5, &carol);
    slip(&mut world, ALICE, genuine);
    world.relay.refuse.clear();
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    assert_eq!(known(&world, ALICE, CAROL), Some(Friendship::Asking));
    // Of Bob's, in whatever order they were proved, the last one holds.
    assert_ne!(known(&world, ALICE, BOB), Some(Friendship::Asking));
    // What comes later in the inbox log is not held up.
    world.befriend(CAROL, ALICE);
}

#[test]
fn what_was_held_too_long_is_told() {
    let (mut world, thread) = friends();
    let message = world.say(ALICE, thread, "too late");
    let envelopes = world.submits(ALICE).iter().map(|envelope| envelope.id()).collect();
    let (domain, code) = ("a.example".parse().unwrap(), RefusalCode::Expired);
    let undelivered = Undelivered { thread, domain, code, envelopes };
    let account = world.people[ALICE].account;
    world.relay.accounts.get_mut(&account).unwrap().inbox.push(EntryBody::Undelivered(undelivered));
    world.push_all();
    world.settle();
    assert_eq!(world.state(ALICE, message), Some(State::Failed(RefusalCode::Expired)));
    assert_eq!(RefusalCode::Expired.to_string(), "held too long");
}

#[test]
fn asking_while_a_relay_is_away_fails_clearly_and_asking_again_is_harmless() {
    let mut world = world(&["a.example", "b.example"]);
    world.relay_gone();
    assert!(matches!(request(&mut world, ALICE, BOB), Err(CommandError::Unreachable(_))));
    world.relay_back();
    world.relay.refuse.insert("Befriend", (RefusalCode::PeerUnreachable, None));
    let failed = request(&mut world, ALICE, BOB);
    assert_eq!(failed, Err(CommandError::Refused(RefusalCode::PeerUnreachable)));
    world.relay.refuse.clear();
    assert_eq!(standing(request(&mut world, ALICE, BOB)), Some(Standing::Asked));
    let alice = world.people[ALICE].account;
    world.ask(BOB, Command::AcceptFriend(alice)).unwrap();
    assert!(is_contact(&world, ALICE, BOB));
    // A request that is refused for good was none.
    let mut world = self::world(&["a.example", "a.example"]);
    world.relay.refuse.insert("Befriend", (RefusalCode::TooFast, Some(1_000)));
    let after = std::time::Duration::from_secs(1);
    assert_eq!(request(&mut world, ALICE, BOB), Err(CommandError::TooFast { after }));
    world.relay.refuse.insert("Befriend", (RefusalCode::TooFast, None));
    assert_eq!(request(&mut world, ALICE, BOB), Err(CommandError::Refused(RefusalCode::TooFast)));
    world.relay.refuse.insert("Befriend", (RefusalCode::Exists, None));
    assert!(request(&mut world, BOB, ALICE).is_err());
    assert_eq!(known(&world, BOB, ALICE), Some(Friendship::None));
    assert_eq!(world.ask(BOB, Command::AcceptFriend(alice)), Err(CommandError::Unknown));
}

#[test]
fn t10_a_name_that_leads_to_somebody_else_than_before_is_not_trusted() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    request(&mut world, ALICE, BOB).unwrap();
    let (bob, carol) = (world.people[BOB].account, world.people[CAROL].account);
    let log = world.relay.accounts[&carol].log.clone();
    let address = world.relay.accounts[&bob].address.clone();
    world.relay.accounts.remove(&bob);
    let row = world.relay.accounts.get_mut(&carol).unwrap();
    (row.address, row.log) = (address.clone(), log);
    let who = Who::Address(address.unwrap());
    let found = world.ask(ALICE, Command::Befriend { who, note: None });
    assert!(matches!(found, Err(CommandError::Untrusted(_))), "{found:?}");
}

#[test]
fn t10_a_name_that_nobody_has_here_leads_to_nobody_who_is_known_by_another() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    request(&mut world, ALICE, CAROL).unwrap();
    let (bob, carol) = (world.people[BOB].account, world.people[CAROL].account);
    let [hers, his] = [carol, bob].map(|one| world.relay.accounts[&one].address.clone().unwrap());
    world.relay.accounts.remove(&bob);
    world.relay.accounts.get_mut(&carol).unwrap().address = Some(his.clone());
    let found = world.ask(ALICE, Command::Befriend { who: Who::Address(his), note: None });
    assert!(matches!(found, Err(CommandError::Untrusted(_))), "{found:?}");
    assert_eq!(views::address(world.store(ALICE), &carol).unwrap(), Some(hers), "and she is called as before");
}

#[test]
fn declined_and_blocked_people_are_told_nothing_and_change_nothing() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    request(&mut world, BOB, ALICE).unwrap();
    request(&mut world, CAROL, ALICE).unwrap();
    assert_eq!(world.ask(ALICE, Command::DeclineFriend(None)), Ok(Reply::Done));
    for other in [BOB, CAROL] {
        assert_eq!(known(&world, ALICE, other), Some(Friendship::None));
        assert_eq!(known(&world, other, ALICE), Some(Friendship::Asked));
    }
    let who = who(&world, BOB);
    assert_eq!(standing(world.ask(ALICE, Command::Block { who: who.clone(), blocked: true })), Some(Standing::Blocked));
    // The relay lets it through all the same: nothing comes of it.
    let word = word(&world, (BOB, ALICE), Act::Request, u64::MAX / 2, &key_of(&world, BOB));
    slip(&mut world, ALICE, word);
    assert_eq!(known(&world, ALICE, BOB), Some(Friendship::Blocked));
    assert!(matches!(
        world.ask(ALICE, Command::Befriend { who: who.clone(), note: None }),
        Err(CommandError::State(_))
    ));
    assert_eq!(standing(world.ask(ALICE, Command::Block { who, blocked: false })), None);
    let own = self::who(&world, ALICE);
    assert_eq!(world.ask(ALICE, Command::Befriend { who: own, note: None }), Err(CommandError::Oneself));
}

#[test]
fn a_thread_from_somebody_who_is_kept_away_is_not_joined_whatever_the_relay_lets_through() {
    let mut world = world(&["a.example", "a.example", "a.example"]);
    let invite = world.invite(ALICE);
    let who = who(&world, BOB);
    world.ask(ALICE, Command::Block { who, blocked: true }).unwrap();
    let reply = world.ask(BOB, Command::AcceptInvite(invite)).unwrap();
    let Reply::Contact { thread, .. } = reply else { panic!("{reply:?}") };
    world.say(BOB, thread, "here I am");
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::InvitationRefused { .. })), 1);
    assert!(world.shown(ALICE).is_empty() && !is_contact(&world, ALICE, BOB));
    world.befriend(CAROL, ALICE);
    assert!(is_contact(&world, ALICE, CAROL), "nobody else is in its way");
}

#[test]
fn a_list_comes_page_by_page() {
    let mut world = world(&["a.example", "a.example", "a.example", "a.example"]);
    for other in 1..4 {
        request(&mut world, ALICE, other).unwrap();
    }
    world.relay.manners.page = 2;
    let Ok(Reply::Friends(list)) = world.ask(ALICE, Command::Friends) else { panic!("no list") };
    assert_eq!(list.len(), 3);
    assert!(list.iter().all(|friend| friend.standing == Standing::Asked));
    let pages = world.relay.heard.iter().filter(|(_, frame)| matches!(frame, Frame::ListFriends(_))).count();
    assert_eq!(pages, 2);
}

#[test]
fn presence_is_told_as_it_changes_and_ends_with_the_link() {
    let (mut world, _) = friends();
    let (bob, nobody) = (world.people[BOB].account, AccountId::from_bytes([7; 32]));
    let status = |account, online| Status { account, online };
    world.relay.manners.statuses = (3, vec![status(bob, true), status(nobody, true)]);
    assert_eq!(world.ask(ALICE, Command::Presence), Ok(Reply::Presence(vec![bob])));
    world.relay.manners.statuses = (4, vec![status(bob, false)]);
    world.advance(limits::HEARTBEAT_EVERY);
    assert_eq!(world.ask(ALICE, Command::Presence), Ok(Reply::Presence(Vec::new())));
    let told = |event: &Event| matches!(event, Event::Presence { account, .. } if *account == bob);
    assert_eq!(world.events(ALICE, told), 2);
    let named = |(by, frame): &(usize, Frame)| match frame {
        Frame::Heartbeat(words) if *by == ALICE => Some(words.statuses),
        _ => None,
    };
    let versions: Vec<u64> = world.relay.heard.iter().filter_map(named).collect();
    assert!(versions.starts_with(&[0, 3]), "{versions:?}");
    // A new link knows nothing.
    world.relay_gone();
    assert!(matches!(world.ask(ALICE, Command::Presence), Err(CommandError::Unreachable(_))));
    world.relay.manners.statuses = (1, vec![status(bob, true)]);
    world.relay_back();
    let after: Vec<u64> = world.relay.heard.iter().filter_map(named).skip(versions.len()).collect();
    assert_eq!(after.first(), Some(&0), "{after:?}");
    assert_eq!(world.ask(ALICE, Command::SetVisible(false)), Ok(Reply::Done));
}

#[test]
fn no_message_waits_for_or_trusts_what_presence_says() {
    let (mut world, thread) = friends();
    let bob = world.people[BOB].account;
    for online in [true, false] {
        let version = world.relay.manners.statuses.0 + 1;
        world.relay.manners.statuses = (version, vec![Status { account: bob, online }]);
        world.advance(limits::HEARTBEAT_EVERY);
        // Bob is away, whatever is said.
        world.people[BOB].online = false;
        world.lose_home(BOB);
        let message = world.say(ALICE, thread, if online { "one" } else { "two" });
        assert_eq!(world.state(ALICE, message), Some(State::Stored));
        world.people[BOB].online = true;
        world.advance(limits::RELAY_BACKOFF_MAX);
    }
    assert_eq!(world.shown(BOB), ["one", "two"]);
}

#[test]
fn whoever_leaves_in_order_says_goodbye() {
    let mut world = world(&["a.example"]);
    world.input(ALICE, Input::Leave);
    world.settle();
    assert!(world.relay.heard.iter().any(|(_, frame)| matches!(frame, Frame::Goodbye(_))));
    world.relay_gone();
    let heard = world.relay.heard.len();
    world.input(ALICE, Input::Leave);
    world.settle();
    assert_eq!(world.relay.heard.len(), heard);
}

#[test]
fn t11_a_card_holds_by_its_signature_and_never_goes_back() {
    let (mut world, _) = friends();
    let bob = world.people[BOB].account;
    assert_eq!(world.ask(ALICE, Command::Profile(bob)), Err(CommandError::Refused(RefusalCode::NotFound)));
    let set = |display: &str| Command::SetProfile { display: display.to_owned(), about: None };
    let shown = |reply| match reply {
        Ok(Reply::Profile(Card { display, .. })) => display,
        other => panic!("{other:?}"),
    };
    world.ask(BOB, set("Bob")).unwrap();
    let first = world.relay.manners.cards[&bob].clone();
    assert_eq!(shown(world.ask(ALICE, Command::Profile(bob))), "Bob");
    world.ask(BOB, set("Robert")).unwrap();
    assert_eq!(shown(world.ask(ALICE, Command::Profile(bob))), "Robert");
    // The relay shows the old one again.
    world.relay.manners.cards.insert(bob, first);
    assert_eq!(shown(world.ask(ALICE, Command::Profile(bob))), "Robert");
    // And one of its own.
    let card = Card { account: bob, revision: u64::MAX, display: "Mallory".to_owned(), about: None };
    let by = world.id(BOB);
    let forged = signed::sign(&KeyPair::from_seed_bytes([66; 32]), by, CARD_CONTEXT, encode_words(&card));
    world.relay.manners.cards.insert(bob, forged);
    assert!(matches!(world.ask(ALICE, Command::Profile(bob)), Err(CommandError::Untrusted(_))));
    assert_eq!(views::card(world.store(ALICE), &bob).unwrap().unwrap().display, "Robert");
    let long = world.ask(BOB, set(&"x".repeat(limits::DISPLAY_BYTES_MAX + 1)));
    assert!(matches!(long, Err(CommandError::TooLong { .. })), "{long:?}");
}

#[test]
fn settings_are_kept_here_at_once_and_at_the_relay_sealed() {
    let (mut world, thread) = friends();
    let change = |change| Command::SetThread { thread, change };
    let until = Wall::from_millis(1_800_000_000_000);
    world.relay_gone();
    let label = SettingsChange::Label(Some("the team".to_owned()));
    for setting in [label, SettingsChange::MutedUntil(until), SettingsChange::Pinned(true)] {
        assert_eq!(world.ask(ALICE, change(setting)), Ok(Reply::Done));
    }
    world.crash_now(ALICE);
    let settings = views::settings(world.store(ALICE), &thread).unwrap();
    assert_eq!((settings.label.as_deref(), settings.pinned, settings.kept), (Some("the team"), true, false));
    world.relay.refuse.insert("SetThread", (RefusalCode::TooFast, Some(2_000)));
    world.relay_back();
    assert!(world.relay.manners.settings.is_empty());
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(5));
    assert!(views::settings(world.store(ALICE), &thread).unwrap().kept);
    let at_relay = &world.relay.manners.settings[&thread];
    assert_eq!((at_relay.quiet_until, at_relay.sealed.len()), (until, limits::THREAD_SETTINGS_BYTES_MAX));
    assert!(!at_relay.sealed.windows(8).any(|part| part == b"the team"));
    let row: AccountRow = rows::get(world.store(ALICE), &rows::account_key()).unwrap().unwrap();
    let key = ParticipantsKey::from_bytes(row.participants_key).settings_key();
    let opened = key.open(&thread, &at_relay.sealed).unwrap();
    assert!(opened.windows(8).any(|part| part == b"the team"));
    let too_long = SettingsChange::Label(Some("x".repeat(limits::THREAD_LABEL_BYTES_MAX + 1)));
    assert!(matches!(world.ask(ALICE, change(too_long)), Err(CommandError::TooLong { .. })));
    // The longest label there is fits what is sealed.
    world.ask(ALICE, change(SettingsChange::Label(Some("x".repeat(limits::THREAD_LABEL_BYTES_MAX))))).unwrap();
    world.settle();
    let sealed = &world.relay.manners.settings[&thread].sealed;
    assert!(key.open(&thread, sealed).unwrap().len() > limits::THREAD_LABEL_BYTES_MAX);
}

/// A device without them, as a new one is: the row is gone, the keys are there.
fn without_settings(world: &mut Net, thread: &ThreadId) {
    let mut batch = Batch::new();
    batch.delete(rows::settings_key(thread));
    world.store(ALICE).apply(&batch).unwrap();
    world.store(ALICE).sync().unwrap();
    world.crash_now(ALICE);
    world.settle();
}

#[test]
fn a_device_without_settings_takes_back_what_the_relay_keeps_and_nobody_elses() {
    let (mut world, thread) = friends();
    let change = |change| Command::SetThread { thread, change };
    let until = Wall::from_millis(1_800_000_000_000);
    let label = SettingsChange::Label(Some("the team".to_owned()));
    for setting in [label, SettingsChange::MutedUntil(until), SettingsChange::Archived(true)] {
        world.ask(ALICE, change(setting)).unwrap();
    }
    world.settle();
    // Another thread on another page, and bytes that nobody's key opens.
    let other = ThreadId::from_bytes([250; 32]);
    let rubbish = ThreadSettings { sealed: vec![7; limits::THREAD_SETTINGS_BYTES_MAX], quiet_until: Wall::default() };
    world.relay.manners.settings.insert(other, rubbish);
    without_settings(&mut world, &thread);
    let settings = views::settings(world.store(ALICE), &thread).unwrap();
    assert_eq!((settings.label.as_deref(), settings.muted_until, settings.archived), (Some("the team"), until, true));
    assert!(settings.kept);
    assert_eq!(views::settings(world.store(ALICE), &other).unwrap(), views::Settings::default());
    world.crash_now(BOB);
    world.settle();
    assert_eq!(views::settings(world.store(BOB), &thread).unwrap(), views::Settings::default());
}

#[test]
fn what_was_changed_here_and_not_handed_in_is_not_replaced_by_what_the_relay_keeps() {
    let (mut world, thread) = friends();
    let pin = |pinned| Command::SetThread { thread, change: SettingsChange::Pinned(pinned) };
    for pinned in [true, false, true] {
        world.ask(ALICE, pin(pinned)).unwrap();
        world.settle();
    }
    let newest = world.relay.manners.settings[&thread].clone();
    // A device that knows less than the relay keeps, and whose owner decides while there is no relay.
    world.relay_gone();
    without_settings(&mut world, &thread);
    world.ask(ALICE, pin(false)).unwrap();
    world.crash_now(ALICE);
    world.relay_back();
    world.advance(Duration::from_secs(30));
    assert!(!views::settings(world.store(ALICE), &thread).unwrap().pinned);
    assert_ne!(world.relay.manners.settings[&thread], newest, "it was handed in");
    // And an older one that a relay brings up again changes nothing.
    world.relay.manners.settings.insert(thread, newest);
    world.crash_now(ALICE);
    world.settle();
    assert!(!views::settings(world.store(ALICE), &thread).unwrap().pinned);
}

#[test]
fn open_invites_are_listed_and_taken_back() {
    let mut world = world(&["a.example", "a.example"]);
    let (one, two) = (world.invite(ALICE), world.invite(ALICE));
    let count = |world: &mut Net| match world.ask(ALICE, Command::Invites) {
        Ok(Reply::Invites(invites)) => invites.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(&mut world), 2);
    assert_eq!(world.ask(ALICE, Command::RevokeInvite(one.token.hash())), Ok(Reply::Done));
    assert_eq!(count(&mut world), 1);
    assert!(world.ask(BOB, Command::AcceptInvite(one)).is_err());
    world.ask(BOB, Command::AcceptInvite(two)).unwrap();
}

#[test]
fn own_data_comes_in_parts_to_the_end() {
    let mut world = world(&["a.example"]);
    let (mut after, mut parts) = (Vec::new(), 0);
    while let Ok(Reply::Exported { rows, next }) = world.ask(ALICE, Command::Export { after: after.clone() }) {
        assert_eq!(rows.len(), 1);
        parts += 1;
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(parts, 3);
    let endpoint = WakeEndpoint { url: "https://push.example/x".to_owned(), key: vec![4; 65], auth: [1; 16] };
    assert_eq!(world.ask(ALICE, Command::SetWake(Some(endpoint.clone()))), Ok(Reply::Done));
    assert_eq!(world.ask(ALICE, Command::ConfirmWake([2; 16])), Ok(Reply::Done));
    assert_eq!(world.ask(ALICE, Command::SetWake(None)), Ok(Reply::Done));
    let key = vec![4; 66];
    let refused = world.ask(ALICE, Command::SetWake(Some(WakeEndpoint { key, ..endpoint })));
    assert!(matches!(refused, Err(CommandError::TooLong { .. })), "{refused:?}");
}

#[test]
fn a_deleted_account_is_asked_for_no_more() {
    let (mut world, thread) = friends();
    world.say(BOB, thread, "kept here");
    assert_eq!(world.ask(ALICE, Command::DeleteAccount), Ok(Reply::Done));
    assert_eq!(world.events(ALICE, |event| *event == Event::AccountDeleted), 1);
    let heard = world.relay.heard.iter().filter(|(who, _)| *who == ALICE).count();
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    world.crash_now(ALICE);
    world.advance(limits::RELAY_BACKOFF_MAX * 2);
    assert_eq!(world.relay.heard.iter().filter(|(who, _)| *who == ALICE).count(), heard);
    assert_eq!(world.events(ALICE, |event| *event == Event::AccountDeleted), 2);
    let refused = world.ask(ALICE, Command::Invites);
    assert_eq!(refused, Err(CommandError::Refused(RefusalCode::NotAuthenticated)));
    assert_eq!(world.history(ALICE, thread), ["kept here"]);
}

#[test]
fn an_account_whose_relay_did_not_get_to_say_that_it_is_deleted_is_deleted_all_the_same() {
    for dies in [false, true] {
        let (mut world, _) = friends();
        // One that was refused was not done, and being refused at the door later is another matter.
        world.relay.refuse.insert("DeleteAccount", (RefusalCode::Busy, Some(1_000)));
        assert!(world.ask(ALICE, Command::DeleteAccount).is_err());
        world.relay.refuse.clear();
        let kept = world.relay.accounts.remove(&world.people[ALICE].account).unwrap();
        world.crash_now(ALICE);
        world.advance(limits::RELAY_BACKOFF_MAX * 2);
        assert_eq!(world.events(ALICE, |event| *event == Event::AccountDeleted), 0);
        world.relay.accounts.insert(world.people[ALICE].account, kept);
        world.advance(limits::RELAY_BACKOFF_MAX * 2);

        world.relay.mute.insert("DeleteAccount");
        let asked = world.command(ALICE, Command::DeleteAccount);
        world.relay.accounts.remove(&world.people[ALICE].account);
        if dies {
            world.crash_now(ALICE);
        } else {
            world.lose_home(ALICE);
            world.settle();
            assert!(matches!(world.answer(ALICE, asked), Some(Err(CommandError::Unreachable(_)))));
        }
        world.advance(limits::RELAY_BACKOFF_MAX * 2);
        assert_eq!(world.events(ALICE, |event| *event == Event::AccountDeleted), 1, "{dies}");
        assert_eq!(world.ask(ALICE, Command::DeleteAccount), Ok(Reply::Done));
    }
}

#[test]
fn an_invitation_to_register_is_shown_to_the_relay() {
    let mut relay = Relay::default();
    relay.refuse.insert("Register", (RefusalCode::RegistrationClosed, None));
    let mut world = World::around(relay, &["a.example"], StandInEngine::new);
    let token = InviteToken::from_bytes([3; 16]);
    world.people[ALICE].config.registration = Some(token);
    world.relay.refuse.clear();
    world.crash_now(ALICE);
    world.settle();
    let shown = |(_, frame): &(usize, Frame)| match frame {
        Frame::Register(words) => Some(words.invite),
        _ => None,
    };
    let shown: Vec<_> = world.relay.heard.iter().filter_map(shown).collect();
    assert_eq!(shown, [None, Some(token)]);
}

#[test]
fn a_device_that_is_sent_on_goes_there_not_in_circles_and_comes_back() {
    let mut world = world(&["a.example"]);
    world.relay.manners.push_address = Some(("10.0.0.9:4433".to_owned(), 1));
    world.relay_gone();
    world.people[ALICE].connects.clear();
    world.relay_back();
    assert_eq!(world.people[ALICE].connects.last().map(String::as_str), Some("10.0.0.9:4433"));
    assert!(matches!(world.ask(ALICE, Command::Invites), Ok(Reply::Invites(_))), "served there");
    // Where it is sent is lost: it starts again at home.
    world.people[ALICE].connects.clear();
    world.lose_home(ALICE);
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert_eq!(world.people[ALICE].connects.first().map(String::as_str), Some("127.0.0.1:1"));
    // Sent on for ever, whatever it says, it stops, and begins anew each time.
    world.relay.manners.deaf = true;
    world.relay.manners.push_address = Some(("10.0.0.9:4433".to_owned(), 9));
    world.people[ALICE].connects.clear();
    world.lose_home(ALICE);
    world.advance(limits::RELAY_BACKOFF_MAX * 3);
    let connects = &world.people[ALICE].connects;
    assert_eq!(connects.iter().take(4).filter(|at| *at == "10.0.0.9:4433").count(), 3);
    assert_eq!(connects.get(4).map(String::as_str), Some("127.0.0.1:1"));
    assert!(matches!(world.ask(ALICE, Command::Invites), Ok(Reply::Invites(_))), "served in the end");
    world.relay.manners.push_address = Some(("no address".to_owned(), 1));
    world.people[ALICE].connects.clear();
    world.lose_home(ALICE);
    world.advance(limits::RELAY_BACKOFF_MAX);
    assert!(world.people[ALICE].connects.iter().all(|at| at == "127.0.0.1:1"));
}

#[test]
fn a_device_that_is_sent_to_nobody_or_in_circles_comes_back_at_once_says_so_and_is_served() {
    const THERE: &str = "10.0.0.9:4433";
    for (nobody, asked) in [(true, 1), (false, 3)] {
        let mut world = world(&["a.example"]);
        world.relay_gone();
        world.relay.manners.push_address = Some((THERE.to_owned(), 99));
        world.relay.manners.nobody_at = nobody.then(|| THERE.to_owned());
        world.people[ALICE].connects.clear();
        world.relay.heard.clear();
        world.relay_back();
        // No time passes but what it takes to be tried.
        world.advance(Duration::ZERO);
        let connects = &world.people[ALICE].connects;
        assert_eq!(connects.iter().filter(|at| *at == THERE).count(), asked, "{connects:?}");
        assert_eq!(connects.last().map(String::as_str), Some("127.0.0.1:1"));
        assert!(matches!(world.ask(ALICE, Command::Invites), Ok(Reply::Invites(_))), "served where it came in");
        let stays = |world: &World<_>| -> Vec<bool> {
            let said = |(_, frame): &(usize, Frame)| match frame {
                Frame::Hello(words) => Some(words.stays),
                _ => None,
            };
            world.relay.heard.iter().filter_map(said).collect()
        };
        let said = stays(&world);
        assert_eq!((said.last(), said.iter().filter(|stays| **stays).count()), (Some(&true), 1), "{said:?}");
        // The address works again: with the next link it is sent there, and goes.
        world.relay.manners.nobody_at = None;
        world.relay.manners.push_address = Some((THERE.to_owned(), 1));
        world.people[ALICE].connects.clear();
        world.lose_home(ALICE);
        world.advance(limits::RELAY_BACKOFF_MAX);
        assert_eq!(world.people[ALICE].connects, ["127.0.0.1:1", THERE]);
        assert_eq!(stays(&world).last(), Some(&false));
    }
}

#[test]
fn too_fast_is_tried_again_like_busy() {
    let (mut world, thread) = friends();
    for retry_after_ms in [None, Some(3_000)] {
        world.relay.refuse.insert("Submit", (RefusalCode::TooFast, retry_after_ms));
        let message = world.say(ALICE, thread, "in time");
        assert_eq!(world.state(ALICE, message), Some(State::Queued));
        world.relay.refuse.clear();
        world.advance(limits::RETRY_DELAY);
        // Its receipt may have come by then, too.
        assert!(matches!(world.state(ALICE, message), Some(State::Stored | State::Delivered)));
    }
}

#[test]
fn of_many_that_came_too_fast_one_is_tried_again_and_more_as_the_relay_takes_them() {
    let (mut world, thread) = friends();
    world.lose_home(ALICE);
    let all: Vec<_> = (0..20).map(|n| world.say(ALICE, thread, &format!("line {n}"))).collect();
    world.relay.refuse.insert("Submit", (RefusalCode::TooFast, Some(60_000)));
    let before = world.submits(ALICE).len();
    world.advance(limits::RELAY_BACKOFF_MAX);
    // Nobody knew before.
    let first = world.submits(ALICE).len();
    assert_eq!(first - before, 20);
    world.advance(Duration::from_secs(61));
    let again = world.submits(ALICE).len() - first;
    assert!((1..=2).contains(&again), "{again}: all but the first would only be refused, each time");
    world.relay.refuse.clear();
    world.advance(Duration::from_secs(61));
    let there = |state| matches!(state, Some(State::Stored | State::Delivered));
    assert!(all.iter().all(|message| there(world.state(ALICE, *message))));
    let texts = world.submits(ALICE).len() - first;
    assert!((21..=27).contains(&texts), "{texts}: each once, and what else was said");
}
