//! One peer relay as this relay reaches it: a state machine without waiting.
//! Owns: the state of the outbound link, its backoff, the numbers given at sending, the window, and requests that wait
//! for an answer.
//! Never: reads rows, sends, reads a clock.
//! Limits: `limits::PEER_BACKOFF_MIN`, `limits::PEER_BACKOFF_MAX`, `limits::FORWARD_ITEMS_MAX`,
//! `limits::ANSWER_TIME_MAX`, `limits::PEER_REQUESTS_MAX`, `limits::UNKNOWN_THREADS_MAX`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use whimbrel_protocol::federation::Forwarded;
use whimbrel_protocol::id::{AccountId, LinkId, RequestId, Sequence, TokenHash};
use whimbrel_protocol::time::Monotonic;
use whimbrel_protocol::{Frame, RefusalCode, limits};

use crate::ports::PeerAddress;
use crate::store::{LogId, OutboundKey};

/// How we know who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// The operator said so.
    Static,
    /// It is remembered, from an invite that led us there or it here. Its names mean nothing here.
    Linked,
    /// An invite link that this own user followed says so, and nobody has answered under that identity yet: not
    /// remembered.
    Hinted(AccountId),
}

/// An own user holds an invite of an account of that peer: enough to be let in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Vouched {
    /// Who made the invite.
    pub(crate) owner: AccountId,
    /// The hash of its token.
    pub(crate) token: TokenHash,
}

/// The outbound link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Nothing to say to it.
    Idle,
    /// Being reached.
    Dialling,
    /// Reached; its hello is awaited.
    Greeting(LinkId, Monotonic),
    /// It greeted back.
    Up(LinkId),
    /// It could not be reached, or went away with work left; tried again then.
    Waiting(Monotonic),
}

/// A request passed on for somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// Who asked.
    pub(crate) link: LinkId,
    /// Under which number.
    pub(crate) request: RequestId,
    /// What.
    pub(crate) what: What,
}

/// What was asked of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    LookUp,
    /// The head of its tree of account logs.
    TreeHead,
    /// A word about friendship that was passed on; of a parting, the place in its author's inbox from which on it holds.
    Befriend(Option<Sequence>),
    /// This account's card.
    Profile(AccountId),
    /// A change of a group, passed on to its hub.
    Commit,
    /// A claim of KeyPackages; with a token, its success gives consent both ways.
    Claim {
        owner: AccountId,
        requester: AccountId,
        token: bool,
    },
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: PeerAddress,
    pub(super) known: Known,
    /// What to show it on the next link, until it has greeted.
    pub(super) vouched: Option<Vouched>,
    pub(super) reach: Reach,
    /// Attempts since it last greeted.
    attempts: u32,
    /// When an attempt last ended badly.
    failed: Option<Monotonic>,
    /// Every row there was has been sent; those not answered are in flight.
    pub(super) at_end: bool,
    /// Rows sent and not answered, or answered and not yet gone from the store, by the link's number.
    in_flight: BTreeMap<u64, OutboundKey>,
    next_number: u64,
    /// Numbers up to here were answered on this link.
    answered: u64,
    /// Rows up to here were sent on this link.
    pub(super) position: Option<OutboundKey>,
    /// A row at or before the position was added, or is to be sent again.
    restart: bool,
    /// Threads of which a row was refused for now.
    blocked: BTreeMap<LogId, Monotonic>,
    /// Threads the peer says it does not know, and when that is final: at once when it refused their opening.
    unknown: BTreeMap<LogId, Monotonic>,
    /// Somebody reads rows for it.
    pub(super) reading: bool,
    /// The first of the rows added since they began: the page they read may lack it, and yet end behind it.
    added: Option<OutboundKey>,
    /// Its link's queue was full.
    pub(super) stalled: bool,
    /// When the link counts as dead unless more items are answered.
    awaiting: Option<Monotonic>,
    /// The same, unless a heartbeat is answered.
    beat: Option<Monotonic>,
    requests: BTreeMap<RequestId, (Asked, Monotonic)>,
    next_request: u64,
    /// Requests made before the link stood.
    queue: VecDeque<Frame>,
}

