//! Answers: what the relay says, brought to whoever asked.
//! Owns: the pairing of frames and purposes, and what a refusal or a silence means for each.
//! Never: believes an answer; those who asked judge it.

use std::time::Duration;

use tracing::debug;
use whimbrel_crypto::{Engine, EngineError};
use whimbrel_protocol::Frame;
use whimbrel_protocol::friendship::Act;
use whimbrel_protocol::hub::SignedReceipt;
use whimbrel_protocol::id::RequestId;
use whimbrel_protocol::limits;
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::user::Stocked;
use whimbrel_storage::StorageError;

use super::{
    account, ahead, audit, befriend, commit, connect, group, herald, history, join, link, open, own, pass, receive,
    rejoin, self_thread, send, settings, signal, stamp, witness,
};
use crate::api::{CommandError, Reply, Ticket};
use crate::reception::Home;
use crate::requests::{Asker, Errand, Purpose};
use crate::rooms::Turn;
use crate::rows::{self, Single};
use crate::timers::Timer;
use crate::user::{self, Due};

/// The longest and shortest delay a relay's refusal is followed for.
const RETRY_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));

/// A frame of the relay.
pub(crate) fn frame<E: Engine>(t: &mut Turn<'_, E>, frame: Frame) -> Result<(), StorageError> {
    connect::heard(t);
    match frame {
        Frame::Refused(refused) => return refusal(t, refused),
        Frame::Admitted(words) => return connect::admitted(t, words),
        Frame::Registered(words) => {
            return match take(t, words.request) {
                Some(Purpose::Register) => connect::registered(t, words.address),
                other => unexpected(t, other),
            };
        }
        Frame::OwnLog(words) => return account::shown(t, words.log),
        Frame::Done(words) if matches!(t.rooms.reception.home, Home::Registering { .. }) => {
            return match take(t, words.request) {
                Some(Purpose::Extend) => account::extended(t),
                other => unexpected(t, other),
            };
        }
        _ if !t.rooms.reception.is_let_in() => {
            debug!(frame = frame.name(), "not expected before the relay let us in");
            return Ok(());
        }
        Frame::Push(run) => return receive::pushed(t, run),
        Frame::CaughtUp(_) => {
            t.rooms.push.caught_up = true;
            stamp::caught_up(t);
        }
        Frame::Stocked(words) => return stocked(t, words),
        Frame::Parted(words) => match take(t, words.request) {
            Some(Purpose::Errand(ticket, errand)) => {
                let with = match &*errand {
                    Errand::Say(account, Act::Remove, _) | Errand::Block(account, _, true) => *account,
                    _ => return unexpected(t, Some(Purpose::Errand(ticket, errand))),
                };
                done(t, ticket, *errand)?;
                return befriend::parted(t, &with, words.inbox);
            }
            Some(Purpose::PartAgain(with)) => return befriend::parted(t, &with, words.inbox),
            other => return unexpected(t, other),
        },
        Frame::Done(words) => match take(t, words.request) {
            Some(Purpose::Invite(ticket, invite)) => t.answer(ticket, Ok(Reply::Invite(*invite))),
            Some(Purpose::Tag(thread)) => return join::tagged(t, thread),
            Some(Purpose::Settings(thread, changes)) => return settings::kept(t, thread, changes),
            Some(Purpose::Extend) => return account::extended(t),
            Some(Purpose::Stamp) => return stamp::kept(t),
            Some(Purpose::JoinLinking) => return link::joined(t),
            // On its way: what it asks for comes by itself, or not.
            Some(Purpose::Sibling(_)) => {}
            Some(Purpose::Errand(ticket, errand)) => return done(t, ticket, *errand),
            other => return unexpected(t, other),
        },
        other @ (Frame::FriendPage(_) | Frame::InvitePage(_) | Frame::Profile(_) | Frame::Exported(_)) => {
            return errand(t, other);
        }
        Frame::Stored(words) => {
            return match take(t, words.request) {
                Some(Purpose::Submit(thread, order)) => send::stored(t, thread, order),
                Some(Purpose::Opening(thread)) => open::opened(t, thread),
                other => unexpected(t, other),
            };
        }
        Frame::ThreadExists(words) => {
            return match take(t, words.request) {
                Some(Purpose::Opening(thread)) => open::exists(t, thread, words.thread),
                other => unexpected(t, other),
            };
        }
        Frame::LookedUp(words) => {
            return match take(t, words.request) {
                Some(Purpose::LookUp(Asker::Job(job), account)) => {
                    open::looked_up(t, job, account, words.address, words.log)
                }
                Some(Purpose::LookUp(Asker::Joining(welcome), account)) => {
                    join::looked_up(t, welcome, account, words.address, words.log)
                }
                Some(Purpose::LookUp(Asker::Word(id), _)) => befriend::looked_up(t, id, words.address, words.log),
                Some(Purpose::Meet(meeting)) => befriend::met(t, *meeting, words.address, words.log),
                Some(Purpose::Hinted(account)) => herald::shown(t, account, words.address, words.log).map(drop),
                Some(Purpose::Heralded(account)) => herald::looked_up(t, account, words.address, words.log),
                Some(Purpose::Newcomer(thread, account, domain)) => {
                    commit::looked_up(t, thread, (account, domain), words.address, words.log)
                }
                other => unexpected(t, other),
            };
        }
        Frame::ClaimedKeyPackages(words) => {
            return match take(t, words.request) {
                Some(Purpose::Claim(job, account)) => open::claimed(t, job, account, words.packages),
                Some(Purpose::OwnClaim) => self_thread::claimed(t, words.packages),
                other => unexpected(t, other),
            };
        }
        Frame::Blob(words) => {
            return match take(t, words.request) {
                Some(Purpose::Blob(welcome, blob)) => join::fetched(t, welcome, blob, words.bytes),
                other => unexpected(t, other),
            };
        }
        Frame::ThreadPage(words) => {
            return match take(t, words.request) {
                Some(Purpose::Listing(pages)) => settings::fetched(t, pages, words),
                other => unexpected(t, other),
            };
        }
        Frame::SiblingTold(words) => return history::heard(t, words.from, &words.bytes),
        Frame::LinkingWords(words) => return link::heard(t, &words),
        Frame::Signal(words) => return signal::heard(t, &words),
        Frame::LogGrown(words) => return herald::hinted(t, &words),
        Frame::LinkingOver(words) => return link::left(t, &words),
        Frame::CommitTaken(words) => return decided(t, words.request, &words.receipt),
        Frame::CommitLost(words) => return decided(t, words.request, &words.won.receipt),
        Frame::Committed(words) => {
            return match take(t, words.request) {
                Some(Purpose::Commit(thread)) => {
                    let leads = ahead::leads_on(t, thread, &words.accepted)?;
                    commit::fetched(t, thread, leads.then_some(&words.accepted))
                }
                Some(Purpose::Follow(thread, epoch)) => rejoin::fetched(t, thread, epoch, &words.accepted),
                other => unexpected(t, other),
            };
        }
        Frame::TreeHead(words) => {
            return match take(t, words.request) {
                Some(Purpose::Audit(domain, account)) => audit::shown(t, &domain, account, words),
                other => unexpected(t, other),
            };
        }
        Frame::HeartbeatAnswer(words) => return own::told(t, words),
        other => debug!(frame = other.name(), "not expected from a relay"),
    }
    Ok(())
}

