//! The network: links between processes, and when what is sent arrives.
//! Owns: handshakes, latency, jitter, loss, both queues of an access link, outages, silence and its detection.
//! Never: knows what a frame means, or touches a process; it schedules events and answers questions.
//!
//! A link is QUIC as an application sees it: frames of one direction arrive in order or the link is lost. A lost,
//! late or doubled packet is therefore no lost frame but a later one, and holds back those behind it. The dialler has
//! its link one round trip after it dialled, the other side half a round trip later. A process that dies says nothing:
//! the other end finds out by the silence. An outage shorter than that breaks nothing: what it swallowed is sent again
//! once the path is back, after the pause between two probes, which grew with the outage.

mod counts;
mod link;
mod place;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use whimbrel_protocol::Frame;
use whimbrel_protocol::id::LinkId;

use crate::engine::{Engine, Stream, Time};
use crate::scenario::{Network, facts};
use crate::world::Event;

pub use counts::Counts;
use link::{Conn, Direction, End, Half, Parcel};
use place::Place;
pub use place::{Access, Nat};

/// A process's number.
pub type ProcessNo = u32;

/// Bytes of a packet that carry frames: QUIC's floor of 1,200 (RFC 9000 §14) less its own header and tag.
const PACKET_PAYLOAD: usize = 1_160;
/// Bytes around them: QUIC header and tag, UDP, IPv6.
const PACKET_OVERHEAD: usize = 40 + 8 + 40;
/// A probe timeout is a round trip and an eighth (RFC 9002 §6.1.2) and the other side's delay of acknowledgements.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// A datagram lost this often in a row counts as arrived: loss shares near one must not spin.
const RETRANSMISSIONS_MAX: u32 = 10;

/// Which end of a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Whoever dialled.
    Dialler,
    /// Whoever was dialled.
    Acceptor,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// What is sent on a link: a frame, and what the path needs to know of it.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// The frame; nothing when the bytes are none.
    pub frame: Option<Arc<Frame>>,
    /// Bytes on the stream.
    pub bytes: usize,
    /// A checksum over them: what the trace has of their contents.
    pub checksum: u32,
    /// How long its sender keeps it beyond what the network takes.
    pub kept: Duration,
}

impl Cargo {
    /// A frame, and how it is spelled.
    pub fn new(frame: Arc<Frame>, bytes: &[u8]) -> Self {
        let checksum = crc32fast::hash(bytes);
        Self { frame: Some(frame), bytes: bytes.len(), checksum, kept: Duration::ZERO }
    }

    /// Bytes that are no frame.
    pub fn malformed(bytes: &[u8]) -> Self {
        Self { frame: None, bytes: bytes.len(), checksum: crc32fast::hash(bytes), kept: Duration::ZERO }
    }
}

/// A standing link, as one end is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The process at this end.
    pub process: ProcessNo,
    /// The process at the other.
    pub peer: ProcessNo,
    /// The same 32 bytes at both ends, as TLS exports them.
    pub exporter: [u8; 32],
}

/// All links.
#[derive(Debug)]
pub struct Net {
    settings: Network,
    places: Vec<Place>,
    conns: Vec<Option<Conn>>,
    free: Vec<u32>,
    generations: Vec<u32>,
    /// From whom nothing reaches whom, and for how many reasons.
    cut: BTreeMap<(ProcessNo, ProcessNo), u32>,
    /// How much longer the way between two takes just now; the smaller number first.
    slow: BTreeMap<(ProcessNo, ProcessNo), Duration>,
    exporters: Stream,
    /// What went over it so far.
    pub counts: Counts,
}

impl Net {
    /// No places, no links.
    pub fn new(settings: Network, exporters: Stream) -> Self {
        Self {
            settings,
            places: Vec::new(),
            conns: Vec::new(),
            free: Vec::new(),
            generations: Vec::new(),
            cut: BTreeMap::new(),
            slow: BTreeMap::new(),
            exporters,
            counts: Counts::default(),
        }
    }

