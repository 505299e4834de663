//! People: Alice, Bob and Carol, each with a real node on a real store.
//! Owns: their coming and going, and writing what they are shown into the ledger.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use whimbrel_node::{Command, Config, Event, Reply, views};
use whimbrel_node_runtime::{DirectOptions, EngineKind, Options, StoreAt, Transport};
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::invite::{Invite, RelayLink};

use super::ledger::Ledger;
use crate::clock;
use crate::failure::Failure;
use crate::local::{self, Heard, Home, Listener, Local};

/// One person.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) account: AccountId,
    home: PathBuf,
    ledger: Arc<Ledger>,
    here: Option<Here>,
}

/// A person whose node runs.
struct Here {
    local: Local,
    reader: JoinHandle<()>,
}

/// Who is who, by account, for the ledger.
pub(crate) type Cast = Arc<std::sync::Mutex<std::collections::BTreeMap<AccountId, &'static str>>>;

impl Person {
    /// Makes an identity in a folder of its own.
    pub(crate) async fn new(
        name: &'static str,
        relay: RelayLink,
        home: PathBuf,
        ledger: Arc<Ledger>,
        cast: &Cast,
    ) -> Result<Self, Failure> {
        let lower = name.to_lowercase().parse().map_err(Failure::internal)?;
        let account = local::create(&home, EngineKind::default(), None, lower, relay).await?.account;
        cast.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(account, name);
        Ok(Self { name, account, home, ledger, here: None })
    }

    /// Starts the node and waits until the relay has admitted it.
    pub(crate) async fn come(&mut self, direct: bool, cast: &Cast, within: Duration) -> Result<(), Failure> {
        let loopback = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let direct = if direct {
            DirectOptions::Listen { at: vec![loopback], allow_loopback: true }
        } else {
            DirectOptions::Off
        };
        let store = StoreAt::Home(self.home.clone(), local::store_options(EngineKind::default()).into());
        let local =
            Local::start(Options { store, config: Config::default(), direct, transport: Transport::Quic }).await?;
        // Before anything can be shown: the node has had no turn yet to reach its relay.
        let reader =
            tokio::spawn(read(local.events(), self.name, self.account, Arc::clone(&self.ledger), Arc::clone(cast)));
        let here = self.here.insert(Here { local, reader });
        here.local.wait_home(clock::now() + within, |home| matches!(home, Home::Up | Home::CaughtUp)).await
    }

    /// Ends the node; the store stays.
    pub(crate) async fn leave(&mut self) -> Result<(), Failure> {
        let Some(here) = self.here.take() else { return Ok(()) };
        let closed = here.local.close().await;
        // The reader sees the end of the events by itself, after the last one.
        let _ = here.reader.await;
        closed
    }

    /// The running node.
    pub(crate) fn node(&self) -> Result<&Local, Failure> {
        match &self.here {
            Some(here) => Ok(&here.local),
            None => Err(Failure::internal(format!("{} is away", self.name))),
        }
    }

    /// Makes an invite for one.
    pub(crate) async fn invite(&self) -> Result<Invite, Failure> {
        match self
            .node()?
            .command(Command::NewInvite { uses: 1, holds: Duration::from_secs(3_600), group: None })
            .await?
        {
            Reply::Invite(invite) => Ok(invite),
            _ => Err(Failure::internal("no invite")),
        }
    }

    /// Takes an invite up; answers the thread with the inviter.
    pub(crate) async fn accept(&self, invite: Invite) -> Result<ThreadId, Failure> {
        match self.node()?.command(Command::AcceptInvite(invite)).await? {
            Reply::Contact { thread, .. } => Ok(thread),
            _ => Err(Failure::internal("no contact")),
        }
    }

    /// Whether somebody is a contact and a thread is there.
    pub(crate) fn knows(&self, account: &AccountId, thread: &ThreadId) -> Result<bool, Failure> {
        let reads = self.node()?.reads();
        let failed = |error| local::store_failure(&error);
        let contact = views::contacts(reads).map_err(failed)?.iter().any(|contact| contact.account == *account);
        Ok(contact && views::thread(reads, thread).map_err(failed)?.is_some())
    }

    /// Writes to somebody, and writes into the ledger that it was asked.
    pub(crate) async fn say(&self, to: &Self, thread: ThreadId, text: &str) -> Result<(), Failure> {
        self.ledger.asked(self.name, to.name, text, to.here.is_none());
        self.node()?.command(Command::Send { thread, text: text.to_owned() }).await.map(drop)
    }
}

/// Writes what somebody is shown into the ledger, until the node ends.
async fn read(mut events: Listener, reader: &'static str, own: AccountId, ledger: Arc<Ledger>, cast: Cast) {
    loop {
        match events.next().await {
            Heard::Event(Event::Shown(message)) if message.author.account != own => {
                let known = cast
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .get(&message.author.account)
                    .copied();
                let Some(path) = message.path else { continue };
                ledger.seen(known.unwrap_or("a stranger"), reader, message.text, path, message.message);
            }
            Heard::Event(event) => tracing::debug!(reader, ?event, "event"),
            Heard::TooMuch => ledger.missed(1),
            Heard::End(_) => return,
        }
    }
}
