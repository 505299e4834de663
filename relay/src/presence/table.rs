//! The table of those who are there: a state machine without waiting.
//! Owns: which accounts have a link or had one a minute ago, what each device was told, what peers told and were told.
//! Never: reads a list; it is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_protocol::id::{AccountId, Domain, LinkId};
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::{PeerPresence, Shown, Status};
use whimbrel_protocol::time::Monotonic;
use whimbrel_storage::planted::{self, Bug};

/// A friend, as the owner's list has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) domain: Domain,
    /// Whether the friend may see when the owner is there.
    pub(crate) sees: bool,
}

#[derive(Debug)]
struct Own {
    links: BTreeMap<LinkId, View>,
    friends: BTreeMap<AccountId, Known>,
    /// Told by a change while the list was read: what is read does not replace it.
    newer: BTreeSet<AccountId>,
    /// The list was read: from here on the account is shown.
    shown: bool,
    visible: bool,
    /// Chosen while it was read: what is read does not replace it.
    chosen: Option<bool>,
    heard: Monotonic,
}

impl Own {
    fn is_visible(&self) -> bool {
        self.visible || planted::active(Bug::ShowHidden)
    }
}

/// What one device was told.
#[derive(Debug, Default)]
struct View {
    version: u64,
    /// The list was read since it began: it has looked at every friend, or is about to.
    listed: bool,
    /// Whom it was told to be there.
    online: BTreeSet<AccountId>,
    /// Of whom something may have changed.
    dirty: BTreeSet<AccountId>,
}

/// What a peer was told, and what it told.
#[derive(Debug, Default)]
struct Peer {
    /// The next frame says everything.
    fresh: bool,
    /// Own accounts of which something may have changed.
    dirty: BTreeSet<AccountId>,
    /// When the link is used next, so that it stays or its end is noticed.
    beat: Option<Monotonic>,
    /// When it is told next, and how long that waits when it cannot be reached.
    due: Option<Monotonic>,
    patience: Duration,
    /// To whom each own account was said to be there.
    told: BTreeMap<AccountId, BTreeSet<AccountId>>,
    /// The number of the youngest link on which it began to tell; zero: of none. What comes on older ones means nothing,
    /// and neither does their end.
    line: u64,
    /// Its accounts that are there, and who may see it.
    here: BTreeMap<AccountId, BTreeSet<AccountId>>,
    /// Accounts named in `here`.
    named: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    domain: Domain,
    own: BTreeMap<AccountId, Own>,
    links: BTreeMap<LinkId, AccountId>,
    /// Links on which peers came in, numbered in the order they were let in. A peer opens the next when it has given up
    /// the last, and tells on one only after it was let in: of two on which it told, the younger has the greater number.
    lines: BTreeMap<LinkId, u64>,
    /// The greatest of these numbers.
    came: u64,
    /// When those without a link are offline.
    ending: BTreeSet<(Monotonic, AccountId)>,
    peers: BTreeMap<Domain, Peer>,
    /// When what a lost peer told is void.
    void: BTreeSet<(Monotonic, Domain)>,
    /// When each peer is told next.
    due: BTreeSet<(Monotonic, Domain)>,
    /// When the link to each peer that was told of somebody is used next.
    beats: BTreeSet<(Monotonic, Domain)>,
    /// Of the last call with a time.
    now: Monotonic,
}

impl Table {
    pub(super) fn new(domain: Domain) -> Self {
        Self {
            domain,
            own: BTreeMap::new(),
            links: BTreeMap::new(),
            lines: BTreeMap::new(),
            came: 0,
            ending: BTreeSet::new(),
            peers: BTreeMap::new(),
            void: BTreeSet::new(),
            due: BTreeSet::new(),
            beats: BTreeSet::new(),
            now: Monotonic::default(),
        }
    }

    fn passed(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
    }

