//! Crowd: synthetic people, with real keys, real certificates and real frames. What they say is opaque bytes of the
//! true size: a relay never opens it, so nothing is sealed.
//! Owns: accounts, lines to the relay, threads of two, acknowledgements as a node gives them.
//! Never: skips a step of the protocol that a node goes through.

pub(crate) mod group;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;
use whimbrel_crypto::{AccountLog, Chance, KeyPair, RecoveryHash, Seed, TransportProof, link};
use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::id::{
    AccountId, DeviceId, DeviceIndex, Epoch, InviteToken, LogHash, Name, ParticipantsTag, RequestId, Sequence, ThreadId,
};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::presence::{Goodbye, Status};
use whimbrel_protocol::push::{EntryBody, LogRef, Push};
use whimbrel_protocol::reception::{Heartbeat, Hello, Register};
use whimbrel_protocol::thread::{Class, Envelope, OpenThread, Opening, Participant, Submit};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::user::{ClaimKeyPackages, NewInvite};
use whimbrel_protocol::{Frame, VERSION, limits};
use whimbrel_transport::{Endpoint, FrameReceiver, FrameSender, Identity};

use crate::clock;

/// A text message as MLS seals it: padded to the smallest bucket, overhead within.
pub(crate) const BODY_BYTES: usize = limits::PADDING_BUCKETS[0];
/// What is done for many at once is done for so many.
pub(crate) const AT_ONCE: usize = 64;
/// An answer that does not come in this time will not come.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A Welcome and a tree of a thread of two, in bytes: the hybrid suite's (docs/protocol/thread.md).
const WELCOME_BYTES: usize = 3_600;
const TREE_BYTES: usize = 3_400;

/// One account with one device.
pub(crate) struct Person {
    name: Name,
    pub(crate) device: DeviceId,
    device_key: KeyPair,
    shown: Identity,
    log: Vec<u8>,
    head: (u64, LogHash),
}

impl Person {
    /// Keys of its own, the same for the same number and salt.
    pub(crate) fn new(number: usize, salt: [u8; 16]) -> anyhow::Result<Self> {
        let mut seed = [0; 32];
        let (first, second) = seed.split_at_mut(16);
        first.copy_from_slice(&salt);
        second.copy_from_slice(&(number as u128).to_be_bytes());
        let mut chance = Chance::from_seed(Seed::from_bytes(seed));
        let identity = KeyPair::generate(&mut chance);
        let (device_key, transport) = (KeyPair::generate(&mut chance), KeyPair::generate(&mut chance));
        let recovery = RecoveryHash::from_bytes(chance.bytes());
        let mut log = AccountLog::genesis(&identity, recovery, Hlc::default(), &mut chance);
        let proof = TransportProof::make(&transport, log.account(), DeviceIndex::FIRST, &device_key.public());
        log.add_device(&identity, DeviceIndex::FIRST, device_key.public(), proof, "load", Hlc::default())?;
        Ok(Self {
            // A relay that runs already may know people of another row.
            name: format!("p{:08x}-{number}", u32::from_be_bytes(*salt.first_chunk().context("no salt")?)).parse()?,
            device: DeviceId { account: log.account(), index: DeviceIndex::FIRST },
            device_key,
            shown: Identity::node(&transport)?,
            log: log.bytes(),
            head: log.head(),
        })
    }

    pub(crate) const fn account(&self) -> AccountId {
        self.device.account
    }
}

/// So many people.
pub(crate) fn people(count: usize) -> anyhow::Result<Vec<Person>> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("the operating system gives no randomness")?;
    (0..count).map(|number| Person::new(number, salt)).collect()
}

/// How people reach the relay: a few sockets for all of them, so that neither ports nor file descriptors bound the
/// crowd.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    sockets: Vec<Endpoint>,
    to: RelayLink,
}

/// Sockets of the crowd: each has its own buffers in the kernel, which a crowd on a single one would overrun.
const SOCKETS: usize = 8;

impl Way {
    pub(crate) fn open(to: &RelayLink) -> anyhow::Result<Self> {
        let nobody = Identity::node(&crate::bare::fresh_key()?)?;
        let sockets = (0..SOCKETS).map(|_| Endpoint::bind_dialler(nobody.clone(), clock::wall));
        Ok(Self { sockets: sockets.collect::<Result<_, _>>()?, to: to.clone() })
    }

    /// TLS, with the person's own key.
    async fn connect(&self, person: &Person) -> anyhow::Result<Link> {
        let first = person.account().as_bytes().first().copied().unwrap_or_default();
        let socket = self.sockets.get(usize::from(first) % SOCKETS).context("no socket")?;
        let link = socket.showing(person.shown.clone()).connect(&self.to).await?;
        Ok(Link { exporter: link.exporter, sender: link.sender, receiver: link.receiver })
    }

