//! The real program as a child process, spoken to over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[cfg(target_os = "linux")]
mod crowd;
mod disk;
mod doors;
mod held;
mod invite;
mod logs;
mod overload;
mod poll;
mod services;
#[cfg(target_os = "linux")]
mod slow;
mod stores;
mod strangers;
mod timing;
mod wake;
mod watch;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;
use whimbrel_crypto::{AccountLog, Chance, KeyPair, RecoveryPhrase, Seed, TransportProof, link};
use whimbrel_protocol::id::{DeviceId, DeviceIndex, RequestId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::push::CaughtUp;
use whimbrel_protocol::reception::{Heartbeat, Hello, Register};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::{LookUp, Who};
use whimbrel_protocol::{Frame, RefusalCode, VERSION};
use whimbrel_transport::{CloseCode, CloseReason, ConnectError, Endpoint, Identity, Link, ReceiveError};

const PROGRAM: &str = env!("CARGO_BIN_EXE_whimbrel-relay");

fn relay(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

/// A folder with a relay in it that listens on any free port of loopback.
struct Place {
    _temp: TempDir,
    dir: PathBuf,
}

impl Place {
    fn new(domain: &str) -> Self {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("relay");
        let made = relay(&["init", domain, "--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0", "--json"]);
        assert!(made.status.success(), "{made:?}");
        let written = std::fs::metadata(dir.join("relay.toml")).unwrap().modified().unwrap();
        let since = written.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        PRESENT.get_or_init(|| Wall::from_millis(since.as_millis() as u64));
        Self { _temp: temp, dir }
    }

    fn config(&self) -> String {
        self.dir.join("relay.toml").to_str().unwrap().to_owned()
    }

    fn edit(&self, from: &str, to: &str) {
        let source = std::fs::read_to_string(self.config()).unwrap();
        assert!(source.contains(from));
        std::fs::write(self.config(), source.replacen(from, to, 1)).unwrap();
    }

    /// What starts its relay.
    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--json", "--config", &self.config()]).stdin(Stdio::null());
        command
    }

    fn start(&self) -> Running {
        Running::of(self.command())
    }

    fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command();
        command.envs(environment.iter().copied());
        Running::of(command)
    }
}

/// What is told of a relay whose test fails: so many of the last lines it wrote.
const LAST_LINES: usize = 40;

/// A relay that runs. What it writes is read all the time: a pipe that is full would stop it.
struct Running {
    child: Child,
    said: Option<JoinHandle<String>>,
    link: RelayLink,
    https: Option<String>,
    metrics: Option<String>,
}

impl Running {
    /// Starts a relay and waits until it is ready.
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is what there is.
            let _ended = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("not ready: {:?}\n{}", child.wait(), said.join().unwrap());
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["v"], 1);
        assert_eq!(ready["event"], "ready");
        let link = ready["link"].as_str().unwrap().parse().unwrap();
        let https = ready["https"][0].as_str().map(str::to_owned);
        Self { child, said: Some(said), link, https, metrics: ready["metrics"].as_str().map(str::to_owned) }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Exit code and what was written to the standard error.
    fn end(self) -> (Option<i32>, String) {
        let (status, text) = self.ended();
        (status.code(), text)
    }

    /// How it ended and what was written to the standard error.
    fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.said.take().unwrap().join().unwrap())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The last lines of what a relay wrote that has ended.
    fn last_lines(&mut self) -> Option<String> {
        let text = self.said.take()?.join().ok()?;
        let lines: Vec<_> = text.lines().collect();
        Some(lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        if std::thread::panicking()
            && self.child.wait().is_ok()
            && let Some(lines) = self.last_lines()
        {
            eprintln!("--- the last lines of {}\n{lines}\n---", self.link.domain);
        }
    }
}

/// A person with one device.
struct Person {
    device: KeyPair,
    transport: KeyPair,
    log: AccountLog,
}

/// The present as the file that `init` wrote tells it: certificates are judged by it.
static PRESENT: OnceLock<Wall> = OnceLock::new();

fn present() -> Wall {
    *PRESENT.get().unwrap()
}

impl Person {
    fn new(byte: u8) -> Self {
        Self::seeded([byte; 32])
    }

