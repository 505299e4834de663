//! A relay process: the relay core on the virtual executor, disk and links.
//! Owns: the ports of one life, what runs in it, and what a crash ends.
//! Never: knows what a frame means.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_crypto::{MlsPublic, PublicEngine, RelayIdentity, StandInPublic};
use whimbrel_protocol::id::{Domain, LinkId, RelayId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::time::Now;
use whimbrel_protocol::{Frame, limits};
use whimbrel_relay::store::{Command, Conflict, KvStore, Store as _, StoreError};
use whimbrel_relay::{
    Config, LinkPeer, Links, OpenError, PeerAddress, Ports, Rates, Registration, Relay, SendError, WakeOrder,
};

use super::Event;
use super::clock::Clock;
use super::hostile::Mischief;
use super::poll::{Polls, is_polled};
use super::trap::{Spot, Traps};
use crate::disk::{Due, Platter, RelayDisk, Torn};
use crate::engine::{Engine, Entity, Seed, Stream, Time};
use crate::executor::Executor;
use crate::faults::Keep;
use crate::net::{Net, ProcessNo};
use crate::scenario::{Crypto, Push};

/// Something a relay's future is done with.
enum Ended {
    Opened(Box<Result<Relay<SimPorts>, OpenError>>),
    Request(LinkId),
    Timeout,
    /// What its operator asked of its store: which question, and whether it is done.
    Operated(usize, bool),
}

/// What happens to a relay by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayEvent {
    /// Futures were woken.
    Poll,
    /// A deadline may have come.
    Timer,
    /// The disk's writer applies.
    Apply,
    /// The disk's writer syncs.
    Sync,
    /// The disk answers a reader.
    Read,
    /// A link's queue has room again.
    Drained(LinkId),
}

impl RelayEvent {
    /// For the trace.
    pub(super) const fn mark(self) -> (u16, u64) {
        match self {
            Self::Poll => (20, 0),
            Self::Timer => (21, 0),
            Self::Apply => (22, 0),
            Self::Sync => (23, 0),
            Self::Read => (24, 0),
            Self::Drained(link) => (25, link.get()),
        }
    }
}

#[derive(Debug)]
enum Effect {
    Send(LinkId, Arc<Frame>),
    Close(LinkId),
    Dial(PeerAddress),
}

/// Frames of one link that have not left the uplink.
#[derive(Debug, Default)]
struct Line {
    departures: VecDeque<Time>,
    /// Taken by [`Links::send`] and not handed to the network yet.
    taken: usize,
    /// What waits in the queue of a link over HTTPS.
    queued: usize,
    /// The core has let the peer in, or dialled it: many frames may be served at once.
    admitted: bool,
}

#[derive(Debug, Default)]
struct Board {
    now: Time,
    /// What the relay's own clocks show then.
    clock: Now,
    lines: BTreeMap<LinkId, Line>,
    effects: Vec<Effect>,
    /// Links that refused a frame: the relay waits to hear of room.
    refused: BTreeSet<LinkId>,
    /// What was handed to push services.
    woken: Vec<WakeOrder>,
}

impl Board {
    fn tell(&mut self, now: Time, clock: Now) {
        (self.now, self.clock) = (now, clock);
    }
}

/// The links of one life of a relay.
#[derive(Clone, Debug, Default)]
pub(super) struct SimLinks(Arc<Mutex<Board>>);

impl SimLinks {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for SimLinks {
    fn send(&self, link: LinkId, frame: Arc<Frame>) -> Result<(), SendError> {
        let mut board = self.board();
        let Board { now, lines, effects, refused, .. } = &mut *board;
        let line = lines.get_mut(&link).ok_or(SendError::Gone)?;
        while line.departures.front().is_some_and(|departs| departs <= now) {
            line.departures.pop_front();
        }
        if line.departures.len() + line.taken + line.queued >= limits::LINK_QUEUE_FRAMES_MAX {
            refused.insert(link);
            return Err(SendError::Full);
        }
        line.taken += 1;
        // These are what lets a peer in, on either protocol.
        line.admitted |= matches!(*frame, Frame::Admitted(_) | Frame::PeerHello(_));
        effects.push(Effect::Send(link, frame));
        Ok(())
    }

