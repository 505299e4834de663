//! Signal: where what is kept by nobody may go.
//! Owns: the question. Never: changes a row. Rules: docs/protocol/signal.md.

use std::collections::BTreeSet;

use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{DeviceId, Epoch, ThreadId};
use whimbrel_storage::{Reads, StorageError};

use super::hub::members;
use super::rows::{self, Member, ThreadMeta};
use super::{friends, own, threads};
use crate::store::Hearers;
use crate::store::command::Origin;

/// Where a signal of a device may go: nowhere, unless the device is in the thread in its present epoch, lives where it came
/// from, and may say something there; and, of an own user, unless whoever hears it may see that they are there.
///
/// # Errors
/// See [`super::account`].
pub fn hearers(
    reads: &dyn Reads,
    thread: ThreadId,
    (by, epoch): (DeviceId, Epoch),
    origin: &Origin,
) -> Result<Option<Hearers>, StorageError> {
    let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? else { return Ok(None) };
    let Some(member) = rows::get::<Member>(reads, &rows::member(meta.log, by))? else { return Ok(None) };
    let there = epoch == meta.epoch && member.epochs.contain(epoch) && threads::speaks(origin, &member.home);
    if !there {
        return Ok(None);
    }
    for reader in meta.gate.iter().filter(|reader| **reader != by.account) {
        if friends::row(reads, *reader, by.account)?.is_none_or(|row| row.standing != Standing::Friends) {
            return Ok(None);
        }
    }
    if *origin != Origin::Local {
        return Ok(Some(Hearers { log: meta.log, peers: Vec::new() }));
    }
    if own::hidden(reads, by.account)? {
        return Ok(None);
    }
    if meta.people == 2 {
        // Whoever went out of it hears nothing, and has no say.
        let there = members(reads, meta.log)?.into_iter().filter(|(_, member)| member.epochs.contain(epoch));
        let others: BTreeSet<_> = there.map(|(device, _)| device.account).collect();
        for other in others.into_iter().filter(|other| *other != by.account) {
            if friends::row(reads, by.account, other)?.is_none_or(|row| row.standing != Standing::Friends || !row.sees)
            {
                return Ok(None);
            }
        }
    }
    Ok(Some(Hearers { log: meta.log, peers: meta.others }))
}
