//! Relay: what a runtime drives. Dispatch only: the stage of a link and the kind of a frame choose the flow.
//! Never: decides, waits for anything but the store, keeps anything but its rooms.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_protocol::id::{DeviceId, Domain, LinkId, RequestId};
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_protocol::{Frame, RefusalCode, limits};

use crate::admission::Admission;
use crate::config::{Config, ConfigError};
use crate::figures::Counts;
use crate::flow::{
    admit, appear, ask, befriend, commit, deliver, federate, link, log, own, sibling, signal, submit, tree, wake,
};
use crate::ports::{LinkPeer, Ports};
use crate::reception::Stage;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::command::PinPeer;
use crate::store::{Command, Pin, Store, StoreError};

/// Why a relay does not open.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One relay; share it in an `Arc`. How it is driven: [`crate::ports`].
pub struct Relay<P: Ports> {
    rooms: Rooms<P>,
}

impl<P: Ports> std::fmt::Debug for Relay<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("domain", &self.rooms.config.domain).finish_non_exhaustive()
    }
}

impl<P: Ports> Relay<P> {
    /// Builds the rooms from the store. Peers with waiting rows are dialled at the first timeout.
    ///
    /// # Errors
    /// The configuration contradicts itself, or the store cannot be read.
    pub async fn open(ports: P, config: Config, now: Now) -> Result<Self, OpenError> {
        config.check()?;
        let rooms = Rooms::new(ports, config);
        let mut after = None;
        // What the operator says is remembered like the rest: it replaces what links said, and stays a bar to anybody
        // else under that name when the entry is gone.
        let mut news: BTreeMap<Domain, Pin> = rooms.federation.configured().collect();
        loop {
            let page = rooms.store().pins(after, limits::THREAD_PAGE_MAX).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (domain, pin) in page {
                if news.get(&domain) == Some(&pin) {
                    news.remove(&domain);
                }
                rooms.federation.remembered(domain, pin);
            }
        }
        if !news.is_empty() {
            let pin = |(peer, pin)| Command::PinPeer(PinPeer { peer, pin, invite: None, at: now.wall });
            match rooms.store().commit_all(news.into_iter().map(pin).collect()).await {
                Ok(_) => {}
                Err(StoreError::Full) => tracing::warn!("the store is full; configured peers are not remembered"),
                Err(error) => return Err(error.into()),
            }
        }
        let mut after = None;
        loop {
            let page = rooms.store().waiting_peers(after, limits::THREAD_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for domain in page {
                if !rooms.federation.knows(&domain) {
                    tracing::warn!(peer = %domain, "rows wait for a peer that is not known any more");
                }
                rooms.federation.waiting(now.monotonic, &domain);
            }
        }
        rooms.sweeper.begin(now.monotonic);
        Ok(Self { rooms })
    }

    /// The ports handed in.
    pub const fn ports(&self) -> &P {
        &self.rooms.ports
    }

    /// What the operator chose.
    pub const fn config(&self) -> &Config {
        &self.rooms.config
    }

    /// Forwarded rows given up since the start: refused for good by their peer, or pushed out of a full log.
    pub fn forwards_dropped(&self) -> u64 {
        self.rooms.federation.dropped()
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.rooms.figures.counts(self.rooms.push.pushed_entries(), self.rooms.federation.taken())
    }

    /// Takes of the share of a network for a link that is not made yet, before anything is spent on its proof. The link is
    /// told as one that is counted.
    ///
    /// # Errors
    /// The share is used up: how long until there is more.
    pub fn arrive(&self, now: Now, source: u64) -> Result<(), Duration> {
        admit::arrive(&self.rooms, now, source)
    }

    /// A link stands.
    pub async fn link_up(&self, now: Now, link: LinkId, peer: LinkPeer) {
        admit::link_up(&self.rooms, now, link, peer);
    }

    /// A frame came in. `now` is when it arrived.
    ///
    /// What comes all the time is served in the future itself; whatever else comes has a box of its own. A future is as
    /// large as the largest thing it may wait for, and a driver makes and moves one for each frame.
    pub async fn handle(&self, now: Now, link: LinkId, frame: Frame) {
        let rooms = &self.rooms;
        let Some(stage) = rooms.reception.heard(now.monotonic, link) else { return };
        match (stage, frame) {
            (Stage::Device(from), Frame::Submit(words)) => submit::submit(rooms, now, link, from, words).await,
            (Stage::Device(from), Frame::Acknowledge(words)) => {
                deliver::acknowledge(rooms, now, link, from, words).await;
            }
            (Stage::Device(from), Frame::Heartbeat(words)) => ask::heartbeat(rooms, now, link, from, words).await,
            (stage, frame) => Box::pin(self.handle_rest(now, link, stage, frame)).await,
        }
    }

    async fn handle_rest(&self, now: Now, link: LinkId, stage: Stage, frame: Frame) {
        let rooms = &self.rooms;
        match (stage, frame) {
            (Stage::Device(from), frame) => self.handle_device(now, link, from, frame).await,
            (Stage::Node(proved), Frame::Hello(words)) => admit::hello(rooms, now, link, proved, words).await,
            (Stage::Node(proved), Frame::Register(words)) => admit::register(rooms, now, link, proved, words).await,
            (Stage::Node(_), Frame::OfferLinking(words)) => link::offer(rooms, now, link, &words),
            (Stage::Linking, Frame::LinkingWords(words)) => link::pass(rooms, now, link, words),
            (Stage::Linking, Frame::LinkingOver(_)) => link::over(rooms, now, link),
            (Stage::Node(proved), Frame::Recover(words)) => log::recover(rooms, now, link, proved, words).await,
            (Stage::Node(proved), Frame::ExtendLog(words)) => log::extend_first(rooms, now, link, proved, words).await,
            (Stage::Stranger(stranger), Frame::PeerHello(words)) => {
                admit::vet(rooms, now, link, stranger, words).await;
            }
            (Stage::PeerIn(peer), frame) => self.handle_inbound(now, link, peer, frame).await,
            (Stage::PeerOut(peer), frame) => self.handle_outbound(now, link, peer, frame).await,
            (Stage::Node(_) | Stage::Proving(_) | Stage::Linking | Stage::Stranger(_) | Stage::Vetting, _) => {
                rooms.refuse_link(now, link, Refusal::last(RefusalCode::Unexpected));
            }
        }
    }

    async fn handle_device(&self, now: Now, link: LinkId, from: Admission, frame: Frame) {
        let rooms = &self.rooms;
        let free = matches!(frame, Frame::KeepStamp(_)) && rooms.reception.first_stamp(link);
        if let Some(request) = request_of(&frame).filter(|_| !free)
            && let Err(refusal) = rooms.limiter.request(now.monotonic, from.device.account)
        {
            return rooms.refuse(now, link, request, refusal);
        }
        match frame {
            Frame::OpenThread(words) => submit::open(rooms, now, link, from, words).await,
            Frame::SubmitCommit(words) => commit::submit(rooms, now, link, from, words).await,
            Frame::FetchCommit(words) => commit::fetch(rooms, now, link, from, words).await,
            Frame::LookUp(words) => ask::look_up(rooms, now, link, from, words).await,
            Frame::ClaimKeyPackages(words) => ask::claim(rooms, now, link, from, words).await,
            Frame::StockKeyPackages(words) => ask::stock(rooms, now, link, from, words).await,
            Frame::NewInvite(words) => ask::invite(rooms, now, link, from, words).await,
            Frame::TagThread(words) => ask::tag(rooms, now, link, from, words).await,
            Frame::ListThreads(words) => ask::list(rooms, now, link, from, words).await,
            Frame::FetchBlob(words) => ask::blob(rooms, now, link, from, words).await,
            Frame::SetThread(words) => ask::set_thread(rooms, now, link, from, words).await,
            Frame::Goodbye(_) => appear::goodbye(rooms, link),
            Frame::SetVisible(words) => own::set_visible(rooms, now, link, from, words).await,
            Frame::Befriend(words) => befriend::befriend(rooms, now, link, from, words).await,
            Frame::Decline(words) => befriend::decline(rooms, now, link, from, words).await,
            Frame::Block(words) => befriend::block(rooms, now, link, from, words).await,
            Frame::LetSee(words) => befriend::let_see(rooms, now, link, from, words).await,
            Frame::ListFriends(words) => befriend::list(rooms, now, link, from, words).await,
            Frame::JoinLinking(words) => link::join(rooms, now, link, &words),
            Frame::TellSibling(words) => sibling::pass(rooms, now, link, from, words),
            Frame::Signal(words) => signal::pass(rooms, now, link, from, words).await,
            Frame::LinkingWords(words) => link::pass(rooms, now, link, words),
            Frame::LinkingOver(_) => link::over(rooms, now, link),
            Frame::ExtendLog(words) => log::extend(rooms, now, link, from, words).await,
            Frame::KeepStamp(words) => own::keep_stamp(rooms, now, link, from, words).await,
            Frame::FetchTreeHead(words) => tree::fetch(rooms, now, link, from, words).await,
            Frame::SetProfile(words) => own::set_profile(rooms, now, link, from, words).await,
            Frame::FetchProfile(words) => own::profile(rooms, now, link, from, words).await,
            Frame::ListInvites(words) => own::invites(rooms, now, link, from, words).await,
            Frame::RevokeInvite(words) => own::revoke(rooms, now, link, from, words).await,
            Frame::ExportOwn(words) => own::export(rooms, now, link, from, words).await,
            Frame::DeleteAccount(words) => own::delete(rooms, now, link, from, words).await,
            Frame::SetWake(words) => own::set_wake(rooms, now, link, from, words).await,
            Frame::ConfirmWake(words) => own::confirm_wake(rooms, now, link, from, words).await,
            frame => self.unexpected(now, link, &frame),
        }
    }

    async fn handle_inbound(&self, now: Now, link: LinkId, peer: Domain, frame: Frame) {
        let rooms = &self.rooms;
        if let Some(request) = request_of(&frame)
            && let Err(refusal) = rooms.limiter.peer_request(now.monotonic, &peer)
        {
            return rooms.refuse(now, link, request, refusal);
        }
        if matches!(frame, Frame::Heartbeat(_) | Frame::PeerPresence(_))
            && let Err(refusal) = rooms.limiter.peer_sign(now.monotonic, &peer)
        {
            // They have no number to be refused by. What its users' friends see then ends as with every link (presence 8).
            return rooms.refuse_link(now, link, refusal);
        }
        match frame {
            Frame::Forward(words) => federate::receive(rooms, now, link, peer, words).await,
            Frame::LookUp(words) => ask::look_up_for(rooms, now, link, &peer, words).await,
            Frame::FetchTreeHead(words) => tree::fetch_for(rooms, now, link, words).await,
            Frame::PeerClaim(words) => ask::claim_here(rooms, now, link, peer, words).await,
            Frame::PeerBefriend(words) => befriend::befriend_here(rooms, now, link, peer, words).await,
            Frame::PeerProfile(words) => own::profile_for(rooms, now, link, &peer, words).await,
            Frame::PeerCommit(words) => commit::submit_for(rooms, now, link, peer, words).await,
            Frame::PeerPresence(words) => appear::told(rooms, link, &peer, words),
            Frame::Signal(words) => signal::pass_here(rooms, now, peer, words).await,
            Frame::LogGrown(words) => log::grown(rooms, now, peer, words).await,
            Frame::Heartbeat(_) => appear::kept(rooms, now, link),
            frame => self.unexpected(now, link, &frame),
        }
    }

    async fn handle_outbound(&self, now: Now, link: LinkId, peer: Domain, frame: Frame) {
        let rooms = &self.rooms;
        match frame {
            Frame::Forwarded(words) => federate::forwarded(rooms, now, link, words).await,
            Frame::Done(words) => befriend::passed_on(rooms, now, link, words),
            Frame::CommitTaken(words) => commit::taken(rooms, now, link, words),
            Frame::CommitLost(words) => commit::lost(rooms, now, link, words),
            Frame::Profile(words) => own::profiled(rooms, now, link, words),
            Frame::LookedUp(words) => ask::looked_up(rooms, now, link, &peer, words),
            Frame::TreeHead(words) => tree::fetched(rooms, now, link, words),
            Frame::ClaimedKeyPackages(words) => ask::claimed(rooms, now, link, peer, words).await,
            Frame::Refused(words) => ask::refused(rooms, now, link, &peer, words),
            Frame::PeerHello(words) => admit::greeted(rooms, now, link, peer, words).await,
            Frame::HeartbeatAnswer(_) => rooms.federation.beaten(link),
            frame => self.unexpected(now, link, &frame),
        }
    }

    /// A frame of an unknown kind is a newer peer's and does no harm; a known one in the wrong place is a fault.
    fn unexpected(&self, now: Now, link: LinkId, frame: &Frame) {
        match (frame, request_of(frame)) {
            (Frame::Unknown(_), _) => {
                self.rooms.answer(now, link, Refusal::last(RefusalCode::UnknownKind).frame(None));
            }
            (_, Some(request)) => self.rooms.refuse(now, link, request, Refusal::last(RefusalCode::Unexpected)),
            (_, None) => self.rooms.refuse_link(now, link, Refusal::last(RefusalCode::Unexpected)),
        }
    }

    /// A frame could not be read: its sender is at fault.
    pub fn malformed(&self, now: Now, link: LinkId) {
        if self.rooms.reception.heard(now.monotonic, link).is_some() {
            self.rooms.refuse_link(now, link, Refusal::last(RefusalCode::Malformed));
        }
    }

    /// A link whose queue was full has room again.
    pub async fn link_drained(&self, now: Now, link: LinkId) {
        let rooms = &self.rooms;
        if !rooms.reception.drained(rooms.links(), link) {
            return;
        }
        for log in rooms.push.drained(rooms.links(), link) {
            deliver::advance(rooms, link, log).await;
        }
        if let Some(peer) = rooms.federation.drained(link) {
            federate::pump(rooms, now, &peer).await;
        }
    }

    /// A link is gone. To be called once for every link that came up, whoever ended it.
    pub fn link_lost(&self, now: Now, link: LinkId) {
        self.rooms.gone(now, link);
    }

    /// A peer relay could not be reached: the answer to `Links::dial` when no link came of it.
    pub fn dial_failed(&self, now: Now, domain: &Domain, reason: &str) {
        tracing::info!(peer = %domain, "a peer relay could not be reached");
        tracing::debug!(peer = %domain, reason, "why");
        self.rooms.unreached(now, domain);
    }

    /// A push service said that an endpoint is gone for good.
    pub async fn wake_ended(&self, now: Now, device: DeviceId, endpoint: &WakeEndpoint) {
        wake::ended(&self.rooms, now, device, endpoint).await;
    }

    /// When [`Relay::timeout`] wants to be called next. Ask again after every other call.
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let rooms = &self.rooms;
        let wakes = [
            rooms.reception.next_wake(),
            rooms.federation.next_wake(),
            rooms.hold.next_wake(),
            rooms.presence.next_wake(),
            rooms.wakes.next_wake(),
            rooms.sweeper.next_wake(),
        ];
        wakes.into_iter().flatten().min()
    }

