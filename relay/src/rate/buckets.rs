//! Buckets: those of one kind, and which of them goes when there are too many.
//! Owns: what is left in each, and when each is full again. A full bucket is worth what none is, so it goes as soon as it is
//! in the way; never one that still limits while there is one that does not.
//! Limits: the bound it is made with, `limits::RATE_SWEEP_MAX`. Rules: docs/protocol/reception.md, "Rates".

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;

use super::{Every, ONE, Rate};
use crate::refusal::Refusal;

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Bucket {
    /// In parts: a token is [`ONE`] of them, and [`Rate::parts_per_ms`] come back in a millisecond.
    parts: u64,
    filled: Monotonic,
    /// The parts it is full with: the burst, or the most that was asked for at once.
    most: u64,
    /// When tokens were taken in the last hour, of a rate so small that no hour may see more: a bucket alone gives a full
    /// one away and as many again in the hour that follows.
    taken: VecDeque<Monotonic>,
    /// When it is full, if nothing is taken until then.
    full_at: Monotonic,
}

impl Bucket {
    const fn full(most: u64, now: Monotonic) -> Self {
        Self { parts: most, filled: now, most, taken: VecDeque::new(), full_at: now }
    }

    fn fill(&mut self, now: Monotonic, rate: Rate, full: u64) {
        let passed = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
        self.parts = self.parts.saturating_add(passed.saturating_mul(rate.parts_per_ms())).min(full);
        // Whole milliseconds only: what is left of one counts with the next.
        self.filled = self.filled.plus(Duration::from_millis(passed));
        self.most = self.most.max(full);
    }

    /// How long until one more fits into the last hour.
    fn wait(&mut self, now: Monotonic, rate: Rate) -> Option<Duration> {
        while self.taken.front().is_some_and(|taken| now.since(*taken) >= HOUR) {
            self.taken.pop_front();
        }
        let full = self.taken.len() >= rate.tokens as usize;
        self.taken.front().filter(|_| full).map(|oldest| HOUR.saturating_sub(now.since(*oldest)))
    }

    fn settle(&mut self, rate: Rate) {
        let missing = self.most.saturating_sub(self.parts).div_ceil(rate.parts_per_ms());
        let refilled = self.filled.plus(Duration::from_millis(missing));
        self.full_at = self.taken.back().map_or(refilled, |taken| refilled.max(taken.plus(HOUR)));
    }
}

#[derive(Debug)]
struct Shelf<K> {
    buckets: BTreeMap<K, Bucket>,
    /// By when each is full: what is full goes first, then what is nearest to it.
    by_full: BTreeSet<(Monotonic, K)>,
}

impl<K: Ord + Clone> Shelf<K> {
    /// Takes away what is full, a little at a time: each call adds one at most.
    fn sweep(&mut self, now: Monotonic) {
        for _ in 0..limits::RATE_SWEEP_MAX {
            let Some((_, whose)) = self.by_full.first().filter(|(full_at, _)| *full_at <= now).cloned() else { break };
            self.remove(&whose);
        }
    }

    /// Keeps the bound. The one that was just taken from stays, or whoever comes while all others limit would have none.
    fn bound(&mut self, max: usize, but: &K) {
        while self.buckets.len() > max {
            let Some((_, whose)) = self.by_full.iter().find(|(_, whose)| whose != but).cloned() else { break };
            self.remove(&whose);
        }
    }

    fn remove(&mut self, whose: &K) {
        if let Some(bucket) = self.buckets.remove(whose) {
            self.by_full.remove(&(bucket.full_at, whose.clone()));
        }
    }
}

