//! Hostile processes: what a relay does to its own users and to other relays (`forwards`), and a member to the others of
//! its threads.
//! Owns: the frames they change, hold back and make up, between an honest core and the network.
//! Never: breaks a seal or a signature: it has no keys but its own. What it does to a log it goes on telling
//! consistently (a place once shown keeps its number), for a device would not notice a liar who contradicts itself less.

mod forged;
mod serving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use whimbrel_crypto::RelayIdentity;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::federation::Forward;
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::friendship::{Act, FriendshipWord};
use whimbrel_protocol::hub::{Commit, SubmitCommit};
use whimbrel_protocol::id::{
    AccountId, DeviceId, DeviceIndex, EnvelopeId, Epoch, InviteToken, LinkId, ParticipantsTag, RequestId, Sequence,
    ThreadId,
};
use whimbrel_protocol::presence::Status;
use whimbrel_protocol::push::{Entry, EntryBody, LogRef, Push};
use whimbrel_protocol::reception::HeartbeatAnswer;
use whimbrel_protocol::signed::Signed;
use whimbrel_protocol::thread::{Envelope, OpenThread, Opening, Participant, Submit};
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::user::{Card, ClaimedKeyPackages, ClaimedPackage, NewInvite, Profile};
use whimbrel_protocol::{Frame, codec, limits};

use self::forged::Forged;
use self::serving::Serving;
use super::carry::pack;
use super::changes::Changes;
use super::commits::{self, Commits, Deed};
use super::forwards::{Forwards, Tricks};
use super::orders::Orders;
use crate::engine::Stream;
use crate::faults::{MemberTrick, RelayTrick};
use crate::net::{Cargo, ProcessNo};

/// Bodies of a log kept to be shown again.
const REMEMBERED: usize = 8;
/// What is kept back is kept no longer.
const DELAY_MAX: Duration = Duration::from_secs(4);
/// Bytes of a frame that are changed at most, until it is none.
const DAMAGES_MAX: u32 = 16;
/// Requests of forged frames begin here, so that their answers can be told from the core's.
const FORGED: u64 = 1 << 62;
/// The request by which a relay makes an invite for itself.
const MINTING: RequestId = RequestId::new(FORGED);
/// What anybody comes by to whom a relay makes an invite in its user's name.
pub(super) const MINTED: InviteToken = InviteToken::from_bytes([0x3a; 16]);

/// One log as one device is shown it.
#[derive(Debug, Default)]
struct Shift {
    /// After which genuine places something was put in, ascending: the n-th stands at this and n + 1.
    put_in: Vec<u64>,
    /// The highest genuine place ever pushed: what lies below is not changed any more.
    high: u64,
    bodies: VecDeque<EntryBody>,
}

impl Shift {
    /// Where the device sees a genuine place.
    fn shown(&self, place: u64) -> u64 {
        place + self.put_in.iter().filter(|after| **after < place).count() as u64
    }

    /// Which genuine place the device means.
    fn meant(&self, shown: u64) -> u64 {
        let before = self.put_in.iter().zip(1..).filter(|(after, n)| **after + n <= shown).count();
        shown - before as u64
    }

    /// Puts something in behind a genuine place. Returns where the device sees it.
    fn put(&mut self, after: u64) -> u64 {
        self.put_in.push(after);
        after + self.put_in.len() as u64
    }
}

/// A hostile relay.
#[derive(Debug)]
pub(super) struct Mischief {
    /// What it does just now, and to how much.
    pub(super) tricks: BTreeMap<RelayTrick, f64>,
    stream: Stream,
    logs: BTreeMap<(ProcessNo, LogRef), Shift>,
    held: BTreeMap<(LinkId, LogRef), Push>,
    forwards: BTreeMap<LinkId, Forwards>,
    /// What it says of commits.
    pub(super) orders: Orders,
    /// What it does with changes, of groups and of accounts.
    pub(super) changes: Changes,
    /// A device that it serves though it may not.
    pub(super) serving: Serving,
    /// Words about friendship that it makes up.
    pub(super) forged: Forged,
    /// Who wrote into a thread, as far as it passed here.
    speakers: BTreeMap<ThreadId, BTreeSet<DeviceId>>,
    /// Of whom each device was told whether they are there.
    told: BTreeMap<ProcessNo, BTreeSet<AccountId>>,
    /// In whose name it made an invite.
    pub(super) minted: BTreeSet<ProcessNo>,
    /// Entries it told that are of an epoch nothing leads to.
    pub(super) invented: u64,
    /// Words it told under the name of somebody who did not say them.
    pub(super) spoken_for: u64,
    /// Commits and invitations put into a log again.
    pub(super) again: u64,
    /// Entries that nobody will ever see.
    pub(super) hidden: u64,
    /// Frames it did something to.
    pub(super) done: u64,
}

