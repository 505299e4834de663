//! A place: where a process hangs on the network.
//! Owns: its access link both ways (rate, queue, bursts of loss), its region, its address translation.
//! Never: knows a link.

use std::collections::{BTreeSet, VecDeque};
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

/// A line that carries one frame at a time, by when each arrives before it, not by when it was sent: what is on its way
/// from afar keeps nobody waiting who is there before it.
#[derive(Debug)]
struct Line {
    /// When it is taken, from now on: disjoint and ascending.
    taken: VecDeque<(Time, Time)>,
}

impl Line {
    const fn new() -> Self {
        Self { taken: VecDeque::new() }
    }

    /// Takes the first free stretch from `at` on. Returns where it begins.
    fn take(&mut self, now: Time, at: Time, length: Duration) -> Time {
        while self.taken.front().is_some_and(|(_, end)| *end <= now) {
            self.taken.pop_front();
        }
        let mut place = self.taken.partition_point(|(_, end)| *end <= at);
        let mut begins = at;
        while let Some((start, end)) = self.taken.get(place) {
            if begins.plus(length) <= *start {
                break;
            }
            begins = begins.max(*end);
            place += 1;
        }
        let ends = begins.plus(length);
        match place.checked_sub(1).and_then(|before| self.taken.get_mut(before)) {
            Some((_, end)) if *end == begins => *end = ends,
            _ => self.taken.insert(place, (begins, ends)),
        }
        begins
    }

    /// Gives back what is still to come of a stretch that was taken.
    fn give_back(&mut self, now: Time, (start, end): (Time, Time)) {
        let start = start.max(now);
        if start >= end {
            return;
        }
        let place = self.taken.partition_point(|(_, until)| *until <= start);
        let Some((from, until)) = self.taken.get(place).copied() else { return };
        let kept = [(from, start.min(until)), (end.max(from), until)];
        self.taken.remove(place);
        for part in kept.into_iter().rev().filter(|(from, until)| from < until) {
            self.taken.insert(place, part);
        }
    }
}

/// Where a process hangs on the network.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) access: Access,
    pub(super) uplink_free: Time,
    downlink: Line,
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
    pub(super) fn new(access: Access, stream: Stream) -> Self {
        let (uplink_free, changes, downlink) = (Time::ZERO, Time::ZERO, Line::new());
        let links = BTreeSet::new();
        Self { access, uplink_free, downlink, away: false, held: 0, links, bad: true, changes, stream }
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

    /// What arrives at the far end of the downlink takes its time on it, as soon as the line is free. Returns the
    /// stretch of the line it has, at whose end the last byte is here, and whether the queue before the line had no room.
    pub(super) fn come_in(&mut self, now: Time, at: Time, bytes: usize, buffer: Duration) -> ((Time, Time), bool) {
        let takes = self.access.down.time_of(bytes);
        let begins = self.downlink.take(now, at, takes);
        ((begins, begins.plus(takes)), begins.since(at) > buffer)
    }

    /// Nobody sends any more what was to come in then: the line is free for others.
    pub(super) fn stay_out(&mut self, now: Time, stretch: (Time, Time)) {
        self.downlink.give_back(now, stretch);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Time {
        Time::ZERO.plus(Duration::from_millis(at))
    }

    #[test]
    fn a_line_is_taken_by_when_something_arrives_and_never_twice_at_once() {
        let mut line = Line::new();
        let mut take = |now, at, length| line.take(ms(now), ms(at), Duration::from_millis(length));
        assert_eq!(take(0, 300, 10), ms(300), "from afar");
        assert_eq!(take(0, 20, 10), ms(20), "sent later, there before it");
        assert_eq!(take(0, 25, 10), ms(30), "behind what is on the line");
        assert_eq!(take(0, 295, 10), ms(310), "no room before what comes next");
        assert_eq!(take(0, 285, 10), ms(285));
        assert_eq!(take(0, 290, 5), ms(295), "just room");
        assert_eq!(take(400, 400, 10), ms(400));
        assert_eq!(line.taken.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn what_is_given_back_is_free_again_and_nothing_else_is() {
        let mut line = Line::new();
        let length = Duration::from_millis(10);
        for at in [0, 10, 20, 50] {
            assert_eq!(line.take(ms(0), ms(at), length), ms(at));
        }
        line.give_back(ms(0), (ms(10), ms(20)));
        assert_eq!(line.take(ms(0), ms(0), length), ms(10), "the one in the middle");
        assert_eq!(line.take(ms(0), ms(0), length), ms(30), "and only that one");
        line.give_back(ms(35), (ms(30), ms(40)));
        assert_eq!(line.take(ms(35), ms(35), Duration::from_millis(5)), ms(35), "what was left of it");
        line.give_back(ms(35), (ms(50), ms(60)));
        assert_eq!(line.taken, [(ms(35), ms(40))], "the last one, too");
        line.give_back(ms(40), (ms(35), ms(40)));
        assert_eq!(line.taken, [(ms(35), ms(40))], "what is over is not given back");
    }

    #[test]
    fn a_line_carries_no_more_than_it_can() {
        let mut line = Line::new();
        let mut stream = crate::engine::Seed::from(1).stream(crate::engine::Entity::World, "line");
        let mut taken: Vec<_> = (0..500)
            .map(|_| {
                let (at, length) = (ms(stream.below(1_000)), Duration::from_millis(1 + stream.below(5)));
                let begins = line.take(Time::ZERO, at, length);
                assert!(begins >= at);
                (begins, begins.plus(length))
            })
            .collect();
        taken.sort_unstable();
        assert!(taken.iter().zip(taken.iter().skip(1)).all(|(one, next)| one.1 <= next.0));
    }
}
