//! What the judge is shown of a world beyond what people see.
//! Owns: who is hostile by design and how often it lied of commits, whom that must be proved to, the search for plain text on relays' disks.
//! Never: changes anything.

use std::collections::BTreeSet;

use whimbrel_node::views::{self, Standing};
use whimbrel_protocol::id::DeviceIndex;
use whimbrel_protocol::thread::Participant;

use super::{Process, World};
use crate::faults::{Kind, MemberTrick, RelayTrick};
use crate::judge::ledger::Conduct;
use crate::net::ProcessNo;

/// A clock that is less wrong than this makes nothing old that is not.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

impl World {
    /// Tells the judge of a fault that changes how the parties behave, when it strikes: what they did before is judged
    /// as what honest parties do.
    pub(super) fn judge(&mut self, kind: &Kind) {
        let parties: Vec<_> = kind.targets().iter().filter_map(|target| self.process(target)).collect();
        for party in parties {
            match kind {
                Kind::HostileRelay { trick, .. } => {
                    self.ledger.hostile_relay(party);
                    if let (RelayTrick::TwoOrders | RelayTrick::ReAdd, Some(Process::Relay(relay))) =
                        (trick, self.processes.get(party as usize))
                    {
                        self.ledger.signs_two_orders(relay.id);
                    }
                }
                Kind::HostileMember { trick, .. } => {
                    self.ledger.conduct(party, Conduct::Hostile);
                    if matches!(trick, MemberTrick::MistagCommit) {
                        self.ledger.conduct(party, Conduct::Obstructive);
                    }
                }
                Kind::FullDisk { .. } => self.ledger.conduct(party, Conduct::Scarce),
                Kind::Clock { ahead_ms, .. } if ahead_ms.unsigned_abs() >= DAY_MS => {
                    self.ledger.conduct(party, Conduct::Untimely);
                }
                _ => {}
            }
        }
    }

    /// The owner of a node, and somebody they are never to meet.
    pub(super) fn stranger_of(&self, who: ProcessNo) -> Option<[Participant; 2]> {
        let named = |no: ProcessNo| {
            let node = self.node(no)?;
            let home = self.relays().find(|relay| relay.no == node.home)?;
            let devices = vec![DeviceIndex::FIRST];
            Some(Participant { account: node.account, domain: home.domain.clone(), devices })
        };
        let own = named(who)?;
        let others = (0..self.processes.len() as ProcessNo).filter(|no| *no != who && !self.ledger.knows(who, *no));
        Some([own, others.filter_map(named).next()?])
    }

    /// What relays let go of logs: counted, and shown to whoever lacks it.
    pub(super) fn judge_losses(&mut self) {
        for who in self.nodes.clone() {
            let found = self.node(who).and_then(|node| node.reads()).and_then(|reads| views::threads(reads).ok());
            for thread in found.into_iter().flatten().filter(|thread| thread.dropped > 0) {
                self.ledger.shows_loss(who, thread.thread, thread.dropped, self.engine.now());
            }
        }
        for relay in self.relays().map(|relay| (relay.no, relay.untold())).collect::<Vec<_>>() {
            self.ledger.untold(relay.0, relay.1);
        }
        self.struck.losses_told = self.ledger.losses().0;
        self.ledger.losses_are_shown();
    }

    /// How many commits members made up, and how many receipts hubs did.
    pub(super) fn count_lies(&mut self) {
        for process in &self.processes {
            match process {
                Process::Relay(relay) => {
                    self.struck.two_orders += relay.mischief.as_ref().map_or(0, |mischief| mischief.orders.told);
                }
                Process::Node(node, _) => {
                    self.struck.bad_commits += node.member.as_ref().map_or(0, |member| member.committed);
                }
            }
        }
    }

    /// T05: whoever is in a group and was told of two orders of its commits has a proof.
    pub(super) fn prove_orders(&mut self) {
        let seats = self.nodes.iter().copied().chain(self.linked_seconds());
        let open = seats.flat_map(|who| {
            let found = self.node(who).and_then(|node| node.reads()).and_then(|reads| views::memberships(reads).ok());
            let open = found.unwrap_or_default().into_iter().filter(|at| at.standing == Standing::Open);
            open.map(move |at| (who, at.thread)).collect::<Vec<_>>()
        });
        let open: BTreeSet<_> = open.collect();
        self.ledger.are_proved(|who, thread| open.contains(&(who, *thread)));
    }

    /// P4: whether the text of a message was in anything a relay's disk was ever given.
    pub(super) fn search(&mut self, no: ProcessNo) {
        let Some(Process::Relay(relay)) = self.processes.get_mut(no as usize) else { return };
        if relay.platter().sang() {
            self.ledger.leaked(no, "a row");
        }
    }
}
