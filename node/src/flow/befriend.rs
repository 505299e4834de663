//! Befriend: words about friendship, from the owner's mouth to the relay, and from the inbox log to the owner's eye.
//! Outgoing: look the other up, verify the log, keep how things stand, sign, hand in, take the relay's answer.
//! Incoming: keep the word, look its author up, verify it against the author's account log, hold its time against the
//! newest one heard, and only then change anything. Rules: docs/protocol/friendship.md.

use std::time::Duration;

use tracing::warn;
use whimbrel_crypto::{Engine, UnverifiedLog, signed};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::friendship::{
    Act, Befriend, Block, Decline, FRIENDSHIP_CONTEXT, Friend, FriendshipWord, LetSee, ListFriends, Standing,
};
use whimbrel_protocol::id::{AccountId, Address, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::{LookUp, Who};
use whimbrel_storage::{Reads, StorageError};

use super::{direct, facts, join, own};
use crate::api::{CommandError, Event, Reply, Ticket};
use crate::contacts::{self, Distrust, Person};
use crate::friendship::{self, Effect, NOT_KNOWN, WordId};
use crate::reception::backoff;
use crate::requests::{Asker, Errand, Intent, Meeting, Purpose};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, FriendRow, Relationship, Space, WordRow};
use crate::timers::Timer;

/// How things stand with an account, with what came of invites: consent is friendship.
fn relationship(reads: &dyn Reads, account: &AccountId) -> Result<Relationship, StorageError> {
    let row = friendship::get(reads, account)?;
    Ok(match row.map_or(Relationship::None, |row| row.standing) {
        Relationship::None if contacts::is_contact(reads, account)? => Relationship::Friends,
        standing => standing,
    })
}

/// Whether the owner keeps an account away.
pub(crate) fn is_blocked(reads: &dyn Reads, account: &AccountId) -> Result<bool, StorageError> {
    Ok(friendship::get(reads, account)?.is_some_and(|row| row.standing == Relationship::Blocked))
}

/// Where an account is found, as far as known here.
fn address_of(reads: &dyn Reads, account: &AccountId) -> Result<Option<Address>, StorageError> {
    if let Some(row) = friendship::get(reads, account)? {
        return Ok(Some(row.address));
    }
    Ok(contacts::known(reads, account)?.map(|person| person.address))
}

const fn standing(relationship: Relationship) -> Option<Standing> {
    match relationship {
        Relationship::None => None,
        Relationship::Asked => Some(Standing::Asked),
        Relationship::Asking => Some(Standing::Asking),
        Relationship::Friends => Some(Standing::Friends),
        Relationship::Blocked => Some(Standing::Blocked),
    }
}

/// Asks somebody to be friends.
pub(crate) fn request<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    who: Who,
    note: Option<String>,
) -> Result<Option<Reply>, Halt> {
    if note.as_deref().is_some_and(|note| !friendship::fits(note)) {
        return Err(CommandError::TooLong { what: "the note", max: limits::NOTE_CHARS_MAX }.into());
    }
    meet(t, Meeting { ticket, who, intent: Intent::Say(Act::Request, note) });
    Ok(None)
}

/// Says yes to a request that is here.
pub(crate) fn accept<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
) -> Result<Option<Reply>, Halt> {
    match relationship(&t.rows, &account)? {
        Relationship::Asking => {}
        Relationship::Friends => return Ok(reply(&t.rows, account)?),
        _ => return Err(CommandError::Unknown.into()),
    }
    let address = address_of(&t.rows, &account)?.ok_or(CommandError::Unknown)?;
    let who = Who::Account(account, address.domain);
    meet(t, Meeting { ticket, who, intent: Intent::Say(Act::Accept, None) });
    Ok(None)
}

