//! Checks of a scenario that need more than one key.
//! Owns: what is refused, each with the key at fault. Never: knows lines; `read` finds them by the key.

use std::time::Duration;

use whimbrel_protocol::id::Domain;

use super::{Burst, Friends, NODES_MAX, Network, Region, Relay, Scenario, facts};
use crate::faults::{Kind, Target};

/// Whatever happens over and over does so after this time at least, on average: a world would not get anywhere else.
pub(crate) const AGAIN_MIN: Duration = Duration::from_millis(1);
/// What is said of less.
pub(crate) const AGAIN_WORDS: &str = "less than 1 ms, in which nothing would get on";
/// So far off clocks are at most while nothing is the matter with them: what is more is a fault.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(60);
/// Parts in a million, the same; crystals are within a hundred.
const CLOCK_DRIFT_MAX: u32 = 500;
/// Texts at once at most: a node keeps ten times as many for a thread that are not sent yet (`limits::OUTBOX_MAX`).
const BURST_MAX: u32 = 10_000;

impl Scenario {
    /// What no single key can know: the key at fault and why.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |path: String, what: &str| Err((path, what.to_owned()));
        let known = |domain: &Domain| self.relay.iter().any(|relay| relay.domain == *domain);
        if self.relay.is_empty() {
            return wrong("relay".to_owned(), "a world has a relay or more");
        }
        for (n, relay) in self.relay.iter().enumerate() {
            if self.relay.iter().take(n).any(|other| other.domain == relay.domain) {
                return wrong(format!("relay.{n}.domain"), "another relay serves this domain");
            }
            if let Err((key, why)) = relay.log.check() {
                return wrong(format!("relay.{n}.log.{key}"), why);
            }
        }
        for (n, population) in self.population.iter().enumerate() {
            if !known(&population.relay) {
                return wrong(format!("population.{n}.relay"), "no relay serves this domain");
            }
            if population.count == 0 {
                return wrong(format!("population.{n}.count"), "a population has a node or more");
            }
            if let Some(churn) = &population.churn {
                for (key, time) in [("online", churn.online.0), ("away", churn.away.0)] {
                    if time < AGAIN_MIN {
                        return wrong(format!("population.{n}.churn.{key}"), AGAIN_WORDS);
                    }
                }
            }
        }
        let regions = (self.relay.iter().enumerate())
            .map(|(n, relay)| (format!("relay.{n}.region"), &relay.region))
            .chain((self.population.iter().enumerate()).map(|(n, of)| (format!("population.{n}.region"), &of.region)));
        let mut known_regions: Vec<Region> = Vec::new();
        for (path, name) in regions.filter_map(|(path, name)| Some((path, name.as_deref()?))) {
            let Some(region) = Region::named(name) else { return wrong(path, "no table has such a region") };
            if known_regions.iter().any(|other| other.one_way(region).is_none()) {
                return wrong(path, "is in another table than the regions before it");
            }
            known_regions.push(region);
        }
        for (n, population) in self.population.iter().enumerate() {
            if population.profile.as_deref().is_some_and(|name| facts::access(name).is_none()) {
                return wrong(format!("population.{n}.profile"), "no such access profile");
            }
            if let Some(churn) = &population.churn
                && !(0.2..=10.0).contains(&churn.shape)
            {
                return wrong(format!("population.{n}.churn.shape"), "a Weibull shape lies between 0.2 and 10");
            }
            if let Some(nat) = &population.nat
                && (nat.open.0 + nat.hard.0 > 1.0 || nat.nodes == 0)
            {
                return wrong(format!("population.{n}.nat"), "shares of one whole, and a node or more in a network");
            }
        }
        if self.sim.clocks.off.0 > CLOCK_OFF_MAX {
            return wrong("sim.clocks.off".to_owned(), "clocks of whom nothing is the matter are a minute off at most");
        }
        if self.sim.clocks.drift_ppm > CLOCK_DRIFT_MAX {
            return wrong(
                "sim.clocks.drift_ppm".to_owned(),
                "clocks of whom nothing is the matter drift by 500 at most",
            );
        }
        if self.nodes() > NODES_MAX {
            return wrong("population".to_owned(), "more than a million nodes");
        }
        if self.friends.ring > 0 && self.friends.ring >= self.nodes() {
            return wrong("friends.ring".to_owned(), "there are not so many others");
        }
        let [least, most] = self.friends.group_size;
        if least < 3 || most < least || (self.friends.groups > 0 && most > self.nodes()) {
            return wrong("friends.group_size".to_owned(), "a group has three people or more, least first");
        }
        if self.workload.every.0 < AGAIN_MIN {
            return wrong("workload.every".to_owned(), AGAIN_WORDS);
        }
        let [least, most] = self.workload.text;
        if least < 32 || most < least || most as usize > whimbrel_protocol::limits::TEXT_BYTES_MAX {
            return wrong(
                "workload.text".to_owned(),
                "texts have 32 bytes (their serial number) to 65536, least first",
            );
        }
        if let Some(Burst { share, texts: [least, most] }) = self.workload.burst {
            if share.0 <= 0.0 {
                return wrong("workload.burst.share".to_owned(), "nobody says much at once: leave `burst` out");
            }
            if least < 2 || most < least || most > BURST_MAX {
                return wrong("workload.burst.texts".to_owned(), "a burst has two texts to 10000, least first");
            }
        }
        if let Some(wrong) = self.wrong_rates().or_else(|| self.wrong_tokens()).or_else(|| self.wrong_push()) {
            return Err(wrong);
        }
        for (n, fault) in self.fault.iter().enumerate() {
            if fault.at > self.sim.duration.0 {
                return wrong(format!("fault.{n}.at"), "after the end of the run: nothing would come of it");
            }
            let there = |target: &Target| match target {
                Target::Relay(domain) => known(domain),
                Target::Node(number) => *number < self.nodes(),
                Target::Second(number) => self.gets_a_device(*number, fault.at),
            };
            let targets = fault.kind.targets();
            let key = match &fault.kind {
                Kind::Partition { .. } | Kind::Flap { .. } | Kind::SlowPath { .. } => "between",
                _ => "target",
            };
            if targets.iter().skip(1).any(|target| targets.first() == Some(target)) {
                return wrong(format!("fault.{n}.{key}"), "names one process twice");
            }
            if !targets.iter().all(there) {
                return wrong(
                    format!("fault.{n}.{key}"),
                    "names a process that is not there: no such relay or node, or a second device that nobody takes in by then",
                );
            }
            let has_one = |of: u32| self.fault.iter().take(n).any(|other| other.kind == Kind::AddDevice { node: of });
            match fault.kind {
                Kind::AddDevice { node } if has_one(node) => {
                    return wrong(format!("fault.{n}.target"), "takes one second device in at most");
                }
                Kind::AddDevice { .. } if self.friends.devices.0 > 0.0 => {
                    return wrong(format!("fault.{n}.kind"), "`friends.devices` draws who takes a second device in");
                }
                Kind::RemoveDevice { node } if !self.gets_a_device(node, fault.at) => {
                    return wrong(format!("fault.{n}.target"), "has no second device by then");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether somebody takes a second device in, by a fault of this scenario, until then.
    fn gets_a_device(&self, node: u32, until: Duration) -> bool {
        self.fault.iter().any(|fault| fault.kind == Kind::AddDevice { node } && fault.at <= until)
    }

    /// Whether anybody has a second device.
    fn has_devices(&self) -> bool {
        self.friends.devices.0 > 0.0 || self.fault.iter().any(|fault| matches!(fault.kind, Kind::AddDevice { .. }))
    }

    /// Whether packets are lost at all: by the network, or by somebody's access link.
    fn is_lossy(&self) -> bool {
        let profiles = self.population.iter().filter_map(|population| population.profile.as_deref());
        let losses = profiles.filter_map(|name| facts::access(name)?.loss);
        self.network.loss.0 > 0.0 || losses.into_iter().any(|loss| loss > 0.0)
    }

    /// Whether the distance of any two is `network.core`, and not that of their regions.
    fn uses_core(&self) -> bool {
        let regions = self.relay.iter().map(|relay| relay.region.as_deref());
        let regions: Vec<_> = regions.chain(self.population.iter().map(|one| one.region.as_deref())).collect();
        let region = |name: &Option<&str>| name.and_then(Region::named);
        regions.iter().any(|one| {
            let far = |other| region(one).zip(region(other)).and_then(|(one, other)| one.one_way(other));
            regions.iter().any(|other| far(other).is_none())
        })
    }

    /// Keys that nothing would use, because of what other keys say.
    pub(super) fn unused(&self) -> Vec<(String, &'static str)> {
        let mut unused = Vec::new();
        if !self.is_lossy() {
            unused.push(("network.burst".to_owned(), "has no use: no packet is lost"));
            unused.push(("network.burst_loss".to_owned(), "has no use: no packet is lost"));
        } else if self.network.burst.0.is_zero() {
            unused.push(("network.burst_loss".to_owned(), "has no use where `burst` is zero"));
        }
        if self.friends.groups == 0 {
            unused.push(("friends.group_size".to_owned(), "has no use: there are no `groups`"));
            unused.push(("friends.twins".to_owned(), "has no use: there are no `groups`"));
        }
        if !self.uses_core() {
            unused.push(("network.core".to_owned(), "has no use: everybody has a region, and the table says how far"));
        }
        if self.has_devices() {
            for key in ["deletions", "absence"] {
                unused.push((
                    format!("friends.{key}"),
                    "has no use: where people have second devices nobody ends their account or is away for long",
                ));
            }
        }
        for (n, _) in self.relay.iter().enumerate().filter(|(_, relay)| relay.region.is_some()) {
            let other = |(m, other): (usize, &Relay)| m != n && other.region.is_some();
            let somebody = self.population.iter().any(|one| one.region.is_some());
            if !somebody && !self.relay.iter().enumerate().any(other) {
                unused.push((format!("relay.{n}.region"), "has no use: nobody else has one"));
            }
        }
        unused.extend(self.unused_rates().chain(self.unused_tokens()).chain(self.unused_push()));
        let met = self.relay.iter().any(|relay| relay.region.is_some()) || self.population.iter().any(|one| one.direct);
        for (n, population) in self.population.iter().enumerate() {
            if population.region.is_some() && !met {
                unused.push((format!("population.{n}.region"), "has no use: no relay has one, and nobody is `direct`"));
            }
            if population.churn.as_ref().is_some_and(|churn| churn.share.0 == 0.0) {
                unused.push((format!("population.{n}.churn"), "has no use: nobody comes and goes"));
            }
            if population.direct && population.poll.0 >= 1.0 {
                unused.push((format!("population.{n}.direct"), "has no use: all of them poll, and nobody dials them"));
            }
            if population.nat.is_some() && !population.direct {
                unused.push((format!("population.{n}.nat"), "has no use without `direct = true`"));
            }
        }
        unused
    }

    /// Sets what nothing uses as if nobody had said it, so that the scenario written out is one that is read.
    pub(super) fn forget_unused(&mut self) {
        if !self.is_lossy() {
            self.network.burst = Network::default().burst;
        }
        if !self.is_lossy() || self.network.burst.0.is_zero() {
            self.network.burst_loss = Network::default().burst_loss;
        }
        if self.friends.groups == 0 {
            let Friends { group_size, twins, .. } = Friends::default();
            (self.friends.group_size, self.friends.twins) = (group_size, twins);
        }
        if !self.uses_core() {
            self.network.core = Network::default().core;
        }
        if self.has_devices() {
            let Friends { deletions, absence, .. } = Friends::default();
            (self.friends.deletions, self.friends.absence) = (deletions, absence);
        }
        self.forget_unused_rates();
        self.forget_unused_tokens();
        self.forget_unused_push();
        for population in &mut self.population {
            population.churn = population.churn.take().filter(|churn| churn.share.0 > 0.0);
            population.direct = population.direct && population.poll.0 < 1.0;
            population.nat = population.nat.take().filter(|_| population.direct);
        }
    }
}
