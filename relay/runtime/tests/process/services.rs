//! Each service of a relay through its process and real sockets, named by its row of the house's list.

use std::time::Duration;

use whimbrel_crypto::signed;
use whimbrel_protocol::canonical;
use whimbrel_protocol::friendship::{
    Act, Befriend, Block, FRIENDSHIP_CONTEXT, Friend, FriendshipWord, ListFriends, Standing,
};
use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::id::{AccountId, Address, BlobId, Epoch, InviteToken, ParticipantsTag, Sequence, ThreadId};
use whimbrel_protocol::presence::{Goodbye, SetVisible, Status};
use whimbrel_protocol::push::{Entry, EntryBody, Invitation, LogRef};
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::thread::{
    Class, Envelope, FetchBlob, ListThreads, ListingPlace, OpenThread, Opening, Participant, SetThread, Submit,
    TagThread, ThreadRow, ThreadSettings,
};
use whimbrel_protocol::user::{
    CARD_CONTEXT, Card, ClaimKeyPackages, DeleteAccount, ExportOwn, FetchProfile, ListInvites, NewInvite, RevokeInvite,
    SetProfile, StockKeyPackages,
};
use whimbrel_protocol::wake::{SetWake, WakeEndpoint};

use super::*;

pub(super) const THREAD: ThreadId = ThreadId::from_bytes([77; 32]);
pub(super) const LOG: LogRef = LogRef::Thread(THREAD);
/// Far beyond what anything here takes: nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A person at a relay, with what it heard and did not ask for.
pub(super) struct Client {
    pub(super) person: Person,
    name: String,
    pub(super) link: Link,
    pub(super) heard: Vec<Frame>,
    requests: u64,
}

impl Client {
    pub(super) async fn join(byte: u8, to: &RelayLink, name: &str) -> Self {
        let person = Person::new(byte);
        let link = come_in(&person, to, name).await;
        Self { person, name: name.to_owned(), link, heard: Vec::new(), requests: 100 }
    }

    /// Comes back on another link; what was pushed meanwhile is heard.
    pub(super) async fn come_back(&mut self, to: &RelayLink) {
        self.link = self.person.connect(to).await;
        self.link.receiver.authenticated();
        let hello = self.person.hello(&self.link);
        self.link.sender.send(&hello).unwrap();
        self.heard.clear();
        self.hear(|frame| *frame == Frame::from(CaughtUp {})).await;
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId::new(self.requests)
    }

