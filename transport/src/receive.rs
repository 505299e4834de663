//! Receive: frames as they come in on a link.
//! Owns: the bytes of at most one incomplete frame, and the bound on what a header may claim.
//! Never: allocates for what a header merely claims: the buffer grows with what was received.
//! Limits: `limits::UNAUTHENTICATED_BYTES_MAX` until [`FrameReceiver::authenticated`], then each kind's own.

use quinn::ReadError;
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
}

impl FrameReceiver {
    pub(crate) fn new(connection: quinn::Connection, stream: quinn::RecvStream) -> Self {
        Self { connection, stream, buffer: Vec::new(), read: 0, authenticated: false }
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
            match self.stream.read_chunk(CHUNK_BYTES_MAX, true).await {
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
