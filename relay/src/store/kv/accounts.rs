//! Accounts: names, KeyPackages, invites and peers' pins, as rows.
//! Owns: the conditions of the commands about them.
//! Limits: `limits::KEY_PACKAGES_MAX`, `limits::INVITES_MAX`, `limits::PEERS_BY_LINK_MAX`,
//! `limits::PEERS_PER_ACCOUNT_MAX`. Rules: docs/protocol/user.md, federation.md.

use whimbrel_protocol::id::{AccountId, DeviceId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::ClaimedPackage;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Overlay, Reads, StorageError};

use super::friends::consents;
use super::rows::{self, CursorRow, Home, InviteRow, LogRow, Member, OwnerRow, StockRow, space};
use super::{Decided, Fault, friends, own, tree};
use crate::store::command::{ClaimKeyPackages, GiveConsent, NewInvite, PinPeer, Register, StockKeyPackages};
use crate::store::{Account, Conflict, Epochs, Outcome, Pin, PinnedBy};
use whimbrel_protocol::id::Sequence;
use whimbrel_protocol::push::LogRef;

pub(super) fn register(rows: &mut Overlay<'_>, register: &Register) -> Decided {
    let name_key = rows::name(&register.name);
    let holder: Option<AccountId> = rows::get(rows, &name_key)?;
    if holder.is_some_and(|holder| holder != register.account) {
        return Err(Conflict::NameTaken.into());
    }
    let account_key = rows::of_account(space::ACCOUNT, register.account);
    if let Some(known) = rows::get::<Account>(rows, &account_key)? {
        if planted::active(Bug::TokenCountedTwice) {
            own::enter(rows, register.entrance, register.at)?;
        }
        let same = known.name == register.name && (known.log_seq, known.log_hash) == register.head;
        return if same { Ok(Outcome::Done) } else { Err(Conflict::AccountExists.into()) };
    }
    if rows.get(&rows::of_account(space::PURGE, register.account))?.is_some() {
        return Err(Conflict::AccountExists.into());
    }
    own::enter(rows, register.entrance, register.at)?;
    let account = Account {
        name: register.name.clone(),
        log_seq: register.head.0,
        log_hash: register.head.1,
        devices: register.devices.clone(),
        inbox: register.inbox,
    };
    rows::put(rows, name_key, &register.account);
    rows::put(rows, account_key, &account);
    rows.put(rows::of_account(space::ACCOUNT_LOG, register.account), register.log.clone());
    rows::put(rows, rows::log(register.inbox), &LogRow::new(LogRef::Inbox, Wall::default()));
    for device in &register.devices {
        let id = DeviceId { account: register.account, index: device.index };
        let member = Member::new(Epochs::ALL, Home::Here(device.mailbox));
        rows::put(rows, rows::member(register.inbox, id), &member);
        let cursor = CursorRow::new(Sequence::ZERO, Epochs::ALL);
        rows::put(rows, rows::cursor(device.mailbox, register.inbox), &cursor);
    }
    tree::grow(rows, register.account, register.inbox, register.head)?;
    Ok(Outcome::Done)
}

pub(super) fn stock(rows: &mut Overlay<'_>, stock: &StockKeyPackages) -> Decided {
    let device = stock.device;
    let account = known_account(rows, device.account)?.ok_or(Conflict::NotFound)?;
    account.device(device.index).ok_or(Conflict::NotFound)?;
    let stock_key = rows::of_device(space::STOCK, device);
    let mut row: StockRow = rows::get(rows, &stock_key)?.unwrap_or_default();
    // A request sent again after a lost answer must not make one KeyPackage go out twice.
    let prefix = rows::of_device(space::PACKAGE, device);
    let mut there = rows::scan(rows, &prefix, limits::KEY_PACKAGES_MAX)?;
    if stock.replaces && there.iter().any(|(_, known)| stock.one_time.iter().all(|one| one.as_slice() != known)) {
        there.drain(..).for_each(|(key, _)| rows.delete(key));
        row.first = row.next;
    }
    for package in &stock.one_time {
        if there.iter().any(|(_, known)| known == package.as_slice()) {
            continue;
        }
        if row.left() as usize >= limits::KEY_PACKAGES_MAX {
            return Err(Conflict::TooMany("key packages").into());
        }
        rows.put(rows::package(device, row.next), package.to_vec());
        row.next += 1;
    }
    if let Some(package) = &stock.last_resort {
        rows.put(rows::of_device(space::LAST_RESORT, device), package.to_vec());
    }
    rows::put(rows, stock_key, &row);
    Ok(Outcome::Stocked { left: row.left() })
}

