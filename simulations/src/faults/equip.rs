//! Second devices, drawn from a seed: who takes one in, when, who takes it off again, and what strikes it.
//! Owns: how often. Never: decides how far a device comes; the world does (`world/devices`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::draw::{Shape, keep};
use super::{Fault, Kind, Plan, Point, Target};
use crate::engine::{Entity, Seed, Stream};

/// A device is on the account so long after its owner began, as a rule: it is taken off no sooner.
const LINKED_AFTER: Duration = Duration::from_secs(20);
/// What strikes a new device strikes it within so long: most of that is while it comes in.
const YOUNG: Duration = Duration::from_secs(60);

/// How many people have a second device, and who is near whom.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Equipment {
    /// The share of people, from 0 to 1.
    pub share: f64,
    /// Everybody knows so many after them in the list of nodes (`friends.ring`).
    pub ring: u32,
    /// Nobody takes a device in before people are there.
    pub arrive: Duration,
}

/// Adds to a plan who takes a second device in and who takes it off again: half of both while the relay of its owner, or of
/// somebody they know, is cut off by the plan. Half of the devices are struck on their way in, or soon after. The same seed,
/// plan and shape give the same.
pub fn equip(seed: Seed, equipment: &Equipment, shape: &Shape, plan: &mut Plan) {
    let Equipment { share, arrive, .. } = *equipment;
    let mut who = seed.stream(Entity::World, "second devices");
    let duration = shape.duration;
    let mut faults = Vec::new();
    for node in 0..shape.nodes {
        if !who.happens(share) {
            continue;
        }
        let at = who.between(arrive, (duration / 2).max(arrive));
        let until = who.happens(1.0 / 3.0).then(|| who.between(duration / 2, duration));
        let mut stream = seed.stream(Entity::World, &format!("second device of node {node}"));
        let windows = cut_offs(&near(node, equipment.ring, shape), plan, shape);
        let at = within(&windows, (arrive, duration * 2 / 3), &mut stream).unwrap_or(at);
        let soonest = at + LINKED_AFTER;
        let until = until.map(|until| within(&windows, (soonest, duration), &mut stream).unwrap_or(until.max(soonest)));
        faults.push(Fault { at, lasts: Duration::ZERO, kind: Kind::AddDevice { node } });
        faults.extend(until.map(|at| Fault { at, lasts: Duration::ZERO, kind: Kind::RemoveDevice { node } }));
        if stream.happens(0.5) {
            let at = at + stream.between(Duration::from_millis(1), YOUNG);
            faults.push(struck(at, node, duration.saturating_sub(at), &mut stream));
        }
    }
    plan.faults.extend(faults.into_iter().filter(|fault| fault.at < duration));
    plan.faults.sort_by_key(|fault| fault.at);
}

/// What strikes a new device.
fn struck(at: Duration, node: u32, left: Duration, stream: &mut Stream) -> Fault {
    let target = Target::Second(node);
    let n = 1 + stream.below(5) as u32;
    let point = match stream.below(3) {
        0 => Point::Now,
        1 => Point::Applied(n),
        _ => Point::Synced(n),
    };
    let kind = match stream.below(8) {
        0..4 => Kind::Crash { target, point, keep: keep(stream) },
        4 => Kind::Break { target, point },
        5 => Kind::Offline { target },
        6 => Kind::SlowDisk { target, times: 2 + stream.below(200) as u32 },
        _ => Kind::FailSync { target },
    };
    let lasts = match kind {
        Kind::Break { .. } => Duration::ZERO,
        _ => stream.between(Duration::from_millis(100), Duration::from_secs(30)).min(left),
    };
    Fault { at, lasts, kind }
}

/// The relays of somebody and of those they know: the next in the list, and those whose next they are.
fn near(node: u32, ring: u32, shape: &Shape) -> BTreeSet<usize> {
    let steps = (1..=ring).flat_map(|step| [node + step, node + shape.nodes - step % shape.nodes]);
    let all = steps.chain([node]).map(|one| one % shape.nodes.max(1));
    all.filter_map(|one| shape.homes.get(one as usize).copied()).collect()
}

/// When one of these relays is cut off from anybody: from when, and how long.
fn cut_offs(relays: &BTreeSet<usize>, plan: &Plan, shape: &Shape) -> Vec<(Duration, Duration)> {
    let cut = |fault: &&Fault| {
        matches!(fault.kind, Kind::Partition { .. } | Kind::Offline { .. })
            && fault.kind.targets().iter().any(|target| match target {
                Target::Relay(domain) => relays.iter().any(|relay| shape.relays.get(*relay) == Some(domain)),
                Target::Node(_) | Target::Second(_) => false,
            })
    };
    plan.faults.iter().filter(cut).map(|fault| (fault.at, fault.lasts)).collect()
}

/// A moment in one of these windows, for half of those who ask, if it is between the two.
fn within(
    windows: &[(Duration, Duration)],
    (soonest, latest): (Duration, Duration),
    stream: &mut Stream,
) -> Option<Duration> {
    let (meant, which, place) = (stream.happens(0.5), stream.bits(), stream.unit());
    let fit: Vec<_> = windows.iter().filter(|(at, _)| (soonest..latest).contains(at)).collect();
    let chosen = usize::try_from(which >> 1).ok()?.checked_rem(fit.len())?;
    fit.get(chosen).filter(|_| meant).map(|(at, lasts)| *at + lasts.mul_f64(place / 2.0))
}
