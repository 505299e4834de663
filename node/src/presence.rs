//! Presence: which friends are there, by the home relay's word.
//! Owns: the statuses of the present link, in memory alone; they end with it.
//! Never: decides by which way, or whether, a message is sent. Rules: docs/protocol/presence.md.
//! Limits: `limits::FRIENDS_MAX`, `limits::COMMANDS_WAITING_MAX`.

use std::collections::BTreeSet;

use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::Status;

use crate::api::Ticket;

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// The version of what is known here; zero: nothing.
    version: u64,
    /// Whether the relay told anything on the present link.
    answered: bool,
    online: BTreeSet<AccountId>,
    /// Who wants to know as soon as it does.
    waiting: Vec<Ticket>,
}

impl Presence {
    /// The version to name in the next heartbeat.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Whether the relay told who is there.
    pub(crate) const fn is_known(&self) -> bool {
        self.answered
    }

    /// Everybody who is there.
    pub(crate) fn online(&self) -> Vec<AccountId> {
        self.online.iter().copied().collect()
    }

    /// Somebody waits for the first answer. Says whether there was room.
    pub(crate) fn wait(&mut self, ticket: Ticket) -> bool {
        let room = self.waiting.len() < limits::COMMANDS_WAITING_MAX;
        if room {
            self.waiting.push(ticket);
        }
        room
    }

    /// Takes what a heartbeat's answer told; gives what is news.
    pub(crate) fn told(&mut self, version: u64, statuses: impl IntoIterator<Item = Status>) -> Vec<Status> {
        (self.version, self.answered) = (version, true);
        let mut news = Vec::new();
        for status in statuses {
            let changed = match status.online {
                true => self.online.len() < limits::FRIENDS_MAX && self.online.insert(status.account),
                false => self.online.remove(&status.account),
            };
            if changed {
                news.push(status);
            }
        }
        news
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.waiting)
    }

    /// The link is gone, and what it told with it; gives who waited.
    pub(crate) fn forget(&mut self) -> Vec<Ticket> {
        std::mem::take(self).waiting
    }
}
