//! Serve: links, from the accepted or dialled connection to its end.
//! Owns: one task per link, which reads frames and polls what the core makes of them; the bounds on both.
//! Never: looks into a frame; times a silent link out (the core does). A request that was begun is polled to its end
//! even when its link is gone. Limits: `limits::LINK_REQUESTS_MAX`, `limits::CONNECTIONS_MAX`.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument, Level};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Now;
use whimbrel_relay::{LinkPeer, PeerAddress, Relay};
use whimbrel_transport::{CloseCode, Endpoint, FrameReceiver, Incoming, Link, Peer, ReceiveError};

use crate::clock::Clock;
use crate::figures::Figures;
use crate::links::{LinkTable, Outlet, Slot, Submitted, refused_of};
use crate::poll::PollInlet;
use crate::run::Real;
use crate::timers::{Timers, Watched};

/// Set when the process is to end: how links are closed.
pub(crate) type Stop = watch::Receiver<Option<CloseCode>>;

/// Everything a link's task needs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) relay: Relay<Real>,
    pub(crate) links: Arc<LinkTable>,
    pub(crate) timers: Timers,
    pub(crate) clock: Clock,
    pub(crate) connections_max: usize,
    pub(crate) figures: Arc<Figures>,
}

type Request<'s> = Watched<'s, Real>;

/// Accepts until told to stop, then lets the links end. `door`: which of the push addresses leads here.
pub(crate) async fn accept(server: Arc<Server>, endpoint: Endpoint, door: Option<u16>, mut stop: Stop) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) if links.len() >= server.connections_max => incoming.refuse(),
                Some(incoming) => {
                    links.spawn(establish(server.clone(), incoming, door, stop.clone()));
                }
                None => break,
            },
            Some(_) = links.join_next(), if !links.is_empty() => {}
            _ = stop.changed() => break,
        }
    }
    endpoint.stop_accepting();
    drain(links).await;
}

/// Dials whom the core asks for, until told to stop; then lets the links end.
pub(crate) async fn dial(
    server: Arc<Server>,
    endpoint: Endpoint,
    mut asked: mpsc::Receiver<PeerAddress>,
    mut stop: Stop,
) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Some(peer) = asked.recv() => {
                links.spawn(reach(server.clone(), endpoint.clone(), peer, stop.clone()));
            }
            Some(_) = links.join_next(), if !links.is_empty() => {}
            _ = stop.changed() => break,
        }
    }
    drain(links).await;
}