/// The hub of a group decided on a change of ours.
fn decided<E: Engine>(t: &mut Turn<'_, E>, request: RequestId, receipt: &SignedReceipt) -> Result<(), StorageError> {
    match take(t, request) {
        Some(Purpose::Change(thread, epoch)) => {
            if rejoin::decided(t, thread, epoch, receipt)? {
                return Ok(());
            }
            witness::answered(t, thread, receipt)?;
            group::decided(t, thread, epoch)
        }
        other => unexpected(t, other),
    }
}

/// An errand is done.
fn done<E: Engine>(t: &mut Turn<'_, E>, ticket: Ticket, errand: Errand) -> Result<(), StorageError> {
    match errand {
        Errand::Plain => {}
        Errand::Say(account, act, _) => return befriend::said(t, ticket, account, act),
        Errand::Decline(account) => befriend::declined(t, account)?,
        Errand::Block(account, address, blocked) => return befriend::blocked(t, ticket, (account, address), blocked),
        Errand::SetCard(row) => {
            own::card_set(t, ticket, row);
            return Ok(());
        }
        Errand::Delete => return own::deleted(t, ticket),
        other => return unexpected(t, Some(Purpose::Errand(ticket, Box::new(other)))),
    }
    t.answer(ticket, Ok(Reply::Done));
    Ok(())
}

