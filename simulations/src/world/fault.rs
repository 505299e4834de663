//! Faults at work: what strikes, and how it is mended.
//! Owns: from a target's name to its process, what each kind does to it, which faults last just now.
//! What several faults do to one process at once is worked out anew from all that last (`bear`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::hostile::{Member, Mischief};
use super::poll::is_polled;
use super::{Event, Process, Time, World};
use crate::engine::Entity;
use crate::faults::{Fault, Keep, Kind, MemberTrick, Point, RelayTrick, Target, Ways};
use crate::net::ProcessNo;

/// How far ahead a hostile member's clock is when it claims extreme times: a hundred years.
const EXTREME_MS: i64 = 100 * 365 * 24 * 3_600 * 1_000;

/// A frame that left needs so long to be past its sender's own access link.
const LEFT: Duration = Duration::from_millis(2);

/// Faults of a world: all there are, and which last just now.
#[derive(Debug, Default)]
pub(super) struct Ailments {
    faults: Vec<Fault>,
    /// Those that last; of a flapping path whether it is out.
    lasting: BTreeMap<usize, bool>,
}

impl World {
    /// Lets a fault strike at its time (now, if that is past), and be mended at its end. Returns its number.
    pub fn plan(&mut self, fault: Fault) -> usize {
        let number = self.faults.faults.len();
        let at = Time::ZERO.plus(fault.at).max(self.engine.now());
        self.engine.at(at, Event::Strike { fault: number });
        if !fault.lasts.is_zero() {
            self.engine.at(at.plus(fault.lasts), Event::Mend { fault: number });
        }
        // Before it turns on anybody, it must know what it told them.
        if matches!(fault.kind, Kind::HostileRelay { .. }) {
            for process in fault.kind.targets().iter().filter_map(|target| self.process(target)).collect::<Vec<_>>() {
                self.turns(process);
            }
        }
        self.faults.faults.push(fault);
        number
    }

    /// A relay may turn on its users, now or later.
    fn turns(&mut self, process: ProcessNo) -> Option<&mut Mischief> {
        match self.processes.get_mut(process as usize)? {
            Process::Relay(relay) => Some(relay.turns()),
            Process::Node(..) => None,
        }
    }

    /// A fault strikes now and lasts until it is mended by [`World::mend`].
    pub fn inflict(&mut self, kind: Kind) -> usize {
        let number = self.faults.faults.len();
        let at = self.engine.now().since(Time::ZERO);
        self.faults.faults.push(Fault { at, lasts: Duration::MAX, kind });
        self.strike(number);
        number
    }

    /// The process a fault names.
    pub fn process(&self, target: &Target) -> Option<ProcessNo> {
        match target {
            Target::Relay(domain) => self.by_domain.get(domain.as_str()).copied(),
            Target::Node(number) => self.nodes.get(*number as usize).copied(),
            Target::Second(number) => {
                let owner = self.nodes.get(*number as usize)?;
                self.seconds.iter().rfind(|second| second.owner == *owner).map(|second| second.device)
            }
        }
    }

    /// How a fault names a process.
    ///
    /// # Panics
    /// There is no such process.
    pub fn target(&self, process: ProcessNo) -> Target {
        match self.processes.get(process as usize) {
            Some(Process::Relay(relay)) => Target::Relay(relay.domain.clone()),
            Some(Process::Node(..)) => {
                let owner = self.owner_of(process);
                let first = |node: &ProcessNo| *node == owner.unwrap_or(process);
                let number = self.nodes.iter().position(first).and_then(|number| u32::try_from(number).ok());
                let Some(number) = number else { unreachable!("process {process} is nobody's device") };
                if owner.is_some() { Target::Second(number) } else { Target::Node(number) }
            }
            None => unreachable!("there is no process {process}"),
        }
    }

    fn both(&self, between: &[Target; 2]) -> Option<(ProcessNo, ProcessNo)> {
        let [one, other] = between;
        self.process(one).zip(self.process(other))
    }

