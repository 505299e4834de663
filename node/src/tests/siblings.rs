//! One person's devices: linking, what they hold together, the history of a new one; crashes at every persist point.

use std::time::Duration;

use whimbrel_crypto::{Chance, Engine, LinkingCode, Seed, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{DeviceId, DeviceIndex, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::linking::LinkingWords;
use whimbrel_protocol::message::Target;
use whimbrel_protocol::reception::{Done, Refused};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::{SiblingTold, TellSibling};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Kv, MemoryEngine, MemoryKv, OrderedKv as _, Overlay};

use super::world::{ALICE, BOB, CAROL, Crash, Person, World, relay_link, world};
use crate::api::{Command, CommandError, Config, Event, Reply, SettingsChange};
use crate::linking::{Heard, Newcomer};
use crate::rows;
use crate::views::{self, Page, Trust};

/// A device that is being linked: no node yet.
pub(super) struct Coming {
    newcomer: Newcomer,
    chance: Chance,
    disk: MemoryEngine,
    store: MemoryKv,
    added: bool,
}

impl<E: Engine> World<E> {
    /// What the relay does with words for a sibling.
    pub(super) fn tell_sibling(&mut self, who: usize, words: TellSibling) {
        let TellSibling { request, to, bytes } = words;
        let other = DeviceId { account: self.people[who].account, index: to };
        let there = (0..self.people.len()).find(|one| self.id(*one) == other && self.people[*one].home.is_some());
        match there.filter(|there| *there != who) {
            Some(there) => {
                let from = self.people[who].index;
                self.say_to(there, SiblingTold { from, bytes });
                self.say_to(who, Done { request });
            }
            None => {
                let (request, code) = (Some(request), RefusalCode::NotFound);
                self.say_to(who, Refused { request, code, retry_after_ms: None });
            }
        }
    }

    /// The device that is to come hears its approver.
    pub(super) fn newcomer_hears(&mut self, approver: usize, words: &LinkingWords) {
        let Some(mut coming) = self.newcomer.take() else { return };
        let meeting = words.meeting;
        let said = match coming.newcomer.hear(&words.bytes, self.now).unwrap() {
            Heard::Nothing => Vec::new(),
            Heard::Say(said) => said,
            Heard::Granted(granted) => {
                coming.store.apply(&granted.batch).unwrap();
                coming.store.sync().unwrap();
                let (mut left, mut all) = (granted.packages, Vec::new());
                let mut ahead = self.now;
                ahead.wall = Wall::from_millis(ahead.wall.as_millis() + self.newcomer_ahead.as_millis() as u64);
                while left > 0 {
                    let mut overlay = Overlay::new(&coming.store);
                    let mut engine = (self.engine)();
                    let made = coming.newcomer.packages(&mut engine, &mut overlay, &mut coming.chance, ahead, left);
                    let (said, after) = made.unwrap();
                    let batch = overlay.into_batch();
                    coming.store.apply(&batch).unwrap();
                    coming.store.sync().unwrap();
                    all.extend(said);
                    left = after;
                }
                all
            }
            Heard::Added => {
                coming.added = true;
                Vec::new()
            }
        };
        self.newcomer = Some(coming);
        said.into_iter().for_each(|bytes| self.say_to(approver, LinkingWords { meeting, bytes }));
    }

    /// Begins the linking of another device; its approver's answer comes with the ticket.
    pub(super) fn begin_linking(&mut self, approver: usize, limited: bool) -> u64 {
        let n = self.people.len() as u8;
        let mut chance = Chance::from_seed(Seed::from_bytes([200 + n; 32]));
        let code = LinkingCode::generate(&mut chance);
        let newcomer = Newcomer::new(&code, relay_link("a.example"), &format!("device {n}"), &mut chance).unwrap();
        let disk = MemoryEngine::new();
        let store = Kv::open(disk.clone(), None).unwrap();
        self.newcomer = Some(Coming { newcomer, chance, disk, store, added: false });
        self.command(approver, Command::ApproveDevice { code, limited })
    }

    /// The device that was linked runs from now on.
    pub(super) fn run_newcomer(&mut self) -> Option<usize> {
        let Coming { disk, store, .. } = self.newcomer.take()?;
        let own = views::account(&store).ok()?;
        self.people.push(Person {
            disk,
            transport: own.transport,
            store: Some(store),
            node: None,
            config: Config::default(),
            account: own.account,
            index: own.device.index,
            home: None,
            direct: Default::default(),
            events: Vec::new(),
            shown: Vec::new(),
            answers: Default::default(),
            crash: None,
            dials: Vec::new(),
            connects: Vec::new(),
            online: true,
        });
        let who = self.people.len() - 1;
        self.open(who);
        self.settle();
        Some(who)
    }

    /// Links another device, and lets it run until it has what it is to have.
    pub(super) fn link_device(&mut self, approver: usize, limited: bool) -> usize {
        let ticket = self.begin_linking(approver, limited);
        assert_eq!(self.answer(approver, ticket), Some(Ok(Reply::Done)));
        assert!(self.newcomer.as_ref().unwrap().added);
        let who = self.run_newcomer().unwrap();
        self.advance(Duration::from_secs(60));
        who
    }

    fn texts(&self, who: usize, thread: ThreadId) -> Vec<String> {
        self.history(who, thread)
    }

    pub(super) fn unread(&self, who: usize, thread: ThreadId) -> u64 {
        views::unread(self.store(who), &thread).unwrap()
    }

    pub(super) fn trust(&self, who: usize, of: usize) -> Option<Trust> {
        let account = self.people[of].account;
        let contacts = views::contacts(self.store(who)).unwrap();
        contacts.into_iter().find(|contact| contact.account == account).map(|contact| contact.trust)
    }

    pub(super) fn read_all(&mut self, who: usize, thread: ThreadId) {
        let unread = views::unread_messages(self.store(who), &thread, 1_000).unwrap();
        let upto = unread.last().unwrap().message;
        self.ask(who, Command::MarkRead { thread, upto }).unwrap();
    }

    pub(super) fn full(&self, who: usize) -> bool {
        views::account(self.store(who)).unwrap().full
    }
}

/// Alice with a thread with Bob, and a second device.
pub(super) fn two_devices() -> (World<StandInEngine>, ThreadId, usize) {
    let mut world = world(&["a.example"; 3]);
    let thread = world.befriend(BOB, ALICE);
    let phone = world.link_device(ALICE, false);
    (world, thread, phone)
}

#[test]
fn a_second_device_is_in_every_thread_and_their_own_thread_is_nowhere_listed() {
    let (mut world, thread, phone) = two_devices();
    for who in [ALICE, phone] {
        let threads = views::threads(world.store(who)).unwrap();
        assert_eq!(threads.iter().map(|one| one.thread).collect::<Vec<_>>(), [thread], "device {who}");
        assert_eq!(
            world.events(who, |event| matches!(event, Event::ThreadOpened { people, .. } if people.is_empty())),
            0
        );
        let devices = views::devices(world.store(who)).unwrap();
        assert_eq!(devices.iter().map(|one| (one.threads, one.of)).collect::<Vec<_>>(), [(1, 1), (1, 1)]);
    }
    let own = world.people[ALICE].account;
    let found = views::find_thread(world.store(phone), &[]).unwrap();
    assert_eq!(found, Some(world.relay.selves[&own]), "they have one thread among themselves");
    world.say(BOB, thread, "to both");
    world.say(phone, thread, "from the phone");
    world.advance(Duration::from_secs(10));
    assert_eq!(world.texts(ALICE, thread), ["to both", "from the phone"]);
    assert_eq!(world.texts(phone, thread), ["to both", "from the phone"]);
    let nobody = Command::SendTo { people: Vec::new(), text: "to myself".to_owned() };
    assert!(matches!(world.ask(ALICE, nobody), Err(CommandError::State(_))));
}

#[test]
fn a_device_whose_key_packages_are_not_valid_yet_is_taken_in_when_they_are() {
    let mut world = world(&["a.example"; 3]);
    let thread = world.befriend(BOB, ALICE);
    world.newcomer_ahead = limits::CERTIFICATE_TOLERANCE + Duration::from_secs(600);
    // Nor does it get others.
    world.relay.mute.insert("ClaimKeyPackages");
    let phone = world.link_device(ALICE, false);
    assert_eq!(views::devices(world.store(ALICE)).unwrap()[1].threads, 0);
    world.advance(Duration::from_secs(660));
    assert_eq!(views::devices(world.store(ALICE)).unwrap()[1].threads, 1);
    world.say(BOB, thread, "to both");
    assert_eq!(world.texts(phone, thread), ["to both"]);
}

#[test]
fn a_device_is_taken_in_with_claimed_key_packages_when_those_handed_over_are_gone() {
    let mut world = world(&["a.example"; 3]);
    world.befriend(BOB, ALICE);
    world.newcomer_ahead = limits::CERTIFICATE_TOLERANCE + Duration::from_secs(86_400);
    // What it stocks itself has the dates of a clock that is right.
    world.link_device(ALICE, false);
    assert_eq!(views::devices(world.store(ALICE)).unwrap()[1].threads, 1);
    let heard = world.relay.heard.len();
    world.advance(Duration::from_secs(3_600));
    let later = &world.relay.heard[heard..];
    let claims = later.iter().filter(|(_, frame)| matches!(frame, Frame::ClaimKeyPackages(_))).count();
    assert_eq!(claims, 0, "nothing is left to be claimed for");
}

#[test]
fn a_new_device_is_told_people_marks_blocks_and_titles_and_later_ones_reach_it_too() {
    let mut world = world(&["a.example"; 3]);
    world.befriend(BOB, ALICE);
    let (bob, carol) = (world.people[BOB].account, world.people[CAROL].account);
    world.befriend(CAROL, ALICE);
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    let group = world.ask(BOB, Command::NewInvite { uses: 1, holds: Duration::from_secs(60), group: None });
    assert!(group.is_ok());
    let people = vec![world.people[ALICE].account];
    let created = world.ask(BOB, Command::CreateGroup { title: "the boat".to_owned(), people }).unwrap();
    let Reply::Group { thread: group } = created else { panic!("{created:?}") };
    world.advance(Duration::from_secs(10));
    let phone = world.link_device(ALICE, false);
    assert_eq!(world.trust(phone, BOB), Some(Trust::Verified));
    assert_eq!(world.trust(phone, CAROL), Some(Trust::Unverified));
    let title = |world: &World<StandInEngine>, who| views::thread(world.store(who), &group).unwrap().unwrap().title;
    assert_eq!(title(&world, phone).as_deref(), Some("the boat"), "said before it came");
    // From then on what happens on either is told to the other.
    world.ask(phone, Command::Verify { account: bob, verified: false }).unwrap();
    world.ask(phone, Command::Verify { account: carol, verified: true }).unwrap();
    world.advance(Duration::from_secs(10));
    assert_eq!((world.trust(ALICE, BOB), world.trust(ALICE, CAROL)), (Some(Trust::Unverified), Some(Trust::Verified)));
    let who = whimbrel_protocol::user::Who::Account(carol, "a.example".parse().unwrap());
    world.ask(ALICE, Command::Block { who: who.clone(), blocked: true }).unwrap();
    world.advance(Duration::from_secs(10));
    let standing = |world: &World<StandInEngine>| {
        views::friends(world.store(phone))
            .unwrap()
            .into_iter()
            .find(|one| one.account == carol)
            .map(|one| one.friendship)
    };
    assert_eq!(standing(&world), Some(views::Friendship::Blocked));
    assert_eq!(world.trust(phone, CAROL), None, "no contact any more");
    world.ask(phone, Command::Block { who, blocked: false }).unwrap();
    world.advance(Duration::from_secs(10));
    let back = views::friends(world.store(ALICE)).unwrap();
    assert!(back.iter().all(|one| one.friendship != views::Friendship::Blocked), "{back:?}");
}

#[test]
fn what_two_devices_say_alike_is_undone_for_both_though_the_clock_of_one_is_ahead() {
    let (mut world, _, phone) = two_devices();
    let bob = world.people[BOB].account;
    world.relay_gone_for(ALICE);
    world.relay_gone_for(phone);
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    let right = world.now.wall;
    world.now.wall = Wall::from_millis(right.as_millis() + 3_600_000);
    world.ask(phone, Command::Verify { account: bob, verified: true }).unwrap();
    world.now.wall = right;
    world.relay_back_for(ALICE);
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(60));
    world.ask(ALICE, Command::Verify { account: bob, verified: false }).unwrap();
    world.advance(Duration::from_secs(10));
    assert_eq!((world.trust(ALICE, BOB), world.trust(phone, BOB)), (Some(Trust::Unverified), Some(Trust::Unverified)));
}

