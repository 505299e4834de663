//! A node process: the node core between a virtual disk and virtual links.
//! Owns: the order apply, sync, release, exactly as the runtime's driver keeps it.
//! Never: knows what a frame or a command means.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use whimbrel_crypto::{
    Authenticator, Chance, Engine as CryptoEngine, LinkingCode, MlsEngine, SealKey, Seed as CoreSeed, StandInEngine,
};
use whimbrel_node::api::{self, Config, Input, Output, Step};
use whimbrel_node::{Node, OpenError, identity, views};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, InviteToken, MessageId, Name, PublicKey, ThreadId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Reads, StorageError};

use super::carry::pack;
use super::clock::Clock;
use super::coming::{Coming, Progress};
use super::hostile::Member;
use super::trap::{Spot, Traps};
use super::{Event, commits};
use crate::disk::{NodeStore, Platter, Seal, Torn};
use crate::engine::{Engine, Entity, Seed, Stream, Time};
use crate::faults::Keep;
use crate::net::{Cargo, ProcessNo};
use crate::scenario::{Crypto, Disk};

/// What happens to a node by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeEvent {
    /// A deadline may have come.
    Timer,
    /// The disk synced.
    Synced,
}

/// The core, whatever seals its threads.
pub(super) trait Core {
    fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step);
    fn poll_timeout(&self) -> Option<Monotonic>;

    /// Of a device that is to come, how far it has.
    fn progress(&self) -> Option<Progress> {
        None
    }
}

impl<E: CryptoEngine> Core for Node<E> {
    fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step) {
        Self::handle(self, now, input, reads, step);
    }

    fn poll_timeout(&self) -> Option<Monotonic> {
        Self::poll_timeout(self)
    }
}

fn open(
    crypto: Crypto,
    config: Config,
    seed: CoreSeed,
    now: Now,
    reads: &dyn Reads,
) -> Result<Box<dyn Core>, OpenError> {
    Ok(match crypto {
        Crypto::Standin => Box::new(Node::open(StandInEngine::new(), config, seed, now, reads)?),
        Crypto::Real => Box::new(Node::open(MlsEngine::new(), config, seed, now, reads)?),
    })
}

/// Every other node's store is sealed: neither is to behave otherwise than the other. `run` is none before its first life.
fn seal(seed: Seed, no: ProcessNo, run: Option<u32>) -> Option<Seal> {
    let entity = run.map_or(Entity::Process(no), |run| Entity::Run(no, run));
    no.is_multiple_of(2).then(|| Seal {
        key: SealKey::from_bytes(seed.bytes(Entity::Process(no), "seal key")),
        chance: Chance::from_seed(CoreSeed::from_bytes(seed.bytes(entity, "seal nonces"))),
    })
}

struct Life {
    core: Box<dyn Core>,
    store: NodeStore,
    /// What came while the core's thread was at the disk.
    inbox: VecDeque<Input>,
    /// Outputs of steps that are not durable yet.
    held: Vec<Output>,
    syncing: bool,
    /// The sync would be done, but the disk answers nothing.
    stuck: bool,
    timer: Option<Time>,
    /// Test only: outputs leave before their batch is durable.
    #[cfg(test)]
    early: bool,
}

/// A node, through all its lives.
pub struct NodeProcess {
    /// Its number.
    pub no: ProcessNo,
    /// Its home relay.
    pub home: ProcessNo,
    /// Whose it is.
    pub account: AccountId,
    /// What its links show.
    pub transport: PublicKey,
    /// Whether other nodes can dial it.
    pub direct: bool,
    /// Whether its network lets no UDP through: it reaches its relay over HTTPS.
    pub polled: bool,
    /// What it shows to a relay that asks whoever comes in for a token, from its next start on.
    pub(super) registration: Option<InviteToken>,
    platter: Platter,
    seed: Seed,
    crypto: Crypto,
    run: u32,
    life: Option<Life>,
    /// Of a second device: the relay it comes by, and the code it shows.
    coming: Option<(RelayLink, Option<LinkingCode>)>,
    /// Its clocks.
    pub(super) clock: Clock,
    /// Where in its work it is hit next.
    pub(super) traps: Traps,
    /// What it does to others beside what it should.
    pub(super) member: Option<Box<Member>>,
}

