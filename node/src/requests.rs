//! Requests: what was asked of the home relay and waits for its answer.
//! Owns: the numbers and what each was for. Never: acts on an answer; `flow/` does.

use std::collections::BTreeMap;

use whimbrel_protocol::friendship::{Act, Friend};
use whimbrel_protocol::id::{AccountId, Address, BlobId, Domain, Epoch, RequestId, ThreadId};
use whimbrel_protocol::invite::Invite;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::user::Who;

use crate::api::Ticket;
use crate::friendship::WordId;
use crate::rows::{CardRow, FriendRow};
use crate::thread::JobId;

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A thread being made.
    Job(JobId),
    /// A thread being joined, by its Welcome.
    Joining(BlobId),
    /// A word about friendship that is to be proved.
    Word(WordId),
}

/// What is done once it is known who somebody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Intent {
    /// Something is said to them.
    Say(Act, Option<String>),
    /// They are kept away, or no longer.
    Block(bool),
    /// A card of theirs is held against their log.
    Card(Signed),
}

/// A command that needs somebody looked up first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Meeting {
    pub(crate) ticket: Ticket,
    pub(crate) who: Who,
    pub(crate) intent: Intent,
}

/// What a command asks of the relay, with what its answer needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Errand {
    /// Done is all there is to it.
    Plain,
    /// A word to somebody; the row as it was before, for a word that is refused.
    Say(AccountId, Act, Option<FriendRow>),
    /// Requests are taken off the list: one, or all.
    Decline(Option<AccountId>),
    /// Somebody is kept away, or no longer.
    Block(AccountId, Address, bool),
    /// The list, with the pages that are here.
    Friends(Vec<Friend>),
    /// The open invites.
    Invites,
    /// The own card is put up.
    SetCard(CardRow),
    /// Somebody's card.
    Card(AccountId),
    /// A part of what the relay keeps.
    Export,
    /// The end of the account.
    Delete,
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
    /// A change of a group, made in this epoch, to its hub.
    Change(ThreadId, Epoch),
    /// A commit of a group that its log did not bring.
    Commit(ThreadId),
    /// The commit of this epoch, of a group that this device follows in public.
    Follow(ThreadId, Epoch),
    /// Somebody whom a change takes into a group.
    Newcomer(ThreadId, AccountId, Domain),
    /// A thread's settings, after so many changes.
    Settings(ThreadId, u64),
    /// What the relay keeps of the owner's threads: which page.
    Listing(usize),
    /// A change of the own account log.
    Extend,
    /// KeyPackages of the account's other devices, for the thread they have among themselves.
    OwnClaim,
    /// Words to another device of the account; whether they ask for something.
    Sibling(bool),
    /// How far this store has come.
    Stamp,
    /// The relay brings us together with a device that is to come.
    JoinLinking,
    /// The newest head of a relay's tree, and somebody's entry in it.
    Audit(Domain, Option<AccountId>),
    /// That the owner parted with somebody, said once more.
    PartAgain(AccountId),
    /// Somebody whose account log is longer than the one here.
    Heralded(AccountId),
    /// A log that is said to have gone on by whoever proves nothing.
    Hinted(AccountId),
    Meet(Box<Meeting>),
    Errand(Ticket, Box<Errand>),
    /// The second, for the invitation of the first.
    Blob(BlobId, BlobId),
}

impl Purpose {
    /// The command that is answered with this and nothing else.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Invite(ticket, _) | Self::Errand(ticket, _) => Some(*ticket),
            Self::Meet(meeting) => Some(meeting.ticket),
            _ => None,
        }
    }

    /// Whether the relay may have to ask another one first.
    pub(crate) fn is_passed_on(&self) -> bool {
        match self {
            Self::LookUp(..)
            | Self::Claim(..)
            | Self::Meet(_)
            | Self::Change(..)
            | Self::Newcomer(..)
            | Self::Audit(..)
            | Self::Heralded(_)
            | Self::Hinted(_) => true,
            Self::Errand(_, errand) => matches!(**errand, Errand::Say(..) | Errand::Card(_)),
            _ => false,
        }
    }
}

/// Open requests of the present link.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: u64,
    open: BTreeMap<RequestId, Purpose>,
    submits: usize,
    /// The newest envelope whose refusal for now was heard.
    heard: Option<RequestId>,
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

    pub(crate) fn get(&self, request: RequestId) -> Option<&Purpose> {
        self.open.get(&request)
    }

    /// The relay says that this envelope must wait: what is handed in from now on was so with that in mind.
    pub(crate) fn must_wait(&mut self, submit: RequestId) {
        self.heard = Some(submit);
    }

    pub(crate) const fn heard(&self) -> Option<RequestId> {
        self.heard
    }

    /// The link is over.
    pub(crate) fn take_all(&mut self) -> BTreeMap<RequestId, Purpose> {
        self.submits = 0;
        self.heard = None;
        std::mem::take(&mut self.open)
    }

    /// Envelopes handed in and not answered for.
    pub(crate) const fn submits(&self) -> usize {
        self.submits
    }

    /// The request of this purpose.
    pub(crate) fn find(&self, wanted: &Purpose) -> Option<RequestId> {
        self.open.iter().find(|(_, purpose)| *purpose == wanted).map(|(request, _)| *request)
    }

    pub(crate) fn any(&self, wanted: impl Fn(&Purpose) -> bool) -> bool {
        self.open.values().any(wanted)
    }
}
