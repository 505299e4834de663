//! Push addresses: in a third of the worlds relays send devices to one of several, and to others after each restart.
//! Owns: which relays have how many.

use crate::engine::{Entity, Seed};

/// The push addresses of each of so many relays. Drawn apart from the rest, which stays as it was.
pub(super) fn push(seed: Seed, relays: u64) -> Vec<String> {
    let mut stream = seed.stream(Entity::World, "push addresses");
    let some = stream.happens(1.0 / 3.0);
    let mut one = || {
        let (has, addresses) = (stream.happens(0.6), 2 + stream.below(4));
        let least = 1 + stream.below(2);
        let text = format!("push = {{ addresses = {addresses}, live = [{least}, {addresses}] }}\n");
        if some && has { text } else { String::new() }
    };
    (0..relays).map(|_| one()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::scenario::{Crypto, Scenario};
    use crate::soak::Case;

    #[test]
    fn relays_have_push_addresses_in_a_third_of_the_worlds_which_are_else_drawn_as_they_were() {
        let mut some = 0;
        for seed in 0..200 {
            let case = Case { seed, crypto: Crypto::Standin };
            let (mut scenario, text) = (case.scenario().unwrap(), case.scenario_text());
            some += usize::from(scenario.relay.iter().any(|relay| relay.push.is_some()));
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("push = ")).collect();
            scenario.relay.iter_mut().for_each(|relay| relay.push = None);
            assert_eq!(scenario, Scenario::read("without", &lines.join("\n"), &[]).unwrap(), "seed {seed}");
        }
        assert!((45..90).contains(&some), "{some}");
    }
}
