//! How a world comes to be: from a scenario, or from a test's few words.
//! Owns: numbers, names, who is drawn to know whom. Relays come first, then nodes in the order of populations.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_crypto::{KeyPair, RelayIdentity};
use whimbrel_node::api::Command;
use whimbrel_protocol::id::{Domain, Name, ThreadId};

use super::circle::Circle;
use super::clock::Clock;
use super::node::Birth;
use super::people::Asked;
use super::{Event, Faults, Group, Meeting, NodeProcess, Pair, Person, Process, RelayProcess, World};
use crate::engine::{Engine, Entity, Seed, Time};
use crate::faults::{Plan, Shape, equip};
use crate::judge::ledger::{Conduct, Ledger};
use crate::net::{Access, Nat, Net, ProcessNo};
use crate::scenario::{
    Churn, Clocks, Crypto, Friends, NatShares, Network, Population, Range, Rate, Region, Relay, Scenario, Workload,
};

/// How long people who are to know each other may take to meet in a test.
const MEETING_BOUND: Duration = Duration::from_secs(600);

/// Why a world does not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub(super) String);

impl World {
    /// An empty world with the default network, for tests.
    pub fn new(seed: Seed) -> Self {
        Self::empty(seed, Network::default(), Workload::default(), Crypto::Standin)
    }

    fn empty(seed: Seed, network: Network, workload: Workload, crypto: Crypto) -> Self {
        Self {
            engine: Engine::new(seed),
            seed,
            net: Net::new(network, seed.stream(Entity::World, "exporters")),
            polls: super::poll::Polls::new(seed.stream(Entity::World, "calls")),
            processes: Vec::new(),
            by_transport: std::collections::BTreeMap::new(),
            by_domain: std::collections::BTreeMap::new(),
            doors: super::doors::Doors::default(),
            operators: super::tokens::Operators::default(),
            cards: super::cards::Cards::default(),
            pairs: Vec::new(),
            groups: Vec::new(),
            partings: Vec::new(),
            hidings: Vec::new(),
            circles: Vec::new(),
            late: super::late::Late::default(),
            seconds: Vec::new(),
            exports: Vec::new(),
            phones: Vec::new(),
            ledger: Ledger::of(seed),
            agreement: super::agreement::Agreement::default(),
            faults: super::fault::Ailments::default(),
            renewals: std::collections::BTreeSet::new(),
            nodes: Vec::new(),
            workload,
            clocks: Clocks::default(),
            crypto,
            lively: true,
            hushed: false,
            spoken: 0,
            tickets: 0,
            last_frame: Time::ZERO,
            struck: Faults::default(),
            standstill: (Time::ZERO, 0),
        }
    }

    /// The world of a scenario, at its beginning.
    ///
    /// # Errors
    /// A core does not take what it is made of.
    pub fn from_scenario(scenario: &Scenario, seed: Seed) -> Result<Self, BuildError> {
        Self::with_plan(scenario, seed, &scenario.plan())
    }

    /// The world of a scenario, at its beginning, under another plan than its own.
    ///
    /// # Errors
    /// As [`World::from_scenario`].
    pub fn with_plan(scenario: &Scenario, seed: Seed, plan: &Plan) -> Result<Self, BuildError> {
        let mut plan = plan.clone();
        if scenario.friends.devices.0 > 0.0 {
            equip(seed, &scenario.equipment(scenario.friends.devices.0), &Shape::of(scenario), &mut plan);
        }
        let (network, workload) = (scenario.network.clone(), scenario.workload.clone());
        let mut world = Self::empty(seed, network, workload, scenario.sim.crypto);
        world.clocks = scenario.sim.clocks;
        for relay in &scenario.relay {
            world.add_relay(relay)?;
        }
        let first = world.processes.len() as ProcessNo;
        for population in &scenario.population {
            for _ in 0..population.count {
                world.add_node(population)?;
            }
        }
        let people: Vec<_> = (first..world.processes.len() as ProcessNo).collect();
        for (relay, tokens) in (0..).zip(&scenario.relay).filter_map(|(no, relay)| Some((no, relay.tokens?))) {
            let live_there = |who: &&ProcessNo| world.node(**who).is_some_and(|node| node.home == relay);
            let there: Vec<_> = people.iter().filter(live_there).copied().collect();
            world.let_in_by_token(relay, &there, tokens);
        }
        world.acquaint(&people, &scenario.friends);
        world.group(&people, &scenario.friends, scenario.sim.duration.0);
        world.estrange(&people, &scenario.friends, scenario.sim.duration.0);
        world.encircle(&people, scenario.friends.circles);
        world.equip(&plan)?;
        world.foresee(&people, &scenario.friends);
        world.exporters(&people, &scenario.friends);
        world.ring_for(&people, &scenario.friends);
        world.name(&people, &scenario.friends);
        for fault in &plan.faults {
            world.plan(fault.clone());
        }
        Ok(world)
    }

