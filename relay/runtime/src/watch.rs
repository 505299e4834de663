//! Watch: what whoever runs this relay may look at: figures for Prometheus, whether the process lives, whether it is
//! ready and if not why.
//! Owns: the words and names, and the count of what the store holds. Never: stands at a public address; a label that is an
//! id, a name or an address. Limits: `limits::HELD_ROWS`, `limits::HELD_REST`.
//! Rules: docs/operate/watch.md.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;
use whimbrel_relay::store::kv::{Held, Place, add_held};
use whimbrel_storage::StorageError;

use crate::RelayKv;
use crate::clock::Clock;
use crate::figures::{TIMES, Times, Woken};
use crate::serve::{Server, Stop};

/// What is looked at.
pub(crate) struct Watched {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<RelayKv>,
    /// Why the store failed, if it has.
    pub(crate) failed: watch::Receiver<Option<String>>,
    pub(crate) stop: Stop,
    pub(crate) held: HeldCount,
}

/// The three pages.
pub(crate) fn router(watched: Watched) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(watched))
}

async fn ready(State(watched): State<Arc<Watched>>) -> (StatusCode, String) {
    let store = watched.store.clone();
    let full = tokio::task::spawn_blocking(move || store.disk().map_or(Ok(false), |disk| disk.is_full())).await;
    let mut reasons = Vec::new();
    if watched.stop.borrow().is_some() {
        reasons.push("draining: no new links are taken");
    }
    if watched.failed.borrow().is_some() {
        reasons.push("store failed: the process ends, a supervisor should start it again");
    } else {
        match full {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => reasons.push("store full: new messages are refused, held ones are handed out"),
            Ok(Err(_)) | Err(_) => reasons.push("store failing: its disk does not answer"),
        }
    }
    match reasons.as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

async fn metrics(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    let store = watched.store.clone();
    let bytes = tokio::task::spawn_blocking(move || store.disk().map(|disk| disk.size_on_disk())).await;
    let bytes = bytes.ok().flatten().and_then(Result::ok);
    let held = watched.held.look(&watched.store, watched.server.clock).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text(&watched, bytes, held))
}

/// What the store holds, counted when it is asked for and not more often than is cheap: a store of a million logs takes
/// seconds.
#[derive(Default)]
pub(crate) struct HeldCount(tokio::sync::Mutex<Option<Counted>>);

#[derive(Clone, Copy)]
struct Counted {
    held: Held,
    /// When it is counted anew.
    due: Monotonic,
}

impl HeldCount {
    /// The count, or nothing when the store cannot be read. Whoever asks meanwhile waits for the one that counts.
    async fn look(&self, store: &Arc<RelayKv>, clock: Clock) -> Option<Held> {
        let mut last = self.0.lock().await;
        let begin = clock.now().monotonic;
        if let Some(counted) = last.filter(|counted| begin < counted.due) {
            return Some(counted.held);
        }
        let store = store.clone();
        let held = tokio::task::spawn_blocking(move || count(&store)).await.ok()?;
        let held = held.inspect_err(|error| tracing::error!(%error, "what is held could not be counted")).ok()?;
        let end = clock.now().monotonic;
        *last = Some(Counted { held, due: end.plus(end.since(begin) * limits::HELD_REST) });
        Some(held)
    }
}

fn count(store: &RelayKv) -> Result<Held, StorageError> {
    let (mut held, mut place) = (Held::default(), Some(Place::default()));
    while let Some(from) = place {
        place = add_held(store, from, limits::HELD_ROWS, &mut held)?;
    }
    Ok(held)
}

/// Prometheus' text format, version 0.0.4.
fn text(watched: &Watched, store_bytes: Option<u64>, held: Option<Held>) -> String {
    let server = &watched.server;
    let counts = server.relay.counts();
    let mut page = Page::default();
    page.family("build_info", "gauge", "Which program this is.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("connections", "gauge", "Links that stand, by what carries them.");
    for (transport, links) in server.links.counts() {
        page.sample("connections", &[("transport", transport)], links as u64);
    }
    page.family("messages_accepted_total", "counter", "Envelopes taken into logs here.");
    page.sample("messages_accepted_total", &[], counts.accepted);
    page.family(
        "messages_delivered_total",
        "counter",
        "Entries pushed to devices, and rows that peer relays answered for.",
    );
    page.sample("messages_delivered_total", &[("path", "push")], counts.pushed);
    page.sample("messages_delivered_total", &[("path", "federation")], counts.forwarded);
    page.family("federation_dropped_total", "counter", "Rows for peer relays given up: refused for good.");
    page.sample("federation_dropped_total", &[], server.relay.forwards_dropped());
    page.family("losses_untold_total", "counter", "Envelopes a full log let go, with no room to tell their author.");
    page.sample("losses_untold_total", &[], counts.untold);
    if let Some(held) = held {
        page.family("held_messages", "gauge", "Entries in logs that not everybody has fetched who is to.");
        page.sample("held_messages", &[], held.entries);
        page.family("held_bytes", "gauge", "Bytes of these entries.");
        page.sample("held_bytes", &[], held.bytes);
        page.family("federation_queue_depth", "gauge", "Rows that wait for peer relays.");
        page.sample("federation_queue_depth", &[], held.forwards);
    }
    page.family("submit_seconds", "histogram", "From an own user's envelope to the answer that it is durable.");
    page.times("submit_seconds", watched.server.figures.submits());
    page.family("rejections_total", "counter", "Refusals told, by reason.");
    for (code, count) in &counts.refused {
        page.sample("rejections_total", &[("reason", &snake(&format!("{code:?}")))], *count);
    }
    if let Some(bytes) = store_bytes {
        page.family("store_bytes", "gauge", "The store's size on its disk.");
        page.sample("store_bytes", &[("kind", "disk")], bytes);
    }
    page.family("wakes_total", "counter", "Wake-ups, by what became of them.");
    for (outcome, label) in Woken::ALL {
        page.sample("wakes_total", &[("outcome", label)], server.figures.wakes(outcome));
    }
    page.0
}

/// `NotFound` as `not_found`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    format!("{}", micros as f64 / 1e6)
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP whimbrel_{name} {help}\n# TYPE whimbrel_{name} {kind}");
    }

    /// A histogram, in seconds.
    fn times(&mut self, name: &str, times: &Times) {
        let (classes, sum) = times.counts();
        let mut so_far = 0;
        for (class, count) in classes.iter().enumerate() {
            so_far += count;
            let bound = TIMES.get(class).map_or_else(|| "+Inf".to_owned(), |micros| seconds(*micros));
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], so_far);
        }
        let _ = writeln!(self.0, "whimbrel_{name}_sum {}", seconds(sum));
        self.sample(&format!("{name}_count"), &[], so_far);
    }

    /// Labels are words of ours: nothing in them needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "whimbrel_{name}{labels} {value}");
    }
}
