//! Direct: links from node to node over libp2p's QUIC, without a relay.
//! Owns: the swarm, one link per peer however many connections it has, the requests under way on each.
//! Never: decides whom to reach or what to accept (the core does); resolves names; follows circuits; speaks anything
//! but [`whimbrel_protocol::PROTOCOL_DIRECT`].
//! Limits: `limits::DIRECT_*`. Rules: docs/protocol/direct.md. `codec` has the streams, `address` the addresses, `book`
//! who is linked.

mod address;
mod book;
mod codec;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Transport as _, TransportError};
use libp2p::futures::StreamExt as _;
use libp2p::identity::{Keypair, PeerId};
use libp2p::multiaddr::Multiaddr;
use libp2p::quic;
use libp2p::request_response::{self, OutboundFailure, ProtocolSupport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Swarm, SwarmEvent};
use tokio::task::JoinHandle;
use whimbrel_crypto::KeyPair;
use whimbrel_node::api::{Input, Peer};
use whimbrel_protocol::id::{LinkId, PublicKey};
use whimbrel_protocol::time::Monotonic;
use whimbrel_protocol::{Frame, PROTOCOL_DIRECT, limits};

use crate::clock::Clock;
use crate::driver::DirectWord;
use crate::entrance::{Entrance, Gone};
use crate::outlet::{Drain, Held};
use book::{Asked, Book, Former, Left};
use codec::{DirectAnswer, DirectCodec, DirectRequest, is_malformed};

/// Connections to one peer: both sides may dial at once, and a peer that comes back is let in before its old
/// connection is known to be dead.
const PEER_CONNECTIONS_MAX: u32 = 4;
/// Two connections closer together than this are two sides dialling at once; further apart, the older one is dead.
const SAME_MOMENT: Duration = Duration::from_secs(5);
/// How long peers are given to hear that we leave.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);

/// How this node takes part in direct links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectOptions {
    /// Not at all: nothing is dialled, offered or accepted.
    Off,
    /// It does.
    Listen {
        /// UDP sockets to listen on; a wildcard address stands for every interface, port 0 for any port. Without any,
        /// the node only dials.
        at: Vec<SocketAddr>,
        /// Offer and dial loopback addresses; on whenever one of `at` is one.
        allow_loopback: bool,
    },
}

/// Why direct links cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address} for direct links: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// libp2p does not take the transport key; not expected.
    #[error("the transport key is not taken")]
    Key,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    requests: request_response::Behaviour<DirectCodec>,
}

type RequestEvent = request_response::Event<DirectRequest, DirectAnswer>;

/// Starts the task that owns the direct links. It ends when `words` does, or when the core is gone.
///
/// # Errors
/// As [`DirectError`] says.
pub(crate) fn start(
    transport: &KeyPair,
    (at, allow_loopback): (&[SocketAddr], bool),
    clock: Clock,
    entrance: Entrance,
    words: Drain<DirectWord>,
) -> Result<JoinHandle<()>, DirectError> {
    let key = Keypair::ed25519_from_bytes(transport.secret_bytes().as_mut_slice()).map_err(|_| DirectError::Key)?;
    let mut swarm = swarm(&key);
    for &address in at {
        swarm.listen_on(address::of_socket(address)).map_err(|error| {
            let source = match error {
                TransportError::Other(error) => error,
                TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
            };
            DirectError::Listen { address, source }
        })?;
    }
    let direct = Direct {
        swarm,
        clock,
        entrance,
        allow_loopback: allow_loopback || at.iter().any(|address| address.ip().is_loopback()),
        book: Book::default(),
        dialling: BTreeSet::new(),
        listening: BTreeSet::new(),
    };
    Ok(tokio::spawn(direct.run(words)))
}

fn swarm(key: &Keypair) -> Swarm<Behaviour> {
    let mut quic = quic::Config::new(key);
    quic.handshake_timeout = limits::AUTHENTICATION_TIME_MAX;
    quic.max_idle_timeout = u32::try_from(limits::LINK_IDLE_MAX.as_millis()).unwrap_or(u32::MAX);
    quic.keep_alive_interval = limits::DIRECT_KEEP_ALIVE;
    quic.max_concurrent_stream_limit = 2 * limits::DIRECT_REQUESTS_MAX as u32;
    quic.max_stream_data = limits::DIRECT_STREAM_WINDOW_BYTES;
    quic.max_connection_data = limits::DIRECT_LINK_WINDOW_BYTES;
    let transport =
        quic::tokio::Transport::new(quic).map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed();
    let links = limits::DIRECT_LINKS_MAX as u32;
    let bounds = ConnectionLimits::default()
        .with_max_established(Some(links))
        .with_max_established_incoming(Some(limits::DIRECT_LINKS_INBOUND_MAX as u32))
        .with_max_established_per_peer(Some(PEER_CONNECTIONS_MAX))
        .with_max_pending_incoming(Some(links))
        .with_max_pending_outgoing(Some(links));
    let config = request_response::Config::default()
        .with_request_timeout(limits::ANSWER_TIME_MAX)
        .with_max_concurrent_streams(2 * limits::DIRECT_REQUESTS_MAX);
    let protocol = (StreamProtocol::new(PROTOCOL_DIRECT), ProtocolSupport::Full);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(bounds),
        requests: request_response::Behaviour::new([protocol], config),
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(limits::DIRECT_UNUSED_MAX)
        .with_max_negotiating_inbound_streams(2 * limits::DIRECT_REQUESTS_MAX);
    Swarm::new(transport, behaviour, key.public().to_peer_id(), config)
}