    /// Adds a relay; it starts when the world moves on.
    ///
    /// # Errors
    /// The core does not take its identity.
    pub fn add_relay(&mut self, relay: &Relay) -> Result<ProcessNo, BuildError> {
        let no = self.processes.len() as ProcessNo;
        let mut keys = self.seed.stream(Entity::Process(no), "identity");
        let (offline, online) = (KeyPair::generate(keys.chance()), KeyPair::generate(keys.chance()));
        let now = super::clock::Clock::new().now(Time::ZERO).wall;
        let identity = RelayIdentity::create(&offline, &online, &relay.domain, now)
            .map_err(|error| BuildError(format!("relay {}: {error}", relay.domain)))?;
        let (up, down, region) = (relay.uplink, relay.downlink, relay.region.as_deref().and_then(Region::named));
        let access = Access { latency: Duration::ZERO, up, down, loss: 0.0, region, nat: Nat::Open };
        self.place(no, relay.access, access);
        self.by_domain.insert(relay.domain.to_string(), no);
        let mut process = RelayProcess::new(no, identity, relay.disk, (self.seed, self.crypto));
        process.listed = relay.listed;
        process.rates = relay.rates.relay();
        process.doors = relay.push;
        process.log = relay.log;
        if !relay.log.are_usual() {
            self.ledger.conduct(no, Conduct::Short);
        }
        process.clock = self.clock_of(no);
        // The stand-in engine hides nothing, and says so.
        if self.crypto == Crypto::Real {
            process.platter().watch(self.ledger.canaries().clone());
        }
        self.processes.push(Process::Relay(Box::new(process)));
        self.engine.at(self.engine.now(), Event::Start { process: no });
        Ok(no)
    }

