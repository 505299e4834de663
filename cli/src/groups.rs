//! Groups: making one, who is in it, and the way out.
//! Owns: which chat GROUP means, how a group is shown. Never: changes who is in one but through its node.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{timeout, timeout_at};
use whimbrel_node::views::{self, Standing};
use whimbrel_node::{Command, Event, Reply};
use whimbrel_protocol::id::{AccountId, ThreadId};
use whimbrel_protocol::message::Declined;
use whimbrel_protocol::picture::Format;
use whimbrel_protocol::policy::{PolicyChange, Who};

use crate::desk::{Desk, unexpected};
use crate::failure::{Exit, Failure};
use crate::local::{Heard, Listener};
use crate::output::Show;
use crate::resolve::{Book, Target, short};
use crate::sanitize;
use crate::shown::{Done, PictureShown, hex};
use crate::words::Item;

/// What is asked about groups.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupErrand {
    /// Makes one.
    New { title: String, people: Vec<String> },
    /// All of them.
    List,
    /// Who is in one.
    Show { group: String },
    /// Takes people in.
    Add { group: String, people: Vec<String> },
    /// Takes people out.
    Remove { group: String, people: Vec<String> },
    /// Asks to be taken out.
    Leave { group: String },
    /// Makes people admins of it, or members.
    Role { group: String, admin: bool, people: Vec<String> },
    /// Says whether every member takes people in, and says what it is called; what is absent stays.
    Policy { group: String, members_add: Option<bool>, members_rename: Option<bool> },
    /// Calls it something else.
    Rename { group: String, title: String },
    /// Gives it a picture, or takes it away.
    Picture { group: String, picture: Option<Vec<u8>> },
    /// Shows its picture.
    ShowPicture { group: String },
    /// Renews this device's keys in it.
    Rekey { group: String },
}

/// How long a group that somebody has come into by a link is waited for to say what it is called.
const TITLE_WAIT: Duration = Duration::from_secs(2);

/// How people call those who may do something, when it is not admins alone.
const MEMBERS: &str = "members";

const fn whose(who: Who) -> &'static str {
    match who {
        Who::Admins => "admins",
        Who::Members => MEMBERS,
    }
}

/// What an event about a group is to whoever follows its log.
pub(crate) fn news(event: &Event, book: &Book) -> Option<(ThreadId, String)> {
    match event {
        Event::ChangeBroken { thread, author } => {
            let who = book.name_of(&author.account);
            Some((*thread, format!("a change of this group by {who} is broken: this device goes on past it")))
        }
        Event::ChangesMissing { thread } => {
            let what = "this group has gone on by a change that your relay does not hand over: what is said since is shown when it does";
            Some((*thread, what.to_owned()))
        }
        Event::PolicyChanged { thread, by, policy } => {
            let admins: Vec<_> = policy.admins.iter().map(|admin| book.name_of(admin)).collect();
            let may = |who, what| if who == Who::Members { format!("; everybody {what}") } else { String::new() };
            let (by, admins) = (book.name_of(by), admins.join(", "));
            let (adds, renames) = (may(policy.adds, "takes people in"), may(policy.renames, "says what it is called"));
            Some((*thread, format!("{by} changed who may do what: admins are {admins}{adds}{renames}")))
        }
        Event::TitleChanged { thread, title } => {
            Some((*thread, format!("the group is called {} now", sanitize::line(title))))
        }
        Event::PictureChanged { thread } => {
            Some((*thread, "the group has another picture, or none any more".to_owned()))
        }
        Event::LeaveRefused { thread } => {
            let why = "you are in this group as before: you are its only admin; make somebody else one, then leave";
            Some((*thread, why.to_owned()))
        }
        _ => None,
    }
}

/// Why a link led nowhere.
const fn declined_because(why: Declined) -> &'static str {
    match why {
        Declined::Link => "the link leads into the group no more: it is over, used up, taken back, or not for you",
        Declined::Leave => "whoever made the link takes nobody into the group any more",
        Declined::Failed => "they could not take you into the group; try again, or ask them",
    }
}

/// What the proof against a group's hub means to its owner.
pub(crate) const HUB_CONTRADICTS: &str =
    "its hub signed two orders of its changes: some in it were shown others than you; compare who is in it with them";