struct Direct {
    swarm: Swarm<Behaviour>,
    clock: Clock,
    entrance: Entrance,
    allow_loopback: bool,
    book: Book,
    /// Dials under way that owe the core an answer.
    dialling: BTreeSet<ConnectionId>,
    listening: BTreeSet<String>,
}

// `&mut self` throughout: the swarm may be sent to another thread, not shared with one.
impl Direct {
    async fn run(mut self, mut words: Drain<DirectWord>) {
        loop {
            let done = tokio::select! {
                word = words.next() => match word {
                    Some((word, held)) => self.word(word, held).await,
                    None => break,
                },
                event = self.swarm.select_next_some() => self.event(event).await,
            };
            if done == Err(Gone) {
                break;
            }
        }
        self.leave().await;
    }

    async fn word(&mut self, word: DirectWord, held: Held) -> Result<(), Gone> {
        match word {
            DirectWord::Dial(transport, addresses) => self.dial(transport, &addresses).await,
            DirectWord::Send(link, frame) => {
                self.send(link, frame, held);
                Ok(())
            }
            DirectWord::Close(link) => self.close(link).await,
        }
    }

    async fn close(&mut self, link: LinkId) -> Result<(), Gone> {
        let Some(peer) = self.book.peer_of(link) else { return Ok(()) };
        let _no_longer_connected = self.swarm.disconnect_peer_id(peer);
        // Told now, not when the connections have closed: until then the peer may come again, and that is a new link.
        self.book.end(link);
        self.entrance.input(Input::LinkLost { link }).await
    }