    pub(super) fn strike(&mut self, number: usize) {
        let Some(Fault { kind, .. }) = self.faults.faults.get(number).cloned() else { return };
        if self.faults.lasting.contains_key(&number) {
            return;
        }
        if !matches!(kind, Kind::Heal) {
            self.faults.lasting.insert(number, false);
        }
        self.judge(&kind);
        match &kind {
            Kind::Crash { target, point, .. } | Kind::Break { target, point } | Kind::Cancel { target, point } => {
                let Some(process) = self.process(target) else { return };
                match (point, self.traps(process)) {
                    (Point::Now, _) => self.spring(process, number),
                    (point, Some(traps)) => traps.set(number, *point),
                    (_, None) => {}
                }
            }
            Kind::Partition { between, ways } => {
                let Some((one, other)) = self.both(between) else { return };
                self.struck.partitions += 1;
                self.struck.one_way += u64::from(*ways == Ways::OneWay);
                self.net.cut(&mut self.engine, one, other);
                if *ways == Ways::Both {
                    self.net.cut(&mut self.engine, other, one);
                }
            }
            Kind::Offline { target } => {
                let Some(process) = self.process(target) else { return };
                self.struck.disconnects += 1;
                self.net.hold(&mut self.engine, process, true);
            }
            Kind::Flap { .. } => self.swing(number),
            Kind::SlowPath { between, by } => {
                let Some((one, other)) = self.both(between) else { return };
                self.struck.slow_paths += 1;
                self.net.slow(one, other, *by);
            }
            Kind::Restart { target } => self.process(target).into_iter().for_each(|process| self.stop(process)),
            Kind::Roam { target } => {
                let Some(process) = self.process(target) else { return };
                self.struck.roams += u64::from(self.is_running(process));
                self.net.roam(&mut self.engine, process);
                // A call is made again from the new address.
                self.polls.break_all(&mut self.engine, process);
            }
            Kind::AddDevice { node } => {
                let owner = self.process(&Target::Node(*node));
                owner.into_iter().for_each(|owner| self.add_device(owner));
            }
            Kind::RemoveDevice { node } => {
                let owner = self.process(&Target::Node(*node));
                owner.into_iter().for_each(|owner| self.remove_device(owner));
            }
            Kind::Heal => {
                let network =
                    |kind: &Kind| matches!(kind, Kind::Partition { .. } | Kind::Offline { .. } | Kind::Flap { .. });
                let lasting = self.faults.lasting.keys().copied();
                let of = |number: &usize| self.faults.faults.get(*number).is_some_and(|fault| network(&fault.kind));
                let ends: Vec<_> = lasting.filter(of).collect();
                ends.into_iter().for_each(|number| self.mend(number));
            }
            Kind::FailSync { target } => {
                let Some(process) = self.process(target) else { return };
                self.struck.disk_faults += 1;
                match self.processes.get_mut(process as usize) {
                    Some(Process::Relay(relay)) => relay.platter().fail_sync(),
                    Some(Process::Node(node, _)) => node.platter().fail_sync(),
                    None => {}
                }
            }
            Kind::SlowDisk { target, .. } | Kind::StallDisk { target } | Kind::FullDisk { target } => {
                self.struck.disk_faults += 1;
                self.process(target).into_iter().for_each(|process| self.bear(process));
            }
            Kind::Clock { target, .. } => {
                self.struck.clock_faults += 1;
                self.process(target).into_iter().for_each(|process| self.bear_clock(process));
            }
            Kind::HostileRelay { relay, .. } => {
                self.struck.hostile += 1;
                let relay = self.process(&Target::Relay(relay.clone()));
                relay.into_iter().for_each(|process| self.bear(process));
            }
            Kind::HostileMember { node, trick, .. } => {
                self.struck.hostile += 1;
                let Some(process) = self.process(&Target::Node(*node)) else { return };
                self.bear(process);
                if *trick == MemberTrick::Clocks {
                    self.struck.clock_faults += 1;
                    self.bear_clock(process);
                }
            }
        }
    }

    /// A path that flaps goes out or comes back, and plans when it does the other.
    pub(super) fn swing(&mut self, number: usize) {
        let Some(Kind::Flap { between, down, up }) = self.faults.faults.get(number).map(|fault| fault.kind.clone())
        else {
            return;
        };
        let Some((one, other)) = self.both(&between) else { return };
        let Some(out) = self.faults.lasting.get_mut(&number) else { return };
        *out = !*out;
        let next = if *out {
            self.struck.flaps += 1;
            self.net.cut(&mut self.engine, one, other);
            self.net.cut(&mut self.engine, other, one);
            down
        } else {
            self.net.heal(&mut self.engine, one, other);
            self.net.heal(&mut self.engine, other, one);
            up
        };
        self.engine.after(next, Event::Swing { fault: number });
    }

