//! Facts: what the account's devices hold together, from the device where something happens to all others.
//! In order: note what happened, with the clock's reading, and tell it in the self thread in the same step; take what a
//! sibling tells when it is newer than what is here, and let it hold. Whoever comes new is told everything there is.
//! Never: takes one from anybody but a sibling, or tells one while a revoked device could read it; gives an identity key to
//! a device that did not hold the one before.
//! Limits: `limits::FACTS_MAX`, `limits::FACTS_PASSING_MAX`, `limits::FACTS_AT_ONCE`, `limits::FACTS_BYTES_AT_ONCE`. Rules: docs/protocol/devices.md.

use tracing::{debug, warn};
use whimbrel_crypto::{Engine, KeyPair, SiblingKey};
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{AccountId, Address, DeviceId, DeviceIndex, Domain, Epoch, LogHash, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Target};
use whimbrel_protocol::siblings::{Fact, Handover, Known, What};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Order, Reads, StorageError};
use zeroize::Zeroizing;

use super::{befriend, commit, group, herald, history, picture, read, self_thread, send, settings, witness};
use crate::api::Event;
use crate::contacts::{self, Distrust};
use crate::friendship::{self, NOT_KNOWN};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, ContactRow, FriendRow, PictureRow, Relationship, SeenRow, Single, Space, ThreadRow, TitleRow};
use crate::thread;
use crate::timers::Timer;

/// How far a log goes that is not told of.
const NOWHERE: (u64, LogHash) = (0, LogHash::from_bytes([0; 32]));

/// Whether there is nobody to tell.
pub(crate) fn is_alone<E: Engine>(t: &Turn<'_, E>) -> bool {
    t.rooms.identity.log.devices().count() < 2
}

/// Something happened here, or was heard here first: it is kept as a fact, and told. `at`: when it was said, if that is not
/// now.
pub(crate) fn note<E: Engine>(t: &mut Turn<'_, E>, what: What, at: Option<Hlc>) -> Result<(), StorageError> {
    if is_alone(t) && t.rooms.user.facts == 0 && t.rooms.user.passing == 0 {
        // Whoever comes is told how things stand then.
        return Ok(());
    }
    let key = rows::fact_key(&what);
    let before: Option<Fact> = rows::get(&t.rows, &key)?;
    let by = t.rooms.identity.id().index;
    let last = before.as_ref().map(|fact| fact.at).unwrap_or_default();
    let now = thread::tick(&mut t.rows, t.now.wall)?;
    // Of two words the later holds, also when the clock was set back meanwhile.
    let at = at.unwrap_or_else(|| now.max(last.tick(Wall::default())));
    // What somebody else's clock says may be anything, and must stand where the others heed it.
    let at = Hlc { millis: at.millis.min(LATEST), ..at };
    let Some(fact) = merged(before.as_ref(), without_log(Fact { at, by, what })) else { return Ok(()) };
    // Where there is no room for it, it is told all the same to those that are there.
    if before.is_some() || make_room(t, &key)? {
        rows::put(&mut t.rows, key, &fact);
    }
    let fact = with_log(t, fact)?;
    tell(t, vec![fact])
}

