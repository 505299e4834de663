//! People: who knows whom, and what they do with their nodes.
//! Owns: meetings (invite, hand over, accept, again if need be) and the habit of writing.
//! Never: looks into a node; people know what they were told.

use std::time::Duration;

use whimbrel_node::api::{Command, CommandError, Reply, Ticket};
use whimbrel_protocol::id::ThreadId;
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::user::Who;

use super::{Event, Process, World};
use crate::engine::Stream;
use crate::judge::ledger::SaidNo;
use crate::net::ProcessNo;
use crate::scenario::{Burst, Churn, Workload};

/// Between two tries of something that did not work.
pub(super) const AGAIN: Duration = Duration::from_secs(2);
/// Between two tries of something that was no proof: whoever asks at once gets the same.
const LATER: Duration = Duration::from_secs(60);
/// From one person's screen to another's: an invite is a link people send each other.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long an invite holds.
pub(super) const INVITE_HOLDS: Duration = Duration::from_secs(24 * 3_600);

/// One person.
#[derive(Debug)]
pub(super) struct Person {
    /// When they write, to whom, how much.
    pub(super) habit: Stream,
    /// What they do about what was said.
    pub(super) afterthoughts: Stream,
    /// When they come and go.
    pub(super) comings: Stream,
    pub(super) churn: Option<Churn>,
    /// Whom they can write to, in the order they met, and in which thread.
    pub(super) threads: Vec<(ProcessNo, ThreadId)>,
    /// The groups they are in, by the others in it, in ascending order.
    pub(super) groups: Vec<(Vec<ProcessNo>, ThreadId)>,
    /// The groups they are or were in whose members change.
    pub(super) circles: Vec<ThreadId>,
    /// What they asked their node and wait to hear of.
    pub(super) asked: Vec<(Ticket, Asked)>,
    /// What came of what they asked `About` something, and of invites they took up, in that order: stories look at it.
    #[cfg(test)]
    pub(super) about: Vec<Result<Reply, CommandError>>,
}

/// What somebody asked their node for.
#[derive(Debug)]
pub(super) enum Asked {
    Invite(usize),
    Accept(usize),
    /// A text into a thread that is there.
    Send(SaidNo),
    /// A text to people there may be no thread of yet.
    Open(SaidNo),
    /// To be friends.
    Befriend(usize),
    /// Says yes to that.
    Agree(usize),
    /// To end that a friend reaches or sees them.
    Part(usize),
    /// To be hidden from everybody, or seen again.
    Hide(usize),
    /// To make a group.
    Form(usize),
    /// To change one.
    Change(usize),
    /// An admin more, or one less, of a group.
    Role(usize),
    /// For a link into one, for somebody.
    Link(usize, ProcessNo),
    /// To be taken into one by a link.
    Follow(usize),
    /// To take somebody out of one.
    TakeOut(usize, ThreadId, ProcessNo),
    /// To end their account.
    End(usize),
    /// To take a second device in.
    Approve(usize),
    /// To take it off again.
    TakeOff(usize),
    /// A text, from a second device.
    SendFrom(SaidNo),
    /// For what their relay keeps of them.
    Export(usize),
    /// To name where they are woken, or to bring back what came there.
    Wake(usize),
    /// To put a card up.
    Card(usize),
    /// For a card.
    Look(usize),
    /// To say something about a message, or how a thread is to be.
    About,
}

impl Asked {
    /// The group that is to be made, or to change.
    pub(super) const fn circle(&self) -> Option<usize> {
        match self {
            Self::Form(number) | Self::Change(number) | Self::Role(number) | Self::TakeOut(number, ..) => Some(*number),
            Self::Link(number, _) | Self::Follow(number) => Some(*number),
            _ => None,
        }
    }
}

