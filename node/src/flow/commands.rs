//! Commands: what the owner asks for, each answered once.
//! Owns: which can be done without the relay, and what becomes of the others while it is out of reach.

use std::time::Duration;

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{AccountId, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::NewInvite;
use whimbrel_storage::{Order, Reads, StorageError};

use super::{
    about, account, befriend, direct, facts, group, link, open, own, pass, picture, read, receipts, send, settings,
    signal, stamp, strangers,
};
use crate::api::{Command, CommandError, Reply, Status, Ticket};
use crate::contacts;
use crate::reception::Home;
use crate::requests::Purpose;
use crate::rooms::{Halt, Turn};
use crate::rows::{self, PlaceRow, SeenRow, Single};
use crate::thread;
use crate::{user, views};

/// Does a command, or begins it; its answer comes now or later, once.
pub(crate) fn run<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, command: Command) -> Result<(), StorageError> {
    // Asked for again by whoever did not hear that it is done.
    if matches!(command, Command::DeleteAccount) && t.rows.get(&rows::single_key(Single::Deleted))?.is_some() {
        t.answer(ticket, Ok(Reply::Done));
        return Ok(());
    }
    if seals(&command)
        && let Err(error) = stamp::check(t)
    {
        t.answer(ticket, Err(error));
        return Ok(());
    }
    let done = match needs_relay(t, &command)? {
        true => match wait_or_fail(t, ticket, &command) {
            Ok(true) => return Ok(()),
            Ok(false) => with_relay(t, ticket, command),
            Err(error) => Err(error.into()),
        },
        false => alone(t, ticket, command),
    };
    match done {
        Ok(Some(reply)) => t.answer(ticket, Ok(reply)),
        Ok(None) => {}
        Err(Halt::Command(error)) => t.answer(ticket, Err(error)),
        Err(Halt::Broken(error)) => return Err(error),
    }
    Ok(())
}

/// Whether something is sealed for it in a thread that is here.
const fn seals(command: &Command) -> bool {
    matches!(
        command,
        Command::Send { .. }
            | Command::Say { .. }
            | Command::Edit { .. }
            | Command::Unsend { .. }
            | Command::React { .. }
            | Command::SetTimer { .. }
            | Command::SendTo { .. }
            | Command::LeaveGroup { .. }
            | Command::RenameGroup { .. }
            | Command::SetPicture { .. }
            | Command::OfferDirect { .. }
            | Command::Signal { .. }
    )
}

fn needs_relay<E: Engine>(t: &Turn<'_, E>, command: &Command) -> Result<bool, StorageError> {
    Ok(match command {
        Command::NewInvite { .. }
        | Command::Befriend { .. }
        | Command::AcceptFriend(_)
        | Command::RemoveFriend(_)
        | Command::DeclineFriend(_)
        | Command::Block { .. }
        | Command::LetSee { .. }
        | Command::Friends
        | Command::Presence
        | Command::SetVisible(_)
        | Command::Invites
        | Command::RevokeInvite(_)
        | Command::SetProfile { .. }
        | Command::Profile(_)
        | Command::Export { .. }
        | Command::DeleteAccount
        | Command::SetWake(_)
        | Command::ConfirmWake(_)
        | Command::CreateGroup { .. }
        | Command::AddMembers { .. }
        | Command::RemoveMembers { .. }
        | Command::SetPolicy { .. }
        | Command::RenewKeys { .. }
        | Command::RotateIdentity { .. }
        | Command::SetRecovery { .. }
        | Command::ApproveDevice { .. }
        | Command::RevokeDevice(_)
        | Command::RenameDevice { .. } => true,
        Command::AcceptInvite(invite) => {
            invite.account != t.rooms.identity.account() && open::met(t, invite.account)?.is_none()
        }
        Command::SendTo { people, .. } => open::existing(t, others(t, people))?.is_none(),
        Command::Send { .. }
        | Command::Say { .. }
        | Command::Edit { .. }
        | Command::Unsend { .. }
        | Command::React { .. }
        | Command::SetTimer { .. }
        | Command::MarkRead { .. }
        | Command::OfferDirect { .. }
        | Command::Signal { .. }
        | Command::Status
        | Command::Verify { .. }
        | Command::LeaveGroup { .. }
        | Command::RenameGroup { .. }
        | Command::SetPicture { .. }
        | Command::SetThread { .. } => false,
    })
}

fn others<E: Engine>(t: &Turn<'_, E>, people: &[AccountId]) -> Vec<AccountId> {
    let own = t.rooms.identity.account();
    people.iter().filter(|account| **account != own).copied().collect()
}

