//! How a fault is spelled in a scenario: one flat table whose `kind` decides which keys it may have.
//! Owns: the keys, and the refusal of one that its kind does not use.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Fault, Keep, Kind, MemberTrick, Point, RelayTrick, Target, Ways};
use crate::scenario::{AGAIN_MIN, AGAIN_WORDS, Share, Span};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    at: Span,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lasts: Option<Lasts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    between: Option<[String; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ways: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ahead: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drift_ppm: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trick: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<Share>,
}

/// How long a fault lasts, when something ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lasts {
    For(Duration),
    /// Until the safety phase is over, and everything is mended.
    ToTheEnd,
}

const TO_THE_END: &str = "to the end";

impl<'de> Deserialize<'de> for Lasts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        if text.trim() == TO_THE_END {
            return Ok(Self::ToTheEnd);
        }
        match text.parse::<Span>() {
            Ok(Span(time)) if time.is_zero() => {
                Err(D::Error::custom(format!("a fault that lasts no time strikes nobody; {TO_THE_END:?} has no end")))
            }
            Ok(Span(time)) => Ok(Self::For(time)),
            Err(what) => Err(D::Error::custom(format!("{what}, or {TO_THE_END:?}"))),
        }
    }
}

impl Serialize for Lasts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::For(time) => Span(*time).serialize(serializer),
            Self::ToTheEnd => serializer.serialize_str(TO_THE_END),
        }
    }
}

/// What is wrong with a fault, and with which of its keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Wrong {
    key: &'static str,
    what: String,
}

/// What is wrong with a key.
fn wrong(key: &'static str) -> impl Fn(String) -> Wrong {
    move |what| Wrong { key, what }
}

/// The first fault of a scenario's text that is refused for one of its keys: the key's path, and why.
pub(crate) fn wrong_key(text: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Faults {
        #[serde(default)]
        fault: Vec<Wire>,
    }
    let Faults { fault } = toml::from_str(text).ok()?;
    let refused = |(n, wire)| Fault::try_from(wire).err().map(|Wrong { key, what }| (format!("fault.{n}.{key}"), what));
    fault.into_iter().enumerate().find_map(refused)
}

fn need<T>(value: &mut Option<T>, kind: &str, key: &'static str) -> Result<T, Wrong> {
    value.take().ok_or_else(|| wrong(key)(format!("a fault of kind {kind:?} needs the key `{key}`")))
}

/// One of the words of a table.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let names = || words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| format!("{text:?} is none of {}", names()))
}

fn name<T: PartialEq>(value: &T, words: &[(&str, T)]) -> Option<String> {
    words.iter().find(|(_, other)| other == value).map(|(name, _)| (*name).to_owned())
}

const KEEPS: &[(&str, Keep)] =
    &[("drawn", Keep::Drawn), ("nothing", Keep::Nothing), ("everything", Keep::Everything), ("torn", Keep::Torn)];
const WAYS: &[(&str, Ways)] = &[("both", Ways::Both), ("one", Ways::OneWay)];
const RELAY_TRICKS: &[(&str, RelayTrick)] = &[
    ("drop", RelayTrick::Drop),
    ("hide", RelayTrick::Hide),
    ("repeat", RelayTrick::Repeat),
    ("replay", RelayTrick::Replay),
    ("delay", RelayTrick::Delay),
    ("reorder", RelayTrick::Reorder),
    ("fork", RelayTrick::Fork),
    ("corrupt", RelayTrick::Corrupt),
    ("add-device", RelayTrick::AddDevice),
    ("impersonate", RelayTrick::Impersonate),
    ("misnumber", RelayTrick::Misnumber),
    ("lie-presence", RelayTrick::LiePresence),
    ("garble", RelayTrick::Garble),
    ("two-orders", RelayTrick::TwoOrders),
    ("withhold", RelayTrick::Withhold),
    ("old-info", RelayTrick::OldInfo),
    ("re-add", RelayTrick::ReAdd),
    ("old-log", RelayTrick::OldLog),
    ("speak-for", RelayTrick::SpeakFor),
    ("other-key", RelayTrick::OtherKey),
    ("mint-invite", RelayTrick::MintInvite),
    ("far-ahead", RelayTrick::FarAhead),
    ("serve-revoked", RelayTrick::ServeRevoked),
    ("forge-accept", RelayTrick::ForgeAccept),
];
const MEMBER_TRICKS: &[(&str, MemberTrick)] = &[
    ("replay", MemberTrick::Replay),
    ("garbage", MemberTrick::Garbage),
    ("corrupt", MemberTrick::Corrupt),
    ("clocks", MemberTrick::Clocks),
    ("stranger", MemberTrick::Stranger),
    ("garble", MemberTrick::Garble),
    ("stale-commit", MemberTrick::StaleCommit),
    ("corrupt-commit", MemberTrick::CorruptCommit),
    ("mistag-commit", MemberTrick::MistagCommit),
    ("foreign-removal", MemberTrick::ForeignRemoval),
    ("usurp", MemberTrick::Usurp),
];

