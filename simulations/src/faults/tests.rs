use super::*;
use crate::engine::Seed;

fn shape() -> Shape {
    let relays = ["a.example", "b.example", "c.example"].iter().map(|domain| domain.parse().unwrap()).collect();
    let homes = (0..30).map(|node| node % 3).collect();
    Shape { relays, nodes: 30, homes, duration: Duration::from_secs(3_600) }
}

#[test]
fn a_drawn_plan_repeats_and_reads_back_from_its_scenario_form() {
    let plan = draw(Seed::from(7), &Profile::storm(), &shape());
    assert_eq!(plan, draw(Seed::from(7), &Profile::storm(), &shape()));
    assert_ne!(plan, draw(Seed::from(8), &Profile::storm(), &shape()));
    assert!(plan.faults.len() > 200 && plan.faults.is_sorted_by_key(|fault| fault.at));
    let text = toml::to_string(&plan).unwrap();
    assert!(text.starts_with("[[fault]]"), "{text}");
    assert_eq!(toml::from_str::<Plan>(&text).unwrap(), plan);
    let end = shape().duration;
    assert!(plan.faults.iter().all(|fault| fault.at + fault.lasts <= end), "mended within the safety phase");
}

#[test]
fn every_plan_that_is_drawn_reads_back() {
    // So many that the rare ones are among them, like a clock that would be right.
    let profile = Profile { clocks: 2_000.0, hostile_members: 500.0, ..Profile::quiet() };
    for seed in 0..20 {
        let plan = draw(Seed::from(seed), &profile, &shape());
        let read = toml::from_str::<Plan>(&toml::to_string(&plan).unwrap());
        assert_eq!(read.unwrap(), plan, "seed {seed}");
    }
}

#[test]
fn an_hour_of_storm_has_every_kind() {
    let plan = draw(Seed::from(1), &Profile::storm(), &shape());
    for kind in [
        "crash",
        "restart",
        "partition",
        "offline",
        "flap",
        "slow-path",
        "break",
        "roam",
        "slow-disk",
        "stall-disk",
        "full-disk",
        "fail-sync",
        "clock",
        "hostile-relay",
        "hostile-member",
    ] {
        assert!(plan.faults.iter().any(|fault| fault.kind.name() == kind), "no {kind}");
    }
}

#[test]
fn more_of_one_kind_leaves_the_others_as_they_are() {
    let few = draw(Seed::from(1), &Profile::storm(), &shape());
    let many = draw(Seed::from(1), &Profile { clocks: 100.0, ..Profile::storm() }, &shape());
    let others = |plan: Plan| plan.faults.into_iter().filter(|fault| fault.kind.name() != "clock").collect::<Vec<_>>();
    assert_eq!(others(few), others(many));
}

#[test]
fn a_key_that_its_kind_does_not_use_is_refused() {
    let refused =
        |keys: &str| toml::from_str::<Plan>(&format!("[[fault]]\nat = '1 s'\n{keys}")).unwrap_err().to_string();
    for (keys, why) in [
        ("kind = 'crash'\nlasts = '1 s'\ntarget = 'a.example'\ntimes = 3", "no use for `times`"),
        ("kind = 'crash'\ntarget = 'a.example'", "needs the key `lasts`"),
        ("kind = 'heal'\nlasts = '1 s'", "no use for `lasts`"),
        ("kind = 'crush'\nlasts = '1 s'", "no kind of fault"),
        ("kind = 'crash'\nlasts = '1 s'\ntarget = 'node x'", "names no node"),
        ("kind = 'crash'\nlasts = '1 s'\ntarget = 'a.example'\npoint = 'applied'", "applied N"),
        ("kind = 'hostile-relay'\nlasts = '1 s'\ntarget = 'node 1'\ntrick = 'drop'", "by its domain"),
        ("kind = 'hostile-relay'\nlasts = '1 s'\ntarget = 'a.example'\ntrick = 'lie'", "is none of drop"),
        ("kind = 'hostile-relay'\nlasts = '1 s'\ntarget = 'a.example'\ntrick = 'stale-commit'", "is none of drop"),
        ("kind = 'hostile-member'\nlasts = '1 s'\ntarget = 'node 1'\ntrick = 'two-orders'", "is none of replay"),
        ("kind = 'hostile-member'\nlasts = '1 s'\ntarget = 'node 1'\ntrick = 'foreign-removals'", "foreign-removal"),
        (
            "kind = 'hostile-member'\nlasts = '1 s'\ntarget = 'node 1'\ntrick = 'corrupt-commit'\nkeep = 'torn'",
            "`keep`",
        ),
        ("kind = 'crash'\nlasts = '1 s'\ntarget = 'node 1'\npoint = 'polled 2'", "`polled N` is for relays"),
        ("kind = 'break'\ntarget = 'node 1'\npoint = 'polled 2'", "`polled N` is for relays"),
        ("kind = 'crash'\nlasts = '0 s'\ntarget = 'a.example'", "lasts no time"),
        ("kind = 'slow-disk'\nlasts = '1 s'\ntarget = 'a.example'\ntimes = 0", "two `times`"),
        ("kind = 'slow-disk'\nlasts = '1 s'\ntarget = 'a.example'\ntimes = 1", "two `times`"),
        ("kind = 'clock'\nlasts = '1 s'\ntarget = 'a.example'", "this clock is right"),
        ("kind = 'clock'\nlasts = '1 s'\ntarget = 'a.example'\nahead = '0 s'\ndrift_ppm = 0", "this clock is right"),
        (
            "kind = 'hostile-member'\nlasts = '1 s'\ntarget = 'node 1'\ntrick = 'clocks'\nshare = 0.5",
            "no use for `share`",
        ),
        ("kind = 'crash'\nlasts = '1 s'\ntarget = 'a.example'\nuntil = '2 s'", "unknown field `until`"),
    ] {
        let error = refused(keys);
        assert!(error.contains(why), "{keys}: {error}");
    }
}

