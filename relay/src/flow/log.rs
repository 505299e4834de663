//! Log: an account's log grows, by whoever's hand.
//! In: the log proves the entries, the store adds them to the very log they follow, the answer once it is durable. Out:
//! the account's devices are told, and a device that is none any more loses its link in the same breath.
//! Rules: docs/protocol/user.md, identity.md.

use whimbrel_crypto::AccountLog;
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Domain, LinkId, RequestId};
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::time::Now;
use whimbrel_protocol::user::{ExtendLog, LogGrown, LookedUp, OwnLog, Recover};

use super::signal;
use crate::admission::Admission;
use crate::ports::Ports;
use crate::reception::{Proved, Stage};
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::Store;
use crate::user::{ExtendError, Extended};

/// A device adds entries to its account's log.
pub(crate) async fn extend<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: ExtendLog) {
    if words.account != from.device.account {
        return rooms.refuse(now, link, words.request, Refusal::last(RefusalCode::Malformed));
    }
    match rooms.user.extend(rooms.store(), &words, || rooms.chosen()).await {
        Ok(extended) => {
            rooms.answer(now, link, Done { request: words.request });
            told(rooms, now, words.account, Some(link), &extended);
        }
        Err(ExtendError::Moved(log)) => {
            // First what it has to know to do better.
            rooms.answer(now, link, OwnLog { log: log.bytes() });
            rooms.refuse(now, link, words.request, Refusal::last(RefusalCode::Exists));
        }
        Err(ExtendError::Refused(refusal)) => rooms.refuse(now, link, words.request, refusal),
    }
}

/// Whoever comes back with the recovery words adds entries before there is a device to be let in.
pub(crate) async fn extend_first<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, proved: Proved, words: ExtendLog) {
    if !has_share(rooms, now, link, &proved, words.request) {
        return;
    }
    if !rooms.reception.advance(link, Stage::Proving(proved)) {
        return;
    }
    match rooms.user.extend(rooms.store(), &words, || rooms.chosen()).await {
        Ok(extended) => {
            // The same again buys no time before admission.
            let goes_on = match extended.new {
                true => rooms.reception.registered(now.monotonic, link, proved),
                false => rooms.reception.advance(link, Stage::Node(proved)),
            };
            if goes_on {
                rooms.answer(now, link, Done { request: words.request });
            }
            told(rooms, now, words.account, Some(link), &extended);
        }
        Err(error) => {
            let refusal = match error {
                ExtendError::Moved(_) => Refusal::last(RefusalCode::Exists),
                ExtendError::Refused(refusal) => refusal,
            };
            rooms.refuse(now, link, words.request, refusal);
            rooms.end(now, link);
        }
    }
}

/// Whoever holds the recovery key is shown the log.
pub(crate) async fn recover<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, proved: Proved, words: Recover) {
    if !has_share(rooms, now, link, &proved, words.request) {
        return;
    }
    if !rooms.reception.advance(link, Stage::Proving(proved)) {
        return;
    }
    match rooms.user.recover(rooms.store(), &words, &proved.exporter).await {
        Ok((address, log)) => {
            if rooms.reception.registered(now.monotonic, link, proved) {
                rooms.answer(now, link, LookedUp { request: words.request, address, log });
            }
        }
        Err(refusal) => {
            rooms.refuse(now, link, words.request, refusal);
            rooms.end(now, link);
        }
    }
}

/// Whether the network that somebody comes from may still ask for what costs a relay work before they are let in. If not, the
/// link ends as with every other refusal here.
fn has_share<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, proved: &Proved, request: RequestId) -> bool {
    let Err(refusal) = rooms.limiter.arrival(now.monotonic, proved.source) else { return true };
    rooms.refuse(now, link, request, refusal);
    rooms.end(now, link);
    false
}

/// The account's other devices are told, and those that are none any more are served no more; whoever is in a thread with them
/// and there is told, so that somebody takes their leaf out.
fn told<P: Ports>(rooms: &Rooms<P>, now: Now, account: AccountId, by: Option<LinkId>, extended: &Extended) {
    let Extended { log, gone, around, new } = extended;
    if !new {
        return;
    }
    let is_gone = |index: DeviceIndex| gone.contains(&index);
    for index in gone {
        if let Some(link) = rooms.reception.link_of(DeviceId { account, index: *index }) {
            dismiss(rooms, now, link, log);
        }
    }
    for device in log.devices().filter(|device| !is_gone(device.index)) {
        let link = rooms.reception.link_of(DeviceId { account, index: device.index });
        if let Some(link) = link.filter(|link| Some(*link) != by) {
            rooms.answer(now, link, OwnLog { log: log.bytes() });
        }
    }
    rooms.wakes.changed();
    let (seq, hash) = log.head();
    for (thread, around) in around {
        signal::spread(rooms, around, LogGrown { thread: *thread, account, seq, hash }.into(), None);
    }
}

/// A peer says that devices of its user's were revoked.
pub(crate) async fn grown<P: Ports>(rooms: &Rooms<P>, now: Now, peer: Domain, words: LogGrown) {
    if rooms.limiter.peer_items(now.monotonic, &peer, 1).is_err() {
        return;
    }
    match rooms.store().surrounding_of(words.thread, words.account, peer).await {
        Ok(Some(around)) => signal::spread(rooms, &around, words.into(), None),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "where a peer's word may go could not be read"),
    }
}

/// A device that is none of its account's any more is shown why, and loses its link.
pub(crate) fn dismiss<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, log: &AccountLog) {
    rooms.answer(now, link, OwnLog { log: log.bytes() });
    rooms.refuse_link(now, link, Refusal::last(RefusalCode::Revoked));
}
