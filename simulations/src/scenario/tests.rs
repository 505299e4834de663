use super::*;

const FILE: &str = r#"[sim]
duration = "1 min"

[[relay]]
domain = "a.example"

[[relay]]
domain = "b.example"

[[population]]
relay = "a.example"
count = 3
access = ["5 ms", "30 ms"]

[[fault]]
kind = "crash"
at = "30 s"
target = "b.example"
lasts = "2 s"
"#;

fn read(text: &str, sets: &[&str]) -> Result<Scenario, String> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    Scenario::read("test.toml", text, &sets).map_err(|error| error.to_string())
}

fn refused(from: &str, to: &str) -> String {
    assert!(FILE.contains(from));
    read(&FILE.replacen(from, to, 1), &[]).unwrap_err()
}

#[test]
fn a_scenario_is_read_and_its_effective_form_reads_back() {
    let scenario = read(FILE, &[]).unwrap();
    assert_eq!(scenario.nodes(), 3);
    assert_eq!(read(&toml::to_string(&scenario).unwrap(), &[]).unwrap(), scenario);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = refused("count = 3", "count = 3\ncuont = 4");
    assert!(error.starts_with("test.toml, line 13: unknown field `cuont`"), "{error}");
    let error = refused("lasts = \"2 s\"", "lasts = \"2 s\"\ntimes = 3");
    assert!(error.starts_with("test.toml, line 15: ") && error.contains("no use for `times`"), "{error}");
}

#[test]
fn a_value_that_cannot_be_is_refused_with_its_line() {
    for (from, to, line, what) in [
        ("\"1 min\"", "60", 2, "a length of time in quotes"),
        ("\"1 min\"", "\"60\"", 2, "the unit of"),
        ("[\"5 ms\", \"30 ms\"]", "[\"30 ms\", \"5 ms\"]", 13, "the shorter"),
        ("target = \"b.example\"", "target = \"c.example\"", 18, "fault.0.target: no such processes"),
        ("at = \"30 s\"", "at = \"61 s\"", 17, "fault.0.at: after the end"),
        ("domain = \"b.example\"", "domain = \"a.example\"", 8, "relay.1.domain: another relay"),
        ("count = 3", "count = 0", 12, "population.0.count"),
        ("relay = \"a.example\"", "relay = \"A.example\"", 11, "a domain has dot-separated labels"),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with(&format!("test.toml, line {line}: ")) && error.contains(what), "{error}");
    }
}

#[test]
fn overrides_reach_every_depth_and_need_no_inner_quotes() {
    let scenario = read(FILE, &["sim.duration=5 min", "population.0.count = 7", "network.loss=\"1 %\""]).unwrap();
    assert_eq!(scenario.sim.duration.0.as_secs(), 300);
    let sooner = read(FILE, &["sim.duration=10 s", "fault.0.at=5 s"]).unwrap();
    assert_eq!(sooner, read(FILE, &["fault.0.at=5 s", "sim.duration=10 s"]).unwrap());
    assert_eq!(scenario.nodes(), 7);
    assert!((scenario.network.loss.0 - 0.01).abs() < 1e-9);
}

#[test]
fn a_wrong_override_is_refused_by_its_key() {
    for (set, error) in [
        ("sim.duraton=5 min", "--set sim.duraton: unknown field `duraton`"),
        ("population.3.count=1", "--set population.3.count: 3: expected a number below 1"),
        ("sim.duration.x=1", "--set sim.duration.x: duration has no keys below it"),
        ("sim.duration", "--set sim.duration: expected KEY=VALUE"),
        ("sim.duration=10 s", "--set sim.duration: fault.0.at: after the end"),
        ("population.0.relay=c.example", "--set population.0.relay: population.0.relay: no relay serves"),
    ] {
        let found = read(FILE, &[set]).unwrap_err();
        assert!(found.starts_with(error), "{set}: {found}");
    }
}
