//! Frames: everything one process says to another, by kind.
//! Owns: the kinds' numbers and their greatest sizes. A number is never used again for something else.
//! Rules: docs/protocol/frames.md.

use minicbor::{Decode, Encode};

use crate::canonical::{self, CanonicalError};
use crate::limits::{CONTROL_FRAME_BYTES_MAX, ENVELOPE_FRAME_BYTES_MAX, LARGE_FRAME_BYTES_MAX};
use crate::{
    direct, federation, friendship, hold, hub, linking, presence, push, reception, siblings, signal, thread,
    transparency, user, wake,
};

/// A well-formed value that is over a bound of [`crate::limits`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Bound {
    /// Too many bytes or items.
    #[error("{what}: {found} over the bound of {max}")]
    Over {
        /// What is over.
        what: &'static str,
        /// What was found.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not of the one length there is.
    #[error("{what}: {found} bytes in place of {wanted}")]
    Length {
        /// What has another length.
        what: &'static str,
        /// What was found.
        found: usize,
        /// What every one has.
        wanted: usize,
    },
    /// Not in the order the protocol asks for.
    #[error("{what} out of order")]
    Order {
        /// What is out of order.
        what: &'static str,
    },
}

impl Bound {
    pub(crate) fn bytes(what: &'static str, found: usize, max: usize) -> Result<(), Self> {
        if found <= max { Ok(()) } else { Err(Self::Over { what, found, max }) }
    }

    pub(crate) fn items(what: &'static str, found: usize, max: usize) -> Result<(), Self> {
        Self::bytes(what, found, max)
    }

    pub(crate) fn order(what: &'static str) -> Self {
        Self::Order { what }
    }
}

/// What a decoded value must hold to besides its shape.
pub trait Words: Sized {
    /// Checks every list and text against its bound.
    ///
    /// # Errors
    /// The first bound broken.
    fn check(&self) -> Result<(), Bound> {
        Ok(())
    }
}

/// Decodes one value in deterministic form and checks its bounds.
///
/// # Errors
/// As [`FrameError`] says.
pub fn decode_words<'b, T: Decode<'b, ()> + Words>(bytes: &'b [u8]) -> Result<T, FrameError> {
    let value: T = canonical::decode(bytes)?;
    value.check()?;
    Ok(value)
}

/// Encodes one value in deterministic form.
pub fn encode_words<T: Encode<()> + Words>(value: &T) -> Vec<u8> {
    canonical::encode(value)
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header claims more than the kind allows; nothing was allocated for it. The link is beyond repair.
    #[error("frame kind {kind} of {found} bytes is over its bound of {max}")]
    Oversize {
        /// The kind's number.
        kind: u16,
        /// What the header claims.
        found: usize,
        /// What the kind allows.
        max: usize,
    },
    /// Not deterministic CBOR, or not of the kind's shape.
    #[error(transparent)]
    Malformed(#[from] CanonicalError),
    /// A list or text over its bound.
    #[error(transparent)]
    Bound(#[from] Bound),
}

macro_rules! frames {
    ($($(#[$doc:meta])* $number:literal $name:ident($type:ty) $max:ident,)*) => {
        /// One frame.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Frame {
            $($(#[$doc])* $name($type),)*
            /// A kind this version does not know; its body was read past. Answered with
            /// [`crate::RefusalCode::UnknownKind`].
            Unknown(u16),
        }

        impl Frame {
            /// Every kind's number and name.
            pub const KINDS: &'static [(u16, &'static str)] = &[$(($number, stringify!($name)),)*];

            /// The kind's number.
            pub const fn kind(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $number,)*
                    Self::Unknown(kind) => *kind,
                }
            }

            /// The kind's name, for logs.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                    Self::Unknown(_) => "Unknown",
                }
            }

            /// The greatest body of a kind, in bytes.
            pub const fn body_bytes_max(kind: u16) -> usize {
                match kind {
                    $($number => $max,)*
                    _ => CONTROL_FRAME_BYTES_MAX,
                }
            }

            /// Encodes the body behind what is there.
            pub(crate) fn encode_body(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$name(words) => canonical::encode_onto(words, bytes),)*
                    Self::Unknown(_) => {}
                }
            }

            pub(crate) fn decode_body(kind: u16, body: &[u8]) -> Result<Self, FrameError> {
                match kind {
                    $($number => decode_words(body).map(Self::$name),)*
                    other => Ok(Self::Unknown(other)),
                }
            }
        }

        $(impl From<$type> for Frame {
            fn from(words: $type) -> Self {
                Self::$name(words)
            }
        })*
    };
}

