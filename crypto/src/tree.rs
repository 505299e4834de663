//! Tree: the arithmetic of a Merkle tree that only ever grows (RFC 9162 §2.1, of RFC 6962's shape), over SHA-256.
//! Owns: the hashes, which stored nodes a root or a proof needs, and what a proof proves.
//! Never: keeps a node, knows what a leaf says, believes a proof it has not calculated.
//! Limits: `limits::TREE_PROOF_MAX`. Rules: docs/protocol/transparency.md.
//!
//! A node of level `l` and index `i` is the root over the leaves from `i * 2^l` to before `(i + 1) * 2^l`. Only nodes whose
//! leaves are all there are stored, so none ever changes; everything else is made of them.

use sha2::{Digest, Sha256};
use whimbrel_protocol::id::TreeHash;
use whimbrel_protocol::limits;

/// Where the nodes of a tree are.
pub trait Nodes {
    /// What can go wrong there.
    type Error;

    /// A stored node. It is asked for only where its leaves are all there.
    ///
    /// # Errors
    /// It cannot be read.
    fn node(&self, level: u8, index: u64) -> Result<TreeHash, Self::Error>;
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The sizes, or the leaf's place, are none that there could be.
    #[error("a tree proof for a place that is not in the tree")]
    Place,
    /// Nodes are missing, or more than there is a place for.
    #[error("a tree proof of the wrong length")]
    Length,
    /// It leads to another root than the one that was signed.
    #[error("a tree proof that leads to another root")]
    Root,
}

/// The root of a tree without leaves.
pub fn empty() -> TreeHash {
    TreeHash::from_bytes(Sha256::digest([]).into())
}

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> TreeHash {
    TreeHash::from_bytes(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
}

/// The hash of a node over two.
pub fn join(left: &TreeHash, right: &TreeHash) -> TreeHash {
    let hash = Sha256::new().chain_update([1]).chain_update(left.as_bytes()).chain_update(right.as_bytes());
    TreeHash::from_bytes(hash.finalize().into())
}

/// The nodes that come to be when a leaf is added to a tree of `size` leaves, each with its level and index: the leaf, and
/// every node whose last leaf it is.
///
/// # Errors
/// A node beside the way up cannot be read.
pub fn grown<N: Nodes>(nodes: &N, size: u64, leaf: TreeHash) -> Result<Vec<(u8, u64, TreeHash)>, N::Error> {
    let (mut level, mut index, mut hash) = (0, size, leaf);
    let mut new = vec![(level, index, hash)];
    while index & 1 == 1 {
        hash = join(&nodes.node(level, index - 1)?, &hash);
        (level, index) = (level + 1, index >> 1);
        new.push((level, index, hash));
    }
    Ok(new)
}

/// The root of the first `size` leaves.
///
/// # Errors
/// A node cannot be read.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<TreeHash, N::Error> {
    if size == 0 { Ok(empty()) } else { over(nodes, 0, size) }
}

/// The root over the leaves from `from`, which is a multiple of the split of every tree of `len` leaves.
fn over<N: Nodes>(nodes: &N, from: u64, len: u64) -> Result<TreeHash, N::Error> {
    if len.is_power_of_two() {
        let level = len.trailing_zeros();
        return nodes.node(u8::try_from(level).unwrap_or(u8::MAX), from >> level);
    }
    let left = split(len);
    Ok(join(&over(nodes, from, left)?, &over(nodes, from + left, len - left)?))
}

/// The greatest power of two below `len`, which is at least two.
const fn split(len: u64) -> u64 {
    1 << (63 - (len - 1).leading_zeros())
}

/// What leads from the leaf at `index` to the root of the first `size` leaves: `PATH` of RFC 9162 §2.1.3.1. Nothing for a leaf
/// that is not among them.
///
/// # Errors
/// A node cannot be read.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Option<Vec<TreeHash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut from, mut len, mut path) = (0, size, Vec::new());
    while len > 1 {
        let left = split(len);
        if index - from < left {
            path.push(over(nodes, from + left, len - left)?);
            len = left;
        } else {
            path.push(over(nodes, from, left)?);
            (from, len) = (from + left, len - left);
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// What leads from the root of the first `old` leaves to that of the first `size`: `PROOF` of RFC 9162 §2.1.4.1. Nothing where
/// there is nothing to lead from or to.
///
/// # Errors
/// A node cannot be read.
pub fn consistency<N: Nodes>(nodes: &N, old: u64, size: u64) -> Result<Vec<TreeHash>, N::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= size {
        return Ok(proof);
    }
    let (mut from, mut len, mut rest) = (0, size, old);
    while rest != len {
        let left = split(len);
        if rest <= left {
            proof.push(over(nodes, from + left, len - left)?);
            len = left;
        } else {
            proof.push(over(nodes, from, left)?);
            (from, len, rest) = (from + left, len - left, rest - left);
        }
    }
    // The whole old tree is the left edge: its root is known to whoever asks.
    if from != 0 {
        proof.push(over(nodes, from, len)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that a leaf at `index` of `size` and a path lead to.
///
/// # Errors
/// The path is no path for that place.
pub fn included(leaf: TreeHash, index: u64, size: u64, path: &[TreeHash]) -> Result<TreeHash, ProofError> {
    if index >= size {
        return Err(ProofError::Place);
    }
    if path.len() > limits::TREE_PROOF_MAX {
        return Err(ProofError::Length);
    }
    // RFC 9162 §2.1.3.2.
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for node in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            root = join(node, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = join(&root, node);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 { Ok(root) } else { Err(ProofError::Length) }
}

/// The two roots that a proof speaks of: that of the first `old` leaves, given what its owner holds it to be, and that of the
/// first `size`. Whoever was told another root for `old` by somebody who signed the second has been shown two trees.
///
/// `held` is used only where the old tree is itself a node of the new one, which a proof then leaves out.
///
/// # Errors
/// The nodes are no proof for these sizes.
pub fn consistent(held: TreeHash, old: u64, size: u64, proof: &[TreeHash]) -> Result<(TreeHash, TreeHash), ProofError> {
    if old == 0 || old >= size {
        return Err(ProofError::Place);
    }
    if proof.len() > limits::TREE_PROOF_MAX {
        return Err(ProofError::Length);
    }
    // RFC 9162 §2.1.4.2.
    let mut nodes = proof.iter();
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let first = if old.is_power_of_two() { held } else { *nodes.next().ok_or(ProofError::Length)? };
    let (mut before, mut after) = (first, first);
    for node in nodes {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            before = join(node, &before);
            after = join(node, &after);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = join(&after, node);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 { Ok((before, after)) } else { Err(ProofError::Length) }
}

#[cfg(test)]
mod tests;
