//! Settings: what flags, environment and the configuration file say together.
//! Owns: the keys of `$XDG_CONFIG_HOME/whimbrel/config.toml`, where data and socket are, and who wins.
//! Never: holds a secret. An unknown key is a mistake with a line, not a silence.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use whimbrel_node_runtime::{DirectOptions, EngineKind, Transport};

use crate::args::Global;
use crate::failure::{Exit, Failure};

/// How long a command waits when nobody says otherwise: longer than one unanswered request takes
/// ([`whimbrel_protocol::limits::ANSWER_TIME_MAX`]), shorter than a person's patience.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Every interface, any port. IPv4 alone: a machine without IPv6 must not keep the daemon from starting.
const DIRECT_LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
/// The longest path of a Unix socket that every system takes, less the final zero.
const SOCKET_PATH_MAX: usize = 103;

/// The configuration file.
#[derive(Deserialize, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
struct File {
    /// Folder of the data.
    home: Option<PathBuf>,
    /// Which identity.
    profile: Option<String>,
    /// File with the passphrase of the sealed store.
    passphrase_file: Option<PathBuf>,
    /// JSON instead of text.
    json: Option<bool>,
    /// How long to wait, such as "15s".
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Duration>,
    /// Every message goes to the relay too, even when it arrived directly.
    always_relay_copy: Option<bool>,
    /// No direct links at all.
    never_direct: Option<bool>,
    /// Tell others when you have read what they wrote, in chats that say nothing else.
    read_receipts: Option<bool>,
    /// UDP sockets the daemon listens on for direct links, such as "192.0.2.7:4433"; port 0 is any.
    direct_listen: Option<Vec<SocketAddr>>,
    /// What carries the link to the relay: "auto" (QUIC, and HTTPS where no UDP gets through), "quic" or "https".
    #[serde(default, deserialize_with = "transport")]
    transport: Transport,
    /// The engine of the store: "sled:", or "fjall:" above some 250,000 messages.
    #[serde(default, deserialize_with = "engine")]
    store: Option<EngineKind>,
}

/// Everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The profile's folder.
    pub(crate) home: PathBuf,
    /// The engine of its store.
    pub(crate) store: EngineKind,
    /// File with its passphrase.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The daemon's socket.
    pub(crate) socket: PathBuf,
    /// Whether output is JSON.
    pub(crate) json: bool,
    /// How long to wait.
    pub(crate) timeout: Duration,
    /// No hints.
    pub(crate) quiet: bool,
    /// For the node core.
    pub(crate) node: whimbrel_node::Config,
    /// For the daemon's node; other commands end before a direct link pays.
    pub(crate) direct: DirectOptions,
    /// What carries the link to the relay.
    pub(crate) transport: Transport,
}

impl Settings {
    /// Reads the environment and the file.
    pub(crate) fn read(global: &Global) -> Result<Self, Failure> {
        let base = etcetera::choose_base_strategy()
            .map_err(|_| Failure::usage("no home directory").hint("say where data goes: --home DIR"));
        let file = match &base {
            Ok(base) => read_file(&base.config_dir().join("whimbrel/config.toml"))?,
            Err(_) => File::default(),
        };
        let profile = global.profile.clone().or(file.profile).unwrap_or_else(|| "default".to_owned());
        if !is_profile(&profile) {
            return Err(Failure::usage("a profile's name has 1 to 32 letters, digits, '-' and '_'"));
        }
        let chosen = global.home.clone().or(file.home);
        let top = match &chosen {
            // The daemon and a command may stand in different folders.
            Some(home) => std::path::absolute(home).map_err(|error| Failure::usage(format!("--home: {error}")))?,
            None => base?.data_dir().join("whimbrel"),
        };
        let home = if profile == "default" { top } else { top.join("profiles").join(&profile) };
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let socket = match runtime_dir {
            // A folder that somebody named has its own socket: two folders may hold profiles of one name.
            Some(dir) if chosen.is_none() => Path::new(&dir).join("whimbrel").join(format!("{profile}.sock")),
            _ => home.join("daemon.sock"),
        };
        Ok(Self {
            home,
            store: file.store.unwrap_or_default(),
            passphrase_file: global.passphrase_file.clone().or(file.passphrase_file),
            socket,
            json: global.json || file.json.unwrap_or(false),
            timeout: global.timeout.or(file.timeout).unwrap_or(TIMEOUT_DEFAULT),
            quiet: global.quiet,
            node: whimbrel_node::Config {
                always_relay_copy: file.always_relay_copy.unwrap_or(false),
                never_direct: file.never_direct.unwrap_or(false),
                read_receipts: file.read_receipts.unwrap_or(false),
                registration: None,
            },
            direct: DirectOptions::Listen {
                at: file.direct_listen.unwrap_or_else(|| vec![DIRECT_LISTEN_DEFAULT]),
                allow_loopback: false,
            },
            transport: file.transport,
        })
    }

    /// Whether the socket's path fits what the system takes.
    pub(crate) fn check_socket(&self) -> Result<(), Failure> {
        if self.socket.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(());
        }
        Err(Failure::usage("the path of the daemon's socket is longer than the system allows")
            .hint("choose a shorter --home, or leave it out and use --profile"))
    }
}

fn transport<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Transport, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "auto" => Ok(Transport::Auto),
        "quic" => Ok(Transport::Quic),
        "https" => Ok(Transport::Https),
        other => Err(serde::de::Error::custom(format!("{other:?} is none of \"auto\", \"quic\", \"https\""))),
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map(Some)
        .map_err(|error| serde::de::Error::custom(format!("{error}; write it as \"15s\"")))
}

fn engine<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<EngineKind>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn is_profile(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(config_failure(path, &error.to_string())),
    };
    parse(&text).map_err(|what| config_failure(path, &what))
}

/// The message of `toml` names line, column, the line itself and the keys that exist.
fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn config_failure(path: &Path, what: &str) -> Failure {
    Failure::new(Exit::Usage, "config", format!("{}: {}", path.display(), what.trim_end()))
        .hint("correct that line, or move the file away")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_line_and_key() {
        let text = "profile = \"work\"\ntimout = \"3s\"\n";
        let message = parse(text).unwrap_err();
        assert!(message.contains("line 2") && message.contains("timout") && message.contains("timeout"), "{message}");
        let message = parse("json = \"yes\"").unwrap_err();
        assert!(message.contains("line 1") && message.contains("boolean"), "{message}");
        let message = parse("timeout = \"soon\"").unwrap_err();
        assert!(message.contains("line 1") && message.contains("timeout") && message.contains("15s"), "{message}");
        let message = parse("store = \"postgres:\"").unwrap_err();
        assert!(message.contains("line 1") && message.contains("`fjall:`"), "{message}");
    }

    #[test]
    fn every_key_is_taken() {
        let text = "home = \"/d\"\nprofile = \"w\"\npassphrase_file = \"/p\"\njson = true\ntimeout = \"3s\"\nalways_relay_copy = true\nnever_direct = true\nread_receipts = true\ndirect_listen = [\"127.0.0.1:0\"]\nstore = \"fjall:\"\n";
        assert_eq!(parse(text).unwrap().timeout, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_profile_cannot_leave_its_folder() {
        for wrong in ["", "..", "a/b", "a b", "profile-with-a-name-that-has-no-end-"] {
            assert!(!is_profile(wrong), "{wrong} was taken");
        }
        assert!(is_profile("work-2"));
    }
}
