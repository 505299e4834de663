//! Schema: which version of the rows this program reads and writes, and what operators call their spaces.
//! Owns: the version, the steps from older ones. A change of a row's meaning raises the version and adds its step here.

use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Batch, Order, Overlay, Page, Reads, Row, Schema, Step, StorageError};

use super::rows::{self, FriendRow, Home, Member, ThreadMeta, space};
use super::{Fault, friends};

/// The rows of a relay.
pub const SCHEMA: Schema = Schema { name: "relay", version: 2, steps: &[Step { from: 1, page: friends_and_gates }] };

/// Rows looked at in one page of a step.
const PAGE: usize = 256;

/// From 1 to 2: consent becomes a row of the owner's list, and a thread of two knows who lives here.
fn friends_and_gates(reads: &dyn Reads, from: &[u8]) -> Result<Page, StorageError> {
    let start = from.max([space::CONSENT].as_slice());
    let mut rows = Overlay::new(reads);
    let found = reads.scan(start, &rows::end(&[space::THREAD]), Order::Ascending, PAGE)?;
    let next = found.last().filter(|_| found.len() == PAGE).map(|(key, _)| rows::after(key));
    for row in found {
        match row.0.first().copied() {
            Some(space::CONSENT) => befriend(&mut rows, row)?,
            Some(space::THREAD) => set_gate(&mut rows, row)?,
            _ => {}
        }
    }
    let batch: Batch = rows.into_batch();
    Ok(Page { batch, next })
}

fn befriend(rows: &mut Overlay<'_>, (key, value): Row) -> Result<(), StorageError> {
    let ids: [u8; 64] = rows::rest(&key, 1)?;
    let account = |half: &[u8]| AccountId::try_from(half).map_err(|_| rows::damaged(&key, "no account"));
    let (owner, other) = ids.split_at(32);
    let (owner, other, home) = (account(owner)?, account(other)?, rows::read::<Domain>(&key, &value)?);
    let made = FriendRow::new(home, Standing::Friends, Wall::default());
    match friends::change(rows, owner, other, Some(made)) {
        Ok(()) | Err(Fault::Conflict(_)) => rows.delete(key),
        Err(Fault::Storage(error)) => return Err(error),
    }
    Ok(())
}

fn set_gate(rows: &mut Overlay<'_>, (key, value): Row) -> Result<(), StorageError> {
    let mut thread: ThreadMeta = rows::read(&key, &value)?;
    if thread.people != 2 || !thread.gate.is_empty() {
        return Ok(());
    }
    let prefix = rows::members(thread.log);
    for (member_key, value) in rows::scan(rows, &prefix, PAGE)? {
        if let Home::Here(_) = rows::read::<Member>(&member_key, &value)?.home {
            let named: [u8; 36] = rows::rest(&member_key, prefix.len())?;
            let account = named.get(..32).and_then(|account| AccountId::try_from(account).ok());
            thread.gate.extend(account.filter(|account| !thread.gate.contains(account)));
        }
    }
    rows::put(rows, key, &thread);
    Ok(())
}

/// What the rows are whose keys begin with this byte.
pub const fn space_name(first: u8) -> &'static str {
    match first {
        0 => "version",
        space::NAME => "names",
        space::ACCOUNT => "accounts",
        space::ACCOUNT_LOG => "account logs",
        space::OWNER => "counts by account",
        space::STOCK => "KeyPackage counts",
        space::PACKAGE => "KeyPackages",
        space::LAST_RESORT => "last-resort KeyPackages",
        space::CONSENT => "consents",
        space::INVITE => "invites",
        space::THREAD => "threads",
        space::LOG => "logs",
        space::ENTRY => "entries",
        space::TAIL => "envelope ids",
        space::MEMBER => "members",
        space::CURSOR => "cursors",
        space::ROW => "thread rows",
        space::TAG => "participants tags",
        space::BLOB => "large bodies",
        space::OUTBOUND => "outbound rows",
        space::WAITING => "outbound counts",
        space::PIN => "pins of peers",
        space::FRIEND => "friends",
        space::PROFILE => "profile cards",
        space::REGISTRATION => "invitations to register",
        space::WAKE => "wake-up addresses",
        space::PURGE => "accounts on their way out",
        _ => "unknown",
    }
}
