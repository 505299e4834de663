//! The words both sides say: ids, time, limits, frames, the codec.
//! Owns: what is on the wire and what it is called.
//! Never: input or output, a clock, a key. Rules: docs/protocol/.

pub mod canonical;
pub mod codec;
pub mod direct;
pub mod federation;
pub mod frame;
pub mod friendship;
pub mod hold;
pub mod hub;
pub mod id;
pub mod invite;
pub mod limits;
pub mod linking;
pub mod message;
pub mod picture;
pub mod policy;
pub mod poll;
pub mod presence;
pub mod push;
pub mod reception;
pub mod refusal;
pub mod siblings;
pub mod signal;
pub mod signed;
pub mod thread;
pub mod time;
pub mod transparency;
pub mod user;
pub mod wake;

pub use frame::Frame;
pub use refusal::RefusalCode;

/// ALPN of the link between a node and its relay (RFC 7301).
pub const ALPN_NODE: &[u8] = b"whimbrel-node/1";
/// ALPN of the link between two relays.
pub const ALPN_RELAY: &[u8] = b"whimbrel-relay/1";
/// Stream protocol of the direct link between two nodes.
pub const PROTOCOL_DIRECT: &str = "/whimbrel/direct/1";
/// The protocol version this code speaks, and the oldest it accepts.
pub const VERSION: u16 = 1;
/// Label of the TLS exporter that device authentication signs (RFC 8446 §7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-whimbrel-device";

/// The version both sides speak, from the newest the other one does. Version 1 is the oldest and the newest there is.
pub const fn common_version(theirs: u16) -> Option<u16> {
    if theirs >= VERSION { Some(VERSION) } else { None }
}
