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
    /// The link on which it began to tell last: what comes on others is older, and that they end means nothing.
    line: Option<LinkId>,
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

    pub(super) fn listed(&mut self, account: AccountId, friends: impl Iterator<Item = (AccountId, Known)>) {
        let Some(own) = self.own.get_mut(&account) else { return };
        for (friend, known) in friends.filter(|_| !own.shown) {
            if !own.newer.contains(&friend) {
                own.friends.insert(friend, known);
            }
        }
    }

    /// The list is read: others may see it, and its new devices are told of others.
    pub(super) fn show(&mut self, account: AccountId, hidden: bool) {
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

    pub(super) fn told(&mut self, link: LinkId, domain: &Domain, words: PeerPresence) {
        let peer = self.peers.entry(domain.clone()).or_default();
        if words.fresh {
            peer.line = Some(link);
            self.let_go(domain);
        } else if peer.line != Some(link) {
            return tracing::debug!("a peer tells on a link that another has taken the place of");
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
        if self.peers.get(domain).is_some_and(|peer| peer.line == Some(link) && !peer.here.is_empty()) {
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
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap_or_else(|_| unreachable!("a domain"))
    }

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 32])
    }

    fn here(sees: bool) -> Option<Known> {
        Some(Known { domain: domain("a.example"), sees })
    }

    fn there() -> Option<Known> {
        Some(Known { domain: domain("b.example"), sees: true })
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_secs(seconds))
    }

    fn link(n: u8) -> LinkId {
        LinkId::new(u64::from(n))
    }

    /// Comes in on the link of its number, with these friends.
    fn come(table: &mut Table, now: u64, who: u8, friends: &[(u8, Option<Known>)]) {
        table.attach(at(now), link(who), account(who));
        let known = friends.iter().filter_map(|(other, known)| Some((account(*other), known.clone()?)));
        table.listed(account(who), known);
        table.show(account(who), false);
    }

    fn two() -> Table {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(2, here(true))]);
        come(&mut table, 0, 2, &[(1, here(true))]);
        table
    }

    fn news(table: &mut Table, who: u8) -> Vec<(u8, bool)> {
        let (_, statuses) = table.statuses(link(who), 0);
        statuses.iter().map(|status| (status.account.as_bytes().first().copied().unwrap_or(0), status.online)).collect()
    }

    #[test]
    fn friends_are_told_what_changed_and_nothing_twice() {
        let mut table = two();
        assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![(2, true)], vec![(1, true)]));
        assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![], vec![]));
        assert_eq!(table.statuses(link(1), 1), (1, Vec::new()));
        table.leave(link(2), true);
        assert_eq!(news(&mut table, 1), [(2, false)]);
    }

    #[test]
    fn silence_ends_after_a_minute_and_a_goodbye_at_once() {
        let mut table = two();
        news(&mut table, 1);
        table.heard(at(30), link(2));
        table.leave(link(2), false);
        assert_eq!(table.next_wake(), Some(at(90)));
        table.due(at(89));
        assert_eq!(news(&mut table, 1), []);
        table.due(at(90));
        assert_eq!(news(&mut table, 1), [(2, false)]);
        // Back within the minute: nobody sees that it was away.
        come(&mut table, 100, 2, &[(1, here(true))]);
        assert_eq!(news(&mut table, 1), [(2, true)]);
        table.leave(link(2), false);
        come(&mut table, 110, 2, &[(1, here(true))]);
        table.due(at(160));
        assert_eq!(news(&mut table, 1), []);
    }

    #[test]
    fn whoever_may_not_see_sees_what_they_would_see_of_nobody() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(2, here(false)), (3, here(true))]);
        come(&mut table, 0, 2, &[(1, here(true))]);
        come(&mut table, 0, 3, &[(1, here(true))]);
        come(&mut table, 0, 4, &[(1, here(true))]);
        assert_eq!((news(&mut table, 2), news(&mut table, 3), news(&mut table, 4)), (vec![], vec![(1, true)], vec![]));
        table.set_visible(account(1), false);
        assert_eq!((news(&mut table, 2), news(&mut table, 3)), (vec![], vec![(1, false)]));
        table.set_visible(account(1), true);
        table.changed(account(1), account(3), here(false));
        table.changed(account(1), account(2), here(true));
        assert_eq!((news(&mut table, 2), news(&mut table, 3)), (vec![(1, true)], vec![]));
        table.changed(account(1), account(2), None);
        assert_eq!(news(&mut table, 2), [(1, false)]);
    }

    #[test]
    fn a_change_during_the_reading_of_a_list_wins() {
        let mut table = two();
        table.attach(at(0), link(3), account(3));
        table.changed(account(3), account(1), None);
        table.listed(account(3), [(account(1), Known { domain: domain("a.example"), sees: true })].into_iter());
        table.changed(account(1), account(3), here(true));
        table.show(account(3), false);
        assert_eq!(news(&mut table, 1), [(2, true)]);
    }

    #[test]
    fn a_removal_or_a_choice_during_the_reading_of_a_list_wins_also_when_a_second_device_comes_in_meanwhile() {
        let mut table = two();
        news(&mut table, 1);
        let known = || [(account(1), Known { domain: domain("a.example"), sees: true })].into_iter();
        table.changed(account(1), account(3), here(true));
        table.attach(at(0), link(3), account(3));
        table.changed(account(3), account(1), None);
        table.attach(at(0), link(4), account(3));
        table.listed(account(3), known());
        table.show(account(3), false);
        assert_eq!(news(&mut table, 1), []);
        // What was read of it is older than what was chosen since.
        for (read, chosen, seen) in [(false, false, vec![]), (true, true, vec![(5, true)])] {
            table.attach(at(0), link(5), account(5));
            table.changed(account(1), account(5), here(true));
            table.set_visible(account(5), chosen);
            table.listed(account(5), known());
            table.show(account(5), read);
            assert_eq!(news(&mut table, 1), seen);
            table.leave(link(5), true);
            news(&mut table, 1);
        }
    }

    #[test]
    fn a_device_that_is_told_of_somebody_while_its_list_is_read_is_told_of_everybody_after() {
        let mut table = two();
        come(&mut table, 0, 4, &[(3, here(true))]);
        table.changed(account(1), account(3), here(true));
        table.attach(at(0), link(3), account(3));
        table.changed(account(3), account(1), here(true));
        assert_eq!(news(&mut table, 3), [(1, true)]);
        let known = Known { domain: domain("a.example"), sees: true };
        table.listed(account(3), [(account(4), known)].into_iter());
        table.show(account(3), false);
        assert_eq!(news(&mut table, 3), [(4, true)]);
    }

    #[test]
    fn a_peer_is_told_of_its_users_friends_only_and_of_changes_only() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(2, here(true)), (8, there())]);
        come(&mut table, 0, 2, &[(1, here(true))]);
        let b = domain("b.example");
        assert_eq!((table.due(at(9)), table.due(at(10))), (vec![], vec![b.clone()]));
        let shown = |online, to: &[u8]| Shown {
            status: Status { account: account(1), online },
            to: to.iter().map(|n| account(*n)).collect(),
        };
        assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes: vec![shown(true, &[8])] }]);
        assert_eq!(table.for_peer(&b), []);
        table.peer_up(&b);
        assert_eq!(table.due(at(10)), std::slice::from_ref(&b));
        assert_eq!(table.for_peer(&b), [PeerPresence { fresh: true, changes: vec![shown(true, &[8])] }]);
        table.changed(account(1), account(9), there());
        table.changed(account(1), account(8), None);
        table.due(at(30));
        let changes = vec![shown(true, &[9]), shown(false, &[8])];
        assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes }]);
        table.leave(link(1), true);
        assert_eq!(table.for_peer(&b), [PeerPresence { fresh: false, changes: vec![shown(false, &[9])] }]);
    }

    #[test]
    fn a_peer_whose_link_was_lost_is_reached_again_for_those_who_are_there_and_ever_more_seldom() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(8, there())]);
        let b = domain("b.example");
        table.due(at(10));
        table.for_peer(&b);
        table.line_lost(at(20), &b);
        let mut tries = Vec::new();
        while tries.len() < 12 {
            let next = table.next_wake().unwrap_or_default();
            table.heard(next, link(1));
            if !table.due(next).is_empty() {
                assert!(table.is_anybody_shown(&b));
                tries.push(next.since_start().as_secs());
            }
        }
        let waits: Vec<u64> = tries.windows(2).filter_map(|two| Some(two.get(1)? - two.first()?)).collect();
        assert!(
            waits.starts_with(&[10, 20, 40]) && waits.ends_with(&[limits::PRESENCE_REACH_MAX.as_secs()]),
            "{waits:?}"
        );
        table.peer_up(&b);
        let now = table.next_wake().unwrap_or_default();
        assert_eq!(table.due(now), std::slice::from_ref(&b));
        let frames = table.for_peer(&b);
        assert!(matches!(&frames[..], [frame] if frame.fresh && frame.changes.len() == 1), "{frames:?}");
        // Nobody is there any more: nobody is called for that.
        table.leave(link(1), true);
        assert!(!table.is_anybody_shown(&b));
        assert_eq!(table.for_peer(&b), []);
    }

    #[test]
    fn the_link_to_a_peer_is_used_for_as_long_as_it_was_told_of_somebody() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(8, there())]);
        let b = domain("b.example");
        assert_eq!(table.beats(at(1_000)), [] as [Domain; 0], "it was told of nobody");
        table.due(at(1_000));
        table.for_peer(&b);
        let every = limits::PEER_BEAT_EVERY.as_secs();
        assert_eq!(table.beats(at(999 + every)), [] as [Domain; 0]);
        for round in 1..=3 {
            table.heard(at(1_000 + round * every), link(1));
            assert_eq!(table.beats(at(1_000 + round * every)), std::slice::from_ref(&b));
            assert_eq!(table.beats(at(1_000 + round * every)), [] as [Domain; 0], "once");
        }
        table.leave(link(1), true);
        table.due(at(1_100));
        table.for_peer(&b);
        assert_eq!(table.beats(at(9_000)), [] as [Domain; 0], "nobody is there any more");
    }

    #[test]
    fn what_a_peer_told_holds_a_minute_after_it_is_gone() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(8, there())]);
        come(&mut table, 0, 2, &[]);
        let b = domain("b.example");
        let shown = |online| Shown { status: Status { account: account(8), online }, to: vec![account(1), account(2)] };
        table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
        assert_eq!((news(&mut table, 1), news(&mut table, 2)), (vec![(8, true)], vec![]));
        table.peer_lost(at(5), link(90), &b);
        table.due(at(64));
        assert_eq!(news(&mut table, 1), []);
        table.due(at(65));
        assert_eq!(news(&mut table, 1), [(8, false)]);
        // It speaks for its own users: one of ours is looked up among ours.
        let ours = Shown { status: Status { account: account(2), online: true }, to: vec![account(1)] };
        table.told(link(90), &b, PeerPresence { fresh: false, changes: vec![ours] });
        assert_eq!(news(&mut table, 1), []);
    }

    #[test]
    fn a_link_that_another_took_the_place_of_tells_nothing_and_takes_nothing_with_it() {
        let mut table = Table::new(domain("a.example"));
        come(&mut table, 0, 1, &[(8, there())]);
        let b = domain("b.example");
        let shown = |online| Shown { status: Status { account: account(8), online }, to: vec![account(1)] };
        table.told(link(90), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
        table.told(link(91), &b, PeerPresence { fresh: true, changes: vec![shown(true)] });
        assert_eq!(news(&mut table, 1), [(8, true)]);
        table.told(link(90), &b, PeerPresence { fresh: false, changes: vec![shown(false)] });
        table.peer_lost(at(5), link(90), &b);
        table.due(at(70));
        assert_eq!(news(&mut table, 1), []);
        table.peer_lost(at(70), link(91), &b);
        table.due(at(130));
        assert_eq!(news(&mut table, 1), [(8, false)]);
    }

    #[test]
    fn the_first_that_a_peer_is_told_on_a_link_is_fresh_however_late_there_is_something_to_tell() {
        let mut table = Table::new(domain("a.example"));
        let b = domain("b.example");
        table.peer_up(&b);
        assert_eq!(table.due(at(0)), []);
        come(&mut table, 0, 1, &[(8, there())]);
        table.due(at(10));
        assert!(matches!(&table.for_peer(&b)[..], [frame] if frame.fresh));
    }
}
