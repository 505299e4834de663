//! Agreement: what members of a thread compare to know that they are in the same place. Reads alone.

use whimbrel_crypto::{Authenticator, Engine, EngineError};
use whimbrel_protocol::id::{AccountId, DeviceId, Epoch, ThreadId};
use whimbrel_storage::{Reads, StorageError};

use super::{Standing, standing};
use crate::rows::{self, Space, ThreadRow};
use crate::thread;

/// This device's place in one thread. Conversations that people see as one may have several threads ([`super::Thread`]);
/// here each stands for itself, the one that an account's devices have among themselves too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which thread.
    pub thread: ThreadId,
    /// Whether this device takes itself to be in it.
    pub standing: Standing,
    /// How often it has changed.
    pub epoch: Epoch,
    /// Every device with a leaf, this one included, ascending.
    pub leaves: Vec<DeviceId>,
    /// Whose device made it, if it says so.
    pub founder: Option<AccountId>,
}

/// Every thread that this device has or had a place in, by id. Invitations that were refused are none.
///
/// # Errors
/// The store could not be read.
pub fn memberships(reads: &dyn Reads) -> Result<Vec<Membership>, StorageError> {
    let mut found = Vec::new();
    rows::each(reads, &rows::space(Space::Thread), |(key, value)| {
        let row: ThreadRow = rows::decode(&key, &value)?;
        if let (Some(standing), Some(id)) = (standing(&row), rows::id_in_key(&key)) {
            found.push(Membership {
                thread: ThreadId::from_bytes(id),
                standing,
                epoch: row.epoch,
                leaves: thread::leaves(&row).collect(),
                founder: row.founding.map(|founding| founding.creator),
            });
        }
        Ok(())
    })?;
    Ok(found)
}

/// The authenticator of the epoch this device is in (RFC 9420 §8.7), 32 bytes: who has the same has followed the same commits
/// to the same members. It is no secret between members and gives nothing else away, so people may read it to each other, or
/// a display show it; whoever is not in the epoch cannot tell what it is. Nothing: this device is not in the thread.
/// `engine` is any of the kind that sealed the thread: it keeps nothing.
///
/// # Errors
/// The rows could not be read, or are not what the engine wrote.
pub fn authenticator<E: Engine>(
    engine: &E,
    reads: &dyn Reads,
    thread: ThreadId,
) -> Result<Option<Authenticator>, EngineError> {
    match engine.authenticator(reads, thread) {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::UnknownThread | EngineError::NotMember) => Ok(None),
        Err(error) => Err(error),
    }
}
