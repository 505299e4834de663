//! Ran: one run of a world, and what came of it.
//! Owns: panics turned into violations, the run done twice and compared, the command that shows the same again.
//! Never: draws a world or a plan (`soak`), or judges one (`judge`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use whimbrel_storage::planted::{Bug, active};

use crate::engine::Seed;
use crate::entropy;
use crate::faults::Plan;
use crate::judge::canary::{Canaries, Ear};
use crate::judge::verdict::{Verdict, Violation};
use crate::scenario::Scenario;
use crate::world::{Account, BuildError, Outcome, World};

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// Which promises held.
    pub verdict: Verdict,
    /// What happened; nothing of a run that panicked.
    pub account: Option<Account>,
    /// Log lines of relay code that were listened to.
    pub lines: u64,
}

impl Ran {
    /// Runs a scenario under a plan, with an ear at the relays' log lines. A panic anywhere is a violation like others, and
    /// so is what the ear heard.
    ///
    /// # Errors
    /// A core does not take what the scenario makes it of.
    pub fn of(scenario: &Scenario, seed: Seed, plan: &Plan) -> Result<Self, BuildError> {
        entropy::without(|| heard(seed, || caught(|| World::run(scenario, seed, plan))))
    }

    /// A run that came to nothing but this.
    pub(crate) fn broken(violation: Violation) -> Self {
        Self { verdict: Verdict::of(violation), account: None, lines: 0 }
    }

    /// Whether anything must not be.
    pub const fn broke(&self) -> bool {
        self.verdict.violations > 0
    }

    /// The first violation of the same kind: another process, message or place does not matter.
    pub fn like(&self, violation: &Violation) -> Option<&Violation> {
        let kind = std::mem::discriminant(violation);
        self.verdict.examples.iter().find(|other| std::mem::discriminant(*other) == kind)
    }

    /// The command that shows the same, whole: with the bug that is planted in this thread, and twice if one run alone
    /// would not show it.
    pub fn again(&self, command: &str) -> String {
        let bug = Bug::ALL.iter().copied().find(|bug| active(*bug));
        let bug = bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.name()));
        let twice = if self.like(&Violation::Differs).is_some() { " --twice" } else { "" };
        format!("{command}{bug}{twice}")
    }

    /// Every word of both: what happened, and what the judge says of it.
    fn is_same(&self, other: &Self) -> bool {
        let trace = |ran: &Self| ran.account.as_ref().map(|account| account.trace_hash.clone());
        let words = |ran: &Self| format!("{:?}", ran.verdict);
        trace(self) == trace(other) && words(self) == words(other)
    }
}

/// Runs something with an ear at the relays' log lines. What it heard is a violation of its own.
fn heard(seed: Seed, run: impl FnOnce() -> Result<Ran, BuildError>) -> Result<Ran, BuildError> {
    let ear = Ear::new(Canaries::of(seed));
    let mut ran = ear.listen(run)?;
    let heard = ear.heard();
    for target in heard.leaks {
        ran.verdict.add(Violation::Logged { target });
    }
    ran.lines = heard.lines;
    Ok(ran)
}

/// Runs something twice. Any difference between the two is a violation of its own.
pub fn twice(mut run: impl FnMut() -> Ran) -> Ran {
    let mut ran = run();
    if !ran.is_same(&run()) {
        ran.verdict.add(Violation::Differs);
    }
    ran
}

fn caught(run: impl FnOnce() -> Result<Outcome, BuildError>) -> Result<Ran, BuildError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map(|Outcome { verdict, account }| Ran { verdict, account: Some(account), lines: 0 }),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no words").to_owned();
            Ok(Ran::broken(Violation::Panicked { what }))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn well() -> Ran {
        Ran { verdict: Verdict::default(), account: None, lines: 0 }
    }

    #[test]
    fn a_panic_is_a_violation_with_its_words() {
        for (ran, words) in
            [(caught(|| panic!("as it is")), "as it is"), (caught(|| panic!("on line {}", 7)), "on line 7")]
        {
            let ran = ran.unwrap();
            assert_eq!(ran.verdict.examples, [Violation::Panicked { what: words.to_owned() }]);
            assert!(ran.broke() && ran.account.is_none());
        }
    }

    #[test]
    fn a_second_run_that_came_to_something_else_is_a_violation_that_takes_two_runs_to_show() {
        assert!(!twice(well).broke());
        let mut shown = 0;
        let ran = twice(|| {
            shown += 1;
            Ran { verdict: Verdict { shown, ..Verdict::default() }, ..well() }
        });
        assert_eq!(ran.verdict.examples, [Violation::Differs]);
        assert_eq!(ran.again("whimbrel-sim replay 1"), "whimbrel-sim replay 1 --twice");
    }

    #[test]
    fn what_is_logged_is_heard() {
        let mark = Canaries::of(Seed::from(1)).mark().to_owned();
        let ran = heard(Seed::from(1), || {
            tracing::info!(target: "whimbrel_relay::push", "{mark}");
            Ok(well())
        });
        let ran = ran.unwrap();
        assert_eq!(ran.lines, 1);
        assert_eq!(ran.verdict.examples, [Violation::Logged { target: "whimbrel_relay::push".to_owned() }]);
        assert_eq!(ran.again("whimbrel-sim replay 1"), "whimbrel-sim replay 1");
    }

    #[test]
    fn what_one_run_shows_is_shown_by_one() {
        let ran = Ran::broken(Violation::Intruder { of: 3 });
        assert_eq!(ran.again("whimbrel-sim replay 1"), "whimbrel-sim replay 1");
    }

    #[test]
    fn violations_are_alike_when_they_say_the_same_of_another_process_and_not_when_they_break_the_same_promise() {
        let mut verdict = Verdict::of(Violation::Halted { of: 1 });
        verdict.add(Violation::Halted { of: 2 });
        let ran = Ran { verdict, ..well() };
        assert_eq!(ran.like(&Violation::Halted { of: 3 }), Some(&Violation::Halted { of: 1 }));
        assert_eq!(ran.like(&Violation::Vanished { message: 1, of: 1 }), None);
    }

    #[cfg(feature = "planted")]
    #[test]
    fn a_planted_bug_is_part_of_the_command() {
        let ran = Ran::broken(Violation::Intruder { of: 3 });
        let command = crate::planted::with(Bug::LoseParked, || ran.again("whimbrel-sim replay 2"));
        assert_eq!(command, "whimbrel-sim replay 2 --bug lose-parked");
    }
}
