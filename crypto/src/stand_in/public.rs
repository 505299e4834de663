//! Public: the public state of a stand-in thread, as its hub keeps it: the roster, and the epoch.
//! Owns: what shows without the epoch's secret. A commit's inner tag, which anybody can make, stands for its signature; the
//! outer one, which takes the secret, for the tags that only members can check.

use minicbor::{Decode, Encode};
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;

use super::format::{self, Kind};
use super::roster::Roster;
use super::{CommitBody, PUBLIC, Pending, hash, refused};
use crate::engine::{Commit, EngineError, Own};
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
        let chain = hash(thread.as_bytes());
        let first = super::State { epoch: 1, roster, slot: None, chain, policy: None };
        let info = info(thread, &first, &tree, &[0; 32]);
        (tree, info)
    }

    /// A commit by which one of the members takes these in and those out, and sets a policy, and its GroupInfo, on a state that was saved; none would
    /// follow it, for it takes no secret: for tests of relays.
    ///
    /// # Errors
    /// Not a saved state; who commits, or is taken out, is not in it.
    pub fn forge_commit(
        saved: &[u8],
        committer: DeviceId,
        adds: &[Leaf],
        removes: &[DeviceId],
        sets: Option<&Policy>,
    ) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
        let State { thread, epoch, roster, chain, policy, .. } = restored(saved)?;
        let slot_of = |device: &DeviceId| roster.slot_of(*device).ok_or(EngineError::NotMember);
        let removes: Result<Vec<_>, _> = removes.iter().map(slot_of).collect();
        let body = CommitBody {
            thread,
            epoch,
            slot: slot_of(&committer)?,
            secret: [0; 32],
            adds: adds.to_vec(),
            removes: removes?,
            rejoins: false,
            policy: sets.cloned(),
        };
        Self::forged(&body, roster, (chain, policy))
    }

    /// A commit from without by which the committer puts its new leaf in the place of that one's, in the same way.
    ///
    /// # Errors
    /// Not a saved state; one of them is not in it.
    pub fn forge_rejoin(saved: &[u8], committer: DeviceId, place: DeviceId) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
        let State { thread, epoch, roster, chain, policy, .. } = restored(saved)?;
        let slot_of = |device: DeviceId| roster.slot_of(device).ok_or(EngineError::NotMember);
        let (slot, removes) = (slot_of(committer)?, vec![slot_of(place)?]);
        let (adds, secret) = (Vec::new(), [0; 32]);
        let body = CommitBody { thread, epoch, slot, secret, adds, removes, rejoins: true, policy: None };
        Self::forged(&body, roster, (chain, policy))
    }

    fn forged(
        body: &CommitBody,
        mut roster: Roster,
        (chain, policy): ([u8; 32], Option<Policy>),
    ) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
        let commit = super::commit_bytes(&[0; 32], body, 0);
        // One that cannot be followed has none to go with it.
        let followed = body.follow(&mut roster).is_ok();
        let chain = super::chained(&chain, &super::link(&commit, body.rejoins)?);
        let policy = body.policy.clone().or(policy);
        let next = super::State { epoch: body.epoch + 1, roster, slot: None, chain, policy };
        let info = info(body.thread, &next, &super::tree(&next.roster), &[0; 32]);
        Ok((commit, if followed { info } else { Vec::new() }))
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
    /// Over the commits that led here.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    chain: [u8; 32],
    /// What a commit from without is tagged with.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    outside: [u8; 32],
    #[n(5)]
    policy: Option<Policy>,
}

pub(super) fn info(thread: ThreadId, state: &super::State, tree: &[u8], secret: &[u8; 32]) -> Vec<u8> {
    let (epoch, chain, outside) = (state.epoch, state.chain, super::outside(secret));
    let policy = state.policy.clone();
    let len = format::INFO + format::policy(policy.as_ref());
    format::wrap(Kind::Info, &PUBLIC, &Info { thread, epoch, tree: hash(tree), chain, outside, policy }, len)
}

/// Reads a GroupInfo; its tag, which anybody can make, stands for its signature.
fn read(info: &[u8]) -> Result<Info, EngineError> {
    let said = format::peek(Kind::Info, info).map_err(refused)?;
    format::check(&PUBLIC, info).map_err(refused)?;
    Ok(said)
}

