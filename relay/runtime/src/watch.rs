//! Watch: what whoever runs this relay may look at: figures for Prometheus, whether the process lives, whether it is
//! ready and if not why.
//! Owns: the words and names. Never: stands at a public address; a label that is an id, a name or an address.
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

use crate::RelayKv;
use crate::figures::Woken;
use crate::serve::{Server, Stop};

/// What is looked at.
pub(crate) struct Watched {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<RelayKv>,
    /// Why the store failed, if it has.
    pub(crate) failed: watch::Receiver<Option<String>>,
    pub(crate) stop: Stop,
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
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text(&watched, bytes))
}

/// Prometheus' text format, version 0.0.4.
fn text(watched: &Watched, store_bytes: Option<u64>) -> String {
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

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP whimbrel_{name} {help}\n# TYPE whimbrel_{name} {kind}");
    }

    /// Labels are words of ours: nothing in them needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "whimbrel_{name}{labels} {value}");
    }
}
