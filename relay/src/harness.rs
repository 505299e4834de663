//! A small world for tests: real relays over memory disks, links that record, devices with real keys. A store answers
//! late and in groups, every read waits a turn, every frame passes the codec.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use whimbrel_crypto::{
    AccountLog, Chance, KeyPair, PublicEngine, RecoveryPhrase, RelayIdentity, Seed, StandInPublic, TransportProof, link,
};
use whimbrel_protocol::id::{DeviceId, DeviceIndex, Domain, LinkId, RelayId, RequestId, Sequence, ThreadId};
use whimbrel_protocol::push::{Entry, LogRef};
use whimbrel_protocol::reception::{Hello, Register};
use whimbrel_protocol::time::{Hlc, Monotonic, Now, Wall};
use whimbrel_protocol::user::ExtendLog;
use whimbrel_protocol::{Frame, VERSION, codec};
use whimbrel_storage::{Kv, MemoryEngine, MemoryKv, Reads, StorageError};

use crate::store::kv::Committer;
use crate::store::{Command, Conflict, Disk, KvStore, Outcome, StoreError};
use crate::{Config, LinkPeer, Links, PeerAddress, Ports, Relay, SendError, WakeOrder};

type Answer = Result<Vec<Result<Outcome, Conflict>>, StoreError>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A disk whose group is written when the world says so.
#[derive(Clone)]
pub(crate) struct SlowDisk {
    kv: Arc<MemoryKv>,
    state: Arc<Mutex<Group>>,
}

struct Group {
    committer: Committer<Arc<MemoryKv>>,
    waiting: Vec<(u64, Vec<Command>)>,
    answers: BTreeMap<u64, Answer>,
    next: u64,
    /// Commands that were to be done so far.
    commands: u64,
}

impl SlowDisk {
    /// How many commands it was given.
    fn commands(&self) -> u64 {
        self.state.lock().unwrap().commands
    }

    fn open(engine: &MemoryEngine) -> Self {
        let kv = Arc::new(Kv::open(engine.clone(), None).unwrap());
        let committer = Committer::new(Arc::clone(&kv));
        let group = Group { committer, waiting: Vec::new(), answers: BTreeMap::new(), next: 0, commands: 0 };
        Self { kv, state: Arc::new(Mutex::new(group)) }
    }

    /// Applies what waits as one group; answers only when it is synced.
    fn write(&self, sync: bool) -> bool {
        let mut group = self.state.lock().unwrap();
        let waiting = std::mem::take(&mut group.waiting);
        let any = !waiting.is_empty();
        let answers: Vec<_> =
            waiting.into_iter().map(|(ticket, commands)| (ticket, group.committer.apply(&commands))).collect();
        if sync && any {
            group.committer.sync().unwrap();
            group.answers.extend(answers);
        }
        any
    }
}

