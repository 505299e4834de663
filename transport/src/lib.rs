//! Transport: QUIC links that carry frames, with both ends proved.
//! Owns: sockets, TLS 1.3 with pinned relay identities, one stream of frames per link, its queue and its bounds.
//! Never: reads a clock (validity is judged by the one handed in), knows what a frame is for, keeps a link alive: the
//! heartbeat does. Map: `identity` (who we are), `verify` (who they are), `config`, `endpoint` (dial, accept), `link`,
//! `send`, `receive`; `bare` is the library without us, to measure ourselves by. Rules: docs/protocol/links.md.

pub mod bare;
mod config;
mod endpoint;
mod https;
mod identity;
mod link;
mod provider;
mod receive;
mod reset;
mod send;
#[cfg(test)]
mod tests;
mod verify;

use whimbrel_protocol::time::Wall;

pub use endpoint::{AcceptError, BindError, ConnectError, Endpoint, Incoming};
pub use https::{https_client, https_server};
pub use identity::{Identity, IdentityError};
pub use link::{CloseCode, CloseReason, Link, Peer};
pub use provider::{install, provider};
pub use receive::{FrameReceiver, ReceiveError};
pub use send::{Encoded, FrameSender, SendError};

/// Where the time for judging certificates comes from.
pub type Clock = fn() -> Wall;
