//! The table of subscriptions: a state machine without waiting.
//! Owns: positions, who is reading, whose queue is full, who is to be told that it caught up.
//! Never: reads a log. Rules: docs/protocol/channel.md.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{DeviceId, Epoch, LinkId, Sequence};
use whimbrel_protocol::push::{self, CaughtUp, Entry, EntryBody, Gone, LogRef};
use whimbrel_storage::planted::{self, Bug};

use crate::ports::{Links, SendError};
use crate::store::{DeviceLog, Epochs, LogId, LogPage, MailboxId};

/// One link's subscription to one log.
#[derive(Debug)]
struct Subscription {
    which: LogRef,
    epochs: Epochs,
    /// Nothing beyond is for this device.
    end: Option<Sequence>,
    /// Everything for this device up to here has been queued on the link.
    position: Sequence,
    /// What the device has, where that is before the position: the next run joins on there, for nothing between is for it.
    joins: Option<Sequence>,
    /// Where the log stood when the device came in; reached: nothing of what waited is left.
    waited: Sequence,
    reading: Reading,
    /// There may be more in the log than was queued.
    behind: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    No,
    /// Somebody reads the log for this subscription.
    Yes,
    /// And something was added after they may have looked.
    Again,
}

#[derive(Debug)]
struct Link {
    device: DeviceId,
    mailbox: MailboxId,
    logs: BTreeMap<LogRef, LogId>,
    /// The queue was full; until it has room nothing is read for this link.
    stalled: bool,
    resume: Resume,
}

/// How far a device that came in is with what waited for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resume {
    /// Its logs are being listed; so many of them wait.
    Listing(usize),
    /// All are listed; so many wait.
    Reading(usize),
    /// It was told that it caught up.
    Told,
}

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Took {
    /// Read on from here.
    More(Sequence),
    /// There is no more, or no room for more.
    All,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    channels: BTreeMap<LogId, BTreeMap<LinkId, Subscription>>,
    links: BTreeMap<LinkId, Link>,
    mailboxes: BTreeMap<MailboxId, LinkId>,
    /// Entries queued on links since the start.
    pushed: u64,
}

impl Table {
    pub(super) fn attach(&mut self, link: LinkId, device: DeviceId, mailbox: MailboxId) {
        let fresh = Link { device, mailbox, logs: BTreeMap::new(), stalled: false, resume: Resume::Listing(0) };
        self.links.insert(link, fresh);
        self.mailboxes.insert(mailbox, link);
    }

    pub(super) fn mislay(&mut self, mailbox: MailboxId) {
        self.mailboxes.remove(&mailbox);
    }

    pub(super) fn detach(&mut self, link: LinkId) -> Vec<LogId> {
        if planted::active(Bug::LeaveLingers) {
            return Vec::new();
        }
        let Some(gone) = self.links.remove(&link) else { return Vec::new() };
        if self.mailboxes.get(&gone.mailbox) == Some(&link) {
            self.mailboxes.remove(&gone.mailbox);
        }
        for log in gone.logs.values() {
            if let Some(channel) = self.channels.get_mut(log) {
                channel.remove(&link);
                if channel.is_empty() {
                    self.channels.remove(log);
                }
            }
        }
        gone.logs.into_values().collect()
    }

    pub(super) const fn pushed_entries(&self) -> u64 {
        self.pushed
    }

    pub(super) fn link_of(&self, mailbox: MailboxId) -> Option<LinkId> {
        self.mailboxes.get(&mailbox).copied()
    }

