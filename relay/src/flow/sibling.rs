//! Sibling: words of one device for another of its account, which is there.
//! The trip: reception (which link it has), and the words go on as they came. Nothing is kept, in memory or on disk: when
//! the other's queue has no room, whoever says them hears so and says them again.
//! Rules: docs/protocol/devices.md.

use std::sync::Arc;

use whimbrel_protocol::id::{DeviceId, LinkId};
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::siblings::{SiblingTold, TellSibling};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::{Frame, RefusalCode};

use crate::admission::Admission;
use crate::ports::{Links, Ports, SendError};
use crate::refusal::Refusal;
use crate::rooms::Rooms;

/// Passes words on.
pub(crate) fn pass<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: TellSibling) {
    let TellSibling { request, to, bytes } = words;
    let other = DeviceId { account: from.device.account, index: to };
    let there = rooms.reception.link_of(other).filter(|other| *other != link);
    let Some(there) = there else {
        return rooms.refuse(now, link, request, Refusal::last(RefusalCode::NotFound));
    };
    let told = Frame::from(SiblingTold { from: from.device.index, bytes });
    match rooms.links().send(there, Arc::new(told)) {
        Ok(()) => rooms.answer(now, link, Done { request }),
        Err(SendError::Full) => rooms.refuse(now, link, request, Refusal::BUSY),
        Err(SendError::Gone) => rooms.refuse(now, link, request, Refusal::last(RefusalCode::NotFound)),
    }
}
