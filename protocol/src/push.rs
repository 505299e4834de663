//! Push: entries of a log on their way to a connected device.
//! Rules: docs/protocol/push.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::hub::Accepted;
use crate::id::{BlobId, DeviceId, Domain, EnvelopeId, Epoch, Sequence, ThreadId};
use crate::limits;
use crate::refusal::RefusalCode;
use crate::signed::Signed;
use crate::thread::{Envelope, Founding, Participant};

/// Which log of a relay, as seen by one device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogRef {
    /// The account's own: Welcomes, requests, notices. Variant 0.
    Inbox,
    /// A thread's. Variant 1.
    Thread(ThreadId),
}

impl<C> Encode<C> for LogRef {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        cx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?;
        match self {
            Self::Inbox => e.u8(0)?.array(0)?.ok(),
            Self::Thread(thread) => thread.encode(e.u8(1)?.array(1)?, cx),
        }
    }
}

/// By hand, because the derived one would skip whatever stands where a variant has no fields: two spellings of one log.
impl<'b, C> Decode<'b, C> for LogRef {
    fn decode(d: &mut minicbor::Decoder<'b>, cx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let other = || minicbor::decode::Error::message("not a log");
        if d.array()? != Some(2) {
            return Err(other());
        }
        match (d.u32()?, d.array()?) {
            (0, Some(0)) => Ok(Self::Inbox),
            (1, Some(1)) => ThreadId::decode(d, cx).map(Self::Thread),
            _ => Err(other()),
        }
    }
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum EntryBody {
    /// A sealed message of a thread, and who handed it in.
    #[n(0)]
    Envelope(#[n(0)] DeviceId, #[n(1)] Envelope),
    /// The account was added to a thread.
    #[n(1)]
    Invitation(#[n(0)] Invitation),
    /// Another relay will not have what a device of the account handed in.
    #[n(2)]
    Undelivered(#[n(0)] Undelivered),
    /// Somebody's word about friendship ([`crate::friendship::FriendshipWord`]).
    #[n(3)]
    Friendship(#[n(0)] Signed),
    /// A change of a group that holds.
    #[n(4)]
    Commit(#[n(0)] Accepted),
}

/// Nobody who lives at that relay gets these, and nothing tries again.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Undelivered {
    /// The thread.
    #[n(0)]
    pub thread: ThreadId,
    /// The domain of the relay that refused, or was not reached before the log was full.
    #[n(1)]
    pub domain: Domain,
    /// Why.
    #[n(2)]
    pub code: RefusalCode,
    /// Which envelopes; none: the opening of the thread itself.
    #[n(3)]
    pub envelopes: Vec<EnvelopeId>,
}

/// Names the thread an account was added to and where its Welcome is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Invitation {
    /// The thread.
    #[n(0)]
    pub thread: ThreadId,
    /// The epoch the Welcome leads to.
    #[n(1)]
    pub epoch: Epoch,
    /// The device that added.
    #[n(2)]
    pub inviter: DeviceId,
    /// Everybody in the thread.
    #[n(3)]
    pub participants: Vec<Participant>,
    /// The Welcome.
    #[n(4)]
    pub welcome: BlobId,
    /// The ratchet tree.
    #[n(5)]
    pub tree: BlobId,
    /// Of a group: where its id comes from.
    #[n(6)]
    pub founding: Option<Founding>,
}

/// One entry of a log.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Its place in the log.
    #[n(0)]
    pub sequence: Sequence,
    /// What it carries.
    #[n(1)]
    pub body: EntryBody,
}

/// A stretch of a log that the relay let go before this device had it: `after < sequence <= upto`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Gone {
    /// The place before it.
    #[n(0)]
    pub after: Sequence,
    /// Its last place.
    #[n(1)]
    pub upto: Sequence,
}

/// A run of entries: everything for this device with `after < sequence <= upto` that is still there.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Push {
    /// Which log.
    #[n(0)]
    pub log: LogRef,
    /// The device's place before the run.
    #[n(1)]
    pub after: Sequence,
    /// Its place after the run; beyond the last entry where others' entries follow.
    #[n(2)]
    pub upto: Sequence,
    /// The entries for this device, ascending.
    #[n(3)]
    pub entries: Vec<Entry>,
    /// What is not there any more, before the first of them.
    #[n(4)]
    pub gone: Option<Gone>,
}

/// Everything that waited when the device came in has been pushed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct CaughtUp {}

impl Words for CaughtUp {}

impl Words for Push {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("entries", self.entries.len(), limits::PUSH_ENTRIES_MAX)?;
        let inside = |entry: &Entry| self.after < entry.sequence && entry.sequence <= self.upto;
        if !self.entries.is_sorted_by(|a, b| a.sequence < b.sequence) || !self.entries.iter().all(inside) {
            return Err(Bound::order("entries"));
        }
        if let Some(Gone { after, upto }) = self.gone {
            let first = self.entries.first().is_none_or(|entry| upto < entry.sequence);
            if self.after > after || after >= upto || upto > self.upto || !first {
                return Err(Bound::order("gone"));
            }
        }
        self.entries.iter().try_for_each(|entry| match &entry.body {
            EntryBody::Envelope(_, envelope) => envelope.check(),
            EntryBody::Invitation(invitation) => Bound::items(
                "devices of a thread",
                invitation.participants.iter().map(|participant| participant.devices.len()).sum(),
                limits::THREAD_DEVICES_MAX,
            ),
            EntryBody::Undelivered(undelivered) => {
                Bound::items("envelopes", undelivered.envelopes.len(), limits::UNDELIVERED_MAX)
            }
            EntryBody::Friendship(word) => crate::friendship::word(word),
            EntryBody::Commit(accepted) => accepted.check(),
        })
    }
}