    /// Reads until a frame fits, and keeps the others.
    async fn hear(&mut self, fits: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.link.receiver.next()).await.expect("an answer").unwrap();
            if fits(&frame) {
                return frame;
            }
            self.heard.push(frame);
        }
    }

    /// Asks, and gives the answer.
    pub(super) async fn ask(&mut self, frame: impl Into<Frame>) -> Frame {
        self.link.sender.send(&frame.into()).unwrap();
        self.hear(|frame| !matches!(frame, Frame::Push(_) | Frame::Stocked(_) | Frame::CaughtUp(_))).await
    }

    async fn done(&mut self, frame: impl Into<Frame>) {
        let answer = self.ask(frame).await;
        assert!(matches!(answer, Frame::Done(_)), "{answer:?}");
    }

    /// The entries of a log, as far as they were pushed; reads on until there are as many.
    pub(super) async fn entries(&mut self, log: LogRef, count: usize) -> Vec<Entry> {
        loop {
            let pushed = self.heard.iter().filter_map(|frame| match frame {
                Frame::Push(run) if run.log == log => Some(run.entries.clone()),
                _ => None,
            });
            let entries: Vec<Entry> = pushed.flatten().collect();
            if entries.len() >= count {
                return entries;
            }
            let run = self.hear(|frame| matches!(frame, Frame::Push(_))).await;
            self.heard.push(run);
        }
    }

    /// The invitation in the inbox, after the request of whoever invites.
    async fn invitation(&mut self) -> Invitation {
        let inbox = self.entries(LogRef::Inbox, 2).await;
        let invitation = inbox.into_iter().find_map(|entry| match entry.body {
            EntryBody::Invitation(invitation) => Some(invitation),
            _ => None,
        });
        invitation.expect("an invitation")
    }

    fn address(&self, domain: &str) -> Address {
        format!("{}@{domain}", self.name).parse().unwrap()
    }

    /// Says something to another person, each at home at that domain.
    pub(super) async fn tell(&mut self, home: &str, act: Act, to: &Person, domain: &str) -> Frame {
        let note = (act == Act::Request).then(|| "may I?".to_owned());
        let by = self.person.id();
        let address = self.address(home);
        let word = FriendshipWord { by, address, to: to.log.account(), act, at: present(), note };
        let word = signed::sign(&self.person.device, by, FRIENDSHIP_CONTEXT, canonical::encode(&word));
        let (request, domain) = (self.request(), domain.parse().unwrap());
        self.ask(Befriend { request, domain, word }).await
    }

    pub(super) async fn friends(&mut self) -> Vec<Friend> {
        let request = self.request();
        match self.ask(ListFriends { request, after: None, limit: 50 }).await {
            Frame::FriendPage(page) => page.friends,
            other => panic!("{other:?}"),
        }
    }

    async fn stock(&mut self) {
        let request = self.request();
        let stock = StockKeyPackages {
            request,
            one_time: vec![vec![7; 2_700].into()],
            last_resort: Some(vec![8; 2_700].into()),
            replaces: false,
        };
        self.link.sender.send(&stock.into()).unwrap();
        self.hear(|frame| matches!(frame, Frame::Stocked(stocked) if stocked.request == Some(request))).await;
    }

    async fn claim(&mut self, of: &Person, domain: &str, token: Option<InviteToken>) -> Frame {
        let (request, account) = (self.request(), of.log.account());
        self.ask(ClaimKeyPackages { request, account, domain: domain.parse().unwrap(), token }).await
    }

    pub(super) async fn open(&mut self, people: &[(&Person, &str)]) -> Frame {
        self.open_as(THREAD, ParticipantsTag::from_bytes([9; 32]), people).await
    }

    async fn open_as(&mut self, thread: ThreadId, tag: ParticipantsTag, people: &[(&Person, &str)]) -> Frame {
        let participant = |(person, domain): &(&Person, &str)| Participant {
            account: person.log.account(),
            domain: domain.parse().unwrap(),
            devices: vec![person.id().index],
        };
        let mut participants: Vec<Participant> = people.iter().map(participant).collect();
        participants.sort_by_key(|participant| participant.account);
        let opening = Opening {
            thread,
            epoch: Epoch::new(1),
            participants,
            welcome: vec![3; 9_000],
            tree: vec![4; 300],
            founding: None,
        };
        let request = self.request();
        self.ask(OpenThread { request, opening, tag, info: None }).await
    }

    pub(super) async fn say(&mut self, body: &[u8]) -> Frame {
        let request = self.request();
        let envelope = Envelope { thread: THREAD, epoch: Epoch::new(1), class: Class::Message, body: body.to_vec() };
        self.ask(Submit { request, envelope, heard: None }).await
    }

    /// What changed of friends since a version, and the version now.
    async fn beat(&mut self, version: u64) -> (u64, Vec<Status>) {
        match self.ask(Heartbeat { touches: Vec::new(), statuses: version }).await {
            Frame::HeartbeatAnswer(answer) => (answer.version, answer.statuses),
            other => panic!("{other:?}"),
        }
    }

    /// Beats until something is told: who came is told once its relay is through with letting it in, and of who is
    /// elsewhere when that relay tells of it. More seldom than the rate of heartbeats.
    async fn told(&mut self, mut version: u64) -> (u64, Vec<Status>) {
        loop {
            let (now, statuses) = self.beat(version).await;
            if !statuses.is_empty() {
                return (now, statuses);
            }
            version = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn set_visible(&mut self, visible: bool) {
        let request = self.request();
        self.done(SetVisible { request, visible }).await;
    }

    /// A page of the threads.
    async fn threads(&mut self, after: Option<ListingPlace>, limit: u16) -> (Vec<ThreadRow>, bool) {
        let request = self.request();
        match self.ask(ListThreads { request, after, limit }).await {
            Frame::ThreadPage(page) => (page.rows, page.more),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn acknowledge(&self, log: LogRef, upto: u64) {
        let logs = vec![AckedLog { log, upto: Sequence::new(upto) }];
        self.link.sender.send(&Acknowledge { logs }.into()).unwrap();
    }
}

fn refused(frame: &Frame) -> Option<(RefusalCode, Option<u32>)> {
    match frame {
        Frame::Refused(Refused { code, retry_after_ms, .. }) => Some((*code, *retry_after_ms)),
        _ => None,
    }
}

pub(super) fn bodies(entries: &[Entry]) -> Vec<Vec<u8>> {
    let body = |entry: &Entry| match &entry.body {
        EntryBody::Envelope(_, envelope) => Some(envelope.body.clone()),
        _ => None,
    };
    entries.iter().filter_map(body).collect()
}

/// Two relays that list each other, running.
fn two_relays() -> (Place, Running, Place, Running) {
    let (a, b) = (Place::new("a.example"), Place::new("b.example"));
    let (first, second) = (a.start(), b.start());
    let (at_a, at_b) = (first.link.clone(), second.link.clone());
    for (running, place, own, other) in [(first, &a, &at_a, &at_b), (second, &b, &at_b, &at_a)] {
        running.signal("TERM");
        assert_eq!(running.end().0, Some(0));
        place.edit("127.0.0.1:0", &own.endpoint);
        place.edit("[peers]\n", &format!("[peers]\n\"{}\" = \"{other}\"\n", other.domain));
    }
    let (first, second) = (a.start(), b.start());
    (a, first, b, second)
}

/// Alice and Bob are friends at one relay, and have a thread.
pub(super) async fn friends_here(to: &RelayLink) -> (Client, Client) {
    let (mut alice, bob) = befriended(to).await;
    let opened = alice.open(&[(&alice.person_copy(), "a.example"), (&bob.person_copy(), "a.example")]).await;
    assert!(matches!(opened, Frame::Stored(_)), "{opened:?}");
    (alice, bob)
}

/// Alice and Bob are friends at one relay.
async fn befriended(to: &RelayLink) -> (Client, Client) {
    let (mut alice, mut bob) = (Client::join(1, to, "alice").await, Client::join(2, to, "bob").await);
    let asked = alice.tell("a.example", Act::Request, &bob.person, "a.example").await;
    assert!(matches!(asked, Frame::Done(_)), "{asked:?}");
    let agreed = bob.tell("a.example", Act::Accept, &alice.person, "a.example").await;
    assert!(matches!(agreed, Frame::Done(_)), "{agreed:?}");
    (alice, bob)
}

/// The same two; Alice was told that Bob is there, whose account that is, and is at this version of what she was told.
async fn friends_in_sight(to: &RelayLink) -> (Client, Client, AccountId, u64) {
    let (mut alice, bob) = friends_here(to).await;
    let account = bob.person.log.account();
    let (version, told) = alice.told(0).await;
    assert_eq!(told, [Status { account, online: true }]);
    (alice, bob, account, version)
}

impl Client {
    pub(super) fn person_copy(&self) -> Person {
        Person {
            device: KeyPair::from_seed_bytes(*self.person.device.secret_bytes()),
            transport: KeyPair::from_seed_bytes(*self.person.transport.secret_bytes()),
            log: self.person.log.clone(),
        }
    }
}

#[tokio::test]
async fn row_1_the_door_admits_by_proof_bounds_what_one_may_ask_and_says_when_to_come_back() {
    let place = Place::new("a.example");
    place.edit("messages = { rate = \"1200/min\", burst = 1000 }", "messages = { rate = \"60/min\", burst = 2 }");
    place.edit("requests = { rate = \"600/min\", burst = 600 }", "requests = { rate = \"60/min\", burst = 6 }");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let mut answers = Vec::new();
    for n in 0..4 {
        answers.push(refused(&alice.say(&[n]).await));
    }
    let [None, None, rest @ ..] = &answers[..] else { panic!("{answers:?}") };
    for refusal in rest {
        let Some((RefusalCode::TooFast, Some(wait))) = refusal else { panic!("{answers:?}") };
        assert!((1..=2_000).contains(wait), "{wait}");
    }
    assert_eq!(refused(&bob.say(b"another's share").await), None);
    let mut requests = Vec::new();
    for _ in 0..8 {
        let request = alice.request();
        requests.push(refused(&alice.ask(ListInvites { request }).await).map(|(code, _)| code));
    }
    assert_eq!(requests.last(), Some(&Some(RefusalCode::TooFast)), "{requests:?}");
    // A proof for another connection.
    let stolen = alice.person.hello(&alice.link);
    let mut link = alice.person.connect(&running.link).await;
    let Frame::Refused(answer) = ask(&mut link, &stolen).await else { panic!() };
    assert_eq!((answer.request, answer.code), (None, RefusalCode::NotAuthenticated));
}

#[tokio::test]
async fn row_2_cards_invites_export_and_the_end_of_an_account() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let account = alice.person.log.account();
    let card = Card { account, revision: 1, display: "Alice".to_owned(), about: Some("hello".to_owned()) };
    let card = signed::sign(&alice.person.device, alice.person.id(), CARD_CONTEXT, canonical::encode(&card));
    let request = alice.request();
    alice.done(SetProfile { request, revision: 1, card: card.clone() }).await;
    let request = bob.request();
    let fetch = FetchProfile { request, account, domain: "a.example".parse().unwrap() };
    assert!(matches!(bob.ask(fetch.clone()).await, Frame::Profile(profile) if profile.card == card));
    let mut eve = Client::join(3, &running.link, "eve").await;
    assert_eq!(refused(&eve.ask(fetch).await), Some((RefusalCode::NotFound, None)));

    let (request, token) = (alice.request(), InviteToken::from_bytes([5; 16]));
    let expires = Wall::from_millis(present().as_millis() + 1_000_000_000);
    alice.done(NewInvite { request, token: token.hash(), uses: 3, expires }).await;
    alice.stock().await;
    assert!(matches!(eve.claim(&alice.person, "a.example", Some(token)).await, Frame::ClaimedKeyPackages(_)));
    let request = alice.request();
    let Frame::InvitePage(page) = alice.ask(ListInvites { request }).await else { panic!() };
    assert_eq!((page.invites.len(), page.invites[0].left), (1, 2));
    let request = alice.request();
    alice.done(RevokeInvite { request, token: token.hash() }).await;
    let mut dan = Client::join(4, &running.link, "dan").await;
    assert_eq!(
        refused(&dan.claim(&alice.person, "a.example", Some(token)).await),
        Some((RefusalCode::NoConsent, None))
    );

    let (mut kinds, mut after) = (std::collections::BTreeSet::new(), Vec::new());
    loop {
        let request = alice.request();
        let Frame::Exported(part) = alice.ask(ExportOwn { request, after }).await else { panic!() };
        kinds.extend(part.rows.into_iter().map(|row| row.kind));
        match part.next {
            Some(next) => after = next.to_vec(),
            None => break,
        }
    }
    assert!(kinds.contains("profile cards") && kinds.contains("friends"), "{kinds:?}");
    let request = alice.request();
    alice.done(DeleteAccount { request, account }).await;
    let who = Who::Address("alice@a.example".parse().unwrap());
    let look_up = LookUp { request: RequestId::new(9), who, hint: None };
    assert_eq!(refused(&bob.ask(look_up).await), Some((RefusalCode::NotFound, None)));
    running.kill();
    let again = place.start();
    bob.come_back(&again.link).await;
    // It was on its way out, and goes on by itself.
    let gone = async { while bob.friends().await.iter().any(|friend| friend.account == account) {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("its rows go");
}

#[tokio::test]
async fn row_3_friends_are_made_and_kept_away_across_two_relays() {
    let (_a, at_a, _b, at_b) = two_relays();
    let (mut alice, mut bob) = (Client::join(1, &at_a.link, "alice").await, Client::join(2, &at_b.link, "bob").await);
    bob.stock().await;
    assert_eq!(refused(&alice.claim(&bob.person, "b.example", None).await), Some((RefusalCode::NoConsent, None)));
    let asked = alice.tell("a.example", Act::Request, &bob.person, "b.example").await;
    assert!(matches!(asked, Frame::Done(_)), "{asked:?}");
    let inbox = bob.entries(LogRef::Inbox, 1).await;
    let EntryBody::Friendship(word) = &inbox[0].body else { panic!("{inbox:?}") };
    signed::verify_in(&alice.person.log, FRIENDSHIP_CONTEXT, word).unwrap();
    let agreed = bob.tell("b.example", Act::Accept, &alice.person, "a.example").await;
    assert!(matches!(agreed, Frame::Done(_)), "{agreed:?}");
    assert_eq!(
        (alice.friends().await[0].standing, bob.friends().await[0].standing),
        (Standing::Friends, Standing::Friends)
    );
    assert!(matches!(alice.claim(&bob.person, "b.example", None).await, Frame::ClaimedKeyPackages(_)));
    let (request, account) = (bob.request(), alice.person.log.account());
    let blocked = bob.ask(Block { request, account, domain: "a.example".parse().unwrap(), blocked: true }).await;
    assert!(matches!(blocked, Frame::Parted(_)), "{blocked:?}");
    assert_eq!(refused(&alice.claim(&bob.person, "b.example", None).await), Some((RefusalCode::NoConsent, None)));
    // To whoever is kept away it looks as to a stranger asking a stranger.
    let again = alice.tell("a.example", Act::Request, &bob.person, "b.example").await;
    assert!(matches!(again, Frame::Done(_)), "{again:?}");
    assert_eq!(bob.friends().await[0].standing, Standing::Blocked);
}

#[tokio::test]
async fn row_4_threads_are_found_by_tag_and_listed_with_unread_and_settings() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    for n in 0..3 {
        assert_eq!(refused(&alice.say(&[n]).await), None);
    }
    // Exactly these people have a thread: another is not made.
    let (one, two) = (alice.person_copy(), bob.person_copy());
    let people = [(&one, "a.example"), (&two, "a.example")];
    let other = ThreadId::from_bytes([78; 32]);
    let answer = alice.open_as(other, ParticipantsTag::from_bytes([9; 32]), &people).await;
    assert!(matches!(&answer, Frame::ThreadExists(exists) if exists.thread == THREAD), "{answer:?}");
    // Nothing was made of it; the very same opening is answered like the first time.
    assert!(matches!(alice.open(&people).await, Frame::Stored(stored) if stored.sequence == Sequence::ZERO));
    for who in [&mut alice, &mut bob] {
        assert_eq!(who.threads(None, 10).await.0.len(), 1);
    }
    let (request, tag) = (bob.request(), ParticipantsTag::from_bytes([42; 32]));
    bob.done(TagThread { request, thread: THREAD, tag }).await;
    let settings = ThreadSettings { sealed: vec![5; 90], quiet_until: Wall::from_millis(9) };
    let request = bob.request();
    bob.done(SetThread { request, thread: THREAD, settings: settings.clone() }).await;
    let request = bob.request();
    let Frame::ThreadPage(page) = bob.ask(ListThreads { request, after: None, limit: 10 }).await else { panic!() };
    let row = &page.rows[0];
    assert_eq!((row.place.thread, row.unread, row.tag, row.settings.as_ref()), (THREAD, 3, Some(tag), Some(&settings)));
    running.kill();
    let again = place.start();
    bob.come_back(&again.link).await;
    let request = bob.request();
    let Frame::ThreadPage(after) = bob.ask(ListThreads { request, after: None, limit: 10 }).await else { panic!() };
    assert_eq!(after.rows, page.rows);
}

#[tokio::test]
async fn row_4_threads_are_listed_page_by_page_the_one_used_last_first_and_each_once() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let (one, two) = (alice.person_copy(), bob.person_copy());
    let people = [(&one, "a.example"), (&two, "a.example")];
    let threads: Vec<ThreadId> = (78..82).map(|n| ThreadId::from_bytes([n; 32])).collect();
    for (thread, n) in threads.iter().zip(20..) {
        let answer = alice.open_as(*thread, ParticipantsTag::from_bytes([n; 32]), &people).await;
        assert!(matches!(answer, Frame::Stored(_)), "{answer:?}");
    }
    let (mut listed, mut after) = (Vec::new(), None);
    for (rows, more) in [(2, true), (2, true), (1, false)] {
        let page = bob.threads(after, 2).await;
        assert_eq!((page.0.len(), page.1), (rows, more));
        after = page.0.last().map(|row| row.place);
        listed.extend(page.0.into_iter().map(|row| row.place));
    }
    assert!(listed.is_sorted_by(|one, next| one > next), "{listed:?}");
    let mut found: Vec<ThreadId> = listed.iter().map(|place| place.thread).collect();
    found.sort();
    assert_eq!(found, [vec![THREAD], threads].concat());
    assert_eq!(bob.threads(after, 2).await, (Vec::new(), false));
    // What is said in the oldest moves it to the front, however many there are.
    let oldest = listed[4].thread;
    let (request, class) = (alice.request(), Class::Message);
    let envelope = Envelope { thread: oldest, epoch: Epoch::new(1), class, body: b"here".to_vec() };
    let mut stored = alice.ask(Submit { request, envelope: envelope.clone(), heard: None }).await;
    // The relay's clock counts milliseconds: until it has gone on by one.
    while bob.threads(None, 1).await.0[0].place.thread != oldest {
        let (request, number) = (alice.request(), alice.requests);
        let envelope = Envelope { body: number.to_be_bytes().to_vec(), ..envelope.clone() };
        stored = alice.ask(Submit { request, envelope, heard: None }).await;
    }
    assert!(matches!(stored, Frame::Stored(_)), "{stored:?}");
}

#[tokio::test]
async fn row_5_and_8_an_envelope_is_written_once_and_pushed_to_whoever_is_there() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let Frame::Stored(first) = alice.say(b"once").await else { panic!() };
    let Frame::Stored(second) = alice.say(b"once").await else { panic!() };
    assert_eq!((first.sequence, second.sequence), (Sequence::new(1), Sequence::new(1)));
    assert!(matches!(alice.say(b"twice").await, Frame::Stored(stored) if stored.sequence == Sequence::new(2)));
    let pushed = bob.entries(LOG, 2).await;
    assert_eq!(bodies(&pushed), [b"once".to_vec(), b"twice".to_vec()]);
}

#[tokio::test]
async fn row_6_a_first_message_makes_everybodys_row_and_tells_those_who_are_away() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = befriended(&running.link).await;
    bob.link.sender.close(CloseCode::Done);
    bob.link.sender.closed().await;
    let opened = alice.open(&[(&alice.person_copy(), "a.example"), (&bob.person_copy(), "a.example")]).await;
    assert!(matches!(opened, Frame::Stored(_)), "{opened:?}");
    assert!(matches!(alice.say(b"welcome").await, Frame::Stored(_)));
    bob.come_back(&running.link).await;
    assert_eq!(bodies(&bob.entries(LOG, 1).await), [b"welcome".to_vec()]);
    let invitation = bob.invitation().await;
    let request = bob.request();
    let Frame::Blob(welcome) = bob.ask(FetchBlob { request, blob: invitation.welcome }).await else { panic!() };
    assert_eq!(welcome.bytes, vec![3; 9_000]);
    for client in [&mut alice, &mut bob] {
        let request = client.request();
        let Frame::ThreadPage(page) = client.ask(ListThreads { request, after: None, limit: 10 }).await else {
            panic!()
        };
        assert_eq!(page.rows.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_a_message_to_many_reaches_those_who_are_there_and_nobody_who_left() {
    const MANY: u8 = 24;
    const AWAY: u8 = 4;
    let place = watch::place();
    let running = place.start();
    let mut everybody = Vec::new();
    for n in 0..MANY {
        everybody.push(Client::join(10 + n, &running.link, &format!("member{n}")).await);
    }
    let mut creator = everybody.remove(0);
    for member in &mut everybody {
        let agreed = creator.tell("a.example", Act::Request, &member.person, "a.example").await;
        if refused(&agreed).is_some() {
            // Beyond the day's share the others ask.
            let asked = member.tell("a.example", Act::Request, &creator.person, "a.example").await;
            assert!(matches!(asked, Frame::Done(_)), "{asked:?}");
            let agreed = creator.tell("a.example", Act::Accept, &member.person, "a.example").await;
            assert!(matches!(agreed, Frame::Done(_)), "{agreed:?}");
        } else {
            let agreed = member.tell("a.example", Act::Accept, &creator.person, "a.example").await;
            assert!(matches!(agreed, Frame::Done(_)), "{agreed:?}");
        }
    }
    let people: Vec<Person> =
        std::iter::once(creator.person_copy()).chain(everybody.iter().map(Client::person_copy)).collect();
    let named: Vec<(&Person, &str)> = people.iter().map(|person| (person, "a.example")).collect();
    assert!(matches!(creator.open(&named).await, Frame::Stored(_)));
    // The creator and those before stay; the others leave, and their links are gone before anything is said.
    let mut there: Vec<Client> = std::iter::once(creator).chain(everybody).collect();
    let gone = there.split_off(usize::from(MANY - AWAY));
    for member in &gone {
        member.link.sender.close(CloseCode::Done);
        member.link.sender.closed().await;
    }
    let address = running.metrics.clone().unwrap();
    let counted = |page: &str, path: &str| watch::value(page, &format!("whimbrel_messages_{path}"));
    let connections = |page: &str| watch::value(page, "whimbrel_connections{transport=\"quic\"}");
    let pages = std::iter::repeat_with(|| watch::fetch(&address, "/metrics").1).take(100_000);
    let before =
        pages.into_iter().find(|page| connections(page) == there.len() as u64).expect("those who left are out");
    assert!(matches!(there[0].say(b"to all").await, Frame::Stored(_)));
    for member in &mut there {
        assert_eq!(bodies(&member.entries(LOG, 1).await), [b"to all".to_vec()]);
    }
    // One row however many read it, and one push for each who is there.
    let after = watch::fetch(&address, "/metrics").1;
    let rise = |path| counted(&after, path) - counted(&before, path);
    assert_eq!(
        (rise("accepted_total"), rise("delivered_total{path=\"push\"}"), rise("delivered_total{path=\"federation\"}")),
        (1, u64::from(MANY - AWAY), 0)
    );
    // Whoever comes back gets it then.
    let mut back = gone.into_iter().next().unwrap();
    back.come_back(&running.link).await;
    assert_eq!(bodies(&back.entries(LOG, 1).await), [b"to all".to_vec()]);
}

#[tokio::test]
async fn a_relay_told_to_stop_answers_what_it_began_and_keeps_what_it_answered() {
    const MANY: u64 = 32;
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    for n in 0..MANY {
        let request = alice.request();
        let body = n.to_be_bytes().to_vec();
        let envelope = Envelope { thread: THREAD, epoch: Epoch::new(1), class: Class::Message, body };
        alice.link.sender.send(&Submit { request, envelope, heard: None }.into()).unwrap();
    }
    assert!(matches!(alice.link.receiver.next().await.unwrap(), Frame::Stored(_)));
    running.signal("TERM");
    let mut stored = 1;
    while let Ok(frame) = alice.link.receiver.next().await {
        stored += usize::from(matches!(frame, Frame::Stored(_)));
    }
    assert_eq!(running.end().0, Some(0));
    let again = place.start();
    bob.come_back(&again.link).await;
    // He is caught up: all that is in the log came.
    assert_eq!(bob.entries(LOG, 0).await.len(), stored);
}

#[tokio::test]
async fn row_10_friends_are_seen_to_come_and_to_say_goodbye() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob, account, version) = friends_in_sight(&running.link).await;
    assert_eq!(alice.beat(version).await, (version, Vec::new()), "only what changed");
    bob.link.sender.send(&Goodbye {}.into()).unwrap();
    // Behind it on the same link, so that it was heard.
    let request = bob.request();
    bob.ask(ListInvites { request }).await;
    assert_eq!(alice.beat(version).await.1, [Status { account, online: false }]);
}

#[tokio::test]
async fn row_10_whoever_is_invisible_is_not_there_and_stays_so_across_a_kill() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob, account, version) = friends_in_sight(&running.link).await;
    bob.set_visible(false).await;
    let (version, told) = alice.beat(version).await;
    assert_eq!(told, [Status { account, online: false }], "as of whoever left");
    // It sees others, is heard, and is served; that tells nobody.
    assert_eq!(bob.told(0).await.1, [Status { account: alice.person.log.account(), online: true }]);
    assert!(matches!(bob.say(b"I am here").await, Frame::Stored(_)));
    assert_eq!(alice.beat(version).await.1, []);
    running.kill();
    let again = place.start();
    bob.come_back(&again.link).await;
    alice.come_back(&again.link).await;
    // Both are there once one sees the other.
    assert_eq!(bob.told(0).await.1, [Status { account: alice.person.log.account(), online: true }]);
    let (version, told) = alice.beat(0).await;
    assert_eq!(told, []);
    bob.set_visible(true).await;
    assert_eq!(alice.beat(version).await.1, [Status { account, online: true }]);
}

