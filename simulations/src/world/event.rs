//! Events: what can happen in a world.
//! Owns: their kinds, and the numbers by which the trace knows them.
//! Never: carries contents: an event is copied a few times on its way, and a million may be pending.

use whimbrel_protocol::id::LinkId;

use super::poll::CallEvent;
use super::{NodeEvent, RelayEvent};
use crate::net::{ProcessNo, Side};

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A process starts.
    Start {
        /// Which.
        process: ProcessNo,
    },
    /// A handshake reaches the other side.
    Knock {
        /// Of this link.
        link: LinkId,
    },
    /// An end has its link.
    Up {
        /// Which link.
        link: LinkId,
        /// Which end.
        side: Side,
    },
    /// A frame arrives.
    Arrive {
        /// On this link.
        link: LinkId,
        /// At this end.
        side: Side,
    },
    /// An end finds its link gone.
    Lost {
        /// Which link.
        link: LinkId,
        /// Which end.
        side: Side,
    },
    /// An end has heard nothing for so long that its link is over.
    Silent {
        /// Which link.
        link: LinkId,
        /// Which end.
        side: Side,
        /// Which of its silences.
        silence: u32,
    },
    /// A dialler gives up.
    DialFailed {
        /// On this link.
        link: LinkId,
    },
    /// Something of a node's own.
    Node {
        /// Which node.
        node: ProcessNo,
        /// In which of its lives; past ones are over.
        run: u32,
        /// What.
        what: NodeEvent,
    },
    /// Something of a relay's own.
    Relay {
        /// Which relay.
        relay: ProcessNo,
        /// In which of its lives; past ones are over.
        run: u32,
        /// What.
        what: RelayEvent,
    },
    /// Something of a home link over HTTPS.
    Call {
        /// Of this call, or of this link, as `what` says.
        call: u64,
        /// What.
        what: CallEvent,
    },
    /// Two people come a step closer.
    Meet {
        /// Which pair.
        pair: usize,
    },
    /// One of two friends ends it.
    Part {
        /// Which parting.
        parting: usize,
    },
    /// Somebody hides, or is seen again.
    Hide {
        /// Which of the times that somebody does.
        hiding: usize,
    },
    /// Somebody ends their account.
    End {
        /// Which of those who do.
        ending: usize,
    },
    /// Somebody asks for what their relay keeps of them.
    Export {
        /// Which of those who do.
        export: usize,
    },
    /// Somebody who is woken comes a step further with naming where.
    Phone {
        /// Which of those who are.
        phone: usize,
    },
    /// A process dies, and starts again.
    Die {
        /// Which.
        process: ProcessNo,
    },
    /// A group is opened, if whoever opens it knows everybody by now.
    Gather {
        /// Which group.
        group: usize,
    },
    /// A group whose members change moves on.
    Change {
        /// Which.
        circle: usize,
    },
    /// A second device comes a step further.
    Device {
        /// Which.
        device: usize,
    },
    /// An operator comes a step further with a token.
    Token {
        /// Which.
        token: usize,
    },
    /// It is time for somebody's card.
    Card {
        /// Whose, of those who have one.
        card: usize,
    },
    /// Somebody writes.
    Speak {
        /// Who.
        who: ProcessNo,
    },
    /// Somebody goes away.
    Leave {
        /// Who.
        who: ProcessNo,
    },
    /// Somebody comes back.
    Return {
        /// Who.
        who: ProcessNo,
    },
    /// A fault strikes.
    Strike {
        /// Which of the scenario's.
        fault: usize,
    },
    /// A fault whose trap has sprung does what it does.
    Spring {
        /// To whom.
        process: ProcessNo,
        /// Which of the scenario's.
        fault: usize,
    },
    /// A fault ends.
    Mend {
        /// Which of the scenario's.
        fault: usize,
    },
    /// A path that flaps goes out, or comes back.
    Swing {
        /// For which of the scenario's faults.
        fault: usize,
    },
}

impl Event {
    /// For the trace: whose, what, and a number.
    pub(super) fn mark(self) -> (u32, u16, u64) {
        let of_side = |link: LinkId, side: Side, kind: u16| (side as u32, kind, link.get());
        match self {
            Self::Start { process } => (process, 1, 0),
            Self::Knock { link } => (0, 2, link.get()),
            Self::Up { link, side } => of_side(link, side, 3),
            Self::Arrive { link, side } => of_side(link, side, 4),
            Self::Lost { link, side } => of_side(link, side, 5),
            Self::Silent { link, side, silence } => of_side(link, side, 14 + (silence as u16 % 2)),
            Self::DialFailed { link } => (0, 6, link.get()),
            Self::Node { node, run, what } => (node, 7, u64::from(run) << 8 | what as u64),
            Self::Relay { relay, run, what } => {
                let (kind, number) = what.mark();
                (relay, kind, number ^ u64::from(run) << 40)
            }
            Self::Call { call, what } => (what as u32, 36, call),
            Self::Meet { pair } => (0, 8, pair as u64),
            Self::Gather { group } => (0, 17, group as u64),
            Self::Part { parting } => (0, 19, parting as u64),
            Self::Hide { hiding } => (0, 32, hiding as u64),
            Self::Change { circle } => (0, 33, circle as u64),
            Self::Device { device } => (0, 38, device as u64),
            Self::End { ending } => (0, 34, ending as u64),
            Self::Export { export } => (0, 37, export as u64),
            Self::Phone { phone } => (0, 39, phone as u64),
            Self::Token { token } => (0, 40, token as u64),
            Self::Card { card } => (0, 41, card as u64),
            Self::Die { process } => (process, 35, 0),
            Self::Speak { who } => (who, 9, 0),
            Self::Leave { who } => (who, 10, 0),
            Self::Return { who } => (who, 11, 0),
            Self::Strike { fault } => (0, 12, fault as u64),
            Self::Spring { process, fault } => (process, 18, fault as u64),
            Self::Mend { fault } => (0, 13, fault as u64),
            Self::Swing { fault } => (0, 16, fault as u64),
        }
    }
}
