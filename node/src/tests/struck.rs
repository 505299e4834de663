//! Whatever is struck or extreme in what comes: nothing of it stays, nobody panics, and what is genuine is shown in order
//! (T16, T38). The same for the real engine as for the stand-in.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use whimbrel_crypto::{Engine, MlsEngine, StandInEngine};
use whimbrel_protocol::Frame;
use whimbrel_protocol::direct::DirectEnvelope;
use whimbrel_protocol::frame::encode_words;
use whimbrel_protocol::id::{Epoch, LinkId, LogHash, MessageId, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::{Body, Content, Target};
use whimbrel_protocol::thread::Envelope;
use whimbrel_protocol::time::Hlc;

use super::backup::everything;
use super::groups::group;
use super::hostile::seal_as;
use super::world::{ALICE, BOB, CAROL, World};
use crate::api::{Event, Input, Peer};
use crate::views::{self, Page};

/// What is done to the bytes of a copy.
#[derive(Clone, Debug)]
enum Blow {
    Flip(Vec<(Index, u8)>),
    Cut(Index),
    Longer(Vec<u8>),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        4 => proptest::collection::vec((any::<Index>(), 1..=u8::MAX), 1..4).prop_map(Blow::Flip),
        1 => any::<Index>().prop_map(Blow::Cut),
        1 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Blow::Longer),
    ]
}

/// The copy, if it is another than the genuine one.
fn struck(genuine: &Envelope, blow: &Blow) -> Option<Envelope> {
    let mut body = genuine.body.clone();
    match blow {
        Blow::Flip(places) => places.iter().for_each(|(at, flip)| body[at.index(genuine.body.len())] ^= flip),
        Blow::Cut(at) => body.truncate(at.index(genuine.body.len())),
        Blow::Longer(more) => body.extend(more),
    }
    (body != genuine.body).then(|| Envelope { body, ..genuine.clone() })
}

/// Copies first: on a link of hers, which says nothing of what it refuses, and in the log, whose place moves on. Nothing of
/// them stays but what the owner is told, and the genuine one is shown after a start as well as at once.
fn copies_first<E: Engine>(engine: fn() -> E, blows: &[Blow], crash: bool) {
    let mut world = World::new(&["a.example", "a.example"], engine);
    let thread = world.befriend(BOB, ALICE);
    world.relay.mute.insert("Submit");
    world.say(ALICE, thread, "genuine");
    world.advance(Duration::from_secs(5));
    let genuine = world.submits(ALICE)[0].clone();
    let copies: Vec<_> = blows.iter().filter_map(|blow| struck(&genuine, blow)).collect();
    let (link, transport) = (LinkId::new(900), world.people[ALICE].transport);
    world.input(BOB, Input::LinkUp { link, peer: Peer::Node { transport } });
    world.settle();
    let before = everything(world.store(BOB));
    for envelope in &copies {
        let envelope = envelope.clone();
        world.input(BOB, Input::Frame { link, frame: Frame::DirectEnvelope(DirectEnvelope { envelope }) });
    }
    world.settle();
    assert_eq!(everything(world.store(BOB)), before, "a copy on a link left a trace");
    let author = world.id(ALICE);
    for envelope in &copies {
        world.inject(thread, author, envelope.clone());
    }
    if crash {
        world.crash_now(BOB);
        world.settle();
    }
    let told = world.events(BOB, |event| matches!(event, Event::Unreadable { .. }));
    assert_eq!((told, world.shown(BOB).len()), (copies.len(), 0));
    assert_eq!(world.events(BOB, |event| matches!(event, Event::ThreadHalted { .. })), 0);
    for _ in 0..2 {
        world.inject(thread, author, genuine.clone());
        assert_eq!(world.shown(BOB), ["genuine"]);
    }
    assert_eq!(views::thread(world.store(BOB), &thread).unwrap().unwrap().missing, 0);
}

/// Numbers at the edges of what can be written, and any.
fn number() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, u64::from(u32::MAX), i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX];
    prop_oneof![3 => proptest::sample::select(edges.to_vec()), 1 => any::<u64>()]
}

/// What somebody's program may claim: times, counters, places, ages. Sealed as it must be.
#[derive(Clone, Debug)]
struct Claim {
    kind: u8,
    millis: u64,
    count: u64,
    counter: Option<u64>,
    lasts_ms: Option<u64>,
    other: u64,
    /// The epoch that the envelope is said to be of, if not its own. One that is still to come no relay takes
    /// (docs/protocol/hub.md 14): it comes on a link of the author's.
    epoch: Option<u64>,
}

