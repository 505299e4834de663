//! The engine: virtual time, and what happens when.
//! Owns: the clock, the pending events, the trace hash, the derivation of chance.
//! Never: knows what an event means; nothing here has heard of nodes or relays.

mod exact;
pub mod stream;
pub mod time;
pub mod trace;
pub mod wheel;

use std::time::Duration;

pub use stream::{Entity, Seed, Stream};
pub use time::Time;
pub use trace::Trace;
pub use wheel::Wheel;

/// A clock that jumps from event to event.
pub struct Engine<E> {
    now: Time,
    wheel: Wheel<E>,
    fired: u64,
    /// Everything that happened so far.
    pub trace: Trace,
}

impl<E> Engine<E> {
    /// Time zero; nothing pending.
    pub fn new(seed: Seed) -> Self {
        let salt = seed.stream(Entity::World, "ties").bits();
        Self { now: Time::ZERO, wheel: Wheel::new(salt), fired: 0, trace: Trace::new() }
    }

    /// What time it is.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Events handed out so far.
    pub const fn fired(&self) -> u64 {
        self.fired
    }

    /// Events pending.
    pub const fn pending(&self) -> usize {
        self.wheel.len()
    }

    /// Lets something happen at a moment, at the earliest now.
    pub fn at(&mut self, at: Time, event: E) {
        self.wheel.put(at.max(self.now), event);
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.wheel.put(self.now.plus(delay), event);
    }

    /// The next event, if it is due by `until`; time moves to it. Otherwise time moves to `until`.
    pub fn next_until(&mut self, until: Time) -> Option<E> {
        match self.wheel.peek() {
            Some(at) if at <= until => {}
            _ => {
                self.now = self.now.max(until);
                return None;
            }
        }
        let (at, event) = self.wheel.pop()?;
        self.now = at;
        self.fired += 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_events_and_stops_at_the_bound() {
        let mut engine = Engine::new(Seed::from(1));
        engine.after(Duration::from_secs(10), 'b');
        engine.at(Time::from_nanos(3), 'a');
        assert_eq!(engine.next_until(Time::from_nanos(2)), None);
        assert_eq!(engine.now(), Time::from_nanos(2));
        assert_eq!(engine.next_until(Time::NEVER), Some('a'));
        assert_eq!((engine.now(), engine.fired(), engine.pending()), (Time::from_nanos(3), 1, 1));
        engine.at(Time::ZERO, 'c');
        assert_eq!(engine.next_until(Time::NEVER), Some('c'));
        assert_eq!(engine.now(), Time::from_nanos(3), "time never goes back");
        assert_eq!(engine.next_until(Time::NEVER), Some('b'));
    }
}