/// Links end by themselves once told to stop. Two times the longest answer is enough for all of them; what still runs
/// then waits for something that does not come.
pub(crate) async fn drain(mut links: JoinSet<()>) {
    let ended = timeout(limits::ANSWER_TIME_MAX * 2, async { while links.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(left = links.len(), "links did not end in time");
        links.shutdown().await;
    }
}

async fn establish(server: Arc<Server>, incoming: Incoming, door: Option<u16>, stop: Stop) {
    match incoming.establish().await {
        Ok(link) => serve(&server, link, (false, door), stop).await,
        Err(error) => tracing::debug!(%error, "no link"),
    }
}

async fn reach(server: Arc<Server>, endpoint: Endpoint, peer: PeerAddress, stop: Stop) {
    let PeerAddress { domain, endpoint: at, relay } = peer;
    match endpoint.connect(&RelayLink { domain: domain.clone(), endpoint: at, relay }).await {
        Ok(link) => serve(&server, link, (true, None), stop).await,
        Err(error) => {
            if error.is_mistrust() {
                tracing::warn!(peer = %domain, "a peer shows another identity than the pinned one");
            }
            server.relay.dial_failed(server.clock.now(), &domain, &error.to_string());
            server.timers.look(&server.relay);
        }
    }
}

/// How frames come in on a link.
pub(crate) enum Inlet {
    /// A QUIC stream.
    Quic(FrameReceiver),
    /// Calls over HTTPS.
    Poll(PollInlet),
}

impl Inlet {
    fn authenticated(&mut self) {
        match self {
            Self::Quic(receiver) => receiver.authenticated(),
            Self::Poll(inlet) => inlet.authenticated(),
        }
    }

    async fn next(&mut self) -> Result<Frame, ReceiveError> {
        match self {
            Self::Quic(receiver) => receiver.next().await,
            Self::Poll(inlet) => inlet.next().await,
        }
    }
}

/// A link that stands, whatever carries it.
pub(crate) struct Entering {
    pub(crate) peer: LinkPeer,
    pub(crate) sender: Outlet,
    pub(crate) receiver: Inlet,
    pub(crate) dialled: bool,
}

async fn serve(server: &Server, link: Link, (dialled, door): (bool, Option<u16>), stop: Stop) {
    let Link { peer, exporter, sender, receiver, remote, .. } = link;
    let source = source(remote.ip());
    let peer = match peer {
        Peer::Node { key } => LinkPeer::Node { transport: key, exporter, source, door, counted: false },
        Peer::Relay { relay, domain } => LinkPeer::Relay { relay, domain, dialled, exporter, source },
    };
    let (sender, receiver) = (Outlet::Quic(sender), Inlet::Quic(receiver));
    attend(server, Entering { peer, sender, receiver, dialled }, stop).await;
}

/// Serves a link from its beginning to its end, in a span of its own: whatever is said meanwhile says on which link.
pub(crate) async fn attend(server: &Server, entering: Entering, stop: Stop) {
    let Entering { peer, sender, receiver, dialled } = entering;
    let (id, slot) = server.links.add(sender, dialled);
    // A number and who began. Below debug there is no span, and no number that ties lines together.
    let span = tracing::debug_span!("link", link = id.get(), dialled);
    go_on(server, (id, slot), (peer, receiver, dialled), stop).instrument(span).await;
}

async fn go_on(
    server: &Server,
    (id, slot): (LinkId, Arc<Slot>),
    (peer, mut receiver, dialled): (LinkPeer, Inlet, bool),
    mut stop: Stop,
) {
    let between_relays = matches!(peer, LinkPeer::Relay { .. });
    if dialled {
        receiver.authenticated();
    }
    tracing::debug!(link = id.get(), dialled, "link up");

    let mut requests: FuturesUnordered<Request<'_>> = FuturesUnordered::new();
    requests.push(request(server, server.relay.link_up(server.clock.now(), id, peer)));
    let code = loop {
        let admitted = slot.is_admitted();
        if admitted {
            receiver.authenticated();
        }
        // A stranger's frames are served one by one, so that it costs no more than one frame.
        let room = requests.len() < if admitted { limits::LINK_REQUESTS_MAX } else { 1 };
        tokio::select! {
            // Begun requests first: a frame is polled before the next one is read, so first polls keep the order of
            // arrival.
            biased;
            code = told(&mut stop) => break code,
            Some(()) = requests.next(), if !requests.is_empty() => {}
            () = slot.sender.drained() => {
                requests.push(request(server, server.relay.link_drained(server.clock.now(), id)));
            }
            // Whoever does not read the answers gets no more of them.
            received = async { slot.sender.has_room().await; receiver.next().await }, if room => {
                let now = server.clock.now();
                match received {
                    Ok(frame) => requests.push(handled(server, now, id, frame)),
                    Err(ReceiveError::Malformed(error)) => {
                        tracing::debug!(link = id.get(), %error, "malformed frame");
                        server.relay.malformed(now, id);
                        server.timers.look(&server.relay);
                    }
                    Err(error) => {
                        tracing::debug!(link = id.get(), %error, "link ended");
                        break CloseCode::Done;
                    }
                }
            }
        }
    };
    if stop.borrow().is_some() {
        let quiet = requests.is_empty();
        // The answers still belong on the link.
        finish(&mut requests).await;
        if between_relays && quiet {
            // What a peer does not hear now it asks for or sends again: both have it in their stores. So nobody waits for
            // an acknowledgement, which a peer that died without a word would not give.
            slot.sender.abort(code);
        }
        lost(server, id, &slot, code);
    } else {
        lost(server, id, &slot, code);
        finish(&mut requests).await;
    }
}

/// A number for the network an address is in: all of an IPv4 address, and of an IPv6 address what its provider gives out
/// at once (RFC 6177 §2).
pub(crate) fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

/// Resolves when the process is to end.
async fn told(stop: &mut Stop) -> CloseCode {
    stop.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(CloseCode::Shutdown)
}

/// A frame on its way through the core, and how long it takes if it is an envelope. Each is made for what it has to do: a
/// future that could do all of it would be many times as large, and is made for every frame.
fn handled(server: &Server, now: Now, id: LinkId, frame: Frame) -> Request<'_> {
    let submitted = matches!(frame, Frame::Submit(_)).then(|| {
        let (since, clock, figures) = (now.monotonic, server.clock, server.figures.clone());
        Submitted { link: id, since, clock, figures }
    });
    match (submitted, tracing::enabled!(Level::DEBUG)) {
        (None, false) => request(server, server.relay.handle(now, id, frame)),
        (Some(submitted), false) => request(server, submitted.around(server.relay.handle(now, id, frame))),
        (None, true) => request(server, told_of(server, now, id, frame)),
        (Some(submitted), true) => request(server, submitted.around(told_of(server, now, id, frame))),
    }
}

/// A frame on its way through the core in a span of its own, and the line that tells of it.
async fn told_of(server: &Server, now: Now, id: LinkId, frame: Frame) {
    let kind = frame.name();
    let span = tracing::debug_span!("request", kind);
    let (code, ()) = refused_of(id, server.relay.handle(now, id, frame).instrument(span)).await;
    let micros = server.clock.now().monotonic.since(now.monotonic).as_micros();
    let code = code.map_or_else(|| "-".to_owned(), |code| format!("{code:?}"));
    tracing::debug!(link = id.get(), kind, code, micros, "request");
}

fn request<'s>(server: &'s Server, future: impl Future<Output = ()> + Send + 's) -> Request<'s> {
    server.timers.watched(&server.relay, future)
}

async fn finish(requests: &mut FuturesUnordered<Request<'_>>) {
    while requests.next().await.is_some() {}
}

fn lost(server: &Server, id: LinkId, slot: &Slot, code: CloseCode) {
    slot.sender.close(code);
    server.links.remove(id);
    server.relay.link_lost(server.clock.now(), id);
    server.timers.look(&server.relay);
}
