//! Push addresses: relays that serve each account at one of several.
//! Owns: `push` under `[[relay]]`, and what is refused of it beside other keys.
//! Never: which are live when; the world draws that (`world::doors`).

use serde::{Deserialize, Serialize};
use whimbrel_protocol::limits;

use super::{Relay, Scenario};

/// The push addresses of a relay. The first is its own, which people were given, and is always live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// How many there are.
    pub addresses: u32,
    /// Least and most of them that are live in one life of the relay, its own among them; evenly, and others each time.
    pub live: [u32; 2],
}

impl Scenario {
    /// Push addresses that cannot be: the key at fault and why.
    pub(super) fn wrong_push(&self) -> Option<(String, String)> {
        let wrong = |push: &Push| {
            let [least, most] = push.live;
            if !(2..=limits::PUSH_ADDRESSES_MAX as u32).contains(&push.addresses) {
                return Some(("addresses", format!("2 to {}, its own among them", limits::PUSH_ADDRESSES_MAX)));
            }
            let some = (1..=most).contains(&least) && (2..=push.addresses).contains(&most);
            (!some).then(|| {
                (
                    "live",
                    "1 or more and as many as there are at most, the least first and the most 2 at least".to_owned(),
                )
            })
        };
        let found = |(n, one): (usize, &Relay)| {
            let (key, what) = wrong(one.push.as_ref()?)?;
            Some((format!("relay.{n}.push.{key}"), what))
        };
        self.relay.iter().enumerate().find_map(found)
    }

    /// Whether nobody dials a relay's addresses: whoever polls is served where the call comes in.
    fn is_dialled_by_nobody(&self, relay: &Relay) -> bool {
        self.population.iter().all(|one| one.relay != relay.domain || one.poll.0 >= 1.0)
    }

    /// Push addresses to which nobody would be sent.
    pub(super) fn unused_push(&self) -> impl Iterator<Item = (String, &'static str)> {
        let idle = self.relay.iter().enumerate().filter(|(_, one)| self.is_dialled_by_nobody(one));
        idle.map(|(n, _)| (format!("relay.{n}.push"), "has no use: nobody lives there who dials it"))
    }

    /// Forgets them.
    pub(super) fn forget_unused_push(&mut self) {
        let idle: Vec<_> = self.relay.iter().map(|one| self.is_dialled_by_nobody(one)).collect();
        for (one, idle) in self.relay.iter_mut().zip(idle) {
            one.push = one.push.take().filter(|_| !idle);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(push: &str, people: &str) -> Result<Scenario, String> {
        let text = format!(
            "[sim]\nduration = \"1 min\"\n[[relay]]\ndomain = \"a.example\"\npush = {push}\n[[relay]]\ndomain = \"b.example\"\n\
             [[population]]\n{people}\ncount = 2\n"
        );
        Scenario::read("test.toml", &text, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn push_addresses_are_read_and_read_back() {
        let scenario = read("{ addresses = 4, live = [1, 3] }", "relay = \"a.example\"").unwrap();
        assert_eq!(scenario.relay.first().unwrap().push, Some(Push { addresses: 4, live: [1, 3] }));
        assert_eq!(Scenario::read("again", &toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
    }

    #[test]
    fn push_addresses_that_cannot_be_or_that_nobody_dials_are_refused_with_their_line() {
        let at_a = "relay = \"a.example\"";
        for (push, people, what) in [
            ("{ addresses = 1, live = [1, 1] }", at_a, "relay.0.push.addresses: 2 to 64, its own among them"),
            ("{ addresses = 65, live = [1, 2] }", at_a, "relay.0.push.addresses: 2 to 64"),
            ("{ addresses = 3, live = [0, 2] }", at_a, "relay.0.push.live: 1 or more"),
            ("{ addresses = 3, live = [3, 2] }", at_a, "relay.0.push.live: 1 or more"),
            ("{ addresses = 3, live = [1, 4] }", at_a, "relay.0.push.live: 1 or more"),
            ("{ addresses = 3, live = [1, 1] }", at_a, "the most 2 at least"),
            ("{ addresses = 3 }", at_a, "missing field `live`"),
            (
                "{ addresses = 3, live = [1, 2] }",
                "relay = \"b.example\"",
                "relay.0.push: has no use: nobody lives there",
            ),
            (
                "{ addresses = 3, live = [1, 2] }",
                "relay = \"a.example\"\npoll = 1.0",
                "relay.0.push: has no use: nobody",
            ),
        ] {
            let error = read(push, people).unwrap_err();
            assert!(error.starts_with("test.toml, line 5: ") && error.contains(what), "{push}: {error}");
        }
    }
}
