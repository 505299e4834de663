//! Link: from a device that waits to two that talk, and to the end of it.
//! The trip: reception (stage), linking (who meets whom), and the words go on as they came.
//! Rules: docs/protocol/devices.md.

use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::linking::{JoinLinking, LinkingWords, OfferLinking};
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::time::Now;

use crate::ports::Ports;
use crate::reception::Stage;
use crate::rooms::Rooms;

/// A device that is to come waits for one that speaks for its account.
pub(crate) fn offer<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: &OfferLinking) {
    match rooms.linking.offer(link, words.meeting) {
        Ok(()) if rooms.reception.advance(link, Stage::Linking) => {
            rooms.answer(now, link, Done { request: words.request });
        }
        Ok(()) => {
            rooms.linking.leave(link);
        }
        Err(refusal) => {
            rooms.refuse(now, link, words.request, refusal);
            rooms.end(now, link);
        }
    }
}

/// A device of an account joins it.
pub(crate) fn join<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: &JoinLinking) {
    match rooms.linking.join(link, words.meeting) {
        Ok(()) => rooms.answer(now, link, Done { request: words.request }),
        Err(refusal) => rooms.refuse(now, link, words.request, refusal),
    }
}

/// Words of one to the other.
pub(crate) fn pass<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: LinkingWords) {
    match rooms.linking.other(link, words.meeting, words.bytes.len()) {
        Some(other) => rooms.answer(now, other, words),
        // Whoever it was for may be gone by now.
        None => over(rooms, now, link),
    }
}

/// One has had enough.
pub(crate) fn over<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId) {
    rooms.part(now, link);
}
