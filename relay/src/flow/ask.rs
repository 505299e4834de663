//! Ask: requests about accounts and threads that are answered with a frame of their own. What another relay knows is
//! asked there; its answer finds its way back, or a timer answers.
//! The trip: user or thread here; federation there and back.
//! Rules: docs/protocol/user.md, thread.md.

use std::time::Duration;

use whimbrel_protocol::federation::PeerClaim;
use whimbrel_protocol::id::{DeviceIndex, Domain, LinkId, RequestId};
use whimbrel_protocol::reception::{Done, Heartbeat, HeartbeatAnswer, Refused};
use whimbrel_protocol::thread::{Blob, FetchBlob, ListThreads, SetThread, TagThread, ThreadPage};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::user::{
    ClaimKeyPackages, ClaimedKeyPackages, LookUp, LookedUp, NewInvite, StockKeyPackages, Stocked, Who,
};
use whimbrel_protocol::{Frame, RefusalCode};

use super::{befriend, deliver};
use crate::admission::Admission;
use crate::federation::{Asked, Vouched, What};
use crate::ports::Ports;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::user::Claimed;

/// Answers a request of a node or peer with a frame or a refusal.
pub(super) fn answer<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    request: RequestId,
    result: Result<Frame, Refusal>,
) {
    match result {
        Ok(frame) => rooms.answer(now, link, frame),
        Err(refusal) => rooms.refuse(now, link, request, refusal),
    }
}

/// A device asks for an account: here, or at the relay where it lives.
pub(crate) async fn look_up<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: LookUp) {
    let domain = words.who.domain().clone();
    if domain == rooms.config.domain {
        return look_up_here(rooms, now, link, words).await;
    }
    let LookUp { request, who, hint } = words;
    let asked = Asked { link, request, what: What::LookUp };
    let passed = match &who {
        Who::Address(_) if !rooms.federation.has_names(&domain) => Err(Refusal::last(RefusalCode::PeerUntrusted)),
        Who::Address(_) => rooms.federation.resolve(&domain, hint, from.device.account, None),
        Who::Account(owner, _) => {
            let token = hint.as_ref().and_then(|hint| hint.token);
            let vouched = token.map(|token| Vouched { owner: *owner, token: token.hash() });
            rooms.federation.resolve(&domain, hint, from.device.account, vouched)
        }
    };
    let frame = |request| LookUp { request, who, hint: None }.into();
    let passed = passed.and_then(|()| rooms.federation.ask(rooms.links(), now.monotonic, &domain, asked, frame));
    if let Err(refusal) = passed {
        rooms.refuse(now, link, request, refusal);
    }
}

/// A peer asks for an account that lives here. One that is known by links alone learns no names.
pub(crate) async fn look_up_for<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: &Domain, words: LookUp) {
    if matches!(words.who, Who::Address(_)) && !rooms.federation.has_names(peer) {
        return rooms.refuse(now, link, words.request, Refusal::last(RefusalCode::NotFound));
    }
    look_up_here(rooms, now, link, words).await;
}

/// Anybody asks for an account that lives here, or should.
pub(crate) async fn look_up_here<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: LookUp) {
    let LookUp { request, who, .. } = words;
    let found = if *who.domain() == rooms.config.domain {
        rooms.user.look_up(rooms.store(), &who).await
    } else {
        // A relay answers for its own domain only; passing a peer's question on would make it a proxy for all.
        Err(Refusal::last(RefusalCode::NotFound))
    };
    let found = found.map(|(address, log)| LookedUp { request, address, log }.into());
    answer(rooms, now, link, request, found);
}

/// A device claims KeyPackages: here, or at the relay where their owner lives.
pub(crate) async fn claim<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: ClaimKeyPackages,
) {
    let ClaimKeyPackages { request, account, domain, token } = words;
    let requester = from.device.account;
    if domain == rooms.config.domain {
        let words = PeerClaim { request, account, requester, token };
        let own = Some(from.device.index).filter(|_| requester == account);
        return hand_out(rooms, now, link, (domain, own), words).await;
    }
    let what = What::Claim { owner: account, requester, token: token.is_some() };
    let asked = Asked { link, request, what };
    let frame = |request| PeerClaim { request, account, requester, token }.into();
    let passed = rooms.federation.resolve(&domain, None, requester, None);
    let passed = passed.and_then(|()| rooms.federation.ask(rooms.links(), now.monotonic, &domain, asked, frame));
    if let Err(refusal) = passed {
        rooms.refuse(now, link, request, refusal);
    }
}

/// Somebody of `domain` claims KeyPackages of an account that lives here.
pub(crate) async fn claim_here<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, domain: Domain, words: PeerClaim) {
    hand_out(rooms, now, link, (domain, None), words).await;
}

/// Hands out one of each device; to a device of the owner itself, of its siblings.
async fn hand_out<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    (domain, own): (Domain, Option<DeviceIndex>),
    words: PeerClaim,
) {
    let PeerClaim { request, account, requester, token } = words;
    if own.is_none()
        && let Err(refusal) = rooms.limiter.claim(now.monotonic, requester, account)
    {
        return rooms.refuse(now, link, request, refusal);
    }
    match rooms.user.claim(rooms.store(), now.wall, account, (requester, domain), (token, own)).await {
        Ok(Claimed { packages, left }) => {
            rooms.answer(now, link, ClaimedKeyPackages { request, packages });
            if token.is_some() {
                befriend::changed(rooms, account, requester).await;
            }
            for (index, left) in left {
                let device = whimbrel_protocol::id::DeviceId { account, index };
                if let Some(link) = rooms.reception.link_of(device) {
                    rooms.answer(now, link, Stocked { request: None, left });
                }
            }
        }
        Err(refusal) => {
            if own.is_none() {
                rooms.limiter.unclaim(now.monotonic, requester, account);
            }
            rooms.refuse(now, link, request, refusal);
        }
    }
}

