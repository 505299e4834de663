//! Scenarios: a world and what happens in it, as a file.
//! Owns: the keys and their defaults; `check` knows what takes more than one key.
//! Never: guesses: a key that is not known, or that nothing would use, is an error with its line.

mod check;
pub mod facts;
mod keeps;
mod push;
pub mod rates;
mod tokens;
mod units;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use whimbrel_protocol::id::Domain;

use crate::faults::{Equipment, Fault, Plan, wrong_key};

pub(crate) use check::{AGAIN_MIN, AGAIN_WORDS};

pub use facts::Region;
pub use keeps::Keeps;
pub use push::Push;
pub use rates::Rates;
pub use tokens::Tokens;
pub use units::{Range, Rate, Share, Span};

/// Nodes of one scenario: what the world numbers with room to spare.
pub const NODES_MAX: u32 = 1_000_000;
/// The greatest seed: the greatest number TOML has.
pub const SEED_MAX: u64 = i64::MAX.unsigned_abs();

/// A whole scenario.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The run itself.
    pub sim: Sim,
    /// The paths between processes.
    #[serde(default)]
    pub network: Network,
    /// The relays.
    pub relay: Vec<Relay>,
    /// The nodes, in groups alike.
    pub population: Vec<Population>,
    /// Who knows whom.
    #[serde(default)]
    pub friends: Friends,
    /// What people do.
    #[serde(default)]
    pub workload: Workload,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// The run itself.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sim {
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// What everything is drawn from; at most [`SEED_MAX`].
    #[serde(default, deserialize_with = "units::seed")]
    pub seed: u64,
    /// How long people write and faults strike.
    pub duration: Span,
    /// How long afterwards, with every fault healed and everybody online, everything may take to arrive.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// How threads are sealed.
    #[serde(default)]
    pub crypto: Crypto,
    /// How wrong the clocks of all processes are while nothing is the matter with them.
    #[serde(default, skip_serializing_if = "Clocks::are_right")]
    pub clocks: Clocks,
}

/// How wrong clocks are by habit: each process's is drawn within these, to both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clocks {
    /// How far ahead or behind they are at the beginning.
    pub off: Span,
    /// By how many parts in a million they run too fast or too slow.
    pub drift_ppm: u32,
}

impl Clocks {
    /// Whether they are all right.
    pub fn are_right(&self) -> bool {
        *self == Self::default()
    }
}

/// How threads are sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Crypto {
    /// By an engine of true sizes and no secrecy: fast.
    #[default]
    Standin,
    /// By MLS, as shipped.
    Real,
}

/// The paths between processes.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// One way between any two access links.
    #[serde(skip_serializing_if = "Network::has_default_core")]
    pub core: Span,
    /// Mean of what each packet takes longer than the least; exponential.
    pub jitter: Span,
    /// Packets lost in the long run. A lost packet costs a round trip or more and holds back what follows it.
    pub loss: Share,
    /// Mean length of the stretches in which packets are lost; zero: each is lost for itself.
    #[serde(skip_serializing_if = "Network::has_default_burst")]
    pub burst: Span,
    /// Packets lost in such a stretch; none is lost outside. Without effect below `loss`.
    #[serde(skip_serializing_if = "Network::has_default_burst_loss")]
    pub burst_loss: Share,
    /// Packets that arrive twice: they cost bytes.
    pub duplicate: Share,
    /// Frames with a packet that is overtaken by later ones: they cost time.
    pub reorder: Share,
    /// What the queue before an access link holds, as time on that link; what finds no room is lost and sent again.
    pub buffer: Span,
    /// How long after its peer fell silent a process gives a link up.
    pub detect: Range,
    /// How long a process tries to reach one that does not answer.
    pub connect: Span,
}

impl Default for Network {
    fn default() -> Self {
        let millis = std::time::Duration::from_millis;
        Self {
            // London-Frankfurt has 13 ms a round trip, Frankfurt-N.Virginia 91: between the two.
            core: Span(millis(15)),
            jitter: Span(millis(2)),
            // WiFi 0.1-0.2 %, 4G 0.2-0.5 %.
            loss: Share(0.002),
            // Losses cluster (radio state changes, full queues): a fifth of what is sent in a tenth of a second.
            burst: Span(millis(100)),
            burst_loss: Share(0.2),
            duplicate: Share(0.0),
            reorder: Share(0.001),
            // Home routers keep about as much.
            buffer: Span(millis(250)),
            // Three lost probes to the idle time of a link.
            detect: Range { least: millis(3_000), most: millis(10_000) },
            connect: Span(millis(5_000)),
        }
    }
}

