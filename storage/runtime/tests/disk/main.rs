//! sled and fjall as stores, on a real disk: the contract, opening and closing, kills, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod child;
mod contract;
mod damage;
mod kill;
mod open;
mod size;
