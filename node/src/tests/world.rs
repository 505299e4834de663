//! A world of nodes around one small relay. The relay keeps the rules a node relies on and no others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use whimbrel_crypto::{Chance, Engine, KeyPair, RelayIdentity, Seed, StandInEngine, UnverifiedLog, link as proof};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{
    AccountId, Address, BlobId, DeviceId, DeviceIndex, Domain, Epoch, LinkId, MessageId, PublicKey, Sequence, ThreadId,
    TokenHash,
};
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{CaughtUp, EntryBody, LogRef};
use whimbrel_protocol::reception::{Admitted, Done, Refused, Registered, Stamp};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Blob, Envelope, Opening, Stored, ThreadExists};
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_protocol::user::{ClaimedKeyPackages, ClaimedPackage, LookedUp, OwnLog, Stocked, Who};
use whimbrel_storage::{Kv, MemoryEngine, MemoryKv, OrderedKv, Reads};

use crate::api::{Command, CommandError, Config, Event, Input, Message, Output, Peer, Reply, State, Step, Ticket};
use crate::views::{self, Page};
use crate::{Node, identity};

use super::audit::Trees;
use super::manners::{self, Manners};

pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;
pub(super) const CAROL: usize = 2;

/// Where a crash falls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    /// The last batch is lost, and its outputs never left.
    Lost,
    /// The last batch is durable, but its outputs never left.
    Kept,
}

pub(super) struct Person<E> {
    pub(super) disk: MemoryEngine,
    pub(super) store: Option<MemoryKv>,
    pub(super) node: Option<Node<E>>,
    pub(super) config: Config,
    pub(super) account: AccountId,
    pub(super) index: DeviceIndex,
    pub(super) transport: PublicKey,
    pub(super) home: Option<(LinkId, [u8; 32])>,
    pub(super) direct: BTreeMap<LinkId, (usize, LinkId)>,
    pub(super) events: Vec<Event>,
    pub(super) shown: Vec<Message>,
    pub(super) answers: BTreeMap<u64, Result<Reply, CommandError>>,
    /// Inputs until a crash.
    pub(super) crash: Option<(usize, Crash)>,
    pub(super) dials: Vec<PublicKey>,
    pub(super) connects: Vec<String>,
    pub(super) online: bool,
}

#[derive(Default)]
pub(super) struct Account {
    pub(super) address: Option<Address>,
    pub(super) log: Vec<u8>,
    pub(super) packages: VecDeque<Vec<u8>>,
    pub(super) last_resort: Option<Vec<u8>>,
    pub(super) invites: BTreeMap<TokenHash, u32>,
    pub(super) friends: BTreeSet<AccountId>,
    pub(super) inbox: Vec<EntryBody>,
    /// Of a device that came later: what was in the inbox before.
    pub(super) not_for_it: Sequence,
    pub(super) cursors: BTreeMap<LogRef, Sequence>,
    pub(super) pushed: BTreeMap<LogRef, Sequence>,
    pub(super) touches: Vec<ThreadId>,
}

#[derive(Default)]
pub(super) struct Relay {
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) threads: BTreeMap<ThreadId, (Opening, Vec<EntryBody>)>,
    pub(super) blobs: BTreeMap<BlobId, Vec<u8>>,
    /// What it keeps of devices that are not the first of their account: KeyPackages, cursors, pushes.
    pub(super) later: BTreeMap<DeviceId, Account>,
    /// The thread that an account has with itself.
    pub(super) selves: BTreeMap<AccountId, ThreadId>,
    /// First and last epoch of those who came later, or went.
    pub(super) spans: BTreeMap<(ThreadId, DeviceId), (Epoch, Option<Epoch>)>,
    /// Who is not given commits with the log.
    pub(super) hide_commits_from: BTreeSet<AccountId>,
    /// Kinds of requests it does not answer.
    pub(super) mute: BTreeSet<&'static str>,
    /// Kinds of requests it refuses, and how.
    pub(super) refuse: BTreeMap<&'static str, (RefusalCode, Option<u32>)>,
    /// Everything nodes said, by kind.
    pub(super) heard: Vec<(usize, Frame)>,
    /// Everything it said, whoever heard it.
    pub(super) said: Vec<Frame>,
    pub(super) up: bool,
    /// What it let go of logs, up to there.
    pub(super) trimmed: BTreeMap<LogRef, Sequence>,
    /// Whether it shows its trees of account logs at all.
    pub(super) trees: Option<Trees>,
    /// How far the stores of devices have come.
    pub(super) stamps: BTreeMap<DeviceId, Stamp>,
    /// While so much waits for people that what stands behind it does not come.
    pub(super) backlog: Option<Vec<(usize, Frame)>>,
    /// It keeps them and cannot say so.
    pub(super) stamps_unanswered: bool,
    pub(super) manners: Manners,
}

