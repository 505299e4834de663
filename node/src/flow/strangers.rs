//! Strangers: how many people may still come by invites alone, held against the relay's word that somebody had consent.
//! Owns: the count. In order: an invite that is made, or taken up, lets so many come; each who comes is one less.
//! Never: counts where another device of the account may have made invites, or this store may have forgotten some: there the
//! relay's word holds. Rules: docs/protocol/friendship.md 16.

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{AccountId, DeviceIndex};
use whimbrel_protocol::push::Invitation;
use whimbrel_storage::StorageError;

use crate::contacts;
use crate::friendship;
use crate::rooms::Turn;
use crate::rows::{self, Relationship, Single};

/// Whether an invitation may be followed: its author is somebody this owner agreed to, or an invite may have brought them.
pub(crate) fn may_come<E: Engine>(t: &Turn<'_, E>, invitation: &Invitation) -> Result<bool, StorageError> {
    let (own, inviter) = (t.rooms.identity.id(), invitation.inviter.account);
    // What a sibling agreed to may be on its way here.
    let siblings = t.rooms.identity.log.next_index() != DeviceIndex::new(DeviceIndex::FIRST.get() + 1)
        || invitation.participants.iter().any(|one| one.account == own.account && one.devices != [own.index]);
    Ok(siblings || is_agreed(t, &inviter)? || left(t)?.is_none_or(|left| left > 0))
}

/// Whether the owner said yes to somebody, though the answer to it may be on its way still.
fn is_agreed<E: Engine>(t: &Turn<'_, E>, account: &AccountId) -> Result<bool, StorageError> {
    let said = friendship::get(&t.rows, account)?.is_some_and(|row| match row.standing {
        Relationship::Asked | Relationship::Friends => true,
        Relationship::Asking => row.said.as_millis() > 0,
        Relationship::None | Relationship::Blocked => false,
    });
    Ok(said || contacts::is_contact(&t.rows, account)?)
}

/// How many may come; nothing where that is not known.
fn left<E: Engine>(t: &Turn<'_, E>) -> Result<Option<u64>, StorageError> {
    rows::get(&t.rows, &rows::single_key(Single::Strangers))
}

/// So many more may come: an invite is made, before the relay hears of it.
pub(crate) fn let_come<E: Engine>(t: &mut Turn<'_, E>, more: u64) -> Result<(), StorageError> {
    if let Some(left) = left(t)? {
        rows::put(&mut t.rows, rows::single_key(Single::Strangers), &left.saturating_add(more));
    }
    Ok(())
}

/// Somebody's invite is being taken up: from the claim on they may invite the owner in turn, whatever becomes of it here.
pub(crate) fn taken_up<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    if is_agreed(t, account)? { Ok(()) } else { let_come(t, 1) }
}

/// Somebody who may be a stranger becomes a contact by an invite.
pub(crate) fn comes<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    if let Some(left) = left(t)?
        && !is_agreed(t, account)?
    {
        rows::put(&mut t.rows, rows::single_key(Single::Strangers), &left.saturating_sub(1));
    }
    Ok(())
}

/// This store is an old copy: invites may have been made that it knows nothing of.
pub(crate) fn forget<E: Engine>(t: &mut Turn<'_, E>) {
    t.rows.delete(rows::single_key(Single::Strangers));
}
