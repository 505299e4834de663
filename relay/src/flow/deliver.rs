//! Deliver: what is on the disk goes to the devices that are there.
//! The trip: push (channel, position), hold (acknowledgements).
//! Rules: docs/protocol/push.md, hold.md.

use whimbrel_protocol::hold::Acknowledge;
use whimbrel_protocol::id::{Epoch, LinkId, Sequence, ThreadId};
use whimbrel_protocol::push::{EntryBody, LogRef};
use whimbrel_protocol::thread::Class;
use whimbrel_protocol::time::Now;
use whimbrel_storage::planted::{self, Bug};

use super::wake;
use crate::admission::Admission;
use crate::ports::Ports;
use crate::rooms::Rooms;
use crate::store::command::Opened;
use crate::store::{DeviceLog, Epochs, LogId};

/// A fresh entry: one hand-over for its channel; links that are not right before it read the log.
pub(crate) async fn deliver<P: Ports>(rooms: &Rooms<P>, now: Now, log: LogId, sequence: Sequence, body: &EntryBody) {
    if planted::active(Bug::LogText)
        && let EntryBody::Envelope(_, envelope) = body
    {
        tracing::debug!(body = ?envelope.body, "an entry is handed over");
    }
    for link in rooms.push.fan_out(rooms.links(), log, sequence, body) {
        advance(rooms, link, log).await;
    }
    if matches!(body, EntryBody::Envelope(_, envelope) if envelope.class == Class::Message) {
        wake::nudge(rooms, now, log).await;
    }
}

/// Inboxes got an entry.
pub(crate) async fn notices<P: Ports>(rooms: &Rooms<P>, now: Now, inboxes: &[LogId]) {
    for inbox in inboxes {
        for link in rooms.push.channel(*inbox) {
            advance(rooms, link, *inbox).await;
        }
        wake::nudge(rooms, now, *inbox).await;
    }
}

/// A thread was opened: invitations go out, then devices that are there are subscribed at once.
pub(crate) async fn opened<P: Ports>(rooms: &Rooms<P>, now: Now, opened: &Opened, thread: ThreadId, epoch: Epoch) {
    notices(rooms, now, &opened.inboxes).await;
    let log = DeviceLog {
        log: opened.log,
        which: LogRef::Thread(thread),
        cursor: Sequence::ZERO,
        start: Sequence::ZERO,
        epochs: Epochs::since(epoch),
        head: Sequence::ZERO,
        end: None,
    };
    for (_, mailbox) in &opened.readers {
        if let Some(link) = rooms.push.link_of(*mailbox) {
            rooms.push.subscribe(link, &log);
            advance(rooms, link, opened.log).await;
        }
    }
}

/// Moves one link up one log.
pub(crate) async fn advance<P: Ports>(rooms: &Rooms<P>, link: LinkId, log: LogId) {
    if let Err(error) = rooms.push.advance(rooms.store(), rooms.links(), link, log).await {
        // The subscription is behind until its next hint or heartbeat.
        tracing::error!(%error, "a log could not be read for a device");
    }
}

/// What the device has moves its cursors, as far as it was pushed to this very device.
pub(crate) async fn acknowledge<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    from: Admission,
    words: Acknowledge,
) {
    if let Err(refusal) = rooms.limiter.acknowledge(now.monotonic, from.device.account, words.logs.len()) {
        // It has no number to be refused by; what it has not said is pushed again, and known there.
        return rooms.refuse_link(now, link, refusal);
    }
    let mut many = false;
    for acked in words.logs {
        match rooms.push.pushed(link, acked.log) {
            Some((log, pushed)) if acked.upto <= pushed => {
                let upto = if planted::active(Bug::CursorAtPush) { pushed } else { acked.upto };
                many |= rooms.hold.acknowledge(now.monotonic, from.mailbox, log, upto);
            }
            _ => tracing::debug!("an acknowledgement beyond what was pushed changes nothing"),
        }
    }
    if many && let Err(error) = rooms.hold.write(rooms.store(), now.monotonic).await {
        tracing::error!(%error, "cursors could not be written");
    }
}