    fn seeded(seed: [u8; 32]) -> Self {
        let mut chance = Chance::from_seed(Seed::from_bytes(seed));
        let (identity, device, transport) =
            (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
        let recovery = RecoveryPhrase::generate(&mut chance);
        let mut log = AccountLog::genesis(&identity, recovery.recovery_hash(), Hlc::default(), &mut chance);
        let first = DeviceIndex::FIRST;
        let proof = TransportProof::make(&transport, log.account(), first, &device.public());
        log.add_device(&identity, first, device.public(), proof, "test", Hlc::default()).unwrap();
        Self { device, transport, log }
    }

    fn id(&self) -> DeviceId {
        DeviceId { account: self.log.account(), index: DeviceIndex::FIRST }
    }

    async fn connect(&self, to: &RelayLink) -> Link {
        let identity = Identity::node(&self.transport).unwrap();
        Endpoint::bind_dialler(identity, present).unwrap().connect(to).await.unwrap()
    }

    fn register(&self, link: &Link, name: &str) -> Frame {
        self.register_over(&link.exporter, name)
    }

    fn register_over(&self, exporter: &[u8; 32], name: &str) -> Frame {
        Register {
            request: RequestId::new(1),
            name: name.parse().unwrap(),
            log: self.log.bytes(),
            device: self.id(),
            proof: link::prove(&self.device, exporter),
            invite: None,
        }
        .into()
    }

    fn hello(&self, link: &Link) -> Frame {
        self.hello_over(&link.exporter)
    }

    fn hello_over(&self, exporter: &[u8; 32]) -> Frame {
        let (log_seq, log_hash) = self.log.head();
        let proof = link::prove(&self.device, exporter);
        Hello { version: VERSION, device: self.id(), log_seq, log_hash, proof, stays: false }.into()
    }
}

async fn ask(link: &mut Link, frame: &Frame) -> Frame {
    link.sender.send(frame).unwrap();
    link.receiver.next().await.unwrap()
}

/// Registers and is admitted.
async fn come_in(person: &Person, to: &RelayLink, name: &str) -> Link {
    come_in_on(person, person.connect(to).await, name).await
}

async fn come_in_on(person: &Person, mut link: Link, name: &str) -> Link {
    let register = person.register(&link, name);
    let answer = ask(&mut link, &register).await;
    assert!(matches!(answer, Frame::Registered(_)), "{answer:?}");
    greet(person, &mut link).await;
    link
}

/// Says hello and reads on until everything that waited is there.
async fn greet(person: &Person, link: &mut Link) {
    link.receiver.authenticated();
    let hello = person.hello(link);
    let answer = ask(link, &hello).await;
    assert!(matches!(answer, Frame::Admitted(_)), "{answer:?}");
    while link.receiver.next().await.unwrap() != Frame::from(CaughtUp {}) {}
}

fn error_of(output: &Output) -> (Option<i32>, String, Value) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let value: Value = serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("no JSON error: {text}"));
    (output.status.code(), value["error"]["code"].as_str().unwrap().to_owned(), value["error"].clone())
}

#[tokio::test]
async fn a_new_relay_takes_an_account_in_and_serves_it() {
    let place = Place::new("a.example");
    let checked = relay(&["check", "--json", "--config", &place.config()]);
    assert!(checked.status.success(), "{checked:?}");
    let running = place.start();
    let alice = Person::new(1);
    let mut link = come_in(&alice, &running.link, "alice").await;

    let who = Who::Address("alice@a.example".parse().unwrap());
    let look_up = LookUp { request: RequestId::new(2), who, hint: None };
    let Frame::LookedUp(found) = ask(&mut link, &look_up.into()).await else { panic!() };
    assert_eq!(found.log, alice.log.bytes());
    let answer = ask(&mut link, &Heartbeat::default().into()).await;
    assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new("a.example");
    let mut links = Vec::new();
    let running = place.start();
    for byte in 0..8 {
        let person = Person::new(byte);
        let link = come_in(&person, &running.link, &format!("person{byte}")).await;
        links.push((person, link));
    }
    running.kill();

    let again = place.start();
    for (person, _) in &links {
        let mut link = person.connect(&again.link).await;
        greet(person, &mut link).await;
    }
    again.signal("TERM");
    assert_eq!(again.end().0, Some(0));
}

#[tokio::test]
async fn a_relay_that_was_killed_and_runs_again_ends_its_old_links_at_once() {
    let place = Place::new("a.example");
    let running = place.start();
    let listen = running.link.endpoint.clone();
    let mut link = come_in(&Person::new(1), &running.link, "alice").await;
    running.kill();
    place.edit("127.0.0.1:0", &listen);
    let _again = place.start();
    // Without a word from the new process the link would only end with its idle time, a minute from now.
    link.sender.send(&Heartbeat::default().into()).unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), link.receiver.next()).await.unwrap();
    assert!(matches!(ended, Err(ReceiveError::Closed(_))), "{ended:?}");
}

