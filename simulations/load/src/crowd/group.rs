//! Group: a thread of more people than its opening can bring. It is founded with as many as one commit adds; more
//! commits add the others, as a node's do.
//! Owns: the founding, the commits, the place of the log where the group is whole.
//! Never: says anything in it; and nobody but the founder has a group of their own, for nobody reads what is said.

use anyhow::bail;
use whimbrel_crypto::{Chance, Context, Engine, EngineError, Invitee, MlsEngine, Own, Seed};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, Newcomers, SubmitCommit};
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_protocol::thread::{Founding, Opening};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::{Frame, limits};
use whimbrel_storage::{MemoryKv, OrderedKv, Overlay};

use super::{Line, Person, Way, participants, put};
use crate::clock;

/// A group that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) thread: ThreadId,
    /// In which its messages are written.
    pub(crate) epoch: Epoch,
    /// Places of its log that are taken before the first message: one for each commit.
    pub(crate) before: u64,
}

/// The first founds a group with the others, in as many commits as it takes.
pub(crate) async fn found(
    way: &Way,
    (creator, line): (&Person, &mut Line),
    others: &[&Person],
) -> anyhow::Result<Group> {
    let mut chance = Chance::from_seed(Seed::from_bytes(*creator.account().as_bytes()));
    let founding = Founding { creator: creator.account(), hub: way.to.relay, nonce: chance.bytes(), fixed: false };
    let thread = founding.thread();
    let (first, rest) = others.split_at(others.len().min(limits::COMMIT_ADDS_MAX));
    let mut device = Device::new(creator)?;
    let invitees = invitees(first)?;
    let created = device.call(|engine, cx, own| engine.create(cx, own, thread, &invitees))?;
    let opening = Opening {
        thread,
        epoch: created.epoch,
        participants: participants(way, &[&[creator], first].concat()),
        welcome: created.welcome,
        tree: created.tree,
        founding: Some(Box::new(founding)),
    };
    put(line, opening, Some(created.info), &mut chance).await?;

    let mut epoch = created.epoch;
    for added in rest.chunks(limits::COMMIT_ADDS_MAX) {
        let invitees = self::invitees(added)?;
        let made = device.call(|engine, cx, own| engine.add(cx, own, thread, &invitees))?;
        let (term, bytes, added, removed) = (FIRST_TERM, made.commit, participants(way, added), Vec::new());
        let commit = Commit { thread, term, epoch, bytes, added, removed, info: made.info, warrant: None };
        let newcomers = Newcomers { welcome: made.welcome.unwrap_or_default(), tree: made.tree };
        let request = line.request();
        match line.ask(SubmitCommit { request, commit: Box::new(commit), newcomers: Some(newcomers) }).await? {
            Frame::CommitTaken(_) => epoch = device.call(|engine, cx, own| engine.merge_own(cx, own, thread))?,
            other => bail!("a commit was answered with {other:?}"),
        }
    }
    // Each is an entry of the log, and the author is handed it like everybody.
    let commits = rest.chunks(limits::COMMIT_ADDS_MAX).len() as u64;
    while line.got.commits < commits {
        if let Frame::Push(push) = line.next().await? {
            line.take(&push);
        }
    }
    line.acknowledge(true)?;
    Ok(Group { thread, epoch, before: commits })
}

/// What a device needs to be in groups.
struct Device<'p> {
    person: &'p Person,
    rows: MemoryKv,
    engine: MlsEngine,
    chance: Chance,
}

impl<'p> Device<'p> {
    fn new(person: &'p Person) -> anyhow::Result<Self> {
        let chance = Chance::from_seed(Seed::from_bytes(*person.account().as_bytes())).fork("group");
        Ok(Self { person, rows: MemoryKv::in_memory()?, engine: MlsEngine::new(), chance })
    }

    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut MlsEngine, &mut Context<'_, '_>, &Own<'_>) -> Result<T, EngineError>,
    ) -> anyhow::Result<T> {
        let mut rows = Overlay::new(&self.rows);
        let now = Now { wall: clock::wall(), ..Now::default() };
        let mut cx = Context { rows: &mut rows, chance: &mut self.chance, now };
        let own = Own { id: self.person.device, device: &self.person.device_key };
        let value = work(&mut self.engine, &mut cx, &own)?;
        let changes = rows.into_batch();
        self.rows.apply(&changes)?;
        Ok(value)
    }
}

/// A KeyPackage of each.
fn invitees(people: &[&Person]) -> anyhow::Result<Vec<Invitee>> {
    let invitee = |person: &&Person| {
        let key_package = Device::new(person)?.call(|engine, cx, own| engine.key_package(cx, own, false))?;
        Ok(Invitee { id: person.device, device_key: person.device_key.public(), key_package })
    };
    people.iter().map(invitee).collect()
}
