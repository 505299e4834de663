//! Tests that belong to no single crate: the house rules (`house/`), and the programs as people run them (`system/`).
//! `tests/run` runs everything.
