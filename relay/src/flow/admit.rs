//! Admit: from a link whose handshake is done to a device or peer that is served.
//! The trip: reception (stage), user or federation (who is it), push (attach), resume.
//! Rules: docs/protocol/reception.md, federation.md "Greeting".

use std::time::Duration;

use whimbrel_protocol::federation::PeerHello;
use whimbrel_protocol::id::{AccountId, Domain, LinkId};
use whimbrel_protocol::reception::{Admitted, Hello, Register, Registered};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::user::OwnLog;
use whimbrel_protocol::{RefusalCode, limits};
use whimbrel_storage::planted::{self, Bug};

use super::{appear, federate, resume};
use crate::admission::Stranger;
use crate::ports::{LinkPeer, Links, Ports};
use crate::reception::{self, Proved, Stage};
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::Store;

/// Somebody of that network is about to prove a key to whoever drives the relay. Refused: after how long it passes.
pub(crate) fn arrive<P: Ports>(rooms: &Rooms<P>, now: Now, source: u64) -> Result<(), Duration> {
    rooms.limiter.arrival(now.monotonic, source).map_err(|refusal| {
        rooms.figures.refused(refusal.code);
        refusal.retry_after.unwrap_or(limits::BUSY_RETRY_AFTER)
    })
}

/// A link stands: its first frame is awaited, or, when we dialled, sent.
pub(crate) fn link_up<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: LinkPeer) {
    match peer {
        LinkPeer::Node { transport, exporter, source, door, counted } => {
            if !counted && let Err(refusal) = rooms.limiter.arrival(now.monotonic, source) {
                return rooms.turn_away(link, refusal);
            }
            rooms.reception.link_up(now.monotonic, link, Stage::Node(Proved { transport, exporter, source, door }));
        }
        LinkPeer::Relay { relay, domain, dialled: false, exporter, source } => {
            // Anybody can make a certificate for any domain: until it is vetted, it is a stranger like a node.
            if let Err(refusal) = rooms.limiter.arrival(now.monotonic, source) {
                return rooms.turn_away(link, refusal);
            }
            rooms.reception.link_up(now.monotonic, link, Stage::Stranger(Stranger { relay, domain, exporter }));
        }
        LinkPeer::Relay { relay, domain, dialled: true, exporter, .. } => {
            if rooms.federation.reached(now.monotonic, link, &domain, relay) {
                rooms.reception.link_up(now.monotonic, link, Stage::PeerOut(domain.clone()));
                rooms.answer(now, link, rooms.federation.hello(&domain, exporter));
            } else {
                tracing::warn!(peer = %domain, "reached a relay that is not the one meant");
                rooms.links().close(link);
                rooms.unreached(now, &domain);
            }
        }
    }
}

/// Takes an account in. The device goes on with a hello on the same link.
pub(crate) async fn register<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, proved: Proved, words: Register) {
    // A whole log is to be verified, whatever comes of it, and a link may ask again.
    if let Err(refusal) = rooms.limiter.arrival(now.monotonic, proved.source) {
        return rooms.refuse(now, link, words.request, refusal);
    }
    if !rooms.reception.advance(link, Stage::Proving(proved)) {
        return;
    }
    let log = match reception::verify_register(&words, &proved) {
        Ok(log) => log,
        Err(code) => {
            rooms.refuse(now, link, words.request, Refusal::last(code));
            return rooms.end(now, link);
        }
    };
    let entering = (now.wall, words.invite);
    match rooms.user.register(rooms.store(), words.name, &log, entering, || rooms.chosen()).await {
        Ok(address) => {
            if rooms.reception.registered(now.monotonic, link, proved) {
                tracing::info!("an account was registered");
                rooms.answer(now, link, Registered { request: words.request, address });
            }
        }
        Err(refusal) => {
            // Another name may pass, in the time that is left.
            rooms.reception.advance(link, Stage::Node(proved));
            rooms.refuse(now, link, words.request, refusal);
        }
    }
}

