use super::*;
use crate::engine::{Entity, Seed};
use crate::scenario::{Range, Share, Span};

fn network(loss: f64) -> (Net, Engine<Event>) {
    let millis = Duration::from_millis;
    let settings = Network {
        core: Span(millis(10)),
        jitter: Span(millis(1)),
        loss: Share(loss),
        detect: Range { least: millis(2_000), most: millis(2_000) },
        connect: Span(millis(3_000)),
    };
    let seed = Seed::from(3);
    let mut net = Net::new(settings, seed.stream(Entity::World, "exporters"));
    for process in 0..3 {
        net.add(millis(5), Rate { bits: 8_000_000 }, seed.stream(Entity::Process(process), "network"));
    }
    (net, Engine::new(seed))
}

/// What the ends saw: when, who, what.
#[derive(Debug, PartialEq)]
enum Seen {
    Up(ProcessNo),
    Frame(ProcessNo, u8),
    Lost(ProcessNo),
    Failed(ProcessNo),
}

fn run(net: &mut Net, engine: &mut Engine<Event>, until_ms: u64) -> Vec<(u128, Seen)> {
    let mut seen = Vec::new();
    while let Some(event) = engine.next_until(Time::from_nanos(until_ms * 1_000_000)) {
        let what = match event {
            Event::Knock { link } => {
                net.answer(engine, link, true);
                None
            }
            Event::Up { link, side } => net.up(engine, link, side).map(|standing| Seen::Up(standing.process)),
            Event::Arrive { link, side } => {
                net.arrive(link, side).map(|(process, bytes)| Seen::Frame(process, bytes.first().copied().unwrap()))
            }
            Event::Lost { link, side } => net.lost(link, side).map(Seen::Lost),
            Event::DialFailed { link } => net.failed(link).map(Seen::Failed),
            _ => None,
        };
        seen.extend(what.map(|what| (engine.now().since(Time::ZERO).as_millis(), what)));
    }
    seen
}

fn standing(loss: f64) -> (Net, Engine<Event>, LinkId) {
    let (mut net, mut engine) = network(loss);
    let link = net.dial(&mut engine, 0, 1);
    let seen = run(&mut net, &mut engine, 1_000);
    // 20 ms one way: the dialler after a round trip, the other half a round trip later.
    let [(first, Seen::Up(0)), (second, Seen::Up(1))] = seen.as_slice() else { unreachable!("{seen:?}") };
    if loss == 0.0 {
        assert!((40..60).contains(first) && (60..90).contains(second), "{seen:?}");
    }
    (net, engine, link)
}

#[test]
fn frames_arrive_in_order_whatever_is_lost() {
    for loss in [0.0, 0.3] {
        let (mut net, mut engine, link) = standing(loss);
        for n in 0..100 {
            net.send(&mut engine, link, 0, vec![n; 300]).unwrap();
        }
        let seen = run(&mut net, &mut engine, 60_000);
        let order: Vec<_> = seen.iter().map(|(_, what)| matches!(what, Seen::Frame(1, _)).then_some(what)).collect();
        assert_eq!(order.len(), 100);
        assert!(seen.iter().zip(0..).all(|((_, what), n)| *what == Seen::Frame(1, n)));
        assert_eq!(net.counts.packets_lost > 0, loss > 0.0);
    }
}

#[test]
fn the_uplink_sends_one_byte_after_the_other() {
    let (mut net, mut engine, link) = standing(0.0);
    let start = engine.now();
    let departures: Vec<_> =
        (0..3).map(|_| net.send(&mut engine, link, 0, vec![0; 912]).unwrap().since(start).as_micros()).collect();
    assert_eq!(departures, [1_000, 2_000, 3_000], "1,000 bytes with overhead at 8 Mbit/s");
}

#[test]
fn a_process_that_dies_is_missed_only_after_a_while_and_what_left_it_still_arrives() {
    let (mut net, mut engine, link) = standing(0.0);
    let start = engine.now();
    net.send(&mut engine, link, 0, vec![1; 100]);
    engine.next_until(start.plus(Duration::from_millis(1)));
    net.send(&mut engine, link, 0, vec![2; 100_000]);
    net.crash(&mut engine, 0);
    assert!(net.send(&mut engine, link, 1, vec![3; 10]).is_some(), "into the void");
    assert!(net.send(&mut engine, link, 0, vec![3; 10]).is_none(), "the dead send nothing");
    let seen = run(&mut net, &mut engine, 60_000);
    let [(_, Seen::Frame(1, 1)), (at, Seen::Lost(1))] = seen.as_slice() else { unreachable!("{seen:?}") };
    assert_eq!(*at, 3_001);
}

#[test]
fn a_closed_link_delivers_what_was_sent_before() {
    let (mut net, mut engine, link) = standing(0.2);
    net.send(&mut engine, link, 1, vec![7; 50_000]);
    net.close(&mut engine, link, 1);
    let seen: Vec<_> = run(&mut net, &mut engine, 60_000).into_iter().map(|(_, what)| what).collect();
    assert_eq!(seen, [Seen::Lost(1), Seen::Frame(0, 7), Seen::Lost(0)]);
    assert!(net.send(&mut engine, link, 0, vec![0; 1]).is_none());
}

#[test]
fn a_cut_breaks_links_and_dials_until_it_heals() {
    let (mut net, mut engine, link) = standing(0.0);
    net.cut(&mut engine, 1, 0);
    net.send(&mut engine, link, 0, vec![1; 10]);
    net.dial(&mut engine, 1, 0);
    net.dial(&mut engine, 1, 2);
    let seen: Vec<_> = run(&mut net, &mut engine, 10_000).into_iter().map(|(_, what)| what).collect();
    assert_eq!(seen.iter().filter(|what| **what == Seen::Failed(1)).count(), 1);
    assert_eq!(seen.iter().filter(|what| matches!(what, Seen::Lost(_))).count(), 2);
    assert!(seen.contains(&Seen::Up(2)));
    net.heal(0, 1);
    net.dial(&mut engine, 1, 0);
    let seen: Vec<_> = run(&mut net, &mut engine, 20_000).into_iter().map(|(_, what)| what).collect();
    assert_eq!(seen, [Seen::Up(1), Seen::Up(0)]);
}

#[test]
fn a_slot_used_again_has_another_link() {
    let (mut net, mut engine, link) = standing(0.0);
    net.crash(&mut engine, 0);
    run(&mut net, &mut engine, 10_000);
    let next = net.dial(&mut engine, 2, 1);
    assert_ne!(next, link);
    assert_eq!(net.conns.len(), 1);
    assert!(net.ends(link).is_none() && net.ends(next) == Some((2, 1)));
}

#[test]
fn a_process_that_dies_during_a_handshake_leaves_the_other_no_link() {
    for dies_at in [10, 30, 50] {
        let (mut net, mut engine) = network(0.0);
        net.dial(&mut engine, 0, 1);
        run(&mut net, &mut engine, dies_at);
        net.crash(&mut engine, 0);
        let seen = run(&mut net, &mut engine, 20_000);
        assert!(seen.iter().all(|(_, what)| matches!(what, Seen::Up(1) | Seen::Lost(1))), "{seen:?}");
        assert_eq!(seen.len() % 2, 0, "{seen:?}");
        assert!(net.conns.iter().all(Option::is_none), "dead at {dies_at} ms: {:?}", net.conns);
    }
}
