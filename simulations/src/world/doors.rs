//! Doors: the push addresses of a relay, and which of them a node dialled.
//! Owns: at which address each link to a relay with several came in; which are live in each life of a relay; whether whoever
//! is served is served where they belong, or tried to be.
//! Never: decides where a node belongs; the relay core does, and the node goes. The judge's sum is its own.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use whimbrel_protocol::id::{AccountId, Domain, LinkId};
use whimbrel_protocol::invite::RelayLink;

use super::relay::RelayProcess;
use super::{Process, World};
use crate::engine::Stream;
use crate::net::ProcessNo;
use crate::scenario::Push;

/// Where a node tried to be served; none: where nobody is.
type Tried = Option<String>;

/// Where a node was last served.
#[derive(Debug)]
struct Served {
    link: LinkId,
    door: String,
    relay: ProcessNo,
    /// The life of the relay.
    run: u32,
    /// Where it tried before, if it did.
    before: Option<Tried>,
}

/// Which push address each node dialled.
#[derive(Debug, Default)]
pub(super) struct Doors {
    links: BTreeMap<LinkId, String>,
    /// Where each node tried last, and before that, if it did.
    tried: BTreeMap<ProcessNo, (Tried, Option<Tried>)>,
    served: BTreeMap<ProcessNo, Served>,
    /// Who dialled which, in order.
    #[cfg(test)]
    order: Vec<(ProcessNo, u16)>,
    /// Who was let in and stays, and when.
    #[cfg(test)]
    pub(super) let_in: Vec<(ProcessNo, crate::engine::Time)>,
    /// Every node's link comes from one network.
    #[cfg(test)]
    pub(super) one_network: bool,
}

impl Doors {
    /// A node dials; an older link of it may have its own still.
    pub(super) fn dialled(&mut self, link: LinkId, node: ProcessNo, (door, address): (Option<u16>, String)) {
        if door.is_some() {
            self.links.insert(link, address.clone());
            self.tries(node, Some(address));
        }
        #[cfg(test)]
        self.order.extend(door.map(|door| (node, door)));
    }

    /// A node would dial where nobody is.
    pub(super) fn missed(&mut self, node: ProcessNo) {
        self.tries(node, None);
    }

    fn tries(&mut self, node: ProcessNo, door: Tried) {
        let last = self.tried.remove(&node).map(|(last, _)| last);
        self.tried.insert(node, (door, last));
        self.served.remove(&node);
    }

    /// A node is let in on a link, and stays.
    fn admitted(&mut self, node: ProcessNo, link: LinkId, (relay, run): (ProcessNo, u32)) {
        let Some((door, (_, before))) = self.links.get(&link).zip(self.tried.get(&node)) else { return };
        let (door, before) = (door.clone(), before.clone());
        self.served.insert(node, Served { link, door, relay, run, before });
    }

    /// The network that a node's link comes from.
    pub(super) fn network(&self, node: ProcessNo) -> u64 {
        #[cfg(test)]
        if self.one_network {
            return u64::MAX;
        }
        node.into()
    }

    /// The place of the push address a link came in at, among those that are live.
    pub(super) fn of(&self, link: LinkId, push: &[String]) -> Option<u16> {
        let address = self.links.get(&link)?;
        push.iter().zip(0..).find(|(live, _)| *live == address).map(|(_, door)| door)
    }

    /// Whether somebody is there, now that a handshake arrives: an address may have gone since it was dialled.
    pub(super) fn is_live(&self, link: LinkId, push: &[String]) -> bool {
        self.links.get(&link).is_none_or(|address| push.contains(address))
    }

    /// The push addresses a node dialled, in order.
    #[cfg(test)]
    pub(super) fn dialled_by(&self, node: ProcessNo) -> Vec<u16> {
        self.order.iter().filter(|(by, _)| *by == node).map(|(_, door)| *door).collect()
    }
}

/// The place of the address an account belongs to, by the page: the greatest SHA-256 of account id and address.
pub(super) fn belongs(push: &[String], account: AccountId) -> Option<u16> {
    let weight = |address: &str| <[u8; 32]>::from(Sha256::digest([account.as_bytes(), address.as_bytes()].concat()));
    push.iter().zip(0..).max_by_key(|(address, _)| weight(address)).map(|(_, door)| door)
}

/// The addresses that are live in one life of a relay: its own, which people were given, and others as they are drawn.
pub(super) fn live(domain: &Domain, push: &Push, stream: &mut Stream) -> Vec<String> {
    let [least, most] = push.live;
    let mut others: Vec<_> = (1..push.addresses).map(|n| format!("p{n}.{domain}:4433")).collect();
    let live = u64::from(least) + stream.below(u64::from(most.saturating_sub(least)) + 1);
    while others.len() as u64 + 1 > live {
        others.remove(stream.below(others.len() as u64) as usize);
    }
    others.insert(0, format!("{domain}:4433"));
    others
}

impl World {
    /// A node hears that it is let in, or sent elsewhere.
    pub(super) fn told_door(&mut self, node: ProcessNo, link: LinkId, elsewhere: bool) {
        self.struck.sent_elsewhere += u64::from(elsewhere);
        #[cfg(test)]
        self.doors.let_in.extend((!elsewhere).then(|| (node, self.engine.now())));
        let relay = self.net.ends(link).map(|(one, other)| if one == node { other } else { one });
        if let (Some(Process::Relay(relay)), false) = (relay.and_then(|no| self.processes.get(no as usize)), elsewhere)
        {
            self.doors.admitted(node, link, (relay.no, relay.run()));
        }
    }

    /// At the end everybody is served at the push address their account belongs to. Whoever could not reach it, or was sent
    /// where nobody is, is served where they came in, after a try. Whoever never tried another was not sent there.
    pub(super) fn compare_doors(&mut self) {
        let mut wrong = Vec::new();
        for (who, served) in &self.doors.served {
            let relay = self.processes.get(served.relay as usize);
            let Some(Process::Relay(relay)) = relay.filter(|_| self.net.ends(served.link).is_some()) else { continue };
            let own = self.node(*who).and_then(|node| relay.push.get(usize::from(belongs(&relay.push, node.account)?)));
            let tried = served.before.as_ref().is_some_and(|before| before.is_none() || before.as_ref() == own);
            if relay.run() == served.run && own != Some(&served.door) && !tried && self.ledger.is_honest(served.relay) {
                wrong.push(*who);
            }
        }
        wrong.into_iter().for_each(|who| self.ledger.at_another_door(who));
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
