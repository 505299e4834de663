//! Reception: the front door. One session per link, from its first frame to its end.
//! Owns: sessions and their stages, who is admitted on which link, the time a link may stay silent, answers that wait
//! for room in a link's queue, and the envelopes of a link that were refused for now.
//! Never: reads an account (the flow does), pushes an entry (`push`), dials (`federation`).
//! Limits: `limits::AUTHENTICATION_TIME_MAX`, `limits::LINK_IDLE_MAX`, `limits::LINK_REQUESTS_MAX`,
//! `limits::SUBMITS_MAX`.
//! Rules: docs/protocol/reception.md.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use whimbrel_crypto::account_log::UnverifiedLog;
use whimbrel_crypto::{AccountLog, link};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Domain, LinkId, PublicKey, RequestId, ThreadId};
use whimbrel_protocol::reception::{Hello, Register};
use whimbrel_protocol::time::Monotonic;
use whimbrel_protocol::{Frame, RefusalCode, limits};

use crate::admission::{Admission, Stranger};
use crate::ports::{Links, SendError};
use crate::refusal::Refusal;
use crate::store::Account;

/// What TLS proved about a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Proved {
    pub(crate) transport: PublicKey,
    pub(crate) exporter: [u8; 32],
    /// The network it came from: what it asks for before it is let in is taken of that one's share.
    pub(crate) source: u64,
    /// The push address it came in at, by its place in the configuration.
    pub(crate) door: Option<u16>,
}

/// How far a link has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// A node, its first frame awaited.
    Node(Proved),
    /// A node whose first frame is being looked into: the next one comes too early.
    Proving(Proved),
    /// A device that is to come, waiting for one that speaks for its account: served nothing else.
    Linking,
    /// An own user's device.
    Device(Admission),
    /// A relay came in, its hello awaited.
    Stranger(Stranger),
    /// A relay whose hello is being looked into: the next frame comes too early.
    Vetting,
    /// A relay that came in and is who it says.
    PeerIn(Domain),
    /// A relay we reached.
    PeerOut(Domain),
}

#[derive(Debug)]
struct Session {
    stage: Stage,
    heard: Monotonic,
    /// Answers its queue had no room for; they go before anything else.
    overflow: VecDeque<Arc<Frame>>,
    /// Envelopes refused for now, in the order their refusals were sent, as far as the device has not said it heard.
    unheard: VecDeque<(RequestId, ThreadId, Refusal)>,
    /// Whether the device has handed in a stamp on it.
    stamped: bool,
}

impl Session {
    /// When the link ends unless something is heard.
    fn deadline(&self) -> Monotonic {
        self.heard.plus(match &self.stage {
            Stage::Node(_) | Stage::Stranger(_) => limits::AUTHENTICATION_TIME_MAX,
            // Its first frame is here: the time is the store's, not the peer's, and a store that is slow under load must
            // not turn away those who came in time.
            Stage::Proving(_) | Stage::Vetting => limits::LINK_IDLE_MAX,
            Stage::Linking => limits::LINKING_TIME_MAX,
            Stage::Device(_) | Stage::PeerOut(_) => limits::LINK_IDLE_MAX,
            // The side that dialled ends an idle link first, so that nothing is sent into one that is ending.
            Stage::PeerIn(_) => limits::LINK_IDLE_MAX.saturating_add(limits::LINK_IDLE_MAX),
        })
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<LinkId, Session>,
    devices: BTreeMap<DeviceId, LinkId>,
    /// At or before each session's deadline; looked at again when it has come.
    wakes: BTreeSet<(Monotonic, LinkId)>,
}

/// The sessions of all links.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    state: Mutex<State>,
}

impl Reception {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the tables whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn link_up(&self, now: Monotonic, link: LinkId, stage: Stage) {
        let (overflow, unheard) = (VecDeque::new(), VecDeque::new());
        let session = Session { stage, heard: now, overflow, unheard, stamped: false };
        let mut state = self.state();
        state.wakes.insert((session.deadline(), link));
        state.sessions.insert(link, session);
    }

    /// Whether this is the first stamp on a link: it belongs to coming in, which has bounds of its own.
    pub(crate) fn first_stamp(&self, link: LinkId) -> bool {
        self.state().sessions.get_mut(&link).is_some_and(|session| !std::mem::replace(&mut session.stamped, true))
    }