/// Ends it. Here at once: nobody's answer is needed for it.
pub(crate) fn remove<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
) -> Result<Option<Reply>, Halt> {
    let address = address_of(&t.rows, &account)?.ok_or(CommandError::Unknown)?;
    if relationship(&t.rows, &account)? == Relationship::Blocked {
        return Err(CommandError::State("they are blocked, and no friend".to_owned()).into());
    }
    part(t, &account)?;
    say(t, ticket, account, address, (Act::Remove, None))?;
    facts::note_contact(t, &account, None)?;
    Ok(None)
}

/// Takes a request off the list, or all.
pub(crate) fn decline<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: Option<AccountId>,
) -> Result<Option<Reply>, Halt> {
    let errand = Purpose::Errand(ticket, Box::new(Errand::Decline(account)));
    t.ask(errand, |request| Decline { request, account });
    Ok(None)
}

/// Keeps somebody away, or no longer.
pub(crate) fn block<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    who: Who,
    blocked: bool,
) -> Result<Option<Reply>, Halt> {
    if let Who::Account(account, _) = &who {
        if *account == t.rooms.identity.account() {
            return Err(CommandError::Oneself.into());
        }
        if let Some(address) = address_of(&t.rows, account)? {
            ask_block(t, ticket, *account, address, blocked);
            return Ok(None);
        }
    }
    meet(t, Meeting { ticket, who, intent: Intent::Block(blocked) });
    Ok(None)
}

fn ask_block<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, account: AccountId, address: Address, blocked: bool) {
    let domain = address.domain.clone();
    let errand = Purpose::Errand(ticket, Box::new(Errand::Block(account, address, blocked)));
    t.ask(errand, |request| Block { request, account, domain, blocked });
}

/// Whether a friend may see when the owner is there.
pub(crate) fn let_see<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
    allowed: bool,
) -> Result<Option<Reply>, Halt> {
    t.ask(Purpose::Errand(ticket, Box::new(Errand::Plain)), |request| LetSee { request, account, allowed });
    Ok(None)
}

/// Asks for the list, page by page.
pub(crate) fn list<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, so_far: Vec<Friend>) {
    let after = so_far.last().map(|friend| friend.account);
    let limit = u16::try_from(limits::FRIEND_PAGE_MAX).unwrap_or(u16::MAX);
    let errand = Purpose::Errand(ticket, Box::new(Errand::Friends(so_far)));
    t.ask(errand, |request| ListFriends { request, after, limit });
}

/// A page of the list came.
pub(crate) fn listed<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    mut so_far: Vec<Friend>,
    (page, more): (Vec<Friend>, bool),
) {
    let before = so_far.last().map(|friend| friend.account);
    let ascends =
        page.iter().map(|friend| Some(friend.account)).try_fold(before, |last, next| (next > last).then_some(next));
    let empty = page.is_empty();
    so_far.extend(page);
    if ascends.is_none() || so_far.len() > limits::FRIENDS_MAX {
        return t.answer(ticket, Err(CommandError::Untrusted("the relay's list goes round in circles".to_owned())));
    }
    if more && !empty { list(t, ticket, so_far) } else { t.answer(ticket, Ok(Reply::Friends(so_far))) }
}

/// Looks somebody up, for a command.
pub(crate) fn meet<E: Engine>(t: &mut Turn<'_, E>, meeting: Meeting) {
    let who = meeting.who.clone();
    t.ask(Purpose::Meet(Box::new(meeting)), |request| LookUp { request, who, hint: None });
}

/// Who somebody is came; their log must prove it.
pub(crate) fn met<E: Engine>(
    t: &mut Turn<'_, E>,
    meeting: Meeting,
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    let ticket = meeting.ticket;
    match met_as(t, meeting, address, log) {
        Ok(Some(reply)) => t.answer(ticket, Ok(reply)),
        Ok(None) => {}
        Err(Halt::Command(error)) => t.answer(ticket, Err(error)),
        Err(Halt::Broken(error)) => return Err(error),
    }
    Ok(())
}

