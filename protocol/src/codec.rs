//! The codec: frames in a stream of bytes.
//! Owns: the six-byte header (kind, length; big-endian) and the check of a claimed length before anything is
//! allocated for it.
//! Never: reads a socket.

use crate::frame::{Frame, FrameError};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 6;

/// Room for a text message's frames, so that encoding one allocates once.
const FRAME_BYTES_USUAL: usize = 512;

/// The frame as it goes on a stream.
///
/// # Errors
/// [`FrameError::Oversize`] when the body is over its kind's bound: the peer would refuse it.
pub fn encode(frame: &Frame) -> Result<Vec<u8>, FrameError> {
    let (kind, max) = (frame.kind(), Frame::body_bytes_max(frame.kind()));
    // The length is not known before the body: its place is kept, so that nothing is written or copied twice.
    let mut bytes = Vec::with_capacity(FRAME_BYTES_USUAL);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    frame.encode_body(&mut bytes);
    let found = bytes.len() - HEADER_BYTES;
    match (u32::try_from(found), bytes.get_mut(2..HEADER_BYTES)) {
        (Ok(length), Some(place)) if found <= max => {
            place.copy_from_slice(&length.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(FrameError::Oversize { kind, found, max }),
    }
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The kind's number.
    pub kind: u16,
    /// The body's length in bytes, within the kind's bound.
    pub length: usize,
}

impl Header {
    /// Reads a header and checks the length it claims.
    ///
    /// # Errors
    /// [`FrameError::Oversize`].
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [k0, k1, l0, l1, l2, l3] = bytes;
        let kind = u16::from_be_bytes([k0, k1]);
        let found = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let max = Frame::body_bytes_max(kind);
        if found > max {
            tracing::debug!(kind, found, max, "a frame's claim is over its bound");
            return Err(FrameError::Oversize { kind, found, max });
        }
        Ok(Self { kind, length: found })
    }

    /// Reads the body that follows this header.
    ///
    /// # Errors
    /// As [`FrameError`] says.
    pub fn decode(self, body: &[u8]) -> Result<Frame, FrameError> {
        Frame::decode_body(self.kind, body)
    }
}

/// Collects received bytes into frames. Holds at most one incomplete frame and what came with it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// As [`FrameError`] says. After [`FrameError::Oversize`] the stream is out of step for good; after any other
    /// error the next frame can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.buffer.get(self.read..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::parse(*header)?;
        let Some(body) = rest.get(..header.length) else { return Ok(None) };
        self.read += HEADER_BYTES + header.length;
        header.decode(body).map(Some)
    }

    /// Bytes received and not yet handed out.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.read
    }
}