pub(super) fn claim(rows: &mut Overlay<'_>, claim: &ClaimKeyPackages) -> Decided {
    let account = known_account(rows, claim.owner)?.ok_or(Conflict::NoConsent)?;
    let own = claim.own.filter(|_| claim.owner == claim.requester && claim.requester_domain == claim.local);
    if own.is_none() && !consents(rows, claim.owner, claim.requester, &claim.requester_domain)? {
        if friends::blocks(rows, claim.owner, claim.requester)? {
            return Err(Conflict::NoConsent.into());
        }
        use_invite(rows, claim)?;
        friends::make(rows, claim.owner, claim.requester, &claim.requester_domain, claim.at)?;
        if claim.requester_domain == claim.local {
            friends::make(rows, claim.requester, claim.owner, &claim.local, claim.at)?;
        }
    }
    let mut packages = Vec::with_capacity(account.devices.len());
    let mut left = Vec::with_capacity(account.devices.len());
    for device in account.devices.iter().filter(|device| Some(device.index) != own) {
        let id = DeviceId { account: claim.owner, index: device.index };
        let (package, remaining) = take_package(rows, id)?;
        packages.extend(package.map(|package| ClaimedPackage { device: device.index, package }));
        left.push((device.index, remaining));
    }
    Ok(Outcome::Claimed { packages, left })
}

fn use_invite(rows: &mut Overlay<'_>, claim: &ClaimKeyPackages) -> Result<(), Fault> {
    let token = claim.token.ok_or(Conflict::NoConsent)?;
    let key = rows::invite(claim.owner, token.hash());
    let mut invite: InviteRow = rows::get(rows, &key)?.ok_or(Conflict::NoConsent)?;
    if !invite.is_live(claim.at) || friends::is_too_old(rows, claim.owner, claim.requester, invite.number)? {
        return Err(Conflict::NoConsent.into());
    }
    invite.left -= 1;
    if invite.left > 0 {
        rows::put(rows, key, &invite);
    } else {
        rows.delete(key);
        friends::invite_gone(rows, claim.owner)?;
    }
    Ok(())
}

/// The oldest one-time KeyPackage, or the last-resort one when there is none.
fn take_package(rows: &mut Overlay<'_>, device: DeviceId) -> Result<(Option<Vec<u8>>, u32), StorageError> {
    let stock_key = rows::of_device(space::STOCK, device);
    let mut row: StockRow = rows::get(rows, &stock_key)?.unwrap_or_default();
    if row.left() == 0 {
        return Ok((rows.get(&rows::of_device(space::LAST_RESORT, device))?, 0));
    }
    let key = rows::package(device, row.first);
    let package = rows.get(&key)?.ok_or_else(|| rows::damaged(&key, "a stocked KeyPackage is missing"))?;
    if planted::active(Bug::PackageTwice) && row.first.is_multiple_of(2) {
        return Ok((Some(package), row.left()));
    }
    rows.delete(key);
    row.first += 1;
    rows::put(rows, stock_key, &row);
    Ok((Some(package), row.left()))
}

pub(super) fn give_consent(rows: &mut Overlay<'_>, give: &GiveConsent) -> Decided {
    known_account(rows, give.owner)?.ok_or(Conflict::NotFound)?;
    friends::make(rows, give.owner, give.other, &give.domain, give.at)?;
    Ok(Outcome::Done)
}