/// Whether there is room for one more. Of those that pass, one goes for it.
fn make_room<E: Engine>(t: &mut Turn<'_, E>, key: &[u8]) -> Result<bool, StorageError> {
    if rows::is_passing(key) {
        if t.rooms.user.passing < limits::FACTS_PASSING_MAX {
            t.rooms.user.passing += 1;
            return Ok(true);
        }
        for prefix in rows::passing_facts() {
            if let Some((gone, _)) = t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, 1)?.pop() {
                t.rows.delete(gone);
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let room = t.rooms.user.facts < limits::FACTS_MAX - limits::FACTS_PASSING_MAX;
    if room {
        t.rooms.user.facts += 1;
    } else {
        debug!("the account's devices hold too much together; this is not kept");
    }
    Ok(room)
}

/// How two facts about one thing come together; nothing: the one that is here holds.
fn merged(before: Option<&Fact>, fact: Fact) -> Option<Fact> {
    let Some(before) = before else { return Some(fact) };
    let later = (fact.at, fact.by) > (before.at, before.by);
    let what = match (&before.what, &fact.what) {
        (What::Read(thread, author, known), What::Read(_, _, new)) => {
            let both = read::union(known, new);
            if both == *known {
                return None;
            }
            return Some(Fact { at: before.at.max(fact.at), by: fact.by, what: What::Read(*thread, *author, both) });
        }
        (What::Settings(_, known), What::Settings(_, new)) => return (new > known).then_some(fact),
        // Said again, it asks for what came since; or whoever was not there to hear it hears it now.
        (What::Late(..), What::Late(..)) | (What::History(..), What::History(..)) => false,
        (known, new) => known == new,
    };
    (later && !what).then_some(fact)
}

/// Tells some facts now; when they cannot be told, everything is told as soon as something can.
fn tell<E: Engine>(t: &mut Turn<'_, E>, facts: Vec<Fact>) -> Result<(), StorageError> {
    // Where everything is still to be told from the beginning, these are on the way.
    let waits = rows::get::<minicbor::bytes::ByteVec>(&t.rows, &rows::single_key(Single::Telling))?;
    let waits = waits.is_some_and(|done| done.is_empty());
    if say(t, facts)? || waits { Ok(()) } else { tell_all(t) }
}

/// Says facts in the self thread. Says whether that was done.
fn say<E: Engine>(t: &mut Turn<'_, E>, facts: Vec<Fact>) -> Result<bool, StorageError> {
    let Some((id, mut row)) = self_thread::current(t)? else { return Ok(false) };
    if !self_thread::is_clean(t, &row) {
        return Ok(false);
    }
    match group::say(t, id, &mut row, Body::Facts(facts)) {
        Ok(()) => {
            witness::tell(t, id, &mut row)?;
            thread::put(&mut t.rows, &id, &row);
            send::pump(t, id)?;
            Ok(true)
        }
        Err(Halt::Broken(error)) => Err(error),
        Err(Halt::Command(error)) => {
            debug!(%error, "the account's other devices are not told now");
            Ok(false)
        }
    }
}

/// From now on everything there is is told, from the beginning: somebody came, or something could not be told.
pub(crate) fn tell_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    seed(t)?;
    rows::put(&mut t.rows, rows::single_key(Single::Telling), &minicbor::bytes::ByteVec::from(Vec::new()));
    t.rooms.timers.set(Timer::Telling, t.now.monotonic);
    Ok(())
}

/// What was said in the thread among the devices is refused for good: everything is told once more, after a while.
pub(crate) fn untold<E: Engine>(t: &mut Turn<'_, E>, thread: &ThreadId) -> Result<(), StorageError> {
    let own = t.rooms.identity.account();
    if thread::get(&t.rows, thread)?.is_some_and(|row| row.is_self(&own)) {
        tell_all(t)?;
        t.rooms.timers.set(Timer::Telling, t.now.monotonic.plus(limits::SELF_THREAD_RETRY_MIN));
    }
    Ok(())
}

/// Goes on with it, after a crash, or once the thread is there again.
pub(crate) fn resume<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rows.get(&rows::single_key(Single::Telling))?.is_some() {
        t.rooms.timers.set(Timer::Telling, t.now.monotonic);
    }
    Ok(())
}