// What has no use beside other keys is not written when it is as by default: it would be refused when it is read.
impl Network {
    fn has_default_core(core: &Span) -> bool {
        *core == Self::default().core
    }

    fn has_default_burst(burst: &Span) -> bool {
        *burst == Self::default().burst
    }

    fn has_default_burst_loss(burst_loss: &Share) -> bool {
        *burst_loss == Self::default().burst_loss
    }
}

/// A disk below a process.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// From handing in a group of batches to their being visible.
    pub apply: Range,
    /// From there to their being durable.
    pub sync: Range,
    /// Reads of a relay that need not wait for it.
    pub cached: Share,
}

impl Default for Disk {
    fn default() -> Self {
        let micros = std::time::Duration::from_micros;
        // A solid-state disk: a write of a few kilobytes; a flush of its cache.
        Self {
            apply: Range { least: micros(20), most: micros(100) },
            sync: Range { least: micros(300), most: micros(3_000) },
            cached: Share(0.9),
        }
    }
}

/// A disk below a node, as a scenario has it.
mod node_disk {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Disk, Range};

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct NodeDisk {
        apply: Range,
        sync: Range,
    }

    impl Default for NodeDisk {
        fn default() -> Self {
            let Disk { apply, sync, .. } = Disk::default();
            Self { apply, sync }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Disk, D::Error> {
        let NodeDisk { apply, sync } = NodeDisk::deserialize(deserializer)?;
        Ok(Disk { apply, sync, ..Disk::default() })
    }

    pub(super) fn serialize<S: Serializer>(disk: &Disk, serializer: S) -> Result<S::Ok, S::Error> {
        NodeDisk { apply: disk.apply, sync: disk.sync }.serialize(serializer)
    }
}

/// One relay.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// The domain it serves.
    pub domain: Domain,
    /// Whether the operators of the others have listed it. If not, they know it by the invites of its users alone.
    #[serde(default = "yes")]
    pub listed: bool,
    /// Where it is: a name of one of the tables of regions. Between two regions the table's time counts, not `core`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// One way over its access link.
    #[serde(default = "default_relay_access")]
    pub access: Range,
    /// What it can send.
    #[serde(default = "default_relay_uplink")]
    pub uplink: Rate,
    /// What it can receive.
    #[serde(default = "default_relay_uplink")]
    pub downlink: Rate,
    /// Its disk.
    #[serde(default)]
    pub disk: Disk,
    /// How much everybody may ask of it; what is not named is as usual.
    #[serde(default, skip_serializing_if = "Rates::are_usual")]
    pub rates: Rates,
    /// Its operator lets in only whom they gave a token; without it anybody may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The push addresses that devices are sent to; without it they are served where they come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// What it keeps in a log, and for how long.
    #[serde(default, skip_serializing_if = "Keeps::are_usual")]
    pub log: Keeps,
}

/// Nodes alike.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Domain of their home relay.
    pub relay: Domain,
    /// How many.
    pub count: u32,
    /// Where they are: a name of one of the tables of regions. Between two regions the table's time counts, not `core`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Their access link, by its name in the table of access profiles; the keys below come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// One way over the access link, drawn for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Range>,
    /// What each can send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Rate>,
    /// What each can receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downlink: Option<Rate>,
    /// The disk of each; nodes wait for every read, so nothing is `cached`.
    #[serde(default, with = "node_disk")]
    pub disk: Disk,
    /// Whether each can be dialled by other nodes.
    #[serde(default)]
    pub direct: bool,
    /// How many are on networks that let no UDP through: they reach their relay over HTTPS, and other nodes not at all.
    #[serde(default, skip_serializing_if = "Population::has_no_poll")]
    pub poll: Share,
    /// Their address translation; without it anybody who may dial them reaches them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatShares>,
    /// How they come and go; without it they stay.
    pub churn: Option<Churn>,
}

/// How networks of a population translate addresses. Drawn for each network, not for each pair: where one fails, its
/// neighbours fail.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatShares {
    /// Networks that anybody reaches.
    pub open: Share,
    /// Networks that nobody punches a hole into.
    pub hard: Share,
    /// Nodes that share a network.
    pub nodes: u32,
}

impl Default for NatShares {
    fn default() -> Self {
        Self { open: Share(0.0), hard: Share(facts::hard_nat_share()), nodes: 1 }
    }
}

/// How nodes come and go.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How many of the population do.
    pub share: Share,
    /// Mean time online.
    pub online: Span,
    /// Mean time away.
    pub away: Span,
    /// Weibull shape of both times: below one, many are short and some are very long. One is exponential.
    #[serde(default = "facts::session_shape")]
    pub shape: f64,
    /// How often leaving is a kill that loses what is not synced; otherwise only the network is gone.
    #[serde(default)]
    pub kill: Share,
}

