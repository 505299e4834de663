//! Invites: the operator's invitations to register, for `registration = "invite"`.
//! Owns: what can be asked about them, by the commands and through the control socket alike.
//! Never: keeps or hears a token: its hash is enough, and the token is printed once by whoever made it.

use serde::{Deserialize, Serialize};
use whimbrel_protocol::id::TokenHash;
use whimbrel_protocol::limits;
use whimbrel_protocol::time::Wall;
use whimbrel_relay::store::command::people::NewRegistration;
use whimbrel_relay::store::{Command, Conflict, Store, StoreError};

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum InviteQuestion {
    /// Takes a new one in.
    New {
        /// Of its token.
        hash: TokenHash,
        /// How many may come in by it.
        uses: u32,
        /// How long it holds, in seconds from now on.
        holds_secs: u64,
    },
    /// Lists the open ones.
    List,
    /// Takes one back.
    Revoke {
        /// Of its token.
        hash: TokenHash,
    },
}

/// What was answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InviteAnswer {
    /// It is so now. A new one: until when, in milliseconds since 1970.
    Done {
        /// Absent for one that was taken back.
        expires_ms: Option<u64>,
    },
    /// The open ones, by hash.
    Open(Vec<Invite>),
    /// There is no such invitation.
    NotFound,
    /// As many are open as may be, or the store is full.
    Full(String),
    /// The store failed.
    Failed(String),
}

/// An open invitation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Invite {
    /// Of its token.
    pub(crate) hash: TokenHash,
    /// How many may still come in.
    pub(crate) left: u32,
    /// Until when, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

/// Does what is asked.
pub(crate) async fn answer(store: &impl Store, question: InviteQuestion, at: Wall) -> InviteAnswer {
    match question {
        InviteQuestion::New { hash, uses, holds_secs } => {
            let expires = Wall::from_millis(at.as_millis().saturating_add(holds_secs.saturating_mul(1_000)));
            let new = NewRegistration { token: hash, uses, expires, at };
            done(store, Command::NewRegistration(new), Some(expires.as_millis())).await
        }
        InviteQuestion::Revoke { hash } => done(store, Command::RevokeRegistration(hash), None).await,
        InviteQuestion::List => list(store, at).await,
    }
}

async fn done(store: &impl Store, command: Command, expires_ms: Option<u64>) -> InviteAnswer {
    match store.commit(command).await {
        Ok(_) => InviteAnswer::Done { expires_ms },
        Err(StoreError::Conflict(Conflict::NotFound)) => InviteAnswer::NotFound,
        Err(error @ (StoreError::Conflict(Conflict::TooMany(_)) | StoreError::Full)) => {
            InviteAnswer::Full(error.to_string())
        }
        Err(error) => InviteAnswer::Failed(error.to_string()),
    }
}

async fn list(store: &impl Store, at: Wall) -> InviteAnswer {
    let mut open: Vec<Invite> = Vec::new();
    loop {
        let after = open.last().map(|invite| invite.hash);
        let page = match store.registrations(after, limits::THREAD_PAGE_MAX).await {
            Ok(page) => page,
            Err(error) => return InviteAnswer::Failed(error.to_string()),
        };
        let last = page.len() < limits::THREAD_PAGE_MAX;
        let invite = |open: whimbrel_protocol::user::OpenInvite| Invite {
            hash: open.token,
            left: open.left,
            expires_ms: open.expires.as_millis(),
        };
        open.extend(page.into_iter().map(invite));
        if last {
            // Those that are over are only in the way of nobody yet.
            open.retain(|invite| invite.expires_ms > at.as_millis());
            return InviteAnswer::Open(open);
        }
    }
}
