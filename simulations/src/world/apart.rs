//! Apart: people who end that somebody reaches or sees them, and people who hide.
//! Owns: who does so to whom and when, by the seed; what they ask their nodes for, again if need be.
//! Never: looks into a node; a person knows that it is done when their node says so.

use std::time::Duration;

use whimbrel_node::api::Command;
use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::user::Who;

use super::people::{AGAIN, Asked};
use super::{Event, Meeting, World};
use crate::engine::Entity;
use crate::judge::ledger::How;
use crate::net::ProcessNo;
use crate::scenario::Friends;

/// One of two friends ends it.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) owner: ProcessNo,
    pub(super) other: ProcessNo,
    pub(super) how: How,
    pub(super) stage: Stage,
}

/// Somebody hides from everybody, or is seen again.
#[derive(Debug)]
pub(super) struct Hiding {
    pub(super) who: ProcessNo,
    pub(super) hidden: bool,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nobody was told yet.
    Meant,
    /// The node is to be asked again.
    Begun,
    /// The node is at it.
    Asked,
    Done,
}

impl World {
    /// Draws who parts from whom, and who hides for how long. Who shares a group stays: its people decide about it.
    pub(super) fn estrange(&mut self, people: &[ProcessNo], friends: &Friends, duration: Duration) {
        let begin = self.workload.arrive.0;
        let end = duration.max(begin);
        let mut stream = self.seed.stream(Entity::World, "partings");
        let pairs: Vec<_> = self.pairs.iter().map(|pair| (pair.inviter, pair.accepter)).collect();
        for (inviter, accepter) in pairs {
            if !stream.happens(friends.partings.0) {
                continue;
            }
            let (owner, other) = if stream.happens(0.5) { (inviter, accepter) } else { (accepter, inviter) };
            let how = stream.pick(&[How::Remove, How::Block, How::Hide]).copied().unwrap_or(How::Remove);
            let at = stream.between(begin, end);
            let grouped = self.groups.iter().any(|group| [owner, other].iter().all(|one| group.people.contains(one)));
            if !grouped {
                self.part_after(at, owner, other, how);
            }
        }
        let mut stream = self.seed.stream(Entity::World, "hiding");
        for who in people {
            if !stream.happens(friends.hidden.0) {
                continue;
            }
            let (at, emerges) = (stream.between(begin, end), stream.happens(0.5));
            self.hide_after(at, *who, true);
            if emerges {
                let at = stream.between(at, end);
                self.hide_after(at, *who, false);
            }
        }
    }

    /// Somebody will end that a friend reaches or sees them.
    pub fn part_after(&mut self, wait: Duration, owner: ProcessNo, other: ProcessNo, how: How) {
        let parting = self.partings.len();
        self.partings.push(Parting { owner, other, how, stage: Stage::Meant });
        self.engine.after(wait, Event::Part { parting });
    }

    /// Somebody will hide from everybody, or be seen again.
    pub fn hide_after(&mut self, wait: Duration, who: ProcessNo, hidden: bool) {
        let hiding = self.hidings.len();
        self.hidings.push(Hiding { who, hidden, stage: Stage::Meant });
        self.engine.after(wait, Event::Hide { hiding });
    }

    /// One of two who met tells their node, if it can be told now. What was begun goes on when the world heals.
    pub(super) fn part(&mut self, number: usize) {
        let Some(Parting { owner, other, how, stage }) = self.partings.get(number) else { return };
        let (owner, other, how, stage) = (*owner, *other, *how, *stage);
        if matches!(stage, Stage::Asked | Stage::Done) || (stage == Stage::Meant && !self.lively) {
            return;
        }
        let met = self.pairs.iter().filter(|pair| pair.other_than(owner) == Some(other));
        let met = met.fold(None, |met, pair| Some(met.unwrap_or(true) && matches!(pair.meeting, Meeting::Met)));
        let Some((account, domain)) = self.found_at(other) else { return };
        if met != Some(true) || !self.is_awake(owner) {
            return self.engine.after(AGAIN, Event::Part { parting: number });
        }
        if stage == Stage::Meant {
            self.struck.partings += 1;
            self.ledger.ends(owner, other, how);
        }
        let command = match how {
            How::Remove => Command::RemoveFriend(account),
            How::Block => Command::Block { who: Who::Account(account, domain), blocked: true },
            How::Hide => Command::LetSee { account, allowed: false },
        };
        if how != How::Hide {
            self.forget(owner, other);
        }
        if let Some(parting) = self.partings.get_mut(number) {
            parting.stage = Stage::Asked;
        }
        self.command(owner, command, Asked::Part(number));
    }

    /// The node of whoever parts answered, or died.
    pub(super) fn parted(&mut self, number: usize, done: bool) {
        let now = self.engine.now();
        let Some(parting) = self.partings.get_mut(number) else { return };
        tracing::debug!(number, ?parting, done, at = now.nanos(), "a parting was answered");
        if done {
            parting.stage = Stage::Done;
            self.ledger.ended(parting.owner, parting.other, now);
        } else {
            parting.stage = Stage::Begun;
            self.engine.after(AGAIN, Event::Part { parting: number });
        }
    }

    /// Somebody tells their node to hide them, or to show them again, one after the other.
    pub(super) fn hide(&mut self, number: usize) {
        let Some(Hiding { who, hidden, stage }) = self.hidings.get(number) else { return };
        let (who, hidden, stage) = (*who, *hidden, *stage);
        if matches!(stage, Stage::Asked | Stage::Done) || (stage == Stage::Meant && !self.lively) {
            return;
        }
        let waits = self.hidings.iter().take(number).any(|before| before.who == who && before.stage != Stage::Done);
        if waits || !self.is_awake(who) {
            return self.engine.after(AGAIN, Event::Hide { hiding: number });
        }
        if stage == Stage::Meant {
            self.struck.hidings += 1;
            self.ledger.hides(who, hidden);
        }
        if let Some(hiding) = self.hidings.get_mut(number) {
            hiding.stage = Stage::Asked;
        }
        self.command(who, Command::SetVisible(!hidden), Asked::Hide(number));
    }

    /// The node of whoever hides answered, or died.
    pub(super) fn hid(&mut self, number: usize, done: bool) {
        let now = self.engine.now();
        let Some(hiding) = self.hidings.get_mut(number) else { return };
        tracing::debug!(number, ?hiding, done, at = now.nanos(), "a hiding was answered");
        if done {
            hiding.stage = Stage::Done;
            self.ledger.hid(hiding.who, hiding.hidden, now);
        } else {
            hiding.stage = Stage::Begun;
            self.engine.after(AGAIN, Event::Hide { hiding: number });
        }
    }

    /// Somebody writes to somebody no more.
    pub(super) fn forget(&mut self, who: ProcessNo, other: ProcessNo) {
        if let Some(person) = self.person_mut(who) {
            person.threads.retain(|(known, _)| *known != other);
        }
    }

    /// By which account, and where, somebody is found.
    pub(super) fn found_at(&self, who: ProcessNo) -> Option<(AccountId, Domain)> {
        let (account, home) = self.node(who).map(|node| (node.account, node.home))?;
        let domain = self.relays().find(|relay| relay.no == home).map(|relay| relay.domain.clone())?;
        Some((account, domain))
    }
}
