//! Driver: the core on a thread of its own, and the disk between what it decides and what leaves.
//! Owns: the order apply, sync, release. A step's batch is applied before the next input; many batches share a sync; a
//! step's outputs leave, in order, only after the sync that makes its batch durable.
//! Never: touches a socket, waits for a task, or goes on after the store failed: the core's memory would be ahead of
//! the disk.
//! Limits: [`limits::NODE_GROUP_INPUTS_MAX`]. Rules: docs/protocol/storage.md, "What leaves, and when".

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use whimbrel_crypto::MlsEngine;
use whimbrel_node::Node;
use whimbrel_node::api::{Event, Input, Output, Peer, Step, Ticket};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{LinkId, PublicKey};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_storage::{OrderedKv, Reads, StorageError};

use crate::clock::Clock;
use crate::entrance::{Answer, Inlet, Item, Nothing};
use crate::outlet::{Outlet, Unsent, weight};

/// The core, or what stands in for it in tests.
pub(crate) trait Core: Send + 'static {
    /// Takes one input.
    fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step);
    /// When to come back with [`Input::Timeout`].
    fn poll_timeout(&self) -> Option<Monotonic>;
}

impl Core for Node<MlsEngine> {
    fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step) {
        Self::handle(self, now, input, reads, step);
    }

    fn poll_timeout(&self) -> Option<Monotonic> {
        Self::poll_timeout(self)
    }
}

/// What the core asks of the link to its home relay.
#[derive(Debug)]
pub(crate) enum HomeWord {
    /// Connect.
    Connect(RelayLink),
    /// Send a frame on a link.
    Send(LinkId, Frame),
    /// End a link once what is queued has left.
    Close(LinkId),
    /// End a link at once: too much waits on it.
    Drop(LinkId),
}

/// What the core asks of the direct links.
#[derive(Debug)]
pub(crate) enum DirectWord {
    /// Reach a node.
    Dial(PublicKey, Vec<String>),
    /// Send a frame on a link.
    Send(LinkId, Frame),
    /// End a link.
    Close(LinkId),
}

/// Where outputs go.
pub(crate) struct Exits {
    /// The home relay.
    pub(crate) home: Outlet<HomeWord>,
    /// Other nodes; absent when direct links are off.
    pub(crate) direct: Option<Outlet<DirectWord>>,
    /// The owner.
    pub(crate) events: broadcast::Sender<Event>,
}

/// Whether the core's thread runs, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) enum Life {
    /// It runs.
    #[default]
    Running,
    /// It was asked to end, and everything is on the disk.
    Ended,
    /// The store failed. Nothing was released since.
    Poisoned(StorageError),
}

/// The core's thread. Returns when asked to, when nobody can reach it any more, or when the store failed; the last
/// word of `life` says which. Answers that are still owed are dropped, which their waiters see.
pub(crate) fn run(
    core: impl Core,
    clock: Clock,
    store: Arc<dyn OrderedKv>,
    inlet: Inlet,
    exits: Exits,
    life: &watch::Sender<Life>,
) {
    let mut driver = Driver {
        core,
        clock,
        store,
        exits,
        tickets: BTreeMap::new(),
        next_ticket: 0,
        links: BTreeMap::new(),
        owed: VecDeque::new(),
    };
    let end = match driver.drive(&inlet) {
        Ok(()) => Life::Ended,
        Err(error) => {
            tracing::error!(%error, "the store failed; the node stops");
            Life::Poisoned(error)
        }
    };
    // The store is given back before anybody hears of the end, so that it can be opened again at once.
    drop(driver);
    life.send_replace(end);
}

/// Which task owns a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Home,
    Direct,
}

struct Driver<C> {
    core: C,
    clock: Clock,
    store: Arc<dyn OrderedKv>,
    exits: Exits,
    tickets: BTreeMap<Ticket, (Answer, OwnedSemaphorePermit)>,
    next_ticket: u64,
    links: BTreeMap<LinkId, Route>,
    /// Inputs the driver itself owes the core: what an output could not reach. Taken before anything else.
    owed: VecDeque<Input>,
}

/// Inputs taken, not yet durable.
#[derive(Default)]
struct Group {
    outputs: Vec<Output>,
    inputs: usize,
    applied: bool,
}

impl<C: Core> Driver<C> {
    fn drive(&mut self, inlet: &Inlet) -> Result<(), StorageError> {
        let mut running = true;
        while running {
            let mut group = Group::default();
            running = self.gather(inlet, &mut group)?;
            if group.applied {
                self.store.sync()?;
            }
            for output in group.outputs {
                self.release(output);
            }
        }
        Ok(())
    }