impl Mischief {
    pub(super) fn new(stream: Stream, identity: RelayIdentity) -> Self {
        let orders = Orders::new(identity);
        let (tricks, logs, held) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (forwards, speakers, told) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (changes, serving, forged) = (Changes::default(), Serving::default(), Forged::default());
        let (minted, invented, spoken_for, again, hidden, done) = (BTreeSet::new(), 0, 0, 0, 0, 0);
        Self {
            tricks,
            stream,
            logs,
            held,
            forwards,
            orders,
            changes,
            serving,
            forged,
            speakers,
            told,
            minted,
            invented,
            spoken_for,
            again,
            hidden,
            done,
        }
    }

    /// Whether it does anything with changes.
    fn meddles(&self) -> bool {
        let tricks =
            [RelayTrick::Withhold, RelayTrick::OldInfo, RelayTrick::ReAdd, RelayTrick::OldLog, RelayTrick::OtherKey];
        tricks.iter().any(|trick| self.tricks.contains_key(trick))
    }

    fn does(&mut self, trick: RelayTrick) -> bool {
        let share = self.tricks.get(&trick).copied().unwrap_or(0.0);
        self.stream.happens(share)
    }

    /// The same of a trick that is in no drawn world: chance is asked for nothing where it is not played.
    fn does_for_stories(&mut self, trick: RelayTrick) -> bool {
        self.tricks.contains_key(&trick) && self.does(trick)
    }

    /// What leaves instead of a frame.
    pub(super) fn outgoing(&mut self, link: LinkId, to: ProcessNo, frame: Arc<Frame>) -> Vec<Cargo> {
        if matches!(&*frame, Frame::Done(words) if words.request == MINTING) {
            return Vec::new();
        }
        if self.tricks.is_empty() && self.leaves_alone(link, to, &frame) {
            return pack(frame).into_iter().collect();
        }
        if let Some(garbled) = self.garbled(&frame) {
            return vec![garbled];
        }
        let leave = self.tricked(link, to, frame).into_iter();
        leave.filter_map(|(frame, kept)| Some(Cargo { kept, ..pack(frame)? })).collect()
    }

    /// Whether a frame leaves as it is while no trick is played: nothing before it was changed. How far a device was
    /// pushed to is noted all the same, for what it may have is not moved later.
    fn leaves_alone(&mut self, link: LinkId, to: ProcessNo, frame: &Frame) -> bool {
        match frame {
            Frame::Push(run) if self.held.contains_key(&(link, run.log)) => false,
            Frame::Push(run) => {
                let shift = self.logs.entry((to, run.log)).or_default();
                let untouched = shift.put_in.is_empty();
                if untouched {
                    shift.high = shift.high.max(run.upto.get());
                }
                untouched
            }
            Frame::Forward(_) => !self.forwards.contains_key(&link),
            _ => true,
        }
    }

    /// Bytes that leave instead of a frame and are none.
    fn garbled(&mut self, frame: &Frame) -> Option<Cargo> {
        let garbles = self.does(RelayTrick::Garble);
        let cargo = garbles.then(|| garbled(&mut self.stream, frame)).flatten();
        self.done += u64::from(cargo.is_some());
        cargo
    }

