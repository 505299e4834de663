//! The account's pages on wake-ups, lists of threads and keys handed out. Owns: nothing; `judge::services` has the model.

use whimbrel_protocol::id::RequestId;
use whimbrel_protocol::thread::Envelope;

use super::*;

impl Ledger {
    /// A node dials another. `meant`: both owners want direct links. Whoever has ended it with somebody dials none of their
    /// devices any more.
    pub fn dials(&mut self, by: ProcessNo, to: ProcessNo, meant: bool, at: Time) {
        let parted = self.consent.is_kept_away(by, self.twins.owner(to), at);
        if (!meant || parted) && !self.excuses.is(by, Conduct::Hostile) {
            self.violate(Violation::Dialled { by, to });
        }
    }

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

    /// A message waited for somebody who can be woken and is away since then, and nobody woke them for it. What came before it
    /// may have.
    pub fn unwoken(&mut self, who: ProcessNo, since: Time) {
        let before = self.excuses.home(who).is_some_and(|relay| self.services.woke_since(relay, who, since));
        if !before {
            self.violate(Violation::Unwoken { of: who });
        }
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

    /// A relay is asked for keys of an account: by a device of its own, or by the relay of whoever asks. Of interest is the
    /// relay where the owner lives: it counts what it hands out, to whichever of the asker's devices, and forgets that
    /// with its life.
    pub(super) fn asks_for_keys(
        &mut self,
        (by, relay): (ProcessNo, ProcessNo),
        request: RequestId,
        (who, owner): (Option<ProcessNo>, &AccountId),
    ) {
        let owner = self.process_of(owner).filter(|owner| self.excuses.home(*owner) == Some(relay));
        // A relay asks for its own people only. How often somebody asks for keys of their own devices nobody counts.
        let speaks = |who: &ProcessNo| self.twins.owner(by) == *who || self.excuses.home(*who) == Some(by);
        let who = who.filter(|who| speaks(who) && owner != Some(*who));
        self.services.asks(relay, (by, request), who.zip(owner));
    }

    /// Some are handed out. It is the owner's relay that counts: what it gives to another relay is on its way to whoever
    /// asked there.
    pub(super) fn handed_keys(&mut self, relay: ProcessNo, to: ProcessNo, request: RequestId, at: Time) {
        if let Some(violation) = self.services.handed(relay, (to, request), at)
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

#[cfg(test)]
mod tests {
    use whimbrel_protocol::federation::PeerClaim;
    use whimbrel_protocol::id::Domain;
    use whimbrel_protocol::user::{ClaimKeyPackages, ClaimedKeyPackages};

    use super::*;

    const RELAY: ProcessNo = 0;
    const OTHER: ProcessNo = 1;
    const ALICE: ProcessNo = 2;
    const BOB: ProcessNo = 3;
    const CAROL: ProcessNo = 4;

    fn account(of: ProcessNo) -> AccountId {
        AccountId::from_bytes([u8::try_from(of).unwrap_or(0); 32])
    }

    /// Alice and Bob live at one relay, Carol at another.
    fn people() -> Ledger {
        let mut ledger = Ledger::default();
        for (one, home) in [(ALICE, RELAY), (BOB, RELAY), (CAROL, OTHER)] {
            ledger.lives(one, home);
            ledger.account(account(one), one);
        }
        ledger
    }

    fn asks(ledger: &mut Ledger, by: ProcessNo, request: u64) {
        let request = RequestId::new(request);
        let frame = if by == OTHER {
            PeerClaim { request, account: account(BOB), requester: account(CAROL), token: None }.into()
        } else {
            let domain = "a.example".parse::<Domain>().unwrap_or_else(|_| unreachable!());
            ClaimKeyPackages { request, account: account(BOB), domain, token: None }.into()
        };
        ledger.arrived(by, RELAY, &frame, Time::ZERO);
    }

    fn is_handed(ledger: &mut Ledger, to: ProcessNo, request: u64) -> usize {
        let frame = ClaimedKeyPackages { request: RequestId::new(request), packages: Vec::new() }.into();
        ledger.arrived(RELAY, to, &frame, Time::ZERO);
        ledger.violations.len()
    }

    #[test]
    fn what_a_relay_handed_out_before_it_died_is_not_counted_with_what_it_hands_out_after() {
        for by in [ALICE, OTHER] {
            let mut ledger = people();
            asks(&mut ledger, by, 1);
            ledger.died(RELAY);
            assert_eq!(is_handed(&mut ledger, by, 1), 0, "it was on its way");
            for request in 2..12 {
                asks(&mut ledger, by, request);
                assert_eq!(is_handed(&mut ledger, by, request), 0);
            }
            asks(&mut ledger, by, 12);
            assert_eq!(is_handed(&mut ledger, by, 12), 1, "{by}: ten in one life are all there are");
        }
    }

    #[test]
    fn keys_of_ones_own_devices_are_not_counted_under_the_number_of_a_question_that_was_refused() {
        let mut ledger = people();
        for request in 1..11 {
            asks(&mut ledger, ALICE, request);
            assert_eq!(is_handed(&mut ledger, ALICE, request), 0);
        }
        // The relay refuses it; the device's next link counts its questions anew.
        asks(&mut ledger, ALICE, 30);
        let domain = "a.example".parse::<Domain>().unwrap_or_else(|_| unreachable!());
        let own = ClaimKeyPackages { request: RequestId::new(30), account: account(ALICE), domain, token: None };
        ledger.arrived(ALICE, RELAY, &own.into(), Time::ZERO);
        assert_eq!(is_handed(&mut ledger, ALICE, 30), 0);
        asks(&mut ledger, ALICE, 31);
        assert_eq!(is_handed(&mut ledger, ALICE, 31), 1);
    }

    #[test]
    fn keys_are_counted_at_the_relay_of_their_owner_whoever_else_dies() {
        for by in [ALICE, OTHER] {
            let mut ledger = people();
            for request in 1..12 {
                asks(&mut ledger, by, request);
                [ALICE, CAROL, OTHER].into_iter().for_each(|one| ledger.died(one));
                assert_eq!(is_handed(&mut ledger, by, request), usize::from(request == 11), "{by}");
            }
        }
    }
}
