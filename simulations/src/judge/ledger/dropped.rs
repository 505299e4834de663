//! The account's page on what a relay let go of a log because it was full: who was told.
//! Owns: who was told that something is gone, and of which messages authors were told so.

use whimbrel_protocol::limits;

use super::*;

/// How often somebody was told that entries are gone, and of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// When it was the last time: of what was said later nothing was told.
    last: Time,
    /// All of them together.
    entries: u64,
}

impl Told {
    fn add(&mut self, at: Time, entries: u64) {
        self.last = self.last.max(at);
        self.entries = self.entries.saturating_add(entries);
    }

    /// Takes one message out of what was told, if that can be one of it.
    fn takes(&mut self, said: Time) -> bool {
        let fits = said <= self.last && self.entries > 0;
        self.entries -= u64::from(fits);
        fits
    }
}

/// What was said of what is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    /// Who was told that a thread's log has lost entries, or shows it.
    told: BTreeMap<(ProcessNo, ThreadId), Told>,
    /// Who was told that somebody's contents are missing in a thread.
    missing: BTreeMap<(ProcessNo, ThreadId, AccountId), Told>,
    /// Messages of whose loss to these people their author was told, because a log was full.
    lost: BTreeSet<(usize, ProcessNo)>,
    /// How many messages relays let go without room to tell their author, who lives there.
    untold: BTreeMap<ProcessNo, u64>,
    /// Those that were counted so.
    counted: BTreeSet<usize>,
    /// How many messages came again to whom, after what was said later, as what was told of.
    again: BTreeMap<(ProcessNo, ThreadId), u64>,
}

impl Dropped {
    /// An author was told that a full log let a message go before these people had it.
    pub(super) fn lose(&mut self, number: usize, to: impl IntoIterator<Item = ProcessNo>) {
        self.lost.extend(to.into_iter().map(|to| (number, to)));
    }

    /// Whether its author was told that somebody lost a message to a full log. It may come again, after what was said later.
    pub(super) fn is_lost(&self, number: usize, to: ProcessNo) -> bool {
        self.lost.contains(&(number, to))
    }

    /// Whether a message can be one that a relay let go without room to tell its author.
    fn is_untold(&mut self, relay: ProcessNo, number: usize) -> bool {
        if self.counted.contains(&number) {
            return true;
        }
        let left = self.untold.get_mut(&relay).filter(|left| **left > 0);
        let fits = left.map(|left| *left -= 1).is_some();
        fits && self.counted.insert(number)
    }

    /// Whether somebody was told that a log lost entries among which a message can have been. Each entry told of is one
    /// message at most: what takes it leaves one less.
    pub(super) fn takes(&mut self, to: ProcessNo, threads: &[ThreadId], said: Time) -> bool {
        threads.iter().any(|thread| self.told.get_mut(&(to, *thread)).is_some_and(|told| told.takes(said)))
    }
}

impl Ledger {
    /// Somebody's node tells them something.
    pub fn told_of_loss(&mut self, on: ProcessNo, event: &Event, at: Time) {
        match event {
            Event::Dropped { thread: Some(thread), entries } => {
                self.dropped.told.entry((on, *thread)).or_default().add(at, *entries);
            }
            Event::Missing { thread, author, count } => {
                self.dropped.missing.entry((on, *thread, author.account)).or_default().add(at, *count);
            }
            _ => {}
        }
    }

    /// Somebody sees that a thread's log has lost so many entries. A node that dies once it has noted some does not tell of
    /// them any more: they are seen.
    pub fn shows_loss(&mut self, on: ProcessNo, thread: ThreadId, entries: u64, at: Time) {
        let told = self.dropped.told.entry((on, thread)).or_default();
        if entries > told.entries {
            *told = Told { last: at, entries };
        }
    }

    /// All is whole, and everybody has heard of everything. Whoever lives where the author does and never got what the full
    /// log of their relay let go is shown that something is missing there.
    pub fn losses_are_shown(&mut self) {
        let mut hidden = Vec::new();
        let mut left = self.dropped.clone();
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
            let threads = self.threads_of(said);
            let mut missed = |thread: &ThreadId| {
                let told = author.and_then(|author| left.missing.get_mut(&(*to, *thread, author)));
                told.is_some_and(|told| told.takes(said.at))
            };
            if !threads.iter().any(&mut missed) && !left.takes(*to, &threads, said.at) {
                hidden.push(Violation::LossHidden { message: *number, to: *to });
            }
        }
        hidden.into_iter().for_each(|violation| self.violate(violation));
    }

    /// Where a message was said.
    pub(super) fn threads_of(&self, said: &Said) -> Vec<ThreadId> {
        let people: BTreeSet<_> = said.to.iter().copied().chain([said.author]).collect();
        let same = self.threads.iter().filter(|(_, of)| **of == people).map(|(thread, _)| *thread);
        said.circle.map_or_else(|| same.collect(), |thread| vec![thread])
    }

    /// Whether a message can be one that the full log of its reader's relay lost, that they were told of, and that its author gave
    /// again. Each entry told of is one message at most.
    pub(super) fn may_come_again(&mut self, number: usize, to: ProcessNo) -> bool {
        let Some(said) = self.said.get(number) else { return false };
        let short = self.excuses.home(to).is_some_and(|home| self.excuses.is(home, Conduct::Short));
        let (at, threads) = (said.at, if short { self.threads_of(said) } else { Vec::new() });
        threads.into_iter().any(|thread| {
            let used = self.dropped.again.entry((to, thread)).or_default();
            let told = self.dropped.told.get(&(to, thread));
            let fits = told.is_some_and(|told| at <= told.last && *used < told.entries);
            *used += u64::from(fits);
            fits
        })
    }

    /// Whether a message between two may have waited for room in the full log of its author's relay until its epoch was over: then it
    /// is sealed again, behind what was sealed since (docs/protocol/hub.md 14).
    pub(super) fn waited_for_room(&self, number: usize, shown: Time) -> bool {
        let Some(said) = self.said.get(number) else { return false };
        let short = self.excuses.home(said.author).is_some_and(|home| self.excuses.is(home, Conduct::Short));
        short && said.to.len() == 1 && shown.since(said.at) > limits::FULL_RETRY_AFTER
    }

    /// A relay let so many messages go of full logs without room to tell their authors.
    pub fn untold(&mut self, relay: ProcessNo, count: u64) {
        self.dropped.untold.insert(relay, count);
    }

    /// Whether the full log of somebody's own relay may have lost a message, they are shown that it lost some, and that relay
    /// tells its author nothing: who lives elsewhere, or whose inbox is full, too. Such an author hears of it by their own
    /// device alone, within 30 days, which no world lasts. `left`: what was told, or could not be, and is nobody else's yet.
    pub(super) fn is_told_later(&self, number: usize, to: ProcessNo, left: &mut Dropped) -> bool {
        let (Some(said), Some(home)) = (self.said.get(number), self.excuses.home(to)) else { return false };
        self.excuses.is(home, Conduct::Short)
            && said.to.len() > 1
            && (self.excuses.home(said.author) != Some(home) || left.is_untold(home, number))
            && left.takes(to, &self.threads_of(said), said.at)
    }

    /// Of how many losses authors were told because a log was full, by reader, and how many readers were told of some.
    pub fn losses(&self) -> (u64, u64) {
        (self.dropped.lost.len() as u64, self.dropped.told.len() as u64)
    }
}
