//! The soak: worlds drawn from seeds, run under faults until enough time has passed in them.
//! Owns: what a seed becomes (a scenario and a plan), the sums over many runs, the command that repeats one.
//! Never: two runs at once, or a draw from anything but the seed.

mod logs;
mod push;
mod rates;
mod tokens;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use self::logs::Short;
use crate::clock::Stopwatch;
use crate::engine::{Entity, Seed, Stream};
use crate::faults::{Plan, Profile, Shape, draw, equip};
use crate::judge::verdict::Violation;
use crate::judge::{CONVERGE, Promise, Seen, promises};
use crate::ran::{Ran, twice};
use crate::scenario::{Crypto, SEED_MAX, Scenario, ScenarioError};

/// One run in so many is repeated and compared.
const SAMPLE: u64 = 16;

/// Where relays and people are, in worlds on this planet: rows of the table of regions.
const REGIONS: [&str; 8] = [
    "eu-central-1",
    "eu-north-1",
    "us-east-1",
    "us-west-2",
    "sa-east-1",
    "ap-northeast-1",
    "ap-southeast-2",
    "af-south-1",
];
/// How they are connected there: rows of the table of access links.
const PROFILES: [&str; 6] = ["home", "uk_4g", "us_wifi", "germany_wifi", "japan_4g", "laggy"];

/// One run of a soak: everything about it follows from these two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// What everything is drawn from.
    pub seed: u64,
    /// How threads are sealed.
    pub crypto: Crypto,
}

