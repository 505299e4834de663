//! Presence: who is there, told to whom they let it be seen, and only what changed.
//! Owns: the table of those who are there (memory alone), and when it is told to peers.
//! Never: decides a delivery, is written anywhere, or tells anybody else.
//! Limits: `limits::PRESENCE_OFFLINE_AFTER`, `limits::PRESENCE_STATUSES_MAX`, `limits::PRESENCE_ACCOUNTS_MAX`,
//! `limits::PEER_PRESENCE_MAX`. Rules: docs/protocol/presence.md.

mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::friendship::{Friend, Standing};
use whimbrel_protocol::id::{AccountId, Domain, LinkId};
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::{PeerPresence, Status};
use whimbrel_protocol::time::Monotonic;

pub(crate) use self::table::Known;
use self::table::Table;
use crate::store::{Store, StoreError};

/// Who is there.
#[derive(Debug)]
pub(crate) struct Presence {
    table: Mutex<Table>,
}

impl Presence {
    pub(crate) fn new(domain: Domain) -> Self {
        Self { table: Mutex::new(Table::new(domain)) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device of an account came in: reads the account's list, then shows it. The caller asks whether the link still
    /// lives, after.
    pub(crate) async fn appear(
        &self,
        store: &impl Store,
        now: Monotonic,
        link: LinkId,
        account: AccountId,
    ) -> Result<(), StoreError> {
        // What changes in the list from here on is told by `changed`, and wins over what is read.
        self.table().attach(now, link, account);
        let hidden = store.hidden(account).await?;
        let mut after = None;
        loop {
            let page = store.friends(account, after, limits::FRIEND_PAGE_MAX).await?;
            let last = page.len() < limits::FRIEND_PAGE_MAX;
            after = page.last().map(|friend| friend.account);
            let friends = page.into_iter().filter(|friend| friend.standing == Standing::Friends);
            let known = friends.map(|Friend { account, domain, sees, .. }| (account, Known { domain, sees }));
            self.table().listed(link, known);
            if last {
                break;
            }
        }
        self.table().show(link, hidden);
        Ok(())
    }

    /// The device is there.
    pub(crate) fn heard(&self, now: Monotonic, link: LinkId) {
        self.table().heard(now, link);
    }

    /// What changed for a device since the version it has, and the version it has then.
    pub(crate) fn statuses(&self, link: LinkId, known: u64) -> (u64, Vec<Status>) {
        self.table().statuses(link, known)
    }

    /// A device's link is gone; after a goodbye, the account is offline at once if it was the last.
    pub(crate) fn leave(&self, link: LinkId, goodbye: bool) {
        self.table().leave(link, goodbye);
    }

    /// An owner's list changed: what it says of the other now; absent: no friend.
    pub(crate) fn changed(&self, owner: AccountId, other: AccountId, known: Option<Known>) {
        self.table().changed(owner, other, known);
    }

    pub(crate) fn set_visible(&self, account: AccountId, visible: bool) {
        self.table().set_visible(account, visible);
    }

    /// A peer is let in on a link, on which it may tell from now on until `peer_lost`.
    pub(crate) fn peer_in(&self, link: LinkId) {
        self.table().peer_in(link);
    }

    /// A peer tells of its users.
    pub(crate) fn told(&self, link: LinkId, peer: &Domain, words: PeerPresence) {
        self.table().told(link, peer, words);
    }

    /// A peer's link is gone: what it told on it holds for a while.
    pub(crate) fn peer_lost(&self, now: Monotonic, link: LinkId, peer: &Domain) {
        self.table().peer_lost(now, link, peer);
    }

    /// The link on which a peer was told is gone: it is told everything again, on another.
    pub(crate) fn line_lost(&self, now: Monotonic, peer: &Domain) {
        self.table().line_lost(now, peer);
    }

    /// A link to a peer stands anew: everything is told again.
    pub(crate) fn peer_up(&self, peer: &Domain) {
        self.table().peer_up(peer);
    }

    /// Whether anybody is there whom a peer's users may see; if not, what was to be told of them is forgotten.
    pub(crate) fn is_anybody_shown(&self, peer: &Domain) -> bool {
        self.table().is_anybody_shown(peer)
    }

    /// Peers that something is to be told, now that their time has come.
    pub(crate) fn due(&self, now: Monotonic) -> Vec<Domain> {
        self.table().due(now)
    }

    /// Peers whose link is to be used, so that what they were told stays.
    pub(crate) fn beats(&self, now: Monotonic) -> Vec<Domain> {
        self.table().beats(now)
    }

    /// What a peer is to be told.
    pub(crate) fn for_peer(&self, peer: &Domain) -> Vec<PeerPresence> {
        self.table().for_peer(peer)
    }

    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        self.table().next_wake()
    }
}
