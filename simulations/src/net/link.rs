//! A link as the network keeps it: its two ends, and what is on its way to each.
//! Owns: these types. Never: changes them; the network does.

use std::collections::VecDeque;

use super::{Cargo, ProcessNo, Side};
use crate::engine::Time;

#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) departs: Time,
    pub(super) arrives: Time,
    /// What it takes of the receiver's line.
    pub(super) stretch: Option<(Time, Time)>,
    pub(super) cargo: Cargo,
}

/// One way of a link.
#[derive(Debug, Default)]
pub(super) struct Direction {
    pub(super) on_the_way: VecDeque<Parcel>,
    pub(super) last_arrival: Time,
    /// Nothing passes since then.
    pub(super) blocked: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The handshake goes on.
    Waiting,
    /// The process was told that the link stands.
    Up,
    /// The process closed it and is told so next.
    Leaving,
    /// The process was told that it is gone, or is gone itself.
    Gone,
}

/// An end's own half: who is there, how it stands, and what is on its way to it.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) process: ProcessNo,
    pub(super) end: End,
    pub(super) inward: Direction,
    /// Counts the times it began or ceased to hear nothing.
    pub(super) silence: u32,
    /// It hears nothing: the count of the silence whose end will be the link's.
    pub(super) silent: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) generation: u32,
    pub(super) dialler: Half,
    pub(super) acceptor: Half,
    pub(super) began: Time,
    pub(super) exporter: [u8; 32],
    /// Nothing new passes any more; the ends find out, each at its time.
    pub(super) dead: bool,
}

impl Conn {
    pub(super) const fn half(&self, side: Side) -> &Half {
        match side {
            Side::Dialler => &self.dialler,
            Side::Acceptor => &self.acceptor,
        }
    }

    pub(super) const fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Acceptor => &mut self.acceptor,
        }
    }
}