impl Relay {
    /// Whether an entry of a log is for somebody, by its epoch.
    pub(super) fn is_for(&self, log: LogRef, device: DeviceId, body: &EntryBody) -> bool {
        let account = device.account;
        let LogRef::Thread(thread) = log else { return true };
        let epoch = match body {
            EntryBody::Commit(_) if self.hide_commits_from.contains(&account) => return false,
            EntryBody::Commit(one) => one.commit.epoch,
            EntryBody::Envelope(_, envelope) => envelope.epoch,
            _ => return true,
        };
        let span = self.spans.get(&(thread, device));
        span.is_none_or(|(first, last)| *first <= epoch && last.is_none_or(|last| epoch <= last))
    }
}

enum Flight {
    ToRelay(usize, LinkId, Frame),
    ToNode(usize, Input),
}

pub(super) struct World<E> {
    pub(super) people: Vec<Person<E>>,
    pub(super) relay: Relay,
    pub(super) now: Now,
    queue: VecDeque<Flight>,
    links: u64,
    tickets: u64,
    seeds: u8,
    pub(super) engine: fn() -> E,
    /// Whether dials lead anywhere.
    pub(super) dialable: bool,
    /// Whether frames of direct links arrive.
    pub(super) direct_flows: bool,
    /// Those that did not.
    pub(super) direct_lost: Vec<Frame>,
    /// A device that is being linked.
    pub(super) newcomer: Option<super::siblings::Coming>,
    /// How far the clock of a device that is being linked is ahead.
    pub(super) newcomer_ahead: Duration,
}

pub(super) fn world(domains: &[&str]) -> World<StandInEngine> {
    World::new(domains, StandInEngine::new)
}

/// Alice and Bob with a thread.
pub(super) fn friends() -> (World<StandInEngine>, ThreadId) {
    let mut world = world(&["a.example", "a.example"]);
    let thread = world.befriend(BOB, ALICE);
    (world, thread)
}

pub(super) fn relay_link(domain: &str) -> RelayLink {
    RelayLink {
        domain: domain.parse().unwrap(),
        endpoint: "127.0.0.1:1".to_owned(),
        relay: relay_identity(&domain.parse().unwrap()).id(),
    }
}

/// What the relay of a domain signs with.
pub(super) fn relay_identity(domain: &Domain) -> RelayIdentity {
    let key = |n| KeyPair::from_seed_bytes([n; 32]);
    RelayIdentity::create(&key(90), &key(91), domain, Wall::from_millis(1_700_000_000_000)).unwrap()
}

impl<E: Engine> World<E> {
    pub(super) fn new(domains: &[&str], engine: fn() -> E) -> Self {
        Self::around(Relay::default(), domains, engine)
    }