impl Case {
    /// The world of this seed, as a scenario people can read and change: 3 to 5 relays, 30 to 40 nodes.
    pub fn scenario_text(&self) -> String {
        let mut stream = Seed::from(self.seed).stream(Entity::World, "soak");
        let draw = &mut stream;
        let relays = 3 + draw.below(3);
        let mut nodes = 30 + draw.below(11);
        let crypto = match self.crypto {
            Crypto::Standin => "standin",
            Crypto::Real => "real",
        };
        let mut text = String::new();
        let (minutes, core, loss) = (10 + draw.below(21), 5 + draw.below(60), draw.below(20) as f64 / 10.0);
        let _infallible = write!(
            text,
            "[sim]\nabout = \"soak\"\nseed = {}\nduration = \"{minutes} min\"\nsettle = \"40 min\"\ncrypto = \"{crypto}\"\n{}\n\
             [network]\njitter = \"{} ms\"\nloss = \"{loss} %\"\n\
             duplicate = \"{} %\"\nreorder = \"{} %\"\n{}",
            self.seed,
            clocks(Seed::from(self.seed)),
            1 + draw.below(10),
            draw.below(20) as f64 / 10.0,
            draw.below(20) as f64 / 10.0,
            knobs(Seed::from(self.seed), loss),
        );
        // Half of the worlds lie on this planet, the others are round about.
        let planet = draw.happens(0.5);
        text += &if planet { "\n".to_owned() } else { format!("core = \"{core} ms\"\n\n") };
        let region = |draw: &mut Stream| match draw.pick(&REGIONS) {
            Some(region) if planet => format!("region = \"{region}\"\n"),
            _ => String::new(),
        };
        // In a quarter of the worlds relays know each other by the invites of their users alone. A group may have two
        // relays that no invite brought together, so such worlds have none.
        let listed = draw.happens(0.75);
        let rates = rates::rates(Seed::from(self.seed), relays, listed);
        let tokens = tokens::tokens(Seed::from(self.seed), relays);
        let push = push::push(Seed::from(self.seed), relays);
        for (relay, ((rates, tokens), push)) in (0..relays).zip(rates.iter().zip(&tokens).zip(&push)) {
            let letter = char::from(b'a' + relay as u8);
            let cached = [1.0, 0.9, 0.3].get(draw.below(3) as usize).copied().unwrap_or(0.9);
            let _infallible = write!(
                text,
                "[[relay]]\ndomain = \"{letter}.example\"\nlisted = {listed}\n{}disk = {{ sync = [\"300 us\", \"{} ms\"], cached = {cached} }}\n{rates}{tokens}{push}{}\n",
                region(draw),
                1 + draw.below(20),
                Short::of(Seed::from(self.seed), relay).map_or_else(String::new, |short| short.log()),
            );
        }
        let poll = poll(Seed::from(self.seed));
        for relay in 0..relays {
            let letter = char::from(b'a' + relay as u8);
            let left = relays - relay;
            let count = if left == 1 { nodes } else { (nodes / left).max(1) };
            nodes -= count;
            let churn = match draw.below(3) {
                0 => String::new(),
                // Some come back to more than an acknowledgement waits for.
                long => format!(
                    "churn = {{ share = \"{} %\", online = \"{} s\", away = \"{} s\", kill = \"{} %\" }}\n",
                    20 + draw.below(80),
                    30 + draw.below(600),
                    5 + draw.below(if long == 2 { 900 } else { 120 }),
                    draw.below(101),
                ),
            };
            let churn = Short::of(Seed::from(self.seed), relay).map_or(churn, |short| short.churn());
            let access = match draw.pick(&PROFILES) {
                Some(profile) if planet => format!("profile = \"{profile}\"\n"),
                _ => format!("access = [\"5 ms\", \"{} ms\"]\n", 10 + draw.below(60)),
            };
            let direct = draw.happens(0.4);
            let nat = match (direct, planet && draw.happens(0.7)) {
                (true, true) => {
                    format!("nat = {{ open = \"{} %\", nodes = {} }}\n", draw.below(50), 1 + draw.below(3))
                }
                _ => String::new(),
            };
            let _infallible = write!(
                text,
                "[[population]]\nrelay = \"{letter}.example\"\ncount = {count}\n{}{access}direct = {direct}\n{poll}{nat}{churn}\n",
                region(draw),
            );
        }
        let seed = Seed::from(self.seed);
        // Where people have second devices nobody ends their account, and nobody is away for a month.
        let late = if devices(seed).is_some() { String::new() } else { late(seed) };
        let apart = apart(seed) + &exports(seed) + &wakes(seed) + &cards(seed) + &late;
        let _infallible = write!(
            text,
            "[friends]\nring = {}\nrandom = {}\n{}{apart}\n\
             [workload]\narrive = \"{} s\"\nevery = \"{} s\"\ntext = [32, {}]\n",
            1 + draw.below(2),
            draw.below(20),
            if listed {
                groups(draw) + &format!("requests = \"{} %\"\n", 1 + draw.below(60)) + &self.circles()
            } else {
                String::new()
            },
            5 + draw.below(120),
            4 + draw.below(40),
            64 + draw.below(2_000),
        );
        // In a third of the worlds people say more at once than an acknowledgement waits for.
        if draw.below(3) == 0 {
            let (tenths, least) = (5 + draw.below(16), 40 + draw.below(60));
            let most = least + draw.below(120);
            let share = tenths as f64 / 10.0;
            let _infallible = writeln!(text, "burst = {{ share = \"{share} %\", texts = [{least}, {most}] }}");
        }
        text
    }

    /// Groups whose members change, in two worlds of three. Of a stream of their own: the rest is drawn as it was.
    fn circles(&self) -> String {
        let mut stream = Seed::from(self.seed).stream(Entity::World, "soak: circles");
        match stream.below(3) {
            0 => String::new(),
            _ => format!("circles = {}\n", 1 + stream.below(4)),
        }
    }

