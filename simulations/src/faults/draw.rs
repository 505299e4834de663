//! What goes wrong, drawn from a seed.
//! Owns: how often what strikes, and how long it lasts. Never: a fault that ends after the safety phase.

use std::time::Duration;

use whimbrel_protocol::id::Domain;

use super::{Fault, Keep, Kind, MemberTrick, Plan, Point, RelayTrick, Target, Ways};
use crate::engine::{Entity, Seed, Stream};
use crate::scenario::Scenario;

/// What a plan is drawn for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The relays' domains.
    pub relays: Vec<Domain>,
    /// How many nodes there are.
    pub nodes: u32,
    /// The relay of each node, by its place in `relays`.
    pub homes: Vec<usize>,
    /// The safety phase: everything strikes within it and is mended at its end at the latest.
    pub duration: Duration,
}

impl Shape {
    /// The shape of a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let relays = scenario.relay.iter().map(|relay| relay.domain.clone()).collect();
        let place = |domain: &Domain| scenario.relay.iter().position(|relay| relay.domain == *domain);
        let homes = scenario.population.iter().flat_map(|group| {
            let home = place(&group.relay).unwrap_or_default();
            std::iter::repeat_n(home, group.count as usize)
        });
        Self { relays, nodes: scenario.nodes(), homes: homes.collect(), duration: scenario.sim.duration.0 }
    }
}

/// How much goes wrong: how many faults of each kind an hour, in the whole world.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// Relays that die.
    pub relay_crashes: f64,
    /// Nodes that die.
    pub node_crashes: f64,
    /// Processes that are stopped in good order.
    pub restarts: f64,
    /// Two relays, or a node and a relay, that do not reach each other, or only one way.
    pub partitions: f64,
    /// Nodes or relays without any network.
    pub offline: f64,
    /// Paths that flap.
    pub flaps: f64,
    /// Paths that take longer.
    pub slow_paths: f64,
    /// Links that break where they stand.
    pub breaks: f64,
    /// Nodes whose address changes.
    pub roams: f64,
    /// Disks that are slow or stall.
    pub slow_disks: f64,
    /// Disks that are full.
    pub full_disks: f64,
    /// Syncs that fail.
    pub failed_syncs: f64,
    /// Clocks that drift, jump, or lie by a year.
    pub clocks: f64,
    /// Relays that turn on their users, in ways that honest nodes must make good.
    pub hostile_relays: f64,
    /// Members that turn on the others.
    pub hostile_members: f64,
}

impl Profile {
    /// Nothing goes wrong.
    pub const fn quiet() -> Self {
        Self {
            relay_crashes: 0.0,
            node_crashes: 0.0,
            restarts: 0.0,
            partitions: 0.0,
            offline: 0.0,
            flaps: 0.0,
            slow_paths: 0.0,
            breaks: 0.0,
            roams: 0.0,
            slow_disks: 0.0,
            full_disks: 0.0,
            failed_syncs: 0.0,
            clocks: 0.0,
            hostile_relays: 0.0,
            hostile_members: 0.0,
        }
    }

    /// Every kind, so often that an hour sees hundreds: what the soak runs under.
    pub const fn storm() -> Self {
        Self {
            relay_crashes: 60.0,
            node_crashes: 120.0,
            restarts: 20.0,
            partitions: 30.0,
            offline: 60.0,
            flaps: 20.0,
            slow_paths: 30.0,
            breaks: 40.0,
            roams: 40.0,
            slow_disks: 20.0,
            full_disks: 10.0,
            failed_syncs: 10.0,
            clocks: 20.0,
            hostile_relays: 10.0,
            hostile_members: 6.0,
        }
    }

    /// What people can be to each other and to machines is left out: only networks, disks, clocks and crashes.
    #[must_use]
    pub const fn honest(mut self) -> Self {
        self.hostile_relays = 0.0;
        self.hostile_members = 0.0;
        self
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::storm()
    }
}

const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;
/// Bytes that are no frame end the link they come on: of more than a few frames, nothing else would ever come.
const GARBLED: f64 = 0.1;
/// How long a node is watched for a frame that leaves too early, at most.
const WATCH_MS: u64 = 600_000;