/// A group as it stands.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GroupShown {
    pub(crate) thread: ThreadId,
    pub(crate) title: Option<String>,
    /// `opening`, `open`, `halted`, `failed` or `left`.
    pub(crate) standing: String,
    /// How often it has changed.
    pub(crate) epoch: u64,
    /// Whether its hub was found to show some in it other changes than others.
    pub(crate) hub_contradicts: bool,
    /// Who takes people in: `admins` or `members`.
    pub(crate) adds: String,
    /// Who says what it is called and gives it a picture, in the same words.
    pub(crate) renames: String,
    pub(crate) picture: Option<PictureMark>,
    pub(crate) members: Vec<MemberShown>,
}

/// What is said of a group's picture where it is not shown.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PictureMark {
    /// `png`, `jpeg` or `webp`.
    pub(crate) format: String,
    /// How long it is.
    pub(crate) bytes: usize,
}

/// Somebody in a group.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct MemberShown {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) admin: bool,
}

impl Show for GroupShown {
    fn text(&self) -> String {
        let title = self.title.as_deref().map_or_else(|| "group".to_owned(), sanitize::line);
        let standing = if self.standing == "open" { String::new() } else { format!(", {}", self.standing) };
        let mut text = format!("{title}  ({}{standing})", short(&self.thread));
        if self.hub_contradicts {
            text.push_str(&format!("\n  WARNING  {HUB_CONTRADICTS}"));
        }
        for (who, what) in [(&self.adds, "takes people in"), (&self.renames, "says what it is called")] {
            if who == MEMBERS {
                text.push_str(&format!("\n  everybody {what}"));
            }
        }
        if let Some(PictureMark { format, bytes }) = &self.picture {
            let see = format!("whimbrel group picture {} --save FILE", short(&self.thread));
            text.push_str(&format!("\n  picture: {format}, {bytes} bytes; see it: {see}"));
        }
        for member in &self.members {
            let admin = if member.admin { "  admin" } else { "" };
            text.push_str(&format!("\n  {}{admin}", sanitize::line(&member.name)));
        }
        text
    }
}

