//! Rates: how much a relay of a scenario lets everybody ask of it.
//! Owns: `rates` under `[[relay]]`, spelled as in an operator's file, and what is refused of it beside other keys.
//! Never: what a bucket does; the relay core has them (docs/protocol/reception.md, "Rates").

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use whimbrel_protocol::limits;
use whimbrel_relay as relay;

use super::Scenario;

/// Keys of one account that another is handed in an hour at most: the judge holds every relay to that many.
const CLAIMS_MAX: u32 = 10;
/// What the heartbeats of an account with two devices take a minute: nobody would stay with less.
const SIGNS_MIN: u64 = 2 * limits::HEARTBEAT_TOKENS as u64 * 60 / limits::HEARTBEAT_EVERY.as_secs();
/// What the heartbeats of a peer take a minute, and as many statuses: no link between relays would stay with less.
const PEER_MIN: u64 = 2 * 60 / limits::HEARTBEAT_EVERY.as_secs();

/// The rates of one relay. What is not named is as usual.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Rates(BTreeMap<Rated, Bucket>);

/// What has a rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rated {
    /// Envelopes an account hands in.
    Messages,
    /// Its other requests.
    Requests,
    /// Links from one process, and what comes on them before a device is let in.
    Arrivals,
    /// Envelopes and openings a peer forwards.
    PeerItems,
    /// Requests of a peer, and as many heartbeats and statuses.
    PeerRequests,
    /// Friend requests of a peer.
    PeerFriendRequests,
    /// Keys one account claims of another.
    Claims,
    /// What an account's devices send by themselves.
    Signs,
    /// Threads that an account's heartbeats name as used.
    Touches,
}

impl Rated {
    const fn key(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Requests => "requests",
            Self::Arrivals => "arrivals",
            Self::PeerItems => "peer_items",
            Self::PeerRequests => "peer_requests",
            Self::PeerFriendRequests => "peer_friend_requests",
            Self::Claims => "claims",
            Self::Signs => "signs",
            Self::Touches => "touches",
        }
    }

    /// Whether it is other relays that are held to it.
    const fn is_of_peers(self) -> bool {
        matches!(self, Self::PeerItems | Self::PeerRequests | Self::PeerFriendRequests)
    }
}

/// So many at once, and so many a minute or an hour after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// What comes back.
    pub rate: Pace,
    /// What there is at most.
    pub burst: Burst,
}

/// So many a minute or an hour, like "60/min".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How many; never zero.
    pub tokens: u32,
    /// In which time.
    pub every: relay::Every,
}

/// So many at once; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Burst(u32);

impl TryFrom<i64> for Burst {
    type Error = String;

    fn try_from(burst: i64) -> Result<Self, String> {
        let whole = u32::try_from(burst).ok().filter(|burst| *burst > 0);
        whole.map(Self).ok_or_else(|| format!("a burst is 1 to {}, this is {burst}", u32::MAX))
    }
}

impl From<Burst> for i64 {
    fn from(burst: Burst) -> Self {
        burst.0.into()
    }
}

impl std::str::FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("expected a rate like \"60/min\" or \"10/hour\", at least 1, found {text:?}");
        let (number, every) = text.split_once('/').ok_or_else(form)?;
        let tokens = number.trim_end().parse().ok().filter(|tokens| *tokens > 0).ok_or_else(form)?;
        match every {
            "min" => Ok(Self { tokens, every: relay::Every::Minute }),
            "hour" => Ok(Self { tokens, every: relay::Every::Hour }),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = match self.every {
            relay::Every::Minute => "min",
            relay::Every::Hour => "hour",
        };
        write!(f, "{}/{every}", self.tokens)
    }
}

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Pace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Bucket {
    const fn relay(self) -> relay::Rate {
        let Self { rate: Pace { tokens, every }, burst: Burst(burst) } = self;
        relay::Rate { tokens, every, burst }
    }

    /// What comes back in an hour.
    const fn hourly(self) -> u64 {
        match self.rate.every {
            relay::Every::Minute => self.rate.tokens as u64 * 60,
            relay::Every::Hour => self.rate.tokens as u64,
        }
    }
}

impl Rates {
    /// Whether all is as usual.
    pub(super) fn are_usual(&self) -> bool {
        self.0.is_empty()
    }

