//! Rooms: what a node holds in memory, service by service, and the turn that carries one input through them.
//! Owns: the wiring. Never: a rule.

use tracing::debug;
use whimbrel_crypto::{Chance, Engine, EngineError};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{AccountId, BlobId, LinkId, RequestId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Now;
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use crate::api::{CommandError, Config, Event, Output, Reply, Ticket};
use crate::audit::Audit;
use crate::direct::Direct;
use crate::friendship::{Friendship, WordId};
use crate::hold::Hold;
use crate::identity::{Identity, LoadError};
use crate::outbox::{Lane, Outbox};
use crate::presence::Presence;
use crate::push::Push;
use crate::reception::Reception;
use crate::requests::{Purpose, Requests};
use crate::rows::{
    self, AuditRow, ContactRow, InvitationRow, ResendRow, SettingsRow, Space, ThreadRow, ThreadState, TreeRow,
};
use crate::signal::Signals;
use crate::thread::Threads;
use crate::timers::{Timer, Timers};
use crate::user::User;

/// Everything a node remembers besides its store; made anew from it.
pub(crate) struct Rooms {
    pub(crate) identity: Identity,
    pub(crate) reception: Reception,
    pub(crate) threads: Threads,
    pub(crate) push: Push,
    pub(crate) hold: Hold,
    pub(crate) outbox: Outbox,
    pub(crate) direct: Direct,
    pub(crate) user: User,
    pub(crate) friendship: Friendship,
    pub(crate) presence: Presence,
    pub(crate) requests: Requests,
    pub(crate) timers: Timers,
    pub(crate) audit: Audit,
    pub(crate) signals: Signals,
}

impl Rooms {
    pub(crate) fn open(now: Now, reads: &dyn Reads) -> Result<Self, LoadError> {
        let mut rooms = Self {
            identity: Identity::load(reads)?,
            reception: Reception::new(),
            threads: Threads::default(),
            push: Push::default(),
            hold: Hold::default(),
            outbox: Outbox::default(),
            direct: Direct::default(),
            user: User::default(),
            friendship: Friendship::default(),
            presence: Presence::default(),
            requests: Requests::default(),
            timers: Timers::default(),
            audit: Audit::default(),
            signals: Signals::default(),
        };
        rows::each(reads, &rows::space(Space::Thread), |(key, value)| {
            let Some(id) = rows::id_in_key(&key) else { return Ok(()) };
            let row: ThreadRow = rows::decode(&key, &value)?;
            rooms.remember(ThreadId::from_bytes(id), &row);
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Invitation), |(key, value)| {
            let Some(welcome) = rows::id_in_key(&key).map(BlobId::from_bytes) else { return Ok(()) };
            let row: InvitationRow = rows::decode(&key, &value)?;
            rooms.threads.invitations.insert(welcome, 0);
            rooms.threads.kept += usize::from(row.kept);
            rooms.threads.unfetched.extend(row.unfetched.map(|place| (place, welcome)));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Word), |(key, _)| {
            rooms.friendship.waiting.extend(rows::id_in_key(&key).map(|hash| (WordId::from_bytes(hash), 0)));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Settings), |(key, value)| {
            if !rows::decode::<SettingsRow>(&key, &value)?.kept {
                rooms.threads.unkept.extend(rows::id_in_key(&key).map(ThreadId::from_bytes));
            }
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Change), |(key, _)| {
            rooms.threads.changing.extend(rows::id_in_key(&key).map(ThreadId::from_bytes));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Ask), |(key, _)| {
            rooms.threads.asks.extend(rows::asked_by(&key).map(|ask| (ask, now.monotonic)));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Wish), |(key, _)| {
            rooms.threads.wishes.extend(rows::id_in_key(&key).map(ThreadId::from_bytes));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Herald), |(key, _)| {
            rooms.user.heralds.extend(rows::id_in_key(&key).map(|id| (AccountId::from_bytes(id), 0)));
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Owed), |(key, _)| {
            rooms.threads.owing.extend(rows::id_in_key(&key).map(ThreadId::from_bytes));
            Ok(())
        })?;
        rows::each(reads, &rows::resend_prefix(), |(key, value)| {
            let Some(thread) = rows::thread_of_resend(&key) else { return Ok(()) };
            let row: ResendRow = rows::decode(&key, &value)?;
            let planned = row.planned(reads, &thread)?;
            let left = planned.saturating_sub(row.elapsed(now.wall, planned));
            rooms.timers.set(Timer::Resend(thread), now.monotonic.plus(left));
            Ok(())
        })?;
        rows::each(reads, &rows::gap_prefix(None), |(key, _)| {
            if let Some((thread, _)) = rows::gap_device(&key) {
                rooms.timers.set(Timer::Repair(thread), now.monotonic.plus(limits::REPAIR_AFTER));
            }
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Fact), |(key, _)| {
            match rows::is_passing(&key) {
                true => rooms.user.passing += 1,
                false => rooms.user.facts += 1,
            }
            Ok(())
        })?;
        rooms.reception.outdated = reads.get(&rows::single_key(rows::Single::Outdated))?.is_some();
        rooms.resume_auditing(now, reads)?;
        rooms.timers.set(Timer::Vanish, now.monotonic);
        rooms.resume_sending(reads)?;
        rooms.resume_unparking(now, reads)?;
        rooms.timers.set(Timer::Connect, now.monotonic);
        Ok(rooms)
    }

    /// Threads that were joined, with parked entries a crash left unopened.
    fn resume_unparking(&mut self, now: Now, reads: &dyn Reads) -> Result<(), StorageError> {
        let space = rows::space(Space::Parked);
        let (mut from, end) = (space.clone(), rows::after(&space));
        while let Some((key, _)) = reads.scan(&from, &end, Order::Ascending, 1)?.pop() {
            let thread = rows::id_in_key(&key).map(ThreadId::from_bytes).ok_or_else(|| rows::damaged(&key, "key"))?;
            from = rows::after(&rows::parked_prefix(&thread));
            if reads.get(&rows::thread_key(&thread))?.is_some() {
                self.threads.unparking.insert(thread);
                self.timers.set(Timer::Unpark(thread), now.monotonic);
            }
        }
        Ok(())
    }

    /// People whose log has not been seen in their relay's tree, and heads that wait to be held against it.
    fn resume_auditing(&mut self, now: Now, reads: &dyn Reads) -> Result<(), StorageError> {
        rows::each(reads, &rows::space(Space::Tree), |(key, value)| {
            let row: TreeRow = rows::decode(&key, &value)?;
            self.audit.kept += 1;
            if let Some(domain) = rows::tree_domain(&key).filter(|_| !row.told.is_empty()) {
                self.audit.want(&domain, None, now.monotonic);
            }
            Ok(())
        })?;
        rows::each(reads, &rows::space(Space::Contact), |(key, value)| {
            let contact: ContactRow = rows::decode(&key, &value)?;
            let Some(account) = rows::id_in_key(&key).map(AccountId::from_bytes) else { return Ok(()) };
            let row: Option<AuditRow> = rows::get(reads, &rows::audit_key(&account))?;
            if contact.contact && row.is_none_or(|row| row.found.is_none()) {
                self.audit.want(&contact.address.domain, Some(account), now.monotonic);
            }
            Ok(())
        })
    }

    fn remember(&mut self, thread: ThreadId, row: &ThreadRow) {
        self.threads.known = self.threads.known.saturating_add(1);
        self.outbox.queued = self.outbox.queued.saturating_add(row.queued);
        match row.state {
            ThreadState::Opening => drop(self.threads.openings.insert(thread, Vec::new())),
            ThreadState::Open if !row.tagged => drop(self.threads.untagged.insert(thread)),
            _ => {}
        }
    }

    /// Threads with something in the outbox; what is no message is not counted in their rows.
    fn resume_sending(&mut self, reads: &dyn Reads) -> Result<(), StorageError> {
        let space = rows::space(Space::Outbox);
        let (mut from, end) = (space.clone(), rows::after(&space));
        while let Some((key, _)) = reads.scan(&from, &end, Order::Ascending, 1)?.pop() {
            let thread = rows::id_in_key(&key).map(ThreadId::from_bytes).ok_or_else(|| rows::damaged(&key, "key"))?;
            from = rows::outbox_key(&thread, u64::MAX);
            from.push(0);
            self.outbox.lanes.insert(thread, Lane::default());
        }
        Ok(())
    }
}

/// Why a command, or a piece of work, came to nothing.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The owner is told; the node goes on.
    Command(CommandError),
    /// The store cannot be read; the node is at its end.
    Broken(StorageError),
}

