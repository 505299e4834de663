//! Reach: by which way a link to the home relay comes about.
//! Owns: QUIC first, HTTPS beside it where no answer comes, and what is told when neither gets through.
//! Never: takes another relay for the pinned one on either way. Limits: `limits::POLL_AFTER`.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::sleep;
use whimbrel_crypto::KeyPair;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;
use whimbrel_transport::{Endpoint, Link};

use super::RelayProblem;
use crate::poll::{self, PollError};

/// What carries the link to the home relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// QUIC, and HTTPS where that does not get through.
    #[default]
    Auto,
    /// QUIC over UDP, or nothing.
    Quic,
    /// HTTPS over TCP, or nothing.
    Https,
}

/// What it takes to reach the relay.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) endpoint: Endpoint,
    /// Signs for this device where no certificate does.
    pub(crate) key: Arc<KeyPair>,
    pub(crate) transport: Transport,
}

/// A link that came about.
pub(super) enum Reached {
    Quic(Link),
    Poll(poll::Opened),
}

impl Reached {
    /// What proofs on this link are made over.
    pub(super) const fn exporter(&self) -> [u8; 32] {
        match self {
            Self::Quic(link) => link.exporter,
            Self::Poll(opened) => opened.exporter,
        }
    }
}

impl From<PollError> for RelayProblem {
    fn from(error: PollError) -> Self {
        match error {
            PollError::WrongIdentity(_) => Self::WrongIdentity(error.to_string()),
            PollError::Local(_) => Self::Local(error.to_string()),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

/// Reaches the relay by the ways there are.
pub(super) async fn reach(ways: &Ways, to: &RelayLink) -> Result<Reached, RelayProblem> {
    let by_quic = async { Ok(Reached::Quic(ways.endpoint.connect(to).await?)) };
    let by_https = |forever| async move { Ok(Reached::Poll(poll::open(to, &ways.key, forever).await?)) };
    match ways.transport {
        Transport::Quic => by_quic.await,
        Transport::Https => by_https(true).await,
        Transport::Auto => either(by_quic, by_https(false)).await,
    }
}

/// The first alone for a while; then both, and whichever link comes first. Somebody else in the relay's place is told at
/// once, and nothing goes by another way then.
async fn either<T>(
    quic: impl Future<Output = Result<T, RelayProblem>>,
    https: impl Future<Output = Result<T, RelayProblem>>,
) -> Result<T, RelayProblem> {
    let (mut quic, mut https) = (pin!(quic), pin!(https));
    let mut problem = tokio::select! {
        reached = quic.as_mut() => match reached {
            Err(problem) if !problem.is_mistrust() => Some(problem),
            reached => return reached,
        },
        () = sleep(limits::POLL_AFTER) => None,
    };
    let other = loop {
        tokio::select! {
            reached = quic.as_mut(), if problem.is_none() => match reached {
                Err(told) if !told.is_mistrust() => problem = Some(told),
                reached => return reached,
            },
            reached = https.as_mut() => match reached {
                Err(told) if !told.is_mistrust() => break told,
                reached => return reached,
            },
        }
    };
    let problem = match problem {
        Some(problem) => problem,
        None => match quic.await {
            Err(problem) => problem,
            reached => return reached,
        },
    };
    // A relay that speaks another version, or a fault of ours, says more than that nobody answers over TCP.
    Err(match problem {
        RelayProblem::Unreachable(why) => RelayProblem::Unreachable(format!("{why}; {other}")),
        problem => problem,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn nobody(why: &str) -> RelayProblem {
        RelayProblem::Unreachable(why.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn https_is_tried_only_when_quic_failed_or_let_wait() {
        // Quick: the other is not begun.
        let other = async { unreachable!("it was begun") };
        assert_eq!(either(ready(Ok("quic")), other).await, Ok("quic"));
        assert_eq!(either(ready(Err(nobody("no"))), ready(Ok("https"))).await, Ok("https"));
        assert_eq!(either(pending(), ready(Ok("https"))).await, Ok("https"));
        let late = async {
            sleep(limits::POLL_AFTER * 2).await;
            Ok("quic")
        };
        assert_eq!(either(late, pending()).await, Ok("quic"));
    }

    #[tokio::test(start_paused = true)]
    async fn when_neither_gets_through_both_reasons_are_told_and_somebody_else_is_told_at_once() {
        let told = either::<()>(ready(Err(nobody("no udp"))), ready(Err(nobody("no tcp")))).await;
        assert_eq!(told, Err(nobody("no udp; the home relay cannot be reached: no tcp")));
        let impostor = RelayProblem::WrongIdentity("another".to_owned());
        assert_eq!(either::<()>(ready(Err(impostor.clone())), pending()).await, Err(impostor.clone()));
        assert_eq!(either::<()>(pending(), ready(Err(impostor.clone()))).await, Err(impostor));
        assert_eq!(
            either::<()>(ready(Err(RelayProblem::Version)), ready(Err(nobody("no")))).await,
            Err(RelayProblem::Version)
        );
    }
}