    pub(super) fn attach(&mut self, now: Monotonic, link: LinkId, account: AccountId) {
        self.passed(now);
        let own = self.own.entry(account).or_insert_with(|| Own {
            links: BTreeMap::new(),
            friends: BTreeMap::new(),
            newer: BTreeSet::new(),
            shown: false,
            visible: false,
            chosen: None,
            heard: now,
        });
        own.heard = own.heard.max(now);
        own.links.insert(link, View::default());
        self.links.insert(link, account);
    }

    /// A page of the list, as it was read for this device. If it is gone, whoever is there now reads anew: what changed
    /// while nobody was there is in no `newer`.
    pub(super) fn listed(&mut self, link: LinkId, friends: impl Iterator<Item = (AccountId, Known)>) {
        let Some(own) = self.links.get(&link).and_then(|account| self.own.get_mut(account)) else { return };
        for (friend, known) in friends.filter(|_| !own.shown) {
            if !own.newer.contains(&friend) {
                own.friends.insert(friend, known);
            }
        }
    }

    /// The list is read for this device: others may see its account, whose new devices are told of others.
    pub(super) fn show(&mut self, link: LinkId, hidden: bool) {
        let Some(account) = self.links.get(&link).copied() else { return };
        let Some(own) = self.own.get_mut(&account) else { return };
        let first = !own.shown;
        own.shown = true;
        own.newer.clear();
        if first {
            own.visible = own.chosen.take().unwrap_or(!hidden) || planted::active(Bug::ForgetHidden);
        }
        let friends: BTreeSet<AccountId> = own.friends.keys().copied().collect();
        // Also one that was told of somebody while the list was read.
        for view in own.links.values_mut().filter(|view| !view.listed) {
            view.listed = true;
            view.dirty.extend(&friends);
        }
        if first {
            self.touched(account);
        }
    }

    pub(super) fn heard(&mut self, now: Monotonic, link: LinkId) {
        self.passed(now);
        if let Some(own) = self.links.get(&link).and_then(|account| self.own.get_mut(account)) {
            own.heard = own.heard.max(now);
        }
    }

    pub(super) fn statuses(&mut self, link: LinkId, known: u64) -> (u64, Vec<Status>) {
        let Some(account) = self.links.get(&link).copied() else { return (known, Vec::new()) };
        let dirty = {
            let Some(view) = self.own.get_mut(&account).and_then(|own| own.links.get_mut(&link)) else {
                return (known, Vec::new());
            };
            std::mem::take(&mut view.dirty)
        };
        let mut changes = Vec::new();
        let mut later = BTreeSet::new();
        for friend in dirty {
            if changes.len() >= limits::PRESENCE_STATUSES_MAX {
                later.insert(friend);
                continue;
            }
            let online = self.sees(account, friend);
            let Some(view) = self.own.get_mut(&account).and_then(|own| own.links.get_mut(&link)) else { break };
            let changed = if online { view.online.insert(friend) } else { view.online.remove(&friend) };
            if changed {
                changes.push(Status { account: friend, online });
            }
        }
        let Some(view) = self.own.get_mut(&account).and_then(|own| own.links.get_mut(&link)) else {
            return (known, changes);
        };
        view.dirty.extend(later);
        if !changes.is_empty() {
            view.version += 1;
        }
        (view.version, changes)
    }

    /// Whether an own account may see that somebody is there, and they are.
    fn sees(&self, viewer: AccountId, friend: AccountId) -> bool {
        let Some(known) = self.own.get(&viewer).and_then(|own| own.friends.get(&friend)) else { return false };
        if known.domain == self.domain {
            let sees = |back: Option<&Known>| back.is_some_and(|back| back.sees) || planted::active(Bug::ShowToAll);
            let shows = |own: &Own| own.shown && own.is_visible() && sees(own.friends.get(&viewer));
            return self.own.get(&friend).is_some_and(shows);
        }
        let here = self.peers.get(&known.domain).and_then(|peer| peer.here.get(&friend));
        here.is_some_and(|to| to.contains(&viewer))
    }