    /// The world of this seed.
    ///
    /// # Errors
    /// Never, unless what this file writes is not what `scenario` reads.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        Scenario::read("soak", &self.scenario_text(), &[])
    }

    /// What goes wrong in it. Half of the seeds see honest parties only, so that what only an honest world promises is
    /// judged too; a quarter see everything; a quarter see some kinds of faults and not others, for those that strike
    /// all the time hide what the rest would show.
    pub fn plan(&self, scenario: &Scenario) -> Plan {
        let seed = Seed::from(self.seed);
        let mut stream = seed.stream(Entity::World, "storm");
        let draw_from = &mut stream;
        let storm = Profile::storm();
        let profile = match draw_from.below(4) {
            0 | 1 => swarm(storm.honest(), 0.8, draw_from),
            2 => storm,
            _ => swarm(storm, 0.5, draw_from),
        };
        let shape = Shape::of(scenario);
        let mut plan = draw(seed, &profile, &shape);
        if let Some(share) = devices(seed) {
            equip(seed, &scenario.equipment(share), &shape, &mut plan);
        }
        plan
    }

    /// Runs it under its own plan.
    ///
    /// # Errors
    /// See [`Case::scenario`].
    pub fn run(&self) -> Result<Ran, ScenarioError> {
        let scenario = self.scenario()?;
        let plan = self.plan(&scenario);
        Ok(self.run_under(&scenario, &plan))
    }

    /// Runs it under another plan. A panic anywhere, and a world that does not come to be, are violations like others.
    pub fn run_under(&self, scenario: &Scenario, plan: &Plan) -> Ran {
        let ran = Ran::of(scenario, Seed::from(self.seed), plan);
        ran.unwrap_or_else(|error| Ran::broken(Violation::Panicked { what: error.to_string() }))
    }

    /// Runs it twice under a plan and compares.
    pub fn run_twice_under(&self, scenario: &Scenario, plan: &Plan) -> Ran {
        twice(|| self.run_under(scenario, plan))
    }

    /// The one command that shows again what came of it.
    pub fn command(&self, ran: &Ran) -> String {
        let crypto = match self.crypto {
            Crypto::Standin => "standin",
            Crypto::Real => "real",
        };
        ran.again(&format!("whimbrel-sim replay {} --crypto {crypto}", self.seed))
    }

    /// The case of the n-th seed after this one's; after the last seed comes the first.
    #[must_use]
    pub const fn after(self, n: u64) -> Self {
        Self { seed: self.seed.wrapping_add(n) & SEED_MAX, ..self }
    }
}

/// How a network loses packets, how much waits before its lines, and how soon its ends give up. Drawn apart from the rest.
fn knobs(seed: Seed, loss: f64) -> String {
    let mut stream = seed.stream(Entity::World, "network: knobs");
    let (burst, within) = (20 + stream.below(480), 5 + stream.below(56));
    let (buffer, least) = (50 + stream.below(951), 2_000 + stream.below(3_000));
    let (most, connect) = (least + stream.below(10_000), 3_000 + stream.below(5_000));
    let bursts = format!("burst = \"{burst} ms\"\nburst_loss = \"{within} %\"\n");
    format!(
        "{}buffer = \"{buffer} ms\"\ndetect = [\"{least} ms\", \"{most} ms\"]\nconnect = \"{connect} ms\"\n",
        // Where nothing is lost there are no bursts of it.
        if loss > 0.0 { bursts.as_str() } else { "" }
    )
}

/// How wrong everybody's clock is, beside those that a fault sets. Drawn apart from the rest.
fn clocks(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "clocks");
    format!("clocks = {{ off = \"{} s\", drift_ppm = {} }}\n", 1 + stream.below(30), 1 + stream.below(100))
}

/// The groups of a world. How they are is drawn where there are none, too, so that the rest is drawn as it was.
fn groups(draw: &mut Stream) -> String {
    let (groups, most, twins) = (draw.below(6), 3 + draw.below(4), draw.below(101));
    if groups == 0 {
        return String::new();
    }
    format!("groups = {groups}\ngroup_size = [3, {most}]\ntwins = \"{twins} %\"\n")
}

