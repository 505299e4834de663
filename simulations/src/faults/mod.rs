//! Faults: what goes wrong by design, as data.
//! Owns: the kinds, their spelling in scenarios, and what is drawn from a seed (`draw`).
//! Never: does anything; the world strikes and mends. A plan is a list that stays a plan when elements are taken out, but for
//! what is about a second device (`Plan::whole`).

mod draw;
mod equip;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_protocol::id::Domain;

pub use draw::{Profile, Shape, draw};
pub use equip::{Equipment, equip};
pub(crate) use wire::wrong_key;

/// Everything that goes wrong in a run. It ends with the safety phase: whatever still lasts then is mended.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The faults, in any order.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
}

/// One thing that goes wrong.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(try_from = "wire::Wire", into = "wire::Wire")]
pub struct Fault {
    /// When it strikes, from the beginning of the run.
    pub at: Duration,
    /// How long until it is mended. Zero for what has no end of its own ([`Kind::Break`], [`Kind::Heal`]).
    pub lasts: Duration,
    /// What it is.
    pub kind: Kind,
}

/// A process, as scenarios name it: a relay by its domain, a node by its number among the nodes (`node 3`, from 0), the second
/// device of that node's owner by the same number (`second 3`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// The relay of a domain.
    Relay(Domain),
    /// The n-th node.
    Node(u32),
    /// The second device of the owner of the n-th node, whom the plan gives one ([`Kind::AddDevice`]).
    Second(u32),
}

/// Where in its work a process is hit. Counted from the moment the fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Point {
    /// Wherever it stands.
    #[default]
    Now,
    /// When the n-th group (from 1) is applied and not yet synced.
    Applied(u32),
    /// When the n-th group (from 1) is synced and nothing of it was answered or sent.
    Synced(u32),
    /// When its futures were polled n times: between two awaits of whatever runs. Relays only.
    Polled(u32),
    /// When its n-th frame has left while rows were applied and not yet synced, on which it must not have depended. Of
    /// a relay, only frames with entries count.
    Left(u32),
}

/// What a crash leaves of what was applied and not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    /// As many batches as the seed says, oldest first.
    #[default]
    Drawn,
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// As drawn, and at least the newest is lost: it was being written. The engines below write a batch whole or not at all,
    /// and drop what they have of it when they open. Should one not, the house's store refuses to open: no process goes on.
    Torn,
}

/// Which way nothing passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ways {
    /// Neither.
    #[default]
    Both,
    /// Not from the first to the second; the way back stands.
    OneWay,
}

/// What a hostile relay does to its own users, and to other relays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RelayTrick {
    /// Leaves out pushes: the runs behind them do not join on. Leaves out what it should forward, for now.
    Drop,
    /// Leaves out entries and says there were none: nothing in the log shows it.
    Hide,
    /// Sends pushes again, as they were, and forwards twice.
    Repeat,
    /// Puts entries into the log again, as if they were new, and forwards again what it forwarded before.
    Replay,
    /// Delays what it sends.
    Delay,
    /// Changes the order of entries, differently for each device, and of what it forwards.
    Reorder,
    /// Shows half of its devices another order than the other half.
    Fork,
    /// Sends a corrupted copy of an entry before the genuine one.
    Corrupt,
    /// Hands out KeyPackages of a device that the account's owner never added, beside the genuine ones.
    AddDevice,
    /// Forwards to other relays what their own users are said to have written, beside what its users did.
    Impersonate,
    /// Leaves gaps in the numbers of what it forwards: no relay may take what is out of step.
    Misnumber,
    /// Shows friends who are there as away, those who are away as there, and again what it showed before, as it pleases.
    LiePresence,
    /// Sends bytes that are no frame.
    Garble,
    /// As a hub, tells authors whose commit lost that it holds, with a receipt of its own signing, and everybody that another
    /// does.
    TwoOrders,
    /// Leaves out every commit, and says that there is none to whoever asks for one.
    Withhold,
    /// Tells commits with the oldest GroupInfo of the thread it has.
    OldInfo,
    /// Puts the newest commit that took somebody into a group into its log again as if it were the next one, with a receipt of
    /// its own signing, and hands out Welcomes again that are gone.
    ReAdd,
    /// Tells the shortest log of an account it has.
    OldLog,
    /// Tells its users what somebody said under another's name, and of friends that they end it.
    SpeakFor,
    /// Tells, whoever is looked up, the first log of an account that passed it since it began.
    OtherKey,
    /// Makes an invite in the name of whoever is let in at it, by which anybody may come to them.
    MintInvite,
    /// Puts copies of entries into its logs that are of an epoch nothing leads to.
    FarAhead,
    /// Serves a device on that its owner took off the account.
    ServeRevoked,
    /// Tells whoever asks somebody to be friends that they said yes.
    ForgeAccept,
}