    /// What a relay is configured with.
    pub fn relay(&self) -> relay::Rates {
        let mut rates = relay::Rates::default();
        for (rated, bucket) in &self.0 {
            let rate = match rated {
                Rated::Messages => &mut rates.messages,
                Rated::Requests => &mut rates.requests,
                Rated::Arrivals => &mut rates.arrivals,
                Rated::PeerItems => &mut rates.peer_items,
                Rated::PeerRequests => &mut rates.peer_requests,
                Rated::PeerFriendRequests => &mut rates.peer_friend_requests,
                Rated::Claims => &mut rates.claims,
                Rated::Signs => &mut rates.signs,
                Rated::Touches => &mut rates.touches,
            };
            *rate = bucket.relay();
        }
        rates
    }

    /// The first with which a world would not work, or not be judged, and why.
    fn wrong(&self) -> Option<(Rated, String)> {
        let less = |bucket: &Bucket, least: u64| (bucket.hourly() < least * 60).then_some(least);
        self.0.iter().find_map(|(rated, bucket)| match rated {
            Rated::Claims => {
                let more = bucket.rate.every != relay::Every::Hour || bucket.rate.tokens > CLAIMS_MAX;
                more.then(|| (*rated, format!("more than {CLAIMS_MAX} an hour, which breaks what a relay promises")))
            }
            Rated::Signs => less(bucket, SIGNS_MIN).map(|least| {
                (*rated, format!("less than the {least} a minute that heartbeats take: nobody would stay"))
            }),
            Rated::PeerRequests => less(bucket, PEER_MIN).map(|least| {
                (
                    *rated,
                    format!("less than the {least} a minute that heartbeats and statuses take: no link would stay"),
                )
            }),
            _ => None,
        })
    }
}

impl Scenario {
    /// Rates that go with nothing: the key at fault and why.
    pub(super) fn wrong_rates(&self) -> Option<(String, String)> {
        let path = |n: usize, rated: Rated| format!("relay.{n}.rates.{}", rated.key());
        self.relay.iter().enumerate().find_map(|(n, one)| one.rates.wrong().map(|(rated, why)| (path(n, rated), why)))
    }