    /// Takes what is there, up to the bound of a group; waits only for the first. False when asked to end.
    fn gather(&mut self, inlet: &Inlet, group: &mut Group) -> Result<bool, StorageError> {
        let now = self.clock.now();
        // Once a group, before the queue is looked at: neither a full queue nor a deadline that stays due starves the
        // other.
        if self.core.poll_timeout().is_some_and(|at| at <= now.monotonic) {
            self.step(now, Input::Timeout, group)?;
        }
        while group.inputs < limits::NODE_GROUP_INPUTS_MAX {
            let now = self.clock.now();
            if let Some(input) = self.owed.pop_front() {
                self.step(now, input, group)?;
                continue;
            }
            let wait = match group.inputs {
                0 => self.core.poll_timeout().map(|at| at.since(now.monotonic)),
                _ => Some(Duration::ZERO),
            };
            match inlet.next(wait) {
                Ok(item) => {
                    if !self.take(item, group)? {
                        return Ok(false);
                    }
                }
                Err(Nothing::Yet) => return Ok(true),
                Err(Nothing::Ever) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes one item from the queue; false when it asks to end.
    fn take(&mut self, item: Item, group: &mut Group) -> Result<bool, StorageError> {
        let now = self.clock.now();
        match item {
            Item::Shutdown => {
                self.step(now, Input::Leave, group)?;
                return Ok(false);
            }
            Item::Input(input) => self.step(now, input, group)?,
            Item::Command { command, answer, permit } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, (answer, permit));
                self.step(now, Input::Command { ticket, command }, group)?;
            }
        }
        Ok(true)
    }

    fn step(&mut self, now: Now, input: Input, group: &mut Group) -> Result<(), StorageError> {
        match &input {
            Input::LinkUp { link, peer } => {
                let route = match peer {
                    Peer::Relay { .. } => Route::Home,
                    Peer::Node { .. } => Route::Direct,
                };
                self.links.insert(*link, route);
            }
            Input::LinkLost { link } => {
                self.links.remove(link);
            }
            _ => {}
        }
        let mut step = Step::default();
        self.core.handle(now, input, &*self.store, &mut step);
        if let Some(Output::Broken { reason }) =
            step.outputs.iter().find(|output| matches!(output, Output::Broken { .. }))
        {
            return Err(StorageError::Engine(reason.clone()));
        }
        if !step.batch.is_empty() {
            self.store.apply(&step.batch)?;
            group.applied = true;
        }
        group.outputs.append(&mut step.outputs);
        group.inputs += 1;
        Ok(())
    }

    /// Lets an output leave. What is on the disk stays true when its receiver is gone.
    fn release(&mut self, output: Output) {
        let Exits { home, direct, events } = &self.exits;
        match output {
            Output::Send { link, frame } => self.send(link, frame),
            Output::Close { link } => {
                let _gone = match (self.links.get(&link), direct) {
                    (Some(Route::Home), _) => home.word(HomeWord::Close(link)),
                    (Some(Route::Direct), Some(direct)) => direct.word(DirectWord::Close(link)),
                    _ => Ok(()),
                };
            }
            Output::Connect { relay } => {
                let _gone = home.word(HomeWord::Connect(relay));
            }
            Output::Dial { transport, addresses } => {
                let word = DirectWord::Dial(transport, addresses);
                if direct.as_ref().is_none_or(|direct| direct.word(word).is_err()) {
                    self.owed.push_back(Input::DialFailed { transport });
                }
            }
            Output::Answer { ticket, result } => match self.tickets.remove(&ticket) {
                Some((answer, _permit)) => {
                    let _asker_gone = answer.send(result);
                }
                None => tracing::warn!(?ticket, "a command was answered twice"),
            },
            // Met in `step`: it ends the thread.
            Output::Broken { .. } => {}
            Output::Event(event) => {
                let _nobody_listens = events.send(event);
            }
        }
    }

    fn send(&self, link: LinkId, frame: Frame) {
        let Exits { home, direct, .. } = &self.exits;
        let bytes = weight(&frame);
        match (self.links.get(&link), direct) {
            (Some(Route::Home), _) => {
                // Frames arrive in order or the link is lost: one that cannot be queued ends it.
                if home.send(HomeWord::Send(link, frame), bytes) == Err(Unsent::Full) {
                    tracing::warn!(link = link.get(), "the home relay reads too slowly; the link is given up");
                    let _gone = home.word(HomeWord::Drop(link));
                }
            }
            (Some(Route::Direct), Some(direct)) => {
                if let Err(error) = direct.send(DirectWord::Send(link, frame), bytes) {
                    // The relay's copy goes its way when no answer comes.
                    tracing::debug!(link = link.get(), %error, "an envelope does not go directly");
                }
            }
            _ => tracing::trace!(link = link.get(), "the link of a frame is gone"),
        }
    }
}
