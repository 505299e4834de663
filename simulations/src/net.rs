//! The network: links between processes, and when what is sent arrives.
//! Owns: handshakes, latency, jitter, loss, the uplink's queue, silence and its detection.
//! Never: knows what a frame means, or touches a process; it schedules events and answers questions.
//!
//! A link is QUIC as an application sees it: frames of one direction arrive in order or the link is lost. A lost
//! packet is therefore no lost frame but a later one, and holds back those behind it. The dialler has its link one
//! round trip after it dialled, the other side half a round trip later. A process that dies or loses its network says
//! nothing: the other end finds out by the silence.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use whimbrel_protocol::id::LinkId;

use crate::engine::{Engine, Stream, Time};
use crate::scenario::{Network, Rate};
use crate::world::Event;

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

/// Where a process hangs on the network.
#[derive(Debug)]
pub struct Place {
    /// One way over its access link.
    pub access: Duration,
    /// What it can send.
    pub uplink: Rate,
    uplink_free: Time,
    online: bool,
    stream: Stream,
}

#[derive(Debug)]
struct Parcel {
    departs: Time,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Direction {
    on_the_way: VecDeque<Parcel>,
    last_arrival: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The handshake goes on.
    Waiting,
    /// The process was told that the link stands.
    Up,
    /// The process was told that it is gone, or is gone itself.
    Gone,
}

/// An end's own half: who is there, how it stands, and what is on its way to it.
#[derive(Debug)]
struct Half {
    process: ProcessNo,
    end: End,
    inward: Direction,
}

#[derive(Debug)]
struct Conn {
    generation: u32,
    dialler: Half,
    acceptor: Half,
    began: Time,
    exporter: [u8; 32],
    /// Nothing passes any more; the ends find out, each at its time.
    dead: bool,
}

impl Conn {
    const fn half(&self, side: Side) -> &Half {
        match side {
            Side::Dialler => &self.dialler,
            Side::Acceptor => &self.acceptor,
        }
    }

    const fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Acceptor => &mut self.acceptor,
        }
    }
}