/// The commit by which a device goes on where a group is, and what it leads to.
pub(super) fn rejoined(
    own: &Own<'_>,
    thread: ThreadId,
    (group, info): (&dyn PublicGroup, &[u8]),
    secret: [u8; 32],
) -> Result<(Commit, Pending), EngineError> {
    group.offered(info)?;
    let said = read(info)?;
    let mut roster: Roster = format::peek(Kind::Tree, &group.tree()?).map_err(refused)?;
    let slot = roster.slot_of(own.id).filter(|slot| roster.device_at(*slot) == Some((own.id, own.device.public())));
    let slot = slot.ok_or(EngineError::NotMember)?;
    let epoch = said.epoch;
    let body =
        CommitBody { thread, epoch, slot, secret, adds: Vec::new(), removes: vec![slot], rejoins: true, policy: None };
    let len = format::commit(roster.path(slot, epoch + 1), 0, 1);
    let commit = super::commit_bytes(&said.outside, &body, len);
    body.follow(&mut roster)?;
    let tree = super::tree(&roster);
    let chain = super::chained(&said.chain, &super::link(&commit, true)?);
    let state = super::State { epoch: epoch + 1, roster, slot: Some(slot), chain, policy: said.policy };
    let info = self::info(thread, &state, &tree, &secret);
    let pending = Pending { hash: hash(&commit), state, secret };
    Ok((Commit { epoch: Epoch::new(epoch + 1), commit, welcome: None, tree, info }, pending))
}

impl PublicEngine for StandInPublic {
    fn found(&self, thread: ThreadId, tree: &[u8], info: &[u8]) -> Result<Box<dyn PublicGroup>, EngineError> {
        let said = read(info)?;
        let roster: Roster = format::peek(Kind::Tree, tree).map_err(refused)?;
        format::check(&PUBLIC, tree).map_err(refused)?;
        if said.thread != thread {
            return Err(EngineError::Untrusted);
        }
        if said.tree != hash(tree) {
            return Err(EngineError::BadSignature);
        }
        Ok(Box::new(State { thread, epoch: said.epoch, roster, chain: said.chain, next: None, policy: said.policy }))
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
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    chain: [u8; 32],
    #[n(4)]
    policy: Option<Policy>,
    /// What the commit that was proved last leads to.
    #[cbor(skip)]
    next: Option<Next>,
}

/// Tree, chain and policy of an epoch.
type Next = ([u8; 32], [u8; 32], Option<Policy>);

impl State {
    fn vouched(&self, info: &[u8], epoch: u64, (tree, chain, policy): Next) -> Result<(), EngineError> {
        let said = read(info)?;
        let same = (said.thread, said.epoch, said.tree, said.chain) == (self.thread, epoch, tree, chain);
        let same = same && said.policy == policy;
        if same { Ok(()) } else { Err(EngineError::Untrusted) }
    }

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
        let whole = body.rejoins == body.removes.contains(&body.slot) && body.is_whole();
        if !whole {
            return Err(EngineError::Untrusted);
        }
        let removed: Result<Vec<_>, _> = body.removes.iter().map(at).collect();
        let (mut added, mut removed) = (body.adds.clone(), removed?);
        added.sort_unstable();
        removed.sort_unstable();
        let mut roster = self.roster.clone();
        body.follow(&mut roster)?;
        if body.rejoins {
            removed.clear();
        }
        if roster.members().count() > limits::THREAD_DEVICES_MAX {
            return Err(EngineError::Untrusted);
        }
        let (policy, sets) = (self.policy.clone(), body.policy);
        Ok((Proved { committer, added, removed, rejoins: body.rejoins, policy, sets }, roster))
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

    fn policy(&self) -> Result<Option<Policy>, EngineError> {
        Ok(self.policy.clone())
    }

    fn prove(&mut self, commit: &[u8]) -> Result<Proved, EngineError> {
        let (proved, roster) = self.judge(commit)?;
        let chain = super::chained(&self.chain, &super::link(commit, proved.rejoins)?);
        let policy = proved.sets.clone().or_else(|| proved.policy.clone());
        self.next = Some((hash(&super::tree(&roster)), chain, policy));
        Ok(proved)
    }

    fn offered_next(&self, info: &[u8]) -> Result<(), EngineError> {
        self.vouched(info, self.epoch + 1, self.next.clone().ok_or(EngineError::Untrusted)?)
    }

    fn offered(&self, info: &[u8]) -> Result<(), EngineError> {
        self.vouched(info, self.epoch, (hash(&super::tree(&self.roster)), self.chain, self.policy.clone()))
    }

    fn tree(&self) -> Result<Vec<u8>, EngineError> {
        Ok(super::tree(&self.roster))
    }

    fn follow(&mut self, commit: &[u8]) -> Result<(), EngineError> {
        let (proved, roster) = self.judge(commit)?;
        self.chain = super::chained(&self.chain, &super::link(commit, proved.rejoins)?);
        self.roster = roster;
        self.policy = proved.sets.or(proved.policy);
        self.epoch += 1;
        self.next = None;
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        minicbor::to_vec(self).map_err(|error| EngineError::Library(error.to_string()))
    }
}
