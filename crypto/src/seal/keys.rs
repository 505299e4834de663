//! Keys: what the data key gives, and the sealed form of one row.
//! Owns: the keys derived from the data key, the stored form of keys and values, the marks the sums are made of.
//! Never: reads or writes a store. Source: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), HMAC (RFC 2104).
//!
//! A stored value is `nonce (24) | AEAD(length of the key (2) | key | value)` with the stored key as associated data.
//! A stored key is `prefix | pseudonym of the head (16) | seen | pseudonym of the tail (16)`, as its [`KeyShape`] says.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use whimbrel_storage::StorageError;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::altered;
use crate::chance::Chance;

pub(super) const NONCE_BYTES: usize = 24;
pub(super) const TAG_BYTES: usize = 16;
/// A pseudonym: long enough that no two of 2^40 rows share one but by a chance of 2^-48.
const PSEUDONYM_BYTES: usize = 16;

/// What stands for a row in a sum.
pub(super) type Mark = [u8; 32];

pub(super) const KEY_ID_BYTES: usize = 16;

/// Which data key: says nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// Wraps the bytes of an id.
    pub const fn from_bytes(bytes: [u8; KEY_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_ID_BYTES] {
        &self.0
    }
}

/// The data key: whoever has it reads the store. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A fresh key.
    pub fn generate(chance: &mut Chance) -> Self {
        Self(chance.bytes())
    }

    /// Wraps the bytes of a key that was kept somewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret, to keep it wrapped.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// Which key this is.
    pub fn id(&self) -> KeyId {
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(self.derived("id").iter()).for_each(|(to, from)| *to = *from);
        KeyId(id)
    }

    /// A key for one purpose.
    fn derived(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = keyed(&self.0);
        mac.update(b"whimbrel at rest 1\0");
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// How the keys of some rows are built, so that what must not be read in them is hidden and what orders them is not.
#[derive(Clone, Copy, Debug)]
pub struct KeyShape {
    /// What they begin with; never hidden.
    pub prefix: &'static [u8],
    /// Bytes after it that only ever stand whole: an id. Hidden; one pseudonym for one id.
    pub head: usize,
    /// Bytes after those that order the rows of one head. Not hidden. What follows them is hidden again.
    pub seen: usize,
    /// Whether there are more of them with every message. One for all rows whose keys begin with the same byte.
    pub grows: bool,
}

/// All shapes of a store's keys, by whoever's rows they are.
pub type Shapes = &'static [&'static [KeyShape]];

/// A key, taken apart.
pub(super) struct Parts<'k> {
    /// Prefix and head: rows that share these lie together.
    pub(super) head: &'k [u8],
    prefix: &'k [u8],
    pub(super) seen: &'k [u8],
    pub(super) tail: &'k [u8],
    /// Whether the head is as long as its shape says: no other head begins with it.
    pub(super) whole: bool,
}

/// All that is derived from a data key.
pub(super) struct Keys {
    rows: XChaCha20Poly1305,
    names: Hmac<Sha256>,
    marks: Hmac<Sha256>,
    shapes: Shapes,
}

impl Keys {
    pub(super) fn of(key: &SealKey, shapes: Shapes) -> Self {
        let rows = key.derived("rows");
        Self {
            rows: XChaCha20Poly1305::new(Key::from_slice(&rows[..])),
            names: keyed(&key.derived("names")),
            marks: keyed(&key.derived("marks")),
            shapes,
        }
    }

