//! Stories of a crowd that comes back: everybody of a relay that starts again, from one network.

use whimbrel_protocol::limits;
use whimbrel_relay::Rate;

use super::*;

/// T55: so many nodes, each a friend of the next two and the last two, whose relay starts again and lets in fewer a second
/// than come. What is counted here of real nodes the tests of the relay count of bare sessions.
fn return_of(crowd: usize) {
    let mut world = World::new(Seed::from(55));
    world.lively = false;
    let relay = world.add_relay(&crate::scenario::Relay::with_defaults("a.example".parse().unwrap())).unwrap();
    let people: Vec<ProcessNo> = (0..crowd).map(|_| world.test_node(relay).unwrap()).collect();
    let friends: BTreeSet<(ProcessNo, ProcessNo)> =
        (0..crowd).flat_map(|n| [1, 2].map(|step| (people[n], people[(n + step) % crowd]))).collect();
    friends.iter().for_each(|(one, other)| world.introduce(*one, *other));
    let met = |world: &mut World| friends.iter().all(|(one, other)| world.can_write(*one, *other));
    for _ in 0..60 {
        if met(&mut world) {
            break;
        }
        world.run_for(secs(10));
    }
    assert!(met(&mut world), "they never met");
    world.run_for(secs(60));

    // Links a second; so many at once.
    let (rate, burst) = ((crowd * 3 / 50) as u32, (crowd * 3 / 500) as u32);
    let Some(Process::Relay(process)) = world.processes.get_mut(relay as usize) else { unreachable!() };
    process.rates.arrivals = Rate::new(rate * 60, burst);
    world.doors.one_network = true;
    world.crash(relay);
    world.doors.let_in.clear();
    world.ledger.times_told();
    let begun = world.now();
    while world.doors.let_in.len() < crowd && world.now().since(begun) < secs(600) {
        world.run_for(secs(1));
    }
    let times: BTreeMap<ProcessNo, Duration> =
        world.doors.let_in.iter().map(|(who, at)| (*who, at.since(begun))).collect();
    assert_eq!((times.len(), world.doors.let_in.len()), (crowd, crowd), "everybody, and once");
    let mut times: Vec<Duration> = times.into_values().collect();
    times.sort_unstable();
    // Never faster than the rate; by whatever is let in, not by whoever tries.
    for (n, time) in times.iter().enumerate() {
        let let_in = f64::from(burst) + time.as_secs_f64() * f64::from(rate);
        assert!(n as f64 <= let_in, "{n} within {time:?}");
    }
    let (p99, last) = (times[crowd * 99 / 100], *times.last().unwrap());
    let refused = world.struck.refused_by_rate;
    println!("{crowd} came back, {refused} refused; 99 of 100 within {p99:?}, the last after {last:?}");
    assert!(refused > 0, "the rate was met");
    // What the rate takes, and the longest that a node waits between two tries, with its chance.
    let takes = secs((crowd as u32 / rate).into());
    assert!(last <= takes + limits::RELAY_BACKOFF_MAX * 2, "{last:?}");
    // Of each friend once, and of nobody else: not everybody of everybody.
    world.run_for(limits::HEARTBEAT_EVERY * 6);
    let told = world.ledger.times_told();
    let both: BTreeSet<_> = friends.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]).collect();
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), both);
    assert!(told.values().all(|times| *times == 1), "{:?}", told.iter().find(|(_, times)| **times != 1));
    let (one, other) = (people[0], people[1]);
    chat(&mut world, one, other, 2);
    assert_eq!(well(world).lost, 0);
}

#[test]
fn t55_a_crowd_whose_relay_starts_again_is_let_in_at_its_rate_and_told_of_each_friend_once() {
    return_of(1_000);
}

#[test]
#[ignore = "the full size takes minutes: cargo test --workspace --all-features --lib --release -- --ignored --nocapture t55_thousands"]
fn t55_thousands_whose_relay_starts_again_are_let_in_at_its_rate_and_told_of_each_friend_once() {
    return_of(3_000);
}
