//! Tight rates: in half of the worlds most relays let everybody ask for less than usual.
//! Owns: how tight. Never so that a world cannot keep its promises: what waits then must still get through within `settle`.

use crate::engine::{Entity, Seed, Stream};

/// What may be tight, with the least and the most a minute that comes back, and that there is at once.
///
/// The busiest person of a drawn world says a word every 4 s, and at one time in fifty up to 218 at once: 63 a minute on
/// average, and their devices say as many times that they have what others said. A relay has 14 people at most, who hear of
/// few others, so that a peer forwards less than 2,000 a minute for long. Heartbeats and what is acknowledged take about 200
/// of `signs`. Whatever is over waits, and passes in the minutes after.
const TIGHT: [(&str, [u64; 2], [u64; 2]); 6] = [
    ("messages", [120, 360], [5, 40]),
    ("requests", [30, 120], [5, 30]),
    ("arrivals", [12, 60], [4, 20]),
    ("peer_items", [2_000, 6_000], [30, 200]),
    ("peer_requests", [120, 600], [10, 60]),
    ("signs", [300, 1_200], [40, 200]),
];
/// The same in an hour of friend requests of a peer, which are few, and of claims, of which no hour may see more than ten.
const HOURLY: [(&str, [u64; 2], [u64; 2]); 2] =
    [("peer_friend_requests", [240, 960], [1, 4]), ("claims", [8, 10], [2, 6])];

/// The rates of each of so many relays. Drawn apart from the rest, which stays as it was; `asks`: whether people meet by
/// requests.
pub(super) fn rates(seed: Seed, relays: u64, asks: bool) -> Vec<String> {
    let mut stream = seed.stream(Entity::World, "rates");
    let some = stream.happens(0.5);
    (0..relays).map(|_| one(&mut stream, some, asks)).collect()
}

fn one(stream: &mut Stream, some: bool, asks: bool) -> String {
    let tight = stream.happens(0.75);
    let mut keys = Vec::new();
    let every = TIGHT.iter().map(|one| (one, "min")).chain(HOURLY.iter().map(|one| (one, "hour")));
    for ((key, [least, most], [few, many]), every) in every {
        let (drawn, rate) = (stream.happens(0.5), least + stream.below(most - least + 1));
        let burst = few + stream.below(many - few + 1);
        if drawn && (asks || *key != "peer_friend_requests") {
            keys.push(format!("{key} = {{ rate = \"{rate}/{every}\", burst = {burst} }}"));
        }
    }
    if some && tight && !keys.is_empty() { format!("rates = {{ {} }}\n", keys.join(", ")) } else { String::new() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::scenario::{Crypto, Scenario};
    use crate::soak::Case;

    fn drawn(seed: u64) -> (Scenario, String) {
        let case = Case { seed, crypto: Crypto::Standin };
        (case.scenario().unwrap(), case.scenario_text())
    }

    #[test]
    fn rates_are_tight_in_half_of_the_worlds_and_every_kind_is_somewhere() {
        let worlds: Vec<_> = (0..200).map(|seed| drawn(seed).1).collect();
        let tight: Vec<_> = worlds.iter().filter(|text| text.contains("rates = ")).collect();
        assert!((70..130).contains(&tight.len()), "{}", tight.len());
        for key in [
            "messages",
            "requests",
            "arrivals",
            "peer_items",
            "peer_requests",
            "signs",
            "peer_friend_requests",
            "claims",
        ] {
            assert!(tight.iter().any(|text| text.contains(&format!("{key} = {{ rate"))), "{key}");
        }
        // What another world has no use for is not drawn: it would not be read.
        assert!(worlds.iter().filter(|text| !text.contains("requests = \"")).all(|text| !text.contains("peer_friend")));
    }

    #[test]
    fn a_world_is_drawn_as_it_was_but_for_its_rates() {
        for seed in 0..50 {
            let (scenario, text) = drawn(seed);
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("rates = ")).collect();
            let without = Scenario::read("without", &lines.join("\n"), &[]).unwrap();
            let mut bare = scenario.clone();
            bare.relay.iter_mut().for_each(|relay| relay.rates = crate::scenario::Rates::default());
            assert_eq!(bare, without, "seed {seed}");
        }
    }
}
