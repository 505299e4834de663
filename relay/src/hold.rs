//! Hold: how far each device has acknowledged each log.
//! Owns: cursors that moved and are not written yet; writing them, and letting go what everybody has.
//! Never: believes a device beyond what was pushed to it (the flow asks `push` first).
//! Limits: `limits::CURSOR_WRITE_DELAY`, `limits::CURSORS_DIRTY_MAX`. Rules: docs/protocol/hold.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::id::Sequence;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;

use crate::store::command::Trim;
use crate::store::{Command, LogId, MailboxId, Outcome, Store, StoreError};

type Cursors = BTreeMap<(LogId, MailboxId), Sequence>;

#[derive(Debug, Default)]
struct State {
    /// Moved since they were last handed to the store.
    dirty: Cursors,
    /// With the store now.
    writing: Option<Cursors>,
    /// Logs with more to let go than one trim takes.
    again: BTreeSet<LogId>,
    /// When to write.
    due: Option<Monotonic>,
}

/// Cursors in memory.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    state: Mutex<State>,
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device has a log up to here. True when so many wait that they are to be written now.
    pub(crate) fn acknowledge(&self, now: Monotonic, mailbox: MailboxId, log: LogId, upto: Sequence) -> bool {
        let mut state = self.state();
        let cursor = state.dirty.entry((log, mailbox)).or_default();
        *cursor = upto.max(*cursor);
        state.due.get_or_insert(now.plus(limits::CURSOR_WRITE_DELAY));
        state.dirty.len() >= limits::CURSORS_DIRTY_MAX
    }

    /// What a device has of a log, given what is written of it.
    pub(crate) fn cursor(&self, mailbox: MailboxId, log: LogId, written: Sequence) -> Sequence {
        let state = self.state();
        let place = (log, mailbox);
        let known = [state.dirty.get(&place), state.writing.as_ref().and_then(|writing| writing.get(&place))];
        known.into_iter().flatten().copied().fold(written, Sequence::max)
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        let state = self.state();
        state.due.filter(|_| state.writing.is_none())
    }

    /// Writes what is due.
    pub(crate) async fn timeout(&self, store: &impl Store, now: Monotonic) -> Result<(), StoreError> {
        if self.next_wake().is_some_and(|due| due <= now) { self.write(store, now).await } else { Ok(()) }
    }

    /// Writes every cursor that moved, each log's together with the trim that relies on them. One writer at a time;
    /// what moves meanwhile waits for the next.
    pub(crate) async fn write(&self, store: &impl Store, now: Monotonic) -> Result<(), StoreError> {
        let commands = {
            let mut state = self.state();
            if state.writing.is_some() {
                return Ok(());
            }
            let dirty = std::mem::take(&mut state.dirty);
            let again = std::mem::take(&mut state.again);
            state.due = None;
            let commands = commands(&dirty, again);
            state.writing = Some(dirty);
            commands
        };
        if commands.is_empty() {
            self.state().writing = None;
            return Ok(());
        }
        let logs: Vec<LogId> = commands.iter().map(|trim| trim.log).collect();
        let result = store.commit_all(commands.into_iter().map(Command::Trim).collect()).await;
        let mut state = self.state();
        let written = state.writing.take().unwrap_or_default();
        match result {
            Ok(outcomes) => {
                for (log, outcome) in logs.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(Outcome::Trimmed { more: true, .. }) => {
                            state.again.insert(log);
                        }
                        Ok(_) => {}
                        // A damaged row of one log: its cursors cost a redelivery, nothing else.
                        Err(conflict) => tracing::error!(%conflict, "cursors of a log were not written"),
                    }
                }
                if !state.again.is_empty() {
                    state.due = Some(now);
                }
                Ok(())
            }
            Err(error) => {
                for (place, upto) in written {
                    let cursor = state.dirty.entry(place).or_default();
                    *cursor = upto.max(*cursor);
                }
                state.due = Some(now.plus(limits::CURSOR_WRITE_DELAY));
                Err(error)
            }
        }
    }
}

/// One trim for each log.
fn commands(dirty: &Cursors, again: BTreeSet<LogId>) -> Vec<Trim> {
    let mut logs: BTreeMap<LogId, Vec<(MailboxId, Sequence)>> =
        again.into_iter().map(|log| (log, Vec::new())).collect();
    for ((log, mailbox), upto) in dirty {
        logs.entry(*log).or_default().push((*mailbox, *upto));
    }
    logs.into_iter().map(|(log, cursors)| Trim { log, cursors }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LOG: LogId = LogId::from_bytes([1; 16]);
    const BOX: MailboxId = MailboxId::from_bytes([2; 16]);

    #[test]
    fn a_cursor_only_moves_forward_and_counts_before_it_is_written() {
        let hold = Hold::default();
        let now = Monotonic::default();
        hold.acknowledge(now, BOX, LOG, Sequence::new(7));
        hold.acknowledge(now, BOX, LOG, Sequence::new(5));
        assert_eq!(hold.cursor(BOX, LOG, Sequence::new(2)), Sequence::new(7));
        assert_eq!(hold.cursor(BOX, LOG, Sequence::new(9)), Sequence::new(9));
    }

    #[test]
    fn many_acknowledgements_are_written_once_and_later() {
        let hold = Hold::default();
        let start = Monotonic::default();
        assert_eq!(hold.next_wake(), None);
        for n in 1..100 {
            hold.acknowledge(start, BOX, LOG, Sequence::new(n));
        }
        assert_eq!(hold.next_wake(), Some(start.plus(limits::CURSOR_WRITE_DELAY)));
        assert_eq!(commands(&hold.state().dirty, BTreeSet::new()).len(), 1);
    }
}