/// What a new node is made of.
#[derive(Debug)]
pub struct Birth {
    /// Its number.
    pub no: ProcessNo,
    /// Its owner's name.
    pub name: Name,
    /// Its home relay.
    pub home: ProcessNo,
    /// The same, as its owner was told.
    pub relay: RelayLink,
    /// Whether other nodes can dial it.
    pub direct: bool,
    /// Whether its network lets no UDP through.
    pub polled: bool,
    /// How it seals threads.
    pub crypto: Crypto,
    /// Its disk.
    pub disk: crate::scenario::Disk,
}

impl NodeProcess {
    /// A node whose account was just made, and that has not started.
    ///
    /// # Errors
    /// The core does not take what it is made of.
    pub fn new(birth: Birth, seed: Seed) -> Result<Self, String> {
        let Birth { no, name, home, relay, direct, polled, crypto, disk } = birth;
        let mut platter = Platter::new(disk, seed.stream(Entity::Process(no), "disk"));
        let mut chance = seed.stream(Entity::Process(no), "identity");
        let created = identity::create(name, relay, "phone", chance.chance(), Clock::new().now(Time::ZERO))
            .map_err(|error| error.to_string())?;
        let stored = |platter: &mut Platter| -> Result<PublicKey, String> {
            let store = NodeStore::open(platter, seal(seed, no, None)).map_err(|error| error.to_string())?;
            store.apply(&created.batch).and_then(|()| store.sync(platter)).map_err(|error| error.to_string())?;
            Ok(identity::transport_key(store.reads()).map_err(|error| error.to_string())?.public())
        };
        let transport = stored(&mut platter)?;
        let account = created.account;
        let (clock, traps, member) = (Clock::new(), Traps::default(), None);
        Ok(Self {
            no,
            home,
            account,
            transport,
            direct,
            polled,
            registration: None,
            platter,
            seed,
            crypto,
            run: 0,
            life: None,
            coming: None,
            clock,
            traps,
            member,
        })
    }

    /// Another device of an account, which has nothing yet.
    pub(super) fn second(no: ProcessNo, first: &Self, relay: RelayLink) -> Self {
        let platter = Platter::new(Disk::default(), first.seed.stream(Entity::Process(no), "disk"));
        Self {
            no,
            home: first.home,
            account: first.account,
            // Until it begins to come.
            transport: first.transport,
            direct: first.direct,
            polled: first.polled,
            registration: None,
            platter,
            seed: first.seed,
            crypto: first.crypto,
            run: 0,
            life: None,
            coming: Some((relay, None)),
            clock: Clock::new(),
            traps: Traps::default(),
            member: None,
        }
    }

