//! Services: what people rely on beyond their messages: wake-ups, the list of their threads, rates.
//! Owns: who named which endpoint and showed it to be theirs, when each was woken; what relays listed; what one account
//! was handed of another's keys. Never: asks a relay; it hears what arrives at push services and at devices.
//!
//! The rules judged: no wake-up goes where nobody showed the device to be (docs/protocol/wake.md 2), two of one device
//! lie 30 s apart (4) as far as one life of a relay can know (8), every thread of somebody is in their list with what they
//! have not read (docs/protocol/thread.md 11, 12), and no hour sees more of one's keys handed to one account than ten
//! (docs/protocol/reception.md 14).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use whimbrel_protocol::id::{RequestId, ThreadId};
use whimbrel_protocol::thread::ThreadPage;

use super::verdict::Violation;
use crate::engine::Time;
use crate::net::ProcessNo;

/// Between two wake-ups of a device: 30 s, by a clock that may run a little faster than the judge's.
const APART: Duration = Duration::from_secs(29);
/// Keys of one account's device that another is handed at most in [`CLAIMS_TIME`].
const CLAIMS_MAX: usize = 10;
/// Less than the hour in which no more may be handed out, by what an answer may be on its way and a clock too fast.
const CLAIMS_TIME: Duration = Duration::from_secs(50 * 60);

/// Where somebody is woken.
#[derive(Debug)]
struct Endpoint {
    who: ProcessNo,
    /// What came there was brought back, or is about to be.
    shown: bool,
}

/// What a relay listed of somebody's threads since their device last started.
#[derive(Debug, Default)]
struct Listing {
    rows: BTreeMap<ThreadId, Row>,
    whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    unread: u64,
    settings: bool,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Services {
    endpoints: BTreeMap<String, Endpoint>,
    /// When a relay last woke somebody, in this life of its.
    woken: BTreeMap<(ProcessNo, ProcessNo), Time>,
    /// How often anybody was.
    wakes: BTreeMap<ProcessNo, u64>,
    listings: BTreeMap<ProcessNo, Listing>,
    /// Who asked for whose keys, by the owner's relay in this life of its and by whoever brought it the request: a device
    /// that lives there, or the relay of whoever asks.
    asked: BTreeMap<(ProcessNo, ProcessNo, RequestId), (ProcessNo, ProcessNo)>,
    /// When keys of the second were handed to the first.
    handed: BTreeMap<(ProcessNo, ProcessNo), VecDeque<Time>>,
    /// When a message was last handed in to each thread: said, or said again because nobody said to have it.
    spoken: BTreeMap<ThreadId, Time>,
    /// By thread and epoch, who was to be taken in by a commit that was handed in, whether or not it held.
    taken_in: BTreeSet<(ThreadId, u64, ProcessNo)>,
}

impl Services {
    /// Somebody names an endpoint.
    pub(super) fn names(&mut self, who: ProcessNo, url: String) {
        self.endpoints.entry(url).or_insert(Endpoint { who, shown: false });
    }

    /// They are about to bring back what came there.
    pub(super) fn shows(&mut self, url: &str) {
        if let Some(endpoint) = self.endpoints.get_mut(url) {
            endpoint.shown = true;
        }
    }

    /// A relay sent something to an endpoint; `challenge`: to have it shown. Gives whom it woke, and what is wrong with that.
    pub(super) fn woken(
        &mut self,
        relay: ProcessNo,
        url: &str,
        challenge: bool,
        at: Time,
    ) -> (Option<ProcessNo>, Option<Violation>) {
        let Some(Endpoint { who, shown }) = self.endpoints.get(url) else {
            return (None, Some(Violation::WokeNobody { relay }));
        };
        let who = *who;
        if challenge {
            return (None, None);
        }
        *self.wakes.entry(who).or_default() += 1;
        if !*shown {
            return (Some(who), Some(Violation::WokeUnshown { relay, of: who }));
        }
        let last = self.woken.insert((relay, who), at);
        let soon = last.is_some_and(|last| at < last.plus(APART));
        (Some(who), soon.then_some(Violation::WokeOften { relay, of: who }))
    }

    /// Whether a relay woke somebody since then, in this life of its. If they have not come in, it need not again for
    /// `limits::WAKE_UNANSWERED`, whatever comes (docs/protocol/wake.md 4); a relay that died in between has to (8).
    pub(super) fn woke_since(&self, relay: ProcessNo, who: ProcessNo, since: Time) -> bool {
        self.woken.get(&(relay, who)).is_some_and(|woken| *woken >= since)
    }

    /// A message is handed in.
    pub(super) fn speaks(&mut self, thread: ThreadId, at: Time) {
        self.spoken.insert(thread, at);
    }

