//! The row format: what [`Kv`](crate::Kv) writes for one row, the same on every engine.
//! Owns: key spaces, the header of a row, checksums, the cutting of large values.
//! Never: which rows there are (`kv`), or what batches did (`witness`).
//!
//! A stored value is `tag (1) | checksum (4) | batch number (8) | body`, integers little-endian. The checksum covers the
//! stored key, the tag, the number and the body, so that a row which turns up under another key is damage as well.
//! Tag 1: the body is the value. Tag 2: the body is the value's length (4); the value lies in pieces. Tag 3: one piece.
//! The pieces of a row carry the number of the batch that wrote its head, so that no older piece passes for a newer one.

use crate::StorageError;

/// The longest stretch of a value in one stored row.
///
/// sled keeps up to about twenty neighbouring rows in one page and moves a page beyond 128 KiB into a file of its own,
/// which it never syncs: twenty rows of this length, with the longest keys, stay below.
pub const PIECE_BYTES_MAX: usize = 4 * 1024;

/// First byte of a stored key: which kind of row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Space {
    /// The version of the format; one row.
    Format = 0,
    /// The caller's rows.
    User = 1,
    /// Pieces of the caller's large values.
    Piece = 2,
    /// The ring of batch witnesses.
    Witness = 3,
    /// Keys of the newest batches.
    Listing = 4,
}

impl Space {
    /// The stored form of `key` in this space.
    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(key.len() + 1);
        stored.push(self as u8);
        stored.extend_from_slice(key);
        stored
    }

    /// The first key behind this space.
    pub(crate) fn end(self) -> Vec<u8> {
        vec![self as u8 + 1]
    }
}

/// The stored key of one piece. The index is the last two bytes, so two rows never share a piece whatever their keys.
pub(crate) fn piece_key(user_key: &[u8], index: u16) -> Vec<u8> {
    let mut stored = Space::Piece.key(user_key);
    stored.extend_from_slice(&index.to_be_bytes());
    stored
}

/// How many pieces a value of `len` bytes is cut into.
pub(crate) fn piece_count(len: usize) -> u16 {
    // 8 MiB in pieces of 4 KiB are 2,048; a larger `len` was refused, or the row is damaged and no piece will fit.
    u16::try_from(len.div_ceil(PIECE_BYTES_MAX)).unwrap_or(u16::MAX)
}

const HEADER_BYTES: usize = 13;
const WHOLE: u8 = 1;
const HEAD: u8 = 2;
const PIECE: u8 = 3;

/// A checked row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The batch that wrote it.
    pub(crate) n: u64,
    /// The checksum in its header.
    pub(crate) checksum: u32,
    /// What it holds.
    pub(crate) body: Body,
}

/// What a row holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// The value itself.
    Whole(Vec<u8>),
    /// A value of `len` bytes, in pieces.
    Head {
        /// The whole value's length.
        len: usize,
    },
    /// One piece of a value.
    Piece(Vec<u8>),
}

impl Body {
    /// The stored bytes of this body under `stored_key`, and their checksum.
    pub(crate) fn encode(&self, stored_key: &[u8], n: u64) -> (Vec<u8>, u32) {
        let len_bytes;
        let (tag, body): (u8, &[u8]) = match self {
            Self::Whole(value) => (WHOLE, value),
            Self::Piece(value) => (PIECE, value),
            Self::Head { len } => {
                len_bytes = u32::try_from(*len).unwrap_or(u32::MAX).to_le_bytes();
                (HEAD, &len_bytes)
            }
        };
        let checksum = checksum(stored_key, tag, n, body);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.push(tag);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&n.to_le_bytes());
        bytes.extend_from_slice(body);
        (bytes, checksum)
    }
}

/// Reads a stored row back.
pub(crate) fn decode(stored_key: &[u8], mut bytes: Vec<u8>) -> Result<Stored, StorageError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(stored_key, "too short for a row"));
    };
    let [tag, c0, c1, c2, c3, number @ ..] = *header;
    let (n, found) = (u64::from_le_bytes(number), u32::from_le_bytes([c0, c1, c2, c3]));
    if checksum(stored_key, tag, n, body) != found {
        return Err(damaged(stored_key, "checksum does not match"));
    }
    let body = match tag {
        HEAD => {
            let len = body.try_into().map(u32::from_le_bytes).ok().and_then(|len| usize::try_from(len).ok());
            Body::Head { len: len.ok_or_else(|| damaged(stored_key, "no length in the head"))? }
        }
        WHOLE | PIECE => {
            bytes.drain(..HEADER_BYTES);
            if tag == WHOLE { Body::Whole(bytes) } else { Body::Piece(bytes) }
        }
        _ => {
            return Err(damaged(stored_key, "unknown kind of row; written by a newer version?"));
        }
    };
    Ok(Stored { n, checksum: found, body })
}

/// A `Damaged` error for a stored key, as engines see it, naming the caller's space, or zero for rows of our own.
pub fn damaged(stored_key: &[u8], what: &str) -> StorageError {
    let caller = [Space::User as u8, Space::Piece as u8];
    match stored_key {
        [space, rest @ ..] if caller.contains(space) => {
            StorageError::Damaged { space: rest.first().copied().unwrap_or(0), what: what.to_owned() }
        }
        _ => StorageError::Damaged { space: 0, what: format!("{what} (row of the store itself)") },
    }
}

fn checksum(stored_key: &[u8], tag: u8, n: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stored_key);
    hasher.update(&[tag]);
    hasher.update(&n.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn row_reads_back_under_its_own_key_only() {
        for body in
            [Body::Whole(vec![]), Body::Whole(b"hello".to_vec()), Body::Head { len: 70_000 }, Body::Piece(vec![7])]
        {
            let (bytes, checksum) = body.encode(b"\x01key", 9);
            assert!(matches!(decode(b"\x01kez", bytes.clone()), Err(StorageError::Damaged { space: b'k', .. })));
            assert_eq!(decode(b"\x01key", bytes).unwrap(), Stored { n: 9, checksum, body });
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (bytes, _) = Body::Whole(b"hello".to_vec()).encode(b"\x01key", 9);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(decode(b"\x01key", bad).is_err(), "byte {at} bit {bit}");
            }
            assert!(decode(b"\x01key", bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn pieces_of_two_rows_never_share_a_key() {
        assert_ne!(piece_key(b"a", 0), piece_key(b"a\0\0", 0));
        assert_ne!(piece_key(b"a\0\0", 1), piece_key(b"a", 1));
        assert_eq!(piece_count(PIECE_BYTES_MAX + 1), 2);
        assert_eq!(piece_count(crate::VALUE_BYTES_MAX), 2_048);
    }
}
