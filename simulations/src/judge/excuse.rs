//! Excuses: for whom a party of a run is no longer held to what honest parties with room on their disks keep.
//! Owns: who has turned on the others or been out of room, and on whose words that can tell.
//! Never: excuses what no party may cause: a text shown twice, or under another author, or not at all.
//!
//! A relay sees the words of its own users and those for them, and nothing else passes by it; a member sees the threads
//! it is in. So one that is hostile excuses what goes wrong among people of whom it serves one, or is one, and nobody
//! else's. Once is for ever: what it did may show later.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::ProcessNo;

/// What a party does by design that others are spared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Conduct {
    /// A relay or a member turns on the others.
    Hostile,
    /// A member hands in commits that nobody can follow and only members can tell: threads it is in may not change any more.
    Obstructive,
    /// Its disk fills up, and it refuses for want of room.
    Scarce,
    /// A relay whose logs are short: what waits longest goes when there is no room for more, and of two it takes no more.
    Short,
    /// Its calendar is a day wrong or more: what it takes for a week old may be of today.
    Untimely,
}

/// Who can be blamed for what.
#[derive(Debug, Default)]
pub(super) struct Excuses {
    parties: BTreeSet<(Conduct, ProcessNo)>,
    /// Where each device lives.
    homes: BTreeMap<ProcessNo, ProcessNo>,
}

impl Excuses {
    /// From now on a party can be blamed.
    pub(super) fn add(&mut self, party: ProcessNo, conduct: Conduct) {
        self.parties.insert((conduct, party));
    }

    /// Where a device lives.
    pub(super) fn lives(&mut self, device: ProcessNo, relay: ProcessNo) {
        self.homes.insert(device, relay);
    }

    /// A device's relay.
    pub(super) fn home(&self, device: ProcessNo) -> Option<ProcessNo> {
        self.homes.get(&device).copied()
    }

    /// Whether what goes wrong among these people can be blamed on one of them or of their relays.
    pub(super) fn among(&self, people: impl IntoIterator<Item = ProcessNo>, conduct: Conduct) -> bool {
        !self.parties.is_empty()
            && people.into_iter().any(|one| {
                let blamed = |party| self.parties.contains(&(conduct, party));
                blamed(one) || self.home(one).is_some_and(blamed)
            })
    }

    /// Whether a party itself is one.
    pub(super) fn is(&self, party: ProcessNo, conduct: Conduct) -> bool {
        self.parties.contains(&(conduct, party))
    }

    /// Whether the relay of one of these people is hostile.
    pub(super) fn serves_any(&self, people: &[ProcessNo]) -> bool {
        people.iter().filter_map(|one| self.home(*one)).any(|home| self.is(home, Conduct::Hostile))
    }

    /// Whether one of these people hands in commits that nobody can follow and their hub cannot tell. Of relays it is not asked.
    pub(super) fn obstructs(&self, people: impl IntoIterator<Item = ProcessNo>) -> bool {
        people.into_iter().any(|one| self.parties.contains(&(Conduct::Obstructive, one)))
    }

    /// Whether anybody at all can be blamed for this.
    pub(super) fn anywhere(&self, conduct: Conduct) -> bool {
        self.parties.iter().any(|(of, _)| *of == conduct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: ProcessNo = 1;
    const BOB: ProcessNo = 2;
    const CAROL: ProcessNo = 3;

    #[test]
    fn a_party_excuses_what_goes_wrong_among_people_it_is_one_of_or_serves_and_nobody_elses() {
        for party in [ALICE, 10] {
            let mut excuses = Excuses::default();
            [(ALICE, 10), (BOB, 11), (CAROL, 12)].into_iter().for_each(|(one, home)| excuses.lives(one, home));
            assert!(!excuses.among([ALICE, BOB, CAROL], Conduct::Hostile) && !excuses.anywhere(Conduct::Hostile));
            excuses.add(party, Conduct::Hostile);
            assert!(excuses.among([BOB, ALICE], Conduct::Hostile) && excuses.anywhere(Conduct::Hostile));
            assert!(!excuses.among([BOB, CAROL], Conduct::Hostile));
            assert!(!excuses.obstructs([ALICE, BOB]), "to be hostile is not to stop changes");
            assert_eq!(excuses.is(ALICE, Conduct::Hostile), party == ALICE);
            assert_eq!(excuses.serves_any(&[BOB, ALICE]), party == 10);
            excuses.add(party, Conduct::Obstructive);
            assert_eq!(excuses.obstructs([ALICE, BOB]), party == ALICE, "relays stop none");
            assert!(!excuses.obstructs([BOB, CAROL]));
            assert!(!excuses.among([ALICE], Conduct::Scarce) && !excuses.anywhere(Conduct::Scarce));
        }
    }
}
