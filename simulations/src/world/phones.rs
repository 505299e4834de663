//! Phones: people who are woken by a push service while their device is away, and look at the list of their threads.
//! Owns: the push service of this world; who names which endpoint, by the seed; the call at the end of a run that must
//! wake, and the one that must not. Never: looks into a relay.

use std::time::Duration;

use whimbrel_node::api::{Command, SettingsChange};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_relay::{WakeOrder, WakeWord};

use super::people::{AGAIN, Asked, text};
use super::{EPOCH_MILLIS, Event, Meeting, Process, World};
use crate::engine::{Entity, Time};
use crate::net::ProcessNo;
use crate::scenario::Friends;

/// From a relay through a push service to a device.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// A challenge that has not come by then was lost with its relay.
const CHALLENGED: Duration = Duration::from_secs(30);
/// One in so many names an endpoint it cannot be reached at.
const STRANGERS: f64 = 0.3;
/// So many are called in one run at most.
const CALLED_MAX: usize = 3;
/// A relay keeps the settings of a thread within this time, and finds out that somebody is away.
const AWAY: Duration = Duration::from_secs(180);
/// A message has woken whom it wakes within this time.
const WOKEN: Duration = Duration::from_secs(120);
/// What was shown is acknowledged within this time, and the relay has written that. By a device that polls, too, one of whose
/// answers was lost: it gives the link up after `ANSWER_TIME_MAX`, and may have been away for so long that the next try is
/// `RELAY_BACKOFF_MAX` later.
const ACKNOWLEDGED: Duration = Duration::from_secs(180);
/// A device that starts has its list by then.
const LISTED: Duration = Duration::from_secs(120);

/// How far somebody is with their endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is to be named.
    Meant,
    /// The node is at it.
    Naming,
    /// It is named; what comes there is waited for since then.
    Named(Time),
    /// The node brings that back.
    Showing,
    /// Wake-ups go there.
    Live,
}

/// Somebody who is woken.
#[derive(Debug)]
pub(super) struct Phone {
    who: ProcessNo,
    stage: Stage,
    /// How often it was named: each time anew.
    named: u32,
    /// What came to the endpoint named last.
    came: Option<[u8; 16]>,
    /// It is nobody's, or another's: what comes there is not brought back.
    strange: bool,
}

impl Phone {
    fn url(&self) -> String {
        format!("https://push.example/{}/{}", self.who, self.named)
    }

    fn endpoint(&self) -> WakeEndpoint {
        let mut key = vec![0; limits::WAKE_KEY_BYTES];
        key.iter_mut().take(1).for_each(|first| *first = 4);
        WakeEndpoint { url: self.url(), key, auth: [0; 16] }
    }
}

impl World {
    /// Draws who names an endpoint, and who one that is not theirs.
    pub(super) fn ring_for(&mut self, people: &[ProcessNo], friends: &Friends) {
        let mut stream = self.seed.stream(Entity::World, "wake-ups");
        for who in people {
            if !stream.happens(friends.wakes.0) {
                continue;
            }
            let (at, strange) = (stream.between(Duration::ZERO, self.workload.arrive.0), stream.happens(STRANGERS));
            self.add_phone(at, *who, strange);
        }
    }

    /// Somebody names where they are woken, after so long.
    pub(super) fn add_phone(&mut self, after: Duration, who: ProcessNo, strange: bool) {
        let phone = self.phones.len();
        self.phones.push(Phone { who, stage: Stage::Meant, named: 0, came: None, strange });
        self.engine.after(after + self.workload.arrive.0, Event::Phone { phone });
    }

    /// Somebody comes a step further with it.
    pub(super) fn phone(&mut self, number: usize) {
        let now = self.engine.now();
        let Some((who, stage, came)) = self.phones.get(number).map(|phone| (phone.who, phone.stage, phone.came)) else {
            return;
        };
        if matches!(stage, Stage::Naming | Stage::Showing | Stage::Live) || self.ends(who) {
            return;
        }
        if !self.is_awake(who) {
            return self.engine.after(AGAIN, Event::Phone { phone: number });
        }
        let Some(phone) = self.phones.get_mut(number) else { return };
        match (stage, came) {
            (Stage::Named(_), Some(code)) if !phone.strange => {
                phone.stage = Stage::Showing;
                let url = phone.url();
                self.ledger.shows_endpoint(&url);
                self.command(who, Command::ConfirmWake(code), Asked::Wake(number));
            }
            // Whoever cannot show it names it once, and that is that.
            (Stage::Named(_), Some(_)) => {}
            (Stage::Named(since), None) if now < since.plus(CHALLENGED) => {
                self.engine.after(AGAIN, Event::Phone { phone: number });
            }
            _ => {
                (phone.stage, phone.named, phone.came) = (Stage::Naming, phone.named + 1, None);
                let (url, endpoint) = (phone.url(), phone.endpoint());
                self.ledger.names_endpoint(who, url);
                self.command(who, Command::SetWake(Some(endpoint)), Asked::Wake(number));
            }
        }
    }

    /// The node answered, or died.
    pub(super) fn phone_answered(&mut self, number: usize, done: bool) {
        let now = self.engine.now();
        let Some(phone) = self.phones.get_mut(number) else { return };
        phone.stage = match (phone.stage, done) {
            (Stage::Naming, true) => Stage::Named(now),
            (Stage::Showing, true) => Stage::Live,
            _ => Stage::Meant,
        };
        if phone.stage != Stage::Live {
            self.engine.after(AGAIN, Event::Phone { phone: number });
        }
    }