    /// The time has come: silent links end, peers are dialled, waits are over, cursors are written.
    pub async fn timeout(&self, now: Now) {
        let rooms = &self.rooms;
        for link in rooms.reception.silent(now.monotonic) {
            tracing::debug!(?link, "silent for too long; closed");
            rooms.end(now, link);
        }
        let due = rooms.federation.timeout(rooms.links(), now.monotonic);
        for asked in due.unanswered {
            rooms.refuse(now, asked.link, asked.request, Refusal::UNREACHABLE);
        }
        for link in due.ended {
            rooms.end(now, link);
        }
        for peer in due.pump {
            federate::pump(rooms, now, &peer).await;
        }
        if let Err(error) = rooms.hold.timeout(rooms.store(), now.monotonic).await {
            tracing::error!(%error, "cursors could not be written");
        }
        appear::tell(rooms, now);
        appear::keep(rooms, now);
        wake::timeout(rooms, now).await;
        let here = (&rooms.config.domain, rooms.config.log_bounds);
        match rooms.sweeper.timeout(rooms.store(), now, here).await {
            Ok(inboxes) => deliver::notices(rooms, now, &inboxes).await,
            Err(error) => tracing::error!(%error, "what waited too long could not be looked for"),
        }
    }

    /// Writes what is written behind: before a clean stop, which then redelivers nothing.
    ///
    /// # Errors
    /// The store failed; what was not written is delivered again.
    pub async fn flush(&self, now: Now) -> Result<(), StoreError> {
        self.rooms.hold.write(self.rooms.store(), now.monotonic).await
    }
}

