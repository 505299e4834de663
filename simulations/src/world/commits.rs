//! Commits that no other member can follow: what a hostile member hands in to the hub of a thread it is in.
//! Owns: which of its commits it hands in again, the copies it damages, what it does and is not entitled to.
//! Never: has another key than its own device's. What it makes up has no newcomers: a Welcome into an epoch that nobody else
//! reaches is not played.

use std::collections::VecDeque;

use whimbrel_crypto::{Change, Context, Engine as CryptoEngine, MlsEngine, Own, StandInEngine};
use whimbrel_node::identity;
use whimbrel_node::views::{self, Standing};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, Warrant};
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_protocol::policy::{Policy, Who};
use whimbrel_protocol::time::Now;
use whimbrel_storage::{Overlay, Reads};

use crate::engine::Stream;
use crate::scenario::Crypto;

/// Its own commits kept to be handed in again.
const REMEMBERED: usize = 8;

/// What a member has handed in.
#[derive(Debug, Default)]
pub(super) struct Commits {
    before: VecDeque<Commit>,
}

impl Commits {
    /// It hands in a commit of its own. Only what takes nobody in is kept.
    pub(super) fn remember(&mut self, commit: &Commit) {
        if commit.added.is_empty() {
            self.before.push_back(commit.clone());
            self.before.drain(..self.before.len().saturating_sub(REMEMBERED));
        }
    }

    /// The newest of an epoch of this thread that is over, as if it were of this one.
    pub(super) fn stale(&self, thread: ThreadId, now: Epoch) -> Option<Commit> {
        let over = |commit: &&Commit| commit.thread == thread && commit.epoch < now;
        self.before.iter().rev().find(over).map(|commit| Commit { epoch: now, ..commit.clone() })
    }
}

/// The end of a commit that its signature is not over: two tags, and the signature itself in the real one.
const TAGS: usize = 160;

/// A copy of a commit that takes nobody in, with one bit changed of what its author signed.
pub(super) fn corrupted(commit: &Commit, stream: &mut Stream) -> Option<Commit> {
    let mut copy = commit.clone();
    let signed = copy.bytes.len().saturating_sub(TAGS);
    let (at, bit) = (stream.below(signed.max(1) as u64) as usize, stream.below(8));
    *copy.bytes.get_mut(at)? ^= 1 << bit;
    commit.added.is_empty().then_some(copy)
}

/// The same with one changed in its last tag, which takes a secret of the epoch to check.
pub(super) fn mistagged(commit: &Commit) -> Option<Commit> {
    let mut copy = commit.clone();
    *copy.bytes.last_mut()? ^= 1;
    commit.added.is_empty().then_some(copy)
}

/// What a member makes a commit for that is not entitled to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Somebody else loses their leaf. Relays are told of it in half of all cases, and it comes with their log in half: the hub
    /// refuses it either way.
    Removal,
    /// The member becomes an admin; in half of all cases the only one.
    Role,
}

/// A genuine commit of this device that does this, as its own rows let it be made; nothing of it stays there. None where the
/// device may do so, or is not in the thread.
pub(super) fn unentitled(
    crypto: Crypto,
    reads: &dyn Reads,
    now: Now,
    (thread, deed): (ThreadId, Deed),
    stream: &mut Stream,
) -> Option<Commit> {
    let account = views::account(reads).ok()?;
    let at = views::memberships(reads).ok()?.into_iter().find(|at| at.thread == thread)?;
    let others: Vec<_> = at.leaves.iter().copied().filter(|leaf| leaf.account != account.account).collect();
    let before = views::thread(reads, &thread).ok()?.and_then(|view| view.policy);
    let rules = before.as_ref().is_some_and(|policy| policy.is_admin(&account.account));
    if at.standing != Standing::Open || at.founder == Some(account.account) || rules {
        return None;
    }
    let (victims, policy) = match deed {
        Deed::Removal => (vec![*stream.pick(&others)?], None),
        Deed::Role => {
            let mut admins = if stream.happens(0.5) { before?.admins } else { Vec::new() };
            admins.push(account.account);
            admins.sort_unstable();
            (Vec::new(), Some(Policy { admins, adds: Who::Admins, renames: Who::Admins }))
        }
    };
    let device = identity::device_key(reads).ok()?;
    let own = Own { id: account.device, device: &device };
    let mut rows = Overlay::new(reads);
    let mut cx = Context { rows: &mut rows, chance: stream.chance(), now };
    let change = Change { adds: &[], removes: &victims, policy: policy.as_ref() };
    let mut staged = |engine: &mut dyn CryptoEngine| {
        // Its core may have one of its own under way.
        engine.discard_own(&mut cx, &own, thread).ok()?;
        engine.change(&mut cx, &own, thread, change).ok()
    };
    let staged = match crypto {
        Crypto::Standin => staged(&mut StandInEngine::new()),
        Crypto::Real => staged(&mut MlsEngine::new()),
    }?;
    // Their own log, in which they are what they were.
    let victim = victims.first().filter(|_| stream.happens(0.5));
    let log = victim.and_then(|victim| views::log_of(reads, &victim.account).ok().flatten());
    let warrant = log.map(|log| Warrant::Revoked(log.into()));
    let removed = if stream.happens(0.5) { victims } else { Vec::new() };
    let (bytes, info) = (staged.commit, staged.info);
    Some(Commit { thread, term: FIRST_TERM, epoch: at.epoch, bytes, added: Vec::new(), removed, info, warrant })
}
