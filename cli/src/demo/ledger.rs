//! Ledger: what people asked to send, and what people were shown.
//! Owns: counting. Never: looks into a node: it knows requests and events only, so that a fault of a node cannot hide in it.
//!
//! Messages are told apart by author, reader and text, as people would; ids serve for latencies and second showings alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use whimbrel_node::Path;
use whimbrel_protocol::id::MessageId;

use crate::clock;

/// A message on its way from one person to another.
#[derive(Clone, Debug)]
struct Asked {
    from: &'static str,
    to: &'static str,
    text: String,
    at: Instant,
    /// The reader was away: how long it waited says nothing of the path.
    held: bool,
}

/// A message that was shown.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) text: String,
    pub(crate) path: Path,
    id: MessageId,
    at: Instant,
}

#[derive(Default)]
struct Books {
    asked: Vec<Asked>,
    seen: Vec<Seen>,
    /// Events that a reader of ours was too slow for; with any of these the books prove nothing.
    missed: u64,
}

/// The books of a demo.
#[derive(Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    changed: Notify,
}

/// What the books say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Balance {
    pub(crate) sent: usize,
    pub(crate) shown: usize,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    /// Every reader saw every author's messages in the order they were asked to be sent.
    pub(crate) in_order: bool,
    pub(crate) missed_events: u64,
    pub(crate) paths: BTreeMap<&'static str, PathBalance>,
    pub(crate) held: usize,
    pub(crate) held_wait_ms_max: f64,
}

/// One path's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PathBalance {
    /// All that came this way, held ones included.
    pub(crate) shown: usize,
    /// Those whose reader was there: what the latencies are of.
    pub(crate) live: usize,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks to send a text.
    pub(crate) fn asked(&self, from: &'static str, to: &'static str, text: &str, held: bool) {
        let asked = Asked { from, to, text: text.to_owned(), at: clock::now(), held };
        self.books().asked.push(asked);
    }

    /// Somebody is shown a message.
    pub(crate) fn seen(&self, from: &'static str, to: &'static str, text: String, path: Path, id: MessageId) {
        self.books().seen.push(Seen { from, to, text, path, id, at: clock::now() });
        self.changed.notify_waiters();
    }

    /// Events were missed.
    pub(crate) fn missed(&self, events: u64) {
        self.books().missed += events;
        self.changed.notify_waiters();
    }

    /// How many messages a person was shown, second showings included.
    pub(crate) fn shown_to(&self, to: &str) -> usize {
        self.books().seen.iter().filter(|seen| seen.to == to).count()
    }

    /// Waits until a person was shown so many messages, and answers the newest with its latency.
    pub(crate) async fn wait_shown(&self, to: &str, count: usize) -> Option<(Seen, Duration)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Enabled before the look: what happens in between wakes.
            changed.as_mut().enable();
            {
                let books = self.books();
                let mut shown = books.seen.iter().filter(|seen| seen.to == to);
                if books.missed > 0 {
                    return None;
                }
                if let Some(newest) = count.checked_sub(1).and_then(|at| shown.nth(at)) {
                    let asked = books.asked.iter().rev().find(|asked| asked.is(newest));
                    let latency = asked.map(|asked| newest.at.saturating_duration_since(asked.at)).unwrap_or_default();
                    return Some((newest.clone(), latency));
                }
            }
            changed.await;
        }
    }

    /// Draws the balance.
    pub(crate) fn balance(&self) -> Balance {
        let books = self.books();
        let mut balance =
            Balance { sent: books.asked.len(), in_order: true, missed_events: books.missed, ..Balance::default() };
        let mut waiting: BTreeMap<(&str, &str), Vec<(usize, &Asked)>> = BTreeMap::new();
        for (number, asked) in books.asked.iter().enumerate() {
            waiting.entry((asked.from, asked.to)).or_default().push((number, asked));
        }
        let mut ids = std::collections::BTreeSet::new();
        let mut newest: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut latencies: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
        for seen in &books.seen {
            let pair = (seen.from, seen.to);
            let place = waiting.get(&pair).and_then(|asked| asked.iter().position(|(_, asked)| asked.is(seen)));
            // Shown twice, or never sent by anybody: neither may be.
            let fresh = ids.insert((seen.to, seen.id));
            let (true, Some(place), Some(asked)) = (fresh, place, waiting.get_mut(&pair)) else {
                balance.duplicates += 1;
                continue;
            };
            let (number, asked) = asked.remove(place);
            balance.shown += 1;
            let before = newest.insert(pair, number);
            balance.in_order &= before.is_none_or(|before| before < number);
            let path = crate::words::path_name(seen.path);
            let wait = seen.at.saturating_duration_since(asked.at);
            balance.paths.entry(path).or_default().shown += 1;
            if asked.held {
                balance.held += 1;
                balance.held_wait_ms_max = balance.held_wait_ms_max.max(millis(wait));
            } else {
                latencies.entry(path).or_default().push(wait);
            }
        }
        balance.lost = waiting.values().map(Vec::len).sum();
        for (path, mut of_path) in latencies {
            of_path.sort_unstable();
            let entry = balance.paths.entry(path).or_default();
            entry.live = of_path.len();
            entry.p50_ms = quantile(&of_path, 50).map(millis);
            entry.p99_ms = quantile(&of_path, 99).map(millis);
        }
        balance
    }
}