    /// A new account, up to its being admitted with nothing waiting.
    pub(crate) async fn register(&self, person: &Person) -> anyhow::Result<Line> {
        let mut link = self.connect(person).await?;
        let register = Register {
            request: RequestId::new(0),
            name: person.name.clone(),
            log: person.log.clone(),
            device: person.device,
            proof: link::prove(&person.device_key, &link.exporter),
            invite: None,
        };
        link.sender.send(&register.into())?;
        match timeout(ANSWER_TIME_MAX, link.receiver.next()).await?? {
            Frame::Registered(_) => greet(person, link, false).await,
            other => bail!("registering was answered with {other:?}"),
        }
    }

    /// An account that is there: handshake, authentication, and everything that waited. Nothing is acknowledged.
    pub(crate) async fn come_in(&self, person: &Person) -> anyhow::Result<Line> {
        let link = self.connect(person).await?;
        greet(person, link, false).await
    }

    /// As [`Way::come_in`], and what waited is acknowledged as it comes.
    pub(crate) async fn catch_up(&self, person: &Person) -> anyhow::Result<Line> {
        let link = self.connect(person).await?;
        let mut line = greet(person, link, true).await?;
        line.acknowledge(true)?;
        Ok(line)
    }
}

async fn greet(person: &Person, mut link: Link, acknowledge: bool) -> anyhow::Result<Line> {
    link.receiver.authenticated();
    let (log_seq, log_hash) = person.head;
    let proof = link::prove(&person.device_key, &link.exporter);
    let hello = Hello { version: VERSION, device: person.device, log_seq, log_hash, proof, stays: false };
    link.sender.send(&hello.into())?;
    let Link { sender, receiver, .. } = link;
    let mut line = Line { sender, receiver, requests: 0, got: Got::default(), owed: Owed::default() };
    loop {
        match line.next().await? {
            Frame::CaughtUp(_) => return Ok(line),
            Frame::Push(push) => line.take(&push),
            Frame::Admitted(_) | Frame::Stocked(_) => {}
            other => bail!("a hello was answered with {other:?}"),
        }
        if acknowledge {
            line.acknowledge(false)?;
        }
    }
}

struct Link {
    exporter: [u8; 32],
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// An admitted device's link.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
    requests: u64,
    pub(crate) got: Got,
    owed: Owed,
}

/// What came on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Got {
    pub(crate) invitations: u64,
    pub(crate) messages: u64,
    pub(crate) commits: u64,
    /// Places of the log before the first message.
    pub(crate) before: u64,
    /// The greatest place of a thread's log. In a log that only one thread fills, and from its beginning, what is
    /// missing is the difference to the messages.
    pub(crate) upto: u64,
}

impl Got {
    /// Of so many that were acknowledged to their author, those that never came.
    pub(crate) fn lost_of(&self, acknowledged: u64) -> u64 {
        acknowledged.max(self.upto.saturating_sub(self.before)).saturating_sub(self.messages)
    }
}

/// Acknowledgements that wait for company, as at a node: for so long, or until there are so many.
#[derive(Debug, Default)]
struct Owed {
    logs: BTreeMap<LogRef, Sequence>,
    entries: usize,
    since: Duration,
}

