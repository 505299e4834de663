//! Rooms: the services of one relay, and what every flow needs of them together.
//! Owns: the rooms. Never: decides anything; flows do.

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{LinkId, RequestId};
use whimbrel_protocol::linking::LinkingOver;
use whimbrel_protocol::time::Now;
use whimbrel_storage::planted::{self, Bug};

use crate::config::Config;
use crate::federation::Federation;
use crate::figures::Figures;
use crate::friendship::Friendship;
use crate::hold::Hold;
use crate::linking::Linking;
use crate::ports::{Links, Ports};
use crate::presence::Presence;
use crate::publics::Publics;
use crate::push::Push;
use crate::rate::Limiter;
use crate::reception::{Reception, Stage};
use crate::refusal::Refusal;
use crate::sweep::Sweeper;
use crate::thread::Thread;
use crate::user::User;
use crate::wake::Wakes;

pub(crate) struct Rooms<P> {
    pub(crate) ports: P,
    pub(crate) config: Config,
    pub(crate) reception: Reception,
    pub(crate) user: User,
    pub(crate) friendship: Friendship,
    pub(crate) thread: Thread,
    pub(crate) push: Push,
    pub(crate) publics: Publics,
    pub(crate) hold: Hold,
    pub(crate) federation: Federation,
    pub(crate) presence: Presence,
    pub(crate) wakes: Wakes,
    pub(crate) limiter: Limiter,
    pub(crate) sweeper: Sweeper,
    pub(crate) figures: Figures,
    pub(crate) linking: Linking,
}

impl<P: Ports> Rooms<P> {
    pub(crate) fn new(ports: P, config: Config) -> Self {
        Self {
            reception: Reception::default(),
            user: User::new(config.domain.clone(), config.registration),
            friendship: Friendship::new(config.domain.clone(), config.log_bounds),
            thread: Thread::new(config.domain.clone(), config.log_bounds),
            push: Push::default(),
            publics: Publics::default(),
            hold: Hold::default(),
            federation: Federation::new(&config),
            presence: Presence::new(config.domain.clone()),
            wakes: Wakes::default(),
            limiter: Limiter::new(config.rates),
            sweeper: Sweeper::new(config.hold_age),
            figures: Figures::default(),
            linking: Linking::default(),
            ports,
            config,
        }
    }

    pub(crate) fn store(&self) -> &P::Store {
        self.ports.store()
    }

    pub(crate) fn links(&self) -> &P::Links {
        self.ports.links()
    }

    /// 16 bytes for an id that nothing else has.
    pub(crate) fn chosen(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.ports.chance(&mut bytes);
        if planted::active(Bug::ReuseLog) {
            bytes = [bytes.first().copied().unwrap_or_default(); 16];
        }
        bytes
    }

    fn jitter(&self) -> u64 {
        let mut bytes = [0; 8];
        self.ports.chance(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Sends an answer. A peer that lets its answers pile up loses the link, and with it nothing: whatever was
    /// promised is in the store.
    pub(crate) fn answer(&self, now: Now, link: LinkId, frame: impl Into<Frame>) {
        let frame = frame.into();
        if let Frame::Refused(refused) = &frame {
            self.figures.refused(refused.code);
        }
        if !self.reception.send(self.links(), link, frame) {
            tracing::debug!(?link, "too many answers wait; link closed");
            self.end(now, link);
        }
    }

    /// Answers a request with a refusal.
    pub(crate) fn refuse(&self, now: Now, link: LinkId, request: RequestId, refusal: Refusal) {
        self.answer(now, link, refusal.frame(Some(request)));
    }

    /// Says why, and ends the link.
    pub(crate) fn refuse_link(&self, now: Now, link: LinkId, refusal: Refusal) {
        self.figures.refused(refusal.code);
        self.reception.send(self.links(), link, refusal.frame(None));
        self.end(now, link);
    }

    /// Says why to somebody who has no session, and ends the link.
    pub(crate) fn turn_away(&self, link: LinkId, refusal: Refusal) {
        self.figures.refused(refusal.code);
        // A link that takes no frame is gone already.
        let _ = self.links().send(link, std::sync::Arc::new(refusal.frame(None)));
        self.links().close(link);
    }

    /// Ends a link; what is queued still leaves.
    pub(crate) fn end(&self, now: Now, link: LinkId) {
        self.links().close(link);
        self.gone(now, link);
    }

    /// Whoever a link met for a new device is told that nothing more comes of it; one that came for that alone goes.
    pub(crate) fn part(&self, now: Now, link: LinkId) {
        let Some((meeting, other)) = self.linking.leave(link) else { return };
        for one in other.into_iter().chain([link]) {
            self.answer(now, one, LinkingOver { meeting });
            if self.reception.is_linking(one) {
                self.end(now, one);
            }
        }
    }

    /// A link is gone, and its session with it; doing it twice does no harm.
    pub(crate) fn gone(&self, now: Now, link: LinkId) {
        self.part(now, link);
        match self.reception.lost(link) {
            Some(Stage::Device(_)) => {
                self.presence.leave(link, false);
                self.wakes.left(&self.push.detach(link));
            }
            Some(stage @ (Stage::PeerOut(_) | Stage::PeerIn(_))) => {
                match stage {
                    Stage::PeerIn(peer) => self.presence.peer_lost(now.monotonic, link, &peer),
                    Stage::PeerOut(peer) => self.presence.line_lost(now.monotonic, &peer),
                    _ => {}
                }
                for asked in self.federation.lost(now.monotonic, link, self.jitter()) {
                    self.refuse(now, asked.link, asked.request, Refusal::UNREACHABLE);
                }
            }
            _ => {}
        }
    }

    /// A peer refused us before it greeted: those who asked for it hear why.
    pub(crate) fn refused_by(&self, now: Now, link: LinkId, refusal: Refusal) {
        for asked in self.federation.refused(link) {
            self.refuse(now, asked.link, asked.request, refusal);
        }
        self.end(now, link);
    }

    /// A peer could not be reached.
    pub(crate) fn unreached(&self, now: Now, domain: &whimbrel_protocol::id::Domain) {
        for asked in self.federation.dial_failed(now.monotonic, domain, self.jitter()) {
            self.refuse(now, asked.link, asked.request, Refusal::UNREACHABLE);
        }
    }
}
