//! Rates: token buckets, one for each account, source address and peer, and for each pair that claims.
//! Owns: what is left in them, and how many there are. Never: counts what a command bounds.
//! Limits: `limits::RATE_BUCKETS_MAX`. Rules: docs/protocol/reception.md, "Rates".

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;
use whimbrel_storage::planted::{self, Bug};

use crate::refusal::Refusal;

/// So many at once, and so many a minute or an hour after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens that come back in that time; zero: no bound.
    pub tokens: u32,
    /// In which time.
    pub every: Every,
    /// Tokens there are at most.
    pub burst: u32,
}

/// The time in which a bucket's tokens come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
}

impl Rate {
    /// No bound.
    pub const UNBOUNDED: Self = Self { tokens: 0, every: Every::Minute, burst: 0 };

    /// So many a minute.
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        Self { tokens: per_minute, every: Every::Minute, burst }
    }

    /// So many an hour, for what is asked for so seldom that a minute has no whole number of it.
    pub const fn hourly(per_hour: u32, burst: u32) -> Self {
        Self { tokens: per_hour, every: Every::Hour, burst }
    }

    /// Parts that come back in a millisecond.
    const fn parts_per_ms(self) -> u64 {
        let each = match self.every {
            Every::Minute => ONE / 60_000,
            Every::Hour => ONE / 3_600_000,
        };
        self.tokens as u64 * each
    }
}

/// How much of what one may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Envelopes an account hands in.
    pub messages: Rate,
    /// Other requests of an account.
    pub requests: Rate,
    /// Links from one network, and what comes on them before a device is let in: registrations, recoveries, first entries.
    pub arrivals: Rate,
    /// Envelopes and openings a peer forwards.
    pub peer_items: Rate,
    /// Requests of a peer, and as many again of what it sends by itself: heartbeats and statuses.
    pub peer_requests: Rate,
    /// Friend requests of a peer.
    pub peer_friend_requests: Rate,
    /// KeyPackages one account claims of another.
    pub claims: Rate,
    /// What an account's devices send by themselves: a token for each log acknowledged, and
    /// [`limits::HEARTBEAT_TOKENS`] for a heartbeat.
    pub signs: Rate,
    /// Threads that an account's heartbeats name as used: each is a row written.
    pub touches: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            messages: Rate::new(1_200, 1_000),
            requests: Rate::new(600, 600),
            arrivals: Rate::new(600, 1_200),
            peer_items: Rate::new(120_000, 60_000),
            peer_requests: Rate::new(6_000, 3_000),
            peer_friend_requests: Rate::hourly(1_000, 1_000),
            claims: Rate::hourly(10, 10),
            signs: Rate::new(120_000, 60_000),
            touches: Rate::new(6_144, 10_240),
        }
    }
}

impl Rates {
    /// No bound anywhere.
    pub const UNBOUNDED: Self = Self {
        messages: Rate::UNBOUNDED,
        requests: Rate::UNBOUNDED,
        arrivals: Rate::UNBOUNDED,
        peer_items: Rate::UNBOUNDED,
        peer_requests: Rate::UNBOUNDED,
        peer_friend_requests: Rate::UNBOUNDED,
        claims: Rate::UNBOUNDED,
        signs: Rate::UNBOUNDED,
        touches: Rate::UNBOUNDED,
    };
}

/// Whose bucket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whose {
    Messages(AccountId),
    Requests(AccountId),
    Arrivals(u64),
    PeerItems(Domain),
    PeerRequests(Domain),
    PeerFriendRequests(Domain),
    PeerSigns(Domain),
    Claims(AccountId, AccountId),
    Signs(AccountId),
    Touches(AccountId),
}

/// The parts of a token: as many as an hour has milliseconds, so that no division is lost.
const ONE: u64 = 3_600_000;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Bucket {
    /// In parts: a token is [`ONE`] of them, and [`Rate::parts_per_ms`] come back in a millisecond.
    parts: u64,
    filled: Monotonic,
    /// When tokens were taken in the last hour, of a rate so small that no hour may see more: a bucket alone gives a full
    /// one away and as many again in the hour that follows.
    taken: VecDeque<Monotonic>,
}

