//! Federate: envelopes and openings between this relay and its peers.
//! Out: the row written with the entry, federation (link, window, numbers), the peer's answer, the row goes.
//! In: federation (numbers), one commit for the frame, the answer once it is durable, push.
//! Rules: docs/protocol/federation.md.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_crypto::receipt;
use whimbrel_protocol::federation::{Forward, ForwardBody, ForwardItem, ForwardRefusal, Forwarded};
use whimbrel_protocol::hub::{Accepted, Arrivals};
use whimbrel_protocol::id::{DeviceId, Domain, Epoch, LinkId, ThreadId};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::thread::{Envelope, Participant};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::{RefusalCode, limits};

use super::{commit, deliver};
use crate::ports::Ports;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::command::Origin;
use crate::store::command::hub::{Bodies, How, Shown};
use crate::store::{Command, Conflict, LogId, OutboundKey, Outcome, Store, StoreError};

/// Rows were written for peers: they are sent, or their peer is dialled. Waits for the store only.
pub(crate) async fn forward<P: Ports>(rooms: &Rooms<P>, now: Now, peers: &[Domain], key: OutboundKey) {
    for peer in peers {
        rooms.federation.row_added(rooms.links(), peer, key);
        pump(rooms, now, peer).await;
    }
}

/// Sends what waits for a peer.
pub(crate) async fn pump<P: Ports>(rooms: &Rooms<P>, now: Now, peer: &Domain) {
    if let Err(error) = rooms.federation.pump(rooms.store(), rooms.links(), now.monotonic, peer).await {
        tracing::error!(%error, %peer, "rows for a peer could not be read");
    }
}

/// A peer answered for forwarded items.
pub(crate) async fn forwarded<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: Forwarded) {
    let bounds = rooms.config.log_bounds;
    match rooms.federation.forwarded(rooms.store(), (now, bounds), link, &words).await {
        Ok(Some((peer, inboxes))) => {
            deliver::notices(rooms, now, &inboxes).await;
            pump(rooms, now, &peer).await;
        }
        Ok(None) => {}
        // The rows stay; the link's end sends them again.
        Err(error) => rooms.refuse_link(now, link, error.into()),
    }
}

/// What an item becomes.
enum Plan {
    Envelope(DeviceId, Arc<Envelope>),
    Opening(ThreadId, Epoch),
    Commit(ThreadId),
    Refused(ThreadId, Refusal),
}

/// Takes a peer's items in: one group, decided in order; the first await is its commit.
pub(crate) async fn receive<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: Domain, words: Forward) {
    let Some(numbers) = rooms.federation.accept(link, &words) else {
        return rooms.refuse_link(now, link, Refusal::last(RefusalCode::Malformed));
    };
    if let Err(refusal) = rooms.limiter.peer_items(now.monotonic, &peer, words.items.len()) {
        // All of it stays with the peer, and what follows in its threads with it.
        let refused = |item: &ForwardItem| {
            rooms.federation.wait(link, item.body.thread(), item.number, refusal);
            refused(item.number, refusal)
        };
        let refused = words.items.iter().map(refused).collect();
        return rooms.federation.settle(link, numbers, refused, |answer| {
            rooms.reception.send(rooms.links(), link, answer);
        });
    }
    let mut commands = Vec::with_capacity(words.items.len());
    let plans: Vec<(u64, Plan)> = words
        .items
        .into_iter()
        .map(|item| {
            let thread = item.body.thread();
            let (plan, command) = match rooms.federation.waits(link, thread) {
                Some(refusal) => (Plan::Refused(thread, refusal), None),
                None => plan(rooms, now, &peer, item.body),
            };
            commands.extend(command);
            (item.number, plan)
        })
        .collect();
    let outcomes = rooms.store().commit_all(commands).await;
    let (taken, left) = sort(plans, outcomes);
    let refused = left.into_iter().map(|(thread, number, refusal)| {
        rooms.figures.refused(refusal.code);
        if refusal.retry_after.is_some() {
            rooms.federation.wait(link, thread, number, refusal);
        }
        refused(number, refusal)
    });
    let refused = refused.collect();
    rooms.federation.settle(link, numbers, refused, |answer| {
        // A peer whose queue is full has stopped reading its answers; its link is on its way out.
        rooms.reception.send(rooms.links(), link, answer);
    });
    for (plan, outcome) in taken {
        match (plan, outcome) {
            (Plan::Envelope(author, envelope), Outcome::Appended(appended)) if appended.new => {
                rooms.figures.accepted();
                rooms.figures.untold(appended.untold);
                let body = EntryBody::Envelope(author, Arc::unwrap_or_clone(envelope));
                deliver::deliver(rooms, now, appended.log, appended.sequence, &body).await;
                deliver::notices(rooms, now, &appended.inboxes).await;
            }
            (Plan::Opening(thread, epoch), Outcome::Opened(opened)) => {
                deliver::opened(rooms, now, &opened, thread, epoch).await;
            }
            (Plan::Commit(thread), Outcome::Committed(committed)) => {
                if let Some(change) = committed.change {
                    commit::told(rooms, now, thread, change).await;
                }
            }
            _ => {}
        }
    }
}

fn refused(number: u64, refusal: Refusal) -> ForwardRefusal {
    ForwardRefusal { number, code: refusal.code, retry_after_ms: refusal.retry_after_ms() }
}

