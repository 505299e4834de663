//! Cards: people who put up what they are called, from either of their devices, and friends who look.
//! Owns: who does so when, by the seed; every card that was put up, and what was answered; what a look must show at least.
//! Never: looks into a relay or a node: what somebody is shown is what their node answers.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_node::api::{Command, CommandError, Reply};

use super::people::{AGAIN, Asked};
use super::{Event, Meeting, World, devices};
use crate::engine::{Entity, Stream};
use crate::net::ProcessNo;
use crate::scenario::Friends;

/// Somebody puts a card up, or a friend looks, so long after the last time, on average.
const EVERY: Duration = Duration::from_secs(60);
/// When all is whole everybody who looks has been shown the newest by then.
const SHOWN: Duration = Duration::from_secs(180);

/// Somebody who has a card.
#[derive(Debug)]
struct Owner {
    who: ProcessNo,
    habit: Stream,
}

/// A card that was put up.
#[derive(Debug)]
struct Card {
    owner: ProcessNo,
    by: ProcessNo,
    text: String,
    /// Its revision, once the owner was answered that it is up.
    up: Option<u64>,
}

/// Somebody looks at a card.
#[derive(Clone, Copy, Debug)]
struct Look {
    by: ProcessNo,
    of: ProcessNo,
    /// The revision of the newest that was answered for when they looked.
    least: u64,
}

/// The cards of a world.
#[derive(Debug, Default)]
pub(super) struct Cards {
    owners: Vec<Owner>,
    cards: Vec<Card>,
    looks: Vec<Look>,
    /// Who was shown which revision of whose card since the last look of everybody began.
    shown: BTreeMap<(ProcessNo, ProcessNo), u64>,
}

impl Cards {
    /// The revision of the newest that its owner was answered for, and the device that put it up.
    fn newest(&self, owner: ProcessNo) -> Option<(u64, ProcessNo)> {
        let up = self.cards.iter().filter(|card| card.owner == owner);
        up.filter_map(|card| Some((card.up?, card.by))).max()
    }
}

impl World {
    /// Draws who has a card.
    pub(super) fn name(&mut self, people: &[ProcessNo], friends: &Friends) {
        let mut stream = self.seed.stream(Entity::World, "cards");
        for who in people.iter().copied().filter(|_| stream.happens(friends.cards.0)) {
            self.add_card_owner(who);
        }
    }

    pub(super) fn add_card_owner(&mut self, who: ProcessNo) {
        let mut habit = self.seed.stream(Entity::Process(who), "card");
        let first = self.workload.arrive.0 + habit.exponential(EVERY);
        let card = self.cards.owners.len();
        self.cards.owners.push(Owner { who, habit });
        self.engine.after(first, Event::Card { card });
    }

    /// It is time for somebody's card: they put up another, or somebody looks at it.
    pub(super) fn card(&mut self, number: usize) {
        let Some(owner) = self.cards.owners.get_mut(number) else { return };
        let (who, puts, wait) = (owner.who, owner.habit.happens(0.4), owner.habit.exponential(EVERY));
        let place = owner.habit.bits();
        if !self.lively {
            return;
        }
        self.engine.after(wait, Event::Card { card: number });
        let among = if puts { self.devices_of(who) } else { self.onlookers(who) };
        let Some(by) = among.get(place as usize % among.len().max(1)).copied().filter(|by| self.is_awake(*by)) else {
            return;
        };
        if puts { self.put_card_up(by, who) } else { self.look_at_card(by, who) }
    }

    /// Somebody puts another card up, from one of their devices.
    pub(super) fn put_card_up(&mut self, by: ProcessNo, owner: ProcessNo) {
        let number = self.cards.cards.len();
        let text = format!("p{owner}, the {number}th card of this world");
        self.cards.cards.push(Card { owner, by, text: text.clone(), up: None });
        self.command(by, Command::SetProfile { display: text, about: None }, Asked::Card(number));
    }

