//! Node: takes one input, does one step.
//! Owns: the dispatch. Never: knows a rule; flows and rooms do.

use tracing::error;
use whimbrel_crypto::{Chance, Engine, Seed};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::time::{Monotonic, Now};
use whimbrel_storage::{Overlay, Reads, StorageError};

use crate::api::{CommandError, Config, Input, Output, Peer, Step};
use crate::flow::{
    about, account, answers, audit, befriend, commands, commit, connect, direct, facts, group, herald, history, join,
    link, open, pass, receipts, receive, repair, resend, self_thread, send, settings, siblings, strays,
};
use crate::identity::LoadError;
use crate::rooms::{Rooms, Turn};
use crate::timers::Timer;

/// Why a node could not be opened over a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No account was made in this store; see [`crate::identity::create`].
    #[error("there is no account in this store")]
    NoAccount,
    /// The store could not be read.
    #[error(transparent)]
    Rows(#[from] StorageError),
    /// The own account in the store is not sound.
    #[error("the own account: {0}")]
    Identity(LoadError),
}

/// One person's device.
pub struct Node<E> {
    engine: E,
    config: Config,
    chance: Chance,
    rooms: Rooms,
    /// Why the store could not be read: from then on nothing is done.
    broken: Option<String>,
}

impl<E: Engine> Node<E> {
    /// Opens a node over its store; everything it remembers is made anew from there. It wants [`Input::Timeout`] at
    /// once.
    ///
    /// # Errors
    /// There is no account, or the store could not be read.
    pub fn open(engine: E, config: Config, seed: Seed, now: Now, reads: &dyn Reads) -> Result<Self, OpenError> {
        let rooms = Rooms::open(now, reads).map_err(|error| match error {
            LoadError::NoAccount => OpenError::NoAccount,
            LoadError::Rows(error) => OpenError::Rows(error),
            other => OpenError::Identity(other),
        })?;
        Ok(Self { engine, config, chance: Chance::from_seed(seed), rooms, broken: None })
    }

    /// Takes one input and fills the step: its batch must be applied before the next input, and its outputs leave
    /// only when that batch is durable.
    pub fn handle(&mut self, now: Now, input: Input, reads: &dyn Reads, step: &mut Step) {
        if let Some(reason) = &self.broken {
            if let Input::Command { ticket, .. } = input {
                let result = Err(CommandError::State(format!("the store cannot be read: {reason}")));
                step.outputs.push(Output::Answer { ticket, result });
            }
            return;
        }
        let ticket = if let Input::Command { ticket, .. } = &input { Some(*ticket) } else { None };
        let mut turn = Turn {
            now,
            rows: Overlay::new(reads),
            engine: &mut self.engine,
            config: &self.config,
            chance: &mut self.chance,
            rooms: &mut self.rooms,
            out: Vec::new(),
        };
        match dispatch(&mut turn, input) {
            Ok(()) => {
                turn.tell_caught_up();
                step.batch.extend(turn.rows.into_batch());
                step.outputs.append(&mut turn.out);
            }
            Err(damage) => {
                error!(%damage, "the store cannot be read; this node is at its end");
                let reason = damage.to_string();
                if let Some(ticket) = ticket {
                    let result = Err(CommandError::State(format!("the store cannot be read: {reason}")));
                    step.outputs.push(Output::Answer { ticket, result });
                }
                step.outputs.push(Output::Broken { reason: reason.clone() });
                self.broken = Some(reason);
            }
        }
    }

    /// When to hand in [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        if self.broken.is_some() { None } else { self.rooms.timers.next() }
    }
}

fn dispatch<E: Engine>(t: &mut Turn<'_, E>, input: Input) -> Result<(), StorageError> {
    match input {
        Input::LinkUp { link, peer: Peer::Relay { exporter } } => connect::link_up(t, link, exporter),
        Input::LinkUp { link, peer: Peer::Node { transport } } => direct::link_up(t, link, transport),
        Input::LinkLost { link } if t.rooms.reception.link() == Some(link) => {
            connect::down(t, "the link to the relay broke".to_owned(), None)
        }
        Input::LinkLost { link } => direct::link_lost(t, link),
        Input::ConnectFailed { reason } if t.rooms.reception.link().is_none() => connect::down(t, reason, None),
        Input::ConnectFailed { .. } => Ok(()),
        Input::DialFailed { transport } => {
            direct::dial_failed(t, &transport);
            Ok(())
        }
        Input::Frame { link, frame } => self::frame(t, link, frame),
        Input::Malformed { link } => connect::malformed(t, link),
        Input::Command { ticket, command } => commands::run(t, ticket, command),
        Input::Listening { addresses } => {
            t.rooms.direct.listening = addresses;
            Ok(())
        }
        Input::Leave => {
            connect::leave(t);
            Ok(())
        }
        Input::Timeout => {
            let due = t.rooms.timers.take_due(t.now.monotonic);
            due.into_iter().try_for_each(|timer| expired(t, timer))
        }
    }
}

fn frame<E: Engine>(t: &mut Turn<'_, E>, link: LinkId, frame: Frame) -> Result<(), StorageError> {
    if t.rooms.reception.link() == Some(link) { answers::frame(t, frame) } else { direct::frame(t, link, frame) }
}

fn expired<E: Engine>(t: &mut Turn<'_, E>, timer: Timer) -> Result<(), StorageError> {
    match timer {
        Timer::Connect => connect::begin(t),
        Timer::Greeting => connect::abandon(t, "the relay did not let us in in time"),
        Timer::Heartbeat => connect::heartbeat(t),
        Timer::Acknowledge => {
            receive::acknowledge(t);
            Ok(())
        }
        Timer::Answer(request) => answers::unanswered(t, request),
        Timer::Race(thread) | Timer::Lane(thread) => send::pump(t, thread),
        Timer::Opening(thread) => open::submit(t, thread),
        Timer::Invitation(_) => join::begin_all(t),
        Timer::Gather(job) => {
            open::gather(t, job);
            Ok(())
        }
        Timer::Tag(_) => join::tag_all(t),
        Timer::Unpark(thread) => {
            receive::unpark(t, thread)?;
            commit::ask_again(t, thread)
        }
        Timer::Stock => answers::stock_what_is_due(t),
        Timer::Word(_) => befriend::prove_all(t),
        Timer::Settings(thread) => settings::hand_in(t, thread),
        Timer::Change(thread) => group::submit(t, thread),
        Timer::Asks => pass::serve(t),
        Timer::Extend => account::submit(t),
        Timer::Siblings => siblings::pump(t),
        Timer::Strays(thread) => {
            strays::overdue(t, thread);
            Ok(())
        }
        Timer::Unready => siblings::again(t),
        Timer::SelfThread => self_thread::see_to(t),
        Timer::Telling => facts::tell_some(t),
        Timer::History => history::ask(t),
        Timer::Linking => link::late(t),
        Timer::Heralding => account::herald(t),
        Timer::Herald(account) => herald::ask(t, account, None),
        Timer::Receipts(thread) => receipts::leave(t, thread),
        Timer::Resend(thread) => resend::due(t, thread),
        Timer::Repair(thread) => repair::due(t, thread),
        Timer::Vanish => about::vanish(t),
        Timer::Audit => audit::due(t),
        Timer::Unsaid => send::unsaid(t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_moves_between_threads() {
        fn sent<T: Send>() {}
        sent::<Node<whimbrel_crypto::MlsEngine>>();
        sent::<Node<whimbrel_crypto::StandInEngine>>();
    }
}
