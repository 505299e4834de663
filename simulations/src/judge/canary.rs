//! Canaries: P4. Every text said in a run carries a mark that occurs nowhere else; nothing a relay keeps or logs may.
//! Owns: the mark, its spellings, the search, the ear at the relay's log lines.
//! Never: changes what runs: it looks when everything stands still.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

use crate::engine::{Entity, Seed};

/// Letters of the mark: 16 of 36 are 82 bits, more than chance finds in anything.
const LENGTH: usize = 16;
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The mark of a run, in every spelling that is looked for.
#[derive(Clone, Debug)]
pub struct Canaries {
    mark: String,
    /// By first byte, so that one pass looks for all.
    spellings: Vec<Vec<u8>>,
    first: Box<[bool; 256]>,
}

impl Canaries {
    /// The mark of a seed.
    pub fn of(seed: Seed) -> Self {
        let mut stream = seed.stream(Entity::World, "canaries");
        let letter = |_| LETTERS.get(stream.below(LETTERS.len() as u64) as usize).copied().unwrap_or(b'x');
        let mark: Vec<u8> = (0..LENGTH).map(letter).collect();
        let hex: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut spellings = vec![mark.clone(), hex.to_ascii_uppercase().into_bytes(), hex.into_bytes()];
        // As a debugger prints a list of bytes.
        spellings.push(mark.iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes());
        spellings.extend((0..3).map(|before| base64(&mark, before)));
        let mut first = Box::new([false; 256]);
        for spelling in &spellings {
            if let Some(place) = spelling.first().and_then(|byte| first.get_mut(usize::from(*byte))) {
                *place = true;
            }
        }
        Self { mark: mark.into_iter().map(char::from).collect(), spellings, first }
    }

    /// What every text of the run must carry.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Whether the mark is in here, plain, in hexadecimal or in base64.
    pub fn sings_in(&self, bytes: &[u8]) -> bool {
        let hit = |at: usize| {
            let rest = bytes.get(at..).unwrap_or_default();
            self.spellings.iter().any(|spelling| rest.starts_with(spelling))
        };
        let begins = |byte: &u8| self.first.get(usize::from(*byte)).copied().unwrap_or(false);
        bytes.iter().enumerate().any(|(at, byte)| begins(byte) && hit(at))
    }
}

impl Default for Canaries {
    fn default() -> Self {
        Self::of(Seed::from(0))
    }
}

/// What is the same in every base64 text that has these bytes after `before` (0 to 2) others in their group of three.
fn base64(bytes: &[u8], before: usize) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(bytes.iter().copied()).collect();
    let letters: Vec<u8> = padded
        .chunks_exact(3)
        .flat_map(|group| {
            let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| BASE64.get(bits >> shift & 63).copied().unwrap_or(b'='))
        })
        .collect();
    // The first letters hold bits of what came before. Letters alone make "+/" and "-_" alphabets differ nowhere.
    letters.get([0, 2, 3].get(before).copied().unwrap_or(0)..).unwrap_or_default().to_vec()
}

/// Hears the log lines of relay code on this thread, and keeps those in which the mark sings.
#[derive(Clone, Debug)]
pub struct Ear {
    canaries: Canaries,
    heard: Arc<Mutex<Heard>>,
    /// Who listened before: hears everything as without this ear.
    behind: Dispatch,
}

/// What an ear came to.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Lines listened to.
    pub lines: u64,
    /// Where the mark was in a line: its target, never its text.
    pub leaks: Vec<String>,
}

impl Ear {
    /// Listens for a seed's mark.
    pub fn new(canaries: Canaries) -> Self {
        Self { canaries, heard: Arc::default(), behind: dispatcher::get_default(Dispatch::clone) }
    }

    /// Runs something with this ear at its log lines.
    pub fn listen<T>(&self, to: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(self.clone(), to)
    }