/// The buckets of one kind.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    max: usize,
    shelf: Mutex<Shelf<K>>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// None yet, and at most so many.
    pub(super) const fn new(rate: Rate, max: usize) -> Self {
        let shelf = Shelf { buckets: BTreeMap::new(), by_full: BTreeSet::new() };
        Self { rate, max, shelf: Mutex::new(shelf) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<K>> {
        // Nothing that could panic runs under the lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no hour may see more than the rate has tokens.
    const fn is_exact(&self) -> bool {
        matches!(self.rate.every, Every::Hour) && self.rate.tokens <= limits::RATE_EXACT_MAX
    }

    /// Takes so many tokens of somebody's.
    ///
    /// # Errors
    /// There are not as many; with the time after which there are.
    pub(super) fn take(&self, now: Monotonic, whose: &K, count: u32) -> Result<(), Refusal> {
        let rate = self.rate;
        if rate.tokens == 0 {
            return Ok(());
        }
        let mut shelf = self.shelf();
        let shelf = &mut *shelf;
        shelf.sweep(now);
        let full = u64::from(rate.burst.max(count)) * ONE;
        let bucket = shelf.buckets.entry(whose.clone()).or_insert_with(|| Bucket::full(full, now));
        shelf.by_full.remove(&(bucket.full_at, whose.clone()));
        bucket.fill(now, rate, full);
        let cost = u64::from(count) * ONE;
        let missing = cost.saturating_sub(bucket.parts);
        let exact = self.is_exact();
        let crowded = if exact { bucket.wait(now, rate) } else { None };
        if missing == 0 && crowded.is_none() {
            bucket.parts -= cost;
            if exact {
                bucket.taken.push_back(now);
            }
        }
        bucket.settle(rate);
        shelf.by_full.insert((bucket.full_at, whose.clone()));
        shelf.bound(self.max, whose);
        let refill = (missing > 0).then(|| Duration::from_millis(missing.div_ceil(rate.parts_per_ms()).max(1)));
        let Some(wait) = refill.max(crowded) else { return Ok(()) };
        Err(Refusal::later(RefusalCode::TooFast, wait))
    }

    /// Gives back a token that was taken at that time. A bucket that is full by it goes.
    pub(super) fn give_back(&self, at: Monotonic, whose: &K) {
        let mut shelf = self.shelf();
        let shelf = &mut *shelf;
        let Some(bucket) = shelf.buckets.get_mut(whose) else { return };
        let taken = bucket.taken.iter().rposition(|taken| *taken == at);
        if self.is_exact() && taken.is_none() {
            // It was taken from one that is no more.
            return;
        }
        if let Some(taken) = taken {
            bucket.taken.remove(taken);
        }
        shelf.by_full.remove(&(bucket.full_at, whose.clone()));
        bucket.parts = bucket.parts.saturating_add(ONE).min(bucket.most);
        bucket.settle(self.rate);
        shelf.by_full.insert((bucket.full_at, whose.clone()));
        if bucket.parts == bucket.most && bucket.taken.is_empty() {
            shelf.remove(whose);
        }
    }

    /// Takes away whose are meant.
    pub(super) fn forget(&self, meant: impl Fn(&K) -> bool) {
        let mut shelf = self.shelf();
        shelf.buckets.retain(|whose, _| !meant(whose));
        shelf.by_full.retain(|(_, whose)| !meant(whose));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shelf = self.shelf();
        assert_eq!(shelf.buckets.len(), shelf.by_full.len());
        shelf.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_millis(millis))
    }

    fn has(buckets: &Buckets<u64>, whose: u64) -> bool {
        buckets.shelf().buckets.contains_key(&whose)
    }

    #[test]
    fn a_full_bucket_goes_and_one_that_limits_stays_however_long_it_rested() {
        let buckets = Buckets::new(Rate::new(60, 10), 4);
        // The first limits for ten seconds, and rests longest.
        assert!((0..10).all(|_| buckets.take(at(0), &0, 1).is_ok()));
        for whose in 1..1_000 {
            assert!(buckets.take(at(whose), &whose, 1).is_ok());
            assert!(buckets.len() <= 4);
        }
        assert!(buckets.take(at(999), &0, 1).is_err(), "it was not made anew");
        assert!(buckets.take(at(10_000), &0, 10).is_ok());
    }

    #[test]
    fn buckets_that_are_full_again_take_no_room_and_no_call_looks_at_many() {
        let buckets = Buckets::new(Rate::new(60, 10), 10_000);
        for whose in 0..1_000 {
            assert!(buckets.take(at(0), &whose, 1).is_ok());
        }
        assert_eq!(buckets.len(), 1_000);
        let mut before = buckets.len();
        for n in 0..1_000 {
            assert!(buckets.take(at(1_000 + n), &5_000, 0).is_ok());
            let after = buckets.len();
            assert!(before.saturating_sub(after) <= limits::RATE_SWEEP_MAX);
            before = after;
        }
        assert_eq!(before, 1);
    }

    #[test]
    fn where_all_limit_the_one_that_would_be_full_first_goes_and_never_the_one_that_is_asked_for() {
        let buckets = Buckets::new(Rate::new(60, 10), 3);
        for (whose, count) in [(1, 9), (2, 4), (3, 8)] {
            assert!(buckets.take(at(0), &whose, count).is_ok());
        }
        // The newest would be full first.
        assert!(buckets.take(at(1), &4, 1).is_ok());
        assert_eq!([1, 2, 3, 4].map(|whose| has(&buckets, whose)), [true, false, true, true]);
        assert!((0..9).all(|_| buckets.take(at(2), &4, 1).is_ok()) && buckets.take(at(2), &4, 1).is_err());
        assert!(buckets.take(at(3), &5, 1).is_ok());
        assert_eq!([1, 3, 4, 5].map(|whose| has(&buckets, whose)), [true, false, true, true]);
    }

    #[test]
    fn more_than_a_burst_at_once_costs_its_whole_time() {
        let buckets = Buckets::new(Rate::new(60, 10), 9);
        assert!(buckets.take(at(0), &1, 100).is_ok());
        let wait = |millis| buckets.take(at(millis), &1, 100).map_err(|refusal| refusal.retry_after_ms());
        assert_eq!(wait(11_000), Err(Some(89_000)));
        assert_eq!(wait(100_000), Ok(()));
    }

    #[test]
    fn an_exact_hour_is_kept_until_it_is_over() {
        let buckets = Buckets::new(Rate::hourly(2, 2), 9);
        assert!(buckets.take(at(0), &1, 1).is_ok());
        // Half an hour fills it; the hour of the token that was taken goes on.
        assert!(buckets.take(at(1_800_000), &2, 1).is_ok() && has(&buckets, 1));
        assert!(buckets.take(at(3_600_000), &2, 1).is_ok() && !has(&buckets, 1));
    }
}
