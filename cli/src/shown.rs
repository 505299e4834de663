//! Shown: results about people, invites, cards, chats and the own account.
//! Owns: their form in JSON and as text. Never: prints what others wrote unsanitised.

use serde::{Deserialize, Serialize};
use whimbrel_node::views::{KeyPeriod, LogProof};
use whimbrel_protocol::id::{AccountId, Address, ThreadId};

use crate::clock;
use crate::output::Show;
use crate::sanitize;

/// How things stand with somebody.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct FriendShown {
    pub(crate) account: AccountId,
    /// Where they are found, by what was proved here; absent when only the relay knows of them.
    pub(crate) address: Option<Address>,
    pub(crate) domain: String,
    /// `asked` by the owner, `asking`, `friends`, `blocked`, or `none`.
    pub(crate) standing: String,
    /// Whether they may see when the owner is there.
    pub(crate) sees: bool,
    pub(crate) since: String,
    /// What they wrote to their request.
    pub(crate) note: Option<String>,
    /// Whether it stands so by words that were proved here, or by the relay's word alone.
    pub(crate) verified: bool,
}

impl Show for FriendShown {
    fn text(&self) -> String {
        let who = match &self.address {
            Some(address) => address.to_string(),
            None => format!("{} at {}", self.account, self.domain),
        };
        let note = self.note.as_deref().map(|note| format!(": {}", sanitize::line(note))).unwrap_or_default();
        let unproved = if self.verified { "" } else { ", by the relay's word alone" };
        format!("{who}  ({}{unproved}){note}", self.standing)
    }
}

/// Somebody's keys, and whether they were compared.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeysShown {
    pub(crate) account: AccountId,
    pub(crate) address: Address,
    /// Sixty digits in groups of five, the same at both ends.
    pub(crate) number: String,
    /// What a picture of it holds.
    pub(crate) scannable: String,
    /// `unverified`, `verified`, or `changed` since.
    pub(crate) trust: String,
    /// Every identity key they have had, oldest first.
    pub(crate) keys: Vec<KeyShown>,
    /// Their devices: index and label.
    pub(crate) devices: Vec<(u32, String)>,
    /// `found` in their relay's tree of account logs, `pending`, or `unproved`.
    pub(crate) log: String,
    /// Whether their relay was found to show different people different logs.
    pub(crate) relay_two_faces: bool,
}

/// An identity key that somebody has or had.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyShown {
    pub(crate) key: String,
    /// By their clock.
    pub(crate) since: String,
    /// Whether it is theirs now.
    pub(crate) current: bool,
    /// When you compared it with them; absent: never.
    pub(crate) verified_at: Option<String>,
}

impl KeyShown {
    pub(crate) fn of(history: Vec<KeyPeriod>) -> Vec<Self> {
        let last = history.len().saturating_sub(1);
        let shown = history.into_iter().enumerate().map(|(place, period)| Self {
            key: period.key.to_string(),
            since: clock::rfc3339(period.since),
            current: place == last,
            verified_at: period.compared.map(clock::rfc3339),
        });
        shown.collect()
    }
}

impl Show for KeyShown {
    fn text(&self) -> String {
        let verified = match &self.verified_at {
            Some(at) => format!("verified {at}"),
            None => "not verified".to_owned(),
        };
        let current = if self.current { ", theirs now" } else { "" };
        format!("{}  since {}  ({verified}{current})", self.key.get(..16).unwrap_or(&self.key), self.since)
    }
}

/// What a relay is told to be when it has been caught.
pub(crate) const TWO_FACES: &str =
    "TWO FACES: this relay shows different people different account logs; trust only keys that you compared";

/// What a relay did that shows somebody's own device an account log that is none of theirs.
pub(crate) const FORGED_LOG: &str =
    "FORGED LOG: this relay shows, as your account log, one that is not yours; none of it was believed";

/// The name of what is known of a log, everywhere.
pub(crate) fn log_name(log: LogProof) -> &'static str {
    match log {
        LogProof::Found(_) => "found",
        LogProof::Unproved => "unproved",
        _ => "pending",
    }
}

impl Show for KeysShown {
    fn text(&self) -> String {
        let groups: Vec<_> = self.number.split(' ').collect();
        let rows: Vec<_> = groups.chunks(4).map(|row| row.join(" ")).collect();
        let trust = match self.trust.as_str() {
            "verified" => "verified: you compared this number",
            "changed" => {
                "CHANGED: their key is another since you verified it. They may have recovered their account; or \
                          somebody is in their place. Compare the number again"
            }
            _ => "not verified: compare this number with what they see",
        };
        let mut text = format!("address  {}\nnumber   {}\ntrust    {trust}", self.address, rows.join("\n         "));
        for key in &self.keys {
            text.push_str(&format!("\nkey      {}", key.text()));
        }
        let log = match self.log.as_str() {
            "found" => "as their relay shows it to everybody",
            "unproved" => "NOT PROVED: their relay does not show it to everybody; or they deleted their account",
            _ => "not looked up in their relay's tree yet",
        };
        text.push_str(&format!("\nlog      {log}"));
        if self.relay_two_faces {
            text.push_str(&format!("\nrelay    {TWO_FACES}"));
        }
        for (index, label) in &self.devices {
            text.push_str(&format!("\ndevice   {index}  {}", sanitize::line(label)));
        }
        text
    }
}

