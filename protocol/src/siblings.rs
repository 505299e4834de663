//! Siblings: what the devices of one account tell each other. Facts travel in their own thread, for every device and for
//! those that are to come; a history goes from one device to another, by the relay that passes its words on and keeps none.
//! Rules: docs/protocol/devices.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{
    AccountId, Address, DeviceId, DeviceIndex, Epoch, LogHash, MessageId, PublicKey, RequestId, Sequence, ThreadId,
};
use crate::thread::{Founding, Participant};
use crate::time::{Hlc, Wall};
use crate::{limits, picture};

/// Something all devices of an account are to hold. Of two words about the same thing the later one holds, or both
/// together: told twice, or in another order, it comes to the same.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fact {
    /// When it was said, by that device's clock.
    #[n(0)]
    pub at: Hlc,
    /// The device that said it first.
    #[n(1)]
    pub by: DeviceIndex,
    /// What holds.
    #[n(2)]
    pub what: What,
}

/// What a fact is about, and what of it holds.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum What {
    /// Somebody known to the account, and whether there is consent between them.
    #[n(0)]
    Contact(#[n(0)] AccountId, #[n(1)] Known),
    /// Whether the owner keeps somebody away.
    #[n(1)]
    Blocked(#[n(0)] AccountId, #[n(1)] Address, #[n(2)] bool),
    /// The identity key the owner compared with somebody; absent: taken back.
    #[n(2)]
    Verified(#[n(0)] AccountId, #[n(1)] Option<PublicKey>),
    /// What a group is called.
    #[n(3)]
    Title(#[n(0)] ThreadId, #[n(1)] String),
    /// Which contents of a device the owner has read in a thread: stretches of its counters, first and last, ascending and
    /// apart. Two of these hold together.
    #[n(4)]
    Read(#[n(0)] ThreadId, #[n(1)] DeviceId, #[n(2)] Vec<(u64, u64)>),
    /// How often the owner's settings of a thread were changed: the relay keeps them for all devices. The greater holds.
    #[n(5)]
    Settings(#[n(0)] ThreadId, #[n(1)] u64),
    /// Another identity key in the place of one, for whoever holds that.
    #[n(6)]
    Identity(#[n(0)] Handover),
    /// Under which key a device is given the history; absent: it needs none. Its own word alone.
    #[n(7)]
    History(
        #[n(0)] DeviceIndex,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        Option<[u8; 32]>,
    ),
    /// Something said in a thread at this time, or about it, came to a device and could not come to every other: its author
    /// had not heard of them. Whoever is told asks for what was said since, unless they had a leaf in that epoch.
    #[n(8)]
    Late(#[n(0)] ThreadId, #[n(1)] Hlc, #[n(2)] Epoch),
    /// The picture of a group; absent: none.
    #[n(9)]
    Picture(
        #[n(0)] ThreadId,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        Option<Vec<u8>>,
    ),
}

/// Somebody, as a sibling is told.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Known {
    /// Where they are found.
    #[n(0)]
    pub address: Address,
    /// Whether there is consent.
    #[n(1)]
    pub contact: bool,
    /// How far their account log goes.
    #[n(2)]
    pub head: (u64, LogHash),
    /// That log, if it is not too long: it proves itself. Otherwise it is asked for.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Option<Vec<u8>>,
    /// The owner parted with them: where the account's inbox log ended then, once the relay said so.
    #[n(4)]
    pub parted: Option<Sequence>,
}

/// An identity key from one that rotated it to those that hold the one before.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Handover {
    /// The public half of the one before.
    #[n(0)]
    pub old: PublicKey,
    /// The public half of the new one.
    #[n(1)]
    pub new: PublicKey,
    /// The new one, sealed under a key that follows from the one before.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

// Whom somebody knows and what they read is nobody's to read in a log.
impl std::fmt::Debug for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fact({:?})", self.what)
    }
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Contact(..) => "Contact(…)",
            Self::Blocked(..) => "Blocked(…)",
            Self::Verified(..) => "Verified(…)",
            Self::Title(..) => "Title(…)",
            Self::Read(..) => "Read(…)",
            Self::Settings(..) => "Settings(…)",
            Self::Identity(_) => "Identity(…)",
            Self::History(..) => "History(…)",
            Self::Late(..) => "Late(…)",
            Self::Picture(..) => "Picture(…)",
        })
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known(…)")
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handover(…)")
    }
}

impl Fact {
    pub(crate) fn check(&self) -> Result<(), Bound> {
        match &self.what {
            What::Contact(_, known) => {
                let bytes = known.log.as_ref().map_or(0, Vec::len);
                Bound::bytes("account log", bytes, limits::FACT_LOG_BYTES_MAX)
            }
            What::Title(_, title) => Bound::bytes("title", title.len(), limits::TITLE_BYTES_MAX),
            What::Picture(_, picture) => picture::check(picture.as_deref()),
            What::Read(_, _, stretches) => {
                Bound::items("stretches", stretches.len(), limits::READ_STRETCHES_MAX)?;
                let whole = stretches.iter().all(|(first, last)| first <= last);
                let apart = stretches.iter().zip(stretches.iter().skip(1)).all(|(one, next)| one.1 < next.0);
                if whole && apart { Ok(()) } else { Err(Bound::order("stretches")) }
            }
            What::Identity(handover) => Bound::bytes("identity key", handover.sealed.len(), limits::HANDOVER_BYTES_MAX),
            What::Blocked(..) | What::Verified(..) | What::Settings(..) | What::History(..) | What::Late(..) => Ok(()),
        }
    }
}

/// Words for another device of the account, which is there; the relay passes them on and keeps nothing.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TellSibling {
    /// Pairs the answer: [`crate::reception::Done`], once they are on their way.
    #[n(0)]
    pub request: RequestId,
    /// For which.
    #[n(1)]
    pub to: DeviceIndex,
    /// Sealed.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Words of another device of the account.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SiblingTold {
    /// Of which.
    #[n(0)]
    pub from: DeviceIndex,
    /// Sealed.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for TellSibling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = f.debug_struct("TellSibling");
        words.field("request", &self.request).field("to", &self.to).field("bytes", &self.bytes.len()).finish()
    }
}

