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

    /// Seconds this thread had a processor; where the system does not say, seconds.
    pub(crate) fn core_seconds(&self) -> f64 {
        match (self.cpu, on_cpu()) {
            (Some(began), Some(now)) => now - began,
            _ => self.seconds(),
        }
    }
}

/// Seconds on a processor since this thread began, as Linux counts them (`proc_pid_schedstat(5)`: nanoseconds first).
fn on_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}
