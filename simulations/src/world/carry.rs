//! What passes between processes: handshakes, frames and the end of links, in and out.
//! Owns: what each end is told, where a node's outputs go, how a frame is spelled on the wire.
//! Never: decides when something arrives (`net`), or what a hostile process says instead (`hostile`).

use std::sync::Arc;

use whimbrel_node::api::{Input, Output, Peer};
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::{Frame, RefusalCode, codec};
use whimbrel_relay::LinkPeer;

use super::poll::is_polled;
use super::{Process, TRACED_FRAME, World};
use crate::net::{Cargo, ProcessNo, Side};

/// A frame as it is sent; nothing when it is over its bound, which its receiver would refuse.
pub(super) fn pack(frame: Arc<Frame>) -> Option<Cargo> {
    let bytes =
        codec::encode(&frame).inspect_err(|error| tracing::error!(%error, "a frame over its bound is not sent"));
    let bytes = bytes.ok()?;
    // What the receiver would read is what was sent; to read it costs as much as everything else together.
    if cfg!(debug_assertions) {
        let mut decoder = codec::Decoder::new();
        decoder.push(&bytes);
        assert_eq!(decoder.next_frame().ok().flatten().as_ref(), Some(&*frame), "a frame does not read back");
    }
    Some(Cargo::new(frame, &bytes))
}

/// How much of what its receiver asked for a frame refuses because it was too much in too short a time.
fn refused_by_rate(frame: &Frame) -> u64 {
    match frame {
        Frame::Refused(words) => u64::from(words.code == RefusalCode::TooFast),
        Frame::Forwarded(words) => words.refused.iter().filter(|one| one.code == RefusalCode::TooFast).count() as u64,
        _ => 0,
    }
}

impl World {
    /// A handshake arrives: whoever is there answers, if it is who the dialler meant and takes links.
    pub(super) fn knock(&mut self, link: LinkId) {
        let Some((_, to)) = self.net.ends(link) else { return };
        let accepts = match self.processes.get(to as usize) {
            Some(Process::Relay(relay)) => relay.is_open() && self.doors.is_live(link, &relay.push),
            Some(Process::Node(node, _)) => node.is_alive() && node.direct,
            None => false,
        };
        self.net.answer(&mut self.engine, link, accepts);
    }

    pub(super) fn up(&mut self, link: LinkId, side: Side) {
        let Some(standing) = self.net.up(&mut self.engine, link, side) else { return };
        let (now, exporter, process) = (self.engine.now(), standing.exporter, standing.process);
        let peer = match self.processes.get(standing.peer as usize) {
            Some(Process::Relay(relay)) => Ok((relay.id, relay.domain.clone())),
            Some(Process::Node(node, _)) => Err(node.transport),
            None => return,
        };
        match (self.processes.get_mut(process as usize), peer) {
            (Some(Process::Relay(relay)), Ok((id, domain))) => {
                let (dialled, source) = (side == Side::Dialler, standing.peer.into());
                let peer = LinkPeer::Relay { relay: id, domain, dialled, exporter, source };
                relay.link_up(now, link, peer);
            }
            (Some(Process::Relay(relay)), Err(transport)) => {
                let door = self.doors.of(link, &relay.push);
                relay.link_up(
                    now,
                    link,
                    LinkPeer::Node {
                        transport,
                        exporter,
                        source: self.doors.network(standing.peer),
                        door,
                        counted: false,
                    },
                );
            }
            (Some(Process::Node(node, _)), Ok(_)) => node.input(Input::LinkUp { link, peer: Peer::Relay { exporter } }),
            (Some(Process::Node(node, _)), Err(transport)) => {
                node.input(Input::LinkUp { link, peer: Peer::Node { transport } });
            }
            (None, _) => {}
        }
        self.go_on(process, Ok(()));
    }

    pub(super) fn arrive(&mut self, link: LinkId, side: Side) {
        let Some((process, cargo)) = self.net.arrive(self.engine.now(), link, side) else { return };
        self.hear(process, link, cargo);
    }

    /// The two ends of a link, whatever carries it; first whoever dialled.
    fn ends_of(&self, link: LinkId) -> Option<(ProcessNo, ProcessNo)> {
        if is_polled(link) { self.polls.ends(link) } else { self.net.ends(link) }
    }

    /// A process hears what came on a link.
    pub(super) fn hear(&mut self, process: ProcessNo, link: LinkId, cargo: Cargo) {
        let mut frame = cargo.frame.map(Arc::unwrap_or_clone);
        let peer = self.ends_of(link).map(|(one, other)| if one == process { other } else { one });
        if let Some(frame) = &mut frame {
            let heard = match self.processes.get_mut(process as usize) {
                Some(Process::Relay(relay)) => {
                    let mischief = relay.mischief.as_mut().zip(peer);
                    mischief.is_none_or(|(mischief, peer)| mischief.incoming(link, peer, frame))
                }
                Some(Process::Node(node, _)) => node.member.as_ref().is_none_or(|member| member.incoming(frame)),
                None => false,
            };
            if !heard {
                return;
            }
        }
        let kind = frame.as_ref().map_or(0, Frame::kind);
        let now = self.engine.now();
        let contents = (cargo.bytes as u64) << 32 | u64::from(cargo.checksum);
        self.engine.trace.feed(now, process, TRACED_FRAME | kind, contents);
        self.struck.malformed += u64::from(frame.is_none());
        self.struck.refused_by_rate += frame.as_ref().map_or(0, refused_by_rate);
        if !matches!(frame, Some(Frame::Heartbeat(_) | Frame::HeartbeatAnswer(_))) {
            self.last_frame = now;
        }
        // On a link it has given up a node hears nothing any more, whatever still comes.
        let is_node = matches!(self.processes.get(process as usize), Some(Process::Node(..)));
        let heeded = !(is_node && self.polls.is_given_up(link));
        if matches!(frame, Some(Frame::HeartbeatAnswer(_))) && heeded {
            self.ledger.told_on(process, link);
        }
        if let (Some(Frame::Admitted(words)), true) = (&frame, heeded) {
            self.told_door(process, link, words.push_address.is_some());
        }
        if let (Some(frame), Some((dialler, acceptor)), true) = (&frame, self.ends_of(link), heeded) {
            self.ledger.arrived(if process == dialler { acceptor } else { dialler }, process, frame, now);
        }
        match (self.processes.get_mut(process as usize), frame) {
            (Some(Process::Relay(relay)), frame) => relay.frame(now, link, frame),
            (Some(Process::Node(node, _)), Some(frame)) => node.input(Input::Frame { link, frame }),
            (Some(Process::Node(node, _)), None) => node.input(Input::Malformed { link }),
            (None, _) => {}
        }
        self.go_on(process, Ok(()));
    }

