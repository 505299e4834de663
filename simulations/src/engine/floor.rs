//! The floor: what virtual time costs when nothing happens in it.
//! Owns: the bare wheel with actors that do nothing but plan their next moment.

use std::time::Duration;

use super::{Engine, Entity, Seed, Time};
use crate::clock::Stopwatch;

/// What a bare wheel did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Floor {
    /// Events handed out.
    pub events: u64,
    /// How long that took, in real seconds.
    pub wall_s: f64,
}

impl Floor {
    /// Events in a real second.
    pub fn rate(&self) -> f64 {
        if self.wall_s > 0.0 { self.events as f64 / self.wall_s } else { 0.0 }
    }
}

/// Runs so many actors for so many virtual seconds: each plans its next moment, ten milliseconds on average from now,
/// and does nothing else. Nothing that is simulated on this engine can be faster.
pub fn floor(actors: u32, seconds: u64) -> Floor {
    const SPREAD: u64 = 20_000_000;
    let mut engine = Engine::new(Seed::from(0));
    let mut stream = Seed::from(0).stream(Entity::World, "floor");
    // The delays are drawn before: this is about the wheel, not about chance.
    let delays: Vec<_> = (0..4_096).map(|_| Duration::from_nanos(stream.below(SPREAD))).collect();
    let delay = |n: u64| delays.get((n % 4_096) as usize).copied().unwrap_or_default();
    (0..actors).for_each(|actor| engine.after(delay(u64::from(actor)), actor));
    let until = Time::ZERO.plus(Duration::from_secs(seconds));
    let watch = Stopwatch::start();
    while let Some(actor) = engine.next_until(until) {
        engine.after(delay(engine.fired()), actor);
    }
    Floor { events: engine.fired(), wall_s: watch.seconds() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_counts_what_it_ran() {
        // A thousand actors, a hundred times a second each, for two seconds.
        let floor = floor(1_000, 2);
        assert!((190_000..210_000).contains(&floor.events), "{floor:?}");
        assert!(floor.rate() > 0.0);
    }
}
