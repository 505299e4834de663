//! Connect: from nothing to being served by the home relay, and back.
//! In order: connect, register once, say who we are, be admitted; then everything that waited goes on.
//! Rules: docs/protocol/reception.md.

use std::time::Duration;

use tracing::{debug, info};
use whimbrel_crypto::{Engine, link as proof_of};
use whimbrel_protocol::VERSION;
use whimbrel_protocol::id::{Address, LinkId};
use whimbrel_protocol::invite::{RelayLink, is_endpoint};
use whimbrel_protocol::limits;
use whimbrel_protocol::presence::Goodbye;
use whimbrel_protocol::reception::{Admitted, Heartbeat, Hello, Register};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_storage::{Reads as _, StorageError};

use super::{
    account, answers, audit, befriend, commands, direct, dropped, facts, group, herald, history, join, link, open, own,
    pass, receipts, receive, resend, send, settings, siblings, stamp,
};
use crate::api::{CommandError, Event, Output};
use crate::identity::Identity;
use crate::outbox::Phase;
use crate::reception::{Home, backoff};
use crate::requests::Purpose;
use crate::rooms::Turn;
use crate::rows::{self, Single};
use crate::timers::Timer;

/// How many heartbeats lie between two rounds of forgetting what is too old: an hour.
const BEATS_PER_ROUND: u64 = 360;
/// Redirects followed in a row.
const REDIRECTS_MAX: u32 = 3;

/// Time for an attempt.
pub(crate) fn begin<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    if t.rows.get(&rows::single_key(Single::Deleted))?.is_some() {
        own::at_an_end(t);
        return Ok(());
    }
    if t.rooms.reception.outdated {
        stamp::at_an_end(t);
        return Ok(());
    }
    if !t.rooms.identity.is_listed() {
        account::at_an_end(t, RefusalCode::Revoked);
        t.event(Event::DeviceRevoked);
        return Ok(());
    }
    if matches!(t.rooms.reception.home, Home::Down) {
        // Every attempt may be sent on anew: where it was sent before may only have been away.
        t.rooms.reception.redirects = 0;
        let relay = t.rooms.identity.relay();
        connect(t, relay);
    }
    Ok(())
}

fn connect<E: Engine>(t: &mut Turn<'_, E>, relay: RelayLink) {
    t.rooms.reception.home = Home::Connecting;
    t.rooms.timers.clear(Timer::Connect);
    // The runtime answers by itself; this is for one that does not.
    t.rooms.timers.set(Timer::Greeting, t.now.monotonic.plus(limits::ANSWER_TIME_MAX * 3));
    t.out.push(Output::Connect { relay });
}

/// The link stands: the first frame says who we are.
pub(crate) fn link_up<E: Engine>(t: &mut Turn<'_, E>, link: LinkId, exporter: [u8; 32]) -> Result<(), StorageError> {
    if !matches!(t.rooms.reception.home, Home::Connecting | Home::Down) {
        t.close(link);
        return Ok(());
    }
    t.rooms.timers.clear(Timer::Connect);
    t.rooms.timers.set(Timer::Greeting, t.now.monotonic.plus(limits::ANSWER_TIME_MAX));
    t.rooms.reception.malformed = 0;
    if t.rooms.identity.address().is_some() {
        if !account::submit_first(t, link, exporter)? {
            hello(t, link, &exporter);
        }
        return Ok(());
    }
    t.rooms.reception.home = Home::Registering { link, exporter };
    let identity = &t.rooms.identity;
    let (name, log, device) = (identity.name().clone(), identity.log.bytes(), identity.id());
    let proof = proof_of::prove(&identity.device, &exporter);
    // Before it leaves: whoever finds the store later knows that the relay may have it.
    Identity::registering(&mut t.rows);
    let invite = t.config.registration;
    t.ask_on(link, Purpose::Register, |_, request| Register { request, name, log, device, proof, invite });
    Ok(())
}

pub(crate) fn hello<E: Engine>(t: &mut Turn<'_, E>, link: LinkId, exporter: &[u8; 32]) {
    t.rooms.reception.home = Home::Greeting { link };
    let identity = &t.rooms.identity;
    let (log_seq, log_hash) = identity.log.head();
    let proof = proof_of::prove(&identity.device, exporter);
    let device = identity.id();
    let stays = t.rooms.reception.stays;
    t.send(link, Hello { version: VERSION, device, log_seq, log_hash, proof, stays });
}

/// The account lives at the relay now.
pub(crate) fn registered<E: Engine>(t: &mut Turn<'_, E>, address: Address) -> Result<(), StorageError> {
    let Home::Registering { link, exporter } = t.rooms.reception.home else { return Ok(()) };
    if address.domain != t.rooms.identity.relay().domain || address.name != *t.rooms.identity.name() {
        return abandon(t, "the relay registered another address than asked for");
    }
    t.rooms.identity.registered(&mut t.rows, address.clone());
    t.event(Event::Registered { address });
    hello(t, link, &exporter);
    Ok(())
}

