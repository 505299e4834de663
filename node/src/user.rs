//! User: this device's KeyPackages at its relay, and invites.
//! Owns: how many KeyPackages to make and when. Never: keeps an invite's token; the link carries it.
//! Limits: `limits::KEY_PACKAGES_MAX`, `limits::KEY_PACKAGES_REFILL_BELOW`, `limits::LAST_RESORT_AGE_MAX`.
//! Rules: docs/protocol/user.md.

use std::collections::BTreeMap;

use whimbrel_crypto::{Chance, Context, Engine, EngineError, Own};
use whimbrel_protocol::id::{AccountId, Address, InviteToken, RequestId};
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Now, Wall};
use whimbrel_protocol::user::StockKeyPackages;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::api::Ticket;
use crate::linking::Approving;
use crate::rows::{self, Single};

/// The room.
#[derive(Debug, Default)]
pub(crate) struct User {
    /// One-time KeyPackages the relay has, by its last word.
    pub(crate) left: Option<u32>,
    /// How many the newest stocking carried.
    pub(crate) sent: usize,
    /// Who waits for a change of the account log.
    pub(crate) extending: Option<Ticket>,
    /// A device that is being linked.
    pub(crate) linking: Option<Approving>,
    /// People whose longer account log is looked for, and how often in a row it was not to be had.
    pub(crate) heralds: BTreeMap<AccountId, u32>,
}

/// How many one-time KeyPackages to make when the relay has `left`.
pub(crate) const fn missing(left: u32) -> usize {
    let left = left as usize;
    if left < limits::KEY_PACKAGES_REFILL_BELOW { limits::KEY_PACKAGES_MAX - left } else { 0 }
}

/// Whether the last-resort KeyPackage is missing or too old.
pub(crate) fn last_resort_due(reads: &dyn Reads, now: Now) -> Result<bool, StorageError> {
    let made: Option<Wall> = rows::get(reads, &rows::single_key(Single::LastResort))?;
    let age_max = limits::LAST_RESORT_AGE_MAX.as_millis() as u64;
    // A clock that was set back makes the age look negative: then it is due as well.
    Ok(made.is_none_or(|made| now.wall.as_millis().abs_diff(made.as_millis()) >= age_max))
}

/// Whether this device never stocked any.
pub(crate) fn never_stocked(reads: &dyn Reads) -> Result<bool, StorageError> {
    Ok(reads.get(&rows::single_key(Single::LastResort))?.is_none())
}

/// Makes KeyPackages, and another last resort if it is time; their secrets are in the rows. The one before is of use to
/// whoever was handed it.
pub(crate) fn stock<E: Engine>(
    engine: &mut E,
    rows: &mut Overlay<'_>,
    chance: &mut Chance,
    now: Now,
    own: &Own<'_>,
    request: RequestId,
    (one_time, last_resort): (usize, bool),
) -> Result<StockKeyPackages, EngineError> {
    let mut cx = Context { rows: &mut *rows, chance, now };
    let mut packages = Vec::with_capacity(one_time);
    for _ in 0..one_time {
        packages.push(engine.key_package(&mut cx, own, false)?.into());
    }
    let last = last_resort.then(|| engine.key_package(&mut cx, own, true)).transpose()?;
    if last.is_some() {
        rows::put(rows, rows::single_key(Single::LastResort), &now.wall);
    }
    Ok(StockKeyPackages { request, one_time: packages, last_resort: last.map(Into::into) })
}

/// A fresh invite of ours.
pub(crate) fn invite(chance: &mut Chance, account: AccountId, address: Address, relay: RelayLink) -> Invite {
    Invite {
        address,
        endpoint: relay.endpoint,
        relay: relay.relay,
        account,
        token: InviteToken::from_bytes(chance.bytes()),
    }
}
