//! Group: a thread of more people than its opening can bring. It is founded with as many as one commit adds; more
//! commits add the others, as a node's do.
//! Owns: the founding, the commits, the place of the log where the group is whole.
//! Never: seals anything: a relay checks what it has to know of a commit, and the rest is bytes of the true size.

use anyhow::bail;
use whimbrel_crypto::{Chance, Seed};
use whimbrel_protocol::hub::{Commit, FIRST_TERM, Newcomers, SubmitCommit};
use whimbrel_protocol::id::{Epoch, ThreadId};
use whimbrel_protocol::thread::Founding;
use whimbrel_protocol::{Frame, limits};

use super::{Line, Person, TREE_BYTES, WELCOME_BYTES, Way, participants, put};

/// What a commit has for each it adds: their KeyPackage, of the hybrid suite.
const KEY_PACKAGE_BYTES: usize = 3_400;

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
    put(way, (creator, line), first, (thread, Some(Box::new(founding))), &mut chance).await?;

    let (mut epoch, mut members) = (Epoch::new(1), 1 + first.len());
    for added in rest.chunks(limits::COMMIT_ADDS_MAX) {
        members += added.len();
        let mut body = |bytes: usize| {
            let mut body = vec![0; bytes];
            chance.fill(&mut body);
            body
        };
        let commit = Commit {
            thread,
            term: FIRST_TERM,
            epoch,
            bytes: body(KEY_PACKAGE_BYTES * added.len()),
            added: participants(way, added),
            removed: Vec::new(),
        };
        let newcomers = Newcomers { welcome: body(WELCOME_BYTES * added.len()), tree: body(TREE_BYTES * members) };
        let request = line.request();
        match line.ask(SubmitCommit { request, commit, newcomers: Some(newcomers) }).await? {
            Frame::CommitTaken(_) => epoch = Epoch::new(epoch.get() + 1),
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