    /// The threads but one to which a message was handed in since then.
    pub(super) fn spoken_since(&self, since: Time, but: ThreadId) -> impl Iterator<Item = &ThreadId> {
        self.spoken.iter().filter(move |(thread, at)| **thread != but && **at >= since).map(|(thread, _)| thread)
    }

    /// How often somebody was woken.
    pub(super) fn wakes(&self, who: ProcessNo) -> u64 {
        self.wakes.get(&who).copied().unwrap_or_default()
    }

    /// A relay died: it knows neither whom it woke nor what it handed out to whom. What is still on its way was handed out
    /// by the life that ended, and is none of the next one's.
    pub(super) fn forgets(&mut self, relay: ProcessNo, lives_there: impl Fn(ProcessNo) -> bool) {
        self.woken.retain(|(by, _), _| *by != relay);
        self.asked.retain(|(of, _, _), _| *of != relay);
        self.handed.retain(|(_, owner), _| !lives_there(*owner));
    }

    /// Somebody's device starts anew, and will ask for the list of its threads.
    pub(super) fn lists(&mut self, who: ProcessNo) {
        self.listings.insert(who, Listing::default());
    }

    /// A page of that came.
    pub(super) fn page(&mut self, who: ProcessNo, page: &ThreadPage) {
        let Some(listing) = self.listings.get_mut(&who) else { return };
        let row = |row: &whimbrel_protocol::thread::ThreadRow| {
            (row.place.thread, Row { unread: row.unread, settings: row.settings.is_some() })
        };
        // The first list is what the relay had; what the device does after it may change it.
        if !listing.whole {
            listing.rows.extend(page.rows.iter().map(row));
            listing.whole = !page.more;
        }
    }

    /// What is wrong with the list of somebody who is in these threads, has read everything, and changed settings of
    /// one of them; nothing when it has not come.
    pub(super) fn listed(&self, who: ProcessNo, threads: &[ThreadId], set: Option<ThreadId>) -> Option<Violation> {
        let Some(Listing { rows, whole: true }) = self.listings.get(&who) else {
            return Some(Violation::Unlisted { of: who });
        };
        for thread in threads {
            let Some(row) = rows.get(thread) else { return Some(Violation::RowMissing { of: who }) };
            if row.unread > 0 {
                return Some(Violation::StillUnread { of: who, unread: row.unread });
            }
            if set == Some(*thread) && !row.settings {
                return Some(Violation::SettingsMissing { of: who });
            }
        }
        None
    }

    /// The first of these asks for keys of the second: the relay of the second was asked by that end of a link. Nothing:
    /// nobody counts it; and the number is not that of an earlier question any more, which was refused or lost.
    pub(super) fn asks(
        &mut self,
        relay: ProcessNo,
        (by, request): (ProcessNo, RequestId),
        pair: Option<(ProcessNo, ProcessNo)>,
    ) {
        match pair {
            Some(pair) => self.asked.insert((relay, by, request), pair),
            None => self.asked.remove(&(relay, by, request)),
        };
    }

    /// A relay hands some out to whoever brought the request.
    pub(super) fn handed(
        &mut self,
        relay: ProcessNo,
        (by, request): (ProcessNo, RequestId),
        at: Time,
    ) -> Option<Violation> {
        let (who, owner) = self.asked.remove(&(relay, by, request))?;
        let times = self.handed.entry((who, owner)).or_default();
        while times.front().is_some_and(|first| at > first.plus(CLAIMS_TIME)) {
            times.pop_front();
        }
        times.push_back(at);
        (times.len() > CLAIMS_MAX).then_some(Violation::TooManyKeys { to: who, of: owner })
    }

    /// A commit that takes somebody in was handed in.
    pub(super) fn takes_in(&mut self, thread: ThreadId, epoch: u64, who: ProcessNo) {
        self.taken_in.insert((thread, epoch, who));
    }

