//! Herald: somebody says inside the seal how far their account log goes; who has less of it asks their relay.
//! In order: hold it against the log known here, keep what is to be had, look them up, take what proves itself. A relay
//! that goes on showing less, or something else, is told of: it hides what its user did.
//! Never: believes a head; only a log that proves itself, and never one that goes back.
//! Limits: `limits::HERALDS_MAX`, `limits::HERALD_ATTEMPTS_MAX`. Rules: docs/protocol/identity.md.

use tracing::warn;
use whimbrel_crypto::{AccountLog, Engine};
use whimbrel_protocol::id::{AccountId, Address, Domain, LogHash, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::user::{LogGrown, LookUp, Who};
use whimbrel_storage::StorageError;

use super::{account, facts};
use crate::api::Event;
use crate::contacts::{self, Distrust};
use crate::reception::backoff;
use crate::requests::Purpose;
use crate::rooms::Turn;
use crate::rows::{self, HeraldRow};
use crate::thread;
use crate::timers::Timer;

/// A member of a thread says how far their log goes.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: ThreadId,
    account: AccountId,
    (seq, hash): (u64, LogHash),
) -> Result<(), StorageError> {
    let known = match account == t.rooms.identity.account() {
        true => Some(t.rooms.identity.log.clone()),
        false => contacts::known(&t.rows, &account)?.map(|person| person.log),
    };
    // Of a member whose log is not here yet, everything is still to come.
    let Some(log) = known else { return Ok(()) };
    if log.hash_at(seq) == Some(hash) {
        return Ok(());
    }
    let before: Option<HeraldRow> = rows::get(&t.rows, &rows::herald_key(&account))?;
    if before.is_some_and(|before| before.seq > seq) {
        return Ok(());
    }
    let domain = thread::get(&t.rows, &thread)?.and_then(|row| thread::domain_of(&row, &account).cloned());
    seek(t, account, domain, HeraldRow { seq, hash })
}

/// A relay says that somebody's log goes on. It is nobody's word: it is looked up once a minute at most, and held
/// against no relay.
pub(crate) fn hinted<E: Engine>(t: &mut Turn<'_, E>, words: &LogGrown) -> Result<(), StorageError> {
    let account = words.account;
    let there = thread::get(&t.rows, &words.thread)?.is_some_and(|row| thread::domain_of(&row, &account).is_some());
    let Some(person) = contacts::known(&t.rows, &account)?.filter(|_| there) else { return Ok(()) };
    let asked = |purpose: &Purpose| *purpose == Purpose::Hinted(account) || *purpose == Purpose::Heralded(account);
    if person.log.hash_at(words.seq) == Some(words.hash) || t.rooms.requests.any(asked) {
        return Ok(());
    }
    let hints = &mut t.rooms.user.hints;
    hints.retain(|_, until| *until > t.now.monotonic);
    if hints.contains_key(&account) || hints.len() >= limits::HINTS_MAX {
        return Ok(());
    }
    hints.insert(account, t.now.monotonic.plus(limits::HINT_AGAIN));
    let who = Who::Account(account, person.address.domain);
    t.ask(Purpose::Hinted(account), |request| LookUp { request, who, hint: None });
    Ok(())
}

/// What was looked up for somebody, if it proves itself, or what is known of them and longer.
pub(crate) fn shown<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    address: Address,
    log: Vec<u8>,
) -> Result<Option<AccountLog>, StorageError> {
    let domain = address.domain.clone();
    match contacts::judge(&t.rows, account, &domain, address, log)? {
        Ok(person) => {
            t.keep(&person, false)?;
            facts::known_now(t, &account)?;
            Ok(Some(person.log))
        }
        Err(Distrust(why)) => {
            warn!(why, "a relay does not prove the longer log of its user");
            Ok(None)
        }
    }
}