    pub(super) fn leave(&mut self, link: LinkId, goodbye: bool) {
        let Some(account) = self.links.remove(&link) else { return };
        let Some(own) = self.own.get_mut(&account) else { return };
        own.links.remove(&link);
        if !own.links.is_empty() {
            return;
        }
        if planted::active(Bug::DeadStay) && !goodbye {
            return;
        }
        let end = own.heard.plus(limits::PRESENCE_OFFLINE_AFTER);
        if goodbye || end <= self.now || !own.shown {
            self.vanish(account);
        } else {
            self.ending.insert((end, account));
        }
    }

    fn vanish(&mut self, account: AccountId) {
        let Some(gone) = self.own.remove(&account) else { return };
        for (friend, known) in gone.friends {
            self.mark(friend, &known, account);
        }
    }

    /// Something about an account changed: whoever may see it looks again.
    fn touched(&mut self, account: AccountId) {
        // Taken out for as long as it is walked: nobody is their own friend, so nothing below looks into it.
        let Some(friends) = self.own.get_mut(&account).map(|own| std::mem::take(&mut own.friends)) else { return };
        for (friend, known) in &friends {
            self.mark(*friend, known, account);
        }
        if let Some(own) = self.own.get_mut(&account) {
            own.friends = friends;
        }
    }

    /// Lets a friend, or the friend's relay, look at an account again.
    fn mark(&mut self, friend: AccountId, known: &Known, account: AccountId) {
        if known.domain == self.domain {
            if let Some(own) = self.own.get_mut(&friend) {
                own.links.values_mut().for_each(|view| {
                    view.dirty.insert(account);
                });
            }
        } else {
            self.peers.entry(known.domain.clone()).or_default().dirty.insert(account);
            self.tell(&known.domain, self.now.plus(limits::HEARTBEAT_EVERY));
        }
    }

    pub(super) fn changed(&mut self, owner: AccountId, other: AccountId, known: Option<Known>) {
        if let Some(own) = self.own.get_mut(&owner) {
            if !own.shown {
                own.newer.insert(other);
            }
            let before = match &known {
                Some(known) => own.friends.insert(other, known.clone()),
                None => own.friends.remove(&other),
            };
            own.links.values_mut().for_each(|view| {
                view.dirty.insert(other);
            });
            if let Some(known) = known.or(before) {
                self.mark(other, &known, owner);
            }
        }
    }

    pub(super) fn set_visible(&mut self, account: AccountId, visible: bool) {
        let Some(own) = self.own.get_mut(&account) else { return };
        if !own.shown {
            own.chosen = Some(visible);
        } else if own.visible != visible {
            own.visible = visible;
            self.touched(account);
        }
    }

    pub(super) fn peer_in(&mut self, link: LinkId) {
        self.came += 1;
        self.lines.insert(link, self.came);
    }

    pub(super) fn told(&mut self, link: LinkId, domain: &Domain, words: PeerPresence) {
        let Some(line) = self.lines.get(&link).copied() else {
            return tracing::debug!("a peer tells on a link that is gone");
        };
        let peer = self.peers.entry(domain.clone()).or_default();
        // Also one that begins anew: frames of a link that the peer gave up may come in after those of the next.
        if line < peer.line || (line > peer.line && !words.fresh) {
            return tracing::debug!("a peer tells on a link that another has taken the place of");
        }
        if words.fresh {
            peer.line = line;
            self.let_go(domain);
        }
        self.void.retain(|(_, lost)| lost != domain);
        let peer = self.peers.entry(domain.clone()).or_default();
        let mut look = Vec::new();
        for Shown { status: Status { account, online }, to } in words.changes {
            let here = peer.here.entry(account).or_default();
            for viewer in to {
                look.push((viewer, account));
                if !online {
                    peer.named -= usize::from(here.remove(&viewer));
                } else if peer.named < limits::PEER_PRESENCE_MAX {
                    peer.named += usize::from(here.insert(viewer));
                }
            }
            if here.is_empty() {
                peer.here.remove(&account);
            }
        }
        for (viewer, account) in look {
            self.look_at(viewer, account);
        }
    }

