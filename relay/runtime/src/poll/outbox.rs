//! Outbox: the core's queue of a polled link, shared between whoever sends and the calls that fetch.
//! Owns: waking those who wait. What waits, under which number and how much, is the core's (`whimbrel_relay::poll`).
//! Never: waits in `send`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use whimbrel_relay::poll::{Acknowledged, Fetched, Outgoing};
use whimbrel_transport::SendError;

/// What waits on one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Outgoing<Bytes>>,
    /// Something came, the link ended, or somebody else asks: whoever waits looks again.
    changes: watch::Sender<()>,
    drained: Notify,
    room: Notify,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let changes = watch::Sender::new(());
        Self { queue: Mutex::default(), changes, drained: Notify::new(), room: Notify::new() }
    }

    // Nothing that could panic runs under the lock.
    fn queue(&self) -> MutexGuard<'_, Outgoing<Bytes>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let bytes = frame.len();
        self.queue().send(frame, bytes).map_err(|error| match error {
            whimbrel_relay::SendError::Full => SendError::Full,
            _ => SendError::Gone,
        })?;
        self.changes.send_replace(());
        Ok(())
    }

    /// Takes nothing more; what waits can still be fetched.
    pub(crate) fn close(&self) {
        self.queue().close();
        self.changes.send_replace(());
        self.room.notify_one();
    }

    /// Takes nothing more, and keeps nothing.
    pub(crate) fn abort(&self) {
        self.queue().abort();
        self.close();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.queue().has_ended()
    }

    /// Resolves when it has room: see `FrameSender::has_room`.
    pub(crate) async fn has_room(&self) {
        loop {
            {
                let queue = self.queue();
                if queue.has_ended() || !queue.is_crowded() {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// Resolves once the queue, having refused a frame, is down to half.
    pub(crate) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Resolves when the link has ended.
    pub(super) async fn ended(&self) {
        let mut changes = self.changes.subscribe();
        while !self.has_ended() && changes.changed().await.is_ok() {}
    }

    /// Another call begins: those before it wait no more.
    pub(super) fn turn(&self) -> u64 {
        let turn = self.queue().turn();
        self.changes.send_replace(());
        turn
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Everything up to this number has arrived. False: see [`Acknowledged::Gap`].
    pub(super) fn acknowledge(&self, upto: u64) -> bool {
        let (acknowledged, crowded) = {
            let mut queue = self.queue();
            (queue.acknowledge(upto), queue.is_crowded())
        };
        if acknowledged == Acknowledged::Gap {
            return false;
        }
        if !crowded {
            self.room.notify_one();
        }
        if acknowledged == Acknowledged::Drained {
            self.drained.notify_one();
        }
        true
    }

    /// What follows this number, which was acknowledged.
    pub(super) fn after(&self, number: u64, turn: u64) -> Fetched<Bytes> {
        self.queue().after(number, turn)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::limits;

    use super::*;

    #[test]
    fn it_tells_when_it_has_room_again() {
        let outbox = Outbox::new();
        for _ in 0..limits::LINK_QUEUE_FRAMES_MAX {
            outbox.send(Bytes::from_static(b"x")).unwrap();
        }
        assert_eq!(outbox.send(Bytes::from_static(b"x")), Err(SendError::Full));
        assert!(outbox.acknowledge(limits::LINK_QUEUE_FRAMES_MAX as u64 / 2));
        // Told already: no wait.
        let mut drained = std::pin::pin!(outbox.drained());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(drained.as_mut().poll(&mut context).is_ready());
    }
}
