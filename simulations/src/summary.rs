//! The summary: what a run came to, as one JSON object or a few lines for people.
//! Owns: the keys. All but `wall_s` are the same whenever the scenario, the seed and the code are.

use std::collections::BTreeMap;

use serde::Serialize;
use whimbrel_node::api::Path;

use crate::judge::verdict::{Times, Verdict};
use crate::judge::{Promise, Seen, promises};
use crate::world::Account;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The scenario's file name.
    pub scenario: String,
    /// What everything was drawn from.
    pub seed: u64,
    /// Hash over everything that happened.
    pub trace_hash: String,
    /// Messages their author's node answered for.
    pub sent: u64,
    /// Of these, showings to people entitled to them.
    pub shown: u64,
    /// Of these, showings that never happened without anybody being told.
    pub lost: u64,
    /// Showings too many.
    pub duplicates: u64,
    /// Showings of what nobody said, or not so.
    pub misattributed: u64,
    /// Messages whose author was told that they failed.
    pub failed: u64,
    /// Texts that a node did not take.
    pub declined: u64,
    /// Showings of messages whose author never heard that they were taken.
    pub unconfirmed: u64,
    /// Entries that a node could not open and kept out of sight.
    pub unreadable: u64,
    /// Everything that must not be, counted.
    pub violations: u64,
    /// Events of the world.
    pub events: u64,
    /// Time that passed in the world, in seconds.
    pub virtual_s: f64,
    /// Relays.
    pub relays: usize,
    /// Nodes.
    pub nodes: usize,
    /// Processes that died.
    pub crashes: u64,
    /// Of these, relays.
    pub relay_crashes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Times a node lost its network.
    pub disconnects: u64,
    /// Applied batches that crashes took back.
    pub batches_lost: u64,
    /// Everything that struck, by kind.
    pub struck: BTreeMap<&'static str, u64>,
    /// Links that stood.
    pub links: u64,
    /// Frames that arrived.
    pub frames: u64,
    /// Bytes sent, packet overhead included.
    pub bytes: u64,
    /// Packets lost and sent again.
    pub packets_lost: u64,
    /// Everything counted on the network, by name.
    pub network: BTreeMap<&'static str, u64>,
    /// Showings by path, with times from send to show.
    pub paths: BTreeMap<&'static str, PathSummary>,
    /// The longest time from send to show, in milliseconds.
    pub slowest_ms: f64,
    /// The longest that a thread took to come together once all had healed, or once it moved on after that, in milliseconds;
    /// looked at once a second.
    pub converged_ms: u64,
    /// Every promise, and what this run says of it.
    pub promises: Vec<Promise>,
    /// How long the run took, in seconds: the one value that differs from run to run. Absent where bytes must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<f64>,
}

/// One path.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PathSummary {
    /// Showings.
    pub shown: usize,
    /// Half were faster.
    pub p50_ms: f64,
    /// All but one in a hundred were faster.
    pub p99_ms: f64,
}

impl Summary {
    /// Of a run that took `wall_s` seconds.
    pub fn of((scenario, seed): (&str, u64), verdict: &Verdict, account: &Account, seen: Seen, wall_s: f64) -> Self {
        let path = |path: Path| {
            verdict.times.get(&path).map_or_else(PathSummary::default, |times: &Times| PathSummary {
                shown: times.count(),
                p50_ms: times.quantile_ms(0.5),
                p99_ms: times.quantile_ms(0.99),
            })
        };
        Self {
            scenario: scenario.to_owned(),
            seed,
            trace_hash: account.trace_hash.clone(),
            sent: verdict.sent,
            shown: verdict.shown,
            lost: verdict.lost,
            duplicates: verdict.duplicates,
            misattributed: verdict.misattributed,
            failed: verdict.failed,
            declined: verdict.declined,
            unconfirmed: verdict.unconfirmed,
            unreadable: verdict.unreadable,
            violations: verdict.violations,
            events: account.events,
            virtual_s: account.virtual_time.as_secs_f64(),
            relays: account.relays,
            nodes: account.nodes,
            crashes: account.faults.crashes,
            relay_crashes: account.faults.relay_crashes,
            partitions: account.faults.partitions,
            disconnects: account.faults.disconnects,
            batches_lost: account.faults.batches_lost,
            struck: account.struck().into(),
            links: account.net.links,
            frames: account.net.frames,
            bytes: account.net.bytes,
            packets_lost: account.net.packets_lost,
            network: account.net.by_name().into(),
            paths: [
                ("relay", path(Path::Relay)),
                ("federation", path(Path::Federation)),
                ("direct", path(Path::Direct)),
            ]
            .into(),
            slowest_ms: verdict.slowest.as_micros() as f64 / 1_000.0,
            converged_ms: account.converged.as_millis() as u64,
            promises: promises(seen).into(),
            wall_s: Some(wall_s),
        }
    }

    /// The same without what differs from run to run.
    #[must_use]
    pub fn reproducible(&self) -> Self {
        Self { wall_s: None, ..self.clone() }
    }

    /// A few lines for people.
    pub fn for_people(&self) -> String {
        let mut lines = vec![
            format!(
                "{} with seed {}: {:.0} virtual seconds of {} relays and {} nodes",
                self.scenario, self.seed, self.virtual_s, self.relays, self.nodes
            ),
            format!(
                "  sent {}, shown {}, lost {}, duplicates {}, misattributed {}",
                self.sent, self.shown, self.lost, self.duplicates, self.misattributed
            ),
            format!(
                "  {} crashes ({} of relays, {} unsynced batches lost), {} partitions, {} times a node lost its network",
                self.crashes, self.relay_crashes, self.batches_lost, self.partitions, self.disconnects
            ),
        ];
        lines.extend(self.paths.iter().map(|(name, path)| {
            format!("  {name}: {} shown, p50 {:.0} ms, p99 {:.0} ms", path.shown, path.p50_ms, path.p99_ms)
        }));
        let wall = self.wall_s.unwrap_or_default();
        lines.push(format!("  {} events in {wall:.1} s, {} frames, {} bytes", self.events, self.frames, self.bytes));
        lines.push(format!("  trace {}", self.trace_hash));
        let unchecked = self.promises.iter().filter(|promise| !promise.checked);
        lines.extend(unchecked.map(|promise| format!("  {} not checked: {}", promise.id, promise.how)));
        lines.join("\n") + "\n"
    }
}