    /// Nothing that a peer told holds any more.
    fn let_go(&mut self, domain: &Domain) {
        let Some(peer) = self.peers.get_mut(domain) else { return };
        peer.named = 0;
        for (account, to) in std::mem::take(&mut peer.here) {
            for viewer in to {
                self.look_at(viewer, account);
            }
        }
    }

    fn look_at(&mut self, viewer: AccountId, account: AccountId) {
        if let Some(own) = self.own.get_mut(&viewer) {
            own.links.values_mut().for_each(|view| {
                view.dirty.insert(account);
            });
        }
    }

    pub(super) fn peer_lost(&mut self, now: Monotonic, link: LinkId, domain: &Domain) {
        self.passed(now);
        let Some(line) = self.lines.remove(&link) else { return };
        if self.peers.get(domain).is_some_and(|peer| peer.line == line && !peer.here.is_empty()) {
            self.void.insert((now.plus(limits::PRESENCE_OFFLINE_AFTER), domain.clone()));
        }
    }

    /// A peer is told then, or before.
    fn tell(&mut self, domain: &Domain, at: Monotonic) {
        let Some(peer) = self.peers.get_mut(domain) else { return };
        match peer.due {
            Some(due) if due <= at => return,
            Some(due) => {
                self.due.remove(&(due, domain.clone()));
            }
            None => {}
        }
        peer.due = Some(at);
        self.due.insert((at, domain.clone()));
    }

    /// A peer is told everything anew, from then on.
    fn anew(&mut self, domain: &Domain, at: Monotonic) {
        let lives_there = |own: &&Own| own.friends.values().any(|known| known.domain == *domain);
        let all: BTreeSet<AccountId> =
            self.own.iter().filter(|(_, own)| lives_there(own)).map(|(account, _)| *account).collect();
        if planted::active(Bug::TellPeersOnce) {
            return;
        }
        let peer = self.peers.entry(domain.clone()).or_default();
        // Also where there is nothing to tell yet: whatever is told first says that nothing before it holds.
        peer.fresh = true;
        if let Some(at) = peer.beat.take() {
            self.beats.remove(&(at, domain.clone()));
        }
        if all.is_empty() && peer.told.is_empty() && peer.dirty.is_empty() {
            return;
        }
        peer.told.clear();
        peer.dirty = all;
        self.tell(domain, at);
    }

    pub(super) fn peer_up(&mut self, domain: &Domain) {
        if let Some(peer) = self.peers.get_mut(domain) {
            peer.patience = Duration::ZERO;
        }
        self.anew(domain, self.now);
    }

    pub(super) fn line_lost(&mut self, now: Monotonic, domain: &Domain) {
        self.passed(now);
        self.anew(domain, now.plus(limits::HEARTBEAT_EVERY));
    }