/// Whether a contact is there.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PresenceShown {
    pub(crate) contact: Address,
    pub(crate) account: AccountId,
    /// By the relay's word, as far as the contact lets it be seen.
    pub(crate) online: bool,
}

impl Show for PresenceShown {
    fn text(&self) -> String {
        format!("{}  {}", self.contact, if self.online { "online" } else { "offline" })
    }
}

/// An open invite.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OpenInviteShown {
    /// Names it for `invite revoke`; nobody can use it.
    pub(crate) id: String,
    /// How often it may still be used.
    pub(crate) left: u32,
    pub(crate) expires: String,
    /// What the group is called that it leads into.
    pub(crate) group: Option<String>,
}

impl Show for OpenInviteShown {
    fn text(&self) -> String {
        let id: String = self.id.chars().take(16).collect();
        let group = self.group.as_deref().map_or_else(String::new, |group| format!("  into {}", sanitize::line(group)));
        format!("{id}  (uses left: {}, until {}){group}", self.left, self.expires)
    }
}

/// What somebody says of themselves.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CardShown {
    pub(crate) account: AccountId,
    pub(crate) address: Option<Address>,
    pub(crate) display: String,
    pub(crate) about: Option<String>,
    pub(crate) revision: u64,
}

impl Show for CardShown {
    fn text(&self) -> String {
        let mut text = format!("name     {}", sanitize::line(&self.display));
        if let Some(about) = &self.about {
            text.push_str(&format!("\nabout    {}", sanitize::line(about)));
        }
        if let Some(address) = &self.address {
            text.push_str(&format!("\naddress  {address}"));
        }
        text
    }
}

/// A conversation and what the owner keeps of it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ChatShown {
    pub(crate) thread: ThreadId,
    /// The others in it.
    pub(crate) chat: String,
    pub(crate) label: Option<String>,
    pub(crate) unread: u64,
    pub(crate) pinned: bool,
    pub(crate) archived: bool,
    /// Until when it is quiet; absent: it is not.
    pub(crate) muted_until: Option<String>,
    /// Whether the relay keeps these for the owner's devices.
    pub(crate) kept: bool,
    /// Whether others are told what was read in it; absent: as the configuration says.
    pub(crate) read_receipts: Option<bool>,
}

impl Show for ChatShown {
    fn text(&self) -> String {
        let mut marks = Vec::new();
        if let Some(label) = &self.label {
            marks.push(sanitize::line(label));
        }
        if self.unread > 0 {
            marks.push(format!("{} unread", self.unread));
        }
        for (is, mark) in [(self.pinned, "pinned"), (self.archived, "archived")] {
            if is {
                marks.push(mark.to_owned());
            }
        }
        if let Some(until) = &self.muted_until {
            marks.push(format!("muted until {until}"));
        }
        match self.read_receipts {
            Some(true) => marks.push("tells when it is read".to_owned()),
            Some(false) => marks.push("does not tell when it is read".to_owned()),
            None => {}
        }
        let marks = if marks.is_empty() { String::new() } else { format!("  ({})", marks.join(", ")) };
        format!("{}{marks}", sanitize::line(&self.chat))
    }
}

/// Somebody is writing, or no longer.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TypingShown {
    pub(crate) thread: ThreadId,
    /// The others in the chat.
    pub(crate) chat: String,
    /// Who.
    pub(crate) from: String,
    /// Whether they are writing now; without another word that is over after `lasts_ms`.
    pub(crate) typing: bool,
    pub(crate) lasts_ms: u64,
}

impl Show for TypingShown {
    fn text(&self) -> String {
        format!("{} {}", sanitize::line(&self.from), if self.typing { "is writing" } else { "stopped writing" })
    }
}

/// Something is done, and this is how it is now.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) done: String,
}

impl Show for Done {
    fn text(&self) -> String {
        self.done.clone()
    }
}

/// A row that the relay keeps of the owner; key and value in hexadecimal.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RowShown {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Show for RowShown {
    fn text(&self) -> String {
        format!("{} {} {}", sanitize::line(&self.kind), self.key, self.value)
    }
}

/// The picture of a group, in hexadecimal.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PictureShown {
    pub(crate) thread: ThreadId,
    /// `png`, `jpeg` or `webp`.
    pub(crate) format: String,
    pub(crate) picture: String,
}

impl PictureShown {
    /// Its bytes; nothing when it was written otherwise.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let digits = self.picture.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
    }
}

impl Show for PictureShown {
    fn text(&self) -> String {
        format!("{}, {} bytes", self.format, self.picture.len() / 2)
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