/// What an answer to forwarded items comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Their numbers, to be released once the store has dropped the rows.
    pub(super) numbers: Vec<u64>,
    /// The rows the peer has: to drop.
    pub(super) rows: Vec<OutboundKey>,
    /// The rows it refused for good, and why: to drop once their author is told.
    pub(super) refused: Vec<(OutboundKey, RefusalCode)>,
    /// Rows of threads it does not know: to keep, if a third relay may still tell it.
    pub(super) unknown: Vec<OutboundKey>,
}

impl Peer {
    pub(super) fn new(address: PeerAddress, known: Known) -> Self {
        Self {
            address,
            known,
            vouched: None,
            reach: Reach::Idle,
            attempts: 0,
            failed: None,
            at_end: true,
            in_flight: BTreeMap::new(),
            next_number: 1,
            answered: 0,
            position: None,
            restart: false,
            blocked: BTreeMap::new(),
            unknown: BTreeMap::new(),
            reading: false,
            added: None,
            stalled: false,
            awaiting: None,
            beat: None,
            requests: BTreeMap::new(),
            next_request: 1,
            queue: VecDeque::new(),
        }
    }

    /// There is something to say to it: true when it is to be dialled now.
    pub(super) fn want(&mut self) -> bool {
        let dial = self.reach == Reach::Idle;
        if dial {
            self.reach = Reach::Dialling;
        }
        dial
    }

    /// A person waits: an attempt is made at once unless one has just failed. False: there is no point.
    pub(super) fn want_now(&mut self, now: Monotonic) -> Option<bool> {
        if let Reach::Waiting(_) = self.reach {
            if self.failed.is_some_and(|failed| now.since(failed) < limits::PEER_BACKOFF_MIN) {
                return None;
            }
            self.reach = Reach::Idle;
        }
        Some(self.want())
    }

    pub(super) fn reached(&mut self, link: LinkId, until: Monotonic) {
        self.reach = Reach::Greeting(link, until);
    }

    /// It greeted back: gives the requests that waited for that.
    pub(super) fn greeted(&mut self, link: LinkId) -> VecDeque<Frame> {
        self.reach = Reach::Up(link);
        self.vouched = None;
        self.attempts = 0;
        self.failed = None;
        self.next_number = 1;
        self.answered = 0;
        self.in_flight.clear();
        self.position = None;
        self.restart = false;
        self.stalled = false;
        self.awaiting = None;
        self.beat = None;
        std::mem::take(&mut self.queue)
    }

    /// The link, or the attempt, is over: gives the requests nobody will answer. With rows left it is tried again
    /// after a wait; `jitter` is even over all 64-bit numbers.
    pub(super) fn down(&mut self, now: Monotonic, jitter: u64) -> (Vec<Asked>, Option<Monotonic>) {
        let was_up = matches!(self.reach, Reach::Up(_));
        let rows = self.has_rows();
        self.at_end = !rows;
        self.in_flight.clear();
        self.awaiting = None;
        self.beat = None;
        let lost = self.take_requests();
        if !was_up {
            self.failed = Some(now);
        }
        if !rows {
            self.reach = Reach::Idle;
            return (lost, None);
        }
        let until = now.plus(backoff(self.attempts, jitter));
        self.attempts = self.attempts.saturating_add(1);
        self.reach = Reach::Waiting(until);
        (lost, Some(until))
    }

    /// Takes a request that will be answered by this peer; the frame to send is made with its number. Gives the frame
    /// when it can go at once.
    pub(super) fn ask(
        &mut self,
        asked: Asked,
        until: Monotonic,
        frame: impl FnOnce(RequestId) -> Frame,
    ) -> Option<(LinkId, Frame)> {
        let request = RequestId::new(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, (asked, until));
        let frame = frame(request);
        if let Reach::Up(link) = self.reach {
            return Some((link, frame));
        }
        self.queue.push_back(frame);
        None
    }