/// A peer answered a look-up.
pub(crate) fn looked_up<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: &Domain, words: LookedUp) {
    let Some(asked) = rooms.federation.answered(link, words.request) else { return late() };
    let LookedUp { address, log, .. } = words;
    let found = if asked.what == What::LookUp && address.domain == *peer {
        Ok(LookedUp { request: asked.request, address, log }.into())
    } else {
        Err(Refusal::last(RefusalCode::PeerUntrusted))
    };
    answer(rooms, now, asked.link, asked.request, found);
}

/// A peer handed out KeyPackages. An invite that was used there gives consent here, before anybody hears of it.
pub(crate) async fn claimed<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    peer: Domain,
    words: ClaimedKeyPackages,
) {
    let Some(asked) = rooms.federation.answered(link, words.request) else { return late() };
    let consent = match asked.what {
        What::Claim { owner, requester, token: true } => {
            let given = rooms.user.give_consent(rooms.store(), requester, owner, peer, now.wall).await;
            befriend::changed(rooms, requester, owner).await;
            given
        }
        // Or the requester has parted with the owner meanwhile.
        What::Claim { .. } => Ok(()),
        What::LookUp | What::Befriend(_) | What::Profile(_) | What::Commit | What::TreeHead => {
            Err(Refusal::last(RefusalCode::PeerUntrusted))
        }
    };
    let packages = words.packages;
    let claimed = consent.map(|()| ClaimedKeyPackages { request: asked.request, packages }.into());
    answer(rooms, now, asked.link, asked.request, claimed);
}

/// A peer refused a request, or us.
pub(crate) fn refused<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: &Domain, words: Refused) {
    let Refused { request, code, retry_after_ms } = words;
    let Some(request) = request else {
        tracing::warn!(%peer, %code, "a peer refuses this relay");
        // Who we are to it is what those who asked can act on; anything else is between the relays.
        return match code {
            RefusalCode::PeerUntrusted | RefusalCode::TooLarge | RefusalCode::Version => {
                let retry_after = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                rooms.refused_by(now, link, Refusal { code, retry_after });
            }
            // A relay of an older version: what was asked of it runs out of its time.
            RefusalCode::UnknownKind => {}
            _ => rooms.end(now, link),
        };
    };
    match rooms.federation.answered(link, request) {
        Some(asked) => {
            rooms.answer(now, asked.link, Refused { request: Some(asked.request), code, retry_after_ms });
        }
        None => late(),
    }
}

pub(super) fn late() {
    tracing::debug!("a peer's answer came after its time");
}

/// A device stocks KeyPackages.
pub(crate) async fn stock<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: StockKeyPackages,
) {
    let request = words.request;
    let stocked = rooms.user.stock(rooms.store(), from.device, words).await;
    let stocked = stocked.map(|left| Stocked { request: Some(request), left }.into());
    answer(rooms, now, link, request, stocked);
}

/// A device makes an invite known.
pub(crate) async fn invite<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: NewInvite) {
    let request = words.request;
    let invited = rooms.user.invite(rooms.store(), now.wall, from.device.account, words).await;
    answer(rooms, now, link, request, invited.map(|()| Done { request }.into()));
}

/// A device tags a thread.
pub(crate) async fn tag<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: TagThread) {
    let TagThread { request, thread, tag } = words;
    let tagged = rooms.thread.tag(rooms.store(), from.device, thread, tag).await;
    answer(rooms, now, link, request, tagged.map(|()| Done { request }.into()));
}

/// A device lists its owner's threads.
pub(crate) async fn list<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: ListThreads) {
    let request = words.request;
    let listing = rooms.thread.list(rooms.store(), from.device, from.mailbox, &words).await;
    let page = listing.map(|page| ThreadPage { request, rows: page.rows, more: page.more }.into());
    answer(rooms, now, link, request, page);
}

/// A device keeps settings of a thread.
pub(crate) async fn set_thread<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: SetThread) {
    let request = words.request;
    let set = rooms.thread.set(rooms.store(), from.device, words).await;
    if set.is_ok() {
        rooms.wakes.changed();
    }
    answer(rooms, now, link, request, set.map(|()| Done { request }.into()));
}

/// A device fetches a large body that it was told of.
pub(crate) async fn blob<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: FetchBlob) {
    let FetchBlob { request, blob } = words;
    let bytes = rooms.thread.blob(rooms.store(), from.device, blob).await;
    answer(rooms, now, link, request, bytes.map(|bytes| Blob { request, bytes }.into()));
}

/// A device is there: its touches are noted, and whatever is behind is pushed.
pub(crate) async fn heartbeat<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Heartbeat) {
    if let Err(refusal) = rooms.limiter.heartbeat(now.monotonic, from.device.account) {
        // It has no number to be refused by.
        return rooms.refuse_link(now, link, refusal);
    }
    rooms.presence.heard(now.monotonic, link);
    let (version, statuses) = rooms.presence.statuses(link, words.statuses);
    rooms.answer(now, link, HeartbeatAnswer { wall: now.wall, version, statuses });
    let touches = words.touches;
    if !touches.is_empty() {
        if rooms.limiter.touch(now.monotonic, from.device.account, touches.len()).is_err() {
            tracing::debug!("touches beyond an account's rate are not noted");
        } else if let Err(refusal) = rooms.thread.touch(rooms.store(), now.wall, from.device, touches).await {
            tracing::error!(code = %refusal.code, "touches were not noted");
        }
    }
    for log in rooms.push.behind(link) {
        deliver::advance(rooms, link, log).await;
    }
}