    /// Whether a commit was handed in that takes somebody in after the first of these epochs, and before or at the second.
    pub(super) fn came_back(&self, thread: ThreadId, (after, upto): (u64, u64), who: ProcessNo) -> bool {
        (after + 1..=upto).any(|epoch| self.taken_in.contains(&(thread, epoch, who)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::Sequence;
    use whimbrel_protocol::thread::{ListingPlace, ThreadRow, ThreadSettings};
    use whimbrel_protocol::time::Wall;

    use super::*;

    const RELAY: ProcessNo = 0;
    const ALICE: ProcessNo = 1;
    const BOB: ProcessNo = 2;

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn whoever_was_woken_and_has_not_come_need_not_be_woken_again_by_the_same_life_of_a_relay() {
        let mut services = Services::default();
        services.names(ALICE, "a".to_owned());
        services.shows("a");
        assert!(!services.woke_since(RELAY, ALICE, at(0)));
        assert_eq!(services.woken(RELAY, "a", false, at(100)), (Some(ALICE), None));
        let since = |services: &Services, seconds| services.woke_since(RELAY, ALICE, at(seconds));
        assert_eq!((since(&services, 100), since(&services, 101)), (true, false), "before they went away is not since");
        services.forgets(RELAY, |_| false);
        assert!(!since(&services, 100), "it knows nothing of that any more");
    }

    #[test]
    fn a_wake_up_goes_where_its_device_was_shown_to_be_and_half_a_minute_after_the_one_before() {
        let mut services = Services::default();
        let woken = |services: &mut Services, url: &str, seconds| services.woken(RELAY, url, false, at(seconds)).1;
        assert_eq!(woken(&mut services, "here", 1), Some(Violation::WokeNobody { relay: RELAY }));
        services.names(ALICE, "here".to_owned());
        assert_eq!(services.woken(RELAY, "here", true, at(2)), (None, None));
        assert_eq!(woken(&mut services, "here", 3), Some(Violation::WokeUnshown { relay: RELAY, of: ALICE }));
        services.shows("here");
        assert_eq!((woken(&mut services, "here", 4), woken(&mut services, "here", 34)), (None, None));
        assert_eq!(woken(&mut services, "here", 62), Some(Violation::WokeOften { relay: RELAY, of: ALICE }));
        services.forgets(RELAY, |_| false);
        assert_eq!((woken(&mut services, "here", 63), services.wakes(ALICE), services.wakes(BOB)), (None, 5, 0));
    }

    #[test]
    fn no_hour_hands_one_account_more_than_ten_keys_of_another() {
        let mut services = Services::default();
        let handed = |services: &mut Services, n: u64, minutes: u64| {
            services.asks(RELAY, (ALICE, RequestId::new(n)), Some((ALICE, BOB)));
            services.handed(RELAY, (ALICE, RequestId::new(n)), at(minutes * 60))
        };
        assert!((0..10).all(|n| handed(&mut services, n, n).is_none()));
        assert_eq!(handed(&mut services, 10, 50), Some(Violation::TooManyKeys { to: ALICE, of: BOB }));
        assert_eq!(handed(&mut services, 11, 53), None, "four are older, and the one too many counts");
        services.forgets(RELAY, |owner| owner == BOB);
        assert!((12..22).all(|n| handed(&mut services, n, 54).is_none()));
        assert_eq!(services.handed(RELAY, (ALICE, RequestId::new(99)), at(4_000)), None, "never asked for");
    }

    #[test]
    fn a_list_has_every_thread_once_read_as_read_and_with_its_settings() {
        let thread = |n: u8| ThreadId::from_bytes([n; 32]);
        let row = |n: u8, unread, set: bool| ThreadRow {
            place: ListingPlace { updated: Wall::from_millis(1), thread: thread(n) },
            head: Sequence::new(9),
            unread,
            tag: None,
            settings: set.then(|| ThreadSettings { sealed: Vec::new(), quiet_until: Wall::from_millis(0) }),
        };
        let page = |rows, more| ThreadPage { request: RequestId::new(1), rows, more };
        let mut services = Services::default();
        let both = [thread(1), thread(2)];
        services.lists(ALICE);
        services.page(ALICE, &page(vec![row(1, 0, false)], true));
        assert_eq!(services.listed(ALICE, &both, None), Some(Violation::Unlisted { of: ALICE }));
        services.page(ALICE, &page(vec![row(2, 0, true)], false));
        services.page(ALICE, &page(vec![row(1, 7, true)], false));
        assert_eq!(services.listed(ALICE, &both, Some(thread(2))), None);
        assert_eq!(services.listed(ALICE, &both, Some(thread(1))), Some(Violation::SettingsMissing { of: ALICE }));
        assert_eq!(services.listed(ALICE, &[thread(3)], None), Some(Violation::RowMissing { of: ALICE }));
        services.lists(ALICE);
        services.page(ALICE, &page(vec![row(1, 7, true)], false));
        assert_eq!(services.listed(ALICE, &[thread(1)], None), Some(Violation::StillUnread { of: ALICE, unread: 7 }));
    }

    #[test]
    fn whoever_is_taken_in_again_reads_from_then_on() {
        let (mut services, thread) = (Services::default(), ThreadId::from_bytes([1; 32]));
        services.takes_in(thread, 7, ALICE);
        let back = |after, upto, who| services.came_back(thread, (after, upto), who);
        assert!(back(6, 7, ALICE) && back(5, 9, ALICE));
        assert!(!back(7, 9, ALICE) && !back(5, 6, ALICE) && !back(5, 9, BOB));
    }
}