/// Admits a device and lets it catch up.
pub(crate) async fn hello<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, proved: Proved, words: Hello) {
    if !rooms.reception.advance(link, Stage::Proving(proved)) {
        return;
    }
    let version = match whimbrel_protocol::common_version(words.version).ok_or(RefusalCode::Version) {
        Ok(version) => version,
        Err(code) => return rooms.refuse_link(now, link, Refusal::last(code)),
    };
    let account = match rooms.store().account(words.device.account).await {
        Ok(account) => account,
        Err(error) => return rooms.refuse_link(now, link, error.into()),
    };
    let admission = match reception::verify_hello(&words, account.as_ref(), &proved) {
        Ok(admission) => admission,
        Err(code) => return turn_back(rooms, now, link, &proved, &words, code).await,
    };
    // A device that has less of its account's log than the relay is given it, once it is in.
    let behind = account.as_ref().is_some_and(|account| account.log_seq > words.log_seq);
    let newer = match behind {
        true => match rooms.store().account_log(words.device.account).await {
            Ok(log) => log,
            Err(error) => return rooms.refuse_link(now, link, error.into()),
        },
        false => None,
    };
    let domain = rooms.config.domain.clone();
    let elsewhere = elsewhere(rooms, &proved, words.device.account);
    if let (Some(push_address), true) = (&elsewhere, words.stays) {
        // What the operator can mend: an address that leads nowhere, or to another than is listed at its place.
        tracing::info!(%push_address, "a device could not be served at its push address, and is served where it came in");
    }
    if let Some(push_address) = elsewhere.filter(|_| !words.stays) {
        tracing::debug!(%push_address, "a device belongs at another push address");
        rooms.answer(now, link, Admitted { version, domain, push_address: Some(push_address), wall: now.wall });
        return rooms.end(now, link);
    }
    let Some(replaced) = rooms.reception.admit(now.monotonic, link, admission) else { return };
    if let Some(old) = replaced {
        // The newest link of a device is its link; the older is most often one whose loss nobody has noticed yet.
        rooms.refuse_link(now, old, Refusal::last(RefusalCode::Unexpected));
    }
    if planted::active(Bug::RatesAnew) {
        rooms.limiter.forget(&admission.device.account);
    }
    rooms.push.attach(link, &admission);
    if replaced.is_some() && planted::active(Bug::TakeOverForgets) {
        rooms.push.mislay(admission.mailbox);
    }
    if !rooms.reception.lives(link) {
        rooms.push.detach(link);
        return;
    }
    rooms.answer(now, link, Admitted { version, domain, push_address: None, wall: now.wall });
    if let Some(log) = newer {
        rooms.answer(now, link, OwnLog { log });
    }
    // It may have been revoked while this was looked into.
    match rooms.store().account(admission.device.account).await {
        Ok(Some(account)) if account.device(admission.device.index).is_some() => {}
        Ok(_) => return turn_back(rooms, now, link, &proved, &words, RefusalCode::NotAuthenticated).await,
        Err(error) => return rooms.refuse_link(now, link, error.into()),
    }
    rooms.wakes.came(admission.device);
    resume::resume(rooms, now, link, admission).await;
    appear::appear(rooms, now, link, admission).await;
}

/// A device that is not let in. One that was its account's before, and proves that it is that one, is told so.
async fn turn_back<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    proved: &Proved,
    words: &Hello,
    code: RefusalCode,
) {
    match rooms.user.revoked(rooms.store(), words.device, &proved.transport).await {
        Ok(Some(log)) => {
            rooms.answer(now, link, OwnLog { log });
            rooms.refuse_link(now, link, Refusal::last(RefusalCode::Revoked));
        }
        Ok(None) => rooms.refuse_link(now, link, Refusal::last(code)),
        Err(refusal) => rooms.refuse_link(now, link, refusal),
    }
}

/// The push address that an account's devices belong to, when they came in at another one.
fn elsewhere<P: Ports>(rooms: &Rooms<P>, proved: &Proved, account: AccountId) -> Option<String> {
    let push = &rooms.config.push;
    if planted::active(Bug::NeverElsewhere) {
        return None;
    }
    let door = push.get(usize::from(proved.door?))?;
    reception::push_address(push, account).filter(|chosen| chosen != door).map(str::to_owned)
}

/// A relay that came in says who it is, and if it is not known here, who led it here.
pub(crate) async fn vet<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, stranger: Stranger, words: PeerHello) {
    if !rooms.reception.advance(link, Stage::Vetting) {
        return;
    }
    let (domain, relay) = (stranger.domain.clone(), stranger.relay);
    let pinned = rooms.federation.is_pinned(&domain, relay);
    let moved = rooms.federation.has_moved(&domain, words.introduction.as_ref());
    let vetted = match (rooms.federation.vet(&words, &domain), words.introduction) {
        (Err(code), _) => Err(Refusal::last(code)),
        (Ok(()), Some(introduction)) if !pinned || moved => {
            let introduced = rooms.federation.introduce(rooms.store(), now.wall, &stranger, introduction).await;
            // Whoever is known is let in, whatever became of its invite.
            if pinned { introduced.or_else(|_| Ok(Vec::new())) } else { introduced }
        }
        (Ok(()), _) if pinned => Ok(Vec::new()),
        (Ok(()), _) => Err(Refusal::last(RefusalCode::PeerUntrusted)),
    };
    match vetted {
        Ok(lost) => {
            for asked in lost {
                rooms.refuse(now, asked.link, asked.request, Refusal::UNREACHABLE);
            }
            let hello = rooms.federation.hello_back(&domain);
            // Before: a link that is gone from here on takes it back.
            rooms.presence.peer_in(link);
            if rooms.reception.advance(link, Stage::PeerIn(domain.clone())) {
                rooms.answer(now, link, hello);
                rooms.federation.came_in(rooms.links(), now.monotonic, &domain);
            } else {
                rooms.presence.peer_lost(now.monotonic, link, &domain);
            }
        }
        Err(refusal) => {
            tracing::warn!(peer = %domain, code = %refusal.code, "a relay came in and was refused");
            rooms.refuse_link(now, link, refusal);
        }
    }
}

/// A relay we reached says who it is: remembered if it was only hinted at, then served with what waits for it.
pub(crate) async fn greeted<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, domain: Domain, words: PeerHello) {
    let pinned = match rooms.federation.vet(&words, &domain) {
        Ok(()) => rooms.federation.pin(rooms.store(), now.wall, &domain).await,
        Err(code) => {
            tracing::warn!(peer = %domain, %code, "a relay we reached is not who it should be");
            Err(Refusal::last(RefusalCode::PeerUntrusted))
        }
    };
    match pinned {
        Ok(()) => {
            rooms.federation.greeted(rooms.links(), link);
            federate::pump(rooms, now, &domain).await;
            appear::peer_up(rooms, now, &domain).await;
        }
        Err(refusal) => {
            for asked in rooms.federation.refused(link) {
                rooms.refuse(now, asked.link, asked.request, refusal);
            }
            rooms.refuse_link(now, link, refusal);
        }
    }
}