    fn close(&self, link: LinkId) {
        self.board().effects.push(Effect::Close(link));
    }

    fn dial(&self, peer: PeerAddress) {
        self.board().effects.push(Effect::Dial(peer));
    }
}

/// The ports of one life of a relay.
pub(super) struct SimPorts {
    store: KvStore<RelayDisk>,
    links: SimLinks,
    chance: Mutex<Stream>,
    identity: RelayIdentity,
    publics: Arc<dyn PublicEngine>,
}

impl Ports for SimPorts {
    type Store = KvStore<RelayDisk>;
    type Links = SimLinks;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn links(&self) -> &Self::Links {
        &self.links
    }

    fn now(&self) -> Now {
        self.links.board().clock
    }

    fn chance(&self, buffer: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).chance().fill(buffer);
    }

    fn identity(&self) -> &RelayIdentity {
        &self.identity
    }

    fn publics(&self) -> &dyn PublicEngine {
        self.publics.as_ref()
    }

    fn wake(&self, order: WakeOrder) {
        self.links.board().woken.push(order);
    }
}

/// What came in on a link.
enum Incoming {
    Frame(Frame),
    Malformed,
}

/// Frames of one link that the relay has not begun, and how many it works on.
#[derive(Default)]
struct Inlet {
    waiting: VecDeque<Incoming>,
    running: usize,
}

struct Life {
    executor: Executor<Ended>,
    relay: Option<Arc<Relay<SimPorts>>>,
    disk: RelayDisk,
    links: SimLinks,
    inlets: BTreeMap<LinkId, Inlet>,
    /// What the disk would have done if it answered.
    stuck: Vec<RelayEvent>,
    reads_scheduled: usize,
    poll_scheduled: bool,
    timer: Option<Time>,
    timeout_runs: bool,
}

/// A relay, through all its lives.
pub struct RelayProcess {
    /// Its number.
    pub no: ProcessNo,
    /// The domain it serves.
    pub domain: Domain,
    /// Who it is.
    pub id: RelayId,
    /// Whether the operators of the others have listed it.
    pub listed: bool,
    /// How much everybody may ask of it, from its next start on.
    pub(super) rates: Rates,
    /// Whether it takes an account in for a token of its operator alone.
    pub(super) by_token: bool,
    /// What its operator asked of it and was told is done.
    done: BTreeSet<usize>,
    /// How many push addresses are drawn for each of its lives; none: they stay.
    pub(super) doors: Option<Push>,
    /// Its push addresses, from its next start on.
    pub(super) push: Vec<String>,
    /// What it keeps in a log.
    pub(super) log: crate::scenario::Keeps,
    identity: RelayIdentity,
    publics: Arc<dyn PublicEngine>,
    platter: Platter,
    seed: Seed,
    run: u32,
    life: Option<Life>,
    /// What lives that are over let go of logs without room to tell the author.
    untold: u64,
    /// Its clocks.
    pub(super) clock: Clock,
    /// Where in its work it is hit next.
    pub(super) traps: Traps,
    /// What it does to its own users.
    pub(super) mischief: Option<Box<Mischief>>,
}

impl RelayProcess {
    /// A relay that has not started.
    pub fn new(
        no: ProcessNo,
        identity: RelayIdentity,
        disk: crate::scenario::Disk,
        (seed, crypto): (Seed, Crypto),
    ) -> Self {
        let (domain, id) = (identity.domain().clone(), identity.id());
        let platter = Platter::new(disk, seed.stream(Entity::Process(no), "disk"));
        let (clock, traps, mischief) = (Clock::new(), Traps::default(), None);
        let publics: Arc<dyn PublicEngine> = match crypto {
            Crypto::Standin => Arc::new(StandInPublic::new()),
            Crypto::Real => Arc::new(MlsPublic::new()),
        };
        Self {
            no,
            domain,
            id,
            identity,
            publics,
            listed: true,
            rates: Rates::default(),
            by_token: false,
            done: BTreeSet::new(),
            doors: None,
            push: Vec::new(),
            log: crate::scenario::Keeps::default(),
            platter,
            seed,
            run: 0,
            life: None,
            untold: 0,
            clock,
            traps,
            mischief,
        }
    }