/// `now`, `applied 3`, `synced 1`, `polled 20`, `left 2`.
fn point(text: Option<String>) -> Result<Point, String> {
    let Some(text) = text else { return Ok(Point::Now) };
    let (at, number) = text.split_once(' ').map_or((text.as_str(), None), |(at, number)| (at, Some(number)));
    let number = number.map(|number| number.trim().parse::<u32>().ok().filter(|number| *number > 0));
    Ok(match (at, number) {
        ("now", None) => Point::Now,
        ("applied", Some(Some(n))) => Point::Applied(n),
        ("synced", Some(Some(n))) => Point::Synced(n),
        ("polled", Some(Some(n))) => Point::Polled(n),
        ("left", Some(Some(n))) => Point::Left(n),
        _ => return Err(format!("{text:?} is none of now, applied N, synced N, polled N, left N (from 1)")),
    })
}

fn point_text(point: Point) -> Option<String> {
    match point {
        Point::Now => None,
        Point::Applied(n) => Some(format!("applied {n}")),
        Point::Synced(n) => Some(format!("synced {n}")),
        Point::Polled(n) => Some(format!("polled {n}")),
        Point::Left(n) => Some(format!("left {n}")),
    }
}

/// A target and where in its work it is hit.
fn spot(wire: &mut Wire, target: Target) -> Result<(Target, Point), Wrong> {
    let point = point(wire.point.take()).map_err(wrong("point"))?;
    match (&target, point) {
        (Target::Node(_) | Target::Second(_), Point::Polled(_)) => {
            Err(wrong("point")("a node has no futures to poll: `polled N` is for relays".to_owned()))
        }
        _ => Ok((target, point)),
    }
}

impl TryFrom<Wire> for Fault {
    type Error = Wrong;

