//! Chance: every random byte of the house comes from a seed that someone handed in.
//! Owns: the seed, the generator it drives, and children of it for separate purposes.
//! Never: asks an operating system for entropy; runtimes do, once, and hand a [`Seed`] over.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// 32 bytes that decide everything that looks random. A secret, except in simulations.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Wraps 32 bytes of good entropy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// A stream of random bytes: ChaCha20 (RFC 8439 §2.3) keyed by a [`Seed`]. The same seed gives the same stream.
///
/// The kept library's buffer is not wiped when dropped; a chance lives as long as its process and its seed is wiped.
pub struct Chance(ChaCha20Rng);

impl Chance {
    /// The stream of a seed.
    pub fn from_seed(seed: Seed) -> Self {
        Self(ChaCha20Rng::from_seed(seed.0))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A child with a stream of its own. Two forks differ, even for the same purpose, for each takes 32 bytes from
    /// this stream; the purpose keeps streams apart that would otherwise start from the same bytes.
    #[must_use]
    pub fn fork(&mut self, purpose: &str) -> Self {
        let drawn = Zeroizing::new(self.bytes::<32>());
        let seed = Sha256::new().chain_update(b"whimbrel chance fork\0").chain_update(&drawn[..]).chain_update(purpose);
        Self::from_seed(Seed(seed.finalize().into()))
    }

    /// A stream that follows from a secret and from inputs alone, whatever was drawn before: for work whose order
    /// nobody knows. HMAC-SHA-256 (RFC 2104) under the secret, over each input with its length before it.
    #[must_use]
    pub fn for_inputs(secret: &[u8; 32], inputs: &[&[u8]]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is a key");
        for input in inputs {
            mac.update(&(input.len() as u64).to_be_bytes());
            mac.update(input);
        }
        Self::from_seed(Seed(mac.finalize().into_bytes().into()))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// An even choice from `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // Values past the last whole multiple of `n` would favour small results: draw again. Fewer than one redraw
        // is expected for any `n`.
        let fair = u64::MAX - (u64::MAX % n + 1) % n;
        loop {
            let drawn = self.next_u64();
            if drawn <= fair {
                return drawn % n;
            }
        }
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance(…)")
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn chance(byte: u8) -> Chance {
        Chance::from_seed(Seed::from_bytes([byte; 32]))
    }

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        assert_eq!(chance(1).bytes::<48>(), chance(1).bytes::<48>());
        assert_ne!(chance(1).bytes::<48>(), chance(2).bytes::<48>());
    }

    #[test]
    fn forks_differ_by_purpose_and_by_turn() {
        let mut one = chance(1);
        let first = one.fork("a").next_u64();
        let second = one.fork("a").next_u64();
        let other = chance(1).fork("b").next_u64();
        assert!(first != second && first != other);
        assert_eq!(chance(1).fork("a").next_u64(), first);
    }

    #[test]
    fn a_stream_for_inputs_differs_by_secret_and_by_every_cut_of_the_inputs() {
        let draw = |secret: u8, inputs: &[&[u8]]| Chance::for_inputs(&[secret; 32], inputs).bytes::<32>();
        let first = draw(1, &[b"ab", b"c"]);
        assert_eq!(first, draw(1, &[b"ab", b"c"]));
        for other in [draw(2, &[b"ab", b"c"]), draw(1, &[b"a", b"bc"]), draw(1, &[b"abc"]), draw(1, &[b"c", b"ab"])] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_choice_stays_below_its_bound_and_reaches_every_value() {
        let mut chance = chance(3);
        let mut seen = [0_u32; 7];
        for _ in 0..700 {
            seen[chance.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|times| (50..200).contains(times)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.below(1), 0);
        assert!(chance.below(u64::MAX) < u64::MAX);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?} {:?}", Seed::from_bytes([7; 32]), chance(7)), "Seed(…) Chance(…)");
    }
}