    pub(super) fn subscribe(&mut self, id: LinkId, log: &DeviceLog) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if log.end.is_some_and(|end| log.cursor >= end) || link.logs.insert(log.which, log.log).is_some() {
            return;
        }
        let waits = log.cursor.max(log.start) < log.head;
        if let (Resume::Listing(count), true) = (&mut link.resume, waits) {
            *count += 1;
        }
        let subscription = Subscription {
            which: log.which,
            epochs: log.epochs,
            end: log.end,
            position: log.cursor.max(log.start),
            joins: (log.cursor < log.start).then_some(log.cursor),
            // Only what is listed while the device comes in was waiting for it.
            waited: if matches!(link.resume, Resume::Listing(_)) { log.head } else { log.cursor },
            reading: Reading::No,
            behind: true,
        };
        self.channels.entry(log.log).or_default().insert(id, subscription);
    }

    /// A device reads a log up to here and no further.
    pub(super) fn end(&mut self, id: LinkId, log: LogId, (epoch, end): (Epoch, Sequence)) {
        if planted::active(Bug::EndLate) {
            return;
        }
        if let Some(subscription) = self.channels.get_mut(&log).and_then(|channel| channel.get_mut(&id)) {
            (subscription.epochs.last, subscription.end) = (Some(epoch), Some(end));
        }
    }

    /// A device reads a log, or reads it again.
    pub(super) fn renew(&mut self, id: LinkId, log: &DeviceLog) {
        match self.channels.get_mut(&log.log).and_then(|channel| channel.get_mut(&id)) {
            Some(subscription) => {
                (subscription.epochs, subscription.end, subscription.behind) = (log.epochs, None, true);
                if subscription.position < log.start {
                    subscription.joins.get_or_insert(subscription.position);
                    subscription.position = log.start;
                }
            }
            None => self.subscribe(id, log),
        }
    }

    pub(super) fn listed(&mut self, links: &impl Links, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            if let Resume::Listing(waiting) = link.resume {
                link.resume = Resume::Reading(waiting);
            }
            tell(link, links, id);
        }
    }

    pub(super) fn fan_out(
        &mut self,
        links: &impl Links,
        log: LogId,
        sequence: Sequence,
        body: &EntryBody,
    ) -> Vec<LinkId> {
        let mut must_read = Vec::new();
        let Some(channel) = self.channels.get_mut(&log) else { return must_read };
        let mut shared: Option<Arc<Frame>> = None;
        let reads = |subscription: &Subscription| {
            subscription.position < sequence && subscription.end.is_none_or(|end| subscription.position < end)
        };
        for (id, subscription) in channel.iter_mut().filter(|(_, subscription)| reads(subscription)) {
            let Some(link) = self.links.get_mut(id) else { continue };
            let next = subscription.position.next() == sequence && subscription.joins.is_none();
            match subscription.reading {
                _ if link.stalled => subscription.behind = true,
                Reading::Yes | Reading::Again => subscription.reading = Reading::Again,
                Reading::No if next && is_for(body, link.device, subscription.epochs) => {
                    let frame = shared.get_or_insert_with(|| {
                        let entries = vec![Entry { sequence, body: body.clone() }];
                        run(subscription.which, (subscription.position, sequence), entries, None)
                    });
                    self.pushed += u64::from(queue(subscription, link, links, *id, (Arc::clone(frame), sequence)));
                    tell(link, links, *id);
                }
                Reading::No => must_read.push(*id),
            }
        }
        must_read
    }

    /// Hands a frame that nobody keeps to whoever reads the log in this epoch and has room, but for one link. Says how many
    /// took it.
    pub(super) fn whisper(
        &self,
        links: &impl Links,
        (log, epoch): (LogId, Epoch),
        frame: &Arc<Frame>,
        but: Option<LinkId>,
    ) -> usize {
        let Some(channel) = self.channels.get(&log) else { return 0 };
        let hears = |id: &LinkId, subscription: &Subscription| {
            let reads = subscription.end.is_none() && subscription.epochs.contain(epoch);
            Some(*id) != but && reads && self.links.get(id).is_some_and(|link| !link.stalled)
        };
        let hearers = channel.iter().filter(|(id, subscription)| hears(id, subscription));
        hearers.filter(|(id, _)| links.send(**id, Arc::clone(frame)).is_ok()).count()
    }

    pub(super) fn channel(&self, log: LogId) -> Vec<LinkId> {
        self.channels.get(&log).map(|channel| channel.keys().copied().collect()).unwrap_or_default()
    }

    /// Takes up the reading of a log for a link; nothing when somebody does already or there is no room.
    pub(super) fn begin(&mut self, id: LinkId, log: LogId) -> Option<Sequence> {
        let stalled = self.links.get(&id)?.stalled;
        let subscription = self.channels.get_mut(&log)?.get_mut(&id)?;
        match subscription.reading {
            _ if stalled => {
                subscription.behind = true;
                None
            }
            Reading::No => {
                subscription.reading = Reading::Yes;
                Some(subscription.position)
            }
            Reading::Yes | Reading::Again => {
                subscription.reading = Reading::Again;
                None
            }
        }
    }

    /// Queues a page that was read from the subscription's position on.
    pub(super) fn take(&mut self, links: &impl Links, id: LinkId, log: LogId, mut page: LogPage) -> Took {
        let Some(link) = self.links.get_mut(&id) else { return Took::All };
        let Some(subscription) = self.channels.get_mut(&log).and_then(|channel| channel.get_mut(&id)) else {
            return Took::All;
        };
        // A page may be read before it is said here that a removal in it is one. Nothing beyond is read then: whoever is in
        // again reads on from there.
        let out = taken_out(&page.entries, link.device, subscription.epochs).filter(|_| !planted::active(Bug::EndLate));
        if let Some((last, end)) = out {
            (subscription.epochs.last, subscription.end) = (Some(last), Some(end));
            subscription.waited = subscription.waited.min(end);
            page.entries.retain(|entry| entry.sequence <= end);
            page.upto = end;
        }
        if page.upto > subscription.position {
            if link.stalled {
                subscription.reading = Reading::No;
                subscription.behind = true;
                return Took::All;
            }
            let mut entries = page.entries;
            entries.retain(|entry| is_for(&entry.body, link.device, subscription.epochs));
            let count = entries.len() as u64;
            let after = subscription.joins.unwrap_or(subscription.position);
            // Of what went only what was before its end was for it. It hears of it until it has said that it is beyond.
            let lost = subscription.end.map_or(page.whole_after, |end| end.min(page.whole_after));
            let position = subscription.position;
            let gone = (lost > position).then_some(Gone { after: position, upto: lost });
            let gone = gone.filter(|_| !planted::active(Bug::TrimSilent) && !planted::active(Bug::GoneUntold));
            let frame = run(subscription.which, (after, page.upto), entries, gone);
            let head = page.head;
            let queued = queue(subscription, link, links, id, (frame, page.upto));
            self.pushed += if queued { count } else { 0 };
            if queued && out.is_some() {
                (subscription.reading, subscription.behind) = (Reading::No, false);
                tell(link, links, id);
                return Took::All;
            }
            if queued && page.upto >= head {
                // What was added after the page was read has set `Again`.
                return self.end_or_again(links, id, log);
            }
            if queued {
                return Took::More(page.upto);
            }
            subscription.reading = Reading::No;
            return Took::All;
        }
        self.end_or_again(links, id, log)
    }

    fn end_or_again(&mut self, links: &impl Links, id: LinkId, log: LogId) -> Took {
        let Some(subscription) = self.channels.get_mut(&log).and_then(|channel| channel.get_mut(&id)) else {
            return Took::All;
        };
        if subscription.reading == Reading::Again {
            subscription.reading = Reading::Yes;
            return Took::More(subscription.position);
        }
        subscription.reading = Reading::No;
        subscription.behind = false;
        if let Some(link) = self.links.get_mut(&id) {
            tell(link, links, id);
        }
        Took::All
    }

    pub(super) fn failed(&mut self, id: LinkId, log: LogId) {
        if let Some(subscription) = self.channels.get_mut(&log).and_then(|channel| channel.get_mut(&id)) {
            subscription.reading = Reading::No;
            subscription.behind = true;
        }
    }

    pub(super) fn drained(&mut self, links: &impl Links, id: LinkId) -> Vec<LogId> {
        if let Some(link) = self.links.get_mut(&id) {
            link.stalled = false;
            tell(link, links, id);
        }
        self.behind(id)
    }

    pub(super) fn behind(&self, id: LinkId) -> Vec<LogId> {
        let Some(link) = self.links.get(&id).filter(|link| !link.stalled) else { return Vec::new() };
        let behind = |log: &LogId| {
            let subscription = self.channels.get(log).and_then(|channel| channel.get(&id));
            subscription.is_some_and(|subscription| subscription.behind && subscription.reading == Reading::No)
        };
        link.logs.values().copied().filter(behind).collect()
    }

    pub(super) fn pushed(&self, id: LinkId, which: LogRef) -> Option<(LogId, Sequence)> {
        let log = *self.links.get(&id)?.logs.get(&which)?;
        Some((log, self.channels.get(&log)?.get(&id)?.position))
    }
}