/// In half of the worlds some people's networks let no UDP through. Drawn apart from the rest, which stays as it was.
fn poll(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "poll");
    let (some, share) = (stream.happens(0.5), 5 + stream.below(36));
    if some { format!("poll = \"{share} %\"\n") } else { String::new() }
}

/// In three of four worlds people part, and some hide. Drawn apart from the rest, which stays as it was.
fn apart(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "apart");
    let (some, partings, hidden) = (stream.happens(0.75), 1 + stream.below(30), 1 + stream.below(20));
    if some { format!("partings = \"{partings} %\"\nhidden = \"{hidden} %\"\n") } else { String::new() }
}

/// In half of the worlds some ask for all their relay keeps of them. Drawn apart from the rest, too.
fn exports(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "exports");
    let (some, share) = (stream.happens(0.5), 5 + stream.below(16));
    if some { format!("exports = \"{share} %\"\n") } else { String::new() }
}

/// In half of the worlds some are woken while they are away. Drawn apart from the rest, too.
fn wakes(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "wake-ups: share");
    let (some, share) = (stream.happens(0.5), 10 + stream.below(41));
    if some { format!("wakes = \"{share} %\"\n") } else { String::new() }
}

/// In half of the worlds some put up a card now and then. Drawn apart from the rest, too.
fn cards(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "cards: share");
    let (some, share) = (stream.happens(0.5), 10 + stream.below(51));
    if some { format!("cards = \"{share} %\"\n") } else { String::new() }
}

/// In a third of the worlds some people have a second device. Drawn apart from the rest, too.
fn devices(seed: Seed) -> Option<f64> {
    let mut stream = seed.stream(Entity::World, "second devices: share");
    let (some, share) = (stream.happens(1.0 / 3.0), 5 + stream.below(31));
    some.then_some(share as f64 / 100.0)
}

/// In half of the worlds some end their account at last; in one of eight a message waits for nearly as long as relays hold
/// it, or longer. Drawn apart from the rest, too.
fn late(seed: Seed) -> String {
    let mut stream = seed.stream(Entity::World, "late");
    let (some, deletions) = (stream.happens(0.5), 1 + stream.below(20));
    let mut text = if some { format!("deletions = \"{deletions} %\"\n") } else { String::new() };
    if stream.below(8) == 0 {
        let days = if stream.happens(0.5) { 29 } else { 31 };
        text += &format!("absence = \"{days} d\"\n");
    }
    text
}

/// Leaves out kinds of faults, each kept in a share of all cases.
fn swarm(mut profile: Profile, kept: f64, stream: &mut Stream) -> Profile {
    for rate in [
        &mut profile.relay_crashes,
        &mut profile.node_crashes,
        &mut profile.restarts,
        &mut profile.partitions,
        &mut profile.offline,
        &mut profile.flaps,
        &mut profile.slow_paths,
        &mut profile.breaks,
        &mut profile.slow_disks,
        &mut profile.full_disks,
        &mut profile.failed_syncs,
        &mut profile.clocks,
        &mut profile.hostile_relays,
        &mut profile.hostile_members,
        &mut profile.roams,
    ] {
        if !stream.happens(kept) {
            *rate = 0.0;
        }
    }
    profile
}

