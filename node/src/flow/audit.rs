//! Audit: a relay is held to one tree of account logs.
//! In order: ask for its newest head, hold it against the one before and those that friends were shown, see the entry that was
//! asked for in it; tell friends what we are shown. A relay that signed two trees is found, and what proves it is kept.
//! Never: believes a head that does not go on from those before; takes silence for proof, or for good.
//! Limits: `limits::AUDIT_EVERY`, `limits::AUDIT_PAUSE`, `limits::TREE_HEAD_AGE_MAX`, `limits::AUDIT_ATTEMPTS_MAX`,
//! `limits::TREE_HEADS_TOLD_MAX`, `limits::TREE_HEAD_TOLD_EVERY`. Rules: docs/protocol/transparency.md.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{debug, warn};
use whimbrel_crypto::transparency::{self, Evidence, Succession};
use whimbrel_crypto::{AccountLog, Engine, VerifiedHead};
use whimbrel_protocol::id::{AccountId, Domain, TreeHash};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Body;
use whimbrel_protocol::transparency::{FetchTreeHead, Inclusion, SignedHead, Step, TreeHead};
use whimbrel_storage::StorageError;

use super::{group, herald};
use crate::api::Event;
use crate::contacts;
use crate::reception::backoff;
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, AuditRow, ThreadRow, TreeRow, TreeToldRow};
use crate::thread;
use crate::timers::Timer;

/// What an answer leaves in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doubt {
    /// The tree.
    Tree,
    /// Whether somebody's log is in it.
    Entry(AccountId),
    /// Which of two logs is somebody's.
    Fork(AccountId),
}

/// The relay lets us in: we look at our own entry, and at what waits.
pub(crate) fn begin<E: Engine>(t: &mut Turn<'_, E>) {
    let (domain, account) = (t.rooms.identity.relay().domain, t.rooms.identity.account());
    t.rooms.audit.want(&domain, Some(account), t.now.monotonic);
    t.rooms.timers.set(Timer::Audit, t.now.monotonic);
}

/// Asks every relay of which something is to be known and that may be asked now.
pub(crate) fn due<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let now = t.now.monotonic;
    let due = t.rooms.audit.work.iter().filter(|(_, work)| work.next <= now);
    let due: Vec<Domain> = due.map(|(domain, _)| domain.clone()).collect();
    due.iter().try_for_each(|domain| ask(t, domain))?;
    plan(t);
    Ok(())
}

fn plan<E: Engine>(t: &mut Turn<'_, E>) {
    match t.rooms.audit.next() {
        Some(next) => t.rooms.timers.set(Timer::Audit, next),
        None => t.rooms.timers.clear(Timer::Audit),
    }
}

fn ask<E: Engine>(t: &mut Turn<'_, E>, domain: &Domain) -> Result<(), StorageError> {
    if t.rooms.requests.any(|purpose| matches!(purpose, Purpose::Audit(asked, _) if asked == domain)) {
        later(t, domain);
        return Ok(());
    }
    let row: Option<TreeRow> = rows::get(&t.rows, &rows::tree_key(domain))?;
    if row.as_ref().is_some_and(|row| row.evidence.is_some()) {
        // Whatever it shows now is one of its faces.
        t.rooms.audit.work.remove(domain);
        return Ok(());
    }
    let from: Vec<u64> = row.iter().flat_map(|row| earlier(row, domain)).map(|head| head.size()).collect();
    let own = t.rooms.identity.account();
    let Some(work) = t.rooms.audit.work.get_mut(domain) else { return Ok(()) };
    // Others first: their own log is looked at again and again.
    let account = work.accounts.iter().find(|one| **one != own).or(work.accounts.first()).copied();
    work.asked = from.len();
    // Until the answer, or its absence.
    later(t, domain);
    let to = domain.clone();
    let purpose = Purpose::Audit(domain.clone(), account);
    t.ask(purpose, |request| FetchTreeHead { request, domain: to, account, from });
    Ok(())
}