/// Who knows whom.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Friends {
    /// Everybody knows so many that follow in the order of population; the last is followed by the first.
    pub ring: u32,
    /// So many pairs more, drawn among all.
    pub random: u32,
    /// So many groups, each opened by somebody for people they know.
    pub groups: u32,
    /// Least and most people in a group, whoever opens it included.
    #[serde(skip_serializing_if = "Friends::has_default_group_size")]
    pub group_size: [u32; 2],
    /// Groups that two of their members open at the same moment.
    #[serde(skip_serializing_if = "Friends::has_default_twins")]
    pub twins: Share,
    /// So many groups whose members change while the run goes on, each made by somebody of people they know.
    #[serde(skip_serializing_if = "Friends::has_no_circles")]
    pub circles: u32,
    /// Pairs that meet by a request and its acceptance; the others meet by an invite.
    #[serde(skip_serializing_if = "Friends::has_default_requests")]
    pub requests: Share,
    /// Pairs of whom one ends it in the course of the run: removes the other, blocks them, or does not let them see any
    /// more. Who shares a group stays.
    #[serde(skip_serializing_if = "Friends::has_default_partings")]
    pub partings: Share,
    /// People who hide from everybody at some time; half of them are seen again later.
    #[serde(skip_serializing_if = "Friends::has_default_hidden")]
    pub hidden: Share,
    /// People who take a second device in, in the course of the run, and use both; a third of them take it off again. In such
    /// a world nobody ends their account, and nobody is away for a month.
    #[serde(skip_serializing_if = "Friends::has_default_devices")]
    pub devices: Share,
    /// People who ask for everything their relay keeps of them when all else is done.
    #[serde(skip_serializing_if = "Friends::has_default_exports")]
    pub exports: Share,
    /// People whose device is woken by a push service while it is away. When all else is done, some of them are called.
    #[serde(skip_serializing_if = "Friends::has_default_wakes")]
    pub wakes: Share,
    /// People who put up a card now and then, from any of their devices, at which friends look.
    #[serde(skip_serializing_if = "Friends::has_default_cards")]
    pub cards: Share,
    /// People who end their account when all else is done.
    #[serde(skip_serializing_if = "Friends::has_default_deletions")]
    pub deletions: Share,
    /// When all else is done, one of two friends of one relay is away for so long, and a message waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absence: Option<Span>,
}

impl Default for Friends {
    fn default() -> Self {
        Self {
            ring: 1,
            random: 0,
            groups: 0,
            group_size: [3, 8],
            twins: Share(0.0),
            circles: 0,
            requests: Share(0.0),
            partings: Share(0.0),
            hidden: Share(0.0),
            devices: Share(0.0),
            exports: Share(0.0),
            wakes: Share(0.0),
            cards: Share(0.0),
            deletions: Share(0.0),
            absence: None,
        }
    }
}

// As for the network.
impl Friends {
    fn has_default_group_size(group_size: &[u32; 2]) -> bool {
        *group_size == Self::default().group_size
    }

    // By reference, for serde.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in so")]
    const fn has_no_circles(circles: &u32) -> bool {
        *circles == 0
    }

    fn has_default_requests(requests: &Share) -> bool {
        *requests == Self::default().requests
    }

    fn has_default_partings(partings: &Share) -> bool {
        *partings == Self::default().partings
    }

    fn has_default_devices(devices: &Share) -> bool {
        *devices == Self::default().devices
    }

    fn has_default_hidden(hidden: &Share) -> bool {
        *hidden == Self::default().hidden
    }

    fn has_default_exports(exports: &Share) -> bool {
        *exports == Self::default().exports
    }

    fn has_default_wakes(wakes: &Share) -> bool {
        *wakes == Self::default().wakes
    }

    fn has_default_cards(cards: &Share) -> bool {
        *cards == Self::default().cards
    }

    fn has_default_deletions(deletions: &Share) -> bool {
        *deletions == Self::default().deletions
    }

    fn has_default_twins(twins: &Share) -> bool {
        *twins == Self::default().twins
    }
}

/// What people do.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Nodes come up within this time from the beginning.
    pub arrive: Span,
    /// Mean time between two messages of one person; exponential.
    pub every: Span,
    /// Least and most bytes of a text; evenly.
    pub text: [u32; 2],
    /// People who say much at once now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

/// Texts said at once, like lines pasted into a conversation: who is away comes back to more than an acknowledgement
/// waits for, and who is there is pushed it in one go.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// How often, of all times that somebody writes.
    pub share: Share,
    /// Least and most texts; evenly.
    pub texts: [u32; 2],
}