    fn shapes(&self) -> impl Iterator<Item = &'static KeyShape> {
        self.shapes.iter().copied().flatten()
    }

    /// Takes a key apart. A key that is shorter than its prefix and head is all head; so is one of no shape.
    pub(super) fn parts<'k>(&self, key: &'k [u8]) -> Parts<'k> {
        let fitting = self.shapes().filter(|shape| key.starts_with(shape.prefix));
        let shape = fitting.max_by_key(|shape| shape.prefix.len());
        let (prefix, head, seen) = match shape {
            Some(shape) => (shape.prefix.len(), shape.head, shape.seen),
            None => (key.len().min(1), key.len(), 0),
        };
        let (prefix_part, _) = key.split_at(prefix.min(key.len()));
        let (head_part, rest) = key.split_at(prefix.saturating_add(head).min(key.len()));
        let (seen, tail) = rest.split_at(seen.min(rest.len()));
        let whole = shape.is_some() && head_part.len() == prefix.saturating_add(head);
        Parts { head: head_part, prefix: prefix_part, seen, tail, whole }
    }

    /// What the stored keys of all rows with this head begin with.
    pub(super) fn stored_head(&self, parts: &Parts<'_>) -> Vec<u8> {
        let mut stored = Vec::with_capacity(parts.prefix.len() + 2 * PSEUDONYM_BYTES + parts.seen.len() + 1);
        stored.extend_from_slice(parts.prefix);
        if stored.is_empty() {
            // The one key without a first byte lies where the smallest do.
            stored.push(0);
        }
        stored.extend_from_slice(&self.pseudonym(b"head\0", parts.head));
        stored
    }

    pub(super) fn stored(&self, key: &[u8]) -> Vec<u8> {
        let parts = self.parts(key);
        let mut stored = self.stored_head(&parts);
        stored.extend_from_slice(parts.seen);
        if !parts.tail.is_empty() {
            // Over the whole key: one person in two threads has two pseudonyms.
            stored.extend_from_slice(&self.pseudonym(b"tail\0", key));
        }
        stored
    }

    fn pseudonym(&self, part: &[u8], bytes: &[u8]) -> [u8; PSEUDONYM_BYTES] {
        let mut mac = self.names.clone();
        mac.update(part);
        mac.update(bytes);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut pseudonym = [0; PSEUDONYM_BYTES];
        pseudonym.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        pseudonym
    }

    /// Whether a stored key is of rows that grow with the messages.
    pub(super) fn grows(&self, stored: &[u8]) -> bool {
        let first = stored.first();
        self.shapes().any(|shape| shape.grows && shape.prefix.first() == first)
    }

    /// First bytes of the keys that do, ascending.
    pub(super) fn growing_spaces(&self) -> std::collections::BTreeSet<u8> {
        self.shapes().filter(|shape| shape.grows).filter_map(|shape| shape.prefix.first().copied()).collect()
    }

    pub(super) fn seal(&self, stored: &[u8], key: &[u8], value: &[u8], chance: &mut Chance) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = chance.bytes();
        let mut plain = Zeroizing::new(Vec::with_capacity(2 + key.len() + value.len()));
        plain.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        plain.extend_from_slice(key);
        plain.extend_from_slice(value);
        #[expect(clippy::expect_used, reason = "it fails over 256 GiB, and a value has at most 8 MiB")]
        let body = self
            .rows
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: stored })
            .expect("a value within its bound can be sealed");
        let mut sealed = Vec::with_capacity(NONCE_BYTES + body.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }

    /// The key and value of a sealed row.
    pub(super) fn open(&self, stored: &[u8], sealed: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StorageError> {
        let Some((nonce, body)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
            return Err(altered(stored, "too short for a sealed row"));
        };
        let opened = self.rows.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: stored });
        let mut value = opened.map_err(|_| altered(stored, "it does not open with this key"))?;
        let len = value.first_chunk::<2>().map(|len| usize::from(u16::from_le_bytes(*len)));
        let key = len.and_then(|len| value.get(2..2_usize.saturating_add(len))).map(<[u8]>::to_vec);
        let key = key.ok_or_else(|| altered(stored, "no key in it"))?;
        value.drain(..2 + key.len());
        Ok((key, value))
    }

    /// What stands for this row in a sum: nonce and tag say which one it is.
    pub(super) fn mark(&self, stored: &[u8], sealed: &[u8]) -> Result<Mark, StorageError> {
        let (Some(nonce), Some(tag)) = (sealed.first_chunk::<NONCE_BYTES>(), sealed.last_chunk::<TAG_BYTES>()) else {
            return Err(altered(stored, "too short for a sealed row"));
        };
        let mut mac = self.marks.clone();
        mac.update(nonce);
        mac.update(tag);
        mac.update(stored);
        Ok(mac.finalize().into_bytes().into())
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length is a key")
}
