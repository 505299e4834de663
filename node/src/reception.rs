//! Reception: the way into the home relay.
//! Owns: the state of the one link to it, the waits between attempts, the touches for the next heartbeat, commands
//! that wait until the relay lets us in.
//! Never: sends anything itself; `flow/connect` does. Rules: docs/protocol/reception.md.
//! Limits: `limits::RELAY_BACKOFF_MIN`, `limits::HEARTBEAT_EVERY`, `limits::COMMANDS_WAITING_MAX`.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use whimbrel_crypto::Chance;
use whimbrel_protocol::id::{LinkId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::time::{Monotonic, Now, Wall};

use crate::api::{Command, Ticket};

/// How we stand with the home relay.
#[derive(Debug)]
pub(crate) enum Home {
    /// Out of reach; the next attempt has its timer.
    Down,
    /// The runtime is connecting.
    Connecting,
    /// Asked to take the account in.
    Registering { link: LinkId, exporter: [u8; 32] },
    /// Told who we are.
    Greeting { link: LinkId },
    /// In.
    Admitted {
        link: LinkId,
        heard: Monotonic,
        /// Whether the relay keeps how far our store has come; nothing is asked or handed in before.
        stamped: bool,
    },
    /// The relay does not take this account; asking again would change nothing.
    Rejected(RefusalCode),
}

/// The room.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) home: Home,
    /// Why the last attempt failed; empty before the first.
    pub(crate) reason: String,
    /// Failed attempts since the relay last admitted us.
    pub(crate) attempts: u32,
    /// Redirects followed in the present attempt.
    pub(crate) redirects: u32,
    /// Whether the attempt before was sent on and came to nothing: the relay is asked to serve us where we come in.
    pub(crate) stays: bool,
    /// Whether the owner knows that the relay is out of reach.
    pub(crate) told_down: bool,
    /// Heartbeats sent since the process began.
    pub(crate) beats: u64,
    /// Frames of the present link that could not be read.
    pub(crate) malformed: u32,
    /// The relay's clock by its last word on the present link, and when that came.
    pub(crate) clock: Option<(Wall, Monotonic)>,
    /// Commands that wait until the relay lets us in.
    pub(crate) waiting: VecDeque<(Ticket, Command)>,
    /// Whether something was sealed since the relay was last told how far this store has come.
    pub(crate) sealed: bool,
    /// Whether the relay left out entries before it kept the first stamp on this link.
    pub(crate) gap: bool,
    /// Whether the relay has kept a stamp of this store since the process began: it is no old copy.
    pub(crate) proved: bool,
    /// Whether the relay said that it is one.
    pub(crate) outdated: bool,
    touches: BTreeSet<ThreadId>,
}

impl Reception {
    pub(crate) fn new() -> Self {
        Self {
            home: Home::Down,
            reason: String::new(),
            attempts: 0,
            redirects: 0,
            stays: false,
            told_down: false,
            beats: 0,
            malformed: 0,
            clock: None,
            waiting: VecDeque::new(),
            sealed: false,
            gap: false,
            proved: false,
            outdated: false,
            touches: BTreeSet::new(),
        }
    }

    /// The link, once it stands.
    pub(crate) fn link(&self) -> Option<LinkId> {
        match &self.home {
            Home::Registering { link, .. } | Home::Greeting { link } | Home::Admitted { link, .. } => Some(*link),
            Home::Down | Home::Connecting | Home::Rejected(_) => None,
        }
    }

    /// Whether the relay has let us in, and pushes what it has for us.
    pub(crate) const fn is_let_in(&self) -> bool {
        matches!(self.home, Home::Admitted { .. })
    }

    /// Whether this device's clock and the relay's tell about the same time. Two that agree may both be wrong, but of two
    /// that do not, one surely is.
    pub(crate) fn clocks_agree(&self, now: Now) -> bool {
        let Some((wall, heard)) = self.clock else { return false };
        let relay = u128::from(wall.as_millis()) + now.monotonic.since(heard).as_millis();
        u128::from(now.wall.as_millis()).abs_diff(relay) < limits::KEY_PACKAGE_STOCK_AHEAD_MAX.as_millis()
    }

    /// The link, once the relay serves us on it.
    pub(crate) fn admitted(&self) -> Option<LinkId> {
        match &self.home {
            Home::Admitted { link, stamped: true, .. } => Some(*link),
            _ => None,
        }
    }

    /// Something happened in a thread that the relay has no copy of.
    pub(crate) fn touch(&mut self, thread: ThreadId) {
        if self.touches.len() < limits::TOUCHES_MAX {
            self.touches.insert(thread);
        }
    }

    pub(crate) fn take_touches(&mut self) -> Vec<ThreadId> {
        std::mem::take(&mut self.touches).into_iter().collect()
    }
}

/// The wait before attempt `attempts + 1`: doubling between the bounds, the upper half of it by chance so that a
/// relay that comes back is not met by all its nodes at once.
pub(crate) fn backoff(attempts: u32, chance: &mut Chance) -> Duration {
    let factor = 1u32.checked_shl(attempts).unwrap_or(u32::MAX);
    let full = limits::RELAY_BACKOFF_MIN.saturating_mul(factor).min(limits::RELAY_BACKOFF_MAX);
    let half = full / 2;
    half + Duration::from_millis(chance.below(half.as_millis() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use whimbrel_crypto::Seed;

    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_differ() {
        let mut chance = Chance::from_seed(Seed::from_bytes([1; 32]));
        for attempts in [0, 1, 5, 31, 32, u32::MAX] {
            let wait = backoff(attempts, &mut chance);
            assert!(wait >= limits::RELAY_BACKOFF_MIN / 2 && wait <= limits::RELAY_BACKOFF_MAX, "{wait:?}");
        }
        assert!(backoff(20, &mut chance) >= limits::RELAY_BACKOFF_MAX / 2);
        assert_ne!(backoff(20, &mut chance), backoff(20, &mut chance));
    }
}
