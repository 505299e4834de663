//! The timing wheel: what happens when.
//! Owns: pending events in slots of about a millisecond, sorted when a slot is entered.
//! Never: takes its order from an address or a map of random seed.
//!
//! A binary heap pays a cache miss per level and event and falls to a ninth of this speed at a million pending
//! events; here an event is pushed to the end of a list twice and sorted once among those of its own millisecond.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use super::time::Time;

/// A slot is 2^20 ns, 1.05 ms.
const SLOT_BITS: u32 = 20;
/// Slots in the ring: 4.3 s, so that frames, disks and most timers never touch the map of the far future.
const SLOTS: u64 = 4_096;

struct Pending<E> {
    at: u64,
    /// Decides between events of one nanosecond: no two are equal.
    tie: u64,
    event: E,
}

impl<E> Pending<E> {
    const fn key(&self) -> (u64, u64) {
        (self.at, self.tie)
    }
}

// The heap below is a maximum heap: the earliest event is the greatest.
impl<E> Ord for Pending<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}
impl<E> PartialOrd for Pending<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> PartialEq for Pending<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl<E> Eq for Pending<E> {}

/// Pending events, handed out by time; events of one nanosecond in an order drawn from the seed.
pub struct Wheel<E> {
    /// The slot being worked off, latest first.
    current: Vec<Pending<E>>,
    /// What was put into the current slot after it was entered.
    late: BinaryHeap<Pending<E>>,
    /// Number of the current slot since the beginning.
    slot: u64,
    ring: Vec<Vec<Pending<E>>>,
    /// One bit per ring slot that is not empty.
    occupied: Vec<u64>,
    /// Slots beyond the ring.
    far: BTreeMap<u64, Vec<Pending<E>>>,
    len: usize,
    put: u64,
    salt: u64,
}

impl<E> Wheel<E> {
    /// An empty wheel at time zero. `salt` decides the order of events of the same nanosecond.
    pub fn new(salt: u64) -> Self {
        Self {
            current: Vec::new(),
            late: BinaryHeap::new(),
            slot: 0,
            ring: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: vec![0; (SLOTS / 64) as usize],
            far: BTreeMap::new(),
            len: 0,
            put: 0,
            salt,
        }
    }

    /// How many events are pending.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is pending.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event. A time before the slot being worked off counts as its beginning: it comes next.
    pub fn put(&mut self, at: Time, event: E) {
        let pending = Pending { at: at.nanos(), tie: mix(self.put ^ self.salt), event };
        self.put += 1;
        self.len += 1;
        let slot = at.nanos() >> SLOT_BITS;
        if slot <= self.slot {
            self.late.push(pending);
        } else if slot - self.slot < SLOTS {
            let place = slot % SLOTS;
            if let Some(list) = self.ring.get_mut(place as usize) {
                list.push(pending);
            }
            if let Some(word) = self.occupied.get_mut((place / 64) as usize) {
                *word |= 1 << (place % 64);
            }
        } else {
            self.far.entry(slot).or_default().push(pending);
        }
    }

    /// When the next event is due.
    pub fn peek(&mut self) -> Option<Time> {
        self.fill();
        let time = |pending: &Pending<E>| Time::from_nanos(pending.at);
        match (self.current.last(), self.late.peek()) {
            (Some(sorted), Some(late)) => Some(time(if late > sorted { late } else { sorted })),
            (sorted, late) => sorted.or(late).map(time),
        }
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.fill();
        let from_late = match (self.current.last(), self.late.peek()) {
            (Some(sorted), Some(late)) => late > sorted,
            (sorted, _) => sorted.is_none(),
        };
        let pending = if from_late { self.late.pop() } else { self.current.pop() }?;
        self.len -= 1;
        Some((Time::from_nanos(pending.at), pending.event))
    }

