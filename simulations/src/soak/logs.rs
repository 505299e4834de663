//! Logs: which relays of a drawn world keep little in a log, and how long their people are away.
//! Owns: these draws. Never: a draw that changes the rest of the world.

use crate::engine::{Entity, Seed, Stream};

/// In a sixth of the worlds one relay or more keeps little in a log, and its people are away for long enough that logs fill.
/// Drawn apart from the rest, which stays as it was.
pub(super) struct Short(Stream);

impl Short {
    pub(super) fn of(seed: Seed, relay: u64) -> Option<Self> {
        let mut world = seed.stream(Entity::World, "short logs");
        let (some, first) = (world.below(6) == 0, world.below(3));
        let mut stream = seed.stream(Entity::World, &format!("short logs: {relay}"));
        // One for certain, and each of the others in one of three.
        let this = stream.below(3) == 0 || relay == first;
        (some && this).then_some(Self(stream))
    }

    pub(super) fn log(mut self) -> String {
        format!("log = {{ entries = {} }}\n", 12 + self.0.below(37))
    }

    pub(super) fn churn(mut self) -> String {
        format!(
            "churn = {{ share = \"{} %\", online = \"{} s\", away = \"{} s\", kill = \"{} %\" }}\n",
            20 + self.0.below(50),
            100 + self.0.below(400),
            200 + self.0.below(700),
            self.0.below(101),
        )
    }
}
