//! What the simulator costs: BUDGETS rows S1, S3 and S4, each beside the bare wheel of the same run.
//! `cargo bench -p whimbrel-sim` prints all; `-- S3` prints one.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a bench prints, and ends at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a bench is what reads the clock")]

use std::time::{Duration, Instant};

use whimbrel_sim::engine::{Engine, Entity, Seed, Time};
use whimbrel_sim::scenario::{Crypto, Scenario};
use whimbrel_sim::soak::{Orders, soak};
use whimbrel_sim::world::World;

/// The floor: actors that do nothing but come back later, on the wheel alone. Events a second.
fn bare_wheel(actors: u64, events: u64) -> f64 {
    let mut engine = Engine::new(Seed::from(1));
    let mut stream = Seed::from(1).stream(Entity::World, "floor");
    for actor in 0..actors {
        engine.after(Duration::from_nanos(stream.below(10_000_000_000)), actor);
    }
    // Delays are drawn before the clock starts, as the worlds' are drawn by what happens in them.
    let delays: Vec<_> = (0..4_096).map(|_| Duration::from_nanos(1_000_000 + stream.below(10_000_000_000))).collect();
    let began = Instant::now();
    let mut sum = 0_u64;
    for n in 0..events {
        let actor = engine.next_until(Time::NEVER).expect("actors never end");
        sum = sum.wrapping_add(actor);
        engine.after(delays.get((n % 4_096) as usize).copied().unwrap_or_default(), actor);
    }
    let seconds = began.elapsed().as_secs_f64();
    std::hint::black_box(sum);
    events as f64 / seconds
}

fn scenario(relays: u32, nodes: u32, every: &str, duration: &str) -> Scenario {
    let mut text = format!("[sim]\nduration = \"{duration}\"\n[workload]\narrive = \"10 s\"\nevery = \"{every}\"\n");
    for relay in 0..relays {
        let share = nodes / relays + u32::from(relay < nodes % relays);
        text += &format!(
            "[[relay]]\ndomain = \"r{relay}.example\"\n[[population]]\nrelay = \"r{relay}.example\"\ncount = {share}\n"
        );
    }
    Scenario::read("bench", &text, &[]).expect("the bench writes what the simulator reads")
}

/// S1: events a second with 10,000 nodes, once everybody knows the next.
fn s1() {
    let scenario = scenario(10, 10_000, "10 s", "10 min");
    let began = Instant::now();
    let mut world = World::from_scenario(&scenario, Seed::from(1)).expect("a world");
    world.run_for(Duration::from_secs(40));
    let warm = began.elapsed().as_secs_f64();
    let (before, began) = (world.events(), Instant::now());
    world.run_for(Duration::from_secs(30));
    let rate = (world.events() - before) as f64 / began.elapsed().as_secs_f64();
    let floor = bare_wheel(10_000, 5_000_000);
    println!(
        "S1  10,000 nodes: {rate:.0} events/s (budget >= 1,000,000); bare wheel {floor:.0} events/s; {:.1}x the floor's \
         time an event; {warm:.1} s to make the world and let everybody meet",
        floor / rate
    );
}

/// S3: the scenario of every change: 200 nodes, one virtual hour.
fn s3() {
    let town = include_str!("../scenarios/town.toml");
    let scenario = Scenario::read("town", town, &[]).expect("the shipped scenario reads");
    let began = Instant::now();
    let mut world = World::from_scenario(&scenario, Seed::from(1)).expect("a world");
    world.run_scenario(scenario.sim.duration.0, scenario.sim.settle.0);
    let (verdict, account) = world.close();
    let seconds = began.elapsed().as_secs_f64();
    let floor = account.events as f64 / bare_wheel(200, 5_000_000);
    println!(
        "S3  200 nodes, one hour: {seconds:.2} s (budget <= 5 s), {} events, {} shown, {} violations; the same events on \
         the bare wheel {floor:.2} s; ratio {:.1}",
        account.events,
        verdict.shown,
        verdict.violations,
        seconds / floor
    );
}

/// S4: cluster-hours a core-hour, with real cryptography and faults.
fn s4() {
    let orders = Orders { hours: 4.0, seed: 1, crypto: Crypto::Real, broken_max: 1, sample: false };
    let sum = soak(orders, |_, _, _| ()).expect("the soak reads what it writes");
    let floor = sum.events as f64 / bare_wheel(40, 5_000_000) / 3_600.0;
    println!(
        "S4  soak, real cryptography: {:.0} cluster-hours a core-hour (budget >= 500), {:.0} events/s, {} violations; \
         the same events on the bare wheel {:.5} core-hours of {:.5}; ratio {:.1}",
        sum.cluster_hours_per_core_hour,
        sum.events_per_core_s,
        sum.violations,
        floor,
        sum.core_hours,
        sum.core_hours / floor
    );
}

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (name, bench) in [("S1", s1 as fn()), ("S3", s3), ("S4", s4)] {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            bench();
        }
    }
}