impl Desk<'_> {
    pub(crate) async fn group(&self, errand: GroupErrand) -> Result<(), Failure> {
        match errand {
            GroupErrand::New { title, people } => {
                let people = self.people(&people).await?;
                self.caught_up().await?;
                match self.command(Command::CreateGroup { title, people }).await? {
                    Reply::Group { thread } => {
                        self.wait_open(&thread).await?;
                        self.show_group(&thread).await
                    }
                    other => Err(unexpected(&other)),
                }
            }
            GroupErrand::List => {
                for thread in self.read(views::threads)?.into_iter().filter(|thread| thread.founder.is_some()) {
                    self.show_group(&thread.thread).await?;
                }
                Ok(())
            }
            GroupErrand::Show { group } => {
                let thread = self.group_of(&group).await?;
                self.show_group(&thread).await
            }
            GroupErrand::Add { group, people } => {
                let people = self.people(&people).await?;
                let thread = self.change_of(&group).await?;
                self.changed(Command::AddMembers { thread, people }, &thread).await
            }
            GroupErrand::Remove { group, people } => {
                let thread = self.change_of(&group).await?;
                let people = self.members(&thread, &people)?;
                self.changed(Command::RemoveMembers { thread, people }, &thread).await
            }
            GroupErrand::Role { group, admin, people } => {
                let thread = self.change_of(&group).await?;
                let mut people = self.members(&thread, &people)?;
                people.sort_unstable();
                let change = match admin {
                    true => PolicyChange { admins: people, ..PolicyChange::default() },
                    false => PolicyChange { members: people, ..PolicyChange::default() },
                };
                self.changed(Command::SetPolicy { thread, change }, &thread).await
            }
            GroupErrand::Policy { group, members_add, members_rename } => {
                let thread = self.change_of(&group).await?;
                let who = |members| if members { Who::Members } else { Who::Admins };
                let (adds, renames) = (members_add.map(who), members_rename.map(who));
                if adds.is_none() && renames.is_none() {
                    return self.show_group(&thread).await;
                }
                let change = PolicyChange { adds, renames, ..PolicyChange::default() };
                self.changed(Command::SetPolicy { thread, change }, &thread).await
            }
            GroupErrand::Rename { group, title } => {
                let thread = self.change_of(&group).await?;
                self.changed(Command::RenameGroup { thread, title }, &thread).await
            }
            GroupErrand::Picture { group, picture } => {
                let thread = self.change_of(&group).await?;
                self.changed(Command::SetPicture { thread, picture }, &thread).await
            }
            GroupErrand::ShowPicture { group } => {
                let thread = self.change_of(&group).await?;
                match self.read(|reads| views::picture(reads, &thread))? {
                    Some(bytes) => {
                        let format =
                            Format::of(&bytes).map_or_else(|| "unknown".to_owned(), |format| format.to_string());
                        self.item(Item::Picture(PictureShown { thread, format, picture: hex(&bytes) })).await
                    }
                    None => Err(Failure::new(Exit::NotFound, "not_found", "this group has no picture")),
                }
            }
            GroupErrand::Rekey { group } => {
                let thread = self.change_of(&group).await?;
                self.changed(Command::RenewKeys { thread }, &thread).await
            }
            GroupErrand::Leave { group } => {
                let thread = self.change_of(&group).await?;
                match self.command(Command::LeaveGroup { thread }).await? {
                    Reply::Done => {
                        let done = "asked to leave; an admin's device takes you out, or a member's if none is there"
                            .to_owned();
                        self.item(Item::Done(Done { done })).await
                    }
                    other => Err(unexpected(&other)),
                }
            }
        }
    }

    /// Waits until this device is in a group that it came to by a link.
    pub(crate) async fn taken_in(&self, group: &ThreadId, mut events: Listener) -> Result<(), Failure> {
        let mut named = self.local.events();
        let waited = timeout_at(self.deadline.into(), async {
            loop {
                // From the store, not from the event alone: an event can be missed, a row cannot.
                let standing = self.read(|reads| views::thread(reads, group))?.map(|thread| thread.standing);
                if standing == Some(Standing::Open) {
                    return Ok(());
                }
                match events.next().await {
                    Heard::Event(Event::JoinDeclined { group: declined, why, .. }) if declined == *group => {
                        return Err(Failure::new(Exit::Usage, "declined", declined_because(why)));
                    }
                    Heard::End(failure) => return Err(failure),
                    Heard::Event(_) | Heard::TooMuch => {}
                }
            }
        });
        match waited.await {
            Ok(Ok(())) => {
                // What it is called is said to newcomers right after they are in; where it is called nothing, nothing comes.
                let called = async {
                    while self.read(|reads| views::thread(reads, group))?.is_some_and(|thread| thread.title.is_none()) {
                        if let Heard::End(failure) = named.next().await {
                            return Err(failure);
                        }
                    }
                    Ok(())
                };
                if let Ok(ended) = timeout(TITLE_WAIT, called).await {
                    ended?;
                }
                self.show_group(group).await
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let done = "asked to be taken into the group; the device that made the link does it when it is there";
                self.item(Item::Done(Done { done: done.to_owned() })).await
            }
        }
    }

    /// A change of a group, once everything that waited is here: it is made on what holds now.
    pub(crate) async fn change_of(&self, group: &str) -> Result<ThreadId, Failure> {
        self.caught_up().await?;
        self.group_of(group).await
    }

    async fn changed(&self, command: Command, thread: &ThreadId) -> Result<(), Failure> {
        match self.command(command).await {
            Ok(Reply::Done) => self.show_group(thread).await,
            Ok(other) => Err(unexpected(&other)),
            Err(failure) if failure.exit == Exit::Unreachable => {
                Err(failure.hint("the change is kept, and handed in with the next command"))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Contacts, each by a name of their own.
    async fn people(&self, names: &[String]) -> Result<Vec<AccountId>, Failure> {
        let mut people = BTreeSet::new();
        for name in names {
            match self.resolve(name).await? {
                Target::People(some) => people.extend(some),
                Target::Thread(_) => return Err(Failure::usage(format!("'{name}' is a chat; people are meant"))),
            }
        }
        Ok(people.into_iter().collect())
    }

    /// People in a group, contacts or not: by name, address, or the beginning of their account.
    fn members(&self, thread: &ThreadId, names: &[String]) -> Result<Vec<AccountId>, Failure> {
        let book = self.book()?;
        let others = self.read(|reads| views::thread(reads, thread))?.map(|thread| thread.people).unwrap_or_default();
        let own = self.own()?;
        let own_name = own.address.as_ref().map(ToString::to_string);
        let mut people = Vec::new();
        for name in names {
            let wanted = name.trim().to_lowercase();
            let fits = |account: &&AccountId| {
                let own = own_name.clone().filter(|_| **account == own.account);
                let called = own.unwrap_or_else(|| book.name_of(account));
                let name = called.split_once('@').map_or(called.as_str(), |(name, _)| name);
                called == wanted || name == wanted || wanted.len() >= 4 && account.to_string().starts_with(&wanted)
            };
            let mut fitting = others.iter().chain([&own.account]).filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(account), None) => people.push(*account),
                (Some(_), Some(_)) => {
                    return Err(Failure::new(Exit::NotFound, "ambiguous", format!("several here may be '{name}'"))
                        .hint("write the whole address, or more of the account"));
                }
                (None, _) => {
                    return Err(Failure::new(Exit::NotFound, "not_found", format!("nobody in it is called '{name}'"))
                        .hint("see who is in it: whimbrel group show GROUP"));
                }
            }
        }
        Ok(people)
    }

    /// The group somebody means: by its title, or the beginning of its id.
    async fn group_of(&self, text: &str) -> Result<ThreadId, Failure> {
        match self.resolve(text).await? {
            Target::Thread(thread) if self.book()?.titles.contains_key(&thread) => Ok(thread),
            _ => Err(Failure::new(Exit::NotFound, "not_found", format!("'{text}' is no group"))
                .hint("see your groups: whimbrel group list")),
        }
    }

    /// Gives the relay a moment to take a new group; it is durable here already.
    async fn wait_open(&self, thread: &ThreadId) -> Result<(), Failure> {
        for _ in 0..200 {
            match self.read(|reads| views::thread(reads, thread))?.map(|thread| thread.standing) {
                Some(Standing::Opening) => tokio::time::sleep(Duration::from_millis(25)).await,
                Some(Standing::Failed) => {
                    return Err(Failure::internal("the relay did not take the group"));
                }
                _ => return Ok(()),
            }
        }
        self.hint("the group is kept; the next command hands it in").await
    }

    async fn show_group(&self, thread: &ThreadId) -> Result<(), Failure> {
        let book = self.book()?;
        let own = self.own()?;
        let Some(view) = self.read(|reads| views::thread(reads, thread))? else {
            return Err(Failure::internal("a group that is not here"));
        };
        let left = view.standing == Standing::Left;
        let own_name = own.address.as_ref().map_or_else(|| "me".to_owned(), ToString::to_string);
        let me = (!left).then_some((own.account, own_name));
        let others = view.people.iter().map(|account| (*account, book.name_of(account)));
        let shown = |(account, name): (AccountId, String)| {
            let admin = view.policy.as_ref().is_some_and(|policy| policy.is_admin(&account));
            MemberShown { account, name, admin }
        };
        let members = me.into_iter().chain(others).map(shown).collect();
        let standing = match view.standing {
            Standing::Opening => "opening",
            Standing::Open => "open",
            Standing::Halted => "halted",
            Standing::Failed => "failed",
            Standing::Left => "left",
            _ => "unknown",
        };
        let picture = self.read(|reads| views::picture(reads, thread))?;
        let mark = |bytes: Vec<u8>| Some(PictureMark { format: Format::of(&bytes)?.to_string(), bytes: bytes.len() });
        let picture = picture.and_then(mark);
        self.item(Item::Group(GroupShown {
            thread: *thread,
            picture,
            title: view.title.clone(),
            standing: standing.to_owned(),
            epoch: view.epoch.get(),
            adds: whose(view.policy.as_ref().map_or(Who::Admins, |policy| policy.adds)).to_owned(),
            renames: whose(view.policy.as_ref().map_or(Who::Admins, |policy| policy.renames)).to_owned(),
            hub_contradicts: self.read(views::contradictions)?.iter().any(|(caught, _)| caught == thread),
            members,
        }))
        .await
    }
}