    /// Adds a node of a population, with its owner; it starts within the workload's time of arrival.
    ///
    /// # Errors
    /// There is no such relay, or the core does not take what the node is made of.
    pub fn add_node(&mut self, population: &Population) -> Result<ProcessNo, BuildError> {
        let no = self.processes.len() as ProcessNo;
        let home = self.relays().find(|relay| relay.domain == population.relay);
        let home = home.map(|relay| (relay.no, relay.link()));
        let (home, relay) = home.ok_or_else(|| BuildError(format!("no relay serves {}", population.relay)))?;
        let name: Name = format!("p{no}").parse().map_err(|error| BuildError(format!("node {no}: {error}")))?;
        let polled = self.seed.stream(Entity::Process(no), "poll").happens(population.poll.0);
        // Whose network lets no UDP through dials no other node, and is dialled by none.
        let direct = population.direct && !polled;
        let birth = Birth { no, name, home, relay, direct, polled, crypto: self.crypto, disk: population.disk };
        let mut node = NodeProcess::new(birth, self.seed).map_err(|why| BuildError(format!("node {no}: {why}")))?;
        node.clock = self.clock_of(no);
        let (latency, link) = population.access();
        let default = Rate { bits: 1_000_000 };
        let access = Access {
            latency: Duration::ZERO,
            up: link.up.unwrap_or(default),
            down: link.down.unwrap_or(default),
            loss: link.loss.unwrap_or_default(),
            region: population.region.as_deref().and_then(Region::named),
            nat: population.nat.as_ref().map_or(Nat::Open, |shares| self.nat(no, shares)),
        };
        self.place(no, latency, access);
        self.by_transport.insert(node.transport, no);
        self.nodes.push(no);
        self.ledger.account(node.account, no);
        self.ledger.lives(no, home);
        let stream = |purpose| self.seed.stream(Entity::Process(no), purpose);
        let (mut habit, mut comings) = (stream("habit"), stream("comings"));
        let churns = population.churn.as_ref().is_some_and(|churn| comings.happens(churn.share.0));
        let churn: Option<Churn> = population.churn.clone().filter(|_| churns);
        let begin = self.engine.now().plus(comings.between(Duration::ZERO, self.workload.arrive.0));
        self.engine.at(begin, Event::Start { process: no });
        if let Some(churn) = &churn {
            self.engine.at(begin.plus(comings.weibull(churn.online.0, churn.shape)), Event::Leave { who: no });
        }
        self.engine.at(begin.plus(habit.exponential(self.workload.every.0)), Event::Speak { who: no });
        let person = Person {
            habit,
            afterthoughts: stream("afterthoughts"),
            comings,
            churn,
            threads: Vec::new(),
            groups: Vec::new(),
            circles: Vec::new(),
            asked: Vec::new(),
            #[cfg(test)]
            about: Vec::new(),
        };
        self.processes.push(Process::Node(Box::new(node), Box::new(person)));
        Ok(no)
    }

    /// How wrong a process's clock is when nobody touches it.
    pub(super) fn clock_of(&self, no: ProcessNo) -> Clock {
        let Clocks { off, drift_ppm } = self.clocks;
        let mut stream = self.seed.stream(Entity::Process(no), "clock");
        let ms = i64::try_from(off.0.as_millis()).unwrap_or(i64::MAX / 2);
        let mut within = |most: i64| stream.below(2 * most.unsigned_abs() + 1) as i64 - most;
        let (ahead, drift) = (within(ms), within(i64::from(drift_ppm)));
        Clock::of((ahead, i32::try_from(drift).unwrap_or_default()))
    }

    fn place(&mut self, no: ProcessNo, latency: Range, mut access: Access) {
        let mut stream = self.seed.stream(Entity::Process(no), "network");
        access.latency = stream.between(latency.least, latency.most);
        self.net.add(access, stream);
    }

    /// How a node's network translates addresses: the same for all nodes of one network.
    fn nat(&self, no: ProcessNo, shares: &NatShares) -> Nat {
        let network = no - no % shares.nodes.max(1);
        let drawn = self.seed.stream(Entity::Process(network), "address translation").unit();
        if drawn < shares.open.0 {
            Nat::Open
        } else if drawn < shares.open.0 + shares.hard.0 {
            Nat::Hard
        } else {
            Nat::Easy
        }
    }

    /// Draws who knows whom: so many that follow each in a ring, and so many pairs more.
    fn acquaint(&mut self, people: &[ProcessNo], friends: &Friends) {
        let Friends { ring, random, requests, .. } = *friends;
        let mut drawn = BTreeSet::new();
        let mut stream = self.seed.stream(Entity::World, "friends");
        let mut ways = self.seed.stream(Entity::World, "friend requests");
        let mut meet = |world: &mut Self, one, other| {
            // A request needs relays that know each other; an invite makes them.
            match ways.happens(requests.0) && world.near(one, other) {
                true => world.request(one, other),
                false => world.introduce(one, other),
            }
        };
        let count = people.len() as u64;
        let mut wanted = Vec::new();
        for (place, one) in people.iter().enumerate() {
            for step in 1..=ring as usize {
                wanted.extend(people.get((place + step) % people.len()).map(|other| (*one, *other)));
            }
        }
        // A graph that is nearly full refuses most draws: a bounded number of tries, not a loop for ever.
        let mut tries = u64::from(random) * 16;
        for (one, other) in wanted {
            drawn.insert((one.min(other), one.max(other))).then(|| meet(self, one, other));
        }
        let full = count * count.saturating_sub(1) / 2;
        let goal = (drawn.len() as u64 + u64::from(random)).min(full);
        while (drawn.len() as u64) < goal && tries > 0 {
            tries -= 1;
            let pair = stream.pick(people).copied().zip(stream.pick(people).copied());
            let Some((one, other)) = pair.filter(|(one, other)| one != other) else { continue };
            drawn.insert((one.min(other), one.max(other))).then(|| meet(self, one, other));
        }
    }

