//! Circles: groups whose members change.
//! Owns: when a group is made, whom its admins take in and out, who becomes one, who asks to leave or renews keys.
//! Never: tells the judge what a node thinks, but for who is in a group, once everything has healed.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_node::api::Command;
use whimbrel_node::views::{self, Standing};
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::policy::PolicyChange;

use super::people::{Asked, INVITE_HOLDS, text};
use super::{Event, Process, World};
use crate::engine::Stream;
use crate::net::ProcessNo;

/// Mean time between two changes of one group.
const CHANGES: Duration = Duration::from_secs(45);

/// A group whose members change.
#[derive(Debug)]
pub(super) struct Circle {
    /// Who makes it, and is an admin to the end.
    pub(super) admin: ProcessNo,
    /// Whom the admins may take in.
    pub(super) pool: Vec<ProcessNo>,
    /// Whom an admin was ever told to take in.
    pub(super) meant: BTreeSet<ProcessNo>,
    /// Who was given a link into it. Nobody takes them out: when they come by it is their own affair.
    pub(super) linked: BTreeSet<ProcessNo>,
    pub(super) thread: Option<ThreadId>,
    pub(super) stream: Stream,
}

impl World {
    /// A group moves on: it is made, or changes.
    pub(super) fn change(&mut self, number: usize) {
        if !self.lively {
            return;
        }
        let Some(circle) = self.circles.get_mut(number) else { return };
        let next = circle.stream.exponential(CHANGES);
        let (what, pick) = (circle.stream.below(100), circle.stream.bits() as usize);
        let (admin, pool, thread) = (circle.admin, circle.pool.clone(), circle.thread);
        self.engine.after(next, Event::Change { circle: number });
        let busy = |asked: &Asked| asked.circle() == Some(number);
        if self.person_mut(admin).is_none_or(|person| person.asked.iter().any(|(_, asked)| busy(asked))) {
            return;
        }
        let Some(thread) = thread else {
            let known = pool.into_iter().filter(|one| self.can_write(admin, *one));
            let first: Vec<_> = known.take(3).collect();
            if self.is_awake(admin) && first.len() >= 2 {
                self.form(number, admin, &first);
            }
            return;
        };
        // Some of what admins do another does, where there is one by their own word, who has nothing to wait for.
        let also = self.also_admin(number, thread).filter(|_| pick % 3 == 0);
        let by = also.unwrap_or(admin);
        let known: Vec<_> = pool.into_iter().filter(|one| self.can_write(by, *one)).collect();
        let members = self.ledger.circle(&thread, admin);
        let others: Vec<_> = members.iter().copied().filter(|one| *one != admin).collect();
        let others_of: Vec<_> = others.iter().copied().filter(|one| *one != by).collect();
        let linked = self.circles.get(number).map(|circle| circle.linked.clone()).unwrap_or_default();
        let removable: Vec<_> = others_of.iter().copied().filter(|one| !linked.contains(one)).collect();
        let strangers: Vec<_> = known.into_iter().filter(|one| !members.contains(one)).collect();
        let at = |of: &[ProcessNo]| pick.checked_rem(of.len()).and_then(|at| of.get(at)).copied();
        match what {
            0..45 if self.is_awake(by) => {
                if let Some(one) = at(&strangers).filter(|_| what % 5 == 1) {
                    self.give_link(number, thread, by, one);
                } else if let Some(one) = at(&strangers) {
                    // Often against somebody else's commit: one of the two loses, and only the winner's Welcome may count.
                    if what % 3 == 0
                        && let Some(rival) = at(&others_of).filter(|rival| self.is_awake(*rival))
                    {
                        self.command(rival, Command::RenewKeys { thread }, Asked::Change(number));
                    }
                    self.take_in(number, thread, by, &[one]);
                }
            }
            45..70 if self.is_awake(by) && others_of.len() > 2 => {
                if let Some(one) = at(&removable) {
                    self.take_out(number, thread, by, one);
                }
            }
            70..80 if others.len() > 2 => {
                if let Some(one) = at(&others).filter(|one| self.is_running(*one)) {
                    self.ask_out(number, thread, one);
                }
            }
            80..86 if self.is_awake(admin) => {
                if let Some(one) = at(&others) {
                    self.give_role(number, thread, admin, one);
                }
            }
            // A commit of somebody else's, for the admin's to meet.
            _ => {
                if let Some(one) = at(&others).filter(|one| self.is_awake(*one)) {
                    self.command(one, Command::RenewKeys { thread }, Asked::Change(number));
                }
            }
        }
    }

