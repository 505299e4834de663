//! Bare: the QUIC library alone, as a server of its own process and as its clients.
//! Owns: the echo server (what it is told goes back), the clients that count it.
//! Never: a frame, a queue, a task more than the library asks for: this is the floor.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
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
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(echo(incoming));
    }
    Ok(())
}

async fn echo(incoming: Incoming) {
    let Ok(connection) = incoming.await else { return };
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    while let Ok(Some(chunk)) = receive.read_chunk(64 * 1024, true).await {
        if send.write_chunk(chunk.bytes).await.is_err() {
            break;
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
        let connection = self.dialler.connect(self.address)?.await?;
        let (send, receive) = connection.open_bi().await?;
        let mut line = Line { connection, send, receive };
        line.echo(&[0]).await?;
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
        self.send.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        self.receive.read_exact(&mut back).await?;
        Ok(())
    }

    pub(crate) fn close(self) {
        self.connection.close(0_u32.into(), &[]);
    }
}
