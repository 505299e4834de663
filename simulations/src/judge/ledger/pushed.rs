//! The account's pages on what relays say to devices unasked: entries, and who is there. Owns: nothing; the ledger does.

use super::*;

impl Ledger {
    pub(super) fn pushed(&mut self, to: ProcessNo, relay: ProcessNo, run: &Push, now: Time) {
        if self.wire.is_hostile(relay) {
            return;
        }
        self.wire.pushed(to, relay, run).into_iter().for_each(|violation| self.violate(violation));
        for entry in &run.entries {
            match &entry.body {
                EntryBody::Envelope(submitter, envelope) => {
                    let by = self.process_of(&submitter.account);
                    // A hostile home may say of its own users what it likes.
                    let home = by.and_then(|by| self.excuses.home(by));
                    let word = home.is_none_or(|home| !self.wire.is_hostile(home));
                    let handed = self.wire.author(envelope);
                    if word && (by.is_none() || handed.map(|(author, _)| author) != by) {
                        self.misattribute(to, "its relay says another handed in than did");
                    }
                    if let (true, Some((by, at))) = (word, handed)
                        && self.wire.is_parted(*submitter, envelope, at)
                    {
                        self.violate(Violation::Outsider { to, by });
                    }
                    self.reads_beyond(to, envelope);
                    // In a group, the others decide who is in it.
                    let two = self.threads.get(&envelope.thread).is_some_and(|people| people.len() == 2);
                    if let (true, Some((by, at))) = (two, handed)
                        && self.consent.is_kept_away(to, by, at)
                    {
                        tracing::debug!(to, by, at = at.nanos(), sequence = entry.sequence.get(), "unwanted");
                        self.violate(Violation::Unwanted { to, by });
                    }
                }
                EntryBody::Invitation(invitation) => {
                    // One's own devices take each other in.
                    let inviter = &invitation.inviter.account;
                    if self.process_of(inviter).is_none_or(|inviter| inviter != to) {
                        self.met(to, inviter);
                    }
                }
                EntryBody::Friendship(word) => {
                    let read = decode_words::<FriendshipWord>(&word.content).ok();
                    let by = self.process_of(&word.by.account);
                    if let (Some(by), true) = (by, read.is_some_and(|read| read.act == Act::Remove)) {
                        self.consent.removed(by, to);
                    }
                }
                EntryBody::Commit(accepted) => {
                    let commit = &accepted.commit;
                    for device in &commit.removed {
                        let one = self.process_of(&device.account);
                        if one.is_some_and(|one| self.excuses.home(one) == Some(relay)) {
                            self.wire.parted(commit.thread, *device, commit.epoch, now);
                        }
                    }
                }
                EntryBody::Undelivered(_) => {}
            }
        }
    }

    /// How often each device was told that somebody is there since this was last asked.
    #[cfg(test)]
    pub fn times_told(&mut self) -> BTreeMap<(ProcessNo, ProcessNo), u32> {
        std::mem::take(&mut self.consent.times)
    }

    /// A relay told a device who came and went.
    pub(super) fn statuses(&mut self, to: ProcessNo, relay: ProcessNo, statuses: &[Status], at: Time) {
        let statuses: Vec<_> =
            statuses.iter().filter_map(|status| Some((self.process_of(&status.account)?, *status))).collect();
        let wrong = self.consent.told(to, &statuses, at, |of| self.excuses.home(of) == Some(relay));
        for of in wrong {
            // A hostile relay says of its own users, and to them, what it likes.
            if !self.excuses.among([to, of], Conduct::Hostile) {
                self.violate(Violation::Seen { to });
            }
        }
        for of in self.consent.dead(to, at, |of| self.excuses.home(of) == Some(relay)) {
            if !self.excuses.among([to, of], Conduct::Hostile) {
                self.violate(Violation::StillSeen { to, of });
            }
        }
    }
}
