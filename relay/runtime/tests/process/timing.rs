//! T30, by each kind of question a stranger can ask of an account: the answers are the same bytes whoever is asked about,
//! and how long they take is printed, as a benchmark that judges nothing:
//!
//! cargo test --workspace --all-features --test process --release -- --ignored --nocapture t30_times
//!
//! There is no question about addresses: nodes tell each other theirs inside the seal (docs/protocol/direct.md 2).

use std::time::Duration;

use whimbrel_crypto::signed;
use whimbrel_protocol::friendship::{Act, Befriend, Block, FRIENDSHIP_CONTEXT, FriendshipWord};
use whimbrel_protocol::id::{AccountId, Address, Epoch, InviteToken, ParticipantsTag, ThreadId};
use whimbrel_protocol::presence::{Goodbye, SetVisible};
use whimbrel_protocol::reception::HeartbeatAnswer;
use whimbrel_protocol::thread::{OpenThread, Opening, Participant};
use whimbrel_protocol::user::{ClaimKeyPackages, FetchProfile, Recover};
use whimbrel_protocol::{canonical, codec};

use super::services::Client;
use super::*;

const DOMAIN: &str = "a.example";
/// Samples of each question and each kind of person; of those that take a link each, so many of all kinds together.
const SAMPLES: usize = 10_000;
/// In the suite: enough to meet first answers and later ones.
const SLICE: usize = 4;

/// Whom a stranger asks about; in sight is only there to be compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whom {
    There,
    Offline,
    Invisible,
    Blocking,
    Nobody,
}

const WHOM: [Whom; 5] = [Whom::There, Whom::Offline, Whom::Invisible, Whom::Blocking, Whom::Nobody];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    /// The account log, by account: the one that says whether there is such an account, as it must before anybody can be
    /// written to. Nothing but that may show in it.
    LookUp,
    /// The same by name.
    LookUpName,
    Profile,
    Claim,
    /// With an invite that was never made.
    ClaimByInvite,
    FriendRequest,
    OpenThread,
    /// The heartbeat of somebody whose only friend is that person, or who has none: what tells who is there.
    Watch,
    /// Before being let in: a recovery key that is not theirs.
    Recover,
}

/// Those who watch come first: whoever is silent for a minute has no link any more.
const QUESTIONS: [Question; 9] = [
    Question::Watch,
    Question::LookUp,
    Question::LookUpName,
    Question::Profile,
    Question::Claim,
    Question::ClaimByInvite,
    Question::FriendRequest,
    Question::OpenThread,
    Question::Recover,
];

impl Question {
    /// Whether it is one about this person.
    fn is_of(self, whom: Whom) -> bool {
        // A friend who is there is seen by their friends; that is what it is for.
        self != Self::Watch || whom != Whom::There
    }

    fn samples(self) -> usize {
        if self == Self::Recover { SAMPLES / WHOM.len() } else { SAMPLES }
    }
}

/// One of each kind of person, their friends who watch, and a stranger.
struct Cast {
    running: Running,
    _place: Place,
    eve: Client,
    people: Vec<(AccountId, String)>,
    watchers: Vec<Client>,
    _there: Vec<Client>,
}

