//! Outbox: frames that wait until they are fetched, and stay until it is known that they were.
//! Owns: their numbers, from 1 on, and their bounds: those of any link's queue.
//! Never: waits in `send`.
//! Limits: `limits::LINK_QUEUE_FRAMES_MAX`, `limits::LINK_QUEUE_BYTES_MAX`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use whimbrel_protocol::limits;
use whimbrel_transport::SendError;

/// What waits on one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Something came, the link ended, or somebody else asks: whoever waits looks again.
    changes: watch::Sender<()>,
    drained: Notify,
    room: Notify,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    /// A frame was refused since the queue last had room.
    refused: bool,
    ended: bool,
    /// The number of the newest call.
    turn: u64,
}

impl Queue {
    fn is_crowded(&self) -> bool {
        self.frames.len() > limits::LINK_QUEUE_FRAMES_MAX / 2 || self.bytes > limits::LINK_QUEUE_BYTES_MAX / 2
    }
}

/// What is fetched.
#[derive(Debug)]
pub(super) enum Fetched {
    /// These.
    Frames(Vec<Bytes>),
    /// Nothing yet.
    Nothing,
    /// Nothing for this call: there is a newer one.
    Superseded,
    /// Nothing, and there will be nothing.
    Ended,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let queue = Queue { frames: VecDeque::new(), first: 1, bytes: 0, refused: false, ended: false, turn: 0 };
        let changes = watch::Sender::new(());
        Self { queue: Mutex::new(queue), changes, drained: Notify::new(), room: Notify::new() }
    }

    // Nothing that could panic runs under the lock.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let mut queue = self.queue();
        if queue.ended {
            return Err(SendError::Gone);
        }
        let full = queue.frames.len() >= limits::LINK_QUEUE_FRAMES_MAX
            || queue.bytes.saturating_add(frame.len()) > limits::LINK_QUEUE_BYTES_MAX;
        if full {
            queue.refused = true;
            return Err(SendError::Full);
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        drop(queue);
        self.changes.send_replace(());
        Ok(())
    }

    /// Takes nothing more; what waits can still be fetched.
    pub(crate) fn close(&self) {
        self.queue().ended = true;
        self.changes.send_replace(());
        self.room.notify_one();
    }

    /// Takes nothing more, and keeps nothing.
    pub(crate) fn abort(&self) {
        let mut queue = self.queue();
        queue.ended = true;
        queue.bytes = 0;
        queue.frames = VecDeque::new();
        drop(queue);
        self.close();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.queue().ended
    }

    /// Resolves when it has room: see `FrameSender::has_room`.
    pub(crate) async fn has_room(&self) {
        loop {
            {
                let queue = self.queue();
                if queue.ended || !queue.is_crowded() {
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
        let mut queue = self.queue();
        queue.turn += 1;
        let turn = queue.turn;
        drop(queue);
        self.changes.send_replace(());
        turn
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Everything up to this number has arrived. False: it was never sent, or what follows it is here no more, since a
    /// later call had it already.
    pub(super) fn acknowledge(&self, upto: u64) -> bool {
        let mut queue = self.queue();
        let next = upto.saturating_add(1);
        if next < queue.first || next > queue.first.saturating_add(queue.frames.len() as u64) {
            return false;
        }
        while queue.first <= upto
            && let Some(frame) = queue.frames.pop_front()
        {
            queue.first += 1;
            queue.bytes = queue.bytes.saturating_sub(frame.len());
        }
        if !queue.is_crowded() {
            let refused = std::mem::take(&mut queue.refused);
            drop(queue);
            self.room.notify_one();
            if refused {
                self.drained.notify_one();
            }
        }
        true
    }

    /// What follows this number, which was acknowledged: at least one frame, if there is one, and no more once this many
    /// bytes are passed.
    pub(super) fn after(&self, number: u64, turn: u64) -> Fetched {
        let queue = self.queue();
        if queue.turn != turn {
            return Fetched::Superseded;
        }
        let skip = usize::try_from(number.saturating_add(1).saturating_sub(queue.first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let frames: Vec<Bytes> = queue
            .frames
            .iter()
            .skip(skip)
            .take_while(|frame| {
                let taken = bytes < limits::POLL_ANSWER_BYTES;
                bytes += frame.len();
                taken
            })
            .cloned()
            .collect();
        match frames.is_empty() {
            false => Fetched::Frames(frames),
            true if queue.ended => Fetched::Ended,
            true => Fetched::Nothing,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().frames.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn frames(outbox: &Outbox, after: u64) -> Vec<Bytes> {
        match outbox.after(after, outbox.turn()) {
            Fetched::Frames(frames) => frames,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_handed_out_again() {
        let outbox = Outbox::new();
        for byte in 1..=3_u8 {
            outbox.send(Bytes::from(vec![byte])).unwrap();
        }
        assert!(outbox.acknowledge(0));
        for _ in 0..2 {
            assert_eq!(frames(&outbox, 0), [vec![1], vec![2], vec![3]]);
        }
        assert!(outbox.acknowledge(2));
        assert_eq!(frames(&outbox, 2), [vec![3]]);
        // An older call that comes late would see a gap.
        assert!(!outbox.acknowledge(1));
        assert!(!outbox.acknowledge(4));
        assert!(outbox.acknowledge(3));
        let turn = outbox.turn();
        assert!(matches!(outbox.after(3, turn), Fetched::Nothing));
        outbox.close();
        assert!(matches!(outbox.after(3, turn), Fetched::Ended));
        assert!(matches!(outbox.after(3, turn - 1), Fetched::Superseded));
    }

    #[test]
    fn it_is_bounded_and_tells_when_it_has_room_again() {
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
