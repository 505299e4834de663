//! Tokens: in a third of the worlds relays let in only whom their operator gave one.
//! Owns: which relays, how many accounts a token is for, how many people come with one that is not good.

use crate::engine::{Entity, Seed};

/// The tokens of each of so many relays. Drawn apart from the rest, which stays as it was.
pub(super) fn tokens(seed: Seed, relays: u64) -> Vec<String> {
    let mut stream = seed.stream(Entity::World, "tokens");
    let some = stream.happens(1.0 / 3.0);
    let mut one = || {
        let (asks, least) = (stream.happens(0.6), 1 + stream.below(2));
        let (most, flawed) = (least + stream.below(4), 10 + stream.below(51));
        let text = format!("tokens = {{ uses = [{least}, {most}], flawed = \"{flawed} %\" }}\n");
        if some && asks { text } else { String::new() }
    };
    (0..relays).map(|_| one()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::scenario::{Crypto, Scenario};
    use crate::soak::Case;

    #[test]
    fn relays_ask_for_tokens_in_a_third_of_the_worlds_which_are_else_drawn_as_they_were() {
        let mut asking = 0;
        for seed in 0..200 {
            let case = Case { seed, crypto: Crypto::Standin };
            let (mut scenario, text) = (case.scenario().unwrap(), case.scenario_text());
            asking += usize::from(scenario.relay.iter().any(|relay| relay.tokens.is_some()));
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("tokens = ")).collect();
            scenario.relay.iter_mut().for_each(|relay| relay.tokens = None);
            assert_eq!(scenario, Scenario::read("without", &lines.join("\n"), &[]).unwrap(), "seed {seed}");
        }
        assert!((45..90).contains(&asking), "{asking}");
    }
}