#[test]
fn what_is_read_on_one_device_is_read_on_the_other_and_nothing_else() {
    let (mut world, thread, phone) = two_devices();
    world.relay_gone_for(phone);
    for text in ["one", "two"] {
        world.say(BOB, thread, text);
    }
    world.advance(Duration::from_secs(10));
    world.read_all(ALICE, thread);
    world.say(BOB, thread, "three");
    world.advance(Duration::from_secs(10));
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(10));
    assert_eq!((world.unread(ALICE, thread), world.unread(phone, thread)), (1, 1), "three alone");
    world.read_all(phone, thread);
    world.advance(Duration::from_secs(10));
    assert_eq!((world.unread(ALICE, thread), world.unread(phone, thread)), (0, 0));
    assert_eq!(world.events(ALICE, |event| matches!(event, Event::ReadElsewhere { thread: one } if *one == thread)), 1);
    // A text that comes after the word that it was read.
    world.relay_gone_for(phone);
    world.say(BOB, thread, "four");
    world.advance(Duration::from_secs(10));
    world.read_all(ALICE, thread);
    world.advance(Duration::from_secs(10));
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(10));
    assert_eq!((world.unread(phone, thread), world.texts(phone, thread).len()), (0, 4));
}

#[test]
fn settings_that_the_relay_keeps_come_to_a_device_that_runs() {
    let (mut world, thread, phone) = two_devices();
    let change = SettingsChange::Label(Some("the neighbour".to_owned()));
    world.ask(ALICE, Command::SetThread { thread, change }).unwrap();
    world.advance(Duration::from_secs(10));
    let label = |world: &World<StandInEngine>, who| views::settings(world.store(who), &thread).unwrap().label;
    assert_eq!(label(&world, phone).as_deref(), Some("the neighbour"));
    let change = SettingsChange::MutedUntil(Wall::from_millis(u64::MAX));
    world.ask(phone, Command::SetThread { thread, change }).unwrap();
    world.advance(Duration::from_secs(10));
    let settings = views::settings(world.store(ALICE), &thread).unwrap();
    assert_eq!((settings.label.as_deref(), settings.muted_until), (Some("the neighbour"), Wall::from_millis(u64::MAX)));
}

