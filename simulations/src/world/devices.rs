//! Devices: somebody takes a second device in, uses both, and may take it off again.
//! Owns: how far each of them has come, and what its owner does with it.
//! Never: looks into a node for what it decides; its owner sees what a display shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::api::{self, Command};
use whimbrel_node::views::{self, Page};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, MessageId, ThreadId};
use whimbrel_storage::Reads;

use super::build::BuildError;
use super::coming::Progress;
use super::node::NodeProcess;
use super::people::{AGAIN, Asked, text};
use super::{Event, HISTORY_MAX, Person, Process, TRACED_SHOWN, World};
use crate::engine::{Entity, Time};
use crate::faults::{Kind, Plan, Target};
use crate::judge::CONVERGE_MAX;
use crate::net::{Access, Nat, ProcessNo};

/// The index of somebody's first second device.
const FIRST_SECOND: u32 = 1;

/// A second device of somebody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    pub(super) owner: ProcessNo,
    pub(super) device: ProcessNo,
    /// Which device of the account it is: they come in the order they were made.
    pub(super) index: DeviceIndex,
    pub(super) stage: Stage,
    /// When its owner takes it off again.
    pub(super) until: Option<Time>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It does not run yet.
    Apart,
    /// It waits at the relay, or is on its way there.
    Coming,
    /// Its owner's first device was told its code.
    Approving,
    /// It is one of the account's.
    Linked,
    /// Its owner takes it off.
    Revoking,
    /// It is none any more, by the first device's word.
    Revoked(Time),
}

impl World {
    /// Makes the second devices that a plan has people take in, in its order. They do not run yet.
    ///
    /// # Errors
    /// A device cannot be made.
    pub(super) fn equip(&mut self, plan: &Plan) -> Result<(), BuildError> {
        for fault in &plan.faults {
            if let Kind::AddDevice { node } = fault.kind
                && let Some(owner) = self.process(&Target::Node(node))
            {
                self.second(owner).map_err(BuildError)?;
            }
        }
        Ok(())
    }

    /// Somebody takes their second device in.
    pub(super) fn add_device(&mut self, owner: ProcessNo) {
        let apart = |second: &Second| second.owner == owner && second.stage == Stage::Apart;
        if let Some(number) = self.seconds.iter().position(apart) {
            self.device(number);
        }
    }

    /// Somebody takes their second device off again, as soon as that can be.
    pub(super) fn remove_device(&mut self, owner: ProcessNo) {
        let now = self.engine.now();
        if let Some(second) = self.seconds.iter_mut().rfind(|second| second.owner == owner) {
            second.until = Some(now);
        }
    }

    /// The relays of somebody and of those they are to meet.
    fn relays_near(&self, who: ProcessNo) -> BTreeSet<ProcessNo> {
        let others = self.pairs.iter().filter_map(|pair| pair.other_than(who));
        others.chain([who]).filter_map(|one| self.node(one).map(|node| node.home)).collect()
    }

    /// Whether a fault cuts one of these relays off from anybody.
    fn cuts_off(&self, kind: &Kind, relays: &BTreeSet<ProcessNo>) -> bool {
        matches!(kind, Kind::Partition { .. } | Kind::Offline { .. })
            && kind.targets().iter().filter_map(|target| self.process(target)).any(|one| relays.contains(&one))
    }

    /// Whether one of the relays near somebody is cut off now.
    fn cut_off_near(&self, who: ProcessNo) -> bool {
        let near = self.relays_near(who);
        self.lasting_faults().any(|kind| self.cuts_off(kind, &near))
    }