/// Draws what goes wrong: a safety phase of the shape's duration under these faults; the world heals everything after
/// it, and what follows is the liveness phase. The same seed, profile and shape give the same plan.
pub fn draw(seed: Seed, profile: &Profile, shape: &Shape) -> Plan {
    let mut plan = Plan::none();
    if shape.relays.is_empty() || shape.nodes == 0 || shape.duration.is_zero() {
        return plan;
    }
    type Make = fn(&mut Draw) -> Kind;
    let kinds: [(&str, f64, Make, [u64; 2]); 15] = [
        ("relay crash", profile.relay_crashes, Draw::relay_crash, [100, 20_000]),
        ("node crash", profile.node_crashes, Draw::node_crash, [100, 60_000]),
        ("restart", profile.restarts, Draw::restart, [500, 20_000]),
        ("partition", profile.partitions, Draw::partition, [500, 120_000]),
        ("offline", profile.offline, Draw::offline, [500, 90_000]),
        ("flap", profile.flaps, Draw::flap, [5_000, 60_000]),
        ("break", profile.breaks, Draw::break_links, [0, 0]),
        ("slow disk", profile.slow_disks, Draw::slow_disk, [1_000, 60_000]),
        ("full disk", profile.full_disks, Draw::full_disk, [500, 30_000]),
        ("failed sync", profile.failed_syncs, Draw::failed_sync, [200, 10_000]),
        ("clock", profile.clocks, Draw::clock, [10_000, 600_000]),
        ("hostile relay", profile.hostile_relays, Draw::hostile_relay, [10_000, 300_000]),
        ("hostile member", profile.hostile_members, Draw::hostile_member, [10_000, 300_000]),
        ("roam", profile.roams, Draw::roam, [0, 0]),
        ("slow path", profile.slow_paths, Draw::slow_path, [5_000, 120_000]),
    ];
    for (name, an_hour, make, [least, most]) in kinds {
        if an_hour <= 0.0 {
            continue;
        }
        // A stream for each kind: more of one leaves the others as they are.
        let mut draw = Draw { stream: seed.stream(Entity::World, &format!("faults: {name}")), shape: shape.clone() };
        let mean = Duration::from_secs_f64(3_600.0 / an_hour);
        let mut at = draw.stream.exponential(mean);
        while at < shape.duration {
            let kind = make(&mut draw);
            // Nothing should leave a node too early, so whoever waits for it waits long.
            let most = if leaves_a_node(&kind) { WATCH_MS } else { most };
            let lasts = draw.stream.between(Duration::from_millis(least), Duration::from_millis(most));
            let lasts = lasts.min(shape.duration.saturating_sub(at));
            // A relay's disk is slow meanwhile: entries can leave too early only while a sync takes its time.
            if let Kind::Crash { target: target @ Target::Relay(_), point: Point::Left(_), .. } = &kind {
                let slow = Kind::SlowDisk { target: target.clone(), times: 20 + draw.stream.below(180) as u32 };
                plan.faults.push(Fault { at, lasts, kind: slow });
            }
            plan.faults.push(Fault { at, lasts, kind });
            at += draw.stream.exponential(mean).max(Duration::from_millis(1));
        }
    }
    plan.faults.sort_by_key(|fault| fault.at);
    plan
}

/// A crash at the moment that a node's frame has left before what it says is durable.
const fn leaves_a_node(kind: &Kind) -> bool {
    matches!(kind, Kind::Crash { target: Target::Node(_), point: Point::Left(_), .. })
}

/// What a crash leaves.
pub(super) fn keep(stream: &mut Stream) -> Keep {
    match stream.below(4) {
        0 => Keep::Nothing,
        1 => Keep::Torn,
        _ => Keep::Drawn,
    }
}

struct Draw {
    stream: Stream,
    shape: Shape,
}

impl Draw {
    fn relay(&mut self) -> Domain {
        let at = self.stream.below(self.shape.relays.len() as u64) as usize;
        // There is one: `draw` asked.
        self.shape.relays.get(at).or(self.shape.relays.first()).cloned().unwrap_or_else(|| unreachable!("no relays"))
    }

    fn node(&mut self) -> u32 {
        u32::try_from(self.stream.below(u64::from(self.shape.nodes))).unwrap_or(0)
    }

    /// A relay in `relays` of ten cases.
    fn anybody(&mut self, relays: u64) -> Target {
        if self.stream.below(10) < relays { Target::Relay(self.relay()) } else { Target::Node(self.node()) }
    }

    fn relay_crash(&mut self) -> Kind {
        let n = 1 + self.stream.below(20) as u32;
        let point = match self.stream.below(5) {
            0 => Point::Now,
            1 => Point::Applied(n),
            2 => Point::Synced(n),
            3 => Point::Left(n.div_ceil(5)),
            _ => Point::Polled(n),
        };
        Kind::Crash { target: Target::Relay(self.relay()), point, keep: keep(&mut self.stream) }
    }

    fn node_crash(&mut self) -> Kind {
        let n = 1 + self.stream.below(5) as u32;
        let point = match self.stream.below(4) {
            0 => Point::Now,
            1 => Point::Applied(n),
            // Few frames leave a node so, and none that depends on what is not durable.
            2 => Point::Left(n.div_ceil(3)),
            _ => Point::Synced(n),
        };
        Kind::Crash { target: Target::Node(self.node()), point, keep: keep(&mut self.stream) }
    }

    fn restart(&mut self) -> Kind {
        Kind::Restart { target: self.anybody(6) }
    }