    /// Why nothing would ever be held to such a rate, if that is so.
    fn has_no_use_for(&self, rated: Rated) -> Option<&'static str> {
        match rated {
            _ if rated.is_of_peers() && self.relay.len() < 2 => Some("has no use: there is no other relay"),
            Rated::PeerFriendRequests if self.friends.requests.0 == 0.0 => {
                Some("has no use: there are no `requests` among friends")
            }
            Rated::Touches if self.population.iter().all(|one| !one.direct) => {
                Some("has no use: nobody is `direct`, and heartbeats name what went past the relay")
            }
            _ => None,
        }
    }

    /// Rates that nothing would use.
    pub(super) fn unused_rates(&self) -> impl Iterator<Item = (String, &'static str)> {
        let named = self.relay.iter().enumerate().flat_map(|(n, one)| one.rates.0.keys().map(move |rated| (n, *rated)));
        named.filter_map(|(n, rated)| Some((format!("relay.{n}.rates.{}", rated.key()), self.has_no_use_for(rated)?)))
    }

    /// Forgets them.
    pub(super) fn forget_unused_rates(&mut self) {
        let unused: Vec<_> = self.relay.iter().flat_map(|one| one.rates.0.keys().copied()).collect();
        let unused: Vec<_> = unused.into_iter().filter(|rated| self.has_no_use_for(*rated).is_some()).collect();
        for one in &mut self.relay {
            one.rates.0.retain(|rated, _| !unused.contains(rated));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(rates: &str, more: &str) -> Result<Scenario, String> {
        let text = format!(
            "[sim]\nduration = \"1 min\"\n{more}\n[[relay]]\ndomain = \"a.example\"\nrates = {{ {rates} }}\n\
             [[population]]\nrelay = \"a.example\"\ncount = 2\n"
        );
        Scenario::read("test.toml", &text, &[]).map_err(|error| error.to_string())
    }

    const OTHER: &str = "[[relay]]\ndomain = \"b.example\"\n";

    #[test]
    fn rates_are_read_as_an_operator_writes_them_and_what_is_not_named_is_as_usual() {
        let scenario =
            read("messages = { rate = \"30/min\", burst = 5 }, claims = { rate = \"4/hour\", burst = 2 }", "");
        let scenario = scenario.unwrap();
        let (rates, usual) = (scenario.relay.first().unwrap().rates.relay(), relay::Rates::default());
        assert_eq!(
            rates,
            relay::Rates { messages: relay::Rate::new(30, 5), claims: relay::Rate::hourly(4, 2), ..usual }
        );
        assert_eq!(Scenario::read("again", &toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
    }

    #[test]
    fn every_rate_has_its_own_key_and_reaches_its_own_bucket() {
        let all = [
            "messages",
            "requests",
            "arrivals",
            "peer_items",
            "peer_requests",
            "peer_friend_requests",
            "claims",
            "signs",
            "touches",
        ];
        let told = |key: &str| {
            let rates: Rates = toml::from_str(&format!("{key} = {{ rate = \"7/hour\", burst = 3 }}")).unwrap();
            let rated = *rates.0.keys().next().unwrap();
            assert_eq!(rated.key(), key);
            format!("{:?}", rates.relay())
        };
        for key in all {
            let kept = format!("{key}: {:?}", relay::Rate::hourly(7, 3));
            assert!(told(key).contains(&kept), "{key}: {}", told(key));
        }
    }

    #[test]
    fn a_rate_that_says_nothing_or_that_no_world_works_with_is_refused_with_its_line() {
        for (rates, more, line, what) in [
            ("messages = { rate = \"30\", burst = 5 }", "", 6, "expected a rate like \"60/min\""),
            ("messages = { rate = \"0/min\", burst = 5 }", "", 6, "at least 1"),
            ("messages = { rate = \"3/day\", burst = 5 }", "", 6, "expected a rate like \"60/min\""),
            ("messages = { rate = \"3/min\", burst = 0 }", "", 6, "a burst is 1 to 4294967295, this is 0"),
            ("messages = { rate = \"3/min\" }", "", 6, "missing field `burst`"),
            ("mesages = { rate = \"3/min\", burst = 1 }", "", 6, "unknown variant `mesages`"),
            ("claims = { rate = \"11/hour\", burst = 1 }", "", 6, "relay.0.rates.claims: more than 10 an hour"),
            ("claims = { rate = \"1/min\", burst = 1 }", "", 6, "relay.0.rates.claims: more than 10 an hour"),
            ("signs = { rate = \"191/min\", burst = 9 }", "", 6, "relay.0.rates.signs: less than the 192 a minute"),
            (
                "peer_items = { rate = \"3/min\", burst = 1 }",
                "",
                6,
                "relay.0.rates.peer_items: has no use: there is no",
            ),
            (
                "touches = { rate = \"3/min\", burst = 1 }",
                "",
                6,
                "relay.0.rates.touches: has no use: nobody is `direct`",
            ),
        ] {
            let error = read(rates, more).unwrap_err();
            assert!(
                error.starts_with(&format!("test.toml, line {line}: ")) && error.contains(what),
                "{rates}: {error}"
            );
        }
        let two = |rates: &str| {
            let text = format!("rates = {{ {rates} }}\n");
            let text = format!(
                "[sim]\nduration = \"1 min\"\n{OTHER}[[relay]]\ndomain = \"a.example\"\n{text}[[population]]\nrelay = \"a.example\"\n\
                 count = 2\n"
            );
            Scenario::read("test.toml", &text, &[]).map_err(|error| error.to_string())
        };
        let error = two("peer_requests = { rate = \"11/min\", burst = 9 }").unwrap_err();
        assert!(error.starts_with("test.toml, line 7: relay.1.rates.peer_requests: less than the 12"), "{error}");
        let error = two("peer_friend_requests = { rate = \"11/min\", burst = 9 }").unwrap_err();
        assert!(error.contains("relay.1.rates.peer_friend_requests: has no use: there are no `requests`"), "{error}");
        assert!(two("peer_items = { rate = \"11/min\", burst = 9 }").is_ok());
    }

    #[test]
    fn an_override_that_takes_the_use_of_a_rate_leaves_it_out() {
        let text = "[sim]\nduration = \"1 min\"\n[[relay]]\ndomain = \"a.example\"\n[relay.rates]\n\
                    touches = { rate = \"3/min\", burst = 1 }\nmessages = { rate = \"3/min\", burst = 1 }\n\
                    [[population]]\nrelay = \"a.example\"\ncount = 2\ndirect = true\n";
        let scenario = Scenario::read("test.toml", text, &["population.0.direct=false".to_owned()]).unwrap();
        let left: Vec<_> = scenario.relay.first().unwrap().rates.0.keys().copied().collect();
        assert_eq!(left, [Rated::Messages]);
    }
}