    fn try_from(mut wire: Wire) -> Result<Self, Wrong> {
        let kind = std::mem::take(&mut wire.kind);
        let w = &mut wire;
        let target = |w: &mut Wire| -> Result<Target, Wrong> {
            need(&mut w.target, &kind, "target")?.parse().map_err(wrong("target"))
        };
        let between = |w: &mut Wire| -> Result<[Target; 2], Wrong> {
            let [one, other] = need(&mut w.between, &kind, "between")?;
            let parse = |text: String| text.parse().map_err(wrong("between"));
            Ok([parse(one)?, parse(other)?])
        };
        let what = match kind.as_str() {
            "crash" => {
                let whom = target(w)?;
                let (target, point) = spot(w, whom)?;
                let keep = w.keep.take().map_or(Ok(Keep::Drawn), |keep| word(&keep, KEEPS));
                Kind::Crash { target, point, keep: keep.map_err(wrong("keep"))? }
            }
            "partition" => {
                let ways = w.ways.take().map_or(Ok(Ways::Both), |ways| word(&ways, WAYS));
                Kind::Partition { between: between(w)?, ways: ways.map_err(wrong("ways"))? }
            }
            "offline" => Kind::Offline { target: target(w)? },
            "flap" => {
                let (down, up) = (need(&mut w.down, &kind, "down")?.0, need(&mut w.up, &kind, "up")?.0);
                for (key, time) in [("down", down), ("up", up)] {
                    if time < AGAIN_MIN {
                        return Err(wrong(key)(format!("`{key}`: {AGAIN_WORDS}")));
                    }
                }
                Kind::Flap { between: between(w)?, down, up }
            }
            "break" => {
                let whom = target(w)?;
                let (target, point) = spot(w, whom)?;
                Kind::Break { target, point }
            }
            "cancel" => match target(w).and_then(|whom| spot(w, whom))? {
                (target @ Target::Relay(_), point @ Point::Polled(_)) => Kind::Cancel { target, point },
                (Target::Node(_) | Target::Second(_), _) => {
                    return Err(wrong("target")("a node has no requests to drop: name a relay".to_owned()));
                }
                (Target::Relay(_), _) => {
                    return Err(wrong("point")("a request is dropped between two awaits: `polled N`".to_owned()));
                }
            },
            "slow-path" => {
                let by = need(&mut w.by, &kind, "by")?.0;
                if by < AGAIN_MIN {
                    return Err(wrong("by")("a slow path takes a millisecond longer or more".to_owned()));
                }
                Kind::SlowPath { between: between(w)?, by }
            }
            "roam" => match target(w)? {
                target @ (Target::Node(_) | Target::Second(_)) => Kind::Roam { target },
                Target::Relay(_) => {
                    return Err(wrong("target")(
                        "a relay stays where it is: whoever roams is named like \"node 3\"".to_owned(),
                    ));
                }
            },
            "heal" => Kind::Heal,
            "slow-disk" => match need(&mut w.times, &kind, "times")? {
                0 | 1 => return Err(wrong("times")("a slow disk takes two `times` as long or more".to_owned())),
                times => Kind::SlowDisk { target: target(w)?, times },
            },
            "stall-disk" => Kind::StallDisk { target: target(w)? },
            "full-disk" => Kind::FullDisk { target: target(w)? },
            "fail-sync" => Kind::FailSync { target: target(w)? },
            "clock" => {
                let millis = |key, span: Option<Span>| {
                    let millis = span.map_or(0, |span| span.0.as_millis());
                    i64::try_from(millis).map_err(|error| wrong(key)(error.to_string()))
                };
                let (ahead, behind) = (millis("ahead", w.ahead.take())?, millis("behind", w.behind.take())?);
                if ahead != 0 && behind != 0 {
                    return Err(wrong("behind")("a clock is `ahead` or `behind`, not both".to_owned()));
                }
                let drift_ppm = w.drift_ppm.take().unwrap_or_default();
                if drift_ppm.unsigned_abs() > 100_000 {
                    let what = "a clock drifts by 100,000 parts in a million at most".to_owned();
                    return Err(wrong("drift_ppm")(what));
                }
                if ahead == 0 && behind == 0 && drift_ppm == 0 {
                    let what = "this clock is right: it needs a millisecond `ahead` or `behind`, or a `drift_ppm`";
                    return Err(wrong("kind")(what.to_owned()));
                }
                Kind::Clock { target: target(w)?, ahead_ms: ahead - behind, drift_ppm }
            }
            "restart" => Kind::Restart { target: target(w)? },
            "add-device" | "remove-device" => match target(w)? {
                Target::Node(node) if kind == "add-device" => Kind::AddDevice { node },
                Target::Node(node) => Kind::RemoveDevice { node },
                Target::Relay(_) | Target::Second(_) => {
                    return Err(wrong("target")(
                        "whose owner takes a second device in, or off, is named like \"node 3\"".to_owned(),
                    ));
                }
            },
            "hostile-relay" => {
                let trick = word(&need(&mut w.trick, &kind, "trick")?, RELAY_TRICKS).map_err(wrong("trick"))?;
                let share = w.share.take().unwrap_or(Share(1.0)).0;
                match target(w)? {
                    Target::Relay(relay) => Kind::HostileRelay { relay, trick, share },
                    Target::Node(_) | Target::Second(_) => {
                        return Err(wrong("target")("a hostile relay is named by its domain".to_owned()));
                    }
                }
            }
            "hostile-member" => {
                let trick = word(&need(&mut w.trick, &kind, "trick")?, MEMBER_TRICKS).map_err(wrong("trick"))?;
                if w.share.is_some() && !shares(trick) {
                    return Err(wrong("share")(
                        "this trick has no use for `share`: it is played all the time".to_owned(),
                    ));
                }
                let share = w.share.take().unwrap_or(Share(1.0)).0;
                match target(w)? {
                    Target::Node(node) => Kind::HostileMember { node, trick, share },
                    Target::Relay(_) | Target::Second(_) => {
                        return Err(wrong("target")("a hostile member is named like \"node 3\"".to_owned()));
                    }
                }
            }
            _ => {
                return Err(wrong("kind")(format!(
                    "{kind:?} is no kind of fault: crash, restart, partition, offline, flap, slow-path, break, cancel, \
                     roam, heal, slow-disk, stall-disk, full-disk, fail-sync, clock, add-device, \
                     remove-device, hostile-relay, hostile-member"
                )));
            }
        };
        let lasts = match (wire.lasts.take(), endless(&what)) {
            (Some(_), true) => return Err(wrong("lasts")(format!("a fault of kind {kind:?} has no use for `lasts`"))),
            (None, false) => {
                let what = format!("a fault of kind {kind:?} needs the key `lasts`: a time, or {TO_THE_END:?}");
                return Err(wrong("lasts")(what));
            }
            (Some(Lasts::For(time)), false) => time,
            (Some(Lasts::ToTheEnd), false) | (None, true) => Duration::ZERO,
        };
        match wire.left_over() {
            Some(key) => Err(wrong(key)(format!("a fault of kind {kind:?} has no use for `{key}`"))),
            None => Ok(Self { at: wire.at.0, lasts, kind: what }),
        }
    }
}

