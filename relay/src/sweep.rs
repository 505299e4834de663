//! Sweep: what goes in the course of time: entries that waited too long, rows of deleted accounts.
//! Owns: when the next look is due, and where it stands. Never: drops anything itself; commands do.
//! Limits: `limits::SWEEP_EVERY`, `limits::SWEEP_LOGS`, `limits::HOLD_AGE_MIN`, `limits::HOLD_AGE_MAX`.
//! Rules: docs/protocol/hold.md.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_protocol::id::Domain;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_storage::planted::{self, Bug};

use crate::store::command::LogBounds;
use crate::store::command::people::Expire;
use crate::store::{Command, LogId, Outcome, Store, StoreError};

/// Accounts looked at once.
const PURGES: usize = 4;

#[derive(Debug, Default)]
struct State {
    due: Option<Monotonic>,
    place: Option<LogId>,
    running: bool,
    /// By how much the wall clock was ahead of the other when last looked at, and since when it has been.
    agree: Option<(u64, Monotonic)>,
}

impl State {
    /// For how long the wall clock has gone like the other, but for what is tolerated.
    fn agreed(&mut self, now: Now, tolerated: Duration) -> Duration {
        let ahead = now.wall.as_millis().wrapping_sub(millis(now.monotonic.since_start()));
        match self.agree {
            Some((before, since)) if ahead.abs_diff(before) <= millis(tolerated) => now.monotonic.since(since),
            _ => {
                self.agree = Some((ahead, now.monotonic));
                Duration::ZERO
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What looks for it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// How long what nobody fetches is held.
    age: Duration,
    state: Mutex<State>,
}

impl Sweeper {
    /// Of a relay that holds what nobody fetches for so long.
    pub(crate) fn new(age: Duration) -> Self {
        Self { age, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay was opened: an account may have been on its way out.
    pub(crate) fn begin(&self, now: Monotonic) {
        self.state().due = Some(now);
    }

    /// There is an account to purge.
    pub(crate) fn purge_now(&self, now: Monotonic) {
        self.state().due = Some(now);
    }

    /// How far the two clocks may part and still be said to go alike: what is held for a short time must not go by a
    /// small jump.
    fn tolerated(&self) -> Duration {
        limits::CLOCK_AHEAD_MAX.min(self.age / 8)
    }

    /// Whether the wall clock has gone like the other for so long that what is old by it can go: one that jumps, by a year
    /// or a day, must not end what others rely on.
    pub(crate) fn is_sure(&self, now: Now) -> bool {
        self.state().agreed(now, self.tolerated()) >= limits::SWEEP_CLOCK_SURE
    }

    /// The same for entries. Held for less than that, what was written before a jump has been here for as long as it is
    /// held once the clocks have agreed for that long, so nothing goes too soon.
    fn lets_go(&self, state: &mut State, now: Now) -> bool {
        state.agreed(now, self.tolerated()) >= limits::SWEEP_CLOCK_SURE.min(self.age)
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        let state = self.state();
        state.due.filter(|_| !state.running)
    }

    /// Does what is due. Gives the inboxes that got a notice.
    pub(crate) async fn timeout(
        &self,
        store: &impl Store,
        now: Now,
        (local, bounds): (&Domain, LogBounds),
    ) -> Result<Vec<LogId>, StoreError> {
        let place = {
            let mut state = self.state();
            if state.running || state.due.is_none_or(|due| due > now.monotonic) {
                return Ok(Vec::new());
            }
            state.running = true;
            (state.place, self.lets_go(&mut state, now).then_some(self.age))
        };
        let swept = sweep(store, now.wall, place, (local, bounds)).await;
        let mut state = self.state();
        state.running = false;
        state.due = Some(now.monotonic.plus(limits::SWEEP_EVERY.min(self.age / 2)));
        let Swept { inboxes, place, more } = swept?;
        state.place = place;
        if more {
            state.due = Some(now.monotonic);
        }
        Ok(inboxes)
    }
}

struct Swept {
    inboxes: Vec<LogId>,
    place: Option<LogId>,
    more: bool,
}

async fn sweep(
    store: &impl Store,
    at: Wall,
    (place, age): (Option<LogId>, Option<Duration>),
    (local, bounds): (&Domain, LogBounds),
) -> Result<Swept, StoreError> {
    let mut more = false;
    let purge: Vec<_> = store.to_purge(PURGES).await?.into_iter().map(Command::Purge).collect();
    if !purge.is_empty() {
        let purged = store.commit_all(purge).await?;
        more = purged.iter().any(|outcome| matches!(outcome, Ok(Outcome::Purged { more: true })));
    }
    let Some(age) = age else { return Ok(Swept { inboxes: Vec::new(), place, more }) };
    let age = if planted::active(Bug::ExpiryEarly) { age / 2 } else { age };
    let before = Wall::from_millis(at.as_millis().saturating_sub(millis(age)));
    let (stale, place) = store.stale_logs(before, place, limits::SWEEP_LOGS).await?;
    let expire = |log| Command::Expire(Expire { log, before, local: local.clone(), at, bounds });
    let mut inboxes = Vec::new();
    if !stale.is_empty() {
        for outcome in store.commit_all(stale.into_iter().map(expire).collect()).await? {
            match outcome {
                Ok(Outcome::Expired { entries, inboxes: told }) => {
                    tracing::info!(entries, "entries nobody fetched in time are gone");
                    inboxes.extend(told);
                }
                Ok(_) => {}
                Err(conflict) => tracing::warn!(%conflict, "what waited too long stays for now"),
            }
        }
    }
    Ok(Swept { inboxes, place, more })
}