#[test]
fn paths_that_fail_are_paths_that_are_used() {
    let plan = draw(Seed::from(1), &Profile { partitions: 300.0, ..Profile::quiet() }, &shape());
    let (mut relays, mut homes, mut nodes) = (0, 0, 0);
    for fault in &plan.faults {
        let Kind::Partition { between, .. } = &fault.kind else { unreachable!("{fault:?}") };
        match between {
            [Target::Relay(one), Target::Relay(other)] => relays += u32::from(one != other),
            [Target::Node(one), Target::Node(other)] => nodes += u32::from(one != other),
            [Target::Relay(relay), Target::Node(node)] | [Target::Node(node), Target::Relay(relay)] => {
                assert_eq!(Some(relay), shape().relays.get(*node as usize % 3));
                homes += 1;
            }
            [Target::Second(_), _] | [_, Target::Second(_)] => unreachable!("{fault:?}"),
        }
    }
    assert_eq!((relays + homes + nodes) as usize, plan.faults.len());
    assert!(relays > 50 && homes > 30 && nodes > 20, "{relays} {homes} {nodes}");
}

#[test]
fn second_devices_come_and_go_while_relays_are_cut_off_and_are_struck_on_their_way() {
    let storm = draw(Seed::from(3), &Profile::storm(), &shape());
    let equipment = Equipment { share: 0.9, ring: 2, arrive: Duration::from_secs(20) };
    let mut plan = storm.clone();
    equip(Seed::from(3), &equipment, &shape(), &mut plan);
    let mut again = storm.clone();
    equip(Seed::from(3), &equipment, &shape(), &mut again);
    assert_eq!(plan, again);
    assert!(storm.faults.iter().all(|fault| plan.faults.contains(fault)), "the rest stays as it was");
    assert!(plan.faults.is_sorted_by_key(|fault| fault.at));
    assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
    let cut = |at: Duration| {
        let cuts = |fault: &&Fault| matches!(fault.kind, Kind::Partition { .. } | Kind::Offline { .. });
        storm.faults.iter().filter(cuts).any(|fault| fault.at <= at && at <= fault.at + fault.lasts)
    };
    let (mut added, mut apart, mut removed, mut struck) = (0, 0, 0, 0);
    for (n, fault) in plan.faults.iter().enumerate() {
        let before = |node: u32| {
            let mut before = plan.faults.iter().take(n);
            before.any(|fault| fault.kind == Kind::AddDevice { node })
        };
        match &fault.kind {
            Kind::AddDevice { node } => {
                assert!(!before(*node), "one each");
                added += 1;
                apart += u32::from(cut(fault.at));
            }
            Kind::RemoveDevice { node } => {
                assert!(before(*node));
                removed += 1;
            }
            kind => {
                let second = kind.targets().into_iter().find(|target| matches!(target, Target::Second(_)));
                if let Some(Target::Second(node)) = second {
                    assert!(before(node) && fault.at + fault.lasts <= shape().duration);
                    struck += 1;
                }
            }
        }
    }
    assert!(added > 20 && apart > added / 3 && removed > 3 && struck > 5, "{added} {apart} {removed} {struck}");
}

#[test]
fn a_node_is_watched_long_for_a_frame_that_leaves_too_early() {
    let plan = draw(Seed::from(1), &Profile { node_crashes: 1_000.0, ..Profile::quiet() }, &shape());
    let watch = |fault: &&Fault| matches!(fault.kind, Kind::Crash { point: Point::Left(_), .. });
    let watched: Vec<_> = plan.faults.iter().filter(watch).collect();
    let long = watched.iter().filter(|fault| fault.lasts > Duration::from_secs(60)).count();
    assert!(watched.len() > 100 && long > watched.len() / 2, "{long} of {}", watched.len());
    // Its disk is as quick as any: what shows is what left before its sync, not behind a slow one.
    assert!(plan.faults.iter().all(|fault| !matches!(fault.kind, Kind::SlowDisk { .. })));
}
