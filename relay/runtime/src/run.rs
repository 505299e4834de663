//! Run: one relay process, from the opened store to the closed one.
//! Owns: the order of steps at start and at the end. Nothing is announced before sockets are bound and the store is
//! open; the store is closed last, after every request has ended.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use whimbrel_crypto::{MlsPublic, PublicEngine, RelayIdentity};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Now;
use whimbrel_relay::store::KvStore;
use whimbrel_relay::{OpenError, Ports, Relay, WakeOrder};
use whimbrel_storage::StorageError;
use whimbrel_transport::{BindError, CloseCode, Endpoint, Identity, IdentityError};

use crate::clock::{self, Clock};
#[cfg(unix)]
use crate::control;
use crate::disk::{RelayDisk, Writer};
use crate::figures::Figures;
use crate::http;
use crate::links::LinkTable;
use crate::poll::Poll;
use crate::serve::{self, Server};
use crate::timers::Timers;
use crate::wake::{self, Pusher, Vapid, WakeQueue};
use crate::watch::{HeldCount, Watched};
use crate::{RelayKv, Settings};

/// Why a relay did not start, or ended otherwise than it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS does not take the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The core does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed while it ran, or could not be closed. What was acknowledged is on the disk.
    #[error("the store failed: {0}")]
    Store(StorageError),
    /// The system refuses a thread or a socket's name.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// The ports of a real relay.
#[derive(Debug)]
pub(crate) struct Real {
    store: KvStore<RelayDisk>,
    links: Arc<LinkTable>,
    wakes: WakeQueue,
    clock: Clock,
    identity: RelayIdentity,
    publics: MlsPublic,
}

