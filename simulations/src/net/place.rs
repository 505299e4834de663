//! A place: where a process hangs on the network.
//! Owns: its access link both ways (rate, queue, bursts of loss), its region, its address translation.
//! Never: knows a link.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::{Stream, Time};
use crate::scenario::{Network, Rate, Region};

/// Whether others can reach what a place did not call itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Nat {
    /// Anybody can.
    #[default]
    Open,
    /// Whoever it calls at the same time can: its outside port is the same for everybody.
    Easy,
    /// Nobody can: it has another outside port for everybody.
    Hard,
}

/// What a place is made of.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// One way over its access link.
    pub latency: Duration,
    /// What it can send.
    pub up: Rate,
    /// What it can receive.
    pub down: Rate,
    /// Packets lost on it, beside those of the network.
    pub loss: f64,
    /// Where it is.
    pub region: Option<Region>,
    /// Its address translation.
    pub nat: Nat,
}

/// Where a process hangs on the network.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) access: Access,
    pub(super) uplink_free: Time,
    downlink_free: Time,
    /// Out of the network's reach by its owner's habit or a test.
    pub(super) away: bool,
    /// Faults that keep it off the network.
    pub(super) held: u32,
    /// Its links, by number.
    pub(super) links: BTreeSet<u64>,
    bad: bool,
    changes: Time,
    pub(super) stream: Stream,
}

impl Place {
    pub(super) const fn new(access: Access, stream: Stream) -> Self {
        let (uplink_free, downlink_free, changes) = (Time::ZERO, Time::ZERO, Time::ZERO);
        let links = BTreeSet::new();
        Self { access, uplink_free, downlink_free, away: false, held: 0, links, bad: true, changes, stream }
    }

    pub(super) const fn is_online(&self) -> bool {
        !self.away && self.held == 0
    }

    /// Sends so many bytes. Returns when the last one leaves, and whether the queue before the line had no room.
    pub(super) fn depart(&mut self, now: Time, bytes: usize, buffer: Duration) -> (Time, bool) {
        let begins = now.max(self.uplink_free);
        self.uplink_free = begins.plus(self.access.up.time_of(bytes));
        (self.uplink_free, begins.since(now) > buffer)
    }

    /// What arrives at the far end of the downlink comes in behind what is on it. Returns when the last byte is here,
    /// and whether the queue before the line had no room.
    pub(super) fn come_in(&mut self, at: Time, bytes: usize, buffer: Duration) -> (Time, bool) {
        let begins = at.max(self.downlink_free);
        self.downlink_free = begins.plus(self.access.down.time_of(bytes));
        (self.downlink_free, begins.since(at) > buffer)
    }

    /// The same for what comes much later than what is sent after it: it takes its time and keeps nobody waiting.
    pub(super) fn come_late(&self, at: Time, bytes: usize) -> Time {
        at.plus(self.access.down.time_of(bytes))
    }

    /// How likely a packet is lost just now, on its own link and for a share on the network behind it, and whether that
    /// is in a bad stretch. Two states with exponential
    /// lengths (Gilbert, "Capacity of a burst-noise channel", 1960): nothing is lost in good ones.
    pub(super) fn loss(&mut self, now: Time, behind: f64, network: &Network) -> (f64, bool) {
        let mean = 1.0 - (1.0 - behind) * (1.0 - self.access.loss);
        let burst = network.burst.0;
        if mean <= 0.0 || burst.is_zero() || network.burst_loss.0 <= mean {
            return (mean, false);
        }
        let bad_share = mean / network.burst_loss.0;
        let good = Duration::from_nanos((burst.as_nanos() as f64 * (1.0 - bad_share) / bad_share) as u64);
        // After a pause of many stretches nothing is left of how it was.
        if self.changes.plus(20 * (good + burst)) < now {
            self.bad = self.stream.happens(bad_share);
            self.changes = now.plus(self.stream.exponential(if self.bad { burst } else { good }));
        }
        while self.changes <= now {
            self.bad = !self.bad;
            let length = self.stream.exponential(if self.bad { burst } else { good });
            self.changes = self.changes.plus(length.max(Duration::from_micros(1)));
        }
        (if self.bad { network.burst_loss.0 } else { 0.0 }, self.bad)
    }
}
