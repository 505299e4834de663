//! Refusals: why a peer will not do what was asked, as a number both sides know.
//! Rules: docs/protocol/frames.md, "Refusals".

use minicbor::{Decode, Encode};

macro_rules! codes {
    ($($(#[$doc:meta])* $number:literal $name:ident $text:literal,)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum RefusalCode {
            $($(#[$doc])* $name,)*
            /// A code this version does not know: final, like every refusal without a delay.
            Other(u16),
        }

        impl RefusalCode {
            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The code for a number on the wire.
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// Every code that has a name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        impl std::fmt::Display for RefusalCode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(number) => write!(f, "refused with the unknown code {number}"),
                }
            }
        }
    };
}

codes! {
    /// The frame's kind is not known here.
    1 UnknownKind "frame kind not known",
    /// The frame breaks the protocol; the sender is at fault.
    2 Malformed "malformed frame",
    /// A known kind, at the wrong time or from the wrong side.
    3 Unexpected "frame not expected now",
    /// No common protocol version.
    4 Version "no common protocol version",
    /// The device is not who it says, or not in the account's log.
    5 NotAuthenticated "not authenticated",
    /// Not there, or not for you: the two look alike on purpose.
    6 NotFound "not found",
    /// The name is taken by another account.
    7 NameTaken "the name is taken",
    /// The relay takes no new accounts this way.
    8 RegistrationClosed "the relay takes no new accounts",
    /// Neither friendship nor a valid invite allows this.
    9 NoConsent "no consent",
    /// A bound is reached; smaller or fewer may pass.
    10 TooLarge "over a bound",
    /// The log, queue or store is full. Try again later.
    11 Full "full",
    /// The relay has too much to do. Try again after the named time.
    12 Busy "busy",
    /// The other relay could not be reached in time.
    13 PeerUnreachable "the other relay is unreachable",
    /// The other relay is not known here, or its key is not the pinned one.
    14 PeerUntrusted "the other relay is unknown or shows another key than the pinned one",
    /// The thing exists already, with other content.
    15 Exists "exists already with other content",
    /// The epoch is not the thread's, or ended too long ago: seal again.
    16 StaleEpoch "epoch not current",
    /// Something failed at the relay that is not the asker's fault. Try again.
    17 Internal "internal error",
    /// More than the asker's share. Try again after the named time.
    18 TooFast "too many requests",
    /// It waited too long for whoever it was for.
    19 Expired "held too long",
    /// The epoch is one the relay has not reached yet: its commit is still to come.
    20 EpochAhead "epoch not reached here yet",
    /// The device was taken off its account. Told to whoever holds the key it had.
    30 Revoked "this device was taken off its account",
    /// The author's device has no leaf in the thread any more: its relay had the commit that took it before this came.
    31 Removed "no longer in this thread",
    /// The device has gone on from without, past changes that it could not apply, as often as it may in a day. Try again
    /// after the named time.
    32 RejoinedTooOften "rejoined the thread too often today",
    /// A change is not what it is said to be, or shows by the thread's public state that nobody could follow it; or an opening
    /// has no public state that fits it.
    35 Unproved "not borne out by the thread's public state",
    /// The device's store is an old copy: a newer one of the same device was here.
    38 OldCopy "this device's store is an old copy",
}

impl<C> Encode<C> for RefusalCode {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RefusalCode {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from_number)
    }
}