fn met_as<E: Engine>(
    t: &mut Turn<'_, E>,
    meeting: Meeting,
    address: Address,
    log: Vec<u8>,
) -> Result<Option<Reply>, Halt> {
    let Meeting { ticket, who, intent } = meeting;
    let account = match &who {
        Who::Account(account, _) => *account,
        Who::Address(asked) if *asked != address => {
            return Err(CommandError::Untrusted("the relay answered for another address".to_owned()).into());
        }
        Who::Address(_) => {
            let verified = UnverifiedLog(log.clone()).verify();
            verified.map_err(|error| CommandError::Untrusted(format!("account log: {error}")))?.account()
        }
    };
    if account == t.rooms.identity.account() {
        return Err(CommandError::Oneself.into());
    }
    if let Who::Address(asked) = &who
        && contacts::other_at(&t.rows, asked, &account)?
    {
        return Err(CommandError::Untrusted("somebody else is known here by that address".to_owned()).into());
    }
    if let Who::Address(asked) = &who
        && contacts::known(&t.rows, &account)?.is_some_and(|known| known.address != *asked)
    {
        return Err(
            CommandError::Untrusted("that leads to somebody who is known here by another address".to_owned()).into()
        );
    }
    let judged = contacts::judge(&t.rows, account, who.domain(), address, log)?;
    let person = judged.map_err(|Distrust(why)| CommandError::Untrusted(why))?;
    // Whoever is known here is known by their newest log from now on, and the owner hears of another key.
    if contacts::known(&t.rows, &account)?.is_some() {
        t.keep(&person, false)?;
    }
    match intent {
        Intent::Block(blocked) => {
            ask_block(t, ticket, account, person.address, blocked);
            Ok(None)
        }
        Intent::Card(card) => own::take_card(t, &person.log, &card).map(Some),
        Intent::Say(act, note) => {
            match relationship(&t.rows, &account)? {
                Relationship::Blocked => {
                    return Err(CommandError::State("they are blocked; unblock them first".to_owned()).into());
                }
                Relationship::Friends => return Ok(reply(&t.rows, account)?),
                _ => {}
            }
            // Their words are held against this log, and threads with them begin from it.
            t.keep(&person, false)?;
            say(t, ticket, account, person.address, (act, note))?;
            Ok(None)
        }
    }
}

/// Signs a word and hands it in. How things stand is kept before it leaves: its answer may come before the relay's.
fn say<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
    address: Address,
    (act, note): (Act, Option<String>),
) -> Result<(), Halt> {
    let own = t.rooms.identity.address().cloned().ok_or(CommandError::NotRegistered)?;
    let before = friendship::get(&t.rows, &account)?;
    if before.is_none() && !friendship::make_room(&mut t.rows)? {
        let max = limits::FRIENDS_MAX;
        return Err(CommandError::State(format!("a list has at most {max} people")).into());
    }
    let mut row = before.clone().unwrap_or_else(|| friendship::fresh(address.clone(), Relationship::None, t.now.wall));
    // Of two words the later holds, also when the clock was set back.
    let at = t.now.wall.max(Wall::from_millis(row.said.as_millis().saturating_add(1)));
    (row.said, row.address) = (at, address.clone());
    match (act, row.standing) {
        (Act::Request, Relationship::None) => (row.standing, row.since) = (Relationship::Asked, t.now.wall),
        (Act::Remove, _) => {
            (row.standing, row.since, row.note) = (Relationship::None, t.now.wall, None);
            row.parted = Some(NOT_KNOWN);
        }
        _ => {}
    }
    friendship::put(&mut t.rows, &account, &row);
    let by = t.rooms.identity.id();
    let word = FriendshipWord { by, address: own, to: account, act, at, note };
    let word = signed::sign(&t.rooms.identity.device, by, FRIENDSHIP_CONTEXT, encode_words(&word));
    let (domain, errand) = (address.domain, Errand::Say(account, act, before));
    t.ask(Purpose::Errand(ticket, Box::new(errand)), |request| Befriend { request, domain, word });
    Ok(())
}