    /// How far the link has come; something was heard on it. Nothing: it has ended.
    pub(crate) fn heard(&self, now: Monotonic, link: LinkId) -> Option<Stage> {
        let mut state = self.state();
        let session = state.sessions.get_mut(&link)?;
        // Before admission, talking buys no time.
        if matches!(session.stage, Stage::Device(_) | Stage::PeerIn(_) | Stage::PeerOut(_)) {
            session.heard = session.heard.max(now);
        }
        Some(session.stage.clone())
    }

    /// Why nothing may be taken of a thread on a link: an envelope of it was refused for now, and whoever handed in the
    /// next had not heard. `heard`: the newest refusal they had.
    pub(crate) fn waits(&self, link: LinkId, thread: ThreadId, heard: Option<RequestId>) -> Option<Refusal> {
        let mut state = self.state();
        let unheard = &mut state.sessions.get_mut(&link)?.unheard;
        if let Some(place) = unheard.iter().position(|(request, ..)| heard == Some(*request)) {
            unheard.drain(..=place);
        }
        unheard.iter().find(|(_, waiting, _)| *waiting == thread).map(|(.., refusal)| *refusal)
    }

    /// An envelope is refused for now.
    pub(crate) fn wait(&self, link: LinkId, thread: ThreadId, request: RequestId, refusal: Refusal) {
        if let Some(session) = self.state().sessions.get_mut(&link) {
            // More than a device hands in at once: it does not listen, and the order is that of its own words.
            let over = (session.unheard.len() + 1).saturating_sub(limits::SUBMITS_MAX);
            session.unheard.drain(..over);
            session.unheard.push_back((request, thread, refusal));
        }
    }

    /// Puts the link in its next stage, if it still lives.
    pub(crate) fn advance(&self, link: LinkId, stage: Stage) -> bool {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&link) else { return false };
        session.stage = stage;
        let wake = (session.deadline(), link);
        state.wakes.insert(wake);
        true
    }

    /// Back to the first frame: an account was registered on this link and goes on with a hello.
    pub(crate) fn registered(&self, now: Monotonic, link: LinkId, proved: Proved) -> bool {
        if let Some(session) = self.state().sessions.get_mut(&link) {
            session.heard = now;
        }
        self.advance(link, Stage::Node(proved))
    }

    /// Admits a device, if its link still lives. The newest link of a device is its link: gives the one it replaces.
    pub(crate) fn admit(&self, now: Monotonic, link: LinkId, admission: Admission) -> Option<Option<LinkId>> {
        let mut state = self.state();
        let session = state.sessions.get_mut(&link)?;
        session.stage = Stage::Device(admission);
        session.heard = session.heard.max(now);
        let wake = (session.deadline(), link);
        state.wakes.insert(wake);
        Some(state.devices.insert(admission.device, link).filter(|old| *old != link))
    }

    /// The link on which a device is admitted.
    pub(crate) fn link_of(&self, device: DeviceId) -> Option<LinkId> {
        self.state().devices.get(&device).copied()
    }

    /// The links on which an account's devices are admitted.
    pub(crate) fn links_of(&self, account: AccountId) -> Vec<LinkId> {
        let device = |index| DeviceId { account, index: DeviceIndex::new(index) };
        self.state().devices.range(device(0)..=device(u32::MAX)).map(|(_, link)| *link).collect()
    }

    /// Whether a link came for a linking alone.
    pub(crate) fn is_linking(&self, link: LinkId) -> bool {
        self.state().sessions.get(&link).is_some_and(|session| session.stage == Stage::Linking)
    }

    pub(crate) fn lives(&self, link: LinkId) -> bool {
        self.state().sessions.contains_key(&link)
    }

    /// Ends a session; tells what it was.
    pub(crate) fn lost(&self, link: LinkId) -> Option<Stage> {
        let mut state = self.state();
        let session = state.sessions.remove(&link)?;
        if let Stage::Device(Admission { device, .. }) = &session.stage
            && state.devices.get(device) == Some(&link)
        {
            state.devices.remove(device);
        }
        Some(session.stage)
    }

    /// Sends an answer: behind those that wait for room. A link that lets too many wait is told nothing more: false.
    pub(crate) fn send(&self, links: &impl Links, link: LinkId, frame: impl Into<Frame>) -> bool {
        let frame = Arc::new(frame.into());
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&link) else { return true };
        if session.overflow.is_empty() && links.send(link, Arc::clone(&frame)) != Err(SendError::Full) {
            return true;
        }
        session.overflow.push_back(frame);
        session.overflow.len() <= limits::LINK_REQUESTS_MAX
    }

    /// Sends what waited for room; true when nothing waits any more.
    pub(crate) fn drained(&self, links: &impl Links, link: LinkId) -> bool {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&link) else { return false };
        while let Some(frame) = session.overflow.front() {
            if links.send(link, Arc::clone(frame)) == Err(SendError::Full) {
                return false;
            }
            session.overflow.pop_front();
        }
        true
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        self.state().wakes.first().map(|(at, _)| *at)
    }

    /// Links that were silent for too long.
    pub(crate) fn silent(&self, now: Monotonic) -> Vec<LinkId> {
        let mut state = self.state();
        let mut silent = Vec::new();
        while let Some((at, link)) = state.wakes.first().copied().filter(|(at, _)| *at <= now) {
            state.wakes.remove(&(at, link));
            let Some(deadline) = state.sessions.get(&link).map(Session::deadline) else { continue };
            if deadline <= now {
                silent.push(link);
            } else {
                state.wakes.insert((deadline, link));
            }
        }
        silent
    }
}