/// Tells some more.
pub(crate) fn tell_some<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let single = rows::single_key(Single::Telling);
    let Some(done) = rows::get::<minicbor::bytes::ByteVec>(&t.rows, &single)? else { return Ok(()) };
    if is_alone(t) {
        t.rows.delete(single);
        return Ok(());
    }
    let space = rows::space(Space::Fact);
    let from = if done.is_empty() { space.clone() } else { [done.as_slice(), &[0]].concat() };
    let page = t.rows.scan(&from, &rows::after(&space), Order::Ascending, limits::FACTS_AT_ONCE)?;
    let mut more = page.len() == limits::FACTS_AT_ONCE;
    let own = t.rooms.identity.id().index;
    let (mut facts, mut bytes, mut last) = (Vec::new(), 0_usize, done.to_vec());
    for (key, value) in page {
        if bytes >= limits::FACTS_BYTES_AT_ONCE {
            more = true;
            break;
        }
        last.clone_from(&key);
        let fact: Fact = rows::decode(&key, &value)?;
        // What a device needs it says itself.
        if matches!(fact.what, What::History(device, _) if device != own) {
            continue;
        }
        let fact = with_log(t, fact)?;
        bytes = bytes.saturating_add(canonical::encode(&fact).len());
        facts.push(fact);
    }
    if !facts.is_empty() && !say(t, facts)? {
        // Resumed with the next change of the thread, or the next link.
        return Ok(());
    }
    if more {
        rows::put(&mut t.rows, single, &minicbor::bytes::ByteVec::from(last));
        t.rooms.timers.set(Timer::Telling, t.now.monotonic);
    } else {
        t.rows.delete(single);
    }
    Ok(())
}

/// A contact is told with the log that proves them, where it is not too long.
fn with_log<E: Engine>(t: &Turn<'_, E>, fact: Fact) -> Result<Fact, StorageError> {
    let What::Contact(account, known) = &fact.what else { return Ok(fact) };
    let Some(person) = contacts::known(&t.rows, account)? else { return Ok(fact) };
    let log = Some(person.log.bytes()).filter(|log| log.len() <= limits::FACT_LOG_BYTES_MAX);
    let known = Known { address: person.address, head: person.log.head(), log, ..known.clone() };
    Ok(Fact { what: What::Contact(*account, known), ..fact })
}

/// What is here and was never told, for nobody was there to tell: older than whatever was.
fn seed<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let mut found = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Contact), |(key, value)| {
        let row: ContactRow = rows::decode(&key, &value)?;
        let Some(account) = rows::id_in_key(&key).map(AccountId::from_bytes) else { return Ok(()) };
        if row.contact {
            // With the log when it is told.
            let known = Known { address: row.address, contact: true, head: NOWHERE, log: None, parted: None };
            found.push(What::Contact(account, known));
        }
        if row.verified.is_some() {
            found.push(What::Verified(account, row.verified));
        }
        Ok(())
    })?;
    rows::each(&t.rows, &rows::space(Space::Friend), |(key, value)| {
        let row: FriendRow = rows::decode(&key, &value)?;
        if let (Relationship::Blocked, Some(id)) = (row.standing, rows::id_in_key(&key)) {
            found.push(What::Blocked(AccountId::from_bytes(id), row.address, true));
        }
        Ok(())
    })?;
    let mut titles = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        if let (Some(title), Some(id)) = (row.title, rows::id_in_key(&key)) {
            titles.push((ThreadId::from_bytes(id), title));
        }
        Ok(())
    })?;
    let by = t.rooms.identity.id().index;
    let mut pictures = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Picture), |(key, value)| {
        let PictureRow { bytes, hlc } = rows::decode(&key, &value)?;
        let id = rows::id_in_key(&key).map(ThreadId::from_bytes);
        pictures.extend(id.map(|id| Fact { at: hlc, by, what: What::Picture(id, bytes) }));
        Ok(())
    })?;
    let found = found.into_iter().map(|what| Fact { at: Hlc::default(), by, what });
    // The admin's clock is a title's.
    let titles = titles.into_iter().map(|(id, title)| Fact { at: title.hlc, by, what: What::Title(id, title.text) });
    for fact in found.chain(titles).chain(pictures) {
        let key = rows::fact_key(&fact.what);
        let before: Option<Fact> = rows::get(&t.rows, &key)?;
        let new = before.is_none();
        if let Some(fact) = merged(before.as_ref(), fact)
            && (!new || make_room(t, &key)?)
        {
            rows::put(&mut t.rows, key, &fact);
        }
    }
    Ok(())
}

