use super::*;
use crate::engine::{Entity, Seed};
use crate::scenario::{Range, Rate, Share, Span};

fn access() -> Access {
    let (up, down) = (Rate { bits: 8_000_000 }, Rate { bits: 1_000_000_000_000 });
    Access { latency: Duration::from_millis(5), up, down, loss: 0.0, region: None, nat: Nat::Open }
}

fn cargo(n: u8, bytes: usize) -> Cargo {
    Cargo::new(Arc::new(Frame::Unknown(n.into())), &vec![n; bytes])
}

fn number(cargo: &Cargo) -> u8 {
    u8::try_from(cargo.frame.as_ref().unwrap().kind()).unwrap()
}

fn network(loss: f64) -> (Net, Engine<Event>) {
    let millis = Duration::from_millis;
    let settings = Network {
        core: Span(millis(10)),
        jitter: Span(millis(1)),
        loss: Share(loss),
        burst: Span(Duration::ZERO),
        burst_loss: Share(0.0),
        duplicate: Share(0.0),
        reorder: Share(0.0),
        buffer: Span(Duration::from_secs(60)),
        detect: Range { least: millis(2_000), most: millis(2_000) },
        connect: Span(millis(3_000)),
    };
    let seed = Seed::from(3);
    let mut net = Net::new(settings, seed.stream(Entity::World, "exporters"));
    for process in 0..3 {
        net.add(access(), seed.stream(Entity::Process(process), "network"));
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
                net.arrive(engine.now(), link, side).map(|(process, cargo)| Seen::Frame(process, number(&cargo)))
            }
            Event::Lost { link, side } => net.lost(engine, link, side).map(Seen::Lost),
            Event::Silent { link, side, silence } => net.silent(engine, link, side, silence).map(Seen::Lost),
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
            net.send(&mut engine, link, 0, cargo(n, 300)).unwrap();
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
        (0..3).map(|_| net.send(&mut engine, link, 0, cargo(0, 912)).unwrap().since(start).as_micros()).collect();
    assert_eq!(departures, [1_000, 2_000, 3_000], "1,000 bytes with overhead at 8 Mbit/s");
}

#[test]
fn a_process_that_dies_is_missed_only_after_a_while_and_what_left_it_still_arrives() {
    let (mut net, mut engine, link) = standing(0.0);
    let start = engine.now();
    net.send(&mut engine, link, 0, cargo(1, 100));
    engine.next_until(start.plus(Duration::from_millis(1)));
    net.send(&mut engine, link, 0, cargo(2, 100_000));
    net.crash(&mut engine, 0);
    assert!(net.send(&mut engine, link, 1, cargo(3, 10)).is_some(), "into the void");
    assert!(net.send(&mut engine, link, 0, cargo(3, 10)).is_none(), "the dead send nothing");
    let seen = run(&mut net, &mut engine, 60_000);
    let [(_, Seen::Frame(1, 1)), (at, Seen::Lost(1))] = seen.as_slice() else { unreachable!("{seen:?}") };
    assert_eq!(*at, 3_001);
}

#[test]
fn a_closed_link_delivers_what_was_sent_before() {
    let (mut net, mut engine, link) = standing(0.2);
    net.send(&mut engine, link, 1, cargo(7, 50_000));
    net.close(&mut engine, link, 1);
    let seen: Vec<_> = run(&mut net, &mut engine, 60_000).into_iter().map(|(_, what)| what).collect();
    assert_eq!(seen, [Seen::Lost(1), Seen::Frame(0, 7), Seen::Lost(0)]);
    assert!(net.send(&mut engine, link, 0, cargo(0, 1)).is_none());
}