/// Where among these a change takes the leaf that a device has now, and its last epoch.
fn taken_out(entries: &[Entry], device: DeviceId, epochs: Epochs) -> Option<(Epoch, Sequence)> {
    entries.iter().find_map(|entry| match &entry.body {
        EntryBody::Commit(accepted) => {
            let commit = &accepted.commit;
            let this = commit.epoch >= epochs.newest() && commit.removed.contains(&device);
            this.then_some((commit.epoch, entry.sequence))
        }
        _ => None,
    })
}

/// Whether an entry is for a device: by its epochs in a thread, by name in an inbox.
fn is_for(body: &EntryBody, device: DeviceId, epochs: Epochs) -> bool {
    match body {
        EntryBody::Envelope(_, envelope) => epochs.contain(envelope.epoch),
        EntryBody::Commit(accepted) => epochs.contain(accepted.commit.epoch),
        EntryBody::Invitation(invitation) => {
            let added = |participant: &whimbrel_protocol::thread::Participant| {
                participant.account == device.account && participant.devices.contains(&device.index)
            };
            invitation.inviter != device && invitation.participants.iter().any(added)
        }
        EntryBody::Undelivered(_) | EntryBody::Friendship(_) => true,
    }
}

fn run(log: LogRef, (after, upto): (Sequence, Sequence), entries: Vec<Entry>, gone: Option<Gone>) -> Arc<Frame> {
    Arc::new(push::Push { log, after, upto, entries, gone }.into())
}

