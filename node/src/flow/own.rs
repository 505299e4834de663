//! Own: the owner's card, invites, visibility, data, wake-ups, and the end of the account.
//! In order: a command becomes one question to the relay, its answer one to the owner. A card is believed only once it is
//! proved by its account's log, and never one older than the newest that was.
//! Rules: docs/protocol/user.md, presence.md, wake.md.

use tracing::info;
use whimbrel_crypto::{AccountLog, Engine, signed};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::id::{AccountId, TokenHash};
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::SetVisible;
use whimbrel_protocol::reception::{Heartbeat, HeartbeatAnswer};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::user::{
    CARD_CONTEXT, Card, DeleteAccount, ExportOwn, FetchProfile, ListInvites, RevokeInvite, SetProfile, Who,
};
use whimbrel_protocol::wake::{ConfirmWake, SetWake, WakeEndpoint};
use whimbrel_storage::planted::{self, Bug};
use whimbrel_storage::{Reads, StorageError};

use super::{answers, befriend, connect, pass};
use crate::api::{Command, CommandError, Event, Reply, Ticket};
use crate::contacts;
use crate::reception::Home;
use crate::requests::{Errand, Intent, Meeting, Purpose};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, CardRow, Single};
use crate::timers::Timer;

fn errand(ticket: Ticket, errand: Errand) -> Purpose {
    Purpose::Errand(ticket, Box::new(errand))
}

/// Lists the open invites.
pub(crate) fn invites<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket) {
    t.ask(errand(ticket, Errand::Invites), |request| ListInvites { request });
}

/// Takes an invite back.
pub(crate) fn revoke<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, token: TokenHash) {
    pass::unmake(&mut t.rows, &token);
    t.ask(errand(ticket, Errand::Plain), |request| RevokeInvite { request, token });
}

/// Shows the account to be there, or to nobody.
pub(crate) fn set_visible<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, visible: bool) {
    t.ask(errand(ticket, Errand::Plain), |request| SetVisible { request, visible });
}

/// Names where this device is woken.
pub(crate) fn set_wake<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    endpoint: Option<WakeEndpoint>,
) -> Result<(), CommandError> {
    if endpoint.as_ref().is_some_and(|endpoint| endpoint.check().is_err()) {
        return Err(CommandError::TooLong { what: "the endpoint", max: limits::WAKE_URL_BYTES_MAX });
    }
    t.ask(errand(ticket, Errand::Plain), |request| SetWake { request, endpoint });
    Ok(())
}

/// Confirms that wake-ups arrive there.
pub(crate) fn confirm_wake<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, code: [u8; 16]) {
    t.ask(errand(ticket, Errand::Plain), |request| ConfirmWake { request, code });
}

/// Puts the own card up.
pub(crate) fn set_card<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    display: String,
    about: Option<String>,
) -> Result<Option<Reply>, Halt> {
    let account = t.rooms.identity.account();
    let before: Option<CardRow> = rows::get(&t.rows, &rows::card_key(&account))?;
    // By the clock, so that of two devices' cards the later one holds; never twice the same.
    let revision = t.now.wall.as_millis().max(before.map_or(0, |row| row.revision).saturating_add(1));
    let about_bytes = about.as_deref().map_or(0, str::len);
    for (what, bytes, max) in [
        ("the name", display.len(), limits::DISPLAY_BYTES_MAX),
        ("the line about oneself", about_bytes, limits::NOTE_BYTES_MAX),
    ] {
        if bytes > max {
            return Err(CommandError::TooLong { what, max }.into());
        }
    }
    let card = Card { account, revision, display, about };
    let signed = signed::sign(&t.rooms.identity.device, t.rooms.identity.id(), CARD_CONTEXT, encode_words(&card));
    let row = CardRow { revision, display: card.display, about: card.about };
    t.ask(errand(ticket, Errand::SetCard(row)), |request| SetProfile { request, revision, card: signed });
    Ok(None)
}

/// The own card is up.
pub(crate) fn card_set<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, row: CardRow) {
    let account = t.rooms.identity.account();
    rows::put(&mut t.rows, rows::card_key(&account), &row);
    t.answer(ticket, Ok(reply(account, row)));
}

fn reply(account: AccountId, row: CardRow) -> Reply {
    let CardRow { revision, display, about } = row;
    Reply::Profile(Card { account, revision, display, about })
}

/// Asks for a card.
pub(crate) fn card<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, account: AccountId) -> Result<Option<Reply>, Halt> {
    let domain = if account == t.rooms.identity.account() {
        t.rooms.identity.relay().domain
    } else {
        contacts::known(&t.rows, &account)?.ok_or(CommandError::Unknown)?.address.domain
    };
    t.ask(errand(ticket, Errand::Card(account)), |request| FetchProfile { request, account, domain });
    Ok(None)
}

/// A card came; the log known here proves it, or a newer one has to.
pub(crate) fn fetched<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    account: AccountId,
    card: Signed,
) -> Result<(), StorageError> {
    let own = account == t.rooms.identity.account();
    let known = if own { None } else { contacts::known(&t.rows, &account)? };
    let log = if own { Some(t.rooms.identity.log.clone()) } else { known.as_ref().map(|person| person.log.clone()) };
    let result = match (log, known) {
        _ if card.by.account != account => Err(untrusted("the card is another account's").into()),
        (Some(log), known) => match known {
            Some(person) if log.device(card.by.index).is_none() => {
                let who = Who::Account(account, person.address.domain);
                befriend::meet(t, Meeting { ticket, who, intent: Intent::Card(card) });
                return Ok(());
            }
            _ => take_card(t, &log, &card),
        },
        (None, _) => Err(CommandError::Unknown.into()),
    };
    match result {
        Ok(reply) => t.answer(ticket, Ok(reply)),
        Err(Halt::Command(error)) => t.answer(ticket, Err(error)),
        Err(Halt::Broken(error)) => return Err(error),
    }
    Ok(())
}

