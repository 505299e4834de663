//! Tree: every entry of every account log as a leaf of one tree that only grows, as rows.
//! Owns: adding a leaf in the very command that takes the entry, and reading what proofs need.
//! Never: changes a node, goes through more rows than the tree is deep.
//! Rules: docs/protocol/transparency.md.

use whimbrel_crypto::{transparency, tree};
use whimbrel_protocol::id::{AccountId, LogHash, TreeHash};
use whimbrel_protocol::transparency::{Inclusion, Step};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Overlay, Reads, StorageError};

use super::accounts::known_account;
use super::rows::{self, LeafRow, space};
use crate::store::{LogId, TreeView};

/// The stored nodes.
struct Stored<'r>(&'r dyn Reads);

impl tree::Nodes for Stored<'_> {
    type Error = StorageError;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, StorageError> {
        let key = rows::tree_node(level, index);
        match (self.0.get(&key), level.checked_sub(1)) {
            (Ok(Some(bytes)), _) => {
                TreeHash::try_from(bytes.as_slice()).map_err(|_| rows::damaged(&key, "no tree hash"))
            }
            // It is what the two below it make: one row that is gone must stop no account from changing its keys. Of a leaf
            // there is no second copy.
            (Ok(None) | Err(StorageError::Damaged { .. }), Some(below)) => {
                let left = index.saturating_mul(2);
                Ok(tree::join(&self.node(below, left)?, &self.node(below, left.saturating_add(1))?))
            }
            (Ok(None), None) => Err(rows::damaged(&key, "a leaf of the tree is missing")),
            (Err(error), _) => Err(error),
        }
    }
}

/// The same tree with another first leaf: what a relay with two faces would show to some.
struct OtherFace<'r>(Stored<'r>);

impl tree::Nodes for OtherFace<'_> {
    type Error = StorageError;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, StorageError> {
        match (level, index) {
            (0, 0) => Ok(tree::leaf(b"another")),
            (_, 0) => Ok(tree::join(&self.node(level - 1, 0)?, &self.0.node(level - 1, 1)?)),
            _ => self.0.node(level, index),
        }
    }
}

/// How many leaves there are.
pub(super) fn size(reads: &dyn Reads) -> Result<u64, StorageError> {
    Ok(rows::get(reads, &[space::TREE_SIZE])?.unwrap_or(0))
}

/// Adds the newest entry of an account's log.
pub(super) fn grow(
    rows: &mut Overlay<'_>,
    account: AccountId,
    inbox: LogId,
    (seq, hash): (u64, LogHash),
) -> Result<(), StorageError> {
    let index = size(rows)?;
    if index == 0 && rows.get(&rows::tree_node(0, 0))?.is_some() {
        return Err(rows::damaged(&[space::TREE_SIZE], "the size of a tree that has leaves is missing"));
    }
    // Known to nobody but this relay, and there with the account in stores older than the tree.
    let salt = transparency::salt(inbox.as_bytes());
    let leaf = transparency::leaf(&salt, &account, seq, &hash);
    for (level, at, hash) in tree::grown(&Stored(rows), index, leaf)? {
        rows.put(rows::tree_node(level, at), hash.as_bytes().to_vec());
    }
    rows::put(rows, vec![space::TREE_SIZE], &index.saturating_add(1));
    rows::put(rows, rows::of_account(space::LEAF, account), &LeafRow { index, seq, hash });
    Ok(())
}

/// The tree as it is, an account's newest entry in it, and how trees of earlier sizes are part of it. `asker` is who is to
/// see it: it makes no difference.
///
/// # Errors
/// See [`super::account`].
pub fn tree(
    reads: &dyn Reads,
    account: Option<AccountId>,
    from: &[u64],
    asker: Option<AccountId>,
) -> Result<TreeView, StorageError> {
    // Before the size: an entry that comes meanwhile is behind it.
    let leaf = match account {
        Some(account) => entry(reads, account)?,
        None => None,
    };
    let size = size(reads)?;
    let stored = Stored(reads);
    let odd = asker.is_some_and(|asker| asker.as_bytes().first().is_some_and(|byte| byte & 1 == 1));
    if planted::active(Bug::TwoFaces) && odd {
        return view(&OtherFace(stored), size, from, leaf);
    }
    view(&stored, size, from, leaf)
}

fn entry(reads: &dyn Reads, account: AccountId) -> Result<Option<Inclusion>, StorageError> {
    let Some(known) = known_account(reads, account)? else { return Ok(None) };
    let row: Option<LeafRow> = rows::get(reads, &rows::of_account(space::LEAF, account))?;
    let salt = transparency::salt(known.inbox.as_bytes());
    Ok(row.map(|LeafRow { index, seq, hash }| Inclusion { index, salt, seq, hash, path: Vec::new() }))
}

fn view(
    nodes: &impl tree::Nodes<Error = StorageError>,
    size: u64,
    from: &[u64],
    leaf: Option<Inclusion>,
) -> Result<TreeView, StorageError> {
    let step = |old: &u64| {
        let root = tree::root(nodes, (*old).min(size))?;
        Ok(Step { root, proof: tree::consistency(nodes, *old, size)? })
    };
    let steps = from.iter().map(step).collect::<Result<_, StorageError>>()?;
    let entry = match leaf {
        Some(leaf) => tree::inclusion(nodes, leaf.index, size)?.map(|path| Inclusion { path, ..leaf }),
        None => None,
    };
    Ok(TreeView { size, root: tree::root(nodes, size)?, steps, entry })
}
