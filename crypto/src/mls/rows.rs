//! Rows: where each piece of MLS state stands in the ordered store.
//! Owns: the keys. All begin with [`crate::engine::ROWS`].
//!
//! `m t <thread> <piece>` a live thread's pieces · `m p <thread> <epoch> <piece>` a past epoch · `m q <thread> <hash>`
//! a member list past epochs share · `m k <ref>` a key package with its secrets · `m x <time> <ref>` when it runs out
//! · `m e <key>` a leaf key pair.

use whimbrel_protocol::id::ThreadId;

use crate::engine::ROWS;
use crate::seal::KeyShape;

/// How the keys of key packages begin.
pub(crate) const KEY_PACKAGES: [u8; 2] = [ROWS, b'k'];

/// How these keys are built, for a store that hides what is in them: threads, hashes and public keys are hidden; which
/// piece, which epoch and when a key package runs out are not.
pub const KEY_SHAPES: &[KeyShape] = &[
    KeyShape { prefix: &[ROWS, b't'], head: ThreadId::LEN, seen: 1, grows: false },
    KeyShape { prefix: &[ROWS, b'p'], head: ThreadId::LEN, seen: 9, grows: false },
    KeyShape { prefix: &[ROWS, b'q'], head: ThreadId::LEN, seen: 0, grows: false },
    KeyShape { prefix: &[ROWS, b'x'], head: 0, seen: 8, grows: false },
];

/// A piece of a live thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Context,
    ConfirmationTag,
    EpochSecrets,
    InterimTranscriptHash,
    LeafIndex,
    LeafNodes,
    /// Names of parts; see `parts`.
    MessageSecrets,
    PendingCommit,
    PendingCommitHash,
    /// The thread's rows as they are once an external commit of ours holds.
    Rejoin,
    ResumptionSecrets,
    Stamp,
    State,
    Tree,
    /// Followed by the part's name.
    Part,
    /// Followed by the epoch and leaf the key pairs are for.
    KeyPairs,
    /// Followed by the proposal's reference.
    Proposal,
}

impl Piece {
    const fn byte(self) -> u8 {
        match self {
            Self::Context => b'c',
            Self::ConfirmationTag => b'f',
            Self::EpochSecrets => b'e',
            Self::InterimTranscriptHash => b'i',
            Self::LeafIndex => b'l',
            Self::LeafNodes => b'n',
            Self::MessageSecrets => b'm',
            Self::PendingCommit => b'p',
            Self::PendingCommitHash => b'h',
            Self::Rejoin => b'j',
            Self::ResumptionSecrets => b'r',
            Self::Stamp => b'v',
            Self::State => b's',
            Self::Tree => b't',
            Self::Part => b'a',
            Self::KeyPairs => b'k',
            Self::Proposal => b'q',
        }
    }
}

pub(super) fn piece(thread: ThreadId, piece: Piece) -> Vec<u8> {
    key(b't', &[thread.as_bytes(), &[piece.byte()]])
}

pub(super) fn piece_of(thread: ThreadId, piece: Piece, which: &[u8]) -> Vec<u8> {
    key(b't', &[thread.as_bytes(), &[piece.byte()], which])
}

/// First and last-but-one key of everything a live thread has.
pub(super) fn thread(thread: ThreadId) -> (Vec<u8>, Vec<u8>) {
    range(key(b't', &[thread.as_bytes()]))
}

/// First and last-but-one key of a piece that has many rows.
pub(super) fn pieces(thread: ThreadId, which: Piece) -> (Vec<u8>, Vec<u8>) {
    range(piece(thread, which))
}

/// When a past epoch ended, and the hash of its member list.
pub(super) fn past_index(thread: ThreadId, epoch: u64) -> Vec<u8> {
    key(b'p', &[thread.as_bytes(), b"i", &epoch.to_be_bytes()])
}

/// First and last-but-one key of a thread's past epochs' index.
pub(super) fn past_indices(thread: ThreadId) -> (Vec<u8>, Vec<u8>) {
    range(key(b'p', &[thread.as_bytes(), b"i"]))
}

/// A past epoch's secrets.
pub(super) fn past_secrets(thread: ThreadId, epoch: u64) -> Vec<u8> {
    key(b'p', &[thread.as_bytes(), b"s", &epoch.to_be_bytes()])
}

/// A member list that past epochs share.
pub(super) fn past_leaves(thread: ThreadId, hash: &[u8; 32]) -> Vec<u8> {
    key(b'q', &[thread.as_bytes(), hash])
}

pub(super) fn key_package(reference: &[u8]) -> Vec<u8> {
    [&KEY_PACKAGES, reference].concat()
}

/// That a key package runs out; kept in order of time.
pub(super) fn key_package_end(until: u64, reference: &[u8; 32]) -> Vec<u8> {
    key(b'x', &[&until.to_be_bytes(), reference])
}

/// All that ran out before `now`.
pub(super) fn key_package_ends(now: u64) -> (Vec<u8>, Vec<u8>) {
    (key(b'x', &[]), key(b'x', &[&now.to_be_bytes()]))
}

pub(super) fn leaf_key_pair(public_key: &[u8]) -> Vec<u8> {
    key(b'e', &[public_key])
}

fn key(space: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![ROWS, space];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Every key that begins with `prefix`. Prefixes here end in a thread id or a letter; should all their bytes be 255,
/// the range is empty, and a thread id is a hash.
fn range(prefix: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.clone();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    (prefix, end)
}
