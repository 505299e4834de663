//! Tokens: operators who let in only whom they gave one, and the people who come with theirs.
//! Owns: which tokens each operator makes and takes back, to whom they are handed, by the seed; the count at the end of who
//! came in by which. Never: keeps anybody out; the relay does, and the judge compares it with what its operator did.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_protocol::id::InviteToken;
use whimbrel_protocol::time::Wall;
use whimbrel_relay::store::command::people::NewRegistration;
use whimbrel_relay::store::{Command, kv};

use super::{Event, Process, RESTART, World};
use crate::engine::{Entity, Stream, Time};
use crate::net::ProcessNo;
use crate::scenario::Tokens;

/// An operator looks after a token so often.
const LOOK: Duration = Duration::from_millis(500);
/// Whoever heard no answer by then asks again.
const ANSWERED: Duration = Duration::from_secs(5);
/// A good token holds for longer than any clock is wrong.
const GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// One that is to be over when it is shown holds for so long, and is handed over after twice that.
const SHORT: Duration = Duration::from_secs(2);
/// Whoever was turned away has asked their operator for another by then.
const ASKED: Duration = Duration::from_secs(20);

/// What becomes of a token before anybody has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It is good.
    Good,
    /// It is over.
    Expires,
    /// It is taken back.
    Revoked,
    /// No operator ever made it.
    MadeUp,
}

/// How far its operator is with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Wanted,
    /// The relay was asked to take it, then, in which question.
    Making(Time, usize),
    /// It is there since then.
    Made(Time),
    /// The relay was asked to take it back.
    Revoking(Time, usize),
    /// People have it.
    Handed,
}

#[derive(Debug)]
struct Token {
    relay: ProcessNo,
    token: InviteToken,
    uses: u32,
    fate: Fate,
    stage: Stage,
    expires: Option<Wall>,
    /// For whom it is.
    people: Vec<ProcessNo>,
    /// How often somebody was turned away with it.
    refused: u32,
}

/// The operators of a world and what they made.
#[derive(Debug, Default)]
pub(super) struct Operators {
    tokens: Vec<Token>,
    /// The token that each person whose relay asks for one was handed last; none: nothing yet.
    people: BTreeMap<ProcessNo, Option<usize>>,
    /// Who was turned away, and for whom another is made.
    again: BTreeMap<ProcessNo, usize>,
    questions: usize,
}

fn made_up(stream: &mut Stream) -> InviteToken {
    let mut bytes = [0; InviteToken::LEN];
    stream.chance().fill(&mut bytes);
    InviteToken::from_bytes(bytes)
}

impl World {
    /// A relay takes in whoever shows a token of its operator, who makes them for all who live there.
    pub(super) fn let_in_by_token(&mut self, relay: ProcessNo, people: &[ProcessNo], tokens: Tokens) {
        let Some(Process::Relay(process)) = self.processes.get_mut(relay as usize) else { return };
        process.by_token = true;
        let mut stream = self.seed.stream(Entity::Process(relay), "tokens");
        let [least, most] = tokens.uses;
        let (mut uses, mut good, mut flawed) = (0, Vec::new(), Vec::new());
        for who in people {
            self.operators.people.insert(*who, None);
            let (first, kind) = (stream.happens(tokens.flawed.0), stream.below(5));
            let fate = match (first, kind) {
                (true, 0) => Some(Fate::Expires),
                (true, 1) => Some(Fate::Revoked),
                (true, 2) => Some(Fate::MadeUp),
                // With none at all.
                (true, 3) => None,
                _ => Some(Fate::Good),
            };
            match fate {
                // One more than it lets in.
                Some(Fate::Good) if first && !good.is_empty() => good.push(*who),
                Some(Fate::Good) => {
                    if uses > 0 && good.len() as u32 >= uses {
                        self.add_token(&mut stream, relay, (uses, Fate::Good), std::mem::take(&mut good));
                        uses = 0;
                    }
                    if uses == 0 {
                        uses = least + stream.below(u64::from(most - least) + 1) as u32;
                    }
                    good.push(*who);
                }
                Some(fate) => flawed.push((fate, *who)),
                None => {}
            }
        }
        if !good.is_empty() {
            self.add_token(&mut stream, relay, (uses, Fate::Good), good);
        }
        for (fate, who) in flawed {
            self.add_token(&mut stream, relay, (1, fate), vec![who]);
        }
    }