/// What a hostile member's node does beside what it should.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberTrick {
    /// Hands in its envelopes again.
    Replay,
    /// Hands in envelopes that nobody can open.
    Garbage,
    /// Hands in a corrupted copy before each envelope.
    Corrupt,
    /// Claims times far off.
    Clocks,
    /// Opens threads with people it never met.
    Stranger,
    /// Sends bytes that are no frame.
    Garble,
    /// Hands in, with what it says, commits of its own of epochs that are over, as if they were of this one.
    StaleCommit,
    /// Hands in, before each commit, a copy with a bit changed in what it signed.
    CorruptCommit,
    /// Hands in, before each commit, a copy with a bit changed in a tag that only members can check.
    MistagCommit,
    /// Hands in, with what it says, commits that take out somebody whom it may not take out.
    ForeignRemoval,
    /// Hands in, with what it says, commits that make it an admin, and in half of them the only one.
    Usurp,
}

/// What goes wrong.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A process is killed and starts again from its disk when the fault ends.
    Crash {
        /// Which.
        target: Target,
        /// Where in its work.
        point: Point,
        /// What its disk kept.
        keep: Keep,
    },
    /// Nothing passes between two processes.
    Partition {
        /// The two; the first is the sender of what is lost when it is one way.
        between: [Target; 2],
        /// Which way.
        ways: Ways,
    },
    /// A process has no network at all.
    Offline {
        /// Which.
        target: Target,
    },
    /// The path between two processes fails and returns, over and over.
    Flap {
        /// The two.
        between: [Target; 2],
        /// How long it is gone each time. Shorter than the idle time of a link: frames are late and links stand.
        down: Duration,
        /// How long it stands each time.
        up: Duration,
    },
    /// A process is stopped in good order, and started again when the fault ends.
    Restart {
        /// Which.
        target: Target,
    },
    /// Every link of a process breaks at once, and both ends know: requests under way have nobody to answer.
    Break {
        /// Which.
        target: Target,
        /// Where in its work.
        point: Point,
    },
    /// A node's address changes, as when its network does: its links are gone for it at once, and it comes in again while
    /// whoever is at their other ends believes in them.
    Roam {
        /// Which.
        target: Target,
    },
    /// A request is dropped between two of its awaits while its relay lives on, and the link it came by ends.
    Cancel {
        /// Which relay.
        target: Target,
        /// When its futures were polled so often: the one that was polled last.
        point: Point,
    },
    /// What goes between two processes takes longer, either way: what others send meanwhile comes before it.
    SlowPath {
        /// The two.
        between: [Target; 2],
        /// By how much.
        by: Duration,
    },
    /// Every partition, flapping path and lost network ends.
    Heal,
    /// A disk takes so many times as long.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How many times.
        times: u32,
    },
    /// A disk answers nothing until the fault ends.
    StallDisk {
        /// Whose.
        target: Target,
    },
    /// A disk takes no more bytes.
    FullDisk {
        /// Whose.
        target: Target,
    },
    /// The next sync of a disk fails; the process must not go on. It is started again when the fault ends.
    FailSync {
        /// Whose.
        target: Target,
    },
    /// A clock shows something else than the time, and runs at another speed.
    Clock {
        /// Whose.
        target: Target,
        /// By how many milliseconds its calendar is ahead; behind when negative.
        ahead_ms: i64,
        /// By how many parts in a million it runs too fast; too slow when negative.
        drift_ppm: i32,
    },
    /// The owner of a node takes a second device in; it is one of the account's as soon as that comes about.
    AddDevice {
        /// The n-th node.
        node: u32,
    },
    /// The owner of a node takes the second device off the account again, once it is on it and the first is there.
    RemoveDevice {
        /// The n-th node.
        node: u32,
    },
    /// A relay turns on its own users.
    HostileRelay {
        /// Which.
        relay: Domain,
        /// What it does.
        trick: RelayTrick,
        /// To how many of the frames or entries it could do it to, from 0 to 1.
        share: f64,
    },
    /// A member of threads turns on the others.
    HostileMember {
        /// The n-th node.
        node: u32,
        /// What it does.
        trick: MemberTrick,
        /// To how many of the frames it could do it to, from 0 to 1.
        share: f64,
    },
}

