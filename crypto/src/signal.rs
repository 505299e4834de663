//! Signals: words that those who are in a thread now seal for each other beside its messages, and nobody keeps.
//! Owns: the key of an epoch, the signed and sealed form: always of one length.
//! Never: uses a generation of the group's ratchets: a signal that is lost leaves no gap. What forward secrecy it has is the
//! epoch's. Rules: docs/protocol/signal.md.

use std::collections::BTreeMap;
use std::fmt;

use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{DeviceId, Epoch, PublicKey, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::signal::{Said, Signal};
use whimbrel_protocol::signed::Signed;
use zeroize::Zeroizing;

use crate::chance::Chance;
use crate::keys::KeyPair;
use crate::{fixed, signed};

/// What the exporter of an epoch is asked for (RFC 9420 §8.5).
pub(crate) const LABEL: &str = "whimbrel signal 1";
/// What an author signs in.
const CONTEXT: &str = "whimbrel signal 1";

/// The key of a thread's signals in one epoch, and who may make one.
#[derive(Clone)]
pub struct SignalKey {
    thread: ThreadId,
    epoch: Epoch,
    key: Zeroizing<[u8; 32]>,
    members: BTreeMap<DeviceId, PublicKey>,
}

impl SignalKey {
    pub(crate) fn new(
        (thread, epoch): (ThreadId, Epoch),
        key: [u8; 32],
        members: impl IntoIterator<Item = (DeviceId, PublicKey)>,
    ) -> Self {
        Self { thread, epoch, key: Zeroizing::new(key), members: members.into_iter().collect() }
    }

    /// Of which epoch it is.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Signs and seals what a device of the thread says.
    pub fn seal(&self, by: DeviceId, device: &KeyPair, said: &Said, chance: &mut Chance) -> Option<Signal> {
        let words = canonical::encode(&signed::sign(device, by, CONTEXT, canonical::encode(said)));
        let sealed = fixed::seal(&*self.key, limits::SIGNAL_BYTES, self.thread.as_bytes(), &words, chance)?;
        Some(Signal { thread: self.thread, by, epoch: self.epoch, sealed })
    }

    /// What a signal says and who says it; nothing when it is of another thread or epoch, was changed, or is not by a device
    /// that is in the thread in this epoch.
    pub fn open(&self, signal: &Signal) -> Option<(DeviceId, Said)> {
        let words = fixed::open(&*self.key, self.thread.as_bytes(), &signal.sealed)?;
        let words: Signed = canonical::decode(&words).ok().filter(|words: &Signed| words.by == signal.by)?;
        signed::verify(self.members.get(&words.by)?, CONTEXT, &words).ok()?;
        let said: Said = canonical::decode(&words.content).ok()?;
        (said.thread == self.thread && said.epoch == self.epoch).then_some((words.by, said))
    }
}

impl fmt::Debug for SignalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalKey").field("thread", &self.thread).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
