//! Changes: what a hostile relay does with commits, Welcomes and account logs that pass it, beside what it does to a log.
//! Owns: what it keeps of them, what it leaves out, what it tells instead, and the commits it makes up.
//! Never: makes a commit that anybody's keys are in: of those it makes up the bytes are another's, and the receipt is its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use whimbrel_crypto::{RelayIdentity, receipt};
use whimbrel_protocol::Frame;
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::hub::{Accepted, Receipt};
use whimbrel_protocol::id::{Address, BlobId, Epoch, LinkId, RequestId, ThreadId};
use whimbrel_protocol::push::{EntryBody, Push};
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::thread::Blob;
use whimbrel_protocol::user::LookedUp;

use crate::faults::RelayTrick;
use crate::net::ProcessNo;

/// Bodies that were asked for and are kept, and requests for them that are not answered yet: more than there are in a story.
const REMEMBERED: usize = 64;

/// What a relay can say of changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The one device it does this to; to all without one.
    pub(super) only: Option<ProcessNo>,
    /// The oldest GroupInfo of each thread that passed.
    infos: BTreeMap<ThreadId, Vec<u8>>,
    /// The newest commit of each thread that passed, and the newest that took somebody in.
    newest: BTreeMap<ThreadId, Accepted>,
    growth: BTreeMap<ThreadId, Accepted>,
    /// The shortest log of each account that passed.
    logs: BTreeMap<Address, Vec<u8>>,
    /// The first log that passed: who it leads to whoever is looked up.
    decoy: Option<Vec<u8>>,
    bodies: BTreeMap<BlobId, Vec<u8>>,
    asked: VecDeque<(LinkId, RequestId, BlobId)>,
    /// Devices that asked for a commit that was not in their log, and how often.
    pub(super) missed: BTreeMap<ProcessNo, u64>,
    /// Commits that were handed in, by whom.
    pub(super) handed_in: BTreeMap<ProcessNo, u64>,
    /// Commits that it left out, by whom it was for.
    pub(super) withheld: BTreeMap<ProcessNo, u64>,
    /// Commits told with another GroupInfo.
    pub(super) stale: u64,
    /// Commits made up.
    pub(super) made_up: u64,
    /// Welcomes and trees handed out again that were gone.
    pub(super) handed_again: u64,
    /// Logs told that were longer.
    pub(super) cut_short: u64,
    /// Logs told that were another's.
    pub(super) misled: u64,
    /// Whom it told that who left is back, in which thread and after which epoch.
    told: BTreeSet<(ProcessNo, ThreadId, u64)>,
}

impl Changes {
    /// A frame came: it may ask for something.
    pub(super) fn heard(&mut self, link: LinkId, from: ProcessNo, frame: &Frame) {
        match frame {
            Frame::FetchBlob(words) => {
                self.asked.push_back((link, words.request, words.blob));
                self.asked.drain(..self.asked.len().saturating_sub(REMEMBERED));
            }
            Frame::SubmitCommit(_) => *self.handed_in.entry(from).or_default() += 1,
            Frame::FetchCommit(_) => *self.missed.entry(from).or_default() += 1,
            _ => {}
        }
    }