#[test]
fn a_rotated_identity_key_reaches_full_devices_and_no_limited_one() {
    let (mut world, _, phone) = two_devices();
    let tablet = world.link_device(ALICE, true);
    assert_eq!((world.full(phone), world.full(tablet)), (true, false));
    world.relay_gone_for(phone);
    for next in [8, 9] {
        let ticket = world.command(ALICE, super::account::rotation_from(next - 1, next));
        world.advance(Duration::from_secs(30));
        assert_eq!(world.answer(ALICE, ticket), Some(Ok(Reply::Done)));
    }
    assert!(world.full(ALICE) && !world.full(tablet));
    world.relay_back_for(phone);
    world.advance(Duration::from_secs(30));
    assert!(world.full(phone), "two rotations, one after the other");
    assert!(!world.full(tablet));
    let rename = Command::RenameDevice { index: world.people[tablet].index, label: "mine".to_owned() };
    assert!(world.ask(tablet, rename.clone()).is_err());
    world.ask(phone, rename).unwrap();
}

#[test]
fn a_revoked_device_is_out_of_their_thread_before_anything_more_is_told() {
    let (mut world, thread, phone) = two_devices();
    let own = world.people[ALICE].account;
    let selves = world.relay.selves[&own];
    let index = world.people[phone].index;
    world.ask(ALICE, Command::RevokeDevice(index)).unwrap();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.events(phone, |event| matches!(event, Event::DeviceRevoked)), 1);
    let laptop = world.link_device(ALICE, false);
    world.say(BOB, thread, "after");
    world.advance(Duration::from_secs(10));
    world.read_all(ALICE, thread);
    world.advance(Duration::from_secs(10));
    assert_eq!(world.unread(laptop, thread), 0);
    let row = crate::thread::get(world.store(ALICE), &selves).unwrap().unwrap();
    let leaves: Vec<DeviceIndex> = crate::thread::leaves(&row).map(|leaf| leaf.index).collect();
    assert_eq!(leaves, [DeviceIndex::FIRST, world.people[laptop].index], "the same thread, and not the revoked one");
    assert_eq!(world.texts(phone, thread), Vec::<String>::new());
}

