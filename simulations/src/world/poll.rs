//! Poll: home links over HTTPS, of nodes whose networks let no UDP through.
//! Owns: the calls of these links: which are on their way, which come to nothing, who waits at a relay. What they say, and
//! what is said again, is the cores' (`whimbrel_node::poll`, `whimbrel_relay::poll`).
//! Never: hands a frame to a process otherwise than a link does (`carry`).
//!
//! A call is TCP as an application sees it: it arrives and is answered, or its caller finds out that it was not, at once by
//! a reset or late by the silence; and then nobody knows which of the two ways it got lost on.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_node::api::{Input, Peer};
use whimbrel_node::poll::Calls;
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::limits;
use whimbrel_relay::LinkPeer;
use whimbrel_relay::poll::{Acknowledged, Fetched, Incoming, Outgoing};

use super::{Event, Process, World};
use crate::engine::{Engine, Stream, Time};
use crate::net::{Cargo, Net, ProcessNo};

/// Links of this kind have numbers that no other link has.
const POLLED: u64 = 1 << 63;
/// Of so many calls, and of so many answers, the connection breaks: by what stands between, which is no friend of long
/// connections. An assumption, so that in an hour hundreds are lost; nobody publishes a figure.
const LOST: f64 = 0.03;
/// Of so many of those the caller hears nothing, and waits as long as a call may take; of the others it is told at once. An
/// assumption.
const SILENT: f64 = 0.5;
/// Bytes of a call beside its frames: request line or status, and headers.
const CALL_BYTES: usize = 220;

/// What happens to a call, or to the link it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallEvent {
    /// It reaches the relay.
    Arrives,
    /// Its answer reaches the node.
    Answered,
    /// Its caller gives it up.
    Fails,
    /// It has waited for a frame for as long as it was to.
    Waited,
    /// The node has paused after calls that came to nothing; the number is the link's.
    Again,
    /// The relay has ended the link; the number is the link's.
    Ended,
    /// What the relay said last is let go; the number is the link's.
    Forgotten,
}

/// What a call is for.
#[derive(Debug)]
enum Ask {
    Open { exporter: [u8; 32] },
    Frames { after: u64, from: u64, body: Vec<Cargo>, waits: bool },
    End,
}

/// What it is answered.
#[derive(Debug)]
enum Answer {
    Opened,
    Frames {
        received: u64,
        frames: Vec<Cargo>,
    },
    /// 409.
    Gap,
    /// 404.
    NotFound,
}

#[derive(Debug)]
struct Call {
    link: u64,
    node: ProcessNo,
    /// In which of its lives; the next one knows nothing of it.
    run: u32,
    relay: ProcessNo,
    ask: Ask,
    answer: Option<Answer>,
    /// When it reached the relay; before that, the beginning.
    arrived: Time,
    /// When its caller has no patience left.
    over: Time,
    /// One that was sent later has been answered: nobody misses this one.
    overtaken: bool,
}

/// The node's end of a link.
#[derive(Debug, Default)]
struct Caller {
    numbers: Calls<Cargo>,
    /// Frames that its core sent and that `numbers` had no room for.
    queue: std::collections::VecDeque<Cargo>,
    speaking: Option<u64>,
    waiting: Option<u64>,
    /// It pauses before it calls again.
    pauses: bool,
    /// What waits still leaves.
    closing: bool,
}

/// The relay's end of a link.
#[derive(Debug, Default)]
struct Served {
    outgoing: Outgoing<Cargo>,
    incoming: Incoming,
    /// The call that waits for a frame, what it has, and its turn.
    waiting: Option<(u64, u64, u64)>,
    /// The core was told that the link is gone, or has ended it.
    gone: bool,
}

#[derive(Debug)]
struct Session {
    node: ProcessNo,
    relay: ProcessNo,
    caller: Option<Caller>,
    served: Option<Served>,
}

/// All links over HTTPS.
#[derive(Debug)]
pub(super) struct Polls {
    sessions: BTreeMap<u64, Session>,
    calls: BTreeMap<u64, Call>,
    next: u64,
    stream: Stream,
    /// How many calls, and how many answers, are lost.
    pub(super) lost: f64,
    /// Of how many of those the caller hears nothing.
    pub(super) silent: f64,
    /// What stands between forgets a connection on which nothing passed for so long, and swallows an answer that comes later.
    pub(super) forgets: Option<Duration>,
}

/// Whether a link is one of these.
pub(super) const fn is_polled(link: LinkId) -> bool {
    link.get() & POLLED != 0
}

