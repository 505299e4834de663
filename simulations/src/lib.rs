//! The simulator: the same node and relay code as the shipped binaries, under virtual time.
//! Owns: the virtual world (clock, network, disks, people) and the account of what ought to be shown.
//! Never: re-implements a protocol rule; the cores are driven, not imitated. Never reads a clock or an operating
//! system's entropy: all chance is drawn from the seed (`clock` alone measures how long a run took).
//! Map: `engine` (what happens when), `executor` (the relay's futures), `disk`, `net`, `world` (processes and people),
//! `ledger` (what was sent and shown), `scenario` (files), `summary` (what comes out), `cli` (the command line).

pub mod cli;
mod clock;
pub mod disk;
pub mod engine;
pub mod executor;
pub mod ledger;
pub mod net;
pub mod scenario;
pub mod summary;
pub mod world;
