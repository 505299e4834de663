//! Rates: token buckets, one for each account, source address and peer, and for each pair that claims.
//! Owns: what is rated, by whom, and how much of it. Never: counts what a command bounds.
//! Limits: `limits::RATE_*`. Rules: docs/protocol/reception.md, "Rates".

mod buckets;

use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Monotonic;
use whimbrel_storage::planted::{self, Bug};

use self::buckets::Buckets;
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

/// The parts of a token: as many as an hour has milliseconds, so that no division is lost.
const ONE: u64 = 3_600_000;

/// The buckets of one relay, a shelf for each kind: of one kind never so many that another's go.
#[derive(Debug)]
pub(crate) struct Limiter {
    messages: Buckets<AccountId>,
    requests: Buckets<AccountId>,
    arrivals: Buckets<u64>,
    peer_items: Buckets<Domain>,
    peer_requests: Buckets<Domain>,
    peer_friend_requests: Buckets<Domain>,
    peer_signs: Buckets<Domain>,
    /// Who claims, of whom.
    claims: Buckets<(AccountId, AccountId)>,
    signs: Buckets<AccountId>,
    touches: Buckets<AccountId>,
}

impl Limiter {
    pub(crate) const fn new(rates: Rates) -> Self {
        let (accounts, peers) = (limits::RATE_ACCOUNT_BUCKETS_MAX, limits::RATE_PEER_BUCKETS_MAX);
        Self {
            messages: Buckets::new(rates.messages, accounts),
            requests: Buckets::new(rates.requests, accounts),
            arrivals: Buckets::new(rates.arrivals, limits::RATE_SOURCE_BUCKETS_MAX),
            peer_items: Buckets::new(rates.peer_items, peers),
            peer_requests: Buckets::new(rates.peer_requests, peers),
            peer_friend_requests: Buckets::new(rates.peer_friend_requests, peers),
            peer_signs: Buckets::new(rates.peer_requests, peers),
            claims: Buckets::new(rates.claims, limits::RATE_CLAIM_BUCKETS_MAX),
            signs: Buckets::new(rates.signs, accounts),
            touches: Buckets::new(rates.touches, accounts),
        }
    }

    pub(crate) fn message(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.messages.take(now, &account, 1)
    }

    pub(crate) fn request(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.requests.take(now, &account, 1)
    }

    /// `source`: a number for the address, or for the network it is in.
    pub(crate) fn arrival(&self, now: Monotonic, source: u64) -> Result<(), Refusal> {
        self.arrivals.take(now, &source, 1)
    }

    pub(crate) fn peer_items(&self, now: Monotonic, peer: &Domain, count: usize) -> Result<(), Refusal> {
        self.peer_items.take(now, peer, u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(crate) fn peer_request(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.peer_requests.take(now, peer, 1)
    }

    /// A heartbeat or statuses: apart from its requests, so that a peer that asks for much does not lose its link by them.
    pub(crate) fn peer_sign(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.peer_signs.take(now, peer, 1)
    }

    pub(crate) fn peer_friend_request(&self, now: Monotonic, peer: &Domain) -> Result<(), Refusal> {
        self.peer_friend_requests.take(now, peer, 1)
    }

    pub(crate) fn claim(&self, now: Monotonic, requester: AccountId, owner: AccountId) -> Result<(), Refusal> {
        self.claims.take(now, &(requester, owner), 1)
    }

    /// A claim at that time came to nothing. So no bucket tells whether there is such an owner, and nobody fills the shelf
    /// with claims of people who let nobody claim, or are none.
    pub(crate) fn unclaim(&self, at: Monotonic, requester: AccountId, owner: AccountId) {
        self.claims.give_back(at, &(requester, owner));
    }

    pub(crate) fn heartbeat(&self, now: Monotonic, account: AccountId) -> Result<(), Refusal> {
        self.signs.take(now, &account, limits::HEARTBEAT_TOKENS)
    }

    /// `logs`: how many are acknowledged.
    pub(crate) fn acknowledge(&self, now: Monotonic, account: AccountId, logs: usize) -> Result<(), Refusal> {
        self.signs.take(now, &account, u32::try_from(logs.max(1)).unwrap_or(u32::MAX))
    }

    pub(crate) fn touch(&self, now: Monotonic, account: AccountId, threads: usize) -> Result<(), Refusal> {
        self.touches.take(now, &account, u32::try_from(threads).unwrap_or(u32::MAX))
    }

    /// See [`Bug::RatesAnew`]; without that nobody calls it.
    pub(crate) fn forget(&self, account: &AccountId) {
        if !planted::active(Bug::RatesAnew) {
            return;
        }
        for of_account in [&self.messages, &self.requests, &self.signs, &self.touches] {
            of_account.forget(|whose| whose == account);
        }
        self.claims.forget(|(whose, _)| whose == account);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn a_claim_that_comes_to_nothing_leaves_no_bucket_and_takes_nothing_of_those_that_do() {
        let limiter = Limiter::new(Rates::default());
        let claim = |minutes: u64| limiter.claim(at(minutes * 60_000), account(1), account(2));
        for _ in 0..20 {
            assert!(claim(0).is_ok());
            limiter.unclaim(at(0), account(1), account(2));
        }
        assert_eq!(limiter.claims.len(), 0);
        assert!((0..9).all(|n| claim(n).is_ok()));
        for _ in 0..20 {
            assert!(claim(10).is_ok());
            limiter.unclaim(at(10 * 60_000), account(1), account(2));
        }
        assert!(claim(11).is_ok() && claim(12).is_err(), "the tenth within the hour, and an eleventh");
        // What was never taken, or long ago and forgotten, is not given back.
        limiter.unclaim(at(5), account(1), account(2));
        limiter.unclaim(at(5), account(1), account(3));
        assert!(claim(13).is_err() && limiter.claims.len() == 1);
    }

    #[test]
    fn t13_whatever_else_is_asked_of_a_relay_ten_claims_an_hour_stay_ten() {
        let limiter = Limiter::new(Rates::default());
        let claim = |millis: u64| limiter.claim(at(millis), account(1), account(2));
        assert!((0..10).all(|_| claim(0).is_ok()) && claim(0).is_err());
        // Far more accounts than there are buckets, each asking once, and each for somebody who is not there.
        let mut refused = 0;
        for n in 0..limits::RATE_CLAIM_BUCKETS_MAX as u64 + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let (now, one) = (at(1 + n / 100), AccountId::from_bytes(id));
            refused += usize::from(limiter.request(now, one).is_err() || limiter.message(now, one).is_err());
            refused += usize::from(limiter.acknowledge(now, one, 9).is_err() || limiter.heartbeat(now, one).is_err());
            refused += usize::from(limiter.touch(now, one, 9).is_err() || limiter.arrival(now, n).is_err());
            refused += usize::from(limiter.claim(now, account(1), one).is_err());
            limiter.unclaim(now, account(1), one);
        }
        assert_eq!(refused, 0);
        assert!(claim(3_599_000).is_err(), "and none before the hour is over");
        assert!((0..10).all(|_| claim(3_600_000).is_ok()));
    }
}