    /// A world around a relay that has its ways already.
    pub(super) fn around(relay: Relay, domains: &[&str], engine: fn() -> E) -> Self {
        let now = Now { monotonic: Monotonic::default(), wall: Wall::from_millis(1_700_000_000_000) };
        let names = ["alice", "bob", "carol", "dave"];
        let people = domains.iter().zip(names).enumerate().map(|(place, (domain, name))| {
            let mut chance = Chance::from_seed(Seed::from_bytes([100 + place as u8; 32]));
            let made = identity::create(name.parse().unwrap(), relay_link(domain), "laptop", &mut chance, now).unwrap();
            let disk = MemoryEngine::new();
            let store = Kv::open(disk.clone(), None).unwrap();
            store.apply(&made.batch).unwrap();
            store.sync().unwrap();
            Person {
                disk,
                transport: views::account(&store).unwrap().transport,
                store: Some(store),
                node: None,
                config: Config::default(),
                account: made.account,
                index: DeviceIndex::FIRST,
                home: None,
                direct: BTreeMap::new(),
                events: Vec::new(),
                shown: Vec::new(),
                answers: BTreeMap::new(),
                crash: None,
                dials: Vec::new(),
                connects: Vec::new(),
                online: true,
            }
        });
        let mut world = Self {
            people: people.collect(),
            relay: Relay { up: true, ..relay },
            now,
            queue: VecDeque::new(),
            links: 0,
            tickets: 0,
            seeds: 0,
            engine,
            dialable: true,
            direct_flows: true,
            direct_lost: Vec::new(),
            newcomer: None,
            newcomer_ahead: Duration::ZERO,
        };
        (0..world.people.len()).for_each(|who| world.open(who));
        world.settle();
        world
    }

    pub(super) fn open(&mut self, who: usize) {
        self.seeds = self.seeds.wrapping_add(1);
        let person = &mut self.people[who];
        let store = match person.store.take() {
            Some(store) => store,
            None => Kv::open(person.disk.clone(), None).unwrap(),
        };
        let seed = Seed::from_bytes([self.seeds; 32]);
        person.node = Some(Node::open((self.engine)(), person.config.clone(), seed, self.now, &store).unwrap());
        person.store = Some(store);
        self.input(who, Input::Timeout);
    }

    pub(super) fn store(&self, who: usize) -> &MemoryKv {
        self.people[who].store.as_ref().unwrap()
    }

    pub(super) fn id(&self, who: usize) -> DeviceId {
        DeviceId { account: self.people[who].account, index: self.people[who].index }
    }

    /// What the relay keeps of one device.
    pub(super) fn mailbox(&mut self, device: DeviceId) -> &mut Account {
        match device.index {
            DeviceIndex::FIRST => self.relay.accounts.get_mut(&device.account).unwrap(),
            _ => self.relay.later.entry(device).or_default(),
        }
    }

    /// One input, one step: applied, synced, released; or not, when a crash is due.
    pub(super) fn input(&mut self, who: usize, input: Input) {
        let person = &mut self.people[who];
        let (Some(node), Some(store)) = (person.node.as_mut(), person.store.as_ref()) else { return };
        let mut step = Step::default();
        node.handle(self.now, input, store, &mut step);
        if let Some((left, kind)) = person.crash.take() {
            if left > 0 {
                person.crash = Some((left - 1, kind));
            } else {
                if kind == Crash::Kept {
                    store.apply(&step.batch).unwrap();
                    store.sync().unwrap();
                }
                self.crash_now(who);
                return;
            }
        }
        store.apply(&step.batch).unwrap();
        store.sync().unwrap();
        for output in step.outputs {
            self.output(who, output);
        }
    }

    /// The process dies; what was not synced is gone, and its links with it. It is opened again at once.
    pub(super) fn crash_now(&mut self, who: usize) {
        self.kill(who);
        self.open(who);
    }

    pub(super) fn kill(&mut self, who: usize) {
        let person = &mut self.people[who];
        (person.node, person.store) = (None, None);
        person.disk.crash(0);
        self.cut(who);
        self.queue.retain(|event| !matches!(event, Flight::ToNode(to, _) if *to == who));
    }

