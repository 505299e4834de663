//! Words: what a command asks of an open node, and what comes back.
//! Owns: the requests and results, as they cross the daemon's socket (one JSON object per line) and as they are printed.
//! Never: knows whether the node is in this process or in the daemon: that is why both behave alike.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_node::Path;
use whimbrel_node::api::State;
use whimbrel_node::views::{History, Trust};
use whimbrel_protocol::id::{AccountId, Address, MessageId, ThreadId};
use whimbrel_protocol::time::Wall;

use crate::about::AboutErrand;
use crate::account::{AccountErrand, DeviceShown};
use crate::args::Wait;
use crate::clock;
use crate::failure::Failure;
use crate::groups::{GroupErrand, GroupShown, HUB_CONTRADICTS};
use crate::output::Show;
use crate::resolve::short;
use crate::sanitize;
use crate::shown::{
    CardShown, ChatShown, Done, FORGED_LOG, FriendShown, KeyShown, KeysShown, OpenInviteShown, PictureShown,
    PresenceShown, RowShown, TWO_FACES, TypingShown,
};

/// Version of the words on the socket: a command and a daemon of different builds must not misread each other.
pub(crate) const SOCKET_VERSION: u32 = 10;

/// One request, with how long it may take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) v: u32,
    /// Whose profile is meant: two data folders can share the place of a socket.
    pub(crate) home: std::path::PathBuf,
    pub(crate) timeout_ms: u64,
    pub(crate) request: Request,
}

/// What a command wants.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Makes an invite.
    NewInvite { uses: u32, expires_ms: u64, group: Option<String> },
    /// Takes one up.
    Accept { link: String },
    /// Sends a text.
    Send { to: String, text: String, reply: Option<String>, mentions: Vec<String>, wait: Option<Wait> },
    /// Syncs, then lists unread messages.
    Inbox,
    /// What was listed has been seen.
    MarkRead { marks: Vec<Mark> },
    /// A chat's history.
    Log { chat: String, number: usize, since: Option<Wall>, follow: bool, blocked: bool, typing: bool },
    /// How things are.
    Status,
    /// The own identity.
    Me,
    /// Everybody who can be written to.
    Contacts,
    /// Something about people, invites, cards, chats or the own account.
    Errand(Errand),
}

/// A request about people, invites, cards, chats or the own account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "errand", rename_all = "snake_case")]
pub(crate) enum Errand {
    /// Asks somebody to be friends.
    Befriend { who: String, note: Option<String> },
    /// Says yes to somebody who asked.
    AcceptFriend { who: String },
    /// Ends it.
    RemoveFriend { who: String },
    /// Takes a request off the list; absent: all.
    DeclineFriend { who: Option<String> },
    /// Keeps somebody away, or no longer.
    Block { who: String, blocked: bool },
    /// Whether a friend may see when the owner is there.
    LetSee { who: String, allowed: bool },
    /// Somebody's keys.
    Keys { who: String },
    /// Compares keys with somebody, by the number they see or by the owner's word, or takes that back.
    Verify { who: String, how: Verdict },
    /// Every key somebody has had.
    KeyHistory { who: String },
    /// How things stand with others.
    Friends { which: Which },
    /// Which contacts are there.
    Presence,
    /// Whether the owner is shown to be there.
    SetVisible { visible: bool },
    /// The open invites.
    Invites,
    /// Takes one back: its link or its id.
    RevokeInvite { invite: String },
    /// Puts up what friends are shown of the owner.
    SetProfile { display: Option<String>, about: Option<String> },
    /// A card: the own, or a contact's.
    Profile { who: Option<String> },
    /// The conversations.
    Chats,
    /// Changes what the owner keeps of one.
    SetChat { chat: String, change: ChatChange },
    /// About groups whose members change.
    Group(GroupErrand),
    /// About the owner's own keys and devices.
    Account(AccountErrand),
    /// About messages.
    About(AboutErrand),
    /// Everything the relay keeps of the owner.
    Export,
    /// Deletes the account at the relay.
    DeleteAccount { name: String },
    /// Names where this device is woken.
    SetWake { url: String, key: Vec<u8>, auth: [u8; 16] },
    /// It is not woken any more.
    WakeOff,
    /// Confirms that it can be.
    ConfirmWake { code: [u8; 16] },
}

