//! Link: one authenticated connection and its stream of frames.
//! Owns: what both ends know of each other, and the words for its end.

use std::fmt;
use std::net::SocketAddr;

use quinn::{ConnectionError, VarInt};
use whimbrel_protocol::EXPORTER_LABEL;
use whimbrel_protocol::id::{Domain, PublicKey, RelayId};

use crate::{FrameReceiver, FrameSender};

/// Who is at the other end, as TLS proved it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A node; which device it is remains to be proved by its first frame.
    Node {
        /// The key of its certificate.
        key: PublicKey,
    },
    /// A relay.
    Relay {
        /// Fingerprint of its offline certificate.
        relay: RelayId,
        /// The domain its certificates name: proved for whoever dialled, a claim for whoever accepted.
        domain: Domain,
    },
}

/// An established link. Dropping both halves closes it.
#[derive(Debug)]
pub struct Link {
    /// Who is there.
    pub peer: Peer,
    /// 32 bytes of this connection's TLS exporter (RFC 8446 §7.5, [`EXPORTER_LABEL`]), the same at both ends.
    pub exporter: [u8; 32],
    /// Where it comes from; for debug logs and rate limits only.
    pub remote: SocketAddr,
    /// Frames to the peer.
    pub sender: FrameSender,
    /// Frames from the peer.
    pub receiver: FrameReceiver,
}

impl Link {
    pub(crate) fn new(
        connection: quinn::Connection,
        peer: Peer,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
    ) -> Result<Self, CloseReason> {
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
            .map_err(|_| CloseReason::Lost("no exporter".to_owned()))?;
        let remote = connection.remote_address();
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Ok(Self {
            peer,
            exporter,
            remote,
            sender: FrameSender::new(connection.clone(), send),
            receiver: FrameReceiver::new(connection, receive),
        })
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $number:literal $name:ident $text:literal,)*) => {
        /// Why one side ends a link, as a number on the wire (QUIC application error code).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
            /// A code this version does not know.
            Other(u32),
        }

        impl CloseCode {
            pub(crate) fn number(self) -> VarInt {
                match self {
                    $(Self::$name => VarInt::from_u32($number),)*
                    Self::Other(number) => VarInt::from_u32(number),
                }
            }

            pub(crate) fn from_number(number: VarInt) -> Self {
                match number.into_inner() {
                    $($number => Self::$name,)*
                    other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
                }
            }
        }

        impl fmt::Display for CloseCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(number) => write!(f, "code {number}"),
                }
            }
        }
    };
}

close_codes! {
    /// Nothing more to say.
    0 Done "done",
    /// The process is going down; come back later.
    1 Shutdown "shutting down",
    /// The other side broke the protocol.
    2 Protocol "protocol broken",
    /// The certificate is not of the kind this ALPN asks for.
    3 NotAllowed "not allowed",
    /// Too many links; come back later.
    4 Busy "busy",
    /// Something failed here that is not the other side's fault.
    5 Internal "internal error",
    /// Too slow: the first frame, or one that began, did not come, or the last did not leave, in time.
    6 Slow "too slow",
}

/// How a link ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer finished its stream after its last frame.
    #[error("the other side is done")]
    Finished,
    /// The peer closed the connection.
    #[error("closed by the other side: {0}")]
    ByPeer(CloseCode),
    /// We closed it.
    #[error("closed here")]
    Here,
    /// The peer did not take our certificate.
    #[error("the other side refused our certificate")]
    CertificateRefused,
    /// No common ALPN or QUIC version.
    #[error("no common protocol version")]
    Version,
    /// Nothing was heard for the idle time.
    #[error("nothing heard in time")]
    TimedOut,
    /// Anything else.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// TLS alerts (RFC 8446 §6) arrive as QUIC errors 0x100 + alert (RFC 9001 §4.8).
const ALERTS: u64 = 0x100;
const NO_APPLICATION_PROTOCOL: u64 = ALERTS + 120;
/// `bad_certificate` to `unknown_ca`, `access_denied`, and `certificate_required`.
const CERTIFICATE_ALERTS: [u64; 8] =
    [ALERTS + 42, ALERTS + 43, ALERTS + 44, ALERTS + 45, ALERTS + 46, ALERTS + 48, ALERTS + 49, ALERTS + 116];

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => Self::Version,
            ConnectionError::ApplicationClosed(close) => Self::ByPeer(CloseCode::from_number(close.error_code)),
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                NO_APPLICATION_PROTOCOL => Self::Version,
                code if CERTIFICATE_ALERTS.contains(&code) => Self::CertificateRefused,
                _ => Self::Lost(close.to_string()),
            },
            ConnectionError::TransportError(error) if u64::from(error.code) == NO_APPLICATION_PROTOCOL => Self::Version,
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::TimedOut => Self::TimedOut,
            other => Self::Lost(other.to_string()),
        }
    }
}
