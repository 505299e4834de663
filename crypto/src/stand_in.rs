//! Stand-in: **no encryption at all.** Contents lie open in what it calls sealed, keys travel in the clear, anyone who
//! reads a commit can forge. It exists so that simulations of a million nodes can run; nothing else may use it.
//! Owns: the rules of an engine (epochs, leaves, windows, one-time key packages, staged commits, remembered epochs) and
//! the sizes of the real one's bytes. Never: a primitive beyond SHA-256, which here only tells damage from none.
//! Only with the cargo feature `stand-in`, which no node binary turns on; it adds this type and changes nothing else.

mod format;
mod public;
mod roster;

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use whimbrel_protocol::frame::Words as _;
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::policy::Policy;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads};

pub use self::public::StandInPublic;

use self::format::{Kind, Refused};
use self::roster::Roster;
use crate::engine::{
    Applied, Authenticator, Change, Commit, Context, Created, Engine, EngineError, Invitee, Joined, KeyPackageFault,
    Opened, Own, ROWS, SealMark, Sealed,
};
use crate::public::{PublicEngine, PublicGroup};
use crate::signal::SignalKey;
use crate::{padding, signal};

/// An engine without encryption, for simulations. See the head of this file.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandInEngine(());

impl StandInEngine {
    /// An engine; it keeps nothing in memory.
    pub fn new() -> Self {
        Self::default()
    }
}

/// How the keys of key packages begin.
pub(crate) const KEY_PACKAGES: [u8; 2] = [ROWS, b'K'];