/// What came of comparing keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The other one sees this.
    Number(String),
    /// The owner says that it is the same.
    Same,
    /// It is open again.
    Open,
}

/// Part of the list of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    Requests,
    Blocked,
    All,
}

/// What is changed of a chat.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChatChange {
    MuteForMs(u64),
    Mute,
    Unmute,
    Label(Option<String>),
    Archived(bool),
    Pinned(bool),
    ReadReceipts(Option<bool>),
}

/// A thread, read up to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) thread: ThreadId,
    pub(crate) upto: MessageId,
}

// A request carries what somebody wrote, or an invite's token: no log may show it.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NewInvite { .. } => "NewInvite",
            Self::Accept { .. } => "Accept",
            Self::Send { .. } => "Send",
            Self::Inbox => "Inbox",
            Self::MarkRead { .. } => "MarkRead",
            Self::Log { .. } => "Log",
            Self::Status => "Status",
            Self::Me => "Me",
            Self::Contacts => "Contacts",
            Self::Errand(_) => "Errand",
        })
    }
}

/// A line of an answer. The last one is [`Line::End`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A result.
    Item(Item),
    /// Something useful that is no result.
    Hint(String),
    /// That was all.
    End(Option<Failure>),
}

/// A result; in JSON its `type` names it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    Invite(InviteMade),
    Met(Met),
    Sent(Sent),
    Message(Box<Shown>),
    Typing(TypingShown),
    Status(Box<StatusShown>),
    Me(Me),
    Contact(ContactShown),
    Friend(FriendShown),
    Keys(KeysShown),
    Key(KeyShown),
    Presence(PresenceShown),
    OpenInvite(OpenInviteShown),
    Profile(CardShown),
    Chat(ChatShown),
    Group(GroupShown),
    Device(DeviceShown),
    Done(Done),
    Row(RowShown),
    Picture(PictureShown),
}

/// An invite, ready to be passed on.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InviteMade {
    pub(crate) link: String,
    /// Names it for `invite revoke`.
    pub(crate) id: String,
    pub(crate) uses: u32,
    pub(crate) expires: String,
}

/// A new contact.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Met {
    pub(crate) contact: Address,
    pub(crate) account: AccountId,
    pub(crate) thread: ThreadId,
}

/// A message of ours and how far it is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) message: MessageId,
    pub(crate) thread: ThreadId,
    /// See [`state_name`].
    pub(crate) state: String,
}

/// A message as people see it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) message: MessageId,
    pub(crate) thread: ThreadId,
    /// The others in the chat.
    pub(crate) chat: String,
    /// Who wrote it: an address, `me`, or the head of an account id.
    pub(crate) from: String,
    pub(crate) text: String,
    /// By the author's clock.
    pub(crate) sent_at: String,
    pub(crate) received_at: String,
    /// `relay`, `federation` or `direct`; absent for our own.
    pub(crate) path: Option<String>,
    /// Whether it is ours.
    pub(crate) own: bool,
    /// How far it has come, of our own: see [`state_name`].
    pub(crate) state: Option<String>,
    /// Why it is `failed` or `partial`.
    pub(crate) reason: Option<String>,
    /// Who does not have it, when it is `partial`.
    pub(crate) missing: Vec<String>,
    /// Of our own: how many devices said to have it; absent in a thread too large for that.
    pub(crate) receipts: Option<ReceiptsShown>,
    /// What it replies to.
    pub(crate) reply: Option<MessageId>,
    /// Who is named in it.
    pub(crate) mentions: Vec<String>,
    /// Whether its author changed the text.
    pub(crate) edited: bool,
    /// Whether its author took it back: then there is no text.
    pub(crate) unsent: bool,
    /// `blocked`: the owner keeps its author away and did not ask to see it, so there is no text.
    pub(crate) hidden: Option<String>,
    /// The signs beside it.
    pub(crate) reactions: Vec<ReactionShown>,
    /// How long it is there to be read, in milliseconds; absent: for ever.
    pub(crate) lasts_ms: Option<u64>,
    /// How many contents of its author are missing just before it.
    pub(crate) missing_before: u64,
    /// How many entries the relay let go just before it, at most: those that no counter shows.
    pub(crate) dropped_before: u64,
}

