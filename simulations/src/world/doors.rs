//! Doors: the push addresses of a relay, and which of them a node dialled.
//! Owns: at which address each link to a relay with several came in.
//! Never: decides where a node belongs; the relay core does, and the node goes.

use std::collections::BTreeMap;

use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::invite::RelayLink;

use super::relay::RelayProcess;
use crate::net::ProcessNo;

/// Which push address each node dialled.
#[derive(Debug, Default)]
pub(super) struct Doors {
    links: BTreeMap<LinkId, u16>,
    /// Who dialled which, in order.
    #[cfg(test)]
    order: Vec<(ProcessNo, u16)>,
}

impl Doors {
    /// A node dials; an older link of it may have its own still.
    pub(super) fn dialled(&mut self, link: LinkId, node: ProcessNo, door: Option<u16>) {
        let _told_to_tests_alone = node;
        if let Some(door) = door {
            self.links.insert(link, door);
            #[cfg(test)]
            self.order.push((node, door));
        }
    }

    /// The push address a link came in at.
    pub(super) fn of(&self, link: LinkId) -> Option<u16> {
        self.links.get(&link).copied()
    }

    /// The push addresses a node dialled, in order.
    #[cfg(test)]
    pub(super) fn dialled_by(&self, node: ProcessNo) -> Vec<u16> {
        self.order.iter().filter(|(by, _)| *by == node).map(|(_, door)| *door).collect()
    }
}

impl RelayProcess {
    /// Its number, if it is this relay, and the push address that was dialled; where it has several, its own is the first.
    pub(super) fn is_at(&self, relay: &RelayLink) -> Option<(ProcessNo, Option<u16>)> {
        if (&self.domain, self.id) != (&relay.domain, relay.relay) {
            return None;
        }
        let door = self.push.iter().zip(0..).find(|(address, _)| **address == relay.endpoint).map(|(_, door)| door);
        (door.is_some() || self.link().endpoint == relay.endpoint).then_some((self.no, door))
    }
}
