//! The account's pages on wake-ups, lists of threads and keys handed out. Owns: nothing; `judge::services` has the model.

use whimbrel_protocol::id::RequestId;
use whimbrel_protocol::thread::Envelope;
use whimbrel_protocol::user::ClaimKeyPackages;

use super::*;

impl Ledger {
    /// Somebody names where they are woken.
    pub fn names_endpoint(&mut self, who: ProcessNo, url: String) {
        self.services.names(who, url);
    }

    /// Somebody is about to bring back what came there.
    pub fn shows_endpoint(&mut self, url: &str) {
        self.services.shows(url);
    }

    /// A relay sent something to a push service; `challenge`: to have it brought back.
    pub fn woken(&mut self, relay: ProcessNo, url: &str, challenge: bool, at: Time) {
        let (of, violation) = self.services.woken(relay, url, challenge, at);
        let blamed = of.is_some_and(|of| self.excuses.among([of], Conduct::Hostile));
        if let Some(violation) = violation.filter(|_| !blamed && !self.wire.is_hostile(relay)) {
            self.violate(violation);
        }
    }

    /// How often somebody was woken.
    pub fn wakes(&self, who: ProcessNo) -> u64 {
        self.services.wakes(who)
    }

    /// A message waited for somebody who could be woken, and nobody woke them.
    pub fn unwoken(&mut self, who: ProcessNo) {
        self.violate(Violation::Unwoken { of: who });
    }

    /// Somebody was woken who is away since then, and keeps this thread quiet, in which alone something was to be said. What
    /// nobody said to have is said again in others, too, and may wake them.
    pub fn woken_though_quiet(&mut self, who: ProcessNo, since: Time, quiet: ThreadId) {
        let reads = |thread: &ThreadId| {
            self.threads.get(thread).is_some_and(|people| people.contains(&who))
                || self.circles.is_circle(thread) && self.circles.ever(thread).contains(&who)
        };
        if !self.services.spoken_since(since, quiet).any(reads) {
            self.violate(Violation::WokeForQuiet { of: who });
        }
    }

    /// A process died.
    pub fn died(&mut self, process: ProcessNo) {
        self.forget_answers(process);
        let homes = &self.excuses;
        self.services.forgets(process, |one| homes.home(one) == Some(process));
    }

    /// Somebody's device starts anew and will ask for the list of its threads.
    pub fn lists(&mut self, who: ProcessNo) {
        self.services.lists(who);
    }

    /// It had time for that, has read all there is in these threads, and changed settings of one of them.
    pub fn listed(&mut self, who: ProcessNo, threads: &[ThreadId], set: Option<ThreadId>) {
        if let Some(violation) = self.services.listed(who, threads, set) {
            self.violate(violation);
        }
    }

    pub(super) fn asks_for_keys(&mut self, device: ProcessNo, words: &ClaimKeyPackages) {
        if let Some(owner) = self.process_of(&words.account) {
            self.services.asks(device, words.request, owner);
        }
    }

    pub(super) fn handed_keys(&mut self, device: ProcessNo, request: RequestId, at: Time) {
        let who = self.twins.owner(device);
        // It is the owner's relay that counts, or says to; and the other's says what it was given.
        if let Some(violation) = self.services.handed((device, who), request, at)
            && let Violation::TooManyKeys { to, of } = violation
            && !self.excuses.among([to, of], Conduct::Hostile)
        {
            self.violate(violation);
        }
    }

    /// A device is pushed what was said in an epoch after it went out of a group.
    pub(super) fn reads_beyond(&mut self, to: ProcessNo, envelope: &Envelope) {
        let ended = self.wire.ended(&envelope.thread).filter(|(device, last)| {
            device.index == DeviceIndex::FIRST
                && self.process_of(&device.account) == Some(to)
                && *last < envelope.epoch
                && !self.services.came_back(envelope.thread, (last.get(), envelope.epoch.get()), to)
        });
        if ended.count() > 0 {
            self.violate(Violation::PushedOn { to });
        }
    }
}