    /// Every link of a person breaks; others notice.
    fn cut(&mut self, who: usize) {
        self.people[who].home = None;
        for (_, (other, theirs)) in std::mem::take(&mut self.people[who].direct) {
            self.people[other].direct.remove(&theirs);
            self.queue.push_back(Flight::ToNode(other, Input::LinkLost { link: theirs }));
        }
    }

    /// The link to the relay breaks, and the relay stays away until [`World::relay_back`].
    pub(super) fn relay_gone(&mut self) {
        self.relay.up = false;
        for who in 0..self.people.len() {
            self.lose_home(who);
        }
        self.settle();
    }

    pub(super) fn lose_home(&mut self, who: usize) {
        if let Some((link, _)) = self.people[who].home.take() {
            self.queue.push_back(Flight::ToNode(who, Input::LinkLost { link }));
        }
    }

    /// One person is without the relay until [`World::relay_back_for`].
    pub(super) fn relay_gone_for(&mut self, who: usize) {
        self.people[who].online = false;
        self.lose_home(who);
        self.settle();
    }

    pub(super) fn relay_back_for(&mut self, who: usize) {
        self.people[who].online = true;
        self.advance(limits::RELAY_BACKOFF_MAX);
    }

    pub(super) fn relay_back(&mut self) {
        self.relay.up = true;
        self.advance(limits::RELAY_BACKOFF_MAX);
    }

    fn output(&mut self, who: usize, output: Output) {
        match output {
            Output::Send { link, frame } => {
                let encoded = whimbrel_protocol::codec::encode(&frame).unwrap();
                let mut decoder = whimbrel_protocol::codec::Decoder::new();
                decoder.push(&encoded);
                let frame = decoder.next_frame().unwrap().unwrap();
                if let Some((other, theirs)) = self.people[who].direct.get(&link).copied() {
                    if self.direct_flows {
                        self.queue.push_back(Flight::ToNode(other, Input::Frame { link: theirs, frame }));
                    } else {
                        self.direct_lost.push(frame);
                    }
                } else {
                    self.queue.push_back(Flight::ToRelay(who, link, frame));
                }
            }
            Output::Close { link } => {
                if let Some((other, theirs)) = self.people[who].direct.remove(&link) {
                    self.people[other].direct.remove(&theirs);
                    self.queue.push_back(Flight::ToNode(other, Input::LinkLost { link: theirs }));
                } else if self.people[who].home.is_some_and(|(home, _)| home == link) {
                    self.people[who].home = None;
                }
            }
            Output::Connect { relay } => {
                let nobody = self.relay.manners.nobody_at.as_ref() == Some(&relay.endpoint);
                self.people[who].connects.push(relay.endpoint);
                if nobody || !self.relay.up || !self.people[who].online {
                    let failed = Input::ConnectFailed { reason: "nobody there".to_owned() };
                    return self.queue.push_back(Flight::ToNode(who, failed));
                }
                let link = self.fresh_link();
                let exporter = [link.get() as u8; 32];
                self.people[who].home = Some((link, exporter));
                let peer = Peer::Relay { exporter };
                self.queue.push_back(Flight::ToNode(who, Input::LinkUp { link, peer }));
            }
            Output::Dial { transport, .. } => {
                self.people[who].dials.push(transport);
                let other = self.people.iter().position(|person| person.transport == transport);
                match other.filter(|_| self.dialable) {
                    Some(other) => self.link(who, other),
                    None => self.queue.push_back(Flight::ToNode(who, Input::DialFailed { transport })),
                }
            }
            Output::Answer { ticket, result } => {
                let before = self.people[who].answers.insert(ticket.0, result);
                assert!(before.is_none(), "a command was answered twice");
            }
            Output::Event(event) => {
                if let Event::Shown(message) = &event {
                    self.people[who].shown.push(message.clone());
                }
                self.people[who].events.push(event);
            }
            Output::Broken { reason } => panic!("the store broke: {reason}"),
        }
    }