/// An errand has an answer of its own.
fn errand<E: Engine>(t: &mut Turn<'_, E>, frame: Frame) -> Result<(), StorageError> {
    let request = match &frame {
        Frame::FriendPage(words) => words.request,
        Frame::InvitePage(words) => words.request,
        Frame::Profile(words) => words.request,
        Frame::Exported(words) => words.request,
        _ => return Ok(()),
    };
    let (ticket, errand) = match take(t, request) {
        Some(Purpose::Errand(ticket, errand)) => (ticket, *errand),
        other => return unexpected(t, other),
    };
    match (errand, frame) {
        (Errand::Friends(so_far), Frame::FriendPage(words)) => {
            befriend::listed(t, ticket, so_far, (words.friends, words.more));
        }
        (Errand::Invites, Frame::InvitePage(words)) => t.answer(ticket, Ok(Reply::Invites(words.invites))),
        (Errand::Card(account), Frame::Profile(words)) => return own::fetched(t, ticket, account, words.card),
        (Errand::Export, Frame::Exported(words)) => {
            let next = words.next.map(Vec::from);
            t.answer(ticket, Ok(Reply::Exported { rows: words.rows, next }));
        }
        (errand, _) => return unexpected(t, Some(Purpose::Errand(ticket, Box::new(errand)))),
    }
    Ok(())
}

fn take<E: Engine>(t: &mut Turn<'_, E>, request: RequestId) -> Option<Purpose> {
    t.rooms.timers.clear(Timer::Answer(request));
    t.rooms.requests.take(request)
}

/// An answer of the wrong kind settles its request as a refusal would; one to no request changes nothing (it may be
/// late).
fn unexpected<E: Engine>(t: &mut Turn<'_, E>, purpose: Option<Purpose>) -> Result<(), StorageError> {
    match purpose {
        Some(purpose) => {
            let code = RefusalCode::Unexpected;
            refused(t, purpose, (code, CommandError::Refused(code)), None)
        }
        None => Ok(()),
    }
}

fn refusal<E: Engine>(t: &mut Turn<'_, E>, words: Refused) -> Result<(), StorageError> {
    let delay = words.retry_after_ms.map(|ms| Duration::from_millis(ms.into()).clamp(RETRY_RANGE.0, RETRY_RANGE.1));
    let passes = matches!(
        words.code,
        RefusalCode::Full
            | RefusalCode::Busy
            | RefusalCode::Internal
            | RefusalCode::PeerUnreachable
            | RefusalCode::TooFast
    );
    let delay = delay.or(passes.then_some(limits::RETRY_DELAY));
    match words.request {
        Some(request) => match take(t, request) {
            Some(purpose) => {
                if matches!(purpose, Purpose::Submit(..)) && words.retry_after_ms.is_some() {
                    t.rooms.requests.must_wait(request);
                }
                let error = match (words.code, delay.filter(|_| words.retry_after_ms.is_some())) {
                    (RefusalCode::TooFast, Some(after)) => CommandError::TooFast { after },
                    (code, _) => CommandError::Refused(code),
                };
                refused(t, purpose, (words.code, error), delay)
            }
            None => Ok(()),
        },
        None => {
            if words.code == RefusalCode::NotAuthenticated && own::unknown_as_asked(t)? {
                return Ok(());
            }
            if let Some(link) = t.rooms.reception.link() {
                t.close(link);
            }
            connect::down(t, words.code.to_string(), delay)
        }
    }
}

