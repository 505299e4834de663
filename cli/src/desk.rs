//! Desk: carries out requests on an open node.
//! Owns: what each request waits for and answers. Never: prints; knows who asked (`seat` here, `daemon` from outside).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at};
use whimbrel_node::api::{Draft, Message, State};
use whimbrel_node::views::{self, Page, Trust};
use whimbrel_node::{Command, Event, Reply};
use whimbrel_protocol::id::{AccountId, Address, Domain, MessageId, ThreadId};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::limits;
use whimbrel_protocol::signal::Doing;
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Reads, StorageError};

use crate::args::Wait;
use crate::clock;
use crate::failure::{Exit, Failure};
use crate::groups;
use crate::local::{Heard, Home, Local, home_failure, late, store_failure};
use crate::resolve::{Book, Target};
use crate::shown::{TypingShown, log_name};
use crate::words::{
    Ask, ContactShown, InviteMade, Item, Line, Mark, Me, Met, ReactionShown, ReceiptsShown, RelayShown, Request, Sent,
    Shown, StatusShown, expiry, path_name, state_name, trust_name,
};

/// Messages of one chat an answer holds at most: what a person can look at, and a bound for what is kept in memory.
pub(crate) const LOG_MESSAGES_MAX: usize = 10_000;
/// Lines of an answer that wait for their reader.
pub(crate) const LINES_MAX: usize = 64;

/// Where lines go.
pub(crate) type Lines = mpsc::Sender<Line>;

/// Carries out one request; what comes of it goes to `lines`, the last one included.
pub(crate) async fn carry_out(local: &Local, daemon: bool, ask: Ask, lines: &Lines) {
    let deadline = clock::now() + Duration::from_millis(ask.timeout_ms);
    let desk = Desk { local, daemon, lines, deadline };
    let end = desk.carry_out(ask.request).await.err();
    // Whoever asked may be gone; then nobody misses the end.
    let _ = lines.send(Line::End(end)).await;
}

/// An open node, and who asks.
pub(crate) struct Desk<'d> {
    pub(crate) local: &'d Local,
    daemon: bool,
    lines: &'d Lines,
    pub(crate) deadline: Instant,
}