    /// Whether the relays of two people know each other without being led.
    fn near(&self, one: ProcessNo, other: ProcessNo) -> bool {
        let home = |who| self.node(who).and_then(|node| self.relays().find(|relay| relay.no == node.home));
        home(one).zip(home(other)).is_some_and(|(one, other)| one.no == other.no || one.listed && other.listed)
    }

    /// Draws the groups: who opens each, for whom of those they know. Those whom a second opener has to know, too, are
    /// introduced to them.
    fn group(&mut self, people: &[ProcessNo], friends: &Friends, duration: Duration) {
        let mut stream = self.seed.stream(Entity::World, "groups");
        let [least, most] = friends.group_size;
        for _ in 0..friends.groups {
            let Some(opener) = stream.pick(people).copied() else { return };
            let wanted = u64::from(least) + stream.below(u64::from(most - least) + 1);
            let twins = stream.happens(friends.twins.0);
            let at = stream.between(self.workload.arrive.0, (duration / 2).max(self.workload.arrive.0));
            let mut known: Vec<_> = self.pairs.iter().filter_map(|pair| pair.other_than(opener)).collect();
            known.sort_unstable();
            known.dedup();
            let mut members = vec![opener];
            while (members.len() as u64) < wanted && members.len() < people.len() {
                // Whoever knows too few gets to know more.
                let next = match known.is_empty() {
                    false => known.swap_remove(stream.below(known.len() as u64) as usize),
                    true => stream.pick(people).copied().unwrap_or(opener),
                };
                if !members.contains(&next) {
                    members.push(next);
                }
            }
            let openers: Vec<_> = members.iter().copied().take(if twins { 2 } else { 1 }).collect();
            for opener in &openers {
                for member in members.iter().filter(|member| *member != opener) {
                    let apart = self.pairs.iter().all(|pair| pair.other_than(*opener) != Some(*member));
                    apart.then(|| self.introduce(*opener, *member));
                }
            }
            let group = self.groups.len();
            self.groups.push(Group { people: members, openers });
            self.engine.after(at, Event::Gather { group });
        }
    }

    /// Draws the groups whose members change: who makes each, and of whom. The admin gets to know those they do not.
    fn encircle(&mut self, people: &[ProcessNo], circles: u32) {
        let mut stream = self.seed.stream(Entity::World, "circles");
        for number in 0..circles {
            let Some(admin) = stream.pick(people).copied() else { return };
            let wanted = 4 + stream.below(5) as usize;
            let mut pool: Vec<ProcessNo> = Vec::new();
            // Fewer than wanted, where there are few people.
            for _ in 0..wanted * 4 {
                let Some(one) = stream.pick(people).copied() else { return };
                if pool.len() < wanted && one != admin && !pool.contains(&one) {
                    pool.push(one);
                }
            }
            for one in &pool {
                let apart = self.pairs.iter().all(|pair| pair.other_than(admin) != Some(*one));
                apart.then(|| self.introduce(admin, *one));
            }
            let changes = self.seed.stream(Entity::World, &format!("circle {number}"));
            self.circles.push(Circle {
                admin,
                pool,
                meant: BTreeSet::new(),
                linked: BTreeSet::new(),
                thread: None,
                stream: changes,
            });
            let circle = self.circles.len() - 1;
            self.engine.after(self.workload.arrive.0, Event::Change { circle });
        }
    }

