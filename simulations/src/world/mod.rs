//! The world: processes, people and the paths between them, moved on event by event.
//! Owns: who is where, which life each process is in, what a fault does.
//! Never: decides anything a node or relay decides; it carries what they say and tells them what happened.
//!
//! A test writes its story in its words:
//!
//! ```
//! use whimbrel_sim::engine::Seed;
//! use whimbrel_sim::world::World;
//!
//! let mut world = World::new(Seed::from(7));
//! let (alice, bob, relay) = world.two_friends_on_one_relay();
//! world.disconnect(bob);
//! world.say(alice, bob, "hello");
//! world.crash(relay);
//! world.reconnect(bob);
//! world.run_until_quiet();
//! assert_eq!(world.shown_to(bob), ["hello"]);
//! ```

mod about;
mod agreement;
mod apart;
mod build;
mod cards;
mod carry;
mod changes;
mod circle;
mod clock;
mod coming;
mod commits;
mod devices;
mod doors;
mod event;
mod export;
mod fault;
mod forwards;
mod hostile;
mod judged;
mod late;
mod node;
mod orders;
mod people;
mod phones;
mod poll;
mod relay;
mod struck;
mod tokens;
mod trap;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::api::{self, Command, Input, Ticket};
use whimbrel_node::views::{self, Page};
use whimbrel_protocol::id::{AccountId, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_relay::PeerAddress;

use crate::engine::{Engine, Seed, Time};
use crate::faults::{Keep, Plan};
use crate::judge::CONVERGE_MAX;
use crate::judge::ledger::Ledger;
use crate::judge::verdict::Verdict;
use crate::net::{Net, ProcessNo};
use crate::scenario::{Clocks, Crypto, Scenario, Workload};

pub use build::BuildError;
pub use event::Event;
pub use node::{NodeEvent, NodeProcess};
pub use poll::CallEvent;
pub use relay::{RelayEvent, RelayProcess};
pub use struck::Faults;

use apart::{Hiding, Parting};
use people::{Asked, Group, Meeting, Pair, Person};

/// What the clocks of a world show at its beginning: 2026-01-01 00:00 UTC.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;
/// No frame but heartbeats for so long is quiet: longer than a broken link stays unnoticed by default.
const QUIET: Duration = Duration::from_secs(30);
/// A quiet that does not come by then will not come.
const QUIET_BOUND: Duration = Duration::from_secs(2 * 3_600);
/// A crashed relay is started again after so long, when a test does not say.
const RESTART: Duration = Duration::from_secs(1);
/// Time goes on after everything owed was shown: a second copy would come now.
const AFTERMATH: Duration = Duration::from_secs(30);
/// Messages of one conversation a person looks through.
const HISTORY_MAX: usize = 1_000_000;
/// So many events without a nanosecond between them are a loop.
const STANDSTILL: u64 = 10_000_000;

/// Traces what a process was told; the kinds are apart from those of events.
const TRACED_FRAME: u16 = 0x1000;
const TRACED_SHOWN: u16 = 0x2000;

enum Process {
    Relay(Box<RelayProcess>),
    Node(Box<NodeProcess>, Box<Person>),
}

/// A whole world.
pub struct World {
    engine: Engine<Event>,
    seed: Seed,
    net: Net,
    polls: poll::Polls,
    doors: doors::Doors,
    operators: tokens::Operators,
    cards: cards::Cards,
    processes: Vec<Process>,
    by_transport: BTreeMap<PublicKey, ProcessNo>,
    by_domain: BTreeMap<String, ProcessNo>,
    pairs: Vec<Pair>,
    groups: Vec<Group>,
    partings: Vec<Parting>,
    hidings: Vec<Hiding>,
    circles: Vec<circle::Circle>,
    late: late::Late,
    /// Second devices of people.
    seconds: Vec<devices::Second>,
    exports: Vec<export::Export>,
    /// People who are woken.
    phones: Vec<phones::Phone>,
    ledger: Ledger,
    agreement: agreement::Agreement,
    faults: fault::Ailments,
    /// Which groups are to be changed once more by whom, all having healed.
    renewals: BTreeSet<(usize, ProcessNo)>,
    /// The nodes, in the order they came.
    nodes: Vec<ProcessNo>,
    workload: Workload,
    clocks: Clocks,
    crypto: Crypto,
    /// People write, come and go.
    lively: bool,
    /// Whether those who are to meet have stopped writing for it, too.
    hushed: bool,
    spoken: u64,
    tickets: u64,
    last_frame: Time,
    struck: Faults,
    standstill: (Time, u64),
}

impl World {
    /// Moves on to a moment.
    pub fn run_until(&mut self, until: Time) {
        while let Some(event) = self.engine.next_until(until) {
            self.handle(event);
        }
    }

    /// Lets a while pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.engine.now().plus(time));
    }

    /// Moves on until nothing but heartbeats passes any more, or for two hours at most.
    pub fn run_until_quiet(&mut self) {
        let bound = self.engine.now().plus(QUIET_BOUND);
        self.last_frame = self.engine.now();
        while self.engine.now() < bound && self.engine.now() < self.last_frame.plus(QUIET) {
            self.run_until(self.last_frame.plus(QUIET).min(bound));
        }
    }

    /// Runs a scenario: people write while faults strike; then everything heals, and what is owed must arrive within
    /// `settle`. Then everybody writes once into each of their threads, and that must arrive within as long again. What
    /// takes a month, and accounts that end, come last.
    pub fn run_scenario(&mut self, duration: Duration, settle: Duration) {
        self.run_until(Time::ZERO.plus(duration));
        self.heal_all();
        self.await_all(settle);
        self.seconds_are_out();
        // Whoever is wedged and owes nothing would not be seen: everybody says one word more wherever they can.
        self.say_once_more();
        self.change_once_more();
        self.await_all(settle);
        self.run_for(AFTERMATH);
        self.await_presence();
        self.ledger.settle();
        self.come_late(settle);
        self.hush();
    }

    /// Nobody says anything more, what was said last is answered, and what came late is had from a sibling: a node has so long
    /// for that.
    fn hush(&mut self) {
        self.hushed = true;
        let bound = self.engine.now().plus(3 * limits::ANSWER_TIME_MAX);
        while self.engine.now() < bound && !self.unanswered().is_empty() {
            self.run_for(Duration::from_secs(1));
        }
        self.await_second_devices();
    }

    /// Lets time pass until everybody is shown who is there, or for three minutes at most: a link may just have come to
    /// nothing in the best of worlds, and whoever finds that out and dials again was offline for a moment.
    fn await_presence(&mut self) {
        let bound = self.engine.now().plus(CONVERGE_MAX);
        while self.engine.now() < bound && !self.ledger.is_settled() {
            self.run_for(agreement::LOOK);
        }
    }

    /// Lets time pass until all that is owed was shown, all who are to meet have met, and all who are in a thread are in
    /// the same place, or for so long at most.
    fn await_all(&mut self, settle: Duration) {
        let bound = self.engine.now().plus(settle);
        let waits = |world: &Self| {
            let ledger = &world.ledger;
            // What a node has not answered for yet may be owed next.
            ledger.owes_anybody()
                || !ledger.is_settled()
                || world.unmet().next().is_some()
                || !world.unanswered().is_empty()
                || !world.unchanged().is_empty()
                || world.is_scattered()
                || world.seconds_lack()
        };
        self.look_at_threads();
        while self.engine.now() < bound && waits(self) {
            self.run_for(agreement::LOOK);
            self.ask_for_renewals();
            self.look_at_threads();
            // Whole histories are read for that.
            if self.engine.now().since(Time::ZERO).as_secs().is_multiple_of(10) {
                self.look_at_seconds();
            }
        }
    }

    /// The safety phase ends: nobody writes or leaves any more, every fault is mended, everybody is online.
    pub fn heal_all(&mut self) {
        self.lively = false;
        self.mend_all();
        for process in 0..self.processes.len() as ProcessNo {
            self.reconnect(process);
            self.start(process);
        }
    }

    /// Runs a scenario under a plan, which takes the place of the scenario's own: the safety phase with its faults, then
    /// everything heals, then the liveness phase; and closes the account.
    ///
    /// # Errors
    /// A core does not take what it is made of.
    pub fn run(scenario: &Scenario, seed: Seed, plan: &Plan) -> Result<Outcome, BuildError> {
        let mut world = Self::with_plan(scenario, seed, plan)?;
        world.run_scenario(scenario.sim.duration.0, scenario.sim.settle.0);
        let (verdict, account) = world.close();
        Ok(Outcome { verdict, account })
    }

    /// Closes the account of this world.
    pub fn close(mut self) -> (Verdict, Account) {
        for process in 0..self.processes.len() as ProcessNo {
            self.look(process, None);
            self.search(process);
        }
        self.count_lies();
        self.judge_losses();
        self.compare_circles();
        self.prove_orders();
        self.compare_threads();
        self.compare_screens();
        self.compare_seconds();
        self.count_tokens();
        self.compare_doors();
        let unmet: Vec<_> = self.unmet().collect();
        self.unanswered().into_iter().for_each(|said| self.ledger.unanswered(said));
        self.unchanged().into_iter().for_each(|who| self.ledger.unchanged(who));
        let account = Account {
            trace_hash: self.engine.trace.finish(),
            events: self.engine.fired(),
            // A month in which one relay waits is no month of a world.
            virtual_time: self.engine.now().since(Time::ZERO).saturating_sub(self.late.slept),
            relays: self.processes.iter().filter(|process| matches!(process, Process::Relay(_))).count(),
            nodes: self.processes.iter().filter(|process| matches!(process, Process::Node(..))).count(),
            net: self.net.counts,
            faults: self.struck,
            converged: self.converged(),
        };
        (self.ledger.close(&unmet), account)
    }

    /// What was shown to a person, in the order it was.
    pub fn shown_to(&self, who: ProcessNo) -> Vec<&str> {
        self.ledger.screen(who)
    }

    /// What time it is.
    pub const fn now(&self) -> Time {
        self.engine.now()
    }

    /// How much has happened.
    pub const fn events(&self) -> u64 {
        self.engine.fired()
    }

    /// The account so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Kills a process where it stands. Whoever it talked to finds out by the silence.
    pub fn kill(&mut self, process: ProcessNo) {
        self.kill_keeping(process, Keep::Drawn);
    }

    /// The same, and what its disk keeps of what was applied and not synced.
    pub fn kill_keeping(&mut self, process: ProcessNo, keep: Keep) {
        if !self.is_running(process) {
            return;
        }
        self.search(process);
        let torn = match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => {
                self.struck.relay_crashes += 1;
                relay.crash(keep)
            }
            Some(Process::Node(node, _)) => node.crash(keep),
            None => return,
        };
        self.ledger.died(process);
        self.net.crash(&mut self.engine, process);
        self.polls.crash(&mut self.engine, process);
        self.struck.crashes += 1;
        self.struck.batches_lost += torn.lost;
        self.struck.batches_kept += torn.kept;
        self.ask_again(process);
    }

    /// Starts a process from what its disk holds, unless it runs.
    pub fn start(&mut self, process: ProcessNo) {
        if self.is_running(process) {
            return;
        }
        // Whom a relay's operator has listed; nodes know their own relay alone.
        let peers = match self.processes.get(process as usize) {
            Some(Process::Relay(_)) => {
                let listed = self.relays().filter(|relay| relay.no != process && relay.listed);
                listed.map(address_of).collect()
            }
            _ => Vec::new(),
        };
        let started = match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => relay.start(&mut self.engine, peers),
            Some(Process::Node(node, _)) => node.start(&mut self.engine),
            None => Ok(()),
        };
        if let Some(transport) = self.node(process).map(|node| node.transport) {
            self.by_transport.entry(transport).or_insert(process);
        }
        // Before the core takes anything: what is there now is what the crash left.
        self.look(process, Some(self.engine.now()));
        self.note_kept(process);
        self.go_on(process, started);
    }

    /// A person looks at the history of all their conversations.
    fn look(&mut self, who: ProcessNo, started: Option<Time>) {
        if self.owner_of(who).is_some() {
            return self.look_at_second(who);
        }
        if started.is_some() {
            self.look_at_circles(who);
        }
        let Some(reads) = self.node(who).and_then(NodeProcess::reads) else { return };
        let found = views::threads(reads).and_then(|threads| {
            let of = |thread: &views::Thread| views::messages(reads, &thread.thread, Page::Oldest, HISTORY_MAX);
            let lines = threads.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            let contacts: BTreeSet<_> = views::contacts(reads)?.into_iter().map(|contact| contact.account).collect();
            Ok((contacts, threads, lines))
        });
        match found {
            Ok((contacts, threads, lines)) => {
                let lines: Vec<_> = lines.into_iter().flatten().collect();
                let messages: Vec<_> = lines.iter().map(|line| line.message.clone()).collect();
                self.ledger.history(who, &messages, started);
                // Of what a node died over before it said so, its owner finds how it ended.
                for line in &lines {
                    match &line.state {
                        Some(api::State::Failed(code)) => self.ledger.failed(&line.message.message, *code),
                        Some(api::State::Partial { code, missing }) => {
                            self.ledger.failed_for(&line.message.message, missing, *code);
                        }
                        _ => {}
                    }
                }
                // What a node has on its disk it need not tell again; its owner sees it on the list. With whom they are no
                // friends any more they do not begin anew.
                let friends = |people: &[AccountId]| match people {
                    [one] => contacts.contains(one),
                    _ => true,
                };
                let open = |thread: &&views::Thread| thread.standing == views::Standing::Open;
                threads
                    .iter()
                    .filter(open)
                    .filter(|thread| friends(&thread.people))
                    .for_each(|thread| self.reaches(who, thread.thread, &thread.people));
            }
            Err(error) => self.ledger.stopped(who, error.to_string()),
        }
    }

    /// Stops a process in good order: whoever it talked to is told, and its disk has all that was applied.
    pub fn stop(&mut self, process: ProcessNo) {
        if !self.is_running(process) {
            return;
        }
        self.search(process);
        self.break_all(process);
        self.stop_polled(process);
        match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => drop(relay.crash(Keep::Everything)),
            Some(Process::Node(node, _)) => drop(node.crash(Keep::Everything)),
            None => return,
        }
        self.ledger.died(process);
        self.net.crash(&mut self.engine, process);
        self.polls.crash(&mut self.engine, process);
        self.struck.restarts += 1;
        self.ask_again(process);
    }

    /// Every connection of a process breaks.
    fn break_all(&mut self, process: ProcessNo) {
        self.net.break_all(&mut self.engine, process);
        self.polls.break_all(&mut self.engine, process);
    }

    /// Kills a process and starts it again a second later.
    pub fn crash(&mut self, process: ProcessNo) {
        self.kill(process);
        self.engine.after(RESTART, Event::Start { process });
    }

    /// Takes a process's network away. It lives on.
    pub fn disconnect(&mut self, process: ProcessNo) {
        self.struck.disconnects += u64::from(self.net.is_online(process));
        self.net.disconnect(&mut self.engine, process);
    }

    /// Gives a process its network back.
    pub fn reconnect(&mut self, process: ProcessNo) {
        self.net.reconnect(&mut self.engine, process);
    }

    /// Lets nothing pass between two processes.
    pub fn cut(&mut self, a: ProcessNo, b: ProcessNo) {
        self.struck.partitions += 1;
        self.net.cut(&mut self.engine, a, b);
        self.net.cut(&mut self.engine, b, a);
    }

    /// Lets two processes reach each other again.
    pub fn heal(&mut self, a: ProcessNo, b: ProcessNo) {
        self.net.heal(&mut self.engine, a, b);
        self.net.heal(&mut self.engine, b, a);
    }

    /// What a copy of a node's disk holds that is made now.
    #[cfg(test)]
    fn copy_disk(&mut self, who: ProcessNo) -> (whimbrel_storage::MemoryEngine, Option<u64>) {
        match self.processes.get_mut(who as usize) {
            Some(Process::Node(node, _)) => node.platter().copied(),
            _ => Default::default(),
        }
    }

    /// The node dies, and starts from such a copy.
    #[cfg(test)]
    fn put_disk_back(&mut self, who: ProcessNo, copy: (whimbrel_storage::MemoryEngine, Option<u64>)) {
        self.kill(who);
        if let Some(Process::Node(node, _)) = self.processes.get_mut(who as usize) {
            node.platter().put_back(copy);
        }
        self.ledger.put_back(who);
        self.start(who);
    }

    /// The rows of a node that runs, for tests.
    pub fn node(&self, who: ProcessNo) -> Option<&NodeProcess> {
        match self.processes.get(who as usize) {
            Some(Process::Node(node, _)) => Some(node),
            _ => None,
        }
    }

    /// Plants a bug: the outputs of this node leave before their batch is durable, until the node starts anew.
    #[cfg(test)]
    fn release_early(&mut self, who: ProcessNo) {
        if let Some(Process::Node(node, _)) = self.processes.get_mut(who as usize) {
            node.release_early();
        }
    }

    /// Plants a bug: the disk of this relay answers without having synced, until the relay starts anew.
    #[cfg(test)]
    fn answer_early(&mut self, relay: ProcessNo) {
        if let Some(Process::Relay(relay)) = self.processes.get_mut(relay as usize) {
            relay.answer_early();
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.engine.now();
        let (entity, kind, number) = event.mark();
        self.engine.trace.feed(now, entity, kind, number);
        self.standstill = if self.standstill.0 == now { (now, self.standstill.1 + 1) } else { (now, 0) };
        assert!(self.standstill.1 < STANDSTILL, "time stands still at {now:?}: {event:?}");
        match event {
            Event::Start { process } | Event::Return { who: process } if self.keeps_away(process) => {}
            Event::Start { process } => self.start(process),
            Event::Knock { link } => self.knock(link),
            Event::Up { link, side } => self.up(link, side),
            Event::Arrive { link, side } => self.arrive(link, side),
            Event::Lost { link, side } => self.lost(link, side),
            Event::Silent { link, side, silence } => self.silent(link, side, silence),
            Event::DialFailed { link } => self.dial_failed(link),
            Event::Node { node, run, what } => self.node_event(node, run, what),
            Event::Relay { relay, run, what } => {
                if let Some(Process::Relay(process)) = self.processes.get_mut(relay as usize)
                    && process.run() == run
                {
                    let applies = what == RelayEvent::Apply;
                    let result = process.event(&mut self.engine, what);
                    if applies {
                        self.note_kept(relay);
                    }
                    if result.is_err() || self.sprung(relay) {
                        self.go_on(relay, result);
                    }
                }
            }
            Event::Call { call, what } => self.call_event(call, what),
            Event::Meet { pair } => self.meet(pair),
            Event::Part { parting } => self.part(parting),
            Event::Hide { hiding } => self.hide(hiding),
            Event::End { ending } => self.end_account(ending),
            Event::Export { export } => self.export(export),
            Event::Phone { phone } => self.phone(phone),
            Event::Die { process } => self.crash(process),
            Event::Gather { group } => self.gather(group),
            Event::Change { circle } => self.change(circle),
            Event::Device { device } => self.device(device),
            Event::Token { token } => self.token(token),
            Event::Card { card } => self.card(card),
            Event::Speak { who } => self.speak(who),
            Event::Leave { who } => self.leave(who),
            Event::Return { who } => self.come_back(who),
            Event::Strike { fault } => self.strike(fault),
            Event::Spring { process, fault } => self.spring_late(process, fault),
            Event::Mend { fault } => self.mend(fault),
            Event::Swing { fault } => self.swing(fault),
        }
    }

    fn node_event(&mut self, no: ProcessNo, run: u32, what: NodeEvent) {
        let Some(Process::Node(node, _)) = self.processes.get_mut(no as usize) else { return };
        if node.run() != run {
            return;
        }
        match node.event(self.engine.now(), what) {
            Ok(outputs) => {
                // Whatever was to leave dies with it.
                if self.sprung(no) {
                    self.release(no, outputs);
                    self.go_on(no, Ok(()));
                }
            }
            Err(why) => self.go_on(no, Err(why)),
        }
    }

    /// After a process was told anything: it works, its outputs leave, and its next moment is planned.
    fn go_on(&mut self, no: ProcessNo, told: Result<(), String>) {
        if let Err(why) = told {
            let at_fault = match self.processes.get_mut(no as usize) {
                Some(Process::Relay(relay)) => relay.platter().is_at_fault(&why),
                Some(Process::Node(node, _)) => node.platter().is_at_fault(&why),
                None => false,
            };
            if at_fault {
                // As it must. Whoever looks after it starts it again.
                self.struck.disk_stops += 1;
                self.engine.after(RESTART, Event::Start { process: no });
            } else {
                self.ledger.stopped(no, why);
            }
            self.kill(no);
            return;
        }
        match self.processes.get_mut(no as usize) {
            Some(Process::Relay(relay)) => {
                let by_domain = &self.by_domain;
                // Whoever answers at that address must be who was meant; nobody else is in this world.
                let reach = |peer: &PeerAddress| by_domain.get(peer.domain.as_str()).copied();
                relay.settle(&mut self.engine, &mut self.net, &mut self.polls, &reach);
                let woken = relay.woken();
                self.push_service(no, woken);
                self.sprung(no);
            }
            Some(Process::Node(..)) => {
                // What leaves may come back as an input (nobody to dial), so until nothing leaves any more.
                while let Some(Process::Node(node, _)) = self.processes.get_mut(no as usize) {
                    match node.work(&mut self.engine) {
                        Ok(outputs) => {
                            let done = outputs.is_empty();
                            if !self.sprung(no) {
                                return;
                            }
                            self.release(no, outputs);
                            if done {
                                return;
                            }
                        }
                        Err(why) => return self.go_on(no, Err(why)),
                    }
                }
            }
            None => {}
        }
    }

    /// A person's node tells them something.
    fn told(&mut self, no: ProcessNo, event: api::Event) {
        if let api::Event::Dropped { entries, .. } = &event {
            self.struck.dropped += entries;
        }
        if self.owner_of(no).is_some() {
            return self.told_on_second(no, &event);
        }
        let now = self.engine.now();
        self.ledger.told_of_loss(no, &event, now);
        if let api::Event::Receipt { message, delivered, .. } = &event
            && self.ledger.is_beyond(message, *delivered)
            && !self.look_for(no, message)
        {
            // On one that is off it may be.
        } else {
            self.ledger.told(no, &event);
        }
        match event {
            api::Event::Shown(message) => {
                let words =
                    message.message.as_bytes().iter().fold(0, |sum: u64, byte| sum << 8 ^ sum >> 56 ^ u64::from(*byte));
                self.engine.trace.feed(now, no, TRACED_SHOWN, words);
                self.ledger.shown(no, &message, now);
            }
            api::Event::State { message, state: api::State::Failed(code), .. } => self.ledger.failed(&message, code),
            api::Event::State { message, state: api::State::Partial { code, missing }, .. } => {
                self.ledger.failed_for(&message, &missing, code);
            }
            api::Event::ThreadOpened { thread, people } => self.reaches(no, thread, &people),
            // Nobody writes to whom they are no friend of any more.
            api::Event::FriendRemoved { account } => {
                if let Some(other) = self.ledger.process_of(&account) {
                    self.forget(no, other);
                }
            }
            api::Event::RegistrationRefused(_) => self.turned_away(no),
            api::Event::Unreadable { reason, .. } => {
                tracing::debug!(no, reason, "an entry could not be opened");
            }
            _ => {}
        }
    }

    /// Somebody has a thread with these people before them.
    fn reaches(&mut self, who: ProcessNo, thread: ThreadId, people: &[AccountId]) {
        let others: Vec<_> = people.iter().filter_map(|account| self.ledger.process_of(account)).collect();
        let everybody: BTreeSet<_> = others.iter().copied().chain([who]).collect();
        if self.told_of_circle(who, thread, &everybody) {
            return;
        }
        self.ledger.thread(thread, everybody, who);
        if let Some(person) = self.person_mut(who) {
            match others.as_slice() {
                [other] => person.meets(*other, thread),
                _ => person.joins(others, thread),
            }
        }
    }

    fn command(&mut self, who: ProcessNo, command: Command, asked: Asked) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(Process::Node(node, person)) = self.processes.get_mut(who as usize) {
            person.asked.push((ticket, asked));
            node.input(Input::Command { ticket, command });
        }
        self.go_on(who, Ok(()));
    }

    /// Whether somebody was last told that somebody is there.
    pub fn seen(&self, by: ProcessNo, of: ProcessNo) -> Option<bool> {
        self.ledger.seen(by, of)
    }

    /// Whether somebody's device was told, on its present link, that somebody is there.
    pub fn is_shown(&self, by: ProcessNo, of: ProcessNo) -> bool {
        self.ledger.is_shown(by, of)
    }

    fn is_running(&self, process: ProcessNo) -> bool {
        match self.processes.get(process as usize) {
            Some(Process::Relay(relay)) => relay.is_alive(),
            Some(Process::Node(node, _)) => node.is_alive(),
            None => false,
        }
    }

    /// Whether a person could reach anybody just now, as far as they can see.
    fn is_awake(&self, who: ProcessNo) -> bool {
        self.is_running(who) && self.net.is_online(who)
    }

    fn relays(&self) -> impl Iterator<Item = &RelayProcess> {
        self.by_domain.values().filter_map(|no| match self.processes.get(*no as usize) {
            Some(Process::Relay(relay)) => Some(relay.as_ref()),
            _ => None,
        })
    }

    fn person_of(&self, who: ProcessNo) -> Option<&Person> {
        match self.processes.get(who as usize) {
            Some(Process::Node(_, person)) => Some(person),
            _ => None,
        }
    }

    fn person_mut(&mut self, who: ProcessNo) -> Option<&mut Person> {
        match self.processes.get_mut(who as usize) {
            Some(Process::Node(_, person)) => Some(person),
            _ => None,
        }
    }

    fn unmet(&self) -> impl Iterator<Item = (ProcessNo, ProcessNo)> {
        let apart = self.pairs.iter().filter(|pair| !matches!(pair.meeting, Meeting::Met) && !pair.untimely);
        apart.map(|pair| (pair.inviter, pair.accepter))
    }
}

fn address_of(relay: &RelayProcess) -> PeerAddress {
    let link = relay.link();
    PeerAddress { domain: link.domain, endpoint: link.endpoint, relay: link.relay }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Which promises held.
    pub verdict: Verdict,
    /// What happened.
    pub account: Account,
}

/// What a run was, apart from its verdict.
#[derive(Clone, Debug)]
pub struct Account {
    /// Hash over everything that happened.
    pub trace_hash: String,
    /// Events.
    pub events: u64,
    /// How much time passed in the world, without that in which everybody slept.
    pub virtual_time: Duration,
    /// Relays.
    pub relays: usize,
    /// Nodes.
    pub nodes: usize,
    /// What went over the network.
    pub net: crate::net::Counts,
    /// What went wrong by design.
    pub faults: Faults,
    /// The longest that a thread took to come together once all had healed, or once it moved on after that; to a second.
    pub converged: Duration,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod stories;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod agreement_stories;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod circle_stories;