impl Default for Workload {
    fn default() -> Self {
        let secs = std::time::Duration::from_secs;
        Self { arrive: Span(secs(5)), every: Span(secs(10)), text: [32, 400], burst: None }
    }
}

impl Relay {
    /// A relay with every default.
    pub fn with_defaults(domain: Domain) -> Self {
        let (uplink, downlink) = (default_relay_uplink(), default_relay_uplink());
        Self {
            domain,
            listed: true,
            region: None,
            access: default_relay_access(),
            uplink,
            downlink,
            disk: Disk::default(),
            rates: Rates::default(),
            tokens: None,
            push: None,
            log: Keeps::default(),
        }
    }
}

impl Population {
    /// One node with every default.
    pub fn with_defaults(relay: Domain) -> Self {
        Self {
            relay,
            count: 1,
            region: None,
            profile: None,
            access: None,
            uplink: None,
            downlink: None,
            disk: Disk::default(),
            direct: false,
            poll: Share(0.0),
            nat: None,
            churn: None,
        }
    }

    fn has_no_poll(poll: &Share) -> bool {
        poll.0 == 0.0
    }

    /// What is said of the access link: by its own keys, else by its profile, else by default.
    pub fn access(&self) -> (Range, facts::Access) {
        let profile = self.profile.as_deref().and_then(facts::access).unwrap_or_default();
        let latency = profile.latency.map(|latency| Range { least: latency, most: latency });
        let access = facts::Access {
            latency: None,
            up: Some(self.uplink.or(profile.up).unwrap_or(default_uplink())),
            down: Some(self.downlink.or(profile.down).unwrap_or(default_downlink())),
            loss: profile.loss,
        };
        (self.access.or(latency).unwrap_or_else(default_access), access)
    }
}

fn default_settle() -> Span {
    Span(std::time::Duration::from_secs(600))
}

fn default_access() -> Range {
    // WiFi has 10-25 ms a round trip, 4G 25-50: half of it one way.
    Range { least: std::time::Duration::from_millis(5), most: std::time::Duration::from_millis(25) }
}

const fn default_uplink() -> Rate {
    // World median of fixed lines, October 2023.
    Rate { bits: 38_000_000 }
}

const fn default_downlink() -> Rate {
    // The same.
    Rate { bits: 83_000_000 }
}

const fn yes() -> bool {
    true
}

fn default_relay_access() -> Range {
    let half_a_millisecond = std::time::Duration::from_micros(500);
    Range { least: half_a_millisecond, most: half_a_millisecond }
}

fn default_relay_uplink() -> Rate {
    Rate { bits: 1_000_000_000 }
}