    /// The newest request could not be sent after all.
    pub(super) fn ask_failed(&mut self) {
        self.requests.pop_last();
    }

    /// Whether one more request may wait: for all, and for whoever asks, so that one cannot take all the room.
    pub(super) fn has_room_for_request(&self, asker: LinkId) -> bool {
        let same = self.requests.values().filter(|(asked, _)| asked.link == asker).count();
        self.requests.len() < limits::PEER_REQUESTS_MAX && same < limits::LINK_REQUESTS_MAX
    }

    /// Nobody will answer what was asked so far.
    pub(super) fn take_requests(&mut self) -> Vec<Asked> {
        self.queue.clear();
        std::mem::take(&mut self.requests).into_values().map(|(asked, _)| asked).collect()
    }

    /// A user of this relay has parted with somebody: what is under way gives no consent to them any more.
    pub(super) fn parted(&mut self, by: AccountId, other: AccountId) {
        for (asked, _) in self.requests.values_mut() {
            if let What::Claim { owner, requester, token } = &mut asked.what
                && (*owner, *requester) == (other, by)
            {
                *token = false;
            }
        }
    }

    /// An answer came: whose it is.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Asked> {
        self.requests.remove(&request).map(|(asked, _)| asked)
    }

    /// Requests whose time is over.
    pub(super) fn overdue(&mut self, now: Monotonic) -> Vec<Asked> {
        // Numbers are given in order and all wait equally long: the oldest come first.
        let mut overdue = Vec::new();
        while let Some(entry) = self.requests.first_entry() {
            if entry.get().1 > now {
                break;
            }
            overdue.push(entry.remove().0);
        }
        overdue
    }

    /// Whether the store has rows for it.
    pub(super) fn has_rows(&self) -> bool {
        !self.at_end || !self.in_flight.is_empty() || !self.blocked.is_empty()
    }

    /// A row was written for this peer.
    pub(super) fn row_added(&mut self, key: OutboundKey) {
        self.at_end = false;
        if self.reading {
            self.added = Some(self.added.map_or(key, |added| added.min(key)));
        }
        self.restart |= self.position.is_some_and(|position| key <= position);
    }

    /// How many more items may be unanswered.
    pub(super) fn room(&self) -> usize {
        limits::FORWARD_ITEMS_MAX.saturating_sub(self.in_flight.len())
    }

    /// Whether a row is to be sent now: not while it, or an earlier one of its thread, waits.
    pub(super) fn may_send(&self, key: OutboundKey) -> bool {
        !self.blocked.contains_key(&key.log) && !self.in_flight.values().any(|sent| *sent == key)
    }

    /// The number the next row will have.
    pub(super) const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Up to which number it has answered on this link.
    pub(super) const fn heard(&self) -> u64 {
        self.answered
    }

    /// Gives a row its number on this link.
    pub(super) fn number(&mut self, key: OutboundKey) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.insert(number, key);
        number
    }

    /// The numbers were given, but the frame was not taken for sending.
    pub(super) fn unsent(&mut self, first: u64) {
        self.in_flight.split_off(&first);
        self.next_number = first;
    }

    /// Items have left: gives when their answer is overdue, if that was not awaited already.
    pub(super) fn sent(&mut self, now: Monotonic) -> Option<Monotonic> {
        if self.awaiting.is_some() {
            return None;
        }
        self.awaiting = Some(now.plus(limits::ANSWER_TIME_MAX));
        self.awaiting
    }

    /// A heartbeat has left: gives when its answer is overdue.
    pub(super) fn beat(&mut self, now: Monotonic) -> Monotonic {
        *self.beat.get_or_insert(now.plus(limits::ANSWER_TIME_MAX))
    }

    /// It was answered.
    pub(super) const fn beaten(&mut self) {
        self.beat = None;
    }

    /// The link on which an awaited answer is overdue: nobody is at its other end any more, or nobody who works.
    pub(super) fn dead_link(&self, now: Monotonic) -> Option<LinkId> {
        match self.reach {
            Reach::Greeting(link, until) if until <= now => Some(link),
            Reach::Up(link) if [self.awaiting, self.beat].into_iter().flatten().any(|until| until <= now) => Some(link),
            _ => None,
        }
    }

    /// Takes up the reading of rows: from where, and how many at most. Nothing: somebody reads already, or there is
    /// nothing to send or no room for it.
    pub(super) fn begin(&mut self) -> Option<(Option<OutboundKey>, usize)> {
        let room = self.room();
        if self.reading || self.at_end || self.stalled || room == 0 || !matches!(self.reach, Reach::Up(_)) {
            return None;
        }
        self.reading = true;
        self.added = None;
        Some((self.position, room))
    }

    /// Rows up to this one were sent, or wait.
    pub(super) fn advance(&mut self, last: OutboundKey) {
        self.restart |= self.added.take().is_some_and(|added| added <= last);
        self.position = Some(last);
    }

    /// The end of the rows was reached, unless some were added behind the reader's back.
    pub(super) fn wrap(&mut self) {
        if self.restart {
            self.position = None;
        }
        self.at_end = !self.restart && self.added.is_none();
        self.restart = false;
    }

    /// The peer answered for items. Those refused for now stay, and hold back what follows in their thread.
    pub(super) fn settle(&mut self, now: Monotonic, words: &Forwarded) -> Settled {
        let mut settled = Settled::default();
        // It cannot answer what was not sent, whatever it says.
        self.answered = self.answered.max(words.upto.min(self.next_number - 1));
        let unanswered = words.upto.saturating_add(1) < self.next_number;
        self.awaiting = unanswered.then(|| now.plus(limits::ANSWER_TIME_MAX));
        let refused: BTreeMap<u64, _> = words.refused.iter().map(|refusal| (refusal.number, refusal)).collect();
        let answered: Vec<(u64, OutboundKey)> =
            self.in_flight.range(..=words.upto).map(|(n, key)| (*n, *key)).collect();
        for (number, key) in answered {
            match refused.get(&number) {
                Some(refusal)
                    if refusal.retry_after_ms.is_some()
                        && refusal.code == RefusalCode::NotFound
                        && !self.blocked.contains_key(&key.log) =>
                {
                    settled.numbers.push(number);
                    if self.never_known(now, key.log) {
                        settled.refused.push((key, refusal.code));
                    } else {
                        settled.unknown.push(key);
                    }
                }
                // A peer that did not take an opening knows nothing of the thread: that is no reason to drop the rest.
                Some(refusal) if refusal.retry_after_ms.is_some() || self.blocked.contains_key(&key.log) => {
                    let after = refusal.retry_after_ms.map_or(limits::FULL_RETRY_AFTER, |ms| {
                        Duration::from_millis(u64::from(ms)).clamp(limits::PEER_BACKOFF_MIN, limits::PEER_BACKOFF_MAX)
                    });
                    let until = self.blocked.entry(key.log).or_insert_with(|| now.plus(after));
                    *until = now.plus(after).max(*until);
                    self.in_flight.remove(&number);
                }
                Some(refusal) => {
                    if key.sequence == Sequence::ZERO {
                        self.note_unknown(key.log, now);
                    }
                    settled.numbers.push(number);
                    settled.refused.push((key, refusal.code));
                }
                None => {
                    self.unknown.remove(&key.log);
                    settled.numbers.push(number);
                    settled.rows.push(key);
                }
            }
        }
        settled
    }

    /// Whether a thread that the peer does not know has had its time to become known. It begins with the first call.
    fn never_known(&mut self, now: Monotonic, log: LogId) -> bool {
        match self.unknown.get(&log) {
            Some(until) => *until <= now,
            None => {
                self.note_unknown(log, now.plus(limits::UNKNOWN_THREAD_WAIT_MAX));
                false
            }
        }
    }

    fn note_unknown(&mut self, log: LogId, until: Monotonic) {
        if self.unknown.len() >= limits::UNKNOWN_THREADS_MAX {
            self.unknown.pop_first();
        }
        self.unknown.insert(log, until);
    }

    /// A row stays though it was answered for: it is sent again later, and what follows in its thread after it.
    pub(super) fn keep(&mut self, key: OutboundKey, until: Monotonic) {
        let at = self.blocked.entry(key.log).or_insert(until);
        *at = until.max(*at);
    }

    /// The store has dropped these rows.
    pub(super) fn release(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.in_flight.remove(number);
        }
    }

    /// Threads whose wait is over are sent again from their oldest row: true when there are any.
    pub(super) fn unblock(&mut self, now: Monotonic) -> bool {
        let before = self.blocked.len();
        self.blocked.retain(|_, until| *until > now);
        let any = self.blocked.len() < before;
        self.restart |= any;
        self.at_end &= !any;
        any
    }

    /// The earliest of everything it waits for.
    pub(super) fn next_wake(&self) -> Option<Monotonic> {
        let reach = match self.reach {
            Reach::Greeting(_, until) | Reach::Waiting(until) => Some(until),
            Reach::Idle | Reach::Dialling | Reach::Up(_) => None,
        };
        let request = self.requests.values().next().map(|(_, until)| *until);
        let blocked = self.blocked.values().min().copied();
        [reach, request, blocked, self.awaiting, self.beat].into_iter().flatten().min()
    }
}