    /// Two people are to meet: the first invites the second.
    pub fn introduce(&mut self, inviter: ProcessNo, accepter: ProcessNo) {
        let pair = self.pairs.len();
        self.ledger.introduced(inviter, accepter);
        self.pairs.push(Pair { inviter, accepter, by_request: false, meeting: Meeting::Apart, untimely: false });
        // When both had time to come up.
        self.engine.after(self.workload.arrive.0, Event::Meet { pair });
    }

    /// Two people are to meet: the first asks the second to be friends. Their relays must know each other.
    pub fn request(&mut self, asker: ProcessNo, asked: ProcessNo) {
        self.introduce(asker, asked);
        if let Some(pair) = self.pairs.last_mut() {
            pair.by_request = true;
        }
    }

    /// Alice and Bob, who can talk, and the relay both use. Nobody writes or leaves unless told to.
    ///
    /// # Panics
    /// They do not come to talk: a test over such a world would prove nothing.
    pub fn two_friends_on_one_relay(&mut self) -> (ProcessNo, ProcessNo, ProcessNo) {
        let (alice, bob, relay, _) = self.two_friends(&["a.example"]);
        (alice, bob, relay)
    }

    /// Alice and Bob, who can talk, and the relay of each.
    ///
    /// # Panics
    /// As [`World::two_friends_on_one_relay`].
    pub fn two_friends_on_two_relays(&mut self) -> (ProcessNo, ProcessNo, ProcessNo, ProcessNo) {
        self.two_friends(&["a.example", "b.example"])
    }

    fn two_friends(&mut self, domains: &[&str]) -> (ProcessNo, ProcessNo, ProcessNo, ProcessNo) {
        self.lively = false;
        let people =
            domains.iter().map(|domain| self.test_relay(domain)).collect::<Result<Vec<_>, _>>().and_then(|relays| {
                let (first, last) = (relays.first().copied(), relays.last().copied());
                let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
                Ok((self.test_node(first)?, self.test_node(last)?, first, last))
            });
        let (alice, bob, first, last) = match people {
            Ok(people) => people,
            Err(error) => unreachable!("a test's world could not be made: {error}"),
        };
        self.befriend(alice, bob);
        (alice, bob, first, last)
    }

    /// A relay with every default.
    ///
    /// # Errors
    /// The domain is no domain.
    pub fn test_relay(&mut self, domain: &str) -> Result<ProcessNo, BuildError> {
        let domain: Domain = domain.parse().map_err(|error| BuildError(format!("{domain}: {error}")))?;
        self.add_relay(&Relay::with_defaults(domain))
    }

    /// A node with every default that does not come and go.
    ///
    /// # Errors
    /// The number is no relay's.
    pub fn test_node(&mut self, home: ProcessNo) -> Result<ProcessNo, BuildError> {
        let domain = self.relays().find(|relay| relay.no == home).map(|relay| relay.domain.clone());
        let domain = domain.ok_or_else(|| BuildError(format!("process {home} is no relay")))?;
        self.add_node(&Population::with_defaults(domain))
    }

    /// Lets two people meet, and time pass until both can write.
    ///
    /// # Panics
    /// They do not meet.
    pub fn befriend(&mut self, one: ProcessNo, other: ProcessNo) {
        self.introduce(one, other);
        let bound = self.now().plus(MEETING_BOUND);
        while self.now() < bound && !(self.can_write(one, other) && self.can_write(other, one)) {
            self.run_for(Duration::from_millis(100));
        }
        assert!(self.can_write(one, other) && self.can_write(other, one), "they never met");
    }

    /// Somebody writes to exactly these people, all of whom they know; returns when their node has it on its disk.
    ///
    /// # Panics
    /// The node does not take it.
    pub fn say_to(&mut self, who: ProcessNo, people: &[ProcessNo], text: &str) {
        let everybody: Vec<_> = people.iter().copied().chain([who]).collect();
        self.write_to(who, &everybody, text.to_owned());
        self.answered_within(who);
    }

    /// Whether somebody knows a thread with somebody.
    pub fn can_write(&mut self, who: ProcessNo, to: ProcessNo) -> bool {
        self.person_mut(who).is_some_and(|person| person.threads.iter().any(|(other, _)| *other == to))
    }