impl Asked {
    fn is(&self, seen: &Seen) -> bool {
        self.from == seen.from && self.to == seen.to && self.text == seen.text
    }
}

/// The smallest value that `percent` of all do not exceed (nearest rank); `sorted` ascends.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Milliseconds, with two digits after the point.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn id(byte: u8) -> MessageId {
        MessageId::from_bytes([byte; 16])
    }

    #[test]
    fn what_was_never_shown_is_lost_and_what_was_shown_twice_is_a_duplicate() {
        let ledger = Ledger::default();
        for text in ["one", "two", "three"] {
            ledger.asked("Alice", "Bob", text, false);
        }
        ledger.seen("Alice", "Bob", "one".to_owned(), Path::Relay, id(1));
        ledger.seen("Alice", "Bob", "one".to_owned(), Path::Direct, id(1));
        ledger.seen("Alice", "Bob", "three".to_owned(), Path::Relay, id(3));
        let balance = ledger.balance();
        assert_eq!((balance.sent, balance.shown, balance.lost, balance.duplicates), (3, 2, 1, 1));
        assert!(balance.in_order);
        assert_eq!(balance.paths["relay"].shown, 2);
    }

    #[test]
    fn a_second_showing_under_a_new_id_is_a_duplicate_too() {
        let ledger = Ledger::default();
        ledger.asked("Alice", "Bob", "one", false);
        ledger.seen("Alice", "Bob", "one".to_owned(), Path::Relay, id(1));
        ledger.seen("Alice", "Bob", "one".to_owned(), Path::Relay, id(2));
        assert_eq!(ledger.balance().duplicates, 1);
    }

    #[test]
    fn the_same_text_may_be_sent_twice() {
        let ledger = Ledger::default();
        for number in 1..=2 {
            ledger.asked("Alice", "Bob", "again", false);
            ledger.seen("Alice", "Bob", "again".to_owned(), Path::Relay, id(number));
        }
        let balance = ledger.balance();
        assert_eq!((balance.shown, balance.lost, balance.duplicates, balance.in_order), (2, 0, 0, true));
    }

    #[test]
    fn an_order_that_is_not_kept_is_seen() {
        let ledger = Ledger::default();
        ledger.asked("Alice", "Bob", "one", true);
        ledger.asked("Alice", "Bob", "two", true);
        ledger.seen("Alice", "Bob", "two".to_owned(), Path::Relay, id(2));
        ledger.seen("Alice", "Bob", "one".to_owned(), Path::Relay, id(1));
        let balance = ledger.balance();
        assert!(!balance.in_order);
        assert_eq!((balance.held, balance.paths["relay"].live, balance.paths["relay"].p50_ms), (2, 0, None));
    }

    #[test]
    fn quantiles_are_of_nearest_rank() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&times, 99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&times[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 50), None);
    }
}