    /// What leaves instead of a frame when something is done to its words, and how long each is kept back.
    fn tricked(&mut self, link: LinkId, to: ProcessNo, frame: Arc<Frame>) -> Vec<(Arc<Frame>, Duration)> {
        let delayed = self.does(RelayTrick::Delay);
        let kept = if delayed { self.stream.between(Duration::ZERO, DELAY_MAX) } else { Duration::ZERO };
        self.done += u64::from(delayed);
        if self.meddles() {
            let (tricks, stream) = (&self.tricks, &mut self.stream);
            let does = |trick| stream.happens(tricks.get(&trick).copied().unwrap_or(0.0));
            if let Some(answer) = self.changes.answer(link, to, &frame, does) {
                self.done += 1;
                return vec![(Arc::new(answer), kept)];
            }
        }
        if self.tricks.contains_key(&RelayTrick::ServeRevoked) {
            if let Some(answer) = self.serving.answer(to, &frame) {
                return vec![(Arc::new(answer), kept)];
            }
            let more = self.serving.hand_to(to, &frame);
            if !more.is_empty() {
                let log = |thread| LogRef::Thread(thread);
                let told = more.into_iter().map(|(thread, body)| (Arc::new(self.told_on(to, log(thread), body)), kept));
                return [(frame, kept)].into_iter().chain(told.collect::<Vec<_>>()).collect();
            }
        }
        if self.tricks.contains_key(&RelayTrick::ForgeAccept) {
            self.forged.answered(&frame);
            if matches!(&*frame, Frame::HeartbeatAnswer(_)) {
                let told = self.forged.accepts(to, &mut self.stream).into_iter();
                let told = told.map(|body| (Arc::new(self.told_on(to, LogRef::Inbox, body)), kept));
                return [(frame, kept)].into_iter().chain(told.collect::<Vec<_>>()).collect();
            }
        }
        let run = match &*frame {
            Frame::Push(run) => {
                self.serving.hear(to, run);
                for entry in &run.entries {
                    if let EntryBody::Envelope(author, envelope) = &entry.body {
                        self.speakers.entry(envelope.thread).or_default().insert(*author);
                    }
                }
                run
            }
            Frame::ClaimedKeyPackages(words) if self.does(RelayTrick::AddDevice) => {
                self.done += 1;
                return vec![(Arc::new(with_another_device(words.clone()).into()), kept)];
            }
            Frame::CommitLost(words) if self.does(RelayTrick::TwoOrders) => {
                let lie = self.orders.taken(link, words);
                self.done += u64::from(lie.is_some());
                return vec![(lie.map_or(frame, |lie| Arc::new(lie.into())), kept)];
            }
            Frame::HeartbeatAnswer(words) if self.tricks.contains_key(&RelayTrick::LiePresence) => {
                let words = self.lied(to, words.clone());
                return vec![(Arc::new(words.into()), kept)];
            }
            Frame::Profile(words) if self.does(RelayTrick::Impersonate) => {
                let forged = with_another_name(words.clone());
                self.done += u64::from(forged.is_some());
                return vec![(forged.map_or(frame, |words| Arc::new(words.into())), kept)];
            }
            Frame::Forward(words) => {
                let words = self.forwarded(link, words.clone());
                return words.into_iter().map(|words| (Arc::new(words.into()), kept)).collect();
            }
            _ => return vec![(frame, kept)],
        };
        let Some(run) = self.reordered(link, to, run.clone()) else { return Vec::new() };
        let run = self.retold(to, run);
        if self.does(RelayTrick::Drop) {
            self.done += 1;
            return Vec::new();
        }
        let frame = Arc::new(Frame::Push(run));
        let again = self.does(RelayTrick::Repeat).then(|| (Arc::clone(&frame), Duration::ZERO));
        self.done += u64::from(again.is_some());
        [(frame, kept)].into_iter().chain(again).collect()
    }

    /// A run of one entry that is in no log of the core's.
    fn told_on(&mut self, to: ProcessNo, log: LogRef, body: EntryBody) -> Frame {
        let shift = self.logs.entry((to, log)).or_default();
        let after = shift.shown(shift.high + 1) - 1;
        let sequence = Sequence::new(shift.put(shift.high));
        self.done += 1;
        Push { log, after: Sequence::new(after), upto: sequence, entries: vec![Entry { sequence, body }], gone: None }
            .into()
    }

    /// Who is there, as somebody is told who is lied to.
    fn lied(&mut self, to: ProcessNo, mut words: HeartbeatAnswer) -> HeartbeatAnswer {
        for status in &mut words.statuses {
            self.told.entry(to).or_default().insert(status.account);
            if self.does(RelayTrick::LiePresence) {
                status.online = !status.online;
                self.done += 1;
            }
        }
        let fresh = |of: &AccountId| words.statuses.iter().all(|status| status.account != *of);
        let others: Vec<_> = self.told.get(&to).into_iter().flatten().copied().filter(fresh).collect();
        for account in others {
            if self.does(RelayTrick::LiePresence) {
                let online = self.stream.happens(0.5);
                words.statuses.push(Status { account, online });
                self.done += 1;
            }
        }
        words
    }

