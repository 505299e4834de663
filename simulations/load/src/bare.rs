//! Bare: the QUIC library alone, as a server of its own process and as its clients.
//! Owns: the echo server (what it is told goes back, or from one to all who listen), the clients that count it.
//! Never: a frame, a queue, a task more than the library asks for: this is the floor.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Mutex;
use whimbrel_crypto::{KeyPair, RelayIdentity};
use whimbrel_protocol::id::Domain;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_transport::Identity;
use whimbrel_transport::bare::{Connection, Dialler, Incoming, RecvStream, SendStream, acceptor};

use crate::child::Running;
use crate::clock;
use crate::machine::{Machine, Process};

const DOMAIN: &str = "bare.example";
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// The child's part: prints its link, serves until its tether is cut.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let (offline, online) = (fresh_key()?, fresh_key()?);
    let domain: Domain = DOMAIN.parse()?;
    let identity = RelayIdentity::create(&offline, &online, &domain, clock::wall())?;
    let endpoint = acceptor((Ipv4Addr::LOCALHOST, 0).into(), &Identity::relay(&identity)?, clock::wall)?;
    let link = RelayLink { domain, endpoint: endpoint.local_addr()?.to_string(), relay: identity.id() };
    crate::cli::say(&format!("{link}\n"))?;
    std::thread::spawn(|| {
        // Whatever comes, the end of it is the end.
        let _cut = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let listeners = Listeners::default();
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(answer(incoming, listeners.clone()));
    }
    Ok(())
}

/// Those who only listen.
type Listeners = Arc<Mutex<Vec<SendStream>>>;

/// What a connection is for: its first byte, which comes back.
const ECHO: u8 = 0;
const LISTEN: u8 = 1;
const SPEAK: u8 = 2;

async fn answer(incoming: Incoming, listeners: Listeners) {
    let Ok(connection) = incoming.await else { return };
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut role = [ECHO];
    if receive.read_exact(&mut role).await.is_err() || send.write_all(&role).await.is_err() {
        return;
    }
    if role == [LISTEN] {
        listeners.lock().await.push(send);
        connection.closed().await;
        return;
    }
    while let Ok(Some(chunk)) = receive.read_chunk(64 * 1024, true).await {
        if role == [SPEAK] {
            for listener in listeners.lock().await.iter_mut() {
                if listener.write_chunk(chunk.bytes.clone()).await.is_err() {
                    return;
                }
            }
        } else if send.write_chunk(chunk.bytes).await.is_err() {
            return;
        }
    }
}

pub(crate) fn fresh_key() -> anyhow::Result<KeyPair> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the operating system gives no randomness")?;
    Ok(KeyPair::from_seed_bytes(seed))
}

/// The server, as its clients see it.
#[derive(Debug)]
pub(crate) struct Bare {
    running: Running,
    address: SocketAddr,
    dialler: Dialler,
}

impl Bare {
    pub(crate) fn start(machine: &Machine) -> anyhow::Result<Self> {
        let program: PathBuf = std::env::current_exe().context("cannot find the running program")?;
        let running = Running::start(machine, Command::new(program).arg("serve-bare"))?;
        let link: RelayLink = running.line(READY_TIME_MAX)?.parse()?;
        let address = link.endpoint.parse()?;
        let dialler = Dialler::bind(&Identity::node(&fresh_key()?)?, clock::wall, &link)?;
        Ok(Self { running, address, dialler })
    }

    pub(crate) fn process(&self) -> Process {
        self.running.process()
    }

    /// A handshake and the first echo: the server knows of the stream by its first byte.
    pub(crate) async fn connect(&self) -> anyhow::Result<Line> {
        self.connect_as(ECHO).await
    }

    /// A connection that hears what is said on another.
    pub(crate) async fn listen(&self) -> anyhow::Result<Line> {
        self.connect_as(LISTEN).await
    }

    /// A connection that is heard by all who listen.
    pub(crate) async fn speak(&self) -> anyhow::Result<Line> {
        self.connect_as(SPEAK).await
    }

    async fn connect_as(&self, role: u8) -> anyhow::Result<Line> {
        let connection = self.dialler.connect(self.address)?.await?;
        let (send, receive) = connection.open_bi().await?;
        let mut line = Line { connection, send, receive };
        line.echo(&[role]).await?;
        Ok(line)
    }
}

/// A connection to the bare server.
#[derive(Debug)]
pub(crate) struct Line {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Line {
    /// There and back.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.say(bytes).await?;
        self.hear(bytes.len()).await
    }

    /// There.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.send.write_all(bytes).await?)
    }

    /// And back.
    pub(crate) async fn hear(&mut self, bytes: usize) -> anyhow::Result<()> {
        Ok(self.receive.read_exact(&mut vec![0; bytes]).await?)
    }

    pub(crate) fn close(self) {
        self.connection.close(0_u32.into(), &[]);
    }
}