    /// What it heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether it is code that a relay runs, shared with others or not: nobody may log a text.
fn is_relays(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.starts_with("whimbrel_") && !target.starts_with("whimbrel_sim") && !target.starts_with("whimbrel_node")
}

impl Ear {
    fn hear(&self, target: &str, line: &Line) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.lines += 1;
        if self.canaries.sings_in(line.0.as_bytes()) {
            heard.leaks.push(target.to_owned());
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _infallible = write!(self.0, "{field}={value:?} ");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _infallible = write!(self.0, "{field}={value} ");
    }

    fn record_bytes(&mut self, _: &Field, value: &[u8]) {
        self.0.extend(value.iter().map(|byte| char::from(*byte)));
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_relays(metadata) || self.behind.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if is_relays(span.metadata()) {
            let mut line = Line(String::new());
            span.record(&mut line);
            self.hear(span.metadata().target(), &line);
        }
        self.behind.new_span(span)
    }

    fn record(&self, span: &Id, fields: &Record<'_>) {
        let mut line = Line(String::new());
        fields.record(&mut line);
        self.hear("a span", &line);
        self.behind.record(span, fields);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.behind.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if is_relays(event.metadata()) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.hear(event.metadata().target(), &line);
        }
        if self.behind.enabled(event.metadata()) {
            self.behind.event(event);
        }
    }

    fn enter(&self, span: &Id) {
        self.behind.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.behind.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.behind.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.behind.try_close(span)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_in_every_spelling_and_nowhere_else() {
        let canaries = Canaries::of(Seed::from(1));
        let mark = canaries.mark().to_owned();
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(canaries.sings_in(format!("before {mark} after").as_bytes()));
        assert!(canaries.sings_in(hex(&format!("x{mark}")).as_bytes()));
        assert!(canaries.sings_in(hex(&mark).to_uppercase().as_bytes()));
        // Three texts, so that the mark begins at each place of a group of three. Written out by another hand.
        let encode = |bytes: &[u8]| -> String {
            let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
            bits.chunks(6)
                .map(|six| {
                    let value = (0..6).fold(0, |value, n| value << 1 | usize::from(six.get(n).copied().unwrap_or(0)));
                    char::from(BASE64[value])
                })
                .collect()
        };
        for before in ["", "a", "ab", "abc"] {
            assert!(canaries.sings_in(encode(format!("{before}{mark}!").as_bytes()).as_bytes()), "{before:?}");
        }
        let other = Canaries::of(Seed::from(2));
        assert!(!canaries.sings_in(format!("{0} {1}", other.mark(), hex(other.mark())).as_bytes()));
        assert!(!canaries.sings_in(&mark.as_bytes()[1..]));
    }

    #[test]
    fn an_ear_hears_relay_code_and_nobody_else() {
        let ear = Ear::new(Canaries::of(Seed::from(1)));
        let mark = Canaries::of(Seed::from(1)).mark().to_owned();
        ear.listen(|| {
            tracing::info!(target: "whimbrel_relay::push", "all is well");
            tracing::debug!(target: "whimbrel_relay::push", text = %format!("oh {mark}"), "said");
            tracing::error!(target: "whimbrel_node::send", "{mark}");
            let _span = tracing::info_span!(target: "whimbrel_storage::kv", "write", row = ?mark.as_bytes()).entered();
        });
        // Whoever listened before hears it as if nobody else did.
        let (first, second) = (Ear::new(Canaries::of(Seed::from(1))), Canaries::of(Seed::from(2)));
        first.listen(|| Ear::new(second).listen(|| tracing::info!(target: "whimbrel_relay::push", "{mark}")));
        assert_eq!((first.heard().lines, first.heard().leaks.len()), (1, 1));
        let heard = ear.heard();
        let leaks = ["whimbrel_relay::push", "whimbrel_storage::kv"].map(str::to_owned).to_vec();
        assert_eq!((heard.lines, heard.leaks), (3, leaks));
    }
}
