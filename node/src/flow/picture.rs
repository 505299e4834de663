//! Picture: what a group shows of itself beside its title.
//! In order: whoever may say the title gives one; it is sealed for the members, kept, told to siblings, and said again to
//! newcomers. The latest holds. Never: decodes one, or keeps what is none.
//! Rules: docs/protocol/message.md. Limits: `limits::PICTURE_BYTES_MAX`.

use whimbrel_crypto::Engine;
use whimbrel_protocol::id::{AccountId, Epoch, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Body;
use whimbrel_protocol::picture::Format;
use whimbrel_protocol::siblings::What;
use whimbrel_protocol::time::Hlc;
use whimbrel_storage::StorageError;

use super::{facts, group, send};
use crate::api::{CommandError, Event, Reply};
use crate::rooms::{Halt, Turn};
use crate::rows::{self, PictureRow, ThreadRow};
use crate::thread;

/// Gives a group another picture, or none.
pub(crate) fn set<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, picture: Option<Vec<u8>>) -> Result<Reply, Halt> {
    if let Some(bytes) = &picture {
        let max = limits::PICTURE_BYTES_MAX;
        if bytes.len() > max {
            return Err(CommandError::TooLong { what: "a picture", max }.into());
        }
        if Format::of(bytes).is_none() {
            return Err(CommandError::State("this is no picture: png, jpeg and webp are".to_owned()).into());
        }
    }
    let mut row = group::sayable(t, id)?;
    let hlc = thread::tick(&mut t.rows, t.now.wall)?;
    rows::put(&mut t.rows, rows::picture_key(&id), &PictureRow { bytes: picture.clone(), hlc });
    facts::note(t, What::Picture(id, picture.clone()), Some(hlc))?;
    group::say(t, id, &mut row, Body::Picture(picture))?;
    thread::put(&mut t.rows, &id, &row);
    send::pump(t, id)?;
    Ok(Reply::Done)
}

/// Newcomers have not seen it. The caller writes the row.
pub(crate) fn say_again<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, row: &mut ThreadRow) -> Result<(), Halt> {
    let known: Option<PictureRow> = rows::get(&t.rows, &rows::picture_key(&id))?;
    match known.and_then(|known| known.bytes) {
        Some(bytes) => group::say(t, id, row, Body::Picture(Some(bytes))),
        None => Ok(()),
    }
}

/// A member gives the group a picture. It counts if they might in the epoch they said it in.
pub(crate) fn heard<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    (author, epoch): (AccountId, Epoch),
    (bytes, hlc): (Option<Vec<u8>>, Hlc),
) -> Result<(), StorageError> {
    let Some(row) = thread::get(&t.rows, &id)? else { return Ok(()) };
    let is_one = bytes.as_deref().is_none_or(|bytes| Format::of(bytes).is_some());
    if !is_one || !row.policy_in(epoch).is_some_and(|policy| policy.may_rename(&author)) {
        tracing::debug!("a picture that is none, or by somebody who may give none");
        return Ok(());
    }
    if hold(t, id, bytes.clone(), hlc)? {
        // A sibling that came into the group later has not heard it.
        facts::note(t, What::Picture(id, bytes), Some(hlc))?;
    }
    Ok(())
}

/// A sibling says what was said before this device came.
pub(crate) fn told<E: Engine>(
    t: &mut Turn<'_, E>,
    id: ThreadId,
    bytes: Option<Vec<u8>>,
    hlc: Hlc,
) -> Result<(), StorageError> {
    let is_group = thread::get(&t.rows, &id)?.is_some_and(|row| row.is_group());
    if is_group && bytes.as_deref().is_none_or(|bytes| Format::of(bytes).is_some()) {
        hold(t, id, bytes, hlc)?;
    }
    Ok(())
}

/// Keeps it, if it is the latest; the owner is told of another than before.
fn hold<E: Engine>(t: &mut Turn<'_, E>, id: ThreadId, bytes: Option<Vec<u8>>, hlc: Hlc) -> Result<bool, StorageError> {
    let key = rows::picture_key(&id);
    let known: Option<PictureRow> = rows::get(&t.rows, &key)?;
    if known.as_ref().is_some_and(|known| known.hlc >= hlc) {
        return Ok(false);
    }
    if known.and_then(|known| known.bytes) != bytes {
        t.event(Event::PictureChanged { thread: id });
    }
    rows::put(&mut t.rows, key, &PictureRow { bytes, hlc });
    Ok(true)
}
