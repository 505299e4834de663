//! A relay process: the real ports for the relay core, and the commands around it.
//! Owns: sockets, the disk's one writer, tasks, signals, the configuration file, the identity's files.
//! Never: decides what a relay does with a frame (`whimbrel-relay`).
//! Map: `cli` (commands), `config` (the file), `init` and `identity` (keys on disk), `run` (one process from open to
//! close), `serve` (links), `stores` and `control` (a store as a whole, and the relay that has it open), `links`, `disk`
//! and `kv` (ports), `clock` (the only file that reads one).
//! Rules: docs/operate/.

mod address;
pub mod cli;
mod clock;
pub mod config;
#[cfg(unix)]
mod control;
pub mod disk;
mod failure;
mod figures;
mod http;
pub mod identity;
mod init;
mod invites;
mod kv;
mod links;
mod poll;
pub mod run;
mod serve;
mod stores;
mod timers;
mod wake;
mod watch;

pub use config::Settings;
pub use failure::{Exit, Failure};
pub use kv::RelayKv;
pub use run::{Ready, RunError, run};