impl std::fmt::Debug for SiblingTold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiblingTold").field("from", &self.from).field("bytes", &self.bytes.len()).finish()
    }
}

impl Words for TellSibling {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("sibling words", self.bytes.len(), limits::SIBLING_WORDS_BYTES_MAX)
    }
}

impl Words for SiblingTold {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("sibling words", self.bytes.len(), limits::SIBLING_WORDS_BYTES_MAX)
    }
}

/// What is said of a history inside the seal.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum HistoryWords {
    /// For the conversations there are. With the number that its answer has.
    #[n(0)]
    Threads(#[n(0)] u64),
    /// For a page of a conversation, backwards from a place. With the epoch that the asker is in: whoever has not come so far
    /// may still be given what it could not be, and waits with the answer.
    #[n(1)]
    Lines(#[n(0)] u64, #[n(1)] ThreadId, #[n(2)] Option<HistoryPlace>, #[n(3)] Option<Epoch>),
    /// All conversations, the newest first.
    #[n(2)]
    ThreadList(#[n(0)] u64, #[n(1)] Vec<ThreadId>),
    /// Of a conversation who is in it, its texts, the newest first, and where to go on; nothing: there are no earlier ones.
    #[n(3)]
    LinePage(#[n(0)] u64, #[n(1)] Option<Box<HistoryThread>>, #[n(2)] Vec<HistoryLine>, #[n(3)] Option<HistoryPlace>),
}

/// A place in a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(map)]
pub struct HistoryPlace {
    /// The author's clock.
    #[n(0)]
    pub hlc: Hlc,
    /// Which message.
    #[n(1)]
    pub message: MessageId,
    /// Whose.
    #[n(2)]
    pub author: DeviceId,
}

/// A conversation, for a device that is not in it. Nothing that opens or seals.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct HistoryThread {
    /// Who is, or was, in it.
    #[n(0)]
    pub participants: Vec<Participant>,
    /// Where its id comes from.
    #[n(1)]
    pub founding: Option<Founding>,
    /// When something last happened in it.
    #[n(2)]
    pub updated: Wall,
}

/// A text of a history, with what was said about it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HistoryLine {
    /// Where it stands.
    #[n(0)]
    pub place: HistoryPlace,
    /// When it came to the device that gives it.
    #[n(1)]
    pub received: Wall,
    /// What was said; empty when it was taken back.
    #[n(2)]
    pub text: String,
    /// Its author's number for it.
    #[n(3)]
    pub counter: Option<u64>,
    /// What it replies to.
    #[n(4)]
    pub reply: Option<crate::message::Target>,
    /// Who is named in it.
    #[n(5)]
    pub mentions: Vec<AccountId>,
    /// Whether it was taken back.
    #[n(6)]
    pub unsent: bool,
    /// The newest text in its place, and its own place.
    #[n(7)]
    pub edit: Option<(HistoryPlace, String)>,
    /// Signs beside it: whose, which, when, and whether it stands.
    #[n(8)]
    pub signs: Vec<HistorySign>,
}

/// A sign beside a text of a history.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HistorySign {
    /// Whose.
    #[n(0)]
    pub by: AccountId,
    /// The sign.
    #[n(1)]
    pub sign: String,
    /// When it was said.
    #[n(2)]
    pub at: HistoryPlace,
    /// Whether it stands.
    #[n(3)]
    pub stands: bool,
}

impl std::fmt::Debug for HistoryLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistoryLine").field("place", &self.place).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HistorySign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistorySign").field("at", &self.at).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HistoryWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Threads(..) => f.write_str("Threads"),
            Self::Lines(..) => f.write_str("Lines"),
            Self::ThreadList(_, threads) => write!(f, "ThreadList({})", threads.len()),
            Self::LinePage(_, _, lines, _) => write!(f, "LinePage({})", lines.len()),
        }
    }
}

impl Words for HistoryWords {
    fn check(&self) -> Result<(), Bound> {
        match self {
            Self::Threads(..) | Self::Lines(..) => Ok(()),
            Self::ThreadList(_, threads) => Bound::items("conversations", threads.len(), limits::ACCOUNT_THREADS_MAX),
            Self::LinePage(_, thread, lines, _) => {
                let people = thread.as_ref().map_or(0, |thread| thread.participants.len());
                Bound::items("participants", people, limits::THREAD_DEVICES_MAX)?;
                Bound::items("texts", lines.len(), limits::HISTORY_LINES_AT_ONCE)?;
                lines.iter().try_for_each(HistoryLine::check)
            }
        }
    }
}

impl HistoryLine {
    fn check(&self) -> Result<(), Bound> {
        Bound::bytes("text", self.text.len(), limits::TEXT_BYTES_MAX)?;
        Bound::items("mentions", self.mentions.len(), limits::MENTIONS_MAX)?;
        let edit = self.edit.as_ref().map_or(0, |(_, text)| text.len());
        Bound::bytes("text", edit, limits::TEXT_BYTES_MAX)?;
        Bound::items("signs", self.signs.len(), limits::HISTORY_SIGNS_MAX)?;
        let longest = self.signs.iter().map(|one| one.sign.len()).max().unwrap_or(0);
        Bound::bytes("sign", longest, limits::REACTION_BYTES_MAX)
    }
}