    /// Enters the next slot that has events, once the current one is worked off.
    fn fill(&mut self) {
        if !self.current.is_empty() || !self.late.is_empty() || self.len == 0 {
            return;
        }
        let near = self.next_in_ring();
        let far = self.far.first_key_value().map(|(slot, _)| *slot);
        let Some(next) = near.into_iter().chain(far).min() else { return };
        self.slot = next;
        let place = next % SLOTS;
        if near == Some(next)
            && let Some(list) = self.ring.get_mut(place as usize)
        {
            // The emptied list of the slot before keeps its room and serves this slot's next turn.
            std::mem::swap(&mut self.current, list);
            if let Some(word) = self.occupied.get_mut((place / 64) as usize) {
                *word &= !(1 << (place % 64));
            }
        }
        if far == Some(next)
            && let Some(list) = self.far.remove(&next)
        {
            self.current.extend(list);
        }
        self.current.sort_unstable_by_key(|pending| std::cmp::Reverse(pending.key()));
    }

    /// The first occupied slot of the ring after the current one.
    fn next_in_ring(&self) -> Option<u64> {
        let start = self.slot + 1;
        let words = SLOTS / 64;
        let first = (start % SLOTS) / 64;
        // One word more than there are: the first is looked at above and, last, below the start bit.
        (0..=words).find_map(|step| {
            let index = (first + step) % words;
            let mut word = self.occupied.get(index as usize).copied().unwrap_or(0);
            if step == 0 {
                word &= u64::MAX << (start % 64);
            } else if step == words {
                word &= !(u64::MAX << (start % 64));
            }
            let place = index * 64 + u64::from(word.trailing_zeros());
            (word != 0).then(|| start + (place + SLOTS - start % SLOTS) % SLOTS)
        })
    }
}

/// A bijection on 64 bits (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014, finaliser):
/// different numbers stay different, and their order says nothing about the order they came in.
const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_of_one_nanosecond_come_in_an_order_of_the_seed() {
        let order = |salt| {
            let mut wheel = Wheel::new(salt);
            (0..20).for_each(|n| wheel.put(Time::from_nanos(5), n));
            std::iter::from_fn(|| wheel.pop().map(|(_, n)| n)).collect::<Vec<u32>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn an_event_a_whole_turn_ahead_waits_for_its_turn() {
        let mut wheel = Wheel::new(0);
        for slot in [SLOTS, SLOTS - 1, SLOTS + 1, 3 * SLOTS, 1] {
            wheel.put(Time::from_nanos(slot << SLOT_BITS), slot);
        }
        let order: Vec<_> = std::iter::from_fn(|| wheel.pop().map(|(_, slot)| slot)).collect();
        assert_eq!(order, [1, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS]);
    }

    /// Puts of a few scales apart, and pops in between.
    fn plan() -> impl Strategy<Value = Vec<Option<u64>>> {
        let put = prop_oneof![
            0..2_000_u64,
            0..(1_u64 << (SLOT_BITS + 2)),
            0..((2 * SLOTS) << SLOT_BITS),
            0..((50 * SLOTS) << SLOT_BITS),
        ];
        prop::collection::vec(prop_oneof![3 => put.prop_map(Some), 2 => Just(None)], 1..400)
    }

    proptest! {
        #[test]
        fn the_wheel_hands_out_what_a_heap_would(plan in plan(), salt: u64) {
            let (mut wheel, mut heap) = (Wheel::new(salt), BinaryHeap::new());
            let (mut now, mut put) = (0, 0_u64);
            for step in plan.into_iter().chain(std::iter::repeat_n(None, 400)) {
                match step {
                    Some(delay) => {
                        wheel.put(Time::from_nanos(now + delay), put);
                        heap.push(Pending { at: now + delay, tie: mix(put ^ salt), event: put });
                        put += 1;
                    }
                    None => {
                        let expected = heap.pop().map(|pending| (Time::from_nanos(pending.at), pending.event));
                        prop_assert_eq!(wheel.pop(), expected);
                        now = expected.map_or(now, |(at, _)| at.nanos());
                    }
                }
                // Looking ahead must not lose what is put before it later.
                prop_assert_eq!(wheel.peek(), heap.peek().map(|pending| Time::from_nanos(pending.at)));
                prop_assert_eq!(wheel.len(), heap.len());
            }
        }
    }
}