/// The relay does not take the account, and asking again would change nothing.
pub(crate) fn rejected<E: Engine>(t: &mut Turn<'_, E>, code: RefusalCode) -> Result<(), StorageError> {
    abandon(t, "the relay refused the registration")?;
    Identity::rejected(&mut t.rows);
    t.rooms.timers.clear(Timer::Connect);
    t.rooms.reception.home = Home::Rejected(code);
    t.event(Event::RegistrationRefused(code));
    Ok(())
}

/// The relay lets us in. Nothing leaves before it has been told how far this store has come.
pub(crate) fn admitted<E: Engine>(t: &mut Turn<'_, E>, words: Admitted) -> Result<(), StorageError> {
    let Home::Greeting { link } = t.rooms.reception.home else { return Ok(()) };
    if words.version == 0 || words.version > VERSION {
        return abandon(t, "no common protocol version");
    }
    let relay = t.rooms.identity.relay();
    if words.domain != relay.domain {
        return abandon(t, "the relay serves another domain");
    }
    if let Some(endpoint) = words.push_address {
        if !is_endpoint(&endpoint) {
            return abandon(t, "the relay sends us to an address that is none");
        }
        if t.rooms.reception.stays {
            return abandon(t, "the relay sends us where it cannot be reached");
        }
        if t.rooms.reception.redirects >= REDIRECTS_MAX {
            return abandon(t, "the relay sends us in circles");
        }
        t.rooms.reception.redirects += 1;
        t.close(link);
        connect(t, RelayLink { endpoint, ..relay });
        return Ok(());
    }
    let reception = &mut t.rooms.reception;
    reception.home = Home::Admitted { link, heard: t.now.monotonic, stamped: false };
    reception.clock = Some((words.wall, t.now.monotonic));
    (reception.redirects, reception.stays) = (0, false);
    t.rooms.timers.clear(Timer::Greeting);
    t.rooms.timers.set(Timer::Heartbeat, t.now.monotonic.plus(limits::HEARTBEAT_EVERY));
    t.rows.delete(rows::single_key(Single::Joining));
    stamp::hand_in(t)
}

/// The relay keeps how far this store has come: everything that waited goes on.
pub(crate) fn served<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    info!("admitted by the home relay");
    // Not before: a relay that lets us in and keeps no stamp is tried ever more seldom.
    (t.rooms.reception.attempts, t.rooms.reception.told_down) = (0, false);
    t.event(Event::RelayUp);
    answers::stock_what_is_due(t)?;
    receive::acknowledge(t);
    open::submit_all(t)?;
    join::begin_all(t)?;
    join::tag_all(t)?;
    resend::admitted(t);
    dropped::resume(t)?;
    befriend::prove_all(t)?;
    befriend::part_again(t)?;
    settings::hand_in_all(t)?;
    settings::fetch_all(t);
    group::submit_all(t)?;
    pass::ask(t)?;
    pass::serve(t)?;
    account::submit(t)?;
    account::resume_heralding(t)?;
    herald::ask_all(t)?;
    audit::begin(t);
    siblings::begin(t)?;
    facts::resume(t)?;
    history::want(t)?;
    receive::unpark_all(t)?;
    receipts::resume(t);
    send::pump_all(t)?;
    for (ticket, command) in std::mem::take(&mut t.rooms.reception.waiting) {
        commands::run(t, ticket, command)?;
    }
    Ok(())
}

/// "I am here", with what the relay could not see.
pub(crate) fn heartbeat<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Home::Admitted { link, heard, .. } = t.rooms.reception.home else { return Ok(()) };
    if t.now.monotonic.since(heard) > limits::HEARTBEAT_EVERY + limits::ANSWER_TIME_MAX {
        return abandon(t, "the relay fell silent");
    }
    let touches = t.rooms.reception.take_touches();
    let statuses = t.rooms.presence.version();
    t.send(link, Heartbeat { touches, statuses });
    t.rooms.timers.set(Timer::Heartbeat, t.now.monotonic.plus(limits::HEARTBEAT_EVERY));
    t.rooms.reception.beats = t.rooms.reception.beats.wrapping_add(1);
    if t.rooms.reception.sealed {
        stamp::hand_in(t)?;
    }
    if t.rooms.reception.beats.is_multiple_of(BEATS_PER_ROUND) {
        receive::forget_old(t)?;
    }
    Ok(())
}

/// The process ends in order: the relay need not wait for a silence to know.
pub(crate) fn leave<E: Engine>(t: &mut Turn<'_, E>) {
    if let Some(link) = t.rooms.reception.admitted() {
        t.send(link, Goodbye {});
    }
}

