//! Wake-ups: a device that is away is told, by its push service, that something waits; never what.
//! Owns: when each device was last woken, and which logs have nobody left to wake.
//! Never: has content, is the only way anything arrives, waits for a push service.
//! Limits: `limits::WAKE_EVERY`, `limits::WAKE_UNANSWERED`, `limits::WAKE_DEVICES_MAX`, `limits::WAKE_LOGS_MAX`.
//! Rules: docs/protocol/wake.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::id::DeviceId;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Wall};
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::planted::{self, Bug};

use crate::store::{LogId, MailboxId, Store, StoreError};

/// Devices read at once.
const PAGE: usize = 256;

type Sleepers = Arc<Vec<(DeviceId, MailboxId)>>;

#[derive(Clone, Copy, Debug)]
struct Nap {
    woken: Monotonic,
    /// It has not come back since.
    unanswered: bool,
    /// It is to be woken then.
    due: Option<Monotonic>,
}

impl Nap {
    /// When it may be woken again.
    fn next(&self) -> Monotonic {
        if planted::active(Bug::WakeOften) {
            return self.woken;
        }
        self.woken.plus(if self.unanswered { limits::WAKE_UNANSWERED } else { limits::WAKE_EVERY })
    }
}

/// Whom a log wakes, and until when there is nobody to wake.
#[derive(Debug)]
struct Readers {
    sleepers: Sleepers,
    /// Who keeps a thread quiet for a while changes without a word: they are read again after this.
    good_until: Monotonic,
    quiet_until: Option<Monotonic>,
}

/// Whether wake-ups can go to an endpoint at all: `https:`, a host, a key that is one. Where the host leads is for the
/// runtime to look at, when it has been resolved.
pub(crate) fn is_endpoint(endpoint: &WakeEndpoint) -> bool {
    let host = endpoint.url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    let printable = endpoint.url.bytes().all(|byte| byte.is_ascii_graphic());
    let key = endpoint.key.len() == limits::WAKE_KEY_BYTES && endpoint.key.first() == Some(&4);
    host.is_some_and(|host| !host.is_empty() && !host.contains('@')) && printable && key
}

#[derive(Debug, Default)]
struct State {
    naps: BTreeMap<DeviceId, Nap>,
    due: BTreeSet<(Monotonic, DeviceId)>,
    logs: BTreeMap<LogId, Readers>,
}

impl State {
    fn forget_logs(&mut self) {
        self.logs.clear();
    }
}

/// Who is to be woken.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    state: Mutex<State>,
}

impl Wakes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something waits in a log: gives the devices to wake, each of which [`Self::take`] has the last word on. `is_here`
    /// tells whether a device has a link.
    pub(crate) async fn nudge(
        &self,
        store: &impl Store,
        (now, at): (Monotonic, Wall),
        log: LogId,
        is_here: impl Fn(MailboxId) -> bool,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let fresh = |readers: &&Readers| now < readers.good_until;
        let known = self
            .state()
            .logs
            .get(&log)
            .filter(fresh)
            .map(|readers| (Arc::clone(&readers.sleepers), readers.good_until, readers.quiet_until));
        let (sleepers, good_until) = match known {
            Some((_, _, Some(until))) if now < until && !planted::active(Bug::WakeOften) => return Ok(Vec::new()),
            Some((sleepers, good_until, _)) => (sleepers, good_until),
            None => (self.read(store, at, log).await?, now.plus(limits::WAKE_UNANSWERED)),
        };
        let mut state = self.state();
        let (mut wake, mut quiet) = (Vec::new(), now.plus(limits::WAKE_UNANSWERED));
        for (device, mailbox) in sleepers.iter() {
            // Whoever is here is woken for nothing until it leaves; that forgets the log.
            if is_here(*mailbox) {
                continue;
            }
            match state.naps.get(device) {
                Some(nap) if now < nap.next() => {
                    quiet = quiet.min(nap.next());
                    put_off(&mut state, *device);
                }
                _ => wake.push(*device),
            }
        }
        if state.logs.len() >= limits::WAKE_LOGS_MAX && !state.logs.contains_key(&log) {
            state.forget_logs();
        }
        state.logs.insert(log, Readers { sleepers, good_until, quiet_until: Some(quiet) });
        Ok(wake)
    }

    async fn read(&self, store: &impl Store, at: Wall, log: LogId) -> Result<Sleepers, StoreError> {
        let mut sleepers: Vec<(DeviceId, MailboxId)> = Vec::new();
        loop {
            let after = sleepers.last().map(|(device, _)| *device);
            let page = store.sleepers(log, at, after, PAGE).await?;
            let last = page.len() < PAGE;
            sleepers.extend(page);
            if last {
                return Ok(Arc::new(sleepers));
            }
        }
    }

    /// A device came in: it needs no waking, and if it was woken, that worked.
    pub(crate) fn came(&self, device: DeviceId) {
        let mut state = self.state();
        if let Some(nap) = state.naps.get_mut(&device) {
            nap.unanswered = false;
            if let Some(due) = nap.due.take() {
                state.due.remove(&(due, device));
            }
        }
    }

    /// A device left: what is written to it from now on wakes it.
    pub(crate) fn left(&self, logs: &[LogId]) {
        let mut state = self.state();
        for log in logs {
            if let Some(readers) = state.logs.get_mut(log) {
                readers.quiet_until = None;
            }
        }
    }

    /// Who reads what, or may be woken for it, has changed: it is read again.
    pub(crate) fn changed(&self) {
        self.state().forget_logs();
    }

    /// A wake-up is about to leave: whether it may. It is remembered as of the moment it leaves, not of when it was
    /// thought of: between the two lies the store, which may take its time.
    pub(crate) fn take(&self, device: DeviceId, now: Monotonic) -> bool {
        let mut state = self.state();
        let free = state.naps.get(&device).is_none_or(|nap| nap.next() <= now);
        if free {
            woken(&mut state, now, device);
        } else {
            put_off(&mut state, device);
        }
        free
    }

    /// Devices whose time has come, for [`Self::take`].
    pub(crate) fn due(&self, now: Monotonic) -> Vec<DeviceId> {
        let mut state = self.state();
        let mut wake = Vec::new();
        while let Some((_, device)) = state.due.first().copied().filter(|(at, _)| *at <= now) {
            state.due.pop_first();
            if let Some(nap) = state.naps.get_mut(&device) {
                nap.due = None;
            }
            wake.push(device);
        }
        wake
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        self.state().due.first().map(|(at, _)| *at)
    }
}

/// It was woken a moment ago, and has come and gone since: it is woken when it may be again.
fn put_off(state: &mut State, device: DeviceId) {
    if let Some(nap) = state.naps.get_mut(&device).filter(|nap| !nap.unanswered && nap.due.is_none()) {
        let due = nap.next();
        nap.due = Some(due);
        state.due.insert((due, device));
    }
}

fn woken(state: &mut State, now: Monotonic, device: DeviceId) {
    if state.naps.len() >= limits::WAKE_DEVICES_MAX && !state.naps.contains_key(&device) {
        // Those whose time is over need no memory; if there are none, one is woken once too often.
        state.naps.retain(|_, nap| now < nap.next() || nap.due.is_some());
        if state.naps.len() >= limits::WAKE_DEVICES_MAX
            && let Some((gone, Nap { due: Some(due), .. })) = state.naps.pop_first()
        {
            state.due.remove(&(due, gone));
        }
    }
    let before = state.naps.insert(device, Nap { woken: now, unanswered: true, due: None });
    if let Some(due) = before.and_then(|nap| nap.due) {
        state.due.remove(&(due, device));
    }
}