impl Ports for Real {
    type Store = KvStore<RelayDisk>;
    type Links = LinkTable;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn links(&self) -> &LinkTable {
        &self.links
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn chance(&self, buffer: &mut [u8]) {
        assert!(getrandom::fill(buffer).is_ok(), "the operating system gives no randomness");
    }

    fn identity(&self) -> &RelayIdentity {
        &self.identity
    }

    fn publics(&self) -> &dyn PublicEngine {
        &self.publics
    }

    fn wake(&self, order: WakeOrder) {
        self.wakes.push(order);
    }
}

/// What a relay that is ready can be reached by.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What to hand to people; absent when no address was given and none can be told from the sockets.
    pub link: Option<RelayLink>,
    /// The addresses in use, with the real ports.
    pub listen: Vec<SocketAddr>,
    /// Where links are polled over HTTPS.
    pub https: Vec<SocketAddr>,
    /// Where figures and health are looked at, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Runs a relay on an opened store until `stop` resolves, then drains: no new connection or request, those begun
/// are finished, the store is closed. `ready` is called once everything stands.
///
/// # Errors
/// As [`RunError`] says. After any of them the store is as a crash would leave it, or better.
pub async fn run(
    settings: &Settings,
    identity: &RelayIdentity,
    store: RelayKv,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(Ready),
) -> Result<(), RunError> {
    let clock = Clock::start();
    let sockets = match Sockets::bind(settings, identity) {
        Ok(sockets) => sockets,
        Err(error) => {
            store.close().map_err(RunError::Store)?;
            return Err(error);
        }
    };
    let (disk, mut writer) = RelayDisk::start(store)?;
    let _guard = writer.guard()?;
    let outcome = until_stopped(settings, identity, &sockets, (disk, &mut writer), clock, stop, ready).await;
    // Everything that held the store is gone: it is closed whatever came before.
    let closed = tokio::task::spawn_blocking(|| writer.end()?.close());
    let closed = closed.await.map_err(std::io::Error::other)?.map_err(RunError::Store);
    outcome?;
    closed
}

struct Sockets {
    endpoints: Vec<Endpoint>,
    dialler: Endpoint,
    listen: Vec<SocketAddr>,
    https: Vec<std::net::TcpListener>,
    metrics: Option<std::net::TcpListener>,
    tls: Arc<rustls::ServerConfig>,
}

impl Sockets {
    fn bind(settings: &Settings, identity: &RelayIdentity) -> Result<Self, RunError> {
        let shown = Identity::relay(identity)?;
        let bind = |address: &SocketAddr| Endpoint::bind(*address, shown.clone(), clock::wall);
        let endpoints = settings.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let listen = endpoints.iter().map(Endpoint::local_address).collect::<Result<Vec<_>, _>>()?;
        let https = settings.https.iter().map(|address| http::bind(*address)).collect::<Result<Vec<_>, _>>()?;
        let metrics = settings.metrics.map(http::bind).transpose()?;
        let tls = whimbrel_transport::https_server(&shown, clock::wall)?;
        // A socket of its own, since one that listens on a single address cannot reach every peer.
        Ok(Self {
            dialler: Endpoint::bind_dialler(shown.clone(), clock::wall)?,
            endpoints,
            listen,
            https,
            metrics,
            tls,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().chain([&self.dialler])
    }
}

async fn until_stopped(
    settings: &Settings,
    identity: &RelayIdentity,
    sockets: &Sockets,
    (disk, writer): (RelayDisk, &mut Writer<RelayKv>),
    clock: Clock,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(Ready),
) -> Result<(), RunError> {
    let (links, asked) = LinkTable::new();
    let links = Arc::new(links);
    let figures = Arc::new(Figures::default());
    let (wakes, orders) = WakeQueue::new(figures.clone());
    let vapid = Vapid::load(&settings.data_dir, &settings.domain, settings.wake_contact.as_deref());
    let pusher =
        Pusher::new(vapid.map_err(std::io::Error::other)?, settings.wake_private).map_err(IdentityError::from)?;
    let (store, publics) = (KvStore::new(disk), MlsPublic::new());
    let ports = Real { store, links: links.clone(), wakes, clock, identity: identity.clone(), publics };
    let endpoint = settings.link(identity, &sockets.listen).map(|link| link.endpoint);
    let core = whimbrel_relay::Config { endpoint, ..settings.core(identity) };
    let relay = Relay::open(ports, core, clock.now()).await?;
    let connections_max = settings.connections_max;
    let server = Arc::new(Server { relay, links, timers: Timers::new(), clock, connections_max, figures });

    let (stopping, stopped) = watch::channel(None);
    let (ending, ended) = watch::channel(false);
    let timers = {
        let server = server.clone();
        tokio::spawn(async move { server.timers.run(&server.relay, clock, ended).await })
    };
    // It tells of the end, too, so it comes last.
    let (closing, closed) = watch::channel(None);
    let mut looked_at = JoinSet::new();
    let metrics = match &sockets.metrics {
        None => None,
        Some(listener) => {
            let watched = Watched {
                server: server.clone(),
                store: writer.kv(),
                failed: writer.failure(),
                stop: stopped.clone(),
                held: HeldCount::default(),
            };
            let listener = http::listener(listener)?;
            let address = listener.local_addr()?;
            looked_at.spawn(http::serve(listener, None, crate::watch::router(watched), closed));
            Some(address)
        }
    };
    let mut tasks = JoinSet::new();
    for (endpoint, at) in sockets.endpoints.iter().zip(0..) {
        // The configuration has as many push addresses as sockets, or none.
        let door = (!settings.push.is_empty()).then_some(at);
        tasks.spawn(serve::accept(server.clone(), endpoint.clone(), door, stopped.clone()));
    }
    let (poll, opened) = Poll::new(server.clone(), identity.id(), stopped.clone());
    let mut https = Vec::new();
    for listener in &sockets.https {
        let listener = http::listener(listener)?;
        https.push(listener.local_addr()?);
        let router = crate::poll::router(poll.clone());
        tasks.spawn(http::serve(listener, Some(sockets.tls.clone()), router, stopped.clone()));
    }
    tasks.spawn(crate::poll::run(server.clone(), poll, opened, stopped.clone()));
    #[cfg(unix)]
    match control::bind(&settings.data_dir) {
        Ok(listener) => {
            let asked = server.clone();
            let invites = async move |question| {
                crate::invites::answer(asked.relay.ports().store(), question, clock::wall()).await
            };
            tasks.spawn(control::serve(listener, writer.kv(), invites, stopped.clone()));
        }
        // A path too long for a socket, say. People are served all the same.
        Err(error) => tracing::warn!(%error, "no control socket: `export` works only while the relay is stopped"),
    }
    tasks.spawn(wake::run(server.clone(), pusher, orders, stopped.clone()));
    tasks.spawn(serve::dial(server.clone(), sockets.dialler.clone(), asked, stopped));
    ready(Ready { link: settings.link(identity, &sockets.listen), listen: sockets.listen.clone(), https, metrics });

    let failed = tokio::select! {
        () = stop => None,
        why = writer.failed() => Some(why),
    };
    match &failed {
        None => tracing::info!("draining"),
        Some(why) => tracing::error!(%why, "the store failed; ending"),
    }
    stopping.send_replace(Some(if failed.is_some() { CloseCode::Internal } else { CloseCode::Shutdown }));
    while tasks.join_next().await.is_some() {}
    // What the links still had to say leaves before their connections close.
    let quiet = async {
        for endpoint in sockets.all() {
            endpoint.idle().await;
        }
    };
    if timeout(limits::LINK_CLOSE_TIME_MAX * 2, quiet).await.is_err() {
        tracing::debug!("connections did not close in time");
    }
    for endpoint in sockets.all() {
        endpoint.close(CloseCode::Shutdown);
    }
    if failed.is_none()
        && let Err(error) = server.relay.flush(clock.now()).await
    {
        tracing::warn!(%error, "cursors were not written; some entries will be delivered again");
    }
    closing.send_replace(Some(()));
    while looked_at.join_next().await.is_some() {}
    ending.send_replace(true);
    // Nothing aborts it, and a panic aborts the process.
    let _ended = timers.await;
    Ok(())
}