#[tokio::test]
async fn row_11_what_waits_survives_a_kill_and_what_was_acknowledged_does_not_come_again() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, bob) = friends_here(&running.link).await;
    let mut bob = Client { link: bob.person.connect(&running.link).await, ..bob };
    for n in 0..50_u8 {
        assert!(matches!(alice.say(&[n]).await, Frame::Stored(_)));
    }
    running.kill();
    let again = place.start();
    bob.come_back(&again.link).await;
    let expected: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![n]).collect();
    assert_eq!(bodies(&bob.entries(LOG, 50).await), expected);
    bob.acknowledge(LOG, 30);
    let request = bob.request();
    bob.ask(ListInvites { request }).await;
    again.signal("TERM");
    assert_eq!(again.end().0, Some(0));
    let third = place.start();
    bob.come_back(&third.link).await;
    assert_eq!(bodies(&bob.entries(LOG, 20).await), expected[30..]);
}

#[tokio::test]
async fn t31_an_id_alone_is_worth_as_much_as_a_wrong_one() {
    let place = Place::new("a.example");
    let running = place.start();
    let (alice, mut bob) = friends_here(&running.link).await;
    let mut eve = Client::join(3, &running.link, "eve").await;
    let invitation = bob.invitation().await;
    for blob in [invitation.welcome, invitation.tree] {
        let (mut answers, unknown) = (Vec::new(), BlobId::from_bytes([79; 32]));
        for blob in [blob, unknown] {
            let request = eve.request();
            answers.push(refused(&eve.ask(FetchBlob { request, blob }).await));
        }
        assert_eq!(answers, [Some((RefusalCode::NotFound, None)); 2]);
        // It is there, and whoever was told of it has it, as often as it takes.
        for _ in 0..2 {
            let request = bob.request();
            assert!(matches!(bob.ask(FetchBlob { request, blob }).await, Frame::Blob(_)));
        }
    }
    let envelope = |thread| Envelope { thread, epoch: Epoch::new(1), class: Class::Message, body: vec![1; 40] };
    let mut answers = Vec::new();
    for thread in [THREAD, ThreadId::from_bytes([78; 32])] {
        let request = eve.request();
        answers.push(refused(&eve.ask(Submit { request, envelope: envelope(thread), heard: None }).await));
        let request = eve.request();
        let settings = ThreadSettings { sealed: Vec::new(), quiet_until: Wall::default() };
        answers.push(refused(&eve.ask(SetThread { request, thread, settings }).await));
        let request = eve.request();
        answers.push(refused(&eve.ask(TagThread { request, thread, tag: ParticipantsTag::from_bytes([1; 32]) }).await));
    }
    let (known, unknown) = answers.split_at(3);
    assert_eq!(known, unknown);
    assert!(known.iter().all(|code| *code == Some((RefusalCode::NotFound, None))), "{known:?}");
    for token in [[5; 16], [6; 16]] {
        let claimed = eve.claim(&alice.person, "a.example", Some(InviteToken::from_bytes(token))).await;
        assert_eq!(refused(&claimed), Some((RefusalCode::NoConsent, None)));
    }
}

