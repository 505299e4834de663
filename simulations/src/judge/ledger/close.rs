//! What is found wrong, as it is found and when the account is closed. Owns: nothing; the ledger does.

use super::*;

impl Ledger {
    /// Closes the account: what is still owed now is lost.
    pub fn close(mut self, unmet: &[(ProcessNo, ProcessNo)]) -> Verdict {
        let (mut lost, mut shown, mut unconfirmed, mut slowest) = (0, 0, 0, Duration::ZERO);
        let (mut found, mut told) = (Vec::new(), self.dropped.clone());
        for (number, said) in self.said.iter().enumerate() {
            for to in &said.to {
                match (said.shown.get(to), said.word) {
                    (Some(_), Word::Asked) => unconfirmed += 1,
                    (Some(at), _) => {
                        shown += 1;
                        slowest = slowest.max(at.since(said.at));
                    }
                    (None, Word::Owed) if self.owes(said, *to) && !self.is_told_later(number, *to, &mut told) => {
                        lost += 1;
                        found.push(Violation::Lost { message: number, author: said.author, to: *to });
                    }
                    (None, _) => {}
                }
            }
        }
        // What one person said to the same people must stand in the order it was said: in their own thread, and in each
        // group of theirs that changes. A thread may be opened later than a group was written in.
        type Place<'a> = (ProcessNo, &'a [ProcessNo], Option<ThreadId>);
        let mut newest: BTreeMap<Place<'_>, (Hlc, usize)> = BTreeMap::new();
        for (number, said) in self.said.iter().enumerate() {
            // Whoever writes to people while one of them opens a thread with the same is answered once theirs is settled,
            // and what they write into the other before that is answered at once.
            let Some(hlc) = said.hlc.filter(|_| !said.second && !self.crossed(said)) else { continue };
            let before =
                newest.insert((said.author, said.circle.map_or(&said.to[..], |_| &[]), said.circle), (hlc, number));
            if let Some((_, earlier)) = before.filter(|(before, _)| *before >= hlc) {
                found.push(Violation::Order { author: said.author, earlier, later: number });
            }
        }
        found.extend(
            unmet.iter().map(|(inviter, accepter)| Violation::Unmet { inviter: *inviter, accepter: *accepter }),
        );
        found.into_iter().for_each(|violation| self.violate(violation));
        let sent = self.said.iter().filter(|said| said.message.is_some() && said.word != Word::Asked).count() as u64;
        Verdict {
            sent,
            shown,
            lost,
            duplicates: self.duplicates,
            misattributed: self.misattributed,
            failed: self.said.iter().filter(|said| said.word == Word::Failed && said.message.is_some()).count() as u64,
            declined: self.said.iter().filter(|said| said.word == Word::Failed && said.message.is_none()).count()
                as u64,
            unconfirmed,
            unreadable: self.unreadable,
            slowest,
            violations: self.found,
            examples: self.violations,
            times: self.times,
        }
    }

    pub(super) fn name(&mut self, number: usize, message: MessageId) {
        let Some(said) = self.said.get_mut(number) else { return };
        said.message = Some(message);
        self.by_message.insert(message, number);
        let key = (said.author, said.text.clone());
        if let Some(unnamed) = self.unnamed.get_mut(&key) {
            unnamed.remove(&number);
            if unnamed.is_empty() {
                self.unnamed.remove(&key);
            }
        }
    }

    pub(super) fn misattribute(&mut self, to: ProcessNo, what: &'static str) {
        self.misattributed += 1;
        self.violate(Violation::Misattributed { to, what });
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        self.found += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(violation);
        }
    }
}