/// The push address an account's devices belong to: the one of highest rendezvous weight (Thaler and Ravishankar, "Using
/// Name-Based Mappings to Increase Hit Rates", 1998), so that each one that comes or goes moves only its own share.
pub(crate) fn push_address(push: &[String], account: AccountId) -> Option<&str> {
    let weight = |address: &&String| -> [u8; 32] {
        Sha256::new().chain_update(account.as_bytes()).chain_update(address.as_bytes()).finalize().into()
    };
    push.iter().max_by_key(weight).map(String::as_str)
}

/// Checks a registration: the log proves itself, the device is in it, and the device stands behind this link.
pub(crate) fn verify_register(words: &Register, proved: &Proved) -> Result<AccountLog, RefusalCode> {
    let log = UnverifiedLog(words.log.clone()).verify().map_err(|_| RefusalCode::NotAuthenticated)?;
    let device = log.device(words.device.index).filter(|_| log.account() == words.device.account);
    let device = device.ok_or(RefusalCode::NotAuthenticated)?;
    stands_behind(&device.device_key, &device.transport_key, &words.proof, proved)?;
    Ok(log)
}

/// Checks a hello against the account as it is known here.
pub(crate) fn verify_hello(
    words: &Hello,
    account: Option<&Account>,
    proved: &Proved,
) -> Result<Admission, RefusalCode> {
    // An account that is not known, a device that is not its, and a proof that does not hold look alike.
    let account = account.ok_or(RefusalCode::NotAuthenticated)?;
    let device = account.device(words.device.index).ok_or(RefusalCode::NotAuthenticated)?;
    stands_behind(&device.device_key, &device.transport_key, &words.proof, proved)?;
    if words.log_seq == account.log_seq && words.log_hash != account.log_hash {
        return Err(RefusalCode::NotAuthenticated);
    }
    Ok(Admission { device: words.device, mailbox: device.mailbox, inbox: account.inbox })
}

fn stands_behind(
    device_key: &PublicKey,
    transport_key: &PublicKey,
    proof: &whimbrel_protocol::id::Signature,
    proved: &Proved,
) -> Result<(), RefusalCode> {
    if *transport_key != proved.transport {
        return Err(RefusalCode::NotAuthenticated);
    }
    link::verify_proof(device_key, &proved.exporter, proof).map_err(|_| RefusalCode::NotAuthenticated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_in_time_is_not_turned_away_for_the_time_the_store_takes() {
        let (reception, link) = (Reception::default(), LinkId::new(1));
        let at = |time: std::time::Duration| Monotonic::default().plus(time);
        let proved = Proved { transport: PublicKey::from_bytes([1; 32]), exporter: [2; 32], source: 7, door: None };
        reception.link_up(at(std::time::Duration::ZERO), link, Stage::Node(proved));
        reception.link_up(at(std::time::Duration::ZERO), LinkId::new(2), Stage::Node(proved));
        assert!(reception.advance(link, Stage::Proving(proved)));
        assert_eq!(reception.silent(at(limits::AUTHENTICATION_TIME_MAX)), [LinkId::new(2)]);
        assert_eq!(reception.silent(at(limits::LINK_IDLE_MAX)), [link]);
    }
}