/// A sign beside a message.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ReactionShown {
    /// Whose.
    pub(crate) by: String,
    pub(crate) sign: String,
}

/// What others' devices say of a message.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ReceiptsShown {
    pub(crate) delivered: u32,
    pub(crate) read: u32,
    /// For so many devices it was.
    pub(crate) of: u32,
}

/// How things are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StatusShown {
    pub(crate) address: Option<Address>,
    /// `running` or `not running`.
    pub(crate) daemon: bool,
    pub(crate) relay: RelayShown,
    pub(crate) contacts: Vec<ContactShown>,
    pub(crate) queued: usize,
    pub(crate) unread: usize,
    /// One-time keys left at the relay for people who begin a conversation; absent: it did not say.
    pub(crate) key_packages: Option<u32>,
    /// Relays that were found to show different people different account logs.
    pub(crate) two_faces: Vec<String>,
    /// Threads whose hub was found to have signed two orders of their changes.
    pub(crate) hub_contradicts: Vec<ThreadId>,
    /// When the relay was last seen to show, as our account log, what is none.
    pub(crate) forged_log: Option<String>,
    /// Relays that do not show that what they told others is the beginning of what they tell us.
    pub(crate) withheld: Vec<String>,
    /// How far this device is with what was said before it came; absent: it has all of it.
    pub(crate) history: Option<HistoryShown>,
}

/// How far a device is with what was said before it came.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryShown {
    /// Conversations that are here.
    pub(crate) chats: u64,
    /// Of how many; absent: not known yet.
    pub(crate) of: Option<u64>,
    /// Texts that came.
    pub(crate) texts: u64,
}

impl From<History> for HistoryShown {
    fn from(History { conversations, of, texts }: History) -> Self {
        Self { chats: conversations, of, texts }
    }
}

impl HistoryShown {
    pub(crate) fn text(&self) -> String {
        match self.of {
            Some(of) => format!("{} of {of} chats, {} texts so far", self.chats, self.texts),
            None => "waits for another device of yours".to_owned(),
        }
    }
}

/// The home relay.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RelayShown {
    pub(crate) domain: String,
    pub(crate) endpoint: String,
    pub(crate) connected: bool,
    /// Why not, as far as known.
    pub(crate) reason: Option<String>,
    /// Whether its tree of account logs has ours as it is here: `found`, `pending`, or `unproved`.
    pub(crate) log: String,
    /// How many entries that tree had.
    pub(crate) entries: Option<u64>,
}

/// The own identity.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Me {
    pub(crate) address: Option<Address>,
    pub(crate) account: AccountId,
    pub(crate) device: u32,
    pub(crate) relay: String,
}

/// Somebody who can be written to.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ContactShown {
    pub(crate) address: Address,
    pub(crate) account: AccountId,
    /// The way the next message would take: `direct`, `relay` or `federation`.
    pub(crate) path: String,
    pub(crate) unread: usize,
    /// `unverified`, `verified`, or `changed` since they were verified.
    pub(crate) trust: String,
}

/// The name of a trust, everywhere.
pub(crate) fn trust_name(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "verified",
        Trust::Changed => "changed",
        _ => "unverified",
    }
}

/// The name of a path, everywhere.
pub(crate) fn path_name(path: Path) -> &'static str {
    match path {
        Path::Relay => "relay",
        Path::Federation => "federation",
        Path::Direct => "direct",
    }
}

/// The name of a state, everywhere: `queued` here, `stored` at the relay, `delivered` to every device; `failed`, nobody
/// else has it; `partial`, some of the others do not get it, or never said to have it.
pub(crate) fn state_name(state: &State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Stored => "stored",
        State::Delivered => "delivered",
        State::Failed(_) => "failed",
        State::Partial { .. } => "partial",
    }
}

