//! Challenge: what whoever opens a link signs, so that a signature made for another link, relay or time opens none.
//! Owns: a key of this process. Nothing is kept for a challenge: what comes back proves itself.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use whimbrel_protocol::limits;
use whimbrel_protocol::poll::CHALLENGE_BYTES;

use crate::clock::Clock;

const MARK_BYTES: usize = 32;
/// When it is over, in milliseconds of this process's clock, and what makes it the only one.
const SAID_BYTES: usize = CHALLENGE_BYTES - MARK_BYTES;

pub(super) struct Challenges {
    key: [u8; 32],
    clock: Clock,
}

impl Challenges {
    pub(super) fn new(clock: Clock) -> Self {
        Self { key: chance(), clock }
    }

    /// One more.
    pub(super) fn fresh(&self) -> [u8; CHALLENGE_BYTES] {
        let over = self.now_ms().saturating_add(limits::POLL_CHALLENGE_AGE_MAX.as_millis() as u64);
        let mut bytes = [0; CHALLENGE_BYTES];
        let (said, mark) = bytes.split_at_mut(SAID_BYTES);
        let said_now = [over.to_be_bytes().as_slice(), &chance::<16>()].concat();
        said.copy_from_slice(&said_now);
        mark.copy_from_slice(&self.mark(said).finalize().into_bytes());
        bytes
    }

    /// Whether it is ours and not over.
    pub(super) fn holds(&self, challenge: &[u8; CHALLENGE_BYTES]) -> bool {
        self.holds_at(challenge, self.now_ms())
    }

    fn holds_at(&self, challenge: &[u8; CHALLENGE_BYTES], now_ms: u64) -> bool {
        let (said, mark) = challenge.split_at(SAID_BYTES);
        let Some((over, _)) = said.split_first_chunk() else { return false };
        self.mark(said).verify_slice(mark).is_ok() && now_ms <= u64::from_be_bytes(*over)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().monotonic.since_start().as_millis()).unwrap_or(u64::MAX)
    }

    fn mark(&self, said: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(said);
        mac
    }
}

/// Bytes of the operating system's randomness.
pub(super) fn chance<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    assert!(getrandom::fill(&mut bytes).is_ok(), "the operating system gives no randomness");
    bytes
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_out_and_is_not_over_holds() {
        let challenges = Challenges::new(Clock::start());
        let fresh = challenges.fresh();
        assert!(challenges.holds(&fresh));
        assert_ne!(fresh, challenges.fresh());
        for at in 0..fresh.len() {
            let mut changed = fresh;
            changed[at] ^= 1;
            assert!(!challenges.holds(&changed), "{at}");
        }
        // Another process's, and one that is over.
        assert!(!Challenges::new(Clock::start()).holds(&fresh));
        let minute = limits::POLL_CHALLENGE_AGE_MAX.as_millis() as u64;
        assert!(challenges.holds_at(&fresh, minute));
        assert!(!challenges.holds_at(&fresh, challenges.now_ms() + minute + 1));
    }
}