    /// A fault ends, if it lasts.
    pub fn mend(&mut self, number: usize) {
        let Some(Fault { kind, .. }) = self.faults.faults.get(number).cloned() else { return };
        let Some(out) = self.faults.lasting.remove(&number) else { return };
        match &kind {
            Kind::Crash { target, .. } => {
                let Some(process) = self.process(target) else { return };
                if let Some(traps) = self.traps(process) {
                    traps.clear(number);
                }
                self.start(process);
            }
            Kind::Partition { between, ways } => {
                let Some((one, other)) = self.both(between) else { return };
                self.net.heal(&mut self.engine, one, other);
                if *ways == Ways::Both {
                    self.net.heal(&mut self.engine, other, one);
                }
            }
            Kind::Flap { between, .. } => {
                if let Some((one, other)) = self.both(between).filter(|_| out) {
                    self.net.heal(&mut self.engine, one, other);
                    self.net.heal(&mut self.engine, other, one);
                }
            }
            Kind::SlowPath { between, by } => {
                let Some((one, other)) = self.both(between) else { return };
                self.net.quicken(one, other, *by);
            }
            Kind::Offline { target } => {
                let Some(process) = self.process(target) else { return };
                self.net.hold(&mut self.engine, process, false);
            }
            Kind::Restart { target } | Kind::FailSync { target } => {
                self.process(target).into_iter().for_each(|process| self.start(process));
            }
            Kind::SlowDisk { target, .. } | Kind::StallDisk { target } | Kind::FullDisk { target } => {
                let Some(process) = self.process(target) else { return };
                self.bear(process);
                self.start(process);
            }
            Kind::Clock { target, .. } => {
                self.process(target).into_iter().for_each(|process| self.bear_clock(process));
            }
            Kind::HostileRelay { relay, trick, .. } => {
                let Some(process) = self.process(&Target::Relay(relay.clone())) else { return };
                self.bear(process);
                // What it kept back comes when its devices come in again: somebody has set it up anew.
                if matches!(trick, RelayTrick::Drop | RelayTrick::Reorder | RelayTrick::Fork) {
                    self.break_all(process);
                    self.polls.end_all(&mut self.engine, process);
                }
            }
            Kind::HostileMember { node, trick, .. } => {
                let Some(process) = self.process(&Target::Node(*node)) else { return };
                self.bear(process);
                if *trick == MemberTrick::Clocks {
                    self.bear_clock(process);
                }
            }
            Kind::Break { target, .. } | Kind::Cancel { target, .. } => {
                // A trap that has not sprung by then does not.
                let Some(process) = self.process(target) else { return };
                if let Some(traps) = self.traps(process) {
                    traps.clear(number);
                }
            }
            Kind::Roam { .. } | Kind::AddDevice { .. } | Kind::RemoveDevice { .. } | Kind::Heal => {}
        }
    }

    /// Ends every fault that lasts.
    pub(super) fn mend_all(&mut self) {
        let lasting: Vec<_> = self.faults.lasting.keys().copied().collect();
        lasting.into_iter().for_each(|number| self.mend(number));
        self.net.heal_all(&mut self.engine);
    }

    /// The traps of a process have sprung, if any have: it dies, or its links break. Says whether it still runs.
    pub(super) fn sprung(&mut self, process: ProcessNo) -> bool {
        let sprung = self.traps(process).map(|traps| traps.sprung()).unwrap_or_default();
        for fault in sprung {
            match self.faults.faults.get(fault).map(|fault| &fault.kind) {
                Some(Kind::Crash { point: Point::Left(_), .. } | Kind::Break { point: Point::Left(_), .. }) => {
                    // Otherwise a quick disk would have made good by then what left too early.
                    self.stall(process, true);
                    self.engine.after(LEFT, Event::Spring { process, fault });
                }
                _ => self.spring(process, fault),
            }
        }
        self.is_running(process)
    }

    /// What left is on its way by now.
    pub(super) fn spring_late(&mut self, process: ProcessNo, fault: usize) {
        if self.faults.lasting.contains_key(&fault) {
            self.spring(process, fault);
        }
        // Alive or not, its disk is as its faults say again.
        self.bear(process);
    }