impl Polls {
    /// No links. The stream says which calls are lost.
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            sessions: BTreeMap::new(),
            calls: BTreeMap::new(),
            next: 0,
            stream,
            lost: LOST,
            silent: SILENT,
            forgets: None,
        }
    }

    /// Node and relay.
    pub(super) fn ends(&self, link: LinkId) -> Option<(ProcessNo, ProcessNo)> {
        self.sessions.get(&link.get()).map(|session| (session.node, session.relay))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A relay's frame for a device: it goes into the answer to whoever waits, or stays until somebody asks. Says how many
    /// wait then; nothing when there is no room or no link.
    pub(super) fn send(
        &mut self,
        engine: &mut Engine<Event>,
        net: &mut Net,
        link: LinkId,
        cargo: Cargo,
    ) -> Option<usize> {
        let served = self.sessions.get_mut(&link.get())?.served.as_mut()?;
        let bytes = cargo.bytes;
        served.outgoing.send(cargo, bytes).ok()?;
        let waits = served.outgoing.len();
        self.serve(engine, net, link.get());
        Some(waits)
    }

    /// Answers the call that waits on a link, if there is anything to say.
    fn serve(&mut self, engine: &mut Engine<Event>, net: &mut Net, link: u64) {
        let Some(served) = self.sessions.get_mut(&link).and_then(|session| session.served.as_mut()) else { return };
        let Some((call, after, turn)) = served.waiting else { return };
        let answer = match served.outgoing.after(after, turn) {
            Fetched::Frames(frames) => Answer::Frames { received: served.incoming.taken(), frames },
            Fetched::Superseded => Answer::Frames { received: served.incoming.taken(), frames: Vec::new() },
            Fetched::Ended => Answer::NotFound,
            Fetched::Nothing => return,
        };
        served.waiting = None;
        self.answer(engine, net, call, answer);
    }

    /// The relay's core ends a link: what is queued can still be fetched for a while.
    pub(super) fn close(&mut self, engine: &mut Engine<Event>, net: &mut Net, link: LinkId) {
        let Some(served) = self.sessions.get_mut(&link.get()).and_then(|session| session.served.as_mut()) else {
            return;
        };
        served.outgoing.close();
        self.serve(engine, net, link.get());
        engine.at(engine.now(), Event::Call { call: link.get(), what: CallEvent::Ended });
    }

    /// Whether a link's node is about to end it: it says what it has to say, and heeds nothing.
    pub(super) fn is_given_up(&self, link: LinkId) -> bool {
        let caller = self.sessions.get(&link.get()).and_then(|session| session.caller.as_ref());
        caller.is_some_and(|caller| caller.closing)
    }

    /// The relay has no room for a frame that its core was told to have sent: the link goes, not the frame alone.
    pub(super) fn abort(&mut self, engine: &mut Engine<Event>, link: LinkId) {
        if let Some(served) = self.sessions.get_mut(&link.get()).and_then(|session| session.served.as_mut()) {
            served.outgoing.abort();
            engine.at(engine.now(), Event::Call { call: link.get(), what: CallEvent::Ended });
        }
    }

    /// A relay ends every link of this kind.
    pub(super) fn end_all(&mut self, engine: &mut Engine<Event>, relay: ProcessNo) {
        let links: Vec<_> = self.sessions.iter().filter(|(_, one)| one.relay == relay).map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.abort(engine, LinkId::new(link)));
    }

    /// A call leaves.
    fn begin(&mut self, engine: &mut Engine<Event>, net: &mut Net, mut call: Call) -> u64 {
        let (number, node, relay) = (self.number(), call.node, call.relay);
        let frames = match &call.ask {
            Ask::Frames { body, .. } => body.iter().map(|cargo| cargo.bytes).sum(),
            Ask::Open { .. } | Ask::End => 0,
        };
        // A link is opened by three round trips more: TCP, TLS, the challenge.
        let trips = if matches!(call.ask, Ask::Open { .. }) { 7 } else { 1 };
        let patience = match &call.ask {
            Ask::Open { .. } => limits::POLL_OPEN_TIME_MAX,
            Ask::Frames { waits: true, .. } => limits::POLL_WAIT_MAX + limits::POLL_BODY_TIME_MAX,
            Ask::Frames { waits: false, .. } => 2 * limits::POLL_BODY_TIME_MAX,
            Ask::End => limits::LINK_CLOSE_TIME_MAX,
        };
        call.over = engine.now().plus(patience);
        self.calls.insert(number, call);
        let (arrives, fails) = self.toss(engine, net, node, relay, CALL_BYTES + frames, trips);
        match arrives {
            Some(after) => engine.after(after, Event::Call { call: number, what: CallEvent::Arrives }),
            None => engine.after(fails.unwrap_or(patience), Event::Call { call: number, what: CallEvent::Fails }),
        }
        number
    }

    /// An answer leaves.
    fn answer(&mut self, engine: &mut Engine<Event>, net: &mut Net, number: u64, answer: Answer) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let frames = match &answer {
            Answer::Frames { frames, .. } => frames.iter().map(|cargo| cargo.bytes).sum(),
            Answer::Opened | Answer::Gap | Answer::NotFound => 0,
        };
        let (node, relay) = (call.node, call.relay);
        call.answer = Some(answer);
        if self.forgets.is_some_and(|after| engine.now() > call.arrived.plus(after)) {
            return self.lose(engine, number);
        }
        match self.toss(engine, net, relay, node, CALL_BYTES + frames, 1) {
            (Some(after), _) => engine.after(after, Event::Call { call: number, what: CallEvent::Answered }),
            (None, Some(after)) => engine.after(after, Event::Call { call: number, what: CallEvent::Fails }),
            (None, None) => self.lose(engine, number),
        }
    }

    /// Nothing comes of a call: its caller finds out by the silence.
    fn lose(&self, engine: &mut Engine<Event>, number: u64) {
        if let Some(call) = self.calls.get(&number) {
            engine.at(call.over.max(engine.now()), Event::Call { call: number, what: CallEvent::Fails });
        }
    }

    /// When something arrives; if never, when its caller hears of it, unless that is by the silence.
    fn toss(
        &mut self,
        engine: &Engine<Event>,
        net: &mut Net,
        from: ProcessNo,
        to: ProcessNo,
        bytes: usize,
        trips: u32,
    ) -> (Option<Duration>, Option<Duration>) {
        let arrives = net.toss(engine.now(), from, to, bytes, trips);
        match arrives {
            Some(after) if self.stream.happens(self.lost) => {
                (None, (!self.stream.happens(self.silent)).then_some(after))
            }
            arrives => (arrives, None),
        }
    }

    /// A process died: what it had of its links and calls is gone.
    pub(super) fn crash(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        for session in self.sessions.values_mut() {
            if session.node == process {
                session.caller = None;
            }
            if session.relay == process {
                session.served = None;
            }
        }
        self.calls.retain(|_, call| call.node != process);
        self.break_all(engine, process);
        self.sessions.retain(|_, session| session.caller.is_some() || session.served.is_some());
    }

    /// Every connection of a process breaks; both ends know at once.
    pub(super) fn break_all(&mut self, engine: &mut Engine<Event>, process: ProcessNo) {
        for (number, call) in &mut self.calls {
            if call.node == process || call.relay == process {
                engine.at(engine.now(), Event::Call { call: *number, what: CallEvent::Fails });
            }
        }
    }
}