impl Line {
    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId::new(self.requests)
    }

    /// The next frame, which must come. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Frame> {
        Ok(timeout(ANSWER_TIME_MAX, self.receiver.next()).await.context("no frame in time")??)
    }

    /// Notes entries that came; they are acknowledged by [`Line::acknowledge`] when it is time.
    pub(crate) fn take(&mut self, push: &Push) {
        if self.owed.logs.is_empty() {
            self.owed.since = clock::now();
        }
        self.owed.logs.insert(push.log, push.upto);
        self.owed.entries += push.entries.len();
        for entry in &push.entries {
            match entry.body {
                EntryBody::Envelope(..) => {
                    self.got.messages += 1;
                    self.got.upto = self.got.upto.max(entry.sequence.get());
                }
                EntryBody::Invitation(_) => self.got.invitations += 1,
                EntryBody::Commit(_) => self.got.commits += 1,
                // Another relay refused something, and there is no other relay.
                EntryBody::Undelivered(_) | EntryBody::Friendship(_) => {}
            }
        }
    }

    /// Acknowledges, if it is time: after [`limits::ACK_DELAY`], for [`limits::ACK_ENTRIES`], or because it is the last.
    /// Tells whether it did.
    pub(crate) fn acknowledge(&mut self, last: bool) -> anyhow::Result<bool> {
        let due = self.owed.entries >= limits::ACK_ENTRIES
            || clock::now().saturating_sub(self.owed.since) >= limits::ACK_DELAY;
        if self.owed.logs.is_empty() || !(last || due) {
            return Ok(false);
        }
        let Owed { logs, .. } = std::mem::take(&mut self.owed);
        let logs = logs.into_iter().map(|(log, upto)| AckedLog { log, upto }).collect();
        self.sender.send(&Acknowledge { logs }.into())?;
        Ok(true)
    }

    /// Keeps the link.
    pub(crate) fn beat(&self) -> anyhow::Result<()> {
        Ok(self.sender.send(&Heartbeat::default().into())?)
    }

    /// Keeps the link, and asks what changed since a version: gives that and the version then.
    pub(crate) async fn look(&mut self, statuses: u64) -> anyhow::Result<(u64, Vec<Status>)> {
        let beat = Heartbeat { statuses, ..Heartbeat::default() };
        match self.ask(beat).await? {
            Frame::HeartbeatAnswer(answer) => Ok((answer.version, answer.statuses)),
            other => bail!("a heartbeat was answered with {other:?}"),
        }
    }

    /// Says goodbye; the relay has heard it when this returns.
    pub(crate) async fn leave(mut self) -> anyhow::Result<()> {
        self.sender.send(&Goodbye::default().into())?;
        // Frames are taken in their order: the answer to the next one comes after.
        self.look(0).await.map(drop)
    }

    /// Asks, and waits for the answer; entries that come meanwhile are noted.
    async fn ask(&mut self, frame: impl Into<Frame>) -> anyhow::Result<Frame> {
        self.sender.send(&frame.into())?;
        loop {
            match self.next().await? {
                Frame::Push(push) => self.take(&push),
                Frame::Stocked(_) => {}
                answer => return Ok(answer),
            }
        }
    }
}

/// Two people with a thread, both on their lines.
pub(crate) struct Pair {
    pub(crate) thread: ThreadId,
    pub(crate) alice: (Person, Line),
    pub(crate) bob: (Person, Line),
}

/// Pairs of new people, each with a thread.
pub(crate) async fn pairs(way: &Way, count: usize) -> anyhow::Result<Vec<Pair>> {
    let mut people = people(count * 2)?.into_iter();
    let couples = std::iter::from_fn(|| people.next().zip(people.next()));
    let met = stream::iter(couples.enumerate()).map(|(number, (alice, bob))| meet(way, number, alice, bob));
    met.buffer_unordered(AT_ONCE).try_collect().await
}

async fn meet(way: &Way, number: usize, alice: Person, bob: Person) -> anyhow::Result<Pair> {
    let (mut alice_line, mut bob_line) = tokio::try_join!(way.register(&alice), way.register(&bob))?;
    befriend(way, (&alice, &mut alice_line), (&bob, &mut bob_line)).await?;
    let thread = open(way, (&alice, &mut alice_line), &[&bob], number as u64).await?;
    // The invitation is the last thing he waits for.
    while bob_line.got.invitations == 0 {
        if let Frame::Push(push) = bob_line.next().await? {
            bob_line.take(&push);
        }
    }
    bob_line.acknowledge(true)?;
    Ok(Pair { thread, alice: (alice, alice_line), bob: (bob, bob_line) })
}

/// The second invites the first, who uses the invite: consent both ways.
pub(crate) async fn befriend(
    way: &Way,
    (guest, guest_line): (&Person, &mut Line),
    (host, host_line): (&Person, &mut Line),
) -> anyhow::Result<()> {
    invite(host_line, guest.account(), 1).await?;
    accept(way, guest_line, host.account(), guest.account()).await
}

/// Makes an invite that so many may use, with a token that an account gives.
pub(crate) async fn invite(line: &mut Line, token_of: AccountId, uses: u32) -> anyhow::Result<()> {
    let expires = Wall::from_millis(clock::wall().as_millis() + 3_600_000);
    let invite = NewInvite { request: line.request(), token: token(token_of)?.hash(), uses, expires };
    let answer = line.ask(invite).await?;
    ensure!(matches!(answer, Frame::Done(_)), "an invite was answered with {answer:?}");
    Ok(())
}

/// Uses a host's invite.
pub(crate) async fn accept(way: &Way, line: &mut Line, host: AccountId, token_of: AccountId) -> anyhow::Result<()> {
    let (domain, token) = (way.to.domain.clone(), Some(token(token_of)?));
    let claim = ClaimKeyPackages { request: line.request(), account: host, domain, token };
    let answer = line.ask(claim).await?;
    ensure!(matches!(answer, Frame::ClaimedKeyPackages(_)), "a claim was answered with {answer:?}");
    Ok(())
}