    fn add_token(&mut self, stream: &mut Stream, relay: ProcessNo, (uses, fate): (u32, Fate), people: Vec<ProcessNo>) {
        let (number, token) = (self.operators.tokens.len(), made_up(stream));
        let stage = if fate == Fate::MadeUp { Stage::Made(Time::ZERO) } else { Stage::Wanted };
        self.operators.tokens.push(Token { relay, token, uses, fate, stage, expires: None, people, refused: 0 });
        self.engine.at(self.engine.now(), Event::Token { token: number });
    }

    /// An operator comes a step further with a token.
    pub(super) fn token(&mut self, number: usize) {
        let now = self.engine.now();
        let Some(token) = self.operators.tokens.get(number) else { return };
        let (relay, stage, fate) = (token.relay, token.stage, token.fate);
        let Some(Process::Relay(process)) = self.processes.get(relay as usize) else { return };
        let done = |question| process.has_done(question);
        let next = match stage {
            Stage::Wanted => self.make(number),
            Stage::Making(_, question) if done(question) => Some(Stage::Made(now)),
            Stage::Revoking(_, question) if done(question) => {
                self.hand_out(number);
                return;
            }
            Stage::Made(_) if fate == Fate::Revoked => self.take_back(number),
            Stage::Made(since) if fate == Fate::Expires && now < since.plus(2 * SHORT) => None,
            Stage::Made(_) => {
                self.hand_out(number);
                return;
            }
            // The relay died over it, or its disk has no room.
            Stage::Making(since, _) if now >= since.plus(ANSWERED) => self.make(number),
            Stage::Revoking(since, _) if now >= since.plus(ANSWERED) => self.take_back(number),
            Stage::Making(..) | Stage::Revoking(..) => None,
            Stage::Handed => return,
        };
        if let (Some(next), Some(token)) = (next, self.operators.tokens.get_mut(number)) {
            token.stage = next;
        }
        self.engine.after(LOOK, Event::Token { token: number });
    }

    /// An operator asks their relay for something; by its number they know whether it is done.
    fn ask_relay(&mut self, relay: ProcessNo, command: impl FnOnce(Wall) -> Command) -> Option<(Time, usize)> {
        let now = self.engine.now();
        let Some(Process::Relay(process)) = self.processes.get_mut(relay as usize) else { return None };
        if !process.is_open() {
            return None;
        }
        self.operators.questions += 1;
        let question = self.operators.questions;
        let wall = process.clock.now(now).wall;
        process.operate(now, question, command(wall));
        self.go_on(relay, Ok(()));
        Some((now, question))
    }

    fn make(&mut self, number: usize) -> Option<Stage> {
        let Token { relay, token, uses, fate, expires, .. } = self.operators.tokens.get(number)?;
        let (relay, hash, uses, expires) = (*relay, token.hash(), *uses, *expires);
        let holds = if *fate == Fate::Expires { SHORT } else { GOOD };
        let mut until = expires;
        let asked = self.ask_relay(relay, |at| {
            // Asked again, it is the same.
            let expires = expires.unwrap_or(Wall::from_millis(at.as_millis() + holds.as_millis() as u64));
            until = Some(expires);
            Command::NewRegistration(NewRegistration { token: hash, uses, expires, at })
        });
        if let Some(token) = self.operators.tokens.get_mut(number) {
            token.expires = until;
        }
        asked.map(|(at, question)| Stage::Making(at, question))
    }

    fn take_back(&mut self, number: usize) -> Option<Stage> {
        let Token { relay, token, .. } = self.operators.tokens.get(number)?;
        let (relay, hash) = (*relay, token.hash());
        let asked = self.ask_relay(relay, |_| Command::RevokeRegistration(hash));
        asked.map(|(at, question)| Stage::Revoking(at, question))
    }

