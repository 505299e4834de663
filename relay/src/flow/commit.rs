//! Commit: a change of a group, from its author to the group's hub, and from there to every relay of the group.
//! In: the store decides here, or the hub is asked; the answer once it is durable. Out: the log's readers change, the entry
//! is delivered, newcomers are told, and a row waits for each other relay.
//! Rules: docs/protocol/hub.md.

use std::sync::Arc;

use whimbrel_protocol::hub::{
    CommitLost, CommitTaken, Committed as Fetched, FetchCommit, Newcomers, PeerCommit, SubmitCommit, Warrant,
};
use whimbrel_protocol::id::{DeviceId, Domain, LinkId, RequestId, ThreadId};
use whimbrel_protocol::push::LogRef;
use whimbrel_protocol::time::Now;
use whimbrel_protocol::{Frame, RefusalCode, limits};

use super::ask::answer;
use super::{deliver, federate};
use crate::admission::Admission;
use crate::federation::{Asked, What};
use crate::ports::Ports;
use crate::refusal::Refusal;
use crate::rooms::Rooms;
use crate::store::command::Origin;
use crate::store::command::hub::{Bodies, Change, Commit, Committed, How, Proof, Reader, Shown};
use crate::store::{Command, DeviceLog, LogId, OutboundKey, Outcome, Store};

/// Commit, Welcome and tree together: forwarded in one frame, with what names the participants and the frame's own words.
const COMMIT_BYTES_MAX: usize = limits::LARGE_FRAME_BYTES_MAX - 128 * 1024;

/// An own user's commit: decided here, or at the hub.
pub(crate) async fn submit<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: SubmitCommit) {
    let SubmitCommit { request, commit, newcomers } = words;
    let command = match decide(rooms, now, (from.device, Origin::Local), &commit, newcomers.clone()).await {
        Ok(command) => command,
        Err(refusal) => return rooms.refuse(now, link, request, refusal),
    };
    let thread = commit.thread;
    match rooms.store().commit(command).await {
        Ok(Outcome::Elsewhere(hub)) => {
            let author = from.device;
            let asked = Asked { link, request, what: What::Commit };
            let frame = |request| PeerCommit { request, author, commit, newcomers }.into();
            if let Err(refusal) = rooms.federation.ask(rooms.links(), now.monotonic, &hub, asked, frame) {
                rooms.refuse(now, link, request, refusal);
            }
        }
        decided => done(rooms, now, (link, request), thread, decided.map_err(Refusal::from)).await,
    }
}

/// A commit of a peer's user, passed on to this relay as the hub.
pub(crate) async fn submit_for<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, peer: Domain, words: PeerCommit) {
    let PeerCommit { request, author, commit, newcomers } = words;
    let thread = commit.thread;
    let decided = match decide(rooms, now, (author, Origin::Peer(peer)), &commit, newcomers).await {
        Ok(command) => rooms.store().commit(command).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    done(rooms, now, (link, request), thread, decided).await;
}

/// The command for a commit that is handed in.
async fn decide<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    (author, origin): (DeviceId, Origin),
    commit: &whimbrel_protocol::hub::Commit,
    newcomers: Option<Newcomers>,
) -> Result<Command, Refusal> {
    let bodies = newcomers.as_ref().map_or(0, |newcomers| newcomers.welcome.len() + newcomers.tree.len());
    let bodies = bodies.saturating_add(commit.warrant.as_ref().map_or(0, Warrant::len));
    if commit.bytes.len().saturating_add(bodies) > COMMIT_BYTES_MAX {
        return Err(Refusal::last(RefusalCode::TooLarge));
    }
    let local = &rooms.config.domain;
    let here = |domain: &Domain| domain == local || rooms.federation.knows(domain);
    if !commit.added.iter().all(|newcomer| here(&newcomer.domain)) {
        return Err(Refusal::last(RefusalCode::PeerUntrusted));
    }
    let (proof, shown) = prove(rooms, (author, &origin), commit).await?;
    let how = How::Submitted(newcomers.map(Bodies::of), Arc::new(rooms.ports.identity().clone()), proof);
    Ok(command(rooms, now, (author, origin), (commit.clone(), shown), how))
}

/// What the thread's public state shows of a commit, if this relay is the hub and has to decide it.
async fn prove<P: Ports>(
    rooms: &Rooms<P>,
    (author, origin): (DeviceId, &Origin),
    commit: &whimbrel_protocol::hub::Commit,
) -> Result<(Proof, Shown), Refusal> {
    let at = (commit.thread, commit.epoch);
    // What is in memory may have moved on, or gone, while the store was read: then once more, from what is written.
    for have in [rooms.publics.epoch(commit.thread), None] {
        let state = rooms.store().public_state(author, origin.clone(), at, have).await?;
        let Some(state) = state else { return Ok((Proof::Absent, Shown::default())) };
        if let Some(shown) = rooms.publics.judge(rooms.ports.publics(), commit, state)? {
            return Ok(shown);
        }
    }
    Err(Refusal::BUSY)
}

