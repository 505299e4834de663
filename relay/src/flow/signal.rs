//! Signal: what a device says to those who are there, and nobody keeps.
//! The trip: reception (whose it is), the rate, the store (where it may go, read once), push from memory, federation where a
//! link stands. It is never written, acknowledged, repeated or woken for; whatever hinders it ends it without a word, so
//! nobody learns from it who is there.
//! Rules: docs/protocol/signal.md.

use std::sync::Arc;

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{Domain, LinkId};
use whimbrel_protocol::signal::Signal;
use whimbrel_protocol::time::Now;

use crate::admission::Admission;
use crate::ports::{Links, Ports};
use crate::rooms::Rooms;
use crate::store::command::Origin;
use crate::store::{Hearers, Store};

/// A device of an own user says something. It costs as much as a message: as many are there to hear it.
pub(crate) async fn pass<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: Signal) {
    if words.by == from.device && rooms.limiter.message(now.monotonic, from.device.account).is_ok() {
        carry(rooms, Origin::Local, Some(link), words).await;
    }
}

/// A peer passes on what one of its users says.
pub(crate) async fn pass_here<P: Ports>(rooms: &Rooms<P>, now: Now, peer: Domain, words: Signal) {
    if rooms.limiter.peer_items(now.monotonic, &peer, 1).is_ok() {
        carry(rooms, Origin::Peer(peer), None, words).await;
    }
}

async fn carry<P: Ports>(rooms: &Rooms<P>, origin: Origin, link: Option<LinkId>, words: Signal) {
    let (thread, by, epoch) = (words.thread, words.by, words.epoch);
    let hearers = match rooms.store().hearers(thread, (by, epoch), origin).await {
        Ok(Some(hearers)) => hearers,
        Ok(None) => return,
        Err(error) => return tracing::error!(%error, "where a signal may go could not be read"),
    };
    spread(rooms, &hearers, words.into(), link);
}

/// To those who are there, now or never, but for one link.
pub(crate) fn spread<P: Ports>(rooms: &Rooms<P>, hearers: &Hearers, frame: Frame, but: Option<LinkId>) {
    let (what, frame) = (frame.name(), Arc::new(frame));
    let heard = rooms.push.whisper(rooms.links(), (hearers.log, hearers.epoch), &frame, but);
    let lines = hearers.peers.iter().filter_map(|peer| rooms.federation.line_to(peer));
    let peers = lines.filter(|line| rooms.links().send(*line, Arc::clone(&frame)).is_ok()).count();
    tracing::debug!(what, heard, peers, "what nobody keeps was passed on");
}
