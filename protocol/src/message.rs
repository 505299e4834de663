//! Messages: what devices say to each other inside the seal. Relays never see any of it.
//! Rules: docs/protocol/message.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::hub::SignedReceipt;
use crate::id::{AccountId, DeviceId, DeviceIndex, InviteToken, LogHash, MessageId, ThreadId};
use crate::siblings::Fact;
use crate::signed::Signed;
use crate::time::{Hlc, Wall};
use crate::transparency::SignedHead;
use crate::{limits, picture};

/// The signed content of an MLS application message.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Content {
    /// Chosen by the author; the same however often the message is sealed.
    #[n(0)]
    pub message: MessageId,
    /// The author's clock.
    #[n(1)]
    pub hlc: Hlc,
    /// The newest messages the author had seen in the thread.
    #[n(2)]
    pub parents: Vec<MessageId>,
    /// Counts the author device's messages in the thread, from 1; absent for classes that may be dropped.
    #[n(3)]
    pub counter: Option<u64>,
    /// What is said.
    #[n(4)]
    pub body: Body,
    /// What a text replies to.
    #[n(5)]
    pub reply: Option<Target>,
    /// Who is named in a text, and ought to notice.
    #[n(6)]
    #[cbor(default)]
    pub mentions: Vec<AccountId>,
    /// How long a text is there to be read, in milliseconds; absent: for ever.
    #[n(7)]
    pub lasts_ms: Option<u64>,
}

impl Content {
    /// A content that is not counted, and about nothing but itself.
    pub const fn new(message: MessageId, hlc: Hlc, body: Body) -> Self {
        Self {
            message,
            hlc,
            parents: Vec::new(),
            counter: None,
            body,
            reply: None,
            mentions: Vec::new(),
            lasts_ms: None,
        }
    }
}

