//! The node core: one person's device as a pure state machine.
//! Owns: what a device knows and decides, from the first key to the last receipt.
//! Never: a socket, file, task, clock or source of chance; `node/runtime` has those.
//! Map: `api` (inputs, outputs), `node` (dispatch), `flow/` (a message's trip), one file per service.

pub mod api;
mod audit;
pub mod backup;
mod contacts;
mod direct;
mod flow;
mod friendship;
mod history;
mod hold;
pub mod identity;
pub mod linking;
mod node;
mod outbox;
pub mod poll;
mod presence;
mod push;
mod reception;
mod requests;
mod rooms;
mod rows;
mod signal;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests;
mod thread;
mod timers;
mod user;
pub mod views;

pub use api::{Command, CommandError, Config, Event, Input, Output, Path, Peer, Reply, Step, Ticket};
pub use node::{Node, OpenError};
pub use rows::{KEY_SHAPES, SCHEMA};
