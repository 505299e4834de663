//! The account's page on what a relay let go of a log because it was full: who was told.
//! Owns: who was told that something is gone, and of which messages authors were told so.

use whimbrel_node::api::State;
use whimbrel_protocol::RefusalCode;

use super::*;

/// What was said of what is gone.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Who was told that a thread's log has lost entries, or shows it.
    told: BTreeSet<(ProcessNo, ThreadId)>,
    /// Who was told that somebody's contents are missing in a thread.
    missing: BTreeSet<(ProcessNo, ThreadId, AccountId)>,
    /// Messages of whose loss to these people their author was told, because a log was full.
    lost: BTreeSet<(usize, ProcessNo)>,
}

impl Ledger {
    /// Somebody's node tells them something.
    pub(super) fn told_of_loss(&mut self, on: ProcessNo, event: &Event) {
        match event {
            Event::Dropped { thread: Some(thread), .. } => self.shows_loss(on, *thread),
            Event::Missing { thread, author, .. } => {
                self.dropped.missing.insert((on, *thread, author.account));
            }
            Event::State { message, state: State::Partial { code: RefusalCode::Full, missing }, .. } => {
                let Some(number) = self.by_message.get(message).copied() else { return };
                let missing = missing.iter().filter_map(|account| self.process_of(account));
                let lost: Vec<_> = missing.map(|to| (number, to)).collect();
                self.dropped.lost.extend(lost);
            }
            // Of nobody it is known yet that they have it.
            Event::State { message, state: State::Failed(RefusalCode::Full), .. } => {
                let Some(number) = self.by_message.get(message).copied() else { return };
                let to = self.said.get(number).into_iter().flat_map(|said| &said.to);
                self.dropped.lost.extend(to.map(|to| (number, *to)));
            }
            _ => {}
        }
    }

    /// Somebody sees that a thread's log has lost entries.
    pub fn shows_loss(&mut self, on: ProcessNo, thread: ThreadId) {
        self.dropped.told.insert((on, thread));
    }

    /// All is whole, and everybody has heard of everything. Whoever lives where the author does and never got what the full
    /// log of their relay let go is shown that something is missing there.
    pub fn losses_are_shown(&mut self) {
        let mut hidden = Vec::new();
        for (number, to) in &self.dropped.lost {
            let Some(said) = self.said.get(*number) else { continue };
            let home = self.excuses.home(*to);
            // Of a group that changes it is not known who was to get what; of another relay's full log its own people hear.
            let fits = said.circle.is_none() && said.to.len() > 1 && home == self.excuses.home(said.author);
            let sound = home.is_some_and(|home| [home, *to, said.author].into_iter().all(|one| self.is_sound(one)));
            if !fits || !sound || said.shown.contains_key(to) || said.taken_back {
                continue;
            }
            let author =
                self.accounts.iter().find(|(_, process)| **process == said.author).map(|(account, _)| *account);
            let missed = |thread| author.is_some_and(|author| self.dropped.missing.contains(&(*to, thread, author)));
            if !self.is_shown_loss(said, *to) && !self.threads_of(said).into_iter().any(missed) {
                hidden.push(Violation::LossHidden { message: *number, to: *to });
            }
        }
        hidden.into_iter().for_each(|violation| self.violate(violation));
    }

    /// Where a message was said.
    fn threads_of(&self, said: &Said) -> Vec<ThreadId> {
        let people: BTreeSet<_> = said.to.iter().copied().chain([said.author]).collect();
        let same = self.threads.iter().filter(|(_, of)| **of == people).map(|(thread, _)| *thread);
        said.circle.map_or_else(|| same.collect(), |thread| vec![thread])
    }

    /// Whether somebody was told that the log lost entries in which a message would have come to them.
    fn is_shown_loss(&self, said: &Said, to: ProcessNo) -> bool {
        self.threads_of(said).into_iter().any(|thread| self.dropped.told.contains(&(to, thread)))
    }

    /// Whether the full log of somebody's own relay may have lost a message whose author lives elsewhere, and they are shown that
    /// it lost some: its author hears of it by their own device alone, within 30 days, which no world lasts.
    pub(super) fn is_told_later(&self, said: &Said, to: ProcessNo) -> bool {
        let home = self.excuses.home(to);
        let short = home.is_some_and(|home| self.excuses.is(home, Conduct::Short));
        short && said.to.len() > 1 && home != self.excuses.home(said.author) && self.is_shown_loss(said, to)
    }

    /// Of how many losses authors were told because a log was full, by reader, and how many readers were told of some.
    pub fn losses(&self) -> (u64, u64) {
        (self.dropped.lost.len() as u64, self.dropped.told.len() as u64)
    }
}