/// A request is not done; what a command is told of it; `again`: when it may be tried again.
fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    purpose: Purpose,
    (code, error): (RefusalCode, CommandError),
    again: Option<Duration>,
) -> Result<(), StorageError> {
    match purpose {
        Purpose::Register => match again {
            Some(delay) => {
                if let Some(link) = t.rooms.reception.link() {
                    t.close(link);
                }
                connect::down(t, code.to_string(), Some(delay))
            }
            None => connect::rejected(t, code),
        },
        Purpose::Stock => {
            let delay = again.unwrap_or(limits::LINK_IDLE_MAX);
            t.rooms.timers.set(Timer::Stock, t.now.monotonic.plus(delay));
            Ok(())
        }
        Purpose::LookUp(Asker::Job(job), account) | Purpose::Claim(job, account) => {
            match error {
                CommandError::TooFast { after } if open::slowed(t, job, account, after) => {}
                error => open::fail(t, job, error),
            }
            Ok(())
        }
        Purpose::LookUp(Asker::Joining(welcome), _) | Purpose::Blob(welcome, _) => {
            // Whether the other relay can be trusted may change by its operator's hand.
            let again = again.or((code == RefusalCode::PeerUntrusted).then_some(limits::RETRY_DELAY));
            join::failed(t, welcome, again, &code.to_string())
        }
        Purpose::LookUp(Asker::Word(id), _) => {
            let again = again.or((code == RefusalCode::PeerUntrusted).then_some(limits::RETRY_DELAY));
            befriend::unproved(t, id, again, &code.to_string())
        }
        Purpose::Errand(ticket, errand) => {
            match *errand {
                Errand::Say(account, act, before) => {
                    befriend::not_said(t, (account, act), before, code, again.is_some())?;
                }
                Errand::Delete => own::not_deleted(t),
                _ => {}
            }
            t.answer(ticket, Err(error));
            Ok(())
        }
        Purpose::Invite(ticket, invite) => {
            pass::unmake(&mut t.rows, &invite.token.hash());
            t.answer(ticket, Err(error));
            Ok(())
        }
        Purpose::Meet(meeting) => {
            t.answer(meeting.ticket, Err(error));
            Ok(())
        }
        Purpose::JoinLinking => link::end(t, error),
        // Tried again with its timer.
        Purpose::OwnClaim | Purpose::Sibling(false) => Ok(()),
        Purpose::Sibling(true) => history::not_passed(t, again),
        Purpose::Extend => account::refused(t, code, error, again),
        Purpose::Stamp => stamp::refused(t, code, again),
        Purpose::Heralded(account) => herald::again(t, account),
        // It was a word of nobody's, and learnt otherwise if it is true.
        Purpose::Hinted(_) => Ok(()),
        Purpose::Audit(domain, _) => {
            // Whether the other relay can be trusted may change by its operator's hand.
            audit::refused(t, &domain, again.is_some() || code == RefusalCode::PeerUntrusted)
        }
        // Said again with the next link.
        Purpose::PartAgain(_) => Ok(()),
        Purpose::Settings(thread, _) => settings::refused(t, thread, again),
        // Not said for now: asked again when this device is let in the next time, and nothing is handed in before.
        Purpose::Listing(_) if again.is_some() => Ok(()),
        Purpose::Listing(_) => settings::all_fetched(t),
        Purpose::Opening(thread) => open::refused(t, thread, code, again),
        Purpose::Change(thread, epoch) => group::refused(t, (thread, epoch), code, again),
        Purpose::Commit(thread) => {
            // There is none: this device has all there are.
            if again.is_none() {
                t.rooms.threads.behind.remove(&thread);
            }
            commit::fetched(t, thread, None)
        }
        Purpose::Follow(thread, _) => rejoin::at_head(t, thread, code),
        Purpose::Newcomer(thread, ..) => {
            commit::not_looked_up(t, thread, again);
            Ok(())
        }
        Purpose::Submit(thread, order) => send::refused(t, thread, order, code, again),
        Purpose::Tag(thread) => match again {
            Some(delay) => {
                t.rooms.timers.set(Timer::Tag(thread), t.now.monotonic.plus(delay));
                Ok(())
            }
            None => join::tagged(t, thread),
        },
    }
}