impl World {
    /// A node on such a network dials its relay.
    pub(super) fn open_polled(&mut self, no: ProcessNo, relay: ProcessNo) {
        let Some(run) = self.node(no).map(super::NodeProcess::run) else { return };
        let link = POLLED | self.polls.number();
        let exporter = self.polls.stream.chance().bytes();
        let call = Call {
            link,
            node: no,
            run,
            relay,
            ask: Ask::Open { exporter },
            answer: None,
            arrived: Time::ZERO,
            over: Time::ZERO,
            overtaken: false,
        };
        self.polls.begin(&mut self.engine, &mut self.net, call);
    }

    /// A node's frame for its relay.
    pub(super) fn say_polled(&mut self, link: LinkId, cargos: Vec<Cargo>) {
        let Some(caller) = self.caller(link.get()) else { return };
        caller.queue.extend(cargos);
        self.call(link.get());
    }

    /// A node ends a link: what waits still leaves.
    pub(super) fn close_polled(&mut self, link: LinkId) {
        if let Some(caller) = self.caller(link.get()) {
            caller.closing = true;
            self.engine.at(self.engine.now(), Event::Call { call: link.get(), what: CallEvent::Again });
        }
    }

    fn caller(&mut self, link: u64) -> Option<&mut Caller> {
        self.polls.sessions.get_mut(&link)?.caller.as_mut()
    }

    fn served(&mut self, link: u64) -> Option<&mut Served> {
        self.polls.sessions.get_mut(&link)?.served.as_mut()
    }

