//! Receive: frames as they come in on a link.
//! Owns: the bytes of at most one incomplete frame, the bound on what a header may claim, and the time a frame may take that
//! began.
//! Never: allocates for what a header merely claims: the buffer grows with what was received. Never ends a link on which
//! nothing began: how long it may be silent is for whoever reads it.
//! Limits: `limits::UNAUTHENTICATED_BYTES_MAX` until [`FrameReceiver::authenticated`], then each kind's own;
//! `limits::FRAME_HEADER_TIME_MAX`, `limits::FRAME_BYTES_PER_SECOND_MIN`. Rules: docs/protocol/frames.md.

use std::time::Duration;

use quinn::ReadError;
use tokio::time::{Instant, timeout};
use whimbrel_protocol::codec::{HEADER_BYTES, Header};
use whimbrel_protocol::frame::FrameError;
use whimbrel_protocol::{Frame, limits};

use crate::{CloseCode, CloseReason};

/// Taken from the stream at once, and kept allocated for the next frame.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Why there is no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A frame was read past that is not one. The link goes on.
    #[error("malformed frame: {0}")]
    Malformed(FrameError),
    /// A header claims more than is allowed. The link was closed.
    #[error("frame kind {kind} claims {claimed} bytes, {max} are allowed now")]
    Oversize {
        /// The kind's number.
        kind: u16,
        /// What the header claims.
        claimed: usize,
        /// What is allowed.
        max: usize,
    },
    /// A frame began and did not come in its time. The link was closed.
    #[error("a frame began and does not come on: {received} bytes of it are here")]
    Slow {
        /// How much of it came.
        received: usize,
    },
    /// The link has ended.
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

/// The receiving half of a link.
#[derive(Debug)]
pub struct FrameReceiver {
    connection: quinn::Connection,
    stream: quinn::RecvStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are handed out already.
    read: usize,
    authenticated: bool,
    coming: Coming,
}

/// The frame that is on its way.
#[derive(Default, Debug)]
struct Coming {
    /// How long it was waited for since it began, and from its header on since that was here. Only while somebody waits:
    /// a reader that is busy elsewhere, or whose peer may send no more until it reads, holds nothing against its peer.
    waited: Duration,
    headed: bool,
}

impl Coming {
    /// How much longer may be waited, with so many bytes of the frame here; absent: nothing began.
    fn rest(&mut self, received: usize) -> Option<Duration> {
        let body = match received.checked_sub(HEADER_BYTES) {
            None if received == 0 => {
                *self = Self::default();
                return None;
            }
            None => 0,
            Some(body) => {
                if !std::mem::replace(&mut self.headed, true) {
                    self.waited = Duration::ZERO;
                }
                body as u64
            }
        };
        let earned = Duration::from_millis(body.saturating_mul(1_000) / limits::FRAME_BYTES_PER_SECOND_MIN);
        Some(limits::FRAME_HEADER_TIME_MAX.saturating_add(earned).saturating_sub(self.waited))
    }
}

/// Somebody waits; what passes counts, also when they stop before anything came.
struct Waiting<'c> {
    waited: &'c mut Duration,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.waited = self.waited.saturating_add(self.since.elapsed());
    }
}

impl FrameReceiver {
    pub(crate) fn new(connection: quinn::Connection, stream: quinn::RecvStream) -> Self {
        Self { connection, stream, buffer: Vec::new(), read: 0, authenticated: false, coming: Coming::default() }
    }

    /// The peer is who it says: from now on frames may be as large as their kind allows.
    pub fn authenticated(&mut self) {
        self.authenticated = true;
    }

    /// The next frame. Dropping the future loses nothing: the next call goes on where it stopped.
    ///
    /// # Errors
    /// As [`ReceiveError`] says; after [`ReceiveError::Malformed`] the next frame can be asked for.
    pub async fn next(&mut self) -> Result<Frame, ReceiveError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let received = self.buffer.len() - self.read;
            let chunk = match self.coming.rest(received) {
                None => self.stream.read_chunk(CHUNK_BYTES_MAX, true).await,
                Some(rest) => {
                    let _counted = Waiting { waited: &mut self.coming.waited, since: Instant::now() };
                    // What is here already is taken, whatever the time.
                    match timeout(rest, self.stream.read_chunk(CHUNK_BYTES_MAX, true)).await {
                        Ok(chunk) => chunk,
                        Err(_) => {
                            self.connection.close(CloseCode::Slow.number(), b"");
                            return Err(ReceiveError::Slow { received });
                        }
                    }
                }
            };
            match chunk {
                Ok(Some(chunk)) => self.take(&chunk.bytes),
                Ok(None) => return Err(CloseReason::Finished.into()),
                Err(ReadError::ConnectionLost(error)) => return Err(CloseReason::from(error).into()),
                Err(ReadError::Reset(code)) => {
                    return Err(CloseReason::ByPeer(CloseCode::from_number(code)).into());
                }
                Err(error) => return Err(CloseReason::Lost(error.to_string()).into()),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn buffered_capacity(&self) -> usize {
        self.buffer.capacity()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        if self.buffer.is_empty() {
            // A large frame's room is not kept for the small ones after it.
            self.buffer.shrink_to(CHUNK_BYTES_MAX);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame of what was received, if it is whole.
    fn buffered(&mut self) -> Result<Option<Frame>, ReceiveError> {
        let rest = self.buffer.get(self.read..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = self.check(Header::parse(*header))?;
        let Some(body) = rest.get(..header.length) else { return Ok(None) };
        let frame = header.decode(body);
        self.coming = Coming::default();
        self.read += HEADER_BYTES + header.length;
        if self.read == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(CHUNK_BYTES_MAX);
            self.read = 0;
        }
        frame.map(Some).map_err(ReceiveError::Malformed)
    }

    fn check(&self, header: Result<Header, FrameError>) -> Result<Header, ReceiveError> {
        let oversize = match header {
            Ok(header) if self.authenticated || header.length <= limits::UNAUTHENTICATED_BYTES_MAX => {
                return Ok(header);
            }
            Ok(Header { kind, length }) => {
                ReceiveError::Oversize { kind, claimed: length, max: limits::UNAUTHENTICATED_BYTES_MAX }
            }
            Err(FrameError::Oversize { kind, found, max }) => ReceiveError::Oversize { kind, claimed: found, max },
            Err(error) => return Err(ReceiveError::Malformed(error)),
        };
        // What follows cannot be told apart from a body: the stream is out of step for good.
        self.connection.close(CloseCode::Protocol.number(), b"");
        Err(oversize)
    }
}
