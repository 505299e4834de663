//! The account's pages on hubs that give two orders: what a device was told of commits, and whether it has found out.
//! Owns: what reached each device of one epoch of one group, by receipts alone.
//! Never: asks a node what it holds. A device that died in between may not have kept the first of two: it is not held to them.

use whimbrel_protocol::hub::{Receipt, SignedReceipt};
use whimbrel_protocol::id::{Epoch, RelayId};

use super::*;

/// What devices were told, and found.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Hubs that sign two orders by design.
    hubs: BTreeSet<RelayId>,
    /// By device, group, term and epoch: the commit that a device was answered to hold, and whether it was told of another since.
    answered: BTreeMap<(ProcessNo, ThreadId, u64, Epoch), (CommitHash, bool)>,
    /// Who has a proof against whose hub.
    found: BTreeSet<(ProcessNo, ThreadId)>,
}

impl Ledger {
    /// From now on this hub may sign two orders.
    pub fn signs_two_orders(&mut self, hub: RelayId) {
        self.orders.hubs.insert(hub);
    }

    /// A frame of its relay's may tell a device which commit holds.
    pub(super) fn told_of_commits(&mut self, on: ProcessNo, frame: &Frame) {
        match frame {
            Frame::CommitTaken(words) => self.commit_answered(on, &words.receipt),
            Frame::CommitLost(words) => self.commit_shown(on, &words.won.receipt),
            Frame::Committed(words) => self.commit_shown(on, &words.accepted.receipt),
            Frame::Push(run) => {
                for entry in &run.entries {
                    if let EntryBody::Commit(accepted) = &entry.body {
                        self.commit_shown(on, &accepted.receipt);
                    }
                }
            }
            _ => {}
        }
    }

    /// A device is answered that a commit of its own holds.
    fn commit_answered(&mut self, on: ProcessNo, receipt: &SignedReceipt) {
        let Receipt { thread, term, epoch, commit, .. } = receipt.words;
        if !self.orders.hubs.is_empty() {
            self.orders.answered.entry((on, thread, term, epoch)).or_insert((commit, false));
        }
    }

    /// A device is shown which commit holds.
    fn commit_shown(&mut self, on: ProcessNo, receipt: &SignedReceipt) {
        let Receipt { thread, term, epoch, commit, .. } = receipt.words;
        if let Some((answered, other)) = self.orders.answered.get_mut(&(on, thread, term, epoch)) {
            *other |= *answered != commit;
        }
    }

    /// A device died: what it was told may not be on its disk.
    pub(super) fn forget_answers(&mut self, on: ProcessNo) {
        self.orders.answered.retain(|(of, ..), _| *of != on);
    }

    /// A node tells its owner that the hub of a group signed two orders.
    pub(super) fn contradicts(&mut self, on: ProcessNo, thread: ThreadId, hub: RelayId) {
        self.orders.found.insert((on, thread));
        if !self.orders.hubs.contains(&hub) {
            self.violate(Violation::TwoOrders { of: on });
        }
    }

    /// T05, when there was time enough: whoever was told of two commits for one epoch, and is in the group, has a proof.
    pub fn are_proved(&mut self, is_in: impl Fn(ProcessNo, &ThreadId) -> bool) {
        let told = self.orders.answered.iter().filter(|(_, (_, other))| *other);
        let missed: BTreeSet<_> = told
            .map(|((on, thread, ..), _)| (*on, *thread))
            .filter(|(on, thread)| !self.orders.found.contains(&(*on, *thread)) && is_in(*on, thread))
            .collect();
        missed.into_iter().for_each(|(of, _)| self.violate(Violation::Unproved { of }));
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_protocol::hub::CommitTaken;
    use whimbrel_protocol::id::{RequestId, Signature};
    use whimbrel_protocol::time::Wall;

    use super::*;

    const ALICE: ProcessNo = 1;
    const HUB: ProcessNo = 10;

    fn receipt(epoch: u64, commit: u8) -> SignedReceipt {
        let (thread, commit) = (ThreadId::from_bytes([1; 32]), CommitHash::from_bytes([commit; 32]));
        let words =
            Receipt { thread, term: 1, epoch: Epoch::new(epoch), commit, previous: None, at: Wall::from_millis(1) };
        SignedReceipt { words, signature: Signature::from_bytes([0; 64]), chain: Vec::new() }
    }

    /// Alice is answered that one commit holds and shown another; what is missed of that at the end.
    fn missed(between: impl FnOnce(&mut Ledger), is_in: bool, shown: SignedReceipt) -> Vec<Violation> {
        let mut ledger = Ledger::default();
        ledger.lives(ALICE, HUB);
        ledger.signs_two_orders(RelayId::from_bytes([9; 32]));
        let taken = CommitTaken { request: RequestId::new(1), receipt: Box::new(receipt(1, 2)) };
        ledger.arrived(HUB, ALICE, &taken.into(), Time::ZERO);
        between(&mut ledger);
        ledger.commit_shown(ALICE, &shown);
        ledger.are_proved(|_, _| is_in);
        ledger.close(&[]).examples
    }

    #[test]
    fn whoever_was_told_of_two_commits_for_one_epoch_must_have_found_out() {
        let unproved = [Violation::Unproved { of: ALICE }];
        let (thread, hub) = (ThreadId::from_bytes([1; 32]), RelayId::from_bytes([9; 32]));
        assert_eq!(missed(|_| (), true, receipt(1, 3)), unproved);
        assert_eq!(missed(|ledger| ledger.contradicts(ALICE, thread, hub), true, receipt(1, 3)), []);
        // Of another hub nobody is to find such a thing.
        let other = |ledger: &mut Ledger| ledger.contradicts(ALICE, thread, RelayId::from_bytes([8; 32]));
        assert_eq!(missed(other, true, receipt(1, 3)), [Violation::TwoOrders { of: ALICE }]);
        // The same commit, another epoch, a death in between, a group that she has left: nothing is owed.
        assert_eq!(missed(|_| (), true, receipt(1, 2)), []);
        assert_eq!(missed(|_| (), true, receipt(2, 3)), []);
        assert_eq!(missed(|ledger| ledger.died(ALICE), true, receipt(1, 3)), []);
        assert_eq!(missed(|_| (), false, receipt(1, 3)), []);
    }
}