    /// The call that is due: what is to be said, or else a wait for what is to be heard.
    fn call(&mut self, link: u64) {
        let Some((node, relay)) = self.polls.ends(LinkId::new(link)) else { return };
        let Some(run) = self.node(node).map(super::NodeProcess::run) else { return };
        let Some(caller) = self.caller(link) else { return };
        while caller.numbers.has_room()
            && let Some(cargo) = caller.queue.pop_front()
        {
            let bytes = cargo.bytes;
            caller.numbers.push(cargo, bytes);
        }
        if caller.speaking.is_some() || caller.pauses {
            return;
        }
        let (after, from, body) = (caller.numbers.after(), caller.numbers.from(), caller.numbers.body());
        let waits = body.is_empty();
        if waits && caller.closing {
            return self.hang_up(link);
        }
        if waits && caller.waiting.is_some() {
            return;
        }
        let ask = Ask::Frames { after, from, body, waits };
        let call =
            Call { link, node, run, relay, ask, answer: None, arrived: Time::ZERO, over: Time::ZERO, overtaken: false };
        let number = self.polls.begin(&mut self.engine, &mut self.net, call);
        if let Some(caller) = self.caller(link) {
            *if waits { &mut caller.waiting } else { &mut caller.speaking } = Some(number);
        }
    }

    /// The node's end goes; the relay is told, unless the word is lost.
    fn hang_up(&mut self, link: u64) {
        let Some(session) = self.polls.sessions.get_mut(&link) else { return };
        if session.caller.take().is_none() {
            return;
        }
        let (node, relay) = (session.node, session.relay);
        self.net.counts.broken += 1;
        if let Some(run) = self.node(node).map(super::NodeProcess::run) {
            let call = Call {
                link,
                node,
                run,
                relay,
                ask: Ask::End,
                answer: None,
                arrived: Time::ZERO,
                over: Time::ZERO,
                overtaken: false,
            };
            self.polls.begin(&mut self.engine, &mut self.net, call);
        }
        self.forget_polled(link);
        self.link_gone(node, LinkId::new(link));
    }

    fn forget_polled(&mut self, link: u64) {
        let over = |session: &Session| session.caller.is_none() && session.served.is_none();
        if self.polls.sessions.get(&link).is_some_and(over) {
            self.polls.sessions.remove(&link);
        }
    }

