//! Send: frames waiting to leave on a link.
//! Owns: the bounded queue, and the one task that writes it. What waits is written together: a packet costs as much
//! as hundreds of small frames. Limits: `limits::LINK_QUEUE_FRAMES_MAX`, `limits::LINK_QUEUE_BYTES_MAX`.
//! Never: waits in `send`; drops a frame it took, unless the link is lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::WriteError;
use tokio::sync::Notify;
use whimbrel_protocol::codec;
use whimbrel_protocol::frame::FrameError;
use whimbrel_protocol::{Frame, limits};

use crate::{CloseCode, CloseReason};

/// Why a frame was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is at its bound. [`FrameSender::drained`] tells when it has room again.
    #[error("the link's queue is full")]
    Full,
    /// The link is closing or gone.
    #[error("the link is gone")]
    Gone,
    /// The frame is over its kind's bound: whoever made it is at fault.
    #[error(transparent)]
    Oversize(#[from] FrameError),
}

/// A frame as it goes on the wire; clones share the bytes, so one can be sent on many links.
#[derive(Clone, Debug)]
pub struct Encoded(Bytes);

impl Encoded {
    /// Encodes a frame.
    ///
    /// # Errors
    /// The body is over its kind's bound.
    pub fn new(frame: &Frame) -> Result<Self, FrameError> {
        codec::encode(frame).map(|bytes| Self(Bytes::from(bytes)))
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Bytes on the wire, header included.
    pub fn bytes_len(&self) -> usize {
        self.0.len()
    }
}

/// The sending half of a link. Clones share it; when the last is dropped, what waits still leaves, then the link
/// closes.
#[derive(Clone, Debug)]
pub struct FrameSender(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: quinn::Connection,
    queue: Mutex<Queue>,
    /// Something to do for the writer.
    wake: Notify,
    closing: Notify,
    drained: Notify,
    room: Notify,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Bytes of the frames and of what the writer is busy with.
    bytes: usize,
    /// A frame was refused since the queue last had room.
    refused: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Closing(CloseCode),
    Gone,
}

enum Work {
    Write(Vec<Bytes>),
    Wait,
    Finish(CloseCode),
}

impl FrameSender {
    pub(crate) fn new(connection: quinn::Connection, stream: quinn::SendStream) -> Self {
        let shared = Arc::new(Shared {
            connection,
            queue: Mutex::new(Queue { frames: VecDeque::new(), bytes: 0, refused: false, state: State::Open }),
            wake: Notify::new(),
            closing: Notify::new(),
            drained: Notify::new(),
            room: Notify::new(),
        });
        // It ends with the connection, or `LINK_CLOSE_TIME_MAX` after the last handle at the latest.
        tokio::spawn(run(shared.clone(), stream));
        Self(Arc::new(Handle(shared)))
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// As [`SendError`] says; the frame was not taken.
    pub fn send(&self, frame: &Frame) -> Result<(), SendError> {
        self.send_encoded(Encoded::new(frame)?)
    }

    /// Queues an encoded frame.
    ///
    /// # Errors
    /// As [`SendError`] says; the frame was not taken.
    pub fn send_encoded(&self, Encoded(bytes): Encoded) -> Result<(), SendError> {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        if queue.state != State::Open {
            return Err(SendError::Gone);
        }
        let full = queue.frames.len() >= limits::LINK_QUEUE_FRAMES_MAX
            || queue.bytes.saturating_add(bytes.len()) > limits::LINK_QUEUE_BYTES_MAX;
        if full {
            queue.refused = true;
            return Err(SendError::Full);
        }
        queue.bytes += bytes.len();
        queue.frames.push_back(bytes);
        drop(queue);
        shared.wake.notify_one();
        Ok(())
    }

    /// Whether the queue is more than half full: whoever asks more of us now should wait for the answers.
    pub fn is_crowded(&self) -> bool {
        self.0.0.lock().is_crowded()
    }

    /// Resolves when [`FrameSender::is_crowded`] is false. One waiter at a time.
    pub async fn has_room(&self) {
        while self.is_crowded() {
            self.0.0.room.notified().await;
        }
    }

    /// Resolves once the queue, having refused a frame, is down to half. One waiter at a time.
    pub async fn drained(&self) {
        self.0.0.drained.notified().await;
    }

    /// Ends the link once what is queued has left, within `limits::LINK_CLOSE_TIME_MAX`.
    pub fn close(&self, code: CloseCode) {
        self.0.0.close(code);
    }

    #[cfg(test)]
    pub(crate) fn packets_sent(&self) -> u64 {
        self.0.0.connection.stats().path.sent_packets
    }

    /// Ends the link at once; what is queued is lost.
    pub fn abort(&self, code: CloseCode) {
        self.0.0.connection.close(code.number(), b"");
    }

    /// Resolves when the connection has ended, however it did.
    pub async fn closed(&self) -> CloseReason {
        self.0.0.connection.closed().await.into()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(CloseCode::Done);
    }
}

impl Queue {
    fn is_crowded(&self) -> bool {
        self.frames.len() > limits::LINK_QUEUE_FRAMES_MAX / 2 || self.bytes > limits::LINK_QUEUE_BYTES_MAX / 2
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that could panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, code: CloseCode) {
        let mut queue = self.lock();
        if queue.state == State::Open {
            queue.state = State::Closing(code);
            drop(queue);
            self.closing.notify_one();
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Work {
        let mut queue = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < limits::LINK_WRITE_BYTES_MAX
            && let Some(frame) = queue.frames.pop_front()
        {
            bytes += frame.len();
            taken.push(frame);
        }
        match queue.state {
            _ if !taken.is_empty() => Work::Write(taken),
            State::Open | State::Gone => Work::Wait,
            State::Closing(code) => Work::Finish(code),
        }
    }

    fn written(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        if !queue.is_crowded() {
            let refused = std::mem::take(&mut queue.refused);
            drop(queue);
            self.room.notify_one();
            if refused {
                self.drained.notify_one();
            }
        }
    }

    fn gone(&self) {
        let mut queue = self.lock();
        queue.state = State::Gone;
        queue.frames = VecDeque::new();
        queue.bytes = 0;
        drop(queue);
        self.room.notify_one();
    }
}

async fn run(shared: Arc<Shared>, stream: quinn::SendStream) {
    let overdue = async {
        shared.closing.notified().await;
        tokio::time::sleep(limits::LINK_CLOSE_TIME_MAX).await;
    };
    let code = tokio::select! {
        code = pump(&shared, stream) => code,
        () = overdue => Some(CloseCode::Slow),
        _ = shared.connection.closed() => None,
    };
    shared.gone();
    // Closing again would hide from the reader why the connection ended.
    if let Some(code) = code
        && shared.connection.close_reason().is_none()
    {
        shared.connection.close(code.number(), b"");
    }
}

/// Writes until there is nothing more to write; answers how the connection is to be closed, unless it ended by itself.
async fn pump(shared: &Shared, mut stream: quinn::SendStream) -> Option<CloseCode> {
    loop {
        match shared.take() {
            Work::Write(mut frames) => {
                let bytes = frames.iter().map(Bytes::len).sum();
                match stream.write_all_chunks(&mut frames).await {
                    Ok(()) => shared.written(bytes),
                    Err(WriteError::Stopped(_)) => return Some(CloseCode::Done),
                    Err(_) => return None,
                }
            }
            Work::Wait => shared.wake.notified().await,
            Work::Finish(code) => {
                // Closing now would drop what is on its way: the peer's acknowledgement of the last byte comes first.
                if stream.finish().is_ok() {
                    let _acknowledged_or_lost = stream.stopped().await;
                }
                return Some(code);
            }
        }
    }
}
