//! Past: what is kept of epochs that ended, so that late messages still open.
//! Owns: setting an outgoing epoch aside, its bounds, forgetting. Rules: docs/protocol/message.md, "MLS".
//! Limits: `limits::PAST_EPOCHS_MAX`. Forward secrecy pays for what is kept: forget as soon as nothing can come any more.
//!
//! The live group keeps no past epoch, because the library would write all of them with every message. One epoch is
//! two rows (secrets; end and member list's hash) and a member list shared with its neighbours.

use std::collections::BTreeSet;

use openmls::group::{Member, MlsGroup};
use openmls::prelude::LeafNodeIndex;
use sha2::{Digest, Sha256};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;

use super::rows::{self, Piece};
use super::store::{Failure, RowsFailed, Store};
use super::{codec, parts};

/// Keeps the secrets of the epoch `group` stands at, before it moves on.
pub(super) fn set_aside(store: &Store<'_>, thread: ThreadId, group: &MlsGroup, now: Wall) -> Result<(), RowsFailed> {
    let Some(live) = parts::read(store, thread, Piece::MessageSecrets)? else {
        return Ok(());
    };
    let secrets = store.noted(codec::outgoing(&live).map_err(Failure::Codec))?.to_vec();
    // Opening needs no one's encryption key, and without them lists of successive epochs are mostly the same.
    let leaves: Vec<Member> = group
        .members()
        .map(|member| Member::new(member.index, Vec::new(), member.signature_key, member.credential))
        .collect();
    let leaves = store.noted(codec::encode(&leaves).map_err(Failure::Codec))?;
    let hash: [u8; 32] = Sha256::digest(&leaves).into();
    let epoch = group.epoch().as_u64();
    let leaf = group.own_leaf_index().u32();
    let index = [&now.as_millis().to_be_bytes()[..], &leaf.to_be_bytes(), &hash].concat();
    store.put(rows::past_index(thread, epoch), index);
    store.put(rows::past_secrets(thread, epoch), secrets);
    let list = rows::past_leaves(thread, &hash);
    if store.get(&list)?.is_none() {
        store.put(list, leaves);
    }
    forget(store, thread, Wall::default()).map(drop)
}

/// The leaf this device had in a past epoch, out of its index: after a removal and a return it is another.
pub(super) fn own_leaf(index: &[u8]) -> Option<LeafNodeIndex> {
    let (_, rest) = index.split_first_chunk::<8>()?;
    rest.first_chunk::<4>().map(|leaf| LeafNodeIndex::new(u32::from_be_bytes(*leaf)))
}

/// Forgets what was kept of `epoch` and later: the thread is joined anew at `epoch`, on a branch that won.
pub(super) fn forget_from(store: &Store<'_>, thread: ThreadId, epoch: u64) -> Result<(), RowsFailed> {
    for (key, _) in store.scan(&rows::past_indices(thread))? {
        if let Some(past) = key.last_chunk::<8>().map(|epoch| u64::from_be_bytes(*epoch)).filter(|past| *past >= epoch)
        {
            store.delete(rows::past_index(thread, past));
            store.delete(rows::past_secrets(thread, past));
        }
    }
    Ok(())
}

/// Forgets epochs that ended before `before`, and the oldest beyond `limits::PAST_EPOCHS_MAX`. Returns how many.
pub(super) fn forget(store: &Store<'_>, thread: ThreadId, before: Wall) -> Result<usize, RowsFailed> {
    let indices = store.scan(&rows::past_indices(thread))?;
    let surplus = indices.len().saturating_sub(limits::PAST_EPOCHS_MAX);
    let mut forgotten = BTreeSet::new();
    let mut needed = BTreeSet::new();
    let mut count = 0;
    for (place, (key, value)) in indices.iter().enumerate() {
        let (Some(ended), Some(hash), Some(epoch)) =
            (value.first_chunk::<8>(), value.last_chunk::<32>(), key.last_chunk::<8>())
        else {
            continue;
        };
        if place < surplus || u64::from_be_bytes(*ended) < before.as_millis() {
            let epoch = u64::from_be_bytes(*epoch);
            store.delete(rows::past_index(thread, epoch));
            store.delete(rows::past_secrets(thread, epoch));
            forgotten.insert(*hash);
            count += 1;
        } else {
            needed.insert(*hash);
        }
    }
    if count > 0 {
        tracing::debug!(?thread, epochs = count, "past epochs forgotten");
    }
    for hash in forgotten.difference(&needed) {
        store.delete(rows::past_leaves(thread, hash));
    }
    Ok(count)
}