    /// A second device of somebody, which does not run yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn second(&mut self, owner: ProcessNo) -> Result<usize, String> {
        let no = self.processes.len() as ProcessNo;
        let first = self.node(owner).ok_or("nobody's device")?;
        let (account, home) = (first.account, first.home);
        let relay = self.relays().find(|relay| relay.no == home).map(|relay| relay.link()).ok_or("no relay")?;
        let mut node = self.node(owner).map(|first| NodeProcess::second(no, first, relay)).ok_or("nobody's device")?;
        node.clock = self.clock_of(no);
        let stream = |purpose| self.seed.stream(Entity::Process(no), purpose);
        let (rate, mut network) = (crate::scenario::Rate { bits: 1_000_000 }, stream("network"));
        let latency = network.between(Duration::from_millis(5), Duration::from_millis(40));
        self.net.add(Access { latency, up: rate, down: rate, loss: 0.0, region: None, nat: Nat::Open }, network);
        let person = Person {
            habit: stream("habit"),
            afterthoughts: stream("afterthoughts"),
            comings: stream("comings"),
            churn: self.person_of(owner).and_then(|person| person.churn.clone()),
            threads: Vec::new(),
            groups: Vec::new(),
            circles: Vec::new(),
            asked: Vec::new(),
            #[cfg(test)]
            about: Vec::new(),
        };
        self.processes.push(Process::Node(Box::new(node), Box::new(person)));
        let number = self.seconds.len();
        let before = self.seconds.iter().filter(|second| second.owner == owner).count() as u32;
        let index = DeviceIndex::new(FIRST_SECOND + before);
        self.seconds.push(Second { owner, device: no, index, stage: Stage::Apart, until: None });
        self.ledger.twin(no, owner, DeviceId { account, index });
        Ok(number)
    }

    /// Whose second device it is.
    pub(super) fn owner_of(&self, device: ProcessNo) -> Option<ProcessNo> {
        self.seconds.iter().find(|second| second.device == device).map(|second| second.owner)
    }

    /// A second device comes a step further.
    pub(super) fn device(&mut self, number: usize) {
        let Some(Second { owner, device, index, stage, until }) = self.seconds.get(number).copied() else { return };
        match stage {
            Stage::Apart => {
                self.stage(number, Stage::Coming);
                self.start(device);
            }
            Stage::Coming if !self.is_running(device) => self.start(device),
            Stage::Coming if self.is_changing(owner) => {}
            Stage::Coming => match self.node(device).map(|node| (node.progress(), node.code())) {
                // What was approved before came about after all.
                _ if self.is_listed(owner, index) == Some(true) => {
                    self.stage(number, Stage::Approving);
                    return self.linked(number);
                }
                Some((Some(Progress::Waits), Some(code))) if self.is_awake(owner) => {
                    self.stage(number, Stage::Approving);
                    let command = Command::ApproveDevice { code, limited: false };
                    return self.command(owner, command, Asked::Approve(number));
                }
                Some((Some(Progress::Over), _)) => self.begin_again(number),
                _ => {}
            },
            Stage::Approving => {
                // The answer was lost, or says that nobody knows: whether it came about the owner sees on the list. It never
                // will where the first device has nothing to hand in, and is asked no more.
                let (extending, asked) = (self.is_changing(owner), self.is_asked(owner, number));
                let there = self.node(device).filter(|node| node.is_alive());
                match (self.is_listed(owner, index), there.map(NodeProcess::progress)) {
                    (Some(true), _) => return self.linked(number),
                    // Or it died with what it was granted, and never will hear that it holds.
                    (Some(false), Some(None | Some(Progress::Over))) if !extending && !asked => {
                        self.begin_again(number)
                    }
                    (Some(false), Some(Some(Progress::Waits))) => self.stage(number, Stage::Coming),
                    _ => {}
                }
            }
            Stage::Linked => {
                // Whoever lost the other one before they were told runs it again.
                let progress = self.node(device).and_then(NodeProcess::progress);
                if progress == Some(Progress::Over) {
                    self.stop(device);
                    self.start(device);
                }
                let over = until.is_some_and(|until| until <= self.engine.now());
                return match (self.lively, over && self.is_awake(owner)) {
                    (false, _) if progress.is_some() => self.engine.after(AGAIN, Event::Device { device: number }),
                    (false, _) => {}
                    (true, true) => self.take_off(number),
                    (true, false) => self.speak_from(number, owner, device),
                };
            }
            Stage::Revoking if !self.is_asked(owner, number) => return self.taken_off(number, false),
            Stage::Revoking | Stage::Revoked(_) => return,
        }
        self.engine.after(AGAIN, Event::Device { device: number });
    }

    /// Whether somebody's first device is still to answer whether it takes a second one in, or off.
    fn is_asked(&self, owner: ProcessNo, number: usize) -> bool {
        let Some(Process::Node(_, person)) = self.processes.get(owner as usize) else { return false };
        person
            .asked
            .iter()
            .any(|(_, asked)| matches!(asked, Asked::Approve(one) | Asked::TakeOff(one) if *one == number))
    }

    /// Whether somebody has that device, by the one they had first.
    fn is_listed(&self, owner: ProcessNo, index: DeviceIndex) -> Option<bool> {
        let devices = views::devices(self.node(owner).and_then(NodeProcess::reads)?);
        devices.ok().map(|devices| devices.iter().any(|device| device.index == index))
    }

    fn stage(&mut self, number: usize, stage: Stage) {
        if let Some(second) = self.seconds.get_mut(number) {
            second.stage = stage;
        }
    }

    /// Nothing came of it: another code, and nothing kept.
    fn begin_again(&mut self, number: usize) {
        let Some(device) = self.seconds.get(number).map(|second| second.device) else { return };
        self.stop(device);
        if let Some(Process::Node(node, _)) = self.processes.get_mut(device as usize) {
            node.wipe();
        }
        // Its disk is as slow as what lasts makes it.
        self.bear(device);
        self.stage(number, Stage::Apart);
    }

    fn linked(&mut self, number: usize) {
        let owner =
            self.seconds.get(number).filter(|second| second.stage == Stage::Approving).map(|second| second.owner);
        if owner.is_some() {
            self.struck.linked += 1;
            self.leaves_in_its_turn(number);
        }
        self.struck.linked_apart += u64::from(owner.is_some_and(|owner| self.cut_off_near(owner)));
        self.stage(number, Stage::Linked);
        self.engine.after(AGAIN, Event::Device { device: number });
    }

    /// It comes and goes like its owner's other one.
    fn leaves_in_its_turn(&mut self, number: usize) {
        let Some(device) = self.seconds.get(number).map(|second| second.device) else { return };
        let Some(person) = self.person_mut(device) else { return };
        if let Some(churn) = person.churn.clone() {
            let online = person.comings.weibull(churn.online.0, churn.shape);
            self.engine.after(online, Event::Leave { who: device });
        }
    }

    /// Its owner writes from it to somebody, and plans the next time.
    fn speak_from(&mut self, number: usize, owner: ProcessNo, device: ProcessNo) {
        let every = self.workload.every.0;
        let Some(person) = self.person_mut(device) else { return };
        let (next, to) = (person.habit.exponential(every), person.habit.bits());
        self.engine.after(next, Event::Device { device: number });
        let threads = self.person_mut(owner).map(|person| person.threads.clone()).unwrap_or_default();
        let chosen = usize::try_from(to).ok().and_then(|to| to.checked_rem(threads.len()));
        let Some((to, thread)) = chosen.and_then(|chosen| threads.get(chosen)).copied() else { return };
        let open = |reads| {
            views::thread(reads, &thread).ok().flatten().is_some_and(|one| one.standing == views::Standing::Open)
        };
        if self.is_running(device) && self.node(device).and_then(NodeProcess::reads).is_some_and(open) {
            self.spoken += 1;
            let text = text(self.ledger.canaries().mark(), self.spoken, 40);
            self.write_from(device, owner, vec![to], thread, text);
        }
    }

    /// Second devices that are of their accounts.
    pub(super) fn linked_seconds(&self) -> Vec<ProcessNo> {
        self.seconds.iter().filter(|one| one.stage == Stage::Linked).map(|one| one.device).collect()
    }

    /// What comes from a sibling is not told as news: their owners look.
    pub(super) fn look_at_seconds(&mut self) {
        let now = self.engine.now();
        for device in self.linked_seconds() {
            self.look_at_second(device);
            let owner = self.owner_of(device).unwrap_or(device);
            let lines = self.node(owner).and_then(NodeProcess::reads).and_then(|reads| history(reads).ok());
            self.give(owner, lines.unwrap_or_default().iter().map(|line| line.message), now);
        }
    }

    /// What stands on somebody's first device; but of what is about to be told it, that is waited for.
    fn give(&mut self, owner: ProcessNo, lines: impl IntoIterator<Item = MessageId>, now: Time) {
        let coming = self.node(owner).map(NodeProcess::about_to_show).unwrap_or_default();
        for message in lines.into_iter().filter(|message| !coming.contains(message)) {
            self.ledger.given(owner, &message, now);
        }
    }

    /// What a device was given by a sibling it did not show as news: on which devices of people with two a message that
    /// concerns them is. Says whether all of these could be looked at.
    pub(super) fn look_for(&mut self, author: ProcessNo, message: &MessageId) -> bool {
        let Some(account) = self.node(author).map(|node| node.account) else { return false };
        let mut all = true;
        let theirs = |second: &&Second| self.node(second.owner).is_some_and(|first| first.account == account);
        let theirs = self.seconds.iter().filter(theirs).map(|second| second.index);
        let from = [DeviceIndex::FIRST].into_iter().chain(theirs).map(|index| DeviceId { account, index });
        let from: Vec<_> = from.collect();
        let now = self.engine.now();
        for Second { owner, device, .. } in self.seconds.clone() {
            if !self.ledger.concerns(message, owner) {
                continue;
            }
            let reads = self.node(device).and_then(NodeProcess::reads);
            all = all && reads.is_some();
            let here = |reads| from.iter().any(|from| matches!(views::is_here(reads, message, from), Ok(true)));
            let on_second = reads.is_some_and(here);
            let on_first = self.node(owner).and_then(NodeProcess::reads).is_some_and(here);
            if on_second {
                self.ledger.twin_holds(device, message);
            }
            if on_first {
                self.give(owner, [*message], now);
            }
        }
        all
    }

    /// Whether something that stands on one device of somebody has not come to the other, or a device is still on its way.
    pub(super) fn seconds_lack(&self) -> bool {
        self.seconds.iter().any(|second| match second.stage {
            // Whoever had no time to begin need not end.
            Stage::Apart | Stage::Revoked(_) => false,
            Stage::Coming | Stage::Approving | Stage::Revoking => true,
            Stage::Linked => {
                let reads = |who| self.node(who).and_then(NodeProcess::reads);
                let (Some(first), Some(other)) = (reads(second.owner), reads(second.device)) else { return true };
                let whole = matches!(views::history(other), Ok(None));
                !whole
                    || history(first).is_ok_and(|lines| self.ledger.twin_lacks(second.device, &lines))
                    || !self.alike(second.owner, first, other)
            }
        })
    }

    /// Lets time pass until no second device is being given what was said by one that is there, or for three minutes at most: what
    /// came late is asked for two seconds later.
    pub(super) fn await_second_devices(&mut self) {
        let takes_in = |world: &Self| {
            world.seconds.iter().filter(|second| second.stage == Stage::Linked).any(|second| {
                let reads = |who| world.node(who).and_then(NodeProcess::reads);
                let there = reads(second.owner).is_some();
                there && reads(second.device).is_some_and(|other| matches!(views::history(other), Ok(Some(_))))
            })
        };
        let bound = self.engine.now().plus(CONVERGE_MAX);
        while self.engine.now() < bound && takes_in(self) {
            self.run_for(Duration::from_secs(1));
        }
    }

    /// Whether two devices hold the same, but for threads that may not change any more: one may not have come into those.
    /// Nor for one that a device was never in because it was over with those people when it came to the invitation, which the
    /// other had followed before: what is over is not followed any more.
    fn alike(&self, owner: ProcessNo, first: &dyn Reads, other: &dyn Reads) -> bool {
        let held = |reads| held(reads, |thread| self.ledger.may_stand_still(&thread.thread, &thread.people));
        let (Ok(mut one), Ok(mut two)) = (held(first), held(other)) else { return false };
        let refused = |thread: &ThreadId, there: &dyn Reads, here: &dyn Reads| {
            let place = |reads| views::memberships(reads).ok()?.into_iter().find(|at| at.thread == *thread);
            place(here).is_none()
                && place(there).is_some_and(|at| self.ledger.is_over_with_founder(thread, owner, &self.company([&at])))
        };
        let (here, there) = (two.2.clone(), one.2.clone());
        one.2.retain(|thread, _| here.contains_key(thread) || !refused(thread, first, other));
        two.2.retain(|thread, _| there.contains_key(thread) || !refused(thread, other, first));
        one == two
    }

    /// All is whole: everybody has heard by now which devices are none any more.
    pub(super) fn seconds_are_out(&mut self) {
        let now = self.engine.now();
        let out: Vec<_> =
            self.seconds.iter().filter(|one| matches!(one.stage, Stage::Revoked(_))).map(|one| one.device).collect();
        out.into_iter().for_each(|device| self.ledger.twin_is_out(device, now));
    }

    /// The first device answered.
    pub(super) fn approved(&mut self, number: usize, done: bool) {
        match done {
            true => self.linked(number),
            false => self.engine.after(AGAIN, Event::Device { device: number }),
        }
    }

    /// The owner takes it off the account.
    pub(super) fn take_off(&mut self, number: usize) {
        let Some(Second { owner, index, .. }) = self.seconds.get(number).copied() else { return };
        self.stage(number, Stage::Revoking);
        self.command(owner, Command::RevokeDevice(index), Asked::TakeOff(number));
    }

    /// The first device answered to that.
    pub(super) fn taken_off(&mut self, number: usize, done: bool) {
        let now = self.engine.now();
        let Some(Second { owner, index, .. }) = self.seconds.get(number).copied() else { return };
        // Its node may have died with the answer, or be about to hand the change in once more.
        match (done || self.is_listed(owner, index) == Some(false), self.is_changing(owner)) {
            (true, _) => {
                self.struck.revoked += 1;
                self.struck.revoked_apart += u64::from(self.cut_off_near(owner));
                self.stage(number, Stage::Revoked(now));
            }
            (false, true) => self.engine.after(AGAIN, Event::Device { device: number }),
            (false, false) => self.linked(number),
        }
    }

    /// Whether somebody's account log is about to grow, or their first device cannot say.
    fn is_changing(&self, owner: ProcessNo) -> bool {
        let reads = self.node(owner).and_then(NodeProcess::reads);
        reads.and_then(|reads| views::account(reads).ok()).is_none_or(|one| one.extending)
    }

    /// A second device tells its owner something.
    pub(super) fn told_on_second(&mut self, device: ProcessNo, event: &api::Event) {
        match event {
            api::Event::Shown(message) => {
                let words =
                    message.message.as_bytes().iter().fold(0, |sum: u64, byte| sum << 8 ^ sum >> 56 ^ u64::from(*byte));
                self.engine.trace.feed(self.engine.now(), device, TRACED_SHOWN, words);
                self.ledger.shown_on_twin(device, message);
            }
            // A device that is taken off its account fails.
            api::Event::State { message, state: api::State::Failed(_), .. } if self.goes(device) => {
                self.ledger.failed_on_twin(message);
            }
            api::Event::State { message, state: api::State::Failed(code), .. } => self.ledger.failed(message, *code),
            _ => {}
        }
    }

    /// Whether a second device is being taken off its account, or was.
    pub(super) fn goes(&self, device: ProcessNo) -> bool {
        let of = self.seconds.iter().find(|second| second.device == device);
        of.is_some_and(|second| matches!(second.stage, Stage::Revoking | Stage::Revoked(_)))
    }

    /// Its owner looks at it.
    pub(super) fn look_at_second(&mut self, device: ProcessNo) {
        let Some(reads) = self.node(device).and_then(NodeProcess::reads) else { return };
        let Ok(lines) = history(reads) else { return };
        self.ledger.twin_history(device, &lines);
    }

    /// When all was whole again: whatever stands on one device of somebody stands on the other, and no thread has a leaf
    /// that its account does not name.
    pub(super) fn compare_seconds(&mut self) {
        for number in 0..self.seconds.len() {
            let Some(Second { owner, device, index, stage, .. }) = self.seconds.get(number).copied() else { continue };
            if let Stage::Revoked(_) = stage {
                let account = self.node(owner).map(|node| node.account);
                let gone = account.map(|account| DeviceId { account, index });
                for who in self.nodes.clone() {
                    let Some(reads) = self.node(who).and_then(NodeProcess::reads) else { continue };
                    let Ok(threads) = views::threads(reads) else { continue };
                    let open = |thread: &&views::Thread| {
                        let stands = self.ledger.may_stand_still(&thread.thread, &thread.people);
                        thread.standing == views::Standing::Open && !stands
                    };
                    let with = |thread: &views::Thread| {
                        views::leaves(reads, &thread.thread)
                            .is_ok_and(|leaves| gone.is_some_and(|one| leaves.contains(&one)))
                    };
                    // The thread that the devices have among themselves is on no list.
                    let among = views::find_thread(reads, &[]).ok().flatten().filter(|_| who == owner);
                    let stays = among.and_then(|among| views::leaves(reads, &among).ok());
                    let stays = stays.is_some_and(|leaves| gone.is_some_and(|one| leaves.contains(&one)));
                    if stays || threads.iter().filter(open).any(with) {
                        self.ledger.stays(device, who);
                    }
                }
                continue;
            }
            if stage == Stage::Apart {
                continue;
            }
            let other = self.node(device).and_then(NodeProcess::reads);
            if stage != Stage::Linked || !other.is_some_and(|other| matches!(views::history(other), Ok(None))) {
                self.ledger.unfinished(device);
                continue;
            }
            self.look_at_second(device);
            let reads = |who| self.node(who).and_then(NodeProcess::reads);
            let (Some(first), Some(other)) = (reads(owner), reads(device)) else { continue };
            let (lines, alike) = (history(first), self.alike(owner, first, other));
            if let Ok(lines) = lines {
                let now = self.engine.now();
                self.give(owner, lines.iter().map(|line| line.message), now);
                self.ledger.compare_twin(device, &lines);
            }
            if !alike {
                self.ledger.unlike(device);
            }
        }
    }

    /// Somebody links a second device; returns when it has what was said before.
    ///
    /// # Panics
    /// It does not come to that.
    #[cfg(test)]
    pub fn link_device(&mut self, owner: ProcessNo) -> ProcessNo {
        let number = self.second(owner).unwrap_or_else(|why| unreachable!("no second device: {why}"));
        self.device(number);
        let device = self.seconds.get(number).map_or(0, |second| second.device);
        let whole = |world: &Self| {
            let linked = world.seconds.get(number).is_some_and(|second| second.stage == Stage::Linked);
            let reads = world.node(device).and_then(NodeProcess::reads);
            linked
                && reads.is_some_and(|reads| views::account(reads).is_ok() && matches!(views::history(reads), Ok(None)))
        };
        for _ in 0..600 {
            if whole(self) {
                return device;
            }
            self.run_for(Duration::from_secs(1));
        }
        unreachable!("the device of process {owner} did not come: {:?}", self.seconds.get(number))
    }

    /// Somebody writes to a friend from their second device; returns when that has it on its disk.
    ///
    /// # Panics
    /// It is in no thread with them, or does not take it.
    #[cfg(test)]
    pub fn say_from(&mut self, device: ProcessNo, to: ProcessNo, text: &str) {
        let owner = self.owner_of(device).unwrap_or(device);
        let thread = self.thread_between(owner, to);
        let Some(thread) = thread else { unreachable!("process {owner} does not know process {to}") };
        self.write_from(device, owner, vec![to], thread, text.to_owned());
        self.answered_within(device);
    }

    /// Somebody writes from their second device.
    pub(super) fn write_from(
        &mut self,
        device: ProcessNo,
        owner: ProcessNo,
        to: Vec<ProcessNo>,
        thread: ThreadId,
        text: String,
    ) {
        let said = self.ledger.ask(owner, to, text.clone(), self.engine.now());
        self.ledger.from_second(said);
        self.command(device, Command::Send { thread, text }, Asked::SendFrom(said));
    }

    /// The thread in which somebody reaches a friend.
    #[cfg(test)]
    pub(super) fn thread_between(&mut self, who: ProcessNo, to: ProcessNo) -> Option<ThreadId> {
        let person = self.person_mut(who)?;
        person.threads.iter().find(|(other, _)| *other == to).map(|(_, thread)| *thread)
    }

    /// Takes a second device off the account; returns when the first one says that it is done.
    ///
    /// # Panics
    /// There is none, or it is not done.
    #[cfg(test)]
    pub fn revoke_device(&mut self, device: ProcessNo) {
        let number = self.seconds.iter().position(|second| second.device == device);
        let Some(number) = number else { unreachable!("process {device} is no second device") };
        self.take_off(number);
        let owner = self.seconds.get(number).map_or(0, |second| second.owner);
        self.answered_within(owner);
        let stage = self.seconds.get(number).map(|second| second.stage);
        assert!(matches!(stage, Some(Stage::Revoked(_))), "{stage:?}");
    }
}

