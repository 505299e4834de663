//! What the relay of these tests puts into logs, and hands to whoever is linked.

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{BlobId, DeviceId, Sequence};
use whimbrel_protocol::push::{Entry, EntryBody, Gone, Invitation, LogRef, Push};
use whimbrel_protocol::thread::Opening;

use super::world::World;

impl<E: Engine> World<E> {
    /// What a relay does with an opening, whoever sent it.
    pub(super) fn take_opening(&mut self, inviter: DeviceId, opening: Opening) {
        if self.relay.threads.contains_key(&opening.thread) {
            return;
        }
        let (welcome, tree) = (BlobId::of(&opening.welcome), BlobId::of(&opening.tree));
        self.relay.blobs.insert(welcome, opening.welcome.clone());
        self.relay.blobs.insert(tree, opening.tree.clone());
        let invitation = Invitation {
            thread: opening.thread,
            epoch: opening.epoch,
            inviter,
            participants: opening.participants.clone(),
            welcome,
            tree,
            founding: opening.founding.as_deref().copied(),
        };
        for one in opening.participants.iter().filter(|one| one.account != inviter.account || one.devices.len() > 1) {
            let row = self.relay.accounts.get_mut(&one.account).unwrap();
            row.inbox.push(EntryBody::Invitation(invitation.clone()));
        }
        self.relay.threads.insert(opening.thread, (opening, Vec::new()));
        self.push_all();
    }

    pub(super) fn push_all(&mut self) {
        (0..self.people.len()).for_each(|who| self.push(who));
    }

    /// Everything after what this link was pushed.
    pub(super) fn push(&mut self, who: usize) {
        if self.people[who].home.is_none() || self.relay.mute.contains("Push") {
            return;
        }
        let device = self.id(who);
        let mut logs: Vec<(LogRef, Vec<EntryBody>)> = Vec::new();
        // Threads first: inbox and thread logs are independent, and a node must cope.
        for (thread, (opening, log)) in &self.relay.threads {
            let span = self.relay.spans.get(&(*thread, device));
            if span.is_some() || opening.participants.iter().flat_map(|one| one.ids()).any(|one| one == device) {
                logs.push((LogRef::Thread(*thread), log.clone()));
            }
        }
        let Some(row) = self.relay.accounts.get(&device.account) else { return };
        logs.push((LogRef::Inbox, row.inbox.clone()));
        let not_for_it = self.mailbox(device).not_for_it;
        let mut pushed = self.mailbox(device).pushed.clone();
        let mut runs = Vec::new();
        for (log, bodies) in logs {
            let after = pushed.get(&log).copied().unwrap_or_default();
            let upto = Sequence::new(bodies.len() as u64);
            if upto > after {
                let entries = bodies.into_iter().enumerate().skip(after.get() as usize);
                let entries = entries.map(|(place, body)| Entry { sequence: Sequence::new(place as u64 + 1), body });
                let entries = entries.filter(|entry| self.relay.is_for(log, device, &entry.body));
                let entries = entries.filter(|entry| log != LogRef::Inbox || entry.sequence > not_for_it);
                let trimmed = self.relay.trimmed.get(&log).copied().unwrap_or_default();
                let entries = entries.filter(|entry| entry.sequence > trimmed).collect();
                let gone = (trimmed > after).then_some(Gone { after, upto: trimmed });
                pushed.insert(log, upto);
                runs.push(Push { log, after, upto, entries, gone });
            }
        }
        self.mailbox(device).pushed = pushed;
        runs.into_iter().for_each(|run| self.say_to(who, run));
    }
}