#[tokio::test]
async fn t32_a_stranger_opens_no_thread_and_claims_nothing() {
    let place = Place::new("a.example");
    let running = place.start();
    let mut alice = Client::join(1, &running.link, "alice").await;
    alice.stock().await;
    let mut eve = Client::join(3, &running.link, "eve").await;
    let (one, two) = (alice.person_copy(), eve.person_copy());
    assert_eq!(
        refused(&eve.open(&[(&one, "a.example"), (&two, "a.example")]).await),
        Some((RefusalCode::NoConsent, None))
    );
    assert_eq!(refused(&eve.claim(&alice.person, "a.example", None).await), Some((RefusalCode::NoConsent, None)));
    let request = alice.request();
    alice.ask(ListInvites { request }).await;
    assert!(!alice.heard.iter().any(|frame| matches!(frame, Frame::Push(_))), "{:?}", alice.heard);
}

#[tokio::test]
async fn t33_a_friend_who_was_removed_is_out_at_both_relays() {
    let (_a, at_a, _b, at_b) = two_relays();
    let (mut alice, mut bob) = (Client::join(1, &at_a.link, "alice").await, Client::join(2, &at_b.link, "bob").await);
    bob.stock().await;
    alice.tell("a.example", Act::Request, &bob.person, "b.example").await;
    bob.tell("b.example", Act::Accept, &alice.person, "a.example").await;
    let (one, two) = (alice.person_copy(), bob.person_copy());
    let opened = alice.open(&[(&one, "a.example"), (&two, "b.example")]).await;
    assert!(matches!(opened, Frame::Stored(_)), "{opened:?}");
    assert!(matches!(alice.say(b"friend").await, Frame::Stored(_)));
    assert_eq!(bodies(&bob.entries(LOG, 1).await), [b"friend".to_vec()]);
    let status = |of: &Client, online| Status { account: of.person.log.account(), online };
    let ((of_bob, told_alice), (of_alice, told_bob)) = (alice.told(0).await, bob.told(0).await);
    assert_eq!((told_alice, told_bob), (vec![status(&bob, true)], vec![status(&alice, true)]));
    let removed = bob.tell("b.example", Act::Remove, &alice.person, "a.example").await;
    assert!(matches!(removed, Frame::Parted(_)), "{removed:?}");
    // Not there any more, for either: at his relay with the next heartbeat, at hers as soon as it is through with the word.
    assert_eq!(bob.beat(of_alice).await.1, [status(&alice, false)]);
    assert_eq!(alice.told(of_bob).await.1, [status(&bob, false)]);
    assert_eq!(refused(&alice.claim(&bob.person, "b.example", None).await), Some((RefusalCode::NoConsent, None)));
    // Her relay takes it and Bob's does not: she is told in her inbox.
    alice.heard.clear();
    assert!(matches!(alice.say(b"are you there?").await, Frame::Stored(_)));
    let told = loop {
        let entries = alice.entries(LogRef::Inbox, 1).await;
        if let Some(EntryBody::Undelivered(words)) =
            entries.iter().map(|entry| entry.body.clone()).find(|body| matches!(body, EntryBody::Undelivered(_)))
        {
            break words;
        }
        let run = alice.hear(|frame| matches!(frame, Frame::Push(_))).await;
        alice.heard.push(run);
    };
    assert_eq!((told.code, told.envelopes.len()), (RefusalCode::NoConsent, 1));
}