    /// Those whom a token is for have it. Whoever was turned away meanwhile gets another and keeps that.
    fn hand_out(&mut self, number: usize) {
        let Some(token) = self.operators.tokens.get_mut(number) else { return };
        token.stage = Stage::Handed;
        let (shown, people) = (token.token, token.people.clone());
        for who in people {
            if self.operators.again.get(&who).is_some_and(|other| *other != number) {
                continue;
            }
            self.operators.people.insert(who, Some(number));
            if let Some(Process::Node(node, _)) = self.processes.get_mut(who as usize) {
                node.registration = Some(shown);
            }
            // Their program reads it when it starts.
            if self.is_running(who) {
                self.stop(who);
                self.engine.after(RESTART, Event::Start { process: who });
            }
        }
    }

    /// Somebody's relay turned them away: they ask its operator for a token, who makes one for them alone.
    pub(super) fn turned_away(&mut self, who: ProcessNo) {
        let Some(handed) = self.operators.people.get(&who).copied() else { return };
        self.struck.turned_away += 1;
        if let Some(token) = handed.and_then(|number| self.operators.tokens.get_mut(number)) {
            token.refused += 1;
        }
        let Some(home) = self.node(who).map(|node| node.home) else { return };
        if self.operators.again.contains_key(&who) {
            return;
        }
        let number = self.operators.tokens.len();
        self.operators.again.insert(who, number);
        let mut stream = self.seed.stream(Entity::Process(who), "another token");
        let token = made_up(&mut stream);
        let (fate, stage) = (Fate::Good, Stage::Wanted);
        self.operators.tokens.push(Token {
            relay: home,
            token,
            uses: 1,
            fate,
            stage,
            expires: None,
            people: vec![who],
            refused: 0,
        });
        self.engine.after(stream.between(Duration::ZERO, ASKED), Event::Token { token: number });
    }

    /// At the end: everybody came in, each by a good token, by none more than it lets in; and whoever was turned away with a
    /// good one, it had let in as many as it may.
    pub(super) fn count_tokens(&mut self) {
        // An expired one holds where a clock was set back.
        let clocks = self.struck.clock_faults > 0;
        let mut came: BTreeMap<usize, u32> = BTreeMap::new();
        let people: Vec<_> = self.operators.people.iter().map(|(who, token)| (*who, *token)).collect();
        for (who, handed) in people {
            let Some((account, home)) = self.node(who).map(|node| (node.account, node.home)) else { continue };
            if self.ends(who) || !self.ledger.is_honest(home) || !self.ledger.is_honest(who) {
                continue;
            }
            let Some(Process::Relay(relay)) = self.processes.get(home as usize) else { continue };
            let Some(reads) = relay.reads() else { continue };
            match kv::account(reads, account) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.ledger.kept_out(who);
                    continue;
                }
                Err(error) => {
                    self.ledger.stopped(home, error.to_string());
                    continue;
                }
            }
            let good =
                handed.and_then(|number| self.operators.tokens.get(number)).is_some_and(|token| match token.fate {
                    Fate::Good => true,
                    Fate::Expires => clocks,
                    Fate::Revoked | Fate::MadeUp => false,
                });
            if !good {
                self.ledger.came_uninvited(home, who);
            }
            if let Some(number) = handed {
                *came.entry(number).or_default() += 1;
            }
        }
        for (number, token) in self.operators.tokens.iter().enumerate().filter(|(_, token)| token.fate == Fate::Good) {
            let came = came.get(&number).copied().unwrap_or_default();
            // Of those who are hostile, or end their account, it is not known by what they came in.
            let known = |who: &ProcessNo| self.ledger.is_honest(*who) && !self.ends(*who);
            let all_known = self.ledger.is_honest(token.relay) && token.people.iter().all(known);
            if came > token.uses {
                self.ledger.came_too_many(token.relay, token.uses, came);
            } else if token.refused > 0 && came < token.uses && all_known {
                self.ledger.turned_away(token.relay, token.uses, came);
            }
        }
    }
}