    pub(super) fn form(&mut self, number: usize, admin: ProcessNo, people: &[ProcessNo]) {
        let everybody: Vec<_> = people.iter().copied().chain([admin]).collect();
        self.acquaint_all(&everybody);
        let people = self.accounts(people);
        let title = format!("{} circle {number}", self.ledger.canaries().mark());
        self.command(admin, Command::CreateGroup { title, people }, Asked::Form(number));
    }

    /// Somebody else whom their own node takes for an admin of a group, awake, with nothing to wait for in it.
    fn also_admin(&self, number: usize, thread: ThreadId) -> Option<ProcessNo> {
        let admin = self.circles.get(number)?.admin;
        let is_free = |one: &ProcessNo| {
            let waits = self.person_of(*one)?.asked.iter().any(|(_, asked)| asked.circle() == Some(number));
            let view = views::thread(self.node(*one)?.reads()?, &thread).ok()??;
            let rules = view.standing == Standing::Open && view.policy?.is_admin(&self.node(*one)?.account);
            (rules && !waits).then_some(())
        };
        let others = self.ledger.circle(&thread, admin).into_iter().filter(|one| *one != admin);
        others.filter(|one| self.is_awake(*one)).find(|one| is_free(one).is_some())
    }

    /// Makes a member an admin, or an admin a member, by what the asker's node takes them for.
    pub(super) fn give_role(&mut self, number: usize, thread: ThreadId, by: ProcessNo, one: ProcessNo) {
        let view = self.node(by).and_then(|node| node.reads()).and_then(|reads| views::thread(reads, &thread).ok()?);
        let Some(policy) = view.and_then(|view| view.policy) else { return };
        let people = self.accounts(&[one]);
        let change = match people.iter().any(|account| policy.is_admin(account)) {
            true => PolicyChange { members: people, ..PolicyChange::default() },
            false => {
                self.ledger.may_be_admin(thread, one);
                PolicyChange { admins: people, ..PolicyChange::default() }
            }
        };
        self.command(by, Command::SetPolicy { thread, change }, Asked::Role(number));
    }

    /// An admin takes people in.
    pub(super) fn take_in(&mut self, number: usize, thread: ThreadId, by: ProcessNo, people: &[ProcessNo]) {
        let Some(circle) = self.circles.get_mut(number) else { return };
        circle.meant.extend(people);
        self.acquaint_circle(thread);
        people.iter().for_each(|one| self.ledger.taken(&thread, *one, false));
        let people = self.accounts(people);
        self.command(by, Command::AddMembers { thread, people }, Asked::Change(number));
    }

    /// An admin makes a link into a group, for somebody to come by it.
    pub(super) fn give_link(&mut self, number: usize, thread: ThreadId, by: ProcessNo, one: ProcessNo) {
        let Some(circle) = self.circles.get_mut(number) else { return };
        circle.meant.insert(one);
        circle.linked.insert(one);
        self.acquaint_circle(thread);
        self.ledger.taken(&thread, one, false);
        let command = Command::NewInvite { uses: 1, holds: INVITE_HOLDS, group: Some(thread) };
        self.command(by, command, Asked::Link(number, one));
    }

    /// The link is there, and is followed.
    pub(super) fn follow_link(&mut self, number: usize, one: ProcessNo, link: Invite) {
        if self.is_running(one) {
            self.struck.links += 1;
            self.command(one, Command::AcceptInvite(link), Asked::Follow(number));
        }
    }

    /// An admin takes somebody out.
    pub(super) fn take_out(&mut self, number: usize, thread: ThreadId, by: ProcessNo, one: ProcessNo) {
        self.ledger.out(&thread, one);
        let people = self.accounts(&[one]);
        self.command(by, Command::RemoveMembers { thread, people }, Asked::TakeOut(number, thread, one));
    }

    /// Somebody asks to be taken out.
    pub(super) fn ask_out(&mut self, number: usize, thread: ThreadId, one: ProcessNo) {
        self.ledger.out(&thread, one);
        self.command(one, Command::LeaveGroup { thread }, Asked::Change(number));
    }

