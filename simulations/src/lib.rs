//! The simulator: the same node and relay code as the shipped binaries, under virtual time.
//! Owns: the virtual world (clock, network, disks, people) and the account of what ought to be shown.
//! Never: re-implements a protocol rule; the cores are driven, not imitated. Never reads a clock or an operating
//! system's entropy: all chance is drawn from the seed (`clock` alone measures how long a run took).
//! Map: `engine` (what happens when), `executor` (the relay's futures), `disk`, `net`, `entropy`, `faults` (what goes wrong),
//! `world` (processes and people), `judge` (what ought to be shown, and was), `scenario` (files), `ran` (one run and its
//! repetition), `summary` (what comes out of one), `soak` (many drawn from seeds), `shrink` (the faults that matter),
//! `planted` (the judge judged), `cli`.

pub mod cli;
mod clock;
pub mod disk;
pub mod engine;
mod entropy;
pub mod executor;
pub mod faults;
pub mod judge;
pub mod net;
#[cfg(feature = "planted")]
pub mod planted;
pub mod ran;
pub mod scenario;
pub mod shrink;
pub mod soak;
pub mod summary;
pub mod world;