/// Whether a trick can be played on a share of what passes. A clock that lies does so in all it says.
fn shares(trick: MemberTrick) -> bool {
    trick != MemberTrick::Clocks
}

/// What strikes and is over.
const fn endless(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Break { .. }
            | Kind::Cancel { .. }
            | Kind::Roam { .. }
            | Kind::AddDevice { .. }
            | Kind::RemoveDevice { .. }
            | Kind::Heal
    )
}

impl Wire {
    /// A key that nothing took.
    fn left_over(&self) -> Option<&'static str> {
        [
            ("target", self.target.is_some()),
            ("between", self.between.is_some()),
            ("ways", self.ways.is_some()),
            ("point", self.point.is_some()),
            ("keep", self.keep.is_some()),
            ("down", self.down.is_some()),
            ("up", self.up.is_some()),
            ("by", self.by.is_some()),
            ("times", self.times.is_some()),
            ("ahead", self.ahead.is_some()),
            ("behind", self.behind.is_some()),
            ("drift_ppm", self.drift_ppm.is_some()),
            ("trick", self.trick.is_some()),
            ("share", self.share.is_some()),
        ]
        .into_iter()
        .find_map(|(key, there)| there.then_some(key))
    }
}

impl From<Fault> for Wire {
    fn from(fault: Fault) -> Self {
        let name_of = fault.kind.name().to_owned();
        let mut wire = Self { at: Span(fault.at), kind: name_of, ..Self::default() };
        let lasts = if fault.lasts.is_zero() { Lasts::ToTheEnd } else { Lasts::For(fault.lasts) };
        wire.lasts = (!endless(&fault.kind)).then_some(lasts);
        match fault.kind {
            Kind::Crash { target, point, keep } => {
                wire.target = Some(target.to_string());
                wire.point = point_text(point);
                wire.keep = (keep != Keep::Drawn).then(|| name(&keep, KEEPS)).flatten();
            }
            Kind::Partition { between, ways } => {
                wire.between = Some(between.map(|target| target.to_string()));
                wire.ways = (ways != Ways::Both).then(|| name(&ways, WAYS)).flatten();
            }
            Kind::Flap { between, down, up } => {
                wire.between = Some(between.map(|target| target.to_string()));
                (wire.down, wire.up) = (Some(Span(down)), Some(Span(up)));
            }
            Kind::SlowPath { between, by } => {
                wire.between = Some(between.map(|target| target.to_string()));
                wire.by = Some(Span(by));
            }
            Kind::Break { target, point } | Kind::Cancel { target, point } => {
                (wire.target, wire.point) = (Some(target.to_string()), point_text(point));
            }
            Kind::Heal => {}
            Kind::SlowDisk { target, times } => {
                (wire.target, wire.times) = (Some(target.to_string()), Some(times));
            }
            Kind::Offline { target }
            | Kind::Restart { target }
            | Kind::Roam { target }
            | Kind::StallDisk { target }
            | Kind::FullDisk { target }
            | Kind::FailSync { target } => wire.target = Some(target.to_string()),
            Kind::Clock { target, ahead_ms, drift_ppm } => {
                wire.target = Some(target.to_string());
                let span = Span(std::time::Duration::from_millis(ahead_ms.unsigned_abs()));
                match ahead_ms.signum() {
                    1 => wire.ahead = Some(span),
                    -1 => wire.behind = Some(span),
                    _ => {}
                }
                wire.drift_ppm = (drift_ppm != 0).then_some(drift_ppm);
            }
            Kind::AddDevice { node } | Kind::RemoveDevice { node } => {
                wire.target = Some(Target::Node(node).to_string());
            }
            Kind::HostileRelay { relay, trick, share } => {
                wire.target = Some(relay.to_string());
                (wire.trick, wire.share) = (name(&trick, RELAY_TRICKS), Some(Share(share)));
            }
            Kind::HostileMember { node, trick, share } => {
                wire.target = Some(Target::Node(node).to_string());
                (wire.trick, wire.share) = (name(&trick, MEMBER_TRICKS), shares(trick).then_some(Share(share)));
            }
        }
        wire
    }
}
