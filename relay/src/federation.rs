//! Federation: this relay and its peers. A relay speaks only for its own domain.
//! Owns: who a peer must be (pins), the outbound link to each peer with its queue position, requests passed on, the
//! numbering of what comes in.
//! Never: believes a peer about another domain's users, pins anew over a conflict, waits for a peer inside a request.
//! Limits: `limits::PEERS_MAX` and those of `peer`. Rules: docs/protocol/federation.md.

mod inbound;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_crypto::link::{self, Introducing};
use whimbrel_protocol::federation::{Forward, ForwardItem, ForwardRefusal, Forwarded, Introduction, PeerHello};
use whimbrel_protocol::id::{AccountId, Domain, LinkId, RelayId, RequestId, ThreadId};
use whimbrel_protocol::invite::is_endpoint;
use whimbrel_protocol::reception::Heartbeat;
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_protocol::user::RelayHint;
use whimbrel_protocol::{Frame, RefusalCode, VERSION, limits};

use self::inbound::Inbound;
pub(crate) use self::peer::{Asked, Known, Vouched, What};
use self::peer::{Peer, Reach};
use crate::admission::Stranger;
use crate::config::Config;
use crate::ports::{Links, PeerAddress};
use crate::refusal::Refusal;
use crate::store::command::{self, LogBounds, PinPeer};
use crate::store::{Command, Conflict, LogId, Outbound, OutboundKey, Outcome, Pin, PinnedBy, Store, StoreError};

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<Domain, Peer>,
    links: BTreeMap<LinkId, Domain>,
    inbound: BTreeMap<LinkId, Inbound>,
    /// At or before each moment a peer waits for.
    wakes: BTreeSet<(Monotonic, Domain)>,
    /// Rows given up since the start: refused for good, or pushed out of a full log.
    dropped: u64,
    /// Rows that peers took.
    taken: u64,
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
    endpoint: Option<String>,
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
    pub(crate) fn new(config: &Config) -> Self {
        let peer = |peer: &PeerAddress| (peer.domain.clone(), Peer::new(peer.clone(), Known::Static));
        let state = State { peers: config.peers.iter().map(peer).collect(), ..State::default() };
        let (domain, relay, endpoint) = (config.domain.clone(), config.relay, config.endpoint.clone());
        Self { domain, relay, endpoint, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows were given up since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// How many rows peers took since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.state().taken
    }

    // Who a peer is.

    /// What the operator says, as it is remembered.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (Domain, Pin)> {
        let pin = |(domain, peer): (&Domain, &Peer)| {
            let PeerAddress { endpoint, relay, .. } = peer.address.clone();
            (domain.clone(), Pin { relay, endpoint, by: PinnedBy::Operator })
        };
        let state = self.state();
        let configured = state.peers.iter().filter(|(_, peer)| peer.known == Known::Static).map(pin);
        configured.collect::<Vec<_>>().into_iter()
    }

    /// Takes over what was remembered of a peer; what the operator says comes first.
    pub(crate) fn remembered(&self, domain: Domain, pin: Pin) {
        let Pin { relay, endpoint, by } = pin;
        let mut state = self.state();
        match state.peers.get(&domain) {
            Some(known) if known.address.relay != relay => {
                tracing::warn!(peer = %domain, "the configured identity of a peer is not the remembered one");
            }
            Some(_) => {}
            // The operator took it out of the configuration: not talked to.
            None if by == PinnedBy::Operator => {}
            None => {
                let address = PeerAddress { domain: domain.clone(), endpoint, relay };
                state.peers.insert(domain, Peer::new(address, Known::Linked));
            }
        }
    }

    /// Whether a domain's relay is known, so that something can be forwarded to it.
    pub(crate) fn knows(&self, domain: &Domain) -> bool {
        self.state().peers.contains_key(domain)
    }

    /// Whether a domain's names mean something here: only the operator's word makes them. Whoever is known by a link
    /// may have claimed the domain first, and serves account ids alone, which prove themselves.
    pub(crate) fn has_names(&self, domain: &Domain) -> bool {
        self.state().peers.get(domain).is_some_and(|peer| peer.known == Known::Static)
    }

    /// Makes sure that a domain's relay is known, if need be from an invite link that an own user follows. A hint never
    /// changes what is known; the invite may be shown to the other relay, which need not know us.
    pub(crate) fn resolve(
        &self,
        domain: &Domain,
        hint: Option<RelayHint>,
        by: AccountId,
        vouched: Option<Vouched>,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        let hint = hint.filter(|hint| hint.domain == *domain);
        match (state.peers.get_mut(domain), hint) {
            (Some(peer), Some(hint)) if peer.address.relay != hint.relay => {
                tracing::warn!(peer = %domain, "an invite link names another identity for a known relay; refused");
                Err(Refusal::last(RefusalCode::PeerUntrusted))
            }
            (Some(peer), Some(_)) => {
                peer.vouched = vouched.or(peer.vouched.take());
                Ok(())
            }
            (Some(_), None) => Ok(()),
            (None, Some(hint)) if hint.relay != self.relay && *domain != self.domain => {
                let same = state.peers.values().filter(|peer| peer.known == Known::Hinted(by)).count();
                if state.peers.len() >= limits::PEERS_MAX || same >= limits::PEERS_PER_ACCOUNT_MAX {
                    return Err(Refusal::last(RefusalCode::TooLarge));
                }
                let RelayHint { domain, endpoint, relay, .. } = hint;
                let address = PeerAddress { domain: domain.clone(), endpoint, relay };
                let mut peer = Peer::new(address, Known::Hinted(by));
                peer.vouched = vouched;
                state.peers.insert(domain, peer);
                Ok(())
            }
            (None, _) => Err(Refusal::last(RefusalCode::PeerUntrusted)),
        }
    }

    /// Whether this is the identity a domain must show. Only what the operator says or what is remembered counts.
    pub(crate) fn is_pinned(&self, domain: &Domain, relay: RelayId) -> bool {
        let state = self.state();
        let pinned = |peer: &&Peer| !matches!(peer.known, Known::Hinted(_)) && peer.address.relay == relay;
        state.peers.get(domain).filter(pinned).is_some()
    }

    /// Whether a peer that is known by a link says that it is reached elsewhere now.
    pub(crate) fn has_moved(&self, domain: &Domain, introduction: Option<&Introduction>) -> bool {
        let state = self.state();
        let known = state.peers.get(domain).filter(|peer| peer.known == Known::Linked);
        known.zip(introduction).is_some_and(|(peer, introduction)| peer.address.endpoint != introduction.endpoint)
    }

    /// Remembers a hinted peer that has now answered under its identity. A refusal: something else is remembered, or
    /// there are too many.
    pub(crate) async fn pin(&self, store: &impl Store, at: Wall, domain: &Domain) -> Result<(), Refusal> {
        let hinted = match self.state().peers.get(domain) {
            Some(Peer { known: Known::Hinted(by), address, .. }) => Some((*by, address.clone())),
            _ => None,
        };
        let Some((by, PeerAddress { relay, endpoint, .. })) = hinted else { return Ok(()) };
        let pin = Pin { relay, endpoint, by: PinnedBy::Hint(by) };
        self.keep(store, PinPeer { peer: domain.clone(), pin, invite: None, at }).await?;
        if let Some(peer) = self.state().peers.get_mut(domain).filter(|peer| peer.address.relay == relay) {
            peer.known = Known::Linked;
        }
        Ok(())
    }

    /// A relay that is not known here shows that an own user's invite led it here: it is remembered under the identity
    /// TLS proved. Never in the place of another; gives the requests that waited for whoever was hinted at under the
    /// same name and has not answered yet.
    pub(crate) async fn introduce(
        &self,
        store: &impl Store,
        at: Wall,
        stranger: &Stranger,
        introduction: Introduction,
    ) -> Result<Vec<Asked>, Refusal> {
        let Stranger { relay, domain, exporter } = stranger;
        let Introduction { owner, endpoint, proof } = introduction;
        let untrusted = Refusal::last(RefusalCode::PeerUntrusted);
        if *relay == self.relay || *domain == self.domain || !is_endpoint(&endpoint) {
            return Err(untrusted);
        }
        let another = |peer: &Peer| !matches!(peer.known, Known::Hinted(_)) && peer.address.relay != *relay;
        if self.state().peers.get(domain).is_some_and(another) {
            tracing::warn!(peer = %domain, "a relay introduces itself under a name that is known to be another's");
            return Err(untrusted);
        }
        let (from, to) = ((domain, *relay), (&self.domain, self.relay));
        let what = Introducing { owner, endpoint: &endpoint, from, to, exporter: *exporter };
        let live = store.live_invites(owner, at).await.map_err(Refusal::from)?;
        // An account that is not here and an invite that is not live look alike.
        let invite = live.into_iter().find(|token| link::verify_introduction(token, &what, &proof));
        let invite = Some(invite.ok_or(untrusted)?);
        let pin = Pin { relay: *relay, endpoint: endpoint.clone(), by: PinnedBy::Introduction(owner) };
        self.keep(store, PinPeer { peer: domain.clone(), pin, invite, at }).await?;
        tracing::info!(peer = %domain, "a relay was introduced by an invite");
        let mut state = self.state();
        let address = PeerAddress { domain: domain.clone(), endpoint, relay: *relay };
        match state.peers.get_mut(domain) {
            Some(peer) if peer.address.relay == *relay => {
                peer.known = Known::Linked;
                peer.address = address;
                Ok(Vec::new())
            }
            other => {
                // What a link said of that name was somebody else's; nobody has answered under it.
                let lost = other.map_or_else(Vec::new, Peer::take_requests);
                state.peers.insert(domain.clone(), Peer::new(address, Known::Linked));
                Ok(lost)
            }
        }
    }

    async fn keep(&self, store: &impl Store, pin: PinPeer) -> Result<(), Refusal> {
        let domain = pin.peer.clone();
        match store.commit(Command::PinPeer(pin)).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict(conflict)) => {
                tracing::warn!(peer = %domain, %conflict, "a relay is not remembered; refused");
                Err(match conflict {
                    Conflict::TooMany(_) => Refusal::last(RefusalCode::TooLarge),
                    _ => Refusal::last(RefusalCode::PeerUntrusted),
                })
            }
            Err(error) => Err(error.into()),
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

    /// The first frame on a link to a peer we reached: with an introduction, when somebody's invite led us there.
    pub(crate) fn hello(&self, to: &Domain, exporter: [u8; 32]) -> Frame {
        let state = self.state();
        let peer = state.peers.get(to).and_then(|peer| peer.vouched.map(|vouched| (vouched, peer.address.relay)));
        let introduction = peer.zip(self.endpoint.as_ref()).map(|((Vouched { owner, token }, relay), endpoint)| {
            let (from, to) = ((&self.domain, self.relay), (to, relay));
            let what = Introducing { owner, endpoint, from, to, exporter };
            Introduction { owner, endpoint: endpoint.clone(), proof: link::introduce(&token, &what) }
        });
        PeerHello { version: VERSION, domain: self.domain.clone(), to: to.clone(), introduction }.into()
    }

    /// The answer to a peer's hello.
    pub(crate) fn hello_back(&self, to: &Domain) -> Frame {
        PeerHello { version: VERSION, domain: self.domain.clone(), to: to.clone(), introduction: None }.into()
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

    /// Says on the link to a peer that this relay is there, and expects an answer. Without a link there is nothing to keep.
    pub(crate) fn beat(&self, links: &impl Links, now: Monotonic, domain: &Domain) {
        let mut state = self.state();
        let Some(peer) = state.peers.get_mut(domain) else { return };
        let Reach::Up(link) = peer.reach else { return };
        if links.send(link, Arc::new(Heartbeat::default().into())).is_ok() {
            let until = peer.beat(now);
            state.wake(until, domain);
        }
    }

    /// The answer to that.
    pub(crate) fn beaten(&self, link: LinkId) {
        if let Some((_, peer)) = self.state().peer_of(link) {
            peer.beaten();
        }
    }

    /// A peer refused us: gives the requests that will have no other answer. Its link is still to be ended.
    pub(crate) fn refused(&self, link: LinkId) -> Vec<Asked> {
        self.state().peer_of(link).map_or_else(Vec::new, |(_, peer)| {
            // What was shown did not convince it.
            peer.vouched = None;
            peer.take_requests()
        })
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
        let forget = matches!(peer.known, Known::Hinted(_)) && again.is_none();
        if let Some(at) = again {
            state.wake(at, domain);
        }
        if forget {
            // Nobody ever answered under that identity: another invite link may know better.
            state.peers.remove(domain);
        }
        lost
    }

    /// The link on which a peer is spoken to, if it stands.
    pub(crate) fn line_to(&self, domain: &Domain) -> Option<LinkId> {
        match self.state().peers.get(domain)?.reach {
            Reach::Up(link) => Some(link),
            _ => None,
        }
    }

    /// Reaches a peer, if nobody does yet; `greeted` follows.
    pub(crate) fn reach(&self, links: &impl Links, domain: &Domain) {
        if let Some(peer) = self.state().peers.get_mut(domain)
            && peer.want()
        {
            links.dial(peer.address.clone());
        }
    }

    /// A peer came in by itself: it can be reached again, and what waits for it need not wait for the end of its delay.
    pub(crate) fn came_in(&self, links: &impl Links, now: Monotonic, domain: &Domain) {
        if let Some(peer) = self.state().peers.get_mut(domain)
            && matches!(peer.reach, Reach::Waiting(_))
            && peer.want_now(now) == Some(true)
        {
            links.dial(peer.address.clone());
        }
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

    /// A user of this relay has parted with somebody: an invite of theirs that is being taken up gives no consent any more.
    pub(crate) fn parted(&self, by: AccountId, other: AccountId) {
        self.state().peers.values_mut().for_each(|peer| peer.parted(by, other));
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
                // Their authors were told when the entries went.
                let (peer, refused, bounds) = (domain.clone(), Vec::new(), LogBounds::default());
                let command =
                    command::Forwarded { peer, rows, refused, unknown: Vec::new(), at: Wall::default(), bounds };
                store.commit(Command::Forwarded(command)).await?;
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
            let answered = peer.heard();
            if links.send(link, Arc::new(Forward { items, answered }.into())).is_err() {
                // Until the queue has room, or another link stands.
                peer.unsent(first);
                peer.stalled = true;
                return Ok(Vec::new());
            }
            wakes.extend(peer.sent(now).map(|at| (at, domain.clone())));
        }
        peer.advance(last);
        *dropped = dropped.saturating_add(gone.len() as u64);
        Ok(gone)
    }

    /// Takes up the reading of rows for a peer: from where, and how many at most.
    fn begin(&self, domain: &Domain) -> Option<(Option<OutboundKey>, usize)> {
        self.state().peers.get_mut(domain)?.begin()
    }

    /// A peer answered for items: what it has is dropped, and so is what it will never take, once its author's inbox says
    /// so; the next may go. Gives the peer, and the inboxes that got a notice.
    pub(crate) async fn forwarded(
        &self,
        store: &impl Store,
        (now, bounds): (Now, LogBounds),
        link: LinkId,
        words: &Forwarded,
    ) -> Result<Option<(Domain, Vec<LogId>)>, StoreError> {
        let at = now.wall;
        let now = now.monotonic;
        let (domain, settled) = {
            let mut state = self.state();
            let Some((domain, peer)) = state.peer_of(link) else { return Ok(None) };
            let settled = peer.settle(now, words);
            if let Some(at) = peer.next_wake() {
                state.wake(at, &domain);
            }
            state.dropped = state.dropped.saturating_add(settled.refused.len() as u64);
            state.taken = state.taken.saturating_add(settled.rows.len() as u64);
            (domain, settled)
        };
        for refusal in words.refused.iter().filter(|refusal| refusal.retry_after_ms.is_some()) {
            tracing::warn!(peer = %domain, code = %refusal.code, "a peer does not take a forwarded item yet; it waits");
        }
        for (_, code) in &settled.refused {
            tracing::warn!(peer = %domain, %code, "a peer refused a forwarded item for good; its author is told");
        }
        let peer::Settled { numbers, rows, refused, unknown } = settled;
        if numbers.is_empty() {
            return Ok(Some((domain, Vec::new())));
        }
        let waiting = unknown.clone();
        let command = command::Forwarded { peer: domain.clone(), rows, refused, unknown, at, bounds };
        let Outcome::Forwarded { inboxes, kept } = store.commit(Command::Forwarded(command)).await? else {
            return Ok(Some((domain, Vec::new())));
        };
        let mut state = self.state();
        if let Some((_, peer)) = state.peer_of(link) {
            peer.release(&numbers);
            let mut wake = None;
            for row in &kept {
                let until = if waiting.contains(row) {
                    now.plus(limits::UNKNOWN_THREAD_RETRY_AFTER)
                } else {
                    tracing::warn!(peer = %domain, "an author's inbox has no room for a notice; the refused item stays");
                    now.plus(limits::FULL_RETRY_AFTER)
                };
                peer.keep(*row, until);
                wake = Some(wake.map_or(until, |wake: Monotonic| wake.max(until)));
            }
            if let Some(until) = wake {
                state.wake(until, &domain);
            }
        }
        Ok(Some((domain, inboxes)))
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

    /// Whether a thread waits on a link, and why.
    pub(crate) fn waits(&self, link: LinkId, thread: ThreadId) -> Option<Refusal> {
        self.state().inbound.get(&link)?.waits(thread)
    }

    /// An item of a thread is refused for now: what follows in it waits until the peer has heard.
    pub(crate) fn wait(&self, link: LinkId, thread: ThreadId, number: u64, refusal: Refusal) {
        if let Some(inbound) = self.state().inbound.get_mut(&link) {
            inbound.wait(thread, number, refusal);
        }
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