#[tokio::test]
async fn t33_the_presence_of_a_friend_who_was_removed_ends_with_the_very_next_heartbeat() {
    let place = Place::new("a.example");
    let running = place.start();
    let (mut alice, mut bob) = friends_here(&running.link).await;
    let (one, two) = (alice.person.log.account(), bob.person.log.account());
    let (of_bob, told) = alice.told(0).await;
    assert_eq!(told, [Status { account: two, online: true }]);
    let (of_alice, told) = bob.told(0).await;
    assert_eq!(told, [Status { account: one, online: true }]);
    let removed = bob.tell("a.example", Act::Remove, &alice.person, "a.example").await;
    assert!(matches!(removed, Frame::Parted(_)), "{removed:?}");
    // Both ways, and without a moment in between.
    assert_eq!(alice.beat(of_bob).await.1, [Status { account: two, online: false }]);
    assert_eq!(bob.beat(of_alice).await.1, [Status { account: one, online: false }]);
}

#[tokio::test]
async fn row_12_an_endpoint_that_cannot_be_one_is_refused_before_anything_is_sent() {
    let place = Place::new("a.example");
    let running = place.start();
    let mut alice = Client::join(1, &running.link, "alice").await;
    for url in ["http://push.example/a", "https://", "ftp://push.example/", "https://me@push.example/"] {
        let request = alice.request();
        let endpoint = WakeEndpoint { url: url.to_owned(), key: [vec![4], vec![1; 64]].concat(), auth: [1; 16] };
        let answer = alice.ask(SetWake { request, endpoint: Some(endpoint) }).await;
        assert_eq!(refused(&answer), Some((RefusalCode::Malformed, None)), "{url}");
    }
}
