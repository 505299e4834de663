//! The account's pages on groups that change: what is said in them, who takes whom to be in them, who may be elsewhere.
//! Owns: nothing; the ledger does.

use super::*;

impl Ledger {
    /// Somebody hands their node a text to a group that changes. For whom it is shows when the node has taken it.
    pub fn ask_circle(&mut self, author: ProcessNo, thread: ThreadId, text: String, at: Time) -> SaidNo {
        let everybody = self.circles.ever(&thread).into_iter().filter(|one| *one != author).collect();
        let said = self.ask(author, everybody, text, at);
        if let Some(said) = self.said.last_mut() {
            said.circle = Some(thread);
        }
        said
    }

    /// Whom somebody takes to be in a group that changes, by what they were told.
    pub fn circle(&self, thread: &ThreadId, who: ProcessNo) -> BTreeSet<ProcessNo> {
        self.circles.view(thread, who)
    }

    /// Who was ever in it.
    pub fn circle_ever(&self, thread: &ThreadId) -> BTreeSet<ProcessNo> {
        self.circles.ever(thread)
    }

    /// Somebody is told that they are in a group that changes.
    pub fn in_circle(&mut self, thread: ThreadId, who: ProcessNo, people: BTreeSet<ProcessNo>) {
        self.circles.joined(thread, who, people);
    }

    /// Somebody finds that they are in a group no longer.
    pub fn left_circle(&mut self, thread: &ThreadId, who: ProcessNo) {
        self.circles.left(thread, who);
    }

    /// Somebody is to be taken out of a group, or asks for it: what they have not seen need not come any more.
    pub fn out(&mut self, thread: &ThreadId, who: ProcessNo) {
        self.circles.out(thread, who);
        for said in self.said.iter_mut().filter(|said| said.circle == Some(*thread) && said.to.contains(&who)) {
            if !said.shown.contains_key(&who) && said.given_up.insert(who) {
                self.owed -= usize::from(said.word == Word::Owed);
            }
        }
    }

    /// The admin's node said that somebody is out of a group, or its owner is about to take them in.
    pub fn taken(&mut self, thread: &ThreadId, who: ProcessNo, out: bool) {
        self.circles.taken(thread, who, out);
    }

    /// Of whom the admin's node said that they are out.
    pub fn gone(&self, thread: &ThreadId) -> BTreeSet<ProcessNo> {
        self.circles.gone(thread)
    }

    /// Somebody made a group, or is to be made an admin by one.
    pub fn may_be_admin(&mut self, thread: ThreadId, who: ProcessNo) {
        self.circles.may_be_admin(thread, who);
    }

    /// Whether somebody may ever have become an admin of a group.
    pub fn was_admin(&self, thread: &ThreadId, who: ProcessNo) -> bool {
        self.circles.was_admin(thread, who)
    }

    /// By this node somebody is an admin of a group. Nobody who may say so may have said it, whatever its hub takes.
    pub fn is_admin(&mut self, thread: &ThreadId, who: ProcessNo, by: ProcessNo) {
        if !self.circles.was_admin(thread, who) && !self.excuses.is(by, Conduct::Hostile) {
            self.violate(Violation::Usurped { of: who, by });
        }
    }

    /// Two nodes in one epoch of a group have two policies.
    pub fn ruled_apart(&mut self, of: ProcessNo, from: ProcessNo) {
        self.violate(Violation::RuledApart { of, from });
    }

    /// Somebody of whom an admin's node said that they are out is in the group all the same.
    pub fn still_in(&mut self, thread: &ThreadId, of: ProcessNo, admin: ProcessNo) {
        let over = self.consent.is_over(of, admin);
        if !over && !self.excuses.among(self.circles.ever(thread), Conduct::Hostile) {
            self.violate(Violation::StillIn { of, admin });
        }
    }

    /// Whether a calendar that is days wrong can be to blame for what becomes of a text in this group: by it an epoch is over
    /// for longer than its relay takes what was sealed in it, and that is sealed again, for whoever is there by then.
    pub(super) fn untimely(&self, thread: &ThreadId) -> bool {
        self.excuses.among(self.circles.ever(thread), Conduct::Untimely)
    }