    fn stall(&mut self, process: ProcessNo, stalled: bool) {
        match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => relay.platter().stall(stalled),
            Some(Process::Node(node, _)) => node.platter().stall(stalled),
            None => {}
        }
    }

    fn spring(&mut self, process: ProcessNo, number: usize) {
        match self.faults.faults.get(number).map(|fault| fault.kind.clone()) {
            Some(Kind::Crash { keep, .. }) => self.kill_keeping(process, keep),
            Some(Kind::Break { .. }) => {
                self.struck.breaks += 1;
                self.break_all(process);
            }
            Some(Kind::Cancel { .. }) => self.cancel(process),
            _ => {}
        }
    }

    /// A relay's request is dropped where it stands, while the relay lives on; the link it came by ends.
    fn cancel(&mut self, process: ProcessNo) {
        let Some(Process::Relay(relay)) = self.processes.get_mut(process as usize) else { return };
        let Some(link) = relay.cancel() else { return };
        self.struck.cancels += 1;
        if is_polled(link) {
            self.polls.close(&mut self.engine, &mut self.net, link);
        } else {
            self.net.close(&mut self.engine, link, process);
        }
    }

    /// What lasts now.
    pub(super) fn lasting_faults(&self) -> impl Iterator<Item = &Kind> {
        let faults = self.faults.lasting.keys().filter_map(|number| self.faults.faults.get(*number));
        faults.map(|fault| &fault.kind)
    }

    fn traps(&mut self, process: ProcessNo) -> Option<&mut super::trap::Traps> {
        match self.processes.get_mut(process as usize)? {
            Process::Relay(relay) => Some(&mut relay.traps),
            Process::Node(node, _) => Some(&mut node.traps),
        }
    }

    /// What lasts of the faults that name a process.
    fn lasting_of(&self, process: ProcessNo) -> Vec<Kind> {
        let kinds = self.faults.lasting.keys().filter_map(|number| self.faults.faults.get(*number));
        let of = |kind: &Kind| kind.targets().iter().any(|target| self.process(target) == Some(process));
        kinds.map(|fault| fault.kind.clone()).filter(of).collect()
    }

    /// Works out anew what a process's disk is like and whom it turns on.
    pub(super) fn bear(&mut self, process: ProcessNo) {
        let (mut slow, mut stalled, mut full) = (1, false, false);
        let (mut relay_tricks, mut member_tricks) = (BTreeMap::new(), BTreeMap::new());
        for kind in self.lasting_of(process) {
            match kind {
                Kind::SlowDisk { times, .. } => slow = times.max(slow),
                Kind::StallDisk { .. } => stalled = true,
                Kind::FullDisk { .. } => full = true,
                Kind::HostileRelay { trick, share, .. } => drop(relay_tricks.insert(trick, share)),
                Kind::HostileMember { trick, share, .. } => drop(member_tricks.insert(trick, share)),
                _ => {}
            }
        }
        let stream = self.seed.stream(Entity::Process(process), "hostility");
        let stranger = (!member_tricks.is_empty()).then(|| self.stranger_of(process)).flatten();
        if !relay_tricks.is_empty() {
            self.turns(process);
        }
        let platter = match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => {
                if let Some(mischief) = relay.mischief.as_mut() {
                    mischief.tricks = relay_tricks;
                }
                relay.platter()
            }
            Some(Process::Node(node, _)) => {
                if !member_tricks.is_empty() || node.member.is_some() {
                    node.member.get_or_insert_with(|| Box::new(Member::new(stream, stranger))).tricks = member_tricks;
                }
                node.platter()
            }
            None => return,
        };
        let answers_again = platter.is_stalled() && !stalled;
        platter.slow(slow);
        platter.stall(stalled);
        platter.fill(full);
        if answers_again {
            match self.processes.get_mut(process as usize) {
                Some(Process::Relay(relay)) => relay.unstick(&mut self.engine),
                Some(Process::Node(node, _)) => node.unstick(&mut self.engine),
                None => {}
            }
        }
    }

    /// Sets a process's clocks as the newest fault that lasts says, or right.
    fn bear_clock(&mut self, process: ProcessNo) {
        let mut wrong = None;
        for kind in self.lasting_of(process) {
            match kind {
                Kind::Clock { ahead_ms, drift_ppm, .. } => wrong = Some((ahead_ms, drift_ppm)),
                Kind::HostileMember { trick: MemberTrick::Clocks, .. } => wrong = Some((EXTREME_MS, 0)),
                _ => {}
            }
        }
        let now = self.engine.now();
        let clock = match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => &mut relay.clock,
            Some(Process::Node(node, _)) => &mut node.clock,
            None => return,
        };
        match wrong {
            Some((ahead_ms, drift_ppm)) => clock.set(now, ahead_ms, drift_ppm),
            None => clock.let_go(now),
        }
        // Its deadlines come at another time now.
        self.go_on(process, Ok(()));
    }

    /// What a relay did to its users so far, if it ever turned on them.
    #[cfg(test)]
    pub(super) fn mischief(&self, relay: ProcessNo) -> Option<&Mischief> {
        match self.processes.get(relay as usize)? {
            Process::Relay(relay) => relay.mischief.as_deref(),
            Process::Node(..) => None,
        }
    }

    /// Lets a relay that serves a device on know which.
    #[cfg(test)]
    pub(super) fn serves_on(&mut self, relay: ProcessNo, device: ProcessNo) {
        let Some(node) = self.node(device) else { return };
        let own = whimbrel_node::views::account(node.reads().unwrap_or_else(|| unreachable!("it does not run")));
        let id = own.map(|own| own.device);
        if let (Some(mischief), Ok(id)) = (self.turns(relay), id) {
            mischief.serving.device = Some((device, id));
        }
    }

    /// Lets a relay that does something with changes do it to one device alone.
    #[cfg(test)]
    pub(super) fn meddles_with(&mut self, relay: ProcessNo, device: ProcessNo) {
        if let Some(mischief) = self.turns(relay) {
            mischief.changes.only = Some(device);
        }
    }

    /// Kills a process when it has applied the n-th group from now and not yet synced it.
    pub fn crash_when_applied(&mut self, process: ProcessNo, groups: u32, keep: Keep) -> usize {
        let target = self.target(process);
        self.inflict(Kind::Crash { target, point: Point::Applied(groups), keep })
    }

    /// Kills a process when it has synced the n-th group from now and nobody was told.
    pub fn crash_when_synced(&mut self, process: ProcessNo, groups: u32) -> usize {
        let target = self.target(process);
        self.inflict(Kind::Crash { target, point: Point::Synced(groups), keep: Keep::Drawn })
    }

    /// Lets nothing pass from one process to another; the way back stands.
    pub fn cut_one_way(&mut self, from: ProcessNo, to: ProcessNo) -> usize {
        let between = [self.target(from), self.target(to)];
        self.inflict(Kind::Partition { between, ways: Ways::OneWay })
    }

    /// Lets the path between two processes fail and return, over and over.
    pub fn flap(&mut self, one: ProcessNo, other: ProcessNo, down: Duration, up: Duration) -> usize {
        let between = [self.target(one), self.target(other)];
        self.inflict(Kind::Flap { between, down, up })
    }

    /// Lets what goes between two processes, either way, take so much longer.
    pub fn slow_path(&mut self, one: ProcessNo, other: ProcessNo, by: Duration) -> usize {
        let between = [self.target(one), self.target(other)];
        self.inflict(Kind::SlowPath { between, by })
    }

    /// Drops the request that a relay polled last when its futures were polled so many times from now, and its link.
    pub fn cancel_when_polled(&mut self, relay: ProcessNo, polls: u32) -> usize {
        let target = self.target(relay);
        self.inflict(Kind::Cancel { target, point: Point::Polled(polls) })
    }

    /// Breaks every link of a process where it stands.
    pub fn break_links(&mut self, process: ProcessNo) {
        let target = self.target(process);
        self.inflict(Kind::Break { target, point: Point::Now });
    }

    /// Lets a disk answer nothing.
    pub fn stall_disk(&mut self, process: ProcessNo) -> usize {
        let target = self.target(process);
        self.inflict(Kind::StallDisk { target })
    }

    /// Lets a disk have no room.
    pub fn fill_disk(&mut self, process: ProcessNo) -> usize {
        let target = self.target(process);
        self.inflict(Kind::FullDisk { target })
    }

    /// Lets the next sync of a disk fail.
    pub fn fail_sync(&mut self, process: ProcessNo) -> usize {
        let target = self.target(process);
        self.inflict(Kind::FailSync { target })
    }

    /// Sets a clock ahead, or behind when negative, and lets it drift.
    pub fn set_clock(&mut self, process: ProcessNo, ahead_ms: i64, drift_ppm: i32) -> usize {
        let target = self.target(process);
        self.inflict(Kind::Clock { target, ahead_ms, drift_ppm })
    }

    /// Lets a relay turn on its users.
    ///
    /// # Panics
    /// The process is no relay.
    pub fn turn_relay(&mut self, relay: ProcessNo, trick: RelayTrick, share: f64) -> usize {
        let Target::Relay(relay) = self.target(relay) else { unreachable!("process {relay} is no relay") };
        self.inflict(Kind::HostileRelay { relay, trick, share })
    }

    /// Lets a member turn on the others.
    ///
    /// # Panics
    /// The process is no node.
    pub fn turn_member(&mut self, node: ProcessNo, trick: MemberTrick, share: f64) -> usize {
        let Target::Node(node) = self.target(node) else { unreachable!("process {node} is no node") };
        self.inflict(Kind::HostileMember { node, trick, share })
    }
}
