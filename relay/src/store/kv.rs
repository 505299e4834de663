//! Ordered keys: the one mapping of the store's commands and reads to ordered rows, as pure functions.
//! Owns: the group decision, the ids and rows it keeps at hand, the writer that applies a group.
//! Never: waits, starts a thread, reads a clock. The rows are in `rows`, the rules in `accounts` and `threads`.
//! Limits: `limits::GROUP_BYTES_MAX`, `limits::LOG_IDS_REMEMBERED`, `limits::RECENT_IDS_CACHED`.

mod accounts;
mod blobs;
mod check;
mod friends;
mod held;
mod hot;
mod hub;
mod own;
mod public;
mod reads;
mod recent;
mod rows;
mod schema;
mod signal;
mod threads;
mod tree;
mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::id::{Domain, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_storage::{Batch, Op, OrderedKv, Overlay, Reads, StorageError};

pub use self::check::{Problems, check};
pub use self::friends::{friends, standing};
pub use self::held::{Held, Place, add_held};
use self::hot::Hot;
pub use self::hub::commit_of;
pub use self::own::{export, hidden, invites, profile, registrations, sleepers, to_purge, wake};
pub use self::public::public_state;
pub use self::reads::{
    account, account_by_name, account_log, blob, device_logs, live_invites, log_page, names, outbound, package_count,
    pins, stale_logs, thread_by_tag, thread_rows, waiting_peers,
};
pub use self::recent::Recent;
pub use self::schema::{SCHEMA, space_name};
pub use self::signal::{hearers, surrounding_of, surroundings};
pub use self::tree::tree;
use super::command::{Append, Origin};
use super::{Command, Conflict, LogId, Outcome, StoreError};

/// Why one command was not done.
enum Fault {
    Conflict(Conflict),
    Storage(StorageError),
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

type Decided = Result<Outcome, Fault>;

/// Decides commands in order, each seeing those before it, and gives the batch that makes them so. A command whose
/// conditions do not hold, or that meets a damaged row, leaves nothing in the batch.
///
/// `recent` belongs to these rows: when the batch is not applied, [`Recent::forget`].
///
/// # Errors
/// The engine failed; nothing is decided.
pub fn decide(
    reads: &dyn Reads,
    commands: &[Command],
    recent: &mut Recent,
) -> Result<(Batch, Vec<Result<Outcome, Conflict>>), StorageError> {
    let mut group = Overlay::new(reads);
    let mut outcomes = Vec::with_capacity(commands.len());
    // What a peer offers of a thread behind something that must wait waits with it, or the two would change places, and what
    // was stored at its author's relay in time could come too late here.
    let mut waiting: BTreeMap<(&Domain, ThreadId), Conflict> = BTreeMap::new();
    for command in commands {
        if let Some(conflict) = offered(command).and_then(|of| waiting.get(&of)) {
            outcomes.push(Err(conflict.clone()));
            continue;
        }
        let mut rows = Overlay::new(&group);
        let decided = decide_one(&mut rows, command, recent);
        let changes = rows.into_changes();
        outcomes.push(match decided {
            Ok(outcome) => {
                group.absorb(changes);
                Ok(outcome)
            }
            Err(Fault::Conflict(conflict)) => {
                if conflict.refusal().1.is_some()
                    && let Some(of) = offered(command)
                {
                    waiting.insert(of, conflict.clone());
                }
                Err(conflict)
            }
            Err(Fault::Storage(error)) if error.is_sticky() => return Err(error),
            Err(Fault::Storage(error)) => Err(Conflict::Unreadable(error.to_string())),
        });
    }
    Ok((group.into_batch(), outcomes))
}

/// Which peer offers an envelope of which thread.
fn offered(command: &Command) -> Option<(&Domain, ThreadId)> {
    match command {
        Command::Append(Append { origin: Origin::Peer(peer), envelope, .. }) => Some((peer, envelope.thread)),
        _ => None,
    }
}

fn decide_one(rows: &mut Overlay<'_>, command: &Command, recent: &mut Recent) -> Decided {
    match command {
        Command::Register(register) => accounts::register(rows, register),
        Command::StockKeyPackages(stock) => accounts::stock(rows, stock),
        Command::ClaimKeyPackages(claim) => accounts::claim(rows, claim),
        Command::GiveConsent(give) => accounts::give_consent(rows, give),
        Command::NewInvite(invite) => accounts::invite(rows, invite),
        Command::OpenThread(open) => threads::open(rows, open),
        Command::Append(append) => threads::append(rows, append, recent),
        Command::Commit(commit) => hub::commit(rows, commit),
        Command::TagThread(tag) => threads::tag(rows, tag),
        Command::TouchThreads(touch) => threads::touch(rows, touch),
        Command::MoveCursors(moves) => trim::move_cursors(rows, moves),
        Command::Forwarded(forwarded) => trim::forwarded(rows, forwarded),
        Command::Trim(command) => trim::trim(rows, command),
        Command::PinPeer(pin) => accounts::pin_peer(rows, pin),
        Command::Expire(expire) => trim::expire(rows, expire),
        Command::NewRegistration(new) => own::new_registration(rows, new),
        Command::RevokeRegistration(token) => own::revoke_registration(rows, *token),
        Command::RevokeInvite(owner, token) => own::revoke_invite(rows, *owner, *token),
        Command::Befriend(befriend) => friends::befriend(rows, befriend),
        Command::Decline(decline) => friends::decline(rows, decline),
        Command::Block(block) => friends::block(rows, block),
        Command::SetVisible(owner, visible) => own::set_visible(rows, *owner, *visible),
        Command::LetSee(let_see) => friends::let_see(rows, let_see),
        Command::SetProfile(profile) => own::set_profile(rows, profile),
        Command::SetThread(settings) => own::set_thread(rows, settings),
        Command::ExtendLog(extend) => own::extend_log(rows, extend),
        Command::KeepStamp(stamp) => own::keep_stamp(rows, stamp),
        Command::SetWake(wake) => own::set_wake(rows, wake),
        Command::ConfirmWake(confirm) => own::confirm_wake(rows, confirm),
        Command::DeleteAccount(account) => own::delete_account(rows, *account),
        Command::Purge(account) => own::purge(rows, *account),
    }
}

/// The one writer of a store of ordered rows.
///
/// ```text
/// outcomes = committer.apply(&commands)?;   // for each waiting call, in order
/// committer.sync()?;                        // once
/// // now answer all of them, conflicts too
/// ```
#[derive(Debug)]
pub struct Committer<K> {
    kv: K,
    recent: Recent,
    hot: Hot,
    unsynced: Arc<Unsynced>,
}

/// What can be read and a crash could still take back: logs with new entries, and the tree of account logs.
#[derive(Debug, Default)]
pub struct Unsynced {
    logs: Mutex<BTreeSet<LogId>>,
    tree: AtomicBool,
}

impl Unsynced {
    /// Whether this log has such entries. Asked after a read, it speaks for all that was read: a log is noted before
    /// anybody can read what is new in it, and forgotten after the sync.
    pub fn has(&self, log: LogId) -> bool {
        self.logs().contains(&log)
    }

    /// Whether any log has such entries.
    pub fn any(&self) -> bool {
        !self.logs().is_empty()
    }

    /// Whether the tree over the account logs has leaves that a crash could still take back.
    pub fn has_leaves(&self) -> bool {
        self.tree.load(Ordering::SeqCst)
    }

    /// By what is written, and not by the command that writes it: none can be forgotten here.
    fn note(&self, batch: &Batch) {
        let mut logs = self.logs();
        logs.extend(batch.ops().iter().filter_map(|op| match op {
            Op::Put { key, .. } => rows::log_shown_by(key),
            Op::Delete { .. } => None,
        }));
    }

    fn note_leaves(&self, batch: &Batch) {
        let is_size = |op: &Op| matches!(op, Op::Put { key, .. } if key.as_slice() == [rows::space::TREE_SIZE]);
        if batch.ops().iter().any(is_size) {
            self.tree.store(true, Ordering::SeqCst);
        }
    }

    fn forget(&self) {
        self.tree.store(false, Ordering::SeqCst);
        self.logs().clear();
    }

    fn logs(&self) -> MutexGuard<'_, BTreeSet<LogId>> {
        // Each change is one call of the set.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Deref<Target: OrderedKv + Sized>> Committer<K> {
    /// The writer of these rows; there must be no other.
    pub fn new(kv: K) -> Self {
        let recent = Recent::new(limits::RECENT_IDS_CACHED);
        Self { kv, recent, hot: Hot::default(), unsynced: Arc::default() }
    }

    /// What can be read that a crash could still take back ([`super::Disk::unsynced`]).
    pub fn unsynced(&self) -> Arc<Unsynced> {
        Arc::clone(&self.unsynced)
    }

    /// Decides commands and applies what they write. Nothing may be answered before [`Committer::sync`] returns.
    ///
    /// # Errors
    /// [`StoreError::Full`]: of the commands from the first that did not fit on, nothing is written; answer the whole
    /// call so. Any other: stop, open the store again.
    pub fn apply(&mut self, commands: &[Command]) -> Result<Vec<Result<Outcome, Conflict>>, StoreError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (group, others) = rest.split_at(group_len(rest));
            let decided = decide(&self.hot.over(&*self.kv), group, &mut self.recent).and_then(|(batch, decided)| {
                if !batch.is_empty() {
                    // Before anybody can read it.
                    self.unsynced.note(&batch);
                    self.unsynced.note_leaves(&batch);
                    self.kv.apply(&batch)?;
                    self.hot.applied(&batch);
                }
                Ok(decided)
            });
            match decided {
                Ok(decided) => outcomes.extend(decided),
                Err(error) => {
                    self.recent.forget();
                    self.hot.forget();
                    return Err(error.into());
                }
            }
            rest = others;
        }
        Ok(outcomes)
    }

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// Always fatal.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.kv.sync().map_err(|error| StoreError::Failed(error.to_string()))?;
        self.unsynced.forget();
        Ok(())
    }
}

/// How many of the commands go into one batch: at least one.
fn group_len(commands: &[Command]) -> usize {
    let mut bytes = 0_usize;
    let fits = |command: &&Command| {
        bytes = bytes.saturating_add(command.bytes());
        bytes <= limits::GROUP_BYTES_MAX
    };
    commands.iter().take_while(fits).count().max(1)
}
