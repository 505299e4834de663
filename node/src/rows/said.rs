//! Rows about what this device said, and what it owes and is owed for it. Owns: their types and keys. Never: decides
//! what to write.

use std::time::Duration;

use minicbor::{Decode, Encode};
use whimbrel_crypto::SealMark;
use whimbrel_protocol::id::{DeviceId, Epoch, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_storage::{Order, Reads, StorageError};

use super::{Space, after, decode, key};

/// A receipt that has not left.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct OwedRow {
    /// That it is durable here.
    #[n(0)]
    pub(crate) delivered: bool,
    /// That the owner read it.
    #[n(1)]
    pub(crate) read: bool,
}

/// An own content that is counted: what a reader who missed it is given, and who has said to have it.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SaidRow {
    #[n(0)]
    pub(crate) message: MessageId,
    #[n(1)]
    pub(crate) hlc: Hlc,
    /// The epoch it was sealed in first: who came later is not to have it.
    #[n(2)]
    pub(crate) epoch: Epoch,
    /// Whose receipts are awaited: every other leaf of that epoch, ascending; none in a thread too large for receipts.
    #[n(3)]
    pub(crate) to: Vec<DeviceId>,
    /// Who has it, by place in `to`: bits.
    #[n(4)]
    pub(crate) delivered: u32,
    /// Whose owner read it, likewise.
    #[n(5)]
    pub(crate) read: u32,
    /// What was said; absent for a text, which stands in the history.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) body: Option<Vec<u8>>,
    /// No text, and no relay has said yet that it is stored: it is for whoever is in the thread when one does. Of a text the
    /// history says that.
    #[n(7)]
    #[cbor(default)]
    pub(crate) waits: bool,
}

impl SaidRow {
    /// The bits of everybody it is for.
    pub(crate) fn all(&self) -> u32 {
        let count = u32::try_from(self.to.len()).unwrap_or(u32::BITS);
        u32::MAX.checked_shr(u32::BITS.saturating_sub(count)).unwrap_or(0)
    }

    /// The devices of these bits.
    pub(crate) fn devices(&self, bits: u32) -> impl Iterator<Item = DeviceId> + '_ {
        let of = move |(place, device): (usize, &DeviceId)| (bits >> place & 1 == 1).then_some(*device);
        self.to.iter().take(u32::BITS as usize).enumerate().filter_map(of)
    }

    /// The bit of a device; none: it is not one of those.
    pub(crate) fn bit(&self, device: &DeviceId) -> u32 {
        let place = self.to.binary_search(device).ok().filter(|place| *place < u32::BITS as usize);
        place.map_or(0, |place| 1 << place)
    }
}

/// An own content that somebody has not said to have.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct AwaitedRow {
    #[n(0)]
    pub(crate) message: MessageId,
    /// [`ResendRow::passed_ms`] when it was said.
    #[n(1)]
    pub(crate) since_ms: u64,
}

/// When what a thread's readers have not said to have is sealed again.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ResendRow {
    /// Times in a row that nobody said to have any more.
    #[n(0)]
    pub(crate) attempts: u32,
    /// When it was last seen to.
    #[n(1)]
    pub(crate) at: Wall,
    /// Time that has passed for this thread's contents. What a clock skips does not count.
    #[n(2)]
    pub(crate) passed_ms: u64,
}

impl ResendRow {
    /// From one time it is seen to until the next.
    pub(crate) fn interval(&self) -> Duration {
        let factor = 4u32.saturating_pow(self.attempts.min(16));
        limits::RESEND_AFTER_MIN.saturating_mul(factor).min(limits::RESEND_AFTER_MAX)
    }