#[tokio::test]
async fn told_to_stop_it_says_so_closes_the_store_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let place = Place::new("a.example");
        let running = place.start();
        let mut link = come_in(&Person::new(1), &running.link, "alice").await;
        running.signal(signal);
        let told = link.receiver.next().await.unwrap_err();
        assert!(
            matches!(told, ReceiveError::Closed(CloseReason::Finished | CloseReason::ByPeer(CloseCode::Shutdown))),
            "{told:?}"
        );
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(place.dir.join("data/store/clean").exists(), "{said}");
    }
}

#[tokio::test]
async fn a_second_relay_on_the_same_folder_is_refused() {
    let place = Place::new("a.example");
    let running = place.start();
    for command in ["run", "check"] {
        let (exit, code, error) = error_of(&relay(&[command, "--json", "--config", &place.config()]));
        assert_eq!((exit, code.as_str()), (Some(4), "store_in_use"));
        assert!(error["hint"].as_str().unwrap().contains("runs already"));
    }
    // The first is none the worse.
    come_in(&Person::new(1), &running.link, "alice").await;
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let first = Place::new("a.example");
    let running = first.start();
    let second = Place::new("b.example");
    second.edit("127.0.0.1:0", &running.link.endpoint);
    let (exit, code, _) = error_of(&relay(&["run", "--json", "--config", &second.config()]));
    assert_eq!((exit, code.as_str()), (Some(4), "address_in_use"));
    // The store was opened for it, and is closed again.
    assert!(second.dir.join("data/store/clean").exists());
}

#[tokio::test]
async fn a_relay_with_another_identity_is_not_mistaken_for_the_pinned_one() {
    let (pinned, other) = (Place::new("a.example"), Place::new("a.example"));
    let (meant, found) = (pinned.start(), other.start());
    let wrong = RelayLink { endpoint: found.link.endpoint.clone(), ..meant.link.clone() };
    let identity = Identity::node(&Person::new(1).transport).unwrap();
    let error = Endpoint::bind_dialler(identity, present).unwrap().connect(&wrong).await.unwrap_err();
    assert_eq!(error, ConnectError::WrongRelay { expected: meant.link.relay, found: found.link.relay });
}

#[tokio::test]
async fn a_stranger_is_refused_and_its_link_closed() {
    let place = Place::new("a.example");
    let running = place.start();
    let stranger = Person::new(1);
    let mut link = stranger.connect(&running.link).await;
    let hello = stranger.hello(&link);
    let Frame::Refused(refused) = ask(&mut link, &hello).await else { panic!() };
    assert_eq!((refused.request, refused.code), (None, RefusalCode::NotAuthenticated));
    assert!(matches!(link.receiver.next().await, Err(ReceiveError::Closed(_))));
}

#[tokio::test]
async fn one_relay_asks_another_that_it_was_pointed_to() {
    let (a, b) = (Place::new("a.example"), Place::new("b.example"));
    let relay_a = a.start();
    // A relay lets those in whom it knows; it dials those it was pointed to.
    b.edit("[peers]", &format!("[peers]\n\"a.example\" = \"{}\"", relay_a.link));
    let relay_b = b.start();
    let bob = Person::new(2);
    come_in(&bob, &relay_b.link, "bob").await;
    let mut alice = come_in(&Person::new(1), &relay_a.link, "alice").await;
    let who = Who::Account(bob.id().account, relay_b.link.domain.clone());
    let hint = Some(relay_b.link.hint());
    let answer = ask(&mut alice, &LookUp { request: RequestId::new(2), who: who.clone(), hint }.into()).await;
    let Frame::LookedUp(found) = answer else { panic!("{answer:?}") };
    assert_eq!(found.log, bob.log.bytes());

    // Told to stop, it is unreachable from then on, and the asker is told so.
    relay_b.signal("TERM");
    let (code, said) = relay_b.end();
    assert_eq!(code, Some(0), "{said}");
    let answer = ask(&mut alice, &LookUp { request: RequestId::new(3), who, hint: None }.into()).await;
    let Frame::Refused(refused) = answer else { panic!("{answer:?}") };
    assert_eq!((refused.request, refused.code), (Some(RequestId::new(3)), RefusalCode::PeerUnreachable));
}

