//! The relay core: services over ports.
//! Owns: what a relay knows and decides. Never: a socket, file, task, clock or source of chance; it never decrypts.
//! Map: `ports` (what it needs from outside), `relay` (dispatch), `rooms` (the services), `flow/` (a message's
//! trip), one file per service, `store/` (commands, reads and their mapping to ordered rows).

mod admission;
pub mod config;
mod federation;
mod figures;
mod flow;
mod friendship;
#[cfg(test)]
mod harness;
mod hold;
mod linking;
pub mod poll;
pub mod ports;
mod presence;
mod publics;
mod push;
pub mod rate;
mod reception;
mod refusal;
pub mod relay;
mod rooms;
pub mod store;
mod sweep;
mod thread;
mod user;
mod wake;

pub use config::{Config, ConfigError, Registration};
pub use figures::Counts;
pub use ports::{LinkPeer, Links, PeerAddress, Ports, SendError, WakeOrder, WakeWord};
pub use rate::{Every, Rate, Rates};
pub use relay::{OpenError, Relay};