impl Bucket {
    /// How long until one more fits into the last hour.
    fn wait(&mut self, now: Monotonic, rate: Rate) -> Option<Duration> {
        while self.taken.front().is_some_and(|taken| now.since(*taken) >= HOUR) {
            self.taken.pop_front();
        }
        let full = self.taken.len() >= rate.tokens as usize;
        self.taken.front().filter(|_| full).map(|oldest| HOUR.saturating_sub(now.since(*oldest)))
    }
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<Whose, Bucket>,
    /// By when each was last looked at: the one that rested longest goes first, and is full most likely.
    rested: BTreeSet<(Monotonic, Whose)>,
}

/// The buckets of one relay.
#[derive(Debug)]
pub(crate) struct Limiter {
    rates: Rates,
    state: Mutex<State>,
}

impl Limiter {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { rates, state: Mutex::default() }
    }

    pub(crate) fn message(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.take(now, Whose::Messages(account), self.rates.messages, 1)
    }

    pub(crate) fn request(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.take(now, Whose::Requests(account), self.rates.requests, 1)
    }

    /// `source`: a number for the address, or for the network it is in.
    pub(crate) fn arrival(&self, now: Monotonic, source: u64) -> Result<(), Refusal> {
        self.take(now, Whose::Arrivals(source), self.rates.arrivals, 1)
    }

    pub(crate) fn peer_items(&self, now: Monotonic, peer: &Domain, count: usize) -> Result<(), Refusal> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.take(now, Whose::PeerItems(peer.clone()), self.rates.peer_items, count)
    }

    pub(crate) fn peer_request(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.take(now, Whose::PeerRequests(peer.clone()), self.rates.peer_requests, 1)
    }

    /// A heartbeat or statuses: apart from its requests, so that a peer that asks for much does not lose its link by them.
    pub(crate) fn peer_sign(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.take(now, Whose::PeerSigns(peer.clone()), self.rates.peer_requests, 1)
    }

    pub(crate) fn peer_friend_request(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.take(now, Whose::PeerFriendRequests(peer.clone()), self.rates.peer_friend_requests, 1)
    }

    pub(crate) fn claim(&self, now: Monotonic, requester: AccountId, owner: AccountId) -> Result<(), Refusal> {
        self.take(now, Whose::Claims(requester, owner), self.rates.claims, 1)
    }

    pub(crate) fn heartbeat(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.take(now, Whose::Signs(account), self.rates.signs, limits::HEARTBEAT_TOKENS)
    }

    /// `logs`: how many are acknowledged.
    pub(crate) fn acknowledge(&self, now: Monotonic, account: AccountId, logs: usize) -> Result<(), Refusal> {
        let count = u32::try_from(logs.max(1)).unwrap_or(u32::MAX);
        self.take(now, Whose::Signs(account), self.rates.signs, count)
    }

    pub(crate) fn touch(&self, now: Monotonic, account: AccountId, threads: usize) -> Result<(), Refusal> {
        let count = u32::try_from(threads).unwrap_or(u32::MAX);
        self.take(now, Whose::Touches(account), self.rates.touches, count)
    }

    /// See [`Bug::RatesAnew`]; without that nobody calls it.
    pub(crate) fn forget(&self, account: &AccountId) {
        if !planted::active(Bug::RatesAnew) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let of = |whose: &Whose| match whose {
            Whose::Messages(of)
            | Whose::Requests(of)
            | Whose::Claims(of, _)
            | Whose::Signs(of)
            | Whose::Touches(of) => of == account,
            Whose::Arrivals(_)
            | Whose::PeerItems(_)
            | Whose::PeerRequests(_)
            | Whose::PeerFriendRequests(_)
            | Whose::PeerSigns(_) => false,
        };
        state.buckets.retain(|whose, _| !of(whose));
        state.rested.retain(|(_, whose)| !of(whose));
    }

    fn take(&self, now: Monotonic, whose: Whose, rate: Rate, count: u32) -> Result<(), Refusal> {
        if rate.tokens == 0 {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let full = u64::from(rate.burst.max(count)) * ONE;
        let bucket =
            state.buckets.entry(whose.clone()).or_insert(Bucket { parts: full, filled: now, taken: VecDeque::new() });
        state.rested.remove(&(bucket.filled, whose.clone()));
        let passed = u64::try_from(now.since(bucket.filled).as_millis()).unwrap_or(u64::MAX);
        bucket.parts = bucket.parts.saturating_add(passed.saturating_mul(rate.parts_per_ms())).min(full);
        // Whole milliseconds only: what is left of one counts with the next.
        bucket.filled = bucket.filled.plus(Duration::from_millis(passed));
        let cost = u64::from(count) * ONE;
        let missing = cost.saturating_sub(bucket.parts);
        let exact = rate.every == Every::Hour && rate.tokens <= limits::RATE_EXACT_MAX;
        let crowded = if exact { bucket.wait(now, rate) } else { None };
        if missing == 0 && crowded.is_none() {
            bucket.parts -= cost;
            if exact {
                bucket.taken.push_back(now);
            }
        }
        state.rested.insert((bucket.filled, whose));
        while state.buckets.len() > limits::RATE_BUCKETS_MAX {
            let Some((_, oldest)) = state.rested.pop_first() else { break };
            state.buckets.remove(&oldest);
        }
        let refill = (missing > 0).then(|| Duration::from_millis(missing.div_ceil(rate.parts_per_ms()).max(1)));
        let Some(wait) = refill.max(crowded) else { return Ok(()) };
        Err(Refusal::later(RefusalCode::TooFast, wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_millis(millis))
    }

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 32])
    }

    fn limiter(rate: Rate) -> Limiter {
        Limiter::new(Rates { messages: rate, ..Rates::UNBOUNDED })
    }

    #[test]
    fn a_burst_passes_and_then_as_many_as_come_back() {
        let limiter = limiter(Rate::new(60, 3));
        let take = |millis| limiter.message(at(millis), account(1)).map_err(|refusal| refusal.retry_after_ms());
        assert_eq!([take(0), take(0), take(0)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(take(0), Err(Some(1_000)));
        assert_eq!(take(400), Err(Some(600)), "asking in between costs nothing");
        assert_eq!((take(1_000), take(1_000)), (Ok(()), Err(Some(1_000))));
        assert_eq!(
            [take(60_000), take(60_000), take(60_000), take(60_000)].iter().filter(|taken| taken.is_ok()).count(),
            3
        );
    }

    #[test]
    fn ten_claims_pass_at_once_and_no_hour_sees_an_eleventh() {
        let limiter = Limiter::new(Rates::default());
        let claim = |minutes: u64| limiter.claim(at(minutes * 60_000), account(1), account(2));
        assert!((0..4).all(|_| claim(0).is_ok()) && (0..6).all(|_| claim(20).is_ok()));
        assert_eq!(claim(21).map_err(|refusal| refusal.retry_after_ms()), Err(Some(39 * 60_000)));
        assert_eq!((22..60).filter(|minute| claim(*minute).is_ok()).count(), 0);
        assert_eq!((0..10).filter(|_| claim(60).is_ok()).count(), 4, "as many as are an hour old");
        assert_eq!((61..80).filter(|minute| claim(*minute).is_ok()).count(), 0);
        assert_eq!((0..10).filter(|_| claim(80).is_ok()).count(), 6);
        assert!(limiter.claim(at(0), account(1), account(3)).is_ok(), "another target");
    }

    #[test]
    fn one_account_takes_nothing_of_anothers_share() {
        let limiter = limiter(Rate::new(60, 1));
        assert!(limiter.message(at(0), account(1)).is_ok() && limiter.message(at(0), account(1)).is_err());
        assert!(limiter.message(at(0), account(2)).is_ok());
        assert!(limiter.request(at(0), account(1)).is_ok(), "another bucket, and without a bound");
    }

    #[test]
    fn the_waiting_time_named_is_enough_at_any_rate() {
        let minutely = [1, 7, 59, 1_200, 120_000].map(|rate| Rate::new(rate, 1));
        for rate in minutely.into_iter().chain([1, 7, 10, 1_000].map(|rate| Rate::hourly(rate, 1))) {
            let limiter = limiter(rate);
            let mut now = 0;
            for _ in 0..20 {
                if let Err(refusal) = limiter.message(at(now), account(1)) {
                    let wait = refusal.retry_after_ms().unwrap_or(0);
                    assert!(wait > 0);
                    now += u64::from(wait);
                    assert!(limiter.message(at(now), account(1)).is_ok(), "{rate:?}");
                }
            }
        }
    }

    #[test]
    fn buckets_are_bounded_and_the_one_that_rested_longest_goes() {
        let limiter = limiter(Rate::new(1, 1));
        for n in 0..limits::RATE_BUCKETS_MAX as u64 + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            assert!(limiter.message(at(n), AccountId::from_bytes(id)).is_ok());
        }
        let state = limiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((state.buckets.len(), state.rested.len()), (limits::RATE_BUCKETS_MAX, limits::RATE_BUCKETS_MAX));
        assert!(!state.buckets.contains_key(&Whose::Messages(AccountId::from_bytes([0; 32]))));
    }
}
