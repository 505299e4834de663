//! Shrink: from a plan that breaks a promise to the smallest part of it that still does.
//! Owns: the search (delta debugging over the list of faults). Never: changes a fault; what is left is what was drawn.
//!
//! A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002: take parts
//! out, coarse ones first; keep what still fails; end when no single fault can go.

use crate::faults::{Fault, Plan};

/// The smallest plan found that still fails, and how many runs it took. `fails` is asked of one plan after another, at
/// most `runs_max` times.
pub fn shrink(plan: &Plan, runs_max: u32, mut fails: impl FnMut(&Plan) -> bool) -> (Plan, u32) {
    let (mut kept, mut parts, mut runs) = (plan.clone().whole().faults, 2_usize, 0);
    // Most bugs that a storm shows need few of its faults, and some need none.
    let mut try_plan = |faults: &[Fault], runs: &mut u32| {
        *runs += 1;
        fails(&Plan { faults: faults.to_vec() })
    };
    if !kept.is_empty() && try_plan(&[], &mut runs) {
        return (Plan::none(), runs);
    }
    while kept.len() > 1 && runs < runs_max {
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        for begin in (0..kept.len()).step_by(size) {
            if runs >= runs_max {
                break;
            }
            let within = |at: usize| at >= begin && at < begin + size;
            let rest = kept.iter().enumerate().filter(|(at, _)| !within(*at)).map(|(_, f)| f.clone()).collect();
            let rest = Plan { faults: rest }.whole().faults;
            if try_plan(&rest, &mut runs) {
                smaller = Some(rest);
                break;
            }
        }
        match smaller {
            Some(rest) => {
                kept = rest;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    (Plan { faults: kept }, runs)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::faults::Kind;

    fn plan(count: u64) -> Plan {
        let fault = |n| Fault { at: Duration::from_secs(n), lasts: Duration::ZERO, kind: Kind::Heal };
        Plan { faults: (0..count).map(fault).collect() }
    }

    #[test]
    fn two_faults_of_a_hundred_that_only_fail_together_are_found() {
        let needs = [Duration::from_secs(13), Duration::from_secs(77)];
        let fails = |plan: &Plan| needs.iter().all(|at| plan.faults.iter().any(|fault| fault.at == *at));
        let (small, runs) = shrink(&plan(100), 1_000, fails);
        assert_eq!(small.faults.iter().map(|fault| fault.at).collect::<Vec<_>>(), needs);
        assert!(runs < 100, "{runs} runs");
    }

    #[test]
    fn what_is_about_a_second_device_goes_with_the_device() {
        use crate::faults::Target;

        let fault = |at, kind| Fault { at: Duration::from_secs(at), lasts: Duration::ZERO, kind };
        let of_two = (0..2).flat_map(|node| {
            let crash = Kind::Offline { target: Target::Second(node) };
            [
                fault(1, Kind::AddDevice { node }),
                fault(2, crash),
                fault(9, Kind::RemoveDevice { node }),
                fault(0, Kind::RemoveDevice { node }),
            ]
        });
        let plan = Plan { faults: of_two.chain([fault(5, Kind::Heal)]).collect() };
        assert_eq!(plan.clone().whole().faults.len(), 7, "one is of no device yet");
        let (mut seen, wanted) = (0, Kind::RemoveDevice { node: 1 });
        let (small, _) = shrink(&plan, 100, |plan| {
            assert_eq!(plan.clone().whole(), *plan, "what is run is whole");
            seen += 1;
            plan.faults.iter().any(|fault| fault.kind == wanted)
        });
        assert_eq!(small.faults, [fault(1, Kind::AddDevice { node: 1 }), fault(9, wanted)]);
        assert!(seen > 3);
    }

    #[test]
    fn what_fails_without_any_fault_needs_one_run_and_a_bound_ends_the_search() {
        assert_eq!(shrink(&plan(100), 1_000, |_| true), (Plan::none(), 1));
        let (left, runs) = shrink(&plan(100), 5, |plan| plan.faults.len() > 40);
        assert!(runs <= 5 && left.faults.len() > 40);
    }
}