fn later<E: Engine>(t: &mut Turn<'_, E>, domain: &Domain) {
    if let Some(work) = t.rooms.audit.work.get_mut(domain) {
        work.next = t.now.monotonic.plus(limits::AUDIT_EVERY);
    }
}

/// The heads that a new one is held against: our newest, then those told first. Each was verified, and found to be of the
/// row's relay and the domain, before it was kept in a store whose rows nobody else can write.
fn earlier(row: &TreeRow, domain: &Domain) -> Vec<VerifiedHead> {
    let heads = [&row.head].into_iter().chain(&row.told).take(limits::TREE_STEPS_MAX);
    heads.filter_map(|head| transparency::kept(head, row.relay, domain).ok()).collect()
}

/// A relay showed its tree.
pub(crate) fn shown<E: Engine>(
    t: &mut Turn<'_, E>,
    domain: &Domain,
    account: Option<AccountId>,
    words: TreeHead,
) -> Result<(), StorageError> {
    let TreeHead { head, steps, entry, .. } = words;
    let key = rows::tree_key(domain);
    let row: Option<TreeRow> = rows::get(&t.rows, &key)?;
    if row.as_ref().is_some_and(|row| row.evidence.is_some()) {
        // It was given away meanwhile.
        t.rooms.audit.work.remove(domain);
        return Ok(());
    }
    let head = match transparency::verify(&head) {
        Ok(head) if head.domain() == domain && is_of(t, row.as_ref(), &head) => head,
        Ok(_) => return again(t, domain, Doubt::Tree, "a head of another relay"),
        Err(error) => {
            debug!(%error, "what a relay shows is no tree head");
            return again(t, domain, Doubt::Tree, "no head");
        }
    };
    // A device whose clock is wrong cannot tell; nor whose relay's is.
    let age = Duration::from_millis(t.now.wall.as_millis().saturating_sub(head.at().as_millis()));
    if t.rooms.reception.clocks_agree(t.now) && age > limits::TREE_HEAD_AGE_MAX {
        return again(t, domain, Doubt::Tree, "a head of long ago");
    }
    let mut row = match row {
        Some(row) => row,
        None if t.rooms.audit.kept >= limits::TREE_HEADS_MAX => {
            t.rooms.audit.work.remove(domain);
            return Ok(());
        }
        None => {
            t.rooms.audit.kept += 1;
            TreeRow { relay: head.relay(), head: head.signed().clone(), told: vec![], evidence: None, silent: false }
        }
    };
    let mut open = false;
    // Those that friends told since are for the next question.
    let asked = t.rooms.audit.work.get(domain).map_or(1, |work| work.asked.max(1));
    for (place, before) in earlier(&row, domain).into_iter().take(asked).enumerate() {
        match head.after(&before, steps.get(place)) {
            Ok(Succession::Grown) => row.told.retain(|told| told != before.signed()),
            Ok(Succession::TwoFaces) => {
                let none = Step { root: TreeHash::from_bytes([0; TreeHash::LEN]), proof: Vec::new() };
                let step = steps.into_iter().nth(place).unwrap_or(none);
                return two_faces(t, domain, row, (before, head), step);
            }
            // Its tree has not come so far, or it does not show how it came about.
            Err(_) if place == 0 => {
                return again(t, domain, Doubt::Tree, "a head that does not go on from the one before");
            }
            Err(_) => open = true,
        }
    }
    row.head = head.signed().clone();
    row.silent &= !row.told.is_empty();
    let more = !row.told.is_empty();
    rows::put(&mut t.rows, key, &row);
    let doubt = match account {
        Some(account) => judge(t, domain, account, entry, &head)?,
        None => None,
    };
    if let Some(doubt) = doubt {
        return again(t, domain, doubt, "an entry is not shown in it");
    }
    if let Some(work) = t.rooms.audit.work.get_mut(domain) {
        work.accounts.retain(|other| Some(*other) != account);
    }
    if open {
        return again(t, domain, Doubt::Tree, "how it came about is not shown");
    }
    let own = t.rooms.identity.relay().domain == *domain;
    let Some(work) = t.rooms.audit.work.get_mut(domain) else { return Ok(()) };
    (work.attempts, work.absent) = (0, 0);
    if more || !work.accounts.is_empty() {
        work.next = t.now.monotonic.plus(limits::AUDIT_PAUSE);
    } else if own {
        let account = t.rooms.identity.account();
        work.accounts.insert(account);
        work.next = t.now.monotonic.plus(limits::AUDIT_EVERY);
    } else {
        t.rooms.audit.work.remove(domain);
    }
    plan(t);
    Ok(())
}