/// A sibling tells facts.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    author: DeviceId,
    facts: Vec<Fact>,
) -> Result<(), StorageError> {
    let own = t.rooms.identity.account();
    let ours = thread::get(&t.rows, &id)?.is_some_and(|row| row.is_self(&own));
    // Whoever was revoked may still have had a leaf when it said so.
    if !ours || author.account != own || t.rooms.identity.log.device(author.index).is_none() {
        warn!("facts about this account from somebody who is none of its devices");
        return Ok(());
    }
    facts.into_iter().try_for_each(|fact| take(t, author.index, fact))
}

/// Nobody's clock comes to this: a word beyond it would be the last there is about its thing.
pub(crate) const LATEST: u64 = u64::MAX / 2;

fn take<E: Engine>(t: &mut Turn<'_, E>, author: DeviceIndex, fact: Fact) -> Result<(), StorageError> {
    let idle = match &fact.what {
        // Under which key a device is to be given something it says itself, whoever it says said so first.
        What::History(device, _) => *device != author || *device != fact.by,
        // Nor does anything that does not open take the place of what does.
        What::Identity(handover) => {
            let held = t.rooms.identity.held_key().filter(|held| held.public() == handover.old);
            held.is_some_and(|held| opened(&held, handover).is_none())
        }
        _ => false,
    };
    if idle || fact.at.millis > LATEST {
        debug!("a fact that is none");
        return Ok(());
    }
    if planted::active(Bug::FactForgotten) && matches!(fact.what, What::Contact(..) | What::Blocked(..)) {
        return Ok(());
    }
    let key = rows::fact_key(&fact.what);
    let before: Option<Fact> = rows::get(&t.rows, &key)?;
    // A log proves itself, and is held against the one known here whatever becomes of the rest. Of somebody for whom there is
    // no room nothing is kept.
    let room = before.is_some() || make_room(t, &key)?;
    let told = fact.what.clone();
    let kept = match &told {
        What::Contact(account, _) => room || contacts::known(&t.rows, account)?.is_some(),
        _ => true,
    };
    let fact = without_log(fact);
    let Some(fact) = merged(before.as_ref(), fact.clone()) else {
        match (&told, &before) {
            // What two devices say came late was said since either time.
            (What::Late(thread, since, epoch), Some(before)) if (before.at, before.by) != (fact.at, fact.by) => {
                history::told_late(t, *thread, *since, *epoch)?;
            }
            // No news, but by the later clock: what undoes it here must be later than that, or it would not hold there.
            (_, Some(before)) if before.what == fact.what && (before.at, before.by) < (fact.at, fact.by) => {
                rows::put(&mut t.rows, key, &fact);
            }
            _ => {}
        }
        return learn(t, &told);
    };
    // It holds even where there is no room to keep it.
    if room {
        rows::put(&mut t.rows, key, &fact);
    }
    if kept {
        learn(t, &told)?;
    }
    hold(t, &fact)
}

/// As it is kept: the log has a row of its own.
fn without_log(fact: Fact) -> Fact {
    let Fact { at, by, what } = fact;
    let what = match what {
        What::Contact(account, known) => What::Contact(account, Known { head: NOWHERE, log: None, ..known }),
        other => other,
    };
    Fact { at, by, what }
}

/// Somebody's log, as a sibling knows it: taken when it proves itself and is longer than ours.
fn learn<E: Engine>(t: &mut Turn<'_, E>, what: &What) -> Result<(), StorageError> {
    let What::Contact(account, Known { address, head, log, .. }) = what else { return Ok(()) };
    if *account == t.rooms.identity.account() {
        return Ok(());
    }
    let known = contacts::known(&t.rows, account)?;
    if known.as_ref().is_some_and(|person| person.log.hash_at(head.0) == Some(head.1)) {
        return Ok(());
    }
    let Some(log) = log else { return herald::told(t, *account, *head, address.domain.clone()) };
    match contacts::judge(&t.rows, *account, &address.domain, address.clone(), log.clone())? {
        Ok(person) => {
            t.keep(&person, false)?;
            match known {
                None => known_now(t, account),
                Some(_) => Ok(()),
            }
        }
        Err(Distrust(why)) => {
            warn!(why, "a sibling tells a log that proves nothing");
            Ok(())
        }
    }
}