    /// What is forwarded to another relay.
    fn forwarded(&mut self, link: LinkId, words: Forward) -> Option<Forward> {
        let first = words.items.first().map_or(1, |item| item.number);
        let forwards = self.forwards.entry(link).or_insert_with(|| Forwards::new(first));
        let mut tricks =
            Tricks { shares: &self.tricks, stream: &mut self.stream, speakers: &self.speakers, done: &mut self.done };
        forwards.outgoing(words, &mut tricks)
    }

    /// A run joined with the one before it in another order; nothing when it is kept for the next.
    fn reordered(&mut self, link: LinkId, to: ProcessNo, mut run: Push) -> Option<Push> {
        let key = (link, run.log);
        if let Some(before) = self.held.remove(&key) {
            if before.upto == run.after && run.gone.is_none() {
                let (after, gone) = (before.after, before.gone);
                run = Push { after, gone, entries: [before.entries, run.entries].concat(), ..run };
            }
            let mut bodies: Vec<_> = run.entries.iter().map(|entry| entry.body.clone()).collect();
            if self.tricks.contains_key(&RelayTrick::Fork) {
                bodies.reverse();
            } else {
                for n in (1..bodies.len()).rev() {
                    bodies.swap(n, self.stream.below(n as u64 + 1) as usize);
                }
            }
            let moved = run.entries.iter().zip(&bodies).any(|(entry, body)| entry.body != *body);
            self.done += u64::from(moved);
            run.entries.iter_mut().zip(bodies).for_each(|(entry, body)| entry.body = body);
            return Some(run);
        }
        // What the device may have already keeps its place: moved, it would be hidden, not reordered. Of a log that it was
        // not shown anything of yet it may have more than its cursor says: acknowledgements are written behind.
        let fresh = self.logs.get(&(to, run.log)).is_some_and(|shift| run.after.get() >= shift.high);
        let small = fresh && run.entries.len() <= limits::PUSH_ENTRIES_MAX / 4 && matches!(run.log, LogRef::Thread(_));
        // The other half of the devices is shown the log as it is.
        let holds = small && (self.does(RelayTrick::Reorder) || to % 2 == 1 && self.does(RelayTrick::Fork));
        if holds {
            self.held.insert(key, run);
            return None;
        }
        Some(run)
    }