frames! {
    /// See [`reception::Hello`].
    1 Hello(reception::Hello) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Admitted`].
    2 Admitted(reception::Admitted) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Register`].
    3 Register(reception::Register) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Registered`].
    4 Registered(reception::Registered) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Refused`].
    5 Refused(reception::Refused) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Done`].
    6 Done(reception::Done) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::Heartbeat`].
    7 Heartbeat(reception::Heartbeat) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::HeartbeatAnswer`].
    8 HeartbeatAnswer(reception::HeartbeatAnswer) CONTROL_FRAME_BYTES_MAX,
    /// See [`presence::Goodbye`].
    9 Goodbye(presence::Goodbye) CONTROL_FRAME_BYTES_MAX,
    /// See [`presence::SetVisible`].
    10 SetVisible(presence::SetVisible) CONTROL_FRAME_BYTES_MAX,

    /// See [`user::LookUp`].
    16 LookUp(user::LookUp) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::LookedUp`].
    17 LookedUp(user::LookedUp) LARGE_FRAME_BYTES_MAX,
    /// See [`user::StockKeyPackages`].
    18 StockKeyPackages(user::StockKeyPackages) LARGE_FRAME_BYTES_MAX,
    /// See [`user::Stocked`].
    19 Stocked(user::Stocked) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::ClaimKeyPackages`].
    20 ClaimKeyPackages(user::ClaimKeyPackages) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::ClaimedKeyPackages`].
    21 ClaimedKeyPackages(user::ClaimedKeyPackages) LARGE_FRAME_BYTES_MAX,
    /// See [`user::NewInvite`].
    22 NewInvite(user::NewInvite) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::ListInvites`].
    23 ListInvites(user::ListInvites) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::InvitePage`].
    24 InvitePage(user::InvitePage) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::RevokeInvite`].
    25 RevokeInvite(user::RevokeInvite) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::SetProfile`].
    26 SetProfile(user::SetProfile) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::FetchProfile`].
    27 FetchProfile(user::FetchProfile) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::Profile`].
    28 Profile(user::Profile) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::ExportOwn`].
    29 ExportOwn(user::ExportOwn) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::Exported`].
    30 Exported(user::Exported) LARGE_FRAME_BYTES_MAX,
    /// See [`user::DeleteAccount`].
    31 DeleteAccount(user::DeleteAccount) CONTROL_FRAME_BYTES_MAX,

    /// See [`thread::OpenThread`].
    32 OpenThread(thread::OpenThread) LARGE_FRAME_BYTES_MAX,
    /// See [`thread::Submit`].
    33 Submit(thread::Submit) ENVELOPE_FRAME_BYTES_MAX,
    /// See [`thread::Stored`].
    34 Stored(thread::Stored) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::ThreadExists`].
    35 ThreadExists(thread::ThreadExists) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::TagThread`].
    36 TagThread(thread::TagThread) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::ListThreads`].
    37 ListThreads(thread::ListThreads) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::ThreadPage`].
    38 ThreadPage(thread::ThreadPage) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::FetchBlob`].
    39 FetchBlob(thread::FetchBlob) CONTROL_FRAME_BYTES_MAX,
    /// See [`thread::Blob`].
    40 Blob(thread::Blob) LARGE_FRAME_BYTES_MAX,
    /// See [`thread::SetThread`].
    41 SetThread(thread::SetThread) CONTROL_FRAME_BYTES_MAX,
    /// See [`hub::SubmitCommit`].
    42 SubmitCommit(hub::SubmitCommit) LARGE_FRAME_BYTES_MAX,
    /// See [`hub::CommitTaken`].
    43 CommitTaken(hub::CommitTaken) CONTROL_FRAME_BYTES_MAX,
    /// See [`hub::CommitLost`].
    44 CommitLost(hub::CommitLost) LARGE_FRAME_BYTES_MAX,
    /// See [`hub::FetchCommit`].
    45 FetchCommit(hub::FetchCommit) CONTROL_FRAME_BYTES_MAX,
    /// See [`hub::Committed`].
    46 Committed(hub::Committed) LARGE_FRAME_BYTES_MAX,

    /// See [`push::Push`].
    48 Push(push::Push) LARGE_FRAME_BYTES_MAX,
    /// See [`push::CaughtUp`].
    49 CaughtUp(push::CaughtUp) CONTROL_FRAME_BYTES_MAX,
    /// See [`hold::Acknowledge`].
    50 Acknowledge(hold::Acknowledge) CONTROL_FRAME_BYTES_MAX,
    /// See [`wake::SetWake`].
    51 SetWake(wake::SetWake) CONTROL_FRAME_BYTES_MAX,
    /// See [`wake::ConfirmWake`].
    52 ConfirmWake(wake::ConfirmWake) CONTROL_FRAME_BYTES_MAX,

    /// See [`federation::PeerHello`].
    64 PeerHello(federation::PeerHello) CONTROL_FRAME_BYTES_MAX,
    /// See [`federation::Forward`].
    65 Forward(federation::Forward) LARGE_FRAME_BYTES_MAX,
    /// See [`federation::Forwarded`].
    66 Forwarded(federation::Forwarded) CONTROL_FRAME_BYTES_MAX,
    /// See [`federation::PeerClaim`].
    67 PeerClaim(federation::PeerClaim) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::PeerBefriend`].
    68 PeerBefriend(friendship::PeerBefriend) CONTROL_FRAME_BYTES_MAX,
    /// See [`presence::PeerPresence`].
    69 PeerPresence(presence::PeerPresence) CONTROL_FRAME_BYTES_MAX,
    /// See [`user::PeerProfile`].
    70 PeerProfile(user::PeerProfile) CONTROL_FRAME_BYTES_MAX,
    /// See [`hub::PeerCommit`].
    71 PeerCommit(hub::PeerCommit) LARGE_FRAME_BYTES_MAX,

    /// See [`direct::DirectEnvelope`].
    80 DirectEnvelope(direct::DirectEnvelope) ENVELOPE_FRAME_BYTES_MAX,
    /// See [`direct::DirectStored`].
    81 DirectStored(direct::DirectStored) CONTROL_FRAME_BYTES_MAX,
    /// See [`direct::DirectRefused`].
    82 DirectRefused(direct::DirectRefused) CONTROL_FRAME_BYTES_MAX,

    /// See [`user::ExtendLog`].
    83 ExtendLog(user::ExtendLog) CONTROL_FRAME_BYTES_MAX,

    /// See [`friendship::Befriend`].
    84 Befriend(friendship::Befriend) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::Decline`].
    85 Decline(friendship::Decline) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::Block`].
    86 Block(friendship::Block) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::LetSee`].
    87 LetSee(friendship::LetSee) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::ListFriends`].
    88 ListFriends(friendship::ListFriends) CONTROL_FRAME_BYTES_MAX,
    /// See [`friendship::FriendPage`].
    89 FriendPage(friendship::FriendPage) LARGE_FRAME_BYTES_MAX,

    /// See [`user::OwnLog`].
    90 OwnLog(user::OwnLog) LARGE_FRAME_BYTES_MAX,
    /// See [`user::Recover`].
    91 Recover(user::Recover) CONTROL_FRAME_BYTES_MAX,
    /// See [`linking::OfferLinking`].
    92 OfferLinking(linking::OfferLinking) CONTROL_FRAME_BYTES_MAX,
    /// See [`linking::JoinLinking`].
    93 JoinLinking(linking::JoinLinking) CONTROL_FRAME_BYTES_MAX,
    /// See [`linking::LinkingWords`].
    94 LinkingWords(linking::LinkingWords) CONTROL_FRAME_BYTES_MAX,
    /// See [`linking::LinkingOver`].
    95 LinkingOver(linking::LinkingOver) CONTROL_FRAME_BYTES_MAX,

    /// See [`friendship::Parted`].
    100 Parted(friendship::Parted) CONTROL_FRAME_BYTES_MAX,

    /// See [`siblings::TellSibling`].
    103 TellSibling(siblings::TellSibling) ENVELOPE_FRAME_BYTES_MAX,
    /// See [`siblings::SiblingTold`].
    104 SiblingTold(siblings::SiblingTold) ENVELOPE_FRAME_BYTES_MAX,
    /// See [`user::LogGrown`].
    105 LogGrown(user::LogGrown) CONTROL_FRAME_BYTES_MAX,

    /// See [`transparency::FetchTreeHead`].
    112 FetchTreeHead(transparency::FetchTreeHead) CONTROL_FRAME_BYTES_MAX,
    /// See [`transparency::TreeHead`].
    113 TreeHead(transparency::TreeHead) CONTROL_FRAME_BYTES_MAX,
    /// See [`reception::KeepStamp`].
    114 KeepStamp(reception::KeepStamp) CONTROL_FRAME_BYTES_MAX,

    /// See [`signal::Signal`].
    120 Signal(signal::Signal) CONTROL_FRAME_BYTES_MAX,
}