impl Cast {
    async fn enter() -> Self {
        let place = Place::new(DOMAIN);
        let unbound = [
            "requests = { rate = \"600/min\", burst = 600 }",
            "claims = { rate = \"10/hour\", burst = 10 }",
            "arrivals = { rate = \"600/min\", burst = 1200 }",
            "signs = { rate = \"120000/min\", burst = 60000 }",
        ];
        for rate in unbound {
            let (name, _) = rate.split_once(' ').unwrap();
            place.edit(rate, &format!("{name} = \"unbounded\""));
        }
        place.edit("level = \"info\"", "level = \"warn\"");
        let running = place.start();
        let eve = Client::join(1, &running.link, "eve").await;
        let account = eve.person.id().account;
        let (mut people, mut watchers, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for (whom, byte) in WHOM.into_iter().zip(10..) {
            let name = format!("{whom:?}").to_lowercase();
            let mut watcher = Client::join(byte + 50, &running.link, &format!("w-{name}")).await;
            if whom == Whom::Nobody {
                people.push((Person::new(byte).id().account, name));
                watchers.push(watcher);
                continue;
            }
            let mut one = Client::join(byte, &running.link, &name).await;
            watcher.tell(DOMAIN, Act::Request, &one.person, DOMAIN).await;
            let agreed = one.tell(DOMAIN, Act::Accept, &watcher.person, DOMAIN).await;
            assert!(matches!(agreed, Frame::Done(_)), "{agreed:?}");
            let request = RequestId::new(1);
            if whom == Whom::Invisible {
                let hidden = one.ask(SetVisible { request, visible: false }).await;
                assert!(matches!(hidden, Frame::Done(_)), "{hidden:?}");
            }
            if whom == Whom::Blocking {
                for account in [account, watcher.person.id().account] {
                    let block = Block { request, account, domain: DOMAIN.parse().unwrap(), blocked: true };
                    assert!(matches!(one.ask(block).await, Frame::Parted(_)));
                }
            }
            people.push((one.person.id().account, name));
            let mut version = 0;
            if whom != Whom::Invisible && whom != Whom::Blocking {
                version = told(&mut watcher, version, true).await;
            }
            if whom == Whom::Offline {
                one.link.sender.send(&Goodbye {}.into()).unwrap();
                told(&mut watcher, version, false).await;
                one.link.sender.close(CloseCode::Done);
                one.link.sender.closed().await;
            } else {
                there.push(one);
            }
            // On a new link, so that what was told before plays no part.
            watcher.come_back(&running.link).await;
            watchers.push(watcher);
        }
        Self { running, _place: place, eve, people, watchers, _there: there }
    }

    /// The frame that asks, under one number for all.
    fn frame(&self, question: Question, (account, name): &(AccountId, String)) -> Frame {
        let (request, account, domain) = (RequestId::new(7), *account, DOMAIN.parse().unwrap());
        match question {
            Question::LookUp => LookUp { request, who: Who::Account(account, domain), hint: None }.into(),
            Question::LookUpName => {
                let address = format!("{name}@{DOMAIN}").parse().unwrap();
                LookUp { request, who: Who::Address(address), hint: None }.into()
            }
            Question::Profile => FetchProfile { request, account, domain }.into(),
            Question::Claim => ClaimKeyPackages { request, account, domain, token: None }.into(),
            Question::ClaimByInvite => {
                let token = Some(InviteToken::from_bytes([3; 16]));
                ClaimKeyPackages { request, account, domain, token }.into()
            }
            Question::FriendRequest => {
                let (by, address): (_, Address) = (self.eve.person.id(), format!("eve@{DOMAIN}").parse().unwrap());
                let word = FriendshipWord { by, address, to: account, act: Act::Request, at: present(), note: None };
                let word = signed::sign(&self.eve.person.device, by, FRIENDSHIP_CONTEXT, canonical::encode(&word));
                Befriend { request, domain, word }.into()
            }
            Question::OpenThread => {
                let participant =
                    |account, index| Participant { account, domain: DOMAIN.parse().unwrap(), devices: vec![index] };
                let own = self.eve.person.id();
                let mut participants =
                    vec![participant(account, DeviceIndex::FIRST), participant(own.account, own.index)];
                participants.sort_by_key(|one| one.account);
                let (thread, epoch) = (ThreadId::from_bytes([77; 32]), Epoch::new(1));
                let (welcome, tree) = (vec![3; 9_000], vec![4; 300]);
                let opening = Opening { thread, epoch, participants, welcome, tree, founding: None };
                OpenThread { request, opening, tag: ParticipantsTag::from_bytes([9; 32]), info: None }.into()
            }
            Question::Watch => Heartbeat::default().into(),
            Question::Recover => unreachable!("takes a link of its own"),
        }
    }

    /// Asks once: how long the answer took, and its bytes.
    async fn ask(&mut self, question: Question, at: usize) -> (Duration, Frame) {
        if question == Question::Recover {
            let key = KeyPair::from_seed_bytes([5; 32]);
            let mut link = Person::new(200).connect(&self.running.link).await;
            let (name, proof) = (self.people[at].1.parse().unwrap(), link::prove_recovery(&key, &link.exporter));
            let frame = Recover { request: RequestId::new(7), name, key: key.public(), proof }.into();
            let begin = now();
            let answer = ask(&mut link, &frame).await;
            return (begin.elapsed(), answer);
        }
        let frame = self.frame(question, &self.people[at]);
        let asker = if question == Question::Watch { &mut self.watchers[at] } else { &mut self.eve };
        let begin = now();
        let answer = asker.ask(frame).await;
        (begin.elapsed(), answer)
    }
}

/// Beats until somebody's friend is told to be there, or gone; gives the version of that.
async fn told(watcher: &mut Client, mut version: u64, online: bool) -> u64 {
    loop {
        let answer = watcher.ask(Heartbeat { touches: Vec::new(), statuses: version }).await;
        let Frame::HeartbeatAnswer(answer) = answer else { panic!("{answer:?}") };
        version = answer.version;
        if answer.statuses.iter().any(|status| status.online == online) {
            return version;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// An answer as it is on the wire; of a heartbeat's without the relay's clock, which tells of nobody.
fn bytes(answer: Frame) -> Vec<u8> {
    let answer = match answer {
        Frame::HeartbeatAnswer(words) => HeartbeatAnswer { wall: Wall::from_millis(0), ..words }.into(),
        other => other,
    };
    codec::encode(&answer).unwrap()
}

/// Holds an answer against what a stranger may see.
fn fits(cast: &Cast, question: Question, (whom, at): (Whom, usize), answer: Frame, first: &mut Option<Vec<u8>>) {
    if matches!(question, Question::LookUp | Question::LookUpName) && whom != Whom::Nobody {
        let Frame::LookedUp(found) = &answer else { panic!("{question:?} {whom:?}: {answer:?}") };
        assert_eq!(
            (found.request, found.address.to_string()),
            (RequestId::new(7), format!("{}@{DOMAIN}", cast.people[at].1))
        );
        // The log they made, of one length for all: of how they are now there is nothing in it.
        assert_eq!(found.log.len(), cast.eve.person.log.bytes().len());
        return;
    }
    let answer = bytes(answer);
    let first = first.get_or_insert_with(|| answer.clone());
    assert_eq!(answer, *first, "{question:?} {whom:?}");
}

#[tokio::test]
async fn t30_every_question_a_stranger_can_ask_is_answered_in_the_same_bytes_whoever_it_is_about() {
    let mut cast = Cast::enter().await;
    for question in QUESTIONS {
        let mut first = None;
        for _ in 0..SLICE {
            for (at, whom) in WHOM.into_iter().enumerate().filter(|(_, whom)| question.is_of(*whom)) {
                let (_, answer) = cast.ask(question, at).await;
                fits(&cast, question, (whom, at), answer, &mut first);
            }
        }
        assert!(first.is_some(), "{question:?}");
    }
}

#[tokio::test]
#[ignore = "a benchmark, which prints times and judges only bytes: cargo test --workspace --all-features --test process --release -- --ignored --nocapture t30_times"]
async fn t30_times_of_every_question_a_stranger_can_ask() {
    let mut cast = Cast::enter().await;
    println!("p50 / p95 in microseconds");
    println!("| question | samples of each | there | offline | invisible | keeps one away | nobody |");
    println!("|---|---|---|---|---|---|---|");
    for question in QUESTIONS {
        let mut times: Vec<Vec<Duration>> = WHOM.iter().map(|_| Vec::new()).collect();
        let mut first = None;
        for _ in 0..question.samples() {
            // In turn, so that what else the machine does falls on all alike.
            for (at, whom) in WHOM.into_iter().enumerate().filter(|(_, whom)| question.is_of(*whom)) {
                let (time, answer) = cast.ask(question, at).await;
                times[at].push(time);
                fits(&cast, question, (whom, at), answer, &mut first);
            }
        }
        let column = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
            if times.is_empty() { "-".to_owned() } else { format!("{} / {}", at(0.5), at(0.95)) }
        };
        let columns: Vec<String> = times.iter_mut().map(column).collect();
        println!("| {question:?} | {} | {} |", question.samples(), columns.join(" | "));
    }
}