/// The number of a frame that asks for something.
const fn request_of(frame: &Frame) -> Option<RequestId> {
    Some(match frame {
        Frame::Register(words) => words.request,
        Frame::LookUp(words) => words.request,
        Frame::StockKeyPackages(words) => words.request,
        Frame::ClaimKeyPackages(words) => words.request,
        Frame::NewInvite(words) => words.request,
        Frame::OpenThread(words) => words.request,
        Frame::Submit(words) => words.request,
        Frame::TagThread(words) => words.request,
        Frame::ListThreads(words) => words.request,
        Frame::FetchBlob(words) => words.request,
        Frame::PeerClaim(words) => words.request,
        Frame::PeerBefriend(words) => words.request,
        Frame::PeerProfile(words) => words.request,
        Frame::PeerCommit(words) => words.request,
        Frame::SubmitCommit(words) => words.request,
        Frame::FetchCommit(words) => words.request,
        Frame::SetThread(words) => words.request,
        Frame::SetVisible(words) => words.request,
        Frame::Befriend(words) => words.request,
        Frame::Decline(words) => words.request,
        Frame::Block(words) => words.request,
        Frame::LetSee(words) => words.request,
        Frame::ListFriends(words) => words.request,
        Frame::ExtendLog(words) => words.request,
        Frame::Recover(words) => words.request,
        Frame::FetchTreeHead(words) => words.request,
        Frame::KeepStamp(words) => words.request,
        Frame::OfferLinking(words) => words.request,
        Frame::JoinLinking(words) => words.request,
        Frame::TellSibling(words) => words.request,
        Frame::SetProfile(words) => words.request,
        Frame::FetchProfile(words) => words.request,
        Frame::ListInvites(words) => words.request,
        Frame::RevokeInvite(words) => words.request,
        Frame::ExportOwn(words) => words.request,
        Frame::DeleteAccount(words) => words.request,
        Frame::SetWake(words) => words.request,
        Frame::ConfirmWake(words) => words.request,
        _ => return None,
    })
}