/// What went over the network so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames that arrived.
    pub frames: u64,
    /// Bytes sent, packet overhead included.
    pub bytes: u64,
    /// Packets lost, and sent again.
    pub packets_lost: u64,
    /// Links that stood.
    pub links: u64,
    /// Links that broke.
    pub broken: u64,
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
    cut: BTreeSet<(ProcessNo, ProcessNo)>,
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
            cut: BTreeSet::new(),
            exporters,
            counts: Counts::default(),
        }
    }

    /// Adds the place of the next process.
    pub fn add(&mut self, access: Duration, uplink: Rate, stream: Stream) {
        self.places.push(Place { access, uplink, uplink_free: Time::ZERO, online: true, stream });
    }

    /// Starts a handshake. [`Event::Knock`] follows at the other side, or [`Event::DialFailed`].
    pub fn dial(&mut self, engine: &mut Engine<Event>, from: ProcessNo, to: ProcessNo) -> LinkId {
        let (exporter, now) = (self.exporters.chance().bytes(), engine.now());
        let half = |process| Half { process, end: End::Waiting, inward: Direction::default() };
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
        if let Some(place) = self.conns.get_mut(slot as usize) {
            let (dialler, acceptor) = (half(from), half(to));
            *place = Some(Conn { generation, dialler, acceptor, began: now, exporter, dead: false });
        }
        if self.reaches(from, to) {
            let flight = self.flight(from, to, 1);
            engine.after(flight, Event::Knock { link });
        } else {
            engine.after(self.settings.connect.0, Event::DialFailed { link });
        }
        link
    }

    /// The handshake reached the other side. Answered: both ends are told in turn. Not answered: the dialler gives up.
    pub fn answer(&mut self, engine: &mut Engine<Event>, link: LinkId, accept: bool) {
        let Some(conn) = self.conn(link) else { return };
        let (from, to, began, dead) = (conn.dialler.process, conn.acceptor.process, conn.began, conn.dead);
        if dead || !accept || !self.reaches(to, from) {
            let give_up = began.plus(self.settings.connect.0);
            engine.at(give_up, Event::DialFailed { link });
            return;
        }
        let back = engine.now().plus(self.flight(to, from, 3));
        let there = back.plus(self.flight(from, to, 1));
        // What an end sends once it is up must find the other up.
        if let Some(conn) = self.conn_mut(link) {
            conn.dialler.inward.last_arrival = back;
            conn.acceptor.inward.last_arrival = there;
        }
        engine.at(back, Event::Up { link, side: Side::Dialler });
        engine.at(there, Event::Up { link, side: Side::Acceptor });
    }

    /// The handshake reached somebody who is not whom the dialler meant: it ends at once.
    pub fn refuse(&mut self, engine: &mut Engine<Event>, link: LinkId) {
        let Some((from, to)) = self.ends(link) else { return };
        let back = self.flight(to, from, 1);
        engine.after(back, Event::DialFailed { link });
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
        waiting.then_some(process)
    }

    /// An end is told that the link stands; nothing if it broke meanwhile.
    pub fn up(&mut self, engine: &mut Engine<Event>, link: LinkId, side: Side) -> Option<Standing> {
        let connect = self.settings.connect.0;
        let conn = self.conn_mut(link)?;
        if conn.half(side).end != End::Waiting {
            return None;
        }
        if conn.dead {
            let give_up = conn.began.plus(connect);
            match side {
                Side::Dialler => engine.at(give_up, Event::DialFailed { link }),
                Side::Acceptor => conn.acceptor.end = End::Gone,
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

    /// Sends a frame from an end. Returns when its last byte leaves; `None` when the link is gone for that end.
    pub fn send(&mut self, engine: &mut Engine<Event>, link: LinkId, from: ProcessNo, bytes: Vec<u8>) -> Option<Time> {
        let side = self.side(link, from)?;
        let conn = self.conn(link)?;
        if conn.half(side).end != End::Up {
            return None;
        }
        let (to, dead) = (conn.half(side.other()).process, conn.dead);
        let packets = bytes.len().div_ceil(PACKET_PAYLOAD).max(1);
        let on_wire = bytes.len() + packets * PACKET_OVERHEAD;
        let place = self.places.get_mut(from as usize)?;
        let departs = engine.now().max(place.uplink_free).plus(place.uplink.time_of(on_wire));
        place.uplink_free = departs;
        self.counts.bytes += on_wire as u64;
        // Into the void: the sender does not know yet.
        if dead {
            return Some(departs);
        }
        let arrives = departs.plus(self.flight(from, to, packets));
        let inward = &mut self.conn_mut(link)?.half_mut(side.other()).inward;
        let arrives = arrives.max(inward.last_arrival.plus(Duration::from_nanos(1)));
        inward.last_arrival = arrives;
        inward.on_the_way.push_back(Parcel { departs, bytes });
        engine.at(arrives, Event::Arrive { link, side: side.other() });
        Some(departs)
    }

    /// A frame arrived at an end; nothing if it was lost with its sender or its receiver.
    pub fn arrive(&mut self, link: LinkId, side: Side) -> Option<(ProcessNo, Vec<u8>)> {
        let half = self.conn_mut(link)?.half_mut(side);
        let parcel = half.inward.on_the_way.pop_front()?;
        if half.end != End::Up {
            return None;
        }
        let process = half.process;
        self.counts.frames += 1;
        Some((process, parcel.bytes))
    }

    /// An end closes the link: what it sent still arrives, then the other end is told. The closer is told at once.
    pub fn close(&mut self, engine: &mut Engine<Event>, link: LinkId, process: ProcessNo) {
        let Some(side) = self.side(link, process) else { return };
        let Some(conn) = self.conn_mut(link) else { return };
        if conn.half(side).end != End::Up {
            return;
        }
        let other = side.other();
        conn.half_mut(side).inward.on_the_way.clear();
        let (last, to) = (conn.half(other).inward.last_arrival, conn.half(other).process);
        let was_dead = std::mem::replace(&mut conn.dead, true);
        engine.at(engine.now(), Event::Lost { link, side });
        if !was_dead {
            let told = engine.now().plus(self.flight(process, to, 1)).max(last.plus(Duration::from_nanos(1)));
            engine.at(told, Event::Lost { link, side: other });
        }
    }

    /// An end is told that the link is gone; nothing if it knows.
    pub fn lost(&mut self, link: LinkId, side: Side) -> Option<ProcessNo> {
        let conn = self.conn_mut(link)?;
        conn.dead = true;
        let half = conn.half_mut(side);
        let was = std::mem::replace(&mut half.end, End::Gone);
        half.inward.on_the_way.clear();
        let process = half.process;
        self.counts.broken += u64::from(was == End::Up);
        self.release(link);
        (was == End::Up).then_some(process)
    }

    /// A process died: its ends are gone, and what had not left its uplink is lost.
    pub fn crash(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        self.break_links(engine, |a, b| a == process || b == process, Some(process));
        if let Some(place) = self.places.get_mut(process as usize) {
            place.uplink_free = engine.now();
        }
    }

    /// A process loses its network: nothing passes, and both ends of each link find out by the silence.
    pub fn disconnect(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        if let Some(place) = self.places.get_mut(process as usize) {
            place.online = false;
        }
        self.break_links(engine, |a, b| a == process || b == process, None);
    }

    /// A process has its network back.
    pub fn reconnect(&mut self, process: ProcessNo) {
        if let Some(place) = self.places.get_mut(process as usize) {
            place.online = true;
        }
    }

    /// Whether a process has its network.
    pub fn is_online(&self, process: ProcessNo) -> bool {
        self.places.get(process as usize).is_some_and(|place| place.online)
    }

    /// Nothing passes between two processes any more.
    pub fn cut(&mut self, engine: &mut Engine<Event>, a: ProcessNo, b: ProcessNo) {
        self.cut.insert((a.min(b), a.max(b)));
        self.break_links(engine, |x, y| (x.min(y), x.max(y)) == (a.min(b), a.max(b)), None);
    }

    /// Two processes reach each other again.
    pub fn heal(&mut self, a: ProcessNo, b: ProcessNo) {
        self.cut.remove(&(a.min(b), a.max(b)));
    }

    fn reaches(&self, a: ProcessNo, b: ProcessNo) -> bool {
        self.is_online(a) && self.is_online(b) && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Ends every link between processes that `hits` names. The ends of `silent` itself are told nothing: it is gone.
    fn break_links(
        &mut self,
        engine: &mut Engine<Event>,
        hits: impl Fn(ProcessNo, ProcessNo) -> bool,
        silent: Option<ProcessNo>,
    ) {
        let now = engine.now();
        let detect = self.settings.detect;
        let mut quiet = Vec::new();
        for (slot, conn) in self.conns.iter_mut().enumerate() {
            let Some(conn) = conn else { continue };
            let (dialler, acceptor) = (conn.dialler.process, conn.acceptor.process);
            if !hits(dialler, acceptor) {
                continue;
            }
            let link = LinkId::new(u64::from(conn.generation) << 32 | slot as u64);
            // With neither end's handshake done, the knock or its answer finds the way closed.
            let was_dead = std::mem::replace(&mut conn.dead, true);
            for side in [Side::Dialler, Side::Acceptor] {
                let sender = conn.half(side.other()).process;
                let half = conn.half_mut(side);
                if silent == Some(half.process) {
                    half.end = End::Gone;
                    half.inward.on_the_way.clear();
                    continue;
                }
                // Packets that left a process which then died are on their way; a way that is cut loses them.
                let kept = silent == Some(sender);
                half.inward.on_the_way.retain(|parcel| kept && parcel.departs <= now);
                if half.end == End::Up
                    && !was_dead
                    && let Some(place) = self.places.get_mut(half.process as usize)
                {
                    let delay = place.stream.between(detect.least, detect.most);
                    engine.after(delay, Event::Lost { link, side });
                }
            }
            quiet.push(link);
        }
        quiet.into_iter().for_each(|link| self.release(link));
    }

    /// One way for so many packets: the least there is, jitter, and a retransmission for each time one is lost.
    fn flight(&mut self, from: ProcessNo, to: ProcessNo, packets: usize) -> Duration {
        let access = |net: &Self, process: ProcessNo| net.places.get(process as usize).map(|place| place.access);
        let least =
            self.settings.core.0 + access(self, from).unwrap_or_default() + access(self, to).unwrap_or_default();
        let (jitter, loss) = (self.settings.jitter.0, self.settings.loss.0);
        let Some(place) = self.places.get_mut(from as usize) else { return least };
        let mut flight = least + place.stream.exponential(jitter);
        let some_lost = 1.0 - (0..packets).fold(1.0, |all_arrive, _| all_arrive * (1.0 - loss));
        let (mut share, mut times) = (some_lost, 0);
        while times < RETRANSMISSIONS_MAX && place.stream.happens(share) {
            self.counts.packets_lost += 1;
            // Each probe that is lost too doubles the wait (RFC 9002 §6.2.1).
            flight += (2 * least + least / 4 + ACK_DELAY) * (1 << times.min(4));
            (share, times) = (loss, times + 1);
        }
        flight
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
        let both_gone =
            self.conn(link).is_some_and(|conn| conn.dialler.end == End::Gone && conn.acceptor.end == End::Gone);
        if both_gone && let Some(place) = self.conns.get_mut((link.get() & 0xffff_ffff) as usize) {
            *place = None;
            self.free.push((link.get() & 0xffff_ffff) as u32);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