    /// Somebody writes to a friend; returns when their node has it on its disk.
    ///
    /// # Panics
    /// They are no friends, or the node does not take it.
    pub fn say(&mut self, who: ProcessNo, to: ProcessNo, text: &str) {
        let thread = self.person_mut(who).and_then(|person| person.threads.iter().find(|(other, _)| *other == to));
        let thread = thread.map(|(_, thread)| *thread);
        assert!(thread.is_some(), "process {who} does not know process {to}");
        if let Some(thread) = thread {
            self.write(who, vec![to], thread, text.to_owned());
        }
        self.answered_within(who);
    }

    /// Somebody makes a group of people they know, whose members may change; returns when everybody is in it.
    ///
    /// # Panics
    /// The node does not make it, or they do not get into it.
    pub fn make_circle(&mut self, admin: ProcessNo, people: &[ProcessNo]) -> (usize, ThreadId) {
        let stream = self.seed.stream(Entity::World, &format!("circle {}", self.circles.len()));
        self.circles.push(Circle {
            admin,
            pool: Vec::new(),
            meant: BTreeSet::new(),
            linked: BTreeSet::new(),
            thread: None,
            stream,
        });
        let number = self.circles.len() - 1;
        self.form(number, admin, people);
        self.answered_within(admin);
        let thread = self.circles.get(number).and_then(|circle| circle.thread);
        let Some(thread) = thread else { unreachable!("the group was not made") };
        self.run_until_quiet();
        for one in people {
            assert!(self.ledger.circle(&thread, *one).contains(one), "process {one} did not get into the group");
        }
        (number, thread)
    }

    /// The admin takes people in.
    pub fn add_to_circle(&mut self, circle: usize, thread: ThreadId, people: &[ProcessNo]) {
        let Some(admin) = self.circles.get(circle).map(|circle| circle.admin) else { return };
        self.take_in(circle, thread, admin, people);
    }

    /// The admin takes somebody out.
    pub fn remove_from_circle(&mut self, circle: usize, thread: ThreadId, who: ProcessNo) {
        let Some(admin) = self.circles.get(circle).map(|circle| circle.admin) else { return };
        self.take_out(circle, thread, admin, who);
    }

    /// Somebody asks to be taken out.
    pub fn leave_circle(&mut self, circle: usize, thread: ThreadId, who: ProcessNo) {
        self.ask_out(circle, thread, who);
    }

    /// An admin takes people in, or out.
    pub fn add_by(&mut self, by: ProcessNo, circle: usize, thread: ThreadId, people: &[ProcessNo]) {
        self.take_in(circle, thread, by, people);
    }

    /// An admin takes somebody out.
    pub fn remove_by(&mut self, by: ProcessNo, circle: usize, thread: ThreadId, who: ProcessNo) {
        self.take_out(circle, thread, by, who);
    }

    /// An admin makes a member an admin, or an admin a member.
    pub fn change_role(&mut self, by: ProcessNo, circle: usize, thread: ThreadId, who: ProcessNo) {
        self.give_role(circle, thread, by, who);
    }

    /// Somebody renews their keys in a group.
    pub fn renew_in_circle(&mut self, circle: usize, thread: ThreadId, who: ProcessNo) {
        self.command(who, Command::RenewKeys { thread }, Asked::Change(circle));
    }

    /// Somebody writes to a group; returns when their node has it on its disk.
    ///
    /// # Panics
    /// The node does not take it.
    pub fn say_in_circle(&mut self, who: ProcessNo, thread: ThreadId, text: &str) {
        self.write_to_circle(who, thread, text.to_owned());
        self.answered_within(who);
    }

    pub(super) fn answered_within(&mut self, who: ProcessNo) {
        let waits = |world: &mut Self| world.person_mut(who).is_some_and(|person| !person.asked.is_empty());
        for _ in 0..10_000 {
            if !waits(self) {
                return;
            }
            self.run_for(Duration::from_millis(1));
        }
        assert!(!waits(self), "the node of process {who} did not answer");
    }
}