/// Why a scenario is not run. Everything a person needs to mend it is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Something in the file.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The file, as named by the caller.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// Something in a `--set`.
    #[error("--set {key}: {what}")]
    Set {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Scenario {
    /// Reads a scenario and applies `--set` overrides, each `key=value` with a dotted key (`population.0.count=5`).
    ///
    /// # Errors
    /// The first thing that is wrong, with its line or its override.
    pub fn read(file: &str, text: &str, sets: &[String]) -> Result<Self, ScenarioError> {
        let at_line = |line, what: String| ScenarioError::Line { file: file.to_owned(), line, what };
        let from_toml = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            // What a fault refuses, it refuses as a whole; the key at fault has a line of its own.
            let fault = wrong_key(text).filter(|(_, what)| what == error.message());
            at_line(fault.map_or(line, |(path, _)| line_of_key(text, &path)), error.message().to_owned())
        };
        let mut scenario: Self = toml::from_str(text).map_err(from_toml)?;
        scenario.check().map_err(|(path, what)| at_line(line_of_key(text, &path), format!("{path}: {what}")))?;
        let mut document: toml::Table = toml::from_str(text).map_err(from_toml)?;
        if let Some((path, why)) = scenario.unused().into_iter().find(|(path, _)| names(&document, path)) {
            return Err(at_line(line_of_key(text, &path), format!("{path}: {why}")));
        }
        let wrong = |key: &str, what: String| ScenarioError::Set { key: key.to_owned(), what };
        let keys: Vec<_> =
            sets.iter().map(|set| set.split_once('=').map_or((set.as_str(), ""), |(k, v)| (k, v))).collect();
        for (key, value) in keys.iter().map(|(key, value)| (key.trim(), value.trim())) {
            if value.is_empty() {
                return Err(wrong(key, "expected KEY=VALUE".to_owned()));
            }
            put(&mut document, key, bare_or_quoted(value)).map_err(|what| wrong(key, what))?;
            let read = document.clone().try_into();
            scenario = read.map_err(|error: toml::de::Error| wrong(key, error.message().to_owned()))?;
        }
        // What takes several keys is judged once all of them are there, whatever their order.
        scenario.check().map_err(|(path, what)| {
            let near =
                keys.iter().map(|(key, _)| key.trim()).rfind(|key| path.starts_with(key) || key.starts_with(&path));
            let key = near.or(keys.last().map(|(key, _)| key.trim())).unwrap_or_default();
            wrong(key, format!("{path}: {what}"))
        })?;
        // An override that takes the use of what the file says from it is no slip; one that has no use itself is.
        for (path, why) in scenario.unused().into_iter().filter(|(path, _)| names(&document, path)) {
            let sets =
                |key: &&str| path.strip_prefix(*key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if let Some(key) = keys.iter().map(|(key, _)| key.trim()).rfind(sets) {
                return Err(wrong(key, format!("{path}: {why}")));
            }
        }
        scenario.forget_unused();
        Ok(scenario)
    }

    /// What goes wrong, as the file says.
    pub fn plan(&self) -> Plan {
        Plan { faults: self.fault.clone() }
    }

    /// Second devices of such a share of its people, as they are drawn.
    pub fn equipment(&self, share: f64) -> Equipment {
        Equipment { share, ring: self.friends.ring, arrive: self.workload.arrive.0 }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> u32 {
        self.population.iter().fold(0, |sum, population| sum.saturating_add(population.count))
    }
}

/// A TOML value, or a word that is meant as a string: `--set sim.duration=5min` needs no inner quotes.
fn bare_or_quoted(value: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok();
    parsed.and_then(|mut table| table.remove("v")).unwrap_or_else(|| toml::Value::String(value.to_owned()))
}

/// Whether there is something at a dotted key.
fn names(document: &toml::Table, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let mut at = document.get(first);
    for part in rest.iter().flat_map(|rest| rest.split('.')) {
        at = match at {
            Some(toml::Value::Table(table)) => table.get(part),
            Some(toml::Value::Array(list)) => part.parse().ok().and_then(|index: usize| list.get(index)),
            _ => None,
        };
    }
    at.is_some()
}

/// Puts a value at a dotted key. Tables on the way are made, entries of a list are not.
fn put(document: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    let mut at = Place::Table(document);
    for part in path.iter().flat_map(|path| path.split('.')) {
        at = match at {
            Place::Table(table) => {
                let next = table.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                Place::of(next).ok_or_else(|| format!("{part} has no keys below it"))?
            }
            Place::List(list) => {
                let count = list.len();
                let next = part.parse().ok().and_then(|index: usize| list.get_mut(index));
                let next = next.ok_or_else(|| format!("{part}: expected a number below {count}"))?;
                Place::of(next).ok_or_else(|| format!("{part} has no keys below it"))?
            }
        };
    }
    match at {
        Place::Table(table) => {
            table.insert(last.to_owned(), value);
        }
        Place::List(list) => {
            let count = list.len();
            let place = last.parse().ok().and_then(|index: usize| list.get_mut(index));
            *place.ok_or_else(|| format!("{last}: expected a number below {count}"))? = value;
        }
    }
    Ok(())
}

enum Place<'d> {
    Table(&'d mut toml::Table),
    List(&'d mut Vec<toml::Value>),
}

impl<'d> Place<'d> {
    fn of(value: &'d mut toml::Value) -> Option<Self> {
        match value {
            toml::Value::Table(table) => Some(Self::Table(table)),
            toml::Value::Array(list) => Some(Self::List(list)),
            _ => None,
        }
    }
}

/// The line of a byte of the text, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

/// The line of a dotted key, or of the nearest thing around it that the file names.
fn line_of_key(text: &str, path: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 1 };
    let (mut table, mut list) = (Some(document.get_ref()), None);
    let mut line = 1;
    for part in path.split('.') {
        let value = match (table, list) {
            (Some(keys), _) => keys.iter().find(|(key, _)| key.get_ref() == part).map(|(key, value)| {
                line = line_of(text, key.span().start);
                value
            }),
            (_, Some(items)) => part.parse().ok().and_then(|index: usize| {
                let items: &toml::de::DeArray<'_> = items;
                items.get(index).inspect(|value| line = line_of(text, value.span().start))
            }),
            _ => None,
        };
        (table, list) = match value.map(|value| value.get_ref()) {
            Some(DeValue::Table(keys)) => (Some(keys), None),
            Some(DeValue::Array(items)) => (None, Some(items)),
            _ => return line,
        };
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