impl Show for InviteMade {
    fn text(&self) -> String {
        self.link.clone()
    }
}

impl Show for Met {
    fn text(&self) -> String {
        format!("you can write to {} now: whimbrel send {} 'hello'", self.contact, self.contact.name)
    }
}

impl Show for Sent {
    fn text(&self) -> String {
        format!("{} {}", self.state, self.message)
    }
}

impl Shown {
    /// The text, then by which way and when: so it is heard in the right order, too.
    pub(crate) fn said(&self) -> String {
        let path = self.path.as_ref().map(|path| format!(", {path}")).unwrap_or_default();
        let time = self.sent_at.replacen('T', " ", 1);
        let reason = self.reason.as_deref().unwrap_or_default();
        let fate = match self.state.as_deref() {
            Some("queued") => ", queued".to_owned(),
            Some(state @ ("stored" | "delivered")) => match self.receipts {
                Some(ReceiptsShown { read, of, .. }) if read > 0 => {
                    format!(", read{}", share(read, of).replace(" to ", " on "))
                }
                Some(ReceiptsShown { delivered, of, .. }) if delivered > 0 => {
                    format!(", delivered{}", share(delivered, of))
                }
                _ => format!(", {state}"),
            },
            Some("failed") => format!(", failed: {}", sanitize::line(reason)),
            Some("partial") => {
                format!(", not delivered to {}: {}", sanitize::line(&self.missing.join(", ")), sanitize::line(reason))
            }
            _ => String::new(),
        };
        let edited = if self.edited { ", edited" } else { "" };
        let reply =
            self.reply.map(|of| format!(", to {}", of.to_string().get(..8).unwrap_or_default())).unwrap_or_default();
        let lasts =
            self.lasts_ms.map(|ms| format!(", lasts {}", humantime::format_duration(Duration::from_millis(ms))));
        let named = match self.mentions.is_empty() {
            true => String::new(),
            false => format!(", names {}", sanitize::line(&self.mentions.join(", "))),
        };
        let signs: Vec<_> = self.reactions.iter().map(|one| format!("{} {}", one.sign, one.by)).collect();
        let signs = if signs.is_empty() { String::new() } else { format!("  [{}]", sanitize::line(&signs.join(", "))) };
        let text = match (&self.hidden, self.unsent) {
            (Some(why), _) => format!("(hidden: {})", sanitize::line(why)),
            (None, true) => "(taken back)".to_owned(),
            (None, false) => sanitize::block(&self.text, "    "),
        };
        let dropped = match self.dropped_before {
            0 => String::new(),
            count => format!("(messages missing: the relay let up to {count} go before this) "),
        };
        let missing = match self.missing_before {
            0 => String::new(),
            count => format!("({count} missing before) "),
        };
        let lasts = lasts.unwrap_or_default();
        format!("{dropped}{missing}{text}  ({time}{path}{reply}{named}{edited}{lasts}{fate}){signs}")
    }
}

/// Of how many devices, where that is not all.
fn share(have: u32, of: u32) -> String {
    if have < of { format!(" to {have} of {of}") } else { String::new() }
}

impl Show for Shown {
    fn text(&self) -> String {
        format!("{}: {}", sanitize::line(&self.from), self.said())
    }
}