/// Queues a run and moves the position, or notes that there was no room.
fn queue(
    subscription: &mut Subscription,
    link: &mut Link,
    links: &impl Links,
    id: LinkId,
    (frame, upto): (Arc<Frame>, Sequence),
) -> bool {
    match links.send(id, frame) {
        Ok(()) => {
            let waited = subscription.position < subscription.waited;
            (subscription.position, subscription.joins) = (upto, None);
            if waited && upto >= subscription.waited {
                match &mut link.resume {
                    Resume::Listing(waiting) | Resume::Reading(waiting) => *waiting = waiting.saturating_sub(1),
                    Resume::Told => {}
                }
            }
            true
        }
        Err(SendError::Full) => {
            link.stalled = true;
            subscription.behind = true;
            false
        }
        // Its loss is told apart, and takes the subscription with it.
        Err(SendError::Gone) => false,
    }
}

/// Tells a link that everything that waited for it was pushed, once that is so.
fn tell(link: &mut Link, links: &impl Links, id: LinkId) {
    if link.resume == Resume::Reading(0) && !link.stalled {
        match links.send(id, Arc::new(CaughtUp {}.into())) {
            Ok(()) | Err(SendError::Gone) => link.resume = Resume::Told,
            Err(SendError::Full) => link.stalled = true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use whimbrel_protocol::hub::{Accepted, Commit, Receipt, SignedReceipt};
    use whimbrel_protocol::id::{AccountId, DeviceIndex, Epoch, Signature, ThreadId};
    use whimbrel_protocol::thread::{Class, Envelope};
    use whimbrel_protocol::time::Wall;

    use super::*;
    use crate::ports::PeerAddress;

    const LINK: LinkId = LinkId::new(1);
    const LOG: LogId = LogId::from_bytes([7; 16]);
    const THREAD: ThreadId = ThreadId::from_bytes([7; 32]);
    const DEVICE: DeviceId = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };

    /// Room for so many frames, and what was taken.
    #[derive(Default)]
    struct Recorder {
        room: Mutex<usize>,
        taken: Mutex<Vec<(u64, u64, usize)>>,
        gone: Mutex<Vec<(u64, u64)>>,
        told: Mutex<usize>,
    }

    impl Recorder {
        fn with_room(room: usize) -> Self {
            Self { room: Mutex::new(room), ..Self::default() }
        }

        /// Runs as (after, upto, entries).
        fn runs(&self) -> Vec<(u64, u64, usize)> {
            std::mem::take(&mut self.taken.lock().unwrap())
        }
    }

    impl Links for Recorder {
        fn send(&self, _: LinkId, frame: Arc<Frame>) -> Result<(), SendError> {
            let mut room = self.room.lock().unwrap();
            *room = room.checked_sub(1).ok_or(SendError::Full)?;
            match &*frame {
                Frame::Push(push) => {
                    let gone = push.gone.map(|gone| (gone.after.get(), gone.upto.get()));
                    self.gone.lock().unwrap().extend(gone);
                    self.taken.lock().unwrap().push((push.after.get(), push.upto.get(), push.entries.len()));
                }
                Frame::CaughtUp(_) => *self.told.lock().unwrap() += 1,
                other => panic!("{other:?}"),
            }
            Ok(())
        }

        fn close(&self, _: LinkId) {}
        fn dial(&self, _: PeerAddress) {}
    }

    fn body(epoch: u64) -> EntryBody {
        let envelope = Envelope { thread: THREAD, epoch: Epoch::new(epoch), class: Class::Message, body: vec![1] };
        EntryBody::Envelope(DEVICE, envelope)
    }

    fn removal(epoch: u64, removed: DeviceId) -> EntryBody {
        let (term, epoch, bytes) = (0, Epoch::new(epoch), vec![1]);
        let commit = Commit {
            thread: THREAD,
            term,
            epoch,
            bytes,
            added: Vec::new(),
            removed: vec![removed],
            info: vec![],
            warrant: None,
        };
        let words =
            Receipt { thread: THREAD, term, epoch, commit: commit.hash(), previous: None, at: Wall::from_millis(1) };
        let receipt = SignedReceipt { words, signature: Signature::from_bytes([1; 64]), chain: Vec::new() };
        EntryBody::Commit(Accepted { author: DEVICE, commit, receipt: Box::new(receipt) })
    }

    fn page(sequences: std::ops::RangeInclusive<u64>, head: u64) -> LogPage {
        let (upto, whole_after) = (Sequence::new(*sequences.end()), Sequence::new(sequences.start() - 1));
        let entries = sequences.map(|n| Entry { sequence: Sequence::new(n), body: body(1) }).collect();
        LogPage { entries, whole_after, upto, head: Sequence::new(head) }
    }

    /// A device that came in with its cursor at `cursor` of a log whose newest entry is `head`.
    fn subscribed(links: &Recorder, cursor: u64, head: u64) -> Table {
        let mut table = Table::default();
        table.attach(LINK, DEVICE, MailboxId::from_bytes([1; 16]));
        let (cursor, head) = (Sequence::new(cursor), Sequence::new(head));
        let epochs = Epochs::since(Epoch::new(1));
        table.subscribe(
            LINK,
            &DeviceLog { log: LOG, which: LogRef::Thread(THREAD), cursor, start: cursor, epochs, head, end: None },
        );
        table.listed(links, LINK);
        table
    }

    fn fresh(table: &mut Table, links: &Recorder, sequence: u64) -> Vec<LinkId> {
        table.fan_out(links, LOG, Sequence::new(sequence), &body(1))
    }

    #[test]
    fn only_the_next_entry_goes_from_memory() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 4, 4);
        assert_eq!(fresh(&mut table, &links, 6), [LINK], "a gap: the log is read");
        assert!(fresh(&mut table, &links, 4).is_empty(), "what is there already is not sent");
        assert!(links.runs().is_empty());
        assert!(fresh(&mut table, &links, 5).is_empty());
        assert_eq!(links.runs(), [(4, 5, 1)]);
        assert_eq!(table.pushed(LINK, LogRef::Thread(THREAD)), Some((LOG, Sequence::new(5))));
    }

    #[test]
    fn what_is_added_while_the_log_is_read_is_read_too() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 0, 2);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        assert_eq!(table.begin(LINK, LOG), None, "one reader is enough");
        assert!(fresh(&mut table, &links, 3).is_empty(), "nobody else reads, and nothing overtakes");
        assert_eq!(table.take(&links, LINK, LOG, page(1..=2, 2)), Took::More(Sequence::new(2)));
        assert_eq!(table.take(&links, LINK, LOG, page(3..=3, 3)), Took::All);
        assert_eq!(links.runs(), [(0, 2, 2), (2, 3, 1)]);
        assert!(fresh(&mut table, &links, 4).is_empty());
        assert_eq!(links.runs(), [(3, 4, 1)]);
    }

    #[test]
    fn a_full_queue_leaves_the_rest_to_the_log() {
        let links = Recorder::with_room(1);
        let mut table = subscribed(&links, 0, 0);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        // The one place was taken by the word that it caught up.
        assert_eq!(*links.told.lock().unwrap(), 1);
        assert_eq!(table.take(&links, LINK, LOG, page(1..=2, 2)), Took::All);
        assert!(fresh(&mut table, &links, 3).is_empty());
        assert_eq!(table.begin(LINK, LOG), None, "nothing is read for a link without room");
        assert!(table.behind(LINK).is_empty());
        *links.room.lock().unwrap() = 9;
        assert_eq!(table.drained(&links, LINK), [LOG]);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        assert_eq!(table.take(&links, LINK, LOG, page(1..=3, 3)), Took::All);
        assert_eq!(links.runs(), [(0, 3, 3)]);
    }

    #[test]
    fn an_entry_of_another_epoch_moves_the_place_and_is_not_shown() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 0, 0);
        assert_eq!(table.fan_out(&links, LOG, Sequence::new(1), &body(0)), [LINK]);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        let entries = vec![Entry { sequence: Sequence::new(1), body: body(0) }];
        let (upto, head) = (Sequence::new(1), Sequence::new(1));
        let page = LogPage { entries, whole_after: Sequence::ZERO, upto, head };
        assert_eq!(table.take(&links, LINK, LOG, page), Took::All);
        assert_eq!(links.runs(), [(0, 1, 0)]);
    }

    #[test]
    fn a_run_names_what_went_before_its_first_entry_and_nothing_that_was_not_for_the_device() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 4, 12);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::new(4)));
        assert_eq!(table.take(&links, LINK, LOG, page(5..=6, 12)), Took::More(Sequence::new(6)));
        assert_eq!(*links.gone.lock().unwrap(), [], "nothing went");
        // The link is slow, and the log went on without it.
        assert_eq!(table.take(&links, LINK, LOG, page(10..=12, 12)), Took::All);
        assert_eq!((links.runs(), links.gone.lock().unwrap().clone()), (vec![(4, 6, 2), (6, 12, 3)], vec![(6, 9)]));
        // Nobody heard it, or nobody said so: the next link names it again, but for what lies beyond the device's end.
        let mut again = Table::default();
        again.attach(LINK, DEVICE, MailboxId::from_bytes([1; 16]));
        let (cursor, start) = (Sequence::new(2), Sequence::new(6));
        let (epochs, head, end) = (Epochs::since(Epoch::new(1)), Sequence::new(12), Some(Sequence::new(8)));
        let log = DeviceLog { log: LOG, which: LogRef::Thread(THREAD), cursor, start, epochs, head, end };
        again.subscribe(LINK, &log);
        links.gone.lock().unwrap().clear();
        assert_eq!(again.begin(LINK, LOG), Some(start));
        assert_eq!(again.take(&links, LINK, LOG, page(10..=12, 12)), Took::All);
        assert_eq!(links.runs(), [(2, 12, 3)]);
        assert_eq!(*links.gone.lock().unwrap(), [(6, 8)], "what lay before its start was never for it, either");
    }

    #[test]
    fn a_page_that_was_read_before_a_removal_was_told_of_ends_with_it_until_the_device_is_in_again() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 2, 6);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::new(2)));
        let mut read = page(3..=6, 6);
        read.entries[1].body = removal(1, DEVICE);
        read.entries[2].body = body(2);
        read.entries[3].body = body(2);
        assert_eq!(table.take(&links, LINK, LOG, read), Took::All);
        assert_eq!(
            (links.runs(), *links.told.lock().unwrap()),
            (vec![(2, 4, 2)], 1),
            "all that waited for it is there"
        );
        table.end(LINK, LOG, (Epoch::new(1), Sequence::new(4)));
        assert_eq!(
            table.fan_out(&links, LOG, Sequence::new(7), &body(2)),
            [],
            "what is said after it is for the others"
        );
        // In again with the change at 8, it reads on from there, whatever came between.
        let epochs = Epochs { last: Some(Epoch::new(1)), ..Epochs::since(Epoch::new(1)) }.again(Epoch::new(4));
        let (which, start, head) = (LogRef::Thread(THREAD), Sequence::new(8), Sequence::new(9));
        let log = DeviceLog { log: LOG, which, cursor: Sequence::new(4), start, epochs, head, end: None };
        table.renew(LINK, &log);
        assert_eq!(table.begin(LINK, LOG), Some(start));
        let mut read = page(9..=9, 9);
        read.entries[0].body = body(4);
        assert_eq!(table.take(&links, LINK, LOG, read), Took::All);
        assert_eq!(links.runs(), [(4, 9, 1)]);
        // The removal of the leaf before the present one ends nothing.
        assert_eq!(taken_out(&[Entry { sequence: start, body: removal(1, DEVICE) }], DEVICE, epochs), None);
        // Another's removal is a change like any.
        let other = DeviceId { account: AccountId::from_bytes([9; 32]), ..DEVICE };
        let mut table = subscribed(&links, 2, 4);
        let mut read = page(3..=4, 4);
        read.entries[0].body = removal(1, other);
        assert_eq!((table.begin(LINK, LOG), table.take(&links, LINK, LOG, read)), (Some(Sequence::new(2)), Took::All));
    }

    #[test]
    fn a_link_that_left_gets_nothing_and_keeps_nothing() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 0, 5);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        table.detach(LINK);
        assert_eq!(table.take(&links, LINK, LOG, page(1..=5, 5)), Took::All);
        assert!(fresh(&mut table, &links, 6).is_empty());
        assert!(links.runs().is_empty() && *links.told.lock().unwrap() == 0);
        assert!(table.channels.is_empty() && table.links.is_empty() && table.mailboxes.is_empty());
    }

    #[test]
    fn a_failed_read_is_taken_up_again() {
        let links = Recorder::with_room(9);
        let mut table = subscribed(&links, 0, 5);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
        table.failed(LINK, LOG);
        assert_eq!(table.behind(LINK), [LOG]);
        assert_eq!(table.begin(LINK, LOG), Some(Sequence::ZERO));
    }
}
