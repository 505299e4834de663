//! Public: the public state of a stand-in thread, as its hub keeps it: the roster, and the epoch.
//! Owns: what shows without the epoch's secret. A commit's inner tag, which anybody can make, stands for its signature; the
//! outer one, which takes the secret, for the tags that only members can check.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_protocol::limits;

use super::format::{self, Kind};
use super::roster::Roster;
use super::{CommitBody, PUBLIC, follow, hash, refused};
use crate::engine::EngineError;
use crate::public::{Leaf, Proved, PublicEngine, PublicGroup};

/// Public states of stand-in threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandInPublic(());

impl StandInPublic {
    /// An engine; it keeps nothing.
    pub const fn new() -> Self {
        Self(())
    }

    /// Tree and GroupInfo of a thread of these, in epoch 1, as if the first had made it: for tests of relays.
    pub fn forge_opening(thread: ThreadId, members: &[Leaf]) -> (Vec<u8>, Vec<u8>) {
        let mut roster = Roster::default();
        members.iter().for_each(|(device, key)| roster.add(*device, *key, 1));
        let tree = super::tree(&roster);
        let info = info(thread, 1, &tree);
        (tree, info)
    }

    /// A commit by which one of the members takes these in and those out, on a state that was saved; no member would
    /// follow it, for it takes no secret: for tests of relays.
    ///
    /// # Errors
    /// Not a saved state; who commits, or is taken out, is not in it.
    pub fn forge_commit(
        saved: &[u8],
        committer: DeviceId,
        adds: &[Leaf],
        removes: &[DeviceId],
    ) -> Result<Vec<u8>, EngineError> {
        let State { thread, epoch, roster } = restored(saved)?;
        let slot_of = |device: &DeviceId| roster.slot_of(*device).ok_or(EngineError::NotMember);
        let removes: Result<Vec<_>, _> = removes.iter().map(slot_of).collect();
        let body = CommitBody {
            thread,
            epoch,
            slot: slot_of(&committer)?,
            secret: [0; 32],
            adds: adds.to_vec(),
            removes: removes?,
        };
        Ok(super::commit_bytes(&[0; 32], &body, 0))
    }
}

/// What the hub is told of an epoch.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Info {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    tree: [u8; 32],
}

pub(super) fn info(thread: ThreadId, epoch: u64, tree: &[u8]) -> Vec<u8> {
    format::wrap(Kind::Info, &PUBLIC, &Info { thread, epoch, tree: hash(tree) }, format::INFO)
}

impl PublicEngine for StandInPublic {
    fn found(&self, thread: ThreadId, tree: &[u8], info: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        let said: Info = format::peek(Kind::Info, info).map_err(refused)?;
        format::check(&PUBLIC, info).map_err(refused)?;
        let roster: Roster = format::peek(Kind::Tree, tree).map_err(refused)?;
        format::check(&PUBLIC, tree).map_err(refused)?;
        if said.thread != thread {
            return Err(EngineError::Untrusted);
        }
        if said.tree != hash(tree) {
            return Err(EngineError::BadSignature);
        }
        Ok(Box::new(State { thread, epoch: said.epoch, roster }))
    }

    fn restore(&self, thread: ThreadId, saved: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        let state = restored(saved)?;
        if state.thread == thread {
            Ok(Box::new(state))
        } else {
            Err(EngineError::Library("another thread".to_owned()))
        }
    }
}

fn restored(saved: &[u8]) -> Result<State, EngineError> {
    minicbor::decode(saved).map_err(|error| EngineError::Library(error.to_string()))
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct State {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    roster: Roster,
}

impl State {
    /// What a commit does, and who is where after it.
    fn judge(&self, commit: &[u8]) -> Result<(Proved, Roster), EngineError> {
        let body: CommitBody = format::peek(Kind::Commit, commit).map_err(refused)?;
        if body.thread != self.thread {
            return Err(EngineError::Malformed);
        }
        if body.epoch != self.epoch {
            return Err(EngineError::WrongEpoch { ours: self.epoch(), theirs: Epoch::new(body.epoch) });
        }
        format::check(&PUBLIC, format::signed(commit).map_err(refused)?).map_err(refused)?;
        let at = |slot: &u32| self.roster.device_at(*slot).map(|(device, _)| device).ok_or(EngineError::Untrusted);
        let committer = at(&body.slot)?;
        if body.removes.contains(&body.slot) {
            return Err(EngineError::Untrusted);
        }
        let removed: Result<Vec<_>, _> = body.removes.iter().map(at).collect();
        let (mut added, mut removed) = (body.adds.clone(), removed?);
        added.sort_unstable();
        removed.sort_unstable();
        let mut roster = self.roster.clone();
        follow(&mut roster, self.epoch + 1, body.slot, &body.adds, &body.removes)?;
        if roster.members().count() > limits::THREAD_DEVICES_MAX {
            return Err(EngineError::Untrusted);
        }
        Ok((Proved { committer, added, removed }, roster))
    }
}

impl PublicGroup for State {
    fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch)
    }

    fn members(&self) -> Result<Vec<Leaf>, EngineError> {
        let mut members: Vec<Leaf> = self.roster.members().collect();
        members.sort_unstable();
        let twice = members.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
        if twice { Err(EngineError::Untrusted) } else { Ok(members) }
    }

    fn prove(&mut self, commit: &[u8]) -> Result<Proved, EngineError> {
        self.judge(commit).map(|(proved, _)| proved)
    }

    fn follow(&mut self, commit: &[u8]) -> Result<(), EngineError> {
        (_, self.roster) = self.judge(commit)?;
        self.epoch += 1;
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        minicbor::to_vec(self).map_err(|error| EngineError::Library(error.to_string()))
    }
}
