//! Stories of relays that let in only whom their operator gave a token.

use super::*;
use crate::faults::Plan;
use crate::scenario::Scenario;

/// Eight people and the relay of six of them, which asks for tokens and dies as the fault says.
fn come(seed: u64, crash: &str) -> (Verdict, u64) {
    let text = format!(
        "[sim]\nduration = \"3 min\"\n[[relay]]\ndomain = \"a.example\"\ntokens = {{ uses = [1, 3], flawed = \"50 %\" }}\n\
         [[relay]]\ndomain = \"b.example\"\n[[population]]\nrelay = \"a.example\"\ncount = 6\n\
         [[population]]\nrelay = \"b.example\"\ncount = 2\n{crash}"
    );
    let scenario = Scenario::read("story", &text, &[]).unwrap();
    let plan: Plan = scenario.plan();
    let outcome = World::run(&scenario, Seed::from(seed), &plan).unwrap();
    (outcome.verdict, outcome.account.faults.turned_away)
}

/// It dies when its N-th group of writes is visible, or durable, after people began to come.
fn dies(at_ms: u64, point: &str, keep: &str) -> String {
    format!(
        "[[fault]]\nkind = \"crash\"\nat = \"{at_ms} ms\"\ntarget = \"a.example\"\npoint = \"{point}\"\nkeep = \"{keep}\"\n\
         lasts = \"1 s\"\n"
    )
}

#[test]
fn row_2_nobody_comes_in_but_by_a_good_token_and_by_none_more_than_it_lets_in() {
    let mut away = 0;
    for seed in 1..=8 {
        let (verdict, turned_away) = come(seed, "");
        assert_eq!(verdict.violations, 0, "{seed}: {:?}", verdict.examples);
        away += turned_away;
    }
    assert!(away > 8, "{away}: too few came with a bad one");
}

#[test]
fn row_2_so_it_is_wherever_their_relay_dies_while_they_come() {
    for n in 1..=6 {
        let (at, late) = (n * 150, 1_500 + n * 400);
        let deaths = [("applied", "nothing"), ("applied", "everything"), ("applied", "torn"), ("synced", "drawn")];
        let crashes: String = deaths
            .iter()
            .zip(0..)
            .map(|((when, keep), turn)| dies(at + turn * late, &format!("{when} {}", 1 + (n + turn) % 4), keep))
            .collect();
        let verdict = come(n, &crashes).0;
        assert_eq!(verdict.violations, 0, "{n}: {:?}", verdict.examples);
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_relay_that_miscounts_its_tokens_is_found() {
    use crate::judge::verdict::Violation;
    use crate::planted::{Bug, with};

    let overused = |one: &Violation| matches!(one, Violation::TokenOverused { .. });
    let uncounted = |seed| come(seed, "").0.examples.iter().any(overused);
    assert!(with(Bug::TokenUncounted, || (1..=8).any(uncounted)), "more came in than may, and nobody saw");
    // Those who were let in heard nothing of it, for it died in between, and ask again.
    let short = |one: &Violation| matches!(one, Violation::TokenShort { .. });
    let deaths: String = (0..6).map(|turn| dies(200 + turn * 1_700, "synced 1", "drawn")).collect();
    let twice = |seed| come(seed, &deaths).0.examples.iter().any(short);
    assert!(with(Bug::TokenCountedTwice, || (1..=8).any(twice)), "a use was lost, and nobody saw");
}
