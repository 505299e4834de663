//! Queue: frames that wait for a call to carry them.
//! Owns: their order and their bounds, those of any link's queue, and the word that the link is to end.
//! Never: waits in `send`; drops a frame it took, unless the link is given up.
//! Limits: `limits::LINK_QUEUE_FRAMES_MAX`, `limits::LINK_QUEUE_BYTES_MAX`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use whimbrel_protocol::{Frame, limits};
use whimbrel_transport::{Encoded, SendError};

/// What is to become of the link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Order {
    Run,
    /// What waits still leaves.
    Close,
    /// It ends at once.
    Abort,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// A frame was refused since there last was room.
    refused: bool,
    order: Order,
    /// Nobody makes calls any more.
    gone: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    drained: Notify,
}

/// The side that hands frames over.
#[derive(Debug)]
pub(crate) struct Queue(Arc<Shared>);

/// The side that makes calls.
pub(super) struct Drain(Arc<Shared>);

/// Both sides of a new queue.
pub(super) fn queue() -> (Queue, Drain) {
    let state = State { frames: VecDeque::new(), bytes: 0, refused: false, order: Order::Run, gone: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), drained: Notify::new() });
    (Queue(shared.clone()), Drain(shared))
}

impl Shared {
    // Nothing that could panic runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self, more: usize) -> bool {
        self.frames.len() >= limits::LINK_QUEUE_FRAMES_MAX
            || (self.bytes > 0 && self.bytes.saturating_add(more) > limits::LINK_QUEUE_BYTES_MAX)
    }
}

impl Queue {
    /// Queues a frame.
    ///
    /// # Errors
    /// As [`SendError`] says; the frame was not taken.
    pub(crate) fn send(&self, frame: &Frame) -> Result<(), SendError> {
        let bytes = Encoded::new(frame)?.bytes();
        let mut state = self.0.state();
        if state.gone || state.order != Order::Run {
            return Err(SendError::Gone);
        }
        if state.is_full(bytes.len()) {
            state.refused = true;
            return Err(SendError::Full);
        }
        state.bytes += bytes.len();
        state.frames.push_back(bytes);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Resolves once the queue, having refused a frame, has room again.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.0.drained.notified();
            {
                let mut state = self.0.state();
                if state.gone || (state.refused && !state.is_full(0)) {
                    state.refused = false;
                    return;
                }
            }
            drained.await;
        }
    }

    /// Ends the link once what waits has left.
    pub(crate) fn close(&self) {
        self.order(Order::Close);
    }

    /// Ends the link at once.
    pub(crate) fn abort(&self) {
        self.order(Order::Abort);
    }

    fn order(&self, order: Order) {
        let mut state = self.0.state();
        state.order = state.order.max(order);
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drain {
    pub(super) fn order(&self) -> Order {
        self.0.state().order
    }

    /// The frame that has waited longest.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut state = self.0.state();
        let frame = state.frames.pop_front()?;
        state.bytes -= frame.len();
        drop(state);
        self.0.drained.notify_one();
        Some(frame)
    }

    /// Resolves when something came, or the link is to end.
    pub(super) async fn changed(&self) {
        loop {
            let changed = self.0.changed.notified();
            {
                let state = self.0.state();
                if !state.frames.is_empty() || state.order != Order::Run {
                    return;
                }
            }
            changed.await;
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.0.state().gone = true;
        self.0.drained.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::RequestId;
    use whimbrel_protocol::reception::Done;

    use super::*;

    fn frame(number: u64) -> Frame {
        Done { request: RequestId::new(number) }.into()
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_says_when_it_has_room_again() {
        let (queue, drain) = queue();
        for n in 0..limits::LINK_QUEUE_FRAMES_MAX as u64 {
            queue.send(&frame(n)).unwrap();
        }
        assert_eq!(queue.send(&frame(0)), Err(SendError::Full));
        assert_eq!(drain.take(), Some(Encoded::new(&frame(0)).unwrap().bytes()));
        queue.drained().await;
        queue.send(&frame(7)).unwrap();
        assert_eq!(queue.send(&frame(8)), Err(SendError::Full));
        drop(drain);
        queue.drained().await;
        assert_eq!(queue.send(&frame(9)), Err(SendError::Gone));
    }

    #[tokio::test]
    async fn who_is_told_to_close_still_gives_what_waits_and_takes_nothing_more() {
        let (queue, drain) = queue();
        queue.send(&frame(1)).unwrap();
        queue.close();
        assert_eq!(queue.send(&frame(2)), Err(SendError::Gone));
        drain.changed().await;
        assert_eq!((drain.order(), drain.take().is_some(), drain.take()), (Order::Close, true, None));
        queue.abort();
        queue.close();
        assert_eq!(drain.order(), Order::Abort);
    }
}