    async fn dial(&mut self, transport: PublicKey, addresses: &[String]) -> Result<(), Gone> {
        let addresses: Vec<Multiaddr> = addresses
            .iter()
            .take(limits::CANDIDATE_ADDRESSES_MAX)
            .filter_map(|text| address::dialable(text, self.allow_loopback))
            .collect();
        let Some(peer) = address::peer_id(&transport).filter(|_| !addresses.is_empty()) else {
            tracing::debug!("no address that could be dialled");
            return self.entrance.input(Input::DialFailed { transport }).await;
        };
        if self.book.is_linked(&peer) {
            // The core was told of that link, or will be before it hears this: what it waits for is over either way.
            return self.entrance.input(Input::DialFailed { transport }).await;
        }
        let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dialling.insert(connection);
                Ok(())
            }
            Err(error) => self.dial_failed(peer, &error).await,
        }
    }

    async fn dial_failed(&mut self, peer: PeerId, error: &DialError) -> Result<(), Gone> {
        tracing::debug!(%error, "a direct dial failed");
        match address::transport_key(&peer) {
            Some(transport) if !self.book.is_linked(&peer) => {
                self.entrance.input(Input::DialFailed { transport }).await
            }
            _ => Ok(()),
        }
    }

    fn send(&mut self, link: LinkId, frame: Frame, held: Held) {
        match frame {
            Frame::DirectEnvelope(words) => {
                if !self.book.wait(link, words, held) {
                    tracing::debug!(link = link.get(), "too many envelopes wait for a direct link");
                }
                self.send_waiting(link);
            }
            Frame::DirectStored(words) => self.answer(link, DirectAnswer::Stored(words)),
            Frame::DirectRefused(words) => self.answer(link, DirectAnswer::Refused(words)),
            other => tracing::error!(frame = other.name(), "a frame that has no place on a direct link"),
        }
    }

    /// Sends what waits for a link, as far as its bound of unanswered requests lets it.
    fn send_waiting(&mut self, link: LinkId) {
        let requests = &mut self.swarm.behaviour_mut().requests;
        self.book.send_waiting(link, |peer, words| requests.send_request(peer, DirectRequest::Envelope(words)));
    }

    fn answer(&mut self, link: LinkId, answer: DirectAnswer) {
        let Some(channel) = self.book.answered(link, answer.envelope()) else {
            tracing::debug!(link = link.get(), "nobody waits for this answer any more");
            return;
        };
        if self.swarm.behaviour_mut().requests.send_response(channel, answer).is_err() {
            tracing::debug!(link = link.get(), "an answer came too late");
        }
    }

    async fn event(&mut self, event: SwarmEvent<BehaviourEvent>) -> Result<(), Gone> {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.established(peer_id, connection_id).await
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                match self.book.left(&peer_id, connection_id) {
                    Left::Last(link) => {
                        tracing::debug!(link = link.get(), ?cause, "direct link lost");
                        self.entrance.input(Input::LinkLost { link }).await
                    }
                    Left::OthersRemain => Ok(()),
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => match peer_id {
                Some(peer) if self.dialling.remove(&connection_id) => self.dial_failed(peer, &error).await,
                _ => Ok(()),
            },
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "a direct connection was not let in");
                Ok(())
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                let told =
                    address::socket(&address).is_some_and(|at| address::is_reachable(at.ip(), self.allow_loopback));
                if told && self.listening.insert(address.to_string()) { self.tell_listening().await } else { Ok(()) }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.no_longer_listening(&[address]).await,
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?reason, "a listener for direct links ended");
                self.no_longer_listening(&addresses).await
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener for direct links");
                Ok(())
            }
            SwarmEvent::Behaviour(BehaviourEvent::Requests(event)) => self.request_event(event).await,
            _ => Ok(()),
        }
    }

    async fn established(&mut self, peer: PeerId, connection: ConnectionId) -> Result<(), Gone> {
        self.dialling.remove(&connection);
        let Some(transport) = address::transport_key(&peer) else {
            // Not a key a device could have.
            self.swarm.close_connection(connection);
            return Ok(());
        };
        let now = self.clock.now().monotonic;
        if let Some(Former { link, connections }) = self.came(peer, connection, now) {
            if connections.iter().any(|(_, since)| now.since(*since) <= SAME_MOMENT) {
                return Ok(());
            }
            // The peer has lost its end, and with it what was under way.
            for (connection, _) in connections {
                self.swarm.close_connection(connection);
            }
            self.book.end(link);
            self.entrance.input(Input::LinkLost { link }).await?;
            self.came(peer, connection, now);
        }
        match self.book.link_of(&peer) {
            Some(link) => self.entrance.input(Input::LinkUp { link, peer: Peer::Node { transport } }).await,
            None => Ok(()),
        }
    }

    fn came(&mut self, peer: PeerId, connection: ConnectionId, now: Monotonic) -> Option<Former> {
        let Self { book, entrance, .. } = self;
        book.came(peer, connection, now, || entrance.next_link())
    }

    async fn no_longer_listening(&mut self, addresses: &[Multiaddr]) -> Result<(), Gone> {
        let before = self.listening.len();
        for address in addresses {
            self.listening.remove(&address.to_string());
        }
        if self.listening.len() < before { self.tell_listening().await } else { Ok(()) }
    }

    async fn tell_listening(&mut self) -> Result<(), Gone> {
        self.entrance.input(Input::Listening { addresses: self.listening.iter().cloned().collect() }).await
    }

    async fn request_event(&mut self, event: RequestEvent) -> Result<(), Gone> {
        use request_response::Message::{Request, Response};
        match event {
            RequestEvent::Message { peer, message: Request { request_id, request, channel }, .. } => {
                match request {
                    DirectRequest::Envelope(words) => {
                        let asked = Asked { request: request_id, envelope: words.envelope.id(), channel };
                        let Some(link) = self.book.asked(&peer, asked) else { return Ok(()) };
                        self.entrance.input(Input::Frame { link, frame: words.into() }).await
                    }
                    // Dropping the channel ends the stream without an answer.
                    DirectRequest::Malformed(why) => {
                        let Some(link) = self.book.link_of(&peer) else { return Ok(()) };
                        tracing::debug!(link = link.get(), why, "a direct request that is none");
                        self.entrance.input(Input::Malformed { link }).await
                    }
                }
            }
            RequestEvent::Message { message: Response { request_id, response }, .. } => {
                let Some((link, envelope)) = self.book.done(request_id) else { return Ok(()) };
                self.send_waiting(link);
                let input = if envelope == response.envelope() {
                    Input::Frame { link, frame: response.into() }
                } else {
                    Input::Malformed { link }
                };
                self.entrance.input(input).await
            }
            RequestEvent::OutboundFailure { request_id, error, .. } => {
                let Some((link, _)) = self.book.done(request_id) else { return Ok(()) };
                tracing::debug!(link = link.get(), %error, "an envelope went unanswered");
                self.send_waiting(link);
                match error {
                    OutboundFailure::Io(error) if is_malformed(&error) => {
                        self.entrance.input(Input::Malformed { link }).await
                    }
                    _ => Ok(()),
                }
            }
            RequestEvent::InboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%error, "an answer did not reach its asker");
                self.book.no_longer_asked(&peer, request_id);
                Ok(())
            }
            RequestEvent::ResponseSent { .. } => Ok(()),
        }
    }

    /// Closes every connection, so that peers need not wait for the idle time, and forgets the listeners.
    async fn leave(mut self) {
        for peer in self.book.peers() {
            let _no_longer_connected = self.swarm.disconnect_peer_id(peer);
        }
        let goodbye = async {
            while !self.book.is_empty() {
                if let SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } = self.swarm.select_next_some().await
                {
                    self.book.left(&peer_id, connection_id);
                }
            }
        };
        if tokio::time::timeout(GOODBYE_TIME_MAX, goodbye).await.is_err() {
            tracing::debug!("some direct links ended without a goodbye");
        }
    }
}
