//! What the judge is shown of a world beyond what people see.
//! Owns: who is hostile by design, the search for plain text on relays' disks.
//! Never: changes anything.

use super::{Process, World};
use crate::faults::Kind;
use crate::judge::ledger::Conduct;
use crate::net::ProcessNo;
use crate::scenario::Crypto;
use whimbrel_protocol::id::DeviceIndex;
use whimbrel_protocol::thread::Participant;

impl World {
    /// Tells the judge of faults that change how the parties behave, before they strike.
    pub(super) fn judge<'k>(&mut self, kinds: impl IntoIterator<Item = &'k Kind>) {
        for kind in kinds {
            match kind {
                Kind::HostileRelay { relay, .. } => {
                    self.ledger.conduct(Conduct { hostile: true, scarce: false });
                    if let Some(relay) = self.by_domain.get(relay.as_str()).copied() {
                        self.ledger.hostile_relay(relay);
                    }
                }
                Kind::HostileMember { .. } => self.ledger.conduct(Conduct { hostile: true, scarce: false }),
                Kind::FullDisk { .. } => self.ledger.conduct(Conduct { hostile: false, scarce: true }),
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

    /// P4: looks for the text of a message in everything a relay's disk holds.
    pub(super) fn search(&mut self, no: ProcessNo) {
        let Some(Process::Relay(relay)) = self.processes.get(no as usize) else { return };
        // The stand-in engine hides nothing, and says so.
        if self.crypto == Crypto::Real && relay.holds(|bytes| self.ledger.canaries().sings_in(bytes)) {
            self.ledger.leaked(no, "a row");
        }
    }
}