    pub(super) fn lost(&mut self, link: LinkId, side: Side) {
        let Some(process) = self.net.lost(&mut self.engine, link, side) else { return };
        self.link_gone(process, link);
    }

    pub(super) fn silent(&mut self, link: LinkId, side: Side, silence: u32) {
        let Some(process) = self.net.silent(&mut self.engine, link, side, silence) else { return };
        self.link_gone(process, link);
    }

    /// A process is told that a link of its is gone.
    pub(super) fn link_gone(&mut self, process: ProcessNo, link: LinkId) {
        let now = self.engine.now();
        match self.processes.get_mut(process as usize) {
            Some(Process::Relay(relay)) => relay.link_lost(now, link),
            Some(Process::Node(node, _)) => node.input(Input::LinkLost { link }),
            None => {}
        }
        self.go_on(process, Ok(()));
    }

    pub(super) fn dial_failed(&mut self, link: LinkId) {
        let Some((_, to)) = self.net.ends(link) else { return };
        let Some(process) = self.net.failed(link) else { return };
        let now = self.engine.now();
        let meant = match self.processes.get(to as usize) {
            Some(Process::Relay(relay)) => Ok(relay.domain.clone()),
            Some(Process::Node(node, _)) => Err(node.transport),
            None => return,
        };
        match (self.processes.get_mut(process as usize), meant) {
            (Some(Process::Relay(relay)), Ok(domain)) => relay.dial_failed(now, &domain),
            (Some(Process::Node(node, _)), Ok(_)) => {
                node.input(Input::ConnectFailed { reason: "no answer".to_owned() });
            }
            (Some(Process::Node(node, _)), Err(transport)) => node.input(Input::DialFailed { transport }),
            (Some(Process::Relay(_)), Err(_)) | (None, _) => {}
        }
        self.go_on(process, Ok(()));
    }

    /// A node's outputs leave: their batch is durable.
    pub(super) fn release(&mut self, no: ProcessNo, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { link, frame } => {
                    let now = self.engine.now();
                    let cargos = match self.processes.get_mut(no as usize) {
                        Some(Process::Node(node, _)) => {
                            node.leaves();
                            node.outgoing(now, frame)
                        }
                        _ => pack(Arc::new(frame)).into_iter().collect(),
                    };
                    if is_polled(link) {
                        self.say_polled(link, cargos);
                        continue;
                    }
                    for cargo in cargos {
                        self.net.send(&mut self.engine, link, no, cargo);
                    }
                }
                Output::Close { link } if is_polled(link) => self.close_polled(link),
                Output::Close { link } => self.net.close(&mut self.engine, link, no),
                Output::Connect { relay } => {
                    let at = self.relays().find_map(|one| one.is_at(&relay));
                    match at {
                        Some((to, _)) if self.node(no).is_some_and(|node| node.polled) => self.open_polled(no, to),
                        Some((to, door)) => {
                            let link = self.net.dial(&mut self.engine, no, to);
                            self.doors.dialled(link, no, (door, relay.endpoint));
                        }
                        None => {
                            self.doors.missed(no);
                            self.owe(no, Input::ConnectFailed { reason: "nobody of that identity".to_owned() });
                        }
                    }
                }
                Output::Dial { transport, addresses } => {
                    let to = self.by_transport.get(&transport).copied();
                    if let Some(to) = to {
                        let is_direct = |who| self.node(who).is_some_and(|node| node.direct);
                        let meant = is_direct(no) && is_direct(to);
                        self.ledger.dials(no, to, meant, self.engine.now());
                    }
                    let there = to.and_then(|to| self.node(to)).is_some_and(|node| addresses.contains(&node.address()));
                    match to.filter(|_| there) {
                        Some(to) => drop(self.net.dial(&mut self.engine, no, to)),
                        None => self.owe(no, Input::DialFailed { transport }),
                    }
                }
                Output::Answer { ticket, result } => self.answered(no, ticket, result),
                Output::Event(event) => self.told(no, event),
                // Nothing in this world makes a node's store unreadable: what synced is there.
                Output::Broken { reason } => {
                    self.ledger.stopped(no, reason);
                    return self.kill(no);
                }
            }
        }
    }

    fn owe(&mut self, no: ProcessNo, input: Input) {
        if let Some(Process::Node(node, _)) = self.processes.get_mut(no as usize) {
            node.input(input);
        }
    }
}
