//! Flows: a message's trip, in order, one file per trip.
//! Owns: who is asked after whom. Never: a state of its own; rooms have those.

pub(crate) mod about;
pub(crate) mod account;
pub(crate) mod answers;
pub(crate) mod audit;
pub(crate) mod befriend;
pub(crate) mod commands;
pub(crate) mod commit;
pub(crate) mod connect;
pub(crate) mod direct;
pub(crate) mod dropped;
pub(crate) mod facts;
pub(crate) mod group;
pub(crate) mod herald;
pub(crate) mod history;
pub(crate) mod join;
pub(crate) mod keep;
pub(crate) mod link;
pub(crate) mod open;
pub(crate) mod own;
pub(crate) mod pass;
pub(crate) mod picture;
pub(crate) mod read;
pub(crate) mod receipts;
pub(crate) mod receive;
pub(crate) mod rejoin;
pub(crate) mod repair;
pub(crate) mod resend;
pub(crate) mod self_thread;
pub(crate) mod send;
pub(crate) mod settings;
pub(crate) mod siblings;
pub(crate) mod signal;
pub(crate) mod stamp;
pub(crate) mod strangers;
pub(crate) mod witness;