    /// Two who talk: two relays, a node and its relay, or two nodes.
    fn two(&mut self) -> [Target; 2] {
        let one = self.relay();
        let others: Vec<_> = self.shape.relays.iter().filter(|other| **other != one).cloned().collect();
        let node = self.node();
        let home = self.shape.homes.get(node as usize).and_then(|home| self.shape.relays.get(*home)).cloned();
        let (one, other) = match (self.stream.pick(&others).cloned(), self.stream.below(10)) {
            (Some(other), 0..5) => (Target::Relay(one), Target::Relay(other)),
            (_, 5..7) if self.shape.nodes > 1 => {
                let other = (node + 1 + self.stream.below(u64::from(self.shape.nodes - 1)) as u32) % self.shape.nodes;
                (Target::Node(node), Target::Node(other))
            }
            _ => (Target::Relay(home.unwrap_or(one)), Target::Node(node)),
        };
        if self.stream.happens(0.5) { [one, other] } else { [other, one] }
    }

    fn partition(&mut self) -> Kind {
        let ways = if self.stream.happens(0.4) { Ways::OneWay } else { Ways::Both };
        Kind::Partition { between: self.two(), ways }
    }

    fn offline(&mut self) -> Kind {
        Kind::Offline { target: self.anybody(2) }
    }

    fn flap(&mut self) -> Kind {
        let millis = Duration::from_millis;
        // Most are shorter than the idle time of a link, some are not.
        let most = if self.stream.happens(0.7) { 1_500 } else { 8_000 };
        let down = self.stream.between(millis(50), millis(most));
        let up = self.stream.between(millis(100), millis(6_000));
        Kind::Flap { between: self.two(), down, up }
    }

    fn break_links(&mut self) -> Kind {
        let target = self.anybody(7);
        let n = 1 + self.stream.below(40) as u32;
        let point = match (&target, self.stream.below(4)) {
            (_, 0) => Point::Now,
            (_, 1) => Point::Applied(n),
            (Target::Relay(_), 2) => Point::Polled(n),
            _ => Point::Synced(n),
        };
        Kind::Break { target, point }
    }

    /// Between relays for the most part: what commits take from one to another is what differs then.
    fn slow_path(&mut self) -> Kind {
        let between = self.two();
        // Most are within what an answer may take, some are not.
        let most = if self.stream.happens(0.7) { 2_000 } else { 15_000 };
        Kind::SlowPath { between, by: Duration::from_millis(20 + self.stream.below(most)) }
    }

    fn roam(&mut self) -> Kind {
        Kind::Roam { target: Target::Node(self.node()) }
    }

    fn slow_disk(&mut self) -> Kind {
        let target = self.anybody(6);
        if self.stream.happens(0.3) {
            return Kind::StallDisk { target };
        }
        Kind::SlowDisk { target, times: 2 + self.stream.below(200) as u32 }
    }

    fn full_disk(&mut self) -> Kind {
        Kind::FullDisk { target: self.anybody(6) }
    }

    fn failed_sync(&mut self) -> Kind {
        Kind::FailSync { target: self.anybody(6) }
    }

    fn clock(&mut self) -> Kind {
        let ahead_ms = match self.stream.below(6) {
            0 => YEAR_MS,
            1 => -YEAR_MS,
            2 => 3_600_000,
            3 => -3_600_000,
            4 => self.stream.below(240_000) as i64 - 120_000,
            _ => 0,
        };
        let drift_ppm = self.stream.below(1_001) as i32 - 500;
        // A clock that is right is no fault.
        let drift_ppm = if (ahead_ms, drift_ppm) == (0, 0) { 1 } else { drift_ppm };
        Kind::Clock { target: self.anybody(4), ahead_ms, drift_ppm }
    }

    /// Only what honest nodes must make good: hidden entries and a refusal to serve are told apart in stories.
    fn hostile_relay(&mut self) -> Kind {
        let tricks = [
            RelayTrick::Drop,
            RelayTrick::Repeat,
            RelayTrick::Replay,
            RelayTrick::Delay,
            RelayTrick::Reorder,
            RelayTrick::Fork,
            RelayTrick::Corrupt,
            RelayTrick::AddDevice,
            RelayTrick::Impersonate,
            RelayTrick::Misnumber,
            RelayTrick::Garble,
            RelayTrick::TwoOrders,
        ];
        let trick = self.stream.pick(&tricks).copied().unwrap_or(RelayTrick::Delay);
        let (relay, share) = (self.relay(), 0.05 + 0.45 * self.stream.unit());
        Kind::HostileRelay { relay, trick, share: if trick == RelayTrick::Garble { GARBLED * share } else { share } }
    }

    fn hostile_member(&mut self) -> Kind {
        let tricks = [
            MemberTrick::Replay,
            MemberTrick::Garbage,
            MemberTrick::Corrupt,
            MemberTrick::Clocks,
            MemberTrick::Stranger,
            MemberTrick::Garble,
            MemberTrick::StaleCommit,
            MemberTrick::CorruptCommit,
            MemberTrick::MistagCommit,
            MemberTrick::ForeignRemoval,
            MemberTrick::Usurp,
        ];
        let trick = self.stream.pick(&tricks).copied().unwrap_or(MemberTrick::Replay);
        let (node, share) = (self.node(), 0.1 + 0.9 * self.stream.unit());
        let share = match trick {
            MemberTrick::Clocks => 1.0,
            MemberTrick::Garble => GARBLED * share,
            _ => share,
        };
        Kind::HostileMember { node, trick, share }
    }
}
