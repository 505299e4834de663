//! Named random streams: each purpose of each entity draws from a stream of its own.
//! Owns: the derivation (seed, entity, purpose) and the distributions.
//! Never: one stream for two purposes: a draw more here would change everything there, and two runs that should
//! differ in one thing would differ in all.

use std::time::Duration;

use sha2::{Digest, Sha256};
use whimbrel_crypto::chance::{Chance, Seed as ChanceSeed};

use super::exact;
use super::time::nanos;

/// What a whole run is drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(u64);

impl From<u64> for Seed {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose stream it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entity {
    /// The world itself.
    World,
    /// A process, by its number.
    Process(u32),
    /// One life of a process: its number, and how often it started before.
    Run(u32, u32),
}

impl Seed {
    /// The stream of an entity for a purpose.
    pub fn stream(self, entity: Entity, purpose: &str) -> Stream {
        Stream(Chance::from_seed(ChanceSeed::from_bytes(self.bytes(entity, purpose))))
    }

    /// 32 bytes for an entity and a purpose, to seed somebody else's generator.
    pub fn bytes(self, entity: Entity, purpose: &str) -> [u8; 32] {
        let (kind, a, b) = match entity {
            Entity::World => (0_u8, 0, 0),
            Entity::Process(process) => (1, process, 0),
            Entity::Run(process, run) => (2, process, run),
        };
        let mut hash = Sha256::new_with_prefix(b"whimbrel simulation stream\0");
        hash.update(self.0.to_le_bytes());
        hash.update([kind]);
        hash.update(a.to_le_bytes());
        hash.update(b.to_le_bytes());
        hash.update(purpose);
        hash.finalize().into()
    }
}

/// One stream of chance.
#[derive(Debug)]
pub struct Stream(Chance);

impl Stream {
    /// The generator below, for whoever wants bytes.
    pub const fn chance(&mut self) -> &mut Chance {
        &mut self.0
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// An even choice from `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// An even choice from the items; none of none.
    pub fn pick<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Evenly from `[0, 1)`, in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// True with probability `share`. Draws nothing when the answer is certain.
    pub fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && (share >= 1.0 || self.unit() < share)
    }

    /// Evenly between two durations.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = nanos(most).saturating_sub(nanos(least));
        Duration::from_nanos(nanos(least) + self.below(span.saturating_add(1)))
    }

    /// Exponentially distributed with this mean, cut at twenty times the mean (two in 10^9 draws).
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let scaled = mean.as_nanos() as f64 * self.standard_exponential().min(20.0);
        Duration::from_nanos(scaled as u64)
    }

    /// Weibull distributed with this mean and shape, cut like [`Stream::exponential`] before the stretch.
    pub fn weibull(&mut self, mean: Duration, shape: f64) -> Duration {
        let draw = self.standard_exponential().clamp(1e-9, 20.0);
        let scale = mean.as_nanos() as f64 / exact::exp(exact::ln_gamma(1.0 + 1.0 / shape));
        let stretched = scale * exact::exp(exact::ln(draw) / shape);
        Duration::from_nanos(stretched.min(1e18) as u64)
    }

    /// Von Neumann's method ("Various techniques used in connection with random digits", 1951): comparisons and
    /// additions only. A logarithm would come from the platform's library, and its last bit with it.
    fn standard_exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut falling) = (first, 1_u32);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, falling) = (next, falling + 1);
            }
            if falling % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_entity_and_purpose_and_repeat() {
        let draw = |seed: u64, entity, purpose| Seed::from(seed).stream(entity, purpose).bits();
        let one = draw(7, Entity::Process(1), "disk");
        assert_eq!(one, draw(7, Entity::Process(1), "disk"));
        for other in [
            draw(8, Entity::Process(1), "disk"),
            draw(7, Entity::Process(2), "disk"),
            draw(7, Entity::Run(1, 0), "disk"),
            draw(7, Entity::Process(1), "jitter"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn exponential_draws_have_their_mean_and_their_tail() {
        let mut stream = Seed::from(1).stream(Entity::World, "test");
        let mean = Duration::from_millis(100);
        let draws: Vec<_> = (0..20_000).map(|_| stream.exponential(mean)).collect();
        let average = draws.iter().sum::<Duration>() / 20_000;
        assert!((97..103).contains(&average.as_millis()), "mean of {average:?}");
        // e^-2 of them are beyond twice the mean: 2,707 expected, standard deviation 48.
        let beyond = draws.iter().filter(|draw| **draw > 2 * mean).count();
        assert!((2_500..2_900).contains(&beyond), "{beyond} beyond twice the mean");
    }

    #[test]
    fn weibull_draws_have_their_mean_and_their_median() {
        for shape in [0.6077, 1.0, 2.0] {
            let mut stream = Seed::from(1).stream(Entity::World, "test");
            let mean = Duration::from_secs(100);
            let mut draws: Vec<_> = (0..20_000).map(|_| stream.weibull(mean, shape).as_secs_f64()).collect();
            let average = draws.iter().sum::<f64>() / 20_000.0;
            assert!((95.0..105.0).contains(&average), "shape {shape}: mean of {average}");
            draws.sort_by(f64::total_cmp);
            // Mean over gamma(1 + 1/k), times ln(2)^(1/k).
            let expected =
                100.0 / exact::exp(exact::ln_gamma(1.0 + 1.0 / shape)) * std::f64::consts::LN_2.powf(1.0 / shape);
            let median = draws.get(10_000).copied().unwrap_or_default();
            assert!((median / expected - 1.0).abs() < 0.05, "shape {shape}: median {median}, not {expected}");
        }
    }

    #[test]
    fn shares_are_met() {
        let mut stream = Seed::from(2).stream(Entity::World, "test");
        let hits = (0..10_000).filter(|_| stream.happens(0.1)).count();
        assert!((900..1_100).contains(&hits), "{hits}");
        assert!(!stream.happens(0.0) && stream.happens(1.0));
    }
}