/// Under which key these devices were to be given the history is forgotten.
pub(crate) fn forget_histories<E: Engine>(
    t: &mut Turn<'_, E>,
    whose: impl Fn(DeviceIndex) -> bool,
) -> Result<(), StorageError> {
    let mut gone = Vec::new();
    rows::each(&t.rows, &rows::history_facts(), |(key, value)| {
        if let What::History(device, _) = rows::decode::<Fact>(&key, &value)?.what
            && whose(device)
        {
            gone.push(key);
        }
        Ok(())
    })?;
    t.rooms.user.facts = t.rooms.user.facts.saturating_sub(gone.len());
    gone.into_iter().for_each(|key| t.rows.delete(key));
    Ok(())
}

/// Lets a fact hold here, as far as what it is about is here; the rest of it does once that comes.
fn hold<E: Engine>(t: &mut Turn<'_, E>, fact: &Fact) -> Result<(), StorageError> {
    match &fact.what {
        What::Contact(account, known) => consent(t, account, known),
        What::Blocked(account, address, blocked) => block(t, account, address, *blocked),
        What::Verified(account, key) => verify(t, account, *key, Wall::from_millis(fact.at.millis)),
        What::Title(id, text) => commit::entitled(t, *id, TitleRow { text: text.clone(), hlc: fact.at }),
        What::Picture(id, bytes) => picture::told(t, *id, bytes.clone(), fact.at),
        What::Read(id, author, stretches) => read::mark(t, id, author, stretches),
        What::Settings(id, changes) => settings::changed_elsewhere(t, id, *changes),
        What::Identity(_) => take_identity(t),
        What::Late(id, since, epoch) => history::told_late(t, *id, *since, *epoch),
        What::History(..) => Ok(()),
    }
}

/// What siblings say of somebody who is known here only now.
pub(crate) fn known_now<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    for key in [rows::contact_fact_key(account), rows::verified_fact_key(account)] {
        if let Some(fact) = rows::get::<Fact>(&t.rows, &key)? {
            hold(t, &fact)?;
        }
    }
    Ok(())
}

/// What siblings say a thread is called that this device is in only now.
pub(crate) fn joined_now<E: Engine>(t: &mut Turn<'_, E>, thread: &ThreadId) -> Result<(), StorageError> {
    match rows::get::<Fact>(&t.rows, &rows::title_fact_key(thread))? {
        Some(fact) => hold(t, &fact),
        None => Ok(()),
    }
}

/// Whether the account's devices hold that there is no consent with somebody any more.
pub(crate) fn is_parted(reads: &dyn Reads, account: &AccountId) -> Result<bool, StorageError> {
    let fact: Option<Fact> = rows::get(reads, &rows::contact_fact_key(account))?;
    let over = matches!(fact.map(|fact| fact.what), Some(What::Contact(_, Known { contact: false, .. })));
    Ok(over || befriend::is_blocked(reads, account)?)
}

/// Where siblings say that somebody is found.
pub(crate) fn domain_of<E: Engine>(t: &Turn<'_, E>, account: &AccountId) -> Result<Option<Domain>, StorageError> {
    let fact: Option<Fact> = rows::get(&t.rows, &rows::contact_fact_key(account))?;
    Ok(match fact.map(|fact| fact.what) {
        Some(What::Contact(_, known)) => Some(known.address.domain),
        _ => None,
    })
}

/// Consent with somebody came, or went, here: siblings are told. `at`: when a word of theirs says so.
pub(crate) fn note_contact<E: Engine>(
    t: &mut Turn<'_, E>,
    account: &AccountId,
    at: Option<Hlc>,
) -> Result<(), StorageError> {
    let Some(row) = rows::get::<ContactRow>(&t.rows, &rows::contact_key(account))? else { return Ok(()) };
    let friend = friendship::get(&t.rows, account)?;
    let parted = friend.filter(|_| !row.contact).and_then(|row| row.parted).filter(|place| *place != NOT_KNOWN);
    let known = Known { address: row.address, contact: row.contact, head: NOWHERE, log: None, parted };
    // By a clock that is behind it may seem older than what the devices hold; what is so here is so all the same.
    let before: Option<Fact> = rows::get(&t.rows, &rows::contact_fact_key(account))?;
    let at = at.filter(|at| before.is_none_or(|fact| fact.at < *at));
    note(t, What::Contact(*account, known), at)
}