/// Our relay has it that the owner parted with somebody, from this place of the inbox log on.
pub(crate) fn parted<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId, inbox: Sequence) -> Result<(), StorageError> {
    if let Some(row) = friendship::get(&t.rows, account)?
        && let Some(known) = row.parted
    {
        let parted = Some(if known == NOT_KNOWN { inbox } else { known.max(inbox) });
        friendship::put(&mut t.rows, account, &FriendRow { parted, ..row });
        facts::note_parted(t, account)?;
    }
    Ok(())
}

/// Says again that the owner parted with somebody, where no answer came: until one does, nothing that they invite the owner
/// to is followed, however new.
pub(crate) fn part_again<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Some(own) = t.rooms.identity.address().cloned() else { return Ok(()) };
    let mut unknown = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Friend), |(key, value)| {
        let row: FriendRow = rows::decode(&key, &value)?;
        if row.standing == Relationship::None && row.parted == Some(NOT_KNOWN) {
            unknown.extend(rows::id_in_key(&key).map(|id| (AccountId::from_bytes(id), row)));
        }
        Ok(())
    })?;
    for (account, mut row) in unknown.into_iter().take(limits::FRIEND_PAGE_MAX) {
        row.said = t.now.wall.max(Wall::from_millis(row.said.as_millis().saturating_add(1)));
        friendship::put(&mut t.rows, &account, &row);
        let by = t.rooms.identity.id();
        let word = FriendshipWord { by, address: own.clone(), to: account, act: Act::Remove, at: row.said, note: None };
        let word = signed::sign(&t.rooms.identity.device, by, FRIENDSHIP_CONTEXT, encode_words(&word));
        let domain = row.address.domain;
        t.ask(Purpose::PartAgain(account), |request| Befriend { request, domain, word });
    }
    Ok(())
}

/// The relay did what a word of ours says.
pub(crate) fn said<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
    act: Act,
) -> Result<(), StorageError> {
    if let Some(mut row) = friendship::get(&t.rows, &account)?
        && act != Act::Remove
        && row.standing == Relationship::Asking
    {
        (row.standing, row.since, row.note) = (Relationship::Friends, t.now.wall, None);
        row.parted = None;
        friendship::put(&mut t.rows, &account, &row);
        agreed(t, account)?;
    }
    let result = reply(&t.rows, account)?.ok_or(CommandError::Unknown);
    t.answer(ticket, result);
    Ok(())
}

/// The relay did not: for good, or perhaps (it may have done its own part before another relay was out of reach).
pub(crate) fn not_said<E: Engine>(
    t: &mut Turn<'_, E>,
    (account, act): (AccountId, Act),
    before: Option<FriendRow>,
    code: RefusalCode,
    again: bool,
) -> Result<(), StorageError> {
    if act == Act::Remove || again {
        return Ok(());
    }
    let Some(row) = friendship::get(&t.rows, &account)? else { return Ok(()) };
    let standing = match (act, before.map_or(Relationship::None, |before| before.standing)) {
        // It was taken back.
        (Act::Accept, Relationship::Asking) if code == RefusalCode::NotFound => Relationship::None,
        (_, standing) => standing,
    };
    if matches!(row.standing, Relationship::Asked | Relationship::Asking) {
        friendship::put(&mut t.rows, &account, &FriendRow { standing, ..row });
    }
    Ok(())
}

/// Requests were taken off the list.
pub(crate) fn declined<E: Engine>(t: &mut Turn<'_, E>, account: Option<AccountId>) -> Result<(), StorageError> {
    let mut asking = Vec::new();
    rows::each(&t.rows, &rows::space(Space::Friend), |(key, value)| {
        let row: FriendRow = rows::decode(&key, &value)?;
        let wanted = account.is_none_or(|account| key == rows::friend_key(&account));
        if wanted && row.standing == Relationship::Asking {
            asking.push((key, row));
        }
        Ok(())
    })?;
    for (key, row) in asking {
        rows::put(&mut t.rows, key, &FriendRow { standing: Relationship::None, note: None, ..row });
    }
    // Those that are not proved yet are declined, too.
    let waits: Vec<WordId> = t.rooms.friendship.waiting.keys().copied().collect();
    for id in waits {
        let Some((signed, word)) = waiting(t, id)? else { continue };
        if word.act == Act::Request && account.is_none_or(|account| account == signed.by.account) {
            forget(t, id);
        }
    }
    Ok(())
}