/// What many runs came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sum {
    /// Virtual hours of whole worlds of at least 3 relays and 30 nodes.
    pub cluster_hours: f64,
    /// Messages shown to those they were for.
    pub delivered: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Partitions, both ways or one.
    pub partitions: u64,
    /// Applied batches that crashes took back.
    pub torn_writes: u64,
    /// Everything that struck, by kind: a kind that never does is a hole in the soak.
    pub struck: BTreeMap<&'static str, u64>,
    /// Everything counted on the networks, by name.
    pub network: BTreeMap<&'static str, u64>,
    /// Everything that must not be, counted.
    pub violations: u64,
    /// Events.
    pub events: u64,
    /// Seconds.
    pub wall_s: f64,
    /// Hours one core worked.
    pub core_hours: f64,
    /// Virtual hours to each hour one core worked.
    pub cluster_hours_per_core_hour: f64,
    /// Events in a second of one core's work.
    pub events_per_core_s: f64,
    /// Worlds.
    pub runs: u64,
    /// Of these, runs that were repeated and compared (P12).
    pub repeated: u64,
    /// The first seed.
    pub seed: u64,
    /// How threads were sealed.
    pub crypto: &'static str,
    /// Messages their author's node answered for.
    pub sent: u64,
    /// Messages whose author was told that they failed.
    pub failed: u64,
    /// Texts that a node did not take.
    pub declined: u64,
    /// Entries that could not be opened.
    pub unreadable: u64,
    /// Log lines of relays that were listened to (P4).
    pub lines_heard: u64,
    /// Of the crashes, relays.
    pub relay_crashes: u64,
    /// The longest time from send to show, in milliseconds.
    pub slowest_ms: f64,
    /// The longest that a thread took to come together after healing (see [`crate::summary::Summary`]), in milliseconds.
    pub converged_ms: u64,
    /// Runs in which that took more than a minute.
    pub converged_late: u64,
    /// The first violation of each seed that had one.
    pub examples: Vec<Example>,
    /// What these runs say of each promise.
    pub promises: Vec<Promise>,
}

/// A broken promise, and how to see it again.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The seed.
    pub seed: u64,
    /// Which promise, and how.
    pub violation: String,
    /// The one command that repeats it.
    pub replay: String,
}

/// What a soak is to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Orders {
    /// Until so many cluster-hours have passed.
    pub hours: f64,
    /// The first seed; each run takes the next.
    pub seed: u64,
    /// How threads are sealed.
    pub crypto: Crypto,
    /// Or until so many seeds have broken a promise.
    pub broken_max: usize,
    /// Repeats a sample of the runs.
    pub sample: bool,
}

/// Runs seed after seed; `told` hears of each.
///
/// # Errors
/// See [`Case::scenario`].
pub fn soak(orders: Orders, mut told: impl FnMut(&Case, &Ran, &Sum)) -> Result<Sum, ScenarioError> {
    let watch = Stopwatch::start();
    let crypto = if orders.crypto == Crypto::Real { "real" } else { "standin" };
    let mut sum = Sum { seed: orders.seed, crypto, ..Sum::default() };
    let mut seen = Seen { real: orders.crypto == Crypto::Real, ..Seen::default() };
    while sum.cluster_hours < orders.hours && sum.examples.len() < orders.broken_max {
        let case = Case { seed: orders.seed, crypto: orders.crypto }.after(sum.runs);
        let scenario = case.scenario()?;
        let plan = case.plan(&scenario);
        let repeats = orders.sample && sum.runs.is_multiple_of(SAMPLE);
        let ran = match repeats {
            true => case.run_twice_under(&scenario, &plan),
            false => case.run_under(&scenario, &plan),
        };
        seen.replayed |= repeats;
        sum.repeated += u64::from(repeats);
        sum.lines_heard += ran.lines;
        let struck = ran.account.as_ref().map(crate::world::Account::struck);
        seen.saw(&plan, struck.as_ref().map_or(&[], |struck| struck.as_slice()), ran.lines);
        sum.add(&case, &ran);
        sum.time(&watch);
        told(&case, &ran, &sum);
    }
    // Of nothing, nothing can be said.
    let none = |promise| Promise { checked: false, how: "there was no run", ..promise };
    sum.promises = promises(seen).map(|promise| if sum.runs == 0 { none(promise) } else { promise }).into();
    Ok(sum)
}