fn token(account: AccountId) -> anyhow::Result<InviteToken> {
    let [token @ .., _] = *account.as_bytes().first_chunk::<17>().context("an id is longer")?;
    Ok(InviteToken::from_bytes(token))
}

/// The first opens a thread with the others. The number makes it another thread than those before.
pub(crate) async fn open(
    way: &Way,
    (creator, line): (&Person, &mut Line),
    others: &[&Person],
    number: u64,
) -> anyhow::Result<ThreadId> {
    let mut seed = *creator.account().as_bytes();
    seed.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, mix)| *byte ^= mix);
    let mut chance = Chance::from_seed(Seed::from_bytes(seed));
    let thread = ThreadId::from_bytes(chance.bytes());
    let (mut welcome, mut tree) = (vec![0; WELCOME_BYTES * others.len()], vec![0; TREE_BYTES * others.len()]);
    chance.fill(&mut welcome);
    chance.fill(&mut tree);
    let participants = participants(way, &[&[creator], others].concat());
    let opening = Opening { thread, epoch: Epoch::new(1), participants, welcome, tree, founding: None };
    put(line, opening, None, &mut chance).await
}

/// Those of one domain, with a device each, in the order of their accounts.
fn participants(way: &Way, people: &[&Person]) -> Vec<Participant> {
    let participant = |person: &&Person| Participant {
        account: person.account(),
        domain: way.to.domain.clone(),
        devices: vec![DeviceIndex::FIRST],
    };
    let mut participants: Vec<_> = people.iter().map(participant).collect();
    participants.sort_by_key(|participant| participant.account);
    participants
}

/// Hands an opening in, with the GroupInfo that one needs whose thread changes.
async fn put(
    line: &mut Line,
    opening: Opening,
    info: Option<Vec<u8>>,
    chance: &mut Chance,
) -> anyhow::Result<ThreadId> {
    let (thread, info) = (opening.thread, info.map(Into::into));
    let tag = ParticipantsTag::from_bytes(chance.bytes());
    let request = line.request();
    match line.ask(OpenThread { request, opening, tag, info }).await? {
        Frame::Stored(_) => Ok(thread),
        other => bail!("an opening was answered with {other:?}"),
    }
}

/// Bodies that no engine can compress, as sealed ones are; each begins with a number of the caller's.
pub(crate) struct Mouth {
    thread: ThreadId,
    epoch: Epoch,
    chance: Chance,
}

impl Mouth {
    /// In a thread as it was opened.
    pub(crate) fn new(thread: ThreadId) -> Self {
        Self::at(thread, Epoch::new(1))
    }

    /// In an epoch of a thread.
    pub(crate) fn at(thread: ThreadId, epoch: Epoch) -> Self {
        Self { thread, epoch, chance: Chance::from_seed(Seed::from_bytes(*thread.as_bytes())) }
    }

    pub(crate) fn submit(&mut self, request: RequestId, number: u64) -> Frame {
        self.submit_having_heard(request, number, None)
    }

    /// As [`Mouth::submit`], by somebody who has heard what came of everything up to a request.
    pub(crate) fn submit_having_heard(&mut self, request: RequestId, number: u64, heard: Option<RequestId>) -> Frame {
        let mut body = vec![0; BODY_BYTES];
        self.chance.fill(&mut body);
        body.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, mark)| *byte = mark);
        let envelope = Envelope { thread: self.thread, epoch: self.epoch, class: Class::Message, body };
        Submit { request, envelope, heard }.into()
    }
}

/// The number a body begins with.
pub(crate) fn number_of(envelope: &Envelope) -> Option<u64> {
    envelope.body.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_and_a_missing_end_are_both_lost() {
        let got = |messages, upto| Got { messages, upto, ..Got::default() };
        assert_eq!(got(10, 10).lost_of(10), 0);
        assert_eq!(got(12, 12).lost_of(10), 0, "a receipt may be lost on its way");
        assert_eq!(got(9, 9).lost_of(10), 1);
        assert_eq!(got(11, 12).lost_of(10), 1, "what nobody was told of does not make up for it");
        let behind_commits = |messages, upto| Got { before: 4, ..got(messages, upto) };
        assert_eq!((behind_commits(10, 14).lost_of(10), behind_commits(9, 14).lost_of(10)), (0, 1));
        assert_eq!(behind_commits(0, 0).lost_of(10), 10, "nothing came at all");
    }
}
