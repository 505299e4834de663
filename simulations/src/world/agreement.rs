//! Agreement: whether the devices of each thread are in the same place once all has healed (P6), and how long it takes.
//! Owns: the comparison of epochs, members and authenticators, and since when a thread is apart.
//! Never: changes anything in a node, or decides who has an excuse (`judge`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::views::{self, Membership, Standing};
use whimbrel_protocol::id::{DeviceId, DeviceIndex, ThreadId};

use super::{NodeProcess, World};
use crate::engine::Time;
use crate::judge::CONVERGE_MAX;
use crate::judge::ledger::Company;
use crate::net::ProcessNo;

/// How often is looked.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How threads come together.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// All has healed, and was looked at once.
    begun: bool,
    /// What is apart, and since when: since all healed, or since it was seen to be.
    since: BTreeMap<ThreadId, Time>,
    /// What was for too long; each is told once.
    late: BTreeSet<ThreadId>,
    /// The longest that anything was.
    longest: Duration,
}

/// A device's place in a thread.
struct Seat {
    who: ProcessNo,
    at: Membership,
}

/// A device of a thread that is not where another is.
struct Gap {
    of: ProcessNo,
    from: ProcessNo,
    /// The same number and the same members, by other commits.
    branch: bool,
}

impl World {
    /// Looks at all threads, once all has healed. What was apart, or was never looked at, is together once authenticators
    /// agree; of what was together numbers and members are enough until the end, when everything is compared.
    pub(super) fn look_at_threads(&mut self) {
        let now = self.engine.now();
        let mut apart = BTreeMap::new();
        for (thread, seats) in self.seats() {
            let prove = !self.agreement.begun || self.agreement.since.contains_key(&thread);
            let company = self.company(seats.iter().map(|seat| &seat.at));
            let gap = self.gaps(thread, &seats, prove).find(|gap| self.ledger.must_agree(&thread, gap.of, &company));
            apart.extend(gap.map(|gap| (thread, gap)));
        }
        self.agreement.begun = true;
        self.agreement.since.retain(|thread, _| apart.contains_key(thread));
        for (thread, Gap { of, from, .. }) in apart {
            let since = *self.agreement.since.entry(thread).or_insert(now);
            // By the next look it may be together.
            let lasts = now.since(since) + LOOK;
            self.agreement.longest = self.agreement.longest.max(lasts);
            if lasts > CONVERGE_MAX && self.agreement.late.insert(thread) {
                self.ledger.lagged(of, from, lasts);
            }
        }
    }

    /// Whether a thread is apart that must not be, when last looked at.
    pub(super) fn is_scattered(&self) -> bool {
        !self.agreement.since.is_empty()
    }

    /// The longest that a thread took to come together, after everything healed or after it moved on since; to a second.
    pub(super) const fn converged(&self) -> Duration {
        self.agreement.longest
    }

    /// P6, when there was time enough: whoever has a leaf is at the same epoch, by the same commits, with the same members.
    pub(super) fn compare_threads(&mut self) {
        for (thread, seats) in self.seats() {
            let company = self.company(seats.iter().map(|seat| &seat.at));
            let gaps: Vec<_> = self.gaps(thread, &seats, true).collect();
            for Gap { of, from, branch } in gaps {
                self.ledger.apart(thread, of, from, branch, &company);
            }
        }
    }

    /// Who made a thread, and everybody who is in it by anybody's word.
    pub(super) fn company<'a>(&self, places: impl IntoIterator<Item = &'a Membership>) -> Company {
        let (mut everybody, mut founder) = (BTreeSet::new(), None);
        for at in places {
            everybody.extend(at.leaves.iter().map(|leaf| leaf.account));
            founder = founder.or(at.founder);
        }
        Company {
            founder: founder.and_then(|account| self.ledger.process_of(&account)),
            people: everybody.iter().filter_map(|account| self.ledger.process_of(account)).collect(),
        }
    }

    /// Where every device that runs is, by thread.
    fn seats(&self) -> BTreeMap<ThreadId, Vec<Seat>> {
        let mut seats: BTreeMap<ThreadId, Vec<Seat>> = BTreeMap::new();
        for who in self.nodes.iter().copied().chain(self.linked_seconds()) {
            let Some(reads) = self.node(who).and_then(NodeProcess::reads) else { continue };
            for at in views::memberships(reads).unwrap_or_default() {
                seats.entry(at.thread).or_default().push(Seat { who, at });
            }
        }
        seats
    }

    /// Whoever has a leaf where a thread has come furthest, and is not there. Of several there its founder is asked.
    fn gaps<'a>(&'a self, thread: ThreadId, seats: &'a [Seat], prove: bool) -> impl Iterator<Item = Gap> + 'a {
        let open = |seat: &&Seat| seat.at.standing == Standing::Open;
        let founder = |seat: &Seat| self.node(seat.who).is_some_and(|node| Some(node.account) == seat.at.founder);
        let first = seats.iter().filter(open).max_by_key(|seat| (seat.at.epoch, founder(seat), u32::MAX - seat.who));
        let proof = move |who| self.node(who).and_then(|node| node.authenticator(thread));
        let proved = first.filter(|_| prove).map(|first| proof(first.who));
        let gap = move |first: &'a Seat, of: ProcessNo| {
            let seat = seats.iter().find(|seat| seat.who == of);
            let there = seat.is_some_and(|seat| {
                open(&seat) && seat.at.epoch == first.at.epoch && seat.at.leaves == first.at.leaves
            });
            let alike = there && proved.is_none_or(|proved| proved.is_some() && proof(of) == proved);
            (!alike).then_some(Gap { of, from: first.who, branch: there })
        };
        let leaves = first.into_iter().flat_map(|first| first.at.leaves.iter().map(move |leaf| (first, leaf)));
        leaves.filter_map(move |(first, leaf)| gap(first, self.device_of(leaf)?))
    }

    /// Which process a device is, if it is one of its account's for good.
    fn device_of(&self, device: &DeviceId) -> Option<ProcessNo> {
        let first = self.ledger.process_of(&device.account)?;
        match device.index {
            DeviceIndex::FIRST => Some(first),
            _ => self.linked_seconds().into_iter().find(|second| self.owner_of(*second) == Some(first)),
        }
    }
}
