//! Federation: this relay and its peers. A relay speaks only for its own domain.
//! Owns: who a peer must be (pins), the outbound link to each peer with its queue position, requests passed on, the
//! numbering of what comes in.
//! Never: believes a peer about another domain's users, pins anew over a conflict, waits for a peer inside a request.
//! Limits: `limits::PEERS_MAX` and those of `peer`. Rules: docs/protocol/federation.md.

mod inbound;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::federation::{Forward, ForwardItem, ForwardRefusal, Forwarded, PeerHello};
use whimbrel_protocol::id::{Domain, LinkId, RelayId, RequestId};
use whimbrel_protocol::time::Monotonic;
use whimbrel_protocol::user::RelayHint;
use whimbrel_protocol::{Frame, RefusalCode, VERSION, limits};

use self::inbound::Inbound;
pub(crate) use self::peer::{Asked, Known, What};
use self::peer::{Peer, Reach};
use crate::ports::{Links, PeerAddress};
use crate::refusal::Refusal;
use crate::store::command::{self, PinPeer};
use crate::store::{Command, Outbound, OutboundKey, Pin, Store, StoreError};

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<Domain, Peer>,
    links: BTreeMap<LinkId, Domain>,
    inbound: BTreeMap<LinkId, Inbound>,
    /// At or before each moment a peer waits for.
    wakes: BTreeSet<(Monotonic, Domain)>,
    /// Rows given up since the start: refused for good, or pushed out of a full log.
    dropped: u64,
}

impl State {
    fn wake(&mut self, at: Monotonic, domain: &Domain) {
        self.wakes.insert((at, domain.clone()));
    }

    fn peer_of(&mut self, link: LinkId) -> Option<(Domain, &mut Peer)> {
        let domain = self.links.get(&link)?.clone();
        let peer = self.peers.get_mut(&domain)?;
        Some((domain, peer))
    }
}

/// The peers of this relay.
#[derive(Debug)]
pub(crate) struct Federation {
    domain: Domain,
    relay: RelayId,
    state: Mutex<State>,
}

/// What the passing of time did.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Requests that no peer answered in time.
    pub(crate) unanswered: Vec<Asked>,
    /// Peers with rows to send.
    pub(crate) pump: Vec<Domain>,
    /// Links whose peer did not greet in time; closed.
    pub(crate) ended: Vec<LinkId>,
}