/// Whether a head is of the relay that the domain's heads are of. Our own relay we know by our identity.
fn is_of<E: Engine>(t: &Turn<'_, E>, row: Option<&TreeRow>, head: &VerifiedHead) -> bool {
    let home = t.rooms.identity.relay();
    let relay = if home.domain == *head.domain() { Some(home.relay) } else { row.map(|row| row.relay) };
    relay.is_none_or(|relay| relay == head.relay())
}

/// Holds somebody's entry in the tree against their log as it is known here. Says what is in doubt then.
fn judge<E: Engine>(
    t: &mut Turn<'_, E>,
    domain: &Domain,
    account: AccountId,
    entry: Option<Box<Inclusion>>,
    head: &VerifiedHead,
) -> Result<Option<Doubt>, StorageError> {
    let Some(log) = log_of(t, &account)? else { return Ok(None) };
    let Some(entry) = entry.filter(|entry| head.holds(&account, entry).is_ok()) else {
        return Ok(Some(Doubt::Entry(account)));
    };
    let (seq, hash) = log.head();
    if (entry.seq, entry.hash) == (seq, hash) {
        let found = AuditRow { seq, hash, found: Some(head.size()), missing: false };
        rows::put(&mut t.rows, rows::audit_key(&account), &found);
        return Ok(None);
    }
    if log.hash_at(entry.seq) == Some(entry.hash) {
        // The relay itself has shown us more than is in its tree.
        return Ok(Some(Doubt::Entry(account)));
    }
    // There is more of it, or what a recovery put in its place: looked for, and seen in the tree once it is here.
    if entry.seq > seq || !is_missing(t, &account)? {
        herald::wanted(t, account, domain.clone(), (entry.seq, entry.hash))?;
    }
    Ok((entry.seq <= seq).then_some(Doubt::Fork(account)))
}

fn is_missing<E: Engine>(t: &Turn<'_, E>, account: &AccountId) -> Result<bool, StorageError> {
    Ok(rows::get::<AuditRow>(&t.rows, &rows::audit_key(account))?.is_some_and(|row| row.missing))
}

fn log_of<E: Engine>(t: &Turn<'_, E>, account: &AccountId) -> Result<Option<AccountLog>, StorageError> {
    if *account == t.rooms.identity.account() {
        return Ok(Some(t.rooms.identity.log.clone()));
    }
    Ok(contacts::known(&t.rows, account)?.map(|person| person.log))
}

fn missing<E: Engine>(t: &mut Turn<'_, E>, account: AccountId) -> Result<bool, StorageError> {
    let Some(log) = log_of(t, &account)? else { return Ok(false) };
    let (seq, hash) = log.head();
    let told = is_missing(t, &account)?;
    rows::put(&mut t.rows, rows::audit_key(&account), &AuditRow { seq, hash, found: None, missing: true });
    Ok(!told)
}