    /// Adds the place of the next process.
    pub fn add(&mut self, access: Access, stream: Stream) {
        self.places.push(Place::new(access, stream));
    }

    /// Starts a handshake. [`Event::Knock`] follows at the other side, or [`Event::DialFailed`].
    pub fn dial(&mut self, engine: &mut Engine<Event>, from: ProcessNo, to: ProcessNo) -> LinkId {
        let (exporter, now) = (self.exporters.chance().bytes(), engine.now());
        let half = |process| {
            let (end, inward) = (End::Waiting, Direction::default());
            Half { process, end, inward, silence: 0, silent: None }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.generations.push(0);
            (self.conns.len() - 1) as u32
        });
        let generation = match self.generations.get_mut(slot as usize) {
            Some(generation) => {
                *generation += 1;
                *generation
            }
            None => 0,
        };
        let link = LinkId::new(u64::from(generation) << 32 | u64::from(slot));
        let (mut dialler, mut acceptor) = (half(from), half(to));
        dialler.inward.blocked = (!self.reaches(to, from)).then_some(now);
        acceptor.inward.blocked = (!self.reaches(from, to)).then_some(now);
        let out = acceptor.inward.blocked.is_some();
        if let Some(place) = self.conns.get_mut(slot as usize) {
            *place = Some(Conn { generation, dialler, acceptor, began: now, exporter, dead: false });
        }
        for process in [from, to] {
            if let Some(place) = self.places.get_mut(process as usize) {
                place.links.insert(link.get());
            }
        }
        let translated = !out && !self.punches(from, to);
        self.counts.punches_failed += u64::from(translated);
        if out || translated {
            engine.after(self.settings.connect.0, Event::DialFailed { link });
        } else {
            let (flight, _) = self.flight(now, from, to, 1);
            engine.after(flight, Event::Knock { link });
        }
        link
    }

    /// Whether a dial gets through both sides' address translation. Drawn per place and, for the rest of the chance,
    /// per attempt: a pair that can be punched is so at nearly every first attempt.
    fn punches(&mut self, from: ProcessNo, to: ProcessNo) -> bool {
        let nat = |process: ProcessNo| self.places.get(process as usize).map(|place| place.access.nat);
        match (nat(from).unwrap_or_default(), nat(to).unwrap_or_default()) {
            (_, Nat::Open) => true,
            (Nat::Open, Nat::Easy) => true,
            (Nat::Easy, Nat::Easy) => {
                let place = self.places.get_mut(from as usize);
                place.is_none_or(|place| place.stream.happens(facts::first_attempt_share()))
            }
            (Nat::Hard, Nat::Easy) | (_, Nat::Hard) => false,
        }
    }

    /// The handshake reached the other side. Answered: both ends are told in turn. Not answered: the dialler gives up.
    pub fn answer(&mut self, engine: &mut Engine<Event>, link: LinkId, accept: bool) {
        let Some(conn) = self.conn(link) else { return };
        let (from, to, began, dead) = (conn.dialler.process, conn.acceptor.process, conn.began, conn.dead);
        let out = conn.acceptor.inward.blocked.is_some() || conn.dialler.inward.blocked.is_some();
        if dead || !accept || out {
            let give_up = began.plus(self.settings.connect.0);
            engine.at(give_up, Event::DialFailed { link });
            return;
        }
        let now = engine.now();
        let back = now.plus(self.flight(now, to, from, 3).0);
        let give_up = began.plus(self.settings.connect.0);
        if back > give_up {
            // On a path that is too slow the answer comes to somebody who has stopped waiting.
            engine.at(give_up.max(now), Event::DialFailed { link });
            return;
        }
        let there = back.plus(self.flight(now, from, to, 1).0);
        // What an end sends once it is up must find the other up.
        if let Some(conn) = self.conn_mut(link) {
            conn.dialler.inward.last_arrival = back;
            conn.acceptor.inward.last_arrival = there;
        }
        engine.at(back, Event::Up { link, side: Side::Dialler });
        engine.at(there, Event::Up { link, side: Side::Acceptor });
    }

    /// Dialler and acceptor.
    pub fn ends(&self, link: LinkId) -> Option<(ProcessNo, ProcessNo)> {
        self.conn(link).map(|conn| (conn.dialler.process, conn.acceptor.process))
    }

    /// The dialler gave up; who it was, if it still waits.
    pub fn failed(&mut self, link: LinkId) -> Option<ProcessNo> {
        let conn = self.conn_mut(link)?;
        let waiting = conn.dialler.end == End::Waiting;
        let process = conn.dialler.process;
        conn.dead = true;
        (conn.dialler.end, conn.acceptor.end) = (End::Gone, End::Gone);
        self.release(link);
        self.counts.dials_failed += u64::from(waiting);
        waiting.then_some(process)
    }

    /// An end is told that the link stands; nothing if it broke meanwhile.
    pub fn up(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side) -> Option<Standing> {
        let connect = self.settings.connect.0;
        let conn = self.conn_mut(link)?;
        if conn.half(side).end != End::Waiting {
            return None;
        }
        if conn.dead || conn.half(side).inward.blocked.is_some() {
            let give_up = conn.began.plus(connect);
            conn.dead = true;
            match side {
                Side::Dialler => engine.at(give_up, Event::DialFailed { link }),
                Side::Acceptor => {
                    conn.acceptor.end = End::Gone;
                    self.forget(engine.now(), link, side, |_| false);
                    // The dialler believes that the link stands, and will hear nothing on it.
                    self.fall_silent(engine, link, Side::Dialler);
                }
            }
            self.release(link);
            return None;
        }
        let exporter = conn.exporter;
        let half = conn.half_mut(side);
        half.end = End::Up;
        let process = half.process;
        let peer = conn.half(side.other()).process;
        self.counts.links += u64::from(side == Side::Dialler);
        Some(Standing { process, peer, exporter })
    }

    /// Sends from an end. Returns when the last byte leaves; `None` when the link is gone for that end.
    pub fn send(&mut self, engine: &mut Engine<Event>, link: LinkId, from: ProcessNo, cargo: Cargo) -> Option<Time> {
        let side = self.side(link, from)?;
        let conn = self.conn(link)?;
        if conn.half(side).end != End::Up {
            return None;
        }
        let other = side.other();
        let (to, dead) = (conn.half(other).process, conn.dead);
        let out = conn.half(other).inward.blocked.is_some();
        let packets = cargo.bytes.div_ceil(PACKET_PAYLOAD).max(1);
        let mut on_wire = cargo.bytes + packets * PACKET_OVERHEAD;
        let (now, buffer) = (engine.now(), self.settings.buffer.0);
        if self.settings.duplicate.0 > 0.0
            && let Some(place) = self.places.get_mut(from as usize)
        {
            let doubled = (0..packets).filter(|_| place.stream.happens(self.settings.duplicate.0)).count();
            on_wire += doubled * (PACKET_PAYLOAD + PACKET_OVERHEAD).min(on_wire);
            self.counts.packets_doubled += doubled as u64;
        }
        let (departs, no_room) = self.places.get_mut(from as usize)?.depart(now, on_wire, buffer);
        self.counts.bytes += on_wire as u64;
        // Into the void: the sender does not know yet.
        if dead {
            self.counts.lost_in_outages += packets as u64;
            self.counts.packets_lost += packets as u64;
            return Some(departs);
        }
        if out {
            self.counts.lost_in_outages += packets as u64;
            self.counts.packets_lost += packets as u64;
            let inward = &mut self.conn_mut(link)?.half_mut(other).inward;
            inward.on_the_way.push_back(Parcel { departs, arrives: Time::NEVER, stretch: None, cargo });
            return Some(departs);
        }
        let (mut flight, mut late) = self.flight(departs, from, to, packets);
        if no_room {
            // The tail of the queue was dropped; the sender finds out a round trip later.
            flight += 2 * self.least(from, to);
            self.counts.lost_at_uplink += packets as u64;
            self.counts.packets_lost += packets as u64;
            late = true;
        }
        let far = departs.plus(flight).plus(cargo.kept);
        let receiver = self.places.get_mut(to as usize)?;
        let (mut arrives, stretch) = if late || !cargo.kept.is_zero() {
            (receiver.come_late(far, on_wire), None)
        } else {
            let (stretch, no_room) = receiver.come_in(now, far, on_wire, buffer);
            if no_room {
                self.counts.lost_at_downlink += packets as u64;
                self.counts.packets_lost += packets as u64;
                (stretch.1.plus(2 * self.least(from, to)), Some(stretch))
            } else {
                (stretch.1, Some(stretch))
            }
        };
        let inward = &mut self.conn_mut(link)?.half_mut(other).inward;
        arrives = arrives.max(inward.last_arrival.plus(Duration::from_nanos(1)));
        inward.last_arrival = arrives;
        inward.on_the_way.push_back(Parcel { departs, arrives, stretch, cargo });
        engine.at(arrives, Event::Arrive { link, side: other });
        Some(departs)
    }

    /// Sends something that belongs to no link, and says when it arrives after so many trips: it and what comes before it.
    /// Nothing: the path is out.
    pub fn toss(&mut self, now: Time, from: ProcessNo, to: ProcessNo, bytes: usize, trips: u32) -> Option<Duration> {
        let packets = bytes.div_ceil(PACKET_PAYLOAD).max(1);
        let on_wire = bytes + packets * PACKET_OVERHEAD;
        let (departs, no_room) = self.places.get_mut(from as usize)?.depart(now, on_wire, self.settings.buffer.0);
        self.counts.bytes += on_wire as u64;
        if !self.reaches(from, to) {
            self.counts.lost_in_outages += packets as u64;
            self.counts.packets_lost += packets as u64;
            return None;
        }
        let (mut flight, _) = self.flight(departs, from, to, packets);
        flight += self.least(from, to) * trips.saturating_sub(1);
        if no_room {
            flight += 2 * self.least(from, to);
            self.counts.lost_at_uplink += packets as u64;
            self.counts.packets_lost += packets as u64;
        }
        Some(departs.since(now) + flight)
    }

    /// Something arrived at an end; nothing if it was lost with its sender or its receiver, or is late.
    pub fn arrive(&mut self, now: Time, link: LinkId, side: Side) -> Option<(ProcessNo, Cargo)> {
        let half = self.conn_mut(link)?.half_mut(side);
        // An outage swallowed it: it has another time now, or none yet.
        if half.inward.blocked.is_some() || half.inward.on_the_way.front()?.arrives > now {
            return None;
        }
        let parcel = half.inward.on_the_way.pop_front()?;
        if half.end != End::Up {
            return None;
        }
        let process = half.process;
        self.counts.frames += 1;
        Some((process, parcel.cargo))
    }

    /// What is on its way to an end, and not to be kept, never gets there. Its sender stops: what it had of the line is free.
    fn forget(&mut self, now: Time, link: LinkId, side: Side, is_kept: impl Fn(&Parcel) -> bool) {
        let Some(conn) = self.conn_mut(link) else { return };
        let half = conn.half_mut(side);
        let process = half.process;
        let (kept, gone): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut half.inward.on_the_way).into_iter().partition(is_kept);
        half.inward.on_the_way = kept;
        if let Some(place) = self.places.get_mut(process as usize) {
            gone.iter().filter_map(|parcel| parcel.stretch).for_each(|stretch| place.stay_out(now, stretch));
        }
    }

    /// An end closes the link: what it sent still arrives, then the other end is told. The closer is told at once.
    pub fn close(&mut self, engine: &mut Engine<Event>, link: LinkId, process: ProcessNo) {
        let Some(side) = self.side(link, process) else { return };
        let Some(conn) = self.conn_mut(link) else { return };
        if conn.half(side).end != End::Up {
            return;
        }
        let other = side.other();
        conn.half_mut(side).end = End::Leaving;
        let (last, to) = (conn.half(other).inward.last_arrival, conn.half(other).process);
        let was_dead = std::mem::replace(&mut conn.dead, true);
        let now = engine.now();
        self.forget(now, link, side, |_| false);
        engine.at(now, Event::Lost { link, side });
        if !was_dead {
            let flight = self.flight(now, process, to, 1).0;
            let told = now.plus(flight).max(last.plus(Duration::from_nanos(1)));
            engine.at(told, Event::Lost { link, side: other });
        }
    }

    /// An end is told that the link is gone; nothing if it knows, or if the word does not reach it.
    pub fn lost(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side) -> Option<ProcessNo> {
        let conn = self.conn_mut(link)?;
        conn.dead = true;
        if conn.half(side).end == End::Up && conn.half(side).inward.blocked.is_some() {
            self.fall_silent(engine, link, side);
            return None;
        }
        let half = conn.half_mut(side);
        let was = std::mem::replace(&mut half.end, End::Gone);
        let process = half.process;
        self.forget(engine.now(), link, side, |_| false);
        let stood = matches!(was, End::Up | End::Leaving);
        self.counts.broken += u64::from(stood);
        self.release(link);
        stood.then_some(process)
    }

    /// An end has heard nothing for its idle time; nothing if it heard something since.
    pub fn silent(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side, silence: u32) -> Option<ProcessNo> {
        let conn = self.conn_mut(link)?;
        let half = conn.half_mut(side);
        if half.silent != Some(silence) || half.end != End::Up {
            return None;
        }
        half.end = End::Gone;
        let process = half.process;
        conn.dead = true;
        self.forget(engine.now(), link, side, |_| false);
        self.counts.broken += 1;
        // It goes without a word: the other end hears nothing any more, either.
        self.fall_silent(engine, link, side.other());
        self.release(link);
        Some(process)
    }

    /// Plans the end of an end's patience, unless it is running out already.
    fn fall_silent(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side) {
        let detect = self.settings.detect;
        let Some(conn) = self.conn_mut(link) else { return };
        let half = conn.half_mut(side);
        if half.end != End::Up || half.silent.is_some() {
            return;
        }
        half.silence += 1;
        let (silence, process) = (half.silence, half.process);
        half.silent = Some(silence);
        if let Some(place) = self.places.get_mut(process as usize) {
            let delay = place.stream.between(detect.least, detect.most);
            engine.after(delay, Event::Silent { link, side, silence });
        }
    }

    /// A process died: its ends are gone, and what had not left its uplink is lost.
    pub fn crash(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        let now = engine.now();
        for link in self.links_of(process) {
            let Some(side) = self.side(link, process) else { continue };
            let Some(conn) = self.conn_mut(link) else { continue };
            conn.dead = true;
            conn.half_mut(side).end = End::Gone;
            // Packets that left are on their way, unless the way is out.
            let out = conn.half(side.other()).inward.blocked.is_some();
            self.forget(now, link, side, |_| false);
            self.forget(now, link, side.other(), |parcel| !out && parcel.departs <= now);
            self.fall_silent(engine, link, side.other());
            self.release(link);
        }
        if let Some(place) = self.places.get_mut(process as usize) {
            place.uplink_free = now;
        }
    }

    /// A process's address changes: its links are gone for it, and it is told of each; the other ends find out by the
    /// silence. What had left arrives.
    pub fn roam(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        for link in self.links_of(process) {
            let Some(side) = self.side(link, process) else { continue };
            let Some(conn) = self.conn_mut(link) else { continue };
            if conn.half(side).end != End::Up {
                continue;
            }
            conn.dead = true;
            conn.half_mut(side).end = End::Leaving;
            self.forget(engine.now(), link, side, |_| false);
            engine.at(engine.now(), Event::Lost { link, side });
            self.fall_silent(engine, link, side.other());
        }
    }

    /// Every link of a process breaks where it stands, and both ends are told at once: a reset that reaches both.
    pub fn break_all(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        for link in self.links_of(process) {
            if let Some(conn) = self.conn_mut(link) {
                conn.dead = true;
            }
            for side in [Side::Dialler, Side::Acceptor] {
                self.forget(engine.now(), link, side, |_| false);
                let Some(half) = self.conn_mut(link).map(|conn| conn.half_mut(side)) else { continue };
                half.inward.blocked = None;
                if half.end == End::Up {
                    engine.at(engine.now(), Event::Lost { link, side });
                }
            }
        }
    }

    /// A process loses its network: nothing passes until it is back.
    pub fn disconnect(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        if let Some(place) = self.places.get_mut(process as usize) {
            place.away = true;
        }
        self.links_of(process).into_iter().for_each(|link| self.look_again(engine, link));
    }

    /// A process has its network back, as far as it is up to its owner.
    pub fn reconnect(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        if let Some(place) = self.places.get_mut(process as usize) {
            place.away = false;
        }
        self.links_of(process).into_iter().for_each(|link| self.look_again(engine, link));
    }

    /// One fault more, or one less, keeps a process off the network.
    pub fn hold(&mut self, engine: &mut Engine<Event>, process: ProcessNo, held: bool) {
        if let Some(place) = self.places.get_mut(process as usize) {
            place.held = if held { place.held + 1 } else { place.held.saturating_sub(1) };
        }
        self.links_of(process).into_iter().for_each(|link| self.look_again(engine, link));
    }

    /// Whether a process has its network.
    pub fn is_online(&self, process: ProcessNo) -> bool {
        self.places.get(process as usize).is_some_and(Place::is_online)
    }

    /// Nothing from one process reaches the other any more; the way back is another matter.
    pub fn cut(&mut self, engine: &mut Engine<Event>, from: ProcessNo, to: ProcessNo) {
        *self.cut.entry((from, to)).or_default() += 1;
        self.between(from, to).into_iter().for_each(|link| self.look_again(engine, link));
    }

    /// One reason less why nothing from one process reaches the other.
    pub fn heal(&mut self, engine: &mut Engine<Event>, from: ProcessNo, to: ProcessNo) {
        if let Some(reasons) = self.cut.get_mut(&(from, to)) {
            *reasons -= 1;
            if *reasons == 0 {
                self.cut.remove(&(from, to));
            }
        }
        self.between(from, to).into_iter().for_each(|link| self.look_again(engine, link));
    }

    /// The way between two takes so much longer, both ways. What is on it comes as it would have.
    pub fn slow(&mut self, one: ProcessNo, other: ProcessNo, by: Duration) {
        *self.slow.entry((one.min(other), one.max(other))).or_default() += by;
    }

    /// One reason less why the way between two takes longer.
    pub fn quicken(&mut self, one: ProcessNo, other: ProcessNo, by: Duration) {
        let path = (one.min(other), one.max(other));
        if let Some(slow) = self.slow.get_mut(&path) {
            *slow = slow.saturating_sub(by);
            if slow.is_zero() {
                self.slow.remove(&path);
            }
        }
    }

    /// Everybody reaches everybody again, except those whose owners are away.
    pub fn heal_all(&mut self, engine: &mut Engine<Event>) {
        self.cut.clear();
        self.slow.clear();
        self.places.iter_mut().for_each(|place| place.held = 0);
        for process in 0..self.places.len() as ProcessNo {
            self.links_of(process).into_iter().for_each(|link| self.look_again(engine, link));
        }
    }

    fn links_of(&self, process: ProcessNo) -> Vec<LinkId> {
        let links = self.places.get(process as usize).into_iter().flat_map(|place| &place.links);
        links.map(|link| LinkId::new(*link)).collect()
    }

    fn between(&self, a: ProcessNo, b: ProcessNo) -> Vec<LinkId> {
        let links = |process: ProcessNo| self.places.get(process as usize).map(|place| &place.links);
        let (Some(one), Some(other)) = (links(a), links(b)) else { return Vec::new() };
        let (few, many) = if one.len() <= other.len() { (one, other) } else { (other, one) };
        few.intersection(many).map(|link| LinkId::new(*link)).collect()
    }

    /// Whether anything from one process reaches the other.
    pub fn reaches(&self, from: ProcessNo, to: ProcessNo) -> bool {
        self.is_online(from) && self.is_online(to) && !self.cut.contains_key(&(from, to))
    }

    /// The path of a link may have changed: what is out is out, what is back sends again what was swallowed.
    fn look_again(&mut self, engine: &mut Engine<Event>, link: LinkId) {
        for side in [Side::Dialler, Side::Acceptor] {
            let Some(conn) = self.conn(link) else { return };
            let (to, from) = (conn.half(side).process, conn.half(side.other()).process);
            let (was, stands) = (conn.half(side).inward.blocked, self.reaches(from, to));
            match (was, stands) {
                (None, false) => {
                    let now = engine.now();
                    let mut swallowed = Vec::new();
                    if let Some(conn) = self.conn_mut(link) {
                        let inward = &mut conn.half_mut(side).inward;
                        inward.blocked = Some(now);
                        swallowed.extend(inward.on_the_way.iter_mut().filter_map(|parcel| parcel.stretch.take()));
                    }
                    // What is on the way never comes in then: it is sent again, or not at all.
                    if let Some(place) = self.places.get_mut(to as usize) {
                        swallowed.into_iter().for_each(|stretch| place.stay_out(now, stretch));
                    }
                    self.fall_silent(engine, link, side);
                }
                (Some(since), true) => self.resume(engine, link, side, since),
                (None, true) | (Some(_), false) => {}
            }
        }
    }

    /// A way is back after an outage.
    fn resume(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side, since: Time) {
        let now = engine.now();
        let Some(conn) = self.conn_mut(link) else { return };
        let (to, from) = (conn.half(side).process, conn.half(side.other()).process);
        let dead = conn.dead;
        let half = conn.half_mut(side);
        half.inward.blocked = None;
        if dead {
            // Nobody sends again what a dead link swallowed, and its end goes on hearing nothing.
            self.forget(now, link, side, |_| false);
            return;
        }
        half.silent = None;
        let mut waiting = std::mem::take(&mut half.inward.on_the_way);
        if waiting.is_empty() {
            return;
        }
        // The pause between two probes has doubled with the outage: the next one comes within as long again.
        let (least, network) = (self.least(from, to), self.settings.jitter.0);
        let Some(place) = self.places.get_mut(from as usize) else { return };
        let pause = place.stream.between(Duration::ZERO, now.since(since).max(ACK_DELAY));
        let mut at = now.plus(pause).plus(least).plus(place.stream.exponential(network));
        for parcel in &mut waiting {
            at = at.max(parcel.departs).plus(Duration::from_nanos(1));
            parcel.arrives = at;
            engine.at(at, Event::Arrive { link, side });
        }
        if let Some(conn) = self.conn_mut(link) {
            let inward = &mut conn.half_mut(side).inward;
            (inward.on_the_way, inward.last_arrival) = (waiting, at);
        }
    }

    /// The least time from one process to another.
    fn least(&self, from: ProcessNo, to: ProcessNo) -> Duration {
        let slow = self.slow.get(&(from.min(to), from.max(to))).copied().unwrap_or_default();
        let (Some(from), Some(to)) = (self.places.get(from as usize), self.places.get(to as usize)) else {
            return self.settings.core.0;
        };
        let core = from.access.region.zip(to.access.region).and_then(|(one, other)| one.one_way(other));
        core.unwrap_or(self.settings.core.0) + from.access.latency + to.access.latency + slow
    }

    /// One way for so many packets, and whether they had to be sent again: the least there is, jitter for the latest of
    /// them, and a retransmission for each time one is lost.
    fn flight(&mut self, at: Time, from: ProcessNo, to: ProcessNo, packets: usize) -> (Duration, bool) {
        let least = self.least(from, to);
        let (mut kept, mut bad) = (1.0, false);
        // The network's own loss goes with the sender's bursts.
        for (process, behind) in [(from, self.settings.loss.0), (to, 0.0)] {
            if let Some(place) = self.places.get_mut(process as usize) {
                let (loss, in_burst) = place.loss(at, behind, &self.settings);
                kept *= 1.0 - loss;
                bad |= in_burst;
            }
        }
        let loss = 1.0 - kept;
        let Some(place) = self.places.get_mut(from as usize) else { return (least, false) };
        // The latest of n exponential delays is later by the n-th harmonic number.
        let harmonic = (1..=packets.min(32)).fold(0.0, |sum, n| sum + 1.0 / n as f64);
        let jitter = self.settings.jitter.0;
        let spread = Duration::from_nanos((jitter.as_nanos() as f64 * (harmonic - 1.0)) as u64);
        let mut flight = least + place.stream.exponential(jitter) + spread;
        if place.stream.happens(self.settings.reorder.0) {
            // In order is when the packet that was overtaken is here, too.
            flight += place.stream.between(Duration::ZERO, 2 * jitter + least / 4);
            self.counts.packets_reordered += 1;
        }
        let some_lost = 1.0 - (0..packets).fold(1.0, |all_arrive, _| all_arrive * (1.0 - loss));
        let (mut share, mut times) = (some_lost, 0);
        while times < RETRANSMISSIONS_MAX && place.stream.happens(share) {
            self.counts.packets_lost += 1;
            self.counts.lost_in_bursts += u64::from(bad);
            // Each probe that is lost too doubles the wait (RFC 9002 §6.2.1), to no longer than a link lives in silence.
            flight += ((2 * least + least / 4 + ACK_DELAY) * (1 << times.min(4))).min(self.settings.detect.most);
            (share, times) = (loss, times + 1);
        }
        (flight, times > 0)
    }

    fn side(&self, link: LinkId, process: ProcessNo) -> Option<Side> {
        let conn = self.conn(link)?;
        if conn.dialler.process == process {
            Some(Side::Dialler)
        } else {
            (conn.acceptor.process == process).then_some(Side::Acceptor)
        }
    }

    fn conn(&self, link: LinkId) -> Option<&Conn> {
        let slot = self.conns.get((link.get() & 0xffff_ffff) as usize)?.as_ref();
        slot.filter(|conn| u64::from(conn.generation) == link.get() >> 32)
    }

    fn conn_mut(&mut self, link: LinkId) -> Option<&mut Conn> {
        let slot = self.conns.get_mut((link.get() & 0xffff_ffff) as usize)?.as_mut();
        slot.filter(|conn| u64::from(conn.generation) == link.get() >> 32)
    }

    /// Gives the slot back once both ends are gone: its next link has another generation.
    fn release(&mut self, link: LinkId) {
        let Some(conn) = self.conn(link) else { return };
        if conn.dialler.end != End::Gone || conn.acceptor.end != End::Gone {
            return;
        }
        for process in [conn.dialler.process, conn.acceptor.process] {
            if let Some(place) = self.places.get_mut(process as usize) {
                place.links.remove(&link.get());
            }
        }
        if let Some(place) = self.conns.get_mut((link.get() & 0xffff_ffff) as usize) {
            *place = None;
            self.free.push((link.get() & 0xffff_ffff) as u32);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