fn numbered(world: &mut World<StandInEngine>, thread: ThreadId, count: usize) -> Vec<MessageId> {
    (0..count).map(|n| world.say(if n % 2 == 0 { ALICE } else { BOB }, thread, &format!("number {n}"))).collect()
}

#[test]
fn a_new_device_gets_what_was_said_before_it_came_from_a_sibling_and_shows_nothing_twice() {
    let mut world = world(&["a.example"; 3]);
    let thread = world.befriend(BOB, ALICE);
    let other = world.befriend(CAROL, ALICE);
    let said = numbered(&mut world, thread, 300);
    world.say(CAROL, other, "hello");
    world.advance(Duration::from_secs(10));
    let of = |world: &World<StandInEngine>, n: usize| Target {
        message: said[n],
        author: world.id(if n.is_multiple_of(2) { ALICE } else { BOB }),
    };
    let (edited, unsent, signed) = (of(&world, 10), of(&world, 12), of(&world, 15));
    world.ask(ALICE, Command::Edit { of: edited, text: "another".to_owned() }).unwrap();
    world.ask(ALICE, Command::Unsend { of: unsent }).unwrap();
    world.ask(ALICE, Command::React { to: signed, sign: "+".to_owned(), stands: true }).unwrap();
    world.ask(ALICE, Command::SetTimer { thread: other, lasts: Duration::from_secs(3_600) }).unwrap();
    world.say(ALICE, other, "goes by itself");
    world.advance(Duration::from_secs(10));
    let before = views::messages(world.store(ALICE), &thread, Page::Oldest, 1_000).unwrap();
    let phone = world.link_device(ALICE, false);
    let after = views::messages(world.store(phone), &thread, Page::Oldest, 1_000).unwrap();
    let look = |lines: &[views::Line]| -> Vec<_> {
        let one = |line: &views::Line| {
            let message = &line.message;
            (
                message.message,
                message.author,
                message.hlc,
                message.text.clone(),
                message.unsent,
                line.edited,
                line.reactions.clone(),
            )
        };
        lines.iter().map(one).collect()
    };
    assert_eq!(after.len(), 300);
    assert_eq!(look(&after), look(&before), "ids, order, authors, edits, signs");
    assert_eq!(world.texts(phone, other), ["hello"], "what goes by itself stays where it came");
    assert_eq!(world.unread(phone, thread), 0, "not as news");
    assert!(world.shown(phone).is_empty(), "nor shown as if it came now");
    assert_eq!(world.events(phone, |event| matches!(event, Event::HistoryHere { texts: 301 })), 1);
    assert!(views::history(world.store(phone)).unwrap().is_none(), "it is done");
    // Sealed again by its author, under its id: nobody sees it twice.
    world.say(BOB, thread, "new");
    world.advance(Duration::from_secs(3 * 24 * 3_600));
    assert_eq!(world.texts(phone, thread).len(), 301);
    let passed = world.relay.heard.iter().filter(|(_, frame)| matches!(frame, Frame::TellSibling(_))).count();
    assert!((8..20).contains(&passed), "{passed} words for some pages");
    assert!(world.relay.threads.values().all(|(_, log)| log.len() < 400), "none of it through a log");
}