/// A relay signed two trees. What shows it is kept, and its owner is told; nothing it shows of its tree counts any more.
fn two_faces<E: Engine>(
    t: &mut Turn<'_, E>,
    domain: &Domain,
    row: TreeRow,
    (earlier, later): (VerifiedHead, VerifiedHead),
    step: Step,
) -> Result<(), StorageError> {
    warn!(relay = %domain, "a relay shows different people different account logs");
    let evidence = Evidence { earlier: earlier.signed().clone(), later: later.signed().clone(), step };
    let relay = row.relay;
    let row = TreeRow { evidence: Some(evidence), told: Vec::new(), ..row };
    rows::put(&mut t.rows, rows::tree_key(domain), &row);
    t.rooms.audit.work.remove(domain);
    t.event(Event::TwoFaces { domain: domain.clone(), relay });
    plan(t);
    Ok(())
}

/// The relay could not be asked, or would not answer.
pub(crate) fn refused<E: Engine>(t: &mut Turn<'_, E>, domain: &Domain, passes: bool) -> Result<(), StorageError> {
    if !passes {
        return again(t, domain, Doubt::Tree, "the relay does not show it");
    }
    let Some(work) = t.rooms.audit.work.get_mut(domain) else { return Ok(()) };
    work.absent = work.absent.saturating_add(1);
    work.next = t.now.monotonic.plus(backoff(work.absent, t.chance));
    plan(t);
    Ok(())
}

/// What was shown proves nothing: of this account, or of the tree. After so many times the owner is told what could not be
/// proved; the others that wait to be asked for are asked for then.
fn again<E: Engine>(t: &mut Turn<'_, E>, domain: &Domain, doubt: Doubt, why: &str) -> Result<(), StorageError> {
    debug!(relay = %domain, why, "a relay's tree is asked for again");
    let Some(work) = t.rooms.audit.work.get_mut(domain) else { return Ok(()) };
    work.attempts = work.attempts.saturating_add(1);
    if work.attempts < limits::AUDIT_ATTEMPTS_MAX {
        work.next = t.now.monotonic.plus(backoff(work.attempts, t.chance));
        plan(t);
        return Ok(());
    }
    let accounts = match doubt {
        Doubt::Entry(account) | Doubt::Fork(account) => {
            work.accounts.remove(&account);
            (work.attempts, work.next) = (0, t.now.monotonic);
            BTreeSet::from([account])
        }
        Doubt::Tree => std::mem::take(&mut work.accounts),
    };
    if work.accounts.is_empty() {
        t.rooms.audit.work.remove(domain);
    }
    for account in accounts {
        if !missing(t, account)? {
            continue;
        }
        t.event(match doubt {
            Doubt::Fork(_) if account == t.rooms.identity.account() => Event::AccountForked,
            Doubt::Fork(_) => Event::LogForked { account },
            Doubt::Tree | Doubt::Entry(_) => Event::LogUnproved { account },
        });
    }
    let key = rows::tree_key(domain);
    if let Some(row) = rows::get::<TreeRow>(&t.rows, &key)?
        && doubt == Doubt::Tree
        && !row.told.is_empty()
        && !row.silent
    {
        // What was told is kept: when it shows a tree again, that is held against it.
        rows::put(&mut t.rows, key, &TreeRow { silent: true, ..row });
        t.event(Event::TreeWithheld { domain: domain.clone() });
    }
    // Our own relay is asked again all the same: it may have been a bad hour.
    if t.rooms.identity.relay().domain == *domain {
        let (account, then) = (t.rooms.identity.account(), t.now.monotonic.plus(limits::AUDIT_EVERY));
        t.rooms.audit.want(domain, Some(account), then);
        if let Some(work) = t.rooms.audit.work.get_mut(domain).filter(|work| work.accounts.len() == 1) {
            work.next = then;
        }
    }
    plan(t);
    Ok(())
}