pub(crate) fn command<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    (author, origin): (DeviceId, Origin),
    (commit, shown): (whimbrel_protocol::hub::Commit, Shown),
    how: How,
) -> Command {
    let hash = commit.hash();
    Command::Commit(Box::new(Commit {
        author,
        origin,
        commit: Arc::new(commit),
        hash,
        shown,
        how,
        local: rooms.config.domain.clone(),
        log: LogId::from_bytes(rooms.chosen()),
        at: now.wall,
        sure: rooms.sweeper.is_sure(now),
        bounds: rooms.config.log_bounds,
    }))
}

/// Answers whoever handed a commit in, and spreads what it changed.
async fn done<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    (link, request): (LinkId, RequestId),
    thread: ThreadId,
    decided: Result<Outcome, Refusal>,
) {
    match decided {
        Ok(Outcome::Committed(committed)) => {
            let Committed { receipt, change } = *committed;
            // Before anything else runs: what follows in the log is not for whoever is gone.
            if let Some(change) = &change {
                seats(rooms, thread, change);
            }
            rooms.answer(now, link, CommitTaken { request, receipt });
            if let Some(change) = change {
                spread(rooms, now, change).await;
            }
        }
        Ok(Outcome::Lost(won)) => rooms.answer(now, link, CommitLost { request, won }),
        Ok(_) => rooms.refuse(now, link, request, Refusal::INTERNAL),
        Err(refusal) => rooms.refuse(now, link, request, refusal),
    }
}

/// The hub told of a commit, and the store has it.
pub(crate) async fn told<P: Ports>(rooms: &Rooms<P>, now: Now, thread: ThreadId, change: Change) {
    seats(rooms, thread, &change);
    if change.untold > 0 {
        tracing::warn!(devices = change.untold, "newcomers of a group cannot be told of it");
    }
    spread(rooms, now, change).await;
}

/// Subscriptions change at once: who is gone gets nothing beyond the commit, who comes reads on from it.
fn seats<P: Ports>(rooms: &Rooms<P>, thread: ThreadId, change: &Change) {
    for mailbox in &change.gone {
        if let Some(link) = rooms.push.link_of(*mailbox) {
            rooms.push.end(link, change.log, (change.epoch, change.sequence));
        }
    }
    for Reader { mailbox, cursor, start, epochs } in change.readers.iter().copied() {
        let Some(link) = rooms.push.link_of(mailbox) else { continue };
        let (which, head) = (LogRef::Thread(thread), change.sequence);
        let log = DeviceLog { log: change.log, which, cursor, start, epochs, head, end: None };
        rooms.push.renew(link, &log);
    }
    rooms.wakes.changed();
}

async fn spread<P: Ports>(rooms: &Rooms<P>, now: Now, change: Change) {
    deliver::deliver(rooms, now, change.log, change.sequence, &change.body).await;
    deliver::notices(rooms, now, &change.inboxes).await;
    for reader in &change.readers {
        if let Some(link) = rooms.push.link_of(reader.mailbox) {
            deliver::advance(rooms, link, change.log).await;
        }
    }
    let key = OutboundKey { log: change.log, sequence: change.sequence };
    federate::forward(rooms, now, &change.peers, key).await;
}

/// The hub answered.
pub(crate) fn taken<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: CommitTaken) {
    let receipt = words.receipt;
    pass_back(rooms, now, link, words.request, |request| CommitTaken { request, receipt }.into());
}

/// The hub took another.
pub(crate) fn lost<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, words: CommitLost) {
    let CommitLost { request, won } = words;
    pass_back(rooms, now, link, request, |request| CommitLost { request, won }.into());
}

fn pass_back<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    request: RequestId,
    frame: impl FnOnce(RequestId) -> Frame,
) {
    let Some(asked) = rooms.federation.answered(link, request) else {
        return tracing::debug!("a peer's answer came after its time");
    };
    match asked.what {
        What::Commit => rooms.answer(now, asked.link, frame(asked.request)),
        _ => rooms.refuse(now, asked.link, asked.request, Refusal::last(RefusalCode::PeerUntrusted)),
    }
}

/// A device asks for the commit that ended an epoch.
pub(crate) async fn fetch<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, from: Admission, words: FetchCommit) {
    let FetchCommit { request, thread, epoch } = words;
    let found = rooms.store().commit_of(from.device, thread, epoch).await.map_err(Refusal::from);
    let found = found.and_then(|found| found.ok_or(Refusal::last(RefusalCode::NotFound)));
    answer(rooms, now, link, request, found.map(|accepted| Fetched { request, accepted: Box::new(accepted) }.into()));
}