    pub(super) fn fresh_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId::new(self.links)
    }

    /// A direct link comes about.
    pub(super) fn link(&mut self, one: usize, other: usize) {
        let (ours, theirs) = (self.fresh_link(), self.fresh_link());
        self.people[one].direct.insert(ours, (other, theirs));
        self.people[other].direct.insert(theirs, (one, ours));
        for (who, link, peer) in [(one, ours, other), (other, theirs, one)] {
            let peer = Peer::Node { transport: self.people[peer].transport };
            self.queue.push_back(Flight::ToNode(who, Input::LinkUp { link, peer }));
        }
    }

    /// Delivers what is on its way, and what follows from it, in no time.
    pub(super) fn settle(&mut self) {
        let mut steps = 0;
        loop {
            while let Some(event) = self.queue.pop_front() {
                steps += 1;
                assert!(steps < 200_000, "the world does not come to rest");
                match event {
                    Flight::ToRelay(who, link, frame) => {
                        if self.people[who].home.is_some_and(|(home, _)| home == link) {
                            self.serve(who, frame);
                        }
                    }
                    Flight::ToNode(who, input) => self.input(who, input),
                }
            }
            // Acknowledgements and the like are due without the clock moving only when set to now.
            let due: Vec<usize> = (0..self.people.len())
                .filter(|who| self.next_timer(*who).is_some_and(|at| at <= self.now.monotonic))
                .collect();
            if due.is_empty() {
                return;
            }
            due.into_iter().for_each(|who| {
                steps += 1;
                self.input(who, Input::Timeout);
            });
            assert!(steps < 200_000, "timers do not come to rest");
        }
    }

    fn next_timer(&self, who: usize) -> Option<Monotonic> {
        self.people[who].node.as_ref().and_then(Node::poll_timeout)
    }

    /// Time passes, timer by timer.
    pub(super) fn advance(&mut self, delay: Duration) {
        self.settle();
        let end = self.now.monotonic.plus(delay);
        loop {
            let next = (0..self.people.len()).filter_map(|who| self.next_timer(who)).min();
            let at = next.unwrap_or(end).min(end).max(self.now.monotonic);
            let passed = at.since(self.now.monotonic);
            self.now.monotonic = at;
            self.now.wall = Wall::from_millis(self.now.wall.as_millis() + passed.as_millis() as u64);
            self.settle();
            if at >= end {
                return;
            }
        }
    }

    pub(super) fn command(&mut self, who: usize, command: Command) -> u64 {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(who, Input::Command { ticket, command });
        self.settle();
        ticket.0
    }

    pub(super) fn answer(&self, who: usize, ticket: u64) -> Option<Result<Reply, CommandError>> {
        self.people[who].answers.get(&ticket).cloned()
    }

    pub(super) fn ask(&mut self, who: usize, command: Command) -> Result<Reply, CommandError> {
        let ticket = self.command(who, command);
        self.answer(who, ticket).expect("answered")
    }

    pub(super) fn invite(&mut self, who: usize) -> Invite {
        let holds = Duration::from_secs(3_600);
        match self.ask(who, Command::NewInvite { uses: 1, holds, group: None }).unwrap() {
            Reply::Invite(invite) => invite,
            other => panic!("{other:?}"),
        }
    }

    /// `one` takes up an invite of `other`.
    pub(super) fn befriend(&mut self, one: usize, other: usize) -> ThreadId {
        let invite = self.invite(other);
        let reply = self.ask(one, Command::AcceptInvite(invite)).unwrap();
        let Reply::Contact { thread, .. } = reply else { panic!("{reply:?}") };
        thread
    }

    pub(super) fn say(&mut self, who: usize, thread: ThreadId, text: &str) -> MessageId {
        match self.ask(who, Command::Send { thread, text: text.to_owned() }).unwrap() {
            Reply::Queued { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// Texts shown, in the order they were.
    pub(super) fn shown(&self, who: usize) -> Vec<&str> {
        self.people[who].shown.iter().map(|message| message.text.as_str()).collect()
    }

    /// The whole history, as displayed.
    pub(super) fn history(&self, who: usize, thread: ThreadId) -> Vec<String> {
        let lines = views::messages(self.store(who), &thread, Page::Oldest, 10_000).unwrap();
        lines.into_iter().map(|line| line.message.text).collect()
    }

    pub(super) fn state(&self, who: usize, message: MessageId) -> Option<State> {
        views::message_state(self.store(who), &message).unwrap()
    }

    pub(super) fn submits(&self, who: usize) -> Vec<&Envelope> {
        let submit = |(by, frame): &'_ (usize, Frame)| *by == who && matches!(frame, Frame::Submit(_));
        let heard = self.relay.heard.iter().filter(|said| submit(said));
        heard
            .filter_map(|(_, frame)| if let Frame::Submit(words) = frame { Some(&words.envelope) } else { None })
            .collect()
    }

    pub(super) fn direct_answers(&mut self, flow: bool) {
        self.direct_flows = flow;
    }

    pub(super) fn say_to(&mut self, who: usize, frame: impl Into<Frame>) {
        let frame = frame.into();
        self.relay.said.push(frame.clone());
        if let Some((link, _)) = self.people[who].home {
            self.queue.push_back(Flight::ToNode(who, Input::Frame { link, frame }));
        }
    }

    /// Says what stands behind everything that waits for somebody.
    pub(super) fn say_behind(&mut self, who: usize, frame: impl Into<Frame>) {
        match &mut self.relay.backlog {
            Some(waits) => waits.push((who, frame.into())),
            None => self.say_to(who, frame),
        }
    }

    pub(super) fn serve(&mut self, who: usize, frame: Frame) {
        self.relay.heard.push((who, frame.clone()));
        if self.relay.mute.contains(frame.name()) {
            return;
        }
        let account = self.people[who].account;
        let request = match &frame {
            Frame::Register(words) => Some(words.request),
            Frame::LookUp(words) => Some(words.request),
            Frame::StockKeyPackages(words) => Some(words.request),
            Frame::ClaimKeyPackages(words) => Some(words.request),
            Frame::NewInvite(words) => Some(words.request),
            Frame::OpenThread(words) => Some(words.request),
            Frame::Submit(words) => Some(words.request),
            Frame::TagThread(words) => Some(words.request),
            Frame::SubmitCommit(words) => Some(words.request),
            Frame::FetchCommit(words) => Some(words.request),
            Frame::ExtendLog(words) => Some(words.request),
            Frame::FetchBlob(words) => Some(words.request),
            Frame::TellSibling(words) => Some(words.request),
            Frame::JoinLinking(words) => Some(words.request),
            Frame::FetchTreeHead(words) => Some(words.request),
            Frame::KeepStamp(words) => Some(words.request),
            other => manners::request(other),
        };
        let refuse = |code, retry_after_ms| Refused { request, code, retry_after_ms };
        if let Some((code, retry_after_ms)) = self.relay.refuse.get(frame.name()).copied() {
            return self.say_to(who, refuse(code, retry_after_ms));
        }
        let exporter = self.people[who].home.map_or([0; 32], |(_, exporter)| exporter);
        match frame {
            Frame::Register(words) => {
                let log = UnverifiedLog(words.log.clone()).verify().unwrap();
                let device = log.device(words.device.index).unwrap();
                proof::verify_proof(&device.device_key, &exporter, &words.proof).unwrap();
                let domain = relay_domain(self.store(who));
                let address = Address { name: words.name, domain };
                let row = self.relay.accounts.entry(account).or_default();
                (row.address, row.log) = (Some(address.clone()), words.log);
                self.say_to(who, Registered { request: words.request, address });
            }
            Frame::Hello(words) => {
                let Some(row) = self.relay.accounts.get_mut(&account) else {
                    return self.say_to(who, refuse(RefusalCode::NotAuthenticated, None));
                };
                let log = UnverifiedLog(row.log.clone()).verify().unwrap();
                let bytes = row.log.clone();
                let domain = row.address.clone().unwrap().domain;
                let Some(device) = log.device(words.device.index) else {
                    self.say_to(who, OwnLog { log: bytes });
                    return self.say_to(who, refuse(RefusalCode::Revoked, None));
                };
                proof::verify_proof(&device.device_key, &exporter, &words.proof).unwrap();
                if log.head() != (words.log_seq, words.log_hash) {
                    self.say_to(who, OwnLog { log: bytes });
                }
                let row = self.mailbox(words.device);
                row.pushed = row.cursors.clone();
                let left = row.packages.len() as u32;
                let wall = self.relay.manners.wall.unwrap_or(self.now.wall);
                let stays = words.stays && !self.relay.manners.deaf;
                if stays {
                    self.relay.manners.push_address = None;
                }
                if let Some((endpoint, times)) = self.relay.manners.push_address.take() {
                    if times > 1 {
                        self.relay.manners.push_address = Some((endpoint.clone(), times - 1));
                    }
                    return self.say_to(who, Admitted { version: 1, domain, push_address: Some(endpoint), wall });
                }
                self.say_to(who, Admitted { version: 1, domain, push_address: None, wall });
                self.say_to(who, Stocked { request: None, left });
                self.push(who);
                self.say_behind(who, CaughtUp {});
            }
            Frame::Heartbeat(words) => {
                self.relay.accounts.get_mut(&account).unwrap().touches.extend(words.touches);
                let answer = self.heartbeat_answer(words.statuses);
                self.say_to(who, answer);
            }
            Frame::LookUp(words) => {
                let domain = words.who.domain().clone();
                let row = match words.who {
                    Who::Account(wanted, _) => self.relay.accounts.get(&wanted),
                    Who::Address(wanted) => {
                        self.relay.accounts.values().find(|row| row.address.as_ref() == Some(&wanted))
                    }
                };
                match row.and_then(|row| row.address.clone().map(|address| (address, row.log.clone()))) {
                    Some((address, log)) if address.domain == domain => {
                        self.say_to(who, LookedUp { request: words.request, address, log });
                    }
                    _ => self.say_to(who, refuse(RefusalCode::NotFound, None)),
                }
            }
            Frame::StockKeyPackages(words) => {
                let row = self.mailbox(self.id(who));
                if words.replaces {
                    row.packages.clear();
                }
                row.packages.extend(words.one_time.into_iter().map(Vec::from));
                row.last_resort = words.last_resort.map(Vec::from).or(row.last_resort.take());
                let left = row.packages.len() as u32;
                self.say_to(who, Stocked { request: Some(words.request), left });
            }
            Frame::ClaimKeyPackages(words) => {
                let Some(row) = self.relay.accounts.get_mut(&words.account) else {
                    return self.say_to(who, refuse(RefusalCode::NotFound, None));
                };
                if words.account != account && !row.friends.contains(&account) {
                    let uses = words.token.and_then(|token| row.invites.get_mut(&token.hash()));
                    match uses {
                        Some(uses) if *uses > 0 => *uses -= 1,
                        _ => return self.say_to(who, refuse(RefusalCode::NoConsent, None)),
                    }
                    row.friends.insert(account);
                }
                let log = UnverifiedLog(row.log.clone()).verify().unwrap();
                self.relay.accounts.get_mut(&account).unwrap().friends.insert(words.account);
                let mut packages = Vec::new();
                for device in log.devices().map(|device| device.index) {
                    let id = DeviceId { account: words.account, index: device };
                    if id == self.id(who) {
                        continue;
                    }
                    let row = self.mailbox(id);
                    let package = row.packages.pop_front().or_else(|| row.last_resort.clone());
                    packages.extend(package.map(|package| ClaimedPackage { device, package }));
                }
                self.say_to(who, ClaimedKeyPackages { request: words.request, packages });
            }
            Frame::NewInvite(words) => {
                self.relay.accounts.get_mut(&account).unwrap().invites.insert(words.token, words.uses);
                self.say_to(who, Done { request: words.request });
            }
            Frame::OpenThread(words) => {
                if let [_] = words.opening.participants.as_slice() {
                    let first = *self.relay.selves.entry(account).or_insert(words.opening.thread);
                    if first != words.opening.thread {
                        return self.say_to(who, ThreadExists { request: words.request, thread: first });
                    }
                }
                self.say_to(who, Stored { request: words.request, sequence: Sequence::ZERO });
                self.take_opening(self.id(who), words.opening);
            }
            Frame::Submit(words) => {
                let author = self.id(who);
                let Some((_, log)) = self.relay.threads.get_mut(&words.envelope.thread) else {
                    return self.say_to(who, refuse(RefusalCode::NotFound, None));
                };
                let id = words.envelope.id();
                let place = log.iter().position(|body| matches!(body, EntryBody::Envelope(_, one) if one.id() == id));
                let place = place.unwrap_or_else(|| {
                    log.push(EntryBody::Envelope(author, words.envelope));
                    log.len() - 1
                });
                let sequence = Sequence::new(place as u64 + 1);
                self.say_to(who, Stored { request: words.request, sequence });
                self.push_all();
            }
            Frame::TagThread(words) => self.say_to(who, Done { request: words.request }),
            Frame::SubmitCommit(words) => self.submit_commit(who, words),
            Frame::FetchCommit(words) => self.fetch_commit(who, &words),
            Frame::ExtendLog(words) => self.extend_log(who, &words),
            Frame::TellSibling(words) => self.tell_sibling(who, words),
            Frame::Signal(words) => self.pass_signal(who, &words),
            Frame::JoinLinking(words) => self.say_to(who, Done { request: words.request }),
            Frame::LinkingWords(words) => self.newcomer_hears(who, &words),
            Frame::LinkingOver(_) => self.newcomer = None,
            Frame::FetchTreeHead(words) => self.show_tree(who, &words),
            Frame::KeepStamp(words) => self.keep_stamp(who, &words),
            Frame::FetchBlob(words) => match self.relay.blobs.get(&words.blob).cloned() {
                Some(bytes) => self.say_to(who, Blob { request: words.request, bytes }),
                None => self.say_to(who, refuse(RefusalCode::NotFound, None)),
            },
            Frame::Acknowledge(words) => {
                let row = self.mailbox(self.id(who));
                for acked in words.logs {
                    let pushed = row.pushed.get(&acked.log).copied().unwrap_or_default();
                    assert!(acked.upto <= pushed, "acknowledged more than was pushed");
                    let cursor = row.cursors.entry(acked.log).or_default();
                    *cursor = acked.upto.max(*cursor);
                }
            }
            other => self.answer_people(who, other),
        }
    }

    /// Puts an entry into a thread's log as if somebody had handed it in.
    pub(super) fn inject(&mut self, thread: ThreadId, submitter: DeviceId, envelope: Envelope) {
        self.relay.threads.get_mut(&thread).unwrap().1.push(EntryBody::Envelope(submitter, envelope));
        self.push_all();
        self.settle();
    }

    pub(super) fn listen(&mut self, who: usize) {
        self.input(who, Input::Listening { addresses: vec![format!("/ip4/10.0.0.{who}/udp/1/quic-v1")] });
    }

    pub(super) fn is_linked(&self, one: usize, other: usize) -> bool {
        self.people[one].direct.values().any(|(peer, _)| *peer == other)
    }

    pub(super) fn events(&self, who: usize, wanted: impl Fn(&Event) -> bool) -> usize {
        self.people[who].events.iter().filter(|event| wanted(event)).count()
    }
}

fn relay_domain(reads: &dyn Reads) -> whimbrel_protocol::id::Domain {
    views::account(reads).unwrap().relay.domain
}