    /// Somebody looks at a card.
    pub(super) fn look_at_card(&mut self, by: ProcessNo, of: ProcessNo) {
        let Some(account) = self.node(of).map(|node| node.account) else { return };
        let least = self.cards.newest(of).map_or(0, |(revision, _)| revision);
        let number = self.cards.looks.len();
        self.cards.looks.push(Look { by, of, least });
        self.command(by, Command::Profile(account), Asked::Look(number));
    }

    /// A device was answered whether its card is up. Of what was not it is not known: the answer may have been lost.
    pub(super) fn card_is_up(&mut self, number: usize, result: Result<Reply, CommandError>) {
        if let (Some(card), Ok(Reply::Profile(up))) = (self.cards.cards.get_mut(number), result) {
            card.up = Some(up.revision);
        }
    }

    /// Somebody was shown a card, or none.
    pub(super) fn card_is_shown(&mut self, number: usize, result: Result<Reply, CommandError>) {
        let (Some(look), Ok(Reply::Profile(card))) = (self.cards.looks.get(number).copied(), result) else { return };
        let Look { by, of, least } = look;
        self.struck.cards += 1;
        let wrote = |one: &&Card| one.owner == of && one.text == card.display;
        let Some(known) = self.cards.cards.iter().find(wrote) else { return self.ledger.strange_card(by, of) };
        // Answered for under one revision, shown under another.
        if known.up.is_some_and(|up| up != card.revision) {
            return self.ledger.strange_card(by, of);
        }
        if card.revision < least && self.tells_truly(by) && self.tells_truly(of) {
            return self.ledger.stale_card(by, of);
        }
        self.cards.shown.insert((by, of), card.revision);
    }

    /// Whether the relay of somebody, and they themselves, are honest.
    fn tells_truly(&self, who: ProcessNo) -> bool {
        let home = self.node(who).map(|node| node.home);
        let owner = self.owner_of(who).unwrap_or(who);
        home.is_some_and(|home| self.ledger.is_honest(home)) && self.ledger.is_honest(owner)
    }

    /// The devices of somebody that are on their account.
    fn devices_of(&self, who: ProcessNo) -> Vec<ProcessNo> {
        let second = self.seconds.iter().filter(|one| one.owner == who && one.stage == devices::Stage::Linked);
        [who].into_iter().chain(second.map(|one| one.device)).collect()
    }

    /// Who may look at somebody's card: they themselves, and whoever is their friend and has never parted with them.
    fn onlookers(&self, who: ProcessNo) -> Vec<ProcessNo> {
        let met = self.pairs.iter().filter(|pair| matches!(pair.meeting, Meeting::Met));
        let friends = met.filter_map(|pair| pair.other_than(who));
        let parted = |other: &ProcessNo| {
            self.partings.iter().any(|one| [(one.owner, one.other), (one.other, one.owner)].contains(&(who, *other)))
        };
        self.devices_of(who).into_iter().chain(friends.filter(|other| !parted(other))).collect()
    }

    /// When all is whole everybody who may looks at every card that somebody was answered for, and must be shown the newest.
    pub(super) fn look_at_cards(&mut self) {
        let mut looks = Vec::new();
        for of in self.cards.owners.iter().map(|owner| owner.who).collect::<Vec<_>>() {
            let Some((_, by)) = self.cards.newest(of) else { continue };
            // What a device signed that is none of theirs any more, nobody shows.
            if !self.devices_of(of).contains(&by) || !self.tells_truly(of) {
                continue;
            }
            let onlookers = self.onlookers(of).into_iter().filter(|by| self.tells_truly(*by) && self.is_awake(*by));
            looks.extend(onlookers.map(|by| (by, of)));
        }
        self.cards.shown.clear();
        let bound = self.engine.now().plus(SHOWN);
        while !looks.is_empty() && self.engine.now() < bound {
            for (by, of) in &looks {
                self.look_at_card(*by, *of);
            }
            self.run_for(AGAIN * 5);
            looks.retain(|pair| !self.cards.shown.contains_key(pair));
        }
        looks.into_iter().for_each(|(by, of)| self.ledger.unshown_card(by, of));
    }
}
