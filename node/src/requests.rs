//! Requests: what was asked of the home relay and waits for its answer.
//! Owns: the numbers and what each was for. Never: acts on an answer; `flow/` does.

use std::collections::BTreeMap;

use whimbrel_protocol::id::{AccountId, BlobId, RequestId, ThreadId};
use whimbrel_protocol::invite::Invite;

use crate::api::Ticket;
use crate::thread::JobId;

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A thread being made.
    Job(JobId),
    /// A thread being joined, by its Welcome.
    Joining(BlobId),
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Register,
    Stock,
    LookUp(Asker, AccountId),
    Claim(JobId, AccountId),
    Invite(Ticket, Box<Invite>),
    Opening(ThreadId),
    Submit(ThreadId, u64),
    Tag(ThreadId),
    /// The second, for the invitation of the first.
    Blob(BlobId, BlobId),
}

/// Open requests of the present link.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: u64,
    open: BTreeMap<RequestId, Purpose>,
    submits: usize,
}

impl Requests {
    pub(crate) fn begin(&mut self, purpose: Purpose) -> RequestId {
        self.last = self.last.saturating_add(1);
        let request = RequestId::new(self.last);
        self.submits += usize::from(matches!(purpose, Purpose::Submit(..)));
        self.open.insert(request, purpose);
        request
    }

    pub(crate) fn take(&mut self, request: RequestId) -> Option<Purpose> {
        let purpose = self.open.remove(&request)?;
        self.submits -= usize::from(matches!(purpose, Purpose::Submit(..)));
        Some(purpose)
    }

    pub(crate) fn take_all(&mut self) -> BTreeMap<RequestId, Purpose> {
        self.submits = 0;
        std::mem::take(&mut self.open)
    }

    /// Envelopes handed in and not answered for.
    pub(crate) const fn submits(&self) -> usize {
        self.submits
    }

    pub(crate) fn any(&self, wanted: impl Fn(&Purpose) -> bool) -> bool {
        self.open.values().any(wanted)
    }
}
