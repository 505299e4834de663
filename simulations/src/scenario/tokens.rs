//! Tokens: relays whose operator says who may come in.
//! Owns: `tokens` under `[[relay]]`, and what is refused of it beside other keys.
//! Never: makes a token; the world's operators do (`world::tokens`).

use serde::{Deserialize, Serialize};
use whimbrel_protocol::limits;

use super::{Scenario, Share};

/// A relay that takes an account in for a token of its operator alone.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Least and most accounts that one token lets in; evenly.
    pub uses: [u32; 2],
    /// People who come first with one that lets nobody in, or nobody more, or with none; then they are given a good one.
    #[serde(default)]
    pub flawed: Share,
}

impl Scenario {
    /// Tokens that cannot be made: the key at fault and why.
    pub(super) fn wrong_tokens(&self) -> Option<(String, String)> {
        let wrong = |tokens: &Tokens| {
            let [least, most] = tokens.uses;
            least == 0 || most < least || most > limits::INVITE_USES_MAX
        };
        let n = self.relay.iter().position(|one| one.tokens.as_ref().is_some_and(wrong))?;
        let what = format!("a token lets in 1 to {} accounts, least first", limits::INVITE_USES_MAX);
        Some((format!("relay.{n}.tokens.uses"), what))
    }

    fn has_no_people(&self, relay: &super::Relay) -> bool {
        self.population.iter().all(|one| one.relay != relay.domain)
    }

    /// Tokens for which nobody would come.
    pub(super) fn unused_tokens(&self) -> impl Iterator<Item = (String, &'static str)> {
        let empty = self.relay.iter().enumerate().filter(|(_, one)| self.has_no_people(one));
        empty.map(|(n, _)| (format!("relay.{n}.tokens"), "has no use: nobody lives there"))
    }

    /// Forgets them.
    pub(super) fn forget_unused_tokens(&mut self) {
        let empty: Vec<_> = self.relay.iter().map(|one| self.has_no_people(one)).collect();
        for (one, empty) in self.relay.iter_mut().zip(empty) {
            one.tokens = one.tokens.take().filter(|_| !empty);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(tokens: &str, lives: &str) -> Result<Scenario, String> {
        let text = format!(
            "[sim]\nduration = \"1 min\"\n[[relay]]\ndomain = \"a.example\"\n[[relay]]\ndomain = \"b.example\"\ntokens = {tokens}\n\
             [[population]]\nrelay = \"{lives}.example\"\ncount = 2\n"
        );
        Scenario::read("test.toml", &text, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_are_read_and_read_back() {
        let scenario = read("{ uses = [1, 3], flawed = \"20 %\" }", "b").unwrap();
        let tokens: Vec<_> = scenario.relay.iter().map(|relay| relay.tokens).collect();
        assert_eq!(tokens, [None, Some(Tokens { uses: [1, 3], flawed: Share(0.2) })]);
        assert_eq!(Scenario::read("again", &toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
    }

    #[test]
    fn tokens_that_nobody_could_make_or_would_use_are_refused_with_their_line() {
        for (tokens, lives, what) in [
            ("{ uses = [0, 3] }", "b", "relay.1.tokens.uses: a token lets in 1 to 1000 accounts, least first"),
            ("{ uses = [3, 1] }", "b", "relay.1.tokens.uses: a token lets in"),
            ("{ uses = [1, 1001] }", "b", "relay.1.tokens.uses: a token lets in"),
            ("{ uses = [1, 2] }", "a", "relay.1.tokens: has no use: nobody lives there"),
            ("{ flawed = 0.1 }", "b", "missing field `uses`"),
            ("{ uses = [1, 2], flawed = 2.0 }", "b", "a share lies between 0 and 1"),
        ] {
            let error = read(tokens, lives).unwrap_err();
            assert!(error.starts_with("test.toml, line 7: ") && error.contains(what), "{tokens}: {error}");
        }
    }
}