/// The relay said where the inbox log ended when the owner parted with somebody: siblings refuse what lies before it, too.
/// That is no newer word, for one of them may have agreed to them again meanwhile.
pub(crate) fn note_parted<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    let fact: Option<Fact> = rows::get(&t.rows, &rows::contact_fact_key(account))?;
    match fact.map(|fact| (fact.at, fact.what)) {
        Some((at, What::Contact(_, Known { contact: false, .. }))) => {
            note_contact(t, account, Some(Hlc { millis: at.millis, count: at.count.saturating_add(1) }))
        }
        _ => Ok(()),
    }
}

fn consent<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId, known: &Known) -> Result<(), StorageError> {
    let Some(row) = rows::get::<ContactRow>(&t.rows, &rows::contact_key(account))? else { return Ok(()) };
    match (row.contact, known.contact) {
        (false, true) if !befriend::is_blocked(&t.rows, account)? => {
            let Some(person) = contacts::known(&t.rows, account)? else { return Ok(()) };
            t.keep(&person, true)?;
            befriend::met_by_invite(t, account)?;
            t.event(Event::ContactAdded { account: *account, address: row.address });
            Ok(())
        }
        (true, false) => {
            befriend::part(t, account)?;
            parted(t, account, known)
        }
        (false, false) => parted(t, account, known),
        _ => Ok(()),
    }
}

/// The owner parted with somebody on a sibling: they are no friend here either, and what they invited to before is nothing.
/// That it was said to the relay is the sibling's to see to: said again from here, it could end what was agreed since.
fn parted<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId, known: &Known) -> Result<(), StorageError> {
    let row = match friendship::get(&t.rows, account)? {
        Some(row) => row,
        None if known.parted.is_none() || !friendship::make_room(&mut t.rows)? => return Ok(()),
        None => friendship::fresh(known.address.clone(), Relationship::None, t.now.wall),
    };
    let standing = if row.standing == Relationship::Friends { Relationship::None } else { row.standing };
    let parted = match (row.parted, known.parted) {
        (Some(NOT_KNOWN), _) => row.parted,
        (one, other) => one.max(other),
    };
    friendship::put(&mut t.rows, account, &FriendRow { standing, parted, ..row });
    Ok(())
}

fn block<E: Engine>(
    t: &mut Turn<'_, E>,
    account: &AccountId,
    address: &Address,
    blocked: bool,
) -> Result<(), StorageError> {
    let known = friendship::get(&t.rows, account)?;
    if known.is_none() && (!blocked || !friendship::make_room(&mut t.rows)?) {
        return Ok(());
    }
    let row = known.unwrap_or_else(|| friendship::fresh(address.clone(), Relationship::None, t.now.wall));
    befriend::set_blocked(t, account, row, blocked)
}

fn verify<E: Engine>(
    t: &mut Turn<'_, E>,
    account: &AccountId,
    verified: Option<PublicKey>,
    at: Wall,
) -> Result<(), StorageError> {
    let key = rows::contact_key(account);
    if let Some(row) = rows::get::<ContactRow>(&t.rows, &key)? {
        match (verified, row.verified) {
            (Some(key), _) => rows::put(&mut t.rows, rows::compared_key(account, &key), &at),
            (None, Some(key)) => t.rows.delete(rows::compared_key(account, &key)),
            (None, None) => {}
        }
        rows::put(&mut t.rows, key, &ContactRow { verified, ..row });
    }
    Ok(())
}