/// While the relay is out of reach: `true` when the command waits for an attempt that is under way.
fn wait_or_fail<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, command: &Command) -> Result<bool, CommandError> {
    let reception = &mut t.rooms.reception;
    match &reception.home {
        Home::Admitted { stamped: true, .. } => return Ok(false),
        Home::Rejected(code) => return Err(CommandError::Refused(*code)),
        Home::Down if reception.attempts > 0 => return Err(CommandError::Unreachable(reception.reason.clone())),
        Home::Down
        | Home::Connecting
        | Home::Registering { .. }
        | Home::Greeting { .. }
        | Home::Admitted { stamped: false, .. } => {}
    }
    if reception.waiting.len() >= limits::COMMANDS_WAITING_MAX {
        return Err(CommandError::State("too many commands wait for the relay already".to_owned()));
    }
    reception.waiting.push_back((ticket, command.clone()));
    Ok(true)
}

fn with_relay<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, command: Command) -> Result<Option<Reply>, Halt> {
    match command {
        Command::NewInvite { uses, holds, group } => new_invite(t, ticket, (uses, holds), group).map(|()| None),
        Command::AcceptInvite(invite) => open::accept(t, ticket, invite),
        Command::SendTo { people, text } => open::send_to(t, ticket, &people, text),
        Command::Befriend { who, note } => befriend::request(t, ticket, who, note),
        Command::AcceptFriend(account) => befriend::accept(t, ticket, account),
        Command::RemoveFriend(account) => befriend::remove(t, ticket, account),
        Command::DeclineFriend(account) => befriend::decline(t, ticket, account),
        Command::Block { who, blocked } => befriend::block(t, ticket, who, blocked),
        Command::LetSee { account, allowed } => befriend::let_see(t, ticket, account, allowed),
        Command::CreateGroup { title, people } => group::create(t, ticket, title, &people),
        Command::AddMembers { thread, people } => group::add(t, ticket, thread, &people),
        Command::RemoveMembers { thread, people } => group::remove(t, ticket, thread, &people),
        Command::SetPolicy { thread, change } => group::set_policy(t, ticket, thread, change),
        Command::RenewKeys { thread } => group::renew(t, ticket, thread),
        Command::Presence => own::presence(t, ticket),
        Command::SetProfile { display, about } => own::set_card(t, ticket, display, about),
        Command::Profile(account) => own::card(t, ticket, account),
        other => asked(t, ticket, other),
    }
}

/// What is one question and its answer.
fn asked<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, command: Command) -> Result<Option<Reply>, Halt> {
    match command {
        Command::Friends => befriend::list(t, ticket, Vec::new()),
        Command::SetVisible(visible) => own::set_visible(t, ticket, visible),
        Command::Invites => own::invites(t, ticket),
        Command::RevokeInvite(token) => own::revoke(t, ticket, token),
        Command::Export { after } => own::export(t, ticket, after)?,
        Command::DeleteAccount => own::delete(t, ticket),
        Command::SetWake(endpoint) => own::set_wake(t, ticket, endpoint)?,
        Command::RotateIdentity { words, next } => account::rotate(t, ticket, &words, next)?,
        Command::SetRecovery { words, next } => account::set_recovery(t, ticket, &words, next)?,
        Command::ApproveDevice { code, limited } => link::approve(t, ticket, &code, limited)?,
        Command::RevokeDevice(index) => account::revoke(t, ticket, index)?,
        Command::RenameDevice { index, label } => account::rename(t, ticket, index, &label)?,
        Command::ConfirmWake(code) => own::confirm_wake(t, ticket, code),
        other => return alone(t, ticket, other),
    }
    Ok(None)
}

fn alone<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, command: Command) -> Result<Option<Reply>, Halt> {
    match command {
        Command::Send { thread, text } => send::text(t, thread, text).map(Some),
        Command::Say { thread, draft } => send::draft(t, thread, draft).map(Some),
        Command::Edit { of, text } => about::edit(t, of, text).map(Some),
        Command::Unsend { of } => about::unsend(t, of).map(Some),
        Command::React { to, sign, stands } => about::react(t, to, sign, stands).map(Some),
        Command::SetTimer { thread, lasts } => about::set_timer(t, thread, lasts).map(Some),
        Command::MarkRead { thread, upto } => mark_read(t, thread, upto).map(|()| Some(Reply::Done)),
        Command::OfferDirect { thread } => direct::offer_now(t, thread).map(|()| Some(Reply::Done)),
        Command::Signal { thread, what } => signal::say(t, thread, what).map(Some),
        Command::Status => Ok(Some(Reply::Status(status(t)))),
        Command::SetThread { thread, change } => settings::change(t, thread, change).map(Some),
        Command::Verify { account, verified } => match contacts::verify(&mut t.rows, &account, verified, t.now.wall)? {
            Some(key) => {
                facts::note(t, What::Verified(account, key), None)?;
                Ok(Some(Reply::Done))
            }
            None => Err(CommandError::Unknown.into()),
        },
        Command::LeaveGroup { thread } => group::leave(t, thread).map(Some),
        Command::RenameGroup { thread, title } => group::rename(t, thread, title).map(Some),
        Command::SetPicture { thread, picture } => picture::set(t, thread, picture).map(Some),
        Command::AcceptInvite(invite) => open::accept(t, ticket, invite),
        Command::SendTo { people, text } => open::send_to(t, ticket, &people, text),
        _ => Err(CommandError::NotRegistered.into()),
    }
}