/// Holds a card against its account's log, and keeps it unless a newer one was.
pub(crate) fn take_card<E: Engine>(t: &mut Turn<'_, E>, log: &AccountLog, card: &Signed) -> Result<Reply, Halt> {
    let read: Card = decode_words(&card.content).map_err(|_| untrusted("the card is malformed"))?;
    let account = log.account();
    let signed = planted::active(Bug::CardUnproved) || signed::verify_in(log, CARD_CONTEXT, card).is_ok();
    if read.account != account || !signed {
        return Err(untrusted("the card is not signed by a device of its account").into());
    }
    let key = rows::card_key(&account);
    let before: Option<CardRow> = rows::get(&t.rows, &key)?;
    let row = match before {
        // An old one, whoever shows it again: the newest holds.
        Some(before) if before.revision >= read.revision => before,
        _ => {
            let row = CardRow { revision: read.revision, display: read.display, about: read.about };
            rows::put(&mut t.rows, key, &row);
            row
        }
    };
    Ok(reply(account, row))
}

fn untrusted(why: &str) -> CommandError {
    CommandError::Untrusted(why.to_owned())
}

/// Asks for a part of what the relay keeps.
pub(crate) fn export<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, after: Vec<u8>) -> Result<(), CommandError> {
    if after.len() > limits::EXPORT_PLACE_BYTES_MAX {
        return Err(CommandError::TooLong { what: "the place", max: limits::EXPORT_PLACE_BYTES_MAX });
    }
    t.ask(errand(ticket, Errand::Export), |request| ExportOwn { request, after });
    Ok(())
}

/// Deletes the account at its relay. That it is asked for is kept: the answer may be lost with the links that the deletion ends.
pub(crate) fn delete<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket) {
    let account = t.rooms.identity.account();
    t.rows.put(rows::single_key(Single::Deleting), Vec::new());
    t.ask(errand(ticket, Errand::Delete), |request| DeleteAccount { request, account });
}

/// The account is gone at the relay: it is asked for nothing any more.
pub(crate) fn deleted<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket) -> Result<(), StorageError> {
    t.answer(ticket, Ok(Reply::Done));
    gone(t)
}

/// The relay did not delete it.
pub(crate) fn not_deleted<E: Engine>(t: &mut Turn<'_, E>) {
    t.rows.delete(rows::single_key(Single::Deleting));
}

/// The relay knows this device no more. True: as it was asked to.
pub(crate) fn unknown_as_asked<E: Engine>(t: &mut Turn<'_, E>) -> Result<bool, StorageError> {
    if t.rows.get(&rows::single_key(Single::Deleting))?.is_none() {
        return Ok(false);
    }
    gone(t).map(|()| true)
}

fn gone<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    info!("the account was deleted at its relay");
    t.rows.put(rows::single_key(Single::Deleted), Vec::new());
    t.rows.delete(rows::single_key(Single::Deleting));
    connect::abandon(t, "the account is deleted")?;
    at_an_end(t);
    Ok(())
}

/// There is no account at the relay to connect for.
pub(crate) fn at_an_end<E: Engine>(t: &mut Turn<'_, E>) {
    t.rooms.timers.clear(Timer::Connect);
    t.rooms.reception.home = Home::Rejected(RefusalCode::NotAuthenticated);
    t.event(Event::AccountDeleted);
    for (ticket, command) in std::mem::take(&mut t.rooms.reception.waiting) {
        t.answer(
            ticket,
            match command {
                Command::DeleteAccount => Ok(Reply::Done),
                _ => Err(CommandError::Refused(RefusalCode::NotAuthenticated)),
            },
        );
    }
}

/// Says who is there; asks when nothing was told on this link yet.
pub(crate) fn presence<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket) -> Result<Option<Reply>, Halt> {
    if t.rooms.presence.is_known() {
        return Ok(Some(Reply::Presence(t.rooms.presence.online())));
    }
    let Some(link) = t.rooms.reception.admitted() else {
        return Err(CommandError::Unreachable(t.rooms.reception.reason.clone()).into());
    };
    if !t.rooms.presence.wait(ticket) {
        return Err(CommandError::State("too many commands wait for this already".to_owned()).into());
    }
    let (touches, statuses) = (t.rooms.reception.take_touches(), t.rooms.presence.version());
    t.send(link, Heartbeat { touches, statuses });
    Ok(None)
}

/// The relay told who came or went. Of people we have no consent with it has nothing to tell.
pub(crate) fn told<E: Engine>(t: &mut Turn<'_, E>, words: HeartbeatAnswer) -> Result<(), StorageError> {
    t.rooms.reception.clock = Some((words.wall, t.now.monotonic));
    answers::stock_what_is_due(t)?;
    let mut friends = Vec::new();
    for status in words.statuses {
        if !status.online || contacts::is_contact(&t.rows, &status.account)? {
            friends.push(status);
        }
    }
    for status in t.rooms.presence.told(words.version, friends) {
        t.event(Event::Presence { account: status.account, online: status.online });
    }
    for ticket in t.rooms.presence.take_waiting() {
        let online = t.rooms.presence.online();
        t.answer(ticket, Ok(Reply::Presence(online)));
    }
    Ok(())
}