    /// A run as this device is told it.
    fn retold(&mut self, to: ProcessNo, mut run: Push) -> Push {
        let before = run.entries.len();
        if self.tricks.contains_key(&RelayTrick::Hide) {
            let mut entries = std::mem::take(&mut run.entries);
            entries.retain(|_| !self.does(RelayTrick::Hide));
            run.entries = entries;
            self.hidden += (before - run.entries.len()) as u64;
        }
        if self.meddles() {
            let (tricks, stream) = (&self.tricks, &mut self.stream);
            let does = |trick| stream.happens(tricks.get(&trick).copied().unwrap_or(0.0));
            self.changes.retell(to, &mut run, does);
        }
        let brings_back = self.does_for_stories(RelayTrick::ReAdd);
        let speaks_for = self.does_for_stories(RelayTrick::SpeakFor);
        let invents = self.does_for_stories(RelayTrick::FarAhead);
        let serves_on = self.tricks.contains_key(&RelayTrick::ServeRevoked);
        let (replays, corrupts) = (self.does(RelayTrick::Replay), self.does(RelayTrick::Corrupt));
        let shift = self.logs.entry((to, run.log)).or_default();
        let (after, upto) = (run.after.get(), run.upto.get());
        let shown_after = shift.shown(after);
        let mut made_up = Vec::new();
        if corrupts
            && after >= shift.high
            && let Some(body) = run.entries.first().and_then(|entry| corrupted(&entry.body))
        {
            made_up.push(Entry { sequence: Sequence::new(shift.put(after)), body });
        }
        if speaks_for
            && after >= shift.high
            && let Some(body) = run.entries.iter().find_map(|entry| anothers(&entry.body, &self.speakers))
        {
            self.spoken_for += 1;
            made_up.push(Entry { sequence: Sequence::new(shift.put(after)), body });
        }
        if invents
            && after >= shift.high
            && let Some(body) = run.entries.first().and_then(|entry| far_ahead(&entry.body))
        {
            self.invented += 1;
            made_up.push(Entry { sequence: Sequence::new(shift.put(after)), body });
        }
        let fresh = upto > shift.high;
        for entry in &mut run.entries {
            entry.sequence = Sequence::new(shift.shown(entry.sequence.get()));
        }
        if let Some(gone) = &mut run.gone {
            let shown = |place: Sequence| Sequence::new(shift.shown(place.get()));
            (gone.after, gone.upto) = (shown(gone.after), shown(gone.upto));
        }
        let mut shown_upto = shift.shown(upto);
        if replays && fresh {
            let body =
                self.stream.pick(shift.bodies.make_contiguous()).or(run.entries.first().map(|entry| &entry.body));
            if let Some(body) = body.cloned() {
                self.again += u64::from(matches!(body, EntryBody::Commit(_) | EntryBody::Invitation(_)));
                shown_upto = shift.put(upto);
                made_up.push(Entry { sequence: Sequence::new(shown_upto), body });
            }
        }
        if brings_back
            && fresh
            && let LogRef::Thread(thread) = run.log
            && let Some(body) = self.changes.brings_back(to, thread, self.orders.identity())
        {
            shown_upto = shift.put(upto);
            made_up.push(Entry { sequence: Sequence::new(shown_upto), body });
        }
        if serves_on
            && fresh
            && let LogRef::Thread(thread) = run.log
        {
            for body in self.serving.hand_on(to, thread) {
                shown_upto = shift.put(upto);
                made_up.push(Entry { sequence: Sequence::new(shown_upto), body });
            }
        }
        self.done += made_up.len() as u64;
        shift.high = shift.high.max(upto);
        shift.bodies.extend(run.entries.iter().map(|entry| entry.body.clone()));
        shift.bodies.drain(..shift.bodies.len().saturating_sub(REMEMBERED));
        run.entries.extend(made_up);
        run.entries.sort_by_key(|entry| entry.sequence);
        (run.after, run.upto) = (Sequence::new(shown_after), Sequence::new(shown_upto));
        run
    }

    /// What the core hears instead of a frame. Says whether it hears anything.
    pub(super) fn incoming(&mut self, link: LinkId, from: ProcessNo, frame: &mut Frame) -> bool {
        if let (Frame::Forwarded(words), Some(forwards)) = (&mut *frame, self.forwards.get_mut(&link)) {
            let Some(heard) = forwards.incoming(words) else { return false };
            *words = heard;
        }
        self.orders.heard(link, frame);
        self.changes.heard(link, from, frame);
        if self.tricks.contains_key(&RelayTrick::ForgeAccept) {
            self.forged.heard(from, frame);
        }
        if self.tricks.contains_key(&RelayTrick::ServeRevoked) {
            self.serving.incoming(from, frame);
        }
        if matches!(frame, Frame::Heartbeat(_))
            && self.changes.only.is_none_or(|one| one == from)
            && !self.minted.contains(&from)
            && self.does_for_stories(RelayTrick::MintInvite)
        {
            // Its core takes it for the user's own wish. One heartbeat is not answered: the next is.
            self.minted.insert(from);
            self.done += 1;
            let (token, uses) = (MINTED.hash(), limits::INVITE_USES_MAX);
            *frame = NewInvite { request: MINTING, token, uses, expires: Wall::from_millis(u64::MAX) }.into();
        }
        let Frame::Acknowledge(words) = frame else { return true };
        for acked in &mut words.logs {
            if let Some(shift) = self.logs.get(&(from, acked.log)) {
                acked.upto = Sequence::new(shift.meant(acked.upto.get()));
            }
        }
        true
    }
}

/// The same with a KeyPackage of a device that nobody added.
fn with_another_device(mut words: ClaimedKeyPackages) -> ClaimedKeyPackages {
    if let Some(last) = words.packages.last().cloned() {
        words.packages.push(ClaimedPackage { device: DeviceIndex::new(last.device.get() + 1), ..last });
    }
    words
}

/// The same with a name that its owner never signed.
fn with_another_name(mut words: Profile) -> Option<Profile> {
    let card: Card = decode_words(&words.card.content).ok()?;
    words.card.content = encode_words(&Card { display: "somebody else".to_owned(), ..card });
    Some(words)
}

