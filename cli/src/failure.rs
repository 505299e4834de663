//! Failure: what went wrong, in words for people and in a code for programs.
//! Owns: the exit codes and the text of `help exit-codes`.
//! Never: contains what somebody wrote, a key or a token.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_node::CommandError;
use whimbrel_protocol::RefusalCode;

/// How a command ended, as a process's exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    /// 1
    Internal,
    /// 2
    Usage,
    /// 3
    NotFound,
    /// 4
    Locked,
    /// 5
    Trust,
    /// 6
    Unreachable,
    /// 7
    Limit,
    /// 8
    WaitTimedOut,
    /// 9
    Partial,
    /// 130
    Interrupted,
}

/// What `whimbrel help exit-codes` prints.
pub(crate) const EXIT_CODES: &str = "\
Exit codes
    0  done
    1  internal error, or a store that cannot be read
    2  wrong usage, something that cannot be done as things stand, or a mistake in the configuration
    3  not found, or ambiguous
    4  locked: sealed, or used by another process; or not authorised
    5  trust: a relay or a person is not who they must be, or the store is not as it was left
    6  unreachable: relay, peer or daemon; what was to be sent stays queued
    7  over a limit or quota
    8  --wait timed out; the message is still queued
    9  partly done
  130  interrupted
";

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Locked => 4,
            Self::Trust => 5,
            Self::Unreachable => 6,
            Self::Limit => 7,
            Self::WaitTimedOut => 8,
            Self::Partial => 9,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Decides the exit status.
    pub(crate) exit: Exit,
    /// Stable, for programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// When it may be tried again, where a relay said so.
    #[serde(skip)]
    pub(crate) again: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl fmt::Display) -> Self {
        Self { exit, code: code.to_owned(), message: message.to_string(), hint: None, again: None }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(Exit::Internal, "internal", message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
    }

    /// A relay's refusal of what a command asked for.
    pub(crate) fn refused(code: RefusalCode) -> Self {
        use RefusalCode as R;
        let (exit, name, hint) = match code {
            R::NotFound => {
                (Exit::NotFound, "not_found", "it is not there, or not for you; an invite may be used up or expired")
            }
            R::NameTaken => (Exit::Usage, "name_taken", "choose another --name and run the command again"),
            R::RegistrationClosed => (
                Exit::Locked,
                "registration_closed",
                "ask the relay's operator for an invitation to register: whimbrel init --registration -",
            ),
            R::NoConsent => (Exit::Locked, "no_consent", "ask them for an invite"),
            R::NotAuthenticated => (Exit::Locked, "not_authorised", "the relay does not know this device"),
            R::OldCopy => (
                Exit::Locked,
                "old_copy",
                "this data folder was put back from a copy, and the device went on without it: nothing was sent. To be whole \
                 again: whimbrel backup create FILE, then in another --home `whimbrel device link` with the word of another \
                 device, or `whimbrel id recover`, and `whimbrel backup restore FILE`",
            ),
            R::Revoked => (
                Exit::Locked,
                "revoked",
                "what was said is still here: whimbrel log; to come back, link it anew with another --home or --profile",
            ),
            R::PeerUntrusted => (
                Exit::Trust,
                "relay_untrusted",
                "the invite may be used up or expired, or name a relay that is known otherwise; ask who gave it to you",
            ),
            R::PeerUnreachable => (Exit::Unreachable, "relay_unreachable", "try again later"),
            R::Busy | R::Internal => (Exit::Unreachable, "relay_busy", "try again later"),
            R::Version => (Exit::Unreachable, "version", "one side needs a newer version of whimbrel"),
            R::Full => (Exit::Limit, "full", "try again once some of it is delivered"),
            R::TooFast => (Exit::Limit, "too_fast", "wait a while, then try again"),
            R::Expired => (Exit::Limit, "expired", "they were away for longer than their relay keeps a message"),
            R::Exists => (Exit::Usage, "exists", "it is there already, otherwise than asked for"),
            R::TooLarge => (Exit::Limit, "too_large", "send less at once"),
            _ => (Exit::Internal, "refused", "run with -v for the log"),
        };
        Self::new(exit, name, format!("the relay refused: {code}")).hint(hint)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::Unknown => Self::new(Exit::NotFound, "not_found", message),
            CommandError::Text { found: 0, .. } => Self::new(Exit::Usage, "empty", "the text is empty"),
            CommandError::Text { .. } => {
                Self::new(Exit::Limit, "too_large", message).hint("send it in several messages")
            }
            CommandError::OutboxFull(_) => {
                Self::new(Exit::Limit, "outbox_full", message).hint("let some of them leave first: whimbrel daemon run")
            }
            CommandError::Unreachable(_) => {
                Self::new(Exit::Unreachable, "relay_unreachable", message).hint("try again later")
            }
            CommandError::Refused(code) => Self::refused(code),
            CommandError::TooFast { after } => Self {
                again: Some(after),
                message,
                ..Self::refused(RefusalCode::TooFast).hint("wait that long, or give it the time: --timeout")
            },
            CommandError::Untrusted(_) => Self::new(Exit::Trust, "untrusted", message)
                .hint("nothing was accepted; ask the person again for their link, by a way you trust"),
            CommandError::NotRegistered => {
                Self::new(Exit::Locked, "not_registered", message).hint("run: whimbrel init")
            }
            CommandError::Oneself => Self::new(Exit::Usage, "oneself", message).hint("name somebody else"),
            CommandError::TooLong { .. } => Self::new(Exit::Limit, "too_large", message),
            CommandError::OwnInvite => {
                Self::new(Exit::Usage, "own_invite", message).hint("pass it on to somebody else")
            }
            // What was asked for cannot be done as things stand, and the message says how they stand.
            CommandError::State(_) => Self::new(Exit::Usage, "state", message),
            _ => Self::internal(message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_text_names_every_exit_code() {
        let all = [
            Exit::Internal,
            Exit::Usage,
            Exit::NotFound,
            Exit::Locked,
            Exit::Trust,
            Exit::Unreachable,
            Exit::Limit,
            Exit::WaitTimedOut,
            Exit::Partial,
            Exit::Interrupted,
        ];
        for exit in all {
            let code = exit.code().to_string();
            assert!(EXIT_CODES.lines().any(|line| line.split_whitespace().next() == Some(&code)), "{code} is missing");
        }
    }

    #[test]
    fn an_oversize_text_is_a_limit_and_an_empty_one_a_mistake() {
        assert_eq!(Failure::from(CommandError::Text { found: 70_000, max: 65_536 }).exit, Exit::Limit);
        assert_eq!(Failure::from(CommandError::Text { found: 0, max: 65_536 }).exit, Exit::Usage);
    }

    #[test]
    fn who_is_at_fault_decides_the_exit_code() {
        assert_eq!(Failure::refused(RefusalCode::PeerUntrusted).exit, Exit::Trust);
        assert_eq!(Failure::refused(RefusalCode::PeerUnreachable).exit, Exit::Unreachable);
        assert_eq!(Failure::refused(RefusalCode::RegistrationClosed).exit, Exit::Locked);
        assert_eq!(Failure::from(CommandError::Unknown).exit, Exit::NotFound);
        assert_eq!(Failure::from(CommandError::State("only the admin does".to_owned())).exit, Exit::Usage);
        assert_eq!(Failure::refused(RefusalCode::TooFast).exit, Exit::Limit);
        assert_eq!(Failure::refused(RefusalCode::Expired).message, "the relay refused: held too long");
    }
}
