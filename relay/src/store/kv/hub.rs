//! Hub: the changes of a group, as rows: compare and set on (group, term, epoch).
//! Owns: the conditions of a commit, whom its entry is for, who reads the log from it on, the commits that are kept.
//! Never: reads the commit itself; what it does was shown before (`Proof`), and is held here to what is said of it.
//! Limits: `limits::COMMIT_ADDS_MAX`, `limits::THREAD_DEVICES_MAX`, `limits::COMMIT_AGE_MAX`,
//! `limits::COMMITS_FORGOTTEN_MAX`, `limits::FORMER_RELAYS_MAX`. Rules: docs/protocol/hub.md.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_crypto::{RelayIdentity, receipt};
use whimbrel_protocol::canonical;
use whimbrel_protocol::hub::{Accepted, Newcomers, Receipt, SignedReceipt};
use whimbrel_protocol::id::{AccountId, DeviceId, Domain, Epoch, Sequence, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::{EntryBody, Invitation, LogRef};
use whimbrel_protocol::thread::{Founding, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Overlay, Reads, StorageError};

use super::accounts::{known_account, owner_row};
use super::friends::consents;
use super::rows::{
    self, CommitRow, CursorRow, EpochRow, Home, LogRow, Member, OutgoingRow, OwnRow, PublicMark, ThreadMeta, space,
};
use super::{Decided, Fault, blobs, public, threads};
use crate::store::command::Origin;
use crate::store::command::hub::{Bodies, Change, Commit, Committed, How, Proof, Reader};
use crate::store::{Account, Conflict, Epochs, LogId, MailboxId, Outcome};

/// Members read at once: those with a leaf, and those without whose mail is not fetched yet.
pub(super) const MEMBERS_MAX: usize = 2 * limits::THREAD_DEVICES_MAX;

pub(super) fn commit(rows: &mut Overlay<'_>, command: &Commit) -> Decided {
    let meta: Option<ThreadMeta> = rows::get(rows, &rows::thread(command.commit.thread))?;
    match &command.how {
        How::Submitted(newcomers, signer, proof) => {
            submitted(rows, command, meta.ok_or(Conflict::NotMember)?, (newcomers.as_ref(), signer, proof))
        }
        How::Told(receipt, signer, arrivals) => {
            let words = &command.commit;
            let Receipt { thread, term, epoch, commit, .. } = receipt.words;
            let said = (thread, term, epoch, commit);
            if said != (words.thread, words.term, words.epoch, command.hash) {
                return Err(Conflict::Malformed.into());
            }
            let arrivals = arrivals.as_ref().map(|arrivals| (&*arrivals.words, arrivals));
            let founding = meta.as_ref().and_then(|meta| meta.founding);
            let founding = founding.or(arrivals.map(|(arrivals, _)| arrivals.founding));
            if founding.is_some_and(|founding| founding.hub != *signer) {
                return Err(Conflict::NotMember.into());
            }
            told(rows, command, meta, (receipt.clone(), arrivals))
        }
    }
}

/// A commit for this relay to decide: the first valid one of an epoch holds.
fn submitted(
    rows: &mut Overlay<'_>,
    command: &Commit,
    meta: ThreadMeta,
    (newcomers, signer, proof): (Option<&Bodies<Newcomers>>, &RelayIdentity, &Proof),
) -> Decided {
    let (words, author) = (&command.commit, command.author);
    let member: Member = rows::get(rows, &rows::member(meta.log, author))?.ok_or(Conflict::NotMember)?;
    if !threads::speaks(&command.origin, &member.home) {
        return Err(Conflict::NotMember.into());
    }
    let founding = meta.founding.ok_or(Conflict::Malformed)?;
    if let Some(hub) = &meta.hub {
        // Passed on once, never further: a peer that takes this relay for the hub is wrong about it.
        return match command.origin {
            Origin::Local => Ok(Outcome::Elsewhere(hub.clone())),
            Origin::Peer(_) => Err(Conflict::NotFound.into()),
        };
    }
    if words.term != meta.term || !member.epochs.contain(words.epoch) {
        return Err(Conflict::StaleEpoch.into());
    }
    if words.epoch < meta.epoch && !planted::active(Bug::AcceptStaleCommit) {
        let won: CommitRow =
            rows::get(rows, &rows::of_epoch(space::COMMIT, meta.log, words.epoch))?.ok_or(Conflict::StaleEpoch)?;
        return Ok(match won.accepted.receipt.words.commit == command.hash {
            // Handed in again, because the answer was lost.
            true => Outcome::Committed(Box::new(Committed { receipt: won.accepted.receipt, change: None })),
            false if planted::active(Bug::TwoOrders) => {
                let words = Receipt { commit: command.hash, ..won.accepted.receipt.words };
                Outcome::Committed(Box::new(Committed {
                    receipt: Box::new(receipt::sign(signer, words)),
                    change: None,
                }))
            }
            false => {
                if planted::active(Bug::WelcomeEarly) {
                    welcome_all(rows, command, &meta, newcomers)?;
                }
                Outcome::Lost(Box::new(won.accepted))
            }
        });
    }
    if words.epoch > meta.epoch {
        return Err(Conflict::StaleEpoch.into());
    }
    let shown = public::hold(command, &meta, proof)?;
    let rejoined = public::rejoined(command, proof, &member)?;
    let members = members(rows, meta.log)?;
    let after = roster(rows, &members, command, newcomers.is_some())?;
    // What members would refuse ends the epoch for nobody: here it would end it for good, and shut out whom it names.
    public::permitted(rows, command, &founding, proof, (&members, &after))?;
    if members.len() + words.added_devices().count() > MEMBERS_MAX {
        return Err(Conflict::TooMany("devices of a thread").into());
    }
    for newcomer in words.added.iter().filter(|newcomer| newcomer.domain == command.local) {
        // Unknown accounts, unknown devices and strangers look alike.
        let account = welcome_account(rows, command, newcomer, (&members, &after))?.ok_or(Conflict::NoConsent)?;
        if newcomer.devices.iter().any(|index| account.device(*index).is_none()) {
            return Err(Conflict::NoConsent.into());
        }
        public::hold_keys(&account, newcomer, shown)?;
    }
    let previous = meta.last.map(|last| last.commit);
    let at = meta.last.map_or(command.at, |last| last.at.max(command.at));
    let receipt =
        Receipt { thread: words.thread, term: words.term, epoch: words.epoch, commit: command.hash, previous, at };
    let receipt = Box::new(receipt::sign(signer, receipt));
    let invitation = newcomers.map(|bodies| invitation(command, &after, founding, (bodies.welcome, bodies.tree)));
    let others = meta.others.clone();
    let public = meta.public.map(|mark| public::advance(rows, &meta, mark, (words.bytes.len(), proof)));
    let meta = ThreadMeta { public, ..meta };
    let mut change = apply(rows, command, meta, (receipt.clone(), &members, &after, invitation.as_ref()))?;
    if let Some(rejoined) = rejoined {
        rows::put(rows, rows::member(change.log, author), &Member { rejoined, ..member });
    }
    if change.untold > 0 {
        // Whom it cannot tell, a hub does not take in.
        return Err(Conflict::Full.into());
    }
    let relays: BTreeSet<Domain> = others.into_iter().chain(relays(&after, &command.local)).collect();
    for peer in relays {
        let arrives = |one: &Participant| one.domain == peer;
        let invitation = invitation.clone().filter(|_| words.added.iter().any(arrives));
        if let Some(invitation) = &invitation {
            blobs::name(rows, invitation)?;
        }
        let row = OutgoingRow { epoch: words.epoch, invitation };
        threads::enqueue(rows, &peer, change.log, change.sequence, canonical::encode(&row))?;
        change.peers.push(peer);
    }
    if let Some(bodies) = newcomers {
        blobs::keep(rows, bodies.welcome, &bodies.words.welcome)?;
        blobs::keep(rows, bodies.tree, &bodies.words.tree)?;
    }
    Ok(Outcome::Committed(Box::new(Committed { receipt, change: Some(change) })))
}

/// The planted bug: everybody whom a commit names is told, whatever became of it.
fn welcome_all(
    rows: &mut Overlay<'_>,
    command: &Commit,
    meta: &ThreadMeta,
    newcomers: Option<&Bodies<Newcomers>>,
) -> Result<(), Fault> {
    let (Some(bodies), Some(founding)) = (newcomers, meta.founding) else { return Ok(()) };
    let members = members(rows, meta.log)?;
    let Ok(after) = roster(rows, &members, command, true) else { return Ok(()) };
    let words = invitation(command, &after, founding, (bodies.welcome, bodies.tree));
    for newcomer in command.commit.added.iter().filter(|newcomer| newcomer.domain == command.local) {
        if let Some(account) = welcome_account(rows, command, newcomer, (&members, &after))? {
            threads::notify(rows, &account, EntryBody::Invitation(words.clone()), command.bounds, command.at)?;
        }
    }
    blobs::keep(rows, bodies.welcome, &bodies.words.welcome)?;
    blobs::keep(rows, bodies.tree, &bodies.words.tree)?;
    Ok(())
}

/// What the hub says comes with for newcomers, and its bodies.
type Told<'c> = (&'c whimbrel_protocol::hub::Arrivals, &'c Bodies<whimbrel_protocol::hub::Arrivals>);

/// A commit that holds by the hub's word.
fn told(
    rows: &mut Overlay<'_>,
    command: &Commit,
    meta: Option<ThreadMeta>,
    (receipt, arrivals): (Box<SignedReceipt>, Option<Told<'_>>),
) -> Decided {
    let Origin::Peer(hub) = &command.origin else { return Err(Conflict::Malformed.into()) };
    let words = &command.commit;
    let known = |receipt| Ok(Outcome::Committed(Box::new(Committed { receipt, change: None })));
    let (meta, members) = match meta {
        Some(meta) if meta.hub.as_ref() != Some(hub) || meta.founding.is_none() => {
            return Err(Conflict::NotMember.into());
        }
        Some(meta) if words.epoch < meta.epoch => {
            let row: Option<EpochRow> = rows::get(rows, &rows::of_epoch(space::EPOCH, meta.log, words.epoch))?;
            let same = row.is_none_or(|row| row.commit == command.hash);
            return if same { known(receipt) } else { Err(Conflict::Differs.into()) };
        }
        Some(meta) => {
            let members = members(rows, meta.log)?;
            let read_here = |member: &Member| matches!(member.home, Home::Here(_)) && member.epochs.last.is_none();
            match (words.epoch == meta.epoch, members.values().any(read_here), arrivals) {
                (true, ..) => (meta, members),
                (false, true, _) => return Err(Conflict::EpochAhead.into()),
                // Nobody here has followed the group meanwhile.
                (false, false, Some((arrivals, _))) => {
                    begin(rows, command, (hub, arrivals.founding), Some((meta, members)))?
                }
                (false, false, None) => return known(receipt),
            }
        }
        None => match arrivals {
            Some((arrivals, _)) if arrivals.founding.thread() == words.thread => {
                begin(rows, command, (hub, arrivals.founding), None)?
            }
            _ => return Err(Conflict::NotMember.into()),
        },
    };
    let after = match arrivals {
        Some((arrivals, _)) => arrivals.participants.clone(),
        None => roster(rows, &members, command, !words.added.is_empty())?,
    };
    let invite = arrivals
        .map(|(arrivals, bodies)| invitation(command, &after, arrivals.founding, (bodies.welcome, bodies.tree)));
    let change = apply(rows, command, meta, (receipt.clone(), &members, &after, invite.as_ref()))?;
    if let Some((arrivals, bodies)) = arrivals {
        let Newcomers { welcome, tree } = &arrivals.newcomers;
        blobs::keep(rows, bodies.welcome, welcome)?;
        blobs::keep(rows, bodies.tree, tree)?;
    }
    Ok(Outcome::Committed(Box::new(Committed { receipt, change: Some(change) })))
}

type Members = BTreeMap<DeviceId, Member>;

/// The group begins here, or begins anew, with the epoch the commit leads to.
fn begin(
    rows: &mut Overlay<'_>,
    command: &Commit,
    (hub, founding): (&Domain, Founding),
    before: Option<(ThreadMeta, Members)>,
) -> Result<(ThreadMeta, Members), Fault> {
    let words = &command.commit;
    if !words.added.iter().any(|newcomer| newcomer.domain == command.local) {
        return Err(Conflict::Malformed.into());
    }
    let first = Epoch::new(words.epoch.get().saturating_add(1));
    let (meta, members) = match before {
        Some((meta, members)) => (ThreadMeta { epoch: words.epoch, first, ..meta }, members),
        None => {
            let meta = ThreadMeta {
                log: command.log,
                epoch: words.epoch,
                fingerprint: *command.hash.as_bytes(),
                people: 0,
                others: Vec::new(),
                gate: Vec::new(),
                hub: Some(hub.clone()),
                founding: Some(founding),
                term: words.term,
                former: Vec::new(),
                last: None,
                first,
                parted: None,
                aware: Vec::new(),
                public: None,
            };
            rows::put(rows, rows::log(command.log), &LogRow::new(LogRef::Thread(words.thread), command.at));
            (meta, Members::new())
        }
    };
    Ok((meta, members))
}

/// Everybody who has, or had, a leaf.
pub(super) fn members(reads: &dyn Reads, log: LogId) -> Result<Members, StorageError> {
    let prefix = rows::members(log);
    let found = rows::scan(reads, &prefix, MEMBERS_MAX)?;
    found
        .into_iter()
        .map(|(key, value)| Ok((rows::device_of(&key, prefix.len())?, rows::read(&key, &value)?)))
        .collect()
}

/// Who is in the group once the commit holds; whether it says what can be.
fn roster(reads: &dyn Reads, members: &Members, command: &Commit, welcomes: bool) -> Result<Vec<Participant>, Fault> {
    let words = &command.commit;
    // A device that was revoked here has no row any more, and its leaf is still to go.
    for device in words.removed.iter().filter(|device| !members.contains_key(device)) {
        // Nor has one of an account that is none any more.
        let revoked = known_account(reads, device.account)?.is_none_or(|known| known.device(device.index).is_none());
        if !revoked {
            return Err(Conflict::Malformed.into());
        }
    }
    let home = |member: &Member| match &member.home {
        Home::Here(_) => command.local.clone(),
        Home::Peer(domain) => domain.clone(),
    };
    let mut after: BTreeMap<AccountId, Participant> = BTreeMap::new();
    let present = members.iter().filter(|(_, member)| member.epochs.last.is_none());
    for (device, member) in present.clone() {
        if words.removed.binary_search(device).is_ok() {
            continue;
        }
        let new = || Participant { account: device.account, domain: home(member), devices: Vec::new() };
        after.entry(device.account).or_insert_with(new).devices.push(device.index);
    }
    let is_present = |device: &DeviceId| members.get(device).is_some_and(|member| member.epochs.last.is_none());
    let goes = |device: &DeviceId| is_present(device) || !members.contains_key(device);
    if !words.removed.iter().all(goes) || words.removed.contains(&command.author) {
        return Err(Conflict::Malformed.into());
    }
    if words.added_devices().any(|device| is_present(&device)) || words.added.is_empty() == welcomes {
        return Err(Conflict::Malformed.into());
    }
    for newcomer in &words.added {
        let entry = after.entry(newcomer.account).or_insert_with(|| Participant {
            account: newcomer.account,
            domain: newcomer.domain.clone(),
            devices: Vec::new(),
        });
        if entry.domain != newcomer.domain {
            return Err(Conflict::Malformed.into());
        }
        entry.devices.extend(&newcomer.devices);
        entry.devices.sort_unstable();
    }
    if after.values().map(|one| one.devices.len()).sum::<usize>() > limits::THREAD_DEVICES_MAX {
        return Err(Conflict::TooMany("devices of a thread").into());
    }
    Ok(after.into_values().collect())
}

/// The account of a newcomer who lives here and may be taken in by this author, if one of the devices is theirs. Another may
/// have been revoked while the hub could not hear of it.
fn welcome_account(
    reads: &dyn Reads,
    command: &Commit,
    newcomer: &Participant,
    (members, after): (&Members, &[Participant]),
) -> Result<Option<Account>, Fault> {
    let Some(account) = known_account(reads, newcomer.account)? else { return Ok(None) };
    let author = command.author.account;
    // Who makes a commit is in the group after it. Where nobody was in it before, the hub's roster alone says where they live.
    let Some(home) = after.iter().find(|one| one.account == author).map(|one| one.domain.clone()) else {
        return Ok(None);
    };
    // But nobody speaks for this relay's own users: those who are in the group are known here.
    let is_here = members.get(&command.author).is_some_and(|member| matches!(member.home, Home::Here(_)));
    if home == command.local && !is_here {
        return Ok(None);
    }
    let known = newcomer.devices.iter().any(|index| account.device(*index).is_some());
    let is_in =
        |(device, member): (&DeviceId, &Member)| device.account == newcomer.account && member.epochs.last.is_none();
    let willing = newcomer.account == author
        || members.iter().any(is_in)
        || consents(reads, newcomer.account, author, &home)?
        || planted::active(Bug::IgnoreConsent);
    if !known || !willing {
        return Ok(None);
    }
    let has_row = reads.get(&rows::row(newcomer.account, command.commit.thread))?.is_some();
    let full = owner_row(reads, newcomer.account)?.threads as usize >= limits::ACCOUNT_THREADS_MAX;
    if full && !has_row { Err(Conflict::Full.into()) } else { Ok(Some(account)) }
}

fn invitation(
    command: &Commit,
    after: &[Participant],
    founding: Founding,
    (welcome, tree): (whimbrel_protocol::id::BlobId, whimbrel_protocol::id::BlobId),
) -> Invitation {
    Invitation {
        thread: command.commit.thread,
        epoch: Epoch::new(command.commit.epoch.get().saturating_add(1)),
        inviter: command.author,
        participants: after.to_vec(),
        welcome,
        tree,
        founding: Some(founding),
    }
}

fn relays(after: &[Participant], local: &Domain) -> BTreeSet<Domain> {
    after.iter().map(|one| &one.domain).filter(|domain| *domain != local).cloned().collect()
}

/// Writes a commit that holds: entry, roster, cursors, invitations, and the commit itself for those who ask later.
fn apply(
    rows: &mut Overlay<'_>,
    command: &Commit,
    mut meta: ThreadMeta,
    (receipt, members, after, invitation): (Box<SignedReceipt>, &Members, &[Participant], Option<&Invitation>),
) -> Result<Change, Fault> {
    let (words, id, last) = (&command.commit, meta.log, Some(receipt.words));
    let accepted = Accepted { author: command.author, commit: (**words).clone(), receipt };
    let log_key = rows::log(id);
    let mut log: LogRow = rows::get(rows, &log_key)?.ok_or_else(|| rows::damaged(&log_key, "a log is missing"))?;
    let body = EntryBody::Commit(accepted.clone());
    let sequence = threads::push(rows, id, &mut log, body.clone(), command.at);
    rows::put(rows, log_key, &log);

    let mut change = Change {
        log: id,
        epoch: words.epoch,
        sequence,
        body,
        readers: Vec::new(),
        gone: Vec::new(),
        inboxes: Vec::new(),
        untold: 0,
        peers: Vec::new(),
    };
    for device in &words.removed {
        // A relay that was told of a group late does not know everybody who was in it before.
        if let Some(member) = members.get(device) {
            change.gone.extend(remove(rows, id, *device, member, (words.epoch, sequence))?);
        }
    }
    let first = Epoch::new(words.epoch.get().saturating_add(1));
    let seat = Seat { log: id, first, sequence };
    for newcomer in &words.added {
        let here = newcomer.domain == command.local;
        let account = if here { welcome_account(rows, command, newcomer, (members, after))? } else { None };
        if here && account.is_none() {
            change.untold += newcomer.devices.len();
            continue;
        }
        for device in newcomer.ids() {
            let home = match &account {
                None => Home::Peer(newcomer.domain.clone()),
                Some(account) => match account.device(device.index) {
                    Some(one) => Home::Here(one.mailbox),
                    None => {
                        change.untold += 1;
                        continue;
                    }
                },
            };
            change.readers.extend(seat.take(rows, device, home, members.get(&device))?);
        }
        let (Some(account), Some(invitation)) = (account, invitation) else { continue };
        own_row(rows, newcomer.account, (words.thread, id), command.at)?;
        // Of what another relay decided there is no second word: who is not told now never is.
        let bounds = match &command.how {
            How::Submitted(..) => command.bounds,
            How::Told(..) => threads::forwarded(command.bounds),
        };
        match threads::notify(rows, &account, EntryBody::Invitation(invitation.clone()), bounds, command.at) {
            Ok(()) => change.inboxes.push(account.inbox),
            Err(Fault::Conflict(_)) => change.untold += newcomer.devices.len(),
            Err(error) => return Err(error),
        }
    }
    if meta.hub.is_some() && meta.first == first {
        // The group begins here, or again: who is in it is known from the hub alone.
        let is_in = |device: &DeviceId| after.iter().any(|one| one.ids().any(|other| other == *device));
        for (device, member) in members.iter().filter(|(_, member)| member.epochs.last.is_none()) {
            if !is_in(device) {
                remove(rows, id, *device, member, (words.epoch, sequence))?;
            }
        }
        for one in after.iter().filter(|one| one.domain != command.local) {
            for device in one.ids() {
                seat.take(rows, device, Home::Peer(one.domain.clone()), members.get(&device))?;
            }
        }
    }
    if command.sure {
        forget_former(rows, id, members, command.at)?;
    }
    let others: Vec<Domain> = relays(after, &command.local).into_iter().collect();
    let former: BTreeSet<Domain> = meta.former.drain(..).chain(meta.others).collect();
    for relay in former.into_iter().filter(|relay| !others.contains(relay)) {
        let waits = !rows::scan(rows, &rows::outbound_of_log(&relay, id), 1)?.is_empty();
        // The hub itself writes a row for it in this very step.
        if (waits || meta.hub.is_none()) && meta.former.len() < limits::FORMER_RELAYS_MAX {
            meta.former.push(relay);
        }
    }
    if !words.removed.is_empty() {
        meta.parted = Some(words.epoch);
    }
    // Only of those a member of whom may still be heard.
    let heard = |domain: &Domain| others.contains(domain) || meta.former.contains(domain);
    meta.aware = std::mem::take(&mut meta.aware).into_iter().filter(|(domain, _)| heard(domain)).collect();
    let people = u32::try_from(after.len()).unwrap_or(u32::MAX);
    let meta = ThreadMeta { epoch: first, people, others, last, ..meta };
    rows::put(rows, rows::thread(words.thread), &meta);
    let row = EpochRow { ended: command.at, commit: command.hash };
    rows::put(rows, rows::of_epoch(space::EPOCH, id, words.epoch), &row);
    rows::put(rows, rows::of_epoch(space::COMMIT, id, words.epoch), &CommitRow { accepted });
    if command.sure {
        forget_commits(rows, id, command.at, meta.public)?;
    }
    Ok(change)
}

/// A device loses its leaf: it reads the log up to the commit. Gives its mailbox, if it reads here.
fn remove(
    rows: &mut Overlay<'_>,
    log: LogId,
    device: DeviceId,
    member: &Member,
    (epoch, sequence): (Epoch, Sequence),
) -> Result<Option<MailboxId>, StorageError> {
    if planted::active(Bug::ReadOn) {
        return Ok(None);
    }
    let epochs = Epochs { last: Some(epoch), ..member.epochs };
    rows::put(rows, rows::member(log, device), &Member::new(epochs, member.home.clone()));
    let Home::Here(mailbox) = member.home else { return Ok(None) };
    let key = rows::cursor(mailbox, log);
    if let Some(cursor) = rows::get::<CursorRow>(rows, &key)? {
        rows::put(rows, key, &CursorRow { epochs, end: Some(sequence), ..cursor });
    }
    Ok(Some(mailbox))
}

/// Where newcomers begin.
struct Seat {
    log: LogId,
    first: Epoch,
    sequence: Sequence,
}

impl Seat {
    /// A device gets a leaf. What it has not read of an earlier one stays for it.
    fn take(
        &self,
        rows: &mut Overlay<'_>,
        device: DeviceId,
        home: Home,
        before: Option<&Member>,
    ) -> Result<Option<Reader>, StorageError> {
        let (mut epochs, mut upto, mut start) = (Epochs::since(self.first), Sequence::ZERO, self.sequence);
        let mailbox = if let Home::Here(mailbox) = home { Some(mailbox) } else { None };
        if let Some(Member { epochs: old, .. }) = before
            && old.last.is_some()
        {
            let cursor: Option<CursorRow> = match mailbox {
                Some(mailbox) => rows::get(rows, &rows::cursor(mailbox, self.log))?,
                None => None,
            };
            let behind = cursor.filter(|cursor| !cursor.is_done());
            // Elsewhere, what it sealed with its earlier leaf may still come.
            if behind.is_some() || mailbox.is_none() {
                epochs = old.again(self.first);
            }
            if let Some(cursor) = cursor {
                upto = cursor.upto;
            }
            if let Some(cursor) = behind {
                start = cursor.start;
            }
        }
        rows::put(rows, rows::member(self.log, device), &Member::new(epochs, home));
        if let Some(mailbox) = mailbox {
            rows::put(rows, rows::cursor(mailbox, self.log), &CursorRow { upto, epochs, end: None, start });
        }
        Ok(mailbox.map(|mailbox| Reader { mailbox, cursor: upto, start, epochs }))
    }
}

fn own_row(
    rows: &mut Overlay<'_>,
    owner: AccountId,
    (thread, log): (ThreadId, LogId),
    at: Wall,
) -> Result<(), StorageError> {
    let key = rows::row(owner, thread);
    match rows::get::<OwnRow>(rows, &key)? {
        Some(row) => rows::put(rows, key, &OwnRow { touched: row.touched.max(at), log, ..row }),
        None => {
            rows::put(rows, key, &OwnRow { tag: None, touched: at, log, settings: None });
            let mut owner_row = owner_row(rows, owner)?;
            owner_row.threads += 1;
            rows::put(rows, rows::of_account(space::OWNER, owner), &owner_row);
        }
    }
    Ok(())
}

/// Takes away who has no leaf and nothing left to fetch, once nothing sealed with it is taken any more.
fn forget_former(rows: &mut Overlay<'_>, log: LogId, members: &Members, at: Wall) -> Result<(), StorageError> {
    for (device, member) in members {
        let Some(last) = member.epochs.last else { continue };
        let still: Option<Member> = rows::get(rows, &rows::member(log, *device))?;
        if still.as_ref() != Some(member) || is_recent(rows, log, last, at)? {
            continue;
        }
        if let Home::Here(mailbox) = member.home {
            let key = rows::cursor(mailbox, log);
            let cursor: Option<CursorRow> = rows::get(rows, &key)?;
            if cursor.is_some_and(|cursor| cursor.end.is_none_or(|end| cursor.upto < end)) {
                continue;
            }
            rows.delete(key);
        }
        rows.delete(rows::member(log, *device));
    }
    Ok(())
}

/// Whether an entry of an epoch that is over is still taken from whoever sealed in it.
pub(super) fn is_recent(reads: &dyn Reads, log: LogId, epoch: Epoch, at: Wall) -> Result<bool, StorageError> {
    let row: Option<EpochRow> = rows::get(reads, &rows::of_epoch(space::EPOCH, log, epoch))?;
    let age = |row: EpochRow| u128::from(at.as_millis().saturating_sub(row.ended.as_millis()));
    Ok(row.is_some_and(|row| age(row) <= limits::EPOCH_AGE_MAX.as_millis()))
}

/// Forgets commits that are old, but for those the hub's public state is behind by.
fn forget_commits(
    rows: &mut Overlay<'_>,
    log: LogId,
    at: Wall,
    public: Option<PublicMark>,
) -> Result<(), StorageError> {
    let prefix = rows::epochs(space::EPOCH, log);
    for (key, value) in rows.scan(&prefix, &rows::end(&prefix), Order::Ascending, limits::COMMITS_FORGOTTEN_MAX)? {
        let row: EpochRow = rows::read(&key, &value)?;
        let age = u128::from(at.as_millis().saturating_sub(row.ended.as_millis()));
        if age <= limits::COMMIT_AGE_MAX.as_millis() {
            break;
        }
        let epoch = Epoch::new(u64::from_be_bytes(rows::rest(&key, prefix.len())?));
        if public.is_some_and(|mark| epoch >= mark.epoch) {
            break;
        }
        rows.delete(rows::of_epoch(space::COMMIT, log, epoch));
        rows.delete(key);
    }
    Ok(())
}

/// The commit that ended an epoch, for a device that had a leaf in it.
///
/// # Errors
/// See [`super::account`].
pub fn commit_of(
    reads: &dyn Reads,
    device: DeviceId,
    thread: ThreadId,
    epoch: Epoch,
) -> Result<Option<Accepted>, StorageError> {
    let Some(meta) = rows::get::<ThreadMeta>(reads, &rows::thread(thread))? else { return Ok(None) };
    let member: Option<Member> = rows::get(reads, &rows::member(meta.log, device))?;
    let reads_it = |member: &Member| matches!(member.home, Home::Here(_)) && member.epochs.contain(epoch);
    if !member.as_ref().is_some_and(reads_it) {
        return Ok(None);
    }
    let row: Option<CommitRow> = rows::get(reads, &rows::of_epoch(space::COMMIT, meta.log, epoch))?;
    Ok(row.map(|row| row.accepted))
}