/// The same under the name of somebody else who spoke there; of a word about friendship, that its author ends it later.
fn anothers(body: &EntryBody, speakers: &BTreeMap<ThreadId, BTreeSet<DeviceId>>) -> Option<EntryBody> {
    match body {
        EntryBody::Envelope(author, envelope) => {
            let others = speakers.get(&envelope.thread)?;
            let victim = others.iter().copied().find(|other| other.account != author.account)?;
            Some(EntryBody::Envelope(victim, envelope.clone()))
        }
        EntryBody::Friendship(signed) => {
            let word: FriendshipWord = decode_words(&signed.content).ok()?;
            let at = Wall::from_millis(word.at.as_millis() + 60_000);
            let content = encode_words(&FriendshipWord { act: Act::Remove, at, ..word });
            Some(EntryBody::Friendship(Signed { content, ..signed.clone() }))
        }
        EntryBody::Invitation(_) | EntryBody::Undelivered(_) | EntryBody::Commit(_) => None,
    }
}

/// A copy as if it were of an epoch far ahead.
fn far_ahead(body: &EntryBody) -> Option<EntryBody> {
    let far = |epoch: Epoch| Epoch::new(epoch.get() + 1_000);
    match body {
        EntryBody::Envelope(from, envelope) => {
            let copy = flipped(envelope);
            Some(EntryBody::Envelope(*from, Envelope { epoch: far(copy.epoch), ..copy }))
        }
        EntryBody::Commit(accepted) => {
            let mut copy = accepted.clone();
            copy.commit.epoch = far(copy.commit.epoch);
            Some(EntryBody::Commit(copy))
        }
        EntryBody::Invitation(_) | EntryBody::Undelivered(_) | EntryBody::Friendship(_) => None,
    }
}

/// A copy with one bit changed, if there is anything sealed in it.
fn corrupted(body: &EntryBody) -> Option<EntryBody> {
    match body {
        EntryBody::Envelope(from, envelope) => Some(EntryBody::Envelope(*from, flipped(envelope))),
        EntryBody::Invitation(_) | EntryBody::Undelivered(_) | EntryBody::Friendship(_) | EntryBody::Commit(_) => None,
    }
}

pub(super) fn flipped(envelope: &Envelope) -> Envelope {
    let mut copy = envelope.clone();
    if let Some(last) = copy.body.last_mut() {
        *last ^= 1;
    }
    copy
}

/// A frame's bytes, damaged until nobody can read them. None when they stay a frame after all: one that waits for more
/// bytes ends no link, and one of other words is for other tricks.
fn garbled(stream: &mut Stream, frame: &Frame) -> Option<Cargo> {
    let mut bytes = codec::encode(frame).ok()?;
    (0..DAMAGES_MAX).find_map(|_| {
        let at = stream.below(bytes.len() as u64) as usize;
        *bytes.get_mut(at)? ^= 1 + stream.below(255) as u8;
        let mut decoder = codec::Decoder::new();
        decoder.push(&bytes);
        decoder.next_frame().is_err().then(|| Cargo::malformed(&bytes))
    })
}

/// A hostile member's node.
#[derive(Debug)]
pub(super) struct Member {
    /// What it does just now, and to how much.
    pub(super) tricks: BTreeMap<MemberTrick, f64>,
    stream: Stream,
    forged: BTreeSet<EnvelopeId>,
    requests: u64,
    commits: Commits,
    /// Its owner, and somebody its owner never met.
    stranger: Option<[Participant; 2]>,
    /// Frames it made up of commits.
    pub(super) committed: u64,
}

/// Makes a commit by which a member of a thread does what it may not do.
pub(super) type Usurp<'u> = dyn FnMut((ThreadId, Deed), &mut Stream) -> Option<Commit> + 'u;

impl Member {
    pub(super) fn new(stream: Stream, stranger: Option<[Participant; 2]>) -> Self {
        let (tricks, forged, commits) = (BTreeMap::new(), BTreeSet::new(), Commits::default());
        Self { tricks, stream, forged, requests: FORGED, commits, stranger, committed: 0 }
    }

    fn does(&mut self, trick: MemberTrick) -> bool {
        let share = self.tricks.get(&trick).copied().unwrap_or(0.0);
        self.stream.happens(share)
    }