/// Two people on their way to each other.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) inviter: ProcessNo,
    pub(super) accepter: ProcessNo,
    /// By a friend request, not by an invite.
    pub(super) by_request: bool,
    pub(super) meeting: Meeting,
    /// A clock that lies made what the accepter was handed no proof, and each try costs one of a few keys an hour: they
    /// may not meet in this run.
    pub(super) untimely: bool,
}

impl Pair {
    /// The other one, if somebody is one of them.
    pub(super) fn other_than(&self, one: ProcessNo) -> Option<ProcessNo> {
        match one {
            one if one == self.inviter => Some(self.accepter),
            one if one == self.accepter => Some(self.inviter),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum Meeting {
    /// The invite is to be made.
    Apart,
    /// The inviter's node is making it.
    Inviting,
    /// The accepter has it.
    Handed(Invite),
    /// The accepter's node is taking it up.
    Accepting(Invite),
    /// The inviter's node asks.
    Requesting,
    /// It asked, and the accepter looks for it.
    Requested,
    /// The accepter's node agrees.
    Agreeing,
    /// They are friends; the accepter writes first.
    Friends,
    Met,
}

impl Person {
    /// Writes down in which thread somebody is reached; the first stays.
    pub(super) fn meets(&mut self, other: ProcessNo, thread: ThreadId) {
        if self.threads.iter().all(|(known, _)| *known != other) {
            self.threads.push((other, thread));
        }
    }
}

impl Person {
    /// Writes down in which thread a group is reached; the first stays.
    pub(super) fn joins(&mut self, mut others: Vec<ProcessNo>, thread: ThreadId) {
        others.sort_unstable();
        if self.groups.iter().all(|(known, _)| *known != others) {
            self.groups.push((others, thread));
        }
    }
}

/// People who are to be in one thread.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// All of them.
    pub(super) people: Vec<ProcessNo>,
    /// Those who open it, at the same moment.
    pub(super) openers: Vec<ProcessNo>,
}

/// A text of this length that nobody says twice, with the mark of the run.
pub(super) fn text(mark: &str, number: u64, length: usize) -> String {
    let mut text = format!("{mark} {number}: ");
    text.extend(std::iter::repeat_n('.', length.saturating_sub(text.len())));
    text
}

impl World {
    /// Two people come one step closer.
    pub(super) fn meet(&mut self, number: usize) {
        let Some(pair) = self.pairs.get(number) else { return };
        let (inviter, accepter) = (pair.inviter, pair.accepter);
        if self.ends(inviter) || self.ends(accepter) {
            return;
        }
        if matches!(pair.meeting, Meeting::Friends) {
            return self.first_word(number, accepter, inviter);
        }
        let (who, command, asked, next) = match &pair.meeting {
            Meeting::Apart if pair.by_request => {
                let Some((account, domain)) = self.found_at(accepter) else { return };
                let command = Command::Befriend { who: Who::Account(account, domain), note: Some("hello".to_owned()) };
                (inviter, command, Asked::Befriend(number), Meeting::Requesting)
            }
            Meeting::Requested => {
                let Some((account, _)) = self.found_at(inviter) else { return };
                (accepter, Command::AcceptFriend(account), Asked::Agree(number), Meeting::Agreeing)
            }
            Meeting::Apart => {
                let command = Command::NewInvite { uses: 1, holds: INVITE_HOLDS, group: None };
                (inviter, command, Asked::Invite(number), Meeting::Inviting)
            }
            Meeting::Handed(invite) => {
                let next = Meeting::Accepting(invite.clone());
                (accepter, Command::AcceptInvite(invite.clone()), Asked::Accept(number), next)
            }
            Meeting::Inviting
            | Meeting::Accepting(_)
            | Meeting::Requesting
            | Meeting::Agreeing
            | Meeting::Friends
            | Meeting::Met => return,
        };
        if !self.is_awake(who) {
            return self.engine.after(AGAIN, Event::Meet { pair: number });
        }
        if let Some(pair) = self.pairs.get_mut(number) {
            pair.meeting = next;
        }
        self.command(who, command, asked);
    }

    /// Two who became friends by a request have a thread once one of them has written.
    fn first_word(&mut self, number: usize, who: ProcessNo, to: ProcessNo) {
        if self.can_write(who, to) {
            return self.met(number, Meeting::Met, Duration::ZERO);
        }
        let waits = self
            .person_mut(who)
            .is_some_and(|person| person.asked.iter().any(|(_, asked)| matches!(asked, Asked::Open(_))));
        if self.is_awake(who) && !waits && !self.hushed {
            self.spoken += 1;
            let text = text(self.ledger.canaries().mark(), self.spoken, 40);
            self.write_to(who, &[who, to], text);
        }
        self.engine.after(AGAIN, Event::Meet { pair: number });
    }

    /// A person's node answered.
    pub(super) fn answered(&mut self, who: ProcessNo, ticket: Ticket, result: Result<Reply, CommandError>) {
        let Some(person) = self.person_mut(who) else { return };
        let Some(at) = person.asked.iter().position(|(asked, _)| *asked == ticket) else {
            return self.ledger.stopped(who, "a command was answered twice, or one that was never given".to_owned());
        };
        let (_, asked) = person.asked.swap_remove(at);
        if let Err(error) = &result {
            tracing::debug!(who, ?asked, %error, "a command failed");
        }
        #[cfg(test)]
        if let (Asked::About | Asked::Accept(_), Some(person)) = (&asked, self.person_mut(who)) {
            person.about.push(result.clone());
        }
        match (asked, result) {
            (Asked::Send(said) | Asked::Open(said), Ok(Reply::Queued { message, .. })) => {
                self.ledger.queued(said, message);
            }
            (Asked::Send(said), _) => self.ledger.declined(said, false),
            // To open a thread takes relays that can be reached, one's own and those of the others, and keys that were
            // not asked for too often.
            (
                Asked::Open(said),
                Err(
                    CommandError::Unreachable(_)
                    | CommandError::NotRegistered
                    | CommandError::TooFast { .. }
                    | CommandError::Refused(RefusalCode::PeerUnreachable | RefusalCode::Busy | RefusalCode::TooFast),
                ),
            ) => self.ledger.declined(said, true),
            // And a key package that does not seem to have run out, which a clock that lies decides.
            (Asked::Open(said), Err(CommandError::Untrusted(_))) => {
                let clocks = self.struck.clock_faults > 0;
                // Friends by a request meet when the one who agreed has written.
                let writes = |pair: &&mut Pair| pair.accepter == who && matches!(pair.meeting, Meeting::Friends);
                self.pairs.iter_mut().filter(writes).for_each(|pair| pair.untimely |= clocks);
                self.ledger.declined(said, clocks);
            }
            // Somebody's account may have ended meanwhile.
            (Asked::Open(said), Err(CommandError::Refused(RefusalCode::NotFound))) => {
                let ends = self.somebody_ends();
                self.ledger.declined(said, ends);
            }
            (Asked::Open(said), _) => self.ledger.declined(said, false),
            (Asked::Invite(pair), Ok(Reply::Invite(invite))) => self.met(pair, Meeting::Handed(invite), HAND_OVER),
            (Asked::Invite(pair), _) => self.met(pair, Meeting::Apart, AGAIN),
            (Asked::Accept(number), Ok(Reply::Contact { thread, .. })) => {
                self.met(number, Meeting::Met, Duration::ZERO);
                if let Some(pair) = self.pairs.get(number) {
                    let inviter = pair.inviter;
                    self.ledger.thread(thread, [who, inviter].into(), who);
                    if let Some(person) = self.person_mut(who) {
                        person.meets(inviter, thread);
                    }
                }
            }
            // The relay is only out of reach, or what it said was no proof, or it was asked too often: the invite is still
            // good, or has given consent already. Otherwise a fresh one is asked for.
            (Asked::Accept(number), Err(CommandError::Untrusted(_))) => {
                let clocks = self.struck.clock_faults > 0;
                if let Some(pair) = self.pairs.get_mut(number) {
                    pair.untimely |= clocks;
                }
                self.hand_again(number, LATER);
            }
            (
                Asked::Accept(number),
                Err(
                    CommandError::Unreachable(_)
                    | CommandError::NotRegistered
                    | CommandError::TooFast { .. }
                    | CommandError::Refused(RefusalCode::TooFast | RefusalCode::Busy),
                ),
            ) => self.hand_again(number, AGAIN),
            (Asked::Accept(number), _) => self.met(number, Meeting::Apart, AGAIN),
            (Asked::Befriend(number), Ok(_)) => self.met(number, Meeting::Requested, HAND_OVER),
            (Asked::Befriend(number), _) => self.met(number, Meeting::Apart, AGAIN),
            (Asked::Agree(number), Ok(_)) => self.met(number, Meeting::Friends, Duration::ZERO),
            (Asked::Agree(number), _) => self.met(number, Meeting::Requested, AGAIN),
            (Asked::Part(number), result) => self.parted(number, result.is_ok()),
            (Asked::Hide(number), result) => self.hid(number, result.is_ok()),
            (Asked::Form(number), Ok(Reply::Group { thread })) => self.formed(number, who, thread),
            // Whom the relay does not know any more was deleted, and the answer was lost.
            (Asked::End(number), result) => {
                let gone = matches!(result, Ok(_) | Err(CommandError::Refused(RefusalCode::NotAuthenticated)));
                self.account_ended(number, gone);
            }
            (Asked::Approve(number), result) => self.approved(number, result.is_ok()),
            (Asked::TakeOff(number), result) => self.taken_off(number, result.is_ok()),
            (Asked::SendFrom(said), Ok(Reply::Queued { message, .. })) => self.ledger.queued_on_twin(said, message),
            (Asked::SendFrom(said), _) => {
                let goes = self.goes(who);
                self.ledger.declined(said, goes);
            }
            (Asked::Wake(number), result) => self.phone_answered(number, result.is_ok()),
            (Asked::Export(number), result) => self.exported(number, result.ok()),
            (Asked::Card(number), result) => self.card_is_up(number, result),
            (Asked::Look(number), result) => self.card_is_shown(number, result),
            (Asked::Change(number), Ok(_)) => self.changed(number, who),
            (Asked::Role(_), Ok(_)) => self.struck.roles += 1,
            (Asked::Link(number, one), Ok(Reply::Invite(link))) => self.follow_link(number, one, link),
            (Asked::TakeOut(_, thread, one), Ok(_)) => self.ledger.taken(&thread, one, true),
            // What did not come about is tried again when it is time.
            (Asked::Form(_) | Asked::Change(_) | Asked::Role(_) | Asked::TakeOut(..) | Asked::About, _) => {}
            (Asked::Link(..) | Asked::Follow(_), _) => {}
        }
    }

    fn hand_again(&mut self, number: usize, next: Duration) {
        if let Some(Meeting::Accepting(invite)) = self.pairs.get(number).map(|pair| &pair.meeting) {
            let again = Meeting::Handed(invite.clone());
            self.met(number, again, next);
        }
    }

    fn met(&mut self, number: usize, meeting: Meeting, next: Duration) {
        let Some(pair) = self.pairs.get_mut(number) else { return };
        let done = matches!(meeting, Meeting::Met);
        pair.meeting = meeting;
        if done {
            self.ledger.friends(pair.inviter, pair.accepter);
        } else {
            self.engine.after(next, Event::Meet { pair: number });
        }
    }

    /// Texts that nodes which run were handed and have said nothing of.
    pub(super) fn unanswered(&self) -> Vec<SaidNo> {
        let people = self.processes.iter().filter_map(|process| match process {
            Process::Node(node, person) if node.is_alive() => Some(person),
            _ => None,
        });
        let said = |(_, asked): &(Ticket, Asked)| match asked {
            Asked::Send(said) | Asked::Open(said) => Some(*said),
            Asked::Invite(_)
            | Asked::Accept(_)
            | Asked::Befriend(_)
            | Asked::Agree(_)
            | Asked::Part(_)
            | Asked::Hide(_)
            | Asked::Form(_)
            | Asked::Change(_)
            | Asked::Role(_)
            | Asked::TakeOut(..)
            | Asked::Link(..)
            | Asked::Follow(_)
            | Asked::End(_)
            | Asked::Approve(_)
            | Asked::TakeOff(_)
            | Asked::SendFrom(_)
            | Asked::Export(_)
            | Asked::Wake(_)
            | Asked::Card(_)
            | Asked::Look(_)
            | Asked::About => None,
        };
        people.flat_map(|person| person.asked.iter().filter_map(said)).collect()
    }

    /// A node died with what it was asked: its owner asks again, except for texts, which it may or may not have.
    pub(super) fn ask_again(&mut self, who: ProcessNo) {
        let Some(person) = self.person_mut(who) else { return };
        for (_, asked) in std::mem::take(&mut person.asked) {
            match asked {
                Asked::Invite(number) | Asked::Befriend(number) => self.met(number, Meeting::Apart, AGAIN),
                Asked::Agree(number) => self.met(number, Meeting::Requested, AGAIN),
                Asked::Accept(number) => self.hand_again(number, AGAIN),
                Asked::Part(number) => self.parted(number, false),
                Asked::Hide(number) => self.hid(number, false),
                Asked::End(number) => self.account_ended(number, false),
                Asked::Approve(number) => self.approved(number, false),
                Asked::TakeOff(number) => self.taken_off(number, false),
                Asked::Export(number) => self.exported(number, None),
                Asked::Wake(number) => self.phone_answered(number, false),
                Asked::Send(_)
                | Asked::SendFrom(_)
                | Asked::Open(_)
                | Asked::Form(_)
                | Asked::Change(_)
                | Asked::Role(_)
                | Asked::TakeOut(..)
                | Asked::Link(..)
                | Asked::Follow(_)
                | Asked::Card(_)
                | Asked::Look(_)
                | Asked::About => {}
            }
        }
    }

    /// A group is opened once everybody who opens it knows everybody else in it.
    pub(super) fn gather(&mut self, number: usize) {
        let Some(Group { people, openers }) = self.groups.get(number).cloned() else { return };
        if !self.lively {
            return;
        }
        let knows = |world: &mut Self, one: ProcessNo| {
            world.is_awake(one) && people.iter().all(|other| one == *other || world.can_write(one, *other))
        };
        if !openers.iter().all(|opener| knows(self, *opener)) {
            return self.engine.after(AGAIN, Event::Gather { group: number });
        }
        for opener in openers {
            self.spoken += 1;
            let text = text(self.ledger.canaries().mark(), self.spoken, 40);
            self.write_to(opener, &people, text);
        }
    }

    /// Somebody writes to exactly these people, whether or not there is a thread of them.
    pub(super) fn write_to(&mut self, who: ProcessNo, people: &[ProcessNo], text: String) {
        self.ledger.opens(who, people);
        for (n, one) in people.iter().enumerate() {
            people.iter().skip(n + 1).for_each(|other| self.ledger.introduced(*one, *other));
        }
        let mut others: Vec<_> = people.iter().copied().filter(|other| *other != who).collect();
        others.sort_unstable();
        let accounts = others.iter().filter_map(|other| self.node(*other)).map(|node| node.account).collect();
        let said = self.ledger.ask(who, others, text.clone(), self.engine.now());
        self.command(who, Command::SendTo { people: accounts, text }, Asked::Open(said));
    }

    /// Somebody writes to somebody, and plans the next time.
    pub(super) fn speak(&mut self, who: ProcessNo) {
        if !self.lively {
            return;
        }
        let Workload { every, text: [least, most], burst, .. } = self.workload;
        let Some(person) = self.person_mut(who) else { return };
        let next = person.habit.exponential(every.0);
        let length = |habit: &mut Stream| habit.below(u64::from(most - least) + 1) + u64::from(least);
        let (to, first) = (person.habit.bits(), length(&mut person.habit));
        let mut lengths = vec![first];
        if let Some(Burst { share, texts: [few, many] }) = burst
            && person.habit.happens(share.0)
        {
            let texts = u64::from(few) + person.habit.below(u64::from(many - few) + 1);
            lengths.extend((1..texts).map(|_| length(&mut person.habit)));
        }
        let fixed = person.threads.len() + person.groups.len();
        let conversations = fixed + person.circles.len();
        let chosen = usize::try_from(to).ok().and_then(|to| to.checked_rem(conversations)).unwrap_or_default();
        let group = chosen.checked_sub(person.threads.len()).and_then(|group| person.groups.get(group)).cloned();
        let pair = person.threads.get(chosen).map(|(to, thread)| (vec![*to], *thread));
        let circle = chosen.checked_sub(fixed).and_then(|circle| person.circles.get(circle)).copied();
        self.engine.after(next, Event::Speak { who });
        if let Some(thread) = circle {
            for length in lengths {
                // Whoever is out of it says nothing there, as far as they know.
                if !self.is_running(who) || !self.ledger.circle(&thread, who).contains(&who) {
                    return;
                }
                self.say_something(who, thread, length as usize);
            }
            return;
        }
        if let Some((to, thread)) = pair.or(group) {
            for length in lengths {
                // It may die of any text but the last.
                if !self.is_running(who) {
                    return;
                }
                self.spoken += 1;
                let text = text(self.ledger.canaries().mark(), self.spoken, length as usize);
                self.write(who, to.clone(), thread, text);
            }
            self.reconsider(who, thread);
        }
    }

    /// Everybody writes once more into each thread they are in.
    pub(super) fn say_once_more(&mut self) {
        for who in self.nodes.clone() {
            let Some(person) = self.person_mut(who) else { continue };
            let pairs = person.threads.iter().map(|(to, thread)| (vec![*to], *thread));
            let threads: Vec<_> = pairs.chain(person.groups.iter().cloned()).collect();
            for (to, thread) in threads {
                // It may die of any.
                if self.is_awake(who) {
                    self.spoken += 1;
                    let text = text(self.ledger.canaries().mark(), self.spoken, 40);
                    self.write(who, to, thread, text);
                }
            }
        }
    }

    /// Somebody writes a text into a thread with somebody.
    pub(super) fn write(&mut self, who: ProcessNo, to: Vec<ProcessNo>, thread: ThreadId, text: String) -> SaidNo {
        let said = self.ledger.ask(who, to, text.clone(), self.engine.now());
        self.command(who, Command::Send { thread, text }, Asked::Send(said));
        said
    }

    /// Somebody goes away, if it is their habit: mostly out of the network's reach, sometimes by a kill.
    pub(super) fn leave(&mut self, who: ProcessNo) {
        if !self.lively {
            return;
        }
        let Some(person) = self.person_mut(who) else { return };
        let Some(churn) = person.churn.clone() else { return };
        let away = person.comings.weibull(churn.away.0, churn.shape);
        if person.comings.happens(churn.kill.0) {
            self.kill(who);
        } else {
            self.disconnect(who);
        }
        self.engine.after(away, Event::Return { who });
    }

    /// Somebody comes back, and plans to leave again.
    pub(super) fn come_back(&mut self, who: ProcessNo) {
        self.reconnect(who);
        self.start(who);
        if let Some(person) = self.person_mut(who)
            && let Some(churn) = person.churn.clone()
        {
            let online = person.comings.weibull(churn.online.0, churn.shape);
            self.engine.after(online, Event::Leave { who });
        }
    }
}