#[test]
fn a_history_goes_on_with_another_sibling_when_the_one_that_gives_it_is_gone() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    numbered(&mut world, thread, 400);
    world.advance(Duration::from_secs(10));
    let phone = world.link_device(ALICE, false);
    let ticket = world.begin_linking(ALICE, false);
    assert_eq!(world.answer(ALICE, ticket), Some(Ok(Reply::Done)));
    let tablet = world.run_newcomer().unwrap();
    let progress = |world: &World<StandInEngine>| views::history(world.store(tablet)).unwrap();
    let mut waited = 0;
    while progress(&world).is_none_or(|one| one.texts == 0) {
        world.advance(Duration::from_millis(100));
        waited += 1;
        assert!(waited < 100, "the first page comes");
    }
    world.relay_gone_for(ALICE);
    world.advance(Duration::from_secs(120));
    assert_eq!(progress(&world), None);
    assert_eq!(world.texts(tablet, thread), world.texts(phone, thread));
    assert_eq!(world.texts(tablet, thread).len(), 400);
}

/// The whole of a linking, with a crash of one of the two at one persist point of it. Says whether the crash came.
fn linking(crashes: usize, after: usize, kind: Crash) -> bool {
    let case = format!("device {crashes} after {after} {kind:?}");
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    let bob = world.people[BOB].account;
    world.ask(ALICE, Command::Verify { account: bob, verified: true }).unwrap();
    // Three pages.
    for n in 0..6 {
        world.say(if n % 2 == 0 { ALICE } else { BOB }, thread, &"x".repeat(20_000 + n));
    }
    world.advance(Duration::from_secs(10));
    if crashes == 0 {
        world.people[ALICE].crash = Some((after, kind));
    }
    // Whoever links tries again when the first attempt came to nothing.
    let mut phone = None;
    for _ in 0..4 {
        let ticket = world.begin_linking(ALICE, false);
        if world.answer(ALICE, ticket) != Some(Ok(Reply::Done)) {
            world.advance(Duration::from_secs(limits::LINKING_TIME_MAX.as_secs() + 60));
        }
        let there = world.newcomer.as_ref().and_then(|coming| views::account(&coming.store).ok());
        let named = there.is_some_and(|own| world.log_there(ALICE).device(own.device.index).is_some());
        if named {
            phone = world.run_newcomer();
            break;
        }
    }
    let phone = phone.unwrap_or_else(|| panic!("linked: {case}"));
    if crashes == 1 {
        world.people[phone].crash = Some((after, kind));
    }
    world.say(BOB, thread, "to both");
    let mut waited = 0;
    while views::history(world.store(phone)).unwrap().is_some() && waited < 600 {
        world.advance(Duration::from_secs(1));
        waited += 1;
    }
    // What comes after that is no part of it.
    let came = world.people[ALICE].crash.take().is_none() && world.people[phone].crash.take().is_none();
    world.advance(Duration::from_secs(60));
    world.read_all(ALICE, thread);
    world.advance(Duration::from_secs(60));
    for who in [ALICE, phone] {
        let texts = world.texts(who, thread);
        assert_eq!((texts.len(), texts.last().map(String::as_str)), (7, Some("to both")), "device {who}: {case}");
        assert_eq!(world.trust(who, BOB), Some(Trust::Verified), "{case}");
        assert_eq!(world.unread(who, thread), 0, "{case}");
        assert!(views::history(world.store(who)).unwrap().is_none(), "{case}");
        let shown = world.shown(who).iter().filter(|text| **text == "to both").count();
        assert!(shown <= 1, "shown once: {case}");
    }
    assert_eq!(world.log_there(ALICE).devices().count(), 2, "{case}");
    let left: Vec<_> = whimbrel_storage::Reads::scan(
        world.store(phone),
        &rows::space(rows::Space::Transfer),
        &rows::after(&rows::space(rows::Space::Transfer)),
        whimbrel_storage::Order::Ascending,
        10,
    )
    .unwrap();
    assert!(left.is_empty(), "{case}");
    came
}