/// Somebody is kept away, or no longer.
pub(crate) fn blocked<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    (account, address): (AccountId, Address),
    blocked: bool,
) -> Result<(), StorageError> {
    let known = friendship::get(&t.rows, &account)?;
    if known.is_none() && !friendship::make_room(&mut t.rows)? {
        let max = limits::FRIENDS_MAX;
        t.answer(ticket, Err(CommandError::State(format!("a list has at most {max} people"))));
        return Ok(());
    }
    let row = known.unwrap_or_else(|| friendship::fresh(address.clone(), Relationship::None, t.now.wall));
    let row = FriendRow { parted: if blocked { Some(NOT_KNOWN) } else { row.parted }, ..row };
    set_blocked(t, &account, row, blocked)?;
    facts::note_contact(t, &account, None)?;
    facts::note(t, What::Blocked(account, address, blocked), None)?;
    let result = reply(&t.rows, account)?.ok_or(CommandError::Unknown);
    t.answer(ticket, result);
    Ok(())
}

/// How things stand with somebody, once they are kept away or no longer.
pub(crate) fn set_blocked<E: Engine>(
    t: &mut Turn<'_, E>,
    account: &AccountId,
    mut row: FriendRow,
    blocked: bool,
) -> Result<(), StorageError> {
    if blocked {
        part(t, account)?;
        (row.standing, row.since, row.note) = (Relationship::Blocked, t.now.wall, None);
    } else if row.standing == Relationship::Blocked {
        (row.standing, row.since) = (Relationship::None, t.now.wall);
    }
    friendship::put(&mut t.rows, account, &row);
    Ok(())
}

/// Consent is over: nobody is written to by it, and nothing of theirs comes by the direct path any more.
pub(crate) fn part<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    contacts::not_a_contact(&mut t.rows, account)?;
    direct::part(t, account)?;
    join::part(t, account)
}

fn reply(reads: &dyn Reads, account: AccountId) -> Result<Option<Reply>, StorageError> {
    let standing = standing(relationship(reads, &account)?);
    Ok(address_of(reads, &account)?.map(|address| Reply::Friend { account, address, standing }))
}

/// Both agreed: a thread can be begun.
fn agreed<E: Engine>(t: &mut Turn<'_, E>, account: AccountId) -> Result<(), StorageError> {
    let Some(person) = contacts::known(&t.rows, &account)? else { return Ok(()) };
    let new = !contacts::is_contact(&t.rows, &account)?;
    t.keep(&person, true)?;
    if new {
        t.event(Event::ContactAdded { account, address: person.address });
    }
    let at = heard_at(&t.rows, &account)?;
    facts::note_contact(t, &account, at)
}

/// When the newest word between us and somebody was said: a device that hears it late has no later word than the others.
fn heard_at(reads: &dyn Reads, account: &AccountId) -> Result<Option<Hlc>, StorageError> {
    let row = friendship::get(reads, account)?;
    Ok(row.map(|row| Hlc { millis: row.heard.max(row.said).as_millis().min(facts::LATEST), count: 0 }))
}

/// Consent came by an invite: a request between the two is answered by it.
pub(crate) fn met_by_invite<E: Engine>(t: &mut Turn<'_, E>, account: &AccountId) -> Result<(), StorageError> {
    let Some(row) = friendship::get(&t.rows, account)? else { return Ok(()) };
    match row.standing {
        Relationship::Asked | Relationship::Asking => {
            let (standing, since) = (Relationship::Friends, t.now.wall);
            friendship::put(&mut t.rows, account, &FriendRow { standing, since, note: None, parted: None, ..row });
        }
        // That the owner parted with them before is not said again.
        Relationship::None if row.parted.is_some() => {
            friendship::put(&mut t.rows, account, &FriendRow { parted: None, ..row });
        }
        Relationship::None | Relationship::Friends | Relationship::Blocked => {}
    }
    Ok(())
}