/// The relay said something: it is there.
pub(crate) fn heard<E: Engine>(t: &mut Turn<'_, E>) {
    if let Home::Admitted { heard, .. } = &mut t.rooms.reception.home {
        *heard = t.now.monotonic;
    }
}

/// A frame of a link could not be read.
pub(crate) fn malformed<E: Engine>(t: &mut Turn<'_, E>, link: LinkId) -> Result<(), StorageError> {
    if t.rooms.reception.link() != Some(link) {
        t.close(link);
        return direct::link_lost(t, link);
    }
    t.rooms.reception.malformed = t.rooms.reception.malformed.saturating_add(1);
    if t.rooms.reception.malformed > limits::MALFORMED_FRAMES_MAX {
        return abandon(t, "the relay sends frames that cannot be read");
    }
    debug!("a frame of the relay could not be read");
    Ok(())
}

/// Ends the link from this side, and tries again.
pub(crate) fn abandon<E: Engine>(t: &mut Turn<'_, E>, reason: &str) -> Result<(), StorageError> {
    abandon_for(t, reason, None)
}

/// The same; not tried again before this time.
pub(crate) fn abandon_for<E: Engine>(
    t: &mut Turn<'_, E>,
    reason: &str,
    retry_after: Option<Duration>,
) -> Result<(), StorageError> {
    if let Some(link) = t.rooms.reception.link() {
        t.close(link);
    }
    down(t, reason.to_owned(), retry_after)
}

/// The relay is out of reach. What needs it now fails, what can wait waits; the next attempt has its time.
pub(crate) fn down<E: Engine>(
    t: &mut Turn<'_, E>,
    reason: String,
    retry_after: Option<Duration>,
) -> Result<(), StorageError> {
    if matches!(t.rooms.reception.home, Home::Down | Home::Rejected(_)) {
        return Ok(());
    }
    // Sent on, and to nobody: the attempt goes on where it began, and says so. If that fails, too, it is no address that is
    // wrong.
    let stays = t.rooms.reception.redirects > 0 && !t.rooms.reception.stays;
    (t.rooms.reception.redirects, t.rooms.reception.stays) = (0, stays);
    if stays && retry_after.is_none() {
        debug!(reason, "not served where the relay sent us");
        let relay = t.rooms.identity.relay();
        connect(t, relay);
        return Ok(());
    }
    t.rooms.reception.stays = false;
    t.rooms.reception.home = Home::Down;
    t.rooms.reception.gap = false;
    let wait = backoff(t.rooms.reception.attempts, t.chance).max(retry_after.unwrap_or_default());
    t.rooms.reception.attempts = t.rooms.reception.attempts.saturating_add(1);
    t.rooms.reception.reason.clone_from(&reason);
    for timer in [Timer::Greeting, Timer::Heartbeat, Timer::Acknowledge, Timer::Stock, Timer::Audit] {
        t.rooms.timers.clear(timer);
    }
    t.rooms.timers.set(Timer::Connect, t.now.monotonic.plus(wait));
    t.rooms.hold.forget();
    t.rooms.outbox.starved.clear();
    t.rooms.push.stalled.clear();
    t.rooms.user.left = None;
    t.rooms.reception.clock = None;
    for (request, purpose) in t.rooms.requests.take_all() {
        t.rooms.timers.clear(Timer::Answer(request));
        if let Some(ticket) = purpose.ticket() {
            t.answer(ticket, Err(CommandError::Unreachable(reason.clone())));
        }
    }
    t.rooms.friendship.asked.clear();
    link::end(t, CommandError::Unreachable(reason.clone()))?;
    // The change itself is kept, and handed in with the next link.
    if let Some(ticket) = t.rooms.user.extending.take() {
        t.answer(ticket, Err(CommandError::Unreachable(reason.clone())));
    }
    for ticket in t.rooms.presence.forget() {
        t.answer(ticket, Err(CommandError::Unreachable(reason.clone())));
    }
    t.rooms.threads.joining.clear();
    t.rooms.push.caught_up = false;
    for (_, job) in std::mem::take(&mut t.rooms.threads.jobs) {
        t.answer_any(job.ticket, Err(CommandError::Unreachable(reason.clone())));
    }
    for (ticket, _) in std::mem::take(&mut t.rooms.reception.waiting) {
        t.answer(ticket, Err(CommandError::Unreachable(reason.clone())));
    }
    for lane in t.rooms.outbox.lanes.values_mut() {
        lane.rephase(|waiting| (waiting.phase == Phase::Submitted).then_some(Phase::Ready));
    }
    if !t.rooms.reception.told_down {
        t.rooms.reception.told_down = true;
        t.event(Event::RelayDown(reason));
    }
    Ok(())
}