/// The relay said nothing to a request, though the link stands.
pub(crate) fn unanswered<E: Engine>(t: &mut Turn<'_, E>, request: RequestId) -> Result<(), StorageError> {
    if let Some(Purpose::LookUp(Asker::Job(job), _) | Purpose::Claim(job, _)) = t.rooms.requests.get(request)
        && open::is_patient(t, *job, Duration::ZERO)
    {
        // All members of a large group ask it about newcomers at the same time as who takes in the next ones.
        t.rooms.timers.set(Timer::Answer(request), t.now.monotonic.plus(limits::ANSWER_TIME_MAX));
        return Ok(());
    }
    if t.rooms.requests.get(request) == Some(&Purpose::Stamp) && stamp::is_patient(t) {
        t.rooms.timers.set(Timer::Answer(request), t.now.monotonic.plus(limits::ANSWER_TIME_MAX));
        return Ok(());
    }
    let Some(purpose) = t.rooms.requests.take(request) else { return Ok(()) };
    let silent = || CommandError::Unreachable("the relay did not answer in time".to_owned());
    match purpose {
        Purpose::Register => connect::abandon(t, "the relay did not answer in time"),
        Purpose::LookUp(Asker::Job(job), _) | Purpose::Claim(job, _) => {
            open::fail(t, job, silent());
            Ok(())
        }
        other if other.ticket().is_some() => {
            other.ticket().into_iter().for_each(|ticket| t.answer(ticket, Err(silent())));
            Ok(())
        }
        Purpose::Submit(thread, order) => send::unanswered(t, thread, order),
        other => {
            let busy = (RefusalCode::Busy, CommandError::Refused(RefusalCode::Busy));
            refused(t, other, busy, Some(limits::RETRY_DELAY))
        }
    }
}

/// How many KeyPackages the relay has.
fn stocked<E: Engine>(t: &mut Turn<'_, E>, words: Stocked) -> Result<(), StorageError> {
    t.rooms.user.left = Some(words.left);
    let Some(request) = words.request else { return stock_what_is_due(t) };
    take(t, request);
    t.rows.delete(rows::single_key(Single::Unstocked));
    if user::missing(words.left) == 0 {
        return Ok(());
    }
    if t.rooms.user.sent == 0 {
        stock_what_is_due(t)?;
    } else {
        // It took some and has too few all the same: not again at once, or we would make keys for ever.
        t.rooms.timers.set(Timer::Stock, t.now.monotonic.plus(limits::LINK_IDLE_MAX));
    }
    Ok(())
}

/// Stocks up if few are left, or what is there has had its time.
pub(crate) fn stock_what_is_due<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let one_time = t.rooms.user.left.map_or(0, user::missing);
    if one_time > 0 || user::due(&t.rows, t.now)? != Due::Nothing { stock(t, one_time) } else { Ok(()) }
}

/// Makes and sends KeyPackages, unless some are on their way.
pub(crate) fn stock<E: Engine>(t: &mut Turn<'_, E>, one_time: usize) -> Result<(), StorageError> {
    let Some(link) = t.rooms.reception.admitted() else { return Ok(()) };
    if t.rooms.requests.any(|purpose| *purpose == Purpose::Stock) || t.rooms.timers.is_set(Timer::Stock) {
        return Ok(());
    }
    let due = user::due(&t.rows, t.now)?;
    // Nobody takes what a clock made that lies, so a stock of older ones, or their last resort alone, is of more use.
    if due != Due::First && !t.rooms.reception.clocks_agree(t.now) {
        debug!("no KeyPackages are made while the relay's clock tells another day");
        return Ok(());
    }
    let request = t.rooms.requests.begin(Purpose::Stock);
    let own = t.rooms.identity.own();
    // With none left the last resort may have been handed out, to any number of people: it has had its time.
    let replaces = matches!(due, Due::First | Due::All);
    let one_time = if replaces { limits::KEY_PACKAGES_MAX } else { one_time };
    let last_resort = t.rooms.user.left == Some(0) || due != Due::Nothing;
    let what = (one_time, last_resort, replaces);
    let made = user::stock(t.engine, &mut t.rows, t.chance, t.now, &own, request, what);
    match made {
        Ok(frame) => {
            t.rooms.timers.set(Timer::Answer(request), t.now.monotonic.plus(limits::ANSWER_TIME_MAX));
            t.rooms.user.sent = one_time;
            t.send(link, frame);
            Ok(())
        }
        Err(EngineError::Rows(error)) => Err(error),
        Err(error) => {
            debug!(%error, "no KeyPackages could be made");
            t.rooms.requests.take(request);
            t.rooms.timers.set(Timer::Stock, t.now.monotonic.plus(limits::LINK_IDLE_MAX));
            Ok(())
        }
    }
}