    /// Whether a hostile party on the way may have swallowed what an author said who is out of the group: while they were in it
    /// their node would have said it again.
    pub(super) fn swallowed(&self, said: &Said, to: ProcessNo) -> bool {
        said.circle.is_some_and(|thread| self.circles.is_out(&thread, said.author))
            && self.excuses.among([said.author, to], Conduct::Hostile)
    }

    /// Whether a thread of these people may not change any more, for one who is or was in it hands in commits that nobody can
    /// follow and its hub cannot tell: devices do not come into it or go then.
    pub fn may_stand_still(&self, thread: &ThreadId, people: &[AccountId]) -> bool {
        let people = people.iter().filter_map(|account| self.process_of(account));
        self.excuses.obstructs(self.circles.ever(thread).into_iter().chain(people))
    }

    /// Whether somebody hostile can be to blame for what goes wrong with such a group on a device, or that the two have
    /// ended it: an invitation of before is not taken up any more.
    pub(super) fn excused_in_circle(&self, on: ProcessNo, thread: &ThreadId) -> bool {
        let ever = self.circles.ever(thread);
        ever.iter().any(|one| self.consent.is_over(on, *one))
            || self.excuses.among(ever.into_iter().chain([on]), Conduct::Hostile)
    }

    /// Whether somebody can be to blame that a change of a group is not answered: its asker, a hostile relay that one of these
    /// people or of those who were ever in it has, or who stops the group as above.
    pub fn may_not_change(&self, thread: Option<&ThreadId>, who: ProcessNo, people: BTreeSet<ProcessNo>) -> bool {
        let ever = thread.map(|thread| self.circles.ever(thread)).unwrap_or_default();
        let all: Vec<_> = people.into_iter().chain(ever).collect();
        self.excuses.is(who, Conduct::Hostile) || self.excuses.serves_any(&all) || self.excuses.obstructs(all)
    }

    /// The run is over, and a node that runs has said nothing of a change it was asked for.
    pub fn unchanged(&mut self, of: ProcessNo) {
        self.violate(Violation::Unchanged { of });
    }

    /// A member of a thread is not where another is. Whoever has ended it with who made a group, or they with them, may have
    /// refused the invitation that was under way.
    pub fn apart(&mut self, thread: ThreadId, of: ProcessNo, from: ProcessNo, branch: bool, company: &Company) {
        if self.is_over_with_founder(&thread, of, company) && self.circles.is_circle(&thread) {
            self.out(&thread, self.twins.owner(of));
        } else if self.must_agree(&thread, of, company) {
            self.violate(if branch { Violation::Branched { of, from } } else { Violation::Apart { of, from } });
        }
    }

    /// All has healed, and a device without an excuse has been elsewhere than another for too long.
    pub fn lagged(&mut self, of: ProcessNo, from: ProcessNo, since: Duration) {
        self.violate(Violation::Lagged { of, from, seconds: since.as_secs() });
    }

    /// Whether a device in a thread has no excuse for being elsewhere than the others: nobody who was ever in it is hostile,
    /// its owner is still a friend of who made it, and of the other where there is but one.
    pub fn must_agree(&self, thread: &ThreadId, of: ProcessNo, company: &Company) -> bool {
        let ever = self.circles.ever(thread).into_iter().chain(company.people.iter().copied());
        !self.is_over_with_founder(thread, of, company) && !self.excuses.among(ever, Conduct::Hostile)
    }

    /// Whether the owner of a device has ended it, or they with the owner, with who made a thread, with an admin of a group or with
    /// the only other in it: what invited the device to it may be refused, and is on whoever had followed it before.
    pub fn is_over_with_founder(&self, thread: &ThreadId, of: ProcessNo, company: &Company) -> bool {
        let Company { founder, people } = company;
        let of = self.twins.owner(of);
        let others = people.iter().copied().filter(|_| people.len() == 2);
        let inviters = founder.iter().copied().chain(self.circles.admins(thread));
        inviters.chain(others).any(|one| self.consent.is_over(of, one))
    }
}
