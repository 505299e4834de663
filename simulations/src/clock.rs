//! The one real clock: how long a run took. Nothing simulated reads it.

use std::time::Instant;

/// A stopwatch, started when made.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    cpu: Option<f64>,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measures the run itself; its reading reaches no simulated process")]
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: on_cpu() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds this process had a processor; where the system does not say, seconds.
    pub(crate) fn core_seconds(&self) -> f64 {
        match (self.cpu, on_cpu()) {
            (Some(began), Some(now)) => now - began,
            _ => self.seconds(),
        }
    }
}

/// Seconds on a processor since this process began, all threads together, as Linux counts them: `utime` and `stime` of
/// `proc_pid_stat(5)`, in hundredths on every machine.
fn on_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold anything; what follows its closing parenthesis is numbers.
    let mut numbers = text.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || numbers.next()?.parse::<u64>().ok();
    let all = ticks()?.saturating_add(ticks()?);
    Some(all as f64 / 100.0)
}