/// What a content says.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Text to show.
    #[n(0)]
    Text(#[n(0)] String),
    /// Where the author's node can be dialled.
    #[n(1)]
    Candidates(#[n(0)] Candidates),
    /// What the group is called from now on; counts from its admin alone.
    #[n(2)]
    Title(#[n(0)] String),
    /// The author asks to be taken out of the group, with a word by which any member can do it; absent from a version of before.
    #[n(3)]
    Leave(#[n(0)] Option<Box<Signed>>),
    /// What the author's device has of others' contents; of no weight itself.
    #[n(4)]
    Receipt(#[n(0)] DeviceReceipt),
    /// Another text in place of one of the author's account.
    #[n(5)]
    Edit(#[n(0)] Target, #[n(1)] String),
    /// A text of the author's account is taken back.
    #[n(6)]
    Unsend(#[n(0)] Target),
    /// What the author's account says to a message with a sign.
    #[n(7)]
    React(#[n(0)] Reaction),
    /// How long texts are there to be read from now on, in milliseconds; zero: for ever.
    #[n(8)]
    Timer(#[n(0)] u64),
    /// What the author's device holds, for its siblings: of weight in the account's own thread alone.
    #[n(9)]
    Facts(#[n(0)] Vec<Fact>),
    /// The author's device misses contents of another.
    #[n(10)]
    Repair(#[n(0)] Repair),
    /// Stands for a content of the author's that does not come any more.
    #[n(11)]
    Gone,
    /// The picture of the group from now on; absent: none. Counts from whoever may say the title.
    #[n(12)]
    Picture(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Option<Vec<u8>>,
    ),
    /// The author has a link into a group, which that device of the reader's made, by its token, and asks to be taken in.
    #[n(16)]
    Ask(#[n(0)] ThreadId, #[n(1)] DeviceIndex, #[n(2)] InviteToken),
    /// The author takes the reader into no group of theirs by the link they came by.
    #[n(17)]
    Declined(#[n(0)] ThreadId, #[n(1)] Declined),
    /// What hubs said of the newest commits of threads in which the readers are too: a reader holds it against what it was shown.
    #[n(15)]
    Receipts(#[n(0)] Vec<SignedReceipt>),
    /// The newest head of the author's relay's tree, as it was shown to them: a reader holds it against what they are shown.
    #[n(19)]
    TreeHead(#[n(0)] Box<SignedHead>),
    /// How far the author's account log goes: a reader who has less of it asks for it.
    #[n(24)]
    LogHead(#[n(0)] u64, #[n(1)] LogHash),
}

/// Why somebody who came by a link is not taken into a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Declined {
    /// The link is not known, over, taken back or used up; whoever was taken out of the group cannot use it either.
    #[n(0)]
    Link,
    /// Whoever made the link may take nobody in any more.
    #[n(1)]
    Leave,
    /// They could not be taken in: the group has no room, or their devices have left no keys.
    #[n(2)]
    Failed,
}

/// A message, by its id and its author: another member could give the same id to words of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Target {
    /// Its id.
    #[n(0)]
    pub message: MessageId,
    /// Who wrote it.
    #[n(1)]
    pub author: DeviceId,
}

/// What a device has.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceReceipt {
    /// Whether its owner read them, too.
    #[n(0)]
    pub read: bool,
    /// Contents that are durable there; each is of interest to its author alone.
    #[n(1)]
    pub messages: Vec<MessageId>,
}

/// A sign beside a message.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reaction {
    /// Which message.
    #[n(0)]
    pub to: Target,
    /// The sign.
    #[n(1)]
    pub sign: String,
    /// Whether it stands from now on, or is taken back.
    #[n(2)]
    pub stands: bool,
}

/// Contents that a device misses, by their counters.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Repair {
    /// Whose contents.
    #[n(0)]
    pub author: DeviceId,
    /// Which, ascending.
    #[n(1)]
    pub counters: Vec<u64>,
}

impl Body {
    /// Whether its author counts it, so that others see when it is missing.
    pub const fn is_counted(&self) -> bool {
        match self {
            Self::Text(_) | Self::Edit(..) | Self::Unsend(_) | Self::React(_) | Self::Timer(_) | Self::Gone => true,
            Self::Candidates(_)
            | Self::Title(_)
            | Self::Picture(_)
            | Self::Leave(_)
            | Self::LogHead(..)
            | Self::TreeHead(_)
            | Self::Receipt(_)
            | Self::Receipts(_)
            | Self::Ask(..)
            | Self::Declined(..)
            | Self::Facts(_)
            | Self::Repair(_) => false,
        }
    }
}

/// Direct addresses of a node, signed by its leaf like every content.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Candidates {
    /// Multiaddresses of its QUIC socket, without the peer id: that is the device's transport key.
    #[n(0)]
    pub addresses: Vec<String>,
    /// When they were true. Older than [`limits::CANDIDATE_AGE_MAX`] is not dialled.
    #[n(1)]
    pub at: Wall,
    /// Whether the author asks for the reader's own in return.
    #[n(2)]
    pub answer: bool,
}

impl std::fmt::Debug for Candidates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidates").field("addresses", &self.addresses.len()).field("at", &self.at).finish()
    }
}

impl std::fmt::Debug for DeviceReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("messages", &self.messages.len()).field("read", &self.read).finish()
    }
}

impl std::fmt::Debug for Reaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaction").field("to", &self.to).field("stands", &self.stands).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("message", &self.message).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Candidates(candidates) => write!(f, "Candidates({})", candidates.addresses.len()),
            Self::Title(title) => write!(f, "Title({} bytes)", title.len()),
            Self::Picture(picture) => write!(f, "Picture({} bytes)", picture.as_ref().map_or(0, Vec::len)),
            Self::Leave(_) => f.write_str("Leave"),
            Self::Ask(group, ..) => write!(f, "Ask({group:?})"),
            Self::Declined(group, why) => write!(f, "Declined({group:?}, {why:?})"),
            Self::LogHead(seq, _) => write!(f, "LogHead({seq})"),
            Self::TreeHead(_) => f.write_str("TreeHead"),
            Self::Receipt(receipt) => write!(f, "Receipt({}, read {})", receipt.messages.len(), receipt.read),
            Self::Receipts(receipts) => write!(f, "Receipts({})", receipts.len()),
            Self::Edit(_, text) => write!(f, "Edit({} bytes)", text.len()),
            Self::Unsend(_) => f.write_str("Unsend"),
            Self::React(reaction) => write!(f, "React({} bytes)", reaction.sign.len()),
            Self::Timer(lasts_ms) => write!(f, "Timer({lasts_ms} ms)"),
            Self::Facts(facts) => write!(f, "Facts({})", facts.len()),
            Self::Repair(repair) => write!(f, "Repair({})", repair.counters.len()),
            Self::Gone => f.write_str("Gone"),
        }
    }
}

impl Words for Content {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("parents", self.parents.len(), limits::PARENTS_MAX)?;
        Bound::items("mentions", self.mentions.len(), limits::MENTIONS_MAX)?;
        match &self.body {
            Body::Text(text) | Body::Edit(_, text) => Bound::bytes("text", text.len(), limits::TEXT_BYTES_MAX),
            Body::React(reaction) => Bound::bytes("sign", reaction.sign.len(), limits::REACTION_BYTES_MAX),
            Body::Receipt(receipt) => Bound::items("receipt", receipt.messages.len(), limits::RECEIPT_MESSAGES_MAX),
            Body::Receipts(receipts) => {
                Bound::items("commit receipts", receipts.len(), limits::RECEIPTS_TOLD_AT_ONCE)?;
                receipts.iter().try_for_each(SignedReceipt::check)
            }
            Body::Repair(repair) => Bound::items("repair", repair.counters.len(), limits::REPAIR_COUNTERS_MAX),
            Body::Facts(facts) => {
                Bound::items("facts", facts.len(), limits::FACTS_AT_ONCE)?;
                facts.iter().try_for_each(Fact::check)
            }
            Body::Title(title) => Bound::bytes("title", title.len(), limits::TITLE_BYTES_MAX),
            Body::Picture(picture) => picture::check(picture.as_deref()),
            Body::Ask(..) | Body::Declined(..) => Ok(()),
            Body::Leave(Some(words)) => Bound::bytes("leave", words.content.len(), limits::LEAVE_BYTES_MAX),
            Body::Leave(None) | Body::LogHead(..) | Body::Unsend(_) | Body::Timer(_) | Body::Gone => Ok(()),
            Body::TreeHead(head) => head.check(),
            Body::Candidates(candidates) => {
                Bound::items("addresses", candidates.addresses.len(), limits::CANDIDATE_ADDRESSES_MAX)?;
                let longest = candidates.addresses.iter().map(String::len).max().unwrap_or(0);
                Bound::bytes("address", longest, limits::CANDIDATE_ADDRESS_BYTES_MAX)
            }
        }
    }
}
