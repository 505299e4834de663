//! Appear: a device is there, is heard, and leaves; and whoever may see it is told.
//! The trip: presence (the account's list, then its statuses), federation for friends elsewhere.
//! Rules: docs/protocol/presence.md.

use std::sync::Arc;

use whimbrel_protocol::id::{Domain, LinkId};
use whimbrel_protocol::presence::PeerPresence;
use whimbrel_protocol::reception::HeartbeatAnswer;
use whimbrel_protocol::time::Now;

use crate::admission::Admission;
use crate::ports::{Links, Ports};
use crate::rooms::Rooms;

/// A device was admitted: its owner's list is read, and it is shown to be there.
pub(crate) async fn appear<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission) {
    if let Err(error) = rooms.presence.appear(rooms.store(), now.monotonic, link, from.device.account).await {
        tracing::error!(%error, "a list could not be read: its owner is not shown to be there");
    }
    if !rooms.reception.lives(link) {
        rooms.presence.leave(link, false);
    }
}

/// A device says goodbye: offline at once. Its link may stay for a moment.
pub(crate) fn goodbye<P: Ports>(rooms: &Rooms<P>, link: LinkId) {
    rooms.presence.leave(link, true);
}

/// A link to a peer stands: it is told of everybody its users may see.
pub(crate) async fn peer_up<P: Ports>(rooms: &Rooms<P>, now: Now, peer: &Domain) {
    rooms.presence.peer_up(peer);
    tell(rooms, now);
}

/// Peers are told what is due.
pub(crate) fn tell<P: Ports>(rooms: &Rooms<P>, now: Now) {
    for peer in rooms.presence.due(now.monotonic) {
        let Some(link) = rooms.federation.line_to(&peer) else {
            // It knows of nobody; for those who are there it is worth a link, which will bring everything.
            if rooms.presence.is_anybody_shown(&peer) {
                rooms.federation.reach(rooms.links(), &peer);
            }
            continue;
        };
        for words in rooms.presence.for_peer(&peer) {
            if rooms.links().send(link, Arc::new(words.into())).is_err() {
                // Its queue is full: from the beginning, with the next.
                rooms.presence.peer_up(&peer);
                break;
            }
        }
    }
}

/// Links to peers that were told of somebody are used now and then.
pub(crate) fn keep<P: Ports>(rooms: &Rooms<P>, now: Now) {
    for peer in rooms.presence.beats(now.monotonic) {
        rooms.federation.beat(rooms.links(), now.monotonic, &peer);
    }
}

/// A peer's link is kept by it.
pub(crate) fn kept<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId) {
    rooms.answer(now, link, HeartbeatAnswer { wall: now.wall, version: 0, statuses: Vec::new() });
}

/// A peer tells of its users.
pub(crate) fn told<P: Ports>(rooms: &Rooms<P>, link: LinkId, peer: &Domain, words: PeerPresence) {
    rooms.presence.told(link, peer, words);
}