impl Federation {
    pub(crate) fn new(domain: Domain, relay: RelayId, peers: &[PeerAddress]) -> Self {
        let peers = peers.iter().map(|peer| (peer.domain.clone(), Peer::new(peer.clone(), Known::Static))).collect();
        Self { domain, relay, state: Mutex::new(State { peers, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows were given up since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    // Who a peer is.

    /// Takes over what was remembered of a peer; what the operator says comes first.
    pub(crate) fn remembered(&self, domain: Domain, pin: Pin) {
        let Pin { relay, endpoint } = pin;
        let mut state = self.state();
        match state.peers.get(&domain) {
            Some(known) if known.address.relay != relay => {
                tracing::warn!(peer = %domain, "the configured identity of a peer is not the remembered one");
            }
            Some(_) => {}
            None => {
                let address = PeerAddress { domain: domain.clone(), endpoint, relay };
                state.peers.insert(domain, Peer::new(address, Known::Stored));
            }
        }
    }

    /// Whether a domain's relay is known, so that something can be forwarded to it.
    pub(crate) fn knows(&self, domain: &Domain) -> bool {
        self.state().peers.contains_key(domain)
    }

    /// Makes sure that a domain's relay is known, if need be from an invite link. A hint never changes what is known.
    pub(crate) fn resolve(&self, domain: &Domain, hint: Option<RelayHint>) -> Result<(), Refusal> {
        let mut state = self.state();
        let known = state.peers.get(domain).map(|peer| peer.address.relay);
        match (known, hint.filter(|hint| hint.domain == *domain)) {
            (Some(relay), Some(hint)) if relay != hint.relay => {
                tracing::warn!(peer = %domain, "an invite link names another identity for a known relay; refused");
                Err(Refusal::last(RefusalCode::PeerUntrusted))
            }
            (Some(_), _) => Ok(()),
            (None, Some(hint)) if hint.relay != self.relay && *domain != self.domain => {
                if state.peers.len() >= limits::PEERS_MAX {
                    return Err(Refusal::last(RefusalCode::PeerUntrusted));
                }
                let RelayHint { domain, endpoint, relay } = hint;
                let address = PeerAddress { domain: domain.clone(), endpoint, relay };
                state.peers.insert(domain, Peer::new(address, Known::Hinted));
                Ok(())
            }
            (None, _) => Err(Refusal::last(RefusalCode::PeerUntrusted)),
        }
    }

    /// Whether this is the identity a domain must show. Only what the operator says or what is remembered counts.
    pub(crate) fn is_pinned(&self, domain: &Domain, relay: RelayId) -> bool {
        let state = self.state();
        let pinned = |peer: &&Peer| peer.known != Known::Hinted && peer.address.relay == relay;
        state.peers.get(domain).filter(pinned).is_some()
    }

    /// Remembers a hinted peer that has now answered under its identity. False: something else is remembered.
    pub(crate) async fn pin(&self, store: &impl Store, domain: &Domain) -> Result<bool, StoreError> {
        let hinted = {
            let state = self.state();
            state.peers.get(domain).filter(|peer| peer.known == Known::Hinted).map(|peer| peer.address.clone())
        };
        let Some(PeerAddress { relay, endpoint, .. }) = hinted else { return Ok(true) };
        let command = PinPeer { peer: domain.clone(), pin: Pin { relay, endpoint } };
        match store.commit(Command::PinPeer(command)).await {
            Ok(_) => {
                if let Some(peer) = self.state().peers.get_mut(domain) {
                    peer.known = Known::Stored;
                }
                Ok(true)
            }
            Err(StoreError::Conflict(conflict)) => {
                tracing::warn!(peer = %domain, %conflict, "a relay is not remembered; refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    // The outbound link.

    /// We reached a peer: true when it is whom we meant to reach, and is to be greeted.
    pub(crate) fn reached(&self, now: Monotonic, link: LinkId, domain: &Domain, relay: RelayId) -> bool {
        let mut state = self.state();
        let until = now.plus(limits::ANSWER_TIME_MAX);
        let Some(peer) = state.peers.get_mut(domain) else { return false };
        if peer.reach != Reach::Dialling || peer.address.relay != relay {
            return false;
        }
        peer.reached(link, until);
        state.links.insert(link, domain.clone());
        state.wake(until, domain);
        true
    }

    pub(crate) fn hello(&self, to: &Domain) -> Frame {
        PeerHello { version: VERSION, domain: self.domain.clone(), to: to.clone() }.into()
    }

    /// Whether a hello is for us, from whom TLS says it is, in a version both speak.
    pub(crate) fn vet(&self, hello: &PeerHello, proved: &Domain) -> Result<(), RefusalCode> {
        if hello.domain != *proved || hello.to != self.domain {
            return Err(RefusalCode::PeerUntrusted);
        }
        whimbrel_protocol::common_version(hello.version).map(|_| ()).ok_or(RefusalCode::Version)
    }

    /// The peer greeted back: sends what waited for that.
    pub(crate) fn greeted(&self, links: &impl Links, link: LinkId) {
        let mut state = self.state();
        let Some((_, peer)) = state.peer_of(link) else { return };
        if !matches!(peer.reach, Reach::Greeting(..)) {
            return;
        }
        // As many as may wait fit in a link's queue of its own frames; what does not is answered by its timer.
        for frame in peer.greeted(link) {
            if links.send(link, Arc::new(frame)).is_err() {
                break;
            }
        }
    }

    /// A link to a peer is over: gives the requests nobody will answer.
    pub(crate) fn lost(&self, now: Monotonic, link: LinkId, jitter: u64) -> Vec<Asked> {
        let mut state = self.state();
        state.inbound.remove(&link);
        let Some(domain) = state.links.remove(&link) else { return Vec::new() };
        self.down(state, now, &domain, jitter)
    }

    /// A peer could not be reached.
    pub(crate) fn dial_failed(&self, now: Monotonic, domain: &Domain, jitter: u64) -> Vec<Asked> {
        let state = self.state();
        if state.peers.get(domain).is_none_or(|peer| peer.reach != Reach::Dialling) {
            return Vec::new();
        }
        self.down(state, now, domain, jitter)
    }

    fn down(&self, mut state: MutexGuard<'_, State>, now: Monotonic, domain: &Domain, jitter: u64) -> Vec<Asked> {
        let Some(peer) = state.peers.get_mut(domain) else { return Vec::new() };
        let (lost, again) = peer.down(now, jitter);
        let forget = peer.known == Known::Hinted && again.is_none();
        if let Some(at) = again {
            state.wake(at, domain);
        }
        if forget {
            // Nobody ever answered under that identity: another invite link may know better.
            state.peers.remove(domain);
        }
        lost
    }

    // Requests passed on.

    /// Passes a request on to a known peer; the answer comes as a frame, or its timer ends it.
    pub(crate) fn ask(
        &self,
        links: &impl Links,
        now: Monotonic,
        domain: &Domain,
        asked: Asked,
        frame: impl FnOnce(RequestId) -> Frame,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        let peer = state.peers.get_mut(domain).ok_or(Refusal::UNREACHABLE)?;
        if !peer.has_room_for_request(asked.link) {
            return Err(Refusal::BUSY);
        }
        let dial = peer.want_now(now).ok_or(Refusal::UNREACHABLE)?;
        let until = now.plus(limits::ANSWER_TIME_MAX);
        if let Some((link, frame)) = peer.ask(asked, until, frame)
            && links.send(link, Arc::new(frame)).is_err()
        {
            peer.ask_failed();
            return Err(Refusal::BUSY);
        }
        if dial {
            links.dial(peer.address.clone());
        }
        state.wake(until, domain);
        Ok(())
    }

    /// A peer answered a request on its link: who had asked.
    pub(crate) fn answered(&self, link: LinkId, request: RequestId) -> Option<Asked> {
        self.state().peer_of(link).and_then(|(_, peer)| peer.answered(request))
    }

    // Rows on their way out.

    /// Rows were written for a peer. What is sent is read from the store ([`Federation::pump`]).
    pub(crate) fn row_added(&self, links: &impl Links, domain: &Domain, key: OutboundKey) {
        if let Some(peer) = self.state().peers.get_mut(domain) {
            peer.row_added(key);
            if peer.want() {
                links.dial(peer.address.clone());
            }
        }
    }

    /// A peer had rows when this relay was opened.
    pub(crate) fn waiting(&self, now: Monotonic, domain: &Domain) {
        let mut state = self.state();
        if let Some(peer) = state.peers.get_mut(domain) {
            peer.at_end = false;
            peer.reach = Reach::Waiting(now);
            state.wake(now, domain);
        }
    }

    /// Sends waiting rows to a peer whose link stands, as far as its window and queue have room.
    pub(crate) async fn pump(
        &self,
        store: &impl Store,
        links: &impl Links,
        now: Monotonic,
        domain: &Domain,
    ) -> Result<(), StoreError> {
        while let Some((after, room)) = self.begin(domain) {
            let page = store.outbound(domain.clone(), after, room, limits::PUSH_BYTES_MAX).await;
            let rows = self.send(links, now, domain, after, page)?;
            if !rows.is_empty() {
                tracing::warn!(peer = %domain, rows = rows.len(), "entries left a full log before they were forwarded");
                store.commit(Command::Forwarded(command::Forwarded { peer: domain.clone(), rows })).await?;
            }
        }
        Ok(())
    }

    /// Sends a page of rows; gives those whose entry is gone.
    fn send(
        &self,
        links: &impl Links,
        now: Monotonic,
        domain: &Domain,
        after: Option<OutboundKey>,
        page: Result<Vec<Outbound>, StoreError>,
    ) -> Result<Vec<OutboundKey>, StoreError> {
        let mut gone = Vec::new();
        let mut state = self.state();
        let State { peers, dropped, wakes, .. } = &mut *state;
        let Some(peer) = peers.get_mut(domain) else { return Ok(gone) };
        peer.reading = false;
        let page = page?;
        // The link may have been replaced meanwhile: then the page is from another life.
        let Reach::Up(link) = peer.reach else { return Ok(gone) };
        if peer.position != after {
            return Ok(gone);
        }
        let Some(last) = page.last().map(|row| row.key) else {
            peer.wrap();
            return Ok(gone);
        };
        let mut items = Vec::with_capacity(page.len());
        let first = peer.next_number();
        for row in page {
            match row.body {
                _ if !peer.may_send(row.key) => {}
                Some(body) => items.push(ForwardItem { number: peer.number(row.key), body }),
                None => gone.push(row.key),
            }
        }
        if !items.is_empty() {
            if links.send(link, Arc::new(Forward { items }.into())).is_err() {
                // Until the queue has room, or another link stands.
                peer.unsent(first);
                peer.stalled = true;
                return Ok(Vec::new());
            }
            wakes.extend(peer.sent(now).map(|at| (at, domain.clone())));
        }
        peer.position = Some(last);
        *dropped = dropped.saturating_add(gone.len() as u64);
        Ok(gone)
    }

    /// Takes up the reading of rows for a peer: from where, and how many at most.
    fn begin(&self, domain: &Domain) -> Option<(Option<OutboundKey>, usize)> {
        self.state().peers.get_mut(domain)?.begin()
    }

    /// A peer answered for items: what it has or will never take is dropped, and the next may go.
    pub(crate) async fn forwarded(
        &self,
        store: &impl Store,
        now: Monotonic,
        link: LinkId,
        words: &Forwarded,
    ) -> Result<Option<Domain>, StoreError> {
        let (domain, settled) = {
            let mut state = self.state();
            let Some((domain, peer)) = state.peer_of(link) else { return Ok(None) };
            let settled = peer.settle(now, words);
            if let Some(at) = peer.next_wake() {
                state.wake(at, &domain);
            }
            state.dropped = state.dropped.saturating_add(settled.refused.len() as u64);
            (domain, settled)
        };
        for refusal in words.refused.iter().filter(|refusal| refusal.retry_after_ms.is_some()) {
            tracing::warn!(peer = %domain, code = %refusal.code, "a peer does not take a forwarded item yet; it waits");
        }
        for code in &settled.refused {
            tracing::warn!(peer = %domain, %code, "a peer refused a forwarded item for good");
        }
        if !settled.rows.is_empty() {
            let command = command::Forwarded { peer: domain.clone(), rows: settled.rows };
            store.commit(Command::Forwarded(command)).await?;
            if let Some((_, peer)) = self.state().peer_of(link) {
                peer.release(&settled.numbers);
            }
        }
        Ok(Some(domain))
    }

    /// The link's queue has room again: the peer, if it is one we reached.
    pub(crate) fn drained(&self, link: LinkId) -> Option<Domain> {
        let mut state = self.state();
        let (domain, peer) = state.peer_of(link)?;
        peer.stalled = false;
        Some(domain)
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        self.state().wakes.first().map(|(at, _)| *at)
    }

    /// Does what is due: dials, ends what waited too long.
    pub(crate) fn timeout(&self, links: &impl Links, now: Monotonic) -> Due {
        let mut due = Due::default();
        let mut state = self.state();
        while let Some((at, domain)) = state.wakes.first().filter(|(at, _)| *at <= now).cloned() {
            state.wakes.remove(&(at, domain.clone()));
            let Some(peer) = state.peers.get_mut(&domain) else { continue };
            due.unanswered.extend(peer.overdue(now));
            if let Reach::Waiting(until) = peer.reach
                && until <= now
            {
                peer.reach = Reach::Dialling;
                links.dial(peer.address.clone());
            }
            due.ended.extend(peer.dead_link(now));
            if peer.unblock(now) {
                due.pump.push(domain.clone());
            }
            if let Some(next) = peer.next_wake().filter(|next| *next > now) {
                state.wake(next, &domain);
            }
        }
        due
    }

    // Items on their way in.

    /// Takes the numbers of a frame of items: they follow those before without a gap, or the link is out of step.
    pub(crate) fn accept(&self, link: LinkId, words: &Forward) -> Option<(u64, u64)> {
        self.state().inbound.entry(link).or_default().accept(words)
    }

    /// Notes the answer to accepted items and sends what can be answered, in order: while this room is locked, so that
    /// no later answer overtakes.
    pub(crate) fn settle(
        &self,
        link: LinkId,
        numbers: (u64, u64),
        refused: Vec<ForwardRefusal>,
        send: impl FnMut(Forwarded),
    ) {
        if let Some(inbound) = self.state().inbound.get_mut(&link) {
            inbound.settle(numbers, refused).into_iter().for_each(send);
        }
    }
}
