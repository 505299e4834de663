//! Refusals as the services make them: a code, and when to try again.
//! Owns: how store errors become codes. Never: sends one (`reception`).

use std::time::Duration;

use whimbrel_protocol::id::RequestId;
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::{Frame, RefusalCode, limits};

use crate::store::StoreError;

/// Why something asked for is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// Never unchanged.
    pub(crate) const fn last(code: RefusalCode) -> Self {
        Self { code, retry_after: None }
    }

    /// Try again.
    pub(crate) const fn later(code: RefusalCode, after: Duration) -> Self {
        Self { code, retry_after: Some(after) }
    }

    pub(crate) const BUSY: Self = Self::later(RefusalCode::Busy, limits::BUSY_RETRY_AFTER);
    pub(crate) const INTERNAL: Self = Self::later(RefusalCode::Internal, limits::BUSY_RETRY_AFTER);
    pub(crate) const UNREACHABLE: Self = Self::later(RefusalCode::PeerUnreachable, limits::PEER_BACKOFF_MIN);

    pub(crate) fn retry_after_ms(&self) -> Option<u32> {
        self.retry_after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX))
    }

    /// As the answer to a request, or, without one, as the end of a link.
    pub(crate) fn frame(self, request: Option<RequestId>) -> Frame {
        Refused { request, code: self.code, retry_after_ms: self.retry_after_ms() }.into()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict) => {
                let (code, retry_after) = conflict.refusal();
                if code == RefusalCode::Internal {
                    tracing::error!(%conflict, "a row needed for a request cannot be read");
                }
                Self { code, retry_after }
            }
            StoreError::Full => Self::later(RefusalCode::Full, limits::FULL_RETRY_AFTER),
            StoreError::Failed(what) => {
                tracing::error!(what, "the store failed");
                Self::INTERNAL
            }
        }
    }
}
