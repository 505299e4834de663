//! Planted: judges the judge. Each bug on purpose is planted in turn, and the soak runs until it is caught.
//! Owns: the order of bugs, the bound of each, what is told. Never: plants anything in a build without the feature.

use serde::Serialize;
use whimbrel_storage::planted::plant;

pub use whimbrel_storage::planted::Bug;

use crate::clock::Stopwatch;
use crate::scenario::{Crypto, ScenarioError};
use crate::soak::{self, Case, Orders};

/// What came of all planted bugs.
#[derive(Clone, Debug, Serialize)]
pub struct Planted {
    /// Bugs planted.
    pub planted: usize,
    /// Of these, found by the judge.
    pub caught: usize,
    /// Those that were not: defects of the judge, or of the mix of faults.
    pub survivors: Vec<&'static str>,
    /// Each.
    pub bugs: Vec<Fate>,
}

/// What came of one.
#[derive(Clone, Debug, Serialize)]
pub struct Fate {
    /// Which.
    pub bug: &'static str,
    /// Whether the judge found it.
    pub caught: bool,
    /// Cluster-hours it took, or that it survived.
    pub cluster_hours: f64,
    /// Seconds.
    pub wall_s: f64,
    /// The first promise found broken, and the command that shows it.
    pub by: Option<(String, String)>,
}

/// Takes a planted bug out again whatever happens.
struct Guard(Option<Bug>);

impl Drop for Guard {
    fn drop(&mut self) {
        plant(self.0);
    }
}

/// Runs something with a bug planted in this thread.
pub fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    let _out_again = Guard(plant(Some(bug)));
    run()
}

/// A bug by the name people call it.
pub fn named(name: &str) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name)
}

/// The names of all.
pub fn names() -> String {
    Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")
}

/// Runs the soak against each of these bugs, each for so many cluster-hours at most. It is caught by a seed that breaks
/// a promise with it and none without it.
///
/// # Errors
/// See [`soak::soak`].
pub fn run(
    bugs: &[Bug],
    hours_max: f64,
    seed: u64,
    crypto: Crypto,
    mut told: impl FnMut(&Fate),
) -> Result<Planted, ScenarioError> {
    let mut fates = Vec::new();
    for bug in bugs {
        let watch = Stopwatch::start();
        let (mut cluster_hours, mut from, mut by) = (0.0, seed, None);
        while by.is_none() && cluster_hours < hours_max {
            let orders = Orders { hours: hours_max - cluster_hours, seed: from, crypto, broken_max: 1, sample: true };
            let sum = with(*bug, || soak::soak(orders, |_, _, _| ()))?;
            (cluster_hours, from) =
                (cluster_hours + sum.cluster_hours, Case { seed: from, crypto }.after(sum.runs).seed);
            // A seed that breaks without the bug says nothing about the bug; it is a finding of its own, for the soak.
            for example in sum.examples {
                let clean = !Case { seed: example.seed, crypto }.run()?.broke();
                by = clean.then_some((example.violation, example.replay));
            }
        }
        let fate = Fate { bug: bug.name(), caught: by.is_some(), cluster_hours, wall_s: watch.seconds(), by };
        told(&fate);
        fates.push(fate);
    }
    Ok(Planted {
        planted: fates.len(),
        caught: fates.iter().filter(|fate| fate.caught).count(),
        survivors: fates.iter().filter(|fate| !fate.caught).map(|fate| fate.bug).collect(),
        bugs: fates,
    })
}