fn new_invite<E: Engine>(
    t: &mut Turn<'_, E>,
    ticket: Ticket,
    (uses, holds): (u32, Duration),
    group: Option<ThreadId>,
) -> Result<(), Halt> {
    if uses == 0 || uses > limits::INVITE_USES_MAX {
        let max = limits::INVITE_USES_MAX;
        return Err(CommandError::State(format!("an invite has 1 to {max} uses")).into());
    }
    let address = t.rooms.identity.address().cloned().ok_or(CommandError::NotRegistered)?;
    let relay = t.rooms.identity.relay();
    let invite = user::invite(t.chance, t.rooms.identity.account(), address, relay);
    let token = invite.token.hash();
    let holds = u64::try_from(holds.as_millis()).unwrap_or(u64::MAX);
    let expires = Wall::from_millis(t.now.wall.as_millis().saturating_add(holds));
    let invite = match group {
        Some(group) => pass::make(t, invite, (group, expires, uses))?,
        None => invite,
    };
    strangers::let_come(t, uses.into())?;
    t.ask(Purpose::Invite(ticket, Box::new(invite)), |request| NewInvite { request, token, uses, expires });
    Ok(())
}

fn status<E: Engine>(t: &Turn<'_, E>) -> Status {
    Status {
        address: t.rooms.identity.address().cloned(),
        device: t.rooms.identity.id(),
        relay: t.rooms.identity.relay(),
        relay_admitted: t.rooms.reception.admitted().is_some(),
        queued: usize::try_from(t.rooms.outbox.queued).unwrap_or(usize::MAX),
        direct: t.rooms.direct.devices().collect(),
        key_packages: t.rooms.user.left,
    }
}

/// Moves the read mark of a conversation; never back. The mark is a moment of arrival, not a place in the history: what
/// comes later is unread, wherever its author's clock puts it.
fn mark_read<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, upto: MessageId) -> Result<(), Halt> {
    let same = views::aliases(&t.rows, &thread)?;
    let prefix = rows::message_prefix(&upto);
    let mut mark = None;
    for (key, value) in t.rows.scan(&prefix, &rows::after(&prefix), Order::Ascending, limits::THREAD_DEVICES_MAX)? {
        let seen: SeenRow = rows::decode(&key, &value)?;
        if same.contains(&seen.thread) {
            mark = mark.max(Some(seen.arrival));
        }
    }
    let mark = mark.ok_or(CommandError::Unknown)?;
    let shown = same.first().copied().unwrap_or(thread);
    for thread in same {
        let Some(mut row) = thread::get(&t.rows, &thread)? else { continue };
        if row.read >= mark {
            continue;
        }
        row.read = mark;
        let (prefix, after) = (rows::unread_prefix(&thread), rows::unread_key(&thread, mark.next()));
        let read = t.rows.scan(&prefix, &after, Order::Ascending, limits::UNREAD_DROPPED_MAX)?;
        let told = receipts::tells_read(t, &shown)?;
        let mut places: Vec<PlaceRow> = Vec::with_capacity(read.len());
        for (key, value) in read {
            let place: PlaceRow = rows::decode(&key, &value)?;
            if told {
                receipts::owe(t, thread, &row, place.author, place.message, true)?;
            }
            places.push(place);
            t.rows.delete(key);
        }
        let mut unread: Vec<PlaceRow> = Vec::new();
        rows::each_between(&t.rows, &after, &rows::after(&prefix), |(key, value)| {
            unread.push(rows::decode(&key, &value)?);
            Ok(())
        })?;
        row.unread = unread.len() as u64;
        thread::put(&mut t.rows, &thread, &row);
        read::note(t, &thread, &places, &unread)?;
    }
    Ok(())
}