/// Somebody we share a thread with says which head their own relay showed them.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    author: AccountId,
    signed: &SignedHead,
) -> Result<(), StorageError> {
    let head = match transparency::verify(signed) {
        Ok(head) => head,
        Err(error) => {
            debug!(%error, "a member tells of a head that is none");
            return Ok(());
        }
    };
    let domain = head.domain().clone();
    let home = match author == t.rooms.identity.account() {
        true => Some(t.rooms.identity.relay().domain),
        false => contacts::known(&t.rows, &author)?.map(|person| person.address.domain),
    };
    if home.as_ref() != Some(&domain) {
        // Anybody signs heads in the name of any domain: only who lives there is asked what theirs shows.
        debug!(relay = %domain, "a member tells of a head that is not their own relay's");
        return Ok(());
    }
    let key = rows::tree_key(&domain);
    let row: Option<TreeRow> = rows::get(&t.rows, &key)?;
    if !is_of(t, row.as_ref(), &head) {
        debug!(relay = %domain, "a member tells of a head of another relay under this domain");
        return Ok(());
    }
    let Some(mut row) = row else {
        // Which relay that is hearsay does not decide: the relay itself is asked.
        want(t, &domain);
        return Ok(());
    };
    if row.evidence.is_some() || row.told.contains(signed) {
        return Ok(());
    }
    let kept = earlier(&row, &domain).into_iter().next();
    match kept.map(|kept| (head.after(&kept, None), kept)) {
        Some((Ok(Succession::Grown), _)) => return Ok(()),
        Some((Ok(Succession::TwoFaces), kept)) => {
            let step = Step { root: head.root(), proof: Vec::new() };
            return two_faces(t, &domain, row, (kept, head), step);
        }
        _ => {}
    }
    if row.told.len() >= limits::TREE_HEADS_TOLD_MAX {
        debug!(relay = %domain, "too many heads wait to be held against its tree");
        return Ok(());
    }
    row.told.push(signed.clone());
    rows::put(&mut t.rows, key, &row);
    want(t, &domain);
    Ok(())
}

fn want<E: Engine>(t: &mut Turn<'_, E>, domain: &Domain) {
    t.rooms.audit.want(domain, None, t.now.monotonic.plus(limits::AUDIT_PAUSE));
    plan(t);
}

/// Something is said in a thread: with it goes the newest head of our relay, if those in it have not heard of it lately.
pub(crate) fn tell<E: Engine>(
    t: &mut Turn<'_, E>,
    id: whimbrel_protocol::id::ThreadId,
    row: &mut ThreadRow,
) -> Result<(), Halt> {
    let domain = t.rooms.identity.relay().domain;
    let Some(tree) = rows::get::<TreeRow>(&t.rows, &rows::tree_key(&domain))? else { return Ok(()) };
    // Of a relay with two faces, too: by our half of the evidence others find theirs.
    if row.state != rows::ThreadState::Open {
        return Ok(());
    }
    if thread::leaves(row).count() > limits::RECEIPT_LEAVES_MAX {
        return Ok(());
    }
    let Ok(head) = transparency::kept(&tree.head, tree.relay, &domain) else { return Ok(()) };
    let key = rows::tree_told_key(&id);
    if let Some(told) = rows::get::<TreeToldRow>(&t.rows, &key)? {
        let passed = t.now.wall.as_millis().abs_diff(told.at.as_millis());
        if told.size == head.size() || u128::from(passed) < limits::TREE_HEAD_TOLD_EVERY.as_millis() {
            return Ok(());
        }
    }
    match group::say(t, id, row, Body::TreeHead(Box::new(tree.head))) {
        Ok(()) => {
            rows::put(&mut t.rows, key, &TreeToldRow { size: head.size(), at: t.now.wall });
            Ok(())
        }
        Err(Halt::Broken(error)) => Err(Halt::Broken(error)),
        // What is said goes all the same.
        Err(Halt::Command(error)) => {
            debug!(%error, "a thread is not told of the relay's tree");
            Ok(())
        }
    }
}
