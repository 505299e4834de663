//! Publics: the public states of the threads this relay is the hub of, as far as they are in memory.
//! Owns: bringing a state up to the thread's epoch, and what it shows of a commit or an opening.
//! Never: decides (`store::kv::hub` does, in the step that writes), reads the store, holds its lock while it judges.
//! Limits: `limits::PUBLIC_LEAVES_MAX`. Rules: docs/protocol/hub.md.
//!
//! What is here can be lost at any time: it is made again from the state that is written and the commits since.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_crypto::{EngineError, PublicEngine, PublicGroup, warrant};
use whimbrel_protocol::hub::Commit;
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_protocol::thread::Opening;
use whimbrel_protocol::{RefusalCode, limits};

use crate::refusal::Refusal;
use crate::store::PublicState;
use crate::store::command::hub::{Proof, Shown};

/// A state, how much room it takes, and when it was last used.
struct Kept {
    group: Box<dyn PublicGroup>,
    leaves: usize,
    used: u64,
}

#[derive(Default)]
struct Table {
    threads: BTreeMap<ThreadId, Kept>,
    leaves: usize,
    uses: u64,
}

impl Table {
    fn take(&mut self, thread: ThreadId) -> Option<Box<dyn PublicGroup>> {
        let kept = self.threads.remove(&thread)?;
        self.leaves -= kept.leaves;
        Some(kept.group)
    }

    /// Puts a state in, and the one that was used longest ago out, until there is room.
    fn put(&mut self, thread: ThreadId, group: Box<dyn PublicGroup>, leaves: usize) {
        self.take(thread);
        self.uses += 1;
        while self.leaves + leaves > limits::PUBLIC_LEAVES_MAX {
            let oldest = self.threads.iter().min_by_key(|(_, kept)| kept.used).map(|(thread, _)| *thread);
            let Some(oldest) = oldest else { return };
            self.take(oldest);
        }
        self.leaves += leaves;
        self.threads.insert(thread, Kept { group, leaves, used: self.uses });
    }
}

/// The states in memory.
#[derive(Default)]
pub(crate) struct Publics {
    table: Mutex<Table>,
}

impl Publics {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of the state that is here.
    pub(crate) fn epoch(&self, thread: ThreadId) -> Option<Epoch> {
        self.table().threads.get(&thread).map(|kept| kept.group.epoch())
    }

    /// What the thread's state shows of a commit for the epoch it is in, and what its leaves show. Nothing: the state that was to be here is not, or is another by now.
    ///
    /// # Errors
    /// What the store has cannot be followed: a defect, and said in the log.
    pub(crate) fn judge(
        &self,
        engine: &dyn PublicEngine,
        commit: &Commit,
        state: PublicState,
    ) -> Result<Option<(Proof, Shown)>, Refusal> {
        let here = self.table().take(commit.thread);
        let reaches = |group: &dyn PublicGroup| (state.from..=state.epoch).contains(&group.epoch());
        let mut group = match (here.filter(|group| reaches(group.as_ref())), &state.saved) {
            (Some(group), _) => group,
            (None, Some(saved)) => {
                engine.restore(commit.thread, saved).map_err(|error| broken(commit.thread, &error))?
            }
            (None, None) => return Ok(None),
        };
        let done = usize::try_from(group.epoch().get().saturating_sub(state.from.get())).unwrap_or(usize::MAX);
        for one in state.commits.iter().skip(done) {
            group.follow(one).map_err(|error| broken(commit.thread, &error))?;
        }
        if group.epoch() != state.epoch {
            return Ok(None);
        }
        let proved = group.prove(&commit.bytes);
        // Without it, whoever cannot apply the commit would be shut out for good.
        let proved = proved.and_then(|proved| group.offered_next(&commit.info).map(|()| proved));
        let proof = match proved {
            Ok(proved) => {
                let saved = state.due.then(|| group.save()).transpose();
                let saved = saved.map_err(|error| broken(commit.thread, &error))?;
                if saved.as_ref().is_some_and(|saved| saved.len() > limits::PUBLIC_SAVED_BYTES_MAX) {
                    tracing::warn!(thread = ?commit.thread, "a thread's public state has grown too large to be kept");
                    Proof::Fails
                } else {
                    Proof::Holds(Box::new(proved), saved)
                }
            }
            Err(error @ EngineError::Library(_)) => return Err(broken(commit.thread, &error)),
            Err(error) => {
                tracing::debug!(thread = ?commit.thread, %error, "a commit is not borne out");
                Proof::Fails
            }
        };
        let mut shown = Shown::default();
        if let Ok(members) = group.members() {
            // Of what does not hold otherwise nobody need know whether it is due.
            if matches!(proof, Proof::Holds(..)) {
                let stay = members.iter().map(|(device, _)| *device).filter(|device| !commit.removed.contains(device));
                let after = stay.chain(commit.added_devices()).map(|device| device.account).collect();
                shown = Shown { due: warrant::due(commit, &members), after };
            }
            // The commit that was judged last is in it.
            let weight = members.len() + commit.bytes.len() / limits::PUBLIC_TREE_BYTES_PER_DEVICE;
            self.table().put(commit.thread, group, weight);
        }
        Ok(Some((proof, shown)))
    }
}

fn broken(thread: ThreadId, error: &EngineError) -> Refusal {
    tracing::error!(?thread, %error, "a thread's public state cannot be used");
    Refusal::INTERNAL
}

/// The public state of a thread that is opened, saved. Nothing: of one that never changes.
///
/// # Errors
/// It has none, or it is not one of these devices in this epoch.
pub(crate) fn founded(
    engine: &dyn PublicEngine,
    opening: &Opening,
    info: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, Refusal> {
    if opening.founding.is_none() {
        return Ok(None);
    }
    let refused = Refusal::last(RefusalCode::Unproved);
    let info = info.ok_or(refused)?;
    let devices = opening.devices().count();
    if opening.tree.len() > devices.saturating_mul(limits::PUBLIC_TREE_BYTES_PER_DEVICE) {
        return Err(refused);
    }
    let group = engine.found(opening.thread, &opening.tree, info).map_err(|error| {
        tracing::debug!(thread = ?opening.thread, %error, "an opening is not borne out");
        refused
    })?;
    let members = group.members().map_err(|_| refused)?;
    let mut said: Vec<DeviceId> = opening.devices().collect();
    said.sort_unstable();
    // Of a thread that begins, its creator is the admin.
    if group.policy().map_err(|_| refused)?.is_some() {
        return Err(refused);
    }
    if group.epoch() != opening.epoch || !members.iter().map(|(device, _)| device).eq(&said) {
        return Err(refused);
    }
    let saved = group.save().map_err(|error| broken(opening.thread, &error))?;
    // A row that is too large would stop the store.
    if saved.len() > limits::PUBLIC_SAVED_BYTES_MAX { Err(refused) } else { Ok(Some(saved)) }
}