/// Something came that was sealed before its author heard of a device of the account: that one is told to ask for it.
/// `about`: the text that it is about, if it is none itself.
pub(crate) fn note_late<E: Engine>(
    t: &mut Turn<'_, E>,
    thread: &ThreadId,
    row: &ThreadRow,
    epoch: Epoch,
    (hlc, about): (Hlc, Option<Target>),
) -> Result<(), StorageError> {
    let own = t.rooms.identity.account();
    if epoch.get() >= row.grown || thread::leaves(row).filter(|leaf| leaf.account == own).count() < 2 {
        return Ok(());
    }
    let since = match about {
        Some(of) => {
            let seen: Option<SeenRow> = rows::get(&t.rows, &rows::message_key(&of.message, &of.author))?;
            seen.map_or(hlc, |seen| seen.hlc)
        }
        None => hlc,
    };
    note(t, What::Late(*thread, since, epoch), None)
}

/// The identity key is another from now on, by this device's hand: whoever holds the one before is given it.
pub(crate) fn hand_over<E: Engine>(t: &mut Turn<'_, E>, old: &KeyPair, new: [u8; 32]) -> Result<(), StorageError> {
    let public = KeyPair::from_seed_bytes(new).public();
    let sealed = SiblingKey::of_identity(old).seal(&context(&old.public(), &public), &new, t.chance);
    let Some(sealed) = sealed else { return Ok(()) };
    note(t, What::Identity(Handover { old: old.public(), new: public, sealed }), None)
}

fn context(old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    [old.as_bytes().as_slice(), new.as_bytes()].concat()
}

/// The key that was handed over, if it is that one.
fn opened(held: &KeyPair, handover: &Handover) -> Option<Zeroizing<[u8; 32]>> {
    let secret = SiblingKey::of_identity(held).open(&context(&handover.old, &handover.new), &handover.sealed)?;
    let new = Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).ok()?);
    (KeyPair::from_seed_bytes(*new).public() == handover.new).then_some(new)
}

/// Follows what was handed over, from the key this device holds along those that the account's log names after it: a
/// sibling's word alone makes no key the account's.
pub(crate) fn take_identity<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(mut held) = t.rooms.identity.held_key() else { return Ok(()) };
    let keys: Vec<PublicKey> = t.rooms.identity.log.identities().map(|(_, _, key)| key).collect();
    let Some(place) = keys.iter().rposition(|key| *key == held.public()) else { return Ok(()) };
    let mut taken = None;
    for next in keys.iter().skip(place.saturating_add(1)) {
        let key = rows::identity_fact_key(&held.public(), next);
        let Some(Fact { what: What::Identity(handover), .. }) = rows::get(&t.rows, &key)? else { break };
        let Some(new) = opened(&held, &handover) else {
            warn!("an identity key was handed over that does not open");
            break;
        };
        held = KeyPair::from_seed_bytes(*new);
        taken = Some(new);
    }
    if let Some(new) = taken {
        let log = t.rooms.identity.log.clone();
        t.rooms.identity.adopt(&mut t.rows, log, Some(*new));
        tracing::info!("a sibling handed the account's identity key over");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(millis: u64, by: u32, text: &str) -> Fact {
        let what = What::Title(ThreadId::from_bytes([1; 32]), text.to_owned());
        Fact { at: Hlc { millis, count: 0 }, by: DeviceIndex::new(by), what }
    }

    #[test]
    fn that_something_came_late_is_heard_again_though_it_was_said_before() {
        let late = |millis| {
            let what = What::Late(ThreadId::from_bytes([1; 32]), Hlc { millis: 5, count: 0 }, Epoch::new(1));
            Fact { at: Hlc { millis, count: 0 }, by: DeviceIndex::new(0), what }
        };
        assert!(merged(Some(&late(1)), late(2)) == Some(late(2)));
        assert!(merged(Some(&late(2)), late(1)).is_none());
    }

    #[test]
    fn facts_come_to_the_same_in_whatever_order_and_however_often_they_come() {
        let facts = [title(1, 0, "a"), title(2, 0, "b"), title(2, 1, "c"), title(1, 1, "d")];
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
        for order in orders {
            let mut held: Option<Fact> = None;
            for place in order.into_iter().chain(order) {
                if let Some(fact) = facts.get(place).cloned().and_then(|fact| merged(held.as_ref(), fact)) {
                    held = Some(fact);
                }
            }
            assert!(held == Some(title(2, 1, "c")), "{order:?}");
        }
    }
}
