//! About: what is said about messages: edits, texts taken back, signs, how long texts last.
//! Owns: which message ID means. Never: says anything in another chat than the one that was named.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use whimbrel_node::api::State;
use whimbrel_node::views::{self, Page};
use whimbrel_node::{Command, Event, Reply};
use whimbrel_protocol::id::{AccountId, MessageId, ThreadId};
use whimbrel_protocol::message::Target as Which;
use whimbrel_protocol::signal::Doing;

use crate::desk::{Desk, LOG_MESSAGES_MAX, unexpected};
use crate::failure::{Exit, Failure};
use crate::local::{Heard, Listener};
use crate::resolve::Target;
use crate::shown::Done;
use crate::words::{Item, Mark};

/// Characters of a message's id that are enough to name it.
const MESSAGE_PREFIX_MIN: usize = 4;

/// What is said about messages.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AboutErrand {
    /// Another text in place of one's own.
    Edit { chat: String, message: String, text: String },
    /// Takes a text back.
    Unsend { chat: String, message: String },
    /// Puts a sign beside a message, or takes it away.
    React { chat: String, message: String, sign: String, stands: bool },
    /// How long texts last from now on; zero: for ever.
    Timer { chat: String, lasts_ms: u64 },
    /// The owner is writing, or no longer.
    Typing { chat: String, writes: bool },
    /// Everything that is here is read.
    Read { chat: String },
}

impl Desk<'_> {
    pub(crate) async fn about(&self, errand: AboutErrand) -> Result<(), Failure> {
        let (command, done) = match errand {
            AboutErrand::Edit { chat, message, text } => {
                let of = self.message_of(&self.threads_of(&chat).await?, &message)?;
                (Command::Edit { of, text }, "edited".to_owned())
            }
            AboutErrand::Unsend { chat, message } => {
                let of = self.message_of(&self.threads_of(&chat).await?, &message)?;
                (Command::Unsend { of }, "taken back; who has read it may remember".to_owned())
            }
            AboutErrand::React { chat, message, sign, stands } => {
                let to = self.message_of(&self.threads_of(&chat).await?, &message)?;
                (Command::React { to, sign, stands }, if stands { "it stands" } else { "taken away" }.to_owned())
            }
            AboutErrand::Timer { chat, lasts_ms } => {
                let threads = self.threads_of(&chat).await?;
                let thread = *threads.first().ok_or_else(no_chat)?;
                let lasts = Duration::from_millis(lasts_ms);
                let done = match lasts.is_zero() {
                    true => "texts stay from now on".to_owned(),
                    false => format!("texts last {} from now on", humantime::format_duration(lasts)),
                };
                (Command::SetTimer { thread, lasts }, done)
            }
            AboutErrand::Typing { chat, writes } => return self.typing(&chat, writes).await,
            AboutErrand::Read { chat } => return self.read_all(&chat).await,
        };
        // From before it is said: what becomes of it is told once.
        let events = self.local.events();
        let message = match self.command(command).await? {
            Reply::Queued { message, .. } => message,
            other => return Err(unexpected(&other)),
        };
        self.leave(events, message).await?;
        self.item(Item::Done(Done { done })).await
    }

    /// Waits until it has left, or says that it waits: it is durable here already.
    async fn leave(&self, mut events: Listener, message: MessageId) -> Result<(), Failure> {
        let left = timeout_at(self.deadline.into(), async {
            loop {
                match events.next().await {
                    Heard::Event(Event::State { message: of, state, .. }) if of == message => match state {
                        State::Queued => {}
                        State::Failed(code) | State::Partial { code, .. } => return Err(Failure::refused(code)),
                        State::Stored | State::Delivered => return Ok(()),
                    },
                    Heard::TooMuch if !self.read(|reads| views::is_queued(reads, &message))? => return Ok(()),
                    Heard::Event(_) | Heard::TooMuch => {}
                    Heard::End(failure) => return Err(failure),
                }
            }
        })
        .await;
        match left {
            Ok(done) => done,
            Err(_) => self.hint("it is queued; the next command sends it, or: whimbrel daemon run").await,
        }
    }

    /// It goes now or never: so the link is waited for first.
    async fn typing(&self, chat: &str, writes: bool) -> Result<(), Failure> {
        let threads = self.threads_of(chat).await?;
        let thread = *threads.first().ok_or_else(no_chat)?;
        self.relay().await?;
        let what = if writes { Doing::Writing } else { Doing::Nothing };
        match self.command(Command::Signal { thread, what }).await? {
            Reply::Done => self.item(Item::Done(Done { done: "said to whoever is there".to_owned() })).await,
            other => Err(unexpected(&other)),
        }
    }

    async fn read_all(&self, chat: &str) -> Result<(), Failure> {
        let mut count = 0;
        for thread in self.threads_of(chat).await? {
            let unread = self.read(|reads| views::unread_messages(reads, &thread, usize::MAX >> 1))?;
            if let Some(last) = unread.last() {
                count += unread.len();
                self.mark_read(vec![Mark { thread, upto: last.message }]).await?;
            }
        }
        self.item(Item::Done(Done { done: format!("{count} read") })).await
    }

    /// The threads of a chat that has one.
    pub(crate) async fn threads_of(&self, chat: &str) -> Result<Vec<ThreadId>, Failure> {
        let target = self.resolve(chat).await?;
        let threads = self.book()?.threads_of(&target);
        if threads.is_empty() { Err(no_chat()) } else { Ok(threads) }
    }

    /// The message of a chat whose id begins so.
    pub(crate) fn message_of(&self, threads: &[ThreadId], id: &str) -> Result<Which, Failure> {
        let wanted = id.trim().to_lowercase();
        if wanted.len() < MESSAGE_PREFIX_MIN {
            return Err(Failure::usage(format!("{MESSAGE_PREFIX_MIN} characters of a message's id are the least")));
        }
        let mut found = BTreeSet::new();
        for thread in threads {
            for line in self.read(|reads| views::messages(reads, thread, Page::Newest, LOG_MESSAGES_MAX))? {
                if line.message.message.to_string().starts_with(&wanted) {
                    found.insert(Which { message: line.message.message, author: line.message.author });
                }
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Failure::new(Exit::NotFound, "ambiguous", "several messages have ids like that")
                .hint("write more of the id")),
            (None, _) => Err(Failure::new(Exit::NotFound, "not_found", "no message of this chat has such an id")
                .hint("see the ids: whimbrel log CHAT --ids")),
        }
    }

    /// Contacts, by name.
    pub(crate) async fn accounts_of(&self, names: &[String]) -> Result<Vec<AccountId>, Failure> {
        let mut people = BTreeSet::new();
        for name in names {
            match self.resolve(name).await? {
                Target::People(some) => people.extend(some),
                Target::Thread(_) => return Err(Failure::usage("a mention names a person, not a chat")),
            }
        }
        Ok(people.into_iter().collect())
    }
}

fn no_chat() -> Failure {
    Failure::new(Exit::NotFound, "not_found", "there is no chat with exactly these people yet")
        .hint("a chat begins with its first message: whimbrel send")
}
