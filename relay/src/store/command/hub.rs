//! Commands about the changes of a group: a commit handed in at its hub, or told by it.
//! Owns: their words. Never: decides one (`kv::hub`).

use std::collections::BTreeSet;
use std::sync::Arc;

use whimbrel_crypto::{Proved, RelayIdentity};
use whimbrel_protocol::hub::{self, Accepted, Arrivals, Newcomers, SignedReceipt};
use whimbrel_protocol::id::{AccountId, BlobId, CommitHash, DeviceId, Domain, Epoch, RelayId, Sequence};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::time::Wall;

use super::{LogBounds, Origin};
use crate::store::{Epochs, LogId, MailboxId};

/// See [`super::Command::Commit`].
#[derive(Clone, Debug)]
pub struct Commit {
    /// The device that made it.
    pub author: DeviceId,
    /// On whose word.
    pub origin: Origin,
    /// The change.
    pub commit: Arc<hub::Commit>,
    /// Its hash, computed by whoever made this command.
    pub hash: CommitHash,
    /// What the thread's leaves show of it.
    pub shown: Shown,
    /// Handed in, or told.
    pub how: How,
    /// The domain served here.
    pub local: Domain,
    /// Chosen for the thread's log, if the thread is new here.
    pub log: LogId,
    /// The present.
    pub at: Wall,
    /// Whether that clock has shown to go: by one that jumps nothing is forgotten.
    pub sure: bool,
    /// Bounds of an inbox.
    pub bounds: LogBounds,
}

/// What a thread's leaves show of a commit that holds.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Devices it takes out that are to go, whoever it is by ([`whimbrel_crypto::warrant`]).
    pub due: BTreeSet<DeviceId>,
    /// Whoever has a leaf after it: of an account that is here the store forgets a device before its leaf goes.
    pub after: BTreeSet<AccountId>,
}

/// Whose word it is that a commit holds.
#[derive(Clone, Debug)]
pub enum How {
    /// Nobody's yet: this relay decides, if it is the hub, and signs what it takes. The receipt is written with the commit, so
    /// it leaves once both are durable and is the same bytes whoever asks.
    Submitted(Option<Bodies<Newcomers>>, Arc<RelayIdentity>, Proof),
    /// The hub's: its receipt, which relay that is by the signature, and what newcomers here join with.
    Told(Box<SignedReceipt>, RelayId, Option<Bodies<Arrivals>>),
}

/// What the thread's public state shows of a commit. There is one state for each epoch, so what was shown before the command
/// holds in it, if the epoch is still the thread's.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It was not looked at: the commit was not for the thread's epoch, not by a member, or not for this relay to decide.
    Absent,
    /// It does not hold.
    Fails,
    /// What it does; and the public state before it, saved, when that is due to be written.
    Holds(Box<Proved>, Option<Vec<u8>>),
}

/// Large bodies with their hashes, computed by whoever made the command.
#[derive(Clone, Debug)]
pub struct Bodies<T> {
    /// The bodies.
    pub words: Arc<T>,
    /// Hash of the Welcome.
    pub welcome: BlobId,
    /// Hash of the tree.
    pub tree: BlobId,
}

impl Bodies<Newcomers> {
    /// What was handed in.
    pub fn of(words: Newcomers) -> Self {
        let (welcome, tree) = (BlobId::of(&words.welcome), BlobId::of(&words.tree));
        Self { words: Arc::new(words), welcome, tree }
    }
}

impl Bodies<Arrivals> {
    /// What the hub told.
    pub fn told(words: Arrivals) -> Self {
        let (welcome, tree) = (BlobId::of(&words.newcomers.welcome), BlobId::of(&words.newcomers.tree));
        Self { words: Arc::new(words), welcome, tree }
    }
}

impl Commit {
    /// About how many bytes it writes: the commit as entry and for those who ask for it later, the bodies, a few rows for
    /// each device, an inbox entry that names everybody for each newcomer, and the receipt with its certificates.
    pub(super) fn bytes(&self) -> usize {
        let public = match &self.how {
            How::Submitted(.., Proof::Holds(_, Some(saved))) => saved.len(),
            _ => 0,
        };
        let (bodies, everybody) = match &self.how {
            How::Submitted(Some(newcomers), ..) => (newcomers.words.welcome.len() + newcomers.words.tree.len(), 1_000),
            How::Told(.., Some(arrivals)) => {
                let Newcomers { welcome, tree } = &arrivals.words.newcomers;
                (welcome.len() + tree.len(), arrivals.words.participants.len())
            }
            How::Submitted(None, ..) | How::Told(.., None) => (0, 0),
        };
        let devices = self.commit.added_devices().count() + self.commit.removed.len();
        let warrant = self.commit.warrant.as_ref().map_or(0, hub::Warrant::len);
        public
            + 2 * (self.commit.bytes.len() + warrant + 2_048)
            + bodies
            + devices * 512
            + self.commit.added.len() * everybody * 64
    }
}

/// A commit that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The hub's word.
    pub receipt: Box<SignedReceipt>,
    /// What it changed here; absent when it was here already.
    pub change: Option<Change>,
}

/// A device that reads a log from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader {
    /// Where its cursors hang.
    pub mailbox: MailboxId,
    /// What it has.
    pub cursor: Sequence,
    /// Nothing between is for it.
    pub start: Sequence,
    /// The epochs it has a leaf in.
    pub epochs: Epochs,
}

/// What a commit changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The thread's log.
    pub log: LogId,
    /// The epoch that ended.
    pub epoch: Epoch,
    /// The commit's place in it.
    pub sequence: Sequence,
    /// The entry.
    pub body: EntryBody,
    /// Devices here that read the log from now on.
    pub readers: Vec<Reader>,
    /// Devices here that read it up to this entry.
    pub gone: Vec<MailboxId>,
    /// The inboxes that got an invitation.
    pub inboxes: Vec<LogId>,
    /// Newcomers here who cannot be told, for want of consent or of room: they are in the group and do not know it.
    pub untold: usize,
    /// The peers a row was written for.
    pub peers: Vec<Domain>,
}

/// Another commit ended the epoch.
pub type Won = Accepted;