    pub(super) fn due(&mut self, now: Monotonic) -> Vec<Domain> {
        self.passed(now);
        while let Some((_, account)) = self.ending.first().copied().filter(|(at, _)| *at <= now) {
            self.ending.pop_first();
            let Some(own) = self.own.get(&account).filter(|own| own.links.is_empty()) else { continue };
            let end = own.heard.plus(limits::PRESENCE_OFFLINE_AFTER);
            if end <= now {
                self.vanish(account);
            } else {
                self.ending.insert((end, account));
            }
        }
        while let Some((_, domain)) = self.void.first().cloned().filter(|(at, _)| *at <= now) {
            self.void.pop_first();
            self.let_go(&domain);
        }
        let mut told = Vec::new();
        while let Some((_, domain)) = self.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            if let Some(peer) = self.peers.get_mut(&domain) {
                peer.due = None;
                if peer.fresh || !peer.dirty.is_empty() {
                    told.push(domain);
                }
            }
        }
        told
    }

    pub(super) fn is_anybody_shown(&mut self, domain: &Domain) -> bool {
        let Some(peer) = self.peers.get_mut(domain) else { return false };
        let own = &self.own;
        let shown = |account: &AccountId| own.get(account).is_some_and(|own| own.shown && own.is_visible());
        let any = peer.dirty.iter().any(shown);
        // Without a link the peer lets go by itself of whom it was told.
        peer.told.clear();
        if !any {
            peer.dirty.clear();
            peer.fresh = false;
            return false;
        }
        // Tried again, ever more seldom: a relay that is gone for good is not called every ten seconds.
        peer.patience = (peer.patience * 2).clamp(limits::HEARTBEAT_EVERY, limits::PRESENCE_REACH_MAX);
        let again = self.now.plus(peer.patience);
        self.tell(domain, again);
        true
    }

    pub(super) fn for_peer(&mut self, domain: &Domain) -> Vec<PeerPresence> {
        let Some(peer) = self.peers.get_mut(domain) else { return Vec::new() };
        let (dirty, fresh) = (std::mem::take(&mut peer.dirty), std::mem::take(&mut peer.fresh));
        let mut changes = Vec::new();
        for account in dirty {
            let may_see = self.own.get(&account).filter(|own| own.shown && own.is_visible()).map(|own| {
                let there = own.friends.iter().filter(|(_, known)| known.sees && known.domain == *domain);
                there.map(|(friend, _)| *friend).collect::<BTreeSet<_>>()
            });
            let may_see = may_see.unwrap_or_default();
            let before = if may_see.is_empty() {
                peer.told.remove(&account).unwrap_or_default()
            } else {
                peer.told.insert(account, may_see.clone()).unwrap_or_default()
            };
            for (online, to) in [(true, &may_see - &before), (false, &before - &may_see)] {
                let to: Vec<_> = to.into_iter().collect();
                changes.extend(
                    to.chunks(limits::PRESENCE_ACCOUNTS_MAX / 2)
                        .map(|to| Shown { status: Status { account, online }, to: to.to_vec() }),
                );
            }
        }
        let mut frames = Vec::new();
        let (mut frame, mut named) = (PeerPresence { fresh, changes: Vec::new() }, 0);
        for shown in changes {
            let more = 1 + shown.to.len();
            if named + more > limits::PRESENCE_ACCOUNTS_MAX {
                frames.push(std::mem::take(&mut frame));
                named = 0;
            }
            named += more;
            frame.changes.push(shown);
        }
        if frame.fresh || !frame.changes.is_empty() {
            frames.push(frame);
        }
        self.keep(domain);
        frames
    }

    /// The link to a peer that believes somebody to be there is kept: what it was told would end with it.
    fn keep(&mut self, domain: &Domain) {
        let Some(peer) = self.peers.get_mut(domain) else { return };
        if peer.beat.is_none() && !peer.told.is_empty() {
            let at = self.now.plus(limits::PEER_BEAT_EVERY);
            peer.beat = Some(at);
            self.beats.insert((at, domain.clone()));
        }
    }

    /// Peers whose link is to be used now.
    pub(super) fn beats(&mut self, now: Monotonic) -> Vec<Domain> {
        self.passed(now);
        let mut kept = Vec::new();
        while let Some((_, domain)) = self.beats.first().cloned().filter(|(at, _)| *at <= now) {
            self.beats.pop_first();
            let Some(peer) = self.peers.get_mut(&domain) else { continue };
            peer.beat = None;
            if !peer.told.is_empty() {
                self.keep(&domain);
                kept.push(domain);
            }
        }
        kept
    }

    pub(super) fn next_wake(&self) -> Option<Monotonic> {
        let ending = self.ending.first().map(|(at, _)| *at);
        let void = self.void.first().map(|(at, _)| *at);
        let due = self.due.first().map(|(at, _)| *at);
        let beats = self.beats.first().map(|(at, _)| *at);
        [ending, void, due, beats].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