impl Disk for SlowDisk {
    async fn commit(&self, commands: Vec<Command>) -> Answer {
        let ticket = {
            let mut group = self.state.lock().unwrap();
            group.next += 1;
            group.commands += commands.len() as u64;
            let ticket = group.next;
            group.waiting.push((ticket, commands));
            ticket
        };
        poll_fn(|_| match self.state.lock().unwrap().answers.remove(&ticket) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    fn unsynced(&self) -> Arc<crate::store::kv::Unsynced> {
        self.state.lock().unwrap().committer.unsynced()
    }

    async fn read<T, Q>(&self, query: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    {
        let mut waited = false;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        Ok(query(self.kv.as_ref())?)
    }
}

enum Out {
    Send(LinkId, Arc<Frame>),
    Close(LinkId),
    Dial(PeerAddress),
}

#[derive(Default)]
struct Wires {
    out: VecDeque<Out>,
    queued: BTreeMap<LinkId, usize>,
    full: BTreeSet<LinkId>,
    woken: Vec<WakeOrder>,
}

/// Links that record what is sent until the world carries it on.
#[derive(Clone, Default)]
pub(crate) struct FakeLinks {
    wires: Arc<Mutex<Wires>>,
    room: usize,
}

impl Links for FakeLinks {
    fn send(&self, link: LinkId, frame: Arc<Frame>) -> Result<(), SendError> {
        let mut wires = self.wires.lock().unwrap();
        let Some(queued) = wires.queued.get_mut(&link) else { return Err(SendError::Gone) };
        if *queued >= self.room {
            wires.full.insert(link);
            return Err(SendError::Full);
        }
        *queued += 1;
        wires.out.push_back(Out::Send(link, frame));
        Ok(())
    }

    fn close(&self, link: LinkId) {
        self.wires.lock().unwrap().out.push_back(Out::Close(link));
    }

    fn dial(&self, peer: PeerAddress) {
        self.wires.lock().unwrap().out.push_back(Out::Dial(peer));
    }
}

/// The ports of a relay of this world.
pub(crate) struct Kit {
    store: KvStore<SlowDisk>,
    links: FakeLinks,
    chance: Mutex<Chance>,
    clock: Arc<Mutex<Now>>,
    identity: RelayIdentity,
}

impl Ports for Kit {
    type Store = KvStore<SlowDisk>;
    type Links = FakeLinks;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn links(&self) -> &FakeLinks {
        &self.links
    }

    fn now(&self) -> Now {
        *self.clock.lock().unwrap()
    }

    fn chance(&self, buffer: &mut [u8]) {
        self.chance.lock().unwrap().fill(buffer);
    }

    fn identity(&self) -> &RelayIdentity {
        &self.identity
    }

    fn publics(&self) -> &dyn PublicEngine {
        const { &StandInPublic::new() }
    }

    fn wake(&self, order: WakeOrder) {
        self.links.wires.lock().unwrap().woken.push(order);
    }
}

struct Running {
    relay: Arc<Relay<Kit>>,
    disk: SlowDisk,
    links: FakeLinks,
    tasks: Vec<Task>,
}

struct Site {
    config: Config,
    engine: MemoryEngine,
    running: Option<Running>,
    boots: u8,
    room: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Device(usize),
    Relay(usize, LinkId),
    /// A test plays the other end.
    Test,
}

/// A person with one device.
pub(crate) struct Device {
    pub(crate) log: AccountLog,
    pub(crate) identity: KeyPair,
    key: KeyPair,
    transport: KeyPair,
    pub(crate) name: String,
    pub(crate) index: DeviceIndex,
    pub(crate) link: Option<(usize, LinkId)>,
    /// Frames it reads at a time: none while it is slow.
    pub(crate) slow: bool,
    pub(crate) inbox: Vec<Frame>,
}

impl Device {
    pub(crate) fn id(&self) -> DeviceId {
        DeviceId { account: self.log.account(), index: self.index }
    }
}

/// Relays, devices, and the wires between them.
pub(crate) struct World {
    pub(crate) now: Now,
    /// The same, for the relays to look at.
    clock: Arc<Mutex<Now>>,
    sites: Vec<Site>,
    ends: BTreeMap<(usize, LinkId), End>,
    pub(crate) devices: Vec<Device>,
    /// Frames that tests playing an end were sent.
    pub(crate) heard: Vec<Frame>,
    next_link: u64,
    next_request: u64,
    /// The push address that devices come in at.
    pub(crate) door: Option<u16>,
    /// The public state of groups in each epoch, saved: what their members commit on.
    publics: BTreeMap<(ThreadId, u64), Vec<u8>>,
}

/// Of links on which a test plays a relay.
pub(crate) const TEST_EXPORTER: [u8; 32] = [250; 32];

pub(crate) fn domain(site: usize) -> Domain {
    ["a.example", "b.example", "c.example"][site].parse().unwrap()
}

/// When the world begins; the relays' certificates are of then.
const STARTED: Wall = Wall::from_millis(1_700_000_000_000);

pub(crate) fn identity(site: usize) -> RelayIdentity {
    let key = |n: usize| KeyPair::from_seed_bytes([200 + n as u8; 32]);
    RelayIdentity::create(&key(site), &key(site + 10), &domain(site), STARTED).unwrap()
}

pub(crate) fn relay_id(site: usize) -> RelayId {
    identity(site).id()
}

pub(crate) fn address(site: usize) -> PeerAddress {
    PeerAddress { domain: domain(site), endpoint: format!("127.0.0.1:{}", 1_000 + site), relay: relay_id(site) }
}

impl World {
    /// So many relays, each knowing the others.
    pub(crate) fn new(sites: usize) -> Self {
        let configs = (0..sites).map(|site| {
            let mut config = Config::new(domain(site), relay_id(site));
            config.endpoint = Some(address(site).endpoint);
            config.peers = (0..sites).filter(|other| *other != site).map(address).collect();
            config
        });
        Self::with(configs.collect())
    }

    pub(crate) fn with(configs: Vec<Config>) -> Self {
        let site = |config| Site { config, engine: MemoryEngine::new(), running: None, boots: 0, room: 1_024 };
        let now = Now { monotonic: Monotonic::from_start(Duration::from_secs(5)), wall: STARTED };
        let mut world = Self {
            now,
            clock: Arc::new(Mutex::new(now)),
            sites: configs.into_iter().map(site).collect(),
            ends: BTreeMap::new(),
            devices: Vec::new(),
            heard: Vec::new(),
            next_link: 0,
            next_request: 0,
            door: None,
            publics: BTreeMap::new(),
        };
        (0..world.sites.len()).for_each(|site| world.start(site));
        world
    }

    /// How many frames a link of this site queues from its next start on.
    pub(crate) fn set_room(&mut self, site: usize, room: usize) {
        self.sites[site].room = room;
    }

    pub(crate) fn start(&mut self, at: usize) {
        let now = self.now;
        let site = &mut self.sites[at];
        site.boots += 1;
        let disk = SlowDisk::open(&site.engine);
        let links = FakeLinks { room: site.room, ..FakeLinks::default() };
        let seed = Seed::from_bytes([10 * at as u8 + site.boots; 32]);
        let kit = Kit {
            clock: Arc::clone(&self.clock),
            store: KvStore::new(disk.clone()),
            links: links.clone(),
            chance: Mutex::new(Chance::from_seed(seed)),
            identity: identity(at),
        };
        let mut opening = Box::pin(Relay::open(kit, site.config.clone(), now));
        let relay = loop {
            match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(relay) => break Arc::new(relay.unwrap()),
                Poll::Pending => {
                    disk.write(true);
                }
            }
        };
        drop(opening);
        site.running = Some(Running { relay, disk, links, tasks: Vec::new() });
    }

    /// The relay's process ends here and now. What waits for the disk is lost, or written but not answered.
    pub(crate) fn crash(&mut self, at: usize, reached_the_disk: bool) {
        let site = &mut self.sites[at];
        let running = site.running.take().unwrap();
        running.disk.write(false);
        drop(running);
        site.engine.crash(if reached_the_disk { usize::MAX } else { 0 });
        let gone: Vec<_> = self.ends.keys().filter(|(site, _)| *site == at).copied().collect();
        for (site, link) in gone {
            self.cut(site, link);
        }
    }

    pub(crate) fn relay(&self, at: usize) -> Arc<Relay<Kit>> {
        Arc::clone(&self.sites[at].running.as_ref().unwrap().relay)
    }

    fn spawn<F>(&mut self, at: usize, task: impl FnOnce(Arc<Relay<Kit>>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(running) = &mut self.sites[at].running {
            running.tasks.push(Box::pin(task(Arc::clone(&running.relay))));
        }
    }

    fn new_link(&mut self, at: usize, end: End, peer: LinkPeer) -> LinkId {
        self.next_link += 1;
        let link = LinkId::new(self.next_link);
        self.bring_up(at, link, end, peer);
        link
    }

    fn bring_up(&mut self, at: usize, link: LinkId, end: End, peer: LinkPeer) {
        self.ends.insert((at, link), end);
        let now = self.now;
        if let Some(running) = &self.sites[at].running {
            running.links.wires.lock().unwrap().queued.insert(link, 0);
        }
        self.spawn(at, |relay| async move { relay.link_up(now, link, peer).await });
    }

    /// Ends a link at both sides.
    pub(crate) fn cut(&mut self, at: usize, link: LinkId) {
        let Some(end) = self.ends.remove(&(at, link)) else { return };
        if let Some(running) = &self.sites[at].running {
            let mut wires = running.links.wires.lock().unwrap();
            wires.queued.remove(&link);
            wires.out.retain(|out| !matches!(out, Out::Send(sent, _) if *sent == link));
            drop(wires);
            running.relay.link_lost(self.now, link);
        }
        match end {
            End::Device(device) => self.devices[device].link = None,
            End::Relay(other, theirs) => self.cut(other, theirs),
            End::Test => {}
        }
    }

    /// One side ends a link: the other hears of it behind what was sent before.
    fn close(&mut self, at: usize, link: LinkId) {
        if let Some(End::Relay(other, theirs)) = self.ends.get(&(at, link)).copied() {
            self.ends.remove(&(other, theirs));
            if let Some(running) = &self.sites[other].running {
                let mut wires = running.links.wires.lock().unwrap();
                wires.queued.remove(&theirs);
                wires.out.retain(|out| !matches!(out, Out::Send(sent, _) if *sent == theirs));
            }
            let now = self.now;
            self.spawn(other, |relay| async move { relay.link_lost(now, theirs) });
        }
        self.cut(at, link);
    }

    /// A test plays a relay that came in.
    pub(crate) fn come_in_as_relay(&mut self, at: usize, relay: RelayId, domain: Domain) -> LinkId {
        let (dialled, exporter, source) = (false, TEST_EXPORTER, 8);
        self.new_link(at, End::Test, LinkPeer::Relay { relay, domain, dialled, exporter, source })
    }

    pub(crate) fn lives(&self, at: usize, link: LinkId) -> bool {
        self.ends.contains_key(&(at, link))
    }

    /// Hands a relay a frame, as the wire would.
    pub(crate) fn hand(&mut self, at: usize, link: LinkId, frame: &Frame) {
        let (now, frame) = (self.now, through_the_codec(frame));
        self.spawn(at, |relay| async move { relay.handle(now, link, frame).await });
    }

    /// Polls every task once, writes every group, carries every frame; true when anything moved.
    pub(crate) fn turn(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.sites.len() {
            let Some(running) = &mut self.sites[at].running else { continue };
            moved |= !running.tasks.is_empty();
            running.tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            moved |= running.disk.write(true);
            moved |= self.carry(at);
        }
        moved
    }

    fn carry(&mut self, at: usize) -> bool {
        let Some(running) = &self.sites[at].running else { return false };
        let wires = Arc::clone(&running.links.wires);
        let outs = std::mem::take(&mut wires.lock().unwrap().out);
        let mut moved = false;
        for out in outs {
            match out {
                Out::Send(link, frame) => match self.ends.get(&(at, link)).copied() {
                    Some(End::Device(device)) if self.devices[device].slow => {
                        wires.lock().unwrap().out.push_back(Out::Send(link, frame));
                        continue;
                    }
                    Some(end) => {
                        *wires.lock().unwrap().queued.get_mut(&link).unwrap() -= 1;
                        let frame = through_the_codec(&frame);
                        match end {
                            End::Device(device) => self.devices[device].inbox.push(frame),
                            End::Relay(other, theirs) => self.hand(other, theirs, &frame),
                            End::Test => self.heard.push(frame),
                        }
                    }
                    None => {}
                },
                Out::Close(link) => self.close(at, link),
                Out::Dial(peer) => self.dial(at, &peer),
            }
            moved = true;
        }
        let drained: Vec<LinkId> = {
            let mut wires = wires.lock().unwrap();
            let drained = wires.full.iter().filter(|link| wires.queued.get(link) == Some(&0)).copied();
            let drained: Vec<LinkId> = drained.collect();
            wires.full.retain(|link| !drained.contains(link));
            drained
        };
        let now = self.now;
        for link in drained {
            moved = true;
            self.spawn(at, |relay| async move { relay.link_drained(now, link).await });
        }
        moved
    }

    fn dial(&mut self, at: usize, peer: &PeerAddress) {
        let other = (0..self.sites.len()).find(|other| address(*other).endpoint == peer.endpoint);
        let other = other.filter(|other| self.sites[*other].running.is_some());
        // The handshake refuses another identity than the one meant.
        let Some(other) = other.filter(|other| self.sites[*other].config.relay == peer.relay) else {
            return self.relay(at).dial_failed(self.now, &peer.domain, "nobody there");
        };
        self.next_link += 2;
        let (ours, theirs) = (LinkId::new(self.next_link - 1), LinkId::new(self.next_link));
        let (here, there) = (&self.sites[at].config, &self.sites[other].config);
        let exporter = [self.next_link as u8; 32];
        let of = |side: &Config, dialled| LinkPeer::Relay {
            relay: side.relay,
            domain: side.domain.clone(),
            dialled,
            exporter,
            source: 8,
        };
        let (to_them, to_us) = (of(here, false), of(there, true));
        self.bring_up(other, theirs, End::Relay(at, ours), to_them);
        self.bring_up(at, ours, End::Relay(other, theirs), to_us);
    }

    /// Until nothing moves without the clock.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass, with every timer in between.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic.plus(time);
        self.run();
        loop {
            let next = self.sites.iter().filter_map(|site| site.running.as_ref()?.relay.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.set_clock(next.max(self.now.monotonic));
            let now = self.now;
            for at in 0..self.sites.len() {
                self.spawn(at, |relay| async move { relay.timeout(now).await });
            }
            self.run();
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, to: Monotonic) {
        let passed = to.since(self.now.monotonic).as_millis() as u64;
        self.now = Now { monotonic: to, wall: Wall::from_millis(self.now.wall.as_millis() + passed) };
        *self.clock.lock().unwrap() = self.now;
    }

    // People.

    pub(crate) fn person(&mut self, name: &str) -> usize {
        let at = self.devices.len();
        let mut seed = [100; 32];
        seed[..8].copy_from_slice(&at.to_be_bytes());
        let mut chance = Chance::from_seed(Seed::from_bytes(seed));
        let identity = KeyPair::generate(&mut chance);
        let (key, transport) = (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
        let recovery = RecoveryPhrase::generate(&mut chance).recovery_hash();
        let mut log = AccountLog::genesis(&identity, recovery, Hlc::default(), &mut chance);
        let first = DeviceIndex::FIRST;
        let proof = TransportProof::make(&transport, log.account(), first, &key.public());
        log.add_device(&identity, first, key.public(), proof, "phone", Hlc::default()).unwrap();
        let (name, index, inbox) = (name.to_owned(), first, Vec::new());
        self.devices.push(Device { log, identity, key, transport, name, index, link: None, slow: false, inbox });
        at
    }

    /// A handshake is done; nothing is said yet.
    pub(crate) fn link(&mut self, who: usize, at: usize) -> LinkId {
        let transport = self.devices[who].transport.public();
        let exporter = [self.next_link as u8; 32];
        let link = self.new_link(
            at,
            End::Device(who),
            LinkPeer::Node { transport, exporter, source: 7, door: self.door, counted: false },
        );
        self.devices[who].link = Some((at, link));
        self.devices[who].inbox.clear();
        link
    }

    fn exporter(link: LinkId) -> [u8; 32] {
        [(link.get() - 1) as u8; 32]
    }

    pub(crate) fn register_frame(&mut self, who: usize, link: LinkId) -> Register {
        let request = self.request();
        let device = &self.devices[who];
        let proof = link::prove(&device.key, &Self::exporter(link));
        let (name, log) = (device.name.parse().unwrap(), device.log.bytes());
        Register { request, name, log, device: device.id(), proof, invite: None }
    }

    pub(crate) fn hello_frame(&self, who: usize, link: LinkId) -> Hello {
        let device = &self.devices[who];
        let (log_seq, log_hash) = device.log.head();
        let proof = link::prove(&device.key, &Self::exporter(link));
        Hello { version: VERSION, device: device.id(), log_seq, log_hash, proof, stays: false }
    }

    /// A new account at a relay, connected and admitted.
    pub(crate) fn join(&mut self, name: &str, at: usize) -> usize {
        let who = self.person(name);
        let link = self.link(who, at);
        let register = self.register_frame(who, link);
        let answer = self.ask(who, register);
        assert!(matches!(answer[..], [Frame::Registered(_)]), "{answer:?}");
        let hello = self.hello_frame(who, link);
        let answer = self.ask(who, hello);
        assert!(matches!(answer[..], [Frame::Admitted(_), Frame::Stocked(_), Frame::CaughtUp(_)]), "{answer:?}");
        who
    }

    /// Comes back; gives what was said by the relay until it came to rest.
    pub(crate) fn come_back(&mut self, who: usize, at: usize) -> Vec<Frame> {
        let link = self.link(who, at);
        let hello = self.hello_frame(who, link);
        self.ask(who, hello)
    }

    /// Another device of somebody's account, connected and admitted.
    pub(crate) fn sibling(&mut self, of: usize, at: usize) -> usize {
        let mut chance = Chance::from_seed(Seed::from_bytes([150 + self.devices.len() as u8; 32]));
        let (key, transport) = (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
        let first = &self.devices[of];
        let identity = KeyPair::from_seed_bytes(*first.identity.secret_bytes());
        let (mut log, name, (after, hash)) = (first.log.clone(), first.name.clone(), first.log.head());
        let index = log.next_index();
        let proof = TransportProof::make(&transport, log.account(), index, &key.public());
        log.add_device(&identity, index, key.public(), proof, "another", Hlc::default()).unwrap();
        let (request, account, entries) = (self.request(), log.account(), log.tail(after));
        let heard = self.ask(of, ExtendLog { request, account, after, hash, entries });
        assert!(matches!(heard[..], [Frame::Done(_)]), "{heard:?}");
        self.devices[of].log = log.clone();
        let (link, slow, inbox) = (None, false, Vec::new());
        self.devices.push(Device { log, identity, key, transport, name, index, link, slow, inbox });
        let who = self.devices.len() - 1;
        let answer = self.come_back(who, at);
        assert!(matches!(answer[..], [Frame::Admitted(_), ..]), "{answer:?}");
        who
    }

    pub(crate) fn leave(&mut self, who: usize) {
        if let Some((at, link)) = self.devices[who].link {
            self.cut(at, link);
        }
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId::new(self.next_request)
    }

    /// Says something without waiting.
    pub(crate) fn say(&mut self, who: usize, frame: impl Into<Frame>) {
        let (at, link) = self.devices[who].link.expect("connected");
        self.hand(at, link, &frame.into());
    }

    /// Says something and lets the world come to rest; gives all that was heard.
    pub(crate) fn ask(&mut self, who: usize, frame: impl Into<Frame>) -> Vec<Frame> {
        self.devices[who].inbox.clear();
        self.say(who, frame);
        self.run();
        std::mem::take(&mut self.devices[who].inbox)
    }
}

fn through_the_codec(frame: &Frame) -> Frame {
    let mut decoder = codec::Decoder::new();
    decoder.push(&codec::encode(frame).expect("within its bound"));
    let read = decoder.next_frame().expect("well formed").expect("whole");
    assert_eq!(&read, frame);
    read
}

/// The entries of a log in what was heard; each push must go on where the one before ended.
pub(crate) fn entries(heard: &[Frame], log: LogRef, mut place: Sequence) -> Vec<Entry> {
    let mut entries = Vec::new();
    for frame in heard {
        if let Frame::Push(push) = frame
            && push.log == log
        {
            assert_eq!(push.after, place, "a gap in {log:?}");
            place = push.upto;
            entries.extend(push.entries.iter().cloned());
        }
    }
    entries
}