    /// Whoever was in a group or is meant to be finds the others there: two may be taken in at once, by two admins, and one who
    /// made two groups at once may be taken for the maker of one of them twice.
    fn acquaint_circle(&mut self, thread: ThreadId) {
        let of_it = self.circles.iter().filter(|circle| circle.thread == Some(thread));
        let meant = of_it.flat_map(|circle| circle.meant.iter().copied());
        let everybody: BTreeSet<_> = self.ledger.circle_ever(&thread).iter().copied().chain(meant).collect();
        self.acquaint_all(&everybody.into_iter().collect::<Vec<_>>());
    }

    fn acquaint_all(&mut self, people: &[ProcessNo]) {
        for (n, one) in people.iter().enumerate() {
            people.iter().skip(n + 1).for_each(|other| self.ledger.introduced(*one, *other));
        }
    }

    fn accounts(&self, people: &[ProcessNo]) -> Vec<AccountId> {
        people.iter().filter_map(|one| self.node(*one)).map(|node| node.account).collect()
    }

    /// Somebody is told of a group they are in. Says whether it is one that changes.
    pub(super) fn told_of_circle(&mut self, no: ProcessNo, thread: ThreadId, everybody: &BTreeSet<ProcessNo>) -> bool {
        let view = self.node(no).and_then(|node| node.reads()).and_then(|reads| views::thread(reads, &thread).ok()?);
        let Some(admin) = view.and_then(|view| view.founder) else { return false };
        self.ledger.in_circle(thread, no, everybody.clone());
        let admin = self.ledger.process_of(&admin);
        if let Some(admin) = admin {
            self.ledger.may_be_admin(thread, admin);
        }
        if let Some(circle) = self.circles.iter_mut().find(|one| Some(one.admin) == admin && one.thread.is_none()) {
            circle.thread = Some(thread);
            self.struck.circles += 1;
        }
        if let Some(person) = self.person_mut(no)
            && !person.circles.contains(&thread)
        {
            person.circles.push(thread);
        }
        true
    }

    /// A person whose node starts looks who is in their groups: it may have died before it could say.
    pub(super) fn look_at_circles(&mut self, who: ProcessNo) {
        let Some(node) = self.node(who) else { return };
        let threads = node.reads().and_then(|reads| views::threads(reads).ok()).unwrap_or_default();
        for view in threads.into_iter().filter(|view| view.founder.is_some() && view.standing != Standing::Opening) {
            let others: Vec<_> = view.people.iter().filter_map(|account| self.ledger.process_of(account)).collect();
            match view.standing {
                Standing::Left => self.ledger.left_circle(&view.thread, who),
                _ => {
                    self.told_of_circle(who, view.thread, &others.into_iter().chain([who]).collect());
                }
            }
        }
    }

    /// The admin's node made a group.
    pub(super) fn formed(&mut self, number: usize, admin: ProcessNo, thread: ThreadId) {
        if let Some(circle) = self.circles.get_mut(number) {
            self.struck.circles += u64::from(circle.thread.replace(thread).is_none());
        }
        self.ledger.may_be_admin(thread, admin);
        // Its people are told with the opening; the admin may write at once.
        let view =
            self.node(admin).and_then(|node| node.reads()).and_then(|reads| views::thread(reads, &thread).ok()?);
        let people = view.map(|view| view.people).unwrap_or_default();
        let others = people.iter().filter_map(|account| self.ledger.process_of(account));
        let everybody: BTreeSet<_> = others.chain([admin]).collect();
        self.told_of_circle(admin, thread, &everybody);
    }

    /// Somebody writes a text to a group that changes.
    pub(super) fn write_to_circle(&mut self, who: ProcessNo, thread: ThreadId, text: String) {
        let said = self.ledger.ask_circle(who, thread, text.clone(), self.engine.now());
        self.command(who, Command::Send { thread, text }, Asked::Send(said));
    }

    /// The same, with a text nobody says twice.
    pub(super) fn say_something(&mut self, who: ProcessNo, thread: ThreadId, length: usize) {
        self.spoken += 1;
        let text = text(self.ledger.canaries().mark(), self.spoken, length);
        self.write_to_circle(who, thread, text);
    }

    /// All has healed: the admin of each group, and one of its members, renew their keys. A group that says what it likes and can
    /// change no more would not be seen.
    pub(super) fn change_once_more(&mut self) {
        let circles: Vec<_> = self.circles.iter().map(|circle| (circle.admin, circle.thread)).collect();
        for (number, (admin, thread)) in circles.into_iter().enumerate() {
            let Some(thread) = thread else { continue };
            let members = self.ledger.circle(&thread, admin);
            let other = members.iter().copied().find(|one| *one != admin && self.is_awake(*one));
            for one in [Some(admin).filter(|one| members.contains(one)), other].into_iter().flatten() {
                self.renewals.insert((number, one));
            }
        }
        self.ask_for_renewals();
    }