impl Show for StatusShown {
    fn text(&self) -> String {
        let address = self.address.as_ref().map_or_else(|| "not registered".to_owned(), ToString::to_string);
        let daemon = if self.daemon { "running" } else { "not running" };
        let relay = match (&self.relay.connected, &self.relay.reason) {
            (true, _) => "connected".to_owned(),
            (false, Some(reason)) => format!("not connected: {}", sanitize::line(reason)),
            (false, None) => "not connected".to_owned(),
        };
        let mut text = format!(
            "address  {address}\ndaemon   {daemon}\nrelay    {} ({}), {relay}\nqueued   {}\nunread   {}",
            self.relay.domain,
            sanitize::line(&self.relay.endpoint),
            self.queued,
            self.unread
        );
        if let Some(left) = self.key_packages {
            text.push_str(&format!("\nkeys     {left} left at the relay"));
        }
        if let Some(history) = &self.history {
            text.push_str(&format!("\nhistory  {}", history.text()));
        }
        let log = match (self.relay.log.as_str(), self.relay.entries) {
            ("found", Some(entries)) => format!("yours is in the relay's tree of {entries} entries"),
            ("unproved", _) => "NOT PROVED: the relay does not show yours in its tree of account logs".to_owned(),
            _ => "not looked up in the relay's tree yet".to_owned(),
        };
        text.push_str(&format!("\nlog      {log}"));
        if let Some(when) = &self.forged_log {
            text.push_str(&format!("\nWARNING  {}: {FORGED_LOG}; last seen {when}", self.relay.domain));
        }
        for relay in &self.two_faces {
            text.push_str(&format!("\nWARNING  {relay}: {TWO_FACES}"));
        }
        for thread in &self.hub_contradicts {
            text.push_str(&format!("\nWARNING  {}: {HUB_CONTRADICTS}", short(thread)));
        }
        for relay in &self.withheld {
            text.push_str(&format!("\nwarning  {relay} does not show that its tree of account logs is one"));
        }
        for contact in &self.contacts {
            text.push_str(&format!("\ncontact  {}", contact.text()));
        }
        text
    }
}

impl Show for Me {
    fn text(&self) -> String {
        let address = self.address.as_ref().map_or_else(|| "not registered".to_owned(), ToString::to_string);
        format!("address  {address}\naccount  {}\ndevice   {}\nrelay    {}", self.account, self.device, self.relay)
    }
}

impl Show for ContactShown {
    fn text(&self) -> String {
        let unread = if self.unread > 0 { format!(", {} unread", self.unread) } else { String::new() };
        let trust = match self.trust.as_str() {
            "verified" => ", verified",
            "changed" => ", KEY CHANGED since you verified it",
            _ => "",
        };
        format!("{}  ({}{trust}{unread})", self.address, self.path)
    }
}

impl Show for Item {
    fn text(&self) -> String {
        match self {
            Self::Invite(item) => item.text(),
            Self::Met(item) => item.text(),
            Self::Sent(item) => item.text(),
            Self::Message(item) => item.text(),
            Self::Typing(item) => item.text(),
            Self::Status(item) => item.text(),
            Self::Me(item) => item.text(),
            Self::Contact(item) => item.text(),
            Self::Key(item) => item.text(),
            Self::Friend(item) => item.text(),
            Self::Keys(item) => item.text(),
            Self::Presence(item) => item.text(),
            Self::OpenInvite(item) => item.text(),
            Self::Profile(item) => item.text(),
            Self::Chat(item) => item.text(),
            Self::Group(item) => item.text(),
            Self::Device(item) => item.text(),
            Self::Done(item) => item.text(),
            Self::Row(item) => item.text(),
            Self::Picture(item) => item.text(),
        }
    }
}

/// When an invite of `holds_ms` made now ends.
pub(crate) fn expiry(holds_ms: u64) -> String {
    clock::rfc3339(Wall::from_millis(clock::wall().as_millis().saturating_add(holds_ms)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_warns_of_a_relay_that_showed_a_log_that_is_none() {
        let relay = json!({ "domain": "a.example", "endpoint": "a.example:1", "connected": true, "log": "found", "entries": 2 });
        let mut status = json!({
            "daemon": true, "relay": relay, "contacts": [], "queued": 0, "unread": 0, "two_faces": [], "hub_contradicts": [],
            "withheld": [],
        });
        // As a daemon of before says it.
        let quiet: StatusShown = serde_json::from_value(status.clone()).unwrap();
        assert!(!quiet.text().contains("WARNING"), "{}", quiet.text());
        status["forged_log"] = json!("2026-01-02T03:04:05Z");
        let warns: StatusShown = serde_json::from_value(status).unwrap();
        let line = format!("WARNING  a.example: {FORGED_LOG}; last seen 2026-01-02T03:04:05Z");
        assert!(warns.text().lines().any(|one| one == line), "{}", warns.text());
    }
}
