//! Config: the file an operator writes.
//! Owns: its keys, their defaults and reasons, the finding of every mistake in it with its place.
//! Never: writes the file after `init`, accepts a key it does not know, touches the network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use whimbrel_crypto::RelayIdentity;
use whimbrel_protocol::id::{Domain, RelayId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_relay::store::command::LogBounds;
use whimbrel_relay::{Every, PeerAddress, Rate, Rates, Registration};
use whimbrel_storage_runtime::{EngineKind, Reserve, SLED_MAX_BYTES, SizeBounds, UnknownEngine};

use crate::address;
use crate::failure::{Exit, Failure, Mistake};

/// Name of the file `init` writes.
pub(crate) const FILE_NAME: &str = "relay.toml";
/// How many mistakes are looked for.
const MISTAKES_MAX: usize = 32;
/// An engine runs with less, but then reads every page from the disk again and again.
const CACHE_BYTES_MIN: u64 = 8 * MIB;
/// Holds the pages in use up to about 100,000 retained messages.
const CACHE_BYTES_DEFAULT: u64 = 64 * MIB;
/// A store on fjall has a journal of 64 MiB from its beginning.
const STORE_BYTES_MIN: u64 = 128 * MIB;
/// A relay that leaves more than half of its disk free has the wrong disk.
const RESERVE_PERCENT_MAX: u8 = 50;
/// Room for a few of the largest envelopes.
const LOG_BYTES_MIN: u64 = MIB;
/// Every address of both families.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 4433);
const LINK_FORM: &str = "expected whimbrel-relay:DOMAIN?at=HOST:PORT#RELAY, as `whimbrel-relay link` prints it";
const MIB: u64 = 1024 * 1024;

/// A value of any type with its place: the reader of the shape loses the place of a value of the wrong type.
type Leaf = Spanned<toml::Value>;

/// The file as it is written; its texts are read by [`Reader`].
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    relay: RelaySection,
    listen: ListenSection,
    cluster: ClusterSection,
    peers: BTreeMap<Spanned<String>, Leaf>,
    store: StoreSection,
    wake: WakeSection,
    limits: LimitsSection,
    log: LogSection,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RelaySection {
    domain: Option<Leaf>,
    data_dir: Option<PathBuf>,
    registration: RegistrationWord,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RegistrationWord {
    #[default]
    Open,
    Invite,
    Closed,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ListenSection {
    public: Option<Vec<Leaf>>,
    advertise: Option<Leaf>,
    https: Vec<Leaf>,
    metrics: Option<Leaf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ClusterSection {
    push: Vec<Leaf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StoreSection {
    url: Option<Leaf>,
    cache: Option<Leaf>,
    warn: Option<Leaf>,
    max: Option<Leaf>,
    reserve: Option<Leaf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WakeSection {
    contact: Option<Leaf>,
    allow_private: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    connections: Option<Leaf>,
    log_entries: Option<Leaf>,
    log_bytes: Option<Leaf>,
    hold: Option<Leaf>,
    messages: Option<Leaf>,
    requests: Option<Leaf>,
    arrivals: Option<Leaf>,
    peer_items: Option<Leaf>,
    peer_requests: Option<Leaf>,
    peer_friend_requests: Option<Leaf>,
    claims: Option<Leaf>,
    signs: Option<Leaf>,
    touches: Option<Leaf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LogSection {
    format: LogFormat,
    level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What must be looked after now.
    Error,
    /// And what should be looked after.
    Warn,
    /// And what happens seldom.
    #[default]
    Info,
    /// And what happens per link; names addresses.
    Debug,
    /// And what happens per frame.
    Trace,
}

impl LogLevel {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Whether a relay link can carry it.
pub(crate) fn is_endpoint(text: &str) -> bool {
    let relay = RelayId::from_bytes([0; 32]);
    RelayLink::from_str(&format!("whimbrel-relay:a?at={text}#{relay}")).is_ok_and(|link| link.endpoint == text)
}

/// A configuration without mistakes. Paths are relative to the working directory or absolute.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it was read from.
    pub file: PathBuf,
    /// The domain served.
    pub domain: Domain,
    /// Where identity and store lie.
    pub data_dir: PathBuf,
    /// Who may come in as a new account.
    pub registration: Registration,
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// What others dial, if that is not to be guessed.
    pub advertise: Option<String>,
    /// What devices dial to come in at each address of `listen`, in its order; empty: they are served at any of them.
    pub push: Vec<String>,
    /// Where links are polled over HTTPS, if anywhere.
    pub https: Vec<SocketAddr>,
    /// Where figures and health are looked at, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Peer relays that are pinned here.
    pub peers: Vec<RelayLink>,
    /// Whether the store is in memory alone, to measure and to try things: all of it is gone with the process.
    pub in_memory: bool,
    /// Which engine the store is on.
    pub engine: EngineKind,
    /// The store's page cache.
    pub cache_bytes: u64,
    /// How large the store may grow.
    pub size: SizeBounds,
    /// What the store leaves free on its disk.
    pub reserve: Reserve,
    /// Whom push services may write to about this relay; absent: its domain.
    pub wake_contact: Option<String>,
    /// Whether wake-ups may go to addresses that are not public.
    pub wake_private: bool,
    /// Links at once.
    pub connections_max: usize,
    /// How much one log may hold.
    pub log_bounds: LogBounds,
    /// How long what nobody fetches is held.
    pub hold_age: Duration,
    /// How much of what one may ask for.
    pub rates: Rates,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: LogLevel,
    domain_at: Range<usize>,
    source: String,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or has mistakes: all that can be told apart are named.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let source = std::fs::read_to_string(file).map_err(|error| {
            let message = format!("{}: {error}", file.display());
            match error.kind() {
                std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, "config_not_found", message)
                    .hint("`whimbrel-relay init DOMAIN --dir DIR` makes one"),
                std::io::ErrorKind::PermissionDenied => Failure::new(Exit::Locked, "config_unreadable", message),
                _ => Failure::new(Exit::Internal, "config_unreadable", message),
            }
        })?;
        Self::parse(file, &source)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// The mistakes in it.
    pub fn parse(file: &Path, source: &str) -> Result<Self, Failure> {
        let (parsed, found) = shape(source);
        let mut reader = Reader { found };
        match parsed.and_then(|parsed| reader.settings(file, source, parsed)) {
            Some(settings) if reader.found.is_empty() => Ok(settings),
            _ => Err(failure(file, source, reader.found)),
        }
    }

    /// Where the store lies.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// Where the identity lies.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// Checks what needs the identity: the certificate names the domain, and no peer is this relay itself.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_identity(&self, identity: &RelayIdentity) -> Result<(), Failure> {
        if identity.domain() != &self.domain {
            let message = format!("the certificate is for {}; a domain cannot change later", identity.domain());
            let mistake = Mistake::at(&self.file, &self.source, self.domain_at.clone(), message);
            let mut failure = Failure::new(Exit::Trust, "domain", "domain and certificate do not fit together");
            failure.mistakes.push(mistake);
            return Err(failure);
        }
        match self.peers.iter().find(|peer| peer.relay == identity.id()) {
            Some(peer) => Err(Failure::new(
                Exit::Usage,
                "config",
                format!("the peer {} has this relay's own identity", peer.domain),
            )),
            None => Ok(()),
        }
    }

    /// What the core is told.
    pub(crate) fn core(&self, identity: &RelayIdentity) -> whimbrel_relay::Config {
        let peer = |link: &RelayLink| PeerAddress {
            domain: link.domain.clone(),
            endpoint: link.endpoint.clone(),
            relay: link.relay,
        };
        let mut config = whimbrel_relay::Config::new(self.domain.clone(), identity.id());
        config.registration = self.registration;
        config.peers = self.peers.iter().map(peer).collect();
        config.log_bounds = self.log_bounds;
        config.hold_age = self.hold_age;
        config.rates = self.rates;
        config.push.clone_from(&self.push);
        config
    }

    /// The link people need: what is advertised, or the first address that can be dialled as it stands, or the
    /// domain with the first port. Absent while the port is not known.
    pub fn link(&self, identity: &RelayIdentity, listen: &[SocketAddr]) -> Option<RelayLink> {
        let guess = || {
            let known = || listen.iter().filter(|address| address.port() != 0);
            let concrete = known().find(|address| !address.ip().is_unspecified());
            let by_name = || known().next().map(|address| format!("{}:{}", self.domain, address.port()));
            concrete.map(ToString::to_string).or_else(by_name)
        };
        let endpoint = self.advertise.clone().or_else(guess)?;
        Some(RelayLink { domain: self.domain.clone(), endpoint, relay: identity.id() })
    }
}

type Found = (Range<usize>, String);

/// Reads the text into its shape. The reader stops at the first mistake, so what it names is blanked and the rest is
/// read again: an operator gets all mistakes at once.
fn shape(source: &str) -> (Option<File>, Vec<Found>) {
    if let Err(error) = source.parse::<toml::Table>() {
        // What follows a syntax error means nothing.
        return (None, vec![(error.span().unwrap_or(0..0), error.message().to_owned())]);
    }
    let (mut text, mut found) = (source.to_owned(), Vec::new());
    while found.len() < MISTAKES_MAX {
        let error = match toml::from_str::<File>(&text) {
            Ok(parsed) => return (Some(parsed), found),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        found.push((span.clone(), error.message().to_owned()));
        match without(&text, &span) {
            Some(blanked) if blanked != text => text = blanked,
            _ => break,
        }
    }
    (None, found)
}

/// The text with the lines of a span blanked and everything else in its place; a section goes with its header.
fn without(text: &str, span: &Range<usize>) -> Option<String> {
    let line_end = |from: usize| text.get(from..)?.find('\n').map_or(Some(text.len()), |at| Some(from + at));
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let mut end = line_end(span.end.max(span.start))?;
    if text.get(start..end)?.trim_start().starts_with('[') {
        end = text.get(end..)?.find("\n[").map_or(text.len(), |at| end + at);
    }
    let blank: String = text.get(start..end)?.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    Some([text.get(..start)?, &blank, text.get(end..)?].concat())
}

/// Turns the shape into settings and notes what makes no sense.
struct Reader {
    found: Vec<Found>,
}

impl Reader {
    fn note(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.found.push((span, message.into()));
    }

    /// None only with a note.
    fn settings(&mut self, file: &Path, source: &str, parsed: File) -> Option<Settings> {
        let domain = match &parsed.relay.domain {
            None => {
                self.note(0..0, "[relay] has no `domain`");
                None
            }
            Some(domain) => self.text(domain, |text| text.parse::<Domain>().map_err(|error| error.to_string())),
        };
        let listen = match &parsed.listen.public {
            None => vec![LISTEN_DEFAULT],
            Some(addresses) => self.listen(addresses),
        };
        let advertise = parsed.listen.advertise.and_then(|advertise| {
            let form = "expected a host and port such as \"relay.example:4433\"";
            self.text(&advertise, |text| if is_endpoint(text) { Ok(text.to_owned()) } else { Err(form.to_owned()) })
        });
        let listened = parsed.listen.public.as_deref().map_or(vec![None], |public| {
            public.iter().map(|leaf| leaf.get_ref().as_str().and_then(|text| text.parse().ok())).collect()
        });
        let push = self.push(&parsed.cluster.push, &listened);
        let https = self.addresses(&parsed.listen.https);
        let metrics = parsed.listen.metrics.and_then(|metrics| {
            let form = "expected an address that is not public, such as \"127.0.0.1:9464\"";
            let fits = |address: &SocketAddr| !address.ip().is_unspecified() && !address::is_public(address.ip());
            self.text(&metrics, |text| text.parse().ok().filter(fits).ok_or_else(|| form.to_owned()))
        });
        let peers = self.peers(&parsed.peers, domain.as_ref());
        let store = parsed.store.url.and_then(|url| {
            self.text(&url, |text| match text {
                // Not offered to whoever mistypes: nobody is to lose a relay's data by a guess.
                "memory:" => Ok((EngineKind::default(), true)),
                text => text.parse().map(|engine| (engine, false)).map_err(|error: UnknownEngine| error.to_string()),
            })
        });
        let (engine, in_memory) = store.unwrap_or_default();
        let cache_bytes = self.size(parsed.store.cache, CACHE_BYTES_DEFAULT, CACHE_BYTES_MIN);
        let size = SizeBounds {
            warn_bytes: parsed.store.warn.map(|leaf| self.size(Some(leaf), u64::MAX, STORE_BYTES_MIN)),
            max_bytes: match (parsed.store.max, engine) {
                (Some(leaf), _) => Some(self.size(Some(leaf), u64::MAX, STORE_BYTES_MIN)),
                (None, EngineKind::Sled) => Some(SLED_MAX_BYTES),
                (None, EngineKind::Fjall) => None,
            },
        };
        let reserve = Reserve {
            percent: parsed.store.reserve.map_or(Reserve::default().percent, |leaf| self.percent(&leaf)),
            ..Reserve::default()
        };
        let wake_contact = parsed.wake.contact.and_then(|contact| {
            let form = "expected an address such as \"mailto:operator@relay.example\" or an https: one";
            self.text(&contact, |text| {
                let fits = text.starts_with("mailto:") || text.starts_with("https://");
                if fits { Ok(text.to_owned()) } else { Err(form.to_owned()) }
            })
        });
        let log_bounds = LogBounds {
            entries_max: self.count(parsed.limits.log_entries, limits::LOG_ENTRIES_MAX),
            bytes_max: self.size(parsed.limits.log_bytes, limits::LOG_BYTES_MAX, LOG_BYTES_MIN),
        };
        let hold_age = parsed.limits.hold.map_or(limits::HOLD_AGE_MAX, |leaf| self.hold(&leaf));
        let connections_max = self.count(parsed.limits.connections, limits::CONNECTIONS_MAX as u64);
        let usual = Rates::default();
        let rates = Rates {
            messages: self.rate(parsed.limits.messages, usual.messages),
            requests: self.rate(parsed.limits.requests, usual.requests),
            arrivals: self.rate(parsed.limits.arrivals, usual.arrivals),
            peer_items: self.rate(parsed.limits.peer_items, usual.peer_items),
            peer_requests: self.rate(parsed.limits.peer_requests, usual.peer_requests),
            peer_friend_requests: self.rate(parsed.limits.peer_friend_requests, usual.peer_friend_requests),
            claims: self.rate(parsed.limits.claims, usual.claims),
            signs: self.rate(parsed.limits.signs, usual.signs),
            touches: self.rate(parsed.limits.touches, usual.touches),
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        Some(Settings {
            file: file.to_owned(),
            domain_at: parsed.relay.domain.as_ref().map_or(0..0, Spanned::span),
            domain: domain?,
            data_dir: folder.join(parsed.relay.data_dir.unwrap_or_else(|| "data".into())),
            registration: match parsed.relay.registration {
                RegistrationWord::Open => Registration::Open,
                RegistrationWord::Invite => Registration::Invite,
                RegistrationWord::Closed => Registration::Closed,
            },
            listen,
            advertise,
            push,
            https,
            metrics,
            peers,
            in_memory,
            engine,
            cache_bytes,
            size,
            reserve,
            wake_contact,
            wake_private: parsed.wake.allow_private,
            connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
            log_bounds,
            hold_age,
            rates,
            log_format: parsed.log.format,
            log_level: parsed.log.level,
            source: source.to_owned(),
        })
    }

    /// A text read by `parse`, whose error says what was expected.
    fn text<T>(&mut self, leaf: &Leaf, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = leaf.get_ref().as_str().ok_or_else(|| "expected a text in quotes".to_owned());
        text.and_then(parse).map_err(|message| self.note(leaf.span(), message)).ok()
    }

    fn listen(&mut self, addresses: &[Leaf]) -> Vec<SocketAddr> {
        if addresses.is_empty() {
            self.note(0..0, "[listen] public is empty: a relay listens somewhere");
        }
        self.addresses(addresses)
    }

    fn addresses(&mut self, addresses: &[Leaf]) -> Vec<SocketAddr> {
        let form = "expected an address and port such as \"0.0.0.0:4433\" or \"[::]:4433\"";
        let mut listen = Vec::new();
        for leaf in addresses {
            match self.text(leaf, |text| text.parse::<SocketAddr>().map_err(|_| form.to_owned())) {
                Some(address) if address.port() != 0 && listen.contains(&address) => {
                    self.note(leaf.span(), "listed twice");
                }
                Some(address) => listen.push(address),
                None => {}
            }
        }
        listen
    }

    /// Push addresses: none, or one for each address listened on, in their order as far as that can be seen: behind a name
    /// or a translated address can be any of them.
    fn push(&mut self, addresses: &[Leaf], listened: &[Option<SocketAddr>]) -> Vec<String> {
        let form = "expected a host and port such as \"push1.relay.example:4433\"";
        let fits = |text: &str| is_endpoint(text) && text.len() <= limits::PUSH_ADDRESS_BYTES_MAX;
        let mut push = Vec::new();
        for leaf in addresses {
            match self.text(leaf, |text| if fits(text) { Ok(text.to_owned()) } else { Err(form.to_owned()) }) {
                // Whoever belongs there could come in at two places.
                Some(address) if push.contains(&address) => self.note(leaf.span(), "listed twice"),
                Some(address) => {
                    let at = address.parse::<SocketAddr>().ok();
                    let other = at.and_then(|at| listened.iter().position(|listened| *listened == Some(at)));
                    if let Some(other) = other.filter(|other| *other != push.len()) {
                        let place = other + 1;
                        self.note(
                            leaf.span(),
                            format!("this is number {place} of [listen] public: one for each, in its order"),
                        );
                    }
                    push.push(address);
                }
                None => {}
            }
        }
        let listened = listened.len();
        let (count, place) = (addresses.len(), addresses.first().map_or(0..0, Spanned::span));
        if count > limits::PUSH_ADDRESSES_MAX {
            self.note(place, format!("{count} push addresses, {} are allowed", limits::PUSH_ADDRESSES_MAX));
        } else if count > 0 && count != listened {
            let message =
                format!("{count} push addresses, and [listen] public has {listened}: one for each, in its order");
            self.note(place, message);
        }
        push
    }

    fn peers(&mut self, peers: &BTreeMap<Spanned<String>, Leaf>, own: Option<&Domain>) -> Vec<RelayLink> {
        let mut links = Vec::new();
        for (name, leaf) in peers {
            match name.get_ref().parse::<Domain>() {
                Err(error) => self.note(name.span(), error.to_string()),
                Ok(domain) if Some(&domain) == own => self.note(name.span(), "a relay is no peer of itself"),
                Ok(domain) => {
                    links.extend(self.text(leaf, |text| match text.parse::<RelayLink>() {
                        Err(error) => Err(format!("{error}; {LINK_FORM}")),
                        Ok(link) if link.domain != domain => {
                            Err(format!("the link is for {}, the key says {domain}", link.domain))
                        }
                        Ok(link) => Ok(link),
                    }));
                }
            }
        }
        if peers.len() > limits::PEERS_MAX {
            self.note(0..0, format!("[peers] has {}, {} are allowed", peers.len(), limits::PEERS_MAX));
        }
        links
    }

    fn size(&mut self, leaf: Option<Leaf>, default: u64, least: u64) -> u64 {
        let Some(leaf) = leaf else { return default };
        let size = self.text(&leaf, |text| match bytes(text) {
            None => Err("expected a size such as \"64 MiB\" (B, KiB, MiB or GiB)".to_owned()),
            Some(bytes) if bytes < least => Err(format!("expected at least \"{} MiB\"", least / MIB)),
            Some(bytes) => Ok(bytes),
        });
        size.unwrap_or(default)
    }

    /// `{ rate = "60/min", burst = 100 }`, `{ rate = "10/hour", burst = 10 }`, or "unbounded".
    fn rate(&mut self, leaf: Option<Leaf>, default: Rate) -> Rate {
        let Some(leaf) = leaf else { return default };
        let whole = |value: &toml::Value| value.as_integer().and_then(|number| u32::try_from(number).ok());
        let read = match leaf.get_ref() {
            toml::Value::String(text) if text == "unbounded" => Some(Rate::UNBOUNDED),
            toml::Value::Table(table) if table.len() == 2 => {
                let every = |text: &str| {
                    let (number, every) = text.split_once('/')?;
                    let number = number.trim_end().parse::<u32>().ok().filter(|number| *number > 0)?;
                    match every {
                        "min" => Some((number, Every::Minute)),
                        "hour" => Some((number, Every::Hour)),
                        _ => None,
                    }
                };
                let rate = table.get("rate").and_then(toml::Value::as_str).and_then(every);
                let both = rate.zip(table.get("burst").and_then(whole).filter(|burst| *burst > 0));
                both.map(|((tokens, every), burst)| Rate { tokens, every, burst })
            }
            _ => None,
        };
        read.unwrap_or_else(|| {
            let form = "expected { rate = \"60/min\", burst = 100 } or { rate = \"10/hour\", burst = 10 }, both at least 1, or \
                        \"unbounded\"";
            self.note(leaf.span(), form);
            default
        })
    }

    fn hold(&mut self, leaf: &Leaf) -> Duration {
        let (least, most) = (limits::HOLD_AGE_MIN, limits::HOLD_AGE_MAX);
        let form = || {
            let most = most.as_secs() / (24 * 3_600);
            format!("expected a time such as \"7 days\" or \"12 hours\", \"{} s\" to \"{most} days\"", least.as_secs())
        };
        let held = self.text(leaf, |text| {
            let time = humantime::parse_duration(text).ok();
            time.filter(|time| (least..=most).contains(time)).ok_or_else(form)
        });
        held.unwrap_or(most)
    }

    fn percent(&mut self, leaf: &Leaf) -> u8 {
        let form = || format!("expected a share such as \"10 %\", at most \"{RESERVE_PERCENT_MAX} %\"");
        let share = self.text(leaf, |text| {
            let share = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u8>().ok());
            share.filter(|share| *share <= RESERVE_PERCENT_MAX).ok_or_else(form)
        });
        share.unwrap_or_default()
    }

    fn count(&mut self, leaf: Option<Leaf>, default: u64) -> u64 {
        let Some(leaf) = leaf else { return default };
        match leaf.get_ref().as_integer().and_then(|number| u64::try_from(number).ok()) {
            Some(number) if number > 0 => number,
            _ => {
                self.note(leaf.span(), "expected a whole number, at least 1");
                default
            }
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn failure(file: &Path, source: &str, mut found: Vec<Found>) -> Failure {
    found.sort_by_key(|(span, _)| span.start);
    let count = match found.len() {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let mut failure = Failure::new(Exit::Usage, "config", format!("{count} in {}", file.display()));
    failure.mistakes = found.into_iter().map(|(span, message)| Mistake::at(file, source, span, message)).collect();
    failure
}

/// The file `init` writes: every key with its meaning.
pub(crate) fn template(domain: &Domain, listen: SocketAddr, advertise: Option<&str>) -> String {
    let advertise = match advertise {
        Some(advertise) => format!("advertise = \"{advertise}\""),
        None => "# advertise = \"relay.example:4433\"".to_owned(),
    };
    format!(
        r#"# Configuration of a Whimbrel relay. `whimbrel-relay check --config FILE` finds mistakes before a start does.
# Changes take effect at the next start. Sizes are written "64 MiB": B, KiB, MiB or GiB.

[relay]
# The domain served: people here are NAME@DOMAIN. It is in the certificates and cannot change later.
domain = "{domain}"
# Where identity and store lie; relative to this file. Default "data".
data_dir = "data"
# Who may come in as a new account: "open" (anybody), "invite" (whoever has one of `whimbrel-relay invite new`) or
# "closed" (nobody; accounts that are here stay). Default "open".
registration = "open"

[listen]
# UDP addresses for nodes and relays (QUIC). Port 0 takes any free port. Default ["[::]:4433"], which serves IPv4 too.
public = ["{listen}"]
# HOST:PORT that others dial, put into the relay's link and told to relays that an invite leads to. Default: the first
# address above that names a host, else the domain with the first port.
{advertise}
# TCP addresses for devices whose network lets no UDP through: they poll over HTTPS, with the relay's own certificate, so
# no proxy may stand in between that ends TLS. Default: none.
# https = ["[::]:4433"]
# Where figures for Prometheus (/metrics) and health (/livez, /readyz) are looked at: TCP, an address that is not public.
# Default: nowhere.
# metrics = "127.0.0.1:9464"

[cluster]
# HOST:PORT that devices dial to come in at each address of `public`, in its order. Each account belongs to one of them, by its
# id: a device that comes in at another is told where to go, and goes there, so that people are spread over them. All of them
# are of this process: two cannot use one store. Over HTTPS devices are served where they come in. Default: none, and devices
# are served at any.
# push = ["push1.relay.example:4433", "push2.relay.example:4434"]

[peers]
# Relays of other domains whose identity is pinned here, each by its link (`whimbrel-relay link`). Others are learnt
# from invites.
# "b.example" = "whimbrel-relay:b.example?at=b.example:4433#…"

[store]
# Which engine, in the data folder: "sled:" up to about a million retained messages, "fjall:" above. Default "sled:".
# `whimbrel-relay migrate --to URL` moves a store from one to the other.
url = "sled:"
# Its page cache; resident memory is more. At least "8 MiB", default "64 MiB".
cache = "64 MiB"
# From this size on the log warns. At least "128 MiB". Default "2 GiB" on sled, never on fjall.
# warn = "2 GiB"
# At this size whatever makes the store grow is refused, and what is held is still handed out, acknowledged and trimmed:
# the time to move to fjall is before. At least "128 MiB". Default "3 GiB" on sled, no bound on fjall.
# max = "3 GiB"
# Share of the disk that stays free, at most 4 GiB: below it new messages are refused. "0 %" to "50 %". Default "10 %".
reserve = "10 %"

[wake]
# Whom a push service may write to when wake-ups from here trouble it: "mailto:…" or "https://…". Default: the domain.
# contact = "mailto:operator@relay.example"
# Whether wake-ups may go to addresses of private networks. For closed networks and tests alone: otherwise anybody with an
# account could have this relay knock at whatever it can reach. Default false.
allow_private = false

[limits]
# Links at once. Default {connections}: about 32 KiB each when idle.
connections = {connections}
# Entries and bytes one thread may hold for those away. Full, a thread of two takes no more; a larger one drops its oldest and
# tells their authors. Defaults {entries} and "64 MiB".
log_entries = {entries}
log_bytes = "64 MiB"
# How long what nobody fetches is held; then it goes, and its author is told. A device that is away for longer misses it: less
# than a few days is for closed networks and tests. "10 s" to "30 days". Default "30 days".
hold = "30 days"
# How much of what one may ask for, more being refused with the time to wait: so many at once, and so many a minute ("/min") or
# an hour ("/hour") after that; or "unbounded". Envelopes and other requests of an account; links and registrations from one
# network; envelopes and requests of a peer relay, and its friend requests; KeyPackages one account claims of another; logs an
# account acknowledges, a heartbeat counting {heartbeat} of them; threads its heartbeats name as used. The values here are the
# defaults.
messages = {{ rate = "1200/min", burst = 1000 }}
requests = {{ rate = "600/min", burst = 600 }}
arrivals = {{ rate = "600/min", burst = 1200 }}
peer_items = {{ rate = "120000/min", burst = 60000 }}
peer_requests = {{ rate = "6000/min", burst = 3000 }}
peer_friend_requests = {{ rate = "1000/hour", burst = 1000 }}
claims = {{ rate = "10/hour", burst = 10 }}
signs = {{ rate = "120000/min", burst = 60000 }}
touches = {{ rate = "6144/min", burst = 10240 }}

[log]
# "text" or "json". Default "text".
format = "text"
# "error", "warn", "info", "debug" or "trace". Addresses appear from "debug" on. Default "info".
level = "info"
"#,
        connections = limits::CONNECTIONS_MAX,
        entries = limits::LOG_ENTRIES_MAX,
        heartbeat = limits::HEARTBEAT_TOKENS,
    )
}

#[cfg(test)]
mod tests;