    /// What leaves instead of a frame.
    pub(super) fn outgoing(&mut self, frame: Frame, usurp: &mut Usurp<'_>) -> Vec<Cargo> {
        let garbles = self.does(MemberTrick::Garble);
        match garbles.then(|| garbled(&mut self.stream, &frame)).flatten() {
            Some(garbled) => vec![garbled],
            None => self.tricked(frame, usurp).into_iter().filter_map(|frame| pack(Arc::new(frame))).collect(),
        }
    }

    /// What leaves instead of a frame when something is done to its words.
    fn tricked(&mut self, frame: Frame, usurp: &mut Usurp<'_>) -> Vec<Frame> {
        let (envelope, direct) = match &frame {
            Frame::SubmitCommit(words) => {
                let mut damaged = Vec::new();
                if self.does(MemberTrick::CorruptCommit) {
                    damaged.extend(commits::corrupted(&words.commit, &mut self.stream));
                }
                if self.does(MemberTrick::MistagCommit) {
                    damaged.extend(commits::mistagged(&words.commit));
                }
                self.commits.remember(&words.commit);
                let before: Vec<_> = damaged.into_iter().map(|commit| self.hand_in(commit)).collect();
                return before.into_iter().chain([frame]).collect();
            }
            Frame::Submit(words) => (words.envelope.clone(), false),
            Frame::DirectEnvelope(words) => (words.envelope.clone(), true),
            _ => return vec![frame],
        };
        let mut commits = Vec::new();
        if !direct && self.does(MemberTrick::StaleCommit) {
            commits.extend(self.commits.stale(envelope.thread, envelope.epoch));
        }
        if !direct && self.does(MemberTrick::ForeignRemoval) {
            commits.extend(usurp((envelope.thread, Deed::Removal), &mut self.stream));
        }
        if !direct && self.does(MemberTrick::Usurp) {
            commits.extend(usurp((envelope.thread, Deed::Role), &mut self.stream));
        }
        let mut before = Vec::new();
        if self.does(MemberTrick::Corrupt) {
            before.push(flipped(&envelope));
        }
        if self.does(MemberTrick::Garbage) {
            let mut body = vec![0; envelope.body.len()];
            self.stream.chance().fill(&mut body);
            before.push(Envelope { body, ..envelope.clone() });
        }
        self.forged.extend(before.iter().map(Envelope::id));
        let (again, strange) = (self.does(MemberTrick::Replay).then_some(envelope), self.does(MemberTrick::Stranger));
        let mut make = |envelope| {
            self.requests += 1;
            if direct {
                Frame::DirectEnvelope(DirectEnvelope { envelope })
            } else {
                Frame::Submit(Submit { request: RequestId::new(self.requests), envelope, heard: None })
            }
        };
        let mut frames: Vec<_> = before.into_iter().map(&mut make).collect();
        frames.push(frame);
        frames.extend(again.map(make));
        if let (false, true, Some(two)) = (direct, strange, self.stranger.clone()) {
            frames.push(self.opening(two));
        }
        frames.extend(commits.into_iter().map(|commit| self.hand_in(commit)));
        frames
    }

    /// A commit that its core knows nothing of.
    fn hand_in(&mut self, commit: Commit) -> Frame {
        (self.requests, self.committed) = (self.requests + 1, self.committed + 1);
        SubmitCommit { request: RequestId::new(self.requests), commit: Box::new(commit), newcomers: None }.into()
    }

    /// The opening of a thread with somebody who never agreed.
    fn opening(&mut self, mut participants: [Participant; 2]) -> Frame {
        participants.sort_by_key(|one| one.account);
        self.requests += 1;
        let (thread, tag) = (ThreadId::from_bytes(self.stream.chance().bytes()), self.stream.chance().bytes());
        let [mut welcome, mut tree] = [vec![0; 300], vec![0; 300]];
        self.stream.chance().fill(&mut welcome);
        self.stream.chance().fill(&mut tree);
        let opening =
            Opening { thread, epoch: Epoch::new(1), participants: participants.into(), welcome, tree, founding: None };
        let (request, tag) = (RequestId::new(self.requests), ParticipantsTag::from_bytes(tag));
        OpenThread { request, opening, tag, info: None }.into()
    }

