//! Thread service: envelopes into logs, openings, and the owner's rows.
//! Owns: how requests about threads become commands and queries of the store.
//! Never: delivers (`push`), forwards (`federation`), opens a seal.
//! Limits: `limits::COMMIT_ADDS_MAX`, [`OPENING_BYTES_MAX`]. Rules: docs/protocol/thread.md.

use std::sync::Arc;

use whimbrel_protocol::id::{BlobId, DeviceId, Domain, ParticipantsTag, ThreadId};
use whimbrel_protocol::thread::{Envelope, Founding, ListThreads, Opening, SetThread};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{RefusalCode, limits};

use crate::refusal::Refusal;
use crate::store::command::{self, Append, Appended, Here, LogBounds, OpenThread, Opened, Origin, TouchThreads};
use crate::store::{Command, Listing, LogId, MailboxId, Outcome, Store};

/// Welcome and tree together: forwarded in one frame, with what names the participants and the frame's own words.
const OPENING_BYTES_MAX: usize = limits::LARGE_FRAME_BYTES_MAX - 128 * 1024;

/// What came of an opening.
pub(crate) enum Opens {
    Opened(Opened),
    Exists(ThreadId),
}

/// The threads of one domain's users.
#[derive(Debug)]
pub(crate) struct Thread {
    domain: Domain,
    bounds: LogBounds,
}

impl Thread {
    pub(crate) const fn new(domain: Domain, bounds: LogBounds) -> Self {
        Self { domain, bounds }
    }

    /// The command that takes an envelope into its thread.
    pub(crate) fn append_command(
        &self,
        at: Wall,
        author: DeviceId,
        origin: Origin,
        envelope: &Arc<Envelope>,
    ) -> Command {
        let (id, envelope) = (envelope.id(), Arc::clone(envelope));
        Command::Append(Append { envelope, id, author, origin, local: self.domain.clone(), at, bounds: self.bounds })
    }

    /// Takes an own user's envelope into its thread: durable when it returns. The first await is the store's commit,
    /// so that first polls in the order of arrival give appends in that order.
    pub(crate) async fn append(
        &self,
        store: &impl Store,
        at: Wall,
        author: DeviceId,
        envelope: &Arc<Envelope>,
    ) -> Result<Appended, Refusal> {
        match store.commit(self.append_command(at, author, Origin::Local, envelope)).await? {
            Outcome::Appended(appended) => Ok(appended),
            _ => Err(Refusal::INTERNAL),
        }
    }

    /// The command that opens a thread.
    ///
    /// # Errors
    /// More devices than one commit adds, or more bytes than one frame forwards; or `found`, which gives the public state of
    /// an opening that is well so far.
    pub(crate) fn open_command(
        &self,
        at: Wall,
        creator: DeviceId,
        (origin, tag): (Origin, Option<ParticipantsTag>),
        (opening, found): (Opening, impl FnOnce(&Opening) -> Result<Option<Vec<u8>>, Refusal>),
        log: LogId,
    ) -> Result<Command, Refusal> {
        let founded = |founding: &Founding| founding.thread() == opening.thread && founding.creator == creator.account;
        if !opening.founding.as_deref().is_none_or(founded) {
            return Err(Refusal::last(RefusalCode::Malformed));
        }
        let devices = opening.devices().count();
        let bytes = opening.welcome.len().saturating_add(opening.tree.len());
        if devices > limits::COMMIT_ADDS_MAX + 1 || bytes > OPENING_BYTES_MAX {
            return Err(Refusal::last(RefusalCode::TooLarge));
        }
        // Only now: it is the one check that costs.
        let public = found(&opening)?;
        let here = Here { local: self.domain.clone(), log, at, bounds: self.bounds };
        Ok(Command::OpenThread(Box::new(OpenThread::new(opening, creator, origin, tag, here, public))))
    }

    pub(crate) async fn open(&self, store: &impl Store, command: Command) -> Result<Opens, Refusal> {
        match store.commit(command).await? {
            Outcome::Opened(opened) => Ok(Opens::Opened(opened)),
            Outcome::Exists(thread) => Ok(Opens::Exists(thread)),
            _ => Err(Refusal::INTERNAL),
        }
    }

    pub(crate) async fn tag(
        &self,
        store: &impl Store,
        device: DeviceId,
        thread: ThreadId,
        tag: ParticipantsTag,
    ) -> Result<(), Refusal> {
        store.commit(Command::TagThread(command::TagThread { owner: device.account, thread, tag })).await?;
        Ok(())
    }

    pub(crate) async fn set(&self, store: &impl Store, device: DeviceId, words: SetThread) -> Result<(), Refusal> {
        let SetThread { thread, settings, .. } = words;
        let owner = device.account;
        store.commit(Command::SetThread(command::people::SetThread { owner, thread, settings })).await?;
        Ok(())
    }

    pub(crate) async fn touch(
        &self,
        store: &impl Store,
        at: Wall,
        device: DeviceId,
        threads: Vec<ThreadId>,
    ) -> Result<(), Refusal> {
        store.commit(Command::TouchThreads(TouchThreads { owner: device.account, threads, at })).await?;
        Ok(())
    }

    pub(crate) async fn list(
        &self,
        store: &impl Store,
        device: DeviceId,
        mailbox: MailboxId,
        words: &ListThreads,
    ) -> Result<Listing, Refusal> {
        let limit = usize::from(words.limit).clamp(1, limits::THREAD_PAGE_MAX);
        Ok(store.thread_rows(device.account, mailbox, words.after, limit).await?)
    }

    /// A large body, for an account with an invitation in its inbox that names it. To everybody else it looks as if it
    /// were not there, on the same way: its id is a hash, and whoever may guess or know the bytes learns nothing by asking.
    pub(crate) async fn blob(&self, store: &impl Store, device: DeviceId, blob: BlobId) -> Result<Vec<u8>, Refusal> {
        if !store.names(device.account, blob).await? {
            return Err(Refusal::last(RefusalCode::NotFound));
        }
        // Absent by now: its invitation was acknowledged between the two reads.
        store.blob(blob).await?.ok_or(Refusal::last(RefusalCode::NotFound))
    }
}