/// The command of an item, if it is worth one. Whether the peer may speak for its author is the command's condition.
fn plan<P: Ports>(rooms: &Rooms<P>, now: Now, peer: &Domain, body: ForwardBody) -> (Plan, Option<Command>) {
    let origin = Origin::Peer(peer.clone());
    match body {
        ForwardBody::Envelope(author, envelope) => {
            let envelope = Arc::new(envelope);
            let command = rooms.thread.append_command(now.wall, author, origin, &envelope);
            (Plan::Envelope(author, envelope), Some(command))
        }
        ForwardBody::Commit(accepted, arrivals) => {
            let Accepted { author, commit, receipt } = accepted;
            let thread = commit.thread;
            if let Some(arrivals) = &arrivals
                && let Some(wait) = strange(rooms, peer, &arrivals.participants)
            {
                return (Plan::Refused(thread, wait), None);
            }
            let hubs = |arrivals: &Arrivals| rooms.federation.is_pinned(peer, arrivals.founding.hub);
            if !arrivals.as_deref().is_none_or(hubs) {
                tracing::warn!(%peer, "a peer tells of a group whose hub is another relay; refused");
                return (Plan::Refused(thread, Refusal::last(RefusalCode::PeerUntrusted)), None);
            }
            let signer = match receipt::signer(&receipt) {
                Ok(signer) => signer,
                Err(error) => {
                    tracing::warn!(%peer, %error, "a peer tells of a commit without its hub's receipt; refused");
                    return (Plan::Refused(thread, Refusal::last(RefusalCode::PeerUntrusted)), None);
                }
            };
            let how = How::Told(receipt, signer, arrivals.map(|arrivals| Bodies::told(*arrivals)));
            (Plan::Commit(thread), Some(commit::command(rooms, now, (author, origin), (commit, Shown::default()), how)))
        }
        ForwardBody::Opening(creator, opening) => {
            let (thread, epoch) = (opening.thread, opening.epoch);
            if let Some(wait) = strange(rooms, peer, &opening.participants) {
                return (Plan::Refused(thread, wait), None);
            }
            if opening.founding.as_ref().is_some_and(|founding| !rooms.federation.is_pinned(peer, founding.hub)) {
                tracing::warn!(%peer, "a peer opens a group whose hub is another relay; refused");
                return (Plan::Refused(thread, Refusal::last(RefusalCode::PeerUntrusted)), None);
            }
            let log = LogId::from_bytes(rooms.chosen());
            match rooms.thread.open_command(now.wall, creator, (origin, None), (opening, |_| Ok(None)), log) {
                Ok(command) => (Plan::Opening(thread, epoch), Some(command)),
                Err(refusal) => (Plan::Refused(thread, refusal), None),
            }
        }
    }
}

/// A thread with a relay that is not known here waits: what people here write into it could not be forwarded. Not refused
/// for good: the author was told that it is stored, and an operator may yet say who that relay is.
fn strange<P: Ports>(rooms: &Rooms<P>, peer: &Domain, participants: &[Participant]) -> Option<Refusal> {
    let local = &rooms.config.domain;
    let known = |domain: &Domain| domain == local || rooms.federation.knows(domain);
    let stranger = participants.iter().map(|one| &one.domain).find(|domain| !known(domain))?;
    tracing::warn!(%peer, domain = %stranger, "a thread waits at a peer: a relay of it is not known here");
    Some(Refusal::later(RefusalCode::PeerUntrusted, limits::UNKNOWN_DOMAIN_RETRY_AFTER))
}

/// What was not taken: of which thread, under which number, and why.
type Left = (ThreadId, u64, Refusal);

/// Parts what was taken from what was not. What follows an item that must wait, in its thread, waits with it.
fn sort(
    plans: Vec<(u64, Plan)>,
    outcomes: Result<Vec<Result<Outcome, Conflict>>, StoreError>,
) -> (Vec<(Plan, Outcome)>, Vec<Left>) {
    let (mut outcomes, failed) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(Refusal::from(error))),
    };
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let mut waiting: BTreeMap<ThreadId, Refusal> = BTreeMap::new();
    for (number, plan) in plans {
        let thread = match &plan {
            Plan::Envelope(_, envelope) => envelope.thread,
            Plan::Opening(thread, _) | Plan::Commit(thread) | Plan::Refused(thread, _) => *thread,
        };
        let mut refusal = match plan {
            Plan::Refused(_, refusal) => refusal,
            plan => match outcomes.next() {
                Some(Ok(outcome)) => {
                    taken.push((plan, outcome));
                    continue;
                }
                // Its opening comes from the creator's relay, and may still be on its way. Whether there is no such thread
                // or the author is not in it is nobody's business.
                Some(Err(Conflict::NotMember)) if matches!(plan, Plan::Envelope(..)) => {
                    Refusal::later(RefusalCode::NotFound, limits::UNKNOWN_THREAD_RETRY_AFTER)
                }
                Some(Err(conflict)) => Refusal::from(StoreError::Conflict(conflict)),
                None => failed.unwrap_or(Refusal::INTERNAL),
            },
        };
        if refusal.retry_after.is_some() {
            waiting.entry(thread).or_insert(refusal);
        } else if let Some(earlier) = waiting.get(&thread) {
            refusal = *earlier;
        }
        refused.push((thread, number, refusal));
    }
    (taken, refused)
}