/// Somebody's log goes on otherwise than it is known here, as their relay's tree shows.
pub(crate) fn wanted<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    domain: Domain,
    (seq, hash): (u64, LogHash),
) -> Result<(), StorageError> {
    // What is looked for already is not looked for anew each time the tree is.
    match rows::get::<HeraldRow>(&t.rows, &rows::herald_key(&account))?.is_some_and(|known| known.seq >= seq) {
        true => Ok(()),
        false => seek(t, account, Some(domain), HeraldRow { seq, hash }),
    }
}

fn seek<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    domain: Option<Domain>,
    row: HeraldRow,
) -> Result<(), StorageError> {
    let heralds = &mut t.rooms.user.heralds;
    if !heralds.contains_key(&account) && heralds.len() >= limits::HERALDS_MAX {
        tracing::debug!("too many account logs are looked for already");
        return Ok(());
    }
    heralds.insert(account, 0);
    rows::put(&mut t.rows, rows::herald_key(&account), &row);
    ask(t, account, domain)
}

/// A sibling says how far somebody's log goes, who need not be known here.
pub(crate) fn told<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    (seq, hash): (u64, LogHash),
    domain: Domain,
) -> Result<(), StorageError> {
    let key = rows::herald_key(&account);
    let before: Option<HeraldRow> = rows::get(&t.rows, &key)?;
    let full = before.is_none() && t.rooms.user.heralds.len() >= limits::HERALDS_MAX;
    if full || before.is_some_and(|before| before.seq > seq) {
        return Ok(());
    }
    rows::put(&mut t.rows, key, &HeraldRow { seq, hash });
    t.rooms.user.heralds.insert(account, 0);
    ask(t, account, Some(domain))
}

/// Asks for every log that is missing.
pub(crate) fn ask_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let accounts: Vec<AccountId> = t.rooms.user.heralds.keys().copied().collect();
    accounts.into_iter().try_for_each(|account| ask(t, account, None))
}

/// Asks for one.
pub(crate) fn ask<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    domain: Option<Domain>,
) -> Result<(), StorageError> {
    let waits = t.rooms.requests.any(|purpose| *purpose == Purpose::Heralded(account));
    if waits || t.rooms.timers.is_set(Timer::Herald(account)) || t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let own = account == t.rooms.identity.account();
    let home = own.then(|| t.rooms.identity.relay().domain);
    let known = contacts::known(&t.rows, &account)?.map(|person| person.address.domain);
    let told = facts::domain_of(t, &account)?;
    let Some(domain) = home.or(known).or(domain).or(told) else { return Ok(()) };
    let who = Who::Account(account, domain);
    t.ask(Purpose::Heralded(account), |request| LookUp { request, who, hint: None });
    Ok(())
}

/// Their relay answered.
pub(crate) fn looked_up<E: Engine>(
    t: &mut Turn<'_, E>,
    account: AccountId,
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    let key = rows::herald_key(&account);
    let Some(wanted) = rows::get::<HeraldRow>(&t.rows, &key)? else { return Ok(()) };
    let log = if account == t.rooms.identity.account() {
        account::shown(t, log)?;
        Some(t.rooms.identity.log.clone())
    } else {
        shown(t, account, address, log)?
    };
    if log.is_some_and(|log| log.hash_at(wanted.seq) == Some(wanted.hash)) {
        t.rows.delete(key);
        t.rooms.user.heralds.remove(&account);
        return Ok(());
    }
    again(t, account)
}

/// It is not to be had now. After so many attempts the relay is said to hide it, and the next word begins anew.
pub(crate) fn again<E: Engine>(t: &mut Turn<'_, E>, account: AccountId) -> Result<(), StorageError> {
    let Some(attempts) = t.rooms.user.heralds.get_mut(&account) else { return Ok(()) };
    *attempts = attempts.saturating_add(1);
    if *attempts >= limits::HERALD_ATTEMPTS_MAX {
        t.rooms.user.heralds.remove(&account);
        t.rows.delete(rows::herald_key(&account));
        t.event(Event::LogWithheld { account });
        return Ok(());
    }
    let wait = backoff(*attempts, t.chance);
    t.rooms.timers.set(Timer::Herald(account), t.now.monotonic.plus(wait));
    Ok(())
}
