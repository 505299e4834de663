//! User: this device's KeyPackages at its relay, and invites.
//! Owns: how many KeyPackages to make and when. Never: keeps an invite's token; the link carries it.
//! Limits: `limits::KEY_PACKAGES_MAX`, `limits::KEY_PACKAGES_REFILL_BELOW`, `limits::LAST_RESORT_AGE_MAX`,
//! `limits::KEY_PACKAGE_STOCK_AGE_MAX`, `limits::KEY_PACKAGE_STOCK_AHEAD_MAX`.
//! Rules: docs/protocol/user.md.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_crypto::{Chance, Context, Engine, EngineError, Own};
use whimbrel_protocol::id::{AccountId, Address, InviteToken, RequestId};
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Monotonic, Now, Wall};
use whimbrel_protocol::user::StockKeyPackages;
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::api::Ticket;
use crate::history::Transfer;
use crate::linking::Approving;
use crate::rows::{self, Single, StockedRow};

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
    /// Whose log was looked up for a relay's word, and until when it is not again.
    pub(crate) hints: BTreeMap<AccountId, Monotonic>,
    /// How often in a row siblings' KeyPackages were claimed for the thread of the account's own devices.
    pub(crate) self_attempts: u32,
    /// How many facts the account's devices hold together, as kept here, without those that pass.
    pub(crate) facts: usize,
    /// How many of those that pass.
    pub(crate) passing: usize,
    /// A history on its way here.
    pub(crate) history: Transfer,
}

/// How many one-time KeyPackages to make when the relay has `left`.
pub(crate) const fn missing(left: u32) -> usize {
    let left = left as usize;
    if left < limits::KEY_PACKAGES_REFILL_BELOW { limits::KEY_PACKAGES_MAX - left } else { 0 }
}

/// What of the stock is to be made anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    Nothing,
    /// The relay never had one, as far as is known.
    First,
    /// The last-resort KeyPackage has had its time.
    LastResort,
    /// It is too old, or a clock that was ahead made it: nobody takes what is not valid yet.
    All,
}

/// What is due of the stock.
pub(crate) fn due(reads: &dyn Reads, now: Now) -> Result<Due, StorageError> {
    let made: Option<Wall> = rows::get(reads, &rows::single_key(Single::LastResort))?;
    let untaken = reads.get(&rows::single_key(Single::Unstocked))?.is_some();
    let Some(made) = made.filter(|_| !untaken) else { return Ok(Due::First) };
    let stocked = rows::get(reads, &rows::single_key(Single::Stocked))?;
    let StockedRow { oldest, newest } = stocked.unwrap_or(StockedRow { oldest: made, newest: made });
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (wall, made) = (now.wall.as_millis(), made.as_millis());
    let old = wall.saturating_sub(oldest.as_millis()) >= millis(limits::KEY_PACKAGE_STOCK_AGE_MAX);
    let ahead = newest.as_millis().saturating_sub(wall) >= millis(limits::KEY_PACKAGE_STOCK_AHEAD_MAX);
    Ok(if old || ahead {
        Due::All
    } else if wall.abs_diff(made) >= millis(limits::LAST_RESORT_AGE_MAX) {
        Due::LastResort
    } else {
        Due::Nothing
    })
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
    (one_time, last_resort, replaces): (usize, bool, bool),
) -> Result<StockKeyPackages, EngineError> {
    if rows.get(&rows::single_key(Single::LastResort))?.is_none() {
        rows.put(rows::single_key(Single::Unstocked), Vec::new());
    }
    let mut cx = Context { rows: &mut *rows, chance, now };
    let mut packages = Vec::with_capacity(one_time);
    for _ in 0..one_time {
        packages.push(engine.key_package(&mut cx, own, false)?.into());
    }
    let last = last_resort.then(|| engine.key_package(&mut cx, own, true)).transpose()?;
    if last.is_some() {
        rows::put(rows, rows::single_key(Single::LastResort), &now.wall);
    }
    if one_time > 0 {
        let key = rows::single_key(Single::Stocked);
        let before = rows::get::<StockedRow>(rows, &key)?.filter(|_| !replaces);
        let present = StockedRow { oldest: now.wall, newest: now.wall };
        let stocked = before.map_or(present, |before| StockedRow {
            oldest: before.oldest.min(now.wall),
            newest: before.newest.max(now.wall),
        });
        rows::put(rows, key, &stocked);
    }
    Ok(StockKeyPackages { request, one_time: packages, last_resort: last.map(Into::into), replaces })
}

/// A fresh invite of ours.
pub(crate) fn invite(chance: &mut Chance, account: AccountId, address: Address, relay: RelayLink) -> Invite {
    Invite {
        address,
        endpoint: relay.endpoint,
        relay: relay.relay,
        account,
        token: InviteToken::from_bytes(chance.bytes()),
        pass: None,
    }
}