/// A word came. It is kept before anything else, so that a crash loses nothing.
pub(crate) fn heard<E: Engine>(t: &mut Turn<'_, E>, signed: Signed) -> Result<(), StorageError> {
    let account = signed.by.account;
    let Ok(word) = decode_words::<FriendshipWord>(&signed.content) else {
        refuse(t, account, "of no known shape");
        return Ok(());
    };
    if word.by != signed.by || word.to != t.rooms.identity.account() || account == word.to {
        refuse(t, account, "not from whom, or not for whom, it says");
        return Ok(());
    }
    let id = WordId::of(&signed);
    if is_stale(&t.rows, &word)? || t.rooms.friendship.waiting.contains_key(&id) {
        return Ok(());
    }
    // The inbox log does not stand still for words that nobody can prove: the one tried in vain most often makes room.
    if t.rooms.friendship.waiting.len() >= limits::FRIEND_PAGE_MAX
        && let Some(hopeless) = t.rooms.friendship.most_tried()
    {
        if let Some((signed, _)) = waiting(t, hopeless)? {
            refuse(t, signed.by.account, "its author could not be looked up, and others wait");
        }
        forget(t, hopeless);
    }
    rows::put(&mut t.rows, rows::word_key(id.as_bytes()), &WordRow { word: signed });
    t.rooms.friendship.waiting.insert(id, 0);
    prove_all(t)
}

/// Whether a later word of the same account was heard, or this very one.
fn is_stale(reads: &dyn Reads, word: &FriendshipWord) -> Result<bool, StorageError> {
    Ok(friendship::get(reads, &word.by.account)?.is_some_and(|row| word.at <= row.heard))
}

/// Looks up the authors of words that wait, a bounded number at once.
pub(crate) fn prove_all<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rooms.reception.admitted().is_none() {
        return Ok(());
    }
    let room = limits::JOININGS_MAX.saturating_sub(t.rooms.friendship.asked.len());
    let rooms = &t.rooms;
    let idle = |id: &&WordId| !rooms.friendship.asked.contains(*id) && !rooms.timers.is_set(Timer::Word(**id));
    let next: Vec<WordId> = rooms.friendship.waiting.keys().filter(idle).take(room).copied().collect();
    for id in next {
        let Some((_, word)) = waiting(t, id)? else { continue };
        t.rooms.friendship.asked.insert(id);
        let account = word.by.account;
        let who = Who::Account(account, word.address.domain);
        t.ask(Purpose::LookUp(Asker::Word(id), account), |request| LookUp { request, who, hint: None });
    }
    Ok(())
}

fn waiting<E: Engine>(t: &mut Turn<'_, E>, id: WordId) -> Result<Option<(Signed, FriendshipWord)>, StorageError> {
    let key = rows::word_key(id.as_bytes());
    let row: Option<WordRow> = rows::get(&t.rows, &key)?;
    let Some(WordRow { word: signed }) = row else {
        t.rooms.friendship.waiting.remove(&id);
        return Ok(None);
    };
    let word = decode_words(&signed.content).map_err(|error| rows::damaged(&key, error))?;
    Ok(Some((signed, word)))
}

/// A word's author was looked up.
pub(crate) fn looked_up<E: Engine>(
    t: &mut Turn<'_, E>,
    id: WordId,
    address: Address,
    log: Vec<u8>,
) -> Result<(), StorageError> {
    let Some((signed, word)) = waiting(t, id)? else { return Ok(()) };
    let account = word.by.account;
    let judged = contacts::judge(&t.rows, account, &word.address.domain, address, log)?;
    let proved = judged.map_err(|Distrust(why)| why).and_then(|person| {
        if person.address != word.address {
            return Err("found under another address than it says".to_owned());
        }
        match signed::verify_in(&person.log, FRIENDSHIP_CONTEXT, &signed) {
            Ok(()) => Ok(person),
            Err(_) => Err("not signed by a device of the account".to_owned()),
        }
    });
    match proved {
        Ok(person) => act_on(t, &person, word)?,
        Err(why) => refuse(t, account, &why),
    }
    settle(t, id)
}

