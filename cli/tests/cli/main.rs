//! The binary `whimbrel`, as people and scripts meet it: arguments in, streams and exit codes out.
//! Real processes, real relays on loopback, real stores in temporary folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod account;
mod at_rest;
mod backup;
mod bad_input;
mod copies;
mod daemon;
mod doors;
mod groups;
mod hostile;
mod people;
mod poll;
mod secrets;
mod stage;
mod talk;