fn claim() -> impl Strategy<Value = Claim> {
    let some = || proptest::option::of(number());
    let all = (0..7u8, number(), number(), some(), some(), number(), proptest::option::weighted(0.3, number()));
    all.prop_map(|(kind, millis, count, counter, lasts_ms, other, epoch)| Claim {
        kind,
        millis,
        count,
        counter,
        lasts_ms,
        other,
        epoch,
    })
}

fn content(claim: &Claim, n: u8, target: Target) -> Vec<u8> {
    let body = match claim.kind {
        0..=2 => Body::Text(format!("claimed {n}")),
        3 => Body::Timer(claim.other),
        4 => Body::LogHead(claim.other, LogHash::from_bytes([n; 32])),
        5 => Body::Edit(target, "claimed in its place".to_owned()),
        _ => Body::Title(format!("claimed {n}")),
    };
    let hlc = Hlc { millis: claim.millis, count: claim.count as u32 };
    let (counter, lasts_ms) = (claim.counter, claim.lasts_ms);
    encode_words(&Content { counter, lasts_ms, ..Content::new(MessageId::from_bytes([n + 1; 16]), hlc, body) })
}

fn honest(world: &World<StandInEngine>, who: usize, thread: ThreadId) -> Vec<String> {
    let lines = views::messages(world.store(who), &thread, Page::Oldest, 1_000).unwrap();
    let texts = lines.into_iter().map(|line| line.message.text);
    texts.filter(|text| text.starts_with("honest")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn t16_copies_struck_anywhere_that_come_first_leave_no_trace_and_the_genuine_one_is_shown(
        blows in proptest::collection::vec(blow(), 1..8), crash in any::<bool>(),
    ) {
        copies_first(StandInEngine::new, &blows, crash);
    }

    #[test]
    fn t38_whatever_a_member_claims_of_times_and_numbers_is_survived_and_honest_words_stay_in_order(
        claims in proptest::collection::vec(claim(), 1..12), crash in any::<bool>(),
    ) {
        let (mut world, thread) = group();
        let first = world.say(ALICE, thread, "honest 1");
        world.say(BOB, thread, "honest 2");
        world.advance(Duration::from_secs(1));
        let (carol, target) = (world.id(CAROL), Target { message: first, author: world.id(ALICE) });
        let contents: Vec<_> = claims.iter().zip(0..).map(|(claim, n)| content(claim, n, target)).collect();
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let sealed = seal_as(&mut world, CAROL, thread, &contents);
        world.kill(CAROL);
        let (link, transport) = (LinkId::new(900), world.people[CAROL].transport);
        for who in [ALICE, BOB] {
            world.input(who, Input::LinkUp { link, peer: Peer::Node { transport } });
        }
        for (mut envelope, claim) in sealed.into_iter().zip(&claims) {
            let own = envelope.epoch;
            envelope.epoch = claim.epoch.map_or(own, Epoch::new);
            if envelope.epoch <= own {
                world.inject(thread, carol, envelope.clone());
            }
            for who in [ALICE, BOB] {
                let envelope = envelope.clone();
                world.input(who, Input::Frame { link, frame: Frame::DirectEnvelope(DirectEnvelope { envelope }) });
            }
            world.settle();
        }
        if crash {
            world.crash_now(ALICE);
            world.crash_now(BOB);
        }
        world.advance(Duration::from_secs(60));
        for (who, n) in [(ALICE, 3), (BOB, 4), (ALICE, 5)] {
            world.say(who, thread, &format!("honest {n}"));
            world.advance(Duration::from_secs(1));
        }
        for who in [ALICE, BOB] {
            prop_assert_eq!(honest(&world, who, thread), ["honest 1", "honest 2", "honest 3", "honest 4", "honest 5"]);
            // Nobody's clock was moved beyond what is tolerated, and nobody says words of a time to come.
            let ahead = world.now.wall.as_millis() + limits::CLOCK_AHEAD_MAX.as_millis() as u64;
            let shown = world.people[who].shown.iter().filter(|message| message.text.starts_with("honest"));
            prop_assert!(shown.into_iter().all(|message| message.hlc.millis <= ahead));
            prop_assert_eq!(world.events(who, |event| matches!(event, Event::ThreadHalted { .. })), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn t16_copies_struck_anywhere_leave_no_trace_with_real_encryption(
        blows in proptest::collection::vec(blow(), 1..8), crash in any::<bool>(),
    ) {
        copies_first(MlsEngine::new, &blows, crash);
    }
}
