//! Stamp: the relay keeps how far this store has come, and a copy of it that was put back is found before it says anything.
//! In order: a new stamp is written, handed in, and kept by the relay in the place of the one before; then what waits may
//! leave. What is sealed later is followed by another stamp within a heartbeat.
//! Never: seals anything once the store is known to be an old copy, whatever stands otherwise.
//! Rules: docs/protocol/reception.md.

use std::time::Duration;

use tracing::error;
use whimbrel_crypto::Engine;
use whimbrel_protocol::limits;
use whimbrel_protocol::reception::{KeepStamp, Stamp};
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_storage::StorageError;
use whimbrel_storage::planted::{self, Bug};

use super::{account, connect, strangers};
use crate::api::{CommandError, Event};
use crate::reception::Home;
use crate::requests::Purpose;
use crate::rooms::Turn;
use crate::rows::{self, Single, StampRow};
use crate::timers::Timer;

/// Hands the next stamp in, unless one is on its way.
pub(crate) fn hand_in<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let Home::Admitted { link, .. } = t.rooms.reception.home else { return Ok(()) };
    if t.rooms.requests.any(|purpose| *purpose == Purpose::Stamp) {
        return Ok(());
    }
    let key = rows::stamp_key();
    let StampRow { kept, next } = rows::get(&t.rows, &key)?.unwrap_or_default();
    // One whose answer was lost may be the one that is there.
    let stamp = next.unwrap_or_else(|| Stamp {
        number: kept.map_or(1, |kept| kept.number.saturating_add(1)),
        token: t.chance.bytes(),
    });
    if !planted::active(Bug::StampUnwritten) {
        rows::put(&mut t.rows, key, &StampRow { kept, next: Some(stamp) });
    }
    // What was sealed since one was drawn whose answer was lost is not behind it.
    t.rooms.reception.sealed = next.is_some();
    t.ask_on(link, Purpose::Stamp, |_, request| KeepStamp { request, after: kept, stamp });
    Ok(())
}

/// Whether its answer may still be behind what the relay has for us. A relay that falls silent meanwhile is the heartbeat's.
pub(crate) fn is_patient<E: Engine>(t: &Turn<'_, E>) -> bool {
    t.rooms.reception.is_let_in() && t.rooms.reception.admitted().is_none() && !t.rooms.push.caught_up
}

/// Everything the relay had for us has come: now its answer is due.
pub(crate) fn caught_up<E: Engine>(t: &mut Turn<'_, E>) {
    if let Some(request) = t.rooms.requests.find(&Purpose::Stamp).filter(|_| t.rooms.reception.admitted().is_none()) {
        t.rooms.timers.set(Timer::Answer(request), t.now.monotonic.plus(limits::ANSWER_TIME_MAX));
    }
}

/// The relay keeps it.
pub(crate) fn kept<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    let key = rows::stamp_key();
    let StampRow { kept, next } = rows::get(&t.rows, &key)?.unwrap_or_default();
    rows::put(&mut t.rows, key, &StampRow { kept: next.or(kept), next: None });
    match &mut t.rooms.reception.home {
        Home::Admitted { stamped, .. } if !*stamped => {
            *stamped = true;
            t.rooms.reception.proved = true;
            match t.rooms.reception.gap {
                true => connect::abandon(t, "the relay left out entries"),
                false => connect::served(t),
            }
        }
        _ => Ok(()),
    }
}

/// The relay does not keep it: for now, or because the store is an old copy.
pub(crate) fn refused<E: Engine>(
    t: &mut Turn<'_, E>,
    code: RefusalCode,
    again: Option<Duration>,
) -> Result<(), StorageError> {
    if code == RefusalCode::OldCopy {
        return outdated(t);
    }
    if t.rooms.reception.admitted().is_some() {
        // It has kept one on this link: the next heartbeat brings the next.
        t.rooms.reception.sealed = true;
        return Ok(());
    }
    connect::abandon_for(t, "the relay does not keep how far this device has come", again)
}

/// A newer store of this device was at the relay: keys that this one holds were used since.
fn outdated<E: Engine>(t: &mut Turn<'_, E>) -> Result<(), StorageError> {
    error!("this store is an old copy: nothing is sent from it any more");
    t.rows.put(rows::single_key(Single::Outdated), Vec::new());
    strangers::forget(t);
    connect::abandon(t, "this device's store is an old copy")?;
    at_an_end(t);
    Ok(())
}

/// There is nothing to connect for.
pub(crate) fn at_an_end<E: Engine>(t: &mut Turn<'_, E>) {
    t.rooms.reception.outdated = true;
    t.rooms.reception.proved = false;
    account::at_an_end(t, RefusalCode::OldCopy);
    t.event(Event::StoreOutdated);
}

/// Refuses whatever would use a key of this store again.
pub(crate) fn check<E: Engine>(t: &Turn<'_, E>) -> Result<(), CommandError> {
    if t.rooms.reception.outdated { Err(CommandError::Refused(RefusalCode::OldCopy)) } else { Ok(()) }
}
