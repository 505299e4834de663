//! Push service: entries to connected devices, each log in order, none left out.
//! Owns: who is connected and subscribed to what (the table, a channel for each log), and the one way an entry takes
//! to a link: a subscription's position moves up the log.
//! Never: decides who may read a log (the store's cursors do), writes anything, waits for a peer.
//! Limits: `limits::PUSH_ENTRIES_MAX`, `limits::PUSH_BYTES_MAX`. Rules: docs/protocol/push.md.
//!
//! Live push, resume, gap and poll are one function, [`Push::advance`]. A fresh entry may go from memory, once for
//! all links of the channel, and only to those whose position is the one before it ([`Push::fan_out`]); everybody
//! else reads the log. A hint that is lost costs delay until the next hint or heartbeat, never an entry.

mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{Epoch, LinkId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, LogRef};

use self::table::{Table, Took};
use crate::admission::Admission;
use crate::ports::Links;
use crate::store::{DeviceLog, LogId, MailboxId, Store, StoreError};

/// The subscriptions of all links.
#[derive(Debug, Default)]
pub(crate) struct Push {
    table: Mutex<Table>,
}

/// A reading of a log under way: ended before all was read, by an error or dropped where it stood, the subscription is behind until its next hint or heartbeat.
struct Unread<'a> {
    push: &'a Push,
    link: LinkId,
    log: LogId,
    over: bool,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.push.table().failed(self.link, self.log);
        }
    }
}

impl Push {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device is there: openings reach it from now on. Its logs follow by [`Push::subscribe`].
    pub(crate) fn attach(&self, link: LinkId, admission: &Admission) {
        self.table().attach(link, admission.device, admission.mailbox);
    }

    /// A bug on purpose: nobody knows any more on which link a device is.
    pub(crate) fn mislay(&self, mailbox: MailboxId) {
        self.table().mislay(mailbox);
    }

    /// The link is gone, and all it was subscribed to; gives what that was.
    pub(crate) fn detach(&self, link: LinkId) -> Vec<LogId> {
        self.table().detach(link)
    }

    /// Entries queued on links since the start.
    pub(crate) fn pushed_entries(&self) -> u64 {
        self.table().pushed_entries()
    }

    /// The link of a device, by mailbox.
    pub(crate) fn link_of(&self, mailbox: MailboxId) -> Option<LinkId> {
        self.table().link_of(mailbox)
    }

    /// Subscribes a link to a log from the device's cursor on; then, and only then, read the log
    /// ([`Push::advance`]). What is subscribed already stays as it is.
    pub(crate) fn subscribe(&self, link: LinkId, log: &DeviceLog) {
        self.table().subscribe(link, log);
    }

    /// A device reads a log up to here and no further, and nothing of a later epoch.
    pub(crate) fn end(&self, link: LinkId, log: LogId, end: (Epoch, Sequence)) {
        self.table().end(link, log, end);
    }

    /// A device reads a log from its cursor on, or goes on reading it with another leaf; then read the log.
    pub(crate) fn renew(&self, link: LinkId, log: &DeviceLog) {
        self.table().renew(link, log);
    }

    /// Every log that waited is subscribed to: once they are pushed, the link is told so.
    pub(crate) fn listed(&self, links: &impl Links, link: LinkId) {
        self.table().listed(links, link);
    }

    /// Hands a fresh entry to a log's channel. Gives the links that must read the log instead.
    #[must_use]
    pub(crate) fn fan_out(&self, links: &impl Links, log: LogId, sequence: Sequence, body: &EntryBody) -> Vec<LinkId> {
        self.table().fan_out(links, log, sequence, body)
    }

    /// Hands a frame that nobody keeps to the links that read a log in this epoch, but for one: now or never.
    pub(crate) fn whisper(
        &self,
        links: &impl Links,
        to: (LogId, Epoch),
        frame: &Arc<Frame>,
        but: Option<LinkId>,
    ) -> usize {
        self.table().whisper(links, to, frame, but)
    }

    /// The links subscribed to a log.
    pub(crate) fn channel(&self, log: LogId) -> Vec<LinkId> {
        self.table().channel(log)
    }

    /// Moves a link's position in a log up to its head, as far as its queue has room.
    ///
    /// # Errors
    /// The log cannot be read; the subscription is behind until the next hint or heartbeat.
    pub(crate) async fn advance(
        &self,
        store: &impl Store,
        links: &impl Links,
        link: LinkId,
        log: LogId,
    ) -> Result<(), StoreError> {
        let Some(mut position) = self.table().begin(link, log) else { return Ok(()) };
        // Until all is read: nothing that ends this may leave the subscription to be read by nobody.
        let mut unread = Unread { push: self, link, log, over: false };
        loop {
            let page = store.log_page(log, position, limits::PUSH_ENTRIES_MAX, limits::PUSH_BYTES_MAX).await?;
            match self.table().take(links, link, log, page) {
                Took::More(place) => position = place,
                Took::All => {
                    unread.over = true;
                    return Ok(());
                }
            }
        }
    }

    /// The link's queue has room again: gives the logs that wait for it.
    pub(crate) fn drained(&self, links: &impl Links, link: LinkId) -> Vec<LogId> {
        self.table().drained(links, link)
    }

    /// The logs of a link that are behind.
    pub(crate) fn behind(&self, link: LinkId) -> Vec<LogId> {
        self.table().behind(link)
    }

    /// How far a log was pushed to this very link: beyond it no acknowledgement counts.
    pub(crate) fn pushed(&self, link: LinkId, which: LogRef) -> Option<(LogId, Sequence)> {
        self.table().pushed(link, which)
    }
}
