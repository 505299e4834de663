//! Audit: what is to be asked of relays about their trees.
//! Owns: the work that waits, relay by relay, and when it may be tried again. Never: asks, or judges an answer
//! (`flow/audit`).
//! Limits: `limits::TREE_HEADS_MAX`, `limits::AUDIT_EVERY`. Rules: docs/protocol/transparency.md.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;

/// What one relay is to be asked.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Whose entries are to be seen in its tree.
    pub(crate) accounts: BTreeSet<AccountId>,
    /// How many of the heads kept were named when it was last asked.
    pub(crate) asked: usize,
    /// Answers in a row that proved nothing.
    pub(crate) attempts: u32,
    /// Times in a row that it could not be asked.
    pub(crate) absent: u32,
    /// Not before.
    pub(crate) next: Monotonic,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) work: BTreeMap<Domain, Work>,
    /// Relays whose heads are kept.
    pub(crate) kept: usize,
}

impl Audit {
    /// A relay is to be asked: for its newest head, and for somebody's entry in the tree.
    pub(crate) fn want(&mut self, domain: &Domain, account: Option<AccountId>, now: Monotonic) {
        if self.work.len() >= limits::TREE_HEADS_MAX && !self.work.contains_key(domain) {
            tracing::debug!("too many relays' trees are looked at already");
            return;
        }
        let work = self.work.entry(domain.clone()).or_default();
        work.accounts.extend(account);
        work.next = work.next.min(now);
    }

    /// When the first of it may be asked.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.work.values().map(|work| work.next).min()
    }
}