impl Sum {
    fn add(&mut self, case: &Case, ran: &Ran) {
        self.runs += 1;
        self.delivered += ran.verdict.shown;
        self.sent += ran.verdict.sent;
        self.failed += ran.verdict.failed;
        self.declined += ran.verdict.declined;
        self.unreadable += ran.verdict.unreadable;
        self.violations += ran.verdict.violations;
        self.slowest_ms = self.slowest_ms.max(ran.verdict.slowest.as_micros() as f64 / 1_000.0);
        if let Some(account) = &ran.account {
            self.cluster_hours += account.virtual_time.as_secs_f64() / 3_600.0;
            self.events += account.events;
            self.converged_ms = self.converged_ms.max(account.converged.as_millis() as u64);
            self.converged_late += u64::from(account.converged > CONVERGE);
            self.crashes += account.faults.crashes;
            self.relay_crashes += account.faults.relay_crashes;
            self.partitions += account.faults.partitions;
            self.torn_writes += account.faults.batches_lost;
            for (kind, times) in account.struck() {
                *self.struck.entry(kind).or_default() += times;
            }
            for (what, times) in account.net.by_name() {
                *self.network.entry(what).or_default() += times;
            }
        }
        if let (true, Some(first)) = (ran.broke(), ran.verdict.examples.first()) {
            let (violation, replay) = (first.to_string(), case.command(ran));
            self.examples.push(Example { seed: case.seed, violation, replay });
        }
    }

    fn time(&mut self, watch: &Stopwatch) {
        self.wall_s = watch.seconds();
        let core_s = watch.core_seconds().max(1e-9);
        self.core_hours = core_s / 3_600.0;
        self.cluster_hours_per_core_hour = self.cluster_hours / self.core_hours;
        self.events_per_core_s = self.events as f64 / core_s;
    }

    /// A few lines for people.
    pub fn for_people(&self) -> String {
        let mut text = format!(
            "{:.1} cluster-hours in {} runs from seed {} ({}), {:.0} s, {:.3} core-hours: {:.0} cluster-hours a core-hour\n  \
             delivered {}, sent {}, failed {}, slowest {:.1} s\n  \
             crashes {} ({} of relays), partitions {}, torn writes {}, events {}, repeated {}\n  violations {}\n",
            self.cluster_hours,
            self.runs,
            self.seed,
            self.crypto,
            self.wall_s,
            self.core_hours,
            self.cluster_hours_per_core_hour,
            self.delivered,
            self.sent,
            self.failed,
            self.slowest_ms / 1_000.0,
            self.crashes,
            self.relay_crashes,
            self.partitions,
            self.torn_writes,
            self.events,
            self.repeated,
            self.violations,
        );
        for promise in self.promises.iter().filter(|promise| !promise.checked) {
            let _infallible = writeln!(text, "  {} not checked: {}", promise.id, promise.how);
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_soak_of_nothing_checks_no_promise() {
        for (hours, broken_max) in [(f64::NAN, 1), (0.0, 1), (1.0, 0)] {
            let sum = soak(Orders { hours, seed: 1, crypto: Crypto::Standin, broken_max, sample: true }, |_, _, _| ());
            let sum = sum.unwrap();
            assert_eq!((sum.runs, sum.promises.len()), (0, 12));
            assert!(sum.promises.iter().all(|promise| !promise.checked), "{:?}", sum.promises);
        }
    }

    #[test]
    fn every_world_that_is_drawn_reads_back_from_its_file() {
        for seed in 0..200 {
            let case = Case { seed, crypto: Crypto::Standin };
            let scenario = case.scenario().unwrap_or_else(|error| unreachable!("seed {seed}: {error}"));
            let whole = Scenario { fault: case.plan(&scenario).faults, ..scenario };
            assert_eq!(Scenario::read("file", &toml::to_string(&whole).unwrap(), &[]).unwrap(), whole, "seed {seed}");
        }
    }

    #[test]
    fn after_the_last_seed_comes_the_first() {
        let last = Case { seed: SEED_MAX, crypto: Crypto::Standin };
        assert_eq!((last.after(0).seed, last.after(1).seed, last.after(3).seed), (SEED_MAX, 0, 2));
    }
}
