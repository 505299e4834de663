//! Recent ids: the envelope ids of the logs' tails, kept at hand so that a second copy costs one look in memory.
//! Owns: the cache and its bound. The truth is the tail rows: a log not at hand is read from them.
//! Never: outlives a batch that was not applied ([`Recent::forget`]).

use std::collections::BTreeMap;

use whimbrel_protocol::id::{EnvelopeId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};

use super::rows::{self, space};
use crate::store::LogId;

/// The ids of the newest entries of the logs appended to last.
#[derive(Debug)]
pub struct Recent {
    logs: BTreeMap<LogId, Tail>,
    /// The logs by last use.
    used: BTreeMap<u64, LogId>,
    clock: u64,
    ids: usize,
    ids_max: usize,
}

#[derive(Debug)]
struct Tail {
    ids: BTreeMap<EnvelopeId, Sequence>,
    used: u64,
}

impl Recent {
    /// Nothing at hand yet; at most about `ids_max` ids are kept.
    pub const fn new(ids_max: usize) -> Self {
        Self { logs: BTreeMap::new(), used: BTreeMap::new(), clock: 0, ids: 0, ids_max }
    }

    /// Drops everything: what was remembered may not be so.
    pub fn forget(&mut self) {
        *self = Self { clock: self.clock, ..Self::new(self.ids_max) };
    }

    /// Where the log has this envelope, if among its newest entries.
    pub(super) fn find(
        &mut self,
        reads: &dyn Reads,
        log: LogId,
        id: EnvelopeId,
    ) -> Result<Option<Sequence>, StorageError> {
        if planted::active(Bug::AcceptTwice) {
            return Ok(None);
        }
        if !self.logs.contains_key(&log) {
            self.load(reads, log)?;
        }
        self.clock += 1;
        let Some(tail) = self.logs.get_mut(&log) else { return Ok(None) };
        self.used.remove(&tail.used);
        tail.used = self.clock;
        self.used.insert(self.clock, log);
        Ok(tail.ids.get(&id).copied())
    }

    /// A new entry: the one that falls out of the tail is named by the row that is deleted with it.
    pub(super) fn add(&mut self, log: LogId, id: EnvelopeId, sequence: Sequence, dropped: Option<EnvelopeId>) {
        if let Some(tail) = self.logs.get_mut(&log) {
            self.ids += usize::from(tail.ids.insert(id, sequence).is_none());
            if let Some(dropped) = dropped {
                self.ids -= usize::from(tail.ids.remove(&dropped).is_some());
            }
        }
        // The log in use stays, whatever its size.
        while self.ids > self.ids_max && self.logs.len() > 1 {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            self.ids -= self.logs.remove(&oldest).map_or(0, |tail| tail.ids.len());
        }
    }

    fn load(&mut self, reads: &dyn Reads, log: LogId) -> Result<(), StorageError> {
        let from = rows::of_log(space::TAIL, log, Sequence::ZERO);
        let to = rows::after(&rows::of_log(space::TAIL, log, Sequence::new(u64::MAX)));
        let mut ids = BTreeMap::new();
        for (key, value) in reads.scan(&from, &to, Order::Descending, limits::LOG_IDS_REMEMBERED)? {
            ids.insert(rows::tail_id(&key, &value)?, rows::sequence_of(&key)?);
        }
        self.ids += ids.len();
        self.logs.insert(log, Tail { ids, used: 0 });
        Ok(())
    }
}
