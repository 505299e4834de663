//! Book: who is linked, over which connections, and what is under way on each link.
//! Owns: one link per peer; envelopes that wait, requests that are unanswered here and there, each bounded.
//! Never: touches the swarm; the caller does what the book says.
//! Limits: `limits::DIRECT_WAITING_MAX`, `limits::DIRECT_REQUESTS_MAX`.

use std::collections::{BTreeMap, VecDeque};

use libp2p::identity::PeerId;
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::swarm::ConnectionId;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::id::{EnvelopeId, LinkId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;

use super::codec::DirectAnswer;
use crate::outlet::Held;

/// A peer's request that waits for the core's answer. libp2p bounds them: each holds a stream.
pub(super) struct Asked {
    pub(super) request: InboundRequestId,
    pub(super) envelope: EnvelopeId,
    pub(super) channel: ResponseChannel<DirectAnswer>,
}

struct Linked {
    link: LinkId,
    connections: BTreeMap<ConnectionId, Monotonic>,
    waiting: VecDeque<(DirectEnvelope, Held)>,
    unanswered: usize,
    asked: Vec<Asked>,
}

/// The link that a new connection's peer has already.
pub(super) struct Former {
    pub(super) link: LinkId,
    /// Since when each of its connections stands.
    pub(super) connections: Vec<(ConnectionId, Monotonic)>,
}

/// What the end of a connection means.
pub(super) enum Left {
    /// The link is gone.
    Last(LinkId),
    /// The link still stands, or ended before.
    OthersRemain,
}

#[derive(Default)]
pub(super) struct Book {
    peers: BTreeMap<PeerId, Linked>,
    links: BTreeMap<LinkId, PeerId>,
    requests: BTreeMap<OutboundRequestId, (LinkId, EnvelopeId)>,
}

impl Book {
    pub(super) fn is_linked(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn peer_of(&self, link: LinkId) -> Option<PeerId> {
        self.links.get(&link).copied()
    }

    pub(super) fn link_of(&self, peer: &PeerId) -> Option<LinkId> {
        self.peers.get(peer).map(|linked| linked.link)
    }

    /// A connection was established: it makes a link, or is one more of a link that stands.
    pub(super) fn came(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        now: Monotonic,
        next_link: impl FnOnce() -> LinkId,
    ) -> Option<Former> {
        if let Some(linked) = self.peers.get_mut(&peer) {
            let connections = linked.connections.iter().map(|(connection, since)| (*connection, *since)).collect();
            linked.connections.insert(connection, now);
            return Some(Former { link: linked.link, connections });
        }
        let link = next_link();
        let connections = BTreeMap::from([(connection, now)]);
        let linked = Linked { link, connections, waiting: VecDeque::new(), unanswered: 0, asked: Vec::new() };
        self.peers.insert(peer, linked);
        self.links.insert(link, peer);
        None
    }

    /// A connection ended.
    pub(super) fn left(&mut self, peer: &PeerId, connection: ConnectionId) -> Left {
        let Some(linked) = self.peers.get_mut(peer) else { return Left::OthersRemain };
        linked.connections.remove(&connection);
        if !linked.connections.is_empty() {
            return Left::OthersRemain;
        }
        let link = linked.link;
        self.end(link);
        Left::Last(link)
    }

    /// Forgets a link and everything under way on it; true when there was one. Connections that are still being closed
    /// belong to nobody, so that one which comes meanwhile is a new link.
    pub(super) fn end(&mut self, link: LinkId) -> bool {
        let Some(peer) = self.links.remove(&link) else { return false };
        self.peers.remove(&peer);
        // The failures of its requests are still told, one by one, and mean nothing any more.
        self.requests.retain(|_, (of, _)| *of != link);
        true
    }

    /// Lets an envelope wait for its turn; false when too many do.
    pub(super) fn wait(&mut self, link: LinkId, words: DirectEnvelope, held: Held) -> bool {
        let Some(linked) = self.linked(link) else { return true };
        let room = linked.waiting.len() < limits::DIRECT_WAITING_MAX;
        if room {
            linked.waiting.push_back((words, held));
        }
        room
    }

    /// Hands waiting envelopes to `send` while fewer than [`limits::DIRECT_REQUESTS_MAX`] are unanswered.
    pub(super) fn send_waiting(
        &mut self,
        link: LinkId,
        mut send: impl FnMut(&PeerId, DirectEnvelope) -> OutboundRequestId,
    ) {
        let Some(peer) = self.links.get(&link) else { return };
        let Some(linked) = self.peers.get_mut(peer) else { return };
        while linked.unanswered < limits::DIRECT_REQUESTS_MAX
            && let Some((words, _held)) = linked.waiting.pop_front()
        {
            let envelope = words.envelope.id();
            self.requests.insert(send(peer, words), (link, envelope));
            linked.unanswered += 1;
        }
    }

    /// A request of ours was answered or failed: which link it was on, and about which envelope.
    pub(super) fn done(&mut self, request: OutboundRequestId) -> Option<(LinkId, EnvelopeId)> {
        let (link, envelope) = self.requests.remove(&request)?;
        if let Some(linked) = self.linked(link) {
            linked.unanswered = linked.unanswered.saturating_sub(1);
        }
        Some((link, envelope))
    }

    /// A peer asked; answers the link it did so on.
    pub(super) fn asked(&mut self, peer: &PeerId, asked: Asked) -> Option<LinkId> {
        let linked = self.peers.get_mut(peer)?;
        linked.asked.push(asked);
        Some(linked.link)
    }

    /// A peer no longer waits for an answer.
    pub(super) fn no_longer_asked(&mut self, peer: &PeerId, request: InboundRequestId) {
        if let Some(linked) = self.peers.get_mut(peer) {
            linked.asked.retain(|asked| asked.request != request);
        }
    }

    /// Where the answer about an envelope goes: to whoever asked first.
    pub(super) fn answered(&mut self, link: LinkId, envelope: EnvelopeId) -> Option<ResponseChannel<DirectAnswer>> {
        let asked = &mut self.linked(link)?.asked;
        let first = asked.iter().position(|asked| asked.envelope == envelope)?;
        Some(asked.remove(first).channel)
    }

    fn linked(&mut self, link: LinkId) -> Option<&mut Linked> {
        self.peers.get_mut(self.links.get(&link)?)
    }
}