    /// Of a device that is to come: how far it has.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.life.as_ref().and_then(|life| life.core.progress())
    }

    /// The code it shows.
    pub(super) fn code(&self) -> Option<LinkingCode> {
        self.coming.as_ref().and_then(|(_, code)| code.clone())
    }

    /// Nothing came of it: it has nothing again, and does not run.
    pub(super) fn wipe(&mut self) {
        self.life = None;
        self.run += 1;
        self.platter = Platter::new(Disk::default(), self.seed.stream(Entity::Run(self.no, self.run), "disk"));
    }

    /// What runs over a store: a device that is to come, until it has an account.
    fn core(&mut self, config: Config, now: Now, store: &NodeStore) -> Result<Box<dyn Core>, String> {
        if let Some((relay, code)) = &mut self.coming
            && matches!(identity::transport_key(store.reads()), Err(identity::LoadError::NoAccount))
        {
            let chance =
                Chance::from_seed(CoreSeed::from_bytes(self.seed.bytes(Entity::Run(self.no, self.run), "coming")));
            let (coming, shown) = Coming::new(relay.clone(), self.crypto, chance)?;
            self.transport = coming.transport();
            *code = Some(shown);
            return Ok(Box::new(coming));
        }
        let seed = CoreSeed::from_bytes(self.seed.bytes(Entity::Run(self.no, self.run), "core"));
        open(self.crypto, config, seed, now, store.reads()).map_err(|error| error.to_string())
    }

    fn config(&self) -> Config {
        Config { never_direct: !self.direct, registration: self.registration, ..Config::default() }
    }

    /// Which of its lives this is.
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// Whether it runs.
    pub const fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// A frame of its leaves.
    pub(super) fn leaves(&mut self) {
        if self.life.as_ref().is_some_and(|life| life.syncing) {
            self.traps.hit(Spot::Left);
        }
    }

    /// The address other nodes dial.
    pub fn address(&self) -> String {
        let [_, a, b, c] = self.no.to_be_bytes();
        format!("/ip4/10.{a}.{b}.{c}/udp/4001/quic-v1")
    }

    /// The rows of the node that runs, synced or not: for judges.
    pub fn reads(&self) -> Option<&dyn Reads> {
        self.life.as_ref().map(|life| life.store.reads())
    }

    /// What it has written down and not told its owner yet: that waits until the disk has synced it.
    pub(super) fn about_to_show(&self) -> BTreeSet<MessageId> {
        let held = self.life.iter().flat_map(|life| &life.held);
        let shown = held.filter_map(|output| match output {
            Output::Event(api::Event::Shown(message)) => Some(message.message),
            _ => None,
        });
        shown.collect()
    }

    /// What its members compare of a thread's epoch, while it runs and is in it.
    pub(super) fn authenticator(&self, thread: ThreadId) -> Option<Authenticator> {
        let reads = self.reads()?;
        let found = match self.crypto {
            Crypto::Standin => views::authenticator(&StandInEngine::new(), reads, thread),
            Crypto::Real => views::authenticator(&MlsEngine::new(), reads, thread),
        };
        found.ok()?
    }

    /// Starts from what the disk holds.
    ///
    /// # Errors
    /// It does not open: what was synced is not there.
    pub fn start(&mut self, engine: &mut Engine<Event>) -> Result<(), String> {
        if self.life.is_some() {
            return Ok(());
        }
        let seal = seal(self.seed, self.no, Some(self.run));
        let store = NodeStore::open(&self.platter, seal).map_err(|error| error.to_string())?;
        let config = self.config();
        self.clock.restart(engine.now());
        let core = self.core(config, self.clock.now(engine.now()), &store)?;
        let (inbox, held) = (VecDeque::new(), Vec::new());
        self.life = Some(Life {
            core,
            store,
            inbox,
            held,
            syncing: false,
            stuck: false,
            timer: None,
            #[cfg(test)]
            early: false,
        });
        if self.direct {
            let addresses = vec![self.address()];
            self.input(Input::Listening { addresses });
        }
        Ok(())
    }

    /// Dies where it stands. Unsynced batches are partly gone, and so is every output they held.
    pub fn crash(&mut self, keep: Keep) -> Torn {
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

    /// What leaves instead of a frame of its core's: the frame, unless it is hostile.
    pub(super) fn outgoing(&mut self, now: Time, frame: Frame) -> Vec<Cargo> {
        let Some(mut member) = self.member.take() else { return pack(Arc::new(frame)).into_iter().collect() };
        let (crypto, now) = (self.crypto, self.clock.now(now));
        let mut usurp = |what, stream: &mut Stream| {
            self.reads().and_then(|reads| commits::unentitled(crypto, reads, now, what, stream))
        };
        let cargos = member.outgoing(frame, &mut usurp);
        self.member = Some(member);
        cargos
    }

    /// Its disk answers again: what was to be done is.
    pub fn unstick(&mut self, engine: &mut Engine<Event>) {
        if let Some(life) = &mut self.life
            && std::mem::take(&mut life.stuck)
        {
            engine.at(engine.now(), Event::Node { node: self.no, run: self.run, what: NodeEvent::Synced });
        }
    }

    /// Plants a bug: until it dies, what it decides leaves before it is on the disk.
    #[cfg(test)]
    pub(super) fn release_early(&mut self) {
        if let Some(life) = &mut self.life {
            life.early = true;
        }
    }

    /// Something happened outside. [`NodeProcess::work`] takes it up.
    pub fn input(&mut self, input: Input) {
        if let Some(life) = &mut self.life {
            life.inbox.push_back(input);
        }
    }

    /// Something of its own happens.
    ///
    /// # Errors
    /// The store failed.
    pub fn event(&mut self, now: Time, event: NodeEvent) -> Result<Vec<Output>, String> {
        let Some(life) = &mut self.life else { return Ok(Vec::new()) };
        match event {
            NodeEvent::Timer => {
                // One that an earlier deadline has overtaken must not plan another: they would multiply.
                if life.timer == Some(now) {
                    life.timer = None;
                }
                Ok(Vec::new())
            }
            NodeEvent::Synced if self.platter.is_stalled() => {
                life.stuck = true;
                Ok(Vec::new())
            }
            NodeEvent::Synced => {
                life.store.sync(&mut self.platter).map_err(|error| error.to_string())?;
                life.syncing = false;
                self.traps.hit(Spot::Synced);
                Ok(std::mem::take(&mut life.held))
            }
        }
    }

    /// A device that was to come and is one of the account's runs as all others do from now on.
    fn grow(&mut self, engine: &Engine<Event>) -> Result<(), String> {
        let Some(life) = self.life.as_ref().filter(|life| life.core.progress() == Some(Progress::Added)) else {
            return Ok(());
        };
        if life.syncing {
            return Ok(());
        }
        let config = self.config();
        let seed = CoreSeed::from_bytes(self.seed.bytes(Entity::Run(self.no, self.run), "core"));
        let now = self.clock.now(engine.now());
        let core = open(self.crypto, config, seed, now, life.store.reads()).map_err(|error| error.to_string())?;
        let address = self.direct.then(|| self.address());
        if let Some(life) = &mut self.life {
            life.core = core;
            life.inbox.extend(address.map(|address| Input::Listening { addresses: vec![address] }));
        }
        Ok(())
    }

    /// The core takes what waits, unless its thread is at the disk. Returns outputs that leave at once.
    ///
    /// # Errors
    /// The store failed.
    pub fn work(&mut self, engine: &mut Engine<Event>) -> Result<Vec<Output>, String> {
        let (no, run) = (self.no, self.run);
        self.grow(engine)?;
        let Some(life) = &mut self.life else { return Ok(Vec::new()) };
        let (mut leave, mut timeouts) = (Vec::new(), 1);
        while !life.syncing {
            let now = self.clock.now(engine.now());
            let applied = life.gather(now, &mut timeouts).map_err(|error| error.to_string())?;
            match applied {
                None => break,
                Some(false) => leave.append(&mut life.held),
                Some(true) => {
                    let early = |output: &mut Output| match output {
                        Output::Send { frame: Frame::Acknowledge(_), .. } => planted::active(Bug::AcknowledgeEarly),
                        _ => planted::active(Bug::ReleaseEarly),
                    };
                    leave.extend(life.held.extract_if(.., early));
                    #[cfg(test)]
                    if life.early {
                        leave.append(&mut life.held);
                    }
                    life.syncing = true;
                    self.traps.hit(Spot::Applied);
                    let delay = life.store.sync_delay(&mut self.platter);
                    engine.after(delay, Event::Node { node: no, run, what: NodeEvent::Synced });
                }
            }
        }
        if !life.syncing
            && let Some(deadline) = life.core.poll_timeout()
        {
            // A deadline that stays due would stop time: the thread comes back a microsecond later at the earliest.
            let soon = engine.now().plus(std::time::Duration::from_micros(1));
            let due = self.clock.when(deadline).max(soon);
            if life.timer.is_none_or(|timer| due < timer) {
                life.timer = Some(due);
                engine.at(due, Event::Node { node: no, run, what: NodeEvent::Timer });
            }
        }
        Ok(leave)
    }
}

impl Life {
    /// One group: what is due, then what waits. `None` when there was nothing; whether a batch was applied otherwise.
    fn gather(&mut self, now: Now, timeouts: &mut u32) -> Result<Option<bool>, StorageError> {
        let mut inputs = Vec::new();
        if *timeouts > 0 && self.core.poll_timeout().is_some_and(|at| at <= now.monotonic) {
            *timeouts -= 1;
            inputs.push(Input::Timeout);
        }
        let room = limits::NODE_GROUP_INPUTS_MAX.saturating_sub(inputs.len());
        inputs.extend(self.inbox.drain(..room.min(self.inbox.len())));
        if inputs.is_empty() {
            return Ok(None);
        }
        let mut applied = false;
        for input in inputs {
            let mut step = Step::default();
            self.core.handle(now, input, self.store.reads(), &mut step);
            if !step.batch.is_empty() {
                self.store.apply(&step.batch)?;
                applied = true;
            }
            self.held.append(&mut step.outputs);
        }
        Ok(Some(applied))
    }
}
