//! Entrance: the one queue through which everything reaches the core's thread.
//! Owns: its bound, counted in bytes ([`limits::NODE_INPUT_BYTES_MAX`]), and the numbers of links.
//! Never: blocks a socket's task by anything but waiting: whoever must wait stops reading its peer.
//!
//! The core's thread never waits for a task (see `outlet`), so a task that waits here always gets its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use whimbrel_node::api::{Command, CommandError, Input, Reply};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::limits;

/// One permit stands for so many bytes.
const PERMIT_BYTES: usize = 1024;
/// What an input without a frame counts.
const SMALL_BYTES: usize = limits::CONTROL_FRAME_BYTES_MAX;

/// Where a command's answer goes.
pub(crate) type Answer = oneshot::Sender<Result<Reply, CommandError>>;

/// Something for the core's thread.
pub(crate) enum Item {
    /// For the core.
    Input(Input),
    /// For the core, with where to answer; the permit bounds the commands that wait for their answer.
    Command { command: Command, answer: Answer, permit: OwnedSemaphorePermit },
    /// Finish what is queued before this, sync, and end.
    Shutdown,
}

/// The core's thread is gone; so will everything else be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The outer side.
#[derive(Clone)]
pub(crate) struct Entrance {
    sender: mpsc::Sender<(Item, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    next_link: Arc<AtomicU64>,
}

/// The inner side: the core's thread holds it.
pub(crate) struct Inlet {
    receiver: mpsc::Receiver<(Item, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
}

/// Why no item came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// The time is up.
    Yet,
    /// Nobody is left who could send one.
    Ever,
}

/// Both sides of a new queue.
pub(crate) fn entrance() -> (Entrance, Inlet) {
    let (sender, receiver) = mpsc::channel();
    let room = Arc::new(Semaphore::new(limits::NODE_INPUT_BYTES_MAX / PERMIT_BYTES));
    let entrance = Entrance { sender, room: Arc::clone(&room), next_link: Arc::new(AtomicU64::new(1)) };
    (entrance, Inlet { receiver, room })
}

impl Entrance {
    /// A link number that was never used in this process.
    pub(crate) fn next_link(&self) -> LinkId {
        LinkId::new(self.next_link.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands an input over; waits while the core has too much before it.
    pub(crate) async fn input(&self, input: Input) -> Result<(), Gone> {
        let bytes = match &input {
            // The greatest size of the kind: what a decoded frame really holds is not known without encoding it again.
            Input::Frame { frame, .. } => Frame::body_bytes_max(frame.kind()),
            _ => SMALL_BYTES,
        };
        self.item(Item::Input(input), bytes).await
    }

    /// Hands a command over.
    pub(crate) async fn command(
        &self,
        command: Command,
        answer: Answer,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Gone> {
        self.item(Item::Command { command, answer, permit }, SMALL_BYTES).await
    }

    /// Asks the core's thread to end. Takes no room, so that it never waits.
    pub(crate) fn shutdown(&self) -> Result<(), Gone> {
        self.sender.send((Item::Shutdown, None)).map_err(|_| Gone)
    }

    async fn item(&self, item: Item, bytes: usize) -> Result<(), Gone> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        // The semaphore is closed when the inlet is dropped: nobody waits for a core that is gone.
        let permit = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| Gone)?;
        self.sender.send((item, Some(permit))).map_err(|_| Gone)
    }
}

impl Inlet {
    /// The next item, waiting for it no longer than `wait`; without a bound when there is none. Its room is free again
    /// once this returns.
    pub(crate) fn next(&self, wait: Option<Duration>) -> Result<Item, Nothing> {
        let item = match wait {
            None => self.receiver.recv().map_err(|_| Nothing::Ever),
            Some(wait) => self.receiver.recv_timeout(wait).map_err(|error| match error {
                mpsc::RecvTimeoutError::Timeout => Nothing::Yet,
                mpsc::RecvTimeoutError::Disconnected => Nothing::Ever,
            }),
        };
        item.map(|(item, _room)| item)
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.room.close();
    }
}
