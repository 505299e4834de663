//! Outlet: what the core's thread hands to the tasks that own sockets.
//! Owns: a queue that never makes the core wait, and its bound in bytes ([`limits::NODE_OUTPUT_BYTES_MAX`]).
//! Never: drops anything silently: who hands over a frame learns at once when there is no room, and gives the link up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use whimbrel_protocol::Frame;
use whimbrel_protocol::limits;

/// What a queued frame costs besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsent {
    /// Too much is waiting already.
    #[error("too much waits to be sent")]
    Full,
    /// The receiving task is gone.
    #[error("the link is gone")]
    Gone,
}

/// The core's side.
pub(crate) struct Outlet<T> {
    sender: mpsc::UnboundedSender<(T, Held)>,
    queued: Arc<AtomicUsize>,
}

/// The task's side.
pub(crate) struct Drain<T>(mpsc::UnboundedReceiver<(T, Held)>);

/// Room taken in an outlet, until this is dropped: whoever sends the frame keeps it until then.
#[derive(Debug)]
pub(crate) struct Held {
    queued: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Both sides of a new queue.
pub(crate) fn outlet<T>() -> (Outlet<T>, Drain<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Outlet { sender, queued: Arc::new(AtomicUsize::new(0)) }, Drain(receiver))
}

/// About what a frame costs while it is queued: the bytes of its large parts, and something for the rest.
pub(crate) fn weight(frame: &Frame) -> usize {
    let large = match frame {
        Frame::Submit(submit) => submit.envelope.body.len(),
        Frame::DirectEnvelope(words) => words.envelope.body.len(),
        Frame::OpenThread(open) => open.opening.welcome.len() + open.opening.tree.len(),
        Frame::StockKeyPackages(stock) => stock.one_time.len() * limits::KEY_PACKAGE_BYTES_MAX,
        _ => 1024,
    };
    large + OVERHEAD_BYTES
}

impl<T> Outlet<T> {
    /// Queues something that carries so many bytes.
    pub(crate) fn send(&self, item: T, bytes: usize) -> Result<(), Unsent> {
        let queued = self.queued.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let held = Held { queued: Arc::clone(&self.queued), bytes };
        if queued > limits::NODE_OUTPUT_BYTES_MAX {
            return Err(Unsent::Full);
        }
        self.sender.send((item, held)).map_err(|_| Unsent::Gone)
    }

    /// Queues a word of which there are at most a few per link; it finds room always.
    pub(crate) fn word(&self, item: T) -> Result<(), Unsent> {
        let held = Held { queued: Arc::clone(&self.queued), bytes: 0 };
        self.sender.send((item, held)).map_err(|_| Unsent::Gone)
    }
}

impl<T> Drain<T> {
    /// The next item and the room it takes; `None` once the outlet is dropped and nothing is left. Safe to drop while
    /// waiting.
    pub(crate) async fn next(&mut self) -> Option<(T, Held)> {
        self.0.recv().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn room_is_free_again_once_what_took_it_is_dropped() {
        let (outlet, mut drain) = outlet();
        outlet.send('a', limits::NODE_OUTPUT_BYTES_MAX).unwrap();
        assert_eq!(outlet.send('b', 1), Err(Unsent::Full));
        outlet.word('c').unwrap();
        let (item, held) = drain.0.try_recv().unwrap();
        assert_eq!((item, outlet.send('d', 1)), ('a', Err(Unsent::Full)));
        drop(held);
        outlet.send('e', limits::NODE_OUTPUT_BYTES_MAX).unwrap();
        drop(drain);
        assert_eq!(outlet.word('f'), Err(Unsent::Gone));
    }
}