    /// From when it was last seen to until it is again: to say again what waits, or because the time of the oldest of it is
    /// over, for an author is told of that when it is, and not with the next try.
    pub(crate) fn planned(&self, reads: &dyn Reads, thread: &ThreadId) -> Result<Duration, StorageError> {
        let prefix = awaited_prefix(thread);
        // Counters and times ascend together.
        let oldest = reads.scan(&prefix, &after(&prefix), Order::Ascending, 1)?;
        let Some((key, value)) = oldest.first() else { return Ok(self.interval()) };
        let AwaitedRow { since_ms, .. } = decode(key, value)?;
        let age = Duration::from_millis(self.passed_ms.saturating_sub(since_ms));
        // A clock that stands still brings no time nearer: it is not looked at in a loop.
        let left = limits::MESSAGE_AGE_MAX.saturating_sub(age).max(limits::RESEND_AFTER_MIN);
        Ok(self.interval().min(left))
    }

    /// What has passed of what was planned, by a clock that may have jumped.
    pub(crate) fn elapsed(&self, wall: Wall, planned: Duration) -> Duration {
        Duration::from_millis(wall.as_millis().saturating_sub(self.at.as_millis())).min(planned)
    }
}

pub(crate) fn owed_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::Owed, &[thread.as_bytes()])
}

pub(crate) fn owed_key(thread: &ThreadId, message: &MessageId) -> Vec<u8> {
    key(Space::Owed, &[thread.as_bytes(), message.as_bytes()])
}

/// The message an owed receipt is for.
pub(crate) fn owed_message(key: &[u8]) -> Option<MessageId> {
    key.get(1 + ThreadId::LEN..)?.try_into().ok().map(MessageId::from_bytes)
}

pub(crate) fn resend_prefix() -> Vec<u8> {
    key(Space::Awaited, &[&[0]])
}

pub(crate) fn resend_key(thread: &ThreadId) -> Vec<u8> {
    key(Space::Awaited, &[&[0], thread.as_bytes()])
}

/// The thread of a resend key.
pub(crate) fn thread_of_resend(key: &[u8]) -> Option<ThreadId> {
    key.get(2..)?.try_into().ok().map(ThreadId::from_bytes)
}

pub(crate) fn awaited_prefix(thread: &ThreadId) -> Vec<u8> {
    key(Space::Awaited, &[&[1], thread.as_bytes()])
}

pub(crate) fn awaited_key(thread: &ThreadId, counter: u64) -> Vec<u8> {
    key(Space::Awaited, &[&[1], thread.as_bytes(), &counter.to_be_bytes()])
}

pub(crate) fn said_key(thread: &ThreadId, counter: u64) -> Vec<u8> {
    key(Space::Said, &[thread.as_bytes(), &counter.to_be_bytes()])
}

pub(crate) fn mark_key(mark: &SealMark) -> Vec<u8> {
    key(Space::Mark, &[mark])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::{AccountId, DeviceIndex};

    use super::*;

    #[test]
    fn every_device_it_is_for_has_a_bit_of_its_own_and_nobody_else_has_one() {
        let device = |byte| DeviceId { account: AccountId::from_bytes([byte; 32]), index: DeviceIndex::FIRST };
        let said = |count: u8| SaidRow {
            message: MessageId::from_bytes([1; 16]),
            hlc: Hlc::default(),
            epoch: Epoch::new(1),
            to: (0..count).map(device).collect(),
            delivered: 0,
            read: 0,
            body: None,
            waits: false,
        };
        for count in [0, 1, 2, 31, 32] {
            let said = said(count);
            let bits: Vec<u32> = (0..count).map(|byte| said.bit(&device(byte))).collect();
            assert_eq!(bits.iter().fold(0, |all, bit| all | bit), said.all());
            assert_eq!(bits.iter().map(|bit| bit.count_ones()).sum::<u32>(), u32::from(count));
            assert_eq!(said.bit(&device(count)), 0);
            assert_eq!(said.devices(said.all()).collect::<Vec<_>>(), said.to);
        }
    }

    #[test]
    fn the_message_of_an_owed_receipt_is_read_back() {
        let (thread, message) = (ThreadId::from_bytes([7; 32]), MessageId::from_bytes([9; 16]));
        assert_eq!(owed_message(&owed_key(&thread, &message)), Some(message));
        assert!(owed_message(&owed_prefix(&thread)).is_none());
    }
}