/// What the devices of an account hold together, as displays show it: who is a contact, with what mark; who is kept away; what
/// groups are called.
type Held = (BTreeSet<(AccountId, bool)>, BTreeSet<AccountId>, BTreeMap<ThreadId, Option<String>>);

fn held(reads: &dyn Reads, but: impl Fn(&views::Thread) -> bool) -> Result<Held, whimbrel_storage::StorageError> {
    let contacts = views::contacts(reads)?.into_iter();
    let contacts = contacts.map(|one| (one.account, one.trust == views::Trust::Verified)).collect();
    let away = views::friends(reads)?.into_iter().filter(|one| one.friendship == views::Friendship::Blocked);
    let open = views::threads(reads)?.into_iter().filter(|one| one.standing == views::Standing::Open && !but(one));
    Ok((contacts, away.map(|one| one.account).collect(), open.map(|one| (one.thread, one.title)).collect()))
}

/// All that a device shows.
fn history(reads: &dyn Reads) -> Result<Vec<whimbrel_node::api::Message>, whimbrel_storage::StorageError> {
    let mut all = Vec::new();
    for thread in views::threads(reads)? {
        let lines = views::messages(reads, &thread.thread, Page::Oldest, HISTORY_MAX)?;
        all.extend(lines.into_iter().map(|line| line.message));
    }
    Ok(all)
}