    /// A relay hands something to the push service.
    pub(super) fn push_service(&mut self, relay: ProcessNo, orders: Vec<WakeOrder>) {
        for WakeOrder { endpoint, word, .. } in orders {
            self.ledger.woken(relay, &endpoint.url, matches!(word, WakeWord::Challenge(_)), self.engine.now());
            let Some(number) = self.phones.iter().position(|phone| phone.url() == endpoint.url) else { continue };
            match word {
                WakeWord::Something => self.struck.wakes += 1,
                WakeWord::Challenge(code) => {
                    if let Some(phone) = self.phones.get_mut(number) {
                        phone.came = Some(code);
                    }
                    self.engine.after(ON_ITS_WAY, Event::Phone { phone: number });
                }
            }
        }
    }

    /// Some who can be woken go away; a friend of each says a word. For one in two it is in a thread they keep quiet, and
    /// for one in two their relay dies meanwhile. Then they come back, and look at the list of their threads.
    pub(super) fn call_phones(&mut self, settle: Duration) {
        let mut stream = self.seed.stream(Entity::World, "calls to phones");
        let mut called: Vec<(ProcessNo, ProcessNo, ThreadId, bool)> = Vec::new();
        for number in 0..self.phones.len() {
            let Some((who, other, thread)) = self.callable(number) else { continue };
            // Whoever calls one must not be another who is away.
            let busy = |one: ProcessNo| called.iter().any(|(a, b, ..)| [*a, *b].contains(&one));
            if called.len() < CALLED_MAX && !busy(who) && !busy(other) {
                called.push((who, other, thread, stream.happens(0.5)));
            }
        }
        if called.is_empty() {
            return;
        }
        let tomorrow = self.engine.now().nanos() / 1_000_000 + EPOCH_MILLIS + 24 * 3_600 * 1_000;
        for (who, _, thread, _) in called.iter().filter(|(.., quiet)| *quiet) {
            let change = SettingsChange::MutedUntil(Wall::from_millis(tomorrow));
            self.command(*who, Command::SetThread { thread: *thread, change }, Asked::About);
        }
        self.run_for(AWAY);
        let since = self.engine.now();
        for (who, ..) in &called {
            self.disconnect(*who);
            self.late.keep_away(*who);
            if let (Some(process), true) = (self.node(*who).map(|node| node.home), stream.happens(0.5)) {
                self.engine.after(stream.between(Duration::ZERO, AWAY / 2), Event::Die { process });
            }
        }
        self.run_for(AWAY);
        let before: Vec<_> = called.iter().map(|(who, ..)| self.ledger.wakes(*who)).collect();
        for (who, other, thread, _) in &called {
            self.spoken += 1;
            let text = text(self.ledger.canaries().mark(), self.spoken, 40);
            self.write(*other, vec![*who], *thread, text);
        }
        self.run_for(WOKEN);
        for ((who, _, thread, quiet), before) in called.iter().zip(before) {
            match (self.ledger.wakes(*who) > before, *quiet) {
                (true, true) => self.ledger.woken_though_quiet(*who, since, *thread),
                (false, false) => self.ledger.unwoken(*who, since),
                _ => {}
            }
        }
        for (who, ..) in &called {
            self.late.let_go(*who);
            self.reconnect(*who);
        }
        let bound = self.engine.now().plus(settle);
        while self.engine.now() < bound && self.ledger.owes_anybody() {
            self.run_for(Duration::from_secs(1));
        }
        self.look_at_lists(&called);
    }

    /// Their devices start anew, with all they were sent, and are given the list of their threads.
    fn look_at_lists(&mut self, called: &[(ProcessNo, ProcessNo, ThreadId, bool)]) {
        self.run_for(ACKNOWLEDGED);
        for (who, ..) in called {
            self.stop(*who);
            self.ledger.lists(*who);
            self.start(*who);
        }
        self.run_for(LISTED);
        for (who, _, thread, quiet) in called {
            let Some(person) = self.person_of(*who) else { continue };
            let pairs = person.threads.iter().map(|(_, thread)| *thread);
            let threads: Vec<_> = pairs.chain(person.groups.iter().map(|(_, thread)| *thread)).collect();
            self.ledger.listed(*who, &threads, quiet.then_some(*thread));
        }
    }

    /// Somebody who can be woken, a friend of theirs who is there, and their thread; nobody hostile near either.
    fn callable(&self, number: usize) -> Option<(ProcessNo, ProcessNo, ThreadId)> {
        let phone = self.phones.get(number).filter(|phone| phone.stage == Stage::Live)?;
        let who = phone.who;
        let well = |one: ProcessNo| {
            let parted = self.partings.iter().any(|parting| [parting.owner, parting.other].contains(&one));
            let two = self.seconds.iter().any(|second| second.owner == one);
            self.is_awake(one) && self.is_untroubled(one) && !parted && !two
        };
        if !well(who) {
            return None;
        }
        let met = |other: ProcessNo| {
            self.pairs.iter().any(|pair| pair.other_than(who) == Some(other) && matches!(pair.meeting, Meeting::Met))
        };
        let threads = &self.person_of(who)?.threads;
        let found = threads.iter().find(|(other, thread)| {
            let theirs = self.person_of(*other).is_some_and(|person| person.threads.contains(&(who, *thread)));
            met(*other) && theirs && well(*other)
        });
        found.map(|(other, thread)| (who, *other, *thread))
    }

    /// Whether neither somebody nor their relay was hostile, out of room, or far off in time.
    fn is_untroubled(&self, who: ProcessNo) -> bool {
        let home = match self.processes.get(who as usize) {
            Some(Process::Node(node, _)) => node.home,
            _ => return false,
        };
        [who, home].into_iter().all(|one| self.ledger.is_sound(one))
    }
}