impl Kind {
    /// Its name, as in scenarios.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Partition { .. } => "partition",
            Self::Offline { .. } => "offline",
            Self::Flap { .. } => "flap",
            Self::Restart { .. } => "restart",
            Self::Break { .. } => "break",
            Self::Cancel { .. } => "cancel",
            Self::SlowPath { .. } => "slow-path",
            Self::Roam { .. } => "roam",
            Self::Heal => "heal",
            Self::SlowDisk { .. } => "slow-disk",
            Self::StallDisk { .. } => "stall-disk",
            Self::FullDisk { .. } => "full-disk",
            Self::FailSync { .. } => "fail-sync",
            Self::Clock { .. } => "clock",
            Self::AddDevice { .. } => "add-device",
            Self::RemoveDevice { .. } => "remove-device",
            Self::HostileRelay { .. } => "hostile-relay",
            Self::HostileMember { .. } => "hostile-member",
        }
    }

    /// The processes it names.
    pub fn targets(&self) -> Vec<Target> {
        match self {
            Self::Crash { target, .. }
            | Self::Offline { target }
            | Self::Restart { target }
            | Self::Roam { target }
            | Self::Break { target, .. }
            | Self::Cancel { target, .. }
            | Self::SlowDisk { target, .. }
            | Self::StallDisk { target }
            | Self::FullDisk { target }
            | Self::FailSync { target }
            | Self::Clock { target, .. } => vec![target.clone()],
            Self::Partition { between, .. } | Self::Flap { between, .. } | Self::SlowPath { between, .. } => {
                between.to_vec()
            }
            Self::HostileRelay { relay, .. } => vec![Target::Relay(relay.clone())],
            Self::HostileMember { node, .. } | Self::AddDevice { node } | Self::RemoveDevice { node } => {
                vec![Target::Node(*node)]
            }
            Self::Heal => Vec::new(),
        }
    }
}

impl Plan {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self { faults: Vec::new() }
    }

    /// Without what is about second devices that nobody takes in by then.
    #[must_use]
    pub fn whole(mut self) -> Self {
        let added = |node: u32| self.faults.iter().find(|one| one.kind == Kind::AddDevice { node }).map(|one| one.at);
        let by_then = |fault: &Fault, node| added(node).is_some_and(|at| at <= fault.at);
        let holds = |fault: &Fault| match fault.kind {
            Kind::RemoveDevice { node } => by_then(fault, node),
            _ => fault.kind.targets().iter().all(|target| match target {
                Target::Second(node) => by_then(fault, *node),
                Target::Relay(_) | Target::Node(_) => true,
            }),
        };
        let kept: Vec<bool> = self.faults.iter().map(holds).collect();
        let mut kept = kept.into_iter();
        self.faults.retain(|_| kept.next().unwrap_or(true));
        self
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relay(domain) => domain.fmt(f),
            Self::Node(number) => write!(f, "node {number}"),
            Self::Second(number) => write!(f, "second {number}"),
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |number: &str| number.trim().parse().map_err(|_| format!("{text:?} names no node"));
        match (text.strip_prefix("node "), text.strip_prefix("second ")) {
            (Some(first), _) => number(first).map(Self::Node),
            (None, Some(second)) => number(second).map(Self::Second),
            (None, None) => text.parse().map(Self::Relay).map_err(|error| format!("{text:?}: {error}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