#[test]
fn a_cut_breaks_links_and_dials_until_it_heals() {
    let (mut net, mut engine, link) = standing(0.0);
    net.cut(&mut engine, 1, 0);
    net.cut(&mut engine, 0, 1);
    net.send(&mut engine, link, 0, cargo(1, 10));
    net.dial(&mut engine, 1, 0);
    net.dial(&mut engine, 1, 2);
    let seen: Vec<_> = run(&mut net, &mut engine, 10_000).into_iter().map(|(_, what)| what).collect();
    assert_eq!(seen.iter().filter(|what| **what == Seen::Failed(1)).count(), 1);
    assert_eq!(seen.iter().filter(|what| matches!(what, Seen::Lost(_))).count(), 2);
    assert!(seen.contains(&Seen::Up(2)));
    net.heal(&mut engine, 0, 1);
    net.heal(&mut engine, 1, 0);
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

/// Numbers of the frames that arrived at a process, and whether any link broke.
fn outcome(seen: &[(u128, Seen)], at: ProcessNo) -> (Vec<u8>, bool) {
    let frames = seen.iter().filter_map(|(_, what)| match what {
        Seen::Frame(process, number) if *process == at => Some(*number),
        _ => None,
    });
    (frames.collect(), seen.iter().any(|(_, what)| matches!(what, Seen::Lost(_))))
}

#[test]
fn an_outage_shorter_than_the_idle_time_delays_frames_and_keeps_the_link() {
    let (mut net, mut engine, link) = standing(0.0);
    net.send(&mut engine, link, 0, cargo(1, 100));
    net.cut(&mut engine, 0, 1);
    net.cut(&mut engine, 1, 0);
    net.send(&mut engine, link, 0, cargo(2, 100));
    let during = run(&mut net, &mut engine, 2_500);
    assert_eq!(outcome(&during, 1), (vec![], false));
    net.heal(&mut engine, 0, 1);
    net.heal(&mut engine, 1, 0);
    net.send(&mut engine, link, 0, cargo(3, 100));
    let after = run(&mut net, &mut engine, 60_000);
    assert_eq!(outcome(&after, 1), (vec![1, 2, 3], false));
    assert!(net.counts.lost_in_outages > 0);
}

#[test]
fn a_path_out_one_way_lets_the_other_way_through_until_the_deaf_end_gives_up() {
    let (mut net, mut engine, link) = standing(0.0);
    let began = engine.now().since(Time::ZERO).as_millis();
    net.cut(&mut engine, 0, 1);
    net.send(&mut engine, link, 0, cargo(1, 100));
    net.send(&mut engine, link, 1, cargo(2, 100));
    let seen = run(&mut net, &mut engine, 60_000);
    assert_eq!((outcome(&seen, 0).0, outcome(&seen, 1).0), (vec![2], vec![]));
    let lost: Vec<_> = seen.iter().filter(|(_, what)| matches!(what, Seen::Lost(_))).collect();
    let [(deaf, Seen::Lost(1)), (other, Seen::Lost(0))] = lost.as_slice() else { unreachable!("{lost:?}") };
    assert_eq!((deaf - began, other - deaf), (2_000, 2_000), "it hears the deaf end until that gives up");
    net.dial(&mut engine, 0, 1);
    net.dial(&mut engine, 1, 0);
    let seen = run(&mut net, &mut engine, 120_000);
    assert!(seen.iter().all(|(_, what)| matches!(what, Seen::Failed(_))), "no handshake passes: {seen:?}");
}

#[test]
fn a_reset_tells_both_ends_at_once() {
    let (mut net, mut engine, link) = standing(0.0);
    net.send(&mut engine, link, 0, cargo(1, 100));
    net.break_all(&mut engine, 0);
    let seen: Vec<_> = run(&mut net, &mut engine, 60_000).into_iter().map(|(_, what)| what).collect();
    assert!(seen.len() == 2 && seen.contains(&Seen::Lost(0)) && seen.contains(&Seen::Lost(1)), "{seen:?}");
    assert!(net.conns.iter().all(Option::is_none));
}

#[test]
fn losses_come_in_bursts_and_meet_their_share() {
    let (mut net, mut engine, link) = standing(0.02);
    (net.settings.burst, net.settings.burst_loss) = (Span(Duration::from_millis(100)), Share(0.4));
    for n in 0..20_000 {
        run(&mut net, &mut engine, 1_000 + 10 * n);
        net.send(&mut engine, link, 0, cargo(0, 100));
    }
    let share = net.counts.packets_lost as f64 / 20_000.0;
    // A lost packet is lost again while the stretch lasts: 0.02 / (1 - 0.4) at most.
    assert!((0.015..0.045).contains(&share), "{share}");
    assert!(net.counts.lost_in_bursts == net.counts.packets_lost);
}

#[test]
fn what_finds_no_room_before_a_line_is_counted_and_comes_later() {
    let (mut net, mut engine, link) = standing(0.0);
    net.settings.buffer = Span(Duration::from_millis(20));
    for n in 0..50 {
        net.send(&mut engine, link, 0, cargo(n, 1_000));
    }
    assert!(net.counts.lost_at_uplink > 0 && net.counts.packets_lost >= net.counts.lost_at_uplink);
    let seen = run(&mut net, &mut engine, 60_000);
    assert_eq!(outcome(&seen, 1), ((0..50).collect(), false));
    // The same at the other end of the path: many senders, one narrow line.
    let (mut net, mut engine) = network(0.0);
    net.places.get_mut(1).unwrap().access.down = Rate { bits: 1_000_000 };
    net.settings.buffer = Span(Duration::from_millis(60));
    let links = [0, 2].map(|from| net.dial(&mut engine, from, 1));
    run(&mut net, &mut engine, 1_000);
    for n in 0..20 {
        net.send(&mut engine, links[0], 0, cargo(n, 1_000));
        net.send(&mut engine, links[1], 2, cargo(n, 1_000));
    }
    assert!(net.counts.lost_at_downlink > 0 && net.counts.lost_at_uplink == 0);
    let seen = run(&mut net, &mut engine, 60_000);
    let (frames, broke) = outcome(&seen, 1);
    assert!(frames.len() == 40 && !broke);
    // 40 kilobytes and more at a megabit a second.
    assert!(seen.iter().map(|(at, _)| *at).max().unwrap() > 1_000 + 340);
}

#[test]
fn what_a_link_had_of_a_line_is_free_again_once_it_ended() {
    let (mut net, mut engine) = network(0.0);
    net.places.get_mut(1).unwrap().access.down = Rate { bits: 1_000_000 };
    let [first, next] = [0, 2].map(|from| net.dial(&mut engine, from, 1));
    run(&mut net, &mut engine, 1_000);
    for n in 0..100 {
        net.send(&mut engine, first, 0, cargo(n, 1_000));
    }
    // Eight seconds and more of its line. A tenth of a second later it turns to the other.
    let before = outcome(&run(&mut net, &mut engine, 1_150), 1).0;
    assert!((5..20).contains(&before.len()), "{before:?}");
    net.close(&mut engine, first, 1);
    net.send(&mut engine, next, 2, cargo(200, 1_000));
    let seen = run(&mut net, &mut engine, 1_250);
    assert!(seen.iter().any(|(_, what)| *what == Seen::Frame(1, 200)), "{seen:?}");
    assert!(outcome(&run(&mut net, &mut engine, 60_000), 1).0.is_empty(), "and nothing more comes of the first");
}

#[test]
fn packets_that_come_twice_take_the_line_twice_and_are_shown_once() {
    let departs = |share: f64| {
        let (mut net, mut engine, link) = standing(0.0);
        net.settings.duplicate = Share(share);
        let start = engine.now();
        let last = (0..200).map(|n| net.send(&mut engine, link, 0, cargo(n, 912)).unwrap()).last().unwrap();
        let seen = run(&mut net, &mut engine, 60_000);
        assert_eq!(outcome(&seen, 1), ((0..200).collect(), false));
        (last.since(start).as_millis(), net.counts.packets_doubled)
    };
    assert_eq!(departs(0.0), (200, 0));
    let (took, doubled) = departs(0.3);
    assert!((30..90).contains(&doubled) && took == 200 + u128::from(doubled), "{took} ms, {doubled}");
}

#[test]
fn what_was_overtaken_comes_later_and_in_its_place() {
    let arrivals = |share: f64| {
        let (mut net, mut engine, link) = standing(0.0);
        net.settings.reorder = Share(share);
        let mut seen = Vec::new();
        for n in 0..200 {
            net.send(&mut engine, link, 0, cargo(n, 100));
            seen.extend(run(&mut net, &mut engine, 1_000 + 100 * (1 + u64::from(n))));
        }
        assert_eq!(outcome(&seen, 1), ((0..200).collect(), false), "whatever overtook it waits for it");
        let sum: u128 = seen.iter().zip(0..).map(|((at, _), n)| at - (1_000 + 100 * n)).sum();
        (sum, net.counts.packets_reordered)
    };
    let ((straight, none), (late, some)) = (arrivals(0.0), arrivals(0.5));
    assert!(none == 0 && (60..140).contains(&some), "{some}");
    // A quarter of the way and twice the jitter at most, half of that on average.
    assert!(late > straight + u128::from(some) && late < straight + 10 * u128::from(some), "{straight} {late} {some}");
}

#[test]
fn what_is_on_its_way_from_afar_keeps_nobody_near_waiting() {
    let (mut net, mut engine) = network(0.0);
    net.places.get_mut(0).unwrap().access.latency = Duration::from_millis(300);
    net.places.get_mut(1).unwrap().access.down = Rate { bits: 10_000_000 };
    let [far, near] = [0, 2].map(|from| net.dial(&mut engine, from, 1));
    run(&mut net, &mut engine, 5_000);
    let mut seen = Vec::new();
    for n in 0..100 {
        net.send(&mut engine, far, 0, cargo(n, 100));
        net.send(&mut engine, near, 2, cargo(100 + n, 100));
        seen.extend(run(&mut net, &mut engine, 5_002 + 2 * u64::from(n)));
    }
    // Those near take 20 ms and jitter, those from afar 315.
    seen.extend(run(&mut net, &mut engine, 5_280));
    let order: Vec<_> = seen.into_iter().map(|(_, what)| what).collect();
    assert!(order.iter().zip(100..).all(|(what, n)| *what == Seen::Frame(1, n)) && order.len() == 100, "{order:?}");
    assert_eq!((net.counts.lost_at_downlink, net.counts.packets_lost), (0, 0));
    assert_eq!(run(&mut net, &mut engine, 6_000).len(), 100);
}

#[test]
fn address_translation_decides_who_reaches_whom() {
    let reaches = |from: Nat, to: Nat| {
        let (mut net, mut engine) = network(0.0);
        net.places.get_mut(0).unwrap().access.nat = from;
        net.places.get_mut(1).unwrap().access.nat = to;
        let dials = 200;
        for _ in 0..dials {
            net.dial(&mut engine, 0, 1);
        }
        let seen = run(&mut net, &mut engine, 60_000);
        let up = seen.iter().filter(|(_, what)| *what == Seen::Up(0)).count();
        assert_eq!(net.counts.punches_failed as usize, dials - up);
        up * 100 / dials
    };
    for from in [Nat::Open, Nat::Easy, Nat::Hard] {
        assert_eq!(reaches(from, Nat::Open), 100);
        assert_eq!(reaches(from, Nat::Hard), 0);
    }
    assert_eq!(reaches(Nat::Open, Nat::Easy), 100);
    assert!((93..=99).contains(&reaches(Nat::Easy, Nat::Easy)), "nearly every first attempt");
    assert_eq!(reaches(Nat::Hard, Nat::Easy), 0);
}

#[test]
fn regions_are_apart_by_their_table() {
    let (mut net, mut engine) = network(0.0);
    for (place, name) in [(0, "eu-central-1"), (1, "ap-southeast-2")] {
        net.places.get_mut(place).unwrap().access.region = crate::scenario::Region::named(name);
    }
    net.dial(&mut engine, 0, 1);
    let seen = run(&mut net, &mut engine, 5_000);
    let [(at, Seen::Up(0)), _] = seen.as_slice() else { unreachable!("{seen:?}") };
    // A round trip of 249 ms, and both access links twice.
    assert!((269..290).contains(at), "{at} ms");
}
