//! Endpoint: one UDP socket that dials and accepts links.
//! Owns: the socket, the bound on unfinished handshakes, the order in which a relay's addresses are tried.
//! Never: decides what a peer may do once the link stands.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::TokioRuntime;
use quinn::crypto::rustls::HandshakeData;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout};
use whimbrel_crypto::CertificateError;
use whimbrel_protocol::id::{Domain, RelayId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::{ALPN_NODE, ALPN_RELAY, limits};

use crate::verify::{Mistrust, Pinned, peer_of};
use crate::{Clock, CloseCode, CloseReason, Identity, Link, Peer, config, provider, reset};

/// Asked for per socket; the system grants what it allows. The default of 208 KiB drops bursts even on loopback.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// TLS wants a name; it is never sent and never judged (RFC 2606 §2).
pub(crate) const NO_NAME: &str = "relay.invalid";

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Socket {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS refuses its own set-up; a fault of ours.
    #[error("TLS set-up: {0}")]
    Tls(#[from] rustls::Error),
    /// The provider lacks the suite QUIC begins with; a fault of ours.
    #[error("TLS provider without QUIC's initial suite")]
    Suite,
}

/// Why a dialled relay is not there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host has no address, or none that this machine can send to. Try again later.
    #[error("unreachable: {reason}")]
    Unreachable {
        /// `host:port` as given; not part of the text, which goes to logs.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nobody answered in time. Try again later.
    #[error("no answer in time")]
    TimedOut,
    /// Another relay answers there. Never to be retried blindly: the link is wrong or somebody is in between.
    #[error("another relay answers: expected {expected}, found {found}")]
    WrongRelay {
        /// The pin.
        expected: RelayId,
        /// Whose certificate was shown.
        found: RelayId,
    },
    /// The relay is the pinned one but speaks for another domain.
    #[error("the relay speaks for {found}, not for {expected}")]
    WrongDomain {
        /// The domain meant.
        expected: Domain,
        /// The domain of its certificates.
        found: Domain,
    },
    /// The certificates prove nothing: expired, forged, or not a relay's.
    #[error("the relay's certificate is not valid: {0}")]
    Certificate(CertificateError),
    /// No common version.
    #[error("no common protocol version")]
    Version,
    /// It answered and closed.
    #[error("{0}")]
    Closed(CloseReason),
    /// This endpoint is closed, or its own set-up failed.
    #[error("cannot dial: {0}")]
    Local(String),
}

impl ConnectError {
    /// Whether somebody other than the pinned relay is there (exit code 5), as opposed to nobody.
    pub const fn is_mistrust(&self) -> bool {
        matches!(self, Self::WrongRelay { .. } | Self::WrongDomain { .. } | Self::Certificate(_))
    }

    /// Of several addresses' errors, the one that says most is told.
    const fn weight(&self) -> u8 {
        match self {
            Self::WrongRelay { .. } => 6,
            Self::WrongDomain { .. } | Self::Certificate(_) => 5,
            Self::Version => 4,
            Self::Closed(_) => 3,
            Self::TimedOut => 2,
            Self::Unreachable { .. } => 1,
            Self::Local(_) => 0,
        }
    }
}

/// Why an incoming connection became no link.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handshake failed, certificates included.
    #[error("handshake: {0}")]
    Handshake(CloseReason),
    /// Handshake and first bytes took longer than `limits::AUTHENTICATION_TIME_MAX`.
    #[error("too slow")]
    TimedOut,
    /// A node on the relays' ALPN, or the other way round.
    #[error("certificate and protocol do not go together")]
    Kind,
    /// The certificate does not stand.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A socket with an identity. Clones share it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    identity: Identity,
    provider: Arc<CryptoProvider>,
    clock: Clock,
    handshakes: Arc<AtomicUsize>,
}

impl Endpoint {
    /// Opens a socket that dials and accepts: a relay's.
    ///
    /// # Errors
    /// As [`BindError`] says.
    pub fn bind(address: SocketAddr, identity: Identity, clock: Clock) -> Result<Self, BindError> {
        let provider = provider();
        let server = config::accept(&identity, &provider, clock)?;
        Self::open(address, Some(server), identity, provider, clock)
    }

    /// Opens a socket that only dials: a node's, on any port, for both address families where the system has both.
    ///
    /// # Errors
    /// As [`BindError`] says.
    pub fn bind_dialler(identity: Identity, clock: Clock) -> Result<Self, BindError> {
        let provider = provider();
        let open = |ip: IpAddr| Self::open((ip, 0).into(), None, identity.clone(), provider.clone(), clock);
        open(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| open(Ipv4Addr::UNSPECIFIED.into()))
    }

    fn open(
        address: SocketAddr,
        server: Option<quinn::ServerConfig>,
        identity: Identity,
        provider: Arc<CryptoProvider>,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Socket { address, source };
        let quic = socket(address)
            .and_then(|socket| quinn::Endpoint::new(reset::endpoint(&identity), server, socket, Arc::new(TokioRuntime)))
            .map_err(failed)?;
        Ok(Self { quic, identity, provider, clock, handshakes: Arc::default() })
    }

    /// The same socket on behalf of somebody else: dials by this handle show `identity`. What is accepted stays as it was.
    pub fn showing(&self, identity: Identity) -> Self {
        Self { identity, ..self.clone() }
    }

    /// The address the socket is bound to.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Links open or about to open, both directions.
    pub fn connections(&self) -> usize {
        self.quic.open_connections()
    }

    /// Reaches the relay of `to`: all its addresses in turn, a new one each `limits::RELAY_ADDRESS_DELAY`, the first
    /// link wins. A node speaks the nodes' ALPN, a relay the relays'.
    ///
    /// # Errors
    /// As [`ConnectError`] says. A relay that does not take our certificate is told by the first receive: in TLS 1.3
    /// the client is done before the server has looked at it.
    pub async fn connect(&self, to: &RelayLink) -> Result<Link, ConnectError> {
        timeout(limits::AUTHENTICATION_TIME_MAX, self.connect_any(to)).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    async fn connect_any(&self, to: &RelayLink) -> Result<Link, ConnectError> {
        let unreachable =
            |reason: &str| ConnectError::Unreachable { host: to.endpoint.clone(), reason: reason.to_owned() };
        let both = self.quic.local_addr().is_ok_and(|address| address.is_ipv6());
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&to.endpoint)
            .await
            .map_err(|error| unreachable(&error.to_string()))?
            .filter(|address| both || address.is_ipv4())
            .take(limits::RELAY_ADDRESSES_MAX)
            .collect();
        let mut attempts: FuturesUnordered<_> = (0..)
            .zip(addresses)
            .map(|(turn, address)| async move {
                sleep(limits::RELAY_ADDRESS_DELAY * turn).await;
                self.connect_one(to, address).await
            })
            .collect();
        let mut worst = unreachable("no address");
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(link) => return Ok(link),
                Err(error) if error.weight() >= worst.weight() => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn connect_one(&self, to: &RelayLink, address: SocketAddr) -> Result<Link, ConnectError> {
        let local = |error: &dyn std::fmt::Display| ConnectError::Local(error.to_string());
        let algorithms = self.provider.signature_verification_algorithms;
        let pinned = Pinned::new(to.relay, to.domain.clone(), self.clock, algorithms);
        let config =
            config::dial(&self.identity, &self.provider, self.clock, pinned.clone()).map_err(|error| local(&error))?;
        let connecting = self.quic.connect_with(config, address, NO_NAME).map_err(|error| match error {
            quinn::ConnectError::InvalidRemoteAddress(_) => {
                ConnectError::Unreachable { host: to.endpoint.clone(), reason: error.to_string() }
            }
            error => local(&error),
        })?;
        let connection = connecting.await.map_err(|error| refusal(to, pinned.mistrust(), error.into()))?;
        let closed = |error: quinn::ConnectionError| refusal(to, None, error.into());
        let streams = connection.open_bi().await.map_err(closed)?;
        let peer = Peer::Relay { relay: to.relay, domain: to.domain.clone() };
        Link::new(connection, peer, streams).map_err(ConnectError::Closed)
    }

    /// The next connection that knocks; `None` when the endpoint is closed. Beyond `limits::HANDSHAKES_BEFORE_RETRY`
    /// unfinished handshakes the source must prove its address first, beyond `limits::HANDSHAKES_MAX` it is refused.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let quic = self.quic.accept().await?;
            match self.handshakes.load(Ordering::Relaxed) {
                waiting if waiting >= limits::HANDSHAKES_MAX => quic.refuse(),
                waiting if waiting >= limits::HANDSHAKES_BEFORE_RETRY && quic.may_retry() => {
                    if quic.retry().is_err() {
                        tracing::debug!("a retry was not sent");
                    }
                }
                _ => {
                    self.handshakes.fetch_add(1, Ordering::Relaxed);
                    return Some(Incoming { quic, unfinished: Unfinished(self.handshakes.clone()), clock: self.clock });
                }
            }
        }
    }

    /// Takes no new connection from now on; links go on.
    pub fn stop_accepting(&self) {
        self.quic.set_server_config(None);
    }

    #[cfg(test)]
    pub(crate) fn handshakes_counter(&self) -> &AtomicUsize {
        &self.handshakes
    }

    /// Closes every link at once, and the endpoint.
    pub fn close(&self, code: CloseCode) {
        self.quic.close(code.number(), b"");
    }

    /// Resolves when every connection has ended and the peers were told.
    pub async fn idle(&self) {
        self.quic.wait_idle().await;
    }
}