/// The key of what anybody may check: key packages and trees.
const PUBLIC: [u8; 32] = [0; 32];

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeyPackage {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    key: PublicKey,
    #[n(2)]
    from: u64,
    #[n(3)]
    until: u64,
    #[n(4)]
    last_resort: bool,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    nonce: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Welcome {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    tree: [u8; 32],
    #[n(4)]
    key_packages: Vec<PublicKey>,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    chain: [u8; 32],
    #[n(6)]
    policy: Option<Policy>,
    /// Who made it: its tag, which anybody can make, stands for their signature.
    #[n(7)]
    author: Option<DeviceId>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CommitBody {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    slot: u32,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(4)]
    adds: Vec<(DeviceId, PublicKey)>,
    #[n(5)]
    removes: Vec<u32>,
    /// Whose author comes from without, in the place of its old leaf: the outer tag is then by the epoch's other key.
    #[n(6)]
    rejoins: bool,
    /// What it sets, if it sets another.
    #[n(7)]
    policy: Option<Policy>,
}

impl CommitBody {
    /// One from without replaces its author's own leaf, and does nothing else; a policy is one.
    fn is_whole(&self) -> bool {
        if self.policy.as_ref().is_some_and(|policy| policy.check().is_err()) {
            return false;
        }
        !self.rejoins || (self.removes == [self.slot] && self.adds.is_empty() && self.policy.is_none())
    }

    /// Who is in the epoch after this.
    fn follow(&self, roster: &mut Roster) -> Result<(), EngineError> {
        // The leaf that goes and the one that comes are one device's, in one place.
        let removes = if self.rejoins { &[][..] } else { &self.removes };
        follow(roster, self.epoch + 1, self.slot, &self.adds, removes)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Message {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    author: DeviceId,
    #[n(3)]
    generation: u32,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    content: Vec<u8>,
}

/// A thread as it stands.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct State {
    #[n(0)]
    epoch: u64,
    #[n(1)]
    roster: Roster,
    /// Our own slot; none once removed.
    #[n(2)]
    slot: Option<u32>,
    /// Over the commits that led here, from the first: what the authenticator comes from.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    chain: [u8; 32],
    #[n(4)]
    policy: Option<Policy>,
}

/// What opens the messages of one epoch.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct Secrets {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(1)]
    sealed: u32,
    /// For each author: the generation after the newest opened, and those skipped below it.
    #[n(2)]
    authors: BTreeMap<DeviceId, (u32, BTreeSet<u32>)>,
    /// When the epoch ended.
    #[n(3)]
    ended: Option<u64>,
}

impl Secrets {
    fn new(secret: [u8; 32]) -> Self {
        Self { secret, sealed: 0, authors: BTreeMap::new(), ended: None }
    }

    /// Uses a generation up, by the window rules of the real ratchets.
    fn consume(&mut self, author: DeviceId, generation: u32) -> Result<(), EngineError> {
        let (next, skipped) = self.authors.entry(author).or_default();
        if generation >= *next {
            if generation - *next > limits::RATCHET_FORWARD {
                return Err(EngineError::TooDistant);
            }
            skipped.extend(*next..generation);
            *next = generation.saturating_add(1);
            let oldest = next.saturating_sub(limits::RATCHET_OUT_OF_ORDER);
            *skipped = skipped.split_off(&oldest);
            Ok(())
        } else if *next - generation > limits::RATCHET_OUT_OF_ORDER {
            Err(EngineError::TooDistant)
        } else if skipped.remove(&generation) {
            Ok(())
        } else {
            Err(EngineError::AlreadyOpened)
        }
    }
}

/// A staged commit: what is sent, and the state it leads to.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Pending {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    hash: [u8; 32],
    #[n(1)]
    state: State,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    secret: [u8; 32],
}

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![ROWS, kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn state_key(thread: ThreadId) -> Vec<u8> {
    key(b'S', &[thread.as_bytes()])
}

fn secrets_key(thread: ThreadId, epoch: u64) -> Vec<u8> {
    key(b'E', &[thread.as_bytes(), &epoch.to_be_bytes()])
}

fn pending_key(thread: ThreadId) -> Vec<u8> {
    key(b'P', &[thread.as_bytes()])
}

fn package_key(package: &[u8]) -> Vec<u8> {
    [&KEY_PACKAGES[..], &Sha256::digest(package)].concat()
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What a commit is in the chain of them: without the outer tag, as MLS has it of a membership tag. One from without has none
/// of those, and its outer tag stands for the confirmation tag, which is in the chain.
fn link(commit: &[u8], rejoins: bool) -> Result<[u8; 32], EngineError> {
    Ok(hash(if rejoins { commit } else { format::signed(commit).map_err(refused)? }))
}

/// What the outer tag of a commit from without takes.
fn outside(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update("outside").chain_update(secret).finalize().into()
}

/// The chain of commits, one longer; a thread begins with its first secret.
fn chained(before: &[u8; 32], next: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(next).finalize().into()
}

fn read<T: for<'b> Decode<'b, ()>>(rows: &dyn Reads, key: &[u8]) -> Result<Option<T>, EngineError> {
    let found = rows.get(key)?;
    found.map(|bytes| minicbor::decode(&bytes).map_err(|error| EngineError::Library(error.to_string()))).transpose()
}

fn write(rows: &mut Overlay<'_>, key: Vec<u8>, value: &impl Encode<()>) {
    let mut bytes = Vec::new();
    let encoded = minicbor::encode(value, &mut bytes);
    assert!(encoded.is_ok(), "encoding to memory failed");
    rows.put(key, bytes);
}

fn refused(refused: Refused) -> EngineError {
    match refused {
        Refused::Form => EngineError::Malformed,
        Refused::Tag => EngineError::BadSignature,
    }
}

fn state(rows: &Overlay<'_>, thread: ThreadId) -> Result<State, EngineError> {
    read(rows, &state_key(thread))?.ok_or(EngineError::UnknownThread)
}

/// A thread this device is in, and its slot there.
fn active(rows: &Overlay<'_>, thread: ThreadId) -> Result<(State, u32), EngineError> {
    let state = state(rows, thread)?;
    let slot = state.slot.ok_or(EngineError::NotMember)?;
    Ok((state, slot))
}

fn secrets(rows: &Overlay<'_>, thread: ThreadId, epoch: u64) -> Result<Secrets, EngineError> {
    read(rows, &secrets_key(thread, epoch))?.ok_or_else(|| EngineError::Library("no secrets".to_owned()))
}

/// Runs `work` on scratch rows: all it changed is kept, or nothing. The other calls write last, when nothing can fail.
fn atomically<T>(
    cx: &mut Context<'_, '_>,
    work: impl FnOnce(&mut Overlay<'_>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let mut scratch = Overlay::new(&*cx.rows);
    let value = work(&mut scratch)?;
    let changes = scratch.into_changes();
    cx.rows.absorb(changes);
    Ok(value)
}

/// Moves a thread to its next state; the epoch it leaves is remembered.
fn enter(
    rows: &mut Overlay<'_>,
    thread: ThreadId,
    next: &State,
    secret: [u8; 32],
    now: Wall,
) -> Result<(), EngineError> {
    let left = state(rows, thread)?.epoch;
    let mut leaving = secrets(rows, thread, left)?;
    leaving.ended = Some(now.as_millis());
    write(rows, secrets_key(thread, left), &leaving);
    write(rows, state_key(thread), next);
    if next.slot.is_some() {
        write(rows, secrets_key(thread, next.epoch), &Secrets::new(secret));
    }
    rows.delete(pending_key(thread));
    forget(rows, thread, Wall::default()).map(drop)
}

fn forget(rows: &mut Overlay<'_>, thread: ThreadId, before: Wall) -> Result<usize, EngineError> {
    let from = secrets_key(thread, 0);
    let to = secrets_key(thread, u64::MAX);
    let mut past = Vec::new();
    for (key, value) in rows.scan(&from, &to, Order::Ascending, limits::PAST_EPOCHS_MAX + 8)? {
        let kept: Secrets = minicbor::decode(&value).map_err(|error| EngineError::Library(error.to_string()))?;
        past.extend(kept.ended.map(|ended| (key, ended)));
    }
    let surplus = past.len().saturating_sub(limits::PAST_EPOCHS_MAX);
    let mut forgotten = 0;
    for (place, (key, ended)) in past.into_iter().enumerate() {
        if place < surplus || ended < before.as_millis() {
            rows.delete(key);
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

fn check_package(invitee: &Invitee, now: Wall) -> Result<(), EngineError> {
    if planted::active(Bug::TrustDevices) {
        return Ok(());
    }
    let fault = |fault| EngineError::KeyPackage { device: invitee.id, fault };
    let package: KeyPackage =
        format::peek(Kind::KeyPackage, &invitee.key_package).map_err(|_| fault(KeyPackageFault::Malformed))?;
    if package.device != invitee.id {
        return Err(fault(KeyPackageFault::Credential));
    }
    if package.key != invitee.device_key {
        return Err(fault(KeyPackageFault::DeviceKey));
    }
    format::check(&PUBLIC, &invitee.key_package).map_err(|_| fault(KeyPackageFault::Malformed))?;
    let tolerance = limits::CERTIFICATE_TOLERANCE.as_secs();
    let now = now.as_secs();
    let begun = now.saturating_add(tolerance) >= package.from;
    let ended = now > package.until.saturating_add(tolerance);
    if begun && !ended { Ok(()) } else { Err(fault(KeyPackageFault::Lifetime)) }
}

fn check_adds(roster: &Roster, adds: &[Invitee], now: Wall) -> Result<(), EngineError> {
    if adds.len() > limits::COMMIT_ADDS_MAX {
        return Err(EngineError::TooLarge("additions of one commit"));
    }
    let mut present: BTreeSet<_> = roster.members().map(|(id, _)| id).collect();
    if present.len() + adds.len() > limits::THREAD_DEVICES_MAX {
        return Err(EngineError::TooLarge("devices of a thread"));
    }
    for invitee in adds {
        if !present.insert(invitee.id) {
            return Err(EngineError::KeyPackage { device: invitee.id, fault: KeyPackageFault::Duplicate });
        }
        check_package(invitee, now)?;
    }
    Ok(())
}

fn tree(roster: &Roster) -> Vec<u8> {
    format::wrap(Kind::Tree, &PUBLIC, roster, format::tree(roster.members().count(), roster.filled()))
}

fn welcome(thread: ThreadId, next: &State, secret: [u8; 32], tree: &[u8], invitees: &[Invitee]) -> Vec<u8> {
    let (epoch, chain, policy) = (next.epoch, next.chain, next.policy.clone());
    // Whoever makes one has a slot.
    let author = next.slot.and_then(|slot| next.roster.device_at(slot)).map(|(device, _)| device);
    let key_packages = invitees.iter().map(|invitee| PublicKey::from_bytes(hash(&invitee.key_package))).collect();
    let welcome = Welcome { thread, epoch, secret, tree: hash(tree), key_packages, chain, policy, author };
    format::wrap(Kind::Welcome, &PUBLIC, &welcome, format::welcome(invitees.len()))
}

/// A commit: what anybody can check, within what takes the epoch's secret.
fn commit_bytes(secret: &[u8; 32], body: &CommitBody, len: usize) -> Vec<u8> {
    format::tagged(secret, format::wrap(Kind::Commit, &PUBLIC, body, len.saturating_sub(secret.len())))
}

/// Who is in the next epoch: removals first, then additions from the left.
fn follow(
    roster: &mut Roster,
    epoch: u64,
    committer: u32,
    adds: &[(DeviceId, PublicKey)],
    removes: &[u32],
) -> Result<(), EngineError> {
    for slot in removes {
        roster.remove(*slot, epoch).ok_or(EngineError::Untrusted)?;
    }
    for (device, key) in adds {
        if roster.slot_of(*device).is_some() {
            return Err(EngineError::Untrusted);
        }
        roster.add(*device, *key, epoch);
    }
    roster.commits(committer, epoch);
    Ok(())
}

fn stage(
    cx: &mut Context<'_, '_>,
    thread: ThreadId,
    (invitees, removes, policy): (&[Invitee], &[u32], Option<&Policy>),
) -> Result<Commit, EngineError> {
    let (before, slot) = active(cx.rows, thread)?;
    if cx.rows.get(&pending_key(thread))?.is_some() {
        return Err(EngineError::Pending);
    }
    check_adds(&before.roster, invitees, cx.now.wall)?;
    let old = secrets(cx.rows, thread, before.epoch)?.secret;
    let secret = cx.chance.bytes();
    let epoch = before.epoch + 1;
    let adds: Vec<_> = invitees.iter().map(|invitee| (invitee.id, invitee.device_key)).collect();
    let mut next = State { epoch, ..before.clone() };
    next.policy = policy.cloned().or(next.policy);
    follow(&mut next.roster, epoch, slot, &adds, removes)?;
    let removes = removes.to_vec();
    let body = CommitBody {
        thread,
        epoch: before.epoch,
        slot,
        secret,
        adds,
        removes,
        rejoins: false,
        policy: policy.cloned(),
    };
    // The committer's own step has not filled anything yet when its path is sealed.
    let mut sealing = before.roster;
    follow(&mut sealing, epoch, slot, &body.adds, &body.removes)?;
    let len = format::commit(sealing.path(slot, epoch), body.adds.len(), body.removes.len()) + format::policy(policy);
    let commit = commit_bytes(&old, &body, len);
    let tree = tree(&next.roster);
    let hash = hash(&commit);
    next.chain = chained(&next.chain, &link(&commit, false)?);
    let welcome = (!invitees.is_empty()).then(|| welcome(thread, &next, secret, &tree, invitees));
    let info = public::info(thread, &next, &tree, &secret);
    write(cx.rows, pending_key(thread), &Pending { hash, state: next, secret });
    Ok(Commit { epoch: Epoch::new(epoch), commit, welcome, tree, info })
}

impl Engine for StandInEngine {
    fn key_package(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        last_resort: bool,
    ) -> Result<Vec<u8>, EngineError> {
        let from = cx.now.wall.as_secs();
        let package = KeyPackage {
            device: own.id,
            key: own.device.public(),
            from,
            until: from.saturating_add(limits::KEY_PACKAGE_AGE_MAX.as_secs()),
            last_resort,
            nonce: cx.chance.bytes(),
        };
        let bytes = format::wrap(Kind::KeyPackage, &PUBLIC, &package, format::KEY_PACKAGE);
        write(cx.rows, package_key(&bytes), &last_resort);
        Ok(bytes)
    }

    fn check_key_package(&mut self, cx: &mut Context<'_, '_>, invitee: &Invitee) -> Result<(), EngineError> {
        check_package(invitee, cx.now.wall)
    }

    fn create(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        invitees: &[Invitee],
    ) -> Result<Created, EngineError> {
        if cx.rows.get(&state_key(thread))?.is_some() {
            return Err(EngineError::Untrusted);
        }
        let mut roster = Roster::default();
        roster.add(own.id, own.device.public(), 0);
        check_adds(&roster, invitees, cx.now.wall)?;
        let adds: Vec<_> = invitees.iter().map(|invitee| (invitee.id, invitee.device_key)).collect();
        follow(&mut roster, 1, 0, &adds, &[])?;
        let secret = cx.chance.bytes();
        let tree = tree(&roster);
        let chain = chained(&hash(thread.as_bytes()), &secret);
        let first = State { epoch: 1, roster, slot: Some(0), chain, policy: None };
        let welcome = if invitees.is_empty() { Vec::new() } else { welcome(thread, &first, secret, &tree, invitees) };
        write(cx.rows, state_key(thread), &first);
        write(cx.rows, secrets_key(thread, 1), &Secrets::new(secret));
        let info = public::info(thread, &first, &tree, &secret);
        Ok(Created { epoch: Epoch::new(1), welcome, tree, info })
    }

    fn join(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        welcome: &[u8],
        tree: &[u8],
    ) -> Result<Joined, EngineError> {
        let body: Welcome = format::peek(Kind::Welcome, welcome).map_err(refused)?;
        format::check(&PUBLIC, welcome).map_err(refused)?;
        let mut ours = None;
        for reference in &body.key_packages {
            let row = [&KEY_PACKAGES[..], reference.as_bytes()].concat();
            if let Some(last_resort) = read::<bool>(cx.rows, &row)? {
                ours = Some((row, last_resort));
                break;
            }
        }
        let (package, last_resort) = ours.ok_or(EngineError::NoKeyPackage)?;
        let roster: Roster = format::peek(Kind::Tree, tree).map_err(refused)?;
        format::check(&PUBLIC, tree).map_err(refused)?;
        if hash(tree) != body.tree {
            return Err(EngineError::BadSignature);
        }
        let known: Option<State> = read(cx.rows, &state_key(body.thread))?;
        if known.is_some_and(|state| state.slot.is_some()) {
            return Err(EngineError::Untrusted);
        }
        let slot = roster.slot_of(own.id).ok_or(EngineError::Untrusted)?;
        let members: Vec<_> = roster.members().collect();
        if roster.device_at(slot) != Some((own.id, own.device.public())) || members.len() > limits::THREAD_DEVICES_MAX {
            return Err(EngineError::Untrusted);
        }
        let inviter = body.author.filter(|author| roster.slot_of(*author).is_some()).ok_or(EngineError::Untrusted)?;
        // What was remembered of a branch that lost.
        let lost = cx.rows.scan(
            &secrets_key(body.thread, body.epoch),
            &secrets_key(body.thread, u64::MAX),
            Order::Ascending,
            limits::PAST_EPOCHS_MAX + 8,
        )?;
        lost.into_iter().for_each(|(key, _)| cx.rows.delete(key));
        if !last_resort {
            cx.rows.delete(package);
        }
        let state = State { epoch: body.epoch, roster, slot: Some(slot), chain: body.chain, policy: body.policy };
        write(cx.rows, state_key(body.thread), &state);
        write(cx.rows, secrets_key(body.thread, body.epoch), &Secrets::new(body.secret));
        Ok(Joined { thread: body.thread, epoch: Epoch::new(body.epoch), members, inviter })
    }

    fn seal(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        content: &[u8],
    ) -> Result<Sealed, EngineError> {
        let len = padding::message_len(content.len()).ok_or(EngineError::TooLarge("content"))?;
        let (state, _) = active(cx.rows, thread)?;
        let mut secrets = secrets(cx.rows, thread, state.epoch)?;
        let generation = secrets.sealed;
        secrets.sealed = generation.checked_add(1).ok_or(EngineError::TooLarge("messages of an epoch"))?;
        let message = Message { thread, epoch: state.epoch, author: own.id, generation, content: content.to_vec() };
        let body = format::wrap(Kind::Message, &secrets.secret, &message, len);
        write(cx.rows, secrets_key(thread, state.epoch), &secrets);
        Ok(Sealed { epoch: Epoch::new(state.epoch), body })
    }

    fn open(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        body: &[u8],
    ) -> Result<Opened, EngineError> {
        let message: Message = format::peek(Kind::Message, body).map_err(refused)?;
        if message.thread != thread {
            return Err(EngineError::Malformed);
        }
        let state = state(cx.rows, thread)?;
        let secrets: Option<Secrets> = read(cx.rows, &secrets_key(thread, message.epoch))?;
        let Some(mut secrets) = secrets else {
            let (ours, theirs) = (Epoch::new(state.epoch), Epoch::new(message.epoch));
            return Err(match state.slot {
                Some(_) => EngineError::WrongEpoch { ours, theirs },
                None => EngineError::NotMember,
            });
        };
        format::check(&secrets.secret, body).map_err(refused)?;
        if message.author == own.id {
            return Err(EngineError::AlreadyOpened);
        }
        secrets.consume(message.author, message.generation)?;
        write(cx.rows, secrets_key(thread, message.epoch), &secrets);
        Ok(Opened { epoch: Epoch::new(message.epoch), author: message.author, content: message.content })
    }

    /// The stand-in opens its own: nobody has to be told by a mark.
    fn mark(&self, _: &[u8]) -> Option<SealMark> {
        None
    }

    fn members(
        &mut self,
        cx: &mut Context<'_, '_>,
        thread: ThreadId,
    ) -> Result<Vec<(DeviceId, PublicKey)>, EngineError> {
        Ok(active(cx.rows, thread)?.0.roster.members().collect())
    }

    fn epoch(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Epoch, EngineError> {
        Ok(Epoch::new(state(cx.rows, thread)?.epoch))
    }

    fn authenticator(&self, rows: &dyn Reads, thread: ThreadId) -> Result<Authenticator, EngineError> {
        let state: State = read(rows, &state_key(thread))?.ok_or(EngineError::UnknownThread)?;
        state.slot.ok_or(EngineError::NotMember)?;
        Ok(state.chain)
    }

    fn signal_key(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<SignalKey, EngineError> {
        let state = active(cx.rows, thread)?.0;
        let key = Sha256::new().chain_update(signal::LABEL).chain_update(state.chain).finalize().into();
        Ok(SignalKey::new((thread, Epoch::new(state.epoch)), key, state.roster.members()))
    }

    fn policy(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId) -> Result<Option<Policy>, EngineError> {
        Ok(active(cx.rows, thread)?.0.policy)
    }

    fn change(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        change: Change<'_>,
    ) -> Result<Commit, EngineError> {
        let (state, _) = active(cx.rows, thread)?;
        if change.policy.is_some_and(|policy| policy.check().is_err()) {
            return Err(EngineError::Untrusted);
        }
        let devices: BTreeSet<_> = change.removes.iter().collect();
        if devices.contains(&own.id) {
            return Err(EngineError::Untrusted);
        }
        let slots: Result<Vec<_>, _> =
            devices.into_iter().map(|device| state.roster.slot_of(*device).ok_or(EngineError::NotMember)).collect();
        stage(cx, thread, (change.adds, &slots?, change.policy))
    }

    fn public(
        &mut self,
        cx: &mut Context<'_, '_>,
        _: &Own<'_>,
        thread: ThreadId,
    ) -> Result<Box<dyn PublicGroup>, EngineError> {
        let state = active(cx.rows, thread)?.0;
        let secret = secrets(cx.rows, thread, state.epoch)?.secret;
        let tree = tree(&state.roster);
        StandInPublic::new().found(thread, &tree, &public::info(thread, &state, &tree, &secret))
    }

    fn rejoin(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        group: &dyn PublicGroup,
        info: &[u8],
    ) -> Result<Commit, EngineError> {
        active(cx.rows, thread)?;
        if cx.rows.get(&pending_key(thread))?.is_some() {
            return Err(EngineError::Pending);
        }
        let (commit, pending) = public::rejoined(own, thread, (group, info), cx.chance.bytes())?;
        write(cx.rows, pending_key(thread), &pending);
        Ok(commit)
    }

    fn merge_own(&mut self, cx: &mut Context<'_, '_>, _: &Own<'_>, thread: ThreadId) -> Result<Epoch, EngineError> {
        state(cx.rows, thread)?;
        let pending: Pending = read(cx.rows, &pending_key(thread))?.ok_or(EngineError::NotPending)?;
        let now = cx.now.wall;
        atomically(cx, |rows| enter(rows, thread, &pending.state, pending.secret, now))?;
        Ok(Epoch::new(pending.state.epoch))
    }

    fn discard_own(&mut self, cx: &mut Context<'_, '_>, _: &Own<'_>, thread: ThreadId) -> Result<(), EngineError> {
        state(cx.rows, thread)?;
        cx.rows.delete(pending_key(thread));
        Ok(())
    }

    fn apply(
        &mut self,
        cx: &mut Context<'_, '_>,
        own: &Own<'_>,
        thread: ThreadId,
        commit: &[u8],
    ) -> Result<Applied, EngineError> {
        let body: CommitBody = format::peek(Kind::Commit, commit).map_err(refused)?;
        if body.thread != thread {
            return Err(EngineError::Malformed);
        }
        let (before, slot) = active(cx.rows, thread)?;
        if body.epoch != before.epoch {
            let (ours, theirs) = (Epoch::new(before.epoch), Epoch::new(body.epoch));
            return Err(EngineError::WrongEpoch { ours, theirs });
        }
        let pending: Option<Pending> = read(cx.rows, &pending_key(thread))?;
        if pending.as_ref().is_some_and(|pending| pending.hash == hash(commit)) {
            return Err(EngineError::OwnCommit);
        }
        let secret = secrets(cx.rows, thread, before.epoch)?.secret;
        format::check(&if body.rejoins { outside(&secret) } else { secret }, commit).map_err(refused)?;
        format::check(&PUBLIC, format::signed(commit).map_err(refused)?).map_err(refused)?;
        let committer = before.roster.device_at(body.slot).map(|(device, _)| device);
        let whole = body.rejoins == body.removes.contains(&body.slot) && body.is_whole();
        let committer = committer.filter(|_| whole && body.slot != slot);
        let committer = committer.ok_or(EngineError::Untrusted)?;
        let won = chained(&before.chain, &link(commit, body.rejoins)?);
        let chain = pending.filter(|_| planted::active(Bug::FollowLoser)).map_or(won, |lost| lost.state.chain);
        let mut next = State { epoch: before.epoch + 1, chain, ..before };
        next.policy = body.policy.clone().or(next.policy);
        body.follow(&mut next.roster)?;
        next.slot = if body.removes.contains(&slot) { None } else { next.roster.slot_of(own.id) };
        let now = cx.now.wall;
        atomically(cx, |rows| enter(rows, thread, &next, body.secret, now))?;
        Ok(Applied { epoch: Epoch::new(next.epoch), committer, sets: body.policy })
    }

    fn prune(&mut self, cx: &mut Context<'_, '_>, thread: ThreadId, before: Wall) -> Result<usize, EngineError> {
        atomically(cx, |rows| forget(rows, thread, before))
    }
}
