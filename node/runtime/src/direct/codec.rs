//! Frames on a stream of the direct path: one request, one answer, each one frame of `protocol::codec`.
//! Owns: which kinds are let in on which side. A header's kind and length are checked before anything is read for it,
//! and room grows with the bytes that came, not with those that were announced.
//! Never: decides about an envelope. Rules: docs/protocol/direct.md, "Streams".

use std::io;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::Codec;
use whimbrel_protocol::Frame;
use whimbrel_protocol::codec::{self, HEADER_BYTES, Header};
use whimbrel_protocol::direct::{DirectEnvelope, DirectRefused, DirectStored};
use whimbrel_protocol::frame::FrameError;
use whimbrel_protocol::id::EnvelopeId;

/// What came as a request. One that breaks the protocol is a value, not an error: libp2p keeps errors of reading a
/// request to itself, and the core counts them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DirectRequest {
    /// An envelope.
    Envelope(DirectEnvelope),
    /// No request; why, for logs.
    Malformed(String),
}

/// The answer to an envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DirectAnswer {
    /// It is on the other node's disk.
    Stored(DirectStored),
    /// It is not taken.
    Refused(DirectRefused),
}

impl DirectAnswer {
    /// Which envelope it is about.
    pub(super) fn envelope(&self) -> EnvelopeId {
        match self {
            Self::Stored(words) => words.envelope,
            Self::Refused(words) => words.envelope,
        }
    }
}

impl From<DirectAnswer> for Frame {
    fn from(answer: DirectAnswer) -> Self {
        match answer {
            DirectAnswer::Stored(words) => words.into(),
            DirectAnswer::Refused(words) => words.into(),
        }
    }
}

/// Reads and writes the two.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct DirectCodec;

/// Whether a kind has its place here, told by its number; asked before a byte of its body is read.
type Expected = fn(u16) -> bool;

const REQUEST: Expected = |kind| kind == 80;
const ANSWER: Expected = |kind| kind == 81 || kind == 82;

/// The peer broke the protocol; tells such errors from those of the network.
pub(super) fn is_malformed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn read_frame<T: AsyncRead + Unpin + Send>(io: &mut T, expected: Expected) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    io.read_exact(&mut header).await?;
    let header = Header::parse(header).map_err(malformed)?;
    if !expected(header.kind) {
        return Err(malformed(format!("frame kind {} has no place here", header.kind)));
    }
    let mut body = Vec::new();
    let length = u64::try_from(header.length).map_err(malformed)?;
    if io.take(length).read_to_end(&mut body).await? < header.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    header.decode(&body).map_err(malformed)
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(io: &mut T, frame: Frame) -> io::Result<()> {
    let bytes = codec::encode(&frame).map_err(|error: FrameError| malformed(error))?;
    io.write_all(&bytes).await
}

impl Codec for DirectCodec {
    type Protocol = StreamProtocol;
    type Request = DirectRequest;
    type Response = DirectAnswer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<DirectRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_frame(io, REQUEST).await {
            Ok(Frame::DirectEnvelope(words)) => Ok(DirectRequest::Envelope(words)),
            Ok(other) => Ok(DirectRequest::Malformed(format!("{} is no request", other.name()))),
            Err(error) if is_malformed(&error) => Ok(DirectRequest::Malformed(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<DirectAnswer>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_frame(io, ANSWER).await? {
            Frame::DirectStored(words) => Ok(DirectAnswer::Stored(words)),
            Frame::DirectRefused(words) => Ok(DirectAnswer::Refused(words)),
            other => Err(malformed(format!("{} is no answer", other.name()))),
        }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: DirectRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            DirectRequest::Envelope(words) => write_frame(io, words.into()).await,
            DirectRequest::Malformed(why) => Err(malformed(why)),
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: DirectAnswer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, answer.into()).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use libp2p::futures::executor::block_on;
    use libp2p::futures::io::Cursor;
    use whimbrel_protocol::RefusalCode;
    use whimbrel_protocol::id::{Epoch, ThreadId};
    use whimbrel_protocol::limits::ENVELOPE_FRAME_BYTES_MAX;
    use whimbrel_protocol::thread::{Class, Envelope};

    use super::*;

    const PROTOCOL: StreamProtocol = StreamProtocol::new(whimbrel_protocol::PROTOCOL_DIRECT);

    fn envelope(bytes: usize) -> DirectEnvelope {
        let (thread, epoch) = (ThreadId::from_bytes([1; 32]), Epoch::new(1));
        DirectEnvelope { envelope: Envelope { thread, epoch, class: Class::Message, body: vec![7; bytes] } }
    }

    fn request(bytes: usize) -> DirectRequest {
        DirectRequest::Envelope(envelope(bytes))
    }

    fn is_refused(bytes: &[u8]) -> bool {
        matches!(read_request(bytes), Ok(DirectRequest::Malformed(_)))
    }

    fn read_request(bytes: &[u8]) -> io::Result<DirectRequest> {
        block_on(DirectCodec.read_request(&PROTOCOL, &mut Cursor::new(bytes)))
    }

    #[test]
    fn requests_and_answers_read_back() {
        let mut bytes = Vec::new();
        block_on(DirectCodec.write_request(&PROTOCOL, &mut bytes, request(1_000))).unwrap();
        assert_eq!(read_request(&bytes).unwrap(), request(1_000));
        let envelope = envelope(1).envelope.id();
        for answer in [
            DirectAnswer::Stored(DirectStored { envelope }),
            DirectAnswer::Refused(DirectRefused { envelope, code: RefusalCode::NotFound }),
        ] {
            let mut bytes = Vec::new();
            block_on(DirectCodec.write_response(&PROTOCOL, &mut bytes, answer.clone())).unwrap();
            let read = block_on(DirectCodec.read_response(&PROTOCOL, &mut Cursor::new(bytes)));
            assert_eq!(read.unwrap(), answer);
        }
    }

    #[test]
    fn the_named_kinds_are_those_of_the_protocol() {
        let kind = |name| Frame::KINDS.iter().find(|(_, known)| *known == name).unwrap().0;
        assert!(REQUEST(kind("DirectEnvelope")) && !ANSWER(kind("DirectEnvelope")));
        assert!(ANSWER(kind("DirectStored")) && ANSWER(kind("DirectRefused")) && !REQUEST(kind("DirectStored")));
    }

    #[test]
    fn an_oversize_claim_is_refused_before_its_body_is_read() {
        let mut header = 80_u16.to_be_bytes().to_vec();
        header.extend_from_slice(&u32::try_from(ENVELOPE_FRAME_BYTES_MAX + 1).unwrap().to_be_bytes());
        // Were the body wanted, the error would be the end of the stream.
        assert!(is_refused(&header));
    }

    #[test]
    fn a_kind_that_has_no_place_on_the_link_is_refused_before_its_body_is_read() {
        for kind in [0_u16, 1, 17, 81, 82, 999] {
            let mut header = kind.to_be_bytes().to_vec();
            header.extend_from_slice(&9_u32.to_be_bytes());
            assert!(is_refused(&header), "kind {kind} was taken");
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_the_networks_fault_and_a_broken_body_the_peers() {
        let mut bytes = Vec::new();
        block_on(DirectCodec.write_request(&PROTOCOL, &mut bytes, request(50))).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(read_request(&bytes[..end]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "cut at {end}");
        }
        bytes[HEADER_BYTES] = 0xff;
        assert!(is_refused(&bytes));
    }
}