impl From<StorageError> for Halt {
    fn from(error: StorageError) -> Self {
        Self::Broken(error)
    }
}

impl From<CommandError> for Halt {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Rows(error) => Self::Broken(error),
            other => Self::Command(CommandError::State(other.to_string())),
        }
    }
}

/// One input on its way through the rooms.
pub(crate) struct Turn<'t, E> {
    pub(crate) now: Now,
    /// The store with this turn's changes on top.
    pub(crate) rows: Overlay<'t>,
    pub(crate) engine: &'t mut E,
    pub(crate) config: &'t Config,
    pub(crate) chance: &'t mut Chance,
    pub(crate) rooms: &'t mut Rooms,
    pub(crate) out: Vec<Output>,
}

impl<E: Engine> Turn<'_, E> {
    /// Tells the owner that everything is here, once what was taken in has been followed up: an invitation's thread counts
    /// as here when it can be used, not when the invitation is; a word about friendship, when it is proved.
    pub(crate) fn tell_caught_up(&mut self) {
        let threads = &self.rooms.threads;
        let settled = threads.joining.is_empty() && threads.unparking.is_empty();
        let served = self.rooms.reception.admitted().is_some();
        if self.rooms.push.caught_up && served && settled && self.rooms.friendship.asked.is_empty() {
            self.rooms.push.caught_up = false;
            self.event(Event::CaughtUp);
        } else if self.rooms.push.caught_up {
            let (joining, unparking) = (threads.joining.len(), threads.unparking.len());
            debug!(joining, unparking, words = self.rooms.friendship.asked.len(), "not caught up yet");
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    pub(crate) fn send(&mut self, link: LinkId, frame: impl Into<Frame>) {
        self.out.push(Output::Send { link, frame: frame.into() });
    }

    pub(crate) fn close(&mut self, link: LinkId) {
        self.out.push(Output::Close { link });
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, result: Result<Reply, CommandError>) {
        self.out.push(Output::Answer { ticket, result });
    }

    /// Answers whoever waits, if anybody does.
    pub(crate) fn answer_any(&mut self, ticket: Option<Ticket>, result: Result<Reply, CommandError>) {
        if let Some(ticket) = ticket {
            self.answer(ticket, result);
        }
    }

    /// Asks the relay on a link; the answer, or its absence, comes back with the purpose.
    pub(crate) fn ask_on<F: Into<Frame>>(
        &mut self,
        link: LinkId,
        purpose: Purpose,
        frame: impl FnOnce(&mut Self, RequestId) -> F,
    ) {
        // What the relay passes on to another takes it that long in its turn.
        let patience = limits::ANSWER_TIME_MAX * if purpose.is_passed_on() { 2 } else { 1 };
        let request = self.rooms.requests.begin(purpose);
        self.rooms.timers.set(Timer::Answer(request), self.now.monotonic.plus(patience));
        let frame = frame(self, request);
        self.send(link, frame);
    }

    /// Asks the relay if it serves us; says whether it was asked.
    pub(crate) fn ask<F: Into<Frame>>(&mut self, purpose: Purpose, frame: impl FnOnce(RequestId) -> F) -> bool {
        let Some(link) = self.rooms.reception.admitted() else {
            debug!("not asked: the relay is out of reach");
            return false;
        };
        self.ask_on(link, purpose, |_, request| frame(request));
        true
    }
}