fn refusal(to: &RelayLink, mistrust: Option<&Mistrust>, reason: CloseReason) -> ConnectError {
    match mistrust {
        Some(Mistrust::Relay { found }) => ConnectError::WrongRelay { expected: to.relay, found: *found },
        Some(Mistrust::Domain { found }) => {
            ConnectError::WrongDomain { expected: to.domain.clone(), found: found.clone() }
        }
        Some(Mistrust::Certificate(error)) => ConnectError::Certificate(error.clone()),
        None => match reason {
            CloseReason::Version => ConnectError::Version,
            CloseReason::TimedOut => ConnectError::TimedOut,
            reason => ConnectError::Closed(reason),
        },
    }
}

pub(crate) fn socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    for outcome in [socket.set_recv_buffer_size(SOCKET_BYTES), socket.set_send_buffer_size(SOCKET_BYTES)] {
        if let Err(error) = outcome {
            tracing::debug!(%error, "socket buffer stays small");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Counts one handshake until it is over.
#[derive(Debug)]
struct Unfinished(Arc<AtomicUsize>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that knocks; nothing is proved yet.
#[derive(Debug)]
pub struct Incoming {
    quic: quinn::Incoming,
    unfinished: Unfinished,
    clock: Clock,
}

impl Incoming {
    /// Where it says it comes from.
    pub fn remote(&self) -> IpAddr {
        self.quic.remote_address().ip().to_canonical()
    }

    #[cfg(test)]
    pub(crate) fn is_address_proved(&self) -> bool {
        self.quic.remote_address_validated()
    }

    /// Refuses it without a handshake.
    pub fn refuse(self) {
        self.quic.refuse();
    }

    /// Goes through the handshake and waits for the peer's stream, which comes with its first frame.
    ///
    /// # Errors
    /// As [`AcceptError`] says.
    pub async fn establish(self) -> Result<Link, AcceptError> {
        let Self { quic, unfinished, clock } = self;
        let link = timeout(limits::AUTHENTICATION_TIME_MAX, async {
            let failed = |error: quinn::ConnectionError| AcceptError::Handshake(error.into());
            let connection = quic.accept().map_err(failed)?.await.map_err(failed)?;
            let peer = match known_peer(&connection, clock) {
                Ok(peer) => peer,
                Err(error) => {
                    connection.close(CloseCode::NotAllowed.number(), b"");
                    return Err(error);
                }
            };
            let streams = connection.accept_bi().await.map_err(failed)?;
            Link::new(connection, peer, streams).map_err(AcceptError::Handshake)
        })
        .await;
        drop(unfinished);
        link.unwrap_or(Err(AcceptError::TimedOut))
    }
}

/// Who is there, and whether their certificate is of the kind their ALPN asks for.
fn known_peer(connection: &quinn::Connection, clock: Clock) -> Result<Peer, AcceptError> {
    let alpn = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol)
        .ok_or(AcceptError::Kind)?;
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(AcceptError::Kind)?;
    match peer_of(&chain, clock)? {
        peer @ Peer::Node { .. } if alpn == ALPN_NODE => Ok(peer),
        peer @ Peer::Relay { .. } if alpn == ALPN_RELAY => Ok(peer),
        _ => Err(AcceptError::Kind),
    }
}