    /// What its own core hears of a frame: nothing of what it made up. Says whether anything is left.
    pub(super) fn incoming(&self, frame: &mut Frame) -> bool {
        match frame {
            Frame::Push(run) => {
                run.entries.retain(|entry| match &entry.body {
                    EntryBody::Envelope(_, envelope) => !self.forged.contains(&envelope.id()),
                    EntryBody::Invitation(_)
                    | EntryBody::Undelivered(_)
                    | EntryBody::Friendship(_)
                    | EntryBody::Commit(_) => true,
                });
                true
            }
            Frame::Stored(words) => words.request.get() < FORGED,
            Frame::CommitTaken(words) => words.request.get() < FORGED,
            Frame::CommitLost(words) => words.request.get() < FORGED,
            Frame::Refused(words) => words.request.is_none_or(|request| request.get() < FORGED),
            Frame::DirectStored(words) => !self.forged.contains(&words.envelope),
            Frame::DirectRefused(words) => !self.forged.contains(&words.envelope),
            _ => true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_crypto::KeyPair;
    use whimbrel_protocol::federation::Forwarded;
    use whimbrel_protocol::thread::Class;

    use super::super::clock::Clock;
    use super::*;
    use crate::engine::{Entity, Seed, Time};

    #[test]
    fn what_is_garbled_is_no_frame() {
        let mut stream = Seed::from(1).stream(Entity::World, "garble");
        let frame = Frame::from(Forwarded { upto: 7, refused: Vec::new() });
        let garbled: Vec<_> = (0..100).filter_map(|_| garbled(&mut stream, &frame)).collect();
        assert!(garbled.len() > 50 && garbled.iter().all(|cargo| cargo.frame.is_none() && cargo.bytes > 0));
    }

    #[test]
    fn what_a_device_may_have_since_before_the_relay_turned_is_not_moved() {
        let (link, again, device) = (LinkId::new(1), LinkId::new(2), 11);
        let mut stream = Seed::from(1).stream(Entity::World, "hostility");
        let [offline, online] = [KeyPair::generate(stream.chance()), KeyPair::generate(stream.chance())];
        let now = Clock::new().now(Time::ZERO).wall;
        let identity = RelayIdentity::create(&offline, &online, &"a.example".parse().unwrap(), now).unwrap();
        let mut relay = Mischief::new(stream, identity);
        let run = |after, upto| {
            let thread = ThreadId::from_bytes([1; 32]);
            let entries = (after + 1..=upto).map(|place| {
                let author = DeviceId { account: AccountId::from_bytes([1; 32]), index: DeviceIndex::FIRST };
                let class = Class::Message;
                let envelope = Envelope { thread, epoch: Epoch::new(1), class, body: vec![place as u8; 40] };
                Entry { sequence: Sequence::new(place), body: EntryBody::Envelope(author, envelope) }
            });
            let log = LogRef::Thread(thread);
            let (after, upto) = (Sequence::new(after), Sequence::new(upto));
            Arc::new(Frame::Push(Push { log, after, upto, entries: entries.collect(), gone: None }))
        };
        assert_eq!(relay.outgoing(link, device, run(0, 14)).len(), 1);
        relay.tricks.insert(RelayTrick::Reorder, 1.0);
        assert_eq!(relay.outgoing(again, device, run(13, 15)).len(), 1, "it may have 14, and the relay moves it");
        assert!(relay.outgoing(again, device, run(15, 16)).is_empty(), "16 is new, and is not kept for the next");
        let joined = relay.outgoing(again, device, run(16, 17));
        assert!(joined.iter().all(|cargo| cargo.frame.is_some()) && joined.len() == 1);
    }

    #[test]
    fn a_log_with_entries_put_in_is_told_and_understood_the_same_way() {
        let mut shift = Shift::default();
        // Behind 2, and twice behind 5: the device sees 1 2 * 3 4 5 * * 6.
        assert_eq!((shift.put(2), shift.put(5), shift.put(5)), (3, 7, 8));
        let shown: Vec<_> = (0..=7).map(|place| shift.shown(place)).collect();
        assert_eq!(shown, [0, 1, 2, 4, 5, 6, 9, 10]);
        let meant: Vec<_> = (0..=10).map(|place| shift.meant(place)).collect();
        assert_eq!(meant, [0, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7]);
    }
}