/// Twice as long after each failure, half of it jittered, so that peers do not come back in step.
fn backoff(attempts: u32, jitter: u64) -> Duration {
    let doubled = limits::PEER_BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(attempts.min(20)));
    let longest = doubled.min(limits::PEER_BACKOFF_MAX);
    let half = longest / 2;
    let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half.saturating_add(Duration::from_millis(jitter % millis))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::federation::ForwardRefusal;

    use super::*;

    fn peer() -> Peer {
        let relay = whimbrel_protocol::id::RelayId::from_bytes([1; 32]);
        let address = PeerAddress { domain: "b.example".parse().unwrap(), endpoint: "127.0.0.1:1".to_owned(), relay };
        let mut peer = Peer::new(address, Known::Static);
        peer.at_end = false;
        peer.greeted(LinkId::new(1));
        peer
    }

    fn row(log: u8, sequence: u64) -> OutboundKey {
        OutboundKey { log: LogId::from_bytes([log; 16]), sequence: Sequence::new(sequence) }
    }

    #[test]
    fn a_link_on_which_a_heartbeat_is_not_answered_in_time_is_dead() {
        let at = |seconds| Monotonic::from_start(Duration::from_secs(seconds));
        let mut peer = peer();
        let until = peer.beat(at(0));
        assert_eq!((until, peer.next_wake()), (at(0).plus(limits::ANSWER_TIME_MAX), Some(until)));
        assert_eq!((peer.dead_link(at(9)), peer.dead_link(until)), (None, Some(LinkId::new(1))));
        peer.beaten();
        assert_eq!((peer.dead_link(until), peer.next_wake()), (None, None));
        // One that was lost does not count against the next link.
        peer.beat(at(20));
        peer.down(at(21), 0);
        peer.greeted(LinkId::new(2));
        assert_eq!(peer.dead_link(at(100)), None);
    }

    #[test]
    fn waits_grow_to_an_hour_and_never_fall_in_step() {
        assert!(backoff(0, 0) >= limits::PEER_BACKOFF_MIN / 2 && backoff(0, u64::MAX) <= limits::PEER_BACKOFF_MIN);
        assert!(backoff(u32::MAX, 0) >= limits::PEER_BACKOFF_MAX / 2);
        assert!(backoff(u32::MAX, u64::MAX) <= limits::PEER_BACKOFF_MAX);
        assert_ne!(backoff(9, 1), backoff(9, 1_000));
    }

    #[test]
    fn accepted_rows_go_and_the_window_opens_once_they_are_gone() {
        let mut peer = peer();
        for n in 1..=limits::FORWARD_ITEMS_MAX as u64 {
            assert_eq!(peer.number(row(1, n)), n);
        }
        assert_eq!(peer.room(), 0);
        let settled = peer.settle(Monotonic::default(), &Forwarded { upto: 3, refused: Vec::new() });
        assert_eq!(settled.rows, [row(1, 1), row(1, 2), row(1, 3)]);
        assert_eq!(peer.room(), 0);
        peer.release(&settled.numbers);
        assert_eq!(peer.room(), 3);
    }

    #[test]
    fn a_link_on_which_items_are_not_answered_in_time_is_dead() {
        let mut peer = peer();
        let late = Monotonic::default().plus(limits::ANSWER_TIME_MAX);
        peer.number(row(1, 1));
        peer.number(row(1, 2));
        assert_eq!(peer.sent(Monotonic::default()), Some(late));
        assert_eq!((peer.dead_link(Monotonic::default()), peer.dead_link(late)), (None, Some(LinkId::new(1))));
        // Every answer gives those behind it time anew, and none is awaited once all are there.
        peer.settle(late, &Forwarded { upto: 1, refused: Vec::new() });
        assert_eq!(peer.dead_link(late), None);
        assert_eq!(peer.dead_link(late.plus(limits::ANSWER_TIME_MAX)), Some(LinkId::new(1)));
        peer.settle(late, &Forwarded { upto: 2, refused: Vec::new() });
        assert_eq!(peer.next_wake(), None);
    }

    #[test]
    fn a_row_refused_for_now_stays_and_holds_back_its_thread_alone() {
        let mut peer = peer();
        peer.number(row(1, 0));
        peer.number(row(1, 1));
        peer.number(row(2, 1));
        let refusal = |number, code, retry_after_ms| ForwardRefusal { number, code, retry_after_ms };
        let refused = vec![refusal(1, RefusalCode::Full, Some(5_000)), refusal(2, RefusalCode::NotFound, None)];
        let now = Monotonic::default();
        let settled = peer.settle(now, &Forwarded { upto: 3, refused });
        assert_eq!((settled.rows, settled.refused), (vec![row(2, 1)], Vec::new()));
        assert!(!peer.may_send(row(1, 0)) && !peer.may_send(row(1, 7)) && peer.may_send(row(3, 1)));
        assert!(!peer.unblock(now));
        assert!(peer.unblock(now.plus(limits::FULL_RETRY_AFTER)));
        assert!(peer.may_send(row(1, 0)));
        peer.wrap();
        assert_eq!((peer.position, peer.at_end), (None, false));
    }

    #[test]
    fn a_thread_the_peer_does_not_know_yet_waits_for_its_opening_but_not_for_ever() {
        let refusal = |number, code, retry_after_ms| ForwardRefusal { number, code, retry_after_ms };
        let mut peer = peer();
        let not_found = |peer: &mut Peer, at| {
            let number = peer.number(row(1, 1));
            let refused = vec![refusal(number, RefusalCode::NotFound, Some(1))];
            let settled = peer.settle(at, &Forwarded { upto: number, refused });
            peer.release(&settled.numbers);
            (settled.unknown, settled.refused)
        };
        let now = Monotonic::default();
        let end = now.plus(limits::UNKNOWN_THREAD_WAIT_MAX);
        assert_eq!(not_found(&mut peer, now), (vec![row(1, 1)], Vec::new()));
        assert_eq!(not_found(&mut peer, now.plus(limits::UNKNOWN_THREAD_RETRY_AFTER)), (vec![row(1, 1)], Vec::new()));
        assert_eq!(not_found(&mut peer, end), (Vec::new(), vec![(row(1, 1), RefusalCode::NotFound)]));
        // Known in between: the wait begins anew.
        let number = peer.number(row(1, 2));
        let taken = peer.settle(end, &Forwarded { upto: number, refused: Vec::new() });
        peer.release(&taken.numbers);
        assert_eq!(not_found(&mut peer, end), (vec![row(1, 1)], Vec::new()));
        // Whoever refused the opening for good will never know the thread.
        let number = peer.number(row(2, 0));
        let next = peer.number(row(2, 1));
        let refused =
            vec![refusal(number, RefusalCode::NoConsent, None), refusal(next, RefusalCode::NotFound, Some(1))];
        let settled = peer.settle(now, &Forwarded { upto: next, refused });
        assert_eq!(settled.refused, [(row(2, 0), RefusalCode::NoConsent), (row(2, 1), RefusalCode::NotFound)]);
    }

    #[test]
    fn a_row_refused_for_good_is_told_apart() {
        let mut peer = peer();
        peer.number(row(1, 1));
        let refused = vec![ForwardRefusal { number: 1, code: RefusalCode::NoConsent, retry_after_ms: None }];
        let settled = peer.settle(Monotonic::default(), &Forwarded { upto: 1, refused });
        assert_eq!((settled.rows, settled.refused), (Vec::new(), vec![(row(1, 1), RefusalCode::NoConsent)]));
    }

    #[test]
    fn a_row_before_the_position_is_not_passed_over() {
        let mut peer = peer();
        peer.position = Some(row(5, 3));
        peer.row_added(row(5, 4));
        peer.wrap();
        assert_eq!((peer.position, peer.at_end), (Some(row(5, 3)), true));
        peer.row_added(row(2, 1));
        peer.wrap();
        assert_eq!((peer.position, peer.at_end), (None, false));
    }

    #[test]
    fn a_row_added_while_somebody_reads_is_not_passed_over() {
        let mut peer = peer();
        assert!(peer.begin().is_some());
        peer.row_added(row(1, 1));
        assert_eq!(peer.begin(), None);
        peer.reading = false;
        peer.wrap();
        assert!(peer.begin().is_some());
    }

    #[test]
    fn a_row_added_while_a_page_beyond_it_is_read_is_not_passed_over() {
        let mut peer = peer();
        assert_eq!(peer.begin(), Some((None, limits::FORWARD_ITEMS_MAX)));
        // Written after the store had made up the page, and told before the page was here.
        peer.row_added(row(2, 8));
        peer.row_added(row(6, 1));
        peer.reading = false;
        peer.number(row(5, 3));
        peer.advance(row(5, 3));
        assert_eq!(peer.begin(), Some((Some(row(5, 3)), limits::FORWARD_ITEMS_MAX - 1)));
        peer.reading = false;
        peer.wrap();
        assert_eq!(peer.begin(), Some((None, limits::FORWARD_ITEMS_MAX - 1)), "from the first row again");
    }

    #[test]
    fn what_was_in_flight_when_the_link_broke_is_sent_again() {
        let mut peer = peer();
        assert_eq!(peer.begin(), Some((None, limits::FORWARD_ITEMS_MAX)));
        peer.number(row(1, 1));
        peer.position = Some(row(1, 1));
        peer.reading = false;
        peer.wrap();
        assert_eq!(peer.begin(), None, "everything is on its way");
        let (_, again) = peer.down(Monotonic::default(), 0);
        assert!(again.is_some() && matches!(peer.reach, Reach::Waiting(_)));
        peer.greeted(LinkId::new(2));
        assert_eq!(peer.begin(), Some((None, limits::FORWARD_ITEMS_MAX)));
        assert_eq!(peer.number(row(1, 1)), 1, "numbers start anew on each link");
    }

    #[test]
    fn without_rows_a_peer_that_went_away_is_left_alone() {
        let mut peer = peer();
        peer.at_end = true;
        let asked = Asked { link: LinkId::new(9), request: RequestId::new(4), what: What::LookUp };
        assert!(peer.ask(asked.clone(), Monotonic::default(), |_| Frame::Unknown(0)).is_some());
        assert_eq!(peer.down(Monotonic::default(), 7), (vec![asked], None));
        assert_eq!(peer.reach, Reach::Idle);
    }
}