    /// Where it is and who it is.
    pub fn link(&self) -> RelayLink {
        RelayLink { domain: self.domain.clone(), endpoint: format!("{}:4433", self.domain), relay: self.id }
    }

    /// It may turn on its users, now or later.
    pub(super) fn turns(&mut self) -> &mut Mischief {
        let (stream, identity) = (self.seed.stream(Entity::Process(self.no), "hostility"), self.identity.clone());
        self.mischief.get_or_insert_with(|| Box::new(Mischief::new(stream, identity)))
    }

    /// Which of its lives this is.
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// Whether it runs.
    pub const fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// How many envelopes it let go of full logs without room to tell their author, in all its lives.
    pub fn untold(&self) -> u64 {
        let relay = self.life.as_ref().and_then(|life| life.relay.as_ref());
        self.untold + relay.map_or(0, |relay| relay.counts().untold)
    }

    /// Whether it has opened its store and takes links.
    pub fn is_open(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.relay.is_some())
    }

    /// Starts from what the disk holds.
    ///
    /// # Errors
    /// The store does not open: what was synced is not there.
    pub fn start(&mut self, engine: &mut Engine<Event>, peers: Vec<PeerAddress>) -> Result<(), String> {
        if self.life.is_some() {
            return Ok(());
        }
        let stream = |purpose| self.seed.stream(Entity::Run(self.no, self.run), purpose);
        let disk = RelayDisk::open(&self.platter, stream("reads")).map_err(|error| error.to_string())?;
        if let Some(push) = &self.doors {
            self.push = super::doors::live(&self.domain, push, &mut stream("push addresses"));
        }
        let links = SimLinks::default();
        let ports = SimPorts {
            store: KvStore::new(disk.clone()),
            links: links.clone(),
            chance: Mutex::new(stream("chance")),
            identity: self.identity.clone(),
            publics: Arc::clone(&self.publics),
        };
        let mut config = Config::new(self.domain.clone(), self.id);
        config.peers = peers;
        config.endpoint = Some(self.link().endpoint);
        config.rates = self.rates;
        config.registration = if self.by_token { Registration::Invite } else { Registration::Open };
        config.push.clone_from(&self.push);
        self.log.apply(&mut config);
        let mut executor = Executor::new();
        self.clock.restart(engine.now());
        let now = self.clock.now(engine.now());
        executor.spawn(Box::pin(async move { Ended::Opened(Box::new(Relay::open(ports, config, now).await)) }));
        self.life = Some(Life {
            executor,
            relay: None,
            disk,
            links,
            inlets: BTreeMap::new(),
            stuck: Vec::new(),
            reads_scheduled: 0,
            poll_scheduled: false,
            timer: None,
            timeout_runs: false,
        });
        Ok(())
    }

    /// Dies where it stands. What the disk had not synced is partly gone.
    pub fn crash(&mut self, keep: Keep) -> Torn {
        self.untold = self.untold();
        if self.life.take().is_none() {
            return Torn::default();
        }
        self.run += 1;
        self.platter.crash(keep)
    }

    /// The disk below it.
    pub const fn platter(&mut self) -> &mut Platter {
        &mut self.platter
    }

    /// The rows of the relay that runs, synced or not: for judges.
    pub fn reads(&self) -> Option<&dyn whimbrel_storage::Reads> {
        self.life.as_ref().map(|life| life.disk.reads())
    }

    /// Its disk answers again: what was to be done is.
    pub fn unstick(&mut self, engine: &mut Engine<Event>) {
        let (no, run) = (self.no, self.run);
        let stuck = self.life.as_mut().map(|life| std::mem::take(&mut life.stuck)).unwrap_or_default();
        stuck.into_iter().for_each(|what| engine.at(engine.now(), Event::Relay { relay: no, run, what }));
    }

    /// What it handed to push services since this was last asked for.
    pub(super) fn woken(&mut self) -> Vec<WakeOrder> {
        self.life.as_ref().map(|life| std::mem::take(&mut life.links.board().woken)).unwrap_or_default()
    }

    /// How often futures of this life were polled.
    pub fn polled(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.executor.polled())
    }

    /// A link stands.
    pub fn link_up(&mut self, now: Time, link: LinkId, peer: LinkPeer) {
        let Some((life, relay, now)) = self.awake(now) else { return };
        let admitted = matches!(peer, LinkPeer::Relay { dialled: true, .. });
        life.links.board().lines.insert(link, Line { admitted, ..Line::default() });
        life.inlets.insert(link, Inlet { running: 1, ..Inlet::default() });
        let up = async move {
            relay.link_up(now, link, peer).await;
            Ended::Request(link)
        };
        life.executor.spawn_cancellable(Box::pin(up), Ended::Request(link));
    }

    /// A frame came in, or what should have been one.
    pub fn frame(&mut self, at: Time, link: LinkId, frame: Option<Frame>) {
        if let Some(inlet) = self.life.as_mut().and_then(|life| life.inlets.get_mut(&link)) {
            inlet.waiting.push_back(frame.map_or(Incoming::Malformed, Incoming::Frame));
        }
        self.read(at, link);
    }

    /// Whether a link over HTTPS may bring another frame.
    pub(super) fn has_room(&self, link: LinkId) -> bool {
        let inlet = self.life.as_ref().and_then(|life| life.inlets.get(&link));
        inlet.is_some_and(|inlet| inlet.waiting.len() < limits::LINK_REQUESTS_MAX)
    }

    /// So much still waits in the queue of a link over HTTPS; `drained` when it had no room, and has.
    pub(super) fn fetched(&mut self, engine: &mut Engine<Event>, link: LinkId, queued: usize, drained: bool) {
        let (no, run) = (self.no, self.run);
        let Some(life) = &mut self.life else { return };
        let mut board = life.links.board();
        let Some(line) = board.lines.get_mut(&link) else { return };
        line.queued = queued;
        if drained || (queued <= limits::LINK_QUEUE_FRAMES_MAX / 2 && board.refused.remove(&link)) {
            engine.at(engine.now(), Event::Relay { relay: no, run, what: RelayEvent::Drained(link) });
        }
    }

    /// Begins what waits on a link, as far as its bound allows.
    fn read(&mut self, at: Time, link: LinkId) {
        let Some((life, relay, now)) = self.awake(at) else { return };
        let Some(inlet) = life.inlets.get_mut(&link) else { return };
        let admitted = life.links.board().lines.get(&link).is_some_and(|line| line.admitted);
        // A stranger's frames are served one by one, so that it costs no more than one frame.
        while inlet.running < if admitted { limits::LINK_REQUESTS_MAX } else { 1 } {
            match inlet.waiting.pop_front() {
                Some(Incoming::Frame(frame)) => {
                    inlet.running += 1;
                    let relay = Arc::clone(&relay);
                    let request = async move {
                        relay.handle(now, link, frame).await;
                        Ended::Request(link)
                    };
                    life.executor.spawn_cancellable(Box::pin(request), Ended::Request(link));
                }
                Some(Incoming::Malformed) => relay.malformed(now, link),
                None => return,
            }
        }
    }

    /// A link is gone; what it brought and was not begun goes with it.
    pub fn link_lost(&mut self, now: Time, link: LinkId) {
        let Some((life, relay, now)) = self.awake(now) else { return };
        let mut board = life.links.board();
        board.lines.remove(&link);
        board.refused.remove(&link);
        drop(board);
        life.inlets.remove(&link);
        relay.link_lost(now, link);
    }

    /// A peer could not be reached.
    pub fn dial_failed(&mut self, now: Time, domain: &Domain) {
        if let Some((_, relay, now)) = self.awake(now) {
            relay.dial_failed(now, domain, "no answer");
        }
    }

    /// Something of its own happens.
    ///
    /// # Errors
    /// It cannot go on.
    pub fn event(&mut self, engine: &mut Engine<Event>, event: RelayEvent) -> Result<(), String> {
        let (at, no, run) = (engine.now(), self.no, self.run);
        let Some(life) = &mut self.life else { return Ok(()) };
        if self.platter.is_stalled() && matches!(event, RelayEvent::Apply | RelayEvent::Sync | RelayEvent::Read) {
            life.stuck.push(event);
            return Ok(());
        }
        match event {
            RelayEvent::Poll => return self.poll(at),
            // One that an earlier deadline has overtaken must not plan another: they would multiply.
            RelayEvent::Timer if life.timer == Some(at) => life.timer = None,
            RelayEvent::Timer => {}
            RelayEvent::Apply => {
                // The sync follows whether or not anything was written: conflicts are answered by it too.
                let delay = life.disk.apply(&mut self.platter);
                self.traps.hit(Spot::Applied);
                engine.after(delay, Event::Relay { relay: no, run, what: RelayEvent::Sync });
            }
            RelayEvent::Sync => {
                life.disk.sync(&mut self.platter)?;
                self.traps.hit(Spot::Synced);
            }
            RelayEvent::Read => life.disk.answer_read(&mut life.reads_scheduled),
            RelayEvent::Drained(link) => {
                let Some((life, relay, now)) = self.awake(at) else { return Ok(()) };
                if let Some(inlet) = life.inlets.get_mut(&link) {
                    inlet.running += 1;
                    let drained = async move {
                        relay.link_drained(now, link).await;
                        Ended::Request(link)
                    };
                    life.executor.spawn_cancellable(Box::pin(drained), Ended::Request(link));
                }
            }
        }
        Ok(())
    }

    /// Its operator asks something of its store, under a number.
    pub(super) fn operate(&mut self, at: Time, question: usize, command: Command) {
        let Some((life, relay, _)) = self.awake(at) else { return };
        life.executor.spawn(Box::pin(async move {
            let outcome = relay.ports().store().commit(command).await;
            // What is not there any more was taken back, and the answer was lost.
            Ended::Operated(question, matches!(outcome, Ok(_) | Err(StoreError::Conflict(Conflict::NotFound))))
        }));
    }

    /// Whether its operator was told that this is done.
    pub(super) fn has_done(&self, question: usize) -> bool {
        self.done.contains(&question)
    }

    /// Drops a request where it stands. Returns the link it came by.
    pub(super) fn cancel(&mut self) -> Option<LinkId> {
        let life = self.life.as_mut()?;
        let Ended::Request(link) = life.executor.cancel()? else { return None };
        if let Some(inlet) = life.inlets.get_mut(&link) {
            inlet.running -= 1;
        }
        Some(link)
    }

    fn poll(&mut self, at: Time) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        life.poll_scheduled = false;
        life.links.board().tell(at, self.clock.now(at));
        let most = self.traps.polls_left();
        let before = life.executor.polled();
        let ended = life.executor.poll_ready(most);
        self.traps.polled(life.executor.polled() - before);
        for ended in ended {
            let Some(life) = &mut self.life else { break };
            match ended {
                Ended::Opened(opened) => match *opened {
                    Ok(relay) => life.relay = Some(Arc::new(relay)),
                    Err(error) => return Err(error.to_string()),
                },
                Ended::Request(link) => {
                    if let Some(inlet) = life.inlets.get_mut(&link) {
                        inlet.running -= 1;
                    }
                    self.read(at, link);
                }
                Ended::Timeout => life.timeout_runs = false,
                Ended::Operated(question, true) => drop(self.done.insert(question)),
                Ended::Operated(_, false) => {}
            }
        }
        Ok(())
    }

    /// After anything happened: sends what is to be sent and schedules what follows.
    pub(super) fn settle(
        &mut self,
        engine: &mut Engine<Event>,
        net: &mut Net,
        polls: &mut Polls,
        reach: &impl Fn(&PeerAddress) -> Option<ProcessNo>,
    ) {
        let (no, run) = (self.no, self.run);
        let Some(life) = &mut self.life else { return };
        let own = |what| Event::Relay { relay: no, run, what };
        for due in life.disk.due(&mut self.platter, &mut life.reads_scheduled) {
            match due {
                Due::Apply(delay) => engine.after(delay, own(RelayEvent::Apply)),
                Due::Read(delay) => engine.after(delay, own(RelayEvent::Read)),
            }
        }
        let mut failed = Vec::new();
        let unsynced = self.platter.unsynced();
        {
            let mut board = life.links.board();
            board.now = engine.now();
            for effect in std::mem::take(&mut board.effects) {
                match effect {
                    Effect::Send(link, frame) => {
                        if unsynced && matches!(&*frame, Frame::Push(_) | Frame::Forward(_)) {
                            self.traps.hit(Spot::Left);
                        }
                        let ends = if is_polled(link) { polls.ends(link) } else { net.ends(link) };
                        let to = ends.map(|(one, other)| if one == no { other } else { one });
                        let leave = match self.mischief.as_mut().zip(to) {
                            Some((mischief, to)) => mischief.outgoing(link, to, frame),
                            None => super::carry::pack(frame).into_iter().collect(),
                        };
                        if let Some(line) = board.lines.get_mut(&link) {
                            line.taken -= 1;
                        }
                        for cargo in leave {
                            if is_polled(link) {
                                match (polls.send(engine, net, link, cargo), board.lines.get_mut(&link)) {
                                    (Some(queued), Some(line)) => line.queued = queued,
                                    _ => polls.abort(engine, link),
                                }
                                continue;
                            }
                            let departs = net.send(engine, link, no, cargo);
                            if let Some(line) = board.lines.get_mut(&link) {
                                line.departures.extend(departs);
                            }
                        }
                    }
                    Effect::Close(link) if is_polled(link) => polls.close(engine, net, link),
                    Effect::Close(link) => net.close(engine, link, no),
                    Effect::Dial(peer) => match reach(&peer) {
                        Some(to) => drop(net.dial(engine, no, to)),
                        None => failed.push(peer.domain),
                    },
                }
            }
            // Of a link over HTTPS, the next call says what was fetched.
            let refused: Vec<_> = board.refused.extract_if(.., |link| !is_polled(*link)).collect();
            for link in refused {
                let Some(line) = board.lines.get(&link) else { continue };
                // Room for half a queue before the relay is bothered again.
                let half = line.departures.get(line.departures.len() / 2);
                let at = half.copied().unwrap_or(engine.now());
                engine.at(at, own(RelayEvent::Drained(link)));
            }
        }
        failed.iter().for_each(|domain| self.dial_failed(engine.now(), domain));
        self.schedule(engine);
    }

    /// Plants a bug; see [`RelayDisk::answer_early`].
    #[cfg(test)]
    pub(super) fn answer_early(&mut self) {
        if let Some(life) = &self.life {
            life.disk.answer_early();
        }
    }

    fn schedule(&mut self, engine: &mut Engine<Event>) {
        let (no, run, at, clock) = (self.no, self.run, engine.now(), self.clock);
        if let Some((life, relay, now)) = self.awake(at)
            && let Some(deadline) = relay.poll_timeout()
            && !life.timeout_runs
        {
            let due = clock.when(deadline);
            if deadline <= now.monotonic {
                life.timeout_runs = true;
                life.executor.spawn(Box::pin(async move {
                    relay.timeout(now).await;
                    Ended::Timeout
                }));
            } else if life.timer.is_none_or(|timer| due < timer) {
                let due = due.max(at.plus(std::time::Duration::from_nanos(1)));
                life.timer = Some(due);
                engine.at(due, Event::Relay { relay: no, run, what: RelayEvent::Timer });
            }
        }
        if let Some(life) = &mut self.life
            && !life.poll_scheduled
            && life.executor.has_ready()
        {
            life.poll_scheduled = true;
            engine.at(at, Event::Relay { relay: no, run, what: RelayEvent::Poll });
        }
    }

    /// The life, its core and its clocks, once it is open.
    fn awake(&mut self, at: Time) -> Option<(&mut Life, Arc<Relay<SimPorts>>, Now)> {
        let life = self.life.as_mut()?;
        let relay = Arc::clone(life.relay.as_ref()?);
        let now = self.clock.now(at);
        life.links.board().tell(at, now);
        Some((life, relay, now))
    }
}