pub(super) fn invite(rows: &mut Overlay<'_>, invite: &NewInvite) -> Decided {
    known_account(rows, invite.owner)?.ok_or(Conflict::NotFound)?;
    let key = rows::invite(invite.owner, invite.token);
    match rows::get::<InviteRow>(rows, &key)? {
        Some(known) if (known.left, known.expires) == (invite.uses, invite.expires) => return Ok(Outcome::Done),
        Some(_) => return Err(Conflict::Differs.into()),
        None => {}
    }
    let mut owner = owner_row(rows, invite.owner)?;
    if owner.invites as usize >= limits::INVITES_MAX {
        let prefix = rows::of_account(space::INVITE, invite.owner);
        for (old_key, value) in rows::scan(rows, &prefix, limits::INVITES_MAX)? {
            if rows::read::<InviteRow>(&old_key, &value)?.expires <= invite.at {
                rows.delete(old_key);
                owner.invites = owner.invites.saturating_sub(1);
            }
        }
    }
    if owner.invites as usize >= limits::INVITES_MAX {
        return Err(Conflict::TooMany("open invites").into());
    }
    owner.invites += 1;
    owner.made += 1;
    rows::put(rows, key, &InviteRow { left: invite.uses, expires: invite.expires, number: owner.made });
    rows::put(rows, rows::of_account(space::OWNER, invite.owner), &owner);
    Ok(Outcome::Done)
}

pub(super) fn pin_peer(rows: &mut Overlay<'_>, command: &PinPeer) -> Decided {
    let PinPeer { peer, pin, invite, at } = command;
    let key = rows::of_peer(space::PIN, peer);
    let known: Option<Pin> = rows::get(rows, &key)?;
    let linked_key = vec![space::LINKED];
    let linked: u32 = rows::get(rows, &linked_key)?.unwrap_or(0);
    let account = match pin.by {
        PinnedBy::Operator => {
            if known.is_some_and(|known| known.by != PinnedBy::Operator) {
                rows::put(rows, linked_key, &linked.saturating_sub(1));
            }
            rows::put(rows, key, pin);
            return Ok(Outcome::Done);
        }
        PinnedBy::Hint(account) | PinnedBy::Introduction(account) => account,
    };
    known_account(rows, account)?.ok_or(Conflict::NoConsent)?;
    let introduced = matches!(pin.by, PinnedBy::Introduction(_));
    if introduced {
        let token = invite.ok_or(Conflict::NoConsent)?;
        let invite: Option<InviteRow> = rows::get(rows, &rows::invite(account, token))?;
        invite.filter(|invite| invite.is_live(*at)).ok_or(Conflict::NoConsent)?;
    }
    if let Some(known) = known {
        if known.relay != pin.relay {
            return Err(Conflict::Differs.into());
        }
        if known.by != PinnedBy::Operator {
            // An introduction is the peer's own word, under its proved identity: it knows best where it is.
            if introduced && known.endpoint != pin.endpoint {
                rows::put(rows, key, &Pin { endpoint: pin.endpoint.clone(), ..known });
            }
            return Ok(Outcome::Done);
        }
    }
    if linked as usize >= limits::PEERS_BY_LINK_MAX {
        return Err(Conflict::TooMany("peers known by links").into());
    }
    let mut owner = owner_row(rows, account)?;
    if owner.peers as usize >= limits::PEERS_PER_ACCOUNT_MAX {
        return Err(Conflict::TooMany("peers known by one account's links").into());
    }
    owner.peers += 1;
    rows::put(rows, linked_key, &(linked + 1));
    rows::put(rows, rows::of_account(space::OWNER, account), &owner);
    rows::put(rows, key, pin);
    Ok(Outcome::Done)
}

pub(super) fn known_account(reads: &dyn Reads, account: AccountId) -> Result<Option<Account>, StorageError> {
    rows::get(reads, &rows::of_account(space::ACCOUNT, account))
}

pub(super) fn owner_row(reads: &dyn Reads, owner: AccountId) -> Result<OwnerRow, StorageError> {
    Ok(rows::get(reads, &rows::of_account(space::OWNER, owner))?.unwrap_or_default())
}
