//! Two orders: a hub that tells whose commit lost that it holds, and everybody else that another does.
//! Owns: the commits that are handed in to a hostile hub, and the receipt it signs of one it did not take. Its own key is all it
//! has, and it is what receipts are signed with: this one is as genuine as the other.
//! Never: changes which commit its log shows: whoever was lied to is shown the other there, and holds a proof then.

use std::collections::VecDeque;

use whimbrel_crypto::{RelayIdentity, receipt};
use whimbrel_protocol::Frame;
use whimbrel_protocol::hub::{Commit, CommitLost, CommitTaken, Receipt};
use whimbrel_protocol::id::{CommitHash, Epoch, LinkId, RequestId, ThreadId};

/// Commits that are not answered yet and are kept: more than are ever under way at one relay of these worlds.
const UNDER_WAY: usize = 64;

/// A commit under way.
#[derive(Debug)]
struct Asked {
    link: LinkId,
    request: RequestId,
    thread: ThreadId,
    epoch: Epoch,
    hash: CommitHash,
}

/// What a hub can say of commits that lost.
#[derive(Debug)]
pub(super) struct Orders {
    identity: RelayIdentity,
    asked: VecDeque<Asked>,
    /// Lies it told.
    pub(super) told: u64,
}

impl Orders {
    pub(super) const fn new(identity: RelayIdentity) -> Self {
        Self { identity, asked: VecDeque::new(), told: 0 }
    }

    /// What it signs receipts with.
    pub(super) const fn identity(&self) -> &RelayIdentity {
        &self.identity
    }

    /// A frame came: it may hand in a commit.
    pub(super) fn heard(&mut self, link: LinkId, frame: &Frame) {
        let (request, commit): (RequestId, &Commit) = match frame {
            Frame::SubmitCommit(words) => (words.request, &words.commit),
            Frame::PeerCommit(words) => (words.request, &words.commit),
            _ => return,
        };
        let (thread, epoch, hash) = (commit.thread, commit.epoch, commit.hash());
        self.asked.push_back(Asked { link, request, thread, epoch, hash });
        self.asked.drain(..self.asked.len().saturating_sub(UNDER_WAY));
    }

    /// What it says instead of that a commit lost, if it is the hub that decided so.
    pub(super) fn taken(&mut self, link: LinkId, words: &CommitLost) -> Option<CommitTaken> {
        let (request, won) = (words.request, &words.won.receipt);
        let at = self.asked.iter().rposition(|asked| (asked.link, asked.request) == (link, request))?;
        let Asked { thread, epoch, hash, .. } = self.asked.remove(at)?;
        let same = (thread, epoch) == (won.words.thread, won.words.epoch) && hash != won.words.commit;
        if !same || receipt::verify(won, self.identity.id()).is_err() {
            return None;
        }
        self.told += 1;
        let words = Receipt { commit: hash, ..won.words };
        Some(CommitTaken { request, receipt: Box::new(receipt::sign(&self.identity, words)) })
    }
}