/// A word's author could not be looked up; for now, or for good.
pub(crate) fn unproved<E: Engine>(
    t: &mut Turn<'_, E>,
    id: WordId,
    again: Option<Duration>,
    why: &str,
) -> Result<(), StorageError> {
    t.rooms.friendship.asked.remove(&id);
    let Some(delay) = again else {
        if let Some((signed, _)) = waiting(t, id)? {
            refuse(t, signed.by.account, why);
        }
        return settle(t, id);
    };
    if let Some(attempts) = t.rooms.friendship.waiting.get_mut(&id) {
        let wait = backoff(*attempts, t.chance).max(delay);
        *attempts = attempts.saturating_add(1);
        t.rooms.timers.set(Timer::Word(id), t.now.monotonic.plus(wait));
    }
    prove_all(t)
}

/// A proved word changes how things stand.
fn act_on<E: Engine>(t: &mut Turn<'_, E>, person: &Person, word: FriendshipWord) -> Result<(), StorageError> {
    let account = word.by.account;
    if is_stale(&t.rows, &word)? {
        return Ok(());
    }
    let known = friendship::get(&t.rows, &account)?;
    let (standing, effect) = friendship::after(word.act, relationship(&t.rows, &account)?);
    if known.is_none() {
        match effect {
            Effect::Unasked => {
                refuse(t, account, "it accepts what nobody asked here");
                return Ok(());
            }
            Effect::None => return Ok(()),
            _ if !friendship::make_room(&mut t.rows)? => {
                refuse(t, account, "the list is full");
                return Ok(());
            }
            _ => {}
        }
    }
    let row = known.unwrap_or_else(|| friendship::fresh(word.address.clone(), Relationship::None, t.now.wall));
    let since = if row.standing == standing { row.since } else { t.now.wall };
    let note = if standing == Relationship::Asking { word.note } else { None };
    let address = word.address;
    let row = FriendRow { address: address.clone(), standing, heard: word.at, since, note: note.clone(), ..row };
    friendship::put(&mut t.rows, &account, &row);
    match effect {
        Effect::None => {}
        Effect::Requested => {
            let waiting = friendship::asking(&t.rows)?;
            t.event(Event::FriendRequest { account, address, note, waiting });
        }
        Effect::Agreed => {
            t.keep(person, false)?;
            t.event(Event::FriendAccepted { account, address });
            agreed(t, account)?;
        }
        Effect::Ended => {
            part(t, &account)?;
            let at = heard_at(&t.rows, &account)?;
            facts::note_contact(t, &account, at)?;
            t.event(Event::FriendRemoved { account });
        }
        Effect::Unasked => refuse(t, account, "it accepts what nobody asked here"),
    }
    Ok(())
}

fn refuse<E: Engine>(t: &mut Turn<'_, E>, account: AccountId, why: &str) {
    warn!(why, "a word about friendship was refused");
    t.event(Event::FriendRefused { account, reason: why.to_owned() });
}

/// A word is dealt with; others may wait for their turn.
fn settle<E: Engine>(t: &mut Turn<'_, E>, id: WordId) -> Result<(), StorageError> {
    forget(t, id);
    prove_all(t)
}

fn forget<E: Engine>(t: &mut Turn<'_, E>, id: WordId) {
    t.rows.delete(rows::word_key(id.as_bytes()));
    t.rooms.friendship.waiting.remove(&id);
    t.rooms.friendship.asked.remove(&id);
    t.rooms.timers.clear(Timer::Word(id));
}
