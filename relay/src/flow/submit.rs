//! Submit: an own user's envelope or opening, from its frame to the log, the devices that are there, and the peers.
//! The trip: thread (the command decides), the answer once it is durable, push, federation.
//! Rules: docs/protocol/thread.md, "Submission".

use std::sync::Arc;

use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{LinkId, Sequence};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::thread::{OpenThread, Opening, Stored, Submit, ThreadExists};
use whimbrel_protocol::time::Now;

use super::{deliver, federate};
use crate::admission::Admission;
use crate::ports::Ports;
use crate::publics;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::command::Origin;
use crate::store::{LogId, OutboundKey};
use crate::thread::Opens;

/// Takes one envelope into its thread. The first await is the store's: first polls in the order of arrival give
/// appends in that order.
pub(crate) async fn submit<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Submit) {
    let thread = words.envelope.thread;
    let refuse = |refusal: Refusal| {
        if refusal.retry_after.is_some() {
            rooms.reception.wait(link, thread, words.request, refusal);
        }
        rooms.refuse(now, link, words.request, refusal);
    };
    if let Some(refusal) = rooms.reception.waits(link, thread, words.heard) {
        return refuse(refusal);
    }
    if let Err(refusal) = rooms.limiter.message(now.monotonic, from.device.account) {
        return refuse(refusal);
    }
    let envelope = Arc::new(words.envelope);
    match rooms.thread.append(rooms.store(), now.wall, from.device, &envelope).await {
        Ok(appended) => {
            rooms.answer(now, link, Stored { request: words.request, sequence: appended.sequence });
            if appended.new {
                rooms.figures.accepted();
                rooms.figures.untold(appended.untold);
                let body = EntryBody::Envelope(from.device, Arc::unwrap_or_clone(envelope));
                deliver::deliver(rooms, now, appended.log, appended.sequence, &body).await;
                deliver::notices(rooms, now, &appended.inboxes).await;
                let key = OutboundKey { log: appended.log, sequence: appended.sequence };
                federate::forward(rooms, now, &appended.peers, key).await;
            }
        }
        Err(refusal) => refuse(refusal),
    }
}

/// Opens a thread: the rows of everybody here, an inbox entry for each invited, a row for each peer.
pub(crate) async fn open<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: OpenThread) {
    let OpenThread { request, opening, tag, info } = words;
    let (thread, epoch) = (opening.thread, opening.epoch);
    let local = &rooms.config.domain;
    let unknown = |domain| domain != local && !rooms.federation.knows(domain);
    if opening.participants.iter().any(|participant| unknown(&participant.domain)) {
        return rooms.refuse(now, link, request, Refusal::last(RefusalCode::PeerUntrusted));
    }
    if opening.founding.as_ref().is_some_and(|founding| founding.hub != rooms.config.relay) {
        return rooms.refuse(now, link, request, Refusal::last(RefusalCode::Malformed));
    }
    let info = info.as_deref().map(Vec::as_slice);
    let found = |opening: &Opening| publics::founded(rooms.ports.publics(), opening, info);
    let log = LogId::from_bytes(rooms.chosen());
    let origin = (Origin::Local, Some(tag));
    let command = rooms.thread.open_command(now.wall, from.device, origin, (opening, found), log);
    let opened = match command {
        Ok(command) => rooms.thread.open(rooms.store(), command).await,
        Err(refusal) => Err(refusal),
    };
    match opened {
        Ok(Opens::Opened(opened)) => {
            rooms.answer(now, link, Stored { request, sequence: Sequence::ZERO });
            deliver::opened(rooms, now, &opened, thread, epoch).await;
            let key = OutboundKey { log: opened.log, sequence: Sequence::ZERO };
            federate::forward(rooms, now, &opened.peers, key).await;
        }
        Ok(Opens::Exists(thread)) => rooms.answer(now, link, ThreadExists { request, thread }),
        Err(refusal) => rooms.refuse(now, link, request, refusal),
    }
}
