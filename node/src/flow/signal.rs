//! Signal: what the owner is doing now, to whoever is there; and what others do.
//! In order: the thread, the key of its epoch, the signature, one frame; back: who is known, the key, the signature, what is
//! newer than before, an event. There is no batch: nothing of it is kept.
//! Never: waits for a relay, asks for a key that is not here, tells more than the relay may show of the owner.
//! Rules: docs/protocol/signal.md.

use tracing::debug;
use whimbrel_crypto::{Context, Engine, EngineError};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::signal::{Doing, Said, Signal};
use whimbrel_storage::{Overlay, StorageError};

use super::{befriend, send};
use crate::api::{CommandError, Event, Reply};
use crate::rooms::{Halt, Turn};
use crate::rows::ThreadState;
use crate::thread;

/// Says in a thread that the owner is writing there, or no longer. Where the relay is out of reach nothing is said, and nobody
/// misses it.
pub(crate) fn say<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId, what: Doing) -> Result<Reply, Halt> {
    let found = thread::canonical(&t.rows, &t.rooms.identity.account(), &thread)?;
    let (thread, row) = found.ok_or(CommandError::Unknown)?;
    send::writable(&row)?;
    let there = row.state == ThreadState::Open && t.rooms.identity.is_listed();
    let Some(link) = t.rooms.reception.admitted().filter(|_| there) else { return Ok(Reply::Done) };
    if !t.rooms.signals.is_due(t.now.monotonic, thread, what) || !learn(t, thread)? {
        return Ok(Reply::Done);
    }
    let Some(key) = t.rooms.signals.any_key(&thread).cloned() else { return Ok(Reply::Done) };
    let said = Said { thread, epoch: key.epoch(), number: t.rooms.signals.number(t.now.wall), what };
    let own = t.rooms.identity.own();
    if let Some(signal) = key.seal(own.id, own.device, &said, t.chance) {
        t.send(link, signal);
    }
    Ok(Reply::Done)
}

/// The relay passed a signal on.
pub(crate) fn heard<E: Engine>(t: &mut Turn<'_, E>, signal: &Signal) -> Result<(), StorageError> {
    let (thread, by) = (signal.thread, signal.by);
    let row = thread::get(&t.rows, &thread)?.filter(|row| row.state == ThreadState::Open);
    let own = t.rooms.identity.account();
    // Of the thread's present epoch alone: whoever went out with a commit says nothing more.
    let present = row.is_some_and(|row| row.epoch == signal.epoch);
    if !present || by.account == own || befriend::is_blocked(&t.rows, &by.account)? {
        return Ok(());
    }
    if t.rooms.signals.key(&thread, signal.epoch).is_none() && !learn(t, thread)? {
        return Ok(());
    }
    let opened = t.rooms.signals.key(&thread, signal.epoch).and_then(|key| key.open(signal));
    let Some((by, said)) = opened else {
        debug!("a signal of another epoch, or none at all");
        return Ok(());
    };
    if t.rooms.signals.is_news(t.now.monotonic, (thread, by), (said.number, said.what)) {
        let thread = thread::canonical(&t.rows, &own, &thread)?.map_or(thread, |(thread, _)| thread);
        t.event(Event::Doing { thread, who: by.account, what: said.what });
    }
    Ok(())
}

/// Puts the key of a thread's present epoch at hand; says whether there is one.
fn learn<E: Engine>(t: &mut Turn<'_, E>, thread: ThreadId) -> Result<bool, StorageError> {
    // Nothing changes by it: what the engine would write goes.
    let mut none = Overlay::new(&t.rows);
    let mut cx = Context { rows: &mut none, chance: &mut *t.chance, now: t.now };
    match t.engine.signal_key(&mut cx, thread) {
        Ok(key) => {
            t.rooms.signals.keep(thread, key);
            Ok(true)
        }
        Err(EngineError::Rows(error)) => Err(error),
        Err(error) => {
            debug!(%error, "no key for signals");
            Ok(false)
        }
    }
}
