//! Friendship service: who may reach whom, and see whether they are there.
//! A request, an acceptance and a removal are signed by a device and carried by relays as they are; declining, blocking
//! and what a friend may see are between an account and its own relay.
//! Rules: docs/protocol/friendship.md.

use minicbor::{Decode, Encode};

use crate::frame::{Bound, Words};
use crate::id::{AccountId, Address, DeviceId, Domain, RequestId, Sequence};
use crate::limits;
use crate::signed::Signed;
use crate::time::Wall;

/// Context of the signature over a [`FriendshipWord`].
pub const FRIENDSHIP_CONTEXT: &str = "whimbrel friendship 1";

/// What one account says to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Act {
    /// Let us be friends.
    #[n(0)]
    Request,
    /// Yes.
    #[n(1)]
    Accept,
    /// No longer; or: not any more, to a request of one's own.
    #[n(2)]
    Remove,
}

/// The content of a signed word about friendship.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FriendshipWord {
    /// The device that says it.
    #[n(0)]
    pub by: DeviceId,
    /// Where its account is found.
    #[n(1)]
    pub address: Address,
    /// To whom.
    #[n(2)]
    pub to: AccountId,
    /// What.
    #[n(3)]
    pub act: Act,
    /// When, by the device's clock: of two words of one account, the later one holds.
    #[n(4)]
    pub at: Wall,
    /// A line to the other person; relays can read it.
    #[n(5)]
    pub note: Option<String>,
}

/// The answer to a removal and to a block: it holds. What lies in the owner's inbox log up to here came before.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Parted {
    /// The request.
    #[n(0)]
    pub request: RequestId,
    /// Where the inbox log ended when it took effect.
    #[n(1)]
    pub inbox: Sequence,
}

impl Words for Parted {}

/// Hands a word in; the relay passes it on to the other account's relay, as its own (`PeerBefriend`) when that is another.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Befriend {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Where the other account lives.
    #[n(1)]
    pub domain: Domain,
    /// A [`FriendshipWord`].
    #[n(2)]
    pub word: Signed,
}

/// A relay passes on a word of one of its own users.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PeerBefriend {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// A [`FriendshipWord`].
    #[n(1)]
    pub word: Signed,
}

/// Takes a request from the list without an answer to whoever asked.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Decline {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whose request; absent: all there are.
    #[n(1)]
    pub account: Option<AccountId>,
}

/// Keeps somebody away, or no longer. Nobody is told.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Block {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Whom.
    #[n(1)]
    pub account: AccountId,
    /// Where they live.
    #[n(2)]
    pub domain: Domain,
    /// Whether they are kept away from now on.
    #[n(3)]
    pub blocked: bool,
}

/// Whether a friend may see when the owner is there.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct LetSee {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// Which friend.
    #[n(1)]
    pub account: AccountId,
    /// Whether.
    #[n(2)]
    pub allowed: bool,
}

/// Asks for the owner's list, by account.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ListFriends {
    /// Pairs the answer.
    #[n(0)]
    pub request: RequestId,
    /// The last account of the page before.
    #[n(1)]
    pub after: Option<AccountId>,
    /// How many, at most [`limits::FRIEND_PAGE_MAX`].
    #[n(2)]
    pub limit: u16,
}

/// How things stand with another account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Standing {
    /// The owner asked, and has no answer.
    #[n(0)]
    Asked,
    /// The other asks the owner.
    #[n(1)]
    Asking,
    /// Both agreed.
    #[n(2)]
    Friends,
    /// The owner keeps the other away.
    #[n(3)]
    Blocked,
}

/// One row of the owner's list.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Friend {
    /// The other account.
    #[n(0)]
    pub account: AccountId,
    /// Where it lives.
    #[n(1)]
    pub domain: Domain,
    /// How things stand.
    #[n(2)]
    pub standing: Standing,
    /// Whether it may see when the owner is there.
    #[n(3)]
    pub sees: bool,
    /// Since when it is so, by the relay's clock.
    #[n(4)]
    pub since: Wall,
    /// While it asks: its request.
    #[n(5)]
    pub word: Option<Signed>,
}

/// A page of the list.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FriendPage {
    /// The request answered.
    #[n(0)]
    pub request: RequestId,
    /// The rows, ascending by account.
    #[n(1)]
    pub friends: Vec<Friend>,
    /// Whether more follow.
    #[n(2)]
    pub more: bool,
}

impl Words for Decline {}
impl Words for Block {}
impl Words for LetSee {}

impl Words for FriendshipWord {
    fn check(&self) -> Result<(), Bound> {
        let note = self.note.as_deref().unwrap_or_default();
        Bound::bytes("note", note.len(), limits::NOTE_BYTES_MAX)?;
        Bound::items("characters of a note", note.chars().count(), limits::NOTE_CHARS_MAX)
    }
}

impl Words for Befriend {
    fn check(&self) -> Result<(), Bound> {
        word(&self.word)
    }
}

impl Words for PeerBefriend {
    fn check(&self) -> Result<(), Bound> {
        word(&self.word)
    }
}

impl Words for ListFriends {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("limit", usize::from(self.limit), limits::FRIEND_PAGE_MAX)
    }
}

impl Words for FriendPage {
    fn check(&self) -> Result<(), Bound> {
        Bound::items("friends", self.friends.len(), limits::FRIEND_PAGE_MAX)?;
        self.friends.iter().filter_map(|friend| friend.word.as_ref()).try_for_each(word)
    }
}

/// The bound of a signed word about friendship.
pub(crate) fn word(word: &Signed) -> Result<(), Bound> {
    Bound::bytes("word", word.content.len(), limits::FRIENDSHIP_WORD_BYTES_MAX)
}