#[test]
fn linking_self_thread_and_history_survive_a_crash_at_every_persist_point() {
    for crashes in [0, 1] {
        for kind in [Crash::Lost, Crash::Kept] {
            let mut after = 0;
            while after < 200 && linking(crashes, after, kind) {
                after += 1;
            }
            assert!((12..200).contains(&after), "{after} persist points of device {crashes}");
        }
    }
}

#[test]
fn what_its_author_said_before_hearing_of_a_new_device_comes_to_it_from_a_sibling() {
    let mut world = world(&["a.example"; 2]);
    let thread = world.befriend(BOB, ALICE);
    let first = world.say(BOB, thread, "early");
    world.advance(Duration::from_secs(10));
    world.relay_gone_for(BOB);
    // Sealed now, and handed in once the phone has been there for long.
    world.say(BOB, thread, "late");
    let of = Target { message: first, author: world.id(BOB) };
    world.ask(BOB, Command::Edit { of, text: "early, corrected".to_owned() }).unwrap();
    let phone = world.link_device(ALICE, false);
    assert!(views::history(world.store(phone)).unwrap().is_none());
    assert_eq!(world.texts(phone, thread), ["early"]);
    world.relay_back_for(BOB);
    world.advance(Duration::from_secs(60));
    for who in [ALICE, phone] {
        assert_eq!(world.texts(who, thread), ["early, corrected", "late"], "device {who}");
    }
    assert!(views::history(world.store(phone)).unwrap().is_none(), "and that is all");
    assert_eq!(world.shown(ALICE), ["early", "late"]);
}
