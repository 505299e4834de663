//! Shapes of keys, for a store that hides what is in them. Owns: which parts of a key show. Never: seals
//! (`whimbrel_crypto::seal`). Rules: docs/protocol/at-rest.md.

use whimbrel_crypto::KeyShape;
use whimbrel_protocol::id::{AccountId, ThreadId};

use super::Space;

/// How the keys of a node's store are built, for a store that hides what is in them ([`whimbrel_crypto::seal`]).
///
/// Accounts, threads, envelopes and authors are hidden; that a thread's rows belong together, the clocks and ids of its
/// messages and the numbers in its queues are not, for their order is what they are kept for. Keys of other spaces are
/// hidden whole. Another shape is another way to lie in the store: it takes a new seal.
pub const KEY_SHAPES: whimbrel_crypto::Shapes = &[OWN_KEY_SHAPES, whimbrel_crypto::mls::KEY_SHAPES];

const OWN_KEY_SHAPES: &[KeyShape] = &[
    KeyShape { prefix: &[Space::Device as u8], head: AccountId::LEN, seen: 4, grows: false },
    KeyShape { prefix: &[Space::Fetched as u8], head: 32, seen: 1, grows: false },
    KeyShape { prefix: &[Space::Outbox as u8], head: ThreadId::LEN, seen: 8, grows: false },
    KeyShape { prefix: &[Space::Parked as u8], head: ThreadId::LEN, seen: 8, grows: false },
    // Clock and message id; the author's device behind them is hidden.
    KeyShape { prefix: &[Space::History as u8], head: ThreadId::LEN, seen: 12 + 16, grows: true },
    KeyShape { prefix: &[Space::Message as u8], head: 16, seen: 0, grows: true },
    KeyShape { prefix: &[Space::Envelope as u8], head: 32, seen: 0, grows: true },
    KeyShape { prefix: &[Space::Unread as u8], head: ThreadId::LEN, seen: 8, grows: true },
    KeyShape { prefix: &[Space::Owed as u8], head: ThreadId::LEN, seen: 0, grows: false },
    KeyShape { prefix: &[Space::Awaited as u8, 1], head: ThreadId::LEN, seen: 8, grows: false },
    KeyShape { prefix: &[Space::Said as u8], head: ThreadId::LEN, seen: 8, grows: true },
    KeyShape { prefix: &[Space::Mark as u8], head: 32, seen: 0, grows: true },
    KeyShape { prefix: &[Space::Count as u8, 0], head: ThreadId::LEN, seen: 0, grows: false },
    KeyShape { prefix: &[Space::Count as u8, 1], head: ThreadId::LEN, seen: 0, grows: false },
    KeyShape { prefix: &[Space::Told as u8, 2], head: ThreadId::LEN + 16 + 36, seen: 0, grows: true },
    KeyShape { prefix: &[Space::Unreadable as u8], head: ThreadId::LEN, seen: 8, grows: true },
];