    /// A node stops in good order: its relay is told.
    pub(super) fn stop_polled(&mut self, process: ProcessNo) {
        let links =
            self.polls.sessions.iter().filter(|(_, session)| session.node == process && session.caller.is_some());
        let links: Vec<_> = links.map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.polls.abort(&mut self.engine, LinkId::new(link)));
    }

    pub(super) fn call_event(&mut self, number: u64, what: CallEvent) {
        match what {
            CallEvent::Arrives => self.call_arrives(number),
            CallEvent::Answered => self.call_answered(number),
            CallEvent::Fails => self.call_fails(number),
            CallEvent::Waited => self.call_waited(number),
            CallEvent::Again => {
                if let Some(caller) = self.caller(number) {
                    caller.pauses = false;
                    self.call(number);
                }
            }
            CallEvent::Ended => self.polled_ends(number),
            CallEvent::Forgotten => {
                if let Some(session) = self.polls.sessions.get_mut(&number) {
                    session.served = None;
                    self.forget_polled(number);
                }
            }
        }
    }

    fn call_arrives(&mut self, number: u64) {
        let Some(call) = self.polls.calls.get_mut(&number) else { return };
        let (link, node, relay) = (call.link, call.node, call.relay);
        // An outage swallowed it.
        if !self.net.reaches(node, relay) {
            return self.polls.lose(&mut self.engine, number);
        }
        call.arrived = self.engine.now();
        let Some(Process::Relay(process)) = self.processes.get(relay as usize) else { return };
        if !process.is_open() {
            // Nobody listens: a reset.
            self.engine.at(self.engine.now(), Event::Call { call: number, what: CallEvent::Fails });
            return;
        }
        let ask = std::mem::replace(&mut call.ask, Ask::End);
        let answer = match ask {
            Ask::Open { exporter } => {
                call.ask = Ask::Open { exporter };
                self.polls
                    .sessions
                    .insert(link, Session { node, relay, caller: None, served: Some(Served::default()) });
                let transport = self.node(node).map(|node| node.transport);
                let now = self.engine.now();
                if let (Some(Process::Relay(relay)), Some(transport)) =
                    (self.processes.get_mut(relay as usize), transport)
                {
                    let peer = LinkPeer::Node { transport, exporter, source: node.into(), door: None, counted: false };
                    relay.link_up(now, LinkId::new(link), peer);
                }
                self.go_on(relay, Ok(()));
                Some(Answer::Opened)
            }
            Ask::End => {
                self.polls.abort(&mut self.engine, LinkId::new(link));
                self.polls.calls.remove(&number);
                None
            }
            Ask::Frames { after, from, body, waits } => {
                call.ask = Ask::Frames { after, from, body: Vec::new(), waits };
                self.serve_call(number, relay, link, (after, from, waits), body)
            }
        };
        if let Some(answer) = answer {
            self.polls.answer(&mut self.engine, &mut self.net, number, answer);
        }
    }

    /// The relay takes a call's frames in and answers with its own, or lets the call wait.
    fn serve_call(
        &mut self,
        number: u64,
        relay: ProcessNo,
        link: u64,
        (after, from, waits): (u64, u64, bool),
        body: Vec<Cargo>,
    ) -> Option<Answer> {
        let Some(served) = self.served(link) else { return Some(Answer::NotFound) };
        let acknowledged = served.outgoing.acknowledge(after);
        if acknowledged == Acknowledged::Gap || !served.incoming.follows(from) {
            return Some(Answer::Gap);
        }
        let queued = served.outgoing.len();
        if let Some(Process::Relay(relay)) = self.processes.get_mut(relay as usize) {
            relay.fetched(&mut self.engine, LinkId::new(link), queued, acknowledged == Acknowledged::Drained);
        }
        for (before, cargo) in (from..).zip(body) {
            let Some(served) = self.served(link) else { return Some(Answer::NotFound) };
            if !served.incoming.is_new(before) {
                continue;
            }
            let crowded = served.outgoing.is_crowded();
            let room = match self.processes.get(relay as usize) {
                Some(Process::Relay(relay)) => !crowded && relay.has_room(LinkId::new(link)),
                _ => false,
            };
            if !room {
                break;
            }
            if let Some(served) = self.served(link) {
                served.incoming.take();
            }
            self.net.counts.frames += 1;
            self.hear(relay, LinkId::new(link), cargo);
        }
        self.go_on(relay, Ok(()));
        let Some(served) = self.served(link) else { return Some(Answer::NotFound) };
        let (turn, received) = (served.outgoing.turn(), served.incoming.taken());
        // Whoever waited before does so no more: one call waits, the newest.
        self.polls.serve(&mut self.engine, &mut self.net, link);
        let served = self.served(link)?;
        match served.outgoing.after(after, turn) {
            Fetched::Frames(frames) => Some(Answer::Frames { received, frames }),
            Fetched::Ended => Some(Answer::NotFound),
            Fetched::Nothing if waits => {
                served.waiting = Some((number, after, turn));
                let waited = Event::Call { call: number, what: CallEvent::Waited };
                self.engine.after(limits::POLL_WAIT_MAX, waited);
                None
            }
            Fetched::Nothing | Fetched::Superseded => Some(Answer::Frames { received, frames: Vec::new() }),
        }
    }

    fn call_waited(&mut self, number: u64) {
        let Some(link) = self.polls.calls.get(&number).map(|call| call.link) else { return };
        let Some(served) = self.served(link) else { return };
        if served.waiting.is_some_and(|(waiting, ..)| waiting == number) {
            served.waiting = None;
            let answer = Answer::Frames { received: served.incoming.taken(), frames: Vec::new() };
            self.polls.answer(&mut self.engine, &mut self.net, number, answer);
        }
    }

    fn call_answered(&mut self, number: u64) {
        let Some(call) = self.polls.calls.get(&number) else { return };
        let (link, node, relay, run) = (call.link, call.node, call.relay, call.run);
        if !self.net.reaches(relay, node) {
            return self.polls.lose(&mut self.engine, number);
        }
        let Some(call) = self.polls.calls.remove(&number) else { return };
        if self.node(node).is_none_or(|node| node.run() != run || !node.is_alive()) {
            return;
        }
        match (call.ask, call.answer) {
            (Ask::Open { exporter }, _) => {
                let Some(session) = self.polls.sessions.get_mut(&link) else {
                    // The relay has ended it by now.
                    return self.refused(node);
                };
                session.caller = Some(Caller::default());
                self.net.counts.links += 1;
                if let Some(Process::Node(process, _)) = self.processes.get_mut(node as usize) {
                    process.input(Input::LinkUp { link: LinkId::new(link), peer: Peer::Relay { exporter } });
                }
                self.go_on(node, Ok(()));
                self.call(link);
            }
            (Ask::Frames { after, waits, .. }, Some(answer)) => {
                self.heard(number, link, after, waits, call.overtaken, answer)
            }
            _ => {}
        }
    }

    fn refused(&mut self, node: ProcessNo) {
        self.net.counts.dials_failed += 1;
        if let Some(Process::Node(process, _)) = self.processes.get_mut(node as usize) {
            process.input(Input::ConnectFailed { reason: "no answer over HTTPS".to_owned() });
        }
        self.go_on(node, Ok(()));
    }

    /// A call brought an answer.
    fn heard(&mut self, number: u64, link: u64, after: u64, waits: bool, overtaken: bool, answer: Answer) {
        let Some((node, _)) = self.polls.ends(LinkId::new(link)) else { return };
        let Some(caller) = self.caller(link) else { return };
        let place = if waits { &mut caller.waiting } else { &mut caller.speaking };
        if *place == Some(number) {
            *place = None;
        }
        let waiting = caller.waiting;
        let (received, frames) = match answer {
            Answer::Frames { received, frames } => (received, frames),
            // It may have arrived after the one that overtook it, with numbers of before.
            Answer::Gap if overtaken => return self.call(link),
            Answer::Gap | Answer::NotFound | Answer::Opened => return self.hang_up(link),
        };
        let said = caller.numbers.from();
        if caller.numbers.answered(received).is_err() {
            return self.hang_up(link);
        }
        // It has no room for them now.
        if !waits && caller.numbers.from() == said {
            self.pause(link, limits::POLL_RETRY_DELAY);
        }
        // A newer call has ended the wait of an older one; if nobody answers that, nobody waits for it long.
        if !waits
            && let Some(waiting) = waiting
            && let Some(older) = self.polls.calls.get_mut(&waiting)
            && !std::mem::replace(&mut older.overtaken, true)
        {
            let over = Event::Call { call: waiting, what: CallEvent::Fails };
            self.engine.after(limits::POLL_OVERTAKEN_TIME_MAX, over);
        }
        for (n, cargo) in (after + 1..).zip(frames) {
            let Some(caller) = self.caller(link) else { return };
            if !caller.numbers.arrives(n) {
                continue;
            }
            if matches!(cargo.frame.as_deref(), Some(whimbrel_protocol::Frame::Admitted(_))) {
                caller.numbers.let_in();
            }
            self.net.counts.frames += 1;
            self.hear(node, LinkId::new(link), cargo);
        }
        self.go_on(node, Ok(()));
        self.call(link);
    }

    fn pause(&mut self, link: u64, time: Duration) {
        if let Some(caller) = self.caller(link)
            && !std::mem::replace(&mut caller.pauses, true)
        {
            self.engine.after(time, Event::Call { call: link, what: CallEvent::Again });
        }
    }

    /// A call came to nothing: it is made again, a bounded number of times.
    fn call_fails(&mut self, number: u64) {
        let Some(call) = self.polls.calls.remove(&number) else { return };
        let (link, node) = (call.link, call.node);
        if self.node(node).is_none_or(|node| node.run() != call.run || !node.is_alive()) {
            return;
        }
        let waits = match call.ask {
            Ask::Open { .. } => return self.refused(node),
            Ask::End => return,
            Ask::Frames { waits, .. } => waits,
        };
        self.net.counts.calls_lost += u64::from(!call.overtaken);
        let Some(caller) = self.caller(link) else { return };
        let place = if waits { &mut caller.waiting } else { &mut caller.speaking };
        if *place == Some(number) {
            *place = None;
        }
        if call.overtaken {
            return self.call(link);
        }
        match caller.numbers.failed() {
            Some(delay) => self.pause(link, delay),
            None => self.hang_up(link),
        }
    }

    /// The relay's end of a link is over: its core is told, and what it said last can be fetched for a while.
    fn polled_ends(&mut self, link: u64) {
        let Some(served) = self.served(link) else { return };
        if std::mem::replace(&mut served.gone, true) {
            return;
        }
        self.polls.serve(&mut self.engine, &mut self.net, link);
        let relay = self.polls.ends(LinkId::new(link)).map(|(_, relay)| relay);
        self.engine.after(limits::LINK_CLOSE_TIME_MAX, Event::Call { call: link, what: CallEvent::Forgotten });
        if let Some(relay) = relay {
            self.link_gone(relay, LinkId::new(link));
        }
    }
}