impl Desk<'_> {
    async fn carry_out(&self, request: Request) -> Result<(), Failure> {
        match request {
            Request::NewInvite { uses, expires_ms, group } => self.new_invite(uses, expires_ms, group).await,
            Request::Accept { link } => self.accept(&link).await,
            Request::Send { to, text, reply, mentions, wait } => self.send(&to, text, (reply, mentions), wait).await,
            Request::Inbox => self.inbox().await,
            Request::MarkRead { marks } => self.mark_read(marks).await,
            Request::Log { chat, number, since, follow, blocked, typing } => {
                self.log(&chat, number, since, (follow, blocked, typing)).await
            }
            Request::Status => self.status().await,
            Request::Me => self.item(Item::Me(self.me()?)).await,
            Request::Contacts => self.contacts().await,
            Request::Errand(errand) => self.errand(errand).await,
        }
    }

    async fn new_invite(&self, uses: u32, expires_ms: u64, group: Option<String>) -> Result<(), Failure> {
        let group = match group {
            Some(group) => Some(self.change_of(&group).await?),
            None => None,
        };
        self.relay().await?;
        let holds = Duration::from_millis(expires_ms);
        match self.command(Command::NewInvite { uses, holds, group }).await? {
            Reply::Invite(invite) => {
                let (link, id) = (invite.to_string(), invite.token.hash().to_string());
                let made = InviteMade { link, id, uses, expires: expiry(expires_ms) };
                self.item(Item::Invite(made)).await
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn accept(&self, link: &str) -> Result<(), Failure> {
        let invite: Invite = link.parse().map_err(bad_invite)?;
        self.relay().await?;
        // Subscribed before it is followed: what comes of it may come at once.
        let events = self.local.events();
        let group = invite.pass.as_ref().map(|pass| pass.group);
        match self.command(Command::AcceptInvite(invite)).await? {
            Reply::Contact { account, address, thread } => {
                self.item(Item::Met(Met { contact: address, account, thread })).await?;
                match group {
                    Some(group) => self.taken_in(&group, events).await,
                    None => Ok(()),
                }
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn send(
        &self,
        to: &str,
        text: String,
        (reply, mentions): (Option<String>, Vec<String>),
        wait: Option<Wait>,
    ) -> Result<(), Failure> {
        let target = self.resolve(to).await?;
        if let Some(doubted) = self.stop_at_changed_keys(&target)? {
            let hint =
                format!("the relay of {doubted} shows different people different account logs; you compared keys");
            self.hint(&hint).await?;
        }
        let mut events = self.local.events();
        let mut home = self.local.home();
        let command = match target {
            target if reply.is_some() || !mentions.is_empty() => {
                let threads = self.book()?.threads_of(&target);
                let reply = reply.map(|id| self.message_of(&threads, &id)).transpose()?;
                let thread = *threads.first().ok_or_else(|| {
                    Failure::new(Exit::NotFound, "not_found", "there is no chat with exactly these people yet")
                })?;
                let mentions = self.accounts_of(&mentions).await?;
                Command::Say { thread, draft: Draft { text, reply, mentions } }
            }
            Target::Thread(thread) => Command::Send { thread, text },
            Target::People(people) => Command::SendTo { people: people.into_iter().collect(), text },
        };
        let (thread, message) = match self.command(command).await? {
            Reply::Queued { thread, message } => (thread, message),
            other => return Err(unexpected(&other)),
        };
        let sent = |state: &str| Item::Sent(Sent { message, thread, state: state.to_owned() });
        let outcome = timeout_at(self.deadline.into(), async {
            loop {
                // From the store, not from the event alone: an event can be missed, a row cannot.
                if wait == Some(Wait::Read) && self.receipts(&message)?.is_some_and(|receipts| receipts.read > 0) {
                    return Ok("read");
                }
                match self.state(&message)? {
                    Some(State::Stored) if matches!(wait, None | Some(Wait::Stored)) => return Ok("stored"),
                    Some(State::Delivered) if wait != Some(Wait::Read) => return Ok("delivered"),
                    Some(State::Failed(code) | State::Partial { code, .. }) => return Err(Failure::refused(code)),
                    _ => {}
                }
                let failure = home_failure(&home.borrow_and_update());
                if let (Some(failure), None) = (failure, wait) {
                    return Err(failure);
                }
                tokio::select! {
                    heard = events.next() => if let Heard::End(failure) = heard { return Err(failure) },
                    change = home.changed() => if change.is_err() { return Err(self.local.ended().await) },
                }
            }
        })
        .await;
        match outcome {
            Ok(Ok(state)) => self.item(sent(state)).await,
            Ok(Err(failure)) => {
                let state = self.state(&message)?.unwrap_or(State::Queued);
                self.item(sent(state_name(&state))).await?;
                Err(if state == State::Queued { still_queued(failure) } else { failure })
            }
            Err(_) => {
                // It may have come further than before, though not as far as was asked for.
                let state = self.state(&message)?.map_or("queued", |state| state_name(&state));
                self.item(sent(state)).await?;
                Err(match wait {
                    None => still_queued(home_failure(&self.local.home().borrow()).unwrap_or_else(late)),
                    Some(_) => {
                        let hint = match state {
                            "stored" => {
                                "it is at the relay, and reaches their devices when they connect; \
                                         they say so a few seconds later"
                            }
                            "delivered" => "whether it was read is told only by those who wish it",
                            _ => "it goes on its way with the next command, or with: whimbrel daemon run",
                        };
                        let message = format!("the time is up, and the message is {state}");
                        Failure::new(Exit::WaitTimedOut, "wait_timed_out", message).hint(hint)
                    }
                })
            }
        }
    }

    async fn inbox(&self) -> Result<(), Failure> {
        let synced = self.caught_up().await;
        let (book, me) = (self.book()?, self.account()?);
        for thread in self.read(views::threads)? {
            for message in self.read(|reads| views::unread_messages(reads, &thread.thread, LOG_MESSAGES_MAX))? {
                self.item(Item::Message(Box::new(show(&message, None, &book, &me)))).await?;
            }
        }
        let asking = self.read(views::friends)?;
        let asking = asking.iter().filter(|friend| friend.friendship == views::Friendship::Asking).count();
        if asking > 0 {
            self.hint(&format!("friend requests that wait for you: {asking}; see: whimbrel request list")).await?;
        }
        synced
    }

    pub(crate) async fn mark_read(&self, marks: Vec<Mark>) -> Result<(), Failure> {
        for Mark { thread, upto } in marks {
            self.command(Command::MarkRead { thread, upto }).await?;
        }
        Ok(())
    }

    /// `follow`: goes on with what comes; `blocked`: shows what people who are kept away said; `typing`: says who is writing.
    async fn log(
        &self,
        chat: &str,
        number: usize,
        since: Option<Wall>,
        (follow, blocked, typing): (bool, bool, bool),
    ) -> Result<(), Failure> {
        let target = self.resolve(chat).await?;
        // Subscribed before the history is read: what comes in between is seen by both and printed once.
        let mut events = self.local.events();
        let (mut book, me) = (self.book()?, self.account()?);
        let mut printed = BTreeSet::new();
        let number = number.min(LOG_MESSAGES_MAX);
        let (mut lines, mut dropped) = (Vec::new(), 0u64);
        for thread in book.threads_of(&target) {
            lines.extend(self.read(|reads| views::messages(reads, &thread, Page::Newest, number))?);
            dropped += self.read(|reads| views::thread(reads, &thread))?.map_or(0, |thread| thread.dropped);
        }
        // Two whose first messages crossed have two threads, and one conversation.
        lines.sort_by_key(|line| (line.message.hlc, line.message.message));
        let mut marked = 0u64;
        for mut line in lines.split_off(lines.len().saturating_sub(number)) {
            line.message.hidden &= !blocked;
            printed.insert(line.message.message);
            if since.is_none_or(|since| line.message.hlc.millis >= since.as_millis()) {
                marked = marked.saturating_add(line.dropped_before);
                self.item(Item::Message(Box::new(show_line(&line, &book, &me)))).await?;
            }
        }
        // Where no message stands behind it, or not among these.
        if dropped > marked {
            let left = dropped - marked;
            self.hint(&format!("messages missing: the relay let up to {left} go before this device had them")).await?;
        }
        if !follow {
            return Ok(());
        }
        loop {
            let (mut message, state) = match events.next().await {
                Heard::Event(Event::Shown(message)) => (message, None),
                // A message of ours is only named.
                Heard::Event(Event::State { thread, message, state }) => {
                    let newest = self.read(|reads| views::messages(reads, &thread, Page::Newest, LINES_MAX))?;
                    match newest.into_iter().find(|line| line.message.message == message) {
                        Some(line) => (line.message, Some(state)),
                        None => continue,
                    }
                }
                Heard::Event(Event::Doing { thread, who, what }) if typing => {
                    book = self.book()?;
                    if book.threads_of(&target).contains(&thread) {
                        self.item(Item::Typing(typing_shown(thread, &who, what, &book))).await?;
                    }
                    continue;
                }
                Heard::Event(Event::Dropped { thread: Some(thread), entries }) => {
                    if self.book()?.threads_of(&target).contains(&thread) {
                        self.hint(&format!("messages missing: the relay let up to {entries} go")).await?;
                    }
                    continue;
                }
                Heard::Event(
                    event @ (Event::ChangeBroken { .. }
                    | Event::ChangesMissing { .. }
                    | Event::PolicyChanged { .. }
                    | Event::TitleChanged { .. }
                    | Event::LeaveRefused { .. }),
                ) => {
                    book = self.book()?;
                    if let Some((thread, said)) = groups::news(&event, &book)
                        && book.threads_of(&target).contains(&thread)
                    {
                        self.hint(&said).await?;
                    }
                    continue;
                }
                Heard::Event(_) => continue,
                Heard::TooMuch => {
                    self.hint("too much at once: some messages were not printed; see them with: whimbrel log").await?;
                    continue;
                }
                Heard::End(failure) => return Err(failure),
            };
            message.hidden &= !blocked;
            // A thread can be new, or one of two with the same people.
            book = self.book()?;
            let thread =
                self.read(|reads| views::thread(reads, &message.thread))?.map_or(message.thread, |known| known.thread);
            // That it did not arrive is news of a message that was printed before.
            let lost = matches!(state, Some(State::Failed(_) | State::Partial { .. }));
            if book.threads_of(&target).contains(&thread) && (printed.insert(message.message) || lost) {
                self.item(Item::Message(Box::new(show(&message, state.as_ref(), &book, &me)))).await?;
            }
            if printed.len() > LOG_MESSAGES_MAX {
                printed.pop_first();
            }
        }
    }

    async fn status(&self) -> Result<(), Failure> {
        // One command's node has just begun to connect: it is told apart from one that cannot.
        let _ = self.relay().await;
        let Reply::Status(status) = self.command(Command::Status).await? else {
            return Err(Failure::internal("no status"));
        };
        let reason = home_failure(&self.local.home().borrow()).map(|failure| failure.message);
        let direct: BTreeSet<AccountId> = status.direct.iter().map(|device| device.account).collect();
        let contacts = self.contacts_shown(&direct)?;
        let unread = self.read(views::threads)?.iter().map(|thread| thread.unread).sum::<u64>();
        let log = views::own_log(self.local.reads()).map_err(Failure::internal)?;
        let relays = self.read(views::relays)?;
        let named = |wanted: fn(&views::RelayTree) -> bool| {
            relays.iter().filter(|relay| wanted(relay)).map(|relay| relay.domain.to_string()).collect()
        };
        let shown = StatusShown {
            address: status.address,
            daemon: self.daemon,
            relay: RelayShown {
                domain: status.relay.domain.to_string(),
                endpoint: status.relay.endpoint,
                connected: status.relay_admitted,
                reason: reason.filter(|_| !status.relay_admitted),
                log: log_name(log).to_owned(),
                entries: match log {
                    views::LogProof::Found(size) => Some(size),
                    _ => None,
                },
            },
            contacts,
            queued: status.queued,
            unread: usize::try_from(unread).unwrap_or(usize::MAX),
            key_packages: status.key_packages,
            history: self.read(views::history)?.map(Into::into),
            two_faces: named(|relay| relay.evidence.is_some()),
            hub_contradicts: self.read(views::contradictions)?.into_iter().map(|(thread, _)| thread).collect(),
            forged_log: self.read(views::own_log_forged)?.map(clock::rfc3339),
            withheld: named(|relay| relay.withheld),
        };
        self.item(Item::Status(Box::new(shown))).await
    }

    async fn contacts(&self) -> Result<(), Failure> {
        if let Err(failure) = self.caught_up().await {
            self.hint(&format!("who came lately may be missing: {}", failure.message)).await?;
        }
        let direct = match self.command(Command::Status).await? {
            Reply::Status(status) => status.direct.iter().map(|device| device.account).collect(),
            _ => BTreeSet::new(),
        };
        for contact in self.contacts_shown(&direct)? {
            self.item(Item::Contact(contact)).await?;
        }
        Ok(())
    }

    fn contacts_shown(&self, direct: &BTreeSet<AccountId>) -> Result<Vec<ContactShown>, Failure> {
        let me = self.own()?;
        let threads = self.read(views::threads)?;
        let shown = self.read(views::contacts)?.into_iter().map(|contact| {
            let path = match &contact.address.domain {
                _ if direct.contains(&contact.account) => "direct",
                domain if *domain == me.relay.domain => "relay",
                _ => "federation",
            };
            let unread = threads
                .iter()
                .filter(|thread| thread.people == [contact.account])
                .map(|thread| thread.unread)
                .sum::<u64>();
            ContactShown {
                address: contact.address,
                account: contact.account,
                path: path.to_owned(),
                trust: trust_name(contact.trust).to_owned(),
                unread: usize::try_from(unread).unwrap_or(usize::MAX),
            }
        });
        Ok(shown.collect())
    }

    /// Finds out whom TO means; somebody unknown may have come in since the last time we were connected.
    pub(crate) async fn resolve(&self, to: &str) -> Result<Target, Failure> {
        match self.book()?.resolve(to) {
            Err(failure) if failure.code == "not_found" => match self.caught_up().await {
                Ok(()) => self.book()?.resolve(to),
                // Nobody can be met without the relay: the name is what the person can correct.
                Err(_) => Err(failure),
            },
            other => other,
        }
    }

    /// Nothing is written to somebody whose keys the owner compared, and who has others now, before the owner knows.
    /// Nor to somebody whose keys nobody compared when their relay shows one person these and another person others. Gives
    /// somebody of such a relay whose keys were compared: what is written to them is for them.
    fn stop_at_changed_keys(&self, target: &Target) -> Result<Option<Address>, Failure> {
        let others: BTreeSet<AccountId> = match target {
            Target::People(people) => people.clone(),
            Target::Thread(thread) => {
                let threads = self.read(views::threads)?;
                threads.into_iter().filter(|one| one.thread == *thread).flat_map(|one| one.people).collect()
            }
        };
        let contacts: Vec<_> =
            self.read(views::contacts)?.into_iter().filter(|one| others.contains(&one.account)).collect();
        let relays = self.read(views::relays)?.into_iter();
        let caught: BTreeSet<Domain> =
            relays.filter(|relay| relay.evidence.is_some()).map(|relay| relay.domain).collect();
        let doubted = |one: &&views::Contact| caught.contains(&one.address.domain);
        if let Some(contact) = contacts.iter().filter(doubted).find(|one| one.trust == Trust::Unverified) {
            let message = format!(
                "the relay of {} shows different people different account logs, and you have not compared keys; nothing was sent",
                contact.address
            );
            return Err(Failure::new(Exit::Trust, "relay_two_faces", message)
                .hint(format!("compare them: whimbrel contact verify {}", contact.address)));
        }
        match contacts.iter().find(|one| one.trust == Trust::Changed) {
            None => Ok(contacts.iter().find(doubted).map(|contact| contact.address.clone())),
            Some(contact) => Err(Failure::new(
                Exit::Trust,
                "key_changed",
                format!("the keys of {} have changed since you verified them; nothing was sent", contact.address),
            )
            .hint(format!("compare them again: whimbrel contact verify {}", contact.address))),
        }
    }

    pub(crate) fn book(&self) -> Result<Book, Failure> {
        let contacts =
            self.read(views::contacts)?.into_iter().map(|contact| (contact.account, contact.address)).collect();
        let (mut threads, mut titles) = (Vec::new(), BTreeMap::new());
        for thread in self.read(views::threads)? {
            if thread.founder.is_some() {
                titles.insert(thread.thread, thread.title.unwrap_or_default());
            }
            threads.push((thread.thread, thread.people.into_iter().collect()));
        }
        Ok(Book { contacts, threads, titles })
    }

    pub(crate) fn own(&self) -> Result<views::Account, Failure> {
        views::account(self.local.reads()).map_err(Failure::internal)
    }

    fn account(&self) -> Result<AccountId, Failure> {
        Ok(self.own()?.account)
    }

    fn me(&self) -> Result<Me, Failure> {
        let own = self.own()?;
        Ok(Me {
            address: own.address,
            account: own.account,
            device: own.device.index.get(),
            relay: own.relay.to_string(),
        })
    }

    fn receipts(&self, message: &MessageId) -> Result<Option<views::Receipts>, Failure> {
        self.read(|reads| views::message_receipts(reads, message))
    }

    fn state(&self, message: &MessageId) -> Result<Option<State>, Failure> {
        self.read(|reads| views::message_state(reads, message))
    }

    pub(crate) fn read<T>(&self, view: impl FnOnce(&dyn Reads) -> Result<T, StorageError>) -> Result<T, Failure> {
        view(self.local.reads()).map_err(|error| store_failure(&error))
    }

    pub(crate) fn reads(&self) -> &dyn Reads {
        self.local.reads()
    }

    /// When whoever asked wants an answer.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) async fn item(&self, item: Item) -> Result<(), Failure> {
        self.lines.send(Line::Item(item)).await.map_err(|_| Failure::interrupted())
    }

    pub(crate) async fn hint(&self, text: &str) -> Result<(), Failure> {
        self.lines.send(Line::Hint(text.to_owned())).await.map_err(|_| Failure::interrupted())
    }

    /// Has the node do something; again when the relay was asked too often and the time it named comes before ours is up.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply, Failure> {
        loop {
            let failure = match timeout_at(self.deadline.into(), self.local.command(command.clone())).await {
                Ok(Err(failure)) => failure,
                Ok(answer) => return answer,
                Err(_) => return Err(late()),
            };
            let again = failure.again.map(|after| tokio::time::Instant::now() + after);
            match again.filter(|again| *again < self.deadline.into()) {
                Some(again) => sleep_until(again).await,
                None => return Err(failure),
            }
        }
    }

    /// Waits until the home relay has admitted us.
    pub(crate) async fn relay(&self) -> Result<(), Failure> {
        self.local.wait_home(self.deadline, |home| matches!(home, Home::Up | Home::CaughtUp)).await
    }

    /// Waits until everything that was held is here.
    pub(crate) async fn caught_up(&self) -> Result<(), Failure> {
        self.local.wait_home(self.deadline, |home| matches!(home, Home::CaughtUp)).await
    }
}

fn typing_shown(thread: ThreadId, who: &AccountId, what: Doing, book: &Book) -> TypingShown {
    TypingShown {
        thread,
        chat: book.title_of(&thread),
        from: book.name_of(who),
        typing: what == Doing::Writing,
        lasts_ms: u64::try_from(limits::SIGNAL_LASTS.as_millis()).unwrap_or(u64::MAX),
    }
}

fn show_line(line: &views::Line, book: &Book, me: &AccountId) -> Shown {
    let receipts = line.receipts.map(|views::Receipts { delivered, read, of }| ReceiptsShown { delivered, read, of });
    let sign = |(by, sign): &(AccountId, String)| ReactionShown { by: name(by, book, me), sign: sign.clone() };
    Shown {
        receipts,
        edited: line.edited,
        reactions: line.reactions.iter().map(sign).collect(),
        lasts_ms: line.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        missing_before: line.missing_before,
        dropped_before: line.dropped_before,
        ..show(&line.message, line.state.as_ref(), book, me)
    }
}

fn name(account: &AccountId, book: &Book, me: &AccountId) -> String {
    if account == me { "me".to_owned() } else { book.name_of(account) }
}

fn show(message: &Message, state: Option<&State>, book: &Book, me: &AccountId) -> Shown {
    let own = message.author.account == *me;
    let (code, missing) = match state {
        Some(State::Failed(code)) => (Some(code), &[][..]),
        Some(State::Partial { code, missing }) => (Some(code), missing.as_slice()),
        _ => (None, &[][..]),
    };
    Shown {
        message: message.message,
        thread: message.thread,
        chat: book.title_of(&message.thread),
        from: if own { "me".to_owned() } else { book.name_of(&message.author.account) },
        text: if message.hidden { String::new() } else { message.text.clone() },
        // The author's clock may lie; the order is his, the time shown is never after the arrival.
        sent_at: clock::rfc3339(Wall::from_millis(message.hlc.millis.min(message.received.as_millis()))),
        received_at: clock::rfc3339(message.received),
        path: message.path.map(|path| path_name(path).to_owned()),
        own,
        state: state.map(|state| state_name(state).to_owned()),
        reason: code.map(ToString::to_string),
        missing: missing.iter().map(|account| book.name_of(account)).collect(),
        receipts: None,
        reply: message.reply.filter(|_| !message.hidden).map(|of| of.message),
        mentions: message.mentions.iter().filter(|_| !message.hidden).map(|account| name(account, book, me)).collect(),
        edited: false,
        unsent: message.unsent,
        hidden: message.hidden.then(|| "blocked".to_owned()),
        reactions: Vec::new(),
        lasts_ms: None,
        missing_before: 0,
        dropped_before: 0,
    }
}

/// Says what becomes of a message that could not leave.
fn still_queued(failure: Failure) -> Failure {
    if failure.exit == Exit::Trust {
        return failure.hint("the message is queued and goes to nobody but the relay of your link; ask its operator");
    }
    failure.hint("the message is queued; the next command sends it, or: whimbrel daemon run")
}

pub(crate) fn bad_invite(error: whimbrel_protocol::invite::LinkError) -> Failure {
    Failure::new(Exit::Usage, "bad_link", format!("this is no invite: {error}"))
        .hint("an invite looks like whimbrel:name@domain?at=host:port#…")
}

pub(crate) fn unexpected(reply: &Reply) -> Failure {
    tracing::error!(?reply, "an answer that does not fit its command");
    Failure::internal("an answer that does not fit its command")
}
