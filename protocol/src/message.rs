//! Messages: what devices say to each other inside the seal. Relays never see any of it.
//! Rules: docs/protocol/message.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{LogHash, MessageId};
use crate::limits;
use crate::time::{Hlc, Wall};

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
    /// The author asks the group's admin to be taken out.
    #[n(3)]
    Leave,
    /// How far the author's account log goes: a reader who has less of it asks for it.
    #[n(24)]
    LogHead(#[n(0)] u64, #[n(1)] LogHash),
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
            Self::Leave => f.write_str("Leave"),
            Self::LogHead(seq, _) => write!(f, "LogHead({seq})"),
        }
    }
}

impl Words for Content {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("parents", self.parents.len(), limits::PARENTS_MAX)?;
        match &self.body {
            Body::Text(text) => Bound::bytes("text", text.len(), limits::TEXT_BYTES_MAX),
            Body::Title(title) => Bound::bytes("title", title.len(), limits::TITLE_BYTES_MAX),
            Body::Leave | Body::LogHead(..) => Ok(()),
            Body::Candidates(candidates) => {
                Bound::items("addresses", candidates.addresses.len(), limits::CANDIDATE_ADDRESSES_MAX)?;
                let longest = candidates.addresses.iter().map(String::len).max().unwrap_or(0);
                Bound::bytes("address", longest, limits::CANDIDATE_ADDRESS_BYTES_MAX)
            }
        }
    }
}