    /// Whoever is to renew, and has no answer to wait for, asks: again where it came to nothing.
    pub(super) fn ask_for_renewals(&mut self) {
        for (number, one) in self.renewals.clone() {
            let Some(thread) = self.circles.get(number).and_then(|circle| circle.thread) else { continue };
            // Whoever has come to be out of it renews nothing there.
            if !self.ledger.circle(&thread, one).contains(&one) {
                self.renewals.remove(&(number, one));
                continue;
            }
            let waits = self.person_of(one).is_some_and(|person| {
                person.asked.iter().any(|(_, asked)| matches!(asked, Asked::Change(of) if *of == number))
            });
            if !waits && self.is_awake(one) {
                self.command(one, Command::RenewKeys { thread }, Asked::Change(number));
            }
        }
    }

    /// A change of a group came about.
    pub(super) fn changed(&mut self, number: usize, who: ProcessNo) {
        self.renewals.remove(&(number, who));
    }

    /// Who asked a node that runs for a change of a group and was told nothing, or could not change it once all had healed,
    /// although nobody can be to blame for it.
    pub(super) fn unchanged(&self) -> Vec<ProcessNo> {
        let waits = |who: &ProcessNo| {
            let Some(Process::Node(node, person)) = self.processes.get(*who as usize) else { return false };
            let mut circles = person.asked.iter().filter_map(|(_, asked)| self.circles.get(asked.circle()?));
            // Whom an admin takes in may be at a relay that hands out no keys.
            let blamed = |Circle { admin, pool, thread, .. }: &Circle| {
                let asks = admin == who || thread.is_some_and(|thread| self.ledger.was_admin(&thread, *who));
                let pool = pool.iter().copied().filter(|_| asks);
                self.ledger.may_not_change(thread.as_ref(), *who, pool.chain([*admin, *who]).collect())
            };
            let stuck = self.renewals.iter().filter(|(_, of)| of == who).filter_map(|(of, _)| self.circles.get(*of));
            let mut stuck = stuck.filter_map(|circle| Some((circle.admin, circle.thread?)));
            let excused = |(admin, thread): (ProcessNo, ThreadId)| {
                self.ledger.may_not_change(Some(&thread), *who, [admin, *who].into())
            };
            node.is_alive() && (circles.any(|circle| !blamed(circle)) || stuck.any(|one| !excused(one)))
        };
        self.nodes.iter().copied().filter(waits).collect()
    }

    /// Once all has healed: nobody is in a group of whom an admin's node said that they are out (P6), nobody is an admin whom no
    /// admin made one (P5), and whoever is in one epoch has one policy (P6).
    pub(super) fn compare_circles(&mut self) {
        let circles: Vec<_> = self.circles.iter().filter_map(|circle| Some((circle.admin, circle.thread?))).collect();
        for (admin, thread) in circles {
            let reads = self.node(admin).and_then(|node| node.reads());
            let Some(view) = reads.and_then(|reads| views::thread(reads, &thread).ok()?) else { continue };
            let people: BTreeSet<_> = view.people.iter().filter_map(|one| self.ledger.process_of(one)).collect();
            for one in self.ledger.gone(&thread).intersection(&people) {
                self.ledger.still_in(&thread, *one, admin);
            }
            let ever = self.ledger.circle_ever(&thread);
            for one in ever {
                let reads = self.node(one).and_then(|node| node.reads());
                let Some(other) = reads.and_then(|reads| views::thread(reads, &thread).ok()?) else { continue };
                let admins = other.policy.iter().flat_map(|policy| &policy.admins);
                let admins: Vec<_> = admins.filter_map(|account| self.ledger.process_of(account)).collect();
                admins.into_iter().for_each(|who| self.ledger.is_admin(&thread, who, one));
                let stamp = |no: ProcessNo| self.node(no).and_then(|node| node.authenticator(thread));
                let together = stamp(one).is_some_and(|own| stamp(admin) == Some(own));
                if together && other.policy != view.policy {
                    self.ledger.ruled_apart(one, admin);
                }
            }
        }
    }
}