#[tokio::test]
async fn a_damaged_store_is_named_and_never_a_panic() {
    let place = Place::new("a.example");
    let running = place.start();
    for byte in 0..4 {
        come_in(&Person::new(byte), &running.link, &format!("person{byte}")).await;
    }
    running.kill();
    let database = place.dir.join("data/store/db");
    let mut bytes = std::fs::read(&database).unwrap();
    for byte in &mut bytes {
        *byte ^= 0x5a;
    }
    std::fs::write(&database, bytes).unwrap();
    for command in ["check", "run"] {
        let output = relay(&[command, "--json", "--config", &place.config()]);
        let said = String::from_utf8(output.stderr).unwrap();
        let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(error["error"]["code"], "store_damaged", "{said}");
        assert!(error["error"]["hint"].as_str().unwrap().contains("data/store"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn renewed_the_relay_is_the_same_and_an_offline_key_of_another_is_refused() {
    let place = Place::new("a.example");
    let before = place.start();
    let link = before.link.clone();
    before.kill();
    let offline = place.dir.join("offline.key.der");
    let renew = |key: &str| relay(&["renew", "--json", "--config", &place.config(), "--offline-key", key]);
    let renewed = renew(offline.to_str().unwrap());
    assert!(renewed.status.success(), "{renewed:?}");
    let after = place.start();
    assert_eq!(after.link.relay, link.relay);
    come_in(&Person::new(1), &after.link, "alice").await;

    let other = Place::new("a.example").dir.join("offline.key.der");
    assert_eq!(error_of(&renew(other.to_str().unwrap())).0, Some(3));
    let stays = Place::new("a.example");
    assert_eq!(error_of(&renew(stays.dir.join("offline.key.der").to_str().unwrap())).0, Some(5));
}

#[test]
fn init_overwrites_nothing_and_leaves_nothing_half_done() {
    let place = Place::new("a.example");
    let before = std::fs::read(place.config()).unwrap();
    let (exit, code, _) = error_of(&relay(&["init", "b.example", "--json", "--dir", place.dir.to_str().unwrap()]));
    assert_eq!((exit, code.as_str()), (Some(2), "exists"));
    assert_eq!(std::fs::read(place.config()).unwrap(), before);
    let beside = std::fs::read_dir(place.dir.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1);
}

#[cfg(unix)]
#[test]
fn keys_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("a.example");
    for file in ["offline.key.der", "relay.toml", "data/identity/online.key.der", "data/identity/online.cert.der"] {
        let mode = std::fs::metadata(place.dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(&place.dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_domain_that_the_certificate_does_not_name_is_refused_with_its_place() {
    let place = Place::new("a.example");
    place.edit("domain = \"a.example\"", "domain = \"b.example\"");
    let (exit, code, error) = error_of(&relay(&["check", "--json", "--config", &place.config()]));
    assert_eq!((exit, code.as_str()), (Some(5), "domain"));
    assert!(error["mistakes"][0]["line"].as_u64().unwrap() > 1);
}

#[test]
fn what_is_not_there_is_told_with_its_own_code() {
    let (exit, code, _) = error_of(&relay(&["run", "--json", "--config", "/no/such/relay.toml"]));
    assert_eq!((exit, code.as_str()), (Some(3), "config_not_found"));
    let place = Place::new("a.example");
    std::fs::remove_file(place.dir.join("data/identity/online.key.der")).unwrap();
    let (exit, code, _) = error_of(&relay(&["run", "--json", "--config", &place.config()]));
    assert_eq!((exit, code.as_str()), (Some(3), "identity_not_found"));
    let (exit, code, _) = error_of(&relay(&["run", "--json"]));
    assert_eq!((exit, code.as_str()), (Some(2), "usage"));
}

#[test]
fn the_link_is_printed_once_the_port_is_known() {
    let place = Place::new("a.example");
    assert_eq!(error_of(&relay(&["link", "--json", "--config", &place.config()])).0, Some(3));
    place.edit("127.0.0.1:0", "127.0.0.1:4433");
    let printed = relay(&["link", "--config", &place.config()]);
    let link: RelayLink = String::from_utf8(printed.stdout).unwrap().parse().unwrap();
    assert_eq!((link.domain.as_str(), link.endpoint.as_str()), ("a.example", "127.0.0.1:4433"));
}
