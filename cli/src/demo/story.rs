//! Story: the lines a demo prints as things happen, and the table at its end.
//! Owns: their form. Never: decides whether it went well (`demo`).

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ledger::{Balance, PathBalance, millis};
use crate::clock;
use crate::sanitize;

/// Where the story goes, and when it began.
pub(crate) struct Story {
    begin: Instant,
    /// With `--json` standard output holds the result alone.
    to_stderr: bool,
    quiet: bool,
    begun: bool,
}

impl Story {
    pub(crate) fn begin(json: bool, quiet: bool) -> Self {
        Self { begin: clock::now(), to_stderr: json, quiet, begun: false }
    }

    /// A new chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        let gap = if std::mem::replace(&mut self.begun, true) { "\n" } else { "" };
        self.print(&format!("{gap}{title}"));
    }

    /// Something happened.
    pub(crate) fn tell(&self, what: &str) {
        self.line("", what, None);
    }

    /// A message arrived, by a path, after a time.
    pub(crate) fn message(&self, path: &str, what: &str, latency: Duration) {
        self.line(path, what, Some(latency));
    }

    fn line(&self, path: &str, what: &str, latency: Option<Duration>) {
        let offset = clock::now().saturating_duration_since(self.begin).as_secs_f64();
        let what = sanitize::block(what, "                      ");
        let latency = latency.map(|latency| format!("  {:.1} ms", millis(latency))).unwrap_or_default();
        self.print(&format!("{offset:7.2}s  {path:<11} {what}{latency}"));
    }

    fn print(&self, text: &str) {
        // A story that nobody reads any more goes on: the exit code counts.
        if self.to_stderr {
            if !self.quiet {
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
        } else {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    pub(crate) fn took(&self) -> Duration {
        clock::now().saturating_duration_since(self.begin)
    }
}

/// The result of a demo, as programs read it.
#[derive(Serialize)]
pub(crate) struct Outcome {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) ok: bool,
    sent: usize,
    shown: usize,
    lost: usize,
    duplicates: usize,
    in_order: bool,
    paths: Paths,
    held: HeldOutcome,
    took_s: f64,
}

#[derive(Serialize)]
struct Paths {
    relay: PathOutcome,
    federation: PathOutcome,
    direct: PathOutcome,
}

#[derive(Serialize)]
struct PathOutcome {
    /// All that came this way, held ones included.
    shown: usize,
    /// Those the latencies are of: their reader was there.
    live: usize,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
struct HeldOutcome {
    shown: usize,
    longest_wait_ms: f64,
}

impl Outcome {
    pub(crate) fn of(balance: &Balance, took: Duration) -> Self {
        let path = |name| {
            let PathBalance { shown, live, p50_ms, p99_ms } = balance.paths.get(name).cloned().unwrap_or_default();
            PathOutcome { shown, live, p50_ms, p99_ms }
        };
        let paths = Paths { relay: path("relay"), federation: path("federation"), direct: path("direct") };
        let all_paths = [&paths.relay, &paths.federation, &paths.direct].iter().all(|path| path.live > 0);
        Self {
            kind: "demo",
            ok: balance.lost == 0
                && balance.duplicates == 0
                && balance.in_order
                && balance.missed_events == 0
                && all_paths,
            sent: balance.sent,
            shown: balance.shown,
            lost: balance.lost,
            duplicates: balance.duplicates,
            in_order: balance.in_order,
            paths,
            held: HeldOutcome { shown: balance.held, longest_wait_ms: balance.held_wait_ms_max },
            took_s: (took.as_secs_f64() * 100.0).round() / 100.0,
        }
    }

    /// The table, for people.
    pub(crate) fn table(&self) -> String {
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let mut text = format!("{:<12}{:>7}{:>12}{:>12}\n", "path", "shown", "p50", "p99");
        for (name, path) in
            [("relay", &self.paths.relay), ("federation", &self.paths.federation), ("direct", &self.paths.direct)]
        {
            text.push_str(&format!("{name:<12}{:>7}{:>12}{:>12}\n", path.shown, time(path.p50_ms), time(path.p99_ms)));
        }
        text.push_str(&format!(
            "\nsent {}, shown {}, lost {}, duplicates {}, order {}, in {:.1} s\n",
            self.sent,
            self.shown,
            self.lost,
            self.duplicates,
            if self.in_order { "kept" } else { "NOT kept" },
            self.took_s
        ));
        text.push_str(&format!(
            "{} of those shown were held while their reader was away, the longest for {:.1} s;\nthey count as shown on their path, and not in its p50 and p99.",
            self.held.shown,
            self.held.longest_wait_ms / 1_000.0
        ));
        text
    }
}
