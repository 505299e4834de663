//! Format: the stand-in's bytes, as long as the real engine's.
//! Owns: a container (kind, encoded value, filling, hash tag), and the sizes of every kind.
//!
//! Sizes are fitted to the hybrid suite as the real engine emits it; a test holds them against it. With `p` levels of
//! the committer's path that have somebody beside them, and `c` ciphertexts (the sum of the resolutions of the path's
//! siblings, RFC 9420 §7.5): commit = 1,598 + 1,220 p + 1,171 c + 2,704 for each addition + 7 for each removal;
//! welcome = 242 + 1,241 for each newcomer; tree = 1,396 for each leaf + 1,253 for each filled parent - 14.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use whimbrel_protocol::canonical;
use whimbrel_protocol::policy::Policy;

use super::roster::Path;

/// What a container holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    KeyPackage = 0xb0,
    Welcome = 0xb1,
    Tree = 0xb2,
    Commit = 0xb3,
    Message = 0xb4,
    Info = 0xb5,
}

const HEAD: usize = 5;
const TAG: usize = 32;

/// A key package of the hybrid suite with our dates.
pub(super) const KEY_PACKAGE: usize = 2_701;

/// A GroupInfo without the tree.
pub(super) const INFO: usize = 1_443;

pub(super) const fn welcome(newcomers: usize) -> usize {
    242 + 1_241 * newcomers
}

pub(super) const fn tree(leaves: usize, filled: usize) -> usize {
    1_396 * leaves + 1_253 * filled - 14
}

/// What a policy adds to a commit that sets it; a group context grows by three bytes less.
pub(super) fn policy(policy: Option<&Policy>) -> usize {
    policy.map_or(0, |policy| 19 + canonical::encode(policy).len())
}

pub(super) const fn commit(path: Path, adds: usize, removes: usize) -> usize {
    1_598 + 1_220 * path.levels + 1_171 * path.ciphertexts + 2_704 * adds + 7 * removes
}

/// Wraps a value in `len` bytes, or as few as it needs if that is more.
pub(super) fn wrap(kind: Kind, key: &[u8; 32], value: &impl Encode<()>, len: usize) -> Vec<u8> {
    let mut bytes = vec![kind as u8, 0, 0, 0, 0];
    let encoded = minicbor::encode(value, &mut bytes);
    assert!(encoded.is_ok(), "encoding to memory failed");
    let value_len = (bytes.len() - HEAD) as u32;
    bytes.splice(1..HEAD, value_len.to_be_bytes());
    bytes.resize(bytes.len().max(len.saturating_sub(TAG)), 0);
    let tag = tag(key, &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

/// Why bytes are no container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Of another kind, or not of the form.
    Form,
    /// The tag is not this key's over these bytes.
    Tag,
}

/// The value in a container, without looking at its tag: to find out which key the tag wants.
pub(super) fn peek<'b, T: Decode<'b, ()>>(kind: Kind, bytes: &'b [u8]) -> Result<T, Refused> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Refused::Form)?;
    let [found, len @ ..] = *head;
    if found != kind as u8 {
        return Err(Refused::Form);
    }
    let len = u32::from_be_bytes(len) as usize;
    let value = rest.get(..len).filter(|_| len + TAG <= rest.len()).ok_or(Refused::Form)?;
    minicbor::decode(value).map_err(|_| Refused::Form)
}

/// Checks the tag of a container.
pub(super) fn check(key: &[u8; 32], bytes: &[u8]) -> Result<(), Refused> {
    let (signed, found) = bytes.split_last_chunk::<TAG>().ok_or(Refused::Form)?;
    if tag(key, signed) == *found { Ok(()) } else { Err(Refused::Tag) }
}

/// A container with a second tag around it.
pub(super) fn tagged(key: &[u8; 32], mut bytes: Vec<u8>) -> Vec<u8> {
    let tag = tag(key, &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

/// The container within a second tag.
pub(super) fn signed(bytes: &[u8]) -> Result<&[u8], Refused> {
    bytes.split_last_chunk::<TAG>().map(|(signed, _)| signed).ok_or(Refused::Form)
}

fn tag(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(bytes).finalize().into()
}