    /// What an answer is told as.
    pub(super) fn answer(
        &mut self,
        link: LinkId,
        to: ProcessNo,
        frame: &Frame,
        mut does: impl FnMut(RelayTrick) -> bool,
    ) -> Option<Frame> {
        let hits = self.only.is_none_or(|one| one == to);
        match frame {
            Frame::Committed(words) => {
                self.remember(&words.accepted);
                if hits && does(RelayTrick::Withhold) {
                    *self.withheld.entry(to).or_default() += 1;
                    let (request, code) = (Some(words.request), RefusalCode::NotFound);
                    return Some(Refused { request, code, retry_after_ms: None }.into());
                }
                let mut words = words.clone();
                (hits && does(RelayTrick::OldInfo) && self.outdate(&mut words.accepted)).then(|| words.into())
            }
            Frame::Blob(words) => {
                self.bodies.insert(BlobId::of(&words.bytes), words.bytes.clone());
                None
            }
            Frame::Refused(words) => {
                let request = words.request?;
                let at = self.asked.iter().rposition(|(of, asked, _)| (*of, *asked) == (link, request))?;
                let bytes = self.bodies.get(&self.asked.get(at)?.2)?.clone();
                let again = hits && does(RelayTrick::ReAdd);
                self.handed_again += u64::from(again);
                again.then(|| Blob { request, bytes }.into())
            }
            Frame::LookedUp(words) => {
                let decoy = self.decoy.get_or_insert_with(|| words.log.clone());
                if hits && *decoy != words.log && does(RelayTrick::OtherKey) {
                    self.misled += 1;
                    return Some(LookedUp { log: decoy.clone(), ..words.clone() }.into());
                }
                let known = self.logs.entry(words.address.clone()).or_insert_with(|| words.log.clone());
                if words.log.len() <= known.len() {
                    known.clone_from(&words.log);
                    return None;
                }
                let shorter = hits && does(RelayTrick::OldLog);
                self.cut_short += u64::from(shorter);
                shorter.then(|| LookedUp { log: known.clone(), ..words.clone() }.into())
            }
            _ => None,
        }
    }

    /// A run without, or with other, commits.
    pub(super) fn retell(&mut self, to: ProcessNo, run: &mut Push, mut does: impl FnMut(RelayTrick) -> bool) {
        let hits = self.only.is_none_or(|one| one == to);
        run.entries.retain_mut(|entry| {
            let EntryBody::Commit(accepted) = &mut entry.body else { return true };
            self.remember(accepted);
            if hits && does(RelayTrick::Withhold) {
                *self.withheld.entry(to).or_default() += 1;
                return false;
            }
            if hits && does(RelayTrick::OldInfo) {
                self.outdate(accepted);
            }
            true
        });
    }

    fn remember(&mut self, accepted: &Accepted) {
        let commit = &accepted.commit;
        self.infos.entry(commit.thread).or_insert_with(|| commit.info.clone());
        let newer = |known: Option<&Accepted>| known.is_none_or(|known| known.commit.epoch < commit.epoch);
        if newer(self.newest.get(&commit.thread)) {
            self.newest.insert(commit.thread, accepted.clone());
        }
        if !commit.added.is_empty() && newer(self.growth.get(&commit.thread)) {
            self.growth.insert(commit.thread, accepted.clone());
        }
    }

    /// A commit with the oldest GroupInfo there is of its thread. Whether that is another than its own: no receipt names it.
    fn outdate(&mut self, accepted: &mut Accepted) -> bool {
        let Some(old) = self.infos.get(&accepted.commit.thread).filter(|old| **old != accepted.commit.info) else {
            return false;
        };
        accepted.commit.info.clone_from(old);
        self.stale += 1;
        true
    }

    /// The newest commit of a thread that took somebody in, as if it were the next one, once for each device and epoch.
    pub(super) fn brings_back(
        &mut self,
        to: ProcessNo,
        thread: ThreadId,
        identity: &RelayIdentity,
    ) -> Option<EntryBody> {
        let (newest, growth) = (self.newest.get(&thread)?, self.growth.get(&thread)?);
        let next = Epoch::new(newest.commit.epoch.get() + 1);
        if growth.commit.epoch == newest.commit.epoch || !self.told.insert((to, thread, next.get())) {
            return None;
        }
        let (mut again, previous) = (growth.clone(), Some(newest.commit.hash()));
        again.commit.epoch = next;
        let words = Receipt { commit: again.commit.hash(), epoch: next, previous, ..newest.receipt.words };
        again.receipt = Box::new(receipt::sign(identity, words));
        self.made_up += 1;
        Some(EntryBody::Commit(again))
    }
}
